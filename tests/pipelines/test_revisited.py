"""A page that is fetched again: what it adds, and what is remembered of it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import pytest

from scraper import Css, Drop, Item, Request, Response
from scraper.pipelines import page as module
from scraper.pipelines.chain import Chain, StagedPage, group_records
from scraper.pipelines.jsonl import Jsonl
from scraper.pipelines.page import Fault
from scraper.pipelines.rejected import RejectedItems
from scraper.revisit import Earlier
from scraper.revisits import DISTINCT, brief, fresh, remember, told
from scraper.work import Again, Dead, Done, Found, Lease, Settled, Verdict

URL = "https://example.com/list"


class Row(Item):
    n: int
    tags: list[str] = []


class Number(Item):
    n: Annotated[int, Css("::text")]


class Stage:
    """Fails on what it is told to, drops what it is told to, and changes the rest."""

    def __init__(self, bad: Sequence[int] = (), unwanted: Sequence[int] = ()) -> None:
        self.bad, self.unwanted = bad, unwanted

    async def process(self, item: Any, page: Any) -> Any:
        number = item["n"] if isinstance(item, dict) else item.n
        if number in self.unwanted:
            raise Drop("unwanted")
        if number in self.bad:
            raise ValueError(f"{number} is bad")
        if isinstance(item, dict):
            item["seen"] = True
        else:
            item.n += 1000
        return item


def visit(
    items: Sequence[Any],
    earlier: bytes = b"",
    verdict: Verdict | None = None,
    links: Sequence[Found] = (),
    **stage: Sequence[int],
) -> tuple[list[int], Settled, StagedPage]:
    """What a visit of the page delivers, how it settles, and its page."""
    sink, verdict = Jsonl("out"), verdict or Done()
    chain = Chain([Stage(**stage), sink], rejected=RejectedItems("rejected"))
    page = StagedPage(Request(URL), number=7)

    async def run() -> None:
        for item in items:
            await chain.run(item, page)

    asyncio.run(run())
    page.end(Earlier.load(earlier) if earlier else None, failed=isinstance(verdict, Dead))
    lease = Lease(7, "https://example.com", Request(URL), earlier=earlier)
    settled = Settled(lease, verdict, links)
    remember(settled, page if page.items else None, lambda request: request.fingerprint)
    records = group_records([page]).get(sink, ())
    return [json.loads(record)["n"] % 1000 for record in records], settled, page


def rows(*numbers: int) -> list[Any]:
    return [Row(n=number) if number % 2 else {"n": number} for number in numbers]


def counts(page: StagedPage) -> Counter[str]:
    counted: Counter[str] = Counter()
    page.count(counted)
    return counted


def test_a_page_that_is_whole_leaves_nothing() -> None:
    delivered, settled, page = visit(rows(1, 2, 3), unwanted=[2])
    assert delivered == [1, 3]
    assert (settled.earlier, settled.rejects) == (None, "")
    assert [item.digest for item in page.items] == [0, 0, 0], "no digest is taken for nothing"


def test_what_was_rejected_is_added() -> None:
    delivered, settled, page = visit(rows(1, 2, 3, 4, 5), bad=[2, 5], unwanted=[3])
    assert delivered == [1, 4]
    assert counts(page)["rejected"] == 2
    assert [item["reason"] for item in told(settled.rejects)] == ["stage_error"] * 2
    assert settled.earlier is not None

    delivered, again, page = visit(rows(9, 1, 2, 3, 4, 5, 6), settled.earlier)
    assert delivered == [9, 2, 5, 6], "3 was dropped: it is settled, too"
    assert counts(page) == {
        "items": 4,
        "dropped": 3,
        "dropped:delivered_before": 3,
    }
    assert (again.earlier, again.rejects) == (None, "")


def test_what_is_rejected_again_and_again() -> None:
    _, settled, _ = visit(rows(1, 2, 3), bad=[1, 3])
    assert settled.earlier is not None
    delivered, settled, page = visit(rows(1, 2, 3), settled.earlier, bad=[3])
    assert delivered == [1]
    assert counts(page)["rejected"] == 1
    assert settled.earlier is not None
    delivered, settled, _ = visit(rows(3), settled.earlier, bad=[3])
    assert delivered == []
    assert settled.earlier is not None
    delivered, settled, _ = visit(rows(3, 2, 1), settled.earlier)
    assert delivered == [3], "1 and 2 are known from the visits before the last"


def test_what_was_delivered_is_not_rejected_later() -> None:
    _, settled, _ = visit(rows(1, 2, 3), bad=[2])
    assert settled.earlier is not None
    delivered, again, page = visit(rows(1, 2, 3), settled.earlier, bad=[1])
    assert delivered == [2]
    assert counts(page)["rejected"] == 0
    assert again.rejects == ""
    assert not any(item.records for item in page.items if not item.delivered)


def test_items_that_never_came_to_be() -> None:
    response = Response(URL, body=b"<li>1<li>x<li>3", request=Request(URL))

    given = response.extract_all(Number, "li")
    delivered, settled, _ = visit(given)
    assert delivered == [1, 3]
    [fault] = told(settled.rejects)
    assert (fault["reason"], fault["item"]) == ("item_invalid", "Number")
    assert fault["errors"][0]["field"] == "n"
    assert settled.earlier is not None
    mended = [Number(n=n) for n in (1, 2, 3)]
    delivered, _, _ = visit(mended, settled.earlier)
    assert delivered == [2]


def test_an_errbacks_items_are_its_own() -> None:
    delivered, settled, _ = visit(rows(1), verdict=Dead("http_500"))
    assert delivered == [1]
    assert settled.earlier is not None
    delivered, again, _ = visit(rows(1), settled.earlier, verdict=Dead("http_500"))
    assert delivered == []
    assert again.earlier is not None
    delivered, _, _ = visit(rows(5, 1), again.earlier)
    assert delivered == [5], "and one that an errback delivered is known to the callback, too"


def test_again_is_remembered_by_nobody() -> None:
    _, settled, _ = visit(rows(1, 2), verdict=Again(0.0, "timeout"), bad=[2])
    assert (settled.earlier, settled.rejects) == (None, "")


def found(url: str, *, unique: bool) -> Found:
    request = Request(url, unique=unique)
    return Found(request, "https://example.com", request.fingerprint if unique else None)


def test_requests_that_are_not_unique() -> None:
    once, twice = (
        found("https://a.example/", unique=True),
        found("https://a.example/2", unique=False),
    )
    _, settled, _ = visit(rows(1, 2), links=[once, twice, twice], bad=[2])
    assert settled.earlier is not None
    assert len(Earlier.load(settled.earlier).links) == 2
    identity = lambda request: request.fingerprint  # noqa: E731
    assert fresh([once, twice, twice], settled.earlier, identity) == [once]
    assert fresh([twice, twice, twice], settled.earlier, identity) == [twice]
    assert fresh([once, twice], b"", identity) == [once, twice]
    _, failed, _ = visit([], links=[twice], verdict=Dead("timeout"))
    assert failed.earlier is not None
    assert fresh([twice], failed.earlier, identity) == []
    _, failed, _ = visit([], links=[once], verdict=Dead("timeout"))
    assert failed.earlier is None, "the frontier knows those that are unique"


@pytest.mark.parametrize("shown", [0, 1, 3, 100])
def test_large_pages_let_go_of_their_items(shown: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are held to a bound; what is known of an item does not hang on it."""
    monkeypatch.setattr(module, "SHOWN", 100)
    _, settled, _ = visit(rows(*range(1, 9)), bad=[4])
    monkeypatch.setattr(module, "SHOWN", shown)
    _, other, page = visit(rows(*range(1, 9)), bad=[4])
    assert settled.earlier == other.earlier
    assert len(page._shown) == 0
    monkeypatch.setattr(module, "SHOWN_BYTES", 10)
    _, other, page = visit(rows(*range(1, 9)), bad=[4])
    assert settled.earlier == other.earlier


