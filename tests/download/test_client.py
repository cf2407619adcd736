"""The exchange as a whole: what goes out, what comes back, what is remembered."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from pathlib import Path

import ada_url
import brotli
import pytest

from scraper.errors import DamagedState, FetchError
from scraper.http import Request
from scraper.protocols import Downloader
from tests.download.raw import (
    OK,
    Handler,
    downloader,
    head,
    keep_alive,
    outcome,
    reason,
    reply,
    serving,
)

DATA = os.environ.get("SCRAPER_TEST_DATA")


class Recorder:
    """Keeps what it was sent; answers with what it was given."""

    def __init__(self, answer: bytes = OK) -> None:
        self.seen: list[bytes] = []
        self.answer = answer

    @property
    def handler(self) -> Handler:
        def answer(request: bytes) -> bytes:
            self.seen.append(request)
            return self.answer

        return keep_alive(answer)

    @property
    def lines(self) -> list[bytes]:
        return self.seen[-1].split(b"\r\n")

    def field(self, name: bytes) -> bytes | None:
        found = [line for line in self.lines if line.lower().startswith(name.lower() + b": ")]
        assert len(found) <= 1, found
        return found[0].partition(b": ")[2] if found else None


class TestRequest:
    async def test_the_fields_that_always_go_out(self) -> None:
        server = Recorder()
        options = {"user_agent": "bot (+mail@example.com)", "headers": {"Accept-Language": "en"}}
        async with serving(server.handler) as port, downloader(options) as web:
            await web.fetch(Request(f"http://127.0.0.1:{port}/"))
        assert server.lines[0] == b"GET / HTTP/1.1"
        assert server.field(b"Host") == f"127.0.0.1:{port}".encode()
        assert server.field(b"User-Agent") == b"bot (+mail@example.com)"
        assert server.field(b"Accept-Language") == b"en"
        assert server.field(b"Accept-Encoding") == b"gzip, deflate, br, zstd"
        assert server.field(b"Cookie") is None

    async def test_the_requests_own_fields_win(self) -> None:
        server = Recorder()
        async with serving(server.handler) as port, downloader() as web:
            headers = {"user-agent": "other", "X-Own": "1"}
            await web.fetch(Request(f"http://127.0.0.1:{port}/", headers=headers))
        assert server.field(b"User-Agent") == b"other"
        assert server.field(b"X-Own") == b"1"

    async def test_a_body(self) -> None:
        bodies = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await head(reader)
            length = int(request.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            bodies.append((request.split(b" ")[0], await reader.readexactly(length)))
            assert b"content-type: application/json" in request.lower()
            writer.write(OK)

        async with serving(handler) as port, downloader() as web:
            response = await web.fetch(Request(f"http://127.0.0.1:{port}/", json={"a": "ä"}))
        assert response.status == 200
        assert bodies == [(b"POST", '{"a":"ä"}'.encode())]

    @pytest.mark.case(
        43,
        "`user:pass@` in a request's URL",
        "sent as `Authorization: Basic`; the URL is without it",
    )
    async def test_credentials_in_the_url_become_a_header(self) -> None:
        server = Recorder()
        async with serving(server.handler) as port, downloader() as web:
            response = await web.fetch(Request(f"http://user:pass@127.0.0.1:{port}/"))
        assert server.field(b"Authorization") == b"Basic dXNlcjpwYXNz"
        assert "pass" not in response.url

    @pytest.mark.parametrize(
        "target",
        [
            "/",
            "/?",
            "/a?",
            "/a%2Fb",
            "/%zz?%zz",
            "/a//b/;p=1?x=%20+&&=",
            "/~%7E'()*",
            "/?a?b=[]|",
            "/%e4%F6",
        ],
    )
    async def test_the_targets_bytes_are_the_hrefs(self, target: str) -> None:
        server = Recorder()
        async with serving(server.handler) as port, downloader() as web:
            await web.fetch(Request(f"http://127.0.0.1:{port}{target}#fragment"))
        assert server.lines[0] == f"GET {target} HTTP/1.1".encode()

    @pytest.mark.skipif(DATA is None, reason="SCRAPER_TEST_DATA is not set")
    async def test_so_they_are_for_every_url_of_the_standards_own_tests(self) -> None:
        server = Recorder()
        cases = json.loads((Path(DATA or "") / "url" / "urltestdata.json").read_text())
        tried = 0
        async with serving(server.handler) as port, downloader() as web:
            for href in {
                case["href"] for case in cases if isinstance(case, dict) and "href" in case
            }:
                if not href.startswith(("http:", "https:")):
                    continue
                parts = ada_url.URL(href)
                parts.protocol, parts.host, parts.port = "http:", "127.0.0.1", str(port)
                parts.username = parts.password = ""
                if not parts.href.startswith(f"http://127.0.0.1:{port}/"):
                    continue
                await web.fetch(Request(parts.href))
                expected = f"{parts.pathname}{parts.search}"
                if parts.href.partition("#")[0].endswith("?"):
                    expected += "?"
                assert server.lines[0] == f"GET {expected} HTTP/1.1".encode()
                tried += 1
        assert tried > 100


class TestResponse:
    @pytest.mark.parametrize("status", [200, 203, 301, 404, 418, 500, 503, 999])
    async def test_any_status_is_one(self, status: int) -> None:
        answer = reply(b"body", ("Location", "/elsewhere"), status=status)
        async with serving(keep_alive(lambda _: answer)) as port, downloader() as web:
            request = Request(f"http://127.0.0.1:{port}/")
            response = await web.fetch(request)
        assert (response.status, response.body, response.url) == (status, b"body", request.url)
        assert response.request is request
        assert response.elapsed > 0
        assert web.sent == 1

    async def test_no_type_of_aiohttps_gets_out(self) -> None:
        answer = reply(b"body", ("Content-Type", "text/html"), ("Set-Cookie", "a=b"))
        async with serving(keep_alive(lambda _: answer)) as port, downloader() as web:
            contract: Downloader = web
            response = await contract.fetch(Request(f"http://127.0.0.1:{port}/"))
        values = [
            response.url,
            response.body,
            *(x for f in response.headers.items_raw() for x in f),
        ]
        assert {type(value) for value in values} == {str, bytes}


class TestCodings:
    @pytest.mark.parametrize(
        ("body", "fields"),
        [
            (gzip.compress(b"page"), [("Content-Encoding", "gzip")]),
            (gzip.compress(b"page"), [("content-encoding", "X-GZIP")]),
            (gzip.compress(brotli.compress(b"page")), [("Content-Encoding", "br, gzip")]),
            (
                gzip.compress(brotli.compress(b"page")),
                [("Content-Encoding", "br"), ("Content-Encoding", "gzip")],
            ),
            (b"page", [("Content-Encoding", "identity")]),
            (b"page", []),
        ],
    )
    async def test_are_undone(self, body: bytes, fields: list[tuple[str, str]]) -> None:
        async with (
            serving(keep_alive(lambda _: reply(body, *fields))) as port,
            downloader() as web,
        ):
            response = await web.fetch(Request(f"http://127.0.0.1:{port}/"))
            assert response.body == b"page"
            assert web.bytes_received == len(body)

    async def test_those_of_the_transfer_too(self) -> None:
        packed = gzip.compress(b"page")
        wire = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
            + f"{len(packed):x}\r\n".encode()
            + packed
            + b"\r\n0\r\n\r\n"
        )
        async with serving(keep_alive(lambda _: wire)) as port, downloader() as web:
            response = await web.fetch(Request(f"http://127.0.0.1:{port}/"))
        assert response.body == b"page"

    @pytest.mark.parametrize(
        ("body", "coding", "expected"),
        [
            (gzip.compress(b"page")[:-3], "gzip", "decode"),
            (b"<html>plain", "gzip", "decode"),
            (b"body", "compress", "decode"),
            (gzip.compress(bytes(1 << 21)), "gzip", "body_too_large"),
        ],
    )
    async def test_failures_have_their_codes(self, body: bytes, coding: str, expected: str) -> None:
        answer = reply(body, ("Content-Encoding", coding))
        async with (
            serving(keep_alive(lambda _: answer)) as port,
            downloader({"max_body": 1 << 20}) as web,
        ):
            assert await reason(web, f"http://127.0.0.1:{port}/") == expected
            assert await reason(web, f"http://127.0.0.1:{port}/") == expected

    async def test_a_large_body_is_finished_in_a_thread(self) -> None:
        page = os.urandom(1 << 20) * 4
        answer = reply(gzip.compress(page, 1), ("Content-Encoding", "gzip"))
        async with serving(keep_alive(lambda _: answer)) as port, downloader() as web:
            response = await web.fetch(Request(f"http://127.0.0.1:{port}/"))
        assert response.body == page

    async def test_an_empty_body_has_none(self) -> None:
        answer = reply(b"", ("Content-Encoding", "gzip"))
        async with serving(keep_alive(lambda _: answer)) as port, downloader() as web:
            assert (await web.fetch(Request(f"http://127.0.0.1:{port}/"))).body == b""


class TestCookies:
    async def test_come_back_to_their_session_only(self) -> None:
        server = Recorder(reply(b"", ("Set-Cookie", "id=1"), ("Set-Cookie", "lang=de; Path=/x")))
        async with serving(server.handler) as port, downloader() as web:
            url = f"http://127.0.0.1:{port}/x/y"
            await web.fetch(Request(url))
            assert server.field(b"Cookie") is None
            await web.fetch(Request(url, session="other"))
            assert server.field(b"Cookie") is None
            await web.fetch(Request(url))
            assert server.field(b"Cookie") == b"id=1; lang=de"
            await web.fetch(Request(url, cookies={"lang": "en", "own": "2"}))
            assert server.field(b"Cookie") == b"id=1; lang=en; own=2"
            await web.fetch(Request(url, headers={"cookie": "mine=3"}))
            assert server.field(b"Cookie") == b"mine=3"
            await web.fetch(Request(f"http://127.0.0.1:{port}/"))
            assert server.field(b"Cookie") is None

    async def test_survive_the_process(self) -> None:
        server = Recorder(reply(b"", ("Set-Cookie", "id=\xc3\xa4")))
        async with serving(server.handler) as port:
            request = Request(f"http://127.0.0.1:{port}/")
            async with downloader() as web:
                assert web.cookies() is None
                await web.fetch(request)
                stored = web.cookies()
                assert stored is not None
                await web.fetch(request)
                assert web.cookies() is None
            async with downloader() as web:
                web.load_cookies(stored)
                assert web.cookies() is None
                await web.fetch(request)
        assert server.field(b"Cookie") == b"id=\xc3\xa4"

    async def test_can_be_switched_off(self) -> None:
        server = Recorder(reply(b"", ("Set-Cookie", "id=1")))
        async with serving(server.handler) as port, downloader({"cookies": False}) as web:
            for _ in range(2):
                await web.fetch(Request(f"http://127.0.0.1:{port}/", cookies={"own": "2"}))
            assert server.field(b"Cookie") == b"own=2"
            assert web.cookies() is None

    @pytest.mark.parametrize(
        "stored", [b"", b"{}", b"[]", b"\xff", b'{"format":1,"jars":[[1,[]]]}']
    )
    async def test_damage_is_told(self, stored: bytes) -> None:
        async with downloader() as web:
            with pytest.raises(DamagedState):
                web.load_cookies(stored)


async def test_secrets_show_in_no_error() -> None:
    async with downloader({"timeout": 0.2}) as web:
        for url in (
            "http://127.0.0.1:1/?token=canary",
            "https://user:canary@127.0.0.1:1/?key=canary",
            "http://canary:canary@/",
        ):
            found = await outcome(web, Request(url, headers={"Authorization": "canary"}))
            assert isinstance(found, FetchError)
            assert "canary" not in f"{found} {found!r} {found.detail}"


async def test_an_echo_of_the_request_shows_in_no_error() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await head(reader))

    async with serving(echo) as port, downloader() as web:
        found = await outcome(web, f"http://127.0.0.1:{port}/?token=canary")
    assert isinstance(found, FetchError)
    assert found.reason == "protocol"
    assert "canary" not in f"{found} {found!r} {found.detail}"


async def test_closing_twice_is_closing_once() -> None:
    async with serving(keep_alive(lambda _: OK)) as port, downloader() as web:
        await web.fetch(Request(f"http://127.0.0.1:{port}/"))
        await web.aclose()
        await web.aclose()
    assert "1 sent" in repr(web)
