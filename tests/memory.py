"""What a program takes, measured in a process of its own."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from textwrap import dedent

__all__ = ["peak", "peak_of"]


def peak() -> int:
    """Peak resident memory of this process, in MB.

    `ru_maxrss` is only the second choice: on Linux it begins with what the parent process had when
    it started this one.
    """
    with suppress(OSError):
        status = Path("/proc/self/status").read_text()
        if found := re.search(r"VmHWM:\s+(\d+) kB", status):
            return int(found[1]) // 1024
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


def peak_of(program: str, n: int) -> int:
    """The last number that *program* prints, run with the argument *n*: its peak, in MB."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(program), str(n)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout)
