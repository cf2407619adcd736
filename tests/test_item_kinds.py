"""Items of every kind, the whole way: from a page through a crawl to a file of JSON lines."""

from __future__ import annotations

import collections
import datetime as dt
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, computed_field, field_validator
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

import scraper
from scraper import Css, Item, Json, Meta, Output, Request, Response, Spider, Url, XPath
from scraper.callbacks import Callbacks
from scraper.demo import DemoShop, serve_in_thread
from scraper.errors import ItemInvalid, UsageError
from scraper.items import Invalid, encode, record
from scraper.types import Price

FAST: dict[str, Any] = {"politeness": {"delay": 0, "adaptive": False}, "crawl.max_depth": 2}


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with serve_in_thread(DemoShop()) as shop:
        yield shop.url


class Tag(BaseModel):
    name: str


class Typed(TypedDict):
    title: Annotated[str, Css("title")]


@dataclass
class Plain:
    title: Annotated[str, Css("title")]
    tags: list[Tag] = field(default_factory=list)


@pydantic_dataclass
class Checked:
    n: int


class Pair(NamedTuple):
    a: int


class Book(Item):
    title: str
    price: Decimal
    seen: set[dt.date] = set()
    tags: list[Tag] = []
    offer: Price | None = None
    stock: int = Field(default=0, alias="inStock")
    _note: str = "private"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def size(self) -> int:
        return len(self.title)


BOOK = Book(
    title="é",
    price=Decimal("1.234"),
    seen={dt.date(2024, 2, 29)},
    tags=[Tag(name="a")],
    offer=Price(Decimal("9.999"), "€"),
    inStock=3,
)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class Kinds(Spider):
    name = "kinds"
    site: str

    async def start(self) -> Any:
        yield Request(self.site)

    async def parse(self, response: Response) -> Output:
        yield {"kind": "dict", "when": dt.date(2024, 1, 2), "none": None}
        yield collections.OrderedDict(kind="ordered")
        yield MappingProxyType({"kind": "mapping", "n": Decimal("1.50")})
        yield Tag(name="model")
        yield [Checked(n=1), (response.extract(Plain), response.extract(Typed))]
        yield BOOK


