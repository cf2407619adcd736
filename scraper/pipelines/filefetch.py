"""How a wish for a file is met: from what is known, from the index, or from the web.

Who wishes for a URL that is being fetched already waits for that. What came is remembered, so
that a picture on every page is asked for once; how much is remembered is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from scraper import urls
from scraper.errors import FetchError, Throttled
from scraper.errors import reason as reason_of
from scraper.http import Request, Response
from scraper.pipelines import filestore
from scraper.pipelines.fileindex import Row, Wish
from scraper.pipelines.filestore import FileStore
from scraper.pipelines.filesystem import file_name
from scraper.pipelines.mediatypes import extension, folder, matches, suggested_name, type_of
from scraper.protocols import Download
from scraper.saved import SavedResponse

__all__ = ["FileFetcher", "Found", "Terms"]

log = logging.getLogger("scraper.crawl")

REMEMBERED = 10_000
"""URLs whose outcome is remembered, and contents whose place is."""

NOT_MODIFIED = 304
LONGEST_URL = 65_536
TOLD = 3

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Terms:
    """Which files are taken, and how. `expires`: seconds; 0: what is there is not asked for again.
    `timeout`: seconds for one exchange."""

    types: tuple[str, ...]
    max_size: int
    expires: float
    timeout: float
    keep_names: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a wish: a file (`row`), or the reason why none did.

    `name`: what it came in as, when its page is perhaps not committed yet; `asked`: it was asked
    for just now, and had not changed.
    """

    wish: Wish
    row: Row | None = None
    name: str | None = None
    asked: bool = False
    reason: str | None = None

    @property
    def record(self) -> bytes:
        """What is staged with the item's page."""
        if self.row is None:
            return filestore.lost(self.reason or "")
        if self.name is None and not self.asked:
            return filestore.kept(self.row)
        return filestore.settled(self.row, self.name)


class FileFetcher:
    """Meets wishes; see `get`."""

    def __init__(self, store: FileStore, download: Download, terms: Terms) -> None:
        self._store = store
        self._download = download
        self._terms = terms
        self._running: dict[Wish, asyncio.Future[Found]] = {}
        self._known: _Memory[Wish, Found] = _Memory(REMEMBERED)
        self._places: _Memory[tuple[str, str], str] = _Memory(REMEMBERED)
        self._told: dict[str, int] = {}

    async def get(self, wish: Wish, request: Request) -> Found:
        """What comes of *wish*. Raises `Throttled`, when its host asks for quiet."""
        while True:
            if (known := self._known.get(wish)) is not None:
                return replace(known, asked=False)
            running = self._running.get(wish)
            if running is None:
                break
            await asyncio.wait([running])
            if not running.cancelled():  # else who fetched it is gone: somebody must
                return running.result()
        future = self._running[wish] = asyncio.get_running_loop().create_future()
        try:
            found = await self._meet(wish, request)
        except BaseException as error:
            if isinstance(error, Exception):
                future.set_exception(error)
                future.exception()  # it is raised here, too
            else:
                future.cancel()
            raise
        else:
            if found.row is not None or not reason_of(found.reason or "").retried:
                self._known.keep(wish, found)
            future.set_result(found)
            return found
        finally:
            del self._running[wish]

    def landed(self, rows: Iterable[Row]) -> None:
        """These are in their places: who wishes for them from now on need not see to that."""
        for row in rows:
            known = self._known.get(row.wish)
            if known is not None and known.row == row:
                self._known.keep(row.wish, Found(row.wish, row))

    async def _meet(self, wish: Wish, request: Request) -> Found:
        if not urls.is_web(request.url):
            return self._lost(wish, FetchError("url_invalid"))
        if len(request.url) > LONGEST_URL:
            return self._lost(wish, FetchError("url_too_long"))
        row = await self._store.find(wish)
        expires = self._terms.expires
        if row is not None and not 0 < expires < time.time() - row.fetched:
            return Found(wish, row)
        return await self._fetch(wish, request, row)

    async def _fetch(self, wish: Wish, request: Request, row: Row | None) -> Found:
        path = self._store.tree.new()
        request = request.replace(headers={**request.headers, **self._headers(row)})
        if request.timeout is None:
            request = request.replace(timeout=self._terms.timeout)
        try:
            response = await self._download(request, path, self._terms.max_size)
            if response.status == NOT_MODIFIED:
                if row is None:
                    raise FetchError("http_304", urls.redact(request.url))
                return Found(wish, row._replace(fetched=time.time()), asked=True)
            return await self._take(wish, response, path)
        except Throttled:
            raise
        except FetchError as error:
            await self._store.discard(path)
            if row is not None and reason_of(error.reason).retried:
                return Found(wish, row)  # it could not be asked for: what is there will do
            return self._lost(wish, error)

    def _headers(self, row: Row | None) -> Mapping[str, str]:
        types = self._terms.types
        headers = {"Accept": ", ".join([*types, "*/*;q=0.1"]) if types else "*/*"}
        if row is not None and row.etag:
            headers["If-None-Match"] = row.etag
        if row is not None and row.modified:
            headers["If-Modified-Since"] = row.modified
        return headers

    async def _take(self, wish: Wish, response: Response, path: Path) -> Found:
        """A body came: what is it, and where does it belong? Raises `FetchError`."""
        terms, store = self._terms, self._store
        saved = isinstance(response, SavedResponse)
        if not saved and len(response.body) > terms.max_size:
            raise FetchError("body_too_large", detail=f"{len(response.body):,} bytes")
        contents = await store.take(path, None if saved else response.body)
        if not contents.size:
            raise FetchError("file_empty")
        headers = response.headers
        kind = type_of(headers.get("Content-Type", ""), contents.head)
        if terms.types and not matches(kind, terms.types):
            raise FetchError("file_type", detail=kind)
        key = (wish.folder, contents.sha256)
        there = await store.path_of(*key)
        here = self._places.get(key)
        place = here or there or self._place(wish, contents.sha256, kind, response)
        self._places.keep(key, place)
        row = Row(
            wish,
            contents.sha256,
            place,
            contents.size,
            kind,
            time.time(),
            headers.get("ETag", "")[:1000],
            headers.get("Last-Modified", "")[:100],
        )
        return Found(wish, row, path.name)

    def _place(self, wish: Wish, sha256: str, kind: str, response: Response) -> str:
        """Where the first of that content goes."""
        ending = extension(kind, response.url)
        name = sha256
        if self._terms.keep_names:
            said = response.headers.get("Content-Disposition", "")
            name = f"{file_name(suggested_name(response.url, said))}-{sha256[:32]}"
        parts = [folder(kind, ending), sha256[:2], f"{name}.{ending}"]
        return "/".join([wish.folder, *parts] if wish.folder else parts)

    def _lost(self, wish: Wish, error: FetchError) -> Found:
        times = self._told[error.reason] = self._told.get(error.reason, 0) + 1
        level = logging.INFO if times <= TOLD else logging.DEBUG
        detail = f" ({error.detail})" if error.detail else ""
        log.log(level, "file: %s: %s%s", error.reason, urls.redact(wish.url)[:500], detail)
        return Found(wish, reason=error.reason)


class _Memory(Generic[K, V]):
    """A mapping that forgets what was not asked for lately, beyond *most* entries."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def keep(self, key: K, value: V) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)
