"""JSON and XML feeds: the list of records in them, and a field for each of their keys."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any

from scraper.drafting.model import Field, Marker
from scraper.drafting.names import identifier
from scraper.feeds import read
from scraper.http import Response
from scraper.select import collapse

__all__ = ["find_records", "find_rows"]

PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
KINDS: Mapping[str, tuple[type, ...]] = MappingProxyType({
    "str": (str,),
    "int": (int,),
    "float": (float,),
    "bool": (bool,),
})
MOST_FIELDS = 16
LOOKED_AT = 2_000
SAMPLED = 50
ROWS = re.compile(rb"<(?:\w{1,20}:)?(item|entry|product|offer|record|row)[\s>]")
"""The elements that feeds repeat."""
ROW_KEY = re.compile(r"[A-Za-z@][A-Za-z0-9_.@/-]{0,39}")


def find_records(data: Any) -> tuple[str, list[Field]]:
    """The JMESPath of the records in *data*, and their fields; no fields where there are none.

    The longest list of objects counts, the outermost of equals. Only keys that are plain words
    are used; nested objects give one field for each of their plain values, one level deep.
    """
    best: tuple[int, str, list[dict[str, Any]]] = (0, "", [])
    todo: deque[tuple[str, Any]] = deque([("", data)])
    for _ in range(LOOKED_AT):
        if not todo:
            break
        path, value = todo.popleft()
        if isinstance(value, list):
            records = [each for each in value[:SAMPLED] if isinstance(each, dict)]
            if records and len(value) > best[0] and 2 * len(records) > min(len(value), SAMPLED):
                best = len(value), path, records
        elif isinstance(value, dict) and path.count(".") < 4:
            inner = ((key, each) for key, each in value.items() if PLAIN_KEY.fullmatch(key))
            todo.extend((f"{path}.{key}".lstrip("."), each) for key, each in inner)
    if not best[2] and isinstance(data, dict):
        best = 1, "", [data]
    return f"{best[1]}[]", _fields(best[2])


def _fields(records: list[dict[str, Any]]) -> list[Field]:
    paths: dict[str, set[str]] = {}
    for record in records:
        for key, value in list(record.items())[:100]:
            if isinstance(value, dict):
                for inner, below in list(value.items())[:20]:
                    _note(paths, f"{key}.{inner}", below)
            else:
                _note(paths, key, value)
    found: dict[str, Field] = {}
    for path, kinds in paths.items():
        name = identifier(path.replace(".", "_"))
        if name and name not in found and len(found) < MOST_FIELDS:
            kind = next(iter(kinds)) if len(kinds) == 1 else "str"
            found[name] = Field(name, Marker("Json", (path,)), kind)
    return list(found.values())


def _note(paths: dict[str, set[str]], path: str, value: Any) -> None:
    """Remember a path to a plain value, if all of it can be written without quotes."""
    kind = next((kind for kind, types in KINDS.items() if type(value) in types), "")
    if kind and all(map(PLAIN_KEY.fullmatch, path.split("."))):
        paths.setdefault(path, set()).add(kind)


def find_rows(response: Response) -> tuple[str, list[Field]]:
    """The element that an XML feed repeats, and a field for each of the values in it.

    Raises `ExtractionError` for XML that declares entities.
    """
    tag = ROWS.search(response.body[:1_000_000])
    if tag is None:
        return "", []
    itertag = tag[1].decode()
    feed = read(response.body, format="xml", url=response.url, itertag=itertag)
    rows = [row.value for row in islice(feed, SAMPLED) if isinstance(row.value, dict)]
    found: dict[str, Field] = {}
    for key, value in ((key, value) for row in rows for key, value in row.items() if value.strip()):
        name = identifier(key.replace("@href", "").replace("/", "_"))
        if name and name not in found and len(found) < MOST_FIELDS and ROW_KEY.fullmatch(key):
            sample = collapse(value[:400])[:200]
            found[name] = Field(name, Marker("Row", (key,)), "str | None", sample)
    return itertag, list(found.values())
