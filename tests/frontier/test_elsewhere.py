"""The contract of durable frontiers, on one that is not ours."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scraper.protocols import Frontier
from scraper.testing.durable import DurableContract
from tests.frontier.elsewhere import Elsewhere


class TestContract(DurableContract):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.root = tmp_path
        self.lives = 0

    def _place(self) -> Path:
        self.lives += 1
        return self.root / str(self.lives) / "store.db"

    async def make(self) -> Frontier:
        return Elsewhere(self._place(), wall=self.wall)

    async def reopen(self, frontier: Frontier) -> Frontier:
        assert isinstance(frontier, Elsewhere)
        return Elsewhere(frontier.path, wall=self.wall)

    async def crash(self, frontier: Frontier) -> Frontier:
        assert isinstance(frontier, Elsewhere)
        new = self._place()
        shutil.copytree(frontier.path.parent, new.parent)
        return Elsewhere(new, wall=self.wall)
