"""Filter: conditions in the value's own type, and what becomes of what they cannot judge."""

from __future__ import annotations

import json
import operator
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, HttpUrl, computed_field

from scraper import crawl
from scraper.build import build_stages
from scraper.config import Config
from scraper.errors import ConfigError, Drop
from scraper.http import Request
from scraper.items import Item
from scraper.pipelines.chain import Chain, Delivered, Dropped, Failed, ItemResult
from scraper.pipelines.conditions import IncomparableError, read_conditions
from scraper.pipelines.filter import Filter
from scraper.pipelines.page import StagedPage
from scraper.pipelines.rejected import RejectedItems
from tests.crawl.test_running import Pages
from tests.servers.graph import Graph
from tests.servers.web import Web

PAGE = StagedPage(Request("https://example.com/"))


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Maker(BaseModel):
    name: str
    founded: date | None = None


class Book(Item):
    title: str
    price: Decimal = Decimal("9.99")
    maker: Maker | None = None
    tags: list[str] = []

    @computed_field  # type: ignore[prop-decorator]
    @property
    def words(self) -> int:
        return len(self.title.split())

    @property
    def shout(self) -> str:
        return self.title.upper()


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


@dataclass
class Plain:
    title: str


def table(toml: str) -> Any:
    return tomllib.loads(f"where = {{ {toml} }}")["where"]


def met(toml: str, value: Any) -> bool:
    """Whether a field `x` of that value meets the conditions, which are written in TOML."""
    (condition,) = read_conditions(table(toml))
    return condition.met_by({"x": value})


