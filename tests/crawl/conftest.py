"""Fixtures of whole crawls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crawl.harness import Project
from tests.servers.redis import Redis


@pytest.fixture
def project(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """An empty project; its processes are ended with the test, by their ids."""
    root = tmp_path / "project"
    scratch = tmp_path_factory.getbasetemp() / f"scratch-{tmp_path.name}"
    scratch.mkdir(exist_ok=True)
    made = Project(root, scratch)
    yield made
    made.close()


@pytest.fixture
def redis(redis_server: Redis) -> Redis:
    """The module's Redis, empty."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server
