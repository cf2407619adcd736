"""All jobs of a project, read beside the processes that run them: for `scrape status`."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from scraper.errors import ScraperError
from scraper.frontier.inspect import inspect as inspect_ledger
from scraper.job import LEDGER, STATE, read_pid
from scraper.work import job_of

__all__ = ["JobStatus", "jobs"]


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One line of `scrape status`. `pid`: of the process that runs it, None when none does.

    `phase`: running, publishing, finished, failed, reopening. `problem`: why its ledger cannot be
    read.
    """

    spider: str
    job: str
    directory: Path
    pid: int | None = None
    running: bool = False
    phase: str = ""
    started: str = ""
    pending: int = 0
    failures: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    problem: str = ""


def jobs(root: Path) -> list[JobStatus]:
    """Every job under *root* that has a ledger, read beside the processes that run them."""
    ledgers = sorted((root / STATE).glob(f"*/*/{LEDGER}"))
    return [_status(ledger.parent) for ledger in ledgers]


def _status(folder: Path) -> JobStatus:
    running, pid = _runner(folder / "lock")
    spider = folder.parent.name
    try:
        summary = inspect_ledger(folder / LEDGER)
        job = job_of(summary.state) or {}
    except ScraperError as error:
        return JobStatus(spider, folder.name, folder, pid, running, problem=str(error))
    return JobStatus(
        spider=str(job.get("spider", spider)),
        job=folder.name,
        directory=folder,
        pid=pid,
        running=running,
        phase=summary.phase,
        started=str(job.get("started", "")),
        pending=summary.pending,
        failures=summary.failures,
        counts=summary.counts,
    )


def _runner(lock: Path) -> tuple[bool, int | None]:
    """Whether somebody holds *lock*, and who says so."""
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False, None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True, read_pid(handle)
    else:
        return False, None
    finally:
        os.close(handle)
