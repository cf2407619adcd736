"""The `sql` sink on a real PostgreSQL: the contracts, and what is its own. Read by psycopg."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pydantic import create_model
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from scraper import Item
from scraper.build import builtin
from scraper.errors import ConfigError, OutOfResource, UsageError
from scraper.pipelines.sql import Sql
from scraper.pipelines.tables import Away
from scraper.pipelines.tablesink import TableSink
from scraper.testing.redo import Job, KeyedSinkContract, RedoSinkContract
from scraper.testing.relayed import SharedSinkContract
from scraper.testing.sinks import crawl_info
from tests.pipelines.tables import OnMariaDb, OnPostgres, OnSqlite, process, reason, run
from tests.servers.mariadb import MariaDb
from tests.servers.postgres import PASSWORD, Postgres

URL = "SCRAPER_TEST_DATABASE"


@pytest.fixture
def database(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database of its own, whose URL stands in the environment."""
    name = postgres.database()
    monkeypatch.setenv(URL, postgres.url(name))
    yield name
    postgres.release(name)


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


class TestShared(Target, SharedSinkContract):
    ordered = False

    def make(self, root: Path) -> Sql:
        return Sql(f"${URL}", table_of(root), patience=0)


# Where it is ------------------------------------------------------------------------------------


class Book(Item):
    title: str
    upc: str = "u"
    price: Decimal = Decimal(0)


@pytest.fixture
def on(postgres: Postgres, tmp_path: Path) -> Iterator[OnPostgres]:
    made = OnPostgres(tmp_path, postgres)
    yield made
    postgres.release(made.database)


naive = dt.datetime.fromisoformat


async def opened(url: str, root: Path, **options: Any) -> None:
    sink = Sql(url, **options)
    try:
        await sink.open(crawl_info(root))
    finally:
        await sink.aclose()


@pytest.mark.parametrize("name", ["$SHOP", "${SHOP}", " $SHOP "])
async def test_the_url_from_the_environment(
    on: OnPostgres, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP", on.server.url(on.database))
    await opened(name, on.root)
    monkeypatch.delenv("SHOP")
    with pytest.raises(ConfigError, match="the environment has no SHOP") as caught:
        await opened(name, on.root)
    assert "export SHOP=" in caught.value.hint


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
async def test_a_url_without_a_driver(on: OnPostgres, scheme: str) -> None:
    url = on.server.url(on.database).replace("postgresql+psycopg", scheme)
    sink = Sql(url)
    await sink.open(crawl_info(on.root))
    assert sink.key == f"postgresql://127.0.0.1:{on.server.port}/{on.database}"
    await sink.aclose()


@pytest.mark.parametrize(
    ("url", "error"),
    [
        (f"nonsense {PASSWORD}", "no database's URL"),
        (f"postgresql+psycopg://u:{PASSWORD}@h:port/db", "no database's URL"),
        (f"teradata://u:{PASSWORD}@h/db", "no dialect is called 'teradata'"),
        (f"postgresql+nothing://u:{PASSWORD}@h/db", "no dialect is called 'postgresql.nothing'"),
        (f"mysql+mysqldb://u:{PASSWORD}@h/db", "needs MySQLdb, which is not installed"),
        ("sqlite:///:memory:", "kept in memory"),
        ("sqlite+pysqlite://", "kept in memory"),
        ("", "no database's URL"),
    ],
)
async def test_urls_that_cannot_be(tmp_path: Path, url: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error) as caught:
        await opened(url, tmp_path)
    assert PASSWORD not in str(caught.value)
    assert caught.value.hint
    assert caught.value.__context__ is None or caught.value.__suppress_context__


async def test_a_driver_for_asyncio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="driver for asyncio"):
        await opened("postgresql+psycopg_async://u@h/db", tmp_path)


