"""Filter: what does not meet the conditions goes no further."""

from __future__ import annotations

from typing import Any, Literal

from scraper.errors import Drop
from scraper.pipelines.conditions import read_conditions
from scraper.protocols import Page, Pipeline

__all__ = ["Filter"]


class Filter(Pipeline):
    """Let items pass that meet every condition, or, with *action* "drop", all others.

    *where*: conditions by field, `{"stock": {"min": 1}, "maker.name": "Acme"}`; see
    `scraper.pipelines.conditions`. *reason*: what dropped items are counted under; else
    `filter:FIELD`, with the first field whose condition is not met, or with all of *where*.

    A value that cannot be compared, and a field that the item's model does not have, fail the item
    (`stage_error`): neither keeping nor dropping it is what was meant.
    """

    def __init__(
        self, where: Any, action: Literal["keep", "drop"] = "keep", reason: str = ""
    ) -> None:
        # Any: as the table has it, dates and all; an annotation would have it go through JSON.
        self.conditions = read_conditions(where)
        self.action = action
        self.reason = reason

    async def process(self, item: Any, page: Page) -> Any:
        if self.action == "keep":
            for condition in self.conditions:
                if not condition.met_by(item):
                    raise Drop(self.reason or f"filter:{condition.field}")
        elif all(condition.met_by(item) for condition in self.conditions):
            fields = "+".join(condition.field for condition in self.conditions)
            raise Drop(self.reason or f"filter:{fields}")
        return item
