"""The machine's clock is set by a day while a crawl runs: it neither waits for it nor hammers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from scraper.clock import LoopClock
from tests.conftest import missing
from tests.crawl.harness import GRAPH_SPIDER, Project, json_lines
from tests.servers.web import Answer, Seen, Web, html, text

DAY = 86_400
PAGES = 120
FAILING = range(11, 16)
PAUSE = 2
LATE = 0.15


@pytest.fixture
def faketime() -> Path:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        missing("libfaketime", "apt-get install faketime")
    return found[0]


@pytest.mark.case(
    90,
    "the system's clock goes a day back, two forward, and back, amid retries and a `Retry-After`",
    "no date of a running crawl moves: pauses and delays hold by the server's log, retries come in"
    " their time, cookies stay",
)
def test_a_clock_that_is_set_moves_nothing(project: Project, faketime: Path) -> None:
    clock = project.scratch / "clock"
    set_at: list[int] = []
    told: list[Seen] = []

    def turn(days: int) -> None:
        fresh = clock.with_suffix(".new")
        fresh.write_text(f"{days * DAY:+d}")
        fresh.replace(clock)
        set_at.append(days)

    def site(seen: Seen) -> Answer:
        if seen.path == "/robots.txt":
            return text("", 404)
        n = int(seen.path.rpartition("/")[2])
        asked = web.counts()[seen.path]
        if n in FAILING and asked == 1:
            return text("not yet", 500)
        if n == 60 and asked == 1:
            told.append(seen)
            return text("rest", 429, ("Retry-After", str(PAUSE)))
        links = range(1, PAGES) if n == 0 else ()
        cookie = [("Set-Cookie", "sid=1; Max-Age=3600")] if n == 0 else []
        return html("".join(f'<a href="/p/{m}">x</a>' for m in links), 200, *cookie)

    turn(0)
    project.spider(GRAPH_SPIDER)
    project.config(
        '[politeness.hosts."127.*"]\ndelay = 0.02\nper_host = 1\nadaptive = false\n'
        "[retry]\nbase = 3.0\n",
        local="",
    )
    surroundings = {
        "LD_PRELOAD": str(faketime),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "PATH": os.environ.get("PATH", ""),
    }
    with Web(site) as web:
        # the retries of pages 11 to 15 and what is stored of them lie ahead of the first turn, the
        # pause that page 60 began is open at the second, and some pages remain for a third
        web.when(lambda web: bool(web.seen("/p/40")), lambda: turn(-1))
        web.when(lambda web: bool(told and told[0].ended), lambda: turn(1))
        web.when(lambda web: bool(web.seen("/p/100")), lambda: turn(-1))
        done = project.start(
            "run", "pages", "-a", f"base={web.url}", "-o", "out.jsonl", "--json", env=surroundings
        ).wait().expect(0)  # fmt: skip
        assert set_at == [0, -1, 1, -1]
        numbers = Counter(record["n"] for record in json_lines(project.path("out.jsonl")))
        assert numbers == Counter(range(PAGES))
        assert done.json["retries"] == len(FAILING)
        assert done.json["duration_s"] < DAY / 2
        pages = [seen for seen in web.log if seen.path.startswith("/p/")]
        assert all(seen.cookies.get("sid") == "1" for seen in pages[1:])
        assert web.counts()["/robots.txt"] == 1
        assert told[0].ended is not None
        inside = [s for s in pages if told[0].ended < s.at < told[0].ended + PAUSE - LATE]
        assert not inside
        starts = [seen.at for seen in pages]
        assert starts[-1] - starts[0] >= (len(pages) - 1) * 0.02 + PAUSE - 2 * LATE
        assert all(b >= a for a, b in pairwise(starts))


def test_the_date_goes_with_the_monotonic_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = LoopClock()
    before = clock.wall()
    assert abs(before - time.time()) < 60
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 0 <= clock.wall() - before < 60


def test_faketime_moves_what_the_process_reads(faketime: Path, tmp_path: Path) -> None:
    """The proof above is worth something only when the clock is really another one."""
    clock = tmp_path / "clock"
    clock.write_text(f"+{DAY}")
    program = "import time; print(time.time(), time.monotonic())"
    environ = {"FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    said = [
        [float(part) for part in subprocess.check_output(
            [sys.executable, "-c", program], env=env, text=True
        ).split()]
        for env in ({}, {**environ, "LD_PRELOAD": str(faketime)})
    ]  # fmt: skip
    assert said[1][0] - said[0][0] > DAY - 600
    assert said[1][1] - said[0][1] < 600
