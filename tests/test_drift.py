"""What is usual, and what fell: loud where a layout changed, silent where a site only varies."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.assessment import Assessment, assess
from scraper.config import Quality
from scraper.drift import CAUSE, Past, compare, earlier_runs, percent, usual
from scraper.observation import lost, observe
from scraper.quality import Profile

RULES = Quality()


def summary(
    count: int,
    *,
    kind: str = "Book",
    rejected: Mapping[str, int] | None = None,
    dropped: int = 0,
    **fields: Any,
) -> dict[str, Any]:
    """A run's numbers; `fields`: filled, different values."""
    labels = dict.fromkeys([*fields, *(rejected or {})])
    return {
        kind: {
            "count": count,
            "rejected": sum((rejected or {}).values()),
            "reasons": {"item_invalid": sum(rejected.values())} if rejected else {},
            "dropped": {"incomplete": dropped} if dropped else {},
            "fields": {
                label: {
                    "filled": fields.get(label, (count, count))[0],
                    "fill": None,
                    "distinct": fields.get(label, (count, count))[1],
                    "kinds": {},
                    "rejected": (rejected or {}).get(label, 0),
                    "because": {"nothing on the page matches": 1},
                }
                for label in labels
            },
        }
    }


def run(items: dict[str, Any], ended: str = "finished", **more: Any) -> dict[str, Any]:
    """A line of the history."""
    quality = {
        "started": "20240601T120000Z", "whole": ended == "finished", "items": items, "findings": [],
    }  # fmt: skip
    return {"ended": ended, "arguments": {}, "quality": quality} | more


def past(*runs: dict[str, Any], rules: Quality = RULES) -> list[Past]:
    return earlier_runs([run(items) for items in runs], {}, rules)


def found(
    now: dict[str, Any], *before: dict[str, Any], whole: bool = True, **rules: Any
) -> list[tuple[str, str | None]]:
    """What fell: (what, field)."""
    made = Quality(**rules)
    return [(f.what, f.field) for f in compare(now, past(*before, rules=made), made, whole=whole)]


# Fill rates -------------------------------------------------------------------------------------


def test_a_first_run_has_nothing_to_fall_behind() -> None:
    assert found(summary(1000, price=(0, 0))) == []


@pytest.mark.parametrize("before", [1, 2, 3, 10])
def test_a_field_that_is_no_longer_filled(before: int) -> None:
    (finding,) = compare(
        summary(1000, price=(0, 0)), past(*[summary(1000, price=(980, 700))] * before), RULES
    )
    assert (finding.item, finding.field, finding.what) == ("Book", "price", "fill")
    assert (finding.now, finding.usual) == (0.0, 0.98)
    assert finding.text == (
        "Book.price is filled in 0% of 1,000 items, usually in 98%:"
        " the site's layout may have changed"
    )


@pytest.mark.parametrize(
    ("filled", "of", "usually", "told"),
    [
        (890, 1000, 980, False),  # less than a tenth of what is usual
        (870, 1000, 980, True),
        (1000, 1000, 200, False),  # it rose
        (0, 1000, 2, False),  # two in a thousand: none is no surprise
        (0, 1000, 50, True),
        (35, 1000, 50, False),  # chance
        (2, 3, 1000, False),  # one mishap
        (0, 3, 1000, True),
        (15, 20, 1000, True),
        (19, 20, 1000, False),
        (1, 2, 1000, False),
    ],
)
def test_how_far_a_fill_rate_may_fall(filled: int, of: int, usually: int, told: bool) -> None:
    now = summary(of, price=(filled, filled))
    before = [summary(1000, price=(usually, usually))] * 3
    assert found(now, *before, whole=False) == ([("fill", "price")] if told else [])


def test_a_fill_rate_that_varies_anyway() -> None:
    before = [summary(1000, price=(n, n)) for n in (900, 600, 850, 700, 950)]
    assert found(summary(1000, price=(640, 640)), *before) == []
    assert found(summary(1000, price=(50, 50)), *before) == [("fill", "price")]


def test_one_odd_run_changes_nothing_and_half_of_them_everything() -> None:
    good, bad = summary(1000, price=(1000, 900)), summary(1000, price=(0, 0))
    assert found(bad, good, bad, good) == [("fill", "price")]
    assert found(bad, *[good] * 7, *[bad] * 3) == [("fill", "price")]
    assert found(bad, *[good] * 6, *[bad] * 4) == []
    assert found(bad, bad, bad, bad) == []
    assert found(bad, good, good, good, bad, bad, runs=2) == []


