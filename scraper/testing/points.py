"""Named points at which a crawl kills its own process: the proof that it may die anywhere.

The engine announces each point as it passes it. With `SCRAPER_KILL_AT="name:count"` in the
environment the process ends itself by SIGKILL at the count-th passage, as abruptly as a power
cut seen from user space: no handler, no `finally`, no flush. Without the variable there is no
callable at all, so an ordinary crawl pays nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping

from scraper.errors import UsageError

__all__ = ["POINTS", "RETRY_POINTS", "VARIABLE", "from_env"]

VARIABLE = "SCRAPER_KILL_AT"

POINTS = ("lease", "write", "commit-before", "commit-after", "apply", "publish")
"""After leases were handed out; after the sinks wrote a group, before its transaction;
on entering a commit; after a transaction was made durable; after the sinks that apply a group by
themselves did; between the moves of publishing."""

RETRY_POINTS = ("reopen",)
"""Before and after what is retried becomes pending again, and between the outputs' reopening."""


def from_env(environ: Mapping[str, str]) -> Callable[[str], None] | None:
    """The probe that *environ* asks for; None (the usual case) when it asks for none.

    Raises `UsageError` when the variable is not `name:count` with a known name and count >= 1.
    """
    value = environ.get(VARIABLE)
    if not value:
        return None
    name, _, number = value.partition(":")
    names = (*POINTS, *RETRY_POINTS)
    if name not in names or not (number.isascii() and number.isdigit() and int(number) > 0):
        raise UsageError(
            f"{VARIABLE}={value!r} is not a point and a count",
            hint=f"Write NAME:COUNT with a count from 1; the names are {', '.join(names)}.",
        )
    left = int(number)

    def reach(point: str) -> None:
        nonlocal left
        if point != name:
            return
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return reach
