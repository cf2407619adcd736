"""Frontiers on a real Redis, by the real clock, for tests of what only Redis does."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from scraper.frontier.redis import RedisFrontier
from scraper.protocols import FrontierContext
from scraper.work import Batch, Recovery

__all__ = ["Crew", "until"]

SPIDER = "books"
_jobs = itertools.count()


class Crew:
    """Workers of one crawl, closed at the end, whatever became of them."""

    def __init__(self, url: str, directory: Path, **options: Any) -> None:
        self.url = url
        self.job = f"crew-{next(_jobs)}"
        self.context = FrontierContext(SPIDER, self.job, directory / self.job)
        self._options = options
        self._opened: list[RedisFrontier] = []
        self.recovery = Recovery()

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str, directory: Path, **options: Any) -> AsyncIterator[Crew]:
        crew = cls(url, directory, **options)
        try:
            yield crew
        finally:
            for frontier in crew._opened:
                await frontier.aclose(clean=False)

    @property
    def place(self) -> tuple[str, str, str]:
        """What readers ask for: server, spider and job."""
        return self.url, SPIDER, self.job

    def another(self, url: str = "", **options: Any) -> RedisFrontier:
        """One that is not open yet."""
        return RedisFrontier(url or self.url, self.context, **(self._options | options))

    async def join(self, url: str = "", **options: Any) -> RedisFrontier:
        frontier = self.another(url, **options)
        self.recovery = await frontier.open()
        self._opened.append(frontier)
        return frontier

    @property
    def prefix(self) -> str:
        """Of the current run's keys."""
        return self._opened[0]._worker._prefix


async def until(holds: Callable[[], Any], seconds: float = 60) -> None:
    """Wait for it, without blocking the loop."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came"
        await asyncio.sleep(0.01)


def counted(n: int = 1, **more: Any) -> Batch:
    """A batch that counts pages."""
    batch = Batch(**more)
    batch.counts["pages"] = n
    return batch
