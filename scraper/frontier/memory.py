"""The frontier that ends with its process: for notebooks, `run(...)` from Python, and tests."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from scraper.frontier.core import Changes, Core, Failed, Rejects, Row
from scraper.frontier.hosts import Host
from scraper.work import Batch, Committed, HostLease, Recovery, Want

__all__ = ["MemoryFrontier"]


class MemoryFrontier:
    """Keeps a crawl's requests in memory. Nothing is left when it closes.

    `wall`: the clock that stored dates go by, seconds since the epoch. About 400 bytes for each
    pending request, 10 for each that was ever seen.
    """

    def __init__(self, *, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._core = Core(self)
        self._rows: dict[int, Row] = {}
        self._states: dict[int, bytes] = {}
        self._failed: list[Failed] = []
        self._rejects: list[Rejects] = []
        self.counts: Counter[str] = Counter()
        self.positions: dict[str, Any] = {}
        self.state: dict[str, bytes] = {}

    @property
    def pending(self) -> int:
        """Requests that are not settled yet, leased ones included."""
        return self._core.pending

    async def open(self) -> Recovery:
        """There is never anything to recover."""
        return Recovery()

    async def acquire(self, want: Want) -> list[HostLease]:
        """Hand out work: a commit of nothing else."""
        return (await self.commit(Batch(want=want))).leases

    async def commit(self, batch: Batch) -> Committed:
        """See `Frontier.commit`. Raises `ValueError` for what contradicts the leases."""
        now = self._wall()
        changes = self._core.apply(batch, now)
        self._keep(changes)
        leases = self._core.lease(batch.want, now)
        return changes.committed(leases, self._core.pending)

    def _keep(self, changes: Changes) -> None:
        for request_id in changes.gone:
            del self._rows[request_id]
        self._rows.update((row.id, row) for row in changes.again)
        self._rows.update((row.id, row) for row in changes.new)
        self._states.update((host.id, state) for host, state in changes.returned)
        self._failed += changes.failed
        self._rejects += changes.rejects
        self.counts.update(changes.counts)
        self.positions.update(changes.positions)
        self.state.update(changes.state)

    def next_due(self) -> float | None:
        """See `Frontier.next_due`."""
        return self._core.next_due(self._wall())

    def failures(self) -> Iterator[dict[str, Any]]:
        """What ended without success: `at`, `reason`, `url`, `detail`, `depth`, `attempt` …"""
        return (failed._asdict() for failed in self._failed)

    def rejects(self) -> Iterator[dict[str, Any]]:
        """The pages with rejected items: `at`, `url`, `items` (JSON), `failed`, `depth` …"""
        return (page._asdict() for page in self._rejects)

    async def aclose(self, *, clean: bool = True) -> None:
        """There is nothing to close."""

    # What the core reads back -------------------------------------------------------------------

    def rows(self, ids: list[int]) -> Mapping[int, Row]:
        """The pending requests of these ids."""
        return {request_id: self._rows[request_id] for request_id in ids}

    def states(self, hosts: list[Host]) -> Mapping[int, bytes]:
        """The saved states of these hosts."""
        return {host.id: self._states[host.id] for host in hosts}

    def __repr__(self) -> str:
        return f"<MemoryFrontier: {self.pending} pending, {len(self._core.leased)} leased>"
