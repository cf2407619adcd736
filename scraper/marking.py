"""What all markers share: the page they look at, their options, and what they compile to.

A marker is a declaration. It compiles to a list of *ways*, one for each of its alternatives:
functions that take the place to look in (an element, or a JSON value) and the page, and give a
value, or None when nothing is there. `scraper.plans` puts them in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from scraper import urls
from scraper.errors import ExtractionError
from scraper.select import Pattern, Selector, SelectorList, compile_re

if TYPE_CHECKING:
    from scraper.structured import Structured

__all__ = ["UNSET", "Kind", "Marker", "Refine", "Search", "Source", "Way"]

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

UNSET: Any = type("Unset", (), {"__repr__": lambda _: "<unset>"})()


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
        return self.default is not UNSET

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
