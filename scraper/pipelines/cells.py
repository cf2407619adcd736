"""Cells: what the values of items are in a table, whichever database it is in.

A field's annotation says of which kind its column is; a value is brought into that kind's form
once, in the worker that has the item, as a JSON scalar. What does not fit is rejected as `schema`.
"""

from __future__ import annotations

import enum
import math
import re
import types
import typing
from base64 import b64encode
from collections.abc import Callable, Collection, Mapping
from dataclasses import is_dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import from_json

from scraper.records import encode

__all__ = ["FORMS", "Cell", "Form", "Kind", "Misfit", "kind_of", "snake"]

Kind = Literal["any", "blob", "bool", "date", "datetime", "decimal", "float", "int", "json", "text"]
"""`any`: nothing says it. Plain values: `blob` in base64, `date` and `datetime` in ISO 8601,
`decimal` as `str` has it, `json` as JSON text."""


class Cell(NamedTuple):
    """What a column takes. `size`: of an int in bits, of a text in characters, of a decimal in
    digits before its point; `scale`: digits after it; `octets`: of a text in UTF-8. 0: as many as
    come (ints: 64 bits)."""

    kind: Kind
    size: int = 0
    scale: int = 0
    octets: int = 0


class Misfit(ValueError):  # noqa: N818 - a signal
    """A value that its column cannot hold; the text says why."""


# Kinds ------------------------------------------------------------------------------------------

_CLASSES: tuple[tuple[type, Kind], ...] = (
    (bool, "bool"),
    (int, "int"),
    (float, "float"),
    (Decimal, "decimal"),
    (datetime, "datetime"),
    (date, "date"),
    (str, "text"),
    (bytes, "blob"),
    (bytearray, "blob"),
    (BaseModel, "json"),
    (Mapping, "json"),
    (Collection, "json"),
)
_AS_TEXT = {"datetime", "ipaddress", "pathlib", "pydantic", "pydantic_core", "re", "uuid"}
"""Modules whose types are a text in JSON, unless `_CLASSES` has them."""


def kind_of(hint: Any) -> Kind:
    """The kind of the column for values of this annotation; None among them does not count."""
    hint = _bare(hint)
    origin = get_origin(hint)
    if origin is Literal:
        return _common({kind_of(type(value)) for value in get_args(hint) if value is not None})
    if origin in (typing.Union, types.UnionType):
        return _common({kind_of(each) for each in get_args(hint) if each is not types.NoneType})
    cls = origin or hint
    if not isinstance(cls, type):
        return "any"
    if issubclass(cls, enum.Enum):
        return _common({kind_of(type(member.value)) for member in cls})
    for known, kind in _CLASSES:
        if issubclass(cls, known):
            return kind
    if is_dataclass(cls):
        return "json"
    if cls.__module__ == "pydantic.types" and cls.__name__.endswith(("Date", "Datetime")):
        return "date" if cls.__name__.endswith("Date") else "datetime"
    return "text" if _modules(cls) & _AS_TEXT else "any"


def _bare(hint: Any) -> Any:
    """*hint* without metadata and names of its own."""
    while True:
        if hasattr(hint, "__metadata__"):  # Annotated
            hint = hint.__origin__
        elif hasattr(hint, "__supertype__"):  # NewType
            hint = hint.__supertype__
        elif hasattr(hint, "__value__"):  # type X = …
            hint = hint.__value__
        elif isinstance(hint, typing.TypeVar) and hint.__bound__ is not None:
            hint = hint.__bound__
        else:
            return hint


def _common(kinds: set[Kind]) -> Kind:
    """What holds values of all *kinds*."""
    if kinds == {"int", "float"}:
        return "float"
    return kinds.pop() if len(kinds) == 1 else "any"


def _modules(cls: type) -> set[str]:
    return {base.__module__.partition(".")[0] for base in cls.__mro__}


# Values -----------------------------------------------------------------------------------------

_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


Form = Callable[[Any, "Cell"], Any]
"""Gives a value, which is not None, the plain form of a cell's kind. Raises `Misfit`.

NaN and infinities are None, NUL in text is U+FFFD: not every database has them.
"""


