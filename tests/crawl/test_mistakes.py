"""A mistake of the user's is one clear line and exit 2, and nothing is created."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

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


@dataclass(frozen=True, slots=True)
class Mistake:
    """`says`: parts of the message, without regard to case."""

    id: str
    says: tuple[str, ...]
    command: tuple[str, ...] = ("run", "good", "-o", "out.jsonl")
    config: str = ""
    source: str = GOOD
    env: dict[str, str] = field(default_factory=dict)


MISTAKES = [
    Mistake(
        "misspelt-key",
        ("config.toml", "concurency", "concurrency"),
        config="[crawl]\nconcurency = 4\n",
    ),
    Mistake("misspelt-section", ("config.toml", "polteness", "politeness"), config="[polteness]\n"),
    Mistake(
        "wrong-type", ("config.toml", "delay", "fast"), config='[politeness]\ndelay = "fast"\n'
    ),
    Mistake("negative", ("config.toml", "concurrency", "-1"), config="[crawl]\nconcurrency = -1\n"),
    Mistake("not-toml", ("config.toml", "line"), config="[crawl\n"),
    Mistake(
        "override-key",
        ("crawl.max_page", "max_pages"),
        command=("run", "good", "-o", "out.jsonl", "-s", "crawl.max_page=3"),
    ),
    Mistake(
        "override-type",
        ("crawl.max_pages", "many"),
        command=("run", "good", "-o", "out.jsonl", "-s", "crawl.max_pages=many"),
    ),
    Mistake(
        "environment",
        ("SCRAPE_CRAWL__CONCURENCY", "concurrency"),
        env={"SCRAPE_CRAWL__CONCURENCY": "4"},
    ),
    Mistake("missing-spider", ("goood", "good"), command=("run", "goood", "-o", "out.jsonl")),
    Mistake(
        "unknown-argument",
        ("pagse", "pages"),
        command=("run", "good", "-o", "out.jsonl", "-a", "pagse=3"),
    ),
    Mistake(
        "argument-type",
        ("pages", "three"),
        command=("run", "good", "-o", "out.jsonl", "-a", "pages=three"),
    ),
    Mistake(
        "missing-argument", ("needs", "pages"), source=GOOD.replace("pages: int = 1", "pages: int")
    ),
    Mistake("import-error", ("site.py", "nowhere"), source="import nowhere\n" + GOOD),
    Mistake("syntax-error", ("site.py",), source=GOOD + "\n    def broken(:\n"),
    Mistake(
        "unknown-ending",
        ("out.xlxs", ".jsonl"),
        command=("run", "good", "-o", "out.xlxs"),
    ),
    Mistake(
        "read-only-output",
        ("/proc/",),
        command=("run", "good", "-o", "/proc/nowhere/out.jsonl"),
    ),
    Mistake(
        "a-file-in-the-way",
        ("config.toml",),
        command=("run", "good", "-o", "config.toml/out.jsonl"),
    ),
    Mistake(
        "negative-limit", ("limit",), command=("run", "good", "-o", "out.jsonl", "--limit", "-1")
    ),
    Mistake(
        "unknown-pipeline",
        ("config.toml", "jsnol", "jsonl"),
        command=("run", "good"),
        config='[[pipelines]]\nuse = "jsnol"\npath = "x.jsonl"\n',
    ),
    Mistake(
        "unknown-pipeline-option",
        ("config.toml", "pth", "path"),
        command=("run", "good"),
        config='[[pipelines]]\nuse = "jsonl"\npth = "x.jsonl"\n',
    ),
]


def said(ended: Finished) -> list[str]:
    return [line for line in ended.err.splitlines() if line.strip()]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.id)
def test_a_mistake_is_one_clear_line(project: Project, mistake: Mistake) -> None:
    project.spider(mistake.source)
    project.config(mistake.config)
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
