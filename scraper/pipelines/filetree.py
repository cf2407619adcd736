"""The directory of downloaded files: nothing in it is half there, and no name leads out of it.

::

    DIRECTORY/images/3f/3f2a….png         what committed items point to
    DIRECTORY/.index.sqlite               which URL gave which file
    DIRECTORY/.incoming/RUN/              downloads whose pages are not committed yet

The workers of a shared crawl bring files into one place, which is locked by the one that writes.
What dead ones have left there is removed at the end: nobody knows whether its page is committed.

Every step below the directory is taken from an open directory to the next, following no link.
All methods block: call them in a thread.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from scraper.errors import DamagedState, JobError
from scraper.pipelines.filesystem import check_directory
from scraper.protocols import CrawlInfo

__all__ = ["FileTree", "Move"]

INCOMING = ".incoming"
ONCE = "once-"
"""How the places begin of runs that leave no state: what a dead one left is nobody's."""

TRIES = 20
SYNCS = 8
"""Directories that are brought to the disk at the same time."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}  # some network mounts


class Move(NamedTuple):
    """What came in as `name` is to lie at `path`, below the directory; `size` bytes."""

    name: str
    path: str
    size: int


class FileTree:
    """*base*: the directory; it may be a link itself. *crawl*: whose downloads come in."""

    def __init__(self, base: Path, crawl: CrawlInfo) -> None:
        self.base = base
        if crawl.job_dir is None:
            self.place = ONCE + secrets.token_hex(8)
        else:
            self.place = hashlib.sha256(crawl.run.encode()).hexdigest()[:24]
        self.incoming = base / INCOMING / self.place
        self._mark = secrets.token_hex(4)  # of this process: what else comes in is left over
        self._count = 0
        self._shared = crawl.shared
        self._base = -1
        self._lock = -1

    # ── opening and closing

    def check(self, folders: Iterable[str]) -> None:
        """Make the directory if need be. Raises `OSError` when files cannot be put in it."""
        check_directory(self.base)
        for name in (INCOMING, *folders):
            path = self.base / name
            if path.is_symlink() or (path.exists() and not path.is_dir()):
                raise _no_directory(path)
            if path.exists():
                check_directory(path)

    def begin(self) -> None:
        """Take the run's place for what comes in. Raises `JobError` when another process has it."""
        self._base = os.open(self.base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for tries in range(TRIES):
            try:
                self._lock = self._take_place()
                break
            except FileNotFoundError:  # another run that ended just now removed what was empty
                if tries == TRIES - 1:
                    raise
        _sync(self._base)

    def join(self) -> None:
        """Make the run's place, for what comes in, unless another worker of its has."""
        self.incoming.mkdir(0o700, parents=True, exist_ok=True)

    def _take_place(self) -> int:
        with self._opened(INCOMING) as incoming:
            for name in _names(incoming):
                if name.startswith(ONCE) and name != self.place:
                    self._remove_if_dead(incoming, name)
            lock = _locked(incoming, self.place)
            _sync(incoming)
        return lock

    def close(self) -> None:
        for fd in (self._lock, self._base):
            if fd >= 0:
                os.close(fd)
        self._lock = self._base = -1

    # ── what comes in

    def new(self) -> Path:
        """A path for a download, in this run's place; nothing is there yet."""
        self._count += 1
        return self.incoming / f"{self._mark}-{self._count}"

    def discard(self, path: Path) -> None:
        """Remove a download that came to nothing, if anything came."""
        path.unlink(missing_ok=True)

    def clean(self, *, everything: bool = False) -> None:
        """Remove what came in and was never committed: by earlier processes, or *everything*."""
        for name in _names(self._lock):
            if everything or not (self._shared or name.startswith(f"{self._mark}-")):
                os.unlink(name, dir_fd=self._lock)
        if everything:
            with suppress(OSError):
                self.incoming.rmdir()
                self.incoming.parent.rmdir()  # stays, if another run has something there

    def put_aside(self) -> None:
        """Keep what an abandoned run had not committed, or committed and not moved yet."""
        with suppress(FileNotFoundError):
            try:
                self.incoming.rmdir()
            except OSError:
                self.incoming.rename(self.incoming.with_name(f"{self.place}.aside"))

    # ── what is there to stay

    def has(self, path: str, size: int) -> bool:
        """Whether a file of that size lies at *path*."""
        try:
            found = (self.base / path).stat(follow_symlinks=False)
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == size

    def settle(self, moves: Sequence[Move]) -> None:
        """Put each file in its place, durably. What lies there already is left as it is.

        Raises `DamagedState` when a file lies in neither place, `OSError` with `ELOOP` for a
        directory that is a link.
        """
        folders: dict[str, list[Move]] = {}
        for move in moves:
            folders.setdefault(move.path.rpartition("/")[0], []).append(move)
        changed = set(folders)
        for folder, members in folders.items():
            with self._opened(folder, changed) as fd:
                for move in members:
                    self._settle(fd, move)
        with ThreadPoolExecutor(SYNCS) as threads:  # together: then a disk does many in one
            for _ in threads.map(self._bring, changed):
                pass

    def _bring(self, folder: str) -> None:
        with self._opened(folder) as fd:
            _sync(fd)

    def _settle(self, folder: int, move: Move) -> None:
        name = move.path.rpartition("/")[2]
        if _regular(folder, name, move.size):
            with suppress(FileNotFoundError):
                os.unlink(move.name, dir_fd=self._lock)
            return
        try:
            os.rename(move.name, name, src_dir_fd=self._lock, dst_dir_fd=folder)
        except FileNotFoundError:
            raise DamagedState(
                f"{self.base / move.path} was committed and is gone, and so is"
                f" {self.incoming / move.name}",
                hint="Put it back, or start anew with --fresh.",
            ) from None

    @contextmanager
    def _opened(self, folder: str, changed: set[str] | None = None) -> Iterator[int]:
        """The directory *folder* below the base, made if need be; no part of it a link.

        *changed* gets the directories in which others were made.
        """
        fd = os.dup(self._base)
        parts = folder.split("/") if folder else []
        try:
            for depth, part in enumerate(parts):
                inner, made = self._step(fd, part, folder)
                os.close(fd)
                fd = inner
                if made and changed is not None:
                    changed.add("/".join(parts[:depth]))
            yield fd
        finally:
            os.close(fd)

    def _step(self, fd: int, part: str, folder: str) -> tuple[int, bool]:
        """The directory *part* in *fd*, and whether it was made just now."""
        if part in ("", ".", "..") or "\0" in part:
            raise DamagedState(f"{folder!r} is no place in {self.base}")
        try:
            return os.open(part, _DIRECTORY, dir_fd=fd), False
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=fd)
            return os.open(part, _DIRECTORY, dir_fd=fd), True
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise _no_directory(self.base / folder, part, fd) from None
            raise

    def _remove_if_dead(self, incoming: int, name: str) -> None:
        try:
            fd = _locked(incoming, name)
        except (JobError, OSError):
            return  # alive, or gone by now
        try:
            for left in _names(fd):
                os.unlink(left, dir_fd=fd)
            os.rmdir(name, dir_fd=incoming)
        finally:
            os.close(fd)


def _sync(directory: int) -> None:
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system without directory sync
            raise


def _names(fd: int) -> list[str]:
    with os.scandir(fd) as found:
        return [entry.name for entry in found]


def _locked(parent: int, name: str) -> int:
    """The directory *name* in *parent*, made if need be, and locked while it is open."""
    while True:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _same(fd, parent, name):
                return fd
        except BlockingIOError:
            os.close(fd)
            raise JobError(
                f"another process brings files into {INCOMING}/{name}",
                hint="Wait for it to end, or give this crawl a directory of its own.",
            ) from None
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return fd
            os.close(fd)
            raise
        os.close(fd)  # removed between our open and our lock: once more


def _same(fd: int, parent: int, name: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=parent, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _regular(folder: int, name: str, size: int) -> bool:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size


def _no_directory(path: Path, part: str | None = None, parent: int | None = None) -> OSError:
    link = path.is_symlink()
    if part is not None:
        link = stat.S_ISLNK(os.stat(part, dir_fd=parent, follow_symlinks=False).st_mode)
    if link:
        return OSError(errno.ELOOP, "a directory in it is a symbolic link", str(path))
    return OSError(errno.ENOTDIR, "a part of the path is a file", str(path))
