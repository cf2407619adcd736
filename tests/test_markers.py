"""Markers of every kind, their options, and models of every kind that carry them."""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypeVar

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    Field,
    PrivateAttr,
    RootModel,
    ValidationInfo,
    computed_field,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from scraper import Request, Response
from scraper.errors import ExtractionError, ItemInvalid, UsageError
from scraper.items import Css, Invalid, Item, Json, Meta, Url, XPath, extract
from scraper.paths import compile_path
from scraper.plans import plan_of
from scraper.select import Document

URL = "https://shop.example/p/17?x=1"
PRODUCT = {
    "@context": "https://schema.org",
    "@graph": [
        {"@type": "BreadcrumbList", "name": "crumbs"},
        {
            "@type": "Product",
            "name": "  Lamp ",
            "sku": 4711,
            "image": ["/a.png", "/b.png"],
            "color": "white",
            "offers": {"@type": "Offer", "price": "12.50", "priceCurrency": "EUR"},
            "review": [
                {"author": {"name": "Ann"}, "stars": 5, "replies": [{"author": "Bob"}]},
                {"author": {"name": "Cleo"}, "stars": 4, "more": "not asked for"},
            ],
            "nothing": None,
        },
    ],
}
HTML = f"""<base href="/base/"><h1>Lamp  of
 brass</h1><h2></h2><ul><li>one<li> <li>two</ul><a href=" x.html ">link</a>
<pre>  a
  b </pre><div class=r><b>Ann</b><i>5</i></div><div class=r><b>Bob</b><i>x</i></div>
<script type="application/ld+json">{json.dumps(PRODUCT)}</script>
<script id="__NEXT_DATA__" type="application/json">{{"props": {{"id": 9, "tags": ["x"]}}}}</script>
"""
META = {"category": "lamps", "a.b": 1, "deep": {"list": [{"x": 2}]}}
KWARGS = {"category": "lights", "n": None}


def page(body: str = HTML, content_type: str = "text/html", **options: Any) -> Response:
    request = Request(URL, meta=META, kwargs=KWARGS, **options)
    return Response(URL, 200, {"Content-Type": content_type}, body.encode(), request)


def api(value: Any) -> Response:
    return page(json.dumps(value), "application/json")


