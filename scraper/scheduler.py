"""Scheduler: owns all state of a crawl, and settles every unit of work in one place.

All mutable state of a crawl lives here: the open group, the counts, the gate with its hosts, what
is in flight. Events come in through one queue; due pages go out through another. One coroutine
reads the first and fills the second, so nothing here needs a lock. Commits run beside it, one at a
time, and report back as an event like everything else.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from scraper import revisits
from scraper.admission import PIECE, Admission
from scraper.appetite import Appetite
from scraper.chained import Chained
from scraper.config import Config
from scraper.events import WAKE, Event, Group, Outcome, Seeds, Stop, Wake, Wrote
from scraper.gate import Gate
from scraper.host import Host, Start
from scraper.keeping import Keeps
from scraper.observers import Observers
from scraper.protocols import Clock, Downloader, Frontier, Timer
from scraper.report import Snapshot, failures
from scraper.tally import Tally
from scraper.verdicts import tell_dead
from scraper.work import Again, Batch, Committed, Dead, Done, Found, Lease, Settled

__all__ = ["Scheduler"]

MAX_STAGED = 64 * 1024 * 1024
"""Staged bytes beyond which nothing new is started until a commit has written them."""

MAX_FOUND = 2_000
"""Requests found that one commit admits; a page more may come with it."""


class Scheduler:
    """The coroutine in the middle. `run` returns why the crawl ended."""

    def __init__(
        self,
        config: Config,
        *,
        frontier: Frontier,
        admission: Admission,
        downloader: Downloader,
        clock: Clock,
        tally: Tally,
        keeper: Keeps,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        start_worker: Callable[[], None],
        fetch_robots: Callable[[Host, float], None],
        observers: Observers,
        jitter: Callable[[], float],
        worker: str = "",
    ) -> None:
        """*worker*: its name among those that share the crawl; "": it is alone."""
        self.limits = config.crawl
        self.due: asyncio.Queue[Start] = asyncio.Queue()  # bounded by `_has_room`
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.appetite = Appetite()
        self.tally = tally
        self.chained = Chained(self.wake)
        self.pending = 0
        self.inflight = 0
        self.ready = False  # `setup` is through: pages may go
        self.seeded = False  # `start()` is exhausted
        self.ending: Stop | None = None
        self.aborted = False  # do not wait for what is in flight
        self.news: dict[str, bytes] = {}  # what other workers of a shared crawl have stored
        self.admission = admission
        self.gate = Gate(
            config.politeness,
            clock,
            concurrency=self.limits.concurrency,
            fetch_robots=fetch_robots,
            wake=self.wake,
            jitter=jitter,
            refuse=admission.traps.refusal,
            worker=worker,
            agent=config.http.user_agent,
        )
        self._frontier = frontier
        self._downloader = downloader
        self._clock = clock
        self._spawn = spawn
        self._start_worker = start_worker
        self._observers = observers
        self._keeper = keeper
        self._shared = bool(worker)
        self._group = Group()
        self._writing: Group | None = None
        self._sending: dict[int, tuple[Host, Lease]] = {}  # waiting to be marked as sent
        self._marked: dict[int, Lease] = {}  # marked, and waiting for their turn
        self._solo: Lease | None = None
        self._barren = False  # the frontier had nothing to give, and nothing changed since
        self._timer: Timer | None = None
        self._wakes = 0

    # ── the loop ─────────────────────────────────────────────────────────────────────────

    async def run(self) -> Stop:
        """Drive the crawl to its end."""
        self.wake()
        while True:
            await self._hear(await self.events.get())
            now = self._clock.monotonic()
            if self.ending is None:
                self.ending = self.tally.reached(self.limits)
            self._dispatch(now)
            self._maybe_commit(now)
            if self._ended():
                return self.ending or Stop("finished")
            self._arm(now)

    async def _hear(self, event: Event) -> None:
        """Take in *event*, and what else has happened."""
        while True:
            if event.__class__ is Outcome and len(event.found) > PIECE:
                event.admitted = await self.admission.in_pieces(
                    event.found, event.lease, event.counts
                )
            self._take(event)
            if self.events.empty():
                return
            event = self.events.get_nowait()

    def _take(self, event: Event) -> None:
        match event:
            case Outcome():
                self._settle(event)
            case Seeds():
                self._seed(event)
            case Wrote():
                self._wrote(event)
            case Stop():
                self.stop(event)
            case Wake():
                self._wakes -= 1
                self._barren = False

    def wake(self) -> None:
        """Make the loop look again; cheap to call often."""
        if not self._wakes:
            self._wakes += 1
            self.events.put_nowait(WAKE)

    def stop(self, stop: Stop) -> None:
        """Start nothing more. The first reason is the one that counts."""
        if self.ending is None:
            self.ending = stop
        self.aborted = self.aborted or stop.now

    def _ended(self) -> bool:
        if self._writing is not None or not self._group.empty:
            return False
        if self.ending is not None:
            return self.inflight == 0 or self.ending.reason == "limit" or self.aborted
        return (
            self.seeded
            and self.ready
            and not self.inflight
            and not self._sending
            and self._frontier.next_due() is None
        )

    def _arm(self, now: float) -> None:
        """One timer, for whatever comes first."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        when = self.gate.next_time(room=self._has_room(), writing=self._writing is not None)
        if not self._group.empty and self._writing is None:
            when = min(when, self._group.opened + self.limits.group_interval)
        if self.ending is None:
            due = self._frontier.next_due()
            if due is not None and math.isfinite(due) and self.gate.stock <= self._low_water:
                wait = due - self._clock.wall()
                if wait <= 0 and self._barren:
                    wait = self.limits.group_interval
                when = min(when, now + max(wait, 0.001))
            if self.limits.max_duration:
                when = min(when, now + self.limits.max_duration - self.tally.elapsed)
        if math.isfinite(when):
            self._timer = self._clock.call_at(max(when, now), self.wake)

    # ── dispatch ─────────────────────────────────────────────────────────────────────────

    @property
    def _target(self) -> int:
        return 2 * self.limits.group_pages

    @property
    def _low_water(self) -> int:
        return self._target // 4

    @property
    def _uncommitted(self) -> int:
        writing = len(self._writing.batch.settled) if self._writing else 0
        return len(self._group.batch.settled) + writing

    def _has_room(self) -> bool:
        limits = self.limits
        if self.ending is not None or not self.ready:
            return False
        if self._solo is not None and self.inflight:
            return False
        working = self.inflight - self.gate.parking.pages
        if self.chained.pages:
            working -= self.chained.spare(limits.concurrency)
        if working >= limits.concurrency:
            return False
        if working + self._uncommitted >= limits.concurrency + limits.group_pages:
            return False
        if limits.max_pages and self.tally["pages"] + self.inflight >= limits.max_pages:
            return False
        return self._group.staged < MAX_STAGED and self._group.found < MAX_FOUND

    def _dispatch(self, now: float) -> None:
        self.gate.park(now)
        self.gate.serve_calls(now, ending=self.ending is not None)
        while self._has_room():
            start = self.gate.next_page(now)
            if start is None:
                return
            lease = start.lease
            if start.refused is None and self._must_mark(lease):
                self._mark(start)
                continue
            self.inflight += 1
            self._marked.pop(lease.id, None)
            if start.refused is not None and lease.request.errback is None:
                self._settle(Outcome(lease, start.host, Dead(start.refused)))
            else:
                self.due.put_nowait(start)
                self._start_worker()

    def _must_mark(self, lease: Lease) -> bool:
        return not lease.request.options.repeatable and lease.id not in self._marked

    def _mark(self, start: Start) -> None:
        """What may not repeat is not sent before the ledger says that it was."""
        self.gate.unused(start.host, start.began)
        self._open_group()
        self._group.batch.sending.append(start.lease.id)
        self._sending[start.lease.id] = (start.host, start.lease)

    # ── settle ───────────────────────────────────────────────────────────────────────────

    def _settle(self, outcome: Outcome) -> None:
        """The one place where a unit of work ends."""
        lease, verdict = outcome.lease, outcome.verdict
        outcome.host.busy_pages -= 1
        if self.gate.sharing is not None:
            self.gate.sharing.settled(outcome.host, lease)
        self.inflight -= 1
        if self._solo is lease:
            self._solo = None
        if self.ending is not None and self.ending.reason == "limit":
            return  # what comes after the cut does not exist; its lease is simply given back
        self.admission.traps.settle(lease, verdict)
        group = self._open_group()
        counts = outcome.counts
        found: list[Found] = []
        match verdict:
            case Done():
                found = self._links(outcome)
                if outcome.redirect is not None:
                    found.append(self.admission.redirect(outcome.redirect, lease))
                    counts["redirects"] += 1
            case Dead():
                counts[f"reason:{verdict.reason}"] += 1
                found = self._links(outcome)
                tell_dead(lease, verdict, self.tally[f"reason:{verdict.reason}"])
            case Again():
                counts["retries" if verdict.charged else "postponed"] += 1
        if outcome.page is not None:
            self._keeper.keep(outcome.page, outcome.packed, group, counts)
        settled = Settled(lease, verdict, found)
        revisits.remember(settled, outcome.page, self.admission.identity)
        group.batch.settled.append(settled)
        group.found += len(found)
        self.tally.settle(counts, group.batch)
        self._barren = False

    def _links(self, outcome: Outcome) -> list[Found]:
        if outcome.admitted is not None:
            return outcome.admitted
        return self.admission.links(outcome.found, outcome.lease, outcome.counts)

    def _open_group(self) -> Group:
        if self._group.empty:
            self._group.opened = self._clock.monotonic()
        return self._group

    def _seed(self, seeds: Seeds) -> None:
        group = self._open_group()
        counts: dict[str, int] = defaultdict(int)
        for found in self.admission.seeds(seeds.requests, counts):
            group.batch.seeds.append(found)
            self.appetite.brought(new_host=not self.gate.roster.knows(found.host))
        self.tally.settle(counts, group.batch)
        if seeds.done:
            self.seeded = True
            group.batch.state["start"] = b"done"
        self._barren = False

    def snapshot(self) -> Snapshot:
        """How far the crawl is, for observers."""
        return Snapshot(
            pages=self.tally["pages"],
            items=self.tally["items"],
            failed=failures(self.tally.totals),
            queued=self.pending,
            busy=self.inflight,
            waiting=self.gate.waiting_hosts(self._clock.monotonic()),
            elapsed=self.tally.elapsed,
        )

    # ── commit ───────────────────────────────────────────────────────────────────────────

    def _maybe_commit(self, now: float) -> None:
        if self._writing is not None:
            return
        starved = self._starved() or self.gate.asks(now)
        if not self._group.empty:
            group = self._group
            full = len(group.batch.settled) * 2 >= self.limits.group_pages
            old = now - group.opened >= self.limits.group_interval
            large = group.staged >= MAX_STAGED // 4 or group.found >= MAX_FOUND // 4
            urgent = large or bool(group.batch.sending)
            if not (full or old or urgent or starved or self.ending or not self.inflight):
                return
        elif not starved:
            return
        self._commit()

    def _starved(self) -> bool:
        """Workers are idle, too little is here for them, and a commit would bring more."""
        if self.ending is not None or not self.ready or self._solo is not None or self._barren:
            return False
        if self._wanted <= 0 or self.gate.stock > self._low_water:
            return False
        if self._group.batch.seeds or any(s.found for s in self._group.batch.settled):
            return self.gate.stock == 0 and self._has_room()
        due = self._frontier.next_due()
        return self.gate.thirsty or (due is not None and due <= self._clock.wall())

    @property
    def _wanted(self) -> int:
        """How many more leases there is a use and a place for."""
        return min(self._target - self.gate.stock, 5 * self._target - self.gate.leased)

    def _commit(self) -> None:
        group, self._group = self._group, Group()
        batch = group.batch
        self._unsent(batch)
        keep = {lease.host for lease in self._marked.values()}
        keep.update(host.key for host, _ in self._sending.values())
        if self._solo is not None and self.gate.keeps_for(self._solo):
            keep.add(self._solo.host)
        batch.returned += self.gate.give_back(keep=keep)
        n = self._wanted if self.ending is None and self.ready and self._solo is None else 0
        alone = not (self.inflight or self.gate.leased or self._sending)
        batch.want = self.gate.want(n, alone=alone, most=self.limits.max_pages)
        self._complete(batch)
        self._writing = group
        self._spawn(self._write(group))

    def _complete(self, batch: Batch) -> None:
        """Add what every transaction carries: cookies, numbers, scope, time spent."""
        if (cookies := self._downloader.cookies()) is not None:
            batch.state["cookies"] = cookies
        self._keeper.complete(batch)
        batch.state.update(self.admission.changed())
        self.tally.complete(batch, self._downloader.sent)

    def _unsent(self, batch: Batch, *, closing: bool = False) -> None:
        """What was marked as sent, and is not sent from here: others wait for its host."""
        marked = {lease.id for lease in self._marked.values() if closing or not lease.alone}
        for lease in self.gate.withdraw(marked, closing=closing) if marked else ():
            del self._marked[lease.id]
            batch.settled.append(Settled(lease, Again(0.0, "cancelled", charged=0)))

    def last_batch(self) -> Batch:
        """After `run`: gives every host back with its pace, and what was marked but never sent."""
        batch = Batch()
        self._unsent(batch, closing=True)
        batch.returned += self.gate.give_back(everything=True)
        batch.applied = self._keeper.applied
        self._complete(batch)
        if self._shared and self.ending is not None and self.ending.reason in ("limit", "failed"):
            batch.state["ending"] = self.ending.dump()
        return batch

    def _hear_others(self, committed: Committed) -> None:
        """What the other workers of a shared crawl have done meanwhile."""
        news = committed.news
        self.tally.heard(committed.totals or {}, self._group.batch)
        self.admission.hear(news)
        self.news.update(news)
        self.seeded = self.seeded or "start" in news
        if (told := news.get("ending")) is not None:
            self.stop(replace(Stop.load(told), now=True))
        elif committed.ended or "result" in news:
            self.stop(Stop("finished", now=True))

    async def _write(self, group: Group) -> None:
        committed = await self._keeper.commit(group.batch, group.pages)
        self.events.put_nowait(Wrote(group, committed))

    def _wrote(self, wrote: Wrote) -> None:
        batch, committed = wrote.group.batch, wrote.committed
        self._writing = None
        self.pending = committed.pending
        self.tally.note(duplicates=committed.duplicates)
        if committed.totals is not None:
            self._hear_others(committed)
        else:  # counted by the frontier already, which alone knows of them
            self.tally.totals["reason:redirect_duplicate"] += len(committed.redirect_duplicates)
        for lease_id in batch.sending:
            host, lease = self._sending.pop(lease_id)
            self._marked[lease_id] = lease
            self.gate.put_back(host, lease)
        given = [lease for granted in committed.leases for lease in granted.requests]
        self._solo = next((lease for lease in given if lease.alone), self._solo)
        short = batch.want is not None and len(given) < batch.want.n
        self._barren = self._barren or (short and not given)
        self.gate.grant(
            committed.leases,
            batch.want,
            (found.host for settled in batch.settled for found in settled.found),
        )
        self.gate.hear(committed)
        self.appetite.served(self.pending, short=short)
        self._observers.on_commit(batch, committed)