def _blob(value: Any, cell: Cell) -> str:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise Misfit("must be bytes")
    return b64encode(value).decode()


def _bool(value: Any, cell: Cell) -> bool:
    if value is True or value is False:
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise Misfit("must be true or false")


def _date(value: Any, cell: Cell) -> str:
    if isinstance(value, str):
        value = _read(date, value, "a date (2024-01-31)")
    if isinstance(value, datetime) or not isinstance(value, date):
        raise Misfit("must be a date")
    return value.isoformat()


def _datetime(value: Any, cell: Cell) -> str:
    if isinstance(value, str):
        value = _read(datetime, value, "a date with time (2024-01-31T23:59:59Z)")
    if not isinstance(value, datetime):
        raise Misfit("must be a date with time")
    text = value.isoformat()
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text  # as pydantic has it in JSON


def _read(cls: type[date], text: str, what: str) -> date:
    try:
        return cls.fromisoformat(text)
    except ValueError:
        raise Misfit(f"must be {what}") from None


def _decimal(value: Any, cell: Cell) -> str | None:
    if isinstance(value, float) and not isinstance(value, bool):
        value = repr(value)  # 0.1 is what was meant by it
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise Misfit("must be a number")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise Misfit("must be a number") from None
    if not number.is_finite():
        return None
    if number and (cell.size or cell.scale):
        _, digits, exponent = number.as_tuple()
        written = "".join(map(str, digits)).rstrip("0")
        after = -int(exponent) - (len(digits) - len(written))
        if number.adjusted() >= cell.size or after > cell.scale:
            raise Misfit(
                f"has more than {cell.size:,} digits before the point, or {cell.scale:,} after it"
            )
    return str(number)


def _float(value: Any, cell: Cell) -> float | None:
    if isinstance(value, bool) or not isinstance(value, float | int | Decimal):
        raise Misfit("must be a number")
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    try:
        number = float(value)
    except (OverflowError, ValueError):  # a signalling NaN cannot be converted
        number = math.nan
    if isinstance(value, int) and number != value:
        raise Misfit("is a whole number that a float cannot hold")
    return number if math.isfinite(number) else None


def _int(value: Any, cell: Cell) -> int:
    if isinstance(value, enum.Enum):
        value = value.value
    if not isinstance(value, int):
        raise Misfit("must be a whole number")
    bits = cell.size or 64
    if value.bit_length() >= bits and value != -(1 << (bits - 1)):
        raise Misfit(f"does not fit {bits} bits")
    return int(value)


def _json(value: Any, cell: Cell) -> str:
    text = encode({"": value})[4:-1].decode()
    return _NUL.sub(r"\1\\ufffd", text) if "\\u0000" in text else text


def _finite(value: float | Decimal) -> bool:
    return value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)


def _text(value: Any, cell: Cell) -> str | None:
    if type(value) is not str:
        if isinstance(value, float | Decimal) and not _finite(value):
            return None
        value = value.value if isinstance(value, enum.Enum) else value
        if not isinstance(value, str):
            value = _json(value, cell)
            if value[0] == '"':
                value = from_json(value)
        value = str.__str__(value)
    if "\0" in value:
        value = value.replace("\0", "\ufffd")
    if cell.size and len(value) > cell.size:
        raise Misfit(f"is longer than {cell.size:,} characters")
    if cell.octets and len(value.encode("utf-8", "replace")) > cell.octets:
        raise Misfit(f"is longer than {cell.octets:,} bytes")
    return value  # type: ignore[no-any-return]


def _any(value: Any, cell: Cell) -> Any:
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int):
        return _int(value, cell)
    if isinstance(value, float):
        return _float(value, cell)
    return _text(value, cell)


FORMS: Mapping[Kind, Form] = MappingProxyType({
    "any": _any,
    "blob": _blob,
    "bool": _bool,
    "date": _date,
    "datetime": _datetime,
    "decimal": _decimal,
    "float": _float,
    "int": _int,
    "json": _json,
    "text": _text,
})

# Names ------------------------------------------------------------------------------------------

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def snake(name: str) -> str:
    """The name of a class as tables have it: `BookReview` → `book_review`."""
    return _WORD.sub("_", name).lower()
