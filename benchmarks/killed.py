"""A crawl that is killed again and again: how long it takes to go on, and whether anything is lost.

    python -m benchmarks.killed [--pages N] [--kills N] [--write]

The shop of `benchmarks`, crawled once without being disturbed, and once by processes that are
killed (SIGKILL) when so many more items have been written, each time in another place. The item
sets must be equal. What a kill costs: seconds from the start of the next process to the first item
that is new, those of starting Python included, beside the same at the very first start.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import shop
from benchmarks.crawl import HERE, fingerprint
from benchmarks.report import where, write


class Crawl:
    """One job, run by one process after the other."""

    def __init__(self, site: shop.Site, directory: Path) -> None:
        shutil.copytree(
            HERE / "project", directory, ignore=shutil.ignore_patterns("__pycache__", ".scrape")
        )
        self.out = directory / "out.jsonl"
        self._partial = directory / "out.jsonl.partial"
        self._directory = directory
        self._command = [
            sys.executable, "-c", "from scraper.cli import main; main()",
            "run", "pages", "-a", f"url={site.start}", "-o", str(self.out), "-q",
        ]  # fmt: skip

    def start(self) -> subprocess.Popen[bytes]:
        environ = {**os.environ, "PYTHONPATH": str(HERE.parent)}
        return subprocess.Popen(self._command, cwd=self._directory, env=environ)

    def finish(self) -> None:
        """Run to the end."""
        code = self.start().wait()
        if code != 0:
            raise SystemExit(f"the crawl ended with {code}")

    def until(self, items: int) -> tuple[int, float]:
        """Run until *items* more have been written, and kill. How many there are; seconds to the
        first one that is new."""
        before, began, first = self._size(), time.monotonic(), 0.0
        process = self.start()
        cut = before
        while process.poll() is None:
            size = self._size()
            cut = min(cut, size)  # what was written and not committed goes first
            if size > cut and not first:
                first = time.monotonic() - began
            if first and self._items() >= items:
                process.kill()
            time.sleep(0.005)
        if process.returncode != -9:
            raise SystemExit(f"the crawl ended by itself, with {process.returncode}")
        return self._items(), first

    def _size(self) -> int:
        return self._partial.stat().st_size if self._partial.exists() else 0

    def _items(self) -> int:
        return self._partial.read_bytes().count(b"\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.killed", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--pages", type=int, default=20_000, help="size of the shop")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        work = Path(directory)
        with shop.shop(work, given.pages) as site:
            whole = Crawl(site, work / "whole")
            whole.finish()
            killed = Crawl(site, work / "killed")
            rows = ["| start | items when it was killed | first new item, s |", "|---|---:|---:|"]
            for n in range(given.kills):
                target = given.pages * (n + 1) // (given.kills + 1)
                items, first = killed.until(target)
                rows.append(f"| {'first' if n == 0 else n + 1} | {items:,} | {first:.2f} |")
            killed.finish()
        expected, found = fingerprint(whole.out), fingerprint(killed.out)
    same = "the same set" if found == expected else f"NOT THE SAME: {expected}, {found}"
    text = "\n".join(rows) + (
        f"\n\nThen to the end: {found[0]:,} items, {same} as without a kill. {where()}"
    )
    print(text)
    if given.write:
        write("killed", text, "python -m benchmarks.killed")
    if found != expected:
        sys.exit("items were lost, or came twice")


if __name__ == "__main__":
    main()
