"""Markers: where a field's value stands, as CSS, XPath, a path in JSON, meta, or the URL.

A marker is a declaration. What it compiles to is a list of *ways*, one for each of its
alternatives: functions that take the place to look in (an element, or a JSON value) and the page,
and give a value, or None when nothing is there. `scraper.plans` puts them in order.
"""

from __future__ import annotations

import re as relib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, cast

from selectolax.lexbor import LexborNode

from scraper import urls
from scraper.errors import ExtractionError, UsageError
from scraper.select import (
    Pattern,
    Query,
    Root,
    Selector,
    SelectorList,
    attribute,
    collapse,
    compile_css,
    compile_re,
    find,
)

if TYPE_CHECKING:
    from scraper.structured import Structured

__all__ = ["Css", "Json", "Marker", "Meta", "Source", "Url", "Way", "XPath"]

MAX_TEXT = 64 * 1024 * 1024
"""Characters that one field may collect: matches nested in each other repeat their text."""


class Source(Protocol):
    """The page that values are extracted from, as far as markers ask; `Response` is one."""

    @property
    def url(self) -> str: ...
    @property
    def base_url(self) -> str: ...
    @property
    def meta(self) -> Mapping[str, Any]: ...
    @property
    def kwargs(self) -> Mapping[str, Any]: ...
    @property
    def is_html(self) -> bool: ...
    @property
    def document(self) -> Selector: ...
    @property
    def selector(self) -> Selector:
        """What XPath starts from: the document, or XML read as XML."""

    @property
    def data(self) -> Sequence[Any]:
        """The body of a JSON response as the only value, else `structured().values`."""

    def structured(self) -> Structured: ...
    def css(self, selector: str) -> SelectorList: ...
    def xpath(self, query: str, /) -> SelectorList: ...


Way = Callable[[Any, Source], Any]
"""(the element or JSON value to look in, the page) -> what is there, or None."""

Search = Callable[[Any, Source], Iterator[Any]]

Kind = Literal["text", "value", "whole"]
"""What a field takes of JSON: numbers as text, one value as it is, or a list as one value."""

Refine = Callable[[str, Source], str | None]

_UNSET: Any = type("Unset", (), {"__repr__": lambda _: "<unset>"})()


