"""Entries: what a page came to, as bytes that another process can read.

::

    "SPE" version            4 bytes
    CRC-32, size of head     two numbers of 32 bits, little-endian; the CRC is of all that follows
    head                     JSON, see `Head`
    records                  bytes, one after the other

Entries longer than `SQUEEZED` bytes are compressed from the head on; then the version's highest bit
is set. Nothing in an entry is run or imported, and what `seal` has not made is refused.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NamedTuple
from zlib import crc32

import pydantic_core
import zstandard

from scraper.errors import DamagedState
from scraper.observation import Lost, Observation
from scraper.pipelines.page import Claim

__all__ = [
    "LARGEST",
    "MISREAD",
    "Head",
    "claims",
    "damaged",
    "is_json",
    "observation",
    "observed",
    "opened",
    "seal",
    "text",
    "texts",
]

LARGEST = 64 << 20
"""Bytes of an entry, at most."""

SQUEEZED = 64 << 10
LONGEST = 1 << 29
"""Bytes of an entry that is not compressed, or not any more."""

VERSION, PACKED = 1, 0x80
_START = struct.Struct("<3sBII")
_MAGIC = b"SPE"

_STR = frozenset({str})
_PLAIN = frozenset({type(None), bool, int, float, str})

MISREAD = (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError)
"""What it may raise to read what is no entry."""


class Head(NamedTuple):
    """What an entry says before its records.

    `page`: the request's number in the ledger. `outputs`: those of whoever made it. `stages`: the
    names of those that claim. `shapes`: of the items that are observed, type and fields. `items`:
    for each

    - 1 if it was delivered, else 0; the counters it adds to, [] for the usual one;
    - two numbers for each record: the place of its sink in the chain, and its size. A record that
      is JSON, and not bytes, has ~place;
    - unless there is no more to say: what is observed of it (0: nothing; [place in `shapes`,
      values]; [item, reason, rejected, fields] of one that was lost), and three numbers for each
      claim: the place of its stage, the key, how many records came before it.
    """

    page: int
    url: str
    outputs: int
    stages: Sequence[str]
    shapes: Sequence[Any]
    items: Sequence[Any]


def seal(head: Head, records: Sequence[bytes]) -> bytes:
    """The entry. One of more than `LARGEST` bytes is nothing to be passed on."""
    start = _json(head)
    rest, version = b"".join([start, *records]), VERSION
    if SQUEEZED < len(rest) <= LONGEST:
        rest, version = zstandard.ZstdCompressor(1).compress(rest), VERSION | PACKED
    return _START.pack(_MAGIC, version, crc32(rest), len(start)) + rest


def opened(entry: bytes) -> tuple[Head, bytes]:
    """The head of an entry, and its records. Raises `DamagedState`."""
    try:
        magic, version, crc, size = _START.unpack_from(entry)
    except struct.error:
        raise damaged(f"{len(entry)} bytes are less than there ever are") from None
    if magic != _MAGIC:
        raise damaged(f"it begins with {entry[:4]!r}")
    if version & ~PACKED != VERSION:
        raise DamagedState(
            f"an entry of the workers' output has version {version & ~PACKED}, and {VERSION} is the"
            " one that is known here",
            hint="Let all workers of a crawl run the same version.",
        )
    rest = entry[_START.size :]
    if crc32(rest) != crc:
        raise damaged("its checksum is another")
    try:
        if version & PACKED:
            rest = _unpacked(rest)
        if size > len(rest):
            raise ValueError(f"a head of {size} bytes in {len(rest)}")
        head = Head(*_from_json(rest[:size]))
        if not (type(head.page) is int and type(head.url) is str and type(head.outputs) is int):
            raise ValueError(f"{head[:3]!r:.100} does not name a page")
    except (*MISREAD, zstandard.ZstdError) as error:
        raise damaged(f"its head cannot be read: {error}") from None
    return head, rest[size:]


def _unpacked(data: bytes) -> bytes:
    size = zstandard.frame_content_size(data)
    if not 0 <= size <= LONGEST:
        raise ValueError(f"it says that it becomes {size:,} bytes")
    return zstandard.ZstdDecompressor().decompress(data)


def damaged(what: str) -> DamagedState:
    """The error for an entry that cannot be read."""
    return DamagedState(
        f"an entry of the workers' output is not what a worker put there: {what}"[:500],
        hint="Run with --fresh to start anew; the old state is set aside, not deleted.",
    )


def _json(value: Any) -> bytes:
    try:
        return pydantic_core.to_json(value, inf_nan_mode="constants")
    except (ValueError, RecursionError):  # a lone surrogate
        return json.dumps(value, separators=(",", ":")).encode()


def _from_json(data: bytes) -> Any:
    try:
        return pydantic_core.from_json(data)
    except ValueError:
        return json.loads(data)


def is_json(value: Any) -> bool:
    """Whether it is the same again after a way through JSON."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind is list:
        return all(map(is_json, value))
    return kind is dict and all(type(k) is str and is_json(v) for k, v in value.items())


