"""scrape parse URL: what a spider's callback makes of one page, without crawling."""

from __future__ import annotations

import html
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from scraper import urls
from scraper.api import run_coroutine
from scraper.cli.output import (
    DebugOption,
    JsonOption,
    QuietOption,
    SetOption,
    clean,
    complain,
    note,
)
from scraper.cli.pages import (
    ArgumentsOption,
    SpiderOption,
    json_object,
    local_page,
    on_terminal,
    page_url,
    print_json,
    reworded,
    speak,
    user_traceback,
)
from scraper.cli.run import spider_arguments
from scraper.crawlspider import CrawlSpider
from scraper.errors import FetchError, Retry, ScraperError, SpiderError, UsageError
from scraper.http import Request, Response
from scraper.project import Entry, require
from scraper.scope import Scope
from scraper.spider import Spider
from scraper.workbench import Link, Parsed, Workbench, open_workbench

__all__ = ["parse"]

T = TypeVar("T")

SHOWN_ITEMS, SHOWN_LINKS = 20, 40
"""What is listed on a terminal; what is piped is whole."""


def parse(
    url: Annotated[str, typer.Argument(metavar="URL", help="The page; or a saved one's path.")],
    spider: SpiderOption = None,
    callback: Annotated[
        str | None,
        typer.Option("--callback", "-c", metavar="NAME", help="Its method; else parse."),
    ] = None,
    arguments: ArgumentsOption = None,
    kwargs: Annotated[
        str | None, typer.Option(metavar="JSON", help="Arguments of the callback.")
    ] = None,
    meta: Annotated[str | None, typer.Option(metavar="JSON", help="The request's meta.")] = None,
    base: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Where a saved page came from.")
    ] = None,
    depth: Annotated[
        int, typer.Option(metavar="N", min=0, help="Follow what it yields, N links far.")
    ] = 0,
    pages: Annotated[
        int, typer.Option(metavar="N", min=1, help="Fetch at most so many pages.")
    ] = 10,
    pipelines: Annotated[
        bool, typer.Option("--pipelines", help="Pass items through the pipelines; not the outputs.")
    ] = False,
    items_only: Annotated[bool, typer.Option("--items-only", help="Show no requests.")] = False,
    requests_only: Annotated[
        bool, typer.Option("--requests-only", help="Show only requests.")
    ] = False,
    settings: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> int:
    """Show the items and requests that a spider's callback yields for one page.

    The page is fetched as the spider would: its settings, its middleware, its setup(). A request
    that a crawl would not make says why. Without --spider it is the one whose site this is.
    Nothing is written. Ends with 1 when the callback raises, or the page does not reach it.
    """
    if items_only and requests_only:
        raise UsageError("--items-only and --requests-only: choose one")
    if base is not None:
        page_url(base)
    given, metadata = json_object(kwargs, "--kwargs"), json_object(meta, "--meta")
    saved = local_page(url, base)
    address = page_url(url) if saved is None else saved.url
    bench = open_workbench(
        spider or spider_for(address),
        overrides=settings or [],
        args=spider_arguments(arguments or []),
        stages=pipelines,
    )
    speak(bench.config, quiet=quiet, debug=debug)
    name, passed = chosen(bench.spider, address, callback, given)
    bench.require_callback(name)
    request = Request(address, name, kwargs=passed, meta=metadata)
    show = None if as_json else Show(items=not requests_only, links=not items_only, quiet=quiet)
    tour = Tour(bench, depth=depth, pages=pages, show=show)
    run_coroutine(tour.run(request, saved))
    if as_json:
        print_json(tour.as_dict(items=not requests_only, links=not items_only))
    return 1 if tour.failed else 0


# Which spider, which callback ---------------------------------------------------------------


def spider_for(url: str) -> str:
    """The name of the project's only spider, or of the one whose site *url* is on."""
    project = require()
    loaded = project.configure()
    spiders = project.spiders(loaded)
    if len(spiders.found) == 1 and not spiders.broken:
        return next(iter(spiders.found))
    fitting = [name for name, entry in spiders.found.items() if _covers(entry, url)]
    if len(fitting) == 1:
        return fitting[0]
    if not spiders.found:
        spiders.get("")  # raises, saying what is broken or how to make one
    several = f"several spiders crawl {urls.host_key(url)}: {', '.join(sorted(fitting))}"
    raise SpiderError(
        several if fitting else f"no spider says that it crawls {urls.host_key(url)}",
        hint=f"Name it: --spider NAME. There are: {', '.join(sorted(spiders.found))}.",
    )


