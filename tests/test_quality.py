"""What is known of items, and the numbers of a run: right, small, and bounded whatever comes."""

from __future__ import annotations

import gc
import json
import math
import weakref
from collections import OrderedDict, UserDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from scraper import Item
from scraper.errors import DamagedState
from scraper.observation import Lost, lost, observe
from scraper.quality import BATCH, MAX_FIELDS, MAX_ITEMS, MAX_REASONS, OTHER, Profile


class Book(Item):
    title: str = ""
    price: Decimal | None = None
    tags: list[str] = []


def profile_of(*items: Any) -> Profile:
    profile = Profile()
    for item in items:
        profile.add(observe(item))
    return profile


def field_of(*values: Any) -> dict[str, Any]:
    """The summary of one field that has had these values."""
    (items,) = profile_of(*({"x": value} for value in values)).summary().values()
    found: dict[str, Any] = items["fields"]["x"]
    return found


# Observing --------------------------------------------------------------------------------------


@dataclass
class Plain:
    title: str
    more: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Slim:
    title: str
    more: tuple[int, ...] = ()


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    title: str


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        (Book(title="a"), "Book"),
        ({"title": "a"}, "dict"),
        (OrderedDict(title="a"), "OrderedDict"),
        (UserDict({"title": "a"}), "UserDict"),
        (Plain("a"), "Plain"),
        (Slim("a"), "Slim"),
        (Loose(title="a", more=[1]), "Loose"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_items_of_all_kinds(item: Any, kind: str) -> None:
    seen = observe(item)
    assert seen[0] == kind
    assert dict(zip(*seen[1:], strict=True))["title"] == "a"
    assert ("more" in seen[1]) == hasattr(item, "more")


def test_an_observation_does_not_hold_on_to_the_item() -> None:
    class Part(Item):
        name: str

    class Held(Item):
        parts: list[Part]
        text: str

    item = Held(parts=[Part(name="n")], text="t" * 100_000)
    gone = weakref.ref(item), weakref.ref(item.parts[0])
    seen = observe(item)
    size = len(repr(seen))
    del item
    gc.collect()
    assert [ref() for ref in gone] == [None, None]
    assert size < 400
    assert [size for _, size, _ in seen[2]] == [1, 100_000]


class Colour(Enum):
    RED = "red"
    NONE = None
    LONG = "x" * 500


class Nested(BaseModel):
    a: str | None = None
    b: int | None = None


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __len__ = __bool__ = __str__


class HostileList(list[Any]):
    def __len__(self) -> int:
        raise RuntimeError("no")


LATE = datetime.max.replace(tzinfo=timezone(timedelta(hours=-14)))
FILLED: list[Any] = [
    "a", " a ", "x" * 1000, " " * 999 + "a", "\ud800", "\udfff" * 200, 0, -1, 10**400, 0.0, False,
    True, Decimal(0), Decimal("1E+9999"), date.min, LATE, LATE.replace(tzinfo=None), b"\x00",
    bytearray(b"a"), [None], [""], [[]], {"": None}, {1}, frozenset({"a", 1}), ("a",), UUID(int=0),
    timedelta(0), Colour.RED, Colour.LONG, Nested(a="a"), Plain("a"), Hostile(), HostileList([1]),
    {"a": {"b": Hostile()}}, object(), 1j, range(3),
]  # fmt: skip
TELLABLE = [v for v in FILLED if "Hostile" not in type(v).__name__ and not isinstance(v, dict)]
"""Those with a repr: hypothesis shows what fails."""
EMPTY: list[Any] = [
    None, "", " ", "\t\n\u00a0", " " * 1000, [], {}, (), set(), frozenset(), b"", float("nan"),
    float("inf"), -math.inf, Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Colour.NONE,
    Nested(), OrderedDict(), range(0),
]  # fmt: skip


@pytest.mark.parametrize("value", FILLED, ids=lambda value: type(value).__name__)
def test_what_counts_as_filled(value: Any) -> None:
    found = field_of(value, None, value)
    assert (found["filled"], found["fill"]) == (2, 0.6667)
    assert sum(kind["count"] for kind in found["kinds"].values()) == 2
    assert found["distinct"] in (0, 1)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("value", EMPTY, ids=lambda value: repr(value)[:20])
def test_what_does_not(value: Any) -> None:
    found = field_of(value, value)
    assert (found["filled"], found["fill"], found["distinct"], found["kinds"]) == (0, 0.0, 0, {})


# Ranges -----------------------------------------------------------------------------------------

CET = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("values", "kind", "least", "greatest", "distinct"),
    [
        (["abc", "", "a", "x" * 500, "a"], "text", 1, 500, 3),
        (["x" * 500 + str(n % 3) for n in range(9)], "text", 501, 501, 3),
        ([3, None, -7, 3], "number", -7, 3, 2),
        ([0.5, 2, 1.25], "number", 0.5, 2, 3),
        ([Decimal("19.99"), Decimal("0.10")], "number", 0.1, 19.99, 2),
        ([10**30, 1], "number", 1, 1e30, 2),
        ([10**400, -(10**400)], "number", -1.7976931348623157e308, 1.7976931348623157e308, 2),
        ([True, True], "flag", True, True, 1),
        ([True, False], "flag", False, True, 2),
        ([date(2024, 2, 29), date(999, 1, 1)], "date", "0999-01-01", "2024-02-29", 2),
        (
            [datetime(2024, 1, 1, 0, 30, tzinfo=CET), datetime(2023, 12, 31, 23, 45, tzinfo=UTC)],
            "date",
            "2023-12-31T23:30:00+00:00",
            "2023-12-31T23:45:00+00:00",
            2,
        ),
        ([["a", "b"], ["a", "b"], ["a"], []], "list", 1, 2, 2),
        ([{"b", "a"}, {"a", "b"}], "list", 2, 2, 1),
        ([{"a": 1}, {"a": 1, "b": None}], "object", 1, 2, 2),
        ([Nested(a="a"), Nested(a="a", b=2), Nested()], "object", 1, 2, 2),
        ([b"ab", b"abc"], "bytes", 2, 3, 2),
        ([UUID(int=1), UUID(int=2)], "text", 36, 36, 2),
        ([Colour.RED, Colour.LONG], "text", 3, 500, 2),
    ],
)
def test_ranges(values: list[Any], kind: str, least: Any, greatest: Any, distinct: int) -> None:
    found = field_of(*values)
    assert list(found["kinds"]) == [kind]
    told = found["kinds"][kind]
    assert (told["min"], told["max"], told["count"]) == (least, greatest, found["filled"])
    assert found["distinct"] == distinct


