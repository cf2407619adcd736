"""Which host is next, and with which requests: queues, due times, delays and suspects.

Pure bookkeeping in memory, the same for every frontier that one process owns. A request is one
integer here, its *key*: priority and id in 63 bits, so that keys in order are requests in order.
Keys that come in order, as nearly all do, take 8 bytes each in an array; the others (retries,
mixed priorities) some 40 in a heap beside it. Payloads are the frontier's business.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from scraper.work import Want

__all__ = ["SUSPECT", "Host", "Hosts", "Pick", "clip", "id_of", "key_of"]

SUSPECT = 2
"""Crashes from which on a request runs alone."""

ID_BITS = 43
IDS = (1 << ID_BITS) - 1
PRIORITIES = (1 << 19) - 1
COMPACT = 1024


def clip(priority: int) -> int:
    """The priority that queues go by: 20 bits of it, ±524,287."""
    return max(-PRIORITIES, min(priority, PRIORITIES)) if priority else 0


def key_of(priority: int, request_id: int) -> int:
    """Smaller goes first: higher priority, then lower id. *priority* must be clipped."""
    return (-priority << ID_BITS) | request_id


def id_of(key: int) -> int:
    """The request's id in a key."""
    return key & IDS


class Host:
    """One host's queue, and where the host stands. `due`: wall clock seconds.

    `held`: with the scheduler. `lined_up`: in the line of those that could be handed out.
    `known`: it has a saved state.
    """

    __slots__ = ("_heap", "_next", "_tail", "due", "held", "id", "known", "lined_up", "name")

    def __init__(self, host_id: int, name: str) -> None:
        self.id = host_id
        self.name = name
        self.due = 0.0
        self.held = False
        self.lined_up = False
        self.known = False
        self._tail: array[int] | None = None  # keys in ascending order, from `_next` on
        self._next = 0
        self._heap: list[int] | None = None  # keys that came out of order

    @property
    def queued(self) -> int:
        """Requests waiting here."""
        tail = 0 if self._tail is None else len(self._tail) - self._next
        return tail + (len(self._heap) if self._heap else 0)

    def push(self, key: int) -> None:
        """Put a request in its place."""
        if self._tail is None:
            self._tail = array("q", (key,))
        elif key > self._tail[-1]:
            self._tail.append(key)
        elif self._heap is None:
            self._heap = [key]
        else:
            heapq.heappush(self._heap, key)

    def pop(self) -> int:
        """Take the best request. Raises `IndexError` when there is none."""
        tail, heap = self._tail, self._heap
        if heap and (tail is None or heap[0] < tail[self._next]):
            key = heapq.heappop(heap)
            if not heap:
                self._heap = None
            return key
        if tail is None:
            raise IndexError(f"nothing is queued for {self.name}")
        key = tail[self._next]
        self._next += 1
        if self._next == len(tail):
            self._tail, self._next = None, 0
        elif self._next >= COMPACT and self._next * 2 >= len(tail):
            del tail[: self._next]
            self._next = 0
        return key

    def __repr__(self) -> str:
        held = ", held" if self.held else ""
        return f"<Host {self.name}: {self.queued} queued{held}>"


@dataclass(slots=True)
class Pick:
    """A host to hand out, with request ids, best first. `topped`: its holder has it already."""

    host: Host
    ids: list[int]
    topped: bool = False
    alone: bool = False


