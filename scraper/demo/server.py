"""The shop's server: HTTP/1.1 (RFC 9112), GET and HEAD, on loopback, with a log of what was asked.

All mutable state lives in `DemoShop`; a connection holds only its unread bytes. Pages are rendered
once and kept as wire bytes, so that a crawl measures the crawler.
"""

from __future__ import annotations

import asyncio
import errno
import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, NamedTuple, cast

from scraper.demo.pages import message_page
from scraper.demo.site import COOKIE, OUTAGE, Answer, Site

if TYPE_CHECKING:
    from typing import Self

__all__ = ["PREFERRED_PORT", "DemoShop", "Hit", "serve_in_thread"]

HOST = "127.0.0.1"
PREFERRED_PORT = 8378
"""Where the demo likes to live: an interrupted one resumes only at the same address."""

MAX_HEAD = 64 * 1024
LOG_LIMIT = 1_000_000


class Hit(NamedTuple):
    """One answered request, as the server saw it. `time`: of the answer, in monotonic seconds."""

    time: float
    method: str
    path: str
    status: int


class DemoShop:
    """The bookshop behind a loopback port: ``async with DemoShop() as shop: shop.url``.

    `port`: 0 takes a free one; `fallback` takes a free one too when `port` is in use. `outage`:
    seconds for which one list page answers 503 with Retry-After, counted from its first request.
    `wall`: whether the rare books ask for a cookie. `log` holds every answered request, the oldest
    first (the last million of them).
    """

    def __init__(
        self, port: int = 0, *, fallback: bool = False, outage: float = 1.0, wall: bool = True
    ) -> None:
        self.site = Site()
        self.log: deque[Hit] = deque(maxlen=LOG_LIMIT)
        self._port = port
        self._fallback = fallback
        self._outage = outage
        self._wall = wall
        self._back_at: float | None = None
        self._wire: dict[tuple[str, bool], tuple[int, bytes, bytes]] = {}
        self._date = (0, b"")
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    @property
    def port(self) -> int:
        """The port in use; what was asked for while the shop is closed."""
        return self._port

    @property
    def url(self) -> str:
        """The shop's address, with a closing slash."""
        return f"http://{HOST}:{self._port}/"

    async def open(self) -> None:
        """Listen. Raises `OSError` when the port is taken and there is no fallback."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._connection, HOST, self._port)
        except OSError as error:
            if not self._fallback or error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            self._server = await loop.create_server(self._connection, HOST, 0)
        self._port = self._server.sockets[0].getsockname()[1]
        self.site.origin = self.url.removesuffix("/")

    async def aclose(self) -> None:
        """Stop listening and hang up on everybody."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._connections):
            connection.hang_up()
        await self._server.wait_closed()
        self._server = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def respond(self, method: str, target: str, headers: dict[str, str], *, close: bool) -> bytes:
        """The bytes that answer one request, logged. `headers`: names in lower case."""
        path = target.partition("?")[0]
        if method not in ("GET", "HEAD"):
            allow = (("Allow", "GET, HEAD"),)
            status, head, body = _encode(_problem(405, "The shop only shows things.", allow))
        elif self._wall and self.site.walled(path) and not _welcomed(headers.get("cookie", "")):
            status, head, body = _encode(self.site.wall(target))
        elif path == OUTAGE and (away := self._away()) > 0:
            retry = (("Retry-After", str(math.ceil(away))),)
            status, head, body = _encode(_problem(503, "Back in a moment.", retry))
        else:
            status, head, body = self._page(target, _accepts_gzip(headers))
        self.log.append(Hit(time.monotonic(), method, target, status))
        tail = b"Connection: close\r\n\r\n" if close else b"\r\n"
        return b"".join((head, self._now(), tail, b"" if method == "HEAD" else body))

    def refuse(self, status: int, text: str) -> bytes:
        """The bytes that answer something that is not a request the shop understands."""
        self.log.append(Hit(time.monotonic(), "", "", status))
        _, head, body = _encode(_problem(status, text))
        return b"".join((head, self._now(), b"Connection: close\r\n\r\n", body))

    def _connection(self) -> _Connection:
        return _Connection(self, self._connections)

    def _page(self, target: str, gzip: bool) -> tuple[int, bytes, bytes]:
        known = self._wire.get((target, gzip))
        if known is not None:
            return known
        answer = self.site.answer(target)
        wire = _encode(answer, gzip=gzip)
        # Only what the site has is kept, so that odd requests cannot fill the memory.
        if answer.status == HTTPStatus.OK and "?" not in target:
            self._wire[target, gzip] = wire
        return wire

    def _away(self) -> float:
        """For how many more seconds the flaky page is away; its first request starts the clock."""
        now = time.monotonic()
        if self._back_at is None:
            self._back_at = now + self._outage
        return self._back_at - now

    def _now(self) -> bytes:
        second = int(time.time())
        if second != self._date[0]:
            self._date = (second, f"Date: {formatdate(second, usegmt=True)}\r\n".encode())
        return self._date[1]


