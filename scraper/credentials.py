"""Credentials: which values of a configuration or a request are secrets, and who may get them.

`of_config`, `of_request` and the like give the values to those who tell something, so that they
can leave them out (see `redaction`). `Owners` says which origins the headers of `http.headers` are
for that say who asks.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from pydantic import SecretBytes, SecretStr

from scraper import urls
from scraper.config import Config
from scraper.errors import ConfigError
from scraper.http import Headers, Request
from scraper.redaction import is_credential, is_plainly_secret, is_secret_name

__all__ = ["OfPage", "Owners", "apart", "of_arguments", "of_config", "of_request"]

MAX_BODY = 64 * 1024
"""Bytes of a request's body that are searched for secrets."""

# Values -----------------------------------------------------------------------------------------


def of_config(config: Config) -> frozenset[str]:
    """The secrets that a configuration holds: in headers, proxies, addresses, options of stages."""
    found: set[str] = set()
    for name, value in config.http.headers.items():
        if is_credential(name):
            found.update(_of_header(name, value))
    for address in (config.http.proxy, config.frontier.url):
        found.update(_of_address(address or ""))
    for table in config.pipelines:
        found.update(_of_value(table.options, "use"))
    return frozenset(found)


def of_arguments(arguments: Mapping[str, Any]) -> frozenset[str]:
    """The secrets among the arguments of a spider: by their type, or by their names."""
    return frozenset(
        secret for name, value in arguments.items() for secret in _of_value(value, name)
    )


def of_request(request: Request) -> frozenset[str]:
    """The secrets that a request carries: headers, cookies, proxy, URL, body, meta and kwargs."""
    options = request.options
    found: set[str] = set(options.cookies.values())
    for name, value in options.headers.items():
        if name.lower() in options.secret or is_credential(name):
            found.update(_of_header(name, value))
    found.update(_of_address(request.url))
    found.update(_of_address(options.proxy or ""))
    for given in (options.meta, options.kwargs):
        if given:
            found.update(_of_value(given, ""))
    if options.body and len(options.body) <= MAX_BODY:
        found.update(_of_body(options.body))
    return frozenset(found)


class OfPage:
    """The secrets of the page at work, worked out when they are asked for: those of its *request*,
    and the cookies that its `answer` sets, once there is one. That is the answer's header: whoever
    holds on to the secrets of a page shall not hold on to the page.
    """

    __slots__ = ("_request", "answer")

    def __init__(self, request: Request) -> None:
        self._request = request
        self.answer: Headers | None = None

    def __call__(self) -> frozenset[str]:
        secrets = of_request(self._request)
        if self.answer is None:
            return secrets
        cookies = self.answer.getall("Set-Cookie")
        return secrets | {field.partition(";")[0].partition("=")[2].strip() for field in cookies}


def _of_header(name: str, value: str) -> Iterator[str]:
    yield value
    if name.lower().endswith("cookie"):
        for pair in value.split(";"):
            yield pair.partition("=")[2].strip()
        return
    scheme, _, token = value.partition(" ")
    if token:
        yield token.strip()
    if scheme.lower() == "basic":
        try:
            yield b64decode(token).decode("utf-8", "replace").partition(":")[2]
        except (Base64Error, ValueError):
            return


def _of_address(address: str) -> Iterator[str]:
    """The password of `scheme://user:password@…`, and parameters that sound secret."""
    _, separator, rest = address.partition("://")
    if not separator:
        rest = address
    if "@" in rest:
        userinfo = rest.rpartition("@")[0]
        password = userinfo.partition(":")[2]
        yield userinfo
        yield unquote(password or userinfo)
        yield password
        yield b64encode(unquote(userinfo).encode("utf-8", "replace")).decode()
    for part in (rest.partition("?")[2], rest.partition("#")[2]):
        if "=" in part and len(part) <= MAX_BODY:
            yield from _of_pairs(part)


def _of_pairs(text: str) -> Iterator[str]:
    try:
        pairs = parse_qsl(text, max_num_fields=1000)
    except ValueError:
        return
    yield from (value for name, value in pairs if is_secret_name(name))


def _of_body(body: bytes) -> Iterator[str]:
    text = body.decode("utf-8", "replace")
    if text[:1] in ("{", "["):
        try:
            yield from _of_value(json.loads(text), "")
        except (ValueError, RecursionError):
            return
    elif "=" in text:
        yield from _of_pairs(text)


def _of_value(value: Any, name: str, depth: int = 8) -> Iterator[str]:
    """The secrets in a JSON-like value of this name."""
    if isinstance(value, SecretStr | SecretBytes):
        shown = value.get_secret_value()
        yield shown if isinstance(shown, str) else shown.decode("utf-8", "replace")
    elif isinstance(value, str):
        if is_plainly_secret(name):
            yield value
        if "://" in value:
            yield from _of_address(value)
    elif isinstance(value, Mapping) and depth:
        for key, below in value.items():
            yield from _of_value(below, str(key), depth - 1)
    elif isinstance(value, list | tuple) and depth:
        for below in value:
            yield from _of_value(below, name, depth - 1)


# Who may get them -------------------------------------------------------------------------------


def apart(headers: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """*headers* that anybody may get, and those that are credentials."""
    plain = {name: value for name, value in headers.items() if not is_credential(name)}
    return plain, {name: value for name, value in headers.items() if name not in plain}


class Owners:
    """The origins that `http.headers` shows its credentials to.

    *named* (`http.trusted_hosts`): `example.com` stands for that domain and those below it, over
    https; `http://example.com:8080` for that origin. Without them: *domains* (the spider's
    `allowed_domains`) in the same way, and the origins of *starts* (its `start_urls`).
    Raises `ConfigError` for an entry that is neither.
    """

    __slots__ = ("_domains", "_origins")

    def __init__(
        self, named: Iterable[str], domains: Iterable[str] = (), starts: Iterable[str] = ()
    ) -> None:
        named = tuple(named)
        self._origins: set[str] = set()
        self._domains: set[str] = set()
        for entry in named or (*domains, *starts):
            self._add(entry, strict=bool(named))

    def _add(self, entry: str, *, strict: bool) -> None:
        if "://" in entry:
            href = urls.parse(entry)
            if href is not None and urls.is_web(href):
                self._origins.add(urls.host_key(href))
                return
        elif (domain := urls.domain_name(entry)) is not None:
            self._domains.add(domain)
            return
        if strict:
            raise ConfigError(
                f"http.trusted_hosts: {urls.redact(entry)!r} is neither a host nor an origin",
                hint='Write "example.com" (over https), or "http://example.com:8080".',
            )

    def __call__(self, origin: str) -> bool:
        """Whether *origin* (`urls.host_key`) is one of them."""
        if origin in self._origins:
            return True
        if not origin.startswith("https://"):
            return False
        netloc = origin.partition("://")[2]
        host, colon, port = netloc.rpartition(":")
        if not colon or port.endswith("]"):
            host, port = netloc, ""
        return urls.within(host, f":{port}" if port else "", self._domains)

    def __repr__(self) -> str:
        return f"<Owners {', '.join(sorted(self._origins | self._domains)) or 'none'}>"
