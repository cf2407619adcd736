"""What the harnesses are fed with: samples of the real thing, and ways to damage them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

__all__ = ["attempt", "cut", "examples", "from_data", "lines", "mutated"]

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

MOST_EDITS = 8
MOST_BYTES = 6_000


def examples(number: int, *, most: int = 5_000) -> settings:
    """*number* examples in the short form; in the long one *most*."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    if settings.get_current_profile_name() == "long":
        return settings(max_examples=most, suppress_health_check=slow)
    return settings(max_examples=number, suppress_health_check=slow)


def attempt(kind: type[E], run: Callable[[], T]) -> T | E:
    """What *run* gives, or the error of that *kind* by which it gives nothing."""
    try:
        return run()
    except kind as error:
        return error


@cache
def from_data(pattern: str) -> tuple[bytes, ...]:
    """The test data's files that *pattern* finds, none too long to damage; () without the data."""
    root = os.environ.get("SCRAPER_TEST_DATA", "")
    files = sorted(path for path in Path(root).glob(pattern) if path.is_file()) if root else []
    return tuple(path.read_bytes()[:MOST_BYTES] for path in files)


@st.composite
def mutated(draw: st.DrawFn, samples: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """A sample with a few edits: words put in, stretches lost, doubled, flipped or swapped for
    those of another sample, the end cut off."""
    data = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(0, MOST_EDITS))):
        at = draw(st.integers(0, len(data)))
        end = min(at + draw(st.sampled_from([1, 2, 7, 40, 400])), len(data))
        edit = draw(st.sampled_from(["word", "word", "lose", "double", "flip", "swap", "cut"]))
        if edit == "word":
            data[at:at] = draw(st.sampled_from(words))
        elif edit == "lose":
            del data[at:end]
        elif edit == "double":
            data[at:at] = data[at:end] * draw(st.sampled_from([1, 2, 20]))
        elif edit == "flip":
            mask = draw(st.integers(1, 255))
            data[at:end] = bytes(byte ^ mask for byte in data[at:end])
        elif edit == "swap":
            other = draw(st.sampled_from(samples))
            start = draw(st.integers(0, len(other)))
            data[at:end] = other[start : start + 200]
        else:
            del data[at:]
    return bytes(data[: 4 * MOST_BYTES])


def lines(words: Sequence[str], *, most: int = 12, end: str = "\n") -> st.SearchStrategy[bytes]:
    """Lines made of *words* and of nearly anything, in UTF-8 (surrogates and all)."""
    line = st.lists(st.sampled_from(words) | st.text(max_size=8), max_size=5).map("".join)
    return st.lists(line, max_size=most).map(
        lambda found: end.join(found).encode("utf-8", "surrogatepass")
    )


def cut(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """*data* in pieces, at any places."""

    def pieces(places: list[int]) -> list[bytes]:
        marks = [0, *sorted(places), len(data)]
        return [data[a:b] for a, b in pairwise(marks) if a < b]

    return st.lists(st.integers(0, len(data)), max_size=4).map(pieces)