def one(annotation: Any, response: Response | None = None, **default: Any) -> Any:
    namespace = {"__annotations__": {"field": annotation}, "__module__": __name__}
    model = type("One", (Item,), {**namespace, **default})
    found: Any = (response or page()).extract(model)
    return found if isinstance(found, Invalid) else found.field


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        # options
        (Annotated[str, Css("pre", strip=False)], "  a\n  b "),
        (Annotated[str, Css("pre::text", strip=False)], "  a\n  b "),
        (Annotated[str, Css("a::attr(href)", strip=False)], " x.html "),
        (Annotated[str, Css("a::attr(href)", absolute=True)], "https://shop.example/base/x.html"),
        (Annotated[str, Css("pre", strip=False, re=r"\n(.*)")], "  b "),
        (Annotated[str, Css("li", join="|")], "one|two"),
        (Annotated[str, Css("li::text", join="|")], "one|two"),
        (Annotated[str | None, Css("dd", join="|")], None),
        (Annotated[str, Css("h2", join="|")], ""),
        (Annotated[str, Css("li", join="", re="o")], "oo"),
        (Annotated[str, Css("dd", default="none")], "none"),
        (Annotated[int, Css("dd", default=3)] | None, 3),
        (Annotated[list[int], Css("dd", default=[1])], [1]),
        # order
        (Annotated[str, Json("absent"), Css("dd"), Css("h1")], "Lamp of brass"),
        (Annotated[str, Css("dd"), Json("name", type="Product")], "Lamp"),
        (Annotated[str, Css("h2"), Css("dd"), Meta("category")], "lights"),
        (Annotated[str, Css("h2"), Css("dd")], ""),
        (Annotated[str, Css("dd"), Url()], URL),
        (Annotated[str, Css("dd")] | Annotated[str, Css("b")], "Ann"),
        (Annotated[list[str], Css("dd"), Json("image", type="Product")], ["/a.png", "/b.png"]),
        # XPath
        (Annotated[str, XPath("//dd", "//h1")], "Lamp of brass"),
        (Annotated[str, XPath("//a/@href", absolute=True)], "https://shop.example/base/x.html"),
        (Annotated[list[str], XPath("//li/text()")], ["one", "", "two"]),
        (Annotated[int, XPath("count(//li)", re=r"\d+")], 3),
        (Annotated[str, XPath("//li", join=",")], "one,two"),
        (Annotated[str, XPath("//pre", strip=False)], "  a\n  b "),
        (Annotated[str, XPath("//h2", "//b")], "Ann"),
        # Json
        (Annotated[str, Json("sku", type="Product")], "4711"),
        (Annotated[int, Json("sku", type="Product")], 4711),
        (Annotated[int | str, Json("sku", type="Product")], 4711),
        (Annotated[Decimal, Json("price", type="https://schema.org/Offer")], Decimal("12.50")),
        (Annotated[str, Json("image", type="Product")], "/a.png"),
        (Annotated[str, Json("image", type="Product", absolute=True)], "https://shop.example/a.png"),
        (Annotated[str, Json("image", type="Product", join=" ")], "/a.png /b.png"),
        (Annotated[list[str], Json("color", type="Product")], ["white"]),
        (Annotated[set[str], Json("review[].author.name", type="Product")], {"Ann", "Cleo"}),
        (Annotated[str, Json("sku", type="Product", re="7.")], "71"),
        (Annotated[int, Json("length(review)", type="Product")], 2),
        (Annotated[str | None, Json("nothing", type="Product")], None),
        (Annotated[str | None, Json("sum(@)", type="Product")], None),
        (Annotated[str | None, Json("name", type="Nothing")], None),
        (Annotated[int, Json("props.id")], 9),
        (Annotated[int, Json("props.id", script="__NEXT_DATA__")], 9),
        (Annotated[int, Json("props.id", script="#__NEXT_DATA__")], 9),
        (Annotated[dict[str, Any], Json("props")], {"id": 9, "tags": ["x"]}),
        (Annotated[Any, Json("props.tags")], ["x"]),
        (Annotated[list[Any], Json(script="__NEXT_DATA__")], [{"props": {"id": 9, "tags": ["x"]}}]),
        (Annotated[str | list[str], Json("image", type="Product")], ["/a.png", "/b.png"]),
        (Annotated[tuple[str, str], Json("image", type="Product")], ("/a.png", "/b.png")),
        (Annotated[str, Json('offers."@type"', type="Product")], "Offer"),
        # Meta and Url
        (Annotated[str, Meta("category")], "lights"),
        (Annotated[int, Meta("n", "a.b")], 1),
        (Annotated[int, Meta("deep.list.0.x")], 2),
        (Annotated[int | None, Meta("deep.list.7.x")], None),
        (Annotated[int | None, Meta("category.x")], None),
        (Annotated[Mapping[str, Any], Meta("deep")], {"list": [{"x": 2}]}),
        (Annotated[str, Url()], URL),
        (Annotated[int, Url(re=r"/p/(\d+)")], 17),
        (Annotated[int | None, Url(re=r"/q/(\d+)")], None),
    ],
)  # fmt: skip
def test_values(annotation: Any, value: Any) -> None:
    assert one(annotation) == value


def test_defaults_of_markers_go_before_those_of_fields() -> None:
    assert one(Annotated[int, Css("dd", default=1)], field=2) == 1
    assert one(Annotated[int, Css("dd")], field=2) == 2
    assert one(Annotated[int | None, Css("dd", default=None)], field=2) is None
    invalid = one(Annotated[int, Css("dd", default="x")])
    assert isinstance(invalid, Invalid), "defaults of markers are validated"