NOON = datetime.fromisoformat("2024-03-05T12:00:00")
ZONED = datetime(2024, 3, 5, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("toml", "value", "holds"),
    [
        ('x = "en"', "en", True),
        ('x = "en"', "EN", False),
        ("x = true", True, True),
        ("x = true", False, False),
        ("x = 3", 3, True),
        ("x = 3", Decimal("3.0"), True),
        ("x = 0.1", 0.1, True),
        ("x = 0.1", Decimal("0.1"), True),
        ('x = "0.10"', Decimal("0.1"), True),
        ('x = "0.10"', 0.1, True),
        ("x = 2024-03-05", date(2024, 3, 5), True),
        ('x = { equals = "en" }', "en", True),
        ('x = { one_of = ["a", "b"] }', "b", True),
        ('x = { one_of = ["a", "b"] }', "c", False),
        ("x = { one_of = [1, 2.5] }", Decimal("2.5"), True),
        ('x = { none_of = ["a", "b"] }', "c", True),
        ('x = { none_of = ["a", "b"] }', "a", False),
        ("x = { min = 1 }", 1, True),
        ("x = { min = 1 }", 0, False),
        ("x = { max = 20 }", Decimal("20.00"), True),
        ("x = { max = 20.1 }", Decimal("20.1"), True),
        ('x = { max = "20.10" }', Decimal("20.11"), False),
        ("x = { above = 1 }", 1, False),
        ("x = { above = 1 }", 1.5, True),
        ("x = { below = 1 }", 1, False),
        ("x = { below = 1 }", Decimal("0.99"), True),
        ("x = { min = 1, max = 3 }", 2, True),
        ("x = { min = 1, max = 3 }", 4, False),
        ('x = { min = "b" }', "c", True),
        ("x = { min = 2024-01-01 }", date(2024, 1, 1), True),
        ('x = { min = "2024-01-01" }', date(2023, 12, 31), False),
        ('x = { min = "2024-03-05" }', NOON, True),
        ("x = { max = 2024-03-05 }", NOON, True),
        ("x = { above = 2024-03-05 }", NOON, False),
        ("x = { max = 2024-03-05 }", ZONED, True),
        ("x = { max = 2024-03-05T11:59:00 }", NOON, False),
        ('x = { max = "2024-03-05T11:59:00" }', NOON, False),
        ("x = { max = 2024-03-05T12:59:00+01:00 }", ZONED, False),
        ("x = { max = 2024-03-05T13:00:00+01:00 }", ZONED, True),
        ('x = { min = "09:30" }', time(9, 30), True),
        ("x = { below = 09:30:00 }", time(9, 30), False),
        ('x = { matches = "(?i)python" }', "Learning PYTHON", True),
        ('x = { matches = "^python" }', "a python", False),
        ("x = { matches = '^\\d{4}$' }", 1984, True),
        ("x = { matches = '^1984' }", date(1984, 1, 1), True),
        ("x = { matches = '^https://example' }", HttpUrl("https://example.com/"), True),
        ('x = "https://example.com/"', HttpUrl("https://example.com/"), True),
        ('x = "12345678-1234-5678-1234-567812345678"', UUID("12345678" * 4), True),
        ('x = "red"', Colour.RED, True),
        ('x = { one_of = ["blue"] }', Colour.RED, False),
        ("x = { matches = '^r' }", Colour.RED, True),
        # present
        ("x = { present = true }", "a", True),
        ("x = { present = true }", 0, True),
        ("x = { present = true }", False, True),
        ("x = { present = true }", " \n", False),
        ("x = { present = true }", None, False),
        ("x = { present = true }", [], False),
        ("x = { present = true }", ["", None], False),
        ("x = { present = true }", ["", "a"], True),
        ("x = { present = true }", {}, False),
        ("x = { present = true }", {"a": None}, True),
        ("x = { present = true }", float("nan"), False),
        ("x = { present = false }", None, True),
        ("x = { present = false }", "", True),
        ("x = { present = false }", "a", False),
        ("x = { present = true, min = 3 }", 2, False),
        # what has no value meets nothing else but none_of
        ('x = ""', None, False),
        ('x = ""', "", True),
        ("x = { min = 0 }", None, False),
        ("x = { min = 0 }", Decimal("NaN"), False),
        ("x = { min = 0 }", Decimal("sNaN"), False),
        ("x = { max = 0 }", float("nan"), False),
        ("x = { min = 0 }", float("inf"), True),
        ("x = { matches = '' }", None, False),
        ('x = { none_of = ["a"] }', None, True),
        # lists
        ('x = "sale"', ["new", "sale"], True),
        ('x = "sale"', [], False),
        ('x = { none_of = ["sale"] }', ["new", "sale"], False),
        ('x = { none_of = ["sale"] }', [], True),
        ('x = { matches = "^s" }', ("new", "sale"), True),
        ("x = { min = 1, max = 3 }", [0, 5], False),
        ("x = { min = 1, max = 3 }", {0, 2, 5}, True),
        ("x = { min = 1 }", [[0], [None, 2]], True),
        ('x = { one_of = ["a", "b"], none_of = ["c"] }', ["a", "c"], False),
    ],
)
def test_a_condition(toml: str, value: Any, holds: bool) -> None:
    assert met(toml, value) is holds


