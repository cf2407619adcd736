"""Whose code it was: the user's frames of an error, or of a thread at work."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from scraper.errors import ItemInvalid, ScraperError

__all__ = ["brief", "is_own", "user_frames"]

PACKAGE = str(Path(__file__).parent)
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
"""Where code lies that is not the user's."""


def is_own(filename: str) -> bool:
    """Whether a file is the user's: neither this package's nor a library's, and a file at all."""
    return not filename.startswith((PACKAGE, *LIBRARIES, "<"))


def user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of *error* that lie in the user's own code, outermost first."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f for f in frames if not f.filename.startswith((PACKAGE, *LIBRARIES))]


def brief(error: BaseException) -> str:
    """An exception in one line, with the line of the user's code that raised it."""
    if isinstance(error, ItemInvalid):
        return error.message  # it happened on the page, not in a line of code
    own = user_frames(error)
    where = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    said = [error.message, error.hint] if isinstance(error, ScraperError) else [str(error)]
    text = "; ".join(" ".join(part.split()) for part in said if part)
    return f"{type(error).__name__}: {text}{where}" if text else f"{type(error).__name__}{where}"
