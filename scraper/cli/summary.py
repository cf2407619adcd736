"""What `scrape run` says first and last: what it resumes, where the output is, what went wrong."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

from scraper.cli.output import note
from scraper.errors import reason as reason_of
from scraper.report import CrawlResult
from scraper.session import Session

__all__ = ["announce", "summarise"]

SHOWN = 6
"""Reasons that are listed; the commands that list all are named below them."""


def announce(session: Session, *, quiet: bool) -> None:
    """What is about to happen, where it is not obvious."""
    if quiet:
        return
    for line in session.notes:
        note(line)


def summarise(result: CrawlResult) -> None:
    """The end of a crawl, for people, on stderr."""
    note(_headline(result))
    for output in result.outputs:
        if output.get("kind") == "rejected" and not output.get("records"):
            continue  # it is not published
        _row("output" if output.get("kind") != "rejected" else "rejected", _output(output, result))
    kinds: dict[str, list[tuple[str, int]]] = {"failure": [], "skip": [], "item": []}
    for code, count in result.reasons.items():
        kinds[reason_of(code).kind].append((code, count))
    _reasons("failed", result.failed, kinds["failure"])
    if result.failed:
        _row("", f"`{command('failures', result)}` lists them")
    _reasons("rejected", result.rejected, kinds["item"])
    if result.rejected and result.job is not None:
        _row("", f"`{command('rejects', result)}` lists them")
    _reasons("skipped", result.skipped, kinds["skip"])
    _findings(result)
    for trap in result.traps[:SHOWN]:
        _row("endless?", trap["text"])
    if result.dropped:
        listed = ", ".join(f"{name} {n:,}" for name, n in list(result.drops.items())[:SHOWN])
        _row("dropped", f"{result.dropped:,} items: {listed}")
    if result.ended == "stopped":
        _row("next", f"the same command again resumes it ({result.pending:,} requests pending)")
    elif result.ended == "broken":
        _row("next", "mend the spider; the same command again resumes it")


def _headline(result: CrawlResult) -> str:
    how = {
        "finished": "finished",
        "limit": f"complete at its limit ({result.detail})",
        "failed": f"FAILED: {result.detail}",
        "broken": f"BROKEN: {result.detail}",
        "stopped": "stopped",
    }[result.ended]
    pace = f" ({result.pages / result.duration_s:,.0f}/s)" if result.duration_s >= 1 else ""
    return (
        f"{result.spider}: {how} · {_many(result.items, 'item')} from {_many(result.pages, 'page')}"
        f" in {result.duration_s:,.1f} s{pace}"
    )


def _output(output: dict[str, Any], result: CrawlResult) -> str:
    path = output.get("aside") or output.get("path")
    if path is None:
        return str(output.get("kind"))
    shown = _near(str(path))
    live = output.get("aside") or output.get("live")
    if not result.finished and not live and output.get("mode") == "replace":
        shown = _near(str(output.get("working", path))) + ".partial"
    records = output.get("records")
    what = "file" if output.get("kind") == "files" else "record"
    text = f"{shown} ({_many(records, what)})" if records is not None else shown
    if lost := output.get("lost"):
        text += "; did not come: " + ", ".join(f"{code} {n:,}" for code, n in lost.items())
    if output.get("aside"):
        return f"{text}, kept aside: not published"
    return text


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _near(path: str) -> str:
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


def _reasons(label: str, total: int, reasons: list[tuple[str, int]]) -> None:
    if not total:
        return
    _row(label, f"{total:,}: " + ", ".join(f"{code} {n:,}" for code, n in reasons[:SHOWN]))
    for code, _ in reasons[:SHOWN]:
        row = reason_of(code)
        if row.way_out:
            _row("", f"{code}: {row.meaning} → {row.way_out}")
        elif row.kind == "failure":
            _row("", f"{code}: {row.meaning}")


def _findings(result: CrawlResult) -> None:
    """What fell behind earlier runs; the headline has said it already where the crawl failed."""
    if not result.quality and result.rejected and not result.items:
        _row("WARNING", "every item was rejected: the site may have changed")
    findings = result.quality.get("findings", [])
    for finding in findings[:SHOWN]:
        if not result.detail.startswith(finding["text"]):
            _row("WARNING", finding["text"])
    if findings:
        _row("", f"`{command('quality', result)}` shows more")


def command(name: str, result: CrawlResult) -> str:
    """The command that tells more of this job."""
    job = f" --job {result.job}" if result.job not in (None, "default") else ""
    return f"scrape {name} {result.spider}{job}"


def _row(label: str, text: str) -> None:
    first = f"  {label:<9} "
    if sys.stderr.isatty():  # a pipe's lines are for programs: theirs to fold
        width = shutil.get_terminal_size((80, 24)).columns - 1
        lines = textwrap.wrap(
            text, max(width - len(first), 20), break_long_words=False, break_on_hyphens=False
        )
    else:
        lines = [text]
    for line in lines or [""]:
        note(f"{first}{line}")
        first = " " * len(first)
