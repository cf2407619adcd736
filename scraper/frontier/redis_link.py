"""A connection to Redis that waits for a server that is away, and the scripts that it runs there.

Whatever goes through a `Link` may be sent twice, for an answer may be lost: every script sees to it
that doing it again changes nothing (`lua/base.lua`). So waiting and asking again is all there is to
a server that was killed, paused, out of memory, or is loading its data.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004 - so it is called
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004 - so it is called
)
from redis.retry import Retry

from scraper.errors import DamagedState, JobError, OutOfResource, ScraperError, UsageError
from scraper.urls import redact

if TYPE_CHECKING:
    from typing import Self

__all__ = ["FIRST", "FROM_SCRATCH", "Link", "Script", "damaged", "reading", "script"]

T = TypeVar("T")

log = logging.getLogger("scraper.crawl")

FIRST = 10.0
"""Seconds that a server may be away when it is asked for the first time: then its address is
rather wrong than its server out of order."""

ANSWER = 10.0
"""Seconds that an answer may take; then it is asked for again."""

LONGEST = 2.0
"""Seconds between two tries, at most."""

FROM_SCRATCH = "Run with --fresh to start anew; the old state is set aside, not deleted."

PASSING = re.compile(
    r"(?:^|[-: ])(OOM|BUSY|LOADING|MISCONF|READONLY|MASTERDOWN|NOREPLICAS|TRYAGAIN|UNBLOCKED)\b"
)
"""What a server says that may do it later. Before 7.0 such words stand within a script's error."""

REFUSED = re.compile(r"^(?:NOAUTH|WRONGPASS|NOPERM)\b|\bcan't run this command\b")
"""What it says to those who have no right, within a script in other words."""

PARTS = {
    "join": ("base", "queues", "ends", "join"),
    "commit": ("base", "queues", "ends", "outputs", "hand_out", "commit"),
    "beat": ("base", "queues", "ends", "beat"),
    "leave": ("base", "queues", "ends", "leave"),
    "begin": ("base", "outputs", "begin"),
    "lead": ("base", "lead"),
    "deliver": ("base", "outputs", "deliver"),
    "entries": ("base", "entries"),
    "shelve": ("base", "shelve"),
}
"""The files that make up each script, in order."""


@dataclass(frozen=True, slots=True)
class Script:
    """A program that the server runs as a whole. `sha`: the name by which it remembers it."""

    name: str
    text: bytes
    sha: str


@lru_cache
def script(name: str) -> Script:
    """The script of that name, out of its files."""
    folder = Path(__file__).parent / "lua"
    text = b"\n".join((folder / f"{part}.lua").read_bytes() for part in PARTS[name])
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest())


