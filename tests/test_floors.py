"""The rules of the house, checked on the syntax tree of every module.

A module imports only from its own floor or those below; siblings on the floor of the outside
world do not know each other; optional and heavy libraries have one home each; nothing evaluates
code or imports by a name from elsewhere; no module keeps mutable state.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "scraper"

FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "_version",
        "errors",
        "redaction",
        "urls",
        "resolving",
        "encoding",
        "lazy",
        "mistakes",
        "tomlmap",
    ),
    (
        "blame",
        "guard",
        "prober",
        "queries",
        "nodes",
        "select",
        "xpath",
        "structured",
        "records",
        "sketch",
        "observation",
        "quality",
        "paths",
        "marking",
        "markers",
        "shapes",
        "plans",
        "numerals",
        "measures",
        "prices",
        "words",
        "dates",
        "types",
        "items",
        "linkfilters",
        "links",
        "pagemeta",
    ),
    (
        "multipart",
        "options",
        "revisit",
        "shellwords",
        "curl",
        "request",
        "controls",
        "filling",
        "forms",
        "http",
        "saved",
        "work",
        "report",
        "protocols",
        "config",
        "credentials",
        "drift",
        "assessment",
        "layers",
    ),
    (
        "robotstext",
        "robots",
        "recalled",
        "hostrules",
        "slots",
        "politeness",
        "retry",
        "scope",
        "templates",
        "traps",
        "redirects",
        "streams",
        "xmlrows",
        "sitemap",
        "feeds",
    ),
    (
        "download",
        "frontier",
        "pipelines",
        "clock",
        "logs",
        "probe",
        "parsing",
        "watchdog",
        "collector",
    ),
    (
        "spider",
        "crawlspider",
        "sitemapspider",
        "feedspider",
        "callbacks",
        "admission",
        "appetite",
        "observers",
        "host",
        "parking",
        "roster",
        "sharing",
        "gate",
        "chained",
        "claims",
        "revisits",
        "outputs",
        "events",
        "tally",
        "keeping",
        "verdicts",
        "scheduler",
    ),
    (
        "telling",
        "exchange",
        "downloads",
        "parts",
        "engine",
        "identity",
        "finishing",
        "lifecycle",
        "leading",
        "joint",
    ),
    (
        "loading",
        "components",
        "plugins",
        "project",
        "sameness",
        "job",
        "joblist",
        "servers",
        "build",
        "succession",
        "session",
        "api",
        "workbench",
        "drafting",
    ),
    ("cli", "demo", "testing"),
)
"""First part of the module's name below `scraper`, floor by floor. What is not here is an error."""

SIBLINGS = ("download", "frontier", "pipelines")
"""The outside world: these do not import each other."""

HOMES: dict[str, tuple[str, ...]] = {
    "aiohttp": ("download/",),
    "redis": ("frontier/redis.py", "frontier/redis_link.py"),
    "fsspec": ("pipelines/stores.py",),
    "paramiko": ("pipelines/stores.py",),
    "pyarrow": ("pipelines/parquet.py",),
    "sqlalchemy": ("pipelines/sql/",),
    "lxml": ("xpath.py",),
    "jmespath": ("paths.py",),
    "price_parser": ("prices.py",),
    "dateparser": ("dates.py",),
    "IPython": ("cli/shell.py",),
    "playwright": ("download/browser.py",),
}
"""Where a library may be imported: a file, or a directory with a slash. `demo/` is a program
that happens to be shipped and may import aiohttp."""

FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "marshal", "shelve", "cloudpickle", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
IMPORTERS = ("loading.py", "cli/app.py")
"""The files that may import by a name: the user's, from config.toml; a command's, from a table."""

LINES = 450
LONGER: dict[str, str] = {
    "testing/frontier.py": "one suite, read test by test",
    "testing/sinks.py": "another",
    "testing/shared.py": "another",
}
"""Modules that may be longer, each with its reason."""


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if "_template" not in p.parts)


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def floor(part: str) -> int | None:
    return next((n for n, names in enumerate(FLOORS) if part in names), None)


