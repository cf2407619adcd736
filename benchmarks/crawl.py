"""One command, one table: whole crawls, side by side.

    python -m benchmarks [--site shop|docs|manual] [--pages N] [--rounds N] [--only NAME]… [--write]

Each contender crawls the same site in a process of its own, with 32 requests in flight, follows
every link below the start, and writes one item a page (URL, title, h1, number of links) as JSON
lines; the sets of items must be equal. The figure that counts is pages per CPU-second of that
process (user + system, its children included). Contenders take turns, round by round, because
machines are shared and drift; the table shows each one's median round. Slow contenders crawl a
smaller site of the same kind, and not in every round; the table shows both.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import report, shop
from benchmarks.report import Result, Round

HERE = Path(__file__).resolve().parent
SLOW_ROUNDS = 2
MAY_DIFFER = 0.02
URLS = "urls"
"""The file, beside a crawl's project, with every page of the site: for what only fetches."""


@dataclass(frozen=True, slots=True)
class Contender:
    """`command(start, out)` crawls from *start* and writes JSON lines to *out*.

    `slow`: it crawls the smaller site. `items`: whether it makes any. `lexbor`: whether that
    parsed the pages; another parser may find another number of links in a page. `needs`: a module.
    """

    name: str
    command: Callable[[str, str], list[str]]
    needs: str = ""
    slow: bool = False
    items: bool = True
    lexbor: bool = True

    @property
    def here(self) -> bool:
        return not self.needs or importlib.util.find_spec(self.needs) is not None


def _module(name: str, *words: str) -> Callable[[str, str], list[str]]:
    return lambda start, out: [sys.executable, "-m", f"benchmarks.{name}", *words, start, out]


def _bare(start: str, out: str) -> list[str]:
    # as a file, so that nothing of this framework is in its process
    return [sys.executable, "-P", str(HERE.parent / "scraper" / "demo" / "bare.py"), start, out]


def _fetching(start: str, out: str) -> list[str]:
    return [sys.executable, "-P", str(HERE / "fetching.py"), f"../{URLS}", out]


def _ours(frontier: str) -> Callable[[str, str], list[str]]:
    def command(start: str, out: str) -> list[str]:
        run = ["run", "pages", "-a", f"url={start}", "-o", out, "-q", "--fresh"]
        main = "from scraper.cli import main; main()"
        return [sys.executable, "-c", main, *run, "-s", f"frontier.url={frontier}"]

    return command


OURS = Contender("scraper, sqlite (durable)", _ours("sqlite"))
CONTENDERS = (
    OURS,
    Contender("scraper, memory", _ours("memory")),
    Contender("bare loop: aiohttp + lexbor", _bare),
    Contender("aiohttp, fetching only", _fetching, items=False),
    Contender("Crawlee, tuned, with lexbor", _module("with_crawlee"), "crawlee", slow=True),
    Contender("Scrapy, tuned, with lexbor", _module("with_scrapy", "lexbor"), "scrapy", slow=True),
    Contender("Scrapy, tuned", _module("with_scrapy", "tuned"), "scrapy", slow=True, lexbor=False),
    Contender(
        "Scrapy, ordinary code",
        _module("with_scrapy", "ordinary"),
        "scrapy",
        slow=True,
        lexbor=False,
    ),
)


@dataclass(slots=True)
class Place:
    """A site that is being served, and what is known of it. `urls`: one a line, `digest`: of the
    items of the first crawl."""

    site: shop.Site
    work: Path
    urls: str = ""
    digest: str = ""


