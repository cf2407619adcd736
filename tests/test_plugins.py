"""What installed packages bring: found by name, told by package, and never in the way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scraper import Spider, plugins, run
from scraper.build import BUILTINS, build, build_stages
from scraper.config import Config
from scraper.errors import ConfigError, UsageError
from scraper.frontier.memory import MemoryFrontier
from scraper.frontier.sqlite import SqliteFrontier
from scraper.pipelines.jsonl import Jsonl
from scraper.protocols import FrontierContext
from tests.distribution import distribution

WHERE = "config.toml:3: [[pipelines]] x"
PLACE = "config.toml:7: frontier.url"
JOB = FrontierContext("books", "default", Path("job"))
TAKEN = {plugins.PIPELINES: BUILTINS, plugins.FRONTIERS: plugins.SCHEMES}

TABS = """
from scraper import Pipeline
from scraper.pipelines.append import AppendSink

class Tabs(AppendSink):
    '''Tabs between.'''
    endings = (".tsv", ".deep.tsv")
    def __init__(self, path="x.tsv"):
        super().__init__(path)
    async def process(self, item, page):
        return item

class Stage(Pipeline):
    endings = (".stage",)
    async def process(self, item, page):
        return item

class Wide:
    recovery = "rewind"
    endings = (".wide",)
    def __init__(self, columns: list[str], path: str = "x.wide"):
        self.path = path
    async def process(self, item, page):
        return item

def function(): ...
class Nothing: ...
class Blocking:
    def process(self, item, page): ...
class Dotless(Stage):
    endings = ("tsv",)
class Bare(Stage):
    endings = ".tsv"
"""

STORES = """
from scraper.errors import UsageError
from scraper.frontier.memory import MemoryFrontier

class Frontier(MemoryFrontier):
    pass

def opened(url, job):
    frontier = Frontier()
    frontier.told = (url, job)
    return frontier

def refuses(url, job):
    raise UsageError("which table?", hint="Name one: store://TABLE.")

def raises(url, job):
    raise KeyError("table\\nand more")

def nothing(url, job):
    return object()

class Half(MemoryFrontier):
    def peek(self): ...

def half(url, job):
    return Half()

