"""On which line of a TOML text each key stands. `tomllib` does the parsing; it forgets the lines.

The text is cut into statements, and what each of them defines is what `tomllib` says it defines.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

__all__ = ["lines_of"]

Key = tuple[str | int, ...]

TOKEN = re.compile(
    r'''"""(?:\\.|[^\\])*?"{3,5}'''
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*"
    r"|[\[\]{}\n]",
    re.DOTALL,
)
"""What decides where a statement ends: strings, comments, brackets and line ends."""
OPENING, CLOSING = frozenset("[{"), frozenset("]}")


def lines_of(text: str) -> dict[Key, int]:
    """The line (from 1) of every key and table header of *text*, which is valid TOML.

    Keys are tuples; an entry of an array is its index: ``("pipelines", 0, "use")``.
    """
    lines: dict[Key, int] = {}
    lengths: dict[Key, int] = {}  # arrays of tables, and how many entries they have so far
    table: Key = ()
    for number, statement in _statements(text):
        tree = tomllib.loads(statement)
        if statement.startswith("["):
            table = _header(tree, lengths)
            for end in range(1, len(table) + 1):
                lines.setdefault(table[:end], number)
        else:
            for key in _keys(tree):
                lines.setdefault((*table, *key), number)
    return lines


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each statement and the line on which it begins. One ends with a line, outside of brackets."""
    text = text.replace("\r\n", "\n") + "\n"
    begin = depth = lines = 0
    for token in TOKEN.finditer(text):
        word = token[0]
        if word in OPENING:
            depth += 1
        elif word in CLOSING:
            depth -= 1
        elif word == "\n" and depth == 0:
            statement = text[begin : token.start()]
            body = statement.lstrip("\n\t ")
            if body and not body.startswith("#"):
                yield lines + 1, body
            lines += statement.count("\n") + 1
            begin = token.end()


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
