"""What only the SQLite frontier promises: damage is refused, full disks lose nothing."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from scraper.errors import DamagedState, JobError, OutOfResource, ScraperError, UsageError
from scraper.frontier import core, tables
from scraper.frontier.inspect import read_rejects
from scraper.frontier.sqlite import SqliteFrontier
from scraper.http import Request
from scraper.testing.frontier import Wall, back, found, leases, settle
from scraper.work import Again, Batch, Dead, Found, HostReturn, Recovery, Redo, Want

A, B = "https://a.example", "https://b.example"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job" / "ledger.sqlite"


@pytest.fixture
async def frontier(path: Path) -> AsyncIterator[SqliteFrontier]:
    made = SqliteFrontier(path)
    await made.open()
    yield made
    await made.aclose(clean=False)


async def opened(path: Path) -> Recovery:
    """What a file says when it is opened."""
    frontier = SqliteFrontier(path)
    try:
        return await frontier.open()
    finally:
        await frontier.aclose()


async def used(path: Path, wall: Callable[[], float], *, requests: int = 60) -> None:
    """A ledger with something in every table and free pages between."""
    frontier = SqliteFrontier(path, wall=wall)
    await frontier.open()
    pages = [found(f"https://h{n % 5}.example/{n:04}", priority=n % 3) for n in range(requests)]
    state = {"cookies": b"jar" * 50}
    await frontier.commit(Batch(seeds=pages, state=state, positions={"out": [1, "x"]}))
    hosts = await frontier.acquire(Want(20))
    given = leases(hosts)
    done = settle(given[:9])
    done[2].rejects, done[2].earlier = '[[1,"schema","Item",[["a","b"]],null]]', b"\0" * 16
    done[5].rejects = done[2].rejects
    await frontier.commit(
        Batch(
            settled=done
            + settle(given[9:14], Dead("http_404", "gone"))
            + settle(given[14:17], Again(wall() + 50, "timeout")),
            returned=[HostReturn(hosts[0].host, b'{"pace": 0.2}', wall() + 5)],
            counts=Counter(pages=9),
            redo=[Redo(1, "shop.sqlite", [b"a", b""]), Redo(1, "other", [b"b" * 300])],
            claims={"dedupe(n)": array("Q", range(9)), "other": array("Q", [2**64 - 1])},
        )
    )
    await frontier.aclose()


async def drained(path: Path, wall: Wall) -> tuple[Any, ...]:
    """Everything that a file holds, as seen by opening it and working it off."""
    frontier = SqliteFrontier(path, wall=wall)
    try:
        recovery = await frontier.open()
        order = []
        while (due := frontier.next_due()) is not None:
            wall.now = max(wall.now, due)
            hosts = await frontier.acquire(Want(50))
            order += [(x.request.url, x.attempt, x.host) for x in leases(hosts)]
            returned = [HostReturn(host.host, host.state or b"") for host in hosts]
            await frontier.commit(Batch(settled=settle(leases(hosts)), returned=returned))
        again = await frontier.commit(
            Batch(seeds=[found(f"https://h{n % 5}.example/{n:04}") for n in range(60)])
        )
        assert again.admitted == 0
        failures = [*SqliteFrontier.failures(path), *read_rejects(path)]
    finally:
        await frontier.aclose()
    redo = [(redo.group, redo.sink, list(redo.records)) for redo in recovery.redo]
    claims = {
        stage: sorted(key for part in parts for key in part)
        for stage, parts in recovery.claims.items()
    }
    kept = (recovery.positions, recovery.state, recovery.counts)
    return (*kept, order, failures, redo, claims)


# Damage -----------------------------------------------------------------------------------------


async def test_flipped_bytes_are_refused_or_harmless(tmp_path: Path) -> None:
    """Never a silent loss: what opens is exactly what was committed."""
    wall = Wall()
    good = tmp_path / "good" / "ledger.sqlite"
    await used(good, wall)
    data = good.read_bytes()
    start = wall.now
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(data)
    expected = await drained(copy, wall)
    assert len(expected[3]) == 46
    assert expected[5:] == (
        [(1, "shop.sqlite", [b"a", b""]), (1, "other", [b"b" * 300])],
        {"dedupe(n)": [*range(9)], "other": [2**64 - 1]},
    )
    dice = random.Random(1)
    offsets = [*range(0, 112, 2), *dice.sample(range(100, len(data)), 350)]
    messages: dict[int, DamagedState] = {}
    for offset in offsets:
        for end in ("", "-wal", "-shm"):
            copy.with_name(copy.name + end).unlink(missing_ok=True)
        changed = bytearray(data)
        changed[offset] ^= dice.choice([1, 0x80, 0xFF])
        copy.write_bytes(changed)
        wall.now = start
        try:
            result = await drained(copy, wall)
        except DamagedState as error:
            messages[offset] = error
        else:
            assert result == expected, offset
    assert len(messages) > len(offsets) // 10
    assert all(str(copy) in error.message for error in messages.values())
    assert all("--fresh" in error.hint for error in messages.values())


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
async def test_a_file_that_was_cut_is_refused(path: Path, share: float) -> None:
    await used(path, Wall())
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(DamagedState, match="damaged"):
        await opened(path)


async def test_something_else_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("this is not a database " * 100)
    with pytest.raises(DamagedState, match="not a database"):
        await opened(path)
    path.unlink()
    sqlite3.connect(path).execute("CREATE TABLE x (y)").connection.close()
    with pytest.raises(DamagedState, match="not marked as a ledger"):
        await opened(path)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM requests WHERE id = 30",
        "DELETE FROM seen",
        "DELETE FROM hosts WHERE id = 2",
        "DELETE FROM failures WHERE id = 1",
        "DELETE FROM rejects WHERE id = 2",
        "UPDATE rejects SET items = '[]' WHERE id = 1",
        "UPDATE rejects SET payload = x'00' WHERE id = 1",
        "UPDATE rejects SET failed = 1 WHERE id = 2",
        "DELETE FROM kept WHERE kind = 'position'",
        "DELETE FROM ledger",
        "UPDATE requests SET payload = replace(payload, 'h1', 'h2') WHERE id = 41",
        "UPDATE requests SET attempt = 9 WHERE id = 40",
        "UPDATE requests SET depth = 'x' WHERE id = 40",
        "UPDATE requests SET host = 99 WHERE id = 40",
        "UPDATE hosts SET name = 'https://evil.example' WHERE id = 1",
        "UPDATE seen SET fingerprints = zeroblob(length(fingerprints))",
        "UPDATE failures SET url = 'x'",
        "UPDATE kept SET value = 0",
        "DELETE FROM redo",
        "DELETE FROM redo WHERE sink = 'other'",
        "UPDATE redo SET records = x'00000000' WHERE sink = 'other'",
        "UPDATE redo SET records = substr(records, 1, length(records) - 1)",
        "UPDATE redo SET number = 2",
        "UPDATE redo SET sink = 'other'",
        "UPDATE redo SET id = id + 5",
        "INSERT INTO redo SELECT id + 9, number, sink, records, crc FROM redo",
        "DELETE FROM claims WHERE id = 1",
        "UPDATE claims SET keys = zeroblob(length(keys))",
        "UPDATE claims SET keys = zeroblob(7)",
        "UPDATE claims SET stage = 'x' WHERE id = 2",
        "INSERT INTO claims SELECT id + 9, stage, keys, crc FROM claims",
        "DROP TABLE redo",
        "DROP TABLE claims",
        "UPDATE ledger SET head = replace(head, '46', '45')",
        "UPDATE sqlite_sequence SET seq = 5",
        "DROP TABLE failures",
        "CREATE TABLE more (x)",
        "CREATE TRIGGER t AFTER INSERT ON seen BEGIN DELETE FROM requests; END",
        "PRAGMA application_id = 5",
        "PRAGMA user_version = 7",
    ],
)
async def test_what_another_program_changed_is_refused(path: Path, sql: str) -> None:
    await used(path, Wall())
    connection = sqlite3.connect(path)
    connection.execute(sql)
    connection.commit()
    connection.close()
    with pytest.raises(DamagedState, match="damaged") as caught:
        await opened(path)
    assert str(path) in caught.value.message
    assert caught.value.exit_code == 3


async def test_a_newer_format_says_so(path: Path) -> None:
    await opened(path)
    connection = sqlite3.connect(path)
    head = tables.Head(version=tables.VERSION + 1).dump()
    connection.execute("UPDATE ledger SET head = ?, crc = ?", head)
    connection.commit()
    connection.close()
    with pytest.raises(JobError, match="newer release"):
        await opened(path)


async def test_damage_while_running_is_damage(frontier: SqliteFrontier, path: Path) -> None:
    await frontier.commit(Batch(seeds=[found(f"{A}/{n}") for n in range(9)]))
    other = sqlite3.connect(path)
    other.execute("DELETE FROM requests WHERE id = 3")
    other.commit()
    other.close()
    with pytest.raises(DamagedState, match="missing"):
        await frontier.acquire(Want(9))


# Failing to write -------------------------------------------------------------------------------


async def limited(frontier: SqliteFrontier, extra: int) -> None:
    """Let the file grow by *extra* pages only, as a disk does that fills up."""

    def limit() -> None:
        connection = frontier._db
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + extra}")

    await frontier._run(limit)


async def test_a_full_disk_loses_nothing(frontier: SqliteFrontier, path: Path) -> None:
    first = await frontier.commit(Batch(seeds=[found(f"{A}/{n}") for n in range(5)], want=Want(2)))
    await limited(frontier, 2)
    links = [found(f"{A}/{n}") for n in range(5, 900)]
    batch = Batch(settled=settle(leases(first.leases), links=links), counts=Counter(pages=2))
    with pytest.raises(OutOfResource, match="full") as caught:
        await frontier.commit(batch)
    assert caught.value.exit_code == 4
    with pytest.raises(UsageError, match="earlier commit failed"):
        await frontier.commit(Batch())
    await frontier.aclose()
    recovery = await opened(path)
    assert (recovery.pending, recovery.counts, recovery.unclean) == (5, Counter(), False)
    again = SqliteFrontier(path)
    await again.open()
    hosts = await again.acquire(Want(9))
    assert len(leases(hosts)) == 5
    answer = await again.commit(Batch(settled=settle(leases(hosts)[:1], links=links)))
    assert answer.admitted == len(links)
    await again.aclose()


async def test_a_real_full_disk(path: Path) -> None:
    """A file-size limit of the kernel stops the log in the middle of a write."""
    script = """
