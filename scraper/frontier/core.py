"""What a batch does to a crawl: the part that is the same in memory and on disk.

`Core` holds everything that a frontier must know at once (queues, leases, fingerprints) and turns
a `Batch` into `Changes`, which a frontier stores. It does no I/O; requests at rest are read back
through the `Store` that it was given.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from scraper.errors import DamagedState
from scraper.frontier.fingerprints import Fingerprints
from scraper.frontier.hosts import Host, Hosts, clip, key_of
from scraper.http import Request
from scraper.work import (
    Again,
    Batch,
    Committed,
    Dead,
    Found,
    HostLease,
    HostReturn,
    Lease,
    Redo,
    Settled,
    Want,
)

__all__ = [
    "Changes",
    "Core",
    "Failed",
    "Rejects",
    "Row",
    "Store",
    "asking",
    "at_rest",
    "awake",
    "check",
    "failed",
]

FRESH = 2_000
"""Plain requests that are kept as they came until they are handed out, half a megabyte of them:
what goes soon need not be read back."""


class Row(NamedTuple):
    """A pending request at rest. `host`: the host's id; `due`: wall clock, 0 when not delayed.

    `payload`: see `at_rest`.
    """

    id: int
    host: int
    priority: int
    due: float
    depth: int
    attempt: int
    start: int
    crashes: int
    payload: bytes


class Failed(NamedTuple):
    """A request that ended without success, for `scrape failures`. `at`: wall clock seconds.

    `request`: its id; 0 if it was never pending.
    """

    at: float
    request: int
    reason: str
    url: str
    detail: str
    depth: int
    attempt: int
    start: int
    payload: bytes


class Rejects(NamedTuple):
    """A page with rejected items, for `scrape rejects`. `items`: they, in brief, as JSON.

    `request`: its id. `failed`: it ended without success, and the items are its errback's.
    """

    at: float
    request: int
    failed: int
    url: str
    items: str
    depth: int
    start: int
    payload: bytes


def at_rest(request: Request, earlier: bytes = b"") -> bytes:
    """A request and what came of it earlier, as they are stored: in JSON no line ends."""
    return request.dump() + b"\n" + earlier if earlier else request.dump()


def awake(payload: bytes) -> tuple[Request, bytes]:
    """What `at_rest` stored. Raises `DamagedState` for anything else."""
    try:
        data, _, earlier = payload.partition(b"\n")
        return Request.load(data), earlier
    except (ValueError, TypeError) as error:
        raise DamagedState(
            f"a request in the ledger cannot be read: {error}",
            hint="Restore the ledger from a copy, or run with --fresh: the old state is set aside.",
        ) from None


class Store(Protocol):
    """Reads back what was committed, or is about to be."""

    def rows(self, ids: list[int]) -> Mapping[int, Row]:
        """The pending requests of these ids: all of them, or it raises."""

    def states(self, hosts: list[Host]) -> Mapping[int, bytes]:
        """Saved states by host id: of all these hosts, or it raises."""


@dataclass(slots=True)
class Changes:
    """What to store, in one transaction. Rows in `again` replace those of the same id."""

    gone: list[int] = field(default_factory=list)
    again: list[Row] = field(default_factory=list)
    new: list[Row] = field(default_factory=list)
    new_hosts: list[Host] = field(default_factory=list)
    returned: list[tuple[Host, bytes]] = field(default_factory=list)
    fingerprints: array[int] = field(default_factory=lambda: array("Q"))
    failed: list[Failed] = field(default_factory=list)
    rejects: list[Rejects] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    positions: Mapping[str, Any] = field(default_factory=dict)
    redo: Sequence[Redo] = ()
    applied: int = 0
    claims: Mapping[str, array[int]] = field(default_factory=dict)
    state: Mapping[str, bytes] = field(default_factory=dict)
    admitted: int = 0
    duplicates: int = 0
    redirect_duplicates: list[str] = field(default_factory=list)

    def committed(self, leases: list[HostLease], pending: int) -> Committed:
        """The answer to whoever gave the batch."""
        return Committed(
            leases, pending, self.admitted, self.duplicates, list(self.redirect_duplicates)
        )


class Core:
    """The state of a crawl's frontier, in memory."""

    def __init__(self, store: Store) -> None:
        self.hosts = Hosts()
        self.seen = Fingerprints()
        self.leased: dict[int, Row] = {}
        self.sending: set[int] = set()
        self.pending = 0
        self.last_id = 0
        self._store = store
        self._fresh: dict[int, tuple[Row, Request]] = {}
        self._earliest: float | None = None

    def next_due(self, now: float) -> float | None:
        """See `Frontier.next_due`. As of the last commit; safe to ask while the next one runs."""
        earliest = self._earliest
        return 0.0 if earliest is not None and earliest <= now else earliest

    # Taking a batch in --------------------------------------------------------------------------

    def apply(self, batch: Batch, now: float) -> Changes:
        """Do all of *batch* but its `want`. Raises `ValueError` for what contradicts the leases,
        and what `Request.dump` raises; then nothing was done."""
        check(batch, self.leased, self._holds)
        changes = Changes(
            counts=Counter(batch.counts),
            positions=batch.positions,
            redo=batch.redo,
            applied=batch.applied,
            claims=batch.claims,
            state=batch.state,
        )
        admitted = self._choose(batch, changes, now)
        for settled in batch.settled:
            self._settle(settled, changes, now)
        self._admit(admitted, changes, now)
        self.sending.update(batch.sending)
        self._release(batch.returned, changes, now)
        self.hosts.wake(now)
        return changes

    def _holds(self, name: str) -> bool:
        host = self.hosts.find(name)
        return host is not None and host.held

    def _choose(self, batch: Batch, changes: Changes, now: float) -> list[tuple[Found, bytes]]:
        """Which requests are new, with their stored form; records their fingerprints."""
        chosen: list[tuple[Found, bytes]] = []
        fresh = changes.fingerprints
        seen = self.seen
        try:
            for found in asking(batch):
                number = found.fingerprint
                if number is not None:
                    if seen.add(number):
                        fresh.append(number)
                    elif number not in found.chain:
                        self._duplicate(found, changes, now)
                        continue
                chosen.append((found, at_rest(found.request, found.earlier)))
        except BaseException:
            for number in fresh:
                seen.remove(number)
            raise
        return chosen

    def _duplicate(self, found: Found, changes: Changes, now: float) -> None:
        changes.duplicates += 1
        if found.chain:
            changes.redirect_duplicates.append(found.request.url)
            changes.failed.append(_refused(found, "redirect_duplicate", now))
            changes.counts["reason:redirect_duplicate"] += 1

    def _settle(self, settled: Settled, changes: Changes, now: float) -> None:
        row = self._unlease(settled.lease.id)
        verdict = settled.verdict
        if isinstance(verdict, Again):
            # A request that survived is no suspect any more: its crashes are forgotten.
            attempt = row.attempt + verdict.charged
            row = row._replace(due=float(verdict.at), attempt=attempt, crashes=0)
            changes.again.append(row)
            self.requeue(row, now)
            return
        self.pending -= 1
        changes.gone.append(row.id)
        request, dead = settled.lease.request, isinstance(verdict, Dead)
        if settled.earlier is not None:
            row = row._replace(payload=at_rest(request, settled.earlier))
        if isinstance(verdict, Dead):
            changes.failed.append(failed(row, now, verdict.reason, request.url, verdict.detail))
        if settled.rejects:
            end = (row.depth, row.start, row.payload)
            changes.rejects.append(
                Rejects(now, row.id, int(dead), request.url, settled.rejects, *end)
            )

    def _admit(self, chosen: list[tuple[Found, bytes]], changes: Changes, now: float) -> None:
        request_id = self.last_id
        new, hosts, fresh = changes.new, self.hosts, self._fresh
        for found, payload in chosen:
            host = hosts.find(found.host)
            if host is None:
                host = hosts.create(found.host)
                changes.new_hosts.append(host)
            request_id += 1
            request = found.request
            priority = clip(request.options.priority)
            depth, attempt, start = found.depth, found.attempt, int(found.start)
            row = Row(request_id, host.id, priority, 0.0, depth, attempt, start, 0, payload)
            new.append(row)
            # Of a plain one nothing can be changed, nor is anything changed by being stored.
            if len(fresh) < FRESH and request.plain and not found.earlier:
                fresh[request_id] = row, request
            hosts.queue(host, key_of(priority, request_id), now)
        self.last_id = request_id
        self.pending += len(chosen)
        changes.admitted = len(chosen)

    def _release(self, returned: list[HostReturn], changes: Changes, now: float) -> None:
        """Take hosts back, and with them the leases that were not used."""
        if not returned:
            return
        hosts: dict[int, Host] = {}
        for given in returned:
            host = self.hosts.find(given.host)
            if host is not None:  # it is: `_check` has seen it
                hosts[host.id] = host
                changes.returned.append((host, given.state))
        unused = [
            row for row in self.leased.values() if row.host in hosts and row.id not in self.sending
        ]
        for row in unused:
            self._unlease(row.id)
            self.requeue(row, now)
        for (host, _), given in zip(changes.returned, returned, strict=True):
            self.hosts.release(host, given.due, now)

    def _unlease(self, request_id: int) -> Row:
        row = self.leased.pop(request_id)
        self.sending.discard(request_id)
        if not self.leased:
            self.hosts.alone = False
        return row

    def requeue(self, row: Row, now: float) -> None:
        """Let a stored request wait again. One that came back unused is due at once."""
        host, key = self.hosts[row.host], key_of(row.priority, row.id)
        self.hosts.enter(host, key, now, at=row.due, crashes=row.crashes)

    # Handing out --------------------------------------------------------------------------------

    def lease(self, want: Want | None, now: float) -> list[HostLease]:
        """Hand out what is wanted; what is leased must be durable before anybody sees it."""
        leases: list[HostLease] = []
        picks = [] if want is None else self.hosts.pick(want, now, idle=not self.leased)
        if picks:
            asked = [n for pick in picks for n in pick.ids if n not in self._fresh]
            rows = self._store.rows(asked) if asked else {}
            known = [pick.host for pick in picks if pick.host.known and not pick.topped]
            states = self._store.states(known) if known else {}
            for pick in picks:
                host, requests = pick.host, []
                for request_id in pick.ids:
                    row, request, earlier = self._awake(request_id, rows)
                    self.leased[request_id] = row
                    told = (row.depth, row.attempt, bool(row.start), pick.alone, earlier)
                    requests.append(Lease(request_id, host.name, request, *told))
                leases.append(HostLease(host.name, states.get(host.id), requests))
        self.settle_dates()
        return leases

    def _awake(self, request_id: int, rows: Mapping[int, Row]) -> tuple[Row, Request, bytes]:
        """A pending request: as it came, or out of what is stored of it in *rows*."""
        kept = self._fresh.pop(request_id, None)
        if kept is not None:
            return *kept, b""
        row = rows[request_id]
        return row, *awake(row.payload)

    def settle_dates(self) -> None:
        """Work out the next date, once the state is whole."""
        drained = self.pending == 0
        self._earliest = None if drained else self.hosts.next_due(idle=not self.leased)


