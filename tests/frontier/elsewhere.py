"""A frontier of somebody else's: SQLite again, in a file that `job.py` knows nothing of."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from scraper.frontier.inspect import inspect, read_claims
from scraper.frontier.sqlite import SqliteFrontier
from scraper.protocols import FrontierContext
from scraper.work import Recovery

__all__ = ["Elsewhere", "elsewhere"]


def elsewhere(url: str, job: FrontierContext) -> Elsewhere:
    """`elsewhere://NAME`: in the job's directory, under that name."""
    return Elsewhere(job.directory / url.removeprefix("elsewhere://") / "store.db")


class Elsewhere(SqliteFrontier):
    """Durable by itself; what is set aside is numbered."""

    def peek(self) -> Recovery | None:
        if not self.path.exists():
            return None
        told = inspect(self.path)
        return Recovery(
            fresh=False,
            positions=told.positions,
            state=told.state,
            claims=read_claims(self.path),
            counts=told.counts,
            pending=told.pending,
            unclean=not told.clean,
        )

    def retire(self) -> None:
        for path in self._files():
            path.unlink()

    def set_aside(self, reason: str) -> None:
        if not self.path.exists():
            return
        number = len(list(self.path.parent.glob("aside-*")))
        folder = self.path.parent / f"aside-{number}"
        folder.mkdir()
        for path in self._files():
            path.rename(folder / path.name)

    def _files(self) -> list[Path]:
        with suppress(FileNotFoundError):
            return sorted(self.path.parent.glob("store.db*"), reverse=True)
        return []
