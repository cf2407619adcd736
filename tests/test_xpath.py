from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.errors import ExtractionError, UsageError
from scraper.guard import is_xml
from scraper.http import Response
from scraper.select import Document, Selector
from scraper.xpath import Twin, XmlDocument, compile_xpath

PAGE = Document.of("""<!-- first --><!doctype html>
<body id=top>
<div class="a b"><p>one <b>two</b><!-- c --> three</p><p title="t">four</p></div>
<ul><li><a href="/1" @click="go" :key=k>x</a><li><a href="/2" xmlns:q=3 {{z}}>y</a><li>z</ul>
<svg viewBox="0 0"><linearGradient id=g /></svg>
""")


def test_nodes_are_those_of_css() -> None:
    assert PAGE.xpath("//li/a").getall() == PAGE.css("li > a").getall()
    (first, _) = PAGE.xpath("//p")
    assert first.css("b::text").get() == "two"
    assert first.text == "one two three"
    assert PAGE.xpath("//p")[1].attrib == {"title": "t"}
    assert PAGE.css("ul").xpath("./li/a/@href").getall() == ["/1", "/2"]
    assert [li.xpath("string(a)").get() for li in PAGE.css("li")] == ["x", "y", ""]
    assert PAGE.css("b").xpath("ancestor::div/@class").get() == "a b"
    assert PAGE.css("p").xpath("//a").getall() == PAGE.css("a").getall() * 2
    assert PAGE.xpath("//a").css("::attr(href)").getall() == ["/1", "/2"]


def test_values_are_strings_as_in_parsel() -> None:
    assert PAGE.xpath("//p/text()").getall() == ["one ", " three", "four"]
    assert PAGE.xpath("count(//p)").get() == "2.0"
    assert PAGE.xpath("1 = 1").get() == "1"
    assert PAGE.xpath("1 = 2").get() == "0"
    assert PAGE.xpath("normalize-space(//p)").get() == "one two three"
    assert PAGE.xpath("//comment()").getall() == ["<!-- first -->", "<!-- c -->"]
    assert PAGE.xpath("//p/text()").xpath(".").getall() == ["one ", " three", "four"]
    assert PAGE.xpath("//p/text()").xpath("//p").getall() == []
    assert PAGE.xpath("//h1").get() is None
    assert PAGE.xpath("//h1").xpath("..").get("-") == "-"
    assert PAGE.xpath("namespace::*").getall() == ["http://www.w3.org/XML/1998/namespace"]


def test_the_root() -> None:
    assert PAGE.xpath("/html/body/@id").get() == "top"
    assert PAGE.xpath(".")[0].tag == "html"
    assert PAGE.xpath("..").getall() == []
    assert PAGE.xpath("/").getall() == []


def test_variables_functions_and_regular_expressions() -> None:
    assert PAGE.xpath("//a[@href = $url]/text()", url="/2").get() == "y"
    assert PAGE.xpath("//li[$n]/a/text()", n=2).get() == "y"
    assert PAGE.xpath("$query", query='it\'s "both"').get() == 'it\'s "both"'
    assert PAGE.xpath("//a[re:test(@href, '[2-9]')]/text()").get() == "y"
    assert PAGE.xpath("re:match(string(//ul), '[yz]')").getall() == ["y"]
    assert PAGE.xpath("re:replace('abc', 'b', '', '-')").get() == "a-c"
    assert len(PAGE.xpath("//*[has-class('b', 'a')]")) == 1
    assert PAGE.xpath("//*[has-class('b', 'c')]").getall() == []
    for _ in range(3):
        assert len(PAGE.xpath("set:difference(//li, //li[a])")) == 1


def test_names_that_xml_does_not_allow() -> None:
    assert PAGE.xpath("//a/@*[name() = '@click']").get() == "go"
    assert PAGE.xpath("//a/@*[name() = ':key']").get() == "k"
    assert PAGE.xpath("//a/@*[name() = 'xmlns:q']").get() == "3"
    assert PAGE.xpath("//svg/@viewbox").get() == "0 0"
    assert PAGE.xpath("//lineargradient").css("::attr(id)").get() == "g"
    odd = Document.of("<a<b \"x='1' a\x01b=\x02>t\x03\x00</a<b><o:p>u</o:p><p {urn:x}y=1>")
    assert odd.xpath("//*[text()]/text()").getall() == ["t\ufffd", "u"]
    assert odd.xpath("//p/@*").getall() == ["1"]


