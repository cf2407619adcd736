"""XPath over the same pages as CSS: the one home of lxml.

An HTML page was parsed by lexbor, and its nodes stay lexbor's. For XPath a *twin* of that tree is
grown in lxml, once for a page, with a map between the two: so `xpath` finds the nodes that `css`
would, and one can follow the other. XML (feeds, sitemaps, documents) is parsed by libxml2 itself,
hardened: entities are refused, nothing is loaded, what is damaged is read as far as it goes.

XPath 1.0 (https://www.w3.org/TR/xpath-10/), and as in parsel `re:test`, `re:match`, `re:replace`
and `set:…` of EXSLT, and `has-class('a', 'b')`. Importing this module raises `UsageError` when
lxml is not installed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from html.entities import html5
from typing import Any, cast

from selectolax.lexbor import LexborHTMLParser, LexborNode

from scraper.errors import ExtractionError, UsageError
from scraper.nodes import Root, Tree
from scraper.select import Selector

try:
    from lxml import etree
except ImportError:
    raise UsageError(
        "response.xpath() needs lxml, which is not installed",
        hint="pip install 'scraper-framework[xpath]'; or use CSS: response.css().",
    ) from None

__all__ = ["XmlDocument", "compile_xpath", "find"]

Namespaces = Mapping[str, str]

# Queries ----------------------------------------------------------------------------------------

_EXSLT_RE = ("re", "http://exslt.org/regular-expressions")
_EXSLT_SETS = ("set", "http://exslt.org/sets")
_FAILURES = (etree.LxmlError, ValueError, TypeError, ArithmeticError, RecursionError, re.error)


def find(
    root: Root | XmlNode,
    query: str,
    namespaces: Namespaces | None = None,
    variables: Mapping[str, Any] | None = None,
) -> list[LexborNode | str]:
    """What *query* finds, seen from *root*: nodes, and strings for text, attributes and values.

    As parsel gives them, a number is "3.0", true and false are "1" and "0". Raises `UsageError`
    for a query that is none, or that names a variable, a function or a prefix that is not known.
    """
    if isinstance(root, XmlNode):
        known = root.document.namespaces
        if namespaces is not None:
            known = {**known, **namespaces}
        compiled = compile_xpath(query, tuple(known.items()))
        return _converted(_run(compiled, root.element, variables), root.node_of)
    compiled = compile_xpath(query, () if namespaces is None else tuple(namespaces.items()))
    twin = _twin(root)
    at = twin.element_of(root)
    if at is None:
        return []
    return _converted(_run(compiled, at, variables), twin.node_of)


def _run(query: etree.XPath, at: etree._Element, variables: Mapping[str, Any] | None) -> Any:
    values = {name: _text(value) for name, value in (variables or {}).items()}
    try:
        return query(at, **values)
    except _FAILURES as error:
        raise _wrong(query.path, error) from None


def compile_xpath(query: str, namespaces: tuple[tuple[str, str], ...] = ()) -> etree.XPath:
    """*query* compiled, from a cache. Raises `UsageError` when it is not XPath."""
    # Sets are registered anew with every call, and libxml2 notes each time: those are not kept.
    compiled = _compile.__wrapped__ if "set:" in query else _compile
    return compiled(query, namespaces)


@lru_cache(maxsize=1024)
def _compile(query: str, namespaces: tuple[tuple[str, str], ...]) -> etree.XPath:
    sets = (_EXSLT_SETS,) if "set:" in query else ()
    try:
        return etree.XPath(
            query,
            namespaces=dict((_EXSLT_RE, *sets, *namespaces)),
            extensions={(None, "has-class"): _has_class},
            smart_strings=False,
        )
    except _FAILURES as error:
        raise _wrong(query, error) from None


def _wrong(query: str, error: Exception) -> UsageError:
    return UsageError(
        f"XPath {query!r}: {error}",
        hint="This is XPath 1.0: variables are given by name, xpath('//a[@id=$id]', id=…), and"
        " prefixes by namespaces={'prefix': 'uri'}; re:test() and has-class() are known.",
    )


def _has_class(context: Any, *names: str) -> bool:
    """Whether the context node has all of *names* among its classes: parsel's, which wins in a
    process that imports it too."""
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("has-class() takes one or more names, as strings")
    classes = " ".join((context.context_node.get("class") or "").split())
    return all(f" {name} " in f" {classes} " for name in names)


def _converted(
    result: Any, node_of: Callable[[etree._Element], LexborNode | None]
) -> list[LexborNode | str]:
    if not isinstance(result, list):
        return [str(int(result)) if isinstance(result, bool) else str(result)]
    found: list[LexborNode | str] = []
    for value in result:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, tuple):  # the namespace axis: prefix and name
            found.append(value[1])
        elif (node := node_of(value)) is not None:
            found.append(node)
        else:  # made by a function: re:match
            found.append(value.text or "")
    return found


# The twin of a page -----------------------------------------------------------------------------

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NO_NAME = re.compile(r"""[&<>"'{}\s/\x00-\x20\x7f\ufffe\uffff]""")


