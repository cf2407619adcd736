from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper import urls
from scraper.errors import REASONS, DamagedState, FetchError, Throttled
from scraper.robots import (
    MAX_AGE,
    MAX_BYTES,
    MAX_HOPS,
    MAX_PATTERNS,
    MAX_TRIES,
    Follow,
    Origin,
    Robots,
    Unavailable,
    product_token,
    robots_url,
    verdict,
)

SITE = "https://example.com"


def parse(text: str | bytes, token: str = "scraper", **options: Any) -> Robots:
    return Robots.parse(text if isinstance(text, bytes) else text.encode(), token, **options)


def allows(text: str | bytes, path: str, token: str = "scraper") -> bool:
    return parse(text, token).allowed(SITE + path)


# Who is meant -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user_agent", "token"),
    [
        ("scraper-framework/0.1 (+https://example.com/bot)", "scraper-framework"),
        ("FooBot", "foobot"),
        ("  FooBot 2.0", "foobot"),
        ("Mozilla/5.0 (compatible; FooBot/1.0; +https://example.com)", "foobot"),
        ("Mozilla/5.0 (X11; Linux) Gecko", "mozilla"),
        ("", ""),
    ],
)
def test_product_token(user_agent: str, token: str) -> None:
    assert product_token(user_agent) == token


def test_where_it_lies() -> None:
    assert robots_url("http://127.0.0.1:8000") == "http://127.0.0.1:8000/robots.txt"


@pytest.mark.parametrize(
    ("agent", "ours"),
    [
        ("scraper", True),
        ("SCRAPER", True),
        ("Scraper/2.1", True),
        ("scraper*", True),
        ("scraper # that one", True),
        ("scrape", False),
        ("s", False),
        ("scraper-two", False),
        ("my-scraper", False),
    ],
)
def test_a_group_is_ours_by_its_product_token(agent: str, ours: bool) -> None:
    assert allows(f"User-agent: {agent}\nDisallow: /\n", "/x") is not ours


def test_our_own_group_replaces_the_one_for_all() -> None:
    text = "User-agent: *\nDisallow: /\n\nUser-agent: scraper\nDisallow:\n"
    assert allows(text, "/x")
    assert not allows(text, "/x", token="other")


def test_groups_for_one_name_are_one_group() -> None:
    ours = "User-agent: scraper\nDisallow: /a\n\n"
    text = ours + "User-agent: x\nDisallow: /\n\nUser-agent: Scraper\nDisallow: /b"
    assert [allows(text, path) for path in ("/a", "/b", "/c")] == [False, False, True]


def test_other_records_do_not_part_the_names_of_a_group() -> None:
    text = "User-agent: scraper\nCrawl-delay: 3\nSitemap: /s.xml\nFoo: bar\n"
    text += "User-agent: other\nDisallow: /a"
    assert not allows(text, "/a")
    assert not allows(text, "/a", "other")
    assert parse(text).crawl_delay == 3.0
    assert parse(text, "other").crawl_delay is None


def test_a_delay_and_a_blank_line_end_a_group() -> None:
    text = "User-agent: *\nCrawl-delay: 10\n\nUser-agent: BadBot\nDisallow: /\n"
    assert allows(text, "/x")
    assert parse(text).crawl_delay == 10.0
    assert not allows(text, "/x", "badbot")


def test_blank_lines_and_comments_between_names_mean_nothing() -> None:
    assert not allows("User-agent: scraper\n\n# and\nUser-agent: other\n\nDisallow: /", "/x")


