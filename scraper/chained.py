"""Chained: pages whose items are in a slow stage, and how many more may go meanwhile.

A stage that waits (for a database, a download) would hold its page's worker. While it waits the
page does not count as a worker's, so that fetching goes on; how many pages may be so is bounded,
and so are the bytes that they hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from scraper.http import Response

__all__ = ["Chained", "weight"]

MOST = 4
"""Pages in slow stages that do not count, in multiples of the concurrency."""

MOST_BYTES = 64 * 1024 * 1024
"""Bytes of pages that they may hold, all together."""

PARSED = 14
"""Bytes of a parsed page for each byte of its body, about, beside some that every one takes."""

PARSED_LEAST = 200_000


def weight(response: Response | None) -> int:
    """The bytes that a page takes while its items are in a stage, about."""
    if response is None:
        return 0
    size = len(response.body)
    return size * (1 + PARSED) + PARSED_LEAST if "document" in vars(response) else size


class Chained:
    """Counts the pages that have an item in the chain. `pages`, `held`: how many, and their bytes.

    A chain that returns at once is left before anybody else has a turn, so whoever reads the
    counts finds those in slow stages alone. *wake* is called when there are more of them.
    """

    __slots__ = ("_looks", "_told", "_wake", "held", "pages")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.pages = 0
        self.held = 0
        self._wake = wake
        self._looks = False  # once the loop comes round
        self._told = 0  # pages, when it was last told that there are more

    def enter(self, size: int) -> None:
        """An item goes into the chain. *size*: of its page."""
        self.pages += 1
        self.held += size
        if not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_soon(self._look)

    def leave(self, size: int) -> None:
        """It is through, or out."""
        self.pages -= 1
        self.held -= size
        if self._told > self.pages:
            self._told = self.pages

    def _look(self) -> None:
        self._looks = False
        if self.pages > self._told:
            self._told = self.pages
            self._wake()

    def spare(self, concurrency: int) -> int:
        """How many of the pages need not count as a worker's."""
        return min(self.pages, MOST * concurrency) if self.held < MOST_BYTES else 0
