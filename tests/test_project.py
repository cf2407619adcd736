"""Finding a project, loading its spiders, and what a broken one says."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from scraper.errors import ConfigError, SpiderError, UsageError
from scraper.layers import SettingsError
from scraper.loading import load_object
from scraper.project import Project, Spiders, find, prepare, require

Make = Callable[..., Project]

SPIDER = """
from scraper.spider import Spider

class {cls}(Spider):
    name = {name!r}
"""


def spider(name: str, cls: str = "S") -> str:
    return SPIDER.format(name=name, cls=cls)


@pytest.fixture(autouse=True)
def _imports() -> Iterator[None]:
    """Leave the interpreter's imports as they were."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if not name.startswith("scraper."):
            del sys.modules[name]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def make(files: dict[str, str] | None = None, config: str = "", at: str = "project") -> Project:
        root = (tmp_path / at).resolve()
        (root / "spiders").mkdir(parents=True)
        (root / "config.toml").write_text(config, "utf-8")
        for name, text in (files or {}).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text), "utf-8")
        return Project(root, root / "config.toml")

    return make


def loaded(project: Project) -> Spiders:
    return project.spiders(project.configure(environ={}))


# Finding -----------------------------------------------------------------------------------


def test_a_project_is_found_from_below(make: Make) -> None:
    project = make({"spiders/deep/er/x.py": ""})
    assert find(project.root / "spiders" / "deep" / "er") == project
    assert require(project.root) == project
    assert project.state_dir == project.root / ".scrape"


def test_outside_of_a_project(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    with pytest.raises(UsageError, match=r"no config\.toml here or above") as caught:
        require(tmp_path)
    assert "scrape init" in caught.value.hint


# Spiders -----------------------------------------------------------------------------------


def test_every_named_class_of_every_module_is_a_spider(make: Make) -> None:
    project = make({
        "spiders/a.py": spider("a") + spider("a2", "T"),
        "spiders/shops/b.py": spider("b"),
        "spiders/my-site.py": spider("c"),
        "spiders/_helpers.py": spider("helper"),
        "spiders/base.py": """
            from scraper.spider import Spider
            class Base(Spider):
                pass
            class Derived(Base):
                name = "derived"
            class _Private(Spider):
                name = "private"
        """,
        "spiders/again.py": "from spiders.a import S, T\n",
        "spiders/relative.py": "from .a import S\nclass R(S):\n    name = 'r'\n",
    })
    spiders = loaded(project)
    assert spiders.broken == {}
    assert sorted(spiders.found) == ["a", "a2", "b", "c", "derived", "r"]
    entry = spiders.get("b")
    assert entry.cls.__module__ == "spiders.shops.b"
    assert (entry.file, entry.line) == (Path("spiders/shops/b.py"), 4)


def test_two_spiders_of_one_name(make: Make) -> None:
    project = make({"spiders/a.py": spider("x"), "spiders/b.py": spider("x", "T")})
    with pytest.raises(SpiderError) as caught:
        loaded(project)
    assert caught.value.message == (
        "spiders/b.py:4: class T is named 'x', and so is S (spiders/a.py:4)"
    )


def test_a_derived_class_that_forgets_its_name(make: Make) -> None:
    project = make({"spiders/a.py": spider("x") + "class T(S):\n    pass\n"})
    with pytest.raises(SpiderError, match="class T is named 'x', and so is S"):
        loaded(project)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import nowhere\n", "spiders/x.py:1: ModuleNotFoundError: No module named 'nowhere'"),
        ("\n\n1 / 0\n", "spiders/x.py:3: ZeroDivisionError: division by zero"),
        ("x = (\n", "spiders/x.py:1: SyntaxError: '(' was never closed"),
        ("import sys\nsys.exit('bye')\n", "spiders/x.py:2: SystemExit: bye"),
        ("raise ValueError('a\\nb')\n", "spiders/x.py:1: ValueError: a"),
        ("raise KeyError\n", "spiders/x.py:1: KeyError"),
        ("import helper_of_tests\n", "helper_of_tests.py:2: NameError: name 'y' is not defined"),
        (
            "from scraper.errors import UsageError\nraise UsageError('wrong', hint='do this')\n",
            "spiders/x.py:2: wrong",
        ),
        (
            "from scraper.spider import Spider\nclass Shop(Spider):\n    pass\n",
            "spiders/x.py:2: class Shop has no name",
        ),
        (spider("../evil"), "spiders/x.py:4: class S: name = '../evil' cannot be a spider's name"),
    ],
)
def test_a_module_that_does_not_load_is_told_in_one_line(
    make: Make, source: str, says: str
) -> None:
    project = make({
        "spiders/x.py": source,
        "helper_of_tests.py": "\ny\n",
        "spiders/b.py": spider("b"),
    })
    spiders = loaded(project)
    assert [error.message for error in spiders.broken.values()] == [says]
    assert sorted(spiders.found) == ["b"]
    with pytest.raises(SpiderError, match=r"spiders/x|helper") as caught:
        spiders.get("x")
    assert caught.value.exit_code == 2


