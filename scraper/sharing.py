"""Sharing: what a gate does besides, when many workers share one crawl.

A host belongs to one worker at a time, and whoever has it keeps its pace. What is asked of a host
that is not here (`self.fetch`, a redirected robots.txt, a download) makes it a *wish*: the frontier
hands it out as soon as it is free and due, and tells its holder, who gives it back once the
exchanges under way have ended. So nobody waits for a host while keeping another from those who
wait for it, and two workers that want each other's host both get it.

A host that is wished for stays for a moment after it came, and for one start at least: where many
want it, each gets something done. It was given back for others' sake, so it is not wished for again
at once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from scraper.config import Politeness
from scraper.host import Host
from scraper.politeness import HostState
from scraper.robots import product_token
from scraper.slots import Slots
from scraper.work import Committed, HostLease, HostReturn, Lease

__all__ = ["Sharing"]

TURN = 1.0
"""Seconds for which a host that others wish for may be used after it came."""

OWED = 2.0
"""Seconds more for one that has done nothing yet, as its first start waits for a worker."""

GRACE = 0.5
"""Seconds in which whoever gave a host back for others does not wish for it again."""

POLL = 0.25
"""Seconds between two commits while something is wished for or about to be given back."""

MEAL = 1.0
"""Seconds until more is given to workers that have nothing: they must come for it first."""

HEAR = 0.5
"""Seconds between two commits while any host is held: it may be wished for by now."""


@dataclass(slots=True)
class Tenure:
    """How a host is held here.

    `until`: it may be used as long as that, whoever wishes for it. `owed`: nothing was started
    since it came. `wished`: another worker waits for it. `alone`: leases, first in line, beside
    which nothing may go: they go before the host does. `out`: those that were dispatched and not
    settled, by id.
    """

    until: float = -math.inf
    owed: bool = False
    wished: bool = False
    alone: int = 0
    out: set[int] = field(default_factory=set)

    def lasts(self, now: float) -> bool:
        """Whether the host need not be given back yet."""
        return not self.wished or now < self.until + (OWED if self.owed else 0.0)


class Sharing:
    """The wishes of this worker and those of others. `asks_at`: when the gate needs a commit
    (monotonic; inf: it needs none)."""

    def __init__(self, politeness: Politeness, worker: str, agent: str) -> None:
        """*worker*: this one's name. *agent*: `http.user_agent`, whose name robots.txt knows."""
        self.slots = Slots(politeness, worker)
        self.asks_at = math.inf
        self._agent = product_token(agent)
        self._tenures: dict[Host, Tenure] = {}  # of held hosts, and while leases are out
        self._missed: dict[Host, float] = {}  # not held, calls wait; from when on to wish for it
        self._wished: dict[Host, None] = {}  # held, and others wait for it
        self._shared_at = -math.inf  # what was held, with workers that had nothing

    def ask(self, when: float) -> None:
        """Let there be a commit at *when*, at the latest."""
        self.asks_at = min(self.asks_at, when)

    # ── what this worker wishes for ──────────────────────────────────────────────────────

    def miss(self, host: Host, now: float) -> None:
        """A host that is not held has something to do, perhaps."""
        if host.calls and host not in self._missed:
            self._missed[host] = now
            self.ask(now)

    def wishes(self, now: float) -> list[str]:
        """The hosts to ask the frontier for by name."""
        for host in list(self._missed):
            host.forget_calls()
            if not host.calls:
                del self._missed[host]
        return [host.key for host, when in self._missed.items() if when <= now]

    def told(self, now: float, held: Iterable[Host]) -> None:
        """A commit is on its way that carries all there is to tell: when is the next?"""
        self.asks_at = min(self._missed.values(), default=math.inf)
        if self._wished or self.asks_at <= now:
            self.asks_at = now + POLL
        for host in held:
            self.ask(now + POLL if host.asked else now + HEAR)

    # ── how a host is held ───────────────────────────────────────────────────────────────

    def granted(self, host: Host, granted: HostLease, now: float, wall: float) -> None:
        """The frontier handed out *host*, or more of one that is held."""
        if not host.held:
            self._came(host, granted, now, wall)
        self._tenures[host].alone += sum(lease.alone for lease in granted.requests)

    def _came(self, host: Host, granted: HostLease, now: float, wall: float) -> None:
        """What was known here of the host's pace is of the past: another had it meanwhile."""
        host.state = HostState.load(granted.state, host.policy, now, wall)
        # It is not handed out before its pause is over, by the frontier's clock. Ours may be behind
        # that of the machine which wrote the date.
        host.state.quiet_until = min(host.state.quiet_until, now)
        host.origin.restore(granted.robots, self._agent, now, wall)
        if host.origin.robots is not None:
            host.state.set_crawl_delay(host.origin.robots.crawl_delay)
        host.in_calls = host.in_pages = False  # for a date that counts no longer
        tenure = self._tenures.setdefault(host, Tenure())
        tenure.until, tenure.owed = now + TURN, True
        self._missed.pop(host, None)

    def hear(
        self,
        committed: Committed,
        held: Mapping[str, Host],
        find: Callable[[str], Host | None],
        now: float,
        wall: float,
    ) -> None:
        """What a commit has told of other workers. *held*: hosts that are here, by key."""
        for key in committed.wished:
            if (host := held.get(key)) is not None:
                self.wish(host, now)
        for key, until in committed.quiet.items():
            if (host := find(key)) is not None:
                host.state.hush(now, now + until - wall)
        self.share(held.values(), committed.hungry, now)

    def wish(self, host: Host, now: float) -> None:
        """Another worker waits for a host that is held here: told once, and again with every
        commit until it is given back."""
        if host not in self._wished:
            self._wished[host] = None
            self.ask(now)
        self._tenures[host].wished = host.dry = True

    def share(self, held: Collection[Host], hungry: int, now: float) -> None:
        """*hungry* other workers have nothing to do: give them of what would only wait here.

        A quarter of the hosts at a time, slots of one host first: each worker of these has one.
        """
        busy = [host for host in held if host.leases]
        if not hungry or len(busy) < 2 or now < self._shared_at + MEAL:
            return
        self._shared_at = now
        names = Counter(host.name for host in busy)
        busy.sort(key=lambda host: (-names[host.name], -len(host.leases)))
        for host in busy[: -(-len(busy) // 4)]:
            self.wish(host, now)

    def is_wished(self, host: Host) -> bool:
        """Whether another worker waits for a host that is held here."""
        return host in self._wished

    def may_start(self, host: Host, now: float, *, pages: bool) -> bool:
        """Whether something may start there, as far as other workers are concerned."""
        if not host.held:
            return False
        tenure = self._tenures[host]
        return tenure.lasts(now) or (pages and tenure.alone > 0)

    def waits_alone(self, host: Host | None) -> bool:
        """Whether a page beside which nothing may go has still to start there."""
        return host is not None and self._tenures[host].alone > 0

    def started(self, host: Host) -> None:
        """An exchange starts."""
        self._tenures[host].owed = False

    def ended(self, host: Host, now: float) -> None:
        """An exchange has ended."""
        if self.leaves(host, now):
            self.ask(now)

    def dispatched(self, host: Host, lease: Lease) -> None:
        """A page leaves the line; until it is `settled` its lease stays, wherever its host goes."""
        tenure = self._tenures[host]
        tenure.out.add(lease.id)
        tenure.alone -= lease.alone

    def back(self, host: Host, lease: Lease, now: float) -> None:
        """It is in line again, as the ledger had to know of it first; so it shall have its time."""
        tenure = self._tenures[host]
        tenure.out.discard(lease.id)
        tenure.alone += lease.alone
        tenure.until, tenure.owed = max(tenure.until, now), True

    def settled(self, host: Host, lease: Lease) -> None:
        """What became of a page is known."""
        tenure = self._tenures[host]
        tenure.out.discard(lease.id)
        if not host.held and not tenure.out:
            del self._tenures[host]

    # ── how it is given back ─────────────────────────────────────────────────────────────

    def leaves(self, host: Host, now: float) -> bool:
        """Whether a held host must be given back for others: because they wait for it, or so that
        its other slots hear of a pause. What waits for it here becomes a wish."""
        if host.inflight:
            return False
        if host.policy.slots > 1 and host.state.quiet_until > now + GRACE:
            return True
        if host not in self._wished:
            return False
        host.forget_calls()
        return not (host.calls or host.leases) or not self._tenures[host].lasts(now)

    def left(self, host: Host, due: float, now: float, wall: float, *, closing: bool) -> HostReturn:
        """What to tell of a host that is given back, due at *due* (wall clock). *closing*: this
        worker ends, and its leases with it."""
        tenure, quiet = self._tenures[host], host.state.quiet_until
        host.forget_calls()
        if host.calls:
            again = now + max(due - wall, 0.0)
            self._missed[host] = again + GRACE if tenure.wished else again
        self._wished.pop(host, None)
        tenure.wished = False
        if not tenure.out:
            del self._tenures[host]
        return HostReturn(
            host.key,
            host.state.save(now, wall),
            due,
            quiet=wall + quiet - now if host.policy.slots > 1 and quiet > now else 0.0,
            robots=host.origin.save(self._agent, now, wall),
            out=() if closing else sorted(tenure.out),
        )
