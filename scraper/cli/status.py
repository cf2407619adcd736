"""scrape status: the jobs, and how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

import typer

from scraper.cli import sharing
from scraper.cli.output import (
    DebugOption,
    JsonOption,
    SetOption,
    columns,
    complain,
    data_json,
    note,
    when,
)
from scraper.errors import ScraperError, UsageError
from scraper.joblist import JobStatus, jobs
from scraper.mistakes import nearest
from scraper.project import Project, find, find_state
from scraper.report import began, failures
from scraper.servers import Servers, SharedJob

UNFINISHED = ("", "running", "publishing", "reopening")
HEADS = ("SPIDER", "JOB", "STATE", "PAGES", "ITEMS", "FAILED", "PENDING", "STARTED")


def status(
    spider: Annotated[
        str | None, typer.Argument(metavar="SPIDER", help="Only this spider's jobs.")
    ] = None,
    forget: Annotated[
        bool,
        typer.Option("--forget", help="Remove this spider's earlier runs from the Redis server."),
    ] = False,
    settings: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """The jobs and how far they are: the running ones, the unfinished and the finished.

    An unfinished job goes on when its command is given again.

    For a SPIDER whose crawl is on a Redis server: also its workers, its queue, and the server's
    memory. Earlier runs, which --fresh set aside or another run has followed, stay there until
    --forget removes them.
    """
    if forget and spider is None:
        raise UsageError("--forget: whose earlier runs?", hint="scrape status SPIDER --forget")
    found, problems = every_job(spider, settings or [])
    if spider is not None and not (problems and not found):
        found = jobs_of(spider, found)
    for problem in problems:
        complain(problem.message, problem.hint)
    if forget:
        sharing.forget([job for job in found if isinstance(job, SharedJob)])
        return
    if as_json:
        data_json([_as_dict(job) for job in found])
        return
    readable = [job for job in found if not job.problem]
    if readable:
        columns((_row(job) for job in readable), HEADS)
    for job in found:
        if job.problem:
            first, _, hint = job.problem.partition("\n")
            complain(f"{job.spider} {job.job}: {first}", hint)
        elif spider is not None and isinstance(job, SharedJob):
            sharing.show(job)
    if not found and not problems:
        note("There are no jobs yet: `scrape run SPIDER` makes one.")


def every_job(
    spider: str | None, settings: Sequence[str] = ()
) -> tuple[list[JobStatus], list[ScraperError]]:
    """The jobs here and on servers, of all spiders or (on servers) only of *spider*; and why some
    of the latter are not among them."""
    root = find_state()
    servers = Servers(find(root) or Project(root, None), settings)
    return [*jobs(root), *servers.jobs(spider)], servers.problems


def jobs_of(spider: str, found: list[JobStatus]) -> list[JobStatus]:
    """Those of *spider*. Raises `UsageError` when it has none."""
    own = [job for job in found if job.spider == spider]
    if not own:
        names = sorted({job.spider for job in found})
        close = nearest(spider, names)
        raise UsageError(
            f"spider {spider} has no job here" + (f"; {close}" if close else ""),
            hint=f"There are jobs of: {', '.join(names)}."
            if names
            else "Nothing was run here yet.",
        )
    return own


def state_of(job: JobStatus) -> str:
    """What to call a job's phase: a job in the making that nobody runs is unfinished."""
    if job.running:
        return "running"
    return "unfinished" if job.phase in UNFINISHED else job.phase


def started_at(job: JobStatus) -> datetime | None:
    """When the job was created."""
    with suppress(ValueError):
        return began(job.started)
    return None


def _row(job: JobStatus) -> tuple[object, ...]:
    numbers = (job.counts["pages"], job.counts["items"], failures(job.counts), job.pending)
    return (
        job.spider,
        job.job,
        state_of(job),
        *(f"{number:,}" for number in numbers),
        when(started_at(job)),
    )


def _as_dict(job: JobStatus) -> dict[str, Any]:
    started = started_at(job)
    return {
        "spider": job.spider,
        "job": job.job,
        "state": "damaged" if job.problem else state_of(job),
        "phase": job.phase,
        "running": job.running,
        "pid": job.pid,
        "started": started.isoformat() if started else None,
        "pages": job.counts["pages"],
        "items": job.counts["items"],
        "failed": failures(job.counts),
        "pending": job.pending,
        "counts": dict(job.counts),
        "directory": str(job.directory),
        "problem": job.problem,
        "shared": sharing.as_dict(job) if isinstance(job, SharedJob) else None,
    }