# What is said -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "path", "allowed"),
    [
        (["Disallow:"], "/a", True),
        (["Disallow: /"], "/", False),
        (["Disallow: /"], "/robots.txt", True),
        (["Disallow: /a"], "/abc", False),
        (["Disallow: /a"], "/A", True),
        (["Disallow: /a/"], "/a", True),
        (["Disallow: /", "Allow: /p"], "/page", True),
        (["Allow: /p", "Disallow: /"], "/page", True),
        (["Allow: /p", "Disallow: /p"], "/page", True),  # equals: the least restrictive
        (["Allow: /folder", "Disallow: /*.html"], "/folder/x.html", True),
        (["Allow: /fold", "Disallow: /*.html"], "/folder/x.html", False),
        (["Disallow: /*.gif$"], "/a.gif", False),
        (["Disallow: /*.gif$"], "/a.gif?x", True),
        (["Disallow: *.gif$"], "/a/b.gif", False),
        (["Disallow: /a*b*c"], "/a-x-b-y-c-z", False),
        (["Disallow: /a*b*c"], "/a-x-c-y-b-z", True),
        (["Disallow: /*?sort="], "/list?page=2&sort=up", True),
        (["Disallow: /*sort="], "/list?page=2&sort=up", False),
        (["Disallow: /a%3Cd.html"], "/a%3cd.html", False),
        (["Disallow: /caf%C3%A9"], "/caf%c3%a9/x", False),
        (["Disallow: /café"], "/caf%C3%A9/x", False),
        (["Disallow: /%7Ejoe/"], "/~joe/x", False),
        (["Disallow: /~joe/"], "/%7Ejoe/x", False),
        (["Disallow: /a%2Fb"], "/a/b", True),
        (["Disallow: /a/b"], "/a%2Fb", True),
        (["Disallow: /a # comment"], "/abc", False),
        (["disallow:/a"], "/abc", False),
        (["  DISALLOW  :   /a  "], "/abc", False),
        (["Disallow /a"], "/abc", False),
        (["Dissalow: /a"], "/abc", False),
        (["Foo: /a"], "/abc", True),
        (["Disallow: /index.html"], "/", True),
        (["Disallow: /*****x"], "/abxc", False),
    ],
)
def test_rules(rules: list[str], path: str, allowed: bool) -> None:
    assert allows("\n".join(["User-agent: *", *rules]), path) is allowed


RULES = "User-agent: *\nDisallow: /café\nDisallow: /private\n"


@pytest.mark.parametrize(
    "body",
    [
        RULES.encode(),
        RULES.encode("utf-8-sig"),
        b"\xef\xbb\xbf" + RULES.encode("utf-8-sig"),
        ("\n" + "\ufeff" + RULES).encode(),
        RULES.encode("utf-16"),
        RULES.encode("utf-16-le"),
        RULES.encode("utf-16-be"),
        b"\xfe\xff" + RULES.encode("utf-16-be"),
        RULES.replace("\n", "\r\n").encode(),
        RULES.replace("\n", "\r").encode(),
        RULES.replace("\n", "\r\r\n").encode(),
        b"\0" + RULES.encode(),
        b"\n \t\n" + RULES.encode(),
        b"<!-- rules -->\n" + RULES.encode(),
    ],
)
def test_every_spelling_of_a_file_is_read(body: bytes) -> None:
    assert not allows(body, "/private/x")
    assert not allows(body, "/caf%C3%A9")
    assert allows(body, "/public")


def test_bytes_that_are_no_utf8_match_the_same_bytes_in_a_url() -> None:
    assert not allows("User-agent: *\nDisallow: /café".encode("latin-1"), "/caf%E9/menu")
    assert allows("User-agent: *\nDisallow: /café".encode("latin-1"), "/cafe")


@pytest.mark.parametrize("end", ["\u2028", "\x85", "\u2029"])
def test_what_only_python_calls_a_line_end_is_part_of_a_path(end: str) -> None:
    text = f"User-agent: *\nDisallow: /a{end}b\n"
    assert allows(text, "/a")
    assert not allows(text, urls.parse(f"{SITE}/a{end}b").removeprefix(SITE))  # type: ignore[union-attr]


def test_a_page_in_place_of_the_file_has_no_rules() -> None:
    page = "<!doctype html><html><body>\nDisallow: /\n<p>Crawl-delay: 9\n"
    assert allows(page, "/x")
    assert parse(page).crawl_delay is None


@pytest.mark.case(
    47,
    "the 500th KiB ends within a rule",
    "the half rule is not read: it would forbid more than was meant",
)
def test_only_the_first_500_kib_count_and_no_half_line() -> None:
    head = b"User-agent: *\n" + b"#" * (MAX_BYTES - 14 - 12) + b"\nDisallow: /private/here\n"
    assert head[:MAX_BYTES].endswith(b"\nDisallow: /")
    robots = parse(head)
    assert robots.allowed(SITE + "/x")
    assert "500 KiB" in robots.notes[0]
    assert not allows(head[:MAX_BYTES], "/x")  # not cut: it says so


