"""SitemapSpider: a spider that takes its URLs from a site's sitemaps."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import BeforeValidator

from scraper import urls
from scraper.errors import ExtractionError, FetchError, SpiderError, Throttled, UsageError
from scraper.http import Failure, Request, Response
from scraper.request import DEFAULTS, Options
from scraper.select import compile_re
from scraper.sitemap import MAX_SIZE, MAX_URLS, Entry, Sitemap, lastmod, parse, sitemaps_of
from scraper.spider import Output, Spider

__all__ = ["Since", "SitemapSpider"]

MAX_LEVELS = 3
"""Indexes above a sitemap: an index of indexes of indexes is read, and no further."""

BREATH = 500
"""Entries after which other pages get their turn."""

Rule: TypeAlias = tuple[str | re.Pattern[str], str | Callable[..., Any]]

_SPAN = re.compile(r"(\d{1,6})\s*([wdh])\Z", re.IGNORECASE | re.ASCII)
_UNITS = {"w": "weeks", "d": "days", "h": "hours"}


def _since(value: Any) -> Any:
    """A moment with a time zone, or a span; raises `ValueError` for what is neither."""
    if isinstance(value, str):
        if match := _SPAN.match(value.strip()):
            return timedelta(**{_UNITS[match[2].lower()]: int(match[1])})
        moment, _ = lastmod(value)
        if moment is None:
            raise ValueError("write a date (2026-01-31, 2026-01-31T12:00Z) or a span (7d, 36h, 2w)")
        return moment
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    if value is None or isinstance(value, timedelta):
        return value
    raise ValueError("give a date, a datetime, a timedelta, or their text")


Since: TypeAlias = Annotated[datetime | date | timedelta | str | None, BeforeValidator(_since)]
"""A moment, or how long ago: `2026-01-31`, `2026-01-31T12:00+01:00`, `7d`, `36h`, `2w`."""


class SitemapSpider(Spider):
    """Reads sitemaps and hands each URL in them to the callback that its rule names.

    ::

        class Shop(SitemapSpider):
            name = "shop"
            sitemap_urls = ["https://shop.example/robots.txt"]
            sitemap_rules = [("/product/", "parse_product"), (r"/c/\\d+", "parse_category")]

    `sitemap_urls`: sitemaps, sitemap indexes, or robots.txt files that name them; XML, text, RSS
    or Atom, gzip or not. When empty, the robots.txt of the hosts in `start_urls` (else in
    `allowed_domains`) is asked; if that names none, `/sitemap.xml` is tried. `start_urls` are
    fetched too. `sitemap_rules`: (regular expression searched in the URL, callback); the first
    that matches decides, and a URL that none matches is left out. `sitemap_follow`: regular
    expressions; of an index, only the sitemaps that match one are read. `sitemap_alternate_links`:
    also take the other languages' URLs (`hreflang`). `sitemap_filter`: override to choose or
    change entries.

    `modified_since` is an argument of every such spider (`-a modified_since=2026-01-31`, `7d`) and
    may be set in the class: entries, and whole sitemaps of an index, whose `lastmod` is older are
    left out; what has no `lastmod` is kept. A span counts back from when the process started.

    Callbacks find the entry's `lastmod`, where there is one, in `response.meta["lastmod"]`.

    Sitemaps are fetched like any page: politely, retried, durable; one that fails is logged. Links
    count as usual: a page listed in a sitemap is one link deeper (`crawl.max_depth`), and must be
    in scope. Sitemaps that robots.txt names may lie on any host. In a file 50,000 URLs are read,
    of an index three levels.
    """

    sitemap_urls: ClassVar[Sequence[str]] = ()
    sitemap_rules: ClassVar[Sequence[Rule]] = (("", "parse"),)
    sitemap_follow: ClassVar[Sequence[str | re.Pattern[str]]] = ("",)
    sitemap_alternate_links: ClassVar[bool] = False
    settings: ClassVar[Mapping[str, Any]] = {
        "crawl": {"max_links_per_page": MAX_URLS},
        "http": {"max_wire": MAX_SIZE, "max_body": MAX_SIZE},
    }

    modified_since: Since = None

    _rules: list[tuple[Callable[[str], Any], str]]
    _follow: list[Callable[[str], Any]]
    _cutoff: datetime | None

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        for name in ("sitemap_urls", "sitemap_follow"):
            if isinstance(given := getattr(self, name), str):
                raise SpiderError(
                    f"{self._who}: {name} is a list", hint=f"Write {name} = [{given!r}]."
                )
        starts = self.sitemap_urls or self.start_urls or self.allowed_domains
        if not starts and type(self).start is SitemapSpider.start:
            raise SpiderError(
                f"{self._who} has nowhere to start",
                hint="Give the class sitemap_urls, or start_urls or allowed_domains, whose "
                "robots.txt is asked for sitemaps.",
            )
        self._rules = [self._rule(rule) for rule in self.sitemap_rules]
        self._follow = [self._pattern(given, "sitemap_follow") for given in self.sitemap_follow]
        try:
            since = _since(self.modified_since)
        except ValueError as error:
            raise SpiderError(
                f"{self._who}: modified_since={self.modified_since!r}: {error}"
            ) from None
        self._cutoff = datetime.now(UTC) - since if isinstance(since, timedelta) else since

    # ── where it starts ──────────────────────────────────────────────────────────────────

    async def start(self) -> AsyncIterator[Request]:
        """The sitemaps, those that a robots.txt names among them; then `start_urls`."""
        for url in self.sitemap_urls:
            if url.partition("?")[0].endswith("/robots.txt"):
                async for request in self._named_in(url):
                    yield request
            else:
                yield self._sitemap(url)
        if not self.sitemap_urls:
            for origin in self._origins():
                async for request in self._named_in(f"{origin}/robots.txt"):
                    yield request
        for url in self.start_urls:
            yield Request(url)

    def _origins(self) -> list[str]:
        """The hosts whose sitemaps are looked for when none is named."""
        hrefs = [urls.parse(url) for url in self.start_urls] or [
            urls.parse(f"https://{domain.removeprefix('*').removeprefix('.')}/")
            for domain in self.allowed_domains
        ]
        return list(dict.fromkeys(urls.host_key(h) for h in hrefs if h and urls.is_web(h)))

    async def _named_in(self, robots: str) -> AsyncIterator[Request]:
        """A request for each sitemap that *robots* names, on whatever host; else the usual one."""
        origin = urls.host_key(robots)
        named = await self._read_robots(robots)
        for url in named:
            if self.allowed_domains and urls.host_key(url) != origin:
                async for request in self._elsewhere(url):
                    yield request
            else:
                yield self._sitemap(url)
        if not named:
            self.log.info("%s/robots.txt names no sitemap: trying /sitemap.xml", origin)
            yield self._sitemap(f"{origin}/sitemap.xml")
        elif all(urls.host_key(url) != origin for url in named):
            # Its sitemaps lie elsewhere, but this is the site: a start request says so.
            yield Request(robots, self._parse_robots)

    async def _elsewhere(self, url: str) -> AsyncIterator[Request]:
        """What robots.txt names on another host; of an index the sitemaps in it.

        Start requests may lead out of `allowed_domains`, links may not: so an index is read here.
        What is none, or cannot be read now, becomes a request that will say so.
        """
        requests: list[Request] = []
        try:
            response = await self.fetch(url)
            if response.status == 200:
                below = _Requests(self, response, 0)
                for entry in self.sitemap_filter(self._recent(_parsed(response))):
                    if entry.kind != "sitemap":
                        break
                    requests += below.of(entry)
        except (FetchError, ExtractionError) as error:
            self.log.debug("sitemap %s: %s", urls.redact(url), error)
        for request in requests or [self._sitemap(url)]:
            yield request

    async def _read_robots(self, url: str) -> list[str]:
        for attempt in (1, 2):
            try:
                response = await self.fetch(url)
            except FetchError as error:
                if attempt == 2 or isinstance(error, Throttled):
                    self.log.warning("%s cannot be read: %s", urls.redact(url), error.reason)
                    break
            else:
                return sitemaps_of(response.body, response.url) if response.status == 200 else []
        return []

    async def _parse_robots(self, response: Response) -> None:
        """Nothing more to do: the request was there to bring its host into scope."""

    def _sitemap(self, url: str, level: int = 0) -> Request:
        return Request(
            url, self._parse_sitemap, errback=self._sitemap_failed, kwargs={"level": level}
        )

    # ── a sitemap ────────────────────────────────────────────────────────────────────────

    def sitemap_filter(self, entries: Iterable[Entry]) -> Iterable[Entry]:
        """Override to choose among *entries* (or change them, by `entry._replace`); lazily.

        Gets what `modified_since` has let pass, pages and (`entry.kind == "sitemap"`) sitemaps.
        """
        return entries

    async def _parse_sitemap(self, response: Response, level: int = 0) -> Output:
        sitemap = _parsed(response)
        requests = _Requests(self, response, level)
        taken = 0
        for entry in self.sitemap_filter(self._recent(sitemap)):
            for request in requests.of(entry):
                taken += 1
                yield request
            if sitemap.count % BREATH == 0:
                await asyncio.sleep(0)
        shown = urls.redact(response.url)
        self.log.info("sitemap %s: %d entries, %d requests", shown, sitemap.count, taken)
        for warning in sitemap.warnings:
            self.log.warning("sitemap %s: %s", shown, warning)

    def _recent(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        cutoff = self._cutoff
        if cutoff is None:
            yield from entries
            return
        for entry in entries:
            if entry.modified_since(cutoff):
                yield entry

    async def _sitemap_failed(self, failure: Failure) -> None:
        self.log.warning(
            "sitemap not read (%s): %s", failure.reason, urls.redact(failure.request.url)
        )

    # ── the class as it was written ──────────────────────────────────────────────────────

    @property
    def _who(self) -> str:
        return f"spider {self.name or type(self).__name__}"

    def _rule(self, rule: Any) -> tuple[Callable[[str], Any], str]:
        if not isinstance(rule, tuple | list) or len(rule) != 2:
            raise SpiderError(
                f"{self._who}: sitemap_rules: {rule!r} is not a pair",
                hint='Write [("/product/", "parse_product")].',
            )
        given, callback = rule
        name = callback if isinstance(callback, str) else getattr(callback, "__name__", "")
        if not callable(getattr(self, name or "-", None)):
            raise SpiderError(
                f"{self._who}: sitemap_rules: {callback!r} is no method of the spider",
                hint="Write the callback as a method and give its name.",
            )
        return self._pattern(given, "sitemap_rules"), name

    def _pattern(self, given: Any, where: str) -> Callable[[str], Any]:
        if not isinstance(given, str | re.Pattern):
            raise SpiderError(
                f"{self._who}: {where}: {given!r} is not a regular expression",
                hint=f"{where} is a list, of strings or compiled expressions.",
            )
        try:
            return compile_re(given).search
        except UsageError as error:
            raise SpiderError(f"{self._who}: {where}: {error.message}") from None


def _parsed(response: Response) -> Sitemap:
    content_type = response.headers.get("content-type", "")
    return parse(response.body, url=response.url, content_type=content_type)


class _Requests:
    """The requests of one sitemap's entries, which share what they can."""

    def __init__(self, spider: SitemapSpider, response: Response, level: int) -> None:
        self._spider = spider
        self._level = level
        self._below = spider._sitemap(response.url, level + 1)
        self._told = False
        self._seen: set[str] | None = set() if spider.sitemap_alternate_links else None
        self._options: dict[datetime, Options] = {}

    def of(self, entry: Entry) -> Iterator[Request]:
        if entry.kind == "sitemap":
            yield from self._index(entry.loc)
            return
        seen = self._seen
        if seen is None:
            yield from self._page(entry.loc, entry)
            return
        for url in (entry.loc, *entry.alternates.values()):
            if url not in seen:  # every language's entry names all the others
                seen.add(url)
                yield from self._page(url, entry)

    def _page(self, url: str, entry: Entry) -> Iterator[Request]:
        for search, callback in self._spider._rules:
            if search(url):
                yield _request(url, callback, self._shared(entry.lastmod))
                return

    def _shared(self, moment: datetime | None) -> Options:
        if moment is None:
            return DEFAULTS
        options = self._options.get(moment)
        if options is None:
            meta = MappingProxyType({"lastmod": moment.isoformat()})
            options = self._options[moment] = Options(meta=meta)
        return options

    def _index(self, url: str) -> Iterator[Request]:
        if not any(search(url) for search in self._spider._follow):
            return
        if self._level < MAX_LEVELS:
            yield _request(url, self._below.callback, self._below.options)
        elif not self._told:
            self._told = True
            self._spider.log.warning(
                "sitemap index more than %d levels deep: %s is not read",
                MAX_LEVELS,
                urls.redact(url),
            )


def _request(url: str, callback: str | None, options: Options) -> Request:
    """A request with options that others have, too; *url* is an href or has none."""
    if "@" in url:  # may hold credentials, which Request takes out
        url = Request(url).url
    return Request.of(url, callback, options)
