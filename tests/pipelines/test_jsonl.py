"""JSON Lines: the contract in both modes, and what is its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from scraper.errors import ConfigError, DamagedState
from scraper.pipelines.jsonl import Jsonl
from scraper.testing.sinks import SinkContract, crawl_info
from tests.pipelines.crawls import deliver


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


class TestReplace(SinkContract):
    def make(self) -> Jsonl:
        return Jsonl("data/{spider}.jsonl")

    def working(self, root: Path) -> Path:
        return root / "data/books.jsonl.partial"

    def published(self, root: Path) -> list[Any]:
        return lines(root / "data/books.jsonl")


class TestAppend(SinkContract):
    live = True

    def make(self) -> Jsonl:
        return Jsonl("data/all.jsonl", mode="append")

    def working(self, root: Path) -> Path:
        return root / "data/all.jsonl"

    def published(self, root: Path) -> list[Any]:
        return lines(root / "data/all.jsonl")


def test_one_line_per_item(tmp_path: Path) -> None:
    items = [{"title": "Ä\nb"}, {"n": 1}]
    asyncio.run(deliver(Jsonl("out.jsonl"), items, tmp_path))
    assert [json.loads(line) for line in lines(tmp_path / "out.jsonl")] == items
    assert sorted(p.name for p in tmp_path.iterdir()) == [".scrape", "out.jsonl"]


def test_replaces_only_when_complete(tmp_path: Path) -> None:
    asyncio.run(deliver(Jsonl("out.jsonl"), [{"n": 1}], tmp_path))

    async def unfinished() -> None:
        sink = Jsonl("out.jsonl")
        await sink.open(crawl_info(tmp_path))
        await sink.rewind(None)
        await sink.write([b'{"n":2}\n'])
        await sink.aclose()

    asyncio.run(unfinished())
    assert [json.loads(line) for line in lines(tmp_path / "out.jsonl")] == [{"n": 1}]


def test_append_goes_on_where_earlier_crawls_ended(tmp_path: Path) -> None:
    for number in range(3):
        sink = Jsonl("all.jsonl", mode="append")
        asyncio.run(
            deliver(sink, [{"n": number}], tmp_path, started=f"2026010{number + 1}T000000Z")
        )
    assert [json.loads(line)["n"] for line in lines(tmp_path / "all.jsonl")] == [0, 1, 2]


def test_append_after_a_line_without_its_end(tmp_path: Path) -> None:
    (tmp_path / "all.jsonl").write_bytes(b'{"n":0}')
    asyncio.run(deliver(Jsonl("all.jsonl", mode="append"), [{"n": 1}], tmp_path))
    assert [json.loads(line)["n"] for line in lines(tmp_path / "all.jsonl")] == [0, 1]


@pytest.mark.parametrize("before", [b"", b'{"n":0}\n', b'{"n":0}'])
def test_failed_append_leaves_the_file_as_it_was(tmp_path: Path, before: bytes) -> None:
    target = tmp_path / "all.jsonl"
    target.write_bytes(before)

    async def fail() -> str:
        sink = Jsonl("all.jsonl", mode="append")
        await sink.open(crawl_info(tmp_path))
        await sink.rewind(None)
        await sink.write([b'{"n":1}\n'])
        await sink.set_aside()
        told: str = sink.describe()["aside"]
        await sink.aclose()
        return told

    aside = asyncio.run(fail())
    assert target.read_bytes() == before
    assert aside.endswith("all.jsonl.failed")
    assert Path(aside).read_bytes().endswith(b'{"n":1}\n')


def test_records_are_counted_over_a_resume(tmp_path: Path) -> None:
    async def twice() -> dict[str, Any]:
        sink = Jsonl("out.jsonl")
        await sink.open(crawl_info(tmp_path))
        await sink.rewind(None)
        position = await sink.write([b"1\n", b"2\n"])
        await sink.aclose()
        sink = Jsonl("out.jsonl")
        await sink.open(crawl_info(tmp_path))
        await sink.rewind(position)
        await sink.write([b"3\n"])
        told = sink.describe()
        await sink.aclose()
        return told

    assert asyncio.run(twice()) == {
        "kind": "jsonl",
        "path": str(tmp_path / "out.jsonl"),
        "mode": "replace",
        "records": 3,
    }


@pytest.mark.parametrize(
    "position", [7, "x", [], {}, {"size": "a", "records": 1}, {"size": -1, "records": 0}]
)
def test_position_that_is_none(tmp_path: Path, position: Any) -> None:
    async def rewind() -> None:
        sink = Jsonl("out.jsonl")
        await sink.open(crawl_info(tmp_path))
        try:
            await sink.rewind(position)
        finally:
            await sink.aclose()

    with pytest.raises(DamagedState):
        asyncio.run(rewind())


def test_unknown_placeholder_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\{spidr\}") as caught:
        asyncio.run(Jsonl("{spidr}.jsonl").open(crawl_info(tmp_path)))
    assert "{spider}, {started}" in caught.value.hint
