"""Pages in slow stages: which are counted, and how many need not count as a worker's."""

from __future__ import annotations

import asyncio

import pytest

from scraper import chained
from scraper.chained import Chained, Passing
from scraper.http import Response


def test_as_many_are_spared_as_the_concurrency_allows() -> None:
    pages = Chained()
    assert pages.spare(8) == 0
    for _ in range(100):
        pages.entered(10)
    assert pages.spare(1) == chained.MOST
    assert pages.spare(8) == 8 * chained.MOST
    assert pages.spare(1000) == 100
    for _ in range(100):
        pages.left(10)
    assert (pages.pages, pages.held, pages.spare(8)) == (0, 0, 0)


def test_none_is_spared_beyond_what_bodies_may_take() -> None:
    pages = Chained()
    pages.entered(chained.MOST_BYTES - 1)
    assert pages.spare(8) == 1
    pages.entered(1)
    assert pages.spare(8) == 0
    pages.left(1)
    assert pages.spare(8) == 1


def test_a_page_weighs_more_once_it_is_parsed() -> None:
    assert chained.weight(None) == 0
    page = Response("http://h/", 200, {"Content-Type": "text/html"}, b"<p>" + b"x" * 997)
    assert chained.weight(page) == 1000
    page.css("p")
    assert chained.weight(page) == 1000 * (1 + chained.PARSED) + chained.PARSED_LEAST


async def test_what_returns_at_once_is_not_counted() -> None:
    pages, woken = Chained(), 0

    def wake() -> None:
        nonlocal woken
        woken += 1

    Passing(pages, 100, wake).over()
    await asyncio.sleep(0)
    assert (pages.pages, woken) == (0, 0)


@pytest.mark.parametrize("rounds", [1, 3])
async def test_what_waits_is_counted_until_it_is_through(rounds: int) -> None:
    pages, woken = Chained(), []
    one = Passing(pages, 100, lambda: woken.append(pages.pages))
    two = Passing(pages, 20, lambda: woken.append(pages.pages))
    for _ in range(rounds):
        await asyncio.sleep(0)
    assert (pages.pages, pages.held, woken) == (2, 120, [1, 2])
    one.over()
    assert (pages.pages, pages.held) == (1, 20)
    two.over()
    assert (pages.pages, pages.held) == (0, 0)
