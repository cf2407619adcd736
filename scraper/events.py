"""What the scheduler hears: outcomes of pages, seeds, finished commits, the wish to stop, time."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self, get_args

from scraper.errors import DamagedState
from scraper.host import Host
from scraper.http import Request
from scraper.pipelines.page import StagedPage
from scraper.report import Ended
from scraper.work import Batch, Committed, Found, Lease, Verdict

__all__ = ["WAKE", "Event", "Group", "Outcome", "Seeds", "Stop", "Wake", "Wrote"]


@dataclass(slots=True)
class Outcome:
    """What became of one lease: exactly one is reported for each that was started.

    `packed`: of the page, what is handed on to the leader of a shared crawl. `admitted`: of what
    it found, if that was looked through already.
    """

    lease: Lease
    host: Host
    verdict: Verdict
    found: Sequence[Request] = ()
    redirect: Request | None = None
    page: StagedPage | None = None
    packed: bytes | None = None
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    admitted: list[Found] | None = None


@dataclass(slots=True)
class Seeds:
    """Requests from `start()`. `done`: it is exhausted."""

    requests: list[Request]
    done: bool


@dataclass(slots=True)
class Group:
    """What settles together.

    `opened`: monotonic time of its first page, for the interval. `staged`: bytes of items, `found`:
    requests that ask to be admitted; both bound how much may wait for a commit.
    """

    batch: Batch = field(default_factory=Batch)
    pages: list[StagedPage] = field(default_factory=list)
    opened: float = 0.0
    staged: int = 0
    found: int = 0

    @property
    def empty(self) -> bool:
        b = self.batch
        return not (b.settled or b.seeds or b.sending or b.counts or b.state)


@dataclass(slots=True)
class Wrote:
    """A group is durable."""

    group: Group
    committed: Committed


@dataclass(slots=True)
class Stop:
    """Why the crawl ends: `finished`, `limit`, `failed` (what is done is not to be trusted),
    `broken` (the spider's own code stopped it) or `stopped` (by a signal); the last two resume."""

    reason: Ended
    detail: str = ""
    now: bool = False

    def dump(self) -> bytes:
        """For the other workers of a shared crawl."""
        return json.dumps([self.reason, self.detail]).encode()

    @classmethod
    def load(cls, stored: bytes) -> Self:
        """What `dump` made. Raises `DamagedState` for anything else."""
        try:
            reason, detail = json.loads(stored)
            if reason in get_args(Ended) and isinstance(detail, str):
                return cls(reason, detail)
        except (ValueError, TypeError, RecursionError):
            pass
        raise DamagedState(
            "the frontier does not say why the crawl ends",
            hint="Run with --fresh to start anew; the old state is set aside, not deleted.",
        )


class Wake:
    """Time passed, or the gate changed: look again."""


WAKE = Wake()
Event = Outcome | Seeds | Wrote | Stop | Wake
