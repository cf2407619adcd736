"""A project: the directory of a config.toml, its spiders, and what a command needs of both.

::

    config.toml      found upwards from the working directory
    spiders/         every module is imported; every named Spider subclass in it is a spider
    .scrape/         the jobs' state
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from scraper import layers
from scraper.errors import ConfigError, SpiderError, UsageError
from scraper.job import STATE
from scraper.layers import Loaded
from scraper.loading import import_error, import_file, import_from
from scraper.spider import Spider, inherited_settings, own_settings

__all__ = [
    "CONFIG_NAME",
    "Entry",
    "Prepared",
    "Project",
    "Spiders",
    "find",
    "find_state",
    "prepare",
    "require",
]

CONFIG_NAME = "config.toml"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")  # a name is a directory's name, too


@dataclass(frozen=True, slots=True)
class Entry:
    """A spider of the project: its class, and the file that defines it, relative to the root."""

    name: str
    cls: type[Spider]
    file: Path
    line: int

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"spider class {self.cls.__name__} ({self.file})"


@dataclass(slots=True)
class Spiders:
    """What the spiders directory holds: spiders by name, and why each broken module is broken."""

    found: dict[str, Entry] = field(default_factory=dict)
    broken: dict[Path, SpiderError] = field(default_factory=dict)

    def get(self, name: str) -> Entry:
        """The spider *name*. Raises `SpiderError`: the reason why its module does not load, or
        that there is none, with the nearest name and those there are.
        """
        if name in self.found:
            return self.found[name]
        for path, error in self.broken.items():
            if path.stem == name or _mentions(path, name):
                raise error
        raise SpiderError(f"no spider {name!r}{self._mean(name)}", hint=self._there_are())

    def _mean(self, name: str) -> str:
        close = difflib.get_close_matches(name, self.found, n=1)
        return f"; did you mean {close[0]}?" if close else ""

    def _there_are(self) -> str:
        names = ", ".join(sorted(self.found))
        text = (
            f"There are: {names}." if names else "There are none: `scrape new NAME URL` makes one."
        )
        if self.broken:
            text += f" Not loaded: {'; '.join(error.message for error in self.broken.values())}"
        return text


def _mentions(path: Path, name: str) -> bool:
    """Whether a module that does not load seems to define the spider *name*."""
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        return False
    assignment = rf"^\s+name\b[^=\n]*=\s*(['\"]){re.escape(name)}\1"
    return re.search(assignment, text, re.MULTILINE) is not None


@dataclass(frozen=True, slots=True)
class Project:
    """A directory with a config.toml; `config_path` is None where a file is run without one."""

    root: Path
    config_path: Path | None

    @property
    def state_dir(self) -> Path:
        """Where the jobs' state is kept."""
        return self.root / STATE

    def configure(
        self,
        entry: Entry | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        overrides: Sequence[str] = (),
    ) -> Loaded:
        """The configuration, for a spider or in general. Raises `ConfigError`."""
        return layers.load(
            self.config_path,
            spider=entry.name if entry else None,
            spider_settings=own_settings(entry.cls) if entry else None,
            base_settings=inherited_settings(entry.cls) if entry else (),
            spider_label=entry.label if entry else "",
            environ=os.environ if environ is None else environ,
            overrides=overrides,
        )

    def spiders_dir(self, loaded: Loaded) -> Path:
        """The directory of the spiders. Raises `ConfigError` if it is not there or outside."""
        setting = loaded.config.project.spiders
        place = f'{loaded.origin("project.spiders")}: project.spiders = "{setting}"'
        directory = (self.root / setting).resolve()
        if not directory.is_relative_to(self.root):
            raise ConfigError(f"{place}: leads out of the project, {self.root}")
        if not directory.is_dir():
            raise ConfigError(
                f"{place}: there is no such directory in {self.root}",
                hint="`scrape new NAME URL` makes it, with a first spider.",
            )
        return directory

    def spiders(self, loaded: Loaded) -> Spiders:
        """Import every module of the spiders directory and collect the spiders.

        A module that does not load is kept with its error. Raises `SpiderError` for two spiders
        of one name.
        """
        spiders = Spiders()
        for path, name in _modules(self.root, self.spiders_dir(loaded)):
            try:
                module = import_from(self.root, name)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - users' code; kept and told
                told = import_error(error, path, self.root)
                told.__cause__ = error
                spiders.broken[path] = told
                continue
            for entry in _spiders_of(module, path.relative_to(self.root)):
                if problem := _name_problem(entry, spiders):
                    spiders.broken[path] = problem
                elif entry.name:
                    spiders.found[entry.name] = entry
        return spiders

    def unknown_overrides(self, loaded: Loaded, spiders: Spiders) -> list[ConfigError]:
        """An error for each [spiders.NAME] that is no spider's name.

        While a module is broken nobody knows what it would define, so only near misses count.
        """
        errors = []
        for name in loaded.config.spiders:
            close = difflib.get_close_matches(name, spiders.found, n=1)
            if name in spiders.found or (spiders.broken and not close):
                continue
            mean = f"; did you mean [spiders.{close[0]}]?" if close else ""
            place = layers.line_of(self.config_path, ("spiders", name))
            errors.append(ConfigError(f"{place}: [spiders.{name}]: no spider has that name{mean}"))
        return errors


