"""Servers written by hand, for what no server library can be made to do: on loopback, port 0."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import warnings
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime

import trustme

from scraper.config import Http
from scraper.download import AiohttpDownloader
from scraper.errors import FetchError
from scraper.http import Request, Response

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def head(reader: asyncio.StreamReader) -> bytes:
    """One request's header; b"" when the client has hung up."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def answering(*parts: bytes, close: bool = True) -> Handler:
    """Reads one request, sends *parts*, and closes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()
        if not close:
            await reader.read()

    return handler


def reply(
    body: bytes = b"", *headers: tuple[str, str], status: int = 200, length: bool = True
) -> bytes:
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers)]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def keep_alive(answer: Callable[[bytes], bytes]) -> Handler:
    """Answers request after request with `answer(header)`."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await head(reader):
            writer.write(answer(request))

    return handler


def reset(writer: asyncio.StreamWriter) -> None:
    """Drop the connection with RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def raw_deflate(data: bytes) -> bytes:
    """What `deflate` means to some servers: the bare stream."""
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def serving_as(
    authority: trustme.CA,
    *names: str,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> ssl.SSLContext:
    """A server's TLS, with a certificate for *names* that *authority* signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = authority.issue_cert(*names, not_before=not_before, not_after=not_after)
    certificate.configure_cert(context)
    return context


def outdated(context: ssl.SSLContext) -> ssl.SSLContext:
    """*context*, which now speaks TLS 1.1 at most."""
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


@asynccontextmanager
async def serving(
    handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """The port of a server that lives as long as the block, and its connections with it."""
    tasks: set[asyncio.Task[None]] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.CancelledError):
            await handler(reader, writer)
        writer.close()
        with suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(connection(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, host, 0, ssl=tls, limit=1 << 20)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        left = list(tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left)
        await server.wait_closed()


@asynccontextmanager
async def downloader(
    options: Mapping[str, object] | None = None, **kwargs: object
) -> AsyncIterator[AiohttpDownloader]:
    """An `AiohttpDownloader` with *options* of `[http]`."""
    made = AiohttpDownloader(
        Http.model_validate({"timeout": 5, **(options or {})}),
        **kwargs,  # type: ignore[arg-type]
    )
    try:
        yield made
    finally:
        await made.aclose()


async def outcome(web: AiohttpDownloader, url: str | Request) -> Response | FetchError:
    """The response, or the error by which there is none."""
    request = Request(url) if isinstance(url, str) else url
    try:
        return await web.fetch(request)
    except FetchError as error:
        return error


async def reason(web: AiohttpDownloader, url: str | Request) -> str:
    """The reason code, or `http_<status>`."""
    found = await outcome(web, url)
    return found.reason if isinstance(found, FetchError) else f"http_{found.status}"
