"""The relay: how what a page staged gets from the worker that fetched it to the one that writes it.

In a shared crawl one worker writes the outputs, in the order in which all of them commit. What a
page's sinks staged travels there as an *entry*::

    "SPE" version            4 bytes
    CRC-32, size of head     two numbers of 32 bits, little-endian; the CRC is of all that follows
    head                     JSON, see `_Head`
    records                  bytes, one after the other

Entries longer than `SQUEEZED` bytes are compressed from the head on; then the version's highest bit
is set. Nothing in an entry is run or imported, and what `Relay.dump` has not made is refused.
"""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple
from zlib import crc32

import pydantic_core
import zstandard

from scraper import urls
from scraper.errors import ConfigError, DamagedState, ExtractionError, ItemInvalid
from scraper.observation import Lost, Observation, lost
from scraper.pipelines import quarantine
from scraper.pipelines.chain import Chain
from scraper.pipelines.page import DEFAULT, Claim, Fault, Spilled, StagedItem, StagedPage
from scraper.protocols import Sink

__all__ = ["LARGEST", "MOST", "Relay"]

log = logging.getLogger("scraper.crawl")

MOST = 32 << 20
"""Bytes that a page may stage in a shared crawl: its `Limits.page`."""

LARGEST = 64 << 20
"""Bytes of an entry, at most."""

SQUEEZED = 64 << 10
LONGEST = 1 << 29
"""Bytes of an entry that is not compressed, or not any more."""

TOLD = 3
"""Items rejected here that are told one by one."""

VERSION, PACKED = 1, 0x80
_START = struct.Struct("<3sBII")
_MAGIC = b"SPE"

_ITEMS = ("items",)
_STR = frozenset({str})
_PLAIN = frozenset({type(None), bool, int, float, str})
_MISREAD = (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError)
"""What it may raise to read what is no entry."""


class _Head(NamedTuple):
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