class Marker:
    """What all markers share: their alternatives, and what happens to what they find.

    *re*: the first group (or the whole match) of its first match; what does not match is passed
    over. *absolute*: a URL, resolved against the page's base; what is no URL is passed over.
    *strip*: white space collapsed in an element's text, removed at the ends of other strings;
    False keeps what the source has. *join*: every match, joined with this string into one.
    *default*: the value when nothing matches; it goes before the field's own default.
    """

    __slots__ = ("absolute", "alternatives", "default", "join", "re", "strip")

    on_page: ClassVar[bool] = False
    """Whether it looks for elements, so that the page must be markup."""

    def __init__(
        self,
        *alternatives: str,
        re: Pattern | None,
        absolute: bool,
        strip: bool,
        join: str | None,
        default: Any,
    ) -> None:
        self.alternatives = alternatives
        self.re = None if re is None else compile_re(re)
        self.absolute = absolute
        self.strip = strip
        self.join = join
        self.default = default

    @property
    def has_default(self) -> bool:
        return self.default is not _UNSET

    @property
    def gives_text(self) -> bool:
        """Whether only text can come of it, so that no nested item can."""
        return self.re is not None or self.absolute or self.join is not None

    @property
    def tried(self) -> list[str]:
        """What an error lists as selectors: a call of the marker for each alternative."""
        options = self._options()
        if not self.alternatives:
            return [repr(self)]
        return [self._call([repr(given), *options]) for given in self.alternatives]

    def one(self, kind: Kind, *, inside: bool = False) -> list[Way]:
        """The ways to one value. *inside*: the place to look in is a JSON value."""
        raise NotImplementedError

    def all(self, kind: Kind, *, inside: bool = False) -> list[Way]:
        """The ways to a list of every match; None rather than an empty one."""
        raise NotImplementedError

    def _options(self) -> list[str]:
        """The options that tell where the marker looks, as they were written."""
        return []

    def _call(self, parts: Iterable[str]) -> str:
        return f"{type(self).__name__}({', '.join(parts)})"

    def __repr__(self) -> str:
        parts = [*map(repr, self.alternatives), *self._options()]
        if self.re is not None:
            parts.append(f"re={self.re.pattern!r}")
        if self.absolute:
            parts.append("absolute=True")
        if not self.strip:
            parts.append("strip=False")
        if self.join is not None:
            parts.append(f"join={self.join!r}")
        if self.has_default:
            parts.append(f"default={self.default!r}")
        return self._call(parts)

    # What all kinds do with the strings they find ----------------------------------------------

    def _refine(self) -> Refine | None:
        """From a string to what *re* and *absolute* make of it; None passes it over."""
        pattern, absolute = self.re, self.absolute

        def refine(value: str, source: Source) -> str | None:
            if pattern is not None:
                match = pattern.search(value)
                if match is None:
                    return None
                value = (match[1] or "") if pattern.groups else match[0]
            if absolute:
                return (urls.parse(value.strip(), source.base_url) or None) if value else None
            return value

        return None if pattern is None and not absolute else refine

    def _gather(self, values: Iterable[Any], source: Source, refine: Refine | None) -> list[Any]:
        """All of *values*, refined, within bounds."""
        size = 0
        gathered = []
        for value in values:
            if type(value) is str:
                if refine is not None and (value := refine(value, source)) is None:
                    continue
                size += len(value)
                if size > MAX_TEXT:
                    raise ExtractionError(
                        "parse_limit", f"{self!r} gives more than {MAX_TEXT >> 20} M characters"
                    )
            gathered.append(value)
        return gathered

    def _joined(self, values: Iterable[Any], source: Source, refine: Refine | None) -> str | None:
        """All of *values* as one string; None when there are none."""
        gathered = self._gather(values, source, refine)
        if not gathered:
            return None
        return (self.join or "").join(value for value in map(str, gathered) if value)


# Elements ---------------------------------------------------------------------------------------


class Css(Marker):
    """A field's value: the first of *selectors* that gives something.

    An element gives all its descendant text, white space collapsed; `::text` its own text;
    `::attr(name)` an attribute, stripped. On a list field every match counts. See `Marker` for
    the options.
    """

    __slots__ = ("queries",)

    on_page = True

    def __init__(
        self,
        *selectors: str,
        re: Pattern | None = None,
        absolute: bool = False,
        strip: bool = True,
        join: str | None = None,
        default: Any = _UNSET,
    ) -> None:
        if not selectors or not all(str(s).strip() for s in selectors):
            raise UsageError("Css() takes at least one selector, as strings: Css('h1', '.title')")
        super().__init__(
            *selectors, re=re, absolute=absolute, strip=strip, join=join, default=default
        )
        self.queries = tuple(map(compile_css, selectors))

    @property
    def selectors(self) -> tuple[str, ...]:
        return self.alternatives

    @property
    def tried(self) -> list[str]:
        return list(self.alternatives)

    @property
    def gives_text(self) -> bool:
        taking = any(query.take is not None for queries in self.queries for query in queries)
        return taking or super().gives_text

    def one(self, kind: Kind, *, inside: bool = False) -> list[Way]:
        return [self._one(queries) for queries in self.queries]

    def all(self, kind: Kind, *, inside: bool = False) -> list[Way]:
        return [self._all(queries) for queries in self.queries]

    def elements(self) -> list[Callable[[Root], list[LexborNode]]]:
        """The ways to the elements themselves, for nested items."""
        return [_finder(queries) for queries in self.queries]

    def _one(self, queries: tuple[Query, ...]) -> Way:
        refine = self._refine()
        strings = _strings_of(queries, strip=self.strip)
        if self.join is not None:
            return lambda root, source: self._joined(strings(root), source, refine)
        several = queries[0].take in {"text", "texts"}  # of text nodes any; else the first decides

        def way(root: Root, source: Source) -> str | None:
            found: str | None = None
            for value in strings(root):
                refined = value if refine is None else refine(value, source)
                if refined:
                    return refined
                if refined is None:
                    continue
                if found is None:
                    found = refined
                if not several:
                    break
            return found

        return _quick(queries[0], refine, way, strip=self.strip) if len(queries) == 1 else way

    def _all(self, queries: tuple[Query, ...]) -> Way:
        refine = self._refine()
        strings = _strings_of(queries, strip=self.strip)
        return lambda root, source: self._gather(strings(root), source, refine) or None


