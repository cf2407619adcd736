from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.errors import ExtractionError, UsageError
from scraper.guard import MAX_ATTRIBUTES, MAX_OPTIONS, no_html, suspicion
from scraper.http import Response
from scraper.select import Document, Selector, compile_css

PAGE = Document.of("""
<body id=top>
<div class=a><p>one <b>two</b>  three</p><p title="t">four</p></div>
<ul><li><a href="/1">x</a><li><a href="/2" rel>y</a><li>z</ul>
<img src="i.png">
""")


def test_elements_and_strings() -> None:
    assert PAGE.css("li a").getall() == ['<a href="/1">x</a>', '<a href="/2" rel="">y</a>']
    assert PAGE.css("a::text").getall() == ["x", "y"]
    assert PAGE.css("a::attr(href)").getall() == ["/1", "/2"]
    assert PAGE.css("a::attr( HREF )").get() == "/1"
    assert PAGE.css("p").text == "one two three"
    assert PAGE.css("p")[0].raw_text == "one two  three"
    assert PAGE.css("p::text").getall() == ["one ", "  three", "four"]
    assert PAGE.css("p ::text").getall() == ["one ", "two", "  three", "four"]
    assert PAGE.css("p")[0].css("::text").getall() == ["one ", "two", "  three"]
    assert PAGE.css("li")[0].css("::attr(href)").getall() == ["/1"]
    assert PAGE.css("ul ::attr(href)").getall() == ["/1", "/2"]
    assert PAGE.css("div > ::text").getall() == ["one ", "  three", "four"]


def test_lists_of_parts_come_in_document_order_and_once() -> None:
    assert [s.tag for s in PAGE.css("p, .a, div, [title]")] == ["div", "p", "p"]
    mixed = PAGE.css("img::attr(src), a::attr(href), b::text, b")
    assert mixed.getall() == ["<b>two</b>", "two", "/1", "/2", "i.png"]
    assert PAGE.css('a[href="/1,2"], a:is([rel], b)::attr(href)').getall() == ["/2"]


def test_what_is_missing() -> None:
    none = PAGE.css("h1")
    assert not none
    assert len(none) == 0
    assert none.get() is None
    assert none.get("?") == "?"
    assert (none.text, none.html, dict(none.attrib), none.getall()) == ("", "", {}, [])
    assert PAGE.css("li::attr(href)").get() is None
    assert none.css("a").getall() == []
    assert PAGE.css("a::text").css("b").getall() == []


def test_lists_behave_as_sequences() -> None:
    items = PAGE.css("li")
    assert len(items[1:]) == 2
    assert items[-1].text == "z"
    assert [item.css("a::attr(href)").get("-") for item in items] == ["/1", "/2", "-"]
    assert items.css("a::text").getall() == ["x", "y"]
    with pytest.raises(IndexError):
        items[3]


def test_attributes() -> None:
    assert PAGE.css("a")[1].attrib == {"href": "/2", "rel": ""}
    assert PAGE.css("a").attrib["href"] == "/1"
    assert "title" not in PAGE.css("a").attrib
    assert PAGE.attrib == {}
    assert PAGE.tag == "html"


def test_regular_expressions() -> None:
    assert PAGE.css("a::attr(href)").re(r"\d") == ["1", "2"]
    assert PAGE.css("a::attr(href)").re(r"(/)(\d)") == ["/", "1", "/", "2"]
    assert PAGE.css("a").re_first(r"href=\"(.*?)\"") == "/1"
    assert PAGE.css("a")[1].re_first("nothing") is None
    assert PAGE.css("a").re_first("nothing", "?") == "?"
    with pytest.raises(UsageError, match="regular expression"):
        PAGE.css("a").re("(")


@pytest.mark.parametrize("wrong", ["a[", "", "  ", "p::", "a:contains(x)", ">", "\ud800", "a,,b"])
def test_a_wrong_selector_is_named(wrong: str) -> None:
    with pytest.raises(UsageError, match="CSS selector") as caught:
        PAGE.css(wrong)
    assert repr(wrong) in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "way_out"),
    [("td:contains('x')", "lexbor-contains"), (":scope > li", "./li"), ("> li", "./li")],
)
def test_the_way_out_of_what_others_know(wrong: str, way_out: str) -> None:
    with pytest.raises(UsageError) as caught:
        PAGE.css(wrong)
    assert way_out in caught.value.hint


