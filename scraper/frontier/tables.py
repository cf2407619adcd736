"""The ledger file: its tables, how each row proves itself, and what SQLite's errors mean.

Every row carries a checksum over all its columns, and the `ledger` table's only row says how many
rows each table has. So a byte that changed on disk is found when the file is opened: SQLite's
own check sees broken structure, the checksums altered values, the counts lost rows.
"""

from __future__ import annotations

import json
import os
import sqlite3
import struct
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zlib import crc32

from scraper.errors import DamagedState, JobError, OutOfResource, ScraperError
from scraper.frontier.core import Failed, Rejects, Row
from scraper.frontier.fingerprints import unpack

__all__ = [
    "APPLICATION_ID",
    "COLUMNS",
    "FOREIGN",
    "SCHEMA",
    "VERSION",
    "Head",
    "checksum",
    "connect",
    "create",
    "damaged",
    "explained",
    "explaining",
    "fingerprints",
    "insert",
    "packed",
    "read",
    "read_head",
    "read_kept",
    "request_checksum",
    "sealed",
    "sealed_request",
    "unpacked",
    "verify",
]

APPLICATION_ID = 0x4C444752  # "LDGR"
VERSION = 1
BUSY_SECONDS = 60

SCHEMA = """\
CREATE TABLE ledger (id INTEGER PRIMARY KEY, head TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE requests (id INTEGER PRIMARY KEY AUTOINCREMENT, host INTEGER NOT NULL, \
priority INTEGER NOT NULL, due REAL NOT NULL, depth INTEGER NOT NULL, attempt INTEGER NOT NULL, \
start INTEGER NOT NULL, crashes INTEGER NOT NULL, payload BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE hosts (id INTEGER PRIMARY KEY, name TEXT NOT NULL, due REAL NOT NULL, state BLOB, \
crc INTEGER NOT NULL);
CREATE TABLE seen (id INTEGER PRIMARY KEY, fingerprints BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE failures (id INTEGER PRIMARY KEY, at REAL NOT NULL, request INTEGER NOT NULL, \
reason TEXT NOT NULL, url TEXT NOT NULL, detail TEXT NOT NULL, depth INTEGER NOT NULL, \
attempt INTEGER NOT NULL, start INTEGER NOT NULL, payload BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE rejects (id INTEGER PRIMARY KEY, at REAL NOT NULL, request INTEGER NOT NULL, \
failed INTEGER NOT NULL, url TEXT NOT NULL, items TEXT NOT NULL, depth INTEGER NOT NULL, \
start INTEGER NOT NULL, payload BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE redo (id INTEGER PRIMARY KEY, number INTEGER NOT NULL, sink TEXT NOT NULL, \
records BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE claims (id INTEGER PRIMARY KEY, stage TEXT NOT NULL, keys BLOB NOT NULL, \
crc INTEGER NOT NULL);
CREATE TABLE kept (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, \
value NOT NULL, crc INTEGER NOT NULL);
"""

COLUMNS = {
    "requests": Row._fields,
    "hosts": ("id", "name", "due", "state"),
    "seen": ("id", "fingerprints"),
    "failures": ("id", *Failed._fields),
    "rejects": ("id", *Rejects._fields),
    "redo": ("id", "number", "sink", "records"),
    "claims": ("id", "stage", "keys"),
    "kept": ("id", "kind", "name", "value"),
}
"""The checked columns of each table, in order; `crc` follows them."""

FOREIGN = (ValueError, TypeError, LookupError, AttributeError, RecursionError, struct.error)
"""What reading a row may raise whose checksum holds, and which is not ours all the same."""

_KINDS: Mapping[Any, type] = MappingProxyType({"count": int, "position": str, "state": bytes})

_NUMBERS = struct.Struct("<qqqdqqqq")
_LENGTH = struct.Struct("<I")


