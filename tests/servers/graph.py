"""A deterministic web: page *n*'s content and links follow from *n*, the size and a seed."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Any

from tests.servers.web import Answer, Reply, Seen, text

__all__ = ["Graph"]


class Graph:
    """*pages* pages under `/p/N`. A tree of width *width* reaches all of them; *cross* seeded
    links a page lead anywhere, back included, so that most links found were seen before."""

    def __init__(self, pages: int, *, width: int = 6, cross: int = 4, seed: int = 1) -> None:
        self.pages = pages
        self.width = width
        self.cross = cross
        self.seed = seed
        self.page = lru_cache(maxsize=None)(self._page)

    def links(self, n: int) -> list[int]:
        first = n * self.width + 1
        down = range(min(first, self.pages), min(first + self.width, self.pages))
        dice = random.Random(self.seed * 1_000_003 + n)
        return [*down, *(dice.randrange(self.pages) for _ in range(self.cross))]

    def item(self, n: int) -> dict[str, Any]:
        return {"n": n, "title": f"Page {n}"}

    def items(self) -> dict[int, dict[str, Any]]:
        """The oracle: what a complete crawl delivers, by page number."""
        return {n: self.item(n) for n in range(self.pages)}

    def _page(self, n: int) -> Reply:
        anchors = "\n".join(f'<li><a href="/p/{m}">to {m}</a></li>' for m in self.links(n))
        return Reply(
            f"<!doctype html><html><head><title>{n}</title></head><body><h1>Page {n}</h1>"
            f"<ul>{anchors}</ul></body></html>".encode()
        )

    def __call__(self, seen: Seen) -> Answer:
        head, _, number = seen.path.rpartition("/")
        if head == "/p" and number.isdigit() and int(number) < self.pages:
            return self.page(int(number))
        if seen.path == "/robots.txt":
            return text("User-agent: *\nAllow: /\n")
        return text("no such page", 404)
