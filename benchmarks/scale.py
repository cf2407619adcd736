"""What a page costs as the queue grows, what a full ledger weighs, and how long it takes to resume.

    python -m benchmarks.scale [--pending N]… [--hosts N] [--rounds N] [--pages N] [--write]

A whole crawl but for the network (`canned`): the same site, with ever more pages pending, and as
many others seen. Each round resumes the job of each size once, in a process of its own, and settles
some thousand pages. Processor time a page, of all threads: of the best tenth of all rounds, for the
machine is shared. Calls a page, of Python's and of C's functions, counted in one round more: these
do not depend on the machine. The time from nothing to the first settled page, the part of it that
reads the ledger, and the processor time it takes: the best round's.

At last the largest job goes on for long: resident memory of the process once the ledger is read,
at the end, and how much a page adds in the second half.

Fails when a page costs 10 % more or less than with the shortest queue, or 15 % more calls (with so
short a queue most links were met a moment ago), when the process takes more than 300 MB, or when
resuming takes 10 s of processor time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.canned import Endless, Watching, crawling, fill
from benchmarks.report import where, write
from scraper.api import loop_factory

ROOT = Path(__file__).resolve().parents[1]

SIZES = [1_000, 10_000, 100_000, 1_000_000]
FLAT, CALLS, MEGABYTES, SECONDS = 0.10, 0.15, 300, 10.0
"""What is promised."""
COUNTED = 2_000
"""Pages whose calls are counted."""
WINDOWS = 10
WARM = 1_000
"""Pages before anything is measured."""


# One crawl, in a process of its own -------------------------------------------------------------


def resident() -> float:
    """Megabytes in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


class Measuring:
    """Marks, each time so many pages more are settled: processor seconds, and megabytes."""

    def __init__(self, pages: int, now: Callable[[], float]) -> None:
        self.marks: list[tuple[int, float, float]] = []
        self.first = self.cpu = 0.0  # at the first settled page
        self._step = pages // WINDOWS
        self._last = WARM + pages
        self._now = now

    def told(self, pages: int) -> bool:
        if pages and not self.first:
            self.first, self.cpu = time.perf_counter(), time.process_time()
        if pages >= WARM + len(self.marks) * self._step:
            self.marks.append((pages, self._now(), resident()))
        return pages >= self._last


class Calls:
    """Counts the calls of all threads. It makes them slow."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event in ("call", "c_call"):
            self.count += 1


def one(root: Path, pending: int, hosts: int, pages: int, *, counted: bool) -> dict[str, Any]:
    """Resume the job in *root* and settle *pages* pages after `WARM`."""
    calls = Calls()
    if counted:
        threading.setprofile(calls)
        sys.setprofile(calls)
    before, began, cpu = resident(), time.perf_counter(), time.process_time()
    measuring = Measuring(pages, (lambda: float(calls.count)) if counted else time.process_time)
    watching = Watching(measuring.told)
    with crawling(root, Endless(hosts, pending), watching) as session:
        summarised = time.perf_counter()
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(session.crawl.run())
    sys.setprofile(None)
    marks = measuring.marks
    return {
        "costs": [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(marks)],
        "all": (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0]),
        "before": before,
        "resident": [mark[2] for mark in marks],
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "summary": summarised - began,
        "open": watching.opened - summarised,
        "resume": measuring.first - began,
        "cpu": measuring.cpu - cpu,
    }


# All of them ------------------------------------------------------------------------------------


def child(what: str, root: Path, pending: int, hosts: int, pages: int = 0) -> Any:
    """What a process of its own says of the job in *root*."""
    command = [
        sys.executable, "-m", "benchmarks.scale", what, "--root", str(root),
        "--pending", str(pending), "--hosts", str(hosts), "--pages", str(pages),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout) if done.stdout else None


def measured(given: argparse.Namespace, work: Path) -> tuple[str, list[str]]:
    """The tables, and what is not as promised."""
    sizes = sorted(given.pending or SIZES)
    roots = {size: work / str(size) for size in sizes}
    for size, root in roots.items():
        root.mkdir()
        child("fill", root, size, given.hosts)
    rounds: dict[int, list[Any]] = {size: [] for size in sizes}
    for _ in range(given.rounds):
        for size in sizes:
            rounds[size].append(child("one", roots[size], size, given.hosts, given.pages))
    calls = {s: child("calls", roots[s], s, given.hosts, COUNTED)["all"] for s in sizes}
    rows = [
        (
            "| pending | seen besides | CPU a page, µs | calls a page | of the shortest"
            " | first page, s | reading the ledger, s | CPU until the first page, s |"
        ),
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    wrong = []
    costs: dict[int, float] = {}
    for size in sizes:
        best = min(min(found["costs"]) for found in rounds[size]) * 1e6
        share = calls[size] / calls[sizes[0]]
        resume = min(found["resume"] for found in rounds[size])
        cpu = min(found["cpu"] for found in rounds[size])
        costs[size] = best
        opening = min(found["open"] for found in rounds[size])
        rows.append(
            f"| {size:,} | {size:,} | {best:.0f} | {calls[size]:,.0f} | {share:.2f}"
            f" | {resume:.1f} | {opening:.1f} | {cpu:.1f} |"
        )
        if abs(best / costs[sizes[0]] - 1) > FLAT:
            wrong.append(f"with {size:,} pending a page costs {best / costs[sizes[0]]:.2f} times")
        if abs(share - 1) > CALLS:
            wrong.append(f"with {size:,} pending a page takes {share:.2f} times the calls")
        if cpu > SECONDS:
            wrong.append(f"{cpu:.1f} s of CPU to resume {size:,}")
    last = sizes[-1]
    found = child("one", roots[last], last, given.hosts, given.long)
    memory = found["resident"]
    half = len(memory) // 2
    growth = (memory[-1] - memory[half]) * 1e6 / (given.long * (len(memory) - 1 - half) / WINDOWS)
    text = (
        f"With {last:,} pending and {last:,} seen, on {given.hosts:,} hosts: {memory[0]:.0f} MB"
        f" resident at the start, {memory[-1]:.0f} MB after {given.long:,} pages (peak"
        f" {found['peak']:.0f} MB), and {growth:,.0f} bytes a page in the second half of them."
    )
    if found["peak"] > MEGABYTES:
        wrong.append(f"{found['peak']:.0f} MB")
    return "\n".join([*rows, "", text]), wrong


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("what", nargs="?", choices=["fill", "one", "calls"], help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--pending", type=int, action="append", help="a size of the queue")
    parser.add_argument("--hosts", type=int, default=1)
    parser.add_argument("--pages", type=int, default=5_000, help="that are settled in a round")
    parser.add_argument("--long", type=int, default=100_000, help="and at last, for the memory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    given = parser.parse_args()
    if given.what == "fill":
        asyncio.run(fill(given.root, given.pending[0], given.pending[0], given.hosts))
    elif given.what is not None:
        counted = given.what == "calls"
        found = one(given.root, given.pending[0], given.hosts, given.pages, counted=counted)
        print(json.dumps(found))
    else:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            text, wrong = measured(given, Path(directory))
        text += f"\n\n{where()}"
        print(text)
        if given.write:
            write("scale", text, "python -m benchmarks.scale")
        if wrong:
            sys.exit("; ".join(wrong))


if __name__ == "__main__":
    main()
