"""Plans: a model's markers, compiled once into a flat list of steps.

A step says how one field gets its value: from an element or from a JSON value, one or many, text
or a nested item. Running a plan gives plain dicts, lists and strings, which pydantic validates in
one go. Models are pydantic models, dataclasses and TypedDicts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from scraper.errors import UsageError
from scraper.markers import Css, XPath
from scraper.marking import Marker, Source, Way
from scraper.paths import dig
from scraper.select import Root
from scraper.shapes import Part, Shape, cannot_choose, check, parts_of, validator_of

__all__ = ["Ground", "Plan", "fill", "fill_value", "plan_of"]

Ground = Literal["page", "data"]
"""What a plan looks in: an element of a page, or a JSON value."""


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
    if not isinstance(model, type):
        raise UsageError(
            f"{model!r} is no model",
            hint="The model's class comes first, then where: extract(Book, 'article');"
            " for many of them, extract_all(Book, 'article').",
        )
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
        plan = self._made[key] = Plan(model, ground, validator_of(model))
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
                raise UsageError(cannot_choose(plan.model, part, shape))
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

    Extra keys, which JSON from elsewhere always has, are errors to an `Item`, and to dataclasses
    and TypedDicts within one.
    """
    if any(_marked(nested, {model}) for shape in shapes for nested in shape.models):
        return True
    if not issubclass(model, BaseModel):
        return True
    if model.model_config.get("extra") != "forbid":
        return False
    validators = model.__pydantic_decorators__.model_validators.values()
    return not any(validator.info.mode != "after" for validator in validators)


def _marked(model: type, seen: set[type]) -> bool:
    """Whether *model*, or a model nested in it, carries markers."""
    if model in seen:
        return False
    seen.add(model)
    validator_of(model)  # resolves its forward references
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
