"""The watchdog, told what its thread would see."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading

import pytest

from scraper.watchdog import Watchdog, watched


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
