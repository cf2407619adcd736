"""The workbench: the whole machinery for single pages, and nothing left behind."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from scraper import Drop, Item, Output, Pipeline, Request, Response, Spider
from scraper.api import run_coroutine
from scraper.cli.worker import Worker
from scraper.config import Config, Crawl, HostRule, Politeness
from scraper.errors import CrawlFailed, FetchError, SpiderError, Throttled, UsageError
from scraper.project import Project
from scraper.protocols import Fetch
from scraper.workbench import Visitor, Workbench, open_workbench
from tests.servers.web import SILENT, Reply, Seen, Web, html, redirect, router, text

FAST = "politeness.delay=0"
SWIFT = Config(politeness=Politeness(delay=0.0))


def bench(
    spider: Spider | None = None, config: Config = SWIFT, *, stages: bool = False
) -> Workbench:
    return Workbench(spider or Visitor(), config, root=Path.cwd(), stages=stages)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory that is empty, and that a bench leaves so."""
    root = tmp_path / "here"
    root.mkdir()
    monkeypatch.chdir(root)
    yield root
    assert [p for p in root.rglob("*") if ".scrape" in p.parts or p.suffix == ".partial"] == []


# Fetching -----------------------------------------------------------------------------------


async def test_robots_first_then_the_page_and_its_redirects() -> None:
    site = router({
        "/robots.txt": text("User-agent: *\nDisallow: /no\n"),
        "/a": redirect("/b", ("Set-Cookie", "k=v")),
        "/b": lambda seen: html(f"<p>{seen.cookies.get('k')}"),
    })
    with Web(site) as web:
        async with bench() as b:
            response = await b.fetch(f"{web.url}/a")
            assert response.url == f"{web.url}/b"
            assert response.history == (f"{web.url}/a",)
            assert response.css("p").get() == "<p>v</p>"
            assert [(hop.url, hop.status, hop.robots) for hop in b.hops] == [
                (f"{web.url}/robots.txt", 200, True),
                (f"{web.url}/a", 302, False),
                (f"{web.url}/b", 200, False),
            ]
            with pytest.raises(FetchError, match="robots_denied"):
                await b.fetch(f"{web.url}/no")
        assert [seen.path for seen in web.log] == ["/robots.txt", "/a", "/b"]


async def test_every_status_is_a_response_and_nothing_is_retried() -> None:
    site = router({"/gone": text("gone", 410), "/busy": text("busy", 503)})
    with Web(site) as web:
        async with bench() as b:
            assert (await b.fetch(f"{web.url}/gone")).status == 410
            assert not b.delivers(await b.fetch(f"{web.url}/missing"))
            assert (await b.fetch(f"{web.url}/busy")).status == 503
        assert len(web.seen("/busy")) == 1


async def test_redirects_of_what_was_asked_for_lead_anywhere() -> None:
    with (
        Web(router({"/": html("there")})) as other,
        Web(router({"/": redirect(f"{other.url}/")})) as web,
    ):

        class Strict(Spider):
            name = "strict"
            allowed_domains: ClassVar[Sequence[str]] = (web.url.removeprefix("http://"),)

        async with bench(Strict()) as b:
            with pytest.raises(FetchError, match="out_of_scope"):
                await b.fetch(f"{web.url}/", start=False)
            assert (await b.fetch(f"{web.url}/")).url == f"{other.url}/"
            await b.fetch(f"{web.url}/", start=False)  # as in a crawl: it joined the scope


async def test_robots_that_cannot_be_had_end_the_wait() -> None:
    with Web(router({"/robots.txt": text("", 503), "/": html("")})) as web:
        async with bench() as b:
            with pytest.raises(FetchError) as caught:
                await b.fetch(f"{web.url}/")
            assert caught.value.reason == "robots_unavailable"
            assert "503" in caught.value.detail
        assert [seen.path for seen in web.log] == ["/robots.txt"]


async def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    async with bench() as b:
        with pytest.raises(FetchError) as caught:
            await b.fetch(f"http://127.0.0.1:{port}/")
        assert caught.value.reason == "connect_refused"
        with pytest.raises(FetchError) as caught:
            await b.fetch("no url at all")
        assert caught.value.reason == "url_invalid"


async def test_a_robots_txt_that_is_asked_for_is_a_page() -> None:
    with Web(router({"/robots.txt": text("User-agent: *\nDisallow:\n")})) as web:
        async with bench() as b:
            response = await b.fetch(f"{web.url}/robots.txt")
            assert response.text.startswith("User-agent")
            assert [hop.robots for hop in b.hops] == [True, False]


