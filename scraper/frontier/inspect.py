"""Reading a ledger beside the process that writes it: for `scrape status` and `scrape failures`."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scraper.frontier import tables
from scraper.frontier.core import Failed, Rejects
from scraper.frontier.fingerprints import unpack

__all__ = ["Summary", "inspect", "read_claims", "read_failures", "read_rejects"]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a ledger says at one instant.

    `pending`: unfinished requests, of which `leased` are being worked on. `hosts`: ever met.
    `failures`: how many there are to read. `clean`: no process has it open, or died with it.
    """

    pending: int
    leased: int
    hosts: int
    failures: int
    clean: bool
    counts: Counter[str] = field(default_factory=Counter)
    positions: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def phase(self) -> str:
        """`running`, `publishing`, `finished` …: what the crawl last stored under that name."""
        return self.state.get("phase", b"").decode("utf-8", "replace")


def inspect(path: Path) -> Summary:
    """Sum up the ledger at *path* without writing to it. Raises `JobError`, `DamagedState`."""
    kept: dict[str, dict[str, Any]] = {"count": {}, "position": {}, "state": {}}
    with tables.explaining(path), closing(tables.connect(path, read_only=True)) as connection:
        connection.execute("BEGIN")  # one instant for all that is read
        head = tables.read_head(connection)
        for _, kind, name, value in tables.read_kept(connection):
            kept[kind][name] = value
        try:
            positions = {name: json.loads(value) for name, value in kept["position"].items()}
        except (ValueError, RecursionError) as error:
            raise tables.damaged(path, f"a position is not one: {error}") from error
    return Summary(
        pending=head.rows["requests"],
        leased=len(head.leased),
        hosts=head.rows["hosts"],
        failures=head.rows["failures"],
        clean=head.clean,
        counts=Counter(kept["count"]),
        positions=positions,
        state=kept["state"],
    )


def read_failures(path: Path) -> Iterator[dict[str, Any]]:
    """The requests that ended without success, oldest first, as dicts of `core.Failed`."""
    for columns in _rows(path, "failures"):
        yield Failed._make(columns)._asdict()


def read_rejects(path: Path) -> Iterator[dict[str, Any]]:
    """The pages with rejected items, oldest first, as dicts of `core.Rejects`."""
    for columns in _rows(path, "rejects"):
        yield Rejects._make(columns)._asdict()


def _rows(path: Path, table: str) -> Iterator[list[Any]]:
    with tables.explaining(path), closing(tables.connect(path, read_only=True)) as connection:
        tables.read_head(connection)
        for _, *columns, _ in tables.read(connection, table):
            yield columns


def read_claims(path: Path) -> dict[str, list[array[int]]]:
    """The keys that items claimed, by stage."""
    found: dict[str, list[array[int]]] = {}
    for stage, keys in _rows(path, "claims"):
        found.setdefault(stage, []).append(unpack(keys))
    return found
