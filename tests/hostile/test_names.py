"""Names that do not exist, and name servers that fail, as the system's resolver tells it."""

from __future__ import annotations

import json
import os

import pytest

from tests.crawl.harness import Project, json_lines
from tests.hostile.names import NXDOMAIN, SERVFAIL, NameServer, resolving_by
from tests.servers.web import Web, html

SPIDER = """
from scraper import Output, Request, Response, Spider

class Names(Spider):
    name = "names"
    port: int

    async def start(self):
        for host in ("good.test", "nowhere.test", "failing.test"):
            yield Request(f"http://{host}:{self.port}/")

    async def parse(self, response: Response) -> Output:
        yield {"url": response.url}
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a process its own resolv.conf")
@pytest.mark.case(6, "a name that does not exist (NXDOMAIN)", "`dns`, no item, asked once")
@pytest.mark.case(
    6, "a name server that fails (SERVFAIL)", "`dns`, no item, asked again within the attempts"
)
def test_names_that_lead_nowhere(project: Project) -> None:
    names: dict[str, str | int] = {
        "good.test": "127.0.0.1",
        "nowhere.test": NXDOMAIN,
        "failing.test": SERVFAIL,
    }
    more = "[crawl]\nmax_failure_rate = 1.0\n"
    project.config(f"{more}[retry]\nattempts = 3\nbase = 0.01\n[politeness]\nrobots = false\n")
    project.spider(SPIDER)
    with NameServer("127.3.0.53", names) as server, Web(lambda _: html("here")) as web:
        place = project.scratch
        command = ("run", "names", "-a", f"port={web.port}", "-o", "out.jsonl", "--json")
        done = project.scrape(*command, preexec=resolving_by(server.address, place))
        assert done.expect(0).json["reasons"] == {"dns": 2}
        assert done.json["items"] == 1
        asked = {name: server.asked[name] for name in names}
    assert asked["nowhere.test"] == 1
    assert asked["failing.test"] >= 3  # the resolver itself may ask more than once
    failures = project.scrape("failures", "names", "--json").expect(0).out.splitlines()
    told = {f"http://{name}:{web.port}/": "dns" for name in ("nowhere.test", "failing.test")}
    assert {entry["url"]: entry["reason"] for entry in map(json.loads, failures)} == told
    assert [r["url"] for r in json_lines(project.path("out.jsonl"))] == [
        f"http://good.test:{web.port}/"
    ]
