"""Crawls in small: items through a sink's own `process`, groups, a kill, and the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scraper.http import Request
from scraper.pipelines.page import StagedPage, group_records
from scraper.protocols import RewindSink
from scraper.testing.sinks import crawl_info

__all__ = ["begin", "deliver", "stage"]

STARTED = "20260102T030405Z"


async def begin(
    sink: Any, root: Path, position: Any = None, started: str = STARTED, *, resumed: bool = False
) -> None:
    """Open *sink* as a process does; it goes on at *position*."""
    await sink.open(
        replace(crawl_info(root, started=started), resumed=resumed or position is not None)
    )
    await sink.rewind(position)


async def stage(sink: RewindSink, items: Sequence[Any]) -> Any:
    """Each item a page, all of them one group: the new position, as a ledger gives it back."""
    pages = []
    for item in items:
        page = StagedPage(Request("https://example.com/"))
        page.begin()
        assert await sink.process(item, page) is item
        pages.append(page)
    position = None
    for records in group_records(pages).values():
        position = json.loads(json.dumps(await sink.write(records)))
    return position


async def deliver(
    sink: Any, items: Sequence[Any], root: Path, started: str = STARTED
) -> dict[str, Any]:
    """A whole crawl, published; how the sink describes itself then."""
    try:
        await begin(sink, root, started=started)
        if items:
            await stage(sink, items)
        await sink.publish()
        told: dict[str, Any] = sink.describe()
        return told
    finally:
        await sink.aclose()