def _quick(query: Query, refine: Refine | None, otherwise: Way, *, strip: bool) -> Way:
    """A way that asks for the first match alone, as long as that decides."""
    if query.take == "attr":
        return _first_attribute(query, refine, otherwise, strip=strip)
    if query.take is None:
        return _first_text(query.css, refine, otherwise, strip=strip)
    return otherwise


def _first_attribute(query: Query, refine: Refine | None, otherwise: Way, *, strip: bool) -> Way:
    css, name = query.css, query.name

    def way(root: Root, source: Source) -> str | None:
        node = root.css_first(css)
        if node is None:
            return None
        if (value := attribute(node, name)) is not None:
            if strip:
                value = value.strip()
            if refine is None:
                return value
            if value := refine(value, source):
                return value
        return cast("str | None", otherwise(root, source))

    return way


def _first_text(css: str, refine: Refine | None, otherwise: Way, *, strip: bool) -> Way:
    def text(root: Root, source: Source) -> str | None:
        node = root.css_first(css)
        return None if node is None else " ".join(node.text().split())

    def way(root: Root, source: Source) -> str | None:
        node = root.css_first(css)
        if node is None:
            return None
        value = collapse(node.text()) if strip else node.text()
        if refine is None:
            return value
        return refine(value, source) or cast("str | None", otherwise(root, source))

    return text if refine is None and strip else way


def _strings_of(queries: tuple[Query, ...], *, strip: bool) -> Callable[[Root], Iterator[str]]:
    clean = str.strip if queries[0].take == "attr" else collapse

    def strings(root: Root) -> Iterator[str]:
        for match in find(root, queries):
            text = match if isinstance(match, str) else match.text()
            if strip:
                text = clean(text) if isinstance(match, str) else collapse(text)
            yield text

    return strings


def _finder(queries: tuple[Query, ...]) -> Callable[[Root], list[LexborNode]]:
    return lambda root: cast("list[LexborNode]", find(root, queries))


class XPath(Marker):
    """As `Css`, by XPath 1.0: `XPath("//h1", "//title")`. Needs lxml.

    An element gives all its descendant text, `text()` and `@name` their strings, white space
    collapsed. Inside a nested item a path that begins with `./` or a name stays in its element.
    """

    __slots__ = ()

    on_page = True

    def __init__(
        self,
        *queries: str,
        re: Pattern | None = None,
        absolute: bool = False,
        strip: bool = True,
        join: str | None = None,
        default: Any = _UNSET,
    ) -> None:
        if not queries or not all(str(query).strip() for query in queries):
            raise UsageError("XPath() takes at least one query, as strings: XPath('//h1')")
        from scraper.xpath import compile_xpath

        for query in queries:
            compile_xpath(query)
        super().__init__(
            *queries, re=re, absolute=absolute, strip=strip, join=join, default=default
        )

    @property
    def tried(self) -> list[str]:
        return list(self.alternatives)

    def elements(self) -> list[Callable[[Root], list[Root]]]:
        return [self._finder(query) for query in self.alternatives]

    def _finder(self, query: str) -> Callable[[Root], list[Root]]:
        def elements(root: Root) -> list[Root]:
            roots = (match.root for match in Selector(root).xpath(query))
            return [root for root in roots if root is not None]

        return elements

    def one(self, kind: Kind, *, inside: bool = False) -> list[Way]:
        return [self._one(query) for query in self.alternatives]

    def all(self, kind: Kind, *, inside: bool = False) -> list[Way]:
        return [self._all(query) for query in self.alternatives]

    def _one(self, query: str) -> Way:
        refine = self._refine()
        if self.join is not None:
            return lambda root, source: self._joined(self._strings(root, query), source, refine)

        def way(root: Root, source: Source) -> str | None:
            found: str | None = None
            for match in Selector(root).xpath(query):
                value = match.text if self.strip else match.raw_text
                refined = value if refine is None else refine(value, source)
                if refined:
                    return refined
                found = found if refined is None else refined
                if found is not None and match.tag:
                    break  # the first element decides; of strings, any
            return found

        return way

    def _all(self, query: str) -> Way:
        refine = self._refine()
        return lambda root, source: self._gather(self._strings(root, query), source, refine) or None

    def _strings(self, root: Root, query: str) -> Iterator[str]:
        for match in Selector(root).xpath(query):
            yield match.text if self.strip else match.raw_text


