"""scrape demo: the bundled bookshop on loopback, and `scrape run books` against it."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from scraper.cli.init import template_directory
from scraper.cli.output import (
    DebugOption,
    FreshOption,
    LimitOption,
    OutputOption,
    QuietOption,
    SetOption,
    StatisticsOption,
    data,
    note,
)
from scraper.cli.run import run_spider
from scraper.demo.server import PREFERRED_PORT, DemoShop, serve_in_thread
from scraper.errors import UsageError
from scraper.project import find

__all__ = ["demo"]

SPIDER = "books"


def demo(
    serve: Annotated[bool, typer.Option("--serve", help="Only serve the shop.")] = False,
    port: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, max=65_535, help="The shop's port; 0: a free one."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Go on serving after the crawl, until Ctrl-C.")
    ] = False,
    settings: SetOption = None,
    output: OutputOption = None,
    fresh: FreshOption = False,
    limit: LimitOption = 0,
    as_json: StatisticsOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> int:
    """Open a bookshop on this machine and crawl it: 1,024 books, no network.

    It has the habits of real sites: redirects, a cookie wall, dead links, an outage, a corner
    that robots.txt forbids, odd encodings. The crawl is that of `scrape run books`; the line for
    it is shown first. Outside a project, the one that `scrape init` makes stands in.
    """
    with ExitStack() as stack:
        shop = _open(stack, port)
        if serve:
            return _wait(shop)
        arguments = [f"site={shop.url}"]
        elsewhere = not _is_here()
        if not quiet:
            options = _options(settings or [], output, limit)
            line = shlex.join(["scrape", "run", SPIDER, "-a", *arguments, *options])
            note(f"The shop is open: {shop.url}  ({len(shop.site.books):,} books)")
            note(f"$ {line}" + ("   # in a project: `scrape init DIR`" if elsewhere else ""))
        code = run_spider(
            SPIDER,
            arguments=arguments,
            settings=settings or [],
            output=output,
            fresh=fresh,
            limit=limit,
            as_json=as_json,
            quiet=quiet,
            debug=debug,
            start=template_directory() if elsewhere else None,
            root=Path.cwd() if elsewhere else None,
        )
        if keep and code == 0:
            _wait(shop)
        return code


def _open(stack: ExitStack, port: int | None) -> DemoShop:
    """Open the shop on *port*, or on the preferred one, or else on a free one."""
    wanted = PREFERRED_PORT if port is None else port
    try:
        shop = stack.enter_context(serve_in_thread(DemoShop(wanted, fallback=port is None)))
    except OSError as error:
        raise UsageError(
            f"--port {wanted}: {error.strerror or error}",
            hint="Name another port, or none: then a free one is taken.",
        ) from None
    if port is None and shop.port != wanted:
        note(f"Port {wanted} is in use; an interrupted demo resumes only on its own port.")
    return shop


def _is_here() -> bool:
    """Whether the project at hand has the spider, as every one made by `scrape init` does."""
    project = find()
    return project is not None and (project.root / "spiders" / f"{SPIDER}.py").is_file()


def _options(settings: Sequence[str], output: str | None, limit: int) -> list[str]:
    """The options that decide what the crawl does, as `scrape run` takes them."""
    options = [word for setting in settings for word in ("-s", setting)]
    options += ["-o", output] if output is not None else []
    options += ["--limit", str(limit)] if limit else []
    return options


def _wait(shop: DemoShop) -> int:
    """Serve until Ctrl-C, which is how serving ends well."""
    try:
        # A shell that starts this in the background has SIGINT ignored; SIGTERM means the same.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        note("The shop is open until Ctrl-C:")
        data(shop.url)
        sys.stdout.flush()
        threading.Event().wait()
    except KeyboardInterrupt:
        note(f"\nClosed after {len(shop.log):,} answers.")
    return 0