@pytest.mark.parametrize(
    ("toml", "value", "says"),
    [
        ("x = 20", "20", 'x = "20" is text, and equals = 20 cannot be compared with that'),
        ("x = { max = 20 }", "£51.77", 'x = "£51.77" is text, and max = 20 cannot be compared'),
        ('x = { max = "cheap" }', 20, 'x = 20 is a number, and max = "cheap" cannot be compared'),
        ('x = { max = "cheap" }', 20.5, "x = 20.5 is a number"),
        ('x = { max = "cheap" }', Decimal(20), "x = 20 is a number, and max"),
        ("x = { one_of = [1] }", True, "x = true is true or false, and one_of = 1"),
        ("x = true", 1, "x = 1 is a number, and equals = true"),
        ("x = { min = 0 }", False, "x = false is true or false, and min = 0"),
        ("x = { min = 2024-01-01 }", "5 March 2024", 'x = "5 March 2024" is text'),
        ('x = { min = "soon" }', date(2024, 1, 1), "x = 2024-01-01 is a date"),
        ('x = { min = "soon" }', NOON, "is a date and time"),
        ("x = { min = 2024-01-01T00:00:00 }", date(2024, 1, 1), "x = 2024-01-01 is a date, and"),
        ("x = { min = 2024-01-01T00:00:00Z }", NOON, "is a date and time, and min = 2024-01-01T"),
        ("x = { min = 2024-01-01T00:00:00 }", ZONED, "is a date and time, and min = 2024-01-01T"),
        ("x = { min = 1 }", NOON, "is a date and time, and min = 1"),
        ("x = { min = 09:00:00 }", NOON, "is a date and time"),
        ("x = { min = 2024-01-01 }", time(9, 0), "x = 09:00:00 is a time"),
        ("x = { min = 1 }", timedelta(1), "is of type timedelta"),
        ('x = "a"', b"a", "is of type bytes"),
        ('x = "a"', {"b": 1}, "is of type dict"),
        ('x = "a"', Plain("a"), "is of type Plain"),
        ("x = { matches = 'a' }", True, "x = true is true or false, and matches is for text"),
        ("x = { matches = 'a' }", b"a", "is of type bytes, and matches is for text"),
        ('"x.y" = "a"', "text", "str has no field 'y'"),
    ],
)
def test_what_cannot_be_compared_is_an_error(toml: str, value: Any, says: str) -> None:
    with pytest.raises(IncomparableError) as caught:
        met(toml, value)
    assert says in str(caught.value)


def test_secrets_are_not_told() -> None:
    (condition,) = read_conditions({"api_token": {"min": 1}})
    with pytest.raises(IncomparableError) as caught:
        condition.met_by({"api_token": "canary"})
    assert "canary" not in str(caught.value)


# Fields -----------------------------------------------------------------------------------------

MADE = Maker(name="Acme", founded=date(1980, 1, 1))


@pytest.mark.parametrize(
    ("where", "item", "holds"),
    [
        ({"title": "A b"}, Book(title="A b"), True),
        ({"title": "A b"}, Plain("A b"), True),
        ({"title": "A b"}, {"title": "A b"}, True),
        ({"title": "A b"}, {}, False),
        ({"title": "A b"}, Open(title="A b"), True),
        ({"title": "A b"}, Open(), False),
        ({"words": {"min": 2}}, Book(title="A b"), True),
        ({"shout": "A B"}, Book(title="A b"), True),
        ({"maker.name": "Acme"}, Book(title="x", maker=MADE), True),
        ({"maker.founded": {"below": "1981-01-01"}}, Book(title="x", maker=MADE), True),
        ({"maker.name": "Acme"}, Book(title="x"), False),
        ({"maker": {"present": True}}, Book(title="x"), False),
        ({"maker": {"present": True}}, Book(title="x", maker=MADE), True),
        ({"a.b.c": 1}, {"a": {"b": {"c": 1}}}, True),
        ({"a.b.c": 1}, {"a": {}}, False),
        ({"reviews.stars": {"min": 4}}, {"reviews": [{"stars": 2}, {"stars": 5}]}, True),
        ({"reviews.stars": {"min": 4}}, {"reviews": [{"stars": 2}, {}]}, False),
        ({"makers.name": "Acme"}, {"makers": [MADE, Maker(name="B")]}, True),
    ],
)
def test_fields_are_reached(where: dict[str, Any], item: Any, holds: bool) -> None:
    (condition,) = read_conditions(where)
    assert condition.met_by(item) is holds


@pytest.mark.parametrize(
    ("where", "item", "says"),
    [
        ("titel", Book(title="x"), "Book has no field 'titel'; did you mean title?; items = ["),
        ("titel", Plain("x"), "Plain has no field 'titel'; did you mean title?"),
        ("maker.nme", Book(title="x", maker=MADE), "Maker has no field 'nme'; did you mean name?"),
        ("copy", Book(title="x"), "Book has no field 'copy'"),
        ("title.x", Book(title="x"), "str has no field 'x'"),
    ],
)
def test_a_field_that_a_model_does_not_have(where: str, item: Any, says: str) -> None:
    (condition,) = read_conditions({where: {"present": True}})
    with pytest.raises(IncomparableError) as caught:
        condition.met_by(item)
    assert str(caught.value).startswith(says)


