"""Whose unfinished output a file is: the lock beside it.

An append file is cut back to a committed size when its job resumes. That is right only while
nobody else writes to it, so `FILE.lock` is held from a job's first write until its output is
published or set aside: `flock` keeps living crawls apart, the content keeps unfinished jobs apart
(two jobs of one spider share `data/{spider}.jsonl` as soon as their arguments differ).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scraper.errors import JobError
from scraper.protocols import CrawlInfo

__all__ = ["Claim", "Owner", "owner_of", "refuse_unfinished"]

_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}  # some network mounts


@dataclass(frozen=True, slots=True)
class Owner:
    """The crawl that an unfinished output belongs to, and which `output` of it that is.

    `job`: its directory, "" without one.
    """

    spider: str
    started: str
    job: str = ""
    output: str = ""

    @classmethod
    def of(cls, crawl: CrawlInfo, output: str = "") -> Owner:
        return cls(crawl.spider, crawl.started, str(crawl.job_dir or ""), output)

    def same(self, other: Owner) -> bool:
        """One job, even if the project was moved meanwhile. What has no job is never the same."""
        mine, others = (
            (owner.spider, owner.started, Path(owner.job).name) for owner in (self, other)
        )
        return mine == others and self.job != ""

    @property
    def aside(self) -> str:
        """The ending of what is moved out of its way; the date comes from a file: be careful."""
        return f"aside-{re.sub(r'[^A-Za-z0-9.+-]', '_', self.started)[:40]}"

    @property
    def resumable(self) -> bool:
        return bool(self.job) and Path(self.job).is_dir()


class Claim:
    """The lock file *path*. All methods block: call them in a thread.

    `owner`: the crawl that holds it. `holder`: whom the file named when it was taken, None when
    it named nobody. `resumed`: the owner's job wrote to it before. `base`: the size of an
    append-mode file before its owner's first record. `sealed`: the size of a file that its owner
    has ended, and will only publish.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.owner = Owner("", "")
        self.holder: Owner | None = None
        self.base: int | None = None
        self.sealed: int | None = None
        self._fd = -1
        self.resumed = False
        self._recorded = False

    @property
    def ours(self) -> bool:
        """What lies there is the owner's: recorded now, or by its job's last process."""
        same = self.holder is not None and self.holder.same(self.owner)
        return self._recorded or (same and self.resumed)

    @property
    def foreign(self) -> bool:
        """What lies there is another crawl's."""
        return self.holder is not None and not self.ours

    def take(self, owner: Owner, *, resumed: bool, own: bool = False) -> None:
        """Hold the lock while this process lives. Raises `JobError` when another one does.

        *resumed*: the owner's job goes on. A new one may carry the directory and, within one
        second, the date of the one it replaces: what that one left is not its own. *own*: what
        names the owner was recorded by this process.
        """
        self.owner, self.resumed = owner, resumed
        self._fd = self._locked()
        stored = _parse(os.pread(self._fd, 65536, 0))
        self.holder, self.base, self.sealed = stored if stored is not None else (None, None, None)
        self._recorded = own and self.holder == owner

    def look(self, owner: Owner) -> None:
        """See whom the file names, and leave it to others."""
        self.owner, self.holder = owner, owner_of(self.path)

    def _locked(self) -> int:
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(self.path, flags, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same_file(fd, self.path):
                    return fd
            except BlockingIOError:
                os.close(fd)
                raise JobError(
                    f"{self.path.with_suffix('')} is being written by another crawl",
                    hint="Wait for it to end, or choose another file: -o FILE. (Or do two pipelines"
                    " of this crawl mean the same file?)",
                ) from None
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    return fd
                os.close(fd)
                raise
            os.close(fd)  # its last holder removed it between our open and our lock: once more

    def record(self, base: int | None, *, sealed: int | None = None) -> None:
        """Write down, durably, that the output is the owner's from *base* on."""
        data = json.dumps(asdict(self.owner) | {"base": base, "sealed": sealed}).encode()
        # One write, which a kill does not part; JSON does not mind blanks after what was longer.
        os.pwrite(self._fd, data.ljust(os.fstat(self._fd).st_size), 0)
        os.fsync(self._fd)
        self.holder, self.base, self.sealed, self._recorded = self.owner, base, sealed, True

    def forget(self) -> None:
        """The output is nobody's any more: remove the file."""
        self.path.unlink(missing_ok=True)
        self.holder, self.base, self.sealed, self._recorded = None, None, None, False

    def release(self) -> None:
        """Let go. What was recorded stays for the owner's next process."""
        if self._fd < 0:
            return
        if self.holder is None and _same_file(self._fd, self.path):
            self.path.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = -1


def owner_of(lock: Path) -> Owner | None:
    """Whom the lock file names; None when it is not there or names nobody."""
    try:
        stored = _parse(lock.read_bytes())
    except OSError:
        return None
    return stored[0] if stored is not None else None


def refuse_unfinished(working: Path, holder: Owner | None, owner: Owner) -> None:
    """Raises `JobError` when *working* is what another, resumable crawl has left."""
    if holder is None or not holder.resumable or holder.job == owner.job or not working.exists():
        return
    lock = working.name.removesuffix(".partial") + ".lock"
    raise JobError(
        f"{working} belongs to a crawl of {holder.spider} that has not finished"
        f" (started {holder.started}, {holder.job})",
        hint="Finish that one first, choose another file for this one (-o FILE), or, to give that"
        f" one up, move {working.name} and {lock} away.",
    )


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def _parse(data: bytes) -> tuple[Owner, int | None, int | None] | None:
    """What `record` wrote; None for anything else: then nothing was written under it either."""
    try:
        stored: Any = json.loads(data)
        base, sealed = stored.pop("base"), stored.pop("sealed", None)
        owner = Owner(**{name: str(value) for name, value in stored.items()})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    fit = isinstance(base, int | None) and isinstance(sealed, int | None)
    return (owner, base, sealed) if fit else None
