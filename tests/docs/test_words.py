"""Everything there is has its words: computed from the code, so that the pages cannot rot."""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

import pytest
from pydantic import BaseModel

import scraper
from scraper import api, errors, types
from scraper.assessment import Assessment
from scraper.build import BUILTINS, OUTPUT_ENDINGS, builtin
from scraper.cli import COMMANDS
from scraper.cli.quality import HEADS
from scraper.config import SECTIONS, Config, HostRule, ItemRule
from scraper.drift import Finding, What
from scraper.forms import Form
from scraper.http import Response
from scraper.items import Invalid
from scraper.links import OPTIONS
from scraper.marking import Marker
from scraper.observation import observe
from scraper.pipelines.append import AppendSink
from scraper.pipelines.quarantine import record
from scraper.protocols import CrawlInfo, Observer, Page
from scraper.quality import KINDS, OTHER, Profile
from scraper.report import CrawlResult, Ended
from scraper.request import Request
from scraper.select import Selector, SelectorList
from scraper.sitemap import Entry
from scraper.spider import Spider
from scraper.structured import Broken, Structured
from tests.docs.markdown import PAGES, blocks, spans, text_of, words


def public(cls: type) -> set[str]:
    """The names that a class itself offers, inherited ones left out."""
    own = {*vars(cls), *vars(cls).get("__annotations__", {})}
    return {name for name in own if not name.startswith("_")}


def parameters(function: Callable[..., Any]) -> set[str]:
    kept = inspect.signature(function).parameters.values()
    named = {p.name for p in kept if p.kind is not p.VAR_KEYWORD}
    return named - {"self", "crawl"}


def missing(names: Iterable[str], page: str) -> list[str]:
    return sorted(set(names) - words(page))


def test_public_names() -> None:
    assert missing(scraper.__all__, "docs/python.md") == []


def test_spiders() -> None:
    there = public(Spider) | {"parse"}
    assert {"setup", "start", "closed", "fetch", "log", "name", "middleware"} <= there
    assert missing(there, "docs/spiders.md") == []


def test_requests() -> None:
    options = parameters(Request.__init__)
    assert {"url", "callback", "errback", "secret"} <= options
    assert missing(options, "docs/spiders.md") == []


def test_failures() -> None:
    names = {field.name for field in fields(scraper.Failure)}
    assert missing(names, "docs/spiders.md") == []


def test_responses_and_selectors() -> None:
    own = public(Response) | set(parameters(Response.__init__)) - {"memo"}
    assert {"css", "links", "extract", "status", "is_html"} <= own
    assert missing({"find_links"}, "docs/links.md") == []
    own -= {"find_links"}
    assert missing(own, "docs/extraction.md") == []
    assert missing(public(Selector) - {"root"}, "docs/extraction.md") == []
    assert missing(public(SelectorList), "docs/extraction.md") == []


def test_markers() -> None:
    marked = {name: kind for name, kind in vars(scraper).items() if _is(kind, Marker)}
    assert set(marked) == {"Css", "Json", "Meta", "Url", "XPath"}
    for name, kind in marked.items():
        given = {
            p.name
            for p in inspect.signature(kind).parameters.values()
            if p.kind != p.VAR_POSITIONAL
        }
        assert missing({name, *given}, "docs/extraction.md") == []


def _is(kind: object, of: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, of)


def test_conversion_types() -> None:
    assert missing(types.__all__, "docs/extraction.md") == []
    section = text_of("docs/extraction.md").partition("\n## Conversion types\n")[2]
    rows = re.findall(r"^\| `(\w+)` \|", section.partition("\n## ")[0], re.MULTILINE)
    hints = {"DateFormat", "DateHints", "DecimalMark", "Words"}
    assert {*rows} == {*types.__all__} - hints
    assert missing(parameters(types.DateHints), "docs/extraction.md") == []


def test_structured_data() -> None:
    assert missing(public(Structured) | set(Broken._fields), "docs/extraction.md") == []


def test_links() -> None:
    assert missing(parameters(Response.links), "docs/links.md") == []
    assert missing(OPTIONS | {"canonical", "FILE_ENDINGS", "glob"}, "docs/links.md") == []


def test_kinds_of_spiders() -> None:
    page = "docs/spider-kinds.md"
    assert missing(parameters(scraper.Rule.__init__), page) == []
    for kind in (scraper.CrawlSpider, scraper.SitemapSpider, scraper.FeedSpider):
        own = public(kind) - public(Spider)
        assert own
        assert missing(own, page) == []
    assert missing(set(Entry._fields) - {"precision"}, page) == []


def test_forms() -> None:
    page = "docs/forms.md"
    own = public(Form)
    assert {"submit", "fields", "buttons", "method"} <= own
    assert missing(own | parameters(Form.submit), page) == []
    assert missing(parameters(Response.form) | parameters(Request.from_curl), page) == []


def test_rejected_lines_have_these_keys() -> None:
    class Book(scraper.Item):
        price: Annotated[int, scraper.Css(".price_color")]

    page = Response("https://example.com/1", headers={"Content-Type": "text/html"}, body=b"<p>")
    invalid = page.extract(Book)
    assert isinstance(invalid, Invalid)
    line = record("item_invalid", item="Book", url="u", errors=invalid.error.errors, values={})
    (block,) = blocks("json", "docs/extraction.md")
    shown, made = json.loads(block.text), json.loads(line)
    assert list(shown) == list(made)
    assert shown["errors"] == made["errors"]


