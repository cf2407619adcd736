"""Many workers, one crawl, a real Redis: kill any of them, or Redis; the output is exact.

Short forms run with the ordinary tests; the long one is `make kill` (`pytest -m long`).
"""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from tests.crawl.harness import (
    CONCURRENCY,
    GRAPH_SPIDER,
    GROUP,
    Crawl,
    Finished,
    Project,
    json_lines,
)
from tests.servers.graph import Graph
from tests.servers.redis import Redis
from tests.servers.web import Answer, Seen, Web

WORKERS = 3
LEASE = "3"
"""Seconds after which a worker that stands still is taken for dead: the least that may be set."""

SHARED = """
[politeness.hosts."127.*"]
delay = 0
per_host = 64
adaptive = false
slots = 4
"""
"""Politeness lifted for loopback, where four workers may share a host."""


class Crew:
    """Workers of one crawl, each a process of its own."""

    def __init__(
        self,
        project: Project,
        web: Web,
        redis: Redis,
        *more: str,
        output: tuple[str, ...] = ("-o", "out.jsonl"),
    ) -> None:
        self.project = project
        self.web = web
        self.redis = redis
        self.arguments = (
            "run", "pages", "-a", f"base={web.url}", *output, "--json",
            "-s", f"frontier.url={redis.url()}", "-s", f"frontier.lease={LEASE}", *more,
        )  # fmt: skip
        self.since = time.time()
        self.workers: list[Crawl] = []
        self.codes: list[int] = []

    def start(self, count: int = 1) -> None:
        for _ in range(count):
            crawl = self.project.start(*self.arguments, "--since", str(self.since))
            self.workers.append(crawl)

    def past(self, requests: int) -> bool:
        """Whether the server has seen so many, or nobody is left to make them."""
        return self.web.number() >= requests or not self.alive()

    def alive(self) -> list[Crawl]:
        return [worker for worker in self.workers if worker.process.poll() is None]

    def finish(self) -> list[Finished]:
        """Every worker ends by itself."""
        return [worker.wait() for worker in self.workers]

    def restart_dead(self) -> None:
        """Replace what was killed, as a supervisor would."""
        for worker in list(self.workers):
            code = worker.process.poll()
            if code is not None and code != 0:
                self.codes.append(code)
                self.workers.remove(worker)
                self.start()

    def see_through(self) -> None:
        """Replace what dies, until the crawl is over for one of them, and so for all."""
        while self.alive():
            self.restart_dead()
            time.sleep(0.05)
        assert any(done.code == 0 for done in self.finish())


@pytest.fixture
def pages(project: Project) -> Project:
    project.spider(GRAPH_SPIDER)
    project.config(local=SHARED)
    return project


def judge(project: Project, web: Web, graph: Graph, *, kills: int) -> None:
    """The output is the graph, once; a kill costs what one worker had in flight, and one group."""
    records = json_lines(project.path("out.jsonl"))
    numbers = Counter(record["n"] for record in records)
    expected = graph.items()
    assert not expected.keys() - numbers.keys(), "pages were lost"
    assert not [n for n, times in numbers.items() if times > 1], "pages were delivered twice"
    assert all(record == expected[record["n"]] for record in records)
    assert len(records) == graph.pages
    fetched = Counter({p: c for p, c in web.counts().items() if p.startswith("/p/")})
    again = fetched.total() - graph.pages
    bound = kills * (CONCURRENCY + GROUP)
    assert again <= bound, f"{again} pages fetched again by {kills} kills; the bound is {bound}"


def at_rest(redis: Redis) -> None:
    """No lease and no hold is left."""
    with redis.client() as client:
        for key in client.scan_iter("*", count=1000):
            name = key.decode().rpartition(":")[2]
            assert name not in {"held", "workers", "leader", "delayed", "suspects"}, key
            assert ":l:" not in key.decode(), key
            assert ":h:" not in key.decode(), key


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something outside of the web server, which has no way to tell."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def test_workers_share_a_crawl(pages: Project, redis: Redis) -> None:
    graph = Graph(600)
    with Web(graph) as web:
        crew = Crew(pages, web, redis)
        crew.start(WORKERS)
        ended = crew.finish()
        judge(pages, web, graph, kills=0)
    results = [done.expect(0).json for done in ended]
    assert all(result["finished"] and result["items"] == 600 for result in results)
    assert all(result["pages"] == 600 and not result["failed"] for result in results)
    at_rest(redis)


