"""The implicit sink of items that were not delivered: nothing is lost in silence."""

from __future__ import annotations

from typing import Any

from scraper.pipelines.append import AppendSink, Mode
from scraper.protocols import Page

__all__ = ["RejectedItems"]


class RejectedItems(AppendSink):
    """JSON Lines of rejected items, exactly once like every output; see `quarantine.record`.

    Stands outside the chain, which stages for it. When a crawl rejects nothing, no file is
    published; in mode "replace" the rejected file of an *earlier* crawl is then removed, because
    beside this crawl's output it would tell of items that are not missing. While the crawl runs,
    `FILE.partial` stands for it, empty at first.
    """

    kind = "rejected"
    keep_empty = False

    def __init__(self, path: str = "data/{spider}.rejected.jsonl", mode: Mode = "replace") -> None:
        super().__init__(path, mode)

    async def process(self, item: Any, page: Page) -> Any:
        raise TypeError("RejectedItems is no stage: pass it as Chain(..., rejected=)")
