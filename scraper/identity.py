"""What a crawl is fixed to when it is created, and what becomes of what was there before it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scraper.work import Recovery

__all__ = [
    "FAILED",
    "FINISHED",
    "OVER",
    "PUBLISHING",
    "REOPENING",
    "RUNNING",
    "Identity",
    "Revival",
]

RUNNING, PUBLISHING, REOPENING = b"running", b"publishing", b"reopening"
FINISHED, FAILED = b"finished", b"failed"
"""The phases of a run: a blob of that name in its ledger."""

OVER = ("finished", "failed")


@dataclass(slots=True)
class Revival:
    """A part of a job that is tried again.

    `ledger`: what it says now, and the `counts` that it will have. `begin(state)`: makes the
    requests pending again and stores these blobs, in one transaction, before the frontier opens.
    """

    ledger: Recovery
    begin: Callable[[Mapping[str, bytes]], object]


@dataclass(slots=True)
class Identity:
    """What a job is fixed to when it is created.

    `started`: of the stored job, when one is `resumed`. `run`: names this run and its retries, and
    no other; known once the ledger is open. `abandoned`: when the run was started that
    this one takes the place of; its partial outputs are set aside. `clear` moves an old ledger out
    of the way, once nothing else can stop this run from beginning. `wanted(sinks, started)`
    describes this run, and `compare(stored, wanted)` raises `JobError` when the job was created
    otherwise. `claims(stages)`: the keys that earlier runs leave to stages that ask for them.
    `history()`: the job's earlier runs. `revival`: for a retry, once nothing else can stop it.
    `job`: its name, None for a crawl that leaves no state. `young`: the stored job was begun by
    another worker that was started together with this one.
    """

    started: str
    root: Path
    run: str = ""
    job: str | None = None
    directory: Path | None = None
    resumed: bool = False
    young: bool = False
    abandoned: str | None = None
    clear: Callable[[], object] | None = None
    wanted: Callable[[Sequence[str], str], dict[str, Any]] | None = None
    compare: Callable[[Mapping[str, Any], Mapping[str, Any]], list[str]] | None = None
    claims: Callable[[Sequence[str]], Mapping[str, array[int]]] | None = None
    history: Callable[[], Sequence[Mapping[str, Any]]] | None = None
    revival: Revival | None = None
    notes: list[str] = field(default_factory=list)
