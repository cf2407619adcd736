"""Compressed outputs: each block of records stands for itself, so that a file can be cut anywhere.

A gzip file may consist of many members (RFC 1952, section 2.2), a zstd file of many frames
(RFC 8878, section 3.1): readers take them as one. What is committed ends at the edge of one.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from pathlib import PurePath
from types import MappingProxyType

import zstandard

__all__ = ["COMPRESSED", "encoder", "plain_suffix"]

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


def plain_suffix(path: str) -> str:
    """The ending that says what a file holds: `.csv` of `x.csv` and of `x.csv.gz`."""
    name = PurePath(path)
    if name.suffix.lower() in COMPRESSED:
        name = name.with_suffix("")
    return name.suffix.lower()
