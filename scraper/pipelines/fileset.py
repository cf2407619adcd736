"""File sets: one output in several files, by the type of item and by parts.

A stream is what goes to files of one name: one for each item type where the path holds `{item}`,
else the only one. Its files are numbered parts where files are to have a largest size. Records go
to a stream's last part alone; those before it are sealed, and wait to be published with the rest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from aiofiles.os import wrap

from scraper.errors import DamagedState, ScraperError
from scraper.pipelines.appendfile import AppendFile
from scraper.pipelines.claim import Owner, owner_of, refuse_unfinished
from scraper.pipelines.compression import encoder
from scraper.pipelines.filesystem import check_directory, file_name
from scraper.pipelines.parts import Shape, Stream, framed, numbered, room_for, streams_of
from scraper.pipelines.paths import output_error, placeholders, require_directory, resolve
from scraper.pipelines.remote import Target
from scraper.protocols import CrawlInfo

__all__ = ["FileSet"]

P = ParamSpec("P")
T = TypeVar("T")


class FileSet:
    """The files that *template* means for *crawl*.

    *target*: where they go when they are published, if that is not where they lie. `single`: it is
    one file, whose name is known beforehand. `base`: the path, with `{item}` and `{part}` where it
    has them.
    """

    def __init__(
        self, template: str, crawl: CrawlInfo, shape: Shape, target: Target | None = None
    ) -> None:
        self.template = numbered(template) if shape.parts else template
        self.shape = shape
        self.streams: dict[str, Stream] = {}
        self.by_item = "item" in placeholders(self.template)
        self.single = not (self.by_item or shape.parts)
        self.aside: dict[str, str] = {}
        self.displaced: list[Path] = []
        self._known = False  # how much was committed
        self._nothing = False  # was
        self._torn = False
        self._crawl = crawl
        self._resumed = crawl.resumed or crawl.shared  # by whichever worker
        self._target = target
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
        shape = self.shape
        return AppendFile(
            self.path(name, part),
            mode=shape.mode,
            terminator=shape.terminator,
            keep_empty=shape.keep_empty,
            encode=self._encode,
            closing=partial(self._closing, name),
            thread=self._thread,
        )

    def _closing(self, name: str, size: int) -> bytes:
        if not size and not self.shape.keep_empty:
            return b""
        tail = self.shape.closing(name, size == 0)
        return self._encode(tail) if self._encode is not None and (tail or not size) else tail

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await wrap(work)(*args, executor=self._thread, **kwargs)
        except OSError as error:
            raise output_error(error, self.base) from error

    # ── opening

    async def open(self) -> None:
        """Find out, before anything is fetched, whether files can be made there."""
        require_directory(self.base, self._crawl)
        if self._target is not None:
            await self._target.check(self.base)
        if not self.by_item:
            stream, file, hold = self._stream(""), self._file("", 1), not self._crawl.shared
            stream.first = file if hold else None
            await file.open(self._owner, resumed=self._crawl.resumed, hold=hold)
            return
        fixed = self.base
        while "{item}" in str(fixed.parent) or "{part}" in str(fixed.parent):
            fixed = fixed.parent  # what is not known yet is made when it is
        await self._in_thread(check_directory, fixed.parent)
        for path, owner in await self._in_thread(self._begun):
            if owner.spider == self._owner.spider:  # which will come to the same types of items
                refuse_unfinished(self._file_at(path).working, owner, self._owner)

    def _file_at(self, path: Path) -> AppendFile:
        """A file of the set that is only to be moved."""
        return AppendFile(path, mode=self.shape.mode, thread=self._thread)

    @asynccontextmanager
    async def _opened(self, stream: Stream, part: int) -> AsyncIterator[AppendFile]:
        """A part of *stream*: one that is open, or one that is opened for a while."""
        if stream.file is not None and part == stream.part:
            yield stream.file
            return
        if stream.first is not None and part == 1:
            yield stream.first
            return
        file = self._file(stream.name, part)
        try:
            # A crawl without a job is the same for nobody else: these it has begun itself.
            await file.open(self._owner, resumed=True, own=not self._owner.job)
            yield file
        finally:
            await file.aclose()

    def _stream(self, name: str) -> Stream:
        return self.streams.setdefault(name, Stream(name))

    def _begun(self) -> list[tuple[Path, Owner]]:
        """Files of the set that some run has begun, by the locks beside them.

        Not those of other outputs that lie there: `*.jsonl` is also the name of rejected files.
        """
        pattern = escape(str(self.base)).replace("{item}", "*").replace("{part}", "*") + ".lock"
        root = Path(self.base.anchor)
        locks = sorted(root.glob(str(Path(pattern).relative_to(root))))
        return [
            (lock.with_name(lock.name.removesuffix(".lock")), owner)
            for lock in locks
            if (owner := owner_of(lock)) is not None and owner.output == self.template
        ]

    # ── recovering

    def recall(self, position: Any) -> None:
        """The streams as they were committed at *position* (None: nothing was).

        Raises `DamagedState`.
        """
        for name, (part, size, records) in streams_of(position, self.base).items():
            stream = self._stream(name)
            stream.part, stream.size, stream.records = part, size, records
        self._known, self._nothing, self._torn = True, position is None, False

    async def rewind(self, position: Any) -> None:
        """Be what was committed at *position*; None: nothing was."""
        self.recall(position)
        for stream in self.streams.values():
            await self._begin(stream, None if position is None else stream.size)
            for part in range(1, stream.part):
                async with self._opened(stream, part) as file:
                    await file.check_sealed(elsewhere=self._target is not None)
        if not self.single:
            await self._remove_strays()

    async def _begin(self, stream: Stream, size: int | None) -> AppendFile:
        """Open the part that takes records, and part 1, if another does."""
        resumed = self._resumed or size is not None
        if stream.first is None:
            stream.first = self._file(stream.name, 1)
            await stream.first.open(self._owner, resumed=resumed)
        file = stream.first
        if stream.part > 1:
            file = self._file(stream.name, stream.part)
            stream.file = file  # closed with the rest, whatever comes
            await file.open(self._owner, resumed=resumed)
        await file.rewind(size)
        stream.file, stream.size = file, file.size
        if file.displaced is not None:
            self.displaced.append(file.displaced)
        return file

    async def _remove_strays(self) -> None:
        """Files that this run does not know of.

        Those that an earlier process of it began and never committed hold nothing. Those of a run
        that nobody can resume are displaced, as if this one had come to them.
        """
        expected = {
            self.path(stream.name, part)
            for stream in self.streams.values()
            for part in range(1, stream.part + 1)
        }
        for path, owner in await self._in_thread(self._begun):
            elsewhere = owner.resumable and owner.job != self._owner.job
            if path in expected or elsewhere or owner.spider != self._owner.spider:
                continue
            stray = self._file_at(path)
            try:
                await stray.open(self._owner, resumed=self._resumed)
                await stray.rewind(None)
                if stray.displaced is not None:
                    self.displaced.append(stray.displaced)
                await stray.set_aside()
            finally:
                await stray.aclose()

    # ── writing

    async def write(self, groups: Mapping[str, Sequence[bytes]]) -> None:
        """Append a group's records, by stream, in as many parts as it takes.

        After a failure no further group is taken: some of this one may have been written.
        """
        if self._torn:
            raise ScraperError(f"{self.base} takes no records now: rewind it first")
        self._torn = True
        for name, records in groups.items():
            await self._write(self._stream(name), records)
        self._torn = False

    async def _write(self, stream: Stream, records: Sequence[bytes]) -> None:
        while records:
            file = stream.file or await self._begin(stream, None)
            lead = b"" if file.size else self.shape.opening(stream.name)
            room = room_for(records, stream, self.shape, len(lead), self._encode is not None)
            if not room:
                await self._next_part(stream)
                continue
            await file.write(framed(lead, records[:room], self.shape.between, not file.size))
            stream.size, stream.records = file.size, stream.records + room
            records = records[room:]

    async def _next_part(self, stream: Stream) -> None:
        """The part is full: it stays as it is until it is published."""
        file, stream.file = stream.file, None
        if file is not None:
            await file.seal()
            if file is not stream.first:
                await file.aclose()
        stream.part, stream.size, stream.records = stream.part + 1, 0, 0

    @property
    def position(self) -> dict[str, list[int]]:
        """How far each stream is valid: its part, and bytes and records of it."""
        return {s.name: [s.part, s.size, s.records] for s in self.streams.values()}

    # ── ending

    async def publish(self) -> list[Path]:
        """Put all files under their names; return them. Idempotent, once the position is known."""
        if self._torn:
            raise ScraperError(f"{self.base} ends in a torn record: not published")
        published: list[Path] = []
        for stream in self.streams.values():
            # Part 1 comes last: what claims it keeps other crawls from all of them.
            for part in range(stream.part, 0, -1):
                if part == 1:
                    await self._remove_surplus(stream)
                async with self._opened(stream, part) as file:
                    if self._known and part == stream.part and stream.file is None:
                        file.recall(None if self._nothing else stream.size)
                    await self._publish(file)
                    published.append(file.path)
        return published

    async def sift(self, stays: Callable[[bytes], bool]) -> None:
        """Before `publish`: leave out of each stream's last part lines that are not to stay."""
        for stream in self.streams.values():
            async with self._opened(stream, stream.part) as file:
                stream.size = await file.sift(stays)

    async def _publish(self, file: AppendFile) -> None:
        target = self._target
        if target is None:
            await file.publish()
        elif file.working.exists() or file.path.exists():
            await file.publish()
            if file.path.exists():
                await target.deliver(file.path)
            else:  # it held nothing, and is not to be published then
                await target.remove(file.path)
        elif self.shape.keep_empty and not await target.exists(file.path):
            raise DamagedState(
                f"{target.url(file.path)} cannot be published: it is not there, and"
                f" {file.working} is gone",
                hint="Put one of them back, or start anew with --fresh.",
            )

    async def _remove_surplus(self, stream: Stream) -> None:
        """Parts of an earlier crawl beyond this one's last would pass for this one's."""
        if not self.shape.parts:
            return
        surplus: list[Path] = []
        while await self._is_there(path := self.path(stream.name, stream.part + 1 + len(surplus))):
            surplus.append(path)
        for path in reversed(surplus):  # so that the rest is found again after a crash
            if self._target is not None:
                await self._target.remove(path)
            else:
                await self._in_thread(path.unlink)

    async def _is_there(self, path: Path) -> bool:
        """Whether a file lies under its published name."""
        if self._target is not None:
            return await self._target.exists(path)
        return await self._in_thread(path.is_file)

    def delivered(self) -> Iterator[tuple[Path, Path, int | None]]:
        """Once published or set aside: each file's path, where it is, how much of it is ours.

        None: all.
        """
        for stream in self.streams.values():
            for part in range(1, stream.part + 1):
                path = self.path(stream.name, part)
                moved = self.aside.get(str(path))
                if moved is not None and self.shape.mode == "append":
                    yield path, Path(moved), None
                else:
                    yield path, Path(moved or path), stream.size if part == stream.part else None

    async def reopen(self, position: Any, aside: Mapping[str, str]) -> None:
        """Make what was published the working set again; the streams' parts before the last stay.

        *aside*: where files went instead, by the path that they were to be published under.
        """
        self.recall(position)
        for stream in self.streams.values():
            for part in range(1, stream.part + 1):
                source = aside.get(str(self.path(stream.name, part)))
                there = Path(source) if source is not None else None
                async with self._opened(stream, part) as file:
                    if part == stream.part:
                        await self._fetch(file, stream.size if there is None else 0)
                        stream.size = await file.reopen(stream.size, there)
                    elif there is not None or (part == 1 and self._target is None):
                        await file.reopen(None, there)  # part 1: which claims the stream

    async def _fetch(self, file: AppendFile, size: int) -> None:
        """Bring back what was delivered, if *size* bytes of it are wanted."""
        target = self._target
        if target is not None and size and not file.working.exists():
            await target.fetch(file.path)  # or `reopen` will miss it

    async def set_aside(self) -> None:
        """Move what this run wrote out of the way, sealed parts included."""
        failed = any(stream.file is not None for stream in self.streams.values())
        for stream in self.streams.values():
            for part in range(1, stream.part + 1):
                async with self._opened(stream, part) as file:
                    await file.set_aside(failed=failed)
                    self._moved(file)
        for path, owner in () if self.single else await self._in_thread(self._begun):
            if not owner.same(self._owner):
                continue
            file = self._file_at(path)
            try:
                await file.open(self._owner, resumed=True)
                await file.set_aside(failed=failed)
                self._moved(file)
            finally:
                await file.aclose()

    def _moved(self, file: AppendFile) -> None:
        if file.aside is not None:
            self.aside[str(file.path)] = str(file.aside)

    async def aclose(self) -> None:
        """Let go of the files; what is unfinished stays for the next process."""
        try:
            for stream in self.streams.values():
                for file in {
                    id(file): file for file in (stream.first, stream.file) if file
                }.values():
                    await file.aclose()
        finally:
            self._thread.shutdown(wait=False)