async def test_the_pace_is_kept() -> None:
    with Web(router({"/": html("")})) as web:
        slow = Config(politeness=Politeness(delay=30.0), crawl=Crawl(fetch_wait=0.01))
        async with bench(config=slow) as b:
            b_config = b.config.politeness
            assert b_config.delay == 30.0
            with pytest.raises(Throttled):  # robots.txt took the host's turn
                await b.fetch(f"{web.url}/")
        assert [seen.path for seen in web.log] == ["/robots.txt"]


async def test_limits_of_a_crawl_as_a_whole_do_not_end_a_bench() -> None:
    config = Config(
        politeness=Politeness(delay=0.0, robots=False),
        crawl=Crawl(max_pages=1, max_items=1, max_duration=0.001, max_errors=1),
    )
    with Web(router({"/": html("")})) as web:
        async with bench(config=config) as b:
            for _ in range(3):
                assert (await b.fetch(f"{web.url}/")).status == 200


async def test_several_at_once() -> None:
    with Web(router({}, lambda seen: text(seen.path))) as web:
        async with bench() as b:
            pages = await asyncio.gather(*(b.fetch(f"{web.url}/{n}") for n in range(20)))
        assert [page.text for page in pages] == [f"/{n}" for n in range(20)]


async def test_a_cancelled_fetch_leaves_the_bench_in_order() -> None:
    with Web(router({"/slow": SILENT, "/": html("")})) as web:
        async with bench() as b:
            task = asyncio.create_task(b.fetch(f"{web.url}/slow"))
            await asyncio.to_thread(web.wait, lambda web: bool(web.seen("/slow")))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await b.fetch(f"{web.url}/")).status == 200


# Spiders ------------------------------------------------------------------------------------


class Shop(Spider):
    name = "shop"
    told: ClassVar[list[str]] = []
    site: str

    async def setup(self) -> None:
        response = await self.fetch(Request(f"{self.site}/login", form={"user": "me"}))
        self.token = response.text

    async def start(self) -> AsyncIterator[Request]:
        self.told.append("started")
        yield Request(self.site)

    async def closed(self, reason: str) -> None:
        self.told.append(reason)

    async def parse(self, response: Response) -> Output:
        yield {"token": self.token, "cookie": response.text}


async def test_setup_runs_start_does_not_and_closed_does() -> None:
    site = router({
        "/login": lambda seen: text(seen.method, 200, ("Set-Cookie", "in=yes")),
        "/": lambda seen: text(seen.cookies.get("in", "no")),
    })
    Shop.told.clear()
    with Web(site) as web:
        async with bench(Shop(site=web.url)) as b:
            parsed = await b.parse(await b.fetch(f"{web.url}/"))
        assert parsed.records == [{"token": "POST", "cookie": "yes"}]
    assert Shop.told == ["stopped"]


async def test_a_setup_that_raises_is_told_with_its_line() -> None:
    class Broken(Spider):
        name = "broken"

        async def setup(self) -> None:
            raise ValueError("no password")

    with pytest.raises(CrawlFailed, match=r"setup\(\) raised ValueError: no password .*:\d+"):
        async with bench(Broken()):
            raise AssertionError("it must not open")


async def test_middleware_is_around_every_fetch() -> None:
    async def stamp(request: Request, call_next: Fetch) -> Response:
        return await call_next(request.replace(headers={"X-Stamp": "yes"}))

    class Stamped(Spider):
        name = "stamped"
        middleware = (stamp,)

    with Web(router({"/": lambda seen: text(seen.headers.get("x-stamp", "no"))})) as web:
        async with bench(Stamped()) as b:
            assert (await b.fetch(f"{web.url}/")).text == "yes"


async def test_a_middleware_that_answers_by_itself() -> None:
    async def cached(request: Request, call_next: Fetch) -> Response:
        return Response(request.url, body=b"from the cache", request=request)

    class Cached(Spider):
        name = "cached"
        middleware = (cached,)

    config = Config(politeness=Politeness(robots=False))
    async with bench(Cached(), config) as b:
        assert (await b.fetch("http://127.0.0.1:9/")).body == b"from the cache"
        assert b.hops == []


async def test_a_closed_bench_says_so() -> None:
    b = bench()
    async with b:
        pass
    await b.aclose()
    with pytest.raises(CrawlFailed, match="closed"):
        await b.fetch("http://127.0.0.1:9/")


# Parsing ------------------------------------------------------------------------------------


class Thing(Item):
    name: str


