"""What befalls a Redis, and what becomes of a crawl on it: it goes on, or fails loudly."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from scraper.errors import DamagedState, JobError, OutOfResource, UsageError
from scraper.frontier import redis_commit, redis_link
from scraper.frontier.redis_life import Heartbeat, Locks
from scraper.frontier.redis_status import failures, status
from scraper.testing.frontier import back, found, leases, settle
from scraper.work import Batch, Dead, Redo, Settled, Want
from tests.frontier.redishelp import Crew, counted, until
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis

A, B = "https://a.example", "https://b.example"
LARGE = 1 << 20


@pytest.fixture
def own_redis(redis_binary: str) -> Iterator[Redis]:
    """A server of this test alone, to be killed, filled and emptied."""
    with Redis(redis_binary) as server:
        yield server


# Answers that get lost ---------------------------------------------------------------------------


async def test_a_commit_whose_answer_is_lost_is_done_once(
    redis_server: Redis, tmp_path: Path
) -> None:
    seeds = [found(f"{host}/{n}") for host in (A, B) for n in range(4)]
    async with Crew.at(redis_server.url(), tmp_path) as crew:
        with Proxy(redis_server.port) as proxy:
            worker = await crew.join(f"redis://127.0.0.1:{proxy.port}/0")
            answer = await worker.commit(Batch(seeds=seeds, want=Want(2)))
            proxy.lose_answers(1)
            batch = counted(
                2,
                settled=settle(leases(answer.leases), links=[found(f"{A}/new"), seeds[0]]),
                output=[b"one", b"two"],
                want=Want(9, held=[A, B]),
            )
            answer = await worker.commit(batch)
            assert (answer.admitted, answer.duplicates, answer.pending) == (1, 3, 7)
            given = leases(answer.leases)
            assert len(given) == 7
            assert answer.totals is not None
            assert answer.totals["pages"] == 2
            answer = await worker.commit(Batch(settled=settle(given)))
            assert answer.pending == 0
            assert await worker.lead() is not None
            entries = await worker.entries("", LARGE)
            assert [data for _, data in entries] == [b"one", b"two"]
            proxy.lose_answers(1)
            answer = await worker.deliver(Batch(counts=Counter(items=2)), entries[1][0])
            assert answer.totals is not None
            assert answer.totals["items"] == 2
            assert await worker.entries("", LARGE) == []


async def test_every_other_answer_is_lost(redis_server: Redis, tmp_path: Path) -> None:
    """Hosts that are given back and handed out in one commit, redirects, retries: all of it."""
    urls = [f"https://h{n % 5}.example/{n}" for n in range(60)]
    async with Crew.at(redis_server.url(), tmp_path) as crew:
        with Proxy(redis_server.port) as proxy:
            worker = await crew.join(f"redis://127.0.0.1:{proxy.port}/0")
            answer = await worker.commit(Batch(seeds=[found(url) for url in urls], want=Want(7)))
            done: list[str] = []
            turn = 0
            while answer.leases:
                given = leases(answer.leases)
                done += [lease.request.url for lease in given]
                target = found(urls[0], chain=(1,))
                settled = [Settled(lease, Dead("http_404"), [target]) for lease in given]
                proxy.lose_answers(turn % 2)
                turn += 1
                answer = await worker.commit(
                    counted(len(given), settled=settled, returned=back(answer.leases), want=Want(7))
                )
                assert answer.redirect_duplicates == [urls[0]] * len(given)
            assert sorted(done) == sorted(urls)
            assert answer.totals is not None
            assert (answer.totals["pages"], answer.pending) == (60, 0)
            told = status(*crew.place)
            assert told is not None
            assert (told.leased, told.held, told.ready) == (0, 0, 0)


# A server that ends, stands still, or is full ----------------------------------------------------


async def test_a_server_that_is_killed_and_comes_back(own_redis: Redis, tmp_path: Path) -> None:
    async with Crew.at(own_redis.url(), tmp_path) as crew:
        worker = await crew.join()
        answer = await worker.commit(Batch(seeds=[found(f"{A}/{n}") for n in range(9)]))
        for n in range(3):
            own_redis.kill()
            batch = counted(seeds=[found(f"{B}/{n}")], want=Want(3, held=[A, B]))
            going_on = asyncio.create_task(worker.commit(batch))
            await asyncio.to_thread(own_redis.start)
            answer = await going_on
            assert len(leases(answer.leases)) == 3
        assert answer.totals is not None
        assert (answer.pending, answer.totals["pages"]) == (12, 3)


async def test_a_server_that_stands_still(
    own_redis: Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It finds the same commit several times when it goes on, and does it once."""
    monkeypatch.setattr(redis_link, "ANSWER", 0.2)
    async with Crew.at(own_redis.url(), tmp_path) as crew:
        worker = await crew.join()
        own_redis.pause()
        going_on = asyncio.create_task(worker.commit(counted(seeds=[found(f"{A}/1")])))
        await until(lambda: "waiting for redis://" in caplog.text)
        assert not going_on.done()
        own_redis.go_on()
        answer = await going_on
        assert answer.totals is not None
        assert (answer.admitted, answer.totals["pages"]) == (1, 1)
        assert caplog.text.count("waiting for redis://") == 1
        assert "answers again" in caplog.text


