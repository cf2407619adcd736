"""The store of downloaded files: the directory and its index, and how a group gets into both.

What touches the index or moves files runs in one thread, in order, so that a cancelled call never
overlaps the next. Downloads that just came in are read and synced by others: that takes time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

from aiofiles.os import wrap

from scraper.errors import DamagedState
from scraper.pipelines.fileindex import NAME, FileIndex, Row, Wish
from scraper.pipelines.filesystem import no_follow, sync_directory
from scraper.pipelines.filetree import FileTree, Move
from scraper.pipelines.mediatypes import HEAD
from scraper.pipelines.paths import output_error
from scraper.protocols import CrawlInfo

__all__ = ["Contents", "FileStore", "kept", "lost", "settled"]

P = ParamSpec("P")
T = TypeVar("T")

BLOCK = 1 << 17
READERS = 16
"""Downloads that are brought to the disk at the same time: they wait for it, and use no CPU."""


class Contents(NamedTuple):
    """What a download turned out to be."""

    sha256: str
    size: int
    head: bytes


# ── what is staged with a page ───────────────────────────────────────────────────────────


def settled(row: Row, name: str | None) -> bytes:
    """The record of a file that came in as *name*, or (None) was found to be as it was."""
    return _json({"row": row, "name": name})


def kept(row: Row) -> bytes:
    """The record of a file that was there already."""
    return _json({"kept": row.size})


def lost(reason: str) -> bytes:
    """The record of a file that did not come."""
    return _json({"lost": reason})


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )


# ── the store ────────────────────────────────────────────────────────────────────────────


class FileStore:
    """The directory *base*, for one process of *crawl*.

    `counts`: what the run has come to: `files` that items point to, and of these `downloaded`
    (`bytes` in all) and `kept`; `lost:REASON`.
    """

    def __init__(self, base: Path, crawl: CrawlInfo) -> None:
        self.base = base
        self.tree = FileTree(base, crawl)
        self.counts: Counter[str] = Counter()
        self._index = FileIndex(base / NAME)
        self._lasts = crawl.job_dir is not None
        self._run = crawl.run if self._lasts else f"{crawl.run}/{self.tree.place}"
        self._applied = 0
        self._expected = 0
        self._begun = False
        self._shared = crawl.shared
        self._joined = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="files")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="file")

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await wrap(work)(*args, executor=self._thread, **kwargs)
        except OSError as error:
            raise output_error(error, self.base) from error

    # ── opening

    async def open(self, folders: Iterable[str]) -> None:
        """Find out whether files can be put there; make the directory, and nothing in it."""

        def look() -> None:
            self.tree.check(folders)
            self._index.check()

        await self._in_thread(look)

    async def identity(self) -> str:
        """What tells this directory from those of other machines."""

        def ask() -> str:
            self._index.open()
            return self._index.identity()

        return await self._in_thread(ask)

    def _join(self) -> None:
        self._index.open()
        self.tree.join()
        self._joined = True

    async def rewind(self, group: int | None) -> None:
        """Be where the run was at *group*, the last that was committed; None: it begins."""
        await self._in_thread(self._begin, group)

    def _begin(self, group: int | None) -> None:
        self._index.open()
        self.tree.begin()
        if group is None and not self._shared:
            self._index.set_run(self._run, 0, Counter())
        self._expected = group or 0
        self._applied, self.counts = self._index.run(self._run)
        if self._applied > self._expected:
            raise DamagedState(
                f"{self._index.path} is ahead of the ledger (group {self._applied}, not"
                f" {self._expected})",
                hint="The ledger is an older copy: put the right one back, or start anew with"
                " --fresh.",
            )
        self._begun = True
        if self._applied >= self._expected:
            self.tree.clean()

    async def reopen(self, group: int) -> None:
        """Go on after the run was over: everything up to *group* was delivered."""

        def note() -> None:
            self._index.open()
            try:
                _, counts = self._index.run(self._run)
                self._index.set_run(self._run, group, counts)
            finally:
                self._index.close()

        await self._in_thread(note)

    async def check_ready(self) -> None:
        """Before a download. Raises `DamagedState` when less was delivered than was committed."""
        if self._shared and not self._joined:
            await self._in_thread(self._join)
        if self._begun or not self._shared:
            self.check_complete()

    def check_complete(self) -> None:
        """Raises `DamagedState` when less was delivered than was committed."""
        if not self._begun or self._applied < self._expected:
            raise DamagedState(
                f"{self._index.path} does not have all that was committed (group {self._applied}"
                f" of {self._expected})",
                hint="Put it back, or start anew with --fresh.",
            )

    # ── asking

    async def find(self, wish: Wish) -> Row | None:
        """What the index has for *wish*, if the file is there, too."""

        def look() -> Row | None:
            row = self._index.find(wish)
            return row if row is not None and self.tree.has(row.path, row.size) else None

        return await self._in_thread(look)

    async def path_of(self, folder: str, sha256: str) -> str | None:
        """Where that content lies, or lay."""
        return await self._in_thread(self._index.path_of, folder, sha256)

    async def take(self, path: Path, body: bytes | None = None) -> Contents:
        """Read a download that came in, and make it durable. *body*: it came another way."""
        try:
            return await wrap(_read)(path, body, executor=self._readers)
        except OSError as error:
            raise output_error(error, path) from error

    async def discard(self, path: Path) -> None:
        await self._in_thread(self.tree.discard, path)

    # ── delivering

    async def apply(self, group: int, records: Sequence[bytes]) -> Iterable[Row]:
        """Deliver a group, unless the index says that it was. Returns what is in its place now."""
        if group <= self._applied:
            return ()
        return await self._in_thread(self._apply, group, records)

    def _apply(self, group: int, records: Sequence[bytes]) -> Iterable[Row]:
        counts = self.counts.copy()
        rows: dict[Wish, Row] = {}
        moves: dict[str, Move] = {}
        for record in records:
            value = json.loads(record)
            if "lost" in value:
                counts[f"lost:{value['lost']}"] += 1
                continue
            counts["files"] += 1
            if "kept" in value:
                counts["kept"] += 1
                continue
            wish, *rest = value["row"]
            row = Row(Wish(*wish), *rest)
            if value["name"] is not None:
                moves[value["name"]] = Move(value["name"], row.path, row.size)
            known = rows.get(row.wish) or self._index.find(row.wish)
            if value["name"] is None or (known is not None and known.fetched == row.fetched):
                counts["kept"] += 1
            else:
                counts["downloaded"] += 1
                counts["bytes"] += row.size
            rows[row.wish] = row
        self.tree.settle(list(moves.values()))
        self._index.apply(self._run, group, list(rows.values()), counts)
        self._applied, self.counts = group, counts
        if group == self._expected:  # it was committed before a crash: now nothing waits any more
            self.tree.clean()
        return rows.values()

    # ── ending

    async def publish(self) -> None:
        """The run is over: nothing comes in any more. Idempotent."""

        def end() -> None:
            self.check_complete()
            self.tree.clean(everything=True)
            self._index.forget(self._run, others=self._lasts)

        await self._in_thread(end)

    async def set_aside(self) -> None:
        """The run is not to be trusted, or given up. What was delivered stays."""

        def end() -> None:
            if self._begun:
                self.tree.clean(everything=True)
            else:
                self.tree.put_aside()

        await self._in_thread(end)

    async def aclose(self) -> None:
        def close() -> None:
            self._index.close()
            self.tree.close()

        try:
            await self._in_thread(close)
        finally:
            self._thread.shutdown(wait=False)
            self._readers.shutdown(wait=False)


def _read(path: Path, body: bytes | None) -> Contents:
    if body is not None:
        with path.open("xb") as file:
            file.write(body)
    digest, head, size, buffer = hashlib.sha256(), b"", 0, bytearray(BLOCK)
    with open(path, "rb", buffering=0, opener=no_follow) as file:
        while count := file.readinto(buffer):
            head = head or bytes(buffer[:HEAD])[:count]
            digest.update(memoryview(buffer)[:count])
            size += count
        os.fsync(file.fileno())
    sync_directory(path.parent)
    return Contents(digest.hexdigest(), size, head)
