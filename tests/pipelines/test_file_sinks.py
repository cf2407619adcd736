"""The contract, for every sink whose output is files that grow, in every shape they may have.

Records go in as the sinks stage them; independent readers take them out again.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import gzip
import io
import json
import random
import re
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
import zstandard
from fsspec.implementations.memory import MemoryFileSystem

from scraper.errors import UsageError
from scraper.pipelines.append import AppendSink
from scraper.pipelines.csv import Csv
from scraper.pipelines.json_array import JsonArray
from scraper.pipelines.jsonl import Jsonl
from scraper.pipelines.parquet import Parquet
from scraper.testing.reopening import ReopensContract
from scraper.testing.sinks import crawl_info
from tests.pipelines import parquets

TYPES = ("Author", "Book", "dict")


def plain(path: Path) -> bytes:
    """What a file holds, by the reader that its name asks for. Fails on anything torn."""
    data = path.read_bytes()
    if path.name.endswith(".lock"):
        return data
    if ".parquet" in path.suffixes:
        return parquets.content(path)
    if ".gz" in path.suffixes:
        return gzip.decompress(data)
    if ".zst" in path.suffixes:
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
            return bytes(reader.read())
    return data


def objects(path: Path) -> list[dict[str, Any]]:
    """The records of a published file, as the format's own reader has them."""
    if ".parquet" in path.suffixes:
        return parquets.rows(path)
    data = plain(path)
    if ".jsonl" in path.suffixes:
        assert not data or data.endswith(b"\n")
        return [json.loads(line) for line in data.splitlines()]
    if ".json" in path.suffixes:
        found = json.loads(data)
        assert isinstance(found, list)
        return found
    if not data:
        return []  # not published: made by a crawl in mode "append" that was set aside
    rows = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
    assert rows[0] == ["n", "pad"], "the header, once"
    assert all(len(row) == 2 for row in rows)
    return [{"n": int(n), "pad": pad} for n, pad in rows[1:]]


class Files(ReopensContract):
    """What all of them share: `data/` holds nothing else than the output."""

    name = "out.jsonl"
    options: dict[str, Any] = {}

    def make(self) -> AppendSink:
        return self.sink("data/" + self.name, **self.options)

    def sink(self, path: str, **options: Any) -> AppendSink:
        return Jsonl(path, **options)

    @property
    def by_item(self) -> bool:
        return "{item}" in self.name

    def record(self, number: int, size: int = 1) -> bytes:
        # Letters that cannot be compressed, in order that sizes are what they seem.
        noise = random.Random(number).randbytes(size)
        pad = base64.b85encode(noise).decode().replace(",", "_")[:size]
        pad = "p" + re.sub(r'["\\]', "_", pad)[1:]
        return self.named(number, self.line({"n": number, "pad": pad}))

    def named(self, number: int, line: bytes) -> bytes:
        return TYPES[number % 3].encode() + b"\0" + line if self.by_item else line

    def line(self, item: dict[str, Any]) -> bytes:
        return json.dumps(item).encode() + b"\n"

    def shown(self, record: bytes) -> bytes:
        return record.partition(b"\0")[2] if self.by_item else record

    def content(self, path: Path) -> bytes:
        return plain(path)

    def outputs(self, root: Path) -> list[Path]:
        unfinished = re.compile(r"\.(partial|lock|failed|aside)\b")
        found = (p for p in root.glob("data/**/*") if p.is_file())
        return sorted(p for p in found if not unfinished.search(p.name))

    def published(self, root: Path) -> list[bytes]:
        found: list[dict[str, Any]] = []
        for path in self.outputs(root):
            items = objects(path)
            if self.by_item:
                assert {TYPES[item["n"] % 3] for item in items} <= {re.split(r"[-.]", path.name)[0]}
                assert [item["n"] for item in items] == sorted(item["n"] for item in items)
            found += items
        if self.by_item:  # in which order, each file says for itself
            found.sort(key=lambda item: int(item["n"]))
        return [self.named(item["n"], self.line(item)) for item in found]

    def working(self, root: Path) -> Path:
        parts = sorted(root.glob("data/*.partial"))
        last = {"item": "Author", "part": "0001"}
        name = self.name if "{" in self.name or not self.sharded else self._numbered()
        return parts[-1] if parts else root / "data" / (name.format_map(last) + ".partial")

    def test_crawl_without_items(self, tmp_path: Path) -> None:
        """Nothing came: one file that says so, unless nobody knows its name."""
        asyncio.run(self.delivered(crawl_info(tmp_path), 0))
        assert len(self.outputs(tmp_path)) == (0 if self.by_item else 1)
        assert self.published(tmp_path) == []

    @property
    def sharded(self) -> bool:
        return "records_per_file" in self.options or "size_per_file" in self.options

    def _numbered(self) -> str:
        stem, dot, endings = self.name.partition(".")
        return f"{stem}-{{part}}{dot}{endings}"


