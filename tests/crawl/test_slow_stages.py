"""Slow stages do not hold up fetching, and the pages that wait in them are bounded.

The server decides how slow: it answers what a stage waits for once it has seen what the test is
about. Page 0 links to all others, and each of these has one thing to wait for.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from scraper import Output, Request, Response, Spider, chained, run
from tests.crawl.harness import Project, json_lines
from tests.servers.web import Answer, Reply, Seen, Web, html, text

CONCURRENCY = 4
MOST = CONCURRENCY * (1 + chained.MOST)
"""Pages in the making, at most: those of workers, and those in slow stages."""

PAGES = 60
PNG = Reply(b"\x89PNG\r\n\x1a\n....", type="image/png")

SPIDER = """
from scraper import Output, Request, Response, Spider

class Slow(Spider):
    name = "slow"
    base: str

    async def start(self):
        yield Request(self.base + "/p/0")

    async def parse(self, response: Response) -> Output:
        for link in response.links():
            yield response.follow(link)
        for image in response.css("img::attr(src)").getall():
            yield {"image": response.urljoin(image)}
"""

STAGE = """
from scraper import Pipeline, Request

class Asks(Pipeline):
    async def open(self, crawl):
        self.fetch = crawl.fetch

    async def process(self, item, page):
        await self.fetch(Request(item["image"]))
        return item
"""

TABLES = {
    "stage": '[[pipelines]]\nuse = "pipelines.asks:Asks"\n',
    "files": '[[pipelines]]\nuse = "files"\nfields = ["image"]\n',
}


class Lockstep:
    """Holds back what stages wait for: the n-th is answered once `ahead` + n pages were asked for.

    So a crawl comes to its end only if it keeps fetching while `ahead` pages wait; and it keeps
    its bound only if no page is asked for before its turn, which the log shows.
    """

    def __init__(self, ahead: int, *, body: int = 0) -> None:
        self.ahead = ahead
        self.pad = "x" * body
        self.pages = 0
        self.answered = 0
        self.most = 0
        self.changed = asyncio.Event()

    def __call__(self, seen: Seen) -> Answer | asyncio.Future[Answer]:
        head, _, tail = seen.path.rpartition("/")
        if head == "/p":
            if tail == "0":
                links = "".join(f'<a href="/p/{n}">{n}</a>' for n in range(1, PAGES + 1))
                return html(links)
            self.pages += 1
            self.most = max(self.most, self.pages - self.answered)
            self.changed.set()
            return html(f'<img src="/f/{tail}">{self.pad}')
        if head == "/f":
            return asyncio.ensure_future(self.held())
        return text("", 404)

    async def held(self) -> Answer:
        while self.pages < min(self.ahead + self.answered, PAGES):
            self.changed.clear()
            await self.changed.wait()
        self.answered += 1
        self.changed.set()
        return PNG


def prepare(project: Project, kind: str, more: str = "") -> None:
    project.spider(SPIDER)
    (project.root / "pipelines").mkdir()
    (project.root / "pipelines/asks.py").write_text(STAGE)
    crawl = f"[crawl]\nconcurrency = {CONCURRENCY}\n{more}\n"
    project.config(crawl + TABLES[kind] + '[[pipelines]]\nuse = "jsonl"\npath = "out.jsonl"\n')


@pytest.mark.parametrize("kind", TABLES)
def test_fetching_goes_on_while_stages_are_slow_within_bounds(project: Project, kind: str) -> None:
    prepare(project, kind)
    site = Lockstep(MOST)
    with Web(site) as web:
        done = project.scrape("run", "slow", "-a", f"base={web.url}", "--json").expect(0)
    assert done.json["items"] == PAGES
    assert done.json["failed"] == 0
    assert site.most == MOST, "and no page more was asked for while all of these waited"
    assert Counter(web.counts().values()) == Counter({1: 2 * PAGES + 2})


class Pages(Spider):
    name = "pages"
    base: str

    async def start(self):  # type: ignore[no-untyped-def]
        yield Request(self.base + "/p/0")

    async def parse(self, response: Response) -> Output:
        for link in response.links():
            yield response.follow(link)
        for image in response.css("img::attr(src)").getall():
            yield {"image": response.urljoin(image)}


def crawl(web: Web, root: str, pipelines: Sequence[dict[str, object]]) -> int:
    settings = {
        "crawl": {"concurrency": CONCURRENCY},
        "politeness": {"delay": 0, "adaptive": False, "per_host": 64},
        "pipelines": list(pipelines),
    }
    return run(Pages, base=web.url, settings=settings, output=f"{root}/out.jsonl").items


def test_the_bodies_that_waiting_pages_hold_are_bounded(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 30_000
    weight = size * (1 + chained.PARSED) + chained.PARSED_LEAST
    monkeypatch.setattr(chained, "MOST_BYTES", 3 * weight)
    files: dict[str, object] = {
        "use": "files",
        "fields": ["image"],
        "directory": str(project.path("files")),
    }
    bound = 3 + CONCURRENCY  # three pages of that weight are spared, and the rest are workers'
    site = Lockstep(CONCURRENCY, body=size)
    with Web(site) as web:
        assert crawl(web, str(project.root), [files]) == PAGES
    assert CONCURRENCY <= site.most <= bound < MOST


def test_a_crawl_whose_stages_hang_can_be_stopped_and_resumed(project: Project) -> None:
    prepare(project, "files", "drain_timeout = 0")
    open_again = False

    def site(seen: Seen) -> Answer | asyncio.Future[Answer]:
        if seen.path == "/p/0":
            return html("".join(f'<a href="/p/{n}">{n}</a>' for n in range(1, PAGES + 1)))
        if seen.path.startswith("/p/"):
            return html(f'<img src="/f/{seen.path[3:]}">')
        if seen.path.startswith("/f/"):
            return PNG if open_again else asyncio.get_running_loop().create_future()
        return text("", 404)

    def waiting(web: Web) -> bool:
        return sum(seen.path.startswith("/f/") for seen in web.log) == MOST

    with Web(site) as web:
        arguments = ("run", "slow", "-a", f"base={web.url}", "--json")
        stuck = project.start(*arguments)
        stop: Callable[[], None] = lambda: stuck.signal(signal.SIGTERM)  # noqa: E731
        web.when(waiting, stop)
        stuck.wait().expect(143)
        open_again = True
        done = project.scrape(*arguments).expect(0)
    assert (done.json["items"], done.json["resumed"]) == (PAGES, True)
    rows = json_lines(project.path("out.jsonl"))
    images = Counter(row["image"] for row in rows)
    assert images == {f"{web.url}/f/{n}": 1 for n in range(1, PAGES + 1)}
    assert {file["error"] for row in rows for file in row["files"]} == {None}
