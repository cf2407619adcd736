"""The shop's layout changes between two runs, and the second one says which field is gone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scraper.demo import DemoShop, serve_in_thread
from scraper.demo.site import Answer, Site
from tests.crawl.harness import Finished, Project, json_lines

QUALITY = ("-s", "quality.action=fail")


class Redesign(Site):
    """The shop with another markup of the books' own pages."""

    def __init__(self, change: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self.change = change

    def answer(self, target: str) -> Answer:
        answer = super().answer(target)
        if b'class="product_page"' not in answer.body:
            return answer
        return replace(answer, body=self.change(answer.body), zipped=None)


def redesigned(port: int, change: Callable[[bytes], bytes]) -> DemoShop:
    shop = DemoShop(port)
    shop.site = Redesign(change)
    return shop


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The project that `scrape init` makes."""
    made = Project(tmp_path / "project", tmp_path / "scratch")
    made.scratch.mkdir()
    made.path("config.toml").unlink()
    made.path("spiders").rmdir()
    made.scrape("init", ".").expect(0)
    yield made
    made.close()


def crawl(project: Project, shop: DemoShop, *options: str) -> Finished:
    with serve_in_thread(shop):
        return project.scrape("run", "books", "-a", f"site={shop.url}", "--json", *options)


@pytest.fixture
def port(project: Project) -> int:
    """The shop's port, after a first run of the job."""
    shop = DemoShop()
    done = crawl(project, shop, *QUALITY).expect(0)
    assert done.json["quality"]["items"]["Book"]["count"] == 1024
    return shop.port


def findings(done: Finished) -> list[tuple[str, str | None]]:
    return [(f["what"], f["field"]) for f in done.json["quality"]["findings"]]


def test_the_class_of_the_price_is_gone(project: Project, port: int) -> None:
    before = project.path("data/books.jsonl").read_bytes()
    shop = redesigned(port, lambda body: body.replace(b'class="price_color"', b'class="amount"'))
    done = crawl(project, shop).expect(1)  # every item is rejected: whatever the setting
    assert findings(done) == [("nothing", None), ("rejected", "price_text"), ("count", None)]
    assert "every item was rejected (1,024, most for Book.price_text)" in done.json["detail"]
    assert "the site's layout may have changed" in done.err
    assert project.path("data/books.jsonl").read_bytes() == before
    said = project.scrape("quality", "books").expect(0)
    assert "price_text 1,024: nothing on the page matches" in said.out
    assert "Book.price_text lets 1,024 of 1,024 items be rejected" in " ".join(said.out.split())


def test_fields_that_may_be_missing_are_gone(project: Project, port: int) -> None:
    before = project.path("data/books.jsonl").read_bytes()

    def change(body: bytes) -> bytes:
        body = body.replace(b'id="product_description"', b'id="about"')
        return re.sub(rb'class="(in|outof)stock availability"', b"", body)

    done = crawl(project, redesigned(port, change), *QUALITY).expect(1)
    assert findings(done) == [("fill", "description"), ("distinct", "stock")]
    assert done.json["detail"].startswith("Book.description is filled in 0% of 1,024 items")
    assert project.path("data/books.jsonl").read_bytes() == before
    assert len(json_lines(project.path("data/books.jsonl.failed"))) == 1024


def test_a_redesign_that_changes_nothing_for_the_spider(project: Project, port: int) -> None:
    shop = redesigned(port, lambda body: body.replace(b"</body>", b"<p>New!</p></body>"))
    done = crawl(project, shop, *QUALITY).expect(0)
    assert findings(done) == []
    assert done.json["quality"]["compared"] == 1
