"""Deduplication in whole crawls: each key once, whatever is killed, and in later runs too."""

from __future__ import annotations

import random
import signal
from collections import Counter

import pytest

from scraper.testing.points import POINTS, VARIABLE
from tests.crawl.harness import Project, json_lines
from tests.servers.graph import Graph
from tests.servers.web import Answer, Seen, Web, text

PAGES, KEYS = 900, 250
GRAPH = Graph(PAGES)

SPIDER = f"""
from scraper import Output, Request, Response, Spider

class Pages(Spider):
    name = "pages"
    base: str
    first: int = 0

    async def start(self):
        yield Request(self.base + "/p/0")

    async def parse(self, response: Response) -> Output:
        n = int(response.url.rpartition("/")[2])
        for link in response.links():
            yield response.follow(link)
        yield {{"key": n % {KEYS}, "n": n}}
        yield {{"key": (n + 1) % {KEYS}, "n": n}}
"""

CHAIN = """
[[pipelines]]
use = "dedupe"
key = ["key"]
across = "{across}"
[[pipelines]]
use = "jsonl"
path = "out.jsonl"
"""


def prepare(project: Project, across: str = "run") -> None:
    project.spider(SPIDER)
    project.config(CHAIN.format(across=across))


def keys(project: Project) -> Counter[int]:
    return Counter(record["key"] for record in json_lines(project.path("out.jsonl")))


def test_each_key_once_over_kills(project: Project) -> None:
    prepare(project)
    dice = random.Random(11)
    with Web(GRAPH) as web:
        command = ("run", "pages", "-a", f"base={web.url}", "--json")
        for count, point in enumerate(POINTS[:-1], 1):
            ended = project.start(*command, env={VARIABLE: f"{point}:{count}"}).wait()
            assert ended.code == -signal.SIGKILL, ended.err[-2000:]
        for _ in range(3):
            run = project.start(*command)
            web.after(dice.randint(1, 150), run.kill, dice.random() * 0.02)
            assert run.wait().code == -signal.SIGKILL
            web.forget_alarms()
        done = project.scrape(*command).expect(0)
    assert keys(project) == dict.fromkeys(range(KEYS), 1)
    assert done.json["items"] == KEYS
    assert done.json["drops"] == {"duplicate": 2 * PAGES - KEYS}


def test_later_runs_deliver_what_is_new(project: Project) -> None:
    prepare(project, "runs")
    with Web(Graph(60)) as web:
        command = ("run", "pages", "--job", "daily", "-a", f"base={web.url}", "--json")
        assert project.scrape(*command).expect(0).json["items"] == 61
        assert project.scrape(*command).expect(0).json["items"] == 0
        assert keys(project) == {}, "replaced by what the second run found: nothing"
        web.site = Graph(80)
        assert project.scrape(*command).expect(0).json["items"] == 20
        assert sorted(keys(project)) == list(range(61, 81))
        assert project.scrape(*command).expect(0).json["items"] == 0


def test_a_run_that_failed_leaves_no_keys(project: Project) -> None:
    prepare(project, "runs")
    graph = Graph(60)

    def broken(seen: Seen) -> Answer:
        return text("gone", 404) if seen.path > "/p/1" else graph(seen)

    with Web(Graph(10)) as web:
        command = ("run", "pages", "--job", "daily", "-a", f"base={web.url}", "--json")
        assert project.scrape(*command).expect(0).json["items"] == 11
        web.site = broken
        failed = project.scrape(*command).expect(1)
        assert failed.json["items"] + failed.json["dropped"] > 0
        web.site = graph
        assert project.scrape(*command).expect(0).json["items"] == 61 - 11


@pytest.mark.parametrize("point", ["commit-before:1", "commit-after:1"])
def test_killed_at_its_birth_a_run_still_inherits(project: Project, point: str) -> None:
    prepare(project, "runs")
    with Web(Graph(60)) as web:
        command = ("run", "pages", "--job", "daily", "-a", f"base={web.url}", "--json")
        project.scrape(*command).expect(0)
        ended = project.start(*command, env={VARIABLE: point}).wait()
        assert ended.code == -signal.SIGKILL
        assert project.scrape(*command).expect(0).json["items"] == 0
        assert project.scrape(*command, "--fresh").expect(0).json["items"] == 0


def test_without_a_job_later_runs_cannot_know(project: Project) -> None:
    prepare(project, "runs")
    with Web(Graph(5)) as web:
        ended = project.scrape("run", "pages", "-a", f"base={web.url}", "-s", "frontier.url=memory")
        assert "needs a job" in ended.expect(2).err
        assert not web.log
