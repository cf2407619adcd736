"""Plans: a model's markers, compiled once into a flat list of steps.

A step says how one field gets its value: from an element or from a JSON value, one or many, text
or a nested item. Running a plan gives plain dicts, lists and strings, which pydantic validates in
one go. Models are pydantic models, dataclasses and TypedDicts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    PydanticUndefinedAnnotation,
    PydanticUserError,
    RootModel,
    TypeAdapter,
)
from pydantic.dataclasses import is_pydantic_dataclass, rebuild_dataclass
from pydantic.errors import PydanticSchemaGenerationError
from pydantic.fields import FieldInfo

from scraper.errors import UsageError
from scraper.markers import Css, Kind, Marker, Source, Way, XPath, dig
from scraper.select import Root

__all__ = ["Ground", "Plan", "check", "field_names", "fill", "fill_value", "part_of", "plan_of"]

Ground = Literal["page", "data"]
"""What a plan looks in: an element of a page, or a JSON value."""


class Shape(NamedTuple):
    """What a field's type asks for.

    `many`: every match; `optional`: or None; `models`: nested items; `kind`: what it takes of
    JSON (see `markers.Kind`).
    """

    many: bool = False
    optional: bool = False
    models: tuple[type, ...] = ()
    kind: Kind = "value"


class Part(NamedTuple):
    """One field of a model of any kind."""

    name: str
    annotation: Any
    metadata: Iterable[Any]
    required: bool
    keys: tuple[tuple[str | int, ...], ...]  # where JSON would have it: aliases, then the name


class Step(NamedTuple):
    """How one field gets its value; `absent`: what it gets when nothing is there."""

    name: str
    way: Way
    absent: Any


@dataclasses.dataclass(slots=True, eq=False)
class Plan:
    """How to fill a model. Compiled once for each ground, and kept on the model's class.

    `tried` and `nested`, by field, are for errors. `looks`: the kinds of its markers. `as_is`: the
    JSON itself is what pydantic gets; `by_alias`: so somewhere in it keys may be aliases.
    """

    model: type
    ground: Ground
    validate: Callable[..., Any]
    steps: tuple[Step, ...] = ()
    tried: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    nested: dict[str, Plan] = dataclasses.field(default_factory=dict)
    looks: set[type[Marker]] = dataclasses.field(default_factory=set)
    as_is: bool = False
    by_alias: bool = False


LEAVE_OUT = object()  # pydantic puts in the default, or says that the field is missing
_PLANS = "__extraction_plans__"
_MANY = (list, set, frozenset, Sequence, AbstractSet, Iterable)
_WHOLE = (Any, object, tuple, dict, Mapping)


def fill(plan: Plan, root: Any, source: Source) -> dict[str, Any]:
    """The values that *plan* finds in *root*, by field."""
    values: dict[str, Any] = {}
    for name, way, absent in plan.steps:
        value = way(root, source)
        if value is None:
            if absent is LEAVE_OUT:
                continue
            value = absent.copy() if type(absent) in (list, dict, set) else absent
        values[name] = value
    return values


def fill_value(plan: Plan, value: Any, source: Source) -> Any:
    """`fill` from a JSON value; one that is no object goes to pydantic as it is."""
    return value if plan.as_is or not isinstance(value, Mapping) else fill(plan, value, source)


# Compiling --------------------------------------------------------------------------------------


def plan_of(model: type, ground: Ground = "page") -> Plan:
    """The plan of *model*, compiled at first use, when its forward references can be resolved.

    Raises `UsageError` when the model cannot be filled from any page.
    """
    plan = _kept(model).get(ground)
    return plan if plan is not None else _Compilation().finish(model, ground)


def _kept(model: type) -> dict[Ground, Plan]:
    plans: dict[Ground, Plan] = model.__dict__.get(_PLANS) or {}
    return plans


class _Compilation:
    """One model and all that is nested in it. Nothing is kept unless everything compiles."""

    def __init__(self) -> None:
        self._made: dict[tuple[type, Ground], Plan] = {}
        self._under_way: set[tuple[type, Ground]] = set()
        self._by_alias = False

    def finish(self, model: type, ground: Ground) -> Plan:
        plan = self.plan(model, ground)
        for (made_for, on), made in self._made.items():
            made.by_alias |= self._by_alias
            type.__setattr__(made_for, _PLANS, {**_kept(made_for), on: made})
        return plan

    def plan(self, model: type, ground: Ground) -> Plan:
        if (kept := _kept(model).get(ground)) is not None:
            self._by_alias |= kept.by_alias
            return kept
        key = (model, ground)
        if key in self._under_way and ground == "page":
            raise UsageError(f"{model.__name__} contains itself, and so has no end on a page")
        if key in self._made:  # JSON ends by itself, however often it repeats its shape
            return self._made[key]
        plan = self._made[key] = Plan(model, ground, _validator(model))
        self._under_way.add(key)
        self._fill_in(plan, ground)
        self._under_way.discard(key)
        return plan

    def _fill_in(self, plan: Plan, ground: Ground) -> None:
        model = plan.model
        parts = [(part, *check(model, part)) for part in parts_of(model)]
        if ground == "data" and not any(markers for _, markers, _ in parts):
            plan.as_is = not _takes_keys(model, [shape for *_, shape in parts])
            self._by_alias |= plan.as_is
            steps = [] if plan.as_is else [self._by_key(plan, p, shape) for p, _, shape in parts]
        else:
            steps = []
            for part, markers, shape in parts:
                if markers:
                    steps.append(self._step(plan, ground, part, markers, shape))
                elif part.required:
                    raise UsageError(
                        f"{model.__name__}.{part.name} has neither a selector nor a default",
                        hint=f"Give it one: {part.name}: Annotated[…, Css('…')]; or a default"
                        " value.",
                    )
        plan.steps = tuple(steps)

    def _step(
        self, plan: Plan, ground: Ground, part: Part, markers: Sequence[Marker], shape: Shape
    ) -> Step:
        where = f"{plan.model.__name__}.{part.name}"
        if ground == "data":
            usable = [marker for marker in markers if not marker.on_page]
            if not usable:
                raise UsageError(
                    f"{where}: {markers[0]!r} looks for elements, but {plan.model.__name__} was"
                    " reached through JSON",
                    hint="Give it a Json() relative to the JSON value, beside or in place of it.",
                )
            markers = usable
        plan.looks |= {type(marker) for marker in markers}
        plan.tried[part.name] = [tried for marker in markers for tried in marker.tried]
        inside = ground == "data"
        ways: list[Way] = []
        for marker in markers:
            if shape.models:
                ways += self._nested_ways(plan, part, marker, shape, inside=inside)
            elif shape.many:
                ways += marker.all(shape.kind, inside=inside)
            else:
                ways += marker.one(shape.kind, inside=inside)
        return Step(part.name, _in_order(ways), _absent(part, markers, shape))

    def _nested_ways(
        self, plan: Plan, part: Part, marker: Marker, shape: Shape, *, inside: bool
    ) -> list[Way]:
        model = shape.models[0]
        if isinstance(marker, Css | XPath):
            nested = plan.nested[part.name] = self.plan(model, "page")
            return [_of_elements(nested, find, many=shape.many) for find in marker.elements()]
        found = (marker.all if shape.many else marker.one)("value", inside=inside)
        if len(shape.models) > 1:
            if any(_marked(model, set()) for model in shape.models):
                raise UsageError(_cannot_choose(plan.model, part, shape))
            self._by_alias = True
            return found
        nested = plan.nested[part.name] = self.plan(model, "data")
        return [_of_values(nested, way, many=shape.many) for way in found]

    def _by_key(self, plan: Plan, part: Part, shape: Shape) -> Step:
        """In a model without markers: the JSON under the field's own name or alias."""
        plan.tried[part.name] = [".".join(map(str, keys)) for keys in part.keys]

        def way(root: Any, source: Source) -> Any:
            return next((v for keys in part.keys if (v := dig(root, keys)) is not None), None)

        absent = _absent(part, (), shape)
        if len(shape.models) != 1:
            self._by_alias |= bool(shape.models)
            return Step(part.name, way, absent)
        nested = plan.nested[part.name] = self.plan(shape.models[0], "data")
        return Step(part.name, _of_values(nested, way, many=shape.many), absent)


