"""What of a page that is fetched again was there before."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.revisit import Earlier, digest, entry, were_there

numbers = st.integers(1, 2**63 - 1).map(lambda n: n * 2)
few = st.integers(1, 9).map(lambda n: n * 2)  # so that some come twice
entries = st.lists(st.tuples(few | st.just(0), st.booleans()))


def kept(visit: list[tuple[int, bool]]) -> list[int]:
    return [entry(number, rejected=rejected) for number, rejected in visit]


@given(st.tuples(*(st.lists(st.integers(0, 2**64 - 1)).map(tuple) for _ in range(4))))
def test_stored_and_loaded(parts: tuple[tuple[int, ...], ...]) -> None:
    earlier = Earlier(*parts)
    assert Earlier.load(earlier.dump()) == earlier


def test_what_is_new_and_what_is_no_earlier_visit() -> None:
    assert Earlier.load(b"") == Earlier()
    for data in (b"x", b"\x01\0\0\0" * 4, Earlier((2,)).dump() + b"\0"):
        with pytest.raises(ValueError, match="not what was stored"):
            Earlier.load(data)


# -- which items were there ------------------------------------------------------------------

A, B, C, D, E, F = (n * 2 for n in range(101, 107))


def there(before: str, now: str, also: str = "") -> str:
    """Items as letters: capitals were delivered before, and small ones rejected."""
    digests = {letter: (ord(letter) - 64) * 2 for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    visit = [entry(digests[x.upper()], rejected=x.islower()) for x in before]
    found = were_there(visit, [digests[x] for x in also], [digests.get(x, 0) for x in now])
    return "".join("-" if was else x for x, was in zip(now, found, strict=True))


@pytest.mark.parametrize(
    ("before", "now", "added"),
    [
        ("", "AB", "AB"),
        ("ABC", "ABC", "---"),
        ("AxC", "ABC", "-B-"),  # rejected, and mended
        ("aBC", "ABC", "A--"),  # rejected by a stage: the item itself is the same
        ("Ax", "A", "-"),  # the rejected one is gone
        ("AxC", "NMABC", "NM-B-"),  # others came on top, and what is known moved down
        ("xABC", "NXABC", "NX---"),
        ("ABCx", "NABC", "N---"),  # and pushed the last one off
        ("AxC", "CBA", "-B-"),  # another order
        ("AxC", "ABCN", "-B-N"),  # more than before
        ("AxCy", "NBMD", "-B-D"),  # all of it reads otherwise now: by place
        ("xABy", "AB", "--"),  # the header row is left out now, as is the last
        ("xA", "BCA", "BC-"),  # more in a rejected one's place
        ("Ax", "N", "-"),  # A, changed; or the other: never twice
        ("AA", "AAA", "--A"),  # as often as it was there
        ("Aa", "AA", "-A"),
        ("aA", "A", "-"),
    ],
)
def test_were_there(before: str, now: str, added: str) -> None:
    assert there(before, now) == added


def test_what_a_visit_before_the_last_delivered() -> None:
    assert there("Ax", "ABC", also="C") == "-B-"
    assert there("Ax", "CAB", also="C") == "--B"
    assert there("x", "CC", also="C") == "-C"


def test_what_cannot_be_told_counts_by_its_place() -> None:
    assert were_there([0, entry(0, rejected=True), 0], [], [0, 0, 0, 0]) == [
        True,
        False,
        True,
        False,
    ]


@given(entries, st.lists(few), st.lists(few | st.just(0)))
def test_no_more_than_there_was_is_left_out(
    visit: list[tuple[int, bool]], also: list[int], now: list[int]
) -> None:
    found = were_there(kept(visit), also, now)
    assert len(found) == len(now)
    assert sum(found) <= sum(not rejected for _, rejected in visit) + len(also)


@given(entries)
def test_the_same_page_adds_what_was_rejected(visit: list[tuple[int, bool]]) -> None:
    """Whatever is read otherwise in place of a rejected item, what was delivered stays out."""
    mended = [0 if rejected else number for number, rejected in visit]
    assert were_there(kept(visit), [], mended) == [not rejected for _, rejected in visit]


@given(st.lists(numbers, unique=True), st.lists(numbers, unique=True), st.data())
def test_what_is_known_is_left_out_wherever_it_stands(
    old: list[int], new: list[int], data: st.DataObject
) -> None:
    new = [number for number in new if number not in old]
    page = data.draw(st.permutations(old + new))
    found = were_there(old, [], page)
    assert all(was for number, was in zip(page, found, strict=True) if number in old)
    assert sum(found) == len(old)


@given(entries, entries, entries)
def test_nothing_is_forgotten(
    first: list[tuple[int, bool]], second: list[tuple[int, bool]], third: list[tuple[int, bool]]
) -> None:
    """What was delivered at any visit is known at all later ones."""
    earlier = Earlier().after(kept(first)).after(kept(second))
    known = Counter(n for n, rejected in first if n and not rejected)
    known |= Counter(n for n, rejected in second if n and not rejected)
    settled = Counter(n for n in earlier.items if n and not n & 1) + Counter(earlier.also)
    assert settled == known
    now = [number for number, _ in third]
    found = were_there(earlier.items, earlier.also, now)
    for number, times in Counter(n for n in now if n).items():
        left_out = sum(was for n, was in zip(now, found, strict=True) if n == number)
        assert left_out >= min(times, known[number])


def test_errbacks_and_callbacks_are_apart() -> None:
    earlier = Earlier().after([A, B | 1], [7]).after([C], [8], failed=True)
    assert earlier == Earlier((A, B | 1), (C,), (), (7, 8))
    assert earlier.after([D], failed=True) == Earlier((A, B | 1), (D,), (C,), (7, 8))


# -- digests ---------------------------------------------------------------------------------


@given(st.text(), st.dictionaries(st.text(), st.integers() | st.text() | st.floats()))
def test_a_digest_is_even_and_64_bits(name: str, values: dict[str, Any]) -> None:
    found = digest(name, values)
    assert 0 <= found < 2**64
    assert found % 2 == 0
    assert found == digest(name, dict(values))


def test_what_differs_differs() -> None:
    values = {
        "a": 1,
        "b": Decimal("1.50"),
        "c": [1, {"d": None}],
        "at": datetime(2024, 1, 1, tzinfo=UTC),
    }
    others = [
        ("Item", values),
        ("Other", values),
        ("Item", {**values, "a": 2}),
        ("Item", {**values, "c": [1, {"d": 0}]}),
        ("Item", {**values, "e": None}),
        ("Item", {}),
    ]
    assert len({digest(name, given) for name, given in others}) == len(others)


class Odd:
    def __repr__(self) -> str:
        raise ValueError("no")


@pytest.mark.parametrize(
    "value", [b"\xff\0", "\ud800", float("nan"), {1, 2}, object, Odd, {("a",): 1}, 10**400]
)
def test_whatever_it_holds(value: Any) -> None:
    assert digest("Item", {"a": value}) == digest("Item", {"a": value}) != 0


def test_what_cannot_be_told() -> None:
    assert digest("Item", {"a": Odd()}) == 0
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert digest("Item", {"a": deep}) in (0, digest("Item", {"a": deep}))


def test_the_same_in_every_process() -> None:
    script = (
        "from scraper.revisit import digest;"
        "print(digest('Item', {'a': {'x', 'y', 'z', 'w'}, 'b': frozenset('qwertz'), 'c': 1.5}))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    }
    assert len(said) == 1
