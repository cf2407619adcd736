"""scrape quality SPIDER: what the last run delivered, beside what is usual."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from scraper.assessment import Assessment, assess
from scraper.cli.output import DebugOption, JsonOption, clean, columns, data, data_json, note, when
from scraper.cli.retrying import listed_job
from scraper.cli.status import UNFINISHED, started_at, state_of
from scraper.config import Quality
from scraper.drift import Finding, Usual, earlier_runs, percent, usual
from scraper.errors import ScraperError
from scraper.job import Job
from scraper.joblist import JobStatus
from scraper.project import find_state, prepare
from scraper.quality import Profile
from scraper.servers import SharedJob
from scraper.work import job_of

HEADS = ("FIELD", "FILLED", "USUAL", "DISTINCT", "RANGE")
WIDTH, FIELD, RANGE = 79, 28, 24
"""Characters of a line, and at most of these two columns."""

SIZES = {"text": "characters", "list": "entries", "object": "values", "bytes": "bytes"}
"""What the sizes of a kind of value count."""


def quality(
    spider: Annotated[str, typer.Argument(metavar="SPIDER", help="Whose items.")],
    job: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this job; needed if there are several.")
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """What the last run delivered: for each item type its fields, how often they are filled, how
    many different values there are, and their range; what was rejected; what fell behind earlier
    runs.

    USUAL is the median of the earlier runs. While a job runs, this is how far it is.
    """
    chosen = listed_job(spider, job)
    found = last_run(Job(find_state(), chosen.spider, chosen.job), chosen)
    if as_json:
        data_json(as_dict(found, chosen))
        return
    for line in heading(found, chosen):
        data(line)
    for name, items in found.items.items():
        data("")
        show(name, items, found.usual.get(name))
    for finding in found.findings:
        data("")
        for line in textwrap.wrap(
            f"WARNING  {clean(finding.text)}", WIDTH, subsequent_indent=" " * 9
        ):
            data(line)
    if not found.items:
        note('No item was watched: there was none yet, or quality.action = "off".')


def last_run(job: Job, status: JobStatus) -> Assessment:
    """What is known of the run that *status* tells of: as it was judged, or as far as it is."""
    rules = rules_of(job.spider)
    summary = status.crawl if isinstance(status, SharedJob) else job.summary()
    state = summary.state if summary is not None else {}
    stored = job_of(state) or {}
    run, arguments = str(stored.get("run", "")), stored.get("arguments", {})
    history = job.history()
    last = history[-1] if history else {}
    told = last.get("quality")
    over = not status.running and status.phase not in UNFINISHED
    if told and over and last.get("run") == run:
        earlier = earlier_runs(history[:-1], arguments, rules)
        findings = [Finding(**finding) for finding in told["findings"]]
        return Assessment(
            told["started"], told["whole"], len(earlier), told["items"], findings, usual(earlier)
        )
    return assess(
        Profile.restored(state),
        rules,
        started=status.started,
        items=status.counts["items"],
        complete=True,
        finished=False,
        arguments=arguments,
        history=job.history(but=run),
    )


def rules_of(spider: str) -> Quality:
    """The spider's own settings; the defaults when it cannot be loaded, which is no reason to
    show nothing."""
    try:
        return prepare(spider).loaded.config.quality
    except ScraperError:
        return Quality()


def as_dict(found: Assessment, status: JobStatus) -> dict[str, Any]:
    return {
        "spider": status.spider,
        "job": status.job,
        "state": state_of(status),
        **found.as_dict(),
        "usual": {
            name: {"count": usually.count, "fill": dict(usually.fill)}
            for name, usually in found.usual.items()
        },
    }


# For people -------------------------------------------------------------------------------------


def heading(found: Assessment, status: JobStatus) -> Iterator[str]:
    state = state_of(status)
    with_others = f"{found.compared} earlier run{'' if found.compared == 1 else 's'}"
    compared = f"compared with {with_others}" if found.compared else "nothing to compare with yet"
    yield clean(f"{status.spider}, job {status.job}: {state}, {when(started_at(status))}")
    cut = "" if found.whole or state == "failed" else "not a whole run, "
    yield f"{cut}{compared}"


def show(name: str, items: Mapping[str, Any], usually: Usual | None) -> None:
    """One item type: a headline, its fields, what was not delivered."""
    usual_count = usually.count if usually is not None else None
    told = f", usually {usual_count:,.0f}" if usual_count is not None else ""
    count = items["count"]
    data(clip(f"{clip(name, FIELD)}: {count:,} item{'' if count == 1 else 's'}{told}", WIDTH))
    fields = {
        label: one for label, one in items["fields"].items() if one["kinds"] or items["count"]
    }
    if fields:
        fill = usually.fill if usually is not None else {}
        columns((row(label, one, fill.get(label)) for label, one in fields.items()), HEADS)
    for what in ("rejected", "dropped"):
        reasons = items["reasons" if what == "rejected" else "dropped"]
        for reason, count in reasons.items():
            data(clip(f"{what} {count:,}: {reason}", WIDTH))
    for label, one in items["fields"].items():
        for message, count in one["because"].items():
            data(clip(f"  {label} {count:,}: {message}", WIDTH))


def row(label: str, one: Mapping[str, Any], usually: float | None) -> Sequence[str]:
    return (
        clip(label, FIELD),
        percent(one["fill"]) if one["fill"] is not None else "-",
        percent(usually) if usually is not None else "-",
        f"{one['distinct']:,}" if one["distinct"] is not None else "-",
        clip(", ".join(ranges(one["kinds"])), RANGE),
    )


def ranges(kinds: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The range of each kind of value, the most frequent first."""
    for kind, values in sorted(kinds.items(), key=lambda pair: -pair[1]["count"]):
        low, high = shown(kind, values["min"]), shown(kind, values["max"])
        told = low if low == high else f"{low}…{high}"
        yield f"{told} {SIZES[kind]}" if kind in SIZES else told


def shown(kind: str, value: Any) -> str:
    if kind == "date":
        return str(value)[:10]
    if kind == "flag":
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**9 else f"{value:.3g}"
    return f"{value:.6g}"


def clip(text: str, width: int) -> str:
    plain = clean(text)
    return plain if len(plain) <= width else f"{plain[: width - 1]}…"
