"""Whole crawls into files of every kind at once, killed anywhere; independent readers judge."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from scraper.testing.points import POINTS, VARIABLE
from tests.crawl.harness import Crawl, Project, json_lines, judge_records
from tests.servers.graph import Graph
from tests.servers.web import Web, text

GRAPH = Graph(1200)

SPIDER = """
from scraper import Item, Output, Request, Response, Spider

class Even(Item):
    n: int
    title: str

class Odd(Even):
    pass

class Pages(Spider):
    name = "pages"
    base: str

    async def start(self):
        yield Request(self.base + "/p/0")

    async def parse(self, response: Response) -> Output:
        n = int(response.url.rpartition("/")[2])
        for link in response.links():
            yield response.follow(link)
        yield (Odd if n % 2 else Even)(n=n, title=response.css("h1::text").get())
"""

PIPELINES = """
[[pipelines]]
use = "jsonl"
path = "out/all.jsonl.gz"

[[pipelines]]
use = "csv"
path = "out/{item}.csv"

[[pipelines]]
use = "json"
path = "out/part.json"
records_per_file = 250

[[pipelines]]
use = "csv"
path = "out/{part}-of-all.csv.zst"
fields = ["title", "n"]
size_per_file = 1500

[[pipelines]]
use = "jsonl"
path = "out/grow.jsonl"
mode = "append"
"""
SINKS = 6  # with that of rejected items


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(GRAPH) as web:
        yield web


@pytest.fixture
def pages(project: Project) -> Project:
    project.spider(SPIDER)
    project.config(PIPELINES)
    return project


def start(project: Project, web: Web, *more: str, **environ: str) -> Crawl:
    return project.start("run", "pages", "-a", f"base={web.url}", "--json", *more, env=environ)


def rows(data: bytes) -> list[dict[str, Any]]:
    found = csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True)
    return [{"n": int(row["n"]), "title": row["title"]} for row in found]


def outputs(project: Project) -> dict[str, list[dict[str, Any]]]:
    """What each sink has published, by its own reader. Nothing else may lie there."""
    out = project.path("out")
    files = {path.name: path for path in sorted(out.iterdir())}
    numbered = [path for name, path in files.items() if name.startswith("part-")]
    unzip = zstandard.ZstdDecompressor()
    squeezed = [
        path.read_bytes() for name, path in files.items() if name.endswith("-of-all.csv.zst")
    ]
    assert all(len(data) <= 1500 for data in squeezed)
    parts = [unzip.stream_reader(data, read_across_frames=True).read() for data in squeezed]
    assert [path.name for path in numbered] == [
        f"part-{n:04}.json" for n in range(1, GRAPH.pages // 250 + 2)
    ]
    assert all(len(json.loads(path.read_bytes())) == 250 for path in numbered[:-1])
    assert len(parts) > 2
    assert {*files} - {path.name for path in numbered} == {
        "Even.csv",
        "Odd.csv",
        "all.jsonl.gz",
        "grow.jsonl",
        *(f"{n:04}-of-all.csv.zst" for n in range(1, len(parts) + 1)),
    }
    assert all(row["n"] % 2 == 1 for row in rows(files["Odd.csv"].read_bytes()))
    lines = gzip.decompress(files["all.jsonl.gz"].read_bytes())
    return {
        "jsonl.gz": [json.loads(line) for line in lines.splitlines()],
        "csv by item": [
            row for name in ("Even.csv", "Odd.csv") for row in rows(files[name].read_bytes())
        ],
        "json in parts": [item for path in numbered for item in json.loads(path.read_bytes())],
        "csv.zst in parts": [row for part in parts for row in rows(part)],
        "append": json_lines(files["grow.jsonl"]),
    }


def judge_all(project: Project, web: Web, kills: int) -> None:
    for name, records in outputs(project).items():
        assert records, name
        judge_records(records, web, GRAPH, kills=kills)


@pytest.mark.long
def test_kill_at_each_named_point(pages: Project, web: Web) -> None:
    kills = 0
    for n, point in enumerate(POINTS[:-1]):
        ended = start(pages, web, **{VARIABLE: f"{point}:{n + 2}"}).wait()
        assert ended.code == -signal.SIGKILL, f"{point} was never reached: {ended.err[-2000:]}"
        kills += 1
    for _ in range(2):  # the second process gets as far as the first
        for count in range(1, SINKS + 2):
            ended = start(pages, web, **{VARIABLE: f"publish:{count}"}).wait()
            assert ended.code == -signal.SIGKILL, ended.err[-2000:]
            kills += 1
    before = len(web.log)
    done = start(pages, web).wait().expect(0)
    assert len(web.log) == before, "publishing was killed; nothing had to be fetched again"
    assert done.json["items"] == GRAPH.pages
    told = {Path(o["path"]).name: o.get("files") for o in done.json["outputs"]}
    assert told["part-{part}.json"] == GRAPH.pages // 250 + 1
    assert told["{item}.csv"] == 2
    judge_all(pages, web, kills)


@pytest.mark.long
@pytest.mark.parametrize("seed", [11, 12])
def test_kill_at_random_instants(pages: Project, web: Web, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(5):
        web.forget_alarms()
        crawl = start(pages, web)
        web.after(dice.randint(1, 120), crawl.kill, dice.random() * 0.02)
        assert crawl.wait().code == -signal.SIGKILL
    web.forget_alarms()
    start(pages, web).wait().expect(0)
    judge_all(pages, web, 5)


def test_fresh_gives_way(pages: Project, web: Web) -> None:
    """What an abandoned run had written is set aside, all of it, whatever it was written to."""
    web.after(500, (crawl := start(pages, web)).kill)
    assert crawl.wait().code == -signal.SIGKILL
    web.forget_alarms()
    begun = {path.name for path in pages.path("out").glob("*.partial")}
    assert {"Even.csv.partial", "Odd.csv.partial", "part-0001.json.partial"} <= begun
    start(pages, web, "--fresh").wait().expect(0)
    asides = {path.name.partition(".aside-")[0] for path in pages.path("out").glob("*.aside-*")}
    assert begun - {"all.rejected.jsonl.partial"} <= asides  # which was empty
    assert "grow.jsonl" in asides
    for aside in pages.path("out").glob("*.aside-*"):
        aside.unlink()
    records = outputs(pages)
    for name, found in records.items():
        assert sorted(r["n"] for r in found) == list(range(GRAPH.pages)), name


def test_failed_crawl_is_kept_aside(pages: Project, web: Web) -> None:
    out = pages.path("out")
    out.mkdir()
    (out / "Even.csv").write_text("what an earlier crawl has delivered")
    with Web(
        lambda seen: GRAPH(seen) if len(seen.path) < 6 or "robots" in seen.path else text("", 500)
    ) as failing:
        done = start(pages, failing, "-s", "retry.attempts=1").wait().expect(1)
    assert done.json["ended"] == "failed"
    assert (out / "Even.csv").read_text() == "what an earlier crawl has delivered"
    failed = {path.name: path for path in out.glob("*.failed")}
    assert {"Even.csv.failed", "Odd.csv.failed", "all.jsonl.gz.failed"} <= {*failed}
    assert len(rows(failed["Even.csv.failed"].read_bytes())) > 10
    assert json.loads(failed["part-0001.json.failed"].read_bytes())
    left = {path.name for path in out.iterdir()} - {*failed}
    assert left == {"Even.csv", "grow.jsonl"}