@dataclass(slots=True)
class Head:
    """The ledger's only row. `rows`: how many each table has, by its name.

    `leased`: ids handed out; `sending`: those among them that may not repeat and were sent.
    `clean`: the last process closed the file. `last_id`: ids are never used again, even when the
    newest requests are gone; the file knows it twice, for a lower one would mean lost requests.
    """

    version: int = VERSION
    commits: int = 0
    clean: bool = True
    last_id: int = 0
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COLUMNS, 0))
    leased: list[int] = field(default_factory=list)
    sending: list[int] = field(default_factory=list)

    def dump(self) -> tuple[str, int]:
        """The stored text and its checksum."""
        text = json.dumps({name: getattr(self, name) for name in self.__slots__})
        return text, crc32(text.encode())


def insert(table: str, *, replace: bool = False) -> str:
    """The statement that adds a row of *table*, its checksum included."""
    places = ", ".join("?" for _ in (*COLUMNS[table], "crc"))
    verb = "INSERT OR REPLACE" if replace else "INSERT"
    return f"{verb} INTO {table} VALUES ({places})"


# Checksums --------------------------------------------------------------------------------------


def checksum(columns: tuple[Any, ...]) -> int:
    """CRC-32 over the values of a row. `ascii` writes every value one way only, on any machine."""
    last = columns[-1]
    if isinstance(last, bytes):
        return crc32(last, crc32(ascii(columns[:-1]).encode()))
    return crc32(ascii(columns).encode())


def request_checksum(row: tuple[Any, ...]) -> int:
    """The same for a row of `requests`, of which there may be millions: packed, not spelled out."""
    try:
        return crc32(row[8], crc32(_NUMBERS.pack(*row[:8])))
    except (struct.error, TypeError):  # a damaged type: no checksum fits
        return -1


