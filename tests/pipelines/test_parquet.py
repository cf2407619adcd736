"""Parquet: the contract, in one file and in parts, and what is its own."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import duckdb
import pytest
from pyarrow import parquet
from pydantic import ByteSize, Field, computed_field

from scraper import Item
from scraper.components import build_component
from scraper.errors import ConfigError, DamagedState
from scraper.pipelines.parquet import Parquet
from tests.pipelines.parquets import Crawling, crawl, rows

# -- schemas ------------------------------------------------------------------------------------


def types(path: Path) -> dict[str, str]:
    """Each column's type, with "not null" where there are none."""
    return {field.name: _shown(field) for field in parquet.read_schema(path)}


def _shown(field: Any) -> str:
    return str(field.type) + ("" if field.nullable else " not null")


class Review(Item):
    stars: int
    text: str | None = None


class Book(Item):
    title: str
    price: Decimal
    exact: Annotated[Decimal, Field(max_digits=8, decimal_places=2)]
    stock: int = 0
    rating: float | None = None
    sold: bool = False
    raw: bytes = b""
    day: dt.date | None = None
    clock: dt.time | None = None
    seen: dt.datetime | None = None
    colour: Literal["red", "blue"] = "red"
    tags: list[str] = []
    review: Review | None = None
    reviews: list[Review] = []
    attributes: dict[str, int] = {}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return self.stock * 2


BOOK = Book(
    title="A\nB “c” \U0001f4d6",
    price=Decimal("12.50"),
    exact=Decimal("12.5"),
    stock=2**61,
    rating=0.1,
    sold=True,
    raw=b"\x00\xff",
    day=dt.date(2026, 1, 31),
    clock=dt.time(23, 59, 59, 999_999),
    seen=dt.datetime(2026, 1, 31, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))),
    tags=["a", "b"],
    review=Review(stars=5),
    reviews=[Review(stars=1, text="no"), Review(stars=2)],
    attributes={"pages": 100},
)


def test_the_model_makes_the_schema(tmp_path: Path) -> None:
    plain = Book(title="x", price=Decimal(1), exact=Decimal(1))
    assert crawl(Parquet("x.parquet"), tmp_path, [BOOK, plain]) == []
    path = tmp_path / "x.parquet"
    assert types(path) == {
        "title": "string not null",
        "price": "string not null",
        "exact": "decimal128(8, 2) not null",
        "stock": "int64",
        "rating": "double",
        "sold": "bool",
        "raw": "binary",
        "day": "date32[day]",
        "clock": "time64[us]",
        "seen": "timestamp[us, tz=UTC]",
        "colour": "string",
        "tags": "list<element: string>",
        "review": "struct<stars: int64, text: string>",
        "reviews": "list<element: struct<stars: int64, text: string>>",
        "attributes": "string",
        "double": "int64",
    }
    first, second = rows(path)
    assert first == {
        **BOOK.model_dump(),
        "price": "12.50",
        "exact": Decimal("12.50"),
        "seen": dt.datetime(2026, 1, 31, tzinfo=dt.UTC),
        "attributes": '{"pages":100}',
    }
    assert second["title"] == "x"
    assert second["review"] is None
    assert second["tags"] == []


def test_dataclasses_and_typed_dicts(tmp_path: Path) -> None:
    @dataclass
    class Point:
        x: float
        name: str

    assert crawl(Parquet("x.parquet"), tmp_path, [Point(1.5, "a"), Point(None, "b")]) == []  # type: ignore[arg-type]
    assert types(tmp_path / "x.parquet") == {"x": "double", "name": "string"}
    assert rows(tmp_path / "x.parquet") == [{"x": 1.5, "name": "a"}, {"x": None, "name": "b"}]


