"""Selectors over a parsed page: CSS, `::text`, `::attr(x)`, regular expressions.

`Document` parses bytes with lexbor, behind a guard against the shapes that lexbor takes quadratic
time or memory for. `Selector` is one node, or one string that `::text` or `::attr` picked;
`SelectorList` is what `css` returns, and makes selectors only when they are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar, overload

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from scraper.errors import ExtractionError, UsageError
from scraper.guard import suspicion

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Document", "Query", "Selector", "SelectorList", "collapse", "compile_css"]

T = TypeVar("T")
Pattern = str | re.Pattern[str]
Root = LexborHTMLParser | LexborNode

# Queries ----------------------------------------------------------------------------------------


class Query(NamedTuple):
    """One part of a comma list: a plain CSS selector, and what to take of each match.

    `take`: None the element, "text" its own text nodes, "texts" those of all below it as well,
    "attr" the attribute `name`.
    """

    css: str
    take: Literal["text", "texts", "attr"] | None = None
    name: str = ""


_PSEUDO = re.compile(r"::(?:(text)|attr\(\s*([^\s()]+)\s*\))\s*\Z")
_PARTS = re.compile(r"""\\.|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[(\[]|[)\]]|,""", re.DOTALL)


@lru_cache(maxsize=1024)
def compile_css(selector: str) -> tuple[Query, ...]:
    """The parts of *selector*. Raises `UsageError` when it is not one that lexbor understands.

    Parts that take elements are kept in one query, so that their matches come in document order.
    """
    plain: list[str] = []
    queries: list[Query] = []
    for part in _split(selector):
        pseudo = _PSEUDO.search(part)
        if pseudo is None:
            plain.append(part)
        else:
            queries.append(_pseudo_query(part[: pseudo.start()], pseudo[2]))
    if plain or not queries:
        queries.insert(0, Query(",".join(plain)))
    for query in queries:
        _check(query.css, selector)
    return tuple(queries)


def _pseudo_query(css: str, name: str | None) -> Query:
    """`p::text`: of p itself. `p ::text`: of p and of everything below, as in XPath's `//`."""
    below = not css.strip() or css[-1].isspace()
    css = css.strip() or "*"
    if css[-1] in ">+~":
        css, below = f"{css} *", False
    if name is None:
        return Query(css, "texts" if below else "text")
    return Query(f"{css}, {css} *" if below and css != "*" else css, "attr", name.lower())


def _split(selector: str) -> Iterator[str]:
    """The parts between the commas that stand outside strings, brackets and parentheses."""
    start = depth = 0
    for match in _PARTS.finditer(selector):
        mark = match[0]
        if mark in "([":
            depth += 1
        elif mark in ")]":
            depth -= 1
        elif mark == "," and depth == 0:
            yield selector[start : match.start()].strip()
            start = match.end()
    yield selector[start:].strip()


def _check(css: str, selector: str) -> None:
    try:
        LexborHTMLParser(b"").css(css)
    except (SelectolaxError, UnicodeEncodeError):
        raise UsageError(
            f"not a valid CSS selector: {selector!r}",
            hint="Lexbor knows CSS Selectors level 4, and here ::text and ::attr(name) at the end"
            " of a part; :contains() is :lexbor-contains().",
        ) from None


def collapse(text: str) -> str:
    """*text* without white space at its ends, and with single spaces inside."""
    return " ".join(text.split())


# Nodes ------------------------------------------------------------------------------------------


def select(root: Root, css: str) -> list[LexborNode]:
    """The elements that match, each once, in document order; *css* was checked before."""
    nodes = root.css(css)
    if "," in css and len(nodes) > 1:  # lexbor reports a node once for every part that matches
        seen: set[int] = set()
        nodes = [n for n in nodes if not (n.mem_id in seen or seen.add(n.mem_id))]  # type: ignore[func-returns-value]
    return nodes


def own_texts(node: LexborNode) -> Iterator[str]:
    """The text nodes directly below *node*: what `::text` means."""
    for child in node.iter(include_text=True):
        if child.is_text_node and (text := child.text_content):
            yield text


def attribute(node: LexborNode, name: str) -> str | None:
    """The value of an attribute; "" when it stands without one, None when it is absent."""
    attributes = node.attrs
    if name in attributes:
        return attributes[name] or ""
    return None


def take(nodes: Iterable[LexborNode], query: Query) -> Iterator[str]:
    """The strings that *query* takes of the elements it matched."""
    if query.take == "text":
        for node in nodes:
            yield from own_texts(node)
    elif query.take == "texts":
        covered: set[int] = set()  # what lies below an earlier match was given with it
        for node in nodes:
            if node.mem_id not in covered:
                for below in node.traverse(include_text=True):
                    covered.add(below.mem_id)
                    if below.is_text_node and (text := below.text_content):
                        yield text
    else:
        for node in nodes:
            if (value := attribute(node, query.name)) is not None:
                yield value


