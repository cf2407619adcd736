"""The machine fails: what is locked, stopped, scarce or gone costs time, and no page."""

from __future__ import annotations

import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from typing import cast

import pytest

from tests.crawl.harness import GRAPH_SPIDER, Project, addresses, json_lines
from tests.servers.graph import Graph
from tests.servers.web import RESET, SILENT, Answer, Reply, Seen, Web, html, text

HOSTS_SPIDER = """
from scraper import Output, Request, Response, Spider

class Hosts(Spider):
    name = "hosts"
    port: int
    count: int

    async def start(self):
        for n in range(1, self.count + 1):
            yield Request(f"http://127.1.{n // 250}.{n % 250 + 1}:{self.port}/p/0")

    async def parse(self, response: Response) -> Output:
        for link in response.links():
            yield response.follow(link)
        yield {"url": response.url}
"""


def command(web: Web) -> tuple[str, ...]:
    return ("run", "pages", "-a", f"base={web.url}", "-o", "out.jsonl", "--json")


def numbers(project: Project) -> Counter[int]:
    return Counter(record["n"] for record in json_lines(project.path("out.jsonl")))


# -- the ledger is locked --------------------------------------------------------------------


class Lock:
    """Another program that has the ledger for itself."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.held: list[sqlite3.Connection] = []

    def take(self) -> None:
        (ledger,) = self.project.path(".scrape/pages").rglob("*.sqlite")
        connection = sqlite3.connect(ledger, timeout=60, check_same_thread=False)
        connection.isolation_level = None
        connection.execute("BEGIN EXCLUSIVE")
        self.held.append(connection)

    def release(self) -> None:
        self.held[0].execute("ROLLBACK")
        self.held[0].close()


def locked(project: Project, seconds: float) -> None:
    """A crawl whose ledger is locked from its 200th request on, for *seconds*."""
    project.spider(GRAPH_SPIDER)
    graph, lock = Graph(900), Lock(project)
    with Web(graph) as web:
        web.after(200, lock.take)
        crawl = project.start(*command(web))
        web.wait(lambda web: bool(lock.held))
        time.sleep(seconds)  # longer than any time between commits: one of them must wait
        lock.release()
        done = crawl.wait().expect(0)
        assert done.json["failed"] == 0
        assert done.json["reasons"] == {}
        assert numbers(project) == Counter(range(900))
        assert {web.counts()[f"/p/{n}"] for n in range(900)} == {1}


@pytest.mark.case(
    87,
    "another program holds `BEGIN EXCLUSIVE` on the ledger",
    "pages in the making go on, at most a group of them; then the crawl waits (60 s, then exit 4)"
    " and goes on; nothing lost, nothing fetched twice",
)
def test_a_ledger_that_is_locked_is_waited_for(project: Project) -> None:
    locked(project, 2.0)


@pytest.mark.long
def test_long_a_ledger_that_is_locked_for_half_a_minute(project: Project) -> None:
    locked(project, 30.0)


# -- the process is stopped ------------------------------------------------------------------


def stopped(project: Project, seconds: float, *settings: str) -> None:
    """A crawl that is stopped (SIGSTOP) for longer than all its timeouts, and then goes on."""
    project.spider(GRAPH_SPIDER)
    project.config(f"[http]\ntimeout = {seconds / 2}\n[retry]\nbase = 0.1\n")
    graph = Graph(600)
    held: set[str] = set()

    def site(seen: Seen) -> Answer:
        n = int(seen.path.rpartition("/")[2]) if seen.path.startswith("/p/") else 0
        if 300 <= n < 320 and seen.path not in held:
            held.add(seen.path)
            return SILENT  # what is on its way when the process is stopped gets no answer
        return graph(seen)

    with Web(site) as web:
        crawl = project.start(*command(web))
        web.wait(lambda web: len(held) >= 5)
        crawl.signal(signal.SIGSTOP)
        time.sleep(seconds)  # it is the time that passes for all but the process that is tested
        crawl.signal(signal.SIGCONT)
        done = crawl.wait().expect(0)
        assert done.json["failed"] == 0
        assert done.json["retries"] >= 5
        assert numbers(project) == Counter(range(600))


@pytest.mark.case(
    89,
    "SIGSTOP in the middle, SIGCONT after every timeout has passed",
    "what was on its way ends `timeout`, is tried again and delivered; complete, none failed",
)
def test_a_process_that_was_stopped_goes_on(project: Project) -> None:
    stopped(project, 2.0)


@pytest.mark.long
def test_long_a_process_that_was_stopped_for_a_minute(project: Project) -> None:
    stopped(project, 61.0)


# -- few file descriptors --------------------------------------------------------------------


@pytest.mark.case(
    11,
    "500 hosts, and no more than 64 file descriptors",
    "slower, and every page delivered: idle connections make room, new ones wait for it",
)
def test_few_file_descriptors_make_it_slower_and_no_more(project: Project) -> None:
    project.spider(HOSTS_SPIDER)
    graph = Graph(3)
    few = (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    with Web(graph, addresses(500)) as web:
        done = project.start(
            "run", "hosts", "-a", f"port={web.port}", "-a", "count=500", "-o", "out.jsonl",
            "--json", preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, few),
        ).wait().expect(0)  # fmt: skip
        assert done.json["reasons"] == {}
        assert done.json["pages"] == 1500
        urls = Counter(record["url"] for record in json_lines(project.path("out.jsonl")))
        assert urls == Counter(f"{web.base(a)}/p/{n}" for a in web.addresses for n in range(3))


# -- nobody reads any more -------------------------------------------------------------------


def read_a_line(project: Project, *arguments: str, read: bool = True) -> tuple[str, str]:
    """`scrape ARGUMENTS | head -1`: the line, and what went to stderr. Not *read*: `| true`."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from scraper.cli import main; main()", *arguments],
        cwd=project.root, env=project.environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    project.started.append(cast("subprocess.Popen[bytes]", process))
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline() if read else ""
    process.stdout.close()
    with process.stderr:
        err = process.stderr.read()
    process.wait(60)
    return line, err


