"""What a page says of itself and of its links: its base, its canonical address, nofollow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from scraper import urls
from scraper.select import Document, attribute

__all__ = ["base_url", "canonical_url", "forbids_following"]


def base_url(document: Document, url: str) -> str:
    """What the page's hrefs are relative to: its first `<base href>`, if that is an http(s) URL."""
    for base in document.parser.tags("base"):  # a quarter of the time that css takes
        if (given := attribute(base, "href")) is not None:
            href = urls.parse(given, url)
            return href if href is not None and urls.is_web(href) else url
    return url


def canonical_url(
    document: Document | None, base: str, url: str, fields: Iterable[str]
) -> str | None:
    """The address that the page of *url* calls its own, without fragment; None when it has none.

    The first `<link rel=canonical>` that is an http(s) URL, relative to *base*, or else one of the
    `Link` header *fields* (RFC 6596, RFC 8288), relative to *url*.
    """
    hrefs = [(href, url) for href in _canonical_fields(fields)]
    if document is not None:
        found = document.parser.css('link[rel~="canonical" i][href]')
        hrefs[:0] = [(node.attrs["href"] or "", base) for node in found]
    for href, relative_to in hrefs:
        parsed = urls.parse(href, relative_to) if href.strip() else None
        if parsed is not None and urls.is_web(parsed):
            return urls.without_fragment(parsed)
    return None


_FIELD = re.compile(r'<([^<>]*+)>((?:[^,"<]|"(?:[^"\\]|\\.)*+"?)*+)', re.DOTALL)
_PARAMETER = re.compile(r';\s*+([\w*-]++)\s*+=\s*+("(?:[^"\\]|\\.)*+"|[^\s;,]*+)', re.DOTALL)


def _canonical_fields(fields: Iterable[str]) -> Iterator[str]:
    for field in fields:
        for target, rest in _FIELD.findall(field):
            parameters: dict[str, str] = {}
            for name, value in _PARAMETER.findall(rest):
                parameters.setdefault(name.lower(), value.strip('"').lower())
            if "canonical" in parameters.get("rel", "").split() and "anchor" not in parameters:
                yield target


def forbids_following(document: Document, fields: Iterable[str]) -> bool:
    """Whether the page asks all robots not to follow its links.

    By `<meta name=robots content=nofollow>` (or `none`), or in the `X-Robots-Tag` header *fields*;
    what names one robot (`otherbot: nofollow`) speaks to that one only.
    """
    metas = document.parser.css('meta[name="robots" i][content]')
    contents = [*fields, *(node.attrs["content"] or "" for node in metas)]
    return any(_asks_not_to_follow(content) for content in contents)


def _asks_not_to_follow(content: str) -> bool:
    for part in content.lower().split(","):
        words = part.split(":")
        if len(words) > 1 and words[0].strip() not in _WITH_VALUE:
            return False  # a robot's name: the rest of the field is for that one
        if words[0].strip() in ("nofollow", "none"):
            return True
    return False


_WITH_VALUE = frozenset({
    "unavailable_after", "max-snippet", "max-image-preview", "max-video-preview",
})  # fmt: skip
