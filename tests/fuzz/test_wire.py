"""Answers as bytes on a real socket, through the real client, to the redirect and the cookies."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from scraper import urls
from scraper.config import Http
from scraper.download import AiohttpDownloader
from scraper.download.cookies import Jars
from scraper.errors import REASONS, FetchError
from scraper.http import Request, Response
from scraper.redirects import redirect
from tests.fuzz.material import attempt, cut, examples, mutated

MAX_BODY = 100_000
PAGE = b"<!doctype html><title>caf\xc3\xa9</title><a href=/next>next</a>" * 3


class Wire:
    """A server in a thread that says whatever it is given, piece by piece, and hangs up."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    head = b""
                    while b"\r\n\r\n" not in head:
                        if not (data := connection.recv(4096)):
                            break
                        head += data
                    for piece in self.pieces:
                        connection.sendall(piece)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(4096):
                        pass
                except OSError:
                    pass  # the client had heard enough

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


class Client:
    """The client on a loop of its own, which must not complain of anything left behind."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.complaints: list[dict[str, Any]] = []
        self.runner.get_loop().set_exception_handler(lambda _, told: self.complaints.append(told))
        self.web = self.runner.run(self._made())

    async def _made(self) -> AiohttpDownloader:
        options = {"timeout": 20, "max_body": MAX_BODY, "max_wire": MAX_BODY, "max_headers": 50_000}
        return AiohttpDownloader(Http.model_validate(options))

    def outcome(self, url: str) -> Response | FetchError:
        async def fetch() -> Response | FetchError:
            try:
                return await self.web.fetch(Request(url))
            except FetchError as error:
                return error

        return self.runner.run(fetch())

    def close(self) -> None:
        self.runner.run(self.web.aclose())
        self.runner.close()


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    made = Client()
    yield made
    made.close()


# What is said -----------------------------------------------------------------------------------

STATUS = st.sampled_from([
    b"HTTP/1.1 200 OK", b"HTTP/1.1 200", b"HTTP/1.0 404 Not Found", b"HTTP/1.1 302 \xff", b"",
    b"HTTP/1.1 301 Moved", b"HTTP/1.1 204 No", b"HTTP/1.1 304 Not", b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 103 Early", b"HTTP/2.0 200 OK",
    b"HTTP/1.1 999 X", b"HTTP/1.1 000 X", b"HTTP/1.1 20 X", b"HTTP/1.1 2000 X", b"HTTP/9.9 200 X",
    b"HTTP/1.1  200 OK", b"http/1.1 200 ok", b"ICY 200 OK", b"<html>", b"\x16\x03\x01\x02\x00",
    b"HTTP/1.1 200 O\x00K", b"HTTP/1.1 200 " + b"x" * 9000,
])  # fmt: skip
FIELDS = st.sampled_from([
    b"Content-Length: %d", b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: -1",
    b"Content-Length: 99999999999999999999", b"Content-Length: 0x10", b"Content-Length: 3, 3",
    b"content-length:+7", b"Content-Length: ", b"Content-Length: \xb2", b"Content-Length: 1_0",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: x",
    b"Transfer-Encoding: chunked, chunked", b"transfer-encoding : chunked",
    b"Content-Encoding: gzip", b"Content-Encoding: deflate", b"Content-Encoding: br",
    b"Content-Encoding: zstd", b"Content-Encoding: gzip, gzip", b"Content-Encoding: identity",
    b"Content-Encoding: ,,", b"Content-Encoding: x-nonsense", b"Content-Encoding: GZIP",
    b"Content-Type: text/html; charset=\xff", b"Content-Type: text/html; charset=utf-16",
    b"Content-Type: application/json", b"Content-Type: ;;;", b"Content-Type: text/html;charset",
    b"Set-Cookie: a=b", b"Set-Cookie: a=b; Domain=com", b"Set-Cookie: \xff=\xfe; Expires=x",
    b"Set-Cookie: ;;=;", b"Set-Cookie: a=b; Max-Age=99999999999999999999", b"Set-Cookie: =",
    b"Location: /x", b"Location: //[", b"Location: \xff\xfe", b"Location: javascript:0",
    b"Location: http://b\xc3\xbccher.example/\x80", b"Location: http://127.0.0.1:99999/",
    b"Location: ", b"Location: ?\xe2\x80\xa8", b"Location: http://user:pass@127.0.0.1/%zz",
    b"Connection: close", b"Connection: keep-alive", b"Upgrade: x", b"Retry-After: nan",
    b"Retry-After: Fri, 99 Foo 2026", b": no name", b"no colon", b"X:\x00", b"X: \r folded",
    b" leading: space", b"X: " + b"y" * 5000, b"\xe4: 1", b"Keep-Alive: timeout=-1", b"Date: x",
])  # fmt: skip
BODIES = [
    b"", b"ok", PAGE, gzip.compress(PAGE), zlib.compress(PAGE), zlib.compress(PAGE)[2:-4],
    brotli.compress(PAGE), zstandard.compress(PAGE), gzip.compress(gzip.compress(PAGE)),
    gzip.compress(b"\0" * 3_000_000), gzip.compress(b"a") * 20, b"\xff\xfe<\0b\0>\0",
]  # fmt: skip
SIZES = st.sampled_from([
    b"%x", b"%X;ext=1", b"0", b"-1", b"zz", b"fffffffffffffffff", b"", b"5", b"0x5", b"%x \t",
    b"1",
])  # fmt: skip


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    out = b""
    for piece in draw(cut(body)):
        size = draw(st.just(b"%x") | SIZES)
        out += (size % len(piece) if b"%" in size else size) + b"\r\n" + piece
        out += draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b""]))
    return out + draw(
        st.sampled_from([b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"0\r\n", b""])
    )


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Nearly HTTP: a head of hostile fields, and a body that may or may not be what it says."""
    body = draw(mutated(BODIES, [b"\0", b"\x1f\x8b\x08", b"(\xb5/\xfd", b"\r\n", b"0\r\n\r\n"]))
    fields = draw(st.lists(FIELDS, max_size=6))
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"]))
    if any(b"hunked" in field for field in fields):
        body = draw(chunked(body))
    lines = [draw(STATUS), *(f % len(body) if b"%d" in f else f for f in fields), b"", b""]
    before = draw(st.sampled_from([b"", b"", b"", b"HTTP/1.1 103 X\r\nLink: <>\r\n\r\n", b"\r\n"]))
    return before + end.join(lines) + body


