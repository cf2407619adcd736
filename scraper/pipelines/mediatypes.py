"""What kind of file some bytes are: the type, the folder and the ending that they get.

Servers are often wrong about types, and bytes seldom are: what starts like a PNG is one. So magic
numbers (the WHATWG's MIME Sniffing Standard, section 6, and a few more) beat the `Content-Type`,
which decides only where bytes do not tell: among the formats that are all ZIP, or all text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

__all__ = [
    "FOLDERS",
    "HEAD",
    "essence",
    "extension",
    "folder",
    "is_pattern",
    "matches",
    "suggested_name",
    "type_of",
]

HEAD = 1024
"""Bytes from a file's beginning that tell its type."""

FOLDERS = ("images", "documents", "audio", "video", "archives", "other")

UNKNOWN = "application/octet-stream"

_WORD = r"[a-z0-9!#$&^_.+-]{1,100}"  # RFC 6838, section 4.2
_ESSENCE = re.compile(rf"{_WORD}/{_WORD}")
_PATTERN = re.compile(rf"(\*|{_WORD})/(\*|{_WORD})")
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")  # MIME Sniffing, section 3
_SVG = re.compile(rb"(?is)\s*(?:<(?:\?xml|!--|!doctype\s+svg).{0,900}?)?<svg[\s>]")
_EXTENDED = re.compile(r"(?is)(?:^|;)\s*filename\*\s*=\s*(utf-8|iso-8859-1)'[^']*'([^;]*)")
_QUOTED = re.compile(r'(?is)(?:^|;)\s*filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))')
_HTML = re.compile(  # atomic: comments upon comments must not be tried in every combination
    rb"(?is)\s*(?>(?:<!--.{0,900}?-->\s*)*)"
    rb"<(?:!doctype\s+html|html|head|body|script|iframe|h1|div|font|table|title|style|br|p)[\s>/]"
)

_MAGIC: Sequence[tuple[int, bytes, str]] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBPVP", "image/webp"),
    (6, b"\0\0\0\0", "image/bmp"),
    (0, b"\x00\x00\x01\x00", "image/vnd.microsoft.icon"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
    (0, b"\xff\x0a", "image/jxl"),
    (0, b"8BPS", "image/vnd.adobe.photoshop"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"%!PS-Adobe-", "application/postscript"),
    (0, b"{\\rtf", "application/rtf"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"PK\x05\x06", "application/zip"),
    (0, b"\x1f\x8b\x08", "application/gzip"),
    (4, b"1AY&SY", "application/x-bzip2"),
    (0, b"\xfd7zXZ\x00", "application/x-xz"),
    (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"Rar!\x1a\x07", "application/vnd.rar"),
    (257, b"ustar", "application/x-tar"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"MThd\x00\x00\x00\x06", "audio/midi"),
    (8, b"WAVE", "audio/wav"),
    (0, b"OggS\x00", "application/ogg"),
    (8, b"AVI ", "video/x-msvideo"),
    (0, b"\x1aE\xdf\xa3", "video/x-matroska"),
    (0, b"FLV\x01", "video/x-flv"),
    (0, b"\x00\x00\x01\xba", "video/mpeg"),
    (0, b"wOFF", "font/woff"),
    (0, b"wOF2", "font/woff2"),
    (0, b"\x00asm", "application/wasm"),
    (0, b"\x7fELF", "application/x-elf"),
)

_STARTS = MappingProxyType({
    "image/bmp": b"BM",
    "image/webp": b"RIFF",
    "audio/wav": b"RIFF",
    "video/x-msvideo": b"RIFF",
    "application/x-bzip2": b"BZh",
})
"""What must stand at the very beginning besides."""

_BRANDS = MappingProxyType({
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
})

