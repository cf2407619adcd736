from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.errors import ExtractionError, UsageError
from scraper.http import Response
from scraper.select import Document
from scraper.structured import Structured


def ld(*blocks: str) -> Structured:
    scripts = (f'<script type="application/ld+json">{block}</script>' for block in blocks)
    return Structured(Document.of("".join(scripts)))


def code(*scripts: str) -> dict[str, Any]:
    page = "".join(f"<script>{script}</script>" for script in scripts)
    return Structured(Document.of(page)).variables


PAGE = Structured(
    Document.of("""
<script type="application/ld+json">
{"@context": "https://schema.org", "@graph": [
  {"@type": ["Product", "Thing"], "name": "Lamp",
   "offers": {"@type": "http://schema.org/Offer", "price": "9.50"}},
  {"@type": "BreadcrumbList", "itemListElement": [{"@type": "ListItem", "position": 1}]}]}
</script>
<script id="__NEXT_DATA__" type="application/json">{"props": {"page": 1}}</script>
<script type="application/ld+json">
[{"@type": "schema:Offer", "price": "1"}, [{"@type": "Person"}]]</script>
<script type="application/json; charset=utf-8" name="cart">[1, 2]</script>
<script type="application/json">{"third": true}</script>
<script>window.__STATE__ = {"user": null};</script>
<script type="text/x-magento-init" class="init">{"*": {"x": 1}}</script>
<div id="app" data-page='{"component": "Home"}'></div>
""")
)


def test_json_ld_nodes_are_those_of_arrays_and_graphs() -> None:
    assert [node.get("@type") for node in PAGE.ld] == [
        ["Product", "Thing"],
        "BreadcrumbList",
        "schema:Offer",
        "Person",
    ]


def test_nodes_are_found_by_type_nested_ones_too() -> None:
    assert (PAGE.find("Product") or {})["name"] == "Lamp"
    assert PAGE.find("Thing") is PAGE.find("Product")
    assert [offer["price"] for offer in PAGE.find_all("Offer")] == ["9.50", "1"]
    assert len(PAGE.find_all("https://schema.org/Offer")) == 2
    assert len(PAGE.find_all("ListItem")) == 1
    assert PAGE.find("Offers") is None
    assert PAGE.find_all("") == []


def test_a_graph_with_a_type_is_a_node_itself_and_nothing_comes_twice() -> None:
    page = ld('{"@type": "Page", "@graph": {"@type": "Part", "x": {"@type": "Part"}}}')
    assert [node["@type"] for node in page.ld] == ["Page", "Part"]
    assert len(page.find_all("Part")) == 2


def test_scripts_by_id_name_and_position() -> None:
    assert dict(PAGE.scripts) == {
        "__NEXT_DATA__": {"props": {"page": 1}},
        "cart": [1, 2],
        "2": {"third": True},
    }
    assert PAGE.next_data == {"props": {"page": 1}}
    assert "nothing" not in PAGE.scripts
    assert Structured(Document.of("<p>")).next_data is None


def test_one_value_by_id_variable_or_selector() -> None:
    assert PAGE.script("cart") == [1, 2]
    assert PAGE.script("__STATE__") == {"user": None}
    assert PAGE.script("#app::attr(data-page)") == {"component": "Home"}
    assert PAGE.script("script.init") == {"*": {"x": 1}}
    assert PAGE.script("script:not([type])") == {"user": None}
    assert PAGE.script("missing") is None
    assert PAGE.script("urn:not-css$") is None
    assert PAGE.script("p.missing") is None
    with pytest.raises(UsageError, match="CSS selector"):
        PAGE.script("script[type=")


def test_values_in_document_order() -> None:
    kinds = [min(v) if isinstance(v, dict) else v for v in PAGE.values]
    assert kinds[0] == "@context"
    assert kinds[1] == "props"
    assert isinstance(kinds[2], list)
    assert kinds[3:] == [[1, 2], "third", "user"]
    assert PAGE.broken == []


