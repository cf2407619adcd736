"""Gate: the one place that says which host may be asked next, and when.

Every HTTP exchange of a crawl passes here: pages, `self.fetch` in callbacks, robots.txt. The
rules themselves are pure (`politeness.HostState`, `robots.Origin`); the gate has one `Host` per
origin (`roster`), keeps those that may go in order of time, and starts what may start. It sleeps
nowhere: a host that must wait is a date in a heap.

Two lines wait at the gate. *Calls* (robots.txt, `self.fetch`) need no worker, because whoever
asks already is one; *pages* need an idle worker. Which exchanges hold one, and which have been
silent for too long to do so, is a matter of its own (`parking`). So is what holds besides where
many workers share a crawl (`sharing`): then nothing starts at a host that is not held here.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator

from scraper.config import Politeness
from scraper.errors import FetchError, Throttled
from scraper.host import WHOLE, Call, Host, Start
from scraper.parking import Parking
from scraper.politeness import Exchange
from scraper.protocols import Clock
from scraper.roster import Roster
from scraper.sharing import Sharing
from scraper.work import Committed, HostLease, HostReturn, Lease, Want

__all__ = ["Gate"]

GIVE_BACK = 0.5
"""A host that must rest longer than this (seconds) goes back to the frontier, so that its
requests do not take the place of others'."""


