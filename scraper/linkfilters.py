"""What a link must look like: patterns of URLs, endings of files, hosts.

The options of `LinkQuery` as they are given, checked and compiled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from fnmatch import translate
from functools import lru_cache
from urllib.parse import unquote

from scraper import urls
from scraper.errors import UsageError
from scraper.select import compile_re

__all__ = [
    "FILE_ENDINGS",
    "Filter",
    "Names",
    "attribute_names",
    "endings",
    "glob",
    "has_ending",
    "hosts",
    "leads_to",
    "texts",
    "url_patterns",
]

Filter = str | re.Pattern[str] | Iterable[str | re.Pattern[str]] | None
"""Patterns, of which one must be found: see `links.LinkQuery`."""

Names = str | Iterable[str] | None
"""One name, or several."""


def _names(given: Names) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given or ())


# Files ------------------------------------------------------------------------------------------

FILE_ENDINGS = frozenset({
    # images
    "apng", "avif", "bmp", "cdr", "dng", "eps", "gif", "heic", "heif", "ico", "jfif", "jp2",
    "jpeg", "jpg", "png", "psd", "svg", "svgz", "tif", "tiff", "webp",
    # audio and video
    "aac", "aif", "aiff", "flac", "m4a", "mid", "midi", "mka", "mp3", "oga", "ogg", "opus", "wav",
    "weba", "wma",
    "3g2", "3gp", "asf", "avi", "flv", "m2ts", "m3u8", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg",
    "ogv", "qt", "swf", "webm", "wmv",
    # archives and disk images
    "7z", "bz2", "cab", "gz", "img", "iso", "lz4", "lzma", "rar", "tar", "tbz2", "tgz", "txz",
    "xz", "zip", "zst",
    # programs and packages
    "apk", "appimage", "bin", "deb", "dll", "dmg", "exe", "ipa", "jar", "msi", "pkg", "rpm", "so",
    "whl",
    # documents
    "doc", "docm", "docx", "dot", "dotx", "epub", "key", "mobi", "numbers", "odg", "odp", "ods",
    "odt", "pages", "pdf", "pot", "potx", "pps", "ppsx",
    "ppt", "pptm", "pptx", "ps", "rtf", "xls", "xlsb", "xlsm", "xlsx", "xlt", "xltx",
    # what pages are made of
    "css", "eot", "js", "map", "mjs", "otf", "ttf", "wasm", "woff", "woff2",
})  # fmt: skip
"""The endings of files that are no pages: sweeping a page for links leaves them out by default.

Lower case, without the dot. Not among them: what a crawl may well read, such as `csv`, `json`,
`rss`, `txt` and `xml`. For more or fewer: ``links(extensions=FILE_ENDINGS | {"csv"})``.
"""


def endings(given: Names) -> frozenset[str] | None:
    """The endings of `extensions` (`pdf`, `.pdf`, `*.pdf`, `tar.gz`). Raises `UsageError`."""
    if given is None:
        return None
    names = _names(given)
    found = frozenset(name.lower().removeprefix("*").removeprefix(".") for name in names)
    for name in found:
        if not _ENDING.fullmatch(name):
            raise UsageError(
                f"extensions: {name!r} is not the ending of a file",
                hint='They are skipped: extensions=("pdf", "tar.gz"); () skips nothing.',
            )
    return found


_ENDING = re.compile(r"[^\s./?#]+(?:\.[^\s./?#]+)?")


def has_ending(href: str, endings: Collection[str] = FILE_ENDINGS) -> bool:
    """Whether the last segment of the path of *href*, an http(s) URL, ends in one of *endings*.

    Without regard to case, with escapes decoded and path parameters (`;jsessionid=…`) left out.
    """
    path = href.partition("?")[0] if "?" in href else href
    start = path.rfind("/") + 1
    if "%" in path or ";" in path:
        path, start = unquote(path[start:].partition(";")[0]).rstrip(), 0
    dot = path.rfind(".", start)
    if dot < 0:
        return False
    if path[dot + 1 :].lower() in endings:
        return True
    first = path.rfind(".", start, dot)
    return first >= 0 and path[first + 1 :].lower() in endings


# Patterns ---------------------------------------------------------------------------------------


def glob(pattern: str) -> re.Pattern[str]:
    """*pattern* with wildcards, as a filter for links: `allow=glob("/books/*.html")`.

    It must match the whole URL, query included, or, when it begins with `/`, all that follows the
    host. `*`: any characters, slashes too; `?`: any one; `[ab]`, `[!ab]`: one (not) of these, so
    that ``[?]`` is a question mark.
    """
    if not pattern.startswith(("/", "*", "http", "?", "[")):
        raise UsageError(
            f"glob({pattern!r}) can never match: it is compared with the whole URL",
            hint=f'Begin with "https://", with "/" (all after the host) or with "*": '
            f"glob({'*' + pattern!r}).",
        )
    host = "https?://[^/]+" if pattern.startswith("/") else ""
    return re.compile(rf"\A{host}{translate(pattern)}")


@lru_cache(maxsize=1024)
def _pattern(given: str | re.Pattern[str]) -> re.Pattern[str]:
    """*given* compiled: a regular expression, or a glob where it begins with `*`."""
    if isinstance(given, str):
        if given.startswith("*"):
            return glob(given)
        if given.endswith("/*") and "\\" not in given:
            raise UsageError(
                f"{given!r} looks like a glob, but is a regular expression, which `/*` at the end"
                " means nothing in",
                hint=f"Write glob({given!r}), or leave off the asterisk.",
            )
    return compile_re(given)


def url_patterns(given: Filter) -> tuple[re.Pattern[str], ...] | None:
    """The patterns of `allow` and `deny`. Raises `UsageError`."""
    return _each(_pattern, given)


def attribute_names(given: Names) -> tuple[str, ...] | None:
    """The names of `attrs`. Raises `UsageError`."""
    if given is None:
        return None
    found = tuple(name.lower() for name in _names(given))
    for name in found:
        if not _ATTRIBUTE.fullmatch(name):
            raise UsageError(
                f"attrs: {name!r} is not the name of an attribute",
                hint='Such as attrs=("href", "data-url").',
            )
    return found


_ATTRIBUTE = re.compile(r"[\w-]+")


def texts(given: Filter) -> tuple[re.Pattern[str], ...] | None:
    """The patterns of `text`. Raises `UsageError`."""
    return _each(compile_re, given)


def _each(
    compiled: Callable[[str | re.Pattern[str]], re.Pattern[str]], given: Filter
) -> tuple[re.Pattern[str], ...] | None:
    if given is None:
        return None
    return tuple(map(compiled, (given,) if isinstance(given, (str, re.Pattern)) else given))


def hosts(option: str, names: Names) -> frozenset[str] | None:
    """The hosts of `domains` and `deny_domains`. Raises `UsageError` naming the *option*."""
    if names is None:
        return None
    found = {name: urls.domain_name(name) for name in _names(names)}
    for name, host in found.items():
        if host is None:
            raise UsageError(
                f"{option}: {name!r} is not a host",
                hint='Write "example.com", "example.com:8080" or "127.0.0.1", without a scheme.',
            )
    return frozenset(host for host in found.values() if host is not None)


def leads_to(link: str, domains: frozenset[str]) -> bool:
    """Whether the host of *link* is among *domains*, or below one of them."""
    host = urls.host_key(link).partition("://")[2]
    name, colon, port = host.rpartition(":")
    if colon and not port.endswith("]"):
        return urls.within(name, f":{port}", domains)
    return urls.within(host, "", domains)
