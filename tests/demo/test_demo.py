"""`scrape demo` and the books spider: each book once, right, and what the shop saw of it."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.request
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from scraper.demo import DemoShop, serve_in_thread
from scraper.demo.content import Book
from scraper.demo.site import WITHDRAWN
from tests.crawl.harness import REPOSITORY, Finished, Project, json_lines

PER_HOST = 16  # requests in flight to 127.0.0.1, by config.toml


@pytest.fixture
def nowhere(tmp_path: Path) -> Iterator[Project]:
    """A directory that is in no project."""
    made = Project(tmp_path / "empty", tmp_path / "scratch")
    made.scratch.mkdir()
    made.path("config.toml").unlink()
    made.path("spiders").rmdir()
    yield made
    made.close()


@pytest.fixture
def shop() -> Iterator[DemoShop]:
    with serve_in_thread(DemoShop()) as shop:
        yield shop


def in_repository(nowhere: Project, shop: DemoShop, *arguments: str) -> Finished:
    """`scrape run books` as in the project that `scrape init` makes, all state in *nowhere*."""
    if not nowhere.path("config.toml").exists():
        nowhere.scrape("init", ".").expect(0)
    return nowhere.scrape("run", "books", "-a", f"site={shop.url}", *arguments)


def told(book: Book, url: str) -> dict[str, Any]:
    """What the output must say of a book, from the shop's own stock."""
    cents = Decimal(book.price) / 100
    return {
        "url": f"{url}catalogue/{book.slug}/index.html",
        "title": " ".join(book.title.split()),
        "upc": book.upc,
        "category": book.category,
        "price_text": f"£{cents:.2f}",
        "price": cents,
        "currency": "GBP",
        "stock": book.stock,
        "rating": book.rating,
        "reviews": book.reviews,
        "description": book.description,
        "image": f"{url}media/cache/{book.number}.png",
    }


def read(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "price": Decimal(str(item["price"]))}


def test_the_demo_brings_home_every_book_once(nowhere: Project) -> None:
    done = nowhere.scrape("demo", "--port", "0", "--json").expect(0)
    line = re.search(r"^\$ (scrape run books -a site=(\S+))", done.err, re.MULTILINE)
    assert line is not None, done.err
    url = line[2]
    books = DemoShop().site.books
    items = [read(item) for item in json_lines(nowhere.path("data/books.jsonl"))]
    assert Counter(item["upc"] for item in items) == Counter(book.upc for book in books)
    assert {item["upc"]: item for item in items} == {book.upc: told(book, url) for book in books}
    result = done.json
    assert result["items"] == len(books) == 1_024
    assert result["failed"] == len(WITHDRAWN)
    assert result["reasons"]["http_404"] == len(WITHDRAWN)
    assert result["reasons"]["robots_denied"] == 1
    assert result["finished"] is True
    assert result["resumed"] is False


def test_the_shop_saw_a_well_behaved_visitor(nowhere: Project, shop: DemoShop) -> None:
    in_repository(nowhere, shop, "-q").expect(0)
    log = list(shop.log)
    assert log[0].path == "/robots.txt"
    assert not [hit for hit in log if hit.path.startswith("/staff/")]
    answered = Counter(hit.path for hit in log if hit.status == 200)
    assert {path: n for path, n in answered.items() if n > 1} == {}
    assert {f"/catalogue/{book.slug}/index.html" for book in shop.site.books} <= set(answered)
    assert Counter(hit.status for hit in log if hit.status >= 400) == {404: 3, 503: 1}
    # Retry-After: 1 meant the whole host: only what was under way was still answered.
    at = next(hit.time for hit in log if hit.status == 503)
    assert sum(at < hit.time < at + 0.95 for hit in log) < PER_HOST
    # Every redirect once: old addresses, and the way through the wall at least once.
    moved = [hit for hit in log if hit.path.startswith("/old/")]
    assert len(moved) == len({hit.path for hit in moved}) == 10
    assert [hit for hit in log if hit.path.startswith("/welcome?")]


def test_a_second_run_starts_anew_and_says_the_same(nowhere: Project, shop: DemoShop) -> None:
    first = in_repository(nowhere, shop, "--limit", "40", "--json").expect(0).json
    assert first["items"] == 40
    assert len(json_lines(nowhere.path("data/books.jsonl"))) == 40
    in_repository(nowhere, shop, "-q").expect(0)
    items = json_lines(nowhere.path("data/books.jsonl"))
    assert Counter(item["upc"] for item in items) == Counter(b.upc for b in shop.site.books)


