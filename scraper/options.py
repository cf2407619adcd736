"""What a request carries besides its URL: as users write it, and as it is stored.

`RequestOptions` are the keywords of `Request`; `Options` is the one value they become, which most
requests of a crawl share.
"""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

from scraper import urls
from scraper.errors import UsageError
from scraper.items import json_value

if TYPE_CHECKING:
    from scraper.multipart import File, Files

__all__ = [
    "ANY_STATUS",
    "DEFAULTS",
    "REPEATABLE",
    "Callback",
    "Changes",
    "Form",
    "Options",
    "RequestOptions",
    "callback_name",
    "content_of",
    "default_header",
    "kept",
    "kept_json",
    "lower",
    "statuses",
    "stored",
    "without_credentials",
    "write_json",
]

Callback = Callable[..., Any] | str | None
"""A bound method of the spider, or its name. It is stored by name: a resume must find it."""

Form = Mapping[str, Any] | Sequence[tuple[str, Any]]
"""Fields by name, or pairs. Values: text, numbers, bytes; a list sends the name once for each
(none for `[]`); None leaves the field out."""

NOTHING: Mapping[str, Any] = MappingProxyType({})
ANY_STATUS = "*"


class RequestOptions(TypedDict, total=False):
    """The keywords of `Request`, for `follow`, `replace` and whatever else makes requests."""

    errback: Callback
    method: str | None
    headers: Mapping[str, str] | None
    cookies: Mapping[str, str] | None
    body: bytes | str | None
    json: Any
    form: Form | None
    files: Files | None
    priority: int
    unique: bool
    accept: Collection[int | str] | Literal["*"]
    repeatable: bool | None
    session: str | None
    proxy: str | None
    meta: Mapping[str, Any] | None
    kwargs: Mapping[str, Any] | None
    timeout: float | None
    secret: Collection[str]


class Changes(RequestOptions, total=False):
    """What `Request.replace` takes besides a URL. `trail` is for redirects, `into` for files."""

    callback: Callback
    trail: tuple[tuple[str, int], ...]
    into: tuple[str, int] | None


class Options(NamedTuple):
    """Everything about a request that is seldom said. See `Request` for the meanings.

    A tuple, because a link costs one: made in a third of the time that a frozen dataclass takes.
    `into`: the file that the body of a 2xx answer goes to, and how many bytes it may have.
    """

    errback: str | None = None
    method: str = "GET"
    headers: Mapping[str, str] = NOTHING
    cookies: Mapping[str, str] = NOTHING
    body: bytes = b""
    priority: int = 0
    unique: bool = True
    accept: frozenset[int | str] = frozenset()
    repeatable: bool = True
    session: str | None = None
    proxy: str | None = None
    meta: Mapping[str, Any] = NOTHING
    kwargs: Mapping[str, Any] = NOTHING
    timeout: float | None = None
    secret: frozenset[str] = frozenset()
    trail: tuple[tuple[str, int], ...] = ()
    into: tuple[str, int] | None = None


DEFAULTS = Options()
NAMES = frozenset(Options._fields)
REPEATABLE = frozenset({"GET", "HEAD"})
write_json = jsonlib.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def callback_name(callback: Callback) -> str | None:
    """The stored form of a callback. Raises `UsageError` for what has no name to be found by."""
    if callback is None or isinstance(callback, str):
        return callback
    name = getattr(callback, "__name__", "")
    if not name.isidentifier() or not hasattr(callback, "__self__"):
        raise UsageError(
            f"{callback!r} cannot be a callback: callbacks are stored by method name",
            hint="Write it as a method of the spider and pass self.that_method.",
        )
    return str(name)


_OF_THE_BODY = ("body", "json", "form", "files")


def stored(changes: Changes, options: Options) -> dict[str, Any]:
    """*changes* of *options*, as a user writes them, in the form in which `Options` holds them.

    None means the default, as in the constructor.
    """
    given: dict[str, Any] = dict(changes)
    if given.keys() & _OF_THE_BODY:
        _store_body(given, options)
    if given.keys() & {"method", "repeatable"}:
        _store_method(given, options)
    for name in given.keys() & _AS_STORED.keys():
        given[name] = _AS_STORED[name](given[name])
    if unknown := given.keys() - NAMES:
        raise TypeError(f"replace() got an unexpected keyword argument {min(unknown)!r}")
    return given


def restored(record: Mapping[str, Any]) -> Options:
    """The options in a stored request, as JSON has them. Raises `ValueError` for what are none."""
    options: dict[str, Any] = {}
    for name, value in record.items():
        kinds, read = _READ_BACK.get(name, ((), None))
        try:
            if isinstance(value, kinds):
                options[name] = value if read is None else read(value)
        except (ValueError, TypeError):
            pass
        if name not in options:
            raise ValueError(f"not a stored request: {name}")
    return Options(**options)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _fields(value: dict[str, Any]) -> Mapping[str, Any]:
    """What users gave as headers or cookies, which need not be text."""
    if not all(part is None or isinstance(part, str | int | float) for part in value.values()):
        raise TypeError("not a text")
    return MappingProxyType(value)


def _pair(value: Any) -> tuple[str, int]:
    text, number = value
    return _text(text), int(number)


