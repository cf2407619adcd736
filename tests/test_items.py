from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from scraper.errors import ExtractionError, ItemInvalid, UsageError
from scraper.items import Css, Invalid, Item, encode, extract, extract_all, record
from scraper.select import Document

URL = "https://shop.example/books/1.html"
PAGE = Document.of("""
<h1> A  <b>Light</b> in
 the Attic</h1>
<p class=price_color>£ 51.77 incl. 7</p>
<p class=availability>In stock (22 available)</p>
<ul class=tags><li>poetry<li> humour </ul>
<div class=cover><img alt=""><img src=" ../img/1.png#x "></div>
<li class=review><b>Ann</b><i>5</i><span class=w>a</span><span class=w>b</span></li>
<li class=review><b>Bob</b><i>4</i></li>
<p class=empty></p>
""")


class Review(Item):
    who: Annotated[str, Css("b")]
    stars: Annotated[int, Css("i")]
    words: Annotated[list[str], Css(".w")]


class Book(Item):
    title: Annotated[str, Css("h1")]
    price: Annotated[Decimal, Css(".price_color", re=r"[\d.]+")]
    stock: Annotated[int, Css(".availability", re=r"\((\d+)")] = 0
    tags: Annotated[list[str], Css("ul.tags li")]
    none: Annotated[list[str], Css("ol li")]
    subtitle: Annotated[str | None, Css("h2")]
    image: Annotated[str, Css("a.cover::attr(href)", "img::attr(src)", absolute=True)]
    reviews: Annotated[list[Review], Css("li.review")]
    best: Annotated[Review | None, Css("li.review")]
    worst: Annotated[Review | None, Css("li.bad")]
    seen: dt.date | None = None


def test_the_public_face() -> None:
    book = extract(Book, PAGE, URL)
    assert isinstance(book, Book)
    assert book.title == "A Light in the Attic"
    assert book.price == Decimal("51.77")
    assert book.stock == 22
    assert book.tags == ["poetry", "humour"]
    assert book.none == []
    assert book.subtitle is None
    assert book.image == "https://shop.example/img/1.png#x"
    assert [(r.who, r.stars, r.words) for r in book.reviews] == [
        ("Ann", 5, ["a", "b"]),
        ("Bob", 4, []),
    ]
    assert book.best is not None
    assert book.best.who == "Ann"
    assert book.worst is None
    assert book.seen is None


def one(annotation: Any, default: Any = ..., page: Document = PAGE) -> Any:
    """What a field of that type gets from the page."""
    namespace: dict[str, Any] = {"__annotations__": {"field": annotation}, "__module__": __name__}
    if default is not ...:
        namespace["field"] = default
    found: Any = extract(type("One", (Item,), namespace), page, URL)
    return found if isinstance(found, Invalid) else found.field


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Annotated[str, Css("h2")] | None, None),
        (Annotated[str, Css("h1 b")] | None, "Light"),
        (Annotated[str, Css("h1::text")], "A"),
        (Annotated[str, Css("h2", "h3", "b")], "Light"),
        (Annotated[str, Css(".empty", "b")], "Light"),
        (Annotated[str, Css(".empty")], ""),
        (Annotated[str, Css("h2, b")], "Light"),
        (Annotated[str, Css("img::attr(alt)", "b")], "Light"),
        (Annotated[str, Css("img::attr(src)")], "../img/1.png#x"),
        (Annotated[str, Css("p", re=r"\((.+?) ")], "22"),
        (Annotated[list[int], Css("p", re=r"\d+")], [51, 22]),
        (Annotated[list[str], Css("ol li", "ul.tags li")], ["poetry", "humour"]),
        (Annotated[set[str], Css("li b")], {"Ann", "Bob"}),
        (Annotated[tuple[str, ...], Css("li b")], ("Ann", "Bob")),
        (Annotated[Sequence[str] | None, Css("ol li")], []),
        (Annotated[list[str], Css("img::attr(src)", absolute=True)], [f"{URL[:21]}img/1.png#x"]),
        (Annotated[list[str], Css("ul.tags ::text")], ["poetry", "humour"]),
        (Annotated[int, Field(ge=1), Css("i")], 5),
        (Annotated[int | str, Css("b")], "Light"),
    ],
)
def test_values(annotation: Any, value: Any) -> None:
    assert one(annotation) == value


