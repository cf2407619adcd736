"""Politeness, judged by the servers' log alone.

What the server stamps is later than what the crawler did, by the machine's load; never earlier.
So a *lower* bound between two starts can only be missed through lateness of the first stamp:
`LATE` is the slack for that, and sums over many requests use it once. Hosts are addresses of
127.0.0.0/8 that share a port.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from tests.crawl.harness import HOSTS_SPIDER, Crawl, Finished, Project, addresses, json_lines
from tests.servers.web import RESET, SILENT, Answer, Reply, Seen, Web, html, text

LATE = 0.15
"""Seconds that a stamp may be late on a loaded machine."""

KEPT = "by the server's log no request within the pause, other hosts go on; every page is delivered"


def start(project: Project, starts: Sequence[str], *more: str) -> Crawl:
    project.spider(HOSTS_SPIDER)
    argument = f"starts={json.dumps(list(starts))}"
    return project.start("run", "hosts", "-a", argument, "-o", "out.jsonl", "--json", *more)


def crawl(project: Project, starts: Sequence[str], *more: str) -> Finished:
    return start(project, starts, *more).wait()


def delivered(project: Project) -> Counter[str]:
    return Counter(record["url"] for record in json_lines(project.path("out.jsonl")))


def fan(pages: int, n: int) -> Reply:
    """Page 0 links to all others; the others to nothing."""
    links = range(1, pages) if n == 0 else ()
    return html(f"<h1>{n}</h1>" + "".join(f'<a href="/p/{m}">{m}</a>' for m in links))


def number(seen: Seen) -> int:
    head, _, tail = seen.path.rpartition("/")
    return int(tail) if head == "/p" and tail.isdigit() else -1


def address(seen: Seen) -> str:
    return seen.host.split(":")[0]


def peak(log: Sequence[Seen]) -> int:
    """The most requests that were under way at once, by the server's stamps."""
    steps = [(s.at, 1) for s in log] + [(s.ended, -1) for s in log if s.ended is not None]
    most = now = 0
    for _, step in sorted(steps, key=lambda pair: (pair[0], pair[1])):
        now += step
        most = max(most, now)
    return most


def first(log: Sequence[Seen], seconds: float) -> list[Seen]:
    """Those requests as if each had ended after *seconds* at the latest."""
    ends = [s.at + seconds if s.ended is None else min(s.ended, s.at + seconds) for s in log]
    return [replace(s, ended=end) for s, end in zip(log, ends, strict=True)]


def gaps(log: Sequence[Seen]) -> list[float]:
    return [b.at - a.at for a, b in pairwise(log)]


# -- robots.txt ------------------------------------------------------------------------------


def test_nothing_that_robots_txt_forbids_is_fetched(project: Project) -> None:
    def site(seen: Seen) -> Answer:
        if seen.path == "/robots.txt":
            return text(
                "User-agent: *\nDisallow: /private\nAllow: /private/open\nDisallow: /*.doc7$\n"
            )
        links = ["/private/1", "/private/open", "/a.doc7", "/a.doc7?x=1", "/public", "/hop"]
        if seen.path == "/hop":
            return Reply(b"", 302, (("Location", "/private/by-redirect"),))
        return html("".join(f'<a href="{link}">x</a>' for link in links))

    with Web(site) as web:
        done = crawl(project, [f"{web.url}/", f"{web.url}/private/start"]).expect(0)
        asked = set(web.counts())
        assert asked == {"/robots.txt", "/", "/private/open", "/a.doc7?x=1", "/public", "/hop"}
        assert web.counts()["/robots.txt"] == 1
        assert web.log[0].path == "/robots.txt"
        assert done.json["reasons"]["robots_denied"] == 4
        assert done.json["failed"] == 0
        assert delivered(project) == Counter(
            web.url + path for path in asked - {"/robots.txt", "/hop"}
        )


def test_crawl_delay_is_kept(project: Project) -> None:
    def site(seen: Seen) -> Answer:
        if seen.path == "/robots.txt":
            return text("User-agent: *\nCrawl-delay: 0.4\n")
        return fan(8, number(seen))

    with Web(site) as web:
        crawl(project, [f"{web.url}/p/0"]).expect(0)
        log = [s for s in web.log if number(s) >= 0]
        assert len(log) == 8
        assert log[-1].at - log[0].at >= 7 * 0.4 - LATE
        assert min(gaps(log)) >= 0.4 - LATE


