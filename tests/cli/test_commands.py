"""init, list, check and config, as their users meet them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

import scraper
from scraper.cli.init import make_project, template_directory
from scraper.errors import UsageError
from scraper.layers import load
from tests.cli.conftest import GOOD, CommandLine

REPOSITORY = Path(__file__).resolve().parents[2]

# init --------------------------------------------------------------------------------------


def test_init_makes_a_project_in_which_everything_is_fine(
    scrape: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = scrape("init", "shop")
    assert said.code == 0
    assert said.out == ""
    assert "cd shop" in said.err
    root = scrape.root / "shop"
    assert (root / "config.toml").read_bytes() == (REPOSITORY / "config.toml").read_bytes()
    assert {p.name for p in (root / "spiders").iterdir()} == {
        p.name for p in (REPOSITORY / "spiders").glob("*.py")
    }
    assert ".scrape/" in (root / ".gitignore").read_text("utf-8").splitlines()
    monkeypatch.chdir(root)
    said = scrape("check")
    assert said.err == ""
    assert said.code == 0
    assert scrape("list").out != ""


def test_init_here_beside_hidden_files(scrape: CommandLine) -> None:
    scrape.write(".git/HEAD", "x")
    scrape.write(".gitignore", "mine\n")
    assert scrape("init", ".").code == 0
    assert (scrape.root / ".gitignore").read_text("utf-8") == "mine\n"


def test_init_refuses_what_is_not_empty(scrape: CommandLine) -> None:
    for name in "abcd":
        scrape.write(f"there/{name}", "")
    said = scrape("init", "there")
    assert said.code == 2
    assert "there is not empty: it has a, b, c and 1 more" in said.err
    assert sorted(p.name for p in (scrape.root / "there").iterdir()) == ["a", "b", "c", "d"]
    assert "is a file" in scrape("init", "there/a").err
    assert scrape("init", "x").code == 0
    assert scrape("init", "x").code == 2


def test_init_copies_no_rubbish(tmp_path: Path) -> None:
    template, target = tmp_path / "template", tmp_path / "target"
    for name in ("spiders/a.py", "spiders/__pycache__/a.pyc", "spiders/.x", "pipelines/b.py"):
        (template / name).parent.mkdir(parents=True, exist_ok=True)
        (template / name).write_text("")
    (template / "config.toml").write_text("")
    make_project(target, template)
    found = sorted(str(p.relative_to(target)) for p in target.rglob("*") if p.is_file())
    assert found == [".gitignore", "config.toml", "pipelines/b.py", "spiders/a.py"]


def test_the_template_of_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert template_directory() == REPOSITORY
    package = tmp_path / "site-packages" / "scraper"
    for part in ("_template/spiders", "_template/pipelines"):
        (package / part).mkdir(parents=True)
    monkeypatch.setattr(scraper, "__path__", [str(package)])
    with pytest.raises(UsageError, match="installation is incomplete"):
        template_directory()
    (package / "_template" / "config.toml").touch()
    assert template_directory() == package / "_template"


# list --------------------------------------------------------------------------------------


def test_list(project: CommandLine) -> None:
    project.write("spiders/broken.py", "import nowhere\n")
    said = project("list")
    assert said.code == 0
    assert said.out == "good  spiders/site.py:3  Good pages.\n"
    assert said.err == (
        "scrape: not loaded: spiders/broken.py:1: ModuleNotFoundError: No module named 'nowhere'\n"
    )
    listed = json.loads(project("list", "--json").out)
    assert [s["name"] for s in listed["spiders"]] == ["good"]
    assert [b["file"] for b in listed["broken"]] == ["spiders/broken.py"]


def test_list_of_nothing(scrape: CommandLine) -> None:
    scrape.write("config.toml", "")
    (scrape.root / "spiders").mkdir()
    said = scrape("list")
    assert (said.code, said.out) == (0, "")
    assert "scrape new NAME URL" in said.err


def test_outside_of_a_project(scrape: CommandLine) -> None:
    for command in ("list", "check"):
        said = scrape(command)
        assert said.code == 2
        assert "no config.toml here or above" in said.err
        assert "scrape init" in said.err


# check -------------------------------------------------------------------------------------


def test_check_prints_what_is_fine(project: CommandLine) -> None:
    said = project("check")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        "ok  config.toml: 1 setting differs from the defaults",
        "ok  spider good (spiders/site.py), arguments: pages",
    ]


def test_check_reports_every_mistake_in_the_file(project: CommandLine) -> None:
    project.write("config.toml", "[crawl]\nmax_pages = -1\nmax_itms = 3\n")
    said = project("check")
    assert said.code == 2
    assert said.err.splitlines() == [
        "scrape: config.toml:2: crawl.max_pages = -1: must be at least 0",
        "scrape: config.toml:3: unknown key crawl.max_itms = 3; did you mean crawl.max_items?",
        "2 mistakes",
    ]


def test_check_reports_mistakes_in_chains_and_spiders_together(project: CommandLine) -> None:
    project.write(
        "config.toml",
        """
        [[pipelines]]
        use = "jsonl"
        pth = "x"
        [[pipelines]]
        use = "pipelines.prices:Nope"
        [http]
        middleware = ["pipelines.prices:log", "pipelines.prices:lgo"]
        [spiders.goood.crawl]
        max_pages = 1
        [[spiders.good.pipelines]]
        use = "jsonl"
        path = 3
        """,
    )
    project.write("pipelines/prices.py", "def log(request, call_next): ...\n")
    project.write("spiders/broken.py", "\n1 / 0\n")
    project.write(
        "spiders/bad.py",
        """
        from scraper import Spider
        class NoParse(Spider):
            name = "noparse"
            start_urls = ["https://example.com/"]
        class NoStart(Spider):
            name = "nostart"
        class Word(Spider):
            name = "word"
            start_urls = "https://example.com/"
        class Wrong(Spider):
            name = "wrong"
            start_urls = ["example.com"]
            settings = {"crawl": {"delay": 1}}
            async def parse(self, response): ...
        """,
    )
    said = project("check")
    assert said.code == 2
    for line in (
        'config.toml:2: [[pipelines]] jsonl: unknown key pth = "x"; did you mean path?',
        "config.toml:5: [[pipelines]] pipelines.prices:Nope: ",
        (
            'config.toml:7: "pipelines.prices:lgo": module pipelines.prices has no lgo; '
            "did you mean pipelines.prices:log?"
        ),
        "config.toml:8: [spiders.goood]: no spider has that name; did you mean [spiders.good]?",
        "config.toml:11 [spiders.good]: [[pipelines]] jsonl: path = 3: must be a string",
        "spiders/broken.py:1: ZeroDivisionError: division by zero",
        "spiders/bad.py:2: spider noparse has no parse() method",
        "spiders/bad.py:5: spider nostart has nowhere to start",
        "spiders/bad.py:7: spider word: start_urls must be a list, as ['https://example.com/']",
        "spiders/bad.py:10: spider wrong: start_urls: example.com is not an http or https URL",
        (
            "spider class Wrong (spiders/bad.py): unknown key crawl.delay = 1; "
            "did you mean politeness.delay?"
        ),
    ):
        assert said.err.count(f"scrape: {line}") == 1, (line, said.err)


# config ------------------------------------------------------------------------------------


def test_config_prints_toml_that_means_the_same(project: CommandLine) -> None:
    project.write(
        "config.toml",
        """
        [politeness.hosts."*.example.com"]
        delay = 3
        [http]
        max_body = "5 MB"
        max_wire = 1234567
        [[pipelines]]
        use = "jsonl"
        path = "x y"
        options = { a = [1, 2], "b c" = true }
        """,
    )
    said = project("config", "-s", "crawl.max_items=3")
    assert (said.code, said.err) == (0, "")
    again = project.write("again/config.toml", said.out)
    assert (
        load(again).config
        == load(project.root / "config.toml", overrides=["crawl.max_items=3"]).config
    )
    assert 'max_body = "5 MB"                       # config.toml:4' in said.out
    assert "max_wire = 1234567                      # config.toml:5" in said.out
    assert "max_items = 3                           # -s" in said.out
    assert "max_depth = 20                          # default" in said.out


def test_config_as_a_spider_sees_it(project: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("spiders/site.py", f"{GOOD}\n    settings = {{'crawl.max_depth': 2}}\n")
    monkeypatch.setenv("SCRAPE_HTTP__TIMEOUT", "9")
    said = project("config", "good", "--changed")
    assert said.out.splitlines() == [
        "[crawl]",
        "max_pages = 7                           # config.toml:2",
        "max_depth = 2                           # spider class Good (spiders/site.py)",
        "",
        "[http]",
        "timeout = 9.0                           # SCRAPE_HTTP__TIMEOUT",
    ]


def test_config_as_json(project: CommandLine) -> None:
    settings = json.loads(project("config", "--json").out)
    assert settings["crawl.max_pages"] == {"value": 7, "origin": "config.toml:2"}
    assert settings["http.proxy"] == {"value": None, "origin": "default"}
    assert settings["http.max_body"]["value"] == 32_000_000


def test_config_shows_no_secret(project: CommandLine) -> None:
    project.write(
        "config.toml",
        """
        [http]
        proxy = "http://user:canary@proxy:3128"
        headers = { Authorization = "Bearer canary", X-Api-Key = "canary" }
        [[pipelines]]
        use = "x:Y"
        dsn = "postgres://u:canary@host/db"
        password = "canary"
        url = "https://u:canary@host/?token=canary"
        """,
    )
    for flags in ([], ["--json"], ["--changed"]):
        said = project("config", *flags)
        assert said.code == 0
        assert "canary" not in said.out
        assert "***" in said.out


def test_config_explains_itself(project: CommandLine) -> None:
    said = project("config", "--explain")
    assert "# worker tasks: pages in the making at the same time\nconcurrency = 32" in said.out
    assert max(len(line) for line in said.out.splitlines()) <= 110
    tomllib.loads(said.out)


def test_config_without_a_project_shows_the_defaults(scrape: CommandLine) -> None:
    said = scrape("config")
    assert said.code == 0
    assert "concurrency = 32                        # default" in said.out