@pytest.mark.parametrize(
    ("values", "delay", "notes"),
    [
        (["2"], 2.0, 0),
        (["0.5"], 0.5, 0),
        (["0"], 0.0, 0),
        (["1", "5", "2"], 5.0, 0),
        (["300"], 300.0, 0),
        (["301"], 300.0, 1),
        (["1e9"], 300.0, 1),
        (["nan"], None, 1),
        (["-1"], None, 1),
        (["inf"], None, 1),
        (["1e999"], None, 1),
        (["ten"], None, 1),
        (["nan", "3"], 3.0, 1),
        (["nan", "x"] * 100, None, 1),
        (["10 # seconds"], 10.0, 0),
        ([""], None, 0),
        ([], None, 0),
    ],
)
def test_crawl_delay_is_sane(values: list[str], delay: float | None, notes: int) -> None:
    robots = parse("\n".join(["User-agent: *", *(f"Crawl-delay: {v}" for v in values)]))
    assert robots.crawl_delay == delay
    assert len(robots.notes) == notes
    assert all("Crawl-delay" in note for note in robots.notes)


def test_the_cap_of_crawl_delay_is_the_policy_s() -> None:
    assert parse("User-agent: *\nCrawl-delay: 100", max_crawl_delay=7.0).crawl_delay == 7.0


def test_sitemaps_are_absolute_and_each_named_once() -> None:
    text = (
        "Sitemap: https://cdn.test/a.xml\nsitemap: /b.xml\nUser-agent: x\nSite-map: /b.xml\n"
        "Sitemap:\nSitemap: http://[bad\n"
    )
    robots = parse(text, url="https://example.com/robots.txt")
    assert robots.sitemaps == ["https://cdn.test/a.xml", "https://example.com/b.xml"]
    assert parse(text).sitemaps == ["https://cdn.test/a.xml"]
    assert len(parse("\n".join(f"Sitemap: http://a/{n}" for n in range(3000))).sitemaps) == 1000


# Files that nobody here wrote -------------------------------------------------------------------


def file(test_data: Path, name: str) -> bytes:
    return (test_data / "robots" / name).read_bytes()


FILES = [
    ("rfc9309-example-simple-robots.txt", "foobot", "/example/page.html", True),
    ("rfc9309-example-simple-robots.txt", "foobot", "/example/allowed.gif", True),
    ("rfc9309-example-simple-robots.txt", "foobot", "/example/other.html", False),
    ("rfc9309-example-simple-robots.txt", "bazbot", "/example/page.html", False),
    ("rfc9309-example-simple-robots.txt", "bazbot", "/example/other.html", True),
    ("rfc9309-example-simple-robots.txt", "quxbot", "/example/page.html", True),
    ("rfc9309-example-simple-robots.txt", "any", "/publications/a.gif", True),
    ("rfc9309-example-simple-robots.txt", "any", "/publications/a", True),
    ("rfc9309-example-simple-robots.txt", "any", "/example/", False),
    ("rfc9309-example-longest-match-robots.txt", "foobot", "/example/page/a.gif", True),
    (
        "rfc9309-example-longest-match-robots.txt",
        "foobot",
        "/example/page/disallowed.gif",
        False,
    ),
    ("rfc9309-example-rule-group-merging.txt", "examplebot", "/baz", False),
    ("rfc9309-example-rule-group-merging.txt", "examplebot", "/foo", False),
    ("rfc9309-example-rule-group-merging.txt", "bazbot", "/foo", True),
    ("rfc9309-example-rule-group-merging.txt", "any", "/baz", True),
    ("crawl-delay-group-merging.txt", "mybot", "/private/", False),
    ("crawl-delay-group-merging.txt", "mybot", "/login/", True),
    ("crawl-delay-group-merging.txt", "yourbot", "/login/", False),
    ("extensions-group-merging.txt", "mybot", "/private/", False),
    ("extension-robots.txt", "mybot", "/private/", False),
    ("extension-robots.txt", "any", "/private/", True),
    ("merge-rules.txt", "wget", "/tmp/bar", False),
    ("merge-rules.txt", "wget", "/foo/bar", True),
    ("merge-rules.txt", "any", "/foo/bar", False),
    ("merge-rules.txt", "curl", "/x", False),
    ("precedence-of-rules.txt", "testy", "/foo/bar", True),
    ("precedence-of-rules.txt", "testy", "/foo/baz", False),
    ("precedence-of-rules.txt", "wget", "/index.html", True),
    ("directive-typos-robots.txt", "bot1", "/desallow/", False),
    ("directive-typos-robots.txt", "bot1", "/dissalow/", False),
    ("directive-typos-robots.txt", "bot2", "/useragent/", False),
    ("directive-typos-robots.txt", "bot3", "/useg-agent/", False),
    ("directive-typos-robots.txt", "bot4", "/useragent-no-colon/", False),
    ("format-errors-robots.txt", "bot1", "/whitespace-before-colon/", False),
    ("format-errors-robots.txt", "bot1", "/no-colon/", False),
    ("format-errors-robots.txt", "bot2", "/no-colon-useragent/", False),
    ("format-errors-robots.txt", "bot3", "/whitespace-before-colon", True),
    ("format-errors-robots.txt", "bot3", "/other", False),
    ("malformed-path.txt", "any", "/wiki/Wikipedia_talk:Mediation_Committee/", False),
    ("robots-with-utf8-bom.txt", "any", "/login.aspx", False),
    ("robots-with-utf16le-bom.txt", "any", "/login.aspx", False),
    ("robots-with-utf16be-bom.txt", "any", "/login.aspx", False),
    ("wildcards.txt", "any", "/gp/cart/x", False),
    ("wildcards.txt", "any", "/other", True),
    ("real/www.python.org", "nutch", "/", False),
    ("real/www.python.org", "any", "/webstats/", False),
    ("real/www.gov.uk", "any", "/guidance/x", True),
    ("astore.amazon.com-robots.txt", "any", "/x", True),
    ("dos-line-endings.txt", "any", "/x", True),
    ("extended-standard-robots.txt", "bot1", "/x", True),
    ("extended-standard-robots.txt", "bot4", "/x", True),
    ("many-user-agents.txt", "wget", "/x", False),
    ("many-user-agents.txt", "foobot", "/x", False),
    ("many-user-agents.txt", "any", "/x", True),
    ("many-user-agents.txt", "any", "/translate/x", False),
    ("relative-sitemap-robots.txt", "any", "/x", True),
    ("sitemap-robots.txt", "any", "/x", True),
    ("sitemap-robots-dedup.txt", "any", "/x", True),
    ("twitter.com-robots.txt", "googlebot", "/a/with_friends", False),
    ("twitter.com-robots.txt", "any", "/a?b", False),
    ("twitter.com-robots.txt", "any", "/a", True),
    ("www.flot.com-robots.txt", "any", "/img/x", False),
    ("www.flot.com-robots.txt", "any", "/x", True),
]


