"""Columns: what the sinks with fixed columns (CSV, tables, Parquet) have in common.

A file or table has the columns of one model: of the first item's, unless `fields` names them.
Once there, they are fixed for the whole run, over every resume. What does not fit is an error or a
rejected item: nothing is cut in silence.

In a shared crawl the worker that writes decides them, by the first item that comes to it. So the
others put a *label* before each record, which says what its columns are, and `fitting` compares.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, get_type_hints

from pydantic import BaseModel

from scraper.errors import ConfigError, DamagedState, ExtractionError, ItemInvalid
from scraper.pipelines.provenance import PROVENANCE
from scraper.protocols import Page
from scraper.records import record

__all__ = ["Columns", "Fitting", "Layout", "hints_of", "label"]

MOST = 1000
"""Layouts of a worker, and labels that came from others, that are remembered."""


@dataclass(slots=True)
class Layout:
    """The columns of one file or table. `model`: the type of its items, "" when any may come.

    `names`: of the items' fields, in order; the provenance's follow them in `columns`. `hints`:
    the fields' annotations, as far as the model is known yet. `label`: in a shared crawl, what
    stands before its records; `made`: what else a sink has made of it.
    """

    model: str
    names: tuple[str, ...]
    provenance: tuple[str, ...] = ()
    hints: Mapping[str, Any] = field(default_factory=dict)
    label: bytes = b""
    made: Any = None

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.names, *self.provenance)

    def hint(self, column: str) -> Any:
        """The type of a column's values; `Any` when nothing says it."""
        return PROVENANCE.get(column) or self.hints.get(column, Any)


@dataclass(frozen=True, slots=True, eq=False)
class Fitting:
    """How records with one label become records of their stream.

    `columns`: those that they have. `order`: for each column of the stream, where it stands in
    them (None: nowhere); None: they have the same. `more`: what else their label says. `wrong`:
    why they do not fit ("": they do), and `field`: because of which of theirs.
    """

    stream: str
    model: str
    columns: tuple[str, ...]
    order: tuple[int | None, ...] | None = None
    more: Any = None
    wrong: str = ""
    field: str = ""

    def misfit(self, values: Sequence[Any]) -> ItemInvalid:
        """The error for an item with these *values*, in the order of its columns."""
        told: dict[str, Any] = {"field": self.field, "message": self.wrong}
        told |= {"selectors": [], "value": None}
        error = ItemInvalid(self.model, "", [told], dict(zip(self.columns, values, strict=False)))
        error.reason = "schema"
        return error


