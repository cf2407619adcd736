"""Cases 60 to 64 in one crawl: pages that no selector must be let loose on, beside good ones."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crawl.harness import Crawl, Finished, Project, json_lines
from tests.hostile.costly import CASES, Page, formatting
from tests.servers.web import Answer, Reply, Seen, Web, html

CONTROL, HOSTILE = "127.0.0.1", "127.0.0.2"
PAGES = 60
"""Of the control host."""
LIMIT = 1_000
"""MB of memory, of the crawl's process and of each probe's."""

SPIDER = """
import json, resource
from tests.memory import peak
from scraper import Output, Request, Response, Spider

class Pages(Spider):
    name = "pages"

    async def start(self):
        with open("requests.json") as file:
            for url, callback in json.load(file):
                yield Request(url, callback)

    async def parse(self, response: Response) -> Output:
        links = response.links()
        if "/p/" in response.url:
            for link in links:
                yield response.follow(link)
        yield {"url": response.url, "links": links, "text": len(response.css("body")[0].text)}

    async def blind(self, response: Response) -> Output:
        yield {"url": response.url, "size": len(response.body)}

    async def inline(self, response: Response) -> Output:
        got = await self.fetch(response.urljoin("/formatting-few"))
        try:
            links = got.links()
        except Exception as error:
            links = [error.reason]
        yield {"url": response.url, "links": links}

    async def closed(self, reason: str) -> None:
        probes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1000
        peaks = [peak(), probes]
        with open("peaks.json", "w") as file:
            json.dump(peaks, file)
"""

CONFIG = """
[crawl]
max_failure_rate = 1.0

