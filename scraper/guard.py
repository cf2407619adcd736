"""What is not worth parsing: pages that cost too much, and bodies that are no markup at all."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable

from scraper.errors import ExtractionError
from scraper.urls import redact

__all__ = ["SMALL", "doubtful", "is_xml", "no_html", "not_html", "suspicion", "too_costly"]

# What costs too much ---------------------------------------------------------------------------

# Lexbor's time grows with (open elements × tags), (attributes of a tag)², (options of a select)²,
# and its memory with (formatting elements left open × tags): `<i a><p><i b><p>` … opens all that
# went before again in every paragraph. Within these bounds a page takes about a second and half a
# gigabyte at worst; real pages stay below them by an order of magnitude.
MAX_TAGS = 2_000_000
MAX_DEPTH = 1_000  # matching `a b c` takes depth² per element; browsers flatten from 512 on
MAX_NESTING = 200_000_000
MAX_OPTIONS = 10_000
MAX_ATTRIBUTES = 10_000
MAX_FORMATTING = 1_000_000

_SLASH = 0x2F
SMALL = 8 * 1024
"""Bytes: what is smaller cannot do harm."""

_BLOCK, _WINDOW = 16 * 1024, 96  # bytes: of each block, one window is looked at
_LEAST = 3  # windows
_NOISE = 8  # windows cut elements apart: sums over n of them stray by a few times √n
_MANY = 50_000  # tags: with more, two dozen formatting elements left open take half a gigabyte
_DENSE = 10  # bytes a tag, on average; ordinary pages have some 25
# Formatting elements matter by the number of tags; of those that are opened in a row, a sample of
# words shows some. Tags from which on, every how many-th word of 8 bytes, and how many in a row.
_ROWS = ((20_000, 24, 13), (10_000, 40, 8), (6_000, 64, 6))
_PROSE_BLOCK, _PROSE_WINDOW, _PROSE_TAGS = 24 * 1024, 512, 4
_SEPARATORS = b" \t\r\n\f/\"'"  # what can stand between two attributes

_TAG = re.compile(rb"<(/?[a-z][^\s/>]*+)(?=[\s/>])", re.IGNORECASE)
# Elements that never stay open, or that the next of their kind closes; their end tags, too.
_FLAT = frozenset(
    b"area base br col embed hr img input link meta param source track wbr p li dt dd optgroup tr"
    b" td th thead tbody tfoot html head body form a /p /li /dt /dd /optgroup /option /tr /td /th"
    b" /thead /tbody /tfoot /html /head /body /form /a".split()
)
_FORMATTING = frozenset(b"b big code em font i nobr s small strike strong tt u".split())
# Its first letter decides for most tags: that is quick.
_FORMATTING_START = re.compile(
    rb"<([bisucefnt](?:|ig|ode|m|ont|obr|mall|trike|trong|t))[\s/>]", re.IGNORECASE
)
_FORMATTING_BEGUN = re.compile(
    rb"<(/?[bisucefntBISUCEFNT])(?:[\s/>]|ig|od|m|on|ob|ma|tr|t|IG|OD|M|ON|OB|MA|TR|T)"
)
# Equal ones are opened again three times at most; those without attributes are a dozen in all.
_FORMATTING_KIND = re.compile(_FORMATTING_START.pattern[:-6] + rb"[\s/][^>]*", re.IGNORECASE)
# Drawings are made of elements that close themselves, as those of HTML cannot.
_CLOSED_SHAPE = re.compile(rb"<(?:path|circle|rect|line|use|poly\w+|ellipse|stop|image)\b[^<>]*/>")
# What may hold what only looks like a tag; then start tags, with their attributes.
_MARKUP = re.compile(
    rb"<!--[\s\S]*?(?:-->|\Z)"
    rb"|<(script|style|textarea|title|xmp|iframe|noembed|noframes)\b[\s\S]*?(?:</\1|\Z)"
    rb"|<[a-z][^\s/>]*+((?:[^>\"'=]++|=\s*+(?:\"[^\"]*+\"?+|'[^']*+'?+)?+|[\"'])*+)",
    re.IGNORECASE,
)
_ATTRIBUTE = re.compile(rb"[^\s/>=][^\s/>=]*+(?:\s*+=\s*+(?:\"[^\"]*+\"|'[^']*+'|[^\s>]*+))?+")


def doubtful(markup: bytes) -> bool:
    """Whether *markup* deserves a closer look: by samples, for a few hundredths of its parsing.

    Sure of the shapes that make up a page, or a good part of it. What hides by chance in a large
    page, or was made by somebody who knows the rules, may pass; what is doubtful may be harmless.
    """
    size = len(markup)
    if size < SMALL:
        return False
    length = min(_BLOCK, size // _LEAST)
    draw, span = random.random, length - _WINDOW
    # At random places, so that nobody can write around them.
    starts = [block + int(draw() * span) for block in range(0, size, length)]
    names = _TAG.findall(b"\n".join([markup[at : at + _WINDOW] for at in starts]))
    counts = _Counts()
    counts.take(names)
    scale = size / (len(starts) * _WINDOW)
    noise = _NOISE * len(starts) ** 0.5
    depth, tags = counts.deepest, round(len(names) * scale)
    if depth > noise and (depth * scale > MAX_DEPTH / 2 or depth * scale * tags > MAX_NESTING / 2):
        return True
    if tags > _MANY or counts.options * scale > MAX_OPTIONS / 2:
        return True
    if counts.formatting > noise / 2 or _rows_of_formatting(markup, tags):
        return _formatting(markup) is not None
    if size < 4 * MAX_ATTRIBUTES or _separators_without_tags(markup) <= MAX_ATTRIBUTES / 2:
        return False
    return _attributes(markup) is not None


def suspicion(markup: bytes) -> str | None:
    """The shape for which parsing *markup* could take quadratic time or memory; None for none.

    Counts instead of tokenising: linear, and made only of what is `doubtful`. They stop accidents
    and the known shapes. A page made to deceive them needs a probe: a process with limits that
    parses it first, after which `Document(checked=True)` is safe.
    """
    if len(markup) < SMALL or not doubtful(markup):
        return None
    if (tags := markup.count(b"<")) > MAX_TAGS:
        return f"{tags} tags"
    counts = _Counts()
    counts.take(_TAG.findall(_CLOSED_SHAPE.sub(b"", markup) if b"<svg" in markup else markup))
    depth, options = counts.deepest, counts.options
    if depth > MAX_DEPTH or depth * tags > MAX_NESTING:
        return f"elements nested {depth} deep"
    if options > MAX_OPTIONS:
        return f"{options} options"
    return _formatting(markup) or _attributes(markup)


def too_costly(why: str) -> ExtractionError:
    """The error of a page that is not parsed, and why."""
    return ExtractionError(
        "parse_limit",
        f"the page is too costly to parse: {why}",
        hint="Read response.text with a regular expression if you trust the page.",
    )


class _Counts:
    """Elements that are open while tags go by.

    Each name is counted for itself: no end tag of another, and none without a start, makes a page
    look flatter than it is.
    """

    __slots__ = ("_open", "deepest", "formatting", "options")

    def __init__(self) -> None:
        self._open: dict[bytes, int] = {}
        self.deepest = self.formatting = self.options = 0

    def take(self, names: Iterable[bytes]) -> None:
        open_ = self._open
        depth = formatting = 0
        for name in names:
            if name in _FLAT:
                continue
            name = name.lower()
            if name[0] == _SLASH:
                name = name[1:]
                if before := open_.get(name):
                    open_[name] = before - 1
                    depth -= 1
                    if name in _FORMATTING:
                        formatting -= 1
            elif name == b"option":
                self.options += 1
            elif name not in _FLAT:  # in capitals
                open_[name] = open_.get(name, 0) + 1
                depth += 1
                if depth > self.deepest:
                    self.deepest = depth
                if name in _FORMATTING:
                    formatting += 1
        self.formatting = formatting


def _rows_of_formatting(markup: bytes, tags: int) -> bool:
    """Whether formatting elements are opened in a row, none closed, so many that it could matter.

    `<b a1><b a2>…` fills some kilobytes with what makes gigabytes of a page: only a dense sample
    finds that. It is made of words, and of their beginnings.
    """
    for least, stride, most in _ROWS:
        if tags > least:
            if tags * _DENSE > len(markup):
                return True
            words = memoryview(markup)[: len(markup) // 8 * 8].cast("Q")
            return all(_row(words, stride) >= most for _ in range(4))  # not once, by chance
    return False


def _row(words: memoryview, stride: int) -> int:
    """The longest row of beginnings; an end makes up for three, since words show fewer of them."""
    first = int(random.random() * stride)  # noqa: S311 - no secret
    row = longest = 0
    for name in _FORMATTING_BEGUN.findall(words[first::stride].tobytes()):
        if name[0] == _SLASH:
            row = max(row - 3, 0)
        else:
            row += 1
            longest = max(longest, row)
    return longest


def _formatting(markup: bytes) -> str | None:
    """Formatting elements that are left open, if by the number of tags they are too many."""
    tags = markup.count(b"<")
    starts = Counter(map(bytes.lower, _FORMATTING_START.findall(markup)))
    unanswered = sum(max(n - markup.count(b"</%s>" % name), 0) for name, n in starts.items())
    if unanswered * tags <= MAX_FORMATTING:
        return None
    kinds = len({match[0] for match in _FORMATTING_KIND.finditer(markup)})
    if (kinds + 3 * len(_FORMATTING)) * tags <= MAX_FORMATTING:
        return None
    counts = _Counts()
    counts.take(name for name in _TAG.findall(markup) if name.lower().lstrip(b"/") in _FORMATTING)
    open_ = counts.deepest
    return f"{open_} formatting elements left open" if open_ * tags > MAX_FORMATTING else None


def _separators_without_tags(markup: bytes) -> int:
    """What could separate attributes, where there are hardly any tags: an estimate by samples."""
    found = 0
    for block in range(0, len(markup), _PROSE_BLOCK):
        at = block + int(random.random() * (_PROSE_BLOCK - _PROSE_WINDOW))  # noqa: S311
        if markup.count(b"<", at, at + _PROSE_WINDOW) < _PROSE_TAGS:
            window = markup[at : at + _PROSE_WINDOW]
            found += len(window) - len(window.translate(None, _SEPARATORS))
    return found * _PROSE_BLOCK // _PROSE_WINDOW


def _attributes(markup: bytes) -> str | None:
    """A tag with too many attributes."""
    for tag in _MARKUP.finditer(markup):
        start, end = tag.span(2)
        if end - start > 2 * MAX_ATTRIBUTES:  # bytes: fewer hold no more of them
            count = sum(1 for _ in _ATTRIBUTE.finditer(markup, start, end))
            if count > MAX_ATTRIBUTES:
                return f"{count} attributes on one tag"
    return None


# What is not HTML -------------------------------------------------------------------------------

_MARKUP_TYPES = re.compile(
    r"\s*(?:text/[\w.+-]+|[\w.+-]+/(?:[\w.-]+\+)?(?:xml|html))\s*(?:;|$)", re.IGNORECASE
)
_UNKNOWN_TYPES = re.compile(
    r"\s*(?:$|;|\*/\*|unknown/|application/(?:octet-stream|unknown)|binary/)", re.IGNORECASE
)
# Signatures of the MIME Sniffing Standard, section 6, and of PDF and compressed files.
_SIGNATURES = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"RIFF", b"\x00\x00\x01\x00"),
    *(b"%PDF-", b"PK\x03\x04", b"\x1f\x8b", b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c", b"\x7fELF"),
    *(b"OggS", b"ID3", b"\x1aE\xdf\xa3", b"wOFF", b"wOF2", b"MThd\x00"),
)
BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")  # "binary data byte", same standard


def no_html(body: bytes, content_type: str) -> str:
    """What a body is that is clearly no markup: JSON, images, archives; "" for all others.

    A body that begins with `<` is taken for markup, whatever its label says.
    """
    if body.startswith(b"<"):
        return ""
    head = body[:1024]
    if not head or head.lstrip(b"\xef\xbb\xbf \t\r\n\f")[:1] == b"<":
        return ""
    if head.startswith(_SIGNATURES):
        return f"begins with {head[:8]!r}"
    if _MARKUP_TYPES.match(content_type):
        return ""
    if not _UNKNOWN_TYPES.match(content_type):
        return content_type
    if BINARY.search(head) and not head.startswith((b"\xfe\xff", b"\xff\xfe")):
        return "binary data"
    return ""


def not_html(url: str, what: str) -> ExtractionError:
    """The error of a body that is *what*, and no page."""
    return ExtractionError(
        "not_html",
        f"{redact(url)} is not HTML ({what})",
        hint="Use response.json(), response.text or response.body; response.is_html tells.",
    )


# What is XML, and no page -----------------------------------------------------------------------

_XML_TYPES = re.compile(
    r"\s*(?:text|application|[\w.-]+)/(?:[\w.-]+\+)?xml\s*(?:;|$)", re.IGNORECASE
)
_PAGE = re.compile(
    r"(?:[\s\ufeff]|<\?.*?\?>|<!--.*?-->)*+<(?:!DOCTYPE\s+)?html(?![\w:.-])",
    re.DOTALL | re.IGNORECASE,
)
_XML_DECLARATION = re.compile(r"[\s\ufeff]*<\?xml\s", re.IGNORECASE)


def is_xml(head: str, content_type: str) -> bool:
    """Whether a body is XML of its own, and not a page, which XHTML is: by its beginning *head*.

    It must be labelled as XML or begin with `<?xml`, and neither its doctype nor its root be html.
    """
    if not (_XML_TYPES.match(content_type) or _XML_DECLARATION.match(head)):
        return False
    return "<" in head and "xhtml" not in content_type.lower() and _PAGE.match(head) is None
