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
from dataclasses import dataclass
from types import CodeType, FrameType

from scraper import blame
from scraper.http import Response
from scraper.urls import redact
from scraper.work import Lease

__all__ = ["Watchdog", "watched"]

log = logging.getLogger("scraper.crawl")

LOOPS = ("asyncio.events", "asyncio.base_events", "asyncio.runners")
"""Modules whose frames are those of the loop itself, and of what it stands on."""
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
        woken, used = time.monotonic(), time.process_time()
        stall = None
        while not self._over.wait(self._period):
            now, spent = time.monotonic(), time.process_time()
            slept = now - woken - self._period
            if slept > self.limit / 2 and spent - used < min(slept, self.limit) / 2:
                self._beat = now  # the process was stopped, or starved: nobody held the loop
            if now - self._beat < self.limit:
                stall = None
            else:
                frame = sys._current_frames().get(thread)
                code = _culprit(_above_the_loop(frame))
                if stall is None or stall.code is not code:  # one after another: no beat
                    stall = _Stall(code, self._beat if stall is None else woken)
                if now - stall.since >= self.limit * stall.level:
                    self.tell(frame, now - stall.since, stall.level)
                    stall.level *= GROWTH
            woken, used = now, spent

    def tell(self, frame: FrameType | None, held: float, level: int = 1) -> None:
        """Say that the loop has been held for so many seconds, and by what.

        *level*: how many times the limit; at each, a place in the code is told once at full volume.
        """
        frames = _above_the_loop(frame)
        if not frames:
            return
        at = next((f for f in frames if blame.is_own(f.f_code.co_filename)), frames[0])
        name, file, line = at.f_code.co_qualname, at.f_code.co_filename, at.f_lineno
        place = (f"{file}:{line}", level)
        volume = logging.DEBUG if place in self.told else logging.WARNING
        if len(self.told) < TOLD:
            self.told.add(place)
        log.log(
            volume,
            "nothing else has happened for %.1f s: %s is at work%s (%s:%d); what computes belongs"
            " into asyncio.to_thread, what waits behind an await",
            held,
            name,
            _page(frames),
            file,
            line,
        )


@dataclass(slots=True)
class _Stall:
    """What holds the loop, since when, and how many times the limit it must last to be told."""

    code: CodeType | None
    since: float
    level: int = 1


def _above_the_loop(frame: FrameType | None) -> list[FrameType]:
    """*frame* and those that called it, innermost first: but not who started the loop."""
    frames = []
    while frame is not None and frame.f_globals.get("__name__") not in LOOPS:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _culprit(frames: list[FrameType]) -> CodeType | None:
    """The outermost function of the user's: that of the callback."""
    own = [frame for frame in frames if blame.is_own(frame.f_code.co_filename)]
    return own[-1].f_code if own else None


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
