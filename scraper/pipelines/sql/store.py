"""A database behind SQLAlchemy, as `TableSink` wants it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection
from sqlalchemy.schema import CreateColumn

from scraper.errors import ConfigError
from scraper.pipelines.cells import Cell, Kind
from scraper.pipelines.sql.dialects import Dialect
from scraper.pipelines.sql.engines import engine_for, made_meanwhile, meaning, shown
from scraper.pipelines.tables import RUNS, Away, Column, Found, Heading, Mark, ascii_lower

__all__ = ["SqlStore"]

log = logging.getLogger("scraper.crawl")

BATCH = 1000
"""Rows that are handed to the driver at once."""


class SqlStore:
    """The database behind *url*, used by one thread. *upserts*: rows will have a key.
    *patience*: seconds to wait for a lock.

    Raises `ConfigError` for a URL that means no database, or a driver that is missing.
    """

    def __init__(
        self,
        url: URL,
        schema: str | None = None,
        *,
        upserts: bool = False,
        patience: float = 30.0,
    ) -> None:
        self.where = shown(url, schema)
        self.schema = schema
        self.tables: dict[Heading, sa.Table] = {}
        self._engine = engine_for(url, self.where, patience)
        self._password = str(url.password or "")
        self._upserts = upserts
        self._know(Dialect.of(self._engine.dialect))

    def _know(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.longest = dialect.longest
        self.key_octets = dialect.key_octets
        self.reserved = "sqlite_" if dialect.name == "sqlite" else ""
        self.runs = dialect.runs(RUNS, sa.MetaData(schema=self.schema))
        if self._upserts and dialect.upsert is None:
            raise ConfigError(
                f"{self.where}: key needs an upsert, and none is known for {dialect.name}",
                hint="Leave key out: rows are then added, each once.",
            )

    # ── connecting

    def check(self) -> None:
        """Connect; where tables can be made in a transaction, make one and take it back."""
        with self._explained(), self._engine.connect() as connection:
            connection.execute(sa.select(1))
            self._know(Dialect.of(connection.dialect))  # which MySQL it is, it has told by now
            if self.dialect.name == "postgresql":
                try:
                    self.runs.create(connection, checkfirst=True)
                except sa.exc.DBAPIError as error:
                    if not made_meanwhile(error):
                        raise
            connection.rollback()

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            # Not from the error: its text has the values of rows.
            raise meaning(error, self.where, self._password) from None

    @contextmanager
    def _begun(self) -> Iterator[Connection]:
        with self._explained(), self._engine.begin() as connection:
            yield connection

    # ── what is there

    def folded(self, name: str) -> str:
        return name.lower() if self.dialect.folds else name

    def folded_table(self, name: str) -> str:
        return ascii_lower(name) if self.dialect.name == "sqlite" else name

    def cell(self, kind: Kind, *, key: bool) -> Cell:
        return self.dialect.cell(kind, key=key)

    def look(self, table: str) -> Found | None:
        with self._begun() as connection:
            return self._found(connection, table)

    def _found(self, connection: Connection, table: str) -> Found | None:
        there = sa.inspect(connection)
        if table in there.get_view_names(self.schema):
            return Found(obstacle="is a view")
        if not there.has_table(table, self.schema):
            return None
        if not self.dialect.has_transactions(connection, table, self.schema):
            log.warning("%s: table %s has no transactions: at-least-once", self.where, table)
        columns = {}
        for column in there.get_columns(table, self.schema):
            made = bool(column.get("computed"))
            filled = made or column.get("identity") or column.get("autoincrement") is True
            required = not column["nullable"] and column["default"] is None and not filled
            takes = {} if made else self.dialect.takes(column["type"])
            name = column["name"]
            columns[self.folded(name)] = Column(name, str(column["type"]), takes, required)
        primary = there.get_pk_constraint(table, self.schema)
        unique: list[Sequence[str | None]] = [primary["constrained_columns"]]
        unique += [u["column_names"] for u in there.get_unique_constraints(table, self.schema)]
        more = {"include_auto_indexes": True} if self.dialect.name == "sqlite" else {}
        for index in there.get_indexes(table, self.schema, **more):
            options = index.get("dialect_options", {})
            partial = any(
                name.endswith(("_where", "_length")) and options[name] for name in options
            )
            if index["unique"] and not partial and None not in index["column_names"]:
                unique.append(index["column_names"])
        return Found(
            columns, {frozenset(self.folded(n or "") for n in names) for names in unique if names}
        )

    def mark(self, run: str, output: str) -> Mark | None:
        with self._begun() as connection:
            if not sa.inspect(connection).has_table(RUNS, self.schema):
                return None
            return _Transaction(self, connection).mark(run, output)

    def forget(self, run: str, output: str) -> None:
        if self.mark(run, output) is not None:
            with self.transaction() as transaction:
                transaction.drop(run, output)

    def prepare(self, headings: Sequence[Heading], key: Sequence[str]) -> None:
        with self._explained():
            try:
                with self._engine.begin() as connection:
                    self.runs.create(connection, checkfirst=True)
                    for heading in headings:
                        self._prepare(connection, heading, key)
            except sa.exc.DBAPIError as error:
                if made_meanwhile(error):
                    raise Away("another process makes the same tables") from None
                raise

    def _prepare(self, connection: Connection, heading: Heading, key: Sequence[str]) -> None:
        table = self.table(heading, key)
        found = self._found(connection, heading.table)
        if found is None:
            table.create(connection)
            return
        compiler = connection.dialect.identifier_preparer
        for column in table.columns:
            if self.folded(column.name) not in found.columns:
                text = CreateColumn(column).compile(dialect=connection.dialect)
                added = f"ALTER TABLE {compiler.format_table(table)} ADD {text}"
                connection.exec_driver_sql(added.replace("%", "%%"))
                log.info("%s: %s", self.where, added)

    def table(self, heading: Heading, key: Sequence[str]) -> sa.Table:
        table = self.tables.get(heading)
        if table is None:
            metadata = sa.MetaData(schema=self.schema)
            table = self.tables[heading] = self.dialect.table(heading, key, metadata)
        return table

    @contextmanager
    def transaction(self) -> Iterator[_Transaction]:
        with self._begun() as connection:
            yield _Transaction(self, connection)


class _Transaction:
    """See `tables.Transaction`."""

    def __init__(self, store: SqlStore, connection: Connection) -> None:
        self._store = store
        self._connection = connection
        self._runs = store.runs

    def swap(self, old: Mark | None, new: Mark) -> bool:
        runs = self._runs
        there = self.mark(new.run, new.output)
        if there is not None if old is None else not old.same(there):
            return False
        values = dict(zip(runs.c.keys(), (*new[:5], new.notes()), strict=True))
        if old is None:
            self._connection.execute(sa.insert(runs).values(values))
            return True
        same = (column == value for column, value in zip(runs.c, old[:5], strict=False))
        done = self._connection.execute(sa.update(runs).where(*same).values(values))
        return done.rowcount == 1

    def _is(self, run: str, output: str) -> sa.ColumnElement[bool]:
        return sa.and_(self._runs.c.run == run, self._runs.c.output == output)

    def mark(self, run: str, output: str) -> Mark | None:
        asked = sa.select(self._runs).where(self._is(run, output))
        row = self._connection.execute(asked).one_or_none()
        return None if row is None else Mark.read(row)

    def marks(self) -> list[Mark]:
        return [Mark.read(row) for row in self._connection.execute(sa.select(self._runs))]

    def drop(self, run: str, output: str) -> None:
        self._connection.execute(sa.delete(self._runs).where(self._is(run, output)))

    def clear(self, table: str) -> None:
        if sa.inspect(self._connection).has_table(table, self._store.schema):
            self._connection.execute(sa.delete(sa.table(table, schema=self._store.schema)))

    def insert(self, heading: Heading, key: Sequence[str], rows: Iterator[list[Any]]) -> None:
        dialect, table = self._store.dialect, self._store.table(heading, key)
        statement = dialect.insert(table, key, heading.names)
        forms = [dialect.forms.get(kind) for _, kind in heading.columns]
        names = [column.key for column in table.columns]
        while batch := list(islice(rows, BATCH)):
            self._connection.execute(
                statement,
                [
                    {
                        name: value if form is None or value is None else form(value)
                        for name, form, value in zip(names, forms, row, strict=True)
                    }
                    for row in batch
                ],
            )
