"""scrape rejects SPIDER: items that did not fit, why, and where they were found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from scraper import urls
from scraper.cli.failures import JsonLines
from scraper.cli.output import (
    ArgumentOption,
    DebugOption,
    QuietOption,
    SetOption,
    clean,
    data,
    note,
    told_json,
)
from scraper.cli.retrying import ReasonOption, RetryOption, SpiderArgument, chosen_job, retry
from scraper.errors import reason
from scraper.frontier.inspect import read_rejects
from scraper.frontier.revive import Chosen
from scraper.job import Job
from scraper.joblist import JobStatus
from scraper.revisits import told
from scraper.servers import SharedJob
from scraper.work import names_of

SHOWN = 10
"""Fields that are told below a reason, the most frequent first."""

COUNTED = 1_000
"""Fields that are told apart: names come from pages, too, where items are dicts."""


def rejects(
    spider: SpiderArgument,
    job: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this job; needed if there are several.")
    ] = None,
    reasons: ReasonOption = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", metavar="NAME", help="Only those with this field at fault."),
    ] = None,
    again: RetryOption = False,
    arguments: ArgumentOption = None,
    settings: SetOption = None,
    as_json: JsonLines = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> int:
    """The items that were rejected: reason, type, fields at fault, URL of the page.

    Below it, for people, how many there are of each reason, and which fields are at fault.

    With --retry their pages are fetched again, in the run that they are of: what was missing is
    added to its output, and what it has delivered is not repeated. -a and -s are for that.
    """
    chosen = Chosen("rejects", frozenset(reasons or ()), frozenset(fields or ()))
    if again:
        return retry(
            spider,
            job,
            chosen,
            arguments=arguments or [],
            settings=settings or [],
            as_json=as_json,
            quiet=quiet,
            debug=debug,
        )
    found, status = chosen_job(spider, job, settings or [])
    tally = Tally()
    for item in entries(found, status):
        names = {error["field"] for error in item["errors"]}
        if chosen.reasons and item["reason"] not in chosen.reasons:
            continue
        if chosen.fields and not names & chosen.fields:
            continue
        tally.add(item)
        data(told_json(item) if as_json else line_of(item))
    if not (as_json or quiet):
        tally.tell(status, found)
    return 0


def entries(job: Job, status: JobStatus) -> Iterator[dict[str, Any]]:
    """The rejected items of *job* in JSON types, oldest first: one page after the other."""
    found = status.read_rejects() if isinstance(status, SharedJob) else read_rejects(job.ledger)
    for page in found:
        at = datetime.fromtimestamp(page["at"], UTC).isoformat(timespec="seconds")
        url = urls.redact(page["url"])
        for item in told(page["items"]):
            yield {"at": at, "url": url, "depth": page["depth"], **item}


def line_of(item: dict[str, Any]) -> str:
    """One item in columns that are aligned where they can be."""
    return clean(f"{item['reason']:<14}  {item['item']:<16}  {_at_fault(item):<20}  {item['url']}")


def _at_fault(item: dict[str, Any]) -> str:
    fields = dict.fromkeys(error["field"] for error in item["errors"])
    return ",".join(filter(None, fields)) or item["stage"] or "-"


class Tally:
    """How many items there are of each reason, and how often which field is at fault."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.fields: Counter[tuple[str, str]] = Counter()
        self.messages: dict[tuple[str, str], str] = {}

    def add(self, item: dict[str, Any]) -> None:
        self.reasons[item["reason"]] += 1
        for name, message in {e["field"]: e["message"] for e in reversed(item["errors"])}.items():
            where = f"{item['item']}.{name}" if name else item["stage"] or item["item"]
            key = (item["reason"], where)
            if key in self.fields or len(self.fields) < COUNTED:
                self.fields[key] += 1
                self.messages.setdefault(key, message)

    def tell(self, status: JobStatus, job: Job) -> None:
        """On stderr."""
        count = self.reasons.total()
        told = "item" if count == 1 else "items"
        note(f"{status.spider}, job {status.job}: {count:,} {told} rejected")
        for code, number in self.reasons.most_common():
            note(f"  {number:>7,}  {code:<14}  {reason(code).meaning}")
            own = [(key, n) for key, n in self.fields.most_common() if key[0] == code]
            for key, times in own[:SHOWN]:
                note(f"           {times:>7,}  {key[1]}: {self.messages[key]}".rstrip(": "))
        if count and (path := _file_of(job, status)) is not None:
            note(f"  what was read from the pages is in {path}")


def _file_of(job: Job, status: JobStatus) -> Path | None:
    """The file of the job's rejected items, wherever it is by now."""
    summary = status.crawl if isinstance(status, SharedJob) else job.summary()
    if summary is None:
        return None
    moved = names_of(summary.state, "asides")
    for key in summary.positions:
        if key.endswith(".rejected.jsonl"):
            places = [moved.get(key, key)] if summary.phase in ("finished", "failed") else []
            for place in (*places, f"{key}.partial", key):
                if Path(place).is_file():
                    return Path(place)
    return None
