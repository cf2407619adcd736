"""What bombs cost a crawl in memory: its own peak, as the kernel counted it."""

from __future__ import annotations

import json

import pytest

from tests.crawl.harness import Project
from tests.hostile.wire import BOMBS, light
from tests.servers.web import Answer, Reply, Seen, Web, html, text

CAP = 32
"""MB: the default of http.max_body."""

SPIDER = """
import json
from scraper import Output, Request, Response, Spider
from tests.memory import peak

class Bombs(Spider):
    name = "bombs"
    base: str

    async def start(self):
        yield Request(self.base + "/ok/0", priority=2)
        for n in range(1, 20):
            yield Request(f"{self.base}/ok/{n}", priority=1)

    async def parse(self, response: Response) -> Output:
        if response.url.endswith("/ok/19"):
            self.before = peak()
            for link in response.links():
                yield response.follow(link)
        yield {"url": response.url}

    async def closed(self, reason: str) -> None:
        with open("peak.json", "w") as file:
            json.dump([self.before, peak()], file)
"""


def blown(project: Project, links: list[str], per_host: int) -> tuple[int, int]:
    """Peak MB before and after the bombs behind *links*, `per_host` of them at once."""

    def site(seen: Seen) -> Answer:
        kind, _, coding = seen.path[1:].partition("/")
        if kind == "bomb":
            coding = coding.partition("/")[0].replace("+", ", ")
            return Reply(light(coding), headers=[("Content-Encoding", coding)])
        if kind == "robots.txt":
            return text("", 404)
        return html("".join(f'<a href="{link}">x</a>' for link in links))

    project.config(
        "[crawl]\nmax_failure_rate = 1.0\n",
        local=f'[politeness.hosts."127.*"]\ndelay = 0\nadaptive = false\nper_host = {per_host}\n',
    )
    project.spider(SPIDER)
    with Web(site) as web:
        done = project.scrape("run", "bombs", "-a", f"base={web.url}", "--json", "-o", "o.jsonl")
        assert done.expect(0).json["reasons"] == {"body_too_large": len(links)}
        assert done.json["items"] == 20
    before, after = json.loads(project.path("peak.json").read_text())
    return before, after


@pytest.mark.parametrize(
    "coding",
    [
        pytest.param(
            coding,
            marks=pytest.mark.case(
                24,
                f"bombs as {coding}, of 100 MB, one at a time",
                "`body_too_large`; memory rises by twice the cap (`http.max_body`) at most",
            ),
        )
        for coding in BOMBS
    ],
)
def test_one_at_a_time(project: Project, coding: str) -> None:
    path = coding.replace(", ", "+")
    before, after = blown(project, [f"/bomb/{path}/{n}" for n in range(4)], 1)
    assert after - before <= 2 * CAP


@pytest.mark.case(24, "16 bombs at once", "`body_too_large`; the process stays below 600 MB")
def test_sixteen_at_once(project: Project) -> None:
    links = [f"/bomb/{c.replace(', ', '+')}/{n}" for c in BOMBS for n in range(5)]
    _, after = blown(project, links, 16)
    assert after <= 600