def type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs: what stands under `if TYPE_CHECKING:` does not."""
    for child in ast.iter_child_nodes(tree):
        if type_checking(child):
            assert isinstance(child, ast.If)
            for other in child.orelse:
                yield other
                yield from running(other)
            continue
        yield child
        yield from running(child)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of everything that the module imports while it runs."""
    package = ["scraper", *path.relative_to(PACKAGE).parent.parts]
    for node in running(parse(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            if source == "scraper":  # from scraper import urls: the names are modules
                for alias in node.names:
                    yield node.lineno, f"scraper.{alias.name}"
            else:
                yield node.lineno, source


def own_part(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


MODULES = modules()
each_module = pytest.mark.parametrize("path", MODULES, ids=name)


def test_there_is_a_house() -> None:
    assert len(MODULES) > 20


@each_module
def test_a_floor_imports_only_floors_below(path: Path) -> None:
    part = own_part(path)
    if part in {"__init__", "__main__"}:
        return  # the roof: shows the public names
    mine = floor(part)
    assert mine is not None, f"{name(path)} stands on no floor: put it into FLOORS"
    for line, imported in imports(path):
        top, _, rest = imported.partition(".")
        if top != "scraper" or not rest:
            continue
        target = rest.split(".")[0]
        theirs = floor(target)
        assert theirs is not None or not (PACKAGE / f"{target}.py").exists(), (
            f"{name(path)}:{line} imports {target}, which stands on no floor"
        )
        if theirs is None:  # a public name from scraper/__init__: as good as the roof
            assert mine == len(FLOORS) - 1, f"{name(path)}:{line} imports from the roof"
            continue
        assert theirs <= mine, f"{name(path)}:{line}: floor {mine} imports {target} ({theirs})"
        if part in SIBLINGS and target in SIBLINGS:
            assert part == target, f"{name(path)}:{line}: {part}/ must not know {target}/"


@each_module
def test_libraries_stay_at_home(path: Path) -> None:
    for line, imported in imports(path):
        homes = HOMES.get(imported.split(".")[0])
        if homes is None or (imported.split(".")[0] == "aiohttp" and own_part(path) == "demo"):
            continue
        at_home = any(
            name(path).startswith(home) if home.endswith("/") else name(path) == home
            for home in homes
        )
        assert at_home, f"{name(path)}:{line} imports {imported}; its home is {' or '.join(homes)}"


@each_module
def test_nothing_evaluates_code(path: Path) -> None:
    for line, imported in imports(path):
        assert imported.split(".")[0] not in FORBIDDEN_IMPORTS, f"{name(path)}:{line}: {imported}"
    for node in ast.walk(parse(path)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS, (
                f"{name(path)}:{node.lineno}: {node.func.id}"
            )
        called = ast.unparse(node.func)
        if called.split(".")[-1] in {"import_module", "spec_from_file_location", "exec_module"}:
            assert name(path) in IMPORTERS, f"{name(path)}:{node.lineno}: {called}"


MUTABLE = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)
MAKERS = {
    "dict", "list", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict",
    "WeakKeyDictionary", "WeakValueDictionary", "WeakSet", "count", "Lock", "Queue",
}  # fmt: skip


def is_mutable(value: ast.expr) -> bool:
    if isinstance(value, MUTABLE):
        return True
    return isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] in MAKERS


def module_values(tree: ast.Module) -> Iterator[tuple[str, ast.expr, int]]:
    """Names that the module's body binds to values, also inside `if` and `try`."""
    todo: list[ast.stmt] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value, node.lineno
        elif isinstance(node, ast.AnnAssign) and node.value and isinstance(node.target, ast.Name):
            yield node.target.id, node.value, node.lineno
        elif isinstance(node, (ast.If, ast.Try)):
            todo += [*node.body, *node.orelse]


CHANGES = {
    "append", "add", "update", "setdefault", "pop", "popitem", "clear", "remove", "discard",
    "extend", "insert", "appendleft", "popleft", "sort", "reverse",
}  # fmt: skip


def changed(tree: ast.Module) -> set[str]:
    """Names on which something is called or done that changes a container."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in CHANGES and isinstance(node.func.value, ast.Name):
                names.add(node.func.value.id)
        elif isinstance(node, (ast.Assign, ast.AugAssign, ast.Delete)):
            targets = [node.target] if isinstance(node, ast.AugAssign) else node.targets
            names |= {
                t.value.id
                for t in targets
                if isinstance(t, ast.Subscript) and isinstance(t.value, ast.Name)
            }
    return names


@each_module
def test_no_module_keeps_mutable_state(path: Path) -> None:
    tree = parse(path)
    mutable: set[str] = set()
    for bound, value, line in module_values(tree):
        if bound == "__all__" or not is_mutable(value):
            continue
        mutable.add(bound)
        constant = bound == bound.upper()
        assert constant, f"{name(path)}:{line}: {bound} is mutable state of the module"
    touched = {n for n in mutable & changed(tree) if not _shadowed(tree, n)}
    assert not touched, f"{name(path)}: constants that are changed: {sorted(touched)}"
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Global), f"{name(path)}:{node.lineno}: global"


def _shadowed(tree: ast.Module, bound: str) -> bool:
    """Whether a function has a local of that name, which is then what it changes."""
    return any(
        isinstance(node, ast.arg) and node.arg == bound for node in ast.walk(tree)
    )  # a constant's name is upper case; a parameter of that name would be odd, but is no state


@each_module
def test_modules_stay_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= LINES or name(path) in LONGER, f"{name(path)} has {lines} lines: split it"


def test_the_exceptions_are_needed() -> None:
    """An allow-list that lists what is not there has been forgotten."""
    for file in LONGER:
        assert len((PACKAGE / file).read_text().splitlines()) > LINES, f"{file} is short now"


# -- the checks can fail ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "check"),
    [
        ("cache: dict[str, int] = {}\n", test_no_module_keeps_mutable_state),
        ("SEEN = set()\ndef f(x):\n    SEEN.add(x)\n", test_no_module_keeps_mutable_state),
        ("TABLE = {}\ndef f(x):\n    TABLE[x] = 1\n", test_no_module_keeps_mutable_state),
        ("n = 0\ndef f():\n    global n\n    n = 1\n", test_no_module_keeps_mutable_state),
        ("import pickle\n", test_nothing_evaluates_code),
        ("def f(x):\n    return eval(x)\n", test_nothing_evaluates_code),
        ("import importlib as i\ni.import_module('')\n", test_nothing_evaluates_code),
        ("def f():\n    from aiohttp import web\n", test_libraries_stay_at_home),
        ("from scraper.engine import Engine\n", test_a_floor_imports_only_floors_below),
        ("from scraper import engine\n", test_a_floor_imports_only_floors_below),
        ("from ..engine import Engine\n", test_a_floor_imports_only_floors_below),
        ("from scraper.frontier import memory\n", test_a_floor_imports_only_floors_below),
        ("\n" * 451, test_modules_stay_short),
    ],
)  # fmt: skip
def test_a_broken_rule_is_seen(
    source: str, check: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    path = tmp_path / "pipelines" / "example.py"
    path.parent.mkdir()
    path.write_text(source)
    assert callable(check)
    with pytest.raises(AssertionError):
        check(path)


def test_imports_for_types_only_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    path = tmp_path / "urls.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from scraper.engine import Engine\n"
        "else:\n    import json\n"
    )
    test_a_floor_imports_only_floors_below(path)
    assert [imported for _, imported in imports(path)] == ["typing", "json"]
