"""The `sql` sink on a real PostgreSQL: the contracts, and what is its own. Read by psycopg."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from scraper.pipelines.sql import Sql
from scraper.testing.redo import KeyedSinkContract, RedoSinkContract
from tests.servers.postgres import Postgres

URL = "SCRAPER_TEST_DATABASE"


@pytest.fixture
def database(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database of its own, whose URL stands in the environment."""
    name = postgres.database()
    monkeypatch.setenv(URL, postgres.url(name))
    return name


def table_of(root: Path) -> str:
    """Each root has a table of its own: the contract's targets."""
    return "t_" + hashlib.sha256(str(root).encode()).hexdigest()[:20]


class Target:
    """What both contracts' targets have in common."""

    examples = 15

    @pytest.fixture(autouse=True)
    def _server(self, postgres: Postgres, database: str) -> None:
        self.postgres, self.database = postgres, database

    def delivered(self, root: Path) -> list[tuple[int, int]]:
        query = sql.SQL("SELECT number::int, version::int FROM {}")
        with self.postgres.connect(self.database) as connection:
            try:
                found = connection.execute(query.format(sql.Identifier(table_of(root)))).fetchall()
            except psycopg.errors.UndefinedTable:
                return []
        return [(int(str(number)), int(str(version))) for number, version in found]

    @contextlib.contextmanager
    def away(self, root: Path) -> Iterator[None]:
        self.postgres.stop()
        try:
            yield
        finally:
            self.postgres.start()

    def lose(self, root: Path) -> None:
        with self.postgres.connect(self.database) as connection:
            for table in (table_of(root), "_scrape_runs"):
                connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(table)))


class TestAppend(Target, RedoSinkContract):
    def make(self, root: Path) -> Sql:
        return Sql(f"${URL}", table_of(root), patience=0)


class TestKeyed(Target, KeyedSinkContract):
    def make(self, root: Path) -> Sql:
        return Sql(f"${URL}", table_of(root), key=["number"], patience=0)
