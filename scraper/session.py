"""Session: from a spider class and its settings to a crawl that is ready to run.

Opens the job (or starts it anew), holds its lock, and builds the parts. What can be checked is
checked before anything is created.
"""

from __future__ import annotations

import logging
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from scraper import job as jobs
from scraper import layers, sameness
from scraper.build import build, output_template
from scraper.claims import inherited
from scraper.config import Config
from scraper.errors import (
    DamagedState,
    JobError,
    OutOfResource,
    ScraperError,
    SpiderError,
    UsageError,
)
from scraper.frontier.revive import Chosen, revive, survey
from scraper.identity import OVER, Identity, Revival
from scraper.job import Job
from scraper.joint import JointCrawl
from scraper.layers import Loaded
from scraper.lifecycle import Crawl
from scraper.parts import Parts
from scraper.project import Prepared
from scraper.protocols import Durable, Observer, Shared
from scraper.spider import (
    Spider,
    arguments_model,
    inherited_settings,
    own_settings,
    stored_arguments,
)
from scraper.urls import redact
from scraper.work import Recovery, job_of

__all__ = ["Session", "open_prepared", "open_session"]

log = logging.getLogger("scraper.crawl")


@dataclass(slots=True)
class Session:
    """A crawl ready to run. `notes`: what a person should know before it does."""

    crawl: Crawl
    config: Config
    root: Path
    job: Job | None
    notes: list[str] = field(default_factory=list)


@contextmanager
def open_prepared(
    prepared: Prepared,
    *,
    args: Mapping[str, Any],
    output: str | None = None,
    job: str | None = None,
    fresh: bool = False,
    limit: int = 0,
    retry: Chosen | None = None,
    observers: Sequence[Observer] = (),
    root: Path | None = None,
    probe: Callable[[str], None] | None = None,
    join: bool = False,
    since: float | None = None,
    allow_changed: bool = False,
) -> Iterator[Session]:
    """The session of a project's spider, as the command line runs it: with a ledger.

    *retry*: what of the job shall be tried again. *root*: where state and relative outputs go,
    when that is not the project's directory. Of a crawl that many workers share: *join*: begin
    none; *since*: nor after one that ended later than this (seconds since the epoch);
    *allow_changed*: join though the project is not as it was when the crawl began.
    """
    loaded, project = prepared.loaded, prepared.project
    spider = prepared.entry.cls(**args)
    _require_start(type(spider))
    durable = loaded.config.frontier.url != "memory"
    if job is not None and not durable:
        raise UsageError(
            f'--job {job}: a job needs a ledger, and frontier.url is "memory"',
            hint='Set frontier.url = "sqlite", or leave --job out.',
        )
    held = _job(root or project.root, spider, job) if durable else None
    parts = build(
        spider,
        _limited(loaded.config, limit),
        root=project.root,
        ledger=held.ledger if held else None,
        output=output,
        observers=observers,
        where=_places(loaded),
        frontier_place=_frontier_place(loaded),
        probe=probe,
    )
    held = _remembered(parts, held, f"--job {job}" if job is not None else "")
    if join and not isinstance(parts.frontier, Shared):
        raise UsageError(
            "--join: only a crawl on Redis can be joined, and frontier.url is"
            f' "{redact(loaded.config.frontier.url)}"',
            hint='Set frontier.url = "redis://host:port/0" for all its workers.',
        )
    terms = Terms(fresh, join, since, allow_changed)
    way = (
        partial(_try_again, chosen=retry) if retry is not None else partial(_make_way, terms=terms)
    )
    with _opened(parts, root or project.root, held, output, way, terms) as session:
        yield session


