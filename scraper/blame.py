"""Whose code it was: the user's frames of an error, or of a thread at work."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

__all__ = ["is_own", "user_frames"]

PACKAGE = str(Path(__file__).parent)
OTHERS = (PACKAGE, *{sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
"""Where code lies that is not the user's: this package, and the libraries."""


def is_own(filename: str) -> bool:
    """Whether a file is the user's: neither this package's nor a library's, and a file at all."""
    return not filename.startswith((*OTHERS, "<"))


def user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of *error* that lie in the user's own code, outermost first."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f for f in frames if not f.filename.startswith(OTHERS)]
