"""A gate for incomplete items: what goes to the output has what its readers rely on."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sized
from typing import Any, Literal

from scraper import Drop, Page, Pipeline

__all__ = ["Complete"]

log = logging.getLogger(__name__)

ABSENT = object()


class Complete(Pipeline):
    """Drops items in which a required field is missing, with the reason ``incomplete:FIELD``.

    `fields`: the required ones. A field is missing when the item lacks it, when it is None, blank
    text, or an empty collection; 0 and False are values. `blank`: texts that also mean "nothing",
    such as "n/a", compared without regard to case. `action`: "drop", or "warn" to let incomplete
    items pass and only report how many there were.
    """

    def __init__(
        self,
        fields: list[str],
        blank: list[str] | None = None,
        action: Literal["drop", "warn"] = "drop",
    ) -> None:
        if not fields:
            raise ValueError("fields = [] requires nothing: name at least one field")
        self._fields = tuple(fields)
        self._blank = frozenset(text.strip().casefold() for text in blank or ())
        self._drop = action == "drop"
        self._missing: Counter[str] = Counter()
        self._seen = 0

    async def process(self, item: Any, page: Page) -> Any:
        self._seen += 1
        for name in self._fields:
            if self._is_missing(_get(item, name)):
                self._missing[name] += 1
                if self._drop:
                    raise Drop(f"incomplete:{name}")
        return item

    async def aclose(self) -> None:
        for name, count in self._missing.most_common():
            done = "dropped" if self._drop else "passed"
            log.warning("%d of %d items %s without %s", count, self._seen, done, name)

    def _is_missing(self, value: Any) -> bool:
        if value is None or value is ABSENT:
            return True
        if isinstance(value, str):
            text = value.strip()
            return not text or text.casefold() in self._blank
        return isinstance(value, Sized) and len(value) == 0


def _get(item: Any, name: str) -> Any:
    return item.get(name, ABSENT) if isinstance(item, Mapping) else getattr(item, name, ABSENT)