@contextmanager
def open_session(
    spider: type[Spider],
    *,
    args: Mapping[str, Any],
    settings: Mapping[str, Any],
    config: str | Path | None = None,
    output: str | None = None,
    job: str | None = None,
    fresh: bool = False,
    limit: int = 0,
    observers: Sequence[Observer] = (),
    sinks: Sequence[Any] = (),
) -> Iterator[Session]:
    """The session of a spider class, as Python code runs it: stateless unless *job* is named."""
    given: Any = spider  # callers' code is not always checked
    if not (isinstance(given, type) and issubclass(given, Spider)):
        raise UsageError(f"give a spider class, not {given!r}")
    if limit.__class__ is not int or limit < 0:
        raise UsageError(f"limit={limit!r}: give a number of items; 0 means no limit")
    if not spider.name:
        raise UsageError(
            f"spider class {spider.__name__} has no name", hint='Give it one: name = "books".'
        )
    path = Path(config).resolve() if config is not None else None
    loaded = layers.load(
        path,
        spider=spider.name,
        spider_settings=own_settings(spider),
        base_settings=inherited_settings(spider),
        spider_label=f"spider class {spider.__name__}",
        environ=os.environ,
        settings=settings,
    )
    root = path.parent if path is not None else Path.cwd()
    made = spider(**args)
    _require_start(spider)
    held = _job(root, made, job) if job is not None else None
    parts = build(
        made,
        _limited(loaded.config, limit),
        root=root,
        ledger=held.ledger if held else None,
        output=output,
        extra_sinks=sinks,
        default_output=False,
        observers=observers,
        where=_places(loaded),
        frontier_place=_frontier_place(loaded),
    )
    held = _remembered(parts, held, f"job={job!r}")
    if not parts.chain.sinks:
        log.warning("no output: items are counted and discarded (output=…, config=…, stream())")
    terms = Terms(fresh)
    with _opened(parts, root, held, output, partial(_make_way, terms=terms), terms) as session:
        yield session


def _require_start(spider: type[Spider]) -> None:
    if not spider.start_urls and spider.start is Spider.start:
        raise SpiderError(
            f"spider {spider.name} has nowhere to start",
            hint="Give the class start_urls, or an `async def start(self)` that yields requests.",
        )


def _places(loaded: Loaded) -> Callable[[int], str]:
    return lambda index: f"{loaded.origin(f'pipelines.{index}.use')}: [[pipelines]]"


def _frontier_place(loaded: Loaded) -> str:
    return f"{loaded.origin('frontier.url')}: frontier.url"


def _limited(config: Config, limit: int) -> Config:
    if not limit:
        return config
    crawl = config.crawl.model_copy(update={"max_items": limit})
    return config.model_copy(update={"crawl": crawl})


def _job(root: Path, spider: Spider, name: str | None) -> Job:
    """The job of that name, or of what makes these arguments differ from their defaults."""
    if name is None:
        fields = arguments_model(type(spider)).model_fields
        values = stored_arguments(spider)
        plain = to_jsonable_python({
            n: f.get_default() for n, f in fields.items() if not f.is_required()
        })
        given = {n: v for n, v in values.items() if n not in plain or v != plain[n]}
        name = jobs.default_name(given)
    return Job(root, spider.name, name)


def _remembered(parts: Parts, job: Job | None, asked: str) -> Job | None:
    """*job*, unless its frontier is a plugin's that forgets: then nothing is kept under it.

    *asked*: how the job was named, if it was. Raises `UsageError`: that cannot be done.
    """
    foreign = "://" in parts.config.frontier.url
    if job is None or not foreign or isinstance(parts.frontier, Durable):
        return job
    if asked:
        raise UsageError(
            f"{asked}: a job needs a ledger, and {type(parts.frontier).__name__} (frontier.url)"
            " forgets all with its process",
            hint='Set frontier.url = "sqlite", or name no job.',
        )
    parts.page_limits = replace(parts.page_limits, directory=None)
    return None


# ── what an earlier process left ─────────────────────────────────────────────────────────


class _Foreign:
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


Way = Callable[[Job | _Foreign, Identity, int], list[str]]


