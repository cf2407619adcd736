"""How long the event loop does nothing else, while a crawl of small pages meets something large.

    python -m benchmarks.latency [--only NAME]… [--rounds N] [--stall SECONDS] [--write]

A whole crawl without a network (`canned`), into which each case brings its own trouble, ten times.
A timer beats in the loop every two milliseconds. What counts is the longest stall between two
beats: the time that went by, or the processor time that all threads of the process took meanwhile,
if that is less, for on a shared machine a process may just not have been running. Each round is a
process of its own; the best one counts, and all are shown. The first row is of the crawl alone: the
noise. Beside it the longest pause of the garbage collector, and its share of the processor time.

`--stall`: tell what holds the loop for longer, by the crawl's own stall log.

Fails when a stall is longer than 50 ms, in a case that is none of the callback's own doing.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import gzip
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.canned import Endless, Walk, Watching, crawling, fill
from benchmarks.report import where, write
from scraper import Output, Request, Response
from scraper.api import loop_factory

ROOT = Path(__file__).resolve().parents[1]

LIMIT = 0.050
"""What is promised, in seconds."""
PERIOD = 0.002
EVERY, TIMES = 200, 10
"""Pages between one trouble and the next, and how many there are."""
ROW = b"<tr><td><b>A name</b><td>some text &amp; more<td>12.50\n"
ODD = "https://odd.example.com/trouble.html"


# What a crawl meets -----------------------------------------------------------------------------


class Troubled(Walk):
    """Meets trouble every so many pages: another page, a large item, or many of them."""

    url: ClassVar[str] = ""
    links: ClassVar[bool] = False
    item: ClassVar[int] = 0
    items: ClassVar[int] = 0
    slow: ClassVar[bool] = False
    seen: ClassVar[int] = 0

    async def parse(self, response: Response) -> Output:
        Troubled.seen += 1
        for link in response.links():
            yield response.follow(link)
        title = response.css("title")[0].text
        yield {"url": response.url, "title": title}
        if self.seen % EVERY == 0:
            if self.url:
                yield Request(self.url, self.trouble, unique=False, priority=1000)
            if self.item:
                yield {"url": response.url, "title": "x" * self.item}
            for n in range(self.items):
                yield {"url": response.url, "title": f"{title} {n}"}

    async def trouble(self, response: Response) -> Output:
        if self.links:
            for link in response.links():
                yield response.follow(link, self.parse)
        yield {"url": response.url, "title": response.css("title")[0].text}


class Slow:
    """A stage that waits for something else, a database say, with every item."""

    async def open(self, crawl: object) -> None: ...
    async def aclose(self) -> None: ...
    async def process(self, item: Any, page: object) -> Any:
        await asyncio.sleep(0.05)
        return item


def table(megabytes: int) -> bytes:
    """A page of rows."""
    return b"<title>large</title><table>" + ROW * (megabytes * 1_000_000 // len(ROW))


def linked(count: int) -> bytes:
    """A page of 5 MB that leads to *count* others."""
    text = b"<p>" + b"x" * (5_000_000 // count - 60)
    link = b'<a href="/other/%d/page-%d.html">%d</a>%b'
    return b"<title>links</title>" + b"".join(link % (n % 97, n, n, text) for n in range(count))


@dataclass(frozen=True, slots=True)
class Case:
    """What a crawl meets. `page`: its body. `coded`: it comes as gzip, through a socket.
    `pending`: how many pages wait. `spider`: what the spider does. `own`: it is a callback that
    computes, on the loop, what was asked of the page: nothing can be done about it here."""

    name: str
    page: Callable[[], bytes] | None = None
    coded: bool = False
    pending: int = 1_000
    spider: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    own: bool = False


LINKS = {"links": True}
MANY = 1_000_000
CASES = (
    Case("nothing"),
    Case("a page of 5 MB", partial(table, 5)),
    Case("a page of 20 MB", partial(table, 20), own=True),  # a query over it takes 15 ms
    Case("a page of 20 MB, as gzip", partial(table, 20), coded=True, own=True),
    Case("a page with 2,000 links", partial(linked, 2_000), spider=LINKS),
    Case("a page with 10,000 links", partial(linked, 10_000), spider=LINKS),
    Case(
        "a page with 50,000 links",
        partial(linked, 50_000),
        spider=LINKS,
        settings={"crawl.max_links_per_page": 50_000},
        own=True,
    ),
    Case(
        "an item of 10 MB",
        spider={"item": 10_000_000},
        settings={"crawl.max_item_size": 20_000_000},
    ),
    Case("a page with 10,000 items", spider={"items": 9_999}),
    Case(
        "a stage that awaits",
        settings={"pipelines": [{"use": "benchmarks.latency:Slow"}]},
    ),
    Case("1,000,000 pending", pending=MANY),
    Case(
        "1,000,000 pending, a page with 10,000 links",
        partial(linked, 10_000),
        pending=MANY,
        spider=LINKS,
    ),
)


@contextmanager
def serving(body: bytes) -> Iterator[str]:
    """The URL of a page that a process of its own sends as gzip."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(gzip.compress(body))
        file.flush()
        command = [sys.executable, "-m", "benchmarks.latency", "serve", "--root", file.name]
        server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/trouble.html"
        finally:
            server.kill()
            server.wait()


def serve(body: bytes) -> None:
    """Say the port, and send *body* to whoever asks, robots.txt apart."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            page = body if self.path == "/trouble.html" else b""
            self.send_response(200 if page else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            if page:
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """No log: nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


