"""Files that are made at the end, of the rows that a journal has kept until then.

Some formats cannot grow by groups and be cut again: what says how to read them stands at their
end, and is worth its place only for many rows. Of these, `FILE.partial` is a *journal*: lines of
JSON in frames of zstd (RFC 8878), which grows and rewinds like any append file. Once no row will
follow, the file is made of it, beside it, and takes its place by one rename. So whatever is killed
and whenever, either the journal is there or the finished file, whole.

::

    {"columns": …, "base": …}       what the rows are; whether those of FILE.partial.base precede
    […]                             a row
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Protocol, cast

import zstandard

from scraper.errors import DamagedState, ScraperError, UsageError
from scraper.pipelines.appendfile import AppendFile
from scraper.pipelines.compression import COMPRESSED
from scraper.pipelines.fileset import FileSet
from scraper.pipelines.filesystem import (
    copy_start,
    is_plain,
    no_follow,
    reserve,
    sync_directory,
)
from scraper.pipelines.parts import Shape
from scraper.pipelines.remote import Target
from scraper.protocols import CrawlInfo

__all__ = ["Format", "Journal", "RowFile", "RowSet", "head_line"]

_READ = 1 << 20  # bytes of lines that are looked at at once
_pack = COMPRESSED[".zst"]


class Format(Protocol):
    """What a finished file is, and how it is made. `magic`: what it begins with."""

    magic: bytes

    def head(self) -> dict[str, Any]:
        """What a journal begins with; `generation` among it, one more after each `reopen`."""

    def make(self, journal: Journal | None, base: Path | None, out: IO[bytes]) -> None:
        """Write a file with the rows of *base*, one that was finished before, and of *journal*."""

    def published_at(self, path: Path) -> int | None:
        """The size that the journal had when this run made the file *path*; None: it did not."""


def head_line(head: Mapping[str, Any]) -> bytes:
    """The first line of a journal."""
    return json.dumps(head, ensure_ascii=False).encode() + b"\n"


class Journal:
    """The first *size* bytes of the journal *path*.

    `head`: its first line. Raises `DamagedState` for what is no journal. *given_up*: whether
    nobody waits for its rows any more.
    """

    def __init__(self, path: Path, size: int, given_up: Callable[[], bool] = lambda: False) -> None:
        self.path = path
        self.size = size
        self._given_up = given_up
        first = next(self._lines(), [b""])[0]
        try:
            self.head: dict[str, Any] = dict(json.loads(first))
        except (ValueError, TypeError):
            raise self._damaged("it does not begin as it should") from None

    def blocks(self) -> Iterator[list[bytes]]:
        """Its rows, many at a time: about a megabyte, or one row."""
        lines = self._lines()
        _, *rows = next(lines)
        if rows:
            yield rows
        for rows in lines:
            self.check()
            yield rows

    def check(self) -> None:
        """Raises `ScraperError` when nobody waits for what is made of it."""
        if self._given_up():
            raise ScraperError(f"{self.path}: given up before the file was made")

    def _lines(self) -> Iterator[list[bytes]]:
        rest: list[bytes] = []
        try:
            with self.path.open("rb") as file:
                source = zstandard.ZstdDecompressor().stream_reader(
                    cast("IO[bytes]", _Beginning(file, self.size)), read_across_frames=True
                )
                while data := source.read(_READ):
                    *lines, last = data.split(b"\n")
                    if lines:
                        lines[0] = b"".join([*rest, lines[0]])
                        rest = []
                        yield lines
                    rest.append(last)
        except zstandard.ZstdError as error:
            raise self._damaged(str(error)) from None
        if any(rest):
            raise self._damaged("it ends within a row")

    def _damaged(self, how: str) -> DamagedState:
        return DamagedState(
            f"{self.path} is not as it was committed: {how}",
            hint="Put the file back as it was, or start anew with --fresh, which keeps it aside.",
        )


class _Beginning(io.RawIOBase):
    """The first *size* bytes of a file, to read."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


