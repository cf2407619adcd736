"""Items and files that want to do harm, or do not fit: one crawl into several sinks.

The first host's pages hold the hostile items; beside it a healthy host is crawled, every item of
which is delivered. What is not delivered lies in the rejected file, with its reason.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.crawl.harness import Finished, Project, addresses, json_lines, tree
from tests.crawl.test_manners import address
from tests.pipelines.test_csv import FORMULAS
from tests.pipelines.test_files import HOSTILE
from tests.servers.web import Answer, Reply, Seen, Web, html, text

SPIDER = """
from decimal import Decimal
from typing import Annotated
from scraper import Css, Item, Request, Spider

class Product(Item):
    title: Annotated[str, Css("h1")]
    price: Annotated[Decimal, Css(".price")]

class Note(Item):
    words: Annotated[str, Css("p", strip=False)]

class Pictured(Item):
    image: str
    files: list[dict] = []

class Shop(Spider):
    name = "shop"
    hosts: list[str]
    notes: int
    pictures: list[str]

    async def start(self):
        for host in self.hosts:
            for n in range(20):
                yield Request(f"{host}/product/{n}")
        for n in range(self.notes):
            yield Request(f"{self.hosts[0]}/note/{n}", self.parse_note)
        yield Request(f"{self.hosts[0]}/shapes", self.parse_shapes)
        yield Request(f"{self.hosts[0]}/assigned", self.parse_assigned)
        yield Request(f"{self.hosts[0]}/large", self.parse_large)
        yield Request(f"{self.hosts[0]}/pictures", self.parse_pictures)

    async def parse(self, response):
        yield response.extract(Product)

    async def parse_note(self, response):
        yield Note(words=response.json()["words"])

    async def parse_shapes(self, response):
        yield {"a": 1, "b": 2}
        yield {"a": 3, "c": 4}
        yield {"a": 5}

    async def parse_assigned(self, response):
        product = Product(title="assigned", price=1)
        product.price = ["not", "a price"]
        yield product

    async def parse_large(self, response):
        yield Product(title="x" * 2_000_000, price=1)

    async def parse_pictures(self, response):
        for url in self.pictures:
            yield Pictured(image=url)
"""
STAGES = """
class Fragile:
    async def process(self, item, page):
        if getattr(item, "title", "") == "boom":
            raise ZeroDivisionError("the stage broke")
        return item
