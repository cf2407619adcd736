"""Tables: what the sinks that write to databases have in common, and what they ask of one.

A record is a heading (the table, its columns and their kinds) and a row, so that it can be applied
by a process that saw no item. How far a run is applied stands in a table of the database itself,
`_scrape_runs`: its row changes in the transaction that writes a group's rows.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from string import Formatter
from typing import Any, NamedTuple, Protocol

from pydantic_core import PydanticSerializationError, from_json, to_json

from scraper import urls
from scraper.errors import ConfigError, DamagedState, ExtractionError
from scraper.pipelines.cells import FORMS, Cell, Kind, Misfit, snake
from scraper.protocols import CrawlInfo

__all__ = [
    "RUNS",
    "Away",
    "Column",
    "Found",
    "Heading",
    "Mark",
    "Plan",
    "Store",
    "TableNames",
    "Transaction",
    "ascii_lower",
    "bad_name",
    "bad_names",
    "cells_for",
    "heading_of",
    "headings",
    "rows_of",
    "short",
]

RUNS = "_scrape_runs"
"""Its columns: `run` (spider/job/started), `output` (the sink's `table`), `last_group`, `records`
(rows written so far), `writer` (the process that wrote them), `tables` (JSON: of each table the
model and the fields)."""

MAX_COLUMNS = 1000
"""Of one table. Databases end between 1,000 and 4,000."""


class Away(Exception):  # noqa: N818 - a signal
    """The database cannot be reached now, or had to give up a transaction; it may pass."""


# Records ----------------------------------------------------------------------------------------


class Heading(NamedTuple):
    """What a row is to: `fields` of the columns are the item's, the provenance's follow."""

    table: str
    model: str
    fields: int
    columns: tuple[tuple[str, Kind], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.columns)

    def dump(self) -> bytes:
        return json.dumps(self, ensure_ascii=True, separators=(",", ":")).encode()

    @classmethod
    def load(cls, data: bytes) -> Heading:
        """Raises `DamagedState` for what `dump` has not made."""
        try:
            table, model, fields, columns = json.loads(data)
            return cls(table, model, int(fields), tuple((name, kind) for name, kind in columns))
        except (ValueError, TypeError) as error:
            raise DamagedState(f"a record for a table cannot be read: {error}") from None


class Plan:
    """How the items of one table become records. *where*: the table, for messages."""

    def __init__(
        self, where: str, heading: Heading, cells: Sequence[Cell], key: Sequence[str]
    ) -> None:
        self.heading = heading
        self._where = where
        self._forms = tuple((FORMS[cell.kind], cell) for cell in cells)
        self._start = heading.dump() + b"\n"
        self._key = tuple(heading.names.index(name) for name in key)

    def record(self, values: Sequence[Any]) -> bytes:
        """Raises `ExtractionError("schema")` for values that the columns cannot hold."""
        try:
            row = [
                None if value is None else form(value, cell)
                for (form, cell), value in zip(self._forms, values, strict=True)
            ]
        except Misfit:
            raise self._misfit(values) from None
        for place in self._key:
            if row[place] is None:
                raise ExtractionError(
                    "schema", f"{self._where}: {self._name(place)} is missing, and it is the key"
                )
        try:
            return self._start + to_json(row)
        except (PydanticSerializationError, UnicodeError, ValueError):  # lone surrogates
            return self._start + to_json([urls.scalar(v) if type(v) is str else v for v in row])

    def _misfit(self, values: Sequence[Any]) -> ExtractionError:
        for place, ((form, cell), value) in enumerate(zip(self._forms, values, strict=True)):
            try:
                _ = value is None or form(value, cell)
            except Misfit as misfit:
                return ExtractionError("schema", f"{self._where}: {self._name(place)} {misfit}")
        raise AssertionError

    def _name(self, place: int) -> str:
        return self.heading.columns[place][0]


def headings(records: Iterable[bytes]) -> list[Heading]:
    """The headings that occur, once each."""
    return [Heading.load(data) for data in dict.fromkeys(map(heading_of, records))]


def rows_of(records: Iterable[bytes]) -> Iterator[tuple[Heading, Iterator[list[Any]]]]:
    """Rows in their order, those that stand together under one heading; read as they are needed."""
    for data, run in groupby(records, heading_of):
        skip = len(data) + 1
        yield Heading.load(data), (from_json(record[skip:]) for record in run)


def heading_of(record: bytes) -> bytes:
    """The heading of a record, as it is dumped."""
    return record[: record.index(b"\n")]


# What is there ----------------------------------------------------------------------------------


class Column(NamedTuple):
    """A column that a table has. `takes`: what can be written to it, and in which form.

    `required`: a row without a value for it is refused.
    """

    name: str
    declared: str
    takes: Mapping[Kind, Cell]
    required: bool = False


@dataclass(slots=True)
class Found:
    """A table that exists. Names are as the database compares them (see `Store.folded`).

    `unique`: the sets of columns in which rows differ. `obstacle`: why nothing can be written
    to it, when it is no table.
    """

    columns: Mapping[str, Column] = field(default_factory=dict)
    unique: Collection[frozenset[str]] = ()
    obstacle: str = ""


class Mark(NamedTuple):
    """How far a run is applied. `tables`: of each that it wrote to, the model and the fields.

    `writer`: the process, so that two that go by one name (two machines, the same second) differ.
    """

    run: str
    output: str
    group: int
    records: int
    writer: str
    tables: Mapping[str, Any]

    def same(self, other: Mark | None) -> bool:
        """Whether *other* is this very mark."""
        return other is not None and self[:5] == other[:5]

    def notes(self) -> str:
        return json.dumps(self.tables, ensure_ascii=True)

    @classmethod
    def read(cls, row: Sequence[Any]) -> Mark:
        """From the columns of `_scrape_runs`. Raises `DamagedState`."""
        run, output, group, records, writer, notes = row
        try:
            tables = json.loads(notes)
            return cls(str(run), str(output), int(group), int(records), str(writer), dict(tables))
        except (ValueError, TypeError) as error:
            raise DamagedState(
                f"table {RUNS} is not as it was written: {error}",
                hint=f"Delete the row of run {run} from it, and run with --fresh.",
            ) from None


class Transaction(Protocol):
    """Everything or nothing. All methods block."""

    def mark(self, run: str, output: str) -> Mark | None: ...
    def swap(self, old: Mark | None, new: Mark) -> bool:
        """Put *new* in place of *old*; False when something else than *old* is there."""

    def marks(self) -> list[Mark]:
        """Those of all runs."""

    def drop(self, run: str, output: str) -> None: ...
    def clear(self, table: str) -> None:
        """Delete the rows of *table*, if there is such a table."""

    def insert(self, heading: Heading, key: Sequence[str], rows: Iterator[list[Any]]) -> None:
        """Add rows, in order; with a *key*, in place of those that have it already."""


class Store(Protocol):
    """A database, used by one thread. All methods block.

    They raise `Away` for what may pass, `OutOfResource` for a full disk, `UsageError` for what
    somebody must mend. `where`: what messages call it. `longest`: bytes of a name. `key_octets`:
    of the texts in a key together, 0: any. `reserved`: how names begin that are its own.
    """

    where: str
    longest: int
    key_octets: int
    reserved: str

    def check(self) -> None:
        """Find out whether it can be written; change nothing."""

    def folded(self, name: str) -> str:
        """*name* in the form in which the database compares names of columns."""

    def folded_table(self, name: str) -> str:
        """The same for names of tables."""

    def cell(self, kind: Kind, *, key: bool) -> Cell:
        """What a column made for *kind* takes. *key*: it is one of the key's."""

    def look(self, table: str) -> Found | None: ...
    def mark(self, run: str, output: str) -> Mark | None: ...
    def forget(self, run: str, output: str) -> None:
        """Remove the mark of a run, if there is one."""

    def prepare(self, headings: Sequence[Heading], key: Sequence[str]) -> None:
        """Make the tables and columns that are missing. What is there stays as it is."""

    def transaction(self) -> AbstractContextManager[Transaction]: ...
    def close(self) -> None: ...


# Names ------------------------------------------------------------------------------------------


class TableNames:
    """What the option `table` means: a name, or one for each type of item (`by_item`)."""

    def __init__(self, template: str) -> None:
        self._parts: list[tuple[str, str]] = []
        self._values: dict[str, str] = {}
        try:
            parts = list(Formatter().parse(template))
        except ValueError as error:
            raise ConfigError(
                f"table = {template!r}: {error}",
                hint="A literal brace is written twice: {{ or }}.",
            ) from None
        for text, name, spec, conversion in parts:
            if name not in (None, "item", "spider", "started") or spec or conversion:
                raise ConfigError(
                    f"table = {template!r}: {{{name}}} is not known here",
                    hint="Use {item}, {spider} or {started}.",
                )
            self._parts.append((text, name or ""))
        self.by_item = any(name == "item" for _, name in self._parts)

    def fill(self, crawl: CrawlInfo) -> None:
        """Take what is known of the crawl."""
        self._values = {"": "", "spider": crawl.spider, "started": crawl.started}

    def of(self, item: str) -> str:
        """The table for items of the type of that name."""
        values = self._values | {"item": "items" if item == "dict" else snake(item)}
        return "".join(text + values[name] for text, name in self._parts)


def short(text: str) -> str:
    """*text*, or what stands for it where it is too long to be a key."""
    if len(text) <= 200:
        return text
    return f"{text[:120]}…{sha256(text.encode('utf-8', 'replace')).hexdigest()}"


# Whether items fit ------------------------------------------------------------------------------


def ascii_lower(name: str) -> str:
    """As SQLite compares names: the case of ASCII letters does not count, and of no others."""
    return name.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def bad_names(names: Sequence[str], store: Store) -> str:
    """Why these cannot be the columns of a table; "" when they can."""
    if not names:
        return "it has no fields"
    if len(names) > MAX_COLUMNS:
        return f"it has {len(names):,} fields, and tables take {MAX_COLUMNS:,}"
    seen: dict[str, str] = {}
    for name in names:
        if bad := bad_name(name, store):
            return f"{name[:40]!r} {bad}"
        other = seen.setdefault(store.folded(name), name)
        if other != name:
            return f"{other!r} and {name!r} are one name to the database"
    return ""


def bad_name(name: str, store: Store) -> str:
    """Why *name* cannot name a table or column; "" when it can."""
    if not name.strip() or "\0" in name or urls.scalar(name) != name:
        return "cannot be a name in a database"
    if len(name.encode()) > store.longest:
        return f"is longer than the {store.longest} bytes that the database has for names"
    return ""


def cells_for(
    heading: Heading, key: Sequence[str], found: Found | None, store: Store
) -> list[Cell]:
    """What the columns of *heading* take, in a table that is to be made or was *found*.

    Raises `ConfigError` when rows cannot be written there, naming table, column and the way out.
    """
    cells = [store.cell(kind, key=name in key) for name, kind in heading.columns]
    if found is not None:
        _fit(cells, heading, key, found, store)
    if key and store.key_octets:
        most = store.key_octets // len(key)
        for place, (name, _) in enumerate(heading.columns):
            if name in key and cells[place].kind == "text":
                cells[place] = cells[place]._replace(octets=most)
    return cells


def _fit(
    cells: list[Cell], heading: Heading, key: Sequence[str], found: Found, store: Store
) -> None:
    """Put the *found* table's columns in place of those that would be made."""
    where = f"{store.where}: table {heading.table}"
    way = 'Give the items another table with table = "…", or mend this one.'
    if found.obstacle:
        raise ConfigError(f"{where} {found.obstacle}", hint=way)
    wanted = [store.folded(name) for name in heading.names]
    if not found.columns.keys() & set(wanted):
        has = ", ".join(column.name for column in found.columns.values())
        raise ConfigError(
            f"{where} exists (with {has}) and has none of the items' columns"
            f" ({', '.join(heading.names)})",
            hint=way,
        )
    for name, column in found.columns.items():
        if column.required and name not in wanted:
            raise ConfigError(
                f"{where}: column {column.name} may not be NULL, and the items have no such field",
                hint=way,
            )
    folded_key = frozenset(map(store.folded, key))
    if key and folded_key not in found.unique:
        raise ConfigError(
            f"{where}: rows are not unique by {', '.join(key)}, the key",
            hint=f"CREATE UNIQUE INDEX {heading.table}_key ON {heading.table} ({', '.join(key)});"
            " or leave key out.",
        )
    for place, ((name, kind), folded) in enumerate(zip(heading.columns, wanted, strict=True)):
        if (there := found.columns.get(folded)) is None:
            continue
        if kind not in there.takes:
            raise ConfigError(
                f"{where}: column {there.name} is {there.declared or 'untyped'}, and the items'"
                f" {name} is {_SHOWN[kind]}",
                hint=way,
            )
        cells[place] = there.takes[kind]


_SHOWN: Mapping[Kind, str] = {
    "any": "of no known type",
    "blob": "bytes",
    "bool": "true or false",
    "date": "a date",
    "datetime": "a date with time",
    "decimal": "a decimal number",
    "float": "a number",
    "int": "a whole number",
    "json": "a list or an object",
    "text": "text",
}
