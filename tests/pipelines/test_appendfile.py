"""Append files: the lock, odd places, real kills, and what `publish` and `set_aside` leave."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from scraper.errors import DamagedState, JobError, ScraperError, UsageError
from scraper.pipelines.appendfile import AppendFile, Mode
from scraper.pipelines.claim import Claim, Owner
from scraper.pipelines.filesystem import blocks

ME = Owner("books", "20260102T030405Z", "/")  # a directory that exists: resumable
OTHER = Owner("books", "20260101T000000Z", "/usr")


async def begin(
    path: Path, size: int | None = None, owner: Owner = ME, mode: Mode = "replace"
) -> AppendFile:
    file = AppendFile(path, mode=mode)
    try:
        await file.open(owner, resumed=size is not None)
        await file.rewind(size)
    except BaseException:
        await file.aclose()
        raise
    return file


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# ── places


async def test_directories_are_made_and_the_mode_is_the_umasks(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        file = await begin(tmp_path / "a/b/out")
        await file.publish()
        await file.aclose()
    finally:
        os.umask(old)
    assert (tmp_path / "a/b/out").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("directory", "not a regular file"),
        ("partial-link", "symbolic link"),
        ("partial-fifo", "not a regular file"),
        ("lock-link", "symbolic link"),
        ("parent-is-file", "a part of the path is a file"),
        ("long", "too long"),
    ],
)
async def test_places_that_are_none(tmp_path: Path, place: str, says: str) -> None:
    path = tmp_path / "out"
    if place == "directory":
        path.mkdir()
    elif place == "partial-link":
        (tmp_path / "out.partial").symlink_to(tmp_path / "elsewhere")
    elif place == "partial-fifo":
        os.mkfifo(tmp_path / "out.partial")
    elif place == "lock-link":
        (tmp_path / "out.lock").symlink_to(tmp_path / "elsewhere")
    elif place == "parent-is-file":
        path.write_bytes(b"")
        path = path / "below/out"
    else:
        path = tmp_path / ("x" * 250)
    file = AppendFile(path)
    with pytest.raises(UsageError, match=says) as caught:
        await file.open(ME)
    await file.aclose()
    assert str(path) in str(caught.value)
    assert "-o FILE" in str(caught.value)
    assert not (tmp_path / "elsewhere").exists()


async def test_directory_that_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir(mode=0o555)
    file = AppendFile(tmp_path / "data/out")
    with monkeypatch.context() as patch:
        if os.access(tmp_path / "data", os.W_OK):  # root may write anywhere
            patch.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(UsageError, match="permission denied"):
            await file.open(ME)
    await file.aclose()
    assert names(tmp_path / "data") == []


async def test_append_does_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"mine\n")
    (tmp_path / "out").symlink_to(tmp_path / "real")
    file = AppendFile(tmp_path / "out", mode="append")
    with pytest.raises(UsageError, match="symbolic link"):
        await file.open(ME)
    await file.aclose()
    assert (tmp_path / "real").read_bytes() == b"mine\n"


async def test_link_that_appears_after_the_check(tmp_path: Path) -> None:
    file = AppendFile(tmp_path / "out")
    await file.open(ME)
    (tmp_path / "out.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="symbolic link"):
        await file.rewind(None)
    await file.aclose()
    assert not (tmp_path / "elsewhere").exists()


# ── writing


async def test_group_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = await begin(tmp_path / "out")
    inner = file._file
    assert inner is not None
    sizes: list[int] = []
    write = inner.write

    def counted(data: memoryview) -> int:
        sizes.append(len(data))
        return write(data)

    monkeypatch.setattr(inner, "write", counted)
    assert await file.write([b"a\n"] * 1000) == 2000
    assert await file.write([]) == 2000
    assert sizes == [2000]
    await file.aclose()


def test_blocks_bound_what_is_joined() -> None:
    chunks = [bytes([n % 256]) * (1 << 20) for n in range(10)]
    found = list(blocks(iter(chunks)))
    assert [len(block) >> 20 for block in found] == [4, 4, 2]
    assert b"".join(found) == b"".join(chunks)
    assert list(blocks([])) == list(blocks([b""])) == []


async def test_short_writes_are_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await begin(tmp_path / "out")
    inner = file._file
    assert inner is not None
    write = inner.write

    def short(data: memoryview) -> int:
        return write(data[:3])

    monkeypatch.setattr(inner, "write", short)
    await file.write([b"0123456789\n", b"x\n"])
    await file.publish()
    await file.aclose()
    assert (tmp_path / "out").read_bytes() == b"0123456789\nx\n"


async def test_somebody_else_writing_is_noticed(tmp_path: Path) -> None:
    file = await begin(tmp_path / "out")
    await file.write([b"1\n"])
    with (tmp_path / "out.partial").open("ab") as other:
        other.write(b"theirs\n")
    with pytest.raises(DamagedState, match="something else"):
        await file.write([b"2\n"])
    with pytest.raises(ScraperError, match="torn"):
        await file.publish()
    await file.aclose()
    assert names(tmp_path) == ["out.lock", "out.partial"]


async def test_cancelled_write_does_not_overlap(tmp_path: Path) -> None:
    file = await begin(tmp_path / "out")
    end = await file.write([b"1\n"])
    task = asyncio.create_task(file.write([b"x" * 1000 + b"\n"] * 10_000))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ScraperError, match="rewind"):
        await file.write([b"2\n"])
    await file.aclose()  # waits for the thread
    file = await begin(tmp_path / "out", end)
    await file.write([b"2\n"])
    await file.publish()
    await file.aclose()
    assert (tmp_path / "out").read_bytes() == b"1\n2\n"


async def test_position_within_a_record_is_refused(tmp_path: Path) -> None:
    file = await begin(tmp_path / "out")
    await file.write([b"12345\n", b"6\n"])
    await file.aclose()
    with pytest.raises(DamagedState, match="not the end of a record"):
        await begin(tmp_path / "out", 3)


async def test_file_that_became_anothers(tmp_path: Path) -> None:
    file = await begin(tmp_path / "out")
    end = await file.write([b"1\n"])
    await file.aclose()
    (tmp_path / "out.lock").unlink()
    (tmp_path / "out.partial").unlink()
    file = await begin(tmp_path / "out", owner=Owner("books", "20260103T000000Z"))
    await file.write([b"theirs\n"])
    await file.aclose()
    with pytest.raises(DamagedState, match="another crawl's by now"):
        await begin(tmp_path / "out", end)
    assert (tmp_path / "out.partial").read_bytes() == b"theirs\n"


async def test_append_after_a_crawl_that_nobody_can_resume(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old\n")
    killed = await begin(tmp_path / "out", owner=Owner("books", "20260101T000000Z"), mode="append")
    await killed.write([b"half a cra"])
    await killed.aclose()
    file = await begin(tmp_path / "out", mode="append")
    await file.write([b"1\n"])
    await file.publish()
    await file.aclose()
    assert (tmp_path / "out").read_bytes() == b"old\n1\n"
    assert (tmp_path / "out.aside-20260101T000000Z").read_bytes() == b"half a cra"


# ── publishing


async def test_both_gone(tmp_path: Path) -> None:
    file = await begin(tmp_path / "out")
    await file.write([b"1\n"])
    await file.aclose()
    (tmp_path / "out.partial").unlink()
    file = AppendFile(tmp_path / "out")
    await file.open(ME, resumed=True)
    with pytest.raises(DamagedState, match="both gone"):
        await file.publish()
    await file.aclose()


async def test_what_was_changed_is_not_published(tmp_path: Path) -> None:
    file = await begin(tmp_path / "out")
    await file.write([b"1\n"])
    with (tmp_path / "out.partial").open("ab") as other:
        other.write(b"theirs\n")
    with pytest.raises(DamagedState, match="something else"):
        await file.publish()
    await file.aclose()
    assert names(tmp_path) == ["out.lock", "out.partial"]


@pytest.mark.parametrize("point", ["replace", "unlink", "fsync"])
async def test_publish_killed_between_its_steps(
    tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await begin(tmp_path / "out")
    await file.write([b"1\n"])
    with monkeypatch.context() as patch:

        def killed(*args: Any, **kwargs: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(os if point == "fsync" else Path, point, killed)
        with pytest.raises(KeyboardInterrupt):
            await file.publish()
    await file.aclose()
    for _ in range(2):
        file = AppendFile(tmp_path / "out")
        await file.open(ME, resumed=True)
        await file.publish()
        await file.aclose()
        assert (tmp_path / "out").read_bytes() == b"1\n"
        assert names(tmp_path) == ["out"]


async def test_roll_forward_does_not_publish_anothers_work(tmp_path: Path) -> None:
    """Ours is published, but our ledger does not know yet; another crawl has begun since."""
    (tmp_path / "out").write_bytes(b"ours\n")
    theirs = await begin(tmp_path / "out", owner=Owner("books", "20260103T000000Z"))
    await theirs.write([b"theirs\n"])
    await theirs.aclose()
    for ending in ("publish", "set_aside"):
        file = AppendFile(tmp_path / "out")
        await file.open(ME, resumed=True)
        await getattr(file, ending)()
        await file.aclose()
        assert (tmp_path / "out").read_bytes() == b"ours\n"
        assert (tmp_path / "out.partial").read_bytes() == b"theirs\n"


# ── the lock


async def test_lock_names_the_job_that_holds_it(tmp_path: Path) -> None:
    file = await begin(tmp_path / "out", owner=OTHER)
    await file.write([b"theirs\n"])
    await file.aclose()
    with pytest.raises(JobError) as caught:
        await begin(tmp_path / "out")
    assert all(part in str(caught.value) for part in ("out.partial", "/usr", OTHER.started))
    assert (tmp_path / "out.partial").read_bytes() == b"theirs\n"


async def test_lock_of_a_published_output_is_no_obstacle(tmp_path: Path) -> None:
    file = await begin(tmp_path / "out", owner=OTHER)
    await file.aclose()
    (tmp_path / "out.partial").rename(tmp_path / "out")  # killed before the lock was removed
    file = await begin(tmp_path / "out")
    await file.publish()
    await file.aclose()
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b"{}", b'{"base": 1}', b'{"spider": 1, "base": 0}'],
)
async def test_lock_that_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "out.lock").write_bytes(content)
    (tmp_path / "out.partial").write_bytes(b"whose?\n")
    file = await begin(tmp_path / "out")
    await file.write([b"1\n"])
    await file.publish()
    await file.aclose()
    assert (tmp_path / "out").read_bytes() == b"1\n"
    assert (tmp_path / "out.partial.aside").read_bytes() == b"whose?\n"
    assert names(tmp_path) == ["out", "out.partial.aside"]


async def test_lock_whose_date_is_a_path(tmp_path: Path) -> None:
    stored = {"spider": "x", "started": "../../../evil", "job": "", "base": 0}
    (tmp_path / "out.lock").write_text(json.dumps(stored))
    (tmp_path / "out.partial").write_bytes(b"whose?\n")
    file = await begin(tmp_path / "out")
    await file.aclose()
    assert "out.partial.aside-.._.._.._evil" in names(tmp_path)


async def test_append_without_its_lock_cuts_nothing_for_good(tmp_path: Path) -> None:
    file = await begin(tmp_path / "out", mode="append")
    end = await file.write([b"1\n"])
    await file.aclose()
    (tmp_path / "out.lock").unlink()
    with (tmp_path / "out").open("ab") as other:
        other.write(b"theirs\n")
    file = await begin(tmp_path / "out", end, mode="append")
    await file.write([b"2\n"])
    await file.publish()
    await file.aclose()
    assert (tmp_path / "out").read_bytes() == b"1\n2\n"
    assert (tmp_path / "out.aside").read_bytes() == b"theirs\n"


def test_lock_removed_while_it_was_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, flock = Claim(tmp_path / "lock"), fcntl.flock
    removed: list[int] = []

    def race(fd: int, how: int) -> None:
        flock(fd, how)
        if not removed:
            removed.append(fd)
            (tmp_path / "lock").unlink()

    monkeypatch.setattr(fcntl, "flock", race)
    taken.take(ME, resumed=False)
    other = Claim(tmp_path / "lock")
    with pytest.raises(JobError):
        other.take(OTHER, resumed=False)
    taken.release()
    assert names(tmp_path) == []


async def test_asides_are_never_overwritten(tmp_path: Path) -> None:
    for number in range(3):
        file = await begin(tmp_path / "out")
        await file.write([b"%d\n" % number])
        await file.set_aside()
        await file.aclose()
    found = [(tmp_path / f"out.failed{end}").read_bytes() for end in ("", "-2", "-3")]
    assert found == [b"0\n", b"1\n", b"2\n"]
    assert len(names(tmp_path)) == 3


# ── real kills

WRITER = """
import asyncio, json, os, sys
from pathlib import Path
from scraper.pipelines.appendfile import AppendFile
from scraper.pipelines.claim import Owner

