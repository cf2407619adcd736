"""Callbacks: found by name, given validated kwargs, drained whatever shape they were written in."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from types import AsyncGeneratorType, FunctionType, GeneratorType
from typing import Any, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from scraper.errors import SpiderError
from scraper.http import Request
from scraper.spider import Spider

__all__ = ["Bound", "Callbacks", "deliver", "drain", "each"]

Take = Callable[[Any], Awaitable[None] | None]
"""Takes a value that a callback gave: at once, or it returns what is to be awaited first."""

BREATH = 128
"""Values of one callback after which the loop has its turn: two milliseconds, if they are items."""


class Bound:
    """A callback ready to be called: the method, and how each of its kwargs is validated."""

    __slots__ = ("adapters", "method", "name")

    def __init__(self, name: str, method: Callable[..., Any]) -> None:
        self.name = name
        self.method = method
        self.adapters = _adapters(method)

    def call(self, argument: Any, kwargs: Mapping[str, Any]) -> Any:
        """Start the callback. Raises `ValueError` naming a kwarg that does not fit.

        Values come as JSON holds them; a model among them is found by its fields' names.
        """
        if not kwargs:
            return self.method(argument)
        made = {}
        for name, value in kwargs.items():
            adapter = self.adapters.get(name)
            try:
                made[name] = (
                    value if adapter is None else adapter.validate_python(value, by_name=True)
                )
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, (name, *first["loc"])))
                raise ValueError(
                    f"{self.name}({where}=…): {first['msg']}, got {first['input']!r}"
                ) from None
        return self.method(argument, **made)


class Callbacks:
    """The callbacks of one spider, by name."""

    def __init__(self, spider: Spider) -> None:
        self._spider = spider
        self._bound: dict[str, Bound] = {}
        self.names: set[str | None] = {None}
        """What was looked for and is there, and None, which means the default."""

    def __contains__(self, name: str) -> bool:
        if name in self.names:
            return True
        if not callable(getattr(self._spider, name, None)):
            return False
        self.names.add(name)
        return True

    def __getitem__(self, name: str) -> Bound:
        bound = self._bound.get(name)
        if bound is None:
            if name not in self:
                raise SpiderError(
                    f"spider {self._spider.name}: a stored request asks for the callback {name!r}, "
                    "which the class does not have",
                    hint="Put the method back (or rename it back), or start anew with --fresh.",
                )
            bound = self._bound[name] = Bound(name, getattr(self._spider, name))
        return bound


def _adapters(method: Callable[..., Any]) -> dict[str, TypeAdapter[Any]]:
    hints = _parameter_types(method)
    adapters: dict[str, TypeAdapter[Any]] = {}
    for name in list(inspect.signature(method).parameters)[1:]:
        if name in hints:
            try:
                adapters[name] = TypeAdapter(hints[name])
            except (PydanticSchemaGenerationError, PydanticUserError):
                continue
    return adapters


def _parameter_types(method: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of the parameters; what is returned may name what cannot be found here."""
    function = inspect.unwrap(method)
    function = getattr(function, "__func__", function)
    if not isinstance(function, FunctionType):
        return {}
    shown = FunctionType(function.__code__, function.__globals__, closure=function.__closure__)
    shown.__annotations__ = {n: a for n, a in function.__annotations__.items() if n != "return"}
    try:
        return get_type_hints(shown, include_extras=True)
    except Exception:  # noqa: BLE001 - unreadable annotations mean unvalidated kwargs, as in a call
        return {}


def drain(
    result: Any, take: Take, request: Callable[[Request], object] | None = None
) -> Coroutine[Any, Any, None]:
    """Hand every value a callback gives to *take*: async generator, coroutine, generator, list.

    *request*, if there is one, gets those that are plain requests: most of what pages give are.
    There may be thousands, none of which has to wait: after `BREATH` of them others have a turn.
    """
    if isinstance(result, AsyncGeneratorType):
        return _drain_async(result, take, request)
    if isinstance(result, GeneratorType):
        return _drain_sync(result, take, request)
    return _drain_one(result, take, request)


async def _drain_one(result: Any, take: Take, request: Callable[[Request], object] | None) -> None:
    if inspect.isawaitable(result):
        result = await result
        if isinstance(result, AsyncGeneratorType | GeneratorType):
            return await drain(result, take, request)
    if result is not None and (taking := take(result)) is not None:
        await taking
    return None


async def _drain_async(
    values: AsyncGenerator[Any, None], take: Take, request: Callable[[Request], object] | None
) -> None:
    plain = None if request is None else Request
    given = 0
    try:
        async for value in values:
            if value.__class__ is plain:
                request(value)  # type: ignore[misc]  # there is one
            elif (taking := take(value)) is not None:
                await taking
            given += 1
            if given == BREATH:
                given = await _breath()
    finally:
        await values.aclose()


async def _drain_sync(
    values: Generator[Any, None, None], take: Take, request: Callable[[Request], object] | None
) -> None:
    plain = None if request is None else Request
    given = 0
    try:
        for value in values:
            if value.__class__ is plain:
                request(value)  # type: ignore[misc]  # there is one
            elif (taking := take(value)) is not None:
                await taking
            given += 1
            if given == BREATH:
                given = await _breath()
    finally:
        values.close()


async def _breath() -> int:
    """Let the loop have its turn; begin to count anew."""
    await asyncio.sleep(0)
    return 0


def deliver(
    result: Any, request: Callable[[Request], object], item: Callable[[Any], Awaitable[None]]
) -> Coroutine[Any, Any, None]:
    """Hand every request that a callback gives to *request*, all else to *item*; open lists.

    Raises `TypeError` for what is neither. A named tuple is no list: it is for *item* to refuse.
    """
    return drain(result, _Delivery(request, item).take, request)


class _Delivery:
    """Where what a callback gives is to go."""

    __slots__ = ("_item", "_request")

    def __init__(
        self, request: Callable[[Request], object], item: Callable[[Any], Awaitable[None]]
    ) -> None:
        self._request = request
        self._item = item

    def take(self, given: Any) -> Awaitable[None] | None:
        if isinstance(given, Request):
            self._request(given)
            return None
        if isinstance(given, list | tuple) and not hasattr(given, "_fields"):
            return self._take_all(given)
        if given is None or isinstance(given, str | bytes | int | float):
            raise TypeError(
                f"the callback yielded {given!r}: yield items, requests or lists of them"
            )
        return self._item(given)

    async def _take_all(self, given: Sequence[Any]) -> None:
        for place, one in enumerate(given, 1):
            if (taking := self.take(one)) is not None:
                await taking
            if place % BREATH == 0:
                await _breath()


async def each(result: Any) -> AsyncGenerator[Any, None]:
    """As `drain`, for a method that goes on after it: every value that a callback gives.

    `drain` is not made of it: one more generator around each value costs half as much again.
    """
    if inspect.isawaitable(result):
        result = await result
    if inspect.isasyncgen(result):
        async with aclosing(result) as values:
            async for value in values:
                yield value
    elif inspect.isgenerator(result):
        try:
            for value in result:
                yield value
        finally:
            result.close()
    elif result is not None:
        yield result
