"""Progress while a crawl runs: one live line on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from scraper.http import Request, Response
from scraper.protocols import CrawlInfo, Page
from scraper.report import Snapshot
from scraper.work import Batch, Committed, Recovery

__all__ = ["LiveProgress", "PlainProgress", "progress_for"]

EVERY = 10.0
"""Seconds between plain lines."""

WINDOW = 10.0
"""Seconds over which pages per second are measured."""


class PlainProgress:
    """An observer that writes a line every ten seconds: for logs and pipes."""

    def __init__(self) -> None:
        self._spider = ""
        self._snapshot: Callable[[], Snapshot] | None = None
        self._marks: deque[tuple[float, int]] = deque()
        self._told = 0.0

    def on_open(
        self, crawl: CrawlInfo, recovery: Recovery, snapshot: Callable[[], Snapshot]
    ) -> None:
        self._spider = crawl.spider
        self._snapshot = snapshot
        self._told = time.monotonic()
        self._marks.append((self._told, snapshot().pages))

    def on_response(self, request: Request, response: Response) -> None:
        """Counted by the crawl itself."""

    def on_item(self, item: Any, page: Page) -> None:
        """Counted by the crawl itself."""

    def on_commit(self, batch: Batch, committed: Committed) -> None:
        if time.monotonic() - self._told >= EVERY:
            self._told = time.monotonic()
            sys.stderr.write(f"{self.line()}\n")
            sys.stderr.flush()

    def on_close(self, reason: str) -> None:
        """The summary tells the rest."""

    def line(self, width: int = 0) -> str:
        """`books  412 pages  380 items  0 failed  35.2/s …`, cut from the right to *width*."""
        if self._snapshot is None:
            return ""
        at = self._snapshot()
        parts = [
            self._spider,
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


class LiveProgress(PlainProgress):
    """The same line, renewed in place four times a second."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._live: Live | None = None

    def on_open(
        self, crawl: CrawlInfo, recovery: Recovery, snapshot: Callable[[], Snapshot]
    ) -> None:
        super().on_open(crawl, recovery, snapshot)
        self._live = Live(
            console=self._console,
            get_renderable=lambda: Text(self.line(self._console.width - 1), no_wrap=True),
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
        )
        self._live.start()

    def on_commit(self, batch: Batch, committed: Committed) -> None:
        """Renewed by its own thread."""

    def on_close(self, reason: str) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def progress_for(*, quiet: bool) -> list[PlainProgress]:
    """The observer that suits where stderr leads."""
    if quiet:
        return []
    console = Console(stderr=True)
    return [LiveProgress(console) if console.is_terminal else PlainProgress()]
