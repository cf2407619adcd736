"""Choosing selectors: the shortest that finds an element wherever it should, and nothing else.

Candidates are built of plain names only, tried in the order in which they are likely to outlive
a change of the site, and judged by what they really find.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from selectolax.lexbor import LexborNode

from scraper.drafting.names import plain, words
from scraper.drafting.tree import Element, Page, attribute_names

__all__ = ["card_css", "inside", "page_css", "simple"]

LENGTH = 60
"""Characters of a selector: a longer one says too much about the page to last."""
SPEAKING = frozenset({
    "h1", "h2", "h3", "h4", "h5", "h6", "time", "address", "figcaption", "blockquote",
    "summary", "strong", "small", "em", "b", "i", "code", "dt", "dd", "p", "img", "a", "span",
    "cite", "label", "th", "td", "article",
})  # fmt: skip


ONLY = frozenset({"h1", "main", "article"})
"""Tags that say enough alone on a whole page."""


def simple(element: Element) -> Iterator[str]:
    """Selectors for the element alone, the best first; its bare tag is the last."""
    for name, value in attribute_names(element):
        yield f"[{name}={value}]"
    for name in sorted(element.classes, key=len, reverse=True):
        yield f".{name}"
    for name in _modules(element):
        yield f"[class*={name}]"
    yield element.tag


def _modules(element: Element) -> Iterator[str]:
    """CSS Modules keep the author's name in front of a hash: ``Card_title__x3Fa9``."""
    for name in element.attrs.get("class", "").split()[:12]:
        head, mark, tail = name.rpartition("__")
        known = all(len(word) > 1 and word.isalpha() for word in words(head))
        if head and mark and tail and known and plain(head) and name not in element.classes:
            yield f"{head}__"


def _placed(element: Element) -> Iterator[str]:
    """Selectors that say where among its siblings it stands."""
    if element.parent is None:
        return
    siblings = element.parent.children
    same = [sibling for sibling in siblings if sibling.tag == element.tag]
    if len(same) > 1:
        kind = "child" if element.tag in {"td", "th", "li"} else "of-type"
        among = siblings if kind == "child" else same
        yield f"{element.tag}:nth-{kind}({among.index(element) + 1})"


def _before(element: Element) -> Iterator[str]:
    """Selectors for what stands right before it, if that has a name or is a heading."""
    if element.parent is not None and element.column:
        previous = element.parent.children[element.column - 1]
        for css in simple(previous):
            if css != previous.tag or css in SPEAKING - {"span", "a", "b", "i", "p", "td"}:
                yield css


def candidates(
    element: Element, until: Element | None, about: frozenset[str] = frozenset()
) -> Iterator[str]:
    """Selectors for *element* below *until* (None: the page), in the order to try them."""
    own = [*dict.fromkeys((*simple(element), *_placed(element)))]
    named = [css for css in own if css != element.tag and ":nth" not in css]
    near = [f"{css} + {element.tag}" for css in _before(element)]
    if until is None:
        yield from _by_id(element, about)
    yield from named
    if element.tag in (SPEAKING if until is not None else ONLY):
        yield element.tag
    above: list[Element] = []
    for ancestor in element.above() if element is not until else ():
        if ancestor is until or len(above) == 5:
            break
        above.append(ancestor)
    anchors = [css for ancestor in above for css in simple(ancestor) if css != ancestor.tag]
    if until is None:
        anchors[:0] = [css for ancestor in above for css in _by_id(ancestor, about)]
    tags = [a.tag for a in above[:2] if a.tag in SPEAKING or a.tag in {"li", "dl", "figure"}]
    for anchor in (*anchors, *tags):
        for css in dict.fromkeys((element.tag, *named)):
            yield f"{anchor} {css}"
    yield from near
    for anchor in ("", *anchors, *tags):
        for css in _placed(element):
            yield f"{anchor} {css}".strip()
    yield element.tag
    if element.parent is not None and element.parent.tag != "body" and element is not until:
        for css in own:
            yield f"{element.parent.tag} > {css}"


def inside(
    cards: Sequence[Element], wanted: Sequence[Element | None], *, link: bool = False
) -> str:
    """A selector that finds *wanted[n]* first in *cards[n]*, and nothing where that is None.

    The first that is always right; else the one that is right most often, if that is in four cards
    of five; else "". *link*: one that finds no links to elsewhere is better.
    """
    pattern = next((e for e in wanted if e is not None), None)
    if pattern is None:
        return ""
    at = next(n for n, e in enumerate(wanted) if e is pattern)
    best, most, alone = "", 0.8 * len(cards), ""
    for css in _distinct(candidates(pattern, cards[at]), 40):
        right = sum(
            _first(card.node, css) == (e.id if e else None) for card, e in _pairs(cards, wanted)
        )
        if right == len(cards):
            if not link or all(_one_link(card.node, css) for card in cards):
                return css
            alone = alone or css
        if right >= most:
            best, most = css, right + 1
    return alone or best


def _one_link(node: LexborNode, css: str) -> bool:
    return len({match.attributes.get("href") for match in node.css(css)}) == 1


def _pairs(
    cards: Sequence[Element], wanted: Sequence[Element | None]
) -> Iterator[tuple[Element, Element | None]]:
    return zip(cards, wanted, strict=True)


def _first(node: LexborNode, css: str) -> int | None:
    found = node.css_first(css)
    return None if found is None else found.mem_id


def _distinct(selectors: Iterator[str], most: int) -> Iterator[str]:
    seen: set[str] = set()
    for css in selectors:
        if css not in seen and len(css) <= LENGTH:
            seen.add(css)
            yield css
            if len(seen) == most:
                return


def _by_id(element: Element, about: frozenset[str]) -> Iterator[str]:
    """By its id, unless that has a number, or is made of the page's title."""
    own = element.attrs.get("id", "")
    if own and plain(own) and not any(map(str.isdigit, own)) and not about.issuperset(words(own)):
        yield f"#{own}"


def page_css(page: Page, element: Element, *, only: bool = False) -> str:
    """A selector whose first match on the page is *element*; *only*: its only match. Else ""."""
    best = ""
    for css in _distinct(candidates(element, None, page.about), 40):
        found = page.find(css)
        if found == [element.id]:
            return css
        if found[:1] == [element.id] and not (best or only):
            best = css
    return best


def card_css(page: Page, members: Sequence[Element]) -> str:
    """A selector for all of *members*: exactly these, or hardly any more. "" when there is none."""
    wanted = {element.id for element in members}
    best, least = "", 1.25 * len(wanted)
    for css in _distinct(_cards(members[0], page.about), 30):
        found = set(page.find(css))
        if found == wanted:
            return css
        if found > wanted and len(found) <= least:
            best, least = css, len(found) - 1
    return best


def _cards(card: Element, about: frozenset[str]) -> Iterator[str]:
    own = [css if css[0] == "[" or css == card.tag else f"{card.tag}{css}" for css in simple(card)]
    yield from own
    chain, chains = own[0], list[str]()
    for ancestor in card.above():
        for css in simple(ancestor):
            if css != ancestor.tag:
                yield f"{css} {own[0]}"
                yield f"{css} > {chain}"
        for css in _by_id(ancestor, about):
            yield f"{css} {own[0]}"
            yield f"{css} > {chain}"
        if ancestor.tag == "body" or len(chains) == 4:
            break
        chain = f"{ancestor.tag} > {chain}"
        chains.append(chain)
    yield from chains
