"""Cells: the values of a row, as they are kept until a file of columns is made of many rows.

A row is a line of JSON, an array of cells. A cell is what JSON can hold exactly: days and
microseconds since 1970 are numbers, bytes are base64, decimals are strings. Whatever becomes a
cell fits its column's type: what does not is found out here, while the page can say so.

Columns of which nothing is known take all values. Then a cell says what it is: the row begins with
the *kinds* of these cells, from which the column's type is made at the end.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow
from enum import Enum
from functools import partial, reduce
from types import MappingProxyType
from typing import Any

import pydantic_core
from pydantic import BaseModel
from pydantic_core import SchemaValidator, core_schema

from scraper import urls
from scraper.pipelines.celltypes import Column, Type, shown
from scraper.records import record

__all__ = ["MisfitError", "Rows", "join", "restorer", "type_of"]

Encoder = Callable[[Any], Any]

_LEAST, _MOST = -(2**63), 2**63 - 1
_EXACT = 2**53  # whole numbers up to here are floats, too
_DEEPEST = 16  # lists within lists whose kinds are told apart
_FAILURES = (ValueError, TypeError, ArithmeticError, RecursionError, AttributeError)

_DAY = date(1970, 1, 1).toordinal()
_NAIVE = datetime(1970, 1, 1)  # noqa: DTZ001 - for those that are naive themselves
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST, _LAST = datetime.min - _NAIVE, datetime.max - _NAIVE  # noqa: DTZ901

_LAX: Mapping[type, Callable[[Any], Any]] = MappingProxyType({
    int: SchemaValidator(core_schema.int_schema()).validate_python,
    float: SchemaValidator(core_schema.float_schema()).validate_python,
    bool: SchemaValidator(core_schema.bool_schema()).validate_python,
    bytes: SchemaValidator(core_schema.bytes_schema()).validate_python,
    date: SchemaValidator(core_schema.date_schema()).validate_python,
    time: SchemaValidator(core_schema.time_schema()).validate_python,
    datetime: SchemaValidator(core_schema.datetime_schema()).validate_python,
    Decimal: SchemaValidator(core_schema.decimal_schema()).validate_python,
})
"""How pydantic takes a value that is of another type, such as "12.50" for a number."""


class MisfitError(ValueError):
    """A *value* that does not fit the column *name*."""

    def __init__(self, name: str, message: str, value: Any) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message
        self.value = value


class Rows:
    """The rows of a file: each made into a line, and lines into columns of cells.

    `kinds`: in so many columns, of which nothing is known, cells say what kind they are.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self._unknown = [n for n, column in enumerate(columns) if column.type == "any"]
        self._encoders = [encoder(column) for column in columns]
        self.kinds = len(self._unknown)

    def line(self, values: Sequence[Any]) -> bytes:
        """The row of *values*, with its newline. Raises `MisfitError`."""
        try:
            cells = [encode(value) for encode, value in zip(self._encoders, values, strict=True)]
        except _FAILURES:
            raise self._misfit(values) from None
        if self._unknown:
            kinds = [cells[place][0] for place in self._unknown]
            for place in self._unknown:
                cells[place] = cells[place][1]
            cells.insert(0, ",".join(kinds))
        try:
            return pydantic_core.to_json(cells, inf_nan_mode="constants") + b"\n"
        except ValueError:  # a lone surrogate
            return pydantic_core.to_json(_clean(cells), inf_nan_mode="constants") + b"\n"

    def _misfit(self, values: Sequence[Any]) -> MisfitError:
        for column, encode, value in zip(self.columns, self._encoders, values, strict=True):
            try:
                encode(value)
            except pydantic_core.ValidationError as error:
                why = error.errors(include_url=False)[0]["msg"]
            except _FAILURES as error:
                why = str(error)
            else:
                continue
            kind = "values of any type" if column.type == "any" else shown(column.type)
            return MisfitError(column.name, f"the column takes {kind}: {why}", value)
        return MisfitError("", "a value changed while it was looked at", None)

    def kinds_of(self, lines: Sequence[bytes], known: Sequence[str] = ()) -> list[str]:
        """The kinds of the columns of which nothing is known: of *known* rows, and of *lines*."""
        found = list(known) or ["n"] * self.kinds
        if not self.kinds:
            return found
        for text in {line[2 : line.index(b'"', 2)] for line in lines}:
            found = list(map(join, found, text.decode().split(",")))
        return found

    def known_as(self, kinds: Sequence[str]) -> list[Column]:
        """The columns, once all rows have been seen to have *kinds*."""
        types = iter(map(type_of, kinds))
        return [c._replace(type=next(types)) if c.type == "any" else c for c in self.columns]

    def cells(self, lines: Sequence[bytes], columns: Sequence[Column]) -> list[Sequence[Any]]:
        """The cells of *lines* (one at least), by columns, which are as `known_as` gives them."""
        rows = pydantic_core.from_json(b"[" + b",".join(lines) + b"]", cache_strings="keys")
        found: list[Sequence[Any]] = list(zip(*rows, strict=True))
        if self._unknown:
            del found[0]
            for place in self._unknown:
                found[place] = list(map(restorer(columns[place].type), found[place]))
        return found


