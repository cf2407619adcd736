"""Deadlines: time limits of many exchanges under one timer of the loop.

A timer for each exchange is made and cancelled with every page, and next to none ever fires. Here
an exchange that waits stands in a table, and one timer looks at the table when the first of them
is due. Like aiohttp's own, limits of some seconds end on whole ones, so that many end together.
"""

from __future__ import annotations

import asyncio
import math
from types import TracebackType

__all__ = ["Deadlines", "Limit"]

COARSE = 5.0
"""Seconds from which a limit may be some hundred milliseconds longer."""


class Deadlines:
    """The limits that are `waiting`, and when (`due`) they are looked at next.

    Made inside the loop, which is kept: to ask for it costs Python 3.11 a system call each time.
    """

    __slots__ = ("_timer", "due", "loop", "waiting")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.waiting: set[Limit] = set()
        self.due = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def look_at(self, due: float) -> None:
        """Look at them then, which is before they would have been looked at."""
        if self._timer is not None:
            self._timer.cancel()
        self.due = due
        self._timer = self.loop.call_at(due, self._look)

    def _look(self) -> None:
        now = self.loop.time()
        # Once each: what was cancelled twice would leave by a cancellation that nobody asked for.
        for limit in [x for x in self.waiting if x.due <= now and not x.expired]:
            limit.expire()
        self.due, self._timer = math.inf, None
        left = [limit.due for limit in self.waiting if not limit.expired]
        if left:
            self.look_at(min(left))

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        self.due, self._timer = math.inf, None


class Limit:
    """How long one exchange may take: *seconds* from now.

    What waits under it (`with limit: await …`) is cancelled when the time is over, and leaves with
    `TimeoutError`; so does what begins to wait later. One task at a time, any number of times.
    `due`: when, by the loop's clock. `expired`: it was over while somebody waited.
    """

    __slots__ = ("_cancelling", "_deadlines", "_loop", "_seconds", "_task", "due", "expired")

    due: float
    expired: bool

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._loop = deadlines.loop
        self._seconds = seconds
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0  # requests to cancel the task that are not ours
        self.renew()

    def renew(self) -> None:
        """Count from now on; not while somebody waits."""
        self.expired = False
        due = self._loop.time() + self._seconds
        self.due = due if self._seconds < COARSE else math.ceil(due)

    def expire(self) -> None:
        """The time is over: cancel what waits."""
        self.expired = True
        if self._task is not None:
            self._task.cancel()

    def __enter__(self) -> None:
        if self.expired or self.due <= self._loop.time():
            raise TimeoutError
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("a limit is for a task")
        self._task = task
        self._cancelling = task.cancelling()
        deadlines = self._deadlines
        deadlines.waiting.add(self)
        if self.due < deadlines.due:
            deadlines.look_at(self.due)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._deadlines.waiting.discard(self)
        task, self._task = self._task, None
        if (
            self.expired
            and task is not None
            # Who cancels the task for a reason of their own has the word.
            and task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error
