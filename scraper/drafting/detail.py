"""Pages about one thing: its title, price, category, facts …, from JSON-LD or the markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from scraper.drafting.model import Field, Marker
from scraper.drafting.names import identifier
from scraper.drafting.pick import ONLY, page_css, simple
from scraper.drafting.roles import (
    ABOUT,
    AUTHOR,
    COUNT,
    DATE,
    MARKED,
    OLD,
    PRICE,
    PRICED,
    RATING,
    STOCK,
)
from scraper.drafting.tree import Element, Page
from scraper.http import Response

__all__ = ["facts_of", "fields_of", "heading_of", "main_type", "price_of"]

MOST_FACTS = 8
MOST_TRIED = 200
FEW_TRIED = 5
"""Candidates for a field, and those whose selector is looked for on the whole page."""
MOST_ROWS = 25
"""What has more is a list of things, no description of one."""
MOST_FIELDS = 16

_OFFER = (
    ("price", "offers.price", "Amount"),
    ("price", "offers[0].price", "Amount"),
    ("price", "offers.lowPrice", "Amount"),
    ("currency", "offers.priceCurrency", "str"),
    ("currency", "offers[0].priceCurrency", "str"),
    ("availability", "offers.availability", "str"),
    ("availability", "offers[0].availability", "str"),
)
_RATED = (
    ("rating", "aggregateRating.ratingValue", "str"),
    ("reviews", "aggregateRating.reviewCount", "str"),
)
_THING = (
    ("title", "name", "str"),
    ("description", "description", "str"),
    ("image", "image.url", "str"),
    ("image", "image[0].url", "str"),
    ("image", "image[0]", "str"),
    ("image", "image", "str"),
)
_WORK = (
    ("title", "headline", "str"),
    ("author", "author.name", "str"),
    ("author", "author[0].name", "str"),
    ("author", "author", "str"),
    ("published", "datePublished", "str"),
    ("section", "articleSection", "str"),
)
_PRODUCT = (("sku", "sku", "str"), ("brand", "brand.name", "str"), ("brand", "brand", "str"))
VOCABULARY: dict[str, tuple[tuple[str, str, str], ...]] = {
    "Product": (*_THING[:2], *_OFFER, *_THING[2:], *_PRODUCT, *_RATED),
    "NewsArticle": (*_WORK, *_THING),
    "BlogPosting": (*_WORK, *_THING),
    "Article": (*_WORK, *_THING),
    "Recipe": (
        *_THING,
        *_WORK[1:5],
        ("ingredients", "recipeIngredient", "list[str]"),
        ("total_time", "totalTime", "str"),
        *_RATED,
    ),
    "JobPosting": (
        ("title", "title", "str"),
        ("company", "hiringOrganization.name", "str"),
        ("posted", "datePosted", "str"),
        ("employment", "employmentType", "str"),
        *_THING[1:2],
    ),
    "Event": (
        *_THING,
        ("start", "startDate", "str"),
        ("end", "endDate", "str"),
        ("place", "location.name", "str"),
        *_OFFER[:3],
    ),
    "Book": (
        *_THING,
        *_WORK[1:5],
        ("isbn", "isbn", "str"),
        ("pages", "numberOfPages", "str"),
        *_OFFER,
        *_RATED,
    ),
    "Movie": (*_THING, ("director", "director.name", "str"), *_WORK[4:5], *_RATED),
    "VideoObject": (*_THING, ("uploaded", "uploadDate", "str"), ("duration", "duration", "str")),
}
"""JSON-LD types whose pages are about one of them: field, path below the node, type."""


def main_type(response: Response) -> str:
    """The schema.org type of what the page is about; "" when it does not say, or lists many."""
    found = [kind for node in response.structured().ld[:50] for kind in _types(node)]
    known = [kind for kind in VOCABULARY if found.count(kind) == 1]
    return known[0] if known else ""


def _types(node: dict[str, Any]) -> Iterator[str]:
    given = node.get("@type")
    for name in given if isinstance(given, list) else (given,):
        if isinstance(name, str):
            yield name.rpartition("/")[2].rpartition(":")[2]


def fields_of(page: Page, response: Response) -> list[Field]:
    """Candidates for the page's fields, the best of each name first; `settle` keeps what gives."""
    kind = main_type(response)
    found = list(_linked_data(kind))
    found += _Reader(page).fields()
    return found


def _linked_data(kind: str) -> Iterator[Field]:
    for name, path, type_ in VOCABULARY.get(kind, ()):
        absolute = name == "image"
        marker = Marker("Json", (path,), absolute=absolute, type=kind)
        yield Field(name, marker, type_, always=name == "title")


