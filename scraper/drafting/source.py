"""From a draft to a spider's source.

Nothing of the page reaches the source but plain names (`names.py`), patterns and words from this
package, and samples in comments, which are quoted as JSON, on one line, without anything that a
tool would take for a directive. Lines are those that `ruff format` leaves as they are.
"""

from __future__ import annotations

import json
import re

from scraper.drafting.model import Draft, Field, Marker

__all__ = ["marker_source", "render"]

WIDTH = 100
LEAST_SAMPLE = 12
_DIRECTIVE = re.compile(
    r"#(?!\d)|noqa|(?:type|fmt|ruff|mypy|isort|pyright|pylint|flake8|pragma)\s*:", re.IGNORECASE
)

GENERIC = (
    Field("url", Marker("Url")),
    Field("title", Marker("Css", ("h1", "title"))),
    Field("description", Marker("Css", ("meta[name=description]::attr(content)",)), "str | None"),
)
"""What every page has: for a page that could not be read, or shows nothing to go by."""


def render(draft: Draft, *, name: str, cls: str, item: str, host: str, url: str) -> str:
    """The source of a module with the spider *name*, class *cls*, and its item class *item*.

    *host* is said in docstrings and must be clean of quotes and backslashes; *url* is where the
    spider starts. The names are the caller's; all that comes from the page is cleaned here.
    """
    if draft.kind == "feed":
        return _feed(draft, name=name, cls=cls, item=item, host=host, url=url)
    fields = draft.shown or GENERIC
    body = _callbacks(draft, item)
    text = "\n".join([
        f'"""{host}: what it has, and which pages this spider reads."""',
        "",
        *_imports(draft, fields),
        "",
        "",
        f"class {item}(Item):",
        f'    """{_about(draft)}"""',
        "",
        *[line for field in fields for line in _field(field)],
        "",
        "",
        f"class {cls}(Spider):",
        f'    """{_tour(draft, host)}"""',
        "",
        f"    name = {_string(name)}",
        *_start(url),
        *_depth(draft),
        "",
        *body,
    ])
    return f"{text}\n"


def _feed(draft: Draft, *, name: str, cls: str, item: str, host: str, url: str) -> str:
    text = "\n".join([
        f'"""{host}: a feed, entry by entry."""',
        "",
        "from scraper import FeedSpider, Item, Output, Response",
        "",
        "",
        f"class {item}(Item):",
        '    """One entry of the feed. What it does not have is `None`."""',
        "",
        *[
            line + "".join(_comment(field.sample, "  ", WIDTH - len(line)))
            for field in draft.fields
            for line in [f"    {field.name}: str | None = None"]
        ],
        "",
        "",
        f"class {cls}(FeedSpider):",
        f'    """The feed of {host}."""',
        "",
        f"    name = {_string(name)}",
        *_start(url),
        f"    itertag = {_string(draft.cards)}",
        "",
        "    async def parse_row(self, response: Response, row: dict[str, str]) -> Output:",
        f"        yield {item}(",
        *[f"            {f.name}=row.get({_string(f.marker.selectors[0])})," for f in draft.fields],
        "        )",
    ])
    return f"{text}\n"


def _imports(draft: Draft, fields: tuple[Field, ...]) -> list[str]:
    kinds = {field.marker.kind for field in fields}
    names = sorted({*kinds, "Item", "Output", "Response", "Spider"})
    typing = "Annotated, ClassVar" if _depth(draft) else "Annotated"
    lines = [f"from typing import {typing}", "", f"from scraper import {', '.join(names)}"]
    if any("Amount" in field.type for field in fields):
        lines.append("from scraper.types import Amount")
    return lines


def _about(draft: Draft) -> str:
    if draft.detail or draft.kind == "detail":
        return "One page. Drafted from a single one: what others may lack is `| None`."
    if draft.kind == "list":
        return "One entry of the list. What not every entry has is `| None`."
    if draft.kind == "json":
        return "One record. What not every record has is `| None`."
    return "What one page gives. A field that is not `| None` must be there, or it is rejected."


def _tour(draft: Draft, host: str) -> str:
    if draft.detail:
        return f"The list pages of {host}, and the page of each entry."
    if draft.kind == "list":
        return f"The lists of {host}."
    if draft.kind == "detail":
        return f"Pages of {host} like the first one."
    if draft.kind == "json":
        return f"The records of {host}."
    return f"Every page of {host} that can be reached from its start."


def _start(url: str) -> list[str]:
    line = f"    start_urls = [{_string(url)}]"
    if len(line) <= WIDTH:
        return [line]
    return ["    start_urls = [", f"        {_string(url)},", "    ]"]