def find(root: Root, queries: tuple[Query, ...]) -> list[LexborNode | str]:
    """Everything the parts of a selector find, in document order of the elements."""
    if len(queries) == 1:
        query = queries[0]
        nodes = select(root, query.css)
        return [*nodes] if query.take is None else [*take(nodes, query)]
    matches = [{node.mem_id for node in select(root, query.css)} for query in queries]
    found: list[LexborNode | str] = []
    for node in select(root, ",".join(query.css for query in queries)):
        for query, matched in zip(queries, matches, strict=True):
            if node.mem_id in matched:
                found += (node,) if query.take is None else take((node,), query)
    return found


class Selector:
    """One match: an element, or a string that `::text` or `::attr()` picked."""

    __slots__ = ("_value",)

    _value: Root | str

    def __init__(self, value: Root | str) -> None:
        self._value = value

    @property
    def root(self) -> Root | None:
        """The lexbor node below which `css` looks; None for a string."""
        return None if isinstance(self._value, str) else self._value

    def css(self, selector: str) -> SelectorList:
        """Everything below (or at) this element that matches. Nothing matches inside a string."""
        queries = compile_css(selector)
        return SelectorList(() if isinstance(self._value, str) else find(self._value, queries))

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
        return collapse(self.raw_text)

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
        """What *pattern* finds in `get()`: its groups if it has some, else whole matches."""
        return list(_findall(pattern, (self.get(),)))

    @overload
    def re_first(self, pattern: Pattern) -> str | None: ...
    @overload
    def re_first(self, pattern: Pattern, default: T) -> str | T: ...
    def re_first(self, pattern: Pattern, default: T | None = None) -> str | T | None:
        """The first of `re`, or *default*."""
        return next(_findall(pattern, (self.get(),)), default)

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

    @overload
    def get(self) -> str | None: ...
    @overload
    def get(self, default: T) -> str | T: ...
    def get(self, default: T | None = None) -> str | T | None:
        """The first match as a string, or *default* when there is none."""
        return Selector(self._values[0]).get() if self._values else default

    def getall(self) -> list[str]:
        """Every match as a string."""
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
        return list(_findall(pattern, self._strings()))

    @overload
    def re_first(self, pattern: Pattern) -> str | None: ...
    @overload
    def re_first(self, pattern: Pattern, default: T) -> str | T: ...
    def re_first(self, pattern: Pattern, default: T | None = None) -> str | T | None:
        """The first of `re`, or *default*."""
        return next(_findall(pattern, self._strings()), default)

    def _strings(self) -> Iterator[str]:
        return (value if isinstance(value, str) else value.html or "" for value in self._values)

    def __repr__(self) -> str:
        return f"<SelectorList of {len(self)}: {list(self[:3])!r}{' …' if len(self) > 3 else ''}>"


def _text(node: Root) -> str:
    if isinstance(node, LexborHTMLParser):
        return node.root.text() if node.root is not None else ""
    return node.text()


def _findall(pattern: Pattern, texts: Iterable[str]) -> Iterator[str]:
    compiled = compile_re(pattern)
    for text in texts:
        for match in compiled.finditer(text):
            if compiled.groups:
                yield from (group for group in match.groups() if group is not None)
            else:
                yield match[0]


def compile_re(pattern: Pattern) -> re.Pattern[str]:
    """*pattern* compiled. Raises `UsageError` when it is not a regular expression."""
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"not a valid regular expression: {pattern!r} ({error})") from None


# Documents --------------------------------------------------------------------------------------


class Document(Selector):
    """A parsed HTML page: the selector of all selectors.

    *markup*: UTF-8 (invalid bytes read as U+FFFD) without a byte order mark. *checked*: somebody
    (a probe in a process of its own) has seen it parse within limits; the guard is skipped.
    Raises `ExtractionError("parse_limit")`.
    """

    __slots__ = ()

    _value: LexborHTMLParser

    def __init__(self, markup: bytes, *, checked: bool = False) -> None:
        if not checked and (shape := suspicion(markup)):
            raise ExtractionError(
                "parse_limit",
                f"the page is too costly to parse: {shape}",
                hint="Read response.text with a regular expression if you trust the page.",
            )
        try:
            super().__init__(LexborHTMLParser(markup))
        except (SelectolaxError, ValueError, MemoryError) as error:
            raise ExtractionError("parse_limit", f"the parser gave up: {error}") from None

    @classmethod
    def of(cls, html: str) -> Self:
        """A document from a string: for tests and the shell."""
        return cls(html.encode("utf-8", "replace"))

    @property
    def parser(self) -> LexborHTMLParser:
        """The tree, for what this module does not offer."""
        return self._value
