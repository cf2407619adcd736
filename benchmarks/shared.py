"""What a crawl of many workers costs its Redis: a simulation of up to ten million URLs.

    python -m benchmarks.shared                  # to 100,000 URLs: some seconds
    python -m benchmarks.shared --long --write   # to 10,000,000: half an hour, 4 GB of memory

The real `RedisFrontier`, the real scripts, a real redis-server that appends all to its log; only
the pages are made up. Hosts are as large as in the web: the n-th largest has 1/n of the first one's
pages. A page has ten links, half of them new (`--links`, `--new`): the others are any that were
seen before, however long ago, so that the server must be asked of nearly all. Workers take turns in
one process, groups of 100 pages each; every host rests after each page, and goes back with its
state; one worker leads and lets go of what all of them put out. Time is made up, too: `RATE` pages
a second.

Of each size: what was taken since the one before, by the median of windows of 1,000 pages.
Processor time of the server is its main thread's; that of the client includes the leader's part.
An operation is a request handed out, one settled, or a link looked up.

*Share*: of the pages of all hosts that had work all the time since the number of URLs last doubled,
the share of the one that got the fewest, 1 being as much as everybody; *wait*: how long a host that
was due had to wait for its turn, at most, over the time in which every host that has work can have
one page.

Then what things weigh: the server's memory before and after so many of each were stored.

Fails when a page takes the server more than 60 µs, or 1.5 times what it did at the smallest size
that is measured, when a seen URL weighs more than 16 bytes, or when a host is passed over.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import sys
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from statistics import median

import redis

from benchmarks.report import where, write
from scraper.frontier.redis import RedisFrontier
from scraper.http import Request
from scraper.protocols import FrontierContext
from scraper.work import Batch, Dead, Done, Found, HostLease, HostReturn, Settled, Verdict, Want
from tests.servers.redis import Redis, program

SMALL = [10_000, 100_000]
LONG = [10_000, 100_000, 1_000_000, 10_000_000]
WEIGHED = {False: 20_000, True: 500_000}
SERVER, GROWTH, SEEN, SHARE, WAIT = 60e-6, 1.5, 16, 0.5, 1.5
"""What is promised."""
FULL, FAIR = 1_000_000, 100_000
"""URLs from which on a seen one is weighed, and hosts have had so many turns that they compare."""

RATE, DELAY = 10_000, 0.2
"""Pages a second that the crew makes, in its own time, and seconds that a host rests."""
OWN = 0.8
"""Share of the new links that lead to the page's own host, while that has more."""
WINDOW, KEPT = 1_000, 200
SEEDS = 2_000
LOG = 4 << 30
"""Bytes of the server's log from which on it is written anew, between two sizes."""
URL = "https://www{}.example.com/catalogue/category/page-{}.html"
STATE = b'{"delay":0.2,"ceiling":8,"latency":[0.11,0.02],"quiet_until":0,"failures":0}'
ITEM = b"x" * 300
"""What a page puts out: an item of a URL, a title, a heading and a number, as `relay` wraps it."""


# The site -----------------------------------------------------------------------------------------


class Site:
    """URLs by number, each on the host that it was found to be on; and how much work hosts have.

    `work`: of each host, URLs that wait. *size*: of all hosts together, in URLs.
    """

    def __init__(self, hosts: int, size: int, seed: int = 7) -> None:
        self.hosts = hosts
        self.number = array("I")
        self.work = array("l", bytes(8 * hosts))
        self.active = 0
        self._dice = random.Random(seed)
        self._shares = list(itertools.accumulate(1 / (n + 1) for n in range(hosts)))
        self._left = array("l", (int(size / (n + 1) / self._shares[-1]) for n in range(hosts)))
        self._drawn: Iterator[int] = iter(())

    def __len__(self) -> int:
        return len(self.number)

    def new(self, page: int = -1) -> tuple[Found, int]:
        """A URL that nobody has seen, found on a page of that host; and its own host."""
        host = page
        if page < 0 or self._left[page] <= 0 or self._dice.random() > OWN:
            host = next(self._drawn, -1)
            if host < 0:
                many = self._dice.choices(range(self.hosts), cum_weights=self._shares, k=10_000)
                self._drawn = iter(many)
                host = next(self._drawn)
        self.number.append(host)
        self._left[host] -= 1
        self.active += not self.work[host]
        self.work[host] += 1
        return self._found(len(self.number) - 1), host

    def old(self) -> Found:
        """Any that was seen."""
        return self._found(int(self._dice.random() * len(self.number)))

    def taken(self, host: int, pages: int) -> None:
        """So many pages of *host* were handed out."""
        self.work[host] -= pages
        self.active -= not self.work[host]

    def _found(self, number: int) -> Found:
        url = URL.format(self.number[number], number)
        host = url[: url.index("/", 8)]
        digest = blake2b(b"%d" % number, digest_size=8).digest()
        return Found(Request.of(url, "parse_item"), host, int.from_bytes(digest), depth=3)