class Pages(Spider):
    name = "pages"
    start_urls: ClassVar[Sequence[str]] = ("http://site.example/",)

    async def parse(self, response: Response) -> Output:
        yield Thing(name="one")
        yield [{"n": 1}, response.follow("/a")]
        yield response.follow("/a")
        yield response.follow("/a", unique=False)
        yield response.follow("http://elsewhere.example/")
        yield Request("nonsense")
        thing = Thing(name="two")
        thing.name = 3  # type: ignore[assignment]  # rejected where it is written
        yield thing
        yield {"n": object()}
        yield response.follow("/b", self.second, kwargs={"n": 3})
        Thing.model_validate({})

    def second(self, response: Response, n: int) -> Any:
        return [{"n": n}]

    async def nothing(self, response: Response) -> Output:
        yield 3  # type: ignore[misc]

    async def unknown(self, response: Response) -> Output:
        yield response.follow("/", "secnd")


def page(url: str = "http://site.example/", **options: Any) -> Response:
    return Response(url, body=b"<p>", request=Request(url, **options))


async def test_what_a_callback_gives_and_what_a_crawl_would_do_with_it() -> None:
    async with bench(Pages()) as b:
        parsed = await b.parse(page())
    assert parsed.callback == "parse"
    assert parsed.items == [Thing(name="one"), {"n": 1}]
    assert parsed.records == [{"name": "one"}, {"n": 1}]
    assert [(link.request.url, link.refused) for link in parsed.links] == [
        ("http://site.example/a", None),
        ("http://site.example/a", "duplicate"),
        ("http://site.example/a", None),
        ("http://elsewhere.example/", "out_of_scope"),
        ("nonsense", "url_invalid"),
        ("http://site.example/b", None),
    ]
    reasons = [(row["item"], row["reason"]) for row in parsed.rejected]
    assert ("dict", "item_invalid") in reasons
    assert ("Thing", "item_invalid") in reasons


async def test_callbacks_by_name_with_validated_kwargs() -> None:
    async with bench(Pages()) as b:
        parsed = await b.parse(page(), "second", kwargs={"n": "4"})
        assert parsed.records == [{"n": 4}]
        parsed = await b.parse(page(callback="second", kwargs={"n": 5}))
        assert parsed.records == [{"n": 5}]
        with pytest.raises(ValueError, match="valid integer"):
            await b.parse(page(), "second", kwargs={"n": "x"})
        with pytest.raises(SpiderError, match="did you mean second"):
            await b.parse(page(), "secnd")
        with pytest.raises(SpiderError, match="no method 'secnd'"):
            await b.parse(page(), "unknown")
        with pytest.raises(TypeError, match="yielded 3"):
            await b.parse(page(), "nothing")


async def test_duplicates_across_pages_only_when_asked() -> None:
    seen: set[int] = set()
    async with bench(Pages()) as b:
        first = await b.parse(page(), seen=seen)
        again = await b.parse(page(), seen=seen)
        alone = await b.parse(page())
    assert [link.refused for link in first.links].count("duplicate") == 1
    assert [link.refused for link in again.links].count("duplicate") == 3
    assert [link.refused for link in alone.links] == [link.refused for link in first.links]


async def test_links_that_robots_txt_forbids_are_told_once_it_is_known() -> None:
    class Follows(Spider):
        name = "follows"

        def parse(self, response: Response) -> Any:
            return [response.follow("/no/1"), response.follow("/yes")]

    site = router({"/robots.txt": text("User-agent: *\nDisallow: /no/\n"), "/": html("")})
    with Web(site) as web:
        async with bench(Follows()) as b:
            parsed = await b.parse(await b.fetch(f"{web.url}/"))
    assert [link.refused for link in parsed.links] == ["robots_denied", None]


class Shout(Pipeline):
    async def process(self, item: Any, page: Any) -> Any:
        if item.get("n") == 1:
            raise Drop("ones")
        if item.get("n") == 2:
            raise RuntimeError("twos")
        return {**item, "loud": True}


