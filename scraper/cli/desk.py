"""What lies ready in `scrape shell`: the page, the ways to another, the names of the project."""

from __future__ import annotations

import html
import os
import re
import sys
import tempfile
import webbrowser
from codecs import BOM_UTF8
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from pydantic import BaseModel

import scraper
from scraper import urls
from scraper.cli.output import clean, complain, note
from scraper.cli.pages import local_page, page_url, reworded
from scraper.cli.worker import Worker
from scraper.errors import ScraperError, UsageError
from scraper.http import Request, Response
from scraper.items import M
from scraper.mistakes import clip
from scraper.project import find
from scraper.select import SelectorList
from scraper.spider import Spider
from scraper.workbench import Visitor

__all__ = ["Desk"]

HEAD = re.compile(r"<head(?:\s[^>]*)?>|<html(?:\s[^>]*)?>|<!doctype[^>]*>", re.IGNORECASE)
BASE = re.compile(r"<base\s[^>]*href", re.IGNORECASE)
SUFFIXES = {
    "application/json": ".json",
    "application/pdf": ".pdf",
    "application/xml": ".xml",
    "image/gif": ".gif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "text/plain": ".txt",
    "text/xml": ".xml",
}
"""What a browser may be given to open, besides HTML: nothing that could run as a program."""


class Desk:
    """The namespace of a session, kept up to date: `response` and `request` are the last page's."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.own: dict[str, Any] = {}  # the project's classes
        self.namespace: dict[str, Any] = {
            name: getattr(scraper, name) for name in scraper.__all__ if not name.startswith("_")
        }
        self.namespace |= {
            "Annotated": Annotated,
            "Decimal": Decimal,
            "css": self.css,
            "extract": self.extract,
            "fetch": self.fetch,
            "request": None,
            "response": None,
            "scraper": scraper,
            "spider": worker.bench.spider,
            "view": self.view,
            "xpath": self.xpath,
        }

    @property
    def response(self) -> Response:
        """The page at hand, whatever it was set to. Raises `UsageError` when there is none."""
        response = self.namespace.get("response")
        if not isinstance(response, Response):
            raise UsageError("there is no page yet", hint='fetch("https://…") gets one.')
        return response

    # What the session calls --------------------------------------------------------------

    def fetch(self, target: str | Request, **options: Any) -> Response:
        """Get a page as a crawl would; it becomes `response`.

        *target*: a `Request`, or a URL, relative to the page at hand as its links are.
        *options*: those of `Request`.
        """
        if isinstance(target, Request):
            if options:
                raise UsageError("fetch(request, …): options are for a URL, not for a Request")
            request = target
        else:
            page = self.namespace.get("response")
            if isinstance(page, Response) and urls.is_web(page.url) and "://" not in target:
                target = page.urljoin(target)
            elif (saved := local_page(target)) is not None:
                return self._show(saved)
            request = Request(page_url(target), **options)
        try:
            return self._show(self.worker.fetch(request))
        except Exception as error:
            raise reworded(error, request.url) from error

    def load(self, target: str, url: str | None = None) -> None:
        """The first page: a URL, or the path of a saved page, which came from *url*."""
        saved = local_page(target, url)
        if saved is None:
            self.fetch(target)
        else:
            self._show(saved)

    def _show(self, response: Response) -> Response:
        self.namespace["response"] = response
        self.namespace["request"] = response.request
        return response

    def css(self, selector: str) -> SelectorList:
        """`response.css(…)` of the page at hand."""
        return self.response.css(selector)

    def xpath(self, query: str) -> Any:
        """`response.xpath(…)` of the page at hand."""
        return self.response.xpath(query)

    def extract(self, model: type[M], css: str | None = None, **options: Any) -> M:
        """`response.extract(…)` of the page at hand."""
        return self.response.extract(model, css, **options)

    def view(self, response: Response | None = None) -> None:
        """Open the page in a browser, as it came: from a file, whose path is printed."""
        shown = self.response if response is None else response
        suffix, content = saved_page(shown)
        with tempfile.NamedTemporaryFile(prefix="scrape-", suffix=suffix, delete=False) as file:
            file.write(content)
        path = Path(file.name)
        if suffix == ".bin" or not has_browser() or not webbrowser.open(path.as_uri()):
            note(f"No browser for it here; the page is in {path}")
        else:
            note(f"Opened {path}")

    # The project -------------------------------------------------------------------------

    def add_project(self, *, quiet: bool) -> None:
        """Add the spiders and the models of the project, and of the spider's own module."""
        module = sys.modules.get(type(self.worker.bench.spider).__module__)
        modules = [module] if module is not None else []
        modules += project_modules(quiet=quiet)
        for each in modules:
            self.own |= models_of(each)
        self.namespace |= self.own

    def banner(self) -> str:
        """What there is, in a few lines of 80 columns."""
        page = self.namespace["response"]
        rows = [
            ("response", clean(repr(page)) if page is not None else "none yet"),
            ("fetch(url)", "another page; also a Request, or a link relative to this page"),
            ("view()", "the page in a browser"),
            ('css("h1")', "response.css; also xpath(…) and extract(Model)"),
            ("spider", self._spider()),
        ]
        if self.own:
            rows.append(("project", ", ".join(sorted(self.own))))
        return "\n".join(clip(f"  {name:<11} {what}", 79) for name, what in rows)

    def _spider(self) -> str:
        spider = self.worker.bench.spider
        if isinstance(spider, Visitor):
            return "of no site; --spider NAME brings one, with its settings and login"
        return clean(repr(spider))


def project_modules(*, quiet: bool) -> Iterator[ModuleType]:
    """The modules of the project's spiders; those that do not load are told."""
    project = find()
    if project is None:
        return
    try:
        spiders = project.spiders(project.configure())
    except ScraperError as error:
        complain(error.message, error.hint)
        return
    for broken in spiders.broken.values() if not quiet else ():
        complain(f"not loaded: {broken.message}", broken.hint)
    for entry in spiders.found.values():
        yield sys.modules[entry.cls.__module__]


def models_of(module: ModuleType) -> dict[str, type]:
    """The users' spiders, items and other models that a module has."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, BaseModel | Spider)
        and not name.startswith("_")
        and value.__module__.partition(".")[0] not in ("scraper", "pydantic")
    }


# Viewing ------------------------------------------------------------------------------------


def saved_page(response: Response) -> tuple[str, bytes]:
    """A file name's ending, and the page as a file that a browser shows as if from its URL."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in SUFFIXES:
        return SUFFIXES[kind], response.body
    if not response.is_html:
        return ".bin", response.body
    text = response.text
    if not BASE.search(text):
        place = max((match.end() for match in HEAD.finditer(text[:65536])), default=0)
        base = f'<base href="{html.escape(response.url)}">'
        text = text[:place] + base + text[place:]
    return ".html", BOM_UTF8 + text.encode()


def has_browser() -> bool:
    """Whether a browser would open in a window, and not in this terminal."""
    if sys.platform == "darwin" or os.environ.get("BROWSER"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