constant = 3
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of packages on the import path. What was imported from it is forgotten."""
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(place))
    yield place
    for name in [n for n, m in sys.modules.items() if str(place) in str(m)]:
        del sys.modules[name]


@pytest.fixture
def tabs(site: Path) -> Path:
    names = {
        "tabs": "tabfile:Tabs", "keep": "tabfile:Stage", "wide": "tabfile:Wide",
    }  # fmt: skip
    distribution(site, "tabfile", TABS, "1.2", pipelines=names)
    return site


@pytest.fixture
def stores(site: Path) -> Path:
    names = ("opened", "refuses", "raises", "nothing", "half", "constant")
    entries = {name: f"storefile:{name}" for name in names}
    distribution(site, "storefile", STORES, "2.0", frontiers=entries)
    return site


# Stages and sinks -------------------------------------------------------------------------------


def test_a_plugin_is_found_by_its_name_and_takes_options(tabs: Path, tmp_path: Path) -> None:
    tables = [{"use": "keep"}, {"use": "tabs", "path": "out/{spider}.tsv"}, {"use": "jsonl"}]
    config = Config.model_validate({"pipelines": tables})
    keep, sink, built_in = (p.stage for p in build_stages(config, root=tmp_path))
    assert [type(keep).__name__, type(sink).__name__] == ["Stage", "Tabs"]
    assert sink.path == "out/{spider}.tsv"
    assert type(built_in) is Jsonl


def test_its_options_are_checked_like_any_other(tabs: Path, tmp_path: Path) -> None:
    config = Config.model_validate({"pipelines": [{"use": "tabs", "pth": "a"}]})
    with pytest.raises(ConfigError, match=r"unknown key pth = \"a\"; did you mean path\?"):
        build_stages(config, root=tmp_path)


def test_nobody_asks_for_plugins_who_uses_what_is_built_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entry_points(**_: Any) -> Any:
        raise AssertionError("looked for plugins")

    monkeypatch.setattr(plugins, "entry_points", entry_points)
    config = Config.model_validate({"pipelines": [{"use": "jsonl"}]})
    assert len(build_stages(config, root=tmp_path, output="x.jsonl")) == 1
    assert len(build_stages(config, root=tmp_path, output="-")) == 1


def test_nothing_that_runs_a_crawl_imports_what_looks_for_plugins() -> None:
    program = "import sys, scraper.session; sys.exit('scraper.plugins' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_mistyped_name_is_told_the_nearest(tabs: Path) -> None:
    with pytest.raises(UsageError) as caught:
        plugins.pipeline("tab", BUILTINS, WHERE)
    assert caught.value.message == f"{WHERE}: no pipeline is called 'tab'; did you mean tabs?"
    assert f"Built in: {', '.join(BUILTINS)}." in caught.value.hint
    assert "Installed: keep (tabfile 1.2), tabs (tabfile 1.2), wide (tabfile 1.2)." in (
        caught.value.hint
    )
    assert 'use = "module:Class"' in caught.value.hint
    with pytest.raises(UsageError, match=r"did you mean jsonl\?"):
        plugins.pipeline("jsnl", BUILTINS, WHERE)
    with pytest.raises(UsageError, match=r"no pipeline is called 'qqq'\n"):
        plugins.pipeline("qqq", BUILTINS, WHERE)
    assert "tabfile" not in sys.modules, "a name is no reason to import anything"


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("tabfile:function", "is no pipeline: it is not a class"),
        ("tabfile:Nothing", "is no pipeline: it has no `async def process(self, item, page)`"),
        ("tabfile:Blocking", "is no pipeline: it has no `async def process(self, item, page)`"),
        ("tabfile:Dotless", "endings is ('tsv',)"),
        ("tabfile:Bare", "endings is '.tsv'"),
        ("tabfile:Gone", "cannot be loaded: AttributeError"),
        ("nowhere:X", "cannot be loaded: ModuleNotFoundError: No module named 'nowhere'"),
        ("not a reference", "cannot be loaded: "),
    ],
)
def test_a_broken_plugin_is_one_line_that_names_its_package(
    site: Path, reference: str, says: str
) -> None:
    distribution(site, "tabfile", TABS, pipelines={"x": reference})
    with pytest.raises(UsageError) as caught:
        plugins.pipeline("x", BUILTINS, WHERE)
    assert caught.value.exit_code == 2
    assert caught.value.message.startswith(f"{WHERE}: the plugin x of tabfile 1.0 ({reference})")
    assert says in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("raised", ["import nowhere_either", "raise SystemExit(3)", "1 / 0"])
def test_an_import_that_fails_is_told_with_its_line(site: Path, raised: str) -> None:
    distribution(site, "breaks", f"import json\n{raised}\n", pipelines={"x": "breaks:X"})
    with pytest.raises(ConfigError) as caught:
        plugins.pipeline("x", BUILTINS, WHERE)
    assert caught.value.message.endswith(f" ({site}/breaks.py:2)")
    assert caught.value.__cause__ is not None, "--debug shows it"


def test_two_packages_with_one_name(tabs: Path) -> None:
    distribution(tabs, "other", pipelines={"tabs": "other:Tabs"})
    with pytest.raises(ConfigError) as caught:
        plugins.pipeline("tabs", BUILTINS, WHERE)
    assert "tabs of other 1.0 (other:Tabs) and tabs of tabfile 1.2 (tabfile:Tabs)" in str(
        caught.value
    )
    assert plugins.pipeline("keep", BUILTINS, WHERE).__name__ == "Stage"
    (clash,) = plugins.clashes(TAKEN)
    assert "other 1.0" in clash.message


def test_a_package_that_lies_on_the_path_twice_is_one(
    tabs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path / "more", "tabfile", version="1.1", pipelines={"tabs": "old:Tabs"})
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "more")])
    assert plugins.pipeline("tabs", BUILTINS, WHERE).__name__ == "Tabs"
    assert list(plugins.clashes(TAKEN)) == []


def test_what_is_built_in_stays_what_it_is(site: Path, tmp_path: Path) -> None:
    distribution(
        site,
        "grabs",
        TABS,
        pipelines={"jsonl": "grabs:Tabs"},
        frontiers={"sqlite": "grabs:Tabs", "redis": "grabs:Tabs"},
    )
    config = Config.model_validate({"pipelines": [{"use": "jsonl"}]})
    (placed,) = build_stages(config, root=tmp_path)
    assert type(placed.stage) is Jsonl
    told = [error.message for error in plugins.clashes(TAKEN)]
    assert told == [
        f"the plugin {name} of grabs 1.0 (grabs:Tabs) has the name of what is built in,"
        " which is used instead"
        for name in ("jsonl", "redis", "sqlite")
    ]


# -o ---------------------------------------------------------------------------------------------


def output(file: str, tmp_path: Path) -> Any:
    (placed,) = build_stages(Config(), root=tmp_path, output=file)
    return placed.stage


def test_an_ending_finds_its_sink(tabs: Path, tmp_path: Path) -> None:
    for file in ("a.tsv", "b.TSV", "c.deep.tsv", "d.tsv.gz", "e.tsv.zst"):
        sink = output(f"{tmp_path}/{file}", tmp_path)
        assert type(sink).__name__ == "Tabs"
        assert sink.path == f"{tmp_path}/{file}"


@pytest.mark.parametrize("file", ["x.stage", "x.tsv.bz2", "tsv", ".tsv", "x"])
def test_an_ending_that_nobody_has(tabs: Path, tmp_path: Path, file: str) -> None:
    distribution(tabs, "breaks", "import nowhere_at_all\n", pipelines={"x": "breaks:X"})
    with pytest.raises(UsageError) as caught:
        output(file, tmp_path)
    assert caught.value.message.startswith(f"-o {file}: what to write is told by the ending")
    first, second = caught.value.hint.splitlines()
    assert first.startswith("Use one of .jsonl, ")
    assert ".tsv, .deep.tsv, .wide, with .gz or .zst after it" in first
    assert ".stage" not in first
    assert second.startswith("the plugin x of breaks 1.0 (breaks:X) cannot be loaded: Module")


def test_a_broken_plugin_is_not_in_the_way_of_another_sink(tabs: Path, tmp_path: Path) -> None:
    distribution(tabs, "breaks", "import nowhere_at_all\n", pipelines={"x": "breaks:X"})
    assert type(output("a.tsv", tmp_path)).__name__ == "Tabs"


def test_the_longest_ending_wins(tabs: Path, tmp_path: Path) -> None:
    source = TABS.replace('(".tsv", ".deep.tsv")', '(".very.deep.tsv",)')
    distribution(tabs, "deeper", source, pipelines={"deeper": "deeper:Tabs"})
    assert type(output("a.very.deep.tsv", tmp_path)).__module__ == "deeper"
    assert type(output("a.deep.tsv", tmp_path)).__module__ == "tabfile"


def test_two_packages_with_one_ending(tabs: Path, tmp_path: Path) -> None:
    distribution(tabs, "other", TABS, pipelines={"others": "other:Tabs"})
    with pytest.raises(ConfigError) as caught:
        output("a.tsv", tmp_path)
    assert "two plugins write .tsv: others of other 1.0 (other:Tabs) and tabs of tabfile" in (
        caught.value.message
    )


def test_two_names_of_one_class_are_one_sink(tabs: Path, tmp_path: Path) -> None:
    distribution(tabs, "alias", pipelines={"tab-separated": "tabfile:Tabs"})
    assert type(output("a.tsv", tmp_path)).__name__ == "Tabs"


def test_a_sink_that_needs_more_than_a_path(tabs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"-o a\.wide: Wide needs columns"):
        output("a.wide", tmp_path)


def test_a_sink_that_cannot_be_compressed(tabs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"-o a\.wide\.gz: Wide cannot be compressed as a whole"):
        output("a.wide.gz", tmp_path)


# Frontiers --------------------------------------------------------------------------------------


class Books(Spider):
    name = "books"
    start_urls = ["http://127.0.0.1:9/"]


def frontier(url: str, root: Path, ledger: bool = True) -> Any:
    config = Config.model_validate({"frontier": {"url": url}})
    file = root / ".scrape/books/default/ledger.sqlite" if ledger else None
    return build(Books(), config, root=root, ledger=file, frontier_place=PLACE).frontier


def test_a_frontier_is_made_with_its_url_and_its_job(stores: Path, tmp_path: Path) -> None:
    made = frontier("opened://u:secret@host/3?a=b", tmp_path)
    assert isinstance(made, MemoryFrontier)
    job = FrontierContext("books", "default", tmp_path / ".scrape/books/default")
    assert vars(made)["told"] == ("opened://u:secret@host/3?a=b", job)
    assert not (tmp_path / ".scrape").exists()


def test_without_a_ledger_it_is_in_memory_whatever_the_url(stores: Path, tmp_path: Path) -> None:
    assert type(frontier("opened://x", tmp_path, ledger=False)) is MemoryFrontier
    assert type(frontier("sqlite", tmp_path)) is SqliteFrontier


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("refuses://x", f"{PLACE}: which table?"),
        ("raises://x", "(storefile:raises) refuses it: KeyError: 'table"),
        (
            "nothing://x",
            "makes no frontier: object lacks open, acquire, commit, pending, next_due, aclose",
        ),
        ("half://x", "makes no frontier: Half lacks retire, set_aside"),
        ("constant://x", "makes no frontier: it cannot be called"),
        ("opend://x", f"{PLACE}: no frontier is called 'opend'; did you mean opened?"),
        ("sqlit://x", f"{PLACE}: no frontier is called 'sqlit'; did you mean sqlite?"),
    ],
)
def test_a_frontier_that_cannot_be(stores: Path, tmp_path: Path, url: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        frontier(url, tmp_path)
    assert says in caught.value.message
    assert caught.value.message.startswith(f"{PLACE}: ")
    assert caught.value.exit_code == 2
    if "no frontier is called" in says:
        assert caught.value.hint.startswith("Built in: sqlite, memory. Installed: constant (store")
    if url == "refuses://x":
        assert caught.value.hint == "Name one: store://TABLE."


def test_two_packages_with_one_scheme(stores: Path, tmp_path: Path) -> None:
    distribution(stores, "another", STORES, frontiers={"opened": "another:opened"})
    with pytest.raises(ConfigError, match=r"opened of another 1\.0 .* and opened of storefile"):
        frontier("opened://x", tmp_path)


def test_a_frontier_that_forgets_keeps_no_job(
    stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"job='x': a job needs a ledger, and Frontier \(frontier"):
        run(Books, job="x", settings={"frontier.url": "opened://"})
    assert not (tmp_path / ".scrape").exists()