def number_of(host: str) -> int:
    """Of a host, by its name."""
    return int(host[len("https://www") : -len(".example.com")])


class Turns:
    """Whether every host gets its turn. `due`: from when on each could be handed out."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._due: dict[int, float] = {}
        self._rested = array("d", bytes(8 * site.hosts))
        self.renew()

    def renew(self) -> None:
        """Count from here on."""
        work = self._site.work
        self._always = {host for host in range(self._site.hosts) if work[host]}
        self._pages: Counter[int] = Counter()
        self.wait = 0.0

    def found(self, host: int, now: float) -> None:
        """There is work again for *host*."""
        self._due[host] = max(now, self._rested[host])

    def returned(self, host: int, now: float) -> None:
        """It was given back, and rests."""
        self._rested[host] = now + DELAY
        if self._site.work[host]:
            self._due[host] = now + DELAY

    def served(self, host: int, pages: int, now: float) -> None:
        """It has had its turn."""
        waited = now - self._due.pop(host, now)
        self.wait = max(self.wait, waited * RATE / max(self._site.active, 1))
        self._pages[host] += pages
        if not self._site.work[host]:
            self._always.discard(host)

    def share(self) -> tuple[float, float]:
        """The least of what a host got over what each should have; and Jain's index of them all."""
        pages = [self._pages[host] for host in self._always]
        total, squares = sum(pages), sum(n * n for n in pages)
        if not total:
            return 1.0, 1.0
        return min(pages) * len(pages) / total, total * total / (len(pages) * squares)


# The crew -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Taken:
    """What was taken, all told. Seconds of the server, of the client, and in waiting for both."""

    server: float = 0.0
    client: float = 0.0
    wall: float = 0.0
    log: int = 0
    pages: int = 0


@dataclass(slots=True)
class Worker:
    """One of them, and what it has been given."""

    frontier: RedisFrontier
    leases: list[HostLease] = field(default_factory=list)


