"""Request: an immutable value that says what to fetch and who gets the page.

It is small on purpose: a documentation page yields a hundred of them, and most lead to pages
already seen, so whatever is not the URL or the callback lives in one shared `Options` value.
"""

from __future__ import annotations

import json as jsonlib
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from scraper import urls
from scraper.errors import UsageError
from scraper.options import (
    ANY_STATUS,
    DEFAULTS,
    REPEATABLE,
    Callback,
    Form,
    Options,
    RequestOptions,
    callback_name,
    content_of,
    default_header,
    kept,
    kept_json,
    lower,
    restored,
    statuses,
    stored,
    without_credentials,
    write_json,
)

if TYPE_CHECKING:
    from typing import Self, Unpack

    from scraper.multipart import Files
    from scraper.options import Changes

__all__ = [
    "ANY_STATUS",
    "DEFAULTS",
    "Callback",
    "Headers",
    "Options",
    "Request",
    "RequestOptions",
    "callback_name",
    "unknown",
    "unusual",
]


T = TypeVar("T")

MAX_STORED = 256 * 1024 * 1024
"""Bytes of a stored request, at most: 16 MiB of files, however they are escaped, and much more."""


class Headers(Mapping[str, str]):
    """Header fields, looked up without regard to case (RFC 9110, section 5.1).

    Keeps the order and repetitions of the wire; `h["Name"]` joins repeated fields with a comma,
    `h.getall("Set-Cookie")` keeps them apart. The lookup table is built at first use.
    """

    __slots__ = ("_raw", "_table", "_wire")

    def __init__(self, raw: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        self._raw: tuple[tuple[str, str], ...] | None = tuple(
            raw.items() if isinstance(raw, Mapping) else raw
        )
        self._wire: tuple[tuple[bytes, bytes], ...] = ()
        self._table: dict[str, str | bytes] | None = None

    @classmethod
    def of_wire(cls, fields: tuple[tuple[bytes, bytes], ...]) -> Self:
        """The fields of an answer, decoded when somebody asks for one.

        Isomorphic, as the Fetch Standard reads header values: nothing is lost, nothing fails.
        """
        headers = cls.__new__(cls)
        headers._raw = headers._table = None
        headers._wire = fields
        return headers

    def _lookup(self) -> dict[str, str | bytes]:
        if self._table is None:
            self._table = (
                {_lower(name): value for name, value in self._wire}
                if self._raw is None
                else {name.lower(): value for name, value in self._raw}
            )
            if len(self._table) < len(self._raw or self._wire):  # some stand there more than once
                self._table = _joined(self.items_raw())
        return self._table

    def __getitem__(self, name: str) -> str:
        return _text(self._lookup()[name.lower()])

    @overload
    def get(self, name: str, default: None = None, /) -> str | None: ...

    @overload
    def get(self, name: str, default: str | T, /) -> str | T: ...

    def get(self, name: str, default: Any = None, /) -> Any:
        """The value of *name*, *default* when it is absent."""
        value = self._lookup().get(name.lower())
        return default if value is None else _text(value)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._lookup()

    def __iter__(self) -> Iterator[str]:
        return iter(self._lookup())

    def __len__(self) -> int:
        return len(self._lookup())

    def getall(self, name: str) -> list[str]:
        """Every value of *name*, in order; [] when it is absent."""
        key = name.lower()
        if key not in self._lookup():
            return []
        return [value for field, value in self.items_raw() if field.lower() == key]

    def items_raw(self) -> tuple[tuple[str, str], ...]:
        """The fields as they came."""
        if self._raw is None:
            self._raw = tuple([(_text(name), _text(value)) for name, value in self._wire])
        return self._raw

    def __repr__(self) -> str:
        return f"Headers({dict(self.items_raw())!r})"


def _text(wire: str | bytes) -> str:
    return wire if isinstance(wire, str) else wire.decode("latin-1")


@lru_cache(maxsize=1024)
def _lower(name: bytes) -> str:
    return name.decode("latin-1").lower()


def _joined(fields: Iterable[tuple[str, str]]) -> dict[str, str | bytes]:
    """The values by name, those of one name joined as RFC 9110, section 5.3, has it."""
    apart: dict[str, list[str]] = {}
    for name, value in fields:
        apart.setdefault(name.lower(), []).append(value)
    return {name: ", ".join(values) for name, values in apart.items()}


class Request:
    """What to fetch, and which method of the spider receives the page.

    `url`: absolute; kept in WHATWG form, a `user:password@` in it becomes `Authorization`.
    `callback`: a bound method or its name; None means `parse` (and, through `Response.follow`,
    the callback that is running). `errback` gets a `Failure` when the request finally fails.

    `body`, `json`, `form`, `files`: at most one, but `form` and `files` go together; all but
    `body` set the content type and make the method POST. `files` makes the body
    multipart/form-data: `{"photo": path}`, bytes, `("name.jpg", path or bytes)` or
    `("name.jpg", bytes, "image/jpeg")`. Files are read here and now, and kept with the request;
    16 MiB in all is the limit.

    `priority`: higher goes first within a host. `unique=False` fetches even what was fetched
    before. `accept`: statuses besides 2xx that reach the callback (`"*"`: all). `repeatable`: may
    be sent again after a crash (default: GET and HEAD). `session`: the name of a cookie jar; jars
    share nothing, but the memory of what was fetched is one: a page that several sessions shall
    see says `unique=False`. `meta`, `kwargs`: JSON values, and items, dates and the like as JSON
    has them; kwargs go to the callback, as the types that it declares. `timeout`: seconds for the
    whole exchange. `secret`: names of headers that must not follow a redirect to another origin,
    nor show in any message (`Authorization`, `Cookie` and what sounds like them never do).

    Raises `UsageError` for bodies that exclude each other, files that cannot be read, and
    callbacks without a name. A URL that is none makes a request that ends `url_invalid`.
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
        form: Form | None = None,
        files: Files | None = None,
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
        verb = "GET" if method is None else method.upper()
        sent = dict(headers) if headers else None
        content = b""
        if body is not None or json is not None or form is not None or files is not None:
            content, implied = content_of(body, json, form, files)
            if implied is not None:
                sent = {} if sent is None else sent
                default_header(sent, "Content-Type", implied)
                verb = "POST" if method is None else verb
        if "@" in url:
            url, sent = without_credentials(url, sent)
        self._url = urls.parse(url) or url  # what does not parse ends as url_invalid
        self._callback = callback_name(callback)
        self._fingerprint = None
        self._options = Options(  # by position: a fifth of the time that names take
            None if errback is None else callback_name(errback),
            verb,
            kept(sent),
            kept(cookies),
            content,
            priority,
            unique,
            statuses(accept),
            verb in REPEATABLE if repeatable is None else repeatable,
            session,
            proxy,
            kept_json(meta),
            kept_json(kwargs),
            timeout,
            lower(secret),
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

    @classmethod
    def from_curl(
        cls,
        command: str,
        callback: Callback = None,
        *,
        ignore: bool = False,
        **overrides: Unpack[RequestOptions],
    ) -> Self:
        """The request that a curl command makes, as browsers copy it ("Copy as cURL").

        Understands the quoting of POSIX shells and of Windows' `cmd`; paste into a raw string.
        *overrides*: keywords of `Request` that replace what the command says; a body replaces its
        body. What the downloader says itself (`Host`, `Content-Length`, `Accept-Encoding`) and
        what asks for half an answer (`If-None-Match`, `If-Modified-Since`) is left out; headers
        that sound like credentials do not follow a redirect to another origin.

        Raises `UsageError` for what is no curl command, for an option that is not known (with
        *ignore*, it is passed over), for what a shell would replace (`$NAME`), and for data from
        a file (`-d @name`), which a pasted text may not read.
        """
        from scraper.curl import parse_curl

        url, options = parse_curl(command, ignore=ignore)
        if overrides.keys() & {"body", "json", "form", "files"} and options.pop("body", None):
            said = options.get("headers") or {}
            options["headers"] = {n: v for n, v in said.items() if n.lower() != "content-type"}
        options.update(overrides)
        return cls(url, callback, **options)

    if TYPE_CHECKING:  # properties, made below

        @property
        def url(self) -> str: ...
        @property
        def callback(self) -> str | None: ...
        @property
        def options(self) -> Options: ...

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
        into: tuple[str, int] | None

    @property
    def plain(self) -> bool:
        """Whether it is no more than a URL and a callback, as `Response.follow` makes them."""
        return self._options is DEFAULTS and self.__class__ is Request

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

    def replace(self, url: str | None = None, **changes: Unpack[Changes]) -> Request:
        """A copy with other values: of the keywords of `Request`, with the same meanings.

        A new `json`, `form` or `files` replaces the body and its content type, and turns GET into
        POST; another `method` is repeatable by its own default. A new `url` starts a new trail of
        redirects. *headers*, *meta* and the other mappings replace the old ones as a whole:
        `request.replace(meta={**request.meta, "page": 2})` adds to them.
        """
        callback = changes.pop("callback", self._callback)
        options = self._options
        if url is None:
            url = self._url
        else:
            changes.setdefault("trail", ())
            if "@" in url:
                headers = changes.get("headers", options.headers)
                url, changes["headers"] = without_credentials(url, dict(headers or {}))
            url = urls.parse(url) or url
        if changes:
            options = options._replace(**stored(changes, options))
        return Request.of(url, callback_name(callback), options)

    def dump(self) -> bytes:
        """The stored form: JSON of what differs from the defaults. See `load`."""
        if self._options is DEFAULTS:  # the same in a third of the time
            callback = self._callback
            tail = "}" if callback is None else f',"callback":{write_json(callback)}}}'
            return f'{{"url":{write_json(self._url)}{tail}'.encode("utf-8", "surrogatepass")
        record: dict[str, Any] = {"url": self._url}
        if self._callback is not None:
            record["callback"] = self._callback
        for name, value, default in zip(Options._fields, self._options, DEFAULTS, strict=True):
            if value is not default and value != default:
                record[name] = _storable(value)
        try:
            return write_json(record).encode("utf-8", "surrogatepass")
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"request for {self._url}: meta and kwargs must be JSON values ({error})",
                hint="Pass strings, numbers, booleans, lists and dicts; they survive a resume.",
            ) from None

    @classmethod
    def load(cls, data: bytes) -> Self:
        """The request that `dump` stored. Raises `ValueError` for anything else."""
        if len(data) > MAX_STORED:
            raise ValueError(f"not a stored request: {len(data):,} bytes")
        try:
            record = jsonlib.loads(str(data, "utf-8", "surrogatepass"))
        except RecursionError:
            raise ValueError("not a stored request: nested too deep") from None
        if not isinstance(record, dict) or not isinstance(record.get("url"), str):
            raise ValueError("not a stored request")
        url, callback = record.pop("url"), record.pop("callback", None)
        if not isinstance(callback, str | None):
            raise ValueError("not a stored request: callback")
        return cls.of(url, callback, restored(record)) if record else cls.of(url, callback)

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


for _name in ("url", "callback", "options"):  # read in C: a link is asked for each several times
    setattr(Request, _name, property(attrgetter(f"_{_name}")))
for _name in Options._fields:
    setattr(Request, _name, property(attrgetter(f"_options.{_name}")))


def unknown(requests: Iterable[Request], known: Container[int | None]) -> list[Request]:
    """*requests* without those that are `unique` and have a fingerprint among the *known*.

    By the fingerprints that were made already: what a crawl knows, it was asked for before.
    """
    return [r for r in requests if r._fingerprint not in known or not r._options.unique]


def unusual(requests: Iterable[Request], callbacks: Container[str | None]) -> list[Request]:
    """Those of *requests* that say more than a URL and one of the *callbacks*."""
    return [r for r in requests if r._options is not DEFAULTS or r._callback not in callbacks]


def _storable(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")  # bytes to code points one to one: JSON has no bytes
    if isinstance(value, frozenset):
        return sorted(value, key=str)
    if isinstance(value, Mapping):
        return dict(value)
    return value