@pytest.mark.parametrize(
    ("name", "here"),
    [("extract", "getall()"), ("extract_first", "get()"), ("jmespath", "structured()")],
)
def test_parsels_other_names_are_explained(name: str, here: str) -> None:
    for owner in (PAGE.css("li"), PAGE.css("li")[0], PAGE):
        assert not hasattr(owner, name)
        with pytest.raises(AttributeError, match=f"no attribute '{name}': here it is") as caught:
            getattr(owner, name)
        assert here in str(caught.value)
    with pytest.raises(AttributeError, match=r"'SelectorList' object has no attribute 'gettall'$"):
        getattr(PAGE.css("li"), "gettall")  # noqa: B009


def test_nested_matches_give_their_strings_in_document_order() -> None:
    page = Document.of("<div x=1>a<div x=2>b<p>c</p>d</div>e</div>")
    assert page.css("div::text").getall() == ["a", "b", "d", "e"]
    assert page.css("*::text").getall() == ["a", "b", "c", "d", "e"]
    assert page.css("div ::text").getall() == ["a", "b", "c", "d", "e"]
    assert page.css("div *::text").getall() == ["a", "b", "c", "d", "e"]
    assert page.css("div > *::text").getall() == ["b", "c", "d"]
    assert page.css("p::text, div::attr(x), div::text").getall() == [
        "1",
        "a",
        "2",
        "b",
        "c",
        "d",
        "e",
    ]
    assert page.css("p, div ::text, p::text").getall()[2] == "<p>c</p>"
    assert page.css("div::attr(x), [x]::attr(x), div::attr(x)").getall() == ["1", "2"]
    assert page.css("div").css("p::text").getall() == ["c", "c"]  # inside each


def test_lists_are_added() -> None:
    both = PAGE.css("b") + PAGE.css("a::text")
    assert both.getall() == ["<b>two</b>", "x", "y"]
    assert len(PAGE.css("p") + PAGE.css("h1")) == 2


def test_documents_from_text() -> None:
    for page in (Selector.of("<p>ü"), Selector(text="<p>ü"), Document.of("<p>ü")):
        assert page.css("p::text").get() == "ü"
        assert page.tag == "html"
    assert Selector.of("\ud800\0").text == "?"
    assert Selector(text="").css("p").get() is None


def test_regular_expressions_on_elements() -> None:
    page = Document.of('<p>Price:&nbsp;5 &gt; 4 &amp; "x"</p>')
    assert page.css("p").re(r"Price:\s(\d)") == ["5"]
    assert page.css("p")[0].re(r"5.*") == ['5 > 4 &amp; "x"</p>']
    assert page.css("p::text").re("(x)|(y)|Price") == ["", "", "x", ""]


def test_a_list_makes_selectors_when_they_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def count(self: Selector, value: str = "", *, text: str | None = None) -> None:
        nonlocal made
        made += 1
        self._value = value

    page = Document.of("<a href=1>x</a>" * 1_000)
    monkeypatch.setattr(Selector, "__init__", count)
    links = page.css("a")
    assert len(links) == 1_000
    assert links
    assert len(links[10:20]) == 10
    assert len(links.css("::attr(href)").getall()) == 1_000
    assert made == 0
    assert links[5].get() == '<a href="1">x</a>'
    assert made == 1


def test_nested_text_is_collected_once() -> None:
    """Two thousand elements in each other: each text is visited once, not once for each."""
    depth = 2_000
    page = Document(b"<div>x" * depth, checked=True)
    for query in ("div::text", "*::text", "div ::text", "div *::text", "div::text, p::text"):
        assert page.css(query).getall() == ["x"] * depth
    assert len(page.css("div").text) == depth
    assert len(page.css("div")) == depth
    assert sum(map(len, page.css("div").getall())) > depth * depth  # what getall() warns of


