"""Kill it anywhere: the output is the graph, once.

The short form runs with the ordinary tests; the long form is `make kill` (`pytest -m long`).
Instants are drawn from a seed: *after so many requests* of that process, plus a drawn part of a
second, so that they fall between requests too (into commits, writes and the scheduler).
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from scraper.testing.points import POINTS, VARIABLE
from tests.crawl.harness import GRAPH_SPIDER, Crawl, Finished, Project, json_lines, judge
from tests.servers.graph import Graph
from tests.servers.web import Web

GRAPH = Graph(3000)
LARGE = Graph(10_000)
"""For the long form: no crawl of it is over before its kills are."""


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(GRAPH) as web:
        yield web


@pytest.fixture
def large() -> Iterator[Web]:
    with Web(LARGE) as web:
        yield web


@pytest.fixture
def pages(project: Project) -> Project:
    project.spider(GRAPH_SPIDER)
    return project


def start(project: Project, web: Web, **environ: str) -> Crawl:
    return project.start(
        "run", "pages", "-a", f"base={web.url}", "-o", "out.jsonl", "--json", env=environ
    )


def complete(project: Project, web: Web, graph: Graph = GRAPH) -> Finished:
    """Let it run to its end, and hear the whole crawl's figures."""
    done = start(project, web).wait().expect(0)
    assert done.json["finished"] is True
    assert done.json["pages"] == graph.pages
    assert done.json["items"] == graph.pages
    assert done.json["failed"] == 0
    assert not project.path("out.jsonl.partial").exists()
    return done


def interrupt(
    project: Project, web: Web, requests: int, delay: float, signals: tuple[int, ...]
) -> Finished:
    """Start, and send *signals* once this process has made *requests* requests."""
    web.forget_alarms()
    crawl = start(project, web)
    first, *more = signals
    web.after(requests, lambda: crawl.signal(first), delay)
    for number in more:
        crawl.again(number)
    ended = crawl.wait()
    web.forget_alarms()
    return ended


def random_kills(project: Project, web: Web, *, seed: int, kills: int, most: int) -> None:
    """Kill *kills* processes at drawn instants, each within its first *most* requests."""
    dice = random.Random(seed)
    done = 0
    while done < kills:
        ended = interrupt(
            project, web, dice.randint(1, most), dice.random() * 0.05, (signal.SIGKILL,)
        )
        assert ended.code == -signal.SIGKILL, f"the crawl was over after {done} kills"
        assert not project.path("out.jsonl").exists(), "published before it was complete"
        done += 1


@pytest.mark.case(
    84,
    "`kill -9` at random instants, six times",
    "run again, the output is exactly the crawl: no item lost, none twice",
)
def test_kill_at_random_instants(pages: Project, web: Web) -> None:
    random_kills(pages, web, seed=7, kills=6, most=300)
    done = complete(pages, web)
    assert done.json["resumed"] is True
    judge(pages.path("out.jsonl"), web, GRAPH, kills=6)


@pytest.mark.case(
    84,
    "`kill -9` at each step of a commit and of publishing",
    "run again, the output is exactly the crawl; what was published is not fetched again",
)
def test_kill_at_each_named_point(pages: Project, web: Web) -> None:
    for n, point in enumerate(POINTS[:-1]):
        ended = start(pages, web, **{VARIABLE: f"{point}:{n + 2}"}).wait()
        assert ended.code == -signal.SIGKILL, f"{point} was never reached: {ended.err[-2000:]}"
    publishing = start(pages, web, **{VARIABLE: "publish:1"}).wait()
    assert publishing.code == -signal.SIGKILL, publishing.err[-2000:]
    before = len(web.log)
    complete(pages, web)
    assert len(web.log) == before, "publishing was killed; nothing had to be fetched again"
    judge(pages.path("out.jsonl"), web, GRAPH, kills=len(POINTS))


