"""The watchdog: tells when something holds the event loop, and what it is.

While a callback computes, or sleeps without `await`, nothing else happens: no other page, no answer
to a server, no signal. A timer in the loop beats, a thread looks at the beat, and when it is late,
at what the loop's thread is doing. Pages cost nothing.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from scraper import blame
from scraper.http import Response
from scraper.urls import redact
from scraper.work import Lease

__all__ = ["Watchdog", "watched"]

log = logging.getLogger("scraper.crawl")

GROWTH = 10
"""What lasts is told again when it has lasted so many times as long."""
TOLD = 1000
"""Places that are remembered, so that each is told once at full volume."""


@contextmanager
def watched(limit: float) -> Iterator[None]:
    """Watch the running loop: what holds it for more than *limit* seconds is told. 0: not."""
    if not limit:
        yield
        return
    watchdog = Watchdog(limit)
    watchdog.start(asyncio.get_running_loop())
    try:
        yield
    finally:
        watchdog.stop()


class Watchdog:
    """A thread that looks at the heartbeat of one loop; *limit* in seconds."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.told: set[tuple[str, int]] = set()
        self._period = min(limit / 4, 1.0)
        self._beat = time.monotonic()
        self._over = threading.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch *loop*, which runs in this thread."""
        self._tick(loop)
        self._thread = threading.Thread(
            target=self._watch, args=(threading.get_ident(),), name="watchdog", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._over.set()
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beat = time.monotonic()
        self._timer = loop.call_later(self._period, self._tick, loop)

    def _watch(self, thread: int) -> None:
        level, woken, used = 1.0, time.monotonic(), time.process_time()
        while not self._over.wait(self._period):
            now, spent = time.monotonic(), time.process_time()
            slept = now - woken - self._period
            if slept > self.limit / 2 and spent - used < slept / 2:
                self._beat = now  # the process was stopped, or starved: nobody held the loop
            held = now - self._beat
            if held < self.limit:
                level = 1.0
            elif held >= self.limit * level:
                self.tell(sys._current_frames().get(thread), held)
                level *= GROWTH
            woken, used = now, spent

    def tell(self, frame: FrameType | None, held: float) -> None:
        """Say that the loop has been held for so many seconds, and by what."""
        frames = blame.stack(frame)
        own = next((f for f in frames if blame.is_own(f.f_code.co_filename)), None)
        at = own or (frames[0] if frames else None)
        if at is None:
            return
        name, file, line = at.f_code.co_qualname, at.f_code.co_filename, at.f_lineno
        place = (f"{file}:{line}", len(str(int(held / self.limit))))
        level = logging.DEBUG if place in self.told else logging.WARNING
        if len(self.told) < TOLD:
            self.told.add(place)
        log.log(
            level,
            "nothing else has happened for %.1f s: %s is at work%s (%s:%d); what computes belongs"
            " into asyncio.to_thread, what waits behind an await",
            held,
            name,
            _page(frames),
            file,
            line,
        )


def _page(frames: list[FrameType]) -> str:
    """The page that the framework's own frames are at, innermost first."""
    for frame in frames:
        if frame.f_code.co_filename.startswith(blame.PACKAGE):
            values = frame.f_locals
            if isinstance(lease := values.get("lease"), Lease):
                callback = lease.request.callback or "parse"
                return f" in {callback} on {redact(lease.request.url)}"
            if isinstance(response := values.get("response"), Response):
                return f" on {redact(response.url)}"
    return ""
