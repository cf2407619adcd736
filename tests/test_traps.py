"""Traps: what URLs have in common, and what is counted of it."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper import urls
from scraper.config import Crawl
from scraper.errors import DamagedState
from scraper.http import Headers, Request, Response
from scraper.slots import slot_of
from scraper.templates import parameter_in_common, template
from scraper.traps import KEPT, SAME_BODY, Traps
from scraper.work import Again, Dead, Done, Lease, Verdict

# -- templates -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h/cal?year=2026&month=3#top", "http://h/cal?month=&year="),
        ("http://h/2026/11/30", "http://h/{n}/{n}/{n}"),
        ("http://h/2026-11-30/x", "http://h/{n}-{n}-{n}/x"),
        ("http://h/p3.html", "http://h/p{n}.html"),
        ("http://h/a;jsessionid=AB12?x=1", "http://h/a;jsessionid=?x="),
        ("http://h/i/550e8400-e29b-41d4-a716-446655440000/", "http://h/i/{id}/"),
        ("http://h/deadbeef01/p", "http://h/{id}/p"),
        ("http://h/s/aB3dE9fG1hJ2kL4m/p", "http://h/s/{id}/p"),
        ("http://h/k3j9x0a8b2m4", "http://h/{id}"),
        ("http://h/BigCompany-Report2024", "http://h/BigCompany-Report{n}"),
        ("http://h/wiki/%E4%B8%AD_1", "http://h/wiki/%E4%B8%AD_{n}"),
        ("http://h/?p[12]=3&p[13]=4&&", "http://h/?p[{n}]="),
        ("http://h/about", "http://h/about"),
        ("http://h:8080", "http://h:8080"),
        ("http://127.0.0.1:8080/7", "http://127.0.0.1:8080/{n}"),
    ],
)
def test_a_template_keeps_what_the_program_wrote(url: str, expected: str) -> None:
    assert template(url) == expected


@given(st.text())
def test_every_url_has_a_template_of_bounded_length(tail: str) -> None:
    href = urls.parse("http://site/" + tail)
    if href is not None:
        made = template(href)
        assert made.startswith("http://")
        assert len(made) < 1000


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ([f"http://h/p{n % 5}?sid={n}" for n in range(50)], "sid"),
        ([f"http://h/p{n % 5};jsessionid={n:032x}?x=1" for n in range(50)], "jsessionid"),
        ([f"http://h/p{n % 5}?v={n * 7919:x}f00dfeed&x=1" for n in range(50)], "v"),
        ([f"http://h/list?page={n}" for n in range(50)], None),
        ([f"http://h/cal?year={n // 12}&month={n % 12}" for n in range(120)], None),
        ([f"http://h/p{n}?sid={n}" for n in range(50)], None),
        ([f"http://h/p{n}" for n in range(50)], None),
        ([], None),
    ],
    ids=["sid", "path", "random", "pages", "calendar", "other pages", "none", "nothing"],
)
def test_what_looks_like_a_session_is_found(sample: list[str], expected: str | None) -> None:
    assert parameter_in_common(sample) == expected


# -- counts ----------------------------------------------------------------------------------


class Bench:
    """A crawl's traps, and pages that are asked for."""

    def __init__(self, state: dict[str, bytes] | None = None, **limits: Any) -> None:
        self.traps = Traps(Crawl(**limits), state)
        self.stored = dict(state or {})
        self._ids = 0

    def lease(self, url: str, *, attempt: int = 0, start: bool = False) -> Lease:
        self._ids += 1
        return Lease(self._ids, urls.host_key(url), Request(url), attempt=attempt, start=start)

    def ask(self, url: str, verdict: Verdict = Done(), **more: Any) -> str | None:  # noqa: B008
        lease = self.lease(url, **more)
        refused = self.traps.refusal(lease)
        self.traps.settle(lease, verdict if refused is None else Dead(refused))
        self.stored |= self.traps.changed()
        return refused


def test_a_budget_bounds_one_template_and_no_other() -> None:
    bench = Bench(max_pages_per_template=3)
    asked = [bench.ask(f"http://h/cal/{n}") for n in range(5)]
    assert asked == [None, None, None, "trap", "trap"]
    assert bench.ask("http://h/about") is None
    assert bench.ask("http://other/cal/1") is None
    assert bench.ask("http://h/cal/99", start=True) is None
    (finding,) = bench.traps.report()
    assert (finding["kind"], finding["pages"], finding["left_out"]) == ("budget", 4, 2)
    assert "http://h/cal/{n}: 2 URLs beyond crawl.max_pages_per_template" in finding["text"]


def test_a_host_s_budget_is_that_of_its_slots_together() -> None:
    bench = Bench(max_pages_per_host=2)
    asked = []
    for number in range(3):
        lease = bench.lease(f"http://h/{number}")
        lease.host = slot_of(lease.host, number, 3)
        refused = bench.traps.refusal(lease)
        bench.traps.settle(lease, Done() if refused is None else Dead(refused))
        asked.append(refused)
    assert asked == [None, None, "trap"]
    assert bench.traps.over("http://h/x", "http://h")
    (finding,) = bench.traps.report()
    assert (finding["template"], finding["left_out"]) == ("http://h", 2)


def test_a_budget_bounds_one_host() -> None:
    bench = Bench(max_pages_per_host=2)
    assert [bench.ask(f"http://h/{word}") for word in "abc"] == [None, None, "trap"]
    assert bench.ask("http://other/a") is None
    assert bench.ask("http://h/d", start=True) == "trap"
    (finding,) = bench.traps.report()
    assert (finding["template"], finding["left_out"]) == ("http://h", 2)


