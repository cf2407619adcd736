"""Workers that share a crawl are polite together: processes, a real Redis, the server's log."""

from __future__ import annotations

import json
from collections import Counter

from tests.crawl.harness import Project, addresses, json_lines
from tests.crawl.test_manners import LATE, peak
from tests.servers.redis import Redis
from tests.servers.web import Answer, Seen, Web, html, text

DELAY = 0.1

SPIDER = """
    import json
    from scraper import Request, Spider

    class Mixed(Spider):
        name = "mixed"
        sites: str
        api: str
        pages: int

        async def setup(self):
            await self.fetch(self.api + "/login")

        async def start(self):
            for n in range(self.pages):
                for site in json.loads(self.sites):
                    yield Request(f"{site}/p/{n}")

        async def parse(self, response):
            sites = json.loads(self.sites)
            here = next(n for n, site in enumerate(sites) if response.url.startswith(site + "/"))
            number = response.url.rpartition("/")[2]
            if int(number) % 3 == 0:
                await self.fetch(f"{sites[here - 1]}/of/{here}/{number}")
            await self.fetch(f"{self.api}/of/{here}/{number}")
            yield {"url": response.url}
"""


def test_by_the_server_s_log_three_workers_are_as_polite_as_one(
    project: Project, redis: Redis
) -> None:
    """They log in at one host, all ask it for something with each page, and their sites' pages
    ask the sites of the others."""

    def site(seen: Seen) -> Answer:
        if seen.path == "/robots.txt":
            return text("User-agent: *\nDisallow: /no\n")
        return html("<h1>x</h1>")

    pages = 4
    project.spider(SPIDER)
    project.config(
        f'[politeness.hosts."127.*"]\ndelay = {DELAY}\nper_host = 1\nadaptive = false\n', local=""
    )
    with Web(site, addresses(4)) as web:
        api, *sites = (web.base(address) for address in web.addresses)
        workers = [
            project.start(
                "run", "mixed", "-a", f"sites={json.dumps(sites)}", "-a", f"api={api}",
                "-a", f"pages={pages}", "-o", "out.jsonl", "--json",
                "-s", f"frontier.url={redis.url()}",
            )
            for _ in range(3)
        ]  # fmt: skip
        for worker in workers:
            assert worker.wait().expect(0).json["failed"] == 0
        for address in web.addresses:
            log = web.seen(host=address)
            assert peak(log) == 1
            assert log[-1].at - log[0].at >= (len(log) - 1) * DELAY - LATE
            counts = Counter(seen.path for seen in log)
            assert counts.pop("/robots.txt") == 1
            assert counts.pop("/login", 3) == 3
            assert set(counts.values()) == {1}
        urls = Counter(record["url"] for record in json_lines(project.path("out.jsonl")))
        assert urls == Counter(f"{site}/p/{n}" for site in sites for n in range(pages))
