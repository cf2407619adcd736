"""Exchanges: everything that goes over the wire, bracketed at the gate.

A page's fetch comes with its turn already granted; `self.fetch`, robots.txt and what a middleware
asks for besides wait for theirs. Whoever it is for, each exchange frees its place and teaches
its host's pace exactly once.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from scraper import redirects, robots, urls
from scraper.config import Config
from scraper.errors import FetchError
from scraper.host import Host
from scraper.http import ANY_STATUS, Request, Response
from scraper.links import Memo
from scraper.parsing import Parsing
from scraper.politeness import MAY_THROTTLE, Exchange, parse_retry_after, throttles
from scraper.protocols import Clock, Downloader, Fetch, Middleware
from scraper.saved import SavedResponse
from scraper.scheduler import Scheduler

__all__ = ["Exchanges", "Grant"]

log = logging.getLogger("scraper.crawl")


TOLD_HOSTS = 1000


@dataclass(slots=True)
class Grant:
    """A turn at the gate, for *request*. `began`: when it was given; None once it is used.

    `retry`: the page was tried before, so it goes out on a connection of its own: what a server
    sees must be what is charged, and a kept connection may need a second try.
    """

    host: Host
    began: float | None
    request: Request
    retry: bool = False


class Exchanges:
    """The engine's way to the web. `fetch` is what spiders know as `self.fetch`."""

    def __init__(
        self,
        scheduler: Scheduler,
        config: Config,
        *,
        downloader: Downloader,
        clock: Clock,
        random: Callable[[], float],
        middleware: Sequence[Middleware],
        accept: Collection[int | str],
        memo: Memo,
        parsing: Parsing,
    ) -> None:
        self._scheduler = scheduler
        self._gate = scheduler.gate
        self._wait = config.crawl.fetch_wait
        self._retry = config.retry
        self._max_redirects = config.http.max_redirects
        self._agent = robots.product_token(config.http.user_agent)
        self._downloader = downloader
        self._clock = clock
        self._random = random
        self._middleware = tuple(middleware)
        self._accept = frozenset(accept)
        self._memo = memo
        self._parsing = parsing
        self._told: set[str] = set()  # hosts whose robots.txt was said to fail

    def accepts(self, request: Request, status: int) -> bool:
        """Whether the request, or else the spider, wants this status besides 2xx."""
        accept = request.options.accept or self._accept
        return bool(accept) and (status in accept or ANY_STATUS in accept)

    def retry_after(self, response: Response) -> float | None:
        """The seconds of quiet that the answer asks for."""
        said = response.headers.get
        return parse_retry_after(said("Retry-After"), self._clock.wall(), said("Date"))

    def throttled(self, response: Response) -> bool:
        """Whether the answer asks its host's requests to wait; see `politeness.throttles`."""
        status = response.status
        return status in MAY_THROTTLE and throttles(status, self.retry_after(response))

    def target(self, request: Request, response: Response) -> Request | None:
        """Where the answer redirects to. Raises `FetchError` when that cannot be followed."""
        return redirects.redirect(request, response, max_redirects=self._max_redirects)

    async def fetch(self, request: Request) -> Response:
        """An exchange now, redirects followed hop by hop under the same rules as everything."""
        while True:
            response, target = await self.step(request)
            if target is None:
                return response
            scope = self._scheduler.admission.scope
            stays = urls.host_key(target.url) == urls.host_key(request.url)
            if not stays and scope.defined and not scope.admits(target.url):
                raise FetchError("out_of_scope", urls.redact(target.url))
            request = target

    async def step(self, request: Request) -> tuple[Response, Request | None]:
        """One exchange now, and the request that it redirects to, if it does."""
        if not urls.is_web(request.url):
            raise FetchError("url_invalid", urls.redact(request.url))
        host = self._gate.roster.reach(urls.host_key(request.url))
        began = await self._gate.turn(host, request.url, self._wait)
        response = await self.through(Grant(host, began, request))
        response.memo = self._memo
        target = None if self.accepts(request, response.status) else self.target(request, response)
        if target is None:
            await self._parsing.prepare(response)
        return response, target

    def through(self, grant: Grant) -> Awaitable[Response]:
        """Middleware, outermost first, around the exchange that *grant* is for."""
        if not self._middleware:
            return self._send(grant, grant.request)
        return self._around(grant)

    async def _around(self, grant: Grant) -> Response:
        send: Fetch = functools.partial(self._send, grant)
        for middleware in reversed(self._middleware):
            send = _wrapped(middleware, send)
        try:
            return await send(grant.request)
        finally:
            if grant.began is not None:  # a middleware answered by itself
                self._gate.unused(grant.host, grant.began)

    async def _send(self, grant: Grant, request: Request) -> Response:
        host = grant.host
        if request is not grant.request and (key := urls.host_key(request.url)) != host.name:
            host = self._gate.roster.reach(key)
        if grant.began is not None and grant.host is host:
            began, grant.began = grant.began, None
        else:  # another host, or a second exchange: it needs a turn of its own
            began = await self._gate.turn(host, request.url, self._wait)
        host.state.departed(self._clock.monotonic())  # a busy loop comes late
        try:
            response = await self._downloader.fetch(request, fresh=grant.retry)
        except FetchError as error:
            self._gate.ended(host, Exchange.failed(began, error))
            raise
        except BaseException:
            self._gate.unused(host, began)
            raise
        size = response.size if isinstance(response, SavedResponse) else len(response.body)
        self._scheduler.tally.note(bytes=size)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s %s %d (%d bytes)", request.method, request.url, response.status, size)
        status = response.status
        quiet = self.retry_after(response) if status in MAY_THROTTLE else None
        self._gate.ended(host, Exchange(began, "answered", status, response.elapsed, quiet))
        return response

    # ── robots.txt ───────────────────────────────────────────────────────────────────────

    async def fetch_robots(self, host: Host, began: float) -> None:
        """robots.txt of one origin, redirects followed; its first exchange is already granted."""
        outcome: robots.Robots | robots.Unavailable | None = None
        try:
            outcome = await self._robots_outcome(host, began)
        except FetchError as error:  # no turn at the host that it redirects to
            outcome = robots.unavailable(error)
        except Exception as error:  # noqa: BLE001 - a middleware is the user's code
            log.error("middleware failed at %s/robots.txt: %r", host.name, error)
            outcome = robots.Unavailable("callback_error", hopeless=True)
        finally:
            if outcome is None:
                host.origin.abandoned()
        now = self._clock.monotonic()
        host.origin.settle(
            now,
            outcome,
            jitter=self._random(),
            max_retry_after=host.policy.max_retry_after,
            base=self._retry.base,
            max_delay=self._retry.max_delay,
        )
        if isinstance(outcome, robots.Robots):
            for note in outcome.notes:
                log.warning("%s: %s", host.name, note)
        else:
            name = host.name
            level = logging.DEBUG if name in self._told else logging.WARNING
            if len(self._told) < TOLD_HOSTS:
                self._told.add(name)
            log.log(level, "%s: robots.txt: %s; nothing is fetched there", name, outcome.reason)
        self._gate.robots_known(host, now)
        self._scheduler.wake()

    async def _robots_outcome(self, host: Host, began: float) -> robots.Robots | robots.Unavailable:
        url, hops, where = robots.robots_url(host.name), 0, host
        while True:
            answer = await self._robots_answer(hops, Grant(where, began, Request(url)))
            if not isinstance(answer, robots.Follow):
                return answer
            url, hops = answer.location, hops + 1
            where = self._gate.roster.reach(urls.host_key(url))
            began = await self._gate.turn(where, url, self._wait, exempt=True)

    async def _robots_answer(
        self, hops: int, grant: Grant
    ) -> robots.Robots | robots.Unavailable | robots.Follow:
        url = grant.request.url
        self._scheduler.tally.note(robots=1)
        try:
            response = await self.through(grant)
        except FetchError as error:
            return robots.verdict(error, token=self._agent, url=url, hops=hops)
        return robots.verdict(
            response.status,
            response.body,
            token=self._agent,
            url=url,
            location=response.headers.get("Location"),
            hops=hops,
            retry_after=self.retry_after(response),
            max_crawl_delay=grant.host.policy.max_crawl_delay,
        )


def _wrapped(middleware: Middleware, call_next: Fetch) -> Fetch:
    async def fetch(request: Request) -> Response:
        response: object = await middleware(request, call_next)
        if not isinstance(response, Response):
            kind = type(response).__name__
            raise TypeError(f"the middleware returned {kind}: return the response")
        return response

    return fetch
