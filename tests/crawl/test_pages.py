"""What becomes of a page: redirects, statuses, failures, callbacks of every shape, start()."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from tests.crawl.harness import Finished, Project, addresses, json_lines
from tests.servers.web import Answer, Seen, Site, Web, html, redirect, router, text


def crawl(
    project: Project, web: Web, body: str, *more: str, code: int = 0, head: str = ""
) -> Finished:
    """Run a spider made of *body* (its methods and attributes) to its end."""
    lines = [
        "from scraper import Drop, FetchError, Item, Request, Response, Retry, Spider",
        head,
        "class Site(Spider):",
        "    name = 'site'",
        "    base: str",
        *("    " + line for line in body.splitlines()),
    ]
    (project.root / "spiders" / "site.py").write_text("\n".join(lines) + "\n")
    command = ("run", "site", "-a", f"base={web.url}", "-o", "out.jsonl", "--json", *more)
    return project.scrape(*command).expect(code)


def records(project: Project) -> list[dict[str, Any]]:
    return json_lines(project.path("out.jsonl"))


def urls(project: Project, web: Web) -> Counter[str]:
    return Counter(record["url"].removeprefix(web.url) for record in records(project))


START = """
async def start(self):
    for path in PATHS:
        yield Request(self.base + path)

async def parse(self, response):
    yield {"url": response.url, "status": response.status, "history": list(response.history)}
"""


def starting(*paths: str) -> str:
    return START.replace("PATHS", repr(list(paths)))


# -- redirects -------------------------------------------------------------------------------


@pytest.mark.case(
    38,
    "two URLs that redirect to one page",
    "one item; the other URL ends `redirect_duplicate`, which is a skip and no failure",
)
def test_two_urls_that_lead_to_one_page_are_one_item(project: Project) -> None:
    with Web(router({"/x": redirect("/t"), "/y": redirect("/t"), "/t": html("T")})) as web:
        done = crawl(project, web, starting("/x", "/y"))
        assert urls(project, web) == Counter({"/t": 1})
        assert done.json["reasons"] == {"redirect_duplicate": 1}
        assert done.json["failed"] == 0
        assert web.counts()["/t"] == 1


def test_a_redirect_to_a_page_that_is_linked_too(project: Project) -> None:
    with Web(router({"/t": html("T"), "/x": redirect("/t")})) as web:
        done = crawl(project, web, starting("/t", "/x"))
        assert urls(project, web) == Counter({"/t": 1})
        assert done.json["reasons"] == {"redirect_duplicate": 1}


@pytest.mark.case(38, "A redirects to B, which sets a cookie and redirects back to A", "an item")
def test_a_cookie_wall_that_leads_back_is_passed(project: Project) -> None:
    def start(seen: Seen) -> Answer:
        return html("in") if seen.cookies.get("wall") == "1" else redirect("/wall")

    routes: Mapping[str, Answer | Site] = {
        "/a": start,
        "/wall": redirect("/a", ("Set-Cookie", "wall=1; Path=/")),
    }
    with Web(router(routes)) as web:
        done = crawl(project, web, starting("/a"))
        (record,) = records(project)
        assert record["url"] == web.url + "/a"
        assert record["history"] == [web.url + "/a", web.url + "/wall"]
        assert done.json["reasons"] == {}


@pytest.mark.case(31, "a redirect loop", "`redirect_limit`, no item")
@pytest.mark.parametrize("path", ["/self", "/one"])
def test_a_redirect_loop_ends_at_the_limit(project: Project, path: str) -> None:
    routes = {"/self": redirect("/self"), "/one": redirect("/two"), "/two": redirect("/one")}
    routes["/ok"] = html("ok")
    with Web(router(routes)) as web:
        done = crawl(project, web, starting(path, "/ok"), "-s", "http.max_redirects=6")
        assert done.json["reasons"] == {"redirect_limit": 1}
        assert len(web.log) - web.counts()["/robots.txt"] - web.counts()["/ok"] == 7
        assert urls(project, web) == Counter({"/ok": 1})


@pytest.mark.case(31, "a chain of 30 redirects", "`redirect_limit`, no item; one of 10 is an item")
def test_thirty_hops_are_too_many_and_ten_are_not(project: Project) -> None:
    def hops(seen: Seen) -> Answer:
        kind, _, n = seen.path[1:].partition("/")
        if kind not in ("long", "short") or not n.isdigit():
            return text("", 404)
        last = 30 if kind == "long" else 10
        return html("there") if int(n) == last else redirect(f"/{kind}/{int(n) + 1}", status=301)

    with Web(hops) as web:
        done = crawl(project, web, starting("/long/0", "/short/0"))
        assert done.json["reasons"] == {"redirect_limit": 1}
        assert urls(project, web) == Counter({"/short/10": 1})


@pytest.mark.case(
    32,
    "a redirect to `file:`, `data:`, `javascript:` or `ftp:`",
    "`redirect_scheme`, no item; nothing is opened",
)
@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "data:text/html,x", "javascript:1", "ftp://x/"]
)
def test_a_redirect_out_of_http_is_not_followed(project: Project, to: str) -> None:
    with Web(router({"/a": redirect(to), "/ok": html("ok")})) as web:
        done = crawl(project, web, starting("/a", "/ok"))
        assert done.json["reasons"] == {"redirect_scheme": 1}
        assert urls(project, web) == Counter({"/ok": 1})


def test_a_redirect_leaves_credentials_behind_when_the_origin_changes(project: Project) -> None:
    here, there = addresses(2)

    def site(seen: Seen) -> Answer:
        if seen.host.startswith(here) and seen.path == "/a":
            return redirect("/b")
        if seen.host.startswith(here) and seen.path == "/b":
            return redirect(f"{web.base(there)}/c")
        return html("c") if seen.path == "/c" else text("", 404)

    body = """
