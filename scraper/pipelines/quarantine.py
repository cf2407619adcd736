"""What a rejected item looks like: always valid JSON, always bounded, whatever it held."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from pydantic import BaseModel, ValidationError

from scraper.errors import ItemInvalid
from scraper.observation import MOST
from scraper.records import invalid_fields
from scraper.redaction import redacted
from scraper.urls import publishable

__all__ = ["field_errors", "in_brief", "record", "values_of"]

MAX_RECORD = 64 * 1024
"""Bytes of one line, at most."""

_HEAD, _ERRORS, _VALUES = 8_000, 24_000, 24_000  # shares of it
_TEXT = 2_000  # characters of one string
_NAME = 200  # characters of a key
_DEPTH = 8
_BRIEF = 200  # characters of a message or a name
_PLAIN_MODULES = frozenset({"datetime", "decimal", "uuid"})  # str() is how JSON has them


def record(
    reason: str,
    *,
    item: str,
    url: str,
    errors: list[dict[str, Any]],
    values: Any,
    stage: str | None = None,
    spider: str = "",
    page: str = "",
) -> bytes:
    """One line of the rejected file.

    Keys: `reason` (a code of `errors.REASONS`), `item` (the model's name), `url`, `errors` (one
    object per field: `field`, `message`, `selectors`, `value`), `values` (what was there), `stage`
    (the pipeline stage that failed, or null), `spider`, `page` (names this visit of the page, and
    no other). What is too long is cut and says so. Without secrets, also in the values.
    """
    head = _Plain(_HEAD)
    row = {
        "reason": head.show(reason),
        "item": head.show(item),
        "url": head.show(publishable(url)),
        "errors": _Plain(_ERRORS).show(errors),
        "values": _Plain(_VALUES).show(values),
        "stage": head.show(stage),
        "spider": head.show(spider),
        "page": page,
    }
    return _json(row).encode() + b"\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class _Plain:
    """Values as JSON can say them, within *left* bytes (and few more for the marks of cutting).

    Never raises, and runs none of the values' own code but `repr`: they came from the web, or
    from the code that just failed on them. Work is bounded like the result.
    """

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def show(self, value: Any, depth: int = _DEPTH) -> Any:
        try:
            if isinstance(value, BaseModel) or _is_dataclass_value(value):
                value = values_of(value)
            if isinstance(value, Mapping | list | tuple | AbstractSet):
                if depth == 0:
                    return self._text("… (too deep)")
                if isinstance(value, Mapping):
                    return self._object(value, depth - 1)
                return self._array(value, depth - 1)
        except Exception as error:  # noqa: BLE001 - a container's own methods may do anything
            return self._text(f"<{type(value).__name__} that raises {type(error).__name__}>")
        return self._scalar(value)

    def _scalar(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            self.left -= 5
            return value
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, int):
            bits = int.bit_length(value)
            if bits > 1024:  # str() of a long integer is quadratic, and refused beyond a limit
                return self._text(f"<integer of {bits:,} bits>")
            self.left -= bits // 3
            return int(value)
        if isinstance(value, float):
            self.left -= 24
            return float(value) if math.isfinite(value) else float.__repr__(value)
        if isinstance(value, bytes | bytearray):
            shown = value[: _TEXT + 1].decode("utf-8", "backslashreplace")
            return self._text(shown, len(value), "bytes")
        return self._text(_shown(value))

    def _text(
        self, value: str, length: int = 0, unit: str = "characters", limit: int = _TEXT
    ) -> str:
        length, whole = length or len(value), len(value) <= limit
        kept = _scalar_values(redacted(value[: 2 * limit])[:limit])
        cost = len(_json(kept).encode())
        if cost > self.left:
            kept, whole = kept[: max(0, self.left) // 6], False  # \u0000 is the longest character
            cost = len(_json(kept).encode())
        self.left -= cost + 1
        return kept if whole else f"{kept}… (cut: {length:,} {unit})"

    def _array(self, values: Collection[Any], depth: int) -> list[Any]:
        shown: list[Any] = []
        self.left -= 2
        for value in values:
            if self.left <= 0:
                shown.append(f"… ({len(values) - len(shown):,} more)")
                break
            shown.append(self.show(value, depth))
        return shown

    def _object(self, values: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        self.left -= 2
        for key, value in values.items():
            if self.left <= 0:
                shown["…"] = f"{len(values) - len(shown):,} more"
                break
            name = self._text(key if isinstance(key, str) else _shown(key), limit=_NAME)
            shown[name] = self.show(value, depth)
        return shown


def _scalar_values(text: str) -> str:
    """*text* with its lone surrogates spelt out: UTF-8 has none, and some parsers refuse them."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _shown(value: object) -> str:
    try:
        return str(value) if type(value).__module__ in _PLAIN_MODULES else repr(value)
    except Exception as error:  # noqa: BLE001 - the value's own __repr__ may do anything
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


def _is_dataclass_value(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def values_of(item: Any) -> dict[str, Any]:
    """The values of an item of any kind, shallow and without running validators or serializers."""
    if type(item) is dict:
        return item.copy()
    if isinstance(item, BaseModel):
        return {**item.__dict__, **(item.__pydantic_extra__ or {})}
    if _is_dataclass_value(item):
        return {f.name: getattr(item, f.name, None) for f in dataclasses.fields(item)}
    if isinstance(item, Mapping):
        return dict(item)
    return {"": item}


def field_errors(error: BaseException) -> list[dict[str, Any]]:
    """What went wrong, per field: `field`, `message`, `selectors`, `value`."""
    if isinstance(error, ItemInvalid):
        return error.errors
    if isinstance(error, ValidationError):
        return invalid_fields(error)
    return [
        {
            "field": "",
            "message": f"{type(error).__name__}: {_shown_error(error)}",
            "selectors": [],
            "value": None,
        }
    ]


def in_brief(errors: list[dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Of `field_errors`, each field and its message, cut: what the ledger keeps of them."""
    return tuple(
        (str(error["field"])[:_BRIEF], redacted(str(error["message"]))[:_BRIEF])
        for error in errors[:MOST]
    )


def _shown_error(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - as in _shown
        return f"(its text raises {type(second).__name__})"
