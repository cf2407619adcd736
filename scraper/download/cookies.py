"""Cookie jars: RFC 6265 with the corrections of its successor (draft-ietf-httpbis-rfc6265bis).

One jar per session name; jars share nothing. Session cookies are kept with the others, for a
login must survive the process. What a hostile server can make us store is bounded: 4,096 bytes a
cookie, 50 cookies a domain, 3,000 a jar; the oldest go first. What is malformed is ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from scraper import urls
from scraper.errors import DamagedState

__all__ = ["Cookie", "Jar", "Jars", "Place", "parse_date"]

MAX_COOKIE = 4096  # bytes of name and value
MAX_ATTRIBUTE = 1024
MAX_PER_DOMAIN = 50
MAX_PER_JAR = 3000
MAX_AGE = 400 * 86400  # seconds; rfc6265bis, section 5.5
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request goes, as far as cookies care."""

    host: str
    path: str
    secure: bool

    @classmethod
    def of(cls, href: str) -> Place:
        scheme, _, rest = href.partition("://")
        authority, slash, path = rest.partition("/")
        host = authority.rpartition("@")[2]
        if not host.endswith("]"):
            name, colon, port = host.rpartition(":")
            host = name if colon and port.isdigit() else host
        path = path.partition("#")[0].partition("?")[0] if slash else ""
        return cls(host.rstrip("."), "/" + path, scheme == "https")


@dataclass(frozen=True, slots=True)
class Cookie:
    """One cookie. `expires`: wall clock seconds, None until the job ends."""

    name: str
    value: str
    domain: str
    host_only: bool = True
    path: str = "/"
    secure: bool = False
    expires: float | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.path, self.name


class Jar:
    """The cookies of one session, in the order of their creation within each domain."""

    __slots__ = ("_by_domain", "_size")

    def __init__(self, cookies: Iterable[Cookie] = ()) -> None:
        self._by_domain: dict[str, dict[tuple[str, str], Cookie]] = {}
        self._size = 0
        for cookie in cookies:
            self._put(cookie)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Cookie]:
        for cookies in self._by_domain.values():
            yield from cookies.values()

    def pairs(self, place: Place, now: float) -> list[tuple[str, str]]:
        """Names and values for a request to *place*: longest path first (RFC 6265, 5.4)."""
        found = [
            cookie
            for domain in _domains(place.host)
            for cookie in self._by_domain.get(domain, {}).values()
            if (domain == place.host or not cookie.host_only)
            and (place.secure or not cookie.secure)
            and (cookie.expires is None or cookie.expires > now)
            and _path_matches(place.path, cookie.path)
        ]
        if len(found) > 1:
            found.sort(key=lambda cookie: -len(cookie.path))
        return [(cookie.name, cookie.value) for cookie in found]

    def store(self, fields: Iterable[str], place: Place, now: float) -> bool:
        """Take in the `Set-Cookie` *fields* of a response from *place*; whether that changed it."""
        changed = False
        for field in fields:
            cookie = parse(field, place, now)
            if cookie is None or self._shadows_secure(cookie, place):
                continue
            if cookie.expires is not None and cookie.expires <= now:
                changed |= self._drop(cookie)
            else:
                changed |= self._put(cookie)
        return changed

    def _put(self, cookie: Cookie) -> bool:
        cookies = self._by_domain.setdefault(cookie.domain, {})
        known = cookies.get(cookie.key)
        if known == cookie:
            return False
        cookies[cookie.key] = cookie
        if known is None:
            self._size += 1
            if len(cookies) > MAX_PER_DOMAIN:
                self._drop(next(iter(cookies.values())))
            elif self._size > MAX_PER_JAR:
                self._drop(next(iter(self)))
        return True

    def _drop(self, cookie: Cookie) -> bool:
        cookies = self._by_domain.get(cookie.domain)
        if cookies is None or cookies.pop(cookie.key, None) is None:
            return False
        if not cookies:
            del self._by_domain[cookie.domain]
        self._size -= 1
        return True

    def _shadows_secure(self, cookie: Cookie, place: Place) -> bool:
        """Plain HTTP may not overwrite what came over TLS (rfc6265bis, 5.7, step 16)."""
        if place.secure:
            return False
        known = self._by_domain.get(cookie.domain, {}).get(cookie.key)
        return known is not None and known.secure


class Jars:
    """A jar for every session name; None names the default one."""

    def __init__(self) -> None:
        self._jars: dict[str | None, Jar] = {}
        self._changed = False

    def pairs(self, session: str | None, href: str, now: float) -> list[tuple[str, str]]:
        """Names and values of the cookies for a request to *href*."""
        jar = self._jars.get(session)
        return jar.pairs(Place.of(href), now) if jar else []

    def store(self, session: str | None, href: str, fields: Iterable[str], now: float) -> None:
        """Take in the `Set-Cookie` *fields* of the response from *href*."""
        jar = self._jars.get(session)
        if jar is None:
            jar = self._jars[session] = Jar()
        self._changed |= jar.store(fields, Place.of(href), now)

    def dump(self, now: float) -> bytes | None:
        """All jars as JSON; None when nothing changed since the last call."""
        if not self._changed:
            return None
        self._changed = False
        jars = [
            [session, [_row(c) for c in jar if c.expires is None or c.expires > now]]
            for session, jar in self._jars.items()
        ]
        return json.dumps({"format": FORMAT, "jars": jars}, separators=(",", ":")).encode()

    def load(self, stored: bytes) -> None:
        """Put back what `dump` gave. Raises `DamagedState` for anything else."""
        try:
            record = json.loads(stored)
            if record["format"] != FORMAT:
                raise ValueError(f"format {record['format']!r}")
            jars = {session: Jar(map(_cookie, rows)) for session, rows in record["jars"]}
            if not all(session is None or isinstance(session, str) for session in jars):
                raise ValueError("a session's name is a string")
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise DamagedState(
                f"the stored cookies are not what was stored ({type(error).__name__})",
                hint="Start anew with --fresh; the old state is set aside.",
            ) from None
        self._jars = jars
        self._changed = False


