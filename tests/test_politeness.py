from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scraper.config import HostRule, Politeness, Retry
from scraper.errors import DamagedState, FetchError
from scraper.politeness import (
    CEILING,
    MAX_UNREACHED,
    STALE,
    Exchange,
    HostPolicy,
    HostState,
    parse_retry_after,
    policy_for,
    throttles,
)
from scraper.retry import judge
from scraper.work import Dead

WALL = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC


# Host rules -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("example.com", "https://example.com", True),
        ("example.com.", "https://example.com", True),
        ("example.com", "https://example.com:8443", True),
        ("example.com", "https://www.example.com", False),
        ("*.example.com", "https://a.b.example.com", True),
        ("*.example.com", "https://example.com", False),
        ("*.example.com", "https://badexample.com", False),
        ("*example.com", "https://badexample.com", True),
        ("127.0.0.1", "http://127.0.0.1:8000", True),
        ("127.*", "http://127.1.2.3:8000", True),
        ("127.*", "http://127.example.com", False),
        ("*.1", "http://10.0.0.1", True),
        ("localhost:8000", "http://localhost:8000", True),
        ("localhost:8000", "http://localhost:8001", False),
        ("example.com:443", "https://example.com", True),
        ("example.com:80", "http://example.com", True),
        ("example.com:80", "https://example.com", False),
        ("[::1]", "http://[::1]:8000", True),
        ("[::1]:8000", "http://[::1]:8000", True),
        ("[::1]:8000", "http://[::1]", False),
        ("[::*", "http://[::1]:8000", True),
        ("*", "https://example.com", True),
        ("exampl?.com", "https://example.com", False),
    ],
)
def test_patterns(pattern: str, key: str, matches: bool) -> None:
    policy = policy_for(key, Politeness(delay=0.2, hosts={pattern: HostRule(delay=9.0)}))
    assert policy.delay == (9.0 if matches else 0.2)


def test_rules_merge_field_by_field_the_most_specific_last() -> None:
    section = Politeness(
        per_host=5,
        hosts={
            "shop.example.com:8080": HostRule(delay=4.0),
            "shop.example.com": HostRule(delay=3.0, robots=False),
            "*.example.com": HostRule(delay=2.0, robots=True, adaptive=False),
            "*": HostRule(delay=1.0, adaptive=True, verify_tls=False),
        },
    )
    assert policy_for("http://shop.example.com:8080", section) == HostPolicy(
        delay=4.0, per_host=5, adaptive=False, robots=False, verify_tls=False
    )
    assert policy_for("https://shop.example.com", section).delay == 3.0
    assert policy_for("https://x.example.com", section).robots is True
    assert policy_for("https://example.com", section) == HostPolicy(
        delay=1.0, per_host=5, verify_tls=False
    )


def test_of_equal_patterns_the_later_rule_wins() -> None:
    section = Politeness(hosts={"a*c": HostRule(delay=1.0), "ab*": HostRule(delay=2.0)})
    assert policy_for("http://abc", section).delay == 2.0


def test_the_section_alone() -> None:
    section = Politeness(delay=1.5, max_crawl_delay=7.0, max_retry_after=8.0, max_pauses=9)
    assert policy_for("https://example.com", section) == HostPolicy(
        delay=1.5, max_crawl_delay=7.0, max_retry_after=8.0, max_pauses=9
    )
    assert policy_for("https://example.com", Politeness()) == HostPolicy()


# Retry-After ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0),
        ("Friday, 15-Jan-27 08:00:30 GMT", 30.0),
        ("Fri Jan 15 08:00:30 2027", 30.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("Fri, 15 Jan 2027 09:00:30 +0100", 30.0),
        ("9" * 60, float("9" * 60)),
        ("9" * 100, None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("٣", None),
        ("Fri, 99 Jan 2027 08:00:30 GMT", None),
        ("Fri, 15 Jan 99999999999 08:00:30 GMT", None),
        ("15 Jan 2027 08:00:30 +9999999999", None),
    ],
)
def test_parse_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, WALL) == seconds


