"""How items become the records of tables: which table, which columns, and in which form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from scraper.errors import ConfigError, ExtractionError
from scraper.pipelines.cells import kind_of
from scraper.pipelines.columns import MOST, Columns, Fitting, Layout
from scraper.pipelines.tables import (
    RUNS,
    Found,
    Heading,
    Plan,
    Store,
    TableNames,
    bad_name,
    bad_names,
    cells_for,
    heading_of,
)
from scraper.protocols import Page
from scraper.records import record

__all__ = ["TablePlans"]


class TablePlans:
    """The plans of a process for the tables that *names* means, in *store*.

    `columns`: what the tables have. *key*: fields by which rows are unique. *fields*: the columns,
    if not all. *look*: what is there of a table. *shared*: workers share the crawl; then an item
    has the columns that it brings, and the worker that applies compares them (`fit`).
    """

    def __init__(
        self,
        store: Store,
        names: TableNames,
        key: Sequence[str],
        fields: Sequence[str] | None,
        provenance: Sequence[str],
        look: Callable[[str], Awaitable[Found | None]],
        *,
        shared: bool,
    ) -> None:
        self.columns = Columns(store.where, fields, provenance=provenance)
        self.columns.shared = shared
        self._store = store
        self._names = names
        self._key = tuple(key)
        self._fields = fields
        self._provenance = tuple(provenance)
        self._look = look
        self._shared = shared
        self._planning = asyncio.Lock()
        self._places: dict[str, tuple[str, str]] = {}
        self._plans: dict[str, Plan] = {}
        self._found: dict[str, Found | None] = {}
        self._fits: dict[bytes, Fitting] = {}
        if not names.by_item:
            self._refuse_name(names.of(""))

    def _refuse_name(self, table: str) -> None:
        bad = bad_name(table, self._store)
        reserved = self._store.reserved
        if table.lower() == RUNS or (reserved and table.lower().startswith(reserved)):
            bad = "is a name that is taken"
        if bad:
            raise ConfigError(
                f"{self._store.where}: table {table!r} {bad}", hint='Name another: table = "…".'
            )

    # ── items

    async def record(self, item: Any, page: Page) -> bytes:
        """The record of *item*. Raises `ExtractionError` for one that does not fit."""
        model = type(item).__name__
        table, stream = self._place_of(model)
        if self._shared:
            return await self._brought(table, stream, item, page)
        plan = self._plans.get(stream)
        layout = self.columns.layouts.get(stream)
        if layout is not None and layout.model not in ("", model):
            raise ConfigError(
                f"{self._store.where}: table {table} has the columns of {layout.model}, and a"
                f" {model} came",
                hint='Give each type a table of its own with {item} in table = "…", let one type in'
                f' with items = ["{layout.model}"], or name the columns with fields = […].',
            )
        if plan is None:
            async with self._planning:
                plan = self._plans.get(stream) or await self._plan(table, stream, item, page)
        _, values = self.columns.row(item, page, stream)
        return plan.record(values)

    async def _brought(self, table: str, stream: str, item: Any, page: Page) -> bytes:
        layout, values = self.columns.row(item, page, stream)
        plan: Plan | None = layout.made
        if plan is None:
            self._check(table, item)
            async with self._planning:
                layout.made = plan = layout.made or await self._planned(table, layout)
        return plan.record(values)

    def _place_of(self, item: str) -> tuple[str, str]:
        """The table for items of a type: its name, and as the database compares it."""
        place = self._places.get(item)
        if place is None:
            table = self._names.of(item)
            place = self._places[item] = table, self._store.folded_table(table)
        return place

    async def _plan(self, table: str, stream: str, item: Any, page: Page) -> Plan:
        """Decide the columns of *table*, by its first item in this process."""
        known = stream in self.columns.layouts
        if not known:
            self._check(table, item)
        layout, _ = self.columns.row(item, page, stream)
        try:
            plan = await self._planned(table, layout)
        except BaseException:
            if not known:
                del self.columns.layouts[stream]
            raise
        self._plans[stream] = plan
        return plan

    def _check(self, table: str, item: Any) -> None:
        """Whether an item may decide the columns: a dict that cannot is rejected."""
        names = list(self._fields or map(str, record(item)))
        bad = bad_names([*names, *self._provenance], self._store)
        if not bad and not self._fields and isinstance(item, Mapping):
            missing = [name for name in self._key if name not in (*names, *self._provenance)]
            bad = f"it has no {missing[0]}, and that is the key" if missing else ""
        if not bad:
            return
        text = f"{self._store.where}: table {table}: {type(item).__name__}: {bad}"
        if isinstance(item, Mapping) and not self._fields:
            raise ExtractionError("schema", text)
        raise ConfigError(text, hint="Name the columns with fields = […].")

    async def _planned(self, table: str, layout: Layout) -> Plan:
        store = self._store
        self._refuse_name(table)
        if missing := [name for name in self._key if name not in layout.columns]:
            raise ConfigError(
                f"{store.where}: key = {list(self._key)}: table {table} has no column"
                f" {missing[0]} (it has {', '.join(layout.columns)})"
            )
        kinds = [(name, kind_of(layout.hint(name))) for name in layout.columns]
        if listed := [name for name, kind in kinds if name in self._key and kind == "json"]:
            raise ConfigError(
                f"{store.where}: key = {list(self._key)}: {listed[0]} is a list or an object"
            )
        wanted = Heading(table, layout.model, len(layout.names), tuple(kinds))
        if table not in self._found or not self._shared:  # there, dicts may have many plans
            self._found[table] = await self._look(table)
        cells = cells_for(wanted, self._key, self._found[table], store)
        columns = tuple((name, cell.kind) for name, cell in zip(wanted.names, cells, strict=True))
        return Plan(f"table {table}", wanted._replace(columns=columns), cells, self._key)

    # ── what was applied, and what other workers bring

    def applied(self, headings: Sequence[Heading], tables: Mapping[str, Any]) -> dict[str, Any]:
        """*tables* of the last mark, and those that *headings* add: for the next."""
        now = dict(tables)
        for heading in headings:
            stream = self._store.folded_table(heading.table)
            known = self.columns.layouts.get(stream)
            model, names = heading.model, heading.names[: heading.fields]
            if self._shared and known is not None:  # a dict may bring some of the columns
                model, names = known.model, known.names
            now[stream] = [model, list(names)]
        return now

    def settle(self, tables: Mapping[str, Any]) -> None:
        """What an earlier process decided, holds."""
        for stream, (model, names) in tables.items():
            known = Layout(model, tuple(names), self._provenance)
            self.columns.layouts.setdefault(stream, known)

    def fit(self, record: bytes) -> bytes:
        """*record*, if its table has its columns. Raises `ItemInvalid`."""
        head = heading_of(record)
        fitting = self._fits.get(head)
        if fitting is None:
            if len(self._fits) >= MOST:
                self._fits.clear()
            heading = Heading.load(head)
            stream = self._store.folded_table(heading.table)
            fitting = Fitting(stream, heading.model, heading.names)
            fitting = self._fits[head] = self.columns.compared(fitting, heading.fields)
        if fitting.wrong:
            raise fitting.misfit(json.loads(record[len(head) :]))
        return record
