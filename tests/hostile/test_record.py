"""The record is whole: every case of the catalogue has a row, every row its test."""

from __future__ import annotations

from tests.hostile.recording import CASES, exists, recorded


def test_every_case_is_proved() -> None:
    assert {row.case for row in recorded()} == set(CASES)


def test_every_row_has_its_test() -> None:
    assert [row for row in recorded() if not exists(row.test)] == []
