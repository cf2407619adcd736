"""The example of a plugin is installed as its readers would, used, and runs its own tests."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.crawl.harness import GRAPH_SPIDER, Project
from tests.docs.conftest import EXAMPLE
from tests.docs.markdown import ROOT, blocks
from tests.servers.graph import Graph
from tests.servers.web import Web

PAGE = "docs/plugins.md"
GRAPH = Graph(60)


def test_what_the_page_shows_is_the_example() -> None:
    shown = [block for kind in ("python", "toml") for block in blocks(kind, PAGE)]
    files = {block.file: block.text.partition("\n")[2] for block in shown}
    config = files.pop("config.toml")
    assert {use["use"] for use in tomllib.loads(config)["pipelines"]} == {"slug", "ltsv"}
    assert files.pop("pyproject.toml") in (EXAMPLE / "pyproject.toml").read_text("utf-8")
    assert set(files) == {"scraper_extras/ltsv.py"}
    for name, text in files.items():
        assert text == (EXAMPLE / name).read_text("utf-8")


def test_it_is_installed_with_its_entry_points(extras: Path) -> None:
    (found,) = distributions(path=[str(extras)])
    assert (found.name, found.version) == ("scraper-extras", "1.0")
    names = {(entry.group, entry.name) for entry in found.entry_points}
    assert names == {
        ("scraper.pipelines", "slug"),
        ("scraper.pipelines", "ltsv"),
        ("scraper.frontiers", "sample"),
    }
    assert (extras / "scraper_extras/py.typed").is_file()


@pytest.fixture
def crawls(tmp_path: Path, extras: Path) -> Project:
    """A project whose processes have the example installed; its spider is `pages`."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    made = Project(tmp_path / "project", scratch)
    made.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{extras}"
    made.spider(GRAPH_SPIDER)
    return made


def rows(path: Path) -> list[dict[str, str]]:
    lines = path.read_text("utf-8").splitlines()
    return [dict(cell.split(":", 1) for cell in line.split("\t")) for line in lines]


def test_the_configuration_of_the_page(crawls: Project) -> None:
    (config,) = [block for block in blocks("toml", PAGE) if block.file == "config.toml"]
    crawls.config(config.text)
    assert "ltsv" in crawls.scrape("check").expect(0).out
    listed = crawls.scrape("list", "--pipelines").expect(0)
    assert listed.err == ""
    lines = [line for line in listed.out.splitlines() if "scraper-extras 1.0" in line]
    assert [line.split()[:3] for line in lines] == [
        ["ltsv", "sink", ".ltsv"],
        ["slug", "stage", "-"],
        ["sample://", "frontier", "-"],
    ]
    with Web(GRAPH) as web:
        done = crawls.scrape("run", "pages", "-a", f"base={web.url}", "--json").expect(0)
    assert (done.json["items"], done.json["job"]) == (50, None)
    made = rows(crawls.path("data/pages.ltsv"))
    assert len({row["n"] for row in made}) == 50
    assert all(row["slug"] == row["title"].lower().replace(" ", "-") for row in made)
    assert not crawls.path(".scrape").exists()


def test_an_output_by_its_ending(crawls: Project) -> None:
    with Web(GRAPH) as web:
        command = ("run", "pages", "-a", f"base={web.url}", "--limit", "7", "-o")
        crawls.scrape(*command, "out.ltsv").expect(0)
        assert len(rows(crawls.path("out.ltsv"))) == 7
        crawls.scrape(*command, "out.ltsv.gz").expect(0)
        packed = gzip.decompress(crawls.path("out.ltsv.gz").read_bytes())
        assert packed.count(b"\n") == 7
        said = crawls.scrape(*command, "out.lsv").expect(2)
    assert ".ltsv, with .gz or .zst after it" in said.err


def test_its_own_tests_pass(extras: Path, tmp_path: Path) -> None:
    """Against what was installed: the sources are not there."""
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    shutil.copy(EXAMPLE / "pyproject.toml", tmp_path)
    ran = run(extras, tmp_path, "pytest", "-p", "no:cacheprovider", "-W", "error")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout
    assert "failed" not in ran.stdout


def test_it_checks_under_mypy_strict(extras: Path, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    shutil.copytree(EXAMPLE / "scraper_extras", tmp_path / "scraper_extras")
    ran = run(extras, tmp_path, "mypy", "--strict", "scraper_extras", "tests")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def run(extras: Path, place: Path, module: str, *args: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), *([str(extras)] if module == "pytest" else [])])
    return subprocess.run(
        [sys.executable, "-m", module, *args],
        cwd=place,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