# -- pace ------------------------------------------------------------------------------------


def test_by_default_one_request_at_a_time_at_first_and_a_delay_between(project: Project) -> None:
    project.config("", local="")
    with Web(lambda seen: fan(10, number(seen))) as web:
        crawl(project, [f"{web.url}/p/0"]).expect(0)
        assert len(web.log) == 11
        assert peak(web.log[:3]) == 1
        assert web.log[-1].at - web.log[0].at >= 10 * 0.2 - LATE
        assert min(gaps(web.log)) >= 0.2 - LATE


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_requests_at_once_than_per_host_while_others_keep_going(
    project: Project, limit: int
) -> None:
    slow = addresses(1)[0]

    async def late(seen: Seen) -> Answer:
        await asyncio.sleep(0.02)  # so that requests overlap
        return fan(25, number(seen))

    project.config(
        '[politeness.hosts."127.*"]\nadaptive = false\nper_host = 6\ndelay = 0\n'
        f'[politeness.hosts."{slow}"]\nadaptive = false\nper_host = {limit}\ndelay = 0\n',
        local="",
    )
    with Web(late, addresses(3)) as web:
        crawl(project, [f"{web.base(a)}/p/0" for a in web.addresses]).expect(0)
        peaks = {a: peak(web.seen(host=a)) for a in web.addresses}
        assert peaks[slow] == limit
        assert all(limit < most <= 6 for host, most in peaks.items() if host != slow), peaks
        assert set(delivered(project).values()) == {1}
        assert delivered(project).total() == 75


def test_delay_is_kept_on_every_host_and_hosts_do_not_wait_for_each_other(
    project: Project,
) -> None:
    project.config(
        '[politeness.hosts."127.*"]\ndelay = 0.3\nper_host = 4\nadaptive = false\n', local=""
    )
    with Web(lambda seen: fan(6, number(seen)), addresses(12)) as web:
        crawl(project, [f"{web.base(a)}/p/0" for a in web.addresses]).expect(0)
        logs = [web.seen(host=a) for a in web.addresses]
        assert [len(log) for log in logs] == [7] * 12  # robots.txt is a request like others
        assert all(log[-1].at - log[0].at >= 6 * 0.3 - LATE for log in logs)
        assert min(min(gaps(log)) for log in logs) >= 0.3 - LATE
        # each host began before any other had ended: they went side by side
        assert max(log[0].at for log in logs) < min(log[-1].at for log in logs)


def test_inline_fetches_pass_the_same_gate(project: Project) -> None:
    project.config(
        '[politeness.hosts."127.*"]\ndelay = 0.25\nper_host = 4\nadaptive = false\n', local=""
    )
    project.spider("""
        from scraper import Spider

        class Inline(Spider):
            name = "inline"
            base: str

            async def start(self):
                from scraper import Request
                for n in range(3):
                    yield Request(f"{self.base}/p/{100 + n}")

            async def parse(self, response):
                extra = await self.fetch(response.url.replace("/p/", "/q/"))
                yield {"url": response.url, "extra": extra.status}
    """)
    with Web(lambda seen: fan(1, 0)) as web:
        project.scrape("run", "inline", "-a", f"base={web.url}", "-o", "out.jsonl").expect(0)
        assert len(web.log) == 7
        assert min(gaps(web.log)) >= 0.25 - LATE
        assert web.log[-1].at - web.log[0].at >= 6 * 0.25 - LATE