async def test_patience_ends(own_redis: Redis, tmp_path: Path) -> None:
    async with Crew.at(own_redis.url(), tmp_path, patience=0.2) as crew:
        worker = await crew.join()
        own_redis.kill()
        with pytest.raises(OutOfResource, match="out of order") as caught:
            await worker.commit(Batch(seeds=[found(f"{A}/1")]))
        assert caught.value.exit_code == 4
        for going_on in (worker.commit(Batch()), worker.lead(), worker.deliver(Batch(), "")):
            with pytest.raises(OutOfResource, match="out of order"):
                await going_on
        await worker.aclose()


async def test_closing_does_not_wait_for_a_server_that_is_away(
    own_redis: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Crew.at(own_redis.url(), tmp_path) as crew:
        worker = await crew.join()
        own_redis.kill()
        waiting = asyncio.create_task(worker.commit(Batch(seeds=[found(f"{A}/1")])))
        await until(lambda: "waiting for redis://" in caplog.text)
        await worker.aclose(clean=False)
        with pytest.raises(OutOfResource):
            await waiting


async def test_memory_that_runs_out(
    own_redis: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A commit is refused whole; what makes room gets through; then the commit does."""
    async with Crew.at(own_redis.url(), tmp_path) as crew:
        worker, leader = await crew.join(), await crew.join()
        await worker.commit(Batch(seeds=[found(f"{A}/1")], output=[b"x" * 1000] * 50))
        hosts = await worker.acquire(Want(1))
        assert await leader.lead() is not None
        entries = await leader.entries("", LARGE)
        own_redis.config(maxmemory=1)
        batch = counted(
            settled=settle(leases(hosts), links=[found(f"{A}/2")]),
            returned=back(hosts),
            output=[b"late"],
            redo=[Redo(1, "a", [b"1"])],
            claims={"dedupe": array("Q", [1])},
        )
        going_on = asyncio.create_task(worker.commit(batch))
        await until(lambda: "waiting for redis://" in caplog.text)
        told = status(*crew.place)
        assert told is not None
        assert (told.pending, told.leased, told.held, told.counts) == (1, 1, 1, Counter())
        assert told.output == 50
        await leader.deliver(Batch(positions={"out": 50}), entries[-1][0])
        assert leader.beat()
        assert worker.beat()
        assert not going_on.done()
        told = status(*crew.place)
        assert told is not None
        assert (told.output, told.positions) == (0, {"out": 50})
        await leader.aclose()
        own_redis.config(maxmemory=0)
        answer = await going_on
        assert answer.totals is not None
        assert (answer.pending, answer.admitted, answer.totals["pages"]) == (1, 1, 1)


async def test_nothing_is_handed_out_while_the_leader_is_far_behind(
    redis_server: Redis, tmp_path: Path
) -> None:
    async with Crew.at(redis_server.url(), tmp_path) as crew:
        worker = await crew.join()
        seeds = [found(f"{A}/1"), found(f"{B}/1")]
        hosts = (await worker.commit(Batch(seeds=seeds, want=Want(1)))).leases
        behind = counted(settled=settle(leases(hosts)), output=[b"x"] * 10_001, want=Want(5))
        assert (await worker.commit(behind)).leases == []
        assert await worker.lead() is not None
        entries = await worker.entries("", LARGE)
        await worker.deliver(Batch(), entries[0][0])
        assert len(leases(await worker.acquire(Want(5)))) == 1


async def test_leases_come_back_though_memory_has_run_out(own_redis: Redis, tmp_path: Path) -> None:
    async with Crew.at(own_redis.url(), tmp_path) as crew:
        worker = await crew.join()
        await worker.commit(Batch(seeds=[found(f"{A}/1")], want=Want(1)))
        own_redis.config(maxmemory=1)
        await worker.aclose()
        own_redis.config(maxmemory=0)
        again = await crew.join()
        assert not crew.recovery.unclean
        assert len(leases(await again.acquire(Want(1)))) == 1


async def test_nothing_is_handed_out_while_memory_is_short(
    own_redis: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Crew.at(own_redis.url(), tmp_path) as crew:
        worker = await crew.join()
        await worker.commit(Batch(seeds=[found(f"{A}/1"), found(f"{B}/1")]))
        with own_redis.client() as client:
            used = int(client.info("memory")["used_memory"])
            own_redis.config(maxmemory=int(used / 0.9))
            for _ in range(2):
                assert worker.beat()
                assert await worker.acquire(Want(1)) == []
            assert caplog.text.count("no more pages are handed out") == 1
            assert "CONFIG SET maxmemory" in caplog.text
            used = int(client.info("memory")["used_memory"])
            own_redis.config(maxmemory=int(used / 0.83))
            assert worker.beat()
            assert await worker.acquire(Want(1)) == []
            own_redis.config(maxmemory=used * 2)
        assert worker.beat()
        assert len(leases(await worker.acquire(Want(1)))) == 1
        assert "has room again" in caplog.text


async def test_memory_that_stays_short(own_redis: Redis, tmp_path: Path) -> None:
    async with Crew.at(own_redis.url(), tmp_path, patience=0.0) as crew:
        worker = await crew.join()
        answer = await worker.commit(Batch(seeds=[found(f"{A}/1"), found(f"{B}/1")], want=Want(1)))
        own_redis.config(maxmemory=1)
        assert worker.beat()
        own_redis.config(maxmemory=0)  # room for commits; the heartbeat has not seen it yet
        settled = settle(leases(answer.leases))
        assert (await worker.commit(Batch(settled=settled, want=Want(1)))).leases == []
        with pytest.raises(OutOfResource, match="of its memory"):
            await worker.acquire(Want(1))


# A server that is not what it was ----------------------------------------------------------------


async def test_a_flushed_server_is_no_finished_crawl(own_redis: Redis, tmp_path: Path) -> None:
    async with Crew.at(own_redis.url(), tmp_path) as crew:
        worker, leader = await crew.join(), await crew.join()
        await worker.commit(Batch(seeds=[found(f"{A}/1")]))
        assert await leader.lead() is not None
        with own_redis.client() as client:
            client.flushall()
        assert not worker.beat()
        for going_on in (
            worker.commit(Batch()),
            leader.deliver(Batch(), ""),
            leader.entries("", 1),
            leader.lead(),
            leader.begin({}, {}),
        ):
            with pytest.raises(DamagedState, match="not there any more") as caught:
                await going_on
            assert caught.value.exit_code == 3
        await worker.aclose()


async def test_an_older_copy_is_no_resumed_crawl(own_redis: Redis, tmp_path: Path) -> None:
    async with Crew.at(own_redis.url(), tmp_path) as crew:
        worker = await crew.join()
        await worker.commit(Batch(seeds=[found(f"{A}/1")]))
        own_redis.stop()
        copy = tmp_path / "copy"
        shutil.copytree(own_redis.directory / "appendonlydir", copy)
        own_redis.start()
        later = await crew.join()
        await worker.commit(Batch(seeds=[found(f"{A}/2")]))
        own_redis.stop()
        shutil.rmtree(own_redis.directory / "appendonlydir")
        shutil.copytree(copy, own_redis.directory / "appendonlydir")
        own_redis.start()
        for lost in (worker, later):
            with pytest.raises(DamagedState, match="has lost what it had confirmed"):
                await lost.commit(Batch(seeds=[found(f"{A}/3")]))


async def test_a_server_that_throws_data_away_is_refused(own_redis: Redis, tmp_path: Path) -> None:
    own_redis.config(maxmemory_policy="allkeys-lru")
    async with Crew.at(own_redis.url(), tmp_path) as crew:
        with pytest.raises(UsageError, match="throws data away") as caught:
            await crew.join()
    assert caught.value.exit_code == 2
    assert "maxmemory-policy noeviction" in caught.value.hint
    with own_redis.client() as client:
        assert client.dbsize() == 0


async def test_a_server_that_keeps_nothing_on_disk_is_told_of(
    redis_binary: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Redis(redis_binary, appendonly="no") as server:
        async with Crew.at(server.url(), tmp_path) as crew:
            await crew.join()
    [told] = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "CONFIG SET appendonly yes" in told


async def test_a_password_is_needed_and_never_told(redis_binary: str, tmp_path: Path) -> None:
    with Redis(redis_binary, requirepass="right-s3cret") as server:
        for secret in ("", ":wrong-s3cret@"):
            url = server.url().replace("//", f"//{secret}")
            async with Crew.at(url, tmp_path) as crew:
                with pytest.raises(UsageError, match="does not let us in") as caught:
                    await crew.join()
                assert "s3cret" not in str(caught.value)
        async with Crew.at(server.url().replace("//", "//:right-s3cret@"), tmp_path) as crew:
            await crew.join()


async def test_by_a_unix_socket(redis_server: Redis, tmp_path: Path) -> None:
    async with Crew.at(f"unix://{redis_server.socket}?db=3", tmp_path) as crew:
        worker = await crew.join()
        assert (await worker.commit(Batch(seeds=[found(f"{A}/1")]))).admitted == 1
        with redis_server.client(3) as client:
            assert client.dbsize() > 3


async def test_nothing_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_link, "FIRST", 0.1)
    async with Crew.at("redis://127.0.0.1:1/0", tmp_path) as crew:
        with pytest.raises(OutOfResource, match=r"127\.0\.0\.1:1"):
            crew.another().peek()


async def test_a_server_that_is_there_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that reads its data yet says so; one that is not there says nothing."""
    monkeypatch.setattr(redis_link, "FIRST", 0.0)

    def failing(error: redis.RedisError) -> Callable[[], str]:
        left = [error, error]

        def once() -> str:
            if left:
                raise left.pop()
            return "answer"

        return once

    link = redis_link.Link("redis://127.0.0.1:1/0", patience=60)
    with pytest.raises(OutOfResource):
        link.trying(failing(redis.ConnectionError("refused")))
    assert link.trying(failing(redis.BusyLoadingError("loading"))) == "answer"
    assert link.trying(failing(redis.ConnectionError("refused"))) == "answer"


@pytest.mark.parametrize("url", ["redis://127.0.0.1:x/0", "redis://127.0.0.1:99999999/0"])
async def test_an_url_that_is_none(url: str, tmp_path: Path) -> None:
    crew = Crew(url, tmp_path)
    with pytest.raises(UsageError):
        crew.another().peek()


# What no crawl has written ------------------------------------------------------------------------


async def test_another_format_is_refused(redis_server: Redis, tmp_path: Path) -> None:
    async with Crew.at(redis_server.url(), tmp_path) as crew:
        worker = await crew.join()
        await worker.commit(Batch(seeds=[found(f"{A}/1")]))
        with redis_server.client() as client:
            client.hset(f"{crew.prefix}meta", "schema", "99")
        with pytest.raises(JobError, match="format 99"):
            await worker.commit(Batch())
        with pytest.raises(JobError, match="format 99"):
            crew.another().peek()
        with pytest.raises(JobError, match="format 99"):
            await crew.join()


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("meta", ("SET", "{}", "x")),
        ("counters", ("SADD", "{}", "x")),
        ("delayed", ("SET", "{}", "x")),
        ("items", ("RPUSH", "{}", "x")),
    ],
)
async def test_keys_of_another_type(
    name: str, command: tuple[str, str, str], redis_server: Redis, tmp_path: Path
) -> None:
    async with Crew.at(redis_server.url(), tmp_path) as crew:
        worker = await crew.join()
        await worker.commit(Batch(seeds=[found(f"{A}/1")]))
        key = f"{crew.prefix}{name}"
        with redis_server.client() as client:
            client.delete(key)
            client.execute_command(command[0], key, command[2])
        with pytest.raises(DamagedState) as caught:
            crew.another().peek()
        assert name in str(caught.value) or "no crawl has written" in str(caught.value)


