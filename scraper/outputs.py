"""Outputs: how a group's records reach the sinks, so that each is delivered once.

::

    write  ──►  commit  ──►  apply
    rewind       ledger      redo        a crash before the commit: cut; after it: applied again

Sinks that can be cut back write before the ledger says how far they are valid. The records of
those that cannot go into the ledger itself, and leave it with the first commit after they were
applied.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from scraper.errors import DamagedState, UsageError
from scraper.pipelines.page import StagedPage, group_records
from scraper.protocols import RedoSink, Reopens, RewindSink, Sink
from scraper.work import Batch, Committed, Recovery, Redo, names_of

__all__ = ["Commits", "Outputs", "asides", "marks", "reopen", "reopenable", "restore"]


class Commits(Protocol):
    """A frontier, as far as outputs go."""

    async def commit(self, batch: Batch) -> Committed:
        """Make *batch* durable."""


class Outputs:
    """Delivers groups, one at a time. `applied`: groups up to this one are in every sink."""

    def __init__(
        self, frontier: Commits, recovery: Recovery, probe: Callable[[str], None] | None
    ) -> None:
        self._frontier = frontier
        self._reach = probe if probe is not None else _nowhere
        self.applied = last_group(recovery)
        self._delivered = dict(recovery.positions)

    async def commit(self, batch: Batch, pages: Sequence[StagedPage]) -> Committed:
        """Make *batch* durable, and with it what *pages* have staged."""
        staged = group_records(pages)
        group = self.applied + 1
        redo: list[tuple[RedoSink, Redo]] = []
        for sink, records in staged.items():
            if sink.recovery == "rewind":
                batch.positions[sink.key] = await cast("RewindSink", sink).write(records)
            else:
                redo.append((cast("RedoSink", sink), Redo(group, sink.key, list(records))))
        if redo:
            batch.redo = [entry for _, entry in redo]
            for entry in batch.redo:
                batch.positions[entry.sink] = {
                    "group": group,
                    "records": count(self._delivered.get(entry.sink)) + len(entry.records),
                }
            self._delivered.update((e.sink, batch.positions[e.sink]) for e in batch.redo)
        batch.applied = self.applied
        self._reach("write")
        self._reach("commit-before")
        committed = await self._frontier.commit(batch)
        self._reach("commit-after")
        if committed.leases:
            self._reach("lease")
        for target, entry in redo:
            await target.apply(group, entry.records)
        if redo:
            self.applied = group
        self._reach("apply")
        await _tell(staged)
        for page in pages:
            page.release()
        return committed


async def _tell(staged: dict[Sink, Sequence[Any]]) -> None:
    for sink, records in staged.items():
        if (hook := getattr(sink, "committed", None)) is not None:
            await hook(records)


async def restore(sinks: Sequence[Sink], recovery: Recovery, *, publishing: bool) -> None:
    """Make the outputs be what was committed: cut, and applied again.

    *publishing*: the files are under their names already, or on the way there.
    """
    known = {sink.key: sink for sink in sinks}
    for sink in sinks:
        position = recovery.positions.get(sink.key)
        if not publishing or sink.recovery == "redo":
            await sink.rewind(position)
        elif (recall := getattr(sink, "recall", None)) is not None:
            await recall(position)
    for redo in recovery.redo:
        target = known.get(redo.sink)
        if target is None or target.recovery != "redo":
            raise DamagedState(
                f"the ledger holds records for {redo.sink}, which is no output of this crawl",
                hint="Run with --fresh to start anew; the old state is set aside, not deleted.",
            )
        await cast("RedoSink", target).apply(redo.group, redo.records)


# Going on after the end ------------------------------------------------------------------------


async def marks(sinks: Sequence[Sink]) -> dict[str, Any]:
    """The positions by which sinks will know again what they have published or set aside."""
    return {s.key: await mark() for s in sinks if (mark := getattr(s, "mark", None)) is not None}


def asides(sinks: Sequence[Sink]) -> dict[str, str]:
    """Where files were set aside, by the path that they were to have."""
    moved: dict[str, str] = {}
    for sink in sinks:
        told = sink.describe()
        if told.get("aside"):
            moved |= told.get("asides") or {str(told["path"]): str(told["aside"])}
    return moved


async def reopenable(sinks: Sequence[Sink], recovery: Recovery) -> None:
    """Raises `UsageError` for a sink that cannot go on from what it has published."""
    moved = _moved(recovery)
    for sink in sinks:
        _reopen_of(sink)
        if (check := getattr(sink, "reopenable", None)) is not None:
            await check(recovery.positions.get(sink.key), moved)


async def reopen(
    sinks: Sequence[Sink], recovery: Recovery, reach: Callable[[str], None]
) -> dict[str, Any]:
    """Let every sink go on from what it has published; the new positions. Idempotent."""
    moved, positions = _moved(recovery), {}
    for sink in sinks:
        reach("reopen")
        position = await _reopen_of(sink)(recovery.positions.get(sink.key), moved)
        if position is not None:
            positions[sink.key] = position
    return positions


def _moved(recovery: Recovery) -> dict[str, str]:
    return names_of(recovery.state, "asides")


def _reopen_of(sink: Sink) -> Callable[[Any, Mapping[str, str]], Awaitable[Any]]:
    if not isinstance(sink, Reopens):
        name = "standard output" if sink.key == "-" else f"{type(sink).__name__} ({sink.key})"
        raise UsageError(
            f"nothing can be added to {name} once the run is over",
            hint="Crawl anew with `scrape run`; a run that writes to a file can be added to.",
        )
    return sink.reopen


def last_group(recovery: Recovery) -> int:
    """The number of the last group that was committed for a sink that applies by itself."""
    positions = [p for p in recovery.positions.values() if isinstance(p, dict)]
    groups = [redo.group for redo in recovery.redo]
    return max([*groups, *(int(p["group"]) for p in positions if "group" in p)], default=0)


def count(position: Any) -> int:
    """How many records a position counts; 0 for none."""
    if isinstance(position, dict) and isinstance(position.get("records"), int):
        return int(position["records"])
    return 0


def _nowhere(point: str) -> None:
    """Where no probe is asked for."""
