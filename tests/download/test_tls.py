"""TLS is verified, failures are told apart, nothing is ever downgraded."""

from __future__ import annotations

import asyncio
import socket
import ssl
from datetime import UTC, datetime

import pytest
import trustme

from scraper.errors import FetchError
from scraper.http import Request
from tests.download.raw import (
    OK,
    answering,
    downloader,
    outcome,
    outdated,
    reason,
    serving,
    serving_as,
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_a_good_certificate(authority: trustme.CA) -> None:
    async with (
        serving(answering(OK), tls=serving_as(authority, "127.0.0.1")) as port,
        downloader(tls=trusting(authority)) as web,
    ):
        assert await reason(web, f"https://127.0.0.1:{port}/") == "http_200"


async def test_an_unknown_issuer(authority: trustme.CA) -> None:
    async with (
        serving(answering(OK), tls=serving_as(authority, "127.0.0.1")) as port,
        downloader() as web,
    ):
        found = await outcome(web, f"https://127.0.0.1:{port}/")
    assert isinstance(found, FetchError)
    assert (found.reason, found.sent) == ("tls_untrusted", False)


@pytest.mark.parametrize(
    ("begins", "ends"), [(2000, 2001), (2090, 2091)], ids=["expired", "not valid yet"]
)
async def test_out_of_date(authority: trustme.CA, begins: int, ends: int) -> None:
    tls = serving_as(
        authority,
        "127.0.0.1",
        not_before=datetime(begins, 1, 1, tzinfo=UTC),
        not_after=datetime(ends, 1, 1, tzinfo=UTC),
    )
    async with (
        serving(answering(OK), tls=tls) as port,
        downloader(tls=trusting(authority)) as web,
    ):
        assert await reason(web, f"https://127.0.0.1:{port}/") == "tls_expired"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_another_hosts(authority: trustme.CA, host: str) -> None:
    async with (
        serving(answering(OK), tls=serving_as(authority, "elsewhere.test")) as port,
        downloader(tls=trusting(authority)) as web,
    ):
        assert await reason(web, f"https://{host}:{port}/") == "tls_hostname"


@pytest.mark.parametrize("verify", [True, False])
async def test_an_old_version(authority: trustme.CA, verify: bool) -> None:
    tls = outdated(serving_as(authority, "127.0.0.1"))

    def handshake() -> None:  # asyncio's own server drops the alert that says why
        connection, _ = listener.accept()
        with connection, pytest.raises(ssl.SSLError, match=r"(?i)version|protocol"):
            tls.wrap_socket(connection, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = asyncio.create_task(asyncio.to_thread(handshake))
        async with downloader({"verify_tls": verify}, tls=trusting(authority)) as web:
            port = listener.getsockname()[1]
            assert await reason(web, f"https://127.0.0.1:{port}/") == "tls_protocol"
            assert web.sent == 0
        await server


async def test_https_asked_of_plain_http() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with serving(plain) as port, downloader() as web:
        assert await reason(web, f"https://127.0.0.1:{port}/") == "protocol"


async def test_http_asked_of_tls(authority: trustme.CA) -> None:
    # OpenSSL hangs up without a word; a server that answers with an alert is `protocol`.
    async with (
        serving(answering(OK), tls=serving_as(authority, "127.0.0.1")) as port,
        downloader() as web,
    ):
        assert await reason(web, f"http://127.0.0.1:{port}/") in ("conn_reset", "protocol")
    async with serving(answering(b"\x15\x03\x01\x00\x02\x02\x46")) as port, downloader() as web:
        assert await reason(web, f"http://127.0.0.1:{port}/") == "protocol"


async def test_a_server_that_hangs_up_during_the_handshake() -> None:
    async def hang_up(*_: object) -> None:
        return

    async with serving(hang_up) as port, downloader() as web:
        found = await outcome(web, f"https://127.0.0.1:{port}/")
    assert isinstance(found, FetchError)
    assert (found.reason, found.sent) == ("conn_reset", False)


async def test_checks_are_lifted_for_the_hosts_that_say_so_and_that_is_logged_once(
    authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        serving(answering(OK), tls=serving_as(authority, "elsewhere.test")) as port,
        downloader(insecure_hosts=lambda host: host == "127.0.0.1") as web,
    ):
        assert await reason(web, f"https://127.0.0.1:{port}/") == "http_200"
        assert await reason(web, f"https://127.0.0.1:{port}/") == "http_200"
        assert await reason(web, f"https://localhost:{port}/") == "tls_untrusted"
    assert [record.getMessage() for record in caplog.records] == [
        "certificates of 127.0.0.1 are not checked (verify_tls = false)"
    ]


async def test_checks_are_lifted_for_all(authority: trustme.CA) -> None:
    async with (
        serving(answering(OK), tls=serving_as(authority, "elsewhere.test")) as port,
        downloader({"verify_tls": False}) as web,
    ):
        request = Request(f"https://127.0.0.1:{port}/")
        assert (await web.fetch(request)).body == b"ok"
