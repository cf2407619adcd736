"""Reviving: what failed, or was partly rejected, becomes pending again, in a ledger at rest.

For `--retry`. All of it is one transaction on the file, while no process runs the job: rows leave
`failures` and `rejects` for `requests`, and the counters say again what they would if those
requests had never been handed out. What of a page was delivered goes with its request.
"""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from scraper import urls
from scraper.errors import UNSENT, reason
from scraper.frontier import tables
from scraper.frontier.core import Failed, Rejects, Row, awake
from scraper.frontier.fingerprints import pack, unpack
from scraper.frontier.hosts import clip
from scraper.frontier.tables import Head, sealed, sealed_request
from scraper.observation import lost
from scraper.quality import Profile
from scraper.retry import REFUSED_UNREAD

__all__ = ["Chosen", "Revived", "retracted", "revive", "survey"]

MANY = 5_000
"""Rows that are deleted at once."""

NEVER = frozenset({"redirect_duplicate"})
"""Another request has fetched what these led to."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What shall be retried: `failures`, or pages with `rejects`.

    `reasons`: with these codes alone; none: whatever failed (for a skip, and for what may not be
    repeated and may have been acted upon, its reason must be named). `fields`: of rejects, pages
    where one of these was at fault.
    """

    what: Literal["failures", "rejects"]
    reasons: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()


@dataclass(slots=True)
class Revived:
    """What became pending again, or would.

    `requests`: how many. `items`: rejected ones among what they had yielded. `unrepeatable`:
    requests that were left out because they may not be sent twice. `counts`: by what the crawl's
    counters fall.
    """

    requests: int = 0
    items: int = 0
    unrepeatable: int = 0
    counts: Counter[str] = field(default_factory=Counter)


def survey(path: Path, chosen: Chosen) -> Revived:
    """What `revive` would do; nothing is changed. Raises `DamagedState`, `JobError`."""
    with tables.explaining(path), closing(tables.connect(path, read_only=True)) as connection:
        connection.execute("BEGIN")  # one instant for all that is read
        tables.read_head(connection)
        return _Choice(connection, chosen, {}).made


