"""The layers of the configuration, and where each value came from.

defaults < config.toml < `settings` of the spider's class (over those of the classes it derives
from) < [spiders.NAME] < environment < -s

Each layer is validated by itself, so that an error names its own place, and a mistake in one is
not hidden by another. Nothing is dropped: a key that nobody reads is an error with the nearest
right one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from scraper import mistakes
from scraper.config import SECTIONS, Config, SpiderOverrides
from scraper.errors import ConfigError
from scraper.mistakes import Key, Problem, clip, dotted
from scraper.tomlmap import lines_of

__all__ = ["Loaded", "SettingsError", "effective", "load"]

PREFIX = "SCRAPE_"
MAX_FILE = 1_000_000


class SettingsError(ConfigError):
    """One line for the first problem; `problems` holds a line for each."""

    def __init__(self, problems: Sequence[str], *, hint: str = "") -> None:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        if more and not hint:
            hint = "`scrape check` lists them all."
        super().__init__(problems[0] + more, hint=hint)
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, and for each dotted key where its value came from."""

    config: Config
    origins: Mapping[str, str]

    def origin(self, key: str) -> str:
        """Where *key* was set: ``config.toml:12``, ``-s``, a variable's name … or ``default``."""
        while key:
            if key in self.origins:
                return self.origins[key]
            key = key.rpartition(".")[0]
        return "default"

    def pipeline_place(self, index: int) -> str:
        """What messages call the chain's stage *index*: ``config.toml:31: [[pipelines]]``."""
        return f"{self.origin(f'pipelines.{index}.use')}: [[pipelines]]"


