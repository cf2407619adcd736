"""scrape shell [URL]: try selectors on a page, with the framework and the project at hand."""

from __future__ import annotations

import ast
import asyncio
import code
import inspect
import signal
import sys
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scraper.cli.desk import Desk
from scraper.cli.output import DebugOption, QuietOption, SetOption, complain, data
from scraper.cli.pages import (
    ArgumentsOption,
    SpiderOption,
    local_page,
    on_terminal,
    page_url,
    safe_text,
    speak,
    user_traceback,
)
from scraper.cli.run import spider_arguments
from scraper.cli.worker import Worker
from scraper.errors import ScraperError
from scraper.workbench import open_workbench

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["shell"]

TITLE = "scrape shell: Ctrl-D ends it"
INTERRUPTED = 128 + signal.SIGINT


def shell(
    url: Annotated[
        str | None, typer.Argument(metavar="URL", help="The first page; or a saved one's path.")
    ] = None,
    program: Annotated[
        str | None, typer.Option("--code", "-c", metavar="CODE", help="Run this instead, and end.")
    ] = None,
    base: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Where a saved page came from.")
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Python's own console, even where IPython is there.")
    ] = False,
    spider: SpiderOption = None,
    arguments: ArgumentsOption = None,
    settings: SetOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> int:
    """Open an interactive session with a page, to try selectors and items on it.

    It has `response`, `request`, `fetch(url)`, `view()`, `css()`, `xpath()`, `extract(Model)`,
    `spider`, the framework's names, and the items and spiders of the project. Pages are fetched
    as in a crawl: robots.txt, pace, cookies. `await` works.

    Without IPython it is Python's own console. With -c, or a script on standard input, there is
    no session: the value of an expression is printed, and an exception ends with 1.
    """
    if url is not None and local_page(url) is None:
        page_url(url)
    bench = open_workbench(spider, overrides=settings or [], args=spider_arguments(arguments or []))
    speak(bench.config, quiet=quiet, debug=debug)
    script = piped() if program is None else program
    with Worker(bench) as worker:
        desk = Desk(worker)
        try:
            if url is not None:
                desk.load(url, base)
        except ScraperError as error:
            if script is not None:
                raise
            complain(error.message, error.hint)
        desk.add_project(quiet=quiet)
        if script is not None:
            return run_script(script, desk, name="-c" if program is not None else "stdin")
        banner = "" if quiet else f"{TITLE}\n{desk.banner()}\n"
        if plain or not with_ipython(desk, banner):
            with_console(desk, banner)
    return 0


def piped() -> str | None:
    """The script on standard input; None where that is a terminal."""
    if sys.stdin is None:
        return ""
    return None if sys.stdin.isatty() else sys.stdin.read()


# Python's own console -----------------------------------------------------------------------


class Console(code.InteractiveConsole):
    """Runs code in the desk's namespace. `await` works; the framework's errors are one line.

    `ended`: the exit code of what was run last.
    """

    def __init__(self, desk: Desk, name: str = "console") -> None:
        super().__init__(desk.namespace, filename=f"<{name}>")
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self.ended = 0
        self._runner = asyncio.Runner()

    def runcode(self, code: CodeType) -> None:
        """Run compiled code; what it raises is shown."""
        self.ended = 0
        try:
            result = FunctionType(code, self.locals)()
            if inspect.iscoroutine(result):
                self._runner.run(result)
        except SystemExit:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever the user's code raises
            self.show(error)

    def show(self, error: BaseException) -> None:
        """Tell what was raised, on stderr."""
        if isinstance(error, BrokenPipeError):
            raise error
        self.ended = 1
        if isinstance(error, KeyboardInterrupt):
            self.ended = INTERRUPTED
            self.write("\nKeyboardInterrupt\n")
        elif isinstance(error, ScraperError):
            complain(error.message, error.hint)
        else:
            self.write(f"{user_traceback(error)}\n")

    def showsyntaxerror(self, filename: str | None = None, **options: Any) -> None:
        """What Python says of code that it does not understand."""
        error = sys.exc_info()[1]
        if error is not None:
            self.show(error)

    def close(self) -> None:
        """End what `await` used."""
        self._runner.close()


def run_script(script: str, desk: Desk, *, name: str) -> int:
    """Run *script* and return the exit code. The value of a single expression is printed."""
    console = Console(desk, name)
    shown, sys.displayhook = sys.displayhook, print_value
    try:
        if name == "-c" and "\n" not in script.strip():
            incomplete = console.runsource(f"{script.strip()}\n", console.filename, "single")
        else:
            incomplete = console.runsource(f"{script}\n", console.filename, "exec")
        if incomplete:
            complain(f"{name}: the code ends in the middle of a statement")
            return 1
        return console.ended
    finally:
        sys.displayhook = shown
        console.close()


def print_value(value: Any) -> None:
    """Print what an expression gave: text as it is, everything else as Python writes it."""
    if value is None:
        return
    text = str(value) if isinstance(value, str) else repr(value)
    data(safe_text(text) if on_terminal() else text)


def with_console(desk: Desk, banner: str) -> None:
    """A session in Python's own console, with line editing and completion where it has them."""
    console = Console(desk)
    try:
        import readline
        import rlcompleter
    except ImportError:
        pass
    else:
        readline.set_completer(rlcompleter.Completer(desk.namespace).complete)
        binding = (
            "bind ^I rl_complete" if "libedit" in (readline.__doc__ or "") else "tab: complete"
        )
        readline.parse_and_bind(binding)
    try:
        console.interact(banner=banner, exitmsg="")
    finally:
        console.close()


# IPython ------------------------------------------------------------------------------------


def with_ipython(desk: Desk, banner: str) -> bool:
    """A session in IPython, with the user's profile. False where it is not installed."""
    try:
        from IPython.terminal.ipapp import TerminalIPythonApp
        from traitlets.config import Config
    except ImportError:
        return False
    config = Config()
    config.TerminalInteractiveShell.banner1 = banner
    config.TerminalInteractiveShell.banner2 = ""
    config.TerminalInteractiveShell.enable_tip = False
    config.TerminalInteractiveShell.confirm_exit = False
    app: Any = TerminalIPythonApp.instance(config=config, user_ns=desk.namespace)
    app.initialize(argv=[])
    app.shell.set_custom_exc((ScraperError, KeyboardInterrupt), _one_line)
    app.start()
    return True


def _one_line(
    shell: InteractiveShell, kind: type, error: BaseException, trace: Any, tb_offset: Any = None
) -> None:
    """In place of a traceback: for the framework's own errors, and for Ctrl-C."""
    if isinstance(error, ScraperError):
        complain(error.message, error.hint)
    else:
        sys.stderr.write("\nKeyboardInterrupt\n")
