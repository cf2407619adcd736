"""The `sqlite` sink: the contracts, and what is its own. Read by Python's sqlite3."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from scraper import Item
from scraper.errors import ConfigError, DamagedState, OutOfResource, UsageError
from scraper.pipelines.sqlite import Sqlite
from scraper.testing.redo import Job, KeyedSinkContract, RedoSinkContract
from scraper.testing.sinks import crawl_info
from tests.pipelines.tables import OnSqlite, process, run


def rows(path: Path, table: str, query: str) -> list[Any]:
    """What an independent reader gets; [] when there is no such file or table."""
    if not path.exists():
        return []
    with contextlib.closing(sqlite3.connect(path)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        return connection.execute(query).fetchall() if table in tables else []


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
        return rows(root / "data/books.sqlite", "things", "SELECT number, version FROM things")

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


# The file ---------------------------------------------------------------------------------------


class Book(Item):
    title: str
    price: Decimal = Decimal("12.50")


@pytest.fixture
def database(tmp_path: Path) -> OnSqlite:
    return OnSqlite(tmp_path)


async def test_a_new_file_is_one_file_at_the_end(database: OnSqlite) -> None:
    await run(database, [Book(title="A")])
    assert [path.name for path in database.path.parent.iterdir()] == ["shop.sqlite"]
    assert database.rows("PRAGMA journal_mode") == [("wal",)]
    assert database.rows("PRAGMA integrity_check") == [("ok",)]


async def test_an_existing_file_keeps_its_mode_and_its_tables(database: OnSqlite) -> None:
    database.execute("CREATE TABLE other (x)", "INSERT INTO other VALUES (1)")
    await run(database, [Book(title="A")])
    assert database.rows("PRAGMA journal_mode") == [("delete",)]
    assert database.rows("SELECT x FROM other") == [(1,)]
    assert database.rows("SELECT title FROM book") == [("A",)]


async def test_nothing_is_made_before_the_first_group(database: OnSqlite) -> None:
    await run(database, [])
    assert list(database.path.parent.iterdir()) == []


async def test_an_empty_file_becomes_a_database(database: OnSqlite) -> None:
    database.path.parent.mkdir()
    database.path.touch()
    await run(database, [Book(title="A")])
    assert database.rows("PRAGMA journal_mode") == [("wal",)]


def _directory(path: Path) -> None:
    path.mkdir(parents=True)


def _link(path: Path) -> None:
    path.parent.mkdir()
    path.with_name("elsewhere").touch()
    path.symlink_to("elsewhere")


def _dangling(path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to("nowhere")


def _pipe(path: Path) -> None:
    path.parent.mkdir()
    os.mkfifo(path)


def _text(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("title,price\n" * 100)


def _file_above(path: Path) -> None:
    path.parent.write_text("a file")


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (_directory, "it is a directory"),
        (_link, "it is a symbolic link"),
        (_dangling, "it is a symbolic link"),
        (_pipe, "not a regular file"),
        (_text, "is no SQLite file"),
        (_file_above, "a part of the path is a file"),
    ],
)
async def test_places_that_cannot_be_written(
    database: OnSqlite, make: Callable[[Path], None], error: str
) -> None:
    make(database.path)
    before = database.path.read_bytes() if database.path.is_file() else b""
    with pytest.raises(UsageError, match=error) as caught:
        await run(database, [Book(title="A")])
    assert str(database.path) in caught.value.message
    assert caught.value.hint
    assert (database.path.read_bytes() if database.path.is_file() else b"") == before


@pytest.mark.parametrize("which", ["file", "directory"])
async def test_what_may_not_be_written(
    database: OnSqlite, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute("CREATE TABLE other (x)")
    target = database.path if which == "file" else database.path.parent
    # Who runs this may be root, to whom nothing is forbidden.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != target)
    with pytest.raises(UsageError, match="permission denied"):
        await run(database, [Book(title="A")])


async def test_paths_have_placeholders(tmp_path: Path) -> None:
    sink = Sqlite("out/{spider}-{started}.db")
    await sink.open(crawl_info(tmp_path))
    assert sink.key == str(tmp_path / "out/books-20260102T030405Z.db")
    await sink.aclose()
    with pytest.raises(ConfigError, match=r"\{item\} is not known"):
        await Sqlite("out/{item}.db").open(crawl_info(tmp_path))


async def test_decimals_as_numbers(database: OnSqlite) -> None:
    for started in ("20260102T030405Z", "20260103T030405Z"):
        await run(database, [Book(title="A")], decimals="float", started=started)
    assert database.rows("SELECT sum(price), typeof(price) FROM book") == [(25.0, "real")]
    with pytest.raises(ConfigError, match="column price is REAL"):
        await run(database, [Book(title="A")], started="20260104T030405Z")


# Beside other programs --------------------------------------------------------------------------


async def test_readers_see_groups_and_wait_for_nothing(database: OnSqlite) -> None:
    job = Job(crawl_info(database.root))
    await run(database, [Book(title="A")], job=job, end="")
    with contextlib.closing(sqlite3.connect(database.path, timeout=0)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM book").fetchone() == (1,)
        await run(database, [Book(title="B")], job=job, patience=0)
        assert reader.execute("SELECT count(*) FROM book").fetchone() == (1,), "its snapshot"
        reader.execute("COMMIT")
        assert reader.execute("SELECT count(*) FROM book").fetchone() == (2,)


async def test_it_waits_for_a_writer(database: OnSqlite) -> None:
    await run(database, [Book(title="A")])
    other = sqlite3.connect(database.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    sink = database.sink()
    await sink.open(crawl_info(database.root, job="other"))
    await sink.rewind(None)
    records, _ = await process(sink, [Book(title="B")])
    waiting = asyncio.create_task(sink.apply(1, records))
    await asyncio.sleep(0)
    assert not waiting.done()
    other.execute("ROLLBACK")
    other.close()
    await waiting
    await sink.aclose()
    assert len(database.rows("SELECT * FROM book")) == 2


async def test_a_file_that_stays_locked(database: OnSqlite) -> None:
    await run(database, [Book(title="A")])
    job = Job(crawl_info(database.root, job="other"))
    with locked(database.path), pytest.raises(OutOfResource, match="locked by another program"):
        await run(database, [Book(title="B")], job=job, patience=0.001)
    await run(database, job=job)
    assert len(database.rows("SELECT * FROM book")) == 2


async def test_a_full_disk_loses_nothing(database: OnSqlite) -> None:
    job = Job(crawl_info(database.root))
    await run(database, [Book(title="A")], job=job, end="")
    sink = database.sink()
    await sink.open(job.crawl)
    await sink.rewind(job.position)
    records, _ = await process(sink, [Book(title=f"{n}" * 900) for n in range(200)])
    group = job.commit(records)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OutOfResource, match="could not be written") as caught:
            await sink.apply(group, records)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(database.path) in caught.value.message
    await sink.aclose()
    assert len(database.rows("SELECT * FROM book")) == 1
    await run(database, [Book(title="Z")], job=job)
    assert len(database.rows("SELECT * FROM book")) == 202


async def test_a_damaged_file(database: OnSqlite) -> None:
    job = Job(crawl_info(database.root))
    await run(database, [Book(title="A" * 500) for _ in range(100)], job=job, end="")
    data = bytearray(database.path.read_bytes())
    data[4096 * 2 :] = b"\xff" * (len(data) - 4096 * 2)
    database.path.write_bytes(data)
    with pytest.raises(DamagedState, match="is damaged"):
        await run(database, [Book(title="B")], job=job)


async def test_the_same_file_by_two_sinks(database: OnSqlite) -> None:
    """As two pipelines of one crawl, each with its own table."""
    crawl = crawl_info(database.root)
    sinks = [database.sink(table=name) for name in ("one", "two")]
    assert len({sink.key for sink in sinks}) == 2
    for sink in sinks:
        await sink.open(crawl)
        await sink.rewind(None)
    for group in (1, 2, 3):
        for sink in sinks:
            records, _ = await process(sink, [Book(title=str(group))])
            await sink.apply(group, records)
    for sink in sinks:
        await sink.publish()
        await sink.aclose()
    for name in ("one", "two"):
        assert database.rows(f"SELECT title FROM {name}") == [("1",), ("2",), ("3",)]


# Killed -----------------------------------------------------------------------------------------

KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from scraper.pipelines import tablesink
from tests.pipelines.test_sqlite import Book
from tests.pipelines.tables import OnSqlite, run

def dying(records):
    for heading, rows in rows_of(records):
        def counted():
            for n, row in enumerate(rows):
                if n == int(sys.argv[2]):
                    os.kill(os.getpid(), signal.SIGKILL)
                yield row
        yield heading, counted()

rows_of, tablesink.rows_of = tablesink.rows_of, dying
root = Path(sys.argv[1])
asyncio.run(run(OnSqlite(root), [Book(title=str(n)) for n in range(2000)]))
"""


@pytest.mark.parametrize("row", [0, 1, 1999])
def test_killed_between_two_rows(tmp_path: Path, row: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(row)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    database = OnSqlite(tmp_path)
    assert database.rows("SELECT count(*) FROM book") == [(0,)]
    assert database.rows("SELECT * FROM _scrape_runs") == []
    assert database.rows("PRAGMA integrity_check") == [("ok",)]