def _takes_keys(model: type, shapes: Iterable[Shape]) -> bool:
    """Whether a model without markers gets only the keys it knows, and not the JSON as it is.

    Extra keys, which JSON from elsewhere always has, are errors to an `Item`.
    """
    if any(_marked(nested, {model}) for shape in shapes for nested in shape.models):
        return True
    if not issubclass(model, BaseModel) or model.model_config.get("extra") != "forbid":
        return False
    validators = model.__pydantic_decorators__.model_validators.values()
    return not any(validator.info.mode != "after" for validator in validators)


def _marked(model: type, seen: set[type]) -> bool:
    """Whether *model*, or a model nested in it, carries markers."""
    if model in seen:
        return False
    seen.add(model)
    _validator(model)  # resolves its forward references
    for part in parts_of(model):
        markers, shape = check(model, part)
        if markers or any(_marked(nested, seen) for nested in shape.models):
            return True
    return False


def _in_order(ways: Sequence[Way]) -> Way:
    """The first that gives something; "" when all there is is empty."""
    if len(ways) == 1:
        return ways[0]

    def way(root: Any, source: Source) -> Any:
        found: Any = None
        for each in ways:
            value = each(root, source)
            if value is not None:
                if value != "":
                    return value
                found = value
        return found

    return way


def _of_elements(plan: Plan, find: Callable[[Root], Sequence[Any]], *, many: bool) -> Way:
    def way(root: Root, source: Source) -> Any:
        nodes = find(root)
        if not nodes:
            return None
        if many:
            return [fill(plan, node, source) for node in nodes]
        return fill(plan, nodes[0], source)

    return way