def test_a_default_is_not_shared_between_items() -> None:
    class Any_(Item):
        field: Annotated[Any, Css("dd", default=[])]

    first, second = page().extract(Any_), page().extract(Any_)
    first.field.append(1)
    assert second.field == []


# JSON responses


class Offer(Item):
    price: Decimal
    currency: str = Field(alias="priceCurrency", default="?")


class Lamp(Item):
    """Without any marker: the keys are the fields."""

    name: str
    offers: Offer
    colour: str = Field(validation_alias=AliasChoices("colour", AliasPath("colours", 0)))
    also: list[Lamp] = []


def test_a_json_response_is_where_json_looks() -> None:
    response = api({"product": {"name": "Lamp", "tags": ["a", None, "b"]}})
    assert one(Annotated[str, Json("product.name"), Css("h1")], response) == "Lamp"
    assert (
        one(Annotated[str, Json("product.no"), Css("html"), Meta("category")], response) == "lights"
    )
    assert one(Annotated[list[str], Json("product.tags")], response) == ["a", "b"]
    labelled_wrongly = page('{"product": {"name": "Lamp"}}')
    assert one(Annotated[str, Json("product.name")], labelled_wrongly) == "Lamp"
    with pytest.raises(ExtractionError) as caught:
        one(Annotated[str, Css("h1")], response)
    assert caught.value.reason == "not_html"
    with pytest.raises(ExtractionError) as caught:
        one(Annotated[str, Json("a")], page("{broken", "application/json"))
    assert caught.value.reason == "not_json"


def test_models_without_markers_take_json_as_it_is() -> None:
    lamp = {"name": "L", "offers": {"price": 1.5, "priceCurrency": "EUR", "@type": "Offer"},
            "colours": ["red"], "unknown": 1}  # fmt: skip
    response = api({"lamps": [{**lamp, "also": [lamp]}, lamp], "one": lamp})
    first, second = response.extract_all(Lamp, json="lamps[*]")
    assert (first.name, first.offers.price, first.offers.currency) == ("L", Decimal("1.5"), "EUR")
    assert first.colour == "red"
    assert first.also == [second]
    assert response.extract(Lamp, json="one") == second
    assert response.extract(Lamp, json="lamps") == first
    assert response.extract_all(Lamp, json="one") == [second]
    assert response.extract_all(Lamp, json="none") == []
    wrong = api({"one": {"name": "L", "offers": {"price": "x"}, "colours": ["red"]}})
    invalid = wrong.extract(Lamp, json="one")
    assert isinstance(invalid, Invalid)
    assert invalid.error.errors[0]["field"] == "offers.price"
    not_objects: list[Any] = api(["text", 3]).extract_all(Lamp, json="@")
    assert [type(item) for item in not_objects] == [Invalid, Invalid]


def test_plain_models_get_the_whole_object() -> None:
    class Camel(BaseModel):
        full_name: str = Field(alias="fullName")

        @model_validator(mode="before")
        @classmethod
        def unwrap(cls, value: Any) -> Any:
            return {"fullName": value["name"]["full"]}

    class Holder(Item):
        who: Annotated[Camel, Json("who")]
        all: Annotated[list[Camel], Json("all")]

    someone = {"name": {"full": "Ann"}}
    holder = api({"who": someone, "all": someone}).extract(Holder)
    assert holder.who.full_name == "Ann"
    assert [each.full_name for each in holder.all] == ["Ann"]


class Reply(Item):
    author: Annotated[str, Json("author")]
    replies: Annotated[list[Reply], Json("replies")]


class Review(Item):
    author: Annotated[str, Json("author.name", "author")]
    stars: Annotated[int, Json("stars")]
    replies: Annotated[list[Reply], Json("replies")]
    page: Annotated[str, Url()]
    brand: Annotated[str, Json("color", type="Product")]


