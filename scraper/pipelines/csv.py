"""CSV: one row per item, under a header, in the columns of one model (RFC 4180)."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from aiofiles.os import wrap
from pydantic import ByteSize

from scraper.errors import ConfigError
from scraper.pipelines.append import AppendSink, Mode
from scraper.pipelines.columns import Columns
from scraper.pipelines.compression import head
from scraper.pipelines.provenance import Provenance
from scraper.protocols import CrawlInfo, Page
from scraper.records import encode
from scraper.urls import scalar

__all__ = ["Csv"]

_BOM = "\ufeff"
_FORMULA = "=+-@\t\r\n＝＋－＠"
_NUMBER = re.compile(r"[+-][\d.,]*\d[\d.,]*(?:[eE][+-]?\d+)?%?", re.ASCII)
_HARMLESS = (Decimal, date, time, timedelta)
_HEADER = 1 << 20  # bytes in which a file's header must end


class Csv(AppendSink):
    """Write each item as a row of CSV (UTF-8, lines end in LF), exactly once.

    The columns are the fields of the first item's model, or *fields*; see `Columns`. *quote*
    "minimal": cells that need it; "all". *formulas* "neutralise": text that a spreadsheet would
    take for a formula gets a `'` before it, plain numbers excepted; "keep": it stays as it is.
    *bom*: the file begins with a byte order mark, which Excel wants to see. The other options are
    those of `AppendSink`.
    """

    kind = "csv"

    def __init__(
        self,
        path: str = "data/{spider}.csv",
        mode: Mode = "replace",
        fields: list[str] | None = None,
        delimiter: str = ",",
        quote: Literal["minimal", "all"] = "minimal",
        formulas: Literal["neutralise", "keep"] = "neutralise",
        bom: bool = False,
        provenance: Provenance = False,
        records_per_file: int = 0,
        size_per_file: ByteSize | None = None,
        storage: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            path,
            mode,
            provenance=provenance,
            records_per_file=records_per_file,
            size_per_file=size_per_file,
            storage=storage,
        )
        if len(delimiter) != 1 or delimiter in '"\r\n\0':
            raise ConfigError(
                f"delimiter = {delimiter!r}: one character that is no quote and ends no line",
                hint='As delimiter = ";", or "\\t" for tabs.',
            )
        self._columns = Columns(self.path, fields, provenance=self.provenance)
        self._known = (*fields, *self.provenance) if fields else None
        self._delimiter = delimiter
        self._bom = _BOM if bom else ""
        self._keep_formulas = formulas == "keep"
        self._checked: set[str] = set()
        # Both characters of its line end are quoted then, also where they stand alone.
        self._row: Callable[[Iterable[str]], str] = csv.writer(
            _Echo(),
            delimiter=delimiter,
            quoting=csv.QUOTE_ALL if quote == "all" else csv.QUOTE_MINIMAL,
            lineterminator="\r\n",
        ).writerow

    # ── columns

    async def open(self, crawl: CrawlInfo) -> None:
        self._columns.shared = crawl.shared
        await super().open(crawl)
        if self._known is not None and not self._by_item and not crawl.resumed:
            try:
                await self._check_header("", self._known)
            except BaseException:
                await self.aclose()
                raise

    async def _check_header(self, stream: str, columns: Sequence[str]) -> None:
        """What is appended fits under the header that is there. Raises `ConfigError`."""
        path = self.files.path(stream, 1)
        found = await wrap(_header)(path, self._delimiter) if self.mode == "append" else None
        self._compare(stream, columns, found)

    def _compare(self, stream: str, columns: Sequence[str], found: list[str] | None) -> None:
        path = self.files.path(stream, 1)
        wanted = [self._cell(name) for name in columns]
        if found is not None and found != wanted:
            raise ConfigError(
                f"{path} has the columns {', '.join(found)}, and this crawl would append"
                f" {', '.join(wanted)}",
                hint=f"Name the columns: fields = {json.dumps(found, ensure_ascii=False)}."
                " Or give this crawl another file.",
            )
        self._checked.add(stream)

    def _names(self, stream: str) -> tuple[str, ...] | None:
        layout = self._columns.layouts.get(stream)
        return self._known if layout is None else layout.columns

    def opening(self, stream: str) -> bytes:
        names = self._names(stream)
        return self._bom.encode() + self._line(names) if names is not None else b""

    def closing(self, stream: str, empty: bool) -> bytes:
        return self.opening(stream) if empty else b""

    def notes(self) -> Any:
        return self._columns.notes()

    def take_notes(self, notes: Any) -> None:
        self._columns.take_notes(notes)
        self._checked.update(self._columns.layouts)

    # ── rows

    async def process(self, item: Any, page: Page) -> Any:
        stream = self.stream(item)
        layout, values = self._columns.row(item, page, stream)
        if layout.label:
            record = layout.label + self._line(values)
            page.stage(self, record, len(record))
            return item
        if stream not in self._checked:
            await self._check_header(stream, layout.columns)
        self.keep(item, page, self._line(values))
        return item

    def fit(self, record: bytes) -> bytes:
        """The row that came from another worker, in the columns of its file; see `Sink`."""
        head, _, row = record.partition(b"\n")
        fitting = self._columns.fitting(head)
        if fitting.wrong or fitting.order is not None:
            cells = _cells(row.decode(), self._delimiter)
            if fitting.wrong:
                raise fitting.misfit(cells)
            placed = ["" if place is None else cells[place] for place in fitting.order or ()]
            row = f"{self._row(placed)[:-2]}\n".encode()
        if fitting.stream not in self._checked:
            layout, path = self._columns.layouts[fitting.stream], self.files.path(fitting.stream, 1)
            found = _header(path, self._delimiter) if self.mode == "append" else None
            self._compare(fitting.stream, layout.columns, found)
        return self.addressed(fitting.stream, row)

    def _line(self, values: Sequence[Any]) -> bytes:
        text = self._row(map(self._cell, values))[:-2] + "\n"
        if "\0" in text:  # CSV has no form for it, and readers in C end there
            text = text.replace("\0", "\ufffd")
        try:
            return text.encode()
        except UnicodeEncodeError:
            return scalar(text).encode()

    def _cell(self, value: Any) -> str:
        kind = type(value)
        if kind is str:
            text: str = value
        elif value is None:
            return ""
        elif kind is int:
            return repr(value)
        elif kind is float:
            return repr(value) if math.isfinite(value) else ""
        elif kind is bool:
            return "true" if value else "false"
        else:
            text = _plain(value)
            if isinstance(value, _HARMLESS):
                return text
        if (
            text[:1] in _FORMULA
            and text
            and not self._keep_formulas
            and not _NUMBER.fullmatch(text)
        ):
            return "'" + text
        return text


def _cells(row: str, delimiter: str) -> list[str]:
    """The cells of a row as `csv` writes it; the module's own reader ends at 131,072 characters."""
    cells, at = [], 0
    while True:
        if row[at] == '"':
            end = row.index('"', at + 1)
            while row[end + 1] == '"':
                end = row.index('"', end + 2)
            cells.append(row[at + 1 : end].replace('""', '"'))
            end += 1
        else:
            end = min(place for place in (row.find(delimiter, at), len(row) - 1) if place >= 0)
            cells.append(row[at:end])
        if row[end] != delimiter:
            return cells
        at = end + 1


class _Echo:
    """Where `csv` writes to: the row is what `writerow` returns."""

    def write(self, row: str) -> str:
        return row


def _plain(value: Any) -> str:
    """*value* as JSON has it: strings without their quotes, null as nothing."""
    text = encode({"": value})[4:-1].decode()
    if text.startswith('"'):
        plain: str = json.loads(text)
        return plain
    return "" if text == "null" else text


def _header(path: Path, delimiter: str) -> list[str] | None:
    """The first row of a file; None when it is empty or not there."""
    if not path.exists():
        return None
    text = head(path, _HEADER).decode("utf-8-sig", "replace")
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), None)
    except csv.Error as error:
        raise ConfigError(
            f"{path} has no header that can be read: {error}", hint="Give this crawl another file."
        ) from None
