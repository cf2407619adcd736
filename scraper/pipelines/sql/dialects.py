"""What differs between SQL databases: types, upserts, limits."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from secrets import token_hex
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.engine.interfaces import Dialect as Theirs
from sqlalchemy.sql.dml import Insert
from sqlalchemy.types import TypeEngine

from scraper.pipelines.cells import Cell, Kind
from scraper.pipelines.tables import Heading

__all__ = ["Dialect", "connect_arguments", "each_connection"]

Type = TypeEngine[Any]
Form = Callable[[Any], Any]


@dataclass(frozen=True)
class Dialect:
    """A kind of database. `name`: SQLAlchemy's.

    `types`: of the columns that are made, by kind. `cells`: what they take, where that is bounded.
    `forms`: what a plain value becomes for the driver, None: it stays. `longest`: bytes of a name.
    `key_octets`: of all texts in a key together, `key_text` their type, where it is another.
    `folds`: names of columns differ in more than case. `int_bits`: of a plain INTEGER. `upsert`:
    makes the statement that adds a row, or changes the one with its key, from a table and the keys
    of its key's columns.
    """

    name: str
    types: Mapping[Kind, Type]
    forms: Mapping[Kind, Form]
    cells: Mapping[Kind, Cell] = field(default_factory=dict)
    longest: int = 128
    key_octets: int = 0
    key_text: sa.String | None = None
    folds: bool = True
    int_bits: int = 32
    upsert: Callable[[sa.Table, Sequence[str]], Insert] | None = None
    prefix: str = field(default_factory=lambda: f"c{token_hex(8)}")

    @staticmethod
    def of(theirs: Theirs) -> Dialect:
        """The one that SQLAlchemy is connected to."""
        return _KNOWN.get(theirs.name, _other)(theirs)

    def cell(self, kind: Kind, *, key: bool) -> Cell:
        """What a column takes that is made for *kind*."""
        cell = self.cells.get(kind, Cell(kind))
        if key and kind == "text" and self.key_text is not None:
            return cell._replace(size=self.key_text.length or 0)
        return cell

    # ── tables that are made

    def table(self, heading: Heading, key: Sequence[str], metadata: sa.MetaData) -> sa.Table:
        """The table of a heading. Its columns' keys are numbered: names may be anything, even
        what looks like a parameter, so the keys are what nobody can have foreseen."""
        columns = [
            sa.Column(
                name,
                self._type(kind, in_key=name in key),
                key=self.parameter(place),
                nullable=name not in key,
                autoincrement=False,
            )
            for place, (name, kind) in enumerate(heading.columns)
        ]
        constraints: list[sa.Constraint] = []
        if key:
            names = heading.names
            constraints = [sa.PrimaryKeyConstraint(*(self.parameter(names.index(k)) for k in key))]
        return sa.Table(
            heading.table,
            metadata,
            *columns,
            *constraints,
            mysql_engine="InnoDB",
            mysql_charset="utf8mb4",
        )

    def parameter(self, place: int) -> str:
        return f"{self.prefix}_{place}"

    def runs(self, name: str, metadata: sa.MetaData) -> sa.Table:
        """The table of the runs' marks."""
        text = self.key_text or sa.String(255)
        return sa.Table(
            name,
            metadata,
            sa.Column("run", text),
            sa.Column("output", text),
            sa.Column("last_group", sa.BigInteger, nullable=False),
            sa.Column("records", sa.BigInteger, nullable=False),
            sa.Column("writer", sa.String(64), nullable=False),
            sa.Column("tables", self.types["text"], nullable=False),
            sa.PrimaryKeyConstraint("run", "output"),
            mysql_engine="InnoDB",
            mysql_charset="utf8mb4",
        )

    def _type(self, kind: Kind, *, in_key: bool) -> Type:
        if in_key and kind == "text" and self.key_text is not None:
            return self.key_text
        return self.types[kind]

    def insert(self, table: sa.Table, key: Sequence[str], names: Sequence[str]) -> Insert:
        """The statement for one row; *key* and *names* as the heading has them."""
        if not key or self.upsert is None:
            return sa.insert(table)
        return self.upsert(table, [self.parameter(names.index(name)) for name in key])

    # ── tables that are there

    def takes(self, theirs: Any) -> dict[Kind, Cell]:
        """What a column of their type takes, and in which form; nothing when it is not known."""
        if isinstance(theirs, sa.Enum):
            return {}
        for known, kinds in _TAKES:
            if isinstance(theirs, known):
                return kinds(self, theirs)
        return {}

    def has_transactions(self, connection: Connection, table: str, schema: str | None) -> bool:
        """Whether what is written to an existing table can be rolled back."""
        if self.name != "mysql":
            return True
        engines = sa.text(
            "SELECT e.transactions FROM information_schema.tables t JOIN information_schema.engines"
            " e ON e.engine = t.engine WHERE t.table_name = :table"
            " AND t.table_schema = coalesce(:schema, database())"
        )
        return connection.execute(engines, {"table": table, "schema": schema}).scalar() != "NO"