def crawl(contender: Contender, place: Place) -> Round:
    """One crawl in a process of its own. Raises `RuntimeError` if it fails or finds other items."""
    run = Path(tempfile.mkdtemp(dir=place.work))
    shutil.copytree(HERE / "project", run / "project", ignore=shutil.ignore_patterns("__pycache__"))
    (run / URLS).write_text(place.urls)
    out, err = run / "out.jsonl", run / "err"
    environ = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    served = shop.cpu_of(place.site.process)
    began = time.monotonic()
    with err.open("wb") as stderr:
        process = subprocess.Popen(
            contender.command(place.site.start, str(out)),
            cwd=run / "project",
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        said = err.read_text()[-2000:]
        raise RuntimeError(f"{contender.name}: exit {process.returncode}\n{said}")
    serving = shop.cpu_of(place.site.process)
    pages, odd = _compared(contender, place, out) if contender.items else (int(out.read_text()), 0)
    shutil.rmtree(run)
    scale = 1024 * 1024 if sys.platform == "darwin" else 1024
    return Round(
        pages=pages,
        odd=odd,
        cpu=usage.ru_utime + usage.ru_stime,
        wall=wall,
        memory=usage.ru_maxrss / scale,
        server=serving - served if serving is not None and served is not None else None,
    )


def read(out: Path) -> tuple[list[dict[str, Any]], list[str], str]:
    """The items in *out*; the same as sorted lines; a digest of their set."""
    keys = ("url", "title", "h1", "links")
    with out.open() as file:
        items = [json.loads(line) for line in file]
    lines = sorted(json.dumps([item[key] for key in keys]) for item in items)
    return items, lines, hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def fingerprint(out: Path) -> tuple[int, str]:
    """How many items there are in *out*, and a digest of their set."""
    items, _, digest = read(out)
    return len(items), digest


def _compared(contender: Contender, place: Place, out: Path) -> tuple[int, int]:
    """How many items there are in *out*, and in how many another parser read something else.

    They must be those of the first crawl of this site, and with another parser of the same pages.
    """
    items, lines, digest = read(out)
    kept = place.work / "items"
    if not place.digest:
        if len(items) < place.site.pages:
            raise RuntimeError(
                f"{contender.name}: {len(items)} pages of {place.site.pages} or more"
            )
        place.digest, place.urls = digest, "\n".join(item["url"] for item in items)
        kept.write_text("\n".join(lines))
    if digest == place.digest:
        return len(items), 0
    odd = sorted(set(kept.read_text().split("\n")).symmetric_difference(lines))
    same_pages = sorted(item["url"] for item in items) == sorted(place.urls.split("\n"))
    if contender.lexbor or not same_pages or len(odd) > len(items) * MAY_DIFFER:
        raise RuntimeError(
            f"{contender.name}: not the same items: {len(lines)}, and {len(odd)} differ, such as\n"
            + "\n".join(odd[:6])
        )
    return len(items), len(odd) // 2


def compare(whole: Place, part: Place, chosen: list[Contender], rounds: int) -> list[Result]:
    """So many rounds, in which everybody has a turn."""
    results = [Result(c.name, c.slow, c.items) for c in chosen]
    for place in {
        id(part if c.slow else whole): part if c.slow else whole for c in chosen
    }.values():
        crawl(OURS, place)  # not counted: it says what the items are, and fills the system's cache
    for number in range(rounds):
        for contender, result in zip(chosen, results, strict=True):
            if contender.slow and number >= SLOW_ROUNDS:
                continue
            one = crawl(contender, part if contender.slow else whole)
            result.rounds.append(one)
            print(
                f"{whole.site.name} {number + 1}/{rounds} {contender.name}: {one.pages:,} pages,"
                f" {one.speed:,.0f} per CPU-second, {one.wall:.1f} s",
                file=sys.stderr,
            )
    return results


Serve = Callable[[Path, int], AbstractContextManager[shop.Site]]
SITES: dict[str, Serve] = {"shop": shop.shop, "manual": shop.manual, "docs": shop.docs}


def measure(name: str, size: int, share: int, chosen: list[Contender], rounds: int) -> report.Table:
    """Serve the site in both sizes and crawl. Raises `FileNotFoundError` if it is not installed."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, ExitStack() as stack:
        places = []
        for kind, much in (("whole", size), ("part", max(1, size // share))):
            work = Path(directory, kind)
            work.mkdir()
            places.append(Place(stack.enter_context(SITES[name](work, much)), work))
        whole, part = places
        results = compare(whole, part, chosen, rounds)
        return report.Table(name, results, whole.site.server, [whole.digest, part.digest])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--site", choices=list(SITES), help="only this one")
    parser.add_argument("--pages", type=int, default=20_000, help="size of the shop")
    parser.add_argument("--copies", type=int, default=20, help="of Python's documentation")
    parser.add_argument("--manuals", type=int, default=14, help="copies of SQLite's documentation")
    parser.add_argument(
        "--share", type=int, default=3, help="slow contenders crawl one of so many parts"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", action="append", default=[], help="contenders whose name has this"
    )
    parser.add_argument("--write", action="store_true", help="put tables and plot into README.md")
    given = parser.parse_args()
    sizes = {"shop": given.pages, "docs": given.copies, "manual": given.manuals}
    wanted = [
        c
        for c in CONTENDERS
        if not given.only or any(part.lower() in c.name.lower() for part in given.only)
    ]
    for missing in [c for c in wanted if not c.here]:
        print(f"{missing.name}: not installed ({missing.needs}), left out", file=sys.stderr)
    chosen = [c for c in wanted if c.here]
    for name in [given.site] if given.site else list(SITES):
        try:
            table = measure(name, sizes[name], given.share, chosen, given.rounds)
        except FileNotFoundError as error:
            print(f"{name}: left out: {error}", file=sys.stderr)
            continue
        print(f"\n{name}\n\n{table.text()}\n", flush=True)
        if given.write:
            report.write(name, table.text())
            report.keep(table)


if __name__ == "__main__":
    main()
