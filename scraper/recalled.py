"""What was stored of a host, read with care: it may have come over a network."""

from __future__ import annotations

import json
from typing import Any

from scraper.errors import DamagedState

__all__ = ["Recalled"]


class Recalled:
    """A small JSON object of *most* bytes at most; *what* names it for people.

    Everything raises `DamagedState` for what was never stored there.
    """

    def __init__(self, saved: bytes, what: str, most: int) -> None:
        self._what = what
        try:
            record = json.loads(saved) if len(saved) <= most else None
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise self.damaged("not a small JSON object")
        self._record: dict[str, Any] = record

    def __contains__(self, name: str) -> bool:
        return name in self._record

    def number(self, name: str, default: float) -> float:
        """A number from 0 up, in seconds, times or dates."""
        value = self._record.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.damaged(f"{name} is not a number")
        if name in self._record and not 0 <= value < 1e12:
            raise self.damaged(f"{name} is out of range")
        return float(value)

    def flag(self, name: str) -> bool:
        """A boolean, false when it is absent."""
        value = self._record.get(name, False)
        if not isinstance(value, bool):
            raise self.damaged(f"{name} is not a boolean")
        return value

    def text(self, name: str, most: int = 64) -> str | None:
        """A text that is not empty, of *most* characters; None when it is absent."""
        value = self._record.get(name)
        if value is not None and not (isinstance(value, str) and 0 < len(value) <= most):
            raise self.damaged(f"{name} is not a short text")
        return value

    def lines(self, name: str, begin: tuple[str, ...]) -> str:
        """A text each of whose lines, if it has any, begins with one of these."""
        value = self._record.get(name)
        if not isinstance(value, str):
            raise self.damaged(f"{name} is not a text")
        if value and not all(line.startswith(begin) for line in value.split("\n")):
            raise self.damaged(f"{name} has a line that is none")
        return value

    def damaged(self, how: str) -> DamagedState:
        """The error to raise. *how*: what is wrong with it."""
        return DamagedState(
            f"{self._what} is damaged: {how}",
            hint="Run with --fresh to start anew; the old state is set aside, not deleted.",
        )