def test_a_field_of_several_kinds() -> None:
    found = field_of("n/a", 12, 12.5, None, ["x"])
    assert {kind: values["count"] for kind, values in found["kinds"].items()} == {
        "text": 1, "number": 2, "list": 1,
    }  # fmt: skip
    assert found["filled"] == 4


numbers = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))


@given(st.lists(st.none() | numbers, min_size=1, max_size=3 * BATCH))
def test_numbers_beside_a_plain_count(values: list[Any]) -> None:
    found = field_of(*values)
    there = [v for v in values if v is not None]
    assert found["filled"] == len(there)
    if there:
        told = found["kinds"]["number"]
        assert math.isclose(told["min"], min(there), rel_tol=1e-15)
        assert math.isclose(told["max"], max(there), rel_tol=1e-15)


@given(st.lists(st.text(max_size=100), min_size=1, max_size=50))
def test_texts_beside_a_plain_count(values: list[str]) -> None:
    found = field_of(*values)
    there = [v for v in values if v.strip()]
    assert found["filled"] == len(there)
    if there:
        told = found["kinds"]["text"]
        assert (told["min"], told["max"]) == (min(map(len, there)), max(map(len, there)))
        short = {v for v in there if len(v) <= 64}
        assert found["distinct"] == len(set(there)) or len(short) < len(set(there))


# The whole --------------------------------------------------------------------------------------


def test_counts_by_type_and_field() -> None:
    profile = profile_of(
        Book(title="a", price=Decimal(1)), Book(title="b"), Book(tags=["x"]), {"title": "c"}
    )
    summary = profile.summary()
    assert list(summary) == ["Book", "dict"]
    assert {name: items["count"] for name, items in summary.items()} == {"Book": 3, "dict": 1}
    filled = {name: one["filled"] for name, one in summary["Book"]["fields"].items()}
    assert filled == {"title": 2, "price": 1, "tags": 1}
    assert profile.delivered == 4
    assert repr(profile) == "<Profile 3 Book, 1 dict>"