@pytest.mark.parametrize(("name", "token", "path", "allowed"), FILES)
def test_files(test_data: Path, name: str, token: str, path: str, allowed: bool) -> None:
    assert allows(file(test_data, name), path, token) is allowed


def test_delays_and_sitemaps_in_files(test_data: Path) -> None:
    assert parse(file(test_data, "dos-line-endings.txt")).crawl_delay == 1.0
    merging = file(test_data, "crawl-delay-group-merging.txt")
    assert [parse(merging, t).crawl_delay for t in ("mybot", "yourbot", "x")] == [10.0, None, 30.0]
    dedup = parse(file(test_data, "sitemap-robots-dedup.txt"))
    assert len(dedup.sitemaps) == len(set(dedup.sitemaps)) >= 1
    relative = parse(file(test_data, "relative-sitemap-robots.txt"), url=robots_url(SITE))
    assert relative.sitemaps == [SITE + "/sitemap.xml"]
    whole = parse(file(test_data, "sitemap-robots.txt"))
    assert [url.rpartition("/")[2] for url in whole.sitemaps] == [
        "sitemap.xml",
        "MixedCased-sitemap.xml",
    ]
    assert parse(file(test_data, "astore.amazon.com-robots.txt")).crawl_delay == 5.0
    twitter = file(test_data, "twitter.com-robots.txt")
    assert [parse(twitter, t).crawl_delay for t in ("slurp", "msnbot", "x")] == [1.0, 10.0, None]
    flot = parse(file(test_data, "www.flot.com-robots.txt"))
    assert flot.sitemaps == ["http://flot.com/sitemap_index.xml"]


def test_no_file_makes_it_raise(test_data: Path) -> None:
    files = [path for path in (test_data / "robots").rglob("*") if path.is_file()]
    assert len(files) > 150
    ruled = 0
    for path in files:
        robots = Robots.parse(path.read_bytes(), "scraper", url=robots_url(SITE))
        answers = {
            robots.allowed(SITE + p) for p in ("/", "/search?q=a%20b", "/admin/", "/a/b.html")
        }
        assert answers <= {True, False}
        assert robots.crawl_delay is None or 0 <= robots.crawl_delay <= 300
        assert all(urls.is_web(sitemap) for sitemap in robots.sitemaps)
        ruled += robots._rules is not None
    assert ruled > 100  # most files speak to everyone


# Hostile files: work is counted, not timed ------------------------------------------------------