@pytest.mark.parametrize(
    "wrong",
    ["//p[", "", "//p[$missing]", "nothing()", "x:p", "\0", "\ud800", "re:test('a', '(')",
     "//p[has-class()]", "//p[has-class(1)]", "count('a')", "//p/@", "(" * 10_000],
)  # fmt: skip
def test_a_wrong_query_is_named(wrong: str) -> None:
    with pytest.raises(UsageError, match="XPath") as caught:
        PAGE.xpath(wrong)
    assert repr(wrong) in str(caught.value)


@pytest.mark.parametrize("value", [[1], {"a": 1}, object()])
def test_a_wrong_variable_is_named(value: object) -> None:
    with pytest.raises(UsageError, match="XPath"):
        PAGE.xpath("$v", v=value)


def test_variables_that_xml_cannot_hold() -> None:
    assert PAGE.xpath("$v", v="a\0\ud800").get() == "a\ufffd\ufffd"


def test_queries_are_compiled_once() -> None:
    assert compile_xpath("//a[1]") is compile_xpath("//a[1]")


def test_the_twin_is_grown_once_and_freed_with_the_page() -> None:
    page = Document.of("<p>x")
    assert page.xpath("//p").text == "x"
    twin = page.twin
    assert page.css("p").xpath("text()").get() == "x"
    assert page.twin is twin
    gc.disable()
    try:
        gone = weakref.ref(page)
        del page
        assert gone() is None  # no cycle holds it
    finally:
        gc.enable()


def test_a_selector_outlives_its_document() -> None:
    paragraph = Document.of("<div><p>x<b>y</b></p></div>").css("p")[0]
    assert paragraph.xpath("b/text()").get() == "y"
    assert paragraph.xpath("..")[0].tag == "div"
    assert Selector(text="<p>x").xpath("//p/text()").get() == "x"


def test_what_is_dropped_is_not_found() -> None:
    page = Document.of("<div>a<p>x</p>b<p>y</p></div>")
    assert len(page.xpath("//p")) == 2
    first = page.css("p")[0]
    first.drop()
    assert page.xpath("//p/text()").getall() == ["y"]
    assert page.xpath("string(//div)").get() == "aby"
    assert first.xpath("text()").getall() == []
    page.xpath("//p").drop()
    assert page.css("div").text == "ab"
    with pytest.raises(UsageError, match="root"):
        page.drop()


@given(st.binary(max_size=300))
def test_no_page_breaks_anything(body: bytes) -> None:
    page = Document(b"<p title='" + body)
    for query in ("//*", "//@*", "//text()", "//comment()", "//node()"):
        for found in page.xpath(query):
            assert found.get().encode() is not None
            assert found.text.encode() is not None
    assert len(page.xpath("//*")) == len(page.css("*"))


@given(st.text(st.sampled_from("<>/= \"'ab:@{}!-&;\0\x0b\ud800é?"), max_size=60))
def test_every_element_has_its_twin(markup: str) -> None:
    page = Document.of(f"<div>{markup}")
    assert page.xpath("//*").getall() == page.css("*").getall()
    assert page.xpath("//body").xpath(".//text()[. != '']").getall() == [
        text.replace("\x0b", "\ufffd") for text in page.css("body ::text").getall()
    ]


def test_deep_and_large_pages() -> None:
    deep = Document(b"<div>" * 2_200 + b"x", checked=True)
    assert deep.xpath("count(//div)").get() == "2200.0"
    assert deep.xpath("string(/)").get() == "x"
    row = b"<tr><td><a href='/%d'>x</a></td></tr>"
    large = Document(b"<table>" + b"".join(row % n for n in range(30_000)), checked=True)
    assert len(large.xpath("//a/@href")) == 30_000
    assert len(Twin(large.parser)._nodes) == len(large.css("*"))


# XML

FEED = """<?xml version="1.0" encoding="iso-8859-1"?>
<!-- a feed -->
<!DOCTYPE rss>
<rss xmlns:media="urn:media" version="2.0"><channel>
<item><title><![CDATA[Salt & <b>Pepper</b>]]></title><link>http://h/1</link>
  <media:thumb url="/1.png" media:width="2"/></item>
<item><Title>Café</Title><link>http://h/2</link></item>
</channel></rss>"""


def feed(body: str | bytes = FEED, kind: str = "application/rss+xml") -> Response:
    data = body.encode("iso-8859-1") if isinstance(body, str) else body
    return Response("http://h/feed", headers={"content-type": kind}, body=data)


