"""A crawl by rules is killed, its rules change, and it goes on: the output is the graph, once."""

from __future__ import annotations

import signal

from tests.crawl.harness import Project, judge
from tests.crawl.test_kill import complete, start
from tests.servers.graph import Graph
from tests.servers.web import Web

SPIDER = """
from scraper import CrawlSpider, Output, Request, Response, Rule

class Pages(CrawlSpider):
    name = "pages"
    base: str
    rules = [{rules}]

    async def start(self):
        yield Request(self.base + "/p/0")

    def parse_start(self, response):
        return self.item_of(response)

    async def parse_even(self, response: Response, kind: str) -> Output:
        assert kind == "even"
        yield self.item_of(response)

    def parse_odd(self, response: Response):
        yield self.item_of(response)

    def item_of(self, response):
        n = int(response.url.rpartition("/")[2])
        return {{"n": n, "title": response.css("h1::text").get()}}
"""

BEFORE = """
    Rule(allow="/p/[0-9]*[02468]$", callback="parse_even", follow=True, kwargs={"kind": "even"}),
    Rule(allow="/p/[0-9]+$", callback="parse_odd", follow=True),
"""
AFTER = 'Rule("li a", callback="parse_odd", follow=True)'


def test_rules_survive_a_kill_and_a_change(project: Project) -> None:
    graph = Graph(1500)
    with Web(graph) as web:
        for requests, rules in ((150, BEFORE), (300, BEFORE)):
            project.spider(SPIDER.format(rules=rules))
            web.forget_alarms()
            crawl = start(project, web)
            web.after(requests, crawl.kill, 0)
            assert crawl.wait().code == -signal.SIGKILL
        web.forget_alarms()
        project.spider(SPIDER.format(rules=AFTER))
        done = complete(project, web, graph)
        assert done.json["resumed"] is True
        judge(project.path("out.jsonl"), web, graph, kills=2)
