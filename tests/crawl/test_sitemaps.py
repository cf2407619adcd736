"""Sitemaps as sites really publish them: one crawl of all, judged by the server's log.

Each sitemap lists pages of its own; which of them were fetched says how far it was read. A healthy
sitemap is read in the same crawl, and all of its pages come.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.crawl.harness import Finished, Project, json_lines
from tests.servers.web import Answer, Reply, Seen, Web, text
from tests.test_sitemap import LAUGHS

SPIDER = """
import json, sys
from scraper import SitemapSpider

opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)

class Maps(SitemapSpider):
    name = "maps"
    sitemap_urls = %r

    async def parse(self, response):
        yield {"url": response.url}

    async def closed(self, reason):
        with open("opened.json", "w") as file:
            json.dump(opened, file)
"""
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
HEALTHY = 40


def urlset(*pages: str, doctype: str = "") -> str:
    inside = "".join(f"<url><loc>{page}</loc></url>\n" for page in pages)
    return f"{HEAD}{doctype}<urlset>{inside}</urlset>"


def index(*names: str) -> str:
    inside = "".join(f"<sitemap><loc>{name}</loc></sitemap>" for name in names)
    return f"{HEAD}<sitemapindex>{inside}</sitemapindex>"


def entity(declaration: str) -> str:
    return urlset("NAME/1", "NAME/&x;", doctype=f"<!DOCTYPE urlset [{declaration}]>")


def cut_gzip(base: str) -> bytes:
    """Two pages, and the rest lost: what is left over is noise, which cannot be compressed."""
    listed = "".join(f"{base}/cut-gzip/{n}\n" for n in (1, 2))
    return gzip.compress(listed.encode() + random.Random(1).randbytes(2_000))[:-200]


@dataclass(frozen=True, slots=True)
class Map:
    """`body`: NAME stands for its folder, SECRET for a file here, BASE for the server; or a
    function of the latter. `pages`: which were fetched. `reason`: of the sitemap's own end;
    `says`: in the log."""

    name: str
    body: str | Callable[[str], bytes]
    pages: tuple[str, ...] = ()
    reason: str = ""
    says: str = ""


def case(number: int, given: str, outcome: str, found: Map) -> Any:
    return pytest.param(found, id=found.name, marks=pytest.mark.case(number, given, outcome))


REFUSED = "`xml_entity`, no page of it; no file and no socket is opened"
PARTLY = "what was readable is taken, and a warning"
MAPS = [
    case(53, "a billion laughs", REFUSED, Map("laughs", entity(LAUGHS), reason="xml_entity")),
    case(
        53,
        "an entity that is a file of this machine",
        REFUSED,
        Map("file", entity('<!ENTITY x SYSTEM "file://SECRET">'), reason="xml_entity"),
    ),
    case(
        53,
        "an entity that is another page",
        REFUSED,
        Map("http", entity('<!ENTITY x SYSTEM "BASE/stolen">'), reason="xml_entity"),
    ),
    case(
        53,
        "a parameter entity with a DTD elsewhere",
        REFUSED,
        Map("dtd", entity('<!ENTITY % p SYSTEM "BASE/stolen">%p;'), reason="xml_entity"),
    ),
    case(
        53,
        "a doctype with a DTD elsewhere, no entities",
        "read; the DTD is not fetched",
        Map(
            "doctype",
            urlset("NAME/1", doctype='<!DOCTYPE urlset SYSTEM "BASE/stolen">'),
            pages=("1",),
        ),
    ),
    case(
        53,
        "XInclude of a file of this machine",
        "an element like any other: not included",
        Map(
            "include",
            urlset("NAME/1").replace("<urlset>", '<urlset><xi:include href="file://SECRET"/>'),
            pages=("1",),
        ),
    ),
    case(
        54,
        "an index that names itself",
        "asked for once",
        Map("itself", index("BASE/itself.xml", "BASE/inner.xml"), pages=("inner",)),
    ),
    case(
        54,
        "an index of indexes without end",
        "three levels are read, and that is said",
        Map("deep", index("BASE/deeper.xml?1", "BASE/inner.xml?deep"), says="levels deep"),
    ),
    case(
        54,
        "a gzip bomb of 60 MB",
        "`body_too_large`, no page of it",
        Map("bomb", lambda _: gzip.compress(b" " * 60_000_000), reason="body_too_large"),
    ),
    case(
        55,
        "XML that is cut short",
        PARTLY,
        Map(
            "cut",
            urlset("NAME/1", "NAME/2", "NAME/3")[:-20],
            pages=("1", "2"),
            says="damaged or cut short",
        ),
    ),
    case(
        55,
        "gzip that is cut short",
        PARTLY,
        Map(
            "cut-gzip",
            cut_gzip,
            pages=("1", "2"),
            says="the gzip data is cut short",
        ),
    ),
    case(
        55,
        "XML with a byte order mark, twice",
        "read",
        Map("bom", "\ufeff\ufeff" + urlset("NAME/1", "NAME/2"), pages=("1", "2")),
    ),
    case(
        55,
        "one entry that is broken among others",
        "it alone is lost, and a warning",
        Map(
            "broken",
            urlset("NAME/1", "NAME/<2>", "NAME/3"),
            pages=("1", "3"),
            says="damaged or cut short",
        ),
    ),
    case(
        55,
        "a page in place of a sitemap",
        "no entry, and a warning; the sitemap itself did not fail",
        Map("page", "<!doctype html><html><p>not here", says="it is an HTML page"),
    ),
    case(55, "nothing at all", "no entry, and a warning", Map("empty", "", says="it is empty")),
]


@dataclass(frozen=True, slots=True)
class Crawled:
    web: Web
    done: Finished
    project: Project
    failed: dict[str, str]  # reasons by path
    secret: Path


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawled]:
    project = Project(tmp_path_factory.mktemp("maps") / "p", tmp_path_factory.mktemp("scratch"))
    secret = tmp_path_factory.mktemp("secret") / "passwd"
    secret.write_text("canary")
    maps: dict[str, Map] = {f"/{row.values[0].name}.xml": row.values[0] for row in MAPS}
    healthy = urlset(*(f"BASE/healthy/{n}" for n in range(HEALTHY)))

    def written(body: str | Callable[[str], bytes], name: str) -> Reply:
        if not isinstance(body, str):
            return Reply(body(web.url), type="application/gzip")
        filled = body.replace("NAME", f"BASE/{name}").replace("SECRET", str(secret))
        return Reply(filled.replace("BASE", web.url).encode(), type="application/xml")

    def site(seen: Seen) -> Answer:
        path = seen.path.partition("?")[0]
        if path in maps:
            return written(maps[path].body, maps[path].name)
        if path == "/healthy.xml":
            return written(healthy, "healthy")
        if path == "/inner.xml":
            return written(urlset("BASE/itself/inner"), "itself")
        if path == "/deeper.xml":
            level = int(seen.path.rpartition("?")[2])
            return written(index(f"BASE/deeper.xml?{level + 1}"), "deep")
        if path == "/robots.txt":
            return text("none", 404)
        return Reply(b"<h1>page</h1>")

    with Web(site) as web:
        names = [f"{web.url}{path}" for path in (*maps, "/healthy.xml")]
        project.spider(SPIDER % names)
        done = project.scrape("run", "maps", "-o", "out.jsonl", "--json").expect(0)
        told = project.scrape("failures", "maps", "--json").expect(0).out.splitlines()
        failed = {f["url"].removeprefix(web.url): f["reason"] for f in map(json.loads, told)}
        yield Crawled(web, done, project, failed, secret)
    project.close()


@pytest.mark.parametrize("found", MAPS)
def test_sitemaps_of_all_kinds(crawled: Crawled, found: Map) -> None:
    path = f"/{found.name}.xml"
    counts = crawled.web.counts()
    assert counts[path] == 1
    fetched = {p.rpartition("/")[2] for p in counts if p.startswith(f"/{found.name}/")}
    assert fetched == set(found.pages)
    assert crawled.failed.get(path, "") == found.reason
    told = [line for line in crawled.done.err.splitlines() if found.name in line or "deep" in line]
    if found.says:
        assert [line for line in told if found.says in line], told
    elif not found.reason:
        assert not [line for line in told if f"{path}: " in line and "WARNING" in line]


def test_nothing_else_was_opened(crawled: Crawled) -> None:
    counts = crawled.web.counts()
    assert not [path for path in counts if "stolen" in path]
    assert counts["/deeper.xml?3"] == 1  # below three indexes, the last that is read
    assert counts["/deeper.xml?4"] == 0
    opened = json.loads(crawled.project.path("opened.json").read_text())
    assert opened, "the hook sees what is opened"
    assert str(crawled.secret) not in opened
    everything = crawled.done.err + crawled.project.path("out.jsonl").read_text()
    assert "canary" not in everything


def test_the_healthy_sitemap_is_read(crawled: Crawled) -> None:
    base = crawled.web.url
    items = [record["url"] for record in json_lines(crawled.project.path("out.jsonl"))]
    healthy = [url for url in items if url.startswith(f"{base}/healthy/")]
    assert sorted(healthy) == sorted(f"{base}/healthy/{n}" for n in range(HEALTHY))
    assert len(set(items)) == len(items)
