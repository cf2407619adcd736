"""Selectors over a parsed page: CSS, `::text`, `::attr(x)`, regular expressions.

`Document` parses bytes with lexbor, behind a guard against the shapes that lexbor takes quadratic
time or memory for. `Selector` is one node, or one string that `::text` or `::attr` picked;
`SelectorList` is what `css` returns, and makes selectors only when they are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload
from weakref import ref

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from scraper.errors import ExtractionError, UsageError
from scraper.guard import suspicion, too_costly
from scraper.nodes import Root, Tree, attribute, find, own_texts, select, take
from scraper.queries import Pattern, Query, collapse, compile_css, compile_re

__all__ = [
    "Document",
    "Pattern",
    "Query",
    "Root",
    "Selector",
    "SelectorList",
    "attribute",
    "collapse",
    "compile_css",
    "compile_re",
    "find",
    "own_texts",
    "select",
    "take",
]

T = TypeVar("T")


class Selector:
    """One match: an element, or a string that `::text`, `::attr()` or an XPath picked.

    `Selector.of("<p>…")` makes one of a page at hand, as does parsel's `Selector(text="<p>…")`.
    """

    __slots__ = ("_value",)

    _value: Root | str

    def __init__(self, value: Root | str = "", *, text: str | None = None) -> None:
        self._value = value if text is None else Document.of(text).parser

    @staticmethod
    def of(html: str) -> Document:
        """A document from a string: for tests, the shell, and HTML inside of JSON."""
        return Document(html.encode("utf-8", "replace"))

    @property
    def root(self) -> Root | None:
        """The lexbor node below which `css` looks; None for a string."""
        return None if isinstance(self._value, str) else self._value

    def css(self, selector: str) -> SelectorList:
        """Everything below (or at) this element that matches. Nothing matches inside a string.

        As everywhere on the web, the whole selector may look around: `ul.css("div li")` finds the
        items also when the `div` stands outside of the `ul`. Text and attributes are collected in
        one walk, however matches are nested. What costs is `:nth-child()` and its kin: the square
        of the number of siblings, a second for 20,000. Raises `UsageError`.
        """
        queries, value = compile_css(selector), self._value
        return SelectorList(() if isinstance(value, str) else find(value, queries))

    def xpath(
        self, query: str, /, namespaces: Mapping[str, str] | None = None, **variables: Any
    ) -> SelectorList:
        """What an XPath 1.0 finds, seen from this element: `./a/@href`. `//a` is anywhere.

        *variables* stand in the query as `$name`; *namespaces* are its prefixes, needed in XML
        only. Raises `UsageError` for a query that is none, and when lxml is not installed.
        """
        return SelectorList(_find_xpath((self._value,), query, namespaces, variables))

    def drop(self) -> None:
        """Takes the element out of its page: no later query finds it. A string stays."""
        _drop(self._value)

    def get(self, default: str | None = None) -> str:
        """The HTML of an element, or the string; *default* is there for symmetry with lists."""
        return self._value if isinstance(self._value, str) else self.html

    def getall(self) -> list[str]:
        """`[self.get()]`, so that one and many can be treated alike."""
        return [self.get()]

    @property
    def html(self) -> str:
        """The element with its tags, serialised; of a string, the string."""
        return self._value if isinstance(self._value, str) else self._value.html or ""

    @property
    def text(self) -> str:
        """All descendant text, white space collapsed."""
        value = self._value
        return collapse(value if isinstance(value, str) else _text(value))

    @property
    def raw_text(self) -> str:
        """All descendant text as it stands in the source."""
        return self._value if isinstance(self._value, str) else _text(self._value)

    @property
    def attrib(self) -> Mapping[str, str]:
        """The element's attributes; one without a value is ""."""
        node = self._value
        if isinstance(node, LexborHTMLParser):
            node = node.root if node.root is not None else ""
        if isinstance(node, str):
            return MappingProxyType({})
        return {name: value or "" for name, value in node.attributes.items()}

    @property
    def tag(self) -> str:
        """The element's name in lower case; "" for a string."""
        node = self._value.root if isinstance(self._value, LexborHTMLParser) else self._value
        return "" if node is None or isinstance(node, str) else node.tag or ""

    def re(self, pattern: Pattern) -> list[str]:
        """What *pattern* finds in `get()`: its groups if it has some, else whole matches.

        A group that took no part is "", and of several groups all come, one after the other. In the
        HTML of an element, no-break spaces stand as such, and `&gt;` and `&quot;` come out decoded.
        """
        return list(_findall(pattern, (self._value,)))

    @overload
    def re_first(self, pattern: Pattern) -> str | None: ...
    @overload
    def re_first(self, pattern: Pattern, default: T) -> str | T: ...
    def re_first(self, pattern: Pattern, default: T | None = None) -> str | T | None:
        """The first of `re`, or *default*."""
        return next(_findall(pattern, (self._value,)), default)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise _absent(self, name)

    def __repr__(self) -> str:
        shown = collapse(self.get()[:200])
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        return f"<Selector {self.tag} {shown!r}>" if self.tag else f"<Selector {shown!r}>"


