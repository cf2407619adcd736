"""What a run delivered, in numbers: counts, fill rates, ranges, different values, rejects.

::

    observe(item)          in the worker: a small value that does not hold on to the item
        ↓
    Profile.add            in the scheduler, for what is really delivered; bounded whatever comes
        ↓
    Profile.summary()      plain values: stored with the job, shown, and compared (`scraper.drift`)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from scraper.errors import DamagedState
from scraper.observation import NAME, Lost, Observation, Sized
from scraper.sketch import Distinct

__all__ = ["KINDS", "OTHER", "Profile"]

OTHER = "(other)"
"""Stands for item types, fields and reasons beyond what is kept by name."""

MAX_ITEMS, MAX_FIELDS, MAX_SKETCHES, MAX_REASONS = 50, 100, 200, 20
"""Item types; fields of one; fields whose different values are counted; reasons of one kind."""

KINDS = ("text", "number", "flag", "date", "list", "object", "bytes")
"""Kinds of values. Numbers, flags and dates have a range themselves, of the others their length."""

BATCH = 256
"""Observations that are added at once: column by column, which costs half."""

VERSION = 1

Number = int | float
Part = tuple[str, int, Any, Any, Iterable[bytes]]
"""Values of one kind: its name, how many are filled, the least, the greatest, and all as bytes."""


@dataclass(slots=True)
class Range:
    """Values of one kind in a field."""

    count: int
    least: Any
    greatest: Any


@dataclass(slots=True)
class Field:
    """One field of one item type. `rejected`: items that were rejected for it; `because`: why."""

    filled: int = 0
    kinds: dict[str, Range] = field(default_factory=dict)
    distinct: Distinct | None = None
    rejected: int = 0
    because: Counter[str] = field(default_factory=Counter)

    def add(self, column: Sequence[Any]) -> None:
        """The field's values in some items."""
        types = set(map(type, column))
        for kind in types:
            values = column if len(types) == 1 else [v for v in column if type(v) is kind]
            for name, count, least, greatest, marks in _PARTS[kind](values):
                if not count:
                    continue
                self.filled += count
                if self.distinct is not None:
                    self.distinct.add(marks)
                known = self.kinds.get(name)
                if known is None:
                    self.kinds[name] = Range(count, least, greatest)
                else:
                    known.count += count
                    known.least = min(known.least, least)
                    known.greatest = max(known.greatest, greatest)


@dataclass(slots=True)
class Items:
    """One item type. `count`: delivered; `reasons`: of those `rejected`; `dropped`: by reason."""

    count: int = 0
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    fields: dict[str, Field] = field(default_factory=dict)


