"""The gate of a crawl that many workers share, on a manual clock: one worker's side of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from scraper.config import HostRule, Politeness
from scraper.errors import Throttled
from scraper.host import Host, Start
from scraper.http import Request
from scraper.politeness import Exchange
from scraper.robots import Origin, Robots
from scraper.work import Committed, HostLease, HostReturn, Lease
from tests.test_gate import EASY, Bench

A, B = "http://a", "http://b"


class Shared(Bench):
    """A gate of a worker among others; `commit` is one that tells and hears."""

    def __init__(self, politeness: Politeness = EASY, worker: str = "w0") -> None:
        super().__init__(politeness, worker=worker)
        self.ids = 0

    def commit(
        self, *granted: HostLease, wished: Sequence[str] = (), n: int = 0, keep: Sequence[str] = ()
    ) -> tuple[list[HostReturn], list[str]]:
        """What is given back, and what is asked for by name."""
        returned = list(self.gate.give_back(keep=keep))
        want = self.gate.want(n, alone=False)
        self.gate.grant(list(granted), want)
        self.gate.hear(Committed([], 0, wished=wished))
        return returned, list(want.hosts) if want is not None else []

    def host_lease(self, host: str, count: int = 0, state: bytes | None = None) -> HostLease:
        leases = []
        for _ in range(count):
            self.ids += 1
            leases.append(Lease(self.ids, host, Request(f"{host.partition('#')[0]}/{self.ids}")))
        return HostLease(host, state, leases)

    def turn(self, host: str, patience: float = 60.0) -> asyncio.Task[float]:
        reached = self.gate.roster.reach(host)
        return asyncio.ensure_future(self.gate.turn(reached, f"{host}/x", patience))

    def settle(self, start: Start) -> None:
        assert self.gate.sharing is not None
        start.host.busy_pages -= 1
        self.gate.sharing.settled(start.host, start.lease)


def call_ended(bench: Shared, host: Host, began: float) -> None:
    bench.gate.ended(host, Exchange(began))


# -- wishes -----------------------------------------------------------------------------------


async def test_a_call_waits_until_its_host_is_handed_out() -> None:
    bench = Shared()
    call = bench.turn(A)
    await asyncio.sleep(0)
    bench.go()
    assert not call.done()
    assert bench.gate.asks(bench.clock.monotonic())
    assert bench.commit(bench.host_lease(A)) == ([], [A])
    bench.go()
    assert await call == bench.clock.monotonic()
    assert bench.commit() == ([], [])


async def test_a_wish_is_told_again_and_again_but_not_all_the_time() -> None:
    bench = Shared()
    call = bench.turn(A)
    await asyncio.sleep(0)
    for _ in range(4):
        assert bench.gate.asks(bench.clock.monotonic())
        assert bench.commit()[1] == [A]
        assert not bench.gate.asks(bench.clock.monotonic())
        assert bench.gate.next_time(room=True) == bench.clock.monotonic() + 0.25
        bench.clock.advance(0.25)
    call.cancel()


async def test_a_call_that_gave_up_wishes_for_nothing() -> None:
    bench = Shared()
    call = bench.turn(A, patience=5)
    await asyncio.sleep(0)
    bench.clock.advance(5)
    with pytest.raises(Throttled, match="with another worker"):
        await call
    assert bench.commit() == ([], [])
    assert not bench.gate.asks(bench.clock.monotonic() + 1e9)


async def test_what_was_wished_for_is_given_back_once_it_has_nothing_to_do() -> None:
    bench = Shared()
    call = bench.turn(A)
    await asyncio.sleep(0)
    bench.commit(bench.host_lease(A))
    bench.go()
    began = await call
    assert bench.commit()[0] == []
    call_ended(bench, bench.gate.host(A), began)
    bench.commit()
    (returned,), _ = bench.commit()
    assert (returned.host, returned.out) == (A, [])


def test_whoever_holds_something_hears_of_wishes_soon() -> None:
    bench = Shared()
    bench.commit(bench.host_lease(A, 5))
    bench.commit(n=10)
    assert bench.gate.next_time(room=False) == bench.clock.monotonic() + 0.5


# -- hosts that others wish for ----------------------------------------------------------------


def test_a_host_that_is_wished_for_starts_nothing_more_and_goes_when_all_has_ended() -> None:
    bench = Shared()
    bench.commit(bench.host_lease(A, 20))
    (first,) = bench.go()
    bench.gate.ended(first.host, Exchange(first.began))
    bench.settle(first)
    going = bench.go()
    assert len(going) == 4
    bench.clock.advance(5.0)
    bench.commit(wished=[A])
    assert bench.gate.asks(bench.clock.monotonic())
    for start in going[:3]:
        bench.gate.ended(start.host, Exchange(start.began))
        assert bench.go() == []
    assert bench.commit()[0] == []
    bench.gate.ended(going[3].host, Exchange(going[3].began))
    assert bench.gate.asks(bench.clock.monotonic())
    (returned,), _ = bench.commit()
    # their callbacks are not through: these leases stay, the fifteen others go
    assert returned.out == [start.lease.id for start in going]
    assert bench.gate.leased == 0
    for start in going:
        bench.settle(start)
    bench.commit(bench.host_lease(A, 1))
    assert len(bench.go()) == 1


def test_a_host_that_just_came_may_be_used_for_a_second() -> None:
    bench = Shared()
    bench.commit(bench.host_lease(A, 20), wished=[A])
    assert bench.commit()[0] == []
    (start,) = bench.go()
    bench.gate.ended(start.host, Exchange(start.began))
    bench.clock.advance(0.9)
    (*_, start) = bench.go()
    bench.clock.advance(0.1)
    bench.gate.ended(start.host, Exchange(start.began))
    assert bench.go() == []


def test_who_has_done_nothing_yet_has_a_little_longer() -> None:
    bench = Shared()
    bench.commit(bench.host_lease(A, 2), wished=[A])
    bench.clock.advance(2.5)
    assert bench.commit()[0] == []
    (start,) = bench.go()
    bench.gate.ended(start.host, Exchange(start.began))
    (returned,), _ = bench.commit()
    assert returned.out == [start.lease.id]
    bench.commit(bench.host_lease(B, 2), wished=[B])
    bench.clock.advance(3.0)
    (returned,), _ = bench.commit()
    assert returned.host == B


async def test_calls_at_a_host_that_leaves_wish_for_it_when_others_had_their_turn() -> None:
    bench = Shared(Politeness(robots=False, delay=2.0, adaptive=False))
    bench.commit(bench.host_lease(A))
    calls = [bench.turn(A), bench.turn(A)]
    await asyncio.sleep(0)
    bench.go()
    began = await calls[0]
    call_ended(bench, bench.gate.host(A), began)
    bench.commit(wished=[A])
    bench.clock.advance(1.0)
    (returned,), hosts = bench.commit()
    assert hosts == []
    assert returned.due == pytest.approx(bench.clock.wall() + 1.0)
    bench.clock.advance(1.4)
    assert bench.commit() == ([], [])
    bench.clock.advance(0.1)
    assert bench.commit() == ([], [A])
    assert not calls[1].done()
    calls[1].cancel()


def test_what_is_kept_is_kept_whoever_wishes() -> None:
    bench = Shared()
    bench.commit(bench.host_lease(A, 2), wished=[A])
    bench.clock.advance(10)
    assert bench.commit(keep=[A])[0] == []


def test_a_page_that_had_to_be_marked_gets_its_time() -> None:
    bench = Shared()
    bench.commit(bench.host_lease(A, 2), wished=[A])
    (start,) = bench.go()
    bench.gate.unused(start.host, start.began)
    bench.clock.advance(8.0)  # the commit took its time
    bench.commit(keep=[A])
    bench.gate.put_back(start.host, start.lease)
    (again,) = bench.go()
    assert again.lease is start.lease
    bench.gate.unused(again.host, again.began)
    bench.gate.put_back(again.host, again.lease)
    bench.clock.advance(2.0)
    assert list(bench.gate.withdraw([again.lease.id])) == [again.lease]
    (returned,), _ = bench.commit()
    assert returned.out == []


def test_what_runs_alone_goes_before_its_host_does() -> None:
    bench = Shared()
    alone = bench.host_lease(A, 1)
    alone.requests[0].alone = True
    bench.commit(alone, wished=[A])
    bench.clock.advance(10.0)
    bench.commit(keep=[A])
    (start,) = bench.go()
    assert start.lease is alone.requests[0]
    bench.gate.ended(start.host, Exchange(start.began))
    bench.settle(start)
    (returned,), _ = bench.commit()
    assert returned.host == A


def test_at_the_end_all_leases_go_back() -> None:
    bench = Shared()
    bench.commit(bench.host_lease(A, 3))
    bench.go()
    (returned,) = bench.gate.give_back(everything=True)
    assert returned.out == ()


def test_what_runs_alone_keeps_its_host_until_it_has_started() -> None:
    """Then its callback may wait for a host of another worker, and one there for this."""
    bench = Shared()
    alone = bench.host_lease(A, 1)
    (lease,) = alone.requests
    lease.alone = True
    bench.commit(alone)
    assert bench.gate.keeps_for(lease)
    (start,) = bench.go()
    assert not bench.gate.keeps_for(lease)
    bench.gate.ended(start.host, Exchange(start.began))
    bench.commit(wished=[A])
    bench.clock.advance(10.0)
    (returned,), _ = bench.commit()
    assert (returned.host, returned.out) == (A, [lease.id])
    assert not bench.gate.keeps_for(lease)
    bench.settle(start)


def test_a_wish_that_cannot_be_met_yet_asks_for_one_commit() -> None:
    bench = Shared()
    bench.commit(bench.host_lease(A, 1))
    bench.go()
    bench.commit(wished=[A])
    assert bench.gate.asks(bench.clock.monotonic())
    for _ in range(3):
        bench.commit(wished=[A])
        assert not bench.gate.asks(bench.clock.monotonic())
        bench.clock.advance(0.25)
        assert bench.gate.asks(bench.clock.monotonic())


# -- what others did meanwhile -----------------------------------------------------------------


def test_the_pace_is_the_one_that_came_with_the_host() -> None:
    slow = Politeness(robots=False, delay=2.0, adaptive=False)
    one, other = Shared(slow), Shared(slow, "w1")
    one.commit(one.host_lease(A, 1))
    (start,) = one.go()
    one.gate.ended(start.host, Exchange(start.began))
    one.settle(start)
    (returned,), _ = one.commit()
    assert returned.due == pytest.approx(one.clock.wall() + 2.0)
    for bench in (one, other):
        bench.clock.advance(100.0)
    other.commit(other.host_lease(A, 1, returned.state))
    (start,) = other.go()
    other.end(start, status=429, retry_after=30.0)
    (back,) = other.gate.give_back(everything=True)
    assert back.due == pytest.approx(other.clock.wall() + 30.0)
    one.clock.advance(30.0)
    one.commit(one.host_lease(A, 1, back.state))
    assert len(one.go()) == 1


def test_a_pause_is_over_when_the_frontier_says_so() -> None:
    """The clock of the machine that was told to pause may be an hour ahead of ours."""
    quick = Politeness(robots=False, delay=0.0, adaptive=False)
    ahead, behind = Shared(quick), Shared(quick, "w1")
    ahead.clock.advance(3600.0)
    ahead.commit(ahead.host_lease(A, 1))
    (start,) = ahead.go()
    ahead.end(start, status=429, retry_after=30.0)
    (back,) = ahead.gate.give_back(everything=True)
    behind.clock.advance(30.0)
    behind.commit(behind.host_lease(A, 1, back.state))
    (start,) = behind.go()
    behind.end(start)


def test_a_date_of_the_past_keeps_nobody_in_line() -> None:
    """It was to rest for long, and was given back; then the host came again, and need not."""
    bench = Shared()
    bench.commit(bench.host_lease(A, 2))
    (start,) = bench.go()
    bench.gate.ended(start.host, Exchange(start.began, status=429, retry_after=3000.0))
    assert bench.go() == []
    bench.settle(start)
    ((returned,), _) = bench.commit()
    assert returned.host == A
    bench.commit(bench.host_lease(A, 1))
    assert len(bench.go()) == 1


def test_rules_of_robots_txt_come_with_the_host() -> None:
    origin = Origin()
    origin.settle(0.0, Robots.parse(b"User-agent: *\nDisallow: /no\nCrawl-delay: 7", "scraper"))
    bench = Shared(Politeness(robots=True, delay=0.0, adaptive=False))
    wall = bench.clock.wall()
    granted = bench.host_lease(A, 2)
    granted.robots = origin.save("scraper", 0.0, wall)
    bench.commit(granted)
    (start,) = bench.go()
    assert bench.robots == []
    bench.gate.ended(start.host, Exchange(start.began))
    bench.settle(start)
    (returned,), _ = bench.commit()
    assert returned.robots is None  # all know that
    assert returned.due == pytest.approx(wall + 7.0)


def test_what_was_learnt_goes_back_with_the_host() -> None:
    bench = Shared(Politeness(robots=True, delay=0.0, adaptive=False))
    bench.commit(bench.host_lease(A, 1))
    bench.go()
    ((host, began),) = bench.robots
    bench.gate.ended(host, Exchange(began))
    host.origin.settle(bench.clock.monotonic(), Robots.parse(b"Disallow: /", "x"))
    bench.gate.robots_known(host, bench.clock.monotonic())
    (returned,) = bench.gate.give_back(everything=True)
    assert returned.robots is not None
    other = Shared(Politeness(robots=True, delay=0.0, adaptive=False), "w1")
    granted = other.host_lease(A, 1)
    granted.robots = returned.robots
    other.commit(granted)
    assert len(other.go()) == 1
    assert other.robots == []


# -- slots ------------------------------------------------------------------------------------

SLOTS = Politeness(
    robots=True, adaptive=False, delay=0.5, hosts={"a": HostRule(slots=2, per_host=5)}
)


def test_slots_have_their_part_and_one_robots_txt() -> None:
    bench = Shared(SLOTS)
    bench.commit(bench.host_lease(f"{A}#0", 3), bench.host_lease(f"{A}#1", 3))
    one, other = (bench.gate.host(f"{A}#{n}") for n in range(2))
    assert (one.policy.per_host, one.policy.delay) == (2, 1.0)
    bench.go()
    ((asked, began),) = bench.robots
    bench.gate.ended(asked, Exchange(began))
    rules = Robots.parse(b"User-agent: *\nCrawl-delay: 3", "x")
    asked.origin.settle(bench.clock.monotonic(), rules)
    bench.gate.robots_known(asked, bench.clock.monotonic())
    assert one.origin is other.origin
    assert one.state.delay == other.state.delay == 6.0
    assert [start.host for start in bench.go()] == [other if asked is one else one]
    assert bench.gate.waiting_hosts(bench.clock.monotonic()) == 1


def test_a_pause_of_one_slot_is_one_of_all_that_are_here_and_is_told() -> None:
    plain = SLOTS.model_copy(update={"robots": False})
    bench = Shared(plain)
    bench.commit(bench.host_lease(f"{A}#0", 3), bench.host_lease(f"{A}#1", 3))
    started = bench.go()
    assert len(started) == 2
    first, second = started
    bench.gate.ended(first.host, Exchange(first.began, status=429, retry_after=30.0))
    bench.settle(first)
    bench.gate.ended(second.host, Exchange(second.began))
    bench.settle(second)
    bench.clock.advance(2.0)
    assert bench.go() == []
    assert bench.gate.asks(bench.clock.monotonic())
    returned, _ = bench.commit()
    assert [given.quiet for given in returned] == [
        pytest.approx(bench.clock.wall() + 28.0),
        pytest.approx(bench.clock.wall() + 28.0),
    ]


def test_a_pause_that_another_slot_was_told_is_heard() -> None:
    plain = SLOTS.model_copy(update={"robots": False})
    bench = Shared(plain)
    bench.commit(bench.host_lease(f"{A}#0", 3))
    until = bench.clock.wall() + 10.0
    bench.gate.hear(Committed([], 0, quiet={f"{A}#0": until, f"{A}#1": until}))
    assert bench.go() == []
    bench.clock.advance(10.0)
    assert len(bench.go()) == 1


async def test_calls_go_to_a_slot_that_is_here_else_to_one_of_their_own() -> None:
    plain = SLOTS.model_copy(update={"robots": False})
    for held in (0, 1):
        bench = Shared(plain)
        bench.commit(bench.host_lease(f"{A}#{held}"))
        assert bench.gate.roster.reach(A).key == f"{A}#{held}"
    keys = {Shared(plain, f"w{n}").gate.roster.reach(A).key for n in range(20)}
    assert keys == {f"{A}#0", f"{A}#1"}
    assert Shared(plain).gate.roster.reach(B).key == B


# -- who has nothing --------------------------------------------------------------------------


def test_a_quarter_of_what_waits_here_goes_to_those_that_have_nothing() -> None:
    bench = Shared()
    hosts = [f"http://h{n}" for n in range(8)]
    bench.commit(*(bench.host_lease(host, 2) for host in hosts))
    bench.clock.advance(5.0)
    bench.gate.hear(Committed([], 0, hungry=1))
    bench.gate.hear(Committed([], 0, hungry=1))  # at once again: they have not had a chance yet
    returned, _ = bench.commit()
    assert len(returned) == 2
    bench.clock.advance(1.0)
    bench.gate.hear(Committed([], 0, hungry=1))
    assert len(bench.commit()[0]) == 2


def test_slots_of_one_host_are_the_first_to_go_and_the_last_of_all_stays() -> None:
    bench = Shared(SLOTS.model_copy(update={"robots": False}))
    bench.commit(
        bench.host_lease(B, 9), bench.host_lease(f"{A}#0", 3), bench.host_lease(f"{A}#1", 2)
    )
    bench.clock.advance(5.0)
    bench.gate.hear(Committed([], 0, hungry=9))
    (returned,), _ = bench.commit()
    assert returned.host == f"{A}#0"
    alone = Shared()
    alone.commit(alone.host_lease(A, 9))
    alone.clock.advance(5.0)
    alone.gate.hear(Committed([], 0, hungry=9))
    assert alone.commit()[0] == []
