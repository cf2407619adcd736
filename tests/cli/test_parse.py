"""scrape parse, against real servers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cli.conftest import CommandLine, Said
from tests.servers.web import Web, html, redirect, router, text

SHOP = """
from typing import Annotated
from scraper import Css, Drop, Item, Spider

class Book(Item):
    title: Annotated[str, Css("h1")]
    price: Annotated[float, Css(".price", re=r"\\d[\\d.]*")]

class Shop(Spider):
    name = "shop"
    start_urls = ["URL/"]

    async def parse(self, response):
        for link in response.links("a"):
            yield response.follow(link, self.parse_book, meta={"from": response.url})
        yield response.follow("/next")

    async def parse_book(self, response):
        yield response.extract(Book)

    async def numbered(self, response, number: int):
        yield {"number": number, "meta": dict(response.meta)}

    async def broken(self, response):
        yield {"fine": 1}
        helper(response)

    async def misused(self, response):
        yield {"n": response.css("a:::b")}

    async def nested(self, response):
        await self.fetch("nowhere")

def helper(response):
    return response.missing
"""

RULES = """
from scraper.crawlspider import CrawlSpider, Rule

class Ruled(CrawlSpider):
    name = "ruled"
    start_urls = ["URL/"]
    rules = [Rule(allow="/book/", callback="parse_book"), Rule(allow="/list/")]

    def parse_book(self, response):
        yield {"book": response.url}