async def start(self):
    headers = {"Authorization": "Bearer t", "X-Key": "k", "X-Plain": "p"}
    yield Request(self.base + "/a", headers=headers, cookies={"c": "1"}, secret=["X-Key"])

async def parse(self, response):
    yield {"url": response.url}
"""
    with Web(site, (here, there)) as web:
        crawl(project, web, body)
        same, other = web.seen("/b")[0].headers, web.seen("/c")[0].headers
        assert (same["authorization"], same["x-key"], same["x-plain"]) == ("Bearer t", "k", "p")
        assert other["x-plain"] == "p"
        assert not {"authorization", "x-key", "cookie"} & other.keys()


def test_a_redirect_target_keeps_callback_kwargs_and_depth(project: Project) -> None:
    body = """
async def start(self):
    yield Request(self.base + "/x", self.special, kwargs={"n": 3}, meta={"m": 1})

async def special(self, response, n: int):
    yield {"url": response.url, "n": n, "m": response.meta["m"]}
"""
    with Web(router({"/x": redirect("/t"), "/t": html("T")})) as web:
        crawl(project, web, body)
        assert records(project) == [{"url": web.url + "/t", "n": 3, "m": 1}]


# -- scope -----------------------------------------------------------------------------------

FOLLOW = """
async def start(self):
    yield Request(self.base + "/")

async def parse(self, response):
    for link in response.links():
        yield response.follow(link)
    yield {"url": response.url}
