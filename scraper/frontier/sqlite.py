"""The durable frontier: queues in memory, every commit in an SQLite file.

The file is a log of what the memory knows: a commit appends fingerprints (one blob) and new
requests, deletes finished ones, and rewrites one small row that names the leases. There is no
index to maintain and nothing is searched, so a commit costs the same with a thousand requests
pending as with a million. Opening the file after a crash, or after a clean close, is one and the
same path.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from scraper.errors import JobError, ScraperError, UsageError
from scraper.frontier import tables
from scraper.frontier.core import Changes, Core, Row, awake, failed
from scraper.frontier.fingerprints import pack, unpack
from scraper.frontier.hosts import SUSPECT, Host, key_of
from scraper.frontier.inspect import Summary, inspect, read_failures
from scraper.frontier.tables import Head, damaged, request_checksum, sealed, sealed_request
from scraper.work import Batch, Committed, HostLease, Recovery, Redo, Want

__all__ = ["SqliteFrontier"]

T = TypeVar("T")

DEAD_ALONE = 3
"""Crashes alone that make a request dead."""

UPDATE_REQUEST = "UPDATE requests SET due = ?, attempt = ?, crashes = ?, crc = ? WHERE id = ?"
DELETE_REQUESTS = "DELETE FROM requests WHERE id IN (SELECT value FROM json_each(?))"
DELETE_REDO = "DELETE FROM redo WHERE number <= ?"
UPDATE_HEAD = "UPDATE ledger SET head = ?, crc = ? WHERE id = 1"
BY_IDS = "WHERE id IN (SELECT value FROM json_each(?))"


class SqliteFrontier:
    """A frontier in the file *path*, which one process writes at a time (see `scraper.job`).

    `wall`: the clock that stored dates go by, seconds since the epoch. `clamp`: seconds that a
    stored date may lie ahead when it is loaded, so that a clock that was moved costs no more.
    Memory: 8 bytes for each pending request, 10 for each ever seen, some 600 for each host.

    After an error in `commit` the file is as before it, the memory is not: everything but `aclose`
    raises from then on, and a new process resumes from the file.
    """

    def __init__(
        self, path: Path | str, *, wall: Callable[[], float] = time.time, clamp: float = 3600.0
    ) -> None:
        self.path = Path(path)
        self._wall = wall
        self._clamp = clamp
        self._core = Core(self)
        self._head = Head()
        self._crc = 0  # of the head as it stands in the file
        self._redo: list[Redo] = []  # both only while opening
        self._claims: dict[str, list[array[int]]] = {}
        self._kept: dict[tuple[str, str], tuple[int, Any]] = {}  # (kind, name) → row id, value
        self._connection: sqlite3.Connection | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._failure: BaseException | None = None
        self.pending = 0
        """Requests that are not settled yet, leased ones included."""

    # The contract, on the loop ------------------------------------------------------------------

    async def open(self) -> Recovery:
        """Open or create the file, and recover. Raises `DamagedState`, `JobError` (a newer format,
        no right to write), `OutOfResource`."""
        if self._executor is not None:
            raise UsageError(f"{self.path} is open already")
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        try:
            return await self._run(self._open)
        except BaseException:
            await self.aclose(clean=False)
            raise

    async def acquire(self, want: Want) -> list[HostLease]:
        """Hand out work: a commit of nothing else."""
        return (await self.commit(Batch(want=want))).leases

    async def commit(self, batch: Batch) -> Committed:
        """See `Frontier.commit`. Raises `OutOfResource`; `ValueError` for a batch that contradicts
        the leases, of which nothing was done."""
        return await self._run(self._commit, batch)

    def next_due(self) -> float | None:
        """See `Frontier.next_due`. As of the last commit; may be asked while the next one runs."""
        return self._core.next_due(self._wall())

    async def aclose(self, *, clean: bool = True) -> None:
        """Close the file. Safe to call twice, and after an error."""
        executor, self._executor = self._executor, None
        if executor is None:
            return
        closing = asyncio.get_running_loop().run_in_executor(executor, self._close, clean)
        try:
            await asyncio.shield(closing)
        finally:
            executor.shutdown(wait=False)

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        if self._executor is None:
            raise UsageError(f"{self.path} is not open")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, function, *arguments)

    # In the thread ------------------------------------------------------------------------------

    def _open(self) -> Recovery:
        now = self._wall()
        with tables.explaining(self.path):
            if not self.path.exists():
                tables.create(self.path)
            self._connection = connection = tables.connect(self.path)
            self._read_head(connection)
            head = self._head
            tables.verify(connection, head)
            fresh, unclean = head.commits == 0, not head.clean
            try:
                self._load(connection, now)
                positions = {name: json.loads(value) for name, value in self._of("position")}
            except tables.FOREIGN as error:
                what = f"it holds what no crawl has written: {type(error).__name__}: {error}"
                raise damaged(self.path, what) from error
            ended = self._recover(now)
        redo, self._redo = self._redo, []
        claims, self._claims = self._claims, {}
        return Recovery(
            fresh=fresh,
            positions=positions,
            state=dict(self._of("state")),
            redo=redo,
            claims=claims,
            counts=Counter(dict(self._of("count"))),
            pending=self.pending,
            unclean=unclean,
            suspects=self._core.hosts.suspects,
            ended=ended,
        )

    def _load(self, connection: sqlite3.Connection, now: float) -> None:
        """Read the whole file once: every row is checked here, before anything is handed out."""
        core, head = self._core, self._head
        found = Counter[str]()
        for host_id, name, due, state, _ in tables.read(connection, "hosts"):
            host = core.hosts.create(name)
            if host.id != host_id:
                raise damaged(self.path, f"host {host.id} is missing")
            host.known = state is not None
            host.due = min(due, now + self._clamp)
        leased = set(head.leased)
        latest = now + self._clamp
        for row in tables.read(connection, "requests"):
            found["requests"] += 1
            request_id, host_id, priority, due, _, _, _, crashes, *_ = row
            if request_id in leased:
                core.leased[request_id] = Row._make(row[:-1])
            elif due or crashes:
                key, host = key_of(priority, request_id), core.hosts[host_id]
                core.hosts.enter(host, key, now, at=min(due, latest), crashes=crashes)
            else:
                core.hosts.queue(core.hosts[host_id], key_of(priority, request_id), now)
        core.seen.load(tables.fingerprints(_counted(connection, "seen", found)))
        self._load_outputs(connection, found)
        self._load_kept(connection)
        found["kept"] = len(self._kept)
        for table in ("failures", "rejects"):
            for _ in _counted(connection, table, found):
                pass
        found["hosts"] = len(core.hosts)
        for table, expected in head.rows.items():
            if found[table] != expected:
                raise damaged(self.path, f"{table} has {found[table]} rows instead of {expected}")
        if len(core.leased) != len(leased):
            raise damaged(self.path, "a leased request is missing")
        last = connection.execute("SELECT seq FROM sqlite_sequence").fetchone() or (0,)
        if last[0] != head.last_id:
            raise damaged(self.path, f"the last id is {last[0]} instead of {head.last_id}")
        core.last_id = head.last_id
        core.sending = set(head.sending)
        core.pending = found["requests"]

    def _load_outputs(self, connection: sqlite3.Connection, found: Counter[str]) -> None:
        """What the sinks and stages find again."""
        for _, number, sink, records, _ in _counted(connection, "redo", found):
            self._redo.append(Redo(number, sink, tables.unpacked(records)))
        for _, stage, keys, _ in _counted(connection, "claims", found):
            self._claims.setdefault(stage, []).append(unpack(keys))

    def _load_kept(self, connection: sqlite3.Connection) -> None:
        rows = tables.read_kept(connection)
        self._kept = {(kind, name): (kept_id, value) for kept_id, kind, name, value in rows}

    def _read_head(self, connection: sqlite3.Connection) -> None:
        self._head = tables.read_head(connection)
        _, self._crc = self._head.dump()

    def _recover(self, now: float) -> list[tuple[str, str]]:
        """End what the last process left leased: each crashed once more, without an attempt."""
        core = self._core
        changes = Changes()
        if core.leased:
            for row in self._end_leases(changes, now):
                row = row._replace(crashes=row.crashes + 1)
                if row.crashes >= SUSPECT + DEAD_ALONE:
                    self._end(row, "crashed", changes, now)
                else:
                    changes.again.append(row)
                    core.requeue(row, now)
            with self._transaction():
                self._write(changes)
                self._write_head(clean=False)
        core.settle_dates()
        self.pending = core.pending
        return [(ended.url, ended.reason) for ended in changes.failed]

    def _end_leases(self, changes: Changes, now: float) -> list[Row]:
        """Take every lease back; what may not repeat and was sent ends here."""
        core = self._core
        rows, sending = list(core.leased.values()), core.sending
        core.leased, core.sending = {}, set()
        for row in rows:
            if row.id in sending:
                self._end(row, "interrupted", changes, now)
        return [row for row in rows if row.id not in sending]

    def _end(self, row: Row, reason: str, changes: Changes, now: float) -> None:
        self._core.pending -= 1
        changes.gone.append(row.id)
        changes.counts[f"reason:{reason}"] += 1
        request, _ = awake(row.payload)
        changes.failed.append(failed(row, now, reason, request.url))

    def _commit(self, batch: Batch) -> Committed:
        if self._failure is not None:
            raise UsageError(f"{self.path}: an earlier commit failed; run again to resume from it")
        now = self._wall()
        core = self._core
        changes = core.apply(batch, now)
        try:
            with tables.explaining(self.path), self._transaction():
                self._head.commits += 1
                self._write(changes)
                leases = core.lease(batch.want, now)
                self._write_head(clean=False)
        except BaseException as error:
            self._failure = error
            raise
        self.pending = core.pending
        return changes.committed(leases, core.pending)

    def _close(self, clean: bool) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            if clean:
                with tables.explaining(self.path):
                    self._release_all()
        except ScraperError:
            if self._failure is None:  # else it has been reported, and this is its echo
                raise
        finally:
            self._connection = None
            connection.close()

    def _release_all(self) -> None:
        """Mark the file as closed. Works from the file alone, so that it may follow an error."""
        core = self._core
        self._read_head(self._db)
        self._load_kept(self._db)
        leased = self._head.leased
        core.leased = self.rows(leased) if leased else {}
        core.sending = set(self._head.sending)
        core.last_id = self._head.last_id
        changes = Changes()
        self._end_leases(changes, self._wall())
        with self._transaction():
            self._write(changes)
            self._write_head(clean=True)
        self.pending = self._head.rows["requests"]

    # Writing ------------------------------------------------------------------------------------

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise UsageError(f"{self.path} is not open")
        return self._connection

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing. Notices another writer, whatever let it past the job's lock."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            (crc,) = self._db.execute("SELECT crc FROM ledger").fetchone()
            if crc != self._crc:
                raise JobError(
                    f"{self.path} was written by another process meanwhile",
                    hint="Let only one run of this job at a time use it; then run again.",
                )
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite rolls back by itself when the disk is full
                self._db.execute("ROLLBACK")
            raise

    def _write(self, changes: Changes) -> None:
        db, rows = self._db, self._head.rows
        if changes.gone:
            db.execute(DELETE_REQUESTS, (json.dumps(changes.gone),))
        if changes.again:
            db.executemany(
                UPDATE_REQUEST,
                [(r.due, r.attempt, r.crashes, request_checksum(r), r.id) for r in changes.again],
            )
        if changes.new:
            db.executemany(tables.insert("requests"), map(sealed_request, changes.new))
        rows["requests"] += len(changes.new) - len(changes.gone)
        hosts: dict[int, tuple[Any, ...]] = {
            host.id: (host.id, host.name, 0.0, None) for host in changes.new_hosts
        }
        rows["hosts"] += len(hosts)
        hosts.update((host.id, (host.id, host.name, host.due, s)) for host, s in changes.returned)
        if hosts:
            db.executemany(tables.insert("hosts", replace=True), map(sealed, hosts.values()))
        if changes.fingerprints:
            rows["seen"] += 1
            row = (rows["seen"], pack(changes.fingerprints))
            db.execute(tables.insert("seen"), sealed(row))
        self._append("failures", changes.failed)
        self._append("rejects", changes.rejects)
        self._write_outputs(changes)
        self._keep("count", {n: self._value("count", n) + k for n, k in changes.counts.items()})
        self._keep("position", {n: json.dumps(value) for n, value in changes.positions.items()})
        self._keep("state", changes.state)

    def _write_outputs(self, changes: Changes) -> None:
        db, rows = self._db, self._head.rows
        if changes.applied:
            rows["redo"] -= db.execute(DELETE_REDO, (changes.applied,)).rowcount
        for place, redo in enumerate(changes.redo):
            rows["redo"] += 1
            row = ((redo.group << 10) + place, redo.group, redo.sink, tables.packed(redo.records))
            db.execute(tables.insert("redo"), sealed(row))
        for stage, keys in changes.claims.items():
            rows["claims"] += 1
            db.execute(tables.insert("claims"), sealed((rows["claims"], stage, pack(keys))))

    def _append(self, table: str, entries: Sequence[tuple[Any, ...]]) -> None:
        """Add rows behind the last one: of a retry's there may be fewer than the last id says."""
        if not entries:
            return
        last = self._db.execute(f"SELECT max(id) FROM {table}").fetchone()[0] or 0  # noqa: S608
        rows = ((n, *map(_storable, columns)) for n, columns in enumerate(entries, last + 1))
        self._db.executemany(tables.insert(table), map(sealed, rows))
        self._head.rows[table] += len(entries)

    def _value(self, kind: str, name: str) -> int:
        kept = self._kept.get((kind, name))
        return 0 if kept is None else kept[1]

    def _keep(self, kind: str, values: Mapping[str, Any]) -> None:
        rows = []
        for name, value in values.items():
            known = self._kept.get((kind, name))
            kept_id = len(self._kept) + 1 if known is None else known[0]
            self._kept[kind, name] = (kept_id, value)
            rows.append(sealed((kept_id, kind, name, value)))
        if rows:
            self._db.executemany(tables.insert("kept", replace=True), rows)
        self._head.rows["kept"] = len(self._kept)

    def _of(self, kind: str) -> Iterator[tuple[str, Any]]:
        return ((name, value) for (k, name), (_, value) in self._kept.items() if k == kind)

    def _write_head(self, *, clean: bool) -> None:
        head, core = self._head, self._core
        head.clean = clean
        head.last_id = core.last_id
        head.leased, head.sending = list(core.leased), list(core.sending)
        text, self._crc = head.dump()
        self._db.execute(UPDATE_HEAD, (text, self._crc))

    # What the core reads back -------------------------------------------------------------------

    def rows(self, ids: list[int]) -> dict[int, Row]:
        """The pending requests of these ids."""
        found = {
            row[0]: Row._make(row[:-1])
            for row in tables.read(self._db, "requests", BY_IDS, (json.dumps(ids),))
        }
        if len(found) != len(ids):
            raise damaged(self.path, "a pending request is missing")
        return found

    def states(self, hosts: list[Host]) -> dict[int, bytes]:
        """The saved states of these hosts."""
        ids = json.dumps([host.id for host in hosts])
        found = {
            host_id: state
            for host_id, _, _, state, _ in tables.read(self._db, "hosts", BY_IDS, (ids,))
        }
        if len(found) != len(hosts):
            raise damaged(self.path, "the state of a host is missing")
        return found

    # For the command line -----------------------------------------------------------------------

    @staticmethod
    def inspect(path: Path | str) -> Summary:
        """What a ledger says, read beside a process that may be writing it."""
        return inspect(Path(path))

    @staticmethod
    def failures(path: Path | str) -> Iterator[dict[str, Any]]:
        """What ended without success: `at`, `reason`, `url`, `detail`, `depth`, `attempt` …"""
        return read_failures(Path(path))

    def __repr__(self) -> str:
        return f"<SqliteFrontier {self.path}: {self.pending} pending>"


def _counted(
    connection: sqlite3.Connection, table: str, found: Counter[str]
) -> Iterator[tuple[Any, ...]]:
    for row in tables.read(connection, table):
        found[table] += 1
        yield row


def _storable(value: Any) -> Any:
    """SQLite takes no lone surrogates, which a page's links may contain."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
