"""What makes two URLs one page, and what is no URL: as whole crawls."""

from __future__ import annotations

import pytest

from tests.crawl.harness import Project, json_lines
from tests.servers.web import Answer, Seen, Web, html, text

SPIDER = """
from scraper import Output, Request, Response, Spider

class Site(Spider):
    name = "site"
    base: str

    async def start(self):
        yield Request(self.base + "/")

    async def parse(self, response: Response) -> Output:
        for href in response.css("a::attr(href)").getall():
            yield response.follow(href)
        yield {"url": response.url}
"""

SAME = ["/a%7Eb", "/a~b", "/a~b#part", "/x/../a~b", "/?", "/?b=1&a=2", "/?a=2&b=1"]
APART = ["/c%2Fd", "/c/d", "/e", "/e/", "/f?a", "/f?a="]
NONE = ["http://127.0.0.1:99999/", "http://[::1/", "http://a b/", "//"]


@pytest.mark.case(
    68,
    "`%7E` and `~`, fragments, dot segments, parameters in another order",
    "one page, fetched once",
)
@pytest.mark.case(68, "`%2F` and `/`, with and without a last `/`, `?a` and `?a=`", "pages apart")
@pytest.mark.case(
    68, "links to port 99999, to `http://[::1/`, to `http://a b/`", "`url_invalid`, asked of nobody"
)
def test_which_urls_are_one(project: Project) -> None:
    links = "".join(f'<a href="{href}">x</a>' for href in (*SAME, *APART, *NONE))

    def site(seen: Seen) -> Answer:
        return text("", 404) if seen.path == "/robots.txt" else html(links)

    project.config("[crawl]\nmax_failure_rate = 1.0\n")
    project.spider(SPIDER)
    with Web(site) as web:
        done = project.scrape("run", "site", "-a", f"base={web.url}", "-o", "out.jsonl", "--json")
        assert done.expect(0).json["reasons"] == {"url_invalid": len(NONE)}
        counts = web.counts()
        del counts["/robots.txt"]
        asked = dict.fromkeys(("/", "/a%7Eb", "/?b=1&a=2", *APART), 1)
        assert counts == asked
        assert len(json_lines(project.path("out.jsonl"))) == len(asked)