"""


@pytest.fixture
def web() -> Iterator[Web]:
    book = "<h1>A <b>\\x1b[31mbook</b></h1><p class=price>£ 3.50</p>"
    site = router({
        "/robots.txt": text("User-agent: *\nDisallow: /no\n"),
        "/": html("<a href=/book/1>1</a><a href=/book/2>2</a><a href=/no>n</a>"
                  "<a href=http://elsewhere.example/>e</a>"),
        "/book/1": html(book.replace("\\x1b", "\x1b")),
        "/book/2": html("<h1>No price</h1>"),
        "/next": html("<a href=/book/3>3</a>"),
        "/book/3": redirect("/book/1"),
        "/list/1": html("<a href=/book/1>1</a>"),
    })  # fmt: skip
    with Web(site) as web:
        yield web


@pytest.fixture
def shop(scrape: CommandLine, web: Web) -> CommandLine:
    scrape.write("config.toml", "[politeness]\ndelay = 0\n")
    scrape.write("spiders/shop.py", SHOP.replace("URL", web.url))
    return scrape


def parsed(said: Said) -> dict[str, list[dict[str, object]]]:
    assert said.code == 0, said.err
    told: dict[str, list[dict[str, object]]] = json.loads(said.out)
    return told


def test_requests_and_why_a_crawl_would_not_make_them(shop: CommandLine, web: Web) -> None:
    said = shop("parse", f"{web.url}/")
    assert said.code == 0
    assert [line.split() for line in said.out.splitlines()] == [
        ["Requests"],
        ["parse_book", "/book/1"],
        ["parse_book", "/book/2"],
        ["parse_book", "robots_denied", "/no"],
        ["parse_book", "out_of_scope", "http://elsewhere.example/"],
        ["parse", "/next"],
    ]
    assert f"parse()  200  {web.url}/" in said.err
    assert "0 items, 5 requests (2 refused)" in said.err


def test_an_item_and_one_that_does_not_fit(shop: CommandLine, web: Web) -> None:
    said = shop("parse", f"{web.url}/book/1", "-c", "parse_book")
    assert said.out.splitlines() == ["Book", "  title  A \\x1b[31mbook", "  price  3.5"]
    assert "1 item, 0 requests" in said.err
    said = shop("parse", f"{web.url}/book/2", "-c", "parse_book", "-q")
    assert said.code == 0
    assert said.err == ""
    lines = said.out.splitlines()
    assert lines[0] == "Rejected: Book (item_invalid)"
    assert lines[1].startswith("  price: ")
    assert ".price" in said.out


def test_json(shop: CommandLine, web: Web) -> None:
    said = shop("parse", f"{web.url}/", "--json", "--depth", "1")
    assert said.code == 0
    told = json.loads(said.out)
    assert [(page["url"], page["depth"]) for page in told["pages"]] == [
        (f"{web.url}/", 0),
        (f"{web.url}/book/1", 1),
        (f"{web.url}/book/2", 1),
        (f"{web.url}/next", 1),
    ]
    assert told["items"] == [{"title": "A \x1b[31mbook", "price": 3.5}]
    assert [row["item"] for row in told["rejected"]] == ["Book"]
    assert told["requests"][0] == {
        "method": "GET",
        "url": f"{web.url}/book/1",
        "callback": "parse_book",
        "refused": None,
        "meta": {"from": f"{web.url}/"},
    }
    assert [r["refused"] for r in told["requests"]] == [
        None, None, "robots_denied", "out_of_scope", None, None, "duplicate",
    ]  # fmt: skip
    assert said.err == ""


def test_following_stops_at_so_many_pages(shop: CommandLine, web: Web) -> None:
    said = shop("parse", f"{web.url}/", "--depth", "3", "--pages", "2")
    assert "2 more requests were not followed (--pages 2)" in said.err
    assert len(web.log) == 3  # robots.txt, the page and one more


def test_one_side_only(shop: CommandLine, web: Web) -> None:
    told = parsed(shop("parse", f"{web.url}/", "--json", "--items-only"))
    assert set(told) == {"pages", "items", "rejected", "dropped"}
    told = parsed(shop("parse", f"{web.url}/", "--json", "--requests-only"))
    assert set(told) == {"pages", "requests"}
    assert shop("parse", f"{web.url}/", "--items-only").out == ""
    said = shop("parse", f"{web.url}/", "--items-only", "--requests-only")
    assert said.code == 2
    assert "choose one" in said.err


def test_arguments_of_the_callback(shop: CommandLine, web: Web) -> None:
    line = ["parse", f"{web.url}/", "-c", "numbered", "--json"]
    told = parsed(shop(*line, "--kwargs", '{"number": "3"}', "--meta", '{"k": [1]}'))
    assert told["items"] == [{"number": 3, "meta": {"k": [1]}}]
    said = shop(*line, "--kwargs", '{"number": "x"}')
    assert said.code == 1
    assert "numbered(number=…): Input should be a valid integer" in said.err
    assert "missing 1 required positional argument: 'number'" in shop(*line).err


def test_a_callback_that_raises_shows_the_users_lines(shop: CommandLine, web: Web) -> None:
    said = shop("parse", f"{web.url}/", "-c", "broken")
    assert said.code == 1
    assert said.out == ""
    lines = [line.strip() for line in said.err.splitlines()]
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith('spiders/shop.py", line 25, in broken')
    assert "return response.missing" in lines
    assert "AttributeError: 'Response' object has no attribute 'missing'" in lines
    assert lines[-1] == f"scrape: broken() at {web.url}/ raised AttributeError"
    assert "scraper/workbench.py" not in said.err
    said = shop("parse", f"{web.url}/", "-c", "misused")
    assert said.code == 1
    assert 'yield {"n": response.css("a:::b")}' in said.err
    assert "not a valid CSS selector: 'a:::b'" in said.err
    said = shop("parse", f"{web.url}/", "-c", "nested")
    assert said.code == 1
    assert "nested() at" in said.err
    assert "url_invalid" in said.err


def test_a_status_that_does_not_reach_the_callback(shop: CommandLine, web: Web) -> None:
    said = shop("parse", f"{web.url}/missing", "--json")
    assert said.code == 1
    assert "status 404, which does not reach parse()" in said.err
    assert json.loads(said.out)["pages"] == []


def test_a_redirect_keeps_the_callback(shop: CommandLine, web: Web) -> None:
    told = parsed(shop("parse", f"{web.url}/book/3", "-c", "parse_book", "--json"))
    assert told["pages"][0]["url"] == f"{web.url}/book/1"
    assert told["pages"][0]["callback"] == "parse_book"


def test_a_saved_page(shop: CommandLine, web: Web) -> None:
    shop.write("page.html", "<h1>Saved</h1><p class=price>1.0</p><a href=next.html>n</a>")
    told = parsed(shop("parse", "page.html", "--spider", "shop", "-c", "parse_book", "--json"))
    assert told["items"] == [{"title": "Saved", "price": 1.0}]
    told = parsed(shop("parse", "./page.html", "--url", f"{web.url}/list/", "--json"))
    assert told["requests"][0]["url"] == f"{web.url}/list/next.html"
    assert told["requests"][0]["refused"] is None
    assert web.log == []
    said = shop("parse", "./missing.html")
    assert said.code == 2
    assert "missing.html: No such file" in said.err


def test_the_spider_is_found_by_its_site(shop: CommandLine, web: Web) -> None:
    other = "from scraper import Spider\nclass Other(Spider):\n    name = 'other'\n"
    shop.write("spiders/other.py", f"{other}    allowed_domains = ['other.example']\n")
    assert shop("parse", f"{web.url}/", "-q").code == 0
    said = shop("parse", "http://unknown.example/")
    assert said.code == 2
    assert "no spider says that it crawls http://unknown.example" in said.err
    assert "There are: other, shop." in said.err
    shop.write("spiders/more.py", SHOP.replace("URL", web.url).replace('"shop"', '"more"'))
    said = shop("parse", f"{web.url}/")
    assert f"several spiders crawl {web.url}: more, shop" in said.err


def test_a_project_without_spiders(scrape: CommandLine) -> None:
    assert "is in no project" in scrape("parse", "http://a.example/").err
    scrape.write("config.toml", "")
    (scrape.root / "spiders").mkdir()
    said = scrape("parse", "http://a.example/")
    assert said.code == 2
    assert "There are none: `scrape new NAME URL` makes one." in said.err


def test_the_rule_that_fits(shop: CommandLine, web: Web) -> None:
    shop.write("spiders/ruled.py", RULES.replace("URL", web.url))

    def callback(path: str) -> object:
        said = shop("parse", f"{web.url}{path}", "--spider", "ruled", "--json")
        return parsed(said)["pages"][0]["callback"]

    assert callback("/book/1") == "parse_book"
    assert callback("/list/1") == "follow_rules"
    assert callback("/") == "parse"
    told = parsed(shop("parse", f"{web.url}/list/1", "--spider", "ruled", "--json"))
    assert [r["callback"] for r in told["requests"]] == ["parse_book"]


def test_pipelines_on_request(shop: CommandLine, web: Web) -> None:
    shop.write(
        "stages.py",
        """
        from scraper import Drop, Pipeline

        class Cheap(Pipeline):
            async def process(self, item, page):
                if item.price > 3:
                    raise Drop("too dear")
                return item
        """,
    )
    config = '[politeness]\ndelay = 0\n[[pipelines]]\nuse = "stages:Cheap"\n'
    shop.write("config.toml", f'{config}[[pipelines]]\nuse = "jsonl"\npath = "out.jsonl"\n')
    line = ["parse", f"{web.url}/book/1", "-c", "parse_book"]
    assert shop(*line, "-q").out.startswith("Book")
    said = shop(*line, "--pipelines")
    assert said.out == "Dropped by Cheap: too dear (1)\n"
    assert "0 items, 0 requests, 1 dropped" in said.err
    told = parsed(shop(*line, "--pipelines", "--json"))
    assert told["dropped"] == [{"reason": "too dear", "stage": "Cheap"}]
    assert sorted(p.name for p in shop.root.iterdir()) == ["config.toml", "spiders", "stages.py"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-c", "parse_bok"], "did you mean parse_book?"),
        (["--spider", "shp"], "did you mean shop?"),
        (["--kwargs", "{"], "--kwargs: not JSON"),
        (["--meta", "3"], "--meta: give an object"),
        (["--url", "here"], "here is not an http or https URL"),
        (["-a", "page=1"], "no argument 'page'"),
        (["--depht", "1"], "No such option"),
    ],
)  # fmt: skip
def test_mistakes(shop: CommandLine, web: Web, args: list[str], said: str) -> None:
    result = shop("parse", f"{web.url}/", *args)
    assert result.code == 2
    assert said in result.err
    assert web.log == []


def test_lines_fit_a_terminal(shop: CommandLine, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scraper.cli.parse.on_terminal", lambda: True)
    long = "x" * 200
    many = "".join(f"<a href=/{long}{n}>" for n in range(60))
    shop.write("page.html", f"<h1>{long}</h1><p class=price>1</p>{many}")
    said = shop("parse", "page.html", "--url", f"{web.url}/", "-q")
    assert max(map(len, said.out.splitlines())) <= 80
    assert said.out.splitlines()[-1].strip() == "… and 21 requests more (--json shows all)"
    assert len(said.out.splitlines()) == 42
    said = shop("parse", "page.html", "--spider", "shop", "-c", "parse_book", "-q")
    assert max(map(len, said.out.splitlines())) <= 80
