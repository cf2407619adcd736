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

    def __init__(self, clock: Clock, totals: Mapping[str, int], *, timed: bool = True) -> None:
        """*timed*: the time that passes is counted here, and by nobody else."""
        self.totals: Counter[str] = Counter(totals)
        self._carried: Counter[str] = Counter()
        self._clock = clock
        self._times = timed
        self._timed = clock.monotonic()  # until when `elapsed_ms` is counted
        self._sent = 0

    def __getitem__(self, name: str) -> int:
        return self.totals[name]

    def settle(self, counts: Mapping[str, int], batch: Batch) -> None:
        """Count what became of a page, in its own batch."""
        _add(counts, self.totals, batch.counts)

    def note(self, **increments: int) -> None:
        """Count what is worth no commit of its own."""
        _add(increments, self.totals, self._carried)

    def complete(self, batch: Batch, sent: int) -> None:
        """Add to *batch* what was noted, the time spent, and the requests *sent* in all."""
        if self._times:
            spent = int((self._clock.monotonic() - self._timed) * 1000)
            self._timed += spent / 1000
            self.note(elapsed_ms=spent)
        self.note(requests=sent - self._sent)
        self._sent = sent
        batch.counts.update(self._carried)
        self._carried.clear()

    def heard(self, totals: Mapping[str, int], open_group: Batch) -> None:
        """The counters of all workers, as of a commit; what *open_group* counts is not in them."""
        self.totals = Counter(totals)
        self.totals.update(open_group.counts)
        self.totals.update(self._carried)
        if not self._times:
            self._timed = self._clock.monotonic()

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


def _add(increments: Mapping[str, int], one: dict[str, int], other: dict[str, int]) -> None:
    """Add *increments* to both. `Counter.update` takes ten times as long for the few that a page
    has."""
    for name, number in increments.items():
        one[name] = one.get(name, 0) + number
        other[name] = other.get(name, 0) + number
