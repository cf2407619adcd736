"""The Redis server of a crawl: it dies, sleeps, forgets, and holds what no crawl has written."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.crawl.harness import GRAPH_SPIDER, Crawl, Finished, Project, json_lines
from tests.hostile.test_private_matters import FOREIGN
from tests.servers.graph import Graph
from tests.servers.redis import Redis
from tests.servers.web import Web

GRAPH = Graph(600)


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(GRAPH) as web:
        yield web


@pytest.fixture
def server(redis_binary: str) -> Iterator[Redis]:
    with Redis(redis_binary) as server:
        yield server


@pytest.fixture
def shared(project: Project, server: Redis) -> Project:
    project.spider(GRAPH_SPIDER)
    project.config(f'[frontier]\nurl = "{server.url()}"\nlease = 3\n')
    return project


def command(web: Web, *more: str) -> tuple[str, ...]:
    return ("run", "pages", "-a", f"base={web.url}", "--job", "it", "-o", "out.jsonl", *more)


def until_it_waits(run: Crawl) -> None:
    """... and says so; or has ended, which the test then sees."""
    while run.process.poll() is None and "waiting for redis://" not in run.err.read_text():
        time.sleep(0.01)


def ridden_out(
    project: Project, web: Web, breaks: Callable[[], None], mends: Callable[[], None]
) -> Finished:
    """Two workers crawl; the server *breaks* in the middle, and *mends* once they wait for it."""
    web.after(200, breaks)
    run = project.start(*command(web, "--workers", "2", "--json"))
    until_it_waits(run)
    mends()
    done = run.wait().expect(0)
    exactly_once(project)
    return done


def exactly_once(project: Project) -> None:
    numbers = Counter(record["n"] for record in json_lines(project.path("out.jsonl")))
    assert numbers == Counter(range(GRAPH.pages))


@pytest.mark.case(
    88,
    "a Redis server that is killed in the middle of a crawl of two workers, and started again",
    "they wait, say so, and go on: the output is exactly the crawl",
)
def test_a_server_that_restarts(shared: Project, web: Web, server: Redis) -> None:
    done = ridden_out(shared, web, server.kill, server.start)
    assert "answers again" in done.err
    assert done.json["pages"] == GRAPH.pages


@pytest.mark.case(
    88,
    "a Redis server that stands still (SIGSTOP) for longer than workers may be silent, and goes on",
    "no worker is taken for dead; the output is exactly the crawl",
)
def test_a_server_that_sleeps(shared: Project, web: Web, server: Redis) -> None:
    done = ridden_out(shared, web, server.pause, server.go_on)
    assert "taken for dead" not in done.err
    assert "is dead" not in done.err


@pytest.mark.case(
    88,
    "a Redis server that is flushed in the middle of a crawl",
    "exit 3, which names --fresh as the way out; nothing is published",
)
def test_a_server_that_is_flushed(shared: Project, web: Web, server: Redis) -> None:
    def flush() -> None:
        with server.client() as client:
            client.flushall()

    web.after(200, flush)
    ended = shared.scrape(*command(web, "--workers", "2", "--json")).expect(3)
    assert "it is not there any more" in ended.err
    assert "--fresh" in ended.err
    assert not ended.out
    assert not shared.path("out.jsonl").exists()


@pytest.mark.case(
    88,
    "a Redis server that is not there, or lets nobody in",
    "exit 4 after a while, and 2 at once, naming it without its password; nothing is written",
)
def test_a_server_that_is_not_there(shared: Project, web: Web, server: Redis) -> None:
    url = server.url().replace("//", "//:c4nary@")
    refused = shared.scrape(*command(web), "-s", f"frontier.url={url}").expect(2)
    assert "does not let us in" in refused.err
    server.kill()
    away = shared.scrape(*command(web), "-s", "frontier.patience=0.5").expect(4)
    assert f"127.0.0.1:{server.port}/0 was out of order" in away.err
    assert "c4nary" not in refused.err + away.err
    assert not web.log
    assert not shared.path("out.jsonl.partial").exists()


@pytest.mark.case(
    96,
    "a request in Redis that is a pickle, JSON nested 200,000 deep, a foreign type or an option"
    " that there is not; a key of another type; what another release has stored",
    "exit 3, the crawl is named as damaged; another format: exit 2",
)
def test_foreign_data_in_redis_is_refused(shared: Project, web: Web, server: Redis) -> None:
    web.when(lambda web: bool(web.seen("/p/0")), lambda: shared.started[0].terminate())
    shared.start(*command(web)).wait().expect(143)
    with server.client() as client:
        kept = {key: client.dump(key) for key in client.keys("*")}

        def run_with(change: Callable[[], object]) -> Finished:
            client.flushall()
            for key, value in kept.items():
                client.restore(key, 0, value)
            change()
            return shared.scrape(*command(web))

        (queue,) = client.keys("*:q:*")
        run = queue.partition(b":q:")[0]
        head = client.lindex(queue, 0).partition(b"\n")[0]
        for payload in list(FOREIGN.values())[:4]:  # the others: test_what_is_no_stored_request
            entry = head + b"\n" + payload
            done = run_with(partial(client.lset, queue, 0, entry)).expect(3)
            assert "a request in the ledger cannot be read" in done.err
        done = run_with(partial(client.set, run + b":state", "x")).expect(3)
        assert "is damaged" in done.err
        done = run_with(partial(client.hset, run + b":meta", "schema", "99")).expect(2)
        assert "has format 99" in done.err
    assert not shared.path("owned").exists()