@pytest.mark.case(
    85, "SIGTERM", "exit 143: what is in flight is finished; run again, it goes on, nothing is lost"
)
@pytest.mark.case(
    86, "SIGINT twice", "exit 130, at once; run again, it goes on: no item lost, none twice"
)
def test_signals_stop_a_crawl_that_can_go_on(pages: Project, web: Web) -> None:
    stopped = interrupt(pages, web, 400, 0, (signal.SIGTERM,)).expect(143)
    assert stopped.json["finished"] is False
    at_once = interrupt(pages, web, 200, 0, (signal.SIGINT, signal.SIGINT)).expect(130)
    assert "resume" in at_once.err
    gently = interrupt(pages, web, 200, 0, (signal.SIGINT,)).expect(130)
    assert gently.json["resumed"] is True
    complete(pages, web)
    # what is stopped gently is drained: only the double SIGINT may cost something
    judge(pages.path("out.jsonl"), web, GRAPH, kills=1)


def test_a_finished_job_starts_anew(pages: Project) -> None:
    small = Graph(20)
    with Web(small) as web:
        for _ in range(2):
            done = start(pages, web).wait().expect(0)
            assert (done.json["resumed"], done.json["pages"]) == (False, 20)
        assert Counter(web.counts())["/p/7"] == 2
        assert len(json_lines(pages.path("out.jsonl"))) == 20


# -- the long form ---------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_long_random_kills(pages: Project, large: Web, seed: int) -> None:
    """5 x 12 = 60 kills at random instants."""
    random_kills(pages, large, seed=1000 + seed, kills=12, most=250)
    complete(pages, large, LARGE)
    judge(pages.path("out.jsonl"), large, LARGE, kills=12)


@pytest.mark.long
@pytest.mark.parametrize("point", POINTS[:-1])
def test_long_named_points(pages: Project, large: Web, point: str) -> None:
    """Each point at several passages of one crawl."""
    kills = 0
    for count in (1, 2, 3, 5, 8, 13):
        ended = start(pages, large, **{VARIABLE: f"{point}:{count}"}).wait()
        if ended.code == 0:
            break  # so many passages that the crawl was over before
        assert ended.code == -signal.SIGKILL
        kills += 1
    assert kills >= 4
    if not pages.path("out.jsonl").exists():
        complete(pages, large, LARGE)
    judge(pages.path("out.jsonl"), large, LARGE, kills=kills)


@pytest.mark.long
@pytest.mark.parametrize("count", [1, 2])
def test_long_publishing(pages: Project, large: Web, count: int) -> None:
    """Killed again and again while it publishes: rolled forward, nothing fetched."""
    kills = 0
    ended = start(pages, large, **{VARIABLE: f"publish:{count}"}).wait()
    before = len(large.log)
    while ended.code == -signal.SIGKILL and kills < 3:
        kills += 1
        ended = start(pages, large, **{VARIABLE: f"publish:{count}"}).wait()
    if ended.code != 0:
        complete(pages, large, LARGE)
    assert kills >= 1
    assert len(large.log) == before
    judge(pages.path("out.jsonl"), large, LARGE, kills=0)


@pytest.mark.long
@pytest.mark.parametrize(
    ("signals", "code"),
    [((signal.SIGTERM,), 143), ((signal.SIGINT, signal.SIGINT), 130)],
    ids=["sigterm", "double-sigint"],
)
def test_long_signals(
    pages: Project, large: Web, signals: tuple[signal.Signals, ...], code: int
) -> None:
    """Ten of each in one crawl; SIGTERM drains, so that nothing is fetched again."""
    dice = random.Random(code)
    for _ in range(10):
        ended = interrupt(pages, large, dice.randint(1, 250), dice.random() * 0.05, signals)
        ended.expect(code)
    complete(pages, large, LARGE)
    judge(pages.path("out.jsonl"), large, LARGE, kills=0 if code == 143 else 10)
