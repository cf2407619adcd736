"""Appetite: when `start()` is pulled for more, which may have a million requests to give.

By batches, and no faster than the crawl needs them: while few requests are pending, or while those
that are wait for their hosts, and `start()` brings hosts that are new.
"""

from __future__ import annotations

import asyncio

__all__ = ["Appetite"]

AHEAD = 1000
"""Pending requests below which more are wanted."""


class Appetite:
    """Between the scheduler, which tells how things are, and whoever pulls `start()`."""

    def __init__(self) -> None:
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._new_hosts = False

    async def more(self) -> None:
        """Wait until another batch is wanted."""
        self._wanted.clear()
        await self._wanted.wait()

    def brought(self, *, new_host: bool) -> None:
        """A request came of `start()`; perhaps the first for its host."""
        self._new_hosts = self._new_hosts or new_host

    def served(self, pending: int, *, short: bool) -> None:
        """A commit left so many *pending*. *short*: it gave out less than there was a use for.

        Then the others wait for their hosts, and only hosts that are new can be of use: if the last
        batch had none, a next one is not pulled for them.
        """
        if not self._wanted.is_set() and (pending < AHEAD or (short and self._new_hosts)):
            self._new_hosts = False
            self._wanted.set()