def test_a_date_is_taken_by_the_clock_of_the_server_that_sent_it() -> None:
    date, sent = "Fri, 15 Jan 2027 08:00:30 GMT", "Fri, 15 Jan 2027 08:00:10 GMT"
    for ours in (WALL - 86_400, WALL, WALL + 86_400):
        assert parse_retry_after(date, ours, sent) == 20.0
    assert parse_retry_after(date, WALL, "nonsense") == parse_retry_after(date, WALL) == 30.0


@given(
    st.text(max_size=80) | st.from_regex(r"\w+,? [\d -]{0,12}\w+ [\d:+-]{0,20} ?\w*"),
    st.none() | st.text(max_size=80),
)
def test_parse_retry_after_never_raises(value: str, sent: str | None) -> None:
    seconds = parse_retry_after(value, WALL, sent)
    assert seconds is None or seconds >= 0.0


def test_what_a_host_event_is() -> None:
    assert throttles(429, None)
    assert throttles(503, 0.0)
    assert not throttles(503, None)
    assert not throttles(500, 10.0)
    assert not throttles(200, 10.0)


# One host ---------------------------------------------------------------------------------------


class Site:
    """A `HostState` with a clock of its own, driven by hand."""

    def __init__(self, **policy: Any) -> None:
        self.state = HostState(HostPolicy(**{"delay": 0.0, **policy}))
        self.now = 100.0

    def start(self) -> float:
        ready = self.state.ready_at(self.now)
        assert ready is not None
        self.now = ready
        self.state.started(self.now)
        return self.now

    def end(self, began: float, status: int = 200, *, after: float = 0.1, **fields: Any) -> None:
        self.now = max(self.now, began + after)
        self.state.ended(self.now, Exchange(began, status=status, latency=after, **fields))

    def fail(self, began: float, reason: str, *, sent: bool | None = None) -> None:
        self.now += 0.1
        self.state.ended(self.now, Exchange.failed(began, FetchError(reason, sent=sent)))

    def ask(self, status: int = 200, **fields: Any) -> None:
        self.end(self.start(), status, **fields)

    @property
    def rest(self) -> float:
        return max(self.state.quiet_until - self.now, 0.0)


def test_one_exchange_until_the_host_has_answered() -> None:
    site = Site(per_host=4, adaptive=False)
    began = site.start()
    proven = [site.state.proven]
    assert site.state.ready_at(site.now) is None
    site.end(began)
    proven.append(site.state.proven)
    assert proven == [False, True]
    assert [site.start() for _ in range(4)]
    assert site.state.ready_at(site.now) is None


def test_starts_lie_a_delay_apart() -> None:
    site = Site(delay=0.5, adaptive=False)
    site.ask()
    starts = [site.start() for _ in range(4)]
    assert [b - a for a, b in pairwise(starts)] == [0.5] * 3


def test_the_delay_counts_from_when_a_request_went_out() -> None:
    state = HostState(policy_for("http://h", Politeness(delay=2.0)))
    state.started(10.0)
    state.departed(10.5)
    state.ended(10.6, Exchange(10.0, latency=0.1))
    assert state.ready_at(10.6) == 12.5


def test_crawl_delay_counts_when_it_is_longer_and_under_its_cap() -> None:
    site = Site(delay=0.5, max_crawl_delay=20.0)
    for asked, expected in [(3.0, 3.0), (0.1, 0.5), (None, 0.5), (1e9, 20.0)]:
        site.state.set_crawl_delay(asked)
        assert site.state.delay == expected
    began = site.start()
    site.end(began)
    assert site.state.ready_at(site.now) == began + 20.0


def test_the_window_grows_by_one_a_round_while_latency_is_flat() -> None:
    site = Site(per_host=4)
    limits = []
    for _ in range(12):
        site.ask()
        limits.append(site.state.limit)
    assert limits[0] == 2
    assert limits == sorted(limits)
    assert limits[-1] == 4


