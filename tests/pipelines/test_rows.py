"""Cells: whatever a column takes comes back from the file as it was; what it does not is told."""

from __future__ import annotations

import datetime as dt
import enum
import io
import json
import math
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pydantic_core
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from scraper import Item
from scraper.pipelines.celltypes import Column, Type, parse, shown
from scraper.pipelines.parquet import array, arrow_type
from scraper.pipelines.rows import MisfitError, Rows, infer, join, type_of

AT = dt.datetime.fromisoformat
INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text()  # no surrogates: UTF-8 has none
INSTANTS = st.datetimes(
    AT("0001-01-02"), AT("9999-12-30"), timezones=st.timezones() | st.just(dt.UTC)
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "str": TEXT,
    "int": INT64,
    "float": st.floats(),
    "bool": st.booleans(),
    "bytes": st.binary(),
    "date": st.dates(),
    "time": st.times(),
    "datetime": INSTANTS,
    "naive_datetime": st.datetimes(),
}


def decimals(digits: int, places: int) -> st.SearchStrategy[Decimal]:
    most = 10**digits - 1
    return st.integers(-most, most).map(lambda number: Decimal(number).scaleb(-places))


@st.composite
def typed(draw: st.DrawFn, depth: int = 2) -> tuple[Type, st.SearchStrategy[Any]]:
    """A type, and the values of it."""
    kinds = ["plain", "decimal", *(["list", "struct"] if depth else [])]
    match draw(st.sampled_from(kinds)):
        case "plain":
            name = draw(st.sampled_from(sorted(VALUES)))
            return name, VALUES[name]
        case "decimal":
            digits = draw(st.integers(1, 28))  # what Python's default context keeps
            places = draw(st.integers(0, digits))
            return ["decimal", digits, places], decimals(digits, places)
        case "list":
            kind, values = draw(typed(depth - 1))
            return ["list", kind], st.lists(st.none() | values, max_size=3)
    names = draw(st.lists(TEXT.filter(bool), min_size=1, max_size=3, unique=True))
    inner = [(name, *draw(typed(depth - 1))) for name in names]
    return (
        ["struct", [[name, kind] for name, kind, _ in inner]],
        st.fixed_dictionaries({name: st.none() | values for name, _, values in inner}),
    )


def maybe(values: st.SearchStrategy[Any], nullable: bool) -> st.SearchStrategy[Any]:
    return st.none() | values if nullable else values


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Column], list[list[Any]]]:
    kinds = draw(st.lists(st.tuples(typed(), st.booleans()), min_size=1, max_size=4))
    columns = [Column(f"c{n}", kind, null) for n, ((kind, _), null) in enumerate(kinds)]
    row = st.tuples(*(maybe(values, null) for (_, values), null in kinds)).map(list)
    return columns, draw(st.lists(row, min_size=1, max_size=5))


def read_back(rows: Rows, columns: Sequence[Column], lines: Sequence[bytes]) -> list[list[Any]]:
    """The rows as pyarrow reads them from a file of *lines*."""
    cells = rows.cells(lines, columns)
    schema = pa.schema([pa.field(c.name, arrow_type(c.type), c.nullable) for c in columns])
    arrays = [array(column.type, each) for column, each in zip(columns, cells, strict=True)]
    table = pa.table(arrays, schema=schema)
    table.validate(full=True)
    file = io.BytesIO()
    parquet.write_table(table, file)
    found = parquet.ParquetFile(file, pre_buffer=False).read(use_threads=False)
    assert found.schema.equals(schema)
    return [list(row.values()) for row in found.to_pylist()]


def same(found: Any, value: Any) -> bool:
    """Equal, and NaN is NaN."""
    if isinstance(value, dict):
        return found.keys() == value.keys() and all(same(found[key], value[key]) for key in value)
    if isinstance(value, list | tuple):
        return len(found) == len(value) and all(map(same, found, value))
    if isinstance(value, float) and math.isnan(value):
        return isinstance(found, float) and math.isnan(found)
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        value = value.astimezone(dt.UTC)  # of a repeated hour, no other zone's time is equal to it
    return type(found) is type(value) and bool(found == value)


@given(tables())
def test_every_value_of_every_type_comes_back(table: tuple[list[Column], list[list[Any]]]) -> None:
    columns, values = table
    rows = Rows(columns)
    assert rows.kinds == 0
    found = read_back(rows, columns, [rows.line(row)[:-1] for row in values])
    assert len(found) == len(values)
    for back, row in zip(found, values, strict=True):
        assert same(back, row), (back, row)


# -- nothing is known --------------------------------------------------------------------------

LEAVES = st.one_of(st.none(), *VALUES.values(), st.integers(), decimals(28, 5), st.uuids())
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
)
ALIKE = st.sampled_from([*VALUES.values(), st.integers() | st.floats(), decimals(9, 2), LEAVES])


@given(st.lists(ANYTHING, min_size=1, max_size=6))
def test_any_values_in_one_column(values: list[Any]) -> None:
    check_inferred(values)


