"""Units of work: what travels between the scheduler, the workers and the frontier.

A `Lease` is one request on its way. However it goes, it ends in exactly one `Verdict`. What
settles together is a `Batch`, and a frontier makes a batch durable in one transaction.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scraper.errors import DamagedState
from scraper.http import Request

__all__ = [
    "Again",
    "Batch",
    "Committed",
    "Dead",
    "Done",
    "Found",
    "HostLease",
    "HostReturn",
    "Lease",
    "Recovery",
    "Redo",
    "Settled",
    "Verdict",
    "Want",
    "are_texts",
    "job_of",
    "names_of",
    "stored",
    "texts_of",
]


@dataclass(slots=True, eq=False)
class Lease:
    """A request that was handed out and is not settled yet.

    `id`: the frontier's. `host`: `urls.host_key`. `attempt`: tries charged before this one.
    `depth`: links from a start request. `start`: it came from `start()`. `alone`: it is suspected
    of taking the process down, so nothing else may run beside it. `earlier`: of a page that is
    retried, what came of it before (see `revisit.Earlier.dump`).
    """

    id: int
    host: str
    request: Request
    depth: int = 0
    attempt: int = 0
    start: bool = False
    alone: bool = False
    earlier: bytes = b""


@dataclass(slots=True)
class Found:
    """A request that passed the gates and asks to be admitted.

    `fingerprint`: its identity (unsigned 64 bits); None admits it without asking whether it was
    seen, and records nothing. `chain`: fingerprints of the redirects that led to it, empty for
    links; a target seen before is a `redirect_duplicate` unless it is one of these.
    `attempt` is carried over where a redirect continues a retried request, and so is `earlier`,
    which its lease will have.
    """

    request: Request
    host: str
    fingerprint: int | None
    depth: int = 0
    start: bool = False
    chain: tuple[int, ...] = ()
    attempt: int = 0
    earlier: bytes = b""


@dataclass(frozen=True, slots=True)
class Done:
    """The page is finished; what it yielded counts."""


@dataclass(frozen=True, slots=True)
class Again:
    """Not finished: due again at `at` (wall clock seconds; 0 = as soon as the host allows).

    `charged`: how many attempts were used up. Nothing the page yielded counts.
    """

    at: float
    reason: str
    charged: int = 1


@dataclass(frozen=True, slots=True)
class Dead:
    """Ended without success. Kept for `scrape failures` with its reason code and detail."""

    reason: str
    detail: str = ""


Verdict = Done | Again | Dead


@dataclass(slots=True)
class Settled:
    """One lease's end. `found`: what its callback (or errback, or redirect) asks to admit.

    `rejects`: its rejected items in brief (JSON, see `revisits.brief`), kept with the request for
    `scrape rejects`. `earlier`: what a retry must know of the page (None: what its lease had).
    """

    lease: Lease
    verdict: Verdict
    found: Sequence[Found] = ()
    rejects: str = ""
    earlier: bytes | None = None


@dataclass(slots=True)
class HostReturn:
    """A host given back: its saved `state` (JSON) and when it may next be asked for (wall clock).

    Leases of that host that were handed out and never settled go back to its queue, uncharged.
    In a shared crawl also: `quiet`: until when the host's other slots must rest (wall clock; 0:
    they need not); `robots`: what was learnt of its robots.txt, None when that is known already;
    `out`: the leases of that host, by id, that stay with this worker and will be settled by it:
    their pages are being worked on, and need the host no longer.
    """

    host: str
    state: bytes
    due: float = 0.0
    quiet: float = 0.0
    robots: bytes | None = None
    out: Sequence[int] = ()


@dataclass(slots=True)
class Want:
    """How much work the scheduler would like: `n` requests in all.

    `held`: hosts it already holds and has room to serve further. `alone`: nothing else is in
    flight, so a suspect may be handed out (by itself) when no other work is ready. In a shared
    crawl also: `hosts`: asked for by name, whether or not anything is queued for them, also with
    `n` = 0; until it is handed out, such a host goes to nobody who has not asked for it; `most`:
    hand out only while the pages done and the leases of all workers stay below it (0: no limit).
    """

    n: int
    held: Sequence[str] = ()
    alone: bool = False
    hosts: Sequence[str] = ()
    most: int = 0


@dataclass(frozen=True, slots=True)
class Redo:
    """A group's records for one sink that applies them itself, kept until it has.

    `group`: numbers rise within a job, from 1. `sink`: its key. `records`: as it staged them.
    """

    group: int
    sink: str
    records: Sequence[bytes]


@dataclass(slots=True)
class Batch:
    """Everything one transaction makes durable. All parts are optional.

    `seeds`: requests from `start()`. `sending`: ids of leases that may not repeat and are about
    to be sent. `positions`: per sink key, how far its output is valid. `redo`: records that are
    applied after the commit; `applied`: those of groups up to this one were, and are let go.
    `claims`: per deduplicating stage, the keys (unsigned 64 bits) of what is delivered. `counts`:
    increments to the crawl's counters. `state`: named blobs that changed (cookies, scope,
    phase …); latest wins. `output`: in a shared crawl, what the settled pages staged, encoded,
    for the leader. `want`: hand out more work in the same transaction.
    """

    settled: list[Settled] = field(default_factory=list)
    seeds: list[Found] = field(default_factory=list)
    returned: list[HostReturn] = field(default_factory=list)
    sending: list[int] = field(default_factory=list)
    positions: dict[str, Any] = field(default_factory=dict)
    redo: list[Redo] = field(default_factory=list)
    applied: int = 0
    claims: dict[str, array[int]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    state: dict[str, bytes] = field(default_factory=dict)
    output: list[bytes] = field(default_factory=list)
    want: Want | None = None


@dataclass(slots=True)
class HostLease:
    """A host handed out, with its saved state (None: never seen) and requests, best first.

    For a host in `Want.held` only `requests` matter. `robots`: in a shared crawl, what any worker
    last learnt of the host's robots.txt; None when nobody has.
    """

    host: str
    state: bytes | None
    requests: list[Lease]
    robots: bytes | None = None


@dataclass(slots=True)
class Committed:
    """What a commit did. `pending`: requests not settled yet, leased ones included.

    `admitted`: found and seed requests that were new; `duplicates`: those seen before, of which
    `redirect_duplicates` are the URLs that ended a redirect (each is counted by the frontier as
    `reason:redirect_duplicate`). `leases` answer `Batch.want`.

    Of a shared crawl also: `totals`: the counters of all workers together. `news`: blobs that
    others have stored since this worker's last commit, of those that concern everybody. `wished`:
    hosts held here that others are waiting for. `quiet`: hosts held here that must rest until then
    (wall clock), as another slot of theirs was told. `hungry`: other workers that have nothing to
    do, and got nothing when they asked; until they have, hosts that are free go to none that has.
    `ended`: a limit was reached: of the batch nothing was done, for what comes after the cut does
    not exist.
    """

    leases: list[HostLease]
    pending: int
    admitted: int = 0
    duplicates: int = 0
    redirect_duplicates: list[str] = field(default_factory=list)
    totals: Mapping[str, int] | None = None
    news: Mapping[str, bytes] = field(default_factory=dict)
    wished: Sequence[str] = ()
    quiet: Mapping[str, float] = field(default_factory=dict)
    hungry: int = 0
    ended: bool = False


@dataclass(slots=True)
class Recovery:
    """What a frontier held when it was opened.

    `fresh`: there was nothing. `positions`, `state`: as last committed. `redo`: committed records
    that may not be applied yet, in order. `claims`: every key claimed, by stage. `counts`: totals.
    `pending`: unfinished requests. `unclean`: the last process did not close it; then `suspects`
    is how many requests have crashed twice and will run alone, and `ended` lists
    (url, reason) of the requests that this very opening ended (`interrupted`, `crashed`).
    `others`: in a shared crawl, how many other workers are alive.
    """

    fresh: bool = True
    positions: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, bytes] = field(default_factory=dict)
    redo: Sequence[Redo] = ()
    claims: Mapping[str, Sequence[array[int]]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    pending: int = 0
    unclean: bool = False
    suspects: int = 0
    ended: list[tuple[str, str]] = field(default_factory=list)
    others: int = 0

    @property
    def phase(self) -> str:
        """`running`, `publishing`, `finished` …: what the crawl last stored under that name."""
        return self.state.get("phase", b"").decode("utf-8", "replace")


def stored(state: Mapping[str, bytes], name: str, fits: Callable[[Any], bool], wrong: str) -> Any:
    """The JSON in the blob *name*. Raises `DamagedState`, saying what is *wrong*, if it is none
    that *fits*."""
    try:
        found = json.loads(state[name])
    except (ValueError, RecursionError):
        pass
    else:
        if fits(found):
            return found
    raise DamagedState(
        wrong, hint="Run with --fresh to start anew; the old state is set aside, not deleted."
    )


def are_texts(found: Any) -> bool:
    """Whether a JSON value is a list of strings."""
    return isinstance(found, list) and all(isinstance(text, str) for text in found)


def texts_of(state: Mapping[str, bytes], name: str) -> list[str]:
    """The list of texts in the blob *name*, [] without it. Raises `DamagedState` for others."""
    found: list[str] = stored(state, name, are_texts, _foreign(name)) if name in state else []
    return found


def names_of(state: Mapping[str, bytes], name: str) -> dict[str, str]:
    """The texts by name in the blob *name*, {} without it. Raises `DamagedState` for others."""

    def fits(found: Any) -> bool:
        return isinstance(found, dict) and are_texts([*found.values()])

    found: dict[str, str] = stored(state, name, fits, _foreign(name)) if name in state else {}
    return found


def _foreign(name: str) -> str:
    return f"what the ledger says of {name} is not what was stored"


def job_of(state: Mapping[str, bytes]) -> dict[str, Any] | None:
    """The job that a ledger's blobs belong to (see `sameness.identity`); None when none has begun.

    Raises `DamagedState` for what no crawl has written.
    """
    if "job" not in state:
        return None

    def fits(found: Any) -> bool:
        return isinstance(found, dict) and isinstance(found.get("started"), str)

    job: dict[str, Any] = stored(state, "job", fits, "the ledger does not say what job it is")
    return job
