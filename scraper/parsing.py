"""Pages are parsed here before a callback sees them, where that takes long or might take too much.

A small page is left alone: it is parsed when it is asked for, if ever. A large one is parsed in a
thread (lexbor lets go of the interpreter), so that other fetches go on. One that may be too costly
goes to the probe first, a process with limits (`scraper.prober`): what does not pass there is not
parsed at all, and ends as `parse_limit` when it is asked for.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, TypeVar

from scraper.errors import ExtractionError
from scraper.guard import SMALL, doubtful, suspicion
from scraper.http import Response
from scraper.probe import Probe
from scraper.select import Document
from scraper.urls import redact

__all__ = ["HUGE", "LARGE", "Parsing", "Worker"]

log = logging.getLogger("scraper.crawl")

T = TypeVar("T")

LARGE = 256 * 1024
"""Bytes: parsing them takes some milliseconds, during which nothing else would happen."""
HUGE = 4_000_000
"""Bytes: so large a page goes to the probe whatever it looks like."""
PATIENCE = 60.0
"""Seconds for a page in the thread. The probe's page takes a few at most: longer, and the counts
were deceived."""


class Parsing:
    """How the pages of one crawl are parsed. *probe*: see the setting `crawl.probe`."""

    def __init__(self, probe: Literal["auto", "always", "never"] = "auto") -> None:
        self.probe = Probe()
        self._mode = probe
        self._parser = Worker("parser")
        self._asker = Worker("probe")

    def concerns(self, response: Response) -> bool:
        """Whether `prepare` has something to do: asked of every page, so it costs nothing."""
        return len(response.body) >= SMALL or (self._mode == "always" and bool(response.body))

    async def prepare(self, response: Response) -> None:
        """Parse *response*, or find out that it must not be, if it is HTML and no small matter.

        Raises nothing: a page that nobody asks for its tree is not at fault.
        """
        if not self.concerns(response) or not response.is_html or response.is_xml:
            return
        large = len(response.body) >= LARGE
        markup = await self._parser.do(_markup, response) if large else response.markup
        doubt = self._doubts(markup)
        if doubt and (refused := await self._refused(markup)):
            response.refused = refused
            return
        response.checked = True
        if doubt or large:
            await self._parse(response, markup)

    def _doubts(self, markup: bytes) -> bool:
        if self._mode == "always":
            return True
        return doubtful(markup) or (self._mode == "auto" and len(markup) >= HUGE)

    async def _refused(self, markup: bytes) -> str:
        """Why the page must not be parsed; "" when it may."""
        if self._mode == "never":
            return await self._parser.do(suspicion, markup) or ""
        return await self._asker.do(self.probe.objection, markup)

    async def _parse(self, response: Response, markup: bytes) -> None:
        try:
            parsing = self._parser.do(_document, markup)
            response.document = await asyncio.wait_for(parsing, PATIENCE)
        except ExtractionError as error:
            response.refused = error.message
        except TimeoutError:
            self._parser.abandon()
            self._mode = "always" if self._mode == "auto" else self._mode
            response.refused = f"not parsed after {PATIENCE:g} s"
            log.warning(
                "%s is not parsed after %g s, though it looked harmless; from now on every page"
                ' goes to the probe first (crawl.probe = "always")',
                redact(response.url),
                PATIENCE,
            )

    async def aclose(self) -> None:
        """End the probe's process, if there is one, and the threads. Idempotent."""
        self.probe.stop()
        await self._asker.aclose(self.probe.end)
        await self._parser.aclose()


def _markup(response: Response) -> bytes:
    return response.markup


def _document(markup: bytes) -> Document:
    return Document(markup, checked=True)


class Worker:
    """One thread that does one thing after the other, started when there is something to do.

    It never holds up the end of the process, as those of an executor do: what it does may hang.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._todo: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def do(self, work: Callable[..., T], *arguments: Any) -> T:
        """The result of *work*, once it is its turn. Raises what it raises."""
        job = _Job(asyncio.get_running_loop(), work, arguments)
        self._todo.put(job)
        self._start()
        result: T = await job.future
        return result

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=_serve, args=(self._todo,), name=self._name, daemon=True
            )
            self._thread.start()

    def abandon(self) -> None:
        """Leave the thread to what it hangs in; what waits behind that goes to another."""
        left, self._todo, self._thread = self._todo, queue.SimpleQueue(), None
        while not left.empty():
            self._todo.put(left.get())
        left.put(None)
        self._start()

    async def aclose(self, last: Callable[[], None] | None = None) -> None:
        """Let the thread end with *last*, and wait for it: but not for one that hangs."""
        thread, self._thread = self._thread, None
        if thread is not None:
            if last is not None:
                self._todo.put(_Job(asyncio.get_running_loop(), last, ()))
            self._todo.put(None)
            await asyncio.to_thread(thread.join, 5.0)


class _Job:
    """Something to do in a thread, and the future of its result in the loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, work: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> None:
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self._work = work
        self._arguments = arguments

    def run(self) -> None:
        if self.future.cancelled():
            return
        result, error = None, None
        try:
            result = self._work(*self._arguments)
        except BaseException as raised:  # noqa: BLE001 - raised again where it is awaited
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self.loop.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


def _serve(todo: queue.SimpleQueue[_Job | None]) -> None:
    while (job := todo.get()) is not None:
        job.run()
        del job  # and with it the page
