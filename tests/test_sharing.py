"""Politeness across workers: whole crawls over one store, on a manual clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from scraper.config import Config, Crawl, HostRule, Politeness
from scraper.errors import FetchError
from scraper.http import Request, Response
from scraper.spider import Output, Spider
from scraper.urls import host_key
from tests.sharedstore import Site, World

CDN, API = "http://cdn.example", "http://api.example"
X, Y = "http://x.example", "http://y.example"

DELAY = 0.2


def config(fetch_wait: float = 60.0, **politeness: Any) -> Config:
    crawl = Crawl(scope="any", concurrency=8, max_depth=0, fetch_wait=fetch_wait)
    told = {"robots": False, "delay": DELAY, "adaptive": False, "per_host": 4} | politeness
    return Config(crawl=crawl, politeness=Politeness(**told))


def page(request: Request, status: int = 200, body: bytes = b"", **headers: str) -> Response:
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Response(request.url, status, fields, body, request, elapsed=0.05)


def fine(worker: str, request: Request) -> Response:
    return page(request)


class Pages(Spider):
    """Asks for `urls`; what each page does is said by whoever makes it."""

    name = "pages"

    def __init__(
        self,
        urls: list[str],
        visit: Callable[[Pages, Response], Any] | None = None,
        before: Callable[[Pages], Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.urls = urls
        self.visit = visit
        self.before = before
        self.options = options
        self.failures: list[Exception] = []

    async def setup(self) -> None:
        if self.before is not None:
            await self.before(self)

    async def start(self) -> AsyncIterator[Request]:
        for url in self.urls:
            yield Request(url, **self.options)

    async def parse(self, response: Response) -> Output:
        if self.visit is not None:
            try:
                await self.visit(self, response)
            except FetchError as error:
                self.failures.append(error)
                raise
        yield {"url": response.url}


def numbered(host: str, count: int, tag: str = "p") -> list[str]:
    return [f"{host}/{tag}/{n}" for n in range(count)]


# -- setup ------------------------------------------------------------------------------------


async def test_workers_that_log_in_at_one_host_do_so_one_after_the_other() -> None:
    async def log_in(spider: Pages) -> None:
        await spider.fetch(Request(f"{X}/form"))
        await spider.fetch(Request(f"{X}/login", method="POST", body=b"me"))

    world = World(fine, config())
    for n in range(3):
        world.add(Pages(numbered(X, 5, f"of{n}"), before=log_in))
    await world.run(most=60)
    world.never_two_workers_at_once(X)
    world.apart(X, DELAY)
    world.clean()
    assert world.fetched(X, "/login") == {"/login": 3}
    assert world.fetched(X, "/of").total() == 15


async def test_a_long_setup_keeps_no_host_from_the_others() -> None:
    """It asked for one page of X and is busy with other things: the pages of X are for others."""
    done: list[float] = []

    async def dawdle(spider: Pages) -> None:
        await spider.fetch(Request(f"{X}/once"))
        later: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        world.clock.call_at(world.clock.monotonic() + 100, lambda: later.set_result(None))
        await later
        done.append(world.elapsed)

    world = World(fine, config())
    world.add(Pages([], before=dawdle))
    other = world.add(Pages(numbered(X, 20)))
    await world.run(most=150)
    world.clean()
    assert done[0] >= 100
    assert {seen.worker for seen in world.web.seen(X, "/p/")} == {other.name}
    assert world.web.seen(X, "/p/")[-1].at - world.began < 10


# -- downloads --------------------------------------------------------------------------------


async def test_two_workers_download_from_one_host_and_neither_starves() -> None:
    async def get(spider: Pages, response: Response) -> None:
        worker = next(w for w in world.workers if w.spider is spider)
        number = response.url.rpartition("/")[2]
        await worker.download(f"{CDN}/{worker.name}/{number}")

    world = World(fine, config())
    for host in (X, Y):
        world.add(Pages(numbered(host, 30), visit=get))
    # each starts with its own host, as the store hands hosts out to whoever comes first
    await world.run(most=120)
    world.never_two_workers_at_once(CDN)
    world.apart(CDN, DELAY)
    world.clean()
    files = world.web.seen(CDN)
    assert len(files) == 60
    turns = [a.worker != b.worker for a, b in pairwise(files)]
    both = max(i for i, s in enumerate(files) if s.worker != files[-1].worker)
    assert sum(turns) >= 4
    while_both = files[: both + 1]
    for worker in world.workers:
        mine = [seen.at for seen in while_both if seen.worker == worker.name]
        assert max(b - a for a, b in pairwise(mine)) < 5  # a turn of the other, and the way back
    assert files[-1].at - files[0].at < 60 * DELAY * 2.5


async def test_what_nobody_else_wants_is_kept() -> None:
    async def get(spider: Pages, response: Response) -> None:
        for n in range(5):
            await spider.fetch(Request(f"{API}{response.url[len(X) :]}/{n}"))

    world = World(fine, config())
    world.add(Pages(numbered(X, 4), visit=get))
    await world.run(most=60)
    world.clean()
    calls = [seen.at for seen in world.web.seen(API)]
    assert len(calls) == 20
    assert calls[-1] - calls[0] < 19 * DELAY + 1


# -- what would be a deadlock -----------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"method": "POST", "unique": True}])
async def test_two_workers_that_want_each_other_s_host_both_get_it(options: dict[str, Any]) -> None:
    """Every worker's tasks are all in callbacks, which wait for what the other one has."""

    async def ask(spider: Pages, response: Response) -> None:
        here = host_key(response.url)
        there = Y if here == X else X
        await spider.fetch(Request(f"{there}/from{response.url[len(here) :]}"))

    world = World(fine, config(delay=0.0))
    for host in (X, Y):
        world.add(Pages(numbered(host, 40), visit=ask, **options))
    await world.run(most=55)  # less than anybody's patience
    for host in (X, Y):
        world.never_two_workers_at_once(host)
        assert set(world.fetched(host).values()) == {1}
        assert world.fetched(host).total() == 80
    world.clean()
    assert [worker.spider.failures for worker in world.workers] == [[], []]  # type: ignore[attr-defined]


