"""Request and Response: immutable values, the words in which everything else speaks.

A `Request` says what to fetch and which method of the spider gets the page. It is small on
purpose: a documentation page yields a hundred of them, and most lead to pages already seen, so
whatever is not the URL or the callback lives in one shared `Options` value. A `Response` does
nothing until asked: no decoding, no parsing, no header table.
"""

from __future__ import annotations

import json as jsonlib
from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

from scraper import encoding as encodings
from scraper import guard, items, urls
from scraper.errors import ExtractionError, UsageError
from scraper.items import M
from scraper.links import Filter, Memo, base_url, find_links
from scraper.select import Document, Selector, SelectorList

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Callback", "Failure", "Headers", "Options", "Request", "Response"]

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
            body = urlencode(list(pairs), doseq=True)
            _default_header(sent, "Content-Type", "application/x-www-form-urlencoded")
        if isinstance(body, str):
            body = body.encode()
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


@dataclass(frozen=True, slots=True)
class Failure:
    """What an errback receives: the request, its reason code, and the response if there was one."""

    request: Request
    reason: str
    response: Response | None = None
    detail: str = field(default="", compare=False)


class Response:
    """A fetched page. Nothing is decoded or parsed until asked for.

    `url`: where the body came from (after redirects); `history`: the URLs that led there;
    `body`: bytes, content codings removed; `elapsed`: seconds from send to the body's end.
    `memo`: what the crawl remembers of links. `checked`: a probe has seen the body parse within
    limits, so that the guard against costly pages is not asked.
    """

    def __init__(
        self,
        url: str,
        status: int = 200,
        headers: Headers | Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        request: Request | None = None,
        *,
        elapsed: float = 0.0,
        memo: Memo | None = None,
    ) -> None:
        self.url = url
        self.status = status
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        self.body = body
        self.request = request if request is not None else Request(url)
        self.elapsed = elapsed
        self.memo = memo
        self.checked = False

    @property
    def history(self) -> tuple[str, ...]:
        """The URLs that redirected here, oldest first."""
        return self.request.history

    @property
    def meta(self) -> Mapping[str, Any]:
        """The request's `meta`."""
        return self.request.meta

    # The body, read -----------------------------------------------------------------------------

    @cached_property
    def encoding(self) -> str:
        """The body's encoding, a name of the WHATWG Encoding Standard in lower case."""
        return encodings.detect(self.body, self.headers.get("content-type", ""))

    @cached_property
    def text(self) -> str:
        """The body decoded; invalid bytes are U+FFFD, so that it can always be written as UTF-8."""
        return encodings.decode(self.body, self.encoding)

    def json(self) -> Any:
        """The body as JSON. Raises `ExtractionError("not_json")`."""
        try:
            return jsonlib.loads(self.text)
        except (ValueError, RecursionError) as error:
            raise ExtractionError(
                "not_json",
                f"{urls.redact(self.url)} is not JSON: {error}",
                hint="Look at response.text: the server may have sent a page instead.",
            ) from None

    @property
    def is_html(self) -> bool:
        """Whether `css` and `links` will take the body for markup."""
        try:
            guard.require_html(self.body, self.headers.get("content-type", ""), "")
        except ExtractionError:
            return False
        return True

    @cached_property
    def document(self) -> Document:
        """The parsed page. Raises `ExtractionError` (`not_html`, `parse_limit`)."""
        guard.require_html(self.body, self.headers.get("content-type", ""), urls.redact(self.url))
        if self.encoding == encodings.UTF_8:  # lexbor speaks UTF-8: no need to decode first
            return Document(self.body.removeprefix(BOM_UTF8), checked=self.checked)
        return Document(self.text.encode(), checked=self.checked)

    def css(self, selector: str) -> SelectorList:
        """What matches a CSS selector; `::text` and `::attr(name)` take strings."""
        return self.document.css(selector)

    def extract(self, model: type[M], css: str | None = None) -> M:
        """A *model* filled from the page, or from the first match of *css*.

        When the values do not fit, an `Invalid` comes instead: yield it all the same, it goes to
        the rejected file. Reading its fields raises `ItemInvalid`.
        """
        root: Selector = self.document
        if css is not None:
            root = next(iter(self.css(css)), NO_MATCH)
        return items.extract(model, root, self.url, self.base_url)

    def extract_all(self, model: type[M], css: str) -> list[M]:
        """A *model* for every match of *css*; see `extract`."""
        return items.extract_all(model, self.css(css), self.url, self.base_url)

    # Links --------------------------------------------------------------------------------------

    @cached_property
    def base_url(self) -> str:
        """What relative URLs are relative to: `<base href>`, else the page's own URL."""
        return base_url(self.document, self.url) if self.is_html else self.url

    @cached_property
    def _resolver(self) -> urls.Resolver:
        base = self.base_url
        return urls.Resolver(base, None if self.memo is None else self.memo.known(base))

    def urljoin(self, url: str) -> str:
        """*url* made absolute, as a browser would; what cannot be is returned as it is."""
        return urls.parse(url, self.base_url) or url

    def links(
        self, css: str | None = None, *, allow: Filter = None, deny: Filter = None
    ) -> list[str]:
        """The page's links: absolute http(s) URLs, each once, without fragments.

        *css*: only these elements (or the links inside them). *allow*, *deny*: regular expressions
        searched in the URL.
        """
        return find_links(self.document, self._resolver, css, allow=allow, deny=deny)

    def follow(
        self, url: str | Selector | SelectorList, callback: Callback = None, **options: Any
    ) -> Request:
        """A request for *url* (relative to the page) or for the link that a selector found.

        Without a callback, the one that is running gets that page too. The session is kept.
        *options* are those of `Request`. An invalid URL makes a request that ends `url_invalid`.
        """
        if not options:
            try:
                return self._followed[callback][url]  # type: ignore[index]  # a selector is not in it
            except (KeyError, TypeError):
                pass
        if not isinstance(url, str):
            url = _link_of(url)
        name = self.request.callback if callback is None else callback_name(callback)
        session = self.request.session
        if options:
            return Request(self._absolute(url), name, **{"session": session, **options})
        request = self._plain_request(url, name, session)
        known = self._followed.setdefault(callback, self._known_requests(name, session))
        if urls.is_web(url):  # a relative one means another page elsewhere
            known[url] = request
        return request

    @cached_property
    def _followed(self) -> dict[Callback, dict[str, Request]]:
        """The memo's tables of requests, by callback as `follow` is given it."""
        return {}

    def _known_requests(self, callback: str | None, session: str | None) -> dict[str, Request]:
        return {} if self.memo is None else self.memo.requests(callback, session)

    def _plain_request(self, url: str, callback: str | None, session: str | None) -> Request:
        absolute = self._absolute(url)
        if "@" in absolute:  # may hold credentials, which Request takes out
            return Request(absolute, callback, session=session)
        options = DEFAULTS if session is None else Options(session=session)
        return Request.of(absolute, callback, options)

    def _absolute(self, url: str) -> str:
        return self._resolver.resolve(url) or url

    def follow_all(
        self,
        urls: Iterable[str | Selector] | None = None,
        callback: Callback = None,
        *,
        css: str | None = None,
        allow: Filter = None,
        deny: Filter = None,
        **options: Any,
    ) -> list[Request]:
        """`follow` for each of *urls*; without them, for `links(css, allow=…, deny=…)`."""
        if urls is None:
            urls = self.links(css, allow=allow, deny=deny)
        elif isinstance(urls, str):
            raise UsageError(
                f"follow_all({urls!r}): a string is one URL, not many",
                hint="response.follow(url), or response.follow_all(css='a.next').",
            )
        return [self.follow(url, callback, **options) for url in urls]

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.url}>"


NO_MATCH = Selector("")


def _link_of(selector: Selector | SelectorList) -> str:
    """The URL that a selector stands for: an element's href or src, or the string it picked."""
    first = next(iter(selector), None) if isinstance(selector, SelectorList) else selector
    if first is not None:
        if first.root is None:
            return first.get()
        attributes = first.attrib
        for name in ("href", "src"):
            if name in attributes:
                return attributes[name]
    raise UsageError(
        f"{selector!r} is no link: it has neither href nor src",
        hint="Follow response.links('…') or a selector of <a> elements.",
    )