def connect_arguments(url: URL) -> dict[str, Any]:
    """So that a server that is silent is noticed; what the URL says goes first."""
    driver = url.get_driver_name()
    wanted: dict[str, Any] = {}
    if driver in ("psycopg", "psycopg2"):
        wanted = {
            "connect_timeout": 10,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
        }
    elif driver in ("pymysql", "mysqldb"):
        wanted = {"connect_timeout": 10}
    return {name: value for name, value in wanted.items() if name not in url.query}


# Types ------------------------------------------------------------------------------------------


def _utc(text: str) -> datetime:
    """For columns that keep no zone: the time in UTC."""
    value = datetime.fromisoformat(text)
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)


def _zoned(text: str) -> datetime:
    """For columns that keep a moment; a time without a zone is taken as UTC."""
    value = datetime.fromisoformat(text)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


_FORMS: Mapping[Kind, Form] = MappingProxyType({
    "blob": b64decode,
    "date": date.fromisoformat,
    "datetime": _zoned,
    "decimal": Decimal,
})
_TEXTS: tuple[Kind, ...] = ("any", "date", "datetime", "decimal", "json", "text")


def _on_conflict(insert: Callable[[sa.Table], Any]) -> Callable[..., Insert]:
    def upsert(table: sa.Table, key: Sequence[str]) -> Insert:
        adding = insert(table)
        others = {c.key: adding.excluded[c.key] for c in table.columns if c.key not in key}
        if not others:
            made: Insert = adding.on_conflict_do_nothing(index_elements=[table.c[k] for k in key])
        else:
            made = adding.on_conflict_do_update(
                index_elements=[table.c[k] for k in key], set_=others
            )
        return made

    return upsert


def _on_duplicate_key(table: sa.Table, key: Sequence[str]) -> Insert:
    adding = mysql.insert(table)
    others = [c.key for c in table.columns if c.key not in key] or key[:1]
    return adding.on_duplicate_key_update({name: adding.inserted[name] for name in others})


def _postgresql(theirs: Theirs) -> Dialect:
    return Dialect(
        "postgresql",
        types={
            "blob": sa.LargeBinary(),
            "bool": sa.Boolean(),
            "date": sa.Date(),
            "datetime": sa.DateTime(timezone=True),
            "decimal": sa.Numeric(),
            "float": sa.Double(),
            "int": sa.BigInteger(),
            "json": postgresql.JSONB(),
            "text": sa.Text(),
        },
        forms=_FORMS,
        cells={"any": Cell("text"), "decimal": Cell("decimal", 131_072, 16_383)},
        longest=63,
        key_octets=2600,  # an entry of a B-tree ends at 2,704
        folds=False,
        upsert=_on_conflict(postgresql.insert),
    )


def _sqlite(theirs: Theirs) -> Dialect:
    return Dialect(
        "sqlite",
        types={
            **dict.fromkeys(_TEXTS, sa.Text()),
            "blob": sa.LargeBinary(),
            "bool": sa.Boolean(),
            "float": sa.REAL(),
            "int": sa.BigInteger(),
        },
        forms={"blob": b64decode},
        cells={"any": Cell("text")},
        longest=10_000,
        int_bits=64,
        upsert=_on_conflict(sqlite.insert),
    )


def _mysql(theirs: Theirs) -> Dialect:
    # Its usual collations take 'a' and 'A', and even its binary one 'a' and 'a ', for one key.
    exact = "utf8mb4_nopad_bin" if getattr(theirs, "is_mariadb", False) else "utf8mb4_0900_bin"
    return Dialect(
        "mysql",
        types={
            "blob": mysql.LONGBLOB(),
            "bool": sa.Boolean(),
            "date": sa.Date(),
            "datetime": mysql.DATETIME(fsp=6),
            "decimal": sa.Numeric(65, 30),
            "float": sa.Double(),
            "int": sa.BigInteger(),
            "json": sa.JSON(),
            "text": mysql.LONGTEXT(),
        },
        forms={**_FORMS, "datetime": _utc},
        cells={"any": Cell("text"), "decimal": Cell("decimal", 35, 30)},
        longest=64,
        key_octets=3000,  # an entry of an index ends at 3,072
        key_text=mysql.VARCHAR(255, charset="utf8mb4", collation=exact),
        upsert=_on_duplicate_key,
    )


