"""Every page below the start's directory: one item each, all links followed."""

from __future__ import annotations

from collections.abc import AsyncIterator

from scraper import Output, Request, Response, Spider


class Pages(Spider):
    """The benchmark's spider, written the way the documentation teaches it."""

    name = "pages"
    url: str

    async def start(self) -> AsyncIterator[Request]:
        yield Request(self.url)

    async def parse(self, response: Response) -> Output:
        base = self.url.rpartition("/")[0] + "/"
        for link in response.links():
            if link.startswith(base) and link.endswith(".html"):
                yield response.follow(link)
        title, head = response.css("title"), response.css("h1")
        yield {
            "url": response.url,
            "title": " ".join(title[0].text.split()) if title else None,
            "h1": " ".join(head[0].text.split()) if head else None,
            "links": len(response.css("a[href]")),
        }
