"""scrape rejects, on real ledgers; whole retries are in tests/crawl."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from scraper.frontier.sqlite import SqliteFrontier
from scraper.http import Request
from scraper.job import Job
from scraper.pipelines.page import Fault
from scraper.revisits import brief
from scraper.sameness import identity
from scraper.testing.frontier import found, leases
from scraper.work import Batch, Dead, Done, Settled, Want
from tests.cli.conftest import CommandLine

PRICE = Fault("item_invalid", "Book", (("price", "nothing on the page matches"),))
BOTH = Fault("item_invalid", "Book", (("title", "too\x1b[31m long"), ("price", "not a number")))
STAGE = Fault("stage_error", "dict", (("", "ValueError: no"),), "Picky")
LARGE = Fault("item_too_large", "Book", ())

PAGES = {
    "https://example.com/1": [PRICE, PRICE, STAGE],
    "https://example.com/2?token=canary": [BOTH],
    "https://example.com/3": [LARGE],
}


async def make_job(
    root: Path, name: str = "default", *, phase: bytes = b"running", sinks: Sequence[str] = ()
) -> Job:
    """A job whose ledger holds the rejected items of `PAGES`, and two failures."""
    job = Job(root, "good", name)
    with job.locked():
        frontier = SqliteFrontier(job.ledger)
        await frontier.open()
        made = identity(
            spider="good", arguments={"pages": 1}, sinks=sinks, started="20240229T120000Z"
        )
        state = {"job": json.dumps(made).encode(), "phase": phase}
        urls = [*PAGES, "https://example.com/4", "https://example.com/5"]
        answer = await frontier.commit(
            Batch(seeds=list(map(found, urls)), state=state, want=Want(9))
        )
        faults = {Request(url).url: list(given) for url, given in PAGES.items()}
        settled = []
        for lease in leases(answer.leases):
            given = faults.get(lease.request.url, [])
            settled.append(Settled(lease, Done() if given else Dead("http_500")))
            settled[-1].rejects = brief(given) if given else ""
        counts = Counter({"pages": 3, "rejected": 5, "reason:http_500": 2})
        await frontier.commit(Batch(settled=settled, counts=counts))
        await frontier.aclose()
    return job


async def test_what_was_rejected(project: CommandLine) -> None:
    await make_job(project.root)
    said = project("rejects", "good")
    assert said.code == 0
    lines = sorted(" ".join(line.split()) for line in said.out.splitlines())
    assert lines == [
        "item_invalid Book price https://example.com/1",
        "item_invalid Book price https://example.com/1",
        "item_invalid Book title,price https://example.com/2?token=***",
        "item_too_large Book - https://example.com/3",
        "stage_error dict Picky https://example.com/1",
    ]
    assert said.err.splitlines() == [
        "good, job default: 5 items rejected",
        "        3  item_invalid    the values do not fit the model",
        "                 3  Book.price: nothing on the page matches",
        "                 1  Book.title: too\\x1b[31m long",
        "        1  stage_error     a pipeline stage raised",
        "                 1  Picky: ValueError: no",
        "        1  item_too_large  more than crawl.max_item_size",
    ]


async def test_as_json(project: CommandLine) -> None:
    await make_job(project.root)
    said = project("rejects", "good", "--json")
    assert (said.code, said.err) == (0, "")
    items = [json.loads(line) for line in said.out.splitlines()]
    assert len(items) == 5
    assert all(
        item.keys() == {"at", "url", "depth", "reason", "item", "stage", "errors"} for item in items
    )
    assert "canary" not in said.out
    (both,) = [item for item in items if len(item["errors"]) == 2]
    assert both["errors"][1] == {"field": "price", "message": "not a number"}


@pytest.mark.parametrize(
    ("args", "count"),
    [
        (["--reason", "item_invalid"], 3),
        (["--reason", "item_invalid", "--reason", "stage_error"], 4),
        (["--field", "price"], 3),
        (["--field", "title", "--field", "none"], 1),
        (["--reason", "stage_error", "--field", "price"], 0),
        (["-q"], 5),
    ],
)
async def test_some_of_them(project: CommandLine, args: list[str], count: int) -> None:
    await make_job(project.root)
    said = project("rejects", "good", *args)
    assert said.code == 0
    assert len(said.out.splitlines()) == count
    assert ("-q" in args) == (said.err == "")


async def test_of_no_job(project: CommandLine) -> None:
    assert project("rejects", "good").code == 2
    job = await make_job(project.root)
    await make_job(project.root, "other")
    for command in ("rejects", "failures"):
        assert "has several jobs" in project(command, "good").err
        assert "has several jobs" in project(command, "good", "--retry").err
        assert project(command, "good", "--job", "default").code == 0
    job.ledger.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    for command in ("rejects", "failures"):
        said = project(command, "good", "--job", "default", "--retry")
        assert said.code == 3
        assert "Traceback" not in said.err


@pytest.mark.parametrize("command", ["rejects", "failures"])
async def test_nothing_to_retry(project: CommandLine, command: str) -> None:
    job = await make_job(project.root, phase=b"finished")
    job.record({"started": "20240229T120000Z", "ended": "finished", "pages": 3})
    before = job.ledger.read_bytes()
    said = project(command, "good", "--retry", "--reason", "schema", "--json")
    assert said.code == 0
    assert said.err == "good, job default: there is nothing to retry\n"
    assert json.loads(said.out)["pages"] == 3
    assert project(command, "good", "--retry", "--reason", "schema", "-q").err == ""
    assert job.ledger.read_bytes() == before


def test_a_run_that_never_noted_its_outputs(project: CommandLine) -> None:
    """As one that was killed between setting them aside and saying where."""
    project.write("config.toml", "")
    sinks = [str(project.root / f"data/good{end}") for end in (".jsonl", ".rejected.jsonl")]
    job = asyncio.run(make_job(project.root, phase=b"failed", sinks=sinks))
    before = job.ledger.read_bytes()
    said = project("rejects", "good", "--retry")
    assert said.code == 2
    assert "ended before it had noted what it published" in said.err
    assert job.ledger.read_bytes() == before
    assert not list(project.root.glob("data/*"))