def test_the_window_shrinks_when_latency_rises() -> None:
    site = Site(per_host=8)
    for _ in range(40):
        site.ask(after=0.2)
    assert site.state.limit == 8
    for began in [site.start() for _ in range(8)]:
        site.end(began, after=2.0)
    assert site.state.limit == 4  # a full round of slow answers is one event


@pytest.mark.parametrize("answer", [{"status": 503}, {"kind": "broken", "status": 0}])
def test_a_burst_of_failures_halves_the_window_once(answer: dict[str, Any]) -> None:
    site = Site(per_host=8)
    for _ in range(40):
        site.ask()
    for began in [site.start() for _ in range(8)]:
        site.end(began, **answer)
    site.ask()
    assert site.state.limit == 4


def test_pages_that_are_slower_than_robots_txt_are_no_rise() -> None:
    """Alone, an exchange shows what the host needs without load: that becomes the measure."""
    site = Site(per_host=4)
    site.ask(after=0.01)
    for _ in range(60):
        batch = [site.start() for _ in range(site.state.limit)]
        for began in batch:
            site.end(began, after=0.8)
    assert site.state.limit == 4


def test_a_burst_of_429_is_one_event() -> None:
    site = Site(per_host=8, adaptive=False)
    site.ask()
    burst = [site.start() for _ in range(8)]
    for began in burst:
        site.end(began, 429, retry_after=30.0)
    assert site.state._pauses == 1
    assert site.rest == pytest.approx(30.0)
    assert site.state.limit == 8
    again = site.start()
    assert again >= burst[0] + 30.0


def test_answers_from_before_a_pause_change_nothing() -> None:
    site = Site(adaptive=False)
    site.ask()
    first, second, third = (site.start() for _ in range(3))
    site.end(first, 429)
    quiet = site.state.quiet_until
    site.end(second, 200)
    site.end(third, 429, retry_after=1000.0)
    assert site.state._pauses == 1
    assert site.state.quiet_until == quiet


def test_a_cut_of_the_window_does_not_hide_a_429() -> None:
    site = Site(adaptive=False)
    site.ask()
    first, second = site.start(), site.start()
    site.end(first, 503)  # charged to its page: shrinks the window, makes no pause
    assert site.rest == 0.0
    site.end(second, 429, retry_after=30.0)
    assert site.rest == pytest.approx(30.0)


@pytest.mark.parametrize("retry_after", [None, 0.0])
def test_without_a_date_the_back_off_doubles_from_its_floor_to_its_cap(
    retry_after: float | None,
) -> None:
    site = Site(max_pauses=100)
    rests = []
    for _ in range(9):
        site.ask(429, retry_after=retry_after)
        rests.append(round(site.rest, 6))
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    site.ask(200)
    site.ask(429)
    assert site.rest == pytest.approx(1.0)


def test_jitter_makes_a_pause_longer_never_shorter() -> None:
    state = HostState(HostPolicy())
    state.started(0.0)
    state.ended(1.0, Exchange(0.0, status=429), jitter=0.9)
    assert state.quiet_until == pytest.approx(1.0 + 1.45)


def test_retry_after_is_honoured_up_to_its_cap() -> None:
    site = Site(max_retry_after=50.0)
    site.ask(503, retry_after=7.0)
    assert site.rest == pytest.approx(7.0)
    site.ask(429, retry_after=1e30)
    assert site.rest == pytest.approx(50.0)
    site.ask(429, retry_after=0.01)
    assert site.rest == pytest.approx(1.0)


def test_a_pause_never_ends_earlier_than_announced() -> None:
    site = Site(adaptive=False)
    site.ask()
    site.ask(429, retry_after=100.0)
    until = site.state.quiet_until
    site.state.started(site.now + 1)  # a start that somebody forced
    site.end(site.now + 1, 429, retry_after=1.0)
    assert site.state.quiet_until == until


def test_ten_pauses_without_a_success_end_the_host() -> None:
    site = Site()
    for status in (429, 500, 408, 429) * 4:
        site.ask(status)  # neither of the two others is a success
    assert site.state._pauses == 8
    site.ask(404)  # an answer as good as any
    for _ in range(9):
        assert site.state.refusal is None
        site.ask(429)
    site.ask(503, retry_after=5.0)
    assert site.state.refusal == "throttled"
    assert site.state.ready_at(site.now) == math.inf


