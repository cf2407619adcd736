"""Compressed outputs: each block of records stands for itself, so that a file can be cut anywhere.

A gzip file may consist of many members (RFC 1952, section 2.2), a zstd file of many frames
(RFC 8878, section 3.1): readers take them as one. What is committed ends at the edge of one.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from types import MappingProxyType

import zstandard

from scraper.errors import UsageError

__all__ = ["COMPRESSED", "encoder", "head", "plain_suffix"]

_GZIP_LEVEL, _ZSTD_LEVEL = 6, 3  # what gzip and zstd take by themselves


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, _GZIP_LEVEL, mtime=0)  # no date: the same records, the same bytes


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(_ZSTD_LEVEL, write_checksum=True).compress(data)


COMPRESSED: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType({
    ".gz": _gzip,
    ".zst": _zstd,
})
"""What compresses a block, by the file's last ending."""


def encoder(path: str) -> Callable[[bytes], bytes] | None:
    """What compresses the blocks of a file of this name; None for one that is not compressed."""
    return COMPRESSED.get(PurePath(path).suffix.lower())


def head(path: Path, size: int) -> bytes:
    """The first *size* bytes of what a file holds, decompressed as its name says.

    Raises `UsageError` when it is not what its name says.
    """
    ending = path.suffix.lower()
    try:
        with path.open("rb") as file:
            if ending == ".gz":
                return gzip.GzipFile(fileobj=file).read(size)
            if ending == ".zst":
                reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
                return bytes(reader.read(size))
            return file.read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError):
        raise UsageError(
            f"{path} is not compressed as its name says, or damaged",
            hint="Give this crawl another file, or move that one away.",
        ) from None


def plain_suffix(path: str) -> str:
    """The ending that says what a file holds: `.csv` of `x.csv` and of `x.csv.gz`."""
    name = PurePath(path)
    if name.suffix.lower() in COMPRESSED:
        name = name.with_suffix("")
    return name.suffix.lower()
