"""The chain: what an item goes through between the callback and the sinks."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, is_dataclass
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ValidationError

from scraper.errors import (
    REASONS,
    ConfigError,
    CrawlFailed,
    DamagedState,
    Drop,
    ExtractionError,
    ItemInvalid,
    OutOfResource,
    Retry,
    ScraperError,
    Throttled,
    UsageError,
)
from scraper.items import Invalid
from scraper.observation import lost, observe
from scraper.pipelines import quarantine
from scraper.pipelines.page import Fault, Limits, StagedItem, StagedPage, group_records
from scraper.pipelines.rejected import RejectedItems
from scraper.protocols import CrawlInfo, Sink

__all__ = [
    "Chain",
    "Delivered",
    "Dropped",
    "Failed",
    "ItemResult",
    "Limits",
    "Placed",
    "Rejected",
    "StagedPage",
    "group_records",
]

Process = Callable[[Any, StagedPage], Awaitable[Any]]

_NOT_THE_ITEMS = (Throttled, Retry, ConfigError, DamagedState, OutOfResource)
"""What a stage may raise that concerns the page or the crawl: it passes through `Chain.run`."""

_ITEMS = (dict, BaseModel, Mapping)
"""What an item may be, beside a dataclass: first what is told apart at once."""

_MAX_REASONS = 100
"""Reasons given to `Drop` that are counted by name; they are user data, and counters are stored."""

_SINK_METHODS = ("key", "open", "rewind", "publish", "set_aside", "aclose", "describe")
_DELIVERS = {"rewind": "write", "redo": "apply"}


@dataclass(slots=True)
class Delivered:
    """The item reached the chain's end, as `item`."""

    item: Any
    delivered: ClassVar[bool] = True
    counted: ClassVar[tuple[str, ...]] = ("items",)


@dataclass(frozen=True, slots=True)
class Dropped:
    """*stage* raised `Drop(reason)`. What sinks before it staged stays."""

    reason: str
    stage: str
    delivered: ClassVar[bool] = False

    @property
    def counted(self) -> tuple[str, ...]:
        return ("dropped", f"dropped:{self.reason}")


@dataclass(frozen=True, slots=True)
class Failed:
    """*stage* raised *error*: no sink gets the item, the rejected file does (`stage_error`)."""

    stage: str
    error: Exception
    delivered: ClassVar[bool] = False
    counted: ClassVar[tuple[str, ...]] = ("rejected", "reason:stage_error")


@dataclass(frozen=True, slots=True)
class Rejected:
    """The item itself is at fault: *reason* is a code of `errors.REASONS` of kind "item"."""

    reason: str
    error: Exception
    delivered: ClassVar[bool] = False

    @property
    def counted(self) -> tuple[str, ...]:
        return ("rejected", f"reason:{self.reason}")


ItemResult = Delivered | Dropped | Failed | Rejected


class Placed(NamedTuple):
    """A stage, and the names of the item types that pass through it (None: all)."""

    stage: Any
    items: frozenset[str] | None = None


