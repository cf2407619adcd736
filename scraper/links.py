"""Links of a page, and what a crawl remembers of those it has met.

A page of documentation has a hundred links, most of which other pages had before. So duplicates
and fragments go before anything is resolved, and a `Memo` keeps resolved URLs and finished requests
for the whole crawl.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Generic, NamedTuple, SupportsIndex, TypeVar, overload

from selectolax.lexbor import LexborNode

from scraper.errors import UsageError
from scraper.linkfilters import (
    Filter,
    Names,
    attribute_names,
    endings,
    has_ending,
    hosts,
    leads_to,
    texts,
    url_patterns,
)
from scraper.resolving import Known, Resolver, Table, directory, heads
from scraper.select import (
    Document,
    Root,
    attribute,
    collapse,
    compile_css,
    find,
    select,
    take,
)
from scraper.urls import is_web

__all__ = [
    "OPTIONS",
    "Filter",
    "LinkQuery",
    "Links",
    "Memo",
    "Names",
    "plain_query",
]

OPTIONS = frozenset({
    "xpath", "allow", "deny", "domains", "deny_domains", "extensions", "attrs", "text", "nofollow",
})  # fmt: skip
"""The keywords of `Response.links`, apart from css."""

# Looking ----------------------------------------------------------------------------------------

_ANCHORS = '[href]:not([href^="#"]):is(a,area)'  # half of a page's links may be to itself


class Links(list[str]):
    """Links in order: a list that says more when there is none at an index."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> str | list[str]:
        try:
            return super().__getitem__(index)
        except IndexError:
            raise IndexError(
                f"links(…)[{index}]: the page has {len(self) or 'none'} of these links."
                " Where one may be missing: for link in links(…)[:1]: …"
            ) from None


class _Link(NamedTuple):
    """A link as it stands in the page. `swept`: found on the way, not picked by the user."""

    href: str
    element: LexborNode | None
    swept: bool


