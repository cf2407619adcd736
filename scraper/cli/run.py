"""scrape run SPIDER: crawl, or resume where the last run stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from scraper.cli.output import (
    ArgumentOption,
    DebugOption,
    FreshOption,
    LimitOption,
    OutputOption,
    QuietOption,
    SetOption,
    StatisticsOption,
    data,
    note,
    told_json,
)
from scraper.cli.progress import PlainProgress, progress_for
from scraper.cli.summary import announce, summarise
from scraper.credentials import of_arguments, of_config
from scraper.errors import UsageError
from scraper.frontier.revive import Chosen
from scraper.redaction import protect
from scraper.report import CrawlResult
from scraper.session import Session

__all__ = ["run", "run_spider", "spider_arguments"]

THIRD_SIGNAL = 2
"""After this many signals the next one ends the process where it stands."""


def run(
    spider: Annotated[
        str, typer.Argument(metavar="SPIDER", help="Its name, or a file: FILE.py[:Class].")
    ],
    arguments: ArgumentOption = None,
    settings: SetOption = None,
    output: OutputOption = None,
    job: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name the job; else its arguments do.")
    ] = None,
    fresh: FreshOption = False,
    limit: LimitOption = 0,
    as_json: StatisticsOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> int:
    """Run a spider. An unfinished run of the same job is resumed.

    Ctrl-C ends it resumably: what is in flight is finished first; once more, and it is let go.
    """
    return run_spider(
        spider,
        arguments=arguments or [],
        settings=settings or [],
        output=output,
        job=job,
        fresh=fresh,
        limit=limit,
        as_json=as_json,
        quiet=quiet,
        debug=debug,
    )


def run_spider(
    spider: str,
    *,
    arguments: Sequence[str] = (),
    settings: Sequence[str] = (),
    output: str | None = None,
    job: str | None = None,
    fresh: bool = False,
    limit: int = 0,
    as_json: bool = False,
    quiet: bool = False,
    debug: bool = False,
    values: Mapping[str, Any] | None = None,
    retry: Chosen | None = None,
    start: Path | None = None,
    root: Path | None = None,
) -> int:
    """What `scrape run` does; returns the exit code.

    *values*: of the spider's arguments, where they are no text from a command line. *retry*: what
    of the job is to be tried again. *start*: the directory in which the project is looked for.
    *root*: where relative outputs and the job's state go, when that is not the project's own
    directory.
    """
    from scraper import logs
    from scraper.project import prepare
    from scraper.session import open_prepared
    from scraper.testing.points import from_env

    prepared = prepare(spider, start=start, overrides=settings)
    given = spider_arguments(arguments)
    protect(of_config(prepared.loaded.config))
    observers = progress_for(quiet=quiet)
    with open_prepared(
        prepared,
        args={**(values or {}), **given},
        output=output,
        job=job,
        fresh=fresh,
        limit=limit,
        retry=retry,
        observers=observers,
        root=root,
        probe=from_env(os.environ),
    ) as session:
        logs.configure(session.config.log, session.root, quiet=quiet, debug=debug)
        announce(session, quiet=quiet)
        result, signalled = _run(session, observers, quiet=quiet)
    if not quiet:
        summarise(result)
    elif not result.finished and not signalled:
        note(f"scrape: {result.spider}: {result.detail or result.ended}")
    if as_json:
        data(told_json(result.as_dict()))
    return 128 + signalled if signalled and result.ended == "stopped" else result.exit_code


def spider_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """What `-a name=value` options say; secrets among them show nowhere. Raises `UsageError`."""
    pairs: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name:
            raise UsageError(f"-a {argument}: write it as -a name=value")
        pairs[name] = value
    protect(of_arguments(pairs))
    return pairs


def _run(
    session: Session, observers: Sequence[PlainProgress], *, quiet: bool
) -> tuple[CrawlResult, int]:
    """Run the crawl with signals in hand; the result, and the first signal that came (or 0)."""
    from scraper.api import loop_factory

    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int) -> None:
        received.append(number)
        if len(received) > THIRD_SIGNAL:
            os._exit(128 + number)  # every commit is atomic: this is no worse than kill -9
        if not quiet:
            _tell_signal(len(received), session.crawl.busy)
        session.crawl.stop(now=len(received) > 1)

    async def crawl() -> CrawlResult:
        loop = asyncio.get_running_loop()
        for number in before:
            loop.add_signal_handler(number, on_signal, number)
        result = await session.crawl.run()
        if received:
            _heard_enough(loop, before)
        return result

    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            result = runner.run(crawl())
    finally:
        for number, handler in before.items():
            if handler is not None and not received:
                signal.signal(number, handler)  # uvloop leaves its own behind
        for observer in observers:
            observer.on_close("ended")
    return result, received[0] if received else 0


def _heard_enough(loop: asyncio.AbstractEventLoop, numbers: Iterable[int]) -> None:
    """The crawl has stopped as it was asked to: one signal more must not change how it is told.

    What is left is a summary and the interpreter's own end, where a default handler would end the
    process by the signal or by a traceback. The mask closes the gap between the two handlers.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, set(numbers))
    try:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, set(numbers))


def _tell_signal(count: int, busy: int) -> None:
    if count == 1:
        sys.stderr.write(f"\nstopping: {busy} pages are being finished; once more stops at once\n")
    else:
        sys.stderr.write("\nstopping at once\n")
    sys.stderr.flush()
