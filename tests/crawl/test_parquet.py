"""Parquet in whole crawls: killed while the file is made, out of room, refused, of any item."""

from __future__ import annotations

import random
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crawl.harness import Crawl, Project, json_lines, tree
from tests.crawl.outputs import parquet_rows
from tests.servers.graph import Graph
from tests.servers.web import Web

PAGES, PER_PAGE = 60, 500

SPIDER = f"""
import hashlib
from scraper import Item, Output, Request, Response, Spider

class Row(Item):
    n: int
    digest: str
    length: int

class Pages(Spider):
    name = "pages"
    base: str

    async def start(self):
        yield Request(self.base + "/p/0")

    async def parse(self, response: Response) -> Output:
        for link in response.links():
            yield response.follow(link)
        page = int(response.url.rpartition("/")[2])
        for n in range(page * {PER_PAGE}, (page + 1) * {PER_PAGE}):
            digest = hashlib.sha512(str(n).encode()).hexdigest()
            yield Row(n=n, digest=digest, length=len(digest))
"""


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(Graph(PAGES)) as web:
        yield web


@pytest.fixture
def rows(project: Project) -> Project:
    project.spider(SPIDER)
    return project


def start(project: Project, web: Web, *more: str) -> Crawl:
    return project.start("run", "pages", "-a", f"base={web.url}", "--json", *more)


def judge(paths: list[Path]) -> None:
    found = [row for path in paths for row in parquet_rows(path)]
    assert sorted(row["n"] for row in found) == list(range(PAGES * PER_PAGE))
    assert {row["length"] for row in found} == {128}


def nothing_left(project: Project) -> None:
    unfinished = (".lock", ".partial", ".base", ".making")
    assert not [name for name in tree(project.root) if name.endswith(unfinished)]


def test_killed_while_the_file_is_made(rows: Project, web: Web) -> None:
    rows.config('[[pipelines]]\nuse = "parquet"\npath = "out.parquet"\ncompression = "brotli"')
    dice, making = random.Random(5), rows.path("out.parquet.partial.making")
    kills = 0
    for _ in range(6):
        run = start(rows, web)
        while not making.exists() and run.process.poll() is None:
            time.sleep(0.001)
        time.sleep(dice.random() * 0.1)
        run.kill()
        if run.wait().code == -signal.SIGKILL:
            kills += 1
            assert making.exists() or rows.path("out.parquet").exists()
    assert kills >= 4
    requests = len(web.log)
    done = start(rows, web).wait().expect(0)
    assert len(web.log) == requests, "publishing was killed; nothing had to be fetched again"
    assert done.json["items"] == PAGES * PER_PAGE
    judge([rows.path("out.parquet")])
    nothing_left(rows)


@pytest.mark.long
def test_killed_at_random_instants_in_parts(rows: Project, web: Web) -> None:
    rows.config(
        '[[pipelines]]\nuse = "parquet"\npath = "out/{item}/{part}.parquet"\n'
        "records_per_file = 4000\nrow_group = 1000"
    )
    dice = random.Random(6)
    for _ in range(6):
        run = start(rows, web)
        web.after(dice.randint(1, 12), run.kill, dice.random() * 0.4)
        assert run.wait().code == -signal.SIGKILL
        web.forget_alarms()
    start(rows, web).wait().expect(0)
    paths = sorted(rows.path("out/Row").iterdir())
    assert [path.name for path in paths] == [f"{n:04}.parquet" for n in range(1, 9)]
    assert [len(parquet_rows(path)) for path in paths] == [4000] * 7 + [2000]
    judge(paths)
    nothing_left(rows)


def test_no_room_for_the_file(rows: Project, web: Web) -> None:
    """Exit 4 at publishing: what was committed is safe, and the next run only publishes it."""
    rows.config('[[pipelines]]\nuse = "parquet"\npath = "out.parquet"\ncompression = "none"')
    size = PAGES * PER_PAGE * 100  # the journal has about 70 bytes a row, the file 140

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    command = ("run", "pages", "-a", f"base={web.url}", "--json")
    for _ in range(2):
        full = rows.scrape(*command, preexec=limited).expect(4)
        assert "out.parquet" in full.err
        assert rows.path("out.parquet.partial").exists()
        assert not rows.path("out.parquet").exists()
    requests = len(web.log)
    start(rows, web).wait().expect(0)
    assert len(web.log) == requests
    assert rows.path("out.parquet").stat().st_size > size
    judge([rows.path("out.parquet")])
    nothing_left(rows)


def test_o_by_its_ending(rows: Project, web: Web) -> None:
    start(rows, web, "-o", "out.parquet").wait().expect(0)
    judge([rows.path("out.parquet")])
    ended = start(rows, web, "-o", "out.parquet.gz").wait().expect(2)
    assert "compressed" in ended.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ('mode = "append"', "a Parquet file ends with its directory"),
        ('types = { n = "integer" }', "'integer' is no type"),
        ('compression = "zip"', "compression"),
        ('path = "out.parquet.zst"', "compressed inside"),
    ],
)
def test_refused_before_the_first_request(rows: Project, web: Web, options: str, said: str) -> None:
    rows.config(f'[[pipelines]]\nuse = "parquet"\n{options}')
    assert said in start(rows, web).wait().expect(2).err
    assert said in rows.scrape("check").expect(2).err
    assert not web.log


def test_what_does_not_fit_is_rejected_and_the_rest_delivered(project: Project) -> None:
    project.spider("""
    from scraper import Output, Request, Response, Spider

    class Pages(Spider):
        name = "pages"
        base: str

        async def start(self):
            yield Request(self.base + "/p/0")

        async def parse(self, response: Response) -> Output:
            yield {"n": 1, "price": "12.50"}
            yield {"n": 2, "price": "on request"}
            yield {"n": 3, "price": None}
            yield {"n": 4, "cost": 5}
    """)
    project.config(
        '[[pipelines]]\nuse = "parquet"\npath = "out.parquet"\ntypes = { price = "float" }'
    )
    with Web(Graph(1)) as web:
        done = start(project, web).wait().expect(0)
    assert parquet_rows(project.path("out.parquet")) == [
        {"n": 1, "price": 12.5},
        {"n": 3, "price": None},
    ]
    assert (done.json["items"], done.json["rejected"]) == (2, 2)
    first, second = json_lines(project.path("out.rejected.jsonl"))
    assert {first["reason"], second["reason"]} == {"schema"}
    (error,) = first["errors"]
    assert (error["field"], error["value"]) == ("price", "on request")
    assert error["message"].startswith("the column takes float: ")
    assert "cost" in str(second["errors"])
