"""What `scrape status` tells of a crawl that workers share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from scraper.cli.output import columns, data, note, told, when
from scraper.servers import SharedJob

if TYPE_CHECKING:
    from scraper.frontier.redis_status import Crawl, Shelved, WorkerStatus

__all__ = ["as_dict", "forget", "show"]

HEADS = ("WORKER", "MACHINE", "PID", "HOSTS", "LEASED", "PAGES", "RATE", "SIGN", "")
WIDEST = 20
"""Characters of a machine's name."""


def show(job: SharedJob) -> None:
    """All that the server says of a job, below its line in the table."""
    data("")
    data(told(f"{job.spider}, job {job.job}, on {job.place}"))
    crawl = job.crawl
    if crawl is not None:
        for label, text in _facts(crawl):
            data(told(f"  {label:<9} {text}"))
    for number, run in enumerate(job.aside):
        data(told(f"  {'' if number else 'earlier':<9} {_earlier(run)}"))
    if job.aside:
        data(f"  {'':<9} `scrape status {job.spider} --forget` removes them")
    if crawl is not None and crawl.workers:
        data("")
        columns(map(_row, crawl.workers), HEADS)


def _facts(crawl: Crawl) -> Iterator[tuple[str, str]]:
    requests = [f"{crawl.pending:,} pending"]
    queued = crawl.pending - crawl.leased - crawl.delayed - crawl.suspects
    for count, what in (
        (queued, "queued"),
        (crawl.leased, "with workers"),
        (crawl.delayed, "due later"),
        (crawl.suspects, "to run alone"),
    ):
        if 0 < count < crawl.pending:
            requests.append(f"{count:,} {what}")
    yield "requests", ", ".join(requests)
    yield "URLs", f"{crawl.seen:,} seen"
    yield "hosts", f"{crawl.held:,} held, {crawl.ready:,} ready, {crawl.hosts:,} met"
    if crawl.output:
        pages = f"{crawl.output:,} page{'' if crawl.output == 1 else 's'}"
        yield "output", f"items of {pages} wait to be written ({_size(crawl.output_bytes)})"
    used, limit = _size(crawl.memory), crawl.memory_limit
    share = f"{crawl.memory / limit:.0%} of {_size(limit)}" if limit else "without a limit"
    yield "server", f"{used} of memory in use, {share}"
    yield "workers", ", ".join(_crew(crawl))


def _crew(crawl: Crawl) -> Iterator[str]:
    machines = {worker.machine for worker in crawl.workers}
    on = f" on {len(machines)} machines" if len(machines) > 1 else ""
    yield f"{len(crawl.workers) - crawl.stale}{on}"
    if crawl.stale:
        yield f"{crawl.stale} stale"
    if crawl.crashes:
        yield f"{crawl.crashes:,} died so far"


def _row(worker: WorkerStatus) -> tuple[object, ...]:
    machine = worker.host if len(worker.host) <= WIDEST else f"{worker.host[: WIDEST - 1]}…"
    marks = ["writes"] if worker.leads else []
    marks += ["STALE"] if worker.stale else []
    return (
        worker.name,
        machine,
        worker.pid,
        f"{worker.hosts:,}",
        f"{worker.leases:,}",
        f"{worker.pages:,}",
        f"{worker.rate:,.1f}/s",
        f"{worker.sign:.0f} s",
        " ".join(marks),
    )


def _earlier(run: Shelved) -> str:
    why = run.reason or ("over" if run.retired else "set aside")
    return f"a run that made way on {when(datetime.fromtimestamp(run.at, UTC))} ({why})"


def _size(count: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count:,} bytes"


def as_dict(job: SharedJob) -> dict[str, Any]:
    """Everything, for programs: times in ISO 8601, sizes in bytes, spans in seconds."""
    crawl = job.crawl
    told: dict[str, Any] = {"server": job.place}
    if crawl is not None:
        told |= {
            name: getattr(crawl, name)
            for name in (
                "run", "ended", "pending", "leased", "delayed", "suspects", "ready", "held",
                "hosts", "seen", "failures", "rejects", "output", "output_bytes", "crashes",
                "memory", "memory_limit", "stale",
            )
        }  # fmt: skip
        told["workers"] = [
            {**asdict(worker), "started": _iso(worker.started)} for worker in crawl.workers
        ]
    told["aside"] = [{**asdict(run), "at": _iso(run.at)} for run in job.aside]
    return told


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def forget(jobs: Sequence[SharedJob]) -> None:
    """Remove the earlier runs of *jobs* from their servers, and say so."""
    for job in jobs:
        if count := job.forget():
            runs = "1 earlier run" if count == 1 else f"{count:,} earlier runs"
            note(f"{job.spider}, job {job.job}: {runs} removed from {job.place}")
    if not any(job.aside for job in jobs):
        note("there is nothing to forget")
