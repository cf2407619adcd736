"""Whole crawls into stores: killed in the middle of an upload, refused in time, gone on with."""

from __future__ import annotations

import csv
import gzip
import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scraper.testing.points import VARIABLE
from tests.crawl.harness import GRAPH_SPIDER, Crawl, Finished, Project, judge_records, tree
from tests.crawl.test_retry import Ailing
from tests.servers.graph import Graph
from tests.servers.proxy import Proxy
from tests.servers.s3 import S3
from tests.servers.sshd import Sshd
from tests.servers.web import Web

GRAPH = Graph(600)
LARGE = 400_000
"""Bytes of the output, about: more than sockets hold on the way."""

SPIDER = (
    GRAPH_SPIDER.replace('"title":', '"noise": random.Random(n).randbytes(400).hex(), "title":')
    + "\nimport random\nfrom scraper.pipelines.remote import Target\nTarget.pauses = ()\n"
)


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(GRAPH) as web:
        yield web


@pytest.fixture
def s3() -> Iterator[S3]:
    with S3() as server:
        yield server


@pytest.fixture
def pages(project: Project) -> Project:
    project.spider(SPIDER)
    project.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    return project


def start(project: Project, web: Web, *more: str, **environ: str) -> Crawl:
    return project.start("run", "pages", "-a", f"base={web.url}", "--json", *more, env=environ)


def run(project: Project, web: Web, *more: str, **environ: str) -> Finished:
    return start(project, web, *more, **environ).wait()


def table(options: dict[str, str]) -> str:
    inner = ", ".join(f"{name} = {json.dumps(value)}" for name, value in options.items())
    return f"storage = {{ {inner} }}"


def judge(records: list[dict[str, Any]], web: Web, kills: int) -> None:
    plain = [{"n": int(r["n"]), "title": r["title"]} for r in records]
    assert all(len(record["noise"]) == 800 for record in records)
    judge_records(plain, web, GRAPH, kills=kills)


def nothing_left(project: Project) -> None:
    assert not [name for name in tree(project.root) if "outbox" in name]


