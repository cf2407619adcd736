"""Sitemaps (https://www.sitemaps.org/protocol.html): XML, gzip, text, RSS 2.0 and Atom.

Entries come one by one while the body is read, so that a file of 50,000 URLs builds no tree. What
is damaged is read as far as it can be; the object that yields the entries also collects warnings::

    sitemap = parse(response.body, url=response.url)
    for entry in sitemap:
        print(entry.loc, entry.lastmod)
    print(sitemap.warnings)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from functools import lru_cache
from itertools import chain
from types import MappingProxyType
from typing import Literal, NamedTuple

from scraper import urls
from scraper.robots import Robots
from scraper.streams import lines, unzipped
from scraper.xmlrows import RowReader, local_name, read_rows, xml_texts

__all__ = ["MAX_SIZE", "MAX_URLS", "Entry", "Sitemap", "lastmod", "parse", "sitemaps_of"]

MAX_URLS = 50_000
"""Entries in one file, by the protocol."""

MAX_SIZE = 52_428_800
"""Bytes of one file, unpacked, by the protocol."""

MAX_URL = 8192  # characters
MAX_ALTERNATES = 1000

NONE: Mapping[str, str] = MappingProxyType({})

Kind = Literal["url", "sitemap"]


class Entry(NamedTuple):
    """One line of a sitemap.

    `loc`: an href, or what stands there when that is no URL. `lastmod`: with a time zone (UTC when
    none is given); `precision`: how long a time its text stands for, in seconds (a day for
    `2026-01-31`, 0 for a full time stamp). `changefreq`: in lower case. `priority`: 0 to 1.
    `alternates`: hreflang → href. `kind`: `sitemap` for what an index names.
    """

    loc: str
    lastmod: datetime | None = None
    changefreq: str | None = None
    priority: float | None = None
    alternates: Mapping[str, str] = NONE
    kind: Kind = "url"
    precision: int = 0

    def modified_since(self, moment: datetime) -> bool:
        """Whether it may have changed after *moment*: also when nobody says."""
        if self.lastmod is None:
            return True
        try:
            return self.lastmod + timedelta(seconds=self.precision) > moment
        except OverflowError:  # the year 9999
            return True


# Dates -------------------------------------------------------------------------------------------

_W3C = re.compile(
    r"(\d{4})(?:-(\d\d?)(?:-(\d\d?)"
    r"(?:[T ]+(\d\d?):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?\s*(Z|[+-]\d\d(?::?\d\d)?)?)?)?)?\Z",
    re.IGNORECASE | re.ASCII,
)
_DAY = 86_400


@lru_cache(maxsize=1024)
def lastmod(text: str) -> tuple[datetime | None, int]:
    """The date in *text* and its precision in seconds; (None, 0) for what is no date.

    W3C datetime (https://www.w3.org/TR/NOTE-datetime) in every precision, or RFC 822 as RSS has
    it. Without a time zone it is UTC.
    """
    text = text.strip()
    match = _W3C.match(text)
    try:
        if match is not None:
            return _w3c(match)
        if not text or len(text) > 100:
            return None, 0
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None, 0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)), 0


def _w3c(match: re.Match[str]) -> tuple[datetime, int]:
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    moment = datetime(
        int(year),
        int(month or 1),
        int(day or 1),
        int(hour or 0),
        int(minute or 0),
        min(int(second or 0), 59),  # a leap second
        int((fraction or "0")[:6].ljust(6, "0")),
        tzinfo=_zone(zone or "Z"),
    )
    if hour is not None:
        return moment, 0 if second is not None else 60
    return moment, _DAY if day else 31 * _DAY if month else 366 * _DAY


def _zone(text: str) -> timezone:
    if text in "Zz":
        return UTC
    minutes = int(text[1:3]) * 60 + int(text[3:].lstrip(":") or 0)
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))


# Reading -----------------------------------------------------------------------------------------


def parse(
    body: bytes,
    *,
    url: str = "",
    content_type: str = "",
    max_urls: int = MAX_URLS,
    max_size: int = MAX_SIZE,
) -> Sitemap:
    """The sitemap in *body*: iterate over it for its entries.

    *url*: where it came from, which relative URLs are resolved against. *content_type*: the
    header, for its charset. Entries above *max_urls* are counted, not given. Iterating raises
    `ExtractionError`: `xml_entity`, `body_too_large` (more than *max_size* bytes, unpacked),
    `parse_limit`.
    """
    return Sitemap(body, url, content_type, max_urls, max_size)


class Sitemap:
    """A sitemap that is read while one iterates over it, once.

    `warnings`: what was damaged, odd or left out; whole once the iteration has ended. `count`:
    entries given; `over`: entries left out because they are above the limit.
    """

    __slots__ = ("_entries", "_limit", "count", "over", "url", "warnings")

    def __init__(
        self, body: bytes, url: str, content_type: str, max_urls: int, max_size: int
    ) -> None:
        self.url = url
        self.warnings: list[str] = []
        self.count = 0
        self.over = 0
        self._limit = max_urls
        self._entries = self._read(body, content_type, max_size)

    def __iter__(self) -> Iterator[Entry]:
        return self._entries

    def _read(self, body: bytes, content_type: str, max_size: int) -> Iterator[Entry]:
        pieces = unzipped(body, max_size, self.warnings)
        text = xml_texts(pieces, content_type)
        head = next((piece for piece in text if piece.strip("\ufeff \t\r\n\0")), None)
        if head is None:
            self.warnings.append("it is empty")
            return
        if _HTML.match(head):
            self.warnings.append("it is an HTML page, no sitemap")
            return
        text = chain([head], text)
        is_xml = head.lstrip("\ufeff \t\r\n\0").startswith("<") or _LATE_XML.search(head)
        for entry in self._xml(text) if is_xml else self._lines(text):
            if self.count < self._limit:
                self.count += 1
                yield entry
            else:
                self.over += 1
        if self.over:
            total = self.count + self.over
            self.warnings.append(
                f"{total:,} entries: a sitemap has at most {self._limit:,},"
                f" the last {self.over:,} were left out"
            )

    def _xml(self, text: Iterator[str]) -> Iterator[Entry]:
        reader = _Entries(self.url)
        yield from read_rows(text, reader, self.warnings)
        if reader.ended:
            self.warnings.append("it is an HTML page, no sitemap")
        elif reader.root is not None and not reader.known and not reader.found:
            self.warnings.append(f"it is no sitemap: its root element is <{reader.root[:80]}>")
        if reader.nowhere:
            self.warnings.append(f"{reader.nowhere:,} entries without a URL were left out")

    def _lines(self, text: Iterator[str]) -> Iterator[Entry]:
        """One URL a line; of what is no http(s) URL only the number is kept."""
        odd = 0
        for line in lines(text, 4 * MAX_URL):
            line = line.strip("\ufeff \t\r\n\0")
            if not line or line.startswith("#"):
                continue
            href = urls.parse(line)
            if href is not None and urls.is_web(href) and len(line) <= MAX_URL:
                yield Entry(href)
            else:
                odd += 1
        if odd:
            self.warnings.append(f"{odd:,} lines that are no http(s) URLs were left out")

    def __repr__(self) -> str:
        return f"<Sitemap {self.url}: {self.count:,} entries so far>"


_HTML = re.compile(r"[\s\ufeff]*<(?:!doctype\s+html|html)\b", re.IGNORECASE)
_LATE_XML = re.compile(r"<(?:\?xml|(?:[\w.-]+:)?(?:urlset|sitemapindex|rss|feed)\b)", re.IGNORECASE)


_ROOTS = {
    "urlset": frozenset({"url", "sitemap"}),
    "sitemapindex": frozenset({"sitemap", "url"}),
    "rss": frozenset({"item"}),
    "rdf": frozenset({"item"}),
    "feed": frozenset({"entry"}),
}
_FIELDS = frozenset({"loc", "lastmod", "changefreq", "priority"})
_FEED_FIELDS = frozenset({"link", "guid", "id", "pubdate", "updated", "published", "date"})
_WANTED = _FIELDS | _FEED_FIELDS
_MAX_TEXT = 2 * MAX_URL


class _Entries(RowReader[Entry]):
    """Entries of any of the XML formats. Only direct children of an entry count, so that the
    `image:loc` in an `image:image` is no page."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.root: str | None = None
        self.known = False
        self.found = False
        self.nowhere = 0
        self._names: dict[str, tuple[str, str]] = {}
        self._kind = ""
        self._prefix = ""
        self._text: list[str] | None = None
        self._size = 0
        self._fields: dict[str, str] = {}
        self._foreign: dict[str, str] = {}
        self._own: list[str] = []  # text of the entry element itself
        self._key, self._into = "", self._fields  # what is being read, and where it goes
        self._alternates: dict[str, str] = {}

    def outside(self, name: str) -> None:
        if self.root is None:
            self.root = name
            local = local_name(name)
            self.known = local in _ROOTS
            self.rows = _ROOTS.get(local, _ROOTS["urlset"])
            self.ended = local == "html"

    def opened(self, name: str, attributes: dict[str, str]) -> None:
        self.found = True
        self._prefix, _, self._kind = name.lower().rpartition(":")
        self._fields = {}
        self._foreign = {}
        self._alternates = {}
        self._own = []
        self._text, self._size = self._own, 0

    def entered(self, name: str, attributes: dict[str, str]) -> None:
        self._text = None
        if self.depth != 2:
            return
        if (pair := self._names.get(name)) is None:
            prefix, _, local = name.lower().rpartition(":")
            pair = (prefix, local)
            if len(self._names) < 1000:
                self._names[name] = pair
        prefix, local = pair
        if local in _WANTED:
            self._text, self._size = [], 0
            self._key = local
            self._into = self._fields if prefix == self._prefix else self._foreign
        if attributes and local == "link":
            self._link(attributes)
        elif attributes and local == "guid":
            permalink = attributes.get("isPermaLink", "true").strip().lower()
            self._fields.setdefault("guid is", permalink)

    def _link(self, attributes: dict[str, str]) -> None:
        """`<xhtml:link rel="alternate" hreflang= href=>`, or Atom's `<link href=>`."""
        href = attributes.get("href", "").strip()
        rel = attributes.get("rel", "alternate").strip().lower()
        if not href or "alternate" not in rel.split() or len(href) > MAX_URL:
            return
        language = attributes.get("hreflang", "").strip()
        if self._kind == "entry" and "href" not in self._fields:
            self._fields["href"] = href
        elif language and len(self._alternates) < MAX_ALTERNATES:
            self._alternates.setdefault(language, urls.parse(href, self.base or None) or href)

    def text(self, text: str) -> None:
        if self._text is not None and self._size <= _MAX_TEXT:
            self._size += len(text)
            self._text.append(text)

    def left(self, name: str) -> None:
        if self.depth != 2:
            return
        if self._text is not None:
            value = "".join(self._text).strip()
            if value and self._key not in self._into:
                self._into[self._key] = value
        self._text, self._size = self._own, 0

    def closed(self) -> None:
        self._text = None
        feed = self._kind in ("item", "entry")
        loc = self._feed_loc() if feed else self._get("loc") or "".join(self._own).strip()
        if not loc or len(loc) > MAX_URL:
            self.nowhere += 1
            return
        changed = self._feed_date() if feed else self._get("lastmod")
        moment, precision = lastmod(changed[:64]) if changed else (None, 0)
        changefreq = self._get("changefreq")
        self.done.append(
            Entry(
                urls.parse(loc, self.base or None) or loc,
                moment,
                changefreq.lower() if changefreq else None,
                _priority(self._get("priority")),
                MappingProxyType(self._alternates) if self._alternates else NONE,
                "sitemap" if self._kind == "sitemap" else "url",
                precision,
            )
        )

    def _get(self, name: str) -> str:
        return self._fields.get(name) or self._foreign.get(name, "")

    def _feed_loc(self) -> str:
        if loc := self._fields.get("href") or self._fields.get("link"):
            return loc
        guid = self._get("guid") or self._fields.get("id", "")
        if urls.is_web(guid):  # many say isPermaLink="false" of what is a URL all the same
            return guid
        return guid if self._fields.get("guid is") == "true" else self._foreign.get("link", "")

    def _feed_date(self) -> str:
        names = ("pubdate", "updated", "published", "date", "lastmod")
        return next(filter(None, map(self._get, names)), "")


def _priority(text: str) -> float | None:
    if not text or len(text) > 20:
        return None
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


# robots.txt --------------------------------------------------------------------------------------


def sitemaps_of(robots: str | bytes, url: str = "") -> list[str]:
    """The hrefs of the `Sitemap:` lines of a robots.txt, each once.

    *url*: where it came from, for those that are relative (the protocol wants them whole).
    """
    body = robots.encode("utf-8", "replace") if isinstance(robots, str) else robots
    found = Robots.parse(body, "*", url=url).sitemaps
    return [href for href in found if urls.is_web(href)]
