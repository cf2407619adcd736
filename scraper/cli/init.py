"""scrape init DIR: a project like the framework's own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

import scraper
from scraper.cli.output import DebugOption, note
from scraper.errors import UsageError
from scraper.project import CONFIG_NAME, find

PARTS = (CONFIG_NAME, "spiders", "pipelines")
GITIGNORE = ".scrape/\ndata/\n__pycache__/\n"


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")],
    debug: DebugOption = False,
) -> None:
    """Make a project: config.toml, spiders/ and pipelines/, with working examples.

    Hidden files, such as .git, may be in the directory already.
    """
    make_project(directory, template_directory())
    outer = find(directory.resolve().parent)
    note(f"Made a project in {directory}:")
    note(f"  {CONFIG_NAME}   the settings; `scrape config` shows all of them")
    note("  spiders/      a spider is a class in here; these are examples")
    note("  pipelines/    the project's own stages for items")
    if outer is not None:
        note(f"It lies within another project, {outer.root}; the inner one counts inside it.")
    note()
    note("Next:")
    if directory.resolve() != Path.cwd():
        note(f"  cd {directory}")
    note("  scrape list")
    note("  scrape new NAME URL")


def template_directory() -> Path:
    """Where the template is: in an installed package, or the root of a source checkout."""
    package = Path(scraper.__path__[0])
    for directory in (package / "_template", package.parent):
        if all((directory / part).exists() for part in PARTS):
            return directory
    raise UsageError(f"the template is not in {package}: the installation is incomplete")


def make_project(directory: Path, template: Path) -> None:
    """Copy the template's parts into *directory*. Raises `UsageError` unless it is new or empty."""
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is a file")
    there = sorted(p.name for p in directory.iterdir()) if directory.exists() else []
    visible = [name for name in there if not name.startswith(".")]
    if visible:
        more = f" and {len(visible) - 3} more" if len(visible) > 3 else ""
        raise UsageError(
            f"{directory} is not empty: it has {', '.join(visible[:3])}{more}",
            hint="Name a new or an empty directory.",
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            _copy(template / part, directory / part)
        if ".gitignore" not in there:
            (directory / ".gitignore").write_text(GITIGNORE, "utf-8")
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        skip = shutil.ignore_patterns("__pycache__", ".*", "*.pyc")
        shutil.copytree(source, target, ignore=skip, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(source, target)
