"""One worker on the server: everything that `RedisFrontier` does, in calls that block.

Three threads use it, each with a connection of its own: one for commits, one for what the leader
does, and the heartbeat's.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from scraper.errors import DamagedState, GivenUp, JobError, ScraperError, UsageError
from scraper.frontier.core import awake
from scraper.frontier.redis_codec import (
    is_own_part,
    milliseconds,
    output_arguments,
    state_arguments,
    texts,
    totals,
    united,
    want_arguments,
)
from scraper.frontier.redis_commit import Commit
from scraper.frontier.redis_life import Locks, machine
from scraper.frontier.redis_link import FIRST, Link, reading, script
from scraper.frontier.redis_memory import Memory, check_server
from scraper.frontier.redis_read import (
    CRAWLS,
    SCHEMA,
    recovery,
    refusal,
    run_of,
    tag_of,
    verify,
    workers_of,
)
from scraper.frontier.redis_view import ENDED, View
from scraper.protocols import FrontierContext
from scraper.work import Batch, Committed, Recovery

__all__ = ["Worker"]

log = logging.getLogger("scraper.crawl")

WAIT = 500
"""Milliseconds for which the leader waits for an entry that is not there yet."""


class Worker:
    """A member of the crew, from `open` to `close`. *now*: in place of the server's clock."""

    def __init__(
        self,
        url: str,
        context: FrontierContext,
        locks: Locks,
        *,
        lease: float,
        patience: float,
        now: Callable[[], float] | None,
    ) -> None:
        self.name = secrets.token_hex(6)
        self.view = View()
        self._url = url
        self._context = context
        self._locks = locks
        self._lease = lease
        self._patience = patience
        self._now = now
        self._run = ""
        self._prefix = ""
        self._number = 0
        self._seq = 0
        self._delivered = 0
        self._heard = 0  # of the news, by the leader
        self._failure: BaseException | None = None
        self._memory = Memory()
        self._stopping = threading.Event()
        link = partial(Link, url, stopping=self._stopping)
        self._link = link(patience=patience)
        self._leading = link(patience=patience, quiet=True)  # it is the other that is told of
        self._beating = link(patience=lease / 3, quiet=True)

    def hurry(self, seconds: float) -> None:
        """See `Shared.hurry`."""
        for link in (self._link, self._leading):
            link.hurry(seconds)

    # Coming and going ---------------------------------------------------------------------------

    def open(self) -> Recovery:
        """Join the crawl; make it if there is none."""
        link, context = self._link, self._context
        for note in check_server(link):
            log.warning("%s", note)
        tag = tag_of(context.spider, context.job)
        self._leading.known = True
        with reading(link):
            old = run_of(link, tag)
            if old:
                verify(link, f"{tag}{old}:")
            dead = self._locks.dead(old) if old else []
            link.ask("SADD", CRAWLS, f"{context.spider}/{context.job}")
            told = (secrets.token_hex(6), *self._times(), self._about(), *dead)
            self._prefix = tag
            run, self._number, self.view.workers, leader, reaped = self._ask(link, "join", *told)
            self._run = run.decode()
            self._prefix = f"{tag}{self._run}:"
            self._locks.take(self._run, self.name)
            self._locks.buried(old, dead)
            found, stored, version = self._recovery(link, outputs=leader is None)
            self.view.open(self._number, stored, version, self._context.wall())
            self.view.pending = found.pending
            found.unclean = bool(reaped)
            found.ended = [end for ended in reaped[1::2] for end in _ends(ended)]
        return found

    def _recovery(self, link: Link, *, outputs: bool) -> tuple[Recovery, dict[str, bytes], int]:
        alive = workers_of(link, self._prefix, None if self._now is None else self._now())
        others = [worker for worker in alive if worker != self.name]
        return recovery(link, self._prefix, others, outputs=outputs)

    def close(self, *, clean: bool) -> None:
        """Leave; *clean*: what this worker has goes back uncharged."""
        try:
            if clean and self._number and not self._is_lost():
                patience = min(FIRST, self._patience) if self._failure is None else 0.0
                with Link(self._url, patience=patience) as link:
                    _, self.view.pending = self._ask(link, "leave")
        except ScraperError:
            if self._failure is None:  # else it has been reported, and this is its echo
                raise
        finally:
            for link in (self._link, self._leading, self._beating):
                link.close()
            self._locks.release(clean=clean)

    def stop_waiting(self) -> None:
        """Whatever waits for a server that is away, shall not any more."""
        self._stopping.set()

    def _is_lost(self) -> bool:
        """Whether there is nothing to give back: others have it already, or nobody does."""
        return isinstance(self._failure, GivenUp | DamagedState | JobError)

    def _times(self) -> tuple[int, int]:
        return milliseconds(self._lease), milliseconds(self._patience)

    def _about(self) -> str:
        """This worker, for people."""
        return json.dumps({
            "host": socket.gethostname(),
            "machine": machine(),
            "pid": os.getpid(),
            "pages": self.view.pages,
        })

    def _ask(self, link: Link, name: str, *arguments: Any) -> list[Any]:
        """What a script answers, less the word that says that it did. Raises what others mean."""
        time = "" if self._now is None else int(self._now() * 1000)
        answer = link.run(script(name), self._prefix, (time, self.name, SCHEMA, *arguments))
        if answer[0] != b"ok":
            raise refusal(link.place, answer, self._lease)
        return answer[1:]

    def _ready(self, link: Link) -> Link:
        """*link*, if nothing has failed; else what has: there is no going on from it."""
        if isinstance(self._failure, ScraperError):
            raise self._failure
        if self._failure is not None:
            raise UsageError(f"{link.place}: an earlier commit failed; run again to go on")
        return link

    # In the thread of commits -------------------------------------------------------------------

    def commit(self, batch: Batch) -> Committed:
        """See `Frontier.commit`."""
        link, view, wall = self._ready(self._link), self.view, self._context.wall
        commit = Commit(batch, self.name, view, wall())
        try:
            full = batch.want is not None and self._memory.full(
                self._patience, idle=not view.leases
            )
            answer = self._ask(
                link,
                "commit",
                self._seq + 1,
                view.version,
                self._number,
                *commit.arguments,
                *want_arguments(batch.want, full=full),
            )
            if answer[0] != ENDED:
                self._seq += 1
            with reading(link):
                committed = view.take(batch, commit, answer, wall())
        except BaseException as error:
            self._failure = error
            raise
        if not committed.ended:
            for what in commit.oversized:
                log.warning("too large to be stored, and left out: %s", what)
        return committed

    def begin(
        self, state: Mapping[str, bytes], claims: Mapping[str, array[int]]
    ) -> Mapping[str, bytes]:
        """See `Shared.begin`."""
        link = self._ready(self._link)
        told = output_arguments(Batch(claims=dict(claims)), {})
        told += state_arguments(state, self.name)
        (stored,) = self._ask(link, "begin", self._number, *told)
        with reading(link):
            self.view.said.update(state)
            return united(texts(stored))

    # In the leader's thread ---------------------------------------------------------------------

    def lead(self) -> Recovery | None:
        """See `Shared.lead`."""
        link = self._ready(self._leading)
        (leads,) = self._ask(link, "lead", self._number, "1")
        self.view.leads = bool(leads)
        if not leads:
            return None
        with reading(link):
            found, _, self._heard = self._recovery(link, outputs=True)
        return found

    def resign(self) -> None:
        """See `Shared.resign`."""
        self._ask(self._ready(self._leading), "lead", self._number, "0")
        self.view.leads = False

    def entries(self, after: str, most: int, wait: bool) -> list[tuple[str, bytes]]:
        """See `Shared.entries`."""
        link = self._ready(self._leading)
        told = (self._number, after, most)
        (found,) = self._ask(link, "entries", *told)
        if not found and wait:
            key, behind = f"{self._prefix}items", after or "0"
            link.ask("XREAD", "COUNT", 1, "BLOCK", WAIT, "STREAMS", key, behind)
            (found,) = self._ask(link, "entries", *told)
        return [(place.decode(), data) for place, data in zip(found[::2], found[1::2], strict=True)]

    def deliver(self, batch: Batch, upto: str) -> Committed:
        """See `Shared.deliver`."""
        link = self._ready(self._leading)
        if batch.settled or batch.seeds or batch.returned or batch.sending or batch.output:
            raise ValueError("what the leader delivers has no pages, seeds, hosts or output")
        counters, news = self._ask(
            link,
            "deliver",
            self._delivered + 1,
            self._number,
            self._heard,
            upto,
            *output_arguments(batch, batch.counts),
            *state_arguments(batch.state, self.name),
        )
        self._delivered += 1
        self.view.said.update(batch.state)
        counts, own = totals(counters)
        self._heard = own.get("news", 0)
        self.view.pending = pending = own.get("pending", 0)
        told = {name: blob for name, blob in texts(news).items() if not is_own_part(name)}
        return Committed([], pending, totals=counts, news=told)

    # In the heartbeat's -------------------------------------------------------------------------

    def beat(self) -> bool:
        """Show a sign of life, and look for workers that show none; False once it is of no use."""
        link = self._beating
        dead = self._locks.dead(self._run)
        try:
            told = (*self._times(), self._number, self._about(), *dead)
            workers, _, reaped = self._ask(link, "beat", *told)
        except (GivenUp, DamagedState, JobError):
            return False  # the next commit hears it, too
        self._locks.buried(self._run, dead)
        self.view.changed(workers)
        for worker, ended in zip(reaped[::2], reaped[1::2], strict=True):
            told_of = f" (ended: {', '.join(url for url, _ in _ends(ended))})" if ended else ""
            log.warning(
                "worker %s is dead: what it had in the making is done again%s",
                worker.decode(),
                told_of,
            )
        self._memory.look(link)
        return True


def _ends(ended: Sequence[bytes]) -> list[tuple[str, str]]:
    """What a dead worker's end has ended: (url, reason)."""
    return [
        (awake(payload)[0].url, reason.decode())
        for reason, payload in zip(ended[::2], ended[1::2], strict=True)
    ]
