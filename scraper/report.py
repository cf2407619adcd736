"""What a crawl came to: its counts as numbers for programs, and its end as an exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from scraper.errors import reason as reason_of

__all__ = ["CrawlResult", "Ended", "Snapshot", "began", "failures", "result_of", "with_prefix"]

Ended = Literal["finished", "limit", "failed", "broken", "stopped"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A crawl at one instant. `busy`: pages in the making; `waiting`: hosts that must rest."""

    pages: int
    items: int
    failed: int
    queued: int
    busy: int
    waiting: int
    elapsed: float


@dataclass(frozen=True, slots=True)
class CrawlResult:
    """The whole crawl, earlier processes of the same job included.

    `pages`: delivered to their callbacks; `items`: that reached the end of the chain; `failed`:
    requests that ended without success; `skipped`: requests that were decided against (robots,
    scope, depth, duplicates after a redirect); `dropped`: items that a stage dropped; `rejected`:
    items in the rejected file. `reasons`: how many by reason code; `drops`: by the reason given
    to `Drop`. `outputs`: one dict per sink (`path`, `records` …). `resumed`: an earlier process
    had begun it; `finished`: it is complete and published. `ended`: why it stopped, with `detail`.
    Sizes in bytes, times in seconds; `requests` are exchanges on the wire, `robots` those for
    robots.txt. `quality`: what was delivered, by item type, and what fell behind earlier runs
    (`Assessment.as_dict`); empty with `quality.action = "off"`. `traps`: where the site may have no
    end, one dict each (`Traps.report`).
    """

    spider: str
    job: str | None
    ended: Ended
    detail: str
    finished: bool
    resumed: bool
    pages: int
    items: int
    failed: int
    skipped: int
    dropped: int
    rejected: int
    duration_s: float
    reasons: dict[str, int]
    drops: dict[str, int]
    outputs: list[dict[str, Any]]
    requests: int = 0
    robots: int = 0
    bytes: int = 0
    links: int = 0
    duplicates: int = 0
    redirects: int = 0
    retries: int = 0
    pending: int = 0
    arguments: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    traps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 complete, 1 not to be trusted; a signal's code is the command line's business."""
        return 0 if self.finished else 1

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def began(started: str) -> datetime:
    """The time that a run's `started` names, as `job.started_now` spells it. Raises `ValueError`
    for anything else."""
    return datetime.strptime(started, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def with_prefix(counts: Counter[str], prefix: str) -> dict[str, int]:
    """The counters under *prefix*, without it, most first."""
    found = {key[len(prefix) :]: n for key, n in counts.items() if key.startswith(prefix) and n}
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def failures(counts: Counter[str], kind: str = "failure") -> int:
    """Requests that ended with a reason of *kind*."""
    by_reason = with_prefix(counts, "reason:")
    return sum(n for code, n in by_reason.items() if reason_of(code).kind == kind)


def result_of(
    counts: Counter[str],
    *,
    spider: str,
    job: str | None,
    ended: Ended,
    detail: str,
    finished: bool,
    resumed: bool,
    outputs: Sequence[dict[str, Any]],
    pending: int,
    arguments: dict[str, Any],
    quality: dict[str, Any] | None = None,
    traps: Sequence[dict[str, Any]] = (),
) -> CrawlResult:
    """The result that *counts* (the ledger's counters) amount to."""
    return CrawlResult(
        spider=spider,
        job=job,
        ended=ended,
        detail=detail,
        finished=finished,
        resumed=resumed,
        pages=counts["pages"],
        items=counts["items"],
        failed=failures(counts),
        skipped=failures(counts, "skip"),
        dropped=counts["dropped"],
        rejected=counts["rejected"],
        duration_s=round(counts["elapsed_ms"] / 1000, 3),
        reasons=with_prefix(counts, "reason:"),
        drops=with_prefix(counts, "dropped:"),
        outputs=list(outputs),
        requests=counts["requests"],
        robots=counts["robots"],
        bytes=counts["bytes"],
        links=counts["links"],
        duplicates=counts["duplicates"],
        redirects=counts["redirects"],
        retries=counts["retries"],
        pending=pending,
        arguments=arguments,
        quality=quality or {},
        traps=list(traps),
    )
