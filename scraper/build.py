"""The one composition root: configuration and spider in, the parts of an engine out.

Only here are concrete classes named. To add a sink or a stage, give it a short name in `BUILTINS`,
and to the library that it needs, when that is optional, its extra in `EXTRAS`. What is not built in
is asked of `plugins`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scraper.clock import LoopClock
from scraper.components import build_component
from scraper.config import REDIS, Config
from scraper.config import Frontier as FrontierSettings
from scraper.credentials import Owners
from scraper.errors import UsageError
from scraper.loading import load_object, load_own
from scraper.observers import Observers
from scraper.parsing import Parsing
from scraper.parts import Parts
from scraper.pipelines.append import AppendSink
from scraper.pipelines.chain import Chain, Placed
from scraper.pipelines.compression import COMPRESSED, plain_suffix
from scraper.pipelines.page import Limits
from scraper.pipelines.paths import rejected_path
from scraper.pipelines.rejected import RejectedItems
from scraper.pipelines.relay import MOST
from scraper.pipelines.stdout import Stdout
from scraper.politeness import policy_for
from scraper.protocols import Clock, Downloader, Frontier, FrontierContext, Observer, Shared
from scraper.redaction import is_credential
from scraper.spider import Spider
from scraper.urls import redact

__all__ = [
    "BUILTINS",
    "EXTRAS",
    "OUTPUT_ENDINGS",
    "build",
    "build_stages",
    "builtin",
    "needing",
    "output_template",
]

BUILTINS: Mapping[str, str] = MappingProxyType({
    "dedupe": "scraper.pipelines.dedupe:Dedupe",
    "files": "scraper.pipelines.files:Files",
    "filter": "scraper.pipelines.filter:Filter",
    "jsonl": "scraper.pipelines.jsonl:Jsonl",
    "json": "scraper.pipelines.json_array:JsonArray",
    "csv": "scraper.pipelines.csv:Csv",
    "parquet": "scraper.pipelines.parquet:Parquet",
    "sqlite": "scraper.pipelines.sqlite:Sqlite",
    "sql": "scraper.pipelines.sql:Sql",
})
"""What `use = "…"` understands without a module: short names, and where the classes are.

They are imported when they are used: so are the libraries that they need.
"""

OUTPUT_ENDINGS: Mapping[str, str] = MappingProxyType({
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
    ".db": "sqlite",
})
"""What `-o FILE` writes: short names, by the file's ending (without one that compresses it)."""

EXTRAS: Mapping[str, str] = MappingProxyType({
    "fsspec": "remote",
    "pyarrow": "parquet",
    "redis": "redis",
    "sqlalchemy": "sql",
})
"""The optional libraries that built-ins need, and the extras that bring them."""

