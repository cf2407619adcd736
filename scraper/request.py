"""Request: an immutable value that says what to fetch and who gets the page.

It is small on purpose: a documentation page yields a hundred of them, and most lead to pages
already seen, so whatever is not the URL or the callback lives in one shared `Options` value.
"""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

from scraper import urls
from scraper.errors import UsageError

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "ANY_STATUS",
    "DEFAULTS",
    "Callback",
    "Headers",
    "Options",
    "Request",
    "callback_name",
]

Callback = Callable[..., Any] | str | None
"""A bound method of the spider, or its name. It is stored by name: a resume must find it."""

NOTHING: Mapping[str, Any] = MappingProxyType({})
ANY_STATUS = "*"


def _nothing() -> Mapping[str, Any]:
    return NOTHING  # Python 3.11 takes a mapping proxy for a mutable default


class Headers(Mapping[str, str]):
    """Header fields, looked up without regard to case (RFC 9110, section 5.1).

    Keeps the order and repetitions of the wire; `h["Name"]` joins repeated fields with a comma,
    `h.getall("Set-Cookie")` keeps them apart. The lookup table is built at first use.
    """

    __slots__ = ("_raw", "_table")

    def __init__(self, raw: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        self._raw: tuple[tuple[str, str], ...] = tuple(
            raw.items() if isinstance(raw, Mapping) else raw
        )
        self._table: dict[str, list[str]] | None = None

    def _lookup(self) -> dict[str, list[str]]:
        if self._table is None:
            self._table = {}
            for name, value in self._raw:
                self._table.setdefault(name.lower(), []).append(value)
        return self._table

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._lookup()[name.lower()])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._lookup()

    def __iter__(self) -> Iterator[str]:
        return iter(self._lookup())

    def __len__(self) -> int:
        return len(self._lookup())

    def getall(self, name: str) -> list[str]:
        """Every value of *name*, in order; [] when it is absent."""
        return list(self._lookup().get(name.lower(), ()))

    def items_raw(self) -> tuple[tuple[str, str], ...]:
        """The fields as they came."""
        return self._raw

    def __repr__(self) -> str:
        return f"Headers({dict(self._raw)!r})"


@dataclass(frozen=True, slots=True)
class Options:
    """Everything about a request that is seldom said. See `Request` for the meanings."""

    errback: str | None = None
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=_nothing)
    cookies: Mapping[str, str] = field(default_factory=_nothing)
    body: bytes = b""
    priority: int = 0
    unique: bool = True
    accept: frozenset[int | str] = frozenset()
    repeatable: bool = True
    session: str | None = None
    proxy: str | None = None
    meta: Mapping[str, Any] = field(default_factory=_nothing)
    kwargs: Mapping[str, Any] = field(default_factory=_nothing)
    timeout: float | None = None
    secret: frozenset[str] = frozenset()
    trail: tuple[tuple[str, int], ...] = ()


DEFAULTS = Options()
_DEFAULT_VALUES = {f.name: getattr(DEFAULTS, f.name) for f in fields(Options)}


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


