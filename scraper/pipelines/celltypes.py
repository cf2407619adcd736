"""Types of columns: what a model's annotations, or an option, say about the values of a column.

A type is a JSON value, so that a crawl can store it and find it again after a crash:

- a name of `NAMES`, such as ``"int"``; ``"any"``: nothing is known, the values will tell;
- ``["decimal", digits, places]``;
- ``["list", type]``;
- ``["struct", [[name, type], …]]``.

Models are read by the schema that pydantic compiled of them, which knows validators, serializers,
constraints and forward references (`pydantic_core.core_schema` describes its nodes).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType, NoneType
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from scraper.errors import ConfigError
from scraper.mistakes import nearest

__all__ = ["NAMES", "Column", "Type", "columns_of", "parse", "shown"]

Type = Any
"""See the module."""

NAMES: Mapping[str, str] = MappingProxyType({
    "str": "text: strings, and whatever else JSON has a string or a number for",
    "int": "whole numbers of 64 bits",
    "float": "floating point numbers of 64 bits",
    "bool": "true or false",
    "bytes": "binary data",
    "date": "days",
    "time": "times of day, without a zone",
    "datetime": "instants, in UTC; a date and time without a zone is taken for UTC",
    "naive_datetime": "dates and times without a zone",
    "json": "JSON text",
})
"""The types with a name."""

_MOST_DIGITS = 76  # of a 256-bit decimal
_DECIMAL = re.compile(r"decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)")
_LIST = re.compile(r"list\[(.*)\]", re.DOTALL)


class Column(NamedTuple):
    """One column. What is within lists and structs may be null in any case."""

    name: str
    type: Type
    nullable: bool = True


# What a user writes ------------------------------------------------------------------------------


def parse(text: str, where: str) -> Type:
    """The type that *text* names: ``float``, ``decimal(18, 2)``, ``list[str]``.

    Raises `ConfigError`, which begins with *where*, for anything else.
    """
    text = text.strip()
    if text in NAMES:
        return text
    if found := _LIST.fullmatch(text):
        return ["list", parse(found[1], where)]
    if found := _DECIMAL.fullmatch(text):
        digits, places = int(found[1]), int(found[2])
        if not 0 < digits <= _MOST_DIGITS or places > digits:
            raise ConfigError(
                f"{where}: {text} is no decimal type: it has 1 to {_MOST_DIGITS} digits, and not"
                " more places than digits"
            )
        return ["decimal", digits, places]
    known = (*NAMES, "decimal(digits, places)", "list[…]")
    way = nearest(text, known, all_of="the types are") or f"the types are {', '.join(known)}"
    raise ConfigError(f"{where}: {text!r} is no type; {way}")


def shown(kind: Type) -> str:
    """*kind* as `parse` reads it."""
    if isinstance(kind, str):
        return kind
    if kind[0] == "decimal":
        return f"decimal({kind[1]}, {kind[2]})"
    if kind[0] == "list":
        return f"list[{shown(kind[1])}]"
    return "struct[" + ", ".join(f"{name}: {shown(inner)}" for name, inner in kind[1]) + "]"


# What a model says -------------------------------------------------------------------------------


def columns_of(model: type) -> dict[str, Column]:
    """The columns that the fields of *model* make, by the names that they are written under.

    *model*: a pydantic model, a dataclass. A required field of a pydantic model that does not
    allow None is a column without nulls; elsewhere nobody checks. {} when nothing can be known.
    """
    try:
        schema = getattr(model, "__pydantic_core_schema__", None)
        checked = isinstance(schema, dict)
        if not isinstance(schema, dict):
            schema = TypeAdapter(model).core_schema
        found = _Reader(checked).columns(schema)
    except Exception:  # noqa: BLE001 - no schema, a broken one: then the values have to tell
        return {}
    return {column.name: column for column in found}


_SCALARS = frozenset(NAMES) - {"json"}
_AS_NAMED = frozenset({"str", "int", "float", "bool", "bytes", "date", "time"})
_AS_TEXT = frozenset({"timedelta", "uuid", "url", "multi-host-url", "complex"})
_MANY = frozenset({"list", "set", "frozenset", "generator", "deque", "tuple"})
_MODELS = frozenset({"model", "dataclass", "typed-dict"})
_AROUND: Mapping[str, str] = MappingProxyType({
    "definitions": "schema",
    "default": "schema",
    "function-before": "schema",
    "function-after": "schema",
    "function-wrap": "schema",
    "lax-or-strict": "strict_schema",
    "json-or-python": "json_schema",
})
"""Nodes that stand around another one, and where they have it."""


class _Reader:
    """Reads the schema of one model. `checked`: its values are what the schema says."""

    def __init__(self, checked: bool) -> None:
        self.checked = checked
        self._known: dict[str, Any] = {}
        self._within: list[str] = []

    def columns(self, node: Any) -> list[Column]:
        """One for each field of the model that *node* is about; [] when it is no such thing."""
        by_alias = False
        while _written_by_itself(node):
            self._note(node)
            by_alias = by_alias or (node.get("config") or {}).get("serialize_by_alias") is True
            if node["type"] == "definition-ref":
                node = self._known[node["schema_ref"]]
            elif node["type"] in _AROUND:
                node = node[_AROUND[node["type"]]]
            elif node["type"] in ("model", "dataclass") and not node.get("root_model"):
                node = node["schema"]
            else:
                return self._fields(node, by_alias)
        return []

    def _note(self, node: Any) -> None:
        for each in node.get("definitions", ()):
            self._known[each["ref"]] = each
        if ref := node.get("ref"):
            self._within.append(ref)

    def _fields(self, node: Any, by_alias: bool) -> list[Column]:
        fields = node.get("fields", ())
        if not isinstance(fields, Mapping):  # of a dataclass
            fields = {each["name"]: each for each in fields if not each.get("init_only")}
        return [
            *(
                self._field((by_alias and field.get("serialization_alias")) or name, field)
                for name, field in fields.items()
                if not field.get("serialization_exclude")
            ),
            *(
                Column(
                    (by_alias and field.get("alias")) or field["property_name"],
                    self.read(field["return_schema"])[0],
                )
                for field in node.get("computed_fields") or ()
            ),
        ]

    def _field(self, name: str, field: Any) -> Column:
        kind, nullable = self.read(field["schema"])
        required = field.get("required", True) and field["schema"]["type"] != "default"
        kind = "str" if kind == "none" else kind
        return Column(name, kind, nullable or not required or not self.checked)

    def read(self, node: Any) -> tuple[Type, bool]:
        """The type that a node's values are written as, and whether they may be None.

        "none": nothing but None. "any": nobody knows.
        """
        kind = node["type"]
        if not _written_by_itself(node):
            return self._serialized(node)
        if kind == "definition-ref":
            node = self._known[node["schema_ref"]]
            return ("json", False) if node["ref"] in self._within else self.read(node)
        if kind == "nullable":
            return self.read(node["schema"])[0], True
        if kind in ("none", "any"):
            return kind, True
        if kind == "union":
            choices = [c[0] if isinstance(c, tuple) else c for c in node["choices"]]
            return _union([self.read(choice) for choice in choices])
        if kind == "tagged-union":
            return _union([self.read(choice) for choice in node["choices"].values()])
        if kind in ("literal", "enum"):
            return _values(node["expected" if kind == "literal" else "members"])
        if kind == "chain":
            return self.read(node["steps"][-1])
        if kind in _AROUND or node.get("root_model"):
            depth = len(self._within)
            self._note(node)
            found = self.read(node[_AROUND.get(kind, "schema")])
            del self._within[depth:]
            return found
        return self._struct(node) if kind in _MODELS else self._type(node), False

    def _serialized(self, node: Any) -> tuple[Type, bool]:
        """A serializer of the user's decides."""
        result = node["serialization"].get("return_schema")
        kind, nullable = self.read(result) if result is not None else ("any", True)
        bare = {name: value for name, value in node.items() if name != "serialization"}
        if kind == "any" and self.read(bare)[0] == "str":
            kind = "str"  # whatever comes, its text will do
        return kind, nullable

    def _type(self, node: Any) -> Type:
        kind = node["type"]
        if kind in _AS_NAMED:
            return kind
        if kind in _AS_TEXT:
            return "str"
        if kind == "datetime":
            return "naive_datetime" if node.get("tz_constraint") == "naive" else "datetime"
        if kind == "decimal":
            return _decimal(node)
        if kind in _MANY:
            items = node.get("items_schema", {"type": "any"})
            return self._list(items if isinstance(items, list) else [items])
        return "json" if kind == "dict" else "any"

    def _list(self, items: Sequence[Any]) -> Type:
        first, *others = [self.read(item)[0] for item in items] or ["any"]
        if any(kind != first for kind in others):
            return "json"
        return "any" if first == "any" else ["list", _known(first)]

    def _struct(self, node: Any) -> Type:
        config = node.get("config") or {}
        open_ended = node.get("extra_behavior") or config.get("extra_fields_behavior")
        depth = len(self._within)
        found = self.columns(node)
        del self._within[depth:]
        if not found or open_ended == "allow":
            return "json"
        return ["struct", [[name, _known(kind)] for name, kind, _ in found]]


