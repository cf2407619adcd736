"""What a published file is known by, so that a crawl adds to its own and to no other's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from zlib import crc32

from scraper.errors import UsageError
from scraper.pipelines.filesystem import BLOCK, no_follow, sync_directory
from scraper.pipelines.paths import output_error

__all__ = ["Marks", "check", "marks_of", "sift"]

Marks = dict[str, list[int]]
"""By path: bytes that are the crawl's, the CRC-32 of the last of them, bytes of the whole file."""

TAIL = 64 * 1024


def marks_of(files: Iterable[tuple[Path, Path, int | None]]) -> Marks:
    """The marks of files: the path of each, where it is, how much of it is the crawl's."""
    return {str(path): _mark(there, size) for path, there, size in files if there.exists()}


def _mark(path: Path, size: int | None) -> list[int]:
    try:
        fd = no_follow(str(path), os.O_RDONLY)
    except OSError as error:
        raise output_error(error, path) from error
    try:
        whole = os.fstat(fd).st_size
        size = whole if size is None else min(size, whole)
        start = max(0, size - TAIL)
        return [size, crc32(os.pread(fd, size - start, start)), whole]
    finally:
        os.close(fd)


def check(marks: Marks, aside: Mapping[str, str], *, grows: bool = False) -> None:
    """Raises `UsageError` unless the files are those that *marks* were taken of.

    *aside*: where those went that were set aside. *grows*: others may have added to the rest.
    """
    for path, mark in marks.items():
        if mark[0]:  # else, whatever is there, nothing of it is the crawl's
            _check(Path(aside.get(path, path)), mark, grows=grows and path not in aside)


def _check(path: Path, mark: list[int], *, grows: bool) -> None:
    hint = "Put the output back as it was, or crawl anew: `scrape run`."
    if not path.exists():
        raise UsageError(f"{path} is gone: this crawl cannot add to it", hint=hint)
    found = _mark(path, mark[0])
    if found[2] < mark[2]:
        said = f"holds {found[2]:,} bytes, and {mark[2]:,} were delivered"
        raise UsageError(f"{path} {said}: this crawl cannot add to it", hint=hint)
    if found[:2] != mark[:2] or (found[2] != mark[2] and not grows):
        raise UsageError(f"{path} is not what this crawl delivered: it cannot add to it", hint=hint)


def sift(path: Path, stays: Callable[[bytes], bool]) -> int:
    """Leave out the lines of *path* for which *stays* is false, in one move; its size then."""
    copy = path.with_name(path.name + ".copy")
    copy.unlink(missing_ok=True)
    left_out = 0
    with path.open("rb") as old, copy.open("xb", buffering=BLOCK) as new:
        os.fchmod(new.fileno(), os.fstat(old.fileno()).st_mode & 0o777)
        for line in old:
            if stays(line):
                new.write(line)
            else:
                left_out += 1
        new.flush()
        os.fsync(new.fileno())
        size = new.tell()
    if left_out:
        copy.replace(path)
        sync_directory(path.parent)
    else:
        copy.unlink()
    return size
