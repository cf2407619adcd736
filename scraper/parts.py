"""The parts of a crawl, as they are handed over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scraper.config import Config
from scraper.observers import Observers
from scraper.parsing import Parsing
from scraper.pipelines.chain import Chain
from scraper.pipelines.page import Limits
from scraper.protocols import Clock, Downloader, Frontier, Middleware
from scraper.spider import Spider

__all__ = ["Parts"]


@dataclass(slots=True)
class Parts:
    """What an engine is made of; `build` is the one place that makes them.

    `outputs`: makes the chain once more, of which the leader of a shared crawl writes the sinks.
    """

    spider: Spider
    config: Config
    frontier: Frontier
    downloader: Downloader
    chain: Chain
    clock: Clock
    page_limits: Limits
    random: Callable[[], float]
    observers: Observers
    parsing: Parsing
    middleware: Sequence[Middleware] = ()
    probe: Callable[[str], None] | None = None
    outputs: Callable[[], Chain] = Chain