# -- pauses -----------------------------------------------------------------------------------


async def test_a_pause_that_one_worker_was_told_holds_for_all() -> None:
    told: list[float] = []

    def site(worker: str, request: Request) -> Response:
        if request.url == f"{CDN}/w0/3" and not told:
            told.append(world.clock.monotonic())
            return page(request, 429, Retry_After="20")
        return page(request)

    async def get(spider: Pages, response: Response) -> None:
        worker = next(w for w in world.workers if w.spider is spider)
        await worker.download(f"{CDN}/{worker.name}/{response.url.rpartition('/')[2]}")

    world = World(site, config())
    for host in (X, Y):
        world.add(Pages(numbered(host, 8), visit=get))
    await world.run(most=120)
    world.never_two_workers_at_once(CDN)
    world.clean()
    assert not [s for s in world.web.seen(CDN) if told[0] < s.at < told[0] + 20]
    assert world.fetched(CDN).total() == 17


# -- robots.txt -------------------------------------------------------------------------------


def robots(text: bytes, status: int = 200) -> Site:
    def site(worker: str, request: Request) -> Response:
        if request.url.endswith("/robots.txt"):
            return page(request, status, text)
        return page(request)

    return site


async def test_robots_txt_is_fetched_once_for_all_workers() -> None:
    rules = b"User-agent: *\nDisallow: /secret\nCrawl-delay: 0.5\n"

    async def ask(spider: Pages, response: Response) -> None:
        worker = next(w for w in world.workers if w.spider is spider)
        number = response.url.rpartition("/")[2]
        await spider.fetch(Request(f"{API}/{worker.name}/{number}"))
        with pytest.raises(FetchError, match="robots_denied"):
            await spider.fetch(Request(f"{API}/secret/{number}"))

    world = World(robots(rules), config(robots=True))
    for n in range(3):
        world.add(Pages(numbered(f"http://site{n}.example", 4), visit=ask))
    await world.run(most=300)
    world.never_two_workers_at_once(API)
    world.apart(API, 0.5)
    assert world.fetched(API, "/robots.txt") == {"/robots.txt": 1}
    assert world.fetched(API, "/secret").total() == 0
    assert {seen.worker for seen in world.web.seen(API, "/w")} == {"w0", "w1", "w2"}
    for n in range(3):
        assert world.fetched(f"http://site{n}.example", "/robots.txt").total() == 1
    world.clean()


