"""What Redis says of a crawl: for whoever opens it, and for whoever only looks."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scraper.errors import DamagedState, GivenUp, JobError, ScraperError
from scraper.frontier.redis_codec import claims_of, redo_of, texts, totals, united
from scraper.frontier.redis_link import FROM_SCRATCH, Link, damaged
from scraper.work import Recovery

__all__ = [
    "CRAWLS",
    "KINDS",
    "SCHEMA",
    "recovery",
    "refusal",
    "run_of",
    "tag_of",
    "verify",
    "workers_of",
]

SCHEMA = "1"
"""The version of what is stored."""

CRAWLS = "scrape:crawls"
"""The set of all crawls on a server: SPIDER/JOB."""

MANY = 1000
"""Elements that are read at once, so that the server is never long at it."""

KINDS: Mapping[str, str] = {
    "meta": "hash", "counters": "hash", "state": "hash", "news": "zset", "ready": "zset",
    "hosts": "hash", "held": "hash", "delayed": "zset", "d": "hash", "suspects": "zset",
    "wishes": "zset", "hungry": "zset", "robots": "hash", "quiet": "zset", "workers": "zset",
    "leader": "string", "items": "stream", "dead": "list", "rejects": "list", "redo": "zset",
    "redo:records": "hash", "claims": "set", "positions": "hash",
}  # fmt: skip
"""The keys of a run, but for those of single hosts, workers, stages and buckets; their types."""


def tag_of(spider: str, job: str) -> str:
    """What all keys of a job begin with; in braces is what a cluster keeps on one server."""
    return f"{{scrape:{spider}/{job}}}:"


def run_of(link: Link, tag: str) -> str:
    """The job's current run; "" when there is none."""
    found: bytes | None = link.ask("GET", f"{tag}run")
    return "" if found is None else found.decode("ascii", "replace")


def verify(link: Link, prefix: str) -> None:
    """Whether there is a run, of this format, made of the right types. Raises `DamagedState`,
    `JobError`."""
    schema = link.ask("HGET", f"{prefix}meta", "schema")
    if schema is None:
        raise gone(link.place)
    if schema != SCHEMA.encode():
        raise other_schema(link.place, schema.decode("ascii", "replace"))
    kinds = link.ask_all([("TYPE", f"{prefix}{name}") for name in KINDS])
    for (name, kind), found in zip(KINDS.items(), kinds, strict=True):
        if found.decode() not in (kind, "none"):
            raise damaged(link.place, f"{prefix}{name} is a {found.decode()}, not a {kind}")


def other_schema(place: str, schema: str) -> JobError:
    """The error for what another release has stored."""
    return JobError(
        f"the crawl on {place} has format {schema}, which this release does not know"
        f" (it has {SCHEMA})",
        hint="Go on with the release that began it, or start anew with --fresh.",
    )


def refusal(place: str, answer: Sequence[Any], lease: float) -> ScraperError:
    """What a script's answer means that has done nothing. *lease*: seconds."""
    words = [w.decode("utf-8", "replace") if isinstance(w, bytes) else str(w) for w in answer]
    match words:
        case ["gone"]:
            return gone(place)
        case ["schema", schema]:
            return other_schema(place, schema)
        case ["closed", why]:
            return JobError(
                f"the crawl on {place} was set aside meanwhile ({why})",
                hint="Run the same command again: it joins what takes its place.",
            )
        case ["leader", *_]:
            return GivenUp("another worker writes the output by now")
        case ["unknown"]:
            return GivenUp(
                f"this worker showed no sign of life for {lease:g} s, and what it had was given to"
                " others",
                hint="Run the same command again: it joins as a new worker. Nothing is lost.",
            )
        case ["older", known, told]:
            return damaged(
                place,
                f"the server has lost what it had confirmed (it knows of {known}, not of {told})",
                hint="Was an old copy restored, or did a replica take over? What was fetched since"
                f" is not known there. {FROM_SCRATCH}",
            )
    return damaged(place, f"a script answers {' '.join(words)[:200]}")


def gone(place: str) -> DamagedState:
    """The error for a crawl that is not there any more: never mistake that for a finished one."""
    return damaged(
        place,
        "it is not there any more (was the server flushed, or replaced by an empty one?)",
        hint="Restore the server's data and run again. If they are lost: --fresh starts anew.",
    )


def workers_of(link: Link, prefix: str, now: float | None = None) -> list[str]:
    """The workers that are alive, as far as the server knows. *now*: in place of its clock."""
    if now is None:
        seconds, micro = link.ask("TIME")
        now = int(seconds) + int(micro) / 1e6
    after = f"({now * 1000:.0f}"
    return [name.decode() for name in link.ask("ZRANGEBYSCORE", f"{prefix}workers", after, "+inf")]


def recovery(
    link: Link, prefix: str, workers: Sequence[str], *, outputs: bool
) -> tuple[Recovery, dict[str, bytes], int]:
    """What is stored; the blobs as they are stored; and which news are among them.

    *workers*: the others.

    *outputs*: with the claims and the records that may not be applied yet, of which there may be
    millions, and which are for the leader alone.
    """
    flat, positions, suspects = link.ask_all([
        ("HGETALL", f"{prefix}counters"),  # before the blobs: what is new since is told again
        ("HGETALL", f"{prefix}positions"),
        ("ZCARD", f"{prefix}suspects"),
    ])
    blobs, begun = link.ask_all([
        ("HGETALL", f"{prefix}state"),
        ("HGET", f"{prefix}meta", "begun"),
    ])
    counts, own = totals(flat)
    stored = texts(blobs)
    found = Recovery(
        fresh=not own.get("commits") and not begun and not stored,
        positions={name: json.loads(value) for name, value in texts(positions).items()},
        state=united(stored),
        counts=counts,
        pending=own.get("pending", 0),
        suspects=int(suspects),
        others=len(workers),
    )
    if outputs:
        places = link.ask("ZRANGE", f"{prefix}redo", 0, -1)
        if places:
            records = link.ask("HMGET", f"{prefix}redo:records", *places)
            found.redo = [redo_of(*both) for both in zip(places, records, strict=True)]
        found.claims = _claims(link, prefix)
    return found, stored, own.get("news", 0)


def _claims(link: Link, prefix: str) -> dict[str, list[array[int]]]:
    found = {}
    for stage in link.ask("SMEMBERS", f"{prefix}claims"):
        key = f"{prefix}claims:".encode() + stage
        name = stage.decode("utf-8", "surrogatepass")
        found[name] = [claims_of([piece]) for piece in elements(link, key)]
    return found


def elements(link: Link, key: bytes | str) -> Iterator[bytes]:
    """A list's elements, in pieces: it only grows."""
    at = 0
    while some := link.ask("LRANGE", key, at, at + MANY - 1):
        yield from some
        at += len(some)
