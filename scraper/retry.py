"""Retry: whether a request that failed is due again, and when.

A pure function of the failure; its verdict is a value (see `scraper.work`). What a *host* asks
for (429, 503 + Retry-After) is not decided here but by `politeness.throttles`: the scheduler
settles such a page with `waits`, and no attempt is charged.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from scraper.errors import UNSENT
from scraper.errors import reason as reason_row
from scraper.work import Again, Dead

if TYPE_CHECKING:
    from scraper.config import Retry

__all__ = ["judge", "waits"]

REFUSED_UNREAD = frozenset({"http_408", "http_425", "http_429"})
"""Statuses that say that the request was not acted upon, so that any method may be sent again.

408: it did not arrive in whole (RFC 9110, section 15.5.9); 425: the server would not risk to
process it (RFC 8470, section 5.2); 429: it was one too many (RFC 6585, section 4). A 503 says no
such thing: what stands before a server sends it, too, when the server broke off half-way.
"""


def judge(
    reason: str,
    *,
    attempt: int,
    policy: Retry,
    wall_now: float,
    jitter: float,
    repeatable: bool = True,
    delay: float | None = None,
    sent: bool | None = None,
    temporary: bool | None = None,
    asked: bool = False,
    detail: str = "",
    sends: int = 1,
) -> Again | Dead:
    """The verdict on a request that failed with *reason*.

    *attempt*: tries charged before this one. *jitter*: a random number in [0, 1). *delay*:
    seconds, in place of the full-jitter back-off (`base` · 2^attempt, at most `max_delay`).
    *sent*, *temporary*: as `FetchError` has them; None derives both from the reason.
    *sends*: how often it went out this time: each is an attempt, as the server sees it.
    *asked*: the callback raised `Retry`, so that neither the table nor *repeatable* is asked.

    A request that is not *repeatable* is sent again only when the server cannot have acted on it:
    it was never sent, or refused unread (RFC 9110, section 9.2.2).
    """
    dead = Dead(reason, detail)
    if attempt + sends >= policy.attempts:
        return dead
    if not asked:
        if not (reason_row(reason).retried if temporary is None else temporary):
            return dead
        reached = reason not in UNSENT if sent is None else sent
        if not repeatable and reached and reason not in REFUSED_UNREAD:
            return dead
    if delay is None or not math.isfinite(delay):
        delay = jitter * min(policy.max_delay, policy.base * 2 ** min(attempt, 64))
    return Again(wall_now + max(delay, 0.0), reason, charged=sends)


def waits(reason: str, at: float = 0.0) -> Again:
    """The verdict on a page whose host asked for quiet: due when the host is, nothing charged."""
    return Again(at, reason, charged=0)