def test_xml_is_read_as_xml() -> None:
    response = feed()
    assert response.is_xml
    assert response.xpath("//item/link/text()").getall() == ["http://h/1", "http://h/2"]
    first, second = response.xpath("//item")
    assert first.xpath("title/text()").get() == "Salt & <b>Pepper</b>"
    assert (first.tag, first.xpath("title").text) == ("item", "Salt & <b>Pepper</b>")
    assert second.xpath("Title").get() == '<Title xmlns:media="urn:media">Café</Title>'
    assert second.xpath("title").getall() == []
    assert second.xpath("..")[0].tag == "channel"
    assert response.xpath("count(//item)").get() == "2.0"
    assert response.xpath("//item/link").re(r"\d") == ["1", "2"]
    assert response.xpath("//comment()").getall() == ["<!-- a feed -->"]
    assert "item" in repr(response.xpath("//item"))
    assert response.xpath("//item").xpath("link/text()").getall() == ["http://h/1", "http://h/2"]


def test_namespaces() -> None:
    response = feed()
    assert response.xpath("//media:thumb/@url").get() == "/1.png"
    assert response.xpath("//m:thumb/@m:width", namespaces={"m": "urn:media"}).get() == "2"
    assert response.xpath("//m:thumb/@m:width", {"m": "urn:media"}).get() == "2"
    assert response.xpath("//media:thumb")[0].attrib == {"url": "/1.png", "{urn:media}width": "2"}
    atom = feed('<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>1</id></entry></feed>')
    assert atom.xpath("//entry").getall() == []
    document = atom.selector
    assert isinstance(document, XmlDocument)
    document.remove_namespaces()
    assert atom.xpath("//entry/id/text()").get() == "1"
    assert atom.xpath("//entry").get() == "<entry><id>1</id></entry>"


def test_css_is_for_html() -> None:
    response = feed()
    with pytest.raises(UsageError, match="this is XML"):
        response.xpath("//item").css("link::text")
    with pytest.raises(UsageError, match="this is XML"):
        response.selector.css("link")
    assert response.css("item").getall()  # by HTML's rules


def test_dropping_nodes_of_xml() -> None:
    document = XmlDocument("<a>1<b>2</b>3<c/>4</a>")
    document.xpath("//b").drop()
    assert document.get() == "<a>13<c/>4</a>"
    document.xpath("//c").drop()
    assert document.get() == "<a>134</a>"
    with pytest.raises(UsageError, match="root"):
        document.drop()


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("", []),
        ("<?xml version='1.0'?>", []),
        ("no xml at all", []),
        ("<a><b>x</a>", ["<a><b>x</b></a>"]),
        ("<a>x", ["<a>x</a>"]),
        ("\ufeff\n <a>x</a>", ["<a>x</a>"]),
        ("<?xml version='1.0' encoding='utf-16'?><a>é</a>", ["<a>é</a>"]),
        ("<a>\0\x0b\ud800</a>", ["<a>\ufffd\ufffd\ufffd</a>"]),
        ("<a>&nbsp;&amp;&eacute;&lt;&#65;</a>", ["<a>\xa0&amp;é&lt;A</a>"]),
        ("<a b='?x=1&y=2'>Salt & &x; &</a>", ['<a b="?x=1&amp;y=2">Salt &amp; &amp;x; &amp;</a>']),
        ("<a><![CDATA[&nbsp; & <]]></a>", ["<a>&amp;nbsp; &amp; &lt;</a>"]),
        ("<a/><a/>", ["<a/>"]),
        ("<!DOCTYPE a [<!ELEMENT a ANY>]><a>x</a>", ["<a>x</a>"]),
        ("<a><![CDATA[<!ENTITY x 'y'>]]></a>", ["<a>&lt;!ENTITY x 'y'&gt;</a>"]),
    ],
)
def test_damaged_xml_is_read_as_far_as_it_goes(body: str, found: list[str]) -> None:
    assert XmlDocument(body).xpath("//a").getall() == found


def test_xml_nested_too_deep_is_cut() -> None:
    document = XmlDocument("<a>" * 100_000)
    assert 0 < len(document.xpath("//a")) < 100_000


