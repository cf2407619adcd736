"""Gate: the one place that says which host may be asked next, and when.

Every HTTP exchange of a crawl passes here: pages, `self.fetch` in callbacks, robots.txt. The
rules themselves are pure (`politeness.HostState`, `robots.Origin`); the gate holds one `Host` per
origin, keeps those that may go in order of time, and starts what may start. It sleeps nowhere: a
host that must wait is a date in a heap.

Two lines wait at the gate. *Calls* (robots.txt, `self.fetch`) need no worker, because whoever
asks already is one; *pages* need an idle worker. Which exchanges hold one, and which have been
silent for too long to do so, is a matter of its own (`parking`).
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
from scraper.politeness import Exchange, HostState, policy_for
from scraper.protocols import Clock
from scraper.work import HostLease, HostReturn, Lease, Want

__all__ = ["Gate"]

GIVE_BACK = 0.5
"""A host that must rest longer than this (seconds) goes back to the frontier, so that its
requests do not take the place of others'."""

KEPT_HOSTS = 20_000
"""Hosts remembered after they were given back: their pace and their robots.txt."""


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
    ) -> None:
        """*refuse*: the reason why a page that may start shall not be sent, ever; None: it is."""
        self._politeness = politeness
        self._clock = clock
        self._fetch_robots = fetch_robots
        self._wake = wake
        self._jitter = jitter
        self._refuse = refuse
        self.parking = Parking(concurrency)
        self._hosts: dict[str, Host] = {}
        self._held: dict[str, Host] = {}
        self._thirsty: set[str] = set()  # held, low, and the frontier may have more
        self._calls: list[tuple[float, int, Host]] = []
        self._pages: list[tuple[float, int, Host]] = []
        self._ticket = itertools.count()
        self.leased = 0  # leases waiting here, undispatched
        self._stock = 0  # of proven hosts, in parts: see `stock`

    # ── hosts ────────────────────────────────────────────────────────────────────────────

    def host(self, key: str, saved: bytes | None = None) -> Host:
        """The host of that key, made (from its *saved* state) when it is not known yet."""
        host = self._hosts.get(key)
        if host is None:
            policy = policy_for(key, self._politeness)
            now, wall = self._clock.monotonic(), self._clock.wall()
            host = Host(key, policy, HostState.load(saved, policy, now, wall))
            if len(self._hosts) >= KEPT_HOSTS:
                self._forget()
            self._hosts[key] = host
        return host

    def knows(self, key: str) -> bool:
        """Whether something was ever handed out of that host, as far as that is remembered."""
        return key in self._hosts

    def _forget(self) -> None:
        idle = [key for key, host in self._hosts.items() if host.idle and not host.held]
        for key in idle[: max(len(idle) // 2, 1)]:
            del self._hosts[key]

    def waiting_hosts(self, now: float) -> int:
        """How many held hosts have work and must rest: for people to read."""
        return sum(
            1
            for host in self._held.values()
            if host.leases and not host.inflight and (host.state.ready_at(now) or 0) > now
        )

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
            host = self.host(granted.host, granted.state)
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
        self.touch(host, self._clock.monotonic())

    def withdraw(self, ids: Collection[int]) -> Iterator[Lease]:
        """Take those leases out of the lines."""
        for host in self._held.values():
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

    def low(self) -> list[str]:
        """Held hosts that could use more requests than they have here; they are asked about.

        A host that has nothing, and got nothing when it was asked about, is given back.
        """
        low = []
        for key, host in self._held.items():
            if host.low:
                host.asked = not host.leases and host.idle
                low.append(key)
        return low

    def give_back(
        self, *, everything: bool = False, keep: Collection[str] = ()
    ) -> Iterator[HostReturn]:
        """Hosts to return: those without work, and those that must rest for long."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        for host in list(self._held.values()):
            if (not host.idle or host.key in keep) and not everything:
                continue
            wait = self._wait(host, now)
            rests = wait > GIVE_BACK and host.refusal is None
            if everything or rests or (not host.leases and host.asked):
                del self._held[host.key]
                host.held = host.asked = False
                self.leased -= len(host.leases)
                host.leases.clear()
                self._count(host)
                self._thirsty.discard(host.key)
                due = wall + wait if math.isfinite(wait) and wait > 0 else 0.0
                yield HostReturn(host.key, host.state.save(now, wall), due)

    def _wait(self, host: Host, now: float) -> float:
        ready = host.state.ready_at(now)
        return max((now if ready is None else ready) - now, host.origin.wait(now), 0.0)

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
            self._refuse_calls(host, FetchError(refusal, host.key))
            if host.leases:
                self._line_up(host, now, pages=True)
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
        return host.state.proven or self.parking.admits(host)

    def _start(self, host: Host, now: float, *, page: bool = False) -> None:
        host.inflight += 1
        if page or not host.state.proven:
            self.parking.started(host, now, page=page)
        host.state.started(now)

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
            at = self._clock.wall() + self._wait(host, now)
            turn.set_exception(Throttled(at, url, f"{host.key} must rest"))

    def _refuse_calls(self, host: Host, error: FetchError) -> None:
        while host.calls:
            call = host.calls.popleft()
            if not call.turn.done():
                call.turn.set_exception(FetchError(error.reason, call.url))

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
        self._wake()

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

    def next_time(self, *, room: bool) -> float:
        """When the gate has something to do without being touched (monotonic; inf: never)."""
        times = [self.parking.next_time(slow=len(self._held) > 1)]
        if self._calls:
            times.append(self._calls[0][0])
        if self._pages and room:
            times.append(self._pages[0][0])
        return min(times)