def _clean(value: Any) -> Any:
    """*value* with U+FFFD for lone surrogates, everywhere in it."""
    if isinstance(value, str):
        return urls.scalar(value)
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    if isinstance(value, dict):
        return {urls.scalar(key): _clean(inner) for key, inner in value.items()}
    return value


# Columns whose type is known ----------------------------------------------------------------------


def encoder(column: Column) -> Encoder:
    """What makes a cell of a value of *column*; for "any", its kind and its cell.

    Raises one of several errors for a value that does not fit.
    """
    kind = column.type
    if kind == "any":
        return infer
    encode, nullable = _encoder(kind), column.nullable
    plain = _PLAIN.get(kind, _Other) if isinstance(kind, str) else _Other

    def of_column(value: Any) -> Any:
        if type(value) is plain:
            return value
        if value is None:
            if nullable:
                return None
            raise ValueError("it takes no None")
        return encode(value)

    return of_column


class _Other:
    """The type of no value."""


_PLAIN: Mapping[str, type] = MappingProxyType({"str": str, "float": float, "bool": bool})
"""Values of these types are their own cells."""


def _encoder(kind: Type) -> Encoder:
    if isinstance(kind, str):
        return _ENCODERS[kind]
    if kind[0] == "decimal":
        context = Context(prec=kind[1], traps=[Inexact, InvalidOperation, Overflow])
        return partial(_decimal, Decimal(1).scaleb(-kind[2]), context)
    if kind[0] == "list":
        plain = _PLAIN.get(kind[1], _Other) if isinstance(kind[1], str) else _Other
        return partial(_list, encoder(Column("", kind[1])), {plain})
    return partial(_struct, {name: encoder(Column(name, inner)) for name, inner in kind[1]})


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _str(value: Any) -> str:
    if type(value) is str:
        return value
    if type(value) is Decimal:
        return str(value)
    value = _plain(value)
    if isinstance(value, str):
        return str.__str__(value)
    if _is_container(value):
        raise ValueError("it is no single value")
    text = _json(value)
    return pydantic_core.from_json(text) if text[0] == '"' else text


def _int(value: Any) -> int:
    if type(value) is not int:
        value = _LAX[int](_plain(value))
    if not _LEAST <= value <= _MOST:
        raise ValueError("it has more than 64 bits")
    return int(value)


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    value = _plain(value)
    found = float(_LAX[float](value))
    if isinstance(value, int) and int(found) != value:
        raise ValueError("it would be rounded")
    return found


def _bool(value: Any) -> bool:
    return value if type(value) is bool else bool(_LAX[bool](_plain(value)))