class Chain:
    """The stages in order, and the sink of what they reject.

    Raises `UsageError` for what cannot be a stage. `sinks`: every stage that delivers, and
    *rejected*; the scheduler writes, publishes and sets aside through it. `seen`: the names of
    the item types that passed. *observed*: note with the page what is to be known of each item.
    """

    def __init__(
        self,
        stages: Sequence[Placed | Any] = (),
        *,
        rejected: RejectedItems | None = None,
        observed: bool = False,
    ) -> None:
        self.placed = tuple(s if isinstance(s, Placed) else Placed(s) for s in stages)
        self.stages = tuple(placed.stage for placed in self.placed)
        self.seen: set[str] = set()
        self.rejected = rejected
        self._observed = observed
        self.sinks: tuple[Sink, ...] = tuple(stage for stage in self.stages if _is_sink(stage))
        if rejected is not None:
            self.sinks += (rejected,)
        self._steps: tuple[tuple[str, Process, frozenset[str] | None], ...] = tuple(
            (name, _process_of(stage, name), items)
            for name, (stage, items) in zip(_names(self.stages), self.placed, strict=True)
        )
        self._reasons: set[str] = set()
        self._opened = AsyncExitStack()
        _no_twins(self.sinks)
        _no_rivals(self.stages)

    # ── opening and closing

    async def open(self, crawl: CrawlInfo) -> None:
        """Open every stage, in order. If one fails, those before it are closed again."""
        members: list[Any] = [*self.stages, *([self.rejected] if self.rejected else [])]
        try:
            for stage in members:
                if getattr(stage, "open", None) is not None:
                    await _mind(stage, "open", crawl)
                if getattr(stage, "aclose", None) is not None:
                    self._opened.push_async_callback(_mind, stage, "aclose")
            _no_twins(self.sinks)
        except BaseException:
            await self._opened.aclose()
            raise

    async def aclose(self) -> None:
        """Close what was opened, last first: all of it, even if one fails. Idempotent."""
        await self._opened.aclose()

    @property
    def lasting(self) -> list[str]:
        """The names of the stages whose keys hold for later runs, too."""
        return [s.claims_as for s in self.stages if getattr(s, "across", None) == "runs"]

    @property
    def missed(self) -> list[str]:
        """Of the stages that some item types alone pass through: types that never came."""
        asked = {name for _, items in self.placed for name in items or ()}
        return sorted(asked - self.seen) if self.seen else []

    # ── items

    async def run(self, item: Any, page: StagedPage) -> ItemResult:
        """Pass *item* through the stages; what the sinks stage is kept with *page*.

        Never raises for what is wrong with the item. Raises `TypeError` for what is no item,
        `ExtractionError` ("too_many_items", "output_too_large"), and lets through what concerns the
        page or the crawl (`Throttled`, `Retry`, `ConfigError`, `DamagedState`, `OutOfResource`).
        """
        staged = page.begin()
        if isinstance(item, Invalid):
            return self._settle(staged, self._reject(item.error, page), page)
        if not isinstance(item, _ITEMS) and not _is_dataclass_value(item):
            page.items.pop()
            named = "; of a named tuple yield its _asdict()" if hasattr(item, "_asdict") else ""
            raise TypeError(
                f"a callback yields items (Item, pydantic model, dataclass, dict), requests and"
                f" lists of them, not {type(item).__name__}{named}"
            )
        kind = type(item).__name__
        self.seen.add(kind)
        page.show(kind, quarantine.values_of(item))
        return self._settle(staged, await self._pass(item, page), page)

    async def _pass(self, item: Any, page: StagedPage) -> ItemResult:
        name = ""
        try:
            for name, process, items in self._steps:
                if items is not None and type(item).__name__ not in items:
                    continue
                passed = await process(item, page)
                if passed is None:
                    raise TypeError(f"{name}.process returned None: return the item or raise Drop")
                item = passed
        except Drop as signal:
            dropped = Dropped(self._known(str(signal.reason)), name)
            if self._observed:
                page.note(lost(type(item).__name__, dropped.reason, rejected=False))
            return dropped
        except _NOT_THE_ITEMS:
            raise
        except Exception as error:  # noqa: BLE001 - user code: it fails this item, no more
            return self._fail(name, error, item, page)
        if self._observed:
            page.note(observe(item))
        return Delivered(item)

    def reject(self, error: ItemInvalid | ValidationError, page: StagedPage) -> Rejected:
        """Quarantine an item that never came to be: the error escaped from the callback."""
        staged = page.begin()
        result = self._reject(error, page)
        self._settle(staged, result, page)
        return result

    def _settle(self, staged: StagedItem, result: ItemResult, page: StagedPage) -> ItemResult:
        page.require_room()
        staged.delivered = result.delivered
        staged.counted = result.counted
        return result

    def _fail(self, stage: str, error: Exception, item: Any, page: StagedPage) -> ItemResult:
        page.withdraw()  # all sinks or none: who mends the rejected file must not double it
        reason = error.reason if isinstance(error, ExtractionError) else "stage_error"
        if reason not in REASONS or REASONS[reason].kind != "item":
            reason = "stage_error"
        values = error.raw if isinstance(error, ItemInvalid) else quarantine.values_of(item)
        self._quarantine(page, reason, error, type(item).__name__, values, stage)
        return Failed(stage, error) if reason == "stage_error" else Rejected(reason, error)

    def _reject(self, error: ItemInvalid | ValidationError, page: StagedPage) -> Rejected:
        if isinstance(error, ItemInvalid):
            model, values = error.model, error.raw
        else:
            model = error.title
            values = {".".join(map(str, e["loc"])): e.get("input") for e in error.errors()}
        page.show(model, values)
        self._quarantine(page, "item_invalid", error, model, values, None)
        return Rejected("item_invalid", error)

    def _quarantine(
        self,
        page: StagedPage,
        reason: str,
        error: Exception,
        item: str,
        values: Any,
        stage: str | None,
    ) -> None:
        errors = quarantine.field_errors(error)
        if self._observed:
            page.note(lost(item, reason, errors))
        page.reject(Fault(reason, item[:100], quarantine.in_brief(errors), stage))
        if self.rejected is None:
            return
        line = quarantine.record(
            reason,
            item=item,
            url=page.url,
            errors=errors,
            values=values,
            stage=stage,
            spider=page.spider,
            page=self.rejected.name_of(page.number),
        )
        page.keep(self.rejected, line, len(line))

    def _known(self, reason: str) -> str:
        reason = reason[:100]
        if reason not in self._reasons:
            if len(self._reasons) >= _MAX_REASONS:
                return "other"
            self._reasons.add(reason)
        return reason

    def __repr__(self) -> str:
        return f"<Chain {' → '.join(name for name, *_ in self._steps) or 'empty'}>"


