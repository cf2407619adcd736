"""What happens below HTTP: sockets that refuse, drop, dawdle and lie; names that do not resolve."""

from __future__ import annotations

import asyncio
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scraper.download import AiohttpDownloader, failures, wire
from scraper.download.failures import out_of_descriptors
from scraper.download.wire import is_private
from scraper.errors import REASONS, FetchError
from scraper.http import Request, Response
from tests.download.raw import (
    OK,
    answering,
    downloader,
    head,
    keep_alive,
    outcome,
    reason,
    reply,
    reset,
    serving,
)


async def failure(web: AiohttpDownloader, url: str | Request) -> FetchError:
    found = await outcome(web, url)
    assert isinstance(found, FetchError), found
    assert found.reason in REASONS
    return found


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class TestConnections:
    async def test_nothing_listens(self) -> None:
        async with downloader() as web:
            found = await failure(web, f"http://127.0.0.1:{closed_port()}/")
        assert (found.reason, found.detail, found.sent) == (
            "connect_refused",
            "ECONNREFUSED",
            False,
        )
        assert web.sent == 0

    async def test_a_reset_is_sent_once_and_reported_once(self) -> None:
        seen = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(await head(reader))
            reset(writer)

        async with serving(handler) as port, downloader() as web:
            found = await failure(web, f"http://127.0.0.1:{port}/")
            assert (found.reason, found.sent) == ("conn_reset", True)
            assert (len(seen), web.sent) == (1, 1)

    async def test_a_reset_within_the_body(self) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            await writer.drain()
            await gate.wait()
            reset(writer)

        gate = asyncio.Event()
        async with serving(handler) as port, downloader() as web:
            task = asyncio.create_task(outcome(web, f"http://127.0.0.1:{port}/"))
            while not web.sent:
                await asyncio.sleep(0)
            gate.set()
            found = await task
        assert isinstance(found, FetchError)
        assert found.reason in ("incomplete", "conn_reset")

    async def test_connections_are_kept(self) -> None:
        connections = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.append(writer)
            await keep_alive(lambda _: OK)(reader, writer)

        async with serving(handler) as port, downloader() as web:
            for _ in range(5):
                assert (await web.fetch(Request(f"http://127.0.0.1:{port}/"))).body == b"ok"
            assert (len(connections), web.sent, web.bytes_received) == (1, 5, 10)

    @pytest.mark.case(
        7, "a name with a dead ::1 and a live 127.0.0.1", "an item, within `timeout` = 1 s"
    )
    async def test_a_dead_first_address_costs_little(self) -> None:
        def both(host: bytes, port: int, *_: object, **__: object) -> list[object]:
            kind, tcp = socket.SOCK_STREAM, socket.IPPROTO_TCP
            return [
                (socket.AF_INET6, kind, tcp, "", ("::1", port, 0, 0)),
                (socket.AF_INET, kind, tcp, "", ("127.0.0.1", port)),
            ]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", both)
            async with serving(answering(OK)) as port, downloader({"timeout": 1}) as web:
                assert await reason(web, f"http://two.test:{port}/") == "http_200"


