# ruff: noqa: S101 - a suite asserts
"""Does a sink keep its promise in a crawl that workers share? Derive and run pytest.

::

    class TestMine(SharedSinkContract):
        def make(self, root):
            return Mine(root / "target")

        def delivered(self, root):  # (number, version) of every item in the published output
            return [(row.number, row.version) for row in read(root / "target")]

Workers stage items, and what they staged travels as bytes to the one that leads, which has a sink
of its own and writes. Leaders die, before a commit and after it; so do workers. `RedoSinkContract`
and `SinkContract` say what a sink must do besides, and a class may derive from both.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from scraper.claims import Claims
from scraper.frontier.tables import packed, unpacked
from scraper.http import Request
from scraper.outputs import Outputs, restore
from scraper.pipelines.chain import Chain
from scraper.pipelines.page import StagedPage
from scraper.pipelines.relay import Relay
from scraper.protocols import CrawlInfo, Frontier, Sink
from scraper.testing.sinks import crawl_info
from scraper.work import Batch, Committed, Recovery, Redo

__all__ = ["SharedCrawl", "SharedSinkContract"]

Row = tuple[int, int]
"""An item of the tests: its number and its version."""

Fate = Literal["commits", "dies before", "dies after", "dies late"]
"""What becomes of a leader: nothing; killed when it has written and not committed; committed and
not applied; applied, too."""


class _KilledError(Exception):
    """A process ends."""


@dataclass
class _Ledger:
    """What a frontier keeps for the leaders of a crawl. `upto`: entries that were delivered."""

    positions: dict[str, Any] = field(default_factory=dict)
    redo: list[Redo] = field(default_factory=list)
    claims: dict[str, list[array[int]]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    upto: int = 0
    reached: int = 0
    fate: Fate = "commits"

    @property
    def recovery(self) -> Recovery:
        return Recovery(
            positions=dict(self.positions), redo=list(self.redo), claims=dict(self.claims)
        )

    async def commit(self, batch: Batch) -> Committed:
        if self.fate == "dies before":
            raise _KilledError
        self.positions |= json.loads(json.dumps(batch.positions))
        kept = [redo for redo in self.redo if redo.group > batch.applied]
        stored = [replace(redo, records=unpacked(packed(redo.records))) for redo in batch.redo]
        self.redo, self.upto = kept + stored, self.reached
        self.counts.update(batch.counts)
        for stage, keys in batch.claims.items():
            self.claims.setdefault(stage, []).append(keys)
        if self.fate == "dies after":
            raise _KilledError
        return Committed([], 0)


@dataclass
class _Leader:
    life: AsyncExitStack
    chain: Chain
    relay: Relay
    claims: Claims
    outputs: Outputs


class SharedCrawl:
    """A crawl below *root*, whose workers and leaders each have a chain that *make* builds."""

    def __init__(self, root: Path, make: Callable[[], Chain]) -> None:
        self.crawl: CrawlInfo = replace(crawl_info(root), shared=True)
        self.entries: list[bytes] = []
        self._ledger = _Ledger()
        self._make = make
        self._workers: dict[int, tuple[AsyncExitStack, Chain]] = {}
        self._leader: _Leader | None = None

    @property
    def counts(self) -> Mapping[str, int]:
        """What was counted of the items that are delivered: `items`, `rejected`, and by reason."""
        return self._ledger.counts

    # ── workers

    async def stage(self, worker: int, *items: Any) -> None:
        """A page of *items* is settled by that worker, which begins now if it is not there yet."""
        if worker not in self._workers:
            chain, life = self._make(), AsyncExitStack()
            await chain.open(self.crawl)
            life.push_async_callback(chain.aclose)
            self._workers[worker] = life, chain
        _, chain = self._workers[worker]
        number = len(self.entries) + 1
        page = StagedPage(Request(f"https://example.com/{number}"), number=number)
        for item in items:
            await chain.run(item, page)
        page.end()
        self.entries.append(Relay(chain).dump(page))
        page.release()

    async def lose(self, worker: int) -> None:
        """The worker dies. What it staged stays."""
        if worker in self._workers:
            life, _ = self._workers.pop(worker)
            await life.aclose()

    # ── leaders

    async def deliver(self, fate: Fate = "commits") -> None:
        """A leader writes what was staged since, and meets its *fate*."""
        ledger, leader, batch = self._ledger, await self._led(), Batch()
        pages: list[StagedPage] = []
        for entry in self.entries[ledger.upto :]:
            page = leader.relay.load(entry)
            leader.claims.decide(page)
            leader.claims.store(page, batch)
            page.count(batch.counts)
            pages.append(page)
        ledger.fate, ledger.reached = fate, len(self.entries)
        with suppress(_KilledError):
            await leader.outputs.commit(batch, pages)
        if fate != "commits":
            await self._gone()

    async def _led(self) -> _Leader:
        if self._leader is None:
            recovery = self._ledger.recovery
            async with AsyncExitStack() as stack:
                chain = self._make()
                for sink in chain.sinks:
                    await sink.open(self.crawl)
                    stack.push_async_callback(sink.aclose)
                await restore(chain.sinks, recovery, publishing=False)
                self._leader = _Leader(
                    stack.pop_all(),
                    chain,
                    Relay(chain, self.crawl.spider),
                    Claims(recovery.claims),
                    Outputs(cast("Frontier", self._ledger), recovery, None),
                )
        return self._leader

    async def _gone(self) -> None:
        leader, self._leader = self._leader, None
        if leader is not None:
            await leader.life.aclose()

    async def publish(self) -> None:
        """A leader ends the crawl."""
        await self.deliver()
        for sink in (await self._led()).chain.sinks:
            await sink.publish()
        await self.aclose()

    async def aclose(self) -> None:
        """All processes end."""
        await self._gone()
        for worker in list(self._workers):
            await self.lose(worker)


class SharedSinkContract:
    """The suite for sinks of either kind."""

    examples: ClassVar[int] = 25
    """Histories that are played."""

    ordered: ClassVar[bool] = True
    """The output has items in the order in which they were committed."""

    # ── what a derived class says

    def make(self, root: Path) -> Sink:
        """A new sink, as each process builds it. Each *root* has an output of its own."""
        raise NotImplementedError

    def item(self, number: int, version: int = 0) -> Any:
        """An item. Where the output has keys, the number is the key."""
        return {"number": number, "version": version}

    def delivered(self, root: Path) -> list[Row]:
        """Number and version of every item in the published output; [] when there is none."""
        raise NotImplementedError

    def expected(self, rows: Iterable[Row]) -> list[Row]:
        """What the output must hold after *rows* came, in this order."""
        return list(rows) if self.ordered else sorted(rows)

    # ── the promise

    def test_workers_and_their_leaders_deliver_what_was_committed(self) -> None:
        row = st.tuples(st.integers(0, 6), st.integers(0, 9))
        page = st.tuples(st.integers(0, 1), st.lists(row, max_size=3))
        fate = st.sampled_from(["commits", "dies before", "dies after", "dies late"])
        loss = st.sampled_from(["lose 0", "lose 1"])

        @settings(max_examples=self.examples, deadline=None)
        @given(history=st.lists(st.one_of(page, page, fate, loss), max_size=14))
        def holds(history: list[tuple[int, list[Row]] | str]) -> None:
            with tempfile.TemporaryDirectory() as directory:
                root = Path(directory)
                came = asyncio.run(self._live_through(root, history))
                self._check(root, came)

        holds()

    async def _live_through(
        self, root: Path, history: Sequence[tuple[int, list[Row]] | str]
    ) -> list[Row]:
        crawl = SharedCrawl(root, lambda: Chain([self.make(root)]))
        came: list[Row] = []
        try:
            for event in history:
                if isinstance(event, tuple):
                    worker, rows = event
                    await crawl.stage(worker, *(self.item(*row) for row in rows))
                    came += rows
                elif event.startswith("lose"):
                    await crawl.lose(int(event[-1]))
                else:
                    await crawl.deliver(cast("Fate", event))
            await crawl.publish()
        finally:
            await crawl.aclose()
        return came

    def _check(self, root: Path, came: Iterable[Row]) -> None:
        found = self.delivered(root)
        assert (found if self.ordered else sorted(found)) == self.expected(came)

    async def test_workers_come_and_go_while_it_is_written(self, tmp_path: Path) -> None:
        """Opening a sink takes nothing from the one that writes, nor does closing it."""
        crawl = SharedCrawl(tmp_path, lambda: Chain([self.make(tmp_path)]))
        await crawl.stage(0, self.item(1))
        await crawl.deliver()
        for number in range(2, 5):
            await crawl.stage(number, self.item(number))
            await crawl.lose(number - 1)
            await crawl.deliver()
        await crawl.publish()
        self._check(tmp_path, [(number, 0) for number in range(1, 5)])

    async def test_another_leads_when_nothing_was_committed(self, tmp_path: Path) -> None:
        crawl = SharedCrawl(tmp_path, lambda: Chain([self.make(tmp_path)]))
        await crawl.stage(0, self.item(1), self.item(2))
        for _ in range(3):
            await crawl.deliver("dies before")
        await crawl.stage(1, self.item(3))
        await crawl.publish()
        self._check(tmp_path, [(1, 0), (2, 0), (3, 0)])

    async def test_workers_that_staged_nothing(self, tmp_path: Path) -> None:
        crawl = SharedCrawl(tmp_path, lambda: Chain([self.make(tmp_path)]))
        await crawl.stage(0)
        await crawl.stage(1)
        await crawl.deliver("dies late")
        await crawl.publish()
        assert self.delivered(tmp_path) == []
