"""Every output of a crawl that workers share, on a real Redis; workers and leaders are killed.

The short form kills workers of one crawl per kind of output; `make kill` does so for each output.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.crawl import test_files as pictures
from tests.crawl import test_sinks as sinks
from tests.crawl.harness import LOCAL, Crawl, Finished, Project, json_lines
from tests.crawl.outputs import OUTPUTS
from tests.servers.graph import Graph
from tests.servers.redis import Redis
from tests.servers.web import Web

WORKERS = 2


def start(project: Project, web: Web, redis: Redis, *more: str) -> Crawl:
    frontier = ("-s", f"frontier.url={redis.url()}", "-s", "frontier.lease=3")
    return project.start("run", "pages", "-a", f"base={web.url}", "--json", *frontier, *more)


def past(requests: int, web: Web) -> bool:
    return web.number() >= requests


def kill_some(
    project: Project, web: Web, redis: Redis, goals: Sequence[int], *more: str
) -> Finished:
    """Workers, of which one is killed at each of so many requests, and another takes its place."""
    dice = random.Random(len(goals))
    more = (*more, "--since", str(time.time()))  # who comes late begins no crawl of its own
    crew = [start(project, web, redis, *more) for _ in range(WORKERS)]
    for goal in goals:
        web.wait(partial(past, goal))
        victim = dice.choice(crew)
        victim.kill()
        assert victim.wait().code < 0, "it was over before"
        crew[crew.index(victim)] = start(project, web, redis, *more)
    first, *_ = [worker.wait().expect(0) for worker in crew]
    return first


def share(project: Project, web: Web, redis: Redis, name: str, kills: Sequence[int]) -> None:
    output, graph = OUTPUTS[name], sinks.GRAPH
    sinks.prepare(project, output)
    both = "-a", f"both={str(output.both).lower()}"
    done = kill_some(project, web, redis, kills, *both)
    assert done.json["items"] == graph.pages * (1 + output.both)
    sinks.judge(project, output, graph)


def test_all_at_once(project: Project, redis: Redis) -> None:
    """JSON Lines, CSV, SQLite and Parquet hold the same, in the same order."""
    with Web(sinks.GRAPH) as web:
        share(project, web, redis, "four", kills=[60, 200])


@pytest.mark.long
@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("seed", range(2))
def test_each_of_them(project: Project, redis: Redis, name: str, seed: int) -> None:
    dice = random.Random(seed)
    with Web(sinks.GRAPH) as web:
        share(project, web, redis, name, sorted(dice.sample(range(20, 400), 5)))


def test_files(project: Project, redis: Redis) -> None:
    """What dead workers brought is delivered, if their pages were committed; no more is left."""
    graph = Graph(120)
    pictures.prepare(project)
    with Web(pictures.Shop(graph), pictures.HOSTS) as web:
        done = kill_some(project, web, redis, [100])
    assert done.json["items"] == graph.pages
    rows = json_lines(project.path("out.jsonl"))
    assert Counter(row["n"] for row in rows) == dict.fromkeys(range(graph.pages), 1)
    stored = pictures.stored(project)
    found = [file for row in rows for file in row["files"] if file["path"] is not None]
    assert stored.keys() == {file["path"] for file in found}
    for file in found:
        assert stored[file["path"]] == pictures.picture(int(file["url"].rpartition("/")[2]))
    told = next(output for output in done.json["outputs"] if output["kind"] == "files")
    pointers, absent = pictures.counted(graph)
    assert (told["records"], told["lost"]) == (pointers, {"http_404": absent})


@pytest.mark.long
def test_files_that_not_all_workers_see(project: Project, redis: Redis, tmp_path: Path) -> None:
    """Another machine has a directory of that name, too; it is no worker of that crawl."""
    graph = Graph(200)
    elsewhere = Project(tmp_path / "elsewhere", project.scratch)
    elsewhere.runs = 100
    for each in (project, elsewhere):
        pictures.prepare(each)
    with Web(pictures.Shop(graph), pictures.HOSTS) as web:
        first = start(project, web, redis)
        web.wait(lambda w: w.number() > 30)
        first.kill()
        assert first.wait().code < 0
        refused = start(elsewhere, web, redis).wait().expect(2)
        assert "data/files is another directory here" in refused.err
        assert "share that directory" in refused.err
        done = start(project, web, redis).wait().expect(0)
    assert done.json["items"] == graph.pages
    assert not elsewhere.path("out.jsonl").exists()


COLUMNS = """
from scraper import Output, Request, Response, Spider

class Pages(Spider):
    name = "pages"
    base: str

    async def start(self):
        yield Request(self.base + "/p/0")

    async def parse(self, response: Response) -> Output:
        n = int(response.url.rpartition("/")[2])
        for link in response.links():
            yield response.follow(link)
        yield {"n": n, "title": "x"} if n % 2 else {"title": "x", "n": n}
        if n % 10 == 3:
            yield {"n": n, "other": 1}
"""


@pytest.mark.long
def test_columns_are_those_of_the_first_item_that_was_written(
    project: Project, redis: Redis
) -> None:
    graph = Graph(150)
    project.spider(COLUMNS)
    project.config('[[pipelines]]\nuse = "csv"\npath = "out.csv"\n', local=LOCAL)
    with Web(graph) as web:
        done = kill_some(project, web, redis, [40])
    assert (done.json["items"], done.json["rejected"]) == (graph.pages, 15)
    header, *rows = project.path("out.csv").read_text().splitlines()
    place = header.split(",").index("n")
    assert sorted(header.split(",")) == ["n", "title"]
    assert sorted(int(row.split(",")[place]) for row in rows) == list(range(graph.pages))
    rejects = json_lines(project.path("out.rejected.jsonl"))
    assert {reject["reason"] for reject in rejects} == {"schema"}
    assert sorted(int(reject["values"]["n"]) for reject in rejects) == list(range(3, 150, 10))
