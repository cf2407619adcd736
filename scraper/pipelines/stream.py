"""Items handed to Python code, as they are committed: what stands behind `stream()`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal

from scraper.errors import ConfigError
from scraper.protocols import CrawlInfo, Page

__all__ = ["QueueSink"]


class QueueSink:
    """Yields the item objects of each group after its commit: `async for item in sink`.

    The consumer sets the pace: at most *groups* committed groups wait for it, then the next
    commit does. The iteration ends when the crawl closes its sinks (`aclose`) and what was
    committed is consumed; `stop`, for a consumer that leaves early, lets the crawl go on unheard.
    """

    recovery: Literal["rewind", "redo"] = "rewind"
    key = "stream"

    def __init__(self, groups: int = 2) -> None:
        self.records = 0
        self._queue: asyncio.Queue[Sequence[Any] | None] = asyncio.Queue(groups)
        self._closed = False
        self._stopped = False

    async def open(self, crawl: CrawlInfo) -> None:
        """Raises `ConfigError` in a shared crawl."""
        if crawl.shared:
            raise ConfigError(
                "stream(): workers share this crawl, and the items that others have fetched do not"
                " come to this process",
                hint='Let them write to an output, or crawl alone: frontier.url = "memory".',
            )

    async def process(self, item: Any, page: Page) -> Any:
        # Never encoded, so its bytes are unknown: max_items_per_page is the bound.
        page.stage(self, item, 0)
        return item

    async def rewind(self, position: Any) -> None:
        if position is not None:
            self.records = int(position)

    async def write(self, records: Sequence[Any]) -> int:
        self.records += len(records)
        return self.records

    async def committed(self, records: Sequence[Any]) -> None:
        """The group is durable: hand it over, waiting while the consumer is behind."""
        if records and not self._stopped:
            await self._queue.put(list(records))

    def stop(self) -> None:
        """The consumer is gone: wake whoever waits for it, and discard from here on."""
        self._stopped = True
        while not self._queue.empty():
            self._queue.get_nowait()

    async def publish(self) -> None:
        """It was handed over already."""

    async def set_aside(self) -> None:
        """It cannot be taken back."""

    async def aclose(self) -> None:
        self._closed = True
        if not self._queue.full():  # a full queue has nobody waiting at its other end
            self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncGenerator[Any, None]:
        while not (self._closed and self._queue.empty()):
            group = await self._queue.get()
            for item in group or ():
                yield item

    def describe(self) -> dict[str, Any]:
        return {"kind": "stream", "path": None, "records": self.records}
