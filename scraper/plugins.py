"""Plugins: stages, sinks and frontiers of installed packages, found by their entry points.

::

    [project.entry-points."scraper.pipelines"]
    tabs = "tabfile.sink:Tabs"           # use = "tabs"; -o FILE.tsv with endings = (".tsv",)
    [project.entry-points."scraper.frontiers"]
    sample = "tabfile.frontier:Sample"   # frontier.url = "sample://…"

Nothing is looked up until a name comes that is not built in, and only what is named is imported.
What is built in always wins. Every error names the package that it is about.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from scraper.errors import ConfigError, ScraperError, UsageError
from scraper.loading import one_line
from scraper.mistakes import nearest
from scraper.pipelines.compression import COMPRESSED
from scraper.protocols import Durable, Frontier, FrontierContext

__all__ = [
    "FRONTIERS",
    "PIPELINES",
    "SCHEMES",
    "Plugin",
    "clashes",
    "endings_of",
    "frontier_factory",
    "installed",
    "load_factory",
    "load_pipeline",
    "make_frontier",
    "pipeline",
    "sink_for",
]

PIPELINES = "scraper.pipelines"
FRONTIERS = "scraper.frontiers"
"""The groups of entry points: short names of pipeline classes, schemes of frontiers' URLs."""

SCHEMES = ("sqlite", "memory", "redis", "rediss", "unix")
"""What no plugin can take: `config.py` knows these itself."""

FrontierFactory = Callable[[str, FrontierContext], Frontier]


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point. `package`: the distribution that has it, with its version."""

    name: str
    package: str
    entry: EntryPoint

    def load(self, where: str) -> Any:
        """What it refers to. Raises `ConfigError` for whatever its import raises."""
        try:
            return self.entry.load()
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"{where}: the plugin {self} cannot be loaded: {one_line(error)}{self._at(error)}",
                hint="It is installed and broken: ask for another version, or uninstall it."
                " --debug shows the traceback.",
            ) from error

    def _at(self, error: BaseException) -> str:
        """The innermost line of the plugin's own code that *error* came through."""
        own, place = self.entry.value.partition(":")[0].partition(".")[0], ""
        trace = error.__traceback__
        while trace is not None:
            if str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0] == own:
                place = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"
            trace = trace.tb_next
        return place

    def __str__(self) -> str:
        return f"{self.name} of {self.package} ({self.entry.value})"


def installed(group: str) -> list[Plugin]:
    """The plugins of *group*, by name. Reads the metadata of every installed package."""
    found = [Plugin(entry.name, _package(entry), entry) for entry in entry_points(group=group)]
    return sorted(found, key=lambda plugin: (plugin.name, plugin.package))


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "no package"


def _named(group: str, name: str, where: str, way: str) -> Plugin | None:
    """The plugin of that name. Raises `ConfigError` where two packages have one."""
    own = [plugin for plugin in installed(group) if plugin.name == name]
    if len(own) > 1:
        raise ConfigError(f"{where}: {_twice(own)}", hint=way)
    return own[0] if own else None


def _twice(plugins: Iterable[Plugin]) -> str:
    listed = " and ".join(map(str, plugins))
    return f"two plugins have one name: {listed}"


def clashes(builtins: Mapping[str, Iterable[str]]) -> Iterator[ConfigError]:
    """An error for each plugin that takes a name that is taken; *builtins*: names by group.

    A run does not look: it has what is built in, and asks only for the names that it needs.
    """
    for group, taken in builtins.items():
        names = set(taken)
        others: dict[str, list[Plugin]] = {}
        for plugin in installed(group):
            if plugin.name in names:
                yield ConfigError(
                    f"the plugin {plugin} has the name of what is built in, which is used instead",
                    hint="Uninstall it, or ask its authors for a name of its own.",
                )
            else:
                others.setdefault(plugin.name, []).append(plugin)
        for plugins in others.values():
            if len(plugins) > 1:
                yield ConfigError(_twice(plugins), hint="Uninstall one of them.")


def _listed(plugins: Iterable[Plugin]) -> str:
    told = ", ".join(f"{plugin.name} ({plugin.package})" for plugin in plugins)
    return f" Installed: {told}." if told else ""


# Stages and sinks -------------------------------------------------------------------------------


def pipeline(name: str, builtins: Iterable[str], where: str) -> type[Any]:
    """The stage or sink called *name*. *where* begins messages; *builtins* are for them, too.

    Raises `UsageError` where there is none, and for a plugin that is broken.
    """
    plugin = _named(PIPELINES, name, where, 'Uninstall one, or write use = "module:Class".')
    if plugin is not None:
        return load_pipeline(plugin, where)
    others, built_in = installed(PIPELINES), list(builtins)
    close = nearest(name, [*built_in, *(other.name for other in others)])
    raise UsageError(
        f"{where}: no pipeline is called {name!r}" + (f"; {close}" if close else ""),
        hint=f'Built in: {", ".join(built_in)}.{_listed(others)} Your own: use = "module:Class".',
    )


