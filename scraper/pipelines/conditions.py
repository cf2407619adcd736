"""Conditions on an item's fields, as a table of the configuration writes them.

What stands in the table is compared in the value's own type: `max = "9.99"` with a Decimal as a
decimal, `min = "2024-01-01"` with a date as a date. What has no common type is an error, not false.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from scraper.errors import ConfigError
from scraper.mistakes import dotted, nearest, shown

__all__ = ["Condition", "IncomparableError", "read_conditions"]

ORDER: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType({
    "min": operator.ge,
    "max": operator.le,
    "above": operator.gt,
    "below": operator.lt,
})
OPERATORS = ("equals", "one_of", "none_of", *ORDER, "matches", "present")

_MANY = (list, tuple, set, frozenset)
_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "true or false"),
    ((int, float, Decimal), "a number"),
    (str, "text"),
    (datetime, "a date and time"),
    (date, "a date"),
    (time, "a time"),
)
_NO_TEXT = (bytes, bytearray, timedelta, complex, Mapping, BaseModel)


class IncomparableError(TypeError):
    """A value and what it is to be compared with have no common type, or a field is not there."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What is asked of one field; what is not asked is met. `path`: the steps of its dotted name.

    `one_of` is `equals`, too, with one value; `asked_as`: which of them the table has.

    A list stands for its entries: one entry that meets everything else is enough, and none may be
    among `none_of`. None and NaN are no values: of a field without one only `none_of` and
    `present = false` are met. `present` also wants text that is not blank.
    """

    field: str
    path: tuple[str, ...]
    asked_as: str = "equals"
    present: bool | None = None
    one_of: tuple[Any, ...] = ()
    none_of: tuple[Any, ...] = ()
    order: tuple[tuple[str, Any], ...] = ()
    matches: re.Pattern[str] | None = None

    def met_by(self, item: Any) -> bool:
        """Whether *item* meets it. Raises `IncomparableError`."""
        values = list(_reach(item, self.path))
        if self.present is not None and any(map(_filled, values)) is not self.present:
            return False
        if self.none_of and any(self._among(v, "none_of", self.none_of) for v in values):
            return False
        if not (self.one_of or self.order or self.matches):
            return True
        return any(map(self._fits, values))

    def _fits(self, value: Any) -> bool:
        if self.one_of and not self._among(value, self.asked_as, self.one_of):
            return False
        for name, bound in self.order:
            mine, theirs = self._pair(value, name, bound)
            if not ORDER[name](mine, theirs):
                return False
        return self.matches is None or self.matches.search(self._text(value)) is not None

    def _among(self, value: Any, name: str, others: tuple[Any, ...]) -> bool:
        return any(operator.eq(*self._pair(value, name, other)) for other in others)

    def _pair(self, value: Any, name: str, other: Any) -> tuple[Any, Any]:
        try:
            return _in_its_type(value, other)
        except (TypeError, ValueError, InvalidOperation) as error:
            raise IncomparableError(
                f"{self.field} = {_shown(value, self.field)} is {_kind(value)}, and"
                f" {name} = {shown(other, self.field)} cannot be compared with that"
            ) from error

    def _text(self, value: Any) -> str:
        text = _as_text(_plain(value))
        if text is None:
            raise IncomparableError(
                f"{self.field} = {_shown(value, self.field)} is {_kind(value)}, and"
                " matches is for text"
            )
        return text


# Values -----------------------------------------------------------------------------------------


def _reach(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """The values at the end of *path*, through lists; what is not there is left out."""
    if isinstance(value, _MANY):
        for entry in value:
            yield from _reach(entry, path)
    elif path:
        if value is not None:
            yield from _reach(_field(value, path[0]), path[1:])
    elif value is not None and not _is_nan(value):
        yield value


def _is_nan(value: Any) -> bool:
    if isinstance(value, float):
        return math.isnan(value)
    return isinstance(value, Decimal) and value.is_nan()


def _field(holder: Any, name: str) -> Any:
    """The field *name*; None where a mapping has none. Raises where there can be none."""
    if isinstance(holder, Mapping):
        return holder.get(name)
    kind, names = type(holder), []
    if isinstance(holder, BaseModel):
        names = [*kind.model_fields, *kind.model_computed_fields]
        if name not in names and holder.model_extra is not None:
            return holder.model_extra.get(name)
    elif is_dataclass(holder):
        names = [field.name for field in fields(holder)]
    if name in names or isinstance(getattr(kind, name, None), property):
        return getattr(holder, name, None)
    near = nearest(name, names)
    raise IncomparableError(
        f"{kind.__name__} has no field {name!r}"
        + (f"; {near}" if near else "")
        + ("; items = [...] limits a stage to some types of items" if names else "")
    )


def _filled(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return not isinstance(value, Mapping) or bool(value)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _kind(value: Any) -> str:
    found = (name for kinds, name in _KINDS if isinstance(_plain(value), kinds))
    return next(found, f"of type {type(value).__name__}")


def _shown(value: Any, field: str) -> str:
    value = _plain(value)
    told = shown(value, field)
    return told.strip('"') if isinstance(value, Decimal) else told


def _as_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, *_NO_TEXT)) or is_dataclass(value):
        return None
    return str(value)


def _in_its_type(value: Any, other: Any) -> tuple[Any, Any]:
    """*value* and *other*, so that Python compares them exactly. Raises what conversions raise."""
    value = _plain(value)
    if isinstance(value, bool) or isinstance(other, bool):
        return _both(bool, value, other)
    if isinstance(value, (int, float, Decimal)):
        return value, _number(value, other)
    if isinstance(value, date | time):
        return _dates(value, other)
    text = _as_text(value)
    if text is None:
        raise TypeError
    return _both(str, text, other)


def _both(kind: type, value: Any, other: Any) -> tuple[Any, Any]:
    if not (isinstance(value, kind) and isinstance(other, kind)):
        raise TypeError
    return value, other


def _number(value: float | Decimal, other: Any) -> float | Decimal:
    if isinstance(other, int):
        return other
    if isinstance(other, float | Decimal | str):
        return float(other) if isinstance(value, float) else Decimal(str(other))
    raise TypeError


def _dates(value: Any, other: Any) -> tuple[Any, Any]:
    """Moments, days and times of day. A moment is compared with a day by the day that it is on."""
    if isinstance(other, str):
        other = _read_date(value, other.strip())
    if isinstance(value, datetime) and isinstance(other, date) and not isinstance(other, datetime):
        return value.date(), other
    kind = next(kind for kind in (datetime, date, time) if isinstance(value, kind))
    if kind is date and isinstance(other, datetime):
        raise TypeError
    _both(kind, value, other)
    if kind is not date and (value.utcoffset() is None) is not (other.utcoffset() is None):
        raise TypeError  # one has an offset from UTC, the other does not say
    return value, other


def _read_date(value: date | time, text: str) -> date | time:
    """ISO 8601 text as the type of *value*; as a day, where that says no more."""
    if isinstance(value, time):
        return time.fromisoformat(text)
    if not isinstance(value, datetime):
        return date.fromisoformat(text)
    try:
        return date.fromisoformat(text)
    except ValueError:
        return datetime.fromisoformat(text)


# The table --------------------------------------------------------------------------------------


def read_conditions(where: Any) -> tuple[Condition, ...]:
    """The conditions of the table *where*: by field, a value or a table of operators.

    Raises `ConfigError` for whatever cannot be meant.
    """
    if not isinstance(where, Mapping) or not where:
        raise ConfigError(
            f"where = {shown(where, 'where')}: must be a table of fields and what they must be",
            hint="As in where = { stock = { min = 1 } }.",
        )
    return tuple(_condition(str(field), asked) for field, asked in where.items())


def _condition(field: str, asked: Any) -> Condition:
    path = tuple(field.split("."))
    if "" in path:
        raise ConfigError(f"{dotted(('where', field))}: a field's name is empty")
    if not isinstance(asked, Mapping):
        asked = {"equals": asked}
    if not asked:
        raise _wrong((field,), asked, f"asks for nothing: use {', '.join(OPERATORS)}")
    for name in asked:
        if name not in OPERATORS:
            near = nearest(name, OPERATORS) or f"there are {', '.join(OPERATORS)}"
            raise ConfigError(
                f"{dotted(('where', field))}: there is no condition {name!r}; {near}",
                hint=f'A field in a field is written with quotes: "{field}.{name}" = …',
            )
    if "equals" in asked and "one_of" in asked:
        raise _wrong((field,), asked, "equals and one_of say the same: use one of them")
    order = tuple((name, _bound(field, name, asked[name])) for name in ORDER if name in asked)
    _possible(field, dict(order))
    one_of = [asked["equals"]] if "equals" in asked else asked.get("one_of")
    asked_as = "equals" if "equals" in asked else "one_of"
    return Condition(
        field,
        path,
        asked_as,
        present=_flag(field, asked["present"]) if "present" in asked else None,
        one_of=_choices(field, asked_as, one_of),
        none_of=_choices(field, "none_of", asked.get("none_of")),
        order=order,
        matches=_pattern(field, asked["matches"]) if "matches" in asked else None,
    )


def _wrong(key: tuple[str, ...], value: Any, says: str, hint: str = "") -> ConfigError:
    return ConfigError(f"{dotted(('where', *key))} = {shown(value, key)}: {says}", hint=hint)


def _scalar(key: tuple[str, ...], value: Any) -> Any:
    if isinstance(value, (bool, int, float, Decimal, str, date, time)) and not _is_nan(value):
        return value
    way = 'Several: { one_of = ["a", "b"] }.' if isinstance(value, list) else ""
    raise _wrong(key, value, "must be text, a number, true or false, a date or a time", way)


def _bound(field: str, name: str, value: Any) -> Any:
    if isinstance(value, bool):
        raise _wrong((field, name), value, "must be text, a number, a date or a time")
    return _scalar((field, name), value)


def _possible(field: str, order: Mapping[str, Any]) -> None:
    least, most = order.get("min"), order.get("max")
    if least is None or most is None:
        return
    try:
        mine, theirs = _in_its_type(least, most)
    except (TypeError, ValueError, InvalidOperation):
        if isinstance(least, str) or isinstance(most, str):
            return  # a date or a number as text: the value's type will tell
        raise _wrong((field, "min"), least, f"is {_kind(least)}, and max {_kind(most)}") from None
    if mine > theirs and not isinstance(least, str):
        raise _wrong((field, "min"), least, f"is more than max = {shown(most, field)}")


def _choices(field: str, name: str, values: Any) -> tuple[Any, ...]:
    if values is None:
        return ()
    if not isinstance(values, list | tuple) or not values:
        raise _wrong((field, name), values, "must be a list with something in it")
    key = (field,) if name == "equals" else (field, name)
    found = tuple(_scalar(key, value) for value in values)
    kinds = dict.fromkeys(map(_kind, found))
    if len(kinds) > 1:
        raise _wrong(key, values, f"is a mixture: {' and '.join(kinds)}")
    return found


def _flag(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong((field, "present"), value, "must be true or false")
    return value


def _pattern(field: str, value: Any) -> re.Pattern[str]:
    if not isinstance(value, str):
        raise _wrong((field, "matches"), value, "must be a regular expression, as text")
    try:
        return re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        raise _wrong(
            (field, "matches"),
            value,
            f"is no regular expression: {error}",
            "Single quotes leave backslashes alone: '\\d+'.",
        ) from None