class TestStaleConnections:
    """Every other request on a kept connection is met by its end (RFC 9112, section 9.3.1)."""

    @staticmethod
    async def server(
        seen: list[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        seen.append(await head(reader))
        writer.write(OK)
        seen.append(await head(reader))
        # No answer to the second request: the connection ends.

    async def test_none_is_lost_and_none_is_double(self) -> None:
        seen: list[bytes] = []
        answered = []

        async def worker(urls: Iterator[str], web: AiohttpDownloader) -> None:
            for url in urls:
                response = await web.fetch(Request(url))
                answered.append(response.url)

        async with serving(lambda r, w: self.server(seen, r, w)) as port, downloader() as web:
            todo = [f"http://127.0.0.1:{port}/{n}" for n in range(60)]
            urls = iter(todo)
            await asyncio.gather(*(worker(urls, web) for _ in range(4)))
            assert sorted(answered) == sorted(todo)
            assert web.sent == len([request for request in seen if request])
            assert web.sent > len(todo)  # the ones sent again are told

    async def test_what_may_not_repeat_is_not_sent_again(self) -> None:
        seen: list[bytes] = []
        async with serving(lambda r, w: self.server(seen, r, w)) as port, downloader() as web:
            url = f"http://127.0.0.1:{port}/"
            await web.fetch(Request(url))
            found = await failure(web, Request(url, method="POST", body=b"x"))
            assert (found.reason, found.sent, web.sent) == ("conn_reset", True, 2)

    async def test_what_may_repeat_is(self) -> None:
        seen: list[bytes] = []
        async with serving(lambda r, w: self.server(seen, r, w)) as port, downloader() as web:
            url = f"http://127.0.0.1:{port}/"
            await web.fetch(Request(url))
            again = Request(url, method="POST", body=b"x", repeatable=True)
            assert (await web.fetch(again)).body == b"ok"
            assert web.sent == 3


class TestSlowness:
    async def test_silence_ends_at_the_timeout(self) -> None:
        async with serving(answering(close=False)) as port, downloader({"timeout": 0.05}) as web:
            found = await failure(web, f"http://127.0.0.1:{port}/")
        assert (found.reason, found.sent) == ("timeout", True)

    async def test_a_request_may_bring_its_own_timeout(self) -> None:
        async with serving(answering(close=False)) as port, downloader({"timeout": 600}) as web:
            request = Request(f"http://127.0.0.1:{port}/", timeout=0.05)
            assert await reason(web, request) == "timeout"

    async def test_silence_within_the_body(self) -> None:
        wire = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"
        async with (
            serving(answering(wire, close=False)) as port,
            downloader({"timeout": 0.05}) as web,
        ):
            assert await reason(web, f"http://127.0.0.1:{port}/") == "timeout"

    async def test_no_connection_in_time_means_nothing_was_sent(self) -> None:
        # A handshake that is never answered: the connection does not stand until TLS does.
        async with (
            serving(answering(close=False)) as port,
            downloader({"connect_timeout": 0.05}) as web,
        ):
            found = await failure(web, f"https://127.0.0.1:{port}/")
        assert (found.reason, found.sent) == ("timeout", False)

    @pytest.mark.case(
        3,
        "a body below `http.min_rate`",
        "`too_slow`; `timeout` where `min_rate = 0` or the timeout comes first",
    )
    async def test_a_trickle_is_too_slow(self) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(1000):
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.005)

        async with serving(handler) as port, downloader(rate_window=0.02) as web:
            found = await failure(web, f"http://127.0.0.1:{port}/")
            assert found.reason == "too_slow"
        async with (
            serving(handler) as port,
            downloader({"min_rate": 0, "timeout": 0.1}, rate_window=0.02) as web,
        ):
            assert await reason(web, f"http://127.0.0.1:{port}/") == "timeout"

    async def test_cancelling_passes_and_closes_the_connection(self) -> None:
        gone = asyncio.Event()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            try:
                await reader.read()
            finally:
                gone.set()

        async with serving(handler) as port, downloader() as web:
            task = asyncio.create_task(web.fetch(Request(f"http://127.0.0.1:{port}/")))
            while not web.sent:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(2):
                await gone.wait()


class TestNames:
    @pytest.mark.parametrize(
        ("number", "temporary"),
        [(socket.EAI_NONAME, False), (socket.EAI_FAIL, False), (socket.EAI_AGAIN, True)],
    )
    async def test_a_wrong_name_is_final_and_a_mute_server_is_not(
        self, monkeypatch: pytest.MonkeyPatch, number: int, temporary: bool
    ) -> None:
        def fail(*_: object, **__: object) -> object:
            raise socket.gaierror(number, "as asked")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        async with downloader() as web:
            found = await failure(web, "http://nowhere.test/?token=canary")
        assert (found.reason, found.temporary, found.sent) == ("dns", temporary, False)
        assert "canary" not in str(found)

    async def test_a_label_that_is_too_long(self) -> None:
        async with downloader({"timeout": 5}) as web:
            found = await failure(web, f"http://{'a' * 64}.invalid/")
        assert found.reason == "dns"


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "http://", "http://a b/", "ftp://h/", "file:///etc/passwd", "http://h:99999/"],
)
async def test_what_is_no_web_url(url: str) -> None:
    async with downloader() as web:
        assert (await failure(web, Request(url))).reason == "url_invalid"


