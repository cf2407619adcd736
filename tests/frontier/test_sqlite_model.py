"""The SQLite frontier against a simple model, through any sequence of steps and crashes.

A crash is a copy of the files at that instant. Nothing is lost, nothing comes twice.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import tempfile
from array import array
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scraper.frontier.sqlite import SqliteFrontier
from scraper.testing.frontier import Wall, found
from scraper.work import (
    Again,
    Batch,
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

T = TypeVar("T")

HOSTS = [f"https://{name}.example" for name in "abc"]
urls = st.builds(
    lambda host, n: f"{host}/{n}", st.sampled_from(HOSTS), st.integers(min_value=0, max_value=30)
)


@dataclass
class Known:
    """What the model knows of a pending request."""

    host: str
    due: float = 0.0
    attempt: int = 0
    crashes: int = 0
    sending: bool = False


class FrontierMachine(RuleBasedStateMachine):
    """The frontier beside a dict."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.root = Path(tempfile.mkdtemp())
        self.wall = Wall()
        self.lives = 0
        self.pending: dict[str, Known] = {}
        self.leased: dict[str, Lease] = {}
        self.held: set[str] = set()
        self.rest: dict[str, float] = {}
        self.states: dict[str, bytes] = {}
        self.seen: set[str] = set()
        self.ended: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.group = 0
        self.redo: list[tuple[int, str, list[bytes]]] = []
        self.claims: dict[str, Counter[int]] = {"x": Counter(), "y": Counter()}
        self.frontier = SqliteFrontier(self.root / "0" / "ledger.sqlite", wall=self.wall)
        assert self.run(self.frontier.open()).fresh

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(step)

    # Steps --------------------------------------------------------------------------------------

    @rule(new=st.lists(urls, max_size=8), priority=st.integers(-2, 2))
    def seed(self, new: list[str], priority: int) -> None:
        answer = self.run(self.frontier.commit(Batch(seeds=self.ask(new, priority))))
        assert answer.admitted == self.admit(new)
        assert answer.duplicates == len(new) - answer.admitted

    @rule(n=st.integers(0, 9), top=st.booleans(), alone=st.booleans())
    def acquire(self, n: int, *, top: bool, alone: bool) -> None:
        held = sorted(self.held) if top else []
        given = self.run(self.frontier.acquire(Want(n, held, alone)))
        self.handed_out(given, n, held, alone=alone)

    @precondition(lambda self: self.leased)
    @rule(data=st.data(), n=st.integers(0, 9))
    def settle(self, data: st.DataObject, n: int) -> None:
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.leased)), unique=True, min_size=1))
        batch = Batch(want=Want(n))
        admitted = 0
        for url in chosen:
            lease, known = self.leased.pop(url), self.pending[url]
            known.sending = False
            links = data.draw(st.lists(urls, max_size=4))
            at = st.just(0.0) | st.floats(0, 50).map(self.later)
            again = st.builds(Again, at, st.just("x"), st.booleans())
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
            self.failed["http_404"] += isinstance(verdict, Dead)
            admitted += self.admit(links)
            batch.counts["pages"] += 1
            self.counts["pages"] += 1
        answer = self.run(self.frontier.commit(batch))
        assert answer.admitted == admitted
        self.handed_out(answer.leases, n, [], alone=False)

    @precondition(lambda self: self.leased)
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.leased)), unique=True))
        self.run(self.frontier.commit(Batch(sending=[self.leased[url].id for url in chosen])))
        for url in chosen:
            self.pending[url].sending = True

    @precondition(lambda self: self.held)
    @rule(data=st.data(), wait=st.sampled_from([0.0, 0.0, 7.5]))
    def give_back(self, data: st.DataObject, wait: float) -> None:
        hosts = data.draw(st.lists(st.sampled_from(sorted(self.held)), unique=True))
        due = self.wall.now + wait if wait else 0.0
        returned = []
        for host in hosts:
            state = f"{host} {self.wall.now} {len(self.ended)}".encode()
            returned.append(HostReturn(host, state, due))
            self.held.remove(host)
            self.rest[host], self.states[host] = due, state
            for url in [u for u, lease in self.leased.items() if lease.host == host]:
                if not self.pending[url].sending:
                    del self.leased[url]
        self.run(self.frontier.commit(Batch(returned=returned)))

    @rule(
        sinks=st.dictionaries(st.sampled_from(["a", "b"]), st.lists(st.binary(max_size=9))),
        claims=st.dictionaries(
            st.sampled_from(["x", "y"]), st.lists(st.integers(0, 2**64 - 1), min_size=1)
        ),
        applied=st.booleans(),
    )
    def deliver(
        self, *, sinks: dict[str, list[bytes]], claims: dict[str, list[int]], applied: bool
    ) -> None:
        """A group for the sinks that redo; *applied*: the groups before it were."""
        batch = Batch(claims={stage: array("Q", keys) for stage, keys in claims.items()})
        if applied:
            batch.applied = self.group
            self.redo.clear()
        if sinks:
            self.group += 1
            batch.redo = [Redo(self.group, sink, records) for sink, records in sinks.items()]
            self.redo += [(self.group, sink, records) for sink, records in sinks.items()]
        for stage, keys in claims.items():
            self.claims[stage].update(keys)
        self.run(self.frontier.commit(batch))

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.wall.now += seconds

    @rule()
    def crash(self) -> None:
        self.lives += 1
        new = self.root / str(self.lives) / "ledger.sqlite"
        shutil.copytree(self.frontier.path.parent, new.parent)
        self.run(self.frontier.aclose(clean=False))
        ended = []
        for url in sorted(self.leased, key=lambda u: self.leased[u].id):
            known = self.pending[url]
            known.crashes += not known.sending
            if known.sending or known.crashes == 5:
                ended.append((url, "interrupted" if known.sending else "crashed"))
        recovery = self.reopened(new, ended)
        assert sorted(recovery.ended) == sorted(ended)
        assert recovery.suspects == sum(known.crashes >= 2 for known in self.pending.values())

    @rule()
    def close(self) -> None:
        self.run(self.frontier.aclose())
        ended = [(url, "interrupted") for url in self.leased if self.pending[url].sending]
        recovery = self.reopened(self.frontier.path, ended)
        assert not recovery.unclean
        assert recovery.ended == []

    # The model ----------------------------------------------------------------------------------

    def later(self, seconds: float) -> float:
        return self.wall.now + seconds

    def ask(self, new: list[str], priority: int = 0) -> list[Found]:
        return [found(url, priority=priority) for url in new]

    def admit(self, new: list[str]) -> int:
        fresh = [url for url in dict.fromkeys(new) if url not in self.seen]
        self.seen.update(fresh)
        self.pending.update((url, Known(url.rsplit("/", 1)[0])) for url in fresh)
        return len(fresh)

    def reopened(self, path: Path, ended: list[tuple[str, str]]) -> Recovery:
        for url, reason in ended:
            del self.pending[url]
            self.ended[url] += 1
            self.failed[reason] += 1
            self.counts[f"reason:{reason}"] += 1
        self.leased.clear()
        self.held.clear()
        self.frontier = SqliteFrontier(path, wall=self.wall)
        recovery = self.run(self.frontier.open())
        assert recovery.pending == len(self.pending)
        assert recovery.counts == self.counts
        assert [(r.group, r.sink, list(r.records)) for r in recovery.redo] == self.redo
        for stage, keys in self.claims.items():
            assert Counter(key for part in recovery.claims.get(stage, ()) for key in part) == keys
        failures = SqliteFrontier.failures(path)
        assert Counter(failure["reason"] for failure in failures) == self.failed
        return recovery

    def ready(self, host: str) -> int:
        return sum(
            known.host == host
            and url not in self.leased
            and known.due <= self.wall.now
            and known.crashes < 2
            for url, known in self.pending.items()
        )

    def handed_out(self, given: list[HostLease], n: int, held: list[str], *, alone: bool) -> None:
        busy = any(lease.alone for lease in self.leased.values())
        free = [h for h in HOSTS if h not in self.held and self.rest.get(h, 0) <= self.wall.now]
        there = 0 if busy else sum(map(self.ready, {*free, *held}))
        got = [lease for host in given for lease in host.requests]
        solo = [lease for lease in got if lease.alone]
        if solo:
            assert len(got) == 1
            assert alone
            assert not self.leased
            assert there == 0
        else:
            assert len(got) == min(n, there)
        for host in given:
            if host.host not in self.held:
                assert host.host in free
                assert host.state == self.states.get(host.host)
                self.held.add(host.host)
            else:
                assert host.host in held
            for lease in host.requests:
                url = lease.request.url
                known = self.pending[url]
                assert url not in self.leased
                assert known.due <= self.wall.now
                assert known.attempt == lease.attempt
                assert lease.alone == (known.crashes >= 2)
                self.leased[url] = lease

    # Always -------------------------------------------------------------------------------------

    @invariant()
    def counts_agree(self) -> None:
        assert self.frontier.pending == len(self.pending)
        assert (self.frontier.next_due() is None) == (not self.pending)
        assert max(self.ended.values(), default=1) == 1

    def teardown(self) -> None:
        if not hasattr(self, "frontier"):
            return
        try:
            self.crash()
            for _ in range(500):
                due = self.frontier.next_due()
                if due is None:
                    break
                assert math.isfinite(due)
                self.wall.now = max(due, self.wall.now)
                given = self.run(self.frontier.acquire(Want(9, alone=True)))
                self.handed_out(given, 9, [], alone=True)
                settled = [Settled(lease, Done()) for lease in self.leased.values()]
                returned = [HostReturn(host, self.states.get(host, b"")) for host in self.held]
                self.states.update((host.host, host.state) for host in returned)
                self.run(self.frontier.commit(Batch(settled=settled, returned=returned)))
                self.rest.update(dict.fromkeys(self.held, 0.0))
                self.held.clear()
                for url in self.leased:
                    del self.pending[url]
                    self.ended[url] += 1
                self.leased.clear()
            assert not self.pending
            assert self.ended == Counter(self.seen)
        finally:
            self.run(self.frontier.aclose())
            self.loop.close()
            shutil.rmtree(self.root)


TestModel = FrontierMachine.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=50, deadline=None)
