"""The line between a worker and the process that started it (`scraper.cli.workers`).

A pair of sockets. What a worker says are lines of JSON, each an object with one key:

    {"notes": [...]}     its session is open: what a person should know
    {"at": {...}}        how far it sees the crawl (`Snapshot`), twice a second
    {"result": {...}}    its end (`CrawlResult`)
    {"error": {...}}     its end: `kind` (a class of `scraper.errors`), `message`, `hint`, `code`

It hears `stop` and `now`, which may come twice, and the end of the line: whoever started it is
gone, however that came about, and nobody is left to restart it or to tell its result to. Then it
stops as for a signal.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

import typer

from scraper.cli import show_traceback
from scraper.errors import ScraperError, UsageError
from scraper.http import Request, Response
from scraper.protocols import CrawlInfo, Page
from scraper.report import CrawlResult, Snapshot
from scraper.work import Batch, Committed, Recovery

__all__ = ["GRACE", "NOW", "STOP", "Line", "as_worker"]

STOP, NOW = b"stop", b"now"
"""What a worker hears: finish what is in flight, and let it go."""

INTERVAL = 0.5
"""Seconds between two snapshots."""

GRACE = 15.0
"""Seconds beyond `crawl.drain_timeout` after which a worker that nobody heeds ends itself."""

TERMINATED = 143
"""The exit code of SIGTERM."""


class Line:
    """A worker's end of the line, and the observer that reports over it.

    Nothing raises when the other end is gone. `number`: of the worker, from 1.
    """

    def __init__(self, descriptor: int, number: int = 1) -> None:
        self.number = number
        try:
            self._socket = socket.socket(fileno=descriptor)
        except OSError as error:
            raise UsageError(
                f"--line {descriptor}: {error.strerror}", hint="`scrape run --workers` sets it."
            ) from error
        self._socket.set_inheritable(False)  # what a spider starts must not keep it open
        self._sending = threading.Lock()
        self._stop: Callable[[bool], object] | None = None
        self._now = False
        self._patience = GRACE
        self._over = False
        self._snapshot: Callable[[], Snapshot] | None = None
        threading.Thread(target=self._listen, name="line", daemon=True).start()

    # What it says --------------------------------------------------------------------------------

    def notes(self, notes: list[str]) -> None:
        self._send("notes", notes)

    def result(self, result: CrawlResult) -> None:
        self._send("result", result.as_dict())

    def error(self, error: ScraperError) -> None:
        told = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
        self._send("error", {**told, "code": error.exit_code})

    def _send(self, kind: str, value: Any) -> None:
        line = json.dumps({kind: value}, default=str).encode() + b"\n"
        with self._sending, suppress(OSError):
            self._socket.sendall(line)

    # What it hears -------------------------------------------------------------------------------

    def heed(self, stop: Callable[[bool], object], drain: float) -> None:
        """From now on `stop(now)` is called, from another thread; before, the process just ends,
        for it has begun nothing. *drain*: seconds that a clean stop may take.
        """
        self._patience, self._stop = drain + GRACE, stop

    def over(self) -> None:
        """The crawl has ended: `stop` and `now` change nothing any more."""
        self._over = True

    def _listen(self) -> None:
        rest = b""
        while True:
            with suppress(OSError):
                ready, _, _ = select.select([self._socket], [], [], INTERVAL)
                if not ready:
                    self._report()
                    continue
            heard = b""
            with suppress(OSError):  # a reset is an end like any other
                heard = self._socket.recv(1024)
            if not heard:
                self._left_alone()
                return
            *words, rest = (rest + heard).split(b"\n")
            for word in words:
                self._do(word)

    def _do(self, word: bytes) -> None:
        self._now = self._now or word == NOW
        if self._stop is None and not self._over:
            os._exit(TERMINATED)
        elif self._stop is not None and not self._over:
            with suppress(RuntimeError):  # the loop was closed just now
                self._stop(self._now)

    def _left_alone(self) -> None:
        self._do(STOP)
        time.sleep(self._patience)
        os._exit(TERMINATED)  # every commit is atomic: this is no worse than kill -9

    def _report(self) -> None:
        if self._snapshot is not None:
            self._send("at", asdict(self._snapshot()))

    # As an observer ------------------------------------------------------------------------------

    def on_open(
        self, crawl: CrawlInfo, recovery: Recovery, snapshot: Callable[[], Snapshot]
    ) -> None:
        self._snapshot = snapshot
        self._report()

    def on_response(self, request: Request, response: Response) -> None:
        """Counted by the crawl itself."""

    def on_item(self, item: Any, page: Page) -> None:
        """Counted by the crawl itself."""

    def on_commit(self, batch: Batch, committed: Committed) -> None:
        """Reported by the thread."""

    def on_close(self, reason: str) -> None:
        if self._snapshot is not None:
            self._report()
        self._snapshot = None


@contextmanager
def as_worker(number: int, descriptor: int | None, *, debug: bool) -> Iterator[Line | None]:
    """The line to who started this worker, who is told its errors; None where nobody did."""
    if descriptor is None:
        yield None
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: whoever started it hears it
    line = Line(descriptor, number)
    try:
        yield line
    except ScraperError as error:
        if debug:
            show_traceback(error)
        line.error(error)
        raise typer.Exit(error.exit_code) from error
