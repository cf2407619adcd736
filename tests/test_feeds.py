"""Feeds: rows of every format, and what is wrong with those that are none."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.errors import ExtractionError, UsageError
from scraper.feeds import Row, format_of, read

TWO = [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]


def rows(body: str | bytes, **more: Any) -> list[Any]:
    """The values, of a feed in which nothing is wrong."""
    feed = read(body.encode() if isinstance(body, str) else body, **more)
    found = list(feed)
    assert [row.error for row in found] == [""] * len(found)
    assert feed.warnings == []
    return [row.value for row in found]


def everything(body: str, **more: Any) -> tuple[list[Row], list[str]]:
    feed = read(body.encode(), **more)
    return list(feed), feed.warnings


# -- which format ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "content_type", "head", "format"),
    [
        ("http://a/x.csv", "", "", "csv"),
        ("http://a/x.TSV.gz?v=1", "application/json", "", "csv"),
        ("http://a/x.jsonl", "application/json", "[", "jsonl"),
        ("http://a/x.jl", "", "", "jsonl"),
        ("http://a/feed", "text/csv; charset=utf-8", "<", "csv"),
        ("http://a/feed", "application/rss+xml", "", "xml"),
        ("http://a/feed", "text/html", "<rss>", "xml"),
        ("http://a/feed", "application/ld+json", "", "json"),
        ("http://a/feed.php", "application/x-ndjson", "", "jsonl"),
        ("http://a/feed", "", "\ufeff\n<?xml", "xml"),
        ("http://a/feed", "", " [", "json"),
        ("http://a/feed", "", '{"a": 1}', "json"),
        ("http://a/feed", "application/octet-stream", "a,b", "csv"),
        ("", "", "", "csv"),
    ],
)
def test_the_format_is_found(url: str, content_type: str, head: str, format: str) -> None:  # noqa: A002
    assert format_of(url, content_type, head) == format


@pytest.mark.parametrize(
    "body",
    [
        "a,b\n1,x\n2,y\n",
        "a;b\r\n1;x\r\n2;y",
        "sep=;\r\na;b\r\n1;x\r\n2;y",
        "a,b\n1,x,\n2,y,,\n",
        "a\tb\r1\tx\r2\ty\r",
        "\ufeffa|b\n\n1|x\n   \n2|y\n\n",
        '"a","b"\n"1","x"\n"2","y"\n',
        '{"a": "1", "b": "x"}\n\n{"a": "2", "b": "y"}\n',
        '[{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]',
        ' [\n{"a": "1", "b": "x"}\n,{"a": "2", "b": "y"}\n]\n ',
        "<r><item><a>1</a><b>x</b></item><item><a>2</a><b>y</b></item></r>",
        "<r><g:item><g:a> 1 </g:a><g:b>x</g:b></g:item><g:item><a>2</a><x:b>y</x:b></g:item></r>",
    ],
)  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
def test_two_rows_in_every_dress(body: str, packed: bool) -> None:
    data = body.encode()
    assert rows(gzip.compress(data) if packed else data) == TWO


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "xls"}, "not the format of a feed"),
        ({"delimiter": ";;"}, "one character"),
        ({"delimiter": ""}, "one character"),
        ({"quotechar": "\n"}, "one character"),
        ({"encoding": "klingon"}, "no label"),
    ],
)
def test_options_that_mean_nothing(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(b"", **options)


@pytest.mark.parametrize("format", ["csv", "jsonl", "json", "xml", None])
@pytest.mark.parametrize("body", [b"", b" \n", gzip.compress(b"")])
def test_empty_feeds(format: Any, body: bytes) -> None:  # noqa: A002
    feed = read(body, format=format)
    assert list(feed) == []
    assert feed.warnings == ["it is empty"]


# -- encodings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("utf-8", {}),
        ("utf-8-sig", {}),
        ("utf-16", {}),
        ("cp1252", {}),
        ("cp1252", {"content_type": "text/csv; charset=latin-1"}),
        ("iso8859-15", {"encoding": "l9"}),
        ("cp437", {"encoding": "ibm866"}),
        ("shift_jis", {"content_type": "text/csv; charset=shift_jis"}),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_encodings(codec: str, options: dict[str, Any], packed: bool) -> None:
    word = {"shift_jis": "値段", "cp437": "plain"}.get(codec, "prix café ü")
    body = f"name,price\n{word},1\n".encode(codec)
    data = gzip.compress(body) if packed else body
    assert rows(data, url="http://a/x.csv", **options) == [{"name": word, "price": "1"}]


def test_what_a_cell_declares_is_not_said_of_the_feed() -> None:
    body = 'html,b\n"<meta charset=latin1><p>é",1\n'
    assert rows(body)[0]["html"].endswith("é")
    assert rows("<r><item><a>é</a></item></r>", encoding="utf-8") == [{"a": "é"}]
    latin = "<?xml version='1.0' encoding='iso-8859-1'?><r><item><a>é</a></item></r>"
    assert rows(latin.encode("latin-1")) == [{"a": "é"}]


def test_invalid_bytes_do_not_end_it() -> None:
    feed = read(b"a,b\n1,\xff\xfe\n2,y\n", encoding="utf-8")
    assert [row.value["b"] for row in feed] == ["\ufffd\ufffd", "y"]


# -- CSV ------------------------------------------------------------------------------------------


def test_quotes_hold_delimiters_quotes_and_line_ends() -> None:
    body = 'a,b\n"1,2","x ""y""\r\nz"\n,\n3,4\n'
    assert rows(body) == [{"a": "1,2", "b": 'x "y"\nz'}, {"a": "3", "b": "4"}]


def test_names_of_columns() -> None:
    found, warnings = everything("a, b ,,a\n1,2,3,4\n")
    assert found[0].value == {"a": "1", "b": "2", "column_3": "3", "a_2": "4"}
    assert warnings == ["column 3 ('') is called 'column_3'", "column 4 ('a') is called 'a_2'"]
    assert rows("1,2\n3,4\n", fields=["a", "b"]) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert rows("a,b\n3,4\n", fields=["a", "b"]) == [{"a": "3", "b": "4"}]


def test_delimiters_and_quotes_can_be_given() -> None:
    assert rows("a:b\n1:x,y;z\n", delimiter=":") == [{"a": "1", "b": "x,y;z"}]
    assert rows("a,b\n'1,2',x\n", quotechar="'") == [{"a": "1,2", "b": "x"}]
    assert rows('a,b\n"1,x"\n', quotechar=None) == [{"a": '"1', "b": 'x"'}]
    assert rows('"a,b,c";d\n1;2\n') == [{"a,b,c": "1", "d": "2"}]


def test_ragged_rows_are_reported_with_their_line() -> None:
    body = 'a,b\n1,x\n2\n"3\n3",y\n4,y,z,z\n5,y\n'
    found, warnings = everything(body)
    assert warnings == []
    assert [(row.place, row.value, row.error) for row in found] == [
        ("line 2", {"a": "1", "b": "x"}, ""),
        ("line 3", {"a": "2"}, "1 fields, where there are 2 columns"),
        ("line 4", {"a": "3\n3", "b": "y"}, ""),
        ("line 6", {"a": "4", "b": "y", "": ["z", "z"]}, "4 fields, where there are 2 columns"),
        ("line 7", {"a": "5", "b": "y"}, ""),
    ]


def test_a_field_without_end_costs_itself_alone() -> None:
    body = 'a,b\n1,x\n2,"' + "y\n" * 200_000 + "3,z\n"
    found, _ = everything(body)
    assert found[0].value == {"a": "1", "b": "x"}
    assert "field larger than field limit" in found[1].error
    assert found[-1].value == {"a": "3", "b": "z"}


@given(st.lists(st.lists(st.text(max_size=8), min_size=3, max_size=3), max_size=6))
def test_what_the_standard_library_writes_is_read(table: list[list[str]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["a", "b", "c"], *table])
    body = buffer.getvalue().encode("utf-8", "surrogatepass")
    expected = [
        dict(zip("abc", (cell.replace("\r\n", "\n").replace("\r", "\n") for cell in cells),
                 strict=True))
        for cells in table
        if any(map(str.strip, cells))
    ]  # fmt: skip
    assert [row.value for row in read(body, delimiter=",", encoding="utf-8")] == expected


# -- JSON -----------------------------------------------------------------------------------------


def test_json_lines_of_any_value() -> None:
    body = '{"a": [1, null]}\r\n"text"\n3.5\n\ntrue\n'
    assert rows(body, format="jsonl") == [{"a": [1, None]}, "text", 3.5, True]


def test_bad_lines_are_reported_with_their_number() -> None:
    deep = "[" * 100_000
    body = f'{{"a": 1}}\n\n{{"a": \n{deep}\n{{"a": 2}}\n'
    found, _ = everything(body, format="jsonl")
    assert [(row.place, bool(row.error)) for row in found] == [
        ("line 1", False), ("line 3", True), ("line 4", True), ("line 5", False)
    ]  # fmt: skip
    assert found[1].value == {"": '{"a": '}
    assert "nested too deep" in found[2].error
    assert found[-1].value == {"a": 2}


@pytest.mark.parametrize("name", ["", "http://a/x.json"])
def test_lines_under_the_name_of_json(name: str) -> None:
    assert rows('{"a": 1}\n{"a": 2}\n', url=name) == [{"a": 1}, {"a": 2}]
    found, _ = everything('{"a": 1}\n{"a": \n{"a": 3}\n', url=name)
    assert [bool(row.error) for row in found] == [False, True, False]


def test_an_array_inside_of_an_object() -> None:
    body = '{"data": {"products": [{"a": 1}, {"a": 2}]}, "total": 2}'
    assert rows(body, itertag="data.products") == [{"a": 1}, {"a": 2}]
    for wrong in ("data", "data.items", "total.x"):
        with pytest.raises(ExtractionError, match="no array at"):
            list(read(body.encode(), itertag=wrong))
    with pytest.raises(ExtractionError, match="object, not an array") as caught:
        list(read(b'{"items": [1], "n": 2}'))
    assert caught.value.reason == "not_json"
    assert "arrays in it: items" in caught.value.message
    assert "itertag" in caught.value.hint


@pytest.mark.parametrize("body", ["nonsense", "{", '"x" x y', "tru"])
def test_what_is_no_json_is_refused(body: str) -> None:
    try:
        found = list(read(body.encode(), format="json"))
    except ExtractionError as error:
        assert error.reason == "not_json"  # noqa: PT017
    else:
        assert all(row.error for row in found)


@pytest.mark.parametrize("body", ["7", "null", '"x"', "{}"])
def test_json_without_rows_is_refused(body: str) -> None:
    with pytest.raises(ExtractionError, match="not an array of rows"):
        list(read(body.encode(), format="json"))


@pytest.mark.parametrize(
    ("body", "good"),
    [('[1, 2, {"a": ', 2), ("[1 2]", 1), ("[1, 2", 2), ("[1,, 2]", 1), ("[", 0), ("[1,]", 1)],
)
def test_a_damaged_array_gives_the_rows_before(body: str, good: int) -> None:
    found, _ = everything(body, format="json")
    assert [row.error == "" for row in found] == [True] * good + [False]
    assert "nothing after it can be read" in found[-1].error


def test_empty_arrays() -> None:
    assert rows("[]") == rows(" [ ] ") == rows('{"x": []}', itertag="x") == []


@given(
    st.lists(
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
        )
    )
)
def test_arrays_are_read_as_the_standard_library_does(value: list[Any]) -> None:  # fmt: skip
    for indent in (None, 2):
        assert rows(json.dumps(value, indent=indent), format="json") == value


# -- XML ------------------------------------------------------------------------------------------


def test_elements_become_paths() -> None:
    body = """<?xml version="1.0"?>
    <rss xmlns:g="g" xmlns:media="m"><channel><title>not this</title>
      <item id="7" xml:lang="en">
        <media:title>longer</media:title><title>Short &amp; good</title>
        <media:title>no</media:title>
        <g:price currency="EUR"> 10 </g:price>
        <g:shipping><g:country>DE</g:country><g:price>3</g:price></g:shipping>
        <image>a.png</image><image>b.png</image>
        <enclosure url="x.mp3" length="3"/><empty/>
        <description>two <b>bold</b> words</description>
      </item>
      <item>only text</item>
    </channel></rss>"""
    assert rows(body) == [
        {
            "@id": "7",
            "@lang": "en",
            "title": "Short & good",
            "price@currency": "EUR",
            "price": "10",
            "shipping/country": "DE",
            "shipping/price": "3",
            "image": "a.png\nb.png",
            "enclosure@url": "x.mp3",
            "enclosure@length": "3",
            "enclosure": "",
            "empty": "",
            "description/b": "bold",
            "description": "two  words",
        },
        {"#text": "only text"},
    ]


def test_the_row_element_can_be_named() -> None:
    body = "<r><g:entry><a>1</a></g:entry><entry><a>2</a></entry><PRODUCT><a>3</a></PRODUCT></r>"
    assert rows(body, itertag="entry") == [{"a": "1"}, {"a": "2"}]
    assert rows(body, itertag="g:entry") == [{"a": "1"}]
    assert rows(body, itertag="product") == [{"a": "3"}]
    found, warnings = everything(body)
    assert found == []
    assert len(warnings) == 1
    assert "there is no <item> in it, only <r>, <g:entry>" in warnings[0]


def test_rows_of_damaged_xml() -> None:
    body = "<r><item><a>1</a></item><item><a>2</b></item><item><a>3</a></item><item><a>4</a>"
    found, warnings = everything(body)
    assert [row.value for row in found] == [{"a": "1"}, {"a": "3"}]
    assert len(warnings) == 1
    assert "mismatched tag" in warnings[0]


def test_entities_are_refused() -> None:
    body = b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r><item>&x;</item></r>'
    with pytest.raises(ExtractionError) as caught:
        list(read(body))
    assert caught.value.reason == "xml_entity"


# -- any bytes ------------------------------------------------------------------------------------


@given(st.binary(max_size=200), st.sampled_from(["csv", "jsonl", "json", "xml", None]))
def test_any_bytes_are_read_or_refused(body: bytes, format: Any) -> None:  # noqa: A002
    for data in (body, b"\x1f\x8b" + body, b"a,b\n" + body, b"[1," + body, b"<item>" + body):
        reason = ""
        try:
            found = list(read(data, format=format))
        except ExtractionError as error:
            found, reason = [], error.reason
        assert reason in {"", "not_json", "xml_entity", "parse_limit", "body_too_large"}
        assert all(row.place for row in found)


def test_a_bomb_is_refused() -> None:
    packed = gzip.compress(b"a,b\n" + b"1,2\n" * 500_000)
    with pytest.raises(ExtractionError) as caught:
        list(read(packed, max_size=1_000_000))
    assert caught.value.reason == "body_too_large"


@pytest.mark.parametrize("format", ["csv", "jsonl", "xml"])
def test_rows_are_streamed(format: Any) -> None:  # noqa: A002
    line = {"csv": "1,2\n", "jsonl": '{"a": 1}\n', "xml": "<item><a>1</a></item>"}[format]
    body = ("<r>" if format == "xml" else "a,b\n") + line * 100_000
    packed = gzip.compress(body.encode())
    tracemalloc.start()
    try:
        assert sum(1 for _ in read(packed, format=format)) >= 100_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000
