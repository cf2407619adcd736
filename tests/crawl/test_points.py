"""The named points: what the kill suite stands on."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from scraper.errors import UsageError
from scraper.testing.points import POINTS, VARIABLE, from_env
from tests.crawl.harness import REPOSITORY


@pytest.mark.parametrize("environ", [{}, {VARIABLE: ""}])
def test_without_the_variable_there_is_no_probe(environ: dict[str, str]) -> None:
    assert from_env(environ) is None


@pytest.mark.parametrize(
    "value", ["lease", "lease:0", "lease:-1", "lease:x", "nowhere:1", ":1", "write:²"]
)
def test_a_misspelt_point_is_an_error_not_an_uninterrupted_run(value: str) -> None:
    with pytest.raises(UsageError, match=VARIABLE):
        from_env({VARIABLE: value})


@pytest.mark.parametrize("point", POINTS)
def test_the_process_dies_at_the_nth_passage_and_not_before(point: str) -> None:
    other = POINTS[(POINTS.index(point) + 1) % len(POINTS)]
    source = (
        "import os, sys; from scraper.testing.points import from_env\n"
        "reach = from_env(os.environ)\n"
        f"for name in [{point!r}, {other!r}, {point!r}, {point!r}]:\n"
        "    print(name, flush=True)\n"
        "    reach(name)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", source],
        env={"PYTHONPATH": str(REPOSITORY), VARIABLE: f"{point}:2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert ended.stdout.split() == [point, other, point]