def _text(value: Any) -> Any:
    """A string without what XML cannot hold, as the twin has it; anything else as it is."""
    return _NO_XML.sub("\ufffd", value) if isinstance(value, str) else value


class Twin:
    """A page's tree in lxml, and the way from its elements to lexbor's nodes and back.

    Control characters, which XML cannot hold, are U+FFFD. Names are those of the source in lower
    case, without namespaces: `//svg`, `//lineargradient`, `@viewbox`.
    """

    __slots__ = ("_elements", "_nodes")

    def __init__(self, parser: LexborHTMLParser) -> None:
        self._elements: dict[int, etree._Element] = {}
        self._nodes: dict[etree._Element, LexborNode] = {}  # keeps the proxies, and so their ids
        if parser.root is not None:
            self._grow(parser.root)

    def element_of(self, root: Root) -> etree._Element | None:
        """The element that stands for *root*; None when that is no longer part of the page."""
        node = root.root if isinstance(root, LexborHTMLParser) else root
        return None if node is None else self._elements.get(node.mem_id)

    def node_of(self, element: etree._Element) -> LexborNode | None:
        """The node that *element* stands for."""
        return self._nodes.get(element)

    def _grow(self, root: LexborNode) -> None:
        element = etree.HTMLParser().makeelement("html")  # names by HTML's rules, not by XML's
        for name, value in _cleaned(_attributes(root)).items():
            element.set(name, value)
        self._pair(root, element)
        self._add_outside(root, element)
        elements, nodes, todo = self._elements, self._nodes, [(root, element)]
        while todo:
            node, element = todo.pop()
            last: etree._Element | None = None
            for child in node.iter(include_text=True):
                if child.is_text_node:
                    _add_text(element, last, child.text_content or "")
                    continue
                last = _sprout(element, child)
                elements[child.mem_id] = last
                nodes[last] = child
                if child.first_child is not None:
                    todo.append((child, last))

    def _add_outside(self, root: LexborNode, element: etree._Element) -> None:
        """The comments before and after the root."""
        add = element.addprevious
        for node in root.parent.iter() if root.parent is not None else ():
            if node.mem_id == root.mem_id:
                add = element.addnext
            elif node.is_comment_node:
                twin = _comment(node)
                add(twin)
                self._pair(node, twin)
                if add != element.addprevious:
                    add = twin.addnext

    def _pair(self, node: LexborNode, element: etree._Element) -> None:
        self._elements[node.mem_id] = element
        self._nodes[element] = node


def _sprout(parent: etree._Element, node: LexborNode) -> etree._Element:
    """The twin of *node*, which is no text, as the last child of *parent*."""
    if node.is_element_node:
        name = (node.tag or "").lower()
        attributes = _attributes(node)
        try:
            return etree.SubElement(parent, name, attributes)
        except ValueError:
            return etree.SubElement(parent, _NO_NAME.sub("_", name), _cleaned(attributes))
    twin = _comment(node) if node.is_comment_node else etree.ProcessingInstruction("pi")
    parent.append(twin)
    return twin


def _comment(node: LexborNode) -> etree._Element:
    twin = etree.Comment()
    twin.text = _text(node.comment_content or "")
    return twin


def _attributes(node: LexborNode) -> dict[str, str]:
    """The attributes by the names that XPath knows them by."""
    found = {name.lower(): value or "" for name, value in node.attributes.items()}
    if "{" in "".join(found):  # would be a namespace
        return {_NO_NAME.sub("_", name): value for name, value in found.items()}
    return found


def _cleaned(attributes: dict[str, str]) -> dict[str, str]:
    return {_NO_NAME.sub("_", name): _text(value) for name, value in attributes.items()}


def _add_text(parent: etree._Element, last: etree._Element | None, text: str) -> None:
    """Appends *text* to what *parent* holds, after its child *last*."""
    try:
        if last is None:
            before = parent.text
            parent.text = before + text if before else text
        else:
            before = last.tail
            last.tail = before + text if before else text
    except ValueError:
        _add_text(parent, last, _text(text))


def _twin(root: Root) -> Twin:
    """The twin of the page that *root* is of, grown when it is first asked for."""
    tree = root if isinstance(root, LexborHTMLParser) else root.parser
    if not isinstance(tree, Tree):
        return Twin(tree)
    holder = tree.holder()
    if holder.twin is None:
        holder.twin = Twin(tree)
    return cast("Twin", holder.twin)


# XML --------------------------------------------------------------------------------------------