def test_what_is_tolerated_can_be_said() -> None:
    before = [summary(1000, price=(1000, 900))] * 3
    now = summary(1000, price=(850, 800))
    assert found(now, *before) == [("fill", "price")]
    assert found(now, *before, fill_drop=0.2) == []
    assert found(summary(1000, price=(985, 900)), *before, fill_drop=0.01) == [("fill", "price")]


def test_a_field_that_its_author_removed_and_a_key_that_the_site_did() -> None:
    filled = (1000, 900)
    assert found(summary(1000, a=filled), summary(1000, a=filled, b=filled)) == []
    now = summary(1000, kind="dict", a=filled)
    before = summary(1000, kind="dict", a=filled, b=filled)
    assert found(now, before) == [("fill", "b")]


@given(st.integers(0, 2**32), st.floats(0.0, 1.0), st.integers(20, 2000), st.integers(1, 10))
def test_chance_alone_is_rarely_told(seed: int, share: float, count: int, runs: int) -> None:
    """Runs that differ by nothing but chance. The rate is that of 2.5 standard deviations."""
    rng = random.Random(seed)

    def one() -> dict[str, Any]:
        filled = [sum(rng.random() < share for _ in range(count)) for _ in range(20)]
        fields: dict[str, Any] = {f"f{n}": (f, f) for n, f in enumerate(filled)}
        return summary(count, **fields)

    told = found(one(), *(one() for _ in range(runs)), fill_drop=0.0)
    assert len(told) <= 4  # of 20 fields; with the default tolerance it is fewer still


# Numbers of items -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "before", "told"),
    [
        (750, [1000], False),
        (650, [1000], True),
        (0, [1000], True),
        (2000, [1000], False),
        (10, [20, 20, 20], True),
        (15, [20, 20, 20], False),
        (0, [5], True),
        (0, [4], False),
        (0, [2, 2, 2], True),
        (0, [3, 0, 3], False),
        (1, [3, 3, 3], False),
        (48, [10_000, 50, 52, 49, 51], False),
        (500, [1000, 400, 900, 300, 1000], False),
        (0, [1000, 0], False),
        (0, [0, 0], False),
    ],
)
def test_how_far_the_number_of_items_may_fall(now: int, before: list[int], told: bool) -> None:
    runs = [summary(count) for count in before]
    assert found(summary(now), *runs) == ([("count", None)] if told else [])
    assert found(summary(now), *runs, whole=False) == []


def test_a_type_that_vanished() -> None:
    before = summary(100) | summary(40, kind="Author")
    (finding,) = compare(summary(100), past(before), RULES)
    assert (finding.item, finding.what, finding.now, finding.usual) == ("Author", "count", 0, 40)
    assert finding.text == f"Author: none was delivered, usually 40: {CAUSE}"
    assert compare(summary(100), past(before), RULES, whole=False) == []


def test_runs_that_brought_nothing_are_runs() -> None:
    assert found({}, summary(100), summary(100), {}) == [("count", None)]
    assert found({}, summary(100), {}, {}) == []


def test_duplicates_were_found_all_the_same() -> None:
    again = summary(20, dropped=980)
    again["Book"]["dropped"] = {"duplicate": 980}
    assert found(again, summary(1000)) == []
    assert found(summary(990), again) == []
    again["Book"]["dropped"] = {"duplicate": 80}
    (finding,) = compare(again, past(summary(1000)), RULES)
    assert finding.text == f"Book: 100 items were found (80 dropped), usually 1,000: {CAUSE}"
    assert finding.now == 100


def test_dropped_items_are_named() -> None:
    (finding,) = compare(summary(0, dropped=1000), past(summary(1000)), RULES)
    assert finding.text == f"Book: none was delivered (1,000 dropped), usually 1,000: {CAUSE}"


# Rejected items ---------------------------------------------------------------------------------


def test_a_field_for_which_items_are_rejected() -> None:
    now = summary(400, rejected={"price": 600})
    findings = compare(now, past(summary(1000), summary(1000, rejected={"price": 4})), RULES)
    assert [(f.what, f.field) for f in findings] == [("rejected", "price"), ("count", None)]
    assert findings[0].text == (
        "Book.price lets 600 of 1,000 items be rejected (nothing on the page matches),"
        f" usually 0.2%: {CAUSE}"
    )
    assert findings[0].now == 0.6


def test_as_many_rejected_as_usual() -> None:
    before = summary(600, rejected={"price": 400})
    assert found(summary(590, rejected={"price": 410}), before) == []
    assert found(summary(900, rejected={"price": 100}), before) == []


def test_rejected_without_a_field_to_blame() -> None:
    now = summary(500)
    now["Book"] |= {"rejected": 500, "reasons": {"stage_error": 500}}
    findings = compare(now, past(summary(1000)), RULES)
    assert [(f.what, f.field) for f in findings] == [("rejected", None), ("count", None)]
    assert "500 of 1,000 items were rejected (stage_error), usually 0%" in findings[0].text