class Profile:
    """The numbers of one run. Grows with what there is to tell apart, and never beyond a bound."""

    def __init__(self) -> None:
        self._items: dict[str, Items] = {}
        self._sketches = 0
        self._pending: list[Observation] = []
        self._changed = False

    def add(self, observed: Observation | Lost) -> None:
        """An item was delivered, or was not."""
        self._changed = True
        if isinstance(observed, Lost):
            self._lose(observed)
            return
        self._pending.append(observed)
        if len(self._pending) >= BATCH:
            self._fold()

    def _lose(self, lost: Lost) -> None:
        if lost.item not in self._items:
            self._fold()  # what was delivered first has the model's fields in their order
        items = self._of(lost.item)
        if not lost.rejected:
            _count(items.dropped, lost.reason)
            return
        items.rejected += 1
        _count(items.reasons, lost.reason)
        for name, message in lost.fields:
            at_fault = self._field(items, name)
            at_fault.rejected += 1
            _count(at_fault.because, message)

    def regain(self, lost: Lost, number: int) -> None:
        """Items that were rejected do not count as such any more: they are tried again."""
        items = self._items.get(lost.item) or self._items.get(OTHER)
        if items is None:
            return
        self._changed = True
        items.rejected = max(items.rejected - number, 0)
        _discount(items.reasons, lost.reason, number)
        for name, message in lost.fields:
            at_fault = items.fields.get(name) or items.fields.get(OTHER)
            if at_fault is not None:
                at_fault.rejected = max(at_fault.rejected - number, 0)
                _discount(at_fault.because, message, number)
        if not (items.count or items.rejected or items.dropped):
            self._items = {name: one for name, one in self._items.items() if one is not items}

    def _fold(self) -> None:
        rows: dict[tuple[str, tuple[str, ...]], list[tuple[Any, ...]]] = {}
        for item, names, values in self._pending:
            rows.setdefault((item, names), []).append(values)
        self._pending.clear()
        for (item, names), alike in rows.items():
            items = self._of(item)
            items.count += len(alike)
            for name, column in zip(names, zip(*alike, strict=True), strict=True):
                self._field(items, name).add(column)

    def _of(self, item: str) -> Items:
        item = item[:NAME]
        if item not in self._items and len(self._items) >= MAX_ITEMS:
            item = OTHER
        return self._items.setdefault(item, Items())

    def _field(self, items: Items, name: str) -> Field:
        found = items.fields.get(name)
        if found is None:
            if len(items.fields) >= MAX_FIELDS:
                return items.fields.setdefault(OTHER, Field())
            found = items.fields[name] = Field()
            if self._sketches < MAX_SKETCHES:
                self._sketches += 1
                found.distinct = Distinct()
        return found

    @property
    def delivered(self) -> int:
        """Items that were added."""
        return sum(items.count for items in self._items.values()) + len(self._pending)

    # ── stored, and told

    def changed(self) -> bytes | None:
        """`dump`, when something was added since it was last called; else None."""
        if not self._changed:
            return None
        self._changed = False
        return self.dump()

    def dump(self) -> bytes:
        """All of it, for `load`: compact JSON."""
        self._fold()
        stored = {
            name: [
                items.count,
                items.rejected,
                items.reasons,
                items.dropped,
                {name: _stored(one) for name, one in items.fields.items()},
            ]
            for name, items in self._items.items()
        }
        return json.dumps({"version": VERSION, "items": stored}, separators=(",", ":")).encode()

    @classmethod
    def restored(cls, state: Mapping[str, bytes]) -> Profile:
        """The profile among a ledger's blobs; an empty one if there is none."""
        return cls.load(state["quality"]) if "quality" in state else cls()

    @classmethod
    def load(cls, data: bytes) -> Profile:
        """What `dump` gave. Raises `DamagedState` for anything else."""
        profile = cls()
        try:
            stored = json.loads(data)
            if stored["version"] != VERSION:
                raise ValueError(stored["version"])
            for name, (count, rejected, reasons, dropped, fields) in stored["items"].items():
                profile._items[name] = Items(
                    int(count),
                    int(rejected),
                    Counter(reasons),
                    Counter(dropped),
                    {name: _restored(*one) for name, one in fields.items()},
                )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DamagedState(
                f"what the ledger says of the items' quality cannot be read: {error}",
                hint="Run with --fresh to start anew; the old state is set aside, not deleted.",
            ) from None
        profile._sketches = sum(
            one.distinct is not None
            for items in profile._items.values()
            for one in items.fields.values()
        )
        return profile

    def summary(self) -> dict[str, Any]:
        """By item type, most first: plain values that JSON can hold.

        `count`, `rejected`, `reasons`, `dropped` (by reason), and `fields`: by name, in the order
        in which they came, each with `filled`, `fill` (their share of `count`, None without items),
        `distinct` (about how many different values; None where they are not counted), `kinds`,
        `rejected` (items that were rejected for it) and `because` (by message). `kinds`: for each
        kind of value its `count`, `min` and `max`: of a number, flag or date itself, of the length
        of text, lists, bytes and objects.
        """
        self._fold()
        ordered = sorted(self._items.items(), key=lambda pair: (-pair[1].count, pair[0]))
        return {name: _summary(items) for name, items in ordered}

    def __repr__(self) -> str:
        kinds = ", ".join(f"{items.count:,} {name}" for name, items in self._items.items())
        return f"<Profile {kinds or 'empty'}>"


