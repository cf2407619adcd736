"""Values that some format cannot hold: what each sink makes of them, side by side.

A run of one spider into each sink; the outputs are read by the formats' own readers.
"""

from __future__ import annotations

import csv
import json
import math
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from scraper import Item, Request, Spider, crawl
from scraper.config import Config
from tests.pipelines import parquets
from tests.servers.web import Web, html

BIG = 2**70
HUGE = 100_000_000
FAST = {"politeness.delay": 0, "politeness.robots": False}


class Row(Item):
    n: int
    ratio: float | None = None
    number: int | None = None
    text: str | None = None


ROWS = {
    "plain": Row(n=0, ratio=0.5, number=7, text="a"),
    "nan": Row(n=1, ratio=math.nan),
    "infinity": Row(n=2, ratio=-math.inf),
    "big": Row(n=3, number=BIG),
    "nul": Row(n=4, text="a\0b"),
    "surrogate": Row(n=5, text="a\ud800b"),
    "last": Row(n=7, text="still here"),
}


class Hostile(Spider):
    name = "hostile"
    base: str

    async def start(self) -> Any:
        yield Request(self.base)

    async def parse(self, response: Any) -> Any:
        yield list(ROWS.values())
        yield Row(n=6, text="x" * HUGE)


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def table(path: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute("SELECT * FROM row ORDER BY n")]


def cells(path: Path) -> list[dict[str, Any]]:
    """CSV: numbers as what they are, the rest as text."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    read: dict[str, Callable[[str], Any]] = {"n": int, "number": int, "ratio": float, "text": str}
    return [{k: read[k](v) if v else None for k, v in row.items()} for row in rows]


class Sink(NamedTuple):
    """`big`: what becomes of an integer beyond 64 bits; None: the item is rejected as `schema`.
    `nul`: of a text with NUL. `floats`: NaN and infinities stay what they are."""

    file: str
    read: Callable[[Path], list[dict[str, Any]]]
    big: int | None
    nul: str
    floats: bool = False


REPLACED = "a\ufffdb"
SINKS = {
    "jsonl": Sink("out.jsonl", jsonl, BIG, "a\0b"),
    "json": Sink("out.json", lambda path: json.loads(path.read_bytes()), BIG, "a\0b"),
    "csv": Sink("out.csv", cells, BIG, REPLACED),
    "sqlite": Sink("out.sqlite", table, None, REPLACED),
    "sql": Sink("out.db", table, None, REPLACED),
    "parquet": Sink("out.parquet", parquets.rows, None, "a\0b", floats=True),
}
RULES = "100 MB are `item_too_large`; lone surrogates are U+FFFD; "
FLOATS = {
    True: "NaN and infinities stay; ",
    False: "NaN and infinities are null (empty in CSV); ",
}
BIGS = {
    True: "integers of 70 bits are written whole, for text holds them",
    False: "integers of 70 bits are `schema`: a column has 64 bits",
}
NULS = {True: "NUL stays", False: "NUL is U+FFFD, for readers and databases refuse it"}


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with Web(lambda seen: html("<p>page")) as web:
        yield web


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.case(
                75,
                f"NaN, infinity, 70 bits, NUL, lone surrogates, 100 MB, into {name}",
                RULES
                + FLOATS[sink.floats]
                + BIGS[sink.big is not None]
                + "; "
                + NULS[sink.nul == "a\0b"],
            ),
        )
        for name, sink in SINKS.items()
    ],
)
async def test_the_same_rules_in_every_sink(name: str, web: Web, tmp_path: Path) -> None:
    sink = SINKS[name]
    path = tmp_path / sink.file
    where = {"path": str(path)} if name != "sql" else {"url": f"sqlite:///{path}"}
    settings: dict[str, Any] = {**FAST, "pipelines": [{"use": name, **where}]}
    assert Config.model_fields["crawl"].default.max_item_size < HUGE
    result = await crawl(Hostile, settings=settings, args={"base": web.url}, config=None)
    expected: dict[str, dict[str, Any]] = {
        "plain": {"ratio": 0.5, "number": 7, "text": "a"},
        "nan": {"ratio": "nan"} if sink.floats else {},
        "infinity": {"ratio": "-inf"} if sink.floats else {},
        "big": {"number": sink.big},
        "nul": {"text": sink.nul},
        "surrogate": {"text": REPLACED},
        "last": {"text": "still here"},
    }
    rejected = {"item_too_large": 1}
    if sink.big is None:
        del expected["big"]
        rejected["schema"] = 1
    nothing = {"ratio": None, "number": None, "text": None}
    found = sink.read(path)
    for row in found:  # NaN is equal to nothing
        if row["ratio"] is not None and not math.isfinite(row["ratio"]):
            row["ratio"] = str(row["ratio"])
    assert found == [{"n": ROWS[row].n, **nothing, **values} for row, values in expected.items()]
    assert result.reasons == rejected
    assert result.items == len(expected)