class RowFile(AppendFile):
    """An append file whose content, when it is finished, is made anew: see `Format`.

    *known*: rows were committed to it, whoever knows how many.
    """

    def __init__(
        self,
        path: Path,
        form: Format,
        *,
        keep_empty: bool = False,
        known: bool = False,
        thread: ThreadPoolExecutor | None = None,
    ) -> None:
        super().__init__(path, terminator=b"", keep_empty=keep_empty, encode=_pack, thread=thread)
        self.base = self.working.with_name(self.working.name + ".base")
        self._making = self.working.with_name(self.working.name + ".making")
        self._form = form
        self._known = known
        self._closed = False

    @property
    def has_rows(self) -> bool:
        """Rows were committed to it, so that it cannot be missing."""
        return self._known or bool(self._committed)

    def _settle(self, size: int | None) -> int:
        if size and self._is_made(self.working):
            raise DamagedState(
                f"{self.working} is finished, and the ledger says that it was still growing",
                hint="Is the ledger an older copy? Run with --fresh to start anew; what there is"
                " is set aside, not deleted.",
            )
        target = super()._settle(size)
        if not target:
            self.base.unlink(missing_ok=True)  # a copy that no journal asks for
        elif Journal(self.working, target).head.get("base") and not self.base.exists():
            raise DamagedState(
                f"{self.base} is gone, with what {self.path.name} had before",
                hint=f"Put it back: it is {self.path.name} as it was published.",
            )
        return target

    # ── ending

    def _seal(self) -> None:
        self._claim.record(None, sealed=self.size)  # the file is made when that is committed

    def _check_sealed(self, elsewhere: bool) -> None:
        sealed = self._claim.sealed if self._claim.ours else None
        if sealed is None or not self.working.exists() or not self._is_made(self.working):
            super()._check_sealed(elsewhere)
        elif sealed not in (self._form.published_at(self.working), self.working.stat().st_size):
            raise self._less(self.working.stat().st_size, sealed, "it is not what was made of them")

    async def finish(self) -> None:
        """Make the file, in the journal's place. Idempotent."""
        await self._in_thread(self._finish)

    def _finish(self) -> None:
        if not self.working.exists():
            return  # it has its name already
        found = self.working.stat().st_size
        if self._is_made(self.working):
            self.base.unlink(missing_ok=True)
            self.size = found
            return
        size = self._committed
        if size is None:
            raise ScraperError(f"{self.working}: how much of it was committed is not known")
        if found < size or (self._begun and not self._torn and found > size):
            raise self._less(found, size, "something else changed it")
        if not size and not self._keep_empty:
            os.truncate(self.working, 0)
            return
        journal = Journal(self.working, size, lambda: self._closed) if size else None
        base = self.base if journal is not None and journal.head.get("base") else None
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        try:
            with os.fdopen(no_follow(str(self._making), flags), "wb") as out:
                self._form.make(journal, base, out)
                out.flush()
                os.fsync(out.fileno())
            self._making.replace(self.working)
        finally:
            self._making.unlink(missing_ok=True)
        sync_directory(self.path.parent)
        self.base.unlink(missing_ok=True)
        self.size = self.working.stat().st_size

    @property
    def _committed(self) -> int | None:
        """How many bytes of the journal are; None when nobody knows here."""
        if self._begun or self._recalled:
            return self.size
        return self._claim.sealed if self._claim.ours else None

    def _publish(self) -> None:
        if self.has_rows and not self.working.exists() and not self.path.exists():
            raise DamagedState(
                f"{self.path} cannot be published: it and {self.working.name} are both gone",
                hint="Put one of them back, or start anew with --fresh.",
            )
        super()._publish()

    def _is_made(self, path: Path) -> bool:
        with path.open("rb") as file:
            return file.read(len(self._form.magic)) == self._form.magic

    async def aclose(self) -> None:
        self._closed = True  # what is being made is left, if a cancelled call has left it to itself
        await super().aclose()

    # ── after it was published, or set aside

    def _reopen(self, size: int | None, source: Path | None) -> int:
        source = source or self.path
        head = self._form.head() | {"base": True}
        if self._claim.ours and self.working.exists():
            return self._reopened(head) or size or 0
        there = is_plain(source) and source.exists()
        if size is None or size == 0 or (there and not self._is_made(source)):
            return super()._reopen(size, source)  # a full part, nothing, a journal kept aside
        if not there or self._form.published_at(source) != size:
            what = "is not what this crawl published" if there else "is gone"
            raise UsageError(
                f"{source} {what}, where its rows were delivered: it cannot add to them",
                hint="Put the output back where it was published, or crawl anew.",
            )
        if self.working.exists():  # left by a crawl that can no longer be resumed
            suffix = self._claim.holder.aside if self._claim.holder else "aside"
            self.displaced = self._move_aside(suffix)
        copy_start(source, source.stat().st_size, self.base)
        self._claim.record(None)
        first = _pack(head_line(head))
        with self._making.open("wb") as file:
            file.write(first)
            file.flush()
            os.fsync(file.fileno())
        self._making.replace(self.working)
        sync_directory(self.path.parent)
        return len(first)

    def _reopened(self, head: Mapping[str, Any]) -> int:
        """The size of the journal, when the same `reopen` has begun it: it has no rows yet."""
        size = self.working.stat().st_size
        if not size or self._is_made(self.working):
            return 0
        found = Journal(self.working, size).head
        return size if found.get("generation") == head["generation"] and found.get("base") else 0

    def _set_aside(self, failed: bool) -> None:
        if failed and not self._claim.foreign and self._committed:
            self._finish()
        super()._set_aside(failed)

    def _move_aside(self, suffix: str) -> Path | None:
        self._making.unlink(missing_ok=True)
        if self.base.exists():
            self.base.replace(reserve(self.base, suffix))
        return super()._move_aside(suffix)