@contextmanager
def _opened(
    parts: Parts, root: Path, job: Job | None, output: str | None, way: Way, terms: Terms
) -> Iterator[Session]:
    """The crawl of *parts*, its job locked meanwhile, and entered in its history.

    *way*: finds out what becomes of what an earlier process left.
    """
    identity = Identity(started=jobs.started_now(), root=root)
    if job is None:
        yield Session(Crawl(parts, identity), parts.config, root, None)
        return
    frontier = parts.frontier
    shared = isinstance(frontier, Shared)
    with job.locked(shared=shared):
        identity.job, identity.directory = job.name, job.directory
        keeper = _Foreign(frontier) if isinstance(frontier, Durable) else job
        notes = way(keeper, identity, parts.config.crawl.max_items)
        identity.wanted = partial(_identity, parts, output)
        identity.compare = partial(sameness.compare, allow_changed=terms.allow_changed)
        identity.claims = keeper.claims
        identity.history = lambda: job.history(but=identity.run)
        crawl = JointCrawl(parts, identity) if shared else Crawl(parts, identity)
        try:
            yield Session(crawl, parts.config, root, job, notes)
        except (UsageError, OutOfResource):
            job.forget()
            raise
        if crawl.result is None or not crawl.ended_here:
            return
        if crawl.result.ended in ("finished", "limit", "failed"):
            told = {"run": identity.run, "started": identity.started}
            job.record(told | crawl.result.as_dict())


def _identity(
    parts: Parts, output: str | None, sinks: Sequence[str], started: str
) -> dict[str, Any]:
    spider, settings = parts.spider, None
    if isinstance(parts.frontier, Shared):
        settings = sameness.settings_of(parts.config.model_dump(mode="json"))
    return sameness.identity(
        spider=spider.name,
        arguments=stored_arguments(spider),
        sinks=sinks,
        started=started,
        code=sameness.code_of(type(spider)),
        version=spider.version,
        output=output_template(output) if output is not None else None,
        settings=settings,
    )


def _make_way(keeper: Job | _Foreign, identity: Identity, limit: int, *, terms: Terms) -> list[str]:
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
    identity.young = terms.since is not None and jobs.began(identity.started) >= int(terms.since)
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


def _nobody_works(keeper: Job | _Foreign, identity: Identity) -> None:
    """Raises `JobError` while workers are at what shall be set aside."""
    with suppress(DamagedState):  # that is what --fresh is for
        summary = keeper.summary() if isinstance(keeper, _Foreign) else None
        if summary is not None and summary.others and summary.phase not in OVER:
            raise JobError(
                f"--fresh: {summary.others} worker{'s are' if summary.others > 1 else ' is'} at"
                f" work on job {identity.job}",
                hint="Stop them first (Ctrl-C, SIGTERM); `scrape status` names them.",
            )


def _over_since(state: Mapping[str, bytes], since: float | None) -> bool:
    """Whether the run that is over ended later than *since*."""
    with suppress(KeyError, ValueError):
        return since is not None and float(state["ended_at"]) >= since
    return False


def _try_again(
    keeper: Job | _Foreign, identity: Identity, limit: int, *, chosen: Chosen
) -> list[str]:
    """Let what is *chosen* be pending again, once the crawl can begin; or only go on."""
    if isinstance(keeper, _Foreign):
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
        return _make_way(job, identity, limit, terms=Terms())
    identity.started, identity.resumed = stored["started"], True
    revived = survey(job.ledger, chosen)
    if not revived.requests:
        if summary.phase in OVER:
            raise UsageError(f"there is nothing to retry in job {job.name}")
        return ["nothing to retry", *_make_way(job, identity, limit, terms=Terms())]
    counts = Counter(summary.counts)
    counts.subtract(revived.counts)
    ledger = Recovery(positions=summary.positions, state=summary.state, counts=counts)
    identity.revival = Revival(ledger, partial(revive, job.ledger, chosen))
    pages = f"{revived.requests:,} page{'' if revived.requests == 1 else 's'}"
    return [f"retrying {pages} of the run of {stored['started']} (job {job.name})"]


def _abandoned(keeper: Job | _Foreign) -> tuple[bool, str | None]:
    """Whether *keeper* holds a run, and when that was started if it is unfinished and can say."""
    there, started = True, None
    with suppress(ScraperError):  # damaged: that is what --fresh is for
        summary = keeper.summary()
        there = summary is not None
        if summary is not None and summary.phase not in OVER:
            stored = job_of(summary.state)
            started = stored["started"] if stored is not None else None
    return there, started
