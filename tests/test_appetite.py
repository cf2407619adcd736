"""When `start()` is pulled for more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from scraper import appetite, engine
from scraper.appetite import AHEAD, Appetite
from scraper.http import Request, Response
from scraper.protocols import Observer
from scraper.session import open_session
from scraper.spider import Output, Spider
from scraper.work import Batch, Committed
from tests.canned import Canned


async def waiting() -> tuple[Appetite, asyncio.Task[None]]:
    """One whose batch is through, and the task that waits for the next."""
    hunger = Appetite()
    task = asyncio.create_task(hunger.more())
    await asyncio.sleep(0)
    return hunger, task


async def wanted(task: asyncio.Task[None]) -> bool:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task.done()


@pytest.mark.parametrize(
    ("pending", "short", "new_host", "expected"),
    [
        (AHEAD - 1, False, False, True),
        (AHEAD, False, True, False),  # there is enough to do
        (AHEAD, True, False, False),  # hosts must rest, and it brings no others
        (AHEAD, True, True, True),
    ],
)
async def test_when_a_batch_is_wanted(
    pending: int, short: bool, new_host: bool, expected: bool
) -> None:
    hunger, task = await waiting()
    hunger.brought(new_host=new_host)
    hunger.brought(new_host=False)
    hunger.served(pending, short=short)
    assert await wanted(task) is expected
    task.cancel()


async def test_a_batch_without_new_hosts_ends_it() -> None:
    hunger, task = await waiting()
    hunger.brought(new_host=True)
    hunger.served(AHEAD, short=True)
    await task
    again = asyncio.create_task(hunger.more())
    await asyncio.sleep(0)
    hunger.brought(new_host=False)
    hunger.served(AHEAD, short=True)
    assert not await wanted(again)
    hunger.served(AHEAD - 1, short=False)
    await again


async def test_hosts_of_a_batch_that_is_still_coming_are_not_forgotten() -> None:
    hunger = Appetite()
    hunger.brought(new_host=True)
    hunger.served(AHEAD, short=True)  # nobody waits for it yet
    task = asyncio.create_task(hunger.more())
    await asyncio.sleep(0)
    assert not task.done()
    hunger.served(AHEAD, short=True)
    await task


class Fronts(Spider):
    """Front pages of more hosts than a batch has; what they link to has to wait for an hour."""

    name = "fronts"
    settings: ClassVar[dict[str, Any]] = {
        "politeness": {"delay": 3600, "robots": False},
        "crawl": {"scope": "any"},
    }

    async def start(self) -> AsyncIterator[Request]:
        for n in range(4 * BATCH):
            yield Request(f"http://host-{n}.invalid/")

    async def parse(self, response: Response) -> Output:
        for link in response.links():
            yield response.follow(link)


BATCH = 5


async def test_hosts_that_rest_do_not_keep_start_from_bringing_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Or else thousands of hosts with a delay are crawled a batch of them after the other."""
    monkeypatch.setattr(engine, "SEED_BATCH", BATCH)
    monkeypatch.setattr(appetite, "AHEAD", 1)
    monkeypatch.chdir(tmp_path)
    pages: list[int] = []

    class Enough(Observer):
        def on_commit(self, batch: Batch, committed: Committed) -> None:
            pages.append(batch.counts["pages"])
            if sum(pages) == 4 * BATCH:
                session.crawl.stop(now=True)

    with open_session(Fronts, args={}, settings={}, observers=[Enough()]) as session:
        session.crawl.parts.downloader = Canned()
        async with asyncio.timeout(60):  # it would wait for an hour
            result = await session.crawl.run()
    assert result.ended == "stopped"
    assert result.pages == 4 * BATCH
