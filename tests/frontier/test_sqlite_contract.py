"""The contract, on SQLite: a crash is a copy of the files at that instant."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scraper.frontier.sqlite import SqliteFrontier
from scraper.protocols import Frontier
from scraper.testing.frontier import FrontierContract


class TestContract(FrontierContract):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.root = tmp_path
        self.lives = 0

    def _place(self) -> Path:
        self.lives += 1
        return self.root / str(self.lives) / "ledger.sqlite"

    async def make(self) -> Frontier:
        return SqliteFrontier(self._place(), wall=self.wall)

    async def reopen(self, frontier: Frontier) -> Frontier:
        assert isinstance(frontier, SqliteFrontier)
        return SqliteFrontier(frontier.path, wall=self.wall)

    async def crash(self, frontier: Frontier) -> Frontier:
        assert isinstance(frontier, SqliteFrontier)
        new = self._place()
        shutil.copytree(frontier.path.parent, new.parent)
        return SqliteFrontier(new, wall=self.wall)
