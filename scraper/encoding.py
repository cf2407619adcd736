"""Which encoding a body is in, and its text: by the WHATWG Encoding and HTML Standards.

A label from the web selects a row of the table below and nothing else: it never reaches Python's
codec registry, where words such as `hex`, `idna` or `utf-7` have meanings of their own. Invalid
bytes become U+FFFD, and no text that comes out of here holds a lone surrogate.
"""

from __future__ import annotations

import codecs
import re
from functools import cache, lru_cache
from typing import Any

__all__ = ["declared", "decode", "detect", "encode", "lookup"]

UTF_8 = "utf-8"
FALLBACK = "windows-1252"
PRESCAN = 1024
LATE = 64 * 1024  # a declaration further on still counts, when it is the only word on the matter

# Encoding Standard, section 4.2: the name, and its labels besides the name itself.
_LABELS = {
    "utf-8": "unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf8 x-unicode20utf8",
    "ibm866": "866 cp866 csibm866",
    "iso-8859-2": "csisolatin2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 l2 latin2",
    "iso-8859-3": "csisolatin3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 l3 latin3",
    "iso-8859-4": "csisolatin4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 l4 latin4",
    "iso-8859-5": "csisolatincyrillic cyrillic iso-ir-144 iso8859-5 iso88595 iso_8859-5"
    " iso_8859-5:1988",
    "iso-8859-6": "arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114 iso-8859-6-e"
    " iso-8859-6-i iso-ir-127 iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987",
    "iso-8859-7": "csisolatingreek ecma-118 elot_928 greek greek8 iso-ir-126 iso8859-7 iso88597"
    " iso_8859-7 iso_8859-7:1987 sun_eu_greek",
    "iso-8859-8": "csiso88598e csisolatinhebrew hebrew iso-8859-8-e iso-ir-138 iso8859-8 iso88598"
    " iso_8859-8 iso_8859-8:1988 visual",
    "iso-8859-8-i": "csiso88598i logical",
    "iso-8859-10": "csisolatin6 iso-ir-157 iso8859-10 iso885910 l6 latin6",
    "iso-8859-13": "iso8859-13 iso885913",
    "iso-8859-14": "iso8859-14 iso885914",
    "iso-8859-15": "csisolatin9 iso8859-15 iso885915 iso_8859-15 l9",
    "iso-8859-16": "",
    "koi8-r": "cskoi8r koi koi8 koi8_r",
    "koi8-u": "koi8-ru",
    "macintosh": "csmacintosh mac x-mac-roman",
    "windows-874": "dos-874 iso-8859-11 iso8859-11 iso885911 tis-620",
    "windows-1250": "cp1250 x-cp1250",
    "windows-1251": "cp1251 x-cp1251",
    "windows-1252": "ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100"
    " iso8859-1 iso88591 iso_8859-1 iso_8859-1:1987 l1 latin1 us-ascii x-cp1252",
    "windows-1253": "cp1253 x-cp1253",
    "windows-1254": "cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9"
    " iso_8859-9:1989 l5 latin5 x-cp1254",
    "windows-1255": "cp1255 x-cp1255",
    "windows-1256": "cp1256 x-cp1256",
    "windows-1257": "cp1257 x-cp1257",
    "windows-1258": "cp1258 x-cp1258",
    "x-mac-cyrillic": "x-mac-ukrainian",
    "gbk": "chinese csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 iso-ir-58 x-gbk",
    "gb18030": "",
    "big5": "big5-hkscs cn-big5 csbig5 x-x-big5",
    "euc-jp": "cseucpkdfmtjapanese x-euc-jp",
    "iso-2022-jp": "csiso2022jp",
    "shift_jis": "csshiftjis ms932 ms_kanji shift-jis sjis windows-31j x-sjis",
    "euc-kr": "cseuckr csksc56011987 iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601"
    " ksc_5601 windows-949",
    "replacement": "csiso2022kr hz-gb-2312 iso-2022-cn iso-2022-cn-ext iso-2022-kr",
    "utf-16be": "unicodefffe",
    "utf-16le": "csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16",
    "x-user-defined": "",
}
_NAMES = {label: name for name, labels in _LABELS.items() for label in (name, *labels.split())}

# The codec that decodes each; single-byte ones go through a table of their own, see `_table`.
_MULTIBYTE = {
    "utf-8": "utf-8",
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "big5": "big5hkscs",
    "euc-jp": "euc_jp",
    "iso-2022-jp": "iso2022_jp",
    "shift_jis": "cp932",
    "euc-kr": "cp949",
    "utf-16be": "utf-16-be",
    "utf-16le": "utf-16-le",
}
_SINGLE_BYTE = {
    "ibm866": "cp866",
    "iso-8859-8-i": "iso8859-8",
    "macintosh": "mac_roman",
    "windows-874": "cp874",
    "x-mac-cyrillic": "mac_cyrillic",
    "koi8-r": "koi8_r",
    "koi8-u": "koi8_u",
}

