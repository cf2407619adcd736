"""`scrape run --workers N`: the supervisor, over workers that do what a test says.

A worker here is a small program that speaks as a worker does (`scraper.cli.line`). What several
real ones do to a crawl is shown elsewhere.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from scraper.cli.workers import WORKER
from scraper.report import result_of
from tests.cli.conftest import CommandLine
from tests.crawl.harness import REPOSITORY, Crawl

WORKER_SCRIPT = """
import json, os, signal, socket, sys, time
from pathlib import Path

signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a worker does
options = sys.argv[1:]
number = int(options[options.index("--worker") + 1])
line = socket.socket(fileno=int(options[options.index("--line") + 1]))
heard = line.makefile("rb")
lives = len(list(Path().glob(f"life-{number}-*")))
Path(f"life-{number}-{lives}").write_text(json.dumps([os.getpid(), options]))

def say(kind, value):
    line.sendall(json.dumps({kind: value}).encode() + b"\\n")

def at(pages, items=0, busy=1):
    say("at", dict(pages=pages, items=items, failed=0, queued=9, busy=busy, waiting=2, elapsed=3.0))

def end(ended="finished", pages=7, code=None):
    result = json.loads(Path("result").read_text())
    say("result", {**result, "ended": ended, "pages": pages, "finished": ended == "finished"})
    sys.exit(code if code is not None else 143 if ended == "stopped" else 0)

def fail(kind, code):
    say("error", dict(kind=kind, message=f"this is {kind}", hint="do that", code=code))
    sys.exit(code)

def word():
    try:
        return heard.readline().decode().strip()
    except ConnectionResetError:  # the other end died with something unread
        return ""

def wait_for(name):
    while not Path(name).exists():
        time.sleep(0.005)

"""

DRIVER_SCRIPT = """
import json, os, sys
from scraper.cli import progress
from scraper.cli.workers import supervise
from scraper.config import Config

progress.EVERY = float(os.environ.get("EVERY", "10"))

