"""The same crawl in Crawlee for Python, with the settings that were found to be fastest.

`python -m benchmarks.with_crawlee START OUT`

Everything is kept in memory; no session pool, no statistics in the log; 32 at once from the first
second on. Pages are parsed with lexbor, and a set in front of Crawlee's own queue spares it what
was asked for before.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import timedelta
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import uvloop
from crawlee import ConcurrencySettings
from crawlee.crawlers import HttpCrawler, HttpCrawlingContext
from crawlee.storage_clients import MemoryStorageClient
from selectolax.lexbor import LexborHTMLParser

IN_FLIGHT = 32


async def crawl(start: str, out: Path) -> None:
    base = start.rpartition("/")[0] + "/"
    seen = {start}
    crawler = HttpCrawler(
        storage_client=MemoryStorageClient(),
        concurrency_settings=ConcurrencySettings(
            min_concurrency=IN_FLIGHT, max_concurrency=IN_FLIGHT, desired_concurrency=IN_FLIGHT
        ),
        use_session_pool=False,
        retry_on_blocked=False,
        max_request_retries=0,
        configure_logging=False,
        status_message_logging_interval=timedelta(days=1),
    )
    logging.getLogger("crawlee").setLevel(logging.ERROR)
    with out.open("w") as file:

        @crawler.router.default_handler
        async def handle(context: HttpCrawlingContext) -> None:
            url = context.request.url
            tree = LexborHTMLParser(await context.http_response.read())
            anchors = tree.css("a[href]")
            fresh = []
            for anchor in anchors:
                found = urldefrag(urljoin(url, anchor.attributes["href"] or ""))[0]
                if found not in seen and found.startswith(base) and found.endswith(".html"):
                    seen.add(found)
                    fresh.append(found)
            if fresh:
                await context.add_requests(fresh)
            title, head = tree.css_first("title"), tree.css_first("h1")
            item = {
                "url": url,
                "title": " ".join(title.text().split()) if title else None,
                "h1": " ".join(head.text().split()) if head else None,
                "links": len(anchors),
            }
            file.write(json.dumps(item) + "\n")

        await crawler.run([start])


if __name__ == "__main__":
    uvloop.run(crawl(sys.argv[1], Path(sys.argv[2])))