def test_dicts_are_typed_by_all_their_values(tmp_path: Path) -> None:
    items = [
        {"n": 1, "m": None, "text": "a", "tags": [], "more": {"a": 1}, "at": AT},
        {"n": 2, "m": 3, "text": 5, "tags": ["x"], "more": None, "at": None},
        {"n": 0.5, "text": None, "tags": None},
    ]
    assert crawl(Parquet("x.parquet"), tmp_path, items) == []
    assert types(tmp_path / "x.parquet") == {
        "n": "double",
        "m": "int64",
        "text": "string",
        "tags": "list<element: string>",
        "more": "string",
        "at": "timestamp[us, tz=UTC]",
    }
    assert rows(tmp_path / "x.parquet") == [
        {"n": 1.0, "m": None, "text": "a", "tags": [], "more": '{"a":1}', "at": AT},
        {"n": 2.0, "m": 3, "text": "5", "tags": ["x"], "more": None, "at": None},
        {"n": 0.5, "m": None, "text": None, "tags": None, "more": None, "at": None},
    ]


AT = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


def test_types_say_what_dicts_hold(tmp_path: Path) -> None:
    sink = Parquet(
        "x.parquet",
        fields=["price", "exact", "seen", "rest"],
        types={"price": "float", "exact": "decimal(6, 2)", "seen": "datetime"},
    )
    items = [
        {"price": "12.50", "exact": "12.5", "seen": "2026-01-31T12:00:00Z", "rest": 1},
        {"price": "much", "exact": 1},
        {"price": 1, "exact": "1.234"},
        {"price": 1, "unknown": 2},
        {"price": None},
    ]
    told = crawl(sink, tmp_path, items)
    assert len(told) == 3
    assert "price: the column takes float: " in told[0]
    assert "got 'much'" in told[0]
    assert "exact: the column takes decimal(6, 2): it has more digits, got '1.234'" in told[1]
    assert "no column 'unknown'" in told[2]
    assert rows(tmp_path / "x.parquet") == [
        {"price": 12.5, "exact": Decimal("12.50"), "seen": AT, "rest": 1},
        {"price": None, "exact": None, "seen": None, "rest": None},
    ]


def test_types_may_be_other_than_the_model_s(tmp_path: Path) -> None:
    sink = Parquet("x.parquet", types={"price": "float", "stock": "str"})
    assert crawl(sink, tmp_path, [BOOK]) == []
    assert types(tmp_path / "x.parquet")["price"] == "double"
    assert rows(tmp_path / "x.parquet")[0]["price"] == 12.5
    assert rows(tmp_path / "x.parquet")[0]["stock"] == str(2**61)


def test_numbers_that_no_column_can_hold_are_rejected(tmp_path: Path) -> None:
    big = BOOK.model_copy(update={"stock": 2**63})
    (told,) = crawl(Parquet("x.parquet", fields=["title", "stock"]), tmp_path, [BOOK, big])
    assert "stock: the column takes int: it has more than 64 bits" in told
    assert len(rows(tmp_path / "x.parquet")) == 1


def test_fields_choose_and_order(tmp_path: Path) -> None:
    assert crawl(Parquet("x.parquet", fields=["stock", "title"]), tmp_path, [BOOK]) == []
    assert types(tmp_path / "x.parquet") == {"stock": "int64", "title": "string"}


def test_provenance(tmp_path: Path) -> None:
    assert crawl(Parquet("x.parquet", provenance=True), tmp_path, [Review(stars=1)]) == []
    assert list(types(tmp_path / "x.parquet").items())[2:] == [
        ("_url", "string"),
        ("_final_url", "string"),
        ("_fetched_at", "timestamp[us, tz=UTC]"),
        ("_status", "int64"),
        ("_body_sha256", "string"),
        ("_spider", "string"),
        ("_spider_version", "string"),
    ]
    (row,) = rows(tmp_path / "x.parquet")
    assert (row["_url"], row["_status"], row["_spider"]) == ("https://example.com/a", 200, "books")
    assert row["_fetched_at"].tzinfo is not None


def test_row_groups_and_compression(tmp_path: Path) -> None:
    items = [{"n": n, "text": "x" * 100} for n in range(250)]
    sizes = {}
    for compression in ("zstd", "snappy", "gzip", "brotli", "lz4", "none"):
        sink = Parquet(f"{compression}.parquet", compression=compression, row_group=100)
        crawl(sink, tmp_path, items, group=70)
        path = tmp_path / f"{compression}.parquet"
        found = parquet.read_metadata(path)
        assert [found.row_group(n).num_rows for n in range(found.num_row_groups)] == [100, 100, 50]
        assert rows(path) == items
        sizes[found.row_group(0).column(0).compression] = path.stat().st_size
    assert set(sizes) == {"ZSTD", "SNAPPY", "GZIP", "BROTLI", "LZ4", "UNCOMPRESSED"}