# What each option is in JSON, and what is made of it.
_READ_BACK: Mapping[str, tuple[tuple[type, ...], Callable[[Any], Any] | None]] = MappingProxyType({
    **dict.fromkeys(("errback", "method", "session", "proxy"), ((str,), None)),
    **dict.fromkeys(("unique", "repeatable"), ((bool,), None)),
    **dict.fromkeys(("headers", "cookies"), ((dict,), _fields)),
    **dict.fromkeys(("meta", "kwargs"), ((dict,), MappingProxyType)),
    "priority": ((int,), None),
    "timeout": ((int, float), None),
    "body": ((str,), lambda text: text.encode("latin-1")),
    "accept": ((list,), frozenset),
    "secret": ((list,), lambda names: frozenset(map(_text, names))),
    "trail": ((list,), lambda hops: tuple(map(_pair, hops))),
    "into": ((list,), _pair),
})


def _store_body(given: dict[str, Any], options: Options) -> None:
    parts = {name: given.pop(name) for name in _OF_THE_BODY if name in given}
    if all(part is None for part in parts.values()):
        if "body" in parts:
            given["body"] = b""
        return
    given["body"], implied = content_of(**parts)
    if implied is None:
        return
    headers = given.get("headers")
    if headers is None:  # the old content type was that of the old body
        old = options.headers.items()
        headers = {name: value for name, value in old if name.lower() != "content-type"}
    given["headers"] = headers = dict(headers)
    default_header(headers, "Content-Type", implied)
    if options.method in REPEATABLE:
        given.setdefault("method", "POST")


def _store_method(given: dict[str, Any], options: Options) -> None:
    verb = options.method
    if "method" in given:
        given["method"] = verb = (given["method"] or "GET").upper()
        if options.repeatable == (options.method in REPEATABLE):  # nobody said otherwise
            given.setdefault("repeatable", None)
    if given.get("repeatable", True) is None:
        given["repeatable"] = verb in REPEATABLE


def content_of(
    body: Any = None, json: Any = None, form: Form | None = None, files: Files | None = None
) -> tuple[bytes, str | None]:
    """The body that was asked for, and the content type that it implies."""
    if (body is not None) + (json is not None) + (form is not None or files is not None) > 1:
        raise UsageError(
            "Request takes one of body, json and form, not several",
            hint="form and files may go together; they make one multipart body.",
        )
    if json is not None:
        return urls.scalar(write_json(json)).encode(), "application/json"
    if files is not None:
        from scraper.multipart import encode_multipart, files_of

        parts: list[tuple[str, str | bytes | File]] = [*_pairs(form or ()), *files_of(files)]
        return encode_multipart(parts)
    if form is not None:
        return urls.urlencoded(_pairs(form)).encode(), "application/x-www-form-urlencoded"
    if isinstance(body, str):
        return urls.scalar(body).encode(), None
    if not isinstance(body, bytes | bytearray):
        raise UsageError(
            f"a body is bytes or text, not {type(body).__name__}",
            hint="Write json=… or form=… for what shall be encoded.",
        )
    return bytes(body), None


def _pairs(form: Form) -> list[tuple[str, str | bytes]]:
    """The fields of *form* one by one, as text or bytes."""
    given: object = form  # callers' code is not always checked
    if isinstance(given, str | bytes):
        raise UsageError("form takes fields by name, or pairs", hint="Text goes into body=….")
    found: list[tuple[str, str | bytes]] = []
    for name, value in form.items() if isinstance(form, Mapping) else form:
        several = value if isinstance(value, list | tuple) else (value,)
        if isinstance(value, set | frozenset):  # in an order that is the same in every process
            several = sorted(value, key=str)
        texts = (v if isinstance(v, bytes) else str(v) for v in several if v is not None)
        found += ((str(name), text) for text in texts)
    return found


def without_credentials(
    url: str, headers: dict[str, str] | None
) -> tuple[str, dict[str, str] | None]:
    """*url* without `user:password@`, and the headers with the `Authorization` it stood for."""
    url, credentials = urls.without_credentials(url)
    if credentials is None:
        return url, headers
    return url, {**(headers or {}), "Authorization": credentials}


def kept(mapping: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """A copy that cannot be changed."""
    return MappingProxyType(dict(mapping)) if mapping else NOTHING


def kept_json(mapping: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """A copy of `meta` or `kwargs` as JSON values, taken now: what a resume will find.

    Raises `UsageError` naming the key whose value JSON cannot hold, and the `ItemInvalid` of an
    item that is none.
    """
    if not mapping:
        return NOTHING
    return MappingProxyType({
        key: value if value.__class__ in _PLAIN else _as_json(key, value)
        for key, value in mapping.items()
    })


_PLAIN = frozenset({str, int, float, bool, type(None)})


def _as_json(key: str, value: Any) -> Any:
    try:
        return json_value(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"Request: meta and kwargs must be JSON values, and {key!r} is not: {error}",
            hint="Pass items, dataclasses, strings, numbers, dates, and lists and dicts of these.",
        ) from None


def statuses(accept: Collection[int | str] | None) -> frozenset[int | str]:
    """What `accept` admits: a set of statuses, or of `"*"`."""
    if not accept:
        return DEFAULTS.accept
    return frozenset([ANY_STATUS] if accept == ANY_STATUS else accept)


def lower(names: Collection[str] | None) -> frozenset[str]:
    """Names of header fields, as they are compared."""
    if not names:
        return DEFAULTS.secret
    return frozenset(name.lower() for name in names)


def default_header(headers: dict[str, str], name: str, value: str) -> None:
    """Set a field that is not there yet."""
    if not any(key.lower() == name.lower() for key in headers):
        headers[name] = value


_AS_STORED: Mapping[str, Callable[[Any], Any]] = MappingProxyType({
    "errback": callback_name,
    "headers": kept,
    "cookies": kept,
    "accept": statuses,
    "meta": kept_json,
    "kwargs": kept_json,
    "secret": lower,
})