REDIS_FRONTIER = "scraper.frontier.redis:RedisFrontier"


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
    frontier_place: str = "frontier.url",
    probe: Callable[[str], None] | None = None,
) -> Parts:
    """Everything an engine needs. Raises `UsageError` for what cannot be built.

    *ledger*: the file of a durable frontier, or that it would have in its job's directory if it
    is a plugin's; None keeps it in memory. *output*: `-o`, which replaces the configured sinks.
    *where*, *frontier_place*: what messages call the configuration's n-th pipeline, and frontier.
    """
    clock = LoopClock()
    frontier = _frontier(spider, config.frontier, ledger, frontier_place, clock)

    def chain() -> Chain:
        stages = build_stages(config, root=root, output=output, where=where)
        sinks = [placed.stage for placed in stages if _keeps_items(placed.stage)]
        if not sinks and not extra_sinks and default_output:
            sinks = [builtin("jsonl")()]
            stages.append(Placed(sinks[0]))
        stages += map(Placed, extra_sinks)
        observed = config.quality.action != "off"
        return Chain(stages, rejected=_rejected(sinks), observed=observed)

    return Parts(
        spider=spider,
        config=config,
        frontier=frontier,
        downloader=_downloader(config, spider, clock),
        chain=chain(),
        clock=clock,
        page_limits=Limits(
            item_size=int(config.crawl.max_item_size),
            items=config.crawl.max_items_per_page,
            page=MOST if isinstance(frontier, Shared) else 0,
            directory=ledger.parent if ledger is not None else None,
        ),
        random=random.random,
        middleware=[
            *(load_object(name, root, "http.middleware") for name in config.http.middleware),
            *spider.middleware,
        ],
        observers=Observers(observers),
        parsing=Parsing(config.crawl.probe),
        probe=probe,
        outputs=chain,
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
        cls = _load(table.use, root, place)
        if output is None or not _keeps_items(cls):
            stage = build_component(cls, table.options, place)
            stages.append(Placed(stage, frozenset(table.items) or None))
    if output is not None:
        stages.append(Placed(_output_sink(output)))
    return stages


def builtin(name: str, asked: str = "") -> Any:
    """The class that the short *name* stands for. *asked*: how it was asked for, for messages.

    Raises `UsageError` when a library that it needs is not installed.
    """
    return needing(lambda: load_own(BUILTINS[name]), asked or f'use = "{name}"')


def needing(load: Callable[[], Any], asked: str) -> Any:
    """What *load* imports. Raises `UsageError`, naming the extra, for a library that is missing."""
    try:
        return load()
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in EXTRAS:
            raise
        raise UsageError(
            f"{asked} needs {library}: pip install 'scraper-framework[{EXTRAS[library]}]'"
        ) from error


def _keeps_items(stage: Any) -> bool:
    """Whether it is an output of items, such as `-o` stands in for: a sink, and not of files."""
    return hasattr(stage, "recovery") and getattr(stage, "keeps_items", True)


def _load(use: str, root: Path, place: str) -> Any:
    if use in BUILTINS:
        return builtin(use, f'{place}: use = "{use}"')
    if ":" in use:
        return load_object(use, root, place)
    from scraper import plugins

    return plugins.pipeline(use, BUILTINS, place)


def _output_sink(output: str) -> Any:
    if output == "-":
        return Stdout()
    place = f"-o {redact(output)}"
    name = OUTPUT_ENDINGS.get(plain_suffix(output))
    if name is not None:
        cls = builtin(name, place)
    else:
        from scraper import plugins

        cls = plugins.sink_for(Path(output).name, OUTPUT_ENDINGS, place)
        name = cls.__name__
    ending = Path(output).suffix.lower()
    if ending in COMPRESSED and not issubclass(cls, AppendSink):
        raise UsageError(
            f"{place}: {name} cannot be compressed as a whole",
            hint=f"Leave {ending} out.",
        )
    return build_component(cls, {"path": output_template(output)}, place)


def output_template(output: str) -> str:
    """What `-o` names, as the template of a path that means the same in every directory."""
    if output == "-" or "://" in output:
        return output
    here = str(Path.cwd()).replace("{", "{{").replace("}", "}}")  # only *output* is a template
    return str(Path(here) / Path(output).expanduser())


def _rejected(sinks: Sequence[Any]) -> RejectedItems | None:
    """The sink of rejected items: beside the first output that is a file, else in `data/`.

    None when nothing is written but to standard output, or nothing at all.
    """
    for sink in sinks:
        if isinstance(path := getattr(sink, "path", None), str):
            shared = sink.recovery == "redo"  # a table may be written by several spiders at once
            mode = getattr(sink, "mode", "replace")
            return RejectedItems(
                rejected_path(path, shared=shared),
                "append" if mode == "append" else "replace",
                by_job=shared,
            )
    shared = any(getattr(sink, "recovery", None) == "redo" for sink in sinks)
    kept = any(not isinstance(sink, Stdout) for sink in sinks)
    return RejectedItems(by_job=shared) if kept else None


def _frontier(
    spider: Spider, settings: FrontierSettings, ledger: Path | None, place: str, clock: Clock
) -> Frontier:
    if ledger is None:
        from scraper.frontier.memory import MemoryFrontier

        return MemoryFrontier(wall=clock.wall)
    url = settings.url
    scheme, colon, _ = url.partition("://")
    if colon:
        job = FrontierContext(spider.name, ledger.parent.name, ledger.parent, clock.wall)
        if scheme in REDIS:
            shared = needing(lambda: load_own(REDIS_FRONTIER), f"{place} = {redact(url)}")
            made: Frontier = shared(url, job, lease=settings.lease, patience=settings.patience)
            return made
        from scraper import plugins

        return plugins.make_frontier(url, job, place)
    from scraper.frontier.sqlite import SqliteFrontier

    return SqliteFrontier(ledger, wall=clock.wall)


def _downloader(config: Config, spider: Spider, clock: Clock) -> Downloader:
    from scraper.download import AiohttpDownloader

    def insecure(host_key: str) -> bool:
        verify = policy_for(host_key, config.politeness).verify_tls
        return not (config.http.verify_tls if verify is None else verify)

    named = config.http.trusted_hosts
    shown = any(map(is_credential, config.http.headers))  # else there may be a million starts
    return AiohttpDownloader(
        config.http,
        insecure_hosts=insecure,
        owners=Owners(named, *((spider.allowed_domains, spider.start_urls) if shown else ())),
        concurrency=config.crawl.concurrency,
        now=clock.wall,
    )