@pytest.mark.long
def test_s3_killed_anywhere(pages: Project, web: Web, s3: S3) -> None:
    s3.client.put_object(Bucket="shelf", Key="all.jsonl.gz", Body=b"an earlier crawl's")
    with Proxy(int(s3.endpoint.rpartition(":")[2])) as proxy:
        storage = table({**s3.storage, "endpoint_url": f"http://127.0.0.1:{proxy.port}"})
        pages.config(
            f'[[pipelines]]\nuse = "jsonl"\npath = "s3://shelf/all.jsonl.gz"\n{storage}\n'
            f'[[pipelines]]\nuse = "csv"\npath = "s3://shelf/{{spider}}/{{part}}.csv"\n'
            f'records_per_file = 250\nfields = ["n", "title", "noise"]\n{storage}\n'
        )
        for point in ("write:2", "commit-after:3"):
            assert run(pages, web, **{VARIABLE: point}).code == -signal.SIGKILL
        crawl = start(pages, web)
        web.after(300, lambda: proxy.hold_after(LARGE // 3, crawl.kill))
        assert crawl.wait().code == -signal.SIGKILL, "in the middle of the first upload"
        assert s3.objects() == {"all.jsonl.gz": b"an earlier crawl's"}
        before = len(web.log)
        proxy.let_go()
        for point in ("publish:1", "publish:2", "publish:3"):
            assert run(pages, web, **{VARIABLE: point}).code == -signal.SIGKILL
        done = run(pages, web).expect(0)
        assert len(web.log) == before, "nothing had to be fetched again"
    found = s3.objects()
    assert sorted(found) == ["all.jsonl.gz", *(f"pages/000{n}.csv" for n in (1, 2, 3))]
    lines = gzip.decompress(found.pop("all.jsonl.gz")).splitlines()
    judge([json.loads(line) for line in lines], web, 3)
    rows = [
        row
        for _, data in sorted(found.items())
        for row in csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True)
    ]
    judge(rows, web, 3)
    assert [o["path"] for o in done.json["outputs"]] == [
        "s3://shelf/all.jsonl.gz",
        "s3://shelf/pages/{part}.csv",
        str(pages.path("data/pages.rejected.jsonl")),
    ]
    nothing_left(pages)


def test_sftp_killed_in_the_middle(pages: Project, web: Web, sshd: Sshd) -> None:
    (sshd.files / "all.json").write_text("an earlier crawl's")
    with Proxy(sshd.port) as proxy:
        address = through(proxy, sshd)
        pages.config(f'[[pipelines]]\nuse = "json"\npath = "{address}"\n{table(sshd.storage)}\n')
        crawl = start(pages, web)
        web.after(300, lambda: proxy.hold_after(LARGE // 3, crawl.kill))
        assert crawl.wait().code == -signal.SIGKILL
        assert (sshd.files / "all.json").read_text() == "an earlier crawl's"
        before = len(web.log)
        proxy.let_go()
        run(pages, web).expect(0)
        assert len(web.log) == before
    judge(json.loads((sshd.files / "all.json").read_bytes()), web, 1)
    assert [path.name for path in sshd.files.iterdir()] == ["all.json"]
    nothing_left(pages)


def test_server_that_is_away_when_it_counts(pages: Project, web: Web, sshd: Sshd) -> None:
    with Proxy(sshd.port) as proxy:
        address = through(proxy, sshd)
        pages.config(f'[[pipelines]]\nuse = "json"\npath = "{address}"\n{table(sshd.storage)}\n')
        crawl = start(pages, web)
        web.after(300, lambda: proxy.hold_after(0, lambda: None))
        away = crawl.wait().expect(4)
        assert "all.json cannot be delivered" in away.err
        assert "nothing is fetched again" in away.err
        before = len(web.log)
        assert "cannot be reached" in run(pages, web).expect(4).err
        proxy.let_go()
        done = run(pages, web).expect(0)
    assert done.json["finished"] is True
    assert len(web.log) == before
    judge(json.loads((sshd.files / "all.json").read_bytes()), web, 0)
    nothing_left(pages)


def through(proxy: Proxy, sshd: Sshd) -> str:
    """The address of `all.json` by way of *proxy*, which has the server's key."""
    known = sshd.known_hosts.read_text()
    sshd.known_hosts.write_text(known.replace(f":{sshd.port} ", f":{proxy.port} "))
    return sshd.url("all.json").replace(f":{sshd.port}/", f":{proxy.port}/")


@pytest.mark.parametrize(
    ("pipeline", "says"),
    [
        ('path = "s3://attic/x.jsonl"\n{storage}', "there is no bucket attic"),
        ('path = "s3://shelf/x.jsonl"\nmode = "append"\n{storage}', "cannot grow"),
        ('path = "nowhere://shelf/x.jsonl"', "nothing is known of nowhere://"),
        ('path = "sftp://127.0.0.1:{port}/x.jsonl"', "not among the known hosts"),
        ('path = "https://shelf/x.jsonl"', "nothing can be written there"),
    ],
)
def test_refused_before_anything_is_fetched(
    pages: Project, web: Web, s3: S3, sshd: Sshd, pipeline: str, says: str
) -> None:
    pipeline = pipeline.replace("{storage}", table(s3.storage)).replace("{port}", str(sshd.port))
    pages.config(f'[[pipelines]]\nuse = "jsonl"\n{pipeline}\n')
    pages.environ["HOME"] = str(pages.root)
    before = tree(pages.root)
    refused = run(pages, web).expect(2)
    assert says in refused.err
    assert "hush" not in refused.err
    assert web.log == []
    assert tree(pages.root) == before


def test_failed_crawl_is_kept_here(pages: Project, s3: S3) -> None:
    pages.config(
        f'[[pipelines]]\nuse = "jsonl"\npath = "s3://shelf/x.jsonl"\n{table(s3.storage)}\n'
    )
    small = Graph(200)
    with Web(lambda seen: small(seen) if len(seen.path) < 5 else Graph(1)(seen)) as failing:
        done = run(pages, failing).expect(1)
    assert s3.objects() == {}
    aside = Path(done.json["outputs"][0]["aside"])
    assert aside.is_relative_to(pages.root / ".scrape/pages")
    kept = len(aside.read_bytes().splitlines())
    assert kept == done.json["items"] > 0
    with Web(small) as web:
        run(pages, web).expect(0)
    assert len(s3.objects()["x.jsonl"].splitlines()) == 200
    assert len(aside.read_bytes().splitlines()) == kept, "and stays there"


def test_output_option(pages: Project, web: Web, s3: S3) -> None:
    pages.environ |= {
        "AWS_ENDPOINT_URL": s3.endpoint,
        "AWS_ACCESS_KEY_ID": "writer",
        "AWS_SECRET_ACCESS_KEY": "hush-hush",
    }
    done = run(pages, web, "-o", "s3://shelf/{started}/{spider}.csv.zst").expect(0)
    (key,) = s3.objects()
    assert done.json["outputs"][0]["path"] == f"s3://shelf/{key}"
    assert key.endswith("/pages.csv.zst")
    refused = run(pages, web, "-o", "sftp://me:hush-hush@host/x.xyz").expect(2)
    assert "-o sftp://***@host/x.xyz" in refused.err
    assert "hush" not in refused.err


@pytest.mark.long
def test_retry_adds_to_what_lies_in_the_store(pages: Project, s3: S3) -> None:
    storage = table(s3.storage)
    pages.config(
        f'[[pipelines]]\nuse = "json"\npath = "s3://shelf/all.json.gz"\n{storage}\n'
        f'[[pipelines]]\nuse = "csv"\npath = "s3://shelf/p.csv"\nrecords_per_file = 50\n{storage}\n'
    )
    graph, site = Graph(240), Ailing()
    with Web(site) as web:
        first = run(pages, web, "-s", "retry.attempts=1").expect(0)
        assert len(json.loads(gzip.decompress(s3.objects()["all.json.gz"]))) == first.json["items"]
        site.broken.clear()
        retry = ("failures", "pages", "--retry", "--json")
        for point in ("reopen:3", "reopen:4", "write:1", "publish:2"):
            ended = pages.start(*retry, env={VARIABLE: point}).wait()
            assert ended.code == -signal.SIGKILL, ended.err[-2000:]
        assert "p-0001.csv" in s3.objects(), "what was published stays meanwhile"
        pages.scrape(*retry).expect(0)
        found = s3.objects()
        items = json.loads(gzip.decompress(found.pop("all.json.gz")))
        assert sorted(item["n"] for item in items) == list(range(graph.pages))
        assert sorted(found) == [f"p-000{n}.csv" for n in range(1, 6)]
        numbers = [
            int(row["n"])
            for data in found.values()
            for row in csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True)
        ]
        assert sorted(numbers) == list(range(graph.pages))
    nothing_left(pages)


def test_retry_wants_what_was_delivered(pages: Project, s3: S3) -> None:
    pages.config(
        f'[[pipelines]]\nuse = "jsonl"\npath = "s3://shelf/x.jsonl"\n{table(s3.storage)}\n'
    )
    with Web(site := Ailing()) as web:
        run(pages, web, "-s", "retry.attempts=1").expect(0)
        site.broken.clear()
        s3.client.put_object(Bucket="shelf", Key="x.jsonl", Body=b"{}\n" * 9999)
        before = len(web.log)
        refused = pages.scrape("failures", "pages", "--retry").expect(2)
        assert "s3://shelf/x.jsonl is not what this crawl delivered" in refused.err
        assert len(web.log) == before
