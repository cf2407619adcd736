"""robots.txt as servers really answer it: one crawl of many hosts, judged by the server's log.

Every host has the same pages. What was asked of it says what its robots.txt was taken for; what
was not, ended with a reason. A control host is crawled in the same run, and misses nothing.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from scraper.robots import MAX_BYTES, MAX_HOPS, MAX_TRIES
from tests.crawl.harness import Finished, Project, addresses
from tests.crawl.test_manners import LATE, address, delivered, fan, number, start
from tests.servers.web import RESET, SILENT, Answer, Reply, Seen, Web, redirect, text

PAGES = ("/open/a", "/private/b", f"/starry/{'a' * 2000}")
RULES = "User-agent: *\nDisallow: /private\n"
DENIED = {"/private/b": "robots_denied"}
LOST = dict.fromkeys(PAGES, "robots_unavailable")
CONTROL = 30  # pages of the host beside them

Robots = Callable[[Seen, int], Answer]


@dataclass(frozen=True, slots=True)
class Host:
    """`robots`: what answers the n-th request for it. `reasons`: how pages ended that were not
    delivered. `asked`: requests that went out for robots.txt. `says`: in the log."""

    name: str
    robots: Answer | Robots
    reasons: dict[str, str]
    asked: int = 1
    says: str = ""


def late(*first: Answer, then: Answer) -> Robots:
    """*first*, one after the other, and from then on *then*."""
    return lambda seen, n: first[n] if n < len(first) else then


def hops(count: int, *, code: int = 302) -> Robots:
    """*count* redirects, and then rules."""

    def answer(seen: Seen, n: int) -> Answer:
        return redirect(f"/hop/{n + 1}", status=code) if n < count else text(RULES)

    return answer


def coded(codec: str, end: str = "\n") -> Reply:
    return Reply(RULES.replace("\n", end).encode(codec), type="text/plain")


LONG = "User-agent: *\nDisallow: /private\n" + "# filler\n" * (MAX_BYTES // 9) + "Disallow: /open\n"
STARS = f"User-agent: *\nDisallow: /starry/{'*a' * 2000}*b\nDisallow: /private{'*' * 2000}\n"
BOMB = Reply(gzip.compress(b"\n" * 33_000_000), headers=[("Content-Encoding", "gzip")])
ELSEWHERE = "elsewhere"  # the address of a host that has the file of others


def case(number: int, given: str, outcome: str, host: Host) -> Any:
    return pytest.param(host, id=host.name, marks=pytest.mark.case(number, given, outcome))


READ = "obeyed: what it forbids ends `robots_denied`, the rest is fetched"
FREE = "taken as no file: everything is fetched"
NEVER = f"nothing is fetched: asked {MAX_TRIES} times, then `robots_unavailable`"
HOSTS = [
    case(44, "robots.txt is 404", FREE, Host("404", text("no", 404), {})),
    case(44, "robots.txt is 403", FREE, Host("403", text("no", 403), {})),
    case(44, "robots.txt is 410", FREE, Host("410", text("no", 410), {})),
    case(45, "robots.txt is 500", NEVER, Host("500", text("x", 500), LOST, 5)),
    case(45, "robots.txt never comes", NEVER, Host("silent", SILENT, LOST, 5)),
    case(45, "the connection is reset at robots.txt", NEVER, Host("reset", RESET, LOST, 5)),
    case(
        45,
        "robots.txt is 429",
        NEVER,
        Host("429", text("x", 429, ("Retry-After", "1")), LOST, 5),
    ),
    case(
        45,
        "robots.txt is 500 twice, then rules",
        "asked until it comes, then " + READ,
        Host("recovers", late(text("x", 500), text("x", 500), then=text(RULES)), DENIED, 3),
    ),
    case(
        45,
        "robots.txt unpacks to 33 MB",
        NEVER + " (an answer above http.max_body says nothing)",
        Host("bomb", BOMB, LOST, 5),
    ),
    case(46, "robots.txt is five redirects away", READ, Host("hops", hops(5), DENIED, 6)),
    case(
        46,
        "robots.txt redirects to another host",
        READ + "; the other host's own robots.txt is not asked",
        Host("afar", redirect(f"http://{ELSEWHERE}/shared.txt", status=301), DENIED),
    ),
    case(
        46,
        f"robots.txt redirects more than {MAX_HOPS} times",
        FREE + ", and said",
        Host("loop", hops(99), {}, MAX_HOPS + 1, "redirects more than 10 times"),
    ),
    case(
        46,
        "robots.txt redirects to javascript:",
        FREE + ", and said",
        Host("nowhere", redirect("javascript:0"), {}, 1, "nowhere on the web"),
    ),
    case(
        46,
        "robots.txt redirects to an error 503",
        NEVER,
        Host("broken", late(*[redirect("/x"), text("x", 503)] * 5, then=RESET), LOST, 10),
    ),
    case(
        47,
        "robots.txt of more than 500 KiB, with rules before and after the cut",
        "the first 500 KiB are obeyed, the rest is not read, and that is said",
        Host("long", text(LONG), DENIED, 1, "only the first 500 KiB"),
    ),
    case(48, "robots.txt with a byte order mark", READ, Host("bom", coded("utf-8-sig"), DENIED)),
    case(48, "robots.txt in UTF-16", READ, Host("utf-16", coded("utf-16"), DENIED)),
    case(
        48,
        "robots.txt in UTF-16 without a byte order mark",
        READ,
        Host("utf-16-be", coded("utf-16-be"), DENIED),
    ),
    case(48, "robots.txt with CRLF", READ, Host("crlf", coded("ascii", "\r\n"), DENIED)),
    case(48, "robots.txt with CR alone", READ, Host("cr", coded("ascii", "\r"), DENIED)),
    case(
        48,
        "an HTML page in place of robots.txt",
        "no rules: everything is fetched",
        Host("page", Reply(b"<!doctype html><html><body>\nDisallow: /\n"), {}),
    ),
    case(
        49,
        "Crawl-delay: nan",
        "ignored, and said",
        Host("nan", text(RULES + "Crawl-delay: nan\n"), DENIED, 1, "'nan' is not a duration"),
    ),
    case(
        49,
        "Crawl-delay: -1",
        "ignored, and said",
        Host("negative", text(RULES + "Crawl-delay: -1\n"), DENIED, 1, "'-1' is not a duration"),
    ),
    case(
        49,
        "Crawl-delay: 1e9",
        "capped at politeness.max_crawl_delay, kept by the server's log, and said",
        Host("huge", text(RULES + "Crawl-delay: 1e9\n"), DENIED, 1, "Crawl-delay of 1e+09 s"),
    ),
    case(
        50,
        "rules with 2,000 stars",
        "obeyed; one pass over the URL for each star that means something, runs of stars are one",
        Host("stars", text(STARS), DENIED),
    ),
    case(
        51,
        "robots.txt is 503 with Retry-After",
        "asked again not before that, by the server's log",
        Host("pause", late(text("x", 503, ("Retry-After", "1")), then=text(RULES)), DENIED, 2),
    ),
]
NAMES = [row.values[0].name for row in HOSTS]


@dataclass(frozen=True, slots=True)
class Crawled:
    web: Web
    done: Finished
    project: Project
    reasons: dict[str, dict[str, str]]  # by address, by path

    def of(self, name: str) -> str:
        return self.web.addresses[NAMES.index(name)]


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawled]:
    """One crawl of all hosts and the control host."""
    project = Project(tmp_path_factory.mktemp("robots") / "p", tmp_path_factory.mktemp("scratch"))
    names: dict[str, Host] = {
        at: row.values[0] for at, row in zip(addresses(len(HOSTS)), HOSTS, strict=True)
    }
    control, elsewhere = addresses(2, first=len(HOSTS) + 1)

    def site(seen: Seen) -> Answer:
        at = address(seen)
        if at == control:
            return fan(CONTROL, number(seen))
        if at == elsewhere:
            return text(RULES)
        if seen.path != "/robots.txt" and not seen.path.startswith(("/hop/", "/x")):
            return Reply(b"<h1>page</h1>")
        robots = names[at].robots
        if isinstance(robots, Reply):
            to = [(n, v.replace(ELSEWHERE, f"{elsewhere}:{web.port}")) for n, v in robots.headers]
            return Reply(robots.body, robots.status, to, robots.type)
        if not callable(robots):
            return robots
        return robots(seen, len([s for s in web.seen(host=at) if s.path not in PAGES]) - 1)

    project.config(
        "[http]\ntimeout = 1\n[retry]\nbase = 0.02\n[politeness]\nmax_crawl_delay = 0.4\n"
        "[crawl]\nmax_failure_rate = 1\n"
    )
    with Web(site, (*names, control, elsewhere)) as web:
        starts = [f"{web.base(at)}{path}" for at in names for path in PAGES]
        done = start(project, [f"{web.base(control)}/p/0", *starts]).wait().expect(0)
        told = project.scrape("failures", "hosts", "--json").expect(0).out.splitlines()
        reasons: dict[str, dict[str, str]] = {at: {} for at in names}
        for failed in map(json.loads, told):
            at, _, path = failed["url"].removeprefix("http://").partition(f":{web.port}")
            reasons[at][path] = failed["reason"]
        yield Crawled(web, done, project, reasons)
    project.close()


@pytest.mark.parametrize("host", HOSTS)
def test_robots_txt_by_host(crawled: Crawled, host: Host) -> None:
    at = crawled.of(host.name)
    log = crawled.web.seen(host=at)
    fetched = sorted(seen.path for seen in log if seen.path in PAGES)
    assert crawled.reasons[at] == host.reasons
    assert fetched == sorted(set(PAGES) - set(host.reasons))  # each once
    assert len(log) - len(fetched) == host.asked
    assert log[0].path == "/robots.txt"
    items = [url for url in delivered(crawled.project).elements() if f"//{at}:" in url]
    assert sorted(url.partition(f":{crawled.web.port}")[2] for url in items) == fetched
    told = [line for line in crawled.done.err.splitlines() if f"{at}:" in line]
    if host.says:
        assert [line for line in told if host.says in line], told


def test_the_healthy_host_misses_nothing(crawled: Crawled) -> None:
    control = crawled.web.addresses[-2]
    found = [url for url in delivered(crawled.project) if f"//{control}:" in url]
    assert len(found) == CONTROL
    assert crawled.done.json["reasons"].keys() == {"robots_denied", "robots_unavailable"}


def test_pauses_are_kept_by_the_servers_log(crawled: Crawled) -> None:
    first, second = crawled.web.seen("/robots.txt", crawled.of("pause"))
    assert second.at - first.at >= 1 - LATE
    for before, after in pairwise(crawled.web.seen("/robots.txt", crawled.of("429"))):
        assert after.at - before.at >= 1 - LATE
    pages = [seen for seen in crawled.web.seen(host=crawled.of("huge")) if seen.path in PAGES]
    assert [after.at - before.at >= 0.4 - LATE for before, after in pairwise(pages)] == [True]
    assert "honoured up to politeness.max_crawl_delay = 0.4 s" in crawled.done.err


LINKS = {
    "/": '<a href="/1" rel="nofollow">1</a><a href="/2">2</a><a href="/meta">m</a>'
    '<a href="/field">f</a>',
    "/meta": '<meta name=robots content="noindex, nofollow"><a href="/3">3</a>',
    "/field": '<a href="/4">4</a>',
}


@pytest.mark.parametrize(
    ("setting", "left_out"),
    [
        pytest.param(
            "true",
            {"/1", "/3", "/4"},
            marks=pytest.mark.case(
                52, "links that ask not to be followed, politeness.nofollow = true", "not followed"
            ),
        ),
        pytest.param(
            "false",
            set(),
            marks=pytest.mark.case(
                52, "links that ask not to be followed, by default", "followed: it is a setting"
            ),
        ),
    ],
)
def test_nofollow(project: Project, setting: str, left_out: set[str]) -> None:
    def site(seen: Seen) -> Answer:
        headers = [("X-Robots-Tag", "nofollow")] if seen.path == "/field" else []
        return Reply(LINKS.get(seen.path, "<p>").encode(), 200, headers)

    project.config(f"[politeness]\nnofollow = {setting}\n")
    with Web(site) as web:
        start(project, [f"{web.url}/"]).wait().expect(0)
        asked = set(web.counts()) - {"/robots.txt"}
        assert asked == {"/", "/1", "/2", "/meta", "/3", "/field", "/4"} - left_out
