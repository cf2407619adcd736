"""Rejected items: the sink's contract, and records that are valid JSON whatever they hold."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from scraper.errors import ItemInvalid
from scraper.pipelines import quarantine
from scraper.pipelines.rejected import RejectedItems
from scraper.testing.sinks import SinkContract, crawl_info


class TestRejected(SinkContract):
    publishes_nothing = True

    def make(self) -> RejectedItems:
        return RejectedItems("data/books.rejected.jsonl")

    def working(self, root: Path) -> Path:
        return root / "data/books.rejected.jsonl.partial"

    def published(self, root: Path) -> list[Any]:
        path = root / "data/books.rejected.jsonl"
        return path.read_bytes().splitlines(keepends=True) if path.exists() else []


async def crawl(root: Path, records: list[bytes], mode: Any = "replace", publish: int = 1) -> None:
    sink = RejectedItems("r.jsonl", mode)
    await sink.open(crawl_info(root))
    await sink.rewind(None)
    await sink.write(records)
    for _ in range(publish):
        await sink.publish()
    await sink.aclose()


def test_rejected_file_of_an_earlier_crawl_goes(tmp_path: Path) -> None:
    asyncio.run(crawl(tmp_path, [b"1\n"], publish=2))
    assert (tmp_path / "r.jsonl").read_bytes() == b"1\n"
    asyncio.run(crawl(tmp_path, [], publish=0))
    assert (tmp_path / "r.jsonl").exists(), "not before this crawl is complete"
    asyncio.run(crawl(tmp_path, [], publish=2))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".scrape"]


def test_append_mode_keeps_earlier_rejects(tmp_path: Path) -> None:
    asyncio.run(crawl(tmp_path, [b"1\n"], "append"))
    asyncio.run(crawl(tmp_path, [], "append"))
    assert (tmp_path / "r.jsonl").read_bytes() == b"1\n"


def test_append_mode_without_rejects_leaves_no_file(tmp_path: Path) -> None:
    asyncio.run(crawl(tmp_path, [], "append"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".scrape"]


def row(values: Any, errors: Any = ()) -> Any:
    line = quarantine.record(
        "item_invalid",
        item="Book",
        url="https://x/",
        errors=list(errors),
        values=values,
        spider="s",
    )
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert len(line) <= quarantine.MAX_RECORD
    return json.loads(
        line.decode("utf-8", "strict"),
        parse_constant=lambda text: pytest.fail(f"{text} is not JSON"),
    )


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary()
    | st.decimals()
    | st.text(st.characters(exclude_categories=()))
    | st.datetimes()
    | st.builds(object),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner)
    ),
    max_leaves=30,
)


@given(anything)
def test_any_value_gives_valid_json(value: Any) -> None:
    assert row({"v": value})["reason"] == "item_invalid"


def test_what_is_kept() -> None:
    errors = [{"field": "price", "message": "not a number", "selectors": [".p"], "value": "free"}]
    assert row({"price": "free", "n": 1, "d": Decimal("1.50")}, errors) == {
        "reason": "item_invalid",
        "item": "Book",
        "url": "https://x/",
        "errors": errors,
        "values": {"price": "free", "n": 1, "d": "1.50"},
        "stage": None,
        "spider": "s",
        "page": "",
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        ("é\ud800", "é\\ud800"),
        (b"a\xff", "a\\xff"),
        (10**400, "<integer of 1,329 bits>"),
        ("x" * 3000, "x" * 2000 + "… (cut: 3,000 characters)"),
        (b"x" * 3000, "x" * 2000 + "… (cut: 3,000 bytes)"),
        ({1: {2: 3}}, {"1": {"2": 3}}),
    ],
)
def test_odd_values(value: Any, shown: Any) -> None:
    assert row({"v": value})["values"]["v"] == shown


def test_endless_values_are_bounded() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert "too deep" in json.dumps(row({"v": loop}))
    wide = {f"k{n}": {f"j{m}": "y" * 5000 for m in range(200)} for n in range(200)}
    errors = [{"field": "a", "message": "m" * 9**6, "selectors": [], "value": wide}] * 200
    shown = row(wide, errors)
    assert "more" in shown["values"]["…"]
    assert "… (" in shown["errors"][-1]
    assert row({"v": ["😀" * 10**6] * 100})["values"]["v"][-1].endswith("more)")


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no")


def test_values_whose_own_code_raises() -> None:
    shown = row({"a": Hostile(), "b": Text("t"), Hostile(): 1})["values"]
    assert shown["a"] == "<Hostile whose repr raises RuntimeError>"
    assert shown["b"] == "t"

    class Broken(dict[str, int]):
        def items(self) -> Any:
            raise KeyError("no")

    @dataclass
    class Data:
        a: int

    assert row({"v": Broken(a=1), "t": Data, "d": Data(1)})["values"] == {
        "v": "<Broken that raises KeyError>",
        "t": repr(Data),
        "d": {"a": 1},
    }


def test_values_of_every_kind_of_item() -> None:
    class Model(BaseModel):
        model_config = ConfigDict(extra="allow")
        a: int

    @dataclass
    class Data:
        a: int

    assert quarantine.values_of(Model(a=1, b=2)) == {"a": 1, "b": 2}
    assert quarantine.values_of(Data(1)) == {"a": 1}
    assert quarantine.values_of({"a": 1}) == {"a": 1}
    assert row({"m": Model(a=1)})["values"] == {"m": {"a": 1}}


def test_errors_of_an_invalid_item_are_kept_as_they_are() -> None:
    errors = [{"field": "f", "message": "m", "selectors": ["s"], "value": 1}]
    assert quarantine.field_errors(ItemInvalid("M", "u", errors, {})) == errors


@pytest.mark.parametrize(
    ("job", "name"), [("default", "b"), (None, "b"), ("category=travel", "b.category=travel")]
)
async def test_jobs_that_share_a_table_have_files_of_their_own(
    tmp_path: Path, job: str | None, name: str
) -> None:
    sink = RejectedItems("data/b.rejected.jsonl", by_job=True)
    for _ in range(2):  # as when an abandoned run is set aside first
        await sink.open(crawl_info(tmp_path, job=job))
        assert sink.key == str(tmp_path / f"data/{name}.rejected.jsonl")
        await sink.aclose()
