"""Files made of journals, in the hands of Parquet: killed, damaged, reopened, out of room."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraper import Item
from scraper.errors import DamagedState, OutOfResource, UsageError
from scraper.pipelines.claim import Claim
from scraper.pipelines.parquet import Parquet
from scraper.pipelines.rows import Rows
from tests.pipelines.parquets import Crawling, content, rows


class Row(Item):
    n: int
    text: str = ""


def single() -> Parquet:
    return Parquet("out/x.parquet")


def in_parts() -> Parquet:
    return Parquet("out/{part}.parquet", records_per_file=3)


def by_item() -> Parquet:
    return Parquet("out/{item}-{part}.parquet", records_per_file=3)


def as_dicts() -> Parquet:
    return Parquet("out/{part}.parquet", records_per_file=3, row_group=2)


SINKS = [single, in_parts, by_item, as_dicts]
each_sink = pytest.mark.parametrize("make", SINKS)


def item(make: Callable[[], Parquet], n: int) -> Any:
    """What the sink is given; dicts have types that their values make."""
    return {"n": n, "text": f"row {n}"} if make is as_dicts else Row(n=n, text=f"row {n}")


def numbers(root: Path) -> list[int]:
    """The rows that are published, in order."""
    return [row["n"] for path in sorted((root / "out").glob("*.parquet")) for row in rows(path)]


def left(root: Path) -> list[str]:
    """What lies about that is not published."""
    return sorted(path.name for path in (root / "out").iterdir() if path.suffix != ".parquet")


class Killed(BaseException):
    """The process is gone."""


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, count: int) -> Iterator[list[int]]:
    """End the process at its *count*-th move or removal of a file, before it is done.

    Letting go of a lock does not count: a process that is killed lets go of all.
    """
    done = [0]

    def counted(owner: type, name: str) -> Any:
        original = getattr(owner, name)

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if owner is Claim or self.suffix != ".lock":
                done[0] += 1
                if done[0] >= count:
                    raise Killed
            return original(self, *args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for owner, name in ((Path, "replace"), (Path, "unlink"), (Claim, "forget")):
            patch.setattr(owner, name, counted(owner, name))
        yield done


async def half_of_it(make: Callable[[], Parquet], root: Path) -> Any:
    """A process that wrote ten rows, and was killed before two were committed; its position."""
    crawling = await Crawling(make(), root).begin()
    for first in (0, 4):
        await crawling.group(*[item(make, n) for n in range(first, first + 4)])
    position = json.loads(json.dumps(crawling.position))
    await crawling.write(await crawling.stage(item(make, 100), item(make, 101)))
    await crawling.sink.aclose()
    return position


async def resume(make: Callable[[], Parquet], root: Path, position: Any) -> Crawling:
    return await Crawling(make(), root).begin(position, resumed=True)


async def publish(make: Callable[[], Parquet], root: Path, position: Any) -> None:
    """A process that only publishes, as after a crash in that phase."""
    crawling = Crawling(make(), root)
    await crawling.sink.open(crawling.info_of(resumed=True))
    try:
        await crawling.sink.recall(position)
        await crawling.sink.publish()
    finally:
        await crawling.sink.aclose()


# -- killed --------------------------------------------------------------------------------------


@each_sink
def test_resumed(make: Callable[[], Parquet], tmp_path: Path) -> None:
    async def run() -> None:
        position = await half_of_it(make, tmp_path)
        crawling = await resume(make, tmp_path, position)
        await crawling.group(item(make, 8), item(make, 9))
        await crawling.end()

    asyncio.run(run())
    assert numbers(tmp_path) == list(range(10))
    assert left(tmp_path) == []


@each_sink
def test_killed_anywhere_in_publishing(
    make: Callable[[], Parquet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(root: Path, count: int) -> bool:
        position = await half_of_it(make, root)
        crawling = await resume(make, root, position)
        with killed_at(monkeypatch, count) as done, suppress(Killed):
            await crawling.sink.publish()
        await crawling.sink.aclose()
        await publish(make, root, position)
        return done[0] >= count

    kills = 0
    while asyncio.run(run(tmp_path / str(kills), kills + 1)):
        assert numbers(tmp_path / str(kills)) == list(range(8)), f"killed at {kills + 1}"
        assert left(tmp_path / str(kills)) == []
        kills += 1
    assert kills >= 3


@each_sink
def test_killed_while_full_parts_are_made(
    make: Callable[[], Parquet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(root: Path, count: int) -> bool:
        crawling = await Crawling(make(), root).begin()
        with killed_at(monkeypatch, count) as done, suppress(Killed):
            await crawling.group(*[item(make, n) for n in range(7)])
        position = json.loads(json.dumps(crawling.position))
        await crawling.sink.aclose()
        crawling = await resume(make, root, position)
        await crawling.group(*[item(make, n) for n in range(7, 12)])
        await crawling.end()
        assert numbers(root) == list(range(0 if position else 7, 12))
        return done[0] >= count

    kills = 0
    while asyncio.run(run(tmp_path / str(kills), kills + 1)):
        assert left(tmp_path / str(kills)) == []
        kills += 1
    assert kills >= (2 if make in (in_parts, by_item) else 0)


GROUP = st.tuples(st.integers(0, 7), st.booleans())
HISTORY = st.lists(st.one_of(GROUP, st.just("crash"), st.binary(min_size=1, max_size=40)))


@each_sink
def test_any_history_gives_the_committed_rows(make: Callable[[], Parquet]) -> None:
    """Groups (rows, committed?), crashes, and crashes that tear something off."""

    async def live_through(root: Path, history: list[Any]) -> list[int]:
        crawling = await Crawling(make(), root).begin()
        committed: list[int] = []
        position: Any = None
        number = 0
        for event in history:
            if isinstance(event, tuple):
                new = list(range(number, number + event[0]))
                number += event[0]
                staged = await crawling.stage(*[item(make, n) for n in new])
                written = await crawling.write(staged)
                if event[1]:
                    committed += new
                    position = json.loads(json.dumps(written))
                    await crawling.sink.committed(staged)
                    continue
            await crawling.sink.aclose()
            if isinstance(event, bytes) and position is not None:
                for last in sorted((root / "out").glob("*.partial"))[-1:]:
                    with last.open("ab") as file:
                        file.write(event)
            crawling = await resume(make, root, position)
        await crawling.end()
        return committed

    @settings(max_examples=25)
    @given(HISTORY)
    def holds(history: list[Any]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            assert asyncio.run(live_through(root, history)) == numbers(root)
            assert left(root) == []

    holds()


def test_types_stay_what_they_were_when_the_spider_changes(tmp_path: Path) -> None:
    """A run has one schema: the stored one, whatever the model says by now."""

    async def run() -> list[str]:
        position = await half_of_it(single, tmp_path)

        class Row(Item):
            n: str
            text: str | None = None

        crawling = await resume(single, tmp_path, position)
        await crawling.group(Row(n="8", text="a"), Row(n="nine"), Row(n="9"))
        await crawling.end()
        return crawling.rejected

    told = asyncio.run(run())
    assert numbers(tmp_path) == list(range(10))
    assert len(told) == 1
    assert "n: the column takes int: " in told[0]


def test_types_that_values_make_are_known_after_a_crash(tmp_path: Path) -> None:
    async def run() -> None:
        crawling = await Crawling(single(), tmp_path).begin()
        position = await crawling.group({"n": 1}, {"n": 0.5})
        await crawling.write(await crawling.stage({"n": "uncommitted"}))
        await crawling.sink.aclose()
        crawling = await resume(single, tmp_path, position)
        await crawling.group({"n": 3})
        await crawling.end()

    asyncio.run(run())
    assert [row["n"] for row in rows(tmp_path / "out/x.parquet")] == [1.0, 0.5, 3.0]


def test_a_file_that_nobody_waits_for_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled while it publishes, the process does not go on to the end of a long journal."""
    begun, go, blocks = threading.Event(), threading.Event(), []
    original = Rows.cells

    def cells(rows: Rows, lines: Any, columns: Any) -> Any:
        blocks.append(len(lines))
        begun.set()
        assert go.wait(60)
        return original(rows, lines, columns)

    async def run() -> None:
        crawling = await Crawling(single(), tmp_path).begin()
        position = await crawling.group(*[item(single, n) for n in range(2_000)])
        with monkeypatch.context() as patch:
            patch.setattr("scraper.pipelines.rowfile._READ", 1_000)
            patch.setattr(Rows, "cells", cells)
            publishing = asyncio.create_task(crawling.sink.publish())
            await asyncio.to_thread(begun.wait, 60)
            publishing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await publishing
            closing = asyncio.create_task(crawling.sink.aclose())
            await asyncio.sleep(0)
            go.set()
            await closing
        assert len(blocks) == 1
        assert left(tmp_path) == ["x.parquet.lock", "x.parquet.partial"]
        await publish(single, tmp_path, position)

    asyncio.run(run())
    assert numbers(tmp_path) == list(range(2_000))