"""


def test_links_out_of_scope_are_counted_and_told_once_a_host(project: Project) -> None:
    here, there = addresses(2)

    def site(seen: Seen) -> Answer:
        links = [f"{web.base(there)}/{n}" for n in range(3)] + ["/in"]
        return html("".join(f'<a href="{link}">x</a>' for link in links))

    with Web(site, (here, there)) as web:
        done = crawl(project, web, FOLLOW)
        assert not web.seen(host=there)
        assert done.json["reasons"]["out_of_scope"] >= 3
        assert done.json["failed"] == 0
        told = [line for line in done.err.splitlines() if there in line]
        assert len(told) == 1
        assert "allowed_domains" in told[0] or "crawl.scope" in told[0]
        done = crawl(project, web, FOLLOW, "-s", "crawl.scope=any", "-o", "any.jsonl", "--fresh")
        assert len([s for s in web.seen(host=there) if s.path != "/robots.txt"]) == 4


@pytest.mark.case(
    34,
    "a start request that redirects to another host",
    "an item; that host joins the scope, under its own robots.txt and pace",
)
def test_a_host_that_a_start_request_is_redirected_to_joins_the_scope(project: Project) -> None:
    here, there = addresses(2)

    def site(seen: Seen) -> Answer:
        if seen.host.startswith(here) and seen.path == "/":
            return redirect(f"{web.base(there)}/home")
        return html('<a href="/more">more</a>') if seen.host.startswith(there) else text("", 404)

    with Web(site, (here, there)) as web:
        crawl(project, web, FOLLOW)
        assert {r["url"] for r in records(project)} == {
            f"{web.base(there)}/home",
            f"{web.base(there)}/more",
        }


def test_depth_is_limited(project: Project) -> None:
    def chain(seen: Seen) -> Answer:
        n = int(seen.path[1:] or 0) if seen.path[1:].isdigit() or seen.path == "/" else -1
        return html(f'<a href="/{n + 1}">next</a>') if n >= 0 else text("", 404)

    with Web(chain) as web:
        done = crawl(project, web, FOLLOW, "-s", "crawl.max_depth=4")
        assert urls(project, web) == Counter(["/", "/1", "/2", "/3", "/4"])
        assert done.json["reasons"] == {"depth": 1}


def test_endless_sites_are_left(project: Project) -> None:
    """/a/b/a/b… grows with each page; the rest of the site is crawled."""

    def site(seen: Seen) -> Answer:
        if seen.path == "/robots.txt":
            return text("", 404)
        return html('<a href="a/">a</a><a href="b/">b</a><a href="/ok">ok</a>')

    with Web(site) as web:
        done = crawl(project, web, FOLLOW, "-s", "crawl.max_segment_repeats=2")
        assert done.json["reasons"]["trap"] > 0
        assert urls(project, web)["/ok"] == 1
        assert max(len(path.split("/")) for path in urls(project, web)) <= 6


# -- statuses and failures --------------------------------------------------------------------


def test_a_404_is_a_reason_not_a_page(project: Project) -> None:
    with Web(router({"/ok": html("ok"), "/ok2": html("ok")})) as web:
        done = crawl(project, web, starting("/ok", "/ok2", "/gone"))
        assert done.json["reasons"] == {"http_404": 1}
        assert (done.json["failed"], done.json["items"]) == (1, 2)
        assert web.counts()["/gone"] == 1
        shown = project.scrape("failures", "site").expect(0)
        assert "http_404" in shown.out
        assert "/gone" in shown.out


def test_a_status_that_is_accepted_reaches_the_callback(project: Project) -> None:
    body = """
accept = [410]

async def start(self):
    yield Request(self.base + "/404", accept=[404])
    yield Request(self.base + "/410")
    yield Request(self.base + "/403")
    yield Request(self.base + "/500", accept="*")
    yield Request(self.base + "/200")

async def parse(self, response):
    yield {"url": response.url, "status": response.status}
"""

    def site(seen: Seen) -> Answer:
        status = seen.path[1:]
        return text("", int(status) if status.isdigit() else 404)

    with Web(site) as web:
        done = crawl(project, web, body)
        assert {r["status"] for r in records(project)} == {404, 410, 500, 200}
        assert done.json["reasons"] == {"http_403": 1}


def test_a_503_is_tried_again_and_then_counts(project: Project) -> None:
    def site(seen: Seen) -> Answer:
        if seen.path == "/soon":
            return html("now") if web.counts()["/soon"] == 3 else text("later", 500)
        return {"/never": text("no", 500), "/ok": html("ok")}.get(seen.path, text("", 404))

    project.config("[retry]\nattempts = 3\nbase = 0.05\n")
    with Web(site) as web:
        done = crawl(project, web, starting("/soon", "/never", "/ok"))
        assert done.json["reasons"] == {"http_500": 1}
        assert web.counts()["/soon"] == web.counts()["/never"] == 3
        assert urls(project, web) == Counter(["/soon", "/ok"])


def test_an_errback_hears_of_the_failure_and_may_yield(project: Project) -> None:
    body = """
