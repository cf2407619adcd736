"""The command line: `main` is the entry point and the one error boundary.

Data goes to stdout, everything for people to stderr. Only the module of the command that was
asked for is imported, so that ``scrape --help`` answers at once.

Exit codes: 0 complete · 1 finished, but failures passed the threshold · 2 usage or configuration
· 3 damaged state · 4 out of a resource · 130/143 stopped by a signal · 141 nobody reads the output.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["COMMANDS", "main", "run_command_line", "show_traceback"]

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("scraper.cli.run:run", "Run a spider, or resume it where it stopped."),
    "init": ("scraper.cli.init:init", "Make a new project."),
    "new": ("scraper.cli.new:new", "Write a first version of a spider for a URL."),
    "list": ("scraper.cli.listing:list_spiders", "The project's spiders."),
    "check": ("scraper.cli.check:check", "Look for mistakes in everything, without crawling."),
    "config": ("scraper.cli.config:config", "Every setting, and where it comes from."),
    "status": ("scraper.cli.status:status", "The jobs, and how far they are."),
    "failures": ("scraper.cli.failures:failures", "What failed in a job, why, and the way out."),
    "quality": ("scraper.cli.quality:quality", "What a job's last run delivered."),
    "rejects": ("scraper.cli.rejects:rejects", "Which items did not fit, and why."),
    "shell": ("scraper.cli.shell:shell", "Try selectors on a page, interactively."),
    "fetch": ("scraper.cli.fetch:fetch", "Fetch one page, and show what came."),
    "parse": ("scraper.cli.parse:parse", "What a spider makes of one page."),
    "demo": ("scraper.cli.demo:demo", "Crawl a small shop on this machine."),
    "bench": ("scraper.cli.bench:bench", "What a page costs on this machine."),
}
"""Each command's function, and its line in the list of commands."""

SIGPIPE_EXIT = 141
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def main() -> NoReturn:
    """The `scrape` command."""
    sys.exit(run_command_line(sys.argv[1:]))


def run_command_line(args: Sequence[str]) -> int:
    """Run a command line, tell what went wrong, and return the exit code."""
    try:
        code = _run(list(args))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return _quiet_pipe()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:  # noqa: BLE001 - the boundary: every error becomes one line
        if "--debug" in args:
            show_traceback(error)
        return _tell(error)
    return code


def _run(args: list[str]) -> int:
    from scraper.cli.app import build_app

    wanted = next((arg for arg in args if not arg.startswith("-")), None)
    if wanted is not None and wanted not in COMMANDS:
        _unknown(wanted)
    result = build_app(wanted)(args or ["--help"], prog_name="scrape", standalone_mode=False)
    return result if isinstance(result, int) else 0


def _unknown(wanted: str) -> NoReturn:
    import difflib

    from scraper.errors import UsageError

    near = difflib.get_close_matches(wanted, COMMANDS, n=1)
    mean = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(
        f"there is no command {wanted!r}{mean}", hint=f"There are: {', '.join(COMMANDS)}."
    )


def show_traceback(error: Exception) -> None:
    import traceback

    from scraper.cli.output import clean
    from scraper.redaction import redacted

    for line in redacted("".join(traceback.format_exception(error))).splitlines():
        sys.stderr.write(f"  {clean(line)}\n")  # no line of a message passes for another


def _tell(error: Exception) -> int:
    """One line and a hint on stderr for whatever was raised; the exit code for it."""
    from scraper.cli.output import complain
    from scraper.errors import ScraperError

    if isinstance(error, ScraperError):
        complain(error.message, error.hint)
        return error.exit_code
    if type(error).__name__ == "Abort":  # typer's word for an interrupt at a prompt
        return 130
    if hasattr(error, "format_message"):  # the command line's own errors, of whatever version
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "scrape"
        complain(error.format_message(), f"`{path} --help` shows how.")
        return 2
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        complain(
            f"{error.strerror}: {error.filename or 'while writing'}", "Free space and run again."
        )
        return 4
    if isinstance(error, OSError) and error.strerror:
        complain(f"{error.strerror}: {error.filename or type(error).__name__}")
        return 1
    said = str(error).strip().partition("\n")[0]
    complain(
        f"internal error: {type(error).__name__}: {said}",
        "This is a fault of the framework. --debug shows the traceback; please report it.",
    )
    return 1


def _quiet_pipe() -> int:
    """Nobody reads stdout any more (`| head`): keep the interpreter from telling so at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return SIGPIPE_EXIT
