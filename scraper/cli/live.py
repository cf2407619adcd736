"""The live line of a crawl on a terminal, by rich."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.text import Text

from scraper.cli.progress import PlainProgress
from scraper.report import Snapshot

__all__ = ["LiveProgress", "terminal"]


def terminal() -> Console | None:
    """Where stderr leads, if lines can be renewed there."""
    console = Console(stderr=True)
    return console if console.is_terminal else None


class LiveProgress(PlainProgress):
    """The same line, renewed in place four times a second."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._live: Live | None = None

    def begin(self, title: Callable[[], str], snapshot: Callable[[], Snapshot]) -> None:
        super().begin(title, snapshot)
        self._live = Live(
            console=self._console,
            get_renderable=lambda: Text(self.line(self._console.width - 1), no_wrap=True),
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
        )
        self._live.start()

    def moved(self) -> None:
        """Renewed by its own thread."""

    def on_close(self, reason: str) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
