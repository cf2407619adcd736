"""Workbench: single pages through the whole machinery of a crawl, and nothing left behind.

What `scrape fetch`, `scrape shell` and `scrape parse` stand on. A bench is a crawl whose `start()`
yields nothing and ends with the bench: robots.txt, politeness, middleware, cookies, limits and
the spider's `setup()` are those of `scrape run`. There is no ledger, no output and no lock.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from scraper import project as projects
from scraper import robots, urls
from scraper.admission import DEFAULT_CALLBACK
from scraper.build import build
from scraper.callbacks import Callbacks, deliver
from scraper.config import Config
from scraper.engine import Engine
from scraper.errors import CrawlFailed, FetchError, ItemInvalid, SpiderError, UsageError
from scraper.http import Request, Response
from scraper.identity import Identity
from scraper.job import started_now
from scraper.lifecycle import Crawl
from scraper.pipelines.chain import Chain, Delivered, Dropped
from scraper.pipelines.jsonl import Jsonl
from scraper.pipelines.page import StagedPage, group_records
from scraper.pipelines.rejected import RejectedItems
from scraper.project import Project
from scraper.protocols import Fetch
from scraper.report import CrawlResult
from scraper.scope import gate
from scraper.spider import Spider

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "Hop",
    "Link",
    "Parsed",
    "Visitor",
    "Workbench",
    "open_workbench",
]

T = TypeVar("T")

UNLIMITED = {"max_pages": 0, "max_items": 0, "max_duration": 0.0, "max_errors": 0}
"""Limits of a crawl as a whole, which a bench is not."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One exchange of a fetch: a redirect, the page itself, or a robots.txt on the way.

    `elapsed`: seconds from sending to the body's end. `wire`: bytes of the body as it travelled.
    `robots`: it was asked for the sake of its rules.
    """

    url: str
    status: int
    elapsed: float
    wire: int
    robots: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A request that a callback gave; `refused`: the reason why a crawl would not make it."""

    request: Request
    refused: str | None = None


@dataclass(slots=True)
class Parsed:
    """What a callback gave for one page, in order.

    `items`: those that reached the chain's end, and `records`: the same as JSON values, as an
    output would have them. `rejected`: records of the rejected file (`pipelines.quarantine`).
    """

    callback: str
    items: list[Any] = field(default_factory=list)
    records: list[Any] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)