def _depth(draft: Draft) -> list[str]:
    if not draft.next:
        return []
    return [
        '    settings: ClassVar = {"crawl": {"max_depth": 1000}}  # a page only leads to the next'
    ]


# Fields -----------------------------------------------------------------------------------------


def _field(field: Field) -> list[str]:
    """The field's lines, with what was found as a comment behind it, or above where it is long."""
    marker = marker_source(field.marker)
    sample = field.sample if field.marker.kind != "Url" else ""
    line = f"    {field.name}: Annotated[{field.type}, {marker}]"
    if len(line) > WIDTH:
        lines = [
            f"    {field.name}: Annotated[",
            f"        {field.type},",
            *_call(field.marker),
            "    ]",
        ]
        return [*_comment(sample, "    ", WIDTH), *lines]
    room = WIDTH - len(line) - 2
    if room < LEAST_SAMPLE + 4:
        return [*_comment(sample, "    ", WIDTH), line]
    return [line + "".join(_comment(sample, "  ", room + 2))]


def _call(marker: Marker) -> list[str]:
    """The marker on a line of its own, or on several where it is too long for one."""
    line = f"        {marker_source(marker)},"
    if len(line) <= WIDTH:
        return [line]
    arguments = _arguments(marker)
    inner = [f"            {', '.join(arguments)}"]
    if len(inner[0]) > WIDTH:
        inner = [f"            {argument}," for argument in arguments]
    return [f"        {marker.kind}(", *inner, "        ),"]


def marker_source(marker: Marker) -> str:
    """``Css("h1", re=r"\\d+")``: the marker as source."""
    if marker.kind == "Row":
        return f"row[{_string(marker.selectors[0])}]"
    return f"{marker.kind}({', '.join(_arguments(marker))})"


def _arguments(marker: Marker) -> list[str]:
    parts = [_string(selector) for selector in marker.selectors]
    if marker.type is not None:
        parts.append(f"type={_string(marker.type)}")
    if marker.re is not None:
        parts.append(f"re={_pattern(marker.re)}")
    if marker.absolute:
        parts.append("absolute=True")
    return parts


def _string(text: str) -> str:
    return json.dumps(text)


def _pattern(pattern: str) -> str:
    return f'r"{pattern}"' if "\\" in pattern else f'"{pattern}"'


def _comment(sample: str, indent: str, width: int) -> list[str]:
    """The sample as a comment of at most *width* columns; nothing for no sample."""
    shown = quoted(sample, width - len(indent) - 2)
    return [f"{indent}# {shown}"] if shown else []


def quoted(sample: str, width: int) -> str:
    """*sample* as a JSON string on one line that no tool reads for a directive, cut to *width*."""
    plain = _DIRECTIVE.sub(lambda match: match[0].replace("#", "").replace(":", ""), sample)
    plain = _DIRECTIVE.sub("", plain)
    room = width - 3
    kept, cut = [], False
    for char in plain:
        shown = json.dumps(char)[1:-1] if not char.isprintable() or char in '"\\' else char
        room -= len(shown) * (1 if shown.isascii() else 2)
        if room < 0:
            cut = True
            break
        kept.append(shown)
    if not kept:
        return ""
    return f'"{"".join(kept)}{"…" if cut else ""}"'


# Callbacks --------------------------------------------------------------------------------------


def _callbacks(draft: Draft, item: str) -> list[str]:
    head = "    async def parse(self, response: Response) -> Output:"
    following = _loop(draft.next, "", "yield response.follow(link)") if draft.next else []
    if draft.detail:
        return [
            head,
            '        """A list page: each entry\'s own page, and the next list page."""',
            *_loop(draft.links, "", "yield response.follow(link, self.parse_item)"),
            *following,
            "",
            "    async def parse_item(self, response: Response) -> Output:",
            f"        yield response.extract({item})",
        ]
    if draft.kind == "list":
        return [
            head,
            '        """A list page: its entries, and the next list page."""',
            f"        for entry in response.extract_all({item}, {_string(draft.cards)}):",
            "            yield entry",
            *following,
        ]
    if draft.kind == "json":
        return [
            head,
            f"        for record in response.extract_all({item}, json={_string(draft.cards)}):",
            "            yield record",
        ]
    if draft.kind == "detail":
        return [head, f"        yield response.extract({item})", *following]
    return [
        head,
        '        """A page: its item, and the links to the next pages."""',
        f"        yield response.extract({item})",
        '        for link in response.links():  # fewer: response.links("nav a, li.next a")',
        "            yield response.follow(link)",
    ]


def _loop(css: str, more: str, body: str) -> list[str]:
    return [f"        for link in response.links({_string(css)}{more}):", f"            {body}"]
