"""A crawl without any framework: aiohttp, lexbor, a set and a queue. Nothing durable, no manners.

It is the floor that a Python framework is measured against. `python -m benchmarks.bare START OUT`
"""

from __future__ import annotations

import asyncio
import json
import sys
from urllib.parse import urldefrag, urljoin

import aiohttp
import uvloop
from selectolax.lexbor import LexborHTMLParser

WORKERS = 32


async def crawl(start: str, out: str) -> None:
    base = start.rpartition("/")[0] + "/"
    seen = {start}
    todo: asyncio.Queue[str] = asyncio.Queue()
    todo.put_nowait(start)
    connector = aiohttp.TCPConnector(limit=WORKERS)
    with open(out, "w") as file:
        async with aiohttp.ClientSession(connector=connector) as session:

            async def worker() -> None:
                while True:
                    url = await todo.get()
                    async with session.get(url) as response:
                        body = await response.read()
                    if response.status == 200:
                        tree = LexborHTMLParser(body)
                        anchors = tree.css("a[href]")
                        for anchor in anchors:
                            found = urldefrag(urljoin(url, anchor.attributes["href"] or ""))[0]
                            if (
                                found not in seen
                                and found.startswith(base)
                                and found.endswith(".html")
                            ):
                                seen.add(found)
                                todo.put_nowait(found)
                        title, head = tree.css_first("title"), tree.css_first("h1")
                        item = {
                            "url": url,
                            "title": " ".join(title.text().split()) if title else None,
                            "h1": " ".join(head.text().split()) if head else None,
                            "links": len(anchors),
                        }
                        file.write(json.dumps(item) + "\n")
                    todo.task_done()

            workers = [asyncio.create_task(worker()) for _ in range(WORKERS)]
            await todo.join()
            for each in workers:
                each.cancel()


if __name__ == "__main__":
    uvloop.run(crawl(sys.argv[1], sys.argv[2]))
