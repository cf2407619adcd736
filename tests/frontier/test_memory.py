"""The frontier in memory."""

from __future__ import annotations

from scraper.frontier.memory import MemoryFrontier
from scraper.protocols import Frontier
from scraper.testing.frontier import FrontierContract, Wall, found, leases, settle
from scraper.work import Batch, Dead, Want


class TestContract(FrontierContract):
    durable = False

    async def make(self) -> Frontier:
        return MemoryFrontier(wall=self.wall)


async def test_failures_are_kept() -> None:
    wall = Wall()
    frontier = MemoryFrontier(wall=wall)
    await frontier.open()
    answer = await frontier.commit(
        Batch(seeds=[found("https://a.example/1", depth=2)], want=Want(1))
    )
    await frontier.commit(Batch(settled=settle(leases(answer.leases), Dead("http_404", "gone"))))
    [failed] = frontier.failures()
    payload = failed.pop("payload")
    assert payload == b'{"url":"https://a.example/1"}'
    assert failed == {
        "at": wall.now,
        "request": 1,
        "reason": "http_404",
        "url": "https://a.example/1",
        "detail": "gone",
        "depth": 2,
        "attempt": 0,
        "start": 0,
    }
    assert frontier.pending == 0
