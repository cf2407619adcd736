"""Spider: the class that users derive from, and the reading of its arguments.

An annotated class attribute is a spider argument; what a crawl knows beyond its arguments it
learns in `setup`, which runs in every process, because attributes set while crawling die with it.
"""

from __future__ import annotations

import json
import logging
import typing
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, TypeAlias, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    create_model,
)
from pydantic.errors import PydanticSchemaGenerationError

from scraper.errors import FetchError, SpiderError
from scraper.http import Request, Response
from scraper.mistakes import shown
from scraper.protocols import Fetch, Middleware

__all__ = ["Output", "Spider", "Yielded"]


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


Yielded: TypeAlias = BaseModel | Mapping[str, Any] | Request | _Dataclass | Sequence["Yielded"]
"""What a callback may yield: items of any kind, requests, and lists of them."""

Output: TypeAlias = AsyncIterator[Yielded]
"""The return type of a callback that is an async generator: `async def` with `yield`.

A plain generator is annotated `Iterator[Yielded]`, a coroutine that returns a list
`list[Yielded]` (or just `None`).
"""


ELSEWHERE = MappingProxyType({
    "custom_settings": 'Write settings = {"crawl": {"max_depth": 5}}, by section.',
    "handle_httpstatus_list": "Write accept = [404].",
    "start_requests": "Write async def start(self), which yields the first requests.",
    "download_delay": 'Write settings = {"politeness": {"delay": 1.0}}.',
})
"""What spiders of other frameworks have under names that would be ignored here."""


class Spider:
    """A site's crawl: where it starts, and what each kind of page means.

    Class attributes: `name` (as in `scrape run NAME`), `start_urls`, `allowed_domains` (hosts that
    links may lead to; empty: `crawl.scope` decides), `accept` (statuses besides 2xx that reach
    callbacks), `settings` (defaults for this spider, by section; laid key by key over those of the
    classes it derives from), `middleware` (wraps around every fetch, outermost first), `version`
    (kept with the job).

    Any other annotated attribute is an argument of the spider: `-a name=value`, validated by its
    type; without a default it is required.
    """

    name: ClassVar[str] = ""
    start_urls: ClassVar[Sequence[str]] = ()
    allowed_domains: ClassVar[Sequence[str]] = ()
    accept: ClassVar[Collection[int | str]] = ()
    settings: ClassVar[Mapping[str, Any]] = {}
    middleware: ClassVar[Sequence[Middleware]] = ()
    version: ClassVar[str] = ""

    _fetch: Fetch | None = None
    _arguments: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ELSEWHERE.keys() & cls.__dict__.keys():
            raise SpiderError(
                f"spider class {cls.__name__}: {name} means nothing here", hint=ELSEWHERE[name]
            )

    def __init__(self, **arguments: Any) -> None:
        self._arguments = validate_arguments(type(self), arguments)
        for name, value in self._arguments.items():
            setattr(self, name, value)

    @property
    def log(self) -> logging.Logger:
        """This spider's logger."""
        return logging.getLogger(f"scraper.spider.{self.name or type(self).__name__}")

    async def fetch(self, request: Request | str) -> Response:
        """Fetch now, from inside a callback, `setup` or `start`.

        Passes the same robots, politeness and middleware as every request, is not deduplicated,
        follows redirects, and returns a response of any status. Raises `FetchError`; among them
        `Throttled` when the host stays quiet longer than `crawl.fetch_wait`.
        """
        if self._fetch is None:
            raise FetchError("cancelled", detail="self.fetch works only while the crawl runs")
        return await self._fetch(Request(request) if isinstance(request, str) else request)

    async def setup(self) -> None:
        """Runs at every process start, a resume included, before any page. May fetch (log in)."""

    async def start(self) -> AsyncIterator[Request]:
        """Yield the first requests. Pulled lazily; runs again from its top after a crash."""
        for url in self.start_urls:
            yield Request(url)

    async def closed(self, reason: str) -> None:
        """Runs at the end: `finished`, `limit`, `stopped` or `failed`."""

    def __repr__(self) -> str:
        given = ", ".join(f"{k}={v!r}" for k, v in self._arguments.items())
        return f"<{type(self).__name__} {given}>" if given else f"<{type(self).__name__}>"


