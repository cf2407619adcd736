"""scrape failures SPIDER: what ended without success, why, and the way out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from scraper import urls
from scraper.cli.output import (
    ArgumentOption,
    DebugOption,
    QuietOption,
    SetOption,
    data,
    note,
    told,
    told_json,
)
from scraper.cli.retrying import ReasonOption, RetryOption, SpiderArgument, chosen_job, retry
from scraper.errors import reason
from scraper.frontier.inspect import read_failures
from scraper.frontier.revive import Chosen
from scraper.job import Job
from scraper.joblist import JobStatus
from scraper.servers import SharedJob

JsonLines = Annotated[
    bool,
    typer.Option(
        "--json", help="Print a JSON object a line instead; with --retry, the statistics."
    ),
]


def failures(
    spider: SpiderArgument,
    job: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this job; needed if there are several.")
    ] = None,
    reasons: ReasonOption = None,
    again: RetryOption = False,
    arguments: ArgumentOption = None,
    settings: SetOption = None,
    as_json: JsonLines = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> int:
    """What ended without success: reason, URL, detail and time, oldest first.

    Below it, for people, how many there are of each reason, what it means and the way out.

    With --retry these requests are made again, in the run that they are of: its output is
    completed, and what it has delivered is not repeated. -a and -s are for that.
    """
    wanted = frozenset(reasons or ())
    if again:
        return retry(
            spider,
            job,
            Chosen("failures", wanted),
            arguments=arguments or [],
            settings=settings or [],
            as_json=as_json,
            quiet=quiet,
            debug=debug,
        )
    found, status = chosen_job(spider, job, settings or [])
    counts: Counter[str] = Counter()
    for failed in entries(found, status):
        if not wanted or failed["reason"] in wanted:
            counts[failed["reason"]] += 1
            data(told_json(failed) if as_json else line_of(failed))
    if not (as_json or quiet):
        summarise(counts, status)
    return 0


def entries(job: Job, status: JobStatus) -> Iterator[dict[str, Any]]:
    """The failures of *job* in JSON types. What a request carries stays in the ledger."""
    found = status.read_failures() if isinstance(status, SharedJob) else read_failures(job.ledger)
    for failed in found:
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
    return told(f"{at:%Y-%m-%d %H:%M:%S}  {failed['reason']:<16}  {failed['url']}{detail}")


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
