"""The watchdog, told what its thread would see."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from scraper.frontier.memory import MemoryFrontier
from scraper.http import Response
from scraper.protocols import CrawlInfo, Page
from scraper.session import open_session
from scraper.spider import Output, Spider
from scraper.watchdog import Watchdog, watched
from scraper.work import Batch
from tests.canned import Canned


def test_the_users_line_is_told(caplog: pytest.LogCaptureFixture) -> None:
    Watchdog(1.0).tell(sys._getframe(), 2.5)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "for 2.5 s: test_the_users_line_is_told is at work" in record.message
    assert f"{__file__}:" in record.message


def test_each_place_is_told_once_at_full_volume(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    watchdog = Watchdog(1.0)
    for held, level in ((1.2, 1), (1.3, 1), (14.0, 10)):
        watchdog.tell(sys._getframe(), held, level)
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "DEBUG", "WARNING"], "ten times as long is news"


def test_a_thread_that_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    Watchdog(1.0).tell(None, 2.0)
    assert not caplog.records


def test_it_ends_with_what_it_watches() -> None:
    async def main() -> None:
        before = threading.active_count()
        with watched(0):
            assert threading.active_count() == before
        with watched(60.0):
            (thread,) = [t for t in threading.enumerate() if t.name == "watchdog"]
        await asyncio.to_thread(thread.join)
        assert not thread.is_alive()

    asyncio.run(main())


def test_whoever_started_the_loop_is_not_to_blame(caplog: pytest.LogCaptureFixture) -> None:
    """A script that runs a crawl stands below all frames; what is told is above the loop."""

    async def main() -> None:
        Watchdog(1.0).tell(sys._getframe(), 2.0)

    asyncio.run(main())
    assert "test_whoever_started_the_loop_is_not_to_blame.<locals>.main is at work" in caplog.text


class Held:
    """Tells, from where it stands, what the watchdog would tell of a loop that is held there."""

    recovery = "rewind"
    key = "held"

    async def process(self, item: Any, page: Page) -> Any:
        Watchdog(1.0).tell(sys._getframe(), 2.0)
        page.stage(self, b"x", 1)  # type: ignore[arg-type]
        return item

    async def write(self, records: Sequence[Any]) -> int:
        Watchdog(1.0).tell(sys._getframe(), 3.0)
        return 1

    async def open(self, crawl: CrawlInfo) -> None: ...
    async def aclose(self) -> None: ...
    async def rewind(self, position: Any) -> None: ...
    async def publish(self) -> None: ...
    async def set_aside(self) -> None: ...
    def describe(self) -> dict[str, Any]:
        return {}


class One(Spider):
    name = "one"
    start_urls = ("http://site.invalid/",)
    settings: ClassVar[dict[str, Any]] = {"politeness": {"robots": False}}

    async def parse(self, response: Response) -> Output:
        yield {"url": response.url}


def test_a_stage_and_a_sink_are_named_with_the_page_that_is_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        with open_session(One, args={}, settings={}, sinks=[Held()]) as session:
            session.crawl.parts.downloader = Canned()
            await session.crawl.run()

    asyncio.run(main())
    told = [r.getMessage() for r in caplog.records if "nothing else has happened" in r.getMessage()]
    assert len(told) == 2
    assert "2.0 s: Held.process is at work in parse on http://site.invalid/ (" in told[0]
    assert "3.0 s: Held.write is at work (" in told[1]


def test_what_the_framework_does_by_itself_is_named_too(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit in memory is on the loop: its function, its file and line."""
    frames: list[str] = []

    def frame_of_a_commit(self: object, *arguments: object) -> None:
        frame = sys._getframe().f_back
        assert frame is not None
        frames.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        Watchdog(1.0).tell(frame, 2.0)

    monkeypatch.setattr(MemoryFrontier, "_keep", frame_of_a_commit)
    asyncio.run(MemoryFrontier().commit(Batch()))
    assert f"2.0 s: MemoryFrontier.commit is at work ({frames[0]})" in caplog.text