# -- in brief --------------------------------------------------------------------------------


def test_what_is_alike_is_kept_once() -> None:
    price = Fault("item_invalid", "Book", (("price", "no number"),))
    stage = Fault("stage_error", "dict", (("", "ValueError: x"),), "Picky")
    kept = brief([price, stage, price])
    assert len(json.loads(kept)) == 2
    assert Counter(json.dumps(item) for item in told(kept)) == {
        json.dumps({
            "reason": "item_invalid",
            "item": "Book",
            "stage": None,
            "errors": [{"field": "price", "message": "no number"}],
        }): 2,
        json.dumps({
            "reason": "stage_error",
            "item": "dict",
            "stage": "Picky",
            "errors": [{"field": "", "message": "ValueError: x"}],
        }): 1,
    }


def test_of_many_that_differ_the_fields_are_kept() -> None:
    faults = [Fault("schema", "Book", (("a", f"not {n}"), ("b", "no"))) for n in range(5_000)]
    kept = brief(faults)
    assert len(kept) < DISTINCT * 60
    items = list(told(kept))
    assert len(items) == 5_000
    assert all([e["field"] for e in item["errors"]] == ["a", "b"] for item in items)
    assert brief([Fault("x", "\ud800", (("\udfff", "\ud800"),))]).isascii()