_BOMS = (
    (codecs.BOM_UTF8, UTF_8),
    (codecs.BOM_UTF16_BE, "utf-16be"),
    (codecs.BOM_UTF16_LE, "utf-16le"),
)
_MARKED = tuple(bom for bom, _ in _BOMS)


def lookup(label: str) -> str | None:
    """The encoding's name in lower case, or None for a word that is no label of the standard."""
    return _NAMES.get(label.strip("\t\n\f\r ").lower())


@lru_cache(maxsize=256)
def declared(content_type: str) -> str | None:
    """The encoding that a `Content-Type` header names, if it names one (RFC 9110, 8.3.1)."""
    match = _CHARSET_PARAMETER.search(content_type)
    return lookup(match[1].strip("\"'")) if match else None


_NO_MARKUP = re.compile(
    r"\s*(?:application/(?:[\w.-]+\+)?(?:x-)?(?:json|javascript)|text/(?:plain|css|csv|javascript))\b",
    re.IGNORECASE,
)
_CHARSET_PARAMETER = re.compile(r";\s*charset\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s;]+)", re.IGNORECASE)


def detect(body: bytes, content_type: str = "", default: str | None = None) -> str:
    """The name of the encoding of *body*: byte order mark, then header, then `<meta>`.

    When nobody says, UTF-8 if the whole body is valid UTF-8, else windows-1252; or *default*.
    What is labelled as no markup (JSON, plain text …) cannot hold a `<meta>` of its own.
    """
    if body.startswith(_MARKED):
        return next(name for bom, name in _BOMS if body.startswith(bom))
    said = declared(content_type) if content_type else None
    if said is None and not _NO_MARKUP.match(content_type):
        said = prescan(body)
    if said is not None:
        return said
    if default is not None:
        return default
    try:
        body.decode()
    except UnicodeDecodeError:
        return FALLBACK
    return UTF_8


def decode(body: bytes, name: str) -> str:
    """The text of *body*, without its byte order mark; *name* as `detect` and `lookup` give it."""
    for bom, marked in _BOMS:
        if marked == name and body.startswith(bom):
            body = body[len(bom) :]
    codec = _MULTIBYTE.get(name)
    if codec is not None:
        return body.decode(codec, "replace")
    if name == "replacement":
        return "\N{REPLACEMENT CHARACTER}" if body else ""
    return codecs.charmap_decode(body, "replace", _table(name))[0]


@cache
def _table(name: str) -> str:
    """256 characters. Bytes 80 to 9F that the code page leaves out are the C1 controls."""
    if name == "x-user-defined":
        return "".join(chr(byte if byte < 0x80 else 0xF700 + byte) for byte in range(256))
    codec = _SINGLE_BYTE.get(name) or name.replace("windows-", "cp")
    table = bytes(range(256)).decode(codec, "replace")
    return "".join(
        chr(byte) if character == "\N{REPLACEMENT CHARACTER}" and byte < 0xA0 else character
        for byte, character in enumerate(table)
    )


# Encoding: what forms send (Encoding Standard, "encode", with the error mode "html") --------------

# Where the codec that decodes says otherwise than the standard, which writes as Windows does.
_WINDOWS_JIS = str.maketrans("～∥－￠￡￢", "〜‖−¢£¬")


def encode(text: str, name: str) -> bytes:
    """*text* in the encoding *name*; what that cannot hold as `&#8364;`, as forms send it.

    UTF-16 and `replacement` are for reading only: what answers them is UTF-8 (Encoding Standard,
    "get an output encoding"). Lone surrogates become U+FFFD.
    """
    if text.isascii():
        return text.encode()
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if name in _ONLY_READ:
        return text.encode()
    codec = _MULTIBYTE.get(name)
    if codec is None:
        return codecs.charmap_encode(text, "xmlcharrefreplace", _reverse(name))[0]
    if name in ("euc-jp", "iso-2022-jp"):
        text = text.translate(_WINDOWS_JIS)
    if name in ("gbk", "big5", "euc-jp"):
        return b"".join(_encoded(character, name, codec) for character in text)
    return text.encode(codec, "xmlcharrefreplace")


_ONLY_READ = frozenset({UTF_8, "utf-16be", "utf-16le", "replacement"})


