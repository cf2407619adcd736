"""JSON Lines: one JSON value per line, UTF-8 (https://jsonlines.org)."""

from __future__ import annotations

from typing import Any

from pydantic import ByteSize

from scraper.pipelines.append import AppendSink, Mode, json_object
from scraper.pipelines.provenance import Provenance
from scraper.protocols import Page

__all__ = ["Jsonl"]


class Jsonl(AppendSink):
    """Write each item as one line of JSON, exactly once.

    *path*: relative to the project; `{spider}`, `{started}` and `{item}` are filled in. *mode*
    "replace": the file appears, or is replaced, when the crawl is complete; "append": it grows as
    it goes. The other options are those of `AppendSink`.
    """

    kind = "jsonl"

    def __init__(
        self,
        path: str = "data/{spider}.jsonl",
        mode: Mode = "replace",
        provenance: Provenance = False,
        records_per_file: int = 0,
        size_per_file: ByteSize | None = None,
        storage: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            path,
            mode,
            provenance=provenance,
            records_per_file=records_per_file,
            size_per_file=size_per_file,
            storage=storage,
        )

    async def process(self, item: Any, page: Page) -> Any:
        self.keep(item, page, json_object(item, page, self.provenance) + b"\n")
        return item
