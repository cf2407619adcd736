"""A crawl without a network: an endless site in the process, and a ledger as full as one likes.

Everything is what a crawl is made of (engine, scheduler, admission, politeness, the durable
frontier, an output file) but the downloader, which answers at once. The site has a page for every
number. Page *n* of a crawl with *pending* pages in its queue was found long ago, and links to

- four pages that every page links to, and three that were found a moment ago;
- two that were found as long ago as itself;
- one that nobody has seen: so that the queue stays as long as it is.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

from scraper import Output, Request, Response, Spider, urls
from scraper.frontier.core import Changes
from scraper.frontier.sqlite import SqliteFrontier
from scraper.job import Job
from scraper.protocols import CrawlInfo, Downloader, Observer
from scraper.report import Snapshot
from scraper.session import Session, open_session
from scraper.work import Batch, Committed, Found, Recovery

__all__ = ["Endless", "Walk", "Watching", "crawling", "fill", "place"]

HEADERS = {"Content-Type": "text/html; charset=utf-8"}
JOB = "bench"
GROUP = 1000  # requests that are filled in at once
TEXT = "<p>" + "A small page of a large site, with about as much text as pages have. " * 16


@functools.lru_cache(maxsize=1 << 16)
def place(number: int, hosts: int) -> str:
    """The URL of page *number*: always the same one."""
    return (
        f"https://www{number % hosts}.example.com/catalogue/part-{number % 97}/page-{number}.html"
    )


class Endless:
    """A downloader that answers at once. *odd*: other bodies, by the last part of the URL's path.

    What lies on this machine goes to `real`, the crawl's own downloader.
    """

    def __init__(
        self,
        hosts: int,
        pending: int,
        odd: Mapping[str, bytes] | None = None,
    ) -> None:
        self.sent = 0
        self._hosts = hosts
        self._pending = pending
        self._odd = odd or {}
        self.real: Downloader | None = None

    async def fetch(self, request: Request, *, fresh: bool = False) -> Response:
        self.sent += 1
        url = request.url
        name = url.rpartition("/")[2]
        if self.real is not None and url.startswith("http://127."):
            return await self.real.fetch(request, fresh=fresh)
        await asyncio.sleep(0)  # as every answer comes by way of the loop
        if name == "robots.txt":
            return Response(url, 404, HEADERS, b"", request, elapsed=0.001)
        body = self._odd[name] if name in self._odd else self.page(int(name[5:-5]))
        return Response(url, 200, HEADERS, body, request, elapsed=0.001)

    def page(self, n: int) -> bytes:
        """1.6 KB with ten links."""
        first = n + self._pending
        linked = [0, 1, 2, 3, first - 3, first - 2, first - 1, max(n - 1, 0), n + 1, first]
        links = "".join(f'<a href="{place(m, self._hosts)}">page {m}</a>' for m in linked)
        return f"<title>{n}</title><h1>Page {n}</h1>{links}{TEXT}".encode()

    def cookies(self) -> bytes | None:
        return None

    def load_cookies(self, stored: bytes) -> None:
        """There are none."""

    async def aclose(self) -> None:
        if self.real is not None:
            await self.real.aclose()


class Walk(Spider):
    """All links, one item a page."""

    name = "walk"
    settings = {
        "crawl": {"max_depth": 0, "scope": "any"},
        "politeness": {"delay": 0, "per_host": 32, "adaptive": False},
    }

    async def start(self) -> AsyncIterator[Request]:
        yield Request(place(0, 1))

    async def parse(self, response: Response) -> Output:
        for link in response.links():
            yield response.follow(link)
        yield {"url": response.url, "title": response.css("title")[0].text}


class Watching(Observer):
    """Calls *told* with the number of pages settled so far, at each commit; True stops the crawl.

    `opened`: when the ledger was read and the crawl began, by `time.perf_counter`.
    """

    def __init__(self, told: Callable[[int], bool]) -> None:
        self.pages = 0
        self.opened = 0.0
        self.session: Session | None = None
        self._told = told

    def on_open(
        self, crawl: CrawlInfo, recovery: Recovery, snapshot: Callable[[], Snapshot]
    ) -> None:
        self.opened = time.perf_counter()

    def on_commit(self, batch: Batch, committed: Committed) -> None:
        self.pages += batch.counts["pages"]
        if self._told(self.pages) and self.session is not None:
            self.session.crawl.stop()


@contextmanager
def crawling(
    root: Path,
    downloader: Endless,
    watching: Watching,
    *,
    spider: type[Spider] = Walk,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Session]:
    """The crawl of the job in *root*, ready to run. Nothing is a stand-in but *downloader*."""
    told = logging.WARNING if (settings or {}).get("log.stall") else logging.ERROR
    logging.getLogger("scraper").setLevel(told)
    with open_session(
        spider,
        args={},
        settings=settings or {},
        config=root / "config.toml",
        job=JOB,
        observers=[watching],
        output=str(root / "out.jsonl"),
    ) as session:
        watching.session = session
        downloader.real = session.crawl.parts.downloader
        session.crawl.parts.downloader = downloader
        yield session


async def fill(root: Path, pending: int, seen: int, hosts: int) -> None:
    """Begin the job in *root*: *pending* pages wait, and *seen* others were crawled."""
    (root / "config.toml").write_text("")
    with crawling(root, Endless(hosts, pending), Watching(lambda _: True)) as session:
        await session.crawl.run()
    frontier = SqliteFrontier(Job(root, Walk.name, JOB).ledger)
    await frontier.open()
    try:
        for start in range(0, pending, GROUP):
            found = [_found(n, hosts) for n in range(start, min(start + GROUP, pending))]
            await frontier.commit(Batch(seeds=found))
        for start in range(0, seen, GROUP):
            await frontier._run(_remember, frontier, start, min(start + GROUP, seen))
    finally:
        await frontier.aclose()


def _found(number: int, hosts: int) -> Found:
    url = place(number, hosts)
    request = Request.of(url, "parse")
    return Found(request, urls.host_key(url), request.fingerprint, depth=3)


def _remember(frontier: SqliteFrontier, first: int, last: int) -> None:
    """Fingerprints of pages that are done."""
    digests = (blake2b(b"%d" % n, digest_size=8).digest() for n in range(first, last))
    numbers = array("Q", (int.from_bytes(digest, "big") for digest in digests))
    with frontier._transaction():
        frontier._write(Changes(fingerprints=numbers))
        frontier._write_head(clean=False)
