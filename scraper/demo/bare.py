"""A crawl without any framework: aiohttp, lexbor, a set and a queue. Nothing durable, no manners.

It is what a crawl in Python costs at least, and so the measure of what a framework adds. It knows
nothing of this one: `python -P scraper/demo/bare.py START OUT` runs it alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urljoin

import aiohttp
from selectolax.lexbor import LexborHTMLParser

__all__ = ["WORKERS", "crawl"]

WORKERS = 32


async def crawl(starts: list[str], out: Path) -> None:
    """Fetch every page below the directories of *starts*; write one line of JSON for each to *out*.

    A line has the page's URL, its title, its h1 and the number of its links.
    """
    bases = tuple(start.rpartition("/")[0] + "/" for start in starts)
    seen = set(starts)
    todo: asyncio.Queue[str] = asyncio.Queue()
    for start in starts:
        todo.put_nowait(start)
    connector = aiohttp.TCPConnector(limit=WORKERS)
    with out.open("w", encoding="utf-8") as file:
        async with aiohttp.ClientSession(connector=connector) as session:

            async def work() -> None:
                while True:
                    url = await todo.get()
                    async with session.get(url, allow_redirects=False) as response:
                        body = await response.read()
                    if response.status == 200:
                        tree = LexborHTMLParser(body)
                        anchors = tree.css("a[href]")
                        for anchor in anchors:
                            found = urldefrag(urljoin(url, anchor.attributes["href"] or ""))[0]
                            if (
                                found not in seen
                                and found.startswith(bases)
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

            workers = [asyncio.create_task(work()) for _ in range(WORKERS)]
            await todo.join()
            for each in workers:
                each.cancel()


if __name__ == "__main__":
    factory: Any = None
    with suppress(ImportError):  # Windows, other interpreters
        from uvloop import new_event_loop as factory
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(crawl(sys.argv[1:-1], Path(sys.argv[-1])))
