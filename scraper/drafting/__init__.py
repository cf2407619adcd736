"""Drafting: from a fetched page to a spider that reads it. What `scrape new` writes.

::

    names    what of a page's names can be relied on, and written into source
    tree     the page's elements, once, with counts of what is below each
    pick     selectors for an element, tried on the page
    cards    list pages: what repeats, and the fields of one card
    detail   pages about one thing
    follow   the link to the next page
    records  JSON responses, XML feeds
    model    Draft, Field; the drafted fields tried on the page
    source   the spider's source

All of it is pure and deterministic, and takes time linear in the page's size.
"""

from __future__ import annotations

from dataclasses import replace

from scraper import urls
from scraper.drafting.cards import Cards, find_cards
from scraper.drafting.detail import facts_of, fields_of, heading_of, main_type, price_of
from scraper.drafting.follow import next_page
from scraper.drafting.model import Draft, Field, Marker, items_of, page_model, settle
from scraper.drafting.records import find_records, find_rows
from scraper.drafting.source import render
from scraper.drafting.tree import Page, read
from scraper.errors import ExtractionError
from scraper.http import Response
from scraper.items import Invalid

__all__ = ["Draft", "Field", "Marker", "draft", "render", "tried", "with_detail"]

TARGETS = 3
URL = Field("url", Marker("Url"), always=True)


def draft(response: Response) -> Draft:
    """What can be taken from *response*: its list, or its one thing, or its JSON records.

    Every selector was tried on the page. A page that shows nothing to go by, or that cannot be
    parsed, gives a "generic" draft. Nothing is raised because of what a page holds.
    """
    try:
        if response.is_xml:
            itertag, found = find_rows(response)
            return Draft("feed", tuple(found), itertag) if found else Draft()
        if response.is_html:
            return _drafted(response)
        return _records(response)
    except ExtractionError:
        return Draft()


def _drafted(response: Response) -> Draft:
    page = read(response.document.parser)
    if not page.elements:
        return Draft()
    cards = find_cards(page)
    if cards is not None and not _about_one_thing(page, response, cards):
        listed = _listed(page, response, cards)
        if len(listed.fields) >= 2:
            return listed
    fields = settle((URL, *fields_of(page, response)), response, one=True)
    if not _says_something(fields):
        return Draft()
    return Draft("detail", fields, next=next_page(page, response))


def _says_something(fields: tuple[Field, ...]) -> bool:
    """Whether there is a title, and more than what every page has."""
    names = {field.name for field in fields}
    return "title" in names and bool(names - {"url", "title", "description"})


def _listed(page: Page, response: Response, cards: Cards) -> Draft:
    fields = settle(cards.fields, response, cards.css)
    found = Draft("list", fields, cards.css, next=next_page(page, response))
    if not cards.link:
        return found
    here = urls.without_fragment(response.url)
    host = urls.host_key(here)
    links = [link for link in response.links(cards.link) if link != here]
    own = [link for link in links if urls.host_key(link) == host]
    if len(own) < 0.6 * len(cards.members) or len(own) < 0.8 * len(links):
        return found
    if found.next and set(response.links(found.next)) <= set(own):
        found = replace(found, next="")  # it is one of the entries, no further list
    return replace(found, links=cards.link, targets=tuple(own[:TARGETS]))


def _about_one_thing(page: Page, response: Response, cards: Cards) -> bool:
    """Whether what the cards show is beside the point: the page is about what its heading names."""
    if main_type(response):
        return True
    heading = heading_of(page)
    if heading is None or cards.hold(heading):
        return False
    price = price_of(page, heading)
    if price is not None and not cards.hold(price):
        return True
    if sum(not cards.hold(head) for head, _ in facts_of(page)) >= 3:
        return True
    prose = sum(e.text for e in page.seen() if e.tag == "p" and not cards.hold(e))
    return prose > 600 and prose > 2 * cards.text


def with_detail(listed: Draft, response: Response) -> Draft:
    """*listed* with the fields of the page that one of its cards leads to.

    The same draft comes back when that page says less than its card.
    """
    try:
        page = read(response.document.parser)
    except ExtractionError:
        return listed
    fields = settle((URL, *fields_of(page, response)), response, one=True)
    return replace(listed, detail=fields) if _says_something(fields) else listed


def _records(response: Response) -> Draft:
    path, found = find_records(response.json())
    fields = settle(found, response, json=path) if found else ()
    return Draft("json", fields, path) if fields else Draft()


def tried(drafted: Draft, response: Response) -> tuple[int, int]:
    """How many items the drafted model gives of the page that it was made for: (valid, all)."""
    if drafted.kind == "feed":
        return 0, 0  # its rows are no page: FeedSpider reads them
    model = page_model(drafted.shown)
    if drafted.detail or drafted.kind == "detail":
        items = items_of(model, response)
    elif drafted.kind == "json":
        items = items_of(model, response, json=drafted.cards)
    else:
        items = items_of(model, response, drafted.cards)
    return sum(not isinstance(item, Invalid) for item in items), len(items)
