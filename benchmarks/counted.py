"""The process in which `benchmarks.cost` counts: `python -m benchmarks.counted FIGURE BASE`.

Every crawl is made once before it is counted. *BASE*: the address of the shop. The crawls' files
are left in the current directory.
"""

from __future__ import annotations

import cProfile
import gc
import json
import os
import subprocess
import sys
import threading
import types
from collections import Counter
from functools import partial
from pathlib import Path

import scraper
from scraper.api import run_coroutine
from scraper.demo.crawls import CRAWLS

__all__ = ["PAGES", "SITE"]

PAGES = 185
SITE = {"c/0/0.html": 4, "index.html": PAGES}
"""Where a crawl of the shop starts, and how many pages it finds: those below that directory."""

PACKAGE = str(Path(scraper.__file__).parent) + os.sep


def crawl(name: str, start: str) -> int:
    """Crawl; returns how many pages came home."""
    out = Path(f"{name}-{len(list(Path().iterdir()))}.jsonl")
    run_coroutine(CRAWLS[name]([start], out))
    return out.read_bytes().count(b"\n")


def instructions(base: str) -> None:
    """Have callgrind write a file before and after each crawl, in the order of `CRAWLS` and `SITE`.

    It has been told to do so wherever `getloadavg` is called, which nothing else calls.
    """
    for name in CRAWLS:
        crawl(name, base + list(SITE)[-1])
    _switch_on(os.environ["VGDB_PREFIX"])
    for name in CRAWLS:
        for start, pages in SITE.items():
            gc.collect()
            os.getloadavg()
            found = crawl(name, base + start)
            os.getloadavg()
            _check(name, found, pages)


def _switch_on(prefix: str) -> None:
    """Begin to count. Until then the process runs three times as fast.

    callgrind listens between instructions, and not while the process waits: so it must not wait.
    """
    asking = subprocess.Popen(
        ["vgdb", "--max-invoke-ms=0", f"--vgdb-prefix={prefix}", f"--pid={os.getpid()}",
         "instrumentation", "on"]
    )  # fmt: skip
    while asking.poll() is None:
        pass
    if asking.returncode:
        raise RuntimeError(f"vgdb could not switch callgrind on: exit {asking.returncode}")


def calls(base: str) -> None:
    """Print how often each function of the package is called, by number of pages, as JSON."""
    crawl("ours", base + list(SITE)[-1])
    counts = {}
    for start, pages in SITE.items():
        profiles = [cProfile.Profile()]
        if sys.version_info < (3, 12):  # from then on one profile counts all threads
            threading.setprofile(partial(_also_here, profiles))
        profiles[0].enable()
        found = crawl("ours", base + start)
        profiles[0].disable()
        threading.setprofile(None)
        _check("ours", found, pages)
        counted = counts[pages] = Counter[str]()
        for entry in (entry for profile in profiles for entry in profile.getstats()):
            if isinstance(entry.code, types.CodeType) and _counts(entry.code):
                counted[_where(entry.code)] += entry.callcount
    print(json.dumps(counts))


def _also_here(profiles: list[cProfile.Profile], *_: object) -> None:
    """The first event of a thread: from now on a profile of its own counts it."""
    profiles.append(cProfile.Profile())
    profiles[-1].enable()


def _counts(code: types.CodeType) -> bool:
    """Comprehensions do not: whether they are functions depends on the version of Python."""
    return code.co_filename.startswith(PACKAGE) and not code.co_name.endswith("comp>")


def _where(code: types.CodeType) -> str:
    file = code.co_filename.removeprefix(PACKAGE)
    return f"{file}:{code.co_firstlineno} {code.co_qualname}"


def _check(name: str, found: int, pages: int) -> None:
    if found != pages:
        raise RuntimeError(f"{name}: {found} pages of {pages}")


if __name__ == "__main__":
    {"instructions": instructions, "calls": calls}[sys.argv[1]](sys.argv[2])