def sealed(columns: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row as it is stored: its columns, then their checksum."""
    return (*columns, checksum(columns))


def sealed_request(row: Row) -> tuple[Any, ...]:
    """The same for a row of `requests`."""
    return (*row, request_checksum(row))


def read(
    connection: sqlite3.Connection, table: str, where: str = "", values: Sequence[Any] = ()
) -> Iterator[tuple[Any, ...]]:
    """Rows of *table*, in order of id, with their checksums last.

    Raises `DamagedState` for a row whose checksum does not hold.
    """
    columns = ", ".join(COLUMNS[table])
    check = request_checksum if table == "requests" else checksum
    for row in connection.execute(
        f"SELECT {columns}, crc FROM {table} {where} ORDER BY id",  # noqa: S608 - names of our own
        values,
    ):
        if row[-1] != check(row[:-1]):
            raise damaged(_path_of(connection), f"row {row[0]} of {table} was altered")
        yield row


# Opening ----------------------------------------------------------------------------------------


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection to an existing ledger, in autocommit mode."""
    if not path.exists():
        raise JobError(f"{path}: there is no ledger")
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_size_limit = 67108864")
    except BaseException:
        connection.close()
        raise
    return connection


def create(path: Path) -> None:
    """Make an empty ledger, readable by its owner only, under its name once it is whole.

    So a file of that name without a schema is never one that is still being made: it is damaged.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    for leftover in (draft, *(draft.with_name(draft.name + end) for end in ("-wal", "-shm"))):
        leftover.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection = sqlite3.connect(draft, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA.splitlines():
            connection.execute(statement)
        connection.execute("INSERT INTO ledger VALUES (1, ?, ?)", Head().dump())
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    finally:
        connection.close()
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_head(connection: sqlite3.Connection) -> Head:
    """The ledger's only row. Raises `DamagedState`, or `JobError` for a newer format."""
    path = _path_of(connection)
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    if mark != APPLICATION_ID:
        raise damaged(path, "it is not marked as a ledger")
    rows = connection.execute("SELECT id, head, crc FROM ledger").fetchall()
    if len(rows) != 1 or rows[0][0] != 1:
        raise damaged(path, "its head is missing")
    _, text, crc = rows[0]
    if not isinstance(text, str) or crc32(text.encode("utf-8", "surrogatepass")) != crc:
        raise damaged(path, "its head was altered")
    try:
        values = json.loads(text)
        if (version := int(values["version"])) > VERSION:
            raise JobError(
                f"{path} has format {version}, made by a newer release (this one: {VERSION})",
                hint="Resume with that release, or start anew with --fresh.",
            )
        head = Head(**values)
        dict.fromkeys([*head.leased, *head.sending, head.commits + head.last_id])
        if all(isinstance(head.rows[table], int) for table in COLUMNS):
            return head
    except FOREIGN:
        pass
    raise damaged(path, "its head is not one")


def read_kept(connection: sqlite3.Connection) -> Iterator[tuple[int, str, str, Any]]:
    """The rows of `kept`: id, kind (`count`, `position`, `state`), name, value as it is stored.

    Raises `DamagedState` for values that are not of their kind.
    """
    for kept_id, kind, name, value, _ in read(connection, "kept"):
        if not isinstance(value, _KINDS.get(kind, ())):
            raise damaged(_path_of(connection), f"{kind} {name} is not one")
        yield kept_id, kind, name, value


def verify(connection: sqlite3.Connection, head: Head) -> None:
    """Check structure and schema. Raises `DamagedState`. Values are checked by `read`."""
    path = _path_of(connection)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != head.version:
        raise damaged(path, f"its format is given as {version} and as {head.version}")
    stored = connection.execute(
        "SELECT sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY rowid"
    ).fetchall()
    if [f"{sql};" for (sql,) in stored] != SCHEMA.splitlines():
        raise damaged(path, "its tables are not those of a ledger")
    found = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != ("ok",):
        raise damaged(path, str(found[0]) if found else "it cannot be checked")


def packed(records: Sequence[bytes]) -> bytes:
    """Records as one value: each behind its length, 4 bytes little-endian."""
    return b"".join(part for record in records for part in (_LENGTH.pack(len(record)), record))


def unpacked(data: bytes) -> list[bytes]:
    """What `packed` made."""
    records, place = [], 0
    while place < len(data):
        (length,) = _LENGTH.unpack_from(data, place)
        place += _LENGTH.size
        records.append(data[place : place + length])
        place += length
    return records


def fingerprints(rows: Iterable[tuple[Any, ...]]) -> Iterator[array[int]]:
    """The arrays in rows of `seen`."""
    return (unpack(data) for _, data, _ in rows)


def _path_of(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA database_list").fetchone()[2])


# Errors -----------------------------------------------------------------------------------------


def damaged(path: Path | str, what: str) -> DamagedState:
    """The error for a ledger that is not what was committed."""
    return DamagedState(
        f"{path} is damaged: {what}",
        hint="Restore it from a copy, or run with --fresh: that sets the old state aside.",
    )


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into errors for people. Its own messages may be damaged, too."""
    try:
        yield
    except sqlite3.Error as error:
        raise explained(error, path) from error
    except UnicodeDecodeError as error:
        raise damaged(path, "it holds text that is not text") from error


def explained(error: sqlite3.Error, path: Path) -> ScraperError:
    """What an error of SQLite means to a person, with the exit code that it deserves."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    full = primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM)
    if full or (primary == sqlite3.SQLITE_IOERR and code != sqlite3.SQLITE_IOERR_SHORT_READ):
        return OutOfResource(
            f"{path} could not be written: {error}",
            hint="Free space and run again; all that was committed is safe.",
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return OutOfResource(
            f"{path} was locked by another program for {BUSY_SECONDS} seconds",
            hint="Close what has it open and run again; all that was committed is safe.",
        )
    if primary in (sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) and not (
        os.access(path, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)
    ):
        return JobError(
            f"{path} cannot be opened for writing: {error}",
            hint="Give this user the right to write the file and its directory.",
        )
    return damaged(path, str(error))
