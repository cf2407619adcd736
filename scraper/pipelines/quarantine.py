"""What a rejected item looks like: always valid JSON, always bounded, whatever it held."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from pydantic import BaseModel, ValidationError

from scraper.errors import ItemInvalid

__all__ = ["field_errors", "plain", "record", "values_of"]

MAX_TEXT = 2_000  # characters of one string
MAX_MEMBERS = 100  # of one list or object
MAX_DEPTH = 8
MAX_RECORD = 64 * 1024  # bytes; beyond it every string is cut harder


def record(
    reason: str,
    *,
    item: str,
    url: str,
    errors: list[dict[str, Any]],
    values: Any,
    stage: str | None = None,
    spider: str = "",
) -> bytes:
    """One line of the rejected file.

    Keys: `reason` (a code of `errors.REASONS`), `item` (the model's name), `url`, `errors` (one
    object per field: `field`, `message`, `selectors`, `value`), `values` (what was there), `stage`
    (the pipeline stage that failed, or null), `spider`. What is too long is cut and says so.
    """
    row = {
        "reason": reason,
        "item": item,
        "url": url,
        "errors": errors,
        "values": values,
        "stage": stage,
        "spider": spider,
    }
    line = b""
    for text, members in ((MAX_TEXT, MAX_MEMBERS), (200, 50), (100, 10)):
        line = _dump(plain(row, text=text, members=members))
        if len(line) <= MAX_RECORD:
            return line
    row["values"] = {}
    row["errors"] = [{"field": "", "message": "too large to keep", "selectors": [], "value": None}]
    return _dump(plain(row, text=100, members=10))


def _dump(row: Any) -> bytes:
    # ASCII: a lone surrogate is escaped, as `items.encode` and every JSON parser have it.
    return (
        json.dumps(row, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    )


def plain(
    value: Any, *, text: int = MAX_TEXT, members: int = MAX_MEMBERS, depth: int = MAX_DEPTH
) -> Any:
    """*value* as JSON can say it; never raises, and never runs the value's own code but `repr`."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return _cut(str.__str__(value), text)
    if isinstance(value, int):
        # 4,300 digits is where int() and str() stop by default.
        return (
            int(value)
            if value.bit_length() <= 1024
            else f"<integer of {value.bit_length():,} bits>"
        )
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(float(value))
    if isinstance(value, bytes | bytearray | memoryview):
        shown = bytes(value[: text + 1]).decode("utf-8", "backslashreplace")
        return _cut(shown, text, len(value), "bytes")
    if depth == 0:
        return "… (too deep)"
    inner = {"text": text, "members": members, "depth": depth - 1}
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        value = values_of(value)
    if isinstance(value, Mapping):
        return _object(value, inner)
    if isinstance(value, list | tuple | AbstractSet):
        listed: list[Any] = []
        for member in value:
            if len(listed) == members:
                listed.append(f"… ({len(value) - members:,} more)")
                break
            listed.append(plain(member, **inner))
        return listed
    return _cut(_shown(value), text)


def _object(value: Mapping[Any, Any], inner: dict[str, int]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for key, member in value.items():
        if len(shown) == inner["members"]:
            shown["…"] = f"{len(value) - inner['members']:,} more"
            break
        name = _cut(key if isinstance(key, str) else _shown(key), 200)
        shown[name] = plain(member, **inner)
    return shown


def _cut(value: str, limit: int, length: int = 0, unit: str = "characters") -> str:
    length = length or len(value)
    return value if length <= limit else f"{value[:limit]}… (cut: {length:,} {unit})"


def _shown(value: object) -> str:
    try:
        return (
            str(value) if type(value).__module__ in {"decimal", "datetime", "uuid"} else repr(value)
        )
    except Exception as error:  # noqa: BLE001 - the value's own __repr__ may do anything
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


def values_of(item: Any) -> dict[str, Any]:
    """The values of an item of any kind, shallow and without running validators or serializers."""
    if isinstance(item, BaseModel):
        return {**item.__dict__, **(item.__pydantic_extra__ or {})}
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return {f.name: getattr(item, f.name, None) for f in dataclasses.fields(item)}
    if isinstance(item, Mapping):
        return dict(item)
    return {"": item}


def field_errors(error: BaseException) -> list[dict[str, Any]]:
    """What went wrong, per field: `field`, `message`, `selectors`, `value`."""
    if isinstance(error, ItemInvalid):
        return error.errors
    if isinstance(error, ValidationError):
        return [
            {
                "field": ".".join(str(part) for part in row["loc"]),
                "message": row["msg"],
                "selectors": [],
                "value": row.get("input"),
            }
            for row in error.errors(include_url=False, include_context=False)
        ]
    return [
        {
            "field": "",
            "message": f"{type(error).__name__}: {_shown_error(error)}",
            "selectors": [],
            "value": None,
        }
    ]


def _shown_error(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - as in _shown
        return f"(its text raises {type(second).__name__})"