def test_nested_items_in_json_have_paths_of_their_own() -> None:
    class Product(Item):
        title: Annotated[str, Css("h1")]
        reviews: Annotated[list[Review], Json("review", type="Product")]
        best: Annotated[Review | None, Json("review", type="Product")]
        none: Annotated[Review | None, Json("nothing", type="Product")]

    product = page().extract(Product)
    assert [(r.author, r.stars, r.page, r.brand) for r in product.reviews] == [
        ("Ann", 5, URL, "white"),
        ("Cleo", 4, URL, "white"),
    ]
    assert [reply.author for reply in product.reviews[0].replies] == ["Bob"]
    assert product.best == product.reviews[0]
    assert product.none is None


def test_json_within_an_element_is_the_pages() -> None:
    class Row(Item):
        who: Annotated[str, Css("b")]
        colour: Annotated[str, Json("color", type="Product")]

    rows = page().extract_all(Row, ".r")
    assert [(row.who, row.colour) for row in rows] == [("Ann", "white"), ("Bob", "white")]


def test_errors_in_json_name_their_paths() -> None:
    class Product(Item):
        reviews: Annotated[list[Review], Json("reviews")]

    invalid = api({"reviews": [{"author": "Ann", "stars": "x"}, "text"]}).extract(Product)
    assert isinstance(invalid, Invalid)
    found = {e["field"]: (e["selectors"], e["value"]) for e in invalid.error.errors}
    assert found["reviews.0.stars"] == (["Json('stars')"], "x")
    assert found["reviews.0.brand"] == (["Json('color', type='Product')"], None)
    assert found["reviews.1"] == (["Json('reviews')"], "text")


def test_css_cannot_look_into_json() -> None:
    class Row(Item):
        who: Annotated[str, Css("b")]

    class Product(Item):
        rows: Annotated[list[Row], Json("rows")]

    with pytest.raises(UsageError, match=r"Row\.who: Css\('b'\) looks for elements"):
        api({"rows": []}).extract(Product)
    with pytest.raises(UsageError, match="reached through JSON"):
        api([]).extract_all(Row, json="@")

    class Both(Item):
        who: Annotated[str, Css("b"), Json("name")]

    assert api([{"name": "Ann"}]).extract_all(Both, json="@") == [Both(who="Ann")]


def test_a_plan_that_fails_is_not_kept() -> None:
    class Outer(Item):
        inner: Annotated[list[Inner2], Json("inner")]
        bad: Annotated[str, Css("b")]

    Outer.model_rebuild(_types_namespace={"Inner2": Inner2})
    for _ in range(2):
        with pytest.raises(UsageError):
            plan_of(Outer, "data")
    assert api({"inner": [{"x": 1}]}).extract_all(Inner2, json="inner")[0].x == 1


class Inner2(Item):
    x: Annotated[int, Json("x")]


def test_endless_json_is_an_error() -> None:
    value: Any = {"author": "a", "replies": []}
    for _ in range(400):
        value = {"author": "a", "replies": [value]}
    response = api(None)
    response.__dict__["data"] = (value,)
    with pytest.raises(ExtractionError) as caught:
        response.extract(Reply)
    assert caught.value.reason == "parse_limit"


# extract and extract_all


class Named(Item):
    who: Annotated[str, Css("b")]


def test_where_to_extract_from() -> None:
    response = page()
    assert response.extract(Named, ".r").who == "Ann"
    assert response.extract(Named, xpath="//div[2]").who == "Bob"
    assert [n.who for n in response.extract_all(Named, xpath="//div")] == ["Ann", "Bob"]
    for wrong in (
        lambda: response.extract(Named, ".r", xpath="//div"),
        lambda: response.extract_all(Named),
        lambda: response.extract_all(Named, json="a["),
    ):
        with pytest.raises(UsageError):
            wrong()


def test_a_selector_that_matches_nothing_is_one_error() -> None:
    response = page()
    for how, said in (
        ({"css": "article"}, "extract(Named, 'article')"),
        ({"xpath": "//article"}, "extract(Named, xpath='//article')"),
        ({"json": "articles"}, "extract(Review, json='articles')"),
    ):
        invalid: Any = response.extract(Review if "json" in how else Named, **how)
        assert isinstance(invalid, Invalid)
        (error,) = invalid.error.errors
        (tried,) = how.values()
        assert error["message"] == f"{said}: nothing on the page matches '{tried}'"
        assert error["selectors"] == [tried]
        assert invalid.error.message.endswith(error["message"])
        assert response.extract_all(Review if "json" in how else Named, **how) == []


