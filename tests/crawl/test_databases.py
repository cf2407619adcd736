"""Whole crawls into databases: a real PostgreSQL, killed, cut off and stopped; SQLite by `-o`."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scraper.testing.points import POINTS, VARIABLE
from tests.crawl.harness import Project, json_lines
from tests.crawl.outputs import OUTPUTS, Output, Rows
from tests.crawl.test_sinks import GRAPH, LARGE, complete, judge, prepare, start
from tests.servers.graph import Graph
from tests.servers.postgres import PASSWORD, Postgres
from tests.servers.web import Answer, Seen, Web, text

SQL = 'use = "sql"\nurl = "$SHOP_DATABASE"\npatience = 1.0'
KEYED = f'{SQL}\nkey = ["n"]'


@pytest.fixture
def database(postgres: Postgres, project: Project) -> Iterator[str]:
    """A database of its own, whose URL stands in the environment of the project's processes."""
    name = postgres.database()
    project.environ["SHOP_DATABASE"] = postgres.url(name)
    yield name
    postgres.release(name)


@pytest.fixture
def output(postgres: Postgres, database: str) -> Callable[[str], Output]:
    def read(root: Path) -> Rows:
        with postgres.connect(database) as reader:
            found: list[Any] = reader.execute(
                "SELECT n, title, links, price, even FROM page"
            ).fetchall()
            marks = reader.execute("SELECT records FROM _scrape_runs").fetchall()
        assert marks == [(len(found),)]
        return [
            {
                "n": n,
                "title": title,
                "links": links,
                "price": str(price) if price is not None else None,
                "even": even,
            }
            for n, title, links, price, even in found
        ]

    return lambda tables: Output(tables, read)


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(GRAPH) as web:
        yield web


@pytest.mark.parametrize(
    "tables",
    [pytest.param(SQL, id="rows"), pytest.param(KEYED, id="by key", marks=pytest.mark.long)],
)
def test_killed_at_each_point(
    project: Project, web: Web, output: Callable[[str], Output], tables: str
) -> None:
    made = output(tables)
    prepare(project, made)
    for passage, point in enumerate(POINTS[1:], 1):
        passage = passage if point != "publish" else 1
        ended = start(project, web, made, **{VARIABLE: f"{point}:{passage}"}).wait()
        assert ended.code == -signal.SIGKILL, f"{point} never came: {ended.err[-2000:]}"
    complete(project, web, made, GRAPH)


def test_killed_at_random_instants(
    project: Project, web: Web, output: Callable[[str], Output]
) -> None:
    made, dice = output(KEYED), random.Random(3)
    prepare(project, made)
    for _ in range(3):
        crawl = start(project, web, made)
        web.after(dice.randint(1, 120), crawl.kill, dice.random() * 0.02)
        assert crawl.wait().code == -signal.SIGKILL
        web.forget_alarms()
    complete(project, web, made, GRAPH)


def test_a_server_that_stops_in_mid_crawl(
    project: Project, web: Web, postgres: Postgres, output: Callable[[str], Output]
) -> None:
    """Exit 4, and nothing is lost: by the same command, once it is there again."""
    made = output(SQL)
    prepare(project, made)
    for at_once in (False, True):
        crawl = start(project, web, made)
        web.after(60, partial(postgres.stop, at_once=at_once))
        ended = crawl.wait().expect(4)
        web.forget_alarms()
        assert not postgres.running
        assert "postgresql://127.0.0.1" in ended.err
        assert "committed is safe" in ended.err
        assert PASSWORD not in ended.err + ended.out
        away = start(project, web, made).wait().expect(4)
        assert "refused" in away.err
        postgres.start()
    complete(project, web, made, GRAPH)


def test_two_databases_of_which_one_is_away(
    project: Project, web: Web, postgres: Postgres, output: Callable[[str], Output]
) -> None:
    """A group that came into the first and not into the second is not written twice."""
    first = OUTPUTS["sqlite"]
    made = output(f"{first.tables}\n\n{KEYED}")
    prepare(project, made)
    crawl = start(project, web, made)
    web.after(60, postgres.stop)
    crawl.wait().expect(4)
    web.forget_alarms()
    postgres.start()
    complete(project, web, made, GRAPH)
    judge(project, first, GRAPH)


def test_connections_that_are_cut_do_not_stop_a_crawl(
    project: Project, web: Web, postgres: Postgres, database: str, output: Callable[[str], Output]
) -> None:
    made = output(SQL)
    prepare(project, made)
    crawl = start(project, web, made)
    cut: list[int] = []
    for requests in (50, 150, 300):
        web.after(requests, lambda: cut.append(postgres.cut(database)))
    crawl.wait().expect(0)
    assert len(cut) == 3
    assert sum(cut) > 0
    judge(project, made, GRAPH)


def test_no_secret_is_anywhere(
    project: Project, web: Web, postgres: Postgres, database: str, output: Callable[[str], Output]
) -> None:
    """The password stands in the environment, and nowhere that a crawl writes."""
    made = output(SQL)
    prepare(project, made)
    done = start(project, web, made).wait().expect(0)
    shown = [done.out, done.err]
    for command in (["config", "pages"], ["status"], ["check"]):
        finished = project.scrape(*command)
        shown += [finished.out, finished.err]
    files = [path.read_bytes() for path in project.root.rglob("*") if path.is_file()]
    assert not [text for text in shown if PASSWORD in text]
    assert not [data for data in files if PASSWORD.encode() in data]
    assert f"postgresql://127.0.0.1:{postgres.port}/{database}" in done.err


