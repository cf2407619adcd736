"""What a worker on Redis costs beside a process with SQLite, and what a second worker brings.

    python -m benchmarks.workers [--hosts N] [--pages N] [--rounds N] [--write]

Whole crawls by real processes, `scrape run` each, of the same spider over the same site: many hosts
of 127.0.0.0/8 with a small shop each, served by nginx; all links followed, an item a page, no
delay. By turns, round by round: one process with SQLite, one worker on Redis, two workers on Redis.
Processor time is that of the crawl's own processes, whoever leads among them; that of Redis and of
nginx stands beside it. What it takes to start and to end, as a crawl of one page does, is measured
in the same rounds and taken off, so that a page's cost is told. The items must be the same set.

Where two workers, Redis and nginx share two cores, two workers can hardly be quicker than one, so
the pace is measured on a site that is slow: each answer takes `LATENCY` seconds, and a worker has
`SLOW_CONCURRENCY` requests in flight, so that the processes are idle most of the time.

Fails when a page costs a worker more than 1.3 times what it costs with SQLite, when it costs two
workers more than 1.1 times what it costs one, or when two are not 1.7 times as quick on the slow
site.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import ClassVar

import redis

from benchmarks.report import where, write
from benchmarks.shop import cpu_of, serving, write_shop
from tests.servers.redis import Redis, program

ROOT = Path(__file__).resolve().parents[1]

COST, SECOND, PACE = 1.3, 1.1, 1.7
"""What is promised."""
LATENCY, SLOW_CONCURRENCY = 0.1, 8
SLOW_HOSTS, SLOW_PAGES = 40, 50

SPIDER = """
from pathlib import Path

from scraper import Output, Request, Response, Spider

class Shops(Spider):
    name = "shops"
    starts: str

    async def start(self):
        for url in Path(self.starts).read_text().split():
            yield Request(url)

    async def parse(self, response: Response) -> Output:
        for link in response.links():
            yield response.follow(link)
        title, head = response.css("title"), response.css("h1")
        yield {
            "url": response.url,
            "title": " ".join(title[0].text.split()) if title else None,
            "h1": " ".join(head[0].text.split()) if head else None,
            "links": len(response.css("a[href]")),
        }
"""

CONFIG = """
[project]
spiders = "spiders"

[crawl]
max_depth = 0

[politeness.hosts."127.*"]
delay = 0
per_host = 32
adaptive = false

[log]
level = "WARNING"
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One crawl. Seconds of CPU: of its processes, of Redis, of the site's server; and in all."""

    pages: int
    digest: str
    cpu: float
    redis: float
    served: float
    wall: float


@dataclass(frozen=True, slots=True)
class Place:
    """What is crawled, by whom. *process*: the site's server."""

    directory: Path
    starts: Sequence[str]
    process: int
    server: Redis

    def crawl(self, workers: int, *more: str, shared: bool = True) -> Outcome:
        """One crawl by so many processes; *shared*: on Redis."""
        with (
            tempfile.TemporaryDirectory(dir=self.directory) as name,
            self.server.client() as client,
        ):
            root = Path(name)
            (root / "spiders").mkdir()
            (root / "spiders" / "shops.py").write_text(SPIDER)
            (root / "config.toml").write_text(CONFIG)
            (root / "starts.txt").write_text("\n".join(self.starts))
            client.flushall()
            url = self.server.url() if shared else "sqlite"
            command = [
                sys.executable, "-c", "from scraper.cli import main; main()",
                "run", "shops", "-a", f"starts={root / 'starts.txt'}", "-o", "out.jsonl", "-q",
                "-s", f"frontier.url={url}", *more,
            ]  # fmt: skip
            environ = {**os.environ, "PYTHONPATH": str(ROOT)}
            before, served, began = taken(client), cpu_of(self.process) or 0, time.monotonic()
            processes = [
                subprocess.Popen(command, cwd=root, env=environ, stdout=subprocess.DEVNULL)
                for _ in range(workers)
            ]
            cpu = 0.0
            for process in processes:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                cpu += usage.ru_utime + usage.ru_stime
            wall = time.monotonic() - began
            if wrong := [p.returncode for p in processes if p.returncode != 0]:
                raise SystemExit(f"a crawl ended with {wrong[0]}")
            lines = sorted((root / "out.jsonl").read_text().splitlines())
            return Outcome(
                pages=len(lines),
                digest=hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12],
                cpu=cpu,
                redis=taken(client) - before,
                served=(cpu_of(self.process) or 0) - served,
                wall=wall,
            )


