"""What the wire alone costs: aiohttp fetches the URLs that it is given, and looks at nothing.

`python benchmarks/fetching.py URLS OUT`: one URL a line in *URLS*; *OUT* gets how many there were.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import aiohttp
import uvloop

IN_FLIGHT = 32


async def fetch(urls: list[str]) -> int:
    """Fetch them all; returns how many answered with 200."""
    todo = iter(urls)
    found = 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT)) as session:

        async def work() -> None:
            nonlocal found
            for url in todo:
                async with session.get(url) as response:
                    await response.read()
                    found += response.status == 200

        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return found


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(str(uvloop.run(fetch(Path(sys.argv[1]).read_text().split()))))
