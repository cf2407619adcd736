"""URLs: WHATWG parsing, one identity per page, the key of a host, and what logs may show.

Everything here speaks of *hrefs*: URLs as the WHATWG URL Standard serialises them
(https://url.spec.whatwg.org/), made by `parse`. Since an href has one spelling of its scheme,
host and port, the other functions get by with slicing strings.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Collection, Iterable
from fnmatch import translate
from functools import cache, lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING
from urllib.parse import quote_plus, unquote, unquote_plus, unquote_to_bytes

import ada_url

from scraper.encoding import UTF_8, encode
from scraper.redaction import is_plainly_secret, is_secret_name, redacted

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

__all__ = [
    "canonical",
    "domain_name",
    "fingerprint",
    "host_key",
    "is_web",
    "parse",
    "publishable",
    "redact",
    "registered_domain",
    "scalar",
    "urlencoded",
    "without_credentials",
    "without_fragment",
]


def parse(url: str, base: str | None = None) -> str | None:
    """The href of *url* (relative to *base*, when given), or None when it is not a valid URL.

    Lone surrogates become U+FFFD, as everywhere on the web (WHATWG `USVString`).
    """
    try:
        return ada_url.normalize_url(url) if base is None else ada_url.join_url(base, url)
    except ValueError:
        pass
    if not _SURROGATE.search(url if base is None else url + base):
        return None
    return parse(scalar(url), None if base is None else scalar(base))


_SURROGATE = re.compile("[\ud800-\udfff]")


def scalar(text: str) -> str:
    """*text* with U+FFFD for lone surrogates: what UTF-8 can hold (WHATWG `USVString`)."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def is_web(href: str) -> bool:
    """Whether *href* is an http or https URL."""
    return href.startswith(_WEB)


_WEB = ("http://", "https://")


def without_fragment(href: str) -> str:
    """*href* up to its `#`: what goes over the wire."""
    return href.partition("#")[0]


def urlencoded(pairs: Iterable[tuple[str | bytes, str | bytes]], encoding: str = UTF_8) -> str:
    """*pairs* as `a=1&b=2`: application/x-www-form-urlencoded (URL Standard, section 5.2).

    *encoding*: as `encoding.lookup` names it; text that it cannot hold is sent as `&#8364;`.
    """
    return "&".join(
        f"{_form_part(name, encoding)}={_form_part(value, encoding)}" for name, value in pairs
    )


def _form_part(part: str | bytes, encoding: str) -> str:
    data = part if isinstance(part, bytes) else encode(part, encoding)
    return quote_plus(data, safe="*").replace("~", "%7E")


# Credentials ------------------------------------------------------------------------------------

_AUTHORITY = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.\-]*:[/\\]{2,}")


def without_credentials(url: str) -> tuple[str, str | None]:
    """*url* without `user:password@`, and the Basic `Authorization` they stood for (RFC 7617).

    The second part is None when there were none. What is no URL is stripped by its looks.
    """
    if "@" not in url:
        return url, None
    href = parse(url)
    if href is None:
        start, end = _userinfo(url, valid=False)
        return url[:start] + url[end:], None
    start, end = _userinfo(href)
    if start == end:
        return href, None
    user, _, password = href[start : end - 1].partition(":")
    clean = href[:start] + href[end:]
    if not (user or password) or not is_web(href):
        return clean, None
    pair = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
    return clean, "Basic " + b64encode(pair).decode("ascii")


def _userinfo(url: str, *, valid: bool = True) -> tuple[int, int]:
    """Where `user:password@` lies in *url*; an empty range when it has none.

    A URL that is not *valid* may carry a `/` in its password: there, the last `@` before the
    query counts, for showing too little of a wrong URL is better than showing a secret.
    """
    scheme = _AUTHORITY.match(url)
    if not scheme:
        return 0, 0
    start = scheme.end()
    ends = (url.find(mark, start) for mark in ("/?#" if valid else "?#"))
    end = min((at for at in ends if at >= 0), default=len(url))
    at = url.rfind("@", start, end)
    return (start, at + 1) if at >= 0 else (start, start)


_BARE_USERINFO = re.compile(r"[^/?#@:]*:[^/?#]*@")  # a proxy's "user:password@host"
_PARAMETER = re.compile(r"([?&;#])([^=&;#?]*)=([^&;#]+)")
_LONG = 16  # characters of a value of an ambiguous name that makes it a secret
_NESTED = 8192  # characters
_URL_IN = re.compile(r"[=@]|%(?:25)*(?:3D|40)", re.IGNORECASE)


def redact(url: str) -> str:
    """*url* fit for a log: `***` for its userinfo and for values whose names sound secret."""
    return _PARAMETER.sub(_hide, _anonymous(url)) if "=" in url else _anonymous(url)


def publishable(url: str) -> str:
    """*url* fit for a file of output that says where its records come from.

    As `redact`, but short values of names that seldom mean a secret there (`key`, `sid`) stay:
    they may be what tells one page from another.
    """
    return _PARAMETER.sub(_hide_plain, _anonymous(url)) if "=" in url else _anonymous(url)


def _anonymous(url: str) -> str:
    if "@" not in url:
        return url
    start, end = _userinfo(url, valid=parse(url) is not None)
    if start == 0 and (bare := _BARE_USERINFO.match(url)):
        end = bare.end()
    return f"{url[:start]}***@{url[end:]}" if end > start else url


