"""Staging: what a page holds, how it is bounded, cut and grouped."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.errors import ExtractionError, OutOfResource
from scraper.http import Request, Response
from scraper.pipelines.page import Limits, StagedPage, group_records
from scraper.protocols import Page, Sink

A, B = cast("Sink", "sink a"), cast("Sink", "sink b")  # staging never looks at them


def page_of(**limits: Any) -> StagedPage:
    return StagedPage(Request("https://example.com/p"), limits=Limits(**limits))


def put(page: StagedPage, *records: tuple[Sink, Any], delivered: bool = True) -> None:
    item = page.begin()
    for sink, record in records:
        page.stage(sink, record, len(record) if isinstance(record, bytes) else 1)
    item.delivered = delivered
    item.counted = ("items",) if delivered else ("dropped", "dropped:why")


def staged(*pages: StagedPage) -> dict[Sink, list[Any]]:
    return {sink: list(records) for sink, records in group_records(pages).items()}


def test_is_a_page() -> None:
    request = Request("https://example.com/asked")
    page: Page = StagedPage(request, Response("https://example.com/got", request=request))
    assert (page.url, page.request) == ("https://example.com/got", request)
    assert StagedPage(request).url == request.url


def test_commit_order_is_page_then_item_then_stage() -> None:
    one, two = page_of(), page_of()
    put(one, (A, b"1"), (B, "x"))
    put(two, (A, b"3"))
    put(one, (A, b"2"))
    assert staged(one, two) == {A: [b"1", b"2", b"3"], B: ["x"]}
    assert staged(two, one)[A] == [b"3", b"1", b"2"]
    assert staged() == {}


@given(
    pages=st.lists(
        st.lists(st.tuples(st.booleans(), st.binary(max_size=9) | st.text(max_size=3)), max_size=9),
        max_size=4,
    ),
    spill=st.integers(0, 20),
)
def test_spilling_changes_nothing_but_memory(
    pages: list[list[tuple[bool, bytes | str]]], spill: int
) -> None:
    held, spilling = [page_of() for _ in pages], [page_of(spill=spill) for _ in pages]
    for records, *both in zip(pages, held, spilling, strict=True):
        for first, record in records:
            for page in both:
                put(page, (A if first else B, record))
    assert staged(*spilling) == staged(*held)
    assert [page.staged for page in spilling] == [page.staged for page in held]
    for page in spilling:
        page.release()


def test_large_page_lies_in_a_file_without_a_name(tmp_path: Path) -> None:
    page = page_of(spill=1000, directory=tmp_path)
    for number in range(50):
        put(page, (A, b"%03d" % number * 30))
    assert page.spilled
    in_memory = [r for item in page.items for _, r, _ in item.records if isinstance(r, bytes)]
    assert sum(map(len, in_memory)) <= 1000
    assert list(tmp_path.iterdir()) == []
    records = group_records([page])[A]
    assert len(records) == 50
    assert records[7] == b"007" * 30
    assert records[48:] == [b"048" * 30, b"049" * 30]
    page.release()
    page.release()
    with pytest.raises(ValueError, match="released"):
        records[0]


def test_only_what_is_held_counts_for_spilling() -> None:
    page = page_of(spill=10)
    put(page, (A, b"12345678"))
    page.withdraw()
    put(page, (A, b"12345678"))
    before = page.spilled
    put(page, (A, b"123"))
    assert (before, page.spilled) == (False, True)
    put(page, (A, b"123"))
    (kept,) = page.items[-1].records
    assert kept == (A, b"123", 3), "below the bound again: it stays in memory"
    page.release()


def test_spilling_to_nowhere(tmp_path: Path) -> None:
    page = page_of(spill=1, directory=tmp_path / "gone")
    with pytest.raises(OutOfResource, match="gone"):
        put(page, (A, b"12"))


def test_close_gives_the_descriptor_back() -> None:
    for forgotten in (False, True):
        page = page_of(spill=0)
        put(page, (A, b"1"))
        assert page._file is not None
        fd = page._file.fileno()
        os.fstat(fd)
        if not forgotten:
            page.release()
        del page
        with pytest.raises(OSError):
            os.fstat(fd)


def test_item_too_large() -> None:
    page = page_of(item_size=10)
    page.begin()
    page.stage(A, b"x" * 10, 10)
    with pytest.raises(ExtractionError, match="max_item_size") as caught:
        page.stage(A, b"x" * 11, 11)
    assert caught.value.reason == "item_too_large"


def test_too_many_items() -> None:
    page = page_of(items=2)
    put(page, (A, b"1"))
    put(page, (A, b"2"))
    with pytest.raises(ExtractionError, match="max_items_per_page") as caught:
        page.begin()
    assert caught.value.reason == "too_many_items"


@given(st.lists(st.booleans(), max_size=12), st.integers(0, 13), st.integers(0, 30))
def test_cut_keeps_exactly_so_many(kinds: list[bool], keep: int, spill: int) -> None:
    page = page_of(spill=spill)
    for number, delivered in enumerate(kinds):
        put(page, (A, json.dumps(number).encode()), delivered=delivered)
    page.cut(keep)
    counts = Counter[str]()
    page.count(counts)
    assert counts["items"] == min(keep, sum(kinds))
    left = staged(page).get(A, [])
    assert left == [json.dumps(n).encode() for n in range(len(left))]
    assert page.staged == sum(map(len, left))
    if left:
        later = kinds[len(left) :]
        assert not later or counts["items"] == keep
    page.release()


def test_withdraw_forgets_the_item_that_failed() -> None:
    page = page_of()
    put(page, (A, b"1"))
    put(page, (A, b"22"), (B, b"3"))
    page.withdraw()
    assert staged(page) == {A: [b"1"]}
    assert page.staged == 1


def test_messages_hide_secrets() -> None:
    page = StagedPage(Request("https://example.com/?token=canary"), limits=Limits(items=0))
    with pytest.raises(ExtractionError) as caught:
        page.begin()
    assert "canary" not in str(caught.value)