# The stage --------------------------------------------------------------------------------------


async def passes(stage: Filter, item: Any) -> bool:
    try:
        assert await stage.process(item, PAGE) is item
    except Drop:
        return False
    return True


async def dropped_as(stage: Filter, item: Any) -> str:
    with pytest.raises(Drop) as caught:
        await stage.process(item, PAGE)
    return caught.value.reason


async def test_keep_wants_every_condition_and_names_the_first_that_is_not_met() -> None:
    stage = Filter({"stock": {"min": 1}, "price": {"max": 20}})
    assert await passes(stage, {"stock": 1, "price": 20})
    assert await dropped_as(stage, {"stock": 0, "price": 30}) == "filter:stock"
    assert await dropped_as(stage, {"stock": 1, "price": 30}) == "filter:price"


async def test_drop_takes_what_meets_every_condition() -> None:
    stage = Filter({"stock": {"max": 0}, "price": {"max": 20}}, action="drop")
    assert await passes(stage, {"stock": 0, "price": 30})
    assert await passes(stage, {"stock": 1, "price": 1})
    assert await dropped_as(stage, {"stock": 0, "price": 1}) == "filter:stock+price"


async def test_a_reason_of_ones_own() -> None:
    assert await dropped_as(Filter({"n": 1}, reason="sold_out"), {}) == "sold_out"
    assert await dropped_as(Filter({"n": 1}, "drop", "one"), {"n": 1}) == "one"


def stages(toml: str, tmp_path: Path) -> list[Any]:
    config = Config.model_validate(tomllib.loads(toml))
    return build_stages(config, root=tmp_path, where=lambda _: "config.toml:2: [[pipelines]]")


WHOLE = """
[[pipelines]]
use = "filter"
items = ["Book", "dict"]
where = { price = { max = 20 }, tags = { none_of = ["used"] } }

[[pipelines]]
use = "filter"
items = ["dict"]
where.published = { min = 2024-01-01 }
action = "drop"
reason = "too_new"
"""


async def through(chain: Chain, item: Any) -> ItemResult:
    return await chain.run(item, StagedPage(Request("https://example.com/"), spider="books"))


async def test_in_a_chain(tmp_path: Path) -> None:
    chain = Chain(stages(WHOLE, tmp_path))
    cheap = Book(title="x", price=Decimal(3))
    assert await through(chain, cheap) == Delivered(cheap)
    assert await through(chain, Book(title="x", price=Decimal(21))) == Dropped(
        "filter:price", "Filter"
    )
    used = Book(title="x", tags=["used"])
    assert await through(chain, used) == Dropped("filter:tags", "Filter")
    review = Maker(name="not asked about")
    assert await through(chain, review) == Delivered(review)
    young = {"price": 1, "published": date(2024, 5, 5)}
    assert await through(chain, young) == Dropped("too_new", "Filter#2")
    old = {"price": 1, "published": datetime.fromisoformat("2023-05-05T12:00:00")}
    assert await through(chain, old) == Delivered(old)


async def test_what_cannot_be_judged_is_rejected_with_the_reason(tmp_path: Path) -> None:
    rejected = RejectedItems()
    chain = Chain(stages(WHOLE, tmp_path), rejected=rejected)
    page = StagedPage(Request("https://example.com/"), spider="books")
    result = await chain.run({"price": "£3"}, page)
    assert isinstance(result, Failed)
    assert result.counted == ("rejected", "reason:stage_error")
    ((_, line, _),) = page.items[0].records
    told = json.loads(line)
    assert told["stage"] == "Filter"
    assert told["errors"][0]["message"] == (
        'IncomparableError: price = "£3" is text, and max = 20 cannot be compared with that'
    )


