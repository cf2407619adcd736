"""Frontiers of other people under a whole crawl: one that forgets, and one that is durable."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scraper import crawl
from tests.crawl.harness import (
    GRAPH_SPIDER,
    PATIENCE,
    REPOSITORY,
    Crawl,
    Project,
    json_lines,
    judge,
)
from tests.crawl.test_running import Pages
from tests.distribution import distribution
from tests.servers.graph import Graph
from tests.servers.web import Web

GRAPH = Graph(600)
STORE = "frontier.url=elsewhere://store"


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(GRAPH) as web:
        yield web


@pytest.fixture
def pages(project: Project) -> Project:
    site = project.scratch / "site"
    entries = {
        "elsewhere": "tests.frontier.elsewhere:elsewhere",
        "forgetful": "forgetful:made",
    }
    source = """
    from scraper.frontier.memory import MemoryFrontier

    def made(url, job):
        return MemoryFrontier()
    """
    distribution(site, "forgetful", source, frontiers=entries)
    project.environ["PYTHONPATH"] = f"{REPOSITORY}{os.pathsep}{site}"
    project.spider(GRAPH_SPIDER)
    return project


def start(project: Project, web: Web, *more: str) -> Crawl:
    return project.start(
        "run", "pages", "-a", f"base={web.url}", "-o", "out-{started}.jsonl", "--json",
        "-s", STORE, "--job", "one", *more,
    )  # fmt: skip


def stopped(project: Project, web: Web, number: int, requests: int = 150) -> str:
    """Run until *requests* requests were made, and send the signal; what it said."""
    run = start(project, web)
    web.after(requests, lambda: run.signal(number))
    ended = run.wait()
    web.forget_alarms()
    assert ended.code == (-number if number == signal.SIGKILL else 128 + number)
    return ended.err


def output(project: Project) -> Path:
    (path,) = project.root.glob("out-*Z.jsonl")
    return path


def test_it_resumes_what_was_killed_and_what_was_stopped(pages: Project, web: Web) -> None:
    stopped(pages, web, signal.SIGKILL)
    assert "resuming the run of" in stopped(pages, web, signal.SIGKILL)
    assert "resuming the run of" in stopped(pages, web, signal.SIGINT)
    assert pages.path(".scrape/pages/one/store/store.db").is_file()
    assert not pages.path(".scrape/pages/one/ledger.sqlite").exists()
    done = start(pages, web).wait().expect(0)
    assert (done.json["items"], done.json["resumed"]) == (GRAPH.pages, True)
    judge(output(pages), web, GRAPH, kills=3)
    assert len(pages.path(".scrape/pages/one/history.jsonl").read_text().splitlines()) == 1


def test_what_is_finished_starts_anew(pages: Project, web: Web) -> None:
    for times in (1, 2):
        done = start(pages, web, "-s", "crawl.max_pages=0").wait().expect(0)
        assert (done.json["pages"], done.json["resumed"]) == (GRAPH.pages, False)
        assert web.counts()["/p/5"] == times


def test_fresh_sets_aside_what_is_unfinished(pages: Project, web: Web) -> None:
    stopped(pages, web, signal.SIGINT)
    (partial,) = pages.root.glob("out-*Z.jsonl.partial")
    kept = partial.read_bytes()
    done = start(pages, web, "--fresh").wait().expect(0)
    assert "starting anew; the old state is kept by the frontier" in done.err
    assert done.json["resumed"] is False
    assert pages.path(".scrape/pages/one/store/aside-0/store.db").is_file()
    assert kept in [path.read_bytes() for path in pages.root.glob("out-*") if path.is_file()]
    judge(output(pages), web, GRAPH, kills=2)


def test_another_run_of_the_job_is_refused_and_other_outputs_too(pages: Project, web: Web) -> None:
    stopped(pages, web, signal.SIGINT)
    said = pages.scrape(
        "run", "pages", "-a", f"base={web.url}", "-o", "b.jsonl", "-s", STORE, "--job", "one"
    ).expect(2)
    assert "this job was created with outputs" in said.err
    held = start(pages, web)
    waiting = threading.Event()

    def hold() -> None:
        held.signal(signal.SIGSTOP)
        waiting.set()

    web.after(50, hold)
    assert waiting.wait(PATIENCE)
    try:
        said = start(pages, web).wait().expect(2)
        assert "job one of spider pages is running already" in said.err
    finally:
        held.kill()
        held.wait()


def test_dedupe_across_runs_remembers_there_too(pages: Project, web: Web) -> None:
    pages.config(
        """
        [[pipelines]]
        use = "dedupe"
        key = ["n"]
        across = "runs"
        """
    )
    delivered = []
    for more in ((), (), ("--fresh",)):
        done = start(pages, web, *more).wait().expect(0)
        delivered.append(done.json["items"])
    assert delivered == [GRAPH.pages, 0, 0]


def test_its_jobs_are_not_looked_at(pages: Project, web: Web) -> None:
    stopped(pages, web, signal.SIGINT)
    assert "There are no jobs yet" in pages.scrape("status").expect(0).err
    assert "has no job here" in pages.scrape("failures", "pages").expect(2).err


def test_one_that_forgets_leaves_nothing(pages: Project, web: Web) -> None:
    command = (
        "run", "pages", "-a", f"base={web.url}", "-o", "out.jsonl", "--json",
        "-s", "frontier.url=forgetful://x",
    )  # fmt: skip
    done = pages.scrape(*command).expect(0)
    assert (done.json["pages"], done.json["job"]) == (GRAPH.pages, None)
    assert len(json_lines(pages.path("out.jsonl"))) == GRAPH.pages
    assert not pages.path(".scrape").exists()
    run = pages.start(*command)
    web.after(50, lambda: run.signal(signal.SIGINT))
    assert run.wait().code == 130
    assert not pages.path(".scrape").exists()
    assert not pages.path("out.jsonl.partial").exists(), "nobody can resume it: it is set aside"


async def test_from_python_a_job_is_kept_there(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    entries = {"elsewhere": "tests.frontier.elsewhere:elsewhere"}
    distribution(site, "elsewhere", frontiers=entries)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.chdir(tmp_path)
    settings = {"frontier.url": "elsewhere://store"}
    first = await crawl(Pages, base=web.url, job="one", settings=settings, limit=20)
    assert (first.items, first.job, first.resumed) == (20, "one", False)
    assert (tmp_path / ".scrape/pages/one/store/store.db").is_file()
    result = await crawl(Pages, base=web.url, settings=settings)
    assert (result.pages, result.job) == (GRAPH.pages, None), "no job: in memory"
