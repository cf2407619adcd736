"""Quality in whole crawls: exact over kills, kept with the job, loud when a layout changes."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from scraper import Item, Response, Spider, run
from scraper.testing.points import POINTS, VARIABLE
from tests.crawl.harness import Finished, Project, json_lines
from tests.servers.graph import Graph
from tests.servers.web import Answer, Reply, Seen, Web, html, text

SHOP_SPIDER = """
from decimal import Decimal
from typing import Annotated
from scraper import Css, Drop, Item, Output, Pipeline, Request, Response, Spider

class Book(Item):
    title: Annotated[str, Css("h1")]
    price: Annotated[Decimal | None, Css(".price")]
    stock: Annotated[int, Css(".stock")] = 0
    seller: Annotated[str, Css(".seller")]

class Shelf(Item):
    books: int

class OnlyBooks(Pipeline):
    async def process(self, item, page):
        if item.__class__.__name__ == "Shelf" and item.books == 0:
            raise Drop("empty")
        return item

class Shop(Spider):
    name = "shop"
    base: str

    async def start(self):
        yield Request(self.base + "/")

    async def parse(self, response: Response) -> Output:
        links = response.links()
        yield Shelf(books=len(links))
        for link in links:
            yield response.follow(link, self.book)

    async def book(self, response: Response) -> Output:
        yield response.extract(Book)
        yield Shelf(books=0)
"""


@dataclass
class Shop:
    """*books* books and one list of them; what is in `gone` is not on the books' pages."""

    books: int = 60
    gone: set[str] = field(default_factory=set)

    def __call__(self, seen: Seen) -> Answer:
        if seen.path == "/":
            return html("".join(f"<a href=/b/{n}>b</a>" for n in range(self.books)))
        head, _, number = seen.path.rpartition("/")
        if head != "/b":
            return text("no such page", 404)
        n = int(number)
        parts = {
            "title": f"<h1>Book {n}</h1>",
            "price": f"<i class=price>{n}.99</i>" if n % 20 else "",
            "stock": f"<i class=stock>{n % 12}</i>",
            "seller": f"<i class=seller>Seller {n % 3}</i>",
        }
        return html("".join(part for name, part in parts.items() if name not in self.gone))


@pytest.fixture
def site() -> Shop:
    return Shop()


@pytest.fixture
def web(site: Shop) -> Iterator[Web]:
    with Web(site) as web:
        yield web


@pytest.fixture
def shop(project: Project) -> Project:
    project.spider(SHOP_SPIDER)
    chain(project)
    return project


def chain(project: Project, more: str = "") -> None:
    project.config(
        more
        + """
[[pipelines]]
use = "spiders.site:OnlyBooks"
[[pipelines]]
use = "jsonl"
path = "out.jsonl"
"""
    )


def crawl(project: Project, web: Web, *options: str) -> Finished:
    return project.scrape("run", "shop", "-a", f"base={web.url}", "--job", "j", "--json", *options)


def findings(done: Finished) -> list[tuple[str, str, str | None]]:
    return [(f["what"], f["item"], f["field"]) for f in done.json["quality"]["findings"]]


# -- what is stored, and told ----------------------------------------------------------------


def test_the_numbers_of_a_run(shop: Project, web: Web) -> None:
    done = crawl(shop, web).expect(0)
    quality = done.json["quality"]
    assert (quality["whole"], quality["compared"], quality["findings"]) == (True, 0, [])
    assert list(quality["items"]) == ["Book", "Shelf"]
    book, shelf = quality["items"]["Book"], quality["items"]["Shelf"]
    assert (book["count"], book["rejected"], shelf["count"]) == (60, 0, 1)
    assert shelf["dropped"] == {"empty": 60}
    told = {
        name: (one["filled"], one["distinct"], *next(iter(one["kinds"].items())))
        for name, one in book["fields"].items()
    }
    assert told == {
        "title": (60, 60, "text", {"count": 60, "min": 6, "max": 7}),
        "price": (57, 57, "number", {"count": 57, "min": 1.99, "max": 59.99}),
        "stock": (60, 12, "number", {"count": 60, "min": 0, "max": 11}),
        "seller": (60, 3, "text", {"count": 60, "min": 8, "max": 8}),
    }
    line = json_lines(shop.path(".scrape/shop/j/history.jsonl"))[0]
    assert line["quality"] == quality


