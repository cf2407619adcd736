"""A workbench for code that is not asynchronous: its event loop runs in a thread."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from scraper.api import loop_factory
from scraper.errors import CrawlFailed
from scraper.http import Request, Response
from scraper.protocols import Fetch
from scraper.workbench import Workbench

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Worker"]

T = TypeVar("T")


class Worker:
    """A workbench whose event loop runs in a thread of its own, for code that is not asynchronous.

    ``with Worker(bench) as sync: sync.fetch(url)``. An interrupt (Ctrl-C) cancels the
    call that is waited for, and no more. `spider.fetch` may be awaited on any event loop.
    """

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="workbench", daemon=True)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            self._loop = runner.get_loop()
            self._loop.call_soon(self._started.set)
            self._loop.run_forever()
        self._loop = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        try:
            self.call(self.bench.__aenter__())
        except BaseException:
            self._stop()
            raise
        fetch = self.bench.engine.exchanges.fetch
        self.bench.spider._fetch = functools.partial(self._from_anywhere, fetch)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call(self.bench.aclose())
        finally:
            self._stop()

    def _stop(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _from_anywhere(self, fetch: Fetch, request: Request) -> Response:
        """*fetch* on the bench's loop, awaited on this one."""
        if self._loop is None or asyncio.get_running_loop() is self._loop:
            return await fetch(request)
        work: Any = fetch(request)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of *work*, which runs on the bench's loop."""
        if self._loop is None:
            work.close()
            raise CrawlFailed("the workbench is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def fetch(self, request: Request | str) -> Response:
        """See `Workbench.fetch`."""
        return self.call(self.bench.fetch(request))
