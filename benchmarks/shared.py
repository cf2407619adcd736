"""What a crawl of many workers costs its Redis: a simulation of up to ten million URLs.

    python -m benchmarks.shared                  # to 100,000 URLs: some seconds
    python -m benchmarks.shared --long --write   # to 10,000,000: half an hour, 4 GB of memory

The real `RedisFrontier`, the real scripts, a real redis-server that appends all to its log; only
the pages are made up. Hosts are as large as in the web: the n-th largest has 1/n of the first one's
pages. A page has ten links, half of them new (`--links`, `--new`): the others are any that were
seen before, however long ago, so that the server must be asked of nearly all. Four workers in one
process commit groups of 100 pages each at the same time; every host rests after each page, and goes
back with its state; one worker leads and lets go of what all of them put out. Time is made up, too:
`RATE` pages a second.

Of each size: what was taken by the pages since the one before, on which the last half a million
URLs were found; what lacks until then is put in as start requests are. Costs are of windows of
1,000 pages: the best tenth of the last 200, for the machine is shared, and their median. Processor
time of the server is its main thread's; that of the client includes the leader's part, and not the
making of pages. An operation is a request handed out, one settled, or a link looked up.

*Share*: of the pages of all hosts that had work all that time, the share of the one that got the
fewest, 1 being as much as everybody; *wait*: how long a host that was due had to wait for its turn,
at most, over the time in which every host that has work can have one page.

Then what things weigh: the server's memory before and after so many of each were stored.

Fails when a page takes the server more than 60 µs, or 1.5 times what it did at the smallest size
that is measured, when a seen URL weighs more than 16 bytes, or when a host is passed over.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import where, write
from benchmarks.simulated import URL, Crew, Site, Taken
from scraper.work import Dead, Done, Verdict
from tests.servers.redis import Redis, program

SMALL = [10_000, 100_000]
LONG = [10_000, 100_000, 1_000_000, 10_000_000]
WEIGHED = {False: 20_000, True: 100_000}
SERVER, GROWTH, SEEN, SHARE, WAIT = 60e-6, 1.5, 16, 0.5, 1.5
"""What is promised."""
FULL = 1_000_000
"""URLs from which on a seen one is weighed, and hosts are so many, and had so many turns, that they
compare."""

WINDOW, KEPT = 1_000, 200
SEEDS, CRAWLED = 2_000, 500_000
"""URLs with which a crawl begins, and that are found on pages before each size; what lacks until
then is put in as if `start()` had brought it."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a page took until so many URLs were seen. `memory`: of the server, in bytes, in all;
    `fingerprints`: those of it that say what was seen."""

    seen: int
    pending: int
    server: tuple[float, float]
    client: tuple[float, float]
    wall: tuple[float, float]
    log: tuple[float, float]
    memory: int
    fingerprints: float
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
            await crew.seed(max(size - CRAWLED - len(site), 0))
            crew.turns.renew()
            windows = [crew.taken()]
            while len(site) < size:
                await crew.round(given.group)
                if crew.pages >= windows[-1].pages + WINDOW:
                    windows.append(crew.taken())
            share, jain = crew.turns.share()
            row = Row(
                seen=len(site),
                pending=crew.workers[0].frontier.pending,
                server=a_page(windows, "server"),
                client=a_page(windows, "client"),
                wall=a_page(windows, "wall"),
                log=a_page(windows, "log"),
                memory=crew.memory() - empty,
                fingerprints=crew.fingerprints(),
                share=share,
                jain=jain,
                wait=crew.turns.wait,
            )
            rows.append(row)
            print(f"{size:,} seen", file=sys.stderr)
            crew.shrink()
    return rows


def a_page(windows: list[Taken], name: str) -> tuple[float, float]:
    """What a page took of it in the last windows: the best tenth of them, and their median."""
    costs = sorted(
        (getattr(after, name) - getattr(before, name)) / (after.pages - before.pages)
        for before, after in itertools.pairwise(windows[-KEPT:])
    )
    return costs[len(costs) // 10], costs[len(costs) // 2]


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
            "| seen | waiting | pages/s | operations/s | Redis' CPU a page, µs | median"
            " | client's, µs | median | log, KB a page | memory, MB | bytes a seen URL"
            " | share | Jain | wait |"
        ),
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    wrong = []
    for row in rows:
        seen = row.fingerprints / row.seen
        pages = 1 / row.wall[0]
        redis, client = (
            [f"{cost * 1e6:.0f}" for cost in both] for both in (row.server, row.client)
        )
        lines.append(
            f"| {row.seen:,} | {row.pending:,} | {pages:,.0f} | {(2 + links) * pages:,.0f}"
            f" | {' | '.join(redis)} | {' | '.join(client)} | {row.log[1] / 1024:.1f}"
            f" | {row.memory / 1e6:,.0f} | {seen:.1f} | {row.share:.2f} | {row.jain:.3f}"
            f" | {row.wait:.2f} |"
        )
        if links <= 10 and row.server[0] > SERVER:
            wrong.append(f"{row.server[0] * 1e6:.0f} µs of Redis a page with {row.seen:,} seen")
        if row.seen >= FULL and seen > SEEN:
            wrong.append(f"{seen:.1f} bytes a URL with {row.seen:,} seen")
        if row.seen >= FULL and (row.share < SHARE or row.wait > WAIT):
            wrong.append(
                f"a host got {row.share:.2f} of its share, or waited {row.wait:.2f} rounds"
            )
    if rows[-1].server[0] > GROWTH * rows[0].server[0]:
        wrong.append(f"a page takes {rows[-1].server[0] / rows[0].server[0]:.2f} times what it did")
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
