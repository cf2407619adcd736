"""JSON Lines: one JSON value per line, UTF-8 (https://jsonlines.org)."""

from __future__ import annotations

from typing import Any

from scraper.items import encode
from scraper.pipelines.append import AppendSink, Mode
from scraper.protocols import Page

__all__ = ["Jsonl"]


class Jsonl(AppendSink):
    """Write each item as one line of JSON, exactly once.

    *path*: relative to the project; `{spider}` and `{started}` are filled in. *mode* "replace":
    the file appears, or is replaced, when the crawl is complete; "append": it grows as it goes.
    """

    kind = "jsonl"

    def __init__(self, path: str = "data/{spider}.jsonl", mode: Mode = "replace") -> None:
        super().__init__(path, mode)

    async def process(self, item: Any, page: Page) -> Any:
        line = encode(item) + b"\n"
        page.stage(self, line, len(line))
        return item
