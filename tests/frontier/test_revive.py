"""Reviving: what failed or was rejected is pending again, in one transaction or not at all."""

from __future__ import annotations

import json
import random
import sqlite3
from array import array
from collections import Counter
from pathlib import Path

import pytest

from scraper.errors import DamagedState, JobError, OutOfResource
from scraper.frontier import revive as module
from scraper.frontier import tables
from scraper.frontier.inspect import inspect, read_failures, read_rejects
from scraper.frontier.revive import Chosen, Revived, retracted, revive, survey
from scraper.frontier.sqlite import SqliteFrontier
from scraper.observation import lost
from scraper.quality import Profile
from scraper.testing.frontier import Wall, found, leases
from scraper.work import Batch, Dead, Done, Found, HostReturn, Lease, Recovery, Settled, Want

A, B = "https://a.example", "https://b.example"

FAILURES, REJECTS = Chosen("failures"), Chosen("rejects")


def items(*faults: tuple[int, str, str]) -> str:
    """Rejected items as `revisits.brief` has them: number, reason and field of each kind."""
    return json.dumps([[n, code, "Item", [[name, "wrong"]], None] for n, code, name in faults])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


WALL = Wall()


async def made(path: Path) -> None:
    """A ledger of 12 pages on two hosts: done, failed and partly rejected."""
    frontier = SqliteFrontier(path, wall=WALL)
    await frontier.open()
    seeds = [found(f"{A if n % 2 else B}/{n}", priority=n % 3) for n in range(10)]
    seeds[4].start, seeds[4].depth = True, 3
    seeds += [
        found(f"{A}/post", method="POST", body="x"),
        Found(found(f"{A}/errback").request, A, 99, depth=1),
    ]
    answer = await frontier.commit(Batch(seeds=seeds, want=Want(100)))
    by_name = {lease.request.url.rpartition("/")[2]: lease for lease in leases(answer.leases)}
    counts: Counter[str] = Counter()
    settled = [settled_as(name, lease, counts) for name, lease in by_name.items()]
    returned = [HostReturn(host.host, b"{}", WALL.now + 5) for host in answer.leases]
    state = {"phase": b"finished"}
    positions = {"out": {"size": 5}}
    await frontier.commit(
        Batch(settled=settled, returned=returned, counts=counts, state=state, positions=positions)
    )
    await frontier.aclose()


def settled_as(name: str, lease: Lease, counts: Counter[str]) -> Settled:
    ends = {
        "1": Settled(lease, Dead("http_500")),
        "2": Settled(lease, Dead("timeout", "slow")),
        "3": Settled(lease, Dead("robots_denied")),
        "4": Settled(lease, Dead("http_500"), earlier=b"known\nof it"),
        "5": Settled(lease, Done(), rejects=items((2, "item_invalid", "price")), earlier=b"\n5"),
        "6": Settled(
            lease,
            Done(),
            rejects=items((1, "item_invalid", "title"), (3, "schema", "tags")),
            earlier=b"6",
        ),
        "post": Settled(lease, Dead("http_500")),
        "errback": Settled(
            lease, Dead("timeout"), rejects=items((1, "stage_error", "")), earlier=b"e"
        ),
    }
    settled = ends.get(name, Settled(lease, Done()))
    if isinstance(settled.verdict, Dead):
        counts[f"reason:{settled.verdict.reason}"] += 1
    else:
        counts["pages"] += 1
    for number, code, *_ in json.loads(settled.rejects or "[]"):
        counts["rejected"] += number
        counts[f"reason:{code}"] += number
    return settled


async def pending(path: Path) -> dict[str, Lease]:
    """What a ledger has to do, by the last part of the URL; it is left undone."""
    frontier = SqliteFrontier(path, wall=lambda: WALL.now + 10)
    recovery = await frontier.open()
    hosts = await frontier.acquire(Want(100))
    due = {lease.request.url.rpartition("/")[2]: lease for lease in leases(hosts)}
    assert len(due) == recovery.pending
    await frontier.aclose()
    return due


async def opened(path: Path) -> Recovery:
    frontier = SqliteFrontier(path, wall=WALL)
    try:
        return await frontier.open()
    finally:
        await frontier.aclose()


