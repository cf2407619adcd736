"""What of a crawl is stored on Redis, in bytes: requests, commits and their answers.

An entry is a request: "id depth attempt start crashes priority\\npayload", the payload as
`core.at_rest` makes it. What the scripts in `lua/` read of a commit is told there, section by
section; `Commit` writes it.
"""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scraper.frontier.core import awake
from scraper.frontier.fingerprints import pack, unpack
from scraper.frontier.hosts import SUSPECT
from scraper.frontier.tables import packed, unpacked
from scraper.work import Batch, HostLease, Lease, Redo, Want

__all__ = [
    "MAX_ENTRY",
    "MAX_OUTPUT",
    "Held",
    "Recent",
    "claims_of",
    "granted",
    "is_own",
    "milliseconds",
    "output_arguments",
    "redo_of",
    "state_arguments",
    "texts",
    "united",
    "want_arguments",
]

MAX_ENTRY = 1 << 20
"""Bytes of a stored request, at most."""

MAX_OUTPUT = 64 << 20
"""Bytes of one element of `Batch.output`, at most."""

MAX_ROBOTS = 64 << 10
"""Bytes of what is remembered of one robots.txt, at most; a larger one each worker fetches."""

SIGNED = 1 << 63
WHOLE = 1 << 64
"""Fingerprints are stored as signed numbers, which is what Redis keeps compactly."""

IDS = 1 << 30
"""Ids that one worker can give to requests: its number tells them from those of others."""

HEARD = frozenset({"start", "phase", "ending", "result"})
"""Blobs that every worker must hear of."""

OWN = ("callbacks", "scope.")
"""Blobs of which every worker has its own, a JSON list each; read, they are one."""

REDO_PLACES = 1024
"""Sinks of one group, at most."""


def milliseconds(seconds: float) -> int:
    """Whole ones, never fewer; what floating point adds to them does not count."""
    return math.ceil(seconds * 1000 - 0.001)


@dataclass(slots=True)
class Held:
    """A lease as this worker has it. `head`: "depth attempt start", `priority`: of its entry.

    `payload`: the request as it is stored. `sending`: it may not repeat, and may have been sent.
    """

    slot: str
    payload: bytes
    depth: int
    attempt: int
    start: int
    priority: str
    sending: bool = False


class Recent:
    """Fingerprints that are known to be seen, the latest of them, so that nobody need be asked."""

    def __init__(self, most: int = 1 << 17) -> None:
        self._most = most
        self._new: set[int] = set()
        self._old: set[int] = set()

    def __contains__(self, number: int) -> bool:
        return number in self._new or number in self._old

    def update(self, numbers: Iterable[int]) -> None:
        """Remember *numbers*; the oldest are forgotten."""
        self._new.update(numbers)
        if len(self._new) > self._most:
            self._old, self._new = self._new, set()