def kill_at_random(
    crew: Crew, web: Web, redis: Redis, *, seed: int, kills: int, redis_kills: int
) -> int:
    """Kill workers, the leader among them, and Redis; replace what is gone; all ends well.

    Returns how many deeds there were.
    """
    dice = random.Random(seed)
    deeds = ["worker"] * kills + ["redis"] * redis_kills
    dice.shuffle(deeds)
    crew.start(WORKERS)
    done = 0
    for deed in deeds:
        until(partial(crew.past, web.number() + dice.randrange(20, 60)))
        if not crew.alive():
            break
        if deed == "redis":
            redis.kill()
            redis.start()
        else:
            victim = dice.choice(crew.alive())
            victim.kill()
            victim.process.wait()
            done += 1
        crew.restart_dead()
    assert done >= kills * 5 // 6, f"the crawl was over after {done} kills"
    crew.see_through()
    return len(deeds)


def exact(pages: Project, redis: Redis, graph: Graph, *, seed: int, kills: int, more: int) -> None:
    """A graph by *kills* of workers and *more* of Redis."""
    with Web(graph) as web:
        crew = Crew(pages, web, redis)
        deeds = kill_at_random(crew, web, redis, seed=seed, kills=kills, redis_kills=more)
        judge(pages, web, graph, kills=deeds)
    at_rest(redis)


def test_killed_at_random(pages: Project, redis: Redis) -> None:
    exact(pages, redis, Graph(900), seed=7, kills=5, more=1)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_for_long(pages: Project, redis: Redis, seed: int) -> None:
    exact(pages, redis, Graph(3000), seed=seed, kills=24, more=3)


def test_a_worker_that_slept_too_long_is_refused(pages: Project, redis: Redis) -> None:
    graph = Graph(800)
    with Web(graph) as web:
        crew = Crew(pages, web, redis, "-s", 'politeness.hosts."127.*".delay=0.01')
        crew.start(2)
        web.wait(lambda w: w.number() > 100)
        zombie, other = crew.workers
        zombie.signal(signal.SIGSTOP)
        with redis.client() as client:
            [workers] = client.keys("*:workers")
            until(lambda: client.zcard(workers) == 1)
        zombie.signal(signal.SIGCONT)
        refused = zombie.wait()
        assert refused.code == 4, refused.err
        assert "run the same command again" in refused.err.lower()
        other.wait().expect(0)
        judge(pages, web, graph, kills=1)
    at_rest(redis)


DEADLY_SPIDER = (
    GRAPH_SPIDER
    + """
        if n == 7:
            import os
            os.kill(os.getpid(), 9)
"""
)


def test_a_page_that_kills_its_worker_ends_dead(pages: Project, redis: Redis) -> None:
    pages.spider(DEADLY_SPIDER)
    graph = Graph(60)
    with Web(graph) as web:
        crew = Crew(pages, web, redis)
        crew.start(2)
        crew.see_through()
        result = next(ended.json for ended in crew.finish() if ended.code == 0)
    assert result["finished"] is True
    assert result["reasons"] == {"crashed": 1}
    assert crew.codes.count(-signal.SIGKILL) == 5  # twice among others, three times alone
    numbers = {record["n"] for record in json_lines(pages.path("out.jsonl"))}
    assert numbers == reachable_without(graph, 7)
    at_rest(redis)


def reachable_without(graph: Graph, dead: int) -> set[int]:
    """The pages that links lead to when *dead* gives none."""
    found, todo = {0}, [0]
    while todo:
        n = todo.pop()
        for m in graph.links(n) if n != dead else ():
            if m not in found:
                found.add(m)
                todo.append(m)
    return found - {dead}


def test_a_leader_that_is_stopped_finishes_its_pages(pages: Project, redis: Redis) -> None:
    graph, go_on = Graph(60), threading.Event()

    async def held(seen: Seen) -> Answer:
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        return graph(seen)

    with Web(lambda seen: held(seen) if seen.path == "/p/5" else graph(seen)) as web:
        crew = Crew(pages, web, redis)
        crew.start()
        [worker] = crew.workers
        web.wait(lambda w: w.counts()["/p/5"] == 1)
        worker.signal(signal.SIGINT)
        until(lambda: "stopping" in worker.err.read_text())
        go_on.set()
        worker.wait().expect(130)
        crew.workers.clear()
        crew.start()
        crew.see_through()
        judge(pages, web, graph, kills=0)


@pytest.mark.long
def test_stopped_at_once_while_redis_is_away(pages: Project, redis: Redis) -> None:
    """It does not wait for the server's return; what it had committed is not done again."""
    graph = Graph(300)
    with Web(graph) as web:
        crew = Crew(pages, web, redis, "-s", 'politeness.hosts."127.*".delay=0.01')
        crew.start()
        web.wait(lambda w: w.number() > 50)
        redis.kill()
        [worker] = crew.workers
        worker.twice(signal.SIGINT)
        ended = worker.wait()
        redis.start()
        assert ended.code == 4, ended.err
        assert "run the same command again" in ended.err
        crew.workers.clear()
        crew.start()
        crew.see_through()
        judge(pages, web, graph, kills=1)
    at_rest(redis)
