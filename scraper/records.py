"""Items on their way out: as Python values, and as the bytes of a JSON line.

What lands in a file fits its model. Assigning to a field does not validate, so the serializer is
asked to mind types while it writes, which costs nothing; only an item that it complains of is
validated again, and then either written as its model would have it, or rejected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import pydantic_core
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, ValidationError

from scraper import urls
from scraper.errors import ExtractionError, ItemInvalid, UsageError

__all__ = ["encode", "invalid_fields", "record"]


def record(item: Any) -> dict[str, Any]:
    """The fields of a yielded item as Python values: a pydantic model, a mapping, a dataclass.

    Raises `ItemInvalid` when a field was assigned what does not fit, `UsageError` for no item.
    """
    if _is_model(item):
        return _model_record(item)
    if isinstance(item, Mapping):
        return dict(item)
    if is_dataclass(item) and not isinstance(item, type):
        return asdict(item)
    hint = "Yield an Item, a dict, a Request, or a list of these."
    if isinstance(item, tuple) and hasattr(item, "_asdict"):
        hint = "A named tuple is a sequence: yield its _asdict(), or make it a dataclass."
    raise UsageError(f"{type(item).__name__} is not an item", hint=hint)


def encode(item: Any) -> bytes:
    """One JSON line, without its newline: always valid UTF-8 and valid JSON.

    Decimals and dates are strings, sets are lists, NaN and infinities null (as pydantic does),
    lone surrogates U+FFFD, bytes that are no UTF-8 base64. Raises `ItemInvalid` when a field was
    assigned what does not fit, `ExtractionError` for values that JSON has no form for.
    """
    try:
        if not _is_model(item):
            return pydantic_core.to_json(item, inf_nan_mode="null")
        if isinstance(item, BaseModel):
            return item.__pydantic_serializer__.to_json(item, warnings="error")
    except (PydanticSerializationError, UnicodeError, ValueError, RecursionError):
        pass
    return _encode_carefully(item)


def _encode_carefully(item: Any) -> bytes:
    try:
        return pydantic_core.to_json(_clean(record(item)), inf_nan_mode="null", bytes_mode="base64")
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise ExtractionError(
            "item_invalid", f"{type(item).__name__} cannot be written as JSON: {error}"
        ) from None


def _clean(value: Any) -> Any:
    """*value* with U+FFFD for lone surrogates, everywhere in it."""
    if isinstance(value, str):
        return urls.scalar(value)
    if isinstance(value, BaseModel):
        return _clean(value.model_dump())
    if isinstance(value, Mapping):
        return {_clean(key): _clean(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean(inner) for inner in value]
    return value


# Models -----------------------------------------------------------------------------------------


def _is_model(item: Any) -> bool:
    """Whether *item* is a pydantic model or a pydantic dataclass."""
    return hasattr(type(item), "__pydantic_serializer__")


def _model_record(item: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = item.__pydantic_serializer__.to_python(item, warnings="error")
    except PydanticSerializationError:
        item = _fitting(item)
        found = item.__pydantic_serializer__.to_python(item, warnings=False)
    return found


def _fitting(item: Any) -> Any:
    """*item*, validated anew. Raises `ItemInvalid`."""
    values = _values(item)
    try:
        return type(item).__pydantic_validator__.validate_python(
            values, by_alias=False, by_name=True
        )
    except ValidationError as error:
        raise ItemInvalid(type(item).__name__, "", invalid_fields(error), values) from None


def invalid_fields(error: ValidationError) -> list[dict[str, Any]]:
    """What did not fit, per field: `field`, `message`, `selectors` (none), `value`."""
    return [
        {
            "field": ".".join(map(str, detail["loc"])),
            "message": detail["msg"],
            "selectors": [],
            "value": detail.get("input"),
        }
        for detail in error.errors(include_url=False, include_context=False)
    ]


def _values(value: Any) -> Any:
    """*value* with the models in it as dicts of their fields, so that all is validated.

    A default that was left is left out: pydantic does not validate those either.
    """
    if _is_model(value):
        fields = type(value).__pydantic_fields__
        extra = getattr(value, "__pydantic_extra__", None) or {}
        given = ((n, v) for n, v in value.__dict__.items() if n in fields)
        return {
            name: _values(inner)
            for name, inner in (*given, *extra.items())
            if name not in fields or inner is not fields[name].default
        }
    if isinstance(value, dict):
        return {key: _values(inner) for key, inner in value.items()}
    if type(value) in {list, tuple, set, frozenset}:
        return _same(type(value), map(_values, value))
    return value


def _same(kind: type, values: Iterable[Any]) -> Any:
    values = list(values)
    try:
        return kind(values)
    except TypeError:  # a set of models, which as dicts cannot be in one
        return values
