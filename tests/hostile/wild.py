"""A server of many hosts, each of which does one thing wrong, beside one that does all right.

Hosts are loopback addresses that share one port, so that each is a host of its own to a crawler.
What a host does is a coroutine over its raw streams: it is handed each request's head and says
what is sent, byte by byte. The log of heads is what tests count attempts by.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from tests.download import raw

__all__ = ["Behaviour", "Host", "Wild", "body", "ok", "reset", "says", "silent"]

Behaviour = Callable[["Host", bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]
"""Answers the request of one head; whether the connection is kept for the next."""

ROBOTS = raw.reply(status=404)


def body(content: bytes, *headers: tuple[str, str]) -> bytes:
    """A page of HTML."""
    return raw.reply(content, ("Content-Type", "text/html; charset=utf-8"), *headers)


def says(*parts: bytes, close: bool = True) -> Behaviour:
    """Sends *parts*, then closes, or waits for the client to do so."""

    async def behaviour(
        host: Host, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if not close:
            await reader.read()
        return False

    return behaviour


async def ok(
    host: Host, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """A page, and the connection is kept."""
    writer.write(body(b"<!doctype html><title>ok</title><h1>ok</h1>"))
    return True


async def silent(
    host: Host, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Never an answer."""
    await reader.read()
    return False


async def reset(
    host: Host, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """The connection is dropped with RST."""
    raw.reset(writer)
    return False


@dataclass(slots=True)
class Host:
    """One address. `heads`: the requests that it got, but those for robots.txt (answered 404).

    `raw`: the behaviour has each connection to itself from the first byte. `refuses`: its TLS is
    spoken by a thread for each handshake, since asyncio's drops the alert that says why.
    """

    behaviour: Behaviour
    tls: ssl.SSLContext | None = None
    raw: bool = False
    refuses: bool = False
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.raw:
            await self.behaviour(self, b"", reader, writer)
            return
        keep = True
        while keep:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                return
            if head.split(b" ", 2)[1].endswith(b"/robots.txt"):
                writer.write(ROBOTS)
                continue
            self.heads.append(head)
            keep = await self.behaviour(self, head, reader, writer)
            await writer.drain()


@dataclass(slots=True)
class Wild:
    """The server, in a thread of its own; a context manager. All hosts share `port`."""

    hosts: Mapping[str, Host]
    port: int = 0
    _loop: asyncio.AbstractEventLoop | None = None
    _stop: asyncio.Event | None = None
    _thread: threading.Thread | None = None

    def url(self, address: str, path: str = "/") -> str:
        scheme = "https" if self.hosts[address].tls else "http"
        return f"{scheme}://{address}:{self.port}{path}"

    def __enter__(self) -> Self:
        sockets: list[tuple[socket.socket, Host]] = []
        for address, host in self.hosts.items():
            sock = socket.create_server((address, self.port), backlog=256)
            self.port = sock.getsockname()[1]
            sockets.append((sock, host))
        started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(sockets, started)), daemon=True
        )
        self._thread.start()
        started.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(
        self, sockets: list[tuple[socket.socket, Host]], started: threading.Event
    ) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(lambda *_: None)  # broken pipes are what this is for
        tasks: set[asyncio.Task[None]] = set()

        def accepting(
            host: Host,
        ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = asyncio.create_task(_connection(host, reader, writer))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

            return accept

        servers = [
            await asyncio.start_server(accepting(host), sock=sock, ssl=host.tls)
            for sock, host in sockets
            if not host.refuses
        ]
        tasks |= {
            asyncio.create_task(_refusing(host, sock)) for sock, host in sockets if host.refuses
        }
        started.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        left = list(tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _connection(
    host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    with suppress(OSError, asyncio.CancelledError):
        await host.serve(reader, writer)
    writer.close()
    with suppress(OSError, asyncio.CancelledError):
        await writer.wait_closed()


async def _refusing(host: Host, listener: socket.socket) -> None:
    """Handshakes that come to nothing, one after another."""

    def shake(connection: socket.socket) -> None:
        assert host.tls is not None
        with connection, suppress(OSError):  # an SSLError is one
            connection.settimeout(10)
            host.tls.wrap_socket(connection, server_side=True).close()

    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    with listener:
        while True:
            connection, _ = await loop.sock_accept(listener)
            host.connections += 1
            await asyncio.to_thread(shake, connection)
