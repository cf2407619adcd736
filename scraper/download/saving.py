"""Bodies that go to a file as they come: any size, in little memory.

The bytes of the wire are written while they arrive. Codings are undone when all of them are
there, from one file into another: a coded body is valid only once its decoder has seen the end.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path

from scraper.download import coding
from scraper.errors import OutOfResource

__all__ = ["BUFFER", "save"]

BLOCK = 1 << 17  # bytes held back for one write, about
BUFFER = 1 << 15  # bytes that a connection holds for its reader, beyond what one read brings
SLICE = 1 << 16  # bytes read back at once


async def save(
    pieces: AsyncGenerator[bytes, None],
    path: str,
    codings: Sequence[str],
    *,
    limit: int,
    layers: int,
) -> tuple[int, int]:
    """Write *pieces* to *path*, without their codings. Returns bytes on the wire and in the file.

    What lay at *path* is replaced; a symbolic link there is not followed. Raises `FetchError` as
    `coding.decoding` does, and `OutOfResource` when the file cannot be written. Not synced.
    """
    async with aclosing(pieces):
        wire = await _write(pieces, path)
    if not codings or not wire:
        return wire, wire
    return wire, await asyncio.to_thread(_decode, path, codings, limit, layers)


async def _write(pieces: AsyncGenerator[bytes, None], path: str) -> int:
    await asyncio.to_thread(_append, path, b"", os.O_TRUNC)
    total, held, size = 0, list[bytes](), 0
    async for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= BLOCK:
            await asyncio.to_thread(_append, path, b"".join(held))
            total, held, size = total + size, [], 0
    if held:
        await asyncio.to_thread(_append, path, b"".join(held))
    return total + size


def _append(path: str, data: bytes, flags: int = 0) -> None:
    """Write *data* at the file's end. By its name each time: when the task that waits for it is
    cancelled, this goes on, and a descriptor of the task's would be closed under it."""
    with _named(path):
        fd = _open(path, os.O_APPEND | flags)
        try:
            _put(fd, data)
        finally:
            os.close(fd)


def _decode(path: str, codings: Sequence[str], limit: int, layers: int) -> int:
    """Replace the file by what it is without its codings; return the new size."""
    plain = f"{path}.plain"
    size = 0
    try:
        with _named(plain):
            fd = _open(plain, os.O_TRUNC)
        try:
            for piece in coding.decoding(_slices(path), codings, limit=limit, layers=layers):
                with _named(plain):
                    _put(fd, piece)
                size += len(piece)
        finally:
            os.close(fd)
        with _named(plain):
            Path(plain).replace(path)
    except BaseException:
        Path(plain).unlink(missing_ok=True)
        raise
    return size


def _slices(path: str) -> Iterator[bytes]:
    with _named(path), Path(path).open("rb", buffering=0) as file:
        while piece := file.read(SLICE):
            yield piece


def _open(path: str, flags: int) -> int:
    flags |= os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o644)


def _put(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Errors of the file, told from those of the network, which are `OSError` too."""
    try:
        yield
    except OSError as error:
        raise OutOfResource(
            f"cannot write {path}: {error.strerror or error}",
            hint="What was committed is safe. Make room and run the same command again.",
        ) from error
