"""Jobs: where a crawl keeps its state, who may use it, and whether it is the one asked for.

::

    ROOT/.scrape/SPIDER/JOB/     mode 0700, what is in it 0600
        ledger.sqlite            the frontier's file, with its -wal and -shm
        lock                     held by the process that runs the job; names it
        history.jsonl            one line for each run that ended
        outbox/                  files on their way to a store, and those set aside on it
        previous/                the ledger of the last finished run
        aside-STARTED/           what --fresh moved away; never deleted here
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import sqlite3
import stat
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scraper.claims import inherited
from scraper.errors import JobError, ScraperError
from scraper.frontier.inspect import Summary, read_claims
from scraper.frontier.inspect import inspect as inspect_ledger
from scraper.redaction import BY_LOOKS, redacted_json
from scraper.sameness import digest, is_secret, plain
from scraper.work import job_of

__all__ = [
    "Job",
    "default_name",
    "read_pid",
    "started_now",
]

STATE = ".scrape"
LEDGER = "ledger.sqlite"
KEPT = {"lock", "history.jsonl", "outbox", "previous", "previous.old"}

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=,+-]{0,79}")
ODD = re.compile(r"[^A-Za-z0-9._=,+-]+")
LONG = 60

LOCK_TRIES, LOCK_WAIT = 10, 0.02
"""`jobs` looks at locks, each for an instant: that is not "running elsewhere"."""


# What a job is ----------------------------------------------------------------------------------


def started_now(wall: Callable[[], float] = time.time) -> str:
    """The time in ISO 8601 basic form, UTC: `20240131T235959Z`. Fixed when a job is created."""
    return datetime.fromtimestamp(wall(), UTC).strftime("%Y%m%dT%H%M%SZ")


def default_name(arguments: Mapping[str, Any]) -> str:
    """The name of the job with these spider arguments: `default`, or `category=travel,pages=3`.

    What a directory name cannot show (odd characters, great length, secrets) stands in a hash.
    """
    if not arguments:
        return "default"
    texts = {name: plain(arguments[name]) for name in sorted(arguments) if not is_secret(name)}
    shown = {name: BY_LOOKS(value) for name, value in texts.items()}
    parts = {name: f"{name}={value}" for name, value in shown.items()}
    full = ",".join(parts.get(name, name) for name in sorted(arguments))
    hidden = shown != texts or len(shown) < len(arguments)
    clean = ODD.sub("-", full)
    if clean == full and len(clean) <= LONG and not hidden and NAME.fullmatch(clean):
        return clean
    exact = json.dumps(arguments, sort_keys=True, default=str)
    return f"{clean[:LONG].strip('-.,')}-{digest(exact.encode())[:8]}".lstrip("-.,=+")


# Where it lives ---------------------------------------------------------------------------------


class Job:
    """One job's directory. Nothing is created before `locked`.

    Raises `JobError` for a name that cannot be a directory's: names are letters, digits and
    `. _ = , + -`, and do not begin with a dot.
    """

    def __init__(self, root: Path, spider: str, name: str = "default") -> None:
        if not NAME.fullmatch(name):
            raise JobError(
                f"{name!r} cannot be the name of a job",
                hint="Use up to 80 letters, digits, '.', '_', '=', ',', '+' and '-'.",
            )
        self.spider = spider
        self.name = name
        self.directory = root / STATE / _folder(spider) / name
        self.ledger = self.directory / LEDGER

    @contextmanager
    def locked(self, *, shared: bool = False) -> Iterator[Job]:
        """Hold the job for this process. Raises `JobError` when another one does.

        *shared*: together with others that hold it so.
        """
        self._make()
        lock = self.directory / "lock"
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise JobError(
                f"{lock} cannot be opened: {error.strerror}",
                hint="It must be a file that this user may write; remove it if it is not.",
            ) from error
        try:
            self._lock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            if not shared:
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            yield self
        finally:
            os.close(handle)  # which lets the lock go, as the end of the process would

    def _make(self) -> None:
        folder = self.directory
        try:
            for part in (folder.parent.parent, folder.parent, folder):
                part.mkdir(mode=0o700, parents=True, exist_ok=True)
                _keep_private(part)
        except OSError as error:
            raise JobError(
                f"{folder} cannot be made: {error.strerror}",
                hint="Run where this user may write, or choose the project's directory.",
            ) from error

    def _lock(self, handle: int, kind: int) -> None:
        for attempt in range(LOCK_TRIES):
            try:
                fcntl.flock(handle, kind | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise JobError(
                        f"{self.directory / 'lock'} cannot be locked: {error.strerror}",
                        hint="Keep the project on a file system that has locks.",
                    ) from error
                if attempt < LOCK_TRIES - 1:
                    time.sleep(LOCK_WAIT)
            else:
                return
        pid = read_pid(handle)
        raise JobError(
            f"job {self.name} of spider {self.spider} is running already"
            + (f" (process {pid})" if pid else ""),
            hint="Wait until it ends or stop it; `--job NAME` runs another job beside it.",
        )

    def summary(self) -> Summary | None:
        """What its ledger says; None when there is none. Raises `DamagedState`."""
        return inspect_ledger(self.ledger) if self.ledger.exists() else None

    def claims(self, stages: Sequence[str]) -> dict[str, array[int]]:
        """The keys that earlier runs leave to these stages of the next one."""
        ledger = self.directory / "previous" / LEDGER
        if not stages or not ledger.exists():
            return {}
        delivered = inspect_ledger(ledger).phase == "finished"
        return inherited(stages, read_claims(ledger), delivered=delivered)

    def forget(self) -> None:
        """Remove the directory again when nothing ever ran in it. The job must be locked."""
        if self.ledger.exists() or {path.name for path in self.directory.iterdir()} != {"lock"}:
            return
        with suppress(OSError):
            (self.directory / "lock").unlink()
            for folder in (self.directory, *self.directory.parents[:2]):
                folder.rmdir()  # until one is not empty

    # Moving out of the way ----------------------------------------------------------------------

    def set_aside(self, reason: str) -> Path | None:
        """Move the state of an unfinished run to a directory of its own and say where it is.

        None when there was nothing. *reason* is noted in it. The job must be locked.
        """
        if not self._state():
            return None
        folder = self._unused(f"aside-{self._started()}")
        self._move(folder)
        note = json.dumps({"reason": reason, "at": started_now()}, ensure_ascii=False)
        _append(folder / "aside.json", note.encode() + b"\n")
        return folder

    def retire(self) -> Path | None:
        """Move the state of a finished run to `previous`, in place of the one before it."""
        if not self._state():
            return None
        previous, old = self.directory / "previous", self.directory / "previous.old"
        if previous.exists():
            shutil.rmtree(old, ignore_errors=True)
            previous.rename(old)
        self._move(previous)
        shutil.rmtree(old, ignore_errors=True)
        return previous

    def _state(self) -> list[Path]:
        """The run's own files. The ledger comes last: while it is there, the run is."""
        if not self.directory.is_dir():
            return []
        own = [
            path
            for path in self.directory.iterdir()
            if path.name not in KEPT and not path.name.startswith("aside-")
        ]
        return sorted(own, key=lambda path: (path == self.ledger, path.name))

    def _started(self) -> str:
        """When the run began, as its ledger says; the file's own date when it is damaged."""
        with suppress(ScraperError):
            summary = self.summary()
            stored = job_of(summary.state) if summary is not None else None
            if stored is not None and NAME.fullmatch(stored["started"]):
                return str(stored["started"])
        first = self.ledger if self.ledger.exists() else self._state()[0]
        return started_now(lambda: first.stat().st_mtime)

    def _unused(self, name: str) -> Path:
        folder, number = self.directory / name, 1
        while folder.exists():
            number += 1
            folder = self.directory / f"{name}-{number}"
        return folder

    def _move(self, folder: Path) -> None:
        # One file moves at once, two do not: first bring the log into the ledger, if it is sound.
        if self.ledger.exists():
            with suppress(sqlite3.Error):
                connection = sqlite3.connect(self.ledger, isolation_level=None)
                try:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                finally:
                    connection.close()
        folder.mkdir(mode=0o700, exist_ok=True)
        for path in self._state():
            path.rename(folder / path.name)

    # History ------------------------------------------------------------------------------------

    def record(self, result: Mapping[str, Any]) -> None:
        """Add a run that ended to the history: one line of JSON, whole or not at all.

        Without secrets: what an argument hides, a later run does not compare.
        """
        told = redacted_json(dict(result))
        if "arguments" in result:
            told["arguments"] = redacted_json(result["arguments"], BY_LOOKS)
        line = json.dumps(told, ensure_ascii=False, default=str)
        _append(self.directory / "history.jsonl", line.encode("utf-8", "replace") + b"\n")

    def history(self, *, but: str = "") -> list[dict[str, Any]]:
        """The runs that ended, oldest first; one that was retried, as it ended last.

        *but*: the run of that name (`run`) is left out, as is a line that is none of ours.
        """
        runs: dict[Any, dict[str, Any]] = {}
        with suppress(FileNotFoundError):
            for line in (self.directory / "history.jsonl").read_bytes().splitlines():
                with suppress(ValueError, RecursionError):
                    run = json.loads(line)
                    if isinstance(run, dict) and isinstance(run.get("run", ""), str):
                        runs[run.get("run", len(runs))] = run
        return [run for run in runs.values() if not but or run.get("run") != but]

    def __repr__(self) -> str:
        return f"<Job {self.spider}/{self.name}>"


def _keep_private(folder: Path) -> None:
    """Only its owner may look into a directory of state. Raises `JobError` where it is a link."""
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise JobError(
            f"{folder} is a symbolic link, and state is not kept behind links",
            hint="Whoever may change the link could read or replace it. Make it a directory.",
        )
    if found.st_mode & 0o077 and found.st_uid == os.geteuid():
        folder.chmod(0o700)


def _append(path: Path, line: bytes) -> None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            line = b"\n" + line  # after a torn line, begin a new one
        os.write(handle, line)
        os.fsync(handle)
    finally:
        os.close(handle)


def _folder(spider: str) -> str:
    """A spider's name as a directory's: itself, if it can be."""
    if NAME.fullmatch(spider):
        return spider
    return f"spider-{ODD.sub('-', spider)[:LONG].strip('-.')}-{digest(spider.encode())[:8]}"


def read_pid(handle: int) -> int | None:
    text = os.pread(handle, 32, 0).strip()
    return int(text) if text.isdigit() else None