def _hide(match: re.Match[str]) -> str:
    mark, name, value = match.groups()
    return f"{mark}{name}=***" if is_secret_name(name) else f"{mark}{name}={_nested(value)}"


def _hide_plain(match: re.Match[str]) -> str:
    mark, name, value = match.groups()
    secret = is_secret_name(name) and (is_plainly_secret(name) or len(value) >= _LONG)
    return f"{mark}{name}=***" if secret else f"{mark}{name}={_nested(value)}"


def _nested(value: str) -> str:
    """A value that may hold another URL."""
    return redacted(value) if _URL_IN.search(value) and len(value) <= _NESTED else value


# Identity ---------------------------------------------------------------------------------------

_ODD = re.compile(r"[#?%]")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PATH_PARAMETER = re.compile(r";([^;/=]*)(?:=[^;/]*)?")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def canonical(href: str, drop_params: Collection[str] = ()) -> str:
    """The form by which two hrefs are one page. Idempotent.

    No fragment; parameters sorted by name (equal names keep their order), empty ones gone; escapes
    of unreserved characters decoded, the others in upper case (RFC 3986, section 6.2.2), so that
    `%2F` and `/` stay apart. *drop_params*: names to leave out, globs such as `utm_*` included,
    in the query and in the path (`/page;jsessionid=1`).
    """
    if not (_ODD.search(href) or (drop_params and ";" in href)):
        return href
    href = href.partition("#")[0]
    if "%" in href:
        href = _normal_escapes(href)
    head, mark, query = href.partition("?")
    if drop_params and ";" in head:
        dropped = _name_pattern(tuple(drop_params))
        head = _PATH_PARAMETER.sub(lambda m: "" if dropped(unquote(m[1])) else m[0], head)
        if "/." in head:  # "/..;b" has become a segment that means another
            head = parse(head) or head
    if not mark:
        return head
    parts = [part for part in query.split("&") if part]
    if drop_params:
        dropped = _name_pattern(tuple(drop_params))
        parts = [part for part in parts if not dropped(unquote_plus(part.partition("=")[0]))]
    if len(parts) > 1:
        parts.sort(key=_parameter_name)
    return f"{head}?{'&'.join(parts)}" if parts else head


def _parameter_name(part: str) -> str:
    return part.partition("=")[0]


def _normal_escapes(href: str) -> str:
    # "%%341" would decode to "%41", which is an escape again: beside a stray percent sign nothing
    # is decoded, or the form would not be a fixed point.
    if _STRAY_PERCENT.search(href):
        return _ESCAPE.sub(lambda match: match[0].upper(), href)
    return _ESCAPE.sub(_normal_escape, href)


def _normal_escape(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    return chr(code) if code in _UNRESERVED else match[0].upper()


@lru_cache(maxsize=64)
def _name_pattern(names: tuple[str, ...]):  # type: ignore[no-untyped-def]  # a bound `match`
    return re.compile("|".join(map(translate, names))).match


def fingerprint(method: str, canonical: str, body: bytes = b"") -> int:
    """An unsigned 64-bit number for a request: BLAKE2b of method, canonical URL and body."""
    text = f"{method} {canonical}\n".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text + body, digest_size=8).digest(), "big")


# Hosts ------------------------------------------------------------------------------------------


def host_key(href: str) -> str:
    """`scheme://host[:port]` of *href*: what politeness counts by.

    Lower case, punycode and without a default port, because the href is; without the trailing
    dot that names the same host.
    """
    start = href.find("://") + 3
    end = href.find("/", start)
    key = href if end < 0 else href[:end]
    if "@" in key:
        key = key[:start] + key[key.rfind("@") + 1 :]
    if key.endswith("."):
        return key[:-1]
    return key.replace(".:", ":") if ".:" in key else key


@lru_cache(maxsize=4096)
def registered_domain(host: str) -> str:
    """The part of *host* that its owner registered: `example.co.uk` of `www.example.co.uk`.

    By the Public Suffix List (https://publicsuffix.org/), private suffixes included: everyone on
    `github.io` is a site of their own. Addresses, suffixes and single labels stand for themselves.
    """
    host = host.rstrip(".").lower()
    if host.startswith("[") or host.rpartition(".")[2].isdigit():
        return host
    return _public_suffixes().privatesuffix(host) or host


@cache
def _public_suffixes() -> PublicSuffixList:
    from publicsuffixlist import PublicSuffixList  # 60 ms to read: only scope = "domain" pays

    return PublicSuffixList()


def domain_name(entry: str) -> str | None:
    """*entry* (`example.com`, `*.example.com`, `bücher.example:8080`) in the spelling of hrefs.

    A default port is left out; None when *entry* is no host.
    """
    name = entry.strip().removeprefix("*").removeprefix(".")
    href = None if "/" in name or "@" in name else parse(f"http://{name}/")
    host = "" if href is None else host_key(href).partition("://")[2]
    if not host or parse(f"http://{host}/") is None:
        return None
    return host.removesuffix(":443")


def within(host: str, port: str, domains: Collection[str]) -> bool:
    """Whether *host*, or a domain above it, is among *domains*: on any port, or on `:port`.

    *domains*: as `domain_name` spells them.
    """
    while True:
        if host in domains or host + port in domains:
            return True
        _, dot, host = host.partition(".")
        if not dot:
            return False
