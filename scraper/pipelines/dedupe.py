"""Dedupe: of the items with one key, the first goes on."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Literal

from scraper.errors import ConfigError, Drop
from scraper.items import encode
from scraper.protocols import CrawlInfo, Page, Pipeline

__all__ = ["Dedupe"]

_PERSON = b"scrape-dedupe"  # no other digest of ours is one of these


class Dedupe(Pipeline):
    """Let the first item with each key pass, and drop the others (`duplicate`).

    *key*: the fields that make items the same, nested ones by dotted names; empty: all of them.
    Types of items have keys of their own. *missing*: what becomes of an item in which all fields
    of its key are None or not there. *across* "runs": also against what earlier runs of the job
    delivered, as long as its state is kept. *name*: tells apart two stages with the same *key*.

    Which item is the first is decided in the order in which pages are committed, and stored with
    them: a page that is fetched again after a crash does not find its own keys taken. A key is 64
    bits of a digest; among ten million items the chance of one false double is 1 in 370,000.
    """

    def __init__(
        self,
        key: list[str] | None = None,
        across: Literal["run", "runs"] = "run",
        missing: Literal["keep", "drop"] = "keep",
        name: str = "",
    ) -> None:
        self.key = [path.split(".") for path in key or ()]
        self.across = across
        self.missing = missing
        self.claims_as = name or f"dedupe({', '.join(key or ['*'])})"
        if any("" in path for path in self.key):
            raise ConfigError(f"key = {key}: a field's name is empty")

    async def open(self, crawl: CrawlInfo) -> None:
        if self.across == "runs" and crawl.job_dir is None:
            raise ConfigError(
                'dedupe: across = "runs" needs a job, whose state is kept between runs',
                hint='Set frontier.url = "sqlite"; from Python, give the crawl a job="…".',
            )

    async def process(self, item: Any, page: Page) -> Any:
        if self.key:
            values = [_value(item, path) for path in self.key]
            if all(value is None for value in values):
                if self.missing == "drop":
                    raise Drop("no_key")
                return item
            content = encode(dict(enumerate(values)))
        else:
            content = encode(item)
        page.claim(self.claims_as, fingerprint(type(item).__name__, content))
        return item


def fingerprint(kind: str, content: bytes) -> int:
    """64 bits that stand for the key *content* of an item of the type *kind*."""
    digest = blake2b(content, digest_size=8, key=kind.encode()[:64], person=_PERSON)
    return int.from_bytes(digest.digest(), "little")


def _value(item: Any, path: list[str]) -> Any:
    """The value at the end of *path* through mappings and attributes; None when it ends before."""
    value = item
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
    return value
