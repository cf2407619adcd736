"""Every idiom of the page for those who come from Scrapy: one side parses, the other runs."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from types import ModuleType
from typing import Any

import pytest

from scraper import Drop, Response, Retry, Spider, run
from scraper.demo import DemoShop
from tests.docs.annex import STOCK
from tests.docs.conftest import Made
from tests.docs.markdown import FROM_SCRAPY, Block, blocks, text_of

Rows = list[dict[str, Any]]
ProjectOf = Callable[[str], Made]

SIDE = "# Scrapy\n"
COMMANDS_ONLY = {50, 51}
"""Idioms whose Scrapy side is a command, named in the text."""


@dataclass(frozen=True)
class Idiom:
    number: int
    title: str
    there: tuple[Block, ...]
    here: tuple[Block, ...]

    def __str__(self) -> str:
        return f"{self.number}-{self.title}"


def idioms() -> Iterator[Idiom]:
    text = text_of(FROM_SCRAPY)
    heads = list(re.finditer(r"^### (\d+)\. (.+)$", text, re.MULTILINE))
    shown = [b for kind in ("python", "toml", "console") for b in blocks(kind, FROM_SCRAPY)]
    lines = [text[: head.start()].count("\n") + 1 for head in heads]
    for head, first, last in zip(heads, lines, [*lines[1:], sys.maxsize], strict=True):
        inside = [b for b in shown if first < b.line < last]
        there = tuple(b for b in inside if b.text.startswith(SIDE))
        here = tuple(b for b in inside if not b.text.startswith(SIDE))
        yield Idiom(int(head[1]), head[2], there, here)


IDIOMS = list(idioms())
PRELUDE = blocks("python", FROM_SCRAPY)[0]
each_idiom = pytest.mark.parametrize("idiom", IDIOMS, ids=str)


def test_there_are_enough() -> None:
    assert [idiom.number for idiom in IDIOMS] == list(range(1, len(IDIOMS) + 1))
    assert len(IDIOMS) >= 30
    assert "same callback" in IDIOMS[0].title


@each_idiom
def test_both_sides_are_shown(idiom: Idiom) -> None:
    assert idiom.here
    assert bool(idiom.there) != (idiom.number in COMMANDS_ONLY)
    for block in idiom.there:
        assert ast.parse(block.text).body


# What the spiders of this page bring home -------------------------------------------------------


def expected(shop: DemoShop) -> dict[str, Any]:
    """By the spider's name: its items in any order, or how many there are."""
    books = {book.number: book for book in shop.site.books}
    travels = [book.title for book in books.values() if book.category == "Travel"]
    pages = -(-len(travels) // 20)
    shelf = f"{shop.url}catalogue/category/books/travel_2/"
    front = [book.title for book in books.values() if not book.walled][:20]
    return {
        "same": [
            {"url": f"{shelf}{'index' if n == 1 else f'page-{n}'}.html"}
            for n in range(1, pages + 1)
        ],
        "other": [{"title": title} for title in front],
        "first": [{"page": f"Page {n} of 50"} for n in (1, 2, 3)],
        "argued": [{"category": "Travel", "pages": 11}],
        "tuned": [{"page": f"Page {n} of 50"} for n in (1, 2, 3)],
        "bound": [{"title": "All products"}],
        "framed": 1,
        "limited": 5,
        "listed": 20,
        "handed": [{"rank": rank, "title": title} for rank, title in enumerate(front, 1)],
        "halved": [{"title": front[0], "upc": next(iter(books.values())).upc}],
        "failing": [{"reason": "http_404", "status": 404}],
        "accepting": [{"status": 404}],
        "waiting": 1,
        "posting": [{"asked": {"page": 2}}],
        "filled": [{"user": "ann"}],
        "jars": [{"user": "ann"}, {"user": "bob"}],
        "inline": 1,
        "ruled": [{"title": title} for title in travels],
        "mapped": [{"page": f"Page {n} of 50"} for n in (2, 3)],
        "stocked": [{"sku": row[0]} for row in STOCK],
        "wrapped": [{"sent": "7"}],
        "titles": 20,
        "counted": 1,
    }


REASONS = {
    "tuned": {"depth": 1},
    "bound": {"out_of_scope": 1},
    "failing": {"http_404": 1},
    "counted": {"http_404": 1},
}
"""What ended without success, by the spider's name; of the others, nothing."""


def module_of(made: Made, block: Block, name: str) -> ModuleType:
    made.write(f"{name}.py", PRELUDE.text + "\n\n" + block.text)
    importlib.invalidate_caches()
    return importlib.import_module(name)


def spiders_in(module: ModuleType) -> list[type[Spider]]:
    found = [k for k in vars(module).values() if isinstance(k, type) and issubclass(k, Spider)]
    return [kind for kind in found if kind.__module__ == module.__name__]


PYTHON = [(i, b) for i in IDIOMS for b in i.here if b.language == "python"]


@pytest.fixture
def made(project_of: ProjectOf) -> Iterator[Made]:
    before = set(sys.modules)
    yield project_of(FROM_SCRAPY)
    for name in set(sys.modules) - before:
        if name.startswith("idiom_"):
            del sys.modules[name]


@pytest.mark.parametrize(("idiom", "block"), PYTHON, ids=str)
def test_here_it_runs(idiom: Idiom, block: Block, made: Made, shop: DemoShop) -> None:
    module = module_of(made, block, f"idiom_{idiom.number}")
    found = spiders_in(module)
    code = [line for line in block.text.splitlines() if line.startswith("assert ")]
    shown = [v for v in vars(module).values() if getattr(v, "__module__", "") == module.__name__]
    assert found or code or shown
    for spider in found:
        rows = crawled(made, spider)
        wanted = expected(shop)
        if isinstance(wanted[spider.name], int):
            assert len(rows) == wanted[spider.name]
            assert all(value for row in rows for value in row.values())
        else:
            assert sorted(rows, key=str) == sorted(wanted[spider.name], key=str)


def crawled(made: Made, spider: type[Spider]) -> Rows:
    out = made.root / f"{spider.name}.jsonl"
    settings = {"politeness": {"delay": 0}, "crawl": {"max_failure_rate": 1}}
    result = run(spider, output=out, settings=settings)
    assert result.ended == ("limit" if spider.name == "limited" else "finished")
    assert result.reasons == REASONS.get(spider.name, {})
    return [json.loads(line) for line in out.read_text("utf-8").splitlines()]


def test_every_expectation_has_its_spider(made: Made, shop: DemoShop) -> None:
    named = re.findall(r'^    name = "(\w+)"$', "".join(b.text for _, b in PYTHON), re.MULTILINE)
    assert sorted(named) == sorted(expected(shop))


# What takes more than to run --------------------------------------------------------------------


def block_of(number: int) -> Block:
    return next(block for idiom, block in PYTHON if idiom.number == number)


@pytest.mark.parametrize("number", [47, 48])
def test_scripts_run(number: int, made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    block = block_of(number)
    path = made.write("script.py", PRELUDE.text + "\n\n" + block.text)
    spec = importlib.util.spec_from_file_location("__main__", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    main, sys.modules["__main__"] = sys.modules["__main__"], module
    try:
        spec.loader.exec_module(module)
    finally:
        sys.modules["__main__"] = main
    assert module.result.ended == "finished"


async def test_the_stage_keeps_and_drops(made: Made) -> None:
    cheap = module_of(made, block_of(44), "idiom_44").Cheap(most=Decimal(10))
    page: Any = None
    assert await cheap.process({"price": "9.5"}, page) == {"price": "9.5", "cheap": True}
    with pytest.raises(Drop, match="too dear"):
        await cheap.process({"price": 10.5}, page)


def test_the_middleware_signs_what_goes_out(
    made: Made, shop: DemoShop, capsys: pytest.CaptureFixture[str]
) -> None:
    crawled(made, module_of(made, block_of(46), "idiom_46").Wrapped)
    said = capsys.readouterr().out
    assert re.search(rf"^{re.escape(shop.url)}: \d+ bytes$", said, re.MULTILINE)


def test_the_observer_hears(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    titles = module_of(made, block_of(47), "idiom_47").Titles
    seen = module_of(made, block_of(49), "idiom_49").Seen
    run(titles, observers=[seen()], most=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[-1] == "closed: finished"


async def test_the_page_is_tried_again(made: Made) -> None:
    spider = module_of(made, block_of(24), "idiom_24").Waiting()
    page = Response("https://example.com/", body=b"Please wait")
    with pytest.raises(Retry) as raised:
        [item async for item in spider.parse(page)]
    assert raised.value.delay == 30


def test_the_pages_are_looked_at(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands of that idiom, run against the shop."""
    (block,) = next(idiom for idiom in IDIOMS if idiom.title == "Look at pages").here
    said = {}
    for line in block.text.splitlines():
        command, *rest = shlex.split(made.placed(line.removeprefix("$ scrape ")))
        if command != "run":
            assert made.run(command, *rest) == 0, capsys.readouterr().err
            said[command] = capsys.readouterr().out
    assert (made.root / "spiders/shelf.py").is_file()
    assert "shelf" in said["list"]
    assert "Borrowed Hourglass" in said["shell"]
    assert "parse_book" in said["parse"]
