"""JSON arrays: valid once they are published, whatever came."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scraper.errors import ConfigError
from scraper.pipelines.json_array import JsonArray
from tests.pipelines.crawls import begin, deliver, stage


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_one_item_on_a_line(tmp_path: Path, count: int) -> None:
    items = [{"n": number, "text": "Ä\n]"} for number in range(count)]
    told = await deliver(JsonArray("out.json"), items, tmp_path)
    data = (tmp_path / "out.json").read_text()
    assert json.loads(data) == items
    assert len(data.splitlines()) == (count + 2 if count else 1)
    assert data.endswith("]\n")
    assert (told["kind"], told["records"]) == ("json", count)


async def test_provenance(tmp_path: Path) -> None:
    await deliver(JsonArray("out.json", provenance=["_url"]), [{}, {"a": 1}], tmp_path)
    url = {"_url": "https://example.com/"}
    assert json.loads((tmp_path / "out.json").read_bytes()) == [url, {"a": 1, **url}]


async def test_what_is_set_aside_is_valid_too(tmp_path: Path) -> None:
    sink = JsonArray("out.json")
    await begin(sink, tmp_path)
    await stage(sink, [{"n": 1}, {"n": 2}])
    await sink.set_aside()
    await sink.aclose()
    assert json.loads((tmp_path / "out.json.failed").read_bytes()) == [{"n": 1}, {"n": 2}]
    assert not (tmp_path / "out.json").exists()


def test_an_array_does_not_grow() -> None:
    with pytest.raises(ConfigError) as caught:
        JsonArray("out.json", "append")
    assert "has ended" in caught.value.message
    assert "jsonl" in caught.value.hint