async def test_a_wrong_password_is_the_users_move(
    on: OnPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = "wr0ng-c4nary"
    with pytest.raises(UsageError, match="password authentication failed") as caught:
        await opened(on.server.url(on.database, password=wrong), on.root)
    assert caught.value.exit_code == 2
    assert wrong not in str(caught.value) + caplog.text
    with pytest.raises(UsageError, match="does not exist"):
        await opened(on.server.url("no_such_database"), on.root)


async def test_a_server_that_is_away_when_it_opens(on: OnPostgres) -> None:
    on.server.stop()
    try:
        with pytest.raises(OutOfResource, match="refused") as caught:
            await opened(on.server.url(on.database), on.root)
    finally:
        on.server.start()
    assert caught.value.exit_code == 4
    assert PASSWORD not in str(caught.value)


async def test_nothing_shows_the_password(on: OnPostgres) -> None:
    url = f"{on.server.url(on.database)}?application_name={PASSWORD}"
    sink = Sql(url)
    shown = [repr(sink), sink.key, str(sink.describe())]
    await sink.open(crawl_info(on.root))
    await sink.rewind(None)
    records, _ = await process(sink, [Book(title="A")])
    await sink.apply(1, records)
    shown += [repr(sink), sink.key, str(sink.describe()), repr(records)]
    await sink.aclose()
    assert not [text for text in shown if PASSWORD in text]
    assert on.database in sink.key


async def test_values_of_rows_are_in_no_message(on: OnPostgres) -> None:
    on.execute("CREATE TABLE book (title TEXT CHECK (title <> 'private'), upc TEXT, price NUMERIC)")
    with pytest.raises(UsageError, match="check constraint") as caught:
        await run(on, [Book(title="private", upc="p3rsonal")])
    error: BaseException | None = caught.value
    while error is not None:
        assert "p3rsonal" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


async def test_a_schema(on: OnPostgres) -> None:
    with pytest.raises(UsageError, match='schema "shop" does not exist'):
        await run(on, [Book(title="A")], schema="shop")
    on.execute("CREATE SCHEMA shop")
    for started in ("20260102T030405Z", "20260103T030405Z"):
        await run(on, [Book(title="A")], schema="shop", key=["upc"], started=started)
    assert on.rows("SELECT title FROM shop.book") == [("A",)]
    assert len(on.rows("SELECT * FROM shop._scrape_runs")) == 2
    await run(on, schema="shop", mode="replace", key=["upc"], started="x")
    assert on.rows("SELECT title FROM shop.book") == []


async def test_a_user_who_may_make_no_table(on: OnPostgres) -> None:
    on.execute(
        f"CREATE ROLE reader_{on.database} LOGIN PASSWORD '{PASSWORD}'",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    )
    url = on.server.url(on.database).replace("//scraper:", f"//reader_{on.database}:")
    with pytest.raises(UsageError, match="permission denied for schema public"):
        await opened(url, on.root)


async def test_opening_makes_nothing(on: OnPostgres) -> None:
    await opened(on.server.url(on.database), on.root)
    assert on.rows("SELECT * FROM pg_tables WHERE schemaname = 'public'") == []


# Interrupted ------------------------------------------------------------------------------------


async def test_a_connection_that_is_cut(on: OnPostgres) -> None:
    sink = on.sink()
    await sink.open(crawl_info(on.root))
    await sink.rewind(None)
    for group in (1, 2, 3):
        records, _ = await process(sink, [Book(title=str(group))])
        assert on.server.cut(on.database) > 0
        await sink.apply(group, records)
    await sink.aclose()
    assert on.rows("SELECT title FROM book ORDER BY title") == [("1",), ("2",), ("3",)]


async def test_a_server_that_is_restarted_meanwhile(on: OnPostgres) -> None:
    sink = on.sink(patience=120.0)
    await sink.open(crawl_info(on.root))
    await sink.rewind(None)
    records, _ = await process(sink, [Book(title="A")])
    on.server.stop(at_once=True)
    applying = asyncio.create_task(sink.apply(1, records))
    await asyncio.to_thread(on.server.start)
    await applying
    await sink.aclose()
    assert on.rows("SELECT title FROM book") == [("A",)]


@pytest.mark.parametrize("first", [True, False])
async def test_the_answer_to_a_commit_is_lost(on: OnPostgres, first: bool) -> None:
    """It went through, and the sink cannot know: the second try finds its own mark."""
    sink = on.sink()
    await sink.open(crawl_info(on.root))
    await sink.rewind(None)
    records, _ = await process(sink, [Book(title="A")])
    group = 1
    if not first:
        await sink.apply(1, records)
        group = 2
    transaction, lost = sink.store.transaction, [True]

    @contextlib.contextmanager
    def deaf() -> Iterator[Any]:
        with transaction() as inner:
            yield inner
        if lost:
            lost.pop()
            raise Away("server closed the connection unexpectedly")

    sink.store.transaction = deaf  # type: ignore[method-assign]
    await sink.apply(group, records)
    await sink.apply(group + 1, records)
    await sink.aclose()
    assert lost == []
    assert len(on.rows("SELECT * FROM book")) == group + 1


async def test_a_deadlock_is_tried_again(on: OnPostgres) -> None:
    await run(on, [Book(title="A", upc="1"), Book(title="A", upc="2")], key=["upc"])
    sink = on.sink(key=["upc"])
    await sink.open(crawl_info(on.root, job="other"))
    await sink.rewind(None)
    records, _ = await process(sink, [Book(title="B", upc="1"), Book(title="B", upc="2")])
    with on.server.connect(on.database) as other:
        other.execute("SET deadlock_timeout = '1h'")  # the sink is the one that notices
        with other.transaction():
            other.execute("UPDATE book SET title = 'C' WHERE upc = '2'")
            applying = asyncio.create_task(sink.apply(1, records))
            with on.server.connect(on.database) as third:
                while not third.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall():
                    await asyncio.sleep(0)
            await asyncio.to_thread(other.execute, "UPDATE book SET title = 'C' WHERE upc = '1'")
    await applying
    await sink.aclose()
    assert on.rows("SELECT title FROM book") == [("B",), ("B",)]


async def test_a_table_that_somebody_has_locked(on: OnPostgres) -> None:
    await run(on, [Book(title="A")])
    job = Job(crawl_info(on.root, job="other"))
    with on.server.connect(on.database) as other, other.transaction():
        other.execute("LOCK TABLE book")
        with pytest.raises(OutOfResource, match="lock timeout"):
            await run(on, [Book(title="B")], job=job, patience=0)
    await run(on, job=job)
    assert len(on.rows("SELECT * FROM book")) == 2


async def test_a_disk_that_is_full(on: OnPostgres) -> None:
    """What PostgreSQL says then, it is made to say."""
    job = Job(crawl_info(on.root))
    await run(on, [Book(title="A")], job=job, end="")
    on.execute(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'could not extend file' USING ERRCODE = '53100'; END $$",
        "CREATE TRIGGER t BEFORE INSERT ON book EXECUTE FUNCTION full_disk()",
    )
    with pytest.raises(OutOfResource, match="could not extend file"):
        await run(on, [Book(title="B")], job=job)
    on.execute("DROP TRIGGER t ON book")
    await run(on, job=job)
    assert len(on.rows("SELECT * FROM book")) == 2


# Columns ----------------------------------------------------------------------------------------


def odd(hint: Any) -> Any:
    """A model with one field, `value`."""
    return create_model("Odd", __base__=Item, value=(hint, ...))


@pytest.mark.parametrize(
    ("declared", "hint", "value", "stored"),
    [
        ("SMALLINT", int, 32_768, "does not fit 16 bits"),
        ("INTEGER", int, 2**31, "does not fit 32 bits"),
        ("INTEGER", int, -(2**31), -(2**31)),
        ("NUMERIC(5,2)", Decimal, Decimal("123.45"), Decimal("123.45")),
        ("NUMERIC(5,2)", Decimal, Decimal("123.4500"), Decimal("123.45")),
        ("NUMERIC(5,2)", Decimal, Decimal("1.234"), "more than 3 digits"),
        ("NUMERIC(5,2)", Decimal, Decimal(1000), "more than 3 digits"),
        ("NUMERIC", Decimal, Decimal("1E+200000"), "more than 131,072 digits"),
        ("NUMERIC", float, 0.1, Decimal("0.1")),
        ("REAL", float, 0.5, 0.5),
        ("VARCHAR(3)", str, "äöü", "äöü"),
        ("VARCHAR(3)", str, "äöüß", "longer than 3 characters"),
        ("TEXT", Decimal, Decimal("1.50"), "1.50"),
        ("TEXT", dt.date, dt.date(2024, 1, 31), "2024-01-31"),
        ("TIMESTAMP", dt.datetime, "2024-01-31T12:00:00+02:00", naive("2024-01-31T10:00")),
        ("TIMESTAMP", dt.datetime, "2024-03-31T02:30:00", naive("2024-03-31T02:30")),
        ("JSON", list[int], [1, 2], [1, 2]),
        ("JSONB", list[str], ["\0"], ["\ufffd"]),
    ],
)
async def test_columns_made_by_hand(
    on: OnPostgres, declared: str, hint: Any, value: Any, stored: Any
) -> None:
    model = odd(hint)
    on.execute(f"CREATE TABLE odd (value {declared})")
    rejected = await run(on, [model(value=value)])
    if rejected:
        assert stored in reason(rejected)
    else:
        assert on.rows("SELECT value FROM odd") == [(stored,)]


@pytest.mark.parametrize("declared", ["UUID", "INTEGER[]", "INET", "mood", "TIME", "INTERVAL"])
async def test_columns_that_are_not_known(on: OnPostgres, declared: str) -> None:
    on.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'glad')",
        f"CREATE TABLE book (title {declared}, upc TEXT, price NUMERIC)",
    )
    with pytest.raises(ConfigError, match="table book: column title is"):
        await run(on, [Book(title="A")])


