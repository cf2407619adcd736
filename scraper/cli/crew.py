"""The worker processes of one crawl on this machine: started, followed, started again, ended.

::

    first worker ──says that its crawl is open──► the others
         │                                            │
         └──── killed, or taken for dead: again, after a rest ◄───┘
         └──── its end, or what another process would not mend: the end of all

Workers find each other in the frontier; nothing of the crawl passes through here. So this process
may be killed at any time: the workers end with the line to it (`scraper.cli.line`).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import scraper
from scraper.cli.line import GRACE, NOW, STOP
from scraper.errors import GivenUp
from scraper.report import Snapshot

__all__ = ["Crew", "Outcome"]

DEATHS = 5
"""Deaths for each worker, while the crawl does not get on, after which it is no use."""

REST, LONGEST_REST = 0.5, 30.0
"""Seconds until a worker is started again: at first, and at most. One that lived longer than the
latter begins with the former."""

LONGEST = 2**26
"""Bytes of one line that a worker may say: a result has a description of every output."""

LINGER = 2.0
"""Seconds that are waited for more from the streams of a process that has ended: what it started
may have inherited them, and outlive it."""

STOPPED = (0, 130, 143)
"""Exit codes of who has nothing to tell: there was nothing to do, or it was stopped at once."""

NOBODY_READS = 141

NOWHERE = Snapshot(0, 0, 0, 0, 0, 0, 0.0)
"""Before a worker has told how far the crawl is."""


@dataclass(slots=True)
class Life:
    """One process of a worker. `number`: of the worker, from 1."""

    number: int
    process: Process
    writer: asyncio.StreamWriter
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    at: Snapshot | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None

    def say(self, word: bytes) -> None:
        if word:
            self.writer.write(word + b"\n")

    def __str__(self) -> str:
        code = self.process.returncode or 0
        if code >= 0:
            told = f"ended with exit {code}" if self.error is None else "was taken for dead"
        else:
            names = {number.value: number.name for number in signal.Signals}
            told = f"was killed by {names.get(-code, f'signal {-code}')}"
        return f"worker {self.number} {told}"


@dataclass(slots=True)
class Outcome:
    """How it ended. `result`: the whole crawl's, as a worker told it; `failure`: what ended it
    instead (`message`, `hint`, and `code`, which is the exit code), unless it is None.
    """

    result: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None


class Moved(Protocol):
    def __call__(self, *, first: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Teller:
    """Who hears of the workers while they run. `opened`: the crawl has begun, and with what
    notes, once; `moved`: there is a new snapshot, or the *first*; `line`: of a worker's own log;
    `note`: what became of one.
    """

    opened: Callable[[Sequence[str]], None]
    moved: Moved
    line: Callable[[str], None]
    note: Callable[[str], None]


class Crew:
    """*count* workers of one crawl.

    *program*: the command that a worker is, without the options that are each one's own; *first*:
    options for the first worker, until the crawl has begun. *drain*: seconds that a clean stop
    may take by the configuration. *as_json*: the workers' log consists of JSON objects. *rest*:
    seconds until one that died is started again; doubled each time, up to `LONGEST_REST`.
    """

    def __init__(
        self,
        program: Sequence[str],
        count: int,
        teller: Teller,
        *,
        first: Sequence[str] = (),
        drain: float = 30.0,
        as_json: bool = False,
        rest: float = REST,
    ) -> None:
        self.program = program
        self.count = count
        self.teller = teller
        self.first = first
        self.drain = drain
        self.as_json = as_json
        self.rest = rest
        self.outcome = Outcome()
        self._lives: dict[int, Life] = {}
        self._followed: set[asyncio.Task[None]] = set()
        self._begun = False
        self._level = b""
        self._ending = asyncio.Event()
        self._reaper: asyncio.Task[None] | None = None
        self._deaths = 0
        self._best = -1
        self._last = NOWHERE

    async def run(self) -> Outcome:
        """Until all workers have ended, and none is to be started again."""
        self._start(1)
        try:
            while self._followed:
                done, _ = await asyncio.wait(self._followed, return_when=asyncio.FIRST_COMPLETED)
                self._followed -= done
                for task in done:
                    task.result()
        finally:
            self.kill()
            if self._reaper is not None:
                self._reaper.cancel()
        return self.outcome

    def stop(self, *, now: bool = False) -> None:
        """All shall end resumably: what is in flight is finished first, or let go with *now*."""
        self._level = NOW if now else self._level or STOP
        for life in self._lives.values():
            life.say(self._level)
        self._end()

    def kill(self) -> None:
        """All end at once, and nothing is told."""
        for life in self._lives.values():
            with suppress(ProcessLookupError):
                life.process.kill()

    @property
    def alive(self) -> int:
        """How many workers there are now."""
        return len(self._lives)

    def snapshot(self) -> Snapshot:
        """The crawl as its workers see it: its totals, and what is each one's own together."""
        seen = [life.at for life in self._lives.values() if life.at is not None]
        return replace(
            self._last,
            pages=max([self._last.pages, *(at.pages for at in seen)]),
            items=max([self._last.items, *(at.items for at in seen)]),
            failed=max([self._last.failed, *(at.failed for at in seen)]),
            elapsed=max([self._last.elapsed, *(at.elapsed for at in seen)]),
            busy=sum(at.busy for at in seen),
            waiting=sum(at.waiting for at in seen),
        )

    # A worker ------------------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        self._followed.add(asyncio.create_task(self._follow(number)))

    async def _follow(self, number: int) -> None:
        """One worker: process after process, as long as that is of use."""
        rest = 0.0
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                life = await self._live(number)
            except OSError as error:
                self._fail(f"worker {number} cannot be started: {error.strerror}", code=4)
                return
            if not self._again(life):
                return
            short = time.monotonic() - began < LONGEST_REST
            rest = min(2 * rest, LONGEST_REST) if short and rest else self.rest
            self.teller.note(f"{life}; it is started again in {rest:g} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), rest)

    async def _live(self, number: int) -> Life:
        """Start a process, pass on what it says, and wait for its end."""
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours, limit=LONGEST)
        with theirs, closing(writer):
            process = await asyncio.create_subprocess_exec(
                *self.program,
                *(() if self._begun else self.first),
                *("--worker", str(number), "--line", str(theirs.fileno())),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=PIPE,
                pass_fds=(theirs.fileno(),),
                env=_environment(),
            )
            theirs.close()  # or its end would not be noticed
            life = self._lives[number] = Life(number, process, writer)
            life.say(self._level)
            heard = asyncio.create_task(self._hear(life, reader))
            told = asyncio.gather(self._pass_on(life), self._pass_data(life))
            try:
                await process.wait()
                life.ended.set()
                await told
                await asyncio.wait([heard], timeout=LINGER)
            finally:
                heard.cancel()
                told.cancel()
                del self._lives[number]
        return life

    def _again(self, life: Life) -> bool:
        """What the end of a process means for the others, and whether it is to be replaced."""
        code = life.process.returncode or 0
        if life.result is not None:
            self._keep(life.result)
            if life.result["ended"] == "broken":
                self.stop()
            elif life.result["ended"] != "stopped":
                self._end()  # the others see it, too
        elif life.error is not None and life.error["kind"] != GivenUp.__name__:
            self._fail(life.error["message"], life.error["hint"], life.error["code"])
        elif self._ending.is_set():
            pass  # nobody waits for its result
        elif code < 0 or life.error is not None:
            self._deaths += 1
            if self._deaths < DEATHS * (self.count if self._begun else 1):
                return True
            self._fail(
                f"{life}: {self._deaths} deaths in a row, and the crawl did not get on",
                "Nothing is lost: the same command resumes. If the kernel killed for want of memory"
                " (its log says so), take fewer workers or a smaller crawl.concurrency.",
            )
        elif code not in STOPPED:
            self._fail(str(life), code=code)
        return False

    def _keep(self, result: dict[str, Any]) -> None:
        """Of several results the best: one that is final, else the latest."""
        kept = self.outcome.result
        if kept is None or kept["ended"] == "stopped" or result["ended"] != "stopped":
            self.outcome.result = result

    def _fail(self, message: str, hint: str = "", code: int = 1) -> None:
        """The first failure is told; the others are made to end resumably."""
        if self.outcome.failure is None:
            self.outcome.failure = {"message": message, "hint": hint, "code": code}
        self.stop(now=code == NOBODY_READS)

    def _end(self) -> None:
        """Start nothing more. Who does not end in time is let go, then killed."""
        self._ending.set()
        if self._reaper is None:
            self._reaper = asyncio.create_task(self._reap())

    async def _reap(self) -> None:
        await asyncio.sleep(self.drain + GRACE)
        for life in self._lives.values():
            life.say(NOW)
        await asyncio.sleep(GRACE)
        self.kill()

    # What it says --------------------------------------------------------------------------------

    async def _hear(self, life: Life, reader: asyncio.StreamReader) -> None:
        with suppress(OSError, ValueError):  # torn, where a process was killed
            while line := await reader.readline():
                ((kind, value),) = json.loads(line).items()
                if kind == "notes":
                    self._opened(value)
                elif kind == "at":
                    self._move(life, Snapshot(**value))
                elif kind == "result":
                    life.result = value
                else:
                    life.error = value

    def _opened(self, notes: Sequence[str]) -> None:
        if not self._begun:
            self._begun = True
            self.teller.opened(notes)
            for number in range(2, self.count + 1):
                self._start(number)

    def _move(self, life: Life, at: Snapshot) -> None:
        first = self._last is NOWHERE
        life.at = self._last = at
        if at.pages + at.failed > self._best:
            self._best, self._deaths = at.pages + at.failed, 0
        self.teller.moved(first=first)

    async def _pass_on(self, life: Life) -> None:
        """What it tells people, line by line, with its number."""
        async for lines in _lines(life.process.stderr, life.ended):
            for line in lines.decode("utf-8", "replace").removesuffix("\n").split("\n"):
                if self.as_json and line.startswith("{"):
                    self.teller.line(f'{{"worker": {life.number}, {line[1:]}')
                else:
                    self.teller.line(f"w{life.number} {line}")

    async def _pass_data(self, life: Life) -> None:
        """What it writes to standard output. A torn line is left out: another one goes on."""
        read = True
        async for lines in _lines(life.process.stdout, life.ended):
            if read and lines.endswith(b"\n"):
                try:
                    await asyncio.to_thread(_write, lines)
                except BrokenPipeError:
                    read = False
                    self._fail("", code=NOBODY_READS)


