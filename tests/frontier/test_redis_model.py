"""Workers on Redis against a simple model, through any sequence of steps, deaths and lost answers.

Nothing is lost, nothing comes twice, and no host has two holders.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scraper.frontier.redis import RedisFrontier
from scraper.frontier.redis_status import failures, status
from scraper.protocols import FrontierContext
from scraper.testing.frontier import Wall, found
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
    Settled,
    Verdict,
    Want,
)
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis

T = TypeVar("T")

HOSTS = [f"https://{name}.example" for name in "abc"]
urls = st.builds(
    lambda host, n: f"{host}/{n}", st.sampled_from(HOSTS), st.integers(min_value=0, max_value=30)
)
_jobs = itertools.count()


@dataclass
class Known:
    """What the model knows of a pending request."""

    host: str
    due: float = 0.0
    attempt: int = 0
    crashes: int = 0
    sending: bool = False


@dataclass(eq=False)
class Member:
    """A worker, and what it has. `hungry`: until when it comes first, as it has nothing."""

    frontier: RedisFrontier
    leased: dict[str, Lease] = field(default_factory=dict)
    hungry: float = 0.0
    held: set[str] = field(default_factory=set)


class CrewMachine(RuleBasedStateMachine):
    """Up to three workers beside a dict."""

    port: ClassVar[int]

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.root = Path(tempfile.mkdtemp())
        self.proxy = Proxy(self.port).__enter__()
        self.wall = Wall()
        self.job = f"model-{next(_jobs)}"
        self.pending: dict[str, Known] = {}
        self.rest: dict[str, float] = {}
        self.states: dict[str, bytes] = {}
        self.seen: set[str] = set()
        self.ended: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.output: list[bytes] = []
        self.delivered = 0
        self.crew: list[Member] = []
        assert self.enter().fresh

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(step)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.proxy.port}/0"

    def enter(self) -> Recovery:
        context = FrontierContext("model", self.job, self.root, self.wall)
        member = Member(RedisFrontier(self.url, context, now=self.wall))
        recovery = self.run(member.frontier.open())
        self.crew.append(member)
        return recovery

    # Steps --------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.crew) < 3)
    @rule()
    def join(self) -> None:
        others = len(self.crew)
        recovery = self.enter()
        assert (recovery.others, recovery.pending) == (others, len(self.pending))
        assert recovery.counts == self.counts

    @rule(
        who=st.integers(0, 2),
        new=st.lists(urls, max_size=8),
        priority=st.integers(-2, 2),
        lost=st.booleans(),
    )
    def seed(self, who: int, new: list[str], priority: int, *, lost: bool) -> None:
        answer = self.commit(self.member(who), Batch(seeds=self.ask(new, priority)), lost=lost)
        assert answer.admitted == self.admit(new)
        assert answer.duplicates == len(new) - answer.admitted
        assert answer.pending == len(self.pending)

    @rule(
        who=st.integers(0, 2),
        n=st.integers(0, 9),
        top=st.booleans(),
        alone=st.booleans(),
        lost=st.booleans(),
    )
    def acquire(self, who: int, n: int, *, top: bool, alone: bool, lost: bool) -> None:
        member = self.member(who)
        held = sorted(member.held) if top else []
        answer = self.commit(member, Batch(want=Want(n, held, alone)), lost=lost)
        self.handed_out(member, answer.leases, n, held, alone=alone)

    @precondition(lambda self: any(member.leased for member in self.crew))
    @rule(data=st.data(), n=st.integers(0, 9), lost=st.booleans())
    def settle(self, data: st.DataObject, n: int, *, lost: bool) -> None:
        member = data.draw(st.sampled_from([m for m in self.crew if m.leased]))
        chosen = data.draw(
            st.lists(st.sampled_from(sorted(member.leased)), unique=True, min_size=1)
        )
        batch = Batch(want=Want(n))
        admitted = 0
        for url in chosen:
            lease, known = member.leased.pop(url), self.pending[url]
            known.sending = False
            links = data.draw(st.lists(urls, max_size=4))
            at = st.just(0.0) | st.integers(0, 50).map(lambda seconds: self.wall.now + seconds)
            again = st.builds(Again, at, st.just("x"), st.integers(0, 1))
            ends: st.SearchStrategy[Verdict] = st.one_of(
                st.just(Done()), st.just(Dead("http_404")), again
            )
            verdict = data.draw(ends)
            batch.settled.append(Settled(lease, verdict, self.ask(links)))
            if isinstance(verdict, Again):
                known.due, known.crashes = verdict.at, 0
                known.attempt += verdict.charged
                continue
            del self.pending[url]
            self.ended[url] += 1
            if isinstance(verdict, Dead):
                batch.counts["reason:http_404"] += 1
            admitted += self.admit(links)
            batch.counts["pages"] += 1
            batch.output.append(url.encode())
        self.counts.update(batch.counts)
        self.output += batch.output
        answer = self.commit(member, batch, lost=lost)
        assert answer.admitted == admitted
        assert answer.totals == self.counts
        self.handed_out(member, answer.leases, n, [], alone=False)

    @precondition(lambda self: any(member.leased for member in self.crew))
    @rule(data=st.data(), lost=st.booleans())
    def send(self, data: st.DataObject, *, lost: bool) -> None:
        member = data.draw(st.sampled_from([m for m in self.crew if m.leased]))
        chosen = data.draw(st.lists(st.sampled_from(sorted(member.leased)), unique=True))
        sending = [member.leased[url].id for url in chosen]
        self.commit(member, Batch(sending=sending), lost=lost)
        for url in chosen:
            self.pending[url].sending = True

    @precondition(lambda self: any(member.held for member in self.crew))
    @rule(
        data=st.data(),
        wait=st.sampled_from([0.0, 0.0, 7.5]),
        n=st.integers(0, 3),
        lost=st.booleans(),
    )
    def give_back(self, data: st.DataObject, wait: float, n: int, *, lost: bool) -> None:
        member = data.draw(st.sampled_from([m for m in self.crew if m.held]))
        hosts = data.draw(st.lists(st.sampled_from(sorted(member.held)), unique=True))
        due = self.wall.now + wait if wait else 0.0
        returned = []
        for host in hosts:
            state = f"{host} {self.wall.now} {len(self.ended)}".encode()
            returned.append(HostReturn(host, state, due))
            member.held.remove(host)
            self.rest[host], self.states[host] = due, state
            for url in [u for u, lease in member.leased.items() if lease.host == host]:
                if not self.pending[url].sending:
                    del member.leased[url]
        answer = self.commit(member, Batch(returned=returned, want=Want(n)), lost=lost)
        self.handed_out(member, answer.leases, n, [], alone=False)

    @rule(who=st.integers(0, 2), most=st.integers(1, 200), lost=st.booleans())
    def deliver(self, who: int, most: int, *, lost: bool) -> None:
        """Somebody leads: whoever may."""
        member = self.member(who)
        for other in self.crew:
            if other is not member:
                self.run(other.frontier.resign())
        assert self.run(member.frontier.lead()) is not None
        waiting = self.output[self.delivered :]
        if not waiting:
            return
        entries = self.run(member.frontier.entries("", most))
        some = [data for _, data in entries]
        assert some == waiting[: len(some)]
        assert len(some) == 1 or sum(map(len, some)) <= most
        self.delivered += len(some)
        self.proxy.lose_answers(int(lost))
        counts = Counter(items=len(some))
        self.counts.update(counts)
        answer = self.run(member.frontier.deliver(Batch(counts=counts), entries[-1][0]))
        assert answer.totals == self.counts

    @rule(seconds=st.integers(0, 20))
    def wait(self, seconds: int) -> None:
        self.wall.now += seconds

    @rule(who=st.integers(0, 2))
    def crash(self, who: int) -> None:
        """A process dies; the next look at its lock tells."""
        member = self.member(who)
        self.crew.remove(member)
        self.run(member.frontier.aclose(clean=False))
        ended = []
        for url in member.leased:
            known = self.pending[url]
            known.crashes += not known.sending
            if known.sending or known.crashes == 5:
                ended.append((url, "interrupted" if known.sending else "crashed"))
        self.over(ended)
        if self.crew:
            assert self.crew[0].frontier.beat()
        else:
            recovery = self.enter()
            assert recovery.unclean
            assert sorted(recovery.ended) == sorted(ended)
            assert recovery.pending == len(self.pending)
            alone = sum(known.crashes >= 2 for known in self.pending.values())
            assert recovery.suspects == alone

    @rule(who=st.integers(0, 2))
    def leave(self, who: int) -> None:
        member = self.member(who)
        self.crew.remove(member)
        self.run(member.frontier.aclose())
        self.over([(url, "interrupted") for url in member.leased if self.pending[url].sending])
        assert member.frontier.pending == len(self.pending)
        if not self.crew:
            recovery = self.enter()
            assert (recovery.unclean, recovery.ended) == (False, [])

    # The model ----------------------------------------------------------------------------------

    def member(self, who: int) -> Member:
        return self.crew[who % len(self.crew)]

    def commit(self, member: Member, batch: Batch, *, lost: bool) -> Committed:
        self.proxy.lose_answers(int(lost))
        answer = self.run(member.frontier.commit(batch))
        if member.leased:
            member.hungry = 0.0
        assert member.frontier.pending == answer.pending
        return answer

    def ask(self, new: list[str], priority: int = 0) -> list[Found]:
        return [found(url, priority=priority) for url in new]

    def admit(self, new: list[str]) -> int:
        fresh = [url for url in dict.fromkeys(new) if url not in self.seen]
        self.seen.update(fresh)
        self.pending.update((url, Known(url.rsplit("/", 1)[0])) for url in fresh)
        return len(fresh)

    def over(self, ended: list[tuple[str, str]]) -> None:
        for url, reason in ended:
            del self.pending[url]
            self.ended[url] += 1
            self.counts[f"reason:{reason}"] += 1

    def leased(self) -> Iterator[str]:
        return (url for member in self.crew for url in member.leased)

    def ready(self, host: str) -> int:
        leased = set(self.leased())
        return sum(
            known.host == host
            and url not in leased
            and known.due <= self.wall.now
            and known.crashes < 2
            for url, known in self.pending.items()
        )

    def handed_out(
        self, member: Member, given: list[HostLease], n: int, held: list[str], *, alone: bool
    ) -> None:
        busy = any(lease.alone for lease in member.leased.values())
        taken = {host for other in self.crew for host in other.held}
        free = [h for h in HOSTS if h not in taken and self.rest.get(h, 0) <= self.wall.now]
        if member.leased and any(
            other.hungry > self.wall.now for other in self.crew if other is not member
        ):
            free = []
        there = 0 if busy else sum(map(self.ready, {*free, *held}))
        got = [lease for host in given for lease in host.requests]
        if any(lease.alone for lease in got):
            assert len(got) == 1
            assert alone
            assert not member.leased
            assert there == 0
        else:
            assert len(got) == min(n, there)
        leased = set(self.leased())
        for host in given:
            if host.host not in member.held:
                assert host.host in free
                assert host.state == self.states.get(host.host)
                member.held.add(host.host)
            else:
                assert host.host in held
            for lease in host.requests:
                url = lease.request.url
                known = self.pending[url]
                assert url not in leased
                assert known.due <= self.wall.now
                assert known.attempt == lease.attempt
                assert lease.alone == (known.crashes >= 2)
                member.leased[url] = lease
        if member.leased:
            member.hungry = 0.0
        elif n:
            member.hungry = self.wall.now + 3

    # Always -------------------------------------------------------------------------------------

    @invariant()
    def nothing_ends_twice(self) -> None:
        assert max(self.ended.values(), default=1) == 1

    def teardown(self) -> None:
        if not hasattr(self, "crew"):
            return
        try:
            self._drain()
        finally:
            for member in self.crew:
                self.run(member.frontier.aclose(clean=False))
            self.loop.close()
            self.proxy.__exit__()
            shutil.rmtree(self.root)

    def _drain(self) -> None:
        """One dies, the last one works off the rest; then the store's own counts are all zero."""
        while len(self.crew) > 1:
            self.crash(0)
        [last] = self.crew
        for _ in range(500):
            settled = [Settled(lease, Done()) for lease in last.leased.values()]
            returned = [HostReturn(host, self.states.get(host, b"")) for host in last.held]
            self.states.update((host.host, host.state) for host in returned)
            self.run(last.frontier.commit(Batch(settled=settled, returned=returned)))
            self.rest.update(dict.fromkeys(last.held, 0.0))
            last.held.clear()
            self.over_done(last)
            due = last.frontier.next_due()
            if due is None:
                break
            assert math.isfinite(due)
            self.wall.now = max(due, self.wall.now)
            given = self.run(last.frontier.acquire(Want(9, alone=True)))
            self.handed_out(last, given, 9, [], alone=True)
        assert not self.pending
        assert self.ended == Counter(self.seen)
        told = status(self.url, "model", self.job)
        assert told is not None
        assert (told.pending, told.leased, told.delayed, told.suspects) == (0, 0, 0, 0)
        assert (told.held, told.ready) == (0, 0)
        assert told.seen == len(self.seen)
        reasons = Counter(
            f"reason:{end['reason']}" for end in failures(self.url, "model", self.job)
        )
        assert all(self.counts[name] == number for name, number in reasons.items())

    def over_done(self, member: Member) -> None:
        for url in member.leased:
            del self.pending[url]
            self.ended[url] += 1
        member.leased.clear()


TestModel = CrewMachine.TestCase
TestModel.settings = settings(max_examples=15, stateful_step_count=40, deadline=None)


@pytest.fixture(autouse=True)
def _server(redis_server: Redis) -> None:
    CrewMachine.port = redis_server.port
