"""What sinks with tables do, on each database alike."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TypedDict
from uuid import UUID

import pytest
from pydantic import computed_field, field_serializer

from scraper import Item
from scraper.errors import ConfigError, DamagedState, UsageError
from scraper.pipelines.chain import Chain, Failed
from scraper.pipelines.page import group_records
from scraper.testing.redo import Job
from scraper.testing.sinks import crawl_info
from tests.pipelines.tables import (
    Database,
    OnMariaDb,
    OnPostgres,
    OnSqlite,
    ThroughSql,
    new_page,
    process,
    reason,
    run,
)

LATER = "20260103T030405Z"


@pytest.fixture(params=["sqlite", "sql-sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        yield OnSqlite(tmp_path)
    elif request.param == "sql-sqlite":
        yield ThroughSql(tmp_path)
    elif request.param == "mariadb":
        yield OnMariaDb(tmp_path, request.getfixturevalue("mariadb"))
    else:
        made = OnPostgres(tmp_path, request.getfixturevalue("postgres"))
        yield made
        made.server.release(made.database)


class Colour(enum.Enum):
    RED = "red"


class Author(Item):
    name: str
    born: int | None = None


class Book(Item):
    title: str
    upc: str = "u"
    stock: int = 0


class Everything(Item):
    text: str
    number: int
    share: float
    price: Decimal
    flag: bool
    day: dt.date
    moment: dt.datetime
    raw: bytes
    colour: Colour
    uid: UUID
    tags: list[str]
    author: Author
    none: int | None = None


EVERYTHING = Everything(
    text="Ä 'quoted' \U0001f600",
    number=2**63 - 1,
    share=0.1,
    price=Decimal("12.50"),
    flag=True,
    day=dt.date(2024, 1, 31),
    moment=dt.datetime(2024, 1, 31, 23, 59, 59, 500, dt.timezone(dt.timedelta(hours=2))),
    raw=b"\x00\xff",
    colour=Colour.RED,
    uid=UUID(int=7),
    tags=["a", 'b"c'],
    author=Author(name="Ann"),
)


# Columns and values -----------------------------------------------------------------------------


async def test_values_come_back(database: Database) -> None:
    assert await run(database, [EVERYTHING]) == []
    ((text, number, share, price, flag, day, moment, raw, colour, uid, tags, author, none),) = (
        database.rows("SELECT * FROM everything")
    )
    assert (text, number, share) == (EVERYTHING.text, 2**63 - 1, 0.1)
    assert bytes(raw) == b"\x00\xff"
    assert (colour, uid, none) == ("red", str(UUID(int=7)), None)
    assert flag in (True, 1)
    expected: tuple[Any, ...] = (
        "12.50",
        "2024-01-31",
        "2024-01-31T23:59:59.000500+02:00",
        '["a","b\\"c"]',
        '{"name":"Ann","born":null}',
    )
    if database.name == "postgresql":
        nested: tuple[Any, ...] = (["a", 'b"c'], {"name": "Ann", "born": None})
        expected = (Decimal("12.50"), EVERYTHING.day, EVERYTHING.moment, *nested)
    elif database.name == "mariadb":  # which keeps no zones: UTC
        moment = moment.replace(tzinfo=dt.UTC)
        expected = (Decimal("12.50"), EVERYTHING.day, EVERYTHING.moment, *expected[3:])
    assert (price, day, moment, tags, author) == expected


async def test_columns_have_types(database: Database) -> None:
    await run(database, [EVERYTHING])
    names = [*Everything.model_fields]
    if database.name in {"postgresql", "mariadb"}:
        found = database.rows(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE table_name = 'everything' ORDER BY ordinal_position"
        )
        kinds = [
            "text", "bigint", "double precision", "numeric", "boolean", "date",
            "timestamp with time zone", "bytea", "text", "text", "jsonb", "jsonb", "bigint",
        ]  # fmt: skip
        if database.name == "mariadb":
            found = [row[:2] for row in database.rows("SHOW COLUMNS FROM everything")]
            kinds = [
                "longtext", "bigint(20)", "double", "decimal(65,30)", "tinyint(1)", "date",
                "datetime(6)", "longblob", "longtext", "longtext", "longtext", "longtext",
                "bigint(20)",
            ]  # fmt: skip
    else:
        found = [row[1:3] for row in database.rows("PRAGMA table_info(everything)")]
        kinds = [
            "TEXT", "INTEGER", "REAL", "TEXT", "INTEGER", "TEXT", "TEXT", "BLOB", "TEXT", "TEXT",
            "TEXT", "TEXT", "INTEGER",
        ]  # fmt: skip
        if database.name == "sql-sqlite":  # other names for the same
            kinds[1] = kinds[-1] = "BIGINT"
            kinds[4] = "BOOLEAN"
    assert found == list(zip(names, kinds, strict=True))


@dataclass
class Point:
    x: int
    y: float


class Place(TypedDict):
    name: str
    height: int


async def test_all_kinds_of_items(database: Database) -> None:
    place = Place(name="Etna", height=3357)
    await run(database, [Point(1, 2.5), place, Book(title="A")])
    assert database.rows("SELECT x, y FROM point") == [(1, 2.5)]
    ((name, height),) = database.rows("SELECT name, height FROM items")  # a dict, to everybody
    assert (name, int(height)) == ("Etna", 3357)
    assert database.rows("SELECT title, stock FROM book") == [("A", 0)]


async def test_dicts_have_columns_without_types(database: Database) -> None:
    first = {"a": 1, "b": "x", "c": 1.5, "d": None, "e": [1, "ä"], "f": True}
    rejected = await run(database, [first, {"a": "one", "b": 2}, {"a": 1, "z": 1}])
    rows = database.rows("SELECT a, b, c, d, e, f FROM items ORDER BY b")
    if database.name == "sqlite":
        assert rows == [("one", 2, None, None, None, None), (1, "x", 1.5, None, '[1,"ä"]', 1)]
    else:
        assert rows == [
            ("one", "2", None, None, None, None),
            ("1", "x", "1.5", None, '[1,"ä"]', "true"),
        ]
    assert "no column 'z'" in reason(rejected)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("a\0b", "a\ufffdb"),
        ("\udc80", "\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("", ""),
        ("x" * 100_000, "x" * 100_000),
        ("'; DROP TABLE book; --", "'; DROP TABLE book; --"),
    ],
    ids=["nul", "surrogate", "pair", "empty", "long", "quote"],
)
async def test_odd_text(database: Database, value: str, stored: str) -> None:
    assert await run(database, [Book.model_construct(title=value, upc="u", stock=0)]) == []
    assert database.rows("SELECT title FROM book") == [(stored,)]


class Numbers(Item):
    whole: int = 0
    share: float = 0.0
    exact: Decimal = Decimal(0)
    nested: list[Any] = []


@pytest.mark.parametrize(
    "value", [2**63, -(2**63) - 1, 10**5000], ids=["one more", "one less", "vast"]
)
async def test_an_integer_beyond_64_bits_is_rejected(database: Database, value: int) -> None:
    rejected = await run(database, [Numbers(whole=value), Numbers(whole=-(2**63))])
    assert reason(rejected) == "table numbers: whole does not fit 64 bits"
    assert database.rows("SELECT whole FROM numbers") == [(-(2**63),)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
async def test_what_is_no_number_is_null(database: Database, value: float) -> None:
    item = Numbers.model_construct(
        whole=1, share=value, exact=Decimal(repr(value)), nested=[value, "\0", "\\u0000", "\udc80"]
    )
    await run(database, [item])
    ((share, exact, nested),) = database.rows("SELECT share, exact, nested FROM numbers")
    assert (share, exact) == (None, None)
    nested = json.loads(nested) if isinstance(nested, str) else nested
    assert nested == [None, "\ufffd", "\\u0000", "\ufffd"]


@pytest.mark.parametrize("text", ["0.1", "-1E+30", "1E-30", "12345678901234567890.123456789", "-0"])
async def test_decimals_keep_every_digit(database: Database, text: str) -> None:
    await run(database, [Numbers(exact=Decimal(text))])
    ((exact,),) = database.rows("SELECT exact FROM numbers")
    assert Decimal(exact) == Decimal(text)


async def test_a_value_assigned_that_does_not_fit_is_rejected(database: Database) -> None:
    wrong = Book(title="A")
    wrong.stock = "many"  # type: ignore[assignment]
    rejected = await run(database, [wrong, Book(title="B")])
    assert [each.reason for each in rejected] == ["item_invalid"]
    assert database.rows("SELECT title FROM book") == [("B",)]


class Written(Item):
    price: Decimal
    when: dt.date
    odd: int
    names: list[str]

    @field_serializer("price")
    def _price(self, price: Decimal) -> str:
        return f"{price} EUR"

    @field_serializer("when")
    def _when(self, when: dt.date) -> int:
        return when.year

    @field_serializer("odd")
    def _odd(self, odd: int):  # type: ignore[no-untyped-def]  # it does not say what it makes
        return str(odd)

    @field_serializer("names", when_used="json")
    def _names(self, names: list[str]) -> str:
        return ",".join(names)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return 2 * self.odd


async def test_columns_are_of_what_serializers_make(database: Database) -> None:
    item = Written(price=Decimal(5), when=dt.date(2024, 1, 31), odd=7, names=["a"])
    assert await run(database, [item]) == []
    assert database.rows('SELECT price, "when", odd, "double" FROM written') == [
        ("5 EUR", 2024, "7", 14)
    ]


async def test_fields_and_provenance(database: Database) -> None:
    options: Any = {"fields": ["title", "stock"], "provenance": ["_url", "_status", "_fetched_at"]}
    await run(database, [Book(title="A", upc="never", stock=3)], **options)
    ((title, stock, url, at, status),) = database.rows("SELECT * FROM book")
    assert (title, stock, url, status) == ("A", 3, "https://example.com/", 200)
    moment = dt.datetime(1970, 1, 2, 0, 0, 0, 500_000, dt.UTC)
    assert at in (moment, moment.replace(tzinfo=None), "1970-01-02T00:00:00.500000Z")


async def test_a_naive_time_is_kept_or_taken_as_utc(database: Database) -> None:
    class Visit(Item):
        at: dt.datetime

    await run(database, [Visit(at=dt.datetime.fromisoformat("2024-03-31T02:30"))])
    ((at,),) = database.rows("SELECT at FROM visit")
    utc = dt.datetime(2024, 3, 31, 2, 30, tzinfo=dt.UTC)
    assert at in ("2024-03-31T02:30:00", utc, utc.replace(tzinfo=None))


# Names ------------------------------------------------------------------------------------------


class HTTPReview(Item):
    n: int = 1


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("{item}", "http_review"),
        ("all", "all"),
        ("{spider}_{item}", "books_http_review"),
        ("{started}", "20260102T030405Z"),
        ("a{{b}}", "a{b}"),
        ('x"; DROP TABLE y; --', 'x"; DROP TABLE y; --'),
        ("Gemischt Ä", "Gemischt Ä"),
        ("%(x)s %s :y", "%(x)s %s :y"),
    ],
)
async def test_table_names(database: Database, table: str, name: str) -> None:
    for _ in range(2):
        await run(database, [HTTPReview()], table=table)
    quoted = name.replace('"', '""')
    assert database.rows(f'SELECT n FROM "{quoted}"') == [(1,), (1,)]
    if "started" in table:
        return
    await run(database, [HTTPReview(n=5)], table=table, mode="replace", started=LATER)
    assert database.rows(f'SELECT n FROM "{quoted}"') == [(5,)]


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ("{x}", "{x} is not known"),
        ("{item!r}", "not known"),
        ("{item", "expected '}'"),
        ("", "cannot be a name"),
        ("  ", "cannot be a name"),
        ("a\0b", "cannot be a name"),
        ("_scrape_runs", "is taken"),
        ("_Scrape_Runs", "is taken"),
    ],
)
async def test_table_names_that_cannot_be(database: Database, table: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        await run(database, table=table)


async def test_column_names_are_quoted(database: Database) -> None:
    names = ['a"; DROP TABLE items; --', "select", "%(c0)s", ":p", "ä b", "a.b", "[c]", "é" * 20]
    item = {name: str(place) for place, name in enumerate(names)}
    assert await run(database, [item], [item], key=[names[0], "%(c0)s"]) == []
    assert await run(database, [item], key=[names[0], "%(c0)s"], started=LATER) == []
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    assert database.rows(f"SELECT {quoted} FROM items") == [tuple(item.values())]


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ({}, "has no fields"),
        ({"a\0": 1}, "cannot be a name"),
        ({"": 1}, "cannot be a name"),
        ({"\udc80": 1}, "cannot be a name"),
        ({f"c{n}": 1 for n in range(1001)}, "1,001 fields"),
    ],
    ids=["empty", "nul", "blank", "surrogate", "many"],
)
async def test_a_dict_that_cannot_name_columns_is_rejected(
    database: Database, item: dict[str, Any], why: str
) -> None:
    rejected = await run(database, [item, {"a": 1}])
    assert why in reason(rejected)
    ((a,),) = database.rows("SELECT a FROM items")
    assert int(a) == 1


async def test_names_that_the_database_takes_for_one(database: Database) -> None:
    rejected = await run(database, [{"a": "1", "A": "2"}, {"b": "1"}])
    if database.name == "postgresql":
        assert database.rows('SELECT a, "A" FROM items') == [("1", "2")]
        assert "no column 'b'" in reason(rejected)
    else:
        assert "one name to the database" in reason(rejected)
        assert database.rows("SELECT b FROM items") == [("1",)]


async def test_names_that_are_too_long(database: Database) -> None:
    if "sqlite" in database.name:
        await run(database, [{"x" * 200: "1"}])
        assert database.rows(f"SELECT {'x' * 200} FROM items") == [("1",)]
        return
    most = 63 if database.name == "postgresql" else 64
    rejected = await run(database, [{"ä" * 33: 1}, {"ä" * 31: "1"}])
    assert f"longer than the {most} bytes" in reason(rejected)
    with pytest.raises(ConfigError, match=f"longer than the {most} bytes"):
        await run(database, table="x" * (most + 1))
    long = type("X" * (most + 1), (Item,), {"__annotations__": {"n": int}})
    with pytest.raises(ConfigError, match=f"longer than the {most} bytes"):
        await run(database, [long(n=1)])


# One model for each table -----------------------------------------------------------------------


async def test_a_second_model_in_one_table_is_an_error(database: Database) -> None:
    with pytest.raises(ConfigError, match="columns of Book, and a Author came") as caught:
        await run(database, [Book(title="A"), Author(name="B")], table="all")
    assert "{item}" in caught.value.hint
    assert 'items = ["Book"]' in caught.value.hint


async def test_fields_let_models_share_a_table(database: Database) -> None:
    items = [Book(title="A"), {"title": "B"}, {"title": "C", "more": 1}]
    rejected = await run(database, items, table="all", fields=["title"])
    assert sorted(database.rows('SELECT * FROM "all"')) == [("A",), ("B",)]
    assert "'more'" in reason(rejected)


@pytest.mark.case(
    77,
    "dicts with other keys in the middle of a table",
    "the table's columns are fixed by the first item of the run: a new key is `schema`",
)
async def test_columns_are_fixed_for_the_run(database: Database) -> None:
    job = Job(crawl_info(database.root))
    await run(database, [{"a": "1", "b": "1"}], job=job, end="")
    rejected = await run(database, [{"a": "2", "c": "2"}, {"b": "3"}], job=job)
    assert "no column 'c'" in reason(rejected)
    assert sorted(database.rows("SELECT coalesce(a, ''), b FROM items")) == [("", "3"), ("1", "1")]


async def test_a_spider_with_a_long_name(database: Database) -> None:
    job = Job(replace(crawl_info(database.root), spider="s" * 300))
    for title in ("A", "B"):
        await run(database, [Book(title=title)], job=job, end="")
    assert sorted(database.rows("SELECT title FROM book")) == [("A",), ("B",)]
    assert len(database.rows("SELECT * FROM _scrape_runs")) == 1


async def test_columns_of_a_group_that_was_not_applied(database: Database) -> None:
    job = Job(crawl_info(database.root))
    sink = database.sink()
    await sink.open(job.crawl)
    await sink.rewind(None)
    records, _ = await process(sink, [{"a": "1", "b": "1"}])
    job.commit(records)
    await sink.aclose()  # killed: the table was never made, and the records know its columns
    rejected = await run(database, [{"a": "2", "c": "2"}], job=job)
    assert "no column 'c'" in reason(rejected)
    assert database.rows("SELECT a, b FROM items") == [("1", "1")]


async def test_first_items_that_come_at_once(database: Database) -> None:
    sink = database.sink()
    await sink.open(crawl_info(database.root))
    await sink.rewind(None)
    chain = Chain([sink])
    pages = [new_page() for _ in range(20)]
    results = await asyncio.gather(
        *(chain.run(Book(title=str(n)), page) for n, page in enumerate(pages))
    )
    assert all(result.delivered for result in results)
    records = group_records(pages)[sink]
    await sink.apply(1, records)
    await sink.aclose()
    assert len(database.rows("SELECT * FROM book")) == 20


async def test_crawls_that_make_the_same_tables_at_once(database: Database) -> None:
    async def crawl(name: str) -> None:
        job = Job(crawl_info(database.root, job=name))
        await run(database, *([Book(title=f"{n}")] for n in range(4)), job=job)

    await asyncio.gather(*(crawl(f"job{n}") for n in range(6)))
    assert len(database.rows("SELECT * FROM book")) == 24
    assert len(database.rows("SELECT * FROM _scrape_runs")) == 6


async def test_one_sink_that_is_opened_twice(database: Database) -> None:
    """As when a run that was abandoned is set aside before the new one begins."""
    await run(database, [Book(title="A")], job=Job(crawl_info(database.root)), end="")
    sink = database.sink()
    await sink.open(crawl_info(database.root))
    await sink.set_aside()
    await sink.aclose()
    await sink.open(crawl_info(database.root, started=LATER))
    await sink.rewind(None)
    records, _ = await process(sink, [Book(title="B")])
    await sink.apply(1, records)
    await sink.aclose()
    assert sorted(database.rows("SELECT title FROM book")) == [("A",), ("B",)]


# Keys -------------------------------------------------------------------------------------------


async def test_a_key_makes_rows_unique_over_runs(database: Database) -> None:
    await run(database, [Book(title="A", upc="1"), Book(title="B", upc="2")], key=["upc"])
    later = [Book(title="A2", upc="1", stock=5), Book(title="C", upc="3")]
    await run(database, later, key=["upc"], started=LATER)
    assert sorted(database.rows("SELECT upc, title, stock FROM book")) == [
        ("1", "A2", 5),
        ("2", "B", 0),
        ("3", "C", 0),
    ]


async def test_without_a_key_rows_of_earlier_runs_stay(database: Database) -> None:
    for started in ("20260102T030405Z", LATER):
        await run(database, [Book(title="A")], started=started)
    assert database.rows("SELECT title FROM book") == [("A",), ("A",)]


async def test_a_key_of_several_fields_and_of_nothing_else(database: Database) -> None:
    class Pair(Item):
        a: int
        b: str

    items = [Pair(a=1, b="x"), Pair(a=1, b="y"), Pair(a=1, b="x")]
    await run(database, items, key=["b", "a"])
    assert sorted(database.rows("SELECT a, b FROM pair")) == [(1, "x"), (1, "y")]


async def test_a_key_of_the_provenance(database: Database) -> None:
    for title in ("A", "B"):
        await run(database, [Book(title=title)], key=["_url"], provenance=["_url"], started=title)
    assert database.rows("SELECT title, _url FROM book") == [("B", "https://example.com/")]


class Loose(Item):
    upc: str | None = None
    n: int = 0


async def test_an_item_without_its_key_is_rejected(database: Database) -> None:
    rejected = await run(database, [Loose(n=1), Loose(upc="a", n=2)], key=["upc"])
    assert reason(rejected) == "table loose: upc is missing, and it is the key"
    assert database.rows("SELECT upc, n FROM loose") == [("a", 2)]


async def test_a_dict_without_its_key_is_rejected_and_decides_nothing(database: Database) -> None:
    rejected = await run(database, [{"n": "1"}, {"n": "2", "upc": "a"}, {"n": "3"}], key=["upc"])
    assert [each.reason for each in rejected] == ["schema", "schema"]
    assert database.rows("SELECT upc, n FROM items") == [("a", "2")]


@pytest.mark.parametrize(
    ("key", "error"),
    [(["isbn"], "no column isbn"), (["tags"], "tags is a list"), (["a", "a"], "named twice")],
)
async def test_keys_that_cannot_be(database: Database, key: list[str], error: str) -> None:
    class Tagged(Item):
        a: str = ""
        tags: list[str] = []

    with pytest.raises(ConfigError, match=error):
        await run(database, [Tagged()], key=key)


# Tables that are there --------------------------------------------------------------------------


async def test_a_model_that_gained_a_field(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await run(database, [Book(title="A")])

    def newer() -> Any:
        class Book(Item):
            title: str
            isbn: str = "978"
            pages: int = 5

        return Book

    with caplog.at_level(logging.INFO, "scraper.crawl"):
        await run(database, [newer()(title="B")], started=LATER)
    assert "isbn" in caplog.text
    assert "pages" in caplog.text
    assert sorted(database.rows("SELECT title, coalesce(isbn, '-'), pages, stock FROM book")) == [
        ("A", "-", None, 0),
        ("B", "978", 5, None),
    ]


async def test_a_type_that_changed_is_an_error(database: Database) -> None:
    await run(database, [Book(title="A")])

    def newer() -> Any:
        class Book(Item):
            title: str
            stock: str = "many"

        return Book

    with pytest.raises(ConfigError) as caught:
        await run(database, [newer()(title="B")], started=LATER)
    assert "table book: column stock is" in caught.value.message
    assert "is text" in caught.value.message
    assert "table = " in caught.value.hint
    assert database.rows("SELECT title FROM book") == [("A",)]


@pytest.mark.parametrize(
    ("made", "key", "error"),
    [
        ("CREATE TABLE book (title TEXT, source TEXT NOT NULL)", [], "source may not be NULL"),
        ("CREATE TABLE book (id INTEGER, made_by TEXT)", [], "none of the items' columns"),
        ("CREATE TABLE book (title TEXT, upc TEXT)", ["upc"], "not unique by upc"),
        ("CREATE TABLE book (title TEXT UNIQUE, upc TEXT)", ["upc"], "not unique by upc"),
        ("CREATE VIEW book AS SELECT 'A' AS title", [], "is a view"),
        ("CREATE TABLE book (title INTEGER)", [], "column title is INTEGER"),
        ("CREATE TABLE book (title TEXT, stock BOOLEAN, upc BLOB)", [], "column"),
    ],
)
async def test_tables_that_items_do_not_fit(
    database: Database, made: str, key: list[str], error: str
) -> None:
    if database.name == "postgresql":
        made = made.replace("BLOB", "BYTEA")
    elif "BOOLEAN" in made:
        made = "CREATE TABLE book (title TEXT, stock REAL, upc TEXT GENERATED ALWAYS AS ('x'))"
    database.execute(made)
    with pytest.raises(ConfigError, match=error) as caught:
        await run(database, [Book(title="A")], key=key)
    assert "table book" in caught.value.message
    assert caught.value.hint


async def test_a_table_made_by_hand(database: Database) -> None:
    counted = {
        "postgresql": "SERIAL PRIMARY KEY",
        "mariadb": "INTEGER PRIMARY KEY AUTO_INCREMENT",
    }
    database.execute(
        f"CREATE TABLE book (id {counted.get(database.name, 'INTEGER PRIMARY KEY')},"
        " title VARCHAR(20), upc VARCHAR(50) NOT NULL UNIQUE, seen VARCHAR(5) NOT NULL"
        " DEFAULT 'yes', stock SMALLINT)"
    )
    items = [Book(title="A", upc="1", stock=1), Book(title="B", upc="1", stock=2)]
    rejected = await run(database, [*items, Book(title="x" * 21, upc="2")], key=["upc"])
    assert database.rows("SELECT title, seen, stock FROM book WHERE upc = '1'") == [("B", "yes", 2)]
    if database.name != "sqlite":  # to which lengths mean nothing
        assert "longer than 20 characters" in reason(rejected)
        rejected = await run(database, [Book(title="A", stock=40_000)], started=LATER, key=["upc"])
        assert "stock does not fit 16 bits" in reason(rejected)


async def test_a_table_made_by_hand_gives_dicts_types(database: Database) -> None:
    database.execute("CREATE TABLE items (n INTEGER, r DOUBLE PRECISION, t TEXT)")
    rejected = await run(database, [{"n": 1, "r": 2, "t": 3}, {"n": "one"}])
    assert "n must be a whole number" in reason(rejected)
    assert database.rows("SELECT n, r, t FROM items") == [(1, 2.0, "3")]


async def test_a_row_that_the_table_refuses_is_not_lost(database: Database) -> None:
    database.execute("CREATE TABLE book (title TEXT, stock INTEGER CHECK (stock < 10), upc TEXT)")
    job = Job(crawl_info(database.root))
    with pytest.raises(UsageError) as caught:
        await run(database, [Book(title="A"), Book(title="B", stock=11)], job=job)
    assert "constraint" in caught.value.message.lower()
    assert "safe" in caught.value.hint or "nothing is lost" in caught.value.hint
    assert database.rows("SELECT * FROM book") == []
    database.execute("ALTER TABLE book RENAME TO old")
    await run(database, job=job)
    assert sorted(database.rows("SELECT title, stock FROM book")) == [("A", 0), ("B", 11)]


# mode = "replace" -------------------------------------------------------------------------------


async def test_replacing_deletes_earlier_runs_with_the_first_group(database: Database) -> None:
    await run(database, [Book(title="A"), Author(name="X")], mode="replace")
    job = Job(crawl_info(database.root, started=LATER))
    await run(database, job=job, mode="replace", end="")
    assert len(database.rows("SELECT * FROM book")) == 1, "nothing has come yet"
    await run(database, [Book(title="B")], job=job, mode="replace", end="")
    assert database.rows("SELECT title FROM book") == [("B",)]
    assert database.rows("SELECT * FROM author") == [], "of the same output"
    await run(database, [Book(title="C")], [Author(name="Y")], job=job, mode="replace")
    assert sorted(database.rows("SELECT title FROM book")) == [("B",), ("C",)]
    assert database.rows("SELECT name FROM author") == [("Y",)]


async def test_replacing_by_a_run_without_items(database: Database) -> None:
    await run(database, [Book(title="A")], mode="replace")
    await run(database, mode="replace", started=LATER, end="set_aside")
    assert len(database.rows("SELECT * FROM book")) == 1
    await run(database, mode="replace", started=LATER)
    assert database.rows("SELECT * FROM book") == []


async def test_replacing_with_a_key(database: Database) -> None:
    options: Any = {"mode": "replace", "key": ["upc"]}
    await run(database, [Book(title="A", upc="1"), Book(title="B", upc="2")], **options)
    await run(database, [Book(title="A2", upc="1")], started=LATER, **options)
    assert database.rows("SELECT upc, title FROM book") == [("1", "A2")]


async def test_a_run_whose_rows_were_replaced_notices(database: Database) -> None:
    first = Job(crawl_info(database.root, job="one"))
    groups = [Book(title="A")], [Book(title="A")]
    await run(database, *groups, job=first, mode="replace", end="")
    second = Job(crawl_info(database.root, job="two"))
    await run(database, [Book(title="B")], job=second, mode="replace", end="")
    with pytest.raises(DamagedState, match="should have"):
        await run(database, [Book(title="C")], job=first, mode="replace")
    await run(database, [Book(title="D")], job=second, mode="replace")
    assert sorted(database.rows("SELECT title FROM book")) == [("B",), ("D",)]


async def test_a_run_that_is_replaced_while_it_writes_notices(database: Database) -> None:
    sink = database.sink(mode="replace")
    await sink.open(crawl_info(database.root, job="one"))
    await sink.rewind(None)
    records, _ = await process(sink, [Book(title="A")])
    await sink.apply(1, records)
    await run(
        database, [Book(title="B")], job=Job(crawl_info(database.root, job="two")), mode="replace"
    )
    with pytest.raises(DamagedState, match="_scrape_runs"):
        await sink.apply(2, records)
    await sink.aclose()
    assert database.rows("SELECT title FROM book") == [("B",)]


async def test_two_processes_of_one_name_notice(database: Database) -> None:
    """As two machines may start the same job of their own in the same second."""
    sinks = [database.sink(), database.sink()]
    for sink in sinks:
        await sink.open(crawl_info(database.root))
        await sink.rewind(None)
    records, _ = await process(sinks[0], [Book(title="A")])
    await sinks[0].apply(1, records)
    with pytest.raises(DamagedState):
        await sinks[1].apply(1, records)
    for sink in sinks:
        await sink.aclose()


# Runs -------------------------------------------------------------------------------------------


async def test_the_mark_says_how_far_a_run_is(database: Database) -> None:
    await run(database, [Book(title="A")], [Book(title="B"), Author(name="C")])
    ((name, output, group, records, writer, tables),) = database.rows("SELECT * FROM _scrape_runs")
    assert (name, output) == ("books/job/20260102T030405Z", "{item}")
    assert (group, records, len(writer)) == (2, 3, 16)
    assert json.loads(tables) == {
        "author": ["Author", ["name", "born"]],
        "book": ["Book", ["title", "upc", "stock"]],
    }


async def test_a_crawl_without_a_job_leaves_no_mark(database: Database) -> None:
    job = Job(crawl_info(database.root, job=None))
    for end in ("publish", "set_aside"):
        await run(database, [Book(title="A")], job=Job(job.crawl), end=end)
    assert database.rows("SELECT * FROM _scrape_runs") == []
    assert len(database.rows("SELECT * FROM book")) == 2


async def test_crawls_without_a_job_replace_each_other(database: Database) -> None:
    crawl = crawl_info(database.root, job=None)
    await run(database, [Book(title="A"), Author(name="X")], job=Job(crawl), mode="replace")
    await run(database, [Book(title="B")], job=Job(crawl), mode="replace")
    assert database.rows("SELECT title FROM book") == [("B",)]
    assert database.rows("SELECT name FROM author") == []
    for _ in range(2):
        await run(database, job=Job(crawl), mode="replace")
    assert database.rows("SELECT title FROM book") == []
    assert len(database.rows("SELECT * FROM _scrape_runs")) == 1


async def test_a_published_run_goes_on(database: Database) -> None:
    """As `--retry` does."""
    job = Job(crawl_info(database.root))
    await run(database, [Book(title="A")], job=job, mode="replace")
    sink = database.sink(mode="replace")
    await sink.open(job.crawl)
    position = await sink.reopen(job.position, {})
    await sink.rewind(position)
    records, _ = await process(sink, [Book(title="B")])
    await sink.apply(job.commit(records), records)
    await sink.publish()
    await sink.aclose()
    assert sorted(database.rows("SELECT title FROM book")) == [("A",), ("B",)]


async def test_a_mark_that_was_altered_is_damage(database: Database) -> None:
    job = Job(crawl_info(database.root))
    await run(database, [Book(title="A")], job=job, end="")
    database.execute("UPDATE _scrape_runs SET tables = 'x'")
    with pytest.raises(DamagedState, match="_scrape_runs"):
        await run(database, [Book(title="B")], job=job)


@pytest.mark.parametrize("position", ["x", 7, {}, {"group": "a", "records": 1}, [1]])
async def test_a_position_that_is_none(database: Database, position: Any) -> None:
    with pytest.raises(DamagedState, match="is not a position"):
        await run(database, job=Job(crawl_info(database.root), position))


async def test_what_it_says_of_itself(database: Database) -> None:
    sink = database.sink(table="all")
    assert repr(sink)
    assert sink.describe()["records"] is None
    await sink.open(crawl_info(database.root))
    await sink.rewind(None)
    records, _ = await process(sink, [Book(title="A")])
    await sink.apply(1, records)
    told = sink.describe()
    await sink.aclose()
    await sink.aclose()
    assert told == {
        "kind": "sqlite" if database.name == "sqlite" else "sql",
        "path": sink.store.where,
        "mode": "append",
        "records": 1,
        "tables": ["all"],
        "live": True,
    }
    assert sink.key == f"{sink.store.where} all"
    with pytest.raises(Exception, match="not open"):
        await sink.apply(2, records)


async def test_a_mistake_of_the_chain_is_not_the_crawl_s(database: Database) -> None:
    """Only what is wrong with the table stops a crawl; a value that JSON cannot hold does not."""
    sink = database.sink()
    await sink.open(crawl_info(database.root))
    await sink.rewind(None)
    chain, page = Chain([sink]), new_page()
    result = await chain.run({"a": object()}, page)
    await sink.aclose()
    assert not result.delivered
    assert not isinstance(result, Failed)
    assert group_records([page]) == {}


async def test_patience_below_nothing(database: Database) -> None:
    with pytest.raises(ConfigError, match="patience"):
        database.sink(patience=-1.0)
