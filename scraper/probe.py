"""The crawl's end of the probe: the process that parses doubtful pages first (`scraper.prober`).

It is started when there is a page for it, kept, and replaced when a page was too much for it. It
inherits nothing: no descriptor but its pipes, no environment, no terminal; it ends with the pipe.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import selectolax

from scraper import prober

__all__ = ["Probe"]

log = logging.getLogger("scraper.crawl")

PATIENCE = prober.PATIENCE + 10
"""Seconds after which a process that neither answers nor ends (it was stopped) is ended."""
PASSED_ON = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")
"""What a process may need of the environment to start."""


class Probe:
    """At most one process at a time. Its methods block: they belong into a thread."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._told = False

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        process = self._process
        return None if process is None else process.pid

    def objection(self, markup: bytes) -> str:
        """Why *markup* is too costly, by one who has tried; "" when it can be parsed.

        A process that dies of something else than its limits may have been somebody's victim: the
        page gets a second one.
        """
        code = 0
        for _ in range(2):
            try:
                process = self._started()
            except OSError as error:
                return self._unable(error)
            if process is None:
                return "the crawl is over"
            if self._passes(process, markup):
                return ""
            code = self._ended(process)
            if code in (-signal.SIGPROF, -signal.SIGALRM):
                return f"more than {prober.SECONDS:g} s in the probe"
            if code == prober.NO_MEMORY:
                return f"more than {prober.MEMORY // 10**6:,} MB in the probe"
        return f"the probe died of it, twice ({_how(code)})"

    def stop(self) -> None:
        """Let no process start any more, and kill the one there is. Does not block: for any thread.

        What is left of it goes with `end`, where the probe is asked, too.
        """
        with self._lock:
            self._closed = True
            process = self._process
        if process is not None:
            process.kill()

    def end(self) -> None:
        """End the process, if there is one, and leave nothing of it; no other starts."""
        self.stop()
        if self._process is not None:
            self._ended(self._process)

    def _started(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._process is None and not self._closed:
                self._process = subprocess.Popen(  # noqa: S603 - this interpreter, a file of ours
                    [
                        *(sys.executable, "-I", "-S", prober.__file__),
                        str(Path(selectolax.__file__).parents[1]),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    bufsize=0,
                    cwd="/",
                    env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
                    start_new_session=True,  # Ctrl-C is for the crawl, which ends it in time
                )
                os.set_blocking(_wires(self._process)[0], False)
            return None if self._closed else self._process

    def _passes(self, process: subprocess.Popen[bytes], markup: bytes) -> bool:
        """Send the page and wait for the answer; False when the process ends instead."""
        until = time.monotonic() + PATIENCE
        into, out = _wires(process)
        try:
            for part in (len(markup).to_bytes(prober.LENGTH, "big"), markup):
                rest = memoryview(part)
                while rest:
                    if not _ready(into, select.POLLOUT, until):
                        return False
                    with suppress(BlockingIOError):
                        rest = rest[os.write(into, rest[:65_536]) :]
            return _ready(out, select.POLLIN, until) and os.read(out, 1) == prober.FINE
        except OSError:  # it ended while it was written to
            return False

    def _ended(self, process: subprocess.Popen[bytes]) -> int:
        """The exit code of *process*, which is ended if it has not done so by itself."""
        try:
            code = process.wait(1.0) if not self._closed else None
        except subprocess.TimeoutExpired:
            code = None
        if code is None:
            process.kill()
            code = process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        with self._lock:
            self._process = None
        return code

    def _unable(self, error: OSError) -> str:
        if not self._told:
            self._told = True
            log.warning(
                "no probe can be started (%s): pages that may be too costly are not parsed", error
            )
        return "no probe can be started"


def _wires(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """The descriptors that pages go into, and answers come out of."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the probe was started without its pipes")
    return process.stdin.fileno(), process.stdout.fileno()


def _ready(descriptor: int, event: int, until: float) -> bool:
    """Wait until *descriptor* is; False when it is not until then."""
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(max(0.0, until - time.monotonic()) * 1000))


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