def test_models_without_selectors_on_elements_do_not_parse_the_page() -> None:
    class Light(Item):
        url: Annotated[str, Url()]
        category: Annotated[str, Meta("category")]

    response = page("\x00\x01binary", "image/png")
    assert response.extract(Light) == Light(url=URL, category="lights")
    assert "document" not in vars(response)


def test_xml_is_read_as_xml_by_xpath() -> None:
    class Entry(Item):
        link: Annotated[str, XPath("link")]

    class Feed(Item):
        entries: Annotated[list[Entry], XPath("//item")]

    feed = page(
        "<?xml version='1.0'?><rss><item><link>a</link></item><item><link>b</link></item></rss>",
        "application/xml",
    )
    assert [entry.link for entry in feed.extract(Feed).entries] == ["a", "b"]


# What is said when it fails


def test_every_kind_of_marker_says_what_was_tried() -> None:
    class Wanting(Item):
        a: Annotated[str, Css("dd", "dt")]
        b: Annotated[str, XPath("//dd")]
        c: Annotated[str, Json("x", "y", type="Product")]
        d: Annotated[str, Json("z", script="s")]
        e: Annotated[str, Meta("m.n")]
        f: Annotated[str, Url(re="no")]
        g: Annotated[int, Json("props.nope"), Css("h1"), Meta("m")]

    invalid = page().extract(Wanting)
    assert isinstance(invalid, Invalid)
    tried = {e["field"]: e["selectors"] for e in invalid.error.errors}
    assert tried == {
        "a": ["dd", "dt"],
        "b": ["//dd"],
        "c": ["Json('x', type='Product')", "Json('y', type='Product')"],
        "d": ["Json('z', script='s')"],
        "e": ["Meta('m.n')"],
        "f": ["Url(re='no')"],
        "g": ["Json('props.nope')", "h1", "Meta('m')"],
    }
    said = str(invalid.error)
    assert f"Wanting at {URL}: a: nothing on the page matches 'dd', 'dt'; " in said
    assert "got 'Lamp of brass' by \"Json('props.nope')\", 'h1'" in said


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (Annotated[list[str], Css("li", join=" ")], "the field is a list"),
        (Annotated[str, Css("a", default=1), Css("b", default=2)], "several of its markers"),
        (list[Annotated[str, Json("a")]], "inside a container"),
        (Annotated[str, Css], "Css needs to be told where to look"),
        (Annotated[Review, Json("a", re="x")], "needs elements"),
        (Annotated[Review | Reply, XPath("//a")], "cannot choose between Review | Reply"),
    ],
)
def test_misplaced_markers(annotation: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("|", r"\|")):
        type("Wrong", (Item,), {"__annotations__": {"field": annotation}, "__module__": __name__})


def test_json_cannot_choose_between_marked_items() -> None:
    class Choice(Item):
        what: Annotated[Review | Reply, Json("a")]

    with pytest.raises(UsageError, match=r"Choice\.what: a selector cannot choose"):
        api({}).extract(Choice)


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]
    barks: bool = Field(alias="doesBark")


def test_unions_of_plain_models_are_pydantics() -> None:
    class Pet(Item):
        pet: Annotated[Cat | Dog, Field(discriminator="kind"), Json("pet")]

    assert isinstance(api({"pet": {"kind": "cat"}}).extract(Pet).pet, Cat)
    dog = api({"pet": {"kind": "dog", "doesBark": True}}).extract(Pet).pet
    assert isinstance(dog, Dog)
    assert dog.barks


