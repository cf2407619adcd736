"""Every row of the record has its test."""

from __future__ import annotations

from tests.hostile.recording import exists, recorded


def test_every_row_has_its_test() -> None:
    assert [row for row in recorded() if not exists(row.test)] == []
