"""What people are told of plugins: list, check and config."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.distribution import distribution

SOURCE = """
from scraper import Pipeline
from scraper.frontier.memory import MemoryFrontier
from scraper.pipelines.append import AppendSink

class Tabs(AppendSink):
    '''Tabs between.

    And more.
    '''
    endings = (".tsv",)
    def __init__(self, path="x.tsv"):
        super().__init__(path)
    async def process(self, item, page):
        return item

class Stage(Pipeline):
    '''Looks.'''

def kept(url, job):
    '''Keeps all.'''
    return MemoryFrontier()
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where `toldfile` is installed: a sink, a stage and a frontier."""
    place = tmp_path / "site"
    names = {"tabs": "toldfile:Tabs", "look": "toldfile:Stage"}
    frontiers = {"kept": "toldfile:kept"}
    distribution(place, "toldfile", SOURCE, "1.2", pipelines=names, frontiers=frontiers)
    monkeypatch.syspath_prepend(str(place))
    yield place
    for name in [n for n, m in sys.modules.items() if str(place) in str(m)]:
        del sys.modules[name]


def test_list_pipelines(scrape: CommandLine, site: Path) -> None:
    said = scrape("list", "--pipelines")  # in no project
    assert (said.code, said.err) == (0, "")
    lines = [line.split(maxsplit=3) for line in said.out.splitlines()]
    assert ["look", "stage", "-", "toldfile 1.2  Looks."] in lines
    assert ["tabs", "sink", ".tsv", "toldfile 1.2  Tabs between."] in lines
    assert ["kept://", "frontier", "-", "toldfile 1.2  Keeps all."] in lines
    told = {line[0]: line[1] for line in lines if "built in" in line[3]}
    assert told["jsonl"] == "sink"
    assert told["sqlite"] == told["memory"] == "frontier"


def test_list_pipelines_as_json(scrape: CommandLine, site: Path) -> None:
    listed = json.loads(scrape("list", "--pipelines", "--json").out)
    assert listed["broken"] == []
    assert {
        "name": "tabs",
        "kind": "sink",
        "endings": [".tsv"],
        "from": "toldfile 1.2",
        "purpose": "Tabs between.",
    } in listed["pipelines"]
    (jsonl,) = [row for row in listed["pipelines"] if row["name"] == "jsonl"]
    assert {".jsonl", ".ndjson"} <= set(jsonl["endings"])


def test_list_pipelines_says_what_is_broken(scrape: CommandLine, site: Path) -> None:
    distribution(site, "breaks", "import nowhere\n", pipelines={"x": "breaks:X"})
    distribution(site, "grabs", pipelines={"jsonl": "grabs:X", "tabs": "toldfile:Tabs"})
    said = scrape("list", "--pipelines")
    assert said.code == 0
    assert "\nx " not in said.out
    complaints = [line for line in said.err.splitlines() if line.startswith("scrape: ")]
    assert len(complaints) == 3
    assert complaints[0].startswith(
        "scrape: not loaded: the plugin x of breaks 1.0 (breaks:X) cannot be loaded: Module"
    )
    assert "jsonl of grabs 1.0" in complaints[1]
    assert "tabs of grabs 1.0" in complaints[2]
    assert "tabs of toldfile 1.2" in complaints[2]
    assert len(json.loads(scrape("list", "--pipelines", "--json").out)["broken"]) == 3


CONFIG = """
[frontier]
url = "kept://u:canary@host/1"

[[pipelines]]
use = "look"
[[pipelines]]
use = "tabs"
path = "data/{spider}.tsv"
"""


def test_check_builds_them_and_says_whose_they_are(project: CommandLine, site: Path) -> None:
    project.write("config.toml", CONFIG)
    said = project("check")
    assert (said.code, said.err) == (0, "")
    assert "ok  config.toml:5: [[pipelines]] look" in said.out
    assert "ok  config.toml:7: [[pipelines]] tabs" in said.out
    assert "ok  config.toml:2: frontier.url: kept of toldfile 1.2 (toldfile:kept)\n" in said.out
    assert "canary" not in said.out


def test_check_finds_what_is_mistyped_broken_or_taken(project: CommandLine, site: Path) -> None:
    distribution(site, "breaks", "import nowhere\n", pipelines={"x": "breaks:X"})
    distribution(site, "grabs", pipelines={"jsonl": "grabs:X"}, frontiers={"redis": "grabs:X"})
    project.write(
        "config.toml",
        """
        [frontier]
        url = "keep://u:canary@host/1"
        [[pipelines]]
        use = "tab"
        [[pipelines]]
        use = "x"
        """,
    )
    said = project("check")
    assert said.code == 2
    told = [line for line in said.err.splitlines() if line.startswith("scrape: ")]
    taken = "has the name of what is built in, which is used instead"
    assert [line.partition(" (breaks")[0] for line in told] == [
        f"scrape: the plugin jsonl of grabs 1.0 (grabs:X) {taken}",
        f"scrape: the plugin redis of grabs 1.0 (grabs:X) {taken}",
        "scrape: config.toml:4: [[pipelines]] tab: no pipeline is called 'tab'; did you mean tabs?",
        "scrape: config.toml:6: [[pipelines]] x: the plugin x of breaks 1.0",
        "scrape: config.toml:2: frontier.url: no frontier is called 'keep'; did you mean kept?",
    ]
    assert "canary" not in said.err


def test_config_shows_what_is_written(project: CommandLine, site: Path) -> None:
    project.write("config.toml", CONFIG)
    said = project("config", "good", "--changed")
    assert (said.code, said.err) == (0, "")
    assert 'url = "kept://***@host/1"' in said.out
    assert 'use = "tabs"' in said.out
    assert "toldfile" not in sys.modules


def test_run_refuses_before_anything_is_made(project: CommandLine, site: Path) -> None:
    for setting, says in (
        ("frontier.url=keep://x", "-s: frontier.url: no frontier is called 'keep'; did you"),
        ('pipelines=[{use="tab"}]', "[[pipelines]] tab: no pipeline is called 'tab'; did you"),
    ):
        said = project("run", "good", "-s", setting)
        assert said.code == 2
        assert says in said.err
    said = project("run", "good", "-o", "x.tvs")
    assert said.code == 2
    assert ".tsv" in said.err
    said = project("run", "good", "--job", "x", "-s", "frontier.url=kept://x")
    assert said.code == 2
    assert "--job x: a job needs a ledger, and MemoryFrontier (frontier.url) forgets" in said.err
    assert not (project.root / ".scrape").exists()
