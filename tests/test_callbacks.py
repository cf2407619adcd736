"""Callbacks in every shape, and their kwargs."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import pytest

from scraper.callbacks import BREATH, Callbacks, deliver, drain, each
from scraper.errors import SpiderError
from scraper.http import Request
from scraper.items import Item
from scraper.spider import Output, Spider


class Half(Item):
    title: str


class Shapes(Spider):
    name = "shapes"

    async def generator(self, response: str) -> AsyncIterator[str]:
        yield response
        yield "b"

    async def coroutine(self, response: str) -> list[str]:
        return [response]

    async def nothing(self, response: str) -> None:
        return None

    def plain(self, response: str) -> Iterator[str]:
        yield response

    def direct(self, response: str) -> list[str]:
        return [response]

    async def indirect(self, response: str) -> AsyncIterator[str]:
        return self.generator(response)

    async def usual(self, response: str, page: int) -> Output:
        yield {"page": page}

    async def typed(self, response: str, page: int, half: Half, rest: Any = None) -> list[Any]:
        return [page, half, rest]


async def given(name: str, **kwargs: Any) -> list[Any]:
    taken: list[Any] = []

    async def take(value: Any) -> None:
        taken.append(value)

    await drain(Callbacks(Shapes())[name].call("a", kwargs), take)
    return taken


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("generator", ["a", "b"]),
        ("coroutine", [["a"]]),
        ("nothing", []),
        ("plain", ["a"]),
        ("direct", [["a"]]),
        ("indirect", ["a", "b"]),
    ],
)
async def test_every_shape_is_drained(name: str, expected: list[Any]) -> None:
    assert await given(name) == expected


async def test_kwargs_are_validated_by_the_annotations() -> None:
    ((page, half, rest),) = await given("typed", page="3", half={"title": "x"}, rest=[1])
    assert (page, half, rest) == (3, Half(title="x"), [1])


async def test_a_kwarg_that_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"typed\(page=…\): .*'three'"):
        await given("typed", page="three", half={"title": "x"})


async def test_a_generator_is_closed_when_its_taker_fails() -> None:
    closed = []

    async def values() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    async def take(value: int) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await drain(values(), take)
    assert closed == [True]


def test_a_callback_that_is_gone_says_what_to_do() -> None:
    callbacks = Callbacks(Shapes())
    assert "gone" not in callbacks
    with pytest.raises(SpiderError) as caught:
        callbacks["gone"]
    assert "--fresh" in caught.value.hint


async def test_kwargs_of_the_usual_callback_are_validated() -> None:
    assert await given("usual", page="3") == [{"page": 3}]
    with pytest.raises(ValueError, match=r"usual\(page=…\)"):
        await given("usual", page="three")


@pytest.mark.parametrize(
    "name", ["generator", "coroutine", "nothing", "plain", "direct", "indirect"]
)
async def test_each_gives_what_drain_gives(name: str) -> None:
    started = Callbacks(Shapes())[name].call("a", {})
    assert [value async for value in each(started)] == await given(name)


# What is given, and to whom ----------------------------------------------------------------------


async def delivered(given: Any) -> tuple[list[Request], list[Any]]:
    requests: list[Request] = []
    items: list[Any] = []

    async def item(one: Any) -> None:
        items.append(one)

    await deliver(given, requests.append, item)
    return requests, items


async def test_requests_and_items_are_told_apart_in_any_depth_of_lists() -> None:
    a, b, c = (Request(f"http://h/{name}") for name in "abc")
    requests, items = await delivered([a, {"n": 1}, [b, [({"n": 2}, c)]], []])
    assert requests == [a, b, c]
    assert items == [{"n": 1}, {"n": 2}]


async def test_a_named_tuple_is_one_item() -> None:
    class Pair(NamedTuple):
        left: int
        right: int

    assert await delivered([Pair(1, 2)]) == ([], [Pair(1, 2)])


@pytest.mark.parametrize("wrong", ["http://h/", None, 1, b"", ["http://h/"], [[None]]])
async def test_what_is_neither_item_nor_request_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match="yield items, requests or lists"):
        await delivered([wrong])


async def async_generator(values: list[Any]) -> AsyncIterator[Any]:
    for value in values:
        yield value


def generator(values: list[Any]) -> Iterator[Any]:
    yield from values


@pytest.mark.parametrize("shape", [async_generator, generator, list])
@pytest.mark.parametrize("one", [Request("http://h/"), {"n": 1}])
async def test_others_have_their_turn_while_a_page_gives_thousands(shape: Any, one: Any) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await delivered(shape([one] * 5_000))
    task.cancel()
    assert turns >= 5_000 // BREATH


async def test_a_page_does_not_wait_for_the_garbage_collector() -> None:
    class Page(dict[str, int]):
        pass

    async def visit() -> weakref.ref[Page]:
        page = Page(n=1)

        async def item(one: Any) -> None:
            page.update(one)

        await deliver([{"n": 1}, [{"n": 2}]], lambda request: None, item)
        return weakref.ref(page)

    gc.disable()
    try:
        gone = await visit()
        assert gone() is None, "something refers to itself, and to the page"
    finally:
        gc.enable()