class XmlNode:
    """A node of an XML document, where selectors have a `LexborNode` of an HTML page."""

    __slots__ = ("document", "element")

    parser: None = None

    def __init__(self, element: etree._Element, document: XmlDocument) -> None:
        self.element = element
        self.document = document

    def node_of(self, element: etree._Element) -> LexborNode | None:
        """*element* as a node."""
        if _is_foreign(element):
            return None
        return cast("LexborNode", XmlNode(element, self.document))

    @property
    def html(self) -> str:
        """The node as XML."""
        return etree.tostring(self.element, encoding="unicode", with_tail=False)

    def text(self) -> str:
        """All descendant text."""
        return str(_STRING_VALUE(self.element))

    @property
    def tag(self) -> str:
        """The name without its namespace; "" for comments and the like."""
        name: Any = self.element.tag
        return name.rpartition("}")[2] if isinstance(name, str) else ""

    @property
    def attributes(self) -> dict[str, str]:
        """The attributes; those with a namespace as `{uri}name`."""
        return {str(name): str(value) for name, value in self.element.attrib.items()}

    @property
    def parent(self) -> XmlNode | None:
        """The element around it; None for the root."""
        parent = self.element.getparent()
        return None if parent is None else XmlNode(parent, self.document)

    def decompose(self) -> None:
        """Takes the node out of the document; the text after it stays."""
        parent = self.element.getparent()
        if parent is not None:
            _add_text(parent, self.element.getprevious(), self.element.tail or "")
            parent.remove(self.element)

    def css(self, selector: str) -> list[LexborNode]:
        """Raises `UsageError`: CSS is for HTML."""
        raise UsageError(
            f"{selector!r} is a CSS selector, and this is XML",
            hint="Use xpath(): names keep their case, and prefixes are given by namespaces={…}.",
        )

    css_first = css


_STRING_VALUE = etree.XPath("string()", smart_strings=False)
_MATCH = "match"  # the element that re:match makes


def _is_foreign(element: etree._Element) -> bool:
    return element.getparent() is None and element.tag == _MATCH and not element.attrib


class XmlDocument(Selector):
    """A parsed XML document: feeds, sitemaps, whatever is XML and not a page.

    *text*: the document, decoded. Prefixes that its root declares can be used as they are. A
    default namespace has none: `xpath("//a:id", namespaces={"a": "http://www.w3.org/2005/Atom"})`,
    or `remove_namespaces()` first. Damaged XML is read as far as it goes, `&nbsp;` and a bare `&`
    as in HTML; where there is none at all, nothing is found. Raises
    `ExtractionError("xml_entity")` when entities are declared: they are how small files become
    large ones, or read others.
    """

    __slots__ = ("namespaces",)

    namespaces: Namespaces

    def __init__(self, text: str) -> None:
        if (subset := _INTERNAL_SUBSET.match(text)) and "<!ENTITY" in text[subset.end() :]:
            raise _entities()
        parser = etree.XMLParser(
            encoding="utf-8",
            recover=True,
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
        )
        body = _REFERENCE.sub(_resolved, _text(_DECLARATION.sub("", text, count=1)).strip())
        try:
            root = etree.fromstring(body.encode("utf-8", "replace"), parser)
        except (etree.LxmlError, ValueError):
            root = None
        if root is None:
            root = etree.Element("empty")
        dtd: Any = root.getroottree().docinfo.internalDTD
        if dtd is not None and any(dtd.iterentities()):
            raise _entities()
        self.namespaces = {p: uri for p, uri in root.nsmap.items() if p is not None}
        super().__init__(cast("LexborNode", XmlNode(root, self)))

    def remove_namespaces(self) -> None:
        """Takes the namespaces from all names: `//entry` then finds the entries of an Atom feed."""
        node = cast("XmlNode", self._value)
        for element in node.element.iter("*"):
            for name, value in list(element.attrib.items()):
                if str(name)[0] == "{":
                    with suppress(ValueError):  # what is left is no name: damaged XML
                        element.set(str(name).rpartition("}")[2], value)
                        del element.attrib[name]
            if element.tag[0] == "{":
                with suppress(ValueError):
                    element.tag = element.tag.rpartition("}")[2]
        etree.cleanup_namespaces(node.element)


_DECLARATION = re.compile(r"\A[\s\ufeff]*<\?xml\s[^>]*>")
_REFERENCE = re.compile(
    r"<!\[CDATA\[.*?(?:\]\]>|\Z)|<!--.*?(?:-->|\Z)|&(?:\#\d+;|\#x[\da-fA-F]+;|([A-Za-z]\w*;))?",
    re.DOTALL,
)
_INTERNAL_SUBSET = re.compile(
    r"""(?:[\s\ufeff]|<\?.*?\?>|<!--.*?-->)*+<!DOCTYPE(?:"[^"]*"|'[^']*'|[^"'\[>])*\[""", re.DOTALL
)


def _resolved(match: re.Match[str]) -> str:
    """A reference as XML without a DTD knows it; CDATA sections and comments as they are."""
    if match[0] == "&":
        return "&amp;"
    name = match[1]
    if name is None or name in {"amp;", "lt;", "gt;", "quot;", "apos;"}:
        return match[0]
    return "".join(f"&#{ord(c)};" for c in html5[name]) if name in html5 else f"&amp;{name}"


def _entities() -> ExtractionError:
    return ExtractionError(
        "xml_entity",
        "the XML declares entities, which are not read",
        hint="Read response.text with a regular expression if you trust the document.",
    )
