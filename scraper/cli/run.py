"""scrape run SPIDER: crawl, or resume where the last run stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from scraper.cli.line import Line, as_worker
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
from scraper.cli.signals import heard_enough
from scraper.cli.summary import announce, summarise
from scraper.cli.workers import require_shared, require_workers, supervise
from scraper.config import Config
from scraper.credentials import of_arguments, of_config
from scraper.errors import UsageError
from scraper.frontier.revive import Chosen
from scraper.redaction import protect
from scraper.report import CrawlResult
from scraper.session import Session

__all__ = ["run", "run_spider", "spider_arguments"]

THIRD_SIGNAL = 2
"""After this many signals the next one ends the process where it stands."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """How a run takes part in a crawl of several workers.

    `join`: only in one that has begun. `allow_changed`: though the spider or the settings differ.
    `since`: when the run was asked for (seconds since the epoch): a crawl that has ended later is
    the one that was meant.
    """

    join: bool = False
    allow_changed: bool = False
    since: float | None = None

    def require(self, config: Config) -> None:
        """Raises `UsageError` when something was asked for that *config* has no way to do."""
        for word in self.words():
            require_shared(config, word)

    def words(self) -> list[str]:
        """The options of the command line that say it, but for *since*."""
        return [f"--{n.replace('_', '-')}" for n in ("join", "allow_changed") if getattr(self, n)]

    def options(self) -> dict[str, Any]:
        """What `open_prepared` is to be told."""
        return {name: value for name, value in asdict(self).items() if value}


ALONE = Sharing()


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
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, help="Processes, which share the crawl by Redis.")
    ] = 1,
    join: Annotated[
        bool, typer.Option("--join", help="Take part in a crawl on Redis; begin none.")
    ] = False,
    allow_changed: Annotated[
        bool,
        typer.Option("--allow-changed", help="... though the spider or the settings differ."),
    ] = False,
    as_json: StatisticsOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
    worker: Annotated[int, typer.Option(hidden=True)] = 0,
    line: Annotated[int | None, typer.Option(hidden=True)] = None,
    since: Annotated[float | None, typer.Option(hidden=True)] = None,
) -> int:
    """Run a spider. An unfinished run of the same job is resumed.

    Ctrl-C ends it resumably: what is in flight is finished first; once more, and it is let go.

    With a Redis server as the frontier the same command joins a crawl that is running, from any
    machine; --workers N does so N times. --join is for the further machines: it begins no crawl.
    """
    sharing = Sharing(join=join, allow_changed=allow_changed, since=since)
    if workers > 1:
        from scraper.project import prepare

        prepared = prepare(spider, overrides=settings or [])
        config = prepared.loaded.config
        require_shared(config, f"--workers {workers}")
        protect(of_config(config))
        spider_arguments(arguments or [])
        words = [
            spider,
            *(f"--argument={argument}" for argument in arguments or ()),
            *(f"--set={setting}" for setting in settings or ()),
            *([f"--output={output}"] if output is not None else ()),
            *([f"--job={job}"] if job is not None else ()),
            *([f"--limit={limit}"] if limit else ()),
            *(["--quiet"] if quiet else ()),
            *(["--debug"] if debug else ()),
            *sharing.words(),
        ]
        name = prepared.entry.name
        return supervise(config, name, words, workers, fresh=fresh, as_json=as_json, quiet=quiet)
    with as_worker(worker, line, debug=debug) as parent:
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
            sharing=sharing,
            parent=parent,
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
    sharing: Sharing = ALONE,
    parent: Line | None = None,
) -> int:
    """What `scrape run` does; returns the exit code.

    *values*: of the spider's arguments, where they are no text from a command line. *retry*: what
    of the job is to be tried again. *start*: the directory in which the project is looked for.
    *root*: where relative outputs and the job's state go, when that is not the project's own
    directory. *parent*: who started this worker, and is told what else people would be.
    """
    from scraper import logs
    from scraper.project import prepare
    from scraper.session import open_prepared
    from scraper.testing.points import from_env

    prepared = prepare(spider, start=start, overrides=settings)
    given = spider_arguments(arguments)
    config = prepared.loaded.config
    protect(of_config(config))
    sharing.require(config)
    # What is told while the job is opened (a server that is waited for) goes to stderr alone.
    early = config.log.model_copy(update={"file": None})
    logs.configure(early, prepared.project.root, quiet=quiet, debug=debug)
    displays = progress_for(quiet=quiet) if parent is None else []
    with open_prepared(
        prepared,
        args={**(values or {}), **given},
        output=output,
        job=job,
        fresh=fresh,
        limit=limit,
        retry=retry,
        observers=displays if parent is None else [parent],
        root=root,
        probe=from_env(os.environ),
        **sharing.options(),
    ) as session:
        number = parent.number if parent is not None else 0
        logs.configure(session.config.log, session.root, quiet=quiet, debug=debug, worker=number)
        if parent is None:
            announce(session, quiet=quiet)
        else:
            require_workers(session)
            parent.notes(session.notes)
        result, signalled = _run(session, displays, quiet=quiet, parent=parent)
    if parent is not None:
        parent.result(result)
    elif not quiet:
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
    session: Session,
    displays: Sequence[PlainProgress],
    *,
    quiet: bool,
    parent: Line | None = None,
) -> tuple[CrawlResult, int]:
    """Run the crawl with signals in hand; the result, and the first signal that came (or 0)."""
    from scraper.api import loop_factory

    received: list[int] = []
    # A worker's terminal is its parent's, which passes on what an interrupt there means.
    heeded = (signal.SIGINT, signal.SIGTERM) if parent is None else (signal.SIGTERM,)
    before = {number: signal.getsignal(number) for number in heeded}

    def on_signal(number: int) -> None:
        received.append(number)
        if len(received) > THIRD_SIGNAL:
            os._exit(128 + number)  # every commit is atomic: this is no worse than kill -9
        if not quiet and parent is None:
            _tell_signal(len(received), session.crawl.busy)
        session.crawl.stop(now=len(received) > 1)

    async def crawl() -> CrawlResult:
        loop = asyncio.get_running_loop()
        for number in before:
            loop.add_signal_handler(number, on_signal, number)
        if parent is not None:
            parent.heed(
                lambda now: loop.call_soon_threadsafe(partial(session.crawl.stop, now=now)),
                session.config.crawl.drain_timeout,
            )
        try:
            result = await session.crawl.run()
        finally:
            if parent is not None:
                parent.over()
        if received:
            heard_enough(loop, before)
        return result

    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            result = runner.run(crawl())
    finally:
        for number, handler in before.items():
            if handler is not None and not received:
                signal.signal(number, handler)  # uvloop leaves its own behind
        for display in displays:
            display.on_close("ended")
    return result, received[0] if received else 0


def _tell_signal(count: int, busy: int) -> None:
    if count == 1:
        sys.stderr.write(f"\nstopping: {busy} pages are being finished; once more stops at once\n")
    else:
        sys.stderr.write("\nstopping at once\n")
    sys.stderr.flush()
