"""Feeds: CSV, JSON lines, a JSON array, XML, gzip or not, as rows that come one by one.

A row that is malformed comes with what is wrong with it, and the next one follows::

    for row in read(response.body, content_type=…, url=response.url):
        print(row.place, row.value, row.error)
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

from scraper import encoding as encodings
from scraper.errors import ExtractionError, UsageError
from scraper.streams import is_gzip, lines, texts, unzipped
from scraper.xmlrows import ElementReader, read_rows, xml_texts

__all__ = ["Feed", "FeedFormat", "Row", "format_of", "read"]

FeedFormat = Literal["csv", "jsonl", "json", "xml"]

MAX_SIZE = 1 << 30
"""Bytes of a feed, unpacked: it is never held whole (but a JSON array, or another encoding)."""

MAX_LINE = 8 << 20  # characters
DELIMITERS = ",;\t|"


class Row(NamedTuple):
    """One row: `place` (`line 17`, `row 17`) and `value`; or `error`, which says what is wrong.

    `value`: a dict of strings from CSV and XML, the JSON value from JSON; of a malformed row
    whatever could be read of it.
    """

    place: str
    value: Any
    error: str = ""


def read(
    body: bytes,
    *,
    format: FeedFormat | None = None,  # noqa: A002 - the word that users write in their class
    content_type: str = "",
    url: str = "",
    encoding: str | None = None,
    delimiter: str | None = None,
    quotechar: str | None = '"',
    fields: Sequence[str] | None = None,
    itertag: str | None = None,
    max_size: int = MAX_SIZE,
) -> Feed:
    """The feed in *body*: iterate over it for its rows.

    *format*: else as `format_of` finds it. *encoding*: a WHATWG label; else by byte order mark,
    header (XML: declaration), UTF-8 where it fits, windows-1252. *max_size*: bytes, unpacked.

    CSV (RFC 4180): *delimiter*: else the one of comma, semicolon, tab and bar that the first line
    has most of; *quotechar*: None when nothing is quoted; *fields*: the columns' names, else those
    in the first row. XML: *itertag*: the row element, by its name without a prefix (or with it,
    `g:entry`), default `item`. JSON: where the array stands in an object, `data.products`.

    Raises `UsageError` for options that mean nothing; iterating raises `ExtractionError`:
    `not_json`, `xml_entity`, `parse_limit`, `body_too_large`.
    """
    if format is not None and format not in get_args(FeedFormat):
        raise UsageError(
            f"format = {format!r} is not the format of a feed",
            hint=f"One of {', '.join(get_args(FeedFormat))}; leave it out to have it found.",
        )
    for name, value in (("delimiter", delimiter), ("quotechar", quotechar)):
        if value is not None and (len(value) != 1 or value in "\r\n"):
            raise UsageError(f"{name} = {value!r}: it is one character, such as ';' or '\\t'")
    if encoding is not None and encodings.lookup(encoding) is None:
        raise UsageError(f"encoding = {encoding!r} is no label of the WHATWG Encoding Standard")
    return Feed(
        body, format, content_type, url, encoding, delimiter, quotechar, fields, itertag, max_size
    )


# Which format ------------------------------------------------------------------------------------

_TYPES: dict[str, FeedFormat] = {
    "text/csv": "csv",
    "application/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/x-ndjson": "jsonl",
    "application/ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "application/jsonlines": "jsonl",
    "application/x-jsonlines": "jsonl",
    "application/json-lines": "jsonl",
    "application/json": "json",
    "text/json": "json",
    "application/xml": "xml",
    "text/xml": "xml",
}
_ENDINGS: dict[str, FeedFormat] = {
    "csv": "csv",
    "tsv": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "jl": "jsonl",
    "json": "json",
    "xml": "xml",
    "rss": "xml",
    "atom": "xml",
    "rdf": "xml",
}


def format_of(url: str, content_type: str = "", head: str = "") -> FeedFormat:
    """The format by the URL's ending (without `.gz`), the content type, or the first character.

    The ending comes first since servers call files of lines `application/json` or `text/plain`.
    """
    path = urlsplit(url).path.lower().removesuffix(".gz")
    if (known := _ENDINGS.get(path.rpartition("/")[2].rpartition(".")[2])) is not None:
        return known
    kind = content_type.partition(";")[0].strip().lower()
    if kind.endswith("+xml") and "html" not in kind:
        return "xml"
    if (known := _TYPES.get(kind) or ("json" if kind.endswith("+json") else None)) is not None:
        return known
    first = head.lstrip("\ufeff \t\r\n")[:1]
    return "xml" if first == "<" else "json" if first and first in "[{" else "csv"


# Reading -----------------------------------------------------------------------------------------


class Feed:
    """A feed that is read while one iterates over it, once.

    `format`: known once the first row has come; `warnings`: whole once the iteration has ended.
    """

    __slots__ = (
        "_body",
        "_content_type",
        "_delimiter",
        "_encoding",
        "_fields",
        "_itertag",
        "_max_size",
        "_quotechar",
        "_rows",
        "format",
        "url",
        "warnings",
    )

    def __init__(
        self,
        body: bytes,
        format: FeedFormat | None,  # noqa: A002
        content_type: str,
        url: str,
        encoding: str | None,
        delimiter: str | None,
        quotechar: str | None,
        fields: Sequence[str] | None,
        itertag: str | None,
        max_size: int,
    ) -> None:
        self.format = format
        self.url = url
        self.warnings: list[str] = []
        self._body = body
        self._content_type = content_type
        self._encoding = encoding
        self._delimiter = delimiter
        self._quotechar = quotechar
        self._fields = fields
        self._itertag = itertag
        self._max_size = max_size
        self._rows = self._read()

    def __iter__(self) -> Iterator[Row]:
        return self._rows

    def _read(self) -> Iterator[Row]:
        pieces = unzipped(self._body, self._max_size, self.warnings)
        first = next(pieces, b"")
        if not first.strip():
            self.warnings.append("it is empty")
            return
        pieces = chain([first], pieces)
        if self.format is None:
            head = first[:1024].replace(b"\0", b"").decode("latin-1").removeprefix("ï»¿")
            self.format = format_of(self.url, self._content_type, head.lstrip("ÿþ"))
        if self.format == "xml":
            content_type = self._content_type
            if self._encoding is not None:
                content_type = f"text/xml; charset={self._encoding}"
            yield from self._xml(xml_texts(pieces, content_type))
            return
        text = texts(pieces, self._text_encoding(first))
        if self.format == "csv":
            yield from self._csv(text)
        elif self.format == "jsonl":
            yield from self._json_lines(text)
        else:
            yield from self._json("".join(text))

    def _text_encoding(self, first: bytes) -> str:
        """By byte order mark, header, or what fits; of gzip only the first piece is asked."""
        said = None if self._encoding is None else encodings.lookup(self._encoding)
        said = said or encodings.declared(self._content_type)
        sample = self._body
        if is_gzip(sample):
            sample = first[: max(first.rfind(b"\n"), first.rfind(b",")) + 1] or first
        # A cell may hold markup: what it declares is not said of the feed.
        return encodings.detect(sample, "text/csv", said)

    # ── CSV

    def _csv(self, text: Iterator[str]) -> Iterator[Row]:
        # The reader wants line ends to know a line end inside of quotes.
        ended = (f"{line}\n" for line in lines(text, MAX_LINE))
        first = next((line for line in ended if line.strip("\ufeff \t\n")), None)
        if first is None:
            return
        first = first.lstrip("\ufeff")  # some files have two
        delimiter = self._delimiter
        if match := _EXCEL.match(first):  # spreadsheets say it so
            delimiter = delimiter or match[1]
            first = "\n"
        reader = csv.reader(
            chain([first], ended),
            delimiter=delimiter or _delimiter(first, self._quotechar),
            quotechar=self._quotechar,
            quoting=csv.QUOTE_NONE if self._quotechar is None else csv.QUOTE_MINIMAL,
        )
        names = None if self._fields is None else list(self._fields)
        while True:
            place = f"line {reader.line_num + 1}"
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(place, {}, f"{error}")
                continue
            if not any(map(str.strip, cells)):
                continue
            if names is None:
                names = self._names(cells)
            elif len(cells) == len(names) or not any(cells[len(names) :] or ["short"]):
                if reader.line_num > 1 or cells != names:
                    yield Row(place, dict(zip(names, cells, strict=False)))
            else:
                yield Row(place, _ragged(names, cells), _misfit(names, cells))

    def _names(self, cells: list[str]) -> list[str]:
        """The header row's names, each made one of its kind: `name`, `name_2`; `column_3`."""
        names: list[str] = []
        for number, cell in enumerate(cells, 1):
            name = base = " ".join(cell.split()) or f"column_{number}"
            again = 1
            while name in names:
                again += 1
                name = f"{base}_{again}"
            if name != cell.strip() and cell.split() != name.split():
                self.warnings.append(f"column {number} ({cell.strip()!r}) is called {name!r}")
            names.append(name)
        return names

    # ── JSON

    def _json_lines(self, text: Iterator[str]) -> Iterator[Row]:
        for number, line in enumerate(lines(text, MAX_LINE), 1):
            if not line or line.isspace():
                continue
            try:
                yield Row(f"line {number}", json.loads(line))
            except (ValueError, RecursionError) as error:
                yield Row(f"line {number}", {"": line}, f"not JSON: {_brief(error)}")

    def _json(self, text: str) -> Iterator[Row]:
        """An array, decoded one element at a time: the text is held, and one row."""
        at = _WS.match(text, 0).end()  # type: ignore[union-attr]  # it matches anything
        if text.startswith("[", at) and not self._itertag:
            yield from self._array(text, at + 1)
            return
        try:
            value, end = json.JSONDecoder().raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            if text.startswith("{", at) and _LINES.match(text, at):
                yield from self._json_lines(iter([text]))
                return
            raise ExtractionError("not_json", f"{self.url} is not JSON: {_brief(error)}") from None
        if text[end:].strip():  # one object after the other: lines under another name
            yield from self._json_lines(iter([text]))
            return
        rows = _inside(value, self._itertag)
        if not isinstance(rows, list):
            raise ExtractionError("not_json", _no_array(self.url, value, self._itertag), hint=_HINT)
        for number, row in enumerate(rows, 1):
            yield Row(f"row {number}", row)

    def _array(self, text: str, at: int) -> Iterator[Row]:
        decode = json.JSONDecoder().raw_decode
        number = 0
        at = _WS.match(text, at).end()  # type: ignore[union-attr]
        if text.startswith("]", at):
            return
        while True:
            number += 1
            try:
                value, at = decode(text, at)
            except (ValueError, RecursionError) as error:
                yield Row(f"row {number}", {"": text[at : at + 200]}, _rest(_brief(error)))
                return
            yield Row(f"row {number}", value)
            at = _WS.match(text, at).end()  # type: ignore[union-attr]
            if text.startswith("]", at):
                return
            if not text.startswith(",", at):
                shown = {"": text[at : at + 200]}
                yield Row(f"row {number + 1}", shown, _rest("no comma after the row before it"))
                return
            at = _WS.match(text, at + 1).end()  # type: ignore[union-attr]

    # ── XML

    def _xml(self, text: Iterator[str]) -> Iterator[Row]:
        reader = ElementReader(self._itertag or "item")
        number = 0
        for value in read_rows(text, reader, self.warnings):
            number += 1
            yield Row(f"row {number}", value)
        if not number:
            seen = ", ".join(f"<{name}>" for name in reader.seen) or "nothing"
            self.warnings.append(
                f"there is no <{reader.tag}> in it, only {seen}: set itertag to the row's element"
            )

    def __repr__(self) -> str:
        return f"<Feed {self.url}: {self.format or 'not read yet'}>"


