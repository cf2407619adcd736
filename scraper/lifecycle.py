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
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from scraper import logs
from scraper.assessment import Assessment, assess
from scraper.collector import spared
from scraper.credentials import of_arguments, of_config
from scraper.downloads import Downloads
from scraper.engine import Engine, Parts
from scraper.errors import FetchError, UsageError
from scraper.events import Stop
from scraper.frontier.revive import retracted
from scraper.http import Request, Response
from scraper.outputs import asides, last_group, marks, reopen, reopenable, restore
from scraper.protocols import CrawlInfo
from scraper.quality import Profile
from scraper.redaction import protect
from scraper.report import CrawlResult, failures, result_of
from scraper.spider import stored_arguments
from scraper.tally import Tally
from scraper.telling import brief
from scraper.traps import Traps
from scraper.watchdog import watched
from scraper.work import Batch, Recovery, job_of

__all__ = ["Crawl", "Identity", "Revival"]

log = logging.getLogger("scraper.crawl")

TOLD_FINDINGS = 6
"""Findings that are told one by one; `scrape quality` lists them all."""

RUNNING, PUBLISHING, REOPENING = b"running", b"publishing", b"reopening"
FINISHED, FAILED = b"finished", b"failed"


@dataclass(slots=True)
class Revival:
    """A part of a job that is tried again.

    `ledger`: what it says now, and the `counts` that it will have. `begin(state)`: makes the
    requests pending again and stores these blobs, in one transaction, before the frontier opens.
    """

    ledger: Recovery
    begin: Callable[[Mapping[str, bytes]], object]


@dataclass(slots=True)
class Identity:
    """What a job is fixed to when it is created.

    `started`: of the stored job, when one is `resumed`. `run`: names this run and its retries, and
    no other; known once the ledger is open. `abandoned`: when the run was started that
    this one takes the place of; its partial outputs are set aside. `clear` moves an old ledger out
    of the way, once nothing else can stop this run from beginning. `wanted(sinks, started)`
    describes this run, and `compare(stored, wanted)` raises `JobError` when the job was created
    otherwise. `claims(stages)`: the keys that earlier runs leave to stages that ask for them.
    `history()`: the job's earlier runs. `revival`: for a retry, once nothing else can stop it.
    `job`: its name, None for a crawl that leaves no state.
    """

    started: str
    root: Path
    run: str = ""
    job: str | None = None
    directory: Path | None = None
    resumed: bool = False
    abandoned: str | None = None
    clear: Callable[[], object] | None = None
    wanted: Callable[[Sequence[str], str], dict[str, Any]] | None = None
    compare: Callable[[Mapping[str, Any], Mapping[str, Any]], list[str]] | None = None
    claims: Callable[[Sequence[str]], Mapping[str, array[int]]] | None = None
    history: Callable[[], Sequence[Mapping[str, Any]]] | None = None
    revival: Revival | None = None
    notes: list[str] = field(default_factory=list)


class Crawl:
    """One process's share of a job. `run` returns the result of the whole."""

    def __init__(self, parts: Parts, identity: Identity) -> None:
        self.parts = parts
        self.identity = identity
        self.engine: Engine | None = None
        self.recovery = Recovery()
        self.result: CrawlResult | None = None
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
            self.recovery = recovery = await parts.frontier.open()
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
                ending, counts = await self._crawl(info, recovery)
            result = await self._end(ending, counts)
        finally:
            await self._close()
        self.result = result
        return result

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
        for note in identity.notes:
            log.warning("%s", note)
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

    async def _crawl(self, info: CrawlInfo, recovery: Recovery) -> tuple[Stop, Counter[str]]:
        parts = self.parts
        self.engine = engine = Engine(parts, recovery)
        self._downloads = Downloads(
            engine.exchanges, engine.scheduler.gate, parts.config, parts.clock, parts.random
        )
        if self._early_stop is not None:
            engine.stop(self._early_stop)
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
        ending, quality = self._judged(ending, counts)
        if ending.reason in ("finished", "limit"):
            batch.state["phase"] = PUBLISHING
            batch.state["ended"] = ending.reason.encode()
            await parts.frontier.commit(batch)
            await self._publish()
        elif ending.reason == "failed":
            batch.state["phase"] = FAILED
            await parts.frontier.commit(batch)
            for sink in parts.chain.sinks:
                await sink.set_aside()
            if self.identity.job is not None:  # for a retry to find it there
                state = {"asides": json.dumps(asides(parts.chain.sinks)).encode()}
                positions = await marks(parts.chain.sinks)
                await parts.frontier.commit(Batch(positions=positions, state=state))
        else:
            await parts.frontier.commit(batch)
            if self.identity.job is None:  # nothing remembers it: it cannot be resumed
                for sink in parts.chain.sinks:
                    await sink.set_aside()
        for name in parts.chain.missed:
            log.warning(
                "a pipeline's items name %s, and no such item came: there were %s",
                name,
                ", ".join(sorted(parts.chain.seen)),
            )
        await self._told(ending.reason)
        return result_of(
            counts,
            spider=parts.spider.name,
            job=self.identity.job,
            ended=ending.reason,
            detail=ending.detail,
            finished=ending.reason in ("finished", "limit"),
            resumed=not self.recovery.fresh,
            outputs=[sink.describe() for sink in parts.chain.sinks],
            pending=parts.frontier.pending,
            arguments=stored_arguments(parts.spider),
            quality=quality.as_dict() if quality is not None else {},
            traps=self._traps().report(),
        )

    def _traps(self) -> Traps:
        if self.engine is not None:
            return self.engine.scheduler.admission.traps
        return Traps(self.parts.config.crawl, self.recovery.state)

    async def _publish(self) -> None:
        chain, state = self.parts.chain, {"phase": FINISHED}
        if pages := retracted(self.recovery.state):
            state["retracted"] = b""
            if chain.rejected is not None:
                chain.rejected.retract(pages)
        for sink in chain.sinks:
            self._reach("publish")
            await sink.publish()
        self._reach("publish")
        positions = await marks(chain.sinks) if self.identity.job is not None else {}
        await self.parts.frontier.commit(Batch(positions=positions, state=state))

    def _judged(self, ending: Stop, counts: Counter[str]) -> tuple[Stop, Assessment | None]:
        """The end, and what was delivered: a crawl may be finished, and not to be trusted."""
        quality = self._quality(ending, counts)
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

    def _quality(self, ending: Stop, counts: Counter[str]) -> Assessment | None:
        """What was delivered, and how it compares; None when it was not watched."""
        rules, identity = self.parts.config.quality, self.identity
        if rules.action == "off":
            return None
        if self.engine is not None:
            profile = self.engine.scheduler.profile
        else:
            profile = Profile.restored(self.recovery.state)
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