import asyncio, resource, signal, sys
from scraper.errors import OutOfResource
from scraper.frontier.sqlite import SqliteFrontier
from scraper.testing.frontier import found
from scraper.work import Batch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
async def main():
    frontier = SqliteFrontier(sys.argv[1])
    await frontier.open()
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    n = 0
    try:
        while True:
            urls = [f"https://a.example/{n}" for n in range(n, n + 50)]
            await frontier.commit(Batch(seeds=[found(url) for url in urls]))
            n += 50
    except OutOfResource:
        await frontier.aclose()
        print(n)
asyncio.run(main())
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    recovery = await opened(path)
    assert recovery.pending == int(done.stdout) > 0


async def test_a_locked_file_is_out_of_resource(frontier: SqliteFrontier, path: Path) -> None:
    await frontier._run(lambda: frontier._db.execute("PRAGMA busy_timeout = 1").close())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OutOfResource, match="locked"):
        await frontier.commit(Batch(seeds=[found(f"{A}/1")]))
    other.execute("ROLLBACK")
    other.close()


async def test_the_settings_are_those_of_a_ledger(frontier: SqliteFrontier) -> None:
    def settings() -> dict[str, Any]:
        names = ("journal_mode", "synchronous", "busy_timeout", "application_id", "cell_size_check")
        return {n: frontier._db.execute(f"PRAGMA {n}").fetchone()[0] for n in names}

    assert await frontier._run(settings) == {
        "journal_mode": "wal",
        "synchronous": 2,
        "busy_timeout": 60_000,
        "application_id": tables.APPLICATION_ID,
        "cell_size_check": 1,
    }


