"""Politeness: how fast one host may be asked, and when it is left alone for good.

`HostState` is the single owner of a host's pace. It does no I/O and reads no clock: every method
is told *now*, in seconds of one monotonic clock, and chance comes in as a number. Three things
say when the next exchange may start:

- the **delay clock**: starts lie at least `delay` (or Crawl-delay, if longer) apart;
- the **quiet clock**: after 429 or 503 + Retry-After the host rests (RFC 9110, section 10.2.3;
  RFC 6585, section 4);
- the **window**: how many exchanges may run at once. One until the host has answered; then one
  more per window of good answers while latency stays flat, half after a refusal, a failure or
  a rise in latency (additive increase, multiplicative decrease).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal

from scraper.errors import FetchError
from scraper.hostrules import HostPolicy, policy_for
from scraper.recalled import Recalled

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "MAY_THROTTLE",
    "Exchange",
    "HostPolicy",
    "HostState",
    "parse_retry_after",
    "policy_for",
    "throttles",
]

FLOOR = 1.0
"""Seconds: the shortest pause, and the first step of the back-off."""

CEILING = 60.0
"""Seconds: the longest pause that a host did not ask for itself."""

RETURN_CEILING = 8.0
"""Seconds: the longest rest between tries to reach a host that answered before."""

MAX_UNREACHED = 10
"""Tries in a row without a connection after which a host is given up."""

STALE = 600.0
"""Seconds of rest after which what was learnt of a host's speed no longer counts."""

SMOOTHING = 0.3  # weight of the newest latency in the moving averages
FLAT, RISEN = 1.5, 2.0  # multiples of the unloaded latency: grow below, shrink above
SLACK = 0.1  # seconds of latency that are noise, whatever the host

MAX_SAVED = 4096


# One exchange -----------------------------------------------------------------------------------

Kind = Literal["answered", "broken", "unreached"]


@dataclass(slots=True)
class Exchange:
    """How one HTTP exchange ended, as its host sees it. Not frozen: that takes five times as long.

    `started_at`: what `HostState.started` was told. `kind`: *answered* (a status came),
    *broken* (a connection stood and no complete answer came), *unreached* (no connection stood).
    `latency`: seconds from sending to the answer's header, which page size does not blur.
    `retry_after`: seconds, by `parse_retry_after`, of an answer that may throttle; None when the
    field is absent or garbage.
    `reason`: the code, when there was no answer.
    """

    started_at: float
    kind: Kind = "answered"
    status: int = 200
    latency: float = 0.0
    retry_after: float | None = None
    reason: str = ""

    @classmethod
    def failed(cls, started_at: float, error: FetchError) -> Self:
        """The exchange that ended in *error*."""
        kind: Kind = "broken" if error.sent else "unreached"
        return cls(started_at, kind, status=0, reason=error.reason)


MAY_THROTTLE = frozenset({429, 503})
"""Statuses that may ask all requests to a host to wait."""


def throttles(status: int, retry_after: float | None) -> bool:
    """Whether the answer asks the *host's* requests to wait, so that its page is not charged.

    429 always does (RFC 6585, section 4); 503 does when it says for how long (RFC 9110, 15.6.4).
    """
    return status == 429 or (status == 503 and retry_after is not None)


def parse_retry_after(value: str | None, wall_now: float, sent: str | None = None) -> float | None:
    """The seconds that a `Retry-After` field asks for: a number, or until a date; never negative.

    None for what is neither. RFC 9110, section 10.2.3. *sent*: the answer's `Date` field: the
    server's own idea of now, whatever our clock shows. *wall_now*: ours, seconds since the epoch.
    """
    text = (value or "").strip()
    if not text or len(text) > 64:
        return None
    if text.isascii() and text.isdigit():
        return float(text)
    at = _date(text)
    if at is None:
        return None
    now = _date(sent) if sent and len(sent) <= 64 else None
    return max(at - (wall_now if now is None else now), 0.0)


def _date(text: str) -> float | None:
    """Seconds since the epoch of an HTTP date, UTC unless it says otherwise."""
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


# The state --------------------------------------------------------------------------------------