def revive(path: Path, chosen: Chosen, state: Mapping[str, bytes]) -> Revived:
    """Make what is *chosen* pending again, and store *state*; if nothing is, do nothing.

    The job must be locked, and the file not open elsewhere. Raises `DamagedState`, `JobError`,
    `OutOfResource`.
    """
    with tables.explaining(path), closing(tables.connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            head = tables.read_head(connection)
            writer = _Writer(connection, head)
            choice = _Choice(connection, chosen, writer.state)
            if choice.made.requests:
                writer.write(choice, state)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return choice.made


def retracted(state: Mapping[str, bytes]) -> array[int]:
    """The ids of requests whose rejected items are void, for they were retried."""
    return unpack(state.get("retracted", b""))


class _Choice:
    """Which rows are chosen, by id: found in one pass over each table."""

    def __init__(
        self, connection: sqlite3.Connection, chosen: Chosen, state: Mapping[str, bytes]
    ) -> None:
        self.made = Revived()
        self.failures = array("Q")
        self.rejects = array("Q")
        self.void = array("Q")  # requests whose rejected items do not count any more
        self.profile = Profile.restored(state)
        self._db = connection
        self._chosen = chosen
        if chosen.what == "failures":
            requests = self._failures(self._wants)
            self._rejects(lambda page: bool(page.failed) and page.request in requests)
        else:
            requests = self._rejects(self._wants_page)
            self._failures(lambda failed: failed.request in requests)

    def _failures(self, wants: Callable[[Failed], bool]) -> set[int]:
        """Take those wanted; the ids of those whose errbacks yielded items."""
        requests = set()
        for row_id, *columns, _ in tables.read(self._db, "failures"):
            failed = Failed._make(columns)
            if wants(failed):
                self.failures.append(row_id)
                self.made.requests += 1
                self.made.counts[f"reason:{failed.reason}"] += 1
                if b"\n" in failed.payload:  # its errback has yielded items, of which some may be
                    requests.add(failed.request)  # rejected: else its id is of no use
        return requests

    def _rejects(self, wants: Callable[[Rejects], bool]) -> set[int]:
        """Take those wanted; the ids of those that failed, of which the items are an errback's."""
        requests = set()
        for row_id, *columns, _ in tables.read(self._db, "rejects"):
            page = Rejects._make(columns)
            if wants(page):
                self.rejects.append(row_id)
                self.void.append(page.request)
                for number, code, item, errors, _ in json.loads(page.items):
                    found = ({"field": field, "message": told} for field, told in errors)
                    self.profile.regain(lost(item, code, found), number)
                    self.made.items += number
                    self.made.counts["rejected"] += number
                    self.made.counts[f"reason:{code}"] += number
                if page.failed:
                    requests.add(page.request)  # it is its failure that is pending again
                else:
                    self.made.requests += 1
                    self.made.counts["pages"] += 1
        return requests

    def _wants(self, failed: Failed) -> bool:
        if failed.reason in NEVER:
            return False
        if self._chosen.reasons:
            return failed.reason in self._chosen.reasons
        if reason(failed.reason).kind != "failure":
            return False
        return failed.reason in UNSENT | REFUSED_UNREAD or self._repeatable(failed.payload)

    def _wants_page(self, page: Rejects) -> bool:
        items = json.loads(page.items)
        if not any(self._at_fault(code, errors) for _, code, _, errors, _ in items):
            return False
        return bool(self._chosen.reasons) or self._repeatable(page.payload)

    def _at_fault(self, code: str, errors: Collection[tuple[str, str]]) -> bool:
        reasons, fields = self._chosen.reasons, self._chosen.fields
        if reasons and code not in reasons:
            return False
        return not fields or any(name in fields for name, _ in errors)

    def _repeatable(self, payload: bytes) -> bool:
        if b'"repeatable":false' not in payload:  # stored where it is not the default
            return True
        request, _ = awake(payload)
        self.made.unrepeatable += not request.repeatable
        return request.repeatable


class _Writer:
    """Carries a choice out, row by row, so that a million of them need little memory."""

    def __init__(self, connection: sqlite3.Connection, head: Head) -> None:
        self._db = connection
        self._head = head
        self._hosts: dict[str, int] = {
            name: host_id for host_id, name, *_ in tables.read(connection, "hosts")
        }
        kept = tables.read(connection, "kept")
        self._kept = {(kind, name): (kept_id, value) for kept_id, kind, name, value, _ in kept}

    @property
    def state(self) -> dict[str, bytes]:
        """The crawl's blobs."""
        return {name: value for (kind, name), (_, value) in self._kept.items() if kind == "state"}

    def write(self, choice: _Choice, state: Mapping[str, bytes]) -> None:
        head, rows = self._head, self._head.rows
        self._db.executemany(tables.insert("requests"), self._requests(choice))
        for table, ids in (("failures", choice.failures), ("rejects", choice.rejects)):
            for place in range(0, len(ids), MANY):
                some = json.dumps(ids[place : place + MANY].tolist())
                self._db.execute(
                    f"DELETE FROM {table} WHERE id IN (SELECT value FROM json_each(?))",  # noqa: S608
                    (some,),
                )
            rows[table] -= len(ids)
        for name, number in choice.made.counts.items():
            self._keep("count", name, self._kept.get(("count", name), (0, 0))[1] - number)
        if choice.void:
            self._keep("state", "retracted", pack(retracted(self.state) + choice.void))
        if (profile := choice.profile.changed()) is not None:
            self._keep("state", "quality", profile)
        for name, value in state.items():
            self._keep("state", name, value)
        rows["kept"] = len(self._kept)
        head.commits += 1
        self._db.execute("UPDATE ledger SET head = ?, crc = ? WHERE id = 1", head.dump())

    def _requests(self, choice: _Choice) -> Iterator[tuple[Any, ...]]:
        """The rows of what is pending again, under new ids."""
        for columns in self._chosen_rows("failures", choice.failures):
            failed = Failed._make(columns)
            yield self._request(failed.payload, failed.depth, failed.start)
        for columns in self._chosen_rows("rejects", choice.rejects):
            page = Rejects._make(columns)
            if not page.failed:
                yield self._request(page.payload, page.depth, page.start)

    def _chosen_rows(self, table: str, ids: array[int]) -> Iterator[list[Any]]:
        wanted = iter(ids)
        following = next(wanted, None)
        for row_id, *columns, _ in tables.read(self._db, table):
            if row_id == following:
                following = next(wanted, None)
                yield columns

    def _request(self, payload: bytes, depth: int, start: int) -> tuple[Any, ...]:
        request, _ = awake(payload)
        self._head.last_id += 1
        self._head.rows["requests"] += 1
        host, priority = self._host(urls.host_key(request.url)), clip(request.options.priority)
        return sealed_request(
            Row(self._head.last_id, host, priority, 0.0, depth, 0, start, 0, payload)
        )

    def _host(self, name: str) -> int:
        if name not in self._hosts:
            host_id = self._hosts[name] = len(self._hosts) + 1
            self._head.rows["hosts"] += 1
            self._db.execute(tables.insert("hosts"), sealed((host_id, name, 0.0, None)))
        return self._hosts[name]

    def _keep(self, kind: str, name: str, value: Any) -> None:
        kept_id, _ = self._kept.get((kind, name), (len(self._kept) + 1, None))
        self._kept[kind, name] = (kept_id, value)
        self._db.execute(tables.insert("kept", replace=True), sealed((kept_id, kind, name, value)))