@dataclass(slots=True)
class Layer:
    """One layer: its values, and where each of them stands (`places`, else `label`)."""

    label: str
    tree: dict[str, Any]
    places: dict[Key, str] = field(default_factory=dict)
    model: type[SpiderOverrides] = Config
    unread: list[Problem] = field(default_factory=list)

    def place(self, key: Key) -> str:
        """Where *key*, or what holds it, stands in this layer."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.places:
                return self.places[key[:end]]
        return self.label

    def problems(self) -> Iterator[Problem]:
        """What is wrong with this layer by itself: what could not be read, what is not valid."""
        yield from self.unread
        try:
            self.model.model_validate(self.tree)
        except ValidationError as invalid:
            order = {place: number for number, place in enumerate(self.places.values())}
            found: list[tuple[int, Problem]] = []
            for error in invalid.errors(include_url=False):
                key = tuple(part for part in error["loc"] if part != "[key]")
                place = self.place(key)
                problem = mistakes.explain(place, key, error, self.model)
                found.append((order.get(place, -1), problem))
            yield from (problem for _, problem in sorted(found, key=lambda pair: pair[0]))

    def part(self, key: Key, label: str) -> Layer:
        """The layer made of what stands under *key*."""
        tree: Any = self.tree
        for step in key:
            tree = tree.get(step, {})
        places = {k[len(key) :]: v for k, v in self.places.items() if k[: len(key)] == key}
        places = {k: f"{v} {label}" for k, v in places.items() if k}
        return Layer(label, tree, places)


def load(
    path: Path | None,
    *,
    spider: str | None = None,
    spider_settings: Mapping[str, Any] | None = None,
    spider_label: str = "",
    base_settings: Sequence[tuple[str, Mapping[str, Any]]] = (),
    environ: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Loaded:
    """Read and validate all layers, and lay them over each other.

    *path*: config.toml, None without a project. *spider*: whose [spiders.NAME] applies.
    *spider_settings*: the class's `settings`, nested or with dotted keys; *spider_label* is what
    errors call it. *base_settings*: the same of the classes that it derives from, each with its
    label, the furthest first. *environ*: only names that begin with ``SCRAPE_`` are looked at.
    *overrides*: ``section.key=value``, values in TOML or bare strings. *settings*: given by a
    caller in Python, over everything else, in the form of *spider_settings*.

    Raises `SettingsError`, whose message is the first problem and whose `problems` are all.
    """
    file = read_file(path) if path is not None else Layer("config.toml", {})
    label = spider_label or f"settings of spider {spider}"
    layers = [
        file,
        *(read_settings(given, base) for base, given in base_settings),
        read_settings({} if spider_settings is None else spider_settings, label),
        read_environment(environ or {}),
        read_overrides(overrides),
        read_settings(settings or {}, "settings"),
    ]
    problems = [str(problem) for layer in layers for problem in layer.problems()]
    if problems:
        raise SettingsError(problems)

    if spider is not None and spider in file.tree.get("spiders", {}):
        own = file.part(("spiders", spider), f"[spiders.{spider}]")
        layers.insert(2 + len(base_settings), own)
    tree: dict[str, Any] = {}
    origins: dict[Key, str] = {}
    for layer in layers:
        lay(tree, origins, layer, layer.tree)
    config = Config.model_validate(tree)
    found = {dotted(key): origins.get(key) or _above(origins, key) for key in effective(config)}
    return Loaded(config, found)


def _above(origins: Mapping[Key, str], key: Key) -> str:
    return next((origins[key[:n]] for n in range(len(key), 0, -1) if key[:n] in origins), "default")


def lay(
    tree: dict[str, Any],
    origins: dict[Key, str],
    layer: Layer,
    values: Mapping[str, Any],
    under: Key = (),
) -> None:
    """Lay *values* over *tree* in place: tables merge, everything else replaces."""
    for name, value in values.items():
        key = (*under, name)
        if isinstance(value, Mapping):
            below = tree.setdefault(name, {})
            lay(below, origins, layer, value, key)
            continue
        tree[name] = value
        for old in [old for old in origins if old[: len(key)] == key]:
            del origins[old]
        origins[key] = layer.place(key)
        # The entries of a list have places of their own.
        origins.update({k: v for k, v in layer.places.items() if k[: len(key)] == key})


def effective(config: Config) -> dict[Key, Any]:
    """Every setting by its key, in the order of the documentation, tables taken apart."""
    flat: dict[Key, Any] = {}
    for section, model in SECTIONS.items():
        values = getattr(config, section)
        for name, info in model.model_fields.items():
            value = getattr(values, name)
            _flatten(flat, (section, info.alias or name), value)
    for number, table in enumerate(config.pipelines):
        for name, value in {"use": table.use, **table.options}.items():
            flat["pipelines", number, name] = value
    return flat


def _flatten(flat: dict[Key, Any], key: Key, value: Any) -> None:
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in sorted(value.model_fields_set)}
    if isinstance(value, dict) and value:
        for name, below in value.items():
            _flatten(flat, (*key, name), below)
    else:
        flat[key] = value


# The file ----------------------------------------------------------------------------------


def read_file(path: Path) -> Layer:
    """The layer of config.toml, with the line of every key. Raises `ConfigError`."""
    name = path.name
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE:
        raise ConfigError(f"{path}: larger than {MAX_FILE} bytes: is this the right file?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{name}:{line}: not UTF-8", hint="Save the file as UTF-8.") from error
    try:
        tree = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(_syntax(name, text, error)) from error
    places = {key: f"{name}:{line}" for key, line in lines_of(text).items()}
    return Layer(name, tree, places)


# The name of a table, as far as it can be one, or a key: what stands behind may be a secret.
_BEGINNING = re.compile(r"\s*(\[[\w.'\"* \t[-]*\]*|[\w.'\"*-]+[ \t]*=)")


def _syntax(name: str, text: str, error: Exception) -> str:
    """One line for a TOML syntax error: its place, its kind, and the line itself."""
    found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
    if found is None:
        line = text.count("\n") + 1
        what = re.sub(r" \(at end of document\)", " before the end of the file", str(error))
        return f"{name}:{line}: not TOML: {what}"
    line, column = int(found[1]), int(found[2])
    what = str(error)[: found.start()].strip()
    # The line itself may hold a secret: only its key or its table's name is told.
    begin = _BEGINNING.match(text.split("\n")[line - 1])
    source = f", in {clip(begin[1])}" if begin else ""
    return f"{name}:{line}: not TOML: {what} at line {line}, column {column}{source}"


# A spider's class --------------------------------------------------------------------------


def read_settings(settings: Any, label: str) -> Layer:
    """The layer of a class's `settings`: nested tables, dotted keys, or both."""
    layer = Layer(label, {}, model=SpiderOverrides)
    if not isinstance(settings, Mapping):
        layer.unread.append(
            Problem(label, f"settings must be a dict, not {type(settings).__name__}")
        )
        return layer

    def put(values: Mapping[Any, Any], under: Key) -> None:
        for name, value in values.items():
            steps = (name,) if under and isinstance(name, str) else _steps(name)
            if steps is None:
                layer.unread.append(Problem(label, f"{name!r} is not a key"))
            elif isinstance(value, Mapping):
                put(value, (*under, *steps))
            elif not put_at(layer.tree, (*under, *steps), value):
                layer.unread.append(Problem(label, f"{dotted((*under, *steps))} is no table"))

    put(settings, ())
    return layer


