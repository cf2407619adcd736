"""A page as drafting sees it: its elements once, in document order, with what lies below each.

lexbor's nodes are walked one time. Everything asked later (how much text, how many links, which
elements repeat) is counted on the way back up, so that the whole takes linear time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

from scraper.drafting.names import plain, semantic, words
from scraper.select import collapse

__all__ = ["Element", "Page", "attribute_names", "read"]

MAX_ELEMENTS = 80_000
MAX_DEPTH = 200
MAX_OWN = 4_000
"""What lies beyond is not looked at: a draft needs a part of a page, not all of it."""

_UNSEEN = frozenset({
    "script", "style", "template", "noscript", "svg", "math", "head", "iframe", "select",
    "datalist",
})  # fmt: skip
_AROUND = re.compile(
    r"(?:[a-z]+[-_])?(?:nav|navbar|navigation|menu|sidebar|footer|breadcrumbs?|pagination|pager"
    r"|paginator|cookies?|social|share|sphinxsidebar|related)(?:[-_](?:list|menu|wrapper|links))?"
)
_LABELS = ("itemprop", "data-testid", "data-test", "data-qa", "class", "id")
_AROUND_ROLES = frozenset({"navigation", "banner", "contentinfo", "complementary", "search"})
_INSIDE = frozenset({"article", "main", "section", "li", "td"})  # their headers are theirs


@dataclass(slots=True, eq=False)
class Element:
    """One element. `label`: what the page calls it: microdata, classes, id; in lower case.
    `own`: its own text; `text`, `links` …: counts of all that lies below it.

    `path`: a number that elements of the same kind in the same kind of place share. `around`: it
    belongs to what surrounds the content (navigation, footer …). `size`: elements below and itself;
    `last`: the place in document order of the last of them. `column`: its place among its siblings.
    """

    node: LexborNode
    tag: str
    attrs: dict[str, str]
    parent: Element | None
    at: int
    depth: int
    path: int = 0
    around: bool = False
    unseen: bool = False
    label: str = ""
    own: str = ""
    text: int = 0
    links: int = 0
    size: int = 1
    last: int = 0
    column: int = 0
    classes: tuple[str, ...] = ()
    children: list[Element] = field(default_factory=list)

    @property
    def id(self) -> int:
        """What tells elements apart."""
        return self.node.mem_id

    def words(self) -> str:
        """All its text, white space collapsed."""
        return collapse(self.node.text())

    def below(self, most: int) -> Iterator[Element]:
        """The element and what lies below it, in document order; *most* at most."""
        stack = [self]
        while stack and most:
            most -= 1
            element = stack.pop()
            if not element.unseen:
                yield element
                stack.extend(reversed(element.children))

    def above(self) -> Iterator[Element]:
        """Its ancestors, the nearest first."""
        element = self.parent
        while element is not None:
            yield element
            element = element.parent

    def holds(self, other: Element) -> bool:
        """Whether *other* is this element, or stands below it."""
        return self.at <= other.at <= self.last

    def named(self, pattern: re.Pattern[str]) -> bool:
        """Whether *pattern* finds something in what the page calls it."""
        return bool(self.label) and pattern.search(self.label) is not None


@dataclass(slots=True)
class Kind:
    """A kind of place: `members` are the elements that stand in such a one."""

    parent: int
    tag: str
    depth: int
    members: list[Element] = field(default_factory=list)


@dataclass(slots=True)
class Page:
    """The elements of a page in document order, and by kind of place.

    `about`: the words of its title, of which names are made that only this page has. `known`: the
    identities of the elements, if the page has more than were read.
    """

    parser: LexborHTMLParser
    elements: list[Element]
    kinds: list[Kind]
    about: frozenset[str] = frozenset()
    known: frozenset[int] | None = None

    def seen(self) -> Iterator[Element]:
        """What a reader sees of the content: neither scripts nor what surrounds it."""
        return (e for e in self.elements if not e.unseen and not e.around)

    def find(self, css: str) -> list[int]:
        """The identities of what *css*, a valid selector, matches of what was read."""
        found = (node.mem_id for node in self.parser.css(css))
        known = self.known
        return [*found] if known is None else [each for each in found if each in known]


def read(parser: LexborHTMLParser) -> Page:
    """Walk the tree. An empty page has no elements."""
    page = Page(parser, [], [Kind(-1, "", 0)])
    if parser.body is not None:
        _walk(page, parser.body)
        _sort(page)
        _count(page)
        _surroundings(page)
        titles = [e.words() for e in page.elements if e.tag == "h1" and e.text < 400][:3]
        page.about = frozenset(word for title in titles for word in words(title))
    return page


def _walk(page: Page, body: LexborNode) -> None:
    known: dict[int, Element] = {}
    texts: dict[int, list[str]] = {}
    for node in body.traverse(include_text=True):
        above = node.parent
        parent = known.get(above.mem_id) if above is not None else None
        if node.is_text_node:
            if parent is not None and (text := (node.text_content or "").strip()):
                texts.setdefault(parent.at, []).append(text)
            continue
        if not node.is_element_node or (parent is None and known):
            continue  # a comment, or below what was too deep
        if len(page.elements) >= MAX_ELEMENTS:
            page.known = frozenset(known)
            break
        element = _element(node, parent, len(page.elements))
        if element.depth > MAX_DEPTH:
            continue
        known[element.id] = element
        page.elements.append(element)
        if parent is not None:
            element.column = len(parent.children)
            parent.children.append(element)
    for at, parts in texts.items():
        own = collapse(" ".join(parts))
        page.elements[at].own, page.elements[at].text = own[:MAX_OWN], len(own)


def _sort(page: Page) -> None:
    """Put every element with those of its kind.

    Of an element's classes the one that most have counts: "availability" before "instock".
    """
    usual = Counter(name for element in page.elements for name in element.classes)
    kinds: dict[tuple[int, str], int] = {}
    for element in page.elements:
        element.classes = tuple(sorted(element.classes, key=usual.__getitem__, reverse=True))
        # What has a name is of one kind wherever it stands: a selector would find it there, too.
        place = 0 if element.classes or element.parent is None else element.parent.path
        key = (place, _signature(element))
        if key not in kinds:
            kinds[key] = len(page.kinds)
            above = element.parent.path if element.parent is not None else 0
            page.kinds.append(Kind(above, element.tag, element.depth))
        element.path = kinds[key]
        page.kinds[element.path].members.append(element)


def _element(node: LexborNode, parent: Element | None, at: int) -> Element:
    tag = node.tag or ""
    if not plain(tag):
        tag = "*"  # in `<a<b>` the name is `a<b`, which no selector can say
    attrs = {name: value or "" for name, value in node.attributes.items()}
    calls = (attrs[name] for name in _LABELS if name in attrs) if attrs else ()
    return Element(
        node,
        tag,
        attrs,
        parent,
        at,
        label=" ".join(calls).lower()[:300],
        depth=0 if parent is None else parent.depth + 1,
        unseen=tag in _UNSEEN or (parent is not None and parent.unseen) or "hidden" in attrs,
        classes=tuple(filter(semantic, attrs.get("class", "").split()[:12])),
    )


def _signature(element: Element) -> str:
    """Tag and usual class; for cells of a table their column."""
    if element.classes:
        return f"{element.tag}.{element.classes[0]}"
    if element.tag in {"td", "th"} and element.parent is not None:
        return f"{element.tag}#{element.column}"
    return element.tag


def _count(page: Page) -> None:
    for element in reversed(page.elements):
        element.last = max(element.last, element.at)
        if element.parent is not None:
            element.parent.last = max(element.parent.last, element.last)
        if element.unseen:
            continue
        element.links += element.tag == "a" and "href" in element.attrs
        if (parent := element.parent) is not None:
            parent.text += element.text
            parent.links += element.links
            parent.size += element.size


def _surroundings(page: Page) -> None:
    """Mark what surrounds the content. What holds most of the page's text is no surrounding."""
    whole = page.elements[0].text
    for element in page.elements[1:]:
        parent = element.parent
        if parent is not None and parent.around:
            element.around = True
        elif 2 * element.text <= whole or not whole:
            element.around = _is_around(element)


def _is_around(element: Element) -> bool:
    if element.tag in {"nav", "footer", "aside"} or element.attrs.get("role") in _AROUND_ROLES:
        return True
    if element.tag == "header":
        return all(above.tag not in _INSIDE for above in element.above())
    names = (*element.attrs.get("class", "").split()[:12], element.attrs.get("id", ""))
    return any(_AROUND.fullmatch(name.lower()) for name in names) or "header" in names[-1:]


def attribute_names(element: Element) -> Iterator[tuple[str, str]]:
    """(attribute, value) of what a page's authors put there for programs, fit for a selector."""
    for name in ("itemprop", "data-testid", "data-test", "data-qa", "data-cy", "property"):
        value = element.attrs.get(name, "")
        if value and plain(value):
            yield name, value
    if element.attrs.get("role") == "main":
        yield "role", "main"