def taken(client: redis.Redis) -> float:
    """Seconds of CPU that the server has used."""
    told = client.info("cpu")
    return float(told["used_cpu_user"] + told["used_cpu_sys"])


# The sites ----------------------------------------------------------------------------------------


def addresses(count: int) -> list[str]:
    return [f"127.3.{n // 250}.{n % 250 + 1}" for n in range(count)]


@contextmanager
def shops(directory: Path, hosts: int, pages: int, server: Redis) -> Iterator[Place]:
    """A shop of about *pages* pages on each of *hosts* hosts."""
    write_shop(directory / "shop", pages)
    names = addresses(hosts)
    with serving(directory, directory / "shop", None, hosts=names) as (base, _, process):
        port = base.rpartition(":")[2]
        yield Place(directory, [f"http://{h}:{port}/index.html" for h in names], process, server)


@contextmanager
def slow(directory: Path, server: Redis) -> Iterator[Place]:
    """Hosts whose answers take their time."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.workers", "--serve"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        starts = [f"http://{host}:{port}/0" for host in addresses(SLOW_HOSTS)]
        yield Place(directory, starts, process.pid, server)
    finally:
        process.kill()
        process.wait()


class Slow(asyncio.Protocol):
    """Answers `LATENCY` seconds after it was asked; the front page links to all others.

    `/span`: the seconds between the first and the last page of a crawl, which ends with that.
    """

    asked: ClassVar[list[float]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while b"\r\n\r\n" in self._data:
            head, _, self._data = self._data.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            if path == "/span":
                self._send(200, str(self.asked[-1] - self.asked[0]))
                self.asked.clear()
            else:
                self.asked.append(time.monotonic())
                asyncio.get_running_loop().call_later(LATENCY, self._answer, path)

    def _answer(self, path: str) -> None:
        numbers = range(SLOW_PAGES) if path == "/0" else ()
        links = "".join(f'<a href="/{n}">{n}</a>' for n in numbers)
        self._send(404 if path == "/robots.txt" else 200, f"<title>{path}</title>{links}")

    def _send(self, status: int, body: str) -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: text/html\r\nContent-Length: {len(body)}"
        self._transport.write(f"{head}\r\n\r\n{body}".encode())


async def serve() -> None:
    """Until it is killed."""
    loop, port = asyncio.get_running_loop(), 0
    for host in addresses(SLOW_HOSTS):
        server = await loop.create_server(Slow, host, port, backlog=512)
        port = server.sockets[0].getsockname()[1]
    print(port, flush=True)
    await asyncio.Event().wait()


# What is measured ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Side:
    """Who crawls, and how that went, round by round. `starts`: crawls of one page."""

    name: str
    workers: int
    shared: bool
    rounds: list[Outcome] = field(default_factory=list)
    starts: list[Outcome] = field(default_factory=list)

    def costs(self) -> list[float]:
        """Seconds of CPU a page, of each round, without what it takes to start."""
        start = self.start()
        return [(one.cpu - start) / (one.pages - 1) for one in self.rounds]

    def start(self) -> float:
        return min(one.cpu for one in self.starts) * self.workers

    def best(self) -> Outcome:
        return min(self.rounds, key=lambda one: one.cpu)


def cost(place: Place, rounds: int) -> tuple[list[str], list[str]]:
    """What a page costs each side; and what is not as promised."""
    sides = [
        Side("SQLite, one process", 1, shared=False),
        Side("Redis, one worker", 1, shared=True),
        Side("Redis, two workers", 2, shared=True),
    ]
    for number in range(rounds):
        for side in sides:
            side.starts.append(place.crawl(1, "-s", "crawl.max_pages=1", shared=side.shared))
            side.rounds.append(place.crawl(side.workers, shared=side.shared))
            print(f"{number + 1}/{rounds} {side.name}: {side.rounds[-1]}", file=sys.stderr)
    if len(digests := {one.digest for side in sides for one in side.rounds}) > 1:
        raise SystemExit(f"not the same items: {digests}")
    alone, one, two = (min(side.costs()) for side in sides)
    lines = [
        f"{len(place.starts)} hosts, {sides[0].best().pages:,} pages of 1.6 KB, no delay:",
        "",
        (
            "| | CPU a page, µs | rounds | of SQLite's | to start, s | Redis' CPU a page, µs"
            " | nginx', µs | wall, s | cores used |"
        ),
        "|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for side, page in zip(sides, (alone, one, two), strict=True):
        best = side.best()
        told = " ".join(f"{each * 1e6:.0f}" for each in side.costs())
        lines.append(
            f"| {side.name} | {page * 1e6:.0f} | {told} | {page / alone:.2f}"
            f" | {side.start() / side.workers:.2f} | {best.redis / best.pages * 1e6:.0f}"
            f" | {best.served / best.pages * 1e6:.0f} | {best.wall:.1f}"
            f" | {(best.cpu + best.redis + best.served) / best.wall:.1f} |"
        )
    wrong = []
    if one > COST * alone:
        wrong.append(f"a page costs a worker {one / alone:.2f} times what it costs with SQLite")
    if two > SECOND * one:
        wrong.append(f"a page costs two workers {two / one:.2f} times what it costs one")
    return lines, wrong


def pace(place: Place, rounds: int) -> tuple[list[str], list[str]]:
    """How quick one worker and two are on a slow site; and what is not as promised."""
    speeds: dict[int, list[float]] = {1: [], 2: []}
    used: dict[int, Outcome] = {}
    for _ in range(rounds):
        for workers, found in speeds.items():
            used[workers] = place.crawl(workers, "-s", f"crawl.concurrency={SLOW_CONCURRENCY}")
            front = place.starts[0].removesuffix("0")
            with urllib.request.urlopen(f"{front}span") as answer:
                found.append(used[workers].pages / float(answer.read()))
            print(f"{workers}: {found[-1]:.1f} pages/s", file=sys.stderr)
    one, two = (median(found) for found in speeds.values())
    most = SLOW_CONCURRENCY / LATENCY
    lines = [
        (
            f"{SLOW_HOSTS} hosts of {SLOW_PAGES} pages that take {LATENCY} s each,"
            f" {SLOW_CONCURRENCY} requests in flight a worker:"
        ),
        "",
        "| workers | pages/s | rounds | of what latency allows | CPU, of one core |",
        "|---:|---:|---|---:|---:|",
    ]
    for workers, found in speeds.items():
        lines.append(
            f"| {workers} | {median(found):.1f} | {' '.join(f'{one:.1f}' for one in found)}"
            f" | {median(found) / (most * workers):.0%}"
            f" | {used[workers].cpu / used[workers].wall:.0%} |"
        )
    lines += ["", f"Two workers are {two / one:.2f} times as quick as one."]
    return lines, [f"two workers are {two / one:.2f} times as quick"] if two < PACE * one else []


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.workers", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--pages", type=int, default=200, help="of each host, about")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve())
        return
    binary = program()
    if binary is None:
        sys.exit("redis-server is not installed")
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        work = Path(name)
        server = stack.enter_context(Redis(binary, appendfsync="everysec"))
        with shops(work, given.hosts, given.pages, server) as place:
            lines, wrong = cost(place, given.rounds)
        with slow(work, server) as place:
            more, slower = pace(place, given.rounds)
    text = "\n".join([*lines, "", *more, "", where()])
    print(text)
    if given.write:
        write("workers", text, "python -m benchmarks.workers")
    if wrong + slower:
        sys.exit("; ".join(wrong + slower))


if __name__ == "__main__":
    main()