def test_a_key_that_some_lack() -> None:
    summary = profile_of({"a": 1}, {"a": 1, "b": 2}, {}).summary()
    assert summary["dict"]["count"] == 3
    assert [one["fill"] for one in summary["dict"]["fields"].values()] == [0.6667, 0.3333]


def test_rejected_and_dropped_items() -> None:
    profile = profile_of(Book(title="a"))
    errors = [
        {"field": "price", "message": "nothing on the page matches"},
        {"field": "tags.3", "message": "too short"},
        {"field": "tags.4", "message": "too short"},
        {"field": "Book", "message": "the model as a whole"},
        {"field": "", "message": "no field"},
    ]
    profile.add(lost("Book", "item_invalid", errors))
    profile.add(lost("Book", "item_invalid", errors[:1]))
    profile.add(lost("Book", "stage_error"))
    profile.add(lost("Book", "incomplete:price", rejected=False))
    (items,) = profile.summary().values()
    assert (items["count"], items["rejected"]) == (1, 3)
    assert items["reasons"] == {"item_invalid": 2, "stage_error": 1}
    assert items["dropped"] == {"incomplete:price": 1}
    fields = items["fields"]
    assert (fields["price"]["rejected"], fields["tags"]["rejected"]) == (2, 1)
    assert fields["price"]["because"] == {"nothing on the page matches": 2}
    assert fields["title"]["rejected"] == 0
    assert set(fields) == {"title", "price", "tags"}


def at_fault(name: str, message: str) -> list[dict[str, Any]]:
    return [{"field": name, "message": message}]


def test_rejected_items_that_count_no_more() -> None:
    profile = profile_of(Book(title="a"))
    before = profile.summary()
    known = lost("Book", "item_invalid", at_fault("price", "no"))
    for _ in range(3):
        profile.add(known)
    profile.add(lost("Book", "item_invalid", at_fault("price", "not at all")))
    profile.regain(known, 2)
    price = profile.summary()["Book"]["fields"]["price"]
    assert (price["rejected"], price["because"]) == (2, {"no": 1, "not at all": 1})
    profile.regain(lost("Book", "item_invalid", at_fault("price", "")), 2)  # why is forgotten
    assert profile.summary() == before
    profile.regain(lost("Book", "item_invalid"), 5)
    profile.regain(lost("Author", "item_invalid", at_fault("name", "")), 1)
    assert profile.summary() == before


faults = st.tuples(st.sampled_from("ab"), st.integers(0, 40), st.integers(0, 300))


@given(st.lists(faults, max_size=60), st.booleans())
def test_all_that_was_rejected_and_regained_leaves_nothing(
    given: list[tuple[str, int, int]], told: bool
) -> None:
    profile = Profile()
    for item, n, m in given:
        profile.add(lost(item, f"reason {n}", at_fault(f"field {m}", f"message {n}")))
    profile = Profile.load(profile.dump())
    for item, n, m in given:
        message = f"message {n}" if told else ""
        profile.regain(lost(item, f"reason {n}", at_fault(f"field {m}", message)), 1)
    assert profile.summary() == {}


def test_only_rejected_items() -> None:
    profile = Profile()
    profile.add(lost("Book", "item_invalid", [{"field": "price", "message": "no"}]))
    assert profile.delivered == 0
    assert profile.summary()["Book"]["fields"]["price"]["fill"] is None


keys = st.one_of(
    st.text(max_size=5), st.text(min_size=95, max_size=300), st.integers(), st.none(),
    st.booleans(), st.tuples(st.integers()), st.sampled_from(["\ud800", OTHER, "a\nb", "\x00"]),
)  # fmt: skip
plain = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=20),
        st.decimals(), st.dates(), st.datetimes(timezones=st.none() | st.timezones()),
        st.sampled_from(TELLABLE), st.sampled_from(EMPTY),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(st.lists(st.dictionaries(keys, plain, max_size=6), max_size=20), st.integers(0, 20))
