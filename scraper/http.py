"""Request and Response: immutable values, the words in which everything else speaks.

Requests live in `scraper.request` and are shown here. A `Response` does nothing until asked: no
decoding, no parsing, no header table.
"""

from __future__ import annotations

import json as jsonlib
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scraper import encoding as encodings
from scraper import guard, items, urls
from scraper.errors import ExtractionError, UsageError
from scraper.items import M
from scraper.lazy import lazy
from scraper.links import OPTIONS, Filter, LinkQuery, Links, Memo, Names, plain_query
from scraper.pagemeta import base_url, canonical_url, forbids_following
from scraper.request import (
    ANY_STATUS,
    DEFAULTS,
    Callback,
    Headers,
    Options,
    Request,
    callback_name,
)
from scraper.resolving import Resolver
from scraper.select import Document, Selector, SelectorList

if TYPE_CHECKING:
    from typing import Unpack

    from scraper.controls import Owners
    from scraper.forms import Form
    from scraper.options import RequestOptions
    from scraper.structured import Structured
    from scraper.xpath import XmlDocument

__all__ = ["ANY_STATUS", "Callback", "Failure", "Headers", "Options", "Request", "Response"]


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
    `memo`: what the crawl remembers of links. `checked`: somebody has seen that the body is not too
    costly to parse, so that the guard is not asked; `refused`: or that it is, and why.
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
        self._followed: dict[Callback, dict[str, Request]] = {}  # by callback, as it was given
        self.checked = False
        self.refused = ""

    @property
    def history(self) -> tuple[str, ...]:
        """The URLs that redirected here, oldest first."""
        return self.request.history

    @property
    def meta(self) -> Mapping[str, Any]:
        """The request's `meta`."""
        return self.request.meta

    # The body, read -----------------------------------------------------------------------------

    @lazy
    def encoding(self) -> str:
        """The body's encoding, a name of the WHATWG Encoding Standard in lower case."""
        return encodings.detect(self.body, self._content_type)

    @lazy
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

    @lazy
    def _content_type(self) -> str:
        return self.headers.get("content-type", "")

    @property
    def is_html(self) -> bool:
        """Whether `css` and `links` will take the body for markup."""
        return not guard.no_html(self.body, self._content_type)

    @lazy
    def document(self) -> Document:
        """The parsed page. Raises `ExtractionError` (`not_html`, `parse_limit`)."""
        if what := guard.no_html(self.body, self._content_type):
            raise guard.not_html(self.url, what)
        if self.refused:
            raise guard.too_costly(self.refused)
        return Document(self.markup, checked=self.checked)

    @property
    def markup(self) -> bytes:
        """The body as it is parsed: UTF-8 without a byte order mark."""
        if self.encoding == encodings.UTF_8:  # lexbor speaks UTF-8: no need to decode first
            return self.body.removeprefix(BOM_UTF8)
        return self.text.encode()

    def css(self, selector: str) -> SelectorList:
        """What matches a CSS selector; `::text` and `::attr(name)` take strings."""
        return self.document.css(selector)

    def xpath(
        self, query: str, /, namespaces: Mapping[str, str] | None = None, **variables: Any
    ) -> SelectorList:
        """What an XPath 1.0 finds; on XML (feeds, sitemaps) by the rules of XML.

        *variables* stand in the query as `$name`. *namespaces*: prefix to URI, for XML; those that
        the root declares are known. Raises `UsageError` for a query that is none, and when lxml
        (the extra `xpath`) is not installed; `ExtractionError` as `document`, and `xml_entity`.
        """
        return self.selector.xpath(query, namespaces, **variables)

    @property
    def selector(self) -> Selector:
        """The root that `xpath` starts from: the `document`, or that of XML, as XML.

        `response.selector.remove_namespaces()` of an XML response makes `//entry` work on Atom.
        """
        return self._xml if self.is_xml else self.document

    @lazy
    def is_xml(self) -> bool:
        """Whether the body is XML and no page: `xpath` reads it as such.

        `css`, `links` and `extract` read all markup by HTML's rules, which know nothing of CDATA
        and make an empty element of `<link>`: use `xpath` for XML.
        """
        head = encodings.decode(self.body[:2048], self.encoding)
        return guard.is_xml(head, self._content_type)

    @lazy
    def _xml(self) -> XmlDocument:
        from scraper.xpath import XmlDocument

        return XmlDocument(self.text)

    def structured(self) -> Structured:
        """The JSON-LD and the embedded JSON of the page, parsed when asked for."""
        return self._structured

    @lazy
    def _structured(self) -> Structured:
        from scraper.structured import Structured

        return Structured(self.document)

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """The request's `kwargs`, as JSON values; the callback gets them validated."""
        return self.request.kwargs

    @lazy
    def data(self) -> Sequence[Any]:
        """Where `Json` markers look: a JSON body, else the values of `structured()`, in order."""
        start = self.body[:64].removeprefix(BOM_UTF8).lstrip()[:1]
        labelled = "json" in self._content_type.partition(";")[0].lower()
        if (labelled and start != b"<") or start in (b"{", b"["):
            return (self.json(),)
        return self.structured().values

    def extract(
        self,
        model: type[M],
        css: str | None = None,
        *,
        xpath: str | None = None,
        json: str | None = None,
    ) -> M:
        """A *model* filled from the page, or from the first match of *css*, *xpath* or *json*.

        *json* is a JMESPath into a JSON body, or into the page's structured data. When the values
        do not fit, or the selector matches nothing, an `Invalid` comes instead: yield it all the
        same, it goes to the rejected file. Reading its fields raises `ItemInvalid`.
        """
        return items.extract_from(self, model, css, xpath=xpath, json=json)

    def extract_all(
        self,
        model: type[M],
        css: str | None = None,
        *,
        xpath: str | None = None,
        json: str | None = None,
    ) -> list[M]:
        """A *model* for every match of *css*, *xpath* or *json*; see `extract`."""
        return items.extract_all_from(self, model, css, xpath=xpath, json=json)

    # Links --------------------------------------------------------------------------------------

    @lazy
    def base_url(self) -> str:
        """What relative URLs are relative to: `<base href>`, else the page's own URL."""
        try:
            return base_url(self.document, self.url)
        except ExtractionError:  # a page that cannot be read still has a URL to start from
            return self.url

    @lazy
    def _resolver(self) -> Resolver:
        base = self.base_url
        return Resolver(base, None if self.memo is None else self.memo.known(base))

    def urljoin(self, url: str) -> str:
        """*url* made absolute, as a browser would; what cannot be is returned as it is."""
        return urls.parse(url, self.base_url) or url

    @lazy
    def canonical(self) -> str | None:
        """The address that the page calls its own, absolute, without fragment; None for none.

        Its first `<link rel=canonical>` with an http(s) URL, else that of its `Link` header.
        """
        document = self.document if self.is_html else None
        return canonical_url(document, self.base_url, self.url, self.headers.getall("Link"))

    def links(
        self,
        css: str | None = None,
        *,
        xpath: str | None = None,
        allow: Filter = None,
        deny: Filter = None,
        domains: Names = None,
        deny_domains: Names = None,
        extensions: Names = None,
        attrs: Names = None,
        text: Filter = None,
        nofollow: bool | None = None,
    ) -> list[str]:
        """The page's links: absolute http(s) URLs, each once, without fragments, in order.

        *css* or *xpath*: only these elements (or the links inside them), or the addresses that
        `::attr(…)` takes. *allow*, *deny*: regular expressions searched in the URL, or globs: what
        begins with `*`, and `glob("/books/*")`. *domains*, *deny_domains*: hosts, with all below
        them. *text*: regular expressions searched in the link's text. *attrs*: attributes that
        hold addresses, such as `("href", "data-url")`.

        *extensions*: endings to skip. By default those of files (`FILE_ENDINGS`) are skipped where
        links are swept up, from the whole page or inside an element that was picked; a link that
        was picked itself, or stands in another attribute than href, is kept. `()` skips nothing.

        *nofollow*: True obeys `rel=nofollow` (`ugc`, `sponsored`), `<meta name=robots>` and
        `X-Robots-Tag`; the default is the setting `politeness.nofollow`.
        """
        if xpath is allow is deny is domains is deny_domains is extensions is attrs is text is None:
            return self.find_links(plain_query(css), nofollow=nofollow)
        query = LinkQuery(
            css,
            xpath=xpath,
            allow=allow,
            deny=deny,
            domains=domains,
            deny_domains=deny_domains,
            extensions=extensions,
            attrs=attrs,
            text=text,
        )
        return self.find_links(query, nofollow=nofollow)

    def find_links(self, query: LinkQuery, *, nofollow: bool | None = None) -> list[str]:
        """`links` with options that were compiled before, as a `Rule` has them."""
        if nofollow is None:
            nofollow = self.memo is not None and self.memo.nofollow
        if nofollow and self._forbids_following:
            return []
        return Links(query.find(self.document, self._resolver, follow=not nofollow))

    @lazy
    def _forbids_following(self) -> bool:
        return forbids_following(self.document, self.headers.getall("X-Robots-Tag"))

    def follow(
        self,
        url: str | Selector | SelectorList,
        callback: Callback = None,
        **options: Unpack[RequestOptions],
    ) -> Request:
        """A request for *url* (relative to the page) or for the link that a selector found.

        Without a callback, the one that is running gets that page too. The session is kept.
        *options* are those of `Request`. An invalid URL makes a request that ends `url_invalid`.
        """
        if not options and url.__class__ is str:  # so most are, and were made for others before
            known = self._followed.get(callback)
            if known is None:
                known = self._followed[callback] = self._requests(callback)
            request = known.get(url)
            if request is None:
                request = self._request(url, callback)
                if urls.is_web(url):  # relative: on another page it would mean another
                    known[url] = request
            return request
        if not isinstance(url, str):
            url = _link_of(url)
        if not options:
            return self._request(url, callback)
        options.setdefault("session", self.request.session)
        return Request(self._absolute(url), self._callback_name(callback), **options)

    def _requests(self, callback: Callback) -> dict[str, Request]:
        """Requests made of absolute URLs, for that callback: the crawl's, if there is one."""
        if self.memo is None:
            return {}
        return self.memo.requests(self._callback_name(callback), self.request.session)

    def _request(self, url: str, callback: Callback) -> Request:
        absolute, session = self._absolute(url), self.request.session
        name = self._callback_name(callback)
        if "@" in absolute:  # may hold credentials, which Request takes out
            return Request(absolute, name, session=session)
        return Request.of(absolute, name, DEFAULTS if session is None else Options(session=session))

    def _callback_name(self, callback: Callback) -> str | None:
        return self.request.callback if callback is None else callback_name(callback)

    def _absolute(self, url: str) -> str:
        resolver = self._resolver
        return url if url in resolver.given else resolver.resolve(url) or url

    def follow_all(
        self,
        urls: Iterable[str | Selector] | None = None,
        callback: Callback = None,
        *,
        css: str | None = None,
        **options: Any,
    ) -> list[Request]:
        """`follow` for each of *urls*; without them, for `links(css, …)`.

        *options* are those of `links` (`allow=…`, `text=…`) and of `Request`.
        """
        wanted = {name: options.pop(name) for name in OPTIONS & options.keys()}
        if urls is None:
            urls = self.links(css, **wanted)
        elif wanted or css is not None:
            raise UsageError(
                "follow_all takes URLs, or options of links to find them by, not both",
                hint="response.follow_all(css='a.next', allow=…), or follow_all(urls).",
            )
        elif isinstance(urls, str):
            raise UsageError(
                f"follow_all({urls!r}): a string is one URL, not many",
                hint="response.follow(url), or response.follow_all(css='a.next').",
            )
        return [self.follow(url, callback, **options) for url in urls]

    # Forms --------------------------------------------------------------------------------------

    def form(
        self,
        css: str | None = None,
        *,
        name: str | None = None,
        id: str | None = None,  # noqa: A002 - as the attribute is called
        index: int = 0,
    ) -> Form:
        """A form of the page, to be filled in and sent: `response.form("#login").submit({…})`.

        *css*: the form itself, anything in it, or what it lies in. *name*, *id*: its attributes.
        *index*: which one of those that are left. Raises `UsageError` saying which forms there
        are. See `Form`.
        """
        from scraper.forms import find_form

        return find_form(self, self._owners, css, name, id, index)

    @lazy
    def _owners(self) -> Owners:
        from scraper.controls import Owners

        return Owners(self.document, self.text)

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.url}>"


def _link_of(selector: object) -> str:
    """The URL that a selector stands for: an element's href or src, or the string it picked."""
    first = next(iter(selector), None) if isinstance(selector, SelectorList) else selector
    if isinstance(first, Selector):
        if first.root is None:
            return first.get()
        attributes = first.attrib
        for name in ("href", "src"):
            if name in attributes:
                return attributes[name]
    elif first is None:
        raise UsageError(
            f"follow({'None' if selector is None else '[]'}): the selector matched nothing",
            hint="Where a link may be missing: for link in response.links('a.next'): …",
        )
    elif isinstance(selector, Iterable):
        raise UsageError(
            f"follow takes one link, not {selector!r:.80}",
            hint="For many: response.follow_all(links), or response.follow_all(css='a.next').",
        )
    raise UsageError(
        f"{selector!r} is no link: it has neither href nor src",
        hint="Follow response.links('…') or a selector of <a> elements.",
    )