def test_a_large_page() -> None:
    page = Document(b"<ul>" + b"<li class=a><a href=/x>some text</a></li>\n" * 120_000 + b"</ul>")
    assert len(page.css("li.a > a::attr(href)")) == 120_000
    assert len(page.css("li ::text").getall()) == 120_000
    assert page.css("li:last-child a").text == "some text"


@given(st.text(st.sampled_from("ab.#[]()='\":,>+~* \\::text::attr(x)éÿ\0"), max_size=14))
def test_no_selector_breaks_anything(selector: str) -> None:
    try:
        found = PAGE.css(selector).getall()
    except UsageError:
        return
    assert all(isinstance(text, str) for text in found)
    assert compile_css(selector)


@given(st.binary(max_size=200))
def test_no_page_breaks_anything(body: bytes) -> None:
    page = Document(b"<p title='" + body)
    assert page.text.encode() is not None
    assert page.html.encode() is not None
    for selector in page.css("*"):
        assert all(value.encode() is not None for value in selector.attrib.values())
        assert selector.text.encode() is not None
        assert repr(selector)


def test_an_empty_page_is_an_empty_document() -> None:
    page = Document(b"")
    assert page.text == ""
    assert page.css("p").getall() == []


def test_invalid_bytes_are_replacement_characters() -> None:
    page = Document(b"<p title='\xff'>caf\xe9</p>")
    assert page.css("p").text == "caf�"
    assert page.css("p::attr(title)").get() == "�"
    assert page.css("p::text").get() == "caf�"


def test_repr() -> None:
    assert repr(PAGE.css("b")[0]) == "<Selector b '<b>two</b>'>"
    assert repr(PAGE.css("b::text")[0]) == "<Selector 'two'>"
    assert repr(PAGE.css("b")) == "<SelectorList of 1: [<Selector b '<b>two</b>'>]>"
    assert len(repr(Selector("x" * 1000))) < 100


# The guard


def _formatting(elements: int, paragraphs: int) -> bytes:
    return b"<p>" + b"".join(b"<b a%d>" % n for n in range(elements)) + b"<p>x" * paragraphs


def _ordinary(paragraphs: int) -> bytes:
    return b"<div class=x><p>Some <a href='/x'>link</a> and <em>more</em>.</p></div>\n" * paragraphs