def test_defaults() -> None:
    assert one(Annotated[int, Css("h2")], 7) == 7
    assert one(Annotated[list[str], Css("h2")], ["x"]) == ["x"]
    assert one(Annotated[str | None, Css("h2")], "x") == "x"
    assert one(Annotated[list[str], Css("h2")], Field(default_factory=lambda: ["y"])) == ["y"]
    assert one(Annotated[str, Css("h1 b")], Field(default="", alias="other")) == "Light"


def test_extract_all() -> None:
    reviews = extract_all(Review, PAGE.css("li.review"), URL)
    assert [r.who for r in reviews] == ["Ann", "Bob"]
    assert [type(r).__name__ for r in extract_all(Review, PAGE.css("h1 b::text"))] == ["Invalid"]


class Later(Item):
    parts: Annotated[list[Part], Css("li.review")]
    first: Annotated[Part, Css("li.review")]


class Part(Item):
    who: Annotated[str, Css("b")]


def test_forward_references() -> None:
    later = extract(Later, PAGE, URL)
    assert [part.who for part in later.parts] == ["Ann", "Bob"]
    assert later.first.who == "Ann"


def test_a_subclass_has_a_plan_of_its_own() -> None:
    class More(Part):
        stars: Annotated[int, Css("i")]

    assert record(extract(Part, PAGE)) == {"who": "Light"}
    assert record(extract(More, PAGE)) == {"who": "Light", "stars": 5}


def test_any_pydantic_model_may_carry_markers() -> None:
    class Plain(BaseModel):
        who: Annotated[str, Css("b")]

    assert extract(Plain, PAGE).who == "Light"


# What does not fit


class Strict(Item):
    price: Annotated[Decimal, Css("h1")]
    name: Annotated[str, Css("h5", "h6")]
    stars: Annotated[list[Review], Css("li")]
    note: str = ""


def test_an_invalid_item_carries_its_reasons() -> None:
    item = extract(Strict, PAGE, URL)
    assert isinstance(item, Invalid)
    error = item.error
    assert error.reason == "item_invalid"
    assert error.url == URL
    by_field = {e["field"]: e for e in error.errors}
    assert set(by_field) == {
        "price",
        "name",
        "stars.0.who",
        "stars.0.stars",
        "stars.1.who",
        "stars.1.stars",
    }
    assert by_field["price"]["value"] == "A Light in the Attic"
    assert by_field["price"]["selectors"] == ["h1"]
    assert by_field["name"] == {
        "field": "name",
        "message": "nothing on the page matches",
        "selectors": ["h5", "h6"],
        "value": None,
    }
    assert by_field["stars.1.stars"]["selectors"] == ["i"]
    assert error.raw["price"] == "A Light in the Attic"
    json.dumps([error.errors, error.raw])
    assert repr(item).startswith("<Invalid Strict: price: ")


def test_reading_an_invalid_item_raises_and_assigning_is_kept() -> None:
    item = extract(Strict, PAGE, URL)
    with pytest.raises(ItemInvalid, match="Strict at https://shop"):
        _ = item.price
    with pytest.raises(ItemInvalid):
        item.model_dump()
    with pytest.raises(AttributeError):
        _ = item.nonsense  # type: ignore[attr-defined]
    item.note = "kept"
    assert isinstance(item, Invalid)
    assert item.error.raw["note"] == "kept"
    with pytest.raises(AttributeError):
        item.nonsense = 1


# Markers that cannot be placed


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (list[Annotated[str, Css("a")]], "inside a container"),
        (dict[str, Annotated[str, Css("a")]], "inside a container"),
        (list[Annotated[str, Css("a")] | None], "inside a container"),
        (Annotated[Review, Css("li::text")], "needs elements"),
        (Annotated[list[Review], Css("li", re="x")], "needs elements"),
        (Annotated[Review | Part, Css("li")], "cannot choose between Review | Part"),
    ],
)
def test_misplaced_markers_are_errors_at_class_creation(annotation: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("|", r"\|")) as caught:
        type("Wrong", (Item,), {"__annotations__": {"field": annotation}, "__module__": __name__})
    assert "Wrong.field" in str(caught.value)


