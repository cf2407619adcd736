"""Parts of an output: how its files are made, and how many records each of them takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scraper.errors import DamagedState
from scraper.pipelines.appendfile import AppendFile, Mode
from scraper.pipelines.compression import COMPRESSED
from scraper.pipelines.paths import placeholders

__all__ = ["Shape", "Stream", "framed", "numbered", "room_for", "streams_of"]


@dataclass(frozen=True, slots=True)
class Shape:
    """How the files of a sink are made.

    `records`, `size`: of one part, at most (bytes as they lie in the file; 0: no parts). `opening`:
    the bytes that a stream's files begin with, from its name. `between`: those that part two
    records. `closing`: those that end a file, from the stream's name and whether it is empty.
    """

    mode: Mode = "replace"
    terminator: bytes = b"\n"
    keep_empty: bool = True
    opening: Callable[[str], bytes] = lambda stream: b""
    between: bytes = b""
    closing: Callable[[str, bool], bytes] = lambda stream, empty: b""
    records: int = 0
    size: int = 0

    @property
    def parts(self) -> bool:
        return bool(self.records or self.size)


@dataclass(slots=True)
class Stream:
    """One name's files. `size`, `records`: of part number `part`, which takes the records.

    `first`: part 1, which stays claimed while the crawl runs: nobody else begins the stream then.
    `file`: the part that takes records. Both while they are open.
    """

    name: str
    part: int = 1
    size: int = 0
    records: int = 0
    first: AppendFile | None = None
    file: AppendFile | None = None


def framed(lead: bytes, records: Sequence[bytes], between: bytes, first: bool) -> Sequence[bytes]:
    """The bytes of a group. *lead*: what stands before it. *first*: no record does."""
    if between:
        head, *rest = records
        records = [head if first else between + head, *(between + record for record in rest)]
    return [lead, *records] if lead else records


def room_for(
    records: Sequence[bytes], stream: Stream, shape: Shape, lead: int, compressed: bool
) -> int:
    """How many of *records* the stream's last part takes: at least one, if it is empty.

    *lead*: bytes that are to stand before them.
    """
    room = len(records)
    if shape.records:
        room = max(0, min(room, shape.records - stream.records))
    if not shape.size:
        return room
    left = shape.size - stream.size - lead - len(shape.closing(stream.name, False))
    if compressed:
        # How much smaller they get is known afterwards: what is left is filled step by step, until
        # a step is not worth the while. What cannot be compressed grows a little.
        left = left * 1000 // 1001 - 100 if left > shape.size // 50 else 0
    for place in range(room):
        left -= len(records[place]) + len(shape.between)
        if left < 0 and stream.records + place:
            return place
    return room


def numbered(template: str) -> str:
    """*template* with a place for the part's number: `x.csv.gz` → `x-{part}.csv.gz`."""
    if "part" in placeholders(template):
        return template
    path, endings = Path(template), ""
    if path.suffix.lower() in COMPRESSED:
        endings, path = path.suffix, path.with_suffix("")
    return str(path.with_name(f"{path.stem}-{{part}}{path.suffix}{endings}"))


def streams_of(position: Any, base: Path) -> dict[str, tuple[int, int, int]]:
    """Part, bytes and records of each stream of a stored position. Raises `DamagedState`."""
    try:
        found = {
            str(name): (int(part), int(size), int(records))
            for name, (part, size, records) in dict(position or {}).items()
        }
    except (TypeError, ValueError, OverflowError):
        found = {"": (0, 0, 0)}
    if any(part < 1 or size < 0 or records < 0 for part, size, records in found.values()):
        raise DamagedState(f"{base}: {position!r} is not a position of it")
    return found
