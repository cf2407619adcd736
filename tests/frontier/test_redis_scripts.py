"""The scripts that run on the server, as they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from scraper.errors import UsageError
from scraper.frontier.redis_link import PARTS, script
from scraper.testing.frontier import found
from scraper.work import Batch, HostReturn, Want
from tests.frontier.redishelp import Crew
from tests.servers.redis import Redis


@pytest.mark.parametrize("name", PARTS)
def test_a_script_is_within_the_bounds_of_lua(name: str, redis_server: Redis) -> None:
    """It compiles: no more locals, and no more of them caught by a function, than Lua has."""
    with redis_server.client() as client:
        assert client.script_load(script(name).text) == script(name).sha


async def test_a_user_without_a_right_is_told(redis_server: Redis, tmp_path: Path) -> None:
    with redis_server.client() as client:
        rules = ["reset", "on", ">PASSWORD", "~*", "+@all", "-hset"]
        client.execute_command("ACL", "SETUSER", "poor", *rules)
        crew = Crew(redis_server.url().replace("//", "//poor:PASSWORD@"), tmp_path)
        try:
            with pytest.raises(UsageError, match="does not let us in"):
                await crew.join()
        finally:
            client.execute_command("ACL", "DELUSER", "poor")


async def test_more_hosts_than_lua_has_room_for(redis_server: Redis, tmp_path: Path) -> None:
    """Who sets `crawl.group_pages` to thousands may hold as many hosts."""
    hosts = [f"http://h{n}" for n in range(8500)]
    async with Crew.at(redis_server.url(), tmp_path) as crew:
        worker = await crew.join()
        await worker.commit(Batch(seeds=[found(f"{host}/") for host in hosts]))
        for _ in range(2):
            given = await worker.acquire(Want(len(hosts)))
            assert sorted(granted.host for granted in given) == sorted(hosts)
            assert await worker.acquire(Want(1, held=hosts)) == []
            await worker.commit(Batch(returned=[HostReturn(host, b"", 0.0) for host in hosts]))
