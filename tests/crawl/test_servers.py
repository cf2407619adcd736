"""The helper servers are evidence, so they are tested themselves."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator

import pytest

from tests.crawl.harness import addresses
from tests.servers.graph import Graph
from tests.servers.web import RESET, SILENT, Answer, Reply, Seen, Site, Web, redirect, router, text


@pytest.fixture
def web() -> Iterator[Web]:
    async def slow(seen: Seen) -> Reply:
        return text(seen.method + seen.body.decode())

    routes: dict[str, Answer | Site] = {
        "/a": text("A"),
        "/slow": slow,
        "/silent": SILENT,
        "/reset": RESET,
        "/go": redirect("/a"),
    }
    with Web(router(routes), addresses(2)) as web:
        yield web


def client(web: Web, address: str | None = None, timeout: float = 30) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(address or web.addresses[0], web.port, timeout=timeout)


def test_answers_on_one_connection_and_logs_each_request(web: Web) -> None:
    connection = client(web)
    answers = []
    for method, path, body in [
        ("GET", "/a", None),
        ("POST", "/slow", "xy"),
        ("HEAD", "/a", None),
        ("GET", "/no", None),
    ]:
        connection.request(method, path, body, {"Cookie": "k=v; w=x"})
        answer = connection.getresponse()
        answers.append((answer.status, answer.read()))
    connection.close()
    assert answers == [(200, b"A"), (200, b"POSTxy"), (200, b""), (404, b"no such page")]
    assert [(s.number, s.method, s.path, s.status) for s in web.log] == [
        (0, "GET", "/a", 200),
        (1, "POST", "/slow", 200),
        (2, "HEAD", "/a", 200),
        (3, "GET", "/no", 404),
    ]
    assert len({s.connection for s in web.log}) == 1
    assert web.log[0].cookies == {"k": "v", "w": "x"}
    web.wait(lambda web: all(s.ended is not None for s in web.log))
    assert all(s.ended is not None and s.ended >= s.at for s in web.log)


def test_each_address_is_a_host(web: Web) -> None:
    for address in web.addresses:
        connection = client(web, address)
        connection.request("GET", "/go")
        assert connection.getresponse().status == 302
        connection.close()
    assert [len(web.seen("/go", host)) for host in web.addresses] == [1, 1]


def test_misbehaves_on_request(web: Web) -> None:
    connection = client(web)
    connection.request("GET", "/reset")
    with pytest.raises(ConnectionResetError):
        connection.getresponse()
    silent = client(web, timeout=0.05)
    silent.request("GET", "/silent")
    with pytest.raises(TimeoutError):
        silent.getresponse()
    silent.close()
    web.wait(lambda web: web.seen("/silent")[0].ended is not None)
    assert web.seen("/silent")[0].status == 0


def test_calls_back_after_so_many_requests(web: Web) -> None:
    happened = threading.Event()
    web.after(2, happened.set)
    connection = client(web)
    states: list[bool] = []
    for _ in range(3):
        connection.request("GET", "/a")
        connection.getresponse().read()
        states.append(happened.wait(0.2 if len(states) != 1 else 30))
    connection.close()
    assert states == [False, True, True]


@pytest.mark.parametrize("pages", [1, 7, 400])
def test_every_page_of_a_graph_is_reachable(pages: int) -> None:
    graph = Graph(pages)
    reached, todo = {0}, [0]
    while todo:
        fresh = set(graph.links(todo.pop())) - reached
        reached |= fresh
        todo += fresh
    assert reached == set(graph.items())
    assert Graph(pages).links(0) == graph.links(0)
