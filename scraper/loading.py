"""Importing users' code: by name from their configuration, never by a name that came from the web.

Whatever an import raises becomes one line with the file and line of the user's own code; the
original is chained to it, so that ``--debug`` shows the traceback.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from scraper.errors import ConfigError, ScraperError, SpiderError

FRAMEWORK = __name__.partition(".")[0]

__all__ = ["import_file", "import_from", "load_object", "load_own", "on_path", "one_line"]


def on_path(directory: Path) -> None:
    """Put *directory* first on the import path, as Python does for a script's directory."""
    entry = str(directory)
    if sys.path[:1] != [entry]:
        if entry in sys.path:
            sys.path.remove(entry)
        sys.path.insert(0, entry)
        importlib.invalidate_caches()


def import_from(root: Path, name: str) -> ModuleType:
    """Import *name*, preferring what stands under *root* to everything else.

    A package of the same name that another project brought into this process gives way.
    Raises what the import raises.
    """
    on_path(root)
    top = name.partition(".")[0]
    if top != FRAMEWORK and ((root / top).is_dir() or (root / f"{top}.py").is_file()):
        _forget_others(root, top)
    return importlib.import_module(name)


def _forget_others(root: Path, top: str) -> None:
    for name in [n for n in sys.modules if n == top or n.startswith(f"{top}.")]:
        if not _is_under(sys.modules[name], root):
            del sys.modules[name]


def _is_under(module: ModuleType, root: Path) -> bool:
    places = [module.__file__] if getattr(module, "__file__", None) else []
    places += list(getattr(module, "__path__", []))[:1]
    return any(place and Path(place).resolve().is_relative_to(root) for place in places)


def import_file(path: Path) -> ModuleType:
    """Import one file as a module of its own; its neighbours can be imported from it."""
    on_path(path.parent)
    name = f"spider_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # annotations are looked up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def import_error(error: BaseException, path: Path, root: Path) -> SpiderError:
    """What importing *path* raised, as one line: file, line, exception."""
    file, line = _place(error, path, root)
    shown = file.relative_to(root) if file.is_relative_to(root) else file
    hint = error.hint if isinstance(error, ScraperError) else ""
    return SpiderError(f"{shown}:{line}: {one_line(error)}", hint=hint)


def one_line(error: BaseException) -> str:
    """What *error* says, without its traceback."""
    if isinstance(error, ScraperError):
        return error.message
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    first = next(iter(text.strip().splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _place(error: BaseException, path: Path, root: Path) -> tuple[Path, int]:
    """The innermost line of the user's own code; for a syntax error, the error's own line."""
    if isinstance(error, SyntaxError) and error.filename:
        return Path(error.filename), error.lineno or 1
    place = (path, 1)
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file == path or (file.is_relative_to(root) and "site-packages" not in file.parts):
            place = (file, trace.tb_lineno)
        trace = trace.tb_next
    return place


def load_object(reference: str, root: Path, where: str = "") -> Any:
    """What ``module:Name`` of the user's configuration refers to.

    *root*: the project's directory, searched first. *where*: for messages, such as
    ``config.toml:31``. Raises `ConfigError` when there is no such module or name, or when the
    import fails.
    """
    before = f"{where}: " if where else ""
    name, colon, attribute = reference.partition(":")
    if not colon or not name or not attribute:
        raise ConfigError(f'{before}"{reference}" is not module:Name')
    try:
        module = import_from(root, name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failed(before, reference, error, root) from error
        raise ConfigError(
            f'{before}"{reference}": there is no module {error.name}',
            hint=_near_modules(name, root),
        ) from error
    except (Exception, SystemExit) as error:
        raise _failed(before, reference, error, root) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        own = [n for n, value in vars(module).items() if not n.startswith("_") and callable(value)]
        close = difflib.get_close_matches(attribute, own, n=1)
        mean = f"; did you mean {name}:{close[0]}?" if close else ""
        message = f'{before}"{reference}": module {name} has no {attribute}{mean}'
        raise ConfigError(message) from None


def load_own(reference: str) -> Any:
    """What ``module:Name`` of the framework itself refers to. Raises what the import raises."""
    name, _, attribute = reference.partition(":")
    return getattr(importlib.import_module(name), attribute)


def _failed(before: str, reference: str, error: BaseException, root: Path) -> ConfigError:
    told = import_error(error, Path(reference.partition(":")[0]), root)
    return ConfigError(f'{before}"{reference}" cannot be imported: {told.message}', hint=told.hint)


def _near_modules(name: str, root: Path) -> str:
    package = name.rpartition(".")[0]
    directory = root.joinpath(*package.split(".")) if package else root
    prefix = f"{package}." if package else ""
    there = [prefix + path.stem for path in directory.glob("*.py") if path.stem != "__init__"]
    close = difflib.get_close_matches(name, there, n=1)
    if close:
        return f"Did you mean {close[0]}?"
    return f"It was looked for in {root} and among the installed packages."
