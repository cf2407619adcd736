"""The real clock. Tests bring one that they move by hand (`scraper.testing.clock`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from scraper.protocols import Timer

__all__ = ["LoopClock"]


class LoopClock:
    """Time as the running event loop and the system tell it."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        loop = asyncio.get_running_loop()
        return loop.call_later(max(when - time.monotonic(), 0.0), callback)
