from __future__ import annotations

from pathlib import Path

import pytest
from scraper_extras.sample import SampleFrontier

from scraper.errors import UsageError
from scraper.protocols import Frontier, FrontierContext
from scraper.testing.frontier import FrontierContract, found, leases, settle
from scraper.work import Again, Batch, Want

JOB = FrontierContext("books", "default", Path("job"))


class TestContract(FrontierContract):
    """Every promise of a frontier that keeps nothing."""

    durable = False

    async def make(self) -> Frontier:
        return SampleFrontier(1_000_000, wall=self.wall)


async def fetched(frontier: Frontier) -> list[str]:
    """Work off what is there."""
    given = leases(await frontier.acquire(Want(100)))
    await frontier.commit(Batch(settled=settle(given)))
    return sorted(lease.request.url for lease in given)


async def test_so_many_of_each_host() -> None:
    frontier = SampleFrontier.from_url("sample://2", JOB)
    await frontier.open()
    seeds = [found(f"https://{host}.example/{n}") for host in "ab" for n in range(5)]
    assert (await frontier.commit(Batch(seeds=seeds))).admitted == 4
    assert await fetched(frontier) == [
        f"https://{host}.example/{n}" for host in "ab" for n in range(2)
    ]


async def test_pages_seen_before_and_redirects_are_no_further_pages() -> None:
    frontier = SampleFrontier(2)
    await frontier.open()
    first, second = found("https://a.example/1"), found("https://a.example/2")
    answer = await frontier.commit(Batch(seeds=[first, first], want=Want(1)))
    assert (answer.admitted, answer.duplicates) == (1, 1)
    assert first.fingerprint is not None
    target = found("https://a.example/there", chain=(first.fingerprint,))
    settled = settle(leases(answer.leases), links=[target, second])
    assert (await frontier.commit(Batch(settled=settled))).admitted == 2


async def test_what_a_page_found_counts_once_it_is_done() -> None:
    frontier = SampleFrontier(2)
    await frontier.open()
    answer = await frontier.commit(Batch(seeds=[found("https://a.example/1")], want=Want(1)))
    links = [found("https://a.example/2")]
    again = settle(leases(answer.leases), Again(0.0, "timeout"), links)
    answer = await frontier.commit(Batch(settled=again, want=Want(1, held=["https://a.example"])))
    assert answer.admitted == 0
    done = settle(leases(answer.leases), links=links)
    assert (await frontier.commit(Batch(settled=done))).admitted == 1


@pytest.mark.parametrize("url", ["sample://", "sample://many", "sample://0", "sample://-1"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="how many"):
        SampleFrontier.from_url(url, JOB)
