"""Cases 65 and 76: callbacks that hold up everything else are named, while they do."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from tests.crawl.harness import Crawl, Project, json_lines
from tests.servers.web import Answer, Reply, Seen, Web, html

CONTROL, HOSTILE = "127.0.0.1", "127.0.0.2"
PAGES = 20
"""Of the control host."""

SPIDER = """
import asyncio, time
from pathlib import Path
from scraper import Output, Request, Response, Spider

class Stalls(Spider):
    name = "stalls"
    base: str
    control: str

    async def start(self):
        yield Request(self.control + "/p/0")
        for name in ("raises", "awaits", "selects", "sleeps", "loops"):
            yield Request(self.base + f"/{name}?token=canary", name)

    async def parse(self, response: Response) -> Output:
        for link in response.links():
            yield response.follow(link)
        yield {"name": response.url}

    async def raises(self, response: Response) -> Output:
        raise LookupError("no such thing")
        yield {}

    async def awaits(self, response: Response) -> Output:
        while not Path("woken").exists():
            await asyncio.sleep(0.01)  # waits, and holds nothing up
        yield {"name": "awaits"}

    async def selects(self, response: Response) -> Output:
        yield {"name": "selects", "found": len(response.css("li:nth-child(2n)"))}  # quadratic

    async def sleeps(self, response: Response) -> Output:
        while not Path("woken").exists():
            time.sleep(0.01)  # sleeps
        yield {"name": "sleeps"}

    def loops(self, response: Response):
        while not Path("released").exists():
            pass  # loops
        yield {"name": "loops"}
"""

CONFIG = """
[log]
stall = 0.2

[crawl]
concurrency = 64

[http]
timeout = 120
"""


def site(seen: Seen) -> Answer:
    if seen.path.startswith("/p/"):
        return html("".join(f'<a href="/p/{n}">x</a>' for n in range(PAGES)))
    if seen.path.startswith("/selects"):
        return Reply(b"<ul>" + b"<li>x" * 20_000)
    return html("<p>x")


def said(crawl: Crawl, pattern: str) -> re.Match[str]:
    """Wait until the crawl's log says it."""
    patience = time.monotonic() + 120
    while True:
        if found := re.search(pattern, crawl.err.read_text()):
            return found
        assert crawl.process.poll() is None, crawl.err.read_text()
        assert time.monotonic() < patience, crawl.err.read_text()
        time.sleep(0.01)


def line_of(comment: str) -> int:
    """The line of the spider's file that carries *comment*."""
    lines = SPIDER.lstrip("\n").splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.endswith(f"# {comment}"))


@pytest.mark.case(
    65,
    "a selector that takes quadratic time, `li:nth-child(2n)` of 20,000 siblings",
    "it runs to its end and gives an item; a warning names callback, line and URL",
)
@pytest.mark.case(
    76, "a callback that raises", "`callback_error`, one attempt; the log names the line"
)
@pytest.mark.case(
    76,
    "a callback that sleeps without `await`",
    "a warning names callback, line and URL while it sleeps; then an item",
)
@pytest.mark.case(
    76,
    "a callback that loops",
    "a warning names callback, line and URL while it loops, and again at ten times as long; other"
    " pages wait for it (Python cannot end it); then an item",
)
@pytest.mark.case(
    76, "a callback that awaits as long", "no warning: everything else goes on; an item"
)
def test_what_holds_the_loop_is_named(project: Project) -> None:
    project.config(CONFIG)
    project.spider(SPIDER.lstrip("\n"))
    with Web(site, (CONTROL, HOSTILE)) as web:
        crawl = project.start(
            *("run", "stalls", "-o", "out.jsonl", "--json"),
            *("-a", f"base={web.base(HOSTILE)}", "-a", f"control={web.base(CONTROL)}"),
        )
        told: list[str] = []
        for comment, name, file in (("sleeps", "sleeps", "woken"), ("loops", "loops", "released")):
            line = line_of(comment)
            # The loop calls `exists` as well: what is told may be either line of it.
            pattern = rf"WARNING .*Stalls\.{name} is at work in {name} on (\S+) .*site\.py:(\d+)"
            found = said(crawl, pattern)
            assert int(found[2]) in (line, line - 1)
            told.append(found[1])
            Path(project.path(file)).touch()
        done = crawl.wait().expect(0)
    for url in told:
        assert url.startswith(web.base(HOSTILE))
    assert "canary" not in done.err
    selects = rf"WARNING .*Stalls\.selects is at work in selects on .*:{line_of('quadratic')}\)"
    assert re.search(selects, done.err)
    assert "Stalls.awaits is" not in done.err
    assert re.search(r"raises failed at .* LookupError: no such thing \(.*site\.py:\d+\)", done.err)
    assert done.json["reasons"] == {"callback_error": 1}
    items = [record["name"] for record in json_lines(project.path("out.jsonl"))]
    assert {"awaits", "selects", "sleeps", "loops"} < set(items)
    assert len(items) == PAGES + 4


def test_a_callback_that_loops_for_ever(project: Project) -> None:
    """It is named again when it has looped ten times as long; a crawl that is killed resumes."""
    project.config(CONFIG)
    project.spider(SPIDER.lstrip("\n"))
    with Web(site, (CONTROL, HOSTILE)) as web:
        arguments = ("-a", f"base={web.base(HOSTILE)}", "-a", f"control={web.base(CONTROL)}")
        project.path("woken").touch()
        crawl = project.start("run", "stalls", "-o", "out.jsonl", *arguments)
        said(crawl, r"(?s)Stalls\.loops is at work.*Stalls\.loops is at work")
        crawl.kill()
        crawl.wait()
        project.path("released").touch()
        done = project.scrape("run", "stalls", "-o", "out.jsonl", "--json", *arguments).expect(0)
    assert done.json["resumed"] is True
    items = [json.dumps(record) for record in json_lines(project.path("out.jsonl"))]
    assert len(items) == len(set(items)) == PAGES + 4