@pytest.mark.case(
    93,
    "`| head -1` behind `scrape failures`, `list`, `config`; nobody reads `run --json`",
    "the command ends without a word of it; a crawl whose summary nobody reads is complete",
)
def test_nobody_reads_any_more(project: Project) -> None:
    project.spider(GRAPH_SPIDER)

    def missing(seen: Seen) -> Answer:
        n = int(seen.path.rpartition("/")[2]) if seen.path.startswith("/p/") else 0
        return small(seen) if n < 10 else text("gone", 404)

    small = Graph(400, width=399)
    with Web(missing) as web:
        settings = ("-s", "crawl.max_failure_rate=1", "--job", "gone")
        crawl = ("run", "pages", "-a", f"base={web.url}", "-o", "out.jsonl", *settings)
        _, err = read_a_line(project, *crawl, "--json", read=False)
        assert "Traceback" not in err
        assert len(json_lines(project.path("out.jsonl"))) == 10
    for listing in (("failures", "pages", "--job", "gone"), ("list",), ("config",)):
        line, err = read_a_line(project, *listing)
        assert line
        assert "Traceback" not in err
        assert "roken" not in err


# -- hosts that fail -------------------------------------------------------------------------

PAGES = 10
TIMEOUT = 60.0
LATE = 0.15
DELAY = 0.05
PAUSE = 1
FAILING = ("silent", "stalled", "reset", "refused", "unavailable", "throttled", "robots", "silent")


def failing(way: str, seen: Seen) -> Answer:
    """How a host fails: some from the start, the others behind a front page of links."""
    n = int(seen.path.rpartition("/")[2]) if seen.path.startswith("/p/") else -1
    if way == "silent":
        return SILENT
    if way == "reset":
        return RESET
    if n < 0:
        return text("", 500 if way == "robots" else 404)
    if n == 0:
        return front(PAGES)
    if way == "stalled":
        return Reply(b"x", 200, [("Content-Length", "10000")])
    if way == "throttled":
        return text("slowly", 429, ("Retry-After", str(PAUSE)))
    return text("later", 503)


def front(pages: int) -> Reply:
    return html("".join(f'<a href="/p/{n}">{n}</a>' for n in range(1, pages)))


def earliness(starts: list[float], apart: float) -> float:
    """By how many seconds requests came before their time, if their starts lie *apart*."""
    slots = [at - n * apart for n, at in enumerate(starts)]
    return max([0.0, *(max(slots[:n]) - slots[n] for n in range(1, len(slots)))])


@pytest.mark.case(
    12,
    "40 hosts of 10 pages, a third of them silent, stalling in the body, reset, refused, 503, 429"
    " with `Retry-After`, or with a robots.txt that is 500; 8 workers",
    "the healthy hosts are done before the first timeout, no delay or pause of a host is broken,"
    " by the server's log (500 hosts of 100 pages: `python -m benchmarks.hosts`)",
)
def test_hosts_that_fail_cost_the_others_nothing(project: Project) -> None:
    every = addresses(40)
    ways = {host: FAILING[n // 3 % len(FAILING)] for n, host in enumerate(every) if n % 3 == 0}
    healthy = set(every) - ways.keys()

    def site(seen: Seen) -> Answer:
        host = seen.host.split(":")[0]
        if host in ways:
            return failing(ways[host], seen)
        if seen.path == "/robots.txt":
            return text("", 404)
        return front(PAGES if seen.path == "/p/0" else 0)

    def served(web: Web) -> list[Seen]:
        return [s for s in list(web.log) if s.path != "/robots.txt" and host_of(s) in healthy]

    def enough(web: Web) -> bool:
        return len(served(web)) == PAGES * len(healthy)

    project.spider(HOSTS_SPIDER)
    project.config(
        f"[crawl]\nconcurrency = 8\n[http]\ntimeout = {TIMEOUT}\nmin_rate = 0\n"
        f'[politeness.hosts."127.*"]\ndelay = {DELAY}\nadaptive = false\n',
        local="",
    )
    listening = tuple(host for host in every if ways.get(host) != "refused")
    with Web(site, listening) as web:
        run = project.start(
            "run", "hosts", "-a", f"port={web.port}", "-a", "count=40", "-o", "out.jsonl"
        )
        web.when(enough, lambda: run.signal(signal.SIGINT))
        run.again(signal.SIGINT)
        assert run.wait().code == 130
        assert enough(web)
        last = max(s.at for s in served(web))
        mute = [s for s in web.log if ways.get(host_of(s)) == "silent"]
        assert mute
        assert all(s.ended is None or s.ended > last for s in mute), "they waited for a timeout"
        for host in listening:
            seen = web.seen(host=host)
            assert earliness([s.at for s in seen], DELAY) <= LATE, (host, ways.get(host))
            told = [s.at for s in seen if s.status == 429]
            assert earliness(told, PAUSE) <= LATE


def host_of(seen: Seen) -> str:
    return seen.host.split(":")[0]
