"""Content codings: gzip, deflate, br and zstd, layered, under a cap (RFC 9110, section 8.4.1).

Pure functions over pieces of bytes, made for hostile input: every step puts out a bounded amount,
so that a bomb costs no more memory than the cap; and a stream counts only when its decoder has
seen the end, so that a truncated page is never taken for a page.

What the standards leave open is decided thus. After a complete gzip member or zstd frame, what
does not look like another one is padding and ignored, as gzip(1) does; after a brotli stream
anything is an error. `deflate` is zlib's format (RFC 9110) or the bare stream that some servers
send. A body that is labelled and not coded is damaged: a browser shows none of it either. An
empty body has no coding. zstd windows reach 8 MB (RFC 9659).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO

import brotli
import zstandard

from scraper.errors import FetchError

__all__ = ["decoding", "drain", "named"]

STEP = 1 << 16  # bytes that a decoder puts out at once, about
SLICE = 1 << 14  # bytes that it takes in at once: what is left over gets copied
ZSTD_SLICE = 1 << 7  # the binding cannot bound its output: one byte in may be 32 KB out
ZSTD_WINDOW = 8 << 20
GZIP, ZLIB, RAW = 31, 15, -15  # zlib's `wbits`

Pieces = Iterable[bytes]


def named(fields: Iterable[str]) -> list[str]:
    """The codings that `Content-Encoding` fields name, in the order they were applied."""
    names = (name.strip().lower() for value in fields for name in value.split(","))
    return [name for name in names if name not in ("", "identity")]


def decoding(wire: Pieces, codings: Sequence[str], *, limit: int, layers: int = 5) -> Pieces:
    """The pieces of *wire* with *codings* undone, at most *limit* bytes of every layer.

    Raises `FetchError` with `decode` (unknown coding, more than *layers*, damaged, cut short) or
    `body_too_large`; what concerns the bytes themselves is raised while iterating.
    """
    if len(codings) > layers:
        raise FetchError("decode", detail=f"{len(codings)} layers of coding, at most {layers}")
    pieces = wire
    for coding in reversed(codings):
        decoder = _DECODERS.get(coding)
        if decoder is None:
            raise FetchError("decode", detail=f"unknown content coding {coding[:40]!r}")
        pieces = _bounded(_checked(coding, decoder(pieces)), limit)
    return pieces


def drain(pieces: Iterator[bytes], into: BytesIO, stop: int) -> bool:
    """Write pieces until *stop* bytes are there; whether that was all of them."""
    while into.tell() < stop:
        piece = next(pieces, None)
        if piece is None:
            return True
        into.write(piece)
    return False


def _bounded(pieces: Pieces, limit: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise FetchError("body_too_large", detail=f"more than {limit:,} bytes once decoded")
        yield piece


def _checked(coding: str, pieces: Pieces) -> Iterator[bytes]:
    try:
        yield from pieces
    except (zlib.error, brotli.error, zstandard.ZstdError) as error:
        raise FetchError("decode", detail=f"damaged {coding}: {str(error)[:120]}") from None
    except EOFError:
        raise FetchError("decode", detail=f"the {coding} stream is cut short") from None


def _slices(pieces: Pieces, size: int = SLICE) -> Iterator[bytes]:
    for piece in pieces:
        if len(piece) <= size:
            yield piece
        else:
            for start in range(0, len(piece), size):
                yield piece[start : start + size]


def _inflate(inflater: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """All that *data* yields, up to the stream's end, in steps."""
    while True:
        piece = inflater.decompress(data, STEP)
        if piece:
            yield piece
        data = inflater.unconsumed_tail
        # A full step may have left output behind even though all input is taken.
        if inflater.eof or not (data or len(piece) == STEP):
            return


def _gunzip(pieces: Pieces) -> Iterator[bytes]:
    inflater: zlib._Decompress | None = None
    members = 0
    for data in _slices(pieces):
        while data:
            if inflater is None:
                if members and data[0] != 0x1F:
                    return
                inflater = zlib.decompressobj(GZIP)
                members += 1
            yield from _inflate(inflater, data)
            if not inflater.eof:
                break
            data = inflater.unused_data
            inflater = None
    if inflater is not None or not members:
        raise EOFError


def _undeflate(pieces: Pieces) -> Iterator[bytes]:
    inflater: zlib._Decompress | None = None
    head = b""
    for data in _slices(pieces):
        if inflater is None:
            head += data
            if len(head) < 2:
                continue
            # RFC 1950: method 8 in the low bits, and the first two bytes a multiple of 31. No
            # bare stream starts like that: it would be a stored block with its padding set.
            wrapped = head[0] & 0x0F == 8 and (head[0] << 8 | head[1]) % 31 == 0
            inflater = zlib.decompressobj(ZLIB if wrapped else RAW)
            data = head
        yield from _inflate(inflater, data)
        if inflater.eof:
            return
    raise EOFError


def _unbrotli(pieces: Pieces) -> Iterator[bytes]:
    decompressor = brotli.Decompressor()
    for data in _slices(pieces):
        piece = decompressor.process(data, output_buffer_limit=STEP)
        while piece:
            yield piece
            piece = decompressor.process(b"", output_buffer_limit=STEP)
    if not decompressor.is_finished():
        raise EOFError


def _unzstd(pieces: Pieces) -> Iterator[bytes]:
    context = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    frame: zstandard.ZstdDecompressionObj | None = None
    frames = 0
    for data in _slices(pieces, ZSTD_SLICE):
        while data:
            if frame is None:
                if frames and data[0] != 0x28 and data[0] >> 4 != 5:  # RFC 8878: magic numbers
                    return
                frame = context.decompressobj(write_size=STEP // 2)
                frames += 1
            if piece := frame.decompress(data):
                yield piece
            if not frame.eof:
                break
            data = frame.unused_data
            frame = None
    if frame is not None or not frames:
        raise EOFError


_DECODERS: dict[str, Callable[[Pieces], Iterator[bytes]]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _undeflate,
    "br": _unbrotli,
    "zstd": _unzstd,
}
