"""`scrape run --workers`, `status` and the like, with real workers and a real Redis.

What the supervisor does is shown in `tests/cli/test_workers.py`; what kills do to a crawl in
`test_workers`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.cli.conftest import CommandLine, Said
from tests.crawl.harness import GRAPH_SPIDER, Crawl, Project, json_lines
from tests.docs.markdown import blocks
from tests.servers.graph import Graph
from tests.servers.redis import Redis
from tests.servers.web import Answer, Reply, Seen, Web

PAGES = 120
GRAPH = Graph(PAGES)
HELD = f"/p/{PAGES - 1}"
"""A page whose answer is held back."""


class Site(Web):
    """The graph; its last page hangs while `holding`."""

    holding = True

    def __init__(self) -> None:
        super().__init__(self._answer)

    def _answer(self, seen: Seen) -> Answer | Awaitable[Answer]:
        return self._later() if seen.path == HELD else GRAPH(seen)

    async def _later(self) -> Reply:
        while self.holding:
            await asyncio.sleep(0.01)
        return GRAPH.page(PAGES - 1)

    def wait_until_held(self) -> None:
        """... and everything else is fetched."""
        self.wait(lambda web: len(web.counts()) == GRAPH.pages + 1 and web.counts()[HELD] > 0)


@pytest.fixture
def web() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture
def shared(project: Project, redis_server: Redis) -> Iterator[Project]:
    """A project whose crawls are on a Redis of their own."""
    project.spider(GRAPH_SPIDER)
    project.config(
        f'[frontier]\nurl = "{redis_server.url()}"\n[http]\ntimeout = 60\n'
        "[crawl]\ndrain_timeout = 2\n"
    )
    yield project
    with redis_server.client() as client:
        client.flushall()


@pytest.fixture
def look(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """The commands that only look, in this process."""
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return CommandLine(project.root, capsys)


def expect(code: int, said: Said) -> Said:
    assert said.code == code, said.err
    return said


def base(web: Web, *more: str) -> tuple[str, ...]:
    return ("run", "pages", "-a", f"base={web.url}", "--job", "it", "-o", "out.jsonl", *more)


def status(look: CommandLine) -> dict[str, Any]:
    (job,) = json.loads(expect(0, look("status", "pages", "--json")).out)
    assert isinstance(job, dict)
    return job


def wait_for(look: CommandLine, workers: int, run: Crawl) -> None:
    """... so many to be there."""
    while len(status(look)["shared"]["workers"]) < workers:
        assert run.process.poll() is None, run.err.read_text()


def begin(project: Project, look: CommandLine, web: Site) -> Crawl:
    """A crawl of two workers, of which one page is left."""
    run = project.start(*base(web, "--workers", "2", "--json"))
    web.wait_until_held()
    wait_for(look, 2, run)
    return run


def test_workers_deliver_one_crawl(shared: Project, look: CommandLine, web: Site) -> None:
    web.holding = False
    log = ("-s", "log.file=crawl.log", "-s", "log.level=DEBUG")
    done = shared.scrape(*base(web, "--workers", "3", "--json", *log)).expect(0)
    assert len(done.out.splitlines()) == 1
    assert (done.json["ended"], done.json["pages"], done.json["items"]) == (
        "finished",
        PAGES,
        PAGES,
    )
    assert sorted(r["n"] for r in json_lines(shared.path("out.jsonl"))) == list(range(PAGES))
    assert done.err.count(f"pages: finished · {PAGES} items from {PAGES} pages") == 1
    assert {web.counts()[f"/p/{n}"] for n in range(PAGES)} == {1}
    logged = shared.path("crawl.log").read_text().splitlines()
    assert {line.split()[0] for line in logged if not line.startswith(" ")} <= {"w1", "w2", "w3"}
    assert {line for line in done.err.splitlines() if "this worker leads" in line} <= {*logged}
    again = shared.scrape(*base(web, "--join", "--json")).expect(0)
    assert "is over" in again.err
    assert again.json["pages"] == PAGES
    assert web.counts()["/p/0"] == 1, "--join begins nothing"


def test_stopped_and_resumed(shared: Project, look: CommandLine, web: Site) -> None:
    run = begin(shared, look, web)
    run.twice(signal.SIGINT)
    stopped = run.wait().expect(130)
    assert "stopping" in stopped.err
    assert stopped.json["ended"] == "stopped"
    assert not status(look)["running"]
    web.holding = False
    done = shared.scrape(*base(web, "--workers", "2", "--json")).expect(0)
    assert done.err.count("resuming the run of") == 1
    assert sorted(r["n"] for r in json_lines(shared.path("out.jsonl"))) == list(range(PAGES))


@pytest.mark.long
def test_a_writer_that_is_killed(shared: Project, look: CommandLine, web: Site) -> None:
    run = begin(shared, look, web)
    (writer,) = (w["pid"] for w in status(look)["shared"]["workers"] if w["leads"])
    os.kill(writer, signal.SIGKILL)
    while "was killed by SIGKILL; it is started again in" not in run.err.read_text():
        assert run.process.poll() is None, run.err.read_text()
    web.holding = False
    done = run.wait().expect(0)
    assert done.json["ended"] == "finished"
    assert sorted(r["n"] for r in json_lines(shared.path("out.jsonl"))) == list(range(PAGES))


def test_status_tells_of_the_workers(shared: Project, look: CommandLine, web: Site) -> None:
    run = begin(shared, look, web)
    told = status(look)
    on_server = told["shared"]
    assert (told["state"], told["pending"], told["job"]) == ("running", 1, "it")
    assert (on_server["leased"], on_server["seen"], on_server["held"]) == (1, PAGES, 1)
    assert [sorted(w["leases"] for w in on_server["workers"])] == [[0, 1]]
    assert sum(worker["leads"] for worker in on_server["workers"]) == 1
    assert {worker["stale"] for worker in on_server["workers"]} == {False}
    shown = expect(0, look("status", "pages")).out
    assert re.search(rf"^pages +it +running +{PAGES - 1} ", shown, re.MULTILINE)
    assert "requests  1 pending\n" in shown
    assert "workers   2\n" in shown
    assert len(re.findall(r"/s +\d+ s(?: +writes)?$", shown, re.MULTILINE)) == 2
    assert shown.count("writes") == 1
    assert max(map(len, shown.splitlines())) <= 80
    everything = expect(0, look("status")).out
    assert len(everything.splitlines()) == 2
    run.kill()
    assert run.wait().code == -signal.SIGKILL
    while status(look)["running"]:
        pass  # no worker outlives who started it


def test_a_worker_that_is_unlike_the_others(shared: Project, look: CommandLine, web: Site) -> None:
    run = begin(shared, look, web)
    other = shared.scrape(*base(web, "--join", "-s", "crawl.max_depth=3")).expect(2)
    assert "crawl.max_depth = 20, now 3" in other.err
    assert "--allow-changed" in other.err
    let_in = shared.start(*base(web, "--join", "--allow-changed", "-s", "crawl.max_depth=3"))
    wait_for(look, 3, let_in)
    let_in.signal(signal.SIGTERM)
    assert let_in.wait().code == 143
    assert run.process.poll() is None
    run.twice(signal.SIGTERM)
    run.wait().expect(143)


def test_there_is_nothing_to_join(shared: Project, look: CommandLine, web: Site) -> None:
    for workers in ((), ("--workers", "2")):
        said = shared.scrape(*base(web, "--join", *workers)).expect(2)
        assert said.err.startswith("scrape: --join: there is no crawl of this job to join\n")
    assert not web.log


@pytest.mark.long
def test_failures_and_what_made_way(shared: Project, look: CommandLine, web: Site) -> None:
    shared.scrape(*base(web, "--workers", "2", "-s", "http.timeout=0.5", "-s", "retry.attempts=1"))
    failed = expect(0, look("failures", "pages", "--json"))
    assert [json.loads(line)["reason"] for line in failed.out.splitlines()] == ["timeout"]
    assert "1 failure" in expect(0, look("failures", "pages")).err
    assert "0 items rejected" in expect(0, look("rejects", "pages")).err
    assert "finished" in expect(0, look("quality", "pages")).out
    retried = expect(2, look("failures", "pages", "--retry"))
    assert "cannot be taken up again" in retried.err
    web.holding = False
    shared.scrape(*base(web, "--fresh")).expect(0)
    shown = expect(0, look("status", "pages")).out
    assert "(--fresh)" in shown
    assert "scrape status pages --forget" in shown
    gone = expect(0, look("status", "pages", "--forget"))
    assert "1 earlier run removed" in gone.err
    assert "nothing to forget" in expect(0, look("status", "pages", "--forget")).err
    assert status(look)["pages"] == PAGES
    expect(2, look("status", "--forget"))


# The server -------------------------------------------------------------------------------------


def test_a_user_who_may_do_no_more_than_the_documentation_says(
    shared: Project,
    look: CommandLine,
    web: Site,
    redis_server: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (line,) = (
        line
        for block in blocks("conf", "docs/workers.md")
        for line in block.text.splitlines()
        if line.startswith("user scrape ")
    )
    _, name, *rules = line.split()
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", name, "reset", *rules)
    url = redis_server.url().replace("//", f"//{name}:PASSWORD@")
    shared.environ["SCRAPE_FRONTIER__URL"] = url
    monkeypatch.setenv("SCRAPE_FRONTIER__URL", url)
    web.holding = False
    assert ">PASSWORD" in rules
    expect(0, look("check"))
    shared.scrape(*base(web, "--workers", "2")).expect(0)
    shared.scrape(*base(web, "--fresh")).expect(0)
    for command in ("failures", "rejects", "quality", "status"):
        told = expect(0, look(command, "pages"))
        assert "PASSWORD" not in told.out + told.err
    assert "removed" in expect(0, look("status", "pages", "--forget")).err
    with redis_server.client() as client:
        client.execute_command("ACL", "DELUSER", name)
        denied = {entry["object"] for entry in client.acl_log()}
    # The client's name and version are told to servers that have room for them, or not.
    assert denied <= {"client|setinfo"}


def test_a_server_that_is_away(shared: Project, look: CommandLine, web: Site) -> None:
    shared.config('[frontier]\nurl = "redis://:c4nary@127.0.0.1:1/0"\n')
    for command, code in (("status", 0), ("check", 2), ("failures", 4), ("quality", 4)):
        spider = () if command == "check" else ("pages",)
        said = expect(code, look(command, *spider))
        assert "127.0.0.1:1" in said.err
        assert "c4nary" not in said.out + said.err
    assert json.loads(expect(0, look("status", "--json")).out) == []


def test_a_server_that_hangs(redis_binary: str, project: Project, look: CommandLine) -> None:
    project.spider(GRAPH_SPIDER)
    with Redis(redis_binary) as server:
        project.config(f'[frontier]\nurl = "{server.url()}"\n')
        server.pause()
        assert "has not answered for 3 s" in expect(0, look("status")).err
        server.go_on()
        assert "no jobs yet" in expect(0, look("status")).err


@pytest.mark.parametrize(("name", "code"), [("127.0.0.1", 0), ("redis.example.com", 2)])
def test_a_server_over_tls(
    redis_binary: str, project: Project, look: CommandLine, tmp_path: Path, name: str, code: int
) -> None:
    """Its certificate must be an authority's that is trusted, and for its name."""
    authority = trustme.CA()
    certificate = authority.issue_cert(name)
    ca, key, chain = (str(tmp_path / name) for name in ("ca", "key", "chain"))
    authority.cert_pem.write_to_path(ca)
    certificate.private_key_pem.write_to_path(key)
    certificate.cert_chain_pems[0].write_to_path(chain)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"rediss://127.0.0.1:{port}/0"
    files = {"tls_ca_cert_file": ca, "tls_key_file": key, "tls_cert_file": chain}
    project.spider(GRAPH_SPIDER)
    with Redis(redis_binary, tls_port=str(port), tls_auth_clients="no", **files):
        project.config(f'[frontier]\nurl = "{url}"\n')
        assert "certificate verify failed" in expect(2, look("check")).err
        project.config(f'[frontier]\nurl = "{url}?ssl_ca_certs={ca}"\n')
        expect(code, look("check"))


def test_what_check_says_of_a_server(
    redis_binary: str, project: Project, look: CommandLine
) -> None:
    project.spider(GRAPH_SPIDER)
    with Redis(redis_binary, appendonly="no", maxmemory_policy="volatile-lru") as server:
        project.config(f'[frontier]\nurl = "{server.url()}"\n')
        said = expect(0, look("check"))
        for warning in ("appendonly yes", "maxmemory …", "maxmemory-policy volatile-lru"):
            assert said.err.count(warning) == 1, said.err
        server.config(maxmemory_policy="allkeys-lru")
        assert "throws data away" in expect(2, look("check")).err
