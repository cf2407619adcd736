"""status and failures, on real ledgers."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from scraper.frontier.sqlite import SqliteFrontier
from scraper.http import Request
from scraper.job import Job
from scraper.sameness import identity
from scraper.urls import host_key
from scraper.work import Batch, Dead, Done, Found, Settled, Verdict, Want
from tests.cli.conftest import CommandLine

STARTED = "20240229T120000Z"


async def make_job(
    root: Path,
    spider: str,
    name: str = "default",
    *,
    ends: dict[str, Verdict | None] | None = None,
    phase: bytes = b"running",
) -> Job:
    """A job whose ledger holds a page for each URL of *ends*, settled or (None) pending."""
    job = Job(root, spider, name)
    ends = ends or {}
    with job.locked():
        frontier = SqliteFrontier(job.ledger)
        await frontier.open()
        made = identity(spider=spider, arguments={}, sinks=[], started=STARTED)
        seeds = [
            Found(Request(url), host_key(Request(url).url), number)
            for number, url in enumerate(ends, 1)
        ]
        state = {"job": json.dumps(made).encode(), "phase": phase}
        committed = await frontier.commit(Batch(seeds=seeds, state=state, want=Want(100)))
        verdicts = {Request(url).url: verdict for url, verdict in ends.items()}
        settled = [
            Settled(lease, verdict)
            for host in committed.leases
            for lease in host.requests
            if (verdict := verdicts[lease.request.url]) is not None
        ]
        done = sum(isinstance(s.verdict, Done) for s in settled)
        counts = Counter({"pages": done, "items": 2 * done})
        for one in settled:
            if isinstance(one.verdict, Dead):
                counts[f"reason:{one.verdict.reason}"] += 1
        await frontier.commit(Batch(settled=settled, counts=counts))
        await frontier.aclose()
    return job


SHOP: dict[str, Verdict | None] = {
    "https://example.com/": Done(),
    "https://example.com/gone": Dead("http_404"),
    "https://example.com/slow?token=canary": Dead("timeout", "no answer in 30 s"),
    "https://example.com/slow": Dead("timeout", "no answer\x1b[31m in 30 s"),
    "https://example.com/next": None,
}


async def test_status(project: CommandLine) -> None:
    await make_job(project.root, "good", ends=SHOP)
    await make_job(project.root, "good", "travel", phase=b"finished")
    said = project("status")
    assert (said.code, said.err) == (0, "")
    rows = [line.split() for line in said.out.splitlines()]
    assert rows[0] == ["SPIDER", "JOB", "STATE", "PAGES", "ITEMS", "FAILED", "PENDING", "STARTED"]
    assert rows[1][:7] == ["good", "default", "unfinished", "1", "2", "3", "1"]
    assert rows[2][:7] == ["good", "travel", "finished", "0", "0", "0", "0"]
    assert max(map(len, said.out.splitlines())) <= 80


async def test_status_as_json(project: CommandLine) -> None:
    job = await make_job(project.root, "good", ends=SHOP)
    with job.locked():
        (found,) = json.loads(project("status", "good", "--json").out)
    assert (found["spider"], found["job"], found["state"]) == ("good", "default", "running")
    assert (found["pages"], found["items"], found["failed"], found["pending"]) == (1, 2, 3, 1)
    assert found["started"] == "2024-02-29T12:00:00+00:00"
    assert found["counts"]["reason:timeout"] == 2


async def test_status_of_a_damaged_ledger(project: CommandLine) -> None:
    await make_job(project.root, "good")
    broken = await make_job(project.root, "bad")
    broken.ledger.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    said = project("status")
    assert said.code == 0
    assert "good" in said.out
    assert "bad" not in said.out
    assert said.err.startswith("scrape: bad default: ")
    (bad, _) = json.loads(project("status", "--json").out)
    assert bad["state"] == "damaged"
    assert bad["problem"]


def test_status_without_jobs(project: CommandLine) -> None:
    said = project("status")
    assert (said.code, said.out) == (0, "")
    assert "no jobs yet" in said.err
    assert project("status", "good").code == 2
    assert not (project.root / ".scrape").exists()


async def test_status_where_a_file_was_run_without_a_project(scrape: CommandLine) -> None:
    assert scrape("status").code == 2
    await make_job(scrape.root, "alone")
    assert "alone" in scrape("status").out


async def test_failures(project: CommandLine) -> None:
    await make_job(project.root, "good", ends=SHOP)
    said = project("failures", "good")
    assert said.code == 0
    lines = said.out.splitlines()
    assert len(lines) == 3
    assert sum("http_404          https://example.com/gone" in line for line in lines) == 1
    assert sum("timeout           https://example.com/slow" in line for line in lines) == 2
    assert "no answer\\x1b[31m in 30 s" in said.out
    assert "canary" not in said.out + said.err
    assert said.err.splitlines() == [
        "good, job default: 3 failures",
        "        2  timeout           no complete answer in time; raise http.timeout",
        (
            "        1  http_404          the server answered 404;"
            " accept=(404,) hands such pages to the callback"
        ),
    ]


async def test_failures_as_json(project: CommandLine) -> None:
    await make_job(project.root, "good", ends=SHOP)
    said = project("failures", "good", "--json")
    assert said.err == ""
    failed = [json.loads(line) for line in said.out.splitlines()]
    assert {f["reason"] for f in failed} == {"http_404", "timeout"}
    assert all(f.keys() == {"at", "reason", "url", "detail", "depth"} for f in failed)


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["goood"], "spider goood has no job here; did you mean good?", "There are jobs of: good."),
        (["good"], "spider good has several jobs: default, travel", "Choose one with --job NAME."),
        (["good", "--job", "x"], "spider good has no job x", "There are: default, travel."),
    ],
)
async def test_failures_of_no_job(
    project: CommandLine, args: list[str], message: str, hint: str
) -> None:
    await make_job(project.root, "good")
    await make_job(project.root, "good", "travel")
    said = project("failures", *args)
    assert said.code == 2
    assert said.err.splitlines() == [f"scrape: {message}", f"        {hint}"]
    assert project("failures", "good", "--job", "travel").code == 0


async def test_failures_of_a_damaged_ledger(project: CommandLine) -> None:
    job = await make_job(project.root, "good", ends=SHOP)
    job.ledger.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    said = project("failures", "good")
    assert said.code == 3
    assert "Traceback" not in said.err


async def test_a_broken_configuration_hides_no_job(project: CommandLine) -> None:
    await make_job(project.root, "good", ends=SHOP)
    project.write("config.toml", "[crawl]\nmax_page = 7\n")
    said = project("status")
    assert (said.code, "good" in said.out) == (0, True)
    assert "max_page" in said.err
    assert project("failures", "good").code == 0
    missing = project("failures", "goood")
    assert missing.code == 2
    assert "max_page" in missing.err
