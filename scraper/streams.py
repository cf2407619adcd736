"""Bodies read piece by piece: unpacked under a cap, decoded, cut into lines."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain

from scraper import encoding as encodings
from scraper.errors import ExtractionError

__all__ = ["is_gzip", "lines", "texts", "unzipped"]

PIECE = 64 * 1024
GZIP = 31  # zlib's `wbits`
MAX_MEMBERS = 10_000  # empty gzip members cost time and give nothing


def is_gzip(body: bytes) -> bool:
    """Whether *body* begins as a gzip file does (RFC 1952, section 2.3.1)."""
    return body.startswith(b"\x1f\x8b")


def unzipped(body: bytes, limit: int, warnings: list[str]) -> Iterator[bytes]:
    """The pieces of *body*, unpacked when it is gzip, however often.

    Cut short or damaged, it gives what could be unpacked, and a warning. Raises
    `ExtractionError("body_too_large")` when there is more than *limit* bytes, packed or not.
    """
    pieces: Iterator[bytes] = (body[at : at + PIECE] for at in range(0, len(body), PIECE))
    layers = 0
    while (first := next(pieces, None)) is not None:
        pieces = chain([first], pieces)
        if not is_gzip(first):
            break
        if (layers := layers + 1) > 3:
            raise ExtractionError("body_too_large", "gzip within gzip within gzip within gzip")
        pieces = _gunzip(pieces, warnings)
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise ExtractionError(
                "body_too_large", f"more than {limit:,} bytes once unpacked; nothing was kept"
            )
        yield piece


def _gunzip(pieces: Iterable[bytes], warnings: list[str]) -> Iterator[bytes]:
    decoder = zlib.decompressobj(GZIP)
    members = 1
    try:
        for data in pieces:
            while data:
                if decoder.eof:
                    if not is_gzip(data) or members >= MAX_MEMBERS:
                        return  # padding, as gzip(1) has it
                    decoder, members = zlib.decompressobj(GZIP), members + 1
                if out := decoder.decompress(data, PIECE):
                    yield out
                data = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
    except zlib.error:
        warnings.append("the gzip data is damaged: read up to there")
        return
    if not decoder.eof:
        warnings.append("the gzip data is cut short: read up to there")


def texts(pieces: Iterable[bytes], encoding: str) -> Iterator[str]:
    """*pieces* decoded, without a byte order mark; invalid bytes are U+FFFD.

    *encoding*: as `encoding.detect` names it. UTF-8 is decoded piece by piece, others whole.
    """
    if encoding != encodings.UTF_8:
        text = encodings.decode(b"".join(pieces), encoding)
        yield from (text[at : at + PIECE] for at in range(0, len(text), PIECE))
        return
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    first = True
    for piece in pieces:
        text = decoder.decode(piece)
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
        yield text
    yield decoder.decode(b"", True)


def lines(pieces: Iterable[str], longest: int) -> Iterator[str]:
    """Lines (ended by LF, CRLF or CR, left out) of a text that comes in pieces.

    Of a line above *longest* characters only the beginning is given.
    """
    held = ""
    for piece in pieces:
        text = held + piece
        end = "\r" if text.endswith("\r") else ""  # perhaps the first half of CRLF
        text = text[: len(text) - len(end)].replace("\r\n", "\n").replace("\r", "\n")
        *whole, rest = text.split("\n")
        for line in whole:
            yield line[:longest]
        held = rest[:longest] + end
    if held:
        yield held.removesuffix("\r")
