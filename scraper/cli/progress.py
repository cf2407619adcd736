"""Progress while a crawl runs: a line now and then, or on a terminal a live one (`live`)."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from scraper.http import Request, Response
from scraper.protocols import CrawlInfo, Page
from scraper.report import Snapshot
from scraper.work import Batch, Committed, Recovery

__all__ = ["PlainProgress", "progress_for"]

EVERY = 10.0
"""Seconds between plain lines."""

WINDOW = 10.0
"""Seconds over which pages per second are measured."""


class PlainProgress:
    """An observer that writes a line every ten seconds: for logs and pipes."""

    def __init__(self) -> None:
        self._title: Callable[[], str] = str
        self._snapshot: Callable[[], Snapshot] | None = None
        self._marks: deque[tuple[float, int]] = deque()
        self._told = 0.0

    def on_open(
        self, crawl: CrawlInfo, recovery: Recovery, snapshot: Callable[[], Snapshot]
    ) -> None:
        self.begin(lambda: crawl.spider, snapshot)

    def on_response(self, request: Request, response: Response) -> None:
        """Counted by the crawl itself."""

    def on_item(self, item: Any, page: Page) -> None:
        """Counted by the crawl itself."""

    def on_commit(self, batch: Batch, committed: Committed) -> None:
        self.moved()

    def on_close(self, reason: str) -> None:
        """The summary tells the rest."""

    def begin(self, title: Callable[[], str], snapshot: Callable[[], Snapshot]) -> None:
        """From now on there is a crawl: *title* is what its line begins with."""
        self._title, self._snapshot = title, snapshot
        self._told = time.monotonic()
        self._marks.append((self._told, snapshot().pages))

    def moved(self) -> None:
        """There is something new: tell it, if the last time is long enough ago."""
        if time.monotonic() - self._told >= EVERY:
            self._told = time.monotonic()
            sys.stderr.write(f"{self.line()}\n")
            sys.stderr.flush()

    def line(self, width: int = 0) -> str:
        """`books  412 pages  380 items  0 failed  35.2/s …`, cut from the right to *width*."""
        if self._snapshot is None:
            return ""
        at = self._snapshot()
        parts = [
            self._title(),
            f"{at.pages:,} pages",
            f"{at.items:,} items",
            f"{at.failed:,} failed",
            f"{self._pace(at):.1f}/s",
            f"{at.queued:,} queued",
            f"{at.waiting} host{'s' * (at.waiting != 1)} waiting",
            _span(at.elapsed),
        ]
        text = "  ".join(parts)
        while width and len(text) > width and len(parts) > 2:
            del parts[-2]
            text = "  ".join(parts)
        return text[:width] if width else text

    def _pace(self, at: Snapshot) -> float:
        now = time.monotonic()
        self._marks.append((now, at.pages))
        while len(self._marks) > 2 and self._marks[0][0] < now - WINDOW:
            self._marks.popleft()
        began, pages = self._marks[0]
        return (at.pages - pages) / (now - began) if now > began else 0.0


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def progress_for(*, quiet: bool) -> list[PlainProgress]:
    """The observer that suits where stderr leads."""
    if quiet:
        return []
    if not sys.stderr.isatty():
        return [PlainProgress()]
    from scraper.cli.live import LiveProgress, terminal  # rich: 60 ms that only a terminal is worth

    console = terminal()
    return [LiveProgress(console) if console is not None else PlainProgress()]
