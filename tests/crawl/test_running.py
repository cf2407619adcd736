"""The ways to run a crawl: command line and Python, once and again, stopped and resumed."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from scraper import Request, Response, Spider, crawl, run, stream
from tests.crawl.harness import GRAPH_SPIDER, Project, json_lines
from tests.servers.graph import Graph
from tests.servers.web import SILENT, Answer, Seen, Web, html, text

GRAPH = Graph(120)
LIFTED = {"politeness": {"hosts": {"127.*": {"delay": 0, "per_host": 64, "adaptive": False}}}}


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(GRAPH) as web:
        yield web


@pytest.fixture
def pages(project: Project) -> Project:
    project.spider(GRAPH_SPIDER)
    return project


class Pages(Spider):
    name = "pages"
    base: str
    settings = LIFTED

    async def start(self):  # type: ignore[no-untyped-def]
        yield Request(self.base + "/p/0")

    async def parse(self, response: Response):  # type: ignore[no-untyped-def]
        for link in response.links():
            yield response.follow(link)
        yield {"n": int(response.url.rpartition("/")[2])}


# -- from Python -----------------------------------------------------------------------------


def test_run_twice_in_one_process(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for times in (1, 2):
        result = run(Pages, base=web.url, output="out.jsonl")
        assert (result.pages, result.items, result.finished) == (120, 120, True)
        numbers = [record["n"] for record in json_lines(tmp_path / "out.jsonl")]
        assert sorted(numbers) == list(range(120))
        assert web.counts()["/p/5"] == times
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"], "no state is left"


async def test_run_inside_a_running_loop(web: Web) -> None:
    result = run(Pages, base=web.url)
    assert (result.pages, result.finished, result.exit_code) == (120, True, 0)


async def test_crawls_side_by_side_in_one_loop(web: Web) -> None:
    first, second = await asyncio.gather(crawl(Pages, base=web.url), crawl(Pages, base=web.url))
    assert first.items == second.items == 120
    assert {web.counts()[f"/p/{n}"] for n in range(120)} == {2}


async def test_stream_yields_every_item(web: Web) -> None:
    numbers = [item["n"] async for item in stream(Pages, base=web.url)]
    assert sorted(numbers) == list(range(120))


async def test_breaking_out_of_a_stream_stops_the_crawl(web: Web) -> None:
    tasks = asyncio.all_tasks()
    taken = []
    async for item in stream(Pages, base=web.url):
        taken.append(item)
        if len(taken) == 3:
            break
    while asyncio.all_tasks() - tasks:  # the generator is closed by the loop, soon after
        await asyncio.sleep(0)
    count = len(web.log)
    assert len(taken) == 3
    again = [item async for item in stream(Pages, base=web.url)]
    assert len(again) == 120
    # Of the first crawl, only what was on the wire already may still have arrived.
    assert count + 121 <= len(web.log) <= count + 121 + 32


# -- from the command line -------------------------------------------------------------------


def base(web: Web) -> tuple[str, ...]:
    return ("run", "pages", "-a", f"base={web.url}")


def test_json_is_the_last_line_and_says_it_all(pages: Project, web: Web) -> None:
    done = pages.scrape(*base(web), "-o", "out.jsonl", "--json").expect(0)
    summary = done.json
    assert len(done.out.splitlines()) == 1
    expected = {
        "pages": 120, "items": 120, "failed": 0, "dropped": 0, "rejected": 0,
        "reasons": {}, "resumed": False, "finished": True,
    }  # fmt: skip
    assert {key: summary[key] for key in expected} == expected
    assert summary["duration_s"] > 0
    outputs = {Path(o["path"]).resolve(): o["records"] for o in summary["outputs"]}
    assert outputs[pages.path("out.jsonl").resolve()] == 120


def test_items_on_stdout(pages: Project, web: Web) -> None:
    before = {p.name for p in pages.root.iterdir()}
    done = pages.scrape(*base(web), "-o", "-").expect(0)
    numbers = sorted(json.loads(line)["n"] for line in done.out.splitlines())
    assert numbers == list(range(120))
    assert {p.name for p in pages.root.iterdir()} - before <= {".scrape"}


def test_items_on_stdout_and_the_summary_after_them(pages: Project, web: Web) -> None:
    done = pages.scrape(*base(web), "-o", "-", "--json").expect(0)
    assert len(done.out.splitlines()) == 121
    assert done.json["items"] == 120


@pytest.mark.parametrize("limit", [1, 7, 100, 500])
def test_limit_is_exact(pages: Project, web: Web, limit: int) -> None:
    done = pages.scrape(*base(web), "-o", "out.jsonl", "--json", "--limit", str(limit)).expect(0)
    records = json_lines(pages.path("out.jsonl"))
    assert len(records) == done.json["items"] == min(limit, 120)
    assert len({r["n"] for r in records}) == len(records)


def test_limits_are_the_crawls_not_the_processs(project: Project) -> None:
    project.spider(GRAPH_SPIDER)
    with Web(Graph(3000)) as web:
        command = (*base(web), "-o", "out.jsonl", "--json", "--limit", "700")
        run_ = project.start(*command)
        web.after(450, run_.kill)
        assert run_.wait().code == -signal.SIGKILL
        done = project.scrape(*command).expect(0)
        assert done.json["resumed"] is True
        records = json_lines(project.path("out.jsonl"))
        assert len({r["n"] for r in records}) == len(records) == done.json["items"] == 700


def test_a_page_limit(pages: Project, web: Web) -> None:
    command = (*base(web), "-o", "out.jsonl", "--json", "-s", "crawl.max_pages=40")
    done = pages.scrape(*command).expect(0)
    assert 40 <= done.json["pages"] <= 40 + 32  # what was in flight when it was reached
    assert len(json_lines(pages.path("out.jsonl"))) == done.json["items"]


def test_resuming_announces_itself_and_fresh_starts_over(pages: Project) -> None:
    with Web(Graph(600)) as web:
        command = (*base(web), "-o", "out.jsonl", "--json")
        first = pages.start(*command)
        web.after(300, first.kill)
        assert first.wait().code == -signal.SIGKILL
        status = pages.scrape("status").expect(0)
        assert "pages" in status.out
        resumed = pages.start(*command)
        web.after(100, resumed.kill)
        ended = resumed.wait()
        assert ended.code == -signal.SIGKILL
        assert "resum" in ended.err.lower()
        before = web.counts()
        anew = pages.scrape(*command, "--fresh").expect(0)
        assert anew.json["resumed"] is False
        assert anew.json["pages"] == 600
        after = web.counts() - before
        assert {after[f"/p/{n}"] for n in range(600)} == {1}
        kept = [p for p in pages.root.rglob("*") if ".partial" in p.name]
        assert kept, "--fresh sets the old output aside, it does not delete it"


def test_jobs_are_kept_apart(pages: Project) -> None:
    with Web(Graph(400)) as web:
        for name in ("one", "two"):
            run_ = pages.start(*base(web), "-o", f"{name}.jsonl", "--job", name)
            web.after(200, run_.kill)
            assert run_.wait().code == -signal.SIGKILL
        for name in ("two", "one"):
            done = pages.scrape(*base(web), "-o", f"{name}.jsonl", "--job", name, "--json")
            assert done.expect(0).json["resumed"] is True
            assert Counter(r["n"] for r in json_lines(pages.path(f"{name}.jsonl"))) == Counter(
                range(400)
            )


def test_other_arguments_are_another_job(pages: Project, web: Web) -> None:
    run_ = pages.start(*base(web), "-o", "out.jsonl")
    web.after(60, run_.kill)
    run_.wait()
    with Web(GRAPH) as other:
        done = pages.scrape(*base(other), "-o", "other.jsonl", "--json").expect(0)
        assert done.json["resumed"] is False


@pytest.mark.case(
    83,
    "a second run on a job that is running",
    "exit 2, nothing is fetched; the first is not disturbed",
)
def test_a_second_run_on_a_running_job_is_refused(pages: Project) -> None:
    """... and does it no harm."""
    held = Graph(50)

    def site(seen: Seen) -> Answer:
        return SILENT if seen.path == "/p/49" and server.counts()["/p/49"] == 1 else held(seen)

    pages.config("[http]\ntimeout = 60\n")
    with Web(site) as server:
        command = (*base(server), "-o", "out.jsonl", "--json")
        first = pages.start(*command)
        server.wait(lambda web: len([s for s in list(web.log) if s.ended is not None]) == 50)
        requests = len(server.log)  # robots.txt and 49 pages are through, one hangs
        second = pages.scrape(*command).expect(2)
        assert "running" in second.err or "runs" in second.err, second.err
        assert len(server.log) == requests
        first.twice(signal.SIGINT)
        assert first.wait().code == 130
        done = pages.scrape(*command).expect(0)
        assert done.json["pages"] == 50
        assert Counter(r["n"] for r in json_lines(pages.path("out.jsonl"))) == Counter(range(50))


@pytest.mark.case(
    86, "SIGINT again when the crawl has stopped", "the summary and exit 130, as without it"
)
def test_signals_that_come_when_the_crawl_has_stopped(pages: Project) -> None:
    """Someone who holds Ctrl-C down sees the summary and its exit code, no death by a signal."""

    def site(seen: Seen) -> Answer:
        return SILENT if seen.path == "/p/49" else Graph(50)(seen)

    pages.config("[http]\ntimeout = 60\n")
    with Web(site) as server:
        run = pages.start(*base(server), "-o", "out.jsonl")
        server.wait(lambda web: web.counts()["/p/49"] == 1)
        run.twice(signal.SIGINT)
        while run.process.poll() is None:
            if "stopped ·" in run.err.read_text():
                run.signal(signal.SIGINT)
        assert "the same command again" in run.wait().expect(130).err


def test_too_many_failures_are_no_success(project: Project) -> None:
    project.spider(GRAPH_SPIDER)

    def site(seen: Seen) -> Answer:
        if seen.path == "/robots.txt":
            return text("", 404)
        if seen.path == "/p/0":
            return html("".join(f'<a href="/p/{n}">x</a>' for n in range(1, 10)))
        return text("gone", 404)

    with Web(site) as web:
        done = project.scrape(*base(web), "-o", "out.jsonl", "--json")
        assert done.code == 1
        assert done.json["reasons"] == {"http_404": 9}
        assert done.json["failed"] == 9
        assert not project.path("out.jsonl").exists(), "not to be trusted, so not published"
        kept = [p for p in project.root.iterdir() if p.name.startswith("out.jsonl")]
        assert kept, "but kept aside"


@pytest.mark.case(
    93, "`| head -1` behind `scrape run -o -`", "the crawl ends there, without a traceback"
)
def test_head_on_the_other_end_of_the_pipe_is_no_error(pages: Project) -> None:
    import subprocess
    import sys

    from tests.crawl.harness import REPOSITORY

    with Web(Graph(2000)) as web:
        process = subprocess.Popen(
            [sys.executable, "-c", "from scraper.cli import main; main()", *base(web), "-o", "-"],
            cwd=pages.root,
            env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        pages.started.append(process)
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["n"] == 0
        process.stdout.close()
        err = process.stderr.read().decode()
        process.stderr.close()
        process.wait(60)
        assert "Traceback" not in err
        assert len(web.log) < 2000
