"""What the files of outputs have in common: opened without following links, synced, never lost."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = [
    "BLOCK",
    "blocks",
    "check_directory",
    "copy_start",
    "cut_off",
    "ends_with",
    "file_name",
    "flush",
    "flushed_size",
    "is_plain",
    "no_follow",
    "put_back",
    "reserve",
    "sync_directory",
    "write_all",
]

BLOCK = 4 << 20
"""Bytes that are written at once, about: more than a group has, unless pages spilled."""

_LONGEST = 150  # bytes; file systems allow 255, and endings are added
_ODD = re.compile(r"[^\w.()+=@,~-]+")
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)")

if sys.platform == "darwin":
    flush = os.fsync
else:
    flush = os.fdatasync
"""Brings a file's content to the disk."""


def blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks joined, so that a group is one write; in blocks when it is very large."""
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= BLOCK:
            yield b"".join(held)
            held, size = [], 0
    if size:
        yield b"".join(held)


def flushed_size(fd: int) -> int:
    """The size of what is on the disk, once all of it is."""
    flush(fd)
    return os.fstat(fd).st_size


def write_all(fd: int, data: bytes, at: int) -> None:
    """Write *data* at that byte, in as many writes as the system makes of it."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, at)
        rest, at = rest[written:], at + written


def ends_with(fd: int, end: int, terminator: bytes) -> bool:
    """Whether *terminator* stands before byte *end*, or nothing does."""
    length = len(terminator)
    return end == 0 or os.pread(fd, length, max(0, end - length)) == terminator


def no_follow(path: str, flags: int) -> int:
    """An opener (see `open`) for regular files that follows no symbolic link."""
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return fd


def is_plain(path: Path) -> bool:
    """A regular file, or nothing yet."""
    try:
        return stat.S_ISREG(path.stat(follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return True


def reserve(path: Path, suffix: str) -> Path:
    """Create `FILE.suffix`, or `FILE.suffix-2` and so on: a name that was free."""
    number = 1
    while True:
        name = path.with_name(f"{path.name}.{suffix}" + (f"-{number}" if number > 1 else ""))
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        except FileExistsError:
            number += 1
        else:
            return name


def copy_start(source: Path, size: int, target: Path) -> None:
    """Write the first *size* bytes of *source* to *target*, durably, in place of what was there."""
    target.unlink(missing_ok=True)
    try:
        with target.open("xb") as new:
            if size:
                with source.open("rb") as old:
                    while size and (block := old.read(min(BLOCK, size))):
                        new.write(block)
                        size -= len(block)
            new.flush()
            os.fsync(new.fileno())
    except OSError:
        target.unlink(missing_ok=True)
        raise


def cut_off(source: Path, base: int, target: Path) -> None:
    """Move what *source* holds from byte *base* on to *target*, which is there already."""
    with source.open("r+b") as old:
        old.seek(base)
        with target.open("wb") as new:
            shutil.copyfileobj(old, new, BLOCK)
            new.flush()
            os.fsync(new.fileno())
        sync_directory(target.parent)
        old.truncate(base)
        os.fsync(old.fileno())


def put_back(source: Path, target: Path, base: int, terminator: bytes) -> int:
    """Undo `cut_off`: make *target* go on at byte *base* with what *source* holds.

    Returns where that ends. What follows there already stays, so that it can be done again.
    A *terminator* at the start, which only ended a last line that had none, is left out when there
    is no such line any more.
    """
    fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with source.open("rb") as old:
            size = old.seek(0, os.SEEK_END)
            old.seek(0)
            if (
                terminator
                and old.read(len(terminator)) == terminator
                and ends_with(fd, base, terminator)
            ):
                size -= len(terminator)
            else:
                old.seek(0)
            if os.fstat(fd).st_size < base + size:
                at = base
                while block := old.read(BLOCK):
                    write_all(fd, block, at)
                    at += len(block)
                os.fsync(fd)
        return base + size
    finally:
        os.close(fd)


def sync_directory(directory: Path) -> None:
    """Make renames and new names survive a power loss (fsync(2), NOTES)."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system without directory sync
            raise
    finally:
        os.close(fd)


def check_directory(directory: Path) -> None:
    """Make *directory* if need be. Raises `OSError` when no file can be made in it."""
    directory.mkdir(parents=True, exist_ok=True)
    if not os.access(directory, os.W_OK | os.X_OK):
        read_only = os.statvfs(directory).f_flag & os.ST_RDONLY
        raise OSError(errno.EROFS if read_only else errno.EACCES, "")


def file_name(text: str) -> str:
    """*text*, wherever it came from, as one harmless part of a path on any system.

    No separator, control character or leading dot, no name that Windows keeps for devices, at
    most 150 bytes of UTF-8. Different texts may give one name.
    """
    name = _ODD.sub("_", text).strip(". ")
    while len(name.encode("utf-8", "replace")) > _LONGEST:
        name = name[: max(1, len(name) - max(1, (len(name.encode()) - _LONGEST) // 4))]
    name = name.rstrip(". ")
    return f"_{name}" if not name or _DEVICES.match(name) else name
