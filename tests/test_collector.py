"""The garbage collector while a crawl runs, and after it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from scraper.collector import YOUNG, spared


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_what_is_there_is_set_apart_and_given_back() -> None:
    gc.set_threshold(700, 10, 10)
    with spared():
        assert gc.get_freeze_count() > 1000
        assert gc.get_threshold() == (YOUNG, 10, 10)
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("threshold", [0, YOUNG, 50_000])
def test_a_program_with_its_own_mind_keeps_it(threshold: int) -> None:
    gc.set_threshold(threshold, 5, 5)
    with spared():
        assert gc.get_threshold() == (threshold, 5, 5)
        assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == (threshold, 5, 5)


def test_the_second_of_two_crawls_leaves_it_to_the_first() -> None:
    gc.set_threshold(700, 10, 10)
    first, second = spared(), spared()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert gc.get_threshold() == (700, 10, 10)
    assert gc.get_freeze_count() == 0