class Request:
    """What to fetch, and which method of the spider receives the page.

    `url`: absolute; kept in WHATWG form. `callback`: a bound method or its name; None means
    `parse` (and, through `Response.follow`, the callback that is running). `errback` gets a
    `Failure` when the request finally fails. `json`/`form`/`body`: at most one; the first two
    set the content type and make the method POST. `priority`: higher goes first within a host.
    `unique=False` fetches even what was fetched before. `accept`: statuses besides 2xx that reach
    the callback (`"*"`: all). `repeatable`: may be sent again after a crash (default: GET and
    HEAD). `session`: name of a cookie jar. `meta`, `kwargs`: JSON values; kwargs go to the
    callback. `timeout`: seconds for the whole exchange. `secret`: names of headers that must not
    follow a redirect to another origin.
    """

    __slots__ = ("_callback", "_fingerprint", "_options", "_url")

    _url: str
    _callback: str | None
    _options: Options
    _fingerprint: int | None

    def __init__(
        self,
        url: str,
        callback: Callback = None,
        *,
        errback: Callback = None,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        json: Any = None,
        form: Mapping[str, Any] | Sequence[tuple[str, Any]] | None = None,
        priority: int = 0,
        unique: bool = True,
        accept: Collection[int | str] | Literal["*"] = (),
        repeatable: bool | None = None,
        session: str | None = None,
        proxy: str | None = None,
        meta: Mapping[str, Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        secret: Collection[str] = (),
    ) -> None:
        if sum(x is not None for x in (body, json, form)) > 1:
            raise UsageError("Request takes one of body, json and form, not several")
        sent = dict(headers or {})
        if json is not None:
            body = jsonlib.dumps(json, ensure_ascii=False, separators=(",", ":"))
            _default_header(sent, "Content-Type", "application/json")
        elif form is not None:
            pairs = form.items() if isinstance(form, Mapping) else form
            body = urlencode(list(pairs), doseq=True, errors="replace")
            _default_header(sent, "Content-Type", "application/x-www-form-urlencoded")
        if isinstance(body, str):
            body = urls.scalar(body).encode()
        verb = (method or ("GET" if json is None and form is None else "POST")).upper()
        clean, credentials = urls.without_credentials(url)
        if credentials is not None:
            sent["Authorization"] = credentials
        self._url = urls.parse(clean) or clean  # what does not parse ends as url_invalid
        self._callback = callback_name(callback)
        self._fingerprint = None
        self._options = Options(
            errback=callback_name(errback),
            method=verb,
            headers=MappingProxyType(sent) if sent else NOTHING,
            cookies=MappingProxyType(dict(cookies)) if cookies else NOTHING,
            body=body or b"",
            priority=priority,
            unique=unique,
            accept=frozenset([ANY_STATUS] if accept == ANY_STATUS else accept),
            repeatable=verb in ("GET", "HEAD") if repeatable is None else repeatable,
            session=session,
            proxy=proxy,
            meta=MappingProxyType(dict(meta)) if meta else NOTHING,
            kwargs=MappingProxyType(dict(kwargs)) if kwargs else NOTHING,
            timeout=timeout,
            secret=frozenset(name.lower() for name in secret),
        )

    @classmethod
    def of(cls, url: str, callback: str | None, options: Options = DEFAULTS) -> Self:
        """A request from parts that are known to be clean: the fast way, for `follow`."""
        request = object.__new__(cls)
        request._url = url
        request._callback = callback
        request._options = options
        request._fingerprint = None
        return request

    # What is read often has a property of its own; the rest reads through to the options.
    @property
    def url(self) -> str:
        return self._url

    @property
    def callback(self) -> str | None:
        return self._callback

    @property
    def options(self) -> Options:
        return self._options

    if TYPE_CHECKING:
        errback: str | None
        method: str
        headers: Mapping[str, str]
        cookies: Mapping[str, str]
        body: bytes
        priority: int
        unique: bool
        accept: frozenset[int | str]
        repeatable: bool
        session: str | None
        proxy: str | None
        meta: Mapping[str, Any]
        kwargs: Mapping[str, Any]
        timeout: float | None
        secret: frozenset[str]
        trail: tuple[tuple[str, int], ...]
    else:

        def __getattr__(self, name: str) -> Any:
            if name in _DEFAULT_VALUES:
                return getattr(self._options, name)
            raise AttributeError(f"Request has no attribute {name!r}")

    @property
    def fingerprint(self) -> int:
        """64 bits that identify the request: method, canonical URL, body."""
        if self._fingerprint is None:
            o = self._options
            self._fingerprint = urls.fingerprint(o.method, urls.canonical(self._url), o.body)
        return self._fingerprint

    @property
    def history(self) -> tuple[str, ...]:
        """The URLs that redirected to this one, oldest first."""
        return tuple(url for url, _ in self._options.trail)

    def replace(self, url: str | None = None, **changes: Any) -> Request:
        """A copy with another URL, callback, or options (their stored names, see `Options`)."""
        callback = changes.pop("callback", self._callback)
        options = replace(self._options, **changes) if changes else self._options
        new = self._url if url is None else (urls.parse(url) or url)
        return Request.of(new, callback_name(callback), options)

    def dump(self) -> bytes:
        """The stored form: JSON of what differs from the defaults. See `load`."""
        record: dict[str, Any] = {"url": self._url}
        if self._callback is not None:
            record["callback"] = self._callback
        if self._options is not DEFAULTS:
            for name, default in _DEFAULT_VALUES.items():
                value = getattr(self._options, name)
                if value != default:
                    record[name] = _storable(value)
        try:
            return jsonlib.dumps(record, ensure_ascii=False, separators=(",", ":")).encode(
                "utf-8", "surrogatepass"
            )
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"request for {self._url}: meta and kwargs must be JSON values ({error})",
                hint="Pass strings, numbers, booleans, lists and dicts; they survive a resume.",
            ) from None

    @classmethod
    def load(cls, data: bytes) -> Self:
        """The request that `dump` stored. Raises `ValueError` for anything else."""
        record = jsonlib.loads(data)
        if not isinstance(record, dict) or not isinstance(record.get("url"), str):
            raise ValueError("not a stored request")
        url, callback = record.pop("url"), record.pop("callback", None)
        if not record:
            return cls.of(url, callback)
        if unknown := record.keys() - _DEFAULT_VALUES.keys():
            raise ValueError(f"not a stored request: {sorted(unknown)}")
        if "body" in record:
            record["body"] = record["body"].encode("latin-1")
        for name in ("accept", "secret"):
            if name in record:
                record[name] = frozenset(record[name])
        for name in ("headers", "cookies", "meta", "kwargs"):
            if name in record:
                record[name] = MappingProxyType(record[name])
        if "trail" in record:
            record["trail"] = tuple((url, int(fp)) for url, fp in record["trail"])
        return cls.of(url, callback, Options(**record))

    def __repr__(self) -> str:
        verb = "" if self._options.method == "GET" else f"{self._options.method} "
        to = f" → {self._callback}" if self._callback else ""
        return f"<Request {verb}{self._url}{to}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Request):
            return NotImplemented
        return (self._url, self._callback, self._options) == (
            other._url,
            other._callback,
            other._options,
        )

    def __hash__(self) -> int:
        return hash((self._url, self._callback, self._options.method))


def _default_header(headers: dict[str, str], name: str, value: str) -> None:
    if not any(key.lower() == name.lower() for key in headers):
        headers[name] = value


def _storable(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")  # bytes to code points one to one: JSON has no bytes
    if isinstance(value, frozenset):
        return sorted(value, key=str)
    if isinstance(value, Mapping):
        return dict(value)
    return value
