"""Two sites, and for each page of the documentation the project that its examples make."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from scraper.cli import run_command_line
from scraper.cli.init import make_project, template_directory
from scraper.demo import DemoShop, serve_in_thread
from tests.conftest import missing
from tests.docs.annex import annex
from tests.docs.markdown import ROOT, blocks
from tests.servers.web import Web

ADDRESS = "http://127.0.0.1:8378/"
"""Where the documentation says that the shop is."""

ELSEWHERE = "https://shop.example/"
"""What the documentation calls the site of `annex`."""

EXAMPLE = ROOT / "docs/examples/plugin"
"""The package that docs/plugins.md is about."""

LIFTED = '\n[politeness.hosts."127.0.0.1"]\ndelay = 0\nper_host = 16\n'


@dataclass(frozen=True, slots=True)
class Made:
    """A project with a page's files, entered. `shop`, `elsewhere`: where the sites really are."""

    root: Path
    shop: str
    elsewhere: str

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.placed(text), "utf-8")
        return path

    def placed(self, text: str) -> str:
        """*text* with the addresses that the sites really have."""
        return text.replace(ADDRESS, self.shop).replace(ELSEWHERE, self.elsewhere)

    def run(self, *args: str) -> int:
        return run_command_line(args)


@pytest.fixture(scope="session")
def shop() -> Iterator[DemoShop]:
    with serve_in_thread(DemoShop(outage=0.0)) as opened:
        yield opened


@pytest.fixture(scope="session")
def elsewhere() -> Iterator[str]:
    with Web(annex) as web:
        yield f"{web.url}/"


@pytest.fixture(scope="session")
def extras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip has put the example of a plugin: for PYTHONPATH. No network is used."""
    if find_spec("hatchling") is None:
        missing("hatchling, which builds the example of a plugin", "make develop")
    source = tmp_path_factory.mktemp("example") / "plugin"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    target = tmp_path_factory.mktemp("extras")
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    ran = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", target, source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return target


@pytest.fixture
def project_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shop: DemoShop,
    elsewhere: str,
    request: pytest.FixtureRequest,
) -> Iterator[Callable[[str], Made]]:
    """The project of a page: what `scrape init` makes, and the files that the page shows."""
    for name in [name for name in os.environ if name.startswith("SCRAPE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path, modules = list(sys.path), set(sys.modules)

    def make(page: str) -> Made:
        root = (tmp_path / "project").resolve()
        make_project(root, template_directory())
        made = Made(root, shop.url, elsewhere)
        for block in blocks("python", page):
            if block.file:
                made.write(block.file, block.text)
        if page == "docs/plugins.md":
            monkeypatch.syspath_prepend(str(request.getfixturevalue("extras")))
        monkeypatch.chdir(root)
        monkeypatch.syspath_prepend(str(root))
        return made

    yield make
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.split(".")[0] in {"spiders", "pipelines", "shelf", "scraper_extras"}:
            del sys.modules[name]