def _of_values(plan: Plan, find: Way, *, many: bool) -> Way:
    def way(root: Any, source: Source) -> Any:
        value = find(root, source)
        if many and isinstance(value, list):
            return [fill_value(plan, each, source) for each in value]
        return value if value is None else fill_value(plan, value, source)

    return way


def _absent(part: Part, markers: Iterable[Marker], shape: Shape) -> Any:
    for marker in markers:
        if marker.has_default:
            return marker.default
    if not part.required:
        return LEAVE_OUT
    if shape.many:
        return []
    return None if shape.optional else LEAVE_OUT


# Fields, of models of every kind ------------------------------------------------------------------


def parts_of(model: type) -> list[Part]:
    """The fields of a pydantic model, a dataclass or a TypedDict. Raises `UsageError`."""
    fields = model.__dict__.get("__pydantic_fields__")
    if fields is not None:
        return [part_of(name, field) for name, field in fields.items() if field.init is not False]
    try:
        hints = get_type_hints(model, include_extras=True)
    except Exception as error:
        raise UsageError(f"{model.__name__}: {error}", hint=_REACHABLE) from error
    if is_typeddict(model):
        return [_key(model, name, hint) for name, hint in hints.items()]
    if dataclasses.is_dataclass(model):
        return [_attribute(field, hints[field.name]) for field in dataclasses.fields(model)]
    raise UsageError(
        f"{model.__name__} is no model",
        hint="Extract an Item, a pydantic model, a dataclass or a TypedDict.",
    )


def part_of(name: str, field: FieldInfo) -> Part:
    """A field of a pydantic model."""
    return Part(name, field.annotation, field.metadata, field.is_required(), _keys(name, field))


def _keys(name: str, field: FieldInfo) -> tuple[tuple[str | int, ...], ...]:
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias or name]
    keys = [tuple(c.path) if isinstance(c, AliasPath) else (c,) for c in choices]
    return (*keys, *(((name,),) if (name,) not in keys else ()))


def _key(model: Any, name: str, hint: Any) -> Part:
    required = name in model.__required_keys__
    while (origin := get_origin(hint)) in (Required, NotRequired):
        required = origin is Required
        (hint,) = get_args(hint)
    return Part(name, hint, (), required, ((name,),))


def _attribute(field: dataclasses.Field[Any], hint: Any) -> Part:
    required = field.default is field.default_factory is dataclasses.MISSING
    if isinstance(field.default, FieldInfo):
        required = field.default.is_required()
    return Part(field.name, hint, (), required, ((field.name,),))


def field_names(model: type) -> Collection[str]:
    """The names of a model's fields, whatever kind of model it is."""
    fields = getattr(model, "__pydantic_fields__", None)
    if fields is None:
        fields = getattr(model, "__dataclass_fields__", None) or model.__annotations__
    names: Collection[str] = fields
    return names


_REACHABLE = "Define the models it names at module level before the first page is read."


def _validator(model: type) -> Callable[..., Any]:
    try:
        if issubclass(model, BaseModel):
            model.model_rebuild()
            return model.model_validate
        if is_pydantic_dataclass(model):
            rebuild_dataclass(model)
        return TypeAdapter(model).validate_python
    except PydanticSchemaGenerationError as error:
        raise UsageError(f"{model.__name__}: {error}") from None
    except (PydanticUndefinedAnnotation, PydanticUserError) as error:
        raise UsageError(f"{model.__name__}: {error}", hint=_REACHABLE) from None


# Shapes -------------------------------------------------------------------------------------------