class RowSet(FileSet):
    """A set of such files. *form*: that of a stream's. *early*: whether a stream's full parts can
    be made into files while the crawl goes on.
    """

    def __init__(
        self,
        template: str,
        crawl: CrawlInfo,
        shape: Shape,
        form: Callable[[str], Format],
        early: Callable[[str], bool],
        target: Target | None = None,
    ) -> None:
        super().__init__(template, crawl, shape, target)
        self._encode = _pack
        self._form = form
        self._early = early
        self._made: dict[str, int] = {}

    def _file(self, name: str, part: int) -> RowFile:
        return RowFile(
            self.path(name, part),
            self._form(name),
            keep_empty=self.shape.keep_empty,
            known=part < self._stream(name).part,
            thread=self._thread,
        )

    def _file_at(self, path: Path) -> RowFile:
        return RowFile(path, self._form(""), thread=self._thread)

    async def rewind(self, position: Any) -> None:
        await super().rewind(position)
        self._made = {stream.name: stream.part - 1 for stream in self.streams.values()}

    async def _publish(self, file: AppendFile) -> None:
        target = self._target
        here = file.working.exists() or file.path.exists()
        lost = isinstance(file, RowFile) and file.has_rows and not here
        if lost and target is not None and not await target.exists(file.path):
            raise DamagedState(
                f"{target.url(file.path)} cannot be published: it is not there, and"
                f" {file.working} is gone",
                hint="Put one of them back, or start anew with --fresh.",
            )
        await super()._publish(file)

    def delivered(self) -> Iterator[tuple[Path, Path, int | None]]:
        for path, where, _ in super().delivered():
            yield path, where, None  # all of a finished file is this run's

    async def finish_full(self) -> None:
        """Make files of the parts that were filled since, now that this is committed."""
        for stream in self.streams.values():
            if not self._early(stream.name):
                continue
            for part in range(self._made.get(stream.name, 0) + 1, stream.part):
                async with self._opened(stream, part) as file:
                    assert isinstance(file, RowFile)  # noqa: S101 - `_file` made it
                    await file.finish()
            self._made[stream.name] = stream.part - 1