class Json(Files):
    name = "out.json"

    def sink(self, path: str, **options: Any) -> AppendSink:
        return JsonArray(path, **options)

    def line(self, item: dict[str, Any]) -> bytes:
        return json.dumps(item).encode()


class Table(Files):
    name = "out.csv"

    def sink(self, path: str, **options: Any) -> AppendSink:
        return Csv(path, fields=["n", "pad"], formulas="keep", **options)

    def line(self, item: dict[str, Any]) -> bytes:
        return f"{item['n']},{item['pad']}\n".encode()


class Columnar(Files):
    """Rows lie in a journal, compressed, until the file is made."""

    name = "out.parquet"
    bulk = 12_000

    def sink(self, path: str, **options: Any) -> AppendSink:
        types = {"n": "int", "pad": "str"}
        return Parquet(path, fields=["n", "pad"], types=types, **options)

    def line(self, item: dict[str, Any]) -> bytes:
        return json.dumps([item["n"], item["pad"]], separators=(",", ":")).encode() + b"\n"


class Grows(Files):
    """Mode "append": the file is there all the while."""

    live = True
    options = {"mode": "append"}

    def working(self, root: Path) -> Path:
        begun = [
            file for file in self.outputs(root) if file.with_name(file.name + ".lock").exists()
        ]
        return begun[-1] if begun else root / "data" / self.name.format(item="Nobody")


class Squeezed:
    """Compressed."""

    bulk = 12_000


class TestJsonl(Files):
    pass


class TestJsonlGzip(Squeezed, Files):
    name = "out.jsonl.gz"


class TestJsonlZstd(Squeezed, Files):
    name = "out.jsonl.zst"


class TestJsonlAppend(Grows):
    pass


class TestJsonlGzipAppend(Squeezed, Grows):
    name = "out.jsonl.gz"


class TestJson(Json):
    pass


class TestJsonGzip(Squeezed, Json):
    name = "out.json.gz"


class TestCsv(Table):
    pass


class TestCsvZstd(Squeezed, Table):
    name = "out.csv.zst"


class TestCsvAppend(Grows, Table):
    pass


class TestParquet(Columnar):
    pass


# ── in parts


class Counted:
    options = {"records_per_file": 3}
    room: ClassVar[int] = 12_000  # of which a part has not more than two


class Sized:
    options = {"size_per_file": 700}
    room: ClassVar[int] = 5_000


class TestJsonlCounted(Counted, Files):
    pass


class TestJsonlSized(Sized, Files):
    pass


class TestJsonlZstdSized(Squeezed, Sized, Files):
    name = "out.jsonl.zst"


class TestJsonCounted(Counted, Json):
    name = "{part}.json"


class TestJsonGzipSized(Squeezed, Sized, Json):
    name = "out.json.gz"


class TestCsvCounted(Counted, Table):
    pass


class TestCsvGzipSized(Squeezed, Sized, Table):
    name = "out-{part}.csv.gz"


class TestParquetCounted(Counted, Columnar):
    name = "{part}.parquet"
    room: ClassVar[int] = 20_000


class TestParquetSized(Sized, Columnar):
    pass


# ── by the type of item


