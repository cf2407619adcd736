"""Cells: kinds of columns from annotations, and the plain form of values."""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, TypedDict, TypeVar
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AwareDatetime,
    BaseModel,
    ByteSize,
    HttpUrl,
    NaiveDatetime,
    PastDate,
    PositiveInt,
)
from pydantic_core import from_json

from scraper import types
from scraper.errors import ExtractionError
from scraper.pipelines.cells import FORMS, Cell, Misfit, kind_of, snake
from scraper.pipelines.tables import Heading, Plan


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


@dataclass
class Point:
    x: int


class Place(TypedDict):
    name: str


Upc = NewType("Upc", str)
Number = TypeVar("Number", bound=int)

LONG = "1234567890123456789012345678.9"
"""More digits than Python's arithmetic keeps by itself."""

KINDS: list[tuple[Any, str]] = [
    (int, "int"), (PositiveInt, "int"), (ByteSize, "int"), (Level, "int"), (Number, "int"),
    (float, "float"), (int | float, "float"), (float | int | None, "float"),
    (bool, "bool"), (types.Flag, "bool"),
    (Decimal, "decimal"), (types.Amount, "decimal"), (Decimal | None, "decimal"),
    (str, "text"), (Upc, "text"), (Colour, "text"), (UUID, "text"), (Path, "text"),
    (HttpUrl, "text"), (IPv4Address, "text"), (dt.time, "text"), (dt.timedelta, "text"),
    (Literal["a", "b"], "text"), (Literal[1] | None, "int"), (types.Link, "text"),
    (dt.date, "date"), (PastDate, "date"), (types.Date, "date"),
    (dt.datetime, "datetime"), (AwareDatetime, "datetime"), (NaiveDatetime, "datetime"),
    (bytes, "blob"), (bytearray, "blob"),
    (list[int], "json"), (tuple[int, ...], "json"), (set[str], "json"), (dict[str, int], "json"),
    (Sequence[str], "json"), (Mapping[str, Any], "json"), (BaseModel, "json"), (Point, "json"),
    (Place, "json"), (types.Price, "json"), (Annotated[list[str] | None, "x"], "json"),
    (Any, "any"), (object, "any"), (int | str, "any"), (Mixed, "any"), (None, "any"),
    (Literal["a", 1], "any"), (list[int] | int, "any"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("hint", "kind"), KINDS, ids=[f"{n}-{kind}" for n, (_, kind) in enumerate(KINDS)]
)
def test_kinds(hint: Any, kind: str) -> None:
    assert kind_of(hint) == kind


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("Book", "book"), ("BookReview", "book_review"), ("HTTPResponse", "http_response"),
        ("book", "book"), ("Book2Go", "book2_go"), ("book_review", "book_review"),
        ("Ärger", "ärger"),
    ],
)  # fmt: skip
def test_names_of_tables(name: str, table: str) -> None:
    assert snake(name) == table


@pytest.mark.parametrize(
    ("cell", "value", "plain"),
    [
        (Cell("int"), True, 1),
        (Cell("int"), Level.LOW, 1),
        (Cell("float"), Decimal("0.1"), 0.1),
        (Cell("float"), 2**53, 2.0**53),
        (Cell("float"), Decimal("sNaN"), None),
        (Cell("bool"), 1, True),
        (Cell("decimal"), 0.1, "0.1"),
        (Cell("decimal"), Decimal("1E+2"), "1E+2"),
        (Cell("decimal", 3, 2), Decimal("0.00"), "0.00"),
        (Cell("decimal", 0, 2), Decimal("0.05"), "0.05"),
        (Cell("decimal", 30, 9), Decimal("1234567890123456789012345678.9"), LONG),
        (Cell("date"), "2024-01-31", "2024-01-31"),
        (Cell("datetime"), dt.datetime(2024, 1, 31, tzinfo=dt.UTC), "2024-01-31T00:00:00Z"),
        (Cell("text"), Colour.RED, "red"),
        (Cell("text"), UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Cell("text"), [1, "a"], '[1,"a"]'),
        (Cell("text"), dt.timedelta(hours=1), "PT1H"),
        (Cell("text"), math.nan, None),
        (Cell("text"), Decimal("sNaN"), None),
        (Cell("text", 1), "é", "é"),
        (Cell("blob"), bytearray(b"\xff"), "/w=="),
        (Cell("json"), {"a": {1}}, '{"a":[1]}'),
        (Cell("json"), "\\u0000 \0", '"\\\\u0000 \\ufffd"'),
        (Cell("any"), b"text", "text"),
        (Cell("any"), Mixed.ONE, 1),
    ],
    ids=str,
)
def test_plain_values(cell: Cell, value: Any, plain: Any) -> None:
    assert FORMS[cell.kind](value, cell) == plain


@pytest.mark.parametrize(
    ("cell", "value", "why"),
    [
        (Cell("int"), 1.0, "must be a whole number"),
        (Cell("int"), "1", "must be a whole number"),
        (Cell("int"), 2**63, "does not fit 64 bits"),
        (Cell("int", 16), -(2**15) - 1, "does not fit 16 bits"),
        (Cell("float"), 2**53 + 1, "a float cannot hold"),
        (Cell("float"), 10**400, "a float cannot hold"),
        (Cell("float"), "1", "must be a number"),
        (Cell("float"), True, "must be a number"),
        (Cell("bool"), 2, "must be true or false"),
        (Cell("decimal"), "1,5", "must be a number"),
        (Cell("decimal"), True, "must be a number"),
        (Cell("decimal", 2, 1), Decimal("0.05"), "more than 2 digits before the point, or 1"),
        (Cell("decimal", 2, 1), Decimal(100), "more than 2 digits"),
        (Cell("date"), dt.datetime(2024, 1, 31, tzinfo=dt.UTC), "must be a date"),
        (Cell("date"), "tomorrow", "must be a date"),
        (Cell("datetime"), dt.date(2024, 1, 31), "must be a date with time"),
        (Cell("text", 2), "abc", "longer than 2 characters"),
        (Cell("text", octets=3), "éé", "longer than 3 bytes"),
        (Cell("blob"), "text", "must be bytes"),
        (Cell("any"), 2**64, "does not fit 64 bits"),
    ],
    ids=str,
)
def test_what_does_not_fit(cell: Cell, value: Any, why: str) -> None:
    with pytest.raises(Misfit, match=why):
        FORMS[cell.kind](value, cell)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.decimals() | st.dates() | st.datetimes() | st.sampled_from(list(Mixed)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(kind=st.sampled_from(sorted(FORMS)), value=VALUES)
def test_any_value_is_a_scalar_that_utf8_can_hold_or_refused(kind: Any, value: Any) -> None:
    plan = Plan("t", Heading("t", "M", 1, (("c", kind),)), [Cell(kind)], ())
    try:
        record = plan.record([value])
    except ExtractionError:
        return
    start, _, row = record.partition(b"\n")
    assert Heading.load(start) == plan.heading
    (cell,) = from_json(row)
    assert cell is None or isinstance(cell, str | int | float | bool)
    assert "\0" not in str(cell)
    assert row.decode("utf-8")
    if kind == "json" and cell is not None:
        json.loads(str(cell))
