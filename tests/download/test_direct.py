"""The short way of plain requests: it is taken, and tells what aiohttp's session would."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from scraper.download import AiohttpDownloader, client, direct
from scraper.errors import FetchError
from scraper.http import Request
from tests.download.raw import OK, answering, downloader, head, keep_alive, outcome, reply, serving

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"

ANSWERS = [
    OK,
    reply(b"", status=204, length=False),
    reply(b"gone", ("X", "1"), ("x", "2"), ("Set-Cookie", "a=1"), status=404),
    reply(gzip.compress(b"squeezed"), ("Content-Encoding", "gzip")),
    reply(b"until the end", length=False),
    reply(b"no more", ("Connection", "close")),
    reply("ä".encode(), ("X", "é\xff")),
    reply(b"x" * 300_000),
    CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
    EARLY + EARLY + OK,
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/1.1 000 X\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Len",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokMORE",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n",
    b"",
]
"""What a server sends to a request, whole or broken."""

REQUESTS: list[dict[str, Any]] = [
    {},
    {"method": "HEAD"},
    {"headers": {"user-agent": "other", "X-Own": "ä", "x-own": "twice", "HOST": "elsewhere"}},
    {"headers": {"X": "a\r\nInjected: yes"}},
    {"headers": {"X\n": "a"}},
    {"cookies": {"sid": "1"}, "timeout": 3},
    {"method": "POST"},
    {"method": "OPTIONS"},
    {"body": b"given", "method": "GET"},
]


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Twice: with the short way, and without."""

    def each() -> Iterator[bool]:
        for short in (True, False):
            monkeypatch.setattr(client, "KNOWN", short)
            yield short

    return each()


async def told(web: AiohttpDownloader, request: Request) -> object:
    found = await outcome(web, request)
    if isinstance(found, FetchError):
        return found.reason, found.detail, found.sent, found.sends
    return found.status, found.headers.items_raw(), found.body


def test_the_installed_aiohttp_is_one_that_it_is_for() -> None:
    """Else all goes through the session: right, and at three times the cost. Then look at what of
    `aiohttp.ClientSession._request` and `ClientResponse.start` changed, and at `KNOWN`."""
    assert direct.KNOWN, aiohttp.__version__


async def test_it_is_taken_by_plain_requests_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = direct.Direct.ask

    async def noted(self: direct.Direct, method: str, *args: Any) -> direct.Answer:
        asked.append(method)
        return await ask(self, method, *args)

    monkeypatch.setattr(direct.Direct, "ask", noted)
    expected = ["GET", "HEAD", "GET", "GET", "GET", "GET"]
    async with serving(answering(OK)) as port, downloader() as web:
        url = f"http://127.0.0.1:{port}/"
        for options in REQUESTS:
            await outcome(web, Request(url, **options))
        assert asked == expected
        await outcome(web, Request(url, headers={"Expect": "100-continue"}, timeout=0.05))
        await outcome(web, Request(url, proxy=url))
        await web.fetch(Request(url), fresh=True)
        assert asked == expected


async def test_both_ways_send_the_same(ways: Iterator[bool]) -> None:
    seen: dict[bool, list[object]] = {True: [], False: []}
    for short in ways:

        def answer(request: bytes, seen: list[object] = seen[short]) -> bytes:
            seen.append(request.replace(str(port).encode(), b"port"))
            return OK if request[:4] != b"HEAD" else OK[:-2]

        async with (
            serving(keep_alive(answer)) as port,
            downloader({"headers": {"Accept-Language": "en", "Authorization": "x"}}) as web,
        ):
            for options in REQUESTS:
                request = Request(f"http://127.0.0.1:{port}/a?b#c", **options)
                seen[short].append(await told(web, request))
            seen[short].append(web.sent)
    assert seen[True] == seen[False]
    assert len(seen[True]) > 2 * len(REQUESTS) - 2


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_both_ways_read_the_same(ways: Iterator[bool], method: str) -> None:
    results: dict[bool, list[object]] = {True: [], False: []}
    for short in ways:
        async with downloader({"max_body": 200_000}) as web:
            for wire in ANSWERS:
                async with serving(answering(wire)) as port:
                    request = Request(f"http://127.0.0.1:{port}/", method=method)
                    results[short].append(await told(web, request))
            results[short] += [web.sent, web.bytes_received]
    assert results[True] == results[False]


async def test_both_ways_keep_connections_alike(ways: Iterator[bool]) -> None:
    """Kept while the server does, sent again once when it had closed a kept one."""
    results: dict[bool, tuple[int, int, list[object]]] = {}
    for short in ways:
        connections = 0

        async def handler(reader: Any, writer: Any) -> None:
            nonlocal connections
            connections += 1
            for _ in range(2):
                await head(reader)
                writer.write(OK)
            if connections == 1:
                await head(reader)  # and hangs up instead of an answer

        async with serving(handler) as port, downloader() as web:
            request = Request(f"http://127.0.0.1:{port}/")
            answers = [await told(web, request) for _ in range(4)]
            results[short] = connections, web.sent, answers
    assert results[True] == results[False]
    assert results[True][1] == 5


async def test_more_origins_than_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "MAX_ORIGINS", 1)
    async with (
        serving(keep_alive(lambda _: OK)) as one,
        serving(keep_alive(lambda _: OK)) as other,
        downloader() as web,
    ):
        for port in (one, other, one):
            assert (await web.fetch(Request(f"http://127.0.0.1:{port}/"))).body == b"ok"
