"""What `scrape failures` and `scrape rejects` have in common: which job, and trying again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from scraper.cli.output import data, note, told_json
from scraper.cli.status import UNFINISHED, every_job, jobs_of
from scraper.errors import ConfigError, UsageError
from scraper.frontier.revive import Chosen, survey
from scraper.job import Job
from scraper.joblist import JobStatus
from scraper.project import find_state, prepare
from scraper.servers import SharedJob
from scraper.work import job_of

__all__ = ["ReasonOption", "RetryOption", "SpiderArgument", "chosen_job", "listed_job", "retry"]

SpiderArgument = Annotated[
    str, typer.Argument(metavar="SPIDER", help="Its name, or the file that it was run from.")
]
RetryOption = Annotated[
    bool, typer.Option("--retry", help="Fetch them again, and complete the run that they are of.")
]
ReasonOption = Annotated[
    list[str] | None, typer.Option("--reason", metavar="CODE", help="Only those of this reason.")
]

HIDDEN = "**********"
"""What pydantic writes in place of a secret."""


def chosen_job(
    spider: str, name: str | None, settings: Sequence[str] = ()
) -> tuple[Job, JobStatus]:
    """The job *name* of *spider*, or its only one. Raises `UsageError`, and what keeps a server
    from telling of it."""
    if spider.endswith(".py") or ".py:" in spider:
        spider = prepare(spider).entry.name
    status = listed_job(spider, name, settings)
    return Job(find_state(), spider, status.job), status


def listed_job(spider: str, name: str | None, settings: Sequence[str] = ()) -> JobStatus:
    """The same, of which nothing is read yet."""
    found, problems = every_job(spider, settings)
    for problem in problems:
        if not isinstance(problem, ConfigError):  # which says nothing against a job that is here
            raise problem
    try:
        return the_job(spider, name, found)
    except UsageError:
        for problem in problems:
            raise problem from None
        raise


def the_job(spider: str, name: str | None, found: list[JobStatus]) -> JobStatus:
    """Of the jobs *found*, the one called *name* of *spider*, or its only one."""
    own = {job.job: job for job in jobs_of(spider, found)}
    if name is None and len(own) == 1:
        return next(iter(own.values()))
    if name in own:
        return own[name]
    listed = ", ".join(own)
    if name is None:
        raise UsageError(
            f"spider {spider} has several jobs: {listed}", hint="Choose one with --job NAME."
        )
    raise UsageError(f"spider {spider} has no job {name}", hint=f"There are: {listed}.")


def retry(
    spider: str,
    name: str | None,
    chosen: Chosen,
    *,
    arguments: Sequence[str] = (),
    settings: Sequence[str] = (),
    as_json: bool = False,
    quiet: bool = False,
    debug: bool = False,
) -> int:
    """Try again what is *chosen* of a job, as `scrape run` would go on with it; the exit code.

    The spider's arguments and `-o` are those of the job; *arguments* are for secrets among them,
    which it does not keep.
    """
    from scraper.cli.run import run_spider

    def go_on(what: Chosen | None) -> int:
        return run_spider(
            spider,
            arguments=arguments,
            values=_arguments(stored, arguments),
            settings=settings,
            output=stored.get("output"),
            job=job.name,
            retry=what,
            as_json=as_json and what is not None,
            quiet=quiet,
            debug=debug,
        )

    job, status = chosen_job(spider, name, settings)
    if isinstance(status, SharedJob):
        raise UsageError(
            f"--retry: job {job.name} is on {status.place}, and a crawl there cannot be taken up"
            " again once it is over",
            hint='Crawl anew with `scrape run`; frontier.url = "sqlite" keeps what can be retried.',
        )
    stored = _stored(job)
    phase = status.phase
    if phase == "publishing":  # first things first
        if code := go_on(None):
            return code
        phase = "finished"
    found = survey(job.ledger, chosen)
    if found.unrepeatable and not quiet:
        note(
            f"left out: {found.unrepeatable:,} that may not be sent twice (POST and the like);"
            " --reason CODE takes them, too"
        )
    if not found.requests and phase not in UNFINISHED:
        if not quiet:
            note(f"{status.spider}, job {job.name}: there is nothing to retry")
        if as_json:  # the statistics of the run as it is
            data(told_json(next(reversed(job.history()), {})))
        return 0
    return go_on(chosen)


def _stored(job: Job) -> dict[str, Any]:
    summary = job.summary()
    stored = job_of(summary.state) if summary is not None else None
    if stored is None:
        raise UsageError(f"job {job.name} of spider {job.spider} has never begun")
    return stored


def _arguments(stored: Mapping[str, Any], given: Sequence[str]) -> dict[str, Any]:
    values = dict(stored.get("arguments") or {})
    names = {argument.partition("=")[0] for argument in given}
    if hidden := [n for n, v in values.items() if v == HIDDEN and n not in names]:
        raise UsageError(
            f"the job does not keep the secret argument {hidden[0]}",
            hint=f"Give it again: -a {hidden[0]}=VALUE.",
        )
    return values