@pytest.mark.parametrize(
    ("reason", "sent"),
    [("dns", None), ("connect_refused", None), ("timeout", False), ("tls_expired", None)],
)
def test_a_host_that_was_never_reached_is_given_up(reason: str, sent: bool | None) -> None:
    site = Site()
    for _ in range(MAX_UNREACHED):
        assert site.state.refusal is None
        assert site.rest == 0.0
        site.fail(site.start(), reason, sent=sent)
    assert site.state.refusal == reason


@pytest.mark.parametrize("reason", ["timeout", "conn_reset", "incomplete", "protocol", "decode"])
def test_failures_after_a_connection_never_end_a_host(reason: str) -> None:
    site = Site()
    for _ in range(5 * MAX_UNREACHED):
        site.fail(site.start(), reason)
        assert not site.state.proven
    assert site.state.refusal is None


def test_one_connection_starts_the_count_anew() -> None:
    site = Site()
    for _ in range(MAX_UNREACHED - 1):
        site.fail(site.start(), "connect_refused")
    site.fail(site.start(), "conn_reset")
    for _ in range(MAX_UNREACHED - 1):
        site.fail(site.start(), "connect_refused")
    assert site.state.refusal is None


def test_a_host_that_went_away_gets_time_to_come_back() -> None:
    site = Site(adaptive=False)
    site.ask()
    burst = [site.start() for _ in range(8)]
    for began in burst:
        site.fail(began, "connect_refused")
    assert site.state._unreached == 1  # one event, however many were in flight
    assert not site.state.proven
    assert site.state.limit == 1
    while site.state.refusal is None:
        site.fail(site.start(), "connect_refused")
    assert 45.0 < site.now - burst[0] < 90.0
    assert site.state._unreached == MAX_UNREACHED


def test_an_unused_turn_says_nothing() -> None:
    site = Site()
    began = site.start()
    site.state.unused(began)
    assert not site.state.proven
    assert site.state.refusal is None
    assert site.state.in_flight == 0
    with pytest.raises(AssertionError, match="bracketed"):
        site.state.unused(began)


@pytest.mark.parametrize("latency", [math.nan, -1.0, 0.0, math.inf])
def test_odd_latencies_do_no_harm(latency: float) -> None:
    state = HostState(HostPolicy(delay=0.0))
    for n in range(20):
        state.started(float(n))
        state.ended(n + 0.5, Exchange(float(n), latency=latency))
    assert 1 <= state.limit <= 8


# Keeping ----------------------------------------------------------------------------------------


def reload(site: Site, *, passed: float = 0.0, moved: float = 0.0) -> HostState:
    """The state after *passed* seconds in another process whose wall clock was *moved*."""
    saved = site.state.save(site.now, WALL)
    assert len(saved) < 300
    return HostState.load(saved, site.state.policy, 5.0, WALL + passed + moved)


def test_a_new_host_is_unproven() -> None:
    state = HostState.load(None, HostPolicy(), 5.0, WALL)
    assert not state.proven
    assert state.ready_at(5.0) == 5.0


def test_pace_survives() -> None:
    site = Site(delay=2.0)
    for _ in range(20):
        site.ask()
    site.state.set_crawl_delay(9.0)
    site.ask(429, retry_after=60.0)
    state = reload(site, passed=20.0)
    assert state.proven
    assert state.delay == 9.0
    assert state._pauses == 1
    assert state.limit == site.state.limit > 1
    assert state.ready_at(5.0) == pytest.approx(5.0 + 40.0, abs=0.01)


def test_the_delay_survives() -> None:
    site = Site(delay=30.0)
    began = site.start()
    site.end(began, after=1.0)
    assert reload(site, passed=9.0).ready_at(5.0) == pytest.approx(5.0 + 20.0, abs=0.01)
    assert reload(site, passed=99.0).ready_at(5.0) == 5.0


