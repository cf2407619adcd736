"""State that is not what was committed is refused; a full disk costs nothing."""

from __future__ import annotations

import re
import resource
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.crawl.harness import GRAPH_SPIDER, Project, json_lines, tree
from tests.servers.graph import Graph
from tests.servers.web import Web

GRAPH = Graph(900)


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(GRAPH) as web:
        yield web


def command(web: Web) -> tuple[str, ...]:
    return ("run", "pages", "-a", f"base={web.url}", "-o", "out.jsonl", "--json")


def half_done(project: Project, web: Web) -> tuple[Path, Path]:
    """A job killed half-way: its ledger, with all of it in one file, and its partial output."""
    project.spider(GRAPH_SPIDER)
    run = project.start(*command(web))
    web.after(600, run.kill)
    assert run.wait().code == -signal.SIGKILL
    job = project.path(".scrape/pages")
    (log,) = job.rglob("*-wal")
    ledger = log.with_name(log.name.removesuffix("-wal"))
    with closing(sqlite3.connect(ledger)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert ledger.stat().st_size > 8 * 4096
    (partial,) = project.root.glob("out.jsonl.partial*")
    return ledger, partial


def refused(project: Project, web: Web, name: str) -> None:
    """Exit 3 that names the file, and not a byte changed nor a request made."""
    before, requests = tree(project.root), len(web.log)
    ended = project.scrape(*command(web)).expect(3)
    assert name in ended.err, ended.err
    assert len(web.log) == requests
    changed = {k for k, v in tree(project.root).items() if before.get(k) != v}
    assert not [k for k in changed if "out.jsonl" in k]


def test_an_output_that_lost_its_end_is_refused(project: Project, web: Web) -> None:
    _, partial = half_done(project, web)
    size = json_lines_kept(partial)
    with partial.open("r+b") as file:
        file.truncate(size // 2)
    refused(project, web, partial.name)


def json_lines_kept(partial: Path) -> int:
    size = partial.stat().st_size
    assert size > 1000, "half-way through there is something to lose"
    return size


def test_an_output_that_is_gone_is_refused(project: Project, web: Web) -> None:
    _, partial = half_done(project, web)
    partial.unlink()
    refused(project, web, partial.name)


@pytest.mark.case(
    82, "a torn last line in the unfinished output, by a kill", "trimmed on resume; each item once"
)
def test_a_torn_tail_is_cut_off(project: Project, web: Web) -> None:
    _, partial = half_done(project, web)
    with partial.open("ab") as file:
        file.write(b'{"n": 1, "title": "torn' + b"x" * 50_000)
    project.scrape(*command(web)).expect(0)
    numbers = Counter(record["n"] for record in json_lines(project.path("out.jsonl")))
    assert numbers == Counter(range(900))


@pytest.mark.case(
    91,
    "flipped bytes in the middle of the ledger",
    "exit 3 that names the file; no request, nothing changed",
)
def test_flipped_bytes_in_the_ledger_are_refused(project: Project, web: Web) -> None:
    ledger, _ = half_done(project, web)
    data = bytearray(ledger.read_bytes())
    # whole pages of garbage in the middle, headers of b-trees included
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 3 * 4096] = bytes(b ^ 0x5A for b in data[middle : middle + 3 * 4096])
    ledger.write_bytes(data)
    refused(project, web, ".scrape")


def test_a_ledger_that_is_not_one_is_refused(project: Project, web: Web) -> None:
    ledger, _ = half_done(project, web)
    ledger.write_bytes(b"not a database at all" * 500)
    refused(project, web, ".scrape")


def limited(size: int) -> None:
    """Like a disk with *size* bytes left for each file: writes beyond it fail (EFBIG)."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.case(
    80,
    "no more bytes for any file, after 16, 150 and 400 KB: a disk that is full, twice",
    "exit 4, nothing published; with space again the same command goes on, and nothing is lost",
)
@pytest.mark.parametrize("size", [16_000, 150_000, 400_000])
def test_a_full_disk_is_exit_4_and_costs_nothing(project: Project, size: int) -> None:
    project.spider(GRAPH_SPIDER)
    graph = Graph(3000)
    with Web(graph) as web:
        full = project.scrape(*command(web), preexec=lambda: limited(size)).expect(4)
        assert "space" in full.err or "full" in full.err
        assert not project.path("out.jsonl").exists()
        still = project.scrape(*command(web), preexec=lambda: limited(size)).expect(4)
        assert still.code == 4
        done = project.scrape(*command(web)).expect(0)
        assert done.json["items"] == 3000
        numbers = Counter(record["n"] for record in json_lines(project.path("out.jsonl")))
        assert numbers == Counter(range(3000))


FULL = """
set -e
cd "$1"
mkdir -m 700 .scrape
mkdir out log
mount -t tmpfs -o size=$3k tmpfs "$1/$2"
set +e
"$4" -c "$5" run pages -a base=$6 -o out/out.jsonl 2>&1; echo "exit $?"
ls out/out.jsonl 2>/dev/null
mount -o remount,size=64m "$1/$2"
"$4" -c "$5" run pages -a base=$6 -o out/out.jsonl 2>&1; echo "exit $?"
cp out/out.jsonl "$1/delivered.jsonl"
"""


def in_a_name_space(project: Project, script: str, *arguments: str) -> str:
    """What *script* says, with mounts of its own: no root needed, no trace left."""
    may = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False)
    if may.returncode != 0:
        pytest.skip("this system lets nobody make a mount name space")
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", str(project.root), *arguments],
        env=project.environment(), capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert "Traceback" not in ended.stdout
    return ended.stdout


@pytest.mark.case(
    80,
    "the file system of the ledger, of the output or of the log is full; later it has room again",
    "ledger or output: exit 4, nothing published, and the same command goes on and loses nothing;"
    " a log that cannot be written stops nothing",
)
@pytest.mark.parametrize(
    ("place", "size", "codes"),
    [(".scrape", 400, ["4", "0"]), ("out", 60, ["4", "0"]), ("log", 4, ["0", "0"])],
)
def test_a_file_system_that_is_really_full(
    project: Project, place: str, size: int, codes: list[str]
) -> None:
    """A small file system of our own."""
    project.spider(GRAPH_SPIDER)
    level, pages = ("DEBUG", 200) if place == "log" else ("INFO", 3000)
    project.config(f'[log]\nfile = "log/crawl.log"\nlevel = "{level}"\n')
    with Web(Graph(pages)) as web:
        said = in_a_name_space(
            project, FULL, place, str(size), sys.executable, "from scraper.cli import main; main()",
            web.url,
        )  # fmt: skip
    assert re.findall(r"^exit (\d+)$", said, re.MULTILINE) == codes, said
    if codes[0] == "4":
        assert not said.partition("exit 4\n")[2].startswith("out"), "published too early"
        assert "space" in said or "full" in said
    else:
        assert said.count("lines of the log are lost") == 1
    numbers = Counter(record["n"] for record in json_lines(project.path("delivered.jsonl")))
    assert numbers == Counter(range(pages))


def test_state_is_readable_by_its_owner_only(project: Project, web: Web) -> None:
    half_done(project, web)
    state = project.path(".scrape")
    assert state.stat().st_mode & 0o077 == 0
    modes = {p.stat().st_mode & 0o077 for p in state.rglob("*") if p.is_file()}
    assert modes == {0}


READ_ONLY = """
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && cd "$1" || exit
"$2" -c "$3" run pages -a base=$4 -o out.jsonl 2>&1; echo "exit $?"
"$2" -c "$3" run pages -a base=$4 -o "$5/out.jsonl" 2>&1; echo "exit $?"
"""


@pytest.mark.case(
    81,
    "the project's directory is read-only, and so the output's or the job's",
    "exit 2 before the first request, in one line that names the path",
)
def test_a_read_only_directory_is_told_before_the_first_request(
    project: Project, tmp_path: Path
) -> None:
    project.spider(GRAPH_SPIDER)
    other = tmp_path / "elsewhere"
    other.mkdir()
    with Web(GRAPH) as web:
        said = in_a_name_space(
            project, READ_ONLY, sys.executable, "from scraper.cli import main; main()", web.url,
            str(other),
        )  # fmt: skip
        assert re.findall(r"^exit (\d+)$", said, re.MULTILINE) == ["2", "2"], said
        assert said.count(str(project.root)) >= 2, said
        assert len(said.splitlines()) <= 6, said
        assert web.log == []
    assert list(other.iterdir()) == []
