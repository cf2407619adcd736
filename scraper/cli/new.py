"""scrape new NAME URL: a spider drafted from the page, to be changed."""

from __future__ import annotations

import builtins
import keyword
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scraper import urls
from scraper.cli.output import DebugOption, clean, complain, note
from scraper.errors import CrawlFailed, FetchError, SpiderError, UsageError, reason
from scraper.project import Project, require

if TYPE_CHECKING:
    from scraper.drafting import Draft, Field
    from scraper.http import Response
    from scraper.workbench import Workbench

NAME = re.compile(r"[a-z][a-z0-9_-]{0,59}")
IMPORTED = frozenset({
    "Amount", "Annotated", "ClassVar", "Css", "FeedSpider", "Item", "Json", "Output", "Response",
    "Spider", "Url",
})  # fmt: skip  # names that a drafted module imports
WIDTH = 80


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The spider's name.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Where it starts.")],
    offline: Annotated[
        bool, typer.Option("--offline", help="Fetch nothing: a spider to fill in.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Write spiders/NAME.py: a spider drafted from the page at URL.

    The page is fetched as a crawl would fetch it, and read: the list on it, or what it is about. If
    it is a list, the page of its first entry is fetched, too. The drafted selectors were tried on
    these pages. Where there is nothing to read, the spider takes every page's title.
    """
    project = require()
    href = start_url(url)
    path = place_of(project, name)
    found = Found() if offline else look(project, href)
    write_spider(path, name, href, found.draft)
    tell(found, path, name, href)


def start_url(url: str) -> str:
    """*url* in WHATWG form. Raises `UsageError` for what no spider can start at."""
    clean, credentials = urls.without_credentials(url)
    if credentials is not None:
        raise UsageError(
            f"{urls.redact(url)} carries a password, which would end up in the spider's file",
            hint="Leave it out here, and give it in http.headers or in the spider's setup().",
        )
    from scraper.cli.pages import page_url

    return page_url(clean)


# The page ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Found:
    """What was fetched and drafted. `shown`: the page that the item's fields were tried on; `why`:
    the reason why there is no draft, or only half of one."""

    draft: Draft | None = None
    page: Response | None = None
    shown: Response | None = None
    why: str = ""
    hint: str = ""


def look(project: Project, href: str) -> Found:
    """Fetch the page, and the page of its first entry, politely; draft from both."""
    from scraper.api import run_coroutine
    from scraper.workbench import open_workbench

    async def work() -> Found:
        async with open_workbench(project=project) as bench:
            return await _look(bench, href)

    return run_coroutine(work())


async def _look(bench: Workbench, href: str) -> Found:
    from scraper.drafting import draft, with_detail

    found = Found()
    page = await _page(bench, href, found)
    if page is None:
        return found
    found.page = found.shown = page
    found.draft = draft(page)
    for target in found.draft.targets[:2]:  # the first link may be dead; more would be a crawl
        entry = await _page(bench, target, found)
        if entry is not None:
            found.draft = with_detail(found.draft, entry)
            found.shown = entry if found.draft.detail else page
            break
    return found


async def _page(bench: Workbench, href: str, found: Found) -> Response | None:
    """The page, or None when there is none; *found* knows why."""
    found.why = found.hint = ""
    try:
        page = await bench.fetch(href)
    except FetchError as error:
        row = reason(error.reason)
        found.why, found.hint = f"{urls.redact(href)}: {row.meaning} ({error.reason})", row.way_out
        return None
    except CrawlFailed as error:
        found.why, found.hint = f"{urls.redact(href)}: {error.message}", error.hint
        return None
    if not 200 <= page.status < 300:
        found.why = f"{urls.redact(href)}: the server answered {page.status}"
        return None
    return page


# The file ---------------------------------------------------------------------------------------


def place_of(project: Project, name: str) -> Path:
    """Where the spider's file will be. Raises `UsageError` when it cannot be made."""
    if not NAME.fullmatch(name):
        raise SpiderError(
            f"{name!r} cannot be a spider's name here",
            hint="Begin with a small letter; then small letters, digits, '_' and '-', at most 60.",
        )
    loaded = project.configure()
    directory = project.root / loaded.config.project.spiders
    directory.mkdir(parents=True, exist_ok=True)
    spiders = project.spiders(loaded)
    if name in spiders.found:
        raise SpiderError(f"there is a spider {name} already, in {spiders.found[name].file}")
    for error in spiders.broken.values():
        complain(f"not loaded: {error.message}", error.hint)
    path = directory / f"{name.replace('-', '_')}.py"
    if path.exists():
        raise SpiderError(f"{path} is there already")
    return path


def write_spider(path: Path, name: str, href: str, draft: Draft | None) -> None:
    """Write the spider's file; never over another. Raises `UsageError`."""
    from scraper.drafting import Draft, render

    stem = "".join(part.capitalize() for part in re.split(r"[-_]", name))
    taken = stem in IMPORTED or stem in dir(builtins) or keyword.iskeyword(stem)
    draft = draft or Draft()
    text = render(
        draft,
        name=name,
        cls=f"{stem}Spider" if taken else stem,
        item=f"{stem}Page" if draft.kind == "generic" else f"{stem}Item",
        host=re.sub(r"[^\w.:\[\]-]", "", urls.host_key(href).partition("://")[2]),
        url=href,
    )
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SpiderError(f"{path} is there already") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


# What is said of it -----------------------------------------------------------------------------


def tell(found: Found, path: Path, name: str, href: str) -> None:
    """What was drafted, what it gives, and what to do next."""
    draft, shown = found.draft, os.path.relpath(path)
    if found.why:
        complain(f"not drafted: {found.why}" if draft is None else found.why, found.hint)
    if draft is None or draft.kind == "generic":
        if found.page is not None:
            note(f"{urls.redact(found.page.url)} shows nothing that repeats or stands out.")
        note(f"Wrote {shown}: it takes the title of every page of {urls.host_key(href)}.")
    else:
        for line in f"Wrote {shown}: {_summary(found)}".splitlines():
            note(line)
        note()
        _table(draft.shown)
        entries = draft.links or draft.cards
        for what, css in (("next page", draft.next), ("entries", entries)):
            if css and draft.kind != "feed":
                note(f"{what}: {css}")
    note()
    note("Next:")
    if found.page is not None or not found.why:
        note(f"  scrape run {name} --limit 10 -o -")
    note(f"  scrape shell {shlex.quote(href)}   # to try selectors")
    note(f"  edit {shown}: what to take from a page, and which links to follow")


def _summary(found: Found) -> str:
    """What the spider takes, and how well that fitted what was seen."""
    from scraper.drafting import tried

    draft, page = found.draft, found.shown
    if draft is None or page is None:
        return ""
    fit, all_ = tried(draft, page)
    if draft.kind == "feed":
        return f"the entries of the feed, its <{draft.cards}> elements."
    if draft.detail:
        return f"each entry of the list, from its own page.\nTried on {urls.redact(page.url)}"
    if draft.kind == "detail":
        return "one item, from the page itself."
    what = "entries of the list" if draft.kind == "list" else "records"
    return f"the {what}; {fit} of the {all_} on the page fit."


def _table(fields: tuple[Field, ...]) -> None:
    """Field, selector and first value, in 80 columns."""
    from scraper.drafting.source import marker_source

    rows = [("field", "selector", "first value")]
    for f in fields:
        css = f.marker.kind == "Css"
        rows.append((f.name, f.marker.selectors[0] if css else marker_source(f.marker), f.sample))
    first = min(max(len(row[0]) for row in rows), 20)
    second = min(max(len(row[1]) for row in rows), 36)
    for row in rows:
        name, selector, sample = map(clean, row)
        line = f"{_cut(name, first)}  {_cut(selector, second)}  {sample}"
        note(_cut(line, WIDTH).rstrip())


def _cut(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else f"{text[: width - 1]}…"
