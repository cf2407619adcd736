"""What lies on the disk between two processes, damaged: the ledger, outputs, locks, histories.

An unfinished job is resumed from it, in this process. Either everything is delivered, once, or
the state is refused by name (exit 3) and left as it is: nothing is lost silently.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scraper.cli import run_command_line
from scraper.frontier import tables
from tests.crawl.harness import GRAPH_SPIDER, Project
from tests.fuzz.material import examples, mutated
from tests.servers.graph import Graph
from tests.servers.web import Web

PAGES = 40
SETTINGS = ("-s", "crawl.group_pages=5", "-s", "crawl.drain_timeout=0.1", "-s", "retry.base=0.01")


class Stopped:
    """A project whose job was killed half-way, as often as one likes."""

    def __init__(self, root: Path, command: tuple[str, ...], files: dict[Path, bytes]) -> None:
        self.root = root
        self.command = command
        self.files = files

    def __repr__(self) -> str:
        return f"<Stopped {self.root}>"

    def restore(self) -> None:
        """Everything as the kill left it."""
        for place in self.root.iterdir():
            if place.name not in {"spiders", "config.toml"}:
                shutil.rmtree(place) if place.is_dir() else place.unlink()
        for path, data in self.files.items():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(data)

    def find(self, name: str) -> Path:
        return next(path for path in self.files if path.name == name)

    def resume(self) -> tuple[int, str]:
        """The exit code, and what was told."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run_command_line(self.command)
        said = err.getvalue()
        assert "Traceback" not in said, said
        assert "internal error" not in said, said
        return code, said

    def delivered(self) -> Counter[int] | None:
        """The pages in the output; None where it was not published, or is no JSON any more."""
        try:
            lines = (self.root / "out.jsonl").read_bytes().splitlines()
            return Counter(json.loads(line)["n"] for line in lines)
        except (OSError, ValueError, KeyError, TypeError):
            return None