class Columns:
    """The layouts of a sink's streams, made as items come.

    *fields*: the columns, when they are named; of a model, the others are left out. *where*: what
    messages call the sink's output. A stream is what goes to one file or table: see `FileSet`.
    `shared`: workers share the crawl, so that `layouts` are what `fitting` has decided, and items
    of this process have the columns that they bring.
    """

    def __init__(
        self, where: str, fields: Sequence[str] | None = None, *, provenance: Sequence[str] = ()
    ) -> None:
        self._where = where
        self._fields = tuple(fields) if fields else ()
        self._provenance = tuple(provenance)
        self.layouts: dict[str, Layout] = {}
        self.shared = False
        self._own: dict[tuple[str, str, tuple[str, ...]], Layout] = {}
        self._fittings: dict[bytes, Fitting] = {}
        if len(set(self._fields)) < len(self._fields):
            raise ConfigError(f"fields = {list(self._fields)}: a column is named twice")

    def row(self, item: Any, page: Page, stream: str = "") -> tuple[Layout, tuple[Any, ...]]:
        """The layout for *item* and its values in that order; None for what it has not.

        Raises `ExtractionError("schema")` for an item with a key that is no column, and
        `ConfigError` for the first item of another model than the file's.
        """
        values = record(item)
        if self.shared:
            layout = self._brought(item, values, stream)
        else:
            layout = self._layout(item, values, stream)
        known = layout.names
        if len(values) > len(known) or any(name not in known for name in values):
            self._check(item, values, layout)
        row = tuple(map(values.get, known))
        if layout.provenance:
            row += tuple(map(page.provenance.get, layout.provenance))
        return layout, row

    def _layout(self, item: Any, values: Mapping[str, Any], stream: str) -> Layout:
        model = type(item).__name__
        layout = self.layouts.get(stream)
        if layout is None:
            layout = self.layouts[stream] = self._made(model, values)
        elif layout.model not in ("", model):
            raise ConfigError(
                f"{self._where} has the columns of {layout.model}, and a {model} came",
                hint="Give each type a file of its own with {item} in the path, let one type in"
                f' with items = ["{layout.model}"], or name the columns with fields = […].',
            )
        if not layout.hints and not isinstance(item, dict):
            layout.hints = hints_of(type(item))
        return layout

    def _made(self, model: str, values: Mapping[str, Any]) -> Layout:
        names = self._fields or tuple(map(str, values))
        if taken := [name for name in names if name in self._provenance]:
            raise ConfigError(
                f"{self._where}: provenance adds {taken[0]}, which {model} has already",
                hint="Name the columns of provenance that are to be added.",
            )
        return Layout("" if self._fields else model, names, self._provenance)

    def _brought(self, item: Any, values: Mapping[str, Any], stream: str) -> Layout:
        """The columns that *item* brings, for whoever writes to look at."""
        model = type(item).__name__
        key = stream, model, () if self._fields else tuple(values)
        layout = self._own.get(key)
        if layout is None:
            if len(self._own) >= MOST:
                self._own.clear()
            layout = self._own[key] = self._made(model, values)
            layout.hints = {} if isinstance(item, dict) else hints_of(type(item))
            layout.label = label(stream, layout)
        return layout

    def _check(self, item: Any, values: Mapping[str, Any], layout: Layout) -> None:
        if self._fields and not isinstance(item, dict):
            return  # a choice among a model's fields
        unknown = sorted(str(name) for name in values if name not in layout.names)
        if unknown:
            raise ExtractionError(
                "schema",
                f"{self._where} has no column {', '.join(map(repr, unknown))}"
                f" (it has {', '.join(layout.names)})",
                hint="The columns are those of the first item; name others with fields = […].",
            )

    # ── what other workers bring

    def fitting(self, label: bytes) -> Fitting:
        """How records with that label fit. The first to come for a stream decide its columns.

        Raises `DamagedState` for what is no label.
        """
        found = self._fittings.get(label)
        if found is None:
            if len(self._fittings) >= MOST:
                self._fittings.clear()
            found = self._fittings[label] = self._compared(label)
        return found

    def _compared(self, label: bytes) -> Fitting:
        try:
            stream, model, names, columns, more = json.loads(label)
            fitting = Fitting(str(stream), str(model), tuple(map(str, columns)), more=more)
            return self.compared(fitting, int(names))
        except (ValueError, TypeError, RecursionError):
            raise DamagedState(
                f"{self._where}: {label[:100]!r} does not say what a record's columns are"
            ) from None

    def compared(self, fitting: Fitting, names: int) -> Fitting:
        """*fitting*, with what comes of it; of its columns so many are the item's *names*."""
        columns, model = fitting.columns, fitting.model
        layout = self.layouts.get(fitting.stream)
        if layout is None:
            layout = Layout(model, columns[:names], self._provenance)
            self.layouts[fitting.stream] = layout
        if columns == layout.columns and model == layout.model:
            return fitting
        if model != layout.model:
            wrong = f"{self._where} has the columns of {layout.model}, and a {model} came"
            return replace(fitting, wrong=wrong)
        if unknown := [name for name in columns if name not in layout.columns]:
            wrong = f"{self._where} has no column {', '.join(map(repr, unknown))} (it has"
            wrong += f" {', '.join(layout.names)})"
            return replace(fitting, wrong=wrong, field=unknown[0])
        places = {name: place for place, name in enumerate(columns)}
        return replace(fitting, order=tuple(map(places.get, layout.columns)))

    # ── over a resume

    def notes(self) -> Any:
        """What is to be known again after a crash, as JSON; None when nothing is."""
        if not self.layouts:
            return None
        return {stream: [x.model, list(x.names)] for stream, x in self.layouts.items()}

    def take_notes(self, notes: Any) -> None:
        """What `notes` gave. Raises `DamagedState`."""
        try:
            self.layouts = {
                str(stream): Layout(str(model), tuple(map(str, names)), self._provenance)
                for stream, (model, names) in notes.items()
            }
        except (AttributeError, TypeError, ValueError):
            raise DamagedState(f"{self._where}: {notes!r} are not its columns") from None


def label(stream: str, layout: Layout, more: Any = None) -> bytes:
    """What stands before a record with the columns of *layout*. *more*: JSON, for its sink."""
    names = len(layout.names)
    told = [stream, layout.model, names, layout.columns, more]
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"


def hints_of(model: type) -> dict[str, Any]:
    """The annotations of a model's fields, by name: pydantic models, dataclasses, TypedDicts."""
    if issubclass(model, BaseModel):
        found = {name: info.annotation for name, info in model.model_fields.items()}
        computed = model.model_computed_fields
        found |= {name: info.return_type for name, info in computed.items()}
        return found | _serialised(model)
    try:
        hints = get_type_hints(model)
    except Exception:  # noqa: BLE001 - annotations that name what is not there any more
        return {}
    if is_dataclass(model):
        return {f.name: hints.get(f.name, Any) for f in fields(model)}
    return hints


def _serialised(model: type[BaseModel]) -> dict[str, Any]:
    """What the model's own serializers make of fields; `Any` where they do not say it."""
    found: dict[str, Any] = {}
    for decorator in model.__pydantic_decorators__.field_serializers.values():
        if "json" in decorator.info.when_used:
            continue  # not when values are wanted
        try:
            made = get_type_hints(decorator.func).get("return", Any)
        except Exception:  # noqa: BLE001 - annotations that name what is not there any more
            made = Any
        found.update(dict.fromkeys(decorator.info.fields, made))
    return found
