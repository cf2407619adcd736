"""A table of the configuration becomes a component, or one line says why not."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from scraper.components import build_component
from scraper.errors import ConfigError, UsageError

WHERE = "config.toml:3: [[pipelines]] no. 1"


class Plain:
    def __init__(
        self,
        path: str,
        *,
        mode: Literal["replace", "append"] = "replace",
        limit: int = 0,
        rate: float | None = None,
        quiet: bool = False,
        factor: Decimal = Decimal(1),
        fields: list[str] | None = None,
        names: set[str] = frozenset(),  # type: ignore[assignment]
        directory: Path = Path(),
        since: date | None = None,
        level: Annotated[int, Field(ge=1, le=9)] = 1,
        size: int | str = 0,
        columns: dict[str, int] | None = None,
        api_token: int = 0,
        odd: Plain | None = None,
    ) -> None:
        if limit == 13:
            raise ValueError("13 is unlucky\nreally")
        if limit == 14:
            raise UsageError("14 is worse", hint="take 15")
        self.given = {k: v for k, v in locals().items() if k != "self"}


@dataclass
class Data:
    path: str
    fields: list[str] = field(default_factory=list)
    made: bool = field(default=False, init=False)


class Model(BaseModel):
    path: str
    limit: int = Field(0, ge=0, alias="most")


class Empty:
    pass


class Open:
    def __init__(self, first: int = 0, **others: Any) -> None:
        self.others = others


class Derived(Plain):
    pass


class Untyped:
    def __init__(self, path, n=3):  # type: ignore[no-untyped-def]
        self.path, self.n = path, n


def test_values_come_as_the_annotations_want_them() -> None:
    made = build_component(
        Plain,
        {
            "path": "x",
            "rate": 1,
            "factor": "1.10",
            "names": ["a", "b", "a"],
            "directory": "out",
            "since": date(2024, 2, 29),
            "columns": {"a": 1},
            "size": "16 MB",
        },
        WHERE,
    )
    assert made.given["rate"] == 1.0
    assert made.given["factor"] == Decimal("1.10")
    assert made.given["names"] == {"a", "b"}
    assert made.given["directory"] == Path("out")
    assert made.given["since"] == date(2024, 2, 29)
    assert made.given["size"] == "16 MB"
    assert made.given["mode"] == "replace"


def test_every_kind_of_class() -> None:
    assert build_component(Data, {"path": "x", "fields": ["a"]}, WHERE) == Data("x", ["a"])
    assert build_component(Model, {"path": "x", "most": 3}, WHERE).limit == 3
    assert isinstance(build_component(Empty, {}, WHERE), Empty)
    assert build_component(Open, {"x": 1, "first": 2}, WHERE).others == {"x": 1}
    assert build_component(Derived, {"path": "x"}, WHERE).given["path"] == "x"
    assert build_component(Untyped, {"path": [1]}, WHERE).path == [1]


@pytest.mark.parametrize(
    ("cls", "options", "says"),
    [
        (Plain, {"pth": "x"}, 'unknown key pth = "x"; did you mean path?'),
        (Data, {"path": "x", "zzz": 1}, "unknown key zzz = 1; Data takes: path, fields"),
        (Data, {"path": "x", "made": True}, "unknown key made = true; Data takes: path, fields"),
        (Model, {"path": "x", "limit": 1}, "unknown key limit = 1; Model takes: path, most"),
        (Empty, {"x": 1}, "unknown key x = 1; Empty takes no options"),
        (Plain, {}, "Plain needs path (str)"),
        (Untyped, {}, "Untyped needs path"),
        (Model, {}, "Model needs path"),
        (Plain, {"path": 3}, "path = 3: must be a string"),
        (
            Plain,
            {"path": "x", "mode": "apend"},
            'mode = "apend": must be one of "replace", "append"; did you mean "append"?',
        ),
        (Plain, {"path": "x", "limit": "3"}, 'limit = "3": must be a whole number'),
        (Plain, {"path": "x", "limit": True}, "limit = true: must be a whole number"),
        (Plain, {"path": "x", "limit": 1.5}, "limit = 1.5: must be a whole number"),
        (Plain, {"path": "x", "quiet": 1}, "quiet = 1: must be true or false"),
        (Plain, {"path": "x", "fields": "a"}, 'fields = "a": must be a list'),
        (Plain, {"path": "x", "fields": ["a", 1]}, "fields.1 = 1: must be a string"),
        (
            Plain,
            {"path": "x", "columns": {"a b": "x"}},
            'columns."a b" = "x": must be a whole number',
        ),
        (Plain, {"path": "x", "level": 10}, "level = 10: must be at most 9"),
        (Plain, {"path": "x", "size": True}, "size = true: must be a whole number or a string"),
        (Plain, {"path": "x", "api_token": "s3cr3t"}, 'api_token = "***": must be a whole number'),
        (Model, {"path": "x", "most": -1}, "most = -1: must be at least 0"),
        (Plain, {"path": "x", "limit": 13}, "Plain refuses its options: ValueError: 13 is unlucky"),
        (Plain, {"path": "x", "limit": 14}, "14 is worse"),
        (Plain, {"path": "x", "odd": "y"}, "odd cannot be set from a table: its type is "),
    ],
)
def test_a_mistake_is_one_line(cls: type, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_component(cls, options, WHERE)
    assert caught.value.message.startswith(f"{WHERE}: {says}")
    assert "\n" not in caught.value.message


def test_annotations_that_cannot_be_read() -> None:
    class Lost:
        def __init__(self, path: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
            self.path = path

    with pytest.raises(ConfigError, match="annotations of Lost cannot be read"):
        build_component(Lost, {"path": "x"}, WHERE)


def test_objects_given_from_python_pass() -> None:
    class Holder:
        def __init__(self, thing: object, call: Any = None) -> None:
            self.thing = thing

    thing = object()
    assert build_component(Holder, {"thing": thing}, WHERE).thing is thing