class Link:
    """One connection. Calls wait up to *patience* seconds for a server that is away; until it has
    answered for the first time, `FIRST`.

    *stopping*: once it is set, waiting ends at once. *quiet*: another link says that it waits. Not
    to be used by two threads at a time, but that any may call `hurry`.
    """

    def __init__(
        self,
        url: str,
        *,
        patience: float,
        stopping: threading.Event | None = None,
        quiet: bool = False,
    ) -> None:
        self.place = redact(url)
        self._patience = patience
        self._quiet = quiet
        self._until = math.inf  # monotonic
        self.known = False
        """There is a server at that address."""
        self._stopping = stopping or threading.Event()
        with self._explaining():
            self._client = redis.Redis.from_url(
                url,
                single_connection_client=False,
                max_connections=1,
                retry=Retry(NoBackoff(), 0),  # what may be asked again is known here
                protocol=2,
                decode_responses=False,
                socket_timeout=ANSWER,
                socket_connect_timeout=ANSWER,
                client_name="scraper",
            )
            self._client.response_callbacks.clear()  # answers as they come

    def hurry(self, seconds: float) -> None:
        """Wait for the server no longer than so many seconds from now, whatever the patience."""
        self._until = min(self._until, time.monotonic() + seconds)

    def run(self, asked: Script, prefix: str, arguments: Sequence[Any]) -> list[Any]:
        """What the script answers. It is sent whole where the server does not know it, or not
        any more."""

        def once() -> Any:
            try:
                return self._send("EVALSHA", asked.sha, 1, prefix, *arguments)
            except NoScriptError:
                return self._send("EVAL", asked.text, 1, prefix, *arguments)

        answer: list[Any] = self.trying(once)
        return answer

    def ask(self, *command: Any) -> Any:
        """What one command answers; it must not matter if it is done twice."""
        return self.trying(lambda: self._send(*command))

    def ask_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The same for many, in one go; an error of one is the error of all."""

        def once() -> list[Any]:
            with self._client.pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
                return list(pipeline.execute())

        return self.trying(once)

    def _send(self, *command: Any) -> Any:
        return self._client.execute_command(*command)  # type: ignore[no-untyped-call]

    def trying(self, once: Callable[[], T]) -> T:
        """Do *once*; and again, while the server is away. Raises `OutOfResource` in the end."""
        began, delay, told = time.monotonic(), 0.05, False
        while True:
            with self._explaining():
                try:
                    done = once()
                except RedisError as error:
                    if not _passes(error):
                        raise
                    self.known = self.known or _answered(error)
                    what = _brief(error)
                else:
                    self.known = True
                    if told:
                        log.warning("%s answers again", self.place)
                    return done
            patience = self._patience if self.known else min(self._patience, FIRST)
            waited = time.monotonic() - began
            left = min(patience, self._until - began) - waited
            if left <= 0 or self._stopping.is_set():
                raise OutOfResource(
                    f"{self.place} was out of order for {waited:.0f} s: {what}",
                    hint="See that the server runs and has memory, then run the same command"
                    " again: all that it had committed is safe.",
                )
            if not (told or self._quiet) and waited > 0.5:
                told = True
                log.warning(
                    "waiting for %s, at most %d s more: %s", self.place, math.ceil(left), what
                )
            self._stopping.wait(min(delay, left))
            delay = min(delay * 2, LONGEST)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, ValueError, OSError) as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> ScraperError:
        """What an error that waiting does not mend means to a person."""
        text = _brief(error)
        if isinstance(error, AuthenticationError | NoPermissionError) or REFUSED.search(text):
            return UsageError(
                f"{self.place} does not let us in: {text}",
                hint="Write them into the URL, before the host: USER:PASSWORD@.",
            )
        if "WRONGTYPE" in text:
            return damaged(self.place, f"under its keys lies what no crawl has written: {text}")
        if "The user executing the script" in text:
            return UsageError(
                f"the user of {self.place} may not do what a worker must: {text}",
                hint="docs/workers.md says what a worker's user needs.",
            )
        if "user_script" in text:  # they refuse by an answer; they fail at what they do not know
            return damaged(self.place, f"a script failed at what it found there: {text}")
        if isinstance(error, ResponseError):
            return JobError(f"{self.place} refuses a command: {text}")
        return UsageError(
            f"{self.place}: {text}",
            hint="Write it as redis://HOST:PORT/0, rediss://HOST:PORT/0 or unix:///PATH?db=0",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the connection go. Safe to call twice."""
        self._client.close()
        self._client.connection_pool.disconnect()


def _passes(error: RedisError) -> bool:
    if isinstance(error, AuthenticationError):  # it is a ConnectionError, too
        return False
    if isinstance(error, ConnectionError | TimeoutError | BusyLoadingError):
        return True
    if isinstance(error, OutOfMemoryError | ReadOnlyError):
        return True
    return PASSING.search(str(error)) is not None


def _answered(error: RedisError) -> bool:
    """Whether a server is there, which says that it cannot serve yet."""
    return isinstance(error, BusyLoadingError) or not isinstance(
        error, ConnectionError | TimeoutError
    )


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


FOREIGN = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What reading an answer may raise that no crawl has written."""


@contextmanager
def reading(link: Link) -> Iterator[None]:
    """What is read is what was stored, or the state is damaged."""
    try:
        yield
    except FOREIGN as error:
        what = f"it holds what no crawl has written: {type(error).__name__}: {error}"
        raise damaged(link.place, what) from error


def damaged(place: str, what: str, hint: str = FROM_SCRATCH) -> DamagedState:
    """The error for a crawl on a server that is not what was committed."""
    return DamagedState(f"the crawl on {place} is damaged: {what}", hint=hint)