def test_large_rows_make_row_groups_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scraper.pipelines.parquet._GROUP_BYTES", 1 << 20)
    items = [{"n": n, "text": random.Random(n).randbytes(50_000).hex()} for n in range(60)]
    crawl(Parquet("x.parquet"), tmp_path, items, group=7)
    assert parquet.read_metadata(tmp_path / "x.parquet").num_row_groups >= 3
    assert rows(tmp_path / "x.parquet") == items


def test_one_file_for_each_type(tmp_path: Path) -> None:
    items = [BOOK, Review(stars=1), BOOK, {"a": 1}]
    assert crawl(Parquet("out/{item}.parquet"), tmp_path, items) == []
    assert len(rows(tmp_path / "out/Book.parquet")) == 2
    assert rows(tmp_path / "out/Review.parquet") == [{"stars": 1, "text": None}]
    assert rows(tmp_path / "out/dict.parquet") == [{"a": 1}]


@pytest.mark.case(
    77, "another model in a Parquet file", "an error at the first item that names both"
)
def test_one_file_is_of_one_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"columns of Book, and a Review came"):
        crawl(Parquet("x.parquet"), tmp_path, [BOOK, Review(stars=1)])


def test_a_data_set_has_one_schema(tmp_path: Path) -> None:
    """Types that the values make are the same in all parts, whichever part has the values."""
    items: list[dict[str, Any]] = [{"n": n, "text": None} for n in range(5)]
    items += [{"n": 0.5, "text": "a"}]
    crawl(Parquet("x.parquet", records_per_file=2), tmp_path, items, group=1)
    paths = sorted(tmp_path.glob("x-*.parquet"))
    assert [path.name for path in paths] == ["x-0001.parquet", "x-0002.parquet", "x-0003.parquet"]
    assert [types(path) for path in paths] == [{"n": "double", "text": "string"}] * 3
    assert [row["n"] for path in paths for row in rows(path)] == [0, 1, 2, 3, 4, 0.5]


def test_full_parts_are_made_as_the_crawl_goes(tmp_path: Path) -> None:
    async def run() -> None:
        crawling = await Crawling(Parquet("x.parquet", records_per_file=2), tmp_path).begin()
        await crawling.group(*[Review(stars=n) for n in range(5)])
        made = [path.read_bytes()[:4] for path in sorted(tmp_path.glob("*.partial"))]
        assert made[:2] == [b"PAR1"] * 2
        assert made[2] != b"PAR1"
        await crawling.end()

    asyncio.run(run())
    assert [len(rows(path)) for path in sorted(tmp_path.glob("*.parquet"))] == [2, 2, 1]


def test_parts_of_a_size(tmp_path: Path) -> None:
    items = [{"n": n, "text": random.Random(n).randbytes(1_000).hex()} for n in range(40)]
    crawl(Parquet("x.parquet", size_per_file=ByteSize(10_000)), tmp_path, items, group=5)
    paths = sorted(tmp_path.glob("x-*.parquet"))
    assert 3 <= len(paths) <= 8
    assert [row for path in paths for row in rows(path)] == items


# -- what is refused -------------------------------------------------------------------------------


def test_append_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match="cannot grow") as caught:
        Parquet("x.parquet", mode="append")
    assert "{started}" in caught.value.hint