@pytest.mark.parametrize(
    ("block", "value"),
    [
        ('<!-- {"a": 1} -->', {"a": 1}),
        ('\n//<![CDATA[\n{"a": 1}\n//]]>\n', {"a": 1}),
        ('/*<![CDATA[*/ {"a": 1}; /*]]>*/', {"a": 1}),
        ('{"a": 1};;', {"a": 1}),
        ('\ufeff{"a": 1}', {"a": 1}),
        ('{"a": "line\nbreak\tand \x07"}', {"a": "line\nbreak\tand \x07"}),
        ('{"a": [1, 2, ], }', {"a": [1, 2]}),
        ('{"a": "x,]", /* no */ "b": "//" } // end', {"a": "x,]", "b": "//"}),
        ("{&quot;a&quot;: &quot;x &amp;amp; y&quot;}", {"a": "x &amp; y"}),
        ('{"a": NaN, "b": Infinity}', {"a": None, "b": None}),
        (r'{"a": "\ud83d\ude00 \ud83d x \\ud83d \udE00"}', {"a": "😀 \ufffd x \\ud83d \ufffd"}),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('{"a": 1}//]]>x', {"a": 1}),
        ('"text"', "text"),
    ],
)  # fmt: skip
def test_damage_that_is_mended(block: str, value: object) -> None:
    page = ld(block)
    assert page.values == [value]
    assert page.broken == []


@pytest.mark.parametrize(
    "block",
    ["", "  ", "{", "{a: 1}", '{"a": 1} {"b": 2}', '{"a": "x', "<!-- -->", "[" * 100_000,
     '{"a":' * 50_000, "1" * 5_000, "undefined", "\0", "/*" * 1_000],
)  # fmt: skip
def test_damage_that_is_listed(block: str) -> None:
    page = ld(block, '{"@type": "Thing"}')
    assert page.ld == [{"@type": "Thing"}]
    (broken,) = page.broken
    assert broken.where == "script 0"
    assert broken.reason
    assert len(broken.text) <= 200


def test_of_the_same_id_the_first_that_can_be_read_counts() -> None:
    script = '<script id="x" type="application/json">{}</script>'.format
    page = Structured(Document.of(script("{") + script("[1]") + script("[2]")))
    assert dict(page.scripts) == {"x": [1]}
    assert page.script("x") == [1]
    assert page.values == [[1], [2]]
    assert [broken.where for broken in page.broken] == ["x"]


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ('window.__A__ = {"x": [1]};', {"__A__": {"x": [1]}}),
        ('window["__A__"]={"x":1}', {"__A__": {"x": 1}}),
        ('self.a.b = [1]\nfoo()', {"a.b": [1]}),
        ('var a = {"x": 1}, b = 2;', {"a": {"x": 1}}),
        ('const a={"x":"</scr"+"ipt>"}', {}),
        ('window.a = window.b = {"x": 1};', {"b": {"x": 1}}),
        ('(function(){window.a={"x":1}})()', {"a": {"x": 1}}),
        ('window.a = JSON.parse("{\\"x\\":\\"\\\\u00e9\\"}");', {"a": {"x": "é"}}),
        ("window.a = JSON.parse('\\x7b\"x\":\"it\\'s\"\\u{7d}')", {"a": {"x": "it's"}}),
        ("window.a = JSON.parse('{\"x\": 1')", {}),
        ("window.a = JSON.parse(text)", {}),
        ('window.a = {x: 1};', {}),
        ('window.a = {"x": 1}.x;', {}),
        ('window.a = [1, 2].concat(b);', {}),
        ('window.a = {"x": 1} || b;', {}),
        ('window.a = {};', {}),
        ('  // window.a = {"x": 1};', {}),
        ('/* window.a = {"x": 1}; */', {}),
        ('mywindow.a = {"x": 1}; a.var = {"x": 1};', {}),
        ('window.a = {"x": 1}; window.a = {"x": 2};', {"a": {"x": 1}}),
        ('window.a = {"x": 1}; // why\nlet b = [true]', {"a": {"x": 1}, "b": [True]}),
        ("window.a=" + "[" * 100_000, {}),
        ('window.a = {"x": 1', {}),
    ],
)  # fmt: skip
def test_assignments_are_read_where_they_are_json(script: str, found: dict[str, Any]) -> None:
    assert code(script) == found


