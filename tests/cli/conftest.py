"""A command line that runs in this process, in a project of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from scraper.cli import run_command_line


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


@dataclass(slots=True)
class CommandLine:
    """`scrape …` in the directory `root`."""

    root: Path
    capture: pytest.CaptureFixture[str]

    def __call__(self, *args: str | Path) -> Said:
        self.capture.readouterr()
        code = run_command_line([str(arg) for arg in args])
        return Said(code, *self.capture.readouterr())

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"), "utf-8")
        return path


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No SCRAPE_ variables, 80 columns, and the interpreter's imports as they were."""
    for name in [name for name in os.environ if name.startswith("SCRAPE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.split(".")[0] in {"spiders", "pipelines"}:
            del sys.modules[name]


@pytest.fixture
def scrape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """A command line in an empty directory."""
    root = (tmp_path / "here").resolve()
    root.mkdir()
    monkeypatch.chdir(root)
    return CommandLine(root, capsys)


GOOD = """
from scraper import Spider

class Good(Spider):
    '''Good pages.

    More words.
    '''

    name = "good"
    start_urls = ["http://127.0.0.1:9/"]
    pages: int = 1

    async def parse(self, response):
        yield {"url": response.url}
"""


@pytest.fixture
def project(scrape: CommandLine) -> CommandLine:
    """A command line in a project with one spider, `good`."""
    scrape.write("config.toml", "[crawl]\nmax_pages = 7\n")
    scrape.write("spiders/site.py", GOOD)
    return scrape