"""
CONFIG = """
[[pipelines]]
use = "pipelines.stages:Fragile"
[[pipelines]]
use = "files"
fields = ["image"]
keep_names = true
items = ["Pictured"]
[[pipelines]]
use = "csv"
path = "out/{item}.csv"
[[pipelines]]
use = "jsonl"
path = "out/all.jsonl"
"""
PRODUCTS = {3: ("Book", "dear"), 5: ("", "7"), 8: ("boom", "8"), 11: ("Free", "")}
HEALTHY = 20
IN_URLS = [n for n, name in enumerate(HOSTILE) if name not in (".", "..")]  # these lead elsewhere
FILED = "in the rejected file with its URL, the field's error and the raw values; in no output"


def picture(number: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + str(number).encode()


@dataclass(frozen=True, slots=True)
class Crawled:
    project: Project
    done: Finished
    base: str
    healthy: str
    outside: tuple[dict[str, int], dict[str, int]]  # before and after

    def rejected(self, path: str) -> dict[str, Any]:
        lines = json_lines(self.project.path("out/shop.rejected.jsonl"))
        (line,) = (line for line in lines if line["url"] == self.base + path)
        return line

    def path(self, name: str) -> Path:
        return self.project.path(f"out/{name}")


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawled]:
    above = tmp_path_factory.mktemp("above")
    project = Project(above / "deep" / "project", tmp_path_factory.mktemp("scratch"))
    (project.root / "pipelines").mkdir()
    (project.root / "pipelines" / "stages.py").write_text(STAGES)
    project.spider(SPIDER)
    project.config(CONFIG)
    odd, healthy = addresses(2)
    names = [name.encode("utf-8", "replace").decode() for name in HOSTILE]

    def site(seen: Seen) -> Answer:
        kind, _, rest = seen.path[1:].partition("/")
        if kind == "product":
            title, price = f"Book {rest}", "7.50"
            if address(seen) == odd:
                title, price = PRODUCTS.get(int(rest), (title, price))
            heading = f"<h1>{title}</h1>" if title else ""
            return html(f"{heading}<span class=price>{price}</span>")
        if kind == "note":
            words = json.dumps({"words": FORMULAS[int(rest)]})
            return Reply(words.encode(), type="application/json")
        if kind in {"header", "url"}:
            n = int(rest.partition("/")[0])
            field = names[n].encode().decode("latin-1").replace("\n", " ").replace("\r", " ")
            field = field.replace("\0", " ")
            told = [("Content-Disposition", f'attachment; filename="{field}"')]
            number = n + 100 * (kind == "url")
            return Reply(picture(number), 200, told if kind == "header" else (), "image/png")
        return text("", 404) if kind == "robots.txt" else html("<p>x")

    with Web(site, (odd, healthy)) as web:
        base = web.base(odd)
        pictures = [f"{base}/header/{n}" for n in range(len(names))]
        pictures += [f"{base}/url/{n}/{quote(names[n], safe='')}" for n in IN_URLS]
        arguments = (
            f"hosts={json.dumps([base, web.base(healthy)])}",
            f"notes={len(FORMULAS)}",
            f"pictures={json.dumps(pictures)}",
        )
        given = (word for argument in arguments for word in ("-a", argument))
        before = outside(above, project)
        done = project.scrape("run", "shop", *given, "--json").expect(0)
        yield Crawled(project, done, base, web.base(healthy), (before, outside(above, project)))
    project.close()


def outside(above: Path, project: Project) -> dict[str, int]:
    inside = str(project.root.relative_to(above))
    return {name: size for name, size in tree(above).items() if not name.startswith(inside)}


# 74: nothing is lost silently ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "reason", "says"),
    [
        pytest.param(
            path, reason, says, id=path, marks=pytest.mark.case(74, given, f"`{reason}`: {FILED}")
        )
        for path, reason, says, given in (
            ("/product/3", "item_invalid", "dear", "a price that is no number"),
            ("/product/5", "item_invalid", "title", "a page without what the model requires"),
            ("/product/11", "item_invalid", "price", "an empty price"),
            ("/product/8", "stage_error", "the stage broke", "a stage that raises at one item"),
            ("/assigned", "item_invalid", "not", "a field that was assigned what does not fit"),
            ("/large", "item_too_large", "xxxx", "an item of 2 MB"),
            ("/shapes", "schema", "'c'", "a dict with a key that is no column"),
        )
    ],
)
def test_what_does_not_fit_is_quarantined(
    crawled: Crawled, path: str, reason: str, says: str
) -> None:
    line = crawled.rejected(path)
    assert line["reason"] == reason
    assert line["values"]
    assert says in f"{line['errors']}{line['values']}"
    delivered = json_lines(crawled.path("all.jsonl"))
    assert not [item for item in delivered if item.get("title") in ("boom", "assigned", "Free")]


def test_every_item_is_delivered_or_told(crawled: Crawled) -> None:
    result = crawled.done.json
    lines = json_lines(crawled.path("shop.rejected.jsonl"))
    assert result["rejected"] == len(lines) == 7
    assert Counter(line["reason"] for line in lines) == result["reasons"]
    delivered = json_lines(crawled.path("all.jsonl"))
    assert result["items"] == len(delivered)
    titles = Counter(item["title"] for item in delivered if "title" in item)
    assert titles == Counter(
        {f"Book {n}": 2 - (n in PRODUCTS) for n in range(HEALTHY)}  # from both hosts
    )


# 77: other columns in the middle ------------------------------------------------------------------


@pytest.mark.case(
    77,
    "dicts with other keys in the middle of a CSV file",
    "a new key is `schema`, in the rejected file; a missing one an empty cell; the columns stay",
)
def test_columns_do_not_change(crawled: Crawled) -> None:
    assert crawled.path("dict.csv").read_text() == "a,b\n1,2\n5,\n"
    assert crawled.rejected("/shapes")["values"] == {"a": 3, "c": 4}


# 78: formulas -------------------------------------------------------------------------------------


@pytest.mark.case(
    78,
    f"{len(FORMULAS)} texts that spreadsheets take for formulas, in the page",
    "in CSV each has a `'` before it, by default; in JSON lines it is as it was",
)
def test_formulas_are_neutralised_in_csv_alone(crawled: Crawled) -> None:
    with crawled.path("Note.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, strict=True))
    assert rows[0] == ["words"]
    assert Counter(row[0] for row in rows[1:]) == Counter("'" + text for text in FORMULAS)
    untouched = [item["words"] for item in json_lines(crawled.path("all.jsonl")) if "words" in item]
    assert Counter(untouched) == Counter(FORMULAS)


# 79: names ----------------------------------------------------------------------------------------


@pytest.mark.case(
    79,
    "`../../x`, absolute, NUL, 300 bytes, CON, `~`, dots: in Content-Disposition and in URLs",
    "cleaned, with the content's hash: every file lies inside the directory, nothing outside",
)
def test_file_names_stay_inside(crawled: Crawled) -> None:
    before, after = crawled.outside
    assert after == before
    shelf = crawled.project.path("data/files")
    files = [path for path in shelf.rglob("*") if path.is_file() and path.suffix == ".png"]
    numbers = [*range(len(HOSTILE)), *(100 + n for n in IN_URLS)]
    assert {path.read_bytes() for path in files} == set(map(picture, numbers))
    for path in files:
        assert path.parent.parent == shelf / "images"
        assert not path.is_symlink()
        assert path.resolve().is_relative_to(shelf.resolve())
        assert len(path.name.encode()) < 255
        assert path.name.isprintable()
        assert path.stem.partition(".")[0].lower() not in {"con", "nul"}
        assert not path.name.startswith(".")
    told = [
        file for item in json_lines(crawled.path("all.jsonl")) for file in item.get("files", ())
    ]
    assert {crawled.project.path(file["path"]) for file in told} == set(files)
