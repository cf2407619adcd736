"""Append files that rewind: the mechanics under every sink that writes one growing file.

Records are written whole, flushed, and only then committed by their position; whatever lies
beyond the committed position is cut when the job resumes. Nothing that holds committed records,
or that another crawl wrote, is ever deleted here: it is set aside under a name of its own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from aiofiles.os import wrap

from scraper.errors import DamagedState, ScraperError, UsageError
from scraper.pipelines.claim import Claim, Owner, refuse_unfinished
from scraper.pipelines.compression import head
from scraper.pipelines.filesystem import (
    blocks,
    check_directory,
    copy_start,
    cut_off,
    ends_with,
    flush,
    flushed_size,
    is_plain,
    no_follow,
    put_back,
    reserve,
    sync_directory,
    write_all,
)
from scraper.pipelines.marks import sift
from scraper.pipelines.paths import output_error

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
    *closing*: the bytes that end a file of a given size when it is published; the same ones for
    the same size. *thread*: where the blocking work is done, when several files share one.

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
        self._file: FileIO | None = None
        self._fd = -1
        self._begun = False
        self._recalled = False
        self._finished = False
        self._nothing = False
        self._torn = False
        self._thread = thread or ThreadPoolExecutor(1, thread_name_prefix="output")
        self._own_thread = thread is None

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await wrap(work)(*args, executor=self._thread, **kwargs)
        except OSError as error:
            raise output_error(error, self.working) from error

    # ── opening

    async def open(
        self, owner: Owner, *, resumed: bool = False, own: bool = False, hold: bool = True
    ) -> None:
        """Check, before anything is fetched, that the output can be written; change nothing.

        Creates missing directories. Raises `UsageError` where nothing can be written there and
        `JobError` where another crawl, running or resumable, has its unfinished output.
        *resumed*: this job wrote to it before. *own*: this very process did. *hold*: keep all other
        processes from it; else one of this crawl may be writing to it.
        """
        await self._in_thread(self._check, owner, resumed, own, hold)

    def _check(self, owner: Owner, resumed: bool, own: bool, hold: bool) -> None:
        check_directory(self.path.parent)
        for path in {self.path, self.working}:
            if not is_plain(path) and (path == self.working or not path.is_symlink()):
                raise OSError(
                    errno.ELOOP if path.is_symlink() else errno.EINVAL,
                    "it is not a regular file (-o - writes to stdout)",
                )
        if hold:
            self._claim.take(owner, resumed=resumed, own=own)
        else:
            self._claim.look(owner)
        try:
            refuse_unfinished(self.working, self._claim.holder, owner)
            if self.mode == "append" and self._claim.holder is None and self.path.exists():
                head(self.path, 1)  # is it compressed as its name says?
        except UsageError:
            self._claim.release()
            raise

    async def rewind(self, size: int | None) -> None:
        """Be what was committed: *size* bytes. None: this crawl has committed nothing yet.

        Raises `DamagedState` when less is there.
        """
        await self._in_thread(self._make_way, size)
        self._file = await self._in_thread(self._reach)
        self._fd = self._file.fileno()
        self.size = await self._in_thread(self._settle, size)
        self._begun, self._torn, self._finished = True, False, False

    def _reach(self) -> FileIO:
        return FileIO(self.working, "a+", opener=no_follow)

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
        ends_well = ends_with(self._fd, target, self._terminator)
        if not ends_well and size is not None:
            raise DamagedState(
                f"{self.working}: byte {target} is not the end of a record, as it was committed",
                hint="Something else wrote to it. --fresh sets it aside and starts anew.",
            )
        if found > target and self.mode == "append" and not self._claim.ours:
            # The lock was removed: it may be anybody's.
            self.displaced = self._cut_aside(target, "aside")
        elif found > target:
            os.ftruncate(self._fd, target)
            os.fsync(self._fd)
        if not self._claim.ours:
            self._claim.record(target if size is None else None)
        if not ends_well:
            os.write(self._fd, self._terminator)
            target += len(self._terminator)
        sync_directory(self.path.parent)
        return target

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
        end = await self._in_thread(self._write, self._file, chunks)
        self.size, self._torn = end, False
        return end

    def _write(self, file: FileIO, chunks: Iterable[bytes]) -> int:
        end = self.size
        for block in blocks(chunks):
            if self._encode is not None:
                block = self._encode(block)
            rest = memoryview(block)
            while rest:
                rest = rest[file.write(rest) :]
            end += len(block)
        if end != self.size and (found := flushed_size(self._fd)) != end:
            raise DamagedState(
                f"{self.working} holds {found:,} bytes instead of {end:,}: something else is"
                " writing to it",
                hint="Give each crawl a file of its own.",
            )
        return end

    # ── ending

    def recall(self, size: int | None) -> None:
        """What was committed is *size* bytes: for `publish` in a process that wrote nothing.

        None: nothing was.
        """
        self.size, self._recalled = size or 0, True
        self._nothing = size is None

    async def publish(self) -> None:
        """Put the file under its name. Idempotent; needs no `rewind`.

        Raises `DamagedState` when neither FILE.partial nor FILE is there.
        """
        if self._torn:
            raise ScraperError(f"{self.working} ends in a torn record: not published")
        await self._close()
        await self._in_thread(self._publish)

    def _publish(self) -> None:
        claim = self._claim
        if self.mode == "append" and not claim.ours:
            pass  # an earlier process did it, and FILE may be growing under somebody else's hands
        elif not claim.foreign and self.working.exists():
            self._finish()
            if self.working.stat().st_size or self._keep_empty:
                self.working.replace(self.path)  # in append mode it is that already
            else:
                self.path.unlink(missing_ok=True)  # first: while .partial is there, this is redone
                self.working.unlink(missing_ok=True)
        elif self._keep_empty and not self.path.exists():
            raise DamagedState(
                f"{self.path} cannot be published: it and {self.working.name} are both gone",
                hint="Put one of them back, or start anew with --fresh.",
            )
        if not claim.foreign:
            claim.forget()
        sync_directory(self.path.parent)

    def _finish(self) -> None:
        """Cut what no commit confirmed, and write the closing bytes; again after a crash."""
        if self._finished or not (self._begun or self._recalled):
            return
        fd = no_follow(str(self.working), os.O_RDWR)
        try:
            found = os.fstat(fd).st_size
            if not self._begun and self._nothing and self.mode == "append":
                self.size = found  # what was there before
            if found < self.size or (self._begun and not self._torn and found > self.size):
                raise self._less(found, self.size, "something else changed it")
            tail = self._closing(self.size) if self._closing is not None else b""
            if found > self.size or tail:
                os.ftruncate(fd, self.size)
                write_all(fd, tail, self.size)
                flush(fd)
        finally:
            os.close(fd)
        self.size += len(tail)
        self._finished = True

    async def sift(self, stays: Callable[[bytes], bool]) -> int:
        """Leave out the lines for which *stays* is false, and return the size; only `publish` may
        follow. Idempotent.
        """
        await self._close()
        return await self._in_thread(self._sift, stays)

    def _sift(self, stays: Callable[[bytes], bool]) -> int:
        path = self.working if self.working.exists() else self.path  # it was published already
        if self._claim.foreign or not path.exists():
            return 0
        self.size = sift(path, stays)
        return self.size

    async def seal(self) -> None:
        """No record will follow: end the file as it will be published, and let go of it.

        The claim stays.
        """
        await self._close()
        await self._in_thread(self._seal)

    def _seal(self) -> None:
        self._finish()
        self._claim.record(None, sealed=self.size)

    async def check_sealed(self, *, elsewhere: bool = False) -> None:
        """Raises `DamagedState` when what was sealed (or published since) is not as it was.

        *elsewhere*: what was published is not here.
        """
        await self._in_thread(self._check_sealed, elsewhere)

    def _check_sealed(self, elsewhere: bool) -> None:
        sealed = self._claim.sealed if self._claim.ours else None
        if sealed is None:
            if self._claim.foreign or not (elsewhere or self.path.exists()):
                raise self._less(0, 1, "it is gone")
            return
        found = self.working.stat().st_size if self.working.exists() else 0
        if found != sealed:
            raise self._less(found, sealed, "it was cut or replaced")

    async def reopen(self, size: int | None, source: Path | None = None) -> int:
        """Go on with what was published: *size* bytes of FILE (None: all), or of *source*.

        FILE stays where it is until `publish` replaces it. In append mode FILE goes on growing,
        with what *source* holds at its end again. Returns the new position. Idempotent. Raises
        `UsageError` when less is there.
        """
        if self.mode == "append":
            return await self._in_thread(self._regrow, size, source)
        return await self._in_thread(self._reopen, size, source)

    def _reopen(self, size: int | None, source: Path | None) -> int:
        source = source or self.path
        found = source.stat().st_size if is_plain(source) and source.exists() else -1
        whole = size is None
        size = max(found, 0) if size is None else size
        if self._claim.ours and self.working.exists():
            return size
        if (size or whole) and found < max(size, 0):
            there = f"holds {found:,} bytes" if found >= 0 else "is gone"
            raise UsageError(
                f"{source} {there}, and {size:,} were delivered: this crawl cannot add to it",
                hint="Put the output back where it was published, or crawl anew.",
            )
        if self.working.exists():  # left by a crawl that can no longer be resumed
            suffix = self._claim.holder.aside if self._claim.holder else "aside"
            self.displaced = self._move_aside(suffix)
        copy = self.working.with_name(self.working.name + ".copy")
        copy_start(source, size, copy)
        self._claim.record(None, sealed=size if whole else None)
        copy.replace(self.working)
        sync_directory(self.path.parent)
        return size

    def _regrow(self, size: int | None, aside: Path | None) -> int:
        again = self._claim.ours and self._claim.base is not None
        if not again:
            self._claim.record(self.path.stat().st_size if self.path.exists() else 0)
        base = self._claim.base or 0
        whole = base if aside is None else put_back(aside, self.path, base, self._terminator)
        return max(whole, size or 0) if again else whole

    async def set_aside(self, *, failed: bool | None = None) -> None:
        """Move what this crawl wrote out of the way: never deleted, nothing overwritten.

        To `FILE.failed` when this process wrote to it (*failed*: or to others of its kind), else
        to `FILE.partial.aside-<started>`. In append mode this crawl's records alone move, and FILE
        is again what it was before.
        """
        await self._close()
        await self._in_thread(self._set_aside, self._begun if failed is None else failed)

    def _set_aside(self, failed: bool) -> None:
        suffix = "failed" if failed else self._claim.owner.aside
        if self.working.exists() and not self._claim.foreign:
            if self.mode == "append":
                if self._begun:
                    self._finish()
                if self._claim.base is not None:
                    self.aside = self._cut_aside(self._claim.base, suffix)
            elif self._begun and not self.size:
                self.working.unlink()
            else:
                if self._begun:
                    self._finish()
                self.aside = self._move_aside(suffix)
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
        aside = None
        if self.working.stat().st_size > base:
            aside = reserve(self.path, suffix)
            cut_off(self.working, base, aside)
        return aside

    async def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            await self._in_thread(file.close)

    async def aclose(self) -> None:
        """Let go of the file; what is unfinished stays for the next process."""
        try:
            await self._close()
            await self._in_thread(self._claim.release)
        finally:
            if self._own_thread:
                self._thread.shutdown(wait=False)
