"""The server itself: whether it is one that keeps what it is given, and how full its memory is."""

from __future__ import annotations

import logging
import time

from scraper.errors import OutOfResource, UsageError
from scraper.frontier.redis_link import Link

__all__ = ["Memory", "check_server", "info"]

log = logging.getLogger("scraper.crawl")

OLDEST = (6, 2)

FULL, ROOM = 0.85, 0.80
"""Of the server's memory: above the first nothing more is handed out, until below the second."""


def info(link: Link, section: str) -> dict[str, str]:
    """One section of INFO."""
    text = link.ask("INFO", section)
    lines = (text if isinstance(text, dict) else _lines(text)).items()
    return {str(name): str(value) for name, value in lines}


def _lines(text: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.decode().splitlines() if ":" in line)
    return {name: value.strip() for name, _, value in pairs}


def check_server(link: Link) -> list[str]:
    """Refuse a server that cannot keep a crawl; what else a person should know of it.

    Raises `UsageError`.
    """
    server, memory, disk = (info(link, name) for name in ("server", "memory", "persistence"))
    version = server.get("redis_version", "0")
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        raise UsageError(
            f"{link.place} is Redis {version}; 6.2 is the oldest that can be used",
            hint="Use a newer one, or Valkey.",
        )
    if server.get("redis_mode") == "cluster":
        raise UsageError(
            f"{link.place} is part of a cluster", hint="Use a server that stands alone."
        )
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy.startswith("allkeys"):
        raise UsageError(
            f"{link.place} throws data away when its memory is full (maxmemory-policy {policy}):"
            " a crawl there would lose pages and not know it",
            hint="redis-cli CONFIG SET maxmemory-policy noeviction",
        )
    if disk.get("aof_enabled") == "0":
        note = "does not write what it is told to disk: if it ends, the crawl is lost"
        return [f"{link.place} {note} (redis-cli CONFIG SET appendonly yes)"]
    return []


class Memory:
    """How full the server's memory is, as one heartbeat tells and commits go by."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._told = ""

    def look(self, link: Link) -> None:
        """Ask the server."""
        found = info(link, "memory")
        limit = int(found.get("maxmemory", 0))
        used = int(found.get("used_memory", 0)) / limit if limit else 0.0
        if self._since is None and used > FULL:
            self._told = f"{link.place} has used {used:.0%} of its memory ({limit:,} bytes)"
            log.warning(
                "%s: no more pages are handed out until it has room again"
                " (redis-cli CONFIG SET maxmemory …, or let another crawl end)",
                self._told,
            )
            self._since = time.monotonic()
        elif self._since is not None and used < ROOM:
            log.warning("%s has room again", link.place)
            self._since = None

    def full(self, patience: float, *, idle: bool) -> bool:
        """Whether nothing more may be asked for. Raises `OutOfResource` once a worker has been
        *idle* for it, and that for longer than *patience* seconds."""
        since = self._since
        if since is None:
            return False
        if idle and time.monotonic() - since > patience:
            raise OutOfResource(
                f"{self._told}, for {time.monotonic() - since:.0f} s",
                hint="Give it more memory and run the same command again: all that was committed is"
                " safe.",
            )
        return True
