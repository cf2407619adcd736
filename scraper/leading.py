"""Leading: one of many workers writes what all of them found, in the order of their commits.

::

    workers ── commit ──► the frontier's output ── leader ──► sinks
                          (a log of settled pages)            "delivered up to here", with positions

The leader keeps the items of a shared crawl as a process of its own keeps its own: one `Keeper`
decides about keys and limits, `Outputs` delivers groups. What it commits is the place in the
output up to which everything is delivered; so a leader may be killed at any instant, and the next
one goes on from there, as a resumed crawl does.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from socket import gethostname

from scraper.assessment import Assessment
from scraper.errors import DamagedState, JobError, ScraperError, UsageError
from scraper.events import Group, Stop
from scraper.finishing import Finishing
from scraper.identity import FAILED, PUBLISHING, Identity
from scraper.keeping import Keeper
from scraper.outputs import last_group, restore
from scraper.parts import Parts
from scraper.pipelines.relay import Relay
from scraper.protocols import CrawlInfo, Shared, Sink
from scraper.report import CrawlResult
from scraper.tally import Tally
from scraper.work import Batch, Committed, Recovery, stored

__all__ = ["Leader", "result_in"]

log = logging.getLogger("scraper.crawl")

PORTION = 4 << 20
"""Bytes of output that are delivered together, about."""

ASK = 1.0
"""Seconds between two tries to become the leader."""

AGAIN = 2.0
"""Seconds before another try, after the outputs could not be taken over here."""

ELSEWHERE = 60.0
"""Seconds after which outputs that no worker can take over end this one. Those that lie on another
machine are waited for `frontier.patience`, and those that a process has open which was taken for
dead and is not (it stands still).
"""


SumUp = Callable[[Stop, Counter[str], Sequence[Sink], Assessment | None], CrawlResult]


class _ElsewhereError(Exception):
    """The outputs cannot be taken over by this worker."""

    def __init__(self, error: ScraperError) -> None:
        super().__init__(error)
        self.error = error


class _StoppedError(Exception):
    """This worker shall lead no more."""


class Leader:
    """This worker's readiness to lead. `run` returns the crawl's result, once it is over.

    `began(done)` is called when this worker becomes the leader: it pulls `start()`, unless that is
    *done*. `sum_up` makes the result. `led`: whether it was this worker that ended the crawl.
    """

    def __init__(
        self,
        parts: Parts,
        identity: Identity,
        info: CrawlInfo,
        frontier: Shared,
        began: Callable[[bool], None],
        sum_up: SumUp,
    ) -> None:
        self.led = False
        self._parts = parts
        self._identity = identity
        self._info = info
        self._frontier = frontier
        self._began = began
        self._sum_up = sum_up
        self._upto = ""
        self._stopping = asyncio.Event()
        self._failing: float | None = None  # since when

    def stop(self) -> None:
        """Lead no more; `run` returns None soon."""
        self._stopping.set()

    async def run(self) -> CrawlResult | None:
        """Lead, when it is this worker's turn, until the crawl is over or `stop` is called."""
        while not self._stopping.is_set():
            recovery = await self._frontier.lead()
            wait = ASK
            if recovery is not None:
                try:
                    return await self._lead(recovery)
                except _ElsewhereError as signal:
                    await self._frontier.resign()
                    self._cannot(signal.error, recovery)
                    wait = AGAIN
                except _StoppedError:
                    break
            await self._pause(wait)
        await self._frontier.resign()
        return None

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    def _cannot(self, error: ScraperError, recovery: Recovery) -> None:
        """The outputs cannot be taken over here: perhaps another worker can, or later."""
        now = self._parts.clock.monotonic()
        if self._failing is None:
            self._failing = now
            log.warning("this worker cannot write the crawl's output yet: %s", error.message)
        if isinstance(error, JobError):  # somebody has it open, or it lies elsewhere
            patience = max(self._parts.config.frontier.patience, ELSEWHERE)
        else:
            patience = ELSEWHERE if recovery.others else 0.0
        if now - self._failing >= patience:
            raise error

    # ── while it leads ───────────────────────────────────────────────────────────────────

    async def _lead(self, recovery: Recovery) -> CrawlResult:
        if "result" in recovery.state:
            return result_in(recovery.state)
        async with AsyncExitStack() as stack:
            chain = self._parts.outputs()
            sinks = chain.sinks
            try:
                await self._take_over(sinks, recovery, stack)
            except (DamagedState, UsageError) as error:
                raise _ElsewhereError(self._elsewhere(error, recovery)) from error
            self._failing = None
            self._upto = ""
            await self.commit(Batch(state={"led": self._here.encode()}))
            log.debug("this worker leads the crawl")
            return await self._keep(Relay(chain, self._parts.spider.name), sinks, recovery)

    async def _take_over(
        self, sinks: Sequence[Sink], recovery: Recovery, stack: AsyncExitStack
    ) -> None:
        """Make the outputs be what was delivered, wherever the leader before stopped."""
        info = replace(self._info, resumed="led" in recovery.state)
        for sink in sinks:
            stack.push_async_callback(sink.aclose)
            await sink.open(info)
        self._known(sinks, recovery)
        over = recovery.state.get("phase") in (PUBLISHING, FAILED)
        await restore(sinks, recovery, publishing=over)

    def _known(self, sinks: Sequence[Sink], recovery: Recovery) -> None:
        """What was written under another name would be begun anew here, and lost."""
        foreign = recovery.positions.keys() - {sink.key for sink in sinks}
        if foreign:
            raise JobError(
                f"the crawl writes to {', '.join(sorted(foreign))} on {self._place(recovery)},"
                " which is no output here",
                hint="Run a worker there, with the same outputs.",
            )

    @property
    def _here(self) -> str:
        return f"{gethostname()}:{self._identity.root}"

    def _place(self, recovery: Recovery) -> str:
        """Where the leader before this one was."""
        return recovery.state.get("led", self._here.encode()).decode("utf-8", "replace")

    def _elsewhere(self, error: ScraperError, recovery: Recovery) -> ScraperError:
        """What is not there is damaged only where it was written."""
        place = self._place(recovery)
        if not isinstance(error, DamagedState) or place == self._here:
            return error
        return JobError(
            f"the crawl's output was written on {place}: {error.message}",
            hint="Run a worker there; outputs that several machines reach are in the docs"
            " (docs/workers.md).",
        )

    async def _keep(self, relay: Relay, sinks: Sequence[Sink], recovery: Recovery) -> CrawlResult:
        parts, state = self._parts, recovery.state
        tally = Tally(parts.clock, recovery.counts)
        keeper = Keeper(parts.config.crawl, tally, self, recovery, parts.probe)
        batch = Batch(applied=last_group(recovery))
        if state.get("phase") in (PUBLISHING, FAILED):
            ending = Stop("failed") if state["phase"] == FAILED else Stop("finished")
            if "ending" in state:
                ending = Stop.load(state["ending"])
            elif state.get("ended") == b"limit":
                ending = Stop("limit")
        else:
            self._began("start" in state)
            ending = await self._drain(keeper, tally, relay, state)
            keeper.complete(batch)
            tally.complete(batch, 0)
            batch.applied = keeper.applied

        def last(ended: Stop, quality: Assessment | None) -> dict[str, bytes]:
            result = self._sum_up(ended, tally.totals, sinks, quality)
            return {
                "result": json.dumps(asdict(result)).encode(),
                "ended_at": str(parts.clock.wall()).encode(),
            }

        finishing = Finishing(parts, self._identity, recovery, sinks, self.commit, last)
        ended, quality = await finishing.end(ending, batch, tally.totals, keeper.profile)
        self.led = True
        return self._sum_up(ended, tally.totals, sinks, quality)

    async def _drain(
        self, keeper: Keeper, tally: Tally, relay: Relay, state: Mapping[str, bytes]
    ) -> Stop:
        """Deliver what comes, until nothing can come any more; why the crawl ends."""
        limits, known = self._parts.config.crawl, dict(state)
        last = False  # nothing can be added to the output any more
        while True:
            if "limit" in known:
                return Stop("limit", known["limit"].decode("utf-8", "replace"))
            if self._stopping.is_set():
                raise _StoppedError
            entries = await self._frontier.entries(self._upto, PORTION, wait=not last)
            if last and not entries:
                return Stop.load(known["ending"]) if "ending" in known else Stop("finished")
            committed = await self._deliver(entries, keeper, tally, relay)
            known.update(committed.news)
            reached = tally.reached(limits)
            if reached is not None and "ending" not in known:
                known["ending"] = reached.dump()
                await self.commit(Batch(state={"ending": known["ending"]}))
                if limits.max_items and tally["items"] >= limits.max_items:
                    return reached
            last = "ending" in known or ("start" in known and not committed.pending)

    async def _deliver(
        self,
        entries: Sequence[tuple[str, bytes]],
        keeper: Keeper,
        tally: Tally,
        relay: Relay,
    ) -> Committed:
        group = Group()
        most = self._parts.config.crawl.max_items
        for entry, data in entries:
            self._upto = entry
            page = relay.load(data)
            counts: dict[str, int] = {}
            keeper.keep(page, None, group, counts)
            tally.settle(counts, group.batch)
            if most and tally["items"] >= most:  # what comes after the cut does not exist
                break
        keeper.complete(group.batch)
        tally.complete(group.batch, 0)
        committed = await keeper.commit(group.batch, group.pages)
        if committed.totals is not None:
            tally.heard(committed.totals, Batch())
        return committed

    # ── a frontier, as far as outputs go: what they commit is a delivery ─────────────────

    async def commit(self, batch: Batch) -> Committed:
        """See `Shared.deliver`."""
        return await self._frontier.deliver(batch, self._upto)


def result_in(state: Mapping[str, bytes]) -> CrawlResult:
    """The result of a shared crawl that is over. Raises `DamagedState` for what is none."""
    wrong = "the frontier does not say how the crawl ended"
    found = stored(state, "result", lambda value: isinstance(value, dict), wrong)
    try:
        return CrawlResult(**found)
    except TypeError as error:
        raise DamagedState(
            f"{wrong}: {error}", hint="Look at the outputs; `--fresh` begins a new crawl."
        ) from None