@given(st.data())
def test_values_alike_in_one_column(data: st.DataObject) -> None:
    alike = st.none() | data.draw(ALIKE)
    listed = data.draw(st.booleans())
    check_inferred(data.draw(st.lists(st.lists(alike) if listed else alike, min_size=1)))


def check_inferred(values: list[Any]) -> None:
    rows = Rows([Column("c", "any")])
    lines = [rows.line([value])[:-1] for value in values]
    kinds = rows.kinds_of(lines)
    for cut in range(len(lines)):  # known bit by bit, over any number of groups
        assert rows.kinds_of(lines[cut:], rows.kinds_of(lines[:cut])) == kinds
    columns = rows.known_as(kinds)
    found = [row[0] for row in read_back(rows, columns, lines)]
    for back, value in zip(found, values, strict=True):
        agrees(columns[0].type, back, value)


def agrees(kind: Type, back: Any, value: Any) -> None:
    """*back* is *value* in a column of type *kind*: nothing rounded, nothing lost."""
    if value is None:
        assert back is None
    elif kind == "json":
        assert json.loads(back) == json.loads(as_json(value))
    elif kind[0] == "list":
        assert len(back) == len(value)
        for inner, each in zip(back, value, strict=True):
            agrees(kind[1], inner, each)
    elif kind == "str" and isinstance(value, str):
        assert back == value
    elif kind == "str":
        text = as_json(value) if not isinstance(value, float) else None
        if text is None:
            assert same(float(back), value)
        else:
            assert back == (json.loads(text) if text[0] == '"' else text)
    elif kind == "float":
        assert same(back, float(value))
        assert isinstance(value, float) or int(back) == value
    else:
        assert same(back, value)


def as_json(value: Any) -> str:
    """The JSON of *value*; instants are told in UTC, once they stand among other things."""
    if isinstance(value, list):
        return "[" + ",".join(map(as_json, value)) + "]"
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        value = value.astimezone(dt.UTC)
    try:
        return pydantic_core.to_json(value, inf_nan_mode="null").decode()
    except ValueError:
        return pydantic_core.to_json(value, inf_nan_mode="null", bytes_mode="base64").decode()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([None], "str"),
        ([1, 2, None], "int"),
        ([1, 2.5], "float"),
        ([2**53, 0.5], "float"),
        ([2**53 + 1, 0.5], "str"),
        ([2**63, 1], "str"),
        ([True, None], "bool"),
        ([True, 1], "str"),
        (["a", 1], "str"),
        ([Decimal("1.50"), Decimal(2)], "str"),
        ([b"\xff"], "bytes"),
        ([dt.date(2026, 1, 31)], "date"),
        ([dt.date(2026, 1, 31), AT("2026-01-31")], "str"),
        ([AT("2026-01-31")], "naive_datetime"),
        ([dt.datetime(2026, 1, 31, tzinfo=dt.UTC)], "datetime"),
        ([dt.time(1, 2)], "time"),
        ([["a"], None, []], "list[str]"),
        ([[1], [2.5]], "list[float]"),
        ([["a"], "a"], "json"),
        ([{"a": 1}], "json"),
        ([[{"a": 1}], [{"b": 2}]], "list[json]"),
        ([("a", "b"), {"c"}], "list[str]"),
        ([[[1]], [[]]], "list[list[int]]"),
    ],
)
def test_the_values_make_the_type(values: list[Any], kind: str) -> None:
    rows = Rows([Column("c", "any")])
    (column,) = rows.known_as(rows.kinds_of([rows.line([value]) for value in values]))
    assert shown(column.type) == kind


def test_values_of_several_kinds_are_text() -> None:
    values = [
        "5", 5, 2.0, True, dt.date(2026, 1, 31), dt.datetime(2026, 1, 31, 1, tzinfo=dt.UTC),
        dt.time(1, 2, 3), b"raw", Decimal("1.50"), 2**70, None,
    ]  # fmt: skip
    texts = [
        "5", "5", "2.0", "true", "2026-01-31", "2026-01-31T01:00:00Z",
        "01:02:03", "raw", "1.50", str(2**70), None,
    ]  # fmt: skip
    rows = Rows([Column("c", "any")])
    lines = [rows.line([value])[:-1] for value in values]
    assert [r[0] for r in read_back(rows, rows.known_as(rows.kinds_of(lines)), lines)] == texts
    lines = [rows.line([value])[:-1] for value in [*values, ["a", 1, dt.date(2026, 1, 31)]]]
    found = [r[0] for r in read_back(rows, rows.known_as(rows.kinds_of(lines)), lines)]
    assert found == [
        '"5"', "5", "2.0", "true", '"2026-01-31"', '"2026-01-31T01:00:00Z"',
        '"01:02:03"', '"raw"', '"1.50"', str(2**70), None, '["a",1,"2026-01-31"]',
    ]  # fmt: skip


KINDS = st.recursive(st.sampled_from("nsxbilfydctuj"), lambda inner: inner.map("[{}".format))


@given(KINDS, KINDS, KINDS)
def test_kinds_join_in_any_order(one: str, two: str, three: str) -> None:
    assert join(one, two) == join(two, one)
    assert join(one, join(two, three)) == join(join(one, two), three)
    assert join(one, one) == one
    assert join(one, "n") == one
    assert type_of(join(one, two))


