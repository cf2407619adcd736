"""The one composition root: configuration and spider in, the parts of an engine out.

Only here are concrete classes named. To add a sink or a stage, give it a short name in `BUILTINS`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scraper.clock import LoopClock
from scraper.components import build_component
from scraper.config import Config
from scraper.engine import Parts
from scraper.errors import UsageError
from scraper.loading import load_object
from scraper.observers import Observers
from scraper.pipelines.chain import Chain, Placed
from scraper.pipelines.dedupe import Dedupe
from scraper.pipelines.jsonl import Jsonl
from scraper.pipelines.page import Limits
from scraper.pipelines.paths import rejected_path
from scraper.pipelines.rejected import RejectedItems
from scraper.pipelines.stdout import Stdout
from scraper.politeness import policy_for
from scraper.protocols import Downloader, Frontier, Observer
from scraper.spider import Spider

__all__ = ["BUILTINS", "OUTPUT_ENDINGS", "build", "build_stages"]

BUILTINS = MappingProxyType({"jsonl": Jsonl, "dedupe": Dedupe})
"""What `use = "…"` understands without a module."""

OUTPUT_ENDINGS = MappingProxyType({".jsonl": Jsonl, ".ndjson": Jsonl})
"""What `-o FILE` writes, by the file's ending."""


def build(
    spider: Spider,
    config: Config,
    *,
    root: Path,
    ledger: Path | None = None,
    output: str | None = None,
    extra_sinks: Sequence[Any] = (),
    default_output: bool = True,
    observers: Sequence[Observer] = (),
    where: Callable[[int], str] = lambda index: f"pipelines[{index}]",
    probe: Callable[[str], None] | None = None,
) -> Parts:
    """Everything an engine needs. Raises `UsageError` for what cannot be built.

    *ledger*: the file of a durable frontier; None keeps it in memory. *output*: `-o`, which
    replaces the configured sinks. *where*: what messages call the configuration's n-th pipeline.
    """
    stages = build_stages(config, root=root, output=output, where=where)
    sinks = [placed.stage for placed in stages if hasattr(placed.stage, "recovery")]
    if not sinks and not extra_sinks and default_output:
        sinks = [Jsonl()]
        stages.append(Placed(sinks[0]))
    stages += map(Placed, extra_sinks)
    files = [sink for sink in sinks if isinstance(sink, Jsonl)]
    rejected = RejectedItems(rejected_path(files[0].path), files[0].mode) if files else None
    return Parts(
        spider=spider,
        config=config,
        frontier=_frontier(ledger),
        downloader=_downloader(config),
        chain=Chain(stages, rejected=rejected),
        clock=LoopClock(),
        page_limits=Limits(
            item_size=int(config.crawl.max_item_size),
            items=config.crawl.max_items_per_page,
            directory=ledger.parent if ledger is not None else None,
        ),
        random=random.random,
        middleware=[
            *(load_object(name, root, "http.middleware") for name in config.http.middleware),
            *spider.middleware,
        ],
        observers=Observers(observers),
        probe=probe,
    )


def build_stages(
    config: Config,
    *,
    root: Path,
    output: str | None = None,
    where: Callable[[int], str] = lambda index: f"pipelines[{index}]",
) -> list[Placed]:
    """The chain's stages in order; with *output*, its sink stands at the end in place of others."""
    stages: list[Placed] = []
    for index, table in enumerate(config.pipelines):
        place = f"{where(index)} {table.use}"
        cls = BUILTINS[table.use] if table.use in BUILTINS else _load(table.use, root, place)
        if output is None or not hasattr(cls, "recovery"):
            stage = build_component(cls, table.options, place)
            stages.append(Placed(stage, frozenset(table.items) or None))
    if output is not None:
        stages.append(Placed(_output_sink(output)))
    return stages


def _load(use: str, root: Path, place: str) -> Any:
    if ":" not in use:
        raise UsageError(
            f"{place}: no pipeline is called {use!r}",
            hint=f'Built in: {", ".join(BUILTINS)}. Your own: use = "module:Class".',
        )
    return load_object(use, root, place)


def _output_sink(output: str) -> Any:
    if output == "-":
        return Stdout()
    cls = OUTPUT_ENDINGS.get(Path(output).suffix.lower())
    if cls is None:
        raise UsageError(
            f"-o {output}: what to write is told by the ending, and this one is not known",
            hint=f"Use one of {', '.join(OUTPUT_ENDINGS)}, or - for standard output.",
        )
    here = Path(
        str(Path.cwd()).replace("{", "{{").replace("}", "}}")
    )  # only *output* is a template
    return cls(str(here / Path(output).expanduser()))


def _frontier(ledger: Path | None) -> Frontier:
    if ledger is None:
        from scraper.frontier.memory import MemoryFrontier

        return MemoryFrontier()
    from scraper.frontier.sqlite import SqliteFrontier

    return SqliteFrontier(ledger)


def _downloader(config: Config) -> Downloader:
    from scraper.download import AiohttpDownloader

    def insecure(host_key: str) -> bool:
        verify = policy_for(host_key, config.politeness).verify_tls
        return not (config.http.verify_tls if verify is None else verify)

    return AiohttpDownloader(
        config.http, insecure_hosts=insecure, concurrency=config.crawl.concurrency
    )