def test_a_url_in_the_configuration_is_masked(
    project: Project, web: Web, postgres: Postgres
) -> None:
    name = postgres.database()
    url = f"{postgres.url(name)}?password={PASSWORD}&application_name=x"
    project.config(f'[[pipelines]]\nuse = "sql"\nurl = "{url}"\nkey = ["nothing"]\n')
    project.spider("""
        from scraper import Spider
        class Pages(Spider):
            name = "pages"
            base: str
            async def start(self):
                from scraper import Request
                yield Request(self.base + "/p/0")
            async def parse(self, response):
                yield {"n": 1, "nothing": [2]}
        """)
    for command in (["config", "pages"], ["config", "--json"], ["check"], ["status"]):
        finished = project.scrape(*command)
        assert PASSWORD not in finished.out + finished.err
    ended = project.scrape("run", "pages", "-a", f"base={web.url}", "--debug")
    assert PASSWORD not in ended.out + ended.err
    ledgers = [path.read_bytes() for path in project.root.rglob(".scrape/**/*") if path.is_file()]
    assert ledgers
    assert not [data for data in ledgers if PASSWORD.encode() in data]


def test_two_crawls_at_once_into_one_database(
    project: Project, web: Web, postgres: Postgres, database: str, output: Callable[[str], Output]
) -> None:
    prepare(project, output(f"{KEYED}\npatience = 30.0".replace("patience = 1.0\n", "")))
    crawls = [
        project.start("run", "pages", "-a", f"base={web.url}", "--job", job, "--json")
        for job in ("one", "two")
    ]
    for crawl in crawls:
        crawl.wait().expect(0)
    with postgres.connect(database) as reader:
        assert reader.execute("SELECT count(*) FROM page").fetchone() == (GRAPH.pages,)
        runs = reader.execute("SELECT records FROM _scrape_runs").fetchall()
    assert runs == [(GRAPH.pages,)] * 2


SHOP = """
    from scraper import Item, Request, Spider

    class Book(Item):
        n: int
        title: str

    class Pages(Spider):
        name = "pages"
        base: str

        async def start(self):
            yield Request(self.base + "/p/0")

        async def parse(self, response):
            n = int(response.url.rpartition("/")[2])
            for link in response.links():
                yield response.follow(link)
            yield Book(n=n if n else 2**70, title=response.css("h1").text)
"""


@pytest.mark.parametrize("ending", ["sqlite", "sqlite3", "db"])
def test_a_file_by_its_ending(project: Project, ending: str) -> None:
    project.spider(SHOP)
    file = f"out.{ending}"
    with Web(Graph(20)) as web:
        command = ("run", "pages", "-a", f"base={web.url}", "-o", file, "--job", "default")
        for run in (1, 2):
            done = project.scrape(*command).expect(0)
            assert f"{file} (19 records)" in done.err
            assert "schema 1" in done.err
            assert rows(project.path(file), "SELECT count(*) FROM book") == [(19 * run,)]
    (first, *_) = json_lines(project.path("out.pages.rejected.jsonl"))
    assert first["errors"][0]["message"].endswith("table book: n does not fit 64 bits")


def rows(path: Path, query: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


def test_starting_anew_leaves_the_rows_and_counts_by_itself(project: Project) -> None:
    project.spider(SHOP)
    with Web(GRAPH) as web:
        command = ("run", "pages", "-a", f"base={web.url}", "-o", "out.db", "--job", "x")
        killed = project.start(*command, env={VARIABLE: "apply:5"}).wait()
        assert killed.code == -signal.SIGKILL
        (before,) = rows(project.path("out.db"), "SELECT records FROM _scrape_runs")
        second = int(time.time())
        while int(time.time()) == second:  # a run is named by the second of its beginning
            pass
        project.scrape(*command, "--fresh").expect(0)
    marks = rows(project.path("out.db"), "SELECT records FROM _scrape_runs ORDER BY run")
    assert before in marks
    assert (GRAPH.pages - 1,) in marks
    total = sum(records for (records,) in marks)
    assert rows(project.path("out.db"), "SELECT count(*) FROM book") == [(total,)]


def test_a_failed_crawl_says_where_its_rows_are(project: Project) -> None:
    project.spider(SHOP)
    project.config('[[pipelines]]\nuse = "sqlite"\npath = "out.db"\nmode = "replace"\n')
    graph = Graph(20)

    def site(seen: Seen) -> Answer | Awaitable[Answer]:
        if seen.path.startswith("/p/") and int(seen.path[3:]) % 4:
            return text("gone", 410)
        return graph(seen)

    with Web(site) as web:
        ended = project.scrape("run", "pages", "-a", f"base={web.url}").expect(1)
    assert "out.db (" in ended.err
    assert ".partial" not in ended.err
    assert rows(project.path("out.db"), "SELECT count(*) > 0 FROM book") == [(1,)]


@pytest.mark.parametrize(
    ("made", "output", "error"),
    [
        ("title,price", "out.db", "is no SQLite file"),
        ("", "out.sqlite.gz", "cannot be compressed as a whole"),
        ("", "nowhere.sq", "this one is not known"),
    ],
)
def test_refused_before_the_first_request(
    project: Project, web: Web, made: str, output: str, error: str
) -> None:
    project.spider(SHOP)
    if made:
        project.path(output).write_text(made)
    ended = project.scrape("run", "pages", "-a", f"base={web.url}", "-o", output).expect(2)
    assert error in ended.err
    assert len(web.log) == 0


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_long_random_kills(project: Project, output: Callable[[str], Output], seed: int) -> None:
    made, dice = output((SQL, KEYED)[seed % 2]), random.Random(seed)
    prepare(project, made)
    with Web(LARGE) as web:
        for _ in range(10):
            run = start(project, web, made)
            web.after(dice.randint(1, 250), run.kill, dice.random() * 0.02)
            assert run.wait().code == -signal.SIGKILL
            web.forget_alarms()
        complete(project, web, made, LARGE)