# -- being told to wait ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(status, marks=pytest.mark.case(51, f"{status} with Retry-After: 2", KEPT))
        for status in (429, 503)
    ],
)
def test_no_request_inside_a_retry_after_pause_while_other_hosts_keep_going(
    project: Project, status: int
) -> None:
    pause = 2.0
    told: list[float] = []
    tired = addresses(1)[0]

    def site(seen: Seen) -> Answer:
        if address(seen) == tired and number(seen) >= 3 and not told:
            told.append(time.monotonic())
            return text("not now", status, ("Retry-After", str(int(pause))))
        if address(seen) == tired:
            return fan(12, number(seen))
        # the others are chains: always one page to do, for longer than the pause
        n = number(seen)
        return html(f'<a href="/p/{n + 1}">next</a>' if 0 <= n < 400 else "end")

    project.config(
        '[crawl]\nmax_depth = 0\n[politeness.hosts."127.*"]\n'
        "delay = 0.01\nper_host = 1\nadaptive = false\n",
        local="",
    )
    with Web(site, addresses(4)) as web:
        done = crawl(project, [f"{web.base(a)}/p/0" for a in web.addresses]).expect(0)
        (at,) = told
        inside = [s for s in web.log if at + LATE < s.at < at + pause]
        assert not [s for s in inside if address(s) == tired]
        assert {address(s) for s in inside} == set(web.addresses) - {tired}
        assert done.json["failed"] == 0
        mine = Counter(url for url in delivered(project) if tired in url)
        assert mine == Counter(f"{web.base(tired)}/p/{n}" for n in range(12))


@pytest.mark.case(
    51, "429 with Retry-After, and the process is killed", "the pause holds for the next process"
)
def test_a_retry_after_pause_survives_a_kill(project: Project) -> None:
    pause = 4
    told: list[float] = []

    def site(seen: Seen) -> Answer:
        if number(seen) == 5 and not told:
            told.append(time.monotonic())
            return text("not now", 429, ("Retry-After", str(pause)))
        return fan(12, number(seen))

    busy, other = addresses(2)
    project.config(
        '[politeness.hosts."127.*"]\ndelay = 0.1\nper_host = 1\nadaptive = false\n', local=""
    )
    with Web(site, (busy, other)) as web:
        starts = [f"{web.base(busy)}/p/0", f"{web.base(other)}/p/0"]
        run = start(project, starts)
        # page 7 of the other host is several commits after the pause began
        web.when(
            lambda web: bool(told) and len([s for s in web.log if s.at > told[0] + 0.8]) > 0,
            run.kill,
        )
        assert run.wait().code == -signal.SIGKILL
        crawl(project, starts).expect(0)
        paused = {address(s) for s in web.log if number(s) == 5 and s.status == 429}
        assert len(paused) == 1
        inside = [
            s for s in web.log
            if address(s) in paused and told[0] + LATE < s.at < told[0] + pause - LATE
        ]  # fmt: skip
        assert not inside
        assert delivered(project).total() == 24


@pytest.mark.case(
    51,
    "a host that only ever says 429",
    "`throttled` after politeness.max_pauses pauses; no page is charged an attempt",
)
def test_a_host_that_only_ever_says_wait_ends_throttled(project: Project) -> None:
    tired, healthy = addresses(2)

    def site(seen: Seen) -> Answer:
        if address(seen) == tired and number(seen) >= 0:
            return text("not now", 429, ("Retry-After", "1"))
        return fan(10, number(seen))

    project.config("[politeness]\nmax_pauses = 2\n")
    with Web(site, (tired, healthy)) as web:
        done = crawl(project, [f"{web.base(a)}/p/0" for a in web.addresses]).expect(0)
        assert done.json["reasons"] == {"throttled": 1}
        assert delivered(project).total() == 10
        pages = [s for s in web.seen(host=tired) if number(s) >= 0]
        assert len(pages) >= 2
        assert min(gaps(pages)) >= 1 - LATE


# -- hosts that do not answer ----------------------------------------------------------------


