"""Items for Python code: after the commit, at the consumer's pace."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from scraper.http import Request
from scraper.pipelines.page import StagedPage, group_records
from scraper.pipelines.stream import QueueSink
from scraper.protocols import Sink
from scraper.testing.sinks import crawl_info


async def commit(sink: QueueSink, items: list[Any]) -> None:
    page = StagedPage(Request("https://example.com/"))
    for item in items:
        page.begin()
        assert await sink.process(item, page) is item
    for records in group_records([page]).values():
        await sink.write(records)
        await sink.committed(records)


def test_is_a_sink(tmp_path: Path) -> None:
    sink: Sink = QueueSink()
    assert isinstance(sink, Sink)
    asyncio.run(sink.open(crawl_info(tmp_path)))


async def test_items_come_once_committed_and_in_order() -> None:
    sink, items = QueueSink(), [{"n": n} for n in range(5)]

    async def crawl() -> None:
        await sink.write(items[:2])
        assert sink._queue.empty(), "written is not committed"
        for first in range(0, 5, 2):
            await commit(sink, items[first : first + 2])
        await sink.publish()
        await sink.aclose()

    async with asyncio.TaskGroup() as group:
        group.create_task(crawl())
        got = [item async for item in sink]
    assert got == items
    assert all(one is other for one, other in zip(got, items, strict=True))


async def test_consumer_sets_the_pace() -> None:
    sink = QueueSink(groups=2)
    crawl = asyncio.create_task(commit_all(sink, 5))
    for _ in range(20):
        await asyncio.sleep(0)
    assert sink.records == 3, "two groups wait, the third holds its commit"
    assert [item async for item in sink] == [{"n": n} for n in range(5)]
    await crawl


async def commit_all(sink: QueueSink, groups: int) -> None:
    for number in range(groups):
        await commit(sink, [{"n": number}])
    await sink.aclose()


async def test_consumer_that_leaves_does_not_hold_the_crawl() -> None:
    sink = QueueSink(groups=1)
    crawl = asyncio.create_task(commit_all(sink, 50))
    async for _ in sink:
        break
    while not sink._queue.full():
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not crawl.done(), "it waits for the consumer"
    sink.stop()
    await asyncio.wait_for(crawl, 10)
    assert sink.records == 50


async def test_nothing_to_yield() -> None:
    sink = QueueSink()
    waiting = asyncio.create_task(anext(aiter(sink), "end"))
    await asyncio.sleep(0)
    await sink.aclose()
    await sink.aclose()
    assert await waiting == "end"
