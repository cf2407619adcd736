"""The contracts, and nothing else: what a plugin author reads first.

Each is small enough to implement in an afternoon; `scraper.testing` ships the suites that say
whether an implementation keeps its promise.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from scraper.http import Request, Response
from scraper.report import Snapshot
from scraper.work import Batch, Committed, HostLease, Recovery, Want

__all__ = [
    "Clock",
    "CrawlInfo",
    "Download",
    "Downloader",
    "Durable",
    "Fetch",
    "Frontier",
    "FrontierContext",
    "Middleware",
    "Observer",
    "Page",
    "Pipeline",
    "RedoSink",
    "Reopens",
    "RewindSink",
    "Shared",
    "Sink",
    "Timer",
]

Fetch = Callable[[Request], Awaitable[Response]]
"""Turns a request into a response, or raises `FetchError`."""

Middleware = Callable[[Request, Fetch], Awaitable[Response]]
"""Wraps a fetch: `async def (request, call_next) -> Response`. The one wrap shape there is."""


class Download(Protocol):
    """The way to files, for pipelines."""

    async def __call__(self, request: Request, into: Path, max_size: int, /) -> Response:
        """The answer to *request*; the body of a 2xx lies in the file *into*, never in memory.

        Passes robots.txt, the host's pace and the middleware like every request. Redirects are
        followed wherever they lead. What may pass is tried again, within `[retry]`. Returns a
        `SavedResponse`, or a `Response` for 304 and for what a middleware answered by itself.
        Raises `FetchError`: `http_<status>` for any other status, `body_too_large` beyond
        *max_size* bytes; `Throttled` when the host asks for quiet longer than `crawl.fetch_wait`.
        """


class Timer(Protocol):
    """A call that was put off."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Time, so that tests can hold it. Running timers are monotonic; stored dates are wall time.

    `wall` keeps step with `monotonic`: setting the system's clock does not move a running crawl.
    """

    def monotonic(self) -> float: ...
    def wall(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call back at monotonic time *when*."""


class Downloader(Protocol):
    """The way to the web. Follows no redirect: that is the frontier's business."""

    @property
    def sent(self) -> int:
        """Requests that went out, all told."""

    async def fetch(self, request: Request, *, fresh: bool = False) -> Response:
        """One exchange. Any status is a response; anything less raises `FetchError(reason)`.

        *fresh*: on a connection that no other exchange used before.
        """

    def cookies(self) -> bytes | None:
        """The cookie jars, to be stored with the next commit; None when nothing changed since."""

    def load_cookies(self, stored: bytes) -> None:
        """Put back what `cookies` gave."""

    async def aclose(self) -> None: ...


class Frontier(Protocol):
    """The ledger of a crawl: what is to do, what was seen, how far the outputs are valid.

    Hands out *hosts*, so that their holder enforces their pace. A host handed out stays with its
    holder until a `HostReturn`. Only committed requests are handed out, and their leases are
    durable before they are. All calls come from one task, one at a time.
    """

    async def open(self) -> Recovery:
        """Recover. Raises `DamagedState` if the store is not what was committed."""

    async def acquire(self, want: Want) -> list[HostLease]:
        """Hand out work, best hosts first: `commit(Batch(want=want)).leases`."""

    async def commit(self, batch: Batch) -> Committed:
        """Make a batch durable, all of it or nothing. Raises `OutOfResource` when disk is full."""

    @property
    def pending(self) -> int:
        """Requests that are not settled, leased ones included."""

    def next_due(self) -> float | None:
        """When work for hosts not handed out becomes due (wall clock; 0 = now).

        `inf`: what is unfinished is with its holder, or suspect. None: drained.
        """

    async def aclose(self, *, clean: bool = True) -> None:
        """Close. *clean*: leases go back uncharged, except of what may not repeat and was sent."""


@dataclass(frozen=True, slots=True)
class FrontierContext:
    """For whom a frontier is made: `spider` and `job` are names, `directory` is the job's own.

    The directory (mode 0700) is there, and locked against other processes of this machine, from
    the first `Durable.peek` on. For a frontier that is not `Durable` there is none. `wall`: the
    clock by which the crawl's dates go (`Clock.wall`), for comparing them.
    """

    spider: str
    job: str
    directory: Path
    wall: Callable[[], float] = field(default=time.time, compare=False)


@runtime_checkable
class Durable(Protocol):
    """What a frontier also has if its crawl outlives the process: then it belongs to a job.

    Called before `open`, each at most once, and they may block. `peek` first; then, if the crawl
    begins anew, `retire` or `set_aside`, after which `open` finds nothing.
    """

    def peek(self) -> Recovery | None:
        """What `open` would return now, changing nothing; None where nothing was committed.

        `state`, `counts`, `pending` and `claims` are what is read. Raises `DamagedState`.
        """

    def retire(self) -> object:
        """Let go of a crawl that is over; the last one may be kept for who wants to look."""

    def set_aside(self, reason: str) -> object:
        """Move an unfinished crawl out of the way (`--fresh`), damaged or not; delete nothing."""