def test_a_killed_demo_goes_on_where_it_was(nowhere: Project, shop: DemoShop) -> None:
    nowhere.scrape("init", ".").expect(0)
    crawl = nowhere.start("run", "books", "-a", f"site={shop.url}", "-q")
    while len(shop.log) < 400:
        with contextlib.suppress(subprocess.TimeoutExpired):
            crawl.process.wait(0.01)
            pytest.fail("the crawl ended before it was killed")
    crawl.kill()
    assert crawl.wait().code == -signal.SIGKILL
    seen = len(shop.log)
    result = in_repository(nowhere, shop, "--json").expect(0).json
    assert result["resumed"] is True
    items = json_lines(nowhere.path("data/books.jsonl"))
    assert Counter(item["upc"] for item in items) == Counter(b.upc for b in shop.site.books)
    again = Counter(hit.path for hit in shop.log if hit.status == 200)
    refetched = sum(n - 1 for path, n in again.items() if path != "/robots.txt")
    assert refetched < seen / 2, "most of the work was done twice"


def test_the_printed_line_is_the_crawl(nowhere: Project) -> None:
    """What `demo` prints does, in a project, what `demo` did."""
    done = nowhere.scrape("demo", "--port", "0", "--limit", "30", "-o", "a.jsonl").expect(0)
    line = re.search(r"^\$ scrape (.*?)(?:   #.*)?$", done.err, re.MULTILINE)
    assert line is not None, done.err
    words = shlex.split(line[1])
    port = int(re.search(r":(\d+)/", line[1])[1])  # type: ignore[index]
    nowhere.scrape("init", "project").expect(0)
    with serve_in_thread(DemoShop(port)):
        words[words.index("a.jsonl")] = "b.jsonl"
        again = nowhere.start(*words, cwd=nowhere.path("project")).wait().expect(0)
    assert again.code == 0
    first = json_lines(nowhere.path("a.jsonl"))
    second = json_lines(nowhere.path("project/b.jsonl"))
    assert len(first) == len(second) == 30
    assert first[0].keys() == second[0].keys()


def test_it_works_from_an_installed_package(nowhere: Project) -> None:
    """The package laid out as the wheel has it, far from the repository."""
    site = nowhere.scratch / "site-packages"
    shutil.copytree(REPOSITORY / "scraper", site / "scraper")
    build = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    for source, target in build["targets"]["wheel"]["force-include"].items():
        path = REPOSITORY / source
        (site / target).parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, site / target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(path, site / target)
    for path in (site / "scraper" / "_template").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    where = {"PYTHONPATH": str(site)}
    done = nowhere.scrape("demo", "--port", "0", "--limit", "30", "--json", env=where).expect(0)
    items = json_lines(nowhere.path("data/books.jsonl"))
    assert len(items) == done.json["items"] == 30
    assert {item["currency"] for item in items} == {"GBP"}, "the project's own stages ran"
    assert "# in a project: `scrape init DIR`" in done.err
    assert not (site / "scraper" / "_template" / ".scrape").exists()


def test_serve_only_serves(nowhere: Project) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from scraper.cli import main; main()", "demo", "--serve",
         "--port", "0"],
        cwd=nowhere.root, env=nowhere.environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    with urllib.request.urlopen(url, timeout=10) as response:
        assert b"A bookshop to scrape" in response.read()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert "Closed after 1 answers" in err
    assert not list(nowhere.root.iterdir()), "serving leaves nothing behind"


def test_a_taken_port_is_one_line(nowhere: Project, shop: DemoShop) -> None:
    done = nowhere.scrape("demo", "--port", str(shop.port)).expect(2)
    assert f"--port {shop.port}: " in done.err
    assert not list(nowhere.root.iterdir())


def test_in_a_project_the_projects_own_spider_is_run(nowhere: Project) -> None:
    nowhere.scrape("init", ".").expect(0)
    spider = nowhere.path("spiders/books.py")
    spider.write_text(spider.read_text().replace("book.url = response.url", 'book.url = "mine"'))
    done = nowhere.scrape("demo", "--port", "0", "--limit", "5", "-o", "-").expect(0)
    assert [json.loads(line)["url"] for line in done.out.splitlines()] == ["mine"] * 5
    assert (REPOSITORY / "spiders/books.py").read_text() != spider.read_text()
