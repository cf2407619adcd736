"""Every example does what its page says: spiders run, stages and sinks deliver, settings load."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from scraper.demo import DemoShop
from tests.docs.annex import ORDERS, STOCK
from tests.docs.conftest import LIFTED, Made
from tests.docs.markdown import FENCE, FROM_SCRAPY, PAGES, ROOT, Block, blocks, text_of

Rows = list[dict[str, Any]]
ProjectOf = Callable[[str], Made]

OPERATIONS = "docs/workers.md"

SERVER = "redis://127.0.0.1:6379/0"
"""Where the documentation has a Redis server."""

PYTHON = [block for block in blocks("python") if block.page != FROM_SCRAPY]
TOML = [block for block in blocks("toml") if block.file != "pyproject.toml"]
JSON = blocks("json")


def items_of(made: Made, spider: str, capsys: pytest.CaptureFixture[str], *args: str) -> Rows:
    """Run a spider; its published items."""
    capsys.readouterr()
    code = made.run("run", spider, "--json", "-q", *args)
    said = capsys.readouterr()
    assert code == 0, said.err
    result = json.loads(said.out.splitlines()[-1])
    assert result["ended"] == "finished"
    assert result["rejected"] == 0
    lines = Path(result["outputs"][0]["path"]).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


# What each spider of the documentation brings home ----------------------------------------------


def shelf(items: Rows, shop: DemoShop) -> None:
    assert {item["title"] for item in items} == {book.title for book in shop.site.books}
    assert len(items) == len(shop.site.books)
    by_image = {item["image"]: item for item in items}
    for book in shop.site.books:
        item = by_image[f"{shop.url}media/cache/{book.number}.png"]
        assert Decimal(item["price"]) * 100 == book.price
        assert item["stock"] == book.stock


def bargains(items: Rows, shop: DemoShop) -> None:
    cheap = [book for book in shop.site.books if book.price < 2000]
    assert sorted(item["title"] for item in items) == sorted(book.title for book in cheap)
    assert {item["category"] for item in items} == {book.category for book in cheap}


def travel(items: Rows, shop: DemoShop) -> None:
    books = [book.title for book in shop.site.books if book.category == "Travel"]
    assert sorted(item["title"] for item in items) == sorted(books)


def shelves(items: Rows, shop: DemoShop) -> None:
    names = [item["category"] for item in items]
    assert set(names) == {book.category for book in shop.site.books}


def ranked(items: Rows, shop: DemoShop) -> None:
    assert sorted(item["rank"] for item in items) == list(range(1, 21))
    assert {item["seen"] for item in items} == {"2026-01-31"}
    assert all(item["title"] for item in items)


def careful(items: Rows, shop: DemoShop) -> None:
    gone = [item for item in items if item.get("reason")]
    assert [(item["reason"], item["status"]) for item in gone] == [("http_404", 404)]
    assert len(items) == 21


def covers(items: Rows, shop: DemoShop) -> None:
    assert [item["status"] for item in items] == [200] * 3
    assert all(item["bytes"] > 0 for item in items)


def visitors(items: Rows, shop: DemoShop) -> None:
    assert sorted(item["visitor"] for item in items) == ["ann", "bob"]


def timed(items: Rows, shop: DemoShop) -> None:
    assert [item["url"] for item in items] == [shop.url]
    assert items[0]["seconds"] > 0


def reviews(items: Rows, shop: DemoShop) -> None:
    assert len(items) == 20
    for item in items:
        assert item["url"].startswith(shop.url)
        assert item["subtitle"] is None
        assert item["crumbs"][:2] == ["Home", "Books"]
        assert item["image"].startswith(f"{shop.url}media/cache/")
        assert item["facts"][0]["name"] == "UPC"


def stocked(items: Rows, shop: DemoShop) -> None:
    assert len(items) == 20
    assert {(i["title"], i["stock"]) for i in items} <= {
        (b.title, b.stock) for b in shop.site.books
    }


def pictured(items: Rows, shop: DemoShop) -> None:
    assert len(items) == 20
    assert {item["image"][:6] for item in items} == {"media/"}


def covered(items: Rows, shop: DemoShop) -> None:
    (item,) = items
    travels = [book for book in shop.site.books if book.category == "Travel"]
    assert item["name"] == "Travel"
    assert item["books"] == [book.title for book in travels[:20]]
    assert item["first"] == f"In stock ({travels[0].stock} available)"


def ruled(items: Rows, shop: DemoShop) -> None:
    books = {book.title: book for book in shop.site.books if book.category == "Travel"}
    assert sorted(item["title"] for item in items) == sorted(books)
    for item in items:
        assert item["price"]["currency"] == "£"
        assert Decimal(item["price"]["amount"]) * 100 == books[item["title"]].price


def mapped(items: Rows, shop: DemoShop) -> None:
    there = {book.title for book in shop.site.books}
    assert {item["title"] for item in items} <= there
    assert len(items) > len(there) * 0.9
    assert all(item["added"][:2] == "20" for item in items)


def stocklist(items: Rows, shop: DemoShop) -> None:
    assert [(i["sku"], i["name"], Decimal(i["price"]), i["stock"]) for i in items] == [
        (sku, name, Decimal(price.replace(",", "")), stock) for sku, name, price, stock in STOCK
    ]


def news(items: Rows, shop: DemoShop) -> None:
    assert [item["title"] for item in items] == ["Pots are back", "Closed on Monday"]
    assert items[0]["published"] == "2024-03-03T10:00:00Z"


def searched(items: Rows, shop: DemoShop) -> None:
    assert [item["name"] for item in items] == ["Blue pot", "White pot, small"]


def member(items: Rows, shop: DemoShop) -> None:
    assert items == [{"orders": ORDERS["ann"]}]


def members(items: Rows, shop: DemoShop) -> None:
    assert {item["user"]: item["orders"] for item in items} == ORDERS


SHOPPING = (shelf, bargains, travel, shelves, ranked, careful, covers, visitors, timed, reviews)
KINDS = (stocked, pictured, covered, ruled, mapped, stocklist, news, searched, member, members)
SPIDERS = {check.__name__: check for check in (*SHOPPING, *KINDS)}
SPIDERS["leafed"] = travel


def spider_blocks() -> list[Block]:
    return [block for block in PYTHON if block.file.startswith("spiders/")]


@pytest.mark.parametrize("block", spider_blocks(), ids=str)
def test_spider(
    block: Block, project_of: ProjectOf, shop: DemoShop, capsys: pytest.CaptureFixture[str]
) -> None:
    name = Path(block.file).stem
    SPIDERS[name](items_of(project_of(block.page), name, capsys), shop)


def test_every_expectation_has_its_spider() -> None:
    assert set(SPIDERS) == {Path(block.file).stem for block in spider_blocks()}


def test_what_the_readme_shows_is_what_comes(
    project_of: ProjectOf, capsys: pytest.CaptureFixture[str]
) -> None:
    made = project_of("README.md")
    brought = items_of(made, "shelf", capsys)
    (block,) = blocks("console", "README.md")
    shown = [json.loads(line) for line in block.text.splitlines() if line.startswith("{")]
    address = "http://127.0.0.1:8378/"
    assert len(shown) == 3
    for item in shown:
        assert item["image"].startswith(address)
        item["image"] = item["image"].replace(address, made.shop)
        assert item in brought


def test_arguments_of_the_example(
    project_of: ProjectOf, capsys: pytest.CaptureFixture[str]
) -> None:
    made = project_of("docs/spiders.md")
    rows = items_of(made, "shelves", capsys, "-a", "order=name", "-a", "most=5")
    names = [row["category"] for row in rows]
    assert len(names) == 5
    assert names == sorted(names)
    rows = items_of(made, "shelves", capsys, "-a", 'only=["Travel", "Poetry"]')
    assert {row["category"] for row in rows} == {"Travel", "Poetry"}


# Stages and sinks -------------------------------------------------------------------------------


def chain(made: Made, use: str) -> None:
    """Let the project's config.toml be the one that the page shows for *use*."""
    (block,) = [b for b in blocks("toml", "docs/pipelines.md") if use in b.text]
    made.write("config.toml", block.text + LIFTED)