@runtime_checkable
class Shared(Frontier, Durable, Protocol):
    """A frontier by which many workers, on any machines, share one crawl.

    Each `scrape run` is a *worker*. One of them is the *leader*: it alone pulls `start()`, and
    it alone writes what all of them put into `Batch.output`, in the order of their commits. Every
    method, and `Frontier.commit`, raises `GivenUp` once this worker is taken for dead: then
    nothing was done. `lead`, `entries` and `deliver` may run beside a commit.
    """

    @property
    def worker(self) -> str:
        """Names this process among all workers that there ever were; known once it is open."""

    async def begin(
        self, state: Mapping[str, bytes], claims: Mapping[str, array[int]]
    ) -> Mapping[str, bytes]:
        """Store these blobs and keys unless a worker has begun this crawl; all blobs stored then.

        Between `open` and the first commit. *state* has `job` and `phase` at least.
        """

    def hurry(self, seconds: float) -> None:
        """This worker shall end: wait for the store, should it be away, so many seconds at most.
        Then what waits raises `OutOfResource`."""

    async def lead(self) -> Recovery | None:
        """Become the leader, or stay it; what is stored now. None while another worker is it."""

    async def resign(self) -> None:
        """Let another worker be the leader. No error if this one is not."""

    async def entries(self, after: str, most: int, *, wait: bool = True) -> list[tuple[str, bytes]]:
        """What lies in the output behind the entry *after* ("": from the first that is kept), in
        order: (id, one element of `Batch.output`), up to *most* bytes, at least one.

        Waits a moment for one when there is none, if *wait*; [] then. For the leader.
        """

    async def deliver(self, batch: Batch, upto: str) -> Committed:
        """The leader's commit: *batch* has no pages and no seeds. Entries up to *upto* (an id; "":
        none) are delivered and let go. Raises `GivenUp` when another worker leads by now."""


@dataclass(frozen=True, slots=True)
class CrawlInfo:
    """What a pipeline may know of the crawl when it opens.

    `root`: the project's directory; relative output paths start there. `started`: ISO 8601 basic,
    fixed when the job was created. `job_dir`: the job's own directory, None without one.
    `resumed`: an earlier process of this run was here. `fetch`: `self.fetch` of the spider;
    `download`: to a file. Both work while the crawl runs. `version`: of the spider. `shared`:
    workers share it (see `Shared`): what is staged here is written by the one that leads, this one
    or another. Every worker opens every stage; a sink takes its output with `rewind`, not before.
    """

    spider: str
    arguments: Mapping[str, Any]
    started: str
    root: Path
    job_dir: Path | None = None
    resumed: bool = False
    fetch: Fetch | None = None
    download: Download | None = None
    version: str = ""
    shared: bool = False

    @property
    def run(self) -> str:
        """Names this run of this job, in whatever keeps records of several."""
        return f"{self.spider}/{self.job_dir.name if self.job_dir else '-'}/{self.started}"


