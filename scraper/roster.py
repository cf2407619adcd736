"""Roster: the hosts that the gate knows, those that it holds and those that it has held."""

from __future__ import annotations

from scraper.config import Politeness
from scraper.host import Host
from scraper.hostrules import policy_for
from scraper.politeness import HostState
from scraper.protocols import Clock
from scraper.slots import Slots, host_of, slots_of

__all__ = ["Roster"]

KEPT_HOSTS = 20_000
"""Hosts remembered after they were given back: their pace and their robots.txt."""


class Roster:
    """One `Host` for each key; in a shared crawl, where *slots* divides hosts, for each slot."""

    def __init__(self, politeness: Politeness, clock: Clock, slots: Slots | None) -> None:
        self._politeness = politeness
        self._clock = clock
        self._slots = slots
        self._hosts: dict[str, Host] = {}

    def host(self, key: str, saved: bytes | None = None) -> Host:
        """The host of that key, made (from its *saved* state) when it is not known yet."""
        host = self._hosts.get(key)
        if host is None:
            policy = policy_for(host_of(key), self._politeness, shared=self._slots is not None)
            now, wall = self._clock.monotonic(), self._clock.wall()
            host = Host(key, policy, HostState.load(saved, policy, now, wall))
            for other in self.slots(host):
                host.origin = other.origin  # there is one robots.txt for all of them
            if len(self._hosts) >= KEPT_HOSTS:
                self._forget()
            self._hosts[key] = host
        return host

    def find(self, key: str) -> Host | None:
        """The host of that key, as far as it is remembered."""
        return self._hosts.get(key)

    def knows(self, key: str) -> bool:
        """Whether something was ever handed out of that host, as far as that is remembered."""
        return key in self._hosts

    def reach(self, name: str) -> Host:
        """The host of that name (`urls.host_key`) for a request that no page's lease is for: of
        its slots one that is held here, if there is any, else the one that this worker asks for."""
        if self._slots is None:
            return self.host(name)
        keys = self._slots.own(name)
        known = (self._hosts.get(key) for key in keys)
        held = next((host for host in known if host is not None and host.held), None)
        return held or self.host(keys[0])

    def slots(self, host: Host) -> list[Host]:
        """All slots of a host that are known here; [] if it is not divided."""
        if host.policy.slots == 1:
            return []
        keys = slots_of(host.name, host.policy.slots)
        return [known for key in keys if (known := self._hosts.get(key)) is not None]

    def _forget(self) -> None:
        idle = [key for key, host in self._hosts.items() if host.idle and not host.held]
        for key in idle[: max(len(idle) // 2, 1)]:
            del self._hosts[key]