async def test_a_key_longer_than_an_index_takes(on: OnPostgres) -> None:
    items = [Book(title="A", upc="ä" * 1300), Book(title="B", upc="ä" * 1301)]
    rejected = await run(on, items, key=["upc"])
    assert "longer than 2,600 bytes" in reason(rejected)
    assert on.rows("SELECT title FROM book") == [("A",)]


async def test_indexes_that_make_no_key(on: OnPostgres) -> None:
    on.execute(
        "CREATE TABLE book (title TEXT, upc TEXT, price NUMERIC)",
        "CREATE UNIQUE INDEX one ON book (upc) WHERE price > 0",
        "CREATE UNIQUE INDEX two ON book (lower(upc))",
        "CREATE INDEX three ON book (upc)",
    )
    with pytest.raises(ConfigError, match="not unique by upc"):
        await run(on, [Book(title="A")], key=["upc"])
    on.execute("CREATE UNIQUE INDEX four ON book (upc)")
    await run(on, [Book(title="A"), Book(title="B")], key=["upc"])
    assert on.rows("SELECT title FROM book") == [("B",)]


# Other databases --------------------------------------------------------------------------------


class Plain(SQLiteDialect_pysqlite):
    """A database that nothing is known of, but that SQLAlchemy can write to it."""

    name = "plain"
    supports_statement_cache = True