def test_runs_like_earlier_ones_are_silent(shop: Project, web: Web) -> None:
    for compared in range(3):
        done = crawl(shop, web).expect(0)
        assert findings(done) == []
        assert done.json["quality"]["compared"] == compared
        assert "WARNING" not in done.err


def test_a_layout_change_is_told_by_its_field(shop: Project, site: Shop, web: Web) -> None:
    crawl(shop, web).expect(0)
    site.gone = {"price", "stock"}
    done = crawl(shop, web).expect(0)
    assert findings(done) == [("fill", "Book", "price"), ("distinct", "Book", "stock")]
    told = "Book.price is filled in 0% of 60 items, usually in 95%"
    assert f"WARNING quality: {told}: the site's layout may have changed" in done.err
    assert f"  WARNING   {told}" in done.err
    assert "`scrape quality shop --job j` shows more" in done.err
    assert len(json_lines(shop.path("out.jsonl"))) == 61, "published all the same"
    said = shop.scrape("quality", "shop", env={"COLUMNS": "80"}).expect(0)
    assert told in " ".join(said.out.split())
    assert max(map(len, said.out.splitlines())) <= 80
    rows = {line.split()[0]: line.split()[1:4] for line in said.out.splitlines() if line}
    assert rows["price"] == ["0%", "95%", "0"]
    assert rows["stock"] == ["100%", "100%", "1"]


def test_a_crawl_that_fails_by_it_publishes_nothing(shop: Project, site: Shop, web: Web) -> None:
    chain(shop, '[quality]\naction = "fail"\n')
    crawl(shop, web).expect(0)
    before = shop.path("out.jsonl").read_bytes()
    site.gone = {"price"}
    for _ in range(2):  # a failed run is none to compare with
        done = crawl(shop, web).expect(1)
        assert (done.json["ended"], done.json["finished"]) == ("failed", False)
        assert done.json["detail"].startswith("Book.price is filled in 0% of 60 items")
        assert done.json["quality"]["compared"] == 1
        assert "FAILED: Book.price is filled in 0%" in done.err
        assert shop.path("out.jsonl").read_bytes() == before
        assert len(json_lines(shop.path("out.jsonl.failed"))) == 61
    site.gone = set()
    crawl(shop, web).expect(0)
    assert shop.path("out.jsonl").read_bytes() != b""
    assert len(json_lines(shop.path(".scrape/shop/j/history.jsonl"))) == 4


def test_a_change_that_is_meant_is_accepted_by_a_date(shop: Project, site: Shop, web: Web) -> None:
    chain(shop, '[quality]\naction = "fail"\n')
    crawl(shop, web).expect(0)
    site.gone = {"price"}
    crawl(shop, web).expect(1)
    done = crawl(shop, web, "-s", "quality.since=2999-01-01").expect(0)
    assert done.json["quality"]["compared"] == 0


def test_every_item_rejected_is_no_success(shop: Project, site: Shop, web: Web) -> None:
    site.gone = {"seller"}
    only_books = SHOP_SPIDER.replace("        yield Shelf(books=0)\n", "")
    shop.spider(only_books.replace("        yield Shelf(books=len(links))\n", ""))
    done = crawl(shop, web).expect(1)
    assert findings(done) == [("nothing", "", None)]
    assert done.json["detail"] == (
        "every item was rejected (60, most for Book.seller): the site's layout may have changed"
    )
    (book,) = done.json["quality"]["items"].values()
    assert book["fields"]["seller"]["because"] == {"nothing on the page matches": 60}
    said = shop.scrape("quality", "shop").expect(0)
    assert "seller 60: nothing on the page matches" in said.out
    done = crawl(shop, web, "-s", "quality.action=off").expect(0)
    assert "every item was rejected" in done.err
    assert done.json["quality"] == {}


