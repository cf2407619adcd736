"""Chained: pages whose items are in a slow stage, and how many more may go meanwhile.

A stage that waits (for a database, a download) would hold its page's worker. While it waits the
page does not count as a worker's, so that fetching goes on; how many pages may be so is bounded,
and so are the bytes that they hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from scraper.http import Response

__all__ = ["Chained", "Passing", "weight"]

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
    """Counts the pages that wait in the chain. `pages`, `held`: how many, and their bytes.

    Not those of a stage that returns at once: `entered` is called when one did not.
    """

    __slots__ = ("held", "pages")

    def __init__(self) -> None:
        self.pages = 0
        self.held = 0

    def entered(self, size: int) -> None:
        self.pages += 1
        self.held += size

    def left(self, size: int) -> None:
        self.pages -= 1
        self.held -= size

    def spare(self, concurrency: int) -> int:
        """How many of the pages need not count as a worker's."""
        return min(self.pages, MOST * concurrency) if self.held < MOST_BYTES else 0


class Passing:
    """One item's way through the chain. *size*: of its page; *wake*: there may be room.

    A chain that returns before the loop comes round again was never slow: then nothing is counted.
    """

    __slots__ = ("_chained", "_entered", "_handle", "_size", "_wake")

    def __init__(self, chained: Chained, size: int, wake: Callable[[], None]) -> None:
        self._chained = chained
        self._size = size
        self._wake = wake
        self._entered = False
        self._handle = asyncio.get_running_loop().call_soon(self._enter)

    def _enter(self) -> None:
        self._entered = True
        self._chained.entered(self._size)
        self._wake()

    def over(self) -> None:
        """The item is through, or out."""
        if self._entered:
            self._chained.left(self._size)
        else:
            self._handle.cancel()