class Crew:
    """Workers that take turns. `now`: their time."""

    def __init__(self, site: Site, client: redis.Redis, *, links: int, new: int) -> None:
        self.site = site
        self.turns = Turns(site)
        self.workers: list[Worker] = []
        self.now = 1_700_000_000.0
        self.pages = 0
        self.links, self.new = links, new
        self._client = client
        self._upto = ""
        self._used = self._waited = 0.0

    async def join(self, url: str, directory: Path, stack: AsyncExitStack) -> None:
        """One worker more. It is never taken for dead."""
        context = FrontierContext("simulated", "default", directory, lambda: self.now)
        frontier = RedisFrontier(url, context, lease=1e6, now=lambda: self.now)
        await frontier.open()
        stack.push_async_callback(frontier.aclose)
        self.workers.append(Worker(frontier))
        if len(self.workers) == 1:
            await frontier.begin({"job": b"{}", "phase": b"running"}, {})
            await frontier.lead()

    def taken(self) -> Taken:
        """All that was taken until now, as the server and the kernel say."""
        told = self._client.info("cpu") | self._client.info("persistence")
        server = told["used_cpu_user_main_thread"] + told["used_cpu_sys_main_thread"]
        return Taken(server, self._used, self._waited, told["aof_current_size"], self.pages)

    def memory(self) -> int:
        """Bytes that the server uses, without the buffers of its log."""
        found = self._client.info("memory")
        return int(found["used_memory"]) - int(found["mem_not_counted_for_evict"])

    def shrink(self) -> None:
        """Let a large log be written anew, at a time that is nobody's."""
        if self._client.info("persistence")["aof_current_size"] > LOG:
            self._client.bgrewriteaof()
            while self._client.info("persistence")["aof_rewrite_in_progress"]:
                time.sleep(0.5)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        used, began = time.process_time(), time.perf_counter()
        yield
        self._used += time.process_time() - used
        self._waited += time.perf_counter() - began

    async def seed(self, number: int, *, even: bool = False) -> None:
        """Begin with so many URLs, which are due at once. *even*: as many of each host."""
        for at in range(0, number, 1000):
            places = range(at, min(at + 1000, number))
            found = [self._new(place % self.site.hosts if even else -1) for place in places]
            await self.workers[0].frontier.commit(Batch(seeds=found))

    async def round(self, group: int, verdict: Verdict | None = None) -> int:
        """Each worker settles what it has, and gets more; the leader lets go of what came out.

        Returns how many pages were settled."""
        before = self.pages
        for worker in self.workers:
            await self._turn(worker, group, verdict or Done())
        leader, pages = self.workers[0].frontier, self.pages - before
        with self._timed():
            while pages > 0 and (entries := await leader.entries(self._upto, 4 << 20)):
                self._upto = entries[-1][0]
                position = Batch(positions={"out.jsonl": {"bytes": len(ITEM) * self.pages}})
                await leader.deliver(position, self._upto)
                pages -= len(entries)
        return self.pages - before

    async def _turn(self, worker: Worker, group: int, verdict: Verdict) -> None:
        site, now, batch = self.site, self.now, Batch(want=Want(group))
        for given in worker.leases:
            host = number_of(given.host)
            for lease in given.requests:
                batch.settled.append(Settled(lease, verdict, self._links(host)))
            batch.returned.append(HostReturn(given.host, STATE, now + DELAY))
            self.turns.returned(host, now)
        pages = len(batch.settled)
        batch.output = [ITEM] * pages
        batch.counts.update(pages=pages, items=pages, bytes=10_000 * pages, requests=pages)
        with self._timed():
            worker.leases = (await worker.frontier.commit(batch)).leases
        for given in worker.leases:
            host = number_of(given.host)
            site.taken(host, len(given.requests))
            self.turns.served(host, len(given.requests), now)
        self.pages += pages
        self.now = now + (pages / RATE if pages else DELAY / len(self.workers))

    def _links(self, host: int) -> list[Found]:
        """What a page of *host* links to."""
        found = [self._new(host) for _ in range(self.new)]
        return found + [self.site.old() for _ in range(self.links - self.new)]

    def _new(self, page: int = -1) -> Found:
        found, host = self.site.new(page)
        if self.site.work[host] == 1:
            self.turns.found(host, self.now)
        return found


# What is measured ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """What a page took until so many URLs were seen. `memory`: of the server, in bytes, in all."""

    seen: int
    pending: int
    server: float
    client: float
    wall: float
    log: float
    memory: int
    share: float
    jain: float
    wait: float


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of the server's memory that one of each takes."""

    pending: float
    host: float
    failure: float


@asynccontextmanager
async def crew_of(site: Site, server: Redis, given: argparse.Namespace) -> AsyncIterator[Crew]:
    """Workers of a crawl that begins, on a server that is empty."""
    with server.client() as client, tempfile.TemporaryDirectory() as directory:
        client.flushall()
        crew = Crew(site, client, links=given.links, new=given.new)
        async with AsyncExitStack() as stack:
            for _ in range(given.workers):
                await crew.join(server.url(), Path(directory), stack)
            yield crew


