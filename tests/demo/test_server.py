"""The shop over real sockets: HTTP as the RFC has it, and the habits of real sites."""

from __future__ import annotations

import contextlib
import errno
import gzip
import http.client
import socket
import threading
from collections.abc import Iterator

import pytest

from scraper.demo import DemoShop, serve_in_thread
from scraper.demo.content import LATIN_1
from scraper.demo.site import COOKIE, OUTAGE, ZIPPED


@pytest.fixture
def shop() -> Iterator[DemoShop]:
    with serve_in_thread(DemoShop()) as shop:
        yield shop


@pytest.fixture
def client(shop: DemoShop) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", shop.port, timeout=10)
    yield connection
    connection.close()


def get(
    client: http.client.HTTPConnection, path: str, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    client.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    response = client.getresponse()
    return response, response.read()


def raw(shop: DemoShop, sent: bytes) -> bytes:
    """What comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", shop.port), timeout=10) as line:
        line.sendall(sent)
        line.shutdown(socket.SHUT_WR)
        received = b""
        while data := line.recv(65_536):
            received += data
    return received


def test_pages_come_over_one_kept_connection(
    shop: DemoShop, client: http.client.HTTPConnection
) -> None:
    response, body = get(client, "/")
    line = client.sock
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Date"].endswith("GMT")
    assert body == shop.site.answer("/").body
    get(client, "/catalogue/page-2.html")
    assert client.sock is line
    assert [(hit.method, hit.path, hit.status) for hit in shop.log] == [
        ("GET", "/", 200),
        ("GET", "/catalogue/page-2.html", 200),
    ]
    assert shop.log[0].time <= shop.log[1].time


def test_head_has_the_length_and_no_body(
    shop: DemoShop, client: http.client.HTTPConnection
) -> None:
    client.request("HEAD", "/")
    response = client.getresponse()
    assert response.read() == b""
    assert int(response.headers["Content-Length"]) == len(shop.site.answer("/").body)
    assert get(client, "/")[0].status == 200, "the connection is still in step"


def test_rare_books_ask_for_a_cookie_first(
    shop: DemoShop, client: http.client.HTTPConnection
) -> None:
    path = "/catalogue/category/books/rare-books_52/index.html"
    away, _ = get(client, path)
    assert away.status == 302
    back, _ = get(client, away.headers["Location"])
    assert (back.status, back.headers["Location"]) == (302, path)
    cookie = back.headers["Set-Cookie"].partition(";")[0]
    response, body = get(client, path, Cookie=f"other=1; {cookie}")
    assert response.status == 200
    assert b"Rare Books" in body
    assert get(client, path, Cookie=f"not{COOKIE}=1")[0].status == 302


def test_the_outage_ends_when_it_said(client: http.client.HTTPConnection) -> None:
    assert get(client, "/catalogue/page-6.html")[0].status == 200
    first, _ = get(client, OUTAGE)
    assert first.status == 503
    assert first.headers["Retry-After"] == "1"


def test_without_an_outage_the_page_is_there() -> None:
    with serve_in_thread(DemoShop(outage=0)) as shop:
        client = http.client.HTTPConnection("127.0.0.1", shop.port, timeout=10)
        assert get(client, OUTAGE)[0].status == 200
        client.close()


def test_the_outage_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("scraper.demo.server.time.monotonic", lambda: now[0])
    shop = DemoShop(outage=2.5)

    def ask() -> bytes:
        return shop.respond("GET", OUTAGE, {}, close=False)

    assert ask().startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 3\r\n" in ask()
    now[0] += 2.4
    assert b"Retry-After: 1\r\n" in ask()
    now[0] += 0.2
    assert ask().startswith(b"HTTP/1.1 200 ")
    assert [hit.status for hit in shop.log] == [503, 503, 503, 200]


def test_one_page_is_compressed_for_those_who_can_read_it(
    shop: DemoShop, client: http.client.HTTPConnection
) -> None:
    zipped, body = get(client, ZIPPED, Accept_Encoding="br, gzip;q=0.5")
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert zipped.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(body) == shop.site.answer(ZIPPED).body
    plain, body = get(client, ZIPPED, Accept_Encoding="br, gzip;q=0")
    assert "Content-Encoding" not in plain.headers
    assert body == shop.site.answer(ZIPPED).body


def test_latin_1_pages_travel_as_they_are(
    shop: DemoShop, client: http.client.HTTPConnection
) -> None:
    book = next(b for b in shop.site.books if b.category == LATIN_1)
    response, body = get(client, f"/catalogue/{book.slug}/index.html")
    assert response.headers["Content-Type"] == "text/html; charset=ISO-8859-1"
    assert "£".encode("iso-8859-1") in body


def test_errors_are_pages_and_keep_the_connection(client: http.client.HTTPConnection) -> None:
    response, body = get(client, "/nowhere")
    assert response.status == 404
    assert b"Not found" in body
    assert get(client, "/robots.txt")[0].status == 200


def test_only_showing(shop: DemoShop) -> None:
    answer = raw(
        shop, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 22\r\n\r\nGET /x HTTP/1.1\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"Allow: GET, HEAD\r\n" in answer
    assert answer.count(b"HTTP/1.1 ") == 1, "the body is not taken for a request"


def test_pipelined_requests_are_answered_in_order(shop: DemoShop) -> None:
    paths = [f"/catalogue/page-{n}.html" for n in (1, 2, 3)]
    wire = "".join(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n" for path in paths).encode()
    answer = raw(shop, wire)
    expected = [shop.site.answer(path).body for path in paths]
    positions = [answer.find(body) for body in expected]
    assert -1 not in positions
    assert positions == sorted(positions)
    assert [hit.path for hit in shop.log] == paths


def test_requests_may_come_in_pieces(shop: DemoShop) -> None:
    wire = b"GET /robots.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", shop.port), timeout=10) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(wire)):
            line.sendall(wire[i : i + 1])
        received = b""
        while data := line.recv(65_536):
            received += data
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (b"GET http://shop.test/robots.txt HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000, 431),
    ],
)
def test_odd_requests(shop: DemoShop, wire: bytes, status: int) -> None:
    answer = raw(shop, wire)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert [hit.status for hit in shop.log] == [status]


def test_odd_paths_are_not_kept(shop: DemoShop, client: http.client.HTTPConnection) -> None:
    for n in range(50):
        get(client, f"/nothing-{n}")
        get(client, f"/?page={n}")
    assert not shop._wire


def test_closing_hangs_up() -> None:
    others = set(threading.enumerate())  # another test's shop may be open for longer
    with serve_in_thread(DemoShop()) as shop:
        line = socket.create_connection(("127.0.0.1", shop.port), timeout=10)
        line.sendall(b"HEAD /robots.txt HTTP/1.1\r\nHost: a\r\n\r\n")
        assert line.recv(65_536).startswith(b"HTTP/1.1 200 ")
    with line, contextlib.suppress(ConnectionResetError):
        assert line.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", shop.port), timeout=10)
    assert "demo-shop" not in {thread.name for thread in set(threading.enumerate()) - others}


def test_a_taken_port_is_an_error_or_a_free_one(shop: DemoShop) -> None:
    with pytest.raises(OSError) as raised, serve_in_thread(DemoShop(shop.port)):
        pass
    assert raised.value.errno == errno.EADDRINUSE
    with serve_in_thread(DemoShop(shop.port, fallback=True)) as other:
        assert other.port not in (0, shop.port)
        assert other.url == f"http://127.0.0.1:{other.port}/"


async def test_it_is_a_context_manager_on_the_running_loop() -> None:
    async with DemoShop() as shop:
        server = shop._server
        assert server is not None
        assert {s.getsockname()[0] for s in server.sockets} == {"127.0.0.1"}
    assert not server.is_serving()
    await shop.aclose()
