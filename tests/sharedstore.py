"""A frontier that several workers of one test share, in memory, and a web that watches them.

The store does what `protocols.Shared` and `work.Want` ask of one, as plainly as can be; what the
workers write is of no interest here. Time is a `ManualClock` that all of them go by, so a crawl of
an hour takes no time, and what would wait for ever is seen at once.
"""

from __future__ import annotations

import asyncio
import math
from array import array
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from scraper import urls
from scraper.config import Config
from scraper.downloads import Downloads
from scraper.engine import Engine
from scraper.errors import FetchError
from scraper.events import Stop
from scraper.http import Request, Response
from scraper.observers import Observers
from scraper.parsing import Parsing
from scraper.parts import Parts
from scraper.pipelines.chain import Chain
from scraper.pipelines.page import Limits
from scraper.protocols import Shared
from scraper.slots import host_of
from scraper.spider import Spider
from scraper.testing.clock import ManualClock
from scraper.work import (
    Again,
    Batch,
    Committed,
    Dead,
    Found,
    HostLease,
    Lease,
    Recovery,
    Want,
)

WISH = 2.0
"""Seconds for which a wish is remembered."""

LOOK = 0.5
"""Seconds after which an idle worker looks again."""


@dataclass
class Line:
    """A host in the store: who has it, what waits for it, and what is known of it."""

    queue: deque[tuple[float, Lease]] = field(default_factory=deque)
    held: str = ""
    due: float = 0.0
    state: bytes | None = None
    wishes: dict[str, float] = field(default_factory=dict)


