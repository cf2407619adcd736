"""The two crawls of `scrape bench`: this framework's, and the bare loop's beside it.

Both follow every link to a page below the directories where they start, and write one line of
JSON a page: URL, title, h1 and number of links. Each is measured in a process of its own:
`python -m scraper.demo.crawls ours|bare OUT START…` prints seconds of CPU and of wall time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from scraper import Output, Request, Response, Spider, crawl
from scraper.api import run_coroutine
from scraper.demo import bare

__all__ = ["CRAWLS", "Pages", "ours"]


class Pages(Spider):
    """Every page below the directories of `starts`: one item each, all links followed."""

    name = "pages"
    starts: list[str]
    settings = {
        "crawl": {"max_depth": 0},
        "politeness": {
            "hosts": {"127.0.0.1": {"delay": 0, "per_host": bare.WORKERS, "adaptive": False}}
        },
    }

    async def start(self) -> AsyncIterator[Request]:
        """The first page of each directory."""
        for url in self.starts:
            yield Request(url)

    async def parse(self, response: Response) -> Output:
        """The item of a page, and its links."""
        bases = tuple(start.rpartition("/")[0] + "/" for start in self.starts)
        for link in response.links():
            if link.startswith(bases) and link.endswith(".html"):
                yield response.follow(link)
        title, head = response.css("title"), response.css("h1")
        yield {
            "url": response.url,
            "title": " ".join(title[0].text.split()) if title else None,
            "h1": " ".join(head[0].text.split()) if head else None,
            "links": len(response.css("a[href]")),
        }


async def ours(starts: list[str], out: Path) -> None:
    """A durable crawl: a job named like *out*, its ledger in the current directory."""
    await crawl(Pages, starts=starts, job=out.stem, output=out)


CRAWLS: dict[str, Callable[[list[str], Path], Coroutine[Any, Any, None]]] = {
    "ours": ours,
    "bare": bare.crawl,
}
"""The crawls by name: each takes where to start and the file to write."""


def measured(work: Coroutine[Any, Any, None]) -> dict[str, float]:
    """Seconds of CPU, of all threads and child processes, and of wall time that *work* takes."""
    began = time.perf_counter(), _cpu()
    run_coroutine(work)
    return {"wall": time.perf_counter() - began[0], "cpu": _cpu() - began[1]}


def _cpu() -> float:
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


if __name__ == "__main__":
    which, file, *urls = sys.argv[1:]
    sys.stdout.write(json.dumps(measured(CRAWLS[which](urls, Path(file)))))
