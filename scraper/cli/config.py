"""scrape config [SPIDER]: every effective setting and where it comes from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ByteSize

from scraper.cli.output import DebugOption, JsonOption, SetOption, clean, data, data_json
from scraper.config import SECTIONS
from scraper.layers import Loaded, effective
from scraper.mistakes import Key, dotted, fields_of, masked, shown
from scraper.project import Project, find, prepare

WIDTH = 80


def config(
    spider: Annotated[
        str | None, typer.Argument(metavar="SPIDER", help="As this spider sees it.")
    ] = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
    changed: Annotated[bool, typer.Option("--changed", help="Leave the defaults out.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say what each one means.")] = False,
    debug: DebugOption = False,
) -> None:
    """Every setting with its value, and behind it where the value comes from.

    The output is TOML, fit for config.toml. Secrets are masked.
    """
    overrides = settings or []
    if spider is None:
        project = find() or Project(Path.cwd(), None)  # without one: the defaults
        loaded = project.configure(overrides=overrides)
    else:
        loaded = prepare(spider, overrides=overrides).loaded
    if as_json:
        data_json({
            dotted(key): {"value": masked(value, key), "origin": loaded.origin(dotted(key))}
            for key, value in chosen(loaded, changed)
        })
        return
    for line in as_toml(loaded, changed, explain):
        data(line)


def chosen(loaded: Loaded, changed: bool) -> Iterator[tuple[Key, Any]]:
    """The settings to show."""
    for key, value in effective(loaded.config).items():
        if not changed or loaded.origin(dotted(key)) != "default":
            yield key, value


def as_toml(loaded: Loaded, changed: bool = False, explain: bool = False) -> Iterator[str]:
    """The lines of a config.toml, with each value's origin as a comment."""
    last: Key = ()
    for key, value in chosen(loaded, changed):
        table, name = key[:-1], dotted(key[-1:])
        if table != last:
            yield from ([""] if last else [])
            yield f"[[{table[0]}]]" if table[0] == "pipelines" else f"[{dotted(table)}]"
            last = table
        if explain and len(key) == 2 and key[0] in SECTIONS:
            yield f"# {fields_of(SECTIONS[str(key[0])])[str(key[1])].description}"
        origin = clean(loaded.origin(dotted(key)))
        text = f"{name} = {written(value, key)}" if value is not None else f"# {name} ="
        line = f"{text:<39} # {origin}"
        if len(line) > WIDTH:  # the comment goes above
            yield f"# {origin}"
        yield line if len(line) <= WIDTH else text


def written(value: Any, key: Key) -> str:
    """*value* as TOML; sizes in the largest unit that shows them exactly."""
    if isinstance(value, ByteSize):
        for factor, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "KB")):
            if value >= factor and value % factor == 0:
                return f'"{value // factor} {unit}"'
        return str(int(value))
    return clean(shown(value, key, longest=sys.maxsize))