def calls(run: Callable[[], object]) -> Counter[str]:
    """How often *run* calls what, built-in functions included."""
    counted: Counter[str] = Counter()

    def note(frame: FrameType, event: str, called: Any) -> None:
        if event in {"call", "c_call"}:
            counted[called.__name__ if event == "c_call" else frame.f_code.co_name] += 1

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return counted


@pytest.mark.case(
    50,
    "2,000 stars in one rule, against a URL of 8,000 characters",
    "one search for each star, by counted work; a run of stars is one",
)
def test_2000_stars_are_one_pass_over_the_url() -> None:
    url = SITE + "/" + "a" * 8000
    for rule in ("*a" * 2000 + "b", "*" * 2000 + "b", "*aa" * 2000, "a*" * 2000 + "$"):
        robots = parse(f"User-agent: *\nDisallow: /{rule}")
        work = calls(lambda robots=robots: robots.allowed(url))  # type: ignore[misc]
        assert work["find"] <= 2 * 2001  # a "$" makes two patterns
        assert work.total() <= 4 * 2001 + 100
    runs = parse("User-agent: *\nDisallow: /" + "*" * 2000 + "b")
    assert calls(lambda: runs.allowed(url)).total() < 50


@pytest.mark.case(
    50,
    "20,000 rules with wildcards",
    "2,000 are matched as such; of the others Allow is ignored, Disallow cut at its wildcard",
)
def test_patterns_beyond_the_limit_cost_no_search() -> None:
    lines = ["User-agent: *", *(f"Disallow: /x/*{n}$" for n in range(10 * MAX_PATTERNS))]
    lines += ["Allow: /x/y*z"]
    robots = parse("\n".join(lines))
    robots.allowed(SITE + "/")  # the index is made at the first question
    # Each pattern that ends in "$" is two to protego: an anchor, or a dollar sign.
    assert calls(lambda: robots.allowed(SITE + "/y")).total() <= 4 * MAX_PATTERNS + 50
    assert not robots.allowed(SITE + "/x/19999")  # forbidden, as it was
    assert not robots.allowed(SITE + "/x/y-z")  # forbidden, where it is not known any more
    assert "wildcards" in robots.notes[0]


def test_names_and_rules_do_not_multiply() -> None:
    body = "".join(f"User-agent: bot{n}\n" for n in range(5000))
    body += "".join(f"Disallow: /{n}\n" for n in range(5000))
    robots = parse(body, "bot7")
    assert robots._rules is not None
    assert len(robots._rules._user_agents) == 1
    assert parse(body)._rules is None
    assert calls(lambda: parse(body)).total() < 20 * 10_000


@given(
    st.binary(max_size=300)
    | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.lists(
        st.sampled_from([
            "User-agent: *", "User-agent: scraper", "Disallow: /", "Disallow: /%", "Allow: /%zz",
            "Allow: /$", "Disallow: $", "Disallow: *", "Disallow: https://[x", "Crawl-delay: 1e5",
            "\ufeff", "Sitemap: //[", "<html>", "Disallow: //x",
            "Disallow: /\ud800", "Request-rate: 1/",
        ])
    ).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")),
    st.text(max_size=30),
)  # fmt: skip
def test_nothing_makes_it_raise(body: bytes, path: str) -> None:
    robots = Robots.parse(body, "scraper", url=robots_url(SITE))
    href = urls.parse(SITE + "/" + path)
    assert href is not None
    assert robots.allowed(href) in {True, False}
    assert robots.crawl_delay is None or 0 <= robots.crawl_delay <= 300


# What an answer means ---------------------------------------------------------------------------

FORBIDDING = b"User-agent: *\nDisallow: /\nCrawl-delay: 400"


def judged(answer: int | FetchError, body: bytes = b"", **options: Any) -> Any:
    return verdict(answer, body, token="scraper", url=robots_url(SITE), **options)


def test_a_2xx_is_read() -> None:
    robots = judged(200, FORBIDDING, max_crawl_delay=9.0)
    assert not robots.allowed(SITE + "/")
    assert robots.crawl_delay == 9.0
    assert judged(204).allowed(SITE + "/")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 410, 418, 451, 499])
def test_a_4xx_is_no_file(status: int) -> None:
    assert judged(status, FORBIDDING).allowed(SITE + "/")


@pytest.mark.parametrize("status", [0, 101, 429, 500, 502, 503, 504, 599, 999])
def test_failure_is_never_permission(status: int) -> None:
    assert judged(status, retry_after=7.0) == Unavailable(f"http_{status}", 7.0)