def _written_by_itself(node: Any) -> bool:
    """No serializer of a user's changes what comes of a node's values in Python's mode."""
    written = node.get("serialization")
    if written is None or "function" not in written:
        return True
    pydantics = str(getattr(written["function"], "__module__", "")).startswith("pydantic.")
    return pydantics or written.get("when_used", "always") in ("json", "json-unless-none")


def _known(kind: Type) -> Type:
    """What is unknown within something else is JSON."""
    return "json" if kind in ("any", "none") else kind


def _decimal(node: Any) -> Type:
    digits, places = node.get("max_digits"), node.get("decimal_places")
    if digits is None or places is None or node.get("allow_inf_nan"):
        return "str"
    return ["decimal", digits, places] if 0 < digits <= _MOST_DIGITS and places <= digits else "str"


def _values(values: Iterable[Any]) -> tuple[Type, bool]:
    """The type of a fixed choice of values."""
    plain = [value.value if isinstance(value, Enum) else value for value in values]
    kinds = {type(value) for value in plain} - {NoneType}
    if len(kinds) == 1 and (name := next(iter(kinds)).__name__) in _AS_NAMED:
        kind: Type = name
    else:
        scalar = all(isinstance(value, str | int | float | bool | None) for value in plain)
        kind = "str" if scalar else "json"
    return kind, None in plain


def _union(choices: Sequence[tuple[Type, bool]]) -> tuple[Type, bool]:
    """One type for values of several."""
    nullable = any(optional for _, optional in choices)
    kinds = [kind for kind, _ in choices if kind != "none"]
    distinct = [kind for place, kind in enumerate(kinds) if kind not in kinds[:place]]
    if len(distinct) <= 1:
        return (distinct[0] if distinct else "none"), nullable
    if "any" in distinct:
        return "any", nullable
    if sorted(map(str, distinct)) == ["float", "int"]:
        return "float", nullable
    scalar = all(kind[0] == "decimal" or str(kind) in _SCALARS for kind in distinct)
    return ("str" if scalar else "json"), nullable
