"""Links of a page, and what a crawl remembers of those it has met.

A page of documentation has a hundred links, most of which other pages had before. So duplicates
and fragments go before anything is resolved, and a `Memo` keeps resolved URLs and finished requests
for the whole crawl.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from selectolax.lexbor import LexborNode

from scraper import urls
from scraper.select import Document, attribute, compile_css, compile_re, find

__all__ = ["Filter", "Memo", "base_url", "find_links"]

Filter = str | re.Pattern[str] | Iterable[str | re.Pattern[str]] | None
"""Regular expressions searched in the absolute URL."""

_ANCHORS = "a[href],area[href]"


def base_url(document: Document, url: str) -> str:
    """What the page's hrefs are relative to: its first `<base href>`, if that is an http(s) URL."""
    base = document.parser.css_first("base[href]")
    if base is None:
        return url
    href = urls.parse(base.attrs["href"] or "", url)
    return href if href is not None and urls.is_web(href) else url


def find_links(
    document: Document,
    resolver: urls.Resolver,
    css: str | None = None,
    *,
    allow: Filter = None,
    deny: Filter = None,
) -> list[str]:
    """The page's links: absolute http(s) hrefs, without fragments, each once, in document order.

    *css*: only these elements; one with `href` or `src` is a link itself, any other stands for the
    links inside it. *allow*: at least one must be found in the URL; *deny*: none may.
    """
    if css is None:
        hrefs: list[str | None] = [n.attrs["href"] for n in document.parser.css(_ANCHORS)]
    else:
        hrefs = _chosen(document, css)
    links = resolver.web_links(filter(None, hrefs))
    if allow is not None:
        allowed = _patterns(allow)
        links = [link for link in links if any(p.search(link) for p in allowed)]
    if deny is not None:
        denied = _patterns(deny)
        links = [link for link in links if not any(p.search(link) for p in denied)]
    return links


def _chosen(document: Document, css: str) -> list[str | None]:
    hrefs: list[str | None] = []
    for match in find(document.parser, compile_css(css)):
        if isinstance(match, str):
            hrefs.append(match)
        elif (own := link_of(match)) is not None:
            hrefs.append(own)
        else:
            hrefs += (node.attrs["href"] for node in match.css(_ANCHORS))
    return hrefs


def link_of(node: LexborNode) -> str | None:
    """Where *node* itself points to; None when it has neither `href` nor `src`."""
    href = attribute(node, "href")
    return attribute(node, "src") if href is None else href


def _patterns(given: Filter) -> list[re.Pattern[str]]:
    if given is None:
        return []
    if isinstance(given, (str, re.Pattern)):
        return [compile_re(given)]
    return [compile_re(pattern) for pattern in given]


class Memo:
    """What one crawl remembers of its links, within bounds: some 130,000 hrefs, 50,000 requests.

    `known` is per directory, for the same relative href means the same on every page of one.
    When a table is full its oldest entries, or all, are forgotten: that costs time, nothing else.
    """

    __slots__ = ("_directories", "_requests")

    _requests: dict[tuple[str | None, str | None], dict[str, Any]]

    DIRECTORIES = 32
    HREFS = 4096
    REQUESTS = 50_000

    def __init__(self) -> None:
        self._directories: dict[str, urls.Known] = {}
        self._requests = {}

    def known(self, base: str) -> urls.Known:
        """What is known of the hrefs of pages in the directory of *base*."""
        key = urls.directory(base)
        known = self._directories.pop(key, None)
        if known is None:
            known = urls.Known()
            if len(self._directories) >= self.DIRECTORIES:
                del self._directories[next(iter(self._directories))]
        elif len(known.hrefs) > self.HREFS:
            known = urls.Known()
        self._directories[key] = known  # last in the order: the most recently used
        return known

    def requests(self, callback: str | None, session: str | None) -> dict[str, Any]:
        """Finished requests by absolute URL. Immutable, so one may be yielded many times."""
        if sum(map(len, self._requests.values())) >= self.REQUESTS:
            self._requests.clear()
        return self._requests.setdefault((callback, session), {})
