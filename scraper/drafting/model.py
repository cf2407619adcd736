"""What a draft is: fields with their markers, and where cards, next pages and details stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError, create_model

from scraper.http import Response
from scraper.items import Invalid, Item
from scraper.markers import Css, Json, Url
from scraper.select import collapse
from scraper.types import Amount

__all__ = ["Draft", "Field", "Marker", "items_of", "page_model", "settle"]

SAMPLE = 200
TYPES: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "Amount": Amount,
    "list[str]": list[str],
}
"""Types that a drafted field may have; each but the list also as `… | None`."""
OTHERS = ("str", "int", "float", "list[str]")
"""What a field becomes whose values are not what was hoped for, the first that fits."""


class Marker(NamedTuple):
    """A marker to be: which one, and what it is given. "Row" is none: the key of a feed's row."""

    kind: Literal["Css", "Json", "Url", "Row"]
    selectors: tuple[str, ...] = ()
    re: str | None = None
    absolute: bool = False
    type: str | None = None

    def build(self) -> Css | Json | Url:
        """The marker itself, as the drafted source will make it."""
        if self.kind == "Url":
            return Url()
        if self.kind == "Json":
            return Json(*self.selectors, type=self.type, absolute=self.absolute)
        return Css(*self.selectors, re=self.re, absolute=self.absolute)


class Field(NamedTuple):
    """A field to be. `type`: one of `TYPES`, with ` | None` for what may be missing; `sample`: the
    first value found, as text; `always`: it is required although only one page was seen.
    """

    name: str
    marker: Marker
    type: str = "str"
    sample: str = ""
    always: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """What `scrape new` found out about a site.

    `kind`: "list" (repeated cards), "detail" (the page is about one thing), "json" (an API), "feed"
    (XML), or "generic" (nothing to go by). `fields`: of a card, of the page, of a record. `cards`:
    CSS of the cards; the path of the records; the element of a feed's rows. `next`: CSS of the
    links to further list pages. `links`: CSS of the cards' links to pages of their own, `targets`
    the first of these. `detail`: fields of such a page, once one was seen (`with_detail`).
    """

    kind: Literal["list", "detail", "json", "feed", "generic"] = "generic"
    fields: tuple[Field, ...] = ()
    cards: str = ""
    next: str = ""
    links: str = ""
    targets: tuple[str, ...] = ()
    detail: tuple[Field, ...] = ()

    @property
    def shown(self) -> tuple[Field, ...]:
        """The fields of the item that the drafted spider yields."""
        return self.detail or self.fields


def page_model(fields: Iterable[Field], name: str = "Drafted") -> type[Item]:
    """The model that the drafted source will define, made here to be tried."""
    made: dict[str, Any] = {}
    for field in fields:
        kind: Any = TYPES[field.type.removesuffix(" | None")]
        if field.type.endswith(" | None"):
            kind = kind | None
        made[field.name] = (Annotated[kind, field.marker.build()], ...)
    model: type[Item] = create_model(name, __base__=Item, **made)
    return model


def items_of(
    model: type[Item], response: Response, css: str = "", *, json: str = ""
) -> list[Item | Invalid]:
    """A *model* of each match of *css*, of each record at the path *json*, else of the page."""
    if json:
        return [*response.extract_all(model, json=json)]
    return [*response.extract_all(model, css)] if css else [response.extract(model)]


def _values(
    fields: Sequence[Field], response: Response, css: str, json: str
) -> list[dict[str, Any]]:
    """What the markers give, before a type is asked for."""
    made: dict[str, Any] = {}
    for number, field in enumerate(fields):
        kind: Any = list[Any] if field.type == "list[str]" else Any
        made[f"f{number}"] = (Annotated[kind, field.marker.build()], None)
    model: type[Item] = create_model("Probe", __base__=Item, **made)
    found = items_of(model, response, css, json=json)
    return [{} if isinstance(item, Invalid) else item.model_dump() for item in found]


def settle(
    fields: Sequence[Field],
    response: Response,
    css: str = "",
    *,
    json: str = "",
    one: bool = False,
) -> tuple[Field, ...]:
    """*fields* with their samples, and with types that fit what the page (each card) gives.

    Of several with one name the first counts that gives anything. *one*: the page is one of many,
    so that whatever is not `always` there may be missing on the others.
    """
    rows = _values(fields, response, css, json)
    settled: dict[str, Field] = {}
    for number, field in enumerate(fields):
        if field.name in settled:
            continue
        values = [row.get(f"f{number}") for row in rows]
        there = [value for value in values if value not in (None, "", [])]
        given = [value for value in values if value is not None]
        kind = next((k for k in (field.type, *OTHERS) if all(_fits(k, v) for v in given)), None)
        if not there or kind is None:
            continue
        missing = len(there) < len(values) or (one and not field.always)
        kind += " | None" if missing and kind != "list[str]" else ""
        settled[field.name] = field._replace(type=kind, sample=_sample(there[0]))
    return tuple(settled.values())


@lru_cache(maxsize=len(TYPES))
def _adapter(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(TYPES[kind])


def _fits(kind: str, value: Any) -> bool:
    try:
        if kind == "str" and isinstance(value, int | float):
            return True  # markers make text of numbers where the field is text
        _adapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def _sample(value: Any) -> str:
    text = ", ".join(map(str, value[:5])) if isinstance(value, list) else str(value)
    return collapse(text[: 2 * SAMPLE])[:SAMPLE]