@pytest.mark.parametrize("moved", [86_400.0, -86_400.0, -1e9])
def test_a_moved_clock_costs_the_cap_at_most(moved: float) -> None:
    site = Site(delay=2.0, max_retry_after=100.0)
    site.ask(429, retry_after=60.0)
    ready = reload(site, moved=moved).ready_at(5.0)
    assert ready is not None
    assert 5.0 <= ready <= 5.0 + 100.0


def test_what_was_learnt_long_ago_is_forgotten_but_not_what_was_asked() -> None:
    site = Site()
    for _ in range(20):
        site.ask()
    site.ask(429)
    state = reload(site, passed=STALE + 10)
    assert not state.proven
    assert state.limit == 1
    assert state._pauses == 1


def test_a_host_given_up_stays_given_up() -> None:
    site = Site(max_pauses=1)
    site.ask(429)
    assert reload(site, passed=1e6).refusal == "throttled"


@pytest.mark.parametrize(
    "saved",
    [
        b"",
        b"[]",
        b"nonsense",
        b"\xff\xfe",
        b'{"window":"8"}',
        b'{"window":NaN}',
        b'{"window":1e999}',
        b'{"pauses":-1}',
        b'{"pauses":true}',
        b'{"quiet":null}',
        b'{"answered":1}',
        b'{"refusal":5}',
        b'{"refusal":""}',
        b'{"refusal":"' + b"x" * 100 + b'"}',
        b'{"x":"' + b"x" * 10_000 + b'"}',
        b"[" * 4000,
        b"\x80\x04\x95",
    ],
)
def test_damaged_state_is_refused(saved: bytes) -> None:
    with pytest.raises(DamagedState, match="pace of a host"):
        HostState.load(saved, HostPolicy(), 5.0, WALL)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(
                ("window", "baseline", "pauses", "unreached", "started", "quiet", "crawl_delay"),
                st.floats(0, 1e11) | st.integers(0, 10**11),
            ),
            "answered": st.booleans(),
            "failed_last": st.booleans(),
        },
    )
)
def test_whatever_was_saved_is_clamped(record: dict[str, Any]) -> None:
    policy = HostPolicy(delay=1.0)
    state = HostState.load(json.dumps(record).encode(), policy, 5.0, WALL)
    ready = state.ready_at(5.0)
    assert ready is not None
    assert 5.0 <= ready <= 5.0 + max(policy.max_retry_after, policy.max_crawl_delay)
    assert 1 <= state.limit <= policy.per_host
    assert state.refusal is None
    state.started(ready)
    state.ended(ready + 1, Exchange(ready))


# Any host ---------------------------------------------------------------------------------------

ANSWERS = st.one_of(
    st.builds(
        lambda status, retry_after: {"status": status, "retry_after": retry_after},
        st.sampled_from([200, 204, 301, 403, 404, 408, 425, 429, 429, 429, 500, 503, 503]),
        st.sampled_from([None, None, 0.0, 0.001, 1.0, 5.0, 1e9]),
    ),
    st.sampled_from([
        {"kind": "broken", "status": 0, "reason": "conn_reset"},
        {"kind": "unreached", "status": 0, "reason": "connect_refused"},
    ]),
)


