"""What a crawl's counters amount to."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from scraper.report import CrawlResult, Ended, failures, result_of, with_prefix

COUNTS = Counter({
    "pages": 8,
    "items": 7,
    "dropped": 2,
    "dropped:cheap": 2,
    "rejected": 3,
    "reason:item_invalid": 2,
    "reason:stage_error": 1,
    "reason:http_404": 4,
    "reason:timeout": 1,
    "reason:out_of_scope": 9,
    "elapsed_ms": 1500,
})


def result(ended: Ended = "finished", *, finished: bool = True) -> CrawlResult:
    return result_of(
        COUNTS,
        spider="s",
        job="default",
        ended=ended,
        detail="",
        finished=finished,
        resumed=False,
        outputs=[],
        pending=0,
        arguments={},
    )


def test_failures_skips_and_items_are_told_apart() -> None:
    assert failures(COUNTS) == 5
    assert failures(COUNTS, "skip") == 9
    assert failures(COUNTS, "item") == 3
    told = result()
    assert (told.failed, told.skipped, told.dropped, told.rejected) == (5, 9, 2, 3)
    assert told.drops == {"cheap": 2}
    assert told.duration_s == 1.5


def test_reasons_come_most_first() -> None:
    assert list(with_prefix(COUNTS, "reason:"))[:2] == ["out_of_scope", "http_404"]


@pytest.mark.parametrize(
    ("ended", "finished", "code"),
    [("finished", True, 0), ("limit", True, 0), ("failed", False, 1), ("broken", False, 1)],
)
def test_exit_codes(ended: Ended, finished: bool, code: int) -> None:
    assert result(ended, finished=finished).exit_code == code


def test_it_is_json() -> None:
    assert json.loads(json.dumps(result().as_dict()))["items"] == 7