async def test_the_run_is_named_by_something_else(redis_server: Redis, tmp_path: Path) -> None:
    crew = Crew(redis_server.url(), tmp_path)
    tag = f"{{scrape:books/{crew.job}}}:"
    with redis_server.client() as client:
        client.set(f"{tag}run", "\xff\x00")
        with pytest.raises(DamagedState):
            crew.another().peek()
        client.delete(f"{tag}run")
        client.rpush(f"{tag}run", "x")
        with pytest.raises(DamagedState):
            crew.another().peek()


ENTRIES = (b"", b"\xff", b"1 2 3", b"1 0 0 0 0 0\n{", b"1 0 0 0 0 0\n[]", b"1 x 0 0 0 0\n{}")


@pytest.mark.parametrize("entry", ENTRIES)
async def test_a_request_that_is_none(entry: bytes, redis_server: Redis, tmp_path: Path) -> None:
    async with Crew.at(redis_server.url(), tmp_path) as crew:
        worker = await crew.join()
        await worker.commit(Batch(seeds=[found(f"{A}/1")]))
        with redis_server.client() as client:
            client.lset(f"{crew.prefix}q:{A}", 0, entry)
        with pytest.raises(DamagedState):
            await worker.acquire(Want(1))


async def test_blobs_that_are_none(redis_server: Redis, tmp_path: Path) -> None:
    async with Crew.at(redis_server.url(), tmp_path) as crew:
        worker = await crew.join()
        await worker.commit(Batch(seeds=[found(f"{A}/1")]))
        with redis_server.client() as client:
            for key, field, value in (
                ("state", "callbacks@x", b"\xff"),
                ("positions", "out", b"{"),
                ("counters", "pages", b"many"),
            ):
                client.hset(f"{crew.prefix}{key}", field, value)
                with pytest.raises(DamagedState):
                    crew.another().peek()
                client.hdel(f"{crew.prefix}{key}", field)
        assert crew.another().peek() is not None


