"""What a Redis tells people of its crawls, and how those that are over get out of the way."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from scraper.errors import DamagedState, JobError
from scraper.frontier.memory import MemoryFrontier
from scraper.frontier.redis_status import aside, failures, forget, jobs, rejects, status
from scraper.protocols import Frontier
from scraper.testing.frontier import Wall, back, found, leases, settle
from scraper.work import Again, Batch, Dead, Done, Settled, Want
from tests.frontier.redishelp import SPIDER, Crew
from tests.servers.redis import Redis

A, B, C = "https://a.example", "https://b.example", "https://c.example"


async def test_a_crawl_as_it_stands(redis_server: Redis, tmp_path: Path) -> None:
    async with Crew.at(redis_server.url(), tmp_path) as crew:
        assert status(*crew.place) is None
        one, two = await crew.join(), await crew.join()
        await one.begin({"phase": b"running", "job": b"{}"}, {})
        await one.commit(Batch(seeds=[found(f"{host}/{n}") for host in (A, B, C) for n in "12"]))
        hosts = await one.acquire(Want(2))
        await two.acquire(Want(1))
        [first, second] = leases(hosts)
        await one.commit(
            Batch(
                settled=[
                    Settled(first, Again(one.context.wall() + 60, "timeout")),
                    Settled(second, Dead("http_404", "gone")),
                ],
                counts=Counter({"pages": 3, "reason:http_404": 1}),
                output=[b"x" * 100, b"y"],
            )
        )
        assert await two.lead() is not None
        await two.deliver(Batch(positions={"out": {"bytes": 7}}), "")
        assert one.beat()
        told = status(*crew.place)
        assert told is not None
        assert (told.spider, told.job, told.phase, told.ended) == (
            SPIDER, crew.job, "running", False,
        )  # fmt: skip
        assert (told.pending, told.leased, told.delayed, told.suspects) == (5, 1, 1, 0)
        assert (told.ready, told.held, told.hosts, told.seen) == (0, 3, 0, 6)
        assert (told.failures, told.rejects, told.output, told.crashes) == (1, 0, 2, 0)
        assert told.output_bytes > 100
        assert told.memory > 0
        assert told.counts == {"pages": 3, "reason:http_404": 1}
        assert told.positions == {"out": {"bytes": 7}}
        assert told.state["job"] == b"{}"
        by_name = {worker.name: worker for worker in told.workers}
        assert by_name.keys() == {one.worker, two.worker}
        mine, its = by_name[one.worker], by_name[two.worker]
        assert (mine.host, mine.pid) == (socket.gethostname(), os.getpid())
        assert (mine.hosts, mine.leases, mine.pages, mine.leads) == (2, 0, 2, False)
        assert (its.hosts, its.leases, its.pages, its.leads) == (1, 1, 0, True)
        assert (mine.stale, its.stale, told.stale) == (False, False, 0)
        assert 0 <= mine.sign < 60
        assert abs(mine.started - told.created) < 60
        assert (SPIDER, crew.job) in jobs(crew.url)


async def test_a_worker_without_a_sign_of_life_is_stale(
    redis_server: Redis, tmp_path: Path
) -> None:
    async with Crew.at(redis_server.url(), tmp_path) as crew:
        worker = await crew.join()
        with redis_server.client() as client:
            client.zadd(f"{crew.prefix}workers", {worker.worker: 1})
        told = status(*crew.place)
        assert told is not None
        assert ([w.stale for w in told.workers], told.stale) == ([True], 1)


async def test_failures_and_rejects_are_told_as_by_other_ledgers(
    redis_server: Redis, tmp_path: Path
) -> None:
    wall = Wall()

    async def crawl(frontier: Frontier) -> None:
        await frontier.open()
        posted = found(f"{A}/2", method="POST", body=b"\n\xff", depth=2)
        posted.attempt = 1
        seeds = [found(f"{A}/1"), posted, found(f"{A}/3"), found(f"{A}/4")]
        answer = await frontier.commit(Batch(seeds=seeds, want=Want(9)))
        one, two, three, four = leases(answer.leases)
        batch = Batch(
            settled=[
                Settled(one, Dead("http_404", 'gone "\n')),
                Settled(two, Dead("timeout"), rejects='[[1,"x"]]', earlier=b'{"items":1}'),
                Settled(three, Done(), rejects='[[2,"\u00fc\ud800"]]'),
                Settled(four, Done(), [found(f"{A}/1", chain=(1,), depth=4)]),
            ]
        )
        await frontier.commit(batch)
        await frontier.aclose()

    memory = MemoryFrontier(wall=wall)
    await crawl(memory)
    async with Crew.at(redis_server.url(), tmp_path, now=wall) as crew:
        await crawl(crew.another())
        assert without_ids(failures(*crew.place)) == without_ids(memory.failures())
        assert without_ids(rejects(*crew.place)) == without_ids(memory.rejects())


def without_ids(told: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """A request's id is the frontier's; what was never pending has none. In order of depth."""
    alike = [{**entry, "request": bool(entry["request"])} for entry in told]
    return sorted(alike, key=lambda entry: (entry["depth"], entry["url"]))


async def test_there_may_be_nothing_to_tell(redis_server: Redis, tmp_path: Path) -> None:
    crew = Crew(redis_server.url(), tmp_path)
    assert list(failures(*crew.place)) == []
    assert list(rejects(*crew.place)) == []
    assert aside(*crew.place) == []


async def test_what_is_told_is_what_was_stored(redis_server: Redis, tmp_path: Path) -> None:
    async with Crew.at(redis_server.url(), tmp_path) as crew:
        await crew.join()
        with redis_server.client() as client:
            client.rpush(f"{crew.prefix}dead", b"nonsense")
            client.rpush(f"{crew.prefix}rejects", b"1 2 3 4 5\n\nnonsense")
            client.hset(f"{crew.prefix}w:{crew._opened[0].worker}", "about", "{")
        for read in (failures, rejects):
            with pytest.raises(DamagedState):
                list(read(*crew.place))
        with pytest.raises(DamagedState):
            status(*crew.place)


# Out of the way -----------------------------------------------------------------------------------


async def full(crew: Crew) -> None:
    """A crawl with every kind of key."""
    one, two = await crew.join(), await crew.join()
    assert await two.lead() is not None
    await one.begin({"phase": b"running", "callbacks": b'["a"]'}, {})
    seeds = [found(f"{host}/{n}", priority=n) for host in (A, B, C) for n in range(-1, 2)]
    answer = await one.commit(
        Batch(seeds=[*seeds, found(f"{A}/post", method="POST")], output=[b"x"], want=Want(2))
    )
    [first, second] = leases(answer.leases)[:2]
    await one.commit(Batch(sending=[second.id]))
    later = one.context.wall() + 60
    await one.commit(
        Batch(
            settled=[Settled(first, Again(later, "timeout"))],
            returned=back(answer.leases[:1]),
            want=Want(0, hosts=[f"{A}#1", f"{B}#1", "https://d.example"]),
        )
    )
    await two.acquire(Want(0, hosts=["https://d.example"]))
    given = await two.acquire(Want(4))
    await two.commit(
        Batch(
            settled=settle(leases(given)[:1], Dead("timeout")),
            redo=[],
            claims={},
        )
    )


async def test_what_is_set_aside_is_known_and_can_be_deleted(
    redis_server: Redis, tmp_path: Path
) -> None:
    async with Crew.at(redis_server.url(5), tmp_path) as crew:
        with redis_server.client(5) as client:
            await full(crew)
            with pytest.raises(JobError, match="2 workers are at"):
                crew.another().set_aside("--fresh")
            run = crew.prefix.split(":")[-2]
            for frontier in crew._opened[:1]:
                await frontier.aclose()
            await crew._opened[1].aclose(clean=False)  # it died: its lock says so
            crew.another().set_aside("--fresh")
            assert crew.another().peek() is None
            [old] = aside(*crew.place)
            assert (old.run, old.reason, old.retired) == (run, "--fresh", False)
            new = crew.another()
            recovery = await new.open()
            assert recovery.fresh
            await new.aclose()
            forget(*crew.place, run)
            assert aside(*crew.place) == []
            left = client.keys(f"*{run}*")
            assert left == []
            assert status(*crew.place) is not None
            with pytest.raises(JobError, match="no run"):
                forget(*crew.place, run)


async def test_who_works_on_what_is_set_aside_is_told(redis_server: Redis, tmp_path: Path) -> None:
    async with Crew.at(redis_server.url(), tmp_path) as crew:
        worker = await crew.join()
        with redis_server.client() as client:  # on another machine, and taken for dead
            client.zrem(f"{crew.prefix}workers", worker.worker)
        crew.another().set_aside("--fresh")
        with pytest.raises(JobError, match=r"set aside meanwhile \(--fresh\)"):
            await worker.commit(Batch(seeds=[found(f"{A}/1")]))
        await worker.aclose()


async def test_of_crawls_that_are_over_the_last_is_kept(
    redis_server: Redis, tmp_path: Path
) -> None:
    runs = []
    async with Crew.at(redis_server.url(6), tmp_path) as crew:
        with redis_server.client(6) as client:
            for n in range(3):
                worker = await crew.join()
                await worker.commit(Batch(seeds=[found(f"{A}/{n}")], state={"phase": b"finished"}))
                runs.append(worker._worker._prefix.split(":")[-2])
                peeked = crew.another().peek()
                assert peeked is not None
                assert peeked.phase == "finished"
                crew.another().retire()
                answer = await worker.commit(Batch())  # it may see the end
                assert answer.pending == 1
                await worker.aclose()
                assert crew.another().peek() is None
                assert [old.run for old in aside(*crew.place)] == runs[-1:]
            for run in runs[:2]:
                assert client.keys(f"*{run}*") == []
            forget(*crew.place, runs[2])
            assert client.keys() == []
            assert jobs(crew.url) == []


async def test_only_what_was_looked_at_is_retired(redis_server: Redis, tmp_path: Path) -> None:
    """Workers that start together all see a crawl that is over; one of them begins the next."""
    async with Crew.at(redis_server.url(), tmp_path) as crew:
        worker = await crew.join()
        await worker.commit(Batch(seeds=[found(f"{A}/1")], state={"phase": b"finished"}))
        await worker.aclose()
        first, second = crew.another(), crew.another()
        for each in (first, second):
            assert each.peek() is not None
        first.retire()
        began = await crew.join()
        second.retire()
        joined = await crew.join()
        assert joined._worker._prefix == began._worker._prefix
        assert len(aside(*crew.place)) == 1


def test_the_reason_is_data(redis_server: Redis, tmp_path: Path) -> None:
    crew = Crew(redis_server.url(), tmp_path)
    with redis_server.client() as client:
        client.hset(f"{{scrape:{SPIDER}/{crew.job}}}:shelf", "x", json.dumps({"odd": 1}))
    with pytest.raises(DamagedState):
        aside(*crew.place)
