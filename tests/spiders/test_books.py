"""The books spider, page by page: the shop's markup and that of the original site."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from scraper import Item, Request, Response
from scraper.demo.content import LATIN_1
from scraper.demo.site import Site
from spiders.books import Book, Books

SITE = Site()
ORIGIN = "http://shop.test"


def fetched(path: str) -> Response:
    answer = SITE.answer(path)
    return Response(
        ORIGIN + path, answer.status, {"Content-Type": answer.content_type}, answer.body
    )


async def yielded(response: Response, callback: str = "parse") -> list[Any]:
    return [found async for found in getattr(Books(), callback)(response)]


async def test_it_starts_at_its_site() -> None:
    assert [r.url async for r in Books().start()] == ["https://books.toscrape.com/"]
    assert [r.url async for r in Books(site="http://localhost:1/x").start()] == [
        "http://localhost:1/x"
    ]


async def test_a_list_page_leads_to_its_books_the_next_page_and_the_categories() -> None:
    found = await yielded(fetched("/catalogue/page-2.html"))
    assert all(isinstance(request, Request) for request in found)
    books = [r.url for r in found if r.callback == "parse_book"]
    lists = [r.url for r in found if r.callback != "parse_book"]
    assert len(books) == len(set(books)) == 20
    assert f"{ORIGIN}/catalogue/page-3.html" in lists
    assert f"{ORIGIN}/catalogue/category/books/travel_2/index.html" in lists
    assert len(lists) == 1 + 51 + 1, "the next page, the categories, the staff room"


async def test_the_last_list_page_has_no_next() -> None:
    found = await yielded(fetched("/catalogue/page-50.html"))
    assert not [r.url for r in found if "/catalogue/page-" in r.url]


@pytest.mark.parametrize("number", [1, 101, 83, 1_024])
async def test_a_book_is_read_as_it_is(number: int) -> None:
    book = SITE.books[number - 1]
    (item,) = await yielded(fetched(f"/catalogue/{book.slug}/index.html"), "parse_book")
    assert isinstance(item, Book)
    assert item == Book(
        url=f"{ORIGIN}/catalogue/{book.slug}/index.html",
        title=book.title,
        upc=book.upc,
        category=book.category,
        price_text=f"£{Decimal(book.price) / 100:.2f}",
        stock=book.stock,
        rating=book.rating,
        reviews=book.reviews,
        description=book.description,
        image=f"{ORIGIN}/media/cache/{number}.png",
    )


async def test_latin_1_and_out_of_stock() -> None:
    french = next(book for book in SITE.books if book.category == LATIN_1 and "œ" in book.title)
    (item,) = await yielded(fetched(f"/catalogue/{french.slug}/index.html"), "parse_book")
    assert item.title == french.title
    assert item.price_text.startswith("£")
    empty = next(book for book in SITE.books if book.stock == 0)
    (item,) = await yielded(fetched(f"/catalogue/{empty.slug}/index.html"), "parse_book")
    assert item.stock == 0


ORIGINAL = """<!DOCTYPE html><html><head><title>A Light</title></head><body>
<ul class="breadcrumb"><li><a href="../../index.html">Home</a></li>
 <li><a href="../category/books_1/index.html">Books</a></li>
 <li><a href="../category/books/poetry_23/index.html">Poetry</a></li>
 <li class="active">A Light in the Attic</li></ul>
<article class="product_page"><div class="row"><div class="col-sm-6">
 <div id="product_gallery" class="carousel"><div class="thumbnail"><div class="carousel-inner">
 <div class="item active"><img src="../../media/cache/fe/72/x.jpg" alt="A Light in the Attic"/>
 </div></div></div></div></div>
 <div class="col-sm-6 product_main"><h1>A Light in the Attic</h1>
 <p class="price_color">£51.77</p>
 <p class="instock availability"><i class="icon-ok"></i>

        In stock (22 available)

 </p><p class="star-rating Three"><i class="icon-star"></i></p></div></div>
 <div id="product_description" class="sub-header"><h2>Product Description</h2></div>
 <p>It's hard to imagine. ...more</p>
 <table class="table table-striped"><tr><th>UPC</th><td>a897fe39b1053632</td></tr>
 <tr><th>Product Type</th><td>Books</td></tr><tr><th>Price (excl. tax)</th><td>£51.77</td></tr>
 <tr><th>Price (incl. tax)</th><td>£51.77</td></tr><tr><th>Tax</th><td>£0.00</td></tr>
 <tr><th>Availability</th><td>In stock (22 available)</td></tr>
 <tr><th>Number of reviews</th><td>0</td></tr></table></article>
<section><div class="sub-header"><h2>Products you recently viewed</h2></div><ul class="row"><li>
 <article class="product_pod"><p class="star-rating One"></p><h3><a href="../x_1/index.html">X</a>
 </h3><p class="price_color">£1.00</p><p class="instock availability">In stock</p></article>
</li></ul></section></body></html>"""


async def test_the_original_sites_markup() -> None:
    url = "https://books.toscrape.com/catalogue/a-light-in-the-attic_1000/index.html"
    response = Response(url, headers={"Content-Type": "text/html"}, body=ORIGINAL.encode())
    (item,) = await yielded(response, "parse_book")
    assert isinstance(item, Item)
    assert item.model_dump() == {
        "url": url,
        "title": "A Light in the Attic",
        "upc": "a897fe39b1053632",
        "category": "Poetry",
        "price_text": "£51.77",
        "price": None,
        "currency": "",
        "stock": 22,
        "rating": 3,
        "reviews": 0,
        "description": "It's hard to imagine. ...more",
        "image": "https://books.toscrape.com/media/cache/fe/72/x.jpg",
    }


async def test_a_page_that_is_no_book_is_rejected_not_invented() -> None:
    body = b"<h1>Not found</h1>"
    response = Response(ORIGIN, headers={"Content-Type": "text/html"}, body=body)
    (item,) = await yielded(response, "parse_book")
    assert not isinstance(item, Book)
    assert {e["field"] for e in item.error.errors} >= {"upc", "category", "price_text", "rating"}
