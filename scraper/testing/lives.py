# ruff: noqa: S101 - a part of a suite
"""The lives of a sink that redoes: what a ledger does for it, and a process that is killed."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from scraper.frontier.tables import packed, unpacked
from scraper.http import Request
from scraper.pipelines.page import StagedPage, group_records
from scraper.protocols import CrawlInfo, RedoSink
from scraper.testing.sinks import crawl_info

__all__ = ["Job", "apply_and_wait", "kill_while_applying", "stage"]

SPEC, RECORDS = "killed.json", "killed.records"


@dataclass
class Job:
    """A job's ledger, as far as one sink goes. `redo`: groups that may not be applied yet."""

    crawl: CrawlInfo
    position: Any = None
    redo: list[tuple[int, list[bytes]]] = field(default_factory=list)
    group: int = 0
    begun: bool = False

    def commit(self, records: Sequence[bytes], *, keep: bool = False) -> int:
        """A group is durable, those before it were applied (*keep*: or not). Its number."""
        self.group += 1
        had = self.position["records"] if self.position else 0
        self.position = json.loads(json.dumps({"group": self.group, "records": had + len(records)}))
        stored = unpacked(packed(records))
        self.redo = [*(self.redo if keep else ()), (self.group, stored)]
        return self.group


async def stage(sink: RedoSink, items: Iterable[Any]) -> list[bytes]:
    """The records that *sink* makes of *items*."""
    page = StagedPage(Request("https://example.com/"))
    for item in items:
        page.begin()
        assert await sink.process(item, page) is item
    return list(group_records([page]).get(sink, []))


# A process that is killed ------------------------------------------------------------------------


class Contract(Protocol):
    """What a suite says: how to build the sink whose target belongs to a directory."""

    def make(self, root: Path) -> RedoSink: ...


def kill_while_applying(
    contract: type[Contract],
    root: Path,
    spec: Mapping[str, Any],
    records: Sequence[bytes],
    delay: float,
) -> None:
    """Start a process that applies a group, and kill it *delay* seconds later.

    It imports *contract* by its name. *spec*: `started` of the crawl, its `position`, the `group`.
    It may have finished by then, or not have begun to write: all of that must come to the same.
    """
    (root / SPEC).write_text(json.dumps(spec))
    (root / RECORDS).write_bytes(packed(records))
    script = (
        f"from {contract.__module__} import {contract.__qualname__} as Contract\n"
        f"from {__name__} import apply_and_wait\n"
        f"apply_and_wait(Contract(), {str(root)!r})\n"
    )
    child = subprocess.Popen(  # noqa: S603 - this very interpreter
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        assert child.stderr is not None
        begun = child.stdout.readline()
        if begun == b"applying\n":
            select.select([child.stdout], [], [], delay)
        child.kill()
        said = child.stderr.read().decode()
    assert begun == b"applying\n", said
    assert child.returncode == -signal.SIGKILL


def apply_and_wait(contract: Contract, directory: str) -> None:
    """The process that is killed: it says when it begins to apply, and when it is through."""
    root = Path(directory)
    spec = json.loads((root / SPEC).read_text())
    records = unpacked((root / RECORDS).read_bytes())
    crawl = replace(crawl_info(root, started=spec["started"]), resumed=True)

    async def live() -> None:
        sink = contract.make(root)
        await sink.open(crawl)
        await sink.rewind(spec["position"])
        os.write(1, b"applying\n")
        await sink.apply(spec["group"], records)
        os.write(1, b"applied\n")
        await asyncio.Event().wait()

    asyncio.run(live())
