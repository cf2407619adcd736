"""What a Redis tells people of its crawls: for `scrape status`, `scrape failures` and the like.

Everything is read beside the workers, in small steps, and nothing is changed but by `forget`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scraper.errors import JobError
from scraper.frontier.core import awake
from scraper.frontier.redis_codec import texts, totals, united
from scraper.frontier.redis_link import Link, reading
from scraper.frontier.redis_memory import info
from scraper.frontier.redis_read import elements, run_of, tag_of, verify
from scraper.frontier.redis_shelf import Shelved, crawls, remove, shelved

__all__ = [
    "Crawl",
    "Shelved",
    "WorkerStatus",
    "aside",
    "failures",
    "forget",
    "jobs",
    "rejects",
    "status",
]

PATIENCE = 5.0
"""Seconds that somebody who only looks waits for a server that is away."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker. `name`: as `Shared.worker`. `host`, `machine`, `pid`: where it runs, for people.

    `started`: seconds since the epoch; `sign`: seconds since its last sign of life. `stale`: it
    showed none for longer than its lease. `hosts`, `leases`: that it has. `pages`: that it settled;
    `rate`: of these a second, on average.
    """

    name: str
    host: str
    machine: str
    pid: int
    started: float
    sign: float
    stale: bool
    leads: bool
    hosts: int
    leases: int
    pages: int
    rate: float


@dataclass(frozen=True, slots=True)
class Crawl:
    """What is known of one crawl.

    `pending`: unfinished requests, of which `leased` are with workers, `delayed` wait for a date,
    and `suspects` run alone because they crashed; `ready`: hosts with work that nobody holds;
    `held`: hosts with a worker. `hosts`: ever given back. `seen`: URLs. `failures`, `rejects`: how
    many there are to read. `output`: entries that are not delivered yet, of `output_bytes` in
    memory. `crashes`: workers that died. `memory`, `memory_limit`: the server's, in bytes (0: no
    limit).
    """

    spider: str
    job: str
    run: str
    created: float
    ended: bool
    pending: int
    leased: int
    delayed: int
    suspects: int
    ready: int
    held: int
    hosts: int
    seen: int
    failures: int
    rejects: int
    output: int
    output_bytes: int
    crashes: int
    memory: int
    memory_limit: int
    counts: Counter[str] = field(default_factory=Counter)
    positions: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, bytes] = field(default_factory=dict)
    workers: Sequence[WorkerStatus] = ()

    @property
    def phase(self) -> str:
        """`running`, `publishing`, `finished` …: what the crawl last stored under that name."""
        return self.state.get("phase", b"").decode("utf-8", "replace")

    @property
    def stale(self) -> int:
        """Workers that showed no sign of life for too long."""
        return sum(worker.stale for worker in self.workers)


def jobs(url: str) -> list[tuple[str, str]]:
    """Every crawl that the server has: spider and job. Raises `OutOfResource`, `UsageError`."""
    with Link(url, patience=PATIENCE) as link, reading(link):
        return crawls(link)


def status(url: str, spider: str, job: str) -> Crawl | None:
    """How a crawl stands; None when there is none. Raises `DamagedState`, `JobError`,
    `OutOfResource`, `UsageError`."""
    tag = tag_of(spider, job)
    with Link(url, patience=PATIENCE) as link, reading(link):
        run = run_of(link, tag)
        if not run:
            return None
        prefix = f"{tag}{run}:"
        verify(link, prefix)
        sizes = link.ask_all([
            ("ZCARD", f"{prefix}delayed"),
            ("ZCARD", f"{prefix}suspects"),
            ("ZCARD", f"{prefix}ready"),
            ("HLEN", f"{prefix}held"),
            ("HLEN", f"{prefix}hosts"),
            ("LLEN", f"{prefix}dead"),
            ("LLEN", f"{prefix}rejects"),
            ("XLEN", f"{prefix}items"),
        ])
        delayed, suspects, ready, held, hosts, dead, rejected, output = map(int, sizes)
        flat, created, over, blobs, positions, size = link.ask_all([
            ("HGETALL", f"{prefix}counters"),
            ("HGET", f"{prefix}meta", "created"),
            ("HEXISTS", f"{prefix}meta", "ended"),
            ("HGETALL", f"{prefix}state"),
            ("HGETALL", f"{prefix}positions"),
            ("MEMORY", "USAGE", f"{prefix}items"),
        ])
        counts, own = totals(flat)
        memory = info(link, "memory")
        return Crawl(
            spider=spider,
            job=job,
            run=run,
            created=int(created or 0) / 1000,
            ended=bool(over),
            pending=own.get("pending", 0),
            leased=own.get("leased", 0),
            delayed=delayed,
            suspects=suspects,
            ready=ready,
            held=held,
            hosts=hosts,
            seen=own.get("seen", 0),
            failures=dead,
            rejects=rejected,
            output=output,
            output_bytes=int(size or 0) if output else 0,
            crashes=own.get("crashes", 0),
            memory=int(memory.get("used_memory", 0)),
            memory_limit=int(memory.get("maxmemory", 0)),
            counts=counts,
            positions={name: json.loads(value) for name, value in texts(positions).items()},
            state=united(texts(blobs)),
            workers=_workers(link, prefix),
        )


def _workers(link: Link, prefix: str) -> list[WorkerStatus]:
    expiry, leader, (seconds, micro) = link.ask_all([
        ("ZRANGE", f"{prefix}workers", 0, -1, "WITHSCORES"),
        ("GET", f"{prefix}leader"),
        ("TIME",),
    ])
    now = int(seconds) + int(micro) / 1e6
    found = []
    for name, until in zip(expiry[::2], expiry[1::2], strict=True):
        key = prefix.encode() + b"%s:" + name
        about, started, sign, hosts, leases = link.ask_all([
            ("HGET", key % b"w", "about"),
            ("HGET", key % b"w", "started"),
            ("HGET", key % b"w", "sign"),
            ("SCARD", key % b"h"),
            ("HLEN", key % b"l"),
        ])
        if about is None:  # it has left meanwhile
            continue
        told = json.loads(about)
        begun, alive = int(started) / 1000, int(sign or started) / 1000
        found.append(
            WorkerStatus(
                name=name.decode(),
                host=str(told["host"]),
                machine=str(told["machine"]),
                pid=int(told["pid"]),
                started=begun,
                sign=max(now - alive, 0.0),
                stale=float(until) / 1000 <= now,
                leads=name == leader,
                hosts=hosts,
                leases=leases,
                pages=int(told["pages"]),
                rate=int(told["pages"]) / max(alive - begun, 1.0),
            )
        )
    return found


# What ended without success, and what was rejected ------------------------------------------------


def failures(url: str, spider: str, job: str) -> Iterator[dict[str, Any]]:
    """What ended without success: `at`, `reason`, `url`, `detail`, `depth`, `attempt` …; as the
    other ledgers tell it."""
    return _kept(url, spider, job, "dead", _failure)


def rejects(url: str, spider: str, job: str) -> Iterator[dict[str, Any]]:
    """The pages with rejected items: `at`, `url`, `items` (JSON), `failed`, `depth` …"""
    return _kept(url, spider, job, "rejects", _rejects)


def _failure(entry: bytes) -> dict[str, Any]:
    head, detail, payload = entry.split(b"\n", 2)
    at, request, depth, attempt, start, reason = head.split(b" ")
    return {
        "at": int(at) / 1000,
        "request": int(request),
        "reason": reason.decode(),
        "url": awake(payload)[0].url,
        "detail": json.loads(detail) if detail else "",
        "depth": int(depth),
        "attempt": int(attempt),
        "start": int(start),
        "payload": payload,
    }


def _rejects(entry: bytes) -> dict[str, Any]:
    head, items, payload = entry.split(b"\n", 2)
    at, request, failed, depth, start = head.split(b" ")
    return {
        "at": int(at) / 1000,
        "request": int(request),
        "failed": int(failed),
        "url": awake(payload)[0].url,
        "items": items.decode("utf-8", "surrogatepass"),
        "depth": int(depth),
        "start": int(start),
        "payload": payload,
    }


def _kept(
    url: str, spider: str, job: str, name: str, told: Callable[[bytes], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    tag = tag_of(spider, job)
    with Link(url, patience=PATIENCE) as link, reading(link):
        run = run_of(link, tag)
        if run:
            verify(link, f"{tag}{run}:")
            yield from map(told, elements(link, f"{tag}{run}:{name}"))


# What is out of the way ---------------------------------------------------------------------------


def aside(url: str, spider: str, job: str) -> list[Shelved]:
    """Earlier runs of a job that the server still has, the oldest first."""
    with Link(url, patience=PATIENCE) as link, reading(link):
        return shelved(link, tag_of(spider, job))


def forget(url: str, spider: str, job: str, run: str) -> None:
    """Delete an earlier run, in small steps. Raises `JobError` when it is none of those."""
    tag = tag_of(spider, job)
    with Link(url, patience=PATIENCE) as link, reading(link):
        if run not in {one.run for one in shelved(link, tag)}:
            raise JobError(
                f"{link.place} has no run {run} of {spider}/{job} that is out of the way"
            )
        remove(link, tag, run)
