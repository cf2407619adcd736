"""Remote targets: outputs that go to a store that fsspec knows (`s3://`, `gs://`, `sftp://` …).

A sink writes its files on this machine as ever, and hands each over when it is published::

    target = Target.of(path, storage)            # None: *path* is of this machine
    there = target.place(crawl)                  # a CrawlInfo; relative paths start in its root
    local = resolve(target.template, there, …)
    await target.check(local)                    # before anything is fetched
    …                                            # write *local*, whole and durable
    await target.deliver(local)                  # in the store under its name, and gone from here
    await target.aclose()

`deliver` may be killed and called again; a name in the store never holds half a file. Whether a
file was delivered is told by the store, and by nothing else: `exists`.
"""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from aiofiles.os import wrap

from scraper.errors import ConfigError, OutOfResource, ScraperError, UsageError
from scraper.pipelines.filesystem import file_name, sync_directory
from scraper.pipelines.paths import output_error, placeholders
from scraper.pipelines.stores import (
    WHOLE_OBJECTS,
    connect,
    disconnect,
    is_writable,
    lasts,
    said,
    secrets,
)
from scraper.protocols import CrawlInfo
from scraper.urls import redact

__all__ = ["Target"]

P = ParamSpec("P")
T = TypeVar("T")

_VERSIONS = ("ETag", "etag", "md5Hash", "LastModified", "updated", "mtime", "created")
"""What stores tell of a file that is another once it was written again."""