def test_wrong_markers() -> None:
    for wrong in ((), ("",), ("a[",)):
        with pytest.raises(UsageError):
            Css(*wrong)
    with pytest.raises(UsageError):
        Css("a", re="(")
    assert repr(Css("a", "b", re="x", absolute=True)) == "Css('a', 'b', re='x', absolute=True)"


def test_models_that_no_page_can_fill() -> None:
    class Needs(Item):
        price: int

    class Endless(Item):
        inner: Annotated[Endless | None, Css("div")]

    class Dangling(Item):
        inner: Annotated[list[Nowhere], Css("div")]  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(UsageError, match="neither a selector nor a default"):
        extract(Needs, PAGE)
    with pytest.raises(UsageError, match="Nowhere"):
        extract(Dangling, PAGE)
    Endless.model_rebuild(_types_namespace={"Endless": Endless})
    with pytest.raises(UsageError, match="contains itself"):
        extract(Endless, PAGE)


def test_nested_text_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scraper.marking.MAX_TEXT", 10_000)
    page = Document(b"<div>" * 200 + b"x" * 100)
    with pytest.raises(ExtractionError) as caught:
        one(Annotated[list[str], Css("div")], page=page)
    assert caught.value.reason == "parse_limit"


# JSON


@dataclass
class Point:
    x: int


class Loose(BaseModel):
    price: Decimal = Decimal("1.50")
    day: dt.date = dt.date(2024, 2, 29)
    ratio: float = float("nan")
    text: Any = "é\u2028\n"


def test_encode() -> None:
    assert encode(Loose()).decode() == (
        '{"price":"1.50","day":"2024-02-29","ratio":null,"text":"é\u2028\\n"}'
    )
    assert encode({"a": float("inf"), "b": {1}, "c": Decimal(1), "d": b"x", "e": 2**70}) == (
        b'{"a":null,"b":[1],"c":"1","d":"x","e":1180591620717411303424}'
    )
    assert encode(Point(1)) == b'{"x":1}'
    assert json.loads(encode({"a": b"\xff", "l": Loose(), "t": (1, Point(2))}))["t"] == [
        1,
        {"x": 2},
    ]


@pytest.mark.parametrize("item", [{"a": object()}, {"a": lambda: 0}, [1].append])
def test_what_has_no_json_form_is_an_error(item: Any) -> None:
    with pytest.raises((ExtractionError, UsageError)):
        encode(item)


def test_an_endless_item_is_an_error() -> None:
    item: dict[str, Any] = {}
    item["self"] = item
    with pytest.raises(ExtractionError):
        encode(item)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(max_size=5)
    | st.decimals()
    | st.dates()
    | st.datetimes()
    | st.uuids(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters()), values, max_size=4))
def test_every_line_is_valid_json(item: dict[str, Any]) -> None:
    for line in (encode(item), encode(Loose(text=item))):
        assert b"\n" not in line
        assert isinstance(json.loads(line.decode()), dict)


def test_lone_surrogates_do_not_break_the_output() -> None:
    assert json.loads(encode({"a\ud800": ["\udfff", {"x": Loose(text="\ud800")}]})) == {
        "a�": ["�", {"x": {"price": "1.50", "day": "2024-02-29", "ratio": None, "text": "�"}}]
    }
    assert json.loads(encode(Loose(text="\ud83d\ude00")))["text"] == "😀"


def test_record() -> None:
    assert record(Loose(ratio=1, text=1)) == {
        "price": Decimal("1.50"),
        "day": dt.date(2024, 2, 29),
        "ratio": 1.0,
        "text": 1,
    }
    assert record({"a": 1}) == {"a": 1}
    assert record(Point(1)) == {"x": 1}
    with pytest.raises(UsageError, match="int is not an item"):
        record(3)