def _covers(entry: Entry, url: str) -> bool:
    scope = Scope("host", entry.cls.allowed_domains)
    for start in entry.cls.start_urls:
        scope.start(start)
    return scope.admits(url)


def chosen(
    spider: Spider, url: str, callback: str | None, kwargs: Mapping[str, Any]
) -> tuple[str | None, Mapping[str, Any]]:
    """The callback and its kwargs: as asked; else, for a `CrawlSpider`, by the rule that fits."""
    if callback is not None or not isinstance(spider, CrawlSpider):
        return callback, kwargs
    href = urls.parse(url)
    if href in [urls.parse(start) for start in spider.start_urls]:
        return None, kwargs
    # A page with this one link: what the rules make of it, as far as the address tells.
    link = Response(url, body=f'<a href="{html.escape(url)}">'.encode(), request=Request(url))
    for rule in spider.rules:
        if link.find_links(rule.query):
            request = rule.request(link, link.url)
            return request.callback, kwargs or request.kwargs
    return None, kwargs


# The pages ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Page:
    """One page, and what became of it."""

    response: Response
    depth: int
    parsed: Parsed


@dataclass(slots=True)
class Tour:
    """The page, and with *depth* those that it leads to."""

    bench: Workbench
    depth: int
    pages: int
    show: Show | None
    visited: list[Page] = field(default_factory=list)
    failed: bool = False
    left: int = 0
    seen: set[int] = field(default_factory=set)

    async def run(self, request: Request, saved: Response | None) -> None:
        """Visit everything. What goes wrong on the first page is raised or told; see `failed`."""
        async with self.bench:
            if saved is None:
                try:
                    response = await self.bench.fetch(request)
                except Exception as error:
                    raise reworded(error, request.url) from error
            else:
                response = Response(saved.url, 200, saved.headers, saved.body, request)
            found = await self._visit(response, 0)
            for depth in range(1, self.depth + 1):
                found = [link for each in found for link in await self._follow(each, depth)]
        if self.left and self.show is not None:
            note(f"{self.left:,} more requests were not followed (--pages {self.pages})")

    async def _follow(self, request: Request, depth: int) -> list[Request]:
        if len(self.visited) >= self.pages:
            self.left += 1
            return []
        try:
            response = await self.bench.fetch(request, start=False)
        except Exception as error:  # noqa: BLE001 - a middleware is the user's code
            self._tell(reworded(error, request.url))
            return []
        return await self._visit(response, depth)

    async def _visit(self, response: Response, depth: int) -> list[Request]:
        """Run the page's callback; the requests that a crawl would make next."""
        name = response.request.callback or "parse"
        if not self.bench.delivers(response):
            accept = f"accept = ({response.status},) in the spider"
            self._tell(
                ScraperError(
                    f"{response.url}: status {response.status}, which does not reach {name}()",
                    hint=f"{accept} would hand it over.",
                )
            )
            return []
        try:
            parsed = await self.bench.parse(response, depth=depth, seen=self.seen)
        except Exception as error:  # noqa: BLE001 - a callback is the user's code
            self._tell_callback(error, name, response)
            return []
        page = Page(response, depth, parsed)
        self.visited.append(page)
        if self.show is not None:
            self.show.page(page)
        return [link.request for link in parsed.links if link.refused is None]

    def _tell(self, error: ScraperError) -> None:
        self.failed = True
        complain(error.message, error.hint)

    def _tell_callback(self, error: Exception, name: str, response: Response) -> None:
        where = f"{name}() at {response.url}"
        if isinstance(error, Retry):
            self._tell(ScraperError(f"{where} asks for the page again: {error.reason}"))
        elif isinstance(error, FetchError):
            told = reworded(error, error.url or response.url)
            self._tell(ScraperError(f"{where}: self.fetch: {told.message}", hint=told.hint))
        else:
            self.failed = True
            sys.stderr.write(f"{user_traceback(error)}\n")
            complain(f"{where} raised {type(error).__name__}")

    def as_dict(self, *, items: bool, links: bool) -> dict[str, Any]:
        """Everything as JSON values."""
        told: dict[str, Any] = {
            "pages": [
                {
                    "url": page.response.url,
                    "status": page.response.status,
                    "callback": page.parsed.callback,
                    "depth": page.depth,
                }
                for page in self.visited
            ]
        }
        each = [page.parsed for page in self.visited]
        if items:
            told["items"] = [record for parsed in each for record in parsed.records]
            told["rejected"] = [record for parsed in each for record in parsed.rejected]
            told["dropped"] = [
                {"reason": drop.reason, "stage": drop.stage}
                for parsed in each
                for drop in parsed.dropped
            ]
        if links:
            told["requests"] = [link_record(link) for parsed in each for link in parsed.links]
        return told