ENTITIES = {
    "bomb": "<!DOCTYPE a [<!ENTITY x 'ha'><!ENTITY y '&x;&x;&x;'>]><a>&y;</a>",
    "unused": "<?xml version='1.0'?>\n<!-- <a> -->\n<!DOCTYPE a [\n<!ENTITY x 'ha'>\n]><a/>",
    "parameter": "<!DOCTYPE a [<!ENTITY % x SYSTEM 'http://127.0.0.1:1/x'> %x;]><a/>",
    "with a system id": "<!DOCTYPE a SYSTEM 'x>[' [<!ENTITY x 'y'>]><a>&x;</a>",
    "late": "<!DOCTYPE a [<!-- ]> --><!ENTITY x 'ha'>]><a>&x;</a>",
    "spaced": "<!DOCTYPE\na\n[\n<?pi ]>?><!ENTITY\nx\n'ha'>]><a>&x;</a>",
}


@pytest.mark.parametrize("name", ENTITIES)
def test_xml_that_declares_entities_is_refused(name: str) -> None:
    for response in (feed(ENTITIES[name]), feed(f"<?xml version='1.0'?>{ENTITIES[name]}")):
        with pytest.raises(ExtractionError) as caught:
            response.xpath("//a")
        assert caught.value.reason == "xml_entity"


def test_no_file_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.dtd"
    secret.write_text("<!ENTITY x 'the secret'>")
    document = XmlDocument(f"<!DOCTYPE a SYSTEM 'file://{secret}'><a>&x;</a>")
    assert "secret" not in (document.get() or "").partition("?>")[2]
    assert "the secret" not in document.text


@given(st.text(st.sampled_from("<>/= \"'ab:!-&;[]?\0\x0b\ud800éDOCTYPENI"), max_size=80))
def test_no_xml_breaks_anything(text: str) -> None:
    for markup in (text, f"<a>{text}</a>"):
        try:
            document = XmlDocument(markup)
        except ExtractionError:  # it happens to declare an entity
            continue
        for found in document.xpath("//node() | //@*"):
            assert found.get().encode() is not None
            assert found.text.encode() is not None
            assert repr(found)
        assert document.attrib is not None
        document.remove_namespaces()


@pytest.mark.parametrize(
    ("head", "kind", "xml"),
    [
        ("<rss>", "application/rss+xml; charset=utf-8", True),
        ("<rss>", "text/xml", True),
        ("<rss>", "text/html", False),
        ("<?xml version='1.0'?><rss>", "text/html", True),
        ("\ufeff<?xml version='1.0'?><rss>", "", True),
        ("<?xml version='1.0'?><html>", "text/html", False),
        ("<?xml version='1.0'?><!DOCTYPE html><p>", "application/xml", False),
        ("<!-- x --><!DOCTYPE rss [<!ENTITY a '>'>]><rss>", "application/xml", True),
        ("<html xmlns='http://www.w3.org/1999/xhtml'>", "application/xml", False),
        ("<x>", "application/xhtml+xml", False),
        ("<svg>", "image/svg+xml", True),
        ("", "text/xml", False),
        ("text", "text/xml", False),
        ("<!--" * 1000, "text/xml", True),
        ("<htmlish>", "text/xml", True),
    ],
)
def test_what_is_xml(head: str, kind: str, *, xml: bool) -> None:
    assert is_xml(head, kind) is xml


def test_xpath_of_pages_and_of_other_things() -> None:
    html = Response("http://h/", headers={"content-type": "text/html"}, body=b"<p>x<p>y")
    assert html.xpath("//p[$n]/text()", n=2).get() == "y"
    assert html.selector is html.document
    other = Response("http://h/", headers={"content-type": "application/json"}, body=b"{}")
    with pytest.raises(ExtractionError) as caught:
        other.xpath("//p")
    assert caught.value.reason == "not_html"
    empty = Response("http://h/", headers={"content-type": "text/html"})
    assert empty.xpath("//p").getall() == []


def test_without_lxml_the_way_out_is_named() -> None:
    """In a process of its own, where lxml cannot be imported; CSS does not miss it."""
    program = """
import sys
sys.modules["lxml"] = None
from scraper import Response, Selector
page = Response("http://h/", headers={"content-type": "text/html"}, body=b"<p>x")
assert page.css("p::text").get() == "x"
for _ in range(2):
    try:
        page.xpath("//p")
    except Exception as error:
        print(type(error).__name__, error)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.count("UsageError response.xpath() needs lxml") == 2
    assert "pip install 'scraper-framework[xpath]'" in run.stdout


def test_lxml_is_imported_when_it_is_needed() -> None:
    program = """
import sys
from scraper import Response
page = Response("http://h/", headers={"content-type": "text/html"}, body=b"<p>x")
page.css("p"), page.links()
print("lxml" in sys.modules, "scraper.structured" in sys.modules)
page.xpath("//p")
print("lxml" in sys.modules)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["False", "False", "True"]