_WS = re.compile(r"[\s\ufeff]*")
_LINES = re.compile(r"[^\n]*\}\s*\n\s*\{")
_HINT = "Set itertag to where the array stands, with dots between: data.products."


def _brief(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)


def _rest(why: str) -> str:
    return f"not JSON, and nothing after it can be read: {why}"


def _inside(value: Any, path: str | None) -> Any:
    for name in path.split(".") if path else ():
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _no_array(url: str, value: Any, path: str | None) -> str:
    if path:
        return f"{url}: there is no array at {path!r}"
    keys = ""
    if isinstance(value, dict):
        found = [key for key, inner in value.items() if isinstance(inner, list)][:5]
        keys = f" (arrays in it: {', '.join(found)})" if found else ""
    return f"{url} is a JSON {_KINDS.get(type(value), 'number')}, not an array of rows{keys}"


_KINDS = {dict: "object", str: "string", bool: "boolean", type(None): "null"}


# CSV's details -----------------------------------------------------------------------------------


_EXCEL = re.compile(r'"?sep=([^"\n])"?\s*$', re.IGNORECASE)


def _delimiter(first: str, quotechar: str | None) -> str:
    """The delimiter that *first*, a line, has most of outside of quotes; a comma when none."""
    if quotechar is not None:
        quote = re.escape(quotechar)
        first = re.sub(f"{quote}[^{quote}]*(?:{quote}|$)", "", first)
    return max(DELIMITERS, key=first.count)


def _ragged(names: list[str], cells: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(names, cells, strict=False))
    if extra := cells[len(names) :]:
        row[""] = extra
    return row


def _misfit(names: list[str], cells: list[str]) -> str:
    return f"{len(cells)} fields, where there are {len(names)} columns"