async def test_tries_for_a_robots_txt_that_fails_are_those_of_all_workers() -> None:
    async def ask(spider: Pages, response: Response) -> None:
        worker = next(w for w in world.workers if w.spider is spider)
        with pytest.raises(FetchError, match=r"robots_unavailable|throttled"):
            await spider.fetch(Request(f"{API}/{worker.name}"))

    def site(worker: str, request: Request) -> Response:
        return page(request, 500 if request.url == f"{API}/robots.txt" else 404)

    world = World(site, config(fetch_wait=300.0, robots=True))
    for n in range(2):
        pages = [f"http://site{n}.example/{m}" for m in range(3)]
        world.add(Pages(pages, visit=ask, accept=[404]))
    await world.run(most=600)
    tries = [seen.at for seen in world.web.seen(API, "/robots.txt")]
    assert len(tries) == 5
    for (a, b), rest in zip(pairwise(tries), (5, 10, 20, 40), strict=True):
        assert b - a >= rest
    assert world.fetched(API).total() == 5


async def test_a_robots_txt_that_leads_to_a_host_of_another_worker() -> None:
    """X's lies at Y and Y's at X: who waits for one keeps the other from nobody."""

    def site(worker: str, request: Request) -> Response:
        if not request.url.endswith("robots.txt"):
            return page(request)
        if request.url.endswith("/other/robots.txt"):
            return page(request, 200, b"User-agent: *\nDisallow: /no\n")
        other = Y if request.url.startswith(X) else X
        return page(request, 301, Location=f"{other}/other/robots.txt")

    world = World(site, config(robots=True))
    for host in (X, Y):
        world.add(Pages([*numbered(host, 10), f"{host}/no"]))
    await world.run(most=55)
    for host in (X, Y):
        world.never_two_workers_at_once(host)
        assert world.fetched(host, "/p/").total() == 10
        assert world.fetched(host, "/no").total() == 0


# -- slots ------------------------------------------------------------------------------------


async def test_workers_share_a_host_of_several_slots_and_its_pace() -> None:
    section = config(hosts={"x.example": HostRule(slots=4, per_host=8, delay=0.1)}, robots=True)
    rules = b"User-agent: *\nDisallow: /no\n"
    world = World(robots(rules), section, latency=0.3)
    for n in range(4):
        world.add(Pages([*numbered(X, 200), f"{X}/no"] if n == 0 else []))
    await world.run(most=120)
    world.clean_but_for("robots_denied")
    seen = world.web.seen(X, "/p/")
    assert world.fetched(X, "/p/").total() == 200
    assert set(world.fetched(X).values()) == {1} | {world.fetched(X)["/robots.txt"]}
    assert world.fetched(X)["/robots.txt"] <= 4  # all slots began at once
    assert len({s.worker for s in seen}) >= 2
    assert max(len(s.beside) for s in seen) < 8
    starts = [s.at for s in seen]
    for first, after in zip(starts, starts[8:], strict=False):
        assert after - first >= (8 - 4) * 0.1 - 1e-6  # four slots, which began at any time


async def test_a_pause_of_one_slot_quiets_the_others() -> None:
    told: list[float] = []

    def site(worker: str, request: Request) -> Response:
        if request.url == f"{X}/p/30":
            told.append(world.clock.monotonic())
            if len(told) == 1:
                return page(request, 429, Retry_After="30")
        return page(request)

    section = config(hosts={"x.example": HostRule(slots=4, per_host=4, delay=0.1)})
    world = World(site, section)
    for n in range(4):
        world.add(Pages(numbered(X, 120) if n == 0 else []))
    await world.run(most=120)
    world.clean()
    seen = world.web.seen(X)
    assert len({s.worker for s in seen if s.at <= told[0]}) >= 2
    late = [s for s in seen if told[0] < s.at < told[0] + 30]
    assert len(late) <= 12  # what started before the next commits of all
    assert not [s for s in late if s.at > told[0] + 2.5]
    assert world.fetched(X).total() == 121


async def test_calls_go_to_a_slot_that_is_held_here() -> None:
    async def ask(spider: Pages, response: Response) -> None:
        await spider.fetch(Request(f"{X}/call{response.url[len(X) :]}"))

    section = config(hosts={"x.example": HostRule(slots=2, per_host=4, delay=0.1)})
    world = World(fine, section)
    for n in range(2):
        world.add(Pages(numbered(X, 40) if n == 0 else [], visit=ask))
    await world.run(most=120)
    world.clean()
    assert world.fetched(X, "/call").total() == 40
    assert set(world.store.lines) == {f"{X}#0", f"{X}#1"}


