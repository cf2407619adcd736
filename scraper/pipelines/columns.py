"""Columns: what the sinks with fixed columns (CSV, tables, Parquet) have in common.

A file or table has the columns of one model: of the first item's, unless `fields` names them.
Once there, they are fixed for the whole run, over every resume. What does not fit is an error or a
rejected item: nothing is cut in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, get_type_hints

from pydantic import BaseModel

from scraper.errors import ConfigError, DamagedState, ExtractionError
from scraper.pipelines.provenance import PROVENANCE
from scraper.protocols import Page
from scraper.records import record

__all__ = ["Columns", "Layout", "hints_of"]


@dataclass(slots=True)
class Layout:
    """The columns of one file or table. `model`: the type of its items, "" when any may come.

    `names`: of the items' fields, in order; the provenance's follow them in `columns`. `hints`:
    the fields' annotations, as far as the model is known yet.
    """

    model: str
    names: tuple[str, ...]
    provenance: tuple[str, ...] = ()
    hints: Mapping[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.names, *self.provenance)

    def hint(self, column: str) -> Any:
        """The type of a column's values; `Any` when nothing says it."""
        return PROVENANCE.get(column) or self.hints.get(column, Any)


class Columns:
    """The layouts of a sink's streams, made as items come.

    *fields*: the columns, when they are named; of a model, the others are left out. *where*: what
    messages call the sink's output. A stream is what goes to one file or table: see `FileSet`.
    """

    def __init__(
        self, where: str, fields: Sequence[str] | None = None, *, provenance: Sequence[str] = ()
    ) -> None:
        self._where = where
        self._fields = tuple(fields) if fields else ()
        self._provenance = tuple(provenance)
        self.layouts: dict[str, Layout] = {}
        if len(set(self._fields)) < len(self._fields):
            raise ConfigError(f"fields = {list(self._fields)}: a column is named twice")

    def row(self, item: Any, page: Page, stream: str = "") -> tuple[Layout, tuple[Any, ...]]:
        """The layout for *item* and its values in that order; None for what it has not.

        Raises `ExtractionError("schema")` for an item with a key that is no column, and
        `ConfigError` for the first item of another model than the file's.
        """
        values = record(item)
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
            names = self._fields or tuple(map(str, values))
            taken = [name for name in names if name in self._provenance]
            if taken:
                raise ConfigError(
                    f"{self._where}: provenance adds {taken[0]}, which {model} has already",
                    hint="Name the columns of provenance that are to be added.",
                )
            layout = Layout("" if self._fields else model, names, self._provenance)
            self.layouts[stream] = layout
        elif layout.model not in ("", model):
            raise ConfigError(
                f"{self._where} has the columns of {layout.model}, and a {model} came",
                hint="Give each type a file of its own with {item} in the path, let one type in"
                f' with items = ["{layout.model}"], or name the columns with fields = […].',
            )
        if not layout.hints and not isinstance(item, dict):
            layout.hints = hints_of(type(item))
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