WHOLE = [
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: text/html\r\n\r\n" % len(PAGE) + PAGE,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /x\r\nSet-Cookie: a=b; Path=/; HttpOnly\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(PAGE),
]
WORDS = [
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b":",
    b"\xff",
    b"Content-Length: 3\r\n",
    b"0\r\n\r\n",
    b" ",
    b"\t",
]


@examples(60)
@given((answers() | mutated(WHOLE, WORDS) | st.binary(max_size=200)).flatmap(cut))
def test_any_answer_is_a_response_or_a_reason(
    wire: Wire, client: Client, pieces: list[bytes]
) -> None:
    wire.pieces = pieces
    url = f"http://127.0.0.1:{wire.port}/"
    outcome = client.outcome(url)
    assert client.complaints == []
    if isinstance(outcome, FetchError):
        assert outcome.reason in REASONS
        str(outcome).encode()
        return
    assert outcome.url == url
    assert 100 <= outcome.status <= 999
    assert len(outcome.body) <= MAX_BODY
    outcome.text.encode()
    jars = Jars()
    jars.store(None, url, outcome.headers.getall("Set-Cookie"), 1e9)
    sent = "; ".join(f"{name}={value}" for name, value in jars.pairs(None, url, 1e9))
    assert not set(sent) & {*map(chr, range(9)), *map(chr, range(10, 32)), "\x7f"}
    target = attempt(FetchError, lambda: redirect(outcome.request, outcome))
    if isinstance(target, FetchError):
        assert target.reason in {"redirect_scheme", "url_invalid"}
    else:
        assert target is None or urls.parse(target.url) == target.url