class TestJsonlByItem(Files):
    name = "{item}.jsonl"
    room: ClassVar[int] = 12_000


class TestJsonByItem(Json):
    name = "{item}.json"
    room: ClassVar[int] = 12_000


class TestCsvByItemAppend(Grows, Table):
    name = "{item}.csv"
    room: ClassVar[int] = 12_000


class TestCsvGzipByItemCounted(Squeezed, Counted, Table):
    name = "{item}.csv.gz"
    room: ClassVar[int] = 15_000


class TestParquetByItem(Columnar):
    name = "{item}.parquet"
    room: ClassVar[int] = 15_000


class TestParquetByItemCounted(Counted, Columnar):
    name = "{item}.parquet"
    room: ClassVar[int] = 15_000


class TestJsonlByItemSized(Sized, Files):
    name = "{item}-{part}.jsonl"


# ── to a store


class Stored(Files):
    """To a store in memory: each crawl has its own files, and the last one to publish wins."""

    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        MemoryFileSystem.store.clear()

    def make(self) -> AppendSink:
        return self.sink("memory://data/" + self.name, **self.options)

    def outputs(self, root: Path) -> list[Path]:
        """What lies in the store, brought to *root* for the readers."""
        found = []
        for name, file in sorted(MemoryFileSystem.store.items()):
            assert not name.rpartition("/")[2].startswith("."), f"{name} was left there"
            path = root / "read" / name.rpartition("/")[2]
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(file.getvalue())
            found.append(path)
        return found

    def working(self, root: Path) -> Path:
        found = sorted(root.glob("**/*.partial"))
        nowhere = root / ".scrape/job/outbox/nowhere" / self.name
        return found[-1] if found else nowhere

    async def _live_through(self, root: Path, history: Any) -> list[Any]:
        MemoryFileSystem.store.clear()
        return await super()._live_through(root, history)

    async def _live_on(self, root: Path, history: Any) -> list[Any]:
        MemoryFileSystem.store.clear()
        return await super()._live_on(root, history)

    def test_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        crawl = crawl_info(tmp_path)
        assert crawl.job_dir is not None
        (crawl.job_dir / "outbox").write_bytes(b"a file where a directory should be")
        with pytest.raises(UsageError, match="part of the path is a file"):
            asyncio.run(self.write(crawl, None, self.records(4)))

    def test_two_crawls_at_once(self, tmp_path: Path) -> None:
        one, two = crawl_info(tmp_path), crawl_info(tmp_path, job="two")
        position = asyncio.run(self.write(one, None, self.records(8)))
        asyncio.run(self.publish(two, asyncio.run(self.write(two, None, self.records(3, 50)))))
        assert self.published(tmp_path) == self.records(3, 50)
        asyncio.run(self.publish(one, position))
        assert self.published(tmp_path) == self.records(8)

    test_unfinished_output_of_another_job_is_not_touched = test_two_crawls_at_once
    test_other_crawls_keep_away = test_two_crawls_at_once

    def test_output_that_is_not_what_was_published(self, tmp_path: Path) -> None:
        crawl = crawl_info(tmp_path)
        position = asyncio.run(self.delivered(crawl, 1))
        for act in ("cut", "gone"):
            for name in MemoryFileSystem.store:
                MemoryFileSystem().pipe_file(name, b"")
            if act == "gone":
                MemoryFileSystem.store.clear()
            with pytest.raises(UsageError, match="were delivered"):
                asyncio.run(self.reopen(crawl, position, {}))


class TestJsonlStored(Stored):
    pass


class TestCsvGzipStored(Stored, Squeezed, Table):
    name = "deep/{started}/{spider}.csv.gz"


class TestJsonStoredCounted(Stored, Counted, Json):
    name = "o-{part}.json"


class TestParquetStored(Stored, Columnar):
    name = "deep/{spider}.parquet"


class TestParquetStoredCounted(Stored, Counted, Columnar):
    name = "o-{part}.parquet"
    room: ClassVar[int] = 20_000


class TestJsonlStoredByItem(Stored):
    name = "{item}.jsonl"
    room: ClassVar[int] = 12_000
