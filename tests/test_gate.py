"""The gate, on a manual clock: who goes next, and who must wait."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from scraper.config import HostRule, Politeness
from scraper.errors import FetchError, Throttled
from scraper.gate import Gate
from scraper.host import Host, Start
from scraper.http import Request
from scraper.politeness import Exchange
from scraper.robots import Robots
from scraper.testing.clock import ManualClock
from scraper.work import HostLease, Lease

EASY = Politeness(robots=False, delay=0.0, per_host=4, adaptive=False)


class Bench:
    """A gate with its surroundings recorded."""

    def __init__(
        self, politeness: Politeness = EASY, concurrency: int = 8, worker: str = ""
    ) -> None:
        self.clock = ManualClock()
        self.robots: list[tuple[Host, float]] = []
        self.gate = Gate(
            politeness,
            self.clock,
            concurrency=concurrency,
            fetch_robots=lambda host, began: self.robots.append((host, began)),
            wake=lambda: None,
            jitter=lambda: 0.5,
            worker=worker,
            agent="scraper",
        )
        self._ids = 0

    def lease(self, host: str, count: int = 1) -> None:
        leases = []
        for _ in range(count):
            self._ids += 1
            leases.append(Lease(self._ids, host, Request(f"{host}/{self._ids}")))
        self.gate.grant([HostLease(host, None, leases)])

    def go(self) -> list[Start]:
        """Start all that may start now."""
        now = self.clock.monotonic()
        self.gate.park(now)
        self.gate.serve_calls(now)
        started = []
        while (start := self.gate.next_page(now)) is not None:
            started.append(start)
        return started

    def end(self, start: Start, status: int = 200, retry_after: float | None = None) -> None:
        self.gate.ended(
            start.host, Exchange(start.began, status=status, latency=0.1, retry_after=retry_after)
        )
        start.host.busy_pages -= 1

    def prove(self, host: str) -> None:
        self.lease(host)
        (start,) = self.go()
        self.end(start)


def test_an_unproven_host_gets_one_exchange_and_then_its_share() -> None:
    bench = Bench()
    bench.lease("http://a", 6)
    (first,) = bench.go()
    assert bench.go() == []
    bench.end(first)
    assert len(bench.go()) == 4


def test_the_delay_holds_between_starts() -> None:
    bench = Bench(Politeness(robots=False, delay=2.0, per_host=4, adaptive=False))
    bench.lease("http://a", 3)
    starts = []
    for _ in range(3):
        (start,) = bench.go()
        starts.append(start.began)
        bench.end(start)
        assert bench.go() == []
        bench.clock.advance(2.0)
    assert [b - a for a, b in pairwise(starts)] == [2.0, 2.0]


def test_unproven_hosts_share_a_quarter_and_silent_ones_are_parked() -> None:
    bench = Bench(concurrency=8)
    for n in range(6):
        bench.lease(f"http://silent{n}")
    assert len(bench.go()) == 2
    assert bench.go() == []
    bench.clock.advance(0.5)
    assert len(bench.go()) == 2
    assert bench.gate.parking.parked == 2
    assert bench.gate.parking.pages == 2


def test_a_parked_exchange_that_ends_gives_its_place_back_once() -> None:
    bench = Bench(concurrency=4)
    bench.lease("http://slow", 2)
    (start,) = bench.go()
    bench.clock.advance(1.0)
    bench.go()
    assert bench.gate.parking.pages == 1
    bench.end(start)
    assert (bench.gate.parking.parked, bench.gate.parking.pages) == (0, 0)
    assert len(bench.go()) == 1


def test_unproven_hosts_do_not_count_as_stock() -> None:
    bench = Bench()
    bench.prove("http://known")
    bench.lease("http://new", 5)
    assert (bench.gate.leased, bench.gate.stock) == (5, 0)
    bench.lease("http://known", 3)
    assert bench.gate.stock == 3


def test_a_pause_sends_the_host_back_with_its_date() -> None:
    bench = Bench()
    bench.lease("http://a", 3)
    (start,) = bench.go()
    bench.end(start, status=429, retry_after=30.0)
    assert bench.go() == []
    (returned,) = bench.gate.give_back()
    assert returned.host == "http://a"
    assert returned.due == pytest.approx(bench.clock.wall() + 30.0)
    assert bench.gate.leased == 0


def test_a_host_with_work_that_may_go_soon_is_kept() -> None:
    bench = Bench()
    bench.lease("http://a", 3)
    assert list(bench.gate.give_back()) == []


def test_robots_goes_first_and_denies() -> None:
    bench = Bench(Politeness(robots=True, delay=0.0, adaptive=False))
    bench.lease("http://a", 2)
    assert bench.go() == []
    ((host, began),) = bench.robots
    bench.gate.ended(host, Exchange(began))
    host.origin.settle(bench.clock.monotonic(), Robots.parse(b"User-agent: *\nDisallow: /1", "x"))
    bench.gate.touch(host, bench.clock.monotonic())
    denied, allowed = bench.go()
    assert denied.refused == "robots_denied"
    assert allowed.refused is None
    assert host.inflight == 1
    assert len(bench.robots) == 1


def test_a_host_that_was_given_up_refuses_everything_at_once() -> None:
    bench = Bench(Politeness(robots=False, delay=0.0, adaptive=False, max_pauses=1))
    bench.lease("http://a", 3)
    (start,) = bench.go()
    bench.end(start, status=429)
    assert [s.refused for s in bench.go()] == ["throttled", "throttled"]


def test_host_rules_apply() -> None:
    bench = Bench(
        Politeness(
            robots=False,
            delay=5.0,
            adaptive=False,
            hosts={"127.*": HostRule(delay=0.0, per_host=2)},
        )
    )
    bench.prove("http://127.0.0.1:80")
    bench.lease("http://127.0.0.1:80", 3)
    assert len(bench.go()) == 2


async def test_a_call_goes_before_pages_and_needs_no_worker() -> None:
    bench = Bench()
    bench.prove("http://a")
    call = asyncio.ensure_future(bench.gate.turn(bench.gate.host("http://a"), "http://a/x", 60))
    await asyncio.sleep(0)
    bench.gate.serve_calls(bench.clock.monotonic())
    assert await call == bench.clock.monotonic()
    assert bench.gate.host("http://a").inflight == 1


async def test_a_call_gives_up_with_the_date_when_the_host_may_go() -> None:
    bench = Bench()
    bench.lease("http://a")
    (start,) = bench.go()
    bench.end(start, status=429, retry_after=100.0)
    call = asyncio.ensure_future(bench.gate.turn(start.host, "http://a/x", 60))
    await asyncio.sleep(0)
    bench.clock.advance(60)
    with pytest.raises(Throttled) as caught:
        await call
    assert caught.value.at == pytest.approx(bench.clock.wall() + 40.0)


async def test_a_cancelled_call_frees_the_turn_it_was_given() -> None:
    bench = Bench()
    bench.prove("http://a")
    host = bench.gate.host("http://a")
    call = asyncio.ensure_future(bench.gate.turn(host, "http://a/x", 60))
    await asyncio.sleep(0)
    bench.gate.serve_calls(bench.clock.monotonic())
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert host.inflight == 0


async def test_a_call_that_robots_forbids_is_refused_without_an_exchange() -> None:
    bench = Bench(Politeness(robots=True, delay=0.0, adaptive=False))
    host = bench.gate.host("http://a")
    host.origin.settle(0.0, Robots.parse(b"User-agent: *\nDisallow: /", "x"))
    call = asyncio.ensure_future(bench.gate.turn(host, "http://a/x", 60))
    await asyncio.sleep(0)
    bench.gate.serve_calls(bench.clock.monotonic())
    with pytest.raises(FetchError) as caught:
        await call
    assert caught.value.reason == "robots_denied"
    assert host.inflight == 0


def test_a_host_that_answered_and_became_slow_keeps_no_workers() -> None:
    bench = Bench()
    for host in ("http://slow", "http://quick"):
        bench.prove(host)
    for host in ("http://slow", "http://quick"):
        bench.lease(host, 6)
    slow = [start for start in bench.go() if start.host.key == "http://slow"]
    assert len(slow) == 4
    bench.clock.advance(0.9)
    bench.go()
    assert bench.gate.parking.pages == 0
    assert bench.gate.next_time(room=False) <= bench.clock.monotonic() + 0.2
    bench.clock.advance(0.2)
    bench.go()
    parking = bench.gate.parking
    assert parking.pages == parking.parked == 8  # the quick one's have not ended yet
    for start in slow:
        bench.end(start)
    assert parking.pages == parking.parked == 4


def test_a_slow_host_alone_keeps_to_the_number_of_workers() -> None:
    bench = Bench()
    bench.prove("http://slow")
    bench.lease("http://slow", 100)
    for _ in range(20):
        for start in bench.go():
            bench.clock.advance(0.0)
            if start.lease.id % 2:
                bench.end(start)
        bench.clock.advance(2.0)
    assert bench.gate.parking.pages == 0
    assert len(bench.gate.parking.line) <= 4


def test_an_exchange_that_was_not_sent_after_all_is_not_parked() -> None:
    bench = Bench()
    for host in ("http://a", "http://b"):
        bench.prove(host)
    bench.lease("http://a")
    (start,) = bench.go()
    bench.gate.unused(start.host, start.began)
    bench.clock.advance(2.0)
    bench.go()
    assert bench.gate.parking.pages == 0


def test_what_must_wait_for_its_delay_is_no_stock() -> None:
    """Else a few hosts with many pages each would keep all other hosts in the frontier."""
    bench = Bench(Politeness(robots=False, delay=0.1, per_host=4, adaptive=False))
    bench.prove("http://a")
    bench.prove("http://b")
    bench.clock.advance(1.0)
    bench.lease("http://a", 50)
    assert bench.gate.leased == 50
    assert bench.gate.stock == 2  # one each 0.1 s, and a little more
    bench.lease("http://b", 2)
    assert bench.gate.stock == 3
    assert bench.gate.low() == ["http://b"]
    unhurried = Bench()
    unhurried.prove("http://a")
    unhurried.lease("http://a", 50)
    assert unhurried.gate.stock == 50