def left(path: Path) -> tuple[list[str], list[str]]:
    """What is listed as failed and as rejected."""
    return (
        [failed["url"].rpartition("/")[2] for failed in read_failures(path)],
        [page["url"].rpartition("/")[2] for page in read_rejects(path)],
    )


async def test_failures(path: Path) -> None:
    await made(path)
    said = survey(path, FAILURES)
    assert said == Revived(
        requests=4,
        items=1,
        unrepeatable=1,
        counts=Counter({
            "reason:http_500": 2,
            "reason:timeout": 2,
            "reason:stage_error": 1,
            "rejected": 1,
        }),
    )
    before = await opened(path)
    assert revive(path, FAILURES, {"phase": b"reopening"}) == said
    after = await opened(path)
    assert after.counts == before.counts - said.counts
    assert after.positions == before.positions
    assert after.state["phase"] == b"reopening"
    assert set(left(path)[0]) == {"3", "post"}
    assert set(left(path)[1]) == {"5", "6"}
    due = await pending(path)
    assert due.keys() == {"1", "2", "4", "errback"}
    assert (due["4"].depth, due["4"].start, due["4"].attempt) == (3, True, 0)
    assert due["4"].earlier == b"known\nof it"
    assert due["1"].earlier == b""
    assert min(lease.id for lease in due.values()) == 13, "ids are never used again"
    assert len(retracted(after.state)) == 1


async def test_rejects(path: Path) -> None:
    await made(path)
    said = revive(path, REJECTS, {})
    assert (said.requests, said.items) == (3, 7)
    assert said.counts == {
        "pages": 2,
        "rejected": 7,
        "reason:item_invalid": 3,
        "reason:schema": 3,
        "reason:stage_error": 1,
        "reason:timeout": 1,
    }
    due = await pending(path)
    assert due.keys() == {"5", "6", "errback"}
    assert {name: lease.earlier for name, lease in due.items()} == {
        "5": b"\n5",
        "6": b"6",
        "errback": b"e",
    }
    assert left(path)[1] == []
    assert "errback" not in left(path)[0], "it is not listed as failed while it is pending again"
    again = revive(path, REJECTS, {"phase": b"reopening"})
    assert again == Revived()
    assert inspect(path).phase == "finished", "nothing was done, not even that"


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (Chosen("failures", frozenset({"timeout"})), {"2", "errback"}),
        (Chosen("failures", frozenset({"http_500"})), {"1", "4", "post"}),
        (Chosen("failures", frozenset({"robots_denied"})), {"3"}),
        (Chosen("failures", frozenset({"dns"})), set()),
        (Chosen("rejects", frozenset({"schema"})), {"6"}),
        (Chosen("rejects", fields=frozenset({"price", "title"})), {"5", "6"}),
        (Chosen("rejects", frozenset({"schema"}), frozenset({"title"})), set()),
        (Chosen("rejects", frozenset({"schema"}), frozenset({"tags"})), {"6"}),
    ],
)
async def test_some_of_them(path: Path, chosen: Chosen, names: set[str]) -> None:
    await made(path)
    assert revive(path, chosen, {}).requests == len(names)
    assert (await pending(path)).keys() == names


async def test_what_is_known_of_the_items(path: Path) -> None:
    """Rejected items that are tried again are no loss of the run any more."""
    profile = Profile()
    for _ in range(2):
        profile.add(lost("Item", "item_invalid", [{"field": "price", "message": "wrong"}]))
    for reason, name in (("schema", "tags"), ("item_invalid", "title"), ("schema", "tags")):
        profile.add(lost("Item", reason, [{"field": name, "message": "wrong"}]))
    profile.add(lost("Other", "item_too_large"))
    await made(path)
    frontier = SqliteFrontier(path, wall=WALL)
    await frontier.open()
    await frontier.commit(Batch(state={"quality": profile.dump()}))
    await frontier.aclose()
    revive(path, Chosen("rejects", fields=frozenset({"price"})), {})
    found = Profile.restored((await opened(path)).state).summary()
    assert (found["Item"]["rejected"], found["Other"]["rejected"]) == (3, 1)
    assert found["Item"]["reasons"] == {"schema": 2, "item_invalid": 1}
    assert found["Item"]["fields"]["price"]["rejected"] == 0
    assert found["Item"]["fields"]["tags"]["because"] == {"wrong": 2}
    revive(path, REJECTS, {})
    found = Profile.restored((await opened(path)).state).summary()
    assert found.keys() == {"Other"}, "the ledger knows of more rejected ones than were watched"