# -- set aside -----------------------------------------------------------------------------------


@each_sink
def test_a_failed_crawl_leaves_files_that_can_be_read(
    make: Callable[[], Parquet], tmp_path: Path
) -> None:
    async def run() -> dict[str, Any]:
        crawling = await resume(make, tmp_path, await half_of_it(make, tmp_path))
        await crawling.sink.set_aside()
        await crawling.sink.aclose()
        return crawling.sink.describe()

    told = asyncio.run(run())
    assert numbers(tmp_path) == []
    aside = [Path(path) for path in told["asides"].values()]
    assert sorted(row["n"] for path in aside for row in rows(path)) == list(range(8))
    assert left(tmp_path) == sorted(path.name for path in aside)


@each_sink
def test_what_is_given_up_is_kept_as_it_is(make: Callable[[], Parquet], tmp_path: Path) -> None:
    """--fresh: another process, which knows nothing of the rows, moves them away."""

    async def run() -> None:
        await half_of_it(make, tmp_path)
        crawling = Crawling(make(), tmp_path)
        await crawling.sink.open(crawling.info_of(resumed=True))
        await crawling.sink.set_aside()
        await crawling.sink.aclose()

    asyncio.run(run())
    assert numbers(tmp_path) == []
    assert all(".aside-" in name for name in left(tmp_path))
    kept = b"".join(content(path) for path in sorted((tmp_path / "out").iterdir()))
    assert all(b'"row %d"' % n in kept for n in (*range(8), 100, 101))


