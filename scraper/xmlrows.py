"""XML read as rows, piece by piece: no tree, no entities, and as far as it can be read.

What is damaged is read on from the next row, with a warning; what could harm is refused: expat
never resolves anything outside the body, and a declared entity ends the reading before it could
be used. Sitemaps and XML feeds are read so.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Iterable, Iterator
from html.entities import html5
from itertools import chain
from typing import Any, Generic, TypeVar
from xml.parsers import expat  # entities are refused, see `_parser`

from scraper import encoding as encodings
from scraper.errors import ExtractionError
from scraper.streams import texts

__all__ = ["ElementReader", "RowReader", "local_name", "read_rows", "xml_texts"]

Row = TypeVar("Row")

MAX_DEPTH = 256
MAX_RESTARTS = 100
MAX_TOKEN = 4 << 20  # bytes: older versions of expat scan an unfinished tag again for every piece
OPENING = 1024  # characters
LOOK_AHEAD = 64  # characters: longer than any entity name and the start of any tag looked for


# Decoding ----------------------------------------------------------------------------------------

_DECLARED = re.compile(rb"\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]{1,40})[\"']")


def xml_texts(pieces: Iterator[bytes], content_type: str = "") -> Iterator[str]:
    """XML decoded: by byte order mark, then header, then declaration (RFC 7303), else UTF-8."""
    first = next(pieces, b"")
    return texts(chain([first], pieces), _xml_encoding(first, content_type))


def _xml_encoding(head: bytes, content_type: str) -> str:
    if head.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE)):
        return encodings.detect(head)
    start = head[:64].replace(b"\n\0", b"").replace(b"\0\n", b"")
    if start.startswith((b"<\0", b"\0<")):
        return "utf-16le" if start[0] else "utf-16be"
    said = encodings.declared(content_type)
    if said is None and (match := _DECLARED.match(head)):
        said = encodings.lookup(match[1].decode("latin-1"))
    # What could be read as ASCII up to here is not in UTF-16, whatever it says.
    return encodings.UTF_8 if said is None or said.startswith("utf-16") else said


# Mending -----------------------------------------------------------------------------------------

_OPENING = re.compile(r"\A[\s\ufeff\0]*(?:<\?xml\b[^>]*\?>)?\s*")
_OTHER_OPENING = re.compile(r"\A[^<]*(?=<)")
_MEND = re.compile(
    r"<!\[CDATA\[.*?(?:\]\]>|\Z)|<!--.*?(?:-->|\Z)"
    r"|&(?:(?P<name>\#[0-9]{1,9}|\#[xX][0-9a-fA-F]{1,8}|[A-Za-z][A-Za-z0-9]{1,40});)?",
    re.DOTALL,
)
_KNOWN = frozenset({"amp", "lt", "gt", "quot", "apos"})
# Bytes that XML 1.0 does not allow (section 2.2), not even as references.
_NO_CONTROLS = bytes(32 if b < 32 and b not in (9, 10, 13) else b for b in range(256))


def _mended(pieces: Iterable[str]) -> Iterator[bytes]:
    """UTF-8 that expat takes where it would take offence at small things.

    Gone are the declaration (decoded it is wrong), white space before it, control characters;
    ampersands that begin no reference are escaped, HTML's entities become their characters.
    No piece ends inside the first characters of a tag or of a reference.
    """
    held, until, begun = "", "", False
    for piece in chain(pieces, [None]):
        text = held + (piece or "")
        held = ""
        if not begun:
            if piece is not None and len(text) < OPENING:
                held = text  # the opening is looked at whole
                continue
            text, begun = _OPENING.sub(_blank, text, count=1), True
            if not text.lstrip("\n").startswith("<"):
                text = _OTHER_OPENING.sub(_blank, text, count=1)
        if piece is not None:
            cut = _boundary(text)
            text, held = text[:cut], text[cut:]
        if until:
            before, found, after = text.partition(until)
            if not found:
                yield _encoded(text)
                continue
            yield _encoded(before + found)
            text = after
        until = _left_open(text)
        if "&" in text:
            text = _MEND.sub(_mend, text)
        yield _encoded(text)


def _blank(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")  # the lines keep their numbers


def _boundary(text: str) -> int:
    """Where *text* can be cut without cutting a reference or what begins or ends a section."""
    start = max(len(text) - LOOK_AHEAD, 0)
    cut = len(text)
    for opening, closing in (("<", ">"), ("&", ";")):
        at = text.rfind(opening, start)
        if at >= 0 and text.find(closing, at) < 0:
            cut = min(cut, at)
    while cut > start and text[cut - 1] in "]-":
        cut -= 1
    return cut


def _left_open(text: str) -> str:
    """What ends the CDATA section or the comment that is open at the end of *text*; or ""."""
    if "<!" not in text:
        return ""
    sections = deque(_SECTION.finditer(text), maxlen=1)
    if not sections or sections[0]["data"] or sections[0]["comment"]:
        return ""
    return "-->" if sections[0]["data"] is None else "]]>"


_SECTION = re.compile(r"<!(?:\[CDATA\[.*?(?P<data>\]\]>|\Z)|--.*?(?P<comment>-->|\Z))", re.DOTALL)


def _mend(match: re.Match[str]) -> str:
    name = match["name"]
    if match[0][0] == "<" or name in _KNOWN:
        return match[0]
    if name is None:
        return match[0].replace("&", "&amp;", 1)
    if name[0] == "#":
        code = int(f"0{name[1:]}", 0) if name[1] in "xX" else int(name[1:])
        return f"&#{code};" if _allowed(code) else "\ufffd"
    character = html5.get(f"{name};")
    return f"&amp;{name};" if character is None else character.replace("&", "&amp;")


def _allowed(code: int) -> bool:
    return (
        code in (9, 10, 13)
        or 0x20 <= code < 0xD800
        or 0xE000 <= code < 0xFFFE
        or (0x10000 <= code < 0x110000)
    )


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace").translate(_NO_CONTROLS)


# Reading -----------------------------------------------------------------------------------------


def local_name(name: str) -> str:
    """The name without its prefix, in lower case."""
    return name.rpartition(":")[2].lower()


class RowReader(Generic[Row]):
    """Makes rows of the elements named in `rows`; derive from it and say what a row is.

    `done`: finished rows, for `read_rows` to take. `above`: the open elements above a row.
    `depth`: 1 in the row element itself, 2 in its children; 0 outside.
    """

    rows: frozenset[str] = frozenset()
    """Local names in lower case."""

    def __init__(self) -> None:
        self.done: list[Row] = []
        self.above: list[str] = []
        self.depth = 0
        self.ended = False

    def is_row(self, name: str) -> bool:
        """Whether an element outside of rows is one."""
        return local_name(name) in self.rows

    def opened(self, name: str, attributes: dict[str, str]) -> None:
        """A row begins."""

    def entered(self, name: str, attributes: dict[str, str]) -> None:
        """An element inside of a row begins; `depth` counts it already."""

    def text(self, text: str) -> None:
        """Character data, inside of a row or not."""

    def left(self, name: str) -> None:
        """An element inside of a row ends; `depth` still counts it."""

    def closed(self) -> None:
        """A row ends: put it into `done`."""

    def outside(self, name: str) -> None:
        """An element begins that is no row and stands in none."""

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if self.depth:
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise _too_deep()
            self.entered(name, attributes)
        elif self.is_row(name):
            self.depth = 1
            self.opened(name, attributes)
        else:
            self.above.append(name)
            if len(self.above) > MAX_DEPTH:
                raise _too_deep()
            self.outside(name)
            if self.ended:
                raise _EndedError

    def _end(self, name: str) -> None:
        if self.depth > 1:
            self.left(name)
        elif self.depth:
            self.closed()
        else:
            self.above.pop()
            return
        self.depth -= 1


class _EndedError(Exception):
    """A reader has seen enough."""


def _too_deep() -> ExtractionError:
    return ExtractionError("parse_limit", f"XML elements nested more than {MAX_DEPTH} deep")


def _refuse(*_: Any) -> Any:
    raise ExtractionError(
        "xml_entity",
        "the XML declares entities or attributes of its own, which is not read",
        hint="Feeds and sitemaps need none; this one may be an attack.",
    )


def _parser(reader: RowReader[Any]) -> expat.XMLParserType:
    """A parser of UTF-8 that feeds *reader*: names with their prefixes, declared or not."""
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = reader._start
    parser.EndElementHandler = reader._end
    parser.CharacterDataHandler = reader.text
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.EntityDeclHandler = _refuse
    parser.UnparsedEntityDeclHandler = _refuse
    parser.AttlistDeclHandler = _refuse  # a default value would be repeated at every element
    parser.ExternalEntityRefHandler = _refuse
    return parser


def read_rows(pieces: Iterable[str], reader: RowReader[Row], warnings: list[str]) -> Iterator[Row]:
    """The rows of an XML document, each when its piece has been read.

    A document that is damaged is read on at its next row, `MAX_RESTARTS` times; *warnings* says
    where it began. A reader that sets `ended` in `outside` ends the reading. Raises
    `ExtractionError`: `xml_entity`, `parse_limit` (nested too deep, a tag of megabytes).
    """
    feed = _Feed(reader)
    for data in _mended(pieces):
        while data and not reader.ended:
            data = feed.take(data)
            if reader.done:
                yield from reader.done
                reader.done.clear()
        if reader.ended or feed.restarts > MAX_RESTARTS:
            break
    else:
        feed.close()
    if reader.done:
        yield from reader.done
        reader.done.clear()
    warnings += feed.warnings()


class _Feed:
    """A parser, its successors after damage, and where it stands."""

    __slots__ = ("_parser", "_reader", "_row_tag", "_searching", "_sent", "first", "restarts")

    def __init__(self, reader: RowReader[Any]) -> None:
        self._reader = reader
        self._parser = _parser(reader)
        self._sent = 0  # bytes that this parser got
        self._row_tag: re.Pattern[bytes] | None = None
        self._searching = False
        self.first = ""
        self.restarts = 0

    def take(self, data: bytes) -> bytes:
        """Feed *data*; what is left to be fed again, after damage."""
        if self._searching:
            found = self._tag().search(data)
            if found is None:
                return b""
            data = data[found.start() :]
            self._searching = False
            self._parser = _parser(self._reader)
            above, self._reader.above = self._reader.above, []
            opening = "".join(f"<{name}>" for name in above).encode()
            self._parser.Parse(opening, False)
            self._sent = len(opening)
        try:
            self._parser.Parse(data, False)
        except expat.ExpatError as error:
            return self._damaged(error, data)
        except _EndedError:
            return b""
        except ExtractionError as error:  # without the frames of expat's C code
            raise error.with_traceback(None) from None
        self._sent += len(data)
        if self._sent - self._parser.CurrentByteIndex > MAX_TOKEN:
            raise ExtractionError("parse_limit", f"an XML tag of more than {MAX_TOKEN:,} bytes")
        return b""

    def _damaged(self, error: expat.ExpatError, data: bytes) -> bytes:
        self.restarts += 1
        if not self.first:
            self.first = f"line {error.lineno}: {expat.ErrorString(error.code)}"
        self._reader.depth = 0
        self._searching = True
        at = max(self._parser.ErrorByteIndex - self._sent, 0)
        return b"" if self.restarts > MAX_RESTARTS else data[at + 1 :]

    def _tag(self) -> re.Pattern[bytes]:
        if self._row_tag is None:
            names = b"|".join(re.escape(name).encode() for name in sorted(self._reader.rows))
            self._row_tag = re.compile(rb"<(?:[\w.-]+:)?(?:" + names + rb")[\s>]", re.IGNORECASE)
        return self._row_tag

    def close(self) -> None:
        if self._searching:
            return
        try:
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            if not self.first:
                self.first = f"line {error.lineno}: {expat.ErrorString(error.code)}"

    def warnings(self) -> list[str]:
        if not self.first:
            return []
        if self.restarts > MAX_RESTARTS:
            return [f"damaged in more than {MAX_RESTARTS} places ({self.first}): not read further"]
        return [f"damaged or cut short ({self.first}): read as far as it can be"]


# Elements as rows ------------------------------------------------------------------------------


class ElementReader(RowReader[dict[str, str]]):
    """Each row element as a dict: paths of local names below it, and their text.

    `price`, `shipping/price`; attributes as `@id` (the row's own) and `enclosure@url`; text of the
    row's own as `#text`. An element that comes again adds a line. Where two prefixes share a local
    name, the row's own comes first. `seen`: what elements there were outside of rows, a few.
    """

    def __init__(self, tag: str) -> None:
        super().__init__()
        self.tag = tag
        self.rows = frozenset({local_name(tag)})
        self.seen: dict[str, None] = {}
        self._whole = tag.lower() if ":" in tag else ""
        self._prefix = ""
        self._values: dict[str, tuple[str, list[str]]] = {}
        self._open: list[tuple[str, str, list[str], bool]] = []  # path, name, text, is a leaf

    def is_row(self, name: str) -> bool:
        return super().is_row(name) and (not self._whole or name.lower() == self._whole)

    def outside(self, name: str) -> None:
        if len(self.seen) < 10:
            self.seen[name] = None

    def opened(self, name: str, attributes: dict[str, str]) -> None:
        self._prefix = name.rpartition(":")[0]
        self._values = {}
        self._open = [("", name, [], True)]
        self._attributes("", name, attributes)

    def entered(self, name: str, attributes: dict[str, str]) -> None:
        above, parent, text, _ = self._open[-1]
        self._open[-1] = (above, parent, text, False)
        local = name.rpartition(":")[2]
        path = f"{above}/{local}" if above else local
        self._open.append((path, name, [], True))
        if attributes:
            self._attributes(path, name, attributes)

    def text(self, text: str) -> None:
        if self.depth:
            self._open[-1][2].append(text)

    def left(self, name: str) -> None:
        path, _, parts, leaf = self._open.pop()
        text = "".join(parts).strip()
        if text or leaf:
            self._put(path, name, text)

    def closed(self) -> None:
        _, name, parts, _ = self._open.pop()
        if text := "".join(parts).strip():
            self._put("#text", name, text)
        self.done.append({path: "\n".join(texts) for path, (_, texts) in self._values.items()})

    def _attributes(self, path: str, owner: str, attributes: dict[str, str]) -> None:
        for name, value in attributes.items():
            prefix, _, local = name.rpartition(":")
            if prefix != "xmlns" and name != "xmlns":
                self._put(f"{path}@{local}", owner, value)

    def _put(self, path: str, name: str, text: str) -> None:
        known = self._values.get(path)
        if known is None or (known[0] != name and name.rpartition(":")[0] == self._prefix):
            self._values[path] = (name, [text])
        elif known[0] == name:
            known[1].append(text)
