"""Through a proxy: plain requests, tunnels, refusals, deaths; credentials never show."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode

import pytest
import trustme

from scraper.errors import FetchError
from scraper.http import Request, Response
from tests.download.raw import (
    OK,
    Handler,
    answering,
    downloader,
    head,
    outcome,
    reason,
    reply,
    serving,
)

CREDENTIALS = b"Proxy-Authorization: Basic " + b64encode(b"user:canary")


async def test_a_plain_request_goes_to_the_proxy_with_its_credentials() -> None:
    seen: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await head(reader):
            seen.append(request)
            writer.write(OK)

    async with (
        serving(proxy) as port,
        downloader({"proxy": f"http://user:canary@127.0.0.1:{port}"}) as web,
    ):
        for _ in range(2):
            assert await reason(web, "http://site.test/a%2Fb?c=%zz") == "http_200"
    for request in seen:
        assert request.startswith(b"GET http://site.test/a%2Fb?c=%zz HTTP/1.1\r\n")
        assert CREDENTIALS in request


async def test_a_request_may_name_its_own_proxy() -> None:
    async with serving(answering(reply(b"by proxy"))) as port, downloader() as web:
        request = Request("http://site.test/", proxy=f"http://127.0.0.1:{port}")
        assert (await web.fetch(request)).body == b"by proxy"


async def test_the_environment_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with serving(answering(OK)) as port, downloader() as web:
        assert await reason(web, f"http://127.0.0.1:{port}/") == "http_200"


def tunnelling(seen: list[bytes], target: int, *, cut: bool = False) -> Handler:
    """A proxy that answers CONNECT and passes bytes on to *target*; or dies once it has."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await head(reader))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        if cut:
            return
        there, back = await asyncio.open_connection("127.0.0.1", target)
        try:
            await asyncio.wait(
                [
                    asyncio.ensure_future(pump(reader, back)),
                    asyncio.ensure_future(pump(there, writer)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            back.close()

    return handler


async def test_a_tunnel() -> None:
    authority, seen = trustme.CA(), list[bytes]()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("site.test").configure_cert(server)
    authority.configure_trust(client)
    async with (
        serving(answering(OK), tls=server) as target,
        serving(tunnelling(seen, target)) as port,
    ):
        proxy = f"http://user:canary@127.0.0.1:{port}"
        async with downloader({"proxy": proxy}, tls=client) as web:
            assert await reason(web, "https://site.test/secret?path") == "http_200"
            assert web.sent == 1
            assert await reason(web, "https://other.test/") == "tls_hostname"
    assert seen[0].startswith(b"CONNECT site.test:443 HTTP/1.1\r\n")
    assert CREDENTIALS in seen[0]
    assert b"path" not in b"".join(seen)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (reply(status=407), "proxy_auth"),
        (reply(status=502), "proxy_connect"),
        (reply(status=504), "proxy_connect"),
        (b"", "proxy_connect"),
    ],
    ids=["407", "502", "504", "dies"],
)
async def test_refusals(scheme: str, answer: bytes, expected: str) -> None:
    async with (
        serving(answering(answer)) as port,
        downloader({"proxy": f"http://user:canary@127.0.0.1:{port}"}) as web,
    ):
        found = await outcome(web, f"{scheme}://site.test/?token=canary")
    assert isinstance(found, FetchError)
    assert found.reason == expected
    assert "canary" not in f"{found!s} {found!r} {found.detail}"
    assert found.__cause__ is None
    assert found.__context__ is None


async def test_a_502_is_a_response_for_whoever_accepts_it() -> None:
    async with (
        serving(answering(reply(b"why", status=502))) as port,
        downloader({"proxy": f"http://127.0.0.1:{port}"}) as web,
    ):
        found = await outcome(web, Request("http://site.test/", accept={502}))
    assert isinstance(found, Response)
    assert (found.status, found.body) == (502, b"why")


async def test_a_death_within_the_tunnel() -> None:
    async with (
        serving(tunnelling([], 0, cut=True)) as port,
        downloader({"proxy": f"http://127.0.0.1:{port}"}) as web,
    ):
        assert await reason(web, "https://site.test/") == "proxy_connect"


async def test_a_proxy_that_is_not_there() -> None:
    async with serving(answering(OK)) as port:
        pass
    async with downloader({"proxy": f"http://127.0.0.1:{port}"}) as web:
        found = await outcome(web, "http://site.test/")
    assert isinstance(found, FetchError)
    assert (found.reason, found.sent) == ("proxy_connect", False)


async def test_a_proxy_that_is_none() -> None:
    async with downloader() as web:
        found = await outcome(web, Request("http://a.test/", proxy="socks5://user:canary@h:1"))
    assert isinstance(found, FetchError)
    assert (found.reason, found.temporary) == ("proxy_connect", False)
    assert "canary" not in str(found)


@pytest.mark.case(
    69,
    "the guard, and requests through a proxy on a private address",
    "the proxy is reached; literals of private hosts and `localhost` end `private_address`; other"
    " names are the proxy's to resolve",
)
async def test_the_guard_minds_targets_and_not_the_proxy() -> None:
    async with serving(answering(OK)) as port:
        options = {"proxy": f"http://127.0.0.1:{port}", "allow_private": False}
        async with downloader(options) as web:
            assert await reason(web, "http://site.test/") == "http_200"
            assert await reason(web, "http://169.254.169.254/") == "private_address"
            assert await reason(web, "http://localhost./") == "private_address"
            assert web.sent == 1
