"""The server of `benchmarks.hosts`: healthy hosts, and hosts that fail in all the ways we know.

    python -m benchmarks.failing LOAD

*LOAD* is a `Load` as JSON. It says its port; `done` when the last healthy page is out; and, when
its standard input ends, what it saw. Every address has a socket of its own on that port.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["AFTER", "WAYS", "Load", "make"]

WAYS = (
    "silent", "reset", "refused", "unavailable", "throttled", "robots", "drip", "short", "unknown",
)  # fmt: skip
"""How hosts fail: no answer; RST; nothing listens; 503; 429 with `Retry-After`; robots.txt is 500;
a byte a second; the body ends early; a name that does not exist."""

AFTER = 3  # seconds of `Retry-After`


@dataclass(frozen=True, slots=True)
class Load:
    """What is crawled. `ways`: of each host how it fails, "" for a healthy one."""

    ways: dict[str, str]
    pages: int
    listed: bool

    def starts(self, port: int) -> list[str]:
        """The start requests: hosts by turns, as a list of sites is rarely sorted."""
        numbers = range(self.pages if self.listed else 1)
        return [f"http://{host}:{port}/p/{n}" for n in numbers for host in self.ways]

    def alone(self) -> Load:
        """The healthy hosts of it."""
        return Load({h: way for h, way in self.ways.items() if not way}, self.pages, self.listed)


def make(hosts: int, share: float, pages: int, *, listed: bool) -> Load:
    """*hosts* hosts, of which *share* fail in all `WAYS`, spread evenly among the others."""
    failing = round(hosts * share)
    ways: dict[str, str] = {}
    for n in range(hosts):
        before, after = n * failing // hosts, (n + 1) * failing // hosts
        way = WAYS[before % len(WAYS)] if after > before else ""
        name = f"127.1.{n // 250}.{n % 250 + 1}"
        ways[f"host-{n}.invalid" if way == "unknown" else name] = way
    return Load(ways, pages, listed)


class Server:
    """What it answers, and what it saw: (monotonic seconds, host, path) of each request."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.log: list[tuple[float, str, str]] = []
        self.done: list[float] = []
        self.late = 0.0
        healthy = [host for host, way in load.ways.items() if not way]
        self._missing = {(host, f"/p/{n}") for host in healthy for n in range(load.pages)}
        self._links = "".join(f'<a href="/p/{n}">{n}</a>' for n in range(1, load.pages))

    async def run(self) -> None:
        """Serve until standard input ends."""
        loop = asyncio.get_running_loop()
        port = 0
        for host, way in self.load.ways.items():
            if way not in ("refused", "unknown"):
                server = await loop.create_server(lambda: Connection(self), host, port, backlog=512)
                port = server.sockets[0].getsockname()[1]
        print(port, flush=True)
        ended = loop.run_in_executor(None, sys.stdin.read)
        while not ended.done():
            before = time.monotonic()
            await asyncio.sleep(0.01)
            self.late = max(self.late, time.monotonic() - before - 0.01)
        print(json.dumps({"log": self.log, "done": self.done, "late": self.late}), flush=True)

    def seen(self, host: str, path: str) -> None:
        self.log.append((time.monotonic(), host, path))

    def page(self, host: str, path: str) -> bytes:
        """A healthy page; the front page links to all others."""
        if (host, path) in self._missing:
            self._missing.discard((host, path))
            if not self._missing:
                self.done.append(time.monotonic())
                print("done", flush=True)
        return answer(200, f"<title>{path}</title>{self._links if path == '/p/0' else ''}")


class Connection(asyncio.Protocol):
    """One client connection. How its host fails is one method of it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._data = b""
        self._host = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._host = transport.get_extra_info("sockname")[0]

    def data_received(self, data: bytes) -> None:
        self._data += data
        while b"\r\n\r\n" in self._data:
            head, _, self._data = self._data.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            self._server.seen(self._host, path)
            self._reply(path)

    def _reply(self, path: str) -> None:
        way = self._server.load.ways[self._host]
        deaf = way in ("silent", "reset")
        if path == "/robots.txt" and not deaf:
            self._transport.write(answer(500 if way == "robots" else 404, ""))
        elif not way or (path == "/p/0" and not deaf):  # the others fail behind their front page
            self._transport.write(self._server.page(self._host, path))
        else:
            ways: dict[str, Callable[[], None]] = {
                "silent": lambda: None,
                "reset": self._reset,
                "unavailable": lambda: self._transport.write(answer(503, "later")),
                "throttled": lambda: self._transport.write(
                    answer(429, "slowly", f"Retry-After: {AFTER}")
                ),
                "robots": lambda: self._transport.write(answer(404, "")),
                "drip": self._drip,
                "short": self._short,
            }
            ways[way]()

    def _reset(self) -> None:
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self._transport.abort()

    def _short(self) -> None:
        self._transport.write(answer(200, "cut", length=1000))
        self._transport.close()

    def _drip(self, head: bytes | None = None) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer(200, "", length=10_000) if head is None else head)
            asyncio.get_running_loop().call_later(1.0, self._drip, b"x")


def answer(status: int, body: str, *headers: str, length: int | None = None) -> bytes:
    """An answer; *length*: what its Content-Length says instead of the truth."""
    size = len(body) if length is None else length
    head = [f"HTTP/1.1 {status} X", "Content-Type: text/html", f"Content-Length: {size}"]
    return "\r\n".join([*head, *headers, "", body]).encode()


if __name__ == "__main__":
    asyncio.run(Server(Load(**json.loads(sys.argv[1]))).run())