class Store:
    """What all workers share."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self.wall = wall
        self.lines: dict[str, Line] = {}
        self.leased: dict[int, tuple[str, Lease]] = {}
        self.robots: dict[str, bytes] = {}
        self.quiet: dict[str, float] = {}
        self.seen: set[int] = set()
        self.hungry: dict[str, float] = {}
        self.dead: list[str] = []
        self.last = self.pending = self.commits = 0

    def line(self, host: str) -> Line:
        return self.lines.setdefault(host, Line())

    def commit(self, worker: str, batch: Batch) -> Committed:
        now = self.wall()
        self.commits += 1
        for settled in batch.settled:
            owner, lease = self.leased.pop(settled.lease.id)
            assert owner == worker, f"{lease.request.url} is settled by {worker}, not by {owner}"
            if isinstance(verdict := settled.verdict, Again):
                again = Lease(
                    lease.id,
                    lease.host,
                    lease.request,
                    lease.depth,
                    lease.attempt + verdict.charged,
                )
                self.line(lease.host).queue.append((verdict.at, again))
                continue
            if isinstance(verdict, Dead):
                self.dead.append(f"{verdict.reason} {lease.request.url}")
            self.pending -= 1
            self._admit(settled.found)
        self._admit(batch.seeds)
        for given in batch.returned:
            line = self.lines[given.host]
            assert line.held == worker, f"{given.host} is given back by {worker}"
            line.held, line.state, line.due = "", given.state, given.due
            for number, (owner, lease) in list(self.leased.items()):
                if (owner, lease.host) == (worker, given.host) and number not in given.out:
                    del self.leased[number]
                    line.queue.appendleft((0.0, lease))
            name = host_of(given.host)
            if given.robots is not None:
                self.robots[name] = given.robots
            self.quiet[name] = max(given.quiet, self.quiet.get(name, 0.0))
        leases = self._hand_out(worker, batch.want, now) if batch.want is not None else []
        held = [(host, line) for host, line in self.lines.items() if line.held == worker]
        return Committed(
            leases,
            self.pending,
            wished=[host for host, line in held if self._wishes(line, now)],
            quiet={
                host: self.quiet[host_of(host)]
                for host, _ in held
                if self.quiet.get(host_of(host), 0.0) > now
            },
            hungry=sum(who != worker and until > now for who, until in self.hungry.items()),
        )

    def _admit(self, found: Sequence[Found]) -> None:
        for one in found:
            if one.fingerprint is not None and one.fingerprint in self.seen:
                continue
            if one.fingerprint is not None:
                self.seen.add(one.fingerprint)
            self.last += 1
            self.pending += 1
            lease = Lease(self.last, one.host, one.request, one.depth, start=one.start)
            self.line(one.host).queue.append((0.0, lease))

    def _wishes(self, line: Line, now: float) -> list[str]:
        return [who for who, until in line.wishes.items() if until > now and who != line.held]

    def _hand_out(self, worker: str, want: Want, now: float) -> list[HostLease]:
        for line in self.lines.values():
            line.wishes.pop(worker, None)
        for host in want.hosts:
            self.line(host).wishes[worker] = now + WISH
        has = any(owner == worker for owner, _ in self.leased.values())
        self.hungry.pop(worker, None)
        hungry = any(until > now for until in self.hungry.values())
        leases, left = [], want.n
        named = [host for host in want.hosts if not self.lines[host].held]
        others = [
            host
            for host, line in self.lines.items()
            if host not in named
            and (host in want.held or not (line.held or line.wishes or (hungry and has)))
        ]
        for host in (*named, *others):
            line = self.lines[host]
            if not line.held and max(line.due, self.quiet.get(host_of(host), 0.0)) > now:
                continue
            due = [entry for entry in line.queue if entry[0] <= now][: max(min(left, 10), 0)]
            if not due and host not in named:
                continue
            for entry in due:
                line.queue.remove(entry)
                self.leased[entry[1].id] = worker, entry[1]
            left -= len(due)
            line.held = worker
            line.wishes.pop(worker, None)
            given = [lease for _, lease in due]
            leases.append(HostLease(host, line.state, given, self.robots.get(host_of(host))))
        if want.n and not has and left == want.n:
            self.hungry[worker] = now + 2 * LOOK
        return leases

    def next_due(self) -> float | None:
        now = self.wall()
        lines = [line for line in self.lines.values() if line.queue and not line.held]
        dates = [max(line.due, min(at for at, _ in line.queue)) for line in lines]
        due = min(dates, default=math.inf)
        return None if not self.pending else 0.0 if due <= now else due


class Frontend:
    """The store as one worker sees it."""

    def __init__(self, store: Store, worker: str) -> None:
        self.store = store
        self.worker = worker
        self.looked = 0.0

    @property
    def pending(self) -> int:
        return self.store.pending

    async def open(self) -> Recovery:
        return Recovery()

    async def acquire(self, want: Want) -> list[HostLease]:
        return (await self.commit(Batch(want=want))).leases

    async def commit(self, batch: Batch) -> Committed:
        await asyncio.sleep(0)
        committed = self.store.commit(self.worker, batch)
        self.looked = self.store.wall()
        await asyncio.sleep(0)
        return committed

    def next_due(self) -> float | None:
        due = self.store.next_due()  # or when to look whether others have brought something
        return None if due is None else min(due, self.looked + LOOK)

    async def aclose(self, *, clean: bool = True) -> None: ...

    def peek(self) -> Recovery | None:
        return None

    def retire(self) -> object:
        return None

    def set_aside(self, reason: str) -> object:
        return None

    async def begin(
        self, state: Mapping[str, bytes], claims: Mapping[str, array[int]]
    ) -> Mapping[str, bytes]:
        return state

    def hurry(self, seconds: float) -> None:
        """It is never away."""

    async def lead(self) -> Recovery | None:
        return None

    async def resign(self) -> None: ...

    async def entries(self, after: str, most: int, *, wait: bool = True) -> list[tuple[str, bytes]]:
        return []

    async def deliver(self, batch: Batch, upto: str) -> Committed:
        raise NotImplementedError


@dataclass(frozen=True)
class Seen:
    """One exchange, as the web saw it."""

    worker: str
    host: str
    path: str
    at: float
    ended: float
    beside: tuple[str, ...]
    """The workers with an exchange under way at the same host when it began."""


Site = Callable[[str, Request], Response | FetchError]


class Web:
    """Answers everybody after `latency` seconds, and keeps who asked for what, when."""

    def __init__(self, clock: ManualClock, site: Site, latency: float = 0.05) -> None:
        self.clock = clock
        self.site = site
        self.latency = latency
        self.log: list[Seen] = []
        self.going: list[tuple[str, str]] = []

    async def fetch(self, worker: str, request: Request) -> Response:
        host, began = urls.host_key(request.url), self.clock.monotonic()
        beside = tuple(who for who, where in self.going if where == host)
        self.going.append((worker, host))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.clock.call_at(began + self.latency, lambda: self._answer(done))
        try:
            await done
        finally:
            self.going.remove((worker, host))
        path = request.url[len(host) :]
        ended = self.clock.monotonic()
        self.log.append(Seen(worker, host, path, began, ended, beside))
        answer = self.site(worker, request)
        if isinstance(answer, FetchError):
            raise answer
        return answer

    @staticmethod
    def _answer(done: asyncio.Future[None]) -> None:
        if not done.done():
            done.set_result(None)

    def seen(self, host: str, path: str = "") -> list[Seen]:
        found = [s for s in self.log if s.host == host and s.path.startswith(path)]
        return sorted(found, key=lambda s: s.at)


class Worker:
    """One worker: an engine over the store and the web. `stop`: how it ended."""

    def __init__(self, world: World, name: str, spider: Spider, config: Config) -> None:
        self.name = name
        self.spider = spider
        self._web = world.web
        self.sent = 0
        frontier: Any = Frontend(world.store, name)
        parts = Parts(
            spider=spider,
            config=config,
            frontier=frontier,
            downloader=self,
            chain=Chain([], observed=False),
            clock=world.clock,
            page_limits=Limits(),
            random=lambda: 0.5,
            observers=Observers(),
            parsing=Parsing("never"),
        )
        assert isinstance(frontier, Shared)
        self.engine = Engine(parts, Recovery())
        self.gate = self.engine.scheduler.gate
        self.downloads = Downloads(
            self.engine.exchanges, self.gate, config, world.clock, lambda: 0.5
        )
        self._frontier = frontier
        self.ended: asyncio.Task[Stop] | None = None

    async def run(self) -> Stop:
        self.engine.seed(False)  # each pulls a `start()` of its own
        ending = await self.engine.run()
        await self._frontier.commit(self.engine.scheduler.last_batch())
        return ending

    async def download(self, url: str) -> Response:
        return await self.downloads.fetch(Request(url), Path("/nowhere"), 1000)

    async def fetch(self, request: Request, *, fresh: bool = False) -> Response:
        self.sent += 1
        return await self._web.fetch(self.name, request)

    def cookies(self) -> bytes | None:
        return None

    def load_cookies(self, stored: bytes) -> None: ...

    async def aclose(self) -> None: ...


class World:
    """A store, a web, and workers; `run` lets them work until all have ended."""

    def __init__(self, site: Site, config: Config, latency: float = 0.05) -> None:
        self.clock = ManualClock()
        self.store = Store(self.clock.wall)
        self.web = Web(self.clock, site, latency)
        self.config = config
        self.workers: list[Worker] = []
        self.began = self.clock.monotonic()

    def add(self, spider: Spider, name: str = "") -> Worker:
        worker = Worker(self, name or f"w{len(self.workers)}", spider, self.config)
        self.workers.append(worker)
        return worker

    @property
    def elapsed(self) -> float:
        return self.clock.monotonic() - self.began

    async def run(self, most: float = 600.0) -> None:
        """Raises what a worker raises; fails when it takes more than *most* seconds of the clock,
        or when nothing is left that anybody waits for."""
        for worker in self.workers:
            worker.ended = asyncio.create_task(worker.run())
        tasks = [worker.ended for worker in self.workers if worker.ended is not None]
        try:
            while not all(task.done() for task in tasks):
                for _ in range(40):  # more than anything here needs to come to rest
                    await asyncio.sleep(0)
                if all(task.done() for task in tasks):
                    break
                when = self.clock.next_call()
                assert when is not None, "everybody waits, and nobody will wake them"
                assert self.elapsed < most, f"not done after {most} s: {self.store.lines}"
                self.clock.advance(when - self.clock.monotonic())
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ended:
            if isinstance(end, BaseException):
                raise end

    # What must hold whatever happens

    def never_two_workers_at_once(self, host: str) -> None:
        for seen in self.web.seen(host):
            assert not set(seen.beside) - {seen.worker}, seen

    def apart(self, host: str, seconds: float) -> None:
        starts = [seen.at for seen in self.web.seen(host)]
        for one, other in pairwise(starts):
            assert other - one >= seconds - 1e-6, (one, other)

    def clean(self) -> None:
        """Nothing is held, leased or waiting, and every page was fetched once."""
        assert not self.store.leased
        assert not [host for host, line in self.store.lines.items() if line.held or line.queue]
        assert self.store.pending == 0
        assert self.store.dead == []

    def fetched(self, host: str, path: str = "") -> Counter[str]:
        return Counter(seen.path for seen in self.web.seen(host, path))

    def clean_but_for(self, reason: str) -> None:
        """As `clean`, but that pages have ended with *reason*."""
        self.store.dead = [told for told in self.store.dead if not told.startswith(reason)]
        self.clean()
