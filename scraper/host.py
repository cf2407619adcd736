"""A host as the gate keeps it: its pace, its robots.txt, and who waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from scraper.errors import FetchError
from scraper.politeness import HostPolicy, HostState
from scraper.robots import Origin
from scraper.slots import host_of
from scraper.work import Lease

__all__ = ["WHOLE", "Call", "Host", "Start"]

SOON = 0.1
"""Seconds: about the time between two commits of a busy crawl, which may bring more requests."""

WHOLE = 100
"""Parts of a request that `Host.soon` counts in: integers, so that sums are exact."""


@dataclass(slots=True, eq=False)
class Call:
    """Somebody awaiting a turn. `exempt`: robots.txt itself, which asks no robots.txt."""

    turn: asyncio.Future[float]
    url: str
    exempt: bool


class Host:
    """One origin: its pace, its robots.txt, and who waits for it.

    Of a crawl that many workers share it may be one of its slots; `name` is that of the host.
    """

    __slots__ = (
        "asked",
        "busy_pages",
        "calls",
        "dry",
        "going",
        "held",
        "in_calls",
        "in_pages",
        "inflight",
        "key",
        "leases",
        "name",
        "origin",
        "page_probe",
        "parked",
        "policy",
        "probe",
        "state",
        "stocked",
    )

    def __init__(self, key: str, policy: HostPolicy, state: HostState) -> None:
        self.key = key
        self.name = host_of(key)
        self.policy = policy
        self.state = state
        self.origin = Origin(policy.robots)
        self.leases: deque[Lease] = deque()
        self.calls: deque[Call] = deque()
        self.inflight = 0  # exchanges
        self.going: dict[float, list[int]] = {}  # see `Parking`
        self.busy_pages = 0  # leases dispatched and not settled
        self.held = False  # handed out by the frontier
        self.asked = False  # it had nothing left when the frontier was last asked for more
        self.dry = False  # and the frontier has nothing more for it
        self.in_calls = self.in_pages = False  # stands in that heap
        self.stocked = 0  # its share of `Gate.stock`
        self.probe = 0.0  # when the exchange began that will prove it; 0: none
        self.page_probe = False  # and that exchange holds a worker
        self.parked = False

    @property
    def refusal(self) -> str | None:
        """The reason code with which all of this host's requests end, if it was given up."""
        return self.state.refusal or self.origin.refusal

    @property
    def idle(self) -> bool:
        return not (self.inflight or self.busy_pages or self.calls)

    @property
    def low(self) -> bool:
        """It could use more requests than it has here, before it can be given more."""
        most, delay = 2 * self.policy.per_host, self.state.delay
        if delay:
            most = min(most, 1 + int(2 * SOON / delay))
        return len(self.leases) < most

    @property
    def soon(self) -> int:
        """How much of its requests workers can count on, in parts: what its delay lets go soon.

        What waits longer keeps nobody busy, however much there is of it.
        """
        delay, there = self.state.delay, WHOLE * len(self.leases)
        return min(there, int(WHOLE * SOON / delay) + 1) if delay else there

    def wait(self, now: float) -> float:
        """Seconds until something may start here, as far as dates say."""
        ready = self.state.ready_at(now)
        return max((now if ready is None else ready) - now, self.origin.wait(now), 0.0)

    def refuse_calls(self, reason: str) -> None:
        """All who wait end with that reason."""
        while self.calls:
            call = self.calls.popleft()
            if not call.turn.done():
                call.turn.set_exception(FetchError(reason, call.url))

    def forget_calls(self) -> None:
        """Those that gave up waiting wait no longer."""
        if any(call.turn.done() for call in self.calls):
            self.calls = deque(call for call in self.calls if not call.turn.done())

    def __repr__(self) -> str:
        return f"<Host {self.key}: {self.inflight} in flight, {len(self.leases)} leased>"


@dataclass(slots=True)
class Start:
    """A page that may start now: its exchange is already counted. `refused`: it may not, ever."""

    host: Host
    lease: Lease
    began: float
    refused: str | None = None
