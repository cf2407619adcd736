"""Pages in slow stages: which are counted, and how many need not count as a worker's."""

from __future__ import annotations

import asyncio

from scraper import chained
from scraper.chained import Chained
from scraper.http import Response


def nobody() -> None:
    """Hears that there is room, and does nothing about it."""


async def test_as_many_are_spared_as_the_concurrency_allows() -> None:
    pages = Chained(nobody)
    assert pages.spare(8) == 0
    for _ in range(100):
        pages.enter(10)
    assert pages.spare(1) == chained.MOST
    assert pages.spare(8) == 8 * chained.MOST
    assert pages.spare(1000) == 100
    for _ in range(100):
        pages.leave(10)
    assert (pages.pages, pages.held, pages.spare(8)) == (0, 0, 0)


async def test_none_is_spared_beyond_what_bodies_may_take() -> None:
    pages = Chained(nobody)
    pages.enter(chained.MOST_BYTES - 1)
    assert pages.spare(8) == 1
    pages.enter(1)
    assert pages.spare(8) == 0
    pages.leave(1)
    assert pages.spare(8) == 1


def test_a_page_weighs_more_once_it_is_parsed() -> None:
    assert chained.weight(None) == 0
    page = Response("http://h/", 200, {"Content-Type": "text/html"}, b"<p>" + b"x" * 997)
    assert chained.weight(page) == 1000
    page.css("p")
    assert chained.weight(page) == 1000 * (1 + chained.PARSED) + chained.PARSED_LEAST


async def test_what_returns_at_once_is_not_told_of() -> None:
    told: list[int] = []
    pages = Chained(lambda: told.append(pages.pages))
    for _ in range(3):
        pages.enter(100)
        pages.leave(100)
    await asyncio.sleep(0)
    assert (pages.pages, pages.held, told) == (0, 0, [])


async def test_what_waits_is_told_of_once() -> None:
    told: list[int] = []
    pages = Chained(lambda: told.append(pages.pages))
    pages.enter(100)
    pages.enter(20)
    await asyncio.sleep(0)
    assert (pages.pages, pages.held, told) == (2, 120, [2])
    for _ in range(3):  # others, quick ones, come by
        pages.enter(1)
        pages.leave(1)
        await asyncio.sleep(0)
    assert told == [2]
    pages.leave(100)
    pages.enter(5)
    await asyncio.sleep(0)
    assert (pages.pages, pages.held, told) == (2, 25, [2, 2])
    pages.leave(5)
    pages.leave(20)
    assert (pages.pages, pages.held) == (0, 0)