SHAPES = {
    "nested": b"<div>" * 100_000,
    "nested a little": b"<table><tr><td>" * 1_100,
    "nested, closed": b"<div>" * 50_000 + b"</div>" * 50_000,
    "nested, with fake ends": b"<div></x>" * 50_000,
    "nested, with ends of another": b"<i>" + b"<div></i>" * 100_000,
    "upper case": b"<DIV>" * 100_000,
    "attributes": b"<a " + b" ".join(b"a%d" % i for i in range(50_000)) + b">",
    "attributes, never closed": b"<a " + b" ".join(b"a%d=1" % i for i in range(50_000)),
    "attributes, with tags in quotes": b"<a "
    + b" ".join(b"a%d" % i + b'="<>"' * (i % 100 == 0) for i in range(50_000)),
    "options": b"<select>" + b"<option>a" * 20_000,
    "end tags below formatting": b"<b>" * 3 + b"<div>" * 25_000 + b"</b>" * 25_000,
    "formatting that ends nothing": b"".join(b"<i x=%d><p></x></x>" % i for i in range(2_500)),
    "formatting, then paragraphs": _formatting(500, 15_000),
    "formatting in an ordinary page": _ordinary(2_000) + _formatting(1_000, 15_000),
    "equal formatting, many paragraphs": b"<p>"
    + b"<b><big><em><i><s><u><tt>" * 3
    + b"<p>x" * 120_000,
    "formatting": b"".join(b"<i x=%d><p>" % i for i in range(2_500)),
    "formatting in few bytes": b"".join(b"<b x=%d>" % i for i in range(1_500)) + b"<p>" * 9_000,
    "tags": b"<p>" * 3_000_000,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_quadratic_shapes_are_refused(shape: str) -> None:
    with pytest.raises(ExtractionError) as caught:
        Document(SHAPES[shape])
    assert caught.value.reason == "parse_limit"


HARMLESS = {
    "many rows": b"<table>" + b"<tr><td>1<td><b class=x>2</b></tr>" * 20_000,
    "many icons": b"".join(b'<p><i class="icon i%d"></i></p>' % (i % 900) for i in range(9_000)),
    "a long attribute": b'<img src="data:' + b"A" * 1_000_000 + b'">',
    "nested": b"<div>" * 900 + b"x" + b"</div>" * 900,
    "unclosed": b"<p>x<br><li>y<img src=z>" * 5_000,
    "much text": b"<p>" + b"x y " * 500_000,
    "options": b"<select>" + b"<option>a" * (MAX_OPTIONS - 1),
    "script": b"<script>" + b"if (a < b) c();" * 50_000 + b"</script>",
    "attributes": b"<p " + b" ".join(b"a%d" % i for i in range(MAX_ATTRIBUTES // 4)) + b">",
    "icons": b"<svg viewBox='0 0 9 9'><path d='M0 0L9 9'/><circle r=1 /></svg>" * 3_000,
    "a comment": b"<!--" + b"-" * 5_000_000,
    "prose": (b"word " * 200 + b"<p>") * 500,
    "closed formatting": b"<p><b class=x>a</b><i>b</i><font color=red>c</font>" * 5_000,
}


@pytest.mark.parametrize("shape", HARMLESS)
def test_large_but_harmless_pages_are_parsed(shape: str) -> None:
    assert suspicion(HARMLESS[shape]) is None
    assert Document(HARMLESS[shape]).css("body")


def test_a_checked_page_passes() -> None:
    page = b"<div>" * 2_200 + b"x"
    with pytest.raises(ExtractionError):
        Document(page)
    assert Document(page, checked=True).text == "x"


# What is not HTML


NAMES = [
    *("html", "head", "body", "title", "h1", "a", "svg", "lineargradient", "math", "mi", "x1"),
    *("template", "td", "table", "select", "option", "image", "img", "frameset", "foreignobject"),
]


@given(
    st.lists(
        st.sampled_from([f"<{name}>" for name in NAMES])
        | st.sampled_from([f"</{name}>" for name in NAMES])
        | st.sampled_from([
            "<linearGradient>",
            "<H1 />",
            "<svg:h1>",
            "<my-h1>",
            "text",
            "<!--a-->",
        ]),
        max_size=12,
    ),
    st.sampled_from(NAMES),
)
def test_a_plain_name_finds_what_css_finds(parts: list[str], name: str) -> None:
    page = Document.of("".join(parts))
    found = [node.mem_id for node in page.parser.css(name)]
    assert [each.root.mem_id for each in page.css(name)] == found  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"a": 1}', "application/json; charset=utf-8"),
        (b"[]", "application/ld+json"),
        (b"\xff\xd8\xff\xe0JFIF", "text/html"),
        (b"\x89PNG\r\n\x1a\n....", ""),
        (b"%PDF-1.7", "application/pdf"),
        (b"\x00\x01\x02", "application/octet-stream"),
        (b"abc", "image/webp"),
    ],
)
def test_other_things_are_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(ExtractionError, match="http://h/ is not HTML") as caught:
        Response("http://h/", headers={"Content-Type": content_type}, body=body).document  # noqa: B018
    assert caught.value.reason == "not_html"
    assert "response.json()" in caught.value.hint


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"plain", ""),
        (b"plain", "text/plain"),
        (b"a\x00b", "text/html"),
        (b" \n<p>", "application/json"),
        (b"\xef\xbb\xbf<p>", "image/png"),
        (b"\xff\xfea\x00", "application/octet-stream"),
        (b"x", "application/xhtml+xml"),
        (b"x", "application/xml;charset=x"),
        (b"x", "application/rss+xml"),
    ],
)
def test_what_may_be_markup_is_accepted(body: bytes, content_type: str) -> None:
    assert no_html(body, content_type) == ""
    assert Document(body.replace(b"\0", b"")) is not None
