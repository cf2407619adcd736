"""A crawl as a job: recover, run, publish. The phases that make its output exactly the crawl.

::

    running ──► publishing ──► finished
      ▲ │           every move is idempotent: after a crash here it is rolled forward
      │ └─────► failed             finished, but not to be trusted: the output is kept aside
      │
    reopening ◄── a retry of what is finished or failed: its outputs become the working ones again

A phase is a blob in the ledger, written in the same transactions as everything else.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

from scraper import logs
from scraper.assessment import Assessment
from scraper.collector import spared
from scraper.credentials import of_arguments, of_config
from scraper.downloads import Downloads
from scraper.engine import Engine
from scraper.errors import FetchError, UsageError
from scraper.events import Stop
from scraper.finishing import Finishing
from scraper.http import Request, Response
from scraper.identity import FAILED, FINISHED, PUBLISHING, REOPENING, RUNNING, Identity, Revival
from scraper.keeping import Keeper
from scraper.outputs import last_group, reopen, reopenable, restore
from scraper.parts import Parts
from scraper.protocols import CrawlInfo, Shared, Sink
from scraper.quality import Profile
from scraper.redaction import protect
from scraper.report import CrawlResult, result_of
from scraper.spider import stored_arguments
from scraper.tally import Tally
from scraper.telling import brief
from scraper.traps import Traps
from scraper.watchdog import watched
from scraper.work import Batch, Recovery, job_of

__all__ = ["Crawl"]

log = logging.getLogger("scraper.crawl")


class Crawl:
    """One process's share of a job. `run` returns the result of the whole."""

    def __init__(self, parts: Parts, identity: Identity) -> None:
        self.parts = parts
        self.identity = identity
        self.engine: Engine | None = None
        self.recovery = Recovery()
        self.result: CrawlResult | None = None
        self.ended_here = True  # it was this process that ended the crawl, if it is over
        self._early_stop: Stop | None = None
        self._downloads: Downloads | None = None

    def stop(self, *, now: bool = False) -> None:
        """End resumably: what is in flight is finished first, or let go with *now*."""
        stop = Stop("stopped", now=now)
        if self.engine is not None:
            self.engine.stop(stop)
        else:
            self._early_stop = stop

    @property
    def busy(self) -> int:
        """Pages in the making."""
        return self.engine.scheduler.inflight if self.engine is not None else 0

    async def run(self) -> CrawlResult:
        """Recover, crawl, publish. Raises `ScraperError` for what cannot go on."""
        parts = self.parts
        protect(of_config(parts.config) | of_arguments(parts.spider._arguments))
        logs.guard("scraper.crawl", "scraper.download.client", parts.spider.log.name)
        info = self._info()
        try:
            await self._open_outputs(info)
            if self.identity.clear is not None:
                self.identity.clear()
            if self.identity.revival is not None:
                await self._revive(self.identity.revival)
            self.recovery = await parts.frontier.open()
            result = await self._go_on(info, self.recovery)
        finally:
            await self._close()
        self.result = result
        return result

    async def _go_on(self, info: CrawlInfo, recovery: Recovery) -> CrawlResult:
        await self._restore(info, recovery)
        if recovery.state.get("phase") == PUBLISHING:
            reason: Literal["limit", "finished"]
            reason = "limit" if recovery.state.get("ended") == b"limit" else "finished"
            ending = Stop(reason, "published what an earlier process had finished")
            counts = Counter(recovery.counts)
        elif "limit" in recovery.state:
            ending = Stop("limit", "crawl.max_items, reached by an earlier process")
            counts = Counter(recovery.counts)
        else:
            ending, counts = await self._crawl(self._engine(recovery), info, recovery)
        return await self._end(ending, counts)

    def _info(self) -> CrawlInfo:
        identity, spider = self.identity, self.parts.spider
        return CrawlInfo(
            spider=spider.name,
            arguments=stored_arguments(spider),
            started=identity.started,
            root=identity.root,
            job_dir=identity.directory,
            resumed=identity.resumed,
            fetch=spider.fetch,
            download=self._download,
            version=spider.version,
            shared=isinstance(self.parts.frontier, Shared),
        )

    async def _download(self, request: Request, into: Path, max_size: int) -> Response:
        if self._downloads is None:
            raise FetchError("cancelled", detail="downloads work only while the crawl runs")
        return await self._downloads.fetch(request, into, max_size)

    async def _open_outputs(self, info: CrawlInfo) -> None:
        """Before anything else is created: can they be written at all?"""
        if self.identity.abandoned is not None:
            old = replace(info, started=self.identity.abandoned, resumed=True)
            for sink in self.parts.chain.sinks:
                await sink.open(old)
                try:
                    await sink.set_aside()
                finally:
                    await sink.aclose()
        await self.parts.chain.open(info)

    async def _revive(self, revival: Revival) -> None:
        """Let a part of the job be pending again: if the outputs can go on, and limits allow it."""
        identity, ledger, sinks = self.identity, revival.ledger, self.parts.chain.sinks
        stored = job_of(ledger.state)
        if stored is not None and identity.wanted is not None and identity.compare is not None:
            keys = [sink.key for sink in sinks]
            identity.compare(stored, identity.wanted(keys, identity.started))
        limits = self.parts.config.crawl
        if (stop := Tally(self.parts.clock, ledger.counts).reached(limits)) is not None:
            raise UsageError(
                f"this run is at its limit, {stop.detail}: nothing more would be fetched",
                hint="Raise it (-s crawl.NAME=VALUE); what else it has cut off goes on, too.",
            )
        state: dict[str, bytes] = {}
        if ledger.state.get("phase") in (FINISHED, FAILED):
            await reopenable(sinks, ledger)
            state["phase"] = REOPENING
        self._reach("reopen")
        revival.begin(state)
        self._reach("reopen")

    async def _restore(self, info: CrawlInfo, recovery: Recovery) -> None:
        """The job is the one that was asked for, and its outputs are what was committed."""
        parts, identity = self.parts, self.identity
        if identity.wanted is not None and identity.compare is not None:
            wanted = identity.wanted([sink.key for sink in parts.chain.sinks], info.started)
            stored = job_of(recovery.state)
            if stored is not None:
                identity.notes += identity.compare(stored, wanted)
                identity.run = str(stored.get("run", ""))
            else:
                identity.run = wanted["run"] = secrets.token_hex(8)
                state = {"job": json.dumps(wanted).encode(), "phase": RUNNING}
                claims = identity.claims(parts.chain.lasting) if identity.claims else {}
                await parts.frontier.commit(Batch(state=state, claims=dict(claims)))
                recovery.claims = {stage: [keys] for stage, keys in claims.items()}
        self._tell_notes()
        if recovery.state.get("phase") == REOPENING:
            positions = await reopen(parts.chain.sinks, recovery, self._reach)
            self._reach("reopen")
            state = {"phase": RUNNING, "asides": b"{}"}
            await parts.frontier.commit(Batch(positions=positions, state=state))
            recovery.positions = {**recovery.positions, **positions}
        publishing = recovery.state.get("phase") == PUBLISHING
        await restore(parts.chain.sinks, recovery, publishing=publishing)
        if (cookies := recovery.state.get("cookies")) is not None:
            parts.downloader.load_cookies(cookies)

    def _tell_notes(self) -> None:
        for note in self.identity.notes:
            log.warning("%s", note)

    def _engine(self, recovery: Recovery) -> Engine:
        parts = self.parts
        self.engine = engine = Engine(parts, recovery)
        self._downloads = Downloads(
            engine.exchanges, engine.scheduler.gate, parts.config, parts.clock, parts.random
        )
        if self._early_stop is not None:
            engine.stop(self._early_stop)
        return engine

    async def _crawl(
        self, engine: Engine, info: CrawlInfo, recovery: Recovery
    ) -> tuple[Stop, Counter[str]]:
        parts = self.parts
        parts.observers.on_open(info, recovery, engine.scheduler.snapshot)
        try:
            with watched(parts.config.log.stall), spared():
                ending = await engine.run()
        except BaseException:
            await self._told("failed")
            raise
        return ending, engine.scheduler.tally.totals

    async def _end(self, ending: Stop, counts: Counter[str]) -> CrawlResult:
        parts = self.parts
        batch = Batch(applied=last_group(self.recovery))
        if self.engine is not None:
            batch = self.engine.scheduler.last_batch()
        commit = parts.frontier.commit
        finishing = Finishing(parts, self.identity, self.recovery, parts.chain.sinks, commit)
        ending, quality = await finishing.end(ending, batch, counts, self._profile())
        for name in parts.chain.missed:
            log.warning(
                "a pipeline's items name %s, and no such item came: there were %s",
                name,
                ", ".join(sorted(parts.chain.seen)),
            )
        await self._told(ending.reason)
        return self._result(ending, counts, parts.chain.sinks, quality)

    def _result(
        self,
        ending: Stop,
        counts: Counter[str],
        sinks: Sequence[Sink],
        quality: Assessment | None = None,
    ) -> CrawlResult:
        """How the crawl ended, or how far it is, by the outputs *sinks*."""
        parts = self.parts
        return result_of(
            counts,
            spider=parts.spider.name,
            job=self.identity.job,
            ended=ending.reason,
            detail=ending.detail,
            finished=ending.reason in ("finished", "limit"),
            resumed=not self.recovery.fresh,
            outputs=[sink.describe() for sink in sinks],
            pending=parts.frontier.pending,
            arguments=stored_arguments(parts.spider),
            quality=quality.as_dict() if quality is not None else {},
            traps=self._traps().report(),
        )

    def _profile(self) -> Profile:
        if self.engine is not None and isinstance(self.engine.keeper, Keeper):
            return self.engine.keeper.profile
        return Profile.restored(self.recovery.state)

    def _traps(self) -> Traps:
        if self.engine is not None:
            return self.engine.scheduler.admission.traps
        return Traps(self.parts.config.crawl, self.recovery.state)

    def _reach(self, point: str) -> None:
        if self.parts.probe is not None:
            self.parts.probe(point)

    async def _told(self, reason: str) -> None:
        """The spider's `closed` and the observers hear of the end; neither can undo it."""
        told = "stopped" if reason == "stopped" else "failed" if reason == "broken" else reason
        try:
            await self.parts.spider.closed(told)
        except Exception as error:
            log.error("closed() raised %s", brief(error))
            log.debug("traceback", exc_info=error)
        self.parts.observers.on_close(reason)

    async def _close(self) -> None:
        """Everything is closed, whatever else fails.

        However this process ends in good order, no page took it down: leases go back uncharged.
        """
        async with AsyncExitStack() as stack:  # closes last what is pushed first
            stack.push_async_callback(self.parts.frontier.aclose)
            stack.push_async_callback(self.parts.downloader.aclose)
            stack.push_async_callback(self.parts.parsing.aclose)
            stack.push_async_callback(self.parts.chain.aclose)
