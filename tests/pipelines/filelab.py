"""A `Files` sink with its surroundings: a web of bodies, pages, and a ledger that remembers."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scraper.errors import FetchError
from scraper.http import Headers, Request, Response
from scraper.pipelines.files import Files
from scraper.pipelines.page import StagedPage, group_records
from scraper.protocols import CrawlInfo
from scraper.saved import SavedResponse
from scraper.testing.sinks import crawl_info

__all__ = ["PNG", "SHOP", "Lab", "Process", "Shelf", "picture", "sha"]

SHOP = "http://shop.example/"
PNG = b"\x89PNG\r\n\x1a\n"


def picture(number: int, size: int = 20) -> bytes:
    """A PNG, as far as its first bytes can tell; another for each number."""
    return PNG + str(number).encode().rjust(size, b".")


def sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@dataclass(slots=True)
class Shelf:
    """What a URL holds. `error`: it cannot be fetched. `memory`: a middleware answers by itself."""

    body: bytes = b""
    type: str = "image/png"
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    error: FetchError | None = None
    memory: bool = False


@dataclass(slots=True)
class Lab:
    """`web`: what there is, by URL. `asked`: every request. `committed`: what the ledger holds."""

    root: Path
    web: dict[str, Shelf] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)
    position: Any = None
    redo: list[tuple[int, list[bytes]]] = field(default_factory=list)
    delivered: list[Any] = field(default_factory=list)
    group: int = 0
    processes: int = 0

    def put(self, path: str, body: bytes, kind: str = "image/png", **headers: str) -> str:
        url = SHOP + path
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.web[url] = Shelf(body, kind, named)
        return url

    async def download(self, request: Request, into: Path, max_size: int) -> Response:
        self.asked.append(request)
        shelf = self.web.get(request.url, Shelf(error=FetchError("http_404")))
        if shelf.error is not None:
            raise shelf.error
        headers = Headers({"Content-Type": shelf.type, **shelf.headers})
        etag = shelf.headers.get("ETag")
        if etag and request.headers.get("If-None-Match") == etag:
            return Response(request.url, 304, headers, request=request)
        if shelf.memory:
            return Response(request.url, shelf.status, headers, shelf.body, request)
        if len(shelf.body) > max_size:
            raise FetchError("body_too_large")
        into.write_bytes(shelf.body)
        size = len(shelf.body)
        return SavedResponse(request.url, 200, headers, request, file=into, size=size, elapsed=0.1)

    @property
    def fetched(self) -> Counter[str]:
        """How often each path was asked for."""
        return Counter(request.url.removeprefix(SHOP) for request in self.asked)

    def crawl(self, **changes: Any) -> CrawlInfo:
        info = crawl_info(self.root, **changes)
        return replace(info, download=self.download, resumed=self.processes > 0)

    @contextlib.asynccontextmanager
    async def process(
        self, crawl: CrawlInfo | None = None, **options: Any
    ) -> AsyncIterator[Process]:
        """One process's life, from its recovery; it ends by a crash unless the body says more."""
        sink = Files(**{"fields": ["image"], **options})
        await sink.open(crawl or self.crawl())
        self.processes += 1
        try:
            await sink.rewind(self.position)
            for group, records in self.redo:
                await sink.apply(group, records)
            yield Process(self, sink)
        finally:
            await sink.aclose()

    async def run(self, *items: Any, **options: Any) -> list[Any]:
        """A process that takes these items, one a page, commits them together, and publishes."""
        async with self.process(**options) as process:
            done = [await process.item(item) for item in items]
            await process.commit()
            await process.sink.publish()
            return done

    def files(self, directory: str = "data/files") -> dict[str, bytes]:
        """What lies in the directory, and is no business of the sink alone."""
        base = self.root / directory
        return {
            path.relative_to(base).as_posix(): path.read_bytes()
            for path in sorted(base.rglob("*"))
            if path.is_file() and not path.relative_to(base).parts[0].startswith(".")
        }

    def left(self, directory: str = "data/files") -> list[str]:
        """What came in and waits."""
        incoming = self.root / directory / ".incoming"
        return sorted(path.name for path in incoming.rglob("*") if path.is_file())


@dataclass(slots=True)
class Process:
    lab: Lab
    sink: Files
    pages: list[StagedPage] = field(default_factory=list)
    done: list[Any] = field(default_factory=list)

    def page(self, url: str = SHOP + "page", **request: Any) -> StagedPage:
        asked = Request(url, **request)
        body = b"<!doctype html><p>"
        headers = {"Content-Type": "text/html"}
        page = StagedPage(asked, Response(url, 200, headers, body, asked))
        page.begin()
        return page

    async def item(self, item: Any, page: StagedPage | None = None) -> Any:
        """The item after the sink; its page waits for `commit`."""
        page = page or self.page()
        filled = await self.sink.process(item, page)
        self.pages.append(page)
        self.done.append(filled)
        return filled

    async def commit(self, *, apply: bool = True) -> None:
        """What the scheduler does; without *apply*, the process is killed before it."""
        lab = self.lab
        records = [bytes(r) for r in group_records(self.pages).get(self.sink, [])]
        lab.delivered += self.done
        self.pages, self.done = [], []
        if not records:
            return
        lab.group += 1
        count = (lab.position or {"records": 0})["records"] + len(records)
        lab.position = json.loads(json.dumps({"group": lab.group, "records": count}))
        lab.redo = [(lab.group, records)]
        if apply:
            await self.sink.apply(lab.group, records)
