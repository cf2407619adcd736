"""The end of a crawl: judged, then published, or kept aside because it is not to be trusted.

Whoever keeps the outputs ends the crawl: its only process, or the leader of many.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from scraper.assessment import Assessment, assess
from scraper.events import Stop
from scraper.frontier.revive import retracted
from scraper.identity import FAILED, FINISHED, PUBLISHING, Identity
from scraper.outputs import asides, marks
from scraper.parts import Parts
from scraper.pipelines.rejected import RejectedItems
from scraper.protocols import Sink
from scraper.quality import Profile
from scraper.report import failures
from scraper.spider import stored_arguments
from scraper.work import Batch, Committed, Recovery

__all__ = ["Finishing"]

log = logging.getLogger("scraper.crawl")

TOLD_FINDINGS = 6
"""Findings that are told one by one; `scrape quality` lists them all."""


@dataclass(slots=True)
class Finishing:
    """Ends a crawl in the outputs *sinks*.

    `recovery`: what the ledger held when this process began to keep them. `commit` makes a batch
    durable. `last(ending, quality)`: blobs that the last commit of a crawl that is over adds.
    """

    parts: Parts
    identity: Identity
    recovery: Recovery
    sinks: Sequence[Sink]
    commit: Callable[[Batch], Awaitable[Committed]]
    last: Callable[[Stop, Assessment | None], dict[str, bytes]] = lambda ending, quality: {}

    async def end(
        self, ending: Stop, batch: Batch, counts: Counter[str], profile: Profile
    ) -> tuple[Stop, Assessment | None]:
        """End as *ending* says, unless the crawl is not to be trusted. *batch*: what is left to
        store. How it ended, and what was delivered (None: that was not watched)."""
        ending, quality = self._judged(ending, counts, profile)
        if ending.reason in ("finished", "limit"):
            batch.state["phase"] = PUBLISHING
            batch.state["ended"] = ending.reason.encode()
            await self.commit(batch)
            await self._publish(ending, quality)
        elif ending.reason == "failed":
            batch.state["phase"] = FAILED
            await self.commit(batch)
            for sink in self.sinks:
                await sink.set_aside()
            if self.identity.job is not None:  # for a retry to find it there
                state = {"asides": json.dumps(asides(self.sinks)).encode()}
                state |= self.last(ending, quality)
                positions = await marks(self.sinks)
                await self.commit(Batch(positions=positions, state=state))
        else:
            await self.commit(batch)
            if self.identity.job is None:  # nothing remembers it: it cannot be resumed
                for sink in self.sinks:
                    await sink.set_aside()
        return ending, quality

    async def _publish(self, ending: Stop, quality: Assessment | None) -> None:
        state = {"phase": FINISHED}
        if pages := retracted(self.recovery.state):
            state["retracted"] = b""
            for sink in self.sinks:
                if isinstance(sink, RejectedItems):
                    sink.retract(pages)
        for sink in self.sinks:
            self._reach("publish")
            await sink.publish()
        self._reach("publish")
        positions = await marks(self.sinks) if self.identity.job is not None else {}
        state |= self.last(ending, quality)
        await self.commit(Batch(positions=positions, state=state))

    def _judged(
        self, ending: Stop, counts: Counter[str], profile: Profile
    ) -> tuple[Stop, Assessment | None]:
        """The end, and what was delivered: a crawl may be finished, and not to be trusted."""
        quality = self._quality(ending, counts, profile)
        if ending.reason not in ("finished", "limit"):
            return ending, quality
        if self.recovery.state.get("phase") == PUBLISHING:  # it was judged before
            return ending, quality
        objection = self._objection(counts)
        if quality is not None:
            for finding in quality.findings[:TOLD_FINDINGS]:
                log.warning("quality: %s", finding.text)
            objection = objection or quality.objection(self.parts.config.quality)
        return (ending if objection is None else Stop("failed", objection)), quality

    def _quality(self, ending: Stop, counts: Counter[str], profile: Profile) -> Assessment | None:
        """What was delivered, and how it compares; None when it was not watched."""
        rules, identity = self.parts.config.quality, self.identity
        if rules.action == "off":
            return None
        return assess(
            profile,
            rules,
            started=identity.started,
            items=counts["items"],
            complete=ending.reason in ("finished", "limit"),
            finished=ending.reason == "finished",
            arguments=stored_arguments(self.parts.spider),
            history=identity.history() if identity.history is not None else (),
        )

    def _objection(self, counts: Counter[str]) -> str | None:
        """Why a crawl that mostly failed is not to be trusted; None if it did not."""
        failed, pages = failures(counts), counts["pages"]
        allowed = self.parts.config.crawl.max_failure_rate
        if not pages:
            return "no page succeeded"
        rate = failed / (failed + pages)
        if rate <= allowed:
            return None
        return f"{rate:.0%} of the pages failed, more than crawl.max_failure_rate = {allowed:g}"

    def _reach(self, point: str) -> None:
        if self.parts.probe is not None:
            self.parts.probe(point)
