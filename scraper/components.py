"""Building a stage, sink or other component from its table in the configuration.

The table's keys are the constructor's arguments, checked against its annotations before it is
called. Values are taken as strictly as JSON types allow: a string is no number and 1 is no flag,
but a path, a decimal or a set may be written as TOML can write it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import to_json

from scraper.errors import ConfigError, ScraperError
from scraper.mistakes import dotted, nearest, reworded, shown

__all__ = ["build_component"]

T = TypeVar("T")


def build_component(cls: type[T], options: Mapping[str, Any], where: str) -> T:
    """`cls(**options)` with every option validated: plain classes, dataclasses, pydantic models.

    *where* begins each message, such as ``config.toml:31: [[pipelines]] csv``. Raises
    `ConfigError` for an unknown, missing or unfit option, and for whatever the constructor raises.
    """
    parameters, open_ended = _parameters(cls)
    for name, value in options.items():
        if name not in parameters and not open_ended:
            way = nearest(name, parameters, all_of=f"{cls.__name__} takes")
            way = way or f"{cls.__name__} takes no options"
            raise ConfigError(
                f"{where}: unknown key {dotted((name,))} = {shown(value, name)}; {way}"
            )
    hints = _hints(cls, where)
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in options:
            raise ConfigError(f"{where}: {cls.__name__} needs {name}{_of_type(hints.get(name))}")
    values = {
        name: _checked(name, value, hints.get(name, Any), where) for name, value in options.items()
    }
    try:
        return cls(**values)
    except ValidationError as invalid:
        raise ConfigError(_told(where, invalid)) from invalid
    except ScraperError as error:
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from error
    except Exception as error:
        said = f"{type(error).__name__}: {error}".strip(": ").partition("\n")[0]
        raise ConfigError(f"{where}: {cls.__name__} refuses its options: {said}") from error


def _parameters(cls: type) -> tuple[dict[str, inspect.Parameter], bool]:
    """The constructor's parameters by the names a table uses, and whether it takes any other."""
    if issubclass(cls, BaseModel):
        named = {
            info.alias or name: inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if info.is_required() else None,
            )
            for name, info in cls.model_fields.items()
        }
        return named, cls.model_config.get("extra") == "allow"
    if cls.__init__ is object.__init__:
        return {}, False
    named, open_ended = {}, False
    for parameter in list(inspect.signature(cls.__init__).parameters.values())[1:]:
        if parameter.kind is parameter.VAR_KEYWORD:
            open_ended = True
        elif parameter.kind in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            named[parameter.name] = parameter
    return named, open_ended


def _hints(cls: type, where: str) -> dict[str, Any]:
    if issubclass(cls, BaseModel):
        return {}  # it validates by itself
    try:
        return get_type_hints(cls.__init__, include_extras=True)
    except Exception as error:
        raise ConfigError(
            f"{where}: the annotations of {cls.__name__} cannot be read: {error}",
            hint="Import the names at module level, not only for type checking.",
        ) from error


def _checked(name: str, value: Any, hint: Any, where: str) -> Any:
    """*value* as *hint* wants it. Raises `ConfigError`."""
    if hint is Any:
        return value
    try:
        adapter = TypeAdapter(hint)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise ConfigError(
            f"{where}: {name} cannot be set from a table: its type is {hint}"
        ) from error
    try:
        encoded = to_json(value)
    except ValueError:  # not from a file: an object, given from Python
        encoded = None
    try:
        if encoded is None:
            return adapter.validate_python(value)
        return adapter.validate_json(encoded, strict=True)
    except ValidationError as invalid:
        raise ConfigError(_told(where, invalid, name, value)) from invalid


def _told(where: str, invalid: ValidationError, name: str = "", value: Any = None) -> str:
    """One line for what a validator found in the option *name*, or in a whole pydantic model."""
    errors = invalid.errors(include_url=False)
    error = errors[0]
    if name and len({e["type"] for e in errors}) > 1 and not isinstance(value, list | dict):
        # a union, and no branch fits: what each of them wants
        wants = " or ".join(dict.fromkeys(reworded(e).removeprefix("must be ") for e in errors))
        return f"{where}: {dotted((name,))} = {shown(value, name)}: must be {wants}"
    key = (name, *error["loc"]) if isinstance(value, list | dict) else (name,)
    if not name:  # the model names its own keys
        key = error["loc"] or ("options",)
    return f"{where}: {dotted(key)} = {shown(error['input'], key)}: {reworded(error)}"


def _of_type(hint: Any) -> str:
    if hint is None or hint is Any:
        return ""
    return f" ({getattr(hint, '__name__', str(hint).replace('typing.', ''))})"