class LinkQuery:
    """Which links of a page are wanted: the options of `Response.links`, checked and compiled.

    *css*, *xpath*: elements; one that holds an address (`href` or `src`) is a link itself, any
    other stands for the `<a>` and `<area>` inside it; strings (`::attr(…)`, `@href`) are addresses.
    *attrs*: the attributes that hold addresses, of whatever element, in place of these.

    *allow*: at least one must be found in the absolute URL; *deny*: none may. A pattern is a
    regular expression, searched; one that begins with `*` is a glob, and so is `glob("…")`.
    *domains*, *deny_domains*: hosts that links lead to, their subdomains included, with or without
    a port. *text*: regular expressions, one of which must be found in the text of the link.
    *extensions*: endings to skip. By default, `FILE_ENDINGS` are skipped where links are swept up
    (the whole page's, or those inside a picked element), while what was picked itself, or stands
    in another attribute than href, is kept whatever it ends in. `()` skips nothing.

    Raises `UsageError` for what cannot be meant.
    """

    __slots__ = (
        "_allow",
        "_attrs",
        "_css",
        "_deny",
        "_deny_domains",
        "_domains",
        "_extensions",
        "_picks",
        "_simple",
        "_text",
        "_unfiltered",
        "_xpath",
    )

    def __init__(
        self,
        css: str | None = None,
        *,
        xpath: str | None = None,
        allow: Filter = None,
        deny: Filter = None,
        domains: Names = None,
        deny_domains: Names = None,
        extensions: Names = None,
        attrs: Names = None,
        text: Filter = None,
    ) -> None:
        if css is not None and xpath is not None:
            raise UsageError(
                "links are found by css or by xpath, not by both",
                hint="xpath='//nav//a[contains(., \"more\")]', or css= with text='more'.",
            )
        self._picks = css is not None or xpath is not None
        self._css = () if css is None else compile_css(css)
        self._xpath = None if xpath is None else _checked_xpath(xpath)
        self._allow = url_patterns(allow)
        self._deny = url_patterns(deny)
        self._domains = hosts("domains", domains)
        self._deny_domains = hosts("deny_domains", deny_domains)
        self._extensions = endings(extensions)
        self._attrs = attribute_names(attrs)
        self._text = texts(text)
        self._simple = attrs is text is None
        self._unfiltered = allow is deny is domains is deny_domains is None and not self._extensions

    def find(self, document: Document, resolver: Resolver, *, follow: bool = True) -> list[str]:
        """The links: absolute http(s) URLs, without fragments, each once, in document order.

        *follow*: False leaves out those whose `rel` asks not to be followed.
        """
        if self._simple and follow:
            if self._picks:
                return self._filtered(self._quick(document, resolver))
            hrefs = [node.attrs["href"] for node in document.parser.css(_ANCHORS)]
            if self._extensions is None:
                return self._filtered(page_links(resolver, hrefs))
            return self._filtered(resolver.web_links(hrefs))
        found = [link for link in self._links(document) if link.href]
        if not follow:
            found = [link for link in found if not _no_follow(link.element)]
        if self._text is not None:
            found = [link for link in found if self._says(link.element)]
        links = resolver.web_links([link.href for link in found])
        if self._extensions is None:
            links = _without_swept_files(links, found, resolver)
        return self._filtered(links)

    def _quick(self, document: Document, resolver: Resolver) -> list[str]:
        """The links of what was picked, where only their addresses matter."""
        picked = self._picked(document)
        own = [each if isinstance(each, str) else link_of(each) for each in picked]
        links = resolver.web_links(own)
        if None not in own:
            return links
        hrefs, swept_up = list[str | None](), _Swept()
        for each, address in zip(picked, own, strict=True):
            if address is not None or isinstance(each, str):
                hrefs.append(address)
            elif swept_up.first(each):
                hrefs += (node.attrs["href"] for node in each.css(_ANCHORS))
        swept = resolver.web_links(hrefs)
        if self._extensions is not None:
            return swept
        wanted = set(links)
        return [link for link in swept if link in wanted or not has_ending(link)]

    def _filtered(self, links: list[str]) -> list[str]:
        if self._unfiltered:
            return links
        if self._allow is not None:
            links = [link for link in links if any(p.search(link) for p in self._allow)]
        if self._deny:
            links = [link for link in links if not any(p.search(link) for p in self._deny)]
        if self._domains is not None:
            links = [link for link in links if leads_to(link, self._domains)]
        if self._deny_domains:
            links = [link for link in links if not leads_to(link, self._deny_domains)]
        if self._extensions:
            links = [link for link in links if not has_ending(link, self._extensions)]
        return links

    # The thorough way: every link with its element

    def _links(self, document: Document) -> Iterator[_Link]:
        if not self._picks:
            yield from self._below(document.parser)
            return
        swept_up = _Swept()
        for each, address in self._taken(document):
            if address is not None:
                yield _Link(address, each, swept=False)
            elif each is not None:
                own = [_Link(address, each, swept=False) for _, address in self._addresses(each)]
                if own:
                    yield from own
                elif swept_up.first(each):
                    yield from self._below(each)

    def _picked(self, document: Document) -> list[LexborNode | str]:
        """What css or xpath picks: elements, and strings taken of them."""
        if self._xpath is None:
            return find(document.parser, self._css)
        from scraper import xpath

        return xpath.find(document.parser, self._xpath)

    def _taken(self, document: Document) -> Iterator[tuple[LexborNode | None, str | None]]:
        """As `_picked`, the strings with the elements that css took them of."""
        if self._xpath is not None or (len(self._css) == 1 and self._css[0].take is None):
            for each in self._picked(document):
                yield (None, each) if isinstance(each, str) else (each, None)
            return
        root = document.parser
        matched = [{node.mem_id for node in select(root, query.css)} for query in self._css]
        for node in select(root, ",".join(query.css for query in self._css)):
            for query, nodes in zip(self._css, matched, strict=True):
                if node.mem_id in nodes and query.take is None:
                    yield node, None
                elif node.mem_id in nodes:
                    yield from ((node, value) for value in take((node,), query))

    def _addresses(self, element: LexborNode) -> Iterator[tuple[str, str]]:
        """The attributes of *element* that hold addresses, by name."""
        attributes = element.attrs
        if self._attrs is None:
            name = "href" if "href" in attributes else "src"
            if name in attributes:
                yield name, attributes[name] or ""
            return
        for name in self._attrs:
            if name in attributes:
                yield name, attributes[name] or ""

    def _below(self, root: Root) -> Iterator[_Link]:
        """The links of a page, or inside an element that is none itself."""
        for element in select(root, _holders(self._attrs)):
            for name, address in self._addresses(element):
                yield _Link(address, element, swept=name == "href")

    def _says(self, element: LexborNode | None) -> bool:
        if element is None:
            raise UsageError(
                f"text=… asks for elements, and {self._xpath!r} finds strings",
                hint="Leave off the attribute: //a, not //a/@href.",
            )
        text = collapse(element.text())
        return any(pattern.search(text) for pattern in self._text or ())


@lru_cache(maxsize=256)
def plain_query(css: str | None) -> LinkQuery:
    """`LinkQuery(css)`, made once."""
    return LinkQuery(css)


class _Swept:
    """Which elements were swept: one inside of another has nothing new to give."""

    __slots__ = ("_inside", "_outside")

    def __init__(self) -> None:
        self._inside: set[int] = set()
        self._outside: set[int] = set()

    def first(self, element: LexborNode) -> bool:
        """Whether *element* lies in none of those before; elements come in document order.

        Every node is climbed over once at most, however deep the page is.
        """
        path: list[int] = []
        at: LexborNode | None = element
        while at is not None and at.mem_id not in self._outside:
            if at.mem_id in self._inside:
                self._inside.update(path)
                return False
            path.append(at.mem_id)
            at = at.parent
        self._outside.update(path[1:])
        self._inside.add(element.mem_id)
        return True


