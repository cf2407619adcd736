"""Parking: which exchanges hold a worker, and which have been silent for too long to do so.

A host that has not answered yet, or failed last, is *unproven*: those share a quarter of the
workers, one exchange each, and one that stays silent is *parked*: it goes on, but no longer counts
as a worker. So are, a little later, the exchanges of a proven host that has become slow.
"""

from __future__ import annotations

import math
import resource
from collections import deque

from scraper.host import Host

__all__ = ["Parking"]

PATIENCE = 0.5
"""Seconds after which a silent exchange with an unproven host is parked."""

SLOW = 1.0
"""Seconds after which a page's exchange with a proven host keeps no worker from other hosts."""


class Parking:
    """Counts what is under way. `parked`: exchanges that do not count; `pages`: those of pages.

    A host that answered may fall silent, with as many exchanges as it was thought to be good for.
    So those of pages with proven hosts stand in `line`, in the order of their starts; `Host.going`
    holds, by the instant of their start, how many are under way and, of these, parked.
    """

    def __init__(self, concurrency: int) -> None:
        self._quota = max(1, concurrency // 4)
        self._most = min(32 * concurrency, _descriptors() // 2)
        self._probes: deque[tuple[float, Host]] = deque()
        self._probing = 0
        self.waiting: dict[Host, None] = {}  # unproven, may go, but the quarter is used up
        self.line: deque[tuple[float, Host]] = deque()
        self.parked = 0
        self.pages = 0

    def admits(self, host: Host) -> bool:
        """Whether an unproven *host* may start; if not, it is among those `waiting`."""
        if self._probing < self._quota:
            return True
        self.waiting[host] = None
        return False

    @property
    def free(self) -> int:
        """How many unproven hosts more may start."""
        return self._quota - self._probing

    def started(self, host: Host, now: float, *, page: bool) -> None:
        """An exchange with *host* starts, of a *page* or with a host that is unproven."""
        if not host.state.proven:
            host.probe = now
            host.page_probe = page
            self._probing += 1
            self._probes.append((now, host))
        elif (entry := host.going.get(now)) is not None:
            entry[0] += 1
        else:
            self._trim()
            host.going[now] = [1, 0]
            self.line.append((now, host))

    def ended(self, host: Host, began: float) -> None:
        """An exchange that was begun at *began* is over."""
        if (entry := host.going.get(began)) is not None:
            entry[0] -= 1
            if not entry[0]:
                del host.going[began]
            if entry[1]:
                entry[1] -= 1
                self.parked -= 1
                self.pages -= 1
        if host.probe:
            host.probe = 0.0
            if host.parked:
                host.parked = False
                self.parked -= 1
                self.pages -= host.page_probe
            else:
                self._probing -= 1

    def park(self, now: float, *, slow: bool) -> list[Host]:
        """Let exchanges that have been silent for long go on without counting.

        *slow*: those of proven hosts, too. Returns the unproven hosts that are parked by this.
        """
        hosts = []
        while self._probes and self._probes[0][0] + PATIENCE <= now:
            began, host = self._probes.popleft()
            if host.probe == began and not host.parked and self.parked < self._most:
                host.parked = True
                self.parked += 1
                self.pages += host.page_probe
                self._probing -= 1
                hosts.append(host)
        if slow and self.parked < self._most:  # else it is short of descriptors
            self._park_slow(now)
        return hosts

    def _park_slow(self, now: float) -> None:
        while self.line and self.line[0][0] + SLOW <= now:
            began, host = self.line.popleft()
            if (entry := host.going.get(began)) is not None:
                entry[1] = entry[0]
                self.parked += entry[0]
                self.pages += entry[0]

    def next_time(self, *, slow: bool) -> float:
        """When `park` will have something to do; inf: there is nothing under way."""
        when = self._probes[0][0] + PATIENCE if self._probes else math.inf
        if slow and self.parked < self._most:
            self._trim()
            if self.line:
                when = min(when, self.line[0][0] + SLOW)
        return when

    def _trim(self) -> None:
        """What has ended since it was first in line need not be looked at."""
        while self.line and self.line[0][0] not in self.line[0][1].going:
            self.line.popleft()


def _descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 65_536 if soft == resource.RLIM_INFINITY else soft