async def start(self):
    yield Request(self.base + "/gone", errback=self.failed, kwargs={})
    yield Request("http://127.9.9.9:1/", errback="failed")
    yield Request(self.base + "/ok", errback=self.failed)

async def parse(self, response):
    yield {"url": response.url}

async def failed(self, failure):
    yield {"failed": failure.reason, "status": failure.response and failure.response.status}
    if failure.reason == "http_404":
        yield Request(self.base + "/instead")
"""
    project.config("[retry]\nattempts = 1\n[politeness]\nrobots = false\n")
    with Web(router({"/ok": html("ok"), "/instead": html("i")})) as web:
        done = crawl(project, web, body, "-s", "crawl.max_failure_rate=1.0")
        found = {r.get("failed") or r["url"].removeprefix(web.url) for r in records(project)}
        assert found == {"http_404", "connect_refused", "/ok", "/instead"}
        assert {"failed": "http_404", "status": 404} in records(project)
        assert done.json["reasons"] == {"http_404": 1, "connect_refused": 1}


# -- callbacks -------------------------------------------------------------------------------


def test_callbacks_of_every_shape(project: Project) -> None:
    body = """
async def start(self):
    for shape in ("agen", "coro", "gen", "plain", "nothing", "lists"):
        yield Request(f"{self.base}/{shape}", shape)

async def agen(self, response):
    yield {"by": "agen"}

async def coro(self, response):
    return {"by": "coro"}

def gen(self, response):
    yield {"by": "gen"}

def plain(self, response):
    return [{"by": "plain"}, {"by": "plain2"}]

async def nothing(self, response):
    return None

async def lists(self, response):
    yield [{"by": "lists"}, Request(self.base + "/more", self.coro)]
"""
    with Web(lambda seen: html("x")) as web:
        done = crawl(project, web, body)
        assert Counter(r["by"] for r in records(project)) == Counter(
            agen=1, coro=2, gen=1, plain=1, plain2=1, lists=1
        )
        assert done.json["pages"] == 7


def test_a_page_whose_callback_raises_keeps_nothing(project: Project) -> None:
    body = """
async def start(self):
    for n in range(4):
        yield Request(f"{self.base}/{n}")

async def parse(self, response):
    n = int(response.url[-1])
    yield {"n": n}
    yield Request(f"{self.base}/child/{n}", self.child)
    if n == 2:
        raise RuntimeError("boom \\x1b[31m")

async def child(self, response):
    yield {"child": int(response.url[-1])}
"""
    with Web(lambda seen: html("x")) as web:
        done = crawl(project, web, body)
        assert sorted(r["n"] for r in records(project) if "n" in r) == [0, 1, 3]
        assert sorted(r["child"] for r in records(project) if "child" in r) == [0, 1, 3]
        assert done.json["reasons"] == {"callback_error": 1}
        assert "/child/2" not in web.counts()
        assert web.counts()["/2"] == 1
        assert "\x1b" not in done.err
        assert "boom" in project.scrape("failures", "site").expect(0).out


def test_retry_in_a_callback_fetches_the_page_again(project: Project) -> None:
    body = """
async def start(self):
    yield Request(self.base + "/a")
    yield Request(self.base + "/never")
    yield Request(self.base + "/b")
    yield Request(self.base + "/c")

async def parse(self, response):
    yield {"url": response.url}
    if "busy" in response.text:
        raise Retry("busy", delay=0.01)
"""

    def site(seen: Seen) -> Answer:
        busy = seen.path == "/never" or (seen.path == "/a" and web.counts()["/a"] < 3)
        return html("busy" if busy else "ready")

    project.config("[retry]\nattempts = 3\n")
    with Web(site) as web:
        done = crawl(project, web, body)
        assert urls(project, web) == Counter(["/a", "/b", "/c"])
        assert web.counts()["/a"] == web.counts()["/never"] == 3
        assert done.json["reasons"] == {"busy": 1}


def test_fetching_from_inside_a_callback(project: Project) -> None:
    body = """
