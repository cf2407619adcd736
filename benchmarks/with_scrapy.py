"""The same crawl in Scrapy, in three ways: `python -m benchmarks.with_scrapy WAY START OUT`.

`ordinary`: code as its tutorial teaches it, and the settings as they come, but for what makes the
crawls comparable (32 in flight, no delay, a quiet log). `tuned`: the fastest settings that we
found, a set in front of its own filter, and its own selectors used as sparingly as possible.
`lexbor`: the same, with lexbor in place of its selectors.
"""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import urldefrag, urljoin

import scrapy
from scrapy.core.downloader.handlers._aiohttp import AiohttpDownloadHandler
from scrapy.crawler import CrawlerProcess
from selectolax.lexbor import LexborHTMLParser

COMPARABLE = {
    "CONCURRENT_REQUESTS": 32,
    "CONCURRENT_REQUESTS_PER_DOMAIN": 32,
    "DOWNLOAD_DELAY": 0,
    "LOG_LEVEL": "ERROR",
}
OFF = {
    "DOWNLOADER_MIDDLEWARES": (
        "downloadermiddlewares.httpauth.HttpAuthMiddleware",
        "downloadermiddlewares.downloadtimeout.DownloadTimeoutMiddleware",
        "downloadermiddlewares.defaultheaders.DefaultHeadersMiddleware",
        "downloadermiddlewares.useragent.UserAgentMiddleware",
        "downloadermiddlewares.redirect.MetaRefreshMiddleware",
        "downloadermiddlewares.redirect.RedirectMiddleware",
        "downloadermiddlewares.httpcompression.HttpCompressionMiddleware",
        "downloadermiddlewares.stats.DownloaderStats",
        "downloadermiddlewares.offsite.OffsiteMiddleware",
    ),
    "SPIDER_MIDDLEWARES": (
        "spidermiddlewares.referer.RefererMiddleware",
        "spidermiddlewares.urllength.UrlLengthMiddleware",
        "spidermiddlewares.depth.DepthMiddleware",
    ),
}
TUNED = {
    **COMPARABLE,
    "ROBOTSTXT_OBEY": False,
    "COOKIES_ENABLED": False,
    "RETRY_ENABLED": False,
    "TELNETCONSOLE_ENABLED": False,
    "LOGSTATS_INTERVAL": 0,
    "TWISTED_REACTOR": "twisted.internet.asyncioreactor.AsyncioSelectorReactor",
    "ASYNCIO_EVENT_LOOP": "uvloop.Loop",
    "HTTPPROXY_ENABLED": False,
    "DEPTH_PRIORITY": 0,
    "MEMUSAGE_ENABLED": False,
    "DOWNLOAD_HANDLERS": {"http": "benchmarks.with_scrapy.Aiohttp"},
    **{setting: {f"scrapy.{name}": None for name in names} for setting, names in OFF.items()},
}


class Aiohttp(AiohttpDownloadHandler):
    lazy = True  # made with the first request: at the start no loop runs yet


class Pages(scrapy.Spider):
    """Follows every page below the start's directory."""

    name = "pages"

    def __init__(self, start: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first = start
        self.base = start.rpartition("/")[0] + "/"

    async def start(self) -> Any:
        # unlike those of `start_urls`, this one is remembered, and so not fetched twice
        yield scrapy.Request(self.first)


class Ordinary(Pages):
    """As one writes it after reading the tutorial. Scrapy's own filter finds the duplicates."""

    def parse(self, response: Any, **kwargs: Any) -> Any:
        anchors = response.css("a[href]")
        for anchor in anchors:
            url = response.urljoin(anchor.attrib["href"]).partition("#")[0]
            if url.startswith(self.base) and url.endswith(".html"):
                yield response.follow(anchor, callback=self.parse)
        yield {
            "url": response.url,
            "title": _text(response.css("title")),
            "h1": _text(response.css("h1")),
            "links": len(anchors),
        }


class Tuned(Pages):
    """One expression for all links, and no request for what was asked for before."""

    def __init__(self, start: str, **kwargs: Any) -> None:
        super().__init__(start, **kwargs)
        self.seen = {start}

    def parse(self, response: Any, **kwargs: Any) -> Any:
        hrefs = response.xpath("//a/@href").getall()
        yield from self.requests(response.url, hrefs)
        yield {
            "url": response.url,
            "title": _text(response.xpath("(//title)[1]")),
            "h1": _text(response.xpath("(//h1)[1]")),
            "links": len(hrefs),
        }

    def requests(self, url: str, hrefs: list[str]) -> Any:
        """A request for each page that was not asked for before."""
        for href in dict.fromkeys(hrefs):
            found = urldefrag(urljoin(url, href))[0]
            if found not in self.seen and found.startswith(self.base) and found.endswith(".html"):
                self.seen.add(found)
                yield scrapy.Request(found, dont_filter=True)


class Lexbor(Tuned):
    """The same with lexbor, as the other contenders read pages."""

    def parse(self, response: Any, **kwargs: Any) -> Any:
        tree = LexborHTMLParser(response.body)
        hrefs = [anchor.attributes["href"] or "" for anchor in tree.css("a[href]")]
        yield from self.requests(response.url, hrefs)
        title, head = tree.css_first("title"), tree.css_first("h1")
        yield {
            "url": response.url,
            "title": " ".join(title.text().split()) if title else None,
            "h1": " ".join(head.text().split()) if head else None,
            "links": len(hrefs),
        }


def _text(found: Any) -> str | None:
    """The text of the first element, as the others read it."""
    return " ".join("".join(found[0].xpath(".//text()").getall()).split()) if found else None


WAYS = {"ordinary": (Ordinary, COMPARABLE), "tuned": (Tuned, TUNED), "lexbor": (Lexbor, TUNED)}

if __name__ == "__main__":
    way, first, out = sys.argv[1:]
    spider, settings = WAYS[way]
    process = CrawlerProcess({**settings, "FEEDS": {out: {"format": "jsonlines"}}})
    process.crawl(spider, start=first)
    process.start()
