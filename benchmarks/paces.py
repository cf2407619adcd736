"""Thousands of hosts with a delay each: is the pace what they allow, and is the process idle else?

    python -m benchmarks.paces [--hosts N] [--pages N] [--write]

Hosts are addresses of 127.0.0.0/8 with delays of two to six seconds (`DELAYS`), served by a process
of its own (`failing`), whose log is what is judged; real sockets, robots.txt of every host, the
durable frontier; every host has as many pages. The pace is the time that the delays ask for over
the time that was taken: between the first and the last request of each host, and of the whole
crawl, which has to start them all besides. A request is early by what it lies before its time, if
all starts of its host lie a delay apart (see `hosts.earliness`).

Then the same crawl without delays: what a page costs there is what a page costs here, and half as
much again at most, or the process does something while it waits.

Fails when the hosts' pace is below 95 %, when a request is early, or when a page costs more.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.failing import Load
from benchmarks.hosts import JITTER, SPIDER, crawling, earliness
from benchmarks.report import where, write

PACE, COST = 0.95, 1.75
"""What is promised."""
DELAYS = (2.0, 3.0, 4.0, 5.0, 6.0)
BLOCK = 100
"""Hosts with the same delay, in a row: a pattern names them."""

CONFIG = """
[project]
spiders = "spiders"

[log]
level = "ERROR"

[politeness]
adaptive = false
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`pace`: of the hosts, each from its first request to its last; `whole`: of the crawl.
    `early`, `late`: see `hosts.Outcome`. `cpu`: seconds, all of the crawl's process."""

    requests: int
    seconds: float
    pace: float
    whole: float
    early: float
    late: float
    cpu: float

    @property
    def cost(self) -> float:
        return self.cpu / self.requests


def delays(hosts: int) -> dict[str, float]:
    """The delay of each host, by its address."""
    found = {}
    for n in range(hosts):
        block, place = divmod(n, BLOCK)
        found[f"127.2.{block}.{place + 1}"] = DELAYS[block % len(DELAYS)]
    return found


def crawl(wanted: Mapping[str, float], pages: int, directory: Path, *, paced: bool) -> Outcome:
    """One crawl of all hosts, *pages* of each."""
    (directory / "spiders").mkdir(parents=True)
    (directory / "spiders" / "hosts.py").write_text(SPIDER)
    rules = {host.rpartition(".")[0]: delay for host, delay in wanted.items()}
    (directory / "config.toml").write_text(
        CONFIG
        + "".join(
            f'\n[politeness.hosts."{block}.*"]\ndelay = {delay if paced else 0}\n'
            for block, delay in rules.items()
        )
    )
    load = Load(dict.fromkeys(wanted, ""), pages, listed=False)
    with crawling(load, directory) as (server, process):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(f"the crawl ended with {process.returncode}")
        if server.heard() != "done":
            raise SystemExit("the crawl ended without all pages")
        server.end()
        said = json.loads(server.heard())
    by_host: dict[str, list[float]] = {}
    for at, host, _ in said["log"]:
        by_host.setdefault(host, []).append(at)
    log, spans = said["log"], {host: seen[-1] - seen[0] for host, seen in by_host.items()}
    asked = {host: wanted[host] * (len(seen) - 1) for host, seen in by_host.items()}
    seconds = log[-1][0] - log[0][0]
    early = max(earliness(seen, wanted[host]) for host, seen in by_host.items())
    return Outcome(
        requests=len(log),
        seconds=seconds,
        pace=sum(asked.values()) / sum(spans.values()),
        whole=max(asked.values()) / seconds,
        early=early,
        late=said["late"],
        cpu=usage.ru_utime + usage.ru_stime,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paces", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--hosts", type=int, default=2_000)
    parser.add_argument("--pages", type=int, default=10, help="of each host")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    given = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = delays(given.hosts)
    with tempfile.TemporaryDirectory() as directory:
        paced = crawl(wanted, given.pages, Path(directory) / "paced", paced=True)
        free = crawl(wanted, given.pages, Path(directory) / "free", paced=False)
    ratio = paced.cost / free.cost
    rows = [
        f"{given.hosts:,} hosts of {given.pages} pages and a robots.txt",
        "",
        (
            "| delays | requests | seconds | pace of the hosts | of the crawl | early, s"
            " | server late, s | CPU a request, µs |"
        ),
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        (
            f"| {DELAYS[0]:g} to {DELAYS[-1]:g} s | {paced.requests:,} | {paced.seconds:.1f}"
            f" | {paced.pace:.1%} | {paced.whole:.1%} | {paced.early:.3f} | {paced.late:.3f}"
            f" | {paced.cost * 1e6:,.0f} |"
        ),
        (
            f"| none | {free.requests:,} | {free.seconds:.1f} | | | | {free.late:.3f}"
            f" | {free.cost * 1e6:,.0f} |"
        ),
        "",
        (f"A request costs {ratio:.2f} times what it does without delays. {where()}"),
    ]
    text = "\n".join(rows)
    print(text)
    if given.write:
        write("paces", text, "python -m benchmarks.paces")
    if paced.pace < PACE or paced.early > JITTER or ratio > COST:
        sys.exit("not as promised")


if __name__ == "__main__":
    main()