class Page(Protocol):
    """The page an item came from, as a pipeline sees it."""

    @property
    def url(self) -> str: ...
    @property
    def request(self) -> Request: ...
    @property
    def response(self) -> Response | None: ...
    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the item came from: `scraper.pipelines.provenance` has the names."""

    def stage(self, sink: Sink, record: Any, size: int) -> None:
        """Keep *record* for *sink* until the page is committed. *size*: bytes, for the bounds."""

    def claim(self, stage: str, key: int) -> None:
        """Let the item go on only if no item committed before it claimed *key* (64 bits).

        Decided when the page is settled, in commit order: then a double counts as dropped, and
        what was staged for it after this call is forgotten. *stage* names the set of keys.
        """


class Pipeline(Protocol):
    """One stage of the chain. Derive from it, override what you need.

    Its TOML keys are its constructor's arguments, validated by their annotations. `process` must
    return the item (or another) or raise `Drop(reason)`. Side effects are at-least-once: a page
    that is fetched again after a crash passes the chain again. Only sinks are exactly-once.
    """

    async def open(self, crawl: CrawlInfo) -> None:
        """Called once per process, before the first page."""
        return  # a body: or type checkers take it for abstract

    async def process(self, item: Any, page: Page) -> Any:
        """Return the item for the next stage, or raise `Drop`."""
        return item

    async def aclose(self) -> None:
        """Called once, at the end, however the crawl ended."""
        return


@runtime_checkable
class Sink(Protocol):
    """A pipeline that delivers. `process` stages a record with its page; nothing is written then.

    Records are delivered by groups, in commit order, whatever is killed and whenever. How, says
    `recovery`: ``"rewind"`` (see `RewindSink`) or ``"redo"`` (see `RedoSink`). A sink may also have

    - `async committed(records)`: called after the group's commit, before the records are let go;
    - `async recall(position)`: called instead of `rewind` when the crawl was being published:
      what was committed, for `publish` to know; nothing is to be changed;
    - `async reopen(position, aside) -> position`: see `Reopens`;
    - `keeps_items = False`: it delivers something else than the items, which need an output of
      their own besides; `-o FILE` does not take its place.

    In a shared crawl (`CrawlInfo.shared`) a record is staged by one process and written by another,
    for which it must be bytes, or JSON. There a sink may also have

    - `fit(record) -> record`: called where it is to be written, in the order in which it is; for
      what depends on records before it. Raises `ItemInvalid` to have the item rejected;
    - `async place() -> str`: for what all workers must have in common besides: where it is.

    Every worker opens its sinks, for staging; the one that leads makes and opens others, to write.
    """

    recovery: Literal["rewind", "redo"]

    @property
    def key(self) -> str:
        """Identifies the sink within its job, the same in every process."""

    async def open(self, crawl: CrawlInfo) -> None:
        """See `Pipeline.open`. Finds out whether the output can be written; changes nothing."""

    async def process(self, item: Any, page: Page) -> Any: ...
    async def aclose(self) -> None: ...
    async def rewind(self, position: Any) -> None:
        """Make the output be what it was at *position* (None: empty). Called once, before records.

        Raises `DamagedState` when less is there than was committed.
        """

    async def publish(self) -> None:
        """The crawl is complete: put the output under its name. Idempotent, needs no `rewind`."""

    async def set_aside(self) -> None:
        """The crawl is not to be trusted, or is started anew: move the output out of the way."""

    def describe(self) -> dict[str, Any]:
        """For the summary: `path` (where the output is once published), `records` …"""


@runtime_checkable
class RewindSink(Sink, Protocol):
    """A sink whose output can be cut back to a position: files that only grow.

    The scheduler calls `write` before a group's commit, and stores what it returns in the pages'
    own transaction. On resume `rewind(position)` cuts whatever lies beyond.
    """

    async def write(self, records: Sequence[Any]) -> Any:
        """Append whole records durably; return the new position, a JSON value."""


@runtime_checkable
class RedoSink(Sink, Protocol):
    """A sink that applies a group by itself, at once and once: tables, remote targets.

    Its records must be bytes: they go into the pages' own transaction, and `apply` is called
    after it. On resume, what may not have been applied is applied again, after `rewind`, whose
    position is `{"records": how many were committed}`.
    """

    async def apply(self, group: int, records: Sequence[bytes]) -> None:
        """Deliver a group, all of it or nothing. Groups come in order; one that was delivered
        before, as the target itself remembers, is passed over.

        Raises `OutOfResource` for what may pass (a server that is away): the crawl ends resumably.
        """


@runtime_checkable
class Reopens(Protocol):
    """A sink that can go on after it was published, for `--retry`.

    It may also have

    - `async mark() -> position`: called after `publish` or `set_aside`; the position to be stored,
      with whatever tells this output from another that takes its place;
    - `async reopenable(position, aside)`: called before anything of a retry is begun, after
      `open`; raises `UsageError` when `reopen` would, and changes nothing.
    """

    async def reopen(self, position: Any, aside: Mapping[str, str]) -> Any:
        """Make the published output the working one again, as it was committed at *position*.

        The published one stays where it is until the next `publish`. *aside*: where files went
        that were set aside, by the path that they were to have. Idempotent; called after `open`
        and before `rewind`. Returns the position, which may be another. Raises `UsageError` when
        the output is not what was published.
        """


class Observer(Protocol):
    """Watches, never steers. Override what you need; all run on the loop and must be quick."""

    def on_open(
        self, crawl: CrawlInfo, recovery: Recovery, snapshot: Callable[[], Snapshot]
    ) -> None:
        """A process begins (or resumes) the crawl; *snapshot* tells how far it is, at any time."""
        return

    def on_response(self, request: Request, response: Response) -> None:
        """A page is about to reach its callback."""
        return

    def on_item(self, item: Any, page: Page) -> None:
        """An item reached the end of the chain; its page is not committed yet."""
        return

    def on_commit(self, batch: Batch, committed: Committed) -> None:
        """A group of pages is durable."""
        return

    def on_close(self, reason: str) -> None:
        """This process is done: `finished`, `limit`, `failed`, `broken` or `stopped`."""
        return
