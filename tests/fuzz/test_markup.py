"""Markup, damaged: everything that a callback may ask of a page."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Annotated, Any

from hypothesis import example, given
from hypothesis import strategies as st

from scraper import Css, Item, Json, XPath, urls
from scraper.drafting import draft, render
from scraper.errors import REASONS, ExtractionError, UsageError
from scraper.http import Request, Response
from tests.fuzz.material import attempt, examples, mutated

URL = "https://shop.example/a/b?c=d"

PAGES = [
    b"""<!doctype html><html lang=en><head><meta charset=utf-8><base href="/x/">
<title>T &amp; U</title><link rel=canonical href="../y"><meta name=robots content="nofollow, index">
<meta http-equiv=refresh content="0; url=/r?a=1">
<script type="application/ld+json">{"@context":"https://schema.org","@type":"Product",
"name":"N","offers":{"@type":"Offer","price":"1.50"}}</script>
<script id=__NEXT_DATA__ type="application/json">{"props":{"n":[1,2,{"a":null}]}}</script>
<script>window.__STATE__ = {"a":[1,2.5e3,"\\u0041"],"b":true};
var x = JSON.parse('{"q":"\\x41"}')</script>
</head><body><nav><a href="/p/1">one</a><a href=p/2 rel=nofollow>two</a>
<a href=" //o.example/ ">o</a><area href="?page=2"></nav><article class=card><h2>Head</h2>
<p class=price>&pound;51.77</p>
<img src=a.jpg srcset="a-2x.jpg 2x, b.jpg 100w"><ul><li>1<li>2</ul></article>
<article class=card><h2>Other</h2><p class=price>3,50</p></article></body></html>""",
    b"""<form id=f action="/s?q" method=post enctype=multipart/form-data accept-charset=latin1>
<input name=a value="1"><input type=checkbox name=b checked><input type=radio name=r value=2>
<select name=s multiple><option selected>x<option value=y disabled>Y</select><textarea name=t>
l\r\nm</textarea><button name=go value=1 formaction="//e.example">Go</button>
<input type=image name=i><input type=file name=up><input type=hidden name=_charset_></form>
<input form=f name=late>""",
    b"""<table><tr><td>a<td>b<table><tr><td>c</table><caption>d</table>
<svg><a xlink:href="#x"/><title>s</title></svg><template><p>hidden</p></template><math>
<mi>x</math><select><option>1<b>2</select>
<plaintext>everything <a href=after>else""",
    b"""<?xml version="1.0"?><rss version="2.0"><channel><item><title><![CDATA[A & B]]></title>
<link>https://shop.example/i</link></item><item/></channel></rss>""",
    b"""{"items": [{"name": "n", "price": 1e400, "deep": [[[[]]]]}, null, "\\ud800"]}""",
    "<p>caf\xe9</p><a href='/\xfc?\xdf'>x</a>".encode("latin-1"),
    "<p>wide</p><a href=/w>w</a>".encode("utf-16"),
]
WORDS = [
    b"<", b">", b"</", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<script>", b"</script>", b"'",
    b'"',
    b"<svg>", b"<math>", b"<template>", b"<table>", b"<select>", b"<frameset>", b"<plaintext>",
    b"<b><i><a href=q>", b"</p>", b"</body>", b"\0", b"\xff", b"\xed\xa0\x80", b"&#xD800;",
    b"&#0;",
    b"&#x110000;", b"&NotExists;", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"<base href=javascript:0>",
    b"<base href='http://[::1'>", b" href='javascript:alert(1)' ", b" href=http://a:99999/ ",
    b" href='data:,x' ", b" href=//\xe2\x80\xae.example ", b" href='\thttp:\\\\x\\y' ",
    b" href=%zz ",
    b"<form>", b"</form>", b"<input name=\0>", b"<input name=_charset_>", b" form=f ",
    b" type=bogus ",
    b" srcset=',,, a 1w,b ,' ", b"<script type=application/ld+json>", b"[" * 50, b"{" * 20, b"NaN",
    b"1e999", b"-Infinity", b'"@graph":', b'"@type":["a",1,null]', b"\\ud800", b"\\", b"//", b"/*",
    b"9" * 400, b"<article class=card>", b"<h2>", b"<meta charset=utf-7>",
    b"<meta charset=utf-16>",
    b"<?xml version='1.0' encoding='x'?>", b"<!DOCTYPE x [<!ENTITY a 'b'>]>", b"&a;",
    b"xmlns:a='b' ",
    b"<a:b>", b" xmlns='' ", b"</rss>",
]  # fmt: skip
TYPES = st.sampled_from([
    "text/html", "text/html; charset=utf-8", "text/html; charset=shift_jis", "",
    "application/json",
    "application/xhtml+xml", "text/xml", "application/rss+xml", "text/plain", "image/png",
    "nonsense",
    "text/html; charset=utf-16le", 'text/html; charset="', "text/html;charset=replacement",
])  # fmt: skip

