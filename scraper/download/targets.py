"""Targets: what of a URL goes out, to whom, so that its bytes go out unchanged."""

from __future__ import annotations

from functools import lru_cache

import yarl

from scraper import urls
from scraper.errors import FetchError

__all__ = ["parts", "proxy", "url"]


def parts(href: str) -> tuple[str, str]:
    """The origin of *href* (`http://host:port`), and its path with the query. Raises `FetchError`.

    For aiohttp the query is a part of the path: yarl would forget an empty one.
    """
    end = href.find("/", 8)  # behind the shortest authority
    origin = href[:end]
    path = href[end:].partition("#")[0]
    if end < 0 or not (path.isascii() and path.isprintable()) or " " in path or not _whole(origin):
        raise FetchError("url_invalid", detail="not an http(s) URL")
    return origin, path


def url(href: str) -> yarl.URL:
    """*href* for aiohttp. Raises `FetchError`."""
    origin, path = parts(href)
    scheme, _, authority = origin.partition("://")
    return yarl.URL.build(scheme=scheme, authority=authority, path=path, encoded=True)


@lru_cache(maxsize=4096)
def _whole(origin: str) -> bool:
    """Whether *origin* is what an http(s) href starts with."""
    href = f"{origin}/"
    return urls.is_web(href) and urls.parse(href) == href


def proxy(address: str) -> yarl.URL:
    """A proxy for aiohttp, userinfo included: it becomes `Proxy-Authorization`."""
    if not urls.is_web(address):
        raise FetchError(
            "proxy_connect", detail="a proxy is http://[user:password@]host:port", temporary=False
        )
    return yarl.URL(address)
