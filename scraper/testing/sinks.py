# ruff: noqa: S101 - a suite asserts
"""Does a sink keep its promise? Derive from `SinkContract`, say how to build yours, run pytest.

::

    class TestMine(SinkContract):
        def make(self):
            return Mine("out.txt")

        def working(self, root):  # where unfinished records lie
            return root / "out.txt.partial"

        def published(self, root):  # the records of the finished output
            return (root / "out.txt").read_bytes().splitlines(keepends=True)

`scraper.testing.reopening.ReopensContract` is this suite and more, for sinks that have `reopen`.
Every test plays several processes: a crash is a sink that is closed without another word, its
successor a new object that is opened with the same `CrawlInfo` and told the committed position.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraper.errors import DamagedState, JobError, OutOfResource, UsageError
from scraper.protocols import CrawlInfo, RewindSink

__all__ = ["SinkContract", "crawl_info", "recall"]


def crawl_info(
    root: Path, *, job: str | None = "job", started: str = "20260102T030405Z"
) -> CrawlInfo:
    """A crawl of spider "books" in *root*; its job directory exists, unless *job* is None."""
    job_dir = None if job is None else root / ".scrape" / job
    if job_dir is not None:
        job_dir.mkdir(parents=True, exist_ok=True)
    return CrawlInfo("books", {}, started, root, job_dir)


class SinkContract:
    """The suite for sinks whose `recovery` is "rewind"."""

    live: ClassVar[bool] = False
    """The output is under its name while it grows (mode "append")."""

    publishes_nothing: ClassVar[bool] = False
    """No records: no output, instead of an empty one."""

    bulk: ClassVar[int] = 8192
    """The size of the records of which one fits on the full disk, and of two a part."""

    room: ClassVar[int] = 20_000
    """Bytes that a file may have on the full disk."""

    # ── what a derived class says

    def make(self) -> RewindSink:
        """A new sink, as each process builds it. Its path is relative: the tests set the root."""
        raise NotImplementedError

    def working(self, root: Path) -> Path:
        """The file in which unfinished records lie: the last one, when there are several."""
        raise NotImplementedError

    def published(self, root: Path) -> list[Any]:
        """The finished output's records, in order; [] when there is no output."""
        raise NotImplementedError

    def record(self, number: int, size: int = 1) -> Any:
        """A record as the sink's `process` stages it: another for each number, larger by size."""
        return json.dumps({"n": number, "pad": "x" * size}).encode() + b"\n"

    def shown(self, record: Any) -> bytes:
        """What is in a file when it holds *record*."""
        return record if isinstance(record, bytes) else json.dumps(record).encode()

    def content(self, path: Path) -> bytes:
        """What a file holds, without the compression that its name tells of."""
        return path.read_bytes()

    # ── how processes live and die

    @contextlib.asynccontextmanager
    async def process(self, crawl: CrawlInfo) -> AsyncIterator[RewindSink]:
        """One process's life with the sink: it ends by a crash unless the body says otherwise."""
        sink = await self._opened(crawl)
        try:
            yield sink
        finally:
            await sink.aclose()

    async def _opened(self, crawl: CrawlInfo) -> RewindSink:
        """A new process. A job that was opened before is resumed, as its ledger would say."""
        known = crawl.job_dir / "known" if crawl.job_dir is not None else None
        sink = self.make()
        await sink.open(replace(crawl, resumed=known is not None and known.exists()))
        if known is not None:
            known.touch()
        return sink

    async def publish(self, crawl: CrawlInfo, position: Any) -> None:
        """A process that publishes what was committed at *position*."""
        async with self.process(crawl) as sink:
            await recall(sink, position)
            await sink.publish()

    async def set_aside(self, crawl: CrawlInfo) -> None:
        """A process that gives up what an earlier one has written."""
        async with self.process(crawl) as sink:
            await sink.set_aside()

    async def write(self, crawl: CrawlInfo, position: Any, records: Sequence[Any]) -> Any:
        """A process that goes on at *position*, writes one group and crashes."""
        async with self.process(crawl) as sink:
            await sink.rewind(position)
            return await sink.write(records)

    def records(self, count: int, first: int = 0) -> list[Any]:
        return [self.record(number) for number in range(first, first + count)]

    def kept(self, root: Path) -> bytes:
        """Everything that lies below *root*."""
        return b"".join(self.content(path) for path in sorted(root.rglob("*")) if path.is_file())

    def keeps(self, root: Path, records: Sequence[Any]) -> bool:
        kept = self.kept(root)
        return all(self.shown(record) in kept for record in records)

    # ── the promise

    def test_is_a_sink(self) -> None:
        sink = self.make()
        assert isinstance(sink, RewindSink)
        assert sink.recovery == "rewind"

    def test_key_names_it_in_every_process(self, tmp_path: Path) -> None:
        async def key() -> str:
            async with self.process(crawl_info(tmp_path)) as sink:
                return sink.key

        assert asyncio.run(key()) == asyncio.run(key()) != ""

    def test_position_survives_json(self, tmp_path: Path) -> None:
        crawl = crawl_info(tmp_path)
        position = asyncio.run(self.write(crawl, None, self.records(3)))
        stored = json.loads(json.dumps(position))

        async def go_on() -> None:
            async with self.process(crawl) as sink:
                await sink.rewind(stored)
                await sink.write(self.records(2, 3))
                await sink.publish()

        asyncio.run(go_on())
        assert self.published(tmp_path) == self.records(5)

    def test_appears_when_published(self, tmp_path: Path) -> None:
        async def crawl() -> None:
            async with self.process(crawl_info(tmp_path)) as sink:
                await sink.rewind(None)
                await sink.write(self.records(3))
                assert self.live or self.published(tmp_path) == []
                await sink.publish()

        asyncio.run(crawl())
        assert self.published(tmp_path) == self.records(3)
        assert self.live or not self.working(tmp_path).exists()

    def test_crawl_without_items(self, tmp_path: Path) -> None:
        async def crawl() -> Path:
            async with self.process(crawl_info(tmp_path)) as sink:
                await sink.rewind(None)
                await sink.write([])
                await sink.publish()
                return Path(sink.describe()["path"])

        output = asyncio.run(crawl())
        assert self.published(tmp_path) == []
        assert output.exists() is not self.publishes_nothing

    def test_publish_is_idempotent_and_needs_no_rewind(self, tmp_path: Path) -> None:
        crawl = crawl_info(tmp_path)
        position = asyncio.run(self.write(crawl, None, self.records(3)))

        async def publish() -> None:
            async with self.process(crawl) as sink:
                await recall(sink, position)
                await sink.publish()
                await sink.publish()

        for _ in range(3):
            asyncio.run(publish())
            assert self.published(tmp_path) == self.records(3)

    @pytest.mark.parametrize("count", [0, 3])
    def test_publishing_was_killed(self, tmp_path: Path, count: int) -> None:
        """While it wrote what ends the output: whatever stands there is not taken for it."""
        crawl = crawl_info(tmp_path)
        position: Any = None
        if count:
            position = asyncio.run(self.write(crawl, None, self.records(count)))
        else:
            asyncio.run(self._rewound(crawl))
        if not hasattr(self.make(), "recall"):
            pytest.skip("the sink has no recall: it does not ask what was committed")
        working = self.working(tmp_path)
        if working.exists() and (count or not self.live):  # where it begins, a record's end says
            with working.open("ab") as tail:
                tail.write(b"]\n")
        for _ in range(2):
            asyncio.run(self.publish(crawl, position))
            assert self.published(tmp_path) == self.records(count)

    async def _rewound(self, crawl: CrawlInfo) -> None:
        async with self.process(crawl) as sink:
            await sink.rewind(None)

    def test_opening_changes_nothing(self, tmp_path: Path) -> None:
        crawl = crawl_info(tmp_path)
        asyncio.run(self.write(crawl, None, self.records(3)))
        before = _contents(tmp_path)

        async def look() -> None:
            async with self.process(crawl):
                pass

        asyncio.run(look())
        assert _contents(tmp_path) == before

    def test_uncommitted_group_is_cut(self, tmp_path: Path) -> None:
        crawl = crawl_info(tmp_path)
        committed = asyncio.run(self.write(crawl, None, self.records(2)))
        asyncio.run(self.write(crawl, committed, self.records(4, 100)))
        committed = asyncio.run(self.write(crawl, committed, self.records(2, 2)))
        asyncio.run(self.publish(crawl, committed))
        assert self.published(tmp_path) == self.records(4)

    def test_first_group_uncommitted(self, tmp_path: Path) -> None:
        crawl = crawl_info(tmp_path)
        asyncio.run(self.write(crawl, None, self.records(4, 100)))
        position = asyncio.run(self.write(crawl, None, self.records(2)))
        asyncio.run(self.publish(crawl, position))
        assert self.published(tmp_path) == self.records(2)

    def test_less_than_committed_is_refused(self, tmp_path: Path) -> None:
        crawl = crawl_info(tmp_path)
        position = asyncio.run(self.write(crawl, None, self.records(3)))
        working = self.working(tmp_path)
        os.truncate(working, working.stat().st_size - 1)
        with pytest.raises(DamagedState) as caught:
            asyncio.run(self.write(crawl, position, self.records(1)))
        assert str(working) in str(caught.value)
        assert caught.value.hint

    def test_lost_output_is_refused(self, tmp_path: Path) -> None:
        crawl = crawl_info(tmp_path)
        position = asyncio.run(self.write(crawl, None, self.records(3)))
        self.working(tmp_path).unlink()
        with pytest.raises(DamagedState):
            asyncio.run(self.write(crawl, position, self.records(1)))

    def test_set_aside_keeps_every_record(self, tmp_path: Path) -> None:
        crawl = crawl_info(tmp_path)
        for number in range(3):
            asyncio.run(self.write(crawl, None, [self.record(number)]))
            asyncio.run(self.set_aside(crawl))
            assert self.published(tmp_path) == []
            assert self.keeps(tmp_path, self.records(number + 1))

    def test_set_aside_by_the_writing_process(self, tmp_path: Path) -> None:
        async def crawl() -> dict[str, Any]:
            async with self.process(crawl_info(tmp_path)) as sink:
                await sink.rewind(None)
                await sink.write(self.records(3))
                await sink.set_aside()
                await sink.set_aside()
                return sink.describe()

        told = asyncio.run(crawl())
        asides = told.get("asides", {"": told["aside"]})
        kept = b"".join(self.content(Path(aside)) for aside in asides.values())
        assert all(self.shown(record) in kept for record in self.records(3))
        assert self.published(tmp_path) == []

    def test_starts_anew_after_set_aside(self, tmp_path: Path) -> None:
        crawl = crawl_info(tmp_path)
        asyncio.run(self.write(crawl, None, self.records(3, 100)))
        asyncio.run(self.set_aside(crawl))
        later = crawl_info(tmp_path, job="later", started="20270102T030405Z")
        position = asyncio.run(self.write(later, None, self.records(2)))
        asyncio.run(self.publish(later, position))
        assert self.published(tmp_path) == self.records(2)

    def test_new_job_in_the_place_of_an_unfinished_one(self, tmp_path: Path) -> None:
        crawl = crawl_info(tmp_path)
        asyncio.run(self.write(crawl, None, self.records(3, 100)))
        assert crawl.job_dir is not None
        crawl.job_dir.rename(tmp_path / ".scrape/old")  # as --fresh does
        again = crawl_info(tmp_path)

        async def start() -> tuple[dict[str, Any], Any]:
            async with self.process(again) as sink:
                await sink.rewind(None)
                position = await sink.write(self.records(2))
                return sink.describe(), position

        told, position = asyncio.run(start())
        assert "aside" not in told, "what it wrote itself is in its place"
        assert self.keeps(tmp_path, self.records(3, 100))
        asyncio.run(self.publish(again, position))
        assert self.published(tmp_path) == self.records(2)

    def test_project_that_was_moved(self, tmp_path: Path) -> None:
        old, new = tmp_path / "old", tmp_path / "new"
        position = asyncio.run(self.write(crawl_info(old), None, self.records(2)))
        old.rename(new)
        position = asyncio.run(self.write(crawl_info(new), position, self.records(1, 2)))
        asyncio.run(self.publish(crawl_info(new), position))
        assert self.published(new) == self.records(3)

    def test_two_crawls_at_once(self, tmp_path: Path) -> None:
        async def both() -> None:
            async with self.process(crawl_info(tmp_path)) as sink:
                await sink.rewind(None)
                position = await sink.write(self.records(1))
                with pytest.raises(JobError):
                    await self.write(crawl_info(tmp_path, job="other"), None, self.records(9, 50))
                assert await sink.write(self.records(1, 1)) != position
                await sink.publish()

        asyncio.run(both())
        assert self.published(tmp_path) == self.records(2)

    def test_unfinished_output_of_another_job_is_not_touched(self, tmp_path: Path) -> None:
        crawl = crawl_info(tmp_path)
        position = asyncio.run(self.write(crawl, None, self.records(2)))
        with pytest.raises(JobError):
            asyncio.run(self.write(crawl_info(tmp_path, job="other"), None, self.records(9, 50)))
        position = asyncio.run(self.write(crawl, position, self.records(1, 2)))
        asyncio.run(self.publish(crawl, position))
        assert self.published(tmp_path) == self.records(3)

    def test_output_that_nobody_can_resume_is_kept(self, tmp_path: Path) -> None:
        stateless = crawl_info(tmp_path, job=None)
        asyncio.run(self.write(stateless, None, self.records(2, 100)))
        position = asyncio.run(self.write(crawl_info(tmp_path), None, self.records(2)))
        assert self.keeps(tmp_path, self.records(2, 100))
        asyncio.run(self.publish(crawl_info(tmp_path), position))
        assert self.published(tmp_path) == self.records(2)

    @pytest.mark.parametrize("ending", ["publish", "set_aside"])
    def test_crawl_that_leaves_no_state(self, tmp_path: Path, ending: str) -> None:
        async def crawl() -> None:
            async with self.process(crawl_info(tmp_path, job=None)) as sink:
                await sink.rewind(None)
                await sink.write(self.records(3))
                await sink.write(self.records(5, 3))
                await (sink.publish() if ending == "publish" else sink.set_aside())

        asyncio.run(crawl())
        if ending == "publish":
            assert self.published(tmp_path) == self.records(8)
        else:
            assert self.published(tmp_path) == []
            assert self.keeps(tmp_path, self.records(8))
        assert self.live or not self.working(tmp_path).exists()

    def test_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        crawl = crawl_info(tmp_path)
        place = self.working(tmp_path).parent
        if place == tmp_path:
            pytest.skip("the output lies in the project's root")
        place.write_bytes(b"a file where a directory should be")

        async def look() -> None:
            async with self.process(crawl):
                pass

        with pytest.raises(UsageError) as caught:
            asyncio.run(look())
        assert str(place) in str(caught.value)

    def test_full_disk_loses_nothing(self, tmp_path: Path) -> None:
        crawl = crawl_info(tmp_path)

        async def until_full() -> Any:
            async with self.process(crawl) as sink:
                await sink.rewind(None)
                position = await sink.write([self.record(0, self.bulk)])
                # One whole record fits and a part of the next: a torn tail, as on a full disk.
                with _largest_file(self.room), pytest.raises(OutOfResource) as caught:
                    await sink.write([self.record(number, self.bulk) for number in (50, 51)])
                assert str(self.working(tmp_path).parent) in str(caught.value)
                with pytest.raises(Exception, match=r"rewind|torn"):  # no record after a torn one
                    await sink.write([self.record(52)])
                return position

        position = asyncio.run(until_full())
        position = asyncio.run(self.write(crawl, position, [self.record(1)]))
        asyncio.run(self.publish(crawl, position))
        assert self.published(tmp_path) == [self.record(0, self.bulk), self.record(1)]

    def test_any_history_gives_the_committed_records(self) -> None:
        group = st.tuples(st.lists(st.integers(1, 400), max_size=5), st.booleans())
        crash = st.binary(max_size=64)

        @settings(max_examples=40, deadline=None)
        @given(history=st.lists(st.one_of(group, crash), max_size=10))
        def holds(history: list[tuple[list[int], bool] | bytes]) -> None:
            with tempfile.TemporaryDirectory() as directory:
                root = Path(directory)
                committed = asyncio.run(self._live_through(root, history))
                assert self.published(root) == committed

        holds()

    async def _live_through(
        self, root: Path, history: list[tuple[list[int], bool] | bytes]
    ) -> list[Any]:
        """Groups (sizes, committed?) and crashes (what is torn off after them), then publish."""
        crawl, committed, position, number = crawl_info(root), list[Any](), None, 0
        sink = await self._resumed(crawl, position)
        for event in history:
            if isinstance(event, bytes):
                await sink.aclose()
                if self.working(root).exists():
                    with self.working(root).open("ab") as tail:
                        tail.write(event)
                sink = await self._resumed(crawl, position)
                continue
            sizes, durable = event
            records = [self.record(number + place, size) for place, size in enumerate(sizes)]
            number += len(sizes)
            written = await sink.write(records)
            if durable:
                committed += records
                position = json.loads(json.dumps(written))
            else:  # written, and killed before its commit
                await sink.aclose()
                sink = await self._resumed(crawl, position)
        await sink.publish()
        await sink.aclose()
        return committed

    async def _resumed(self, crawl: CrawlInfo, position: Any) -> RewindSink:
        sink = await self._opened(crawl)
        await sink.rewind(position)
        return sink


async def recall(sink: RewindSink, position: Any) -> None:
    """Tell *sink* what was committed, as a process does that only publishes."""
    hook: Callable[[Any], Awaitable[None]] | None = getattr(sink, "recall", None)
    if hook is not None:
        await hook(position)


def _contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@contextlib.contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond *size* bytes: the kernel cuts the write, then refuses (EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
