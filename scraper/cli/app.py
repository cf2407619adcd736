"""The typer application: the command that was asked for in full, the others by name only."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from scraper.cli import COMMANDS, _quiet_pipe

__all__ = ["build_app", "command_function"]

DESCRIPTION = """
Async web scraping whose output is exactly the crawl: durable, polite, typed.

Start with `scrape init DIR`, or look around with `scrape demo`.
"""


def build_app(wanted: str | None = None) -> typer.Typer:
    """The application. Only *wanted* is imported; None with shell completion imports all."""
    app = typer.Typer(
        help=DESCRIPTION,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    )
    app.callback()(_options)
    everything = "_SCRAPE_COMPLETE" in os.environ
    for name, (_, line) in COMMANDS.items():
        function = command_function(name) if everything or name == wanted else _placeholder
        app.command(name, short_help=line)(function)
    return app


def command_function(name: str) -> Callable[..., Any]:
    """Import a command."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        try:
            result = function(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:
            return _quiet_pipe()
        return result

    return command


def _placeholder() -> None:
    """Stands for a command in the list of commands; it is never called."""


def _show_version(value: bool) -> None:
    if value:
        from scraper._version import __version__

        typer.echo(f"scraper-framework {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version."),
    ] = False,
) -> None:
    """Read by typer; `--version` ends in its callback."""
