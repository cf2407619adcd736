"""Pages that cost too much, or are not what they say: what a server sends, and how it must end."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CASES", "Page", "formatting"]


@dataclass(frozen=True, slots=True)
class Page:
    """One page. `ends`: its reason code, or "item"; "either" where the machine's speed decides.

    `number`: of the catalogue. `links`: what the callback must find in it.
    """

    number: int
    name: str
    body: bytes
    ends: str
    input: str
    outcome: str
    links: int | None = None
    type: str = "text/html; charset=utf-8"


REFUSED = "`parse_limit`, one attempt, no item; the control host's pages are all there"
PARSED = "parsed in the probe, then in a thread; an item"


def names(count: int) -> bytes:
    return b" ".join(b"a%d" % n for n in range(count))


def formatting(elements: int, paragraphs: int) -> bytes:
    """Elements that every paragraph opens again, left open in a paragraph that ends."""
    return b"<p>" + b"".join(b"<b a%d>" % n for n in range(elements)) + b"<p>x" * paragraphs


FILLER = b"<div class=x><p>Some text <a href='/x/y'>link</a> and <em>more</em>.</p></div>\n"
DEEP = b"<div>" * 3_000 + b"<a href='/one'>x</a>"

CASES = (
    Page(60, "nested", b"<div>" * 100_000, "parse_limit", "100,000 nested div", REFUSED),
    Page(
        61,
        "nested-fake",
        b"<i>" + b"<div></i>" * 100_000,
        "parse_limit",
        "100,000 nested div, each with an end tag that ends nothing",
        REFUSED,
    ),
    Page(
        61,
        "attributes",
        b"<a " + names(50_000) + b">",
        "parse_limit",
        "50,000 attributes on one tag",
        REFUSED,
    ),
    Page(
        61,
        "formatting",
        b"".join(b"<i x=%d><p>" % n for n in range(4_500)),
        "parse_limit",
        "60 KB of formatting elements that every paragraph opens again",
        REFUSED,
    ),
    Page(
        61,
        "formatting-few",
        formatting(500, 15_000),
        "parse_limit",
        "500 formatting elements left open before 15,000 paragraphs (64 KB)",
        REFUSED,
    ),
    Page(
        61,
        "formatting-hidden",
        FILLER * 1_500 + formatting(1_000, 15_000) + FILLER * 1_500,
        "parse_limit",
        "1,000 of them, in the middle of an ordinary page",
        REFUSED,
    ),
    Page(
        61,
        "formatting-utf-16",
        formatting(500, 15_000).decode().encode("utf-16"),
        "parse_limit",
        "500 of them, in UTF-16",
        REFUSED,
        type="text/html",
    ),
    Page(
        61,
        "options",
        b"<select>" + b"<option>a" * 20_000,
        "either",
        "20,000 options",
        "`parse_limit`, or parsed if the probe is quick enough; the control host's pages are all"
        " there",
    ),
    Page(
        61,
        "deep-harmless",
        DEEP,
        "item",
        "3,000 nested div and one link: it looks costly, and is not",
        PARSED,
        links=1,
    ),
    Page(
        61,
        "deep-links",
        b"<div>" * 5_000 + b"<a href=/x>x</a>" * 2_000,
        "parse_limit",
        "2,000 links, 5,000 elements deep: parsing it is quick, matching `a b c` is not",
        REFUSED,
    ),
    Page(
        63,
        "nul",
        b"<p>" + b"\0" * 1_000_000 + b"<a href='/one\0'>x</a>",
        "item",
        "a million NULs in a page, and one in a link",
        "an item; a NUL reads as nothing, or U+FFFD",
        links=1,
    ),
    Page(
        63,
        "jpeg",
        b"\xff\xd8\xff\xe0\0\x10JFIF" + b"\0\x01<div>" * 50_000,
        "not_html",
        "a JPEG as text/html",
        "`not_html` when a selector is asked of it, one attempt, no item",
    ),
    Page(
        63,
        "attribute-large",
        b"<a href='/one' title='" + b"x" * 10_000_000 + b"'>x</a>",
        "item",
        "an attribute of 10 MB",
        PARSED,
        links=1,
    ),
    Page(
        63,
        "attribute-huge",
        b"<p title='" + b"x" * 50_000_000 + b"'>",
        "body_too_large",
        "an attribute of 50 MB",
        "`body_too_large`, one attempt, no item",
    ),
    Page(
        64,
        "base",
        b"<base href='javascript:alert(1)'><a href='one'>x</a>",
        "item",
        "`<base href=javascript:>`",
        "it is ignored: links are relative to the page, an item",
        links=1,
    ),
    Page(
        64,
        "refresh",
        b"<meta http-equiv=refresh content='0; url=/refresh'><a href='/one'>x</a>",
        "item",
        "a meta refresh to itself",
        "fetched once, an item: a meta refresh is not followed (a spider can: it is a link like"
        " any other, seen once)",
        links=1,
    ),
)
