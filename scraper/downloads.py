"""Downloads: files for the pipelines, through the same gate as everything.

A file's URL is part of an item that was asked for, so its host need not be in scope: pictures lie
on another host more often than not, and their redirects lead to a third. Robots.txt, pace, limits
and middleware hold there as everywhere.

Whoever waits for a file holds no worker (`scraper.chained`), so it may wait as long as the host's
pace makes it: in a lane for each host, in the order in which they came. What is not waited for is
a host that asks for quiet longer than `crawl.fetch_wait`: then the page is put back until then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from scraper import retry, urls
from scraper.config import Config
from scraper.errors import FetchError, Throttled
from scraper.errors import reason as reason_of
from scraper.exchange import Exchanges
from scraper.gate import Gate
from scraper.http import Request, Response
from scraper.politeness import throttles
from scraper.protocols import Clock
from scraper.work import Again

__all__ = ["Downloads"]

NOT_MODIFIED = 304
PAUSE = 0.1
"""Seconds between tries to get a turn, where `crawl.fetch_wait` is next to nothing."""


@dataclass(slots=True, eq=False)
class _Lane:
    """Those who wait for one host. `busy`: how many stand at its gate; `streak`: exchanges that
    broke off, with no answer in between, the last with `error`."""

    busy: int = 0
    streak: int = 0
    error: FetchError | None = None
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    def let_in(self, places: int) -> None:
        while self.waiting and self.busy < places:
            turn = self.waiting.popleft()
            if not turn.done():  # else it gave up waiting
                self.busy += 1
                turn.set_result(None)


@dataclass(slots=True)
class Downloads:
    """What `CrawlInfo.download` does; see `protocols.Download`."""

    exchanges: Exchanges
    gate: Gate
    config: Config
    clock: Clock
    random: Callable[[], float]
    _lanes: dict[str, _Lane] = field(default_factory=dict)

    async def fetch(self, request: Request, into: Path, max_size: int) -> Response:
        """One file. The attempts are counted as those of a page are."""
        # What the spider accepts are pages: an error's page is no file.
        request = request.replace(into=(str(into), max_size), accept=(NOT_MODIFIED,))
        attempt = 0
        while True:
            try:
                return await self._follow(request)
            except Throttled:
                raise
            except FetchError as error:
                verdict = retry.judge(
                    error.reason,
                    attempt=attempt,
                    policy=self.config.retry,
                    wall_now=self.clock.wall(),
                    jitter=self.random(),
                    repeatable=request.repeatable,
                    sent=error.sent,
                    temporary=error.temporary,
                    sends=error.sends,
                )
                if not isinstance(verdict, Again):
                    raise
            attempt += verdict.charged
            await self._until(verdict.at)

    async def _follow(self, request: Request) -> Response:
        """The answer at the end of the redirects."""
        while True:
            if not urls.is_web(request.url):
                raise FetchError("url_invalid", urls.redact(request.url))
            response, target = await self._hop(request)
            if target is not None:
                request = target
            elif 200 <= response.status < 300 or response.status == NOT_MODIFIED:
                return response
            elif not throttles(response.status, self.exchanges.retry_after(response)):
                raise FetchError(f"http_{response.status}", urls.redact(request.url))
            # else the gate knows by now that the host wants quiet, and for how long

    async def _hop(self, request: Request) -> tuple[Response, Request | None]:
        key = urls.host_key(request.url)
        async with self._lane(key) as lane:
            while True:
                try:
                    found = await self.exchanges.step(request)
                except Throttled as error:
                    # Its own pace (a Crawl-delay of minutes) is no reason to give up one's place.
                    soon = self.clock.wall() + PAUSE
                    if error.at > soon + self.gate.roster.reach(key).state.delay:
                        raise
                    await self._until(max(error.at, soon))
                except FetchError as error:
                    broke_off = reason_of(error.reason).retried
                    lane.streak, lane.error = (lane.streak + 1, error) if broke_off else (0, None)
                    raise
                else:
                    lane.streak, lane.error = 0, None
                    return found

    @asynccontextmanager
    async def _lane(self, key: str) -> AsyncIterator[_Lane]:
        """A place at the gate of a host, and its lane.

        Who waits behind others shares their luck: when a host has failed as often meanwhile as
        one may try, it has failed for them too. Else a silent host would take its time for each.
        """
        lane = self._lanes.setdefault(key, _Lane())
        before = lane.streak
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.waiting.append(turn)
        lane.let_in(self._places(key))
        try:
            await turn
            if lane.error is not None and lane.streak - before >= self.config.retry.attempts:
                raise FetchError(lane.error.reason, detail=lane.error.detail, temporary=False)
            yield lane
        finally:
            if turn.done() and not turn.cancelled():
                lane.busy -= 1
            lane.let_in(self._places(key))
            if not (lane.busy or lane.waiting):
                self._lanes.pop(key, None)

    def _places(self, key: str) -> int:
        """How many may stand at the gate: one, until the host has answered."""
        host = self.gate.roster.reach(key)
        return host.policy.per_host if host.state.proven else 1

    async def _until(self, wall: float) -> None:
        """Wait until *wall*, by the crawl's clock."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        when = self.clock.monotonic() + max(wall - self.clock.wall(), 0.0)
        timer = self.clock.call_at(when, lambda: _set(done))
        try:
            await done
        finally:
            timer.cancel()


def _set(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
