"""books.toscrape.com, and every shop with its markup: `scrape demo` brings one along."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Annotated, ClassVar

from pydantic import field_validator

from scraper import Css, Item, Output, Request, Response, Spider

RATINGS = {"One": 1, "Two": 2, "Three": 3, "Four": 4, "Five": 5}


class Book(Item):
    """One book, from its own page."""

    url: str = ""
    title: Annotated[str, Css("h1")]
    upc: Annotated[str, Css("tr:nth-child(1) td")]
    category: Annotated[str, Css(".breadcrumb li:nth-child(3) a")]
    price_text: Annotated[str, Css(".product_main .price_color")]
    price: Decimal | None = None  # these two are filled by pipelines.prices
    currency: str = ""
    stock: Annotated[int, Css(".product_main .availability", re=r"\d+")] = 0
    rating: Annotated[int, Css(".product_main .star-rating::attr(class)", re=r"star-rating (\w+)")]
    reviews: Annotated[int, Css("tr:nth-child(7) td")] = 0
    description: Annotated[str | None, Css("#product_description + p")]
    image: Annotated[str, Css("#product_gallery img::attr(src)", absolute=True)]

    @field_validator("rating", mode="before")
    @classmethod
    def count_stars(cls, value: object) -> object:
        return RATINGS.get(value, value) if isinstance(value, str) else value


class Books(Spider):
    """The whole shop: through the list pages and the categories to each book once."""

    name = "books"
    settings: ClassVar = {"crawl": {"max_depth": 100}}  # a list page only leads to the next one
    site: str = "https://books.toscrape.com/"

    async def start(self) -> AsyncIterator[Request]:
        yield Request(self.site)

    async def parse(self, response: Response) -> Output:
        """A list page. A book that several lists link to is fetched once."""
        for link in response.links("article.product_pod h3 a"):
            yield response.follow(link, self.parse_book)
        for link in response.links("li.next a, .side_categories ul ul a"):
            yield response.follow(link)

    async def parse_book(self, response: Response) -> Output:
        book = response.extract(Book)
        book.url = response.url
        yield book