WHOLE = Counter(range(PAGES))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stopped]:
    """Killed after a commit, with pages done, pending and in flight, cookies and a scope."""
    root = tmp_path_factory.mktemp("state").resolve() / "project"
    project = Project(root, tmp_path_factory.mktemp("scratch"))
    project.spider(GRAPH_SPIDER)
    with Web(Graph(PAGES)) as web, contextlib.chdir(root):
        command = ("run", "pages", "-a", f"base={web.url}", "-o", "out.jsonl", *SETTINGS)
        killed = project.start(*command, env={"SCRAPER_KILL_AT": "commit-after:5"}).wait()
        assert killed.code == -signal.SIGKILL, killed.err
        (ledger,) = root.rglob("ledger.sqlite")
        with contextlib.closing(sqlite3.connect(ledger)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for path in root.rglob("ledger.sqlite-*"):
            path.unlink()
        shutil.rmtree(root / "spiders" / "__pycache__", ignore_errors=True)
        kept = (p for p in root.rglob("*") if p.is_file() and p.parent.name != "spiders")
        files = {path: path.read_bytes() for path in kept if path.name != "config.toml"}
        yield Stopped(root, command, files)
    project.close()


@pytest.fixture(autouse=True)
def _imports_stay() -> Iterator[None]:
    """The spider is loaded once; what resumes it changes nothing else of this process."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    yield
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_undamaged_it_goes_on(stopped: Stopped) -> None:
    stopped.restore()
    code, said = stopped.resume()
    assert (code, stopped.delivered()) == (0, WHOLE), said
    code, said = stopped.resume()  # a second run of a job that is done
    assert (code, stopped.delivered()) == (0, WHOLE), said


# Bytes ------------------------------------------------------------------------------------------


@st.composite
def damage(draw: st.DrawFn) -> tuple[str, float, float, int]:
    """What happens to a file, from where to where (shares of its length), and a byte."""
    kind = draw(
        st.sampled_from(["flip", "flip", "zero", "cut", "lose", "double", "swap", "random"])
    )
    start, length = draw(st.floats(0, 1)), draw(st.sampled_from([0.0, 1e-4, 0.01, 0.2, 1.0]))
    return kind, start, length, draw(st.integers(1, 255))


def damaged(data: bytes, what: tuple[str, float, float, int]) -> bytes:
    kind, start, length, byte = what
    at = min(int(start * len(data)), max(len(data) - 1, 0))
    end = min(at + max(int(length * len(data)), 1), len(data))
    inside = data[at:end]
    match kind:
        case "flip":
            inside = bytes(each ^ byte for each in inside)
        case "zero":
            inside = bytes(len(inside))
        case "cut":
            return data[:at]
        case "lose":
            inside = b""
        case "double":
            inside *= 2
        case "swap":  # what stands there is another part of the same file
            other = (at * byte) % max(len(data) - len(inside), 1)
            inside = data[other : other + len(inside)]
        case "random":
            inside = bytes((each * byte + 7) & 0xFF for each in inside)
    return data[:at] + inside + data[end:]


def harmed(stopped: Stopped, name: str, harm: list[tuple[str, float, float, int]]) -> Path:
    """The file of that name, as its crawl left it but for the *harm* done to it."""
    stopped.restore()
    path = stopped.find(name)
    data = stopped.files[path]
    for what in harm:
        data = damaged(data, what)
    path.write_bytes(data)
    return path


@examples(14, most=600)
@given(st.lists(damage(), min_size=1, max_size=3))
@example([("cut", 0.0, 0.0, 1)])
@example([("swap", 0.5, 0.2, 3)])
def test_the_ledger(stopped: Stopped, harm: list[tuple[str, float, float, int]]) -> None:
    ledger = harmed(stopped, "ledger.sqlite", harm)
    data = ledger.read_bytes()
    code, said = stopped.resume()
    if code == 0:
        assert stopped.delivered() == WHOLE, said
        return
    assert code == 3, said
    assert "ledger.sqlite" in said
    assert "--fresh" in said
    assert ledger.read_bytes() == data
    assert stopped.delivered() is None


@examples(8, most=400)
@given(st.lists(damage(), min_size=1, max_size=2))
@example([("cut", 0.5, 0.0, 1)])
def test_an_unfinished_output(stopped: Stopped, harm: list[tuple[str, float, float, int]]) -> None:
    """Its length is what the ledger knows of it: shorter is refused, a longer tail is cut off."""
    partial = harmed(stopped, "out.jsonl.partial", harm)
    data = partial.read_bytes()
    code, said = stopped.resume()
    if len(data) < len(stopped.files[partial].rstrip(b"\0")):
        assert code in {0, 3}, said
    if code == 0:
        assert (stopped.root / "out.jsonl").is_file()
        return
    assert code == 3, said
    assert partial.name in said
    assert partial.read_bytes() == data


LOCKS = [b'{"spider": "pages", "started": "x", "job": "/nowhere", "output": "", "base": null}']
LOCK_WORDS = [
    b"{",
    b"}",
    b"[" * 5000,
    b"null",
    b'"',
    b"\0",
    b"9" * 5000,
    b"../..",
    b'"base": "x"',
    b"1e999",
]


@examples(8, most=400)
@given(
    mutated(LOCKS, LOCK_WORDS) | st.binary(max_size=60), st.sampled_from(["out.jsonl.lock", "lock"])
)
@example(b"[" * 5_000, "out.jsonl.lock")
def test_locks(stopped: Stopped, data: bytes, which: str) -> None:
    """A lock that names nobody, or somebody else: the job says so, or goes on."""
    stopped.restore()
    stopped.find(which).write_bytes(data)
    code, said = stopped.resume()
    if code == 0:
        assert stopped.delivered() == WHOLE, said
    else:
        assert code in {2, 3}, said
        assert (
            stopped.find("out.jsonl.partial").read_bytes()
            == stopped.files[stopped.find("out.jsonl.partial")]
        )


HISTORY = [b'{"run": "a", "pages": 1, "items": 3, "quality": {"Book": {"count": 3}}}\n' * 3]


@examples(8, most=400)
@given(
    mutated(HISTORY, [*LOCK_WORDS, b"\n", b'"quality": 7', b'"run": []', b'"quality": {"x": []}'])
)
@example(b"[" * 5_000)
@example(b'{"run": []}\n')
def test_histories(stopped: Stopped, data: bytes) -> None:
    """Runs that ended are there to compare with: a line that says nothing is left out."""
    stopped.restore()
    (stopped.find("ledger.sqlite").parent / "history.jsonl").write_bytes(data)
    code, said = stopped.resume()
    assert (code, stopped.delivered()) == (0, WHOLE), said
    for command in (["quality", "pages"], ["status"]):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            assert run_command_line(command) in {0, 1, 2}


# Rows that are sealed, and foreign ----------------------------------------------------------------

FOREIGN = [
    b"null", b"0", b"-1", b"1e999", b"NaN", b'"text"', b"[]", b"{}", b"[[]]", b'{"a": 1}', b"",
    b"\xff\xfe",
    b"[" * 5_000, b'{"url": 7}', b'{"url": "http://127.0.0.1:9/", "callback": 7}', b"\0" * 3,
    b'{"format": 1, "jars": 7}',
    b'{"url": "file:///etc/passwd"}', b'{"url": "http://127.0.0.1:9/", "body": "\\u20ac"}',
    b"9" * 5000,
    b'{"url": "http://127.0.0.1:9/", "trail": [1]}',
    b'{"url": "http://127.0.0.1:9/", "headers": []}', b'{"started": 1}',
    b'{"url": "http://127.0.0.1:9/", "kwargs": 1, "priority": "x"}', b'{"started": "x"}',
    b'{"version": 1, "items": []}',
    b'{"url": "http://127.0.0.1:9/", "into": ["x"]}',
    b'{"url": "http://127.0.0.1:9/", "method": []}', b'["a", 1, null]',
    b'{"records": "x", "size": 1}', b'{"records": 1, "size": -5}',
    b'{"records": 1, "size": 1e400}', b"[1, 2, 3]",
]  # fmt: skip
ROWS = st.sampled_from([
    *(("kept", name) for name in ("state", "position", "count")), ("requests", "payload"),
    ("hosts", "state"),
    ("hosts", "name"), ("seen", "fingerprints"), ("ledger", "head"), ("kept", "name"),
])  # fmt: skip


def replace(ledger: Path, where: tuple[str, str], number: int, value: bytes) -> None:
    """Put *value* into one row, with the checksum of whoever means it so."""
    table, column = where
    with contextlib.closing(sqlite3.connect(ledger)) as database:
        if table == "ledger":
            text = value.decode("utf-8", "replace")
            database.execute("UPDATE ledger SET head = ?, crc = ?", (text, crc32(text.encode())))
        else:
            columns = tables.COLUMNS[table]
            query = f"SELECT {', '.join(columns)} FROM {table} ORDER BY id"
            rows: list[tuple[Any, ...]] = database.execute(query).fetchall()
            if table == "kept" and column != "name":
                rows = [row for row in rows if row[1] == column]
                column = "value"
            if not rows:
                return
            row = list(rows[number % len(rows)])
            place = columns.index(column)
            row[place] = value.decode("utf-8", "replace") if isinstance(row[place], str) else value
            seal = tables.request_checksum if table == "requests" else tables.checksum
            database.execute(
                f"UPDATE {table} SET {columns[place]} = ?, crc = ? WHERE id = ?",
                (row[place], seal(tuple(row)), row[0]),
            )
        database.commit()
        database.execute("PRAGMA journal_mode = DELETE")


@examples(10, most=1_500)
@given(
    ROWS.flatmap(
        lambda row: st.tuples(
            st.just(row),
            # A mutated request could lead to anybody's host.
            st.sampled_from(FOREIGN)
            | (st.nothing() if row[0] == "requests" else mutated(FOREIGN, LOCK_WORDS)),
        )
    ),
    st.integers(0, 30),
)
def test_foreign_rows(stopped: Stopped, what: tuple[tuple[str, str], bytes], number: int) -> None:
    """Whoever can write checksums can change a crawl, but not make it fall over."""
    where, value = what
    stopped.restore()
    ledger = stopped.find("ledger.sqlite")
    replace(ledger, where, number, value)
    code, said = stopped.resume()
    assert code in {0, 1, 2, 3}, said
    assert code == 0 or said.strip()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for command in (["status"], ["failures", "pages"], ["rejects", "pages"]):
            assert run_command_line(command) in {0, 1, 2, 3}