class _Connection(asyncio.Protocol):
    """One client: cuts its bytes into requests and writes the answers in their order."""

    def __init__(self, shop: DemoShop, connections: set[_Connection]) -> None:
        self._shop = shop
        self._connections = connections
        self._unread = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._transport = None

    def pause_writing(self) -> None:
        # Who does not read its answers is not asked for more.
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        unread = self._unread + data if self._unread else data
        answers: list[bytes] = []
        keep = True
        while keep:
            end = unread.find(b"\r\n\r\n")
            if end < 0:
                break
            answer, keep = self._answer(unread[:end])
            answers.append(answer)
            unread = unread[end + 4 :]
        if keep and len(unread) > MAX_HEAD:
            answers.append(self._shop.refuse(431, "That is too much header."))
            keep = False
        self._unread = unread if keep else b""
        if answers:
            transport.write(b"".join(answers))
        if not keep:
            transport.close()

    def _answer(self, head: bytes) -> tuple[bytes, bool]:
        """The answer to one request head, and whether the connection stays open after it."""
        lines = head.decode("latin-1").lstrip("\r\n").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/"):
            return self._shop.refuse(400, "That is not HTTP."), False
        method, target, version = words
        if version not in ("HTTP/1.1", "HTTP/1.0"):
            return self._shop.refuse(505, "This shop speaks HTTP/1.1."), False
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                return self._shop.refuse(400, "A header line is malformed."), False
            headers[name.lower()] = value.strip()
        if version == "HTTP/1.1" and "host" not in headers:
            return self._shop.refuse(400, "HTTP/1.1 wants a Host header."), False
        # A body is never read: whoever sends one gets its answer and the line is closed.
        wants = headers.get("connection", "").lower()
        keep = (
            "close" not in wants
            and (version == "HTTP/1.1" or "keep-alive" in wants)
            and headers.get("content-length", "0") == "0"
            and "transfer-encoding" not in headers
        )
        return self._shop.respond(method, _origin_form(target), headers, close=not keep), keep


@contextmanager
def serve_in_thread(shop: DemoShop) -> Iterator[DemoShop]:
    """Serve *shop* on a loop of its own in a thread, until the block is left."""
    opened: list[BaseException | None] = []
    ready = threading.Event()
    done = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        try:
            await shop.open()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that asked
            opened.append(error)
            return
        finally:
            ready.set()
        try:
            await done.wait()
        finally:
            await shop.aclose()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="demo-shop", daemon=True)
    thread.start()
    ready.wait()
    try:
        if opened and opened[0] is not None:
            raise opened[0]
        yield shop
    finally:
        if not opened:
            loops[0].call_soon_threadsafe(done.set)
        thread.join()


def _origin_form(target: str) -> str:
    """The path and query of a request target; servers must accept whole URLs (RFC 9112, 3.2.2)."""
    if target.startswith("/"):
        return target
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return target
    return "/" + rest.partition("/")[2]


def _encode(answer: Answer, *, gzip: bool = False) -> tuple[int, bytes, bytes]:
    """Status, head without Date and closing line, and body of *answer* on the wire."""
    body = answer.body
    fields = [("Content-Type", answer.content_type), *answer.headers]
    if answer.zipped is not None:
        fields.append(("Vary", "Accept-Encoding"))
        if gzip:
            body = answer.zipped
            fields.append(("Content-Encoding", "gzip"))
    fields.append(("Content-Length", str(len(body))))
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in fields]
    return answer.status, ("\r\n".join(lines) + "\r\n").encode("latin-1"), body


def _problem(status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    return Answer(status, message_page(HTTPStatus(status).phrase, text).encode(), headers=headers)


def _accepts_gzip(headers: dict[str, str]) -> bool:
    for part in headers.get("accept-encoding", "").lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in ("gzip", "x-gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _welcomed(cookie: str) -> bool:
    try:
        return COOKIE in SimpleCookie(cookie)
    except CookieError:
        return False