def test_the_stage(project_of: ProjectOf, capsys: pytest.CaptureFixture[str]) -> None:
    made = project_of("docs/pipelines.md")
    everything = items_of(made, "stocked", capsys)
    chain(made, "sold_out:SoldOut")
    items = items_of(made, "stocked", capsys)
    kept = {item["title"] for item in everything if item["stock"] >= 5}
    assert 0 < len(kept) < len(everything)
    assert {item["title"] for item in items} == kept
    assert all(item["found_on"].startswith(made.shop) for item in items)


def test_the_sink(project_of: ProjectOf, capsys: pytest.CaptureFixture[str]) -> None:
    made = project_of("docs/pipelines.md")
    everything = items_of(made, "stocked", capsys)
    chain(made, "tsv:Tsv")
    assert made.run("run", "stocked", "-q") == 0
    lines = (made.root / "data/stocked.tsv").read_text("utf-8").splitlines()
    expected = [f"{item['title']}\t{item['stock']}" for item in everything]
    assert sorted(lines) == sorted(expected)


def test_the_files(project_of: ProjectOf, shop: DemoShop) -> None:
    made = project_of("docs/pipelines.md")
    chain(made, 'use = "files"')
    assert made.run("run", "pictured", "-q") == 0
    lines = (made.root / "data/pictured.jsonl").read_text("utf-8").splitlines()
    files = [file for line in lines for file in json.loads(line)["files"]]
    assert len(files) == 20
    for file in files:
        assert file["url"].startswith(f"{shop.url}media/cache/")
        assert (
            hashlib.sha256((made.root / file["path"]).read_bytes()).hexdigest()
            == (file["checksum"])
        )


