"""The downloader: one exchange over aiohttp, everything hostile held in bounds.

The body's way is our own: it is taken in pieces under `max_wire`, measured against `min_rate`,
and decoded under `max_body` until its decoder has seen the end. Redirects, retries and pace are
other people's business. The one request that is sent twice on its own account is a repeatable
one that met a connection the server had just closed: then once more, on a fresh connection
(RFC 9112, section 9.3.1); `sent` counts both.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import AsyncGenerator, Callable
from io import BytesIO
from itertools import chain
from pathlib import Path
from ssl import SSLContext
from typing import Any

import aiohttp

from scraper import credentials, urls
from scraper.config import Http
from scraper.download import coding, failures, saving, targets, wire
from scraper.download.cookies import Jars, Place
from scraper.download.deadlines import Deadlines, Limit
from scraper.download.direct import KNOWN, METHODS, Answer, Direct
from scraper.errors import FetchError
from scraper.http import Headers, Options, Request, Response
from scraper.saved import SavedResponse

__all__ = ["AiohttpDownloader"]

log = logging.getLogger(__name__)

INLINE = 1 << 20  # bytes that are decoded on the loop (some milliseconds); more goes to a thread
PAUSE = 0.05  # seconds between looks for a free file descriptor
MAX_DNS_THREADS = 32
MAX_KEPT = 10_000  # connections
MAX_WARNED = 1000  # hosts whose unchecked certificates, or missing credentials, are logged

# All that aiohttp, the event loop or the codecs raise for what happens outside this process.
_OUTSIDE = (FetchError, aiohttp.ClientError, OSError, ValueError, RuntimeError)


Answered = Answer | aiohttp.ClientResponse


def _nobody(host: str) -> bool:
    return False


class AiohttpDownloader:
    """`Downloader` over aiohttp. Follows no redirect, retries nothing.

    *insecure_hosts* says for which hosts certificates are not checked, *owners* which origins
    (`urls.host_key`) get those of `http.headers` that are credentials; *tls* replaces the system's
    trust store; *concurrency* is how many exchanges there will be at once, to size the
    name resolver by: it limits nothing. *rate_window*: seconds over which `min_rate` is
    measured. *now*: the wall clock, for cookies.

    `sent` counts requests on the wire, `bytes_received` the bytes of bodies as they travelled.
    """

    def __init__(
        self,
        http: Http,
        *,
        concurrency: int = 32,
        insecure_hosts: Callable[[str], bool] = _nobody,
        owners: Callable[[str], bool] = _nobody,
        tls: SSLContext | None = None,
        rate_window: float = 5.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._concurrency = concurrency
        self._insecure = insecure_hosts
        self._owners = owners
        self._headers_sent, self._credentials = credentials.apart(http.headers)
        self._tls: SSLContext | bool = True if tls is None else tls
        self._window = rate_window
        self._now = now
        self._jars: Jars | None = Jars() if http.cookies else None
        self._counters = wire.Counters(_keep())
        self._resolver: wire.Resolver | None = None
        self._sessions: dict[tuple[bool, bool], aiohttp.ClientSession] = {}
        self._direct: Direct | None = None
        self._deadlines: Deadlines | None = None
        self._timeout = self._until(http.connect_timeout)
        self._guarded = not http.allow_private
        self._max_headers = int(http.max_headers)
        self._max_wire = int(http.max_wire)
        self._max_body = int(http.max_body)
        self._max_plain = min(self._max_wire, self._max_body)
        self._warned: set[str] = set()
        self.bytes_received = 0

    def __repr__(self) -> str:
        return f"<AiohttpDownloader: {self.sent} sent, {self.bytes_received:,} bytes received>"

    @property
    def sent(self) -> int:
        return self._counters.sent

    def cookies(self) -> bytes | None:
        """The cookie jars as JSON; None when nothing changed since the last call."""
        return None if self._jars is None else self._jars.dump(self._now())

    def load_cookies(self, stored: bytes) -> None:
        """Put back what `cookies` gave. Raises `DamagedState` for anything else."""
        if self._jars is not None:
            self._jars.load(stored)

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        self._direct = None
        if self._deadlines is not None:
            self._deadlines.close()
            self._deadlines = None
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()
        if self._resolver is not None:
            await self._resolver.close()
            self._resolver = None

    async def fetch(self, request: Request, *, fresh: bool = False) -> Response:
        """One exchange. Any status is a response; anything less raises `FetchError`.

        *fresh*: on a new connection, so that it is sent exactly once.
        """
        started = time.monotonic()
        options = request.options
        proxy = options.proxy or self._http.proxy
        if self._deadlines is None:
            self._deadlines = Deadlines()
        limit = Limit(self._deadlines, options.timeout or self._http.timeout)
        try:
            answer = await self._exchange(request, proxy, limit, started, fresh=fresh)
            try:
                _check(answer, request, proxied=proxy is not None)
                headers = self._read_headers(answer, request)
                if options.into is not None and 200 <= answer.status < 300:
                    return await self._save(answer, request, headers, limit, started)
                body = await self._body(answer, limit)
            except BaseException:
                answer.close()
                raise
        except _OUTSIDE as error:
            failure = failures.translate(error, request.url, proxied=proxy is not None)
        else:
            elapsed = time.monotonic() - started
            return Response(request.url, answer.status, headers, body, request, elapsed=elapsed)
        raise failure  # out here, so that it drags no error of aiohttp's along as its context

    # The request ----------------------------------------------------------------------------

    async def _exchange(
        self, request: Request, proxy: str | None, limit: Limit, started: float, *, fresh: bool
    ) -> Answered:
        """Send *request* until its answer's header is there."""
        try:
            with limit:
                return await self._send(request, proxy, fresh=fresh)
        except wire.Dropped as drop:
            if not drop.reused or drop.partial or not request.options.repeatable:
                raise
            return await self._again(request, proxy, limit)
        except aiohttp.ClientConnectorError as error:
            if not failures.out_of_descriptors(error):
                raise
        # Idle connections make room, and other exchanges will end: slower, but alive.
        deadline = started + (request.options.timeout or self._http.timeout)
        while True:
            self._counters.close_idle()
            await asyncio.sleep(PAUSE)
            limit.renew()
            try:
                with limit:
                    return await self._send(request, proxy, fresh=True)
            except aiohttp.ClientConnectorError as error:
                if not failures.out_of_descriptors(error) or time.monotonic() > deadline:
                    raise

    async def _again(self, request: Request, proxy: str | None, limit: Limit) -> Answered:
        """The second and last time; a failure tells that it was sent twice."""
        limit.renew()
        try:
            with limit:
                return await self._send(request, proxy, fresh=True)
        except _OUTSIDE as error:
            failure = failures.translate(error, request.url, proxied=proxy is not None)
            failure.sends = 2
        raise failure

    async def _send(self, request: Request, proxy: str | None, *, fresh: bool) -> Answered:
        options = request.options
        url = request.url
        own = self._headers(url, options)
        plain = not (proxy or fresh or options.body or options.into) and options.method in METHODS
        if plain and KNOWN and (own is None or "expect" not in map(str.lower, own)):
            if self._direct is None:
                session = self._session(guarded=self._guarded, fresh=False)
                self._direct = Direct(session, self._counters, self._http, self._trust)
            origin, path = targets.parts(url)
            timeout = self._timeout if options.timeout is None else self._until(options.timeout)
            return await self._direct.ask(options.method, origin, path, own, timeout)
        extra: dict[str, Any] = {}
        if options.timeout is not None:
            # A file may take long to come, but it must be coming.
            silence = None if options.into is None else self._http.timeout
            extra["timeout"] = self._until(options.timeout, silence)
        if url.startswith("https:"):
            extra["ssl"] = self._trust(url)
        if proxy is not None:
            extra["proxy"] = targets.proxy(proxy)
            if self._guarded and wire.is_private_literal(Place.of(url).host):
                raise FetchError("private_address", detail=f"it is a {wire.PRIVATE}")
        if options.body:
            extra["data"] = options.body
        if options.into is not None:  # there may be many, and their reader is a disk
            extra["read_bufsize"] = saving.BUFFER
        session = self._session(guarded=self._guarded and proxy is None, fresh=fresh)
        return await session.request(
            options.method,
            targets.url(url),
            headers=own,
            allow_redirects=False,
            **extra,
        )

    def _until(self, seconds: float, silence: float | None = None) -> aiohttp.ClientTimeout:
        """What aiohttp is to time: until a connection stands. The whole is timed by a `Limit`."""
        connect = min(seconds, self._http.connect_timeout)
        return aiohttp.ClientTimeout(total=None, connect=connect, sock_read=silence)

    def _headers(self, url: str, options: Options) -> dict[str, str] | None:
        """The fields of this request beside those that the session sends with each."""
        kept = self._jars.pairs(options.session, url, self._now()) if self._jars else []
        own = options.cookies
        shown = self._credentials_for(url) if self._credentials else None
        if not (kept or own or options.headers or shown):
            return None
        headers = dict(options.headers)
        if (kept or own) and not any(name.lower() == "cookie" for name in headers):
            pairs = [(name, value) for name, value in kept if name not in own]
            pairs += own.items()
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in pairs)
        if shown:
            given = {name.lower() for name in headers}
            headers |= {name: v for name, v in shown.items() if name.lower() not in given}
        return headers

    def _credentials_for(self, url: str) -> dict[str, str] | None:
        """What the configuration shows to its own origins, and to nobody else."""
        origin = urls.host_key(url)
        if self._owners(origin):
            return self._credentials
        if origin not in self._warned and len(self._warned) < MAX_WARNED:
            self._warned.add(origin)
            names = ", ".join(self._credentials)
            log.warning("%s gets no %s (http.trusted_hosts says who does)", origin, names)
        return None

    def _trust(self, url: str) -> SSLContext | bool:
        host = Place.of(url).host
        if self._http.verify_tls and not self._insecure(host):
            return self._tls
        if host not in self._warned and len(self._warned) < MAX_WARNED:
            self._warned.add(host)
            log.warning("certificates of %s are not checked (verify_tls = false)", host)
        return False

    def _session(self, *, guarded: bool, fresh: bool) -> aiohttp.ClientSession:
        session = self._sessions.get((guarded, fresh))
        if session is None:
            if self._resolver is None:
                self._resolver = wire.Resolver(min(MAX_DNS_THREADS, self._concurrency))
            session = self._sessions[guarded, fresh] = wire.session(
                self._http,
                self._counters,
                self._resolver,
                headers=self._headers_sent,
                guarded=guarded,
                fresh=fresh,
            )
        return session

    # The answer -----------------------------------------------------------------------------

    def _read_headers(self, answer: Answered, request: Request) -> Headers:
        raw = answer.raw_headers
        if sum(map(len, chain.from_iterable(raw))) + 4 * len(raw) > self._max_headers:
            raise FetchError("headers_too_large", detail="more than http.max_headers in all")
        headers = Headers.of_wire(raw)
        if self._jars is not None and "Set-Cookie" in answer.headers:
            cookies = map(_utf8, headers.getall("Set-Cookie"))
            self._jars.store(request.options.session, request.url, cookies, self._now())
        return headers

    async def _body(self, answer: Answered, limit: Limit) -> bytes:
        """The whole body, its codings undone."""
        content = answer.content
        if content.at_eof():
            return b""
        codings = _codings(answer)
        most = self._max_wire if codings else self._max_plain
        _announced(answer, most)
        whole = answer.whole() if isinstance(answer, Answer) else None
        if whole is not None and len(whole) <= most:
            pieces, size = [whole], len(whole)
        else:
            with limit:
                pieces, size = await self._pieces(content, most)
        self.bytes_received += size
        if codings and size:
            return await self._decode(pieces, codings)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _pieces(self, content: aiohttp.StreamReader, most: int) -> tuple[list[bytes], int]:
        """The pieces of *content* to its end, and their size: *most* bytes."""
        first = await content.readany()
        pieces, size = [first], len(first)
        pace = wire.Pace(self._http.min_rate, self._window, size)
        while size <= most:
            if content.at_eof():
                return pieces, size
            piece = await content.readany()
            pieces.append(piece)
            size += len(piece)
            pace.look(size)
        raise FetchError("body_too_large", detail=f"more than {most:,} bytes")

    async def _save(
        self,
        answer: Answered,
        request: Request,
        headers: Headers,
        limit: Limit,
        started: float,
    ) -> SavedResponse:
        """The body goes where the request says, under the limit that it says."""
        elapsed = time.monotonic() - started
        path, most = request.options.into or ("", 0)
        _announced(answer, most)
        size, saved = await saving.save(
            self._arriving(answer.content, limit, most),
            path,
            _codings(answer),
            limit=most,
            layers=self._http.max_codings,
        )
        self.bytes_received += size
        return SavedResponse(
            request.url,
            answer.status,
            headers,
            request,
            file=Path(path),
            size=saved,
            elapsed=elapsed,
        )

    async def _arriving(
        self, content: aiohttp.StreamReader, limit: Limit, most: int
    ) -> AsyncGenerator[bytes, None]:
        size = 0
        pace = wire.Pace(self._http.min_rate, self._window, size)
        while not content.at_eof():
            with limit:
                piece = await content.readany()
            size += len(piece)
            if size > most:
                raise FetchError("body_too_large", detail=f"more than {most:,} bytes")
            yield piece
            pace.look(size)

    async def _decode(self, pieces: list[bytes], codings: list[str]) -> bytes:
        limit = self._max_body
        steps = iter(coding.decoding(pieces, codings, limit=limit, layers=self._http.max_codings))
        # Not joined from a list: a BytesIO gives its buffer away, so the peak is one body, not two.
        body = BytesIO()
        if not coding.drain(steps, body, INLINE):
            await asyncio.to_thread(coding.drain, steps, body, limit + 1)
        return body.getvalue()