_ALIASES = MappingProxyType({
    "application/x-gzip": "application/gzip",
    "application/x-pdf": "application/pdf",
    "application/x-rar-compressed": "application/vnd.rar",
    "application/x-zip-compressed": "application/zip",
    "audio/mp3": "audio/mpeg",
    "audio/x-flac": "audio/flac",
    "audio/x-m4a": "audio/mp4",
    "audio/x-wav": "audio/wav",
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-icon": "image/vnd.microsoft.icon",
    "text/xml": "application/xml",
})
"""Other names for the same thing."""

_SAYS_LITTLE = MappingProxyType({
    "application/zip": ("application/",),
    "application/gzip": ("application/", "image/svg+xml"),
    "application/x-ole-storage": ("application/",),
    "application/ogg": ("audio/", "video/"),
    "video/mp4": ("audio/", "video/"),
    "video/x-matroska": ("audio/", "video/"),
    "image/tiff": ("image/",),
})
"""Formats that hold others: with what beginning a declared type is believed to be nearer."""

_GENERIC = {
    UNKNOWN,
    "application/zip",
    "application/gzip",
    "application/x-ole-storage",
    "application/binary",
    "binary/octet-stream",
    "text/plain",
}
"""Types that say little, so that the ending in the URL says more."""

_ENDINGS = MappingProxyType({
    "application/epub+zip": "epub",
    "application/gzip": "gz",
    "application/java-archive": "jar",
    "application/json": "json",
    "application/ld+json": "json",
    "application/msword": "doc",
    "application/ogg": "ogg",
    "application/pdf": "pdf",
    "application/postscript": "ps",
    "application/rtf": "rtf",
    "application/vnd.android.package-archive": "apk",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.oasis.opendocument.presentation": "odp",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.rar": "rar",
    "application/wasm": "wasm",
    "application/x-7z-compressed": "7z",
    "application/x-bzip2": "bz2",
    "application/x-mobipocket-ebook": "mobi",
    "application/x-tar": "tar",
    "application/x-xz": "xz",
    "application/xhtml+xml": "xhtml",
    "application/xml": "xml",
    "application/zip": "zip",
    "application/zstd": "zst",
    "audio/aac": "aac",
    "audio/flac": "flac",
    "audio/midi": "mid",
    "audio/mp4": "m4a",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/opus": "opus",
    "audio/wav": "wav",
    "audio/webm": "weba",
    "font/otf": "otf",
    "font/ttf": "ttf",
    "font/woff": "woff",
    "font/woff2": "woff2",
    "image/apng": "png",
    "image/avif": "avif",
    "image/bmp": "bmp",
    "image/gif": "gif",
    "image/heic": "heic",
    "image/heif": "heif",
    "image/jpeg": "jpg",
    "image/jxl": "jxl",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/tiff": "tif",
    "image/vnd.adobe.photoshop": "psd",
    "image/vnd.microsoft.icon": "ico",
    "image/webp": "webp",
    "text/calendar": "ics",
    "text/css": "css",
    "text/csv": "csv",
    "text/html": "html",
    "text/javascript": "js",
    "text/markdown": "md",
    "text/plain": "txt",
    "text/tab-separated-values": "tsv",
    "text/vcard": "vcf",
    "video/mp2t": "ts",
    "video/mp4": "mp4",
    "video/mpeg": "mpg",
    "video/ogg": "ogv",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/x-flv": "flv",
    "video/x-matroska": "mkv",
    "video/x-msvideo": "avi",
})

_ARCHIVES = {"zip", "gz", "bz2", "xz", "zst", "7z", "rar", "tar", "jar", "apk"}
_KNOWN = frozenset(_ENDINGS.values()) | {
    "azw3", "bin", "dat", "db", "deb", "dmg", "dwg", "dxf", "eps", "exe", "gpx", "iso", "kml",
    "kmz", "log", "msi", "obj", "parquet", "rpm", "sqlite", "srt", "step", "stl", "tex", "vtt",
}  # fmt: skip
"""Endings that a URL may decide: none that a web server would run."""