def test_every_item_rejected_needs_no_earlier_run() -> None:
    (finding,) = compare(summary(0, rejected={"title": 1, "price": 3}), [], RULES)
    assert (finding.what, finding.now, finding.usual) == ("nothing", 4, None)
    assert finding.text == f"every item was rejected (4, most for Book.price): {CAUSE}"
    assert compare(summary(1, rejected={"price": 3}), [], RULES) == []
    assert compare(summary(0, rejected={"price": 3}, dropped=1), [], RULES) == []
    assert compare(summary(0), [], RULES) == []


def test_every_item_of_one_type_rejected() -> None:
    now = summary(0, rejected={"price": 9}) | summary(5, kind="Author")
    assert found(now) == [("rejected", None)]
    assert found(summary(0, rejected={"price": 4}) | summary(5, kind="Author")) == []


# Values that are all alike ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distinct", "filled", "usually", "told"),
    [
        (1, 1000, 23, True),  # every stock is 0: a default where nothing matches
        (3, 1000, 23, False),
        (1, 1000, 4, False),
        (90, 1000, 950, True),
        (200, 1000, 950, False),
        (1, 10, 950, False),  # too few to say
        (40, 400, 950, False),  # less than half: no wonder
    ],
)
def test_values_that_are_suddenly_alike(
    distinct: int, filled: int, usually: int, told: bool
) -> None:
    now = summary(filled, stock=(filled, distinct))
    before = [summary(1000, stock=(1000, usually))] * 2
    assert found(now, *before, count_drop=1.0) == ([("distinct", "stock")] if told else [])
    assert found(now, *before, whole=False) == []


def test_values_that_are_not_counted() -> None:
    now, before = summary(1000, stock=(1000, 1)), summary(1000, stock=(1000, 50))
    before["Book"]["fields"]["stock"]["distinct"] = None
    assert found(now, before) == []


# Fixed thresholds -------------------------------------------------------------------------------


def fixed(**rule: Any) -> dict[str, Any]:
    return {"items": {"Book": rule}}


@pytest.mark.parametrize(
    ("now", "rule", "text"),
    [
        (
            summary(99),
            {"min_count": 100},
            "Book: 99 items were delivered, and quality.items.Book.min_count = 100",
        ),
        (
            summary(10, price=(8, 8)),
            {"fill": {"price": 0.9}},
            (
                "Book.price is filled in 80% of 10 items,"
                " less than quality.items.Book.fill.price = 0.9"
            ),
        ),
        (
            summary(10),
            {"fill": {"prise": 0.1}},
            "Book.prise is filled in 0% of 10 items, less than quality.items.Book.fill.prise = 0.1",
        ),
        (
            {},
            {"fill": {"price": 0.9}},
            "Book: none was delivered, and quality.items.Book.fill asks for some",
        ),
        ({}, {"min_count": 1}, "Book: none was delivered, and quality.items.Book.min_count = 1"),
    ],
)  # fmt: skip
def test_fixed_thresholds_need_no_earlier_run(
    now: dict[str, Any], rule: dict[str, Any], text: str
) -> None:
    (finding,) = compare(now, [], Quality(**fixed(**rule)))
    assert finding.text == f"{text}: {CAUSE}"
    assert finding.usual is None


def test_fixed_thresholds_that_are_kept() -> None:
    rule = fixed(min_count=100, fill={"price": 0.9})
    assert found(summary(100, price=(90, 90)), **rule) == []
    assert found(summary(3, price=(2, 2)), whole=False, **rule) == []
    assert found(summary(3, price=(0, 0)), whole=False, **rule) == [("fill", "price")]


def test_what_is_fixed_and_learned_is_told_once() -> None:
    rule = fixed(min_count=100, fill={"price": 0.9})
    before = [summary(1000, price=(1000, 900))] * 3
    assert found(summary(10, price=(0, 0)), *before, **rule) == [("fill", "price"), ("count", None)]


# The earlier runs -------------------------------------------------------------------------------


def test_which_runs_are_compared_with() -> None:
    history = [
        run(summary(1)),
        run(summary(2)),
        run(summary(3), "failed"),
        run(summary(4), "limit"),
        run(summary(5), arguments={"category": "travel"}),
        run(summary(6), quality={}),
        run(summary(7), "stopped"),
        run(summary(8)),
        {"ended": "finished", "arguments": {}},
    ]

    def counts(**rules: Any) -> list[int]:
        return [p.items["Book"].count for p in earlier_runs(history, {}, Quality(**rules))]

    assert counts() == [1, 2, 8]
    assert counts(runs=2) == [2, 8]
    assert [p.items["Book"].count for p in earlier_runs(history[3:4] * 3, {}, Quality(runs=2))] == [
        4, 4,
    ]  # fmt: skip
    assert earlier_runs(history, {"category": "travel"}, RULES)[0].items["Book"].count == 5