async def test_a_second_writer_is_noticed(frontier: SqliteFrontier, path: Path) -> None:
    await frontier.commit(Batch(seeds=[found(f"{A}/1")]))
    second = SqliteFrontier(path)
    await second.open()
    await second.commit(Batch(seeds=[found(f"{A}/2")]))
    with pytest.raises(JobError, match="another process"):
        await frontier.commit(Batch(seeds=[found(f"{A}/3")]))
    await frontier.aclose(clean=False)
    answer = await second.commit(Batch(seeds=[found(f"{A}/3")]))
    assert (answer.admitted, answer.pending) == (1, 3)
    await second.aclose()


async def test_after_a_contradiction_it_goes_on(frontier: SqliteFrontier) -> None:
    given = leases((await frontier.commit(Batch(seeds=[found(f"{A}/1")], want=Want(1)))).leases)
    with pytest.raises(ValueError, match="twice"):
        await frontier.commit(Batch(settled=settle(given) * 2))
    assert (await frontier.commit(Batch(settled=settle(given)))).pending == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere: run as another user")
async def test_a_file_that_may_not_be_written(path: Path) -> None:
    await opened(path)
    path.chmod(0o400)
    with pytest.raises(JobError, match="cannot be opened for writing"):
        await opened(path)


# Opening and closing ----------------------------------------------------------------------------


