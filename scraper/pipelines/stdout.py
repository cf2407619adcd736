"""JSON Lines to standard output: `-o -`."""

from __future__ import annotations

import contextlib
import select
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import aiofiles
from aiofiles.os import wrap

from scraper.errors import ScraperError
from scraper.items import encode
from scraper.pipelines.filesystem import blocks
from scraper.pipelines.paths import output_error
from scraper.protocols import CrawlInfo, Page

if TYPE_CHECKING:
    from aiofiles.threadpool.binary import AsyncFileIO

__all__ = ["Stdout"]


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise output_error(error, Path("/dev/stdout")) from error


class Stdout:
    """Write each item as a line of JSON to standard output, group by group, before the commit.

    A pipe cannot be rewound: a kill between write and commit repeats that group's items on
    resume (at-least-once; a crawl that is not killed writes each once). A reader that goes away
    raises `BrokenPipeError`, for the caller to end quietly, as a filter does. In a shared crawl
    it is the standard output of whichever worker leads: `scrape run --workers` gives all the same.
    """

    recovery: Literal["rewind", "redo"] = "rewind"
    key = "-"

    def __init__(self) -> None:
        self.records = 0
        self._file: AsyncFileIO | None = None

    async def open(self, crawl: CrawlInfo) -> None:
        """Take file descriptor 1 as it is now; nothing may be left in Python's buffer before it."""
        with _told():
            sys.stdout.flush()
            # Unbuffered: after a BrokenPipeError nothing is left to be flushed at exit.
            self._file = await aiofiles.open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)

    async def process(self, item: Any, page: Page) -> Any:
        line = encode(item) + b"\n"
        page.stage(self, line, len(line))
        return item

    async def rewind(self, position: Any) -> None:
        if position is not None:
            self.records = int(position)

    async def write(self, records: Sequence[bytes]) -> int:
        if self._file is None:
            raise ScraperError("stdout is not open")
        with _told():
            for block in blocks(records):
                rest = memoryview(block)
                while rest:
                    written: int | None = await self._file.write(rest)
                    if written is None:  # a terminal or pipe that someone made non-blocking
                        await wrap(select.select)([], [self._file.fileno()], [])
                    else:
                        rest = rest[written:]
        self.records += len(records)
        return self.records

    async def publish(self) -> None:
        """It is out already."""

    async def set_aside(self) -> None:
        """It cannot be taken back."""

    async def aclose(self) -> None:
        self._file = None

    def describe(self) -> dict[str, Any]:
        return {"kind": "stdout", "path": "-", "records": self.records}