def test_only_inline_code_is_looked_at_for_assignments() -> None:
    page = Structured(
        Document.of(
            '<script type="text/template">window.a = {"x": 1};</script>'
            '<script src="/x.js">window.b = {"x": 1};</script>'
            '<script type="module">window.c = {"x": 1};</script>'
            '<script type="text/javascript; version=1">window.d = {"x": 1};</script>'
        )
    )
    assert list(page.variables) == ["c", "d"]


def test_a_block_is_parsed_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def loads(text: str) -> Any:
        seen.append(text)
        return json.loads(text)

    monkeypatch.setattr("scraper.structured._loads", loads)
    page = Structured(
        Document.of(
            '<script id=a type="application/json">1</script>'
            '<script id=b type="application/json">2</script>'
        )
    )
    assert list(page.scripts._named) == ["a", "b"]  # type: ignore[attr-defined]
    assert seen == []
    assert page.script("b") == 2
    assert page.scripts["b"] == 2
    assert seen == ["2"]
    assert page.values == [1, 2]
    assert seen == ["2", "1"]


def test_of_a_response() -> None:
    response = Response(
        "http://h/",
        headers={"content-type": "text/html"},
        body=b'<script type="application/ld+json">{"@type": "A"}</script>',
    )
    assert response.structured().find("A") == {"@type": "A"}
    assert response.structured() is response.structured()
    other = Response("http://h/", headers={"content-type": "application/json"}, body=b'{"a": 1}')
    with pytest.raises(ExtractionError) as caught:
        other.structured()
    assert caught.value.reason == "not_html"


def test_part_of_a_page() -> None:
    page = Document.of(
        '<main><script type="application/json">1</script></main>'
        '<script type="application/json">2</script>'
    )
    assert Structured(page.css("main")[0]).values == [1]
    assert repr(Structured(page)) == "<Structured 0 JSON-LD, 2 JSON>"


def test_deep_nesting_is_walked() -> None:
    """As deep as the parser goes, and found there."""
    depth = 400
    page = ld('{"x": [' * depth + '{"@type": "Deep"}' + "]}" * depth)
    assert page.broken == []
    assert page.find("Deep") == {"@type": "Deep"}


@given(st.text(st.sampled_from("{}[]\"'\\,:;/*<!->01aé\ud800\0 \n=.()")), st.booleans())
def test_no_block_breaks_anything(block: str, in_code: bool) -> None:
    kind = "" if in_code else ' type="application/ld+json"'
    page = Structured(
        Document.of(f"<script{kind}>window.a = {block}</script><script{kind}>{block}")
    )
    assert isinstance(page.values, list)
    assert isinstance(page.variables, dict)
    assert all(broken.reason for broken in page.broken)
    assert page.find("Thing") is None
    json.dumps(page.values).encode()


HOSTILE = {
    "strings": 'var a=["' * 20_000,
    "quotes": '{"a": ' + '\\"' * 200_000,
    "comments": "{" + "/*" * 200_000,
    "commas": "[1" + ", " * 200_000,
    "spaces": "{" + " " * 400_000 + "x",
    "ends": '{"a":1}' + "*/;" * 100_000 + "x",
    "windows": "window." * 60_000,
    "names": "var " + "a." * 200_000,
    "parses": "window.a=JSON.parse('" * 20_000,
    "slashes": "//" * 200_000,
    "marks": "{" + "<!--" * 100_000 + "-->" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_scripts_are_read_in_linear_time(name: str) -> None:
    """Each ends at once; where work grew with the square of the text, for minutes or hours."""
    text = HOSTILE[name] * 3
    for script in (text, f"{text}\\"):
        assert code(script) == {}
        page = Structured(Document.of(f'<script type="application/json">{script}</script>'))
        assert page.values in ([], [{"a": 1}])
        assert len(page.values) + len(page.broken) == 1
