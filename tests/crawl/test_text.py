"""Text in every encoding, honest or not: one crawl, and what its output holds.

The pages are the html5lib project's encoding cases, and some that lie about themselves. Beside
them a healthy host is crawled, and misses nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from scraper import encoding
from tests.crawl.harness import Finished, Project, addresses, json_lines
from tests.crawl.test_manners import address, fan, number
from tests.servers.web import Answer, Reply, Seen, Web, text
from tests.test_encoding import cases

SPIDER = """
from scraper import Request, Spider

class Texts(Spider):
    name = "texts"
    control: str
    base: str
    pages: list[str]

    async def start(self):
        for name in self.pages:
            yield Request(f"{self.base}/{name}")
        yield Request(f"{self.control}/p/0", self.parse_control)

    async def parse(self, response):
        found = response.json() if "json" in response.headers["content-type"] else response.text
        yield {
            "name": response.url.rpartition("/")[2],
            "encoding": response.encoding,
            "text": found,
            "title": "" if isinstance(found, dict) else response.css("title").text,
        }

    async def parse_control(self, response):
        for link in response.links():
            yield response.follow(link, self.parse_control)
        yield {"name": "control", "text": response.css("title").text}
"""
CONTROL = 25
GIVEN = os.environ.get("SCRAPER_TEST_DATA")


@dataclass(frozen=True, slots=True)
class Page:
    """`text`: of the item that comes of it."""

    name: str
    type: str
    body: bytes
    text: Any


def case(number: int, given: str, outcome: str, page: Page) -> Any:
    return pytest.param(page, id=page.name, marks=pytest.mark.case(number, given, outcome))


HTML = "text/html"
GUESSED = "the label counts for nothing: UTF-8 if it is that, else windows-1252"
PAGES = [
    *(
        case(57, f"charset={word}", GUESSED, Page(word, f"{HTML}; charset={word}", body, read))
        for word, body, read in (
            ("nonsense", "<title>é".encode(), "<title>é"),
            ("hex", b"<title>63616665", "<title>63616665"),
            ("idna", b"<title>caf\xe9", "<title>café"),
            ("utf-7", b"<title>+AGEAYgBj-", "<title>+AGEAYgBj-"),
            ("unicode_escape", rb"<title>\u0041", r"<title>\u0041"),
            ("zlib", "<title>x\x9cé".encode(), "<title>x\x9cé"),
        )
    ),
    case(
        57,
        "`<meta charset=hex>` below charset=x-unknown",
        GUESSED,
        Page(
            "meta", f"{HTML}; charset=x-unknown", "<meta charset=hex>ß".encode(),
            "<meta charset=hex>ß",
        ),
    ),
    case(
        58,
        "bytes that are no UTF-8, said to be UTF-8",
        "each is U+FFFD, the rest is kept",
        Page("invalid", f"{HTML}; charset=utf-8", b"<title>a\xffb\xe9", "<title>a\ufffdb\ufffd"),
    ),
    case(
        58,
        "half of a Shift_JIS character, half of a UTF-16 one",
        "U+FFFD, the rest is kept",
        Page("half", f"{HTML}; charset=shift_jis", b"<title>\x82\xa0\x82", "<title>あ\ufffd"),
    ),
    case(
        58,
        "a surrogate in UTF-16 without its pair",
        "U+FFFD, the rest is kept",
        Page("pair", f"{HTML}; charset=utf-16le", b"a\0\0\xd8b\0", "a\ufffdb"),
    ),
    case(
        59,
        "a lone surrogate from JSON in an item",
        "U+FFFD in the JSON line, which parses again",
        Page("json", "application/json", rb'{"\udc00": "a\ud800b"}', {"\ufffd": "a\ufffdb"}),
    ),
    case(
        59,
        "`&#xD800;` in HTML",
        "U+FFFD, as browsers have it; the JSON line parses again",
        Page(
            "reference", f"{HTML}; charset=utf-8", b"<title>&#xD800;</title>",
            "<title>&#xD800;</title>",
        ),
    ),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Crawled:
    done: Finished
    items: dict[str, dict[str, Any]]
    control: int
    standard: dict[str, tuple[bytes, str]]


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawled]:
    project = Project(tmp_path_factory.mktemp("texts") / "p", tmp_path_factory.mktemp("scratch"))
    project.spider(SPIDER)
    standard = {name: (data, expected) for name, data, expected in cases()}
    pages: dict[str, Page] = {row.values[0].name: row.values[0] for row in PAGES}
    odd, healthy = addresses(2)

    def site(seen: Seen) -> Answer:
        name = seen.path.removeprefix("/")
        if address(seen) == healthy:
            return fan(CONTROL, number(seen))
        if name in standard:
            return Reply(standard[name][0], type=HTML)
        return Reply(pages[name].body, type=pages[name].type) if name in pages else text("", 404)

    names = str([*standard, *pages]).replace("'", '"')
    with Web(site, (odd, healthy)) as web:
        arguments = (f"base={web.base(odd)}", f"control={web.base(healthy)}", f"pages={names}")
        given = (word for argument in arguments for word in ("-a", argument))
        done = project.scrape("run", "texts", *given, "-o", "out.jsonl", "--json").expect(0)
    found = json_lines(project.path("out.jsonl"))  # each line is UTF-8, and JSON
    items = {item["name"]: item for item in found if item["name"] != "control"}
    yield Crawled(done, items, len(found) - len(items), standard)
    project.close()


@pytest.mark.skipif(not GIVEN, reason="SCRAPER_TEST_DATA is not set")
@pytest.mark.case(
    56, "the 82 cases of html5lib's encoding data, served as pages", "82 of 82 as they document it"
)
def test_the_standard_cases(crawled: Crawled) -> None:
    assert len(crawled.standard) == 82
    for name, (data, expected) in crawled.standard.items():
        item = crawled.items[name]
        # Where nobody says, a page that is UTF-8 is read as such; these are ASCII then.
        if item["encoding"] == "utf-8" and expected == "windows-1252":
            assert encoding.prescan(data) is None
        else:
            assert item["encoding"] == expected, name
        assert item["text"] == encoding.decode(data, expected), name


@pytest.mark.parametrize("page", PAGES)
def test_pages_that_lie(crawled: Crawled, page: Page) -> None:
    assert crawled.items[page.name]["text"] == page.text
    if page.name == "reference":
        assert crawled.items[page.name]["title"] == "\ufffd"


def test_nothing_failed_and_the_healthy_host_misses_nothing(crawled: Crawled) -> None:
    assert crawled.control == CONTROL
    assert crawled.done.json["reasons"] == {}
    assert len(crawled.items) == len(PAGES) + len(crawled.standard)