def test_what_is_under_way_has_its_place_and_what_is_put_off_gives_it_back() -> None:
    bench = Bench(max_pages_per_template=2, max_pages_per_host=2)
    first, second, third = (bench.lease(f"http://h/{n}") for n in range(3))
    assert [bench.traps.refusal(lease) for lease in (first, first, second)] == [None] * 3
    assert bench.traps.refusal(third) == "trap"
    bench.traps.settle(second, Again(0.0, "throttled", charged=0))
    assert bench.ask("http://h/4") is None
    bench.traps.settle(first, Again(0.0, "timeout", charged=1))
    assert bench.ask("http://h/5") == "trap"
    assert bench.ask("http://h/0", attempt=1) is None  # its next try


def test_links_beyond_a_budget_that_is_used_up_are_left_out() -> None:
    bench = Bench(max_pages_per_template=1, max_pages_per_host=3)
    before = bench.traps.full
    bench.ask("http://h/1")
    assert (before, bench.traps.full) == (False, True)
    assert bench.traps.over("http://h/2", "http://h")
    assert not bench.traps.over("http://h/a", "http://h")
    bench.ask("http://h/a")
    bench.ask("http://h/b")
    assert bench.traps.over("http://h/c", "http://h")


def test_counts_are_exact_over_processes() -> None:
    bench = Bench(max_pages_per_template=5, max_pages_per_host=8)
    for n in range(3):
        bench.ask(f"http://h/{n}")
    bench.traps.refusal(bench.lease("http://h/3"))  # killed: it was never settled
    again = Bench(bench.stored, max_pages_per_template=5, max_pages_per_host=8)
    assert [again.ask(f"http://h/{n}") for n in range(3, 7)] == [None, None, "trap", "trap"]
    once_more = Bench(again.stored, max_pages_per_template=5, max_pages_per_host=8)
    assert once_more.traps.full
    assert once_more.traps.report() == again.traps.report()
    assert [once_more.ask(f"http://h/{word}") for word in "abcd"] == [None] * 3 + ["trap"]


def test_what_is_stored_is_small_and_only_what_changed() -> None:
    bench = Bench(max_pages_per_template=10**6)
    for n in range(2000):
        bench.ask(f"http://h/{'abcdefghijklmnopqrst'[n % 20]}/{n}")
    bench.ask("http://h/a/1")
    bench.traps.changed()
    assert bench.traps.changed() == {}
    bench.ask("http://h/a/2")
    assert sum(map(len, bench.stored.values())) < 2000


def test_the_rarest_templates_are_forgotten_and_the_others_not() -> None:
    bench = Bench(max_pages_per_template=100)
    for n in range(50):
        bench.ask(f"http://h/cal/{n}")
    for n in range(KEPT + 100):
        word = f"{n:b}".replace("0", "o").replace("1", "i")
        bench.ask(f"http://h/{word}")
    assert sum(1 for _ in bench.traps._templates.rows()) <= KEPT
    again = Bench(bench.stored, max_pages_per_template=100)
    asked = [again.ask(f"http://h/cal/{n}") for n in range(50, 120)]
    assert asked.count(None) == 50


@pytest.mark.parametrize(
    "blob", [b"{", b"[]", b'{"a": 1}', b'{"a": [1, 2, "x", 4]}', b'{"a": [true, 2, "x", ""]}']
)
def test_damaged_counts_are_refused(blob: bytes) -> None:
    with pytest.raises(DamagedState, match="templates are damaged"):
        Traps(Crawl(), {"traps.template.7": blob})


# -- what is told ----------------------------------------------------------------------------


def test_a_template_that_grows_large_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(trap_warning=200)
    with caplog.at_level(logging.WARNING):
        for n in range(450):
            bench.ask(f"http://h/cal?year={n // 12}&month={n % 12}")
    (line,) = caplog.messages
    assert "http://h/cal?month=&year=: 200 pages" in line
    assert "http://h/cal?year=16&month=7" in line
    assert "crawl.max_pages_per_template" in line
    (finding,) = bench.traps.report()
    assert (finding["kind"], finding["pages"], finding["parameter"]) == ("template", 450, "")
    json.dumps(finding)
    (later,) = Traps(Crawl(trap_warning=200), bench.stored).report()
    assert later["pages"] == 400  # stored by the hundred, without a budget
    assert Bench(trap_warning=0).ask("http://h/1") is None


def test_session_ids_are_named_with_the_way_out(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(trap_warning=200)
    with caplog.at_level(logging.WARNING):
        for n in range(200):
            bench.ask(f"http://h/p{n % 7}?sid={n * 7919}")
    (line,) = caplog.messages
    assert 'crawl.drop_params = ["sid"]' in line


def deliver(bench: Bench, body: bytes, count: int, status: int = 200) -> None:
    for n in range(count):
        lease = bench.lease(f"http://h/no/such/{n}")
        response = Response(lease.request.url, status, Headers(), body, lease.request)
        bench.traps.delivered(lease, response)


def test_pages_that_are_all_the_same_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    with caplog.at_level(logging.WARNING):
        deliver(bench, b"not here", SAME_BODY * 3, status=404)
        for n in range(SAME_BODY * 3):
            deliver(bench, b"page %05d" % n, 1)
        assert not caplog.messages
        deliver(bench, b"nothing here", SAME_BODY * 3)
    (line,) = caplog.messages
    assert "http://h: 100 pages have the same body" in line
    assert "http://h/no/such/{n}" in line
    assert "soft 404" in line
    (finding,) = bench.traps.report()
    assert finding["kind"] == "same_body"
