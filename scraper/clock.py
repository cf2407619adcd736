"""The real clock. Tests bring one that they move by hand (`scraper.testing.clock`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from scraper.protocols import Timer

__all__ = ["LoopClock"]


class LoopClock:
    """Time as the running event loop and the system tell it.

    The system's date is read once; from there on `wall` goes with the monotonic clock. So a clock
    that is set while a crawl runs moves none of its dates: it neither waits for a day that the
    clock went back, nor takes all pauses to be over. Dates from an earlier process are clamped
    where they are loaded.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.monotonic() + self._offset

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        loop = asyncio.get_running_loop()
        return loop.call_later(max(when - time.monotonic(), 0.0), callback)