async def test_what_is_too_large_is_counted_and_named(
    redis_server: Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(redis_commit, "MAX_OUTPUT", 1000)
    async with Crew.at(redis_server.url(), tmp_path) as crew:
        worker = await crew.join()
        seeds = [found(f"{A}/large", meta={"x": "y" * (1 << 20)}), found(f"{A}/small")]
        answer = await worker.commit(Batch(seeds=seeds, output=[b"x" * 1001, b"y" * 1000]))
        assert (answer.admitted, answer.pending) == (1, 1)
        assert answer.totals == {"reason:request_too_large": 1, "reason:output_too_large": 1}
        told = {failed["reason"]: failed for failed in failures(*crew.place)}
        assert told["request_too_large"]["url"] == f"{A}/large"
        assert "bytes" in told["request_too_large"]["detail"]
        assert "bytes" in told["output_too_large"]["detail"]
        assert f"{A}/large" in caplog.text
        assert await worker.lead() is not None
        assert [data for _, data in await worker.entries("", LARGE)] == [b"y" * 1000]


# The heartbeat ------------------------------------------------------------------------------------


async def test_a_held_loop_is_no_death() -> None:
    beats = threading.Semaphore(0)

    def beat() -> bool:
        beats.release()
        return True

    heart = Heartbeat(beat, 0.001, asyncio.get_running_loop())
    for _ in range(5):
        assert beats.acquire(timeout=60)  # and the loop is held
    heart.stop()


async def test_a_loop_that_is_held_for_too_long_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scraper.frontier.redis_life.LOOP_SECONDS", -1.0)
    beats: list[int] = []

    def beat() -> bool:
        beats.append(1)
        return True

    asked = threading.Event()
    loop = asyncio.get_running_loop()
    heart = Heartbeat(beat, 0.001, loop)
    loop.call_soon(asked.set)
    await until(asked.is_set)
    heart.stop()
    assert beats == []


async def test_the_heart_stops_when_it_is_of_no_use() -> None:
    heart = Heartbeat(lambda: False, 0.001, asyncio.get_running_loop())
    await until(lambda: not heart._thread.is_alive())
    heart.stop()


async def test_a_script_is_sent_whole_when_it_is_forgotten(
    redis_server: Redis, tmp_path: Path
) -> None:
    async with Crew.at(redis_server.url(), tmp_path) as crew:
        worker = await crew.join()
        for n in range(3):
            answer = await worker.commit(Batch(seeds=[found(f"{A}/{n}")]))
            assert answer.admitted == 1
            with redis_server.client() as client:
                client.script_flush()


# Locks --------------------------------------------------------------------------------------------


def test_a_lock_that_is_let_go_is_a_death_of_this_machine_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other, watching = Locks(tmp_path), Locks(tmp_path), Locks(tmp_path)
    mine.take("run", "one")
    other.take("run", "two")
    assert watching.dead("run") == []
    other.release(clean=False)
    assert watching.dead("run") == ["two"]
    assert watching.dead("another") == []
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("scraper.frontier.redis_life.machine", lambda: "elsewhere")
        assert watching.dead("run") == []
    watching.buried("run", ["two"])
    assert watching.dead("run") == []
    mine.release(clean=True)
    assert list((tmp_path / "workers").iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"machine": 7}'])
def test_files_that_are_no_locks_mean_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "run.odd").write_text(text)
    (tmp_path / "workers" / "run.link").symlink_to("/etc/hostname")
    assert Locks(tmp_path).dead("run") == []


async def test_where_nothing_can_be_locked(
    redis_server: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the others wait until its lease has run out."""

    def refuse(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr("scraper.frontier.redis_life.fcntl.flock", refuse)
    async with Crew.at(redis_server.url(), tmp_path) as crew:
        worker = await crew.join()
        assert (await worker.commit(Batch(seeds=[found(f"{A}/1")]))).admitted == 1
        assert list((crew.context.directory / "workers").iterdir()) == []
        await crew.join()
        assert (crew.recovery.others, crew.recovery.unclean) == (1, False)