async def start(self):
    yield Request(self.base + "/page")

async def parse(self, response):
    same = await self.fetch(response.url)                  # not deduplicated
    gone = await self.fetch(self.base + "/gone")           # any status is a response
    moved = await self.fetch(self.base + "/moved")
    posted = await self.fetch(Request(self.base + "/form", form={"a": "1"}))
    try:
        await self.fetch("http://127.9.9.9:1/")
    except FetchError as error:
        reason = error.reason
    try:
        await self.fetch(self.base + "/private/x")
    except FetchError as error:
        denied = error.reason
    yield {"same": same.status, "gone": gone.status, "moved": moved.url, "posted": posted.text,
           "reason": reason, "denied": denied}
"""

    def form(seen: Seen) -> Answer:
        return text(f"{seen.method} {seen.body.decode()}")

    routes: Mapping[str, Answer | Site] = {
        "/page": html("p"),
        "/moved": redirect("/page"),
        "/form": form,
        "/robots.txt": text("User-agent: *\nDisallow: /private\n"),
    }
    project.config('[retry]\nattempts = 1\n[politeness.hosts."127.9.9.9"]\nrobots = false\n')
    with Web(router(routes)) as web:
        crawl(project, web, body)
        assert records(project) == [
            {
                "same": 200,
                "gone": 404,
                "moved": web.url + "/page",
                "posted": "POST a=1",
                "reason": "connect_refused",
                "denied": "robots_denied",
            }
        ]
        assert "/private/x" not in web.counts()


def test_setup_start_and_closed_are_called_in_order(project: Project) -> None:
    body = """
async def setup(self):
    (await self.fetch(self.base + "/setup"))

async def start(self):
    yield Request((await self.fetch(self.base + "/start")).url.replace("/start", "/page"))

async def parse(self, response):
    yield {"url": response.url}

async def closed(self, reason):
    print("closed:", reason, file=__import__("sys").stderr)
"""
    with Web(lambda seen: html("x") if seen.path != "/robots.txt" else text("", 404)) as web:
        done = crawl(project, web, body)
        assert [s.path for s in web.log] == ["/robots.txt", "/setup", "/start", "/page"]
        assert done.err.count("closed: finished") == 1


def test_setup_that_raises_is_a_failed_crawl_in_one_line(project: Project) -> None:
    body = """
async def setup(self):
    raise RuntimeError("no token today")

async def start(self):
    yield Request(self.base + "/page")
"""
    with Web(lambda seen: html("x")) as web:
        done = crawl(project, web, body, code=1)
        assert "setup" in done.err
        assert "no token today" in done.err
        assert web.log == []
        assert not project.path("out.jsonl").exists()


def test_unique_false_is_fetched_as_often_as_it_is_asked_for(project: Project) -> None:
    body = """
async def start(self):
    for n in range(3):
        yield Request(self.base + "/same", unique=False, kwargs={"n": n})
    for n in range(3):
        yield Request(self.base + "/once", kwargs={"n": n})

async def parse(self, response, n: int):
    yield {"url": response.url}
    if n == 0:
        yield Request(self.base + "/same", unique=False, kwargs={"n": 9})
"""
    with Web(lambda seen: html("x") if seen.path != "/robots.txt" else text("", 404)) as web:
        crawl(project, web, body)
        # three from start(), one from /same n=0, one from /once n=0
        assert urls(project, web) == Counter({"/same": 5, "/once": 1})


def test_kwargs_are_validated_against_the_callback(project: Project) -> None:
    body = """
async def start(self):
    yield Request(self.base + "/a", self.page, kwargs={"when": "2024-02-29", "ids": [1, 2]})
    yield Request(self.base + "/b", self.page, kwargs={"when": "yesterday", "ids": [1]})
    yield Request(self.base + "/c", self.page, kwargs={"when": "2024-01-01", "ids": []})

