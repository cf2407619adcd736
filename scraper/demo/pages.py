"""The shop's HTML: class names and nesting of books.toscrape.com, so that one spider reads both."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from html import escape

from scraper.demo.content import CATEGORIES, Book, Category

__all__ = ["book_page", "cover", "list_page", "message_page", "money"]

NUMBERS = ("Zero", "One", "Two", "Three", "Four", "Five")
SHOWN = 40  # characters of a title in a list; the whole one is in the link's title attribute


def money(pence: int) -> str:
    """``5177`` → ``£51.77``."""
    return f"£{pence // 100}.{pence % 100:02}"


def list_page(
    title: str,
    entries: Sequence[tuple[Book, str]],
    *,
    page: int,
    pages: int,
    total: int,
    up: str,
    next_href: str | None,
    current: Category | None = None,
) -> str:
    """A page of books. `entries`: each with its link as written; `up`: the way to the root."""
    pods = "".join(_pod(book, href, up) for book, href in entries)
    pager = f'<li class="current">Page {page} of {pages}</li>'
    if next_href is not None:
        pager += f'<li class="next"><a href="{escape(next_href)}">next</a></li>'
    return _html(
        title,
        f"""<ul class="breadcrumb"><li><a href="{up}index.html">Home</a></li>
<li class="active">{escape(title)}</li></ul>
<div class="row"><aside class="sidebar col-sm-4">{_side_bar(up, current)}</aside>
<div class="col-sm-8"><div class="page-header action"><h1>{escape(title)}</h1></div>
<form method="get" class="form-horizontal"><strong>{total}</strong> results.</form>
<section><ol class="row">{pods}</ol>
<ul class="pager">{pager}</ul></section></div></div>""",
    )


def book_page(book: Book, category: Category, up: str, *, encoding: str | None) -> str:
    """A book's own page. `encoding`: for the meta element; None leaves it to the HTTP header."""
    rows = (
        ("UPC", book.upc),
        ("Product Type", "Books"),
        ("Price (excl. tax)", money(book.price)),
        ("Price (incl. tax)", money(book.price)),
        ("Tax", money(0)),
        ("Availability", _availability(book)),
        ("Number of reviews", str(book.reviews)),
    )
    table = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>\n" for name, value in rows)
    title = escape(book.title, quote=False)
    description = (
        '<div id="product_description" class="sub-header"><h2>Product Description</h2></div>\n'
        f"<p>{escape(book.description, quote=False)}</p>"
        if book.description
        else ""
    )
    return _html(
        book.title,
        f"""<ul class="breadcrumb"><li><a href="{up}index.html">Home</a></li>
<li><a href="../category/books_1/index.html">Books</a></li>
<li><a href="../category/books/{category.slug}/index.html">{category.name}</a></li>
<li class="active">{title}</li></ul>
<article class="product_page"><div class="row">
<div class="col-sm-6"><div id="product_gallery" class="carousel"><div class="item active">
<img src="{up}media/cache/{book.number}.png" alt="{escape(book.title)}"></div></div></div>
<div class="col-sm-6 product_main"><h1>{title}</h1>
<p class="price_color">{money(book.price)}</p>
{_stock(book)}
<p class="star-rating {NUMBERS[book.rating]}"><i class="icon-star"></i></p></div></div>
{description}
<div class="sub-header"><h2>Product Information</h2></div>
<table class="table table-striped">
{table}</table></article>""",
        encoding=encoding,
    )


def message_page(title: str, text: str) -> str:
    """A page that only says something: errors, redirects, the way through the wall."""
    return _html(title, f"<h1>{escape(title)}</h1><p>{escape(text)}</p>")


def cover(number: int) -> bytes:
    """A book's cover: a PNG of 2 by 3 pixels in a colour of its own (ISO/IEC 15948)."""
    pixel = bytes((number * 37 % 256, number * 91 % 256, number * 53 % 256))
    image = (b"\x00" + pixel * 2) * 3  # each row begins with its filter: none
    header = struct.pack(">IIBBBBB", 2, 3, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(image)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _html(title: str, body: str, *, encoding: str | None = "utf-8") -> str:
    meta = f'<meta charset="{encoding}">' if encoding else ""
    return f"""<!DOCTYPE html>
<html lang="en"><head>{meta}
<title>{escape(title, quote=False)} | A bookshop to scrape</title></head>
<body><header class="header">A bookshop to scrape: nothing here can be bought.</header>
<div class="page_inner">{body}</div></body></html>
"""


def _pod(book: Book, href: str, up: str) -> str:
    shown = book.title if len(book.title) <= SHOWN else book.title[:SHOWN].rstrip() + " ..."
    title = escape(book.title)
    return f"""<li class="col-xs-6"><article class="product_pod">
<div class="image_container"><a href="{href}">
<img src="{up}media/cache/{book.number}.png" alt="{title}" class="thumbnail"></a></div>
<p class="star-rating {NUMBERS[book.rating]}"><i class="icon-star"></i></p>
<h3><a href="{href}" title="{title}">{escape(shown, quote=False)}</a></h3>
<div class="product_price"><p class="price_color">{money(book.price)}</p>
{_stock(book, count=False)}</div></article></li>
"""


def _availability(book: Book) -> str:
    return f"In stock ({book.stock} available)" if book.stock else "Out of stock"


def _stock(book: Book, *, count: bool = True) -> str:
    kind, icon = ("instock", "ok") if book.stock else ("outofstock", "remove")
    text = _availability(book) if count else _availability(book).partition(" (")[0]
    return f'<p class="{kind} availability"><i class="icon-{icon}"></i>\n    {text}\n</p>'


def _side_bar(up: str, current: Category | None) -> str:
    def entry(category: Category) -> str:
        name = f"<strong>{category.name}</strong>" if category is current else category.name
        href = f"{up}catalogue/category/books/{category.slug}/index.html"
        return f'<li><a href="{href}">{name}</a></li>\n'

    return f"""<div class="side_categories"><ul class="nav nav-list"><li>
<a href="{up}catalogue/category/books_1/index.html">Books</a><ul>
{"".join(entry(category) for category in CATEGORIES)}
<li><a href="{up}staff/picks.html">Staff only</a></li></ul></li></ul></div>"""
