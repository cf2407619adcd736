from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from scraper_extras.ltsv import Ltsv

from scraper import Request
from scraper.pipelines.page import StagedPage, group_records
from scraper.testing.sinks import SinkContract


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


class TestReplace(SinkContract):
    """Every promise of a sink: nothing lost and nothing twice, whenever the process ends."""

    def make(self) -> Ltsv:
        return Ltsv("out.ltsv")

    def working(self, root: Path) -> Path:
        return root / "out.ltsv.partial"

    def published(self, root: Path) -> list[Any]:
        return lines(root / "out.ltsv")

    def record(self, number: int, size: int = 1) -> bytes:
        return f"n:{number}\tpad:{'x' * size}\n".encode()


class TestAppend(TestReplace):
    live = True

    def make(self) -> Ltsv:
        return Ltsv("out.ltsv", mode="append")

    def working(self, root: Path) -> Path:
        return root / "out.ltsv"


@pytest.mark.parametrize(
    ("item", "line"),
    [
        ({"title": "A book", "stock": 3}, "title:A book\tstock:3\n"),
        ({"a b": "tab\there", "tags": ["ä", "b"]}, 'a_b:tab here\ttags:["ä", "b"]\n'),
        ({"t": "a\r\nb:c", "none": None}, "t:a  b:c\tnone:null\n"),
        ({"price": Decimal("1.50"), "day": date(2026, 1, 31)}, "price:1.50\tday:2026-01-31\n"),
    ],
)
async def test_a_line(item: dict[str, Any], line: str) -> None:
    page, sink = StagedPage(Request("https://example.com/")), Ltsv()
    page.begin()
    assert await sink.process(item, page) is item
    assert list(group_records([page]).values()) == [[line.encode()]]