def _modules(root: Path, directory: Path) -> Iterator[tuple[Path, str]]:
    """The modules under *directory*: files and their dotted names, private ones left out."""
    for path in sorted(directory.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        inside = path.relative_to(directory).with_suffix("").parts
        if parts and not any(p.startswith((".", "_")) and p != "__init__" for p in inside):
            yield path, ".".join(parts)


def _spiders_of(module: ModuleType, file: Path) -> Iterator[Entry]:
    """The spider classes that *module* defines; those it only imports are not its own."""
    for value in vars(module).values():
        if not (isinstance(value, type) and issubclass(value, Spider)):
            continue
        if value.__module__ != module.__name__ or value.__name__.startswith("_"):
            continue
        if inspect.isabstract(value) or (not value.name and value.__subclasses__()):
            continue  # made to be derived from
        yield Entry(str(value.name), value, file, _line_of(value))


def _line_of(cls: type) -> int:
    try:
        return inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return 1


def _name_problem(entry: Entry, spiders: Spiders | None = None) -> SpiderError | None:
    """What is wrong with a spider's name, if anything. Raises for two of one name."""
    place = f"{entry.file}:{entry.line}: class {entry.cls.__name__}"
    if not entry.name:
        way = f'Write name = "{entry.cls.__name__.lower()}" in it.'
        return SpiderError(f"{place} has no name", hint=way)
    if not NAME.fullmatch(entry.name):
        way = "Use letters, digits, '-', '_' and '.', at most 100: it names a directory, too."
        return SpiderError(f"{place}: name = {entry.name!r} cannot be a spider's name", hint=way)
    other = spiders.found.get(entry.name) if spiders else None
    if other is not None and other.cls is not entry.cls:
        raise SpiderError(
            f"{place} is named {entry.name!r}, and so is {other.cls.__name__} "
            f"({other.file}:{other.line})",
            hint="Each spider needs a name of its own; a derived class inherits its base's.",
        )
    return None


# Finding ------------------------------------------------------------------------------------


def find(start: Path | None = None) -> Project | None:
    """The project that *start* (default: the working directory) is in, or None."""
    directory = (start or Path.cwd()).resolve()
    for candidate in (directory, *directory.parents):
        if (candidate / CONFIG_NAME).is_file():
            return Project(candidate, candidate / CONFIG_NAME)
    return None


def require(start: Path | None = None) -> Project:
    """As `find`; raises `UsageError` where there is no project."""
    project = find(start)
    if project is None:
        raise UsageError(
            f"no {CONFIG_NAME} here or above: {start or Path.cwd()} is in no project",
            hint="`scrape init DIR` makes a project; `scrape run FILE.py` needs none.",
        )
    return project


def find_state(start: Path | None = None) -> Path:
    """The directory under which jobs keep their state: the project's, or that of files run here.

    Raises `UsageError` where there is neither.
    """
    here = (start or Path.cwd()).resolve()
    if find(here) is None and (here / STATE).is_dir():
        return here
    return require(here).root


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a command that runs a spider needs."""

    project: Project
    entry: Entry
    loaded: Loaded


def prepare(
    target: str,
    *,
    start: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
) -> Prepared:
    """Find, import and configure a spider: a name of the project, or ``FILE.py[:Class]``.

    A file needs no project; where there is one, its config.toml applies. Raises `UsageError`.
    """
    file, _, class_name = target.partition(".py:")
    if target.endswith(".py") or class_name:
        path = Path(target if target.endswith(".py") else f"{file}.py")
        return _prepare_file(path, class_name, start, environ, overrides)
    project = require(start)
    general = project.configure(environ=environ, overrides=overrides)
    spiders = project.spiders(general)
    entry = spiders.get(target)
    for error in project.unknown_overrides(general, spiders):
        raise error
    loaded = project.configure(entry, environ=environ, overrides=overrides)
    return Prepared(project, entry, loaded)


def _prepare_file(
    path: Path,
    class_name: str,
    start: Path | None,
    environ: Mapping[str, str] | None,
    overrides: Sequence[str],
) -> Prepared:
    here = (start or Path.cwd()).resolve()
    project = find(here) or Project(here, None)
    full = (here / path).resolve()
    if not full.is_file():
        raise SpiderError(f"{path}: there is no such file")
    try:
        module = import_file(full)
    except (Exception, SystemExit) as error:
        raise import_error(error, full, project.root) from error
    entries = {entry.cls.__name__: entry for entry in _spiders_of(module, path)}
    if class_name and class_name not in entries:
        close = difflib.get_close_matches(class_name, entries, n=1)
        mean = f"; did you mean {path}:{close[0]}?" if close else ""
        raise SpiderError(f"{path} defines no spider class {class_name}{mean}")
    if not entries:
        raise SpiderError(f"{path} defines no Spider subclass")
    if not class_name and len(entries) > 1:
        raise SpiderError(
            f"{path} defines several spiders: {', '.join(entries)}",
            hint=f"Say which: {path}:{next(iter(entries))}",
        )
    entry = entries[class_name] if class_name else next(iter(entries.values()))
    if problem := _name_problem(entry):
        raise problem
    return Prepared(project, entry, project.configure(entry, environ=environ, overrides=overrides))