class HostState:
    """The pace of one host. Times are seconds of one monotonic clock.

    Call `started` and `ended` around each HTTP exchange (robots.txt included). An exchange that
    was started and never sent ends with `unused`.

    `proven`: the host has answered, and its last exchange did not fail. `refusal`: the reason code
    with which all its requests end, once the host is given up. `delay`: seconds between starts, at
    least. All three are asked many times for each page, so they are kept and not worked out.
    """

    __slots__ = (
        "_answered",
        "_baseline",
        "_crawl_delay",
        "_crowded_until",
        "_cut_at",
        "_failed_last",
        "_latency",
        "_lost_at",
        "_paused_at",
        "_pauses",
        "_started_at",
        "_unreached",
        "_window",
        "delay",
        "in_flight",
        "policy",
        "proven",
        "quiet_until",
        "refusal",
    )

    def __init__(self, policy: HostPolicy) -> None:
        self.policy = policy
        self.in_flight = 0
        self.quiet_until = -math.inf
        self.delay = policy.delay
        self.proven = False
        self.refusal: str | None = None
        self._crawl_delay = 0.0
        self._started_at = -math.inf  # the last start
        # What started before one of these tells of the same event again:
        self._paused_at = -math.inf  # the last pause began
        self._cut_at = -math.inf  # the window was cut
        self._lost_at = -math.inf  # the host could not be reached
        self._crowded_until = -math.inf  # since then, no two exchanges ran at once
        self._window = 1.0
        self._baseline = 0.0  # latency of exchanges that ran alone; 0: none measured
        self._latency = 0.0  # moving average
        self._pauses = 0  # in a row, without a good answer in between
        self._unreached = 0  # tries in a row without a connection
        self._answered = False
        self._failed_last = False

    # What may happen

    @property
    def limit(self) -> int:
        """Exchanges that may run at once."""
        if not self.proven:
            return 1
        return int(self._window) if self.policy.adaptive else self.policy.per_host

    def ready_at(self, now: float) -> float | None:
        """When the next exchange may start: *now*, or later.

        None: not before one that is in flight has ended. `inf`: never, the host was given up.
        """
        if self.refusal is not None:
            return math.inf
        if self.in_flight >= self.limit:
            return None
        when = self._started_at + self.delay
        if when < self.quiet_until:
            when = self.quiet_until
        return max(now, when)

    # What happened

    def started(self, now: float) -> None:
        """An exchange starts."""
        self.in_flight += 1
        if self.in_flight > 1:
            self._crowded_until = math.inf
        self._started_at = now

    def departed(self, now: float) -> None:
        """What was started goes out only now: the delay counts from here, as the host sees it."""
        self._started_at = max(self._started_at, now)

    def unused(self, now: float) -> None:
        """A started exchange was never sent, or was cancelled by us: it says nothing."""
        self._left(now)

    def ended(self, now: float, exchange: Exchange, jitter: float = 0.0) -> None:
        """An exchange ended. *jitter*: a random number in [0, 1), for the length of a pause.

        What started before the last pause began tells of the same event again: it changes nothing.
        """
        alone = self._left(now) and exchange.started_at >= self._crowded_until
        if exchange.started_at <= self._paused_at:
            if exchange.kind != "unreached":
                self._unreached = 0  # a connection stood: that much is news
        elif exchange.kind == "answered":
            self._answer(now, exchange, alone, jitter)
        else:
            self._failure(now, exchange, jitter)

    def hush(self, now: float, until: float) -> None:
        """Rest until then: another slot of the host was told to."""
        longest = max(self.policy.max_retry_after, CEILING)
        self._rest(now, min(until - now, longest))

    def set_crawl_delay(self, seconds: float | None) -> None:
        """What robots.txt asks for, in seconds; None when it does not."""
        self._crawl_delay = min(seconds or 0.0, self.policy.max_crawl_delay)
        self.delay = max(self.policy.delay, self._crawl_delay * self.policy.slots)

    def _left(self, now: float) -> bool:
        """Free a place. Returns whether nothing else was in flight."""
        if self.in_flight <= 0:
            raise AssertionError("ended without started: every exchange is bracketed by the two")
        self.in_flight -= 1
        if self.in_flight > 0:
            return False
        if self._crowded_until == math.inf:
            self._crowded_until = now
        return True

    def _answer(self, now: float, exchange: Exchange, alone: bool, jitter: float) -> None:
        self._answered = self.proven = True
        self._failed_last = False
        self._unreached = 0
        status = exchange.status
        if throttles(status, exchange.retry_after):
            self._pause(now, exchange, jitter)
        elif status == 503:
            self._cut(now, exchange)
        elif status < 500 and status not in (408, 425):
            self._pauses = 0
            self._learn(now, exchange, alone)

    def _pause(self, now: float, exchange: Exchange, jitter: float) -> None:
        self._cut(now, exchange)
        self._paused_at = now
        self._pauses += 1
        if self._pauses >= self.policy.max_pauses:
            self.refusal = "throttled"
        asked = min(exchange.retry_after or 0.0, self.policy.max_retry_after)
        self._rest(now, max(asked, FLOOR) if asked > 0 else _backoff(self._pauses, jitter, CEILING))

    def _failure(self, now: float, exchange: Exchange, jitter: float) -> None:
        self._failed_last, self.proven = True, False
        self._cut(now, exchange)
        if exchange.kind == "broken":
            self._unreached = 0
        elif exchange.started_at >= self._lost_at:
            self._lost_at = now
            self._unreached += 1
            if self._unreached >= MAX_UNREACHED:
                self.refusal = exchange.reason
            elif self._answered:  # it was there: if it restarts, its pages should not pay
                self._rest(now, _backoff(self._unreached, jitter, RETURN_CEILING))

    def _rest(self, now: float, seconds: float) -> None:
        self.quiet_until = max(self.quiet_until, now + seconds)

    def _cut(self, now: float, exchange: Exchange) -> None:
        if exchange.started_at >= self._cut_at:
            self._cut_at = now
            self._window = max(self._window / 2, 1.0)
            self._latency = 0.0  # measured anew at the new window

    def _learn(self, now: float, exchange: Exchange, alone: bool) -> None:
        """Additive increase while latency stays near what it is without load."""
        latency = exchange.latency
        if exchange.started_at < self._cut_at or not latency >= 0.0:  # nan included
            return
        self._latency = _smooth(self._latency, latency)
        if alone or latency < self._baseline or not self._baseline:
            self._baseline = _smooth(self._baseline, latency)
        if self._latency > RISEN * self._baseline + SLACK:
            self._cut(now, exchange)
        elif self._latency <= FLAT * self._baseline + SLACK:
            self._window = min(self._window + 1.0 / self._window, float(self.policy.per_host))

    # What is kept

    def save(self, now_mono: float, now_wall: float) -> bytes:
        """The state as a small JSON object; its dates are wall time. See `load`."""
        record: dict[str, Any] = {
            "window": round(self._window, 3),
            "baseline": round(self._baseline, 4),
            "pauses": self._pauses,
            "unreached": self._unreached,
            "answered": self._answered,
            "failed_last": self._failed_last,
        }
        if self._started_at > -math.inf:
            record["started"] = round(now_wall + (self._started_at - now_mono), 3)
        if self.quiet_until > now_mono:
            record["quiet"] = round(now_wall + (self.quiet_until - now_mono), 3)
        if self._crawl_delay:
            record["crawl_delay"] = self._crawl_delay
        if self.refusal is not None:
            record["refusal"] = self.refusal
        return json.dumps(record, separators=(",", ":")).encode()

    @classmethod
    def load(
        cls, saved: bytes | None, policy: HostPolicy, now_mono: float, now_wall: float
    ) -> Self:
        """The state that `save` stored; a new one for None.

        Clamped, so that a clock that was moved costs one delay and one pause at most. After
        `STALE` seconds without a request the host is unproven again and its window one. Raises
        `DamagedState` for anything that `save` does not write.
        """
        state = cls(policy)
        if saved is None:
            return state
        record = Recalled(saved, "the saved pace of a host", MAX_SAVED)
        number, flag = record.number, record.flag
        state.set_crawl_delay(number("crawl_delay", 0.0))
        state._pauses = min(int(number("pauses", 0)), policy.max_pauses)
        state._unreached = min(int(number("unreached", 0)), MAX_UNREACHED - 1)
        state.refusal = record.text("refusal")
        rest = min(number("quiet", 0.0) - now_wall, max(policy.max_retry_after, CEILING))
        if rest > 0:
            state.quiet_until = now_mono + rest
        age = max(now_wall - number("started", -math.inf), 0.0)
        state._started_at = now_mono - age
        state._window = min(max(number("window", 1.0), 1.0), float(policy.per_host))
        state._baseline = number("baseline", 0.0)
        state._answered, state._failed_last = flag("answered"), flag("failed_last")
        if age > STALE:
            state._window, state._baseline, state._answered = 1.0, 0.0, False
        state.proven = state._answered and not state._failed_last
        return state

    def __repr__(self) -> str:
        given_up = f", given up: {self.refusal}" if self.refusal else ""
        return (
            f"<HostState {self.in_flight}/{self.limit} in flight, {self._pauses} pauses{given_up}>"
        )


def _smooth(average: float, value: float) -> float:
    return value if not average else average + SMOOTHING * (value - average)


def _backoff(step: int, jitter: float, ceiling: float) -> float:
    """1, 2, 4 … seconds, up to half as much again by chance, never more than *ceiling*."""
    return float(min(ceiling, FLOOR * 2 ** min(step - 1, 16) * (1.0 + jitter / 2)))