_DOCUMENTS = {
    "pdf", "ps", "rtf", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "odt", "ods", "odp", "epub",
    "mobi", "json", "xml", "xhtml",
}  # fmt: skip


def essence(content_type: str) -> str:
    """`type/subtype` of a `Content-Type` field, in small letters; "" when it has none."""
    name = content_type.partition(";")[0].strip().lower()
    return name if _ESSENCE.fullmatch(name) else ""


def matches(kind: str, patterns: Sequence[str]) -> bool:
    """Whether the type is one of *patterns*: `image/png`, `image/*`, `*/*`."""
    major = kind.partition("/")[0]
    return any(pattern in (kind, f"{major}/*", "*/*") for pattern in patterns)


def is_pattern(text: str) -> bool:
    """Whether `matches` can do anything with it."""
    found = _PATTERN.fullmatch(text)
    return found is not None and (found[1] != "*" or found[2] == "*")


def type_of(content_type: str, head: bytes) -> str:
    """The type of a file that begins with *head* and was declared as *content_type*."""
    declared, found = essence(content_type), _sniffed(head)
    declared = _ALIASES.get(declared, declared)
    if not found:
        if declared and declared != UNKNOWN:
            return declared
        return UNKNOWN if _BINARY.search(head) or not head else "text/plain"
    nearer = _SAYS_LITTLE.get(found)
    if nearer is not None and declared not in _GENERIC and declared.startswith(nearer):
        return declared
    return found


def _sniffed(head: bytes) -> str:
    for offset, magic, kind in _MAGIC:
        if head.startswith(magic, offset) and head.startswith(_STARTS.get(kind, b"")):
            return "video/webm" if kind == "video/x-matroska" and b"webm" in head[:64] else kind
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video/mp4")
    if head[:1] == b"\xff" and len(head) > 3 and head[1] & 0xE6 == 0xE2:  # MPEG audio, layer 3
        return "audio/mpeg"
    text = head.removeprefix(b"\xef\xbb\xbf")
    if _HTML.match(text):
        return "text/html"
    if text.lstrip()[:1] == b"<" and _SVG.match(text):
        return "image/svg+xml"
    return ""


def folder(kind: str, ending: str) -> str:
    """Which of `FOLDERS` a file of that type, with that ending, belongs to."""
    major = kind.partition("/")[0]
    if major in ("audio", "video"):
        return major
    if major == "image":
        return "images"
    if major == "text" or ending in _DOCUMENTS or kind.endswith(("+json", "+xml")):
        return "documents"
    return "archives" if ending in _ARCHIVES else "other"


def extension(kind: str, url: str) -> str:
    """The ending for a file of that type, without its dot: one of a known set.

    What the type does not say, the path of *url* may.
    """
    named = _ENDINGS.get(kind, "")
    if named and kind not in _GENERIC:
        return named
    ending = PurePosixPath(_path(url)).suffix[1:].lower()
    return ending if ending in _KNOWN else named or "bin"


def suggested_name(url: str, disposition: str = "") -> str:
    """What the file is called where it came from, without its ending: text from the web, unsafe.

    *disposition*: the answer's `Content-Disposition` (RFC 6266); else the end of the URL's path.
    """
    name = _disposed(disposition[:4096]) or unquote(PurePosixPath(_path(url)).name)
    return PurePosixPath(name.replace("\\", "/")).stem


def _disposed(field: str) -> str:
    """The file name in a `Content-Disposition`; "" when it has none."""
    if found := _EXTENDED.search(field):
        return unquote(found[2], encoding=found[1], errors="replace").strip()
    if found := _QUOTED.search(field):
        name = re.sub(r"\\(.)", r"\1", found[1]) if found[1] is not None else found[2].strip()
        try:
            return name.encode("latin-1").decode()  # many servers send UTF-8, and do not say so
        except UnicodeError:
            return name
    return ""


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:  # a bracket in the wrong place
        return ""
