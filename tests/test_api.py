"""Crawling from Python, against the bundled shop."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import scraper
from scraper import Fetch, Observer, Output, Page, Pipeline, Request, Response, Spider
from scraper.demo import DemoShop, serve_in_thread
from scraper.errors import ConfigError, UsageError

FAST: dict[str, Any] = {"politeness": {"delay": 0, "adaptive": False}, "crawl.max_depth": 1}


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with serve_in_thread(DemoShop()) as shop:
        yield shop.url


class Titles(Spider):
    name = "titles"
    site: str

    async def start(self) -> Any:
        yield Request(self.site)

    async def parse(self, response: Response) -> Output:
        yield {"title": response.css("title::text").get("").strip(), "url": response.url}
        yield response.follow_all(css="article.product_pod h3 a")


def test_the_public_names_stay_what_they_are_after_a_crawl(site: str, tmp_path: Path) -> None:
    before = {name: getattr(scraper, name) for name in scraper.__all__}
    scraper.run(Titles, site=site, settings=FAST, output=tmp_path / "a.jsonl")
    assert {name: getattr(scraper, name) for name in scraper.__all__} == before
    assert callable(scraper.crawl)


def test_results_and_files_agree_and_nothing_else_is_left(site: str, tmp_path: Path) -> None:
    result = scraper.run(Titles, site=site, settings=FAST, output=tmp_path / "a.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert result.items == len(lines) == 21
    assert result.finished
    assert result.exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_page_does_not_outlive_its_callback(site: str, tmp_path: Path) -> None:
    """What lives longer than a page (timers, connections, their contexts) does not hold it."""
    pages: weakref.WeakSet[Response] = weakref.WeakSet()
    alive: list[int] = []

    class Watched(Titles):
        async def parse(self, response: Response) -> Output:
            alive.append(len(pages))
            pages.add(response)
            yield {"title": response.css("title::text").get()}
            yield response.follow_all(css="article.product_pod h3 a, li.next a")

    settings = {**FAST, "crawl.max_depth": 0}
    gc.disable()
    try:
        scraper.run(Watched, site=site, settings=settings, output=tmp_path / "a.jsonl")
    finally:
        gc.enable()
    assert len(alive) > 100
    assert max(alive) <= 1


def test_without_an_output_it_says_that_items_are_discarded(
    site: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("scraper"), "propagate", True)
    result = scraper.run(Titles, site=site, settings=FAST, limit=2)
    assert result.items == 2
    assert result.ended == "limit"
    assert "discarded" in caplog.text


def test_settings_are_refused_like_those_of_a_file(site: str) -> None:
    with pytest.raises(ConfigError, match=r"did you mean crawl\.concurrency"):
        scraper.run(Titles, site=site, settings={"crawl.concurency": 3})


def test_a_spider_without_a_name_is_refused() -> None:
    class Nameless(Spider):
        pass

    with pytest.raises(UsageError, match="has no name"):
        scraper.run(Nameless)


def test_a_job_is_resumed_by_name(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = scraper.run(Titles, site=site, settings=FAST, output="a.jsonl", job="mine")
    assert (first.job, first.resumed) == ("mine", False)
    assert (tmp_path / ".scrape/titles/mine/ledger.sqlite").is_file()
    again = scraper.run(Titles, site=site, settings=FAST, output="a.jsonl", job="mine")
    assert not again.resumed  # a finished job starts anew
    assert again.items == first.items


def test_setup_may_fetch_and_follow_redirects_before_the_scope_is_known(
    site: str, tmp_path: Path
) -> None:
    seen: list[str] = []

    class Login(Titles):
        name = "login"

        async def setup(self) -> None:
            moved = await self.fetch(f"{self.site}index.html")
            seen.append(moved.url)

    result = scraper.run(Login, site=site, settings=FAST, output=tmp_path / "b.jsonl")
    assert result.finished
    assert seen


def test_middleware_wraps_every_fetch_outermost_first(site: str, tmp_path: Path) -> None:
    order: list[str] = []

    async def outer(request: Request, call_next: Fetch) -> Response:
        order.append("outer")
        return await call_next(request)

    async def inner(request: Request, call_next: Fetch) -> Response:
        order.append("inner")
        response = await call_next(request)
        if request.url.endswith("robots.txt"):
            return response
        return Response(
            response.url, 200, {"Content-Type": "text/html"}, b"<title>cut</title>", request
        )

    class Wrapped(Titles):
        name = "wrapped"
        middleware = (outer, inner)

    result = scraper.run(Wrapped, site=site, settings=FAST, output=tmp_path / "c.jsonl")
    assert json.loads((tmp_path / "c.jsonl").read_text())["title"] == "cut"
    assert result.pages == 1
    assert order == ["outer", "inner"] * 2


async def test_a_stream_hands_over_committed_items(site: str) -> None:
    titles = [item["title"] async for item in scraper.stream(Titles, site=site, settings=FAST)]
    assert len(titles) == 21
    assert all(titles)


class Rude(Titles):
    """Its second page does what no page should."""

    name = "rude"
    how: str

    async def parse(self, response: Response) -> Output:
        yield response.follow_all(css="article.product_pod h3 a", callback=self.parse_book)

    async def parse_book(self, response: Response) -> Output:
        if "_1000/" in response.url or not hasattr(self, "_done"):
            self._done = True
            if self.how == "exit":
                sys.exit(3)
            raise asyncio.CancelledError
        yield {"url": response.url}


@pytest.mark.parametrize("how", ["exit", "cancel"])
def test_a_callback_that_exits_or_is_cancelled_ends_its_page_only(
    site: str, tmp_path: Path, how: str
) -> None:
    result = scraper.run(Rude, site=site, how=how, settings=FAST, output=tmp_path / "d.jsonl")
    assert result.finished
    assert result.reasons == {"callback_error": 1}
    assert result.items == 19


def test_an_observer_that_raises_changes_nothing(site: str, tmp_path: Path) -> None:
    class Clumsy(Observer):
        def on_item(self, item: Any, page: Page) -> None:
            raise LookupError

        def on_commit(self, batch: Any, committed: Any) -> None:
            raise LookupError

    result = scraper.run(
        Titles, site=site, settings=FAST, output=tmp_path / "e.jsonl", observers=[Clumsy()]
    )
    assert result.items == 21


class Unreadable(Pipeline):
    async def open(self, crawl: scraper.CrawlInfo) -> None:
        raise ValueError("no table")


def test_a_stage_that_cannot_open_is_named(site: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[[pipelines]]\nuse = "tests.test_api:Unreadable"\n')
    with pytest.raises(scraper.ScraperError, match=r"Unreadable: open\(\) raised ValueError"):
        scraper.run(Titles, site=site, settings=FAST, config=tmp_path / "config.toml")
