# ruff: noqa: S101 - a suite asserts
"""Does a sink that applies its groups by itself keep its promise? Derive and run pytest.

::

    class TestMine(RedoSinkContract):
        def make(self, root):
            return Mine(root / "target")

        def delivered(self, root):  # (number, version) of every item in the target, in any order
            return [(row.number, row.version) for row in read(root / "target")]

        def away(self, root):  # a context manager: nothing can reach the target meanwhile
            return locked(root / "target")

        def lose(self, root):  # somebody else empties the target
            (root / "target").unlink()

`KeyedSinkContract` is for sinks in whose target an item takes the place of the one with its key.

Every test plays several processes. What a ledger does for a sink, `Job` does: it stores a group's
records before they are applied, and lets them go with the next group. One test really kills: it
starts a process that imports the derived class by its name and calls `make`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraper.errors import DamagedState, OutOfResource
from scraper.frontier.sqlite import SqliteFrontier
from scraper.protocols import RedoSink
from scraper.testing.lives import Job, kill_while_applying, stage
from scraper.testing.sinks import crawl_info
from scraper.work import Batch, Redo

__all__ = ["Job", "KeyedSinkContract", "RedoSinkContract", "stage"]

Row = tuple[int, int]
"""An item of the tests: its number and its version."""


class RedoSinkContract:
    """The suite for sinks whose `recovery` is "redo"."""

    examples: ClassVar[int] = 25
    """Histories that are played."""

    # ── what a derived class says

    def make(self, root: Path) -> RedoSink:
        """A new sink, as each process builds it. Each *root* has a target of its own."""
        raise NotImplementedError

    def item(self, number: int, version: int = 0) -> Any:
        """An item. Where the target has keys, the number is the key."""
        return {"number": number, "version": version}

    def delivered(self, root: Path) -> list[Row]:
        """Number and version of every item in the target; [] when there is none."""
        raise NotImplementedError

    def away(self, root: Path) -> contextlib.AbstractContextManager[object]:
        """While it is entered, no sink that was or is made can write to the target."""
        raise NotImplementedError

    def lose(self, root: Path) -> None:
        """Remove the target, with all that it remembers."""
        raise NotImplementedError

    def expected(self, rows: Iterable[Row]) -> list[Row]:
        """What the target must hold after *rows* came, in this order."""
        return sorted(rows)

    # ── how processes live and die

    @contextlib.asynccontextmanager
    async def process(self, job: Job, root: Path) -> AsyncIterator[RedoSink]:
        """One process's life with the sink, recovered; it ends by a crash, or in good order."""
        sink = self.make(root)
        await sink.open(replace(job.crawl, resumed=job.begun))
        job.begun = True
        try:
            await sink.rewind(job.position)
            for group, records in job.redo:
                await sink.apply(group, records)
            yield sink
        finally:
            await sink.aclose()

    async def deliver(self, job: Job, root: Path, *groups: Sequence[Row]) -> None:
        """A process that commits and applies *groups*."""
        async with self.process(job, root) as sink:
            for rows in groups:
                records = await stage(sink, self.items(rows))
                await sink.apply(job.commit(records), records)

    def items(self, rows: Iterable[Row]) -> list[Any]:
        return [self.item(*row) for row in rows]

    def check(self, root: Path, rows: Iterable[Row]) -> None:
        """The target holds what came, each once."""
        assert sorted(self.delivered(root)) == self.expected(rows)

    # ── the promise

    async def test_is_a_sink_that_redoes(self, tmp_path: Path) -> None:
        sink = self.make(tmp_path)
        assert isinstance(sink, RedoSink)
        assert sink.recovery == "redo"

    async def test_key_names_it_in_every_process(self, tmp_path: Path) -> None:
        keys = set()
        job = Job(crawl_info(tmp_path))
        for _ in range(2):
            async with self.process(job, tmp_path) as sink:
                keys.add(sink.key)
        assert len(keys) == 1
        assert keys != {""}

    async def test_records_are_bytes_and_nothing_is_written_before_apply(
        self, tmp_path: Path
    ) -> None:
        async with self.process(Job(crawl_info(tmp_path)), tmp_path) as sink:
            records = await stage(sink, self.items([(1, 0), (2, 0)]))
            assert len(records) == 2
            assert all(type(record) is bytes for record in records)
            assert self.delivered(tmp_path) == []

    async def test_opening_changes_nothing(self, tmp_path: Path) -> None:
        job = Job(crawl_info(tmp_path))
        await self.deliver(job, tmp_path, [(1, 0), (2, 0)])
        sink = self.make(tmp_path)
        await sink.open(replace(job.crawl, resumed=True))
        await sink.aclose()
        self.check(tmp_path, [(1, 0), (2, 0)])
        await self.deliver(job, tmp_path, [(3, 0)])
        self.check(tmp_path, [(1, 0), (2, 0), (3, 0)])

    async def test_a_group_is_applied_once_whatever_is_repeated(self, tmp_path: Path) -> None:
        job = Job(crawl_info(tmp_path))
        async with self.process(job, tmp_path) as sink:
            first = await stage(sink, self.items([(1, 0), (2, 0)]))
            second = await stage(sink, self.items([(3, 0)]))
            one = job.commit(first)
            for _ in range(3):
                await sink.apply(one, first)
            two = job.commit(second)
            for group, records in ((one, first), (two, second), (one, first), (two, second)):
                await sink.apply(group, records)
        self.check(tmp_path, [(1, 0), (2, 0), (3, 0)])

    async def test_killed_between_commit_and_apply(self, tmp_path: Path) -> None:
        job = Job(crawl_info(tmp_path))
        rows = [[(1, 0), (2, 0)], [(3, 0)], [(4, 0)]]
        for group in rows:  # each process commits one group, and dies
            async with self.process(job, tmp_path) as sink:
                job.commit(await stage(sink, self.items(group)))
        async with self.process(job, tmp_path):
            pass
        self.check(tmp_path, [row for group in rows for row in group])

    async def test_killed_after_apply_again_and_again(self, tmp_path: Path) -> None:
        job = Job(crawl_info(tmp_path))
        await self.deliver(job, tmp_path, [(1, 0)], [(2, 0), (3, 0)])
        for _ in range(3):  # the ledger still holds the last group
            async with self.process(job, tmp_path) as sink:
                await sink.apply(*job.redo[0])
            self.check(tmp_path, [(1, 0), (2, 0), (3, 0)])

    async def test_several_groups_are_replayed_in_order(self, tmp_path: Path) -> None:
        job = Job(crawl_info(tmp_path))
        await self.deliver(job, tmp_path, [(1, 0)])
        async with self.process(job, tmp_path) as sink:
            for rows in ([(2, 0)], [(3, 0)], [(4, 0)]):
                job.commit(await stage(sink, self.items(rows)), keep=True)
        for _ in range(2):
            async with self.process(job, tmp_path):
                pass
            self.check(tmp_path, [(n, 0) for n in range(1, 5)])

    async def test_killed_in_the_middle_of_apply(self, tmp_path: Path) -> None:
        dice = random.Random(5)  # noqa: S311 - instants, the same each time
        job = Job(crawl_info(tmp_path))
        came: list[Row] = []
        async with self.process(job, tmp_path) as sink:
            group = [(number, 0) for number in range(20)]
            records = await stage(sink, self.items(group))
            await sink.apply(job.commit(records), records)
            came += group
        for life in range(1, 5):
            group = [(life * 10_000 + number, 0) for number in range(3000)]
            async with self.process(job, tmp_path) as sink:
                job.commit(await stage(sink, self.items(group)))
            came += group
            spec = {
                "started": job.crawl.started,
                "position": job.position,
                "group": job.redo[-1][0],
            }
            delay = 0.2 * 10 ** (-2 * dice.random())
            kill_while_applying(type(self), tmp_path, spec, job.redo[-1][1], delay)
        async with self.process(job, tmp_path):
            pass
        self.check(tmp_path, came)

    async def test_a_new_run_of_the_job_starts_anew(self, tmp_path: Path) -> None:
        came: list[Row] = []
        for number, started in enumerate(["20260102T030405Z", "20260103T030405Z"]):
            job = Job(crawl_info(tmp_path, started=started))
            rows = [[(10 * number + n, 0)] for n in range(3)]
            await self.deliver(job, tmp_path, *rows)
            async with self.process(job, tmp_path) as sink:
                await sink.publish()
            came += [row for group in rows for row in group]
        self.check(tmp_path, came)

    async def test_a_new_run_within_the_same_second(self, tmp_path: Path) -> None:
        await self.deliver(Job(crawl_info(tmp_path)), tmp_path, [(1, 0)], [(2, 0)])
        await self.deliver(Job(crawl_info(tmp_path)), tmp_path, [(3, 0)])
        self.check(tmp_path, [(1, 0), (2, 0), (3, 0)])

    async def test_two_jobs_in_one_target(self, tmp_path: Path) -> None:
        jobs = [Job(crawl_info(tmp_path, job=name)) for name in ("one", "two")]
        async with (
            self.process(jobs[0], tmp_path) as first,
            self.process(jobs[1], tmp_path) as second,
        ):
            for number in range(4):
                for place, sink in enumerate((first, second)):
                    rows = [(100 * place + number, 0)]
                    records = await stage(sink, self.items(rows))
                    await sink.apply(jobs[place].commit(records), records)
        for job in jobs:
            async with self.process(job, tmp_path) as sink:
                await sink.publish()
        self.check(tmp_path, [(100 * place + n, 0) for place in (0, 1) for n in range(4)])

    async def test_without_items(self, tmp_path: Path) -> None:
        for _ in range(2):
            async with self.process(Job(crawl_info(tmp_path)), tmp_path) as sink:
                await sink.publish()
        assert self.delivered(tmp_path) == []

    async def test_publishing_twice_and_in_another_process(self, tmp_path: Path) -> None:
        job = Job(crawl_info(tmp_path))
        await self.deliver(job, tmp_path, [(1, 0)], [(2, 0)])
        job.redo = []
        for _ in range(2):
            async with self.process(job, tmp_path) as sink:
                await sink.publish()
                await sink.publish()
                told = sink.describe()
            self.check(tmp_path, [(1, 0), (2, 0)])
        assert told["records"] == 2

    async def test_setting_aside_loses_nothing(self, tmp_path: Path) -> None:
        job = Job(crawl_info(tmp_path))
        await self.deliver(job, tmp_path, [(1, 0)])
        sink = self.make(tmp_path)
        await sink.open(replace(job.crawl, resumed=True))
        await sink.set_aside()
        await sink.set_aside()
        assert {"kind", "path"} <= sink.describe().keys()
        await sink.aclose()
        await self.deliver(Job(crawl_info(tmp_path, job="later")), tmp_path, [(2, 0)])
        assert (2, 0) in self.delivered(tmp_path)

    async def test_target_that_is_away(self, tmp_path: Path) -> None:
        job = Job(crawl_info(tmp_path))
        await self.deliver(job, tmp_path, [(1, 0)])
        async with self.process(job, tmp_path) as sink:
            records = await stage(sink, self.items([(2, 0), (3, 0)]))
            group = job.commit(records)
            with self.away(tmp_path), pytest.raises(OutOfResource) as caught:
                await sink.apply(group, records)
            assert caught.value.exit_code == 4
            assert caught.value.hint
        with self.away(tmp_path), pytest.raises(OutOfResource):
            async with self.process(job, tmp_path):
                pass
        await self.deliver(job, tmp_path, [(4, 0)])
        self.check(tmp_path, [(1, 0), (2, 0), (3, 0), (4, 0)])

    async def test_target_that_comes_back_in_the_same_process(self, tmp_path: Path) -> None:
        job = Job(crawl_info(tmp_path))
        async with self.process(job, tmp_path) as sink:
            records = await stage(sink, self.items([(1, 0)]))
            await sink.apply(job.commit(records), records)
            later = await stage(sink, self.items([(2, 0)]))
            group = job.commit(later)
            with self.away(tmp_path), pytest.raises(OutOfResource):
                await sink.apply(group, later)
            await sink.apply(group, later)
        self.check(tmp_path, [(1, 0), (2, 0)])

    async def test_a_target_that_lost_what_was_applied_is_refused(self, tmp_path: Path) -> None:
        job = Job(crawl_info(tmp_path))
        await self.deliver(job, tmp_path, [(1, 0)], [(2, 0)])
        job.redo = []  # a later commit let go of them
        self.lose(tmp_path)
        with pytest.raises(DamagedState) as caught:
            await self.deliver(job, tmp_path, [(3, 0)])
        assert caught.value.hint
        assert self.delivered(tmp_path) == []
        with pytest.raises(DamagedState):
            async with self.process(Job(job.crawl, {"group": 2, "records": 2}), tmp_path) as sink:
                await sink.publish()

    async def test_an_older_ledger_is_refused(self, tmp_path: Path) -> None:
        job = Job(crawl_info(tmp_path))
        await self.deliver(job, tmp_path, [(1, 0)])
        copy = Job(job.crawl, job.position, list(job.redo), job.group, begun=True)
        await self.deliver(job, tmp_path, [(2, 0)], [(3, 0)])
        with pytest.raises(DamagedState):
            await self.deliver(copy, tmp_path, [(4, 0)], [(5, 0)], [(6, 0)])
        self.check(tmp_path, [(1, 0), (2, 0), (3, 0)])

    async def test_records_survive_a_real_ledger(self, tmp_path: Path) -> None:
        job = Job(crawl_info(tmp_path))
        rows = [(number, 0) for number in range(500)]
        path = tmp_path / "ledger" / "ledger.sqlite"
        async with self.process(job, tmp_path) as sink:
            records = await stage(sink, self.items(rows))
            group = job.commit(records)
            frontier = SqliteFrontier(path)
            await frontier.open()
            redo = [Redo(group, sink.key, records)]
            await frontier.commit(Batch(positions={sink.key: job.position}, redo=redo))
            await frontier.aclose(clean=False)
        frontier = SqliteFrontier(path)
        recovery = await frontier.open()
        await frontier.aclose()
        job.redo = [(redo.group, list(redo.records)) for redo in recovery.redo]
        assert job.redo == [(group, records)]
        (job.position,) = recovery.positions.values()
        async with self.process(job, tmp_path):
            pass
        self.check(tmp_path, rows)

    def test_any_history_delivers_what_was_committed(self) -> None:
        row = st.tuples(st.integers(0, 6), st.integers(0, 9))
        fate = st.sampled_from(["applied", "before", "after"])
        group = st.tuples(st.lists(row, max_size=5), fate)

        @settings(max_examples=self.examples, deadline=None)
        @given(history=st.lists(st.one_of(group, st.none()), max_size=8))
        def holds(history: list[tuple[list[Row], str] | None]) -> None:
            with tempfile.TemporaryDirectory() as directory:
                root = Path(directory)
                came = asyncio.run(self._live_through(root, history))
                self.check(root, came)

        holds()

    async def _live_through(
        self, root: Path, history: list[tuple[list[Row], str] | None]
    ) -> list[Row]:
        """Groups and their fates (a kill before or after they are applied), and idle restarts."""
        job, came = Job(crawl_info(root)), list[Row]()
        lives = contextlib.AsyncExitStack()
        sink = await lives.enter_async_context(self.process(job, root))
        for event in history:
            if event is not None:
                rows, fate = event
                records = await stage(sink, self.items(rows))
                if not records:
                    continue  # nothing was staged: the ledger has no group for the sink
                group = job.commit(records)
                came += rows
                if fate != "before":
                    await sink.apply(group, records)
                if fate == "applied":
                    continue
            await lives.aclose()
            sink = await lives.enter_async_context(self.process(job, root))
        await sink.publish()
        await lives.aclose()
        return came