def own_settings(spider: type[Spider]) -> Any:
    """What the class itself sets as `settings`; None when it only inherits some."""
    return vars(spider).get("settings")


def inherited_settings(spider: type[Spider]) -> list[tuple[str, Any]]:
    """The `settings` of the classes that *spider* derives from, labelled, the furthest first."""
    return [
        (f"spider class {base.__name__}", vars(base)["settings"])
        for base in reversed(spider.__mro__[1:])
        if "settings" in vars(base) and base is not Spider
    ]


def arguments_model(spider: type[Spider]) -> type[BaseModel]:
    """The model of a spider's arguments. Raises `SpiderError` for a type it cannot check."""
    try:
        hints = get_type_hints(spider, include_extras=True)
    except Exception as error:
        raise SpiderError(
            f"spider {spider.__name__}: its annotations cannot be read: {error}",
            hint="Import the names at module level, not only for type checking.",
        ) from error
    own = Spider.__dict__.keys() | Spider.__annotations__.keys()
    fields: dict[str, Any] = {}
    for name, hint in hints.items():
        if name.startswith("_") or name in own or get_origin(hint) is ClassVar or hint is ClassVar:
            continue
        fields[name] = (hint, getattr(spider, name, ...))
        try:
            TypeAdapter(hint)
        except (PydanticSchemaGenerationError, PydanticUserError):
            shown = getattr(hint, "__name__", hint)
            raise SpiderError(
                f"spider {spider.__name__}: {name}: {shown} cannot be a spider argument",
                hint=f"If it is not meant to be one, write {name}: ClassVar[{shown}].",
            ) from None
    return create_model(
        f"{spider.__name__}Arguments",
        __config__=ConfigDict(extra="forbid", protected_namespaces=()),
        **fields,
    )


def validate_arguments(spider: type[Spider], given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of all arguments, defaults included. Raises `SpiderError` naming the argument.

    Text (from a command line) is also tried as JSON, so that `-a pages=[1,2]` means a list.
    """
    model = arguments_model(spider)
    for name in given:
        if name not in model.model_fields:
            raise SpiderError(
                f"spider {spider.name or spider.__name__} has no argument {name!r}",
                hint=_known(model, name),
            )
    try:
        made = model.model_validate(dict(given))
    except ValidationError as first:
        made = _as_json(spider, model, dict(given), first)
    return {name: getattr(made, name) for name in model.model_fields}


def _as_json(
    spider: type[Spider], model: type[BaseModel], given: dict[str, Any], first: ValidationError
) -> BaseModel:
    for error in first.errors():
        name = str(error["loc"][0])
        if isinstance(given.get(name), str):
            try:
                given[name] = json.loads(given[name])
            except (ValueError, RecursionError):
                continue
    try:
        return model.model_validate(given)
    except ValidationError:
        error = first.errors()[0]
        name = ".".join(str(part) for part in error["loc"])
        if error["type"] == "missing":
            message, hint = f"needs the argument {name}", f"Add -a {name}=VALUE."
        else:
            message, hint = f"argument {name}={shown(error['input'], name)}: {error['msg']}", ""
        raise SpiderError(
            f"spider {spider.name or spider.__name__}: {message}", hint=hint
        ) from None


def _known(model: type[BaseModel], name: str) -> str:
    import difflib

    if not model.model_fields:
        return "It takes no arguments."
    near = difflib.get_close_matches(name, model.model_fields, 1)
    listed = ", ".join(model.model_fields)
    return f"Did you mean {near[0]}? It takes: {listed}." if near else f"It takes: {listed}."


def stored_arguments(spider: Spider) -> dict[str, Any]:
    """The arguments as JSON values, as the job keeps them."""
    adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
    return typing.cast("dict[str, Any]", adapter.dump_python(spider._arguments, mode="json"))
