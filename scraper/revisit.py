"""Revisits: what is known of a page that is fetched again, so that only what is missing is added.

A page whose items were partly rejected keeps, with its request, a digest of each item that was
not. When it is fetched again, `were_there` says which of its items were there before: those that
are the same, wherever they stand now; and between two of these, by their places, those that have
changed. So an item that was delivered is not delivered again, neither when the page has others
on top of it by now, nor when the mended callback reads it otherwise.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any, NamedTuple

import pydantic_core

__all__ = ["Earlier", "digest", "entry", "were_there"]

_SETS = frozenset({set, frozenset})
_COUNTS = struct.Struct("<4I")


class Earlier(NamedTuple):
    """What earlier visits of a page came to, in numbers of 64 bits.

    `items`: of what the callback yielded at the last visit, in order, each an `entry`. `failed`:
    the same of the errback. `also`: digests of what visits before it delivered and it did not
    show. `links`: fingerprints of the requests with `unique=False` that were admitted.
    """

    items: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    also: tuple[int, ...] = ()
    links: tuple[int, ...] = ()

    def dump(self) -> bytes:
        """The stored form: four lengths, then the numbers, little-endian."""
        numbers = [number for part in self for number in part]
        return _COUNTS.pack(*map(len, self)) + struct.pack(f"<{len(numbers)}Q", *numbers)

    @classmethod
    def load(cls, data: bytes) -> Earlier:
        """What `dump` stored; of no bytes, a page that is new. Raises `ValueError`."""
        if not data:
            return cls()
        try:
            counts = _COUNTS.unpack_from(data)
            numbers = struct.unpack(f"<{sum(counts)}Q", data[_COUNTS.size :])
        except struct.error as error:
            raise ValueError(f"not what was stored of an earlier visit: {error}") from None
        parts, place = [], 0
        for count in counts:
            parts.append(numbers[place : place + count])
            place += count
        return cls(*parts)

    def known(self, *, failed: bool = False) -> tuple[Sequence[int], Sequence[int]]:
        """What `were_there` asks for, of the callback or the errback (*failed*).

        What the other of the two delivered is known as what an earlier visit did.
        """
        last, other = (self.failed, self.items) if failed else (self.items, self.failed)
        return last, (*self.also, *filter(_delivered, other))

    def after(
        self, visit: Sequence[int], links: Iterable[int] = (), *, failed: bool = False
    ) -> Earlier:
        """What is known after one more visit, whose items are the entries of *visit*.

        *failed*: they are the errback's. *links*: what it has admitted on top of earlier visits.
        """
        delivered = Counter(self.also)
        delivered.update(self.failed if failed else self.items)
        delivered.subtract(visit)
        also = tuple(filter(_delivered, delivered.elements()))
        known = (*self.links, *links)
        if failed:
            return Earlier(self.items, tuple(visit), also, known)
        return Earlier(tuple(visit), self.failed, also, known)


def _delivered(number: int) -> bool:
    """Whether an entry is one that can be told, and was not rejected."""
    return number > 0 and not number & 1


def entry(number: int, *, rejected: bool) -> int:
    """What is kept of an item whose digest is *number*: the lowest bit says that it is missing."""
    return number | rejected


def digest(name: str, values: Mapping[str, Any]) -> int:
    """An even number that tells an item from others: the *name* of its type, and its *values*.

    The same in every process. 0: it cannot be told.
    """
    if not _SETS.isdisjoint(map(type, values.values())):
        values = {  # the order of a set is another in each process
            key: sorted(map(repr, value)) if type(value) in _SETS else value
            for key, value in values.items()
        }
    try:
        data = pydantic_core.to_json(values, inf_nan_mode="strings")
    except Exception:  # noqa: BLE001 - the values' own code, or what JSON cannot hold
        try:
            data = repr(values).encode("utf-8", "backslashreplace")
        except Exception:  # noqa: BLE001 - as above
            return 0
    hashed = blake2b(data, digest_size=8)
    hashed.update(name.encode("utf-8", "backslashreplace"))  # JSON's end is told from a name
    return int.from_bytes(hashed.digest(), "little") & ~1


def were_there(before: Sequence[int], also: Iterable[int], now: Sequence[int]) -> list[bool]:
    """For each item of a visit, whether it is one that an earlier visit delivered.

    *before*: the entries of the last visit; *also*: digests of what visits before it delivered;
    *now*: digests. An item with a known digest is that one, each as often as it was there. Between
    two of these, what is left stands for what was left there, first for first: for one that was
    rejected, then it is missing; for one that was not, then it has changed since. What is more
    than there was, is new.
    """
    delivered, paired, known = _same(before, also, now)
    marks = [(-1, -1), *_in_order(paired), (len(now), len(before))]
    taken = {there for _, there in paired}
    for (here, there), (here_end, there_end) in pairwise(marks):
        old = (before[place] for place in range(there + 1, there_end) if place not in taken)
        new = (place for place in range(here + 1, here_end) if place not in known)
        for place, number in zip(new, old, strict=False):
            delivered[place] = not number & 1
    return delivered


def _same(
    before: Sequence[int], also: Iterable[int], now: Sequence[int]
) -> tuple[list[bool], list[tuple[int, int]], set[int]]:
    """Which items are as they were and were delivered; the pairs (place now, place before); and
    the places of all that are known.

    Of those with one digest the delivered ones come first: when in doubt, nothing comes twice.
    """
    places: defaultdict[int, list[int]] = defaultdict(list)
    for place in sorted(range(len(before)), key=lambda place: (~before[place] & 1, -place)):
        places[before[place] & ~1].append(place)
    others = Counter(also)
    delivered, paired, known = [False] * len(now), [], set()
    for place, number in enumerate(now):
        left = places.get(number) if number else None
        if left and not (before[left[-1]] & 1 and others[number] > 0):
            there = left.pop()
            paired.append((place, there))
            delivered[place] = not before[there] & 1
        elif number and others[number] > 0:
            others[number] -= 1
            delivered[place] = True
        else:
            continue
        known.add(place)
    return delivered, paired, known


def _in_order(paired: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The most of *paired* whose places rise on both sides: what was moved is no landmark."""
    tails: list[int] = []  # of rising rows of each length, the lowest last place
    ends: list[int] = []  # which pair that is
    back: list[int] = []
    for index, (_, there) in enumerate(paired):
        at = bisect_left(tails, there)
        back.append(ends[at - 1] if at else -1)
        tails[at : at + 1], ends[at : at + 1] = [there], [index]
    row: list[tuple[int, int]] = []
    index = ends[-1] if ends else -1
    while index >= 0:
        row.append(paired[index])
        index = back[index]
    return row[::-1]