async def grow(server: Redis, sizes: list[int], given: argparse.Namespace) -> list[Row]:
    """Crawl until so many URLs were seen."""
    rows = []
    site = Site(given.hosts, sizes[-1])
    async with crew_of(site, server, given) as crew:
        empty = crew.memory()
        await crew.seed(min(SEEDS, sizes[0] // 5))
        for size in sizes:
            windows, renewed = [crew.taken()], len(site)
            while len(site) < size:
                await crew.round(given.group)
                if crew.pages >= windows[-1].pages + WINDOW:
                    windows.append(crew.taken())
                if renewed * 2 <= len(site) <= size // 2:
                    renewed = len(site)
                    crew.turns.renew()
            share, jain = crew.turns.share()
            row = Row(
                seen=len(site),
                pending=crew.workers[0].frontier.pending,
                server=a_page(windows, "server"),
                client=a_page(windows, "client"),
                wall=a_page(windows, "wall"),
                log=a_page(windows, "log"),
                memory=crew.memory() - empty,
                share=share,
                jain=jain,
                wait=crew.turns.wait,
            )
            rows.append(row)
            print(f"{size:,} seen", file=sys.stderr)
            crew.shrink()
    return rows


def a_page(windows: list[Taken], name: str) -> float:
    """What a page took of it, in the last windows: their median."""
    return median(
        (getattr(after, name) - getattr(before, name)) / (after.pages - before.pages)
        for before, after in itertools.pairwise(windows[-KEPT:])
    )


async def weigh(server: Redis, number: int, given: argparse.Namespace) -> Weights:
    """Store *number* URLs, on few hosts and on as many, and let them end well and badly."""
    given = argparse.Namespace(**{**vars(given), "links": 0, "new": 0})

    async def weighed(hosts: int, verdict: Verdict) -> tuple[float, float]:
        """What a URL takes while it waits and after it: bytes."""
        async with crew_of(Site(hosts, number), server, given) as crew:
            empty = crew.memory()
            await crew.seed(number, even=True)
            full = crew.memory()
            while crew.workers[0].frontier.pending:
                await crew.round(given.group, verdict)
            left = crew.memory()
        return (full - left) / number, (left - empty) / number

    pending, seen = await weighed(1_000, Done())
    _, host = await weighed(number, Done())
    _, failed = await weighed(1_000, Dead("http_404"))
    return Weights(pending, host - seen, failed - seen)


def table(rows: list[Row], weights: Weights, links: int) -> tuple[str, list[str]]:
    """What was found, as Markdown; and what is not as promised."""
    lines = [
        (
            "| seen | waiting | pages/s | operations/s | Redis' CPU a page, µs | client's, µs"
            " | log, KB a page | memory, MB | bytes a seen URL | share | Jain | wait |"
        ),
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    wrong = []
    for row in rows:
        seen = (row.memory - row.pending * weights.pending) / row.seen
        pages = 1 / row.wall
        lines.append(
            f"| {row.seen:,} | {row.pending:,} | {pages:,.0f} | {(2 + links) * pages:,.0f}"
            f" | {row.server * 1e6:.0f} | {row.client * 1e6:.0f} | {row.log / 1024:.1f}"
            f" | {row.memory / 1e6:,.0f} | {seen:.1f} | {row.share:.2f} | {row.jain:.3f}"
            f" | {row.wait:.2f} |"
        )
        if links <= 10 and row.server > SERVER:
            wrong.append(f"{row.server * 1e6:.0f} µs of Redis a page with {row.seen:,} seen")
        if row.seen >= FULL and seen > SEEN:
            wrong.append(f"{seen:.1f} bytes a URL with {row.seen:,} seen")
        if row.seen >= FAIR and (row.share < SHARE or row.wait > WAIT):
            wrong.append(
                f"a host got {row.share:.2f} of its share, or waited {row.wait:.2f} rounds"
            )
    if rows[-1].server > GROWTH * rows[0].server:
        wrong.append(f"a page takes {rows[-1].server / rows[0].server:.2f} times what it did")
    text = (
        f"A URL of {len(URL.format(1_000, 1_000_000))} characters that waits, a GET without"
        f" options, takes {weights.pending:.0f} bytes besides; a host that was met"
        f" {weights.host:.0f}; a failure that is kept {weights.failure:.0f}."
    )
    return "\n".join([*lines, "", text]), wrong


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.shared", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--long", action="store_true", help="to ten million URLs")
    parser.add_argument("--seen", type=int, action="append", help="a size")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--hosts", type=int, default=20_000)
    parser.add_argument("--group", type=int, default=100, help="pages that settle together")
    parser.add_argument("--links", type=int, default=10, help="on a page")
    parser.add_argument("--new", type=int, default=5, help="of them")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    given = parser.parse_args()
    binary = program()
    if binary is None:
        sys.exit("redis-server is not installed")
    sizes = sorted(given.seen or (LONG if given.long else SMALL))
    # as users are told to have it; its log is written anew between two sizes only
    with Redis(binary, appendfsync="everysec", auto_aof_rewrite_percentage="0") as server:
        with server.client() as client:
            version = client.info("server")["redis_version"]
        weights = asyncio.run(weigh(server, WEIGHED[given.long], given))
        rows = asyncio.run(grow(server, sizes, given))
    text, wrong = table(rows, weights, given.links)
    text += f"\n\nRedis {version}, {given.workers} workers, {given.hosts:,} hosts. {where()}"
    print(text)
    if given.write:
        write("shared", text, "python -m benchmarks.shared")
    if wrong:
        sys.exit("; ".join(wrong))


if __name__ == "__main__":
    main()