def test_the_original_error_is_chained(make: Make) -> None:
    spiders = loaded(make({"spiders/x.py": "1 / 0\n"}))
    (error,) = spiders.broken.values()
    assert isinstance(error.__cause__, ZeroDivisionError)


def test_a_broken_module_is_told_when_it_seems_to_define_the_spider(make: Make) -> None:
    project = make({"spiders/site.py": "import nowhere\n" + spider("good")})
    with pytest.raises(SpiderError, match=r"spiders/site\.py:1: ModuleNotFoundError"):
        prepare("good", start=project.root, environ={})


def test_a_missing_spider_names_the_nearest_and_all(make: Make) -> None:
    project = make({"spiders/a.py": spider("books"), "spiders/b.py": spider("quotes", "Q")})
    with pytest.raises(SpiderError) as caught:
        prepare("boks", start=project.root, environ={})
    assert caught.value.message == "no spider 'boks'; did you mean books?"
    assert caught.value.hint == "There are: books, quotes."


def test_the_spiders_directory_must_be_there_and_inside(make: Make) -> None:
    project = make(config='[project]\nspiders = "spyders"\n')
    with pytest.raises(
        ConfigError, match=r'config\.toml:2: project\.spiders = "spyders": there is'
    ):
        loaded(project)
    project = make(config='[project]\nspiders = "../other"\n', at="second")
    with pytest.raises(ConfigError, match="leads out of the project"):
        loaded(project)


def test_two_projects_in_one_process_do_not_mix(make: Make) -> None:
    files = {"spiders/same.py": spider("x"), "pipelines/stage.py": "PLACE = 'first'\n"}
    first = make(files, at="first")
    second = make(
        {"spiders/same.py": spider("y"), "pipelines/stage.py": "PLACE = 'second'\n"}, at="second"
    )
    assert sorted(loaded(first).found) == ["x"]
    assert load_object("pipelines.stage:PLACE", first.root) == "first"
    assert sorted(loaded(second).found) == ["y"]
    assert load_object("pipelines.stage:PLACE", second.root) == "second"
    assert sorted(loaded(first).found) == ["x"]
    assert load_object("pipelines.stage:PLACE", first.root) == "first"


def test_an_override_for_no_spider_is_refused(make: Make) -> None:
    project = make(
        {"spiders/a.py": spider("books")}, config="\n[spiders.boks.crawl]\nmax_pages = 1\n"
    )
    with pytest.raises(ConfigError) as caught:
        prepare("books", start=project.root, environ={})
    assert caught.value.message == (
        "config.toml:2: [spiders.boks]: no spider has that name; did you mean [spiders.books]?"
    )