def utf8(text: str) -> bytes:
    """As it is stored; a page's text may hold lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


# What a commit and a delivery have in common -----------------------------------------------------


def output_arguments(batch: Batch, counts: Mapping[str, int]) -> list[Any]:
    """Positions, records that are applied later, keys claimed, and *counts*."""
    arguments: list[Any] = [len(batch.positions)]
    for name, position in batch.positions.items():
        arguments += (utf8(name), json.dumps(position))
    arguments += ((batch.applied + 1) * REDO_PLACES if batch.applied else 0, len(batch.redo))
    for place, redo in enumerate(batch.redo):
        records = json.dumps(redo.sink).encode() + b"\n" + packed(redo.records)
        arguments += (redo.group * REDO_PLACES + place, records)
    claims = {stage: keys for stage, keys in batch.claims.items() if len(keys)}
    arguments.append(len(claims))
    for stage, keys in claims.items():
        arguments += (utf8(stage), pack(keys))
    arguments.append(len(counts))
    for name, number in counts.items():
        arguments += (name, number)
    return arguments


def redo_of(place: bytes, records: bytes) -> Redo:
    """A group's records for one sink, as they were stored."""
    sink, _, data = records.partition(b"\n")
    return Redo(int(place) // REDO_PLACES, json.loads(sink), unpacked(data))


def is_own(name: str) -> bool:
    """Whether every worker has its own blob of that name."""
    return name.startswith(OWN)


def state_arguments(state: Mapping[str, bytes], worker: str) -> list[Any]:
    """Named blobs, and whether everybody must hear of them."""
    arguments: list[Any] = [len(state)]
    for name, blob in state.items():
        own = is_own(name)
        stored = f"{name}@{worker}" if own else name
        arguments += (utf8(stored), blob, int(own or name in HEARD))
    return arguments


def united(blobs: Mapping[str, bytes]) -> dict[str, bytes]:
    """Stored blobs by the names that they were given: of what every worker has, all together."""
    found: dict[str, bytes] = {}
    parts: dict[str, dict[str, None]] = {}
    for stored, blob in blobs.items():
        if is_own_part(stored):
            name = stored.partition("@")[0]
            parts.setdefault(name, {}).update(dict.fromkeys(json.loads(blob)))
        else:
            found[stored] = blob
    found.update((name, json.dumps([*texts_]).encode()) for name, texts_ in parts.items())
    return found


def is_own_part(stored: str) -> bool:
    """Whether a blob is stored as one worker's own."""
    name, at, _ = stored.partition("@")
    return bool(at) and is_own(name)


def texts(flat: Sequence[Any]) -> dict[str, bytes]:
    """A hash as Redis gives it: name, value, name, value …"""
    names = (name.decode("utf-8", "surrogatepass") for name in flat[::2])
    return dict(zip(names, flat[1::2], strict=True))


def totals(counters: Sequence[bytes]) -> tuple[Counter[str], dict[str, int]]:
    """The crawl's counters, and the store's own, which begin with a dot (it is left out)."""
    own: dict[str, int] = {}
    counts: Counter[str] = Counter()
    for name, number in zip(counters[::2], counters[1::2], strict=True):
        text = name.decode()
        if text.startswith("."):
            own[text[1:]] = int(number)
        else:
            counts[text] = int(number)
    return counts, own


def host_of(slot: str) -> str:
    """The host that a slot is of: several of one are called HOST#0, HOST#1 …"""
    return slot.partition("#")[0]


# Leases -----------------------------------------------------------------------------------------


def want_arguments(want: Want | None, *, full: bool) -> list[Any]:
    """What is wanted. *full*: the server's memory is, so no more requests are asked for."""
    if want is None:
        return [0, 0, 0, 0, 0]
    held, hosts = list(dict.fromkeys(want.held)), list(dict.fromkeys(want.hosts))
    n = 0 if full else max(want.n, 0)
    return [n, int(want.alone), want.most, len(held), *held, len(hosts), *hosts]


def lease_of(slot: str, entry: bytes) -> tuple[Lease, Held]:
    """A request that was handed out. Raises `DamagedState`, `ValueError` for what is none."""
    head, _, payload = entry.partition(b"\n")
    lease_id, depth, attempt, start, crashes, priority = head.split(b" ")
    request, earlier = awake(payload)
    held = Held(slot, payload, int(depth), int(attempt), int(start), priority.decode())
    alone = int(crashes) >= SUSPECT
    told = (held.depth, held.attempt, bool(held.start), alone, earlier)
    return Lease(int(lease_id), slot, request, *told), held


def claims_of(blobs: Sequence[bytes]) -> array[int]:
    """Keys that were claimed, out of what was stored in pieces."""
    return unpack(b"".join(blobs))


def granted(
    hosts: Sequence[Sequence[Any]], leases: dict[int, Held], holding: dict[str, set[int]]
) -> list[HostLease]:
    """What an answer hands out, of which nothing is known yet; it is noted in both tables."""
    given = []
    for name, state, robots, entries in hosts:
        slot = name.decode()
        requests = []
        new = slot not in holding
        here = holding.setdefault(slot, set())
        for entry in entries:
            lease, held = lease_of(slot, entry)
            if lease.id not in leases:
                leases[lease.id] = held
                here.add(lease.id)
                requests.append(lease)
        if new:
            given.append(HostLease(slot, state, requests, robots))
        elif requests:
            given.append(HostLease(slot, None, requests))
    return given
