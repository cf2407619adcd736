"""What the cases' tests proved: recorded by a run of the suite, shown by the documentation.

A pytest plugin. A test marked ``case(number, input, outcome)`` that passes adds a row; the row
holds what its parameters say, so a table-driven test has a row for each. With `--record-cases`
the rows of the run are written to `RECORD`, in the place of what those tests proved before;
without, each passing test must find its rows there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

__all__ = ["CASES", "RECORD", "Row", "exists", "recorded"]

RECORD = Path(__file__).with_name("recorded.json")
ROOT = RECORD.parents[2]
CASES = range(1, 102)
"""The numbers of the catalogue."""


class Row(NamedTuple):
    """One proven case. `test` is the file and function that proved it."""

    case: int
    input: str
    outcome: str
    test: str


def recorded() -> list[Row]:
    """The rows of the last recorded run, in the catalogue's order."""
    return [Row(**entry) for entry in json.loads(RECORD.read_text())] if RECORD.exists() else []


def exists(test: str) -> bool:
    """Whether there is a test of that file and function."""
    file, _, names = test.partition("::")
    path = ROOT / file
    return path.is_file() and f"def {names.rpartition('::')[2]}(" in path.read_text()


def rows_of(item: pytest.Item) -> Iterator[Row]:
    """What *item* proves when it passes. Marks that stand closest to the test come first."""
    test = item.nodeid.partition("[")[0]
    for mark in item.iter_markers("case"):
        number, given, outcome = mark.args
        if number not in CASES:
            raise pytest.UsageError(f"{item.nodeid}: there is no case {number}")
        yield Row(number, given, outcome, test)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record-cases", action="store_true", help="write what the cases' tests proved"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "case(number, input, outcome): proves a numbered case of the hostile web"
    )
    config.pluginmanager.register(Recorder(config), "case-recorder")


class Recorder:
    """Gathers rows where the tests' reports arrive: in the process that hands out the work."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.rows: set[Row] = set()
        self.failed: set[str] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        item.user_properties += [("case", row._asdict()) for row in rows_of(item)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        rows = [Row(**row) for name, row in report.user_properties if name == "case"]  # type: ignore[arg-type]
        if report.failed:
            self.failed.update(row.test for row in rows)
        elif report.when == "call" and report.passed:
            self.rows.update(rows)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.config.getoption("record_cases") and not hasattr(self.config, "workerinput"):
            ran = {row.test for row in self.rows} | self.failed
            kept = {row for row in recorded() if row.test not in ran and exists(row.test)}
            rows = sorted(kept | {row for row in self.rows if row.test not in self.failed})
            entries: list[dict[str, Any]] = [row._asdict() for row in rows]
            RECORD.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n")


@pytest.fixture(autouse=True)
def _case_is_recorded(request: pytest.FixtureRequest) -> Iterator[None]:
    """The documentation says nothing that the suite does not prove, and all that it does."""
    yield
    if request.node.get_closest_marker("case") and not request.config.getoption("record_cases"):
        missing = [row for row in rows_of(request.node) if row not in set(recorded())]
        assert not missing, f"not recorded, run `make hostile`: {missing}"
