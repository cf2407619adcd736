"""A worker's share of a crawl that many share: join, crawl, and see it end.

Every worker is alike. It crawls what the frontier hands out, and stands by to lead (`leading`);
whoever leads when nothing is left ends the crawl, and the others hear of it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from dataclasses import replace
from typing import cast

from scraper.engine import Engine
from scraper.events import Stop
from scraper.identity import RUNNING
from scraper.leading import Leader, result_in
from scraper.lifecycle import Crawl
from scraper.pipelines.relay import places, require_places
from scraper.protocols import CrawlInfo, Shared
from scraper.report import CrawlResult
from scraper.work import Batch, Recovery, job_of, names_of

__all__ = ["JointCrawl"]

ASK = 0.5
"""Seconds between two questions whether the crawl is over, once there is nothing left to do."""

HURRY = 10.0
"""Seconds that a worker which shall stop waits for a store that is away."""


class JointCrawl(Crawl):
    """One process's share of a job that many processes run at once. See `Crawl`."""

    _leader: Leader | None = None
    _crawled = False  # this worker has no more to fetch

    def stop(self, *, now: bool = False) -> None:
        """End this worker's part resumably; the others go on."""
        super().stop(now=now)
        self._frontier.hurry(0.0 if now else HURRY)
        if self._leader is not None and (now or self._crawled):
            self._leader.stop()

    async def _go_on(self, info: CrawlInfo, recovery: Recovery) -> CrawlResult:
        self.ended_here = False
        info = await self._join(info, recovery)
        if "result" in recovery.state:
            return self._seen_here(result_in(recovery.state))
        if (cookies := recovery.state.get("cookies")) is not None:
            self.parts.downloader.load_cookies(cookies)
        engine = self._engine(recovery)
        leader = Leader(self.parts, self.identity, info, self._frontier, engine.seed, self._result)
        self._leader = leader
        if self._early_stop is not None:
            leader.stop()
        crawling = asyncio.create_task(self._crawl(engine, info, recovery))
        leading = asyncio.create_task(leader.run())
        try:
            await asyncio.wait({crawling, leading}, return_when=asyncio.FIRST_COMPLETED)
            if not crawling.done():  # the crawl is over, or its output cannot be written
                engine.stop(Stop("stopped", now=True))
            ending, _ = await crawling
            self._crawled = True
            if ending.reason in ("stopped", "broken"):
                leader.stop()
            await self._frontier.commit(engine.scheduler.last_batch())
            result = await self._see_the_end(engine, leading) or self._part(engine, ending)
        finally:
            for task in (crawling, leading):
                task.cancel()
            await asyncio.wait({crawling, leading})
        self.ended_here = leader.led
        await self._told(result.ended)
        return self._seen_here(result)

    def _seen_here(self, result: CrawlResult) -> CrawlResult:
        """Whether it went on with what was there is each worker's own to tell."""
        return replace(result, resumed=self.identity.resumed and not self.identity.young)

    @property
    def _frontier(self) -> Shared:
        return cast("Shared", self.parts.frontier)

    async def _join(self, info: CrawlInfo, recovery: Recovery) -> CrawlInfo:
        """Begin the crawl, or take part in what another worker has begun, if it is the same."""
        identity, chain = self.identity, self.parts.chain
        if identity.wanted is None or identity.compare is None:
            raise AssertionError("a shared crawl is a job")
        # What lies in the project has one name wherever a worker's copy of the project is.
        root = f"{identity.root}/"
        outputs = [sink.key.removeprefix(root) for sink in chain.sinks]
        wanted = identity.wanted(outputs, info.started)
        wanted["run"] = secrets.token_hex(8)
        claims = identity.claims(chain.lasting) if identity.claims is not None else {}
        here = {key.removeprefix(root): place for key, place in (await places(chain.sinks)).items()}
        begun = {"job": json.dumps(wanted).encode(), "phase": RUNNING}
        begun["places"] = json.dumps(here).encode()
        recovery.state = {**recovery.state, **await self._frontier.begin(begun, claims)}
        stored = job_of(recovery.state) or wanted
        identity.notes += identity.compare(stored, wanted)
        require_places(names_of(recovery.state, "places"), here)
        identity.run = str(stored.get("run", ""))
        self._tell_notes()
        if stored["started"] != info.started:  # another was first by a moment
            identity.started = stored["started"]
            info = replace(info, started=identity.started)
            await chain.aclose()
            await chain.open(info)
        return info

    async def _see_the_end(
        self, engine: Engine, leading: asyncio.Task[CrawlResult | None]
    ) -> CrawlResult | None:
        """The crawl's result, once whoever leads has ended it; None if this worker was stopped."""
        news = engine.scheduler.news
        while not leading.done() and "result" not in news:
            await asyncio.wait({leading}, timeout=ASK)
            if not leading.done():
                news.update((await self._frontier.commit(Batch())).news)
        return leading.result() if leading.done() else result_in(news)

    def _part(self, engine: Engine, ending: Stop) -> CrawlResult:
        """How far the crawl is, as this worker leaves it."""
        if ending.reason != "broken":
            ending = Stop("stopped")
        totals = Counter(engine.scheduler.tally.totals)
        return self._result(ending, totals, self.parts.chain.sinks)
