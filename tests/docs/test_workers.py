"""What the page on many workers shows for servers, services and containers is fit for use."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scraper import layers
from scraper.cli.line import GRACE
from scraper.config import Crawl
from scraper.servers import on_redis
from tests.conftest import missing
from tests.docs.generate import click_command
from tests.docs.markdown import ROOT, blocks, text_of
from tests.servers.redis import Redis

PAGE = "docs/workers.md"
PROGRAM = "/srv/scrape/.venv/bin/scrape"


def shown(language: str) -> dict[str, str]:
    """The blocks in *language*, by the path that their first line names."""
    found = {}
    for block in blocks(language, PAGE):
        named = re.match(r"# (\S+)\n", block.text)
        found[named[1] if named else ""] = block.text
    return found


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    value = yaml.safe_load(shown("yaml")["compose.yaml"])
    assert isinstance(value, dict)
    return value


def command_lines(compose: dict[str, Any]) -> Iterator[list[str]]:
    """The words after `scrape` in units and containers."""
    for text in shown("ini").values():
        for line in re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE):
            program, *words = shlex.split(line)
            assert program == PROGRAM
            yield words
    assert shown("dockerfile")["Containerfile"].endswith('\nENTRYPOINT ["scrape"]\n')
    yield from (
        service["command"] for name, service in compose["services"].items() if name != "ledger"
    )


def test_command_lines_are_accepted(compose: dict[str, Any]) -> None:
    lines = list(command_lines(compose))
    assert len(lines) == 4
    for command, *words in lines:
        context = click_command(command).make_context(command, words)
        assert context.params["workers"] >= 2
    assert [context.count("--join") for context in lines] == [0, 1, 0, 1]


def test_units(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        missing("systemd-analyze", "apt-get install systemd")
        raise AssertionError
    for path, text in shown("ini").items():
        unit = tmp_path / path.removeprefix("/etc/systemd/system/")
        unit.parent.mkdir(exist_ok=True)
        unit.write_text(text.replace(PROGRAM, "/bin/true"))
    for name in ("scrape@.service", "scrape@.timer"):
        ran = subprocess.run(
            [verify, "verify", "--man=no", tmp_path / name],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", ""), name
    service = (tmp_path / "scrape@.service").read_text()
    stop = re.search(r"^TimeoutStopSec=(\d+)$", service, re.MULTILINE)
    assert stop is not None
    assert int(stop[1]) > Crawl().drain_timeout + 2 * GRACE, "or systemd kills what ends cleanly"


def test_containers(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert {volume for s in services.values() for volume in s["volumes"]} == {
        "ledger:/data", "state:/crawl/.scrape", "output:/crawl/data"
    }  # fmt: skip
    assert set(compose["volumes"]) == {"ledger", "state", "output"}
    assert services["more"]["volumes"] == services["first"]["volumes"]
    for name in ("first", "more"):
        assert services[name]["stop_grace_period"] == "90s"
        assert services[name]["environment"]["SCRAPE_FRONTIER__URL"] == "redis://ledger:6379/0"
    copied = re.findall(r"\nCOPY \S+ (\S+) ", shown("dockerfile")["Containerfile"])
    assert len(copied) == 3
    assert all((ROOT / source).exists() for source in copied)


def settings_of_the_server(compose: dict[str, Any]) -> dict[str, str]:
    words = compose["services"]["ledger"]["command"]
    assert words[0] == "valkey-server"
    return {n.removeprefix("--"): v for n, v in zip(words[1::2], words[2::2], strict=True)}


def test_a_server_starts_with_what_is_shown(redis_binary: str, compose: dict[str, Any]) -> None:
    (written,) = (b.text for b in blocks("conf", PAGE) if b.text.startswith("appendonly"))
    by_hand = dict(line.split() for line in written.splitlines())
    in_container = settings_of_the_server(compose)
    assert by_hand.items() <= in_container.items()
    options = {name.replace("-", "_"): value for name, value in in_container.items()}
    with Redis(redis_binary, **options) as server, server.client() as client:
        told = client.config_get("*")
    assert (told["appendonly"], told["appendfsync"]) == ("yes", "everysec")
    assert (told["maxmemory-policy"], told["maxmemory"]) == ("noeviction", str(2 * 1024**3))


def test_the_address_of_a_server_over_tls_is_one() -> None:
    (line,) = (block.text.strip() for block in blocks("sh", PAGE))
    name, _, url = line.partition("=")
    loaded = layers.load(None, environ={name: url})
    assert on_redis(loaded.config.frontier.url)
    for shown_url in re.findall(r"`(unix://[^`]+|rediss?://[^`]+/\d)`", text_of(PAGE)):
        assert on_redis(shown_url)
