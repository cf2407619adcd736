"""Rules: which links they take, who gets the pages; whole crawls of the demo shop by rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from scraper import CrawlSpider, Output, Request, Response, Rule, run
from scraper.callbacks import Callbacks, drain
from scraper.demo import DemoShop, serve_in_thread
from scraper.errors import ItemInvalid, SpiderError, UsageError
from scraper.spider import arguments_model
from spiders.books import Book, Books
from tests.crawl.harness import json_lines

HTML = {"Content-Type": "text/html; charset=utf-8"}
PAGE = b"""
<nav><a href="/c/1">one</a> <a href="/c/2" rel=nofollow>two</a></nav>
<main><a href="/p/1">1</a><a href="/c/1">again</a><a href="/p/2#x">2</a>
<a href="/x.pdf">file</a></main>
"""


def page(body: bytes = PAGE, url: str = "http://h/", **headers: str) -> Response:
    return Response(url, 200, headers or HTML, body, Request(url, "parse"))


class Shop(CrawlSpider):
    name = "shop"
    start_urls: ClassVar = ["http://h/"]
    rules: ClassVar = (Rule("nav"), Rule("main", callback="parse_item"))

    async def parse_item(self, response: Response) -> Output:
        yield {"url": response.url}


async def given(spider: CrawlSpider, response: Response, callback: str = "parse", **kw: Any) -> Any:
    """What the engine would be handed: requests as (url, callback), items as they are."""
    taken: list[Any] = []

    async def take(value: Any) -> None:
        taken.append((value.url, value.callback) if isinstance(value, Request) else value)

    await drain(Callbacks(spider)[callback].call(response, kw), take)
    return taken


# Rules


async def test_the_first_rule_that_takes_a_link_has_it() -> None:
    expected = [
        ("http://h/c/1", "follow_rules"),
        ("http://h/c/2", "follow_rules"),
        ("http://h/p/1", "parse_item"),
        ("http://h/p/2", "parse_item"),
    ]
    assert await given(Shop(), page()) == expected
    assert await given(Shop(), page(), "follow_rules") == expected
    assert await given(Shop(), page(), "parse_item") == [{"url": "http://h/"}]


def a_shop(*rules: Rule, **methods: Any) -> CrawlSpider:
    async def parse_item(self: CrawlSpider, response: Response, tag: str = "") -> Output:
        yield {"tag": tag}

    def build(self: CrawlSpider, request: Request, response: Response) -> Request | None:
        return None if request.url.endswith("2") else request.replace(priority=7)

    body = {"name": "shop", "rules": rules, "parse_item": parse_item, "build": build, **methods}
    made: CrawlSpider = type("Shop", (CrawlSpider,), body)()
    return made


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(), {"/c/1", "/c/2", "/p/1", "/p/2"}),
        (Rule(extensions=()), {"/c/1", "/c/2", "/p/1", "/p/2", "/x.pdf"}),
        (Rule(nofollow=True), {"/c/1", "/p/1", "/p/2"}),
        (Rule(allow="/p/", deny="2$"), {"/p/1"}),
        (Rule(xpath="//main//a[1]"), {"/p/1"}),
        (Rule(text="^(one|file)$"), {"/c/1"}),
        (Rule("main a", text="^(one|file)$"), {"/x.pdf"}),
        (Rule(domains="elsewhere.example"), set()),
        (Rule(process_request="build"), {"/c/1", "/p/1"}),
        (Rule(process_request=lambda request, response: None), set()),
    ],
    ids=lambda value: repr(sorted(value) if isinstance(value, set) else value),
)
def test_rules_choose_links(rule: Rule, expected: set[str]) -> None:
    found = list(a_shop(rule).follow_rules(page()))
    assert {request.url.removeprefix("http://h") for request in found} == expected
    assert {request.callback for request in found} <= {"follow_rules"}


def test_what_a_rule_says_of_its_requests() -> None:
    shop = a_shop(
        Rule("nav", callback="parse_item", kwargs={"tag": "t"}, priority=3, errback="failed"),
        failed=lambda self, failure: None,
    )
    request = next(shop.follow_rules(page()))
    assert (request.callback, request.kwargs, request.priority, request.errback) == (
        "parse_item",
        {"tag": "t"},
        3,
        "failed",
    )
    assert Request.load(request.dump()) == request
    (processed, *_) = a_shop(Rule(process_request="build")).follow_rules(page())
    assert processed.priority == 7


def test_the_session_is_kept() -> None:
    response = Response("http://h/", 200, HTML, PAGE, Request("http://h/", session="s"))
    assert {r.session for r in Shop().follow_rules(response)} == {"s"}


async def test_callback_and_follow() -> None:
    shop = a_shop(Rule(callback="parse_item", follow=True, kwargs={"tag": "x"}))
    (first, *_) = shop.follow_rules(page())
    assert (first.callback, first.kwargs) == ("parse_item_and_follow", {"tag": "x"})
    found = await given(shop, page(), "parse_item_and_follow", tag="x")
    assert found[0] == {"tag": "x"}
    assert found[1] == ("http://h/c/1", "parse_item_and_follow")
    with pytest.raises(ValueError, match=r"parse_item_and_follow\(tag=…\)"):
        await given(shop, page(), "parse_item_and_follow", tag=["x"])


async def test_it_is_stored_by_what_is_to_be_done_not_by_rule() -> None:
    changed = a_shop(Rule("nav"))  # since the request was stored, the rule went
    found = await given(changed, page(), "parse_item_and_follow")
    assert found == [
        {"tag": ""},
        ("http://h/c/1", "follow_rules"),
        ("http://h/c/2", "follow_rules"),
    ]
    gone = Callbacks(changed)
    assert "parse_product_and_follow" not in gone
    assert "_and_follow" not in gone
    with pytest.raises(SpiderError, match="parse_product_and_follow"):
        gone["parse_product_and_follow"]


async def generator(self: Any, response: Response) -> AsyncIterator[Any]:
    yield 1
    yield 2


async def coroutine(self: Any, response: Response) -> list[int]:
    return [1, 2]


def plain(self: Any, response: Response) -> Iterator[int]:
    yield from (1, 2)


def listed(self: Any, response: Response) -> list[int]:
    return [1, 2]


async def nothing(self: Any, response: Response) -> None:
    return None


@pytest.mark.parametrize("callback", [generator, coroutine, plain, listed, nothing])
async def test_callbacks_of_every_shape(callback: Any) -> None:
    shop = a_shop(Rule("nav", callback="other", follow=True), other=callback, parse_start=callback)
    shapes: dict[Any, list[Any]] = {
        generator: [1, 2],
        coroutine: [[1, 2]],
        plain: [1, 2],
        listed: [[1, 2]],
        nothing: [],
    }
    values = shapes[callback]
    links = [("http://h/c/1", "other_and_follow"), ("http://h/c/2", "other_and_follow")]
    assert await given(shop, page()) == values + links
    assert await given(shop, page(), "other_and_follow") == values + links


async def test_pages_that_are_no_html_have_no_links() -> None:
    picture = page(b"\x89PNG\r\n\x1a\n", **{"Content-Type": "image/png"})
    assert await given(Shop(), picture) == []
    shop = a_shop(Rule(callback="parse_item", follow=True))
    assert await given(shop, picture, "parse_item_and_follow") == [{"tag": ""}]


async def test_an_invalid_item_does_not_cost_the_links() -> None:
    async def parse_item(self: Any, response: Response) -> AsyncIterator[Any]:
        yield 1
        raise ItemInvalid("Book", response.url, [], {})

    shop = a_shop(Rule("nav", callback="parse_item", follow=True), parse_item=parse_item)
    taken: list[Any] = []

    async def take(value: Any) -> None:
        taken.append(value)

    with pytest.raises(ItemInvalid):
        await drain(Callbacks(shop)["parse_item_and_follow"].call(page(), {}), take)
    assert len(taken) == 3


async def test_what_a_callback_holds_is_closed_when_the_page_is_given_up() -> None:
    closed: list[bool] = []

    async def parse_item(self: Any, response: Response) -> AsyncIterator[Any]:
        try:
            yield 1
        finally:
            closed.append(True)

    shop = a_shop(Rule(callback="parse_item", follow=True), parse_item=parse_item)

    async def take(value: Any) -> None:
        raise OSError

    with pytest.raises(OSError):
        await drain(Callbacks(shop)["parse_item_and_follow"].call(page(), {}), take)
    assert closed == [True]


# What cannot be meant


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Rule(allow="("), "regular expression"),
        (lambda: Rule("a:::b"), "CSS selector"),
        (lambda: Rule(["nav"]), "first argument"),  # type: ignore[arg-type]
        (lambda: Rule(follow=False), "for nothing"),
        (lambda: Rule(callback=lambda response: None), "name of a method"),
        (lambda: Rule(callback="parse_item", kwargs={"a": {1}}), "JSON"),
        (lambda: Rule(kwargs={"a": 1}), "callback"),
        (lambda: a_shop(Rule(callback="parse_itme")), "Did you mean parse_item?"),
        (lambda: a_shop(Rule(errback="nowhere")), "'nowhere'"),
        (lambda: a_shop(Rule(process_request="nowhere")), "'nowhere'"),
        (lambda: a_shop(Rule(callback="parse")), "belongs to CrawlSpider"),
        (lambda: a_shop(parse=generator), "parse_start"),
        (lambda: a_shop(parse_start_url=generator), "parse_start here"),
        (lambda: a_shop(rules=Rule()), "a list"),
        (lambda: a_shop(rules={"nav"}), "a list"),
        (lambda: a_shop(rules=["nav"]), "is no Rule"),
    ],
)
def test_mistakes_are_found_when_the_class_is_made(make: Any, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert told in str(caught.value)


def test_a_base_class_need_not_have_the_callbacks() -> None:
    class Base(CrawlSpider):
        rules: ClassVar = [Rule(callback="parse_item")]

    class Mine(Base):
        name = "mine"

        def parse_item(self, response: Response) -> None: ...

    assert Mine().rules is Base.rules
    with pytest.raises(SpiderError, match="parse_item"):
        type("Bad", (Base,), {"name": "bad"})


def test_rules_may_depend_on_arguments() -> None:
    class Mine(CrawlSpider):
        name = "mine"
        section: str = "p"

        @property
        def rules(self) -> list[Rule]:  # type: ignore[override]
            return [Rule(allow=f"/{self.section}/")]

    assert len(list(Mine(section="c").follow_rules(page()))) == 2


def test_the_callback_itself_where_it_is_defined() -> None:
    class Mine(CrawlSpider):
        name = "mine"

        def parse_item(self, response: Response) -> None: ...

        def keep(self, request: Request, response: Response) -> Request:
            return request.replace(priority=self.first)

        first: int = 2
        rules: ClassVar = [Rule(callback=parse_item, process_request=keep)]

    (found, *_) = Mine().follow_rules(page())
    assert (found.callback, found.priority) == ("parse_item", 2)
    assert list(arguments_model(Mine).model_fields) == ["first"]


def test_other_attributes_are_missed_as_usual() -> None:
    with pytest.raises(AttributeError, match="'Shop' object has no attribute 'nothing'"):
        _ = Shop().nothing  # type: ignore[attr-defined]
    assert repr(Rule("nav", allow="x", callback="y")) == "Rule('nav', allow='x', callback='y')"
    assert repr(Rule()) == "Rule()"


# Whole crawls


@pytest.fixture(scope="module")
def shop() -> Iterator[DemoShop]:
    with serve_in_thread(DemoShop()) as shop:
        yield shop


FAST = {"politeness": {"delay": 0, "per_host": 16, "adaptive": False}, "crawl.max_depth": 100}


class ByRules(CrawlSpider):
    """What `spiders/books.py` does, by rules."""

    name = "byrules"
    site: str
    rules: ClassVar = [
        Rule("article.product_pod h3", callback="parse_book", priority=1),
        Rule("li.next, .side_categories ul ul"),
    ]

    async def start(self) -> AsyncIterator[Request]:
        yield Request(self.site)

    async def parse_book(self, response: Response) -> Output:
        book = response.extract(Book)
        book.url = response.url
        yield book


def test_the_shop_by_rules_is_the_shop_by_hand(shop: DemoShop, tmp_path: Path) -> None:
    results = {}
    for spider in (Books, ByRules):
        out = tmp_path / f"{spider.name}.jsonl"
        result = run(spider, site=shop.url, output=str(out), settings=FAST)
        assert result.ended == "finished"
        results[spider] = {book["url"]: book for book in json_lines(out)}
        assert len(results[spider]) == result.items
    assert len(results[Books]) > 1000
    assert results[ByRules] == results[Books]


def test_a_chain_of_rules(shop: DemoShop) -> None:
    seen: Counter[str] = Counter()

    class Chain(CrawlSpider):
        """From the start to two categories, through each to its books, and from books nowhere."""

        name = "chain"
        start_urls: ClassVar = [shop.url]
        rules: ClassVar = [
            Rule(allow=r"/category/books/(travel|poetry)_", callback="parse_category", follow=True),
            Rule("article.product_pod h3", allow=r"/catalogue/[^/]+/index\.html$", callback="book"),
        ]

        def parse_start(self, response: Response) -> None:
            seen["start"] += 1

        async def parse_category(self, response: Response) -> Output:
            seen["category"] += 1
            yield {"category": response.css("h1::text").get()}

        def book(self, response: Response) -> Iterator[Any]:
            yield {"title": response.css("h1::text").get()}

    result = run(Chain, settings={**FAST, "crawl.max_depth": 2})
    assert result.ended == "finished"
    assert seen["start"] == 1
    assert seen["category"] >= 2
    assert result.items > seen["category"] + 20


def test_the_settings_of_a_base_class_are_not_lost(shop: DemoShop) -> None:
    class Base(CrawlSpider):
        settings: ClassVar = {"crawl": {"max_pages": 3}}

    class Mine(Base):
        name = "mine"
        start_urls: ClassVar = [shop.url]
        settings: ClassVar = FAST
        rules: ClassVar = [Rule()]

    result = run(Mine)
    assert (result.ended, result.pages) == ("limit", 3)
