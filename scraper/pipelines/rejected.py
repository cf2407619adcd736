"""The implicit sink of items that were not delivered: nothing is lost in silence."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from scraper.pipelines.append import AppendSink, Mode
from scraper.protocols import CrawlInfo, Page

__all__ = ["RejectedItems"]


class RejectedItems(AppendSink):
    """JSON Lines of rejected items, exactly once like every output; see `quarantine.record`.

    Stands outside the chain, which stages for it. When a crawl rejects nothing, no file is
    published; in mode "replace" the rejected file of an *earlier* crawl is then removed, because
    beside this crawl's output it would tell of items that are not missing. While the crawl runs,
    `FILE.partial` stands for it, empty at first. *by_job*: beside a table, to which several jobs
    may write at once; then each job that has a name of its own has a file of its own.
    """

    kind = "rejected"
    keep_empty = False

    def __init__(
        self,
        path: str = "data/{spider}.rejected.jsonl",
        mode: Mode = "replace",
        *,
        by_job: bool = False,
    ) -> None:
        super().__init__(path, mode)
        self._template = path
        self._by_job = by_job
        self._mine = ""
        self._retracted: frozenset[str] = frozenset()

    async def open(self, crawl: CrawlInfo) -> None:
        data = crawl.run.encode("utf-8", "backslashreplace")
        self._mine = f"{blake2b(data, digest_size=8).hexdigest()}-"
        job = crawl.job_dir.name if crawl.job_dir is not None else "default"
        if self._by_job and job != "default":
            start, mark, end = self._template.rpartition(".rejected")
            self.path = f"{start}.{job}{mark}{end}"
        await super().open(crawl)

    async def process(self, item: Any, page: Page) -> Any:
        raise TypeError("RejectedItems is no stage: pass it as Chain(..., rejected=)")

    def name_of(self, number: int) -> str:
        """What the lines of a page have under `page`: no other page or crawl has the same.

        *number*: of its request in the ledger; 0, where there is none, has no name.
        """
        return f"{self._mine}{number}" if number else ""

    def retract(self, numbers: Iterable[int]) -> None:
        """These pages were fetched again since: `publish` leaves out what was rejected then."""
        self._retracted = frozenset(map(self.name_of, numbers))

    async def publish(self) -> None:
        if self._retracted:
            self.records = 0
            await self.files.sift(self._stays)
        await super().publish()

    def _stays(self, line: bytes) -> bool:
        try:
            page = json.loads(line)["page"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return True  # in mode "append" the file may hold lines that are not ours
        if page in self._retracted:
            return False
        self.records = (self.records or 0) + (isinstance(page, str) and page.startswith(self._mine))
        return True
