"""A user's program that uses the whole public face, checked as users check theirs: `mypy --strict`.

It also runs: `python program.py ADDRESS` crawls the demo shop at that address.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, assert_type

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from scraper import (
    FILE_ENDINGS,
    CrawlInfo,
    CrawlResult,
    CrawlSpider,
    Css,
    Drop,
    Failure,
    FeedSpider,
    Fetch,
    FetchError,
    Form,
    Headers,
    Item,
    ItemInvalid,
    Json,
    Meta,
    Middleware,
    Observer,
    Output,
    Page,
    Pipeline,
    Request,
    Response,
    Retry,
    Rule,
    ScraperError,
    Selector,
    SelectorList,
    Sink,
    SitemapSpider,
    Spider,
    Throttled,
    Url,
    XPath,
    Yielded,
    __version__,
    crawl,
    glob,
    run,
    stream,
)
from scraper.sitemap import Entry
from scraper.types import (
    Amount,
    Date,
    DateFormat,
    DateHints,
    DateTime,
    DecimalMark,
    Flag,
    Integer,
    Link,
    Number,
    Price,
    Quantity,
    Text,
    Words,
)

# Items ------------------------------------------------------------------------------------------


class Book(Item):
    """The example of the design."""

    title: Annotated[str, Css("h1")]
    price: Annotated[Decimal, Css(".price_color", re=r"[\d.]+")]
    stock: Annotated[int, Css(".availability", re=r"\d+")] = 0
    tags: Annotated[list[str], Css("ul.tags li")]
    subtitle: Annotated[str | None, Css("h2")]
    image: Annotated[str, Css("img::attr(src)", ".cover::attr(href)", absolute=True)]
    reviews: Annotated[list[Review], Css("li.review")]


class Review(Item):
    text: Annotated[str, Css("p")]
    stars: Annotated[Literal[1, 2, 3, 4, 5] | None, Css(".stars", re=re.compile(r"\d"))] = None


class Everything(Item):
    """Every marker with every option, and every conversion type."""

    number: Annotated[int, Url(re=r"_(\d+)/", default=0)]
    shelf: Annotated[str, Meta("shelf.name", "shelf", default="", strip=False)]
    name: Annotated[str, Json("name", type="Book"), Json("name", script="data"), Css("h1")]
    rows: Annotated[str, XPath("//tr/td", join="; ", default=None)]
    codes: Annotated[set[str], XPath("//tr[1]/td", re=r"\w+")]
    home: Annotated[str, XPath("//a/@href", absolute=True)]
    price: Annotated[Price | None, Css(".price_color"), DecimalMark(".")] = None
    amount: Annotated[Amount, Css(".price_color")] = Decimal(0)
    rating: Annotated[Number | None, Css(".rating")] = None
    stock: Annotated[Integer, Css(".product_main .availability")] = 0
    weight: Annotated[Quantity | None, Css(".weight")] = None
    added: Annotated[Date | None, Css(".added"), DateFormat("%d.%m.%Y")] = None
    changed: Annotated[DateTime | None, Css(".changed"), DateHints(languages=["de"])] = None
    there: Annotated[Flag, Css(".product_main .availability")] = False
    here: Annotated[bool, Css(".instock"), Words("in stock", ["out of stock"])] = False
    text: Annotated[Text, Css("#product_description + p")] = ""
    cover: Annotated[Link | None, Css("img::attr(src)")] = None
    page: str = ""


class Model(BaseModel):
    title: Annotated[str, Css("h1")]


@dataclass
class Data:
    title: Annotated[str, Css("h1")]


class Keys(TypedDict):
    title: Annotated[str, Css("h1")]


# Spiders ----------------------------------------------------------------------------------------


async def stamped(request: Request, call_next: Fetch) -> Response:
    return await call_next(request.replace(headers={**request.headers, "X-Run": "7"}))


WRAPPED: Sequence[Middleware] = [stamped]


class Books(Spider):
    name = "books"
    start_urls = ["https://books.toscrape.com/"]
    allowed_domains: ClassVar[list[str]] = []
    accept = [404]
    settings = {"crawl": {"max_depth": 5}, "politeness.delay": 0.0}
    middleware = WRAPPED
    version = "3"

    site: str = "https://books.toscrape.com/"
    most: Annotated[int, Field(ge=1)] = 3
    order: Literal["site", "name"] = "site"

    async def setup(self) -> None:
        self._began = datetime.now()
        try:
            robots = await self.fetch(f"{self.site}robots.txt")
        except Throttled as error:
            self.log.warning("%s %s", error.at, error.reason)
        except FetchError as error:
            self.log.warning("%s", error.reason)
        else:
            assert_type(robots, Response)

    async def start(self) -> AsyncIterator[Request]:
        yield Request(self.site)

    async def parse(self, response: Response) -> Output:
        for link in response.links("article.product_pod h3 a")[: self.most]:
            yield response.follow(link, self.parse_book)
        for link in response.links("li.next a"):
            yield response.follow(link)  # the same callback
        yield response.follow_all(css="aside a", allow="travel", callback=self.parse_list)

    async def parse_book(self, response: Response) -> Output:
        yield response.extract(Book)
        yield [{"url": response.url}, Data("a"), Model(title="b")]

    def parse_list(self, response: Response) -> Iterator[Yielded]:
        yield from response.follow_all(response.links("h3 a")[:1], self.parse_rank, priority=-1)

    async def parse_rank(self, response: Response, rank: int = 0) -> list[Yielded]:
        return [{"rank": rank, "title": response.css("h1").text}]

    async def parse_twice(self, response: Response, book: Book | None = None) -> None:
        if "Please wait" in response.text:
            raise Retry("busy", delay=30)
        if book is None:
            raise Retry("busy")

    async def gone(self, failure: Failure) -> Output:
        status = failure.response.status if failure.response is not None else None
        yield {"url": failure.request.url, "reason": failure.reason, "status": status}

    async def closed(self, reason: str) -> None:
        self.log.info("closed: %s", reason)


def dropped(request: Request, response: Response) -> Request | None:
    return None if "staff" in request.url else request.replace(priority=1)


class Ruled(CrawlSpider):
    name = "ruled"
    start_urls = ["https://books.toscrape.com/"]
    rules = [
        Rule("li.next", follow=True, process_request=dropped),
        Rule(
            allow=[re.compile("/catalogue/"), glob("/catalogue/*")],
            deny="/category/",
            domains=["books.toscrape.com"],
            deny_domains="example.com",
            extensions=FILE_ENDINGS | {"csv"},
            attrs=("href",),
            text="(?i)book",
            nofollow=True,
            callback="parse_book",
            kwargs={"shelf": "A"},
            priority=2,
            errback="gone",
        ),
        Rule(xpath="//aside//a", callback="parse_book"),
    ]

    async def parse_start(self, response: Response) -> Output:
        yield {"start": response.url}

    async def parse_book(self, response: Response, shelf: str = "") -> Output:
        yield Everything(number=1, shelf=shelf, name="", rows="", codes=set(), home="")
        for request in self.follow_rules(response):
            yield request

    async def gone(self, failure: Failure) -> None:
        self.log.info("%s", failure.detail)


class Mapped(SitemapSpider):
    name = "mapped"
    sitemap_urls = ["https://books.toscrape.com/robots.txt"]
    sitemap_rules = [(r"/catalogue/[\w-]+_\d+/", "parse_book"), (re.compile("/c/"), "parse")]
    sitemap_follow = ["books"]
    sitemap_alternate_links = True
    modified_since = "7d"

    def sitemap_filter(self, entries: Iterable[Entry]) -> Iterable[Entry]:
        return (entry for entry in entries if (entry.priority or 1.0) > 0.3)

    async def parse(self, response: Response) -> Output:
        yield response.extract(Model)

    async def parse_book(self, response: Response) -> Output:
        yield {"title": response.css("h1").text, "lastmod": response.meta.get("lastmod")}


class Stock(Item):
    sku: str
    stock: Integer = 0


class Fed(FeedSpider):
    name = "fed"
    start_urls = ["https://shop.example/stock.csv"]
    format = "csv"
    delimiter = ";"
    fields = ["sku", "stock"]
    item = Stock

    async def parse_row(self, response: Response, row: Stock) -> Output:
        if row.stock:
            yield row


class Rows(FeedSpider):
    name = "rows"
    itertag = "entry"

    def parse_row(self, response: Response, row: dict[str, str]) -> Iterator[Yielded]:
        yield {"id": row["id"]}


# A page -----------------------------------------------------------------------------------------


def read(page: Response) -> None:
    """What a page offers, and the types of it."""
    assert_type(page.css("h1"), SelectorList)
    assert_type(page.css("h1")[0], Selector)
    assert_type(page.css("li")[1:], SelectorList)
    assert_type(page.css("h1").get(), str | None)
    assert_type(page.css("h1").get("none"), str)
    assert_type(page.css("h1").get(default=7), str | int)
    assert_type(page.css("h1").getall(), list[str])
    assert_type(page.css("h1").re(r"\w+"), list[str])
    assert_type(page.css("h1").re_first(r"\w+"), str | None)
    assert_type(page.css("h1").re_first(r"\w+", default=""), str)
    assert_type(page.css("a").attrib, Mapping[str, str])
    assert_type(page.xpath("//a[@id=$id]", id="x").css("b").text, str)
    assert_type([link.tag + link.html for link in page.css("a")], list[str])
    page.css("script").drop()
    assert_type(page.extract(Book), Book)
    assert_type(page.extract(Data, "main").title, str)
    assert_type(page.extract(Keys, xpath="//main")["title"], str)
    assert_type(page.extract_all(Model, json="books[*]"), list[Model])
    assert_type(page.links(text="more", nofollow=False), list[str])
    assert_type(page.follow(page.css("a")[0], session="ann", accept="*"), Request)
    assert_type(page.follow_all(page.css("a"), "parse"), list[Request])
    assert_type(page.canonical, str | None)
    assert_type(page.urljoin("x") + page.base_url + page.encoding + page.text, str)
    assert_type(page.history, tuple[str, ...])
    assert_type(page.headers, Headers)
    assert_type(page.headers.getall("Set-Cookie"), list[str])
    assert_type((page.is_html, page.is_xml), tuple[bool, bool])
    assert_type((page.body, page.status, page.elapsed), tuple[bytes, int, float])
    assert_type(page.structured().find("Book"), dict[str, Any] | None)
    assert_type(Selector.of("<p>").css("p").text, str)
    try:
        assert_type(page.extract(Everything).changed, datetime | None)
        assert_type(page.extract(Everything).added, date | None)
    except ItemInvalid as error:
        assert_type(error.errors, list[dict[str, Any]])


def ask(page: Response) -> list[Request]:
    """The ways to a request."""
    form = page.form("#login", index=0)
    assert_type(form, Form)
    assert_type(form.fields, list[tuple[str, str]])
    return [
        form.submit({"user": "ann", "ok": True, "tags": ["a", "b"]}, "parse", click="Log in"),
        form.submit(click=False, extra={"token": 7}, unique=False, timeout=10),
        Request("https://example.com/", "parse", errback="gone", method="PUT", body="text"),
        Request("https://example.com/", json={"page": 1}, meta={"a": 1}, repeatable=True),
        Request("https://example.com/", form=[("a", 1), ("a", 2)], cookies={"theme": "dark"}),
        Request(
            "https://example.com/",
            form={"title": "Pot"},
            files={"photo": ("pot.jpg", b"...", "image/jpeg"), "list": [b"a", b"b"]},
            secret=["X-Key"],
            proxy="http://127.0.0.1:3128",
            headers={"X-Key": "7"},
        ),
        Request.from_curl("curl https://example.com/", "parse", ignore=True, priority=3),
        Request("https://example.com/").replace(url="https://example.com/2", kwargs={"n": 1}),
    ]


# Stages, sinks, observers -----------------------------------------------------------------------


class Dear(Pipeline):
    def __init__(self, above: Decimal = Decimal(20)) -> None:
        self.above = above

    async def open(self, crawl: CrawlInfo) -> None:
        self.root: Path = crawl.root

    async def process(self, item: Any, page: Page) -> Any:
        if isinstance(item, Book) and item.price < self.above:
            raise Drop("too cheap")
        return item


class Kept:
    """A sink that keeps everything in memory."""

    recovery: Literal["rewind", "redo"] = "rewind"
    key = "kept"

    def __init__(self) -> None:
        self.records: list[Any] = []

    async def open(self, crawl: CrawlInfo) -> None: ...

    async def process(self, item: Any, page: Page) -> Any:
        page.stage(self, item, 100)
        return item

    async def write(self, records: Sequence[Any]) -> int:
        self.records += records
        return len(self.records)

    async def rewind(self, position: Any) -> None:
        del self.records[position or 0 :]

    async def publish(self) -> None: ...
    async def set_aside(self) -> None: ...
    async def aclose(self) -> None: ...

    def describe(self) -> dict[str, Any]:
        return {"records": len(self.records)}


KEPT: Sink = Kept()


class Counted(Observer):
    def __init__(self) -> None:
        self.urls: list[str] = []
        self.items = 0
        self.reason = ""

    def on_response(self, request: Request, response: Response) -> None:
        self.urls.append(response.url)

    def on_item(self, item: Any, page: Page) -> None:
        self.items += 1

    def on_close(self, reason: str) -> None:
        self.reason = reason


# Crawls -----------------------------------------------------------------------------------------


async def streamed(site: str) -> list[Any]:
    return [item async for item in stream(Books, args={"site": site}, limit=2)]


async def awaited(site: str) -> CrawlResult:
    return await crawl(Books, settings={"crawl": {"max_pages": 2}}, site=site)


def main(site: str) -> None:
    counted = Counted()
    result = run(Books, output="books.jsonl", observers=[counted], site=site, most=2)
    assert_type(result, CrawlResult)
    assert (result.ended, result.failed) == ("finished", 0), result
    assert counted.items == result.items > 0
    assert counted.reason == "finished"
    assert len(asyncio.run(streamed(site))) == 2
    assert asyncio.run(awaited(site)).pages == 2
    try:
        run(Books, most=0)
    except ScraperError as error:
        assert "most" in error.message
    checks: list[Callable[[], object]] = [Mapped, Fed, Ruled]
    print(__version__, result.items, *(type(check()).__name__ for check in checks))


if __name__ == "__main__":
    main(sys.argv[1])