def test_prepare_lays_the_layers(make: Make) -> None:
    source = spider("books") + "    settings = {'crawl': {'max_pages': 2}, 'retry.attempts': 7}\n"
    project = make({"spiders/a.py": source}, config="[spiders.books.crawl]\nmax_pages = 3\n")
    prepared = prepare("books", start=project.root, environ={}, overrides=["crawl.max_items=4"])
    config = prepared.loaded.config
    assert (config.crawl.max_pages, config.retry.attempts, config.crawl.max_items) == (3, 7, 4)
    assert prepared.loaded.origin("retry.attempts") == "spider class S (spiders/a.py)"


def test_a_mistake_in_a_class_names_class_and_file(make: Make) -> None:
    project = make({"spiders/a.py": spider("books") + "    settings = {'crawl.delay': 2}\n"})
    with pytest.raises(SettingsError) as caught:
        prepare("books", start=project.root, environ={})
    assert caught.value.message == (
        "spider class S (spiders/a.py): unknown key crawl.delay = 2; did you mean politeness.delay?"
    )


# A file without a project --------------------------------------------------------------------


def test_a_single_file_needs_no_project(tmp_path: Path) -> None:
    (tmp_path / "site.py").write_text("import near_of_tests\n" + spider("site"), "utf-8")
    (tmp_path / "near_of_tests.py").write_text("", "utf-8")
    prepared = prepare("site.py", start=tmp_path, environ={})
    assert prepared.entry.name == "site"
    assert prepared.project == Project(tmp_path.resolve(), None)


def test_a_class_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "site.py").write_text(spider("a") + spider("b", "T"), "utf-8")
    assert prepare("site.py:T", start=tmp_path, environ={}).entry.name == "b"
    with pytest.raises(SpiderError, match=r"site\.py defines several spiders: S, T"):
        prepare("site.py", start=tmp_path, environ={})
    with pytest.raises(SpiderError, match=r"no spider class Tt; did you mean site\.py:T\?"):
        prepare("site.py:Tt", start=tmp_path, environ={})


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", r"site\.py defines no Spider subclass"),
        ("1 / 0\n", r"site\.py:1: ZeroDivisionError"),
        (
            "from scraper.spider import Spider\nclass A(Spider): pass\n",
            r"site\.py:2: class A has no",
        ),
    ],
)
def test_a_file_that_will_not_do(tmp_path: Path, source: str, says: str) -> None:
    (tmp_path / "site.py").write_text(source, "utf-8")
    with pytest.raises(SpiderError, match=says):
        prepare("site.py", start=tmp_path, environ={})
    with pytest.raises(SpiderError, match=r"other\.py: there is no such file"):
        prepare("other.py", start=tmp_path, environ={})


# Objects of the configuration ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("prices", 'config.toml:3: "prices" is not module:Name'),
        (
            "pipelines.prizes:X",
            'config.toml:3: "pipelines.prizes:X": there is no module pipelines.prizes',
        ),
        (
            "pipelines.prices:Normalize",
            (
                'config.toml:3: "pipelines.prices:Normalize": module pipelines.prices has '
                "no Normalize; did you mean pipelines.prices:Normalise?"
            ),
        ),
        (
            "pipelines.broken:X",
            (
                'config.toml:3: "pipelines.broken:X" cannot be imported: '
                "pipelines/broken.py:1: ModuleNotFoundError: No module named 'nowhere'"
            ),
        ),
        (
            "no_such_package.x:X",
            'config.toml:3: "no_such_package.x:X": there is no module no_such_package',
        ),
    ],
)
def test_an_object_that_cannot_be_loaded(make: Make, reference: str, says: str) -> None:
    project = make({
        "pipelines/prices.py": "class Normalise: pass\n",
        "pipelines/broken.py": "import nowhere\n",
    })
    with pytest.raises(ConfigError) as caught:
        load_object(reference, project.root, "config.toml:3")
    assert caught.value.message == says


def test_a_project_may_have_an_installed_packages_name(make: Make) -> None:
    project = make({"pipelines/prices.py": "class Normalise: pass\n"})
    assert load_object("pipelines.prices:Normalise", project.root).__module__ == "pipelines.prices"
