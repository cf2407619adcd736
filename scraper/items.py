"""Items: pydantic models whose fields say where their values stand on the page.

::

    class Book(Item):
        title: Annotated[str, Css("h1")]
        price: Annotated[Decimal, Css(".price", re=r"[\\d.]+")]
        tags: Annotated[list[str], Css("ul.tags li")]

A model's markers compile, at first use, into one flat `Plan`; running it gives plain dicts and
lists of strings, which pydantic validates in one go. What does not fit becomes an `Invalid`.
"""

from __future__ import annotations

import re as relib
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as AbstractSequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, PydanticUndefinedAnnotation, PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import ValidationError
from selectolax.lexbor import LexborNode

from scraper import urls
from scraper.errors import ExtractionError, ItemInvalid, UsageError
from scraper.records import encode, record
from scraper.select import (
    Pattern,
    Query,
    Root,
    Selector,
    attribute,
    collapse,
    compile_css,
    compile_re,
    find,
)

__all__ = ["Css", "Invalid", "Item", "encode", "extract", "extract_all", "record"]

M = TypeVar("M", bound=BaseModel)


class Css:
    """A field's value: the first of *selectors* that gives something.

    An element gives all its descendant text, white space collapsed; `::text` its own text;
    `::attr(name)` an attribute, stripped. *re*: the first group (or the whole match) of the first
    match. *absolute*: a URL, resolved against the page's. On a list field every match counts.
    """

    __slots__ = ("absolute", "queries", "re", "selectors")

    def __init__(self, *selectors: str, re: Pattern | None = None, absolute: bool = False) -> None:
        if not selectors or not all(str(s).strip() for s in selectors):
            raise UsageError("Css() takes at least one selector, as strings: Css('h1', '.title')")
        self.selectors = selectors
        self.queries = tuple(map(compile_css, selectors))
        self.re = None if re is None else compile_re(re)
        self.absolute = absolute

    def __repr__(self) -> str:
        parts = [repr(s) for s in self.selectors]
        if self.re is not None:
            parts.append(f"re={self.re.pattern!r}")
        if self.absolute:
            parts.append("absolute=True")
        return f"Css({', '.join(parts)})"


