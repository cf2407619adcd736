"""The benchmarks' results: as tables in README.md, and as a plot."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import sqlite3
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["Result", "Round", "Table", "keep", "write"]

HERE = Path(__file__).resolve().parent
README = HERE / "README.md"
KEPT = HERE / "results.json"
PLOT = HERE / "results.svg"
MARK = "<!-- results: {} -->"
END = "<!-- end -->"
PACKAGES = (
    "aiohttp", "selectolax", "uvloop", "Scrapy", "parsel", "lxml", "Twisted", "crawlee", "impit",
)  # fmt: skip
HEADS = (
    "", "pages per CPU-second", "of the best", "rounds", "pages", "CPU, s", "wall, s",
    "server's CPU, s", "peak memory, MB",
)  # fmt: skip
SETTINGS = (
    "Settings: 32 requests in flight, no delay. scraper: as it comes, robots.txt asked for;"
    " Scrapy, tuned: asyncio with uvloop, its aiohttp handler, no middleware that this crawl does"
    " not need, no robots.txt; Crawlee: in memory, its impit client, no sessions, no retries."
)
OURS, OTHERS, TEXT = "#2f81f7", "#8b949e", "#7d8590"
"""Colours that are readable on white and on black."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one crawl took. Seconds of CPU, of wall time and of the server's CPU; memory in MB.

    `odd`: items in which its parser read something else than the others'.
    """

    pages: int
    odd: int
    cpu: float
    wall: float
    memory: float
    server: float | None

    @property
    def speed(self) -> float:
        """Pages per second of CPU."""
        return self.pages / self.cpu


@dataclass(slots=True)
class Result:
    """The rounds of one contender. `slow`: of the smaller site; `items`: whether it makes any."""

    name: str
    slow: bool
    items: bool
    rounds: list[Round] = field(default_factory=list)

    def median(self) -> Round:
        ordered = sorted(self.rounds, key=lambda r: r.speed)
        return ordered[len(ordered) // 2]


@dataclass(frozen=True, slots=True)
class Table:
    """What was found on one site. `digests`: of its items, and of those of its smaller form."""

    site: str
    results: list[Result]
    server: str
    digests: list[str]

    def text(self) -> str:
        """The table as Markdown, the fastest first; what makes no items is not ranked."""
        best = max((r.median().speed for r in self.results if r.items), default=0)
        rows = [
            f"| {' | '.join(HEADS)} |",
            "|---|---:|---:|---|---:|---:|---:|---:|---:|",
        ]
        for result in sorted(self.results, key=lambda r: -r.median().speed):
            m = result.median()
            spread = " ".join(f"{r.speed:,.0f}" for r in result.rounds)
            share = f"{m.speed / best:.2f}" if result.items else "–"
            server = f"{m.server:.1f}" if m.server is not None else "–"
            rows.append(
                f"| {result.name} | {m.speed:,.0f} | {share} | {spread} | {m.pages:,} |"
                f" {m.cpu:.1f} | {m.wall:.1f} | {server} | {m.memory:.0f} |"
            )
        return "\n".join([*rows, "", self._same(), "", SETTINGS, "", self._versions()])

    def _same(self) -> str:
        sizes = {r.slow: r.median().pages for r in self.results if r.items}
        same = [
            f"{sizes[slow]:,} items from each{' that crawled the smaller site' if slow else ''},"
            f" the same set ({self.digests[slow]})."
            for slow in sorted(sizes)
        ]
        same += [
            f"{r.name} counts the links of {r.median().odd:,} pages otherwise, by its parser."
            for r in self.results
            if r.median().odd
        ]
        return " ".join(same)

    def _versions(self) -> str:
        found = [f"Python {platform.python_version()}"]
        for package in PACKAGES:
            try:
                found.append(f"{package} {version(package)}")
            except PackageNotFoundError:
                continue
        found.append(f"SQLite {sqlite3.sqlite_version}")
        where = f"{os.cpu_count()} cores, {self.server}, load {os.getloadavg()[0]:.1f}"
        return f"{', '.join(found)}. {where}."


def where() -> str:
    """What a figure was measured on, in a few words."""
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, load {load:.1f}."


def write(name: str, text: str, module: str = "python -m benchmarks") -> None:
    """Put the table into README.md, between its marks, and below the command that made it."""
    mark = MARK.format(name)
    before, found, rest = README.read_text().partition(mark)
    if not found:
        raise RuntimeError(f"{README} has no line {mark}")
    command = f"{module} {' '.join(sys.argv[1:])}"
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{mark}\n`{command.strip()}`\n\n{text}\n{END}{after}")


def keep(table: Table) -> None:
    """Keep the medians and the spread beside those of the other sites, and draw them all."""
    kept: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    kept[table.site] = {
        r.name: [round(x.speed, 1) for x in sorted(r.rounds, key=lambda x: x.speed)]
        for r in table.results
        if r.items
    }
    KEPT.write_text(json.dumps(kept, indent=2) + "\n")
    if importlib.util.find_spec("matplotlib") is None:
        print(f"{PLOT.name}: not drawn, matplotlib is not installed", file=sys.stderr)
    else:
        draw(kept)


def draw(kept: dict[str, dict[str, list[float]]]) -> None:
    """Draw pages per CPU-second as bars: a panel for each site, the rounds' spread as a line."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.7 * len(kept)), layout="constrained")
    FigureCanvasSVG(figure)
    for axes, (site, rounds) in zip(
        figure.subplots(len(kept), squeeze=False)[:, 0], kept.items(), strict=True
    ):
        names = sorted(rounds, key=lambda name: rounds[name][len(rounds[name]) // 2])
        speeds = [rounds[name][len(rounds[name]) // 2] for name in names]
        ends = [
            [speed - rounds[name][0] for name, speed in zip(names, speeds, strict=True)],
            [rounds[name][-1] - speed for name, speed in zip(names, speeds, strict=True)],
        ]
        colours = [OURS if name.startswith("scraper") else OTHERS for name in names]
        bars = axes.barh(names, speeds, xerr=ends, color=colours, ecolor=TEXT)
        axes.bar_label(bars, [f"{speed:,.0f}" for speed in speeds], padding=6, color=TEXT)
        axes.set_title(f"{site}: pages per second of CPU", loc="left", color=TEXT)
        axes.margins(x=0.12)
        axes.tick_params(colors=TEXT)
        for spine in axes.spines.values():
            spine.set_visible(False)
    # the same picture from the same figures: no date, no random ids
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"}):
        figure.savefig(PLOT, transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    draw(json.loads(KEPT.read_text()))