def _other(theirs: Theirs) -> Dialect:
    """One that nothing more is known of: standard types, no upsert."""
    return Dialect(
        theirs.name,
        types={
            "blob": sa.LargeBinary(),
            "bool": sa.Boolean(),
            "date": sa.Date(),
            "datetime": sa.DateTime(),
            "decimal": sa.Numeric(38, 12),
            "float": sa.Double(),
            "int": sa.BigInteger(),
            "text": sa.UnicodeText(),
        },
        forms={**_FORMS, "datetime": _utc},
        cells={
            "any": Cell("text"),
            "decimal": Cell("decimal", 26, 12),
            "json": Cell("text"),
        },
        longest=min(theirs.max_identifier_length, 128),
    )


_KNOWN: Mapping[str, Callable[[Theirs], Dialect]] = MappingProxyType({
    "mariadb": _mysql,
    "mysql": _mysql,
    "postgresql": _postgresql,
    "sqlite": _sqlite,
})

_MYSQL = (
    "SET sql_mode = concat(@@sql_mode, ',STRICT_ALL_TABLES')",
    "SET innodb_lock_wait_timeout = {seconds}",
    "SET lock_wait_timeout = {seconds}",
)
_SESSION: Mapping[str, Sequence[str]] = MappingProxyType({
    "mariadb": _MYSQL,
    "mysql": _MYSQL,
    # Zones are written out; a column without one gets UTC. What is committed is on the disk.
    "postgresql": (
        "SET TIME ZONE 'UTC'",
        "SET synchronous_commit = on",
        "SET lock_timeout = '{seconds}s'",
    ),
    "sqlite": ("PRAGMA synchronous = FULL", "PRAGMA busy_timeout = {seconds}000"),
})
"""What is said to a database: cut, round and lose nothing in silence, and wait for no lock longer
than so many seconds."""


def each_connection(engine: Engine, seconds: float) -> None:
    """Say it on every connection that *engine* makes."""
    said = _SESSION.get(engine.dialect.name, ())
    statements = [statement.format(seconds=max(1, round(seconds))) for statement in said]

    def connected(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        try:
            for statement in statements:
                cursor.execute(statement)
            connection.commit()
        finally:
            cursor.close()

    sa.event.listen(engine, "connect", connected)


# Columns that are there -------------------------------------------------------------------------


def _int_bits(dialect: Dialect, theirs: Any) -> int:
    if isinstance(theirs, sa.BigInteger):
        return 64
    if isinstance(theirs, mysql.TINYINT):
        return 8
    if isinstance(theirs, sa.SmallInteger):
        return 16
    return 24 if isinstance(theirs, mysql.MEDIUMINT) else dialect.int_bits


def _ints(dialect: Dialect, theirs: Any) -> dict[Kind, Cell]:
    cell = Cell("int", _int_bits(dialect, theirs))
    if isinstance(theirs, mysql.TINYINT) and theirs.display_width == 1:  # its BOOLEAN
        return {"int": cell, "bool": Cell("bool"), "any": cell}
    return {"int": cell, "any": cell}


def _floats(dialect: Dialect, theirs: Any) -> dict[Kind, Cell]:
    return {kind: Cell("float") for kind in ("any", "float", "int")}


def _decimals(dialect: Dialect, theirs: Any) -> dict[Kind, Cell]:
    cell = dialect.cell("decimal", key=False)
    if theirs.precision is not None:
        scale = theirs.scale or 0
        cell = Cell("decimal", theirs.precision - scale, scale)
    return dict.fromkeys(("any", "decimal", "float", "int"), cell)


def _texts(dialect: Dialect, theirs: Any) -> dict[Kind, Cell]:
    octets = 0
    for known, most in ((mysql.TINYTEXT, 255), (mysql.TEXT, 65_535), (mysql.MEDIUMTEXT, 1 << 24)):
        if type(theirs) is known:
            octets = most
    return {kind: Cell("text", theirs.length or 0, octets=octets) for kind in _TEXTS}


def _plain(*kinds: Kind) -> Callable[[Dialect, Any], dict[Kind, Cell]]:
    def takes(dialect: Dialect, theirs: Any) -> dict[Kind, Cell]:
        return {kind: Cell(kinds[0]) for kind in kinds}

    return takes


_TAKES: Sequence[tuple[type[Any], Callable[[Dialect, Any], dict[Kind, Cell]]]] = (
    (sa.Boolean, _plain("bool", "any")),
    (sa.Integer, _ints),
    (sa.Float, _floats),
    (sa.Numeric, _decimals),
    (sa.JSON, _plain("json", "any")),
    (sa.String, _texts),
    (sa.DateTime, _plain("datetime", "any")),
    (sa.Date, _plain("date", "any")),
    (sa.LargeBinary, _plain("blob")),
)
