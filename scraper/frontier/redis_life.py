"""Signs of life: how the others know that a worker is there, and it that they are.

A heartbeat on a connection of its own, so that a callback that holds the loop is not taken for
death; and on one machine a locked file, which a dead process does not hold any more.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from scraper.errors import ScraperError

__all__ = ["Heartbeat", "Locks", "machine"]

MACHINE_ID = Path("/etc/machine-id")

LOOP_SECONDS = 600.0
"""Seconds that the loop may be held by a callback while the worker still counts as alive."""


def machine() -> str:
    """Names this machine, or container: locks of one say nothing on another."""
    known = ""
    with suppress(OSError):
        known = MACHINE_ID.read_text().strip()
    return f"{socket.gethostname()} {known}".strip()


class Locks:
    """The files `DIRECTORY/workers/RUN.WORKER`, each locked by the process that it is about."""

    def __init__(self, directory: Path) -> None:
        self._folder = directory / "workers"
        self._path: Path | None = None
        self._handle: int | None = None

    def take(self, run: str, worker: str) -> None:
        """Lock a file for *worker*. It gets its name once it is locked: nobody sees it before."""
        draft = self._folder / f".{worker}"
        with suppress(OSError):  # no locks here: then the others wait until its lease has run out
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            self._handle = handle
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(handle, json.dumps({"machine": machine(), "pid": os.getpid()}).encode())
            self._path = draft.rename(self._folder / f"{run}.{worker}")
        if self._path is None:
            with suppress(OSError):
                draft.unlink()

    def dead(self, run: str) -> list[str]:
        """Workers of *run* that were processes of this machine, and are no more."""
        here = machine()
        return [
            path.suffix.removeprefix(".")
            for path in self._folder.glob(f"{run}.*")
            if path != self._path and self._is_free(path, here)
        ]

    def _is_free(self, path: Path, here: str) -> bool:
        try:
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return bool(json.loads(os.read(handle, 4096))["machine"] == here)
        except (OSError, ValueError, LookupError, TypeError):
            return False
        finally:
            os.close(handle)

    def buried(self, run: str, workers: Iterable[str]) -> None:
        """What was `dead` has been dealt with."""
        for worker in workers:
            with suppress(OSError):
                (self._folder / f"{run}.{worker}").unlink()

    def release(self, *, clean: bool) -> None:
        """Let the lock go; the file, too, if nothing is left to be told of this worker."""
        if self._path is not None and clean:
            with suppress(OSError):
                self._path.unlink()
        if self._handle is not None:
            os.close(self._handle)
        self._path = self._handle = None


class Heartbeat:
    """A thread that calls *beat* every *interval* seconds, as long as the *loop* is alive.

    It ends when *beat* returns False; a `ScraperError` may pass.
    """

    def __init__(
        self, beat: Callable[[], bool], interval: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._beat = beat
        self._interval = interval
        self._loop = loop
        self._stopping = threading.Event()
        self._seen = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, and wait until it has."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            with suppress(RuntimeError):  # the loop is closed: that is no life
                self._loop.call_soon_threadsafe(self._touch)
            if time.monotonic() - self._seen > LOOP_SECONDS:
                continue
            with suppress(ScraperError):  # the next beat may come through
                if not self._beat():
                    return

    def _touch(self) -> None:
        self._seen = time.monotonic()