def test_every_kind_reaches_the_file(site: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    result = scraper.run(Kinds, site=site, settings=FAST, output=path)
    title = lines(path)[5]["title"]
    assert result.items == 8
    assert result.rejected == 0
    assert lines(path) == [
        {"kind": "dict", "when": "2024-01-02", "none": None},
        {"kind": "ordered"},
        {"kind": "mapping", "n": "1.50"},
        {"name": "model"},
        {"n": 1},
        {"title": title, "tags": []},
        {"title": title},
        {
            "title": "é",
            "price": "1.234",
            "seen": ["2024-02-29"],
            "tags": [{"name": "a"}],
            "offer": {"amount": "9.999", "currency": "€"},
            "stock": 3,
            "size": 1,
        },
    ]


class Unfit(Spider):
    name = "unfit"
    site: str

    async def start(self) -> Any:
        yield Request(self.site)

    async def parse(self, response: Response) -> Any:
        yield Pair(1)


def test_named_tuples_are_refused_with_the_way_out(
    site: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("scraper"), "propagate", True)
    result = scraper.run(Unfit, site=site, settings=FAST)
    assert result.reasons == {"callback_error": 1}
    assert "not Pair; of a named tuple yield its _asdict()" in caplog.text
    with pytest.raises(UsageError) as caught:
        record(Pair(1))
    assert "_asdict()" in caught.value.hint


# Half-built items


class Detail(Item):
    book: Book
    title: Annotated[str, Css("h1")]


class Handing(Spider):
    name = "handing"
    site: str
    given: ClassVar[list[Any]] = []

    async def start(self) -> Any:
        yield Request(self.site)

    async def parse(self, response: Response) -> Output:
        link = response.links("article.product_pod h3 a")[0]
        kwargs = {"book": BOOK, "plain": Plain("t", [Tag(name="x")]), "day": dt.date(2024, 1, 2)}
        yield response.follow(link, self.parse_detail, kwargs=kwargs, meta={"book": BOOK})

    async def parse_detail(
        self, response: Response, book: Book, plain: Plain, day: dt.date | None = None
    ) -> Output:
        self.given.extend((book, plain, day, response.meta["book"]))
        book.tags.append(Tag(name="detail"))
        yield book


@pytest.mark.parametrize("job", [None, "kept"])
def test_half_built_items_arrive_as_what_they_were(
    site: str, tmp_path: Path, job: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Handing, "given", [])
    (tmp_path / "config.toml").write_text("")
    path = tmp_path / "a.jsonl"
    result = scraper.run(Handing, site=site, settings=FAST, output=path, job=job)
    assert result.items == 1
    assert result.reasons == {}
    book, plain, day, meta = Handing.given
    assert isinstance(book, Book)
    assert book == BOOK.model_copy(update={"tags": [*BOOK.tags, Tag(name="detail")]})
    assert plain == Plain("t", [Tag(name="x")])
    assert day == dt.date(2024, 1, 2)
    assert meta["price"] == "1.234"
    assert [tag["name"] for tag in lines(path)[0]["tags"]] == ["a", "detail"]


def test_what_is_handed_on_is_a_snapshot() -> None:
    book = BOOK.model_copy(deep=True)
    request = Request("http://h/", kwargs={"book": book, "more": [{"deep": book}]})
    book.title = "changed"
    assert request.kwargs["book"]["title"] == "é"
    assert request.kwargs["more"][0]["deep"]["title"] == "é"
    assert Request.load(request.dump()) == request
    changed = request.replace(kwargs={"book": book})
    assert changed.kwargs["book"]["title"] == "changed"


def test_an_invalid_item_is_not_handed_on() -> None:
    invalid = Invalid(Book, ItemInvalid("Book", "http://h/", [], {}))
    for kwargs in ({"book": invalid}, {"books": [{"x": invalid}]}):
        with pytest.raises(ItemInvalid):
            Request("http://h/", kwargs=kwargs)
    with pytest.raises(ItemInvalid):
        Response("http://h/").follow("/x", kwargs={"book": invalid})


@pytest.mark.parametrize("value", [object(), lambda: 0, b"\xff", {"a": [object()]}, Response("x")])
def test_a_kwarg_that_json_cannot_hold_is_named(value: Any) -> None:
    with pytest.raises(UsageError, match="must be JSON values, and 'what' is not"):
        Request("http://h/", kwargs={"fine": 1, "what": value})
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UsageError, match="'what'"):
        Request("http://h/", meta={"what": endless})


async def test_a_half_built_item_that_does_not_fit_is_named() -> None:
    bound = Callbacks(Handing(site="http://h/"))["parse_detail"]
    kwargs = Request("http://h/", kwargs={"book": {"title": "x", "price": "y"}}).kwargs
    with pytest.raises(ValueError, match=r"parse_detail\(book\.price=…\): .*'y'"):
        bound.call(Response("http://h/"), kwargs)


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), plain_values, max_size=4))
def test_json_values_are_handed_on_as_they_are(values: dict[str, Any]) -> None:
    request = Request("http://h/", kwargs=values)
    assert Request.load(request.dump()).kwargs == values


@given(
    st.builds(
        Book,
        title=st.text(),
        price=st.decimals(allow_nan=False, allow_infinity=False),
        seen=st.sets(st.dates(), max_size=3),
        tags=st.lists(st.builds(Tag, name=st.text()), max_size=2),
        offer=st.none() | st.builds(Price, st.decimals(allow_nan=False, allow_infinity=False)),
    )
)
def test_items_survive_the_way_through_json(book: Book) -> None:
    kwargs = Request.load(Request("http://h/", kwargs={"book": book}).dump()).kwargs
    assert Book.model_validate(kwargs["book"], by_name=True) == book
    assert json.loads(encode(book)) == {**kwargs["book"], "size": len(book.title)}


# What was assigned must fit


