"""How fast the frontiers are, what they write and what they weigh.

    python -m benchmarks.frontier pace  [--seen N] [--pages N] [--hosts N] [--memory]
    python -m benchmarks.frontier queue [--pending N] [--hosts N]

`pace`: pages a second of "lease one, settle one, check ten links of which half are new", in groups
of 100 pages, with N fingerprints already seen; and kilobytes written per page, as the kernel counts
them. `queue`: memory, and seconds to reopen, with N requests pending; and the time of a commit
when the queue is short and when it is long. Each runs in a process of its own, for its memory.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import sys
import tempfile
import time
from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

from scraper.frontier.memory import MemoryFrontier
from scraper.frontier.sqlite import SqliteFrontier
from scraper.http import Request
from scraper.work import Batch, Done, Found, HostLease, HostReturn, Settled, Want

GROUP = 100
STATE = b'{"delay":0.2,"ceiling":8,"latency":[0.11,0.02],"quiet_until":0,"failures":0}'

Frontier = SqliteFrontier | MemoryFrontier


def link(number: int, hosts: int) -> Found:
    """The *number*th page of the site: always the same one."""
    host = f"https://www{number % hosts}.example.com"
    url = f"{host}/catalogue/some-category/page-{number}.html"
    digest = blake2b(url.encode(), digest_size=8).digest()
    return Found(Request.of(url, "parse_item"), host, int.from_bytes(digest, "big"), depth=3)


def resident() -> float:
    """Megabytes of memory in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def written() -> int:
    """Bytes that this process caused to be sent to storage."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def ended(leases: Iterable[HostLease]) -> list[HostReturn]:
    """Every host given back."""
    return [HostReturn(lease.host, STATE) for lease in leases]


class Walk:
    """Pages with ten links each: five to pages seen before, five to new ones."""

    def __init__(self, hosts: int, first: int) -> None:
        self.hosts = hosts
        self.next = first

    def links(self) -> list[Found]:
        """The next page's."""
        first, self.next = self.next, self.next + 5
        return [link(number, self.hosts) for number in range(first - 5, first + 5)]


async def grow(frontier: Frontier, pending: int, hosts: int, first: int = 0) -> None:
    """Commit *pending* requests."""
    for start in range(first, first + pending, 1000):
        found = [link(n, hosts) for n in range(start, min(start + 1000, first + pending))]
        await frontier.commit(Batch(seeds=found))


def remember(frontier: Frontier, seen: int) -> None:
    """Put *seen* fingerprints into the index, as loading them would."""
    numbers = (
        int.from_bytes(blake2b(b"%d" % n, digest_size=8).digest(), "big") for n in range(seen)
    )
    frontier._core.seen.load([array("Q", numbers)])


async def settle(frontier: Frontier, walk: Walk, pages: int) -> list[float]:
    """Crawl *pages* pages; seconds per commit. Links are made outside of the time taken."""
    leases = await frontier.acquire(Want(GROUP))
    taken: list[float] = []
    for _ in range(pages // GROUP):
        requests = [lease for host in leases for lease in host.requests]
        settled = [Settled(lease, Done(), walk.links()) for lease in requests]
        batch = Batch(settled=settled, returned=ended(leases), want=Want(GROUP))
        batch.counts.update(pages=len(settled), items=len(settled), bytes=10_000)
        batch.positions["file"] = walk.next
        began = time.perf_counter()
        leases = (await frontier.commit(batch)).leases
        taken.append(time.perf_counter() - began)
    return taken


def make(memory: bool, folder: str) -> Frontier:
    return MemoryFrontier() if memory else SqliteFrontier(Path(folder) / "ledger.sqlite")


async def pace(seen: int, pages: int, hosts: int, memory: bool, folder: str) -> None:
    """Print pages a second and kilobytes a page."""
    frontier = make(memory, folder)
    await frontier.open()
    remember(frontier, seen)
    await grow(frontier, 2000, hosts)
    before, cpu = written(), time.process_time()
    taken = await settle(frontier, Walk(hosts, 2000), pages)
    cpu = time.process_time() - cpu
    bytes_each = (written() - before) / pages
    await frontier.aclose()
    p99 = statistics.quantiles(taken, n=100)[98]
    print(
        f"{type(frontier).__name__:15} seen {seen:>10,}  hosts {hosts:>7,}"
        f"  {pages / sum(taken):>8,.0f} pages/s  {bytes_each / 1024:5.2f} KB/page"
        f"  p99 {p99 * 1e3:.1f} ms  CPU {cpu / pages * 1e6:.1f} µs/page with the making of links"
    )


async def queue(pending: int, hosts: int, memory: bool, folder: str) -> None:
    """Print memory, the pace with a short and a long queue, and the time to reopen."""
    start = resident()
    frontier = make(memory, folder)
    await frontier.open()
    await grow(frontier, 2000, hosts)
    short = await settle(frontier, Walk(hosts, 2000), 5000)
    await frontier.aclose()
    folder += "/2"
    frontier = make(memory, folder)
    await frontier.open()
    await grow(frontier, pending, hosts)
    full = resident()
    long = await settle(frontier, Walk(hosts, pending), 5000)
    await frontier.aclose()
    del frontier
    reopened = 0.0
    if not memory:
        again = make(memory, folder)
        began = time.perf_counter()
        recovery = await again.open()
        reopened = time.perf_counter() - began
        assert recovery.pending == pending + 4 * 5000
        await again.aclose()
    print(
        f"pending {pending:>9,}  hosts {hosts:>7,}  {start:.0f} MB at first, {full:.0f} MB full,"
        f" {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB peak"
        f"  commit {statistics.median(short) * 1e3:.2f} ms short,"
        f" {statistics.median(long) * 1e3:.2f} ms long  reopen {reopened:.2f} s"
    )


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("what", choices=["pace", "queue"])
    parser.add_argument("--seen", type=int, default=200_000)
    parser.add_argument("--pages", type=int, default=50_000)
    parser.add_argument("--pending", type=int, default=1_000_000)
    parser.add_argument("--hosts", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="the frontier in memory")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "pace":
            asyncio.run(pace(given.seen, given.pages, given.hosts, given.memory, folder))
        else:
            asyncio.run(queue(given.pending, given.hosts, given.memory, folder))


if __name__ == "__main__":
    main(sys.argv[1:])
