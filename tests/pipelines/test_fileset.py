"""File sets: what a contract cannot know of parts, types of items, and who they belong to."""

from __future__ import annotations

import errno
import gzip
import json
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scraper.errors import ConfigError, DamagedState, JobError, OutOfResource, UsageError
from scraper.pipelines.append import AppendSink
from scraper.pipelines.jsonl import Jsonl
from scraper.testing.sinks import crawl_info
from tests.pipelines.crawls import begin


def lines(first: int, count: int, size: int = 0) -> list[bytes]:
    noise = random.Random(first)
    return [
        json.dumps({"n": n, "pad": noise.randbytes(size).hex()}).encode() + b"\n"
        for n in range(first, first + count)
    ]


def numbers(*paths: Path) -> list[int]:
    return [json.loads(line)["n"] for path in paths for line in path.read_bytes().splitlines()]


def files(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_file())


async def written(sink: AppendSink, root: Path, *groups: list[bytes], position: Any = None) -> Any:
    """A process that writes *groups* and dies; the position after the last."""
    await begin(sink, root, position)
    for group in groups:
        position = await sink.write(group)
    await sink.aclose()
    return position


async def published(sink: AppendSink, root: Path, position: Any) -> None:
    await sink.open(replace(crawl_info(root), resumed=True))
    try:
        await sink.recall(position)
        await sink.publish()
    finally:
        await sink.aclose()


def in_parts(**more: Any) -> Jsonl:
    return Jsonl("out.jsonl", records_per_file=3, **more)


# ── sizes


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
@pytest.mark.parametrize("group", [1, 7, 200])
async def test_no_part_is_larger(tmp_path: Path, ending: str, group: int) -> None:
    sink = Jsonl(f"out.jsonl{ending}", size_per_file=2000)  # type: ignore[arg-type]
    await begin(sink, tmp_path)
    for first in range(0, 200, group):
        await sink.write(lines(first, group, 20))
    await sink.publish()
    await sink.aclose()
    sizes = [path.stat().st_size for path in sorted(tmp_path.glob("out-*"))]
    assert max(sizes) <= 2000
    assert len(sizes) > 1
    assert min(sizes[:-1]) > 1700, "parts are filled"


async def test_record_larger_than_a_part_has_one_of_its_own(tmp_path: Path) -> None:
    sink = Jsonl("out.jsonl", size_per_file=500)  # type: ignore[arg-type]
    await begin(sink, tmp_path)
    await sink.write([*lines(0, 2, 5), *lines(2, 1, 400), *lines(3, 2, 5)])
    await sink.publish()
    await sink.aclose()
    parts = sorted(tmp_path.glob("out-*"))
    assert [numbers(part) for part in parts] == [[0, 1], [2], [3, 4]]


async def test_smaller_parts_from_a_resume_on(tmp_path: Path) -> None:
    position = await written(Jsonl("o.jsonl", records_per_file=5), tmp_path, lines(0, 4))
    sink = Jsonl("o.jsonl", records_per_file=2)
    await begin(sink, tmp_path, position)
    await sink.write(lines(4, 3))
    await sink.publish()
    await sink.aclose()
    assert [numbers(p) for p in sorted(tmp_path.glob("o-*"))] == [[0, 1, 2, 3], [4, 5], [6]]


async def test_parts_keep_no_files_open(tmp_path: Path) -> None:
    sink = Jsonl("o.jsonl", records_per_file=1)
    await begin(sink, tmp_path)
    await sink.write(lines(0, 3))
    before = len(list(Path("/proc/self/fd").iterdir()))
    await sink.write(lines(3, 50))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    await sink.publish()
    await sink.aclose()
    assert len(list(tmp_path.glob("o-*"))) == 53


# ── names


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("o.jsonl", "o-0001.jsonl"),
        ("a.b/o.jsonl.gz", "a.b/o-0001.jsonl.gz"),
        ("o", "o-0001"),
        ("{part}/o.jsonl", "0001/o.jsonl"),
        ("{spider}-{part}-{started}.x", "books-0001-20260102T030405Z.x"),
    ],
)
async def test_names_of_parts(tmp_path: Path, path: str, first: str) -> None:
    sink = Jsonl(path, records_per_file=3)
    await begin(sink, tmp_path)
    await sink.write(lines(0, 1))
    await sink.publish()
    await sink.aclose()
    data = (tmp_path / first).read_bytes()
    assert (gzip.decompress(data) if path.endswith(".gz") else data) == lines(0, 1)[0]


def test_numbers_without_a_size() -> None:
    with pytest.raises(ConfigError) as caught:
        Jsonl("o-{part}.jsonl")
    assert "{part}" in caught.value.message
    assert "records_per_file" in caught.value.hint