def _check(answer: Answered, request: Request, *, proxied: bool) -> None:
    """Turn away answers that are none. Raises `FetchError`."""
    status = answer.status
    if status < 200 or status > 999:
        raise FetchError("protocol", detail=f"unsolicited status {status}")
    if not proxied:
        return
    if status == 407:
        raise FetchError("proxy_auth", detail="the proxy answered 407")
    # A plain request's 502 may be the server's own or the proxy's: both mean "not reached". Who
    # wants to see it says so by `accept`.
    if status in (502, 504) and not request.options.accept & {status, "*"}:
        raise FetchError("proxy_connect", detail=f"by proxy: status {status}", sent=True)


def _announced(answer: Answered, most: int) -> None:
    size = int(answer.headers.get("Content-Length", 0))  # the parser has seen that it is a number
    if size > most:
        raise FetchError("body_too_large", detail=f"{size:,} bytes announced")


def _codings(answer: Answered) -> list[str]:
    """Every coding of the body but `chunked`, in the order of their application."""
    headers = answer.headers
    fields = headers.getall("Content-Encoding", [])
    transfer = headers.get("Transfer-Encoding", "chunked")
    if transfer.lower() != "chunked":
        fields += [name for name in transfer.split(",") if name.strip().lower() != "chunked"]
    return coding.named(fields) if fields else fields


def _utf8(value: str) -> str:
    """A header value's text: UTF-8 if its bytes are, otherwise as they are."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def _keep() -> int:
    """How many connections may be kept open: half of what this process may open, at most."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        soft = MAX_KEPT
    return min(soft // 2, MAX_KEPT)