[log]
stall = 30
"""


def site(seen: Seen) -> Answer:
    path = seen.path.partition("?")[0]
    if path.startswith("/p/"):
        links = "".join(f'<a href="/p/{n}">x</a>' for n in range(PAGES))
        return html(f"<h1>{path}</h1>{links}")
    for page in CASES:
        if path == f"/{page.name}":
            return Reply(page.body, type=page.type)
    return html("<p>x", 200 if path in ("/inline", "/x") else 404)


@dataclass(frozen=True, slots=True)
class Crawled:
    """What the crawl left behind. `ends`: reasons by path; `items`: records by path."""

    done: Finished
    web: Web
    ends: dict[str, str]
    items: dict[str, dict[str, object]]
    control: set[str]
    peaks: list[int]


def probes(crawl: Crawl) -> set[int]:
    """The processes that *crawl* has as probes."""
    found = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return {pid for pid in found if _is(crawl, pid)}


def _is(crawl: Crawl, pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return status[1] == str(crawl.process.pid) and b"prober.py" in command


def lives(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition: object, crawl: Crawl | None = None) -> None:
    """Wait for *condition* to hold, while *crawl* runs."""
    assert callable(condition)
    patience = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < patience
        assert crawl is None or crawl.process.poll() is None, crawl.err.read_text()
        time.sleep(0.01)


def requests(project: Project, *wanted: tuple[str, str | None]) -> None:
    project.config(CONFIG)
    project.spider(SPIDER)
    project.path("requests.json").write_text(json.dumps(wanted))


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawled]:
    place = tmp_path_factory.mktemp("costly")
    with Web(site, (CONTROL, HOSTILE)) as web:
        project = Project(place / "project", place)
        hostile = web.base(HOSTILE)
        requests(
            project,
            *((f"{hostile}/{page.name}", None) for page in CASES),
            (f"{hostile}/formatting-few?blind", "blind"),
            (f"{hostile}/inline", "inline"),
            (f"{web.base(CONTROL)}/p/0", None),
        )
        done = project.scrape("run", "pages", "-o", "out.jsonl", "--json")
        failures = project.scrape("failures", "pages", "--json").expect(0)
        project.close()
        records = json_lines(project.path("out.jsonl"))
        yield Crawled(
            done,
            web,
            {
                entry["url"].removeprefix(hostile): entry["reason"]
                for entry in map(json.loads, failures.out.splitlines())
            },
            {record["url"].removeprefix(hostile): record for record in records},
            {record["url"] for record in records if f"//{CONTROL}:" in record["url"]},
            json.loads(project.path("peaks.json").read_text()),
        )


def test_the_crawl_and_its_good_host(crawled: Crawled) -> None:
    assert crawled.done.expect(0).json["finished"] is True
    assert len(crawled.control) == PAGES
    assert {len(crawled.web.seen(f"/p/{n}", CONTROL)) for n in range(PAGES)} == {1}


def test_memory_stays_in_bounds(crawled: Crawled) -> None:
    """Of the crawl, and of the probes that were ended."""
    assert 0 < max(crawled.peaks) < LIMIT


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page, id=page.name, marks=pytest.mark.case(page.number, page.input, page.outcome)
        )
        for page in CASES
    ],
)
def test_ends_as_promised(crawled: Crawled, page: Page) -> None:
    path = f"/{page.name}"
    item, end = crawled.items.get(path), crawled.ends.get(path)
    assert (item is None) is not (end is None)
    if page.ends == "either":
        assert end in (None, "parse_limit")
    elif page.ends == "item":
        assert end is None
        assert item is not None
        assert page.links is None or len(item["links"]) == page.links  # type: ignore[arg-type]
    else:
        assert end == page.ends
    again = 1 if page.name == "formatting-few" else 0  # for the sake of the callback `inline`
    assert len(crawled.web.seen(path, HOSTILE)) == 1 + again


def test_links_are_relative_to_the_page(crawled: Crawled) -> None:
    """A base that is no web address is none."""
    assert crawled.items["/base"]["links"] == [f"{crawled.web.base(HOSTILE)}/one"]


def test_a_page_that_nobody_reads_is_not_at_fault(crawled: Crawled) -> None:
    assert crawled.items["/formatting-few?blind"]["size"] == len(formatting(500, 15_000))


def test_an_inline_fetch_goes_the_same_way(crawled: Crawled) -> None:
    assert crawled.items["/inline"]["links"] == ["parse_limit"]


@pytest.mark.case(
    62,
    "the probe's process is killed while it parses a page, and so is the one that tries it again",
    "`parse_limit`; the next page gets a new process, and an item; no process is left behind",
)
def test_a_probe_that_dies_is_replaced(project: Project) -> None:
    """The page that it had is tried again, once; those behind it are not touched by that."""
    over = threading.Event()

    async def later(page: Reply) -> Answer:
        while not over.is_set():
            await asyncio.sleep(0.01)
        return page

    def guarded(seen: Seen) -> Answer | Awaitable[Answer]:
        answer = site(seen)
        if seen.path == "/deep-harmless":
            assert isinstance(answer, Reply)
            return later(answer)
        return answer

    with Web(guarded, (CONTROL, HOSTILE)) as web:
        hostile, control = web.base(HOSTILE), f"{web.base(CONTROL)}/p/0"
        requests(
            project,
            (f"{hostile}/nested", None),
            (control, None),
            (f"{hostile}/deep-harmless", None),
        )
        crawl = project.start("run", "pages", "-o", "out.jsonl", "--json")
        killed: set[int] = set()
        for _ in range(2):
            until(lambda: probes(crawl) - killed, crawl)
            victim = (probes(crawl) - killed).pop()
            os.kill(victim, signal.SIGKILL)
            killed.add(victim)
            until(lambda victim=victim: not lives(victim))
        over.set()
        done = crawl.wait().expect(0)
    assert done.json["reasons"] == {"parse_limit": 1}
    items = {record["url"] for record in json_lines(project.path("out.jsonl"))}
    assert len(items) == PAGES + 1
    assert f"{hostile}/deep-harmless" in items


def test_a_killed_crawl_leaves_no_probe(project: Project) -> None:
    """Though it was in the middle of a page."""
    with Web(site, (CONTROL, HOSTILE)) as web:
        requests(project, (f"{web.base(HOSTILE)}/nested", None))
        crawl = project.start("run", "pages", "-o", "out.jsonl")
        until(lambda: probes(crawl), crawl)
        orphans = probes(crawl)
        crawl.kill()
        crawl.process.wait()
        until(lambda: not any(map(lives, orphans)))


def test_a_probe_inherits_nothing(project: Project) -> None:
    """No socket, no ledger, no lock, and no environment: secrets are kept there."""
    with Web(site, (CONTROL, HOSTILE)) as web:
        requests(project, (f"{web.base(HOSTILE)}/nested", None))
        crawl = project.start(
            "run", "pages", "-o", "out.jsonl", env={"SHOP_PASSWORD": "correct horse"}
        )
        until(lambda: probes(crawl), crawl)
        (probe,) = probes(crawl)
        descriptors = Path(f"/proc/{probe}/fd")
        until(lambda: len(list(descriptors.iterdir())) == 3, crawl)
        held = [str((descriptors / n).readlink()).partition(":")[0] for n in "012"]
        assert held == ["pipe", "pipe", "/dev/null"]
        assert b"correct horse" not in Path(f"/proc/{probe}/environ").read_bytes()
        crawl.wait().expect(1)


@pytest.mark.parametrize(
    ("mode", "started"), [("always", True), ("never", False)], ids=["always", "never"]
)
def test_the_setting(project: Project, mode: str, started: bool) -> None:
    """`always`: small pages, too, go to the probe. `never`: no process, and no costly page."""
    with Web(site, (CONTROL, HOSTILE)) as web:
        hostile = web.base(HOSTILE)
        requests(project, (f"{hostile}/x", None), (f"{hostile}/deep-harmless", None))
        done = project.scrape(*(
            "run",
            "pages",
            "-o",
            "out.jsonl",
            "--json",
            "-s",
            f"crawl.probe={mode}",
        ))
    items = {record["url"].rpartition("/")[2] for record in json_lines(project.path("out.jsonl"))}
    assert items == ({"x", "deep-harmless"} if started else {"x"})
    assert done.expect(0).json["reasons"] == ({} if started else {"parse_limit": 1})
    children = json.loads(project.path("peaks.json").read_text())[1]
    assert started or children == 0
