"""The workers of `benchmarks.shared`, and the pages that they do not fetch."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import redis

from scraper.frontier.redis import RedisFrontier
from scraper.http import Request
from scraper.protocols import FrontierContext
from scraper.work import Batch, Done, Found, HostLease, HostReturn, Settled, Verdict, Want

__all__ = ["RATE", "URL", "Crew", "Site", "Taken"]

RATE, DELAY = 10_000, 0.2
"""Pages a second that the crew makes, in its own time, and seconds that a host rests."""
OWN = 0.8
"""Share of the new links that lead to the page's own host, while that has more."""
LOG = 4 << 30
"""Bytes of the server's log from which on it is written anew, between two sizes."""
URL = "https://www{}.example.com/catalogue/category/page-{}.html"
STATE = b'{"delay":0.2,"ceiling":8,"latency":[0.11,0.02],"quiet_until":0,"failures":0}'
ITEM = b"x" * 300
"""What a page puts out: an item of a URL, a title, a heading and a number, as `relay` wraps it."""


# The site -----------------------------------------------------------------------------------------


class Site:
    """URLs by number, each on the host that it was found to be on; and how much work hosts have.

    `work`: of each host, URLs that wait. *size*: of all hosts together, in URLs.
    """

    def __init__(self, hosts: int, size: int, seed: int = 7) -> None:
        self.hosts = hosts
        self.number = array("I")
        self.work = array("l", bytes(8 * hosts))
        self.active = 0
        self._dice = random.Random(seed)
        self._shares = list(itertools.accumulate(1 / (n + 1) for n in range(hosts)))
        self._left = array("l", (int(size / (n + 1) / self._shares[-1]) for n in range(hosts)))
        self._drawn: Iterator[int] = iter(())

    def __len__(self) -> int:
        return len(self.number)

    def linked(self, page: int = -1) -> int:
        """The host of a new URL that is found on a page of that host."""
        host = page
        if page < 0 or self._left[page] <= 0 or self._dice.random() > OWN:
            host = next(self._drawn, -1)
            if host < 0:
                many = self._dice.choices(range(self.hosts), cum_weights=self._shares, k=10_000)
                self._drawn = iter(many)
                host = next(self._drawn)
        return host

    def new(self, host: int) -> Found:
        """A URL of *host* that nobody has seen."""
        self.number.append(host)
        self._left[host] -= 1
        self.active += not self.work[host]
        self.work[host] += 1
        return self._found(len(self.number) - 1)

    def old(self) -> Found:
        """Any that was seen."""
        return self._found(int(self._dice.random() * len(self.number)))

    def taken(self, host: int, pages: int) -> None:
        """So many pages of *host* were handed out."""
        self.work[host] -= pages
        self.active -= not self.work[host]

    def _found(self, number: int) -> Found:
        url = URL.format(self.number[number], number)
        host = url[: url.index("/", 8)]
        digest = blake2b(b"%d" % number, digest_size=8).digest()
        return Found(Request.of(url, "parse_item"), host, int.from_bytes(digest), depth=3)


def number_of(host: str) -> int:
    """Of a host, by its name."""
    return int(host[len("https://www") : -len(".example.com")])


class Turns:
    """Whether every host gets its turn. `due`: from when on each could be handed out."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._due: dict[int, float] = {}
        self._rested = array("d", bytes(8 * site.hosts))
        self.renew()

    def renew(self) -> None:
        """Count from here on."""
        work = self._site.work
        self._always = {host for host in range(self._site.hosts) if work[host]}
        self._pages: Counter[int] = Counter()
        self.wait = 0.0

    def found(self, host: int, now: float) -> None:
        """There is work again for *host*."""
        self._due[host] = max(now, self._rested[host])

    def returned(self, host: int, now: float) -> None:
        """It was given back, and rests."""
        self._rested[host] = now + DELAY
        if self._site.work[host]:
            self._due[host] = now + DELAY

    def served(self, host: int, pages: int, now: float) -> None:
        """It has had its turn."""
        waited = now - self._due.pop(host, now)
        self.wait = max(self.wait, waited * RATE / max(self._site.active, 1))
        self._pages[host] += pages
        if not self._site.work[host]:
            self._always.discard(host)

    def share(self) -> tuple[float, float]:
        """The least of what a host got over what each should have; and Jain's index of them all."""
        pages = [self._pages[host] for host in self._always]
        total, squares = sum(pages), sum(n * n for n in pages)
        if not total:
            return 1.0, 1.0
        return min(pages) * len(pages) / total, total * total / (len(pages) * squares)


# The crew -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Taken:
    """What was taken, all told. Seconds of the server, of the client, and in waiting for both."""

    server: float = 0.0
    client: float = 0.0
    wall: float = 0.0
    log: int = 0
    pages: int = 0


@dataclass(slots=True)
class Worker:
    """One of them, and what it has been given."""

    frontier: RedisFrontier
    leases: list[HostLease] = field(default_factory=list)