def test_a_required_field_that_vanished_after_good_runs(
    shop: Project, site: Shop, web: Web
) -> None:
    crawl(shop, web).expect(0)
    site.gone = {"seller"}
    done = crawl(shop, web).expect(0)
    assert findings(done) == [("rejected", "Book", "seller"), ("count", "Book", None)]
    assert "Book.seller lets 60 of 60 items be rejected (nothing on the page matches)" in done.err


def test_links_that_are_no_longer_found(shop: Project, site: Shop, web: Web) -> None:
    crawl(shop, web).expect(0)
    site.books = 12
    done = crawl(shop, web).expect(0)
    assert findings(done) == [("count", "Book", None)]
    assert "Book: 12 items were delivered, usually 60" in done.err


def test_a_limit_raises_no_alarm_about_numbers(shop: Project, site: Shop, web: Web) -> None:
    chain(shop, '[quality]\naction = "fail"\n[quality.items.Book]\nmin_count = 50\n')
    crawl(shop, web).expect(0)
    for options in (["--limit", "8"], ["-s", "crawl.max_pages=9"]):
        done = crawl(shop, web, *options).expect(0)
        assert (done.json["ended"], done.json["quality"]["whole"]) == ("limit", False)
        assert findings(done) == []
        assert done.json["quality"]["compared"] == 1
    site.gone = {"price"}
    done = crawl(shop, web, "--limit", "30").expect(1)
    assert findings(done) == [("fill", "Book", "price")]


def test_a_limit_is_remembered_when_publishing_was_interrupted(shop: Project, web: Web) -> None:
    limit = ("-s", "crawl.max_pages=9")
    killed = shop.start(
        *("run", "shop", "-a", f"base={web.url}", "--job", "j", *limit), env={VARIABLE: "publish:1"}
    ).wait()
    assert killed.code == -signal.SIGKILL
    done = crawl(shop, web, *limit).expect(0)
    assert (done.json["ended"], done.json["quality"]["whole"]) == ("limit", False)
    assert done.json["quality"]["items"]["Book"]["count"] == done.json["items"] - 1


def test_the_verdict_stands_when_publishing_was_interrupted(
    shop: Project, site: Shop, web: Web
) -> None:
    crawl(shop, web).expect(0)
    site.gone = {"price"}
    killed = shop.start(
        "run", "shop", "-a", f"base={web.url}", "--job", "j", env={VARIABLE: "publish:1"}
    ).wait()
    assert killed.code == -signal.SIGKILL
    done = crawl(shop, web, "-s", "quality.action=fail").expect(0)  # it was judged, and warned
    assert findings(done) == [("fill", "Book", "price")]
    assert json_lines(shop.path(".scrape/shop/j/history.jsonl"))[1]["quality"]["whole"] is True


def test_fixed_thresholds(shop: Project, web: Web) -> None:
    chain(
        shop,
        """
[spiders.shop.quality]
action = "fail"
[spiders.shop.quality.items.Book]
fill = { price = 0.99, seller = 1.0 }
""",
    )
    done = crawl(shop, web).expect(1)
    assert findings(done) == [("fill", "Book", "price")]
    assert "less than quality.items.Book.fill.price = 0.99" in done.err
    crawl(shop, web, "-s", "quality.items.Book.fill.price=0.9").expect(0)
    misspelt = crawl(shop, web, "-s", "quality.items.Book.min_cuont=3").expect(2)
    assert "did you mean quality.items.Book.min_count?" in misspelt.err


def test_a_run_that_was_not_watched_from_its_beginning(shop: Project, web: Web) -> None:
    crawl(shop, web).expect(0)
    killed = shop.start(
        *("run", "shop", "-a", f"base={web.url}", "--job", "j", "-s", "quality.action=off"),
        *("-s", "crawl.concurrency=2", "-s", "crawl.group_pages=2"),
        env={VARIABLE: "commit-after:30"},
    ).wait()
    assert killed.code == -signal.SIGKILL
    done = crawl(shop, web).expect(0)
    assert done.json["items"] == 61
    assert 0 < done.json["quality"]["items"]["Book"]["count"] < 60
    assert done.json["quality"]["whole"] is False
    assert findings(done) == []


