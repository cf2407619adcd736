"""The frontier on Redis (or Valkey): many workers, on any machines, share one crawl.

Everything is on the server, and every change is one script there (`lua/`), so a commit is one round
trip and happens as a whole. Each worker numbers its commits: one whose answer got lost is sent
again, and the server knows by its number whether it was done. What this process has in memory is
what it was told: its leases, and when there may be more.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from scraper.errors import JobError, UsageError
from scraper.frontier.redis_life import Heartbeat, Locks
from scraper.frontier.redis_link import Link, reading
from scraper.frontier.redis_read import recovery, run_of, tag_of, verify, workers_of
from scraper.frontier.redis_shelf import forget_retired, set_aside
from scraper.frontier.redis_worker import Worker
from scraper.protocols import FrontierContext
from scraper.urls import redact
from scraper.work import Batch, Committed, HostLease, Recovery, Want

__all__ = ["RedisFrontier"]

T = TypeVar("T")


class RedisFrontier:
    """A frontier that many workers share. See `Frontier`, `Durable` and `Shared`.

    *url*: ``redis://``, ``rediss://`` (TLS) or ``unix://``. *lease*: seconds without a sign of life
    after which a worker is taken for dead. *patience*: seconds for which a server that is away is
    waited for. *now*: stands in for the server's clock, seconds since the epoch.

    After an error in `commit` everything but `aclose` raises: a new process joins as a new worker.
    """

    def __init__(
        self,
        url: str,
        context: FrontierContext,
        *,
        lease: float = 30.0,
        patience: float = 300.0,
        now: Callable[[], float] | None = None,
    ) -> None:
        self.url = url
        self.context = context
        self._lease = lease
        self._patience = patience
        self._now = now
        self._tag = tag_of(context.spider, context.job)
        self._peeked = ""
        self._locks = Locks(context.directory)
        self._worker = Worker(url, context, self._locks, lease=lease, patience=patience, now=now)
        self._heart: Heartbeat | None = None
        self._threads: tuple[ThreadPoolExecutor, ThreadPoolExecutor] | None = None

    # A job's, before it is open; these block ----------------------------------------------------

    def peek(self) -> Recovery | None:
        """See `Durable.peek`. Raises `DamagedState`, `JobError`, `OutOfResource`.

        While workers are at it, what is for the leader alone (claims) is left out.
        """
        with self._looking() as link, reading(link):
            self._peeked = run = run_of(link, self._tag)
            if not run:
                return None
            prefix = f"{self._tag}{run}:"
            verify(link, prefix)
            alive = self._alive(link, run)
            found, _, _ = recovery(link, prefix, alive, outputs=not alive)
            found.unclean = bool(alive or link.ask("ZCARD", f"{prefix}workers"))
            return None if found.fresh else found

    def retire(self) -> None:
        """Let go of a crawl that is over, the one that was `peek`ed at; another worker may have
        begun the next one meanwhile. Of those that are over, the last one is kept."""
        with self._looking() as link:
            run = self._peeked or run_of(link, self._tag)
            set_aside(link, self._tag, run, "over", now=self.context.wall(), retired=True)
            forget_retired(link, self._tag)

    def set_aside(self, reason: str) -> None:
        """Move an unfinished crawl out of the way. Raises `JobError` while workers are at it."""
        with self._looking() as link:
            run = run_of(link, self._tag)
            if not run:
                return
            if alive := self._alive(link, run):
                raise JobError(
                    f"{len(alive)} workers are at {self.context.spider}/{self.context.job} on"
                    f" {link.place}",
                    hint="Stop them first. One that was killed on another machine counts as dead"
                    f" after {self._lease:g} s.",
                )
            set_aside(link, self._tag, run, reason, now=self.context.wall(), retired=False)

    def _alive(self, link: Link, run: str) -> list[str]:
        now = None if self._now is None else self._now()
        dead = self._locks.dead(run)
        alive = workers_of(link, f"{self._tag}{run}:", now)
        return [worker for worker in alive if worker not in dead]

    def _looking(self) -> Link:
        return Link(self.url, patience=self._patience)

    # A frontier's, on the loop ------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Requests that are not settled yet, all workers' leased ones included."""
        return self._worker.view.pending

    async def open(self) -> Recovery:
        """Join the crawl, which is made if there is none. Raises `DamagedState`, `JobError`,
        `UsageError` (a server that cannot be used), `OutOfResource`.

        While another worker leads, what is for the leader alone (claims, records that may not be
        applied yet) is left out.
        """
        if self._threads is not None:
            raise UsageError(f"{redact(self.url)} is open already")
        self._threads = (
            ThreadPoolExecutor(1, thread_name_prefix="ledger"),
            ThreadPoolExecutor(1, thread_name_prefix="leader"),
        )
        try:
            found = await self._run(self._worker.open)
            self._heart = Heartbeat(self.beat, self._lease / 3, asyncio.get_running_loop())
            return found
        except BaseException:
            await self.aclose(clean=False)
            raise

    async def acquire(self, want: Want) -> list[HostLease]:
        """Hand out work: a commit of nothing else."""
        return (await self.commit(Batch(want=want))).leases

    async def commit(self, batch: Batch) -> Committed:
        """See `Frontier.commit`. Raises `GivenUp`, `OutOfResource`, `DamagedState`; `ValueError`
        for a batch that contradicts the leases, of which nothing was done."""
        return await self._run(self._worker.commit, batch)

    def next_due(self) -> float | None:
        """See `Frontier.next_due`. As of the last commit; while others may bring something, at the
        latest when it is time to look again. None while others are there only for the leader."""
        return self._worker.view.next_due(self.context.wall())

    def beat(self) -> bool:
        """Show a sign of life, and look for workers that show none: what a thread does every third
        of the lease. False once this worker was given up."""
        return self._worker.beat()

    async def aclose(self, *, clean: bool = True) -> None:
        """Leave the crawl. Safe to call twice, and after an error."""
        threads, self._threads = self._threads, None
        if threads is None:
            return
        self._worker.stop_waiting()
        closing = asyncio.get_running_loop().run_in_executor(threads[0], self._close, clean)
        try:
            await asyncio.shield(closing)
        finally:
            for executor in threads:
                executor.shutdown(wait=False)

    def _close(self, clean: bool) -> None:
        if self._heart is not None:
            self._heart.stop()
        self._worker.close(clean=clean)

    # A shared crawl's ---------------------------------------------------------------------------

    @property
    def worker(self) -> str:
        """See `Shared.worker`."""
        return self._worker.name

    async def begin(
        self, state: Mapping[str, bytes], claims: Mapping[str, array[int]]
    ) -> Mapping[str, bytes]:
        """See `Shared.begin`."""
        return await self._run(self._worker.begin, state, claims)

    def hurry(self, seconds: float) -> None:
        """See `Shared.hurry`."""
        self._worker.hurry(seconds)

    async def lead(self) -> Recovery | None:
        """See `Shared.lead`."""
        return await self._run(self._worker.lead, leading=True)

    async def resign(self) -> None:
        """See `Shared.resign`."""
        await self._run(self._worker.resign, leading=True)

    async def entries(self, after: str, most: int, *, wait: bool = True) -> list[tuple[str, bytes]]:
        """See `Shared.entries`."""
        return await self._run(self._worker.entries, after, most, wait, leading=True)

    async def deliver(self, batch: Batch, upto: str) -> Committed:
        """See `Shared.deliver`."""
        return await self._run(self._worker.deliver, batch, upto, leading=True)

    async def _run(
        self, function: Callable[..., T], *arguments: object, leading: bool = False
    ) -> T:
        if self._threads is None:
            raise UsageError(f"{redact(self.url)} is not open")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads[leading], function, *arguments)

    def __repr__(self) -> str:
        return f"<RedisFrontier {self.context.spider}/{self.context.job}: {self.pending} pending>"
