"""What servers do to HTTP's framing (RFC 9112), byte by byte on real sockets."""

from __future__ import annotations

import pytest

from scraper.http import Request
from tests.download.raw import OK, answering, downloader, keep_alive, reason, reply, serving

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (PLAIN + b"Content-Length: 10\r\n\r\nabc", "incomplete"),
        (PLAIN + b"Content-Len", "incomplete"),
        (PLAIN, "incomplete"),
        (CHUNKED + b"5\r\nabc", "incomplete"),
        (CHUNKED + b"3\r\nabc\r\n", "incomplete"),
        (CHUNKED, "incomplete"),
        (b"", "conn_reset"),
    ],
)
async def test_answers_that_are_cut(wire: bytes, expected: str) -> None:
    async with serving(answering(wire)) as port, downloader() as web:
        assert await reason(web, f"http://127.0.0.1:{port}/") == expected


@pytest.mark.parametrize(
    "wire",
    [
        CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"3\r\nabc\r\nzz\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"3\r\nabcdef\r\n0\r\n\r\n",
        PLAIN + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        PLAIN + b"Content-Length: -2\r\n\r\nab",
        PLAIN + b"Content-Length: 99999999999999999999\r\n\r\nab",
        PLAIN + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"<html>HTTP/0.9 lives</html>",
        b"HTTP/1.1 000 X\r\n\r\n",
        b"HTTP/1.1 99 X\r\n\r\n",
        b"HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 abc X\r\n\r\n",
        PLAIN + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        PLAIN + b"Content-Length: 2\r\n\r\nokMORE",
        b"HTTP/1.1 204 No Content\r\n\r\nstray bytes",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        PLAIN + b"no colon here\r\n\r\n",
        PLAIN + b"X: a\x00b\r\n\r\n",
    ],
)
@pytest.mark.parametrize("close", [True, False], ids=["close", "open"])
async def test_answers_that_are_none(wire: bytes, close: bool) -> None:
    async with serving(answering(wire, close=close)) as port, downloader() as web:
        assert await reason(web, f"http://127.0.0.1:{port}/") == "protocol"


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (PLAIN + b"X: a\x01b\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (PLAIN + b"\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", b"old"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + OK, b"ok"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n" + OK, b"ok"),
        (CHUNKED + b"3;ext=1\r\nabc\r\n0\r\nTrailer: x\r\n\r\n", b"abc"),
        (CHUNKED + b"1\r\na\r\n" * 3000 + b"0\r\n\r\n", b"a" * 3000),
    ],
)
async def test_odd_but_accepted(wire: bytes, body: bytes) -> None:
    async with serving(answering(wire)) as port, downloader() as web:
        response = await web.fetch(Request(f"http://127.0.0.1:{port}/"))
    assert (response.status, response.body) == (200, body)


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body(status: int) -> None:
    wire = f"HTTP/1.1 {status} X\r\nContent-Length: 9\r\nContent-Encoding: gzip\r\n\r\n".encode()
    async with serving(answering(wire)) as port, downloader() as web:
        response = await web.fetch(Request(f"http://127.0.0.1:{port}/"))
    assert (response.status, response.body) == (status, b"")


async def test_head_has_no_body_whatever_it_announces() -> None:
    wire = PLAIN + b"Content-Length: 999999999999\r\nContent-Encoding: gzip\r\n\r\n"
    async with serving(keep_alive(lambda _: wire)) as port, downloader() as web:
        for _ in range(2):
            response = await web.fetch(Request(f"http://127.0.0.1:{port}/", method="HEAD"))
            assert (response.status, response.body) == (200, b"")


class TestHeaders:
    @pytest.mark.parametrize(
        "fields",
        [
            [("X-Long", "a" * 9_000)],
            [("Content-Security-Policy", "b" * 12_000)],
            [(f"X-{n}", "c") for n in range(200)],
        ],
        ids=["9 KB", "12 KB", "200 fields"],
    )
    async def test_what_real_sites_send_succeeds(self, fields: list[tuple[str, str]]) -> None:
        async with serving(answering(reply(b"ok", *fields))) as port, downloader() as web:
            response = await web.fetch(Request(f"http://127.0.0.1:{port}/"))
        assert response.headers[fields[-1][0]] == fields[-1][1]
        assert response.body == b"ok"

    @pytest.mark.parametrize(
        "fields",
        [
            [("X-Long", "a" * 70_000)],
            [(f"X-{n}", "c") for n in range(600)],
            [(f"X-{n}", "c" * 10_000) for n in range(40)],
        ],
        ids=["one line", "fields", "in all"],
    )
    async def test_too_large(self, fields: list[tuple[str, str]]) -> None:
        async with serving(answering(reply(b"ok", *fields))) as port, downloader() as web:
            assert await reason(web, f"http://127.0.0.1:{port}/") == "headers_too_large"

    async def test_endless(self) -> None:
        async with (
            serving(answering(PLAIN, *[b"A: b\r\n" * 100] * 100)) as port,
            downloader() as web,
        ):
            assert await reason(web, f"http://127.0.0.1:{port}/") == "headers_too_large"

    async def test_bytes_beyond_ascii_are_latin_1(self) -> None:
        wire = PLAIN + "Content-Length: 0\r\nX-Name: caf\xe9\r\n\r\n".encode("latin-1")
        async with serving(answering(wire)) as port, downloader() as web:
            response = await web.fetch(Request(f"http://127.0.0.1:{port}/"))
        assert response.headers["x-name"] == "café"

    async def test_repeated_fields_are_kept_apart(self) -> None:
        wire = reply(b"", ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))
        async with serving(answering(wire)) as port, downloader() as web:
            response = await web.fetch(Request(f"http://127.0.0.1:{port}/"))
        assert response.headers.getall("set-cookie") == ["a=1", "b=2"]
        assert {type(text) for field in response.headers.items_raw() for text in field} == {str}


async def test_a_large_announced_body_is_refused_before_it_comes() -> None:
    wire = PLAIN + b"Content-Length: 17000000\r\n\r\n"
    async with serving(answering(wire, close=False)) as port, downloader() as web:
        assert await reason(web, f"http://127.0.0.1:{port}/") == "body_too_large"
        assert web.bytes_received == 0


@pytest.mark.parametrize("limit", ["max_wire", "max_body"])
async def test_an_endless_body_ends_at_the_limit(limit: str) -> None:
    parts = [CHUNKED, *[b"1000\r\n" + b"a" * 4096 + b"\r\n"] * 100]
    async with serving(answering(*parts, close=False)) as port, downloader({limit: 100_000}) as web:
        assert await reason(web, f"http://127.0.0.1:{port}/") == "body_too_large"


async def test_a_body_beyond_max_body_alone() -> None:
    async with (
        serving(answering(reply(b"a" * 200_000))) as port,
        downloader({"max_body": 100_000}) as web,
    ):
        assert await reason(web, f"http://127.0.0.1:{port}/") == "body_too_large"
