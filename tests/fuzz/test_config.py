"""What people write: config.toml, -s, the environment, spider arguments, whole command lines."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scraper import Spider
from scraper.cli import run_command_line
from scraper.errors import ConfigError, SpiderError
from scraper.layers import SettingsError, load
from scraper.mistakes import shown
from scraper.spider import validate_arguments
from tests.crawl.harness import tree
from tests.fuzz.material import attempt, examples, mutated

REPOSITORY = Path(__file__).parents[2]
FENCE = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILES = [
    (REPOSITORY / "config.toml").read_bytes(),
    *(
        text.encode()
        for page in sorted((REPOSITORY / "docs").glob("*.md"))
        for text in FENCE.findall(page.read_text())
    ),
]
WORDS = [
    b"[", b"]", b"[[", b"]]", b"{", b"}", b"=", b".", b'"', b"'", b'"""', b"'''", b"#", b"\n",
    b"\r", b",", b"\\",
    b"\\ud800", b"\\u0000", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"-1", b"1e999",
    b"nan", b"inf", b"true",
    b"0x", b"1979-05-27T07:32:00Z", b"9" * 400, b"[crawl]\n", b"[polteness]\n",
    b"concurency = 4\n", b"delay = -1\n",
    b'delay = "fast"\n', b'"" = 1\n', b'[politeness.hosts."*"]\n', b"[spiders.books.crawl]\n",
    b"[[pipelines]]\n",
    b'use = "jsnol"\n', b'use = "csv"\n', b'use = ""\n', b'use = "a.b:C"\n', b"items = [1]\n",
    b"path = 7\n",
    b"[spiders]\n", b"spiders = 1\n", b"pipelines = {}\n", b"headers = { X = \"a\\nb\" }\n",
    b"[" * 2000,
    b'proxy = "http://user:canary@"\n', b"max_body = \"16 XB\"\n", b"\x1b[31m",
]  # fmt: skip
PLACE = re.compile(r"config\.toml(:\d+)?: ")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with one spider; the working directory meanwhile."""
    root = tmp_path_factory.mktemp("project").resolve()
    (root / "spiders").mkdir()
    (root / "spiders" / "books.py").write_text(
        "from scraper import Spider\n\nclass Books(Spider):\n    name = 'books'\n"
        "    start_urls = ['http://127.0.0.1:9/']\n    pages: int = 1\n\n"
        "    async def parse(self, response):\n        yield {}\n"
    )
    (root / "config.toml").write_text("")
    with contextlib.chdir(root):
        yield root


def command(*args: str) -> tuple[int, str]:
    """The exit code and what was said on stderr, of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command_line(list(args))
    said = err.getvalue()
    assert "Traceback" not in out.getvalue() + said
    assert "internal error" not in said
    assert "\x1b" not in said
    return code, said


@examples(100)
@given(mutated(FILES, WORDS))
@example(b"[\rcrawl]\n")
@example(b'[proxy = "http://user:canary@"\n')
def test_config_toml(project: Path, data: bytes) -> None:
    path = project / "config.toml"
    path.write_bytes(data)
    loaded = attempt(ConfigError, lambda: load(path, spider="books"))
    if isinstance(loaded, ConfigError):
        problems = loaded.problems if isinstance(loaded, SettingsError) else (loaded.message,)
        for problem in problems:
            assert PLACE.search(problem), problem
            assert len(problem.splitlines()) == 1, problem
            assert "canary" not in problem
    else:
        assert all(origin for origin in loaded.origins.values())


@examples(25)
@given(mutated(FILES, WORDS))
def test_commands_with_any_config(project: Path, data: bytes) -> None:
    (project / "config.toml").write_bytes(data)
    before = tree(project)
    code, said = command("check")
    assert code in {0, 2}, said
    assert code == 0 or said.strip()
    code, said = command("config", "books")
    assert code in {0, 2}, said
    assert tree(project) == before
    (project / "config.toml").write_text("")


OVERRIDES = st.lists(
    st.sampled_from([
        "crawl", "politeness", ".", "=", "max_pages", "delay", "1", "-1", "nan", "[", "]", "{",
        "}", '"', "'", "#",
        "pipelines", "spiders", "books", "hosts", '"*.example"', "true", "\n", " ", "x" * 300,
        "\ud800", "log.file",
    ])
    | st.text(max_size=4),
    max_size=8,
).map("".join)  # fmt: skip


@examples(80)
@given(st.lists(OVERRIDES, max_size=3), st.dictionaries(OVERRIDES, OVERRIDES, max_size=2))
@example(["crawl.max_pages=" + "[" * 20_000], {})
def test_overrides_and_environment(overrides: list[str], environ: dict[str, str]) -> None:
    named = {f"SCRAPE_{name.upper()}": value for name, value in environ.items()}
    try:
        load(None, overrides=overrides, environ=named)
    except SettingsError as error:
        for problem in error.problems:
            assert problem.startswith(("-s", "SCRAPE_", "environment")), problem


class Arguments(Spider):
    name = "arguments"
    pages: int = 1
    ratio: float = 1.0
    price: Decimal = Decimal(1)
    since: date | None = None
    names: list[str] = []
    table: dict[str, int] = {}
    kind: Literal["a", "b"] = "a"
    flag: bool = False
    anything: Any = None


VALUES = st.lists(
    st.sampled_from([
        "1", "-", "9" * 5000, "nan", "inf", "1e999", "[", "]", "{", "}", '"', ":", ",", "null",
        "true", "2026-01-31",
        "\ud800", "\0", "a", " ", "[" * 3000, '{"a":' * 1000,
    ])
    | st.text(max_size=4),
    max_size=5,
).map("".join)  # fmt: skip


@examples(80)
@given(
    st.dictionaries(st.sampled_from([*Arguments.__annotations__, "pagse", ""]), VALUES, max_size=3)
)
@example({"names": "[" * 200_000})
def test_arguments(given_: dict[str, str]) -> None:
    values = attempt(SpiderError, lambda: validate_arguments(Arguments, given_))
    if isinstance(values, SpiderError):
        assert "arguments" in values.message
        assert len(values.message.splitlines()) == 1, values.message
    else:
        assert set(values) == set(Arguments.__annotations__)


PARTS = st.sampled_from([
    "run", "bookz", "check", "list", "config", "status", "failures", "-a", "-s", "-o", "--job",
    "-1", "--limit", "../..", "\0", "out.xlsx", "--help", "--jsno", "-", "--", "", "books.py:Books",
])  # fmt: skip


@examples(15)
@given(st.lists(PARTS | st.text(max_size=5), max_size=5))
def test_command_lines(project: Path, args: list[str]) -> None:
    before = tree(project)
    code, said = command(*args)
    assert code in {0, 1, 2}, said
    assert tree(project) == before


@given(st.text(), st.text(max_size=5))
def test_values_are_shown_in_one_line(value: str, key: str) -> None:
    assert len(shown(value, key).splitlines()) <= 1
