"""Documentation made by Sphinx (4 and newer): pages, their headings, and the objects described.

Any such site will do: ``scrape run docs -a site=https://docs.python.org/3/``. What is crawled is
the directory of the start URL and everything below it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Annotated
from urllib.parse import urljoin

from pydantic import Field

from scraper import Item, Output, Request, Response, Selector, Spider

HEADINGS = "[role=main] :is(h1, h2, h3, h4, h5, h6)"
ADDED = "a.headerlink, .viewcode-link"  # what Sphinx appends to what can be linked to
CLASSES = re.compile(r"[\w -]+")
NO_PAGES = r"/_(?:sources|downloads|static|images)/"


class Heading(Item):
    """A heading of a page's text; `level` is 1 to 6, `id` what a link to it names."""

    level: Annotated[int, Field(ge=1, le=6)]
    text: str
    id: str | None = None


class Page(Item):
    """One page, with its headings in document order."""

    url: str
    title: str
    headings: list[Heading]


class Object(Item):
    """One signature: of a function, class, method, option, macro …

    `domain` and `kind` are Sphinx's: "py" and "function", "c" and "macro", "std" and "cmdoption";
    the generic `describe` has no domain. `id` is None for what is not to be linked to.
    """

    page: str
    id: str | None
    domain: str
    kind: str
    name: str
    signature: str


class Docs(Spider):
    """All pages below the start URL's directory, and every object that they describe."""

    name = "docs"
    site: str

    async def start(self) -> AsyncIterator[Request]:
        yield Request(self.site)

    async def parse(self, response: Response) -> Output:
        if not response.is_html:
            return
        yield page_of(response)
        for found in objects_of(response):
            yield found
        for link in response.links("a", allow=self._below(), deny=NO_PAGES):
            yield response.follow(link)

    def _below(self) -> str:
        return "^" + re.escape(urljoin(self.site, "."))


def page_of(response: Response) -> Page:
    """The page: its title and headings."""
    return Page(
        url=response.url,
        title=response.css("title").text,
        headings=[
            Heading(
                level=int(heading.tag[1]),
                text=_own_text(heading),
                id=heading.css("a.headerlink::attr(href)").re_first("^#(.+)"),
            )
            for heading in response.css(HEADINGS)
        ],
    )


def objects_of(response: Response) -> Iterator[Object]:
    """The objects that a page describes, kind by kind, each kind in document order."""
    kinds = dict.fromkeys(response.css("dl:has(> dt.sig)::attr(class)").getall())
    for classes in kinds:
        if not CLASSES.fullmatch(classes):
            continue  # not Sphinx's, and not to be quoted in a selector
        for signature in response.css(f'dl[class="{classes}"] > dt.sig'):
            yield Object(
                page=response.url,
                id=signature.attrib.get("id"),
                domain=_domain(signature.attrib["class"]),
                kind=classes.split()[-1],
                name=signature.css(".sig-name").text,
                signature=_own_text(signature),
            )


def _own_text(element: Selector) -> str:
    text = element.text
    for added in reversed(element.css(ADDED)):
        text = text.removesuffix(added.text).rstrip()
    return text


def _domain(classes: str) -> str:
    """``sig sig-object py`` → ``py``."""
    return next((name for name in classes.split() if not name.startswith("sig")), "")
