"""The composition root: short names, endings, and where rejected items go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scraper import Spider
from scraper.build import BUILTINS, EXTRAS, OUTPUT_ENDINGS, build, build_stages, builtin
from scraper.config import Config
from scraper.errors import UsageError
from scraper.frontier.redis import RedisFrontier
from scraper.pipelines.compression import COMPRESSED


class Books(Spider):
    name = "books"
    start_urls = ("http://127.0.0.1/",)


def config(*pipelines: dict[str, Any]) -> Config:
    return Config.model_validate({"pipelines": list(pipelines)})


def output(name: str) -> Any:
    (placed,) = build_stages(config(), root=Path.cwd(), output=name)
    return placed.stage


def test_every_short_name_is_there() -> None:
    for name in BUILTINS:
        assert callable(builtin(name).process), name
    assert {*OUTPUT_ENDINGS.values()} <= {*BUILTINS}


def test_optional_libraries_are_imported_when_used() -> None:
    program = (
        "import sys, scraper.build, scraper.session\n"
        f"print([m for m in {[*EXTRAS]} if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (told.stdout, told.stderr) == ("[]\n", "")


@pytest.mark.parametrize("library", EXTRAS)
def test_missing_library_names_its_extra(
    library: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "needy_sink.py").write_text(f"import {library}.something\nclass Needy: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setattr("scraper.build.BUILTINS", {"needy": "needy_sink:Needy"})
    monkeypatch.setattr("scraper.build.OUTPUT_ENDINGS", {".needy": "needy"})
    needs = f"needs {library}: pip install 'scraper-framework[{EXTRAS[library]}]'"
    with pytest.raises(UsageError) as caught:
        build_stages(config({"use": "needy"}), root=tmp_path)
    assert str(caught.value) == f'pipelines[0] needy: use = "needy" {needs}'
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError) as caught:
        output("x.needy")
    assert str(caught.value) == f"-o x.needy {needs}"


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix"])
def test_a_frontier_whose_library_is_missing_names_its_extra(
    scheme: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    for name in [name for name in sys.modules if name.startswith("scraper.frontier.redis")]:
        monkeypatch.delitem(sys.modules, name)
    settings = Config.model_validate({"frontier": {"url": f"{scheme}://:c4nary@h/0"}})
    with pytest.raises(UsageError) as caught:
        build(Books(), settings, root=tmp_path, ledger=tmp_path / "job" / "ledger.sqlite")
    assert "needs redis: pip install 'scraper-framework[redis]'" in str(caught.value)
    assert "frontier.url" in str(caught.value)
    assert "c4nary" not in str(caught.value)


def test_a_shared_frontier_is_told_the_settings(tmp_path: Path) -> None:
    table = {"url": "redis://127.0.0.1:1/0", "lease": 7, "patience": 11}
    settings = Config.model_validate({"frontier": table})
    parts = build(Books(), settings, root=tmp_path, ledger=tmp_path / "job" / "ledger.sqlite")
    frontier = parts.frontier
    assert isinstance(frontier, RedisFrontier)
    assert (frontier.context.spider, frontier.context.job) == ("books", "job")
    assert (frontier._lease, frontier._patience) == (7, 11)


def test_what_is_missing_otherwise_is_no_matter_of_extras(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_sink.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("scraper.build.BUILTINS", {"broken": "broken_sink:Broken"})
    with pytest.raises(ModuleNotFoundError):
        builtin("broken")


@pytest.mark.parametrize("ending", OUTPUT_ENDINGS)
def test_the_ending_says_what_is_written(ending: str) -> None:
    assert isinstance(output(f"x{ending}"), builtin(OUTPUT_ENDINGS[ending]))
    assert isinstance(output(f"x{ending.upper()}"), builtin(OUTPUT_ENDINGS[ending]))


@pytest.mark.parametrize("ending", COMPRESSED)
def test_the_last_ending_compresses(ending: str) -> None:
    assert isinstance(output(f"x.jsonl{ending}"), builtin("jsonl"))


@pytest.mark.parametrize("name", ["x", "x.gz", "x.xyz", "x.jsonl.xyz", "x.gz.zst", ".jsonl", "x."])
def test_unknown_endings_name_the_known(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        output(name)
    assert name in caught.value.message
    assert all(ending in caught.value.hint for ending in [*OUTPUT_ENDINGS, *COMPRESSED])


class Kept:
    """A sink that has no file."""

    recovery = "redo"

    async def process(self, item: Any, page: Any) -> Any:
        return item

    key = property(lambda self: "kept")
    open = rewind = apply = publish = set_aside = aclose = describe = process


class Table(Kept):
    def __init__(self, path: str = "data/shop.db") -> None:
        self.path = path


KEPT, TABLE = {"use": f"{__name__}:Kept"}, {"use": f"{__name__}:Table"}


@pytest.mark.parametrize(
    ("pipelines", "path"),
    [
        ([], "data/{spider}.rejected.jsonl"),
        ([{"use": "jsonl", "path": "o/x.jsonl.gz"}], "o/x.rejected.jsonl"),
        ([KEPT], "data/{spider}.rejected.jsonl"),
        ([KEPT, {"use": "jsonl", "path": "x.jsonl"}], "x.rejected.jsonl"),
        ([TABLE, {"use": "jsonl"}], "data/shop.{spider}.rejected.jsonl"),
    ],
)
def test_rejected_items_lie_beside_the_first_file(
    pipelines: list[dict[str, Any]], path: str
) -> None:
    parts = build(Books(), config(*pipelines), root=Path.cwd())
    assert parts.chain.rejected is not None
    assert parts.chain.rejected.path == path


def test_rejected_items_are_appended_where_the_output_is() -> None:
    parts = build(Books(), config({"use": "jsonl", "mode": "append"}), root=Path.cwd())
    assert parts.chain.rejected is not None
    assert parts.chain.rejected.mode == "append"


def test_no_rejected_file_where_nothing_is_written() -> None:
    assert build(Books(), config(), root=Path.cwd(), output="-").chain.rejected is None
    alone = build(Books(), config(), root=Path.cwd(), default_output=False)
    assert alone.chain.rejected is None
