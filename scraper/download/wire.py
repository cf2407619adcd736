"""aiohttp, set up for a crawler: sessions, sockets, names. Nothing here outlives its downloader."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Protocol
from weakref import ReferenceType, WeakKeyDictionary, ref

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType

from scraper.config import Http
from scraper.errors import FetchError

__all__ = [
    "PRIVATE",
    "Counters",
    "Dropped",
    "Pace",
    "Resolver",
    "is_private",
    "is_private_literal",
    "session",
]

DNS_TTL = 60  # seconds
DNS_NAMES = 10_000
KEEP_ALIVE = 15.0  # seconds that an idle connection is kept
MIN_KEPT = 8  # connections
PRIVATE = "private address"
ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


class Exchange(Protocol):
    """An exchange, as far as it matters whether its connection is in use."""

    @property
    def closed(self) -> bool: ...


@dataclass(slots=True)
class Counters:
    """What went over the wire, and the connections that served at least one exchange."""

    keep: int  # connections that are kept open, at most
    sent: int = 0
    used: WeakKeyDictionary[Any, list[ReferenceType[Exchange]]] = field(
        default_factory=WeakKeyDictionary
    )  # protocol to its last exchange, held weakly: that one holds the protocol

    def answered(self, protocol: Any, exchange: Exchange) -> None:
        """*exchange* has its answer's header, by *protocol*: too many of these are not kept."""
        last = self.used.get(protocol)
        if last is None:
            self.used[protocol] = [ref(exchange)]
        else:  # to write a weak key costs ten times what it costs to read it
            last[0] = ref(exchange)
        if len(self.used) > self.keep:
            protocol.force_close()

    def dropped(self, protocol: Any, error: Exception) -> Dropped:
        """What it means that *protocol* ended by *error* before the answer's header did."""
        partial = not isinstance(getattr(error, "message", ""), str)
        return Dropped(reused=protocol in self.used, partial=partial)

    def close_idle(self) -> None:
        """Close the connections that wait for their next exchange, and keep fewer from now on."""
        self.keep = max(MIN_KEPT, min(self.keep, len(self.used) // 2))
        for protocol, [last] in list(self.used.items()):
            exchange = last()
            if exchange is None or exchange.closed:
                protocol.close()


class Pace:
    """How fast a body comes. *least*: bytes a second, measured over *window* seconds."""

    __slots__ = ("_before", "_least", "_since", "_window")

    def __init__(self, least: int, window: float, size: int) -> None:
        self._least = least
        self._window = window
        self._since = time.monotonic()
        self._before = size

    def look(self, size: int) -> None:
        """*size* bytes are here by now. Raises `FetchError("too_slow")`."""
        passed = time.monotonic() - self._since
        if passed >= self._window:
            rate = (size - self._before) / passed
            if rate < self._least:
                raise FetchError("too_slow", detail=f"{rate:.0f} bytes a second")
            self._since, self._before = self._since + passed, size


class Dropped(aiohttp.ClientError):
    """The connection ended before the answer's header did.

    aiohttp itself would send the request again on some of these, silently and on fresh
    connections too; as an error of this kind it leaves the decision to us. `reused`: it had
    served before, so the server may just have closed it for being idle (RFC 9112, section 9.3.1).
    """

    def __init__(self, *, reused: bool, partial: bool) -> None:
        super().__init__()
        self.reused = reused
        self.partial = partial


def _counted(counters: Counters) -> type[aiohttp.ClientResponse]:
    """The class of an exchange: counts what is sent, tells stale connections from dead ones."""

    class Counted(aiohttp.ClientResponse):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)  # it is made when the request's header went out
            counters.sent += 1

        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            protocol = connection.protocol
            try:
                await super().start(connection)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                raise counters.dropped(protocol, error) from error
            counters.answered(protocol, self)
            return self

    return Counted


def session(
    http: Http,
    counters: Counters,
    resolver: Resolver,
    *,
    headers: Mapping[str, str],
    guarded: bool,
    fresh: bool,
) -> aiohttp.ClientSession:
    """A session that does what it is told and nothing else. Must be made inside the loop.

    *headers*: sent with every request, in the place of our own. *guarded*: refuses private
    addresses. *fresh*: a new connection for every exchange.
    """
    connector = aiohttp.TCPConnector(
        limit=0,  # how much is in flight is the crawl's business
        force_close=fresh,
        keepalive_timeout=None if fresh else KEEP_ALIVE,
        resolver=resolver,
        ttl_dns_cache=DNS_TTL,
        dns_cache_max_size=DNS_NAMES,
        socket_factory=_guarded_socket if guarded else None,
    )
    always = {
        "User-Agent": http.user_agent,
        "Accept": ACCEPT,
        "Accept-Encoding": "gzip, deflate, br, zstd",
        **headers,
    }
    return aiohttp.ClientSession(
        connector=connector,
        headers=always,
        response_class=_counted(counters),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, connect=http.connect_timeout),
        auto_decompress=False,
        raise_for_status=False,
        trust_env=False,
        max_line_size=int(http.max_header_line),
        max_field_size=int(http.max_header_line),
        max_headers=http.max_header_fields,
    )


class Resolver(AbstractResolver):
    """getaddrinfo in threads of its own: a slow name server keeps nobody else's work waiting."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _resolve, host, port, family)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _resolve(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    # As bytes, for Python's IDNA codec refuses labels that the name system may well know.
    name = host.encode("ascii")
    infos = socket.getaddrinfo(name, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=port,
            family=found,
            proto=proto,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for found, _, proto, _, address in infos
    ]


def _guarded_socket(info: AddrInfoType) -> socket.socket:
    """A socket for an address that is on the public internet.

    Stands where every connection passes with the very address it goes to: behind the resolver,
    so that literals and names that resolve anew each time are seen too.
    """
    family, kind, protocol, _, address = info
    if is_private(str(address[0])):
        raise OSError(errno.EACCES, PRIVATE)
    return socket.socket(family, kind, protocol)


def is_private_literal(host: str) -> bool:
    """Whether *host*, as an href spells it, is the address of a private host, or `localhost`.

    All that can be said of a host that a proxy will resolve.
    """
    try:
        return is_private(host.strip("[]"))
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761, section 6.3


def is_private(address: str) -> bool:
    """Whether *address* is anything but a public host's: loopback, private, link-local …

    IPv4 inside IPv6 (mapped, compatible, NAT64, 6to4, Teredo) is judged by both.
    """
    ip = ip_address(address)
    if not ip.is_global or ip.is_multicast:
        return True
    if isinstance(ip, IPv4Address):
        return False
    return any(not inner.is_global or inner.is_multicast for inner in _inside(ip))


def _inside(ip: IPv6Address) -> list[IPv4Address]:
    found = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    if int(ip) >> 32 in (0, 0x0064_FF9B << 64):  # compatible; NAT64 (RFC 6052)
        found.append(IPv4Address(int(ip) & 0xFFFF_FFFF))
    return [inner for inner in found if inner is not None]