def test_stored_and_restored_anywhere_it_is_the_same(items: list[Any], cut: int) -> None:
    whole = profile_of(*items)
    first = profile_of(*items[:cut])
    resumed = Profile.load(first.dump())
    assert resumed.summary() == first.summary()
    for item in items[cut:]:
        resumed.add(observe(item))
    assert resumed.summary() == whole.summary()
    assert resumed.delivered == whole.delivered == len(items)
    told = json.dumps(whole.summary(), allow_nan=False, ensure_ascii=False)
    assert told.encode()  # no lone surrogate
    assert Profile.load(whole.dump()).summary() == json.loads(told)


def test_hostile_items_stay_within_bounds() -> None:
    profile = Profile()
    for n in range(2_000):
        profile.add(
            observe({f"key {n} " + "k" * 10_000: "v" * 10_000, f"{n}": [["x" * 1000]] * 50})
        )
    wide = {f"field {n}": "v" * 1000 for n in range(5_000)}
    seen = observe(wide)
    assert len(seen[1]) == 100
    assert sum(len(repr(value)) for value in seen[2]) < 100 * 250
    profile.add(seen)
    for n in range(500):
        profile.add(
            lost("Book", f"reason {n}" * 100, [{"field": f"f{n}" * 99, "message": "m" * 999}])
        )
        profile.add(lost("Book", "item_invalid", [{"field": "price", "message": f"value {n}"}]))
        profile.add(lost("Book", f"reason {n}", rejected=False))
    summary = profile.summary()
    assert (summary["dict"]["count"], summary["Book"]["rejected"]) == (2_001, 1_000)
    for items in summary.values():
        assert len(items["fields"]) <= MAX_FIELDS + 1
        assert all(len(name) <= 100 for name in items["fields"])
        assert len(items["reasons"]) <= MAX_REASONS + 1
        assert len(items["dropped"]) <= MAX_REASONS + 1
    other = summary["dict"]["fields"][OTHER]
    assert other["filled"] > 3_000
    assert other["fill"] is None
    assert sum(summary["Book"]["fields"]["price"]["because"].values()) == 500
    assert len(profile.dump()) < 200_000


def test_more_item_types_than_are_kept_by_name() -> None:
    profile = Profile()
    for n in range(200):
        profile.add(observe(type(f"Type{n}", (dict,), {})({f"a{m}": n for m in range(20)})))
    summary = profile.summary()
    assert len(summary) == MAX_ITEMS + 1
    assert summary[OTHER]["count"] == 200 - MAX_ITEMS
    counted = [one["distinct"] for items in summary.values() for one in items["fields"].values()]
    assert sum(n is not None for n in counted) == 200
    assert Profile.load(profile.dump()).summary() == summary


def test_what_changed_is_told_once() -> None:
    profile = Profile()
    assert profile.changed() is None
    profile.add(observe({"a": 1}))
    stored = profile.changed()
    assert stored is not None
    assert profile.changed() is None
    restored = Profile.restored({"quality": stored, "cookies": b""})
    assert restored.changed() is None
    restored.add(lost("dict", "stage_error"))
    assert restored.changed() is not None
    assert Profile.restored({}).summary() == {}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: b"\xff" + data,
        lambda data: b"[]",
        lambda data: b"null",
        lambda data: b"{}",
        lambda data: data.replace(b'"version":1', b'"version":2'),
        lambda data: data.replace(b'"=', b'"?'),
        lambda data: data.replace(b'"number":[', b'"number":['  b"1,"),
        lambda data: json.dumps({"version": 1, "items": {"a": 5}}).encode(),
        lambda data: json.dumps({"version": 1, "items": {"a": ["x", 0, {}, {}, {}]}}).encode(),
    ],
)  # fmt: skip
def test_what_no_crawl_has_stored_is_damage(spoil: Callable[[bytes], bytes]) -> None:
    data = profile_of({"a": 1}).dump()
    with pytest.raises(DamagedState, match="cannot be read"):
        Profile.load(spoil(data))


def test_names_are_fit_for_every_output() -> None:
    seen = observe({"a\nb": 1, "\ud800": 2, 7: 3, None: 4, "x" * 500: 5})
    assert seen[1] == ("a b", "\ufffd", "7", "None", "x" * 100)
    assert lost("Book", "a\r\nb", [{"field": "\ud800.x", "message": "\x00 m\n"}]) == Lost(
        "Book", "a b", True, (("\ufffd", "\x00 m"),)
    )
    assert observe({"a": [1]})[2] == (("list", 1, None),)