def check(batch: Batch, leased: Container[int], holds: Callable[[str], bool]) -> None:
    """Contradictions are mistakes of the caller: find them while nothing has changed.

    Raises `ValueError` for what is settled, sent or returned and was not handed out.
    """
    ids = [settled.lease.id for settled in batch.settled]
    for lease_id in (*ids, *batch.sending):
        if lease_id not in leased:
            raise ValueError(f"request {lease_id} is not leased: settled or given back before?")
    if len(set(ids)) != len(ids):
        raise ValueError("a lease is settled twice in one batch")
    for settled in batch.settled:
        if isinstance(settled.verdict, Again) and not math.isfinite(settled.verdict.at):
            raise ValueError(f"request {settled.lease.id}: due at {settled.verdict.at}")
    for given in batch.returned:
        if not holds(given.host):
            raise ValueError(f"host {given.host} is returned, but was not handed out")
        if not (math.isfinite(given.due) and math.isfinite(given.quiet)):
            raise ValueError(f"host {given.host}: due at {given.due}")


def asking(batch: Batch) -> Iterable[Found]:
    """Everything that asks to be admitted. What yielded "again" counts for nothing."""
    for settled in batch.settled:
        if not isinstance(settled.verdict, Again):
            yield from settled.found
    yield from batch.seeds


def _refused(found: Found, reason: str, now: float) -> Failed:
    payload, url = at_rest(found.request, found.earlier), found.request.url
    end = (found.depth, found.attempt, int(found.start), payload)
    return Failed(now, 0, reason, url, "", *end)


def failed(row: Row, now: float, reason: str, url: str, detail: str = "") -> Failed:
    """The end of the pending request *row*."""
    end = (row.depth, row.attempt, row.start, row.payload)
    return Failed(now, row.id, reason, url, detail, *end)
