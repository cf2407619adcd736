"""Data that a page carries for machines: JSON-LD, embedded JSON, state assigned in scripts.

Much of the web ships its content twice: as markup, and as JSON in a `<script>`. The JSON is
typed, complete, and survives a change of design. `Structured` reads it without running any
JavaScript; a block is parsed when it is first asked for, and once.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal, NamedTuple

from scraper.errors import UsageError
from scraper.select import Selector

__all__ = ["Broken", "Structured"]

JsonObject = dict[str, Any]


class Broken(NamedTuple):
    """A block that could not be read. `where`: the script's id, name, or position on the page;
    `reason`: what is wrong with it; `text`: its beginning."""

    where: str
    reason: str
    text: str


class Structured:
    """The JSON of a page. *root*: the document, or any element of it, below which to look.

    Nothing here raises because of what a page holds: blocks that are no JSON, even after the usual
    damage is mended (comments and CDATA around them, trailing commas and semicolons, raw control
    characters, `&quot;`, `NaN` read as null, lone surrogates as U+FFFD), are listed in `broken`.
    """

    def __init__(self, root: Selector) -> None:
        self._root = root

    # JSON-LD ------------------------------------------------------------------------------------

    @cached_property
    def ld(self) -> list[JsonObject]:
        """The JSON-LD nodes (objects) of the page, in document order.

        The members of top-level arrays and of `@graph` count as nodes of the page; their
        `@context` is not resolved. https://www.w3.org/TR/json-ld11/#embedding-json-ld-in-html-documents
        """
        return [node for block in self._blocks if block.kind == "ld" for node in _top(block.values)]

    def find(self, type: str) -> JsonObject | None:  # noqa: A002  # JSON-LD's own word
        """The first JSON-LD node of *type*, nested ones included; None when there is none."""
        return next(iter(self._by_type.get(_plain_type(type), ())), None)

    def find_all(self, type: str) -> list[JsonObject]:  # noqa: A002
        """Every JSON-LD node whose `@type` is or contains *type*, nested ones included.

        `"Product"` also finds `https://schema.org/Product` and `schema:Product`.
        """
        return list(self._by_type.get(_plain_type(type), ()))

    @cached_property
    def _by_type(self) -> dict[str, list[JsonObject]]:
        found: dict[str, list[JsonObject]] = {}
        for node in _objects(self.ld):
            types = node.get("@type")
            given = types if isinstance(types, list) else (types,)
            for name in {_plain_type(each) for each in given if isinstance(each, str)}:
                found.setdefault(name, []).append(node)
        return found

    # Embedded JSON ------------------------------------------------------------------------------

    @cached_property
    def scripts(self) -> Mapping[str, Any]:
        """The values of `<script type="application/json">`, by the script's id.

        One without an id goes by its `name`, else by its position among them: "0", "1", … Of
        several with the same id the first that can be read counts.
        """
        named: dict[str, list[_Block]] = {}
        for number, block in enumerate(b for b in self._blocks if b.kind == "json"):
            named.setdefault(block.name or str(number), []).append(block)
        return _Scripts(named)

    @property
    def next_data(self) -> Any:
        """The state of a Next.js page, `<script id="__NEXT_DATA__">`; None when there is none."""
        return self.script("__NEXT_DATA__")

    @cached_property
    def variables(self) -> dict[str, Any]:
        """What inline scripts assign: `window.__STATE__ = {…}`, `var state = […]`, by the name.

        Only objects and arrays that are JSON as they stand, or `JSON.parse('…')` of a string; no
        JavaScript runs, so that what is computed is not here, nor is what is empty. Of several
        assignments to a name the first counts.
        """
        found: dict[str, Any] = {}
        for block in self._blocks:
            for name, value in block.assigned:
                found.setdefault(name, value)
        return found

    def script(self, key: str) -> Any:
        """One value: by a script's id, by a variable's name, or by a CSS selector; else None.

        A selector takes the text of its first match for JSON, whatever the element is:
        `script("#app::attr(data-page)")` reads an attribute. Raises `UsageError` when *key* can be
        none of these.
        """
        for block in self._blocks:
            if block.name == key and (found := block.anything()):
                return found[0]
        if key in self.scripts:
            return self.scripts[key]
        if key in self.variables:
            return self.variables[key]
        try:
            matches = self._root.css(key)
        except UsageError:
            if _IDENTIFIER.fullmatch(key):  # an id that this page lacks
                return None
            raise
        found = _Block.of(matches[0]).anything() if matches else []
        return found[0] if found else None

    # All of it ----------------------------------------------------------------------------------

    @cached_property
    def values(self) -> list[Any]:
        """Every value of the page in document order: JSON-LD blocks, JSON scripts, variables."""
        found: list[Any] = []
        for block in self._blocks:
            found += block.values
            found += (value for _, value in block.assigned)
        return found

    @cached_property
    def broken(self) -> list[Broken]:
        """The JSON-LD and JSON blocks that could not be read, each with its reason."""
        return [
            Broken(block.name or f"script {number}", block.reason, block.text[:200])
            for number, block in enumerate(self._blocks)
            if block.reason
        ]

    @cached_property
    def _blocks(self) -> list[_Block]:
        return [_Block.of(script) for script in self._root.css("script")]

    def __repr__(self) -> str:
        count = {kind: sum(b.kind == kind for b in self._blocks) for kind in ("ld", "json")}
        return f"<Structured {count['ld']} JSON-LD, {count['json']} JSON>"


# Blocks -----------------------------------------------------------------------------------------

_JSON_TYPE = re.compile(
    r"\s*(?:application|text)/(?:(ld)\+|[\w.-]+\+|x-)?json\s*(?:;|\Z)", re.IGNORECASE
)
_CODE_TYPE = re.compile(
    r"\s*(?:(?:text|application)/(?:x-)?(?:java|ecma|j|live)script[\d.]*|module)?\s*(?:;|\Z)",
    re.IGNORECASE,
)


class _Block:
    """One script: its text is read, and parsed, when it is first asked for."""

    def __init__(self, kind: Literal["ld", "json", "code", ""], name: str, source: Selector):
        self.kind = kind
        self.name = name
        self._source = source

    @classmethod
    def of(cls, match: Selector) -> _Block:
        """A block of a `<script>`; of anything else, taken for JSON."""
        attributes = match.attrib
        name = attributes.get("id") or attributes.get("name") or ""
        if match.tag != "script":
            return cls("json", name, match)
        kind = attributes.get("type", "")
        if (json_type := _JSON_TYPE.match(kind)) is not None:
            return cls("ld" if json_type[1] else "json", name, match)
        code = _CODE_TYPE.match(kind) is not None and "src" not in attributes
        return cls("code" if code else "", name, match)

    @property
    def text(self) -> str:
        return self._source.raw_text

    @cached_property
    def _read(self) -> tuple[list[Any], str]:
        if self.kind not in {"ld", "json"}:
            return [], ""
        try:
            return [_loads(self.text)], ""
        except (ValueError, RecursionError) as error:
            return [], str(error) or type(error).__name__

    @property
    def values(self) -> list[Any]:
        """The block's value, as a list of one; empty when it cannot be read, or is no JSON."""
        return self._read[0]

    def anything(self) -> list[Any]:
        """What the block holds when it was asked for by name: its text as JSON, whatever its type
        says, or else what its code assigns first."""
        if self.kind in {"ld", "json"}:
            return self.values
        try:
            return [_loads(self.text)]
        except (ValueError, RecursionError):
            return [value for _, value in self.assigned[:1]]

    @property
    def reason(self) -> str:
        """Why the block cannot be read; "" when it can."""
        return self._read[1]

    @cached_property
    def assigned(self) -> list[tuple[str, Any]]:
        """The JSON that the script's code assigns, with the names it goes to."""
        return list(_assignments(self.text)) if self.kind == "code" else []


