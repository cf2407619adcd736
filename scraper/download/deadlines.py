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
    """The limits of one loop that are being waited under; `limit` makes one."""

    __slots__ = ("_due", "_timer", "waiting")

    def __init__(self) -> None:
        self.waiting: set[Limit] = set()
        self._due = math.inf  # when the timer fires
        self._timer: asyncio.TimerHandle | None = None

    def limit(self, seconds: float) -> Limit:
        """A limit of so many *seconds* from now."""
        return Limit(self, seconds)

    def watch(self, limit: Limit) -> None:
        """See to it that *limit*, which is waited under, is looked at in time."""
        self.waiting.add(limit)
        if limit.due < self._due:
            self._set(limit.due)

    def _set(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = asyncio.get_running_loop().call_at(due, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for limit in [limit for limit in self.waiting if limit.due <= now]:
            limit.expire()
        self._due, self._timer = math.inf, None
        left = [limit.due for limit in self.waiting if not limit.expired]
        if left:
            self._set(min(left))

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._due, self._timer = math.inf, None


class Limit:
    """How long one exchange may take. What waits under it (`with limit: await …`) is cancelled
    when the time is over, and leaves with `TimeoutError`; so does what begins to wait later.

    One task at a time, any number of times. `due`: when, by the loop's clock.
    """

    __slots__ = ("_cancelling", "_deadlines", "_loop", "_seconds", "_task", "due", "expired")

    due: float
    expired: bool

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
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
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a limit is for a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._deadlines.watch(self)

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
