"""scrape list: the spiders there are, or the pipelines and frontiers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from scraper.cli.output import DebugOption, JsonOption, columns, complain, data_json, note
from scraper.project import Entry, require

PipelinesOption = Annotated[
    bool,
    typer.Option("--pipelines", help="What `use` and frontier.url may name, and whose it is."),
]


def list_spiders(
    pipelines: PipelinesOption = False, as_json: JsonOption = False, debug: DebugOption = False
) -> None:
    """The project's spiders, and the modules that do not load."""
    if pipelines:
        list_pipelines(as_json=as_json)
        return
    project = require()
    spiders = project.spiders(project.configure())
    entries = [spiders.found[name] for name in sorted(spiders.found)]
    if as_json:
        broken = [
            {"file": str(path.relative_to(project.root)), "error": error.message}
            for path, error in spiders.broken.items()
        ]
        data_json({"spiders": [_described(entry) for entry in entries], "broken": broken})
        return
    columns((entry.name, f"{entry.file}:{entry.line}", _purpose(entry.cls)) for entry in entries)
    for error in spiders.broken.values():
        complain(f"not loaded: {error.message}", error.hint)
    if not entries and not spiders.broken:
        note("There are no spiders yet: `scrape new NAME URL` writes one.")


def _described(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "class": entry.cls.__name__,
        "file": str(entry.file),
        "line": entry.line,
        "purpose": _purpose(entry.cls),
        "start_urls": list(entry.cls.start_urls),
    }


def _purpose(thing: object) -> str:
    doc = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
    return doc.partition("\n")[0]


# Pipelines and frontiers ------------------------------------------------------------------------


def list_pipelines(*, as_json: bool) -> None:
    """Stages, sinks and frontiers that can be named: built in, and of installed packages.

    Needs no project. Every plugin is imported; one that cannot be is told on stderr.
    """
    from scraper import plugins
    from scraper.build import BUILTINS
    from scraper.errors import ConfigError

    rows, broken = list(_built_in()), []
    taken = {plugins.PIPELINES: BUILTINS, plugins.FRONTIERS: plugins.SCHEMES}
    for group, names in taken.items():
        for plugin in plugins.installed(group):
            if plugin.name in names:
                continue  # `clashes` tells
            try:
                rows.append(_plugged(plugin, group))
            except ConfigError as error:
                broken.append(error)
    broken += plugins.clashes(taken)
    if as_json:
        told = [{"error": error.message, "hint": error.hint} for error in broken]
        data_json({"pipelines": rows, "broken": told})
        return
    columns(
        (row["name"], row["kind"], " ".join(row["endings"]) or "-", row["from"], row["purpose"])
        for row in rows
    )
    for problem in broken:
        complain(problem.message, problem.hint)


def _built_in() -> Iterator[dict[str, Any]]:
    from scraper.build import BUILTINS, OUTPUT_ENDINGS, builtin
    from scraper.errors import UsageError

    for name in BUILTINS:
        endings = [ending for ending, writes in OUTPUT_ENDINGS.items() if writes == name]
        try:
            cls = builtin(name)
        except UsageError as error:  # its library is not installed
            yield _row(name, "sink", endings, "built in", None) | {"purpose": error.message}
        else:
            yield _row(name, _kind(cls), endings, "built in", cls)
    for name, purpose in (
        ("sqlite", "Durable."),
        ("memory", "Gone when the process ends."),
        ("redis://", "Many workers share one crawl."),
    ):
        yield _row(name, "frontier", [], "built in", None) | {"purpose": purpose}


def _plugged(plugin: Any, group: str) -> dict[str, Any]:
    from scraper import plugins

    if group == plugins.PIPELINES:
        cls = plugins.load_pipeline(plugin, "not loaded")
        endings = list(plugins.endings_of(cls))
        return _row(plugin.name, _kind(cls), endings, plugin.package, cls)
    factory = plugins.load_factory(plugin, "not loaded")
    return _row(f"{plugin.name}://", "frontier", [], plugin.package, factory)


def _kind(cls: type[Any]) -> str:
    return "sink" if hasattr(cls, "recovery") else "stage"


def _row(name: str, kind: str, endings: list[str], origin: str, thing: object) -> dict[str, Any]:
    purpose = _purpose(thing)
    return {"name": name, "kind": kind, "endings": endings, "from": origin, "purpose": purpose}
