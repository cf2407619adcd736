"""The controls of a form, and what each of them sends: by the HTML Standard, section 4.10.

Read only: what a user fills in stands beside the controls, in `forms`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from selectolax.lexbor import LexborHTMLParser, LexborNode

from scraper.select import Document, collapse

__all__ = ["BUTTONS", "CHOICES", "Choice", "Control", "Owners", "is_charset", "names", "spelled"]

Attributes = dict[str, str | None]

CONTROLS = "button,input,select,textarea"
BUTTONS = frozenset({"button", "image", "reset", "submit"})
CLICKABLE = frozenset({"image", "submit"})
CHOICES = frozenset({"checkbox", "radio", "select", "select-multiple"})

_KINDS = frozenset({
    "button", "checkbox", "color", "date", "datetime-local", "email", "file", "hidden", "image",
    "month", "number", "password", "radio", "range", "reset", "search", "submit", "tel", "text",
    "time", "url", "week",
})  # fmt: skip
_ONE_LINE = frozenset({"email", "password", "search", "tel", "text", "url"})
_DIRECTED = _ONE_LINE | {"hidden", "textarea", *BUTTONS}
_LINE_ENDS = re.compile(r"[\r\n]+")


class Choice(NamedTuple):
    """An option of a select. `label`: what people see."""

    value: str
    label: str
    selected: bool
    disabled: bool


@dataclass(slots=True, eq=False)
class Control:
    """One control of a form, as the page shows it.

    `kind`: the type of an input or button; `select`, `select-multiple` or `textarea`. `value`:
    what it sends, or would when checked. `checked`: of check boxes and radio buttons.
    """

    node: LexborNode
    kind: str
    name: str
    attributes: Attributes
    value: str
    label: str = ""
    disabled: bool = False
    checked: bool = False
    choices: tuple[Choice, ...] = ()

    @property
    def clickable(self) -> bool:
        """Whether it sends the form."""
        return self.kind in CLICKABLE and not self.disabled

    @property
    def offered(self) -> list[str]:
        """The values one can choose from."""
        return [choice.value for choice in self.choices] if self.choices else [self.value]

    def default(self) -> list[str]:
        """The values that it sends untouched. Files and buttons are not asked."""
        if self.kind in ("checkbox", "radio"):
            return [self.value] if self.checked else []
        if self.kind not in CHOICES:
            return [self.value]
        chosen = [choice for choice in self.choices if choice.selected]
        if self.kind == "select":
            if not chosen and _number(self.attributes.get("size"), 1) <= 1:
                chosen = [choice for choice in self.choices if not choice.disabled][:1]
            chosen = chosen[-1:]
        return [choice.value for choice in chosen if not choice.disabled]

    def direction(self) -> tuple[str, str] | None:
        """The field that `dirname` adds, if it does: the text's direction."""
        field = self.attributes.get("dirname")
        if not field or self.kind not in _DIRECTED:
            return None
        node: LexborNode | None = self.node
        while node is not None:
            said = (node.attributes.get("dir") or "").lower()
            if said in ("ltr", "rtl"):
                return field, said
            node = node.parent
        return field, "ltr"


def is_charset(control: Control) -> bool:
    """Whether the field tells the server the encoding of the form."""
    return control.kind == "hidden" and control.name.lower() == "_charset_"


_SPELLED = {"big5": "Big5", "shift_jis": "Shift_JIS"}


def spelled(encoding: str) -> str:
    """The name of an encoding as browsers spell it in a `_charset_` field."""
    if encoding.startswith(("windows-", "x-", "mac", "gb18030")):
        return encoding
    return _SPELLED.get(encoding) or encoding.upper()


# Reading ----------------------------------------------------------------------------------------