TAGS = st.sampled_from([
    "a",
    "p",
    "div",
    "b",
    "i",
    "table",
    "tr",
    "td",
    "select",
    "option",
    "form",
    "input",
    "script",
    "style",
    "svg",
    "math",
    "template",
    "textarea",
    "title",
    "ul",
    "li",
    "h2",
    "article",
    "img",
    "base",
    "frameset",
    "plaintext",
    "noscript",
    "iframe",
])
ATTRIBUTES = st.sampled_from([
    "", " href=/x", " class=card", " href='?a&b'", " src=//e", " name=n", " id=f", " hidden",
    " =", " a=",
    " type=application/json", " rel=nofollow", " value='\0'", " content='1;url=x'",
])  # fmt: skip


def wrap(inside: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    closed = st.tuples(TAGS, ATTRIBUTES, st.lists(inside, max_size=3).map("".join))
    whole = closed.map(lambda t: f"<{t[0]}{t[1]}>{t[2]}</{t[0]}>")
    return whole | closed.map(lambda t: f"<{t[0]}{t[1]}>{t[2]}")


MARKUP = st.recursive(st.text(max_size=6), wrap, max_leaves=12).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)
BODIES = mutated(PAGES, WORDS) | MARKUP | st.binary(max_size=120)


class Offer(Item):
    price: Decimal


class Card(Item):
    title: Annotated[str, Css("h2", ".card::attr(id)")] = ""
    price: Annotated[Decimal | None, Css(".price", re=r"[\d.]+")] = None
    image: Annotated[str | None, Css("img::attr(src)", absolute=True)] = None
    parts: Annotated[list[str], XPath(".//li//text()")]
    name: Annotated[Any, Json("name")] = None


class Listed(Item):
    name: Annotated[str, Json("name")]
    price: Annotated[float | None, Json("price")] = None
    deep: Annotated[Any, Json("deep")] = None


class Entry(Item):
    title: Annotated[str, XPath("title", ".//h2")]
    links: Annotated[list[str], XPath("link/text()", ".//@href", absolute=True)]


class Shop(Item):
    title: Annotated[str, Css("title::text", "h2")]
    cards: Annotated[list[Card], Css("article")]
    offer: Annotated[Offer | None, Json("offers")] = None


def page(body: bytes, content_type: str) -> Response:
    headers = [("Content-Type", content_type)] if content_type else []
    return Response(URL, 200, headers, body, Request(URL))


def read(response: Response) -> list[str]:
    """All the strings that a callback could find on a page."""
    found = [response.text, response.css("title").text, response.css("body").html or ""]
    for selector in response.css("*")[:30]:
        found += [selector.text, selector.raw_text, selector.html, selector.tag]
        found += [*selector.attrib, *selector.attrib.values()]
    found += response.css("a::attr(href)").getall() + response.css("::text").getall()
    found += response.css("p, h2").re(r"\w+|[\d.,]+")
    return found