def _checked_xpath(query: str) -> str:
    from scraper import xpath  # loads lxml: only who asks for it needs it

    xpath.compile_xpath(query)
    return query


@lru_cache(maxsize=64)
def _holders(attrs: tuple[str, ...] | None) -> str:
    """The selector of the elements that hold an address."""
    if attrs is None:
        return _ANCHORS
    return ",".join(_ANCHORS if name == "href" else f"[{name}]" for name in attrs)


def link_of(element: LexborNode) -> str | None:
    """Where *element* itself points to; None when it has neither `href` nor `src`."""
    href = attribute(element, "href")
    return attribute(element, "src") if href is None else href


def page_links(resolver: Resolver, hrefs: Iterable[str | None]) -> list[str]:
    """As `Resolver.web_links`, without files: the way of nearly every page of a crawl."""
    near, far = resolver.known.pages, resolver.known.site.pages
    found = dict.fromkeys([
        near[head] if head in near else far[head] if head in far else _page(head, resolver)
        for head in heads(hrefs)
    ])
    found.pop(None, None)
    resolver.given = found
    return [*found]  # type: ignore[list-item]  # None is out


def _page(href: str, resolver: Resolver) -> str | None:
    page = resolver.look_up(href)
    if page is not None and (not is_web(page) or has_ending(page)):
        page = None
    table = resolver.table(href)
    if table is not None:  # it means the same on other pages
        table.pages[href] = page
    return page


def _without_swept_files(links: list[str], found: list[_Link], resolver: Resolver) -> list[str]:
    """*links* without the files that were only swept up, never picked."""
    if not any(link.swept for link in found):
        return links
    picked = set(resolver.web_links([link.href for link in found if not link.swept]))
    return [link for link in links if link in picked or not has_ending(link)]


NOT_TO_FOLLOW = frozenset({"nofollow", "sponsored", "ugc"})
"""Words of `rel` by which a page disclaims a link."""


def _no_follow(element: LexborNode | None) -> bool:
    rel = None if element is None else attribute(element, "rel")
    return rel is not None and not NOT_TO_FOLLOW.isdisjoint(rel.lower().split())


# What a crawl remembers -------------------------------------------------------------------------


T = TypeVar("T", bound=Table)


class Shelf(Generic[T]):
    """Tables by key, those that were asked for last kept; what is too much is forgotten.

    *most*: hrefs in all of them.
    """

    __slots__ = ("_held", "_last", "_make", "_most", "tables")

    TABLES = 1000

    def __init__(self, make: Callable[[str], T], most: int) -> None:
        self._make = make
        self._most = most
        self._held = 0  # hrefs in them
        self._last: T | None = None  # it has filled since
        self.tables: dict[str, T] = {}  # the most recently used last

    def get(self, key: str) -> T:
        """The table of that key, an empty one if there was none."""
        table = self.tables.pop(key, None)
        if table is None:
            table = self._make(key)
        if self._last is not None:
            self._count(self._last)
        self._count(table)
        self._last = table
        while self._held > self._most or len(self.tables) >= self.TABLES:
            oldest = self.tables.pop(next(iter(self.tables), key), table)
            self._held -= oldest.size
            oldest.size = 0
            oldest.forget()
        self.tables[key] = table
        return table

    def _count(self, table: T) -> None:
        size = len(table.hrefs) + len(table.pages)
        self._held += size - table.size
        table.size = size


class Memo:
    """What one crawl remembers of its links, within bounds: some 260,000 hrefs, 50,000 requests.

    `known` is per directory, for the same relative href means the same on every page of one.
    `nofollow`: whether links that ask not to be followed are left out, where nobody says.
    When a table is full its oldest entries, or all, are forgotten: that costs time, nothing else.
    """

    __slots__ = ("_directories", "_requests", "_sites", "nofollow")

    _requests: dict[tuple[str | None, str | None], dict[str, Any]]

    HREFS = 130_000
    """Of all directories together, and of all sites."""
    REQUESTS = 50_000

    def __init__(self, *, nofollow: bool = False) -> None:
        self.nofollow = nofollow
        self._directories = Shelf(Known, self.HREFS)
        self._sites = Shelf(lambda origin: Table(), self.HREFS)
        self._requests = {}

    def known(self, base: str) -> Known:
        """What is known of the hrefs of pages in the directory of *base*."""
        known = self._directories.get(directory(base))
        known.site = self._sites.get(known.origin)
        return known

    def requests(self, callback: str | None, session: str | None) -> dict[str, Any]:
        """Finished requests by absolute URL. Immutable, so one may be yielded many times."""
        if sum(map(len, self._requests.values())) >= self.REQUESTS:
            self._requests.clear()
        return self._requests.setdefault((callback, session), {})
