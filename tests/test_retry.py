from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.config import Retry
from scraper.errors import REASONS, UNSENT, FetchError, reason
from scraper.retry import judge, waits
from scraper.work import Again, Dead

NOW = 1_000_000.0
POLICY = Retry()


def verdict(code: str, attempt: int = 0, **options: Any) -> Again | Dead:
    given = {"policy": POLICY, "wall_now": NOW, "jitter": 0.5, **options}
    return judge(code, attempt=attempt, **given)


def test_three_tries_in_all() -> None:
    assert verdict("timeout", 0) == Again(NOW + 0.5, "timeout")
    assert verdict("timeout", 1) == Again(NOW + 1.0, "timeout")
    assert verdict("timeout", 2, detail="no answer") == Dead("timeout", "no answer")
    assert verdict("timeout", 0, policy=Retry(attempts=1)) == Dead("timeout")


@pytest.mark.parametrize("code", sorted(REASONS))
def test_the_table_says_what_is_tried_again(code: str) -> None:
    assert isinstance(verdict(code), Again) is REASONS[code].retried


@pytest.mark.parametrize(
    ("code", "again"),
    [
        ("http_404", False),
        ("http_403", False),
        ("http_500", True),
        ("http_503", True),
        ("http_408", True),
        ("http_301", False),
        ("my_own_reason", True),
    ],
)
def test_statuses(code: str, again: bool) -> None:
    assert isinstance(verdict(code), Again) is again
    assert reason(code).retried is again


def test_back_off_is_full_jitter_under_a_cap() -> None:
    policy = Retry(attempts=100, base=2.0, max_delay=10.0)
    delays = [verdict("timeout", n, policy=policy, jitter=1.0).at - NOW for n in range(5)]  # type: ignore[union-attr]
    assert delays == [2.0, 4.0, 8.0, 10.0, 10.0]
    assert verdict("timeout", 98, policy=policy, jitter=0.0) == Again(NOW, "timeout")


@pytest.mark.parametrize("code", ["timeout", "conn_reset", "incomplete", "too_slow", "http_500"])
def test_what_may_have_been_acted_upon_is_not_repeated(code: str) -> None:
    assert verdict(code, repeatable=False) == Dead(code)


@pytest.mark.parametrize("code", ["http_502", "http_503", "http_504"])
def test_a_503_does_not_say_that_nothing_was_done(code: str) -> None:
    assert verdict(code, repeatable=False) == Dead(code)


@pytest.mark.parametrize("code", ["connect_refused", "proxy_connect", "http_408", "http_425"])
def test_what_was_surely_not_acted_upon_is_repeated(code: str) -> None:
    assert isinstance(verdict(code, repeatable=False), Again)


def test_the_error_knows_better_than_its_reason() -> None:
    connecting = FetchError("timeout", sent=False)
    assert FetchError("timeout").sent
    assert not connecting.sent
    assert isinstance(verdict("timeout", repeatable=False, sent=connecting.sent), Again)
    assert verdict("proxy_connect", repeatable=False, sent=True) == Dead("proxy_connect")
    servfail = FetchError("dns", temporary=True)
    assert not servfail.sent
    assert isinstance(
        verdict("dns", repeatable=False, sent=False, temporary=servfail.temporary), Again
    )
    assert verdict("dns") == Dead("dns")
    assert verdict("timeout", temporary=False) == Dead("timeout")


def test_what_the_spider_asks_for_is_done_within_the_attempts() -> None:
    assert verdict("http_404", asked=True) == Again(NOW + 0.5, "http_404")
    assert verdict("later", asked=True, delay=90.0, repeatable=False) == Again(NOW + 90.0, "later")
    assert verdict("later", 2, asked=True, delay=90.0) == Dead("later")


@pytest.mark.parametrize(
    ("delay", "at"), [(-5.0, 0.0), (0.0, 0.0), (math.nan, 0.5), (math.inf, 0.5)]
)
def test_a_delay_that_is_none(delay: float, at: float) -> None:
    assert verdict("later", asked=True, delay=delay) == Again(NOW + at, "later")


def test_waiting_for_a_host_costs_no_attempt() -> None:
    assert waits("http_429") == Again(0.0, "http_429", charged=False)
    assert waits("throttled", NOW).at == NOW


@given(
    code=st.sampled_from([*REASONS, "http_500", "http_404", "http_429", "custom"]),
    attempt=st.integers(0, 200),
    attempts=st.integers(1, 100),
    jitter=st.floats(0, 1, exclude_max=True),
    base=st.floats(0.001, 1e6),
    longest=st.floats(0.001, 1e6),
    repeatable=st.booleans(),
    sent=st.sampled_from([None, True, False]),
    asked=st.booleans(),
)
def test_every_verdict_is_in_bounds(
    code: str, attempt: int, attempts: int, jitter: float, base: float, longest: float,
    repeatable: bool, sent: bool | None, asked: bool,
) -> None:  # fmt: skip
    policy = Retry(attempts=attempts, base=base, max_delay=longest)
    found = judge(
        code, attempt=attempt, policy=policy, wall_now=NOW, jitter=jitter,
        repeatable=repeatable, sent=sent, asked=asked,
    )  # fmt: skip
    assert found.reason == code
    if isinstance(found, Again):
        assert attempt + 1 < attempts
        assert found.charged
        assert NOW <= found.at <= NOW + longest
        if not repeatable and not asked and sent is None:
            assert code in UNSENT or code == "http_429"