class _Scripts(Mapping[str, Any]):
    """Values by name, of which only those asked for are parsed."""

    def __init__(self, named: dict[str, list[_Block]]) -> None:
        self._named = named

    def __getitem__(self, name: str) -> Any:
        for block in self._named[name]:
            if block.values:
                return block.values[0]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._named if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<scripts {', '.join(self._named)}>"


# Reading damaged JSON -----------------------------------------------------------------------------

_IDENTIFIER = re.compile(r"[\w:.$-]+")
_WRAPPING_START = re.compile(r"(?:\s|\ufeff|//|/\*|\*/|<!--|<!\[CDATA\[)+")
_WRAPPING_END = ("//", "/*", "*/", "-->", "]]>")
_STRING = r'"(?:[^"\\]|\\.)*+\\?(?:"|\Z)'
_EXTRAS = re.compile(rf"({_STRING})|//[^\n]*|/\*.*?(?:\*/|\Z)|,(?=\s*[}}\]])", re.DOTALL)
_SURROGATES = re.compile(
    r"\\(?:u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}"
    r"|(u[dD][89a-fA-F][\da-fA-F]{2})|.)",
    re.DOTALL,
)

_DECODER = json.JSONDecoder(strict=False, parse_constant=lambda _: None)


def _loads(text: str) -> Any:
    """The JSON in *text*, mended where that is safe. Raises `ValueError`, `RecursionError`."""
    text = _without_lone_surrogates(_unwrapped(text))
    if not text:
        raise ValueError("the block is empty")
    try:
        return _DECODER.decode(text)
    except ValueError as error:
        for mended in (_EXTRAS.sub(_kept_string, text), html.unescape(text)):
            if mended != text:
                try:
                    return _DECODER.decode(mended)
                except ValueError:
                    continue
        raise error from None


def _unwrapped(text: str) -> str:
    """*text* without the marks of comments and CDATA sections, and the semicolons, around it."""
    match = _WRAPPING_START.match(text)
    start, end, before = match.end() if match else 0, len(text), -1
    while end != before:
        before = end
        while end > start and (text[end - 1] == ";" or text[end - 1].isspace()):
            end -= 1
        for mark in _WRAPPING_END:
            if text.endswith(mark, start, end):
                end -= len(mark)
    return text[start:end]


