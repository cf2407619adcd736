"""scrape list: the spiders there are."""

from __future__ import annotations

import inspect
from typing import Any

from scraper.cli.output import DebugOption, JsonOption, columns, complain, data_json, note
from scraper.project import Entry, require


def list_spiders(as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """The project's spiders, and the modules that do not load."""
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
    columns((entry.name, f"{entry.file}:{entry.line}", _purpose(entry)) for entry in entries)
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
        "purpose": _purpose(entry),
        "start_urls": list(entry.cls.start_urls),
    }


def _purpose(entry: Entry) -> str:
    doc = inspect.cleandoc(entry.cls.__doc__ or "")
    return doc.partition("\n")[0]
