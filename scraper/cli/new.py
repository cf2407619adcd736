"""scrape new NAME URL: a spider that works, to be changed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated

import typer

from scraper import urls
from scraper.cli.output import DebugOption, complain, note
from scraper.errors import SpiderError, UsageError
from scraper.project import Project, require

SPIDER = '''\
"""{host}: what it has, and which pages this spider reads."""

from typing import Annotated

from scraper import Css, Item, Output, Response, Spider


class {item}(Item):
    """What one page gives. A field without a default must be there, or the item is rejected."""

    url: str = ""
    title: Annotated[str, Css("h1", "title")]  # the first of these that matches
    description: Annotated[str | None, Css("meta[name=description]::attr(content)")]


class {spider}(Spider):
    """Every page of {host} that can be reached from its start."""

    name = {name}
    start_urls = [{url}]

    async def parse(self, response: Response) -> Output:
        """A page: its item, and the links to the next pages."""
        page = response.extract({item})
        page.url = response.url
        yield page
        for link in response.links():  # fewer: response.links("nav a, li.next a")
            yield response.follow(link)
'''
NAME = re.compile(r"[a-z][a-z0-9_-]{0,59}")


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The spider's name.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Where it starts.")],
    debug: DebugOption = False,
) -> None:
    """Write spiders/NAME.py: a spider that starts at URL and takes every page's title."""
    project = require()
    href = start_url(url)
    path = write_spider(project, name, href)
    shown = os.path.relpath(path)
    note(f"Wrote {shown}: it takes the title of every page of {urls.host_key(href)}.")
    note()
    note("Next:")
    note(f"  edit {shown}: what to take from a page, and which links to follow")
    note(f"  scrape run {name} --limit 10")


def start_url(url: str) -> str:
    """*url* in WHATWG form. Raises `UsageError` for what no spider can start at."""
    clean, credentials = urls.without_credentials(url)
    if credentials is not None:
        raise UsageError(
            f"{urls.redact(url)} carries a password, which would end up in the spider's file",
            hint="Leave it out here, and give it in http.headers or in the spider's setup().",
        )
    href = urls.parse(clean)
    if href is not None and urls.is_web(href):
        return href
    guess = urls.parse(f"https://{clean}")
    way = f"Did you mean {guess}?" if guess and "://" not in url and "." in url else ""
    raise UsageError(f"{urls.redact(url)} is not an http or https URL", hint=way)


def write_spider(project: Project, name: str, href: str) -> Path:
    """Write the spider's file; never over another. Raises `UsageError`."""
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
    host = re.sub(r"[^\w.:\[\]-]", "", urls.host_key(href).partition("://")[2])
    stem = "".join(part.capitalize() for part in re.split(r"[-_]", name))
    spider = f"{stem}Spider" if stem in {"Css", "Item", "Output", "Response", "Spider"} else stem
    text = SPIDER.format(
        host=host,
        item=f"{stem}Page",
        spider=spider,
        name=json.dumps(name),
        url=json.dumps(href, ensure_ascii=False),
    )
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SpiderError(f"{path} is there already") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    return path
