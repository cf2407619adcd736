"""Items on their way out: as Python values, and as the bytes of a JSON line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import pydantic_core
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from scraper import urls
from scraper.errors import ExtractionError, UsageError

__all__ = ["encode", "record"]


def record(item: Any) -> dict[str, Any]:
    """The fields of a yielded item as Python values: a pydantic model, a mapping, a dataclass."""
    if isinstance(item, BaseModel):
        return item.model_dump()
    if isinstance(item, Mapping):
        return dict(item)
    if is_dataclass(item) and not isinstance(item, type):
        return asdict(item)
    raise UsageError(
        f"{type(item).__name__} is not an item",
        hint="Yield an Item, a dict, a Request, or a list of these.",
    )


def encode(item: Any) -> bytes:
    """One JSON line, without its newline: always valid UTF-8 and valid JSON.

    Decimals and dates are strings, sets are lists, NaN and infinities null (as pydantic does),
    lone surrogates U+FFFD, bytes that are no UTF-8 base64. Raises `ExtractionError` for values that
    JSON has no form for.
    """
    try:
        if isinstance(item, BaseModel):
            return item.__pydantic_serializer__.to_json(item)
        return pydantic_core.to_json(item, inf_nan_mode="null")
    except (PydanticSerializationError, UnicodeError, ValueError, RecursionError):
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
