"""What a redirect asks for next: a pure function of the request and its response.

By the Fetch Standard's "HTTP-redirect fetch" (https://fetch.spec.whatwg.org/), with the caution
that suits a crawler: credentials never reach another origin.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote_from_bytes

from scraper import urls
from scraper.errors import FetchError
from scraper.http import Request, Response
from scraper.redaction import is_credential

__all__ = ["STATUSES", "redirect"]

STATUSES = frozenset({301, 302, 303, 307, 308})

_OF_THE_BODY = frozenset({
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-type",
    "transfer-encoding",
})
_ASCII = bytes(range(128))


def redirect(request: Request, response: Response, *, max_redirects: int = 10) -> Request | None:
    """The request that *response* redirects to, or None when it is final.

    Final are statuses that do not redirect, and redirects without a `Location`. The new request
    inherits everything; 303, and 301 or 302 in answer to POST, make it a GET without a body.
    On a change of origin `Authorization`, `Cookie`, `Proxy-Authorization`, the request's cookies,
    the headers it marks secret and those that sound like it are left behind. Its trail grows by
    this request's URL and fingerprint.

    Raises `FetchError`: `redirect_limit` after *max_redirects*, `redirect_scheme` for a target
    that is not http(s), `url_invalid` for one that is no URL.
    """
    if response.status not in STATUSES:
        return None
    location = next(iter(response.headers.getall("Location")), "").strip()
    if not location:
        return None
    options = request.options
    if len(options.trail) >= max_redirects:
        raise FetchError("redirect_limit", request.url, f"more than {max_redirects} redirects")
    url, credentials = _target(location, request, response)

    headers: dict[str, str] = dict(options.headers)
    changes: dict[str, Any] = {"trail": (*options.trail, (request.url, request.fingerprint))}
    if _becomes_get(response.status, options.method):
        changes |= {"method": "GET", "body": b"", "repeatable": True}
        headers = _without(headers, _OF_THE_BODY)
    if urls.host_key(url) != urls.host_key(response.url):
        headers = {
            name: value
            for name, value in headers.items()
            if name.lower() not in options.secret and not is_credential(name)
        }
        changes["cookies"] = MappingProxyType({})
    if credentials is not None:
        headers = _without(headers, {"authorization"})
        headers["Authorization"] = credentials
    if headers != options.headers:
        changes["headers"] = MappingProxyType(headers)
    return request.replace(url, **changes)


def _target(location: str, request: Request, response: Response) -> tuple[str, str | None]:
    """The href of *location*, and the Basic authorization that its userinfo stands for."""
    # Header bytes that are not ASCII reach us as latin-1; whatever they mean to the server, its
    # own bytes are what it should get back, so they are escaped one by one.
    raw = location.encode("latin-1" if max(location) < "Ā" else "utf-8", "surrogatepass")
    href = urls.parse(quote_from_bytes(raw, _ASCII), response.url)
    if href is None:
        raise FetchError("url_invalid", request.url, "redirected to what is not a URL")
    if not urls.is_web(href):
        scheme = href.partition(":")[0][:40]
        raise FetchError("redirect_scheme", request.url, f"redirected to a {scheme}: URL")
    return urls.without_credentials(href)


def _becomes_get(status: int, method: str) -> bool:
    if status == 303:
        return method not in ("GET", "HEAD")
    return status in (301, 302) and method == "POST"


def _without(headers: Mapping[str, str], names: frozenset[str] | set[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in names}
