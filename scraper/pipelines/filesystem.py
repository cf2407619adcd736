"""What the files of outputs have in common: opened without following links, synced, never lost."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = [
    "BLOCK",
    "blocks",
    "check_directory",
    "file_name",
    "flush",
    "flushed_size",
    "is_plain",
    "no_follow",
    "reserve",
    "sync_directory",
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