def test_lists_that_are_very_deep() -> None:
    value: list[Any] = []
    for _ in range(100):
        value = [value]
    check_inferred([value])


# -- what does not fit ---------------------------------------------------------------------------


class Size(enum.IntEnum):
    SMALL = 1


class Word(enum.Enum):
    ONE = "one"


class Inner(Item):
    a: int


@pytest.mark.parametrize(
    ("kind", "value", "cell"),
    [
        ("float", "12.50", 12.5),
        ("float", 3, 3.0),
        ("float", Decimal("0.5"), 0.5),
        ("int", "5", 5),
        ("int", 5.0, 5),
        ("int", Size.SMALL, 1),
        ("bool", "true", True),
        ("str", 5, "5"),
        ("str", True, "true"),
        ("str", Word.ONE, "one"),
        ("str", Decimal("1E+2"), "1E+2"),
        ("str", uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        ("str", dt.timedelta(days=1), "P1D"),
        ("str", "a\ud800b", "a\ud800b"),
        ("date", "1970-01-02", 1),
        ("datetime", "1970-01-01T01:00:00+01:00", 0),
        ("datetime", AT("1970-01-01"), 0),
        ("naive_datetime", "1970-01-01T00:00:01", 1_000_000),
        ("time", "00:00:01", 1_000_000),
        ("bytes", "a", "YQ=="),
        ("decimal(4, 2)", "12.5", "12.50"),
        ("decimal(4, 2)", 12.5, "12.50"),
        ("decimal(4, 2)", 99, "99.00"),
        ("json", {"a": Decimal("1.0"), "b": {1}}, '{"a":"1.0","b":[1]}'),
        ("json", "a", '"a"'),
        ("list[int]", ("1", 2), [1, 2]),
        ("list[str]", {"a"}, ["a"]),
    ],
)
def test_values_are_taken_as_pydantic_takes_them(kind: str, value: Any, cell: Any) -> None:
    rows = Rows([Column("c", parse(kind, ""))])
    assert json.loads(rows.line([value])) == [
        cell.replace("\ud800", "\ufffd") if isinstance(cell, str) else cell
    ]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", "five"),
        ("int", 5.5),
        ("int", 2**63),
        ("int", -(2**63) - 1),
        ("int", float("nan")),
        ("float", "much"),
        ("float", 2**53 + 1),
        ("float", 10**400),
        ("bool", "perhaps"),
        ("str", ["a"]),
        ("str", {"a": 1}),
        ("str", Inner(a=1)),
        ("date", "31/01/2026"),
        ("time", dt.time(1, tzinfo=dt.UTC)),
        ("naive_datetime", dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
        ("datetime", dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-1)))),
        ("datetime", dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=1)))),
        ("decimal(4, 2)", Decimal("0.125")),
        ("decimal(4, 2)", Decimal(100)),
        ("decimal(4, 2)", Decimal("NaN")),
        ("json", object()),
        ("list[int]", "12"),
        ("list[int]", {"a": 1}),
        ("list[int]", 5),
        ("list[int]", ["a"]),
    ],
)
def test_what_does_not_fit_is_told(kind: str, value: Any) -> None:
    rows = Rows([Column("first", "str"), Column("second", parse(kind, ""))])
    with pytest.raises(MisfitError) as caught:
        rows.line(["a", value])
    assert caught.value.name == "second"
    assert caught.value.value is value
    assert caught.value.message.startswith(f"the column takes {kind}: ")
    assert "\n" not in str(caught.value)


def test_none_and_what_is_missing() -> None:
    struct = ["struct", [["a", "int"], ["b", "str"]]]
    rows = Rows([Column("n", "int", False), Column("s", struct)])
    assert json.loads(rows.line([1, {"a": 1}])) == [1, [1, None]]
    assert json.loads(rows.line([1, None])) == [1, None]
    assert json.loads(rows.line([1, Inner(a=2)])) == [1, [2, None]]
    assert json.loads(rows.line([1, {"b": "x"}])) == [1, [None, "x"]]
    for values in ([None, None], [1, {"a": 1, "c": 2}], [1, [1, "x"]], [1, {"a": "x"}]):
        with pytest.raises(MisfitError, match=r"^(n|s): the column takes "):
            rows.line(values)


@pytest.mark.parametrize("value", [object(), {"a": object()}, [object()]])
def test_what_json_has_no_form_for_fits_nowhere(value: Any) -> None:
    with pytest.raises(
        MisfitError, match="c: the column takes values of any type: Unable to serialize"
    ):
        Rows([Column("c", "any")]).line([value])


def test_inferred_cells() -> None:
    assert infer(Word.ONE) == ("s", "one")
    assert infer(Size.SMALL) == ("i", 1)
    assert infer(Inner(a=1)) == ("j", {"j": '{"a":1}'})
    assert infer([Inner(a=1)]) == ("[j", [{"j": '{"a":1}'}])
    assert infer(uuid.UUID(int=0)) == ("s", "00000000-0000-0000-0000-000000000000")