class Target:
    """The store of an output, and where its files lie on this machine until they are delivered.

    *path*: a template, as sinks have them, with a scheme. *storage*: arguments of fsspec's file
    system for it (`endpoint_url`, `key_filename` …). For `sftp`, `known_hosts` is the file that
    must name the server's key, `~/.ssh/known_hosts` by default.

    `template`: what *path* is below the directory where files lie meanwhile; all methods take
    local paths there. All blocking work runs in one thread.
    """

    pauses: Sequence[float] = (1, 4, 15)
    """About how many seconds lie between the attempts to deliver."""

    def __init__(self, path: str, storage: Mapping[str, Any] | None = None) -> None:
        scheme, _, rest = path.partition("://")
        first, slash, self.template = rest.partition("/")
        self._scheme = scheme.lower()
        self._whole = self._scheme in WHOLE_OBJECTS
        if "{" in first and self._whole:  # the bucket's name is a part of the template
            first, slash, self.template = "", "", rest
        self._base = f"{scheme}://{first}{slash}"
        self._path = path
        self._storage = dict(storage or {})
        self._hidden = secrets(path, self._storage)
        self._fs: Any = None
        self._directory: Path | None = None
        self._kept = self._tidies = True
        self._suffix = ""
        self._stopped = threading.Event()
        self._thread: ThreadPoolExecutor | None = None
        self._check_path()

    @classmethod
    def of(cls, path: str, storage: Mapping[str, Any] | None = None) -> Target | None:
        """The target that *path* names; None when it is a path of this machine.

        Raises `ConfigError` for what can be neither.
        """
        if "://" in path:
            return cls(path, storage)
        if storage:
            raise ConfigError(
                f"storage: {path!r} is a file of this machine, and has no such options",
                hint='They go with a path such as "s3://bucket/{spider}.jsonl".',
            )
        return None

    def _check_path(self) -> None:
        placeholders(self._path)
        if not is_writable(self._scheme) or "::" in self._path:
            raise ConfigError(
                f"path = {self.shown!r}: nothing can be written there",
                hint="Use s3://, gs://, sftp:// or another store of fsspec that takes files.",
            )
        steps = self.template.split("/")
        odd = not all(step.strip(".") for step in steps) or self.template.startswith("~")
        if odd or "{" in self._base or {"?", "#"} & {*self._path}:
            raise ConfigError(
                f"path = {self.shown!r} names no file in a store",
                hint='As "s3://bucket/directory/{spider}.jsonl", without "..", "?" and "#".',
            )

    # ── where it lies

    @property
    def shown(self) -> str:
        """The template, fit for messages."""
        return redact(self._path)

    def place(self, crawl: CrawlInfo) -> CrawlInfo:
        """*crawl*, for paths: its root is where the files lie until they are delivered.

        Below the job's directory; without a job, in a temporary one. To be called first, and again
        after `aclose`.
        """
        self._stopped.clear()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="upload")
        if crawl.job_dir is not None:
            name = hashlib.sha256(self.shown.encode()).hexdigest()[:8]
            self._directory = crawl.job_dir / "outbox" / name
        else:
            made = tempfile.mkdtemp(prefix=f"{file_name(crawl.spider)}-")
            self._directory, self._kept = Path(made), False
        self._suffix = hashlib.sha256(str(self._directory).encode()).hexdigest()[:8]
        self._tidies = not crawl.shared  # another worker may have begun a file there
        return replace(crawl, root=self._directory)

    def name(self, local: Path) -> str:
        """The file's path below that root: the same when the job's directory was moved."""
        return local.relative_to(self._root).as_posix()

    def named(self, name: str) -> Path:
        """The file of that `name`."""
        return self._root / name

    @property
    def _root(self) -> Path:
        if self._directory is None:
            raise ScraperError(f"{self.shown} has no place yet")
        return self._directory

    def url(self, local: Path) -> str:
        """The file's address in the store, fit for messages."""
        return redact(self._address(local))

    def _address(self, local: Path) -> str:
        return self._base + self.name(local)

    def _key(self, local: Path) -> str:
        """The file's path as fsspec has it."""
        address = self._address(local)
        if self._scheme in {"sftp", "ssh"}:
            return urlsplit(address).path
        return str(self._store()._strip_protocol(address))

    def _store(self) -> Any:
        if self._fs is None:
            self._fs = connect(self._base, self._storage)
        return self._fs

    def _hang_up(self) -> None:
        """The next call connects anew: this connection may be broken, or will be hours old."""
        store, self._fs = self._fs, None
        with suppress(Exception):
            disconnect(store)

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await wrap(work)(*args, executor=self._thread, **kwargs)

    async def aclose(self) -> None:
        """Let go. What was not delivered stays."""
        self._stopped.set()
        try:
            if self._thread is not None:
                await self._in_thread(self._tidy)
        finally:
            if self._thread is not None:
                self._thread.shutdown(wait=False)

    def _tidy(self) -> None:
        """Hang up, and remove the directories that hold nothing."""
        self._hang_up()
        if self._directory is None or not self._tidies:
            return
        for folder, _, _ in os.walk(self._directory, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()
        if self._kept:
            with suppress(OSError):
                self._directory.parent.rmdir()

    # ── before anything is fetched

    async def check(self, local: Path) -> None:
        """Find out, lightly, whether *local* could be delivered. Creates nothing.

        Raises `UsageError` for a package that is missing, credentials that are refused and places
        that are not there, `OutOfResource` when the store does not answer.
        """
        await self._in_thread(self._check, local)

    def _check(self, local: Path) -> None:
        try:
            self._look(self._key(local))
        except ScraperError:
            raise
        except Exception as error:
            if lasts(error):
                raise UsageError(
                    f"{self.url(local)} cannot be written: {said(error, self._hidden)}",
                    hint="Check the address, and that the credentials may list, read and write.",
                ) from error
            raise OutOfResource(
                f"{self.url(local)} cannot be reached: {said(error, self._hidden)}",
                hint="Nothing was fetched. Run the same command again when it can.",
            ) from error
        finally:
            self._hang_up()

    def _look(self, key: str) -> None:
        store = self._store()
        try:
            if store.info(key)["type"] == "directory" and not self._whole:
                raise IsADirectoryError("it is a directory")
        except FileNotFoundError:
            pass
        if self._whole:
            bucket = key.partition("/")[0]
            if self._scheme in {"s3", "s3a"} and not store.exists(bucket):
                raise FileNotFoundError(f"there is no bucket {bucket}, or none to be seen")
            return
        folder = store._parent(key)
        while not store.exists(folder) and store._parent(folder) != folder:
            folder = store._parent(folder)
        if store.exists(folder) and not store.isdir(folder):
            raise NotADirectoryError(f"{folder} is no directory")

    # ── delivering

    async def deliver(self, local: Path) -> None:
        """Put *local* under its name in the store, whole, and remove it here. Idempotent.

        What may pass is tried again a few times. Raises `OutOfResource` when that did not help:
        *local* is kept, and publishing goes on when the crawl is run again.
        """
        await self._in_thread(self._deliver, local)

    def _deliver(self, local: Path) -> None:
        pauses = iter(self.pauses)
        while True:
            try:
                self._upload(local)
                break
            except ScraperError:
                raise
            except Exception as error:
                self._hang_up()
                pause = None if lasts(error) or self._stopped.is_set() else next(pauses, None)
                if pause is None:
                    raise OutOfResource(
                        f"{self.url(local)} cannot be delivered: {said(error, self._hidden)}",
                        hint=self._way_out(local),
                    ) from error
            self._stopped.wait(pause * random.uniform(0.5, 1.5))  # noqa: S311
        try:
            local.unlink()
            sync_directory(local.parent)
        except OSError as error:
            raise output_error(error, local) from error

    def _way_out(self, local: Path) -> str:
        if not self._kept:
            return f"The crawl keeps no state, but this it has left: {local}"
        return "Run again: nothing is fetched again, publishing goes on."

    def _upload(self, local: Path) -> None:
        self._tidies = True
        store, key = self._store(), self._key(local)
        if self._whole:
            store.put_file(str(local), key)
            return
        folder, _, name = key.rpartition("/")
        unfinished = f"{folder}/.{name}.{self._suffix}"
        store.makedirs(folder or "/", exist_ok=True)
        store.put_file(str(local), unfinished)
        store.invalidate_cache()
        found, size = store.info(unfinished)["size"], local.stat().st_size
        if found != size:
            raise OSError(f"{found:,} of {size:,} bytes have arrived")
        try:
            store.mv(unfinished, key)
        except FileExistsError:  # a store that moves nothing over what is there
            store.rm_file(key)
            store.mv(unfinished, key)

    # ── what was delivered

    async def exists(self, local: Path) -> bool:
        """Whether a file lies in the store under that name. Raises `OutOfResource`."""
        return await self.mark(local) is not None

    async def mark(self, local: Path) -> list[Any] | None:
        """What the file in the store is known by, as JSON; None when there is none.

        Its size, and what else the store tells that changes with it. Raises `OutOfResource`.
        """
        return await self._in_thread(self._asked, self._mark, local)

    async def require(self, local: Path, mark: Any) -> None:
        """Raises `UsageError` unless what lies there is what `mark` saw."""
        found = await self.mark(local)
        if found != mark:
            what = "is gone" if found is None else "is not what this crawl delivered"
            raise UsageError(
                f"{self.url(local)} {what}: it cannot add to it",
                hint="Put the output back as it was, or crawl anew: `scrape run`.",
            )

    def _mark(self, local: Path) -> list[Any] | None:
        store = self._store()
        store.invalidate_cache()
        try:
            info = store.info(self._key(local))
        except FileNotFoundError:
            return None
        told = next((str(info[name]) for name in _VERSIONS if info.get(name)), "")
        return [info["size"], told] if info["type"] == "file" else None

    async def remove(self, local: Path) -> None:
        """See that nothing lies in the store under that name. Raises `OutOfResource`."""
        await self._in_thread(self._asked, self._remove, local)

    def _remove(self, local: Path) -> None:
        if self._mark(local) is not None:
            self._store().rm_file(self._key(local))

    async def fetch(self, local: Path) -> bool:
        """Make *local* what lies in the store under that name; False when nothing does.

        Raises `OutOfResource`.
        """
        return await self._in_thread(self._asked, self._fetch, local)

    def _fetch(self, local: Path) -> bool:
        if self._mark(local) is None:
            return False
        unfinished = local.with_name(local.name + ".download")
        local.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._store().get_file(self._key(local), str(unfinished))
            unfinished.replace(local)
        finally:
            unfinished.unlink(missing_ok=True)
        return True

    def _asked(self, ask: Callable[[Path], T], local: Path) -> T:
        try:
            return ask(local)
        except ScraperError:
            raise
        except Exception as error:
            self._hang_up()
            raise OutOfResource(
                f"{self.url(local)} cannot be asked for: {said(error, self._hidden)}",
                hint="Run the same command again when it can.",
            ) from error