def test_a_running_job_is_told_as_far_as_it_is(shop: Project, site: Shop, web: Web) -> None:
    crawl(shop, web).expect(0)
    site.gone = {"price"}
    killed = shop.start(
        *("run", "shop", "-a", f"base={web.url}", "--job", "j"),
        *("-s", "crawl.concurrency=2", "-s", "crawl.group_pages=2"),
        env={VARIABLE: "commit-before:25"},
    ).wait()
    assert killed.code == -signal.SIGKILL
    told = json.loads(shop.scrape("quality", "shop", "--json").expect(0).out)
    assert (told["state"], told["whole"], told["compared"]) == ("unfinished", False, 1)
    assert 10 < told["items"]["Book"]["count"] < 60
    assert [(f["what"], f["field"]) for f in told["findings"]] == [("fill", "price")]
    assert told["usual"]["Book"] == {
        "count": 60,
        "fill": {"title": 1.0, "price": 0.95, "stock": 1.0, "seller": 1.0},
    }


def test_from_python_without_a_job(web: Web) -> None:
    class Title(Item):
        text: str

    class Titles(Spider):
        name = "titles"
        base: str
        settings = {"politeness": {"hosts": {"127.*": {"delay": 0, "adaptive": False}}}}

        async def start(self):  # type: ignore[no-untyped-def]
            yield self.base + "/b/1"

        async def parse(self, response: Response):  # type: ignore[no-untyped-def]
            yield Title(text=response.css("h1").get(""))

    result = run(Titles, base=web.url)
    assert result.quality["items"]["Title"]["count"] == 1
    assert (result.quality["whole"], result.quality["compared"]) == (True, 0)
    assert run(Titles, base=web.url, settings={"quality.action": "off"}).quality == {}


def test_a_retry_completes_the_numbers(shop: Project, site: Shop, web: Web) -> None:
    good = crawl(shop, web).expect(0).json["quality"]["items"]
    site.gone = {"seller"}
    done = crawl(shop, web).expect(0)
    assert findings(done) == [("rejected", "Book", "seller"), ("count", "Book", None)]
    shop.spider(SHOP_SPIDER.replace('Css(".seller")', 'Css(".vendor", "h1")'))
    done = shop.scrape("rejects", "shop", "--retry", "--json").expect(0)
    assert done.json["items"] == 61
    quality = done.json["quality"]
    assert (quality["whole"], quality["compared"], findings(done)) == (True, 1, [])
    book = quality["items"]["Book"]
    assert (book["count"], book["rejected"], book["reasons"]) == (60, 0, {})
    assert (book["fields"]["seller"]["rejected"], book["fields"]["seller"]["because"]) == (0, {})
    assert book["fields"]["price"] == good["Book"]["fields"]["price"]
    assert quality["items"]["Shelf"] == good["Shelf"]
    told = json.loads(shop.scrape("quality", "shop", "--json").expect(0).out)
    assert (told["items"], told["compared"]) == (quality["items"], 1)
    assert crawl(shop, web).expect(0).json["quality"]["compared"] == 2


def test_a_retry_of_what_failed_by_its_quality(shop: Project, site: Shop, web: Web) -> None:
    chain(shop, '[quality]\naction = "fail"\n')
    crawl(shop, web).expect(0)
    site.gone = {"seller"}
    assert crawl(shop, web).expect(1).json["ended"] == "failed"
    site.gone = set()
    done = shop.scrape("rejects", "shop", "--retry", "--json").expect(0)
    assert (done.json["ended"], findings(done)) == ("finished", [])
    assert len(json_lines(shop.path("out.jsonl"))) == 61