directory, mode, size, number = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])

async def main(number):
    file = AppendFile(directory / "out", mode=mode)
    await file.open(Owner("books", "s", "/"), resumed=size != "None")
    await file.rewind(None if size == "None" else int(size))
    while True:
        numbers = range(number, number + 40)
        lines = [b'{"n":%d,"pad":"%s"}\\n' % (n, b"x" * (n * 37 % 900)) for n in numbers]
        position = await file.write(lines)
        number += len(lines)
        # The ledger's commit: one line, written whole; the parent takes the last one.
        os.write(1, b"%d %d\\n" % (position, number))

asyncio.run(main(number))
"""


@pytest.mark.parametrize("mode", ["replace", "append"])
def test_kill_nine_at_any_time(tmp_path: Path, mode: Mode) -> None:
    before = b"" if mode == "replace" else b'{"n":-1}'
    if before:
        (tmp_path / "out").write_bytes(before)
    chance, size, number = random.Random(7), "None", "0"
    for _ in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path), mode, size, number],
            stdout=subprocess.PIPE,
        )
        assert writer.stdout is not None
        for _ in range(chance.randint(1, 30)):
            line = writer.stdout.readline()
            assert line
            size, number = line.decode().split()
        writer.send_signal(signal.SIGKILL)  # what it wrote since is not committed
        writer.wait()
        writer.stdout.close()

    async def finish() -> None:
        file = AppendFile(tmp_path / "out", mode=mode)
        await file.open(Owner("books", "s", "/"), resumed=True)
        await file.rewind(int(size))
        await file.publish()
        await file.aclose()

    asyncio.run(finish())
    lines = (tmp_path / "out").read_bytes().splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(-bool(before), int(number)))
    assert names(tmp_path) == ["out"]
