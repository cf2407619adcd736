"""What a type checker must object to: each line that ends in a comment `error: …` is one.

Checked by `test_typing`; left out of the repository's own runs of mypy.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, reveal_type

from scraper import (
    CrawlSpider,
    Css,
    Drop,
    FeedSpider,
    Fetch,
    Item,
    Json,
    Observer,
    Output,
    Page,
    Pipeline,
    Request,
    Response,
    Retry,
    Rule,
    Spider,
    Url,
    run,
    stream,
)
from scraper.types import DateFormat, DecimalMark, Price

# What stands inside of Annotated[…] no type checker looks at: there it is an error at run time.
Css("h1", regex="x")  # error: Unexpected keyword argument "regex"
Css(re="x", default=None, join=7)  # error: expected "str | None"
Json("isbn", kind="Book")  # error: Unexpected keyword argument "kind"
Url(absolute=True)  # error: Unexpected keyword argument "absolute"
DecimalMark(";")  # error: expected "Literal['.', ',']"
DateFormat(7)  # error: expected "str"


class Book(Item):
    title: Annotated[str, Css("h1")]
    price: Annotated[Price, Css(".price")]


def items(response: Response) -> None:
    book = response.extract(Book)
    reveal_type(book)  # note: "wrong.Book"
    reveal_type(response.extract_all(Book, "article"))  # note: list[wrong.Book]"
    book.titel  # error: "Book" has no attribute "titel"; maybe "title"?
    book.title = 7  # error: expression has type "int", variable has type "str"
    book.price.amount.upper()  # error: "Decimal" has no attribute "upper"
    response.extract("Book")  # error: incompatible type "str"; expected "type[Never]"
    response.extract(Book, jmespath="a")  # error: Unexpected keyword argument "jmespath"


def pages(response: Response) -> None:
    response.css("h1").get().strip()  # error: Item "None" of "str | None" has no attribute "strip"
    response.css("h1").extract_first()  # error: "SelectorList" has no attribute "extract_first"
    response.css(7)  # error: expected "str"
    response.links(alow="/books/")  # error: Unexpected keyword argument "alow"
    response.links(nofollow="yes")  # error: expected "bool | None"
    response.form("#login").submit(clik="go")  # error: Unexpected keyword argument "clik"
    reveal_type(response.css("a").attrib)  # note: "typing.Mapping[str, str]"
    reveal_type(response.links())  # note: list[


def requests(response: Response) -> None:
    Request("https://example.com/", calback="parse")  # error: argument "calback"
    Request("https://example.com/", accept=404)  # error: expected "Collection[int
    Request("https://example.com/", "parse", method={})  # error: expected "str | None"
    Request("https://example.com/", "parse", None, "GET")  # error: Too many positional arguments
    response.follow("/2", priorty=1)  # error: Unexpected keyword argument "priorty"
    response.follow("/2", priority="high")  # error: incompatible type "str"; expected "int"
    response.follow("/2", cb_kwargs={})  # error: Unexpected keyword argument "cb_kwargs"
    request = response.follow("/2")
    request.url = "/3"  # error: Property "url" defined in "Request" is read-only
    request.replace(prio=1)  # error: Unexpected keyword argument "prio"
    request.meta["a"] = 1  # error: Unsupported target for indexed assignment


class Books(Spider):
    name = 7  # error: expression has type "int", base class "Spider" defined the type as "str"
    most: int = 20

    async def start(self) -> AsyncIterator[str]:  # error: incompatible with return type
        yield "https://example.com/"

    async def parse(self, response: Response) -> Output:
        yield 7  # error: Incompatible types in "yield"
        page = self.fetch("https://example.com/")
        page.css("h1")  # error: "Coroutine[Any, Any, Response]" has no attribute "css"
        self.most = "many"  # error: expression has type "str", variable has type "int"
        self.mots  # error: "Books" has no attribute "mots"
        raise Retry("busy", delay="soon")  # error: expected "float | None"

    async def closed(self) -> None:  # error: Signature of "closed" incompatible with supertype
        pass


class Ruled(CrawlSpider):
    rules = [Rule("li.next", callbak="parse_book")]  # error: Unexpected keyword argument "callbak"

    async def parse_book(self, response: Response) -> Output:
        yield self.nothing  # error: "Ruled" has no attribute "nothing"


class Fed(FeedSpider):
    format = "xls"  # error: base class "FeedSpider" defined the type as
    item = dict  # error: base class "FeedSpider" defined the type as


class Cheap(Pipeline):
    def process(self, item: object, page: Page) -> object:  # error: Return type "object"
        raise Drop(7)  # error: expected "str"


class Seen(Observer):
    def on_item(self, item: object) -> None:  # error: Signature of "on_item" incompatible
        pass


async def signed(request: Request) -> Response:
    return Response(request.url)


class Wrapped(Spider):
    middleware = [signed]  # error: List item 0 has incompatible type


async def crawls(fetch: Fetch) -> None:
    run("books")  # error: expected "type[Spider]"
    run(Books, output=7)  # error: expected "str | Path | None"
    run(Books).pagse  # error: "CrawlResult" has no attribute "pagse"
    reveal_type(run(Books).items)  # note: int"
    reveal_type(await fetch(Request("https://example.com/")))  # note: "scraper.http.Response"
    await stream(Books)  # error: expected type "Awaitable[Any]"
