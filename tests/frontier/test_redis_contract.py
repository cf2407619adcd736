"""The contracts of a frontier that outlives its process, on a real Redis.

A crash is a lock that is let go, and nothing else: so the next worker on this machine sees it.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from scraper.frontier.redis import RedisFrontier
from scraper.protocols import Frontier, FrontierContext, Shared
from scraper.testing.shared import SharedContract
from tests.servers.redis import Redis


class TestContract(SharedContract):
    _names = itertools.count()

    @pytest.fixture(autouse=True)
    def server(self, redis_server: Redis, tmp_path: Path) -> None:
        self.redis = redis_server
        self.root = tmp_path

    def _over(self, context: FrontierContext) -> Frontier:
        return RedisFrontier(self.redis.url(), context, now=self.wall)

    async def make(self) -> Frontier:
        job = f"job-{next(self._names)}"
        return self._over(FrontierContext("books", job, self.root / job, self.wall))

    async def reopen(self, frontier: Frontier) -> Frontier:
        assert isinstance(frontier, RedisFrontier)
        return self._over(frontier.context)

    async def crash(self, frontier: Frontier) -> Frontier:
        assert isinstance(frontier, RedisFrontier)
        await frontier.aclose(clean=False)
        return self._over(frontier.context)

    def silence(self, frontier: Shared) -> None:
        assert isinstance(frontier, RedisFrontier)
        assert frontier._heart is not None
        frontier._heart.stop()

    def beat(self, frontier: Shared) -> None:
        assert isinstance(frontier, RedisFrontier)
        frontier.beat()
