"""The promises of a `Frontier`, as tests: derive from `FrontierContract` and run them on yours.

::

    class TestMine(FrontierContract):
        async def make(self) -> Frontier:
            return MyFrontier(wall=self.wall)

        async def crash(self, frontier: Frontier) -> Frontier:
            ...  # drop its connection without closing it; a new one over the same store

Needs pytest with pytest-asyncio in its automatic mode. No test sleeps: `self.wall` is the clock.
"""

# ruff: noqa: S101 - these are tests
from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from scraper import urls
from scraper.http import Request
from scraper.protocols import Frontier
from scraper.work import (
    Again,
    Batch,
    Committed,
    Dead,
    Done,
    Found,
    HostLease,
    HostReturn,
    Lease,
    Recovery,
    Redo,
    Settled,
    Verdict,
    Want,
)

__all__ = ["FrontierContract", "Wall", "found", "leases", "settle"]

Test = TypeVar("Test", bound=Callable[..., Any])

A, B, C = "https://a.example", "https://b.example", "https://c.example"


class Wall:
    """A wall clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def found(url: str, *, chain: tuple[int, ...] = (), depth: int = 0, **options: Any) -> Found:
    """A request that asks to be admitted, as the scheduler would put it."""
    request = Request(url, **options)
    number = request.fingerprint if request.unique else None
    return Found(request, urls.host_key(request.url), number, depth, chain=chain)


def leases(hosts: Iterable[HostLease]) -> list[Lease]:
    """All requests that were handed out."""
    return [lease for host in hosts for lease in host.requests]


def paths(given: Iterable[Lease]) -> list[str]:
    """The last part of their URLs."""
    return [lease.request.url.rsplit("/", 1)[1] for lease in given]


def settle(
    given: Iterable[Lease], verdict: Verdict | None = None, links: Sequence[Found] = ()
) -> list[Settled]:
    """The same end for every lease."""
    return [Settled(lease, verdict or Done(), links) for lease in given]


def back(hosts: Iterable[HostLease], due: float = 0.0, state: bytes = b"{}") -> list[HostReturn]:
    """Every host given back."""
    return [HostReturn(host.host, state, due) for host in hosts]


def needs_durable(test: Test) -> Test:
    """Marks a test of what survives the process."""
    test.needs_durable = True  # type: ignore[attr-defined]
    return test


class FrontierContract:
    """Derive, say how to `make` one, and (if it is durable) how to `crash` and `reopen` it."""

    durable = True
    """False: nothing survives closing, and the tests of that are skipped."""

    wall: Wall

    async def make(self) -> Frontier:
        """An empty frontier by the clock `self.wall`, not opened yet; others are not affected."""
        raise NotImplementedError

    async def reopen(self, frontier: Frontier) -> Frontier:
        """Another one over the store of *frontier*, which was closed; not opened yet."""
        raise NotImplementedError

    async def crash(self, frontier: Frontier) -> Frontier:
        """The same, with *frontier* dropped as it is: nothing of it may be written any more."""
        raise NotImplementedError

    # Help ---------------------------------------------------------------------------------------

    @pytest_asyncio.fixture(autouse=True)
    async def frontiers(self, request: pytest.FixtureRequest) -> AsyncIterator[None]:
        """A clock for each test, and the closing of what it opened."""
        if getattr(request.function, "needs_durable", False) and not self.durable:
            pytest.skip("this frontier forgets")
        self.wall = Wall()
        self._opened: list[Frontier] = []
        yield
        for frontier in self._opened:
            await frontier.aclose(clean=False)

    async def start(self, *seeds: Found) -> Frontier:
        """An open frontier with these requests."""
        frontier = await self.make()
        await self._open(frontier)
        if seeds:
            await frontier.commit(Batch(seeds=list(seeds)))
        return frontier

    async def _open(self, frontier: Frontier) -> Recovery:
        recovery = await frontier.open()
        self._opened.append(frontier)
        return recovery

    async def killed(self, frontier: Frontier) -> tuple[Frontier, Recovery]:
        """Crash and open again."""
        new = await self.crash(frontier)
        return new, await self._open(new)

    async def closed(self, frontier: Frontier) -> tuple[Frontier, Recovery]:
        """Close cleanly and open again."""
        await frontier.aclose()
        new = await self.reopen(frontier)
        return new, await self._open(new)

    async def drain(self, frontier: Frontier, limit: int = 1000) -> list[str]:
        """Work off everything, the waiting times too; the URLs in the order of handing out."""
        done: list[str] = []
        for _ in range(limit):
            due = frontier.next_due()
            if due is None:
                return done
            if math.isfinite(due):
                self.wall.now = max(self.wall.now, due)
            hosts = await frontier.acquire(Want(10, alone=True))
            given = leases(hosts)
            done += [lease.request.url for lease in given]
            await frontier.commit(Batch(settled=settle(given), returned=back(hosts)))
        raise AssertionError(f"not drained after {limit} rounds: {done[-5:]}")

    # Admission ----------------------------------------------------------------------------------

    async def test_an_empty_one_is_fresh_and_drained(self) -> None:
        frontier = await self.make()
        recovery = await self._open(frontier)
        assert recovery.fresh
        assert not recovery.unclean
        assert recovery.pending == 0
        assert frontier.next_due() is None
        assert await frontier.acquire(Want(10, alone=True)) == []
        assert frontier.next_due() is None

    async def test_a_request_comes_back_as_it_was(self) -> None:
        url = f"{A}/form?q=1"
        asked = found(
            url,
            depth=3,
            callback="parse_item",
            errback="failed",
            method="POST",
            headers={"X-A": "1"},
            cookies={"c": "2"},
            body=b"\x00\xff",
            priority=7,
            accept=[404],
            session="s",
            meta={"k": [1, None]},
            kwargs={"page": 2},
            timeout=3.5,
            secret=["X-A"],
        )
        frontier = await self.start(asked)
        [host] = await frontier.acquire(Want(1))
        [lease] = host.requests
        assert host.host == lease.host == A
        assert host.state is None
        assert lease.request == asked.request
        assert lease.request.fingerprint == asked.fingerprint
        assert (lease.depth, lease.attempt, lease.start, lease.alone) == (3, 0, False, False)

    async def test_start_and_attempt_are_kept(self) -> None:
        one = found(f"{A}/1")
        one.start, one.attempt = True, 2
        frontier = await self.start(one)
        [lease] = leases(await frontier.acquire(Want(1)))
        assert (lease.start, lease.attempt) == (True, 2)

    async def test_what_was_seen_is_a_duplicate(self) -> None:
        frontier = await self.start()
        answer = await frontier.commit(
            Batch(seeds=[found(f"{A}/1"), found(f"{A}/2"), found(f"{A}/1#part")])
        )
        assert (answer.admitted, answer.duplicates, answer.pending) == (2, 1, 2)
        assert answer.redirect_duplicates == []
        hosts = await frontier.acquire(Want(5))
        links = [found(f"{A}/1"), found(f"{A}/3")]
        [first, second] = leases(hosts)
        answer = await frontier.commit(
            Batch(settled=[Settled(first, Done(), links), Settled(second, Done(), links)])
        )
        assert (answer.admitted, answer.duplicates, answer.pending) == (1, 3, 1)

    async def test_without_a_fingerprint_all_are_admitted(self) -> None:
        again = found(f"{A}/1", unique=False)
        frontier = await self.start(found(f"{A}/1"), again, again)
        assert await self.drain(frontier) == [f"{A}/1"] * 3

    @pytest.mark.parametrize("number", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
    async def test_fingerprints_have_64_bits(self, number: int) -> None:
        one = found(f"{A}/1")
        one.fingerprint = number
        frontier = await self.start(one)
        answer = await frontier.commit(Batch(seeds=[one]))
        assert (answer.admitted, answer.duplicates) == (0, 1)

    async def test_a_redirect_to_what_another_request_fetches(self) -> None:
        frontier = await self.start(found(f"{A}/1"), found(f"{A}/2"))
        [first, _] = leases(await frontier.acquire(Want(2)))
        target = found(f"{A}/2", chain=(first.request.fingerprint,))
        answer = await frontier.commit(Batch(settled=settle([first], links=[target])))
        assert answer.redirect_duplicates == [f"{A}/2"]
        assert (answer.admitted, answer.duplicates, answer.pending) == (0, 1, 1)

    async def test_a_redirect_back_into_its_own_chain(self) -> None:
        frontier = await self.start(found(f"{A}/wall"))
        hosts = await frontier.acquire(Want(1))
        one = leases(hosts)[0].request.fingerprint
        step = found(f"{A}/cookie", chain=(one,))
        assert step.fingerprint is not None
        await frontier.commit(Batch(settled=settle(leases(hosts), links=[step])))
        given = leases(await frontier.acquire(Want(1, held=[A])))
        home = found(f"{A}/wall", chain=(one, step.fingerprint))
        answer = await frontier.commit(Batch(settled=settle(given, links=[home])))
        assert (answer.admitted, answer.duplicates, answer.redirect_duplicates) == (1, 0, [])
        assert paths(leases(await frontier.acquire(Want(1, held=[A])))) == ["wall"]

    async def test_what_cannot_be_stored_changes_nothing(self) -> None:
        frontier = await self.start()
        bad = found(f"{A}/bad")
        options = bad.request.options._replace(meta={"x": object()})
        bad.request = Request.of(bad.request.url, None, options)
        with pytest.raises(Exception, match="JSON"):
            await frontier.commit(Batch(seeds=[found(f"{A}/1"), bad, found(f"{A}/2")]))
        answer = await frontier.commit(Batch(seeds=[found(f"{A}/1"), found(f"{A}/2")]))
        assert (answer.admitted, answer.pending) == (2, 2)
        assert await self.drain(frontier) == [f"{A}/1", f"{A}/2"]

    # Verdicts -----------------------------------------------------------------------------------

    async def test_done_and_dead_admit_what_they_found(self) -> None:
        frontier = await self.start(found(f"{A}/1"), found(f"{A}/2"))
        [one, two] = leases(await frontier.acquire(Want(2)))
        answer = await frontier.commit(
            Batch(
                settled=[
                    Settled(one, Done(), [found(f"{A}/3")]),
                    Settled(two, Dead("http_404", "gone"), [found(f"{A}/4")]),
                ]
            )
        )
        assert (answer.admitted, answer.pending) == (2, 2)

    async def test_again_admits_nothing(self) -> None:
        frontier = await self.start(found(f"{A}/1"))
        given = leases(await frontier.acquire(Want(1)))
        verdict = Again(0, "timeout")
        answer = await frontier.commit(Batch(settled=settle(given, verdict, [found(f"{A}/2")])))
        assert (answer.admitted, answer.duplicates, answer.pending) == (0, 0, 1)
        answer = await frontier.commit(Batch(seeds=[found(f"{A}/2")]))
        assert answer.admitted == 1

    async def test_again_waits_for_its_date_and_charges_an_attempt(self) -> None:
        frontier = await self.start(found(f"{A}/1"), found(f"{A}/2"))
        hosts = await frontier.acquire(Want(2))
        [one, two] = leases(hosts)
        later = self.wall.now + 60
        await frontier.commit(
            Batch(
                settled=[
                    Settled(one, Again(later, "timeout")),
                    Settled(two, Again(later + 60, "throttled", charged=False)),
                ],
                returned=back(hosts),
            )
        )
        assert frontier.next_due() == later
        assert await frontier.acquire(Want(5, alone=True)) == []
        self.wall.now = later
        assert frontier.next_due() == 0
        hosts = await frontier.acquire(Want(5))
        assert [(x.id, x.attempt) for x in leases(hosts)] == [(one.id, 1)]
        self.wall.now = later + 60
        held = leases(await frontier.acquire(Want(5, held=[A])))
        assert [(x.id, x.attempt) for x in held] == [(two.id, 0)]

    async def test_a_delayed_request_of_a_held_host_has_a_date(self) -> None:
        frontier = await self.start(found(f"{A}/1"))
        given = leases(await frontier.acquire(Want(1)))
        later = self.wall.now + 5
        await frontier.commit(Batch(settled=settle(given, Again(later, "timeout"))))
        assert frontier.next_due() == later
        assert await frontier.acquire(Want(1, held=[A])) == []
        self.wall.now = later
        assert frontier.next_due() == 0
        assert paths(leases(await frontier.acquire(Want(1, held=[A])))) == ["1"]
        assert frontier.next_due() == math.inf

    async def test_a_lease_is_settled_once(self) -> None:
        frontier = await self.start(found(f"{A}/1"), found(f"{A}/2"))
        hosts = await frontier.acquire(Want(1))
        given = leases(hosts)
        with pytest.raises(ValueError, match="twice"):
            await frontier.commit(Batch(settled=settle(given) + settle(given)))
        await frontier.commit(Batch(settled=settle(given)))
        with pytest.raises(ValueError, match="not leased"):
            await frontier.commit(Batch(settled=settle(given), seeds=[found(f"{A}/3")]))
        with pytest.raises(ValueError, match="not leased"):
            await frontier.commit(Batch(sending=[given[0].id]))
        with pytest.raises(ValueError, match="not handed out"):
            await frontier.commit(Batch(returned=[HostReturn(B, b"")]))
        assert await self.drain_held(frontier, hosts) == ["2"]

    async def drain_held(self, frontier: Frontier, hosts: list[HostLease]) -> list[str]:
        """Give hosts back and work off the rest."""
        await frontier.commit(Batch(returned=back(hosts)))
        return [url.rsplit("/", 1)[1] for url in await self.drain(frontier)]

    @pytest.mark.parametrize("at", [math.inf, math.nan])
    async def test_dates_are_numbers(self, at: float) -> None:
        frontier = await self.start(found(f"{A}/1"))
        hosts = await frontier.acquire(Want(1))
        with pytest.raises(ValueError, match="due at"):
            await frontier.commit(Batch(settled=settle(leases(hosts), Again(at, "timeout"))))
        with pytest.raises(ValueError, match="due at"):
            await frontier.commit(Batch(returned=back(hosts, at)))
        answer = await frontier.commit(Batch(settled=settle(leases(hosts)), returned=back(hosts)))
        assert answer.pending == 0

    # Handing out --------------------------------------------------------------------------------

    async def test_one_commit_settles_admits_and_hands_out(self) -> None:
        frontier = await self.start(found(f"{A}/1"))
        hosts = await frontier.acquire(Want(5))
        answer: Committed = await frontier.commit(
            Batch(
                settled=settle(leases(hosts), links=[found(f"{A}/2"), found(f"{B}/1")]),
                want=Want(5, held=[A]),
            )
        )
        assert sorted(x.request.url for x in leases(answer.leases)) == [f"{A}/2", f"{B}/1"]
        assert answer.pending == 2

    async def test_priority_then_first_come(self) -> None:
        order = [("a", 0), ("b", 5), ("c", -3), ("d", 5), ("e", 0), ("f", 10**12), ("g", -(10**12))]
        frontier = await self.start(*(found(f"{A}/{x}", priority=p) for x, p in order))
        [host] = await frontier.acquire(Want(3))
        assert paths(host.requests) == ["f", "b", "d"]
        await frontier.commit(Batch(seeds=[found(f"{A}/h", priority=1)]))
        [host] = await frontier.acquire(Want(9, held=[A]))
        assert paths(host.requests) == ["h", "a", "e", "c", "g"]

    async def test_one_host_may_get_everything(self) -> None:
        frontier = await self.start(*(found(f"{A}/{n}") for n in range(20)))
        [host] = await frontier.acquire(Want(12))
        assert paths(host.requests) == [str(n) for n in range(12)]

    async def test_several_hosts_share(self) -> None:
        many = [found(f"{host}/{n}") for host in (A, B) for n in range(30)]
        frontier = await self.start(*many, found(f"{C}/0"))
        hosts = await frontier.acquire(Want(21))
        got = {host.host: len(host.requests) for host in hosts}
        assert got == {A: 10, B: 10, C: 1}

    async def test_more_hosts_than_wanted(self) -> None:
        frontier = await self.start(*(found(f"https://h{n}.example/") for n in range(50)))
        hosts = await frontier.acquire(Want(20))
        assert [host.host for host in hosts] == [f"https://h{n}.example" for n in range(20)]
        assert len(leases(hosts)) == 20
        assert await frontier.acquire(Want(0)) == []
        hosts = await frontier.acquire(Want(50))
        assert [host.host for host in hosts] == [f"https://h{n}.example" for n in range(20, 50)]

    async def test_held_hosts_do_not_starve_the_others(self) -> None:
        frontier = await self.start(*(found(f"{A}/{n}") for n in range(20)))
        await frontier.acquire(Want(1))
        await frontier.commit(Batch(seeds=[found(f"{B}/1"), found(f"{C}/1")]))
        hosts = await frontier.acquire(Want(2, held=[A]))
        assert sorted(host.host for host in hosts) == [A, B]
        assert [host.host for host in await frontier.acquire(Want(1, held=[A]))] == [A]

    async def test_a_host_has_one_holder(self) -> None:
        frontier = await self.start(*(found(f"{A}/{n}") for n in range(3)))
        hosts = await frontier.acquire(Want(1))
        assert frontier.next_due() == math.inf
        assert await frontier.acquire(Want(5)) == []
        assert await frontier.acquire(Want(5, held=[B])) == []
        assert paths(leases(await frontier.acquire(Want(1, held=[A, A])))) == ["1"]
        await frontier.commit(Batch(settled=settle(leases(hosts)), returned=back(hosts)))
        assert paths(leases(await frontier.acquire(Want(5)))) == ["1", "2"]

    async def test_a_held_host_without_work_stays_held(self) -> None:
        frontier = await self.start(found(f"{A}/1"))
        hosts = await frontier.acquire(Want(5))
        await frontier.commit(Batch(settled=settle(leases(hosts))))
        assert frontier.next_due() is None
        await frontier.commit(Batch(seeds=[found(f"{A}/2")]))
        assert frontier.next_due() == math.inf
        assert await frontier.acquire(Want(5)) == []
        assert paths(leases(await frontier.acquire(Want(5, held=[A])))) == ["2"]

    async def test_a_host_rests_until_it_is_due(self) -> None:
        frontier = await self.start(*(found(f"{host}/{n}") for host in (A, B) for n in range(2)))
        hosts = await frontier.acquire(Want(2))
        now = self.wall.now
        await frontier.commit(
            Batch(
                settled=settle(leases(hosts)),
                returned=[HostReturn(A, b"a", now + 20), HostReturn(B, b"b", now + 10)],
            )
        )
        assert frontier.next_due() == now + 10
        assert await frontier.acquire(Want(9, alone=True)) == []
        self.wall.now = now + 10
        assert [(h.host, h.state) for h in await frontier.acquire(Want(9))] == [(B, b"b")]
        assert frontier.next_due() == now + 20
        self.wall.now = now + 20
        assert [(h.host, h.state) for h in await frontier.acquire(Want(9))] == [(A, b"a")]
        assert frontier.next_due() == math.inf

    async def test_unused_leases_go_back_in_their_place(self) -> None:
        frontier = await self.start(*(found(f"{A}/{n}") for n in range(6)))
        hosts = await frontier.acquire(Want(4))
        used = leases(hosts)[1:2]
        await frontier.commit(Batch(settled=settle(used), returned=back(hosts)))
        given = leases(await frontier.acquire(Want(9)))
        assert paths(given) == ["0", "2", "3", "4", "5"]
        assert {lease.attempt for lease in given} == {0}

    async def test_what_is_being_sent_does_not_go_back(self) -> None:
        frontier = await self.start(*(found(f"{A}/{n}", method="POST") for n in range(2)))
        hosts = await frontier.acquire(Want(2))
        sent, unused = leases(hosts)
        await frontier.commit(Batch(sending=[sent.id]))
        await frontier.commit(Batch(returned=back(hosts)))
        assert [lease.id for lease in leases(await frontier.acquire(Want(2)))] == [unused.id]
        answer = await frontier.commit(Batch(settled=settle([sent])))
        assert answer.pending == 1

    async def test_pending_counts_what_is_leased(self) -> None:
        frontier = await self.start(*(found(f"{A}/{n}") for n in range(3)))
        answer = await frontier.commit(Batch(want=Want(2)))
        assert answer.pending == 3
        answer = await frontier.commit(Batch(settled=settle(leases(answer.leases))))
        assert answer.pending == 1

    async def test_every_request_is_handed_out_once(self) -> None:
        urls_ = [f"https://h{n % 7}.example/{n}" for n in range(300)]
        frontier = await self.start(*(found(url, priority=n % 5) for n, url in enumerate(urls_)))
        assert sorted(await self.drain(frontier)) == sorted(urls_)

    # Crashes and closing ------------------------------------------------------------------------

    @needs_durable
    async def test_what_was_committed_survives(self) -> None:
        frontier = await self.start(found(f"{A}/1"))
        hosts = await frontier.acquire(Want(1))
        due = self.wall.now + 30
        batch = Batch(
            settled=settle(leases(hosts), links=[found(f"{A}/2"), found(f"{B}/2", priority=3)]),
            returned=back(hosts, due, b'{"pace": 1}'),
            positions={"out": {"bytes": 10, "parts": ["x"]}, "other": None},
            counts=Counter(pages=1, items=2),
            state={"cookies": b"\x00\x01", "phase": b"running"},
        )
        await frontier.commit(batch)
        await frontier.commit(Batch(counts=Counter(pages=2), state={"cookies": b"new"}))
        for step in (self.killed, self.closed, self.killed):
            frontier, recovery = await step(frontier)
            assert not recovery.fresh
            assert recovery.pending == 2
            assert recovery.positions == {"out": {"bytes": 10, "parts": ["x"]}, "other": None}
            assert recovery.counts == Counter(pages=3, items=2)
            assert recovery.state == {"cookies": b"new", "phase": b"running"}
            assert recovery.ended == []
            answer = await frontier.commit(Batch(seeds=[found(f"{A}/1"), found(f"{B}/2")]))
            assert (answer.admitted, answer.duplicates) == (0, 2)
        [host] = await frontier.acquire(Want(9))
        assert host.host == B
        assert frontier.next_due() == due
        self.wall.now = due
        [host] = await frontier.acquire(Want(9))
        assert (host.host, host.state, paths(host.requests)) == (A, b'{"pace": 1}', ["2"])

    @needs_durable
    async def test_unclean_is_said(self) -> None:
        frontier = await self.start(found(f"{A}/1"))
        frontier, recovery = await self.killed(frontier)
        assert recovery.unclean
        frontier, recovery = await self.closed(frontier)
        assert not recovery.unclean
        frontier, recovery = await self.closed(frontier)
        assert not recovery.unclean

    @needs_durable
    async def test_a_crash_is_not_an_attempt(self) -> None:
        frontier = await self.start(*(found(f"{A}/{n}") for n in range(3)))
        await frontier.acquire(Want(2))
        frontier, recovery = await self.killed(frontier)
        assert (recovery.pending, recovery.suspects, recovery.unclean) == (3, 0, True)
        given = leases(await frontier.acquire(Want(9)))
        assert paths(given) == ["0", "1", "2"]
        assert {lease.attempt for lease in given} == {0}

    @needs_durable
    async def test_a_clean_close_is_not_a_crash(self) -> None:
        frontier = await self.start(found(f"{A}/1"))
        for _ in range(5):
            [lease] = leases(await frontier.acquire(Want(1)))
            assert not lease.alone
            frontier, recovery = await self.closed(frontier)
            assert (recovery.pending, recovery.suspects, recovery.unclean) == (1, 0, False)

    @needs_durable
    async def test_two_crashes_make_a_suspect_that_runs_alone_and_last(self) -> None:
        frontier = await self.start(*(found(f"{A}/{n}") for n in range(4)))
        for _ in range(2):
            await frontier.acquire(Want(2))
            frontier, recovery = await self.killed(frontier)
        assert recovery.suspects == 2
        hosts = await frontier.acquire(Want(9, alone=True))
        given = leases(hosts)
        assert paths(given) == ["2", "3"]
        assert not any(lease.alone for lease in given)
        assert frontier.next_due() == math.inf
        assert await frontier.acquire(Want(9, held=[A], alone=True)) == []
        await frontier.commit(Batch(settled=settle(given), returned=back(hosts)))
        assert frontier.next_due() == 0
        assert await frontier.acquire(Want(9)) == []
        hosts = await frontier.acquire(Want(9, alone=True))
        [lease] = leases(hosts)
        assert (paths([lease]), lease.alone, lease.attempt) == (["0"], True, 0)
        await frontier.commit(Batch(seeds=[found(f"{B}/1")]))
        assert frontier.next_due() == math.inf
        assert await frontier.acquire(Want(9, alone=True)) == []
        await frontier.commit(Batch(settled=settle([lease]), returned=back(hosts)))
        assert paths(leases(await frontier.acquire(Want(9, alone=True)))) == ["1"]

    @needs_durable
    async def test_a_suspect_whose_host_is_held_or_resting(self) -> None:
        frontier = await self.start(found(f"{A}/1"))
        for _ in range(2):
            await frontier.acquire(Want(1))
            frontier, _ = await self.killed(frontier)
        await frontier.commit(Batch(seeds=[found(f"{A}/2")]))
        hosts = await frontier.acquire(Want(9))
        assert paths(leases(hosts)) == ["2"]
        await frontier.commit(Batch(settled=settle(leases(hosts))))
        assert await frontier.acquire(Want(9, alone=True)) == []
        later = self.wall.now + 9
        await frontier.commit(Batch(returned=back(hosts, later)))
        assert frontier.next_due() == later
        assert await frontier.acquire(Want(9, alone=True)) == []
        self.wall.now = later
        [host] = await frontier.acquire(Want(9, alone=True))
        assert host.state == b"{}"
        await frontier.commit(Batch(returned=back([host])))
        [lease] = leases(await frontier.acquire(Want(9, alone=True)))
        assert lease.alone

    @needs_durable
    async def test_a_page_that_takes_the_process_down_ends_dead_and_nothing_else_does(self) -> None:
        frontier = await self.start(*(found(f"{A}/{n}") for n in range(5)))
        done: list[str] = []
        for _ in range(100):
            if frontier.next_due() is None:
                break
            hosts = await frontier.acquire(Want(3, alone=True))
            given = leases(hosts)
            if "2" in paths(given):
                frontier, recovery = await self.killed(frontier)
                if recovery.ended:
                    break
                continue
            done += paths(given)
            await frontier.commit(Batch(settled=settle(given), returned=back(hosts)))
        assert recovery.ended == [(f"{A}/2", "crashed")]
        assert recovery.counts["reason:crashed"] == 1
        assert sorted(done + [u.rsplit("/", 1)[1] for u in await self.drain(frontier)]) == [
            "0",
            "1",
            "3",
            "4",
        ]

    @needs_durable
    async def test_a_crash_alone_goes_to_the_back_of_the_line(self) -> None:
        frontier = await self.start(*(found(f"{A}/{n}") for n in range(2)))
        for _ in range(2):
            await frontier.acquire(Want(2))
            frontier, _ = await self.killed(frontier)
        order = []
        ended: list[tuple[str, str]] = []
        while frontier.next_due() is not None:
            order += paths(leases(await frontier.acquire(Want(2, alone=True))))
            frontier, recovery = await self.killed(frontier)
            ended += recovery.ended
        assert order == ["0", "1", "0", "1", "0", "1"]
        assert ended == [(f"{A}/0", "crashed"), (f"{A}/1", "crashed")]
        _, recovery = await self.closed(frontier)
        assert recovery.counts["reason:crashed"] == 2

    @needs_durable
    async def test_surviving_clears_the_crashes(self) -> None:
        frontier = await self.start(found(f"{A}/1"))
        for _ in range(2):
            await frontier.acquire(Want(1))
            frontier, recovery = await self.killed(frontier)
        assert recovery.suspects == 1
        hosts = await frontier.acquire(Want(1, alone=True))
        await frontier.commit(
            Batch(settled=settle(leases(hosts), Again(0, "timeout")), returned=back(hosts))
        )
        [lease] = leases(await frontier.acquire(Want(1)))
        assert (lease.alone, lease.attempt) == (False, 1)
        frontier, recovery = await self.killed(frontier)
        assert recovery.suspects == 0

    @needs_durable
    @pytest.mark.parametrize("clean", [True, False])
    async def test_what_may_not_repeat_ends_interrupted(self, *, clean: bool) -> None:
        frontier = await self.start(*(found(f"{A}/{n}", method="POST") for n in range(3)))
        given = leases(await frontier.acquire(Want(3)))
        await frontier.commit(Batch(sending=[given[0].id, given[1].id]))
        await frontier.commit(Batch(settled=settle(given[:1])))
        frontier, recovery = await (self.closed if clean else self.killed)(frontier)
        assert recovery.ended == ([] if clean else [(f"{A}/1", "interrupted")])
        assert recovery.counts["reason:interrupted"] == 1
        assert recovery.pending == 1
        [lease] = leases(await frontier.acquire(Want(3)))
        assert (paths([lease]), lease.attempt) == (["2"], 0)

    @needs_durable
    async def test_a_moved_clock_costs_at_most_the_cap(self) -> None:
        frontier = await self.start(found(f"{A}/1"), found(f"{B}/1"))
        hosts = await frontier.acquire(Want(2))
        far = self.wall.now + 10**8
        first = leases(hosts)[0]
        await frontier.commit(
            Batch(
                settled=settle([first], Again(far, "timeout")),
                returned=back(hosts, far),
            )
        )
        assert frontier.next_due() == far
        frontier, _ = await self.killed(frontier)
        due = frontier.next_due()
        assert due is not None
        assert due <= self.wall.now + 3600
        assert len(await self.drain(frontier)) == 2

    @needs_durable
    async def test_ids_are_never_used_again(self) -> None:
        frontier = await self.start(*(found(f"{A}/{n}") for n in range(5)))
        hosts = await frontier.acquire(Want(5))
        used = {lease.id for lease in leases(hosts)}
        await frontier.commit(Batch(settled=settle(leases(hosts)), returned=back(hosts)))
        frontier, _ = await self.closed(frontier)
        await frontier.commit(Batch(seeds=[found(f"{A}/{n}") for n in range(5, 10)]))
        assert used.isdisjoint(lease.id for lease in leases(await frontier.acquire(Want(5))))

    # What outputs and stages find again ----------------------------------------------------------

    @needs_durable
    async def test_records_that_may_not_be_applied_come_back_in_order(self) -> None:
        frontier = await self.start()
        awkward = [b"\x00\xff", b"", b"\n", bytes(range(256))]
        await frontier.commit(Batch(redo=[Redo(1, "b", awkward), Redo(1, "a", [b"1"])]))
        await frontier.commit(Batch(redo=[Redo(2, "a", [b"2", b"2"])]))
        for step in (self.killed, self.closed, self.killed):
            frontier, recovery = await step(frontier)
            assert [(x.group, x.sink, list(x.records)) for x in recovery.redo] == [
                (1, "b", awkward),
                (1, "a", [b"1"]),
                (2, "a", [b"2", b"2"]),
            ]

    @needs_durable
    async def test_records_are_let_go_with_the_commit_after_they_were_applied(self) -> None:
        frontier = await self.start()
        for group in range(1, 6):
            redo = [Redo(group, sink, [f"{sink}{group}".encode()]) for sink in ("a", "b")]
            await frontier.commit(Batch(redo=redo, applied=group - 1))
        frontier, recovery = await self.killed(frontier)
        assert [(x.group, x.sink) for x in recovery.redo] == [(5, "a"), (5, "b")]
        await frontier.commit(Batch(applied=4))
        frontier, recovery = await self.closed(frontier)
        assert [list(x.records) for x in recovery.redo] == [[b"a5"], [b"b5"]]
        await frontier.commit(Batch(applied=5))
        frontier, recovery = await self.killed(frontier)
        assert list(recovery.redo) == []
        await frontier.commit(Batch(redo=[Redo(6, "a", [b"a6"])], applied=5))
        frontier, recovery = await self.closed(frontier)
        assert [(x.group, x.sink) for x in recovery.redo] == [(6, "a")]

    @needs_durable
    async def test_a_sink_without_records_is_remembered_too(self) -> None:
        frontier = await self.start()
        await frontier.commit(Batch(redo=[Redo(1, "a", []), Redo(1, "b", [b""])]))
        frontier, recovery = await self.killed(frontier)
        assert [(x.sink, list(x.records)) for x in recovery.redo] == [("a", []), ("b", [b""])]

    @needs_durable
    async def test_large_and_many_records(self) -> None:
        frontier = await self.start()
        large = [bytes([n]) * (8 << 20) for n in range(4)]
        many = [str(n).encode() for n in range(50_000)]
        await frontier.commit(Batch(redo=[Redo(1, "large", large), Redo(1, "many", many)]))
        frontier, recovery = await self.killed(frontier)
        first, second = recovery.redo
        assert list(first.records) == large
        assert list(second.records) == many

    @needs_durable
    async def test_claims_come_back_by_stage(self) -> None:
        frontier = await self.start()
        keys = [0, 1, 2**63 - 1, 2**63, 2**64 - 1]
        await frontier.commit(Batch(claims={"one": array("Q", keys[:2]), "two": array("Q", [7])}))
        await frontier.commit(Batch(claims={"one": array("Q", keys[2:])}))
        await frontier.commit(Batch(claims={"none": array("Q")}))
        for step in (self.killed, self.closed, self.killed):
            frontier, recovery = await step(frontier)
            claimed = {
                stage: sorted(key for part in parts for key in part)
                for stage, parts in recovery.claims.items()
            }
            claimed.pop("none", None)
            assert claimed == {"one": keys, "two": [7]}

    @needs_durable
    async def test_a_commit_that_is_refused_keeps_none_of_it(self) -> None:
        frontier = await self.start(found(f"{A}/1"))
        given = leases(await frontier.acquire(Want(1)))
        batch = Batch(
            settled=settle(given) * 2,
            redo=[Redo(1, "a", [b"1"])],
            claims={"one": array("Q", [1])},
        )
        with pytest.raises(ValueError, match="twice"):
            await frontier.commit(batch)
        frontier, recovery = await self.killed(frontier)
        assert list(recovery.redo) == []
        assert dict(recovery.claims) == {}

    async def test_records_and_claims_are_taken_by_every_frontier(self) -> None:
        frontier = await self.start(found(f"{A}/1"))
        given = leases(await frontier.acquire(Want(1)))
        batch = Batch(
            settled=settle(given),
            redo=[Redo(1, "a", [b"1"])],
            claims={"one": array("Q", [1])},
            positions={"a": {"group": 1, "records": 1}},
        )
        assert (await frontier.commit(batch)).pending == 0
        assert (await frontier.commit(Batch(applied=1))).pending == 0

    async def test_closing_twice_is_allowed(self) -> None:
        frontier = await self.start(found(f"{A}/1"))
        await frontier.aclose()
        await frontier.aclose()
        await frontier.aclose(clean=False)
        assert frontier.next_due() is not None
