"""The relay: how what a page staged gets from the worker that fetched it to the one that writes it.

In a shared crawl one worker writes the outputs, in the order in which all of them commit. What a
page's sinks staged travels there as an entry (`scraper.pipelines.entries`), without the items, the
request and the response.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zlib import crc32

from scraper import urls
from scraper.errors import ConfigError, DamagedState, ExtractionError, ItemInvalid, UsageError
from scraper.observation import lost
from scraper.pipelines import entries, quarantine
from scraper.pipelines.chain import Chain
from scraper.pipelines.entries import Head
from scraper.pipelines.page import DEFAULT, Fault, Spilled, StagedItem, StagedPage
from scraper.protocols import Sink

__all__ = ["MOST", "Relay", "places", "require_places"]

log = logging.getLogger("scraper.crawl")

MOST = 32 << 20
"""Bytes that a page may stage in a shared crawl: its `Limits.page`."""

TOLD = 3
"""Items rejected here that are told one by one."""

_ITEMS = ("items",)


class Relay:
    """Makes entries of pages, and pages of entries, for the outputs of *chain*, once they are open.

    *spider*: its name, for the file of what is rejected here.
    """

    def __init__(self, chain: Chain, spider: str = "") -> None:
        self._spider = spider
        self._sinks = chain.sinks
        self._rejected = chain.rejected
        # Keys are paths, and workers on other machines may have the project elsewhere.
        self._outputs = crc32("\0".join(type(sink).__name__ for sink in chain.sinks).encode())
        self._places = {id(sink): place for place, sink in enumerate(chain.sinks)}
        fits = {id(sink): getattr(sink, "fit", None) for sink in chain.sinks}
        self._fits: dict[int, Callable[[Any], Any]] = {n: fit for n, fit in fits.items() if fit}
        self._told = 0

    # ── in the worker that fetched the page

    def dump(self, page: StagedPage) -> bytes:
        """The entry of *page*, whose callback is through. The page is left as it is.

        Raises `ConfigError` for a record that is neither bytes nor JSON, and
        `ExtractionError("output_too_large")` for an entry of more than `entries.LARGEST` bytes:
        for no page that stages `MOST` bytes at most.
        """
        entry = self._sealed(page)
        if len(entry) > entries.LARGEST:  # what is observed of items may be as large as they are
            log.warning("%s: so many items that their quality is not told", urls.redact(page.url))
            entry = self._sealed(page, observed=False)
        if len(entry) > entries.LARGEST:
            raise ExtractionError(
                "output_too_large",
                f"the items of {urls.redact(page.url)} take {len(entry):,} bytes together, more"
                f" than the {entries.LARGEST:,} that workers pass on to each other",
                hint="Let the callback yield less from one page.",
            )
        return entry

    def _sealed(self, page: StagedPage, *, observed: bool = True) -> bytes:
        stages: dict[str, int] = {}
        shapes: dict[tuple[Any, ...], int] | None = {} if observed else None
        records: list[bytes] = []
        items = [self._told_of(item, page, stages, shapes, records) for item in page.items]
        head = Head(page.number, page.url, self._outputs, [*stages], [*(shapes or ())], items)
        return entries.seal(head, records)

    def _told_of(
        self,
        item: StagedItem,
        page: StagedPage,
        stages: dict[str, int],
        shapes: dict[tuple[Any, ...], int] | None,
        found: list[bytes],
    ) -> list[Any]:
        records: list[int] = []
        for sink, record, _ in item.records:
            place = self._places[id(sink)]
            if type(record) is Spilled:
                record = page.read(record)
            elif type(record) is not bytes:
                record, place = _as_json(sink, record, page), ~place
            found.append(record)
            records += (place, len(record))
        counted = item.counted
        told = [1 if item.delivered else 0, [] if counted == _ITEMS else counted, records]
        noted = item.observed
        if noted is not None or item.claims:
            told.append(0 if noted is None or shapes is None else entries.observed(noted, shapes))
            for claim in item.claims:
                told += (stages.setdefault(claim.stage, len(stages)), claim.key, claim.after)
        return told

    # ── in the worker that writes

    def load(self, entry: bytes) -> StagedPage:
        """The page that *entry* was made of, its records for the sinks of this chain.

        Entries are loaded in their order. What does not fit an output, as it has become by then, is
        rejected here (`schema`), as its sink rejects what comes to it in a crawl of one process.
        Raises `DamagedState` for what `dump` has not made for these outputs.
        """
        head, body = entries.opened(entry)
        if head.outputs != self._outputs:
            raise DamagedState(
                f"what {urls.redact(head.url)} came to was meant for other outputs than"
                f" {', '.join(type(sink).__name__ for sink in self._sinks)}",
                hint="Let all workers of a crawl run with the same pipelines.",
            )
        page = _Relayed(head)
        try:
            self._fill(page, head, body)
        except entries.MISREAD as error:
            raise entries.damaged(f"{urls.redact(head.url)}: {error}") from None
        if self._fits:
            for item in page.items:
                self._fit(item, page)
        for item in page.items:
            for _, _, size in item.records:
                page.staged += size
        return page

    def _fill(self, page: StagedPage, head: Head, body: bytes) -> None:
        sinks, items, at, last = self._sinks, page.items, 0, len(body)
        shapes = [(entries.text(kind), entries.texts(names)) for kind, names in head.shapes]
        for told in head.items:
            delivered, counted, records = told[:3]
            item = StagedItem(delivered == 1, entries.texts(counted) if counted else _ITEMS)
            items.append(item)
            numbers = iter(records)
            for place, size in zip(numbers, numbers, strict=True):
                end = at + size
                if not at <= end <= last:
                    raise ValueError(f"a record from byte {at} to {end} of {last}")
                record: Any = body[at:end]
                if place < 0:
                    record, place = json.loads(record), ~place
                item.records.append((sinks[place], record, size))
                at = end
            if len(told) > 3:
                item.observed = entries.observation(told[3], shapes) if told[3] else None
                if len(told) > 4:
                    item.claims = entries.claims(told[4:], head.stages, len(item.records))
        if at != last:
            raise ValueError(f"{last - at} bytes belong to no item")

    def _fit(self, item: StagedItem, page: StagedPage) -> None:
        """Let the sinks that have a say of it look at the item's records."""
        for n, (sink, record, _) in enumerate(item.records):
            fit = self._fits.get(id(sink))
            if fit is None:
                continue
            try:
                record = fit(record)
            except ItemInvalid as error:
                self._reject(item, page, sink, error)
                return
            except entries.MISREAD as error:
                raise DamagedState(
                    f"pipeline {type(sink).__name__}: fit() cannot read what came of"
                    f" {urls.redact(page.url)}: {type(error).__name__}: {error}"[:500],
                    hint="Let all workers of a crawl run the same code.",
                ) from error
            item.records[n] = (sink, record, len(record))

    def _reject(self, item: StagedItem, page: StagedPage, sink: Sink, error: ItemInvalid) -> None:
        reason, stage = error.reason, type(sink).__name__
        errors = quarantine.field_errors(error)
        item.records.clear()
        item.claims = ()
        item.delivered, item.counted = False, ("rejected", f"reason:{reason}")
        item.fault = Fault(reason, error.model, quarantine.in_brief(errors), stage)
        page.faulty = True
        if item.observed is not None:
            item.observed = lost(error.model, reason, errors)
        if self._rejected is not None:
            line = quarantine.record(
                reason,
                item=error.model,
                url=page.url,
                errors=errors,
                values=error.raw,
                stage=stage,
                spider=self._spider,
                page=self._rejected.name_of(page.number),
            )
            item.records.append((self._rejected, line, len(line)))
        self._told += 1
        log.log(
            logging.WARNING if self._told <= TOLD else logging.DEBUG, "rejected: %s", error.message
        )


