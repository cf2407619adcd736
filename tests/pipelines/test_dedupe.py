"""Dedupe: which items are one, and who decides that, and when."""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from scraper.claims import EARLIER, Claims, inherited
from scraper.errors import ConfigError, Drop
from scraper.http import Request
from scraper.pipelines.chain import Chain, Placed
from scraper.pipelines.dedupe import Dedupe
from scraper.pipelines.jsonl import Jsonl
from scraper.pipelines.page import StagedPage, group_records
from scraper.protocols import Page, Pipeline
from scraper.testing.sinks import crawl_info
from scraper.work import Batch


class Maker(BaseModel):
    name: str


class Book(BaseModel):
    upc: str | None
    title: str = ""
    maker: Maker | None = None


class Film(BaseModel):
    upc: str


@dataclass
class Song:
    upc: str


class DropsTitle(Pipeline):
    def __init__(self, title: str) -> None:
        self.title = title

    async def process(self, item: Any, page: Page) -> Any:
        if item.title == self.title:
            raise Drop("title")
        return item


class Breaks(Pipeline):
    async def process(self, item: Any, page: Page) -> Any:
        if item.title == "broken":
            raise ValueError("broken")
        return item


def through(stages: list[Any], *pages: list[Any]) -> tuple[list[StagedPage], Batch]:
    """The pages as the scheduler keeps them: passed, decided, and their claims in a batch."""
    chain, claims, batch = Chain(stages), Claims({}), Batch()
    made: list[StagedPage] = []

    async def crawl() -> None:
        for items in pages:
            page = StagedPage(Request("https://example.com/"))
            for item in items:
                await chain.run(item, page)
            claims.decide(page)
            claims.store(page, batch)
            made.append(page)

    asyncio.run(crawl())
    return made, batch


def counts(pages: list[StagedPage]) -> Counter[str]:
    total: Counter[str] = Counter()
    for page in pages:
        page.count(total)
    return total


def delivered(sink: Any, pages: list[StagedPage]) -> list[bytes]:
    return list(group_records(pages).get(sink, []))


def test_the_first_goes_on() -> None:
    sink = Jsonl("x")
    pages, batch = through(
        [Dedupe(["upc"]), sink],
        [Book(upc="1", title="a"), Book(upc="2")],
        [Book(upc="1", title="b"), Book(upc="3")],
    )
    assert counts(pages) == {"items": 3, "dropped": 1, "dropped:duplicate": 1}
    assert [b'"a"' in line for line in delivered(sink, pages)] == [True, False, False]
    assert {name: len(keys) for name, keys in batch.claims.items()} == {"dedupe(upc)": 3}


def test_a_sink_before_it_keeps_every_record() -> None:
    before, after = Jsonl("x"), Jsonl("y")
    pages, _ = through([before, Dedupe(["upc"]), after], [Book(upc="1"), Book(upc="1")])
    assert (len(delivered(before, pages)), len(delivered(after, pages))) == (2, 1)
    assert pages[0].staged == sum(map(len, delivered(before, pages) + delivered(after, pages)))


def test_types_have_keys_of_their_own() -> None:
    pages, _ = through(
        [Dedupe(["upc"]), Jsonl("x")], [Book(upc="1"), Film(upc="1"), Song("1"), {"upc": "1"}]
    )
    assert counts(pages)["items"] == 4


