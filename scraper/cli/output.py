"""How commands speak: data to stdout, everything for people to stderr.

What is told leaves without secrets and control bytes; what is data, such as items, goes as it is.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from scraper.redaction import redacted, redacted_json

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
    "told",
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


OBEYED = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What JSON leaves as it is: C1 controls, and what turns the direction of writing."""


def clean(text: object) -> str:
    """*text* on one line and without anything a terminal would obey."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def told(text: object) -> str:
    """*text* as it may be told: on one line, without secrets."""
    return clean(redacted(str(text)))


def complain(message: str, hint: str = "") -> None:
    """What went wrong, and the way out, on stderr."""
    sys.stderr.write(f"scrape: {told(message)}\n")
    for line in hint.splitlines():
        sys.stderr.write(f"        {told(line)}\n")
    sys.stderr.flush()


def note(text: str = "") -> None:
    """A line for people, on stderr."""
    sys.stderr.write(f"{told(text)}\n")


def data(text: str) -> None:
    """A line of data, on stdout."""
    sys.stdout.write(f"{text}\n")


def told_json(value: Any, *, indent: int | None = None) -> str:
    """What is told of a crawl, as JSON without secrets: on one line, unless *indent* is given."""
    return harmless_json(redacted_json(value), indent=indent)


def harmless_json(value: Any, *, indent: int | None = None) -> str:
    """*value* as JSON with nothing in it that a terminal would obey."""
    text = json.dumps(
        value, ensure_ascii=False, indent=indent, default=lambda other: redacted(str(other))
    )
    return OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def data_json(value: Any) -> None:
    """What is told, as JSON on stdout."""
    data(told_json(value, indent=2))


def columns(rows: Iterable[Sequence[object]], heads: Sequence[str] = ()) -> None:
    """Aligned columns on stdout. On a terminal the last column is cut at its edge."""
    table = [[told(cell) for cell in row] for row in rows]
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