class Relay:
    """Makes entries of pages, and pages of entries, for the outputs of *chain*, which is open.

    `seen`: types of the items that were loaded, as far as items are observed.
    """

    def __init__(self, chain: Chain, spider: str = "") -> None:
        self.seen: set[str] = set()
        self._spider = spider
        self._sinks = chain.sinks
        self._rejected = chain.rejected
        self._outputs = crc32("\0".join(sink.key for sink in chain.sinks).encode())
        self._places = {id(sink): place for place, sink in enumerate(chain.sinks)}
        fits = {id(sink): getattr(sink, "fit", None) for sink in chain.sinks}
        self._fits: dict[int, Callable[[Any], Any]] = {n: fit for n, fit in fits.items() if fit}
        self._told = 0

    # ── in the worker that fetched the page

    def dump(self, page: StagedPage) -> bytes:
        """The entry of *page*, whose callback is through. The page is left as it is.

        Raises `ConfigError` for a record that is neither bytes nor JSON, and
        `ExtractionError("output_too_large")` for an entry of more than `LARGEST` bytes.
        """
        stages: dict[str, int] = {}
        shapes: dict[tuple[Any, ...], int] = {}
        parts: list[bytes] = [b""]
        items = [self._told_of(item, page, stages, shapes, parts) for item in page.items]
        head = [page.number, page.url, self._outputs, [*stages], [*shapes], items]
        parts[0] = _json(head)
        rest, version = b"".join(parts), VERSION
        if len(rest) > SQUEEZED:
            version |= PACKED
            rest = zstandard.ZstdCompressor().compress(rest) if len(rest) <= LONGEST else rest
        if len(rest) > LARGEST:
            raise ExtractionError(
                "output_too_large",
                f"the items of {urls.redact(page.url)} take {len(rest):,} bytes together, more than"
                f" the {LARGEST:,} that workers pass on to each other",
                hint="Let the callback yield less from one page.",
            )
        return _START.pack(_MAGIC, version, crc32(rest), len(parts[0])) + rest

    def _told_of(
        self,
        item: StagedItem,
        page: StagedPage,
        stages: dict[str, int],
        shapes: dict[tuple[Any, ...], int],
        parts: list[bytes],
    ) -> list[Any]:
        records: list[int] = []
        for sink, record, _ in item.records:
            place = self._places[id(sink)]
            if type(record) is Spilled:
                record = page.read(record)
            elif type(record) is not bytes:
                record, place = _as_json(sink, record, page), ~place
            parts.append(record)
            records += (place, len(record))
        counted = item.counted
        told = [1 if item.delivered else 0, [] if counted == _ITEMS else counted, records]
        observed = item.observed
        if observed is not None or item.claims:
            told.append(0 if observed is None else _observed(observed, shapes))
            for claim in item.claims:
                told += (stages.setdefault(claim.stage, len(stages)), claim.key, claim.after)
        return told

    # ── in the worker that writes

    def load(self, entry: bytes) -> StagedPage:
        """The page that *entry* was made of, its records for the sinks of this chain.

        Entries are loaded in their order. What does not fit an output, as it has become by then, is
        rejected here (`schema`), as its sink rejects what comes to it in a crawl of one process.
        Raises `DamagedState` for what `dump` has not made for these outputs.
        """
        head, body = _opened(entry)
        if head.outputs != self._outputs:
            raise DamagedState(
                f"what {urls.redact(head.url)} came to was meant for other outputs than"
                f" {', '.join(sink.key for sink in self._sinks)}",
                hint="Let all workers of a crawl run with the same pipelines.",
            )
        page = _Relayed(head)
        try:
            self._fill(page, head, body)
        except _MISREAD as error:
            raise _damaged(f"{urls.redact(head.url)}: {error}") from None
        if self._fits:
            for item in page.items:
                self._fit(item, page)
        for item in page.items:
            for _, _, size in item.records:
                page.staged += size
        return page

    def _fill(self, page: StagedPage, head: _Head, body: bytes) -> None:
        sinks, items, at, last = self._sinks, page.items, 0, len(body)
        shapes = [(_text(kind), _texts(names)) for kind, names in head.shapes]
        self.seen.update([kind for kind, _ in shapes])
        for told in head.items:
            delivered, counted, records = told[:3]
            item = StagedItem(delivered == 1, _texts(counted) if counted else _ITEMS)
            items.append(item)
            numbers = iter(records)
            for place, size in zip(numbers, numbers, strict=True):
                end = at + size
                if not at <= end <= last:
                    raise ValueError(f"a record from byte {at} to {end} of {last}")
                record: Any = body[at:end]
                if place < 0:
                    record, place = json.loads(record), ~place
                item.records.append((sinks[place], record, size))
                at = end
            if len(told) > 3:
                item.observed = _observation(told[3], shapes) if told[3] else None
                if len(told) > 4:
                    item.claims = _claims(told[4:], head.stages, len(item.records))
        if at != last:
            raise ValueError(f"{last - at} bytes belong to no item")

    def _fit(self, item: StagedItem, page: StagedPage) -> None:
        """Let the sinks that have a say of it look at the item's records."""
        for n, (sink, record, _) in enumerate(item.records):
            fit = self._fits.get(id(sink))
            if fit is None:
                continue
            try:
                record = fit(record)
            except ItemInvalid as error:
                self._reject(item, page, sink, error)
                return
            except _MISREAD as error:
                raise DamagedState(
                    f"pipeline {type(sink).__name__}: fit() cannot read what came of"
                    f" {urls.redact(page.url)}: {type(error).__name__}: {error}"[:500],
                    hint="Let all workers of a crawl run the same code.",
                ) from error
            item.records[n] = (sink, record, len(record))

    def _reject(self, item: StagedItem, page: StagedPage, sink: Sink, error: ItemInvalid) -> None:
        reason, stage = error.reason, type(sink).__name__
        errors = quarantine.field_errors(error)
        item.records.clear()
        item.claims = ()
        item.delivered, item.counted = False, ("rejected", f"reason:{reason}")
        item.fault = Fault(reason, error.model, quarantine.in_brief(errors), stage)
        page.faulty = True
        if item.observed is not None:
            item.observed = lost(error.model, reason, errors)
        if self._rejected is not None:
            line = quarantine.record(
                reason,
                item=error.model,
                url=page.url,
                errors=errors,
                values=error.raw,
                stage=stage,
                spider=self._spider,
                page=self._rejected.name_of(page.number),
            )
            item.records.append((self._rejected, line, len(line)))
        self._told += 1
        log.log(
            logging.WARNING if self._told <= TOLD else logging.DEBUG, "rejected: %s", error.message
        )


class _Relayed(StagedPage):
    """A page as it came: it has no request any more, but its number."""

    __slots__ = ()

    def __init__(self, head: _Head) -> None:
        self.number, self.url = head.page, head.url
        self.items = []
        self.staged = self._held = self._end = 0
        self.faulty = False
        self.limits = DEFAULT
        self._shown = []
        self._file = None


# Reading and writing ------------------------------------------------------------------------------