async def test_many_times(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come and go, and each time the file adds up."""
    monkeypatch.setattr(module, "MANY", 3)
    dice = random.Random(1)
    await made(path)
    for turn in range(25):
        chosen = FAILURES if turn % 2 else REJECTS
        revive(path, chosen, {})
        frontier = SqliteFrontier(path, wall=lambda: WALL.now + 10)
        await frontier.open()
        more = [found(f"{A}/more/{turn}/{n}") for n in range(dice.randrange(4))]
        hosts = (await frontier.commit(Batch(seeds=more, want=Want(100)))).leases
        settled = []
        for lease in leases(hosts):
            match dice.randrange(4):
                case 0:
                    continue
                case 1:
                    settled.append(Settled(lease, Dead("timeout")))
                case 2:
                    rejects = items((1, "schema", "x"))
                    settled.append(Settled(lease, Done(), rejects=rejects, earlier=b"x"))
                case 3:
                    settled.append(Settled(lease, Done()))
        await frontier.commit(
            Batch(settled=settled, returned=[HostReturn(host.host, b"{}") for host in hosts])
        )
        await frontier.aclose(clean=bool(turn % 3))
    recovery = await opened(path)
    failed, rejected = left(path)
    assert recovery.pending + len(failed) + len(rejected) > 0
    assert len(set(retracted(recovery.state))) == len(retracted(recovery.state)) > 3


async def test_a_host_that_is_new_to_the_ledger(path: Path) -> None:
    """As of a failure that another release wrote, or of a redirect that was never admitted."""
    await made(path)
    connection = sqlite3.connect(path)
    row = next(iter(connection.execute("SELECT * FROM failures WHERE reason = 'timeout'")))[:-1]
    payload = b'{"url":"https://c.example/7"}'
    connection.execute(
        "UPDATE failures SET payload = ?, crc = ? WHERE id = ?",
        (payload, tables.checksum((*row[:-1], payload)), row[0]),
    )
    connection.commit()
    connection.close()
    revive(path, Chosen("failures", frozenset({"timeout"})), {})
    due = await pending(path)
    assert due["7"].host == "https://c.example"


async def test_all_or_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await made(path)
    before, lists = inspect(path), left(path)

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(module._Writer, "_keep", fail)
        with pytest.raises((DamagedState, OutOfResource)):
            revive(path, FAILURES, {"phase": b"reopening"})
    assert (inspect(path), left(path)) == (before, lists)
    assert revive(path, FAILURES, {}).requests == 4


async def test_damage_is_refused(path: Path) -> None:
    await made(path)
    data = path.read_bytes()
    for sql in (
        "UPDATE failures SET url = 'x' WHERE id = 1",
        "UPDATE rejects SET items = '[]' WHERE id = 1",
        "UPDATE rejects SET request = 77 WHERE id = 2",
        "UPDATE hosts SET name = 'x' WHERE id = 1",
        "UPDATE ledger SET head = 'x'",
    ):
        path.write_bytes(data)
        connection = sqlite3.connect(path)
        connection.execute(sql)
        connection.commit()
        connection.close()
        with pytest.raises(DamagedState):
            revive(path, FAILURES, {})
    with pytest.raises(JobError, match="there is no ledger"):
        survey(path.with_name("none.sqlite"), FAILURES)


async def test_a_process_that_has_it_open_notices(path: Path) -> None:
    """The job's lock forbids it; should it happen all the same, nothing is lost in silence."""
    await made(path)
    frontier = SqliteFrontier(path, wall=WALL)
    await frontier.open()
    revive(path, FAILURES, {})
    with pytest.raises(JobError, match="written by another process"):
        await frontier.commit(Batch(counts=Counter(pages=1)))
    await frontier.aclose(clean=False)
    assert (await opened(path)).pending == 4


def test_nothing_is_retracted_of_a_new_ledger() -> None:
    assert retracted({}) == array("Q")
