"""The implicit sink of items that were not delivered: nothing is lost in silence."""

from __future__ import annotations

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

    async def open(self, crawl: CrawlInfo) -> None:
        job = crawl.job_dir.name if crawl.job_dir is not None else "default"
        if self._by_job and job != "default":
            start, mark, end = self._template.rpartition(".rejected")
            self.path = f"{start}.{job}{mark}{end}"
        await super().open(crawl)

    async def process(self, item: Any, page: Page) -> Any:
        raise TypeError("RejectedItems is no stage: pass it as Chain(..., rejected=)")
