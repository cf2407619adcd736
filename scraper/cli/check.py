"""scrape check: every mistake that can be found without crawling, in one go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import typer

from scraper import plugins, servers, urls
from scraper.build import BUILTINS, build_stages
from scraper.cli.output import DebugOption, clean, complain, data, note
from scraper.config import Config
from scraper.errors import ScraperError, SpiderError
from scraper.layers import Loaded, SettingsError
from scraper.loading import load_object
from scraper.pipelines.chain import Chain
from scraper.project import Entry, Project, Spiders, require
from scraper.spider import Spider, arguments_model


def check(debug: DebugOption = False) -> None:
    """Look for mistakes in the configuration, the spiders and the pipelines.

    Nothing is fetched and nothing is written. Of a Redis server it is asked whether it is there,
    and set up so that it keeps a crawl. Ends with 2 when there is a mistake.
    """
    report = Report()
    check_project(require(), report)
    for line in report.fine:
        data(f"ok  {clean(line)}")
    for message in report.warnings:
        note(f"warning: {message}")
    for message, hint in report.problems.items():
        complain(message, hint)
    if report.problems:
        count = len(report.problems)
        note(f"{count} {'mistake' if count == 1 else 'mistakes'}")
        raise typer.Exit(2)


@dataclass(slots=True)
class Report:
    """What is fine, each problem once, with its hint, and what is no mistake and worth a thought.
    `servers`: that were asked."""

    fine: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    servers: set[str] = field(default_factory=set)

    def add(self, error: ScraperError) -> None:
        """Keep what *error* says."""
        if isinstance(error, SettingsError):
            self.problems.update(dict.fromkeys(error.problems, ""))
        else:
            self.problems.setdefault(error.message, error.hint)


def check_project(project: Project, report: Report) -> None:
    """Everything: the file, the chain, each spider with its own settings and chain."""
    try:
        loaded = project.configure()
    except ScraperError as error:
        report.add(error)
        return
    report.fine.append(f"config.toml: {_settings(loaded)}")
    for clash in plugins.clashes({
        plugins.PIPELINES: BUILTINS,
        plugins.FRONTIERS: plugins.SCHEMES,
    }):
        report.add(clash)
    check_chain(project, loaded, report)
    try:
        spiders = project.spiders(loaded)
    except ScraperError as error:
        report.add(error)
        return
    for problem in (*spiders.broken.values(), *project.unknown_overrides(loaded, spiders)):
        report.add(problem)
    _check_spiders(project, spiders, report)


def _check_spiders(project: Project, spiders: Spiders, report: Report) -> None:
    if not spiders.found and not spiders.broken:
        report.fine.append("spiders: none yet")
    for name in sorted(spiders.found):
        entry = spiders.found[name]
        before = len(report.problems)
        for problem in spider_mistakes(entry):
            report.add(problem)
        try:
            check_chain(project, project.configure(entry), report)
        except ScraperError as error:
            report.add(error)
        if len(report.problems) == before:
            report.fine.append(f"spider {name} ({entry.file}){_arguments(entry.cls)}")


def check_chain(project: Project, loaded: Loaded, report: Report) -> None:
    """Build every stage by itself, and import the middleware and the frontier."""
    for index, table in enumerate(loaded.config.pipelines):
        alone = Config(pipelines=[table])
        place = loaded.pipeline_place(index)
        try:
            Chain(build_stages(alone, root=project.root, where=lambda _, place=place: place))  # type: ignore[misc]
        except ScraperError as error:
            report.add(error)
        else:
            line = f"{place} {table.use}"
            if line not in report.fine:
                report.fine.append(line)
    for reference in loaded.config.http.middleware:
        try:
            load_object(reference, project.root, loaded.origin("http.middleware"))
        except ScraperError as error:
            report.add(error)
    url = loaded.config.frontier.url
    if "://" in url:
        check_frontier(url, f"{loaded.origin('frontier.url')}: frontier.url", report)


def check_frontier(url: str, place: str, report: Report) -> None:
    """Ask the server whether it is fit for a crawl, or import the plugin."""
    if url in report.servers:
        return
    try:
        if servers.on_redis(url):
            report.servers.add(url)
            told = servers.check(url)
            report.warnings += [f"{place}: {line}" for line in told]
            line = f"{place}: {urls.redact(url)} answers"
        else:
            line = f"{place}: {plugins.frontier_factory(url, place)[0]}"
    except ScraperError as error:
        report.add(error)
    else:
        if line not in report.fine:
            report.fine.append(line)


def spider_mistakes(entry: Entry) -> Iterator[SpiderError]:
    """What is wrong with a spider's class by itself."""
    cls, place = entry.cls, f"{entry.file}:{entry.line}: spider {entry.name}"
    try:
        arguments_model(cls)
    except SpiderError as error:
        yield SpiderError(f"{entry.file}:{entry.line}: {error.message}", hint=error.hint)
    for attribute in ("start_urls", "allowed_domains"):
        if isinstance(getattr(cls, attribute), str):
            value = getattr(cls, attribute)
            yield SpiderError(f"{place}: {attribute} must be a list, as [{value!r}]")
            return
    for url in map(str, cls.start_urls):
        href = urls.parse(url)
        if href is None or not urls.is_web(href):
            shown = urls.redact(url)
            yield SpiderError(f"{place}: start_urls: {shown} is not an http or https URL")
    if cls.start is Spider.start:
        if not cls.start_urls:
            yield SpiderError(
                f"{place} has nowhere to start", hint="Give it start_urls or a start() method."
            )
        elif not callable(getattr(cls, "parse", None)):
            yield SpiderError(
                f"{place} has no parse() method", hint="Pages of start_urls are given to parse()."
            )


def _settings(loaded: Loaded) -> str:
    count = sum(origin != "default" for origin in loaded.origins.values())
    return f"{count} {'setting differs' if count == 1 else 'settings differ'} from the defaults"


def _arguments(cls: type[Spider]) -> str:
    names = ", ".join(arguments_model(cls).model_fields)
    return f", arguments: {names}" if names else ""
