"""Fixtures of whole crawls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crawl.harness import Project


@pytest.fixture
def project(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """An empty project; its processes are ended with the test, by their ids."""
    root = tmp_path / "project"
    scratch = tmp_path_factory.getbasetemp() / f"scratch-{tmp_path.name}"
    scratch.mkdir(exist_ok=True)
    made = Project(root, scratch)
    yield made
    made.close()
