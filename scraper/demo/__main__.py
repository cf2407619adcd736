"""Shops for `scrape bench`: `python -m scraper.demo N` opens N, each on a free port.

Their addresses go to stdout, one a line, and then an empty line. They close when stdin does, so
that none outlives who opened them. Nothing in them waits or asks for a cookie: a crawl of them
measures the crawler.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

from scraper.demo.server import DemoShop


async def serve(count: int) -> None:
    """Serve *count* shops until stdin ends."""
    async with AsyncExitStack() as stack:
        for _ in range(count):
            shop = await stack.enter_async_context(DemoShop(outage=0, wall=False))
            sys.stdout.write(f"{shop.url}\n")
        sys.stdout.write("\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