async def page(self, response, when: date, ids: list[int]):
    yield {"year": when.year, "ids": ids}
"""
    with Web(lambda seen: html("x")) as web:
        done = crawl(project, web, body, head="from datetime import date")
        assert Counter((r["year"], tuple(r["ids"])) for r in records(project)) == Counter([
            (2024, (1, 2)),
            (2024, ()),
        ])
        assert done.json["reasons"] == {"callback_error": 1}


def test_items_that_do_not_fit_are_kept_aside_with_their_reason(project: Project) -> None:
    head = """
from typing import Annotated
from scraper import Css

class Book(Item):
    title: Annotated[str, Css("h1")]
    price: Annotated[int, Css(".price")]
"""
    body = """
async def start(self):
    for n in range(4):
        yield Request(f"{self.base}/{n}")

async def parse(self, response):
    yield response.extract(Book)
"""

    def site(seen: Seen) -> Answer:
        n = seen.path[1:]
        price = "dear" if n == "2" else "7"
        return html(f"<h1>Book {n}</h1><p class=price>{price}</p>")

    with Web(site) as web:
        done = crawl(project, web, body, head=head)
        assert sorted(r["title"] for r in records(project)) == ["Book 0", "Book 1", "Book 3"]
        assert done.json["rejected"] == 1
        assert done.json["failed"] == 0
        (rejected,) = json_lines(project.path("out.rejected.jsonl"))
        assert rejected["reason"] == "item_invalid"
        assert rejected["url"] == web.url + "/2"
        assert "dear" in str(rejected)


# -- start() ---------------------------------------------------------------------------------


def test_a_million_start_urls_are_not_read_ahead(project: Project) -> None:
    """How far the generator was pulled when a crawl of 200 pages stopped at its limit."""
    body = """
pulled = 0

async def start(self):
    for n in range(1_000_000):
        type(self).pulled = n + 1
        yield Request(f"{self.base}/{n}")

async def parse(self, response):
    yield {"url": response.url}

async def closed(self, reason):
    print("pulled:", type(self).pulled, file=__import__("sys").stderr)
"""
    body = body.replace("pulled = 0", "pulled: ClassVar[int] = 0", 1)
    with Web(lambda seen: html("x") if seen.path != "/robots.txt" else text("", 404)) as web:
        done = crawl(project, web, body, "--limit", "200", head="from typing import ClassVar")
        (line,) = [line for line in done.err.splitlines() if line.startswith("pulled:")]
        assert 200 <= int(line.split()[1]) <= 5_000


def test_a_start_that_raises_fails_the_crawl_and_publishes_nothing(project: Project) -> None:
    body = """
async def start(self):
    for n in range(5):
        yield Request(f"{self.base}/{n}")
    raise RuntimeError("the list ended early")

async def parse(self, response):
    yield {"url": response.url}
"""
    with Web(lambda seen: html("x")) as web:
        done = crawl(project, web, body, code=1)
        assert "the list ended early" in done.err
        assert not project.path("out.jsonl").exists()


def test_start_runs_again_after_a_kill_and_doubles_nothing(project: Project) -> None:
    project.spider("""
        from scraper import Request, Spider

        class Many(Spider):
            name = "many"
            base: str

            async def start(self):
                for n in range(800):
                    yield Request(f"{self.base}/{n % 700}", unique=n % 7 != 0)

            async def parse(self, response):
                yield {"url": response.url}
    """)
    # every seventh is asked for without dedupe: 0, 7, 14 … twice where n % 700 comes round again
    expected: Counter[str] = Counter(f"/{n}" for n in range(700))
    for n in range(700, 800):
        if n % 7 == 0:
            expected[f"/{n % 700}"] += 1
    with Web(lambda seen: html("x") if seen.path != "/robots.txt" else text("", 404)) as web:
        command = ("run", "many", "-a", f"base={web.url}", "-o", "out.jsonl")
        for _ in range(2):
            run = project.start(*command)
            web.after(220, run.kill)
            assert run.wait().code == -9
        project.scrape(*command).expect(0)
        assert urls(project, web) == expected
