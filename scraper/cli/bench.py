"""scrape bench: what a page costs on this machine, beside a loop without any framework."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import takewhile
from pathlib import Path
from typing import IO, Annotated, Any, cast

import typer

import scraper
from scraper._version import __version__
from scraper.cli.output import DebugOption, JsonOption, QuietOption, columns, data, data_json, note
from scraper.errors import CrawlFailed

__all__ = ["bench"]

FIRST = "catalogue/page-1.html"
SHOP = 1_153
"""So many pages of a shop can be reached from its first list page."""

CRAWLS = {"ours": "scraper, durable", "bare": "bare loop"}
"""The crawls of `scraper.demo.crawls`, and what they are called."""

LIBRARIES = ("aiohttp", "selectolax", "uvloop")


@dataclass(slots=True)
class Measured:
    """The rounds of one crawl: seconds of CPU and of wall time. `pages`: of each round."""

    pages: int = 0
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    @property
    def pace(self) -> float:
        """Pages per second of CPU in the median round."""
        return self.pages / statistics.median(self.cpu)


def bench(
    pages: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, max=100_000, help=f"At least so many; a shop has {SHOP:,}."
        ),
    ] = 2 * SHOP,
    rounds: Annotated[
        int, typer.Option(metavar="N", min=1, max=100, help="Of each; the median counts.")
    ] = 3,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> int:
    """Measure on this machine: pages per second of CPU, beside a loop without any framework.

    The shop of `scrape demo` is crawled on loopback as a durable job, one item a page. The bare
    loop brings home the same items with the same libraries, and has none of the rest: no
    robots.txt, no retries, no pace, nothing that survives a crash. CPU is what counts; wall time
    has the shop in it, too, which a process of its own serves.
    """
    shops = -(-pages // SHOP)
    results = {name: Measured() for name in CRAWLS}
    with tempfile.TemporaryDirectory(prefix="scrape-bench-") as directory, _open(shops) as starts:
        if not quiet:
            note(f"Crawling {shops * SHOP:,} pages on loopback, {rounds} × each, by turns …")
        for number in range(rounds):
            items = []
            for name, measured in results.items():
                place = Path(directory, f"{name}-{number}")
                place.mkdir()
                items.append(_crawl(name, starts, place, measured))
            _same(items)
    if as_json:
        data_json(_as_dict(results))
    else:
        _show(results, quiet=quiet)
    return 0


@contextmanager
def _open(shops: int) -> Iterator[list[str]]:
    """Open so many shops in a process of their own; where a crawl of each starts."""
    with subprocess.Popen(  # noqa: S603 - this interpreter, a module of ours
        [sys.executable, "-m", "scraper.demo", str(shops)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    ) as server:
        pipes = (server.stdin, server.stdout, server.stderr)
        stdin, stdout, stderr = (cast("IO[str]", pipe) for pipe in pipes)
        try:
            starts = [line.strip() + FIRST for line in takewhile(str.strip, stdout)]
            if len(starts) < shops:
                raise _failed("the shop did not open", stderr.read())
            yield starts
        finally:
            stdin.close()


def _crawl(
    name: str, starts: Sequence[str], place: Path, measured: Measured
) -> set[tuple[str, int]]:
    """Crawl once, in a process of its own; returns what came home."""
    out = place / "pages.jsonl"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "scraper.demo.crawls", name, str(out), *starts],
        cwd=place,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise _failed(CRAWLS[name], done.stderr)
    figures = json.loads(done.stdout)
    measured.cpu.append(figures["cpu"])
    measured.wall.append(figures["wall"])
    with out.open(encoding="utf-8") as file:
        items = [json.loads(line) for line in file]
    measured.pages = len(items)
    # Not the texts: that a page is in Latin-1 only its header says, which the bare loop ignores.
    return {(item["url"], item["links"]) for item in items}


def _environment() -> dict[str, str]:
    """This package for the processes, and none of the settings that are meant for other crawls."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SCRAPE_")}
    paths = [str(Path(path).parent) for path in scraper.__path__]
    return own | {"PYTHONPATH": os.pathsep.join([*paths, own.get("PYTHONPATH", "")]).rstrip(":")}


def _failed(what: str, said: str) -> CrawlFailed:
    last = said.strip().rpartition("\n")[2]
    return CrawlFailed(f"{what}: {last or 'its process ended without a word'}")


def _same(items: Sequence[set[tuple[str, int]]]) -> None:
    """Figures of crawls that did not do the same work say nothing."""
    ours, bare = items
    if ours != bare:
        raise CrawlFailed(
            f"not the same pages: {len(ours - bare):,} only from scraper,"
            f" {len(bare - ours):,} only from the bare loop",
            hint="Nothing can be compared. Something between here and the shop, such as a proxy?",
        )


def _show(results: dict[str, Measured], *, quiet: bool) -> None:
    bare = results["bare"].pace
    heads = ("", "pages", "CPU, s", "pages/CPU-s", "of bare", "wall, s", "rounds")
    rows = [
        (
            CRAWLS[name],
            f"{m.pages:,}",
            f"{statistics.median(m.cpu):.2f}",
            f"{m.pace:,.0f}",
            f"{m.pace / bare:.2f}",
            f"{statistics.median(m.wall):.2f}",
            f"{m.pages / max(m.cpu):,.0f}–{m.pages / min(m.cpu):,.0f}",
        )
        for name, m in results.items()
    ]
    columns(rows, heads)
    if not quiet:
        note("The same pages from both. Starting Python and importing are not counted.")
    data(
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores,"
        f" {platform.python_implementation()} {platform.python_version()}, scraper {__version__}"
    )
    data(", ".join(f"{name} {found}" for name, found in _versions().items()))


def _versions() -> dict[str, str]:
    """Of the libraries that matter here, and are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"SQLite": sqlite3.sqlite_version}


def _as_dict(results: dict[str, Measured]) -> dict[str, Any]:
    return {
        "crawls": {
            name: {
                "pages": m.pages,
                "pages_per_cpu_second": round(m.pace, 1),
                "cpu_s": [round(seconds, 4) for seconds in m.cpu],
                "wall_s": [round(seconds, 4) for seconds in m.wall],
            }
            for name, m in results.items()
        },
        "of_bare": round(results["ours"].pace / results["bare"].pace, 3),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {"scraper": __version__, **_versions()},
    }