def check(model: type, part: Part) -> tuple[list[Marker], Shape]:
    """The field's markers in order, and its shape.

    Raises `UsageError` for a marker that makes no sense there.
    """
    where = f"{model.__name__}.{part.name}"
    markers = [entry for entry in part.metadata if isinstance(entry, Marker)]
    shape = shape_of(part.annotation, markers, where)
    if len([marker for marker in markers if marker.has_default]) > 1:
        raise UsageError(f"{where}: several of its markers have a default; one can count")
    for marker in markers:
        if shape.many and marker.join is not None:
            raise UsageError(
                f"{where}: {marker!r} joins what it finds into one string, but the field is a list",
                hint="Leave join away, or make the field a str.",
            )
        if not shape.models:
            continue
        if len(shape.models) > 1 and marker.on_page:
            raise UsageError(_cannot_choose(model, part, shape))
        if marker.gives_text:
            raise UsageError(
                f"{where}: {marker!r} gives text, but {shape.models[0].__name__} needs elements",
                hint="Name the element that holds the nested item, without ::text, ::attr or re.",
            )
    return markers, shape


def _cannot_choose(model: type, part: Part, shape: Shape) -> str:
    names = " | ".join(nested.__name__ for nested in shape.models)
    return f"{model.__name__}.{part.name}: a selector cannot choose between {names}"


def shape_of(annotation: Any, markers: list[Marker], where: str) -> Shape:
    """What *annotation* asks for; markers found inside unions are added to *markers*."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        markers += (entry for entry in metadata if isinstance(entry, Marker))
        return shape_of(inner, markers, where)
    if hasattr(annotation, "__value__"):  # type X = ...
        return shape_of(annotation.__value__, markers, where)
    if origin in (Union, UnionType):
        arms = [arm for arm in get_args(annotation) if arm is not NoneType]
        shapes = [shape_of(arm, markers, where) for arm in arms]
        return _union(shapes, optional=len(arms) < len(get_args(annotation)))
    kind = origin or annotation
    arguments = get_args(annotation)
    _refuse_inside(arguments, where)
    if kind in _MANY or (kind is tuple and (not arguments or arguments[-1] is Ellipsis)):
        inside = shape_of(arguments[0], [], where) if arguments else Shape()
        return Shape(many=True, models=inside.models, kind=inside.kind)
    if kind in _WHOLE:
        return Shape(kind="whole")
    if isinstance(kind, type):
        return _class_shape(annotation if isinstance(annotation, type) else kind)
    return Shape()


def _class_shape(kind: type) -> Shape:
    if issubclass(kind, RootModel) or (issubclass(kind, tuple) and kind is not tuple):
        return Shape(kind="whole")
    if issubclass(kind, BaseModel):
        return Shape(models=(kind,))
    if is_typeddict(kind) or (dataclasses.is_dataclass(kind) and not _has_own_schema(kind)):
        return Shape(models=(kind,)) if _is_marked(kind) else Shape(kind="value")
    return Shape(kind="text" if issubclass(kind, str) else "value")


def _union(shapes: Sequence[Shape], *, optional: bool) -> Shape:
    kinds = {shape.kind for shape in shapes}
    many = bool(shapes) and all(shape.many for shape in shapes)
    kind: Kind = kinds.pop() if len(kinds) == 1 else "value"
    if not many and any(shape.many or shape.kind == "whole" for shape in shapes):
        kind = "whole"
    return Shape(
        many=many,
        optional=optional or any(shape.optional for shape in shapes),
        models=tuple(model for shape in shapes for model in shape.models),
        kind=kind,
    )


def _has_own_schema(kind: type) -> bool:
    return "__get_pydantic_core_schema__" in vars(kind)


def _is_marked(kind: type) -> bool:
    """Whether a dataclass or TypedDict, which may stand for a value, is a nested item instead."""
    try:
        hints = get_type_hints(kind, include_extras=True)
    except Exception:  # noqa: BLE001 - names that are not there yet; asked again for the plan
        return False
    return any(_mentions_marker(hint) for hint in hints.values())


def _mentions_marker(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        inner, *metadata = get_args(hint)
        return any(isinstance(m, Marker) for m in metadata) or _mentions_marker(inner)
    looked_into = (Union, UnionType, Required, NotRequired)
    return get_origin(hint) in looked_into and any(map(_mentions_marker, get_args(hint)))


def _refuse_inside(arguments: Iterable[Any], where: str) -> None:
    for argument in arguments:
        hidden: list[Marker] = []
        if get_origin(argument) in (Annotated, Union, UnionType):
            shape_of(argument, hidden, where)
        if hidden:
            raise UsageError(
                f"{where}: {hidden[0]!r} stands inside a container, where it cannot be placed",
                hint="Mark the whole field: Annotated[list[str], Css('li')].",
            )
