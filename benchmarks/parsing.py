"""What it costs to look at pages before they are parsed, and what costly pages cost then.

    python -m benchmarks.parsing [--rounds N] [--write]

Ordinary pages: processor time of the counts beside that of parsing, for Debian's `python3-doc` and
the demo shop; the best of some rounds each. Costly pages, those of the test suite: seconds until
the crawl knows what to do with one, and the longest time in which its event loop did nothing else.
Fails when the counts take a twentieth of the parsing or more, or a costly page five seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from selectolax.lexbor import LexborHTMLParser

from benchmarks.report import where, write
from scraper.demo.site import Site
from scraper.guard import SMALL, doubtful
from scraper.http import Response
from scraper.parsing import Parsing
from tests.hostile.costly import CASES

__all__ = ["main"]

SHARE, SECONDS = 0.05, 5.0
"""What is promised."""
HEADERS = {"Content-Type": "text/html; charset=utf-8"}
ROW = b"<tr><td><a href='/item'>A name</a><td>some text &amp; more<td>12.50\n"


def documentation() -> list[bytes]:
    """The pages of the first `python3-doc` there is."""
    roots = sorted(Path("/usr/share/doc").glob("python3*/html"))
    return [path.read_bytes() for path in sorted(roots[0].rglob("*.html"))] if roots else []


def shop() -> list[bytes]:
    """The pages of the demo."""
    site = Site()
    return [site.answer(path).body for path in site.paths()]


def seconds(work: Callable[[bytes], object], pages: Sequence[bytes], rounds: int) -> float:
    """Processor time for all pages, in the best round."""
    best = float("inf")
    for _ in range(rounds):
        began = time.thread_time()
        for page in pages:
            work(page)
        best = min(best, time.thread_time() - began)
    return best


def counts(rounds: int) -> tuple[str, float]:
    """The table of ordinary pages, and the largest share that the counts take."""
    rows = ["| | pages | MB | parsing, s | counts, s | share |", "|---|---:|---:|---:|---:|---:|"]
    worst = 0.0
    for name, pages in (("docs", documentation()), ("shop", shop())):
        if not pages:
            print(f"{name}: not installed (apt-get install python3-doc)", file=sys.stderr)
            continue
        parsing = seconds(LexborHTMLParser, pages, rounds)
        counting = seconds(doubtful, pages, rounds)
        large = sum(len(page) >= SMALL for page in pages)
        worst = max(worst, counting / parsing)
        rows.append(
            f"| {name} | {len(pages):,}, {large:,} of 8 KB or more"
            f" | {sum(map(len, pages)) / 1e6:.1f} | {parsing:.2f} | {counting:.3f}"
            f" | {counting / parsing:.1%} |"
        )
    return "\n".join(rows), worst


async def handled(parsing: Parsing, body: bytes) -> tuple[str, float, float]:
    """How a page ended, in how many seconds, and the longest gap in the loop meanwhile."""
    gap, last, over = 0.0, time.perf_counter(), False

    async def beat() -> None:
        nonlocal gap, last
        while not over:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            gap, last = max(gap, now - last), now

    beating = asyncio.create_task(beat())
    response = Response("http://h/", 200, HEADERS, body)
    began = time.perf_counter()
    await parsing.prepare(response)
    took = time.perf_counter() - began
    over = True
    await beating
    return response.refused or "parsed", took, gap


async def costly() -> tuple[str, float]:
    """The table of costly and of large pages, and the longest time that one took."""
    parsing = Parsing()
    pages = [(case.input, case.body) for case in CASES if case.number in (60, 61)]
    pages += [(f"a table of {n} MB", ROW * (n * 1_000_000 // len(ROW))) for n in (1, 5, 20)]
    rows = [
        "| | KB | outcome | seconds | longest gap in the loop, ms |",
        "|---|---:|---|---:|---:|",
    ]
    worst = 0.0
    for name, body in pages:
        outcome, took, gap = await handled(parsing, body)
        worst = max(worst, took)
        rows.append(
            f"| {name} | {len(body) // 1000:,} | {outcome} | {took:.2f} | {gap * 1000:.0f} |"
        )
    await parsing.aclose()
    return "\n".join(rows), worst


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.parsing", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    chosen = parser.parse_args()
    ordinary, share = counts(chosen.rounds)
    hostile, longest = asyncio.run(costly())
    text = f"{ordinary}\n\n{hostile}\n\n{where()}"
    print(text)
    if chosen.write:
        write("parsing", text, "python -m benchmarks.parsing")
    if share >= SHARE or longest >= SECONDS:
        sys.exit(f"the counts take {share:.1%} of parsing, a costly page {longest:.1f} s")


if __name__ == "__main__":
    main()