def _opened(entry: bytes) -> tuple[_Head, bytes]:
    """The head of an entry, and its records. Raises `DamagedState`."""
    try:
        magic, version, crc, size = _START.unpack_from(entry)
    except struct.error:
        raise _damaged(f"{len(entry)} bytes are less than there ever are") from None
    if magic != _MAGIC:
        raise _damaged(f"it begins with {entry[:4]!r}")
    if version & ~PACKED != VERSION:
        raise DamagedState(
            f"an entry of the workers' output has version {version & ~PACKED}, and {VERSION} is the"
            " one that is known here",
            hint="Let all workers of a crawl run the same version.",
        )
    rest = entry[_START.size :]
    if crc32(rest) != crc:
        raise _damaged("its checksum is another")
    try:
        if version & PACKED:
            rest = _unpacked(rest)
        if size > len(rest):
            raise ValueError(f"a head of {size} bytes in {len(rest)}")
        head = _Head(*_from_json(rest[:size]))
        if not (type(head.page) is int and type(head.url) is str and type(head.outputs) is int):
            raise ValueError(f"{head[:3]!r:.100} does not name a page")
    except (*_MISREAD, zstandard.ZstdError) as error:
        raise _damaged(f"its head cannot be read: {error}") from None
    return head, rest[size:]


def _unpacked(data: bytes) -> bytes:
    size = zstandard.frame_content_size(data)
    if not 0 <= size <= LONGEST:
        raise ValueError(f"it says that it becomes {size:,} bytes")
    return zstandard.ZstdDecompressor().decompress(data)


def _damaged(what: str) -> DamagedState:
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


def _as_json(sink: Sink, record: Any, page: StagedPage) -> bytes:
    """A record that is no bytes. Raises `ConfigError` when it is no JSON either."""
    try:
        if _is_json(record):
            return json.dumps(record, separators=(",", ":")).encode()
    except RecursionError:
        pass
    raise ConfigError(
        f"pipeline {type(sink).__name__} ({sink.key}) has staged a {type(record).__name__} for"
        f" {urls.redact(page.url)}, which one worker cannot pass on to another",
        hint="Let process() stage bytes, or what JSON can say: dicts whose keys are texts, lists,"
        " texts, numbers, True, False and None. Or crawl with one process.",
    )


def _is_json(value: Any) -> bool:
    """Whether it is the same again after a way through JSON."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind is list:
        return all(map(_is_json, value))
    return kind is dict and all(type(k) is str and _is_json(v) for k, v in value.items())


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"{value!r:.50} is no text")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if type(values) is not list or not _STR.issuperset(map(type, values)):
        raise TypeError(f"{values!r:.50} are no texts")
    return tuple(values)


def _number(value: Any, end: int) -> int:
    if type(value) is not int or not 0 <= value < end:
        raise ValueError(f"{value!r:.50} is no number below {end}")
    return value


def _claims(told: Sequence[Any], stages: Sequence[str], records: int) -> tuple[Claim, ...]:
    return tuple(
        Claim(
            _text(stages[_number(place, len(stages))]),
            _number(key, 1 << 64),
            _number(after, records + 1),
        )
        for place, key, after in zip(told[::3], told[1::3], told[2::3], strict=True)
    )


# What is observed of an item ----------------------------------------------------------------------


def _observed(observed: Observation | Lost, shapes: dict[tuple[Any, ...], int]) -> Any:
    if isinstance(observed, Lost):
        return observed
    kind, names, values = observed
    place = shapes.setdefault((kind, names), len(shapes))
    if date in (types := set(map(type, values))) or datetime in types:
        return place, [*map(_dated, values)]
    return place, values


def _dated(value: Any) -> Any:
    if type(value) is datetime:
        return {"datetime": value.isoformat()}
    return {"date": value.isoformat()} if type(value) is date else value


def _observation(
    told: Sequence[Any], shapes: Sequence[tuple[str, tuple[str, ...]]]
) -> Observation | Lost:
    if len(told) == 2:
        place, values = told
        kind, names = shapes[_number(place, len(shapes))]
        if len(values) != len(names):
            raise ValueError(f"{len(values)} values in {len(names)} fields of {kind!r:.50}")
        if not _PLAIN.issuperset(map(type, values)):
            values = map(_value, values)
        return kind, names, tuple(values)
    item, reason, rejected, fields = told
    pairs = tuple((_text(name), _text(message)) for name, message in fields)
    return Lost(_text(item), _text(reason), rejected is True, pairs)


def _value(value: Any) -> Any:
    """A value of an `Observation`: plain, a date, or what is left of it (`Sized`)."""
    if type(value) is list:
        kind, size, mark = value
        return _text(kind), _number(size, 1 << 63), None if mark is None else _text(mark)
    if type(value) is dict:
        ((kind, text),) = value.items()
        return {"date": date, "datetime": datetime}[kind].fromisoformat(text)
    return value
