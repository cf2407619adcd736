"""What a program takes, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

__all__ = ["peak_of"]


def peak_of(program: str, n: int) -> int:
    """The last number that *program* prints, run with the argument *n*: its peak, in MB."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(program), str(n)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout)