async def test_a_database_that_nothing_is_known_of(tmp_path: Path) -> None:
    registry.register("plain", __name__, "Plain")
    url = f"plain:///{tmp_path}/shop.db"
    with pytest.raises(ConfigError, match="key needs an upsert, and none is known for plain"):
        await opened(url, tmp_path, key=["upc"])

    class OnPlain(OnSqlite):
        path = tmp_path / "shop.db"

        def sink(self, **options: Any) -> TableSink:
            return Sql(url, **options)

    database = OnPlain(tmp_path)
    await run(database, [Book(title="A"), {"n": [1]}])
    await run(database, [Book(title="B")], mode="replace", started="20260103T030405Z")
    assert database.rows("SELECT title FROM book") == [("B",)]


async def test_keys_in_mysql_are_compared_exactly(mariadb: MariaDb, tmp_path: Path) -> None:
    database = OnMariaDb(tmp_path, mariadb)
    keys = ["a", "A", "a ", "ä", "x" * 255, "\U0001f600"]
    items = [Book(title=key[:1], upc=key) for key in keys]
    rejected = await run(database, [*items, Book(title="-", upc="x" * 256)], items, key=["upc"])
    assert "longer than 255 characters" in reason(rejected)
    assert sorted(upc for (upc,) in database.rows("SELECT upc FROM book")) == sorted(keys)


