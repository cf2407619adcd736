"""Rows from other workers, whose columns may stand in another order than those of the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pydantic_core

from scraper.pipelines.rows import MisfitError, Rows

__all__ = ["Relaid"]


class Relaid:
    """Lines of *theirs* as lines of *ours*. Both are of `Rows`, whose every line begins with the
    kinds of the cells in columns of which nothing is known.
    """

    def __init__(self, theirs: Rows, ours: Rows) -> None:
        self.same = theirs.columns == ours.columns
        self._theirs = theirs
        self._ours = ours

    def line(self, line: bytes) -> bytes:
        """Raises `MisfitError` where *ours* has another type, or needs what is not there."""
        if self.same:
            return line
        cells, kinds = self._read(line), []
        known = {column.name: column for column in self._theirs.columns}
        placed: list[Any] = []
        for column in self._ours.columns:
            there = known.get(column.name)
            kind, cell = cells.get(column.name, ("n", None))
            if there is not None and there.type != column.type:
                told = "the item's model has another type for it than the first that came"
                raise MisfitError(column.name, told, cell)
            if cell is None and not column.nullable:
                raise MisfitError(column.name, "it takes no None", None)
            if column.type == "any":
                kinds.append(kind)
            placed.append(cell)
        if kinds:
            placed.insert(0, ",".join(kinds))
        return pydantic_core.to_json(placed, inf_nan_mode="constants") + b"\n"

    def values(self, line: bytes) -> Sequence[Any]:
        """The cells of a line of *theirs*, for people to look at."""
        return [cell for _, cell in self._read(line).values()]

    def _read(self, line: bytes) -> dict[str, tuple[str, Any]]:
        cells, columns = pydantic_core.from_json(line), self._theirs.columns
        kinds = iter(cells.pop(0).split(",") if self._theirs.kinds else ())
        return {
            column.name: (next(kinds) if column.type == "any" else "", cell)
            for column, cell in zip(columns, cells, strict=True)
        }
