"""The short way of a plain request: on aiohttp's connections, by its parser, past its session.

`ClientSession.request` is made for every request there can be, and takes three times as long as
what a page needs: to write a header on a connection that is kept, and to read what comes. What has
no body and asks no proxy goes this way; what has goes through the session, and so does everything
with an aiohttp whose connections and parser were not tried (`KNOWN`): they are no documented API.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from ssl import SSLContext
from typing import Any

import aiohttp
import yarl
from aiohttp import http_exceptions
from multidict import CIMultiDict, CIMultiDictProxy

from scraper.config import Http
from scraper.download import wire

__all__ = ["KNOWN", "Answer", "Direct"]

KNOWN = aiohttp.__version__.startswith("3.14.")

METHODS = frozenset({"GET", "HEAD"})
MAX_ORIGINS = 2048  # that are remembered
UPGRADED = 101

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110, section 5.5


class Origin(aiohttp.ClientRequest):
    """An origin as a connector wants to know it: a request, made once for all its pages.

    `tail`: the header of such a request behind its first line, with what everybody is told.
    """

    def __init__(self, text: str, session: aiohttp.ClientSession, trust: SSLContext | bool) -> None:
        super().__init__(
            "GET",
            yarl.URL(f"{text}/", encoded=True),
            headers=session.headers,
            loop=asyncio.get_running_loop(),
            session=session,
            ssl=trust,
        )
        self.tail = _written(self.headers)

    @cached_property
    def connection_key(self) -> Any:  # asked for with every page
        return super().connection_key

    def with_fields(self, own: Mapping[str, str]) -> bytes:
        """The same with a page's *own* fields, which replace those of their names."""
        headers = self.headers.copy()
        for name, value in own.items():
            headers[name] = value
        return _written(headers)


def _written(headers: CIMultiDict[str]) -> bytes:
    """Header fields as they go out. Raises `ValueError` for what would end one early."""
    text = "\r\n".join([f"{name}: {value}" for name, value in headers.items()])
    if len(_CONTROL.findall(text)) != 2 * (len(headers) - 1):
        raise ValueError("a header field holds a control character")
    return f" HTTP/1.1\r\n{text}\r\n\r\n".encode()


class Answer:
    """What of `aiohttp.ClientResponse` is needed: the header, and the reader of the body."""

    __slots__ = ("__weakref__", "_connection", "content", "headers", "raw_headers", "status")

    def __init__(self, message: Any, content: aiohttp.StreamReader, connection: Any) -> None:
        self.status: int = message.code
        self.headers: CIMultiDictProxy[str] = message.headers
        self.raw_headers: tuple[tuple[bytes, bytes], ...] = message.raw_headers
        self.content = content
        self._connection = connection

    @property
    def closed(self) -> bool:
        """Whether its connection is free for another exchange, or gone."""
        return self._connection is None

    def whole(self) -> bytes | None:
        """The body, if all of it is here, as that of a page is that came in one piece.

        Not by `read_nowait`: that has the connection parse on, which serves another by now.
        """
        content = self.content
        return b"".join(content._buffer) if content.is_eof() else None

    def release(self) -> None:
        """All is here: the connection may serve again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()

    def close(self) -> None:
        """What is still to come is not wanted."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class Direct:
    """Plain requests over the connections of *session*. *trust* says what a TLS origin must show.

    Raises what the session would.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        counters: wire.Counters,
        http: Http,
        trust: Callable[[str], SSLContext | bool],
    ) -> None:
        self._session = session
        self._connector: Any = session.connector
        self._counters = counters
        self._trust = trust
        self._origins: dict[str, Origin] = {}
        self._reading = {
            "read_until_eof": True,
            "auto_decompress": False,
            "max_line_size": int(http.max_header_line),
            "max_field_size": int(http.max_header_line),
            "max_headers": http.max_header_fields,
        }

    async def ask(
        self,
        method: str,
        origin: str,
        path: str,
        own: Mapping[str, str] | None,
        connecting: aiohttp.ClientTimeout,
    ) -> Answer:
        """One exchange, up to the end of the answer's header; *own*: fields of this request."""
        target = self._origins.get(origin) or self._new(origin)
        tail = target.tail if own is None else target.with_fields(own)
        try:
            connection = await self._connector.connect(target, [], connecting)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error
        protocol = connection.protocol
        try:
            protocol.set_response_params(skip_payload=method == "HEAD", **self._reading)
            if not protocol.is_connected():  # a new one, dropped before we came to it
                raise aiohttp.ClientConnectionResetError
            protocol.transport.write(f"{method} {path}".encode() + tail)
            self._counters.sent += 1
            message, content = await protocol.read()
            while 100 <= message.code < 200 and message.code != UPGRADED:
                message, content = await protocol.read()
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            connection.close()
            raise self._counters.dropped(protocol, error) from error
        except http_exceptions.HttpProcessingError as error:
            connection.close()
            raise aiohttp.ClientResponseError(target.request_info, ()) from error
        except BaseException:
            connection.close()
            raise
        answer = Answer(message, content, connection)
        self._counters.answered(protocol, answer)
        if message.code != UPGRADED:
            content.on_eof(answer.release)
        return answer

    def _new(self, text: str) -> Origin:
        if len(self._origins) >= MAX_ORIGINS:
            self._origins.clear()
        trust = self._trust(text) if text.startswith("https:") else True
        origin = self._origins[text] = Origin(text, self._session, trust)
        return origin