def test_runs_before_a_date_are_not_looked_at() -> None:
    history = [
        run(summary(1), quality={"started": started, "whole": True, "items": summary(n)})
        for n, started in enumerate(["20240601T115959Z", "20240601T120000Z", "20240701T000000Z"])
    ]
    rules = Quality(since=datetime(2024, 6, 1, 12, tzinfo=UTC))
    assert [p.items["Book"].count for p in earlier_runs(history, {}, rules)] == [1, 2]


@pytest.mark.parametrize(
    "quality",
    [
        None, 5, [], {"items": 5}, {"items": {"Book": 5}, "whole": True, "started": "x"},
        {"items": {"Book": {"count": 1}}, "whole": True, "started": "20240601T120000Z"},
        {"items": summary(1), "whole": True, "started": "yesterday"},
        {"items": summary(1), "whole": True},
    ],
)  # fmt: skip
def test_a_history_that_cannot_be_read_is_left_out(quality: Any) -> None:
    rules = Quality(since=datetime(2024, 1, 1, tzinfo=UTC))
    assert earlier_runs([run({}, quality=quality), run(summary(3))], {}, rules) == past(summary(3))


def test_the_usual() -> None:
    runs = [
        summary(100, price=(100, 9)),
        summary(200, price=(100, 9)) | summary(10, kind="Author"),
        summary(0, rejected={"price": 5}),
    ]
    told = usual(past(*runs))
    assert told["Book"].count == 100
    assert told["Book"].fill == {"price": 0.75}
    assert told["Author"].count == 0
    cut = usual(earlier_runs([run(summary(3), "limit")], {}, RULES))
    assert cut["Book"].count is None


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), max_size=12), st.booleans())
def test_any_history_can_be_compared_with(pairs: Sequence[tuple[int, int]], whole: bool) -> None:
    runs = [summary(count, price=(min(filled, count), 1)) for count, filled in pairs]
    now = runs.pop() if runs else {}
    told = compare(now, past(*runs), RULES, whole=whole)
    assert all(f.text.endswith(CAUSE) for f in told)
    assert len({(f.what, f.item, f.field) for f in told}) == len(told)
    if not any(items["Book"]["count"] for items in runs):
        assert told == []


# The assessment ---------------------------------------------------------------------------------


def assessed(profile: Profile, **more: Any) -> Assessment:
    given: dict[str, Any] = {
        "started": "20240602T120000Z", "items": profile.delivered, "complete": True,
        "finished": True, "arguments": {}, "history": [run(summary(100, kind="dict"))],
    }  # fmt: skip
    return assess(profile, RULES, **(given | more))


def test_an_assessment() -> None:
    profile = Profile()
    profile.add(observe({"price": 1}))
    made = assessed(profile)
    assert made.whole
    assert [(f.what, f.item) for f in made.findings] == [("count", "dict")]
    assert made.compared == 1
    assert made.usual["dict"].count == 100
    told = made.as_dict()
    assert list(told) == ["started", "whole", "compared", "items", "findings"]
    assert told["findings"][0]["now"] == 1
    assert told["items"] == profile.summary()


def test_what_was_not_watched_from_its_beginning_is_not_whole() -> None:
    profile = Profile()
    profile.add(observe({"price": 1}))
    assert assessed(profile, items=5).findings == []
    assert not assessed(profile, items=5).whole
    assert assessed(profile, finished=False).findings == []
    assert not assessed(profile, complete=False).whole


def test_when_a_run_is_not_to_be_trusted() -> None:
    warn, fail = Quality(), Quality(action="fail")
    profile = Profile()
    profile.add(observe({"price": 1}))
    fell = assessed(profile)
    assert fell.objection(warn) is None
    assert fell.objection(fail) == f"dict: 1 item was delivered, usually 100: {CAUSE}"
    rejected = Profile()
    rejected.add(lost("dict", "item_invalid", [{"field": "price", "message": "no"}]))
    nothing = assessed(rejected)
    assert nothing.objection(warn) == nothing.objection(fail)
    assert nothing.objection(warn) == (
        f"every item was rejected (1, most for dict.price): {CAUSE} (and 1 more)"
    )
    assert assessed(profile, history=[]).objection(fail) is None


@pytest.mark.parametrize(
    ("share", "told"),
    [(0, "0%"), (1, "100%"), (0.5, "50%"), (0.9766, "97.7%"), (0.9999, "99.9%"), (1e-6, "0.1%")],
)
def test_percent(share: float, told: str) -> None:
    assert percent(share) == told