class Item(BaseModel):
    """What a spider yields. Unknown fields are errors; assigning to a field does not validate."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for name, field in cls.__pydantic_fields__.items():
            _place(cls, name, field)


# Plans ------------------------------------------------------------------------------------------


class Shape(NamedTuple):
    """What a field's type asks for: many values or one, strings or a nested model, or None."""

    many: bool = False
    optional: bool = False
    models: tuple[type[BaseModel], ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """How one field gets its value. `absent`: what it gets when nothing matches."""

    name: str
    marker: Css
    many: bool
    nested: Plan | None
    absent: object


class Plan(NamedTuple):
    """How to fill a model. Compiled once, kept on the model's class."""

    model: type[BaseModel]
    steps: tuple[Step, ...]


_LEAVE_OUT = object()  # pydantic puts in the default, or says that the field is missing
_PLAN = "__extraction_plan__"
_MANY = (list, set, frozenset, AbstractSequence, AbstractSet, Iterable)


def plan_of(model: type[BaseModel]) -> Plan:
    """The plan of *model*, compiled at first use, when its forward references can be resolved."""
    plan = model.__dict__.get(_PLAN)
    return plan if plan is not None else _compile(model, {})


def _compile(model: type[BaseModel], under_way: dict[type[BaseModel], list[Step]]) -> Plan:
    try:
        model.model_rebuild()
    except (PydanticUndefinedAnnotation, PydanticUserError) as error:
        raise UsageError(
            f"{model.__name__}: {error}",
            hint="Define the models it names at module level before the first page is read.",
        ) from None
    if model in under_way:
        raise UsageError(f"{model.__name__} contains itself, and so has no end on a page")
    under_way[model] = []
    steps = []
    for name, field in model.__pydantic_fields__.items():
        marker, shape = _place(model, name, field)
        if marker is None:
            if field.is_required():
                raise UsageError(
                    f"{model.__name__}.{name} has neither a selector nor a default",
                    hint=f"Give it one: {name}: Annotated[…, Css('…')]; or a default value.",
                )
            continue
        nested = _compile(shape.models[0], under_way) if shape.models else None
        steps.append(Step(name, marker, shape.many, nested, _absent(field, shape)))
    del under_way[model]
    plan = Plan(model, tuple(steps))
    type.__setattr__(model, _PLAN, plan)
    return plan


def _absent(field: FieldInfo, shape: Shape) -> object:
    if not field.is_required():
        return _LEAVE_OUT
    if shape.many:
        return ()
    return None if shape.optional else _LEAVE_OUT


def _place(model: type, name: str, field: FieldInfo) -> tuple[Css | None, Shape]:
    """The field's marker and shape. Raises `UsageError` for a marker that makes no sense there."""
    where = f"{model.__name__}.{name}"
    markers = [entry for entry in field.metadata if isinstance(entry, Css)]
    shape = _shape(field.annotation, markers, where)
    if len(markers) > 1:
        raise UsageError(
            f"{where} has {len(markers)} selectors",
            hint="Give one marker its alternatives in order: Css('h1', '.title').",
        )
    marker = markers[0] if markers else None
    if marker is not None and shape.models:
        if len(shape.models) > 1:
            names = " | ".join(m.__name__ for m in shape.models)
            raise UsageError(f"{where}: a selector cannot choose between {names}")
        if marker.re is not None or marker.absolute or _takes_strings(marker):
            raise UsageError(
                f"{where}: {marker!r} gives text, but {shape.models[0].__name__} needs elements",
                hint="Name the element that holds the nested item, without ::text, ::attr or re.",
            )
    return marker, shape


def _takes_strings(marker: Css) -> bool:
    return any(query.take is not None for queries in marker.queries for query in queries)


def _shape(annotation: Any, markers: list[Css], where: str) -> Shape:
    """What *annotation* asks for; markers found inside unions are added to *markers*."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        markers += (entry for entry in metadata if isinstance(entry, Css))
        return _shape(inner, markers, where)
    if hasattr(annotation, "__value__"):  # type X = ...
        return _shape(annotation.__value__, markers, where)
    if origin in (Union, UnionType):
        arms = [arm for arm in get_args(annotation) if arm is not NoneType]
        shapes = [_shape(arm, markers, where) for arm in arms]
        return Shape(
            many=bool(shapes) and all(shape.many for shape in shapes),
            optional=len(arms) < len(get_args(annotation)) or any(s.optional for s in shapes),
            models=tuple(model for shape in shapes for model in shape.models),
        )
    kind = origin or annotation
    arguments = get_args(annotation)
    _refuse_inside(arguments, where)
    if kind in _MANY or (kind is tuple and (not arguments or arguments[-1] is Ellipsis)):
        inside = _shape(arguments[0], [], where) if arguments else Shape()
        return Shape(many=True, models=inside.models)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return Shape(models=(annotation if isinstance(annotation, type) else kind,))
    return Shape()


def _refuse_inside(arguments: Iterable[Any], where: str) -> None:
    for argument in arguments:
        hidden: list[Css] = []
        if get_origin(argument) in (Annotated, Union, UnionType):
            _shape(argument, hidden, where)
        if hidden:
            raise UsageError(
                f"{where}: {hidden[0]!r} stands inside a container, where it cannot be placed",
                hint="Mark the whole field: Annotated[list[str], Css('li')].",
            )


# Extraction -------------------------------------------------------------------------------------

MAX_TEXT = 64 * 1024 * 1024
"""Characters that one list field may collect: matches nested in each other repeat their text."""


def extract(model: type[M], root: Selector, url: str = "", base: str | None = None) -> M:
    """A validated *model* from *root*; an `Invalid` in its place when the values do not fit.

    *url* names the page in errors; *base* (default: *url*) is what `absolute` resolves against.
    Raises `UsageError` when the model cannot be extracted from any page.
    """
    plan = plan_of(model)
    node = root.root
    raw = {} if node is None else _fill(plan, node, base or url)
    return cast("M", _validated(plan, raw, url))


def extract_all(
    model: type[M], roots: Iterable[Selector], url: str = "", base: str | None = None
) -> list[M]:
    """`extract` for every element of *roots*."""
    return [extract(model, root, url, base) for root in roots]


def _validated(plan: Plan, raw: dict[str, Any], url: str) -> Any:
    try:
        return plan.model.model_validate(raw, by_alias=False, by_name=True)
    except ValidationError as error:
        errors = [_explain(plan, detail) for detail in error.errors(include_url=False)]
        return Invalid(plan.model, ItemInvalid(plan.model.__name__, url, errors, raw))


def _fill(plan: Plan, root: Root, base: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for step in plan.steps:
        if step.nested is not None:
            value = _nested(step, step.nested, root, base)
        elif step.many:
            value = _all(step.marker, root, base)
        else:
            value = _first(step.marker, root, base)
        if value is None or (step.many and not value):
            value = list(step.absent) if isinstance(step.absent, tuple) else step.absent
        if value is not _LEAVE_OUT:
            values[step.name] = value
    return values


def _nested(step: Step, plan: Plan, root: Root, base: str) -> Any:
    for queries in step.marker.queries:
        nodes = cast("list[LexborNode]", find(root, queries))
        if nodes:
            return (
                [_fill(plan, n, base) for n in nodes] if step.many else _fill(plan, nodes[0], base)
            )
    return None


def _first(marker: Css, root: Root, base: str) -> str | None:
    """The first value that is not empty; "" when all there are are empty."""
    found: str | None = None
    for queries in marker.queries:
        for value in _refined(marker, _candidates(marker, queries, root), base):
            if value:
                return value
            if found is None:
                found = value
            if queries[0].take != "text":
                break  # the first element (or attribute) decides; of its text nodes, any
    return found


def _candidates(marker: Css, queries: tuple[Query, ...], root: Root) -> Iterator[str]:
    """What may become the one value: the first match alone, where that is known to decide."""
    if marker.re is None and len(queries) == 1 and queries[0].take in (None, "attr"):
        node = root.css_first(queries[0].css)
        if node is None:
            return iter(())
        if queries[0].take is None:
            return iter((collapse(node.text()),))
        if (value := attribute(node, queries[0].name)) is not None:
            return iter((value.strip(),))
    return _strings(find(root, queries), queries)


def _all(marker: Css, root: Root, base: str) -> list[str]:
    for queries in marker.queries:
        size = 0
        values = []
        for value in _refined(marker, _strings(find(root, queries), queries), base):
            size += len(value)
            if size > MAX_TEXT:
                raise ExtractionError(
                    "parse_limit", f"{marker!r} gives more than {MAX_TEXT >> 20} M characters"
                )
            values.append(value)
        if values:
            return values
    return []


def _strings(found: Iterable[LexborNode | str], queries: tuple[Query, ...]) -> Iterator[str]:
    strip = str.strip if queries[0].take == "attr" else collapse
    for value in found:
        yield strip(value) if isinstance(value, str) else collapse(value.text())


def _refined(marker: Css, values: Iterator[str], base: str) -> Iterator[str]:
    """Through the regular expression and made absolute, as asked; what fails is left out."""
    if marker.re is not None:
        values = _matches(marker.re, values)
    if marker.absolute:
        return (url for value in values if value and (url := urls.parse(value, base)))
    return values


def _matches(pattern: relib.Pattern[str], values: Iterator[str]) -> Iterator[str]:
    for value in values:
        match = pattern.search(value)
        if match is not None:
            yield (match[1] or "") if pattern.groups else match[0]


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
        step = next((step for step in plan.steps if step.name == part), None)
        if step is not None:
            found = list(step.marker.selectors)
            if step.nested is None:
                break
            plan = step.nested
    return found


class Invalid:
    """Stands for an item whose values do not fit its model.

    Yield it like any item: it goes to the rejected file with its reasons. Reading one of its
    fields raises the `ItemInvalid` that it carries as `error`; what is assigned to a field is
    kept with the raw values.
    """

    __slots__ = ("error", "model")

    error: ItemInvalid
    model: type[BaseModel]

    def __init__(self, model: type[BaseModel], error: ItemInvalid) -> None:
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "error", error)

    def __getattr__(self, name: str) -> Any:
        if name in _names(self.model) or (name[:2] != "__" and hasattr(self.model, name)):
            raise self.error.with_traceback(None)
        raise AttributeError(f"{self.model.__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _names(self.model):
            raise AttributeError(f"{self.model.__name__} has no field {name!r}")
        self.error.raw[name] = value

    def __repr__(self) -> str:
        reasons = "; ".join(f"{e['field']}: {e['message']}" for e in self.error.errors)
        return f"<Invalid {self.model.__name__}: {reasons}>"


def _names(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    return model.__pydantic_fields__
