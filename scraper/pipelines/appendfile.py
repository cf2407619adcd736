"""Append files that rewind: the mechanics under every sink that writes one growing file.

Records are written whole, flushed, and only then committed by their position; whatever lies
beyond the committed position is cut when the job resumes. Nothing that holds committed records,
or that another crawl wrote, is ever deleted here: it is set aside under a name of its own.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

import aiofiles
from aiofiles.os import wrap

from scraper.errors import DamagedState, JobError, ScraperError, UsageError
from scraper.pipelines.claim import Claim, Owner
from scraper.pipelines.filesystem import (
    BLOCK,
    blocks,
    check_directory,
    flushed_size,
    is_plain,
    no_follow,
    reserve,
    sync_directory,
)
from scraper.pipelines.paths import output_error

if TYPE_CHECKING:
    from aiofiles.threadpool.binary import AsyncFileIO

__all__ = ["AppendFile", "Mode"]

Mode = Literal["replace", "append"]
P = ParamSpec("P")
T = TypeVar("T")


class AppendFile:
    """One file that grows by groups and can be cut back to any group's end.

    *mode* "replace": written as `FILE.partial`, put under its name by `publish`. "append": FILE
    itself grows; what it held before is never touched, but when it does not end in *terminator*
    one is added, so that the first record stands on a line of its own. *keep_empty*: publish a
    file that holds nothing; otherwise nothing is published, and the FILE of an earlier crawl,
    which this one did not confirm, is removed.

    *encode*: what makes a block of records, compressed, stand for itself wherever it is put.
    *closing*: the bytes that end a file of a given size when it is published. *thread*: where the
    blocking work is done, when several files share one.

    `size`: the position, in bytes. `aside`: where `set_aside` put this crawl's records.
    `displaced`: where `rewind` put what another, unfinished crawl had left in its place.
    All blocking work runs in one thread, in order, so that a cancelled call can never overlap the
    next one.
    """

    def __init__(
        self,
        path: Path,
        *,
        mode: Mode = "replace",
        terminator: bytes = b"\n",
        keep_empty: bool = True,
        encode: Callable[[bytes], bytes] | None = None,
        closing: Callable[[int], bytes] | None = None,
        thread: ThreadPoolExecutor | None = None,
    ) -> None:
        self.path = path
        self.mode = mode
        self.working = path if mode == "append" else path.with_name(path.name + ".partial")
        self.size = 0
        self.aside: Path | None = None
        self.displaced: Path | None = None
        self._terminator = terminator if encode is None else b""
        self._encode = encode
        self._closing = closing
        self._keep_empty = keep_empty
        self._claim = Claim(path.with_name(path.name + ".lock"))
        self._file: AsyncFileIO | None = None
        self._fd = -1
        self._begun = False
        self._recalled = False
        self._torn = False
        self._thread = thread or ThreadPoolExecutor(1, thread_name_prefix="output")
        self._own_thread = thread is None

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await wrap(work)(*args, executor=self._thread, **kwargs)
        except OSError as error:
            raise output_error(error, self.working) from error

    # ── opening

    async def open(self, owner: Owner, *, resumed: bool = False) -> None:
        """Check, before anything is fetched, that the output can be written; change nothing.

        Creates missing directories. Raises `UsageError` where nothing can be written there and
        `JobError` where another crawl, running or resumable, has its unfinished output.
        *resumed*: this job wrote to it before.
        """
        await self._in_thread(self._check, owner, resumed)

    def _check(self, owner: Owner, resumed: bool) -> None:
        check_directory(self.path.parent)
        for path in {self.path, self.working}:
            if not is_plain(path) and (path == self.working or not path.is_symlink()):
                raise OSError(
                    errno.ELOOP if path.is_symlink() else errno.EINVAL,
                    "it is not a regular file (-o - writes to stdout)",
                )
        self._claim.take(owner, resumed=resumed)
        holder = self._claim.holder
        elsewhere = holder is not None and holder.resumable and holder.job != owner.job
        if holder is not None and elsewhere and self.working.exists():
            self._claim.release()
            raise JobError(
                f"{self.working} belongs to a crawl of {holder.spider} that has not finished"
                f" (started {holder.started}, {holder.job})",
                hint="Finish that one first, choose another file for this one (-o FILE), or, to"
                f" give that one up, move {self.working.name} and {self._claim.path.name} away.",
            )

    async def rewind(self, size: int | None) -> None:
        """Be what was committed: *size* bytes. None: this crawl has committed nothing yet.

        Raises `DamagedState` when less is there.
        """
        await self._in_thread(self._make_way, size)
        try:
            self._file = await aiofiles.open(
                self.working, "a+b", buffering=0, opener=no_follow, executor=self._thread
            )
        except OSError as error:
            raise output_error(error, self.working) from error
        self._fd = self._file.fileno()
        self.size = await self._in_thread(self._settle, size)
        self._begun, self._torn = True, False

    def _make_way(self, size: int | None) -> None:
        exists = self.working.exists()
        if size and not exists:
            raise self._less(0, size, "it is gone")
        if size:
            self._claim.resumed = True
        if not exists or self._claim.ours:
            return
        if size and self._claim.foreign:
            raise DamagedState(
                f"{self.working} is another crawl's by now (see {self._claim.path.name})",
                hint="Put this crawl's file back, or start anew with --fresh.",
            )
        if not size:
            # Left by a crawl that can no longer be resumed, or by one that nobody knows.
            suffix = self._claim.holder.aside if self._claim.holder else "aside"
            if self.mode == "replace":
                self.displaced = self._move_aside(suffix)
            elif self._claim.base is not None:
                self.displaced = self._cut_aside(self._claim.base, suffix)

    def _settle(self, size: int | None) -> int:
        found = os.fstat(self._fd).st_size
        if size is None:
            base = self._claim.base if self._claim.ours else None
            target = (found if base is None else base) if self.mode == "append" else 0
        else:
            target = size
        if found < target:
            raise self._less(found, target, "it was cut or replaced")
        if found > target and self.mode == "append" and not self._claim.ours:
            self.displaced = self._cut_aside(
                target, "aside"
            )  # the lock was removed: it may be anybody's
        elif found > target:
            os.ftruncate(self._fd, target)
            os.fsync(self._fd)
        if not self._claim.ours:
            self._claim.record(target if size is None else None)
        ends_well = self._ends_well(target)
        if not ends_well and size is not None:
            raise DamagedState(
                f"{self.working}: byte {target} is not the end of a record, as it was committed",
                hint="Something else wrote to it. --fresh sets it aside and starts anew.",
            )
        if not ends_well:
            os.write(self._fd, self._terminator)
            target += len(self._terminator)
        sync_directory(self.path.parent)
        return target

    def _ends_well(self, end: int) -> bool:
        length = len(self._terminator)
        return end == 0 or os.pread(self._fd, length, max(0, end - length)) == self._terminator

    def _less(self, found: int, committed: int, how: str) -> DamagedState:
        return DamagedState(
            f"{self.working} holds {found:,} bytes, but {committed:,} were committed: {how}",
            hint="Put the file back as it was, or start anew with --fresh, which keeps the rest"
            " aside.",
        )

    # ── writing

    async def write(self, chunks: Iterable[bytes]) -> int:
        """Append whole records and flush them to the disk; return the new position.

        Raises `OutOfResource` when they do not fit. After a failure (or a cancellation) the tail
        is torn: no further write is taken, the next process rewinds.
        """
        if self._file is None or self._torn:
            raise ScraperError(f"{self.working} takes no records now: rewind it first")
        self._torn = True
        end = self.size
        try:
            for block in blocks(chunks):
                if self._encode is not None:
                    block = await self._in_thread(self._encode, block)
                rest = memoryview(block)
                while rest:
                    rest = rest[await self._file.write(rest) :]
                end += len(block)
        except OSError as error:
            raise output_error(error, self.working) from error
        if end != self.size:
            found = await self._in_thread(flushed_size, self._fd)
            if found != end:
                raise DamagedState(
                    f"{self.working} holds {found:,} bytes instead of {end:,}: something else"
                    " is writing to it",
                    hint="Give each crawl a file of its own.",
                )
        self.size, self._torn = end, False
        return end

    # ── ending

    def recall(self, size: int) -> None:
        """What was committed is *size* bytes: for `publish` in a process that wrote nothing."""
        self.size, self._recalled = size, True

    async def publish(self) -> None:
        """Put the file under its name. Idempotent; needs no `rewind`.

        Raises `DamagedState` when neither FILE.partial nor FILE is there.
        """
        if self._torn:
            raise ScraperError(f"{self.working} ends in a torn record: not published")
        await self._close()
        await self._in_thread(self._publish)

    def _publish(self) -> None:
        if not self._claim.foreign and self.working.exists():
            self._finish()
            found = self.working.stat().st_size
            if self._begun and found != self.size:
                raise self._less(found, self.size, "something else changed it")
            if found or self._keep_empty:
                self.working.replace(self.path)  # in append mode it is that already
            else:
                self.path.unlink(missing_ok=True)  # first: while .partial is there, this is redone
                self.working.unlink(missing_ok=True)
        elif self._keep_empty and not self.path.exists():
            raise DamagedState(
                f"{self.path} cannot be published: it and {self.working.name} are both gone",
                hint="Put one of them back, or start anew with --fresh.",
            )
        if not self._claim.foreign:
            self._claim.forget()
        sync_directory(self.path.parent)

    def _finish(self) -> None:
        """Write the closing bytes, whatever an earlier attempt has written of them."""
        if self._closing is None or not (self._begun or self._recalled):
            return
        tail = self._closing(self.size)
        fd = no_follow(str(self.working), os.O_RDWR)
        try:
            written = os.pread(fd, len(tail) + 1, self.size)
            if not tail.startswith(written):
                found = os.fstat(fd).st_size
                raise self._less(found, self.size, "something else wrote to it")
            for place in range(len(written), len(tail), BLOCK):
                os.pwrite(fd, tail[place : place + BLOCK], self.size + place)
            os.fsync(fd)
        finally:
            os.close(fd)
        self.size += len(tail)
        self._closing = None

    async def seal(self) -> None:
        """No record will follow: end the file as it will be published."""
        await self._in_thread(self._finish)

    async def reopen(self, size: int | None, source: Path | None = None) -> int:
        """Go on with what was published: *size* bytes of FILE (None: all), or of *source*.

        FILE stays where it is until `publish` replaces it. In append mode FILE goes on growing.
        Returns the new position. Idempotent. Raises `UsageError` when less is there.
        """
        return await self._in_thread(self._reopen, size, source)

    def _reopen(self, size: int | None, source: Path | None) -> int:
        source = source or self.path
        found = source.stat().st_size if is_plain(source) and source.exists() else -1
        size = max(found, 0) if size is None else size
        if self.mode == "append":
            found = max(found, 0)
            if not (self._claim.ours and self._claim.base is not None):
                self._claim.record(found)
            return found
        if self._claim.ours and self.working.exists():
            return size
        if found < size:
            there = f"holds {found:,} bytes" if found >= 0 else "is gone"
            raise UsageError(
                f"{source} {there}, and {size:,} were delivered: this crawl cannot add to it",
                hint="Put the output back where it was published, or crawl anew.",
            )
        copy = self.working.with_name(self.working.name + ".copy")
        copy.unlink(missing_ok=True)
        with source.open("rb") as old, copy.open("xb") as new:
            left = size
            while left:
                block = old.read(min(BLOCK, left))
                new.write(block)
                left -= len(block)
            new.flush()
            os.fsync(new.fileno())
        self._claim.record(None)
        copy.replace(self.working)
        sync_directory(self.path.parent)
        return size

    async def set_aside(self) -> None:
        """Move what this crawl wrote out of the way: never deleted, nothing overwritten.

        To `FILE.failed` when this process wrote to it, else to `FILE.partial.aside-<started>`. In
        append mode this crawl's records alone move, and FILE is again what it was before.
        """
        await self._close()
        await self._in_thread(self._set_aside)

    def _set_aside(self) -> None:
        suffix = "failed" if self._begun else self._claim.owner.aside
        if self.working.exists() and not self._claim.foreign:
            if self._begun and not self._torn:
                self._finish()
            if self.mode == "replace":
                self.aside = self._move_aside(suffix)
            elif self._claim.base is not None:
                self.aside = self._cut_aside(self._claim.base, suffix)
        if not self._claim.foreign:
            self._claim.forget()
        sync_directory(self.path.parent)

    def _move_aside(self, suffix: str) -> Path | None:
        if self.working.stat().st_size == 0:
            self.working.unlink()
            return None
        aside = reserve(self.path if suffix == "failed" else self.working, suffix)
        self.working.replace(aside)
        return aside

    def _cut_aside(self, base: int, suffix: str) -> Path | None:
        with self.working.open("r+b") as source:
            if source.seek(0, os.SEEK_END) <= base:
                return None
            aside = reserve(self.path, suffix)
            source.seek(base)
            with aside.open("wb") as target:
                shutil.copyfileobj(source, target, BLOCK)
                target.flush()
                os.fsync(target.fileno())
            sync_directory(self.path.parent)
            source.truncate(base)
            os.fsync(source.fileno())
        return aside

    async def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            await file.close()

    async def aclose(self) -> None:
        """Let go of the file; what is unfinished stays for the next process."""
        try:
            await self._close()
            await self._in_thread(self._claim.release)
        finally:
            if self._own_thread:
                self._thread.shutdown(wait=False)
