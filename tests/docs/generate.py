"""The parts of the documentation that are computed: settings, commands, reason codes, floors.

python -m tests.docs.generate     rewrite them in place; a test fails while they differ
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer.main
from pydantic import BaseModel, ByteSize
from pydantic.fields import FieldInfo

from scraper.cli import COMMANDS
from scraper.cli.app import build_app
from scraper.config import SECTIONS, HostRule, ItemRule
from scraper.errors import REASONS
from tests.docs.markdown import GENERATED, PAGES, ROOT, text_of
from tests.hostile.recording import recorded

__all__ = ["GENERATORS", "generated", "main"]

BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def cell(text: object) -> str:
    """*text* fit for a table."""
    return " ".join(str(text).split()).replace("|", r"\|")


def table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(map(cell, row)) + " |"


# Settings ---------------------------------------------------------------------------------------


def settings() -> Iterator[str]:
    """A table for each section of the configuration."""
    for name, model in SECTIONS.items():
        yield from ("", f"### `[{name}]`", "", (model.__doc__ or "").strip(), "")
        yield from table(("Key", "Value", "Default", "Meaning"), keys(model))
        if name == "politeness":
            head = '### `[politeness.hosts."PATTERN"]`'
            yield from ("", head, "", (HostRule.__doc__ or "").strip(), "")
            yield from table(("Key", "Value", "Default", "Meaning"), keys(HostRule))
        if name == "quality":
            yield from ("", "### `[quality.items.NAME]`", "", (ItemRule.__doc__ or "").strip(), "")
            yield from table(("Key", "Value", "Default", "Meaning"), keys(ItemRule))
    yield ""


def keys(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        description = field.description or ""
        yield f"`{field.alias or name}`", kind(field), default(field), description


def kind(field: FieldInfo) -> str:
    """What may be written, for people."""
    word = kind_of(field.annotation)
    limits = [
        f"{BOUNDS[bound]} {value:g}"
        for entry in (*field.metadata, *metadata_within(field.annotation))
        for bound in BOUNDS
        if (value := getattr(entry, bound, None)) is not None and not (bound == "ge" and not value)
    ]
    if word == "size":
        limits = []
    return ", ".join([word, *limits])


def metadata_within(annotation: Any) -> Iterator[Any]:
    """What stands in the annotations of a union's members."""
    for arm in get_args(annotation):
        if get_origin(arm) is Annotated:
            for entry in get_args(arm)[1:]:
                yield from entry.metadata if isinstance(entry, FieldInfo) else (entry,)


def kind_of(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind_of(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return kind_of(next(arm for arm in arguments if arm is not type(None)))
    if origin is Literal:
        return ", ".join(f'`"{choice}"`' for choice in arguments)
    if origin is list:
        return "list of text"
    if origin is dict:
        return "table"
    plain = {bool: "true, false", int: "whole number", float: "number", ByteSize: "size"}
    return {**plain, str: "text", Path: "path", datetime: "date"}[annotation]


def default(field: FieldInfo) -> str:
    value = field.default
    if value is None:
        return "–"
    if isinstance(value, ByteSize):
        for factor, unit in ((10**6, "MB"), (10**3, "KB")):
            if value % factor == 0:
                return f'`"{value // factor} {unit}"`'
        return f"`{int(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{value!r}`"


# Commands ---------------------------------------------------------------------------------------


def commands() -> Iterator[str]:
    """Every command with its arguments and options, as its own help has them."""
    for name in COMMANDS:
        command = click_command(name)
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
        usage = " ".join(["scrape", name, *(shown(a) for a in arguments), "[OPTIONS]"])
        yield from ("", f"## {name}", "", f"    {usage}", "")
        yield from paragraphs(command.help or "")
        rows = [(f"`{a.metavar}`", a.help or "") for a in arguments]
        rows += [(spelt(o), o.help + shown_default(o)) for o in options]
        yield ""
        yield from table(("", ""), iter(rows))
    yield ""


def click_command(name: str) -> Any:
    """The command as click has it."""
    group: Any = typer.main.get_command(build_app(name))
    return group.commands[name]


def shown(argument: Any) -> str:
    return str(argument.metavar) if argument.required else f"[{argument.metavar}]"


def spelt(option: Any) -> str:
    metavar = f" {option.metavar}" if option.metavar else ""
    names = sorted(option.opts, key=len)
    return ", ".join(f"`{name}{metavar}`" for name in names)


def shown_default(option: Any) -> str:
    is_told = isinstance(option.default, int) and not isinstance(option.default, bool)
    return f" Default: {option.default}." if is_told else ""


def paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        if number:
            yield ""
        yield " ".join(paragraph.split())


# Reasons, floors --------------------------------------------------------------------------------


def reasons() -> Iterator[str]:
    yield ""
    yield from table(
        ("Code", "Kind", "Tried again", "Meaning", "Way out"),
        (
            (f"`{r.code}`", r.kind, "yes" if r.retried else "", r.meaning, r.way_out)
            for r in REASONS.values()
        ),
    )
    yield ""


def floors() -> Iterator[str]:
    """The floors as the test of the house knows them, the ground last; only what there is."""
    from tests.test_floors import FLOORS, PACKAGE

    yield ""
    for number, parts in reversed(list(enumerate(FLOORS))):
        there = [f"{p}.py" for p in parts if (PACKAGE / f"{p}.py").exists()]
        there += [f"{p}/" for p in parts if (PACKAGE / p).is_dir()]
        yield f"    {number}  {'  '.join(there)}"
    yield ""


# Cases ------------------------------------------------------------------------------------------


def cases() -> Iterator[str]:
    """A table of the hostile web: what its suite has proved."""
    yield ""
    yield from table(
        ("Case", "Input", "Outcome"),
        ((str(row.case), row.input, row.outcome) for row in recorded()),
    )
    yield ""


GENERATORS: dict[str, Callable[[], Iterator[str]]] = {
    "settings": settings,
    "commands": commands,
    "reasons": reasons,
    "floors": floors,
    "cases": cases,
}


def generated(page: str) -> str:
    """The text of *page* with its generated parts made anew."""

    def make(match: re.Match[str]) -> str:
        lines = "\n".join(GENERATORS[match["name"]]())
        return f"{match['open']}{lines}\n{match['close']}"

    return GENERATED.sub(make, text_of(page))


def main() -> None:
    for page in PAGES:
        text = generated(page)
        if text != text_of(page):
            (ROOT / page).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