class Crew:
    """Workers of one crawl. `now`: their time."""

    def __init__(self, site: Site, client: redis.Redis, *, links: int, new: int) -> None:
        self.site = site
        self.turns = Turns(site)
        self.workers: list[Worker] = []
        self.now = 1_700_000_000.0
        self.pages = 0
        self.links, self.new = links, new
        self._client = client
        self._upto = ""
        self._used = self._waited = 0.0

    async def join(self, url: str, directory: Path, stack: AsyncExitStack) -> None:
        """One worker more. It is never taken for dead."""
        context = FrontierContext("simulated", "default", directory, lambda: self.now)
        frontier = RedisFrontier(url, context, lease=1e6, now=lambda: self.now)
        await frontier.open()
        stack.push_async_callback(frontier.aclose)
        self.workers.append(Worker(frontier))
        if len(self.workers) == 1:
            await frontier.begin({"job": b"{}", "phase": b"running"}, {})
            await frontier.lead()

    def taken(self) -> Taken:
        """All that was taken until now, as the server and the kernel say."""
        told = self._client.info("cpu") | self._client.info("persistence")
        server = told["used_cpu_user_main_thread"] + told["used_cpu_sys_main_thread"]
        return Taken(server, self._used, self._waited, told["aof_current_size"], self.pages)

    def memory(self) -> int:
        """Bytes that the server uses, without the buffers of its log."""
        found = self._client.info("memory")
        return int(found["used_memory"]) - int(found["mem_not_counted_for_evict"])

    def fingerprints(self) -> float:
        """Bytes that those of the seen URLs take: of all buckets, by a sample of them."""
        keys = list(self._client.scan_iter(match="*:s:*", count=10_000))
        sample = keys[:: len(keys) // 1000 + 1]
        with self._client.pipeline(transaction=False) as asking:
            for key in sample:
                asking.memory_usage(key)
            return float(sum(asking.execute()) / len(sample) * len(keys))

    def shrink(self) -> None:
        """Let a large log be written anew, at a time that is nobody's."""
        if self._client.info("persistence")["aof_current_size"] > LOG:
            self._client.bgrewriteaof()
            while self._client.info("persistence")["aof_rewrite_in_progress"]:
                time.sleep(0.5)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        used, began = time.process_time(), time.perf_counter()
        yield
        self._used += time.process_time() - used
        self._waited += time.perf_counter() - began

    async def seed(self, number: int, *, even: bool = False) -> None:
        """Begin with so many URLs, which are due at once. *even*: as many of each host."""
        for at in range(0, number, 1000):
            places = range(at, min(at + 1000, number))
            hosts = (p % self.site.hosts if even else self.site.linked() for p in places)
            found = [self._new(host) for host in hosts]
            await self.workers[0].frontier.commit(Batch(seeds=found))

    async def round(self, group: int, verdict: Verdict | None = None) -> int:
        """Each worker settles what it has, and gets more, all of them at the same time; the leader
        lets go of what came out. Returns how many pages were settled."""
        batches = [self._batch(worker, group, verdict or Done()) for worker in self.workers]
        pages = sum(len(batch.settled) for batch in batches)
        self.pages += pages
        with self._timed():
            done = await asyncio.gather(
                *(w.frontier.commit(b) for w, b in zip(self.workers, batches, strict=True))
            )
            await self._deliver(pages)
        for worker, committed in zip(self.workers, done, strict=True):
            worker.leases = committed.leases
            for given in worker.leases:
                host = number_of(given.host)
                self.site.taken(host, len(given.requests))
                self.turns.served(host, len(given.requests), self.now)
        self.now += pages / RATE or DELAY
        return pages

    def _batch(self, worker: Worker, group: int, verdict: Verdict) -> Batch:
        batch = Batch(want=Want(group))
        for given in worker.leases:
            host = number_of(given.host)
            for lease in given.requests:
                batch.settled.append(Settled(lease, verdict, self._links(host)))
            batch.returned.append(HostReturn(given.host, STATE, self.now + DELAY))
            self.turns.returned(host, self.now)
        pages = len(batch.settled)
        batch.output = [ITEM] * pages
        batch.counts.update(pages=pages, items=pages, bytes=10_000 * pages, requests=pages)
        return batch

    async def _deliver(self, pages: int) -> None:
        """What so many pages put out."""
        leader = self.workers[0].frontier
        while pages > 0:
            entries = await leader.entries(self._upto, 4 << 20)
            self._upto = entries[-1][0]
            position = Batch(positions={"out.jsonl": {"bytes": len(ITEM) * self.pages}})
            await leader.deliver(position, self._upto)
            pages -= len(entries)

    def _links(self, host: int) -> list[Found]:
        """What a page of *host* links to."""
        found = [self._new(self.site.linked(host)) for _ in range(self.new)]
        return found + [self.site.old() for _ in range(self.links - self.new)]

    def _new(self, host: int) -> Found:
        if not self.site.work[host]:
            self.turns.found(host, self.now)
        return self.site.new(host)
