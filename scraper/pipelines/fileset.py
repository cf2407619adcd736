"""File sets: one output in several files, by the type of item and by parts.

A stream is what goes to files of one name: one for each item type where the path holds `{item}`,
else the only one. Its files are numbered parts where files are to have a largest size. Records go
to a stream's last part alone; those before it are whole, and wait to be published with the rest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any

from scraper.errors import DamagedState
from scraper.pipelines.appendfile import AppendFile, Mode
from scraper.pipelines.claim import Owner, owner_of
from scraper.pipelines.compression import COMPRESSED, encoder
from scraper.pipelines.filesystem import check_directory, file_name
from scraper.pipelines.paths import output_error, placeholders, resolve
from scraper.protocols import CrawlInfo

__all__ = ["FileSet", "Shape", "Stream"]


@dataclass(frozen=True, slots=True)
class Shape:
    """How the files of a sink are made.

    `records`, `size`: of one part, at most (bytes as they lie in the file; 0: no parts). `frame`:
    the bytes of a group, from the stream's name, its records and whether they are the file's
    first. `closing`: the bytes that end a file, from the stream's name and whether it is empty.
    """

    mode: Mode
    terminator: bytes
    keep_empty: bool
    frame: Callable[[str, Sequence[bytes], bool], Sequence[bytes]]
    closing: Callable[[str, bool], bytes] | None
    records: int = 0
    size: int = 0

    @property
    def parts(self) -> bool:
        return bool(self.records or self.size)


@dataclass(slots=True)
class Stream:
    """One name's files. `records`: in part number `part`, which `file` is while it is open."""

    name: str
    part: int = 1
    records: int = 0
    size: int = 0
    file: AppendFile | None = None