async def test_in_a_crawl(tmp_path: Path) -> None:
    where = {"n": {"min": 5, "below": 30}}
    settings = {"pipelines": [{"use": "filter", "where": where}]}
    with Web(Graph(60)) as web:
        output = tmp_path / "out.jsonl"
        result = await crawl(Pages, base=web.url, settings=settings, output=output)
    assert (result.pages, result.items, result.drops) == (60, 25, {"filter:n": 35})
    lines = output.read_text().splitlines()
    assert sorted(json.loads(line)["n"] for line in lines) == list(range(5, 30))


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("", "Filter needs where"),
        ("where = {}", "where = {}: must be a table of fields"),
        ("where = 3", "where = 3: must be a table of fields"),
        ('where = ["a"]', 'where = ["a"]: must be a table of fields'),
        ("where = { a = {} }", "where.a = {}: asks for nothing: use equals, one_of,"),
        ("where = { '' = 1 }", 'where."": a field\'s name is empty'),
        ("where = { 'a..b' = 1 }", 'where."a..b": a field\'s name is empty'),
        (
            "where = { stock = { mim = 1 } }",
            "where.stock: there is no condition 'mim'; did you mean min?",
        ),
        ("where = { a.b = 1 }", "where.a: there is no condition 'b'; there are equals, one_of"),
        (
            'where = { a = ["x", "y"] }',
            'where.a = ["x", "y"]: must be text, a number, true or false, a date or a time',
        ),
        ("where = { a = { min = true } }", "where.a.min = true: must be text, a number, a date"),
        ("where = { a = { min = [1] } }", "where.a.min = [1]: must be text"),
        ("where = { a = nan }", "where.a = nan: must be text"),
        ("where = { a = { one_of = [] } }", "where.a.one_of = []: must be a list with something"),
        ('where = { a = { one_of = "x" } }', 'where.a.one_of = "x": must be a list'),
        (
            'where = { a = { one_of = ["x", 1] } }',
            'where.a.one_of = ["x", 1]: is a mixture: text and a number',
        ),
        ("where = { a = { none_of = [true, 1] } }", "is a mixture: true or false and a number"),
        (
            'where = { a = { equals = "x", one_of = ["y"] } }',
            "equals and one_of say the same: use one of them",
        ),
        ('where = { a = { present = "yes" } }', 'where.a.present = "yes": must be true or false'),
        ("where = { a = { matches = 3 } }", "where.a.matches = 3: must be a regular expression"),
        (
            "where = { 'a.b' = { matches = '(' } }",
            'where."a.b".matches = "(": is no regular expression: missing ), unterminated',
        ),
        ("where = { a = { min = 3, max = 2 } }", "where.a.min = 3: is more than max = 2"),
        (
            "where = { a = { min = 2024-01-02, max = '2024-01-01' } }",
            'where.a.min = 2024-01-02: is more than max = "2024-01-01"',
        ),
        (
            "where = { a = { min = 2024-01-02, max = 5 } }",
            "where.a.min = 2024-01-02: is a date, and max a number",
        ),
        ('where = { a = 1 }\naction = "skip"', 'action = "skip": must be one of "keep", "drop"'),
        ("where = { a = 1 }\nreasons = 'x'", "did you mean reason?"),
    ],
)
def test_a_mistake_in_the_table(toml: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        stages(f'[[pipelines]]\nuse = "filter"\n{toml}\n', tmp_path)
    assert caught.value.message.startswith("config.toml:2: [[pipelines]] filter: ")
    assert says in caught.value.message
    assert "\n" not in caught.value.message


def test_hints_of_mistakes() -> None:
    for where, hint in (
        ({"a": {"b": 1}}, '"a.b" = …'),
        ({"a": ["x"]}, 'one_of = ["a", "b"]'),
        ({"a": {"matches": "["}}, "Single quotes"),
        ({}, "where = { stock = { min = 1 } }"),
    ):
        with pytest.raises(ConfigError) as caught:
            read_conditions(where)
        assert hint in caught.value.hint


# For all values ---------------------------------------------------------------------------------

numbers = st.one_of(
    st.integers(-(10**6), 10**6),
    st.decimals(-(10**6), 10**6, places=3),
)
days = st.dates(date(1, 1, 2), date(9999, 12, 30))
moments = st.datetimes(timezones=st.just(timezone(timedelta(hours=3))))
alike = st.one_of(
    st.tuples(numbers, numbers),
    st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)),
    st.tuples(st.text(), st.text()),
    st.tuples(days, days),
    st.tuples(moments, moments),
    st.tuples(st.times(), st.times()),
)
AS_PYTHON: dict[str, Callable[[Any, Any], bool]] = {
    "equals": operator.eq,
    "min": operator.ge,
    "max": operator.le,
    "above": operator.gt,
    "below": operator.lt,
}


