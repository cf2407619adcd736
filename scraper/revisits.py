"""Revisits, where pages settle: what a retry must know of a page, and what it must not repeat."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from scraper.http import Request
from scraper.pipelines.page import Fault, StagedPage
from scraper.revisit import Earlier, entry
from scraper.work import Again, Dead, Found, Settled

__all__ = ["brief", "fresh", "remember", "told"]

Identity = Callable[[Request], int]

DISTINCT = 100
"""Items of a page that are kept with what was wrong in words; of more, the fields alone are."""


def fresh(found: Sequence[Found], earlier: bytes, identity: Identity) -> list[Found]:
    """What of *found* an earlier visit of its page has not had admitted.

    Only of requests with `unique=False` must that be asked: the frontier knows the others.
    """
    known = Counter(Earlier.load(earlier).links)
    new = []
    for request in found:
        if request.fingerprint is None and known:
            number = identity(request.request)
            if known[number] > 0:
                known[number] -= 1
                continue
        new.append(request)
    return new


def remember(settled: Settled, page: StagedPage | None, identity: Identity) -> None:
    """Note with *settled* what a retry of its request must know, if it may come to one."""
    verdict = settled.verdict
    failed = isinstance(verdict, Dead)
    if isinstance(verdict, Again) or not (failed or (page is not None and page.faulty)):
        return
    items = page.items if page is not None else []
    faults = [item.fault for item in items if item.fault is not None]
    if not (failed or faults):
        return
    visit = [entry(item.digest, rejected=item.fault is not None) for item in items]
    links = [identity(f.request) for f in settled.found if f.fingerprint is None and not f.chain]
    if visit or links:
        earlier = Earlier.load(settled.lease.earlier)
        settled.earlier = earlier.after(visit, links, failed=failed).dump()
    if faults:
        settled.rejects = brief(faults)


def brief(faults: Iterable[Fault]) -> str:
    """Rejected items as the ledger keeps them: those that are at fault alike, together."""
    counts: Counter[Fault] = Counter()
    for fault in faults:
        if fault not in counts and len(counts) >= DISTINCT:
            fault = fault._replace(errors=tuple((field, "") for field, _ in fault.errors))
        counts[fault] += 1
    return json.dumps([[n, *fault] for fault, n in counts.items()], separators=(",", ":"))


def told(items: str) -> Iterator[dict[str, Any]]:
    """Each item of `brief`: `reason`, `item` (its type), `stage`, `errors` (`field`, `message`)."""
    for n, reason, item, errors, stage in json.loads(items):
        for _ in range(n):
            yield {
                "reason": reason,
                "item": item,
                "stage": stage,
                "errors": [{"field": field, "message": message} for field, message in errors],
            }