def load_pipeline(plugin: Plugin, where: str) -> type[Any]:
    """The class that *plugin* refers to, if it can be a stage. Raises `ConfigError`."""
    cls = plugin.load(where)
    if not isinstance(cls, type):
        raise ConfigError(f"{where}: the plugin {plugin} is no pipeline: it is not a class")
    if not inspect.iscoroutinefunction(getattr(cls, "process", None)):
        raise ConfigError(
            f"{where}: the plugin {plugin} is no pipeline: it has no"
            " `async def process(self, item, page)`"
        )
    endings = getattr(cls, "endings", ())
    if not isinstance(endings, tuple) or not all(str(e).startswith(".") for e in endings):
        raise ConfigError(
            f"{where}: the plugin {plugin}: endings is {endings!r}",
            hint='It is a tuple of endings with their dots: endings = (".tsv",).',
        )
    return cls


def endings_of(cls: type[Any]) -> tuple[str, ...]:
    """The endings of files that the sink *cls* writes; () for a stage."""
    return tuple(map(str.lower, getattr(cls, "endings", ()))) if hasattr(cls, "recovery") else ()


def sink_for(file: str, builtins: Iterable[str], where: str) -> type[Any]:
    """The sink for `-o` *file* (a name), by its ending; the longest that fits wins.

    An ending that compresses the file is passed over. *builtins*: the endings that are built in,
    for messages. Raises `UsageError` where no plugin has such an ending, or two have; plugins
    that cannot be loaded are named then.
    """
    known, broken = list(builtins), []
    plain = (Path(file).stem if Path(file).suffix.lower() in COMPRESSED else file).lower()
    fitting: dict[str, list[tuple[Plugin, type[Any]]]] = {}
    for plugin in installed(PIPELINES):
        try:
            cls = load_pipeline(plugin, where)
        except ConfigError as error:
            broken.append(error)
            continue
        known += endings_of(cls)
        for ending in endings_of(cls):
            if plain.endswith(ending) and plain != ending:
                fitting.setdefault(ending, []).append((plugin, cls))
    if fitting:
        ending = max(fitting, key=len)
        classes = {cls for _, cls in fitting[ending]}
        if len(classes) > 1:
            listed = " and ".join(str(plugin) for plugin, _ in fitting[ending])
            raise ConfigError(
                f"{where}: two plugins write {ending}: {listed}",
                hint="Say which in config.toml: use = NAME, path = FILE.",
            )
        return classes.pop()
    hint = (
        f"Use one of {', '.join(dict.fromkeys(known))}, with {' or '.join(COMPRESSED)} after it"
        " to compress it, or - for standard output."
    )
    raise UsageError(
        f"{where}: what to write is told by the ending, and this one is not known",
        hint="\n".join([hint, *(error.message.removeprefix(f"{where}: ") for error in broken)]),
    )


# Frontiers --------------------------------------------------------------------------------------


def frontier_factory(url: str, where: str) -> tuple[Plugin, FrontierFactory]:
    """Who makes the frontier for *url*, by its scheme; it is imported, and not called yet.

    Raises `UsageError` where there is none, and for a plugin that is broken.
    """
    scheme = url.partition("://")[0]
    plugin = _named(FRONTIERS, scheme, where, "Uninstall one of them.")
    if plugin is None:
        others = installed(FRONTIERS)
        close = nearest(scheme, [*SCHEMES[:2], *(other.name for other in others)])
        raise UsageError(
            f"{where}: no frontier is called {scheme!r}" + (f"; {close}" if close else ""),
            hint=f"Built in: {', '.join(SCHEMES[:2])}.{_listed(others)}",
        )
    return plugin, load_factory(plugin, where)


def load_factory(plugin: Plugin, where: str) -> FrontierFactory:
    """What *plugin* refers to, if it can be called. Raises `ConfigError`."""
    factory: FrontierFactory = plugin.load(where)
    if not callable(factory):
        raise ConfigError(f"{where}: the plugin {plugin} makes no frontier: it cannot be called")
    return factory


def make_frontier(url: str, context: FrontierContext, where: str) -> Frontier:
    """The frontier for *url*. Raises `UsageError` for whatever its factory raises."""
    plugin, factory = frontier_factory(url, where)
    try:
        made = factory(url, context)
    except ScraperError as error:
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from error
    except Exception as error:
        raise ConfigError(f"{where}: the plugin {plugin} refuses it: {one_line(error)}") from error
    missing = _lacking(made, Frontier)
    durable = _lacking(made, Durable)
    if len(durable) < len(_members(Durable)):  # some of it: meant to be remembered
        missing += durable
    if missing:
        raise ConfigError(
            f"{where}: the plugin {plugin} makes no frontier: {type(made).__name__} lacks"
            f" {', '.join(missing)}",
            hint="scraper.protocols says what a Frontier has, and one that is Durable.",
        )
    return made


def _members(contract: type[Any]) -> list[str]:
    return [name for name in vars(contract) if not name.startswith("_")]


def _lacking(made: object, contract: type[Any]) -> list[str]:
    there = dir(made)  # without asking for a property of what is not open yet
    return [name for name in _members(contract) if name not in there]
