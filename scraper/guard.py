"""What is not worth parsing: pages that cost too much, and bodies that are no markup at all."""

from __future__ import annotations

import re
from itertools import accumulate

from scraper.errors import ExtractionError

__all__ = ["is_xml", "require_html", "suspicion"]

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

_SMALL = 8 * 1024  # bytes: what is smaller cannot do harm
_FEW = 2_000  # tags: fewer can do little but through attributes
_MANY = 20_000  # tags: more are always worth a look at their names
_STEP = 4 * 1024  # bytes: how closely unanswered start tags are counted
_STRETCH = 16 * 1024  # bytes: fewer hold no tag with too many attributes
_FORMATTING = rb"<(?=[bisuetcfBISUETCF])(?:[bisu]|big|code|em|font|small|strike|strong|tt)"
_FORMATTING_START = re.compile(_FORMATTING + rb"[\s/>]", re.IGNORECASE)
_FORMATTING_END = re.compile(_FORMATTING.replace(b"<", b"</", 1) + rb"[\s/>]", re.IGNORECASE)
# Equal ones are opened again three times at most; those without attributes are a dozen in all.
_FORMATTING_KIND = re.compile(_FORMATTING + rb"[\s/][^>]*", re.IGNORECASE)
_TAG = re.compile(rb"</?[a-z][^\s/>]*")
_ATTRIBUTE = re.compile(rb"[^\s/>=][^\s/>=]*+(?:\s*+=\s*+(?:\"[^\"]*+\"|'[^']*+'|[^\s>]*+))?+")
# Elements that never stay open, or that the next of their kind closes.
_FLAT = frozenset(
    b"area base br col embed hr img input link meta param source track wbr p li dt dd option"
    b" optgroup tr td th thead tbody tfoot html head body form a".split()
)


def suspicion(markup: bytes) -> str | None:
    """The shape for which parsing *markup* could take quadratic time or memory; None for none.

    Cheap, linear counts instead of tokenising: it stops accidents and the known shapes. A page
    made to deceive it needs a probe: a process with limits that parses it first, after which
    `Document(checked=True)` is safe.
    """
    if len(markup) < _SMALL:
        return None
    tags = markup.count(b"<")
    if tags > MAX_TAGS:
        return f"{tags} tags"
    if tags > _FEW and (shape := _open_elements(markup, tags)):
        return shape
    if tags > MAX_OPTIONS and (options := markup.lower().count(b"<option")) > MAX_OPTIONS:
        return f"{options} options"
    if len(markup) > _STRETCH and (count := _most_attributes(markup)) > MAX_ATTRIBUTES:
        return f"{count} attributes on one tag"
    return None


def _open_elements(markup: bytes, tags: int) -> str | None:
    """Whether so many start tags stand unanswered somewhere that it is worth a closer look."""
    open_ = most = 0
    for at in range(0, len(markup), _STEP):
        starts = markup.count(b"<", at, at + _STEP)
        ends = markup.count(b"</", at, at + _STEP)
        most = max(most, open_ + starts - ends)
        open_ = max(open_ + starts - 2 * ends, 0)
    if most * tags > MAX_FORMATTING and (shape := _formatting(markup, tags)):
        return shape
    return _nesting(markup, tags) if most > MAX_DEPTH or tags > _MANY else None


def _formatting(markup: bytes, tags: int) -> str | None:
    kinds = len(set(_FORMATTING_KIND.findall(markup)))
    if kinds * tags <= MAX_FORMATTING:
        return None
    open_ = len(_FORMATTING_START.findall(markup)) - len(_FORMATTING_END.findall(markup))
    return f"{open_} formatting elements left open" if open_ * tags > MAX_FORMATTING else None


def _nesting(markup: bytes, tags: int) -> str | None:
    names = _TAG.findall(markup.lower())
    starts = {name for name in names if name[1] != ord("/")}
    steps = dict.fromkeys(set(names), 0)
    for name in starts:
        if name[1:] not in _FLAT:
            steps[name] = 1
            steps[b"</" + name[1:]] = -1  # an end tag of what never started stays at nought
    depth = max(accumulate(map(steps.__getitem__, names)), default=0)
    if depth > MAX_DEPTH or depth * tags > MAX_NESTING:
        return f"elements nested {depth} deep"
    return None


def _most_attributes(markup: bytes) -> int:
    """The attributes of the largest tag that covers a stretch without any `<` or `>`; else 0."""
    most = 0
    for at in range(_STRETCH, len(markup), _STRETCH):
        end = at + _STRETCH
        if markup.find(b">", at, end) >= 0 or markup.find(b"<", at, end) >= 0:
            continue
        start = markup.rfind(b"<", 0, at)
        if start > markup.rfind(b">", 0, at):
            close = markup.find(b">", end)
            tag = markup[start : close if close >= 0 else len(markup)]
            most = max(most, sum(1 for _ in _ATTRIBUTE.finditer(tag)))
            if most > MAX_ATTRIBUTES:
                break
    return most


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


def require_html(body: bytes, content_type: str, url: str) -> None:
    """Raises `ExtractionError("not_html")` for what is clearly no markup: JSON, images, archives.

    A body that begins with `<` is taken for markup, whatever its label says.
    """
    head = body[:1024]
    if not head or head.lstrip(b"\xef\xbb\xbf \t\r\n\f")[:1] == b"<":
        return
    if head.startswith(_SIGNATURES):
        what = f"begins with {head[:8]!r}"
    elif _MARKUP_TYPES.match(content_type):
        return
    elif not _UNKNOWN_TYPES.match(content_type):
        what = content_type
    elif BINARY.search(head) and not head.startswith((b"\xfe\xff", b"\xff\xfe")):
        what = "binary data"
    else:
        return
    raise ExtractionError(
        "not_html",
        f"{url} is not HTML ({what})",
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
