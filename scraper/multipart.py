"""Files and fields as one body: multipart/form-data (RFC 7578), byte for byte as browsers write it.

The boundary is made of the content, so that the same upload has the same fingerprint each time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from mimetypes import MimeTypes
from pathlib import Path
from typing import IO, NamedTuple

from scraper.encoding import UTF_8, encode
from scraper.errors import UsageError

__all__ = ["MAX_BODY", "File", "FileValue", "Files", "encode_multipart", "files_of", "newlines"]

Content = bytes | str | os.PathLike[str] | IO[bytes]
FileValue = Content | tuple[str, Content] | tuple[str, Content, str]
"""What to upload: bytes; a path (a string is one); an open file; or one of them after the file
name to send, with its content type behind it or not."""

Files = Mapping[str, FileValue | Sequence[FileValue]] | Sequence[tuple[str, FileValue]]
"""Files by field: one or a list each; or pairs, in the order in which they are sent."""

MAX_BODY = 16 * 1024 * 1024
"""Bytes: what is yielded lies in the ledger until it is done, and in memory while it is sent."""

DEFAULT_TYPE = "application/octet-stream"


class File(NamedTuple):
    """A file as it is sent. Both names are empty where none was chosen."""

    filename: str = ""
    content: bytes = b""
    content_type: str = DEFAULT_TYPE


def files_of(files: Files) -> list[tuple[str, File]]:
    """The files of *files*, read. Raises `UsageError` for what cannot be read, or is no file."""
    pairs = files.items() if isinstance(files, Mapping) else files
    found: list[tuple[str, File]] = []
    for field, value in pairs:
        several = value if isinstance(value, list) else [value]
        found += ((field, _file(field, one)) for one in several)
    return found


def _file(field: str, value: object) -> File:
    match value:
        case (str() as filename, content, str() as content_type):
            return File(filename, _content(field, content)[1], content_type)
        case (str() as filename, content):
            return File(filename, _content(field, content)[1], _guess(filename))
        case tuple():
            raise UsageError(
                f"files: {field}: {value!r:.80}",
                hint="Write (file name, content) or (file name, content, content type).",
            )
    filename, data = _content(field, value)
    return File(filename, data, _guess(filename))


def _content(field: str, content: object) -> tuple[str, bytes]:
    """A file name, which is the field's where there is none, and the bytes."""
    if isinstance(content, bytes | bytearray):
        return field, bytes(content)
    if isinstance(content, str | os.PathLike):
        return _read(field, Path(content))
    if (read := getattr(content, "read", None)) is not None:
        data = read()
        if isinstance(data, bytes):
            name = getattr(content, "name", None)
            return (Path(name).name if isinstance(name, str) else field), data
    raise UsageError(
        f"files: {field}: {type(content).__name__} is no file",
        hint="Give bytes, a path, or a file opened in binary mode.",
    )


def _read(field: str, path: Path) -> tuple[str, bytes]:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise UsageError(f"files: {field}: {path} is not a regular file")
        require_size(size, f"files: {field}: {path}")
        return path.name, path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"files: {field}: cannot read {str(path)!r:.200}: {reason}",
            hint="A string is a path; what is the content itself must be bytes.",
        ) from None


def require_size(size: int, what: str) -> None:
    """Raises `UsageError` when *size* is more than a request may carry."""
    if size > MAX_BODY:
        raise UsageError(
            f"{what}: {size:,} bytes; a request carries at most {MAX_BODY:,}",
            hint="It would be kept in the ledger. Upload such files outside of the crawl.",
        )


@cache
def _types() -> MimeTypes:
    return MimeTypes()  # Python's own table: the same on every machine


def _guess(filename: str) -> str:
    return _types().guess_type(f"/{filename}")[0] or DEFAULT_TYPE


# Writing ----------------------------------------------------------------------------------------


def encode_multipart(
    parts: Iterable[tuple[str, str | bytes | File]], encoding: str = UTF_8
) -> tuple[bytes, str]:
    """The body and its content type. By the HTML Standard's "multipart/form-data encoding
    algorithm": line ends of names and values are CRLF, `"` and line ends in names are escaped.

    Raises `UsageError` when it is larger than `MAX_BODY`.
    """
    written = [_part(name, value, encoding) for name, value in parts]
    require_size(sum(map(len, written)), "the body of a form with files")
    boundary = _boundary(written)
    mark = b"--" + boundary
    lines = [b"%b\r\n%b\r\n" % (mark, part) for part in written]
    body = b"".join(lines) + mark + b"--\r\n"
    return body, f"multipart/form-data; boundary={boundary.decode()}"


def _part(name: str, value: str | bytes | File, encoding: str) -> bytes:
    head = b'Content-Disposition: form-data; name="%b"' % _quoted(newlines(name), encoding)
    if isinstance(value, File):
        head += b'; filename="%b"' % _quoted(value.filename, encoding)
        head += b"\r\nContent-Type: %b" % _token(value.content_type)
        return head + b"\r\n\r\n" + value.content
    data = value if isinstance(value, bytes) else encode(newlines(value), encoding)
    return head + b"\r\n\r\n" + data


def _quoted(name: str, encoding: str) -> bytes:
    data = encode(name, encoding)
    return data.replace(b"\r", b"%0D").replace(b"\n", b"%0A").replace(b'"', b"%22")


def _token(content_type: str) -> bytes:
    if not content_type.isascii() or not content_type.isprintable():
        raise UsageError(f"files: {content_type!r} is no content type")
    return content_type.encode()


def newlines(text: str) -> str:
    """*text* with CRLF for every line end, as forms send it."""
    if "\r" not in text and "\n" not in text:
        return text
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")


def _boundary(parts: Sequence[bytes]) -> bytes:
    """A line that no part contains."""
    digest = blake2b(digest_size=12)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    while True:
        boundary = b"----FormBoundary" + digest.hexdigest().encode()
        if not any(boundary in part for part in parts):
            return boundary
        digest.update(b"again")