# The environment ---------------------------------------------------------------------------


def variables() -> dict[str, Key]:
    """Every spelling of every environment variable, without the prefix, and its key."""
    table: dict[str, Key] = {"PIPELINES": ("pipelines",)}
    for section, model in SECTIONS.items():
        for name, info in model.model_fields.items():
            key = (section, info.alias or name)
            for between in ("__", "_"):
                table[between.join(key).upper()] = key
    return table


def read_environment(environ: Mapping[str, str]) -> Layer:
    """The layer of ``SCRAPE_SECTION__KEY``, or ``SCRAPE_SECTION_KEY``; misspelt is refused."""
    layer = Layer("environment", {})
    known = variables()
    for variable in sorted(environ):
        if not variable.startswith(PREFIX):
            continue
        key = known.get(variable.removeprefix(PREFIX))
        if key is None:
            names = [PREFIX + name for name in known if "__" in name or "_" not in name]
            way = mistakes.nearest(variable, names, cutoff=0.8)
            layer.unread.append(Problem(variable, "unknown setting in the environment", way))
            continue
        if key in layer.places:
            other = layer.places[key]
            layer.unread.append(Problem(variable, f"sets {dotted(key)}, and so does {other}"))
            continue
        put_at(layer.tree, key, read_value(environ[variable], key))
        layer.places[key] = variable
    return layer


# -s ----------------------------------------------------------------------------------------


def read_overrides(overrides: Sequence[str]) -> Layer:
    """The layer of ``-s section.key=value``; the last one for a key wins."""
    layer = Layer("-s", {})
    for override in overrides:
        name, equals, raw = override.partition("=")
        key = _steps(name.strip())
        place = f"-s {name.strip()}"
        if not equals or key is None:
            layer.unread.append(Problem(place, "is not section.key=value"))
        elif key[0] == "spiders":
            way = f"write -s {dotted(key[2:])}=…" if len(key) > 2 else ""
            layer.unread.append(Problem(place, "-s is for the spider that runs", way))
        elif key[0] == "pipelines" and len(key) > 1:
            way = "write -s 'pipelines=[{use=\"…\"}]', or use -o FILE"
            layer.unread.append(Problem(place, "the chain is replaced as a whole", way))
        elif not put_at(layer.tree, key, read_value(raw.strip(), key)):
            layer.unread.append(Problem(place, "contradicts another -s"))
        else:
            layer.places[key] = "-s"
    return layer


def _steps(name: object) -> Key | None:
    """The steps of a dotted key as TOML writes it; None if it is not one."""
    if not isinstance(name, str) or any(c in name for c in "=\n\r#[{"):
        return None
    try:
        tree: Any = tomllib.loads(f"{name} = 0")
    except tomllib.TOMLDecodeError:
        return None
    steps: list[str] = []
    while isinstance(tree, dict):
        step, tree = next(iter(tree.items()))
        steps.append(step)
    return tuple(steps)


def put_at(tree: dict[str, Any], key: Key, value: Any) -> bool:
    """Set *key* in *tree*; False where something that is no table stands in its way."""
    for step in key[:-1]:
        below = tree.setdefault(str(step), {})
        if not isinstance(below, dict):
            return False
        tree = below
    tree[str(key[-1])] = value
    return True


def read_value(raw: str, key: Key) -> Any:
    """*raw* as TOML, or else as the bare string that it is.

    A setting that is text takes ``1.0`` or ``true`` as text.
    """
    try:
        tree = tomllib.loads(f"x = {raw}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return raw
    if len(tree) != 1:
        return raw
    value = tree["x"]
    if not isinstance(value, str | list | dict) and _is_text(mistakes.annotation_at(Config, key)):
        return raw
    return value


def _is_text(annotation: Any) -> bool:
    if get_origin(annotation) is Literal:
        return all(isinstance(choice, str) for choice in get_args(annotation))
    if isinstance(annotation, type):
        return annotation in {str, Path}
    if get_origin(annotation) in {list, dict}:
        return False
    return any(_is_text(part) for part in get_args(annotation))


def line_of(path: Path | None, key: Key) -> str:
    """``config.toml:12`` for a key of the file; the file's name when it is not there."""
    return read_file(path).place(key) if path is not None else "config.toml"
