"""SQLite: a table for each type of item, exactly once."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from scraper.errors import DamagedState, OutOfResource, ScraperError, UsageError
from scraper.pipelines.cells import Cell, Kind
from scraper.pipelines.filesystem import check_directory
from scraper.pipelines.paths import output_error, resolve
from scraper.pipelines.provenance import Provenance
from scraper.pipelines.tables import RUNS, Column, Found, Heading, Mark, Store, ascii_lower
from scraper.pipelines.tablesink import Mode, TableSink
from scraper.protocols import CrawlInfo

__all__ = ["Sqlite"]

log = logging.getLogger("scraper.crawl")

_DECLARED: Mapping[Kind, str] = MappingProxyType({
    "any": "",
    "blob": "BLOB",
    "bool": "INTEGER",
    "date": "TEXT",
    "datetime": "TEXT",
    "decimal": "TEXT",
    "float": "REAL",
    "int": "INTEGER",
    "json": "TEXT",
    "text": "TEXT",
})
_MARK = f"""\
CREATE TABLE IF NOT EXISTS {RUNS} (run TEXT NOT NULL, output TEXT NOT NULL, \
last_group INTEGER NOT NULL, records INTEGER NOT NULL, writer TEXT NOT NULL, \
tables TEXT NOT NULL, PRIMARY KEY (run, output))"""


class Sqlite(TableSink):
    """Write items to tables of an SQLite file, each once.

    *path* may hold `{spider}` and `{started}`; for the other options see `TableSink`. *decimals*:
    "text" keeps every digit of a `Decimal`, "float" makes numbers of them. Rows are visible to
    readers group by group. A file that is made here is in WAL mode: readers do not wait for the
    crawl, nor it for them; one that exists stays in the mode it has.
    """

    kind = "sqlite"

    def __init__(
        self,
        path: str = "data/{spider}.sqlite",
        table: str = "{item}",
        *,
        key: Sequence[str] = (),
        mode: Mode = "append",
        fields: Sequence[str] | None = None,
        provenance: Provenance = False,
        decimals: Literal["text", "float"] = "text",
        patience: float = 60.0,
    ) -> None:
        super().__init__(
            table,
            key=key,
            mode=mode,
            fields=fields,
            provenance=provenance,
            patience=patience,
        )
        self.path = str(path)
        self.decimals = decimals

    def _place(self) -> str:
        return self.path

    def _store(self, crawl: CrawlInfo) -> Store:
        decimals: Kind = "float" if self.decimals == "float" else "decimal"
        return SqliteStore(resolve(self.path, crawl), decimals=decimals, busy=self.patience)


class SqliteStore:
    """The file *path*, used by one thread. *busy*: seconds to wait for who has it locked."""

    longest = 10_000
    key_octets = 0
    reserved = "sqlite_"

    def __init__(self, path: Path, *, decimals: Kind = "decimal", busy: float = 60.0) -> None:
        self.path = path
        self.where = str(path)
        self._decimals = decimals
        self._busy = busy
        self._connection: sqlite3.Connection | None = None

    # ── connecting

    def check(self) -> None:
        """Raises `UsageError` unless it is, or can become, an SQLite file that may be written."""
        path = self.path
        try:
            check_directory(path.parent)
            if path.is_symlink():
                raise OSError(errno.ELOOP, "")
            if path.is_dir():
                raise OSError(errno.EISDIR, "")
            if path.exists() and not path.is_file():
                raise OSError(errno.EINVAL, "it is not a regular file")
            if path.exists() and not os.access(path, os.R_OK | os.W_OK):
                raise OSError(errno.EACCES, "")
        except OSError as error:
            raise output_error(error, path) from error
        if not self._exists():
            return
        with self._explained():
            try:
                self._connect().execute("SELECT count(*) FROM sqlite_schema").fetchone()
            except sqlite3.DatabaseError as error:
                if _primary(error) != sqlite3.SQLITE_NOTADB:
                    raise
                raise UsageError(
                    f"{path} exists, and is no SQLite file",
                    hint="Choose another place: -o FILE, or the pipeline's path in config.toml.",
                ) from error

    def _exists(self) -> bool:
        """An empty file is one that does not exist yet, to SQLite too."""
        return self.path.exists() and self.path.stat().st_size > 0

    def _connect(self, *, make: bool = False) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        new = not self._exists()
        uri = f"{self.path.as_uri()}?mode={'rwc' if make else 'rw'}"
        connection = sqlite3.connect(uri, uri=True, timeout=self._busy, isolation_level=None)
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            if new:
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def _explain(self, error: sqlite3.Error) -> ScraperError:
        """What an error of SQLite means, and whose move it is."""
        code, primary = getattr(error, "sqlite_errorcode", None), _primary(error)
        short = code == sqlite3.SQLITE_IOERR_SHORT_READ
        if primary in _NO_ROOM and not short:
            return OutOfResource(
                f"{self.path} could not be written: {error}",
                hint="What was committed is safe. Make room and run the same command again.",
            )
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return OutOfResource(
                f"{self.path} was locked by another program for {self._busy:g} seconds",
                hint="What was committed is safe. Close what has it open and run again.",
            )
        if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or short:
            return DamagedState(
                f"{self.path} is damaged: {error}",
                hint="Put back a copy of it, or choose another file and run with --fresh.",
            )
        return UsageError(
            f"{self.path} does not take the rows: {error}",
            hint="Mend the file or its table and run the same command again: nothing is lost.",
        )

    # ── what is there

    def folded(self, name: str) -> str:
        return ascii_lower(name)

    def folded_table(self, name: str) -> str:
        return ascii_lower(name)

    def cell(self, kind: Kind, *, key: bool) -> Cell:
        return Cell(self._decimals if kind == "decimal" else kind)

    def look(self, table: str) -> Found | None:
        if not self._exists():
            return None
        with self._explained():
            return _found(self._connect(), table, self._decimals)

    def mark(self, run: str, output: str) -> Mark | None:
        if not self._exists():
            return None
        with self._explained():
            if _found(self._connect(), RUNS) is None:
                return None
            return _Transaction(self._connect()).mark(run, output)

    def forget(self, run: str, output: str) -> None:
        if self.mark(run, output) is not None:
            with self.transaction() as transaction:
                transaction.drop(run, output)

    def prepare(self, headings: Sequence[Heading], key: Sequence[str]) -> None:
        with self._explained():
            connection = self._connect(make=True)
            with _transaction(connection):
                connection.execute(_MARK)
                for heading in headings:
                    found = _found(connection, heading.table)
                    for statement in _statements(heading, key, found):
                        connection.execute(statement)
                        if found is not None:
                            log.info("%s: %s", self.path, statement)

    @contextmanager
    def transaction(self) -> Iterator[_Transaction]:
        with self._explained():
            connection = self._connect(make=True)
            with _transaction(connection):
                yield _Transaction(connection)


class _Transaction:
    """See `tables.Transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._many = connection.executemany

    def swap(self, old: Mark | None, new: Mark) -> bool:
        there = self.mark(new.run, new.output)
        if there is not None if old is None else not old.same(there):
            return False
        row = (*new[:5], new.notes())
        self._execute(f"INSERT OR REPLACE INTO {RUNS} VALUES (?, ?, ?, ?, ?, ?)", row)  # noqa: S608
        return True

    def mark(self, run: str, output: str) -> Mark | None:
        return next(self._marks("WHERE run = ? AND output = ?", run, output), None)

    def marks(self) -> list[Mark]:
        return list(self._marks(""))

    def _marks(self, where: str, *values: str) -> Iterator[Mark]:
        columns = "run, output, last_group, records, writer, tables"
        for row in self._execute(f"SELECT {columns} FROM {RUNS} {where}", values):  # noqa: S608
            yield Mark.read(row)

    def drop(self, run: str, output: str) -> None:
        self._execute(f"DELETE FROM {RUNS} WHERE run = ? AND output = ?", (run, output))  # noqa: S608

    def clear(self, table: str) -> None:
        try:
            self._execute(f"DELETE FROM {_quoted(table)}")  # noqa: S608 - quoted
        except sqlite3.OperationalError as error:
            if not str(error).startswith("no such table"):
                raise

    def insert(self, heading: Heading, key: Sequence[str], rows: Iterator[list[Any]]) -> None:
        blobs = [place for place, (_, kind) in enumerate(heading.columns) if kind == "blob"]
        self._many(_insert(heading, key), _with_blobs(rows, blobs) if blobs else rows)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite rolls back by itself when the disk is full
            connection.execute("ROLLBACK")
        raise


def _with_blobs(rows: Iterator[list[Any]], places: Sequence[int]) -> Iterator[list[Any]]:
    for row in rows:
        for place in places:
            if row[place] is not None:
                row[place] = b64decode(row[place])
        yield row


# Statements -------------------------------------------------------------------------------------


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(_quoted, names))


def _statements(heading: Heading, key: Sequence[str], found: Found | None) -> Iterator[str]:
    """What makes the table, or the columns that it has not."""
    table = _quoted(heading.table)
    if found is None:
        columns = [
            f"{_quoted(name)} {_DECLARED[kind]}{' NOT NULL' if name in key else ''}"
            for name, kind in heading.columns
        ]
        if key:
            columns.append(f"PRIMARY KEY ({_listed(key)})")
        yield f"CREATE TABLE {table} ({', '.join(columns)})"
        return
    for name, kind in heading.columns:
        if ascii_lower(name) not in found.columns:
            yield f"ALTER TABLE {table} ADD COLUMN {_quoted(name)} {_DECLARED[kind]}"


def _insert(heading: Heading, key: Sequence[str]) -> str:
    names = heading.names
    places = ", ".join("?" * len(names))
    statement = f"INSERT INTO {_quoted(heading.table)} ({_listed(names)}) VALUES ({places})"  # noqa: S608
    if not key:
        return statement
    others = [f"{_quoted(name)} = excluded.{_quoted(name)}" for name in names if name not in key]
    action = f"DO UPDATE SET {', '.join(others)}" if others else "DO NOTHING"
    return f"{statement} ON CONFLICT ({_listed(key)}) {action}"


# What is there ----------------------------------------------------------------------------------


def _found(connection: sqlite3.Connection, table: str, decimals: Kind = "decimal") -> Found | None:
    row = connection.execute(
        "SELECT name, type FROM sqlite_schema"
        " WHERE name = ? COLLATE NOCASE AND type IN ('table', 'view')",
        (table,),
    ).fetchone()
    if row is None:
        return None
    name, kind = row
    if kind == "view":
        return Found(obstacle="is a view")
    rows = connection.execute(f"PRAGMA table_xinfo({_quoted(name)})").fetchall()
    keys = sorted((row[5], row[1], row[2]) for row in rows if row[5])
    alias = keys[0][1] if len(keys) == 1 and keys[0][2].upper() == "INTEGER" else None
    columns = {}
    for _, column, declared, not_null, default, _, hidden in rows:
        required = bool(not_null) and default is None and column != alias
        takes = {} if hidden else dict(_TAKES[_affinity(declared)])
        if decimals in takes:
            takes["decimal"] = takes[decimals]
        columns[ascii_lower(column)] = Column(column, declared, takes, required and not hidden)
    unique = {frozenset(ascii_lower(column) for _, column, _ in keys)} if keys else set()
    for _, index, is_unique, _, partial in connection.execute(
        f"PRAGMA index_list({_quoted(name)})"
    ).fetchall():
        if is_unique and not partial:
            parts = connection.execute(f"PRAGMA index_info({_quoted(index)})").fetchall()
            if all(part[2] is not None for part in parts):  # no expressions
                unique.add(frozenset(ascii_lower(part[2]) for part in parts))
    return Found(columns, unique)


def _affinity(declared: str) -> str:
    """https://www.sqlite.org/datatype3.html, 3.1"""
    text = declared.upper()
    if "INT" in text:
        return "INTEGER"
    if any(word in text for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if not text or "BLOB" in text:
        return "BLOB"
    return "REAL" if any(word in text for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def _same(*kinds: Kind) -> dict[Kind, Cell]:
    return {kind: Cell(kind) for kind in kinds}


_TAKES: Mapping[str, Mapping[Kind, Cell]] = MappingProxyType({
    "BLOB": _same(*_DECLARED),  # values stay what they are
    "INTEGER": _same("bool", "int") | {"any": Cell("int")},
    "NUMERIC": _same("any", "bool", "date", "datetime", "decimal", "float", "int"),
    "REAL": {kind: Cell("float") for kind in ("any", "float", "int")},
    "TEXT": _same("date", "datetime", "decimal", "json", "text") | {"any": Cell("text")},
})
"""What columns of each affinity take without changing it."""

_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM}


def _primary(error: sqlite3.Error) -> int | None:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
