"""Tally: the crawl's counters, earlier processes included, and the limits that hang on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from scraper.config import Crawl
from scraper.events import Stop
from scraper.protocols import Clock
from scraper.report import failures
from scraper.work import Batch

__all__ = ["Tally"]


class Tally:
    """`totals`: what has happened in the whole crawl, committed or about to be.

    The frontier keeps the counters by increments. What settles is counted in the batch it settles
    with (`settle`); what happens beside (`note`) is carried by the next batch there is.
    """

    def __init__(self, clock: Clock, totals: Mapping[str, int]) -> None:
        self.totals: Counter[str] = Counter(totals)
        self._carried: Counter[str] = Counter()
        self._clock = clock
        self._timed = clock.monotonic()  # until when `elapsed_ms` is counted
        self._sent = 0

    def __getitem__(self, name: str) -> int:
        return self.totals[name]

    def settle(self, counts: Counter[str], batch: Batch) -> None:
        """Count what became of a page, in its own batch."""
        batch.counts.update(counts)
        self.totals.update(counts)

    def note(self, **increments: int) -> None:
        """Count what is worth no commit of its own."""
        for name, increment in increments.items():
            self.totals[name] += increment
            self._carried[name] += increment

    def complete(self, batch: Batch, sent: int) -> None:
        """Add to *batch* what was noted, the time spent, and the requests *sent* in all."""
        now = self._clock.monotonic()
        spent = int((now - self._timed) * 1000)
        self._timed += spent / 1000
        self.note(elapsed_ms=spent, requests=sent - self._sent)
        self._sent = sent
        batch.counts.update(self._carried)
        self._carried.clear()

    @property
    def elapsed(self) -> float:
        """Seconds this crawl has run."""
        return self.totals["elapsed_ms"] / 1000 + self._clock.monotonic() - self._timed

    @property
    def errors(self) -> int:
        """Requests that failed, and items that a stage failed."""
        return failures(self.totals) + self.totals["reason:stage_error"]

    def reached(self, limits: Crawl) -> Stop | None:
        """The limit that ends the crawl now, if there is one."""
        if limits.max_items and self.totals["items"] >= limits.max_items:
            return Stop("limit", f"crawl.max_items = {limits.max_items}")
        if limits.max_pages and self.totals["pages"] >= limits.max_pages:
            return Stop("limit", f"crawl.max_pages = {limits.max_pages}")
        if limits.max_duration and self.elapsed >= limits.max_duration:
            return Stop("limit", f"crawl.max_duration = {limits.max_duration:g}")
        if limits.max_errors and self.errors >= limits.max_errors:
            return Stop("failed", f"crawl.max_errors = {limits.max_errors} was reached")
        return None
