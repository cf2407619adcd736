"""scrape failures SPIDER: what ended without success, why, and the way out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from scraper import urls
from scraper.cli.output import DebugOption, clean, data, note
from scraper.cli.status import jobs_of
from scraper.errors import UsageError, reason
from scraper.frontier.inspect import read_failures
from scraper.job import Job
from scraper.joblist import JobStatus, jobs
from scraper.project import find_state

JsonLines = Annotated[bool, typer.Option("--json", help="Print a JSON object a line instead.")]


def failures(
    spider: Annotated[str, typer.Argument(metavar="SPIDER", help="Whose failures.")],
    job: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this job; needed if there are several.")
    ] = None,
    as_json: JsonLines = False,
    debug: DebugOption = False,
) -> None:
    """What ended without success: reason, URL, detail and time, oldest first.

    Below it, for people, how many there are of each reason, what it means and the way out.
    """
    root = find_state()
    chosen = the_job(spider, job, jobs(root))
    counts: Counter[str] = Counter()
    for failed in entries(Job(root, spider, chosen.job)):
        counts[failed["reason"]] += 1
        data(json.dumps(failed, ensure_ascii=False) if as_json else line_of(failed))
    if not as_json:
        summarise(counts, chosen)


def the_job(spider: str, name: str | None, found: list[JobStatus]) -> JobStatus:
    """The job *name* of *spider*, or its only one. Raises `UsageError`."""
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


def entries(job: Job) -> Iterator[dict[str, Any]]:
    """The failures of *job* in JSON types. What a request carries stays in the ledger."""
    for failed in read_failures(job.ledger):
        yield {
            "at": datetime.fromtimestamp(failed["at"], UTC).isoformat(timespec="seconds"),
            "reason": failed["reason"],
            "url": urls.redact(failed["url"]),
            "detail": failed["detail"],
            "depth": failed["depth"],
        }


def line_of(failed: dict[str, Any]) -> str:
    """One failure in columns that are aligned where they can be."""
    at = datetime.fromisoformat(failed["at"]).astimezone()
    detail = f"  {failed['detail']}" if failed["detail"] else ""
    return clean(f"{at:%Y-%m-%d %H:%M:%S}  {failed['reason']:<16}  {failed['url']}{detail}")


def summarise(counts: Counter[str], job: JobStatus) -> None:
    """How many of each reason, on stderr."""
    failed = sum(n for code, n in counts.items() if reason(code).kind == "failure")
    skipped = counts.total() - failed
    also = f", {skipped:,} skipped" if skipped else ""
    told = "failure" if failed == 1 else "failures"
    note(f"{job.spider}, job {job.job}: {failed:,} {told}{also}")
    for code, count in counts.most_common():
        row = reason(code)
        way = f"; {row.way_out}" if row.way_out else ""
        note(f"  {count:>7,}  {code:<16}  {row.meaning}{way}")