# Data -------------------------------------------------------------------------------------------


class _Data(Marker):
    """A marker whose values are JSON: strings, numbers, lists, mappings."""

    __slots__ = ()

    def one(self, kind: Kind, *, inside: bool = False) -> list[Way]:
        return [self._one(search, kind) for search in self.searches(inside=inside)]

    def all(self, kind: Kind, *, inside: bool = False) -> list[Way]:
        return [self._all(search, kind) for search in self.searches(inside=inside)]

    def searches(self, *, inside: bool = False) -> list[Search]:
        """For each alternative a search that gives candidates, none of them None."""
        raise NotImplementedError

    def _one(self, search: Search, kind: Kind) -> Way:
        refine = self._refine()
        if self.join is not None:
            return lambda root, source: self._joined(
                self._scalars(search(root, source), "text"), source, refine
            )
        if kind == "whole" and refine is None:
            return lambda root, source: next(search(root, source), None)

        def way(root: Any, source: Source) -> Any:
            found: Any = None
            for value in self._scalars(search(root, source), kind):
                refined = value
                if refine is not None:
                    refined = refine(str(value), source)
                if refined is not None and refined != "":
                    return refined
                found = found if refined is None else refined
            return found

        return way

    def _all(self, search: Search, kind: Kind) -> Way:
        refine = self._refine()
        taken: Kind = "text" if refine is not None else kind

        def way(root: Any, source: Source) -> list[Any] | None:
            for found in search(root, source):
                if values := self._gather(self._scalars((found,), taken), source, refine):
                    return values
            return None

        return way

    def _scalars(self, found: Iterable[Any], kind: Kind) -> Iterator[Any]:
        """What is found, lists opened, nulls left out, strings stripped."""
        for value in found:
            for each in value if isinstance(value, list) else (value,):
                if isinstance(each, str):
                    yield each.strip() if self.strip else each
                elif isinstance(each, int | float) and kind == "text" and each is not True:
                    yield each if each is False else str(each)
                elif each is not None:
                    yield each


class Json(_Data):
    """A field's value by JMESPath (https://jmespath.org/specification.html).

    Looks in the body of a JSON response; of a page, in its structured data (JSON-LD, embedded
    JSON, assigned state) in order, until a path gives something. *type*: only in the JSON-LD nodes
    of this `@type`. *script*: only in that script: its id, a CSS selector, or a variable's name.
    Within an item that was itself reached by `Json`, paths start at its own value. A field of one
    value takes the first of a list; numbers become text where the field is text.
    """

    __slots__ = ("_compiled", "script", "type")

    def __init__(
        self,
        *paths: str,
        type: str | None = None,  # noqa: A002  # JSON-LD's own word
        script: str | None = None,
        re: Pattern | None = None,
        absolute: bool = False,
        strip: bool = True,
        join: str | None = None,
        default: Any = _UNSET,
    ) -> None:
        if type is not None and script is not None:
            raise UsageError("Json() looks in nodes of a type or in one script, not in both")
        if not paths and type is None and script is None:
            raise UsageError("Json() takes at least one path: Json('product.name')")
        super().__init__(*paths, re=re, absolute=absolute, strip=strip, join=join, default=default)
        self.type = type
        self.script = script
        self._compiled = tuple(map(compile_path, paths or ("@",)))

    def _options(self) -> list[str]:
        options = {"type": self.type, "script": self.script}
        return [f"{name}={value!r}" for name, value in options.items() if value is not None]

    def searches(self, *, inside: bool = False) -> list[Search]:
        inside = inside and self.type is None and self.script is None
        return [self._search(path, inside=inside) for path in self._compiled]

    def _search(self, path: Callable[[Any], Any], *, inside: bool) -> Search:
        if inside:

            def within(root: Any, source: Source) -> Iterator[Any]:
                if (found := path(root)) is not None:
                    yield found

            return within

        def search(root: Any, source: Source) -> Iterator[Any]:
            for data in self._places(source):
                if (found := path(data)) is not None and found != []:
                    yield found

        return search

    def _places(self, source: Source) -> Sequence[Any]:
        if self.type is not None:
            return source.structured().find_all(self.type)
        if self.script is not None:
            return (source.structured().script(self.script),)
        return source.data


