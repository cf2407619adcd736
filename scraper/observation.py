"""Observations: what is to be known of an item once it is gone. A few microseconds each.

Taken in the worker, where the item is, and counted where it is known whether it is delivered
(`scraper.quality`). None of it holds on to the item, and each is small whatever the item holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from itertools import islice
from math import copysign, inf
from sys import float_info
from typing import Any, NamedTuple

from scraper import urls

__all__ = ["DUPLICATE", "NAME", "Lost", "Observation", "Sized", "lost", "observe"]

MOST = 100
"""Fields of one item, and values within one, that are looked at."""

NAME, TEXT = 100, 64
"""Characters of a name or message; of a text that is kept; of a mark, twice that."""

DUPLICATE = "duplicate"
"""Why an item is dropped that was delivered before."""

LARGE = 1 << 53
"""Integers beyond it are kept as floats, as most readers of JSON do."""


Sized = tuple[str, int, str | None]
"""What is left of a value that is not kept: its kind, its size, and what tells it apart."""

Observation = tuple[str, tuple[str, ...], tuple[Any, ...]]
"""An item that reached the end of the chain: its type, the names of its fields, their values.

None, flags, numbers, dates and short texts stand there as they are, all else as `Sized`; None for
an empty list or object. Plain tuples of plain values: the garbage collector soon lets go of them,
and there may be ten thousand on a page.
"""


class Lost(NamedTuple):
    """An item that did not. `reason`: a code of `errors.REASONS`, or what `Drop` was given.

    `fields`: (name, message) of each that was at fault.
    """

    item: str
    reason: str
    rejected: bool = True
    fields: tuple[tuple[str, str], ...] = ()


def observe(item: Any) -> Observation:
    """What is to be known of *item*: a model, a mapping or a dataclass. Never raises."""
    kind = type(item)
    try:
        values = item if kind is dict else _fields_of(item)
    except Exception:  # noqa: BLE001 - a mapping's own methods may do anything
        values = {}
    names = tuple(values)
    if not (hasattr(kind, "__pydantic_fields__") or _are_names(names)):
        values = {_name(name): value for name, value in values.items()}
        names = tuple(values)
    if len(names) > MOST:
        values = dict(islice(values.items(), MOST))
        names = tuple(values)
    return (
        kind.__name__,
        names,
        tuple([
            v
            if (t := type(v)) in _KEPT
            or (t is str and len(v) <= TEXT)
            or (t is int and -LARGE < v < LARGE)
            else _reduced(v)
            for v in values.values()
        ]),
    )


def lost(
    item: str, reason: str, errors: Iterable[Mapping[str, Any]] = (), *, rejected: bool = True
) -> Lost:
    """An item that was rejected (or, with *rejected* false, dropped) for *reason*.

    *errors*: dicts with `field` and `message`. What is wrong within a field counts for the field.
    """
    found: dict[str, str] = {}
    for error in islice(errors, MOST):
        name = _name(error["field"]).partition(".")[0]
        if name and name != item:  # errors of the model as a whole bear its name
            found.setdefault(name, _name(error["message"]))
    return Lost(_name(item), _name(reason), rejected, tuple(found.items()))


_KEPT = frozenset({type(None), bool, float, date, datetime})
_STR = frozenset({str})
_TOLD = _KEPT | {int, str, Decimal}


def _are_names(names: tuple[object, ...]) -> bool:
    """Whether all of *names* can stay as they are; short ones are looked at together."""
    if _STR.issuperset(map(type, names)):
        text = "".join(names)  # type: ignore[arg-type]
        if len(text) <= NAME:
            return text.isprintable()
    return all(map(_is_name, names))


def _is_name(name: object) -> bool:
    return type(name) is str and len(name) <= NAME and name.isprintable()


def _name(name: object) -> str:
    """*name* on one line, and as all outputs can hold it."""
    try:
        text = str.__str__(name) if isinstance(name, str) else str(name)
    except Exception:  # noqa: BLE001 - a key's own __str__ may do anything
        text = type(name).__name__
    return text if _is_name(text) else urls.scalar(" ".join(text[: 2 * NAME].split())[:NAME])


def _fields_of(item: Any) -> Mapping[Any, Any]:
    """The values of a model, a mapping or a dataclass, by name."""
    values: Any = getattr(item, "__dict__", None)
    if hasattr(item, "__pydantic_extra__"):
        extra = item.__pydantic_extra__
        return {**values, **extra} if extra else values
    if isinstance(item, Mapping):
        return dict(item)
    if values is None:
        return {f.name: getattr(item, f.name, None) for f in fields(item)}
    return values  # type: ignore[no-any-return]


# Values that are not kept -----------------------------------------------------------------------


def _reduced(value: Any) -> Any:
    """A small stand-in for *value*; None if it is empty."""
    try:
        way = _WAYS.get(type(value))
        return way(value) if way is not None else _stand_in(value)
    except Exception:  # noqa: BLE001 - a value's own methods may do anything
        return ("object", 1, None)


def _stand_in(value: Any) -> Any:
    """A value of a class that derives from a known one, or that is like one."""
    if isinstance(value, Enum):
        inner = value.value
        return inner if type(inner) in _KEPT else _reduced(inner)
    if isinstance(value, str):
        return _long(str.__str__(value))
    if isinstance(value, int):
        return _integer(int(value))
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, bytes | bytearray):
        return ("bytes", len(value), value[: 2 * TEXT].hex()) if value else None
    if isinstance(value, date):
        plain = datetime if isinstance(value, datetime) else date
        return plain.fromisoformat(value.isoformat())
    if (text := _text_of(value)) is not None:
        return _long(text)
    if isinstance(value, Mapping):
        return _object(list(islice(value.values(), MOST)), len(value)) if value else None
    if isinstance(value, Sequence | AbstractSet):
        return _list(value)
    if is_dataclass(value) or hasattr(value, "__pydantic_fields__"):
        within = [v for v in _fields_of(value).values() if not _is_empty(v)]
        return _object(within, len(within)) if within else None
    return ("object", 1, None)


def _long(text: str) -> str | Sized | None:
    """A text that may be long: told apart by its beginning and its end."""
    if len(text) <= TEXT:
        return text
    return None if text.isspace() else ("text", len(text), text[:TEXT] + text[-TEXT:])


def _integer(value: int) -> int | float:
    if -LARGE < value < LARGE:
        return value
    try:
        return float(value)
    except OverflowError:
        return float_info.max if value > 0 else -float_info.max


def _decimal(value: Decimal) -> float | None:
    try:
        number = float(value)
    except ValueError:  # of a signalling NaN
        return None
    if number in (inf, -inf) and value.is_finite():
        return copysign(float_info.max, number)
    return number


def _list(values: Sequence[Any] | AbstractSet[Any]) -> Sized | None:
    """A list, told apart by its texts; with anything else in it, by nothing."""
    if not values:
        return None
    first = list(islice(values if isinstance(values, Sequence) else sorted(values), MOST))
    mark = "\n".join(first)[: 2 * TEXT] if all(type(v) is str for v in first) else None
    return ("list", len(values), mark)


def _object(values: Sequence[Any], size: int) -> Sized:
    """An object, told apart by its values if they are all plain."""
    if not all(type(v) in _TOLD for v in values):
        return ("object", size, None)
    told = [v[:TEXT] if type(v) is str else v for v in values]
    return ("object", size, repr(told)[: 2 * TEXT])


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | dict) and not value)


def _text_of(value: object) -> str | None:
    """How JSON has a value that is neither text nor number, if that is as text."""
    kind = type(value)
    return str(value) if kind in _KEPT or kind.__module__ in _TEXTS else None


_WAYS: dict[type, Callable[[Any], Any]] = {
    str: _long,
    int: _integer,
    Decimal: _decimal,
    list: _list,
}
"""The short way for what is frequent."""

_TEXTS = frozenset({
    *("datetime", "decimal", "ipaddress", "pathlib", "uuid"),
    *("pydantic.networks", "pydantic_core._pydantic_core"),
})
"""Modules whose types JSON has as text."""
