"""The frontier `sample://N`: at most N pages of each host, to see what a site is like."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from urllib.parse import urlsplit

from scraper.errors import UsageError
from scraper.frontier.memory import MemoryFrontier
from scraper.protocols import FrontierContext
from scraper.work import Again, Batch, Committed, Found, HostLease, Recovery, Want

__all__ = ["SampleFrontier"]


class SampleFrontier:
    """A frontier in memory that admits the first `per_host` requests for each host, and no more.

    Retries and redirects belong to the request that they go on with. `wall`: the clock that dates
    go by, for tests.
    """

    def __init__(self, per_host: int, *, wall: Callable[[], float] = time.time) -> None:
        self._per_host = per_host
        self._inner = MemoryFrontier(wall=wall)
        self._admitted: Counter[str] = Counter()
        self._seen: set[int] = set()

    @classmethod
    def from_url(cls, url: str, job: FrontierContext) -> SampleFrontier:
        """For `frontier.url = "sample://50"`."""
        number = urlsplit(url).netloc
        if not number.isdecimal() or int(number) < 1:
            raise UsageError(
                "say how many pages of each host to fetch", hint='As in url = "sample://50".'
            )
        return cls(int(number))

    async def open(self) -> Recovery:
        return await self._inner.open()

    async def acquire(self, want: Want) -> list[HostLease]:
        return await self._inner.acquire(want)

    async def commit(self, batch: Batch) -> Committed:
        """As it came, without what is beyond the sample."""
        settled = [
            one
            if isinstance(one.verdict, Again)  # nothing that it found counts
            else replace(one, found=self._sampled(one.found))
            for one in batch.settled
        ]
        return await self._inner.commit(
            replace(batch, seeds=self._sampled(batch.seeds), settled=settled)
        )

    def _sampled(self, found: Iterable[Found]) -> list[Found]:
        return [one for one in found if self._admits(one)]

    def _admits(self, found: Found) -> bool:
        if found.chain or found.fingerprint in self._seen:
            return True  # it is no further page: a redirect, or seen before, which is counted
        if self._admitted[found.host] >= self._per_host:
            return False
        self._admitted[found.host] += 1
        if found.fingerprint is not None:
            self._seen.add(found.fingerprint)
        return True

    @property
    def pending(self) -> int:
        return self._inner.pending

    def next_due(self) -> float | None:
        return self._inner.next_due()

    async def aclose(self, *, clean: bool = True) -> None:
        await self._inner.aclose(clean=clean)
