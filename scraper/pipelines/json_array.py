"""JSON: one array of all items, valid once it is published."""

from __future__ import annotations

from typing import Any

from pydantic import ByteSize

from scraper.errors import ConfigError
from scraper.pipelines.append import AppendSink, Mode, json_object
from scraper.pipelines.provenance import Provenance
from scraper.protocols import Page

__all__ = ["JsonArray"]


class JsonArray(AppendSink):
    """Write all items as one JSON array, each on a line of its own, exactly once.

    The bracket that ends it is written at publishing; `[]` when nothing came. The options are
    those of `AppendSink`, except that *mode* cannot be "append".
    """

    kind = "json"
    terminator = b""
    between = b",\n"

    def __init__(
        self,
        path: str = "data/{spider}.json",
        mode: Mode = "replace",
        provenance: Provenance = False,
        records_per_file: int = 0,
        size_per_file: ByteSize | None = None,
        storage: dict[str, Any] | None = None,
    ) -> None:
        if mode == "append":
            raise ConfigError(
                'mode = "append": a JSON array that has ended takes no further items',
                hint='Use jsonl, which does, or a file for each run: path = "data/{started}.json".',
            )
        super().__init__(
            path,
            mode,
            provenance=provenance,
            records_per_file=records_per_file,
            size_per_file=size_per_file,
            storage=storage,
        )

    def opening(self, stream: str) -> bytes:
        return b"[\n"

    def closing(self, stream: str, empty: bool) -> bytes:
        return b"[]\n" if empty else b"\n]\n"

    async def process(self, item: Any, page: Page) -> Any:
        self.keep(item, page, json_object(item, page, self.provenance))
        return item
