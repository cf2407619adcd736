"""Which names of a page can be relied on, and what becomes of them in a spider's source.

Everything that reaches a draft goes through here: a class, an id, an attribute's value must be a
plain CSS identifier, a field's name a plain Python one. What a generator made up (hashes, numbers)
changes with the next release of a site, and is not used.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from functools import lru_cache

from scraper.items import Item

__all__ = ["identifier", "plain", "semantic", "words"]

_PLAIN = re.compile(r"[A-Za-z](?:[A-Za-z0-9]|[-_](?=[A-Za-z0-9_-])){0,39}")
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_GENERATED = re.compile(
    r"(?:css|sc|jss|svelte|emotion|styled|chakra|mui|ng|v|_ngcontent|data-v|makestyles)[-_]",
    re.IGNORECASE,
)
_STATES = frozenset({
    "active", "alt", "current", "disabled", "enabled", "even", "expanded", "first", "focus",
    "has", "hidden", "hover", "is", "item-first", "item-last", "last", "lazy", "lazyload",
    "lazyloaded", "loaded", "loading", "odd", "open", "selected", "show", "shown", "sticky",
    "visible", "visited",
})  # fmt: skip
_UTILITY = re.compile(
    r"(?:row|container|grid|flex|inline|block|relative|absolute|clearfix|btn|button|wrap|wrapper"
    r"|inner|outer|left|right|center|small|large|bold|icon|fa|glyphicon|img|table|striped"
    r"|responsive|reference|internal|external|pre|docutils|literal|notranslate|xref|std)"
    r"(?:[-_][\w-]*)?"
    r"|(?:col|d|m[trblxy]?|p[trblxy]?|w|h|g|gap|text|bg|font|border|rounded|shadow|justify|align"
    r"|items|self|float|pull|push|order|offset|position|space|leading|tracking|overflow)-[\w-]*"
)
"""What frameworks of style sheets call their layout."""


def plain(name: str) -> bool:
    """Whether *name* can stand in a selector as it is, and in source without any quoting."""
    return _PLAIN.fullmatch(name) is not None


@lru_cache(maxsize=4096)
def semantic(name: str) -> bool:
    """Whether a class or id says what the element is: not a hash, a number, a state, a layout."""
    return (
        plain(name)
        and name not in _STATES
        and _UTILITY.fullmatch(name) is None
        and _GENERATED.match(name) is None
        and not any(_made_up(part) for part in re.split(r"[-_]+", name))
    )


def _made_up(part: str) -> bool:
    """Whether one part of a name looks like a hash or a number of the database."""
    if re.search(r"^\d+$|\d{3}|\d[A-Za-z]|[A-Za-z]\d+[A-Za-z]", part):
        return True
    if len(part) > 4 and not re.search(r"[aeiouyAEIOUY]", part):
        return True
    pieces = _WORDS.findall(part)  # bdVaJa: words of two letters are no words
    return len(pieces) > 2 and sum(map(len, pieces)) < 3 * len(pieces)


@lru_cache(maxsize=4096)
def words(name: str) -> tuple[str, ...]:
    """The words of a name, in lower case: ``productTitle``, ``product-title`` → product, title."""
    return tuple(word.lower() for word in _WORDS.findall(name))


_TYPES = frozenset({"str", "int", "float", "list", "Amount", "Annotated"})
_TAKEN = _TYPES | frozenset(dir(Item)) | frozenset(keyword.kwlist)


def identifier(text: str) -> str:
    """A field's name made of *text*; "" when nothing of it can be used.

    ASCII letters, digits and single underscores, at most 24; never a keyword, a type (it would
    hide it in the next field's annotation) or an attribute of pydantic models.
    """
    parts = words(unicodedata.normalize("NFKD", text[:80]).encode("ascii", "ignore").decode())
    while sum(map(len, parts)) + len(parts) > 25:
        parts = parts[:-1]
    name = "_".join(parts)
    if not name or not name[0].isalpha():
        return ""
    if name in _TAKEN or name.startswith("model_") or not name.isidentifier():
        name = f"item_{name}"
    return name
