"""Jobs: names, identity, the lock, and what is moved where."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.errors import JobError
from scraper.frontier.sqlite import SqliteFrontier
from scraper.job import NAME, Job, default_name, started_now
from scraper.joblist import jobs
from scraper.sameness import code_of, compare, identity
from scraper.testing.frontier import found
from scraper.work import Batch, Want

STARTED = "20240131T235959Z"


def record(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "spider": "books",
        "arguments": {"category": "travel"},
        "sinks": ["jsonl:data/books.jsonl"],
        "started": STARTED,
        "code": "c0de",
        "version": "1.0",
    }
    return identity(**(values | changes))


async def crawl(job: Job, *, phase: bytes = b"running", clean: bool = True) -> None:
    """Leave a ledger behind, as a run would."""
    frontier = SqliteFrontier(job.ledger)
    await frontier.open()
    seeds = [found("https://a.example/1"), found("https://a.example/2")]
    state = {"job": json.dumps(record()).encode(), "phase": phase}
    batch = Batch(seeds=seeds, state=state, want=Want(1))
    batch.counts["pages"] = 3
    await frontier.commit(batch)
    await frontier.aclose(clean=clean)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({}, "default"),
        ({"category": "travel"}, "category=travel"),
        ({"pages": 3, "category": "travel"}, "category=travel,pages=3"),
        ({"deep": True}, "deep=true"),
    ],
)
def test_default_names_can_be_read(arguments: dict[str, Any], name: str) -> None:
    assert default_name(arguments) == name


def test_odd_names_keep_apart_what_differs() -> None:
    names = {
        default_name({"q": q})
        for q in ("a/b", "a b", "a:b", "../b", "x" * 300, "x" * 301, "ä", "ö")
    }
    assert len(names) == 8
    assert all(NAME.fullmatch(name) for name in names)
    assert default_name({"q": "a/b"}).startswith("q=a-b-")


def test_secrets_are_not_in_names() -> None:
    name = default_name({"api_token": "hunter2", "page": 1})
    assert "hunter2" not in name
    assert name != default_name({"api_token": "hunter3", "page": 1})
    assert NAME.fullmatch(name)


@given(st.dictionaries(st.text(min_size=1), st.text() | st.integers() | st.lists(st.text())))
def test_every_default_name_is_a_name(arguments: dict[str, Any]) -> None:
    assert NAME.fullmatch(default_name(arguments))


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "a\0b", "a\nb", "x" * 81, "-x", "ä"]
)
def test_names_that_would_lead_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(JobError, match="cannot be the name"):
        Job(tmp_path, "books", name)


@pytest.mark.parametrize("spider", ["..", "a/b", "/etc", "bücher", "", ".x", "x" * 200])
def test_spiders_of_any_name_stay_below_the_root(tmp_path: Path, spider: str) -> None:
    job = Job(tmp_path, spider)
    assert job.directory.resolve().is_relative_to(tmp_path / ".scrape")
    assert job.directory.parent.parent == tmp_path / ".scrape"
    assert job.directory != Job(tmp_path, spider + "_").directory


def test_started() -> None:
    assert started_now(lambda: 1706745599.9) == STARTED


# Identity ---------------------------------------------------------------------------------------


def test_the_same_job() -> None:
    assert compare(record(), record()) == []


def test_code_and_version_are_notes() -> None:
    notes = compare(record(), record(code="0ther", version="1.1"))
    assert notes == [
        "the spider's code has changed since this job was created",
        "this job was created by version 1.0",
    ]
    assert compare(record(code=""), record()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arguments": {"category": "food"}}, "category=travel, now category=food"),
        ({"arguments": {}}, "category=travel, now no category"),
        ({"arguments": {"category": "travel", "n": 1}}, "no n, now n=1"),
        ({"sinks": []}, "outputs jsonl:data/books.jsonl, now none"),
        ({"spider": "shop"}, "spider books, now shop"),
    ],
)
def test_differences_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError, match=message) as caught:
        compare(record(), record(**changes))
    assert "--fresh" in caught.value.hint
    assert "--job" in caught.value.hint
    assert caught.value.exit_code == 2


def test_secrets_are_not_shown() -> None:
    one, two = record(arguments={"password": "x1"}), record(arguments={"password": "y2"})
    with pytest.raises(JobError, match="password") as caught:
        compare(one, two)
    assert "x1" not in str(caught.value)
    assert "y2" not in str(caught.value)


def test_identity_is_json() -> None:
    made = record(arguments={"at": Path("x"), "n": (1, 2)})
    assert json.loads(json.dumps(made)) == made
    assert compare(made, made) == []


def test_code_of_a_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "my_spider_module.py"
    module.write_text("class Mine:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import my_spider_module  # type: ignore[import-not-found]

    first = code_of(my_spider_module.Mine)
    assert first == code_of(my_spider_module.Mine) != ""
    module.write_text("class Mine:\n    x = 1\n")
    assert code_of(my_spider_module.Mine) != first
    assert code_of(type("Made", (), {"__module__": "nowhere"})) == ""
    assert code_of(dict) == ""


# The lock ---------------------------------------------------------------------------------------


def test_modes(tmp_path: Path) -> None:
    job = Job(tmp_path, "books")
    with job.locked():
        asyncio.run(crawl(job, clean=False))
        job.record({"pages": 1})
        assert (
            mode(job.directory) == mode(job.directory.parent) == mode(tmp_path / ".scrape") == 0o700
        )
        for path in job.directory.iterdir():
            assert mode(path) == 0o600, path


def test_a_second_run_names_the_first(tmp_path: Path) -> None:
    job = Job(tmp_path, "books", "nightly")
    with job.locked():
        second = Job(tmp_path, "books", "nightly")
        expected = pytest.raises(JobError, match=f"nightly.*process {os.getpid()}")
        with expected as caught, second.locked():
            pytest.fail("both hold the job")
        assert caught.value.exit_code == 2
        with Job(tmp_path, "books", "other").locked() as other:
            assert other.name == "other"
    with job.locked():
        assert (job.directory / "lock").read_text() == f"{os.getpid()}\n"


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\nfrom scraper.job import Job\n"
        "with Job(pathlib.Path(sys.argv[1]), 'books').locked():\n"
        "    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        second = Job(tmp_path, "books")
        with pytest.raises(JobError, match=f"process {process.pid}"), second.locked():
            pytest.fail("both hold the job")
        process.kill()
    with Job(tmp_path, "books").locked() as job:
        assert job.summary() is None


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    job = Job(tmp_path, "books")
    with job.locked():
        pass
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (job.directory / "lock").unlink()
    (job.directory / "lock").symlink_to(victim)
    with pytest.raises(JobError, match="cannot be opened"), job.locked():
        pytest.fail("followed")
    assert victim.read_text() == "precious"


def test_where_nothing_may_be_written(tmp_path: Path) -> None:
    (tmp_path / ".scrape").write_text("a file")
    with pytest.raises(JobError, match="cannot be made"), Job(tmp_path, "books").locked():
        pytest.fail("made")


# Moving -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", [True, False])
async def test_set_aside_keeps_everything(tmp_path: Path, *, clean: bool) -> None:
    job = Job(tmp_path, "books")
    with job.locked():
        assert job.set_aside("--fresh") is None
        await crawl(job, clean=clean)
        (job.directory / "spill-1").write_bytes(b"records")
        job.record({"pages": 1})
        aside = job.set_aside("--fresh")
        assert aside == job.directory / f"aside-{STARTED}"
        assert job.summary() is None
        assert (aside / "spill-1").read_bytes() == b"records"
        assert json.loads((aside / "aside.json").read_text())["reason"] == "--fresh"
        assert SqliteFrontier.inspect(aside / "ledger.sqlite").pending == 2
        assert job.history() == [{"pages": 1}]
        assert mode(aside) == 0o700
        await crawl(job)
        assert job.set_aside("--fresh") == job.directory / f"aside-{STARTED}-2"
        assert SqliteFrontier.inspect(aside / "ledger.sqlite").pending == 2


async def test_a_damaged_ledger_can_be_set_aside(tmp_path: Path) -> None:
    job = Job(tmp_path, "books")
    with job.locked():
        await crawl(job)
        job.ledger.write_bytes(b"\x00" * 5000)
        aside = job.set_aside("--fresh")
        assert aside is not None
        assert aside.name.startswith("aside-2")
        assert (aside / "ledger.sqlite").read_bytes() == b"\x00" * 5000
        await crawl(job)
        assert job.summary() is not None


async def test_the_log_of_a_killed_run_goes_with_it(tmp_path: Path) -> None:
    job, killed = Job(tmp_path, "books"), Job(tmp_path, "killed")
    frontier = SqliteFrontier(job.ledger)
    await frontier.open()
    await frontier.commit(Batch(seeds=[found("https://a.example/1")]))
    shutil.copytree(job.directory, killed.directory)
    await frontier.aclose()
    assert (killed.directory / "ledger.sqlite-wal").stat().st_size > 0
    aside = killed.set_aside("--fresh")
    assert aside is not None
    assert [path for path in killed.directory.iterdir() if "wal" in path.name] == []
    assert SqliteFrontier.inspect(aside / "ledger.sqlite").pending == 1


async def test_a_finished_run_becomes_the_previous_one(tmp_path: Path) -> None:
    job = Job(tmp_path, "books")
    with job.locked():
        assert job.retire() is None
        for phase in (b"finished", b"failed"):
            await crawl(job, phase=phase)
            previous = job.retire()
            assert previous == job.directory / "previous"
            assert SqliteFrontier.inspect(previous / "ledger.sqlite").phase == phase.decode()
            assert job.summary() is None
        assert sorted(path.name for path in job.directory.iterdir()) == ["lock", "previous"]


# History and status -----------------------------------------------------------------------------


def test_history_survives_a_torn_line(tmp_path: Path) -> None:
    job = Job(tmp_path, "books")
    assert job.history() == []
    with job.locked():
        job.record({"pages": 1, "url": "é\udc80"})
        with (job.directory / "history.jsonl").open("ab") as file:
            file.write(b'{"pages": 2, "ite')
        job.record({"pages": 3})
        assert [run["pages"] for run in job.history()] == [1, 3]


def test_a_run_and_its_retries_are_one(tmp_path: Path) -> None:
    """By name: two short runs may be started in the same second."""
    job = Job(tmp_path, "books")
    with job.locked():
        for run, pages in (("a", 1), ("b", 2), ("b", 3), ("c", 4)):
            job.record({"run": run, "started": STARTED, "pages": pages})
        job.record({"pages": 5})
        job.record({"pages": 6})
    assert [run["pages"] for run in job.history()] == [1, 3, 4, 5, 6]
    assert [run["pages"] for run in job.history(but="b")] == [1, 4, 5, 6]


async def test_status_of_all_jobs(tmp_path: Path) -> None:
    assert jobs(tmp_path) == []
    running, finished = Job(tmp_path, "books", "b"), Job(tmp_path, "books", "a")
    damaged, empty = Job(tmp_path, "shop"), Job(tmp_path, "zoo")
    for job, phase in ((running, b"running"), (finished, b"finished"), (damaged, b"running")):
        with job.locked():
            await crawl(job, phase=phase)
    damaged.ledger.write_bytes(b"not a database, whatever its name says" * 100)
    with running.locked(), empty.locked():
        found_jobs = jobs(tmp_path)
    assert [(s.spider, s.job, s.phase, s.running, s.pid) for s in found_jobs] == [
        ("books", "a", "finished", False, None),
        ("books", "b", "running", True, os.getpid()),
        ("shop", "default", "", False, None),
    ]
    assert found_jobs[0].started == STARTED
    assert found_jobs[0].pending == 2
    assert found_jobs[0].counts["pages"] == 3
    assert "damaged" in found_jobs[2].problem
    with running.locked():
        assert (tmp_path / ".scrape" / "zoo" / "default" / "lock").exists()
