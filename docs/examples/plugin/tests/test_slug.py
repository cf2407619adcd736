from __future__ import annotations

from typing import Any

import pytest
from scraper_extras.slug import Slug, slugged

from scraper import Drop, Item, Request
from scraper.pipelines.page import StagedPage

PAGE = StagedPage(Request("https://example.com/"))


class Book(Item):
    title: str
    slug: str = ""


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("A Light in the Attic", "a-light-in-the-attic"),
        ("  Straße des Él!", "strasse-des-el"),
        ("100 %", "100"),
        ("日本", ""),
    ],
)
def test_slugged(text: str, slug: str) -> None:
    assert slugged(text) == slug


async def test_items_get_a_slug() -> None:
    stage = Slug()
    assert await stage.process({"title": "A b"}, PAGE) == {"title": "A b", "slug": "a-b"}
    assert await stage.process(Book(title="A b"), PAGE) == Book(title="A b", slug="a-b")


@pytest.mark.parametrize("item", [{}, {"title": "!"}, Book(title="")])
async def test_what_has_none_is_dropped(item: Any) -> None:
    with pytest.raises(Drop, match="no_slug"):
        await Slug().process(item, PAGE)