async def test_tables_without_transactions_are_told(
    mariadb: MariaDb, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = OnMariaDb(tmp_path, mariadb)
    database.execute("CREATE TABLE book (title TEXT, upc TEXT, price TEXT) ENGINE=MyISAM")
    await run(database, [Book(title="A")])
    assert "table book has no transactions: at-least-once" in caplog.text
    caplog.clear()
    await run(database, [Book(title="A")], table="other")
    assert "no transactions" not in caplog.text


@pytest.mark.parametrize(
    ("declared", "hint", "value", "stored"),
    [
        ("TINYINT", int, 128, "does not fit 8 bits"),
        ("TINYINT(1)", bool, True, 1),
        ("MEDIUMINT", int, 2**23, "does not fit 24 bits"),
        ("INT UNSIGNED", int, -1, "-1"),
        ("TEXT", str, "ä" * 32_768, "longer than 65,535 bytes"),
        ("TINYTEXT", str, "x" * 255, "x" * 255),
        ("DATETIME", dt.datetime, "2024-01-31T12:00:00+02:00", naive("2024-01-31T10:00")),
        ("DECIMAL(5,2)", Decimal, Decimal("1.234"), "more than 3 digits"),
    ],
)
async def test_columns_of_mysql(
    mariadb: MariaDb, tmp_path: Path, declared: str, hint: Any, value: Any, stored: Any
) -> None:
    model = odd(hint)
    database = OnMariaDb(tmp_path, mariadb)
    database.execute(f"CREATE TABLE odd (value {declared})")
    if "UNSIGNED" in declared:  # nothing is cut in silence
        with pytest.raises(UsageError, match="Out of range"):
            await run(database, [model(value=value)])
        return
    rejected = await run(database, [model(value=value)])
    if rejected:
        assert stored in reason(rejected)
    else:
        assert database.rows("SELECT value FROM odd") == [(stored,)]


async def test_mysql_that_cuts_a_connection(mariadb: MariaDb, tmp_path: Path) -> None:
    database = OnMariaDb(tmp_path, mariadb)
    sink = database.sink()
    await sink.open(crawl_info(tmp_path))
    await sink.rewind(None)
    for group in (1, 2):
        records, _ = await process(sink, [Book(title=str(group))])
        for (thread,) in database.rows(
            "SELECT id FROM information_schema.processlist"
            f" WHERE db = '{database.database}' AND id <> connection_id()"
        ):
            database.execute(f"KILL {thread}")
        await sink.apply(group, records)
    await sink.aclose()
    assert sorted(database.rows("SELECT title FROM book")) == [("1",), ("2",)]


def test_without_sqlalchemy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("scraper.pipelines.sql.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "scraper.pipelines.sql")
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(UsageError) as caught:
        builtin("sql")
    assert "pip install 'scraper-framework[sql]'" in str(caught.value)