def test_assigned_values_are_validated_before_they_are_written() -> None:
    book = BOOK.model_copy(deep=True)
    book.price = "2.50"  # type: ignore[assignment]
    book.stock = "7"  # type: ignore[assignment]
    book.seen = ["2024-01-01"]  # type: ignore[assignment]
    book.tags.append({"name": "b"})  # type: ignore[arg-type]
    assert json.loads(encode(book)) == {
        **json.loads(encode(BOOK)),
        "price": "2.50",
        "stock": 7,
        "seen": ["2024-01-01"],
        "tags": [{"name": "a"}, {"name": "b"}],
    }
    assert record(book)["price"] == Decimal("2.50")


def test_assigned_values_that_do_not_fit_are_rejected() -> None:
    book = BOOK.model_copy(deep=True)
    book.price = "cheap"  # type: ignore[assignment]
    book.tags[0].name = 3  # type: ignore[assignment]
    for written in (encode, record):
        with pytest.raises(ItemInvalid) as caught:
            written(book)
        assert caught.value.reason == "item_invalid"
        assert [(e["field"], e["value"]) for e in caught.value.errors] == [
            ("price", "cheap"),
            ("tags.0.name", 3),
        ]
        assert "Book: price: " in caught.value.message
    checked = Checked(n=1)
    checked.n = "x"  # type: ignore[assignment]
    with pytest.raises(ItemInvalid, match="n: "):
        encode(checked)


def test_defaults_that_do_not_fit_are_the_models_own_affair() -> None:
    class Sloppy(Item):
        price: Decimal = None  # type: ignore[assignment]
        stock: int = "?"  # type: ignore[assignment]

    assert encode(Sloppy()) == b'{"price":null,"stock":"?"}'
    sloppy = Sloppy()
    sloppy.price = "1.5"  # type: ignore[assignment]
    assert encode(sloppy) == b'{"price":"1.5","stock":"?"}'


def test_items_that_fit_are_not_validated_again() -> None:
    class Once(Item):
        n: int

        @field_validator("n", mode="before")
        @classmethod
        def read(cls, value: str) -> int:
            return int(value.removeprefix("#"))  # an int has no removeprefix

    once = Once(n="#3")
    once.n = 4
    assert encode(once) == b'{"n":4}'


class Assigning(Spider):
    name = "assigning"
    site: str

    async def start(self) -> Any:
        yield Request(self.site, meta={"category": "x"})

    async def parse(self, response: Response) -> Output:
        book = BOOK.model_copy()
        book.price = "cheap"  # type: ignore[assignment]
        yield book
        yield response.extract(Wanting)
        yield response.extract(Wanting, "article.none")


class Wanting(Item):
    a: Annotated[str, Css("dd.none", "dt.none")]
    b: Annotated[str, XPath("//dd[@none]")]
    c: Annotated[str, Json("x", type="Nothing")]
    d: Annotated[int, Meta("category")]
    e: Annotated[int, Url(re=r"\w+")]


def test_what_does_not_fit_is_in_the_rejected_file_and_in_the_log(
    site: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("scraper"), "propagate", True)
    result = scraper.run(Assigning, site=site, settings=FAST, output=tmp_path / "a.jsonl")
    assert (result.items, result.rejected, result.ended) == (0, 3, "failed")
    assigned, wanting, nowhere = lines(tmp_path / "a.rejected.jsonl.failed")
    assert assigned["reason"] == "item_invalid"
    assert assigned["item"] == "Book"
    assert assigned["errors"][0]["field"] == "price"
    assert assigned["errors"][0]["value"] == "cheap"
    assert assigned["values"]["title"] == "é"
    assert assigned["url"] == site
    assert {e["field"]: (e["selectors"], e["value"]) for e in wanting["errors"]} == {
        "a": (["dd.none", "dt.none"], None),
        "b": (["//dd[@none]"], None),
        "c": (["Json('x', type='Nothing')"], None),
        "d": (["Meta('category')"], "x"),
        "e": (["Url(re='\\\\w+')"], "http"),
    }
    (error,) = nowhere["errors"]
    assert error["message"] == (
        "extract(Wanting, 'article.none'): nothing on the page matches 'article.none'"
    )
    for said in (
        "a: nothing on the page matches 'dd.none', 'dt.none'",
        "b: nothing on the page matches '//dd[@none]'",
        "got 'x' by \"Meta('category')\"",
        f"Wanting at {site}: extract(Wanting, 'article.none'): nothing",
    ):
        assert said in caplog.text
