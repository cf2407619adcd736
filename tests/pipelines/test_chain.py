"""The chain: what becomes of an item, stage by stage."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from scraper.claims import Claims
from scraper.errors import (
    REASONS,
    ConfigError,
    CrawlFailed,
    Drop,
    ExtractionError,
    ItemInvalid,
    OutOfResource,
    Retry,
    Throttled,
    UsageError,
)
from scraper.http import Request, Response
from scraper.items import Css, Invalid, Item
from scraper.observation import Lost
from scraper.pipelines.chain import Chain, Delivered, Dropped, Failed, ItemResult, Rejected
from scraper.pipelines.dedupe import Dedupe
from scraper.pipelines.jsonl import Jsonl
from scraper.pipelines.page import Limits, StagedPage, group_records
from scraper.pipelines.rejected import RejectedItems
from scraper.protocols import CrawlInfo, Page, Pipeline
from scraper.testing.sinks import crawl_info

URL = "https://example.com/book"


class Book(Item):
    title: Annotated[str, Css("h1")]
    n: int = 0


class Add(Pipeline):
    """Counts n up."""

    async def process(self, item: Any, page: Page) -> Any:
        return {**item, "n": item["n"] + 1}


class Raises(Pipeline):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def process(self, item: Any, page: Page) -> Any:
        raise self.error


class Forgets(Pipeline):
    async def process(self, item: Any, page: Page) -> Any:
        item["n"] = 1


def run(
    stages: list[Any], *items: Any, limits: Limits | None = None
) -> tuple[list[ItemResult], StagedPage, dict[str, list[Any]]]:
    """Pass *items* through the chain: results, the page, and the staged records by sink."""
    chain = Chain(stages, rejected=RejectedItems("rejected.jsonl"))
    page = StagedPage(Request(URL), spider="books", limits=limits or Limits())

    async def all_of_them() -> list[ItemResult]:
        return [await chain.run(item, page) for item in items]

    results = asyncio.run(all_of_them())
    records = {
        sink.key: [json.loads(record) for record in found]
        for sink, found in group_records([page]).items()
    }
    return results, page, records


def counts(page: StagedPage) -> dict[str, int]:
    counted = Counter[str]()
    for item in page.items:
        counted.update(item.counted)
    return dict(counted)


def test_stages_in_order() -> None:
    results, page, records = run([Add(), Jsonl("one"), Add(), Jsonl("two")], {"n": 0})
    assert results == [Delivered({"n": 2})]
    assert records == {"one": [{"n": 1}], "two": [{"n": 2}]}
    assert counts(page) == {"items": 1}


def test_every_kind_of_item() -> None:
    class Model(BaseModel):
        a: int

    @dataclass
    class Data:
        a: int

    items = [Book(title="t"), Model(a=1), Data(2), {"a": 3}]
    results, _, records = run([Jsonl("out")], *items)
    assert [r.item for r in results if isinstance(r, Delivered)] == items
    assert records["out"] == [{"title": "t", "n": 0}, {"a": 1}, {"a": 2}, {"a": 3}]


@pytest.mark.parametrize("thing", ["text", 1, None, [{}], Book])
def test_what_is_no_item(thing: Any) -> None:
    chain = Chain([])
    page = StagedPage(Request(URL))
    with pytest.raises(TypeError, match="a callback yields items"):
        asyncio.run(chain.run(thing, page))
    assert page.items == []


def test_what_is_to_be_known_of_each_item() -> None:
    """Of what is delivered, dropped, rejected, or turns out to be a duplicate."""

    class Picky(Pipeline):
        async def process(self, item: Any, page: Page) -> Any:
            if item["n"] == 1:
                raise Drop("old")
            if item["n"] == 2:
                raise ZeroDivisionError("by two")
            return {**item, "more": True}

    chain = Chain([Dedupe(["n"]), Picky()], observed=True)
    page = StagedPage(Request(URL))
    response = Response(URL, headers={"Content-Type": "text/html"}, body=b"<p>")
    items: list[Any] = [{"n": n} for n in (0, 1, 2, 0)] + [response.extract(Book)]

    async def all_of_them() -> None:
        for item in items:
            await chain.run(item, page)

    asyncio.run(all_of_them())
    chain.reject(ItemInvalid("Shelf", URL, [{"field": "n", "message": "no"}], {}), page)
    Claims({}).decide(page)
    assert list(page.observations()) == [
        ("dict", ("n", "more"), (0, True)),
        Lost("dict", "old", rejected=False),
        Lost("dict", "stage_error"),
        Lost("dict", "duplicate", rejected=False),
        Lost("Book", "item_invalid", True, (("title", "nothing on the page matches"),)),
        Lost("Shelf", "item_invalid", True, (("n", "no"),)),
    ]
    assert list(page.observations()) == []


def test_nobody_asks_what_is_to_be_known() -> None:
    _, page, _ = run([Raises(Drop("old"))], {"n": 0})
    assert list(page.observations()) == []


def test_drop_stops_what_stands_after_it() -> None:
    results, page, records = run([Jsonl("a"), Raises(Drop("old")), Jsonl("b")], {"n": 0})
    assert results == [Dropped("old", "Raises")]
    assert records == {"a": [{"n": 0}]}
    assert counts(page) == {"dropped": 1, "dropped:old": 1}


def test_failing_stage_fails_that_item_only() -> None:
    class Picky(Pipeline):
        async def process(self, item: Any, page: Page) -> Any:
            if item["n"] == 1:
                raise ZeroDivisionError("by one")
            return item

    results, page, records = run([Jsonl("a"), Picky(), Jsonl("b")], *({"n": n} for n in range(3)))
    assert [type(r) for r in results] == [Delivered, Failed, Delivered]
    assert records["a"] == records["b"] == [{"n": 0}, {"n": 2}], "all sinks or none"
    assert records["rejected.jsonl"] == [
        {
            "reason": "stage_error",
            "item": "dict",
            "url": URL,
            "errors": [
                {
                    "field": "",
                    "message": "ZeroDivisionError: by one",
                    "selectors": [],
                    "value": None,
                }
            ],
            "values": {"n": 1},
            "stage": "Picky",
            "spider": "books",
            "page": "",
        }
    ]
    assert counts(page) == {"items": 2, "rejected": 1, "reason:stage_error": 1}


def test_forgotten_return_says_what_to_write() -> None:
    results, _, records = run([Forgets(), Jsonl("a")], {"n": 0})
    assert isinstance(results[0], Failed)
    assert "return the item or raise Drop" in str(results[0].error)
    assert records["rejected.jsonl"][0]["stage"] == "Forgets"
    assert "a" not in records


def test_invalid_item_goes_straight_to_the_rejected() -> None:
    errors = [{"field": "title", "message": "missing", "selectors": ["h1"], "value": None}]
    invalid = Invalid(Book, ItemInvalid("Book", URL, errors, {"title": None}))
    results, page, records = run([Raises(AssertionError("not asked"))], invalid)
    assert isinstance(results[0], Rejected)
    assert results[0].reason == "item_invalid"
    (row,) = records["rejected.jsonl"]
    assert (row["item"], row["errors"], row["values"]) == ("Book", errors, {"title": None})
    assert row["stage"] is None
    assert counts(page) == {"rejected": 1, "reason:item_invalid": 1}


def test_errors_that_escaped_from_the_callback() -> None:
    chain = Chain([], rejected=RejectedItems("r"))
    page = StagedPage(Request(URL))
    chain.reject(ItemInvalid("Book", URL, [], {"a": 1}), page)
    with pytest.raises(ValidationError) as caught:
        Book(title="t", n="x")
    chain.reject(caught.value, page)
    with pytest.raises(ValidationError) as deep:
        TypeAdapter(dict[str, list[int]]).validate_python({"a": [1, "x"]})
    chain.reject(deep.value, page)
    one, two, three = (json.loads(r) for r in next(iter(group_records([page]).values())))
    assert one["values"] == {"a": 1}
    assert (two["item"], two["errors"][0]["field"], two["values"]) == ("Book", "n", {"n": "x"})
    assert three["errors"][0]["field"] == "a.1"
    assert counts(page) == {"rejected": 3, "reason:item_invalid": 3}


def test_item_too_large() -> None:
    large = {"title": "t", "text": "x" * 5000}
    results, page, records = run([Jsonl("a")], large, {"n": 1}, limits=Limits(item_size=1000))
    assert isinstance(results[0], Rejected)
    assert records["a"] == [{"n": 1}]
    (row,) = records["rejected.jsonl"]
    assert row["reason"] == "item_too_large"
    assert "max_item_size" in row["errors"][0]["message"]
    assert row["values"]["text"].endswith("… (cut: 5,000 characters)")
    assert counts(page) == {"items": 1, "rejected": 1, "reason:item_too_large": 1}


def test_value_that_json_cannot_say() -> None:
    results, _, records = run([Jsonl("a")], {"n": object()})
    assert isinstance(results[0], Rejected)
    assert records.keys() == {"rejected.jsonl"}


@pytest.mark.parametrize("code", [code for code, row in REASONS.items() if row.kind == "item"])
def test_stage_may_name_the_reason(code: str) -> None:
    results, _, records = run([Raises(ExtractionError(code, "because"))], {"n": 0})
    (row,) = records["rejected.jsonl"]
    assert (row["reason"], row["stage"]) == (code, "Raises")
    assert isinstance(results[0], Failed if code == "stage_error" else Rejected)


def test_other_reasons_are_stage_errors() -> None:
    for code in ("not_html", "made_up"):
        _, _, records = run([Raises(ExtractionError(code, "because"))], {"n": 0})
        assert records["rejected.jsonl"][0]["reason"] == "stage_error"


@pytest.mark.parametrize(
    "error",
    [
        Throttled(5.0),
        Retry("later"),
        OutOfResource("full"),
        ConfigError("two models"),
        asyncio.CancelledError(),
        KeyboardInterrupt(),
    ],
)
def test_what_is_not_the_items_fault_passes(error: BaseException) -> None:
    chain = Chain([Raises(error)])
    passing = chain.run({}, StagedPage(Request(URL)))
    with pytest.raises(type(error)):
        passing.send(None)


def test_too_many_items_on_a_page() -> None:
    with pytest.raises(ExtractionError, match="max_items_per_page"):
        run([], {}, {}, {}, limits=Limits(items=2))


def test_without_rejected_file() -> None:
    page = StagedPage(Request(URL))
    result = asyncio.run(Chain([Raises(ValueError("x"))]).run({}, page))
    assert isinstance(result, Failed)
    assert group_records([page]) == {}


def test_reasons_of_drop_are_bounded() -> None:
    class DropsAll(Pipeline):
        async def process(self, item: Any, page: Page) -> Any:
            raise Drop(f"{item['n']} " + "x" * 500)

    _, page, _ = run([DropsAll()], *({"n": n} for n in range(500)))
    counted = counts(page)
    assert counted["dropped"] == 500
    assert counted["dropped:other"] == 400
    assert len(counted) == 102
    assert max(map(len, counted)) <= 108


def test_page_keeps_no_item() -> None:
    _, page, _ = run([], {"big": 1}, {"n": 1})
    assert not any("big" in repr(staged) for staged in page.items)


# ── building


class Sync:
    def process(self, item: Any, page: Any) -> Any:
        return item


class Foreign:
    def process_item(self, item: Any, spider: Any) -> Any:
        return item


class Narrow:
    async def process(self, item: Any) -> Any:
        return item


class Bare:
    async def process(self, item: Any, page: Any) -> Any:
        return item


class HalfASink(Bare):
    recovery = "rewind"


class OddSink(Bare):
    recovery = "undo"


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        (Sync(), "pipeline Sync: it needs `async def process"),
        (object(), "async def process"),
        (Foreign(), "process_item means nothing here"),
        (Narrow(), r"must take \(item, page\)"),
        (Bare, "give an instance, Bare"),
        (HalfASink(), "also needs key, open, rewind, write"),
        (OddSink(), "'rewind' or 'redo'"),
    ],
)
def test_what_cannot_be_a_stage(stage: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Chain([stage])


def test_two_sinks_with_one_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two pipelines write to"):
        Chain([Jsonl("a"), Jsonl("a")])


def test_same_stage_twice_has_two_names() -> None:
    assert repr(Chain([Add(), Jsonl(), Add()])) == "<Chain Add → Jsonl → Add#2>"
    assert [sink.key for sink in Chain([Add(), Jsonl("j")]).sinks] == ["j"]


class Lives(Bare):
    """Tells when it is opened and closed."""

    def __init__(self, name: str, told: list[str], fails: str = "") -> None:
        self.name, self.told, self.fails = name, told, fails

    async def open(self, crawl: CrawlInfo) -> None:
        self.told.append(f"open {self.name}")
        if self.fails == "open":
            raise ConfigError(self.name)

    async def aclose(self) -> None:
        self.told.append(f"close {self.name}")
        if self.fails == "close":
            raise ValueError(self.name)


def test_failure_to_open_closes_what_was_open(tmp_path: Path) -> None:
    told: list[str] = []
    chain = Chain([Lives("a", told), Bare(), Lives("b", told, "open"), Lives("c", told)])
    with pytest.raises(ConfigError):
        asyncio.run(chain.open(crawl_info(tmp_path)))
    assert told == ["open a", "open b", "close a"]


def test_everything_is_closed_even_if_one_fails(tmp_path: Path) -> None:
    told: list[str] = []
    chain = Chain(
        [Lives("a", told), Lives("b", told, "close"), Jsonl("x")], rejected=RejectedItems("y")
    )

    async def open_and_close() -> None:
        await chain.open(crawl_info(tmp_path))
        with pytest.raises(CrawlFailed, match=r"pipeline Lives: aclose\(\) raised ValueError: b"):
            await chain.aclose()
        await chain.aclose()

    asyncio.run(open_and_close())
    assert told == ["open a", "open b", "close b", "close a"]
    assert [path.name for path in tmp_path.iterdir()] == [".scrape"], "no lock is left"
