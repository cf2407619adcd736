"""A batch as the arguments of `lua/commit.lua`, section by section."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol

from scraper.frontier.core import asking, at_rest, check
from scraper.frontier.hosts import clip
from scraper.frontier.redis_codec import (
    MAX_ENTRY,
    MAX_OUTPUT,
    MAX_ROBOTS,
    SIGNED,
    WHOLE,
    Held,
    Recent,
    host_of,
    milliseconds,
    output_arguments,
    state_arguments,
    utf8,
)
from scraper.work import Again, Batch, Dead, Found, Settled

__all__ = ["Commit"]


class Known(Protocol):
    """What a worker has: leases by id, and by slot which of them are there; what was seen lately;
    the last id that it gave to a request."""

    leases: dict[int, Held]
    hosts: dict[str, set[int]]
    recent: Recent
    last_id: int


@dataclass(slots=True)
class Group:
    """Requests for one slot, of one priority, that are asked about alike (see `commit.lua`)."""

    slot: str
    priority: int
    kind: str
    arguments: list[Any] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    n: int = 0


class Commit:
    """A batch as the arguments of `commit.lua`, and what its answer then means.

    Raises `ValueError` for a batch that contradicts the leases, and what `Request.dump` raises.
    *worker*: whose it is; *known*: what that has. *now*: by the clock that the batch's dates go by.
    """

    def __init__(self, batch: Batch, worker: str, known: Known, now: float) -> None:
        self.worker = worker
        self._batch = batch
        self._leases = known.leases
        self._hosts = known.hosts
        self._now = now
        self.fingerprints: list[int] = []
        self.duplicates = 0
        self.redirects: list[str] = []
        self.oversized: list[str] = []
        self._refused: Counter[str] = Counter()
        self.settled: list[int] = []
        self.unused: list[int] = []
        self._check()
        self._failures: list[bytes] = []
        ends = self._ends()
        groups = self._groups(known)
        output = self._output()
        self.arguments: list[Any] = [
            *ends,
            len(self._failures),
            *self._failures,
            *self._rejects(),
            len(groups),
        ]
        for group in groups:
            self.arguments += (group.slot, group.priority, group.kind, group.n)
            self.arguments += group.arguments
        self.arguments += (len(batch.sending), *batch.sending)
        self.arguments += self._returned()
        self.arguments += output_arguments(batch, self._counts())
        self.arguments += state_arguments(batch.state, worker)
        self.arguments += (len(output), *output)

    def _check(self) -> None:
        """Contradictions are mistakes of the caller: find them while nothing has changed."""
        batch = self._batch
        check(batch, self._leases, self._hosts.__contains__)
        if len({given.host for given in batch.returned}) != len(batch.returned):
            raise ValueError("a host is returned twice in one batch")
        self.settled = [settled.lease.id for settled in batch.settled]

    # The sections, in order ---------------------------------------------------------------------

    def _ends(self) -> list[Any]:
        """What was settled: ids, those that were being sent, what is due again, what is dead."""
        sent: list[int] = []
        again: list[Any] = []
        for settled in self._batch.settled:
            held, verdict = self._leases[settled.lease.id], settled.verdict
            if held.sending:
                sent.append(settled.lease.id)
            if isinstance(verdict, Again):
                again += self._again(settled.lease.id, held, verdict)
            elif isinstance(verdict, Dead):
                self._failures.append(_failure(settled, held, verdict))
        return [
            len(self.settled), *self.settled, len(sent), *sent, len(again) // 3, *again
        ]  # fmt: skip

    def _again(self, lease_id: int, held: Held, verdict: Again) -> tuple[str, int, bytes]:
        """A request that survived is no suspect any more: its crashes are forgotten."""
        attempt = held.attempt + verdict.charged
        head = f"{lease_id} {held.depth} {attempt} {held.start} 0 {held.priority}\n"
        delay = max(milliseconds(verdict.at - self._now), 0)
        return held.slot, delay, head.encode() + held.payload

    def _rejects(self) -> list[Any]:
        rejects = []
        for settled in self._batch.settled:
            if settled.rejects and not isinstance(settled.verdict, Again):
                held = self._leases[settled.lease.id]
                failed = int(isinstance(settled.verdict, Dead))
                head = f"{settled.lease.id} {failed} {held.depth} {held.start}\n{settled.rejects}\n"
                rejects.append(utf8(head) + _payload(settled, held))
        return [len(rejects), *rejects]

    def _groups(self, known: Known) -> list[Group]:
        groups: dict[tuple[str, int, str], Group] = {}
        heads: dict[tuple[int, int, bool, int], bytes] = {}
        numbers = self.fingerprints
        here: set[int] = set()
        next_id = known.last_id
        for found in asking(self._batch):
            number, chain = found.fingerprint, found.chain
            if number is None:
                kind = "any"
            elif not chain:
                if number in here or number in known.recent:
                    self.duplicates += 1
                    continue
                here.add(number)
                kind = "link"
            else:
                kind = "own" if number in chain else "redirect"
            payload = at_rest(found.request, found.earlier)
            if len(payload) > MAX_ENTRY:
                self._refuse(found, len(payload))
                continue
            priority = clip(found.request.options.priority)
            key = (found.host, priority, kind)
            group = groups.get(key)
            if group is None:
                group = groups[key] = Group(*key)
            told = (found.depth, found.attempt, found.start, priority)
            head = heads.get(told)
            if head is None:
                head = heads[told] = b" %d %d %d 0 %d\n" % told
            next_id += 1
            group.n += 1
            group.arguments.append(b"%d%b%b" % (next_id, head, payload))
            if number is None:
                continue
            if kind == "redirect":
                group.urls.append(found.request.url)
            group.arguments.append(number - WHOLE if number >= SIGNED else number)
            numbers.append(number)
        known.last_id = next_id  # never used again, whatever becomes of this
        # Redirects are numbered in the order in which the script meets them.
        self.redirects = [url for group in groups.values() for url in group.urls]
        return list(groups.values())

    def _refuse(self, found: Found, size: int) -> None:
        """A request that is too large to be stored: it is counted and named."""
        url = found.request.url[:2000]
        self.oversized.append(url)
        self._refused["reason:request_too_large"] += 1
        detail = f"{size:,} bytes to store, more than {MAX_ENTRY:,}"
        payload = json.dumps({"url": url}).encode()
        head = f"0 {found.depth} {found.attempt} {int(found.start)} request_too_large\n"
        self._failures.append(head.encode() + utf8(json.dumps(detail)) + b"\n" + payload)

    def _returned(self) -> list[Any]:
        """Leases that were not used, hosts, pauses, robots.txt."""
        batch = self._batch
        kept = {*self.settled, *batch.sending}
        kept.update(lease_id for given in batch.returned for lease_id in given.out)
        returned: list[Any] = []
        quiet: list[Any] = []
        robots: list[Any] = []
        for given in batch.returned:
            self.unused += (
                lease_id
                for lease_id in self._hosts[given.host]
                if lease_id not in kept and not self._leases[lease_id].sending
            )
            returned += (given.host, self._delay(given.due), given.state)
            host = host_of(given.host)
            if (pause := self._delay(given.quiet)) > 0:
                quiet += (host, pause)
            if given.robots is not None and len(given.robots) <= MAX_ROBOTS:
                robots += (host, given.robots)
        self.unused.sort(reverse=True)
        return [
            len(self.unused), *self.unused,
            len(batch.returned), *returned,
            len(quiet) // 2, *quiet,
            len(robots), *robots,
        ]  # fmt: skip

    def _counts(self) -> Counter[str]:
        counts = Counter(self._batch.counts)  # not `+`, which drops what is not positive
        counts.update(self._refused)
        return counts

    def _delay(self, date: float) -> int:
        return max(milliseconds(date - self._now), 0)

    def _output(self) -> list[bytes]:
        """What others deliver. The largest of it nobody could: it is counted and named."""
        kept = []
        for data in self._batch.output:
            if len(data) <= MAX_OUTPUT:
                kept.append(data)
                continue
            detail = f"{len(data):,} bytes of items of one page, more than {MAX_OUTPUT:,}"
            self.oversized.append(detail)
            self._refused["reason:output_too_large"] += 1
            head = b"0 0 0 0 output_too_large\n"
            self._failures.append(head + utf8(json.dumps(detail)) + b'\n{"url":""}')
        return kept


def _payload(settled: Settled, held: Held) -> bytes:
    if settled.earlier is None:
        return held.payload
    return at_rest(settled.lease.request, settled.earlier)


def _failure(settled: Settled, held: Held, verdict: Dead) -> bytes:
    head = f"{settled.lease.id} {held.depth} {held.attempt} {held.start} {verdict.reason}\n"
    detail = json.dumps(verdict.detail) if verdict.detail else ""
    return head.encode() + detail.encode() + b"\n" + _payload(settled, held)