async def test_modes_and_what_is_left(path: Path) -> None:
    frontier = SqliteFrontier(path)
    await frontier.open()
    await frontier.commit(Batch(seeds=[found(f"{A}/1")]))
    names = {"ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"}
    files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert files == dict.fromkeys(names, 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await frontier.aclose()
    assert [file.name for file in path.parent.iterdir()] == ["ledger.sqlite"]


async def test_a_creation_that_was_interrupted_is_done_again(path: Path) -> None:
    path.parent.mkdir()
    path.with_name("ledger.sqlite.new").write_bytes(b"half")
    assert (await opened(path)).fresh
    assert [file.name for file in path.parent.iterdir()] == ["ledger.sqlite"]


async def test_fresh_until_something_is_committed(path: Path) -> None:
    assert (await opened(path)).fresh
    assert (await opened(path)).fresh
    frontier = SqliteFrontier(path)
    await frontier.open()
    await frontier.commit(Batch(state={"job": b"{}"}))
    await frontier.aclose()
    assert not (await opened(path)).fresh


async def test_it_must_be_open(path: Path) -> None:
    frontier = SqliteFrontier(path)
    with pytest.raises(UsageError, match="not open"):
        await frontier.commit(Batch())
    await frontier.open()
    with pytest.raises(UsageError, match="open already"):
        await frontier.open()
    await frontier.aclose()
    with pytest.raises(UsageError, match="not open"):
        await frontier.commit(Batch())


async def test_a_commit_whose_caller_was_cancelled_is_whole(path: Path) -> None:
    frontier = SqliteFrontier(path)
    await frontier.open()
    batch = Batch(seeds=[found(f"{A}/{n}") for n in range(200)], want=Want(50))
    task = asyncio.create_task(frontier.commit(batch))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await frontier.aclose()
    recovery = await opened(path)
    assert recovery.pending in (0, 200)
    assert (recovery.suspects, recovery.unclean) == (0, False)


async def test_lone_surrogates_are_stored(frontier: SqliteFrontier, path: Path) -> None:
    request = found(f"{A}/1", meta={"title": "\udc80"})
    given = leases((await frontier.commit(Batch(seeds=[request], want=Want(1)))).leases)
    assert given[0].request.meta == {"title": "\udc80"}
    await frontier.commit(Batch(settled=settle(given, Dead("callback_error", "bad \udc80"))))
    [failed] = SqliteFrontier.failures(path)
    assert failed["detail"] == "bad ?"


# Reading beside the writer ----------------------------------------------------------------------


async def test_inspecting_a_running_ledger(frontier: SqliteFrontier, path: Path) -> None:
    assert SqliteFrontier.inspect(path).clean
    await frontier.commit(
        Batch(
            seeds=[found(f"{A}/{n}") for n in range(4)],
            state={"phase": b"running", "job": b"{}"},
            positions={"out": 7},
            counts=Counter({"pages": 2}),
        )
    )
    given = leases(await frontier.acquire(Want(2)))
    one = found(f"{A}/1", chain=(5,))
    await frontier.commit(
        Batch(
            settled=[*settle(given[:1], Dead("http_500", "boom")), *settle(given[1:], links=[one])]
        )
    )
    summary = SqliteFrontier.inspect(path)
    assert (summary.pending, summary.leased, summary.hosts, summary.failures) == (2, 0, 1, 2)
    assert summary.counts == Counter({"pages": 2, "reason:redirect_duplicate": 1})
    assert (summary.phase, summary.positions, summary.clean) == ("running", {"out": 7}, False)
    failures = list(SqliteFrontier.failures(path))
    assert {(f["url"], f["reason"], f["detail"]) for f in failures} == {
        (f"{A}/0", "http_500", "boom"),
        (f"{A}/1", "redirect_duplicate", ""),
    }
    assert json.loads(failures[0]["payload"])["url"].startswith(A)


async def test_inspecting_writes_nothing(path: Path) -> None:
    await used(path, Wall())
    before = path.read_bytes()
    SqliteFrontier.inspect(path)
    assert len(list(SqliteFrontier.failures(path))) == 5
    assert path.read_bytes() == before
    with pytest.raises(JobError, match="no ledger"):
        SqliteFrontier.inspect(path.with_name("nothing"))
    with pytest.raises(JobError, match="no ledger"):
        list(SqliteFrontier.failures(path.with_name("nothing")))


async def test_inspecting_damage(path: Path, tmp_path: Path) -> None:
    await used(path, Wall())
    shutil.copy(path, tmp_path / "x")
    os.truncate(path, 3000)
    with pytest.raises(DamagedState):
        SqliteFrontier.inspect(path)
    path.write_bytes(b"nonsense" * 1000)
    with pytest.raises(ScraperError):
        list(SqliteFrontier.failures(path))


# The cost ---------------------------------------------------------------------------------------


async def test_a_commit_costs_the_same_however_long_the_queue(path: Path) -> None:
    """Counted in steps of SQLite's machine, not in time."""

    async def steps(frontier: SqliteFrontier) -> int:
        count = 0

        def tick() -> int:
            nonlocal count
            count += 1
            return 0

        await frontier._run(lambda: frontier._db.set_progress_handler(tick, 1))
        hosts = await frontier.acquire(Want(20))
        back = [HostReturn(host.host, b"{}") for host in hosts]
        links = [found(f"{A}/{n}/{frontier.pending}") for n in range(5)]
        await frontier.commit(Batch(settled=settle(leases(hosts), links=links), returned=back))
        await frontier._run(lambda: frontier._db.set_progress_handler(None, 1))
        return count

    frontier = SqliteFrontier(path)
    await frontier.open()
    await frontier.commit(Batch(seeds=[found(f"{A}/s{n}") for n in range(300)]))
    await steps(frontier)
    short = await steps(frontier)
    for start in range(0, 20_000, 2000):
        await frontier.commit(Batch(seeds=[found(f"{A}/l{n}") for n in range(start, start + 2000)]))
    long = await steps(frontier)
    await frontier.aclose()
    assert 0 < long <= short * 1.2


# ── requests that are not read back


async def test_requests_kept_as_they_came_are_those_that_are_stored(
    frontier: SqliteFrontier, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few are kept here, one was never plain, some come back: each goes out once, in order."""
    monkeypatch.setattr(core, "FRESH", 3)
    requests = [Request.of(f"{A}/{n}\ud800", "parse" if n % 2 else None) for n in range(8)]
    requests[1] = requests[1].replace(meta={"n": 1})
    pages = [Found(request, A, n) for n, request in enumerate(requests)]
    hosts = (await frontier.commit(Batch(seeds=pages, want=Want(3)))).leases
    taken = leases(hosts)
    assert [lease.request for lease in taken] == requests[:3]
    assert [taken[n].request is requests[n] for n in range(3)] == [True, False, True]
    batch = Batch(settled=settle(taken[:1]), returned=back(hosts), want=Want(10))
    rest = leases((await frontier.commit(batch)).leases)
    assert [lease.request for lease in rest] == requests[1:]
    await frontier.aclose()
    later = SqliteFrontier(path)
    await later.open()
    stored = leases(await later.acquire(Want(10)))
    await later.aclose(clean=False)
    assert [lease.request for lease in stored] == requests[1:]
