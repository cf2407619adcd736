"""Crawls that are over, or were set aside, on a Redis: how they get out of the way, and go."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scraper.frontier.redis_link import Link, script
from scraper.frontier.redis_read import CRAWLS, KINDS, SCHEMA

__all__ = ["Shelved", "crawls", "forget_retired", "remove", "set_aside", "shelved"]

STEP = 500
"""Keys that are removed at once, so that the server is never long at it."""

GENERATIONS = 4


@dataclass(frozen=True, slots=True)
class Shelved:
    """A run that is out of the way. `at`: when, seconds since the epoch. `retired`: it was over."""

    run: str
    reason: str
    at: float
    retired: bool


def crawls(link: Link) -> list[tuple[str, str]]:
    """Every crawl that the server has, or has had: spider and job."""
    found = sorted(name.decode() for name in link.ask("SMEMBERS", CRAWLS))
    return [(spider, job) for spider, _, job in (name.partition("/") for name in found)]


def set_aside(link: Link, tag: str, run: str, reason: str, *, now: float, retired: bool) -> None:
    """Let a job have no current run, unless it has another than *run* by now. What it was is kept,
    and still known by its id."""
    told = json.dumps({"reason": reason, "at": now, "retired": retired})
    link.run(script("shelve"), tag, ("", "", SCHEMA, "" if retired else reason, told, run))


def shelved(link: Link, tag: str) -> list[Shelved]:
    """What is out of the way, the oldest first."""
    flat = link.ask("HGETALL", f"{tag}shelf")
    found = [
        Shelved(run.decode(), **json.loads(told))
        for run, told in zip(flat[::2], flat[1::2], strict=True)
    ]
    return sorted(found, key=lambda shelved: shelved.at)


def forget_retired(link: Link, tag: str) -> None:
    """Of crawls that are over only the last is kept."""
    for old in [one for one in shelved(link, tag) if one.retired][:-1]:
        remove(link, tag, old.run)


def remove(link: Link, tag: str, run: str) -> None:
    """Delete a run that is out of the way, step by step; again, if it was interrupted.

    Its keys are known by what it says itself; nothing is searched for.
    """
    prefix = f"{tag}{run}:"
    for keys in _steps(_keys(link, prefix)):
        link.ask("UNLINK", *keys)
    link.ask("UNLINK", *(f"{prefix}{name}" for name in KINDS))
    link.ask("HDEL", f"{tag}shelf", run)
    if not link.ask("EXISTS", f"{tag}run", f"{tag}shelf"):
        link.ask("SREM", CRAWLS, tag[len("{scrape:") : -len("}:")])


def _keys(link: Link, prefix: str) -> Iterator[str | bytes]:
    """Every key but those of `KINDS`."""
    start = prefix.encode()
    for generation in range(GENERATIONS):
        if link.ask("HEXISTS", f"{prefix}counters", f".seen:{generation}"):
            digits = 4 + generation
            for bucket in range(10**digits):
                yield f"{prefix}s:{bucket:0{digits}}"
    for stage in link.ask("SMEMBERS", f"{prefix}claims"):
        yield start + b"claims:" + stage
    for worker in link.ask("ZRANGE", f"{prefix}workers", 0, -1):
        for kind in (b"l:", b"h:", b"t:", b"x:", b"w:"):
            yield start + kind + worker
    for slots in _slots(link, prefix):
        yield from (start + b"q:" + slot for slot in slots)
        bands = link.ask_all([("ZRANGE", start + b"b:" + slot, 0, -1) for slot in slots])
        for slot, priorities in zip(slots, bands, strict=True):
            yield from (start + b"p:" + priority + b":" + slot for priority in priorities)
            if priorities:
                yield start + b"b:" + slot


def _slots(link: Link, prefix: str) -> Iterator[list[bytes]]:
    """The slots that may have a queue: those in line, and those held."""
    for command, key in (("ZSCAN", "ready"), ("HSCAN", "held")):
        cursor = b"0"
        while True:
            cursor, found = link.ask(command, f"{prefix}{key}", cursor, "COUNT", STEP)
            if found:
                yield found[::2]
            if cursor == b"0":
                break


def _steps(keys: Iterable[str | bytes]) -> Iterator[list[str | bytes]]:
    some: list[str | bytes] = []
    for key in keys:
        some.append(key)
        if len(some) == STEP:
            yield some
            some = []
    if some:
        yield some
