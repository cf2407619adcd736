"""Session: from a spider class and its settings to a crawl that is ready to run.

Opens the job (or starts it anew), holds its lock, and builds the parts. What can be checked is
checked before anything is created.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from scraper import job as jobs
from scraper import layers, sameness
from scraper.build import build, output_template
from scraper.config import Config
from scraper.errors import (
    OutOfResource,
    SpiderError,
    UsageError,
)
from scraper.frontier.revive import Chosen
from scraper.identity import Identity
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
from scraper.succession import Foreign, Terms, Way, make_way, try_again
from scraper.urls import redact

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
    way = partial(try_again, chosen=retry) if retry is not None else partial(make_way, terms=terms)
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
    with _opened(parts, root, held, output, partial(make_way, terms=terms), terms) as session:
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
        keeper = Foreign(frontier) if isinstance(frontier, Durable) else job
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
