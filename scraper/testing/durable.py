"""Does a frontier that outlives its process tell what it holds, and let go of it?

::

    class TestMine(DurableContract):
        async def make(self) -> Frontier: ...
        async def reopen(self, frontier: Frontier) -> Frontier: ...
        async def crash(self, frontier: Frontier) -> Frontier: ...

It is the suite of `FrontierContract`, and what `Durable` adds.
"""

# ruff: noqa: S101 - these are tests
from __future__ import annotations

from array import array
from collections import Counter

from scraper.protocols import Durable, Frontier
from scraper.testing.frontier import FrontierContract, found, leases, settle
from scraper.work import Batch, Recovery, Want

__all__ = ["DurableContract"]

URLS = [f"https://a.example/{n}" for n in range(3)]


def durable(frontier: Frontier) -> Durable:
    """*frontier*, which is one."""
    assert isinstance(frontier, Durable), f"{type(frontier).__name__} is not Durable"
    return frontier


class DurableContract(FrontierContract):
    """The suite for frontiers that `Durable` describes."""

    async def _begun(self) -> Frontier:
        """A crawl with one page done and two to do."""
        frontier = await self.start(*map(found, URLS))
        given = leases(await frontier.acquire(Want(1)))
        state = {"phase": b"running", "job": b"{}"}
        counts, claims = Counter(pages=1), {"dedupe(n)": array("Q", [7, 2**64 - 1])}
        await frontier.commit(
            Batch(settled=settle(given), state=state, counts=counts, claims=claims)
        )
        return frontier

    def _expect(self, held: Recovery | None) -> None:
        assert held is not None
        assert (held.pending, held.counts["pages"], held.phase) == (2, 1, "running")
        assert held.state["job"] == b"{}"
        claimed = [key for part in held.claims["dedupe(n)"] for key in part]
        assert sorted(claimed) == [7, 2**64 - 1]

    async def test_nothing_is_held_before_anything_was_committed(self) -> None:
        assert durable(await self.make()).peek() is None

    async def test_peeking_tells_what_a_clean_end_left(self) -> None:
        frontier = await self._begun()
        await frontier.aclose()
        again = await self.reopen(frontier)
        self._expect(durable(again).peek())

    async def test_peeking_changes_nothing(self) -> None:
        again = await self.crash(await self._begun())
        self._expect(durable(again).peek())
        recovery = await self._open(again)
        assert recovery.unclean
        self._expect(recovery)
        assert len(await self.drain(again)) == 2

    async def test_what_was_retired_is_gone(self) -> None:
        again = await self.crash(await self._begun())
        assert durable(again).peek() is not None
        durable(again).retire()
        await self._is_new(again)

    async def test_what_was_set_aside_is_out_of_the_way(self) -> None:
        for _ in range(2):  # there may be something aside already
            again = await self.crash(await self._begun())
            durable(again).set_aside("--fresh")
            await self._is_new(again)

    async def test_there_may_be_nothing_to_set_aside(self) -> None:
        frontier = await self.make()
        durable(frontier).set_aside("--fresh")
        await self._is_new(frontier)

    async def _is_new(self, frontier: Frontier) -> None:
        recovery = await self._open(frontier)
        assert (recovery.fresh, recovery.pending, recovery.state) == (True, 0, {})
        answer = await frontier.commit(Batch(seeds=[found(URLS[0])]))
        assert answer.admitted == 1

    async def test_it_may_be_closed_without_having_been_opened(self) -> None:
        await (await self.make()).aclose()