def test_wrong_markers() -> None:
    for wrong in (
        lambda: Json(),
        lambda: Json("a["),
        lambda: Json("@type"),
        lambda: Json("a", type="b", script="c"),
        lambda: Meta(),
        lambda: Meta(""),
        lambda: XPath(),
        lambda: XPath("//["),
        lambda: Url(re="("),
    ):
        with pytest.raises(UsageError):
            wrong()
    with pytest.raises(UsageError) as caught:
        Json("@type")
    assert "double quotes" in caught.value.hint


def test_reprs_are_what_was_written() -> None:
    for marker in (
        Css("a", "b", re="x", absolute=True, strip=False, join=",", default=1),
        XPath("//a", default=None),
        Json("a", type="P"),
        Json(script="s"),
        Meta("a.b"),
        Url(re="x"),
    ):
        assert repr(eval(repr(marker))) == repr(marker)
    assert repr(Json("a", type="P")) == "Json('a', type='P')"


def test_without_lxml_xpath_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "scraper.xpath", raising=False)
    monkeypatch.delattr("scraper.xpath", raising=False)
    monkeypatch.setitem(sys.modules, "lxml", None)
    with pytest.raises(UsageError) as caught:
        XPath("//a")
    assert "scraper-framework[xpath]" in caught.value.hint


@pytest.mark.parametrize("path", ["a", "a.b", "a.b.c", "_x", "a[0]", "a.b[*].c", "keys(@)"])
@pytest.mark.parametrize("value", [None, 1, "x", [], {}, {"a": 1}, {"a": {"b": {"c": 0}}}, [[1]]])
def test_plain_paths_mean_what_jmespath_means(path: str, value: Any) -> None:
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        expected = jmespath.search(path, value)
    except JMESPathError:
        expected = None
    assert compile_path(path)(value) == expected


# Models of every kind


