"""Succession: what becomes of what an earlier process left, when a run of its job is asked for.

Resumed, joined, retired, set aside, or partly tried again; and what a person should know of it.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from scraper.claims import inherited
from scraper.errors import DamagedState, JobError, ScraperError, UsageError
from scraper.frontier.revive import Chosen, revive, survey
from scraper.identity import OVER, Identity, Revival
from scraper.job import Job
from scraper.protocols import Durable
from scraper.report import began
from scraper.work import Recovery, job_of

__all__ = ["Foreign", "Terms", "Way", "make_way", "try_again"]


class Foreign:
    """The frontier of a plugin, where it keeps a job's state in place of the `Job` itself."""

    def __init__(self, frontier: Durable) -> None:
        self._frontier = frontier
        self._held: Recovery | None = None
        self._delivered = False

    def summary(self) -> Recovery | None:
        self._held = self._frontier.peek()
        self._delivered = self._held is not None and self._held.phase == "finished"
        return self._held

    def retire(self) -> object:
        return self._frontier.retire()

    def set_aside(self, reason: str) -> object:
        self._delivered = False
        return self._frontier.set_aside(reason)

    def claims(self, stages: Sequence[str]) -> Mapping[str, array[int]]:
        """See `Job.claims`: what the run that made way leaves to the next."""
        held, self._held = self._held, None
        return inherited(stages, held.claims, delivered=self._delivered) if held else {}


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a run takes the place of what is there; see `open_prepared`."""

    fresh: bool = False
    join: bool = False
    since: float | None = None
    allow_changed: bool = False


Way = Callable[[Job | Foreign, Identity, int], list[str]]


def make_way(keeper: Job | Foreign, identity: Identity, limit: int, *, terms: Terms) -> list[str]:
    """Resume, retire or set aside what is there; what a person should know of it."""
    if terms.fresh:
        _nobody_works(keeper, identity)
        there, identity.abandoned = _abandoned(keeper)
        identity.clear = partial(keeper.set_aside, "--fresh")
        where = f"in {keeper.directory}" if isinstance(keeper, Job) else "by the frontier"
        return [f"starting anew; the old state is kept {where}"] if there else []
    summary = keeper.summary()
    stored = job_of(summary.state) if summary is not None else None
    if summary is None or stored is None:
        if terms.join:
            raise UsageError(
                "--join: there is no crawl of this job to join",
                hint="Begin it on another machine, or here: without --join.",
            )
        return []
    if summary.phase in OVER and not (terms.join or _over_since(summary.state, terms.since)):
        identity.clear = keeper.retire
        return []
    identity.started = stored["started"]
    identity.resumed = True
    identity.young = _begun_since(identity.started, terms.since)
    if summary.phase in OVER:
        return [f"the run of {identity.started} is over"]
    if summary.phase == "publishing":
        return [f"publishing what the run of {identity.started} has finished"]
    counts = summary.counts
    if 0 < limit < counts["items"] and "limit" not in summary.state:
        raise JobError(
            f"the unfinished run of {identity.started} has {counts['items']:,} items already,"
            f" and the limit is {limit:,}",
            hint="Look with another job: --job try --limit N -o -. Or raise the limit.",
        )
    others = summary.others if isinstance(summary, Recovery) else 0
    told = (
        f"{'joining' if others else 'resuming'} the run of {identity.started} (job {identity.job}):"
        f" {counts['pages']:,} pages and {counts['items']:,} items are done,"
        f" {summary.pending:,} requests pending"
    )
    return [told]


def _nobody_works(keeper: Job | Foreign, identity: Identity) -> None:
    """Raises `JobError` while workers are at what shall be set aside."""
    with suppress(DamagedState):  # that is what --fresh is for
        summary = keeper.summary() if isinstance(keeper, Foreign) else None
        if summary is not None and summary.others and summary.phase not in OVER:
            raise JobError(
                f"--fresh: {summary.others} worker{'s are' if summary.others > 1 else ' is'} at"
                f" work on job {identity.job}",
                hint="Stop them first (Ctrl-C, SIGTERM); `scrape status` names them.",
            )


def _begun_since(started: str, since: float | None) -> bool:
    """Whether the run was begun no earlier than *since*, whose second is that of `started`."""
    with suppress(ValueError):
        return since is not None and began(started).timestamp() >= int(since)
    return False


def _over_since(state: Mapping[str, bytes], since: float | None) -> bool:
    """Whether the run that is over ended later than *since*."""
    with suppress(KeyError, ValueError):
        return since is not None and float(state["ended_at"]) >= since
    return False


def try_again(
    keeper: Job | Foreign, identity: Identity, limit: int, *, chosen: Chosen
) -> list[str]:
    """Let what is *chosen* be pending again, once the crawl can begin; or only go on."""
    if isinstance(keeper, Foreign):
        raise UsageError(
            "--retry needs the ledger of the project, and this job's state is kept by a plugin",
            hint='Crawl anew with `scrape run`; frontier.url = "sqlite" keeps what can be retried.',
        )
    job, summary = keeper, keeper.summary()
    stored = job_of(summary.state) if summary is not None else None
    if summary is None or stored is None:
        raise JobError(f"job {job.name} of spider {job.spider} has never run")
    if "limit" in summary.state:
        raise UsageError(
            f"the run of {stored['started']} was cut at crawl.max_items, in the middle of a page:"
            " nothing can be added to it",
            hint="Crawl anew with `scrape run`, with another limit or none.",
        )
    if summary.phase == "publishing":  # first things first
        return make_way(job, identity, limit, terms=Terms())
    identity.started, identity.resumed = stored["started"], True
    revived = survey(job.ledger, chosen)
    if not revived.requests:
        if summary.phase in OVER:
            raise UsageError(f"there is nothing to retry in job {job.name}")
        return ["nothing to retry", *make_way(job, identity, limit, terms=Terms())]
    counts = Counter(summary.counts)
    counts.subtract(revived.counts)
    ledger = Recovery(positions=summary.positions, state=summary.state, counts=counts)
    identity.revival = Revival(ledger, partial(revive, job.ledger, chosen))
    pages = f"{revived.requests:,} page{'' if revived.requests == 1 else 's'}"
    return [f"retrying {pages} of the run of {stored['started']} (job {job.name})"]


def _abandoned(keeper: Job | Foreign) -> tuple[bool, str | None]:
    """Whether *keeper* holds a run, and when that was started if it is unfinished and can say."""
    there, started = True, None
    with suppress(ScraperError):  # damaged: that is what --fresh is for
        summary = keeper.summary()
        there = summary is not None
        if summary is not None and summary.phase not in OVER:
            stored = job_of(summary.state)
            started = stored["started"] if stored is not None else None
    return there, started