def _row(cookie: Cookie) -> list[Any]:
    return [
        cookie.name,
        cookie.value,
        cookie.domain,
        cookie.host_only,
        cookie.path,
        cookie.secure,
        cookie.expires,
    ]


def _cookie(row: Any) -> Cookie:
    name, value, domain, host_only, path, secure, expires = row
    if not all(isinstance(text, str) for text in (name, value, domain, path)):
        raise TypeError("not a cookie")
    if not isinstance(host_only, bool) or not isinstance(secure, bool):
        raise TypeError("not a cookie")
    return Cookie(
        name, value, domain, host_only, path, secure, None if expires is None else float(expires)
    )


# Parsing ----------------------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SECONDS = re.compile(r"-?[0-9]+")


def parse(field: str, place: Place, now: float) -> Cookie | None:
    """The cookie that a `Set-Cookie` *field* from *place* sets; None when it may not, or cannot.

    RFC 6265, section 5.2 and 5.3. Raises nothing.
    """
    if _CONTROL.search(field):
        return None
    pair, *attributes = field.split(";")
    name, equals, value = pair.partition("=")
    name, value = name.strip(), value.strip()
    if not equals or not name or len(name) + len(value) > MAX_COOKIE:
        return None
    said = _attributes(attributes)

    secure = "secure" in said
    if secure and not place.secure:
        return None
    path = said.get("path", "")
    if not path.startswith("/"):
        path = place.path[: place.path.rfind("/")] or "/"
    domain = _domain(said.get("domain", ""), place.host)
    if domain is None or not _prefix_holds(name, said, secure=secure):
        return None
    host_only = domain == ""
    expires = _expires(said, now)
    return Cookie(name, value, domain or place.host, host_only, path, secure, expires)


def _attributes(parts: Iterable[str]) -> dict[str, str]:
    said: dict[str, str] = {}
    for part in parts:
        name, _, value = part.partition("=")
        value = value.strip()
        if len(value) <= MAX_ATTRIBUTE:
            said[name.strip().lower()] = value  # the last one counts
    return said


def _domain(said: str, host: str) -> str | None:
    """The `Domain` attribute's domain; "" for the host alone, None when it may not be set."""
    domain = said.removeprefix(".").rstrip(".").lower()
    if not domain:
        return ""
    if domain == host:
        return "" if _is_address(host) or _is_public_suffix(host) else domain
    if not host.endswith("." + domain) or _is_address(host) or _is_public_suffix(domain):
        return None
    return domain


def _prefix_holds(name: str, said: dict[str, str], *, secure: bool) -> bool:
    """`__Secure-` and `__Host-` promise what they say (rfc6265bis, section 4.1.3)."""
    prefix = name[:9].lower()
    if prefix == "__secure-":
        return secure
    if prefix.startswith("__host-"):
        return secure and said.get("path") == "/" and not said.get("domain")
    return True


def _expires(said: dict[str, str], now: float) -> float | None:
    age = said.get("max-age", "")
    if _SECONDS.fullmatch(age):
        # A number of a hundred digits is only a wish; int() would refuse five thousand of them.
        seconds = int(age) if len(age) < 12 else (-1 if age.startswith("-") else MAX_AGE)
        return now + min(seconds, MAX_AGE) if seconds > 0 else 0.0
    when = parse_date(said["expires"]) if "expires" in said else None
    return None if when is None else min(when, now + MAX_AGE)


def _domains(host: str) -> Iterator[str]:
    """*host* and the domains above it that a cookie may name."""
    yield host
    if _is_address(host):
        return
    at = host.find(".")
    while at >= 0:
        yield host[at + 1 :]
        at = host.find(".", at + 1)


def _path_matches(path: str, cookie: str) -> bool:
    return path.startswith(cookie) and (
        len(path) == len(cookie) or cookie.endswith("/") or path[len(cookie)] == "/"
    )


@lru_cache(maxsize=1024)
def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _is_public_suffix(domain: str) -> bool:
    """Whether names right below *domain* are registered each by itself: it has no one owner."""
    below = f"x.{domain}"
    return urls.registered_domain(below) == below


# Dates ------------------------------------------------------------------------------------------

_DELIMITERS = re.compile(r"[\x09\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+")
_TIME = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\D|$)", re.ASCII)
_DAY = re.compile(r"(\d{1,2})(?:\D|$)", re.ASCII)
_YEAR = re.compile(r"(\d{2,4})(?:\D|$)", re.ASCII)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def parse_date(text: str) -> float | None:
    """Seconds since the epoch of a cookie date, however odd its form; None when it is none.

    RFC 6265, section 5.1.1: tokens in any order, the first of each kind counts.
    """
    clock: list[int] | None = None
    day = month = year = None
    for part in _DELIMITERS.split(text):
        if clock is None and (match := _TIME.match(part)):
            clock = [int(number) for number in match.groups()]
        elif day is None and (match := _DAY.match(part)):
            day = int(match[1])
        elif month is None and part[:3].lower() in _MONTHS:
            month = _MONTHS.index(part[:3].lower()) + 1
        elif year is None and (match := _YEAR.match(part)):
            year = int(match[1])
    if clock is None or day is None or month is None or year is None:
        return None
    if year < 100:
        year += 1900 if year >= 70 else 2000
    if year < 1601:
        return None
    try:
        hour, minute, second = clock
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        return None