def heading_of(page: Page) -> Element | None:
    """The page's heading: the first h1 of its content; else the first anywhere."""
    found = [e for e in page.elements if e.tag == "h1" and not e.unseen and e.text]
    return next((e for e in found if not e.around), found[0] if found else None)


def price_of(page: Page, heading: Element | None) -> Element | None:
    """The price of what the heading names: the one in the smallest part that holds both."""
    priced = [*islice((e for e in page.seen() if _is_price(e)), MOST_TRIED)]
    for part in heading.above() if heading is not None else ():
        near = [e for e in priced if part.holds(e)]
        if near and part.tag not in {"body", "html"}:
            return near[0]
    after = [e for e in priced if heading is None or e.at > heading.at]
    return after[0] if len(after) == 1 else None


def _is_price(element: Element) -> bool:
    if element.attrs.get("itemprop") == "price":
        return True
    if not element.own or element.text > 40 or element.tag in {"th", "td", "del", "s", "strike"}:
        return False
    if element.named(OLD) or not any(map(str.isdigit, element.own)):
        return False
    return PRICE.search(element.own) is not None or element.named(PRICED)


def facts_of(page: Page) -> list[tuple[Element, Element]]:
    """(name, value) of tables and definition lists that say what the page's subject is like."""
    places: dict[int, list[tuple[Element, Element]]] = {}
    for element in page.seen():
        row = element.parent
        if element.tag not in {"th", "dt"} or row is None or not 0 < element.text <= 40:
            continue
        after = row.children[element.column + 1 : element.column + 3]
        wanted = "td" if element.tag == "th" else "dd"
        if not after or after[0].tag != wanted or after[0].text > 200 or after[0].unseen:
            continue
        if element.tag == "th" and len(row.children) != 2:
            continue  # a table of many columns is a list
        if len(after) == 1 or after[1].tag != "dd":
            place = row.parent if element.tag == "th" and row.parent is not None else row
            places.setdefault(place.id, []).append((element, after[0]))
    few = [pairs for pairs in places.values() if 2 <= len(pairs) <= MOST_ROWS]
    return [pair for pairs in few for pair in pairs]


