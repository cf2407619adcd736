"""What is asked of a page: CSS selectors with `::text` and `::attr(x)`, regular expressions.

Checked and taken apart once, when they are first seen: a mistake is named before any page is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

from selectolax.lexbor import LexborHTMLParser, SelectolaxError

from scraper.errors import UsageError

__all__ = ["Pattern", "Query", "collapse", "compile_css", "compile_re"]

Pattern = str | re.Pattern[str]


class Query(NamedTuple):
    """One part of a comma list: a plain CSS selector, and what to take of each match.

    `take`: None the element, "text" its own text nodes, "texts" those of all below it as well,
    "attr" the attribute `name`. `plain`: the selector is the name of an element, and no more.
    """

    css: str
    take: Literal["text", "texts", "attr"] | None = None
    name: str = ""
    plain: bool = False


_PSEUDO = re.compile(r"::(?:(text)|attr\(\s*([^\s()]+)\s*\))\s*\Z", re.IGNORECASE)
_ANYTHING_BELOW = re.compile(r"(?<![>+~\s])\s+\*\Z")
_NAME = re.compile(r"[a-z][a-z0-9]{0,30}")
_PARTS = re.compile(r"""\\.|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[(\[]|[)\]]|,""", re.DOTALL)


@lru_cache(maxsize=1024)
def compile_css(selector: str) -> tuple[Query, ...]:
    """The parts of *selector*. Raises `UsageError` when it is not one that lexbor understands.

    Parts that take elements are kept in one query, so that their matches come in document order.
    """
    plain: list[str] = []
    queries: list[Query] = []
    for part in _split(selector):
        pseudo = _PSEUDO.search(part)
        if pseudo is None:
            plain.append(part)
        else:
            queries.append(_pseudo_query(part[: pseudo.start()], pseudo[2]))
    if plain or not queries:
        queries.insert(0, Query(",".join(plain)))
    for query in queries:
        _check(query.css, selector)
    return tuple(dict.fromkeys(q._replace(plain=bool(_NAME.fullmatch(q.css))) for q in queries))


def _pseudo_query(css: str, name: str | None) -> Query:
    """`p::text`: of p itself. `p ::text`: of p and of everything below, as in XPath's `//`.

    `p *::text` is the same in parsel, and so in many a spider: it takes p's own texts as well.
    """
    css = _ANYTHING_BELOW.sub(" ", css)
    below = not css.strip() or css[-1].isspace()
    css = css.strip() or "*"
    if css[-1] in ">+~":
        css, below = f"{css} *", False
    if name is None:
        return Query(css, "texts" if below else "text")
    return Query(f"{css}, {css} *" if below and css != "*" else css, "attr", name.lower())


def _split(selector: str) -> Iterator[str]:
    """The parts between the commas that stand outside strings, brackets and parentheses."""
    start = depth = 0
    for match in _PARTS.finditer(selector):
        mark = match[0]
        if mark in "([":
            depth += 1
        elif mark in ")]":
            depth -= 1
        elif mark == "," and depth == 0:
            yield selector[start : match.start()].strip()
            start = match.end()
    yield selector[start:].strip()


def _check(css: str, selector: str) -> None:
    try:
        LexborHTMLParser(b"").css(css)
    except (SelectolaxError, UnicodeEncodeError):
        raise UsageError(f"not a valid CSS selector: {selector!r}", hint=_way_out(css)) from None


def _way_out(css: str) -> str:
    if ":contains(" in css:
        return (
            "Instead of :contains('x') write :lexbor-contains(\"x\"), which looks into each text by"
            " itself, or xpath(\"//td[contains(., 'x')]\"), which looks into all of them together."
        )
    if ":scope" in css or css.strip().startswith(">"):
        return "For children of the element at hand write xpath('./li')."
    return (
        "Lexbor knows CSS Selectors level 4, and here ::text and ::attr(name) at the end of a part."
    )


def collapse(text: str) -> str:
    """*text* without white space at its ends, and with single spaces inside."""
    return " ".join(text.split())


def compile_re(pattern: Pattern) -> re.Pattern[str]:
    """*pattern* compiled. Raises `UsageError` when it is not a regular expression."""
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"not a valid regular expression: {pattern!r} ({error})") from None
