"""Items: pydantic models whose fields say where their values stand on the page.

::

    class Book(Item):
        title: Annotated[str, Css("h1")]
        price: Annotated[Decimal, Css(".price", re=r"[\\d.]+")]
        tags: Annotated[list[str], Css("ul.tags li")]
        isbn: Annotated[str | None, Json("isbn", type="Book"), Css("#isbn")]

The markers are those of `scraper.markers`; they compile, at first use, into one flat plan
(`scraper.plans`); running it gives plain dicts and lists of strings, which pydantic validates in
one go. What does not fit becomes an `Invalid`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pydantic_core
from pydantic import BaseModel, ConfigDict
from pydantic_core import ValidationError
from selectolax.lexbor import LexborHTMLParser

from scraper import plans
from scraper.errors import ExtractionError, ItemInvalid, UsageError
from scraper.markers import Css, Json, Meta, Url, XPath
from scraper.marking import Source
from scraper.plans import Plan, plan_of
from scraper.records import encode, record
from scraper.select import Selector, SelectorList
from scraper.shapes import check, field_names, part_of

if TYPE_CHECKING:
    from scraper.structured import Structured

__all__ = [
    "Css",
    "Invalid",
    "Item",
    "Json",
    "Meta",
    "Url",
    "XPath",
    "encode",
    "extract",
    "extract_all",
    "extract_all_from",
    "extract_from",
    "json_value",
    "record",
]

M = TypeVar("M")


class Item(BaseModel):
    """What a spider yields. Unknown fields are errors; assigning to a field does not validate.

    What is written must fit all the same: a field that was given a value of another type is
    validated when the item reaches a file, and the item rejected if it does not fit.
    """

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for name, field in cls.__pydantic_fields__.items():
            check(cls, part_of(name, field))


# Extraction -------------------------------------------------------------------------------------


def extract_from(
    source: Source,
    model: type[M],
    css: str | None = None,
    *,
    xpath: str | None = None,
    json: str | None = None,
) -> M:
    """A validated *model* from the page, or from the first match of *css*, *xpath* or *json*.

    An `Invalid` comes in its place when the values do not fit, or the selector matches nothing.
    Raises `UsageError` when the model cannot be extracted from any page, `ExtractionError` when
    the page cannot be read.
    """
    selector = _only_one("extract", css, xpath, json)
    if selector is None:
        plan = plan_of(model)
        return cast("M", _made(plan, _page_root(plan, source), source))
    plan = plan_of(model, "page" if json is None else "data")
    for root in _roots(source, css, xpath, json):
        return cast("M", _made(plan, root, source))
    said = f"extract({model.__name__}, {selector}): nothing on the page matches"
    tried = next(each for each in (css, xpath, json) if each is not None)
    reason = {"field": "", "message": f"{said} {tried!r}", "selectors": [tried], "value": None}
    return cast("M", _invalid(model, source.url, [reason], {}))


def extract_all_from(
    source: Source,
    model: type[M],
    css: str | None = None,
    *,
    xpath: str | None = None,
    json: str | None = None,
) -> list[M]:
    """A *model* for every match of *css*, *xpath* or *json*; see `extract_from`."""
    if _only_one("extract_all", css, xpath, json) is None:
        raise UsageError(
            f"extract_all({model.__name__}) needs to know where the items are",
            hint="extract_all(Book, 'article'), or xpath='//article', or json='products[*]'.",
        )
    plan = plan_of(model, "page" if json is None else "data")
    return [_made(plan, root, source) for root in _roots(source, css, xpath, json)]


def extract(model: type[M], root: Selector, url: str = "", base: str | None = None) -> M:
    """`extract_from` without a response: a *model* from an element, or a whole document.

    *url* names the page in errors; *base* (default: *url*) is what relative URLs resolve against.
    """
    source = _Element(root, url, base)
    plan = plan_of(model)
    return cast("M", _made(plan, NOTHING if root.root is None else root.root, source))


def extract_all(
    model: type[M], roots: Iterable[Selector], url: str = "", base: str | None = None
) -> list[M]:
    """`extract` for every element of *roots*."""
    return [extract(model, root, url, base) for root in roots]


class _Element:
    """A `Source` that is nothing but an element."""

    meta: Mapping[str, Any] = MappingProxyType({})
    kwargs: Mapping[str, Any] = MappingProxyType({})
    is_html = True

    def __init__(self, root: Selector, url: str, base: str | None) -> None:
        self.document = root
        self.url = url
        self.base_url = base or url

    @cached_property
    def _structured(self) -> Structured:
        from scraper.structured import Structured

        return Structured(self.document)

    def structured(self) -> Structured:
        return self._structured

    @property
    def data(self) -> Sequence[Any]:
        return self._structured.values

    @property
    def selector(self) -> Selector:
        return self.document

    def css(self, selector: str) -> SelectorList:
        return self.document.css(selector)

    def xpath(self, query: str, /) -> SelectorList:
        return self.document.xpath(query)


class _Nothing:
    """Where no selector matches: in a string, in a page that is no markup."""

    parser = LexborHTMLParser(b"")
    mem_id = 0

    def css(self, query: str) -> list[Any]:
        return []

    def css_first(self, query: str) -> None:
        return None


NOTHING = _Nothing()


def _only_one(call: str, css: str | None, xpath: str | None, json: str | None) -> str | None:
    if css is xpath is json is None:
        return None
    given = [
        repr(value) if name == "css" else f"{name}={value!r}"
        for name, value in (("css", css), ("xpath", xpath), ("json", json))
        if value is not None
    ]
    where: Any = (css, xpath)
    if any(isinstance(each, Selector | SelectorList) for each in where):
        raise UsageError(
            f"{call}() takes a selector as a string, and finds its matches itself",
            hint=f"response.{call}(Book, 'article'), or xpath='//article'.",
        )
    if len(given) > 1:
        raise UsageError(f"{call}() takes one of css, xpath and json, not {', '.join(given)}")
    return given[0] if given else None


def _roots(source: Source, css: str | None, xpath: str | None, json: str | None) -> Iterable[Any]:
    """The elements, or the JSON values, that one of the three finds."""
    if json is not None:
        found = [way(None, source) for way in Json(json).all("value")]
        return next((values for values in found if values), [])
    matches = source.css(css) if css is not None else source.xpath(xpath or "")
    return (NOTHING if match.root is None else match.root for match in matches)


_CSS = frozenset({Css})


def _page_root(plan: Plan, source: Source) -> Any:
    """The whole page; nothing is parsed for a plan that does not look for elements."""
    if plan.looks == _CSS:
        return source.document.root
    if not plan.looks & {Css, XPath}:
        return None
    if not source.is_html and plan.looks - {Css, XPath}:
        return NOTHING  # its JSON has the say
    return (source.document if Css in plan.looks else source.selector).root


def _made(plan: Plan, root: Any, source: Source) -> Any:
    raw: Any = {}
    try:
        raw = (plans.fill if plan.ground == "page" else plans.fill_value)(plan, root, source)
        return plan.validate(raw, context=source, by_alias=plan.by_alias, by_name=True)
    except ValidationError as error:
        errors = [_explain(plan, detail) for detail in error.errors(include_url=False)]
        return _invalid(plan.model, source.url, errors, raw)
    except RecursionError:
        raise ExtractionError("parse_limit", f"{plan.model.__name__}: nested too deep") from None


# What does not fit ------------------------------------------------------------------------------


def _explain(plan: Plan, detail: Any) -> dict[str, Any]:
    """One error of pydantic's, with the selectors that led to it."""
    location = [str(part) for part in detail["loc"]]
    selectors = _selectors(plan, detail["loc"])
    missing = detail["type"] == "missing"
    message = "nothing on the page matches" if missing and selectors else detail["msg"]
    return {
        "field": ".".join(location) or plan.model.__name__,
        "message": message,
        "selectors": selectors,
        "value": None if missing else detail["input"],
    }