def link_record(link: Link) -> dict[str, Any]:
    """A request as JSON values: what differs from the defaults, and `refused`."""
    stored: dict[str, Any] = json.loads(link.request.dump())
    first = {
        "method": link.request.method,
        "url": link.request.url,
        "callback": link.request.callback or "parse",
        "refused": link.refused,
    }
    return {**first, **{name: value for name, value in stored.items() if name not in first}}


# Showing ------------------------------------------------------------------------------------


class Show:
    """Writes pages to stdout, for people: a line of a terminal for each value."""

    def __init__(self, *, items: bool, links: bool, quiet: bool) -> None:
        self.items, self.links, self.quiet = items, links, quiet
        self.piped = not on_terminal()
        self.console = Console(highlight=False)

    def page(self, page: Page) -> None:
        """One page: its items, what was rejected or dropped, its requests."""
        parsed = page.parsed
        if not self.quiet:
            sys.stdout.flush()
            note(f"{parsed.callback}()  {page.response.status}  {page.response.url}")
        if self.items:
            names = [type(item).__name__ for item in parsed.items]
            for name, record in self.first(zip(names, parsed.records, strict=True), SHOWN_ITEMS):
                self._record(name, record)
            self._more(len(parsed.items) - SHOWN_ITEMS, "items")
            for row in parsed.rejected:
                self._rejected(row)
            drops = Counter((drop.stage, drop.reason) for drop in parsed.dropped)
            for (stage, reason), count in drops.items():
                self.line(f"Dropped by {stage}: {reason} ({count})", "yellow")
        if self.links and parsed.links:
            self._requests(page)
            self._more(len(parsed.links) - SHOWN_LINKS, "requests")
        if not self.quiet:
            sys.stdout.flush()
            note(totals(parsed))

    def line(self, text: str, style: str = "") -> None:
        """A line, cut at the edge of a terminal."""
        value = Text(clean(text), style)
        if self.piped:
            self.console.print(value, soft_wrap=True)
        else:
            self.console.print(value, no_wrap=True, overflow="ellipsis")

    def first(self, rows: Iterable[T], count: int) -> Iterator[T]:
        """As many as a terminal should show; all into a pipe."""
        return islice(rows, None if self.piped else count)

    def _more(self, count: int, what: str) -> None:
        if count > 0 and not self.piped:
            self.line(f"  … and {count:,} {what} more (--json shows all)", "dim")

    def _record(self, name: str, record: Mapping[str, Any]) -> None:
        self.line(name, "bold")
        width = max((len(key) for key in record), default=0)
        for key, value in record.items():
            self.line(f"  {key:<{width}}  {shown(value)}")

    def _rejected(self, row: Mapping[str, Any]) -> None:
        by = f" by {row['stage']}" if row["stage"] else ""
        self.line(f"Rejected{by}: {row['item']} ({row['reason']})", "bold red")
        for error in row["errors"]:
            before = f"{error['field']}: " if error["field"] else ""
            self.line(f"  {before}{error['message']}", "red")
            if error["value"] is not None:
                self.line(f"    value      {shown(error['value'])}")
            if error["selectors"]:
                self.line(f"    selectors  {', '.join(map(str, error['selectors']))}")

    def _requests(self, page: Page) -> None:
        links = list(self.first(page.parsed.links, SHOWN_LINKS))
        self.line("Requests", "bold")
        rows = [(link.request.callback or "parse", link.refused or "") for link in links]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        here = urls.host_key(page.response.url) if urls.is_web(page.response.url) else ""
        for (name, refused), link in zip(rows, links, strict=True):
            request = link.request
            verb = "" if request.method == "GET" else f"{request.method} "
            path = request.url.removeprefix(here) if request.url != f"{here}/" else "/"
            marks = f"{refused:<{widths[1]}}  " if widths[1] else ""
            style = "yellow" if refused and refused != "duplicate" else "dim" if refused else ""
            self.line(f"  {name:<{widths[0]}}  {marks}{verb}{path}", style)


def shown(value: Any) -> str:
    """A JSON value on one line: text as it is."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def totals(parsed: Parsed) -> str:
    """What came, in numbers."""
    refused = sum(link.refused is not None for link in parsed.links)
    counts = [
        _count(len(parsed.items), "item"),
        _count(len(parsed.links), "request") + (f" ({refused:,} refused)" if refused else ""),
    ]
    counts += [f"{len(parsed.rejected):,} rejected"] if parsed.rejected else []
    counts += [f"{len(parsed.dropped):,} dropped"] if parsed.dropped else []
    return ", ".join(counts)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
