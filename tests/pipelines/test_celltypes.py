"""The types of columns: of models of every kind, of options."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import ipaddress
import pathlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar

import pytest
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    NaiveDatetime,
    PlainSerializer,
    PositiveInt,
    RootModel,
    SecretStr,
    computed_field,
    field_serializer,
    model_serializer,
    model_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict  # pydantic asks for it below 3.12

from scraper import Css, Item
from scraper.errors import ConfigError
from scraper.pipelines.celltypes import NAMES, columns_of, parse, shown
from scraper.types import Amount, DateTime, Flag, Integer, Number, Text


def types(model: type) -> dict[str, str]:
    """Each field's type, with a question mark where None may come."""
    return {
        name: shown(column.type) + "?" * column.nullable
        for name, column in columns_of(model).items()
    }


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1


class Odd(enum.Enum):
    ONE = 1
    TWO = "two"
    MANY = (1, 2)


class Review(Item):
    stars: Annotated[int, Css("b")]
    text: Annotated[str | None, Css("p")]


class Tree(Item):
    name: str
    children: list[Tree] = []
    parent: Tree | None = None


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class Names(RootModel[list[str]]):
    pass


class Nothing(Item):
    pass


class Entry(TypedDict):
    key: str
    value: NotRequired[int]


@dataclasses.dataclass
class Point:
    x: float
    y: float | None = None


def test_plain_types() -> None:
    class Book(Item):
        title: Annotated[str, Css("h1")]
        stock: Annotated[int, Css("b")] = 0
        price: Annotated[Decimal, Css("i")]
        exact: Annotated[Decimal, Field(max_digits=10, decimal_places=2)]
        rating: float | None
        sold: bool
        raw: bytes
        day: dt.date
        clock: dt.time
        seen: dt.datetime
        aware: AwareDatetime
        naive: NaiveDatetime

    assert types(Book) == {
        "title": "str",
        "stock": "int?",
        "price": "str",
        "exact": "decimal(10, 2)",
        "rating": "float?",
        "sold": "bool",
        "raw": "bytes",
        "day": "date",
        "clock": "time",
        "seen": "datetime",
        "aware": "datetime",
        "naive": "naive_datetime",
    }


def test_what_json_has_as_text() -> None:
    class Book(Item):
        link: HttpUrl
        mark: uuid.UUID
        file: pathlib.Path
        host: ipaddress.IPv4Address
        length: dt.timedelta
        secret: SecretStr
        lower: Annotated[str, AfterValidator(str.lower)]
        either: int | str
        date_or_text: dt.date | Literal["soon"]

    assert set(types(Book).values()) == {"str"}


def test_choices() -> None:
    class Book(Item):
        colour: Colour
        size: Size | None
        odd: Odd
        currency: Literal["EUR", "USD"]
        digit: Literal[1, 2] | None
        mixed: Literal["a", 1]
        number: int | float
        same: Annotated[int, Field(gt=0)] | Annotated[int, Field(lt=-5)]

    assert types(Book) == {
        "colour": "str",
        "size": "int?",
        "odd": "json",
        "currency": "str",
        "digit": "int?",
        "mixed": "str",
        "number": "float",
        "same": "int",
    }


def test_containers() -> None:
    class Book(Item):
        tags: list[str]
        numbers: tuple[int, ...]
        pair: tuple[float, float]
        mixed: tuple[int, str]
        unique: set[str | None]
        sequence: Sequence[int]
        many: Iterable[int]
        queue: collections.deque[int]
        rows: list[list[int]] | None
        attributes: dict[str, int]
        mapping: Mapping[str, str]
        anything: list[Any]
        bare: list  # type: ignore[type-arg]
        one_or_many: str | list[str]

    assert types(Book) == {
        "tags": "list[str]",
        "numbers": "list[int]",
        "pair": "list[float]",
        "mixed": "json",
        "unique": "list[str]",
        "sequence": "list[int]",
        "many": "list[int]",
        "queue": "list[int]",
        "rows": "list[list[int]]?",
        "attributes": "json",
        "mapping": "json",
        "anything": "any",
        "bare": "any",
        "one_or_many": "json",
    }


def test_nested_models() -> None:
    class Book(Item):
        review: Review
        reviews: list[Review]
        again: Review | None
        entry: Entry
        point: Point
        names: Names
        several: list[Names]
        loose: Loose
        nothing: Nothing
        one_of: Review | Entry
        within: dict[str, Review]

    review = "struct[stars: int, text: str]"
    assert types(Book) == {
        "review": review,
        "reviews": f"list[{review}]",
        "again": f"{review}?",
        "entry": "struct[key: str, value: int]",
        "point": "struct[x: float, y: float]",
        "names": "list[str]",
        "several": "list[list[str]]",
        "loose": "json",
        "nothing": "json",
        "one_of": "json",
        "within": "json",
    }