def text(value: Any) -> str:
    """*value*, if it is one."""
    if type(value) is not str:
        raise TypeError(f"{value!r:.50} is no text")
    return value


def texts(values: Any) -> tuple[str, ...]:
    """*values*, if they are a list of texts."""
    if type(values) is not list or not _STR.issuperset(map(type, values)):
        raise TypeError(f"{values!r:.50} are no texts")
    return tuple(values)


def _number(value: Any, end: int) -> int:
    if type(value) is not int or not 0 <= value < end:
        raise ValueError(f"{value!r:.50} is no number below {end}")
    return value


# What is said of an item --------------------------------------------------------------------------


def claims(told: Sequence[Any], stages: Sequence[str], records: int) -> tuple[Claim, ...]:
    """The claims that `Head.items` tells of an item with so many *records*."""
    return tuple(
        Claim(
            text(stages[_number(place, len(stages))]),
            _number(key, 1 << 64),
            _number(after, records + 1),
        )
        for place, key, after in zip(told[::3], told[1::3], told[2::3], strict=True)
    )


def observed(noted: Observation | Lost, shapes: dict[tuple[Any, ...], int]) -> Any:
    """What `Head.items` has of it; its shape is added to *shapes*, if it is new."""
    if isinstance(noted, Lost):
        return noted
    kind, names, values = noted
    place = shapes.setdefault((kind, names), len(shapes))
    if date in (types := set(map(type, values))) or datetime in types:
        return place, [*map(_dated, values)]
    return place, values


def _dated(value: Any) -> Any:
    if type(value) is datetime:
        return {"datetime": value.isoformat()}
    return {"date": value.isoformat()} if type(value) is date else value


def observation(
    told: Sequence[Any], shapes: Sequence[tuple[str, tuple[str, ...]]]
) -> Observation | Lost:
    """What `observed` told of. Raises one of `MISREAD`, as all of these do."""
    if len(told) == 2:
        place, values = told
        kind, names = shapes[_number(place, len(shapes))]
        if len(values) != len(names):
            raise ValueError(f"{len(values)} values in {len(names)} fields of {kind!r:.50}")
        if not _PLAIN.issuperset(map(type, values)):
            values = map(_value, values)
        return kind, names, tuple(values)
    item, reason, rejected, fields = told
    pairs = tuple((text(name), text(message)) for name, message in fields)
    return Lost(text(item), text(reason), rejected is True, pairs)


def _value(value: Any) -> Any:
    """A value of an `Observation`: plain, a date, or what is left of it (`Sized`)."""
    if type(value) is list:
        kind, size, mark = value
        return text(kind), _number(size, 1 << 63), None if mark is None else text(mark)
    if type(value) is dict:
        ((kind, when),) = value.items()
        return {"date": date, "datetime": datetime}[kind].fromisoformat(when)
    return value
