"""The table of what comes over the wire: cases 1 to 30, and how each must end."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import brotli
import trustme
import zstandard

from tests.download.raw import outdated, raw_deflate, reply, serving_as
from tests.hostile.wild import Behaviour, Host, body, ok, reset, says, silent

__all__ = ["BOMBS", "CASES", "CONTROL", "Case", "authority", "light"]

CONTROL = "127.2.0.1"
"""The host that does all right."""

TRIES = 3

PAGE = b"<!doctype html><title>page</title><h1>page</h1><p>a page like any other</p>"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
CHUNKED = PLAIN + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
SIZED = body(PAGE)


@cache
def authority() -> trustme.CA:
    """Who signs the certificates that are good."""
    return trustme.CA()


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One host and how its one URL must end.

    `ends`: a reason code, or "item". `tries`: how often the host must have been asked, besides for
    its robots.txt; None where no request can come through.
    """

    number: int
    input: str
    behaviour: Behaviour
    ends: str
    tries: int | None = 1
    note: str = ""
    tls: Callable[[str], ssl.SSLContext] | None = None
    url: str = ""
    timeout: float | None = None
    raw: bool = False
    refuses: bool = False

    @property
    def outcome(self) -> str:
        """For the documentation."""
        said = "an item" if self.ends == "item" else f"`{self.ends}`, no item"
        if self.tries == 1:
            said += ", asked once"
        elif self.tries is not None:
            said += f", asked {self.tries} times in all"
        return f"{said}; {self.note}" if self.note else said

    def host(self, address: str) -> Host:
        tls = self.tls(address) if self.tls else None
        return Host(self.behaviour, tls, self.raw, self.refuses)


# -- certificates ------------------------------------------------------------------------------


def served(
    *names: str, ca: Callable[[], trustme.CA] = authority, years: tuple[int, int] | None = None
) -> Callable[[str], ssl.SSLContext]:
    """A server's TLS with a certificate for *names*, or for the host's own address."""

    def make(address: str) -> ssl.SSLContext:
        begins, ends = (datetime(y, 1, 1, tzinfo=UTC) for y in years) if years else (None, None)
        return serving_as(ca(), *(names or (address,)), not_before=begins, not_after=ends)

    return make


def old(address: str) -> ssl.SSLContext:
    return outdated(served()(address))


# -- behaviours --------------------------------------------------------------------------------


