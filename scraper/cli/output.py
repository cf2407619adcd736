"""How commands speak: data to stdout, everything for people to stderr, control bytes escaped."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

__all__ = [
    "ArgumentOption",
    "DebugOption",
    "FreshOption",
    "JsonOption",
    "LimitOption",
    "OutputOption",
    "QuietOption",
    "SetOption",
    "StatisticsOption",
    "clean",
    "columns",
    "complain",
    "data",
    "note",
]

DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
ArgumentOption = Annotated[
    list[str] | None,
    typer.Option("--argument", "-a", metavar="NAME=VALUE", help="An argument of the spider."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="SECTION.KEY=VALUE", help="Override a setting."),
]
OutputOption = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write there instead; - is standard output."
    ),
]
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Start anew; what was unfinished is set aside.")
]
LimitOption = Annotated[int, typer.Option(metavar="N", min=0, help="Stop after exactly N items.")]
StatisticsOption = Annotated[
    bool, typer.Option("--json", help="Print the statistics as JSON, last on stdout.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")]
"""The last five belong to the commands that crawl: `run` and `demo`."""


def clean(text: object) -> str:
    """*text* on one line and without anything a terminal would obey."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def complain(message: str, hint: str = "") -> None:
    """What went wrong, and the way out, on stderr."""
    sys.stderr.write(f"scrape: {clean(message)}\n")
    for line in hint.splitlines():
        sys.stderr.write(f"        {clean(line)}\n")
    sys.stderr.flush()


def note(text: str = "") -> None:
    """A line for people, on stderr."""
    sys.stderr.write(f"{clean(text)}\n")


def data(text: str) -> None:
    """A line of data, on stdout."""
    sys.stdout.write(f"{text}\n")


def data_json(value: Any) -> None:
    """JSON, on stdout."""
    data(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def columns(rows: Iterable[Sequence[object]], heads: Sequence[str] = ()) -> None:
    """Aligned columns on stdout. On a terminal the last column is cut at its edge."""
    table = [[clean(cell) for cell in row] for row in rows]
    if heads:
        table.insert(0, list(heads))
    if not table:
        return
    widths = [max(len(row[n]) for row in table) for n in range(len(table[0]))]
    edge = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 0
    for row in table:
        line = "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        data(f"{line[: edge - 1]}…" if edge and len(line) > edge else line)


def when(at: datetime | None) -> str:
    """A date for people, in local time."""
    return f"{at.astimezone():%Y-%m-%d %H:%M}" if at is not None else "-"
