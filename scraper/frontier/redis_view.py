"""What one worker knows of a shared crawl: its leases and hosts, the news, when there may be more.

Only its own commits change what it has, and each answer tells the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scraper.frontier.redis_codec import (
    IDS,
    Held,
    Recent,
    granted,
    host_of,
    is_own,
    is_own_part,
    texts,
    totals,
    united,
)
from scraper.frontier.redis_commit import Commit
from scraper.work import Batch, Committed, HostLease

__all__ = ["View"]

POLL, POLL_MOST = 0.25, 1.0
"""Seconds until somebody who has nothing to do looks again: others may have brought something."""

ENDED = 2
"""The kind of an answer that says: a limit was reached, and nothing was done."""


class View:
    """The state of one worker, as of its last commit."""

    def __init__(self) -> None:
        self.leases: dict[int, Held] = {}
        self.hosts: dict[str, set[int]] = {}
        self.recent = Recent()
        self.last_id = 0
        self.pending = 0
        self.workers = 1
        self.leads = False
        self.pages = 0
        self.version = 0  # of the news that are known
        self.said: dict[str, bytes] = {}  # what this worker told everybody
        self._parts: dict[str, bytes] = {}  # blobs of which every worker has its own, as stored
        self._earliest = 0.0
        self._looked = 0.0
        self._poll = POLL

    def open(self, number: int, stored: Mapping[str, bytes], version: int, now: float) -> None:
        """The worker's *number*; the blobs as they are stored, and the news' version in them."""
        self.last_id = number * IDS
        self._parts = {name: blob for name, blob in stored.items() if is_own_part(name)}
        self.version = version
        self._looked = now

    def next_due(self, now: float) -> float | None:
        """See `Frontier.next_due`."""
        others = self.workers > 1
        if not self.pending and (self.leads or not others):
            return None
        due = min(self._earliest, self._looked + self._poll) if others else self._earliest
        return 0.0 if due <= now else due

    def changed(self, workers: int) -> None:
        """So many are alive by now. What one of them had may be to be had."""
        if workers < self.workers:
            self._earliest = 0.0
        self.workers = workers

    def take(self, batch: Batch, commit: Commit, answer: Sequence[Any], now: float) -> Committed:
        """The answer of `commit.lua`, less its first word. Raises `ValueError` and others like it
        for what is none, and `DamagedState`."""
        kind, told, refused, hosts, dates, workers, leader, counters, news, mine, paused, hungry = (
            answer
        )
        counts, own = totals(counters)
        given: list[HostLease] = []
        if kind != ENDED:
            self._settle(batch, commit)
            given = granted(hosts, self.leases, self.hosts)
        self.pending = own.get("pending", 0)
        self.workers = workers
        self.leads = leader == commit.worker.encode()
        self._earliest = min((now + ms / 1000 for ms in dates), default=math.inf)
        self._looked = now
        self._poll = POLL if given else min(self._poll * 2, POLL_MOST)
        fresh = self._news(texts(news))
        self.version = own.get("news", 0)
        return Committed(
            given,
            self.pending,
            told[0],
            told[1] + (0 if kind == ENDED else commit.duplicates),
            [commit.redirects[nth - 1] for nth in refused],
            totals=counts,
            news=fresh,
            wished=[slot.decode() for slot in mine],
            quiet=self._quiet(paused, now),
            hungry=hungry,
            ended=kind == ENDED,
        )

    def _settle(self, batch: Batch, commit: Commit) -> None:
        """What was asked for is done."""
        for lease_id in (*commit.settled, *commit.unused):
            held = self.leases.pop(lease_id)
            if (here := self.hosts.get(held.slot)) is not None:
                here.discard(lease_id)
        for lease_id in batch.sending:
            self.leases[lease_id].sending = True
        for given in batch.returned:
            del self.hosts[given.host]
        for name, blob in batch.state.items():
            if is_own(name):
                self._parts[f"{name}@{commit.worker}"] = blob
        self.recent.update(commit.fingerprints)
        self.pages += len(commit.settled)

    def _news(self, stored: Mapping[str, bytes]) -> dict[str, bytes]:
        """What others have told; of what every worker has, all of it together."""
        parts = {name: blob for name, blob in stored.items() if is_own_part(name)}
        plain = {
            name: blob
            for name, blob in stored.items()
            if name not in parts and self.said.get(name) != blob
        }
        if not parts:
            return plain
        self._parts.update(parts)
        names = {name.partition("@")[0] for name in parts}
        return plain | united({
            name: blob for name, blob in self._parts.items() if name.partition("@")[0] in names
        })

    def _quiet(self, paused: Sequence[Any], now: float) -> dict[str, float]:
        if not paused:
            return {}
        until = {
            host.decode(): now + ms / 1000
            for host, ms in zip(paused[::2], paused[1::2], strict=True)
        }
        return {slot: until[host] for slot in self.hosts if (host := host_of(slot)) in until}