def links(response: Response) -> list[list[str]]:
    return [
        response.links(),
        response.links("nav", extensions=()),
        response.links("a", nofollow=True),
        response.links(attrs=("href", "src", "srcset", "content")),
        response.links("a::attr(href)", allow="shop", deny_domains=["o.example"]),
        response.links(text="o"),
        response.links(xpath="//a/@href"),
    ]


def guarded(run: Any, *args: Any) -> Any:
    """What *run* gives; None for a page that cannot be read in the way that was asked."""
    found = attempt(ExtractionError, lambda: run(*args))
    if isinstance(found, ExtractionError):
        assert found.reason in REASONS
        str(found).encode()
        return None
    return found


@examples(60)
@given(BODIES, TYPES)
def test_whatever_is_asked_of_a_page(body: bytes, content_type: str) -> None:
    response = page(body, content_type)
    for text in guarded(read, response) or ():
        text.encode()  # no lone surrogate, ever
    for found in guarded(links, response) or ():
        assert len(set(found)) == len(found)
        for href in found:
            assert urls.is_web(href)
            assert urls.parse(href) == href
            assert "#" not in href
            assert response.follow(href).url.encode().isascii()
    assert response.base_url
    canonical = guarded(lambda: response.canonical)
    assert canonical is None or urls.parse(canonical) == canonical


@examples(40)
@given(BODIES, TYPES)
def test_whatever_is_asked_of_its_data(body: bytes, content_type: str) -> None:
    response = page(body, content_type)
    structured = guarded(response.structured)
    if structured is not None:
        everything = [
            structured.ld, structured.values, structured.variables, dict(structured.scripts),
            structured.next_data, structured.find("Product"), structured.find_all("Offer"),
            structured.script("app"), [tuple(broken) for broken in structured.broken],
        ]  # fmt: skip
        json.dumps(everything, allow_nan=False, ensure_ascii=False).encode()
    guarded(response.json)
    guarded(lambda: json.dumps(list(response.data)))
    for query in ("//title/text()", "//*[@href]/@href", "count(//*)", "string(//item/link)"):
        for text in guarded(lambda query=query: response.xpath(query).getall()) or ():
            text.encode()


@examples(40)
@given(BODIES, TYPES)
def test_items_are_made_or_invalid(body: bytes, content_type: str) -> None:
    response = page(body, content_type)
    for found in (
        guarded(response.extract, Shop),
        *(guarded(response.extract_all, Card, "article") or ()),
        *(guarded(lambda: response.extract_all(Listed, json="items")) or ()),
        *(guarded(lambda: response.extract_all(Entry, xpath="//item | //article")) or ()),
    ):
        if isinstance(found, Shop | Card | Listed | Entry):
            found.model_dump_json().encode()


@examples(40)
@given(BODIES, TYPES, st.dictionaries(st.sampled_from("abrst"), st.text(max_size=5), max_size=2))
def test_forms_are_sent_or_refused(body: bytes, content_type: str, values: dict[str, str]) -> None:
    response = page(body, content_type)
    try:
        request = guarded(lambda: response.form().submit(values))
    except UsageError:
        return  # no form, no such field
    if request is None:
        return
    assert urls.is_web(request.url)
    assert urls.parse(request.url) == request.url
    assert Request.load(request.dump()) == request


@examples(30)
@given(BODIES, TYPES)
@example(b"".join(b"<x<y><h2><a href=/%d>T %d</a></h2></x<y>" % (n, n) for n in range(5)), "")
def test_a_draft_is_python(body: bytes, content_type: str) -> None:
    found = draft(page(body, content_type))
    names = {"name": "shop", "cls": "Shop", "item": "Thing", "host": "shop.example"}
    compile(render(found, **names, url=URL), "shop.py", "exec")
