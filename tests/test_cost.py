"""What a page costs has not grown: counted, not timed (`benchmarks/cost.py`)."""

from __future__ import annotations

import shutil
import sys

import pytest

from benchmarks import cost
from tests.conftest import missing

INSTRUCTIONS, CALLS = cost.FIGURES


def test_instructions_a_page() -> None:
    if shutil.which("valgrind") is None:
        missing("valgrind", "apt-get install valgrind")
    assert INSTRUCTIONS.verdict(cost.instructions(), cost.recorded()["instructions"]) == ""


def test_calls_a_page() -> None:
    found = cost.calls_by_function()
    assert any(where.endswith(" Pages.parse") for where in found)
    assert CALLS.verdict(sum(found.values()), cost.recorded()["calls"]) == ""


@pytest.mark.parametrize("figure", cost.FIGURES, ids=lambda figure: figure.name)
def test_what_is_let_pass(figure: cost.Figure) -> None:
    for change in (-figure.less + 0.001, 0, figure.more - 0.001):
        assert figure.verdict(200 * (1 + change), 200) == ""


def test_a_page_that_costs_more_says_how_much_and_where_to_look() -> None:
    told = INSTRUCTIONS.verdict(2.1, 2.0)
    assert "2.10 times the bare loop's instructions; recorded: 2.00 (+5.0%)" in told
    assert "callgrind_annotate" in told
    assert cost.ANEW in told
    assert f"Recorded with {cost.made_with()}, counted with Python {sys.version_info[0]}." in told
    assert "--profile" in CALLS.verdict(450, 400)


def test_a_page_that_costs_much_less_wants_to_be_recorded() -> None:
    told = CALLS.verdict(300, 400)
    assert "much less: 300.00 calls of own functions a page; recorded: 400.00 (-25.0%)" in told
    assert cost.ANEW in told