@pytest.mark.parametrize("reason", sorted(set(REASONS) - {"dns"}))
def test_no_answer_is_never_permission(reason: str) -> None:
    found = judged(FetchError(reason))
    assert found.reason == reason
    assert found.hopeless == (not found.reached and not REASONS[reason].retried)


def test_a_turn_that_did_not_come_is_not_hopeless() -> None:
    assert not judged(Throttled(1e9)).hopeless


def test_a_name_that_does_not_exist_is_hopeless_and_a_name_server_that_fails_is_not() -> None:
    assert judged(FetchError("dns")) == Unavailable("dns", reached=False, hopeless=True)
    assert judged(FetchError("dns", temporary=True)) == Unavailable("dns", reached=False)


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://other.test/r.txt", "https://other.test/r.txt"),
        ("/r.txt#x", SITE + "/r.txt"),
        ("//www.example.com/robots.txt", "https://www.example.com/robots.txt"),
    ],
)
def test_redirects_are_followed_across_hosts(location: str, target: str) -> None:
    for status in (301, 302, 303, 307, 308):
        assert judged(status, location=location, hops=5) == Follow(target)


@pytest.mark.parametrize("location", [None, "", "file:///etc/passwd", "javascript:0", "http://[x"])
def test_a_redirect_to_nowhere_is_no_file(location: str | None) -> None:
    robots = judged(302, FORBIDDING, location=location)
    assert robots.allowed(SITE + "/")
    assert "nowhere" in robots.notes[0]


def test_an_endless_chain_is_no_file() -> None:
    hops, found = 0, judged(302, location="/next")
    while isinstance(found, Follow):
        hops += 1
        found = judged(302, location="/next", hops=hops)
    assert hops == MAX_HOPS >= 5
    assert found.allowed(SITE + "/")


# Remembering ------------------------------------------------------------------------------------


def test_an_origin_asks_first_and_then_for_a_day_no_more() -> None:
    origin = Origin()
    assert origin.needs_fetch(10.0)
    assert origin.wait(10.0) == 0.0
    assert not origin.allowed(SITE + "/")  # nothing is allowed unheard
    origin.fetching = True
    origin.settle(10.0, judged(200, b"User-agent: *\nDisallow: /a"))
    assert not origin.fetching
    assert not origin.needs_fetch(10.0 + MAX_AGE - 1)
    assert origin.allowed(SITE + "/")
    assert not origin.allowed(SITE + "/a")
    assert origin.needs_fetch(10.0 + MAX_AGE)


def test_not_obeyed_not_asked() -> None:
    origin = Origin(obeyed=False)
    assert not origin.needs_fetch(0.0)
    assert origin.allowed(SITE + "/")
    assert origin.wait(0.0) == 0.0


def waits(origin: Origin, outcome: Unavailable, **options: Any) -> list[float]:
    now, found = 100.0, []
    while origin.refusal is None:
        assert origin.needs_fetch(now)
        origin.settle(now, outcome, **options)
        found.append(origin.wait(now))
        now += found[-1]
    return found[:-1]


@pytest.mark.case(
    45,
    "robots.txt fails again and again, on a manual clock",
    "rests of 5, 10, 20, 40 times retry.base; then `robots_unavailable`",
)
def test_five_tries_with_growing_rests_then_robots_unavailable() -> None:
    origin = Origin()
    assert waits(origin, Unavailable("http_500")) == [5.0, 10.0, 20.0, 40.0]
    assert origin.refusal == "robots_unavailable"
    assert MAX_TRIES == 5


def test_the_rests_follow_the_back_off_of_the_settings() -> None:
    broken, missing = Unavailable("http_500"), Unavailable("connect_refused", reached=False)
    assert waits(Origin(), broken, base=0.5, max_delay=9.0) == [2.5, 5.0, 9.0, 9.0]
    assert waits(Origin(), missing, base=2.0) == [2.0, 4.0, 8.0, 16.0]


def test_retry_after_is_honoured_up_to_its_cap() -> None:
    outcome = Unavailable("http_503", retry_after=1e9)
    assert waits(Origin(), outcome, max_retry_after=90.0) == [90.0] * 4
    assert waits(Origin(), Unavailable("http_429", 0.0)) == [5.0, 10.0, 20.0, 40.0]


def test_an_origin_that_is_not_there_keeps_its_own_reason() -> None:
    origin = Origin()
    outcome = judged(FetchError("connect_refused"))
    assert waits(origin, outcome) == [1.0, 2.0, 4.0, 8.0]
    assert origin.refusal == "connect_refused"
    origin = Origin()
    origin.settle(0.0, judged(FetchError("tls_expired")))
    assert origin.refusal == "tls_expired"