async def drip(
    host: Host, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """One byte a second, for as long as somebody listens."""
    writer.write(PLAIN + b"Content-Length: 10000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(1)


async def plain_http(
    host: Host, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """What a web server says to a client that begins with TLS."""
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    return False


async def dies_in_the_tunnel(
    host: Host, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await writer.drain()
    await reader.read(1)
    return False


def coded(coding: str, wire: bytes) -> Behaviour:
    return says(body(wire, ("Content-Encoding", coding)))


def bomb(coding: str) -> Behaviour:
    """100 MB that travel as less than a hundredth of it. They are made by `light`, beforehand."""

    async def behaviour(
        host: Host, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        writer.write(body(light(coding), ("Content-Encoding", coding)))
        return False

    return behaviour


BOMBS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data),
    "deflate": lambda data: zlib.compress(data),
    "br": lambda data: brotli.compress(data, quality=1),
    "zstd": lambda data: zstandard.compress(data),
    "gzip, gzip": lambda data: gzip.compress(gzip.compress(data)),
}


@cache
def light(coding: str) -> bytes:
    """What a bomb is on the wire."""
    return BOMBS[coding](bytes(100_000_000))


# -- the table ---------------------------------------------------------------------------------

TRANSPORT = [
    Case(1, "the connection is reset (RST)", reset, "conn_reset", TRIES),
    Case(2, "a server that accepts and never answers", silent, "timeout", TRIES, timeout=2),
    Case(3, "one byte a second", drip, "timeout", TRIES, "or `too_slow`, what is first", timeout=2),
    Case(4, "closed without a reply", says(b""), "conn_reset", TRIES),
    Case(
        8,
        "an expired certificate",
        ok,
        "tls_expired",
        None,
        "never downgraded",
        tls=served(years=(2000, 2001)),
    ),
    Case(
        8, "a certificate for another host", ok, "tls_hostname", None, tls=served("elsewhere.test")
    ),
    Case(8, "an unknown issuer", ok, "tls_untrusted", None, tls=served(ca=trustme.CA)),
    Case(8, "TLS 1.1 at most", ok, "tls_protocol", None, tls=old, refuses=True),
    Case(8, "a good certificate", ok, "item", tls=served()),
    Case(
        9,
        "HTTP on a port for TLS",
        plain_http,
        "protocol",
        None,
        url="https://{host}/",
        raw=True,
    ),
    Case(
        9,
        "TLS on a port for HTTP",
        says(b"\x15\x03\x01\x00\x02\x02\x46"),
        "protocol",
        note="`conn_reset` where the server hangs up instead of sending its alert",
    ),
    Case(10, "a proxy answers 407", says(reply(status=407)), "proxy_auth", 1, url="{proxy}"),
    Case(10, "a proxy answers 502", says(reply(status=502)), "proxy_connect", TRIES, url="{proxy}"),
    Case(
        10,
        "a proxy dies within the tunnel",
        dies_in_the_tunnel,
        "proxy_connect",
        TRIES,
        url="{tunnel}",
    ),
]

FRAMING = [
    Case(
        13,
        "a body shorter than its Content-Length",
        says(PLAIN + b"Content-Length: 1000\r\n\r\n" + PAGE),
        "incomplete",
        TRIES,
    ),
    Case(
        14,
        "more bytes than the Content-Length says",
        says(SIZED + b"MORE"),
        "protocol",
        note="what follows belongs to no request, so the connection cannot be trusted",
    ),
    Case(15, "a chunk size that is no number", says(CHUNKED + b"zz\r\nabc\r\n" + END), "protocol"),
    Case(15, "a negative chunk size", says(CHUNKED + b"-3\r\nabc\r\n" + END), "protocol"),
    Case(
        15,
        "a chunk size of 17 digits",
        says(CHUNKED + b"fffffffffffffffff\r\nabc\r\n" + END),
        "protocol",
    ),
    Case(15, "a chunk that is cut", says(CHUNKED + b"50\r\nabc"), "incomplete", TRIES),
    Case(15, "no last chunk", says(CHUNKED + b"3\r\nabc\r\n"), "incomplete", TRIES),
    Case(
        16,
        "Content-Length and Transfer-Encoding",
        says(PLAIN + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n" + END),
        "protocol",
    ),
    Case(
        16,
        "two Content-Lengths that differ",
        says(PLAIN + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc"),
        "protocol",
    ),
    Case(
        16, "a negative Content-Length", says(PLAIN + b"Content-Length: -2\r\n\r\nab"), "protocol"
    ),
    Case(
        16,
        "a Content-Length of 20 digits",
        says(PLAIN + b"Content-Length: 99999999999999999999\r\n\r\nab"),
        "protocol",
    ),
    Case(
        17,
        "the same Content-Length twice",
        says(PLAIN + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok"),
        "protocol",
        note="RFC 9112, section 6.3 lets a recipient refuse it",
    ),
    Case(18, "a header field of 9 KB", says(body(PAGE, ("X-Long", "a" * 9_000))), "item"),
    Case(
        18,
        "a Content-Security-Policy of 12 KB",
        says(body(PAGE, ("Content-Security-Policy", "b" * 12_000))),
        "item",
    ),
    Case(18, "200 header fields", says(body(PAGE, *((f"X-{n}", "c") for n in range(200)))), "item"),
    Case(
        19,
        "header fields without end",
        says(PLAIN, *[b"A: b\r\n" * 100] * 200),
        "headers_too_large",
    ),
    Case(
        20,
        "NUL in a header field",
        says(PLAIN + b"X: a\x00b\r\nContent-Length: 2\r\n\r\nok"),
        "protocol",
    ),
    Case(
        20,
        "a control byte in a header field",
        says(PLAIN + b"X: a\x01b\r\nContent-Length: 2\r\n\r\nok"),
        "item",
        note="the value is kept as it is, and escaped where it is shown",
    ),
    Case(
        20,
        "a header line without a colon",
        says(PLAIN + b"no colon here\r\nContent-Length: 2\r\n\r\nok"),
        "protocol",
    ),
    Case(
        21,
        "50 times 100 Continue, then the answer",
        says(b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + SIZED),
        "item",
    ),
    Case(
        21,
        "103 Early Hints, then the answer",
        says(b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n" + SIZED),
        "item",
    ),
    Case(
        21,
        "101 Switching Protocols that nobody asked for",
        says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        "protocol",
    ),
    Case(22, "status 000", says(b"HTTP/1.1 000 X\r\n\r\n"), "protocol"),
    Case(22, "status 99", says(b"HTTP/1.1 99 X\r\n\r\n"), "protocol"),
    Case(22, "status abc", says(b"HTTP/1.1 abc X\r\n\r\n"), "protocol"),
    Case(22, "HTTP/0.9", says(b"<html>HTTP/0.9 lives</html>"), "protocol"),
    Case(22, "the banner of an SSH server", says(b"SSH-2.0-OpenSSH_9.6\r\n"), "protocol"),
    Case(
        23,
        "204 with a body",
        says(b"HTTP/1.1 204 No Content\r\n\r\nstray bytes"),
        "protocol",
        note="204 has no body, so the bytes belong to no request",
    ),
]

GZIP = gzip.compress(PAGE)

COMPRESSION = [
    *(
        Case(24, f"100 MB as {coding.replace(',', ' within')}", bomb(coding), "body_too_large")
        for coding in BOMBS
    ),
    Case(25, "gzip cut short", coded("gzip", GZIP[:-9]), "decode"),
    Case(25, "br cut short", coded("br", brotli.compress(PAGE)[:-3]), "decode"),
    Case(25, "zstd cut short", coded("zstd", zstandard.compress(PAGE)[:-3]), "decode"),
    Case(25, "deflate cut short", coded("deflate", zlib.compress(PAGE)[:-5]), "decode"),
    Case(26, "50,000 empty gzip members", coded("gzip", gzip.compress(b"") * 50_000), "item"),
    Case(27, "gzip with a wrong CRC", coded("gzip", GZIP[:-8] + bytes(8)), "decode"),
    Case(
        27,
        "bytes after the last gzip member",
        coded("gzip", GZIP + b"trailing"),
        "item",
        note="they are ignored, as gzip(1) does",
    ),
    Case(28, "a plain body that is labelled gzip", coded("gzip", PAGE), "decode"),
    Case(29, "x-gzip", coded("x-gzip", GZIP), "item"),
    Case(29, "gzip within gzip", coded("gzip, gzip", gzip.compress(GZIP)), "item"),
    Case(29, "deflate without its zlib wrapper", coded("deflate", raw_deflate(PAGE)), "item"),
    Case(30, "a coding that nobody knows", coded("rot13", PAGE), "decode"),
]

CASES = [*TRANSPORT, *FRAMING, *COMPRESSION]
