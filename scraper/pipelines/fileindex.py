"""The index of a directory of files: which URL gave which file, and what was delivered.

It outlives the crawls that write to it, and several may do so at once. A group's rows and the
number of the group are one transaction: that is how a group is known to be delivered already.
All methods block: call them in one thread.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from scraper.errors import DamagedState, OutOfResource, UsageError

__all__ = ["NAME", "FileIndex", "Row", "Wish"]

NAME = ".index.sqlite"
APPLICATION = 0x53_46_49_4C
VERSION = 1
PATIENCE = 60.0
"""Seconds that another process may keep the index to itself."""

_SCHEMA = """
CREATE TABLE files (
    folder TEXT NOT NULL, sha256 TEXT NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL,
    type TEXT NOT NULL, PRIMARY KEY (folder, sha256)
) WITHOUT ROWID;
CREATE TABLE urls (
    folder TEXT NOT NULL, session TEXT NOT NULL, url TEXT NOT NULL, sha256 TEXT NOT NULL,
    fetched REAL NOT NULL, etag TEXT NOT NULL, modified TEXT NOT NULL,
    PRIMARY KEY (folder, session, url)
) WITHOUT ROWID;
CREATE TABLE runs (
    run TEXT PRIMARY KEY, applied INTEGER NOT NULL, counts TEXT NOT NULL
) WITHOUT ROWID;
"""


class Wish(NamedTuple):
    """A file that is wanted. `folder`: of the item type, "" for all; `session`: whose cookies."""

    folder: str
    session: str
    url: str


class Row(NamedTuple):
    """What a URL gave. `path`: below the directory; `fetched`: when it was last asked for."""

    wish: Wish
    sha256: str
    path: str
    size: int
    type: str
    fetched: float
    etag: str = ""
    modified: str = ""


class FileIndex:
    """The file *path*, made by `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None

    def check(self) -> None:
        """Look at what is there, if anything is. Raises `DamagedState` when it is no index."""
        if self.path.exists():
            self.open()
            self.close()

    def open(self) -> None:
        """Idempotent."""
        if self._db is not None:
            return
        with self._named():
            if not self.path.exists():
                flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
                os.close(os.open(self.path, flags, 0o600))
            db = self._db = sqlite3.connect(
                self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
            )
            db.execute("PRAGMA synchronous = FULL")
            with self._transaction() as db:
                (application,) = db.execute("PRAGMA application_id").fetchone()
                (version,) = db.execute("PRAGMA user_version").fetchone()
                if (application, version) == (0, 0):
                    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
                    if not tables:
                        self._create(db)
                        application, version = APPLICATION, VERSION
        if (application, version) != (APPLICATION, VERSION):
            self.close()
            raise self._damaged("it was made by something else")

    def _create(self, db: sqlite3.Connection) -> None:
        for statement in filter(str.strip, _SCHEMA.split(";")):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {VERSION}")

    def identity(self) -> str:
        """What tells this index from every other, also from a copy of it."""
        with self._named(), self._transaction() as db:
            db.execute("CREATE TABLE IF NOT EXISTS directory (id TEXT NOT NULL)")
            if (found := db.execute("SELECT id FROM directory").fetchone()) is None:
                found = (secrets.token_hex(8),)
                db.execute("INSERT INTO directory VALUES (?)", found)
        return f"{found[0]}-{self.path.stat().st_ino}"

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    # ── asking

    def find(self, wish: Wish) -> Row | None:
        """What was delivered for *wish*, by whichever crawl."""
        with self._named():
            found = self._connection.execute(
                "SELECT sha256, path, size, type, fetched, etag, modified"
                " FROM urls JOIN files USING (folder, sha256)"
                " WHERE folder = ? AND session = ? AND url = ?",
                wish,
            ).fetchone()
        return Row(wish, *found) if found is not None else None

    def path_of(self, folder: str, sha256: str) -> str | None:
        """Where that content lies."""
        with self._named():
            found = self._connection.execute(
                "SELECT path FROM files WHERE folder = ? AND sha256 = ?", (folder, sha256)
            ).fetchone()
        return str(found[0]) if found is not None else None

    def run(self, run: str) -> tuple[int, Counter[str]]:
        """The last group of *run* that was delivered (0: none), and its counts."""
        with self._named():
            found = self._connection.execute(
                "SELECT applied, counts FROM runs WHERE run = ?", (run,)
            ).fetchone()
            return (int(found[0]), Counter(json.loads(found[1]))) if found else (0, Counter())

    # ── writing

    def apply(self, run: str, group: int, rows: Sequence[Row], counts: Counter[str]) -> None:
        """Record a group: *rows*, and what *run* has come to with it.

        Of two rows for one content the first says where it lies.
        """
        with self._named(), self._transaction() as db:
            for row in rows:
                folder, session, url = row.wish
                db.execute(
                    "INSERT INTO files VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (folder, row.sha256, row.path, row.size, row.type),
                )
                db.execute(
                    "INSERT OR REPLACE INTO urls VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (folder, session, url, row.sha256, row.fetched, row.etag, row.modified),
                )
            self._note(db, run, group, counts)

    def set_run(self, run: str, group: int, counts: Counter[str]) -> None:
        """Say how far *run* is."""
        with self._named(), self._transaction() as db:
            self._note(db, run, group, counts)

    def _note(self, db: sqlite3.Connection, run: str, group: int, counts: Counter[str]) -> None:
        values = (run, group, json.dumps(counts, separators=(",", ":")))
        db.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", values)

    def forget(self, run: str, *, others: bool) -> None:
        """Forget a run that is over; or the *others* of its job, which were over before it."""
        job = run.rpartition("/")[0] + "/"
        with self._named(), self._transaction() as db:
            if others:
                mine = "DELETE FROM runs WHERE substr(run, 1, ?) = ? AND run != ?"
                db.execute(mine, (len(job), job, run))
            else:
                db.execute("DELETE FROM runs WHERE run = ?", (run,))

    # ── what goes wrong

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise sqlite3.ProgrammingError("the index is closed")
        return self._db

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._connection
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    @contextmanager
    def _named(self) -> Iterator[None]:
        """SQLite's errors, as what they mean for the crawl."""
        try:
            yield
        except (sqlite3.DatabaseError, ValueError) as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM):
                raise OutOfResource(
                    f"cannot write {self.path}: {error}",
                    hint="What was committed is safe. Make room and run the same command again.",
                ) from error
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise OutOfResource(
                    f"{self.path} has been kept by another process for {PATIENCE:g} s",
                    hint="What was committed is safe. Run the same command again.",
                ) from error
            if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
                raise UsageError(
                    f"cannot write {self.path}: {error}", hint="Choose another directory."
                ) from error
            raise self._damaged(str(error)) from error

    def _damaged(self, what: str) -> DamagedState:
        return DamagedState(
            f"{self.path} is no index of files: {what}",
            hint="Move it away, and a new crawl downloads the files again.",
        )