def test_silent_hosts_do_not_hold_up_the_rest(project: Project) -> None:
    """24 of 80 hosts accept and never answer, and stand first in the queue of 16 workers."""
    hosts = addresses(80)
    silent, healthy = set(hosts[:24]), hosts[24:]
    pages = 5

    def site(seen: Seen) -> Answer:
        return SILENT if address(seen) in silent else fan(pages, number(seen))

    project.config(
        "[crawl]\nconcurrency = 16\n[http]\ntimeout = 8\nconnect_timeout = 8\n"
        "[retry]\nattempts = 1\n"
    )
    with Web(site, hosts) as web:
        run = start(project, [f"{web.base(a)}/p/{n}" for a in hosts for n in (0, 1)])

        def mute(web: Web) -> list[Seen]:
            return [s for s in list(web.log) if address(s) in silent]

        def served(web: Web) -> list[Seen]:
            return [s for s in list(web.log) if address(s) not in silent and number(s) >= 0]

        def enough(web: Web) -> bool:
            return len(served(web)) == pages * len(healthy) and any(
                s.ended is not None for s in mute(web)
            )

        web.when(enough, lambda: run.signal(signal.SIGINT))
        run.again(signal.SIGINT)
        assert run.wait().code == 130
        assert enough(web)
        given_up = min(s.ended for s in mute(web) if s.ended is not None)
        assert max(s.at for s in served(web)) < given_up
        # at most a quarter of the workers waits for hosts that have never answered; after half a
        # second of silence such an exchange is parked: it goes on without a worker
        assert 1 <= peak(first(mute(web), 0.5 - LATE)) <= 16 // 4
        # a silent host is asked for one thing, not for all that waits behind it
        assert max(Counter(address(s) for s in mute(web)).values()) == 1


def test_a_silent_host_ends_with_timeout(project: Project) -> None:
    quiet, healthy = addresses(2)

    def site(seen: Seen) -> Answer:
        return SILENT if number(seen) == 3 and address(seen) == quiet else fan(6, number(seen))

    project.config("[http]\ntimeout = 1\n[retry]\nattempts = 2\nbase = 0.05\n")
    with Web(site, (quiet, healthy)) as web:
        done = crawl(project, [f"{web.base(a)}/p/0" for a in web.addresses]).expect(0)
        assert done.json["reasons"] == {"timeout": 1}
        assert delivered(project).total() == 11
        tries = web.seen("/p/3", quiet)
        assert len(tries) == 2
        for try_ in tries:
            assert try_.ended is not None
            assert try_.ended - try_.at >= 1 - LATE


# -- the attempts that the server sees are the attempts that are reported ---------------------


def test_a_reset_is_tried_as_often_as_said(project: Project) -> None:
    def site(seen: Seen) -> Answer:
        return RESET if number(seen) == 4 else fan(8, number(seen))

    project.config("[retry]\nattempts = 3\nbase = 0.05\n")
    with Web(site) as web:
        done = crawl(project, [f"{web.url}/p/0"]).expect(0)
        assert done.json["reasons"] == {"conn_reset": 1}
        assert web.counts()["/p/4"] == 3
        assert delivered(project).total() == 7


def test_what_the_server_sees_is_what_is_reported(project: Project) -> None:
    """A kept-alive connection that drops may be used again once; that counts as an exchange."""

    def site(seen: Seen) -> Answer:
        drops = number(seen) > 0 and number(seen) % 3 == 0 and web.counts()[seen.path] == 1
        return RESET if drops else fan(40, number(seen))

    project.config("[retry]\nattempts = 3\nbase = 0.05\n")
    with Web(site) as web:
        done = crawl(project, [f"{web.url}/p/0"]).expect(0)
        assert done.json["reasons"] == {}
        assert done.json["requests"] == len(web.log)
        assert done.json["robots"] == web.counts()["/robots.txt"]


@pytest.mark.case(
    5,
    "every second request on a kept connection is answered by its end",
    "an item of every page, once",
)
def test_a_server_that_drops_kept_alive_connections_loses_nothing(project: Project) -> None:
    def site(seen: Seen) -> Answer:
        page = fan(60, number(seen))
        if number(seen) > 0 and seen.number % 2 and not web.counts()[seen.path] > 1:
            return RESET
        return page

    project.config("[retry]\nattempts = 4\nbase = 0.05\n")
    with Web(site) as web:
        done = crawl(project, [f"{web.url}/p/0"]).expect(0)
        assert done.json["reasons"] == {}
        assert delivered(project) == Counter(f"{web.url}/p/{n}" for n in range(60))


def test_nothing_listens(project: Project) -> None:
    alive, dead = addresses(2)
    with Web(lambda seen: fan(5, number(seen)), (alive,)) as web:
        project.config("[retry]\nattempts = 2\nbase = 0.05\n[politeness]\nrobots = false\n")
        starts = [f"{web.base(alive)}/p/0", f"http://{dead}:{web.port}/p/0"]
        done = crawl(project, starts).expect(0)
        assert done.json["reasons"] == {"connect_refused": 1}
        assert delivered(project).total() == 5
