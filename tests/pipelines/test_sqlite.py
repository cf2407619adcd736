"""The `sqlite` sink: the contracts, and what is its own. Read by Python's sqlite3."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scraper.pipelines.sqlite import Sqlite
from scraper.testing.redo import KeyedSinkContract, RedoSinkContract


def rows(path: Path, query: str, *values: Any) -> list[Any]:
    """What an independent reader gets; [] when there is no such file or table."""
    if not path.exists():
        return []
    with contextlib.closing(sqlite3.connect(path)) as connection:
        try:
            return connection.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            assert "no such table" in str(error)
            return []


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program holds the file."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


class TestAppend(RedoSinkContract):
    def make(self, root: Path) -> Sqlite:
        return Sqlite("data/{spider}.sqlite", "things", patience=0)

    def delivered(self, root: Path) -> list[tuple[int, int]]:
        return rows(root / "data/books.sqlite", "SELECT number, version FROM things")

    def away(self, root: Path) -> contextlib.AbstractContextManager[None]:
        return locked(root / "data/books.sqlite")

    def lose(self, root: Path) -> None:
        (root / "data/books.sqlite").unlink()


class TestKeyed(KeyedSinkContract):
    def make(self, root: Path) -> Sqlite:
        return Sqlite("data/{spider}.sqlite", "things", key=["number"], patience=0)

    delivered = TestAppend.delivered
    away = TestAppend.away
    lose = TestAppend.lose