def part(page: str, head: str) -> str:
    """What stands under *head*, up to the next heading of any level."""
    return re.split(r"\n##+ ", text_of(page).partition(f"\n{head}\n")[2])[0]


def test_pipelines() -> None:
    page = "docs/pipelines.md"
    assert BUILTINS
    for name in BUILTINS:
        section = part(page, f"### {name}")
        assert section, f"{page} has no section {name}"
        options = parameters(builtin(name).__init__)
        told = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
        for kind in re.findall(r"every (file|table)", section):
            common = part(page, f"## Options of every {kind}")
            told |= set(re.findall(r"^\| `(\w+)` \|", common, re.MULTILINE))
        assert options <= told, f"{page}: {name} has no row for {sorted(options - told)}"
    assert set(OUTPUT_ENDINGS) <= set(spans(page))
    assert missing({field.name for field in fields(CrawlInfo)}, page) == []
    assert missing(public(Page) - {"stage"}, page) == []
    assert "page.stage(" in text_of(page)
    assert issubclass(builtin("jsonl"), AppendSink)


def test_the_project_s_own_stages() -> None:
    from pipelines.prices import NormalisePrices
    from pipelines.quality import Complete

    for cls in (NormalisePrices, Complete):
        module = cls.__module__
        assert f"{module}:{cls.__name__}" in spans("docs/pipelines.md")
        assert missing(parameters(cls.__init__), "docs/pipelines.md") == []


@pytest.mark.parametrize("function", [api.run, api.crawl, api.stream], ids=lambda f: f.__name__)
def test_from_python(function: Callable[..., Any]) -> None:
    assert missing(parameters(function), "docs/python.md") == []


def test_results_and_observers() -> None:
    assert missing({field.name for field in fields(CrawlResult)}, "docs/python.md") == []
    assert missing(public(CrawlResult), "docs/python.md") == []
    assert missing({n for n in public(Observer) if n.startswith("on_")}, "docs/python.md") == []


def test_ends_and_exit_codes() -> None:
    page = "docs/jobs.md"
    assert missing(typing.get_args(Ended), page) == []
    codes = {
        cls.exit_code
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, errors.ScraperError)
    }
    shown = {
        int(n)
        for row in re.findall(r"^\| ([\d, ]+) \|", text_of(page), re.MULTILINE)
        for n in row.split(",")
    }
    assert codes | {0, 130, 141, 143} == shown


def test_reason_codes() -> None:
    table = re.findall(
        r"^\| `(\w+)` \| (failure|skip|item) \|", text_of("docs/politeness.md"), re.MULTILINE
    )
    assert dict(table) == {code: row.kind for code, row in errors.REASONS.items()}


def test_retried_statuses() -> None:
    text = text_of("docs/politeness.md")
    (listed,) = re.findall(r"Statuses that are tried again: ([\d, ]+)\.", text)
    retried = [n for n in range(400, 600) if errors.reason(f"http_{n}").retried and n != 429]
    assert [int(n) for n in listed.split(",")] == retried


def test_settings() -> None:
    page = "docs/configuration.md"
    sections: dict[str, type[BaseModel]] = {
        **SECTIONS,
        'politeness.hosts."PATTERN"': HostRule,
        "quality.items.NAME": ItemRule,
    }
    for section, model in sections.items():
        head = f"### `[{section}]`\n"
        assert head in text_of(page)
        part = text_of(page).partition(head)[2].partition("\n#")[0]
        for name, field in model.model_fields.items():
            assert f"| `{field.alias or name}` |" in part, f"{section}.{name}"
            assert field.description, f"{section}.{name} says nothing of itself"


@pytest.mark.parametrize("page", PAGES)
def test_settings_that_are_named_exist(page: str) -> None:
    for span in spans(page):
        found = re.match(rf"({'|'.join(SECTIONS)})\.(\w+)(?:\s*=.*)?$", span)
        if found and not span.endswith(".py"):
            keys = {f.alias or n for n, f in SECTIONS[found[1]].model_fields.items()}
            assert found[2] in keys, f"{page}: {span}"


def test_what_quality_tells() -> None:
    page = "docs/quality.md"
    assert missing(typing.get_args(What), page) == []
    names = {field.name for kind in (Assessment, Finding) for field in fields(kind)}
    assert missing(names, page) == []
    profile = Profile()
    profile.add(observe({"a": 1}))
    (items,) = profile.summary().values()
    (one,) = items["fields"].values()
    (values,) = one["kinds"].values()
    assert missing({*items, *one, *values, *KINDS, *HEADS[1:], OTHER.strip("()")}, page) == []


def test_layers() -> None:
    text = text_of("docs/configuration.md")
    assert all(f"[{name}" in text for name in ("spiders.NAME", "[pipelines", "project"))
    assert set(get_type_hints(Config)) >= set(SECTIONS)


def test_commands() -> None:
    page = "docs/commands.md"
    for name in COMMANDS:
        assert f"\n## {name}\n" in text_of(page)
    assert set(re.findall(r"^## (\w+)$", text_of(page), re.MULTILINE)) == set(COMMANDS)


def test_the_changelog_tells_of_this_version() -> None:
    assert f"## {scraper.__version__}" in text_of("CHANGELOG.md")
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", text_of("CHANGELOG.md")), name