def test_one_connection_makes_it_robots_unavailable() -> None:
    origin = Origin()
    origin.settle(0.0, judged(FetchError("timeout")))
    for _ in range(MAX_TRIES - 1):
        assert origin.refusal is None
        origin.settle(0.0, judged(FetchError("connect_refused")))
    assert origin.refusal == "robots_unavailable"


def test_a_success_forgets_the_failures() -> None:
    origin = Origin()
    for now in range(20):
        origin.settle(float(now), Unavailable("http_500") if now % 2 else Robots.allow_all())
    assert origin.refusal is None


@pytest.mark.case(
    45,
    "robots.txt is known, and cannot be had anew a day later",
    "the rules that were known stay in force",
)
def test_rules_stay_in_force_while_they_cannot_be_had_anew() -> None:
    origin = Origin()
    origin.settle(0.0, judged(200, b"User-agent: *\nDisallow: /a"))
    now = MAX_AGE
    for _ in range(3 * MAX_TRIES):
        assert origin.needs_fetch(now)
        origin.settle(now, judged(FetchError("dns")))
        assert origin.refusal is None
        assert not origin.needs_fetch(now)
        assert not origin.allowed(SITE + "/a")
        assert origin.allowed(SITE + "/b")
        now += MAX_AGE
    origin.settle(now, Robots.allow_all())
    assert origin.allowed(SITE + "/a")


def test_a_fetch_that_was_broken_off_says_nothing() -> None:
    origin = Origin()
    origin.fetching = True
    origin.abandoned()
    assert not origin.fetching
    assert origin.needs_fetch(0.0)
    assert origin.wait(0.0) == 0.0