async def test_stages_on_request_and_never_a_sink(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counts(Spider):
        name = "counts"

        def parse(self, response: Response) -> Any:
            return [{"n": n} for n in range(4)]

    (here / "stages.py").write_text("from tests.test_workbench import Shout\n")
    tables: Any = [{"use": "stages:Shout"}, {"use": "jsonl", "path": "out/{spider}.jsonl"}]
    config = Config(pipelines=tables)
    async with bench(Counts(), config) as b:
        plain = await b.parse(page())
    async with bench(Counts(), config, stages=True) as b:
        staged = await b.parse(page())
    assert plain.records == [{"n": n} for n in range(4)]
    assert staged.records == [{"n": 0, "loud": True}, {"n": 3, "loud": True}]
    assert [(drop.stage, drop.reason) for drop in staged.dropped] == [("Shout", "ones")]
    assert [(row["stage"], row["reason"]) for row in staged.rejected] == [("Shout", "stage_error")]
    assert not (here / "out").exists()


# Opening ------------------------------------------------------------------------------------


def fetch_page(url: str, project: Project | None = None, overrides: Sequence[str] = ()) -> Response:
    async def work() -> Response:
        async with open_workbench(project=project, overrides=overrides) as bench:
            return await bench.fetch(url)

    return run_coroutine(work())


def test_a_page_with_the_defaults_or_with_a_projects_configuration(here: Path) -> None:
    config = here / "config.toml"
    with Web(router({"/": lambda seen: text(seen.headers["user-agent"])})) as web:
        assert fetch_page(f"{web.url}/", overrides=[FAST]).text.startswith("scraper-framework/")
        config.write_text('[http]\nuser_agent = "me/1 (+mail)"\n[politeness]\ndelay = 0\n')
        assert fetch_page(f"{web.url}/").text == "me/1 (+mail)"
        assert (
            fetch_page(f"{web.url}/", Project(here, None), overrides=[FAST]).text != "me/1 (+mail)"
        )


def test_a_spider_of_the_project_with_its_settings(here: Path) -> None:
    (here / "config.toml").write_text("[politeness]\ndelay = 0\n[spiders.one.http]\ntimeout = 7\n")
    (here / "spiders").mkdir()
    (here / "spiders" / "one.py").write_text(
        "from scraper import Spider\n"
        "class One(Spider):\n"
        "    name = 'one'\n"
        "    settings = {'http': {'max_redirects': 2}}\n"
        "    page: int = 1\n"
    )
    made = open_workbench("one", args={"page": "3"}, overrides=["retry.attempts=5"])
    assert made.config.http.timeout == 7
    assert made.config.http.max_redirects == 2
    assert made.config.retry.attempts == 5
    assert vars(made.spider)["page"] == 3
    with pytest.raises(UsageError, match="did you mean one"):
        open_workbench("on")
    with pytest.raises(UsageError, match="no argument 'pag'"):
        open_workbench("one", args={"pag": 3})


def test_host_rules_apply() -> None:
    rules = {"127.0.0.1": HostRule(robots=False)}
    with Web(router({"/robots.txt": text("User-agent: *\nDisallow: /\n"), "/": html("")})) as web:

        async def status() -> int:
            config = Config(politeness=Politeness(delay=0.0, hosts=rules))
            async with bench(config=config) as b:
                return (await b.fetch(f"{web.url}/")).status

        assert asyncio.run(status()) == 200
        assert [seen.path for seen in web.log] == ["/"]


# In a thread --------------------------------------------------------------------------------


def test_a_worker_fetches_for_code_that_is_not_asynchronous() -> None:
    with Web(router({"/": html("<p>yes")})) as web, Worker(bench()) as worker:
        assert worker.fetch(f"{web.url}/").css("p::text").get() == "yes"

        async def from_another_loop() -> int:
            return (await worker.bench.spider.fetch(f"{web.url}/")).status

        assert asyncio.run(from_another_loop()) == 200
    assert not [t for t in threading.enumerate() if t.name == "workbench"]
    with pytest.raises(CrawlFailed, match="closed"):
        worker.fetch("http://127.0.0.1:9/")


def test_a_worker_whose_bench_does_not_open_ends_its_thread() -> None:
    class Broken(Spider):
        name = "broken"

        async def setup(self) -> None:
            raise ValueError("no")

    with pytest.raises(CrawlFailed), Worker(bench(Broken())):
        raise AssertionError("it must not open")
    assert not [t for t in threading.enumerate() if t.name == "workbench"]


def test_an_interrupt_cancels_the_call_and_no_more() -> None:
    answers: dict[str, Any] = {"/slow": SILENT, "/": Reply(b"fine")}
    with Web(router(answers)) as web, Worker(bench()) as worker:

        def interrupt() -> None:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        web.when(lambda web: bool(web.seen("/slow")), interrupt)
        with pytest.raises(KeyboardInterrupt):
            worker.fetch(f"{web.url}/slow")
        assert worker.fetch(f"{web.url}/").body == b"fine"


def test_what_the_log_of_the_server_says_of_cookies() -> None:
    def site(seen: Seen) -> Reply:
        return text(seen.cookies.get("n", "none"), 200, ("Set-Cookie", "n=1"))

    with Web(router({"/": site})) as web, Worker(bench()) as worker:
        assert worker.fetch(f"{web.url}/").text == "none"
        assert worker.fetch(f"{web.url}/").text == "1"