async def _mind(stage: Any, method: str, *args: Any) -> None:
    """Call a stage's method; what it raises by itself becomes a message that names it."""
    try:
        await getattr(stage, method)(*args)
    except (ScraperError, OSError):
        raise
    except Exception as error:
        raise CrawlFailed(
            f"pipeline {type(stage).__name__}: {method}() raised {type(error).__name__}: {error}",
            hint="Mend the stage, and run the same command again.",
        ) from error


def _names(stages: Sequence[Any]) -> list[str]:
    """What to call the stages in messages: the class, numbered where it stands twice."""
    names: list[str] = []
    for stage in stages:
        name = base = stage.__name__ if isinstance(stage, type) else type(stage).__name__
        number = 1
        while name in names:
            number += 1
            name = f"{base}#{number}"
        names.append(name)
    return names


def _process_of(stage: Any, name: str) -> Process:
    if isinstance(stage, type):
        raise UsageError(f"pipeline {name}: give an instance, {name}(…), not the class")
    process = getattr(stage, "process", None)
    if hasattr(stage, "process_item"):
        raise UsageError(
            f"pipeline {name}: process_item means nothing here",
            hint="Write async def process(self, item, page): return the item or raise Drop.",
        )
    if process is None or not inspect.iscoroutinefunction(process):
        raise UsageError(
            f"pipeline {name}: it needs `async def process(self, item, page)`",
            hint="Return the item for the next stage, or raise Drop(reason).",
        )
    try:
        inspect.signature(process).bind(None, None)
    except TypeError:
        raise UsageError(
            f"pipeline {name}: process{inspect.signature(process)} must take (item, page)"
        ) from None
    result: Process = process
    return result


def _is_sink(stage: Any) -> bool:
    """A stage that delivers says how it recovers; then it must be a whole `Sink`."""
    recovery = getattr(stage, "recovery", None)
    if recovery is None or isinstance(stage, type):
        return False
    name = type(stage).__name__
    if recovery not in _DELIVERS:
        raise UsageError(f"pipeline {name}: recovery is {recovery!r}; it is 'rewind' or 'redo'")
    needed = (*_SINK_METHODS[:3], _DELIVERS[recovery], *_SINK_METHODS[3:])
    if missing := [method for method in needed if not hasattr(type(stage), method)]:
        raise UsageError(
            f"pipeline {name}: a sink (it has `recovery`) also needs {', '.join(missing)}",
            hint="See scraper.protocols.Sink; scraper.testing.SinkContract tests one.",
        )
    return True


def _no_twins(sinks: Sequence[Sink]) -> None:
    seen: set[str] = set()
    for sink in sinks:
        if sink.key in seen:
            raise ConfigError(
                f"two pipelines write to {sink.key}", hint="Give each a path of its own."
            )
        seen.add(sink.key)


def _no_rivals(stages: Sequence[Any]) -> None:
    names = [name for stage in stages if (name := getattr(stage, "claims_as", None)) is not None]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"two stages keep their keys as {name!r}, and each would drop what the other lets"
                " pass",
                hint='Give one of them a name of its own: name = "…".',
            )


def _is_dataclass_value(item: object) -> bool:
    return is_dataclass(item) and not isinstance(item, type)
