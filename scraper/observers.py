"""Observers as one: each is told everything, and none can steer, not even by raising."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from scraper.http import Request, Response
from scraper.protocols import CrawlInfo, Observer, Page
from scraper.report import Snapshot
from scraper.work import Batch, Committed, Recovery

__all__ = ["Observers"]

log = logging.getLogger("scraper.crawl")


class Observers(Observer):
    """Passes everything on to each of *members*. One that raises is told of once, and goes on."""

    def __init__(self, members: Sequence[Observer] = ()) -> None:
        self._members = tuple(members)
        self._told: set[tuple[int, str]] = set()

    def on_open(
        self, crawl: CrawlInfo, recovery: Recovery, snapshot: Callable[[], Snapshot]
    ) -> None:
        self._tell("on_open", crawl, recovery, snapshot)

    def on_response(self, request: Request, response: Response) -> None:
        if self._members:
            self._tell("on_response", request, response)

    def on_item(self, item: Any, page: Page) -> None:
        if self._members:
            self._tell("on_item", item, page)

    def on_commit(self, batch: Batch, committed: Committed) -> None:
        self._tell("on_commit", batch, committed)

    def on_close(self, reason: str) -> None:
        self._tell("on_close", reason)

    def _tell(self, event: str, *args: Any) -> None:
        for number, member in enumerate(self._members):
            try:
                getattr(member, event)(*args)
            except Exception as error:
                if (number, event) not in self._told:
                    self._told.add((number, event))
                    log.exception("%s.%s raised %r", type(member).__name__, event, error)
