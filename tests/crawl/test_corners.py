"""Corners in which a crawl once hung, looped, or lost a page: each is a small whole crawl."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from scraper import CrawlResult, Fetch, Output, Request, Response, Spider, crawl
from scraper.session import open_session
from tests.crawl.harness import Project, json_lines
from tests.servers.web import Reply, Seen, Web, html, router

HUNG = 30.0
"""Seconds after which a crawl of a few pages counts as hung."""


def settings(*, delay: float = 0.0, **sections: Any) -> dict[str, Any]:
    pace = {"robots": False, "delay": delay, "adaptive": False, **sections.pop("politeness", {})}
    return {"politeness": pace, **sections}


async def finished(
    spider: type[Spider], out: Path, chosen: Mapping[str, Any], **args: Any
) -> CrawlResult:
    made = crawl(spider, args=args, settings=chosen, output=out / "out.jsonl")
    return await asyncio.wait_for(made, HUNG)


class Order(Spider):
    """A POST to a slow host, while another host keeps committing."""

    name = "order"
    settings = {"crawl": {"scope": "any"}}
    shop: str
    other: str

    async def start(self) -> AsyncIterator[Request]:
        yield Request(f"{self.shop}/page")
        yield Request(f"{self.shop}/order", json={"a": 1})
        for n in range(60):
            yield Request(f"{self.other}/{n}")

    async def parse(self, response: Response) -> Output:
        yield {"url": response.url}


async def test_what_is_marked_as_sent_is_sent_though_its_host_must_rest(tmp_path: Path) -> None:
    async def slow(seen: Seen) -> Reply:
        await asyncio.sleep(0.02)
        return html("x")

    with Web(slow, addresses=("127.0.0.1", "127.0.0.2")) as web:
        fast = {"127.0.0.2": {"delay": 0.0, "per_host": 2}}
        result = await finished(
            Order,
            tmp_path,
            settings(delay=1.0, politeness={"hosts": fast}),
            shop=web.base("127.0.0.1"),
            other=web.base("127.0.0.2"),
        )
        assert result.pages == 62
        assert len(web.seen("/order")) == 1


class Inline(Spider):
    name = "inline"
    base: str

    async def start(self) -> AsyncIterator[Request]:
        yield Request(f"{self.base}/a")

    async def parse(self, response: Response) -> Output:
        inline = await self.fetch(f"{self.base}/b")
        yield {"url": response.url, "inline": inline.status}


class Stopped(Spider):
    name = "stopped"
    base: str

    async def start(self) -> AsyncIterator[Request]:
        yield Request(f"{self.base}/a")

    async def parse(self, response: Response) -> Output:
        PARSING.set()
        inline = await self.fetch(f"{self.base}/b")
        yield {"inline": inline.status}


PARSING = asyncio.Event()


async def test_a_stop_lets_a_page_in_flight_finish_its_own_fetches(tmp_path: Path) -> None:
    PARSING.clear()
    with (
        Web(lambda seen: html("x")) as web,
        open_session(
            Stopped,
            args={"base": web.url},
            settings=settings(delay=0.3, crawl={"drain_timeout": HUNG}),
            output=str(tmp_path / "out.jsonl"),
        ) as session,
    ):
        task = asyncio.create_task(session.crawl.run())
        await PARSING.wait()
        session.crawl.stop()
        result = await asyncio.wait_for(task, HUNG)
        assert result.ended == "stopped"
        assert result.pages == 1
        assert web.counts() == {"/a": 1, "/b": 1}


async def test_an_inline_fetch_that_never_gets_its_turn_in_time_ends(tmp_path: Path) -> None:
    with Web(lambda seen: html("x")) as web:
        chosen = settings(delay=0.4, crawl={"fetch_wait": 0.1}, retry={"attempts": 2})
        result = await finished(Throttling, tmp_path, chosen, base=web.url)
        assert result.reasons == {"throttled": 1}
        assert web.counts() == {"/a": 2}


class Throttling(Stopped):
    name = "throttling"


class Following(Spider):
    name = "following"
    base: str

    async def start(self) -> AsyncIterator[Request]:
        yield Request(f"{self.base}/a")
        yield Request(f"{self.base}/late")

    async def parse(self, response: Response) -> Output:
        yield {"url": response.url}
        yield response.follow_all(response.links())


async def test_a_page_found_too_deep_is_taken_when_a_shorter_way_is_found(tmp_path: Path) -> None:
    async def late(seen: Seen) -> Reply:
        await asyncio.sleep(0.4)
        return html('<a href="/x">x</a>')

    routes: dict[str, Any] = {
        "/a": html('<a href="/b">b</a>'),
        "/b": html('<a href="/x">x</a>'),
        "/late": late,
        "/x": html("x"),
    }
    with Web(router(routes)) as web:
        chosen = settings(crawl={"max_depth": 1})
        await finished(Following, tmp_path, chosen, base=web.url)
        assert web.counts() == {"/a": 1, "/b": 1, "/late": 1, "/x": 1}


class Widening(Spider):
    """A second host becomes a start, after a link to it was refused."""

    name = "widening"
    first: str
    second: str

    async def start(self) -> AsyncIterator[Request]:
        yield Request(f"{self.first}/")
        await asyncio.sleep(0.4)
        yield Request(f"{self.second}/")

    async def parse(self, response: Response) -> Output:
        yield {"url": response.url}
        yield response.follow_all(response.links())


async def test_a_refusal_does_not_outlive_the_scope_it_came_from(tmp_path: Path) -> None:
    with Web(lambda seen: html("leaf"), addresses=("127.0.0.1", "127.0.0.2")) as web:
        second = web.base("127.0.0.2")
        front = html(f'<a href="{second}/x">x</a>')
        web.site = lambda seen: front if seen.path == "/" else html("leaf")
        await finished(Widening, tmp_path, settings(), first=web.base("127.0.0.1"), second=second)
        assert len(web.seen("/x")) == 1


class Unstorable(Spider):
    name = "unstorable"
    base: str

    async def start(self) -> AsyncIterator[Request]:
        for n in range(4):
            yield Request(f"{self.base}/{n}")

    async def parse(self, response: Response) -> Output:
        if response.url.endswith("/2"):
            yield Request(f"{self.base}/x", kwargs={"price": object()})
        yield {"url": response.url}


async def test_kwargs_that_cannot_be_stored_fail_their_page_alone(tmp_path: Path) -> None:
    with Web(lambda seen: html("x")) as web:
        result = await finished(Unstorable, tmp_path, settings(), base=web.url)
        assert (result.items, result.reasons) == (3, {"callback_error": 1})


async def test_session_ids_that_are_dropped_do_not_make_a_redirect_a_duplicate(
    tmp_path: Path,
) -> None:
    def site(seen: Seen) -> Reply:
        if seen.path == "/a":
            return Reply(status=302, headers=[("Location", "/a?sid=1")])
        return html("x")

    with Web(site) as web:
        chosen = settings(crawl={"drop_params": ["sid"]})
        result = await finished(Inline, tmp_path, chosen, base=web.url)
        assert result.pages == 1
        assert "redirect_duplicate" not in result.reasons


async def forgetful(request: Request, call_next: Fetch) -> Any:
    await call_next(request)


async def furious(request: Request, call_next: Fetch) -> Response:
    raise LookupError(request.url)


@pytest.mark.parametrize("wrapper", [forgetful, furious])
async def test_a_middleware_that_fails_fails_its_pages(tmp_path: Path, wrapper: Any) -> None:
    made = type("Wrapped", (Unstorable,), {"name": "wrapped", "middleware": (wrapper,)})
    with Web(lambda seen: html("x")) as web:
        result = await finished(made, tmp_path, {"politeness": {"delay": 0.0}}, base=web.url)
        assert result.ended == "failed"
        assert result.failed == 4


SHELF = """
from scraper import Request, Spider

class Shelf(Spider):
    name = "shelf"
    base: str

    async def start(self):
        for n in range(20):
            yield Request(f"{self.base}/{n}")

    async def parse(self, response):
        for i in range(3):
            yield {"n": int(response.url.rpartition("/")[2]), "i": i}
"""


def test_a_limit_that_cut_a_page_ends_the_crawl_even_after_a_kill(project: Project) -> None:
    """The rest of that page is gone for good, so a resume must not call the crawl complete."""
    project.spider(SHELF)
    with Web(lambda seen: html("x")) as web:
        command = ("run", "shelf", "-a", f"base={web.url}", "-o", "out.jsonl", "--json")
        killed = project.start(
            *command, "--limit", "10", env={"SCRAPER_KILL_AT": "publish:1"}
        ).wait()
        assert killed.code < 0
        project.scrape(*command).expect(0)
        assert len(json_lines(project.path("out.jsonl"))) == 10
