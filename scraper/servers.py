"""Crawls that workers share, as commands see them: where they are, and what is said of them there.

Where they are, the configuration says: `frontier.url`, in general and for single spiders. The
library that asks a server is optional, and loaded when there is one to ask.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scraper import layers, plugins
from scraper.errors import OutOfResource, ScraperError
from scraper.job import STATE
from scraper.joblist import JobStatus
from scraper.project import Project, prepare
from scraper.urls import redact
from scraper.work import job_of

if TYPE_CHECKING:
    from scraper.frontier.redis_status import Crawl, Shelved

__all__ = ["Servers", "SharedJob", "check", "on_redis"]

PATIENCE, LONGEST = 1.0, 3.0
"""Seconds that a command waits for a server that is away, and for one that does not answer."""

BASIC = "%Y%m%dT%H%M%SZ"


def on_redis(url: str) -> bool:
    """Whether a frontier.url is that of a Redis server, whatever the way to it."""
    scheme, colon, _ = url.partition("://")
    return bool(colon) and scheme in plugins.SCHEMES


def check(url: str) -> list[str]:
    """What a person should know of a server before a crawl is there, a line each.

    Raises `UsageError` for one that is no good, `OutOfResource` for one that is away.
    """
    _asked(url)
    _reach(url)
    from scraper.frontier.redis_link import Link
    from scraper.frontier.redis_memory import check_server, info

    with Link(url, patience=PATIENCE, quiet=True) as link:
        notes = check_server(link)
        memory = info(link, "memory")
    place = redact(url)
    if memory.get("maxmemory") == "0":
        notes.append(
            f"{place} may take all memory of its machine, which then kills it"
            " (redis-cli CONFIG SET maxmemory …)"
        )
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        notes.append(
            f"{place} has the maxmemory-policy {policy} (redis-cli CONFIG SET maxmemory-policy"
            " noeviction)"
        )
    return notes


def _reach(url: str) -> None:
    """See that the server answers, before something is asked that waits for it with patience.

    Raises `OutOfResource`. In a thread, for one that hangs keeps whoever asks it.
    """
    from scraper.frontier.redis_link import Link

    found: list[ScraperError | None] = []

    def ask() -> None:
        try:
            with Link(url, patience=PATIENCE, quiet=True) as link:
                link.ask("TIME")
        except ScraperError as error:
            found.append(error)
        else:
            found.append(None)

    asking = threading.Thread(target=ask, name="reach", daemon=True)
    asking.start()
    asking.join(LONGEST)
    if not found:
        raise OutOfResource(
            f"{redact(url)} has not answered for {LONGEST:g} s",
            hint="Is it at a long command, or stopped? Try again in a while.",
        )
    if found[0] is not None:
        raise found[0]


def _asked(url: str) -> Any:
    """What asks the server. Raises `UsageError` when its library is not installed."""
    from scraper.build import needing

    def load() -> Any:
        from scraper.frontier import redis_status

        return redis_status

    return needing(load, f"frontier.url = {redact(url)}")


@dataclass(frozen=True, slots=True)
class SharedJob(JobStatus):
    """A job on a server. `url`: of the server, with its password; `place`: without.

    `crawl`: all that is said of it there. `aside`: earlier runs that the server still has.
    """

    url: str = ""
    crawl: Crawl | None = None
    aside: Sequence[Shelved] = ()

    @property
    def place(self) -> str:
        return redact(self.url)

    def read_failures(self) -> Iterator[dict[str, Any]]:
        """As `frontier.inspect.read_failures`."""
        found: Iterator[dict[str, Any]] = _asked(self.url).failures(self.url, self.spider, self.job)
        return found

    def read_rejects(self) -> Iterator[dict[str, Any]]:
        """As `frontier.inspect.read_rejects`."""
        found: Iterator[dict[str, Any]] = _asked(self.url).rejects(self.url, self.spider, self.job)
        return found

    def forget(self) -> int:
        """Remove the earlier runs from the server; how many there were."""
        for run in self.aside:
            _asked(self.url).forget(self.url, self.spider, self.job, run.run)
        return len(self.aside)


@dataclass(slots=True)
class Servers:
    """The servers that a project's crawls are on. *overrides*: `-s` options.

    `problems`: why some are not told of.
    """

    project: Project
    overrides: Sequence[str] = ()
    problems: list[ScraperError] = field(default_factory=list)

    def jobs(self, spider: str | None = None) -> list[SharedJob]:
        """The jobs on all servers, or only those of *spider*."""
        found: list[SharedJob] = []
        try:
            servers = self._servers(spider)
        except ScraperError as error:
            self.problems.append(error)
            servers = {}
        for url, whose in servers.items():
            if not on_redis(url):
                continue
            try:
                redis = _asked(url)
                _reach(url)
                listed = redis.jobs(url)
            except ScraperError as error:
                self.problems.append(error)
                continue
            mine = [pair for pair in listed if self._is(pair[0], whose, servers)]
            found += [job for pair in mine if (job := self._job(url, *pair)) is not None]
        return found

    def _servers(self, spider: str | None) -> dict[str, set[str] | None]:
        """URLs, and whose jobs are looked for there (None: everybody's who has none of his own)."""
        if spider is not None:
            return {self.url_of(spider): {spider}}
        servers: dict[str, set[str] | None] = {self._configured(None): None}
        for name in self.project.configure(overrides=self.overrides).config.spiders:
            whose = servers.setdefault(self._configured(name), set())
            if whose is not None:
                whose.add(name)
        return servers

    @staticmethod
    def _is(spider: str, whose: set[str] | None, servers: dict[str, set[str] | None]) -> bool:
        if whose is not None:
            return spider in whose
        return not any(spider in others for others in servers.values() if others)

    def url_of(self, spider: str) -> str:
        """The spider's frontier.url: by its own class, too, if that can be loaded."""
        with suppress(ScraperError):
            prepared = prepare(spider, start=self.project.root, overrides=self.overrides)
            return prepared.loaded.config.frontier.url
        return self._configured(spider)

    def _configured(self, spider: str | None) -> str:
        loaded = layers.load(
            self.project.config_path, spider=spider, environ=os.environ, overrides=self.overrides
        )
        return loaded.config.frontier.url

    def _job(self, url: str, spider: str, job: str) -> SharedJob | None:
        """None where nothing is known of it any more."""
        redis = _asked(url)
        directory = Path(self.project.root) / STATE / spider / job
        try:
            crawl: Crawl | None = redis.status(url, spider, job)
            aside: list[Shelved] = redis.aside(url, spider, job)
            stored = (job_of(crawl.state) if crawl is not None else None) or {}
        except ScraperError as error:
            return SharedJob(spider, job, directory, problem=str(error), url=url)
        if crawl is None:
            return SharedJob(spider, job, directory, url=url, aside=aside) if aside else None
        created = datetime.fromtimestamp(crawl.created, UTC).strftime(BASIC)
        return SharedJob(
            spider=spider,
            job=job,
            directory=directory,
            running=any(not worker.stale for worker in crawl.workers),
            phase=crawl.phase,
            started=str(stored.get("started", created)),
            pending=crawl.pending,
            failures=crawl.failures,
            counts=crawl.counts,
            url=url,
            crawl=crawl,
            aside=aside,
        )