class AnyHost(RuleBasedStateMachine):
    """A host that answers as it likes, on a clock held by hand."""

    @initialize(
        delay=st.sampled_from([0.0, 0.2, 10.0]),
        per_host=st.integers(1, 6),
        adaptive=st.booleans(),
        max_pauses=st.integers(1, 10),
    )
    def begin(self, delay: float, per_host: int, adaptive: bool, max_pauses: int) -> None:
        self.policy = HostPolicy(
            delay=delay, per_host=per_host, adaptive=adaptive, max_pauses=max_pauses
        )
        self.state = HostState(self.policy)
        self.now = 1000.0
        self.flying: list[float] = []
        self.last_start = -math.inf
        self.paused_at = -math.inf
        self.quiet_until = -math.inf

    @rule(seconds=st.sampled_from([0.001, 0.1, 1.0, 7.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(patient=st.booleans())
    def start(self, patient: bool) -> None:
        ready = self.state.ready_at(self.now)
        if ready is None:
            assert self.flying, "blocked with nothing in flight: nobody would ever wake it"
            return
        assert ready >= self.now
        if ready == math.inf:
            assert self.state.refusal is not None
            return
        if ready > self.now and not patient:
            return
        self.now = ready
        assert self.now >= self.last_start + self.policy.delay
        assert self.now >= self.quiet_until
        self.state.started(self.now)
        self.last_start = self.now
        self.flying.append(self.now)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), answer=ANSWERS, jitter=st.floats(0, 1, exclude_max=True))
    def end(self, data: st.DataObject, answer: dict[str, Any], jitter: float) -> None:
        began = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        before = self.state._pauses
        self.state.ended(self.now, Exchange(began, latency=self.now - began, **answer), jitter)
        if began <= self.paused_at:
            assert self.state._pauses == before
        elif throttles(answer["status"], answer.get("retry_after")):
            assert self.state._pauses == before + 1
            asked = min(answer["retry_after"] or 0.0, self.policy.max_retry_after)
            self.paused_at = self.now
            self.quiet_until = max(self.quiet_until, self.now + max(asked, 1.0))
            rest = self.state.quiet_until - self.now
            assert rest <= max(self.policy.max_retry_after, CEILING) + 1e-6

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        self.state.unused(self.now)

    @precondition(lambda self: not self.flying)
    @rule(asleep=st.sampled_from([0.0, 3.0, 1000.0]))
    def restart(self, asleep: float) -> None:
        saved = self.state.save(self.now, WALL + self.now)
        refusal, pauses = self.state.refusal, self.state._pauses
        self.now += asleep
        # Dates are kept to the millisecond, so a resumed host may go that much earlier.
        self.last_start -= 0.002
        self.quiet_until -= 0.002
        self.state = HostState.load(saved, self.policy, self.now, WALL + self.now)
        assert (self.state.refusal, self.state._pauses) == (refusal, pauses)

    @invariant()
    def in_bounds(self) -> None:
        if hasattr(self, "state"):
            state = self.state
            assert state.in_flight == len(self.flying) <= self.policy.per_host
            assert 1 <= state.limit <= self.policy.per_host
            assert 0 <= state._pauses <= self.policy.max_pauses
            assert 0 <= state._unreached <= MAX_UNREACHED
            if not state.proven:
                assert state.limit == 1


TestAnyHost = AnyHost.TestCase
TestAnyHost.settings = settings(stateful_step_count=30)


@given(answers=st.lists(ANSWERS, min_size=1, max_size=12), pages=st.integers(1, 8))
def test_every_crawl_ends(answers: list[dict[str, Any]], pages: int) -> None:
    """Whatever a host answers, over and over: each page ends within its attempts, or the host."""
    site = Site(adaptive=False, per_host=3)
    retry = Retry()
    todo = [0] * pages  # attempts charged
    ended = asked = 0
    bound = (3 * pages + 1) * site.state.policy.max_pauses * site.state.policy.per_host
    while todo and site.state.refusal is None:
        assert asked <= bound, "it goes on and on"
        flying = []
        while todo and site.state.ready_at(site.now) is not None:
            flying.append((site.start(), todo.pop(0)))
        for began, attempt in flying:
            answer = answers[asked % len(answers)]
            asked += 1
            site.now += 0.01
            site.state.ended(site.now, Exchange(began, latency=0.01, **answer))
            status = answer["status"]
            if throttles(status, answer.get("retry_after")):
                todo.append(attempt)
            elif status in {200, 204}:
                ended += 1
            else:
                reason = answer.get("reason", f"http_{status}")
                verdict = judge(reason, attempt=attempt, policy=retry, wall_now=0.0, jitter=0.5)
                if isinstance(verdict, Dead):
                    ended += 1
                else:
                    todo.append(attempt + 1)
    assert ended + len(todo) == pages
