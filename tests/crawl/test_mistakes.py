"""A mistake of the user's is one clear line and exit 2, and nothing is created."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.crawl.harness import Finished, Project, tree
from tests.servers.web import Web, html

GOOD = """
from scraper import Spider

class Good(Spider):
    name = "good"
    start_urls = ["http://127.0.0.1:9/"]
    pages: int = 1

    async def parse(self, response):
        yield {"url": response.url}
"""


MARKED = """
from typing import Annotated
from scraper import Css, Item, Spider

class Book(Item):
    title: PLACE

""" + GOOD.replace("from scraper import Spider", "")
LATIN = "printf '# caf\\351\\n' >> config.toml"


@dataclass(frozen=True, slots=True)
class Mistake:
    """`given`: the mistake in words.
    `says`: parts of the message, without regard to case. `prepare`: a shell command beforehand."""

    id: str
    given: str
    says: tuple[str, ...]
    command: tuple[str, ...] = ("run", "good", "-o", "out.jsonl")
    config: str = ""
    source: str = GOOD
    env: dict[str, str] = field(default_factory=dict)
    prepare: str = ""


MISTAKES = [
    Mistake(
        "misspelt-key",
        "a misspelt key",
        ("config.toml", "concurency", "concurrency"),
        config="[crawl]\nconcurency = 4\n",
    ),
    Mistake(
        "misspelt-section",
        "a misspelt table",
        ("config.toml", "polteness", "politeness"),
        config="[polteness]\n",
    ),
    Mistake(
        "wrong-type",
        "a text where a number belongs",
        ("config.toml", "delay", "fast"),
        config='[politeness]\ndelay = "fast"\n',
    ),
    Mistake(
        "negative",
        "`concurrency = -1`",
        ("config.toml", "concurrency", "-1"),
        config="[crawl]\nconcurrency = -1\n",
    ),
    Mistake(
        "not-toml", "a table's bracket is not closed", ("config.toml", "line"), config="[crawl\n"
    ),
    Mistake(
        "override-key",
        "a misspelt key after -s",
        ("crawl.max_page", "max_pages"),
        command=("run", "good", "-o", "out.jsonl", "-s", "crawl.max_page=3"),
    ),
    Mistake(
        "override-type",
        "a text where a number belongs, after -s",
        ("crawl.max_pages", "many"),
        command=("run", "good", "-o", "out.jsonl", "-s", "crawl.max_pages=many"),
    ),
    Mistake(
        "environment",
        "a misspelt variable",
        ("SCRAPE_CRAWL__CONCURENCY", "concurrency"),
        env={"SCRAPE_CRAWL__CONCURENCY": "4"},
    ),
    Mistake(
        "missing-spider",
        "a misspelt spider",
        ("goood", "good"),
        command=("run", "goood", "-o", "out.jsonl"),
    ),
    Mistake(
        "unknown-argument",
        "a misspelt spider argument",
        ("pagse", "pages"),
        command=("run", "good", "-o", "out.jsonl", "-a", "pagse=3"),
    ),
    Mistake(
        "argument-type",
        "`-a pages=three`",
        ("pages", "three"),
        command=("run", "good", "-o", "out.jsonl", "-a", "pages=three"),
    ),
    Mistake(
        "missing-argument",
        "a spider argument that is missing",
        ("needs", "pages"),
        source=GOOD.replace("pages: int = 1", "pages: int"),
    ),
    Mistake(
        "import-error",
        "a spider's file imports what is not there",
        ("site.py", "nowhere"),
        source="import nowhere\n" + GOOD,
    ),
    Mistake(
        "syntax-error",
        "a syntax error in a spider's file",
        ("site.py",),
        source=GOOD + "\n    def broken(:\n",
    ),
    Mistake(
        "unknown-ending",
        "`-o out.xlxs`",
        ("out.xlxs", ".jsonl"),
        command=("run", "good", "-o", "out.xlxs"),
    ),
    Mistake(
        "read-only-output",
        "an output where nobody may write",
        ("/proc/",),
        command=("run", "good", "-o", "/proc/nowhere/out.jsonl"),
    ),
    Mistake(
        "a-file-in-the-way",
        "an output below a file",
        ("config.toml",),
        command=("run", "good", "-o", "config.toml/out.jsonl"),
    ),
    Mistake(
        "negative-limit",
        "`--limit -1`",
        ("limit",),
        command=("run", "good", "-o", "out.jsonl", "--limit", "-1"),
    ),
    Mistake(
        "unknown-pipeline",
        "a misspelt pipeline",
        ("config.toml", "jsnol", "jsonl"),
        command=("run", "good"),
        config='[[pipelines]]\nuse = "jsnol"\npath = "x.jsonl"\n',
    ),
    Mistake(
        "unknown-pipeline-option",
        "a misspelt option of a pipeline",
        ("config.toml", "pth", "path"),
        command=("run", "good"),
        config='[[pipelines]]\nuse = "jsonl"\npth = "x.jsonl"\n',
    ),
    Mistake(
        "option-type",
        "a number where a pipeline's option is a text",
        ("config.toml:", "path = 7"),
        command=("run", "good"),
        config='[[pipelines]]\nuse = "jsonl"\npath = 7\n',
    ),
    Mistake(
        "two-outputs",
        "two pipelines that write to one file",
        ("x.jsonl", "path of its own"),
        command=("run", "good"),
        config='[[pipelines]]\nuse = "jsonl"\npath = "x.jsonl"\n' * 2,
    ),
    Mistake(
        "placeholder",
        "a misspelt placeholder in a path",
        ("{spidr}", "{spider}"),
        command=("run", "good"),
        config='[[pipelines]]\nuse = "jsonl"\npath = "{spidr}.jsonl"\n',
    ),
    Mistake(
        "twice", "a table twice", ("config.toml:10", "crawl"), config="[http]\n[crawl]\n[crawl]\n"
    ),
    Mistake(
        "bool",
        "1 where a flag belongs",
        ("config.toml", "robots", "true or false"),
        config="[politeness]\nrobots = 1\n",
    ),
    Mistake(
        "choice",
        "a word that is none of the choices",
        ("config.toml", "scope", "hosts", '"host"', "domain"),
        config='[crawl]\nscope = "hosts"\n',
    ),
    Mistake(
        "size",
        "a size in unknown units",
        ("config.toml", "max_body", "16 XB", "16 MB"),
        config='[http]\nmax_body = "16 XB"\n',
    ),
    Mistake(
        "header",
        "a line break in a header",
        ("config.toml", "headers", "line break"),
        config='[http]\nheaders = { "X-A" = "a\\nb" }\n',
    ),
    Mistake(
        "host-pattern",
        "a URL where a host belongs",
        ("config.toml", "https://a.example", "the host alone"),
        config='[politeness.hosts."https://a.example"]\ndelay = 1\n',
    ),
    Mistake(
        "other-spider",
        "settings for a spider that is not there",
        ("config.toml:8", "goood", "did you mean [spiders.good]"),
        config="[spiders.goood.crawl]\nmax_pages = 1\n",
    ),
    Mistake("not-utf-8", "config.toml in latin-1", ("config.toml:", "UTF-8"), prepare=LATIN),
    Mistake(
        "config-is-a-directory",
        "config.toml is a directory",
        ("no config.toml",),
        prepare="rm config.toml; mkdir config.toml",
    ),
    Mistake(
        "no-spiders",
        "the directory of the spiders is not there",
        ("sspiders",),
        command=("run", "good", "-s", "project.spiders=sspiders"),
    ),
    Mistake(
        "marker",
        "a marker where it means nothing",
        ("site.py", "Book", "Css"),
        source=MARKED.replace("PLACE", "dict[str, Annotated[str, Css('h1')]]"),
    ),
    Mistake(
        "selector",
        "a selector that is none",
        ("h1[", "selector"),
        source=MARKED.replace("PLACE", "Annotated[str, Css('h1[')]"),
    ),
    Mistake(
        "no-name",
        "a spider without a name",
        ("site.py", "name"),
        source=GOOD.replace('    name = "good"\n', ""),
    ),
    Mistake(
        "class-settings",
        "a misspelt key in a spider's `settings`",
        ("max_page", "max_pages", "good"),
        source=GOOD + '    settings = {"crawl": {"max_page": 3}}\n',
    ),
    Mistake("job-name", "`--job ../x`", ("../x",), command=("run", "good", "--job", "../x")),
    Mistake("command", "a misspelt command", ("rnu", "run"), command=("rnu", "good")),
    Mistake("option", "a misspelt option", ("--jsno", "--json"), command=("run", "good", "--jsno")),
]


def said(ended: Finished) -> list[str]:
    return [line for line in ended.err.splitlines() if line.strip()]


OUTPUTS = ("unknown-ending", "read-only-output", "a-file-in-the-way")
"""Those that are case 94: an output that cannot be."""


def row(mistake: Mistake) -> Any:
    named = ", ".join(mistake.says)
    outcome = f"one line that names {named}; exit 2, nothing is created"
    number = 94 if mistake.id in OUTPUTS else 92
    mark = pytest.mark.case(number, mistake.given, outcome)
    return pytest.param(mistake, id=mistake.id, marks=mark)


@pytest.mark.parametrize("mistake", [row(mistake) for mistake in MISTAKES])
def test_a_mistake_is_one_clear_line(project: Project, mistake: Mistake) -> None:
    project.spider(mistake.source)
    project.config(mistake.config)
    if mistake.prepare:
        subprocess.run(mistake.prepare, shell=True, check=True, cwd=project.root)
    before = tree(project.root)
    ended = project.scrape(*mistake.command, env=mistake.env).expect(2)
    assert 1 <= len(said(ended)) <= 2, ended.err  # what and where; then the way out
    assert all(part.lower() in ended.err.lower() for part in mistake.says), ended.err
    assert ended.out == ""
    assert tree(project.root) == before


def test_debug_shows_the_traceback_of_an_import_error(project: Project) -> None:
    project.spider("import nowhere\n" + GOOD)
    ended = project.scrape("run", "good", "-o", "out.jsonl", "--debug")
    assert ended.code == 2
    assert "Traceback (most recent call last)" in ended.err
    assert "import nowhere" in ended.err


def test_outside_a_project(project: Project, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ended = project.start("run", "good", "-o", "out.jsonl", cwd=elsewhere).wait().expect(2)
    assert "config.toml" in ended.err
    assert list(elsewhere.iterdir()) == []


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(lambda seen: html("<h1>x</h1>")) as web:
        yield web


def resumable(project: Project, web: Web) -> tuple[str, ...]:
    """Leave an unfinished job behind; returns the command that goes on with it."""
    project.spider("""
        from scraper import Request, Spider

        class Two(Spider):
            name = "two"
            base: str

            async def start(self):
                for n in range(200):
                    yield Request(f"{self.base}/{n}", self.page)

            async def page(self, response):
                yield {"url": response.url}
    """)
    command = ("run", "two", "-a", f"base={web.url}", "-o", "out.jsonl")
    crawl = project.start(*command)
    web.after(150, crawl.kill)
    assert crawl.wait().code == -9
    return command


def test_resuming_with_another_output_is_refused(project: Project, web: Web) -> None:
    command = resumable(project, web)
    requests = len(web.log)
    ended = project.scrape(*command[:-1], "other.jsonl").expect(2)
    assert "--fresh" in ended.err
    assert "other.jsonl" in ended.err
    assert len(web.log) == requests
    project.scrape(*command).expect(0)


def test_a_callback_that_is_gone_is_named_before_anything_is_fetched(
    project: Project, web: Web
) -> None:
    command = resumable(project, web)
    file = project.path("spiders/site.py")
    source = file.read_text()
    file.write_text(source.replace("self.page", "self.sheet").replace("def page", "def sheet"))
    requests = len(web.log)
    ended = project.scrape(*command).expect(2)
    assert "'page'" in ended.err
    assert "--fresh" in ended.err
    assert len(web.log) == requests
    file.write_text(source)
    project.scrape(*command).expect(0)
    assert len(project.path("out.jsonl").read_text().splitlines()) == 200
