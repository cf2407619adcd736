"""Counting different values: exact while few, near when many, the same in every process."""

from __future__ import annotations

import subprocess
import sys
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.sketch import EXACT, Distinct

SIGMA = 1.04 / 2048**0.5


def counted(values: list[bytes], by: int = 256) -> Distinct:
    distinct = Distinct()
    for start in range(0, len(values), by):
        distinct.add(values[start : start + by])
    return distinct


@given(st.sets(st.binary(max_size=20), max_size=200), st.integers(1, 50))
def test_few_are_counted_exactly(values: set[bytes], by: int) -> None:
    listed = sorted(values)
    assert len(counted(listed * 3, by)) == len(values)
    assert repr(counted(listed)) == f"<Distinct {len(values)}>"


def test_the_largest_exact_count() -> None:
    values = [str(n).encode() for n in range(EXACT)]
    assert len(counted(values)) == EXACT
    more = counted([*values, b"one more"])
    assert repr(more).startswith("<Distinct ≈ ")
    assert abs(len(more) - EXACT - 1) < 5 * SIGMA * EXACT


NAMES = [
    "{}", "{:09}", "http://127.0.0.1/catalogue/book-{}/index.html", "{}.99", "2024-{}", "\x00{}é",
]  # fmt: skip


@given(st.integers(EXACT + 1, 30_000), st.integers(0, 1 << 40), st.sampled_from(NAMES))
def test_many_are_counted_about(size: int, first: int, name: str) -> None:
    values = [name.format(n).encode() for n in range(first, first + size)]
    distinct = counted(values)
    assert abs(len(distinct) - size) < 5 * SIGMA * size
    before = len(distinct)
    distinct.add(values)  # again: nothing new
    assert len(distinct) == before


@pytest.mark.parametrize("size", [1_000_000])
def test_a_million(size: int) -> None:
    distinct = counted([b"%d" % n for n in range(size)])
    assert abs(len(distinct) - size) < 4 * SIGMA * size
    assert len(distinct.dump()) < 1_400


@given(st.integers(0, 5_000), st.randoms())
def test_the_order_does_not_matter_nor_a_pause(size: int, random: object) -> None:
    values = [b"%d" % n for n in range(size)]
    whole = counted(values)
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    half = counted(shuffled[: size // 2])
    resumed = Distinct.load(half.dump())
    assert len(resumed) == len(half)
    resumed.add(shuffled[size // 2 :])
    assert len(resumed) == len(whole)
    assert len(resumed.dump()) <= 5_500


def test_another_process_counts_the_same() -> None:
    code = (
        "from scraper.sketch import Distinct; d = Distinct();"
        " d.add(b'%d' % n for n in range(5000)); print(d.dump())"
    )
    ran = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert ran[0] == ran[1] == counted([b"%d" % n for n in range(5000)]).dump() + "\n"


@pytest.mark.parametrize(
    "text", ["", "=", "~", "=AAA", "=AAAA", "~AAAA", "x" + "A" * 8, "=" + "A" * 8000, "=é", "~\x00"]
)
def test_what_was_not_stored_is_refused(text: str) -> None:
    if text == "=":
        assert len(Distinct.load(text)) == 0
        return
    with pytest.raises(ValueError, match=r"."):
        Distinct.load(text)


def test_every_register_full_is_a_number_too() -> None:
    full = Distinct.load("~" + b64encode(b"\xff" * 1024).decode())
    assert len(full) > 10_000_000