# -- reopened --------------------------------------------------------------------------------------


async def published(make: Callable[[], Parquet], root: Path) -> Any:
    """A crawl of eight rows that is finished; its position."""
    position = await half_of_it(make, root)
    crawling = await resume(make, root, position)
    await crawling.end()
    return position


async def reopened(
    make: Callable[[], Parquet], root: Path, position: Any, aside: dict[str, str] | None = None
) -> tuple[Crawling, Any]:
    crawling = Crawling(make(), root)
    await crawling.sink.open(crawling.info_of(resumed=True))
    try:
        position = json.loads(json.dumps(await crawling.sink.reopen(position, aside or {})))
    except BaseException:
        await crawling.sink.aclose()
        raise
    return crawling, position


@each_sink
def test_reopened(make: Callable[[], Parquet], tmp_path: Path) -> None:
    async def run() -> None:
        position = await published(make, tmp_path)
        for round_ in range(3):
            before = numbers(tmp_path)
            crawling, position = await reopened(make, tmp_path, position)
            await crawling.sink.rewind(position)
            position = await crawling.group(item(make, 8 + 2 * round_), item(make, 9 + 2 * round_))
            assert numbers(tmp_path) == before, "what is published stays until the next is"
            await crawling.end()
            assert numbers(tmp_path) == list(range(10 + 2 * round_))
            assert left(tmp_path) == []

    asyncio.run(run())


@each_sink
def test_reopened_and_killed(make: Callable[[], Parquet], tmp_path: Path) -> None:
    async def run() -> None:
        old = await published(make, tmp_path)
        for _ in range(2):  # the position was not committed
            crawling, position = await reopened(make, tmp_path, old)
            await crawling.sink.aclose()
        crawling = await resume(make, tmp_path, position)
        position = json.loads(json.dumps(await crawling.group(item(make, 8))))
        await crawling.write(await crawling.stage(item(make, 100)))
        await crawling.sink.aclose()
        crawling = await resume(make, tmp_path, position)
        await crawling.group(item(make, 9))
        await crawling.end()

    asyncio.run(run())
    assert numbers(tmp_path) == list(range(10))
    assert left(tmp_path) == []