@dataclass
class Point:
    x: Annotated[int, Css("i", re=r"\d+")]
    labels: Annotated[list[str], Css("b")] = field(default_factory=list)
    note: str = "?"
    made: str = field(init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Slotted:
    where: Annotated[Point, Css(".r")]


@pydantic_dataclass
class Checked:
    x: Annotated[int, Css("i"), Field(ge=5)]


class Loose(TypedDict):
    who: Annotated[str, Css("b")]
    stars: NotRequired[Annotated[int, Css("dd")]]
    points: Annotated[list[Point], Css(".r")]


def test_dataclasses_and_typed_dicts() -> None:
    response = page(HTML.replace(">x<", ">6<"))
    assert response.extract(Point) == Point(5, ["Ann", "Bob"])
    assert response.extract(Slotted) == Slotted(Point(5, ["Ann"]))
    assert response.extract_all(Checked, ".r") == [Checked(5), Checked(6)]
    assert response.extract(Loose) == {
        "who": "Ann",
        "points": [Point(5, ["Ann"]), Point(6, ["Bob"])],
    }
    invalid = page().extract_all(Checked, ".r")[1]
    assert isinstance(invalid, Invalid)
    with pytest.raises(ItemInvalid):
        _ = invalid.x
    nobody: Any = page("<p>").extract(Loose)
    assert isinstance(nobody, Invalid)
    with pytest.raises(ItemInvalid):
        _ = nobody["who"]
    nobody["who"] = "kept"
    assert nobody.error.raw["who"] == "kept"
    with pytest.raises(KeyError):
        _ = nobody["nonsense"]


def test_json_fills_dataclasses_as_they_are() -> None:
    @dataclass
    class Size:
        w: int
        h: int = 1

    class Box(Item):
        size: Annotated[Size, Json("size")]

    Box.model_rebuild(_types_namespace={"Size": Size})
    assert api({"size": {"w": 3, "x": 0}}).extract(Box).size == Size(3)


def test_what_is_no_model() -> None:
    class Tupled(NamedTuple):
        x: int

    for wrong in (int, Tupled, object):
        with pytest.raises(UsageError):
            page().extract(wrong)


T = TypeVar("T")


class Envelope(Item, Generic[T]):
    content: Annotated[T, Css("h1", "dd")]


def test_generics() -> None:
    assert page().extract(Envelope[str]).content == "Lamp of brass"
    assert isinstance(page().extract(Envelope[int]), Invalid)


def test_the_rest_of_pydantic() -> None:
    class Base(Item):
        title: Annotated[str, Css("h1")]
        made: list[int] = Field(default_factory=list)
        _seen: int = PrivateAttr(default=3)

        @field_validator("title", mode="before")
        @classmethod
        def before(cls, value: str, info: ValidationInfo) -> str:
            assert info.context is not None
            assert info.context.url == URL
            return value + "!"

        @field_validator("title")
        @classmethod
        def after(cls, value: str) -> str:
            return value.upper()

        @computed_field  # type: ignore[prop-decorator]
        @property
        def size(self) -> int:
            return len(self.title)

        @model_validator(mode="after")
        def whole(self) -> Base:
            self.made.append(1)
            return self

    class Derived(Base):
        title: Annotated[str, Css("pre")]
        link: Annotated[str, Css("a"), Field(alias="href", max_length=10)]

    assert page().extract(Base).model_dump() == {"title": "LAMP OF BRASS!", "made": [1], "size": 14}
    derived = page().extract(Derived)
    assert (derived.title, derived.link, derived._seen) == ("A B!", "link", 3)


def test_models_made_in_functions() -> None:
    class Row(Item):
        who: Annotated[str, Css("b")]

    class Table(Item):
        rows: Annotated[list[Row], Css(".r")]

    assert [row.who for row in page().extract(Table).rows] == ["Ann", "Bob"]


def test_root_models_are_values() -> None:
    class Tags(RootModel[list[str]]):
        pass

    assert one(Annotated[Tags, Json("props.tags")]).root == ["x"]


def test_extract_without_a_response() -> None:
    class Lone(Item):
        name: Annotated[str, Json("name", type="Product")]
        url: Annotated[str, Url()]
        meta: Annotated[str | None, Meta("x")]
        h1: Annotated[str, XPath("//h1")]

    document = Document.of(HTML)
    assert extract(Lone, document, "http://h/") == Lone(
        name="Lamp", url="http://h/", meta=None, h1="Lamp of brass"
    )
    nothing = extract(Lone, document.css("h1::text")[0], "http://h/")
    assert isinstance(nothing, Invalid)
    assert {error["field"] for error in nothing.error.errors} == {"name", "h1"}


def test_marker_as_default() -> None:
    """`title: str = Css("h1")` would else be an item whose title is the marker."""
    with pytest.raises(UsageError, match=r"title: Annotated\[str, Css\('h1'\)\]"):

        class Wrong(Item):
            title: str = Css("h1")  # type: ignore[assignment]

    @dataclass
    class Plain:
        title: str = Css("h1")  # type: ignore[assignment]

    with pytest.raises(UsageError, match="a marker is no value"):
        plan_of(Plain)


@pytest.mark.parametrize("given", ["article", list[Review], Review | None])
def test_extracts_classes_only(given: Any) -> None:
    with pytest.raises(UsageError, match=r"is no model\n.*class comes first"):
        plan_of(given)


@pytest.mark.parametrize("given", [(3,), (["h1", "h2"],), (" ",), ()])
def test_selectors_are_strings(given: tuple[Any, ...]) -> None:
    for marker in (Css, XPath, Json, Meta):
        with pytest.raises(UsageError, match="as strings"):
            marker(*given)


@pytest.mark.parametrize("option", ["css", "xpath"])
def test_extract_takes_selectors_as_strings(option: str) -> None:
    page = Response(URL, body=b"<h1>Lamp</h1>")
    found: Any = page.css("h1")
    for call in (page.extract, page.extract_all):
        for given in (found, found[0]):
            with pytest.raises(UsageError, match="a selector as a string"):
                call(Review, **{option: given})


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic reads them from 3.12 on")
def test_typed_dict_of_the_standard_library() -> None:
    kind = typing.TypedDict("kind", {"a": Annotated[str, Css("h1")]})  # noqa: UP013
    with pytest.raises(UsageError, match="from typing_extensions import TypedDict"):
        plan_of(kind)
