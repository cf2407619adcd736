"""The markers: where a field's value stands, as CSS, XPath, a path in JSON, meta, or the URL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, cast

from selectolax.lexbor import LexborNode

from scraper.errors import UsageError
from scraper.marking import UNSET, Kind, Marker, Refine, Search, Source, Way
from scraper.paths import compile_path, dig
from scraper.select import (
    Pattern,
    Query,
    Root,
    Selector,
    attribute,
    collapse,
    compile_css,
    find,
)

__all__ = ["Css", "Json", "Meta", "Url", "XPath"]

# Elements ---------------------------------------------------------------------------------------


def _are_texts(given: tuple[object, ...]) -> bool:
    return bool(given) and all(isinstance(each, str) and each.strip() for each in given)


Strings = Callable[[Root], Iterator[str]]
"""All texts that one alternative finds below an element, in order."""


class _Elements(Marker):
    """A marker that looks for elements."""

    __slots__ = ()

    on_page = True

    @property
    def tried(self) -> list[str]:
        return list(self.alternatives)

    def strings(self) -> list[Strings]:
        """For each alternative, what it finds."""
        raise NotImplementedError

    def all(self, kind: Kind, *, inside: bool = False) -> list[Way]:
        return [self._all(strings) for strings in self.strings()]

    def _all(self, strings: Strings) -> Way:
        refine = self._refine()
        return lambda root, source: self._gather(strings(root), source, refine) or None

    def _in_one(self, strings: Strings) -> Way:
        """All texts as one, for `join`."""
        refine = self._refine()
        return lambda root, source: self._joined(strings(root), source, refine)


class Css(_Elements):
    """A field's value: the first of *selectors* that gives something.

    An element gives all its descendant text, white space collapsed; `::text` its own text;
    `::attr(name)` an attribute, stripped. On a list field every match counts. See `Marker` for
    the options.
    """

    __slots__ = ("queries",)

    def __init__(
        self,
        *selectors: str,
        re: Pattern | None = None,
        absolute: bool = False,
        strip: bool = True,
        join: str | None = None,
        default: Any = UNSET,
    ) -> None:
        if not _are_texts(selectors):
            raise UsageError("Css() takes at least one selector, as strings: Css('h1', '.title')")
        super().__init__(
            *selectors, re=re, absolute=absolute, strip=strip, join=join, default=default
        )
        self.queries = tuple(map(compile_css, selectors))

    @property
    def selectors(self) -> tuple[str, ...]:
        return self.alternatives

    @property
    def gives_text(self) -> bool:
        taking = any(query.take is not None for queries in self.queries for query in queries)
        return taking or super().gives_text

    def one(self, kind: Kind, *, inside: bool = False) -> list[Way]:
        return [self._one(queries) for queries in self.queries]

    def strings(self) -> list[Strings]:
        return [_strings_of(queries, strip=self.strip) for queries in self.queries]

    def elements(self) -> list[Callable[[Root], list[LexborNode]]]:
        """The ways to the elements themselves, for nested items."""
        return [_finder(queries) for queries in self.queries]

    def _one(self, queries: tuple[Query, ...]) -> Way:
        refine = self._refine()
        strings = _strings_of(queries, strip=self.strip)
        if self.join is not None:
            return self._in_one(strings)
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


def _strings_of(queries: tuple[Query, ...], *, strip: bool) -> Strings:
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


class XPath(_Elements):
    """As `Css`, by XPath 1.0: `XPath("//h1", "//title")`. Needs lxml.

    An element gives all its descendant text, `text()` and `@name` their strings, white space
    collapsed. Inside a nested item a path that begins with `./` or a name stays in its element.
    """

    __slots__ = ()

    def __init__(
        self,
        *queries: str,
        re: Pattern | None = None,
        absolute: bool = False,
        strip: bool = True,
        join: str | None = None,
        default: Any = UNSET,
    ) -> None:
        if not _are_texts(queries):
            raise UsageError("XPath() takes at least one query, as strings: XPath('//h1')")
        from scraper.xpath import compile_xpath

        for query in queries:
            compile_xpath(query)
        super().__init__(
            *queries, re=re, absolute=absolute, strip=strip, join=join, default=default
        )

    def elements(self) -> list[Callable[[Root], list[Root]]]:
        return [self._finder(query) for query in self.alternatives]

    def _finder(self, query: str) -> Callable[[Root], list[Root]]:
        def elements(root: Root) -> list[Root]:
            roots = (match.root for match in Selector(root).xpath(query))
            return [root for root in roots if root is not None]

        return elements

    def one(self, kind: Kind, *, inside: bool = False) -> list[Way]:
        return [self._one(query) for query in self.alternatives]

    def strings(self) -> list[Strings]:
        return [partial(self._strings, query) for query in self.alternatives]

    def _one(self, query: str) -> Way:
        refine = self._refine()
        if self.join is not None:
            return self._in_one(partial(self._strings, query))

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

    def _strings(self, query: str, root: Root) -> Iterator[str]:
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
                elif type(each) in {int, float} and kind == "text":
                    yield str(each)
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
        default: Any = UNSET,
    ) -> None:
        if type is not None and script is not None:
            raise UsageError("Json() looks in nodes of a type or in one script, not in both")
        if not _are_texts(paths) and (paths or (type is None and script is None)):
            raise UsageError("Json() takes at least one path, as strings: Json('product.name')")
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
        if self.type is None and self.script is None:
            return source.data
        if not source.is_html:
            return ()
        if self.type is not None:
            return source.structured().find_all(self.type)
        return (source.structured().script(self.script or ""),)


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
        default: Any = UNSET,
    ) -> None:
        if not _are_texts(paths):
            raise UsageError("Meta() takes at least one key, as strings: Meta('category')")
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


class Url(_Data):
    """A field's value: the URL of the page itself, after redirects. `Url(re=r"/id/(\\d+)")`."""

    __slots__ = ()

    def __init__(self, *, re: Pattern | None = None, default: Any = UNSET) -> None:
        super().__init__(re=re, absolute=False, strip=True, join=None, default=default)

    def searches(self, *, inside: bool = False) -> list[Search]:
        return [lambda root, source: iter((source.url,))]
