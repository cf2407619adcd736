"""Admission: what asks to enter the frontier passes here, and most of it is known already.

A page of documentation yields a hundred links, nearly all seen before. So the first question is
the cheapest: a bounded set of identities that this process has let in or turned away. Only what it
does not know goes through the gates of `scope.gate`. The frontier has the last word on what is new.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from scraper import revisits, urls
from scraper.callbacks import Callbacks
from scraper.config import Crawl
from scraper.errors import SpiderError
from scraper.http import Request
from scraper.options import DEFAULTS
from scraper.request import unknown
from scraper.scope import Scope, gate
from scraper.slots import Slots
from scraper.traps import Traps
from scraper.work import Found, Lease, texts_of

__all__ = ["PIECE", "Admission"]

log = logging.getLogger("scraper.crawl")

REMEMBERED = 200_000
"""Identities kept at hand, about 75 bytes each."""

REPORTED_HOSTS = 1000
"""Hosts out of scope that are named in the log, each once."""

PIECE = 500
"""Requests of one page that are looked at without a pause: some milliseconds of work."""

DEFAULT_CALLBACK = "parse"


class Admission:
    """Decides what may be asked of the frontier, with the reason for what may not."""

    def __init__(
        self, limits: Crawl, scope: Scope, callbacks: Callbacks, slots: Slots | None = None
    ) -> None:
        """*slots*: of a crawl that workers share: how they divide its hosts."""
        self.scope = scope
        self.traps = Traps(limits)
        self._limits = limits
        self._callbacks = callbacks
        self._slots = slots
        self._drop = tuple(limits.drop_params)
        self._known: set[int] = set()  # admitted earlier in commit order: duplicates for certain
        self._refused: set[int] = set()
        self._too_deep: set[int] = set()
        self._reported: set[str] = set()
        self._names: set[str] = set()
        self._names_changed = False
        self._occurrences: Counter[int] = Counter()

    def load(self, state: Mapping[str, bytes]) -> None:
        """Recall what earlier processes let in. Raises `SpiderError` when a callback is gone."""
        for name in texts_of(state, "callbacks"):
            if name not in self._callbacks:
                self._callbacks[name]  # raises, saying what to do
            self._names.add(name)
        self.traps = Traps(self._limits, state)

    def hear(self, news: Mapping[str, bytes]) -> None:
        """Take in what other workers of a shared crawl have let in."""
        if self.scope.join(news):
            self._refused.clear()
        self._names.update(texts_of(news, "callbacks"))

    def changed(self) -> dict[str, bytes]:
        """What must be stored with the next commit, as named blobs."""
        blobs = self.scope.dump() | self.traps.changed()
        if self._names_changed:
            self._names_changed = False
            blobs["callbacks"] = json.dumps(sorted(self._names)).encode()
        return blobs

    # ── the ways in ──────────────────────────────────────────────────────────────────────

    def links(
        self, requests: Sequence[Request], lease: Lease, counts: dict[str, int]
    ) -> list[Found]:
        """What a page's callback yielded. Counts what is refused by reason."""
        if len(requests) > self._limits.max_links_per_page:
            requests = self._bounded(requests, lease, counts)
        found = self._new(requests, lease.depth + 1, counts)
        if lease.earlier:
            count = len(found)
            found = revisits.fresh(found, lease.earlier, self.identity)
            counts["duplicates"] += count - len(found)
        return found

    async def in_pieces(
        self, requests: Sequence[Request], lease: Lease, counts: dict[str, int]
    ) -> list[Found]:
        """As `links`, for a page that yielded very much: between two pieces the loop has its turn.

        Meanwhile the scheduler, which alone asks for admission, waits.
        """
        if lease.earlier:  # what is fresh is known of the whole page alone
            return self.links(requests, lease, counts)
        if len(requests) > self._limits.max_links_per_page:
            requests = self._bounded(requests, lease, counts)
        found: list[Found] = []
        for start in range(0, len(requests), PIECE):
            found += self._new(requests[start : start + PIECE], lease.depth + 1, counts)
            await asyncio.sleep(0)
        return found

    def _bounded(
        self, requests: Sequence[Request], lease: Lease, counts: dict[str, int]
    ) -> Sequence[Request]:
        most = self._limits.max_links_per_page
        over = len(requests) - most
        counts["reason:too_many_links"] += over
        log.warning(
            "%s gives %d requests more than crawl.max_links_per_page allows: they are left out",
            urls.redact(lease.request.url),
            over,
        )
        return requests[:most]

    def _new(self, requests: Sequence[Request], depth: int, counts: dict[str, int]) -> list[Found]:
        """What of *requests* passes the gates and is not known; the rest is counted."""
        found: list[Found] = []
        known, refused, slots = self._known, self._refused, self._slots
        fresh = unknown(requests, known)
        duplicates = len(requests) - len(fresh)
        for request in fresh:
            identity = self.identity(request) if request.options.unique else None
            if identity is not None and identity in known:
                duplicates += 1
            elif identity in refused or not self._passes(request, depth, identity, counts):
                continue
            else:
                if identity is not None:
                    self._remember(known, identity)
                host = urls.host_key(request.url)
                if slots is not None:
                    host = slots.place(host, request.fingerprint)
                found.append(Found(request, host, identity, depth))
        counts["links"] += len(requests)
        if duplicates:
            counts["duplicates"] += duplicates
        return found

    def redirect(self, request: Request, lease: Lease) -> Found:
        """A redirect's target, which `target_refusal` has let pass."""
        chain = (*(fingerprint for _, fingerprint in request.trail), self.identity(lease.request))
        identity = self.identity(request) if request.unique else None
        return Found(
            request,
            self._host(request),
            identity,
            lease.depth,
            lease.start,
            chain,
            earlier=lease.earlier,
        )

    def target_refusal(self, request: Request, lease: Lease) -> str | None:
        """The reason that forbids following a redirect; a start's redirect widens the scope."""
        if lease.start:
            self.scope.redirected(lease.request.url, request.url)
            self._refused.clear()
        return gate(request.url, lease.depth, self.scope, self._limits, start=lease.start)

    def seeds(self, requests: Sequence[Request], counts: dict[str, int]) -> list[Found]:
        """What `start()` yielded. They define the scope.

        `start()` runs again from its top after a crash, so what is not `unique` is known by its
        fingerprint and how often it came before.
        """
        found: list[Found] = []
        for request in requests:
            if not self.scope.admits(request.url):
                self.scope.start(request.url)
                self._refused.clear()
            if (refusal := gate(request.url, 0, self.scope, self._limits, start=True)) is not None:
                counts[f"reason:{refusal}"] += 1
                log.warning("start request refused (%s): %s", refusal, urls.redact(request.url))
                continue
            identity = self.identity(request)
            if not request.unique:
                self._occurrences[identity] += 1
                nth = f"{identity}:{self._occurrences[identity]}"
                identity = urls.fingerprint("START", nth)
            self._note(request)
            found.append(Found(request, self._host(request), identity, 0, start=True))
        return found

    def _host(self, request: Request) -> str:
        """What the frontier will hand out to whoever fetches it: the host, or a slot of it."""
        host = urls.host_key(request.url)
        return host if self._slots is None else self._slots.place(host, request.fingerprint)

    def identity(self, request: Request) -> int:
        """The request's fingerprint, blind to the parameters of `crawl.drop_params`."""
        if not self._drop:
            return request.fingerprint
        return urls.fingerprint(
            request.method, urls.canonical(request.url, self._drop), request.body
        )

    # ── the gates ────────────────────────────────────────────────────────────────────────

    def _passes(
        self, request: Request, depth: int, identity: int | None, counts: dict[str, int]
    ) -> bool:
        refusal = gate(request.url, depth, self.scope, self._limits)
        if refusal is None and self.traps.full:
            over = self.traps.over(request.url, urls.host_key(request.url))
            refusal = "trap" if over else None
        if refusal is None:
            self._note(request)
            return True
        if identity is not None:
            # Another way to what is too deep may be shorter: it is asked again, and counted once.
            told = self._too_deep if refusal == "depth" else self._refused
            if identity in told:
                return False
            self._remember(told, identity)
        counts[f"reason:{refusal}"] += 1
        if refusal == "out_of_scope":
            self._report_outside(request.url)
        return False

    def _remember(self, known: set[int], identity: int) -> None:
        if len(known) >= REMEMBERED:
            known.clear()
        known.add(identity)

    def _note(self, request: Request) -> None:
        options = request.options
        if options is DEFAULTS and (request.callback or DEFAULT_CALLBACK) in self._names:
            return
        for name in (request.callback or DEFAULT_CALLBACK, options.errback):
            if name is not None and name not in self._names:
                if name not in self._callbacks:
                    raise SpiderError(
                        f"{request!r} asks for {name!r}, which is no method of the spider",
                        hint="Write it as a method, or pass self.that_method.",
                    )
                self._names.add(name)
                self._names_changed = True

    def _report_outside(self, url: str) -> None:
        host = urls.host_key(url)
        if host not in self._reported and len(self._reported) < REPORTED_HOSTS:
            self._reported.add(host)
            log.info(
                "out of scope: %s (allowed_domains of the spider, or crawl.scope, admits it)",
                host,
            )
