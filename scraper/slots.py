"""Slots: how a crawl of many workers divides a large host among several of them.

The frontier hands out hosts, and a host that is handed out belongs to one worker. Where one is not
enough, `politeness.slots` makes N *slots* of a host: to the frontier each is a host of its own,
named `HOST#0` to `HOST#N-1`. A slot takes its part of what the host grants: N times the delay, and
of the exchanges at once the Nth part. Which slot a request belongs to, its fingerprint says.
"""

from __future__ import annotations

from zlib import crc32

from scraper.config import Politeness
from scraper.hostrules import HostPolicy, policy_for

__all__ = ["Slots", "host_of", "slot_of", "slots_of"]

MARK = "#"  # which no host's key has: it would begin a fragment

KNOWN = 50_000
"""Hosts whose number of slots is remembered."""


def slot_of(host: str, number: int, slots: int) -> str:
    """The slot of *host* (`urls.host_key`) that *number* (a fingerprint) falls into, of *slots*."""
    return f"{host}{MARK}{number % slots}" if slots > 1 else host


def slots_of(host: str, slots: int) -> list[str]:
    """All of a host's slots; the host itself, when there is but one."""
    return [slot_of(host, number, slots) for number in range(max(slots, 1))]


def host_of(slot: str) -> str:
    """The host that a slot is a part of; a host that is not divided is its own."""
    return slot.partition(MARK)[0]


class Slots:
    """Who has how many, by the configuration. *worker*: the name of this process among those that
    share the crawl: what belongs to no request is spread by it."""

    def __init__(self, politeness: Politeness, worker: str) -> None:
        self._politeness = politeness
        self._divided = politeness.slots > 1 or any(
            rule.slots is not None for rule in politeness.hosts.values()
        )
        self._number = crc32(worker.encode("utf-8", "surrogateescape"))
        self._known: dict[str, int] = {}

    def policy(self, slot: str) -> HostPolicy:
        """The rules for one slot."""
        return policy_for(host_of(slot), self._politeness, shared=True)

    def count(self, host: str) -> int:
        """How many slots *host* has."""
        if not self._divided:
            return 1
        count = self._known.get(host)
        if count is None:
            if len(self._known) >= KNOWN:
                self._known.clear()
            count = self._known[host] = self.policy(host).slots
        return count

    def place(self, host: str, fingerprint: int) -> str:
        """The slot for a request to *host*."""
        return slot_of(host, fingerprint, self.count(host)) if self._divided else host

    def own(self, host: str) -> list[str]:
        """All slots of *host*, first the one that this worker asks for when it holds none."""
        names = slots_of(host, self.count(host))
        first = self._number % len(names)
        return names[first:] + names[:first]