@pytest.mark.parametrize("count", [-1, -100])
def test_impossible_sizes(count: int) -> None:
    with pytest.raises(ConfigError, match="0 or more"):
        Jsonl("o.jsonl", records_per_file=count)


def test_what_grows_for_ever_has_no_parts() -> None:
    with pytest.raises(ConfigError, match="has no parts"):
        Jsonl("o.jsonl", "append", records_per_file=3)


async def test_types_of_items_cannot_leave_the_directory(tmp_path: Path) -> None:
    sink = Jsonl("out/{item}.jsonl")
    await begin(sink, tmp_path)
    names = ["Büch_er", "../../x", "a/b", "CON", "n" * 300]
    await sink.write([name.encode() + b"\0" + line for name in names for line in lines(0, 1)])
    await sink.publish()
    await sink.aclose()
    made = list((tmp_path / "out").iterdir())
    assert len(made) == len(names)
    assert all(path.is_file() and numbers(path) == [0] for path in made)
    assert files(tmp_path) == []


# ── parts of an earlier crawl


async def deliver(root: Path, count: int, started: str) -> None:
    sink = in_parts()
    await begin(sink, root, started=started)
    if count:
        await sink.write(lines(0, count))
    await sink.publish()
    await sink.aclose()


@pytest.mark.parametrize("count", [0, 2, 4, 12, 13])
async def test_parts_of_an_earlier_crawl_do_not_stay(tmp_path: Path, count: int) -> None:
    await deliver(tmp_path, 12, "20260101T000000Z")
    assert files(tmp_path) == [f"out-000{n}.jsonl" for n in (1, 2, 3, 4)]
    await deliver(tmp_path, count, "20260102T000000Z")
    parts = max(1, -(-count // 3))
    assert files(tmp_path) == [f"out-000{n}.jsonl" for n in range(1, parts + 1)]
    assert numbers(*sorted(tmp_path.glob("out-*"))) == list(range(count))


def broken(monkeypatch: pytest.MonkeyPatch, calls: int) -> Callable[[], int]:
    """From the *calls*-th on, moves and removals fail, as if the process were gone."""
    done = 0

    def counting(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            if str(args[0]).endswith(".lock") and real is unlink:
                return real(*args, **kwargs)
            done += 1
            if done >= calls:
                raise OSError(errno.EIO, "gone")
            return real(*args, **kwargs)

        return call

    unlink = Path.unlink
    monkeypatch.setattr(Path, "replace", counting(Path.replace))
    monkeypatch.setattr(Path, "unlink", counting(unlink))
    return lambda: done


@pytest.mark.parametrize("calls", range(1, 9))
async def test_publishing_is_rolled_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    await deliver(tmp_path, 20, "20260101T000000Z")
    position = await written(in_parts(), tmp_path, lines(100, 10))
    with monkeypatch.context() as patch:
        broken(patch, calls)
        if calls < 8:  # four moves, and the removal of three parts
            with pytest.raises(OutOfResource):
                await published(in_parts(), tmp_path, position)
            with pytest.raises(JobError, match="has not finished"):
                await other(tmp_path)
    await published(in_parts(), tmp_path, position)
    assert files(tmp_path) == [f"out-000{n}.jsonl" for n in (1, 2, 3, 4)]
    assert numbers(*sorted(tmp_path.glob("out-*"))) == list(range(100, 110))


async def other(root: Path, sink: AppendSink | None = None) -> None:
    """Another job comes to the same output."""
    sink = sink or in_parts()
    try:
        await sink.open(crawl_info(root, job="other", started="20270101T000000Z"))
    finally:
        await sink.aclose()


# ── damage


@pytest.mark.parametrize("damage", ["cut", "gone", "longer"])
async def test_sealed_part_that_is_not_as_it_was(tmp_path: Path, damage: str) -> None:
    await deliver(tmp_path, 12, "20260101T000000Z")  # whose parts would pass for this one's
    position = await written(in_parts(), tmp_path, lines(0, 8))
    sealed = tmp_path / "out-0002.jsonl.partial"
    if damage == "cut":
        os.truncate(sealed, 7)
    elif damage == "gone":
        sealed.unlink()
    else:
        with sealed.open("ab") as file:
            file.write(b"x")
    sink = in_parts()
    with pytest.raises(DamagedState) as caught:
        await begin(sink, tmp_path, position)
    assert str(sealed) in caught.value.message
    await sink.aclose()


@pytest.mark.parametrize(
    "position",
    [
        {"files": {"": [0, 1, 1]}, "records": 1},
        {"files": {"": [1, -1, 1]}, "records": 1},
        {"files": {"": [1, 1]}, "records": 1},
        {"files": 7, "records": 1},
        {"size": 1, "records": 1},
    ],
)
async def test_position_that_is_none(tmp_path: Path, position: Any) -> None:
    sink = in_parts()
    await sink.open(crawl_info(tmp_path))
    with pytest.raises(DamagedState, match="is not a position"):
        await sink.rewind(position)
    await sink.aclose()


async def test_what_was_not_committed_leaves_nothing(tmp_path: Path) -> None:
    """Parts and types that a lost group had begun; sealed parts of it take records again."""
    sink = Jsonl("{item}.jsonl", records_per_file=3)
    position = await written(sink, tmp_path, [b"A\0" + line for line in lines(0, 2)])
    lost = [b"A\0" + line for line in lines(50, 8)] + [b"B\0" + line for line in lines(60, 4)]
    await written(Jsonl("{item}.jsonl", records_per_file=3), tmp_path, lost, position=position)
    assert len(list(tmp_path.glob("*.partial"))) == 6
    sink = Jsonl("{item}.jsonl", records_per_file=3)
    await begin(sink, tmp_path, position)
    assert files(tmp_path) == ["A-0001.jsonl.lock", "A-0001.jsonl.partial"]
    await sink.write([b"A\0" + line for line in lines(2, 2)])
    await sink.publish()
    await sink.aclose()
    assert files(tmp_path) == ["A-0001.jsonl", "A-0002.jsonl"]
    assert numbers(tmp_path / "A-0001.jsonl", tmp_path / "A-0002.jsonl") == [0, 1, 2, 3]


async def test_no_group_after_one_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for a part that did not fail: some of the group may stand there."""
    sink = in_parts()
    await begin(sink, tmp_path)
    position = await sink.write(lines(0, 1))
    with monkeypatch.context() as patch:
        patch.setattr("scraper.pipelines.appendfile.Claim.record", _full)
        with pytest.raises(OutOfResource):
            await sink.write(lines(1, 3))
    for act in (lambda: sink.write(lines(9, 1)), sink.publish):
        with pytest.raises(Exception, match=r"rewind it first|not published"):
            await act()
    await sink.aclose()
    sink = in_parts()
    await begin(sink, tmp_path, position)
    await sink.publish()
    await sink.aclose()
    assert numbers(tmp_path / "out-0001.jsonl") == [0]


def _full(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, "full")


# ── whose they are


async def test_other_crawls_do_not_begin_what_is_not_finished(tmp_path: Path) -> None:
    await written(in_parts(), tmp_path, lines(0, 8))
    with pytest.raises(JobError, match="has not finished"):
        await other(tmp_path)
    by_item = [b"A\0" + line for line in lines(0, 2)]
    await written(Jsonl("x/{item}.jsonl"), tmp_path, by_item)
    with pytest.raises(JobError, match="has not finished"):
        await other(tmp_path, Jsonl("x/{item}.jsonl"))


async def test_living_crawl_holds_all_of_its_parts(tmp_path: Path) -> None:
    """Also one that keeps no state, and of which the first parts are no longer open."""
    sink = in_parts()
    await sink.open(crawl_info(tmp_path, job=None))
    await sink.rewind(None)
    await sink.write(lines(0, 8))
    with pytest.raises(JobError, match="being written"):
        await other(tmp_path)
    await sink.publish()
    await sink.aclose()
    assert numbers(*sorted(tmp_path.glob("out-*"))) == list(range(8))


async def test_other_spiders_may_share_a_pattern(tmp_path: Path) -> None:
    await written(Jsonl("{item}.jsonl"), tmp_path, [b"A\0" + line for line in lines(0, 2)])
    info = replace(crawl_info(tmp_path, job="other"), spider="films")
    sink = Jsonl("{item}.jsonl")
    await sink.open(info)
    await sink.rewind(None)
    await sink.write([b"B\0" + line for line in lines(5, 1)])
    with pytest.raises(JobError, match="belongs to a crawl of books"):
        await sink.write([b"A\0" + line for line in lines(6, 1)])
    await sink.aclose()
    assert numbers(tmp_path / "A.jsonl.partial") == [0, 1]


async def test_what_nobody_can_resume_is_displaced(tmp_path: Path) -> None:
    """Types and parts included that the new crawl never comes to."""
    dead = Jsonl("{item}.jsonl", records_per_file=2)
    await dead.open(crawl_info(tmp_path, job=None, started="20250101T000000Z"))
    await dead.rewind(None)
    await dead.write([b"A\0" + line for line in lines(0, 3)])
    await dead.aclose()
    sink = Jsonl("{item}.jsonl", records_per_file=2)
    await begin(sink, tmp_path)
    await sink.write([b"B\0" + line for line in lines(5, 1)])
    await sink.publish()
    told = sink.describe()
    await sink.aclose()
    asides = [f"A-000{n}.jsonl.partial.aside-20250101T000000Z" for n in (1, 2)]
    assert files(tmp_path) == [*asides, "B-0001.jsonl"]
    assert numbers(*(tmp_path / name for name in asides)) == [0, 1, 2]
    assert Path(told["displaced"]).name == asides[0]


async def test_failed_parts_are_called_alike(tmp_path: Path) -> None:
    sink = in_parts()
    await begin(sink, tmp_path)
    await sink.write(lines(0, 8))
    await sink.set_aside()
    told = sink.describe()
    await sink.aclose()
    assert files(tmp_path) == [f"out-000{n}.jsonl.failed" for n in (1, 2, 3)]
    assert told["asides"] == {
        str(tmp_path / f"out-000{n}.jsonl"): str(tmp_path / f"out-000{n}.jsonl.failed")
        for n in (1, 2, 3)
    }


# ── reopening


async def test_copy_that_was_killed_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Jsonl("out.jsonl.gz")
    await begin(sink, tmp_path)
    position = await sink.write(lines(0, 3))
    await sink.publish()
    await sink.aclose()
    before = (tmp_path / "out.jsonl.gz").read_bytes()
    (tmp_path / "out.jsonl.gz.partial.copy").write_bytes(b"torn")
    with monkeypatch.context() as patch:
        patch.setattr("scraper.pipelines.appendfile.Claim.record", _full)
        sink = Jsonl("out.jsonl.gz")
        await sink.open(replace(crawl_info(tmp_path), resumed=True))
        with pytest.raises(OutOfResource):
            await sink.reopen(position, {})
        await sink.aclose()
    assert (tmp_path / "out.jsonl.gz").read_bytes() == before
    sink = Jsonl("out.jsonl.gz")
    await sink.open(replace(crawl_info(tmp_path), resumed=True))
    assert await sink.reopen(position, {}) == position
    await sink.rewind(position)
    await sink.write(lines(3, 1))
    assert (tmp_path / "out.jsonl.gz").read_bytes() == before
    await sink.publish()
    await sink.aclose()
    assert files(tmp_path) == ["out.jsonl.gz"]
    assert gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()) == b"".join(lines(0, 4))


async def test_full_disk_leaves_no_half_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Jsonl("out.jsonl")
    await begin(sink, tmp_path)
    position = await sink.write(lines(0, 3))
    await sink.publish()
    await sink.aclose()
    sink = Jsonl("out.jsonl")
    await sink.open(replace(crawl_info(tmp_path), resumed=True))
    monkeypatch.setattr("scraper.pipelines.filesystem.os.fsync", _full)
    with pytest.raises(OutOfResource):
        await sink.reopen(position, {})
    monkeypatch.undo()
    await sink.aclose()
    assert files(tmp_path) == ["out.jsonl"]


async def test_appended_records_return_to_their_file(tmp_path: Path) -> None:
    """They were set aside; another crawl has gone on with the file since."""
    path = tmp_path / "all.jsonl"
    path.write_bytes(b'{"n":0}')  # whose line had no end
    sink = Jsonl("all.jsonl", "append")
    await begin(sink, tmp_path)
    position = await sink.write(lines(1, 2))
    await sink.set_aside()
    aside = sink.describe()["asides"]
    await sink.aclose()
    assert path.read_bytes() == b'{"n":0}'
    with path.open("ab") as file:
        file.write(b'\n{"n":7}\n')
    for _ in range(2):
        sink = Jsonl("all.jsonl", "append")
        await sink.open(replace(crawl_info(tmp_path), resumed=True))
        position = await sink.reopen(position, aside)
        await sink.aclose()
    sink = Jsonl("all.jsonl", "append")
    await sink.open(replace(crawl_info(tmp_path), resumed=True))
    await sink.rewind(position)
    await sink.write(lines(3, 1))
    await sink.publish()
    await sink.aclose()
    assert numbers(path) == [0, 7, 1, 2, 3]


# ── compressed files


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        (".gz", b'{"n":0}\n'),
        (".gz", b"\x1f\x8b"),
        (".gz", b"\x28\xb5\x2f\xfd"),
        (".zst", b'{"n":0}\n'),
        (".zst", b"\x1f\x8b\x08\x00\x00"),
    ],
)
async def test_append_to_what_is_not_compressed(
    tmp_path: Path, ending: str, content: bytes
) -> None:
    path = tmp_path / f"all.jsonl{ending}"
    path.write_bytes(content)
    sink = Jsonl(path.name, "append")
    with pytest.raises(UsageError, match="not compressed as its name says"):
        await sink.open(crawl_info(tmp_path))
    await sink.aclose()
    assert files(tmp_path) == [path.name]
    assert path.read_bytes() == content