def test_items_that_earlier_runs_have_delivered(shop: Project, web: Web) -> None:
    dedupe = """
[quality]
action = "fail"
[[pipelines]]
use = "dedupe"
key = ["title"]
across = "runs"
items = ["Book"]
"""
    chain(shop, dedupe)
    crawl(shop, web).expect(0)
    done = crawl(shop, web).expect(0)
    assert findings(done) == []
    book = done.json["quality"]["items"]["Book"]
    assert (book["count"], book["dropped"]) == (0, {"duplicate": 60})


# -- exactly once ----------------------------------------------------------------------------

GRAPH = Graph(1500)

GRAPH_SPIDER = """
from typing import Annotated
from scraper import Item, Output, Request, Response, Spider

class Page(Item):
    n: int
    title: str
    even: str | None = None

class Pages(Spider):
    name = "pages"
    base: str

    async def start(self):
        yield Request(self.base + "/p/0")

    async def parse(self, response: Response) -> Output:
        n = int(response.url.rpartition("/")[2])
        for link in response.links():
            yield response.follow(link)
        page = Page(n=n, title=response.css("h1::text").get(), even="even" if n % 2 == 0 else " ")
        yield page
        yield page.model_copy()            # a duplicate
        if n % 10 == 0:
            page.n = "no number"           # rejected by the output
            yield page
"""


def test_the_numbers_are_exact_whatever_is_killed(project: Project) -> None:
    project.spider(GRAPH_SPIDER)
    project.config(
        """
[[pipelines]]
use = "dedupe"
key = ["n"]
[[pipelines]]
use = "jsonl"
path = "out.jsonl"
"""
    )
    with Web(GRAPH) as web:
        command = ("run", "pages", "-a", f"base={web.url}", "--json")
        dice = random.Random(3)
        for point in POINTS[:-1]:
            ended = project.start(*command, env={VARIABLE: f"{point}:{dice.randint(2, 5)}"}).wait()
            assert ended.code == -signal.SIGKILL, f"{point} was never reached"
        for _ in range(3):
            crawl = project.start(*command)
            web.forget_alarms()
            web.after(dice.randint(20, 150), crawl.kill, dice.random() * 0.02)
            assert crawl.wait().code == -signal.SIGKILL
        web.forget_alarms()
        done = project.scrape(*command).expect(0)
    lines = json_lines(project.path("out.jsonl"))
    assert len(lines) == done.json["items"] == GRAPH.pages
    told = done.json["quality"]
    assert told["whole"] is True
    (page,) = told["items"].values()
    assert (page["count"], page["rejected"]) == (GRAPH.pages, GRAPH.pages // 10)
    assert page["dropped"] == {"duplicate": GRAPH.pages}, "not among the items"
    n, title, even = page["fields"].values()
    assert n["kinds"] == {"number": {"count": 1500, "min": 0, "max": 1499}}
    assert (n["rejected"], sum(n["because"].values())) == (150, 150)
    assert title["filled"] == 1500
    assert (even["filled"], even["distinct"]) == (750, 1)
    undisturbed = numbers_of(lines)
    assert (n["distinct"], title["distinct"]) == undisturbed


def numbers_of(lines: list[dict[str, Any]]) -> tuple[int, int]:
    """The different values that one process, undisturbed, would count in these lines."""
    from scraper.observation import observe
    from scraper.quality import Profile

    profile = Profile()
    for line in lines:
        profile.add(observe(line))
    fields = profile.summary()["dict"]["fields"]
    return fields["n"]["distinct"], fields["title"]["distinct"]


def test_a_page_that_is_tried_again_counts_once(shop: Project) -> None:
    failed: set[str] = set()
    inner = Shop()

    def flaky(seen: Seen) -> Answer:
        if seen.path.endswith("7") and seen.path not in failed:
            failed.add(seen.path)
            return Reply(b"", 503)
        return inner(seen)

    with Web(flaky) as web:
        done = crawl(shop, web, "-s", "retry.base=0.01").expect(0)
    assert failed
    assert done.json["quality"]["items"]["Book"]["count"] == 60
