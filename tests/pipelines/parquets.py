"""Parquet files as pyarrow reads them, and crawls that write them, in one process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import zstandard
from pyarrow import parquet

from scraper.errors import ExtractionError
from scraper.http import Request, Response
from scraper.pipelines.page import StagedPage, group_records
from scraper.pipelines.parquet import Parquet
from scraper.protocols import CrawlInfo
from scraper.testing.sinks import crawl_info

__all__ = ["Crawling", "content", "crawl", "lines_of", "rows"]


def rows(path: Path) -> list[dict[str, Any]]:
    """What pyarrow reads."""
    if not path.exists():
        return []
    with parquet.ParquetFile(path, pre_buffer=False) as file:
        found: list[dict[str, Any]] = file.read(use_threads=False).to_pylist()
    return found


def lines_of(path: Path) -> list[bytes]:
    """The rows of a file, as they were staged (of numbers and strings)."""
    found = [list(row.values()) for row in rows(path)]
    return [json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in found]


def content(path: Path) -> bytes:
    """The rows in a file, finished or not: a journal is as good as it goes."""
    data = path.read_bytes()
    if data.startswith(b"PAR1"):
        return b"".join(lines_of(path))
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    return data


class Crawling:
    """What the engine does with items: process, stage, write group by group, publish."""

    def __init__(self, sink: Parquet, root: Path, *, job: str = "job") -> None:
        self.sink = sink
        self.info = crawl_info(root, job=job)
        self.position: Any = None
        self.rejected: list[str] = []

    def info_of(self, *, resumed: bool) -> CrawlInfo:
        return replace(self.info, resumed=resumed)

    async def begin(self, position: Any = None, *, resumed: bool = False) -> Crawling:
        await self.sink.open(self.info_of(resumed=resumed))
        self.position = position
        try:
            await self.sink.rewind(json.loads(json.dumps(position)))
        except BaseException:
            await self.sink.aclose()
            raise
        return self

    async def stage(self, *items: Any) -> Sequence[bytes]:
        """The records of *items*, each on a page of its own."""
        pages = []
        for item in items:
            response = Response("https://example.com/a", 200, body=b"<p>a")
            page = StagedPage(Request("https://example.com/a"), response, spider="books")
            page.begin()
            try:
                assert await self.sink.process(item, page) is item
            except ExtractionError as error:
                page.withdraw()
                self.rejected.append(f"{error.reason}: {error.message}")
            pages.append(page)
        return group_records(pages).get(self.sink, [])

    async def write(self, records: Sequence[bytes]) -> Any:
        self.position = await self.sink.write(records)
        return self.position

    async def group(self, *items: Any) -> Any:
        """Written and committed; the position."""
        records = await self.stage(*items)
        await self.write(records)
        await self.sink.committed(records)
        return self.position

    async def end(self) -> None:
        await self.sink.publish()
        await self.sink.aclose()


def crawl(sink: Parquet, root: Path, items: list[Any], *, group: int = 2) -> list[str]:
    """A whole crawl of *items*, published. Returns what was said of those that were rejected."""

    async def run() -> list[str]:
        crawling = await Crawling(sink, root).begin()
        try:
            for first in range(0, len(items), group):
                await crawling.group(*items[first : first + group])
            await sink.publish()
        finally:
            await sink.aclose()
        return crawling.rejected

    return asyncio.run(run())
