"""Files: downloads what an item's fields point at, and says in the item where it lies.

::

    [[pipelines]]
    use = "files"
    fields = ["image", "manuals"]
    types = ["image/*", "application/pdf"]

Downloads come in beside the directory's files; when their pages are committed they are moved to
their places, and a crash in between is rolled forward. So in the directory lies what delivered
items point to, each content once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ByteSize

from scraper import urls
from scraper.errors import ConfigError, DamagedState, ScraperError
from scraper.http import Request
from scraper.pipelines.filefetch import FileFetcher, Found, Terms
from scraper.pipelines.filefields import Fields, File
from scraper.pipelines.fileindex import Wish
from scraper.pipelines.filestore import FileStore
from scraper.pipelines.filesystem import file_name
from scraper.pipelines.mediatypes import FOLDERS, is_pattern
from scraper.pipelines.paths import placeholders, require_directory, resolve
from scraper.protocols import CrawlInfo, Page

__all__ = ["File", "Files"]

log = logging.getLogger("scraper.crawl")

AT_ONCE = 4
"""Files of one item that are fetched at the same time."""

MAX_SIZE = ByteSize(50_000_000)
DAY = 86_400.0
SHOWN = 200  # characters of what is no URL at all


class Files:
    """Downloads the files that *fields* name, and puts what came into the field *into*.

    *fields*: each a URL, a list of URLs or None; `a.b` is field b of what a holds. Relative URLs
    resolve against the page. *into*: takes a list with one `File` for each URL; "" leaves the item
    as it is. *directory*: may hold `{spider}`, `{started}` and `{item}`.

    *types*: as `image/png` or `image/*`; none: all. *max_size*: bytes of one file. *expires*: days
    after which what is there is asked for again, 0: never. *timeout*: seconds for one download.
    *required*: an item whose file does not come is rejected. *keep_names*: files are called as
    where they came from, with the hash behind.
    """

    recovery: Literal["rewind", "redo"] = "redo"
    kind = "files"
    keeps_items: ClassVar[bool] = False
    """Items go on to an output of their own: `-o` does not stand in for this one."""

    def __init__(
        self,
        fields: list[str],
        directory: str = "data/files",
        into: str = "files",
        *,
        types: list[str] | None = None,
        max_size: ByteSize = MAX_SIZE,
        expires: float = 0,
        timeout: float = 300,
        required: bool = False,
        keep_names: bool = False,
    ) -> None:
        self.directory = str(directory)
        self.required = required
        self._fields = Fields(_checked(fields), into)
        self._terms = Terms(
            types=_patterns(types or []),
            max_size=_positive("max_size", int(max_size)),
            expires=_days(expires) * DAY,
            timeout=_positive("timeout", timeout),
            keep_names=keep_names,
        )
        self._where = Path(self.directory)
        self._root = Path()
        self._inner = ""  # what of the directory depends on the item
        self._items = 0
        self._shared = False
        self._store: FileStore | None = None
        self._fetcher: FileFetcher | None = None

    # ── the contract

    @property
    def key(self) -> str:
        """The resolved directory; until `open`, the template."""
        return str(self._where) if self._store is not None else self.directory

    @property
    def store(self) -> FileStore:
        if self._store is None:
            raise ScraperError(f"{self!r} is not open")
        return self._store

    async def open(self, crawl: CrawlInfo) -> None:
        template = self.directory.rstrip("/") or self.directory
        by_item = "item" in placeholders(template)
        self._where = resolve(template, crawl, {"item": "{item}"} if by_item else None)
        require_directory(self._where, crawl)
        self._root, self._shared = _normal(crawl.root), crawl.shared
        base, inner = _fixed(self._where)
        self._inner = inner
        store = FileStore(base, crawl)
        try:
            await store.open(() if inner else FOLDERS)
        except BaseException:
            await store.aclose()
            raise
        self._store = store
        if crawl.download is not None:
            self._fetcher = FileFetcher(store, crawl.download, self._terms)

    async def rewind(self, position: Any) -> None:
        await self.store.rewind(None if position is None else _group(self.key, position))

    async def place(self) -> str:
        """What tells the directory from another machine's: files come in by all workers of a
        shared crawl, and one of them moves them to their places."""
        return await self.store.identity()

    async def process(self, item: Any, page: Page) -> Any:
        await self.store.check_ready()
        self._items += 1
        wishes = self._wishes(item, page)
        found = await self._met(wishes)
        lost = next((each for each in found if each.reason is not None), None)
        if lost is not None and self.required:
            raise ScraperError(f"{lost.reason}: the file {_shown(lost.wish.url)}")
        filled = self._fields.filled(item, [self._result(each) for each in found])
        for each in found:
            record = each.record
            page.stage(self, record, len(record))
        return filled

    async def apply(self, group: int, records: Sequence[bytes]) -> None:
        rows = await self.store.apply(group, records)
        if self._fetcher is not None:
            self._fetcher.landed(rows)

    async def publish(self) -> None:
        """Nothing comes in any more; what was delivered is in its place already."""
        await self.store.publish()
        self._tell()

    async def reopen(self, position: Any, aside: Mapping[str, str]) -> Any:
        """Go on with the same directory; see `Reopens`."""
        if position is not None:
            await self.store.reopen(_group(self.key, position))
        return position

    async def set_aside(self) -> None:
        await self.store.set_aside()

    async def aclose(self) -> None:
        if self._store is not None:
            await self._store.aclose()

    def describe(self) -> dict[str, Any]:
        """`kind`, `path`, `records` (files that items point to), and of these `downloaded` (with
        `bytes`) and `kept`, which were there; `lost`: how many did not come, by reason; `live`:
        files are there group by group, and stay, however the crawl ends."""
        counts = self._store.counts if self._store is not None else {}
        lost = {name[5:]: n for name, n in sorted(counts.items()) if name.startswith("lost:")}
        numbers = {name: counts.get(name, 0) for name in ("downloaded", "kept", "bytes")}
        return {
            "kind": self.kind,
            "path": self.key,
            "records": counts.get("files", 0),
            **numbers,
            "lost": lost,
            "live": True,
        }

    def _tell(self) -> None:
        lost = self.describe()["lost"]
        if lost:
            listed = ", ".join(f"{reason} {n:,}" for reason, n in lost.items())
            log.warning("files: %s did not come: %s", f"{sum(lost.values()):,}", listed)
        unseen = [name for name in self._fields.names if name not in self._fields.seen]
        if self._items and unseen and not self._shared:
            log.warning("files: no item had the field %s", ", ".join(unseen))

    # ── one item

    def _wishes(self, item: Any, page: Page) -> dict[Wish, Request]:
        folder = self._inner.replace("{item}", file_name(type(item).__name__))
        options = page.request.options
        wishes: dict[Wish, Request] = {}
        for text in self._fields.urls(item):
            if page.response is not None:
                url = page.response.urljoin(text)
            else:
                url = urls.parse(text, page.url) or text
            url = urls.without_fragment(url)
            request = Request(url, session=options.session, proxy=options.proxy)
            wishes.setdefault(Wish(folder, options.session or "", request.url), request)
        return wishes

    async def _met(self, wishes: Mapping[Wish, Request]) -> list[Found]:
        fetcher = self._fetcher
        if fetcher is None:
            raise ConfigError("files: this crawl has no way to download anything")
        if len(wishes) < 2:
            return [await fetcher.get(*wish) for wish in wishes.items()]
        places = asyncio.Semaphore(AT_ONCE)

        async def get(wish: Wish, request: Request) -> Found:
            async with places:
                return await fetcher.get(wish, request)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(get(*wish)) for wish in wishes.items()]
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        return [task.result() for task in tasks]

    def _result(self, found: Found) -> dict[str, Any]:
        row = found.row
        if row is None:
            return File(url=_shown(found.wish.url), error=found.reason).model_dump()
        path = self.store.base / row.path
        if path.is_relative_to(self._root):
            path = path.relative_to(self._root)
        return File(
            url=found.wish.url, path=path.as_posix(), checksum=row.sha256, size=row.size,
            type=row.type,
        ).model_dump()  # fmt: skip

    def __repr__(self) -> str:
        return f"<Files {self.key}>"


def _checked(fields: list[str]) -> list[str]:
    if not fields or not all(all(name.split(".")) for name in fields):
        raise ConfigError(
            f"fields = {fields!r}: name the fields that hold URLs", hint='fields = ["image"]'
        )
    return fields


def _patterns(types: list[str]) -> tuple[str, ...]:
    for kind in types:
        if not is_pattern(kind):
            raise ConfigError(
                f"types: {kind!r} is no type", hint='types = ["image/*", "application/pdf"]'
            )
    return tuple(types)


def _positive(name: str, value: Any) -> Any:
    if not value > 0 or math.isinf(value):
        raise ConfigError(f"{name} = {value!r}: it must be more than 0")
    return value


def _days(expires: float) -> float:
    if not 0 <= expires < math.inf:
        raise ConfigError(f"expires = {expires!r}: days, 0 or more; 0: never")
    return expires


def _normal(path: Path) -> Path:
    return Path(os.path.normpath(path))


def _fixed(path: Path) -> tuple[Path, str]:
    """The part of *path* that is the same for all items, and the rest."""
    parts = path.parts
    place = next((n for n, part in enumerate(parts) if "{item}" in part), len(parts))
    return Path(*parts[:place]), "/".join(parts[place:])


def _group(key: str, position: Any) -> int:
    try:
        return int(position["group"])
    except (TypeError, KeyError, ValueError, OverflowError):
        raise DamagedState(f"{key}: {position!r} is not a position of it") from None


def _shown(url: str) -> str:
    return url if urls.is_web(url) else f"{url[:SHOWN]}…" if len(url) > SHOWN else url


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended a task group, out of its wrapping."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
