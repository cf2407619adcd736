"""Numbers and quantities in a page's text."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from scraper.errors import UsageError
from scraper.numerals import Mark, Numeral, numerals, plain

__all__ = ["DecimalMark", "Integer", "Marked", "Number", "Quantity", "mark_of", "value_schema"]


class Marked(str):
    """Text whose decimal mark is known."""

    __slots__ = ("mark",)

    mark: Mark


@dataclass(frozen=True, slots=True)
class DecimalMark:
    """The decimal mark of a site, where numbers alone do not tell.

    `Annotated[Number, Css(".n"), DecimalMark(",")]` reads "1.234" as 1234 and "1,234" as 1.234.
    For `Amount`, `Price`, `Number`, `Integer` and `Quantity`.
    """

    mark: Mark

    def __post_init__(self) -> None:
        if self.mark not in {".", ","}:
            raise UsageError(f"DecimalMark({self.mark!r}): it is '.' or ','")

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._put, handler(source))

    def _put(self, value: Any) -> Any:
        if isinstance(value, str):
            value = Marked(value)
            value.mark = self.mark
        return value


def mark_of(value: str) -> Mark | None:
    return value.mark if isinstance(value, Marked) else None


def first_number(value: str, unclear: str) -> Numeral:
    """The first number that stands by itself; else the first at all ("A4")."""
    text = plain(value)
    found = list(numerals(text, mark=mark_of(value), unclear=unclear))
    for numeral in found:
        if not text[: numeral.start][-1:].isalpha():
            return numeral
    if found:
        return found[0]
    raise PydanticCustomError("no_number", "no number in it that is clear")


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return _float(first_number(value, unclear="."))


def _float(number: Numeral) -> float:
    value = float(number.value)
    if math.isinf(value):
        raise PydanticCustomError("no_number", "the number in it is too large")
    return value


def _integer(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    number = first_number(value, unclear="").value
    if number != number.to_integral_value():
        raise PydanticCustomError("no_integer", "the number in it is no whole number")
    return int(number)


Number = Annotated[float, BeforeValidator(_number)]
"""The first number of a text: "1,234 reviews", "4.5 out of 5", "12 345", "1.2k", "−3 °C".

A single dot is a decimal mark ("1.234" is 1.234), a single comma before three digits groups
thousands; `DecimalMark` says otherwise. k, M, B and bn directly behind it multiply.
"""

Integer = Annotated[int, BeforeValidator(_integer)]
"""As `Number`, for whole numbers: a single mark before three digits groups ("1.234" is 1234)."""


def value_schema(kind: type, **fields: CoreSchema) -> CoreSchema:
    """The schema of a small dataclass.

    Without a name to be referred to by: pydantic would use the reference, in a list or where the
    type occurs again, instead of what the dataclass's own schema puts around it.
    """
    return core_schema.dataclass_schema(
        kind,
        core_schema.dataclass_args_schema(
            kind.__name__,
            [core_schema.dataclass_field(name, schema) for name, schema in fields.items()],
        ),
        list(fields),
        frozen=True,
        slots=True,
    )


_UNIT = re.compile(r"\s?(°\s?[CFK]?|[%‰\"″'′]|[µμ]?[^\W\d_]+[²³]?(?:/[^\W\d_]+[²³]?)?)")
_TIMES = re.compile(r"\s?(?:[x×*✕])\s?(?=[\d.,])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its unit: "1.5 kg", "16 GB", "20 °C".

    `unit` is as the page writes it, "" without one. Of lengths ("180 × 60 cm") the first is meant,
    with the unit of the last; other products ("2 x 500 ml") are an error. JSON:
    `{"value": 1.5, "unit": "kg"}`. Separators are read as by `Number`.
    """

    value: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}".rstrip()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            _quantity,
            value_schema(
                cls,
                value=core_schema.float_schema(),
                unit=core_schema.with_default_schema(core_schema.str_schema(), default=""),
            ),
        )


def _quantity(value: Any) -> Any:
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return {"value": value}
    if not isinstance(value, str):
        return value
    text = plain(value)
    # A letter behind a number is its unit here: "16 M", "5k" are no multiples.
    spaced = re.sub(r"(?<=\d)(?=[kKMB])", "\u200b", text)
    number = first_number(_like(value, spaced), unclear=".")
    rest, several = spaced[number.end :].lstrip("\u200b"), False
    while (times := _TIMES.match(rest)) is not None:
        following = next(numerals(rest[times.end() :], mark=mark_of(value), unclear="."), None)
        if following is None or following.start:
            break
        rest, several = rest[times.end() + following.end :].lstrip("\u200b"), True
    unit = _UNIT.match(rest)
    if several and (unit is None or unit[1].lower() not in _LENGTHS):
        raise PydanticCustomError("unclear_quantity", "several numbers in it: re= says which")
    return {"value": _float(number), "unit": unit[1] if unit else ""}


_LENGTHS = frozenset({
    *("mm", "cm", "dm", "m", "km", "in", "inch", "inches", "ft", "yd", "px", "pt"),
    *('"', "″", "'", "′", "мм", "см", "м"),
})


def _like(value: str, text: str) -> str:
    if isinstance(value, Marked):
        marked = Marked(text)
        marked.mark = value.mark
        return marked
    return text