settings, count, options = json.loads(sys.argv[1])
program = [sys.executable, "-S", "worker.py"]
sys.exit(supervise(Config(**settings), "books", ["books"], count, program=program, **options))
"""

RESULT = result_of(
    Counter(items=5, pages=7),
    spider="books",
    job="default",
    ended="finished",
    detail="",
    finished=True,
    resumed=False,
    outputs=[{"kind": "jsonl", "path": "/x/books.jsonl", "records": 5}],
    pending=0,
    arguments={},
)


@dataclass(slots=True)
class Crews:
    """Supervisors in a directory, and what their workers have written there."""

    root: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self, script: str, count: int = 2, settings: dict[str, Any] | None = None, **options: Any
    ) -> Crawl:
        options.setdefault("rest", 0.001)
        (self.root / "worker.py").write_text(WORKER_SCRIPT + dedent(script))
        (self.root / "driver.py").write_text(DRIVER_SCRIPT)
        (self.root / "result").write_text(json.dumps(RESULT.as_dict()))
        out, err = self.root / "out", self.root / "err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "driver.py", json.dumps([settings or {}, count, options])],
                cwd=self.root,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1"},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        self.started.append(process)
        return Crawl(process, out, err)

    def lives(self, number: int) -> list[list[str]]:
        """The options of each process that worker *number* was, in order."""
        found = sorted(self.root.glob(f"life-{number}-*"))
        return [json.loads(path.read_text())[1] for path in found]

    def pid(self, number: int, life: int = 0) -> int:
        path = self.root / f"life-{number}-{life}"
        self.until(lambda: path.exists() and bool(path.read_text()))
        return int(json.loads(path.read_text())[0])

    def touch(self, name: str) -> None:
        (self.root / name).touch()

    @staticmethod
    def until(holds: Callable[[], object]) -> None:
        end = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < end, "it did not come to that"
            time.sleep(0.005)


@pytest.fixture
def crews(tmp_path: Path) -> Iterator[Crews]:
    made = Crews(tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
            process.wait()


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and not only its entry in the table."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_one_summary_one_object_and_the_marks_of_the_workers(crews: Crews) -> None:
    run = crews.start(
        """
        say("notes", ["resuming the run of yesterday"])
        print(f"12:00:00 INFO    this is {number}", file=sys.stderr)
        at(3)
        if number == 1:
            wait_for("life-3-0")
        end()
        """,
        count=3,
        as_json=True,
    )
    done = run.wait().expect(0)
    assert json.loads(done.out) == RESULT.as_dict()
    lines = done.err.splitlines()
    assert lines.count("resuming the run of yesterday") == 1
    assert lines[0] == "resuming the run of yesterday"
    assert {f"w{n} 12:00:00 INFO    this is {n}" for n in (1, 2, 3)} <= {*lines}
    assert sum("books: finished · 5 items from 7 pages" in line for line in lines) == 1
    assert done.err.count("/x/books.jsonl (5 records)") == 1


def test_a_log_of_json_stays_one(crews: Crews) -> None:
    run = crews.start(
        """
        say("notes", [])
        print(json.dumps({"level": "INFO"}), file=sys.stderr)
        end()
        """,
        settings={"log": {"json": True}},
        quiet=True,
    )
    told = [json.loads(line) for line in run.wait().expect(0).err.splitlines()]
    assert {line["worker"] for line in told} <= {1, 2}
    assert told[0] == {"worker": told[0]["worker"], "level": "INFO"}


def test_the_others_wait_for_the_first_and_only_it_starts_anew(crews: Crews) -> None:
    run = crews.start(
        """
        if number == 1 and lives == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 1:
            wait_for("go")
        say("notes", [])
        if number == 1 and lives == 1:
            wait_for("life-2-0")
            os.kill(os.getpid(), signal.SIGKILL)
        wait_for("life-1-2")
        end()
        """,
        fresh=True,
    )
    crews.pid(1, 1)
    assert not crews.lives(2), "what is started anew must be so before others join it"
    crews.touch("go")
    run.wait().expect(0)
    assert ["--fresh" in options for options in crews.lives(1)] == [True, True, False]
    assert ["--fresh" in options for options in crews.lives(2)] == [False]
    since = {option for options in crews.lives(1) for option in options if "--since=" in option}
    assert len(since) == 1, "since when it was asked for, whoever is started again"
    assert float(since.pop().removeprefix("--since=")) <= time.time()


def test_a_worker_that_is_killed_is_started_again(crews: Crews) -> None:
    run = crews.start(
        """
        say("notes", [])
        if number == 2 and lives == 0:
            word()
        if number == 1:
            wait_for("life-2-1")
        end()
        """
    )
    os.kill(crews.pid(2), signal.SIGKILL)
    done = run.wait().expect(0)
    assert "worker 2 was killed by SIGKILL; it is started again in 0.001 s" in done.err


def test_a_worker_that_was_taken_for_dead_is_started_again(crews: Crews) -> None:
    run = crews.start(
        """
        say("notes", [])
        if number == 2 and lives == 0:
            fail("GivenUp", 4)
        if number == 1:
            wait_for("life-2-1")
        end()
        """
    )
    assert "worker 2 was taken for dead" in run.wait().expect(0).err


@pytest.mark.parametrize(
    ("kind", "code"), [("JobError", 2), ("DamagedState", 3), ("OutOfResource", 4)]
)
def test_what_another_process_would_not_mend_ends_all(crews: Crews, kind: str, code: int) -> None:
    run = crews.start(
        f"""
        say("notes", [])
        if number == 2:
            fail({kind!r}, {code})
        assert word() == "stop"
        end("stopped")
        """
    )
    done = run.wait().expect(code)
    assert done.err.count(f"scrape: this is {kind}\n        do that\n") == 1
    assert [len(crews.lives(n)) for n in (1, 2)] == [1, 1]


def test_a_mistake_of_the_first_is_told_once_and_no_other_is_started(crews: Crews) -> None:
    done = crews.start('fail("ConfigError", 2)', count=4).wait().expect(2)
    assert done.err == "scrape: this is ConfigError\n        do that\n"
    assert not crews.lives(2)


def test_an_internal_error_ends_all(crews: Crews) -> None:
    run = crews.start("""
        say("notes", [])
        if number == 2:
            raise ZeroDivisionError("oh")
        word()
        end("stopped")
        """)
    done = run.wait()
    assert done.code == 1
    assert "w2 ZeroDivisionError: oh" in done.err
    assert "scrape: worker 2 ended with exit 1" in done.err


def test_workers_that_die_at_once_end_it(crews: Crews) -> None:
    done = crews.start("os.kill(os.getpid(), signal.SIGSEGV)", count=3, quiet=True).wait()
    assert done.expect(1).err.startswith(
        "scrape: worker 1 was killed by SIGSEGV: 5 deaths in a row, and the crawl did not get on\n"
    )
    assert len(crews.lives(1)) == 5


def test_deaths_do_not_count_while_the_crawl_gets_on(crews: Crews) -> None:
    run = crews.start(
        """
        say("notes", [])
        at(lives)
        if lives == 6:
            end()
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        count=1,
    )
    run.wait().expect(0)
    assert len(crews.lives(1)) == 7


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_all_cleanly(crews: Crews, number: int, code: int) -> None:
    run = crews.start(
        """
        say("notes", [])
        at(3, busy=4)
        assert word() == "stop"
        end("stopped", pages=7 + number)
        """,
        as_json=True,
    )
    for worker in (1, 2):
        crews.pid(worker)
    run.signal(number)
    done = run.wait().expect(code)
    assert json.loads(done.out)["ended"] == "stopped"
    assert "pages are being finished; once more stops at once" in done.err
    assert "the same command again resumes it" in done.err


def test_twice_stops_at_once_and_thrice_kills(crews: Crews) -> None:
    run = crews.start(
        """
        say("notes", [])
        heard = [word(), word()]
        Path(f"heard-{number}").write_text(json.dumps(heard))
        time.sleep(600)
        """
    )
    pids = [crews.pid(1), crews.pid(2)]
    run.twice(signal.SIGINT)
    heard = [crews.root / "heard-1", crews.root / "heard-2"]
    crews.until(lambda: all(path.exists() and path.read_text() for path in heard))
    assert [json.loads(path.read_text()) for path in heard] == [["stop", "now"]] * 2
    run.signal(signal.SIGINT)
    assert run.wait().code == 130
    crews.until(lambda: not any(map(is_alive, pids)))