async def test_users_see_hosts_and_not_slots(caplog: pytest.LogCaptureFixture) -> None:
    def site(worker: str, request: Request) -> Response:
        return page(request, 500 if request.url.endswith("/robots.txt") else 200)

    section = config(hosts={"x.example": HostRule(slots=4)}, robots=True)
    world = World(site, section)
    world.add(Pages(numbered(X, 8)))
    waiting: list[int] = []
    world.clock.call_at(
        world.began + 3,
        lambda: waiting.append(world.workers[0].engine.scheduler.snapshot().waiting),
    )
    await world.run(most=600)
    assert "http://x.example: robots.txt: http_500" in caplog.text
    assert "#" not in caplog.text
    assert {reason.split()[0] for reason in world.store.dead} == {"robots_unavailable"}
    assert world.fetched(X)["/robots.txt"] == 5
    assert waiting[0] <= 1


# -- who has too much -------------------------------------------------------------------------


async def test_a_worker_that_has_all_hosts_gives_of_them_to_one_that_has_none() -> None:
    world = World(fine, config())
    hosts = [f"http://site{n}.example" for n in range(20)]
    world.add(Pages([f"{host}/p/{n}" for n in range(60) for host in hosts]))
    world.add(Pages([]))
    await world.run(most=120)
    world.clean()
    for host in hosts:
        world.never_two_workers_at_once(host)
        world.apart(host, DELAY)
    done = Counter(seen.worker for seen in world.web.log)
    assert done.total() == 1200
    assert min(done.values()) > 200
    # what each host waited for changing hands is little beside its pace
    assert world.elapsed < 60 * DELAY + 6


async def test_the_only_host_is_not_handed_around() -> None:
    world = World(fine, config())
    world.add(Pages(numbered(X, 60)))
    world.add(Pages([]))
    await world.run(most=60)
    world.clean()
    assert {seen.worker for seen in world.web.log} == {"w0"}
    assert world.elapsed < 60 * DELAY + 1


# -- whatever comes ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_comes_no_host_is_asked_by_two_and_all_is_done(seed: int) -> None:
    """Pages that fetch from hosts of others, from their own, and from hosts without pages; some
    may not repeat; hosts that tell to wait; every host with a robots.txt."""
    dice = Random(seed)
    hosts = [f"http://h{n}.example" for n in range(dice.randint(2, 8))]
    apis = [f"http://api{n}.example" for n in range(dice.randint(1, 3))]
    pauses = {f"{dice.choice(hosts)}/p/{dice.randrange(5)}" for _ in range(2)}
    asked: Counter[str] = Counter()

    def site(worker: str, request: Request) -> Response:
        asked[request.url] += 1
        if request.url.endswith("/robots.txt"):
            return page(request, 200, b"User-agent: *\nDisallow: /no\n")
        if request.url in pauses and asked[request.url] == 1:
            return page(request, 429, Retry_After="3")
        return page(request)

    async def visit(spider: Pages, response: Response) -> None:
        for n in range(dice.randint(0, 2)):
            there = dice.choice(hosts + apis)
            await spider.fetch(Request(f"{there}/call{response.url[6:]}/{n}"))

    delay = dice.choice([0.0, 0.1, 0.7])
    world = World(site, config(fetch_wait=300.0, robots=True, delay=delay), latency=0.07)
    workers = dice.randint(2, 5)
    for n in range(workers):
        urls = [
            url for i, host in enumerate(hosts) if i % workers == n for url in numbered(host, 12)
        ]
        options: dict[str, Any] = {"method": "POST"} if dice.random() < 0.3 else {}
        world.add(Pages(urls, visit=visit, **options))
    await world.run(most=400)
    for host in hosts + apis:
        world.never_two_workers_at_once(host)
        world.apart(host, delay)
        assert world.fetched(host, "/robots.txt").total() <= 1
        assert all(len(seen.beside) < 4 for seen in world.web.seen(host))
    told = sum(asked[url] - 1 for url in pauses if url in asked)
    pages = sum(world.fetched(host, "/p/").total() for host in hosts)
    assert pages == 12 * len(hosts) + told
    assert told == len(pauses)
    assert [worker.spider.failures for worker in world.workers] == [[]] * workers  # type: ignore[attr-defined]
    world.clean()