class Hosts:
    """All hosts. Handing out costs O(log hosts), whatever is queued."""

    def __init__(self) -> None:
        self._names: dict[str, Host] = {}
        self._hosts: list[Host] = []  # by id, which starts at 1
        self._line: list[tuple[float, int, Host]] = []  # not held, with work; by time of readiness
        self._delayed: list[tuple[float, int, Host]] = []  # requests that wait for a date
        self._suspects: list[tuple[int, int, Host]] = []  # by crashes: the latest goes last
        self._ticket = 0
        self.alone = False  # a suspect is out: nothing else may be

    def __len__(self) -> int:
        return len(self._hosts)

    def __getitem__(self, host_id: int) -> Host:
        if host_id < 1:
            raise IndexError(host_id)
        return self._hosts[host_id - 1]

    def __iter__(self) -> Iterator[Host]:
        return iter(self._hosts)

    @property
    def suspects(self) -> int:
        """Requests that will run alone."""
        return len(self._suspects)

    def find(self, name: str) -> Host | None:
        """The host of that name, if there is one."""
        return self._names.get(name)

    def create(self, name: str) -> Host:
        """A new host. Raises `ValueError` if there is one already."""
        if name in self._names:
            raise ValueError(f"host {name} exists")
        host = Host(len(self._hosts) + 1, name)
        self._hosts.append(host)
        self._names[name] = host
        return host

    # What waits ---------------------------------------------------------------------------------

    def enter(self, host: Host, key: int, now: float, *, at: float = 0.0, crashes: int = 0) -> None:
        """Let a request wait: for its turn, for the date *at*, or to run alone."""
        if crashes >= SUSPECT:
            heapq.heappush(self._suspects, (crashes, key, host))
        elif at > now:
            heapq.heappush(self._delayed, (at, key, host))
        else:
            self.queue(host, key, now)

    def queue(self, host: Host, key: int, now: float) -> None:
        """Let a request wait for its turn."""
        host.push(key)
        if not (host.lined_up or host.held):
            self._line_up(host, now)

    def release(self, host: Host, due: float, now: float) -> None:
        """The holder gave *host* back, to be asked for again at *due*."""
        host.held = False
        host.known = True
        host.due = due
        self._line_up(host, now)

    def _line_up(self, host: Host, now: float) -> None:
        """Hosts that are ready stand in line in the order in which they became so."""
        if host.held or host.lined_up or not host.queued:
            return
        host.lined_up = True
        self._ticket += 1
        heapq.heappush(self._line, (max(host.due, now), self._ticket, host))

    def wake(self, now: float) -> None:
        """Queue the delayed requests whose date has come."""
        while self._delayed and self._delayed[0][0] <= now:
            _, key, host = heapq.heappop(self._delayed)
            self.queue(host, key, now)

    def next_due(self, *, idle: bool) -> float:
        """When there may be something to hand out; `inf`: not before the holder gives back.

        Dates of delayed requests count even when their host is held: its holder then has to ask
        for more. Suspects count when nothing is leased (*idle*).
        """
        if self.alone:
            return math.inf
        due = self._line[0][0] if self._line else math.inf
        if self._delayed:
            due = min(due, self._delayed[0][0])
        if idle:
            due = min([due, *(host.due for _, _, host in self._suspects if not host.held)])
        return due

    # What is handed out -------------------------------------------------------------------------

    def pick(self, want: Want, now: float, *, idle: bool) -> list[Pick]:
        """Choose up to `want.n` requests and mark their hosts as held.

        Held hosts that want more and hosts that are due share evenly; when there are more of them
        than requests to give, held ones get half, so that neither starves the other.
        """
        self.wake(now)
        if self.alone or want.n < 1:
            return []
        named = (self._names.get(name) for name in dict.fromkeys(want.held))
        held = [host for host in named if host is not None and host.held and host.queued]
        reserved = min(len(held), (want.n + 1) // 2)
        due = self._take_due(want.n - reserved, now)
        hosts = held[: want.n - len(due)] + due
        picks = []
        for host, share in zip(hosts, _shares([h.queued for h in hosts], want.n), strict=True):
            ids = [id_of(host.pop()) for _ in range(share)]
            picks.append(Pick(host, ids, topped=host.held))
            host.held = True
        if not picks and want.alone and idle:
            return self._pick_suspect(set(want.held), now)
        return picks

    def _take_due(self, most: int, now: float) -> list[Host]:
        hosts: list[Host] = []
        while self._line and len(hosts) < most and self._line[0][0] <= now:
            _, _, host = heapq.heappop(self._line)
            host.lined_up = False
            hosts.append(host)
        return hosts

    def _pick_suspect(self, held: set[str], now: float) -> list[Pick]:
        """The first in the suspects' line whose host may be used."""
        for place, (_, key, host) in enumerate(sorted(self._suspects)):
            if host.name in held if host.held else host.due <= now:
                self._suspects.sort()  # a sorted list is a heap, and stays one without an element
                del self._suspects[place]
                self.alone = True
                pick = Pick(host, [id_of(key)], topped=host.held, alone=True)
                self._leave_line(host)
                host.held = True
                return [pick]
        return []

    def _leave_line(self, host: Host) -> None:
        """A suspect's host may stand in line for a later time; a host that is held may not."""
        if host.lined_up:
            self._line = [entry for entry in self._line if entry[2] is not host]
            heapq.heapify(self._line)
            host.lined_up = False


def _shares(sizes: list[int], n: int) -> list[int]:
    """Divide *n* as evenly as the *sizes* allow; what small ones leave goes to the larger."""
    shares = [0] * len(sizes)
    for place, index in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        shares[index] = min(sizes[index], n // (len(sizes) - place))
        n -= shares[index]
    return shares