def test_an_interrupt_of_the_terminal_reaches_each_once(crews: Crews) -> None:
    """Ctrl-C goes to the whole group of processes: workers leave it to who started them."""
    run = crews.start(
        """
        say("notes", [])
        words = [word()]
        line.settimeout(0.3)
        end("stopped")
        """
    )
    pids = [crews.pid(1), crews.pid(2)]
    for pid in (*pids, run.process.pid):
        os.kill(pid, signal.SIGINT)
    assert "books: stopped" in run.wait().expect(130).err


def test_a_worker_that_somebody_stopped_stays_so(crews: Crews) -> None:
    run = crews.start("""
        say("notes", [])
        if number == 2:
            end("stopped", pages=3)
        wait_for("go")
        end()
        """)
    crews.pid(2)
    crews.until(lambda: not is_alive(crews.pid(2)))
    crews.touch("go")
    run.wait().expect(0)
    assert len(crews.lives(2)) == 1


def test_no_worker_outlives_a_supervisor_that_was_killed(crews: Crews) -> None:
    run = crews.start("""
        say("notes", [])
        Path(f"ready-{number}").touch()
        assert word() == ""
        Path(f"end-{number}").touch()
        """)
    pids = [crews.pid(1), crews.pid(2)]
    crews.until(lambda: len(list(crews.root.glob("ready-*"))) == 2)
    run.kill()
    assert run.wait().code == -signal.SIGKILL
    crews.until(lambda: not any(map(is_alive, pids)))
    assert sorted(path.name for path in crews.root.glob("end-*")) == ["end-1", "end-2"]


def test_items_on_standard_output_are_whole_lines(crews: Crews) -> None:
    """A writer that dies in the middle of a line takes no other line with it."""
    run = crews.start("""
        say("notes", [])
        if number == 1 and lives == 0:
            wait_for("life-2-0")
            os.write(1, b'{"n": 1}\\n{"n": 2}\\n{"n":')
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 1:
            os.write(1, b'{"n": 3}\\n')
        wait_for("life-1-1")
        end()
        """)
    done = run.wait().expect(0)
    assert [json.loads(line)["n"] for line in done.out.splitlines()] == [1, 2, 3]


def test_nobody_reads_the_items(crews: Crews) -> None:
    read, write = os.pipe()
    os.close(read)
    (crews.root / "worker.py").write_text(
        WORKER_SCRIPT + 'say("notes", [])\nos.write(1, b"x\\n")\nassert word() == "now"\n'
    )
    (crews.root / "driver.py").write_text(DRIVER_SCRIPT)
    with os.fdopen(write, "wb") as stdout:
        ended = subprocess.run(
            [sys.executable, "driver.py", json.dumps([{}, 2, {}])],
            cwd=crews.root,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=stdout,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_the_line_of_progress_is_of_the_whole_crawl(
    monkeypatch: pytest.MonkeyPatch, crews: Crews
) -> None:
    monkeypatch.setenv("EVERY", "0")
    run = crews.start("""
        say("notes", [])
        at(3 * number, items=2, busy=4)
        Path(f"at-{number}").touch()
        wait_for("go")
        end()
        """)
    crews.until(lambda: "books  2 workers  6 pages  2 items  0 failed" in run.err.read_text())
    crews.touch("go")
    run.wait().expect(0)
    assert "9 queued" in run.err.read_text()


# The command line -------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [("--workers", "2"), ("--join",), ("--allow-changed",)])
def test_what_needs_a_shared_frontier(project: CommandLine, option: tuple[str, ...]) -> None:
    said = project("run", "good", *option)
    assert said.code == 2
    first, hint = said.err.splitlines()
    assert first.startswith(f"scrape: {' '.join(option)}: workers share a crawl on a Redis server")
    assert 'frontier.url is "sqlite"' in first
    assert "redis://127.0.0.1:6379/0" in hint
    assert not (project.root / ".scrape").exists()


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_a_number_of_workers_that_is_none(project: CommandLine, number: str) -> None:
    said = project("run", "good", "--workers", number)
    assert said.code == 2
    assert "--workers" in said.err


def test_a_mistake_is_told_before_any_worker_is_started(project: CommandLine) -> None:
    project.write("config.toml", '[frontier]\nurl = "redis://127.0.0.1:1/0"\n[crawl]\npages = 1\n')
    said = project("run", "good", "--workers", "2")
    assert said.code == 2
    assert "config.toml:4" in said.err
    assert "w1" not in said.err


def test_the_worker_program_is_the_command(tmp_path: Path) -> None:
    """... whatever the current directory has: -P keeps its modules out."""
    (tmp_path / "scraper.py").write_text("raise SystemExit('not this one')")
    ended = subprocess.run(
        [*WORKER[:-1], "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.startswith("scraper-framework ")
    assert ended.returncode == 0