def _encoded(character: str, name: str, codec: str) -> bytes:
    """One character, by codecs that know more characters than the standard lets a form send."""
    if name == "gbk" and character == "€":
        return b"\x80"
    data = character.encode(codec, "xmlcharrefreplace")
    beyond = {
        "gbk": len(data) > 2,  # the four bytes of gb18030
        "big5": 0x80 < data[0] < 0xA1,  # the extensions of Hong Kong
        "euc-jp": data[0] == 0x8F,  # JIS X 0212
    }
    return f"&#{ord(character)};".encode() if beyond[name] else data


@cache
def _reverse(name: str) -> Any:
    return codecs.charmap_build(_table(name).replace("\N{REPLACEMENT CHARACTER}", "\ufffe"))


# The prescan of the HTML Standard (section 13.2.3.2) ---------------------------------------------

_SPACE = rb"\t\n\f\r "
_TOKEN = re.compile(
    rb"<!--(?P<comment>.*?-->|>|->|.*\Z)"
    rb"|<meta(?=[" + _SPACE + rb"/])(?P<meta>)"
    rb"|<(?P<tag>/?[a-z][^" + _SPACE + rb">]*)"
    rb"|<[!/?][^>]*",
    re.IGNORECASE | re.DOTALL,
)
_ATTRIBUTE = re.compile(
    rb"[" + _SPACE + rb"/]*(?P<name>[^" + _SPACE + rb"/>][^" + _SPACE + rb"/>=]*)"
    rb"(?:[" + _SPACE + rb"]*=[" + _SPACE + rb"]*(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'"
    rb"|(?P<bare>[^" + _SPACE + rb">\"'][^" + _SPACE + rb">]*)|(?P<cut>[\"'])))?",
)
_IN_CONTENT = re.compile(
    r"charset[\t\n\f\r ]*=[\t\n\f\r ]*(?:\"([^\"]*)\"|'([^']*)'|([^\"'\t\n\f\r ;][^\t\n\f\r ;]*))",
    re.IGNORECASE,
)
_USUAL = tuple(
    b"<meta charset=" + rest for rest in (b'"utf-8">', b'"utf-8"/>', b'"utf-8" />', b"utf-8>")
)
_XML = re.compile(
    rb"<\?xml[^>]*?encoding[\x00-\x20]*=[\x00-\x20]*[\"']([^\"'>\x00-\x20]+)[\"'][^>]*>"
)


def prescan(body: bytes) -> str | None:
    """What a `<meta>` (or an XML declaration) says: in the first kilobyte, else further on.

    The second look stands for "changing the encoding while parsing" (section 13.2.3.4).
    """
    head = body[:PRESCAN]
    return (
        _scan(head)
        or _xml_declaration(head)
        or (_scan(body[:LATE]) if len(body) > PRESCAN else None)
    )


def _scan(head: bytes) -> str | None:
    lower = head.lower()
    first = lower.find(b"charset")
    if first < 0:
        return None
    # What most pages say, and early: worth not walking through the tags before it.
    before = lower[: max(first - 6, 0)]
    if (
        lower.startswith(_USUAL, len(before))
        and before.endswith((b">", b"\n", b" "))
        and b"<!--" not in before
    ):
        return UTF_8
    at = 0
    while match := _TOKEN.search(head, at):
        at = match.end()
        if match["meta"] is None and match["tag"] is None:
            continue
        attributes, at = _attributes(head, at)
        if match["meta"] is not None and (name := _meta(attributes)):
            return name
    return None


def _attributes(head: bytes, at: int) -> tuple[dict[str, str], int]:
    """The attributes from *at* on, and where their tag ends; of equal names the first counts."""
    found: dict[str, str] = {}
    while match := _ATTRIBUTE.match(head, at):
        at = match.end()
        if match["cut"] or at == len(head):  # the bytes end inside a tag: it cannot be trusted
            return {}, len(head)
        value = match["double"] or match["single"] or match["bare"] or b""
        found.setdefault(match["name"].decode("latin-1").lower(), value.decode("latin-1"))
    return found, at


def _meta(attributes: dict[str, str]) -> str | None:
    label = attributes.get("charset")
    if label is None and attributes.get("http-equiv", "").lower() == "content-type":
        match = _IN_CONTENT.search(attributes.get("content", ""))
        label = next(filter(None, match.groups()), None) if match else None
    return None if label is None else _as_declared(lookup(label))


def _xml_declaration(head: bytes) -> str | None:
    if head.startswith((b"<\x00?\x00x\x00", b"\x00<\x00?\x00x")):
        return "utf-16le" if head[0] else "utf-16be"
    match = _XML.match(head)
    return _as_declared(lookup(match[1].decode("latin-1"))) if match else None


def _as_declared(name: str | None) -> str | None:
    # A declaration that could be read as ASCII cannot be in UTF-16 (HTML Standard, same section).
    if name in ("utf-16be", "utf-16le"):
        return UTF_8
    return FALLBACK if name == "x-user-defined" else name