@given(pair=alike, name=st.sampled_from([*AS_PYTHON]))
def test_it_is_what_python_says_of_the_same_type(pair: tuple[Any, Any], name: str) -> None:
    value, other = pair
    (condition,) = read_conditions({"x": {name: other}})
    assert condition.met_by({"x": value}) is AS_PYTHON[name](value, other)


@given(pair=alike, name=st.sampled_from([*AS_PYTHON]))
def test_text_in_the_table_means_the_same(pair: tuple[Any, Any], name: str) -> None:
    value, other = pair
    written = other.isoformat() if isinstance(other, date | time) else str(other)
    (as_text,) = read_conditions({"x": {name: written}})
    (as_value,) = read_conditions({"x": {name: other}})
    assert as_text.met_by({"x": value}) is as_value.met_by({"x": value})


scalars = st.one_of(
    st.none(), st.booleans(), numbers, st.floats(), st.text(max_size=5), days, moments, st.times(),
    st.binary(max_size=3), st.timedeltas(),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=6,
)
bounds = scalars.filter(
    lambda v: isinstance(v, int | float | Decimal | str | date | time) and v == v
)
asked = st.one_of(
    bounds,
    st.fixed_dictionaries({"present": st.booleans()}),
    st.builds(lambda v: {"one_of": [v]}, bounds),
    st.builds(lambda v: {"none_of": [v]}, bounds),
    st.builds(lambda n, v: {n: v}, st.sampled_from(["min", "max", "above", "below"]), bounds),
    st.fixed_dictionaries({"matches": st.sampled_from(["", "a", "^[0-9]"])}),
).filter(lambda a: not (isinstance(a, dict) and any(isinstance(v, bool) for v in
                        [a.get(n) for n in ("min", "max", "above", "below")])))  # fmt: skip
wheres = st.dictionaries(st.sampled_from(["a", "b", "a.b"]), asked, min_size=1, max_size=3)


@given(where=wheres, item=st.dictionaries(st.sampled_from("ab"), values, max_size=2))
async def test_an_item_is_kept_dropped_or_cannot_be_compared(
    where: dict[str, Any], item: dict[str, Any]
) -> None:
    """Nothing else is raised; and of an item that can be judged in full, keep and drop differ."""
    try:
        kept = await passes(Filter(where), item)
        left = await passes(Filter(where, action="drop"), item)
    except IncomparableError:
        return
    assert kept is not left


@given(entries=st.lists(st.integers(-5, 5), max_size=4), low=st.integers(-5, 5))
def test_one_entry_of_a_list_is_enough_and_none_may_be_excluded(
    entries: list[int], low: int
) -> None:
    least, no = read_conditions({"x": {"min": low}, "y": {"none_of": [low]}})
    assert least.met_by({"x": entries}) is any(entry >= low for entry in entries)
    assert no.met_by({"y": entries}) is (low not in entries)
