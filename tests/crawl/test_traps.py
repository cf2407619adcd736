"""Sites without an end: the crawl stops at the budget, says why, and crawls the rest."""

from __future__ import annotations

import random
import re
import signal
from collections import Counter
from typing import Any

import pytest

from tests.crawl.harness import HOSTS_SPIDER, Finished, Project, addresses, json_lines
from tests.servers.graph import Graph
from tests.servers.web import Answer, Reply, Seen, Web, html, text

CALENDAR, DATES, SESSIONS, PATHS, REPEATS, SOFT, HUGE, CONTROL = addresses(8)
BUDGET, HOST_BUDGET, WARNING = 60, 300, 40
GRAPH = Graph(50)


def anchors(*links: str) -> Reply:
    return html("".join(f'<a href="{link}">x</a>' for link in links))


def calendar(seen: Seen) -> Answer:
    """Each month links to the next and the last; what else there is hangs on the 40th."""
    month = re.fullmatch(r"/cal\?year=(\d+)&month=(\d+)", seen.path)
    if month is None:
        return anchors() if seen.path != "/" else anchors("/cal?year=2026&month=1", "/about")
    n = int(month[1]) * 12 + int(month[2]) - 1
    around = (f"/cal?year={m // 12}&month={m % 12 + 1}" for m in (n + 1, n - 1))
    more = (f"/{word}" for word in ("events", "places", "people")) if n == 2026 * 12 + 20 else ()
    return anchors(*around, *more)


def dates(seen: Seen) -> Answer:
    if seen.path == "/":
        return anchors("/2026/11/30")
    day = [int(part) for part in seen.path.split("/")[1:]]
    n = (day[0] * 12 + day[1] - 1) * 30 + day[2] - 1
    return anchors(*(f"/{m // 360}/{m // 30 % 12 + 1}/{m % 30 + 1}" for m in (n + 1, n + 30)))


def sessions(form: str) -> Any:
    """Seven pages; every link carries an id that was never there before."""
    dice = random.Random(form)

    def site(seen: Seen) -> Answer:
        return anchors(*(form.format(n=n, sid=f"{dice.getrandbits(64):016x}") for n in range(7)))

    return site


def repeats(seen: Seen) -> Answer:
    return anchors("a/", "b/")


def soft(seen: Seen) -> Answer:
    """Nothing is missing here: whatever is asked for answers 200, with links to more of it."""
    return anchors("news/", "shop/", "help/", "about/")


def huge(seen: Seen) -> Answer:
    """An href of 2 MB, and 100,000 links on a page."""
    if seen.path == "/":
        return anchors("/long", "/many", "/after")
    if seen.path == "/long":
        return anchors("/" + "a" * 2_000_000, "?" + "b=1&" * 500_000, "/next")
    if seen.path == "/many":
        return anchors(*(f"/many/{n}" for n in range(100_000)))
    return anchors()


SITES = {
    CALENDAR: calendar,
    DATES: dates,
    SESSIONS: sessions("/page{n}?sid={sid}"),
    PATHS: sessions("/page{n};jsessionid={sid}"),
    REPEATS: repeats,
    SOFT: soft,
    HUGE: huge,
    CONTROL: GRAPH,
}


def site(seen: Seen) -> Answer:
    if seen.path == "/robots.txt":
        return text("", 404)
    answer: Answer = SITES[seen.host.split(":")[0]](seen)
    return answer


def crawl(project: Project, web: Web, hosts: tuple[str, ...], *settings: str) -> Finished:
    return project.scrape(*command(project, web, hosts, *settings)).expect(0)


def command(project: Project, web: Web, hosts: tuple[str, ...], *settings: str) -> list[str]:
    project.spider(HOSTS_SPIDER)
    starts = [web.base(host) + ("/p/0" if host == CONTROL else "/") for host in hosts]
    argument = "starts=[" + ",".join(f'"{url}"' for url in starts) + "]"
    options = [part for setting in settings for part in ("-s", setting)]
    return ["run", "hosts", "-a", argument, "-o", "out.jsonl", "--json", *options]


def paths(web: Web, host: str) -> Counter[str]:
    return Counter(s.path for s in web.seen(host=host) if s.path != "/robots.txt")


BOUNDED = f"`crawl.max_pages_per_template = {BUDGET}`"


