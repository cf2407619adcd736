"""Every output, killed: nothing lost, nothing twice, and valid to whoever else reads it.

The short form kills one crawl at each named point; the long form (`make kill`) at random instants,
too, and at each point again and again.
"""

from __future__ import annotations

import random
import signal
from collections import Counter

import pytest

from scraper.testing.points import POINTS, VARIABLE
from tests.crawl.harness import Crawl, Project, tree
from tests.crawl.outputs import OUTPUTS, SPIDER, Output, expected
from tests.servers.graph import Graph
from tests.servers.web import Web

GRAPH = Graph(450)
LARGE = Graph(5000)

each_output = pytest.mark.parametrize("name", OUTPUTS)
OF_EACH_KIND = {"jsonl.zst", "json", "parts", "sqlite, by key", "four", "items"}
"""The others are alike: they have their turn in the long form."""


def prepare(project: Project, output: Output) -> None:
    project.spider(SPIDER)
    project.config("".join(f"\n[[pipelines]]\n{table}\n" for table in output.tables.split("\n\n")))


def start(project: Project, web: Web, output: Output, **environ: str) -> Crawl:
    both = str(output.both).lower()
    return project.start(
        "run", "pages", "-a", f"base={web.url}", "-a", f"both={both}", "--json", env=environ
    )


def complete(project: Project, web: Web, output: Output, graph: Graph) -> None:
    done = start(project, web, output).wait().expect(0)
    assert done.json["finished"] is True
    assert done.json["items"] == graph.pages * (1 + output.both)
    judge(project, output, graph)


def judge(project: Project, output: Output, graph: Graph) -> None:
    rows = output.read(project.root)
    numbers = Counter(row["n"] for row in rows)
    assert numbers == dict.fromkeys(range(graph.pages), 1)
    for row in rows:
        assert row == expected(row["n"], list(graph.links(row["n"])))
    unfinished = (".lock", ".partial", ".copy", ".base", ".making")
    left = [name for name in tree(project.root) if name.endswith(unfinished)]
    assert not left, "nothing unfinished stays behind"


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in OF_EACH_KIND else pytest.mark.long) for n in OUTPUTS]
)
def test_killed_at_each_point(project: Project, name: str) -> None:
    output = OUTPUTS[name]
    prepare(project, output)
    with Web(GRAPH) as web:
        for passage, point in enumerate(POINTS[1:], 1):
            passage = passage if point != "publish" else 1
            ended = start(project, web, output, **{VARIABLE: f"{point}:{passage}"}).wait()
            assert ended.code == -signal.SIGKILL, f"{point} never came: {ended.err[-2000:]}"
        complete(project, web, output, GRAPH)


@each_output
@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_long_random_kills(project: Project, name: str, seed: int) -> None:
    output, dice = OUTPUTS[name], random.Random(seed)
    prepare(project, output)
    with Web(LARGE) as web:
        for _ in range(10):
            run = start(project, web, output)
            web.after(dice.randint(1, 250), run.kill, dice.random() * 0.02)
            assert run.wait().code == -signal.SIGKILL
            web.forget_alarms()
        complete(project, web, output, LARGE)


@each_output
@pytest.mark.long
def test_long_named_points(project: Project, name: str) -> None:
    output = OUTPUTS[name]
    prepare(project, output)
    with Web(LARGE) as web:
        for point in POINTS[:-1]:
            for passage in (1, 3, 7):
                ended = start(project, web, output, **{VARIABLE: f"{point}:{passage}"}).wait()
                assert ended.code == -signal.SIGKILL, f"{point} never came: {ended.err[-2000:]}"
        for passage in (1, 2):
            ended = start(project, web, output, **{VARIABLE: f"publish:{passage}"}).wait()
            if ended.code == 0:
                break
        complete(project, web, output, LARGE)
