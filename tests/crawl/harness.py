"""A project in a temporary directory, the command line in a process, and the oracle's checks.

Nothing here waits for a fixed time: a test acts when the server has seen something (`Web.when`,
`Web.after`), when the process has said something, or when it has ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

from tests.servers.graph import Graph
from tests.servers.web import Web

__all__ = [
    "GRAPH_SPIDER",
    "HOSTS_SPIDER",
    "LOCAL",
    "Crawl",
    "Finished",
    "Project",
    "json_lines",
    "judge",
    "judge_records",
    "tree",
]

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
"""Seconds after which a process that does not end counts as hung."""

LOCAL = """
[politeness.hosts."127.*"]
delay = 0
per_host = 64
adaptive = false
"""
"""Politeness lifted for loopback hosts, as a project would do for its own test site."""

GRAPH_SPIDER = """
from scraper import Output, Request, Response, Spider

class Pages(Spider):
    name = "pages"
    base: str

    async def start(self):
        yield Request(self.base + "/p/0")

    async def parse(self, response: Response) -> Output:
        n = int(response.url.rpartition("/")[2])
        for link in response.links():
            yield response.follow(link)
        yield {"n": n, "title": response.css("h1::text").get()}
"""


HOSTS_SPIDER = """
from scraper import Output, Request, Response, Spider

class Hosts(Spider):
    name = "hosts"
    starts: list[str]

    async def start(self):
        for url in self.starts:
            yield Request(url)

    async def parse(self, response: Response) -> Output:
        for link in response.links():
            yield response.follow(link)
        yield {"url": response.url}
"""


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Every line of a JSON lines file. Fails on a torn line and on anything that is no object."""
    data = path.read_bytes()
    assert not data or data.endswith(b"\n"), f"{path.name}: torn last line {data[-80:]!r}"
    records = [json.loads(line) for line in data.splitlines()]
    assert all(isinstance(record, dict) for record in records)
    return records


def tree(root: Path) -> dict[str, int]:
    """Every file and directory below *root* with its size: to show that nothing was created.

    What the interpreter keeps of the sources it compiled does not count.
    """
    return {
        str(path.relative_to(root)): path.stat().st_size if path.is_file() else -1
        for path in sorted(root.rglob("*"))
        if "__pycache__" not in path.parts
    }


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that ended. `code` is negative for a signal's number."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The object that `--json` prints last on stdout."""
        last = self.out.rstrip("\n").rpartition("\n")[2]
        value = json.loads(last)
        assert isinstance(value, dict)
        return value

    def expect(self, code: int) -> Finished:
        assert self.code == code, f"exit {self.code}, not {code}\n{self.err[-3000:]}"
        assert "Traceback (most recent call last)" not in self.err, self.err[-3000:]
        return self


@dataclass(slots=True)
class Crawl:
    """A running process."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens when the process has ended."""
        self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def twice(self, number: int) -> None:
        """Send a signal, and again once it was heard: two that are pending at once are one."""
        self.signal(number)
        self.again(number)

    def again(self, number: int) -> None:
        """Send a signal once the process has said that it heard the first."""
        while self.process.poll() is None and "stopping" not in self.err.read_text():
            time.sleep(0.005)
        self.signal(number)

    def wait(self) -> Finished:
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"hung:\n{self.err.read_text()[-3000:]}") from None
        return Finished(code, self.out.read_text(), self.err.read_text())


@dataclass(slots=True)
class Project:
    """A project directory: config.toml, spiders/, and whatever a crawl makes of it."""

    root: Path
    scratch: Path
    runs: int = 0
    environ: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.root / "spiders").mkdir(parents=True, exist_ok=True)
        self.config()

    def config(self, more: str = "", *, local: str = LOCAL) -> None:
        (self.root / "config.toml").write_text(
            '[project]\nspiders = "spiders"\n' + local + dedent(more)
        )

    def spider(self, source: str, file: str = "site.py") -> None:
        (self.root / "spiders" / file).write_text(dedent(source))

    def path(self, name: str) -> Path:
        return self.root / name

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The surroundings of a process: the repository's package, and no settings of ours."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("SCRAPE_", "COV_"))}
        return environ | {
            "PYTHONPATH": str(REPOSITORY),
            "NO_COLOR": "1",
            "COLUMNS": "200",
            **self.environ,
            **(more or {}),
        }

    def start(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        preexec: Callable[[], None] | None = None,
        cwd: Path | None = None,
    ) -> Crawl:
        """Start `scrape ARGUMENTS` in the project's directory."""
        self.runs += 1
        out, err = (self.scratch / f"{self.runs}.{kind}" for kind in ("out", "err"))
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-c", "from scraper.cli import main; main()", *arguments],
                cwd=cwd or self.root,
                env=self.environment(env),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                preexec_fn=preexec,
            )
        self.started.append(process)
        return Crawl(process, out, err)

    def scrape(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        preexec: Callable[[], None] | None = None,
    ) -> Finished:
        """Run `scrape ARGUMENTS` to its end."""
        return self.start(*arguments, env=env, preexec=preexec).wait()

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()


GROUP = 100  # crawl.group_pages
CONCURRENCY = 32  # crawl.concurrency


def judge(
    output: Path, web: Web, graph: Graph, *, kills: int, concurrency: int = CONCURRENCY
) -> Counter[str]:
    """The oracle: the output is the graph, once, and little was fetched twice.

    A kill may cost what was in flight (`concurrency`) and one group that was not committed.
    Returns how often each page was fetched.
    """
    return judge_records(json_lines(output), web, graph, kills=kills, concurrency=concurrency)


def judge_records(
    records: list[dict[str, Any]],
    web: Web,
    graph: Graph,
    *,
    kills: int,
    concurrency: int = CONCURRENCY,
) -> Counter[str]:
    """The same for an output that some other reader has read."""
    expected = graph.items()
    numbers = Counter(record["n"] for record in records)
    missing = expected.keys() - numbers.keys()
    foreign = numbers.keys() - expected.keys()
    double = {n: times for n, times in numbers.items() if times > 1}
    assert not missing, f"{len(missing)} pages lost: {sorted(missing)[:10]}"
    assert not foreign, f"{len(foreign)} items of no page: {sorted(foreign)[:10]}"
    assert not double, f"{len(double)} pages delivered twice: {sorted(double.items())[:10]}"
    assert all(record == expected[record["n"]] for record in records)
    fetched = Counter({p: c for p, c in web.counts().items() if p.startswith("/p/")})
    again = fetched.total() - len(expected)
    bound = kills * (concurrency + GROUP)
    assert again <= bound, f"{again} pages fetched again by {kills} kills; the bound is {bound}"
    return fetched


def addresses(count: int, first: int = 1) -> tuple[str, ...]:
    """*count* loopback addresses, each a host of its own to a crawler: 127.1.x.y."""
    return tuple(f"127.1.{n // 250}.{n % 250 + 1}" for n in range(first, first + count))


def output_lines(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """The records of several files, in the files' order."""
    return [record for path in paths for record in json_lines(path)]