class Owners:
    """The forms of a page, and which controls belong to which.

    *source*: the page's text. The tree alone does not tell everything: `<table><form><tr>` leaves
    an empty form in the tree, whose controls stand beside it; browsers remember the form until its
    end tag.
    """

    def __init__(self, document: Document, source: str) -> None:
        parser = document.parser
        self.forms: list[LexborNode] = parser.css("form")
        self._nodes: list[LexborNode] = parser.css(CONTROLS)
        self._inert = {n.mem_id for n in parser.css(_below("datalist"))}
        self._doubtful = {n.mem_id for n in parser.css(_below("fieldset[disabled]"))}
        self._owners = self._owned(parser, source)

    def controls(self, form: LexborNode) -> list[Control]:
        """What *form* owns, in tree order. Controls in a datalist are not there."""
        owned = [
            node
            for node in self._nodes
            if self._owners.get(node.mem_id) == form.mem_id and node.mem_id not in self._inert
        ]
        controls = [_control(node, disabled=self._disabled(node)) for node in owned]
        seen: set[str] = set()
        for control in reversed(controls):  # of a group of radio buttons the last one stays on
            if control.kind == "radio" and control.checked and control.name:
                control.checked = control.name not in seen
                seen.add(control.name)
        return controls

    def form_of(self, node: LexborNode) -> LexborNode | None:
        """The form that *node* is, or belongs to, or lies in."""
        if node.tag == "form":
            return node
        owner = self._owners.get(node.mem_id)
        if owner is not None:
            return next(form for form in self.forms if form.mem_id == owner)
        return _nearest_form(node)

    def _owned(self, parser: LexborHTMLParser, source: str) -> dict[int, int]:
        """The form of each control that has one, by the ids of their nodes."""
        owners: dict[int, int] = {}
        for form in self.forms:  # outer forms come first: the innermost has the last word
            for node in form.css(CONTROLS):
                owners[node.mem_id] = form.mem_id
        said = [node for node in self._nodes if "form" in node.attributes]
        if said:
            ids: dict[str, LexborNode] = {}
            for node in parser.css("[id]"):
                ids.setdefault(node.attributes["id"] or "", node)
            for node in said:
                owners.pop(node.mem_id, None)
                owner = ids.get(node.attributes["form"] or "")
                if owner is not None and owner.tag == "form":
                    owners[node.mem_id] = owner.mem_id
        loose = {n.mem_id for n in self._nodes} - owners.keys() - {n.mem_id for n in said}
        if loose and self.forms:
            for node, open_form in zip(self._nodes, self._by_source(source), strict=False):
                if open_form is not None and node.mem_id in loose:
                    owners[node.mem_id] = open_form.mem_id
        return owners

    def _by_source(self, source: str) -> Iterator[LexborNode | None]:
        """The form that stands open in the source at each control, if both tell the same story."""
        open_: int | None = None
        forms = 0
        controls: list[tuple[str, str]] = []
        found: list[int | None] = []
        for end, tag, rest in _tags(source):
            if tag == "form":
                if end:
                    open_ = None
                elif open_ is None:
                    open_, forms = forms, forms + 1
            elif not end:
                controls.append((tag, rest))
                found.append(open_)
        if forms == len(self.forms) and [
            (node.tag or "", _attribute_name(node)) for node in self._nodes
        ] == [(tag, _written_name(rest)) for tag, rest in controls]:
            return (None if number is None else self.forms[number] for number in found)
        return iter(())

    def _disabled(self, node: LexborNode) -> bool:
        if "disabled" in node.attributes:
            return True
        if node.mem_id not in self._doubtful:
            return False
        below: LexborNode = node
        parent: LexborNode | None = node.parent
        while parent is not None:
            if parent.tag == "fieldset" and "disabled" in parent.attributes:
                legend = next((child for child in parent.iter() if child.tag == "legend"), None)
                if legend is None or legend.mem_id != below.mem_id:
                    return True
            below, parent = parent, parent.parent
        return False


def _below(css: str) -> str:
    return ",".join(f"{css} {tag}" for tag in CONTROLS.split(","))


def _nearest_form(node: LexborNode) -> LexborNode | None:
    parent = node.parent
    while parent is not None and parent.tag != "form":
        parent = parent.parent
    return parent