def test_the_sinks_own_tests(project_of: ProjectOf) -> None:
    made = project_of("docs/pipelines.md")
    ran = python(made, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_tsv.py")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout


# Everything else --------------------------------------------------------------------------------


def python(made: Made, *args: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the project, as a reader would."""
    return subprocess.run(
        [sys.executable, *args],
        cwd=made.root,
        env={**os.environ, "PYTHONPATH": f"{made.root}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("block", [b for b in PYTHON if not b.file], ids=str)
def test_python_runs(block: Block, project_of: ProjectOf) -> None:
    made = project_of(block.page)
    made.write("example.py", block.text)
    ran = python(made, "example.py")
    assert ran.returncode == 0, ran.stderr


def test_the_script_runs(project_of: ProjectOf) -> None:
    made = project_of("docs/python.md")
    ran = python(made, "shelf.py")
    assert ran.stdout == f"finished 5 {made.root}/shelf.jsonl\n", ran.stderr
    assert len((made.root / "shelf.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize("block", TOML, ids=str)
def test_settings_load(
    block: Block,
    project_of: ProjectOf,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    text = block.text
    if SERVER in text:  # which is asked whether it is fit for a crawl
        text = text.replace(SERVER, request.getfixturevalue("redis_server").url())
    made = project_of(block.page)
    made.write("config.toml", text)
    assert made.run("check") == 0, capsys.readouterr().err


@pytest.mark.parametrize("block", JSON, ids=str)
def test_json_is_json(block: Block) -> None:
    assert json.loads(block.text)


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_of_a_known_kind(page: str) -> None:
    kinds = ["python", "toml", "json", "console"]
    if page == OPERATIONS:  # see `test_workers`
        kinds += ["conf", "dockerfile", "ini", "sh", "yaml"]
    known = sum(len(blocks(kind, page)) for kind in kinds)
    assert len(FENCE.findall(text_of(page))) == known
    assert text_of(page).count("```") == 2 * known