class Workbench:
    """Fetches and parses single pages: ``async with Workbench(spider, config) as bench:``.

    *root*: the project's directory. *stages*: items pass the configured pipelines, too; sinks
    never. `hops`: the exchanges of the last `fetch`, oldest first.
    """

    def __init__(self, spider: Spider, config: Config, *, root: Path, stages: bool = False) -> None:
        self.spider = spider
        self.hops: list[Hop] = []
        crawl = config.crawl.model_copy(update=UNLIMITED)
        pipelines = config.pipelines if stages else []
        self.config = config.model_copy(update={"crawl": crawl, "pipelines": pipelines})
        self._parts = build(spider, self.config, root=root, default_output=False)
        kept = [p for p in self._parts.chain.placed if not hasattr(p.stage, "recovery")]
        self._parts.chain = Chain(kept)
        # Never opened, so nothing is written: what they would write is read from the page.
        self._output, self._rejected = Jsonl(), RejectedItems()
        self._chain = Chain([*kept, self._output], rejected=self._rejected)
        self._parts.middleware = (*self._parts.middleware, self._watch)
        vars(spider)["start"] = self._start  # in place of the method, for this one spider
        self._crawl = Crawl(self._parts, Identity(started_now(), root))
        self._running: asyncio.Task[CrawlResult] | None = None
        self._callbacks = Callbacks(spider)
        self._waiting: dict[str, asyncio.Future[FetchError]] = {}

    async def __aenter__(self) -> Self:
        self._ready = asyncio.Event()
        self._running = asyncio.create_task(self._crawl.run())
        try:
            await self._beside(self._ready.wait())
            for url in self.spider.start_urls:
                self.engine.scheduler.admission.scope.start(url)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End: connections are closed, `closed()` of the spider is called. Idempotent."""
        if self._running is None:
            return
        self._crawl.stop(now=True)
        running, self._running = self._running, None
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()

    async def _start(self) -> AsyncIterator[Request]:
        """What the spider's `start` is here: it comes after `setup`, and yields nothing."""
        self._ready.set()
        await asyncio.Event().wait()
        nothing: tuple[Request, ...] = ()
        for request in nothing:
            yield request

    async def _watch(self, request: Request, call_next: Fetch) -> Response:
        """The innermost middleware: notes every exchange, and when a robots.txt is not to be had.

        A crawl asks for it again and again, and does something else meanwhile. A person waits.
        """
        downloader: Any = self._parts.downloader
        before = downloader.bytes_received
        key = urls.host_key(request.url)
        is_robots = self.engine.scheduler.gate.host(key).origin.fetching
        try:
            response = await call_next(request)
        except FetchError as error:
            if is_robots:
                self._without_robots(key, error)
            raise
        wire = downloader.bytes_received - before
        self.hops.append(Hop(request.url, response.status, response.elapsed, wire, is_robots))
        if is_robots and isinstance(robots.verdict(response.status, token=""), robots.Unavailable):
            detail = f"the server answered {response.status} to {key}/robots.txt"
            self._without_robots(key, FetchError("robots_unavailable", request.url, detail))
        return response

    def _without_robots(self, key: str, error: FetchError) -> None:
        waiting = self._waiting.get(key)
        if waiting is not None and not waiting.done():
            waiting.set_result(error)

    async def _beside(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of *work*, unless the crawl ends before."""
        if self._running is None:
            work.close()
            raise CrawlFailed("the workbench is closed")
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, self._running}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise CrawlFailed(self._running.result().detail)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    @property
    def engine(self) -> Engine:
        """The engine at work. Raises `CrawlFailed` while the bench is closed."""
        if self._running is None or self._crawl.engine is None:
            raise CrawlFailed("the workbench is closed")
        return self._crawl.engine

    # ── fetching ─────────────────────────────────────────────────────────────────────────

    async def fetch(self, request: Request | str, *, start: bool = True) -> Response:
        """The page, whatever its status. Nothing is retried.

        *start*: it counts as a start request, so that it is in scope, and its redirects are
        followed wherever they lead; otherwise they must stay in scope. Raises `FetchError`.
        """
        self.hops.clear()
        if isinstance(request, str):
            request = Request(request)
        return await self._beside(self._fetch(request, start))

    async def _fetch(self, request: Request, start: bool) -> Response:
        scope = self.engine.scheduler.admission.scope
        if start:
            scope.start(request.url)
        while True:
            response, target = await self._step(request)
            if target is None:
                return response
            if start:
                scope.redirected(request.url, target.url)
            elif not scope.admits(target.url):
                raise FetchError("out_of_scope", urls.redact(target.url))
            request = target

    async def _step(self, request: Request) -> tuple[Response, Request | None]:
        """One exchange, given up at once where its robots.txt cannot be had."""
        key = urls.host_key(request.url)
        waiting = self._waiting[key] = asyncio.get_running_loop().create_future()
        step = asyncio.ensure_future(self.engine.exchanges.step(request))
        try:
            await asyncio.wait({step, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not step.done():
                raise waiting.result()
            return step.result()
        finally:
            if not step.done():
                step.cancel()
                await asyncio.wait([step])

    def delivers(self, response: Response) -> bool:
        """Whether a crawl would hand *response* to a callback: 2xx, or an accepted status."""
        accepts = self.engine.exchanges.accepts(response.request, response.status)
        return accepts or 200 <= response.status < 300

    # ── parsing ──────────────────────────────────────────────────────────────────────────

    async def parse(
        self,
        response: Response,
        callback: str | None = None,
        *,
        kwargs: Mapping[str, Any] | None = None,
        depth: int = 0,
        seen: set[int] | None = None,
    ) -> Parsed:
        """Run a callback on *response*: what it gives, and what a crawl would do with it.

        *callback*: its name; else the request's, else `parse`. *depth*: links that led here.
        *seen*: identities of requests made before, to tell duplicates; those found are added.
        Raises what the callback raises.
        """
        name = callback or response.request.callback or DEFAULT_CALLBACK
        self.require_callback(name)
        given = response.request.kwargs if kwargs is None else kwargs
        seen = set() if seen is None else seen
        seen.add(self.engine.scheduler.admission.identity(response.request))
        if depth == 0:
            self.engine.scheduler.admission.scope.start(response.url)
        return await self._beside(self._parse(response, name, given, depth + 1, seen))

    def require_callback(self, name: str | None) -> None:
        """Raise `SpiderError` when the spider has no method *name* (None: `parse`)."""
        name = name or DEFAULT_CALLBACK
        if name not in self._callbacks:
            raise SpiderError(
                f"spider {self.spider.name} has no method {name!r}{self._nearest(name)}"
            )

    def _nearest(self, name: str) -> str:
        methods = [n for n in dir(type(self.spider)) if n not in dir(Spider)]
        close = difflib.get_close_matches(name, methods, n=1)
        return f"; did you mean {close[0]}?" if close else ""

    async def _parse(
        self, response: Response, name: str, kwargs: Mapping[str, Any], depth: int, seen: set[int]
    ) -> Parsed:
        parsed = Parsed(name)
        page = StagedPage(
            response.request, response, spider=self.spider.name, limits=self._parts.page_limits
        )

        async def item(given: Any) -> None:
            result = await self._chain.run(given, page)
            if isinstance(result, Delivered):
                parsed.items.append(result.item)
            elif isinstance(result, Dropped):
                parsed.dropped.append(result)

        def request(given: Request) -> None:
            parsed.links.append(self._link(given, depth, seen))

        try:
            await deliver(self._callbacks[name].call(response, kwargs), request, item)
        except (ItemInvalid, ValidationError) as error:
            self._chain.reject(error, page)
        finally:
            staged = group_records([page])
            parsed.records = [json.loads(line) for line in staged.get(self._output, ())]
            parsed.rejected = [json.loads(line) for line in staged.get(self._rejected, ())]
            page.release()
        return parsed

    def _link(self, request: Request, depth: int, seen: set[int]) -> Link:
        """*request*, as a crawl would judge it. Raises for what a crawl would not take."""
        for name in (request.callback, request.options.errback):
            if name is not None and name not in self._callbacks:
                raise SpiderError(
                    f"{request!r}: the spider has no method {name!r}{self._nearest(name)}"
                )
        request.dump()  # raises for what is not JSON
        scheduler = self.engine.scheduler
        refused = gate(request.url, depth, scheduler.admission.scope, self.config.crawl)
        if refused is None and request.unique:
            identity = scheduler.admission.identity(request)
            if identity in seen:
                refused = "duplicate"
            seen.add(identity)
        if refused is None:
            origin = scheduler.gate.host(urls.host_key(request.url)).origin
            known = not origin.needs_fetch(time.monotonic())
            if known and not origin.allowed(request.url):
                refused = "robots_denied"
        return Link(request, refused)


class Visitor(Spider):
    """Stands in where no spider is named."""

    name = "scrape"


def open_workbench(
    spider: str | None = None,
    *,
    project: Project | None = None,
    overrides: Sequence[str] = (),
    args: Mapping[str, Any] | None = None,
    stages: bool = False,
) -> Workbench:
    """A workbench with the configuration of the project at hand, or the defaults outside of one.

    *spider*: a name of the project, or ``FILE.py[:Class]``; its settings, middleware and `setup`
    apply, and *args* are its arguments. *project*: for a bench without a spider, the project if
    it is not that of the working directory. *overrides*: as `-s`. Raises `UsageError`.
    """
    if spider is not None:
        prepared = projects.prepare(spider, overrides=overrides)
        made: Spider = prepared.entry.cls(**(args or {}))
        return Workbench(made, prepared.loaded.config, root=prepared.project.root, stages=stages)
    if args:
        raise UsageError(
            f"arguments for no spider: {', '.join(args)}", hint="Name it: --spider NAME."
        )
    project = project or projects.find() or Project(Path.cwd(), None)
    config = project.configure(overrides=overrides).config
    return Workbench(Visitor(), config, root=project.root, stages=stages)