def _control(node: LexborNode, *, disabled: bool) -> Control:
    attributes = node.attributes
    said = (attributes.get("type") or "").lower()
    value = attributes.get("value") or ""
    choices: tuple[Choice, ...] = ()
    label = ""
    if node.tag == "select":
        kind = "select-multiple" if "multiple" in attributes else "select"
        choices = tuple(map(_choice, node.css("option")))
    elif node.tag == "textarea":
        kind, value = "textarea", node.text()
    elif node.tag == "button":
        kind = said if said in ("reset", "button") else "submit"
        label = collapse(node.text())
    else:
        kind = said if said in _KINDS else "text"
        value = _sanitised(kind, attributes, value)
        label = attributes.get("alt") or "" if kind == "image" else value
    return Control(
        node,
        kind,
        attributes.get("name") or "",
        attributes,
        value,
        label,
        disabled,
        checked="checked" in attributes,
        choices=choices,
    )


def _choice(node: LexborNode) -> Choice:
    attributes = node.attributes
    text = collapse(node.text())
    disabled = "disabled" in attributes
    parent = node.parent
    if parent is not None and parent.tag == "optgroup":
        disabled = disabled or "disabled" in parent.attributes
    value = (attributes["value"] or "") if "value" in attributes else text
    return Choice(value, attributes.get("label") or text, "selected" in attributes, disabled)


def _sanitised(kind: str, attributes: Attributes, value: str) -> str:
    """The value sanitization algorithms of section 4.10.5.1, where they matter."""
    if kind in _ONE_LINE:
        value = _LINE_ENDS.sub("", value)
        return value.strip(" \t\f") if kind in ("email", "url") else value
    if kind in ("checkbox", "radio"):
        return value if "value" in attributes else "on"
    if kind == "color":
        return value.lower() if re.fullmatch(r"#[0-9a-fA-F]{6}", value) else "#000000"
    if kind == "range" and not value:
        low = _number(attributes.get("min"), 0)
        high = max(low, _number(attributes.get("max"), 100))
        return f"{(low + high) / 2:g}"
    return value


def _number(text: str | None, otherwise: float) -> float:
    match = re.match(r"\s*(-?[0-9]{1,15}(?:\.[0-9]{1,15})?)", text or "", re.ASCII)
    return float(match[1]) if match else otherwise


# The source -------------------------------------------------------------------------------------

_TAGS = re.compile(
    r"<!--.*?(?:-->|\Z)"
    r"|<(script|style|textarea|title|xmp|iframe|noembed|noframes)(?=[\s/>])(?P<raw>[^>]*).*?(?:</\1|\Z)"
    r"|<(?P<end>/?)(?P<tag>[a-z][^\s/>]*)(?P<rest>(?:[^>\"']++|\"[^\"]*+\"|'[^']*+')*+)(?:>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_NAME = re.compile(
    r"(?:^|[\s/\"'])name\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>\"']+))", re.IGNORECASE
)
_OF_FORMS = frozenset({"form", *CONTROLS.split(",")})


def _tags(source: str) -> Iterator[tuple[bool, str, str]]:
    """(is an end tag, name, attributes) of the tags that forms are made of, as written."""
    for match in _TAGS.finditer(source):
        tag = (match["tag"] or match[1] or "").lower()
        if tag in _OF_FORMS:
            yield bool(match["end"]), tag, match["rest"] or match["raw"] or ""


def _written_name(rest: str) -> str:
    match = _NAME.search(rest)
    return next(filter(None, match.groups()), "") if match else ""


def _attribute_name(node: LexborNode) -> str:
    return node.attributes.get("name") or ""


def names(controls: Iterable[Control], but: Collection[str] = ()) -> list[str]:
    """The names of *controls*, each once, but not those of the kinds in *but*."""
    return list(dict.fromkeys(c.name for c in controls if c.name and c.kind not in but))
