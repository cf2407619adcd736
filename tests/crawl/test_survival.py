"""What a kill must not undo, must not repeat, and must not be blamed for."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from tests.crawl.harness import Project, json_lines
from tests.servers.graph import Graph
from tests.servers.web import SILENT, Answer, Reply, Seen, Web, html, redirect, text

MEMBERS = 60


class MembersOnly:
    """Pages under /member/N for whoever shows the cookie that POST /login sets."""

    def __call__(self, seen: Seen) -> Answer:
        if seen.path == "/login" and seen.method == "POST":
            if seen.body != b"user=ann&word=secret":
                return text("who?", 401)
            return html("welcome", 200, ("Set-Cookie", "sid=ann-1; Path=/; HttpOnly"))
        if seen.path.startswith("/member/"):
            if seen.cookies.get("sid") != "ann-1":
                return text("log in first", 403)
            n = int(seen.path.rpartition("/")[2])
            more = f'<a href="/member/{n + 1}">next</a>' if n + 1 < MEMBERS else ""
            return html(f"<h1>Member {n}</h1>{more}")
        return text("", 404)


LOGIN_SPIDER = """
from scraper import Request, Spider

class Members(Spider):
    name = "members"
    base: str

    async def start(self):
        yield Request(self.base + "/login", self.inside, form={"user": "ann", "word": "secret"})

    async def inside(self, response):
        yield response.follow("/member/0", self.parse)

    async def parse(self, response):
        for link in response.links():
            yield response.follow(link)
        yield {"n": int(response.url.rpartition("/")[2])}
"""


def asked(path: str, web: Web) -> bool:
    return bool(web.seen(path))


def test_a_login_that_lives_in_cookies_survives_a_kill(project: Project) -> None:
    project.spider(LOGIN_SPIDER)
    with Web(MembersOnly()) as web:
        command = (
            "run", "members", "-a", f"base={web.url}", "-o", "out.jsonl", "--json",
            "-s", "crawl.max_depth=0",
        )  # fmt: skip
        kills = 0
        while kills < 3:
            crawl = project.start(*command)
            # the chain has one page in flight at a time, so this is after several commits
            path = f"/member/{12 + 15 * kills}"
            web.when(partial(asked, path), crawl.kill)
            assert crawl.wait().code == -signal.SIGKILL
            kills += 1
        done = project.scrape(*command).expect(0)
        assert done.json["items"] == MEMBERS
        assert sorted(r["n"] for r in json_lines(project.path("out.jsonl"))) == list(range(MEMBERS))
        assert web.counts()["/login"] == 1
        assert {s.status for s in web.log if s.path.startswith("/member/")} <= {0, 200}


ORDERS_SPIDER = """
from scraper import Request, Spider

class Orders(Spider):
    name = "orders"
    base: str
    repeatable: bool = False

    async def start(self):
        for n in range(20):
            yield Request(f"{self.base}/page/{n}", priority=1)
        yield Request(self.base + "/order", self.ordered, json={"amount": 1},
                      repeatable=self.repeatable or None)

    async def parse(self, response):
        yield {"path": response.url.removeprefix(self.base)}

    async def ordered(self, response):
        yield {"path": "/order"}
"""


@pytest.mark.parametrize("repeatable", [False, True])
def test_a_post_in_flight_is_not_sent_again_unless_it_may(
    project: Project, repeatable: bool
) -> None:
    project.spider(ORDERS_SPIDER)
    answers: list[Answer] = [SILENT]

    def site(seen: Seen) -> Answer:
        if seen.path == "/order":
            return answers.pop() if answers else html("ordered")
        return html("page") if seen.path.startswith("/page/") else text("", 404)

    with Web(site) as web:
        command = (
            "run", "orders", "-a", f"base={web.url}", "-a", f"repeatable={str(repeatable).lower()}",
            "-o", "out.jsonl", "--json",
        )  # fmt: skip
        crawl = project.start(*command)
        web.when(lambda web: bool(web.seen("/order")), crawl.kill)
        assert crawl.wait().code == -signal.SIGKILL
        done = project.scrape(*command).expect(0)
        paths = {f"/page/{n}" for n in range(20)}
        delivered = Counter(r["path"] for r in json_lines(project.path("out.jsonl")))
        if repeatable:
            assert len(web.seen("/order")) == 2
            assert delivered == Counter(paths | {"/order"})
            assert done.json["failed"] == 0
        else:
            assert len(web.seen("/order")) == 1
            assert delivered == Counter(paths)
            assert done.json["reasons"] == {"interrupted": 1}
            assert done.json["failed"] == 1
            shown = project.scrape("failures", "orders").expect(0)
            assert "interrupted" in shown.out
            assert "/order" in shown.out


CRASH_SPIDER = """
import os
from scraper import Request, Spider