def test_models_within_themselves() -> None:
    assert types(Tree) == {"name": "str", "children": "list[json]?", "parent": "json?"}

    class Wood(Item):
        trees: list[Tree]

    tree = "struct[name: str, children: list[json], parent: json]"
    assert types(Wood) == {"trees": f"list[{tree}]"}


def test_what_is_not_known() -> None:
    class Book(Item):
        anything: Any
        nothing: None
        either: str | Any
        untold: Annotated[int, PlainSerializer(lambda value: value / 3)]

    assert types(Book) == {
        "anything": "any?",
        "nothing": "str?",
        "either": "any?",
        "untold": "any?",
    }


def test_serializers_say_what_is_written() -> None:
    class Book(Item):
        price: Annotated[Decimal, PlainSerializer(float, return_type=float)]
        shown: Annotated[Decimal, PlainSerializer(lambda value: float(value))]
        in_json: Annotated[Decimal, PlainSerializer(float, return_type=float, when_used="json")]
        day: dt.date
        untold: dt.date

        @field_serializer("day")
        def as_number(self, day: dt.date) -> int:
            return day.toordinal()

        @field_serializer("untold")
        def somehow(self, day):  # type: ignore[no-untyped-def]
            return day.toordinal()

        @computed_field  # type: ignore[prop-decorator]
        @property
        def weeks(self) -> float:
            return self.day.toordinal() / 7

    assert types(Book) == {
        "price": "float",
        "shown": "str?",
        "in_json": "str",
        "day": "int",
        "untold": "any?",
        "weeks": "float?",
    }

    class Whole(Item):
        a: int

        @model_serializer
        def written(self) -> dict[str, Any]:
            return {"b": self.a}

    assert types(Whole) == {}


def test_names_are_those_that_are_written() -> None:
    class Book(BaseModel):
        model_config = ConfigDict(serialize_by_alias=True)
        a: int = Field(serialization_alias="A-a")
        hidden: int = Field(exclude=True)

    assert types(Book) == {"A-a": "int"}
    assert list(Book(a=1, hidden=2).model_dump()) == ["A-a"]


def test_validators_of_models_do_not_hide_their_fields() -> None:
    class Book(Item):
        a: PositiveInt

        @model_validator(mode="before")
        @classmethod
        def before(cls, values: Any) -> Any:
            return values

        @model_validator(mode="after")
        def after(self) -> Book:
            return self

    assert types(Book) == {"a": "int"}


def test_generic_models() -> None:
    T = TypeVar("T")

    class Box(BaseModel, Generic[T]):
        inside: T

    assert types(Box[int]) == {"inside": "int"}
    assert types(Box) == {"inside": "any?"}


def test_conversion_types() -> None:
    class Book(Item):
        price: Annotated[Amount, Css("i")]
        weight: Number
        stock: Integer
        sold: Flag
        seen: DateTime
        title: Text

    assert types(Book) == {
        "price": "str",
        "weight": "float",
        "stock": "int",
        "sold": "bool",
        "seen": "datetime",
        "title": "str",
    }


def test_dataclasses_check_nothing() -> None:
    """So None may come anywhere, whatever the annotations say."""

    @dataclasses.dataclass
    class Plain:
        a: int
        b: list[int]
        c: Review
        d: dataclasses.InitVar[int] = 0

    @pydantic_dataclass
    class Checked:
        a: int
        b: list[int] = dataclasses.field(default_factory=list)

    assert types(Plain) == {"a": "int?", "b": "list[int]?", "c": "struct[stars: int, text: str]?"}
    assert types(Checked) == {"a": "int", "b": "list[int]?"}


def test_of_what_is_no_model_nothing_is_known() -> None:
    class Strange:
        pass

    @dataclasses.dataclass
    class Holds:
        strange: Strange

    assert columns_of(Strange) == {}
    assert columns_of(Holds) == {}
    assert columns_of(dict) == {}


# -- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [*NAMES, "decimal(18, 2)", "list[str]", "list[list[decimal(76, 0)]]"]
)
def test_options(text: str) -> None:
    assert shown(parse(text, "types.a")) == text
    assert parse(f" {text} ", "types.a") == parse(text, "types.a")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("string", "str"),
        ("flaot", "float"),
        ("int64", "int"),
        ("decimal", "decimal(digits, places)"),
        ("decimal(0, 0)", "1 to 76 digits"),
        ("decimal(77, 2)", "1 to 76 digits"),
        ("decimal(2, 3)", "not more places"),
        ("list[strr]", "str"),
        ("", "the types are"),
    ],
)
def test_options_that_are_none(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "types.price")
    assert str(caught.value).startswith("types.price: ")
    assert said in str(caught.value)
