"""The nodes of a page that lexbor parsed: what selectors, items and links take of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from weakref import ref

from selectolax.lexbor import LexborHTMLParser, LexborNode

from scraper.queries import Query

if TYPE_CHECKING:
    from scraper.select import Document

__all__ = ["Root", "Tree", "attribute", "find", "own_texts", "select", "take"]

Root = LexborHTMLParser | LexborNode


class Tree(LexborHTMLParser):
    """A parsed page that knows where its twin for XPath is kept: see `scraper.xpath`.

    The twin refers to nodes, and nodes to their tree. So that memory is freed at once when a page
    is done with, the twin belongs to the page's `Document`, and to the tree only without one.
    """

    __slots__ = ("document", "twin")

    document: ref[Document]
    twin: Any

    def holder(self) -> Tree | Document:
        """What has the attribute `twin`."""
        document = self.document()
        return self if document is None else document


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
    try:
        return node.attrs[name] or ""
    except KeyError:
        return None


def take(nodes: Sequence[LexborNode], query: Query) -> Iterator[str]:
    """The strings that *query* takes of the elements it matched, in document order."""
    if query.take == "attr":
        for node in nodes:
            if (value := attribute(node, query.name)) is not None:
                yield value
    elif query.take == "texts":
        yield from _texts(nodes, None)
    elif len(nodes) > 1 and _nested(nodes, own := {node.mem_id for node in nodes}):
        yield from _texts(nodes, own)
    else:
        for node in nodes:
            yield from own_texts(node)


def _texts(nodes: Iterable[LexborNode], own: set[int] | None) -> Iterator[str]:
    """The text nodes inside *nodes*, each once; only those directly below one of *own*, if given.

    Every subtree is walked once, however many of its elements are among *nodes*.
    """
    seen: set[int] = set()
    for node in nodes:
        if node.mem_id in seen:
            continue
        for below in node.traverse(include_text=True):
            if not below.is_text_node:
                seen.add(below.mem_id)
            elif own is None or ((parent := below.parent) is not None and parent.mem_id in own):
                yield below.text_content or ""


def _nested(nodes: Iterable[LexborNode], own: set[int]) -> bool:
    """Whether one of *nodes*, whose ids are *own*, lies inside of another."""
    outside: set[int] = set()  # ancestors that lie in none
    for node in nodes:
        parent = node.parent
        while parent is not None and (key := parent.mem_id) not in outside:
            if key in own:
                return True
            outside.add(key)
            parent = parent.parent
    return False


def find(root: Root, queries: tuple[Query, ...]) -> list[LexborNode | str]:
    """Everything the parts of a selector find, each once, in document order."""
    if len(queries) == 1:
        query = queries[0]
        if query.plain and isinstance(root, LexborHTMLParser):
            nodes = root.tags(query.css)  # the same, and no selector to be read: an eighth
        else:
            nodes = select(root, query.css)
        return nodes if query.take is None else [*take(nodes, query)]  # type: ignore[return-value]
    wanted: dict[int, list[Query]] = {}
    for query in queries:
        for node in select(root, query.css):
            wanted.setdefault(node.mem_id, []).append(query)
    if any(query.take in {"text", "texts"} for query in queries):
        top = root.root if isinstance(root, LexborHTMLParser) else root
        return [] if top is None else [*_mixed(top.traverse(include_text=True), wanted)]
    return [*_mixed(select(root, ",".join(query.css for query in queries)), wanted)]


def _mixed(
    nodes: Iterable[LexborNode], wanted: dict[int, list[Query]]
) -> Iterator[LexborNode | str]:
    """What is *wanted* of *nodes* (by their ids), given in document order: a walk of the page."""
    own: set[int] = set()  # elements whose text nodes are wanted
    below: set[int] = set()  # those of whose descendants they are wanted as well
    for node in nodes:
        if node.is_text_node:
            if (parent := node.parent) is not None and parent.mem_id in own:
                yield node.text_content or ""
            continue
        queries = wanted.get(node.mem_id, ())
        takes = {query.take for query in queries}
        if "texts" in takes or (below and (up := node.parent) is not None and up.mem_id in below):
            below.add(node.mem_id)
            own.add(node.mem_id)
        elif "text" in takes:
            own.add(node.mem_id)
        if None in takes:
            yield node
        if "attr" in takes:
            names = {query.name for query in queries if query.take == "attr"}
            attributes = node.attributes.items()
            yield from (value or "" for name, value in attributes if name.lower() in names)