@pytest.mark.case(
    70,
    "an endless calendar, `/cal?year=&month=` and `/2026/11/30`",
    f"{BOUNDED}: so many pages of that template, then `trap`; the rest of the site is crawled, a"
    " warning names template, example and setting",
)
@pytest.mark.case(
    71,
    "seven pages, and a new session id in every link, as `?sid=` and as `;jsessionid=`",
    f"{BOUNDED} bounds their template; the warning suggests `crawl.drop_params` with the"
    " parameter's name",
)
@pytest.mark.case(
    72,
    "`/a/b/a/b…`: every page links to `a/` and `b/` below it",
    "`trap` at the fourth repetition of a segment (`crawl.max_segment_repeats`)",
)
@pytest.mark.case(
    73,
    "soft 404: whatever is asked for answers 200 with the same page of links to more",
    "a warning at 100 pages of one body on a host, naming template and example;"
    " `crawl.max_pages_per_host` bounds it",
)
@pytest.mark.case(
    67,
    "an href of 2 MB, a query of as much, 100,000 links on a page",
    "`url_too_long`, each; the first 10,000 links are followed"
    " (`crawl.max_links_per_page`), the rest is counted",
)
def test_sites_without_an_end_end(project: Project) -> None:
    with Web(site, addresses(8)) as web:
        done = crawl(
            project, web, addresses(8), f"crawl.max_pages_per_template={BUDGET}",
            f"crawl.max_pages_per_host={HOST_BUDGET}", f"crawl.trap_warning={WARNING}",
            "crawl.max_depth=0",
        )  # fmt: skip
        found = {(f["kind"], f["template"]): f for f in done.json["traps"]}
        assert done.json["reasons"]["trap"] > 100
        assert done.json["failed"] == 0
        asked = {host: paths(web, host) for host in addresses(8)}
        assert all(set(counts.values()) == {1} for counts in asked.values())

        months = [path for path in asked[CALENDAR] if path.startswith("/cal?")]
        assert len(months) == BUDGET
        assert set(asked[CALENDAR]) - set(months) == {
            "/",
            "/about",
            "/events",
            "/places",
            "/people",
        }
        at = f"{web.base(CALENDAR)}/cal?month=&year="
        assert found["budget", at]["left_out"] >= 1
        assert f"{at}: {WARNING} pages of this one template, such as" in done.err
        assert "crawl.max_pages_per_template bounds it" in done.err
        assert f"{at}: crawl.max_pages_per_template = {BUDGET} is reached" in done.err
        assert len(asked[DATES]) == BUDGET + 1

        for host, name in ((SESSIONS, "sid"), (PATHS, "jsessionid")):
            assert asked[host].total() == BUDGET + 1
            assert f'set crawl.drop_params = ["{name}"]' in done.err

        most = [Counter(path.split("/")).most_common(1)[0][1] for path in asked[REPEATS]]
        assert max(most) == 3
        assert asked[REPEATS].total() < HOST_BUDGET

        assert asked[SOFT].total() == HOST_BUDGET
        same = found["same_body", web.base(SOFT)]
        assert same["pages"] >= 100
        assert "soft 404" in same["text"]
        assert same["text"].partition(":")[0] in done.err

        assert {"/long", "/many", "/after", "/next"} <= set(asked[HUGE])
        assert done.json["reasons"]["url_too_long"] == 2
        assert done.json["reasons"]["too_many_links"] == 90_000
        assert len([path for path in asked[HUGE] if path.startswith("/many/")]) == BUDGET

        assert asked[CONTROL] == Counter(f"/p/{n}" for n in range(GRAPH.pages))
        delivered = Counter(record["url"] for record in json_lines(project.path("out.jsonl")))
        assert set(delivered.values()) == {1}
        assert delivered.total() == sum(counts.total() for counts in asked.values())


@pytest.mark.case(
    71,
    "session ids, and `crawl.drop_params` names the parameters",
    "each page is fetched once, in the query's form and in the path's",
)
def test_session_ids_that_are_dropped_make_no_pages(project: Project) -> None:
    with Web(site, addresses(8)) as web:
        done = crawl(project, web, (SESSIONS, PATHS), 'crawl.drop_params=["*sid","jsession*"]')
        for host in (SESSIONS, PATHS):
            assert Counter(path[:6] for path in paths(web, host)) == Counter([
                "/",
                *(f"/page{n}" for n in range(7)),
            ])
        assert done.json["traps"] == []
        assert done.json["reasons"] == {}


@pytest.mark.case(
    70,
    "an endless calendar; the process is killed, twice, and resumed",
    "the budget is exact: no page more over all processes",
)
def test_a_budget_is_exact_over_kills(project: Project) -> None:
    hosts, budget = (DATES, SOFT), 400
    with Web(site, addresses(8)) as web:
        options = command(
            project, web, hosts, f"crawl.max_pages_per_template={budget}",
            "crawl.max_pages_per_host=500", "crawl.max_depth=0",
        )  # fmt: skip
        for _ in range(2):
            run = project.start(*options)
            web.after(250, run.kill)
            assert run.wait().code == -signal.SIGKILL
        done = project.scrape(*options).expect(0)
        delivered = Counter(record["url"] for record in json_lines(project.path("out.jsonl")))
        assert set(delivered.values()) == {1}
        assert len([url for url in delivered if DATES in url]) == budget + 1
        assert len([url for url in delivered if SOFT in url]) == 500
        left = {f["template"]: f["pages"] for f in done.json["traps"] if f["kind"] == "budget"}
        assert left[f"{web.base(DATES)}/{{n}}/{{n}}/{{n}}"] == budget
        assert left[web.base(SOFT)] == 500
        assert "endless?" in done.err
