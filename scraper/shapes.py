"""Shapes: the fields of a model of any kind, their markers, and what their types ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    NamedTuple,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
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
from typing_extensions import is_typeddict  # pydantic's: knows those of both modules

from scraper.errors import UsageError
from scraper.marking import Kind, Marker

__all__ = [
    "Part",
    "Shape",
    "cannot_choose",
    "check",
    "field_names",
    "part_of",
    "parts_of",
    "validator_of",
]

_MANY = (list, set, frozenset, Sequence, AbstractSet, Iterable)
_WHOLE = (Any, object, tuple, dict, Mapping)


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
        given = (field for field in dataclasses.fields(model) if field.init)
        return [_attribute(field, hints[field.name]) for field in given]
    raise UsageError(
        f"{model.__name__} is no model",
        hint="Extract an Item, a pydantic model, a dataclass or a TypedDict.",
    )


def part_of(name: str, field: FieldInfo) -> Part:
    """A field of a pydantic model. Raises `UsageError` for a marker that stands as its default."""
    _refuse_default(name, field.default)
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
    _refuse_default(field.name, field.default)
    required = field.default is field.default_factory is dataclasses.MISSING
    if isinstance(field.default, FieldInfo):
        required = field.default.is_required()
    return Part(field.name, hint, (), required, ((field.name,),))


def _refuse_default(name: str, default: Any) -> None:
    if isinstance(default, Marker):
        raise UsageError(
            f"{name} = {default!r}: a marker is no value, and this makes it the field's default",
            hint=f"Write it beside the type: {name}: Annotated[str, {default!r}].",
        )


def field_names(model: type) -> Collection[str]:
    """The names of a model's fields, whatever kind of model it is."""
    fields = getattr(model, "__pydantic_fields__", None)
    if fields is None:
        fields = getattr(model, "__dataclass_fields__", None) or model.__annotations__
    names: Collection[str] = fields
    return names


_REACHABLE = "Define the models it names at module level before the first page is read."


def validator_of(model: type) -> Callable[..., Any]:
    """What validates a dict of *model*'s fields. Resolves its forward references first."""
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
        if error.code == "typed-dict-version":
            raise UsageError(
                f"{model.__name__}: below Python 3.12, pydantic cannot read typing.TypedDict",
                hint="Write: from typing_extensions import TypedDict (pydantic brings it along).",
            ) from None
        raise UsageError(f"{model.__name__}: {error}", hint=_REACHABLE) from None


# Shapes -------------------------------------------------------------------------------------------


def check(model: type, part: Part) -> tuple[list[Marker], Shape]:
    """The field's markers in order, and its shape.

    Raises `UsageError` for a marker that makes no sense there.
    """
    where = f"{model.__name__}.{part.name}"
    markers = [entry for entry in part.metadata if isinstance(entry, Marker)]
    shape = shape_of(part.annotation, markers, where)
    for entry in part.metadata:
        if isinstance(entry, type) and issubclass(entry, Marker):
            raise UsageError(
                f"{where}: {entry.__name__} needs to be told where to look",
                hint=f"Write a call: Annotated[…, {entry.__name__}('…')].",
            )
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
            raise UsageError(cannot_choose(model, part, shape))
        if marker.gives_text:
            raise UsageError(
                f"{where}: {marker!r} gives text, but {shape.models[0].__name__} needs elements",
                hint="Name the element that holds the nested item, without ::text, ::attr or re.",
            )
    return markers, shape


def cannot_choose(model: type, part: Part, shape: Shape) -> str:
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
    if is_typeddict(kind) or (dataclasses.is_dataclass(kind) and not _reads_values(kind)):
        return Shape(models=(kind,))
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


def _reads_values(kind: type) -> bool:
    """Whether a dataclass may be a value, such as `types.Price`, and no nested item."""
    own = "__get_pydantic_core_schema__" in vars(kind) or is_pydantic_dataclass(kind)
    return own and not _is_marked(kind)


def _is_marked(kind: type) -> bool:
    """Whether a field of *kind* carries a marker."""
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
