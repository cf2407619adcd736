"""List pages: the elements that repeat, and what each of them shows.

Cards are elements of one kind of place, wherever their rows are. Which kind is the page's list is
guessed from what repeats below it (links, headings, images, prices), then checked card by card.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType

from scraper.drafting.entry import Entry, slots_of
from scraper.drafting.model import Field
from scraper.drafting.pick import card_css
from scraper.drafting.roles import HEADINGS, PRICE, leads
from scraper.drafting.tree import Element, Page

__all__ = ["Cards", "find_cards"]

FEWEST = 3
CANDIDATES = 8
"""Kinds that are looked at card by card."""
SAMPLED = 24
CARD_SIZE = 1_500
LONG = 1_500
"""Characters of an entry: longer ones without a link are chapters of a text."""
_NO_CARDS = frozenset({
    "html", "body", "main", "br", "hr", "option", "script", "h1", "h2", "h3", "td", "th",
    "thead", "tbody", "col", "b", "i", "pre", "code",
})  # fmt: skip
_WORTH: Mapping[str, int] = MappingProxyType({"title": 3, "price": 3, "url": 2, "image": 2})


@dataclass
class Cards:
    """The list of a page, its `members` in document order.

    `css` finds the cards, `link` the way from there to their own pages.
    """

    members: list[Element]
    css: str
    fields: list[Field]
    link: str
    score: float
    text: int

    def __post_init__(self) -> None:
        self._starts = [card.at for card in self.members]
        self._ends = [*accumulate((card.last for card in self.members), max)]

    def hold(self, element: Element) -> bool:
        """Whether *element* stands in one of the cards."""
        n = bisect_right(self._starts, element.at)
        return n > 0 and self._ends[n - 1] >= element.at


def find_cards(page: Page) -> Cards | None:
    """The page's list; None when nothing on it repeats in a way that is worth taking."""
    found = [cards for members in _likely(page) if (cards := _read(page, members)) is not None]
    return max(found, key=lambda cards: cards.score, default=None)


# Which elements are the cards? ------------------------------------------------------------------


def _likely(page: Page) -> list[list[Element]]:
    """The members of the most promising kinds, the best first; of equals, the innermost."""
    below = [
        [0, 0, 0, 0, 0, 0] for _ in page.kinds
    ]  # links, headings, images, prices, dates, texts
    ranked: list[tuple[float, int, int]] = []
    for path in range(len(page.kinds) - 1, 0, -1):
        kind = page.kinds[path]
        members = [e for e in kind.members if not e.unseen and not e.around]
        if len(members) < FEWEST:
            continue
        mine = below[path]
        for n, has in enumerate(_shows(kind.tag, members)):
            mine[n] += has
        for n, count in enumerate(mine):
            below[kind.parent][n] += count
        if kind.tag not in _NO_CARDS:
            weight = _weight(mine) * math.log2(1 + min(len(members), 64))
            ranked.append((weight, kind.depth, path))
    ranked.sort(reverse=True)
    kinds = [page.kinds[path] for _, _, path in ranked[:CANDIDATES]]
    return [[e for e in k.members if not e.unseen and not e.around] for k in kinds]


def _shows(tag: str, members: Sequence[Element]) -> Iterator[bool]:
    some = members[:5]
    yield tag == "a" and any(leads(e) for e in some)
    yield tag in HEADINGS
    yield tag == "img"
    yield any(PRICE.search(e.own) for e in some)
    yield tag == "time"
    yield any(e.own for e in some)


def _weight(shown: Sequence[int]) -> float:
    links, headings, images, prices, dates, texts = shown
    some = 2.0 * bool(links) + 3 * bool(headings) + 2 * bool(images) + 3 * bool(prices)
    return some + 1.5 * bool(dates) + min(texts, 6)


# What do they show? -----------------------------------------------------------------------------


def _read(page: Page, members: list[Element]) -> Cards | None:
    small = [card for card in members if card.size <= CARD_SIZE]
    if len(small) < FEWEST or 2 * len(small) < len(members) or _is_prose(small):
        return None
    sample = small[:: max(1, len(small) // SAMPLED)][:SAMPLED]
    reader = Entry(sample, slots_of(sample))
    fields = reader.fields()
    names = {f.name for f in fields}
    named = sum(not name.startswith("text_") for name in names)
    if len(names) < 2 or (named < 3 and not names & {"title", "url"}):
        return None
    css = card_css(page, members)
    text = sum(card.text for card in members)
    if not css or (reader.link is None and text > LONG * len(members)):
        return None
    worth = sum(_WORTH.get(f.name, 1) for f in fields)
    link = reader.link
    pages = _pages(members, link)
    count = len(members) if link is None else len(pages)
    score = worth * math.log2(1 + min(count, 64)) * (0.7 + 0.3 * count / len(members))
    score *= 1 if text > 12 * len(members) else 0.5
    score *= (
        0.99 if members[0].tag == "a" and not members[0].classes else 1
    )  # its parent is as good
    way = "" if link is None else css if link == "." else f"{css} {link}"
    return Cards(members, css, fields, way, score, text)


def _pages(cards: Sequence[Element], link: str | None) -> set[str]:
    """What the cards lead to, without fragments: a table of contents leads to few pages."""
    nodes = [c.node if link == "." else c.node.css_first(link or "a") for c in cards[:1_000]]
    return {(n.attributes.get("href") or "").partition("#")[0] for n in nodes if n is not None}


def _is_prose(cards: Sequence[Element]) -> bool:
    """Paragraphs of a text with links in them, no entries of a list."""
    text, own = sum(card.text for card in cards), sum(len(card.own) for card in cards)
    return text > 60 * len(cards) and 2 * own > text