class SelectorList(Sequence[Selector]):
    """The matches of one or more selectors, in document order."""

    __slots__ = ("_values",)

    _values: Sequence[LexborNode | str]

    def __init__(self, values: Sequence[LexborNode | str] = ()) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def __getitem__(self, index: int) -> Selector: ...
    @overload
    def __getitem__(self, index: slice) -> SelectorList: ...
    def __getitem__(self, index: int | slice) -> Selector | SelectorList:
        if isinstance(index, slice):
            return SelectorList(self._values[index])
        return Selector(self._values[index])

    def __iter__(self) -> Iterator[Selector]:
        return map(Selector, self._values)

    def css(self, selector: str) -> SelectorList:
        """The matches inside every element of the list, one after the other."""
        queries = compile_css(selector)
        found: list[LexborNode | str] = []
        for value in self._values:
            if not isinstance(value, str):
                found += find(value, queries)
        return SelectorList(found)

    def xpath(
        self, query: str, /, namespaces: Mapping[str, str] | None = None, **variables: Any
    ) -> SelectorList:
        """What an XPath finds, seen from every element of the list, one after the other."""
        return SelectorList(_find_xpath(self._values, query, namespaces, variables))

    def drop(self) -> None:
        """Takes every element of the list out of its page: no later query finds it."""
        for value in self._values:
            _drop(value)

    @overload
    def get(self) -> str | None: ...
    @overload
    def get(self, default: T) -> str | T: ...
    def get(self, default: T | None = None) -> str | T | None:
        """The first match as a string, or *default* when there is none."""
        return Selector(self._values[0]).get() if self._values else default

    def getall(self) -> list[str]:
        """Every match as a string.

        Elements inside of one another repeat their content: of n nested ones, n²/2 tags are
        written. Take strings, `::text` or `::attr()`, of such: they are visited once.
        """
        return [value if isinstance(value, str) else value.html or "" for value in self._values]

    @property
    def text(self) -> str:
        """`text` of the first match; "" when there is none."""
        return Selector(self._values[0]).text if self._values else ""

    @property
    def html(self) -> str:
        """`html` of the first match; "" when there is none."""
        return Selector(self._values[0]).html if self._values else ""

    @property
    def attrib(self) -> Mapping[str, str]:
        """`attrib` of the first match; empty when there is none."""
        return Selector(self._values[0]).attrib if self._values else MappingProxyType({})

    def re(self, pattern: Pattern) -> list[str]:
        """`re` of every match, one after the other."""
        return list(_findall(pattern, self._values))

    @overload
    def re_first(self, pattern: Pattern) -> str | None: ...
    @overload
    def re_first(self, pattern: Pattern, default: T) -> str | T: ...
    def re_first(self, pattern: Pattern, default: T | None = None) -> str | T | None:
        """The first of `re`, or *default*."""
        return next(_findall(pattern, self._values), default)

    def __add__(self, other: SelectorList) -> SelectorList:
        return SelectorList([*self._values, *other._values])

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise _absent(self, name)

    def __repr__(self) -> str:
        return f"<SelectorList of {len(self)}: {list(self[:3])!r}{' …' if len(self) > 3 else ''}>"


def _find_xpath(
    values: Iterable[Root | str],
    query: str,
    namespaces: Mapping[str, str] | None,
    variables: Mapping[str, Any],
) -> list[LexborNode | str]:
    from scraper import xpath

    found: list[LexborNode | str] = []
    for value in values:
        if not isinstance(value, str):
            found += xpath.find(value, query, namespaces, variables)
        elif query.strip() == ".":  # as in parsel: nothing else can be seen from a string
            found.append(value)
    return found


def _drop(node: Root | str) -> None:
    if isinstance(node, str):
        return
    if isinstance(node, LexborHTMLParser) or (up := node.parent) is None or up.tag == "-document":
        raise UsageError("the root of a page cannot be dropped")
    node.decompose()
    tree = node.parser
    if isinstance(tree, Tree):
        tree.holder().twin = tree.twin = None


_ELSEWHERE = {
    "extract": "getall(), or get() of one",
    "extract_first": "get()",
    "jmespath": "response.json(), or response.structured() for JSON in a page",
    "remove": "drop()",
    "register_namespace": "xpath(query, namespaces={'prefix': 'uri'})",
    "remove_namespaces": "response.selector.remove_namespaces(), of XML",
}


def _absent(owner: Selector | SelectorList, name: str) -> AttributeError:
    """The error for an attribute that *owner* has not: names what parsel's are called here."""
    kind = type(owner).__name__
    here = f": here it is {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
    return AttributeError(f"{kind!r} object has no attribute {name!r}{here}", name=name, obj=owner)


def _text(node: Root) -> str:
    if isinstance(node, LexborHTMLParser):
        return node.root.text() if node.root is not None else ""
    return node.text()


def _findall(pattern: Pattern, values: Iterable[Root | str]) -> Iterator[str]:
    compiled = compile_re(pattern)
    for value in values:
        if isinstance(value, str):
            yield from _groups(compiled, value)
        else:
            for found in _groups(compiled, (value.html or "").replace("&nbsp;", "\xa0")):
                yield found.replace("&gt;", ">").replace("&quot;", '"')


def _groups(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    for match in pattern.finditer(text):
        if pattern.groups:
            yield from match.groups("")
        else:
            yield match[0]


# Documents --------------------------------------------------------------------------------------


class Document(Selector):
    """A parsed HTML page: the selector of all selectors.

    *markup*: UTF-8 (invalid bytes read as U+FFFD) without a byte order mark. *checked*: somebody
    (a probe in a process of its own) has seen it parse within limits; the guard is skipped.
    Raises `ExtractionError("parse_limit")`.
    """

    __slots__ = ("__weakref__", "twin")

    _value: Tree
    twin: Any

    def __init__(self, markup: bytes, *, checked: bool = False) -> None:
        if not checked and (shape := suspicion(markup)):
            raise too_costly(shape)
        try:
            tree = Tree(markup)
        except (SelectolaxError, ValueError, MemoryError) as error:
            raise ExtractionError("parse_limit", f"the parser gave up: {error}") from None
        self._value = tree
        tree.document = ref(self)
        tree.twin = self.twin = None

    @property
    def parser(self) -> LexborHTMLParser:
        """The tree, for what this module does not offer."""
        return self._value