def _write(data: bytes) -> None:
    sys.stdout.flush()
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


async def _lines(stream: asyncio.StreamReader | None, ended: asyncio.Event) -> AsyncIterator[bytes]:
    """Whole lines, as many as there are at once; the very last one may lack its end."""
    rest = b""
    while stream is not None and (chunk := await _chunk(stream, ended)):
        lines, newline, rest = (rest + chunk).rpartition(b"\n")
        if newline:
            yield lines + newline
    if rest:
        yield rest


async def _chunk(stream: asyncio.StreamReader, ended: asyncio.Event) -> bytes:
    """What comes next; b"" at the end, or when the process has ended and nothing comes."""
    chunk = asyncio.ensure_future(stream.read(2**16))
    end = asyncio.ensure_future(ended.wait())
    try:
        await asyncio.wait({chunk, end}, return_when=asyncio.FIRST_COMPLETED)
        done, _ = await asyncio.wait({chunk}, timeout=LINGER)
        return chunk.result() if done else b""
    finally:
        chunk.cancel()
        end.cancel()


def _environment() -> dict[str, str]:
    """The surroundings of a worker. With -P it takes no module from the current directory, so a
    package that is found only there (`python -m scraper` in a checkout) has to be named."""
    environment = dict(os.environ)
    home = Path(scraper.__file__).resolve().parents[1]
    if home == Path.cwd():
        paths = (str(home), environment.get("PYTHONPATH", ""))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return environment
