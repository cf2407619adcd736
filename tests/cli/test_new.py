"""scrape new: what it writes, what it says, and that the spider brings something home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scraper.cli.init import make_project, template_directory
from scraper.demo import DemoShop, serve_in_thread
from tests.cli.conftest import CommandLine
from tests.servers.nginx import Nginx

REPOSITORY = Path(__file__).resolve().parents[2]
LIFTED = '[politeness.hosts."127.0.0.1"]\ndelay = 0\nper_host = 16\n'


@pytest.fixture(scope="module")
def shop() -> Iterator[DemoShop]:
    with serve_in_thread(DemoShop(outage=0.0)) as opened:
        yield opened


@pytest.fixture
def quick(project: CommandLine) -> CommandLine:
    """A project in which nobody waits for this machine's servers."""
    project.write("config.toml", LIFTED)
    return project


def spider(at: CommandLine, name: str) -> str:
    return (at.root / "spiders" / f"{name}.py").read_text("utf-8")


def brought(at: CommandLine, name: str, *args: str) -> list[dict[str, Any]]:
    """Run a spider; what it brought home. Nothing may be rejected."""
    ran = at("run", name, "--json", "-q", "-o", "out.jsonl", *args)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out.splitlines()[-1])["rejected"] == 0
    lines = (at.root / "out.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


# What was fetched -------------------------------------------------------------------------------


def test_a_list_and_the_page_of_its_first_entry(quick: CommandLine, shop: DemoShop) -> None:
    before = len(shop.log)
    said = quick("new", "books", shop.url)
    assert (said.code, said.out) == (0, "")
    asked = [hit.path for hit in list(shop.log)[before:]]
    assert asked[:2] == ["/robots.txt", "/"]
    assert len(asked) == 3
    assert asked[2].startswith("/catalogue/")
    text = spider(quick, "books")
    assert "class Books(Spider):" in text
    assert "class BooksItem(Item):" in text
    assert "response.follow(link, self.parse_item)" in text
    lines = said.err.splitlines()
    assert "each entry of the list, from its own page" in lines[0]
    assert any(line.split() == ["field", "selector", "first", "value"] for line in lines)
    assert any(line.split()[:2] == ["title", "h1"] for line in lines)
    assert "next page: li.next a" in said.err
    assert "scrape run books --limit 10 -o -" in said.err
    assert f"scrape shell {shop.url}" in said.err
    assert all(len(line) <= 80 for line in lines[2:-4])
    assert quick("check").code == 0


def test_one_page(quick: CommandLine, shop: DemoShop) -> None:
    book = shop.site.books[0]
    said = quick("new", "book", f"{shop.url}catalogue/{book.slug}/index.html")
    assert said.code == 0
    assert "one item, from the page itself" in said.err
    (item,) = brought(quick, "book")
    assert item["title"] == book.title
    assert item["upc"] == book.upc
    assert item["price"] == f"{book.price // 100}.{book.price % 100:02}"


def test_the_spider_brings_every_book_home(quick: CommandLine, shop: DemoShop) -> None:
    assert quick("new", "all", shop.url).code == 0
    listed = [book for book in shop.site.books if not book.walled]
    assert sorted(item["title"] for item in brought(quick, "all")) == sorted(
        book.title for book in listed
    )


def test_offline_fetches_nothing(quick: CommandLine, shop: DemoShop) -> None:
    before = len(shop.log)
    said = quick("new", "plain", shop.url, "--offline")
    assert said.code == 0
    assert len(shop.log) == before
    assert 'Css("h1", "title")' in spider(quick, "plain")
    assert "it takes the title of every page" in said.err
    assert len(brought(quick, "plain", "--limit", "3")) == 3


def test_what_robots_forbids_is_not_read(quick: CommandLine, shop: DemoShop) -> None:
    said = quick("new", "staff", f"{shop.url}staff/picks.html")
    assert said.code == 0
    assert "not drafted" in said.err
    assert "robots.txt forbids it (robots_denied)" in said.err
    assert "/staff/picks.html" not in [hit.path for hit in shop.log]
    assert 'Css("h1", "title")' in spider(quick, "staff")


def test_a_page_that_is_not_there(quick: CommandLine, shop: DemoShop) -> None:
    said = quick("new", "gone", f"{shop.url}nowhere.html")
    assert said.code == 0
    assert "nowhere.html: the server answered 404" in said.err
    assert 'Css("h1", "title")' in spider(quick, "gone")


def test_a_server_that_is_not_there(quick: CommandLine) -> None:
    said = quick("new", "dead", "http://127.0.0.1:9/")
    assert said.code == 0
    assert "nothing listens at that address (connect_refused)" in said.err
    assert 'Css("h1", "title")' in spider(quick, "dead")


def test_what_is_no_page(quick: CommandLine, shop: DemoShop) -> None:
    said = quick("new", "cover", f"{shop.url}media/cache/1.png")
    assert said.code == 0
    assert "shows nothing that repeats or stands out" in said.err
    assert 'Css("h1", "title")' in spider(quick, "cover")


def test_a_mistake_in_the_configuration_is_one(quick: CommandLine, shop: DemoShop) -> None:
    quick.write("config.toml", "[politeness]\ndealy = 1\n")
    said = quick("new", "x", shop.url)
    assert said.code == 2
    assert "did you mean politeness.delay?" in said.err
    assert not (quick.root / "spiders" / "x.py").exists()


def test_documentation_behind_nginx(quick: CommandLine, docs_server: Nginx) -> None:
    said = quick("new", "manual", f"{docs_server.url}tutorial/index.html")
    assert said.code == 0, said.err
    assert "li.toctree-l1 a" in spider(quick, "manual")
    items = brought(quick, "manual")
    assert len(items) >= 15
    assert all(item["title"] and item["text"] for item in items[:3])


# Without a page ---------------------------------------------------------------------------------


def test_new_writes_a_spider_that_loads(project: CommandLine) -> None:
    said = project("new", "my-shop", "https://example.com/a b?x=1#y", "--offline")
    assert said.code == 0
    assert "scrape run my-shop" in said.err
    listed = json.loads(project("list", "--json").out)
    (found,) = [s for s in listed["spiders"] if s["name"] == "my-shop"]
    assert found["class"] == "MyShop"
    assert found["file"] == "spiders/my_shop.py"
    assert found["start_urls"] == ["https://example.com/a%20b?x=1#y"]
    assert project("check").code == 0


@pytest.mark.parametrize(
    "name", ["item", "spider", "class", "page", "import", "none", "true", "amount", "exception"]
)
def test_new_with_names_that_mean_something(project: CommandLine, name: str) -> None:
    assert project("new", name, "https://example.com/", "--offline").code == 0
    said = project("check")
    assert (said.code, said.err) == (0, "")
    assert f"spider {name} " in said.out


def test_new_makes_the_directory_of_the_first_spider(scrape: CommandLine) -> None:
    scrape.write("config.toml", "")
    assert scrape("new", "first", "https://example.com/", "--offline").code == 0
    assert (scrape.root / "spiders" / "first.py").is_file()


@pytest.mark.parametrize(
    ("name", "url", "says"),
    [
        ("good", "https://example.com/", "there is a spider good already, in spiders/site.py"),
        ("site", "https://example.com/", "site.py is there already"),
        ("Shop", "https://example.com/", "'Shop' cannot be a spider's name"),
        ("../x", "https://example.com/", "'../x' cannot be a spider's name"),
        ("x" * 61, "https://example.com/", "cannot be a spider's name"),
        ("shop", "example.com", "Did you mean https://example.com/?"),
        ("shop", "ftp://example.com/", "is not an http or https URL"),
        ("shop", "", "'' is not an http or https URL"),
        ("shop", "127.0.0.1:8378", "Did you mean http://127.0.0.1:8378/?"),
        ("shop", "https://user:canary@example.com/", "carries a password"),
        ("shop", "https://exa mple.com/", "is not an http or https URL"),
    ],
)
def test_new_refuses_before_it_fetches(
    project: CommandLine, name: str, url: str, says: str
) -> None:
    before = (project.root / "spiders" / "site.py").read_text("utf-8")
    said = project("new", name, url)
    assert said.code == 2
    assert says in said.err
    assert "canary" not in said.err
    assert [p.name for p in (project.root / "spiders").iterdir()] == ["site.py"]
    assert (project.root / "spiders" / "site.py").read_text("utf-8") == before


# From nothing to items, as a user would ---------------------------------------------------------


def processes(root: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {n: v for n, v in os.environ.items() if not n.startswith("SCRAPE_")}
    return subprocess.run(
        [sys.executable, "-c", "from scraper.cli import main; main()", *args],
        cwd=root,
        env={**environment, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_init_new_run(tmp_path: Path, shop: DemoShop) -> None:
    assert processes(tmp_path, "init", "x").returncode == 0
    root = tmp_path / "x"
    made = processes(root, "new", "shop", shop.url)
    assert made.returncode == 0, made.stderr
    ran = processes(root, "run", "shop", "--limit", "10", "-o", "-")
    assert ran.returncode == 0, ran.stderr
    items = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(items) == 10
    assert "rejected" not in ran.stderr
    known = {f"{shop.url}catalogue/{book.slug}/index.html": book for book in shop.site.books}
    for item in items:
        book = known[item["url"]]
        assert item["title"] == book.title
        assert item["category"] == book.category
        assert item["price"] == f"{book.price // 100}.{book.price % 100:02}"


def test_the_draft_type_checks(tmp_path: Path, shop: DemoShop) -> None:
    mypy = Path(sys.executable).with_name("mypy")
    if not mypy.exists():
        pytest.skip("mypy is not installed")
    make_project(tmp_path / "x", template_directory())
    assert processes(tmp_path / "x", "new", "shop", shop.url).returncode == 0
    ran = subprocess.run(
        [mypy, "--strict", "--config-file", REPOSITORY / "pyproject.toml",
         "--cache-dir", os.devnull, tmp_path / "x" / "spiders" / "shop.py"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
