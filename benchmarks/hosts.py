"""What failing hosts cost the healthy ones, and whether every host's pace is kept.

    python -m benchmarks.hosts [--hosts N] [--pages N] [--failing SHARE] [--rounds N] [--listed]

Two crawls by turns, with the settings as they come (a delay of 0.2 s a host): one of the healthy
hosts alone, and one of them together with hosts that fail, each in its own way (`WAYS`). What
counts is when the server has answered the last healthy page, in seconds from its first request:
the second crawl's over the first one's. Each is stopped then; what is left is only failing hosts.

Hosts are addresses of 127.0.0.0/8 on one port, served by a process of its own, whose log is what
is judged. A delay is broken where requests came earlier than starts that far apart allow. What the
server stamps is late by as much as its process waited, which it measures, too, so a breach within
that lateness is none. `--listed`: `start()` gives all pages of all hosts; else the front page of
each host links to the others.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

WAYS = (
    "silent", "reset", "refused", "unavailable", "throttled", "robots", "drip", "short", "unknown",
)  # fmt: skip
"""How hosts fail: no answer; RST; nothing listens; 503; 429 with `Retry-After`; robots.txt is 500;
a byte a second; the body ends early; a name that does not exist."""

DELAY = 0.2
AFTER = 3  # seconds of `Retry-After`

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


@dataclass(frozen=True, slots=True)
class Load:
    """What is crawled. `ways`: of each host how it fails, "" for a healthy one."""

    ways: dict[str, str]
    pages: int
    listed: bool

    def starts(self, port: int) -> list[str]:
        """The start requests: hosts by turns, as a list of sites is rarely sorted."""
        numbers = range(self.pages if self.listed else 1)
        return [f"http://{host}:{port}/p/{n}" for n in numbers for host in self.ways]

    def alone(self) -> Load:
        """The healthy hosts of it."""
        return Load({h: way for h, way in self.ways.items() if not way}, self.pages, self.listed)


def make(hosts: int, share: float, pages: int, *, listed: bool) -> Load:
    """*hosts* hosts, of which *share* fail in all `WAYS`, spread evenly among the others."""
    failing = round(hosts * share)
    ways: dict[str, str] = {}
    for n in range(hosts):
        before, after = n * failing // hosts, (n + 1) * failing // hosts
        way = WAYS[before % len(WAYS)] if after > before else ""
        name = f"127.1.{n // 250}.{n % 250 + 1}"
        ways[f"host-{n}.invalid" if way == "unknown" else name] = way
    return Load(ways, pages, listed)


# The server -------------------------------------------------------------------------------------


def serve(load: Load) -> None:
    """Say the port; a line when the last healthy page is out; the log when stdin ends."""
    import asyncio
    import time

    late = 0.0
    log: list[tuple[float, str, str]] = []
    healthy = {host for host, way in load.ways.items() if not way}
    missing = {(host, f"/p/{n}") for host in healthy for n in range(load.pages)}
    front = "".join(f'<a href="/p/{n}">{n}</a>' for n in range(1, load.pages))

    def answer(status: int, body: str, *headers: str, length: int | None = None) -> bytes:
        size = len(body) if length is None else length
        head = [f"HTTP/1.1 {status} X", "Content-Type: text/html", f"Content-Length: {size}"]
        return "\r\n".join([*head, *headers, "", body]).encode()

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport, self.data = transport, b""
            self.host = transport.get_extra_info("sockname")[0]

        def data_received(self, data: bytes) -> None:
            self.data += data
            while b"\r\n\r\n" in self.data:
                head, _, self.data = self.data.partition(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode()
                log.append((time.monotonic(), self.host, path))
                self.reply(path)

        def reply(self, path: str) -> None:
            way, write = load.ways[self.host], self.transport.write
            if path == "/robots.txt":
                if way not in ("silent", "reset"):
                    write(answer(500 if way == "robots" else 404, ""))
                    return
            elif not way or (path == "/p/0" and way not in ("silent", "reset")):
                write(answer(200, f"<title>{path}</title>{front if path == '/p/0' else ''}"))
                missing.discard((self.host, path))
                if not missing and log[-1][1] in healthy and not done:
                    done.append(time.monotonic())
                    print("done", flush=True)
                return
            if way == "reset":
                linger = b"\x01\0\0\0\0\0\0\0"
                sock = self.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.transport.abort()
            elif way == "unavailable":
                write(answer(503, "later"))
            elif way == "throttled":
                write(answer(429, "slowly", f"Retry-After: {AFTER}"))
            elif way == "drip":
                write(answer(200, "", length=10_000))
                self.drip()
            elif way == "short":
                write(answer(200, "cut", length=1000))
                self.transport.close()

        def drip(self) -> None:
            if not self.transport.is_closing():
                self.transport.write(b"x")
                asyncio.get_running_loop().call_later(1.0, self.drip)

    done: list[float] = []

    async def main() -> None:
        nonlocal late
        loop = asyncio.get_running_loop()
        port = 0
        for host, way in load.ways.items():
            if way in ("refused", "unknown"):
                continue
            server = await loop.create_server(Connection, host, port, backlog=512)
            port = server.sockets[0].getsockname()[1]
        print(port, flush=True)
        ended = loop.run_in_executor(None, sys.stdin.read)
        while not ended.done():
            before = time.monotonic()
            await asyncio.sleep(0.01)
            late = max(late, time.monotonic() - before - 0.01)
        # a request that was under way is worth nothing any more
        print(json.dumps({"log": log, "done": done, "late": late}), flush=True)

    asyncio.run(main())


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
    given = json.dumps({"ways": load.ways, "pages": load.pages, "listed": load.listed})
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.hosts", "--serve", given],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        port = int(server.stdout.readline())
        (directory / "starts.txt").write_text("\n".join(load.starts(port)))
        process = subprocess.Popen(
            [sys.executable, "-c", "from scraper.cli import main; main()",
             "run", "hosts", "-a", f"starts={directory / 'starts.txt'}", "-o", "out.jsonl", "-q"],
            cwd=directory, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        # a crawl that ends without its healthy pages must not leave us waiting for them
        threading.Thread(target=_end_with, args=(process, server), daemon=True).start()
        if server.stdout.readline() != "done\n":
            raise SystemExit("the crawl ended before the healthy hosts were done")
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                continue
        process.wait(30)
        said = json.loads(server.stdout.readline())
    finally:
        server.kill()
        server.wait()
    return judged(load, said)


def _end_with(process: subprocess.Popen[bytes], server: subprocess.Popen[str]) -> None:
    process.wait()
    assert server.stdin is not None
    server.stdin.close()


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
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        serve(Load(**json.loads(given.serve)))
        return 0
    mixed = make(given.hosts, given.failing, given.pages, listed=given.listed)
    print(f"{given.hosts} hosts of {given.pages} pages, {given.failing:.0%} failing")
    print(
        "| crawl | last healthy page, s | requests | delay broken by, s | pause by, s | lateness, s |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    ratios = []
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
        ratios.append(taken["with failing hosts"].last / taken["healthy alone"].last)
    median = sorted(ratios)[len(ratios) // 2]
    print(f"ratio {median:.2f} (rounds: {' '.join(f'{ratio:.2f}' for ratio in ratios)})")
    return 0 if median <= 1.25 else 1


if __name__ == "__main__":
    sys.exit(main())
