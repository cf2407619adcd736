"""Engine: run → worker → handle. What happens to one page, from its lease to its outcome.

The engine acts; it decides little. The scheduler says what may start, pure functions say what a
failure means, and every page comes back as one `Outcome`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from scraper import retry, urls
from scraper.admission import DEFAULT_CALLBACK, Admission
from scraper.callbacks import Callbacks, deliver, drain
from scraper.chained import weight
from scraper.credentials import OfPage
from scraper.errors import (
    ConfigError,
    DamagedState,
    ExtractionError,
    FetchError,
    ItemInvalid,
    OutOfResource,
    Retry,
    SpiderError,
    Throttled,
)
from scraper.events import Outcome, Seeds, Stop
from scraper.exchange import Exchanges, Grant
from scraper.host import Host, Start
from scraper.http import Failure, Request, Response
from scraper.keeping import Forwarder, Keeper, Keeps
from scraper.links import Memo
from scraper.parts import Parts
from scraper.pipelines.chain import Delivered, Failed, Rejected
from scraper.pipelines.page import StagedPage
from scraper.pipelines.relay import Relay
from scraper.protocols import Shared
from scraper.redaction import holding, redacted
from scraper.request import unusual
from scraper.revisit import Earlier
from scraper.scheduler import Scheduler
from scraper.scope import Scope
from scraper.slots import Slots
from scraper.tally import Tally
from scraper.telling import Reporter, brief
from scraper.work import Again, Dead, Done, Lease, Recovery

__all__ = ["Engine"]

log = logging.getLogger("scraper.crawl")

SEED_BATCH = 500
TOLD_REJECTED = 3

_ANYTHING = (Exception, SystemExit, asyncio.CancelledError)
"""What users' code may raise: `sys.exit()` or a cancelled helper in a callback ends its page, and
neither the process nor, unnoticed, the worker."""


@dataclass(slots=True)
class Visit:
    """One page in the making: what its callback has given so far."""

    lease: Lease
    host: Host
    page: StagedPage
    found: list[Request] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class Engine:
    """Runs one crawl, once."""

    def __init__(self, parts: Parts, recovery: Recovery) -> None:
        state = recovery.state
        self.spider = parts.spider
        self.config = parts.config
        self._chain = parts.chain
        self._clock = parts.clock
        self._random = parts.random
        self._observers = parts.observers
        self._parsing = parts.parsing
        self._page_limits = parts.page_limits
        self._callbacks = Callbacks(self.spider)
        self._memo = Memo(nofollow=self.config.politeness.nofollow)
        crawl = self.config.crawl
        scope = Scope.load(state, crawl.scope, self.spider.allowed_domains)
        worker = parts.frontier.worker if isinstance(parts.frontier, Shared) else ""
        slots = Slots(self.config.politeness, worker) if worker else None
        admission = Admission(crawl, scope, self._callbacks, slots)
        admission.load(state)
        self.shared = isinstance(parts.frontier, Shared)
        tally = Tally(self._clock, recovery.counts, timed=not self.shared)
        self.keeper: Keeps
        if self.shared:
            relay = Relay(parts.chain, self.spider.name)
            self.keeper = Forwarder(parts.frontier, relay, parts.probe)
        else:
            self.keeper = Keeper(crawl, tally, parts.frontier, recovery, parts.probe)
        self.scheduler = Scheduler(
            self.config,
            frontier=parts.frontier,
            admission=admission,
            downloader=parts.downloader,
            clock=self._clock,
            tally=tally,
            keeper=self.keeper,
            spawn=self._spawn,
            start_worker=self._start_worker,
            fetch_robots=lambda host, began: self._spawn(self.exchanges.fetch_robots(host, began)),
            observers=self._observers,
            jitter=self._random,
            worker=worker,
        )
        self.exchanges = Exchanges(
            self.scheduler,
            self.config,
            downloader=parts.downloader,
            clock=self._clock,
            random=self._random,
            middleware=parts.middleware,
            accept=self.spider.accept,
            memo=self._memo,
            parsing=self._parsing,
        )
        self._start_done = "start" in state
        self._may_seed = asyncio.Event()
        if not self.shared or self._start_done:
            self._may_seed.set()
        self._tasks: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._workers = 0
        self._rejected = 0
        self._reporter = Reporter()

    # ── run ──────────────────────────────────────────────────────────────────────────────

    async def run(self) -> Stop:
        """Crawl until there is nothing left, or somebody or something stops it."""
        self.spider._fetch = self.exchanges.fetch
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._spawn(self._seed())
                ending = await self.scheduler.run()
                for task in self._running:
                    task.cancel()
        except BaseExceptionGroup as group:
            raise _first(group) from None
        finally:
            self.spider._fetch = None
        return ending

    def seed(self, done: bool) -> None:
        """This worker is the one of many that pulls `start()`, unless that is *done*."""
        self._start_done = done
        self._may_seed.set()

    def stop(self, reason: Stop) -> None:
        """Start nothing more; what is in flight ends (or is let go, with `now`)."""
        self.scheduler.events.put_nowait(reason)
        if not reason.now:
            later = self._clock.monotonic() + self.config.crawl.drain_timeout
            at_once = Stop(reason.reason, reason.detail, now=True)
            self._clock.call_at(later, lambda: self.scheduler.events.put_nowait(at_once))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._tasks is None:
            raise RuntimeError("the engine is not running")
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _start_worker(self) -> None:
        """One more worker, if more pages are in flight than there are workers."""
        if self._workers < self.scheduler.inflight:
            self._workers += 1
            self._spawn(self._worker())

    async def _worker(self) -> None:
        scheduler = self.scheduler
        while self._workers <= max(self.config.crawl.concurrency, scheduler.inflight):
            start = await scheduler.due.get()
            secrets = OfPage(start.lease.request)
            with holding(secrets):
                outcome = await self.handle(start, secrets)
            scheduler.events.put_nowait(outcome)
        self._workers -= 1

    # ── start ────────────────────────────────────────────────────────────────────────────

    async def _seed(self) -> None:
        """`setup`, then `start`, pulled no faster than the crawl needs it."""
        scheduler = self.scheduler
        pulled = 0

        async def take(given: Any) -> None:
            nonlocal pulled
            for request in given if isinstance(given, list | tuple) else [given]:
                if isinstance(request, str):
                    request = Request(request)
                if not isinstance(request, Request):
                    raise TypeError(f"start() yields requests, not {type(request).__name__}")
                scheduler.events.put_nowait(Seeds([request], done=False))
                pulled += 1
                if pulled % SEED_BATCH == 0:
                    await scheduler.appetite.more()

        where = "setup"
        try:
            await self.spider.setup()
            scheduler.ready = True
            scheduler.wake()
            where = "start"
            await self._may_seed.wait()
            if not self._start_done:
                await drain(self.spider.start(), take)
            scheduler.events.put_nowait(Seeds([], done=True))
        except _ANYTHING as error:
            _let_cancellation_pass(error)
            log.debug("%s() raised", where, exc_info=True)
            self.stop(Stop("broken", f"{where}() raised {brief(error)}"))

    # ── handle ───────────────────────────────────────────────────────────────────────────

    async def handle(self, start: Start, secrets: OfPage) -> Outcome:
        """One lease, from its start to its one outcome. *secrets*: what is held meanwhile."""
        lease, host = start.lease, start.host
        request = lease.request
        if start.refused is not None:
            return await self._fail(lease, host, Dead(start.refused))
        try:
            grant = Grant(host, start.began, request, retry=lease.attempt > 0)
            response = await self.exchanges.through(grant)
        except Throttled as error:
            return Outcome(lease, host, retry.waits("throttled", error.at))
        except FetchError as error:
            return await self._fail(lease, host, self._judge(lease, error))
        except _ANYTHING as error:  # a middleware is the user's code
            _let_cancellation_pass(error)
            said = self._reporter.tell(error, "middleware", request)
            return await self._fail(lease, host, Dead("callback_error", said))
        if 200 <= response.status < 300 or self.exchanges.accepts(request, response.status):
            secrets.answer = response.headers
            return await self._deliver(lease, host, response)
        return await self._unwanted(lease, host, response)

    async def _unwanted(self, lease: Lease, host: Host, response: Response) -> Outcome:
        """No page: the answer asks to wait, leads elsewhere, or says what is wrong."""
        request = lease.request
        if self.exchanges.throttled(response):
            return Outcome(lease, host, retry.waits("throttled"))
        try:
            target = self.exchanges.target(request, response)
        except FetchError as error:
            return await self._fail(lease, host, Dead(error.reason, error.detail), response)
        if target is not None:
            refusal = self.scheduler.admission.target_refusal(target, lease)
            if refusal is not None:
                detail = f"redirected to {urls.redact(target.url)}"
                return await self._fail(lease, host, Dead(refusal, detail), response)
            return Outcome(lease, host, Done(), redirect=target)
        status = FetchError(f"http_{response.status}", request.url)
        return await self._fail(lease, host, self._judge(lease, status), response)

    def _judge(self, lease: Lease, error: FetchError, *, asked: Retry | None = None) -> Any:
        return retry.judge(
            error.reason,
            attempt=lease.attempt,
            policy=self.config.retry,
            wall_now=self._clock.wall(),
            jitter=self._random(),
            repeatable=lease.request.repeatable,
            sent=error.sent,
            temporary=error.temporary,
            detail=error.detail,
            sends=error.sends,
            asked=asked is not None,
            delay=asked.delay if asked is not None else None,
        )

    async def _deliver(self, lease: Lease, host: Host, response: Response) -> Outcome:
        """The page is here: callback, items, chain."""
        request = lease.request
        response.memo = self._memo
        self._observers.on_response(request, response)
        self.scheduler.admission.traps.delivered(lease, response)
        if self._parsing.concerns(response):
            await self._parsing.prepare(response)
        visit = self._visit(lease, host, response)
        try:
            callback = self._callbacks[request.callback or DEFAULT_CALLBACK]
            await self._drain(callback.call(response, request.kwargs), visit)
            outcome = self._outcome(visit, Done())
        except Throttled as error:
            visit.page.release()  # charged: a host that is always too slow for this must end, too
            if lease.attempt + 1 >= self.config.retry.attempts:
                return await self._fail(lease, host, Dead("throttled", error.detail), response)
            return Outcome(lease, host, Again(error.at, "throttled"))
        except FetchError as error:
            visit.page.release()
            return await self._fail(lease, host, self._judge(lease, error), response)
        except Retry as signal:
            visit.page.release()
            asked = FetchError(signal.reason, request.url)
            return await self._fail(lease, host, self._judge(lease, asked, asked=signal), response)
        except ExtractionError as error:
            visit.page.release()
            where = request.callback or DEFAULT_CALLBACK
            self._reporter.tell(error, where, request)
            return await self._fail(lease, host, Dead(error.reason, error.message), response)
        except (ConfigError, DamagedState, OutOfResource):
            raise  # it is the crawl that cannot go on, not the page
        except _ANYTHING as error:
            _let_cancellation_pass(error)
            visit.page.release()
            where = request.callback or DEFAULT_CALLBACK
            said = self._reporter.tell(error, where, request)
            return await self._fail(lease, host, Dead("callback_error", said), response)
        outcome.counts["pages"] += 1
        return outcome

    async def _fail(
        self, lease: Lease, host: Host, verdict: Any, response: Response | None = None
    ) -> Outcome:
        """Not this time, or never: and then the errback has a word."""
        errback = lease.request.options.errback
        if isinstance(verdict, Dead) and verdict.detail:
            verdict = replace(verdict, detail=redacted(verdict.detail))
        if not isinstance(verdict, Dead) or errback is None:
            return Outcome(lease, host, verdict)
        visit = self._visit(lease, host, response)
        failure = Failure(lease.request, verdict.reason, response, verdict.detail)
        try:
            await self._drain(self._callbacks[errback].call(failure, {}), visit)
            return self._outcome(visit, verdict)
        except (ConfigError, DamagedState, OutOfResource):
            raise
        except _ANYTHING as error:
            _let_cancellation_pass(error)
            visit.page.release()
            self._reporter.tell(error, errback, lease.request)
            return Outcome(lease, host, verdict)

    def _visit(self, lease: Lease, host: Host, response: Response | None) -> Visit:
        page = StagedPage(
            lease.request,
            response,
            spider=self.spider.name,
            version=self.spider.version,
            limits=self._page_limits,
            number=lease.id,
        )
        return Visit(lease, host, page)

    def _outcome(self, visit: Visit, verdict: Any) -> Outcome:
        page, earlier = visit.page, visit.lease.earlier
        page.end(Earlier.load(earlier) if earlier else None, failed=isinstance(verdict, Dead))
        page.response = None  # what waits for its commit needs the records, not the body
        kept = page if page.items else None
        return Outcome(
            visit.lease,
            visit.host,
            verdict,
            visit.found,
            page=kept,
            packed=self.keeper.pack(page) if kept is not None else None,
            counts=visit.counts,
        )

    # ── what callbacks give ──────────────────────────────────────────────────────────────

    async def _drain(self, result: Any, visit: Visit) -> None:
        """Everything a callback gives. An invalid item that is raised ends it, not the page."""
        try:
            await deliver(result, visit.found.append, functools.partial(self._item, visit))
        except (ItemInvalid, ValidationError) as error:
            url = urls.redact(visit.page.url)
            log.warning("%s: the callback ended early: %s", url, brief(error))
            self._chain.reject(error, visit.page)
        for request in unusual(visit.found, self._callbacks.names):
            self._check(request)

    def _check(self, request: Request) -> None:
        """Raises for what could not be run or stored: here it fails its page, later the crawl."""
        for name in (request.callback, request.options.errback):
            if name is not None and name not in self._callbacks:
                raise SpiderError(f"{request!r}: the spider has no method {name!r}")
        if request.options.meta or request.options.kwargs:
            request.dump()

    async def _item(self, visit: Visit, item: Any) -> None:
        size, chained = weight(visit.page.response), self.scheduler.chained
        chained.enter(size)
        try:
            result = await self._chain.run(item, visit.page)
        finally:
            chained.leave(size)
        if isinstance(result, Delivered):
            self._observers.on_item(result.item, visit.page)
        elif isinstance(result, Failed):
            self._reporter.tell(result.error, result.stage, visit.lease.request)
        elif isinstance(result, Rejected):
            self._rejected += 1
            level = logging.WARNING if self._rejected <= TOLD_REJECTED else logging.DEBUG
            if log.isEnabledFor(level):
                log.log(level, "rejected: %s", brief(result.error))

    def __repr__(self) -> str:
        s = self.scheduler
        waiting = s.gate.waiting_hosts(self._clock.monotonic())
        return (
            f"<Engine {self.spider.name}: {s.inflight} busy, {s.pending} queued,"
            f" {waiting} hosts waiting>"
        )


def _let_cancellation_pass(error: BaseException) -> None:
    """Raise *error* again when it is this task that is being cancelled."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the crawl, out of a task group's wrapping."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