def _bytes(value: Any) -> str:
    if not isinstance(value, bytes | bytearray):
        value = _LAX[bytes](_plain(value))
    return b64encode(value).decode()


def _date(value: Any) -> int:
    if type(value) is not date:
        value = _LAX[date](value)
    return int(value.toordinal()) - _DAY


def _time(value: Any) -> int:
    if type(value) is not time:
        value = _LAX[time](value)
    if value.tzinfo is not None:
        raise ValueError("it has a time zone")
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return int(seconds * 1_000_000 + value.microsecond)


def _datetime(value: Any) -> int:
    if type(value) is not datetime:
        value = _LAX[datetime](value)
    since = value - (_NAIVE if value.utcoffset() is None else _EPOCH)
    if not _FIRST <= since <= _LAST:
        raise ValueError("it is not in the years 1 to 9999 of UTC")
    return int(since // _MICROSECOND)


def _naive_datetime(value: Any) -> int:
    if type(value) is not datetime:
        value = _LAX[datetime](value)
    if value.utcoffset() is not None:
        raise ValueError("it has a time zone")
    return int((value.replace(tzinfo=None) - _NAIVE) // _MICROSECOND)


def _decimal(unit: Decimal, context: Context, value: Any) -> str:
    value = _plain(value)
    if type(value) is not Decimal:
        value = _LAX[Decimal](value)
    try:
        found = value.quantize(unit, context=context)
    except DecimalException:
        raise ValueError("it has more digits") from None
    if not found.is_finite():
        raise ValueError("it is no number")
    return f"{found:f}"


def _list(encode: Encoder, plain: set[type], value: Any) -> list[Any]:
    if type(value) is list and set(map(type, value)) == plain:
        return value
    if isinstance(value, str | bytes | bytearray | Mapping):
        raise TypeError("it is no list")
    return [encode(inner) for inner in value]


def _struct(encoders: Mapping[str, Encoder], value: Any) -> list[Any]:
    if not _is_container(value) or isinstance(value, _LISTS):
        raise TypeError("it is no object")
    values = value if isinstance(value, Mapping) else record(value)
    if unknown := values.keys() - encoders.keys():
        raise ValueError(f"it has {', '.join(sorted(map(repr, unknown)))}, too")
    return [encode(values.get(name)) for name, encode in encoders.items()]


def _json(value: Any) -> str:
    """*value* as JSON, in the forms that JSON lines have: see `records.encode`."""
    try:
        return pydantic_core.to_json(value, inf_nan_mode="null").decode()
    except ValueError:  # a lone surrogate, bytes that are no UTF-8
        natural = pydantic_core.to_jsonable_python(value, inf_nan_mode="null", bytes_mode="base64")
        return pydantic_core.to_json(_clean(natural), inf_nan_mode="null").decode()


_ENCODERS: Mapping[str, Encoder] = MappingProxyType({
    "str": _str,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "bytes": _bytes,
    "date": _date,
    "time": _time,
    "datetime": _datetime,
    "naive_datetime": _naive_datetime,
    "json": _json,
})

# Columns of which nothing is known ----------------------------------------------------------------

_TYPES: Mapping[str, Type] = MappingProxyType({
    "n": "str",  # nothing but None
    "s": "str",
    "x": "str",  # single values of several kinds
    "b": "bool",
    "i": "int",  # small enough to be floats
    "l": "int",  # long ones
    "f": "float",
    "y": "bytes",
    "d": "date",
    "c": "time",  # of the clock
    "t": "datetime",
    "u": "naive_datetime",
    "j": "json",
})
"""The kinds of values, each a letter, and the type of a column that has no others.

A list is "[" and the kind of what it holds.
"""

_LISTS = (list, tuple, set, frozenset)
_CONTAINERS = (*_LISTS, Mapping, BaseModel)
_NATURAL: Mapping[type, str] = MappingProxyType({bool: "b", float: "f", str: "s"})


def join(one: str, other: str) -> str:
    """The kind of a column that has values of both kinds. Associative and commutative."""
    if one == other or other == "n":
        return one
    if one == "n":
        return other
    if one[0] == other[0] == "[":
        return "[" + join(one[1:], other[1:])
    both = {one, other}
    if "j" in both or "[" in (one[0], other[0]):
        return "j"
    if both == {"i", "l"}:
        return "l"
    return "f" if both == {"i", "f"} else "x"


def type_of(kind: str) -> Type:
    """The type of a column whose values are all of *kind*."""
    return ["list", type_of(kind[1:])] if kind[0] == "[" else _TYPES[kind]


def infer(value: Any, depth: int = 0) -> tuple[str, Any]:
    """The kind of *value*, and its cell: as it is in JSON, or an object that names its kind."""
    if value is None:
        return "n", None
    if natural := _NATURAL.get(type(value)):
        return natural, value
    if type(value) is Decimal:
        return "s", str(value)
    if isinstance(value, int) and _LEAST <= value <= _MOST:
        return ("i" if -_EXACT <= value <= _EXACT else "l"), int(value)
    if isinstance(value, datetime):
        kind = "u" if value.utcoffset() is None else "t"
        return kind, {kind: _datetime(value)}
    if isinstance(value, date):
        return "d", {"d": _date(value)}
    if isinstance(value, time) and value.tzinfo is None:
        return "c", {"c": _time(value)}
    if isinstance(value, bytes | bytearray):
        return "y", {"y": _bytes(value)}
    if isinstance(value, _LISTS) and depth < _DEEPEST:
        inner = [infer(each, depth + 1) for each in value]
        return "[" + reduce(join, (kind for kind, _ in inner), "n"), [cell for _, cell in inner]
    if isinstance(value, Enum):
        return infer(value.value, depth)
    if _is_container(value):
        return "j", {"j": _json(value)}
    text = _json(value)
    return ("s", _str(value)) if text[0] == '"' else ("x", {"x": text})


def _is_container(value: Any) -> bool:
    return isinstance(value, _CONTAINERS) or is_dataclass(value)


def restorer(kind: Type) -> Encoder:
    """What makes a cell of type *kind* of one that `infer` gave."""
    if kind == "str":
        return _text_of
    if kind == "json":
        return lambda cell: None if cell is None else _json_of(cell)
    if kind[0] == "list":
        inner = restorer(kind[1])
        return lambda cells: None if cells is None else [inner(cell) for cell in cells]
    if kind in ("int", "float", "bool"):
        return lambda cell: cell
    return lambda cell: None if cell is None else next(iter(cell.values()))


def _text_of(cell: Any) -> Any:
    if cell is None or type(cell) is str:
        return cell
    if isinstance(cell, dict):
        ((kind, told),) = cell.items()
        return _SPELT[kind](told)
    return pydantic_core.to_json(cell, inf_nan_mode="constants").decode()


def _json_of(cell: Any) -> str:
    if isinstance(cell, list):
        return "[" + ",".join(map(_json_of, cell)) + "]"
    if isinstance(cell, dict):
        ((kind, told),) = cell.items()
        text = _SPELT[kind](told)
        return text if kind in "jx" else pydantic_core.to_json(text).decode()
    return pydantic_core.to_json(cell, inf_nan_mode="null").decode()


_iso: Callable[[Any], str] = pydantic_core.to_jsonable_python  # of dates and times
_SPELT: Mapping[str, Callable[[Any], str]] = MappingProxyType({
    "t": lambda told: _iso(_EPOCH + told * _MICROSECOND),
    "u": lambda told: _iso(_NAIVE + told * _MICROSECOND),
    "d": lambda told: _iso(date.fromordinal(_DAY + told)),
    "c": lambda told: _iso((_NAIVE + told * _MICROSECOND).time()),
    "y": lambda told: _str(b64decode(told)),
    "j": str,
    "x": str,
})
"""Cells that say what they are, as text."""