def _selectors(plan: Plan, location: tuple[int | str, ...]) -> list[str]:
    found: list[str] = []
    for part in location:
        if isinstance(part, str) and part in plan.tried:
            found = plan.tried[part]
            nested = plan.nested.get(part)
            if nested is None:
                break
            plan = nested
    return found


class Invalid:
    """Stands for an item whose values do not fit its model.

    Yield it like any item: it goes to the rejected file with its reasons. Reading one of its
    fields raises the `ItemInvalid` that it carries as `error`; what is assigned to a field is
    kept with the raw values.
    """

    __slots__ = ("error", "model")

    error: ItemInvalid
    model: type

    def __init__(self, model: type, error: ItemInvalid) -> None:
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "error", error)

    def __getattr__(self, name: str) -> Any:
        if name in field_names(self.model) or (name[:2] != "__" and hasattr(self.model, name)):
            raise self.error.with_traceback(None)
        raise AttributeError(f"{self.model.__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in field_names(self.model):
            raise AttributeError(f"{self.model.__name__} has no field {name!r}")
        self.error.raw[name] = value

    def __getitem__(self, name: str) -> Any:
        if name in field_names(self.model):
            raise self.error.with_traceback(None)
        raise KeyError(name)

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in field_names(self.model):
            raise KeyError(name)
        self.error.raw[name] = value

    def __repr__(self) -> str:
        reasons = (f"{e['field']}: {e['message']}".removeprefix(": ") for e in self.error.errors)
        return f"<Invalid {self.model.__name__}: {'; '.join(reasons)}>"


def json_value(value: Any) -> Any:
    """*value* as JSON would bring it back: models, dates, sets and the like in their JSON form.

    Raises the `ItemInvalid` of an `Invalid` anywhere in it, and `TypeError` or `ValueError` for
    what JSON cannot hold.
    """
    return pydantic_core.to_jsonable_python(
        value, by_alias=False, round_trip=True, fallback=_no_json
    )


def _no_json(value: Any) -> Any:
    if isinstance(value, Invalid):
        raise value.error.with_traceback(None)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"JSON has no form for {type(value).__name__}")


def _invalid(model: type, url: str, errors: list[dict[str, Any]], raw: Any) -> Any:
    values = raw if isinstance(raw, dict) else {"": raw}
    return Invalid(model, ItemInvalid(model.__name__, url, errors, values))