class FileSet:
    """The files that *template* means for *crawl*.

    `single`: it is one file, whose name is known beforehand.
    """

    def __init__(self, template: str, crawl: CrawlInfo, shape: Shape) -> None:
        self.template = _numbered(template) if shape.parts else template
        self.shape = shape
        self.streams: dict[str, Stream] = {}
        self.by_item = "item" in placeholders(self.template)
        self.single = not (self.by_item or shape.parts)
        self.aside: dict[str, str] = {}
        self.displaced: list[Path] = []
        self._crawl = crawl
        self._owner = Owner.of(crawl, self.template)
        self._encode = encoder(self.template)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="output")
        self.base = self.path("{item}", "{part}")

    def path(self, item: str, part: int | str) -> Path:
        """Where the part of a stream is published."""
        number = part if isinstance(part, str) else f"{part:04}"
        values = {}
        if self.by_item:
            values["item"] = item if item == "{item}" else file_name(item)
        if self.shape.parts:
            values["part"] = number
        return resolve(self.template, self._crawl, values)

    def _file(self, name: str, part: int) -> AppendFile:
        shape, closing = self.shape, self.shape.closing
        return AppendFile(
            self.path(name, part),
            mode=shape.mode,
            terminator=shape.terminator,
            keep_empty=shape.keep_empty or not self.single,
            encode=self._encode,
            closing=partial(self._closing, name) if closing or self._encode else None,
            thread=self._thread,
        )

    def _closing(self, name: str, size: int) -> bytes:
        tail = b"" if self.shape.closing is None else self.shape.closing(name, size == 0)
        return self._encode(tail) if self._encode is not None and (tail or not size) else tail

    # ── opening

    async def open(self) -> None:
        """Find out, before anything is fetched, whether files can be made there."""
        if self.single:
            stream = self.streams[""] = Stream("")
            stream.file = self._file("", 1)
            await stream.file.open(self._owner, resumed=self._crawl.resumed)
            return
        fixed = self.base
        while "{item}" in str(fixed.parent) or "{part}" in str(fixed.parent):
            fixed = fixed.parent  # what is not known yet is made when it is
        try:
            check_directory(fixed.parent)
        except OSError as error:
            raise output_error(error, self.base) from error

    @asynccontextmanager
    async def _opened(self, name: str, part: int) -> AsyncIterator[AppendFile]:
        """A file that no records go to any more, for a while."""
        file = self._file(name, part)
        try:
            await file.open(self._owner, resumed=True)
            yield file
        finally:
            await file.aclose()

    def recall(self, position: Any) -> None:
        """The streams as they were committed at *position*. Raises `DamagedState`."""
        for name, (part, size, records) in _streams(position, self.base).items():
            stream = self.streams.setdefault(name, Stream(name))
            stream.part, stream.size, stream.records = part, size, records
            if stream.file is not None:
                stream.file.recall(size)

    async def rewind(self, position: Any) -> None:
        """Be what was committed at *position*; None: nothing was."""
        self.recall(position)
        for stream in self.streams.values():
            await self._begin(stream, None if position is None else stream.size)
        if self._crawl.resumed and not self.single:
            await self._remove_strays()

    async def _begin(self, stream: Stream, size: int | None) -> AppendFile:
        file = stream.file
        if file is None:
            file = stream.file = self._file(stream.name, stream.part)
            await file.open(self._owner, resumed=self._crawl.resumed or size is not None)
        await file.rewind(size)
        stream.size = file.size
        if file.displaced is not None:
            self.displaced.append(file.displaced)
        return file

    async def _remove_strays(self) -> None:
        """What an earlier process of this run began and never committed holds nothing."""
        expected = {
            self.path(stream.name, part)
            for stream in self.streams.values()
            for part in range(1, stream.part + 1)
        }
        for path in self.found():
            if path not in expected:
                stray = AppendFile(path, mode=self.shape.mode, thread=self._thread)
                try:
                    await stray.open(self._owner, resumed=True)
                    await stray.rewind(None)
                    await stray.set_aside()
                finally:
                    await stray.aclose()

    def found(self) -> list[Path]:
        """Files of the set that this run has begun, by the locks beside them."""
        pattern = escape(str(self.base)).replace("{item}", "*").replace("{part}", "*") + ".lock"
        root = Path(self.base.anchor)
        locks = sorted(root.glob(str(Path(pattern).relative_to(root))))
        return [
            lock.with_name(lock.name.removesuffix(".lock"))
            for lock in locks
            if (owner := owner_of(lock)) is not None
            and owner.same(self._owner)
            and owner.output == self.template
        ]

    # ── writing

    async def write(self, name: str, records: Sequence[bytes]) -> None:
        """Append a group's records to the stream *name*, in as many parts as it takes."""
        stream = self.streams.setdefault(name, Stream(name))
        while records:
            file = stream.file or await self._begin(stream, None)
            room = self._room(stream, records)
            if not room:
                await self._next_part(stream)
                continue
            first = file.size == 0
            await file.write(self.shape.frame(name, records[:room], first))
            stream.size, stream.records = file.size, stream.records + room
            records = records[room:]

    def _room(self, stream: Stream, records: Sequence[bytes]) -> int:
        """How many of *records* the part takes: at least one, if it is empty.

        What is compressed has a size only afterwards: then a part ends with the group that fills
        it.
        """
        shape, room = self.shape, len(records)
        if shape.records:
            room = min(room, shape.records - stream.records)
        if shape.size and stream.records and stream.size >= shape.size:
            return 0
        if shape.size and self._encode is None:
            size = stream.size
            for place in range(room):
                size += len(records[place])
                if size > shape.size and stream.records + place:
                    return place
        return room

    async def _next_part(self, stream: Stream) -> None:
        """The part is full: it stays as it is until it is published."""
        if stream.file is not None:
            await stream.file.seal()
            await stream.file.aclose()
        stream.file = None
        stream.part, stream.size, stream.records = stream.part + 1, 0, 0

    @property
    def position(self) -> dict[str, list[int]]:
        """How far each stream is valid: its part, and bytes and records of it."""
        return {s.name: [s.part, s.size, s.records] for s in self.streams.values()}

    # ── ending

    async def publish(self) -> list[Path]:
        """Put all files under their names; return them. Idempotent, once the position is known."""
        published: list[Path] = []
        for stream in self.streams.values():
            for part in range(1, stream.part):
                async with self._opened(stream.name, part) as file:
                    await file.publish()
                    published.append(file.path)
            if stream.file is not None:
                await stream.file.publish()
                published.append(stream.file.path)
            else:
                async with self._opened(stream.name, stream.part) as file:
                    file.recall(stream.size)
                    await file.publish()
                    published.append(file.path)
            self._remove_surplus(stream)
        return published

    def _remove_surplus(self, stream: Stream) -> None:
        """Parts of an earlier crawl beyond this one's last would pass for this one's."""
        if not self.shape.parts:
            return
        part = stream.part + 1
        while (path := self.path(stream.name, part)).is_file():
            path.unlink()
            part += 1

    async def reopen(self, position: Any, aside: Mapping[str, str]) -> None:
        """Make what was published the working set again; the streams' parts before the last stay.

        *aside*: where files went instead, by the path that they were to be published under.
        """
        self.recall(position)
        for stream in self.streams.values():
            for part in range(1, stream.part):
                path = self.path(stream.name, part)
                if str(path) in aside:
                    async with self._opened(stream.name, part) as file:
                        await file.reopen(None, Path(aside[str(path)]))
            if stream.file is None:
                stream.file = self._file(stream.name, stream.part)
                await stream.file.open(self._owner, resumed=True)
            found = aside.get(str(stream.file.path))
            stream.size = await stream.file.reopen(stream.size, Path(found) if found else None)

    async def set_aside(self) -> None:
        """Move what this run wrote out of the way, finished parts included."""
        files = [stream.file for stream in self.streams.values() if stream.file is not None]
        for file in files:
            await file.set_aside()
            self._moved(file)
        done = {file.path for file in files}
        for path in self.found() if not self.single else ():
            if path not in done:
                part = AppendFile(path, mode=self.shape.mode, thread=self._thread)
                try:
                    await part.open(self._owner, resumed=True)
                    await part.set_aside()
                    self._moved(part)
                finally:
                    await part.aclose()

    def _moved(self, file: AppendFile) -> None:
        if file.aside is not None:
            self.aside[str(file.path)] = str(file.aside)

    async def aclose(self) -> None:
        """Let go of the files; what is unfinished stays for the next process."""
        try:
            for stream in self.streams.values():
                if stream.file is not None:
                    await stream.file.aclose()
        finally:
            self._thread.shutdown(wait=False)


def _numbered(template: str) -> str:
    """*template* with a place for the part's number: `x.csv.gz` → `x-{part}.csv.gz`."""
    if "part" in placeholders(template):
        return template
    path, endings = Path(template), ""
    if path.suffix.lower() in COMPRESSED:
        endings, path = path.suffix, path.with_suffix("")
    return str(path.with_name(f"{path.stem}-{{part}}{path.suffix}{endings}"))


def _streams(position: Any, base: Path) -> dict[str, tuple[int, int, int]]:
    """The streams of a stored position. Raises `DamagedState` for what is none."""
    try:
        found = {
            str(name): (int(part), int(size), int(records))
            for name, (part, size, records) in dict(position or {}).items()
        }
    except (TypeError, ValueError):
        found = {"": (0, 0, 0)}
    if any(part < 1 or size < 0 or records < 0 for part, size, records in found.values()):
        raise DamagedState(f"{base}: {position!r} is not a position of it")
    return found