async def test_a_header_with_a_line_break_never_reaches_the_wire() -> None:
    async with serving(answering(OK)) as port, downloader() as web:
        request = Request(f"http://127.0.0.1:{port}/", headers={"X": "a\r\nInjected: yes"})
        found = await failure(web, request)
        assert (found.reason, web.sent) == ("protocol", 0)
        assert "Injected" not in str(found)


class TestPrivateAddresses:
    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1",
            "0x7f.1",
            "2130706433",
            "[::ffff:7f00:1]",
            "[::ffff:127.0.0.1]",
            "[::1]",
            "169.254.169.254",
            "10.0.0.1",
            "0.0.0.0",
            "localhost",
        ],
    )
    async def test_are_refused(self, host: str) -> None:
        async with serving(answering(OK)) as port, downloader({"allow_private": False}) as web:
            found = await failure(web, f"http://{host}:{port}/")
            assert (found.reason, found.sent, web.sent) == ("private_address", False, 0)

    @pytest.mark.case(
        69,
        "a name that resolves to a public address first and to 127.0.0.1 afterwards (rebinding)",
        "`private_address`: what is judged is the very address that a socket is opened for",
    )
    async def test_a_name_that_comes_to_mean_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        public = "127.1.0.9"  # stands for one: there is no public host to connect to in a test
        answers = [public, "127.0.0.1"]

        def rebound(host: bytes, port: int, *_: object, **__: object) -> list[object]:
            address = (answers.pop(0), port)
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]

        monkeypatch.setattr(socket, "getaddrinfo", rebound)
        monkeypatch.setattr(wire, "is_private", lambda ip: ip != public and is_private(ip))
        monkeypatch.setattr(wire, "DNS_TTL", 0)
        once = answering(reply(b"ok", ("Connection", "close")))
        guarded = downloader({"allow_private": False})
        async with serving(once, host="0.0.0.0") as port, guarded as web:
            assert await reason(web, f"http://public.test:{port}/") == "http_200"
            found = await failure(web, f"http://public.test:{port}/")
            assert (found.reason, web.sent) == ("private_address", 1)

    async def test_are_allowed_by_default(self) -> None:
        async with serving(answering(OK)) as port, downloader() as web:
            assert await reason(web, f"http://0x7f.1:{port}/") == "http_200"

    @pytest.mark.parametrize(
        ("address", "private"),
        [
            ("93.184.215.14", False),
            ("2606:4700:4700::1111", False),
            ("100.64.0.1", True),
            ("224.0.0.1", True),
            ("fe80::1%eth0", True),
            ("64:ff9b::7f00:1", True),
            ("64:ff9b::808:808", False),
            ("2002:7f00:1::", True),
            ("::7f00:1", True),
            ("2001:0:4136:e378:8000:63bf:80ff:fffe", True),
        ],
    )
    def test_which_are(self, address: str, private: bool) -> None:
        assert is_private(address) is private


SERVER = """
import asyncio

async def serve(reader, writer):
    try:
        while await reader.readuntil(b"\\r\\n\\r\\n"):
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()

async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs all of 127.0.0.0/8, and /proc")
async def test_with_few_file_descriptors_it_is_slower_but_alive() -> None:
    hosts, workers = 100, 16
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # In a process of its own, or it would starve with us.
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE)
    assert server.stdout is not None
    port = int(server.stdout.readline())
    done: list[Response] = []
    starved = 0

    async def crawl(urls: Iterator[str], web: AiohttpDownloader) -> None:
        for url in urls:
            response = await web.fetch(Request(url))
            done.append(response)

    def counting(error: Exception) -> bool:
        nonlocal starved
        starved += out_of_descriptors(error)
        return out_of_descriptors(error)

    try:
        used = len(list(Path("/proc/self/fd").iterdir()))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + workers // 2, hard))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(failures, "out_of_descriptors", counting)
            async with downloader(concurrency=workers) as web:
                urls = iter([f"http://127.0.0.{n}:{port}/" for n in range(1, hosts + 1)])
                await asyncio.gather(*(crawl(urls, web) for _ in range(workers)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        server.kill()
        server.wait()
        server.stdout.close()
    assert len(done) == hosts
    assert starved > 0