class Gate:
    """Holds every `Host`; the scheduler asks it for pages, exchanges begin and end here."""

    def __init__(
        self,
        politeness: Politeness,
        clock: Clock,
        *,
        concurrency: int,
        fetch_robots: Callable[[Host, float], None],
        wake: Callable[[], None],
        jitter: Callable[[], float],
        refuse: Callable[[Lease], str | None] = lambda lease: None,
        worker: str = "",
        agent: str = "",
    ) -> None:
        """*refuse*: the reason why a page that may start shall not be sent, ever; None: it is.

        *worker*: this one's name among those that share the crawl; "": it is not shared. *agent*:
        `http.user_agent`, for what workers tell each other of a robots.txt.
        """
        self._clock = clock
        self._fetch_robots = fetch_robots
        self._wake = wake
        self._jitter = jitter
        self._refuse = refuse
        self.parking = Parking(concurrency)
        self.sharing = Sharing(politeness, worker, agent) if worker else None
        slots = None if self.sharing is None else self.sharing.slots
        self.roster = Roster(politeness, clock, slots)
        self._held: dict[str, Host] = {}
        self._thirsty: set[str] = set()  # held, low, and the frontier may have more
        self._calls: list[tuple[float, int, Host]] = []
        self._pages: list[tuple[float, int, Host]] = []
        self._ticket = itertools.count()
        self.leased = 0  # leases waiting here, undispatched
        self._stock = 0  # of proven hosts, in parts: see `stock`

    # ── hosts ────────────────────────────────────────────────────────────────────────────

    def host(self, key: str) -> Host:
        """The host of that key, made when it is not known yet."""
        return self.roster.host(key)

    def waiting_hosts(self, now: float) -> int:
        """How many held hosts have work and must rest: for people to read."""
        return len({
            host.name
            for host in self._held.values()
            if host.leases and not host.inflight and (host.state.ready_at(now) or 0) > now
        })

    def grant(
        self, leases: list[HostLease], want: Want | None = None, found: Iterable[str] = ()
    ) -> None:
        """Take in what the frontier handed out in answer to *want*.

        *found*: hosts of what the same commit let in. When it gave less than was wanted, it has
        nothing more for the hosts that were named.
        """
        now = self._clock.monotonic()
        for key in found:
            if (host := self._held.get(key)) is not None:
                host.dry = False
        if want is not None and sum(len(g.requests) for g in leases) < want.n:
            for key in want.held:
                if (host := self._held.get(key)) is not None:
                    host.dry = True
        for granted in leases:
            host = self.roster.host(granted.host, granted.state)
            if self.sharing is not None:
                self.sharing.granted(host, granted, now, self._clock.wall())
            if not host.held:
                host.held, host.dry = True, False
            host.asked = False
            self._held[host.key] = host
            host.leases.extend(granted.requests)
            self.leased += len(granted.requests)
            self.touch(host, now)

    def put_back(self, host: Host, lease: Lease) -> None:
        """A page that `next_page` gave and that was not started after all: first in line again."""
        host.busy_pages -= 1
        host.leases.appendleft(lease)
        self.leased += 1
        now = self._clock.monotonic()
        if self.sharing is not None:
            self.sharing.back(host, lease, now)
        self.touch(host, now)

    def withdraw(self, ids: Collection[int], *, closing: bool = False) -> Iterator[Lease]:
        """Take those leases out of the lines: of hosts that others wait for, or (*closing*) all."""
        now, sharing = self._clock.monotonic(), self.sharing
        for host in self._held.values():
            if not closing and (sharing is None or not sharing.leaves(host, now)):
                continue
            for lease in [lease for lease in host.leases if lease.id in ids]:
                host.leases.remove(lease)
                self.leased -= 1
                yield lease

    @property
    def stock(self) -> int:
        """Leases here that workers can count on: their hosts are proven, and may go soon."""
        return -(-self._stock // WHOLE)

    @property
    def thirsty(self) -> bool:
        """Whether a held host is low and the frontier may have more for it."""
        return bool(self._thirsty)

    def want(self, n: int, *, alone: bool, most: int = 0) -> Want | None:
        """What to ask the frontier for: *n* leases; see `Want`. None: for nothing.

        The last that is asked of the gate for a commit, after `give_back`.
        """
        if self.sharing is None:
            return Want(n, self.low(), alone) if n > 0 else None
        now, low = self._clock.monotonic(), self.low()
        wishes = self.sharing.wishes(now)
        self.sharing.told(now, self._held.values())
        if n > 0:
            return Want(n, low, alone, wishes, most)
        return Want(0, hosts=wishes, most=most) if wishes else None

    def asks(self, now: float) -> bool:
        """Whether there is something that needs a commit, though no page has ended."""
        return self.sharing is not None and self.sharing.asks_at <= now

    def hear(self, committed: Committed) -> None:
        """What a commit has told of other workers."""
        if self.sharing is not None:
            now, wall = self._clock.monotonic(), self._clock.wall()
            self.sharing.hear(committed, self._held, self.roster.find, now, wall)

    def keeps_for(self, alone: Lease) -> bool:
        """Whether the host of a page that runs alone has to stay here.

        In a shared crawl it does until the page starts. Its callback may wait for a host that
        another worker has, and a callback there for this one.
        """
        return self.sharing is None or self.sharing.waits_alone(self._held.get(alone.host))

    def low(self) -> list[str]:
        """Held hosts that could use more requests than they have here; they are asked about.

        A host that has nothing, and got nothing when it was asked about, is given back.
        """
        low = []
        sharing = self.sharing
        for key, host in self._held.items():
            if host.low and (sharing is None or not sharing.is_wished(host)):
                host.asked = not host.leases and host.idle
                low.append(key)
        return low

    def give_back(
        self, *, everything: bool = False, keep: Collection[str] = ()
    ) -> Iterator[HostReturn]:
        """Hosts to return: those without work, and those that must rest for long."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        sharing = self.sharing
        for host in list(self._held.values()):
            leaves = everything or (sharing is not None and sharing.leaves(host, now))
            if not (leaves or host.idle) or (host.key in keep and not everything):
                continue
            wait = host.wait(now)
            rests = wait > GIVE_BACK and host.refusal is None
            if leaves or rests or (not host.leases and host.asked):
                del self._held[host.key]
                host.held = host.asked = False
                self.leased -= len(host.leases)
                host.leases.clear()
                self._count(host)
                self._thirsty.discard(host.key)
                due = wall + wait if math.isfinite(wait) and wait > 0 else 0.0
                if sharing is None:
                    yield HostReturn(host.key, host.state.save(now, wall), due)
                else:
                    yield sharing.left(host, due, now, wall, closing=everything)

    def _count(self, host: Host) -> None:
        stocked = host.soon if host.state.proven and not host.parked else 0
        if stocked != host.stocked:
            self._stock += stocked - host.stocked
            host.stocked = stocked
        if host.held and not host.dry and host.low:
            self._thirsty.add(host.key)
        else:
            self._thirsty.discard(host.key)

    # ── who is next ──────────────────────────────────────────────────────────────────────

    def touch(self, host: Host, now: float) -> None:
        """Something about *host* changed: put it in line, if it has anything to do."""
        self._count(host)
        refusal = host.refusal
        if refusal is not None:
            host.refuse_calls(refusal)
            if host.leases:
                self._line_up(host, now, pages=True)
            return
        if not host.held and self.sharing is not None:
            self.sharing.miss(host, now)
            return
        if host.in_pages and not host.calls:
            return  # it stands in line, as it mostly does; once first, it is looked at again
        ready = host.state.ready_at(now)
        if ready is None or not (host.calls or host.leases):
            return  # the end of an exchange, or new work, will touch it again
        needs_robots = host.origin.needs_fetch(now)
        if host.calls and host.calls[0].exempt:
            self._line_up(host, ready)
        elif needs_robots:
            if not host.origin.fetching:
                self._line_up(host, max(ready, now + host.origin.wait(now)))
        elif host.calls:
            self._line_up(host, ready)
        if host.leases and not needs_robots:
            self._line_up(host, ready, pages=True)

    def _line_up(self, host: Host, when: float, *, pages: bool = False) -> None:
        if pages:
            if not host.in_pages:
                host.in_pages = True
                heapq.heappush(self._pages, (when, next(self._ticket), host))
        elif not host.in_calls:
            host.in_calls = True
            heapq.heappush(self._calls, (when, next(self._ticket), host))

    def serve_calls(self, now: float, *, ending: bool = False) -> None:
        """Start every call (robots.txt, `self.fetch`) that may start now.

        *ending*: no more pages will start, so robots.txt is fetched for calls alone.
        """
        while self._calls and self._calls[0][0] <= now:
            _, _, host = heapq.heappop(self._calls)
            host.in_calls = False
            if ending and not host.calls:
                continue
            if self._may_start(host, now):
                self._serve_call(host, now)
                self.touch(host, now)

    def _serve_call(self, host: Host, now: float) -> None:
        exempt = bool(host.calls) and host.calls[0].exempt
        if not exempt and host.origin.needs_fetch(now):
            if not host.origin.fetching and (host.calls or host.leases):
                host.origin.fetching = True
                self._start(host, now)
                self._fetch_robots(host, now)
            return
        while host.calls:
            call = host.calls.popleft()
            if call.turn.done():
                continue  # it gave up waiting
            if not call.exempt and not host.origin.allowed(call.url):
                call.turn.set_exception(FetchError("robots_denied", call.url))
                continue
            self._start(host, now)
            call.turn.set_result(now)
            return

    def next_page(self, now: float) -> Start | None:
        """The next page that may start now, counted as started; None when there is none."""
        while self._pages and self._pages[0][0] <= now:
            _, _, host = heapq.heappop(self._pages)
            host.in_pages = False
            if not host.leases:
                continue
            refused = host.refusal
            if refused is None:
                if host.origin.needs_fetch(now):
                    self.touch(host, now)
                    continue
                if not self._may_start(host, now, pages=True):
                    continue
                lease = host.leases[0]
                if not host.origin.allowed(lease.request.url):
                    refused = "robots_denied"
                else:
                    refused = self._refuse(lease)
            lease = host.leases.popleft()
            self.leased -= 1
            host.busy_pages += 1
            if self.sharing is not None:
                self.sharing.dispatched(host, lease)
            if refused is None:
                self._start(host, now, page=True)
            self.touch(host, now)
            return Start(host, lease, now, refused)
        return None

    def _may_start(self, host: Host, now: float, *, pages: bool = False) -> bool:
        """Whether the host may go this instant; if not, it is put where it will be found again."""
        if host.refusal is not None:
            self.touch(host, now)
            return False
        ready = host.state.ready_at(now)
        if ready is None:
            return False
        if ready > now:
            self._line_up(host, ready, pages=pages)
            return False
        if self.sharing is not None and not self.sharing.may_start(host, now, pages=pages):
            return False  # it is given back with the next commit
        return host.state.proven or self.parking.admits(host)

    def _start(self, host: Host, now: float, *, page: bool = False) -> None:
        host.inflight += 1
        if page or not host.state.proven:
            self.parking.started(host, now, page=page)
        host.state.started(now)
        if self.sharing is not None:
            self.sharing.started(host)

    # ── exchanges ────────────────────────────────────────────────────────────────────────

    async def turn(self, host: Host, url: str, patience: float, *, exempt: bool = False) -> float:
        """Wait until an exchange with *host* may start; return when, it is counted as started.

        Raises `Throttled` after *patience* seconds, `FetchError` when the host was given up or
        its robots.txt forbids *url*.
        """
        if host.refusal is not None:
            raise FetchError(host.refusal, url)
        turn: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        host.calls.append(Call(turn, url, exempt))
        now = self._clock.monotonic()
        self.touch(host, now)
        self._wake()
        timer = self._clock.call_at(now + patience, lambda: self._too_late(host, turn, url))
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.unused(host, turn.result())
            raise
        finally:
            timer.cancel()

    def _too_late(self, host: Host, turn: asyncio.Future[float], url: str) -> None:
        if not turn.done():
            now = self._clock.monotonic()
            at = self._clock.wall() + host.wait(now)
            why = "must rest" if host.held or self.sharing is None else "is with another worker"
            turn.set_exception(Throttled(at, url, f"{host.name} {why}"))

    def ended(self, host: Host, exchange: Exchange) -> None:
        """An exchange is over: free its place and let the host's pace learn from it."""
        now = self._clock.monotonic()
        host.state.ended(now, exchange, self._jitter())
        self._free(host, exchange.started_at, now)

    def unused(self, host: Host, began: float) -> None:
        """A start was counted and no exchange came of it."""
        now = self._clock.monotonic()
        host.state.unused(now)
        self._free(host, began, now)

    def _free(self, host: Host, began: float, now: float) -> None:
        host.inflight -= 1
        self.parking.ended(host, began)
        if self.parking.waiting:
            self._admit_unproven(now)
        self.touch(host, now)
        if self.sharing is not None:
            for slot in self.roster.slots(host):
                slot.state.hush(now, host.state.quiet_until)
            self.sharing.ended(host, now)
        self._wake()

    def robots_known(self, host: Host, now: float) -> None:
        """Its robots.txt was asked for: what is known by now holds for all slots of the host."""
        for slot in self.roster.slots(host) or (host,):
            if (rules := slot.origin.robots) is not None:
                slot.state.set_crawl_delay(rules.crawl_delay)
            self.touch(slot, now)

    def _admit_unproven(self, now: float) -> None:
        free, waiting = self.parking.free, self.parking.waiting
        while free > 0 and waiting:
            host = next(iter(waiting))
            del waiting[host]
            self.touch(host, now)
            free -= host.in_pages or host.in_calls  # else it had nothing to do any more

    def park(self, now: float) -> None:
        """Let exchanges that have been silent for long go on without counting.

        A host alone keeps to the number of workers, slow as it may be.
        """
        for host in self.parking.park(now, slow=len(self._held) > 1):
            self._count(host)
        if self.parking.waiting:
            self._admit_unproven(now)

    def next_time(self, *, room: bool, writing: bool = False) -> float:
        """When the gate has something to do without being touched (monotonic; inf: never).

        *room*: pages may start. *writing*: a commit is on its way, so there can be no other.
        """
        times = [self.parking.next_time(slow=len(self._held) > 1)]
        if self._calls:
            times.append(self._calls[0][0])
        if self._pages and room:
            times.append(self._pages[0][0])
        if self.sharing is not None and not writing:
            times.append(self.sharing.asks_at)
        return min(times)
