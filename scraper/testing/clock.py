"""A clock that tests move by hand: nothing waits, and every date is known."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

__all__ = ["ManualClock"]


class _Timer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock:
    """Implements `protocols.Clock`. Starts at monotonic 1,000 s and wall time 1,700,000,000 s.

    `advance(seconds)` moves both, and makes the calls that fall due on the way, in order, each at
    its own time.
    """

    def __init__(self, monotonic: float = 1_000.0, wall: float = 1_700_000_000.0) -> None:
        self._now = monotonic
        self._wall = wall
        self._calls: list[tuple[float, int, _Timer, Callable[[], None]]] = []
        self._ticket = itertools.count()

    def monotonic(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._wall

    def call_at(self, when: float, callback: Callable[[], None]) -> _Timer:
        timer = _Timer()
        heapq.heappush(self._calls, (when, next(self._ticket), timer, callback))
        return timer

    def advance(self, seconds: float) -> None:
        end = self._now + seconds
        while self._calls and self._calls[0][0] <= end:
            when, _, timer, callback = heapq.heappop(self._calls)
            self._move(max(when, self._now))
            if not timer.cancelled:
                callback()
        self._move(end)

    def next_call(self) -> float | None:
        """When the earliest call that was not cancelled is due; None when there is none."""
        while self._calls and self._calls[0][2].cancelled:
            heapq.heappop(self._calls)
        return self._calls[0][0] if self._calls else None

    def _move(self, to: float) -> None:
        self._wall += to - self._now
        self._now = to
