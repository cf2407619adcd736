"""The page that items come from: what its sinks staged, until the page is committed."""

from __future__ import annotations

import os
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple, overload

from scraper import urls
from scraper.errors import ExtractionError, OutOfResource
from scraper.http import Request, Response
from scraper.observation import DUPLICATE, Lost, Observation
from scraper.pipelines.provenance import provenance
from scraper.protocols import Sink
from scraper.revisit import Earlier, digest, were_there

__all__ = ["Fault", "Limits", "StagedItem", "StagedPage", "group_records"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one page may hold. Sizes are bytes of encoded records.

    `spill`: above it a page's records move to a temporary file in `directory` (None: the
    system's), so that memory stays bounded. `page`: of all records together; 0: any.
    """

    item_size: int = 1_000_000
    items: int = 10_000
    page: int = 0
    spill: int = 8 << 20
    directory: Path | None = None


DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class Spilled:
    """A record that lies in the page's temporary file."""

    offset: int
    size: int


class Claim(NamedTuple):
    """An item's wish to be the only one with `key` that passes `stage`."""

    stage: str
    key: int
    after: int


class Fault(NamedTuple):
    """Why an item was rejected: `reason`, its type, (field, message) pairs, the stage's name."""

    reason: str
    item: str
    errors: tuple[tuple[str, str], ...]
    stage: str | None = None


DOUBLE = ("dropped", f"dropped:{DUPLICATE}")
BEFORE = ("dropped", "dropped:delivered_before")

SHOWN, SHOWN_BYTES = 4_000, 4 << 20
"""Items of a page, and bytes staged for them, up to which their values are held until it ends: in
case that it must be remembered. Digests of more are taken at once, which costs 3 µs an item."""


@dataclass(slots=True, eq=False)
class StagedItem:
    """One item's end: was it `delivered`, which counters it adds to, what was staged for whom.

    `claims`: what it claimed, and how many records it had staged by then. `observed`: what is to
    be known of its values, or of its faults. `fault`: why it was rejected, if it was. `digest`: of
    the item as the callback yielded it, once the page has ended and needs it; 0: not known. Not
    the item itself, nor its error: they would outlive the callback by a whole group.
    """

    delivered: bool = False
    counted: tuple[str, ...] = ()
    records: list[tuple[Sink, Any, int]] = field(default_factory=list)
    claims: tuple[Claim, ...] = ()
    observed: Observation | Lost | None = None
    fault: Fault | None = None
    digest: int = 0


class StagedPage:
    """A `Page` that keeps, per item, what the sinks staged, in order.

    `items`: one `StagedItem` per item that the callback yielded. `faulty`: some were rejected.
    `staged`: bytes staged, wherever they lie. `number`: of the request in its ledger, which no
    other has. Not shared between tasks: a page's items pass the chain one by one. Call `release`
    when the page is committed or given up.
    """

    __slots__ = (
        "__weakref__",
        "_current",
        "_end",
        "_file",
        "_held",
        "_provenance",
        "_shown",
        "faulty",
        "fetched_at",
        "items",
        "limits",
        "number",
        "request",
        "response",
        "spider",
        "staged",
        "url",
        "version",
    )

    def __init__(
        self,
        request: Request,
        response: Response | None = None,
        *,
        spider: str = "",
        version: str = "",
        fetched_at: float | None = None,
        limits: Limits = DEFAULT,
        number: int = 0,
    ) -> None:
        self.number = number
        self.request = request
        self.response = response
        self.url = response.url if response is not None else request.url
        self.spider = spider
        self.version = version
        self.fetched_at = time.time() if fetched_at is None else fetched_at
        self.limits = limits
        self.items: list[StagedItem] = []
        self.staged = 0
        self._current: StagedItem  # since `begin`
        self.faulty = False
        self._held = 0  # bytes of records in memory that could be spilled
        self._end = 0  # of the temporary file
        self._provenance: Mapping[str, Any] | None = None
        self._shown: list[tuple[StagedItem, str, Mapping[str, Any]]] = []
        self._file: IO[bytes] | None = None

    # ── while the items pass the chain

    def require_room(self) -> None:
        """Raises `ExtractionError` when what is staged is more than `limits.page`."""
        if 0 < self.limits.page < self.staged:
            raise ExtractionError(
                "output_too_large",
                f"the items of {urls.redact(self.url)} take {self.staged:,} bytes together, more"
                f" than the {self.limits.page:,} that workers pass on to each other",
                hint="Let the callback yield less from one page.",
            )

    def begin(self) -> StagedItem:
        """The next item is about to pass. Raises `ExtractionError` when it is one too many."""
        if len(self.items) >= self.limits.items:
            raise ExtractionError(
                "too_many_items",
                f"{urls.redact(self.url)} yields more than {self.limits.items:,} items",
                hint="Raise crawl.max_items_per_page, or look for a loop that never ends.",
            )
        self._current = item = StagedItem()
        self.items.append(item)
        return item

    def stage(self, sink: Sink, record: Any, size: int) -> None:
        """Keep *record* for *sink* until the page is committed. *size*: bytes, for the bounds.

        Raises `ExtractionError("item_too_large")`, which rejects the item.
        """
        if size > self.limits.item_size:
            raise ExtractionError(
                "item_too_large",
                f"an item of {urls.redact(self.url)} takes {size:,} bytes,"
                f" more than crawl.max_item_size = {self.limits.item_size:,}",
            )
        self.keep(sink, record, size)

    def keep(self, sink: Sink, record: Any, size: int) -> None:
        """`stage`, whatever the size: for what was cut to a bound already."""
        self._current.records.append((sink, record, size))
        self.staged += size
        if type(record) is bytes:
            self._held += size
            if self._held > self.limits.spill:
                self._spill()

    def claim(self, stage: str, key: int) -> None:
        """Let the current item pass only if nothing delivered has *key*: `decide` will tell."""
        item = self._current
        item.claims += (Claim(stage, key, len(item.records)),)

    def note(self, observed: Observation | Lost) -> None:
        """What is to be known of the current item."""
        self._current.observed = observed

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the page's items come from: the columns of `provenance.PROVENANCE`."""
        if self._provenance is None:
            self._provenance = provenance(
                self.request,
                self.response,
                fetched_at=self.fetched_at,
                spider=self.spider,
                version=self.version,
            )
        return self._provenance

    def reject(self, fault: Fault) -> None:
        """The current item is at fault: what else becomes of it is up to the chain."""
        self._current.fault, self.faulty = fault, True

    def withdraw(self) -> None:
        """Forget what the current item staged and claimed: it failed."""
        self._forget(self._current)

    def _forget(self, item: StagedItem, keep: int = 0) -> None:
        for _, record, size in item.records[keep:]:
            self.staged -= size
            if type(record) is bytes:
                self._held -= size
        del item.records[keep:]
        if not keep:
            item.claims = ()

    def _spill(self) -> None:
        where = self.limits.directory
        try:
            if self._file is None:
                # Without a name from the start (O_TMPFILE or unlinked): no crash leaves it behind.
                self._file = tempfile.TemporaryFile(buffering=0, dir=where)  # noqa: SIM115
                weakref.finalize(self, self._file.close)  # a cancelled page is released by nobody
            for item in self.items:
                for place, (sink, record, size) in enumerate(item.records):
                    if type(record) is bytes:
                        item.records[place] = (sink, self._put(self._file, record), size)
        except OSError as error:
            raise OutOfResource(
                f"{urls.redact(self.url)}: {self.staged:,} bytes of items on one page, and no room"
                f" to spill them to {where or tempfile.gettempdir()}: {error.strerror}",
                hint="Make room there and run the same command again.",
            ) from error
        self._held = 0

    def _put(self, file: IO[bytes], record: bytes) -> Spilled:
        place = Spilled(self._end, len(record))
        rest = memoryview(record)
        while rest:
            written = os.pwrite(file.fileno(), rest, self._end)
            rest, self._end = rest[written:], self._end + written
        return place

    # ── once its callback is through

    def show(self, name: str, values: Mapping[str, Any]) -> None:
        """What the current item is, before any stage changes it: *values* are the page's own."""
        self._shown.append((self._current, name, values))
        if len(self._shown) > SHOWN or self.staged > SHOWN_BYTES:
            self._take_digests()  # a page that large pays for it, and its items are let go

    def _take_digests(self) -> None:
        for item, name, values in self._shown:
            item.digest = digest(name, values)
        self._shown.clear()

    def end(self, earlier: Earlier | None = None, *, failed: bool = False) -> None:
        """No item follows. Forget those that an *earlier* visit delivered; let go of the values.

        *failed*: the items are the errback's.
        """
        if earlier is not None or failed or self.faulty:
            self._take_digests()
        self._shown.clear()
        if earlier is None:
            return
        before, also = earlier.known(failed=failed)
        now = [item.digest for item in self.items]
        for item, there in zip(self.items, were_there(before, also, now), strict=True):
            if there:
                self._forget(item)
                item.delivered, item.counted = False, BEFORE
                item.fault = item.observed = None

    # ── once it is settled

    def decide(self, take: Callable[[str, int], bool]) -> None:
        """Settle the items' claims, in order: `take(stage, key)` says whether the key was free.

        What an item staged before a claim that fails stays; the rest is forgotten. `claims` is
        then what was taken. A key is taken by what is delivered, or by what a sink keeps: not by
        an item that a later stage dropped before it came anywhere.
        """
        for item in self.items:
            if not item.claims:
                continue
            held: list[Claim] = []
            for claim in item.claims:
                if not item.delivered and claim.after == len(item.records):
                    break
                if not take(claim.stage, claim.key):
                    self._forget(item, claim.after)
                    if item.delivered:
                        item.delivered, item.counted = False, DOUBLE
                    break
                held.append(claim)
            item.claims = tuple(held)

    def cut(self, keep: int) -> None:
        """Keep items up to the *keep*-th delivered one; forget what came after it.

        What was dropped or rejected before it stays; *keep* = 0 keeps nothing at all.
        """
        delivered = 0
        for place, item in enumerate(self.items):
            if delivered == keep:
                for later in self.items[place:]:
                    self._forget(later)
                del self.items[place:]
                break
            delivered += item.delivered

    def count(self, counts: dict[str, int]) -> None:
        """Add this page's items to *counts*: `items`, `dropped`, `rejected`, and by reason."""
        for item in self.items:
            for name in item.counted:
                counts[name] = counts.get(name, 0) + 1

    def observations(self) -> Iterator[Observation | Lost]:
        """What was noted, as it turned out: an item that is a duplicate was lost. Once."""
        for item in self.items:
            observed, item.observed = item.observed, None
            if observed is None:
                continue
            if item.counted is DOUBLE and not isinstance(observed, Lost):
                observed = Lost(observed[0], DUPLICATE, rejected=False)
            yield observed

    @property
    def spilled(self) -> bool:
        return self._file is not None

    def read(self, spilled: Spilled) -> bytes:
        """A spilled record, back from the file."""
        if self._file is None:
            raise ValueError(f"{self!r} is released")
        return os.pread(self._file.fileno(), spilled.size, spilled.offset)

    def release(self) -> None:
        """Forget everything, the temporary file included. Idempotent."""
        self.items.clear()
        self._shown.clear()
        self.staged = self._held = 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def __repr__(self) -> str:
        return f"<StagedPage {self.url}: {len(self.items)} items, {self.staged:,} bytes>"


class RecordRun(Sequence[Any]):
    """One sink's records of a group, read back from their pages' files as they are asked for."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[tuple[StagedPage, Any]] = []

    def append(self, page: StagedPage, record: Any) -> None:
        self._parts.append((page, record))

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [_load(page, record) for page, record in self._parts[index]]
        return _load(*self._parts[index])

    def __len__(self) -> int:
        return len(self._parts)


def group_records(pages: Iterable[StagedPage]) -> dict[Sink, Sequence[Any]]:
    """Each sink's records of a group of pages, in commit order.

    A list, or, when a page spilled, a sequence that reads one record at a time. Valid until the
    pages are released.
    """
    pages = list(pages)
    if any(page.spilled for page in pages):
        runs: dict[Sink, RecordRun] = {}
        for page in pages:
            for item in page.items:
                for sink, record, _ in item.records:
                    runs.setdefault(sink, RecordRun()).append(page, record)
        return dict(runs)
    lists: dict[Sink, list[Any]] = {}
    for page in pages:
        for item in page.items:
            for sink, record, _ in item.records:
                if sink in lists:
                    lists[sink].append(record)
                else:
                    lists[sink] = [record]
    return dict(lists)


def _load(page: StagedPage, record: Any) -> Any:
    return page.read(record) if type(record) is Spilled else record
