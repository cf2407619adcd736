"""The scripts that run on the server, as they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from scraper.errors import UsageError
from scraper.frontier.redis_link import PARTS, script
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