class _Reader:
    """Looks for what pages about one thing have, in the markup."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.heading = heading_of(page)
        self.found: list[Field] = []

    def fields(self) -> list[Field]:
        """Everything found, in the order in which people like to read it."""
        self._title()
        price = price_of(self.page, self.heading)
        if price is not None:
            content = price.attrs.get("itemprop") == "price" and "content" in price.attrs
            self._add("price", price, "Amount", attr="content" if content else "")
        self._category()
        self._rating()
        self._named("availability", STOCK, 40)
        self._named("author", AUTHOR, 60)
        self._meta("author", "meta[name=author]")
        self._date()
        self._description()
        self._image()
        self._facts(price)
        self._text(price)
        return self.found

    def _add(
        self,
        name: str,
        element: Element,
        kind: str = "str",
        *,
        re: str | None = None,
        attr: str = "",
    ) -> bool:
        css = page_css(self.page, element)
        if css:
            self._css(
                name, f"{css}::attr({attr})" if attr else css, kind, re=re, absolute=attr == "src"
            )
        return bool(css)

    def _css(
        self,
        name: str,
        css: str,
        kind: str = "str",
        *,
        re: str | None = None,
        absolute: bool = False,
    ) -> None:
        marker = Marker("Css", (css,), re=re, absolute=absolute)
        self.found.append(Field(name, marker, kind, always=name == "title"))

    def _meta(self, name: str, selector: str, *, absolute: bool = False) -> None:
        node = self.page.parser.css_first(selector)
        if node is not None and (node.attributes.get("content") or "").strip():
            self._css(name, f"{selector}::attr(content)", absolute=absolute)

    def _title(self) -> None:
        if self.heading is not None:
            last = self.heading.children[-1] if self.heading.children else None
            mark = last is not None and last.tag == "a" and last.attrs.get("href", "")[:1] == "#"
            self._add("title", self.heading, re=MARKED if mark else None)
        self._meta("title", "meta[property=og\\:title]")
        self._css("title", "title")

    def _near(self) -> Iterable[Element]:
        """The content after the heading, up to what another heading of its rank begins."""
        start = -1 if self.heading is None else self.heading.at
        return (e for e in self.page.seen() if e.at > start)

    def _category(self) -> None:
        for element in self.page.elements:
            if not (
                element.named(_CRUMBS)
                or "breadcrumb" in element.attrs.get("aria-label", "").lower()
            ):
                continue
            links = [e for e in element.below(60) if e.tag == "a" and e.text]
            if not 1 <= len(links) <= 10:
                continue
            rows = {link.parent.id: link.parent for link in links if link.parent is not None}
            anchor = page_css(self.page, element)
            last = links[-1].parent
            if anchor and len(rows) == len(links) > 1 and last is not None and last.parent:
                behind = len(last.parent.children) - last.parent.children.index(last)
                self._css("category", f"{anchor} {last.tag}:nth-last-child({behind}) a")
            elif anchor:
                self._css("breadcrumbs", f"{anchor} a", "list[str]")
            return

    def _rating(self) -> None:
        for element in self._near():
            if not element.named(RATING) or element.size > 30:
                continue
            if element.text and element.text <= 40 and any(map(str.isdigit, element.words())):
                self._add("rating", element)
                return
            names = element.attrs.get("class", "").split()
            base = next((c for c in element.classes if RATING.search(c.lower())), "")
            if base in names[:-1]:
                self._add("rating", element, re=rf"{base}\s+(\S+)", attr="class")
                return

    def _named(self, name: str, pattern: re.Pattern[str], longest: int) -> None:
        fit = (e for e in self._near() if 2 <= e.text <= longest and e.named(pattern))
        any(self._add(name, element) for element in islice(fit, FEW_TRIED))

    def _date(self) -> None:
        self._meta("published", "meta[property=article\\:published_time]")
        for element in self._near():
            if element.tag == "time" and element.attrs.get("datetime"):
                self._add("published", element, attr="datetime")
                return
        self._named("published", DATE, 40)

    def _description(self) -> None:
        for element in self._near():
            if not element.named(ABOUT) or element.text > 5_000 or element.size > 60:
                continue
            if element.text >= 60:
                self._add("description", element)
                break
            after = _after(element)
            own = element.attrs.get("id", "")
            if after is not None and after.tag == "p" and after.text >= 60 and own:
                css = page_css(self.page, element, only=True)
                if css:
                    self._css("description", f"{css} + p")
                    break
        self._meta("description", "meta[name=description]")
        self._meta("description", "meta[property=og\\:description]")

    def _image(self) -> None:
        self._meta("image", "meta[property=og\\:image]", absolute=True)
        title = self.heading.words() if self.heading is not None else ""
        images = [e for e in self.page.seen() if e.tag == "img" and e.attrs.get("src")]
        named = (e for e in images if title and e.attrs.get("alt", "").strip() == title)
        shown = (e for e in images if any(a.named(_GALLERY) for a in (e, *e.above())))
        best = next(named, None) or next(shown, None)
        if best is not None:
            self._add("image", best, attr="src")

    def _facts(self, price: Element | None) -> None:
        told = {price.words()} if price is not None else set()
        names: set[str] = set()
        for head, value in facts_of(self.page)[: 2 * MOST_ROWS]:
            words = head.words().rstrip(" :")
            name, text = identifier(words), value.words()
            if not name or name in names or not text or text in told:
                continue
            css = self._fact(head, value, words)
            if css:
                names.add(name)
                count = COUNT.search(words.lower()) and text.isdigit() and len(text) < 10
                amount = PRICE.fullmatch(text) is not None or (
                    text[:1] in "$€£¥" and len(text) < 12
                )
                self._css(name, css, "int" if count else "Amount" if amount else "str")
            if len(names) == MOST_FACTS:
                return

    def _fact(self, head: Element, value: Element, words: str) -> str:
        """By the name in front of it, which outlives a new row better than a number."""
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9 .,()/&%-]{0,38}", words):
            css = f"{head.tag}:lexbor-contains('{words}') + {value.tag}"
            if self.page.find(css)[:1] == [value.id]:
                return css
        return page_css(self.page, value)

    def _text(self, price: Element | None) -> None:
        """What there is to read, and its headings, unless the page sells something."""
        if price is not None or self.heading is None:
            return
        prose = [e for e in self._near() if e.tag == "p" and e.text >= 40][:MOST_TRIED]
        length = sum(e.text for e in prose)
        for part in prose[0].above() if length >= 300 else ():
            if part.tag == "body":
                break
            if sum(e.text for e in prose if part.holds(e)) < 0.8 * length:
                continue
            names = (css for css in simple(part) if css != part.tag or css in ONLY)
            css = next((css for css in names if self.page.find(css) == [part.id]), "")
            if css:
                self._css("text", css)
                break
        below = [e for e in self._near() if e.tag == "h2" and e.text]
        if len(below) >= 2:
            marked = all(e.children and e.children[-1].tag == "a" for e in below)
            self._css("headings", "h2", "list[str]", re=MARKED if marked else None)


_CRUMBS = re.compile(r"\bbreadcrumbs?\b|\bcrumbs\b")
_GALLERY = re.compile(r"gallery|product|cover|hero|main[-_]image|photo|primary")


def _after(element: Element) -> Element | None:
    siblings = element.parent.children if element.parent is not None else []
    n = siblings.index(element) + 1 if element in siblings else len(siblings)
    return siblings[n] if n < len(siblings) else None