@pytest.mark.parametrize(
    ("key", "one", "other", "same"),
    [
        (["upc"], {"upc": 1}, {"upc": "1"}, False),
        (["upc"], {"upc": Decimal("1.0")}, {"upc": Decimal("1.00")}, False),
        (["upc", "title"], {"upc": "1", "title": "23"}, {"upc": "12", "title": "3"}, False),
        (["upc", "title"], {"upc": "1"}, {"upc": "1", "title": None}, True),
        ([], {"a": 1, "b": 2}, {"a": 1, "b": 2}, True),
        ([], {"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
        (["maker.name"], {"maker": {"name": "x"}}, {"maker": {"name": "x", "n": 2}}, True),
        (["maker.name"], {"maker": {"name": "x"}}, {"maker": {"name": "y"}}, False),
        (["upc"], {"upc": "\ud800"}, {"upc": "\ud800"}, True),
        (["upc"], {"upc": [1, {"a": 2}]}, {"upc": [1, {"a": 2}]}, True),
    ],
)
def test_what_is_one(
    key: list[str], one: dict[str, Any], other: dict[str, Any], same: bool
) -> None:
    pages, _ = through([Dedupe(key), Jsonl("x")], [one, other])
    assert counts(pages)["items"] == 1 + (not same)


def test_nested_models() -> None:
    one, two = Book(upc="1", maker=Maker(name="x")), Book(upc="2", maker=Maker(name="x"))
    pages, _ = through([Dedupe(["maker.name"]), Jsonl("x")], [one, two, Book(upc="3")])
    assert counts(pages) == {"items": 2, "dropped": 1, "dropped:duplicate": 1}


def test_items_without_a_key() -> None:
    nothing = [Book(upc=None), Book(upc=None), {"title": "x"}]
    pages, batch = through([Dedupe(["upc"]), Jsonl("x")], nothing)
    assert (counts(pages)["items"], batch.claims) == (3, {})
    pages, _ = through([Dedupe(["upc"], missing="drop"), Jsonl("x")], nothing)
    assert counts(pages) == {"dropped": 3, "dropped:no_key": 3}


def test_a_key_is_taken_by_what_is_delivered() -> None:
    """Who is dropped later, or fails, leaves the key to the next one."""
    sink = Jsonl("x")
    pages, _ = through(
        [Dedupe(["upc"]), DropsTitle("no"), Breaks(), sink],
        [Book(upc="1", title="no"), Book(upc="2", title="broken")],
        [Book(upc="1", title="yes"), Book(upc="2", title="yes"), Book(upc="1", title="late")],
    )
    assert len(delivered(sink, pages)) == 2
    assert counts(pages)["dropped:duplicate"] == 1


def test_a_key_is_taken_by_what_a_sink_keeps() -> None:
    kept, sink = Jsonl("x"), Jsonl("y")
    pages, _ = through(
        [Dedupe(["upc"]), kept, DropsTitle("no"), sink],
        [Book(upc="1", title="no"), Book(upc="1", title="yes")],
    )
    assert (len(delivered(kept, pages)), len(delivered(sink, pages))) == (1, 0)
    assert counts(pages) == {"dropped": 2, "dropped:title": 1, "dropped:duplicate": 1}


def test_two_stages_decide_one_after_the_other() -> None:
    middle, last = Jsonl("x"), Jsonl("y")
    pages, batch = through(
        [Dedupe(["upc"]), middle, Dedupe(["title"]), last],
        [Book(upc="1", title="a"), Book(upc="2", title="a"), Book(upc="1", title="b")],
    )
    assert (len(delivered(middle, pages)), len(delivered(last, pages))) == (2, 1)
    assert {name: len(keys) for name, keys in batch.claims.items()} == {
        "dedupe(upc)": 2,
        "dedupe(title)": 1,
    }


def test_what_a_limit_cuts_claims_nothing() -> None:
    chain, claims, batch = Chain([Dedupe(["upc"]), Jsonl("x")]), Claims({}), Batch()

    async def crawl() -> StagedPage:
        page = StagedPage(Request("https://example.com/"))
        for upc in "112345":
            await chain.run(Book(upc=upc), page)
        claims.decide(page)
        page.cut(3)
        claims.store(page, batch)
        return page

    page = asyncio.run(crawl())
    assert counts([page]) == {"items": 3, "dropped": 1, "dropped:duplicate": 1}
    assert len(batch.claims["dedupe(upc)"]) == 3


def test_items_of_one_type_only() -> None:
    stage = Placed(Dedupe(["upc"]), frozenset({"Book"}))
    pages, _ = through([stage, Jsonl("x")], [Film(upc="1"), Film(upc="1"), Book(upc="1")] * 2)
    assert counts(pages) == {"items": 5, "dropped": 1, "dropped:duplicate": 1}


@given(st.lists(st.lists(st.integers(0, 8), max_size=6), max_size=6), st.integers(0, 6))
def test_any_crawl_and_any_crash(pages: list[list[int]], crash: int) -> None:
    """Whatever was stored before a crash, the whole delivers each key once."""
    stage, sink = Dedupe(["n"]), Jsonl("x")
    chain, lines = Chain([stage, sink]), list[bytes]()
    stored: dict[str, list[array[int]]] = {}

    async def crawl() -> None:
        claims = Claims(stored)
        for place, numbers in enumerate(pages):
            if place == crash:
                claims = Claims(stored)
            page, batch = StagedPage(Request("https://example.com/")), Batch()
            for n in numbers:
                await chain.run({"n": n}, page)
            claims.decide(page)
            claims.store(page, batch)
            lines.extend(delivered(sink, [page]))
            for name, keys in batch.claims.items():
                stored.setdefault(name, []).append(keys)

    asyncio.run(crawl())
    assert sorted(lines) == sorted({b'{"n":%d}\n' % n for numbers in pages for n in numbers})


def test_what_runs_leave_to_each_other() -> None:
    stored = {"a": [array("Q", [1, 2])], "a" + EARLIER: [array("Q", [9])], "b": [array("Q", [5])]}
    assert inherited(["a"], stored, delivered=True) == {"a" + EARLIER: array("Q", [9, 1, 2])}
    assert inherited(["a", "b"], stored, delivered=False) == {"a" + EARLIER: array("Q", [9])}
    claims = Claims({"a" + EARLIER: [array("Q", [9])]})
    page = StagedPage(Request("https://example.com/"))
    page.begin().delivered = True
    page.claim("a", 9)
    claims.decide(page)
    assert not page.items[0].delivered


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Dedupe(["a."]), "empty"),
        (lambda: Chain([Dedupe(["a"]), Jsonl("x"), Dedupe(["a"])]), "name of its own"),
    ],
)
def test_mistakes(make: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert says in f"{caught.value.message} {caught.value.hint}"


def test_earlier_runs_need_a_job(tmp_path: Path) -> None:
    stage = Dedupe(["a"], across="runs")
    asyncio.run(stage.open(crawl_info(tmp_path)))
    with pytest.raises(ConfigError, match="needs a job"):
        asyncio.run(stage.open(crawl_info(tmp_path, job=None)))
