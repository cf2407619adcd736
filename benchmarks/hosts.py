"""What failing hosts cost the healthy ones, and whether every host's pace is kept.

    python -m benchmarks.hosts [--hosts N] [--pages N] [--failing SHARE] [--rounds N] [--listed]

Two crawls by turns, with the settings as they come (a delay of 0.2 s a host): one of the healthy
hosts alone, and one of them with hosts that fail, each in its own way (`failing.WAYS`). What
counts is when the server has answered the last healthy page, in seconds from its first request:
the second crawl's over the first one's. Each is stopped then; what is left is only failing hosts.

Hosts are addresses of 127.0.0.0/8 on one port, served by a process of its own, whose log is what
is judged. A request is early by what it lies before its time, if all starts of its host lie a delay
apart. A busy process sends, and a busy server stamps, some hundredths of a second late, and the
next one in time: up to `JITTER` no delay was broken.

`--listed`: `start()` gives all pages of all hosts; else each host's front page links to the others.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.failing import AFTER, Load, make

ROOT = Path(__file__).resolve().parents[1]

DELAY = 0.2

JITTER = 0.15
"""Seconds by which a request may look early: the one before it was sent, or stamped, late."""
SPIDER = """
from pathlib import Path

from scraper import Output, Request, Response, Spider

class Hosts(Spider):
    name = "hosts"
    starts: str

    async def start(self):
        for url in Path(self.starts).read_text().split():
            yield Request(url)

    async def parse(self, response: Response) -> Output:
        for link in response.links():
            yield response.follow(link)
        yield {"url": response.url}
"""

CONFIG = """
[project]
spiders = "spiders"

[log]
level = "ERROR"
"""


# The crawls -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """`last`: seconds to the last healthy page; `early`: by how much a delay was broken, at most,
    and `pause`: a `Retry-After`; `late`: the server's own lateness, in seconds."""

    last: float
    requests: int
    early: float
    pause: float
    late: float
    hosts: int


def crawl(load: Load, directory: Path) -> Outcome:
    """One crawl of *load*, to its last healthy page."""
    (directory / "spiders").mkdir(parents=True)
    (directory / "spiders" / "hosts.py").write_text(SPIDER)
    (directory / "config.toml").write_text(CONFIG)
    with crawling(load, directory, stderr=subprocess.DEVNULL) as (server, process):
        # a crawl that ends without its healthy pages must not leave us waiting for them
        threading.Thread(target=_end_with, args=(process, server), daemon=True).start()
        if server.heard() != "done":
            raise SystemExit("the crawl ended before the healthy hosts were done")
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                continue
        process.wait(30)
        said = json.loads(server.heard())
    return judged(load, said)


class Served:
    """The process of `benchmarks.failing`."""

    def __init__(self, load: Load) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.failing", json.dumps(asdict(load))],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def heard(self) -> str:
        """The next line that it says."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def end(self) -> None:
        """Let it say what it saw."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def crawling(
    load: Load, directory: Path, stderr: int | None = None
) -> Iterator[tuple[Served, subprocess.Popen[bytes]]]:
    """Serve *load*, and crawl it with the spider and the settings in *directory*."""
    server = Served(load)
    try:
        port = int(server.heard())
        (directory / "starts.txt").write_text("\n".join(load.starts(port)))
        process = subprocess.Popen(
            [sys.executable, "-c", "from scraper.cli import main; main()",
             "run", "hosts", "-a", f"starts={directory / 'starts.txt'}", "-o", "out.jsonl", "-q"],
            cwd=directory, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
        yield server, process
    finally:
        server.kill()


def _end_with(process: subprocess.Popen[bytes], server: Served) -> None:
    process.wait()
    server.end()


def judged(load: Load, said: dict[str, Any]) -> Outcome:
    """What the server's log says."""
    by_host: dict[str, list[tuple[float, str]]] = {}
    for at, host, path in said["log"]:
        by_host.setdefault(host, []).append((at, path))
    first = said["log"][0][0]
    early = max(earliness([at for at, _ in seen], DELAY) for seen in by_host.values())
    pause = 0.0
    for host, seen in by_host.items():
        if load.ways[host] == "throttled":
            told = [at for at, path in seen if path not in ("/robots.txt", "/p/0")]
            pause = max(pause, earliness(told, AFTER))
    return Outcome(
        said["done"][0] - first, len(said["log"]), early, pause, said["late"], len(by_host)
    )


def earliness(starts: Sequence[float], apart: float) -> float:
    """By how many seconds requests came before their time, if their starts lie *apart*.

    Between any two that have *n* between them; a single gap may be short because the first
    stamp was late, a sum of them only once.
    """
    worst, lead = 0.0, -float("inf")
    for n, at in enumerate(starts):
        lead = max(lead, at - n * apart)
        worst = max(worst, lead - (at - n * apart))
    return worst


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--hosts", type=int, default=500)
    parser.add_argument("--pages", type=int, default=100)
    parser.add_argument("--failing", type=float, default=0.3, help="share of the hosts")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--listed", action="store_true", help="all pages are start requests")
    given = parser.parse_args(arguments)
    mixed = make(given.hosts, given.failing, given.pages, listed=given.listed)
    print(f"{given.hosts} hosts of {given.pages} pages, {given.failing:.0%} failing")
    print("| crawl | last healthy page, s | requests | early, s | in a pause, s | server late, s |")
    print("|---|---:|---:|---:|---:|---:|")
    ratios, broken = [], 0.0
    for n in range(given.rounds):
        taken = {}
        for name, load in (("healthy alone", mixed.alone()), ("with failing hosts", mixed)):
            with tempfile.TemporaryDirectory() as directory:
                o = taken[name] = crawl(load, Path(directory) / "project")
            print(
                f"| {n + 1}: {name} | {o.last:.1f} | {o.requests:,} | {o.early:.3f} |"
                f" {o.pause:.3f} | {o.late:.3f} |",
                flush=True,
            )
            broken = max(broken, o.early, o.pause)
        ratios.append(taken["with failing hosts"].last / taken["healthy alone"].last)
    median = sorted(ratios)[len(ratios) // 2]
    print(f"ratio {median:.2f} (rounds: {' '.join(f'{ratio:.2f}' for ratio in ratios)})")
    print(f"delays {'kept' if broken <= JITTER else 'BROKEN'}: {broken:.3f} s early, at most")
    return 0 if median <= 1.25 and broken <= JITTER else 1


if __name__ == "__main__":
    sys.exit(main())