class Meta(_Data):
    """A field's value from the request: its `kwargs`, then its `meta`.

    A dotted path goes into mappings and, by number, into lists: `Meta("book.tags.0")`. A key that
    itself holds dots is found too.
    """

    __slots__ = ()

    def __init__(
        self,
        *paths: str,
        re: Pattern | None = None,
        absolute: bool = False,
        strip: bool = True,
        join: str | None = None,
        default: Any = _UNSET,
    ) -> None:
        if not paths or not all(paths):
            raise UsageError("Meta() takes at least one key: Meta('category')")
        super().__init__(*paths, re=re, absolute=absolute, strip=strip, join=join, default=default)

    def searches(self, *, inside: bool = False) -> list[Search]:
        return [_in_request(path) for path in self.alternatives]


def _in_request(path: str) -> Search:
    keys = path.split(".")

    def search(root: Any, source: Source) -> Iterator[Any]:
        for values in (source.kwargs, source.meta):
            found = values.get(path)
            if found is None:
                found = dig(values, keys)
            if found is not None:
                yield found

    return search


def dig(value: Any, keys: Iterable[str | int]) -> Any:
    """What *keys* lead to, through mappings and (by number) lists; None when they lead nowhere."""
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, Sequence) and not isinstance(value, str) and _is_number(key):
            at = int(key)
            value = value[at] if -len(value) <= at < len(value) else None
        else:
            return None
    return value


def _is_number(key: str | int) -> bool:
    return isinstance(key, int) or (key.isascii() and key.isdigit())


class Url(_Data):
    """A field's value: the URL of the page itself, after redirects. `Url(re=r"/id/(\\d+)")`."""

    __slots__ = ()

    def __init__(self, *, re: Pattern | None = None, default: Any = _UNSET) -> None:
        super().__init__(re=re, absolute=False, strip=True, join=None, default=default)

    def searches(self, *, inside: bool = False) -> list[Search]:
        return [lambda root, source: iter((source.url,))]


# JMESPath ---------------------------------------------------------------------------------------

_PLAIN_PATH = relib.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", relib.ASCII)


@lru_cache(maxsize=1024)
def compile_path(path: str) -> Callable[[Any], Any]:
    """A search by JMESPath that gives None where there is nothing. Raises `UsageError`."""
    if _PLAIN_PATH.fullmatch(path):  # what most paths are, at a tenth of the price
        keys = tuple(path.split("."))

        def follow(value: Any) -> Any:
            for key in keys:
                if not isinstance(value, dict):
                    return None
                value = value.get(key)
            return value

        return follow
    return _compile_jmespath(path)


def _compile_jmespath(path: str) -> Callable[[Any], Any]:
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        compiled = jmespath.compile(path)
    except (JMESPathError, ValueError, RecursionError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"not a valid JMESPath: {path!r} ({said})",
            hint='Keys with other characters than letters, digits and "_" stand in double quotes:'
            """ Json('offers."@type"').""",
        ) from None

    def search(value: Any) -> Any:
        try:
            return compiled.search(value)
        except (JMESPathError, RecursionError, TypeError, ValueError, ArithmeticError):
            return None  # a function that was given nothing, or another type: nothing is there

    return search
