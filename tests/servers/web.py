"""A small, fast HTTP/1.1 server in a thread, whose log is what the tests judge by.

A *site* is a function of the request as the server saw it. It answers with a `Reply`, with the
coroutine of one, or with a word for what no well-behaved server does: `SILENT`, `RESET`.
The server never looks at wall time: `Seen.at` and `Seen.ended` are `time.monotonic`, comparable
with each other and with the test's own clock, since server and test share a process.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self, cast

__all__ = ["RESET", "SILENT", "Reply", "Seen", "Site", "Web", "html", "redirect", "router", "text"]


@dataclass(slots=True, eq=False)
class Seen:
    """One request. `at`: its head was complete; `ended`: the answer was handed to the kernel, or
    the client hung up (then `status` stays 0). `connection` numbers the client's connections."""

    at: float
    number: int
    host: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    connection: int = 0
    ended: float | None = None
    status: int = 0

    @property
    def cookies(self) -> dict[str, str]:
        pairs = (p.strip().partition("=") for p in self.headers.get("cookie", "").split(";"))
        return {name: value for name, _, value in pairs if name}


@dataclass(slots=True)
class Reply:
    """An answer. `headers` may repeat a name; `Content-Length` is added unless given."""

    body: bytes = b""
    status: int = 200
    headers: Iterable[tuple[str, str]] = ()
    type: str = "text/html; charset=utf-8"

    def encode(self, *, head: bool = False) -> bytes:
        lines = [f"HTTP/1.1 {self.status} X", f"Content-Type: {self.type}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if not any(line.lower().startswith("content-length:") for line in lines):
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (b"" if head else self.body)


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    name: str


SILENT = Misbehaviour("accept, read, never answer")
RESET = Misbehaviour("drop the connection with RST")

Answer = Reply | Misbehaviour
Site = Callable[[Seen], Answer | Awaitable[Answer]]


def html(body: str, status: int = 200, *headers: tuple[str, str]) -> Reply:
    return Reply(f"<!doctype html><title>t</title>{body}".encode(), status, headers)


def text(body: str, status: int = 200, *headers: tuple[str, str]) -> Reply:
    return Reply(body.encode(), status, headers, type="text/plain; charset=utf-8")


def redirect(to: str, *headers: tuple[str, str], status: int = 302) -> Reply:
    return Reply(b"", status, (("Location", to), *headers))


@dataclass(slots=True)
class _Alarm:
    """Call back once *when* holds for the log; looked at after each entry or ending."""

    when: Callable[[Web], bool]
    call: Callable[[], None]


@dataclass(slots=True)
class Web:
    """The server. Use as a context manager; `addresses` share one port.

    `log` is appended to by the server's thread and read by the test's; a list append is atomic,
    and tests read it when the crawl is over or through `wait`.
    """

    site: Site
    addresses: tuple[str, ...] = ("127.0.0.1",)
    port: int = 0
    log: list[Seen] = field(default_factory=list)
    _alarms: list[_Alarm] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop | None = None
    _stop: asyncio.Event | None = None
    _thread: threading.Thread | None = None
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _connections: set[_Connection] = field(default_factory=set)
    _count: int = 0

    # -- life ---------------------------------------------------------------------------------
    def __enter__(self) -> Self:
        started = threading.Event()
        sockets = self._bind()
        self._thread = threading.Thread(target=self._main, args=(sockets, started), daemon=True)
        self._thread.start()
        started.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._loop is not None
        assert self._thread is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _bind(self) -> list[socket.socket]:
        sockets: list[socket.socket] = []
        for address in self.addresses:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, self.port))
            self.port = sock.getsockname()[1]
            sock.listen(512)
            sock.setblocking(False)
            sockets.append(sock)
        return sockets

    def _main(self, sockets: list[socket.socket], started: threading.Event) -> None:
        asyncio.run(self._serve(sockets, started))

    async def _serve(self, sockets: list[socket.socket], started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        servers = [await self._loop.create_server(self._connect, sock=sock) for sock in sockets]
        started.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # lets the transports close their sockets

    def _connect(self) -> _Connection:
        return _Connection(self)

    # -- what a test asks ---------------------------------------------------------------------
    @property
    def url(self) -> str:
        return self.base()

    def base(self, address: str | None = None) -> str:
        """`http://address:port`, without a slash."""
        return f"http://{address or self.addresses[0]}:{self.port}"

    def seen(self, path: str | None = None, host: str | None = None) -> list[Seen]:
        """The log so far, of one path, of one address."""
        return [
            s
            for s in list(self.log)
            if (path is None or s.path == path) and (host is None or s.host.split(":")[0] == host)
        ]

    def counts(self) -> Counter[str]:
        """How often each path was asked for."""
        return Counter(s.path for s in list(self.log))

    def clear(self) -> None:
        del self.log[:]

    def when(self, condition: Callable[[Web], bool], call: Callable[[], None]) -> None:
        """Call back, in the server's thread, the first time that *condition* holds."""
        with self._changed:
            self._alarms.append(_Alarm(condition, call))

    def after(self, requests: int, call: Callable[[], None], delay: float = 0.0) -> None:
        """Call back *delay* seconds after the *requests*-th request from now on."""
        target = self._count + requests

        def start() -> None:
            assert self._loop is not None
            self._loop.call_later(delay, call)

        self.when(lambda web: web._count >= target, start)

    def forget_alarms(self) -> None:
        with self._changed:
            self._alarms.clear()

    def wait(self, condition: Callable[[Web], bool], timeout: float = 60.0) -> None:
        """Block until *condition* holds. *timeout* only keeps a broken run from hanging."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), timeout):
                raise AssertionError(f"never happened; the server saw {self.counts()}")

    # -- the connections' side ----------------------------------------------------------------
    def enter(self, seen: Seen) -> None:
        with self._changed:
            self._count += 1
            self.log.append(seen)
        self.notice()

    def number(self) -> int:
        return self._count

    def notice(self) -> None:
        with self._changed:
            due = [alarm for alarm in self._alarms if alarm.when(self)]
            self._alarms = [alarm for alarm in self._alarms if alarm not in due]
            self._changed.notify_all()
        for alarm in due:
            alarm.call()


class _Connection(asyncio.Protocol):
    """One client connection: requests are answered in turn."""

    _numbers = iter(range(1 << 60))

    def __init__(self, web: Web) -> None:
        self.web = web
        self.number = next(self._numbers)
        self.buffer = bytearray()
        self.current: Seen | None = None
        self.task: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.web._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.web._connections.discard(self)
        if self.task is not None:
            self.task.cancel()
        if self.current is not None:
            self.current.ended = time.monotonic()
            self.current = None
            self.web.notice()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self._next()

    def _next(self) -> None:
        while self.current is None and (seen := self._take()) is not None:
            self.current = seen
            self.web.enter(seen)
            answer = self.web.site(seen)
            if isinstance(answer, (Reply, Misbehaviour)):
                self._answer(seen, answer)
            else:
                self.task = asyncio.ensure_future(self._later(seen, answer))

    async def _later(self, seen: Seen, answer: Awaitable[Answer]) -> None:
        reply = await answer
        self.task = None
        self._answer(seen, reply)
        self._next()

    def _answer(self, seen: Seen, answer: Answer) -> None:
        if answer is SILENT or self.transport is None or self.transport.is_closing():
            return
        if isinstance(answer, Reply):
            seen.status = answer.status
            self.transport.write(answer.encode(head=seen.method == "HEAD"))
            seen.ended = time.monotonic()
            self.current = None
            self.web.notice()
            return
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.transport.abort()

    def _take(self) -> Seen | None:
        """The next whole request in the buffer, or None."""
        head, separator, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        if not separator:
            return None
        first, *fields = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in fields:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return None
        self.buffer = bytearray(rest[length:])
        method, path, _ = first.split(" ", 2)
        return Seen(
            at=time.monotonic(),
            number=self.web.number(),
            host=headers.get("host", ""),
            method=method,
            path=path,
            headers=headers,
            body=rest[:length],
            connection=self.number,
        )


def router(routes: Mapping[str, Answer | Site], otherwise: Site | None = None) -> Site:
    """A site from a table of paths (without query). What is not in it is 404."""

    def site(seen: Seen) -> Answer | Awaitable[Answer]:
        route = routes.get(seen.path.partition("?")[0])
        if route is None:
            return otherwise(seen) if otherwise is not None else text("no such page", 404)
        return route if isinstance(route, (Reply, Misbehaviour)) else route(seen)

    return site
