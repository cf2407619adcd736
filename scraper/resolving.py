"""Resolving the hrefs of pages: exactly as the WHATWG URL Standard, mostly by string work.

Most hrefs are plain paths, and most of a page's were on other pages before. So what an href means
is remembered: where it depends on the origin only (`/x`, `https://…`), for all of a site, else for
the pages of one directory. What string work cannot vouch for is left to ada (`urls.parse`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from scraper.urls import is_web, parse, without_fragment

__all__ = ["Known", "Resolver", "Table", "cut_fragment", "directory", "heads"]

# The hrefs that string work resolves exactly as the standard would. A path of segments that do
# not start with a dot (so none is `.` or `..`; `%2e` is a dot too), none of whose characters the
# standard escapes, strips or reads as a scheme; then perhaps a query of the same kind.
_CHARACTERS = r"A-Za-z0-9_~!$&'()*+,;=@\-"
_ESCAPE = r"%(?!2[eE])"
_SEGMENT = rf"(?:[{_CHARACTERS}]|{_ESCAPE})[{_CHARACTERS}.]*+(?:{_ESCAPE}[{_CHARACTERS}.]*+)*+"
_QUERY = r"(?:\?[A-Za-z0-9_~!$&()*+,;=@\-.%/:?\[\]|]*+)?"
_plain = re.compile(rf"(?:{_SEGMENT}/)*+(?:{_SEGMENT})?{_QUERY}").fullmatch
_UP = "../"
_ROOTED = ("/", "http://", "https://")


class Table:
    """What hrefs mean: `hrefs` gives absolute URLs, None for what is invalid.

    `pages`: the same, but None also for what leads to no page (see `links.page_links`).
    `size`: how many there were in both when `links.Memo` last looked.
    """

    __slots__ = ("hrefs", "pages", "size")

    def __init__(self) -> None:
        self.hrefs: dict[str, str | None] = {}
        self.pages: dict[str, str | None] = {}
        self.size = 0

    def forget(self) -> None:
        """Forget everything: that costs time, nothing else."""
        self.hrefs.clear()
        self.pages.clear()


class Known(Table):
    """What hrefs mean on the pages of one directory; may be shared by their resolvers.

    `directory`: of an absolute URL, as the function of that name gives it. `site`: for the hrefs
    that mean the same on the whole `origin`; may be shared by its directories.
    """

    __slots__ = ("directory", "origin", "site")

    def __init__(self, directory: str, site: Table | None = None) -> None:
        super().__init__()
        path = directory.find("/", directory.find("://") + 3) if is_web(directory) else 0
        self.origin = directory[:path] if path > 0 else ""
        self.directory = directory
        self.site = Table() if site is None else site


class Resolver:
    """Resolves the hrefs of one page against its *base*: exactly as WHATWG, mostly without ada.

    Results carry no fragment. *known*: of the directory of *base*; it remembers what does not
    depend on the page itself. `given`: the links that were found last, absolute and clean.
    """

    __slots__ = ("base", "given", "known")

    def __init__(self, base: str, known: Known | None = None) -> None:
        self.base = base
        self.known = Known(directory(base)) if known is None else known
        self.given: dict[str | None, None] = {}

    def resolve(self, href: str) -> str | None:
        """The absolute href without fragment, or None when *href* is not a valid URL."""
        href = cut_fragment(href) if self.known.origin else href
        table = self.table(href)
        if table is None:
            return self.look_up(href)
        if href not in table.hrefs:
            table.hrefs[href] = self.look_up(href)
        return table.hrefs[href]

    def table(self, href: str) -> Table | None:
        """Where the meaning of *href* is to be remembered; None when it depends on the page."""
        known = self.known
        if not known.origin:
            return None
        if href.startswith(_ROOTED):
            return known.site
        if href[:1] <= " " or href[0] == "?":
            return None
        if ":" in href:
            scheme, _, rest = href.partition(":")
            # "http:" and "http:?x" are relative on an http page: to the page, not its directory.
            if scheme[:1] in ("h", "H") and rest[:1] not in ("/", "\\"):
                return None
        return known

    def web_links(self, hrefs: Iterable[str | None]) -> list[str]:
        """The http(s) URLs among *hrefs*, each once, in order; `#…` (this page) is left out."""
        near, far = self.known.hrefs, self.known.site.hrefs
        self.given = dict.fromkeys([
            near[head] if head in near else far[head] if head in far else self.resolve(head)
            for head in heads(hrefs)
        ])
        return [url for url in self.given if url is not None and is_web(url)]

    def look_up(self, href: str) -> str | None:
        """As `resolve`, of an *href* without fragment, and without remembering."""
        known, first = self.known, href[:1]
        if not known.origin:
            pass  # nothing that string work could build on
        elif first == "/":
            if href[1:2] != "/" and _plain(href, 1):
                return known.origin + href
        elif first == ".":
            if (found := self._relative(href)) is not None:
                return found
        elif first == "?":
            if _plain(href):
                return without_fragment(self.base).partition("?")[0] + href
        elif not first:
            return without_fragment(self.base)
        elif first == "h" and href.startswith(known.origin):
            path = len(known.origin)
            if href[path : path + 1] == "/" and _plain(href, path + 1):
                return href
        elif _plain(href):
            return known.directory + href
        absolute = parse(href, self.base)
        return None if absolute is None else without_fragment(absolute)

    def _relative(self, href: str) -> str | None:
        """`./x` and `../x`; None when the rest is not plain."""
        directory, start = self.known.directory, 2 if href.startswith("./") else 0
        root = len(self.known.origin) + 1
        while href.startswith(_UP, start):
            start += 3
            if len(directory) > root:  # above the root is the root
                directory = directory[: directory.rindex("/", 0, -1) + 1]
        # "..//x" keeps its empty segment, so what follows must not look rooted.
        if start == 0 or href[start : start + 1] in ("/", "?") or not _plain(href, start):
            return None
        return directory + href[start:]


def heads(hrefs: Iterable[str | None]) -> dict[str, None]:
    """*hrefs* without fragments, each once; nothing is left of what leads to the page itself."""
    found = dict.fromkeys([
        href if "#" not in href else cut_fragment(href) for href in hrefs if href
    ])
    found.pop("", None)
    return found


def directory(href: str) -> str:
    """*href* up to the last `/` of its path: relative hrefs without a query depend on it only."""
    page = href.partition("#")[0].partition("?")[0]
    return page[: page.rfind("/") + 1]


def cut_fragment(href: str) -> str:
    """*href*, not resolved yet, without its fragment.

    White space at a URL's end is stripped, but not before a fragment: there the `#` must stay.
    """
    at = href.find("#")
    if at < 0:
        return href
    return href[: at + 1] if at and href[at - 1] <= " " else href[:at]
