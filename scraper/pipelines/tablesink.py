"""The sink behind `sqlite` and `sql`: a table for each type of item, its rows applied by groups.

::

    process          in the worker: the item becomes a record (a heading and a row)
    apply(group)     in one transaction: the run's mark moves from the last group to this one,
                     and the group's rows are written

The mark is compared before it is moved. So a group is applied once, whatever is repeated, and a
database that is not what it was (restored from a copy, emptied, written by another process under
the same name) is noticed and never written to.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

from scraper.errors import (
    ConfigError,
    DamagedState,
    GivenUp,
    OutOfResource,
    ScraperError,
)
from scraper.pipelines.columns import Columns
from scraper.pipelines.provenance import Provenance, chosen
from scraper.pipelines.tableplans import TablePlans
from scraper.pipelines.tables import (
    RUNS,
    Away,
    Found,
    Heading,
    Mark,
    Store,
    TableNames,
    Transaction,
    headings,
    rows_of,
    short,
)
from scraper.protocols import CrawlInfo, Page

__all__ = ["Mode", "TableSink"]

T = TypeVar("T")

Mode = Literal["append", "replace"]

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between tries while a database is away: doubled each time."""

_FRESH = "Run with --fresh to start anew; the old state is set aside, not deleted."


class TableSink:
    """Writes items to tables. Derive, and say in `_store` where they are.

    *table*: its name; `{item}` (the type's name in snake case, `items` for dicts), `{spider}` and
    `{started}` are filled in. *key*: fields by which rows are unique: an item takes the place of
    the row that has its key. *mode*: "append" leaves rows of earlier runs where they are,
    "replace" deletes them when the first group of a new run is written. *fields*: the columns, if
    not all. *provenance*: columns to add that say where each row came from. *patience*: seconds to
    wait for a database that is locked or away before the crawl ends, to be resumed.
    """

    recovery: Literal["rewind", "redo"] = "redo"
    kind = "table"

    def __init__(
        self,
        table: str = "{item}",
        *,
        key: Sequence[str] = (),
        mode: Mode = "append",
        fields: Sequence[str] | None = None,
        provenance: Provenance = False,
        patience: float = 30.0,
    ) -> None:
        self.table = table
        self.mode: Mode = mode
        self.fields = list(fields) if fields else None
        self.provenance = chosen(provenance)
        self.patience = patience
        self.records: int | None = None
        self._key = tuple(key)
        self._names = TableNames(table)
        self._made: TablePlans | None = None
        self._prepared: set[Heading] = set()
        self._opened: Store | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._shared = False
        self._run = self._output = ""
        self._writer = secrets.token_hex(8)
        self._mark: Mark | None = None
        self._committed: tuple[int, int] | None = None  # group and records, says the ledger
        self._stateless = False
        if len(set(self._key)) < len(self._key):
            raise ConfigError(f"key = {list(self._key)}: a field is named twice")
        if patience < 0:
            raise ConfigError(f"patience = {patience:g}: give seconds, 0 or more")
        Columns(table, self.fields)  # are they columns?

    def _store(self, crawl: CrawlInfo) -> Store:
        """The database, not connected yet. Raises `UsageError` for what cannot be one."""
        raise NotImplementedError

    # ── opening and closing

    @property
    def store(self) -> Store:
        if self._opened is None:
            raise ScraperError(f"{self!r} is not open")
        return self._opened

    @property
    def _plans(self) -> TablePlans:
        if self._made is None:
            raise ScraperError(f"{self!r} is not open")
        return self._made

    @property
    def key(self) -> str:
        """Where the database is, and the table when it has a name of its own."""
        where = self._opened.where if self._opened is not None else self._place()
        return where if self.table == "{item}" else f"{where} {self.table}"

    def _place(self) -> str:
        """What to call the database before it is open."""
        raise NotImplementedError

    async def open(self, crawl: CrawlInfo) -> None:
        store = self._store(crawl)
        self._names.fill(crawl)
        self._stateless = crawl.job_dir is None
        # What no job remembers is never resumed, and may share its name with others.
        self._run = short(f"{crawl.run}/{self._writer}" if self._stateless else crawl.run)
        self._output = short(self.table)
        self._shared, self._prepared = crawl.shared, set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tables")
        self._opened = store
        try:
            await self._call(store.check)
            self._made = TablePlans(
                store,
                self._names,
                self._key,
                self.fields,
                self.provenance,
                self._look,
                shared=crawl.shared,
            )
        except Away as away:
            await self.aclose()
            raise self._gone(away) from away
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Close the connection, once what the thread is doing is done."""
        thread, self._thread = self._thread, None
        if thread is None or self._opened is None:
            return
        closing = asyncio.get_running_loop().run_in_executor(thread, self._opened.close)
        try:
            await asyncio.shield(closing)
        finally:
            thread.shutdown(wait=False)

    async def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        if self._thread is None:
            raise ScraperError(f"{self!r} is not open")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *arguments)

    async def _persist(self, function: Callable[..., T], *arguments: Any) -> T:
        """The same, again and again while the database is away, for `patience` seconds in all."""
        clock, pause = asyncio.get_running_loop().time, FIRST_PAUSE
        end = clock() + self.patience
        while True:
            try:
                return await self._call(function, *arguments)
            except Away as away:
                if (left := end - clock()) <= 0:
                    raise self._gone(away) from away
            await asyncio.sleep(min(pause, LONGEST_PAUSE, left))
            pause *= 2

    async def _look(self, table: str) -> Found | None:
        return await self._persist(self.store.look, table)

    def _gone(self, away: Away) -> OutOfResource:
        return OutOfResource(
            f"{self.store.where}: {away}",
            hint="What was committed is safe. Run the same command again when it is back.",
        )

    # ── items

    async def process(self, item: Any, page: Page) -> Any:
        row = await self._plans.record(item, page)
        page.stage(self, row, len(row))
        return item

    def fit(self, record: bytes) -> bytes:
        """A record that came from another worker, if its table has its columns; see `Sink`."""
        return self._plans.fit(record)

    # ── groups

    async def rewind(self, position: Any) -> None:
        """Compare what the database says of this run with what the ledger says."""
        self._mark = self._committed = None
        if position is None:
            self.records = 0
            if self._shared:  # with one process, a ledger does not forget what it has committed
                mark = await self._persist(self.store.mark, self._run, self._output)
                self._refuse_more(mark, 0, 0)
            await self._persist(self.store.forget, self._run, self._output)
            return
        try:
            group, records = int(position["group"]), int(position["records"])
        except (TypeError, KeyError, ValueError, OverflowError):
            raise DamagedState(f"{self.key}: {position!r} is not a position of it") from None
        self.records = records
        self._committed = group, records
        self._mark = mark = await self._persist(self.store.mark, self._run, self._output)
        if mark is None:
            return
        self._refuse_more(mark, group, records)
        self._plans.columns.take_notes(mark.tables)

    def _refuse_more(self, mark: Mark | None, group: int, records: int) -> None:
        if mark is not None and (mark.group > group or mark.records > records):
            raise DamagedState(
                f"{self.key} has {mark.records:,} records of this run, and the ledger knows of"
                f" {records:,}",
                hint=f"Is the ledger an older copy? {_FRESH}",
            )

    async def apply(self, group: int, records: Sequence[bytes]) -> None:
        old = self._mark
        if old is not None and group <= old.group:
            return
        self._expect_nothing_before(group)
        tables = self._plans.applied(headings(records), old.tables if old is not None else {})
        had = old.records if old is not None else 0
        new = Mark(self._run, self._output, group, had + len(records), self._writer, tables)
        replayed = self._committed is not None and group == self._committed[0]
        if self._committed is not None and replayed:
            if new.records != self._committed[1]:
                raise self._lost(self._committed[1] - len(records), had)
            self._committed = None
        self._mark = await self._persist(self._deliver, old, new, records, replayed)
        self._plans.settle(tables)
        self.records = max(self.records or 0, new.records)

    def _expect_nothing_before(self, group: int | None) -> None:
        """Raises `DamagedState` when the ledger let go of records that are not here."""
        committed, mark = self._committed, self._mark
        if committed is None or (group is not None and group <= committed[0]):
            return
        if committed != ((mark.group, mark.records) if mark is not None else (0, 0)):
            raise self._lost(committed[1], mark.records if mark is not None else 0)
        self._committed = None

    def _lost(self, expected: int, found: int) -> DamagedState:
        return DamagedState(
            f"{self.key} should have {expected:,} records of this run, and says that it has"
            f" {found:,} (table {RUNS})",
            hint="Was it emptied, restored from a copy, or did another run replace the tables? Put"
            f" it back as it was and run again. Or: {_FRESH[0].lower()}{_FRESH[1:]}",
        )

    def _deliver(
        self, old: Mark | None, new: Mark, records: Sequence[bytes], replayed: bool = False
    ) -> Mark:
        """In the thread: one transaction. The mark that is there afterwards."""
        store = self.store
        found = headings(records)
        if old is None or not self._prepared.issuperset(found):
            store.prepare(found, self._key)
            self._prepared.update(found)
        with store.transaction() as transaction:
            if not transaction.swap(old, new):
                return self._overtaken(old, new, transaction, replayed)
            if self.mode == "replace":
                _make_room(transaction, old, new)
            for heading, rows in rows_of(records):
                transaction.insert(heading, self._key, rows)
        return new

    def _overtaken(
        self, old: Mark | None, new: Mark, transaction: Transaction, replayed: bool
    ) -> Mark:
        """Another mark was there. It may be the group's own: the answer to its commit was lost,
        or a process that was killed had sent it. Else raises `DamagedState`."""
        there = transaction.mark(new.run, new.output)
        other = replayed or self._shared  # may have applied it
        if there is not None and (new.same(there) or (other and new[:4] == there[:4])):
            return there
        if self._shared and there is not None and there.group > new.group:
            raise GivenUp(
                f"{self.key}: another worker writes to it by now",
                hint="Run the same command again: it joins the crawl as a new worker.",
            )
        raise self._lost(old.records if old else 0, there.records if there else 0)

    # ── the end

    async def publish(self) -> None:
        """The rows are there already. In mode "replace", a run without any leaves no others."""
        self._expect_nothing_before(None)
        if self.mode == "replace" and self._mark is None:
            mark = await self._persist(self.store.mark, self._run, self._output)
            new = mark or Mark(self._run, self._output, 0, 0, self._writer, {})
            if mark is None:
                new = await self._persist(self._deliver, None, new, [])
            self._mark = new
        await self._forget_stateless()

    async def set_aside(self) -> None:
        """Rows are live: what was delivered stays."""
        await self._forget_stateless()

    async def _forget_stateless(self) -> None:
        """Nobody goes on with a run without a job; in mode "replace", the next one looks for it."""
        if self._stateless and self._mark is not None and self.mode == "append":
            await self._persist(self.store.forget, self._run, self._output)

    async def reopen(self, position: Any, aside: Mapping[str, str]) -> Any:
        """Rows are live: there is nothing to bring back."""
        return position

    def describe(self) -> dict[str, Any]:
        """`kind`, `path`, `mode`, `records`, `tables`; `live`: rows are visible group by group,
        and stay, however the crawl ends."""
        return {
            "kind": self.kind,
            "path": self._opened.where if self._opened is not None else self._place(),
            "mode": self.mode,
            "records": self.records,
            "tables": sorted(self._mark.tables) if self._mark is not None else [],
            "live": True,
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key}>"


def _make_room(transaction: Transaction, old: Mark | None, new: Mark) -> None:
    """Delete what earlier runs wrote to the tables that this one begins to write to.

    Their marks go, too: a run that is not finished is to notice that its rows are gone.
    """
    begun = new.tables.keys() - (old.tables.keys() if old is not None else set())
    if not begun and old is not None:
        return
    others = [mark for mark in transaction.marks() if mark[:2] != new[:2]]
    if old is None:
        begun = begun.union(*(mark.tables for mark in others if mark.output == new.output))
    for table in sorted(begun):
        transaction.clear(table)
    for mark in others:
        if mark.tables.keys() & begun or (mark.output == new.output and not mark.tables):
            transaction.drop(mark.run, mark.output)
