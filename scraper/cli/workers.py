"""scrape run --workers N: several processes, one crawl, told as if it were one process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence

from scraper.cli.crew import NOBODY_READS, REST, Crew, Outcome, Teller
from scraper.cli.output import clean, complain, data, note, told_json
from scraper.cli.progress import PlainProgress, progress_for
from scraper.cli.signals import heard_enough
from scraper.cli.summary import summarise
from scraper.config import Config
from scraper.errors import UsageError
from scraper.protocols import Shared
from scraper.report import CrawlResult
from scraper.session import Session

__all__ = ["WORKER", "require_shared", "require_workers", "supervise"]

WORKER = (sys.executable, "-P", "-m", "scraper", "run")
"""The command that a worker is."""

HEEDED = (signal.SIGINT, signal.SIGTERM)
AT_ONCE, NO_LONGER = 2, 3
"""The second signal lets go what is in flight; the third ends all processes where they stand."""


def require_shared(config: Config, asked: str) -> None:
    """Raises `UsageError`, which names what was *asked*, unless workers can share the frontier."""
    url = config.frontier.url
    if "://" not in url:
        raise UsageError(
            f'{asked}: workers share a crawl on a Redis server, and frontier.url is "{url}"',
            hint='Set frontier.url = "redis://127.0.0.1:6379/0" in config.toml, or leave it out:'
            " one process uses one core and serves thousands of pages a second.",
        )


def require_workers(session: Session) -> None:
    """Raises `UsageError` when the frontier of a plugin is not made for several workers."""
    frontier = session.crawl.parts.frontier
    if not isinstance(frontier, Shared):
        raise UsageError(
            f"--workers: {type(frontier).__name__} (frontier.url) is for one worker",
            hint='Leave --workers out, or set frontier.url = "redis://…".',
        )


def supervise(
    config: Config,
    spider: str,
    arguments: Sequence[str],
    count: int,
    *,
    fresh: bool = False,
    as_json: bool = False,
    quiet: bool = False,
    program: Sequence[str] = WORKER,
    rest: float = REST,
) -> int:
    """Run *count* workers to the end of their crawl; the exit code.

    *arguments*: of `scrape run`, for each of them. *spider*: the name it has in what is told.
    *rest*: see `Crew`.
    """
    since = f"--since={time.time():.3f}"
    displays = progress_for(quiet=quiet)

    async def crawl() -> tuple[Outcome, int]:
        crew = Crew(
            [*program, *arguments, since],
            count,
            _teller(spider, displays, quiet=quiet, crew=lambda: crew),
            first=("--fresh",) if fresh else (),
            drain=config.crawl.drain_timeout,
            as_json=config.log.as_json,
            rest=rest,
        )
        received = _heed_signals(crew, quiet=quiet)
        outcome = await crew.run()
        if received:
            heard_enough(asyncio.get_running_loop(), HEEDED)
        return outcome, received[0] if received else 0

    try:
        outcome, signalled = asyncio.run(crawl())
    finally:
        for display in displays:
            display.on_close("ended")
    return _tell(outcome, signalled, as_json=as_json, quiet=quiet)


def _teller(
    spider: str, displays: Sequence[PlainProgress], *, quiet: bool, crew: Callable[[], Crew]
) -> Teller:
    """What is told while they run: what one process would tell, and what becomes of workers."""

    def opened(notes: Sequence[str]) -> None:
        for line in () if quiet else notes:
            note(line)

    def moved(*, first: bool) -> None:
        for display in displays:
            if first:
                display.begin(lambda: f"{spider}  {crew().alive} workers", crew().snapshot)
            display.moved()

    def line(text: str) -> None:
        sys.stderr.write(f"{clean(text.expandtabs())}\n")

    def told(text: str) -> None:
        if not quiet:
            note(text)

    return Teller(opened, moved, line, told)


def _heed_signals(crew: Crew, *, quiet: bool) -> list[int]:
    """Pass SIGINT and SIGTERM on, as what they mean for a crawl; the signals that came."""
    received: list[int] = []

    def on_signal(number: int) -> None:
        received.append(number)
        if len(received) >= NO_LONGER:
            crew.kill()
            os._exit(128 + number)  # every commit is atomic: this is no worse than kill -9
        now = len(received) == AT_ONCE
        if not quiet:
            busy = crew.snapshot().busy
            pages = f": {busy} pages are being finished" if busy else ""
            how = " at once" if now else f"{pages}; once more stops at once"
            sys.stderr.write(f"\nstopping{how}\n")
            sys.stderr.flush()
        crew.stop(now=now)

    for number in HEEDED:
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    return received


def _tell(outcome: Outcome, signalled: int, *, as_json: bool, quiet: bool) -> int:
    """The summary, the statistics and the exit code, as of a crawl of one process."""
    result = CrawlResult(**outcome.result) if outcome.result is not None else None
    failure = outcome.failure
    if failure is not None and (result is None or result.ended == "stopped"):
        if failure["code"] != NOBODY_READS:
            complain(failure["message"], failure["hint"])
        return int(failure["code"])
    if result is None:
        return 128 + signalled if signalled else 0
    if not quiet:
        summarise(result)
    elif not result.finished and not signalled:
        note(f"scrape: {result.spider}: {result.detail or result.ended}")
    if as_json:
        data(told_json(result.as_dict()))
    if result.ended == "stopped":  # by a signal to this process, or to each of its workers
        return 128 + (signalled or signal.SIGTERM)
    return result.exit_code
