"""The pages are whole: generated parts are fresh, links lead somewhere, command lines work."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from scraper.cli import COMMANDS
from scraper.layers import read_overrides
from scraper.project import Prepared, prepare
from scraper.spider import validate_arguments
from tests.docs.conftest import Made
from tests.docs.generate import GENERATORS, click_command, generated
from tests.docs.markdown import (
    GENERATED,
    PAGES,
    ROOT,
    anchors,
    blocks,
    command_lines,
    links,
    spans,
    text_of,
)

each_page = pytest.mark.parametrize("page", PAGES)

ELSEWHERE = {"cd", "pip", "."}
"""First words of command lines that are not ours."""

PLACEHOLDER = re.compile(r"[A-Z]+")


@each_page
def test_generated_parts_are_fresh(page: str) -> None:
    assert text_of(page) == generated(page), "run: make docs"


def test_every_generator_has_its_place() -> None:
    places = [m["name"] for page in PAGES for m in GENERATED.finditer(text_of(page))]
    assert sorted(places) == sorted(GENERATORS)


@each_page
def test_links_lead_somewhere(page: str) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.is_file(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(target.resolve().relative_to(ROOT).as_posix()), link


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in links("README.md")}
    assert {page for page in PAGES if page != "README.md"} <= linked


@each_page
def test_what_is_named_is_there(page: str) -> None:
    """Modules in backticks are in the package or the repository, or shown on the page itself."""
    for span in spans(page):
        if re.fullmatch(r"[\w/]+\.py", span) and not page.endswith("getting-started.md"):
            names = [ROOT / span, ROOT / "scraper" / span, ROOT / "scraper/pipelines" / span]
            examples = [ROOT / block.file for block in blocks("python", page)]
            shown = any(example.name == Path(span).name for example in examples)
            assert shown or any(name.is_file() for name in names), f"{page}: {span}"


@cache
def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@cache
def options(command: str) -> set[str]:
    return {o for p in click_command(command).params for o in p.opts} | {"-h", "--help"}


GENERAL = {"--version", "--install-completion", "--show-completion", "-h", "--help"}


@each_page
def test_command_lines_name_what_there_is(page: str) -> None:
    for line in command_lines(page):
        parts = shlex.split(line.partition(" #")[0])
        while "=" in parts[0] and parts[0].startswith("SCRAPE_"):
            parts.pop(0)
        program, *rest = parts
        if program == "make":
            assert rest[0] in targets(), f"{page}: {line}"
        elif program == "scrape":
            command = rest[0]
            if command.startswith("-"):
                assert command in GENERAL, f"{page}: {line}"
                continue
            if PLACEHOLDER.fullmatch(command):
                continue
            assert command in COMMANDS, f"{page}: {line}"
            for word in rest[1:]:
                if re.match(r"--?[a-z]", word):
                    assert word in options(command), f"{page}: {line}"
        else:
            assert program in ELSEWHERE, f"{page}: {line}"


@each_page
def test_options_in_the_text_exist(page: str) -> None:
    known = set().union(*(options(command) for command in COMMANDS), GENERAL)
    for span in spans(page):
        if re.fullmatch(r"--?[a-z][a-z-]*(?: \S+)*", span):
            assert span.split()[0] in known, f"{page}: {span}"


def console_lines() -> list[tuple[str, str]]:
    return [
        (block.page, line[2:])
        for block in blocks("console")
        for line in block.text.splitlines()
        if line.startswith("$ ") and " scrape " in f" {line}"
    ]


@pytest.mark.parametrize(("page", "line"), console_lines())
def test_a_shown_command_is_accepted(
    page: str, line: str, project_of: Callable[[str], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsed by the command itself; spiders, arguments and settings are looked up, too."""
    project_of(page)
    words = shlex.split(line)
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        monkeypatch.setenv(name, value)
    context = click_command(words[1]).make_context(words[1], words[2:])
    given = context.params
    spider = given.get("spider")
    if spider and words[1] in ("run", "config"):
        prepared: Prepared = prepare(spider, overrides=given.get("settings") or [])
        pairs = dict(pair.split("=", 1) for pair in given.get("arguments") or [])
        assert validate_arguments(prepared.entry.cls, pairs).keys() >= pairs.keys()
        assert not list(read_overrides(given.get("settings") or []).problems())
    else:
        assert words[0] == "scrape"
