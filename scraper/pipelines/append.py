"""Sinks whose output is files that only grow: JSON Lines, CSV, and whatever else is like them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from aiofiles.os import wrap
from pydantic import ByteSize

from scraper.errors import ConfigError, DamagedState, ScraperError, UsageError
from scraper.items import encode
from scraper.pipelines.appendfile import Mode
from scraper.pipelines.fileset import FileSet
from scraper.pipelines.marks import check, marks_of
from scraper.pipelines.parts import Shape
from scraper.pipelines.paths import placeholders
from scraper.pipelines.provenance import Provenance, chosen
from scraper.pipelines.remote import Target
from scraper.protocols import CrawlInfo, Page

__all__ = ["AppendSink", "Mode", "by_stream", "json_object"]


class AppendSink:
    """A sink whose output is files that grow. Derive, and stage encoded records in `process`.

    A record is bytes, its terminator included. *path* may hold `{spider}`, `{started}`, `{item}`
    (one file for each type of item) and `{part}`; when its last ending is `.gz` or `.zst`, it is
    compressed. *provenance*: columns to add that say where each record came from.
    *records_per_file*, *size_per_file*: files are numbered parts, of that many records or bytes
    at most. A *path* with a scheme (`s3://…`) is a place in a store, where each file is delivered
    when it is published; *storage*: options of that store (see `remote`).

    Positions are `{"size": bytes, "records": count}`, or, where there are several files,
    `{"files": {item type: [part, bytes, records]}, "records": count}`; with `notes`, if there are
    any.
    """

    recovery: Literal["rewind", "redo"] = "rewind"
    kind = "append"
    terminator = b"\n"
    keep_empty = True

    def __init__(
        self,
        path: str,
        mode: Mode = "replace",
        *,
        provenance: Provenance = False,
        records_per_file: int = 0,
        size_per_file: ByteSize | None = None,
        storage: dict[str, Any] | None = None,
    ) -> None:
        self.path = str(path)
        self.mode: Mode = mode
        self.provenance = chosen(provenance)
        self.records: int | None = None
        self._records_per_file = records_per_file
        self._size_per_file = int(size_per_file or 0)
        self._by_item = "item" in placeholders(self.path)
        self._target = Target.of(self.path, storage)
        self._files: FileSet | None = None
        if records_per_file < 0:
            raise ConfigError(f"records_per_file = {records_per_file}: 0 or more; 0: no parts")
        if mode == "append" and (records_per_file or size_per_file):
            raise ConfigError(
                'mode = "append": a file that goes on growing has no parts',
                hint='Use mode = "replace", or a file for each run: path = "data/{started}.jsonl".',
            )
        if mode == "append" and self._target is not None:
            raise ConfigError(
                f'mode = "append": what lies in a store cannot grow: {self._target.shown}',
                hint="Give each run a name of its own with {started} in the path.",
            )
        if "part" in placeholders(self.path) and not (records_per_file or size_per_file):
            raise ConfigError(
                f"path = {self.path!r}: {{part}} numbers the files of an output in parts",
                hint="Say how large a part is: records_per_file = 100000, or size_per_file.",
            )

    # ── what a derived class says

    async def process(self, item: Any, page: Page) -> Any:
        raise NotImplementedError

    def opening(self, stream: str) -> bytes:
        """What a file begins with, before its first record.

        *stream*: the type of item that the file is for, "" where it is for all.
        """
        return b""

    between = b""
    """What parts two records of a file."""

    def closing(self, stream: str, empty: bool) -> bytes:
        """What ends a file when it is published: the same bytes whenever it is asked."""
        return b""

    def notes(self) -> Any:
        """What this sink must know again after a crash, as JSON; stored with each position."""
        return None

    def take_notes(self, notes: Any) -> None:
        """What `notes` gave."""

    def file_set(
        self, template: str, crawl: CrawlInfo, shape: Shape, target: Target | None
    ) -> FileSet:
        """The files that this sink writes; see `FileSet`."""
        return FileSet(template, crawl, shape, target)

    # ── for `process`

    def stream(self, item: Any) -> str:
        """The stream that *item* belongs to."""
        return type(item).__name__ if self._by_item else ""

    def keep(self, item: Any, page: Page, record: bytes) -> None:
        """Stage *record*, made of *item*, for the file that it belongs to."""
        if self._by_item:
            record = self.addressed(self.stream(item), record)
        page.stage(self, record, len(record))

    def addressed(self, stream: str, record: bytes) -> bytes:
        """*record*, as `write` takes it for *stream*."""
        return stream.encode() + b"\0" + record if self._by_item else record

    # ── the contract

    @property
    def files(self) -> FileSet:
        if self._files is None:
            raise ScraperError(f"{self!r} is not open")
        return self._files

    @property
    def key(self) -> str:
        """The resolved path; until `open`, the template."""
        if self._target is not None:
            return self._target.shown if self._files is None else self._target.url(self._files.base)
        return self.path if self._files is None else str(self._files.base)

    async def open(self, crawl: CrawlInfo) -> None:
        shape = Shape(
            mode=self.mode,
            terminator=self.terminator,
            keep_empty=self.keep_empty,
            opening=self.opening,
            between=self.between,
            closing=self.closing,
            records=self._records_per_file,
            size=self._size_per_file,
        )
        target, files = self._target, None
        try:
            template, place = self.path, crawl
            if target is not None:
                template, place = target.template, target.place(crawl)
            files = self.file_set(template, place, shape, target)
            await files.open()
        except BaseException:
            if files is not None:
                await files.aclose()
            if target is not None:
                await target.aclose()
            raise
        self._files = files

    async def rewind(self, position: Any) -> None:
        await self.files.rewind(self._read(position))

    async def recall(self, position: Any) -> None:
        """What was committed, to a process that only publishes."""
        self.files.recall(self._read(position))

    def _read(self, position: Any) -> Any:
        if position is None:
            self.records = 0
            return None
        try:
            self.records = int(position["records"])
            single = self.files.single
            files = {"": [1, position["size"], self.records]} if single else position["files"]
        except (TypeError, KeyError, ValueError, OverflowError):
            raise DamagedState(f"{self.key}: {position!r} is not a position of it") from None
        if position.get("notes") is not None:
            self.take_notes(position["notes"])
        return files

    async def write(self, records: Sequence[bytes]) -> dict[str, Any]:
        await self.files.write(by_stream(records) if self._by_item else {"": records})
        self.records = (self.records or 0) + len(records)
        return self._position()

    def _position(self) -> dict[str, Any]:
        files = self.files
        where: dict[str, Any] = (
            {"size": files.streams[""].size} if files.single else {"files": files.position}
        )
        where["records"] = self.records
        if (notes := self.notes()) is not None:
            where["notes"] = notes
        return where

    async def publish(self) -> None:
        await self.files.publish()

    async def mark(self) -> Any:
        """The position, and what the files are known by: see `Reopens`."""
        files = list(self.files.delivered())
        marks = self._position() | {"marks": await wrap(marks_of)(files)}
        if (target := self._target) is not None:
            paths = [path for path, where, _ in files if str(path) not in marks["marks"]]
            marks["stored"] = {target.name(path): await target.mark(path) for path in paths}
        return marks

    async def reopenable(self, position: Any, aside: Mapping[str, str]) -> None:
        """Whether the files are those that `mark` saw; see `Reopens`."""
        if not isinstance(position, dict) or "marks" not in position:
            raise UsageError(
                f"{self.key}: the run ended before it had noted what it published",
                hint="Nothing can be added to it: crawl anew with `scrape run`.",
            )
        await wrap(check)(position["marks"], aside, grows=self.mode == "append")
        if (target := self._target) is not None:
            for name, mark in position.get("stored", {}).items():
                await target.require(target.named(name), mark)

    async def reopen(self, position: Any, aside: Mapping[str, str]) -> Any:
        """Go on with what was published; see `Reopens`."""
        await self.files.reopen(self._read(position), aside)
        return self._position() if position is not None else None

    async def set_aside(self) -> None:
        await self.files.set_aside()

    async def aclose(self) -> None:
        if self._files is not None:
            await self._files.aclose()
            if self._target is not None:
                await self._target.aclose()

    def describe(self) -> dict[str, Any]:
        """`kind`, `path`, `mode`, `records` (None: not known here), `files` where they are many.

        `working`: where the files lie until they are delivered, if that is elsewhere. `aside`:
        where it was set aside, once it was; `asides`: each file's. `displaced`: where the output of
        another, unfinished crawl went that lay in its place.
        """
        told: dict[str, Any] = {
            "kind": self.kind,
            "path": self.key,
            "mode": self.mode,
            "records": self.records,
        }
        files = self._files
        if files is None:
            return told
        if not files.single:
            told["files"] = sum(stream.part for stream in files.streams.values())
        if self._target is not None:
            told["working"] = str(files.base)
        if files.aside:
            told["aside"] = next(iter(files.aside.values()))
            told["asides"] = dict(files.aside)
        if files.displaced:
            told["displaced"] = str(files.displaced[0])
        return told

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key}>"


def by_stream(records: Sequence[bytes]) -> dict[str, list[bytes]]:
    """Records that `keep` staged for files by the type of item."""
    streams: dict[str, list[bytes]] = {}
    for record in records:
        name, _, rest = record.partition(b"\0")
        streams.setdefault(name.decode(), []).append(rest)
    return streams


def json_object(item: Any, page: Page, columns: Sequence[str]) -> bytes:
    """*item* as JSON, with the page's provenance under *columns* at its end."""
    line = encode(item)
    if not columns:
        return line
    added = encode({name: page.provenance[name] for name in columns})
    return line[:-1] + (b"," if len(line) > 2 else b"") + added[1:]
