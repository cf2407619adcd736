"""On which line of a TOML text each key stands. `tomllib` does the parsing; it forgets the lines.

A statement of TOML ends at a line's end, and a cut-off one does not parse. So lines are added to
a piece until it parses by itself, and what it defines is what `tomllib` says it defines.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

__all__ = ["lines_of"]

Key = tuple[str | int, ...]


def lines_of(text: str) -> dict[Key, int]:
    """The line (from 1) of every key and table header of *text*, which is valid TOML.

    Keys are tuples; an entry of an array is its index: ``("pipelines", 0, "use")``.
    """
    lines: dict[Key, int] = {}
    lengths: dict[Key, int] = {}  # arrays of tables, and how many entries they have so far
    table: Key = ()
    for number, statement in _statements(text):
        tree = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            table = _header(tree, lengths)
            for end in range(1, len(table) + 1):
                lines.setdefault(table[:end], number)
        else:
            for key in _keys(tree):
                lines.setdefault((*table, *key), number)
    return lines


def _statements(text: str) -> Iterator[tuple[int, str]]:
    piece: list[str] = []
    start = 0
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not piece:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            start = number
        piece.append(line)
        statement = "\n".join(piece)
        try:
            tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        yield start, statement
        piece = []


def _header(tree: dict[str, Any], lengths: dict[Key, int]) -> Key:
    """The table that a header opens, with the indexes of the arrays that it goes through."""
    key: Key = ()
    inner: Any = tree
    while inner:
        name, inner = next(iter(inner.items()))
        key = (*key, name)
        if isinstance(inner, list):  # [[name]] opens the next entry
            lengths[key] = lengths.get(key, 0) + 1
            inner = inner[0]
        if key in lengths:
            key = (*key, lengths[key] - 1)
    return key


def _keys(value: Any, under: Key = ()) -> Iterator[Key]:
    if under:
        yield under
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _keys(below, (*under, name))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _keys(below, (*under, index))
