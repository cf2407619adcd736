"""quality: the last run of a job, or the one that still runs, beside what is usual."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from scraper import Item
from scraper.assessment import assess
from scraper.config import Quality
from scraper.frontier.sqlite import SqliteFrontier
from scraper.job import Job
from scraper.observation import lost, observe
from scraper.quality import Profile
from scraper.sameness import identity
from scraper.work import Batch
from tests.cli.conftest import CommandLine

STARTED = "20240229T120000Z"


class Book(Item):
    title: str
    price: Decimal | None = None
    tags: list[str] = []
    added: date = date(2024, 2, 29)
    sold: bool = False


def books(count: int = 40, *, priced: bool = True) -> Profile:
    profile = Profile()
    for n in range(count):
        price = Decimal(n) / 4 + 1 if priced and n % 10 else None
        item = Book(
            title=f"Book {n}", price=price, tags=["a"] * (n % 3), added=date(2024, 1, n % 28 + 1)
        )
        profile.add(observe(item))
    return profile


async def keep(
    root: Path,
    profile: Profile | None,
    *earlier: Profile,
    name: str = "default",
    phase: bytes = b"finished",
    recorded: bool = True,
) -> Job:
    """A job with this profile in its ledger, and earlier runs in its history."""
    job = Job(root, "good", name)
    with job.locked():
        frontier = SqliteFrontier(job.ledger)
        await frontier.open()
        made = identity(spider="good", arguments={}, sinks=[], started=STARTED) | {"run": "this"}
        state = {"job": json.dumps(made).encode(), "phase": phase}
        if profile is not None:
            state["quality"] = profile.dump()
        items = profile.delivered if profile is not None else 0
        await frontier.commit(Batch(state=state, counts=Counter(items=items)))
        await frontier.aclose()
        for n, one in enumerate((*earlier, *([profile] if recorded and profile else []))):
            last = one is profile
            assessment = assess(
                one,
                Quality(),
                started=STARTED if last else f"202401{n + 1:02}T120000Z",
                items=one.delivered,
                complete=True,
                finished=True,
                arguments={},
                history=job.history(),
            )
            run = {"run": "this" if last else f"{n}", "ended": "finished", "arguments": {}}
            job.record(run | {"quality": assessment.as_dict()})
    return job


async def test_the_last_run(project: CommandLine) -> None:
    profile = books(priced=False)
    for _ in range(3):
        errors = [{"field": "price", "message": "Input should be a valid decimal"}]
        profile.add(lost("Book", "item_invalid", errors))
    profile.add(lost("Book", "stage_error"))
    profile.add(lost("Book", "old", rejected=False))
    await keep(project.root, profile, books(), books(38))
    said = project("quality", "good")
    assert (said.code, said.err) == (0, "")
    began = datetime(2024, 2, 29, 12, tzinfo=UTC).astimezone()
    assert said.out.splitlines() == [
        f"good, job default: finished, {began:%Y-%m-%d %H:%M}",
        "compared with 2 earlier runs",
        "",
        "Book: 40 items, usually 39",
        "FIELD  FILLED  USUAL  DISTINCT  RANGE",
        "title  100%    100%   40        6…7 characters",
        "price  0%      89.7%  0",
        "tags   65%     65.4%  2         1…2 entries",
        "added  100%    100%   28        2024-01-01…2024-01-28",
        "sold   100%    100%   1         false",
        "rejected 3: item_invalid",
        "rejected 1: stage_error",
        "dropped 1: old",
        "  price 3: Input should be a valid decimal",
        "",
        "WARNING  Book.price is filled in 0% of 40 items, usually in 89.7%: the site's",
        "         layout may have changed",
    ]


async def test_the_last_run_as_json(project: CommandLine) -> None:
    await keep(project.root, books(priced=False), books(), books(38))
    told = json.loads(project("quality", "good", "--json").out)
    assert list(told) == [
        "spider", "job", "state", "started", "whole", "compared", "items", "findings", "usual",
    ]  # fmt: skip
    assert (told["spider"], told["job"], told["state"]) == ("good", "default", "finished")
    assert (told["started"], told["whole"], told["compared"]) == (STARTED, True, 2)
    assert told["items"] == books(priced=False).summary()
    (finding,) = told["findings"]
    assert (finding["item"], finding["field"], finding["what"]) == ("Book", "price", "fill")
    assert (finding["now"], finding["usual"]) == (0, 0.8974)
    assert told["usual"]["Book"]["count"] == 39


async def test_a_first_run(project: CommandLine) -> None:
    await keep(project.root, books(1))
    said = project("quality", "good").out.splitlines()
    assert said[1] == "nothing to compare with yet"
    assert said[3] == "Book: 1 item"
    assert said[5].split()[:4] == ["title", "100%", "-", "1"]


async def test_a_run_that_is_not_over(project: CommandLine) -> None:
    job = await keep(
        project.root, books(20, priced=False), books(), phase=b"running", recorded=False
    )
    with job.locked():
        said = project("quality", "good")
    lines = said.out.splitlines()
    assert lines[0].startswith("good, job default: running, ")
    assert lines[1] == "not a whole run, compared with 1 earlier run"
    assert lines[3] == "Book: 20 items, usually 40"
    assert "WARNING  Book.price is filled in 0% of 20 items" in said.out
    assert "delivered" not in said.out, "how many there will be is not known yet"
    assert "job default: unfinished" in project("quality", "good").out


async def test_a_run_whose_end_was_not_recorded(project: CommandLine) -> None:
    """A crash between the last commit and the history."""
    await keep(project.root, books(), books(38), recorded=False)
    told = json.loads(project("quality", "good", "--json").out)
    assert (told["state"], told["compared"]) == ("finished", 1)
    assert told["items"]["Book"]["count"] == 40


async def test_fields_and_values_that_are_hostile(project: CommandLine) -> None:
    profile = Profile()
    for n in range(30):
        row: dict[Any, Any] = {
            "\x1b[31mred" + "d" * 300: "x" * 10**n if n < 5 else n,
            "\ud800": 1.5e300 * n,
            "mixed": [n, f"{n}", [n], {"a": n}, date(2024, 1, 1), True, b"x", 10**20][n % 8],
            "at": datetime(2024, 1, 1, 10, n, tzinfo=UTC),
        }
        profile.add(observe(row))
        profile.add(
            lost("dict", "\x1b[2J" * 50, [{"field": "\x07" * 200, "message": "\r\n" * 200}])
        )
    profile.add(observe(type("T" * 300, (dict,), {})(a=1)))
    await keep(project.root, profile)
    said = project("quality", "good")
    assert said.code == 0
    assert max(map(len, said.out.splitlines())) <= 80
    assert "\x1b" not in said.out
    assert "\x07" not in said.out
    assert said.out.encode()
    assert project("quality", "good", "--json").code == 0


async def test_a_spider_that_cannot_be_loaded_hides_nothing(project: CommandLine) -> None:
    await keep(project.root, books(), phase=b"running", recorded=False)
    project.write("spiders/site.py", "import nothing_of_the_kind\n")
    said = project("quality", "good")
    assert said.code == 0
    assert "Book: 40 items" in said.out


async def test_the_settings_of_the_spider_apply_to_a_run_that_is_not_over(
    project: CommandLine,
) -> None:
    await keep(project.root, books(), phase=b"running", recorded=False)
    project.write(
        "config.toml", "[spiders.good.quality.items.Book]\nfill = { sold = 1.0, isbn = 1.0 }"
    )
    said = project("quality", "good")
    assert "Book.isbn is filled in 0% of 40 items" in said.out
    assert "Book.sold" not in said.out


async def test_a_run_that_was_not_watched(project: CommandLine) -> None:
    await keep(project.root, None)
    said = project("quality", "good")
    assert said.code == 0
    assert "No item was watched" in said.err
    assert json.loads(project("quality", "good", "--json").out)["items"] == {}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["goood"], "spider goood has no job here; did you mean good?"),
        (["good"], "spider good has several jobs: default, travel"),
        (["good", "--job", "x"], "spider good has no job x"),
    ],
)
async def test_quality_of_no_job(project: CommandLine, args: list[str], message: str) -> None:
    await keep(project.root, books())
    await keep(project.root, books(), name="travel")
    said = project("quality", *args)
    assert (said.code, said.err.splitlines()[0]) == (2, f"scrape: {message}")
    assert "job travel: finished" in project("quality", "good", "--job", "travel").out


async def test_damage(project: CommandLine) -> None:
    job = await keep(project.root, books(), phase=b"running", recorded=False)
    frontier = SqliteFrontier(job.ledger)
    await frontier.open()
    await frontier.commit(Batch(state={"quality": b"what no crawl has written"}))
    await frontier.aclose()
    said = project("quality", "good")
    assert said.code == 3
    assert "cannot be read" in said.err
    job.ledger.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    assert project("quality", "good").code == 3