# One crawl, in a process of its own -------------------------------------------------------------


class Beat:
    """Stalls between beats of the running loop, in seconds, and when they ended."""

    def __init__(self) -> None:
        self.stalls: list[tuple[float, float]] = []
        self._now = (0.0, 0.0)

    def start(self) -> None:
        """Beat in the loop that runs, for as long as it does."""
        self._now = (time.perf_counter(), time.process_time())
        asyncio.get_running_loop().call_later(PERIOD, self._beat)

    def _beat(self) -> None:
        before, self._now = self._now, (time.perf_counter(), time.process_time())
        stall = min(self._now[0] - before[0], self._now[1] - before[1])
        self.stalls.append((stall, self._now[0]))
        asyncio.get_running_loop().call_later(PERIOD, self._beat)

    def longest(self, after: float = 0.0, before: float = math.inf) -> float:
        """The longest one between two instants."""
        return max((stall for stall, at in self.stalls if after < at <= before), default=0.0)


class Pauses:
    """Seconds that each collection of garbage took, by generation."""

    def __init__(self) -> None:
        self.longest = [0.0, 0.0, 0.0]
        self.total = 0.0
        self.runs = [0, 0, 0]
        self._began = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            took = time.perf_counter() - self._began
            self.total += took
            self.runs[info["generation"]] += 1
            self.longest[info["generation"]] = max(self.longest[info["generation"]], took)


def one(root: Path, case: Case, stall: float) -> dict[str, Any]:
    """Crawl, with *case*, until all its troubles are over. *stall*: see the setting `log.stall`."""
    body = case.page() if case.page is not None else b""
    if case.coded:
        with serving(body) as url:
            return _one(root, case, stall, url, {})
    return _one(root, case, stall, ODD if body else "", {"trouble.html": body})


def _one(
    root: Path, case: Case, stall: float, url: str, odd: Mapping[str, bytes]
) -> dict[str, Any]:
    Troubled.url = url
    for name, value in case.spider.items():
        setattr(Troubled, name, value)
    beat, pauses = Beat(), Pauses()
    watching = Watching(lambda settled: settled >= EVERY * (TIMES + 1))
    settings = {"log.stall": stall, **case.settings}
    with crawling(
        root, Endless(1, case.pending, odd), watching, spider=Troubled, settings=settings
    ) as session:

        async def run() -> None:
            beat.start()
            await session.crawl.run()

        gc.callbacks.append(pauses)
        cpu = time.process_time()
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(run())
        cpu = time.process_time() - cpu
        gc.callbacks.remove(pauses)
    return {
        "opening": beat.longest(before=watching.opened),
        "longest": beat.longest(after=watching.opened),
        "pause": max(pauses.longest),
        "collecting": pauses.total / cpu,
    }


# All of them ------------------------------------------------------------------------------------


def row(case: Case, found: list[dict[str, Any]], what: str = "longest") -> str:
    """A line of the table."""
    best = min(found, key=lambda one: one[what])
    rounds = " ".join(f"{one[what] * 1000:.0f}" for one in found)
    name = case.name if what == "longest" else f"{case.name}: while the ledger is read"
    return (
        f"| {name} | {best[what] * 1000:.0f} | {rounds} | {best['pause'] * 1000:.0f}"
        f" | {best['collecting']:.1%} |"
    )


def measured(cases: Sequence[Case], rounds: int, stall: float) -> tuple[str, list[str]]:
    """The table, and what is not as promised."""
    rows = [
        "| | longest stall, ms | rounds | longest pause of gc, ms | gc, of all CPU |",
        "|---|---:|---|---:|---:|",
    ]
    wrong = []
    with ExitStack() as places:
        large: dict[int, str] = {}  # a ledger that takes long to fill is used again
        for case in cases:
            found = []
            for _ in range(rounds):
                root = large.get(case.pending)
                if root is None:
                    root = places.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
                    asyncio.run(fill(Path(root), case.pending, case.pending, 1))
                if case.pending >= MANY:
                    large[case.pending] = root
                command = [sys.executable, "-m", "benchmarks.latency", "one", "--root", root,
                           "--case", str(CASES.index(case)), "--stall", str(stall)]  # fmt: skip
                done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
                found.append(json.loads(done.stdout))
            rows.append(row(case, found))
            if case.pending >= MANY:
                rows.append(row(case, found, "opening"))
            print("\n".join(rows[-1 - (case.pending >= MANY) :]), file=sys.stderr)
            best = min(max(one["longest"], one["opening"]) for one in found)
            if best > LIMIT and not case.own:
                wrong.append(f"{case.name}: {best * 1000:.0f} ms")
    return "\n".join(rows), wrong


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("what", nargs="?", choices=["one", "serve"], help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--only", action="append", default=[], help="cases whose name has this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stall", type=float, default=0.0, help="tell what holds the loop so long")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    given = parser.parse_args()
    if given.what == "serve":
        serve(given.root.read_bytes())
    elif given.what == "one":
        print(json.dumps(one(given.root, CASES[given.case], given.stall)))
    else:
        cases = [c for c in CASES if not given.only or any(part in c.name for part in given.only)]
        text, wrong = measured(cases, given.rounds, given.stall)
        text += f"\n\n{where()}"
        print(text)
        if given.write:
            write("latency", text, "python -m benchmarks.latency")
        if wrong:
            sys.exit("; ".join(wrong))


if __name__ == "__main__":
    main()
