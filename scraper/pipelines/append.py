"""Sinks whose output is one append file: JSON Lines, and whatever else only grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from scraper.errors import DamagedState, ScraperError
from scraper.pipelines.appendfile import AppendFile, Mode
from scraper.pipelines.claim import Owner
from scraper.pipelines.paths import resolve
from scraper.protocols import CrawlInfo, Page

__all__ = ["AppendSink", "Mode"]


class AppendSink:
    """A sink whose output is one append file. Derive, and stage encoded records in `process`.

    A record is bytes, its terminator included. Positions are `{"size": bytes, "records": count}`.
    """

    recovery: Literal["rewind", "redo"] = "rewind"
    kind = "append"
    terminator = b"\n"
    keep_empty = True

    def __init__(self, path: str, mode: Mode = "replace") -> None:
        self.path = str(path)
        self.mode: Mode = mode
        self.records: int | None = None
        self._file: AppendFile | None = None

    @property
    def file(self) -> AppendFile:
        if self._file is None:
            raise ScraperError(f"{self!r} is not open")
        return self._file

    @property
    def key(self) -> str:
        """The resolved path; until `open`, the template."""
        return self.path if self._file is None else str(self._file.path)

    async def open(self, crawl: CrawlInfo) -> None:
        path = resolve(self.path, crawl)
        file = AppendFile(
            path, mode=self.mode, terminator=self.terminator, keep_empty=self.keep_empty
        )
        try:
            await file.open(Owner.of(crawl), resumed=crawl.resumed)
        except BaseException:
            await file.aclose()
            raise
        self._file = file

    async def process(self, item: Any, page: Page) -> Any:
        raise NotImplementedError

    async def rewind(self, position: Any) -> None:
        if position is None:
            size, self.records = None, 0
        else:
            try:
                size, self.records = int(position["size"]), int(position["records"])
            except (TypeError, KeyError, ValueError):
                raise DamagedState(f"{self.key}: {position!r} is not a position of it") from None
        await self.file.rewind(size)

    async def write(self, records: Sequence[bytes]) -> dict[str, int]:
        size = await self.file.write(records)
        self.records = (self.records or 0) + len(records)
        return {"size": size, "records": self.records}

    async def publish(self) -> None:
        await self.file.publish()

    async def set_aside(self) -> None:
        await self.file.set_aside()

    async def aclose(self) -> None:
        if self._file is not None:
            await self._file.aclose()

    def describe(self) -> dict[str, Any]:
        """`kind`, `path`, `mode`, `records` (None: not known here).

        `aside`: where it was set aside, once it was. `displaced`: where the output of another,
        unfinished crawl went that lay in its place.
        """
        told = {"kind": self.kind, "path": self.key, "mode": self.mode, "records": self.records}
        for name in ("aside", "displaced"):
            if (where := getattr(self._file, name, None)) is not None:
                told[name] = str(where)
        return told

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key}>"
