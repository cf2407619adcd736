"""How pages call the parts of what they show: the words that give a place its role."""

from __future__ import annotations

import re

from scraper.drafting.tree import Element

__all__ = [
    "ABOUT",
    "AUTHOR",
    "COUNT",
    "DATE",
    "HEADINGS",
    "MARKED",
    "OLD",
    "PRICE",
    "PRICED",
    "RATING",
    "STOCK",
    "TAGS",
    "TITLE",
    "leads",
]

HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
MARKED = r"(.+?)\s*[¶#§]?$"
"""Documentation appends a link to each heading: "Built-in Functions¶"."""

TITLE = re.compile(r"title|headline|heading|(?:\b|_)name\b")
OLD = re.compile(r"\bold\b|\bwas\b|strike|before|original|regular|list-price|rrp|uvp|per[-_]unit")
PRICED = re.compile(r"price|amount|cost|preis|prix|precio")
RATING = re.compile(r"rating|stars?\b|score")
STOCK = re.compile(r"availab|stock")
DATE = re.compile(r"date|time\b|published|posted|created")
AUTHOR = re.compile(r"author|byline|creator|\bby\b")
ABOUT = re.compile(r"description|\bdescr?\b|summary|excerpt|teaser|snippet|abstract|blurb|intro\b")
TAGS = re.compile(r"tags?\b|labels?\b|keyword|categor|topic|genre")
COUNT = re.compile(r"count|reviews?\b|votes?\b|comments?\b|points\b|likes?\b|views?\b|number")
PRICE = re.compile(
    r"(?:[$€£¥₹₽₩₺₫₴฿]|\b(?:USD|EUR|GBP|CHF|JPY|PLN|CZK|SEK|NOK|DKK|AUD|CAD|zł|kr|Kč|Rs)\.?)\s?\d"
    r"|\d[\d.,\s']{0,15}(?:[$€£¥₹₽₩₺₫₴฿]|(?:USD|EUR|GBP|CHF|JPY|PLN|CZK|SEK|NOK|DKK|zł|kr|Kč)\b)"
)
"""An amount with its currency, on either side."""


def leads(element: Element) -> bool:
    """Whether a link leads to another page."""
    href = element.attrs.get("href", "").strip().lower()
    return bool(href) and not href.startswith(("#", "javascript:", "mailto:", "tel:", "data:"))
