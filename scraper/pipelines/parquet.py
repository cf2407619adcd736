"""Parquet: files of typed columns (https://parquet.apache.org), made by pyarrow.

While the crawl runs, rows lie in a journal (`rowfile`): groups are far too small for a file of
columns, whose directory stands at its end. When it is published, the file is made of the journal,
a row group at a time. The parts of a data set are made as soon as they are full and committed,
unless their types depend on rows that are still to come.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import pyarrow as pa
from pyarrow import parquet
from pydantic import ByteSize, Field

from scraper.errors import ConfigError, DamagedState, ItemInvalid
from scraper.pipelines.append import AppendSink, Mode, by_stream
from scraper.pipelines.celltypes import Column, Type, columns_of, parse
from scraper.pipelines.columns import MOST, Columns, Fitting, Layout, label
from scraper.pipelines.compression import COMPRESSED
from scraper.pipelines.parts import Shape
from scraper.pipelines.provenance import PROVENANCE, Provenance
from scraper.pipelines.quarantine import values_of
from scraper.pipelines.relaid import Relaid
from scraper.pipelines.remote import Target
from scraper.pipelines.rowfile import Journal, RowSet, head_line
from scraper.pipelines.rows import MisfitError, Rows
from scraper.protocols import CrawlInfo, Page

__all__ = ["Parquet"]

Compression = Literal["zstd", "snappy", "gzip", "brotli", "lz4", "none"]

_GROUP_BYTES = 64 << 20  # of a row group in memory: rows may be large
_NOTE = b"scraper"  # the key of what a file's metadata say of the run that made it


class Parquet(AppendSink):
    """Write items to a Parquet file, exactly once: a column for each field, typed by the model.

    *fields*: the columns, by default those of the first item. *types*: the types of columns by
    their names, where the model does not say them, or others are wanted: see `celltypes.NAMES`,
    `decimal(digits, places)`, `list[…]`. *compression*: of the file's pages. *row_group*: rows
    that are stored together, at most. With *records_per_file* or *size_per_file* (bytes of the
    rows before they are a file, compressed) the output is a data set of several files. *mode*
    "append" is refused. The other options are those of `AppendSink`.
    """

    kind = "parquet"

    def __init__(
        self,
        path: str = "data/{spider}.parquet",
        mode: Mode = "replace",
        fields: list[str] | None = None,
        types: dict[str, str] | None = None,
        compression: Compression = "zstd",
        row_group: Annotated[int, Field(ge=1)] = 100_000,
        provenance: Provenance = False,
        records_per_file: int = 0,
        size_per_file: ByteSize | None = None,
        storage: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            path,
            provenance=provenance,
            records_per_file=records_per_file,
            size_per_file=size_per_file,
            storage=storage,
        )
        _check(self.path, mode)
        self.compression = compression
        self.row_group = row_group
        self.fields = fields
        self.types = {name: parse(text, f"types.{name}") for name, text in (types or {}).items()}
        self._columns = Columns(self.path, fields, provenance=self.provenance)
        self._tables: dict[str, Table] = {}
        self._arriving: dict[Fitting, Relaid] = {}
        self._generation = 0
        self._run = ""
        if fields:
            self._check_types(fields)
            if not self._by_item:
                self.keep_empty = True  # its columns are known even if nothing comes
        else:
            self.keep_empty = False

    def _check_types(self, names: Sequence[str]) -> None:
        """Raises `ConfigError` for a type of what is no column."""
        unknown = [name for name in self.types if name not in (*names, *self.provenance)]
        if unknown:
            raise ConfigError(
                f"{self.path}: types names {unknown[0]!r}, which is no column"
                f" (they are {', '.join(names)})",
                hint="The columns are those of the first item, unless fields = […] names them.",
            )

    # ── items

    async def process(self, item: Any, page: Page) -> Any:
        stream = self.stream(item)
        layout, values = self._columns.row(item, page, stream)
        if layout.label:
            table = layout.made or self._brought(stream, layout, type(item))
        else:
            table = self._tables.get(stream) or self._table(stream, layout, type(item))
        try:
            line = table.rows.line(values)
        except MisfitError as misfit:
            raise _rejected(misfit, item, page) from None
        if layout.label:
            page.stage(self, layout.label + line, len(layout.label) + len(line))
        else:
            self.keep(item, page, line)
        return item

    def _table(self, stream: str, layout: Layout, model: type) -> Table:
        table = self._tables[stream] = self._made(layout, model)
        return table

    def _brought(self, stream: str, layout: Layout, model: type) -> Table:
        """The table that an item would have for itself, in a shared crawl."""
        table: Table
        layout.made = table = self._made(layout, model)
        layout.label = label(stream, layout, table.columns)
        return table

    def _made(self, layout: Layout, model: type) -> Table:
        if not self._by_item:
            self._check_types(layout.names)
        known = {} if issubclass(model, dict) else columns_of(model)
        return Table([self._column(name, layout, known) for name in layout.columns])

    def fit(self, record: bytes) -> bytes:
        """The row that came from another worker, in the columns of its file; see `Sink`."""
        head, _, line = record.partition(b"\n")
        fitting = self._columns.fitting(head)
        relaid = self._arriving.get(fitting) or self._arrives(fitting)
        if fitting.wrong:
            raise fitting.misfit(relaid.values(line))
        try:
            return self.addressed(fitting.stream, relaid.line(line))
        except MisfitError as misfit:
            wrong = replace(fitting, wrong=misfit.message, field=misfit.name)
            raise wrong.misfit(relaid.values(line)) from None

    def _arrives(self, fitting: Fitting) -> Relaid:
        rows = Rows([Column(*column) for column in fitting.more])
        table = self._tables.get(fitting.stream)
        if table is None:
            table = self._tables[fitting.stream] = Table(rows.columns)
        if len(self._arriving) >= MOST:
            self._arriving.clear()
        relaid = self._arriving[fitting] = Relaid(rows, table.rows)
        return relaid

    def _column(self, name: str, layout: Layout, known: Mapping[str, Column]) -> Column:
        if name in self.types:
            return Column(name, self.types[name])
        if name in layout.provenance:
            return Column(name, PROVENANCE[name].__name__)
        column = known.get(name, Column(name, "any"))
        return Column(name, column.type, column.nullable or not layout.model)

    # ── the journal

    async def open(self, crawl: CrawlInfo) -> None:
        self._run = crawl.run
        self._columns.shared = crawl.shared
        await super().open(crawl)

    def file_set(
        self, template: str, crawl: CrawlInfo, shape: Shape, target: Target | None
    ) -> RowSet:
        def early(name: str) -> bool:
            return not self._known(name).rows.kinds

        return RowSet(template, crawl, shape, lambda name: _Format(self, name), early, target)

    def opening(self, stream: str) -> bytes:
        return head_line(self.head(stream))

    async def write(self, records: Sequence[bytes]) -> dict[str, Any]:
        if any(table.rows.kinds for table in self._tables.values()):
            for stream, lines in (by_stream(records) if self._by_item else {"": records}).items():
                table = self._tables[stream]
                table.kinds = table.rows.kinds_of(lines, table.kinds)
        return await super().write(records)

    def _known(self, stream: str) -> Table:
        """The table of a stream. Before an item came: its columns as far as options name them."""
        table = self._tables.get(stream)
        if table is None:
            layout = Layout("", tuple(self.fields or ()), self.provenance)
            table = Table([self._column(name, layout, {}) for name in layout.columns])
        return table

    def head(self, stream: str) -> dict[str, Any]:
        """What the journals of a stream begin with."""
        return {"columns": self._known(stream).rows.columns, "generation": self._generation}

    async def committed(self, records: Sequence[bytes]) -> None:
        """Parts that are full now, for good, are made into files."""
        if not self.files.single:
            await self._rows.finish_full()

    @property
    def _rows(self) -> RowSet:
        files = self.files
        assert isinstance(files, RowSet)  # noqa: S101 - `file_set` made it
        return files

    # ── over a resume

    def notes(self) -> Any:
        if not self._tables:
            return None
        return {
            "layouts": self._columns.notes(),
            "tables": {
                name: [table.rows.columns, table.kinds] for name, table in self._tables.items()
            },
            "generation": self._generation,
        }

    def take_notes(self, notes: Any) -> None:
        try:
            self._columns.take_notes(notes["layouts"])
            self._tables = {
                str(name): Table([Column(*column) for column in columns], list(kinds))
                for name, (columns, kinds) in notes["tables"].items()
            }
            self._generation = int(notes["generation"])
        except (AttributeError, KeyError, TypeError, ValueError):
            raise DamagedState(f"{self.key}: {notes!r} are not its columns") from None

    async def reopen(self, position: Any, aside: Mapping[str, str]) -> Any:
        """Go on with what was published; see `Reopens`. Its types stay what they have become."""
        files = self._read(position)
        for name, table in self._tables.items():
            self._tables[name] = Table(table.rows.known_as(table.kinds))
        self._generation += 1
        await self.files.reopen(files, aside)
        return self._position() if position is not None else None


def _check(path: str, mode: Mode) -> None:
    if mode == "append":
        raise ConfigError(
            'mode = "append": a Parquet file ends with its directory, and cannot grow',
            hint='Keep a file of each run: path = "data/{spider}-{started}.parquet". Readers take'
            " a directory of them as one table.",
        )
    ending = Path(path).suffix.lower()
    if ending in COMPRESSED:
        raise ConfigError(
            f"path = {path!r}: a Parquet file is compressed inside, page by page",
            hint=f'Leave {ending} out; compression = "zstd" is the default.',
        )


def _rejected(misfit: MisfitError, item: Any, page: Page) -> ItemInvalid:
    told = {
        "field": misfit.name,
        "message": misfit.message,
        "selectors": [],
        "value": misfit.value,
    }
    error = ItemInvalid(type(item).__name__, page.url, [told], values_of(item))
    error.reason = "schema"
    return error


@dataclass(slots=True)
class Table:
    """The rows of one stream. `kinds`: of the cells in columns of which nothing is known."""

    columns: Sequence[Column]
    kinds: list[str] = field(default_factory=list)
    rows: Rows = field(init=False)

    def __post_init__(self) -> None:
        self.rows = Rows(self.columns)
        self.kinds = self.kinds or ["n"] * self.rows.kinds


class _Format:
    """Parquet as a format of files that are made at the end: see `rowfile.Format`."""

    magic = b"PAR1"

    def __init__(self, sink: Parquet, stream: str) -> None:
        self._sink = sink
        self._stream = stream

    def head(self) -> dict[str, Any]:
        return self._sink.head(self._stream)

    def make(self, journal: Journal | None, base: Path | None, out: IO[bytes]) -> None:
        sink = self._sink
        head = journal.head if journal is not None else self.head()
        try:
            rows = Rows([Column(*column) for column in head["columns"]])
        except (KeyError, TypeError, ValueError):
            raise DamagedState(f"{sink.key}: {head!r} begins no journal of it") from None
        columns = rows.known_as(self._kinds(journal, rows))
        schema = pa.schema(
            [pa.field(c.name, arrow_type(c.type), c.nullable) for c in columns],
            {_NOTE: json.dumps({"run": sink._run, "size": journal.size if journal else 0})},
        )
        with parquet.ParquetWriter(out, schema, compression=sink.compression) as writer:
            if base is not None:
                for table in _row_groups(base):
                    if journal is not None:
                        journal.check()
                    writer.write_table(table.cast(schema), row_group_size=table.num_rows)
            for group in _groups(journal, rows, columns, schema, sink.row_group):
                writer.write_table(group, row_group_size=group.num_rows)

    def _kinds(self, journal: Journal | None, rows: Rows) -> Sequence[str]:
        table = self._sink._tables.get(self._stream)
        if table is not None and table.rows.columns == rows.columns:
            return table.kinds
        kinds: list[str] = ["n"] * rows.kinds
        for lines in journal.blocks() if journal is not None and rows.kinds else ():
            kinds = rows.kinds_of(lines, kinds)
        return kinds

    def published_at(self, path: Path) -> int | None:
        try:
            note = json.loads((parquet.read_metadata(path).metadata or {})[_NOTE])
            return int(note["size"]) if note["run"] == self._sink._run else None
        except (pa.ArrowException, KeyError, ValueError, TypeError):
            return None


def _row_groups(path: Path) -> Iterator[Any]:
    """The row groups of a file, one after the other.

    Arrow's own threads are not used: they may abort or hang a process that ends after it has read
    (https://github.com/apache/arrow/issues/50482).
    """
    with parquet.ParquetFile(path, pre_buffer=False) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, use_threads=False)


def _groups(
    journal: Journal | None, rows: Rows, columns: Sequence[Column], schema: Any, most: int
) -> Iterator[Any]:
    """The journal's rows, in tables of *most* rows, or fewer when they are large."""
    held: list[Any] = []
    count = size = 0
    for lines in journal.blocks() if journal is not None else ():
        while lines:
            taken, lines = lines[: most - count], lines[most - count :]
            cells = rows.cells(taken, columns)
            arrays = [array(c.type, each) for c, each in zip(columns, cells, strict=True)]
            batch = pa.record_batch(arrays, schema=schema)
            held.append(batch)
            count, size = count + batch.num_rows, size + batch.nbytes
            if count == most or size >= _GROUP_BYTES:
                yield pa.Table.from_batches(held)
                held, count, size = [], 0, 0
    if held:
        yield pa.Table.from_batches(held)


# Types ------------------------------------------------------------------------------------------


def arrow_type(kind: Type) -> Any:
    """Arrow's type for *kind*."""
    if isinstance(kind, str):
        return _simple(kind)
    if kind[0] == "decimal":
        return (pa.decimal128 if kind[1] <= 38 else pa.decimal256)(kind[1], kind[2])
    if kind[0] == "list":
        return pa.list_(pa.field("element", arrow_type(kind[1])))
    return pa.struct([pa.field(name, arrow_type(inner)) for name, inner in kind[1]])


def _simple(kind: str) -> Any:
    match kind:
        case "int":
            return pa.int64()
        case "float":
            return pa.float64()
        case "bool":
            return pa.bool_()
        case "bytes":
            return pa.binary()
        case "date":
            return pa.date32()
        case "time":
            return pa.time64("us")
        case "datetime":
            return pa.timestamp("us", tz="UTC")
        case "naive_datetime":
            return pa.timestamp("us")
    return pa.string()  # "str", "json"


def array(kind: Type, cells: Sequence[Any]) -> Any:
    """The array of *cells* that `cells.Rows` made for a column of type *kind*."""
    made = arrow_type(kind)
    if isinstance(kind, str):
        if kind == "date":
            return pa.array(cells, pa.int32()).view(made)
        if kind in ("time", "datetime", "naive_datetime"):
            return pa.array(cells, pa.int64()).view(made)
        if kind == "bytes":
            cells = [None if cell is None else b64decode(cell) for cell in cells]
        return pa.array(cells, made)
    if kind[0] == "decimal":
        return pa.array([None if cell is None else Decimal(cell) for cell in cells], made)
    absent = pa.array([cell is None for cell in cells], pa.bool_())
    if kind[0] == "list":
        ends: list[int] = [0]
        inner: list[Any] = []
        for cell in cells:
            inner += cell or ()
            ends.append(len(inner))
        return pa.ListArray.from_arrays(
            pa.array(ends, pa.int32()), array(kind[1], inner), made, mask=absent
        )
    columns = [
        array(inner, [None if cell is None else cell[place] for cell in cells])
        for place, (_, inner) in enumerate(kind[1])
    ]
    return pa.StructArray.from_arrays(columns, fields=list(made), mask=absent)