def _count(counter: Counter[str], name: str) -> None:
    counter[name if name in counter or len(counter) < MAX_REASONS else OTHER] += 1


def _discount(counter: Counter[str], name: str, number: int) -> None:
    """Undo `_count`. Who asks may not know the name any more: then it is one of those there."""
    for place in (name, OTHER, *(place for place, _ in counter.most_common())):
        taken = min(counter[place], number)
        counter[place] -= taken
        number -= taken
    counter += Counter()  # only what is left


def _stored(one: Field) -> list[Any]:
    kinds = {name: [r.count, r.least, r.greatest] for name, r in one.kinds.items()}
    distinct = one.distinct.dump() if one.distinct is not None else None
    return [one.filled, kinds, distinct, one.rejected, one.because]


def _restored(filled: Any, kinds: Any, distinct: Any, rejected: Any, because: Any) -> Field:
    return Field(
        int(filled),
        {name: Range(*values) for name, values in kinds.items()},
        Distinct.load(distinct) if distinct is not None else None,
        int(rejected),
        Counter(because),
    )


def _summary(items: Items) -> dict[str, Any]:
    return {
        "count": items.count,
        "rejected": items.rejected,
        "reasons": dict(items.reasons.most_common()),
        "dropped": dict(items.dropped.most_common()),
        "fields": {
            name: {
                "filled": one.filled,
                "fill": round(one.filled / items.count, 4)
                if items.count and name != OTHER
                else None,
                "distinct": len(one.distinct) if one.distinct is not None else None,
                "kinds": {
                    kind: {"count": r.count, "min": r.least, "max": r.greatest}
                    for kind, r in one.kinds.items()
                },
                "rejected": one.rejected,
                "because": dict(one.because.most_common()),
            }
            for name, one in items.fields.items()
        },
    }


# Columns ----------------------------------------------------------------------------------------


def _nothing(values: Sequence[Any]) -> Iterable[Part]:
    return ()


def _texts(values: Sequence[str]) -> Iterable[Part]:
    present = [v for v in values if v and not v.isspace()]
    sizes = list(map(len, present))
    return [("text", len(present), min(sizes, default=0), max(sizes, default=0), _utf8(present))]


def _utf8(texts: Iterable[str]) -> Iterable[bytes]:
    different = set(texts)
    try:
        return list(map(str.encode, different))
    except UnicodeEncodeError:
        return [text.encode("utf-8", "surrogatepass") for text in different]


def _flags(values: Sequence[bool]) -> Iterable[Part]:
    return [("flag", len(values), min(values), max(values), [b"%d" % v for v in set(values)])]


def _numbers(values: Sequence[Number]) -> Iterable[Part]:
    finite = [v for v in values if v - v == 0]  # NaN and infinities are null in what is written
    marks = [repr(v).encode() for v in set(finite)]
    return [("number", len(finite), min(finite, default=0), max(finite, default=0), marks)]


def _dates(values: Sequence[date]) -> Iterable[Part]:
    texts = list(map(_iso, values))
    return [("date", len(texts), min(texts), max(texts), _utf8(texts))]


def _iso(value: date) -> str:
    """ISO 8601, in an order that is that of time as long as a field's dates are of one sort."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        with suppress(OverflowError, ValueError):  # at the ends of the calendar
            value = value.astimezone(UTC)
    return value.isoformat()


def _sized(values: Sequence[Sized]) -> Iterable[Part]:
    return [
        (kind, 1, size, size, () if mark is None else _utf8((mark,))) for kind, size, mark in values
    ]


_PARTS: dict[type, Callable[[Any], Iterable[Part]]] = {
    type(None): _nothing,
    str: _texts,
    bool: _flags,
    int: _numbers,
    float: _numbers,
    date: _dates,
    datetime: _dates,
    tuple: _sized,
}
"""The types of what an `Observation` holds."""
