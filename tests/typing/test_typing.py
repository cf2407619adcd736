"""The public face under a type checker, as users have it: `mypy --strict`, the package installed.

Neither this repository's settings for mypy nor its plugins count here.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

import scraper
from scraper import types
from scraper.demo import DemoShop, serve_in_thread
from tests.docs.markdown import FROM_SCRAPY, blocks

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROGRAM = HERE / "program.py"
WRONG = HERE / "wrong.py"

Said = dict[int, list[str]]
Check = Callable[[Path], tuple[int, Said]]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a user would work. What mypy found out about the package is kept there."""
    made = tmp_path_factory.mktemp("user")
    (made / "mypy.ini").write_text("[mypy]\n")
    return made


def mypy(directory: Path, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--show-error-codes", *names],
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def check(directory: Path) -> Check:
    """Run mypy on a copy of a file: its exit code, and what it said, by line."""

    def run(file: Path) -> tuple[int, Said]:
        (directory / file.name).write_bytes(file.read_bytes())
        ran = mypy(directory, file.name)
        said: Said = defaultdict(list)
        for line in ran.stdout.splitlines():
            if match := re.fullmatch(rf"{file.name}:(\d+): (error: .+|note: Revealed .+)", line):
                said[int(match[1])].append(match[2])
            elif not re.match(rf"{file.name}:\d+: note:|Found |Success", line):
                said[0].append(line)  # in another file, or no line of a report
        assert not ran.stderr
        return ran.returncode, dict(said)

    return run


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MYPY")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}


def test_the_program_checks(check: Check) -> None:
    assert check(PROGRAM) == (0, {})


def test_the_program_uses_the_whole_public_face() -> None:
    tree = ast.parse(PROGRAM.read_text("utf-8"))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert set(scraper.__all__) - used == set()
    assert set(types.__all__) - used == set()


def test_the_program_runs(tmp_path: Path) -> None:
    with serve_in_thread(DemoShop(outage=0.0)) as shop:
        settings = {"SCRAPE_POLITENESS__DELAY": "0", "SCRAPE_LOG__LEVEL": "WARNING"}
        ran = subprocess.run(
            [sys.executable, PROGRAM, shop.url],
            cwd=tmp_path,
            env={**environment(), **settings},
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(scraper.__version__)
    assert len((tmp_path / "books.jsonl").read_text("utf-8").splitlines()) > 0


def test_mistakes_are_found(check: Check) -> None:
    """Every line that says so is in error, with the words that it says, and no other line."""
    expected: dict[int, str] = {}
    for number, line in enumerate(WRONG.read_text("utf-8").splitlines(), 1):
        if found := re.search(r"  # (error|note): (.+)$", line):
            expected[number] = found[2]
    code, said = check(WRONG)
    assert code == 1
    assert set(said) == set(expected), {n: said.get(n) for n in set(said) ^ set(expected)}
    for number, words in expected.items():
        assert len(said[number]) == 1, said[number]
        assert words in said[number][0], f"line {number}: {said[number][0]}"
    assert len(expected) > 40


def test_the_examples_of_the_documentation_check(directory: Path) -> None:
    names: dict[str, str] = {}
    prelude = next(block.text for block in blocks("python", FROM_SCRAPY))
    for block in blocks("python"):
        if block.text.startswith("# Scrapy\n"):
            continue
        page = Path(block.page).stem.replace("-", "_")
        imported = block.file and not block.file.startswith("spiders/")
        name = block.file if imported else f"example_{page}_{block.line}.py"
        first = f"{prelude}\n\n" if block.page == FROM_SCRAPY else ""
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(first + block.text, "utf-8")
        names[name] = block.page
    assert len(names) > 60
    ran = mypy(directory, "--explicit-package-bases", *names)
    assert ran.returncode == 0, ran.stdout
