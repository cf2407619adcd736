"""The one error boundary: what everything that can be raised becomes on stderr."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scraper import cli
from scraper._version import __version__
from scraper.cli import COMMANDS, run_command_line
from scraper.cli.app import command_function
from scraper.errors import DamagedState, UsageError
from tests.cli.conftest import CommandLine

REPOSITORY = Path(__file__).resolve().parents[2]
MAIN = "from scraper.cli import main; main()"


def test_help_names_every_command(scrape: CommandLine) -> None:
    for args in (["--help"], ["-h"], []):
        said = scrape(*args)
        assert said.code == 0
        assert said.err == ""
        for name, (_, line) in COMMANDS.items():
            assert f"  {name}" in said.out
            assert line in said.out
        assert max(map(len, said.out.splitlines())) <= 80


def test_help_imports_no_command_and_nothing_heavy() -> None:
    script = (
        "import sys; from scraper.cli import run_command_line as r; r(['--help']); "
        "print([m for m in sys.modules if m.startswith('scraper.cli.')], file=sys.stderr); "
        "print('aiohttp' in sys.modules, 'scraper.engine' in sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert ended.stderr.splitlines() == ["['scraper.cli.app']", "False False"]


def test_version(scrape: CommandLine) -> None:
    assert scrape("--version").out == f"scraper-framework {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_imported_and_explains_itself(scrape: CommandLine, name: str) -> None:
    assert command_function(name).__doc__
    said = scrape(name, "--help")
    assert said.code == 0
    assert f"Usage: scrape {name}" in said.out
    assert max(map(len, said.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["lst"], "there is no command 'lst'; did you mean list?", "There are: run, init"),
        (["list", "--jsno"], "No such option", "`scrape list --help` shows how."),
        (["--nope", "list"], "No such option", "`scrape --help` shows how."),
        (["new", "x"], "Missing argument 'URL'", "`scrape new --help` shows how."),
        (["list", "x"], "unexpected extra argument", "`scrape list --help` shows how."),
    ],
)
def test_a_wrong_command_line(
    scrape: CommandLine, args: list[str], message: str, hint: str
) -> None:
    said = scrape(*args)
    assert said.code == 2
    assert said.out == ""
    first, second = said.err.splitlines()
    assert first.startswith("scrape: ")
    assert message in first
    assert second.strip().startswith(hint)


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(args: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_run", fail)


@pytest.mark.parametrize(
    ("error", "code", "err"),
    [
        (UsageError("wrong", hint="do this"), 2, "scrape: wrong\n        do this\n"),
        (DamagedState("torn"), 3, "scrape: torn\n"),
        (OSError(errno.ENOSPC, "No space left on device", "x.db"), 4, None),
        (KeyboardInterrupt(), 130, ""),
        (KeyError("x"), 1, None),
        (UsageError("a\x1b[31m\nb"), 2, "scrape: a\\x1b[31m\\nb\n"),
    ],
)
def test_errors_end_in_one_line_and_their_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    err: str | None,
) -> None:
    raising(monkeypatch, error)
    assert run_command_line(["list"]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    if err is not None:
        assert said.err == err
    else:
        assert len(said.err.splitlines()) == 2


def test_debug_shows_the_whole_chain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = UsageError("wrong")
    error.__cause__ = ZeroDivisionError("the cause")
    raising(monkeypatch, error)
    assert run_command_line(["list", "--debug"]) == 2
    err = capsys.readouterr().err
    assert "ZeroDivisionError: the cause" in err
    assert err.endswith("scrape: wrong\n")


def test_an_interrupt_within_a_command(
    project: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("scraper.cli.listing.require", interrupt)
    assert project("list").code == 130


def test_a_reader_that_goes_away_is_no_error(project: CommandLine) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as stdout:
        ended = subprocess.run(
            [sys.executable, "-c", MAIN, "config"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            cwd=project.root,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
            check=False,
        )
    assert ended.returncode == 141
    assert ended.stderr == b""