@each_sink
def test_reopened_and_killed_anywhere(
    make: Callable[[], Parquet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(root: Path, count: int) -> bool:
        position = await published(make, root)
        crawling = Crawling(make(), root)
        await crawling.sink.open(crawling.info_of(resumed=True))
        with killed_at(monkeypatch, count) as done, suppress(Killed):
            position = await crawling.sink.reopen(position, {})
            await crawling.sink.rewind(position)
            position = await crawling.group(item(make, 8))
            await crawling.sink.publish()
        await crawling.sink.aclose()
        if done[0] >= count:
            await crawling_of(root, json.loads(json.dumps(position)))
        return done[0] >= count

    async def crawling_of(root: Path, position: Any) -> None:
        """The next process does what the ledger says is to be done."""
        crawling = Crawling(make(), root)
        await crawling.sink.open(crawling.info_of(resumed=True))
        if position["records"] == 9:
            await crawling.sink.recall(position)
        else:
            if not position["notes"]["generation"]:
                position = await crawling.sink.reopen(position, {})
            await crawling.sink.rewind(position)
            await crawling.group(item(make, 8))
        await crawling.end()

    kills = 0
    while asyncio.run(run(tmp_path / str(kills), kills + 1)):
        assert numbers(tmp_path / str(kills)) == list(range(9)), f"killed at {kills + 1}"
        assert left(tmp_path / str(kills)) == []
        kills += 1
    assert kills >= 4


@each_sink
def test_reopened_after_it_was_set_aside(make: Callable[[], Parquet], tmp_path: Path) -> None:
    async def run() -> None:
        position = await half_of_it(make, tmp_path)
        crawling = await resume(make, tmp_path, position)
        await crawling.sink.set_aside()
        await crawling.sink.aclose()
        aside = crawling.sink.describe()["asides"]
        crawling, position = await reopened(make, tmp_path, position, aside)
        await crawling.sink.rewind(position)
        await crawling.group(item(make, 8))
        await crawling.end()

    asyncio.run(run())
    assert numbers(tmp_path) == list(range(9))


def test_reopened_with_nothing_delivered(tmp_path: Path) -> None:
    async def run() -> None:
        crawling = await Crawling(single(), tmp_path).begin()
        await crawling.end()
        crawling, position = await reopened(single, tmp_path, None)
        assert position is None
        await crawling.sink.rewind(position)
        await crawling.group(Row(n=0))
        await crawling.end()

    asyncio.run(run())
    assert numbers(tmp_path) == [0]


def test_what_another_crawl_published_cannot_be_reopened(tmp_path: Path) -> None:
    async def run() -> None:
        position = await published(single, tmp_path)
        other = await Crawling(single(), tmp_path, job="other").begin()
        await other.group(*[Row(n=n, text=f"row {n}") for n in range(8)])
        await other.end()
        with pytest.raises(UsageError, match="is not what this crawl published") as caught:
            await reopened(single, tmp_path, position)
        assert caught.value.hint
        (tmp_path / "out/x.parquet").write_bytes(b"PAR1 and nothing of it")
        with pytest.raises(UsageError, match="is not what this crawl published"):
            await reopened(single, tmp_path, position)
        (tmp_path / "out/x.parquet").unlink()
        with pytest.raises(UsageError, match="is gone"):
            await reopened(single, tmp_path, position)

    asyncio.run(run())


def test_reopened_types_stay_as_they_were_published(tmp_path: Path) -> None:
    async def run() -> list[str]:
        crawling = await Crawling(single(), tmp_path).begin()
        position = await crawling.group({"n": 1, "text": None}, {"n": 2, "text": "a"})
        await crawling.end()
        crawling, position = await reopened(single, tmp_path, position)
        await crawling.sink.rewind(position)
        await crawling.group({"n": "3"}, {"n": 4.5}, {"n": 5})
        await crawling.end()
        return crawling.rejected

    told = asyncio.run(run())
    assert [row["n"] for row in rows(tmp_path / "out/x.parquet")] == [1, 2, 3, 5]
    assert len(told) == 1
    assert "n: the column takes int: " in told[0]


def test_a_retry_that_fails_leaves_the_published_file(tmp_path: Path) -> None:
    async def run() -> dict[str, Any]:
        position = await published(single, tmp_path)
        crawling, position = await reopened(single, tmp_path, position)
        await crawling.sink.rewind(position)
        await crawling.group(Row(n=8))
        await crawling.sink.set_aside()
        await crawling.sink.aclose()
        return crawling.sink.describe()

    told = asyncio.run(run())
    assert numbers(tmp_path) == list(range(8))
    assert [row["n"] for row in rows(Path(told["aside"]))] == list(range(9))
    assert left(tmp_path) == ["x.parquet.failed"]


def test_what_was_published_before_and_is_gone(tmp_path: Path) -> None:
    async def run() -> None:
        position = await published(single, tmp_path)
        crawling, position = await reopened(single, tmp_path, position)
        await crawling.sink.aclose()
        (tmp_path / "out/x.parquet.partial.base").unlink()
        with pytest.raises(DamagedState, match=r"x\.parquet\.partial\.base is gone") as caught:
            await resume(single, tmp_path, position)
        assert caught.value.hint

    asyncio.run(run())


# -- damaged ---------------------------------------------------------------------------------------


def spoil(path: Path, how: str) -> None:
    """Change a byte of its last frame; or all of it; or cut it."""
    data = path.read_bytes()
    if how == "byte":
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    elif how == "head":
        path.write_bytes(b"x" * len(data))
    else:
        path.write_bytes(data[: len(data) - 20])


@pytest.mark.parametrize("how", ["byte", "head"])
def test_a_journal_that_was_changed(tmp_path: Path, how: str) -> None:
    async def run() -> None:
        position = await half_of_it(single, tmp_path)
        path = tmp_path / "out/x.parquet.partial"
        os.truncate(path, position["size"])
        spoil(path, how)
        with pytest.raises(DamagedState) as caught:
            await publish(single, tmp_path, position)
        assert "x.parquet.partial" in str(caught.value)
        assert caught.value.hint
        assert numbers(tmp_path) == []

    asyncio.run(run())


@pytest.mark.parametrize("how", ["byte", "head", "cut", "gone"])
@pytest.mark.parametrize("part", [1, 2])
def test_a_full_part_that_was_changed(tmp_path: Path, how: str, part: int) -> None:
    """No file is made of it yet."""

    async def run() -> None:
        crawling = await Crawling(as_dicts(), tmp_path).begin()
        position = await crawling.group(*[item(as_dicts, n) for n in range(7)])
        await crawling.sink.aclose()
        path = tmp_path / f"out/000{part}.parquet.partial"
        path.unlink() if how == "gone" else spoil(path, how)
        with pytest.raises(DamagedState) as caught:
            await publish(as_dicts, tmp_path, position)
        assert path.stem in str(caught.value)
        assert not path.with_suffix("").exists()

    asyncio.run(run())


@pytest.mark.parametrize("how", ["head", "cut", "gone"])
@pytest.mark.parametrize("part", [1, 2])
def test_a_full_part_that_is_a_file_already(tmp_path: Path, how: str, part: int) -> None:
    async def run() -> None:
        crawling = await Crawling(in_parts(), tmp_path).begin()
        position = await crawling.group(*[item(in_parts, n) for n in range(7)])
        await crawling.sink.aclose()
        path = tmp_path / f"out/000{part}.parquet.partial"
        assert path.read_bytes().startswith(b"PAR1")
        path.unlink() if how == "gone" else spoil(path, how)
        with pytest.raises(DamagedState) as caught:
            await resume(in_parts, tmp_path, position)
        assert path.stem in str(caught.value)

    asyncio.run(run())


def test_an_unfinished_file_that_is_finished_already(tmp_path: Path) -> None:
    """Somebody restored an old ledger: the journal that it speaks of is no more."""

    async def run() -> None:
        position = await half_of_it(single, tmp_path)
        path = tmp_path / "out/x.parquet.partial"
        await publish(single, tmp_path, position)
        path.write_bytes((tmp_path / "out/x.parquet").read_bytes())
        with pytest.raises(DamagedState, match=r"x\.parquet\.partial"):
            await resume(single, tmp_path, position)

    asyncio.run(run())


# -- no room -------------------------------------------------------------------------------------


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_to_publish(tmp_path: Path) -> None:
    """What could not be made leaves nothing behind; with room, it is made."""

    async def run() -> None:
        crawling = await Crawling(single(), tmp_path).begin()
        pads = [random.Random(n).randbytes(5_000).hex() for n in range(20)]
        position = await crawling.group(*[Row(n=n, text=pad) for n, pad in enumerate(pads)])
        with largest_file(20_000), pytest.raises(OutOfResource) as caught:
            await crawling.sink.publish()
        assert "x.parquet" in str(caught.value)
        await crawling.sink.aclose()
        assert not list(tmp_path.rglob("*.making"))
        await publish(single, tmp_path, position)

    asyncio.run(run())
    assert numbers(tmp_path) == list(range(20))
    assert left(tmp_path) == []


def test_no_room_for_a_full_part(tmp_path: Path) -> None:
    async def run() -> None:
        crawling = await Crawling(in_parts(), tmp_path).begin()
        pads = [random.Random(n).randbytes(9_000).hex() for n in range(4)]
        staged = await crawling.stage(*[Row(n=n, text=pad) for n, pad in enumerate(pads)])
        position = json.loads(json.dumps(await crawling.write(staged)))
        with largest_file(20_000), pytest.raises(OutOfResource):
            await crawling.sink.committed(staged)
        await crawling.sink.aclose()
        crawling = await resume(in_parts, tmp_path, position)
        await crawling.group(Row(n=4))
        await crawling.end()

    asyncio.run(run())
    assert numbers(tmp_path) == list(range(5))


def test_journals_are_small(tmp_path: Path) -> None:
    async def run() -> int:
        crawling = await Crawling(single(), tmp_path).begin()
        await crawling.group(*[Row(n=n, text="x" * 500) for n in range(1_000)])
        await crawling.sink.aclose()
        return (tmp_path / "out/x.parquet.partial").stat().st_size

    assert asyncio.run(run()) < 50_000
