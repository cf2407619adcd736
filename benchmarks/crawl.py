"""One command, one table: whole crawls, side by side.

    python -m benchmarks [--site shop|docs] [--pages N] [--rounds N] [--only NAME]… [--write]

Each contender crawls the same site in a process of its own, with 32 requests in flight, follows
every link below the start, and writes one item a page (URL, title, h1, number of links) as JSON
lines; the sets of items must be equal. The figure that counts is pages per CPU-second of that
process (user + system, its children included). Contenders take turns, round by round, because
machines are shared and drift; the table shows each one's median round.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import shop

HERE = Path(__file__).resolve().parent
README = HERE / "README.md"
MARK = "<!-- results: {} -->"
END = "<!-- end -->"


@dataclass(frozen=True, slots=True)
class Contender:
    """`command(start, out)` crawls from *start* and writes JSON lines to *out*."""

    name: str
    command: Callable[[str, str], list[str]]
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Round:
    """What one crawl took. CPU in seconds, memory in MB."""

    pages: int
    digest: str
    cpu: float
    wall: float
    rss: float

    @property
    def speed(self) -> float:
        return self.pages / self.cpu


@dataclass(slots=True)
class Result:
    contender: Contender
    rounds: list[Round] = field(default_factory=list)

    def median(self) -> Round:
        ordered = sorted(self.rounds, key=lambda r: r.speed)
        return ordered[len(ordered) // 2]


def _module(name: str) -> Callable[[str, str], list[str]]:
    return lambda start, out: [sys.executable, "-m", f"benchmarks.{name}", start, out]


def _bare(start: str, out: str) -> list[str]:
    return [sys.executable, "-P", str(HERE.parent / "scraper" / "demo" / "bare.py"), start, out]


def _ours(frontier: str) -> Callable[[str, str], list[str]]:
    def command(start: str, out: str) -> list[str]:
        run = ["run", "pages", "-a", f"url={start}", "-o", out, "-q", "--fresh"]
        return [
            sys.executable,
            "-c",
            "from scraper.cli import main; main()",
            *run,
            "-s",
            f"frontier.url={frontier}",
        ]

    return command


CONTENDERS = (
    Contender("scraper, sqlite (durable)", _ours("sqlite")),
    Contender("scraper, memory", _ours("memory")),
    Contender("bare loop: aiohttp + lexbor", _bare),
    Contender("Scrapy, tuned, memory queue", _module("with_scrapy"), needs="scrapy"),
)


def crawl(contender: Contender, site: shop.Site, work: Path) -> Round:
    """One crawl in a process of its own. Fails loudly when it fails."""
    run = Path(tempfile.mkdtemp(dir=work))
    shutil.copytree(HERE / "project", run / "project", ignore=shutil.ignore_patterns("__pycache__"))
    out, err = run / "out.jsonl", run / "err"
    environ = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    began = time.monotonic()
    with err.open("wb") as stderr:
        process = subprocess.Popen(
            contender.command(site.start, str(out)),
            cwd=run / "project",
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(
            f"{contender.name}: exit {process.returncode}\n{err.read_text()[-2000:]}"
        )
    pages, digest = fingerprint(out)
    shutil.rmtree(run)
    scale = 1024 * 1024 if sys.platform == "darwin" else 1024
    return Round(pages, digest, usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / scale)


def fingerprint(out: Path) -> tuple[int, str]:
    """How many items, and a digest of their set."""
    keys = ("url", "title", "h1", "links")
    with out.open() as file:
        items = sorted(json.dumps([json.loads(line)[k] for k in keys]) for line in file)
    return len(items), hashlib.sha256("\n".join(items).encode()).hexdigest()[:12]


def table(site: shop.Site, results: list[Result]) -> str:
    """The results as Markdown. Says so when the items are not the same set."""
    best = max(r.median().speed for r in results)
    rows = [
        "| | pages per CPU-second | of the best | wall, s | CPU, s | peak memory, MB | rounds |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for result in sorted(results, key=lambda r: -r.median().speed):
        m = result.median()
        spread = " ".join(f"{r.speed:,.0f}" for r in result.rounds)
        rows.append(
            f"| {result.contender.name} | {m.speed:,.0f} | {m.speed / best:.2f} | {m.wall:.1f} |"
            f" {m.cpu:.1f} | {m.rss:.0f} | {spread} |"
        )
    digests = {r.digest for result in results for r in result.rounds}
    pages = {r.pages for result in results for r in result.rounds}
    same = (
        f"{pages.pop():,} items from each, the same set ({digests.pop()})"
        if len(digests) == 1
        else "NOT THE SAME ITEMS: "
        + "; ".join(f"{r.contender.name} {r.median().pages} {r.median().digest}" for r in results)
    )
    load = f"load {os.getloadavg()[0]:.1f}"
    where = f"{os.cpu_count()} cores, Python {platform.python_version()}, {site.server}, {load}"
    return "\n".join([*rows, "", f"{same}. {where}."])


def compare(site: shop.Site, chosen: list[Contender], rounds: int, work: Path) -> str:
    results = [Result(c) for c in chosen]
    for number in range(rounds):
        for result in results:
            one = crawl(result.contender, site, work)
            result.rounds.append(one)
            print(
                f"{site.name} {number + 1}/{rounds} {result.contender.name}: {one.pages} pages,"
                f" {one.speed:,.0f} per CPU-second, {one.wall:.1f} s",
                file=sys.stderr,
            )
    if any(r.pages < site.pages for result in results for r in result.rounds):
        raise RuntimeError(f"{site.name} has {site.pages} pages or more; a crawl found fewer")
    return table(site, results)


def write(name: str, text: str, module: str = "python -m benchmarks") -> None:
    """Put the table into README.md, between its marks, and below the command that made it."""
    mark = MARK.format(name)
    before, found, rest = README.read_text().partition(mark)
    if not found:
        raise RuntimeError(f"{README} has no line {mark}")
    command = f"{module} {' '.join(sys.argv[1:])}"
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{mark}\n`{command.strip()}`\n\n{text}\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--site", choices=["shop", "docs"], help="only this one")
    parser.add_argument("--pages", type=int, default=20_000, help="size of the shop")
    parser.add_argument("--copies", type=int, default=20, help="of the documentation")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", action="append", default=[], help="contenders whose name has this"
    )
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    given = parser.parse_args()
    chosen = [
        c
        for c in CONTENDERS
        if (not c.needs or importlib.util.find_spec(c.needs))
        and (not given.only or any(part.lower() in c.name.lower() for part in given.only))
    ]
    for missing in [c for c in CONTENDERS if c.needs and not importlib.util.find_spec(c.needs)]:
        print(f"{missing.name}: not installed ({missing.needs}), left out", file=sys.stderr)
    for name in [given.site] if given.site else ["shop", "docs"]:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            work = Path(directory)
            try:
                serve = (
                    shop.shop(work, given.pages)
                    if name == "shop"
                    else shop.docs(work, given.copies)
                )
                with serve as site:
                    text = compare(site, chosen, given.rounds, work)
            except FileNotFoundError as error:
                print(f"{name}: left out: {error}", file=sys.stderr)
                continue
        print(f"\n{name}\n\n{text}\n")
        if given.write:
            write(name, text)


if __name__ == "__main__":
    main()
