"""The files sink keeps the promise of sinks that apply their groups by themselves."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scraper.http import Headers, Request, Response
from scraper.pipelines import fileindex
from scraper.pipelines.files import Files
from scraper.protocols import CrawlInfo
from scraper.saved import SavedResponse
from scraper.testing.redo import RedoSinkContract, Row

DIRECTORY = "data/files"


class Fed(Files):
    """A sink whose web has every file: its content is its name."""

    async def open(self, crawl: CrawlInfo) -> None:
        await super().open(replace(crawl, download=_download))


async def _download(request: Request, into: Path, max_size: int) -> Response:
    body = request.url.rpartition("/")[2].encode()
    into.write_bytes(body)
    headers = Headers({"Content-Type": "text/plain"})
    return SavedResponse(request.url, 200, headers, request, file=into, size=len(body), elapsed=0.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are killed here, and no power is cut; nobody waits long for a lock."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(fileindex, "PATIENCE", 0.05)


class TestFiles(RedoSinkContract):
    def make(self, root: Path) -> Files:
        return Fed(["file"], DIRECTORY, into="")

    def item(self, number: int, version: int = 0) -> Any:
        return {"file": f"https://example.com/{number}.{version}"}

    def delivered(self, root: Path) -> list[Row]:
        texts = [path.read_text() for path in (root / DIRECTORY).glob("documents/*/*")]
        rows = [tuple(map(int, text.split("."))) for text in texts]
        return [(number, version) for number, version in rows]

    @contextlib.contextmanager
    def away(self, root: Path) -> Iterator[None]:
        other = sqlite3.connect(root / DIRECTORY / fileindex.NAME, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            other.close()

    def lose(self, root: Path) -> None:
        shutil.rmtree(root / DIRECTORY)

    def expected(self, rows: Iterable[Row]) -> list[Row]:
        return sorted(set(rows))  # one content is one file

    @pytest.mark.long
    async def test_killed_in_the_middle_of_apply(self, tmp_path: Path) -> None:
        """Twelve thousand files; tests/crawl/test_files.py kills whole crawls."""
        await super().test_killed_in_the_middle_of_apply(tmp_path)