def test_compressed_as_a_whole_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"compressed inside"):
        Parquet("x.parquet.gz")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"types": {"a": "flaot"}}, "types.a: 'flaot' is no type"),
        ({"fields": ["a"], "types": {"b": "int"}}, "types names 'b', which is no column"),
        ({"fields": ["a", "a"]}, "named twice"),
        ({"records_per_file": -1}, "records_per_file"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Parquet("x.parquet", **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"row_group": 0}, "row_group"),
        ({"compression": "zip"}, "compression"),
        ({"types": {"a": 1}}, "types"),
    ],
)
def test_options_are_checked_in_the_configuration(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_component(Parquet, options, "pipelines[0] parquet")


def test_types_of_what_is_no_column(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="types names 'prise', which is no column"):
        crawl(Parquet("x.parquet", types={"prise": "float"}), tmp_path, [BOOK])


def test_no_items_no_file(tmp_path: Path) -> None:
    """Without columns there is no Parquet file; an earlier crawl's would pass for this one's."""
    (tmp_path / "x.parquet").write_bytes(b"earlier")
    crawl(Parquet("x.parquet"), tmp_path, [])
    assert not list(tmp_path.glob("x*"))
    crawl(Parquet("y.parquet", fields=["a", "b"], types={"a": "int"}), tmp_path, [])
    assert types(tmp_path / "y.parquet") == {"a": "int64", "b": "string"}
    assert rows(tmp_path / "y.parquet") == []


def test_a_reader_that_is_not_ours(tmp_path: Path) -> None:
    """DuckDB, which shares no code with pyarrow, finds the same types and values."""
    plain = Book(title="x", price=Decimal(1), exact=Decimal(1))
    sink = Parquet("x.parquet", types={"price": "decimal(40, 2)"}, records_per_file=2, row_group=1)
    crawl(sink, tmp_path, [BOOK, plain, BOOK, plain, BOOK])
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        found = database.sql(
            "SELECT * EXCLUDE (file_row_number)"
            f" FROM read_parquet('{tmp_path}/x-*.parquet', file_row_number = true)"
            " ORDER BY filename, file_row_number"
        )
        told = dict(zip(found.columns, map(str, found.types), strict=True))
        first, second, *others = found.fetchall()
    assert told == {
        "title": "VARCHAR",
        "price": "DOUBLE",  # it has no decimals of more than 38 digits
        "exact": "DECIMAL(8,2)",
        "stock": "BIGINT",
        "rating": "DOUBLE",
        "sold": "BOOLEAN",
        "raw": "BLOB",
        "day": "DATE",
        "clock": "TIME",
        "seen": "TIMESTAMP WITH TIME ZONE",
        "colour": "VARCHAR",
        "tags": "VARCHAR[]",
        "review": 'STRUCT(stars BIGINT, "text" VARCHAR)',
        "reviews": 'STRUCT(stars BIGINT, "text" VARCHAR)[]',
        "attributes": "VARCHAR",
        "double": "BIGINT",
    }
    wanted = rows(tmp_path / "x-0001.parquet")
    for row, want in zip((first, second), wanted, strict=True):
        assert dict(zip(told, row, strict=True)) == want | {"price": float(want["price"])}
    assert len(others) == 3


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "brotli", "lz4", "none"])
def test_compressed_for_others(tmp_path: Path, compression: Any) -> None:
    items = [{"n": n, "text": f"row {n} " * 20} for n in range(500)]
    crawl(Parquet("x.parquet", compression=compression), tmp_path, items, group=100)
    with duckdb.connect() as database:
        found = database.sql(f"SELECT n, text FROM '{tmp_path}/x.parquet'").fetchall()
    assert found == [(row["n"], row["text"]) for row in items]


async def test_a_ledger_behind_a_part_that_is_finished(tmp_path: Path) -> None:
    """A server that lost what it had confirmed: the rows of the finished file are left alone."""
    sink = Parquet("out-{part}.parquet", records_per_file=2, types={"n": "int"})
    crawling = await Crawling(sink, tmp_path).begin()
    older = await crawling.group({"n": 1})
    await crawling.group({"n": 2}, {"n": 3})
    await sink.aclose()
    finished = (tmp_path / "out-0001.parquet.partial").read_bytes()
    assert finished.startswith(b"PAR1")
    again = Parquet("out-{part}.parquet", records_per_file=2, types={"n": "int"})
    with pytest.raises(DamagedState, match="still growing"):
        await Crawling(again, tmp_path).begin(older, resumed=True)
    assert (tmp_path / "out-0001.parquet.partial").read_bytes() == finished
