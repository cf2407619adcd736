"""What the tests of tables stand on: three databases, and whole runs on them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scraper.errors import ScraperError
from scraper.http import Request, Response
from scraper.pipelines.chain import Chain, Placed, Rejected
from scraper.pipelines.page import StagedPage, group_records
from scraper.pipelines.sql import Sql
from scraper.pipelines.sqlite import Sqlite
from scraper.pipelines.tablesink import TableSink
from scraper.testing.redo import Job
from scraper.testing.sinks import crawl_info
from tests.servers.mariadb import MariaDb
from tests.servers.postgres import Postgres

__all__ = [
    "Database",
    "OnMariaDb",
    "OnPostgres",
    "OnSqlite",
    "ThroughSql",
    "new_page",
    "process",
    "run",
]


class Database:
    """A database, and how the tests read it: by a library that is not the sink's own code."""

    name = ""

    def __init__(self, root: Path) -> None:
        self.root = root

    def sink(self, **options: Any) -> TableSink:
        raise NotImplementedError

    def rows(self, query: str) -> list[Any]:
        raise NotImplementedError

    def execute(self, *statements: str) -> None:
        raise NotImplementedError


class OnSqlite(Database):
    name = "sqlite"

    @property
    def path(self) -> Path:
        return self.root / "data/shop.sqlite"

    def sink(self, **options: Any) -> TableSink:
        return Sqlite("data/shop.sqlite", **options)

    def rows(self, query: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchall()

    def execute(self, *statements: str) -> None:
        self.path.parent.mkdir(exist_ok=True)
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()


class ThroughSql(OnSqlite):
    """The same file, by SQLAlchemy."""

    name = "sql-sqlite"

    def sink(self, **options: Any) -> TableSink:
        self.path.parent.mkdir(exist_ok=True)
        return Sql(f"sqlite:///{self.path}", **options)


class OnMariaDb(Database):
    name = "mariadb"

    def __init__(self, root: Path, server: MariaDb) -> None:
        super().__init__(root)
        self.server = server
        self.database = server.database()

    def sink(self, **options: Any) -> TableSink:
        return Sql(self.server.url(self.database), **options)

    def rows(self, query: str) -> list[Any]:
        return self.server.query(query, self.database)

    def execute(self, *statements: str) -> None:
        for statement in statements:
            self.server.query(statement, self.database)


class OnPostgres(Database):
    name = "postgresql"

    def __init__(self, root: Path, server: Postgres) -> None:
        super().__init__(root)
        self.server = server
        self.database = server.database()

    def sink(self, **options: Any) -> TableSink:
        return Sql(self.server.url(self.database), **options)

    def rows(self, query: str) -> list[Any]:
        with self.server.connect(self.database) as connection:
            return connection.execute(query.encode()).fetchall()

    def execute(self, *statements: str) -> None:
        with self.server.connect(self.database) as connection:
            for statement in statements:
                connection.execute(statement.encode())


def new_page(url: str = "https://example.com/") -> StagedPage:
    return StagedPage(
        Request(url), Response(url, body=b"<p>"), spider="books", version="7", fetched_at=86_400.5
    )


async def process(sink: TableSink, items: Iterable[Any]) -> tuple[list[bytes], list[Rejected]]:
    """What the sink stages of *items*, through a chain; and those that it rejects."""
    chain, page, rejected = Chain([Placed(sink)]), new_page(), []
    for item in items:
        result = await chain.run(item, page)
        if isinstance(result, Rejected):
            rejected.append(result)
        else:
            assert result.delivered, result
    return list(group_records([page]).get(sink, [])), rejected


async def run(
    database: Database,
    *groups: Sequence[Any],
    job: Job | None = None,
    started: str = "20260102T030405Z",
    end: str = "publish",
    **options: Any,
) -> list[Rejected]:
    """A process of a crawl: it delivers *groups*, then ends. *job*: goes on with it.

    *end*: "publish", "set_aside", or "" for a crash. Returns what was rejected.
    """
    job = job or Job(crawl_info(database.root, started=started))
    sink = database.sink(**options)
    rejected: list[Rejected] = []
    await sink.open(job.crawl)
    try:
        await sink.rewind(job.position)
        for group, records in job.redo:
            await sink.apply(group, records)
        for items in groups:
            records, refused = await process(sink, items)
            rejected += refused
            if records:
                await sink.apply(job.commit(records), records)
        if end:
            await getattr(sink, end)()
    finally:
        await sink.aclose()
    return rejected


def reason(rejected: Sequence[Rejected]) -> str:
    """Why the one item was rejected."""
    (only,) = rejected
    assert only.reason == "schema"
    assert isinstance(only.error, ScraperError)
    return only.error.message
