"""Time limits: what is over time ends, what is not goes on, and foreign cancelling passes."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from scraper.download.deadlines import Deadlines, Limit

SOON = 0.01


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_what_waits_leaves_with_a_timeout_and_the_task_lives_on() -> None:
    deadlines = Deadlines()
    with pytest.raises(TimeoutError), Limit(deadlines, SOON):
        await forever()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert not deadlines.waiting


async def test_what_ends_in_time_hears_nothing() -> None:
    deadlines = Deadlines()
    for seconds in (0.5, 30.0):
        with Limit(deadlines, seconds):
            await asyncio.sleep(0)
    assert not deadlines.waiting
    with pytest.raises(KeyError), Limit(deadlines, SOON):
        raise KeyError


async def test_each_ends_by_its_own_time_whatever_the_order() -> None:
    deadlines = Deadlines()
    ended: list[float] = []

    async def wait(seconds: float) -> None:
        try:
            with Limit(deadlines, seconds):
                await forever()
        except TimeoutError:
            ended.append(seconds)

    await asyncio.gather(*(wait(seconds) for seconds in (0.09, 0.01, 0.05)))
    assert ended == [0.01, 0.05, 0.09]


async def test_who_takes_long_to_leave_is_cancelled_once() -> None:
    """Connecting to a host of several addresses does: its tries are ended first."""
    deadlines, later = Deadlines(), asyncio.Event()

    async def slow() -> int:
        try:
            with Limit(deadlines, SOON):
                try:
                    await forever()
                finally:
                    await later.wait()
        except TimeoutError:
            task = asyncio.current_task()
            return -1 if task is None else task.cancelling()
        return -1

    async def next_one() -> None:
        with contextlib.suppress(TimeoutError), Limit(deadlines, 2 * SOON):
            await forever()
        later.set()

    left, _ = await asyncio.gather(slow(), next_one())
    assert left == 0


async def test_one_that_waits_again_has_what_is_left() -> None:
    deadlines = Deadlines()
    limit = Limit(deadlines, SOON)
    with pytest.raises(TimeoutError), limit:
        await forever()
    with pytest.raises(TimeoutError), limit:
        pytest.fail("nothing is left")
    limit.renew()
    with pytest.raises(TimeoutError), limit:
        await forever()


async def test_over_while_nobody_waited() -> None:
    deadlines = Deadlines()
    limit = Limit(deadlines, SOON)
    while asyncio.get_running_loop().time() < limit.due:
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError), limit:
        pytest.fail("nothing is left")


async def test_who_cancels_the_task_for_a_reason_of_their_own_has_the_word() -> None:
    deadlines = Deadlines()
    limit = Limit(deadlines, 30)
    begun = asyncio.Event()

    async def wait() -> None:
        with limit:
            begun.set()
            await forever()

    task = asyncio.create_task(wait())
    await begun.wait()
    task.cancel()
    limit.expire()  # in the same round of the loop
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not deadlines.waiting


async def test_one_timer_serves_them_all() -> None:
    class Counted(Deadlines):
        timers = 0

        def look_at(self, due: float) -> None:
            self.timers += 1
            super().look_at(due)

    deadlines = Counted()
    for _ in range(100):
        with Limit(deadlines, 600):
            await asyncio.sleep(0)
    assert deadlines.timers == 1
    deadlines.close()