class KeyedSinkContract(RedoSinkContract):
    """The suite for a target in which an item takes the place of the one with its number."""

    def expected(self, rows: Iterable[Row]) -> list[Row]:
        return sorted(dict(rows).items())

    async def test_the_last_of_a_group_wins(self, tmp_path: Path) -> None:
        await self.deliver(Job(crawl_info(tmp_path)), tmp_path, [(1, 1), (2, 1), (1, 2), (1, 3)])
        assert Counter(self.delivered(tmp_path)) == Counter([(1, 3), (2, 1)])

    @pytest.mark.parametrize("applied", [0, 1, 2])
    async def test_the_later_group_wins_whatever_is_replayed(
        self, tmp_path: Path, applied: int
    ) -> None:
        """A key in groups 5 and 6, and a kill: group 6 stands, however much was applied."""
        job = Job(crawl_info(tmp_path))
        await self.deliver(job, tmp_path, *([(n, 1)] for n in range(1, 5)))
        async with self.process(job, tmp_path) as sink:
            for version in (5, 6):
                records = await stage(sink, self.items([(9, version)]))
                group = job.commit(records, keep=version == 6)
                if group - 4 <= applied:
                    await sink.apply(group, records)
        for _ in range(2):
            async with self.process(job, tmp_path):
                pass
            assert dict(self.delivered(tmp_path)) == {1: 1, 2: 1, 3: 1, 4: 1, 9: 6}

    async def test_a_later_run_updates(self, tmp_path: Path) -> None:
        await self.deliver(Job(crawl_info(tmp_path)), tmp_path, [(1, 1), (2, 1)])
        later = crawl_info(tmp_path, started="20270102T030405Z")
        await self.deliver(Job(later), tmp_path, [(2, 2), (3, 2)])
        assert dict(self.delivered(tmp_path))[2] == 2
        assert len(self.delivered(tmp_path)) == len(dict(self.delivered(tmp_path)))