class Crash(Spider):
    name = "crash"
    base: str

    async def start(self):
        yield Request(self.base + "/p/0")

    async def parse(self, response):
        n = int(response.url.rpartition("/")[2])
        if n == 66:
            os._exit(9)
        for link in response.links():
            yield response.follow(link)
        yield {"n": n}
"""


def test_a_page_that_takes_the_process_down_ends_crashed_and_nothing_else_does(
    project: Project,
) -> None:
    project.spider(CRASH_SPIDER)
    graph = Graph(300)
    assert 66 * graph.width + 1 >= graph.pages, "nothing may hang on the page that is lost"
    with Web(graph) as web:
        command = ("run", "crash", "-a", f"base={web.url}", "-o", "out.jsonl", "--json")
        codes = [project.scrape(*command).code]
        while codes[-1] == 9 and len(codes) < 12:
            last = project.scrape(*command)
            codes.append(last.code)
        assert codes[-1] == 0, (codes, last.err)
        assert 3 <= codes.count(9) <= 6, codes
        assert last.json["reasons"] == {"crashed": 1}
        numbers = Counter(r["n"] for r in json_lines(project.path("out.jsonl")))
        assert numbers == Counter(set(range(300)) - {66})
        assert web.counts()["/p/66"] == codes.count(9)
        shown = project.scrape("failures", "crash").expect(0)
        assert "crashed" in shown.out
        assert "/p/66" in shown.out


SETUP_SPIDER = """
from scraper import Request, Spider

class WithSetup(Spider):
    name = "withsetup"
    base: str

    async def setup(self):
        token = await self.fetch(self.base + "/token")
        self.token = token.text

    async def start(self):
        for n in range(300):
            yield Request(f"{self.base}/page/{n}", headers={"X-Token": self.token})

    async def parse(self, response):
        yield {"n": int(response.url.rpartition("/")[2]), "token": self.token}
"""


def test_setup_runs_in_every_process_before_any_page(project: Project) -> None:
    project.spider(SETUP_SPIDER)
    tokens: Iterator[int] = iter(range(100))

    def site(seen: Seen) -> Answer:
        if seen.path == "/token":
            return text(f"t{next(tokens)}")
        return html("page") if seen.path.startswith("/page/") else text("", 404)

    with Web(site) as web:
        command = ("run", "withsetup", "-a", f"base={web.url}", "-o", "out.jsonl")
        crawl = project.start(*command)
        web.after(180, crawl.kill)
        assert crawl.wait().code == -signal.SIGKILL
        project.scrape(*command).expect(0)
        records = json_lines(project.path("out.jsonl"))
        assert Counter(r["n"] for r in records) == Counter(range(300))
        assert {r["token"] for r in records} == {"t0", "t1"}
        order = [s.path for s in web.log if s.path == "/token" or s.path.startswith("/page/")]
        assert order.count("/token") == 2
        assert order[0] == "/token"


CAPTCHA_SPIDER = """
from scraper import Request, Spider

class Wall(Spider):
    name = "wall"
    base: str

    async def start(self):
        yield Request(self.base + "/a")

    async def parse(self, response):
        yield {"url": response.url.removeprefix(self.base), "history": len(response.history)}
"""


def test_a_kill_in_the_middle_of_a_redirect_chain(project: Project) -> None:
    project.spider(CAPTCHA_SPIDER)

    def site(seen: Seen) -> Reply:
        if seen.path == "/a":
            return html("inside") if "ok" in seen.cookies else redirect("/wall")
        if seen.path == "/wall":
            return redirect("/a", ("Set-Cookie", "ok=1"))
        return text("", 404)

    with Web(site) as web:
        command = ("run", "wall", "-a", f"base={web.url}", "-o", "out.jsonl", "--json")
        crawl = project.start(*command)
        web.when(lambda web: bool(web.seen("/wall")), crawl.kill)
        assert crawl.wait().code == -signal.SIGKILL
        done = project.scrape(*command).expect(0)
        assert json_lines(project.path("out.jsonl")) == [{"url": "/a", "history": 2}]
        assert done.json["reasons"] == {}