class _Relayed(StagedPage):
    """A page as it came: it has no request any more, but its number."""

    __slots__ = ()

    def __init__(self, head: Head) -> None:
        self.number, self.url = head.page, head.url
        self.items = []
        self.staged = self._held = self._end = 0
        self.faulty = False
        self.limits = DEFAULT
        self._shown = []
        self._file = None


# Where workers must meet --------------------------------------------------------------------------


async def places(sinks: Sequence[Sink]) -> dict[str, str]:
    """By the keys of sinks: what tells where they write from other places of that name.

    Of those that have `place`, for all workers of a crawl to compare once they are open.
    """
    return {s.key: await place() for s in sinks if (place := getattr(s, "place", None)) is not None}


def require_places(stored: Mapping[str, str], mine: Mapping[str, str]) -> None:
    """Raises `UsageError` where this worker's places are not those that the first one had."""
    for key, place in mine.items():
        if stored.get(key, place) != place:
            raise UsageError(
                f"{key} is another directory here than the one of the worker that began this crawl,"
                " and files that come in by all workers are delivered by one of them",
                hint="Run all workers on one machine, or let them share that directory.",
            )


def _as_json(sink: Sink, record: Any, page: StagedPage) -> bytes:
    """A record that is no bytes. Raises `ConfigError` when it is no JSON either."""
    try:
        if entries.is_json(record):
            return json.dumps(record, separators=(",", ":")).encode()
    except RecursionError:
        pass
    raise ConfigError(
        f"pipeline {type(sink).__name__} ({sink.key}) has staged a {type(record).__name__} for"
        f" {urls.redact(page.url)}, which one worker cannot pass on to another",
        hint="Let process() stage bytes, or what JSON can say: dicts whose keys are texts, lists,"
        " texts, numbers, True, False and None. Or crawl with one process.",
    )
