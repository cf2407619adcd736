"""What a page costs, counted and not timed: a busy machine changes nothing of it.

    python -m benchmarks.cost              # count, and compare with the record, cost.json
    python -m benchmarks.cost --record     # count, and make that the record
    python -m benchmarks.cost --profile    # which functions are called, how often a page
    python -m benchmarks.cost --keep DIR   # leave what callgrind wrote in DIR

Two figures, both of a durable crawl of a small shop. `instructions`: of the processor, by
valgrind's callgrind, as a multiple of what the bare loop takes in the same process, so that the
build of Python and the versions of libraries hardly matter. `calls`: of the framework's own
functions, by cProfile. Both are slopes, of a crawl of 185 pages over one of 4: what opening and
closing a crawl takes is not in them.

`tests/test_cost.py` fails when a figure is further from its record than is let pass.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import shop
from benchmarks.counted import PAGES, SITE
from scraper.demo.crawls import CRAWLS

__all__ = ["FIGURES", "Figure", "calls", "calls_by_function", "instructions", "recorded"]

HERE = Path(__file__).resolve().parent
RECORD = HERE / "cost.json"
SPAN = PAGES - min(SITE.values())
PATIENCE = 900.0
ANEW = "`python -m benchmarks.cost --record`"


@dataclass(frozen=True, slots=True)
class Figure:
    """`more`, `less`: by how much of the record a count may differ. `look`: how to find out why."""

    name: str
    unit: str
    more: float
    less: float
    look: str

    def verdict(self, counted: float, record: float) -> str:
        """What is wrong with the count; empty when it is near the record."""
        change = counted / record - 1
        figures = f"{counted:.2f} {self.unit}; recorded: {record:.2f} ({change:+.1%})"
        if change > self.more:
            return (
                f"A page costs more: {figures}; up to {self.more:+.0%} is let pass.\n"
                f"Where it goes: {self.look}\n"
                f"If it is worth that, record it ({ANEW}) and say why in the commit.\n"
                f"Recorded with {made_with()}, counted with {_here()}."
            )
        if change < -self.less:
            return f"A page costs much less: {figures}. Record it, so that it stays so: {ANEW}"
        return ""


FIGURES = (
    Figure(
        "instructions",
        "times the bare loop's instructions",
        more=0.04,
        less=0.12,
        look="`python -m benchmarks.cost --keep DIR` and `callgrind_annotate DIR/callgrind.4`,"
        " before and after the change; which Python functions are behind it, `--profile` says.",
    ),
    Figure(
        "calls",
        "calls of own functions a page",
        more=0.03,
        less=0.12,
        look="`python -m benchmarks.cost --profile`, before and after the change.",
    ),
)


def recorded() -> dict[str, float]:
    """The recorded counts by the figure's name."""
    record = json.loads(RECORD.read_text("utf-8"))
    return {figure.name: float(record[figure.name]) for figure in FIGURES}


def made_with() -> str:
    """The Python and the machine of the record: others differ by some percent in instructions."""
    return str(json.loads(RECORD.read_text("utf-8"))["made with"])


def _here() -> str:
    return f"Python {platform.python_version()}, {platform.machine()}"


def instructions(keep: Path | None = None) -> float:
    """Instructions a page, as a multiple of the bare loop's. *keep*: for callgrind's files.

    Raises `FileNotFoundError` when valgrind is not installed.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise FileNotFoundError("valgrind is not installed")
    with _serving() as (base, work):
        kept = keep or work
        kept.mkdir(parents=True, exist_ok=True)
        prefix = f"{work}/vgdb"
        _inside(
            [valgrind, "--tool=callgrind", "--instr-atstart=no", "--dump-before=getloadavg",
             f"--callgrind-out-file={kept}/callgrind", f"--vgdb-prefix={prefix}"],
            "instructions", base, work, VGDB_PREFIX=prefix,
        )  # fmt: skip
        # dumps are numbered from 1, and the odd ones are of what lies between two crawls
        totals = (_total(kept / f"callgrind.{2 * n}") for n in range(1, 1 + 2 * len(CRAWLS)))
        a_page = {}
        for name in CRAWLS:
            few, many = next(totals), next(totals)
            a_page[name] = (many - few) / SPAN
    return a_page["ours"] / a_page["bare"]


def _total(file: Path) -> int:
    for line in file.read_text().splitlines():
        if line.startswith("totals:"):
            return int(line.split()[1])
    raise RuntimeError(f"callgrind wrote no total into {file}")


def calls() -> float:
    """Calls of the framework's own Python functions a page."""
    return sum(calls_by_function().values())


def calls_by_function() -> dict[str, float]:
    """The same by function, the most often called first: `"file.py:line name"` to calls a page."""
    with _serving() as (base, work):
        few, many = (Counter(c) for c in json.loads(_inside([], "calls", base, work)).values())
    many.subtract(few)
    return {where: count / SPAN for where, count in many.most_common() if count}


@contextmanager
def _serving() -> Iterator[tuple[str, Path]]:
    """The shop's address, and a directory for the crawls."""
    with tempfile.TemporaryDirectory(prefix="cost-") as directory:
        place = Path(directory)
        with shop.shop(place, PAGES) as site:
            work = place / "work"
            work.mkdir()
            yield f"{site.base}/", work


def _inside(tool: list[str], figure: str, base: str, work: Path, **environ: str) -> str:
    """Run `benchmarks.counted` under *tool*; returns what it printed."""
    done = subprocess.run(
        [*tool, sys.executable, "-m", "benchmarks.counted", figure, base],
        cwd=work,
        # sets of strings come in the same order each time, and no setting of this machine counts
        env={n: v for n, v in os.environ.items() if not n.startswith("SCRAPE_")}
        | {"PYTHONPATH": str(HERE.parent), "PYTHONHASHSEED": "0", **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"counting {figure}: exit {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout


def _record(counts: dict[str, float]) -> None:
    made = {"made with": _here()}
    rounded = {name: round(count, 4) for name, count in counts.items()}
    RECORD.write_text(json.dumps(rounded | made, indent=2) + "\n", "utf-8")
    print(f"{RECORD.name}: {rounded}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--record", action="store_true", help="make the counts the record")
    parser.add_argument("--profile", action="store_true", help="calls a page by function")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="for callgrind's files")
    given = parser.parse_args()
    if given.profile:
        for where, count in calls_by_function().items():
            print(f"{count:8.2f}  {where}")
        return
    counts = {"instructions": instructions(given.keep), "calls": calls()}
    if given.record:
        _record(counts)
        return
    record = recorded()
    verdicts = []
    for figure in FIGURES:
        counted = counts[figure.name]
        print(f"{figure.name:14}{counted:8.3f} {figure.unit}; recorded: {record[figure.name]:.3f}")
        verdicts.append(figure.verdict(counted, record[figure.name]))
    sys.exit("\n\n".join(filter(None, verdicts)) or 0)


if __name__ == "__main__":
    main()