@given(
    st.lists(
        st.sampled_from([
            Unavailable("http_500"), Unavailable("http_429", 30.0),
            Unavailable("http_503", math.nan),
            Unavailable("connect_refused", reached=False), Unavailable("dns", None, False, True),
            Robots.allow_all(),
        ]), min_size=1, max_size=20,
    ),
    st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_every_origin_is_known_or_given_up_in_the_end(outcomes: list[Any], jitter: float) -> None:
    origin, now = Origin(), 0.0
    for n in range(MAX_TRIES):
        if origin.refusal or not origin.needs_fetch(now):
            break
        origin.settle(now, outcomes[n % len(outcomes)], jitter=jitter)
        wait = origin.wait(now)
        assert 0.0 <= wait <= 3600.0
        now += wait
    assert origin.refusal is not None or origin.robots is not None
    assert origin.refusal is None or origin.refusal in REASONS


# What workers tell each other -------------------------------------------------------------------

WALL = 1_700_000_000.0

bodies = st.binary(max_size=200) | st.lists(
    st.sampled_from([
        b"User-agent: *", b"User-agent: scraper", b"Disallow: /a", b"Allow: /a/*b$", b"Disallow:",
        b"Disallow: /\xff", "Disallow: /é\u2028\ud800".encode("utf-8", "surrogatepass"),
        b"Crawl-delay: 2.5", b"Crawl-delay: 1e9", b"", b"Disallow: /\"\\",
    ])
).map(b"\n".join)  # fmt: skip
outcomes = bodies.map(lambda body: Robots.parse(body, "scraper")) | st.builds(
    Unavailable,
    st.sampled_from(["http_500", "http_429", "connect_refused", "dns"]),
    st.none() | st.floats(0, 1e6),
    st.booleans(),
    st.booleans(),
)


def seen(origin: Origin, now: float) -> tuple[Any, ...]:
    """All that anybody can ask of an origin."""
    paths = ["/", "/a", "/a/b", "/a/xb", "/é", "/%FF"]
    return (
        origin.refusal,
        origin.needs_fetch(now),
        pytest.approx(origin.wait(now), abs=0.01),
        [origin.allowed(urls.parse(SITE + path) or "") for path in paths],
        origin.robots.crawl_delay if origin.robots is not None else None,
        repr(origin),
    )


@given(st.lists(outcomes, min_size=1, max_size=7), st.floats(0, 1e5), st.floats(-1e5, 1e5))
def test_another_worker_knows_what_this_one_has_learnt(
    results: list[Any], later: float, boot: float
) -> None:
    one, other, now = Origin(), Origin(), 0.0
    for outcome in results:
        one.settle(now, outcome, jitter=0.5)
        now += 10.0
    saved = one.save("scraper", now, WALL + now)
    assert saved is not None
    assert one.save("scraper", now, WALL + now) is None
    then = now + later
    other.restore(saved, "scraper", then + boot, WALL + then)  # its clock began at another time
    if not math.isclose(one._known_until, then, abs_tol=0.01):
        assert seen(other, then + boot) == seen(one, then)
    assert other.save("scraper", then + boot, WALL + then) is None
    again = Origin()
    again.settle(now, Robots.allow_all())
    again.save("scraper", now, WALL + now)
    again.restore(saved, "scraper", now, WALL + now)  # theirs is newer than what all know
    assert again.refusal == one.refusal
    assert (again.robots is None) == (one.robots is None)


def test_a_day_counts_from_the_fetch_whoever_holds_the_host() -> None:
    one, other = Origin(), Origin()
    one.settle(0.0, Robots.parse(b"User-agent: *\nDisallow: /a\nCrawl-delay: 3", "x"))
    saved = one.save("x", 100.0, WALL + 100)
    other.restore(saved, "x", 23 * 3600, WALL + 23 * 3600)
    assert other.robots is not None
    assert other.robots.crawl_delay == 3.0
    assert not other.needs_fetch(24 * 3600 - 1)
    assert other.needs_fetch(24 * 3600)


def test_a_clock_that_goes_ahead_costs_a_day_at_most() -> None:
    one, other = Origin(), Origin()
    one.settle(0.0, Robots.allow_all())
    other.restore(one.save("x", 0.0, WALL + 1e7), "x", 0.0, WALL)
    assert other.needs_fetch(24 * 3600)
    failing, patient = Origin(), Origin()
    failing.settle(0.0, Unavailable("http_500"))
    patient.restore(failing.save("x", 0.0, WALL + 1e7), "x", 0.0, WALL)
    assert patient.wait(0.0) <= 24 * 3600


def test_what_this_worker_has_just_learnt_is_newer() -> None:
    one, other = Origin(), Origin()
    one.settle(0.0, Unavailable("http_500"))
    other.settle(0.0, Robots.allow_all())
    other.restore(one.save("x", 0.0, WALL), "x", 0.0, WALL)
    assert other.robots is not None
    other.restore(None, "x", 0.0, WALL)
    assert other.robots is not None


def test_the_same_rules_are_parsed_once() -> None:
    one, other = Origin(), Origin()
    one.settle(0.0, Robots.parse(b"User-agent: *\nDisallow: /a", "x"))
    saved = one.save("x", 0.0, WALL)
    other.restore(saved, "x", 0.0, WALL)
    known = other.robots
    other.restore(saved, "x", 5.0, WALL + 5)
    assert other.robots is known
    mine = one.robots
    one.restore(saved, "x", 5.0, WALL + 5)
    assert one.robots is mine


def test_rules_for_another_name_are_not_ours() -> None:
    one, other = Origin(), Origin()
    one.settle(0.0, Robots.allow_all())
    other.restore(one.save("x", 0.0, WALL), "y", 0.0, WALL)
    assert other.needs_fetch(0.0)


def test_rules_too_long_to_be_passed_on_are_known_here_alone() -> None:
    one = Origin()
    lines = b"".join(b"Disallow: /%d/%s\n" % (n, b"x" * 90) for n in range(4000))
    one.settle(0.0, Robots.parse(b"User-agent: *\n" + lines, "x"))
    assert one.save("x", 0.0, WALL) is None
    one.restore(None, "x", 0.0, WALL)
    assert not one.allowed(SITE + "/7/" + "x" * 90)


@pytest.mark.parametrize(
    "saved",
    [
        b"", b"{", b"[]", b"\xff", b"{}", b'{"version":2,"agent":"x"}', b'{"version":"1"}',
        b'{"version":1,"agent":"x","rules":7}', b'{"version":1,"agent":"x","rules":"/a"}',
        b'{"version":1,"agent":"x","rules":"Allow: /\\nUser-agent: z"}',
        b'{"version":1,"agent":"x","rules":"","until":"soon"}',
        b'{"version":1,"agent":"x","rules":"","crawl_delay":-1}',
        b'{"version":1,"agent":"x","tries":true}', b'{"version":1,"agent":"x","refusal":""}',
        b'{"version":1,"agent":"x","retry":1e300}', b"[" * 100_000, b" " * 300_000 + b"{}",
    ],
)  # fmt: skip
def test_foreign_data_is_no_rules(saved: bytes) -> None:
    with pytest.raises(DamagedState, match=r"robots\.txt"):
        Origin().restore(saved, "x", 0.0, WALL)
