"""Keeping: what becomes of the items of pages that settle, in the order in which they do.

Decisions that span pages are made here and nowhere else: which item is the first with its key,
where the crawl is cut at its limit, what is noted of the items' quality. A crawl of one process
keeps what it settles (`Keeper`). In a shared crawl a worker only hands on what its pages staged
(`Forwarder`), and the leader keeps it, for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from scraper.claims import Claims
from scraper.config import Crawl
from scraper.events import Group
from scraper.outputs import Commits, Outputs
from scraper.pipelines.page import StagedPage
from scraper.pipelines.relay import Relay
from scraper.quality import Profile
from scraper.tally import Tally
from scraper.work import Batch, Committed, Recovery

__all__ = ["Forwarder", "Keeper", "Keeps"]


class Keeps(Protocol):
    """What the scheduler asks of either."""

    def pack(self, page: StagedPage) -> bytes | None:
        """What of *page* travels; None: the page itself is kept. Once its callback is through."""

    def keep(
        self, page: StagedPage, packed: bytes | None, group: Group, counts: dict[str, int]
    ) -> None:
        """*page* settles with *group*; what becomes of its items is added to its *counts*."""

    def complete(self, batch: Batch) -> None:
        """Add what every transaction carries."""

    async def commit(self, batch: Batch, pages: Sequence[StagedPage]) -> Committed:
        """Make *batch* durable, and with it what *pages* have staged."""

    @property
    def applied(self) -> int:
        """Groups up to this one are in every sink."""


class Keeper:
    """Keeps items, exactly once, in the crawl's own outputs."""

    def __init__(
        self,
        limits: Crawl,
        tally: Tally,
        frontier: Commits,
        recovery: Recovery,
        probe: Callable[[str], None] | None = None,
    ) -> None:
        self.profile = Profile.restored(recovery.state)
        self._limits = limits
        self._tally = tally
        self._claims = Claims(recovery.claims)
        self._outputs = Outputs(frontier, recovery, probe)

    @property
    def applied(self) -> int:
        """Groups up to this one are in every sink."""
        return self._outputs.applied

    def pack(self, page: StagedPage) -> bytes | None:
        """Nothing: the page stays here."""
        return None

    def keep(
        self, page: StagedPage, packed: bytes | None, group: Group, counts: dict[str, int]
    ) -> None:
        """Decide what of *page* is delivered, and count it."""
        self._claims.decide(page)
        most = self._limits.max_items
        if most:
            before = len(page.items)
            page.cut(max(most - self._tally["items"], 0))
            if len(page.items) < before:  # its rest is gone for good: the crawl ends here, whatever
                group.batch.state["limit"] = b"crawl.max_items"
        self._claims.store(page, group.batch)
        page.count(counts)
        for observed in page.observations():
            self.profile.add(observed)
        group.pages.append(page)
        group.staged += page.staged

    def complete(self, batch: Batch) -> None:
        """What was noted of the items' quality, if it changed."""
        if (profile := self.profile.changed()) is not None:
            batch.state["quality"] = profile

    async def commit(self, batch: Batch, pages: Sequence[StagedPage]) -> Committed:
        """See `Outputs.commit`."""
        return await self._outputs.commit(batch, pages)


class Forwarder:
    """Hands on what pages staged, for the leader to keep."""

    applied = 0

    def __init__(
        self, frontier: Commits, relay: Relay, probe: Callable[[str], None] | None = None
    ) -> None:
        self._outputs = Outputs(frontier, Recovery(), probe)  # it has none, but for the ledger
        self._relay = relay

    def pack(self, page: StagedPage) -> bytes | None:
        """See `Relay.dump`. Raises `ExtractionError` when it is more than a page may hand on."""
        return self._relay.dump(page)

    def keep(
        self, page: StagedPage, packed: bytes | None, group: Group, counts: dict[str, int]
    ) -> None:
        """Put it into the group's own transaction."""
        if packed is not None:
            group.batch.output.append(packed)
            group.staged += len(packed)
        group.pages.append(page)

    def complete(self, batch: Batch) -> None:
        """Nothing is known here of the items."""

    async def commit(self, batch: Batch, pages: Sequence[StagedPage]) -> Committed:
        """One transaction: the pages are settled, and their items on their way."""
        committed = await self._outputs.commit(batch, ())
        for page in pages:
            page.release()
        return committed
