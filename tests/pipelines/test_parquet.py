"""Parquet: the contract, in one file and in parts, and what is its own."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import zstandard
from pyarrow import parquet

from scraper.pipelines.parquet import Parquet
from scraper.testing.sinks import SinkContract


def rows(path: Path) -> list[dict[str, Any]]:
    """What pyarrow reads."""
    if not path.exists():
        return []
    with parquet.ParquetFile(path, pre_buffer=False) as file:
        found: list[dict[str, Any]] = file.read(use_threads=False).to_pylist()
    return found


def lines_of(path: Path) -> list[bytes]:
    """The rows of a file of `n` and `pad`, as they were staged."""
    found = [[row["n"], row["pad"]] for row in rows(path)]
    return [json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in found]


def content(path: Path) -> bytes:
    """The rows in a file, finished or not: a journal is as good as it goes."""
    data = path.read_bytes()
    if data.startswith(b"PAR1"):
        return b"".join(lines_of(path))
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    return data


class TestContract(SinkContract):
    """With columns that are known beforehand, a crawl without items has an empty file."""

    def make(self) -> Parquet:
        return Parquet(
            "data/{spider}.parquet", fields=["n", "pad"], types={"n": "int", "pad": "str"}
        )

    def working(self, root: Path) -> Path:
        return root / "data/books.parquet.partial"

    def published(self, root: Path) -> list[Any]:
        return lines_of(root / "data/books.parquet")

    def content(self, path: Path) -> bytes:
        return content(path)

    def record(self, number: int, size: int = 1) -> bytes:
        pad = random.Random(number).randbytes(size).hex()  # what can hardly be compressed
        return json.dumps([number, pad], separators=(",", ":")).encode() + b"\n"
