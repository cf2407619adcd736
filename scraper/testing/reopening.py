# ruff: noqa: S101 - a suite asserts
"""Does a sink go on after it was published? Derive from `ReopensContract`; see `sinks`."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraper.errors import UsageError
from scraper.protocols import CrawlInfo, Reopens, RewindSink
from scraper.testing.sinks import SinkContract, crawl_info

__all__ = ["ReopensContract"]


class ReopensContract(SinkContract):
    """The suite for sinks with `recovery = "rewind"` and `reopen`."""

    async def reopen(self, crawl: CrawlInfo, position: Any, aside: Mapping[str, str]) -> Any:
        """A process that reopens the output and crashes; the position that it was told."""
        async with self.process(crawl) as sink:
            return await reopened(sink, position, aside)

    async def delivered(self, crawl: CrawlInfo, count: int) -> Any:
        """A crawl of *count* records, from its beginning to its end; the position."""
        async with self.process(crawl) as sink:
            await sink.rewind(None)
            position = await sink.write(self.records(count)) if count else None
            await sink.publish()
        return position

    async def given_up(self, crawl: CrawlInfo, count: int) -> tuple[Any, dict[str, str]]:
        """A crawl of *count* records that is set aside; the position, and where they went."""
        async with self.process(crawl) as sink:
            await sink.rewind(None)
            position = await sink.write(self.records(count))
            await sink.set_aside()
            return position, dict(sink.describe()["asides"])

    @pytest.mark.parametrize("count", [0, 1, 4])
    def test_goes_on_after_publishing(self, tmp_path: Path, count: int) -> None:
        async def crawls() -> None:
            crawl = crawl_info(tmp_path)
            position = await self.delivered(crawl, count)
            async with self.process(crawl) as sink:
                position = await reopened(sink, position, {})
                await sink.rewind(position)
                await sink.write(self.records(5, count))
                if not self.live:
                    assert self.published(tmp_path) == self.records(count), "what was published"
                await sink.publish()

        asyncio.run(crawls())
        assert self.published(tmp_path) == self.records(count + 5)

    def test_reopening_alone_changes_nothing(self, tmp_path: Path) -> None:
        async def crawls() -> None:
            crawl = crawl_info(tmp_path)
            position = await self.delivered(crawl, 4)
            for _ in range(2):
                position = await self.reopen(crawl, position, {})
                assert self.published(tmp_path) == self.records(4)
            async with self.process(crawl) as sink:
                await sink.rewind(position)
                await sink.publish()

        asyncio.run(crawls())
        assert self.published(tmp_path) == self.records(4)
        assert self.live or not self.working(tmp_path).exists()

    def test_marks(self, tmp_path: Path) -> None:
        """What a sink notes of its output is a position; by it another output is told."""
        if not hasattr(self.make(), "mark"):
            pytest.skip("it has no marks")

        async def crawls() -> None:
            crawl = crawl_info(tmp_path)
            position: Any = None
            for first in (0, 4, 8):
                async with self.process(crawl) as sink:
                    position = await reopened(sink, position, {}) if first else None
                    await sink.rewind(position)
                    position = await sink.write(self.records(4, first))
                    await sink.publish()
                    position = await marked(sink)
                async with self.process(crawl) as sink:
                    await cast("Any", sink).reopenable(position, {})
                assert self.published(tmp_path) == self.records(first + 4)
            async with self.process(crawl) as sink:
                await sink.rewind(await reopened(sink, position, {}))
                await sink.write(self.records(4, 12))
                await sink.set_aside()
                position, aside = await marked(sink), dict(sink.describe()["asides"])
            async with self.process(crawl) as sink:
                await cast("Any", sink).reopenable(position, aside)
            for path in aside.values():
                _alter(Path(path))
            async with self.process(crawl) as sink:
                with pytest.raises(UsageError):
                    await cast("Any", sink).reopenable(position, aside)

        asyncio.run(crawls())

    def test_crashes_after_reopening(self, tmp_path: Path) -> None:
        async def crawls() -> None:
            crawl = crawl_info(tmp_path)
            position = await self.delivered(crawl, 4)
            position = await self.reopen(crawl, position, {})
            await self.write(crawl, position, self.records(3, 100))
            position = await self.write(crawl, position, self.records(5, 4))
            await self.write(crawl, position, self.records(4, 200))
            async with self.process(crawl) as sink:
                await sink.rewind(position)
            await self.publish(crawl, position)

        asyncio.run(crawls())
        assert self.published(tmp_path) == self.records(9)

    def test_goes_on_with_what_was_set_aside(self, tmp_path: Path) -> None:
        async def crawls() -> None:
            crawl = crawl_info(tmp_path)
            position, aside = await self.given_up(crawl, 4)
            for _ in range(2):
                position = await self.reopen(crawl, position, aside)
            position = await self.write(crawl, position, self.records(3, 4))
            await self.publish(crawl, position)

        asyncio.run(crawls())
        assert self.published(tmp_path) == self.records(7)

    def test_set_aside_leaves_what_was_published(self, tmp_path: Path) -> None:
        async def crawls() -> None:
            crawl = crawl_info(tmp_path)
            position = await self.delivered(crawl, 4)
            async with self.process(crawl) as sink:
                position = await reopened(sink, position, {})
                await sink.rewind(position)
                position = await sink.write(self.records(4, 4))
                await sink.set_aside()
                aside = dict(sink.describe()["asides"])
            assert self.published(tmp_path) == self.records(4)
            async with self.process(crawl) as sink:  # and once more, with what it had come to
                position = await reopened(sink, position, aside)
                await sink.rewind(position)
                await sink.write(self.records(1, 8))
                await sink.publish()

        asyncio.run(crawls())
        assert self.published(tmp_path) == self.records(9)

    def test_other_crawls_keep_away(self, tmp_path: Path) -> None:
        async def crawls() -> None:
            crawl, other = crawl_info(tmp_path), crawl_info(tmp_path, job="other")
            position = await self.reopen(crawl, await self.delivered(crawl, 4), {})
            with pytest.raises(UsageError):
                await self.write(other, None, self.records(1, 50))
            position = await self.write(crawl, position, self.records(1, 4))
            await self.publish(crawl, position)

        asyncio.run(crawls())
        assert self.published(tmp_path) == self.records(5)

    def test_output_that_is_not_what_was_published(self, tmp_path: Path) -> None:
        if self.live:
            pytest.skip("what grows under its name goes on from where it ends")

        crawl, sought = crawl_info(tmp_path), self.shown(self.record(0))
        position = asyncio.run(self.delivered(crawl, 1))
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        (output,) = [path for path in files if sought in self.content(path)]
        output.write_bytes(b"")
        with pytest.raises(UsageError) as caught:
            asyncio.run(self.reopen(crawl, position, {}))
        assert str(output) in str(caught.value)

    def test_any_history_of_reopening_gives_the_committed_records(self) -> None:
        group = st.tuples(st.lists(st.integers(1, 400), max_size=4), st.booleans())
        end = st.sampled_from(["publish", "set_aside"])

        @settings(max_examples=25, deadline=None)
        @given(history=st.lists(st.one_of(group, end), max_size=8))
        def holds(history: list[tuple[list[int], bool] | str]) -> None:
            with tempfile.TemporaryDirectory() as directory:
                root = Path(directory)
                committed = asyncio.run(self._live_on(root, history))
                assert self.published(root) == committed

        holds()

    async def _live_on(self, root: Path, history: list[tuple[list[int], bool] | str]) -> list[Any]:
        """Groups (sizes, committed?) and ends, after each of which it is reopened; then publish."""
        crawl, committed, position, number = crawl_info(root), list[Any](), None, 0
        sink = await self._resumed(crawl, position)
        for event in history:
            if isinstance(event, str):
                await (sink.publish() if event == "publish" else sink.set_aside())
                aside = dict(sink.describe().get("asides", {}))
                await sink.aclose()
                sink = await self._opened(crawl)
                position = await reopened(sink, position, aside)
                await sink.rewind(position)
                continue
            sizes, durable = event
            records = [self.record(number + place, size) for place, size in enumerate(sizes)]
            number += len(sizes)
            written = await sink.write(records)
            if durable:
                committed += records
                position = json.loads(json.dumps(written))
            else:
                await sink.aclose()
                sink = await self._resumed(crawl, position)
        await sink.publish()
        await sink.aclose()
        return committed


def _alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


async def marked(sink: RewindSink) -> Any:
    """What `mark` gives, as the ledger would have it again."""
    return json.loads(json.dumps(await cast("Any", sink).mark()))


async def reopened(sink: RewindSink, position: Any, aside: Mapping[str, str]) -> Any:
    """What `reopen` gives, as the ledger would have it again."""
    found = await cast("Reopens", sink).reopen(position, aside)
    return json.loads(json.dumps(found))