def _kept_string(match: re.Match[str]) -> str:
    return match[1] or ""


def _without_lone_surrogates(text: str) -> str:
    """JSON source whose escapes make whole characters, so that every string can be written."""
    if "\\ud" not in text and "\\uD" not in text:
        return text
    return _SURROGATES.sub(lambda m: "\\ufffd" if m[1] else m[0], text)


# Assignments in code ------------------------------------------------------------------------------

_ASSIGNMENT = re.compile(
    r"""(?<![\w$.])(?:(?:window|self|globalThis)\s*(?:\.\s*|\[\s*["'](?=[^"'\n]{1,100}["']\s*\]))
        |(?:var|let|const)\s+)
        (?P<name>[\w$]+(?:\.[\w$]+)*)
        (?:["']\s*\])?\s*=\s*(?:(?P<parse>JSON\s*\.\s*parse\s*\(\s*)(?=["'])|(?=[\[{]))""",
    re.VERBOSE,
)
_STATEMENT_END = re.compile(r"\s*(?:[;,)}]|\Z|/[/*])|[^\S\n]*\n\s*[\w$]")
_COMMENTED = re.compile(r"\s*(?://|\*|/\*)")
_JS_STRING = re.compile(r"""(["'])((?:(?!\1)[^\\\n]|\\.)*+)\1\s*\)""", re.DOTALL)
_JS_ESCAPE = re.compile(
    r"\\(?:u\{([\da-fA-F]{1,6})\}|u([\da-fA-F]{4})|x([\da-fA-F]{2})|(\r\n|.))", re.DOTALL
)
_JS_CHARACTERS: Mapping[str, str] = {
    **dict(zip("bfnrtv0", "\b\f\n\r\t\v\0", strict=True)),
    **dict.fromkeys(("\n", "\r", "\r\n", "\u2028", "\u2029"), ""),  # a string over two lines
}
_MAX_ASSIGNMENTS = 1_000  # per script: more is no page's state


def _assignments(code: str) -> Iterator[tuple[str, Any]]:
    """(name, value) of what *code* assigns as plain JSON; the rest is passed over."""
    at = 0
    for _ in range(_MAX_ASSIGNMENTS):
        match = _ASSIGNMENT.search(code, at)
        if match is None:
            return
        at = match.end()
        line = code[max(code.rfind("\n", 0, match.start()) + 1, match.start() - 200) : at]
        if _COMMENTED.match(line):
            continue
        try:
            value, end = _literal(code, at, parsed=match["parse"] is not None)
        except (ValueError, RecursionError):
            continue
        if _STATEMENT_END.match(code, end):
            at = end
            if value:
                yield match["name"], value


def _literal(code: str, at: int, *, parsed: bool) -> tuple[Any, int]:
    """The JSON that begins at *at*, and where it ends. *parsed*: it is in a string literal."""
    if not parsed:
        return _DECODER.raw_decode(code, at)
    literal = _JS_STRING.match(code, at)
    if literal is None:
        raise ValueError("no plain string")
    text = _JS_ESCAPE.sub(_unescaped, literal[2])
    return _loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")), literal.end()


def _unescaped(match: re.Match[str]) -> str:
    if code := match[1] or match[2] or match[3]:
        point = int(code, 16)
        return chr(point) if point <= 0x10FFFF else "\ufffd"
    return _JS_CHARACTERS.get(match[4], match[4])


# JSON-LD ------------------------------------------------------------------------------------------

_SCHEMA_ORG = re.compile(r"\A(?:https?://(?:www\.)?schema\.org/|schema:)")


def _plain_type(name: str) -> str:
    return _SCHEMA_ORG.sub("", name.strip(), count=1)


def _top(values: Iterable[Any]) -> Iterator[JsonObject]:
    """The nodes of a block: arrays and graphs opened, without recursion."""
    stack = [iter(values)]
    while stack:
        for value in stack[-1]:
            if isinstance(value, list):
                stack.append(iter(value))
                break
            if isinstance(value, dict):
                graph = value.get("@graph")
                if graph is None or "@type" in value:
                    yield value
                if isinstance(graph, (list, dict)):
                    stack.append(iter(graph if isinstance(graph, list) else (graph,)))
                    break
        else:
            stack.pop()


def _objects(values: Iterable[Any]) -> Iterator[JsonObject]:
    """Every object in *values*, however deep, each once, outer ones first, without recursion."""
    seen: set[int] = set()
    stack = [iter(values)]
    while stack:
        for value in stack[-1]:
            if isinstance(value, dict):
                if id(value) in seen:  # a graph's member: listed, and inside its container
                    continue
                seen.add(id(value))
                yield value
                stack.append(iter(value.values()))
                break
            if isinstance(value, list):
                stack.append(iter(value))
                break
        else:
            stack.pop()
