"""Drafts of pages in many styles: what is found, and that hostile pages can put nothing in."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraper.demo.site import Site
from scraper.drafting import Draft, Field, Marker, draft, render, tried, with_detail
from scraper.drafting.names import identifier, plain, semantic
from scraper.drafting.source import marker_source, quoted
from scraper.http import Response
from scraper.select import compile_css

SHOP = "http://shop.test/"
ROOT = Path(__file__).resolve().parents[1]


def page(html: str | bytes, url: str = "https://site.test/start") -> Response:
    body = html.encode() if isinstance(html, str) else html
    return Response(url, 200, {"content-type": "text/html; charset=utf-8"}, body)


def body(inner: str, head: str = "") -> Response:
    return page(f"<html><head>{head}</head><body>{inner}</body></html>")


def source(drafted: Draft, url: str = "https://site.test/start") -> str:
    return render(drafted, name="shop", cls="Shop", item="ShopItem", host="site.test", url=url)


def fields(drafted: Draft) -> dict[str, tuple[str, str, str]]:
    """name -> (type, marker, sample)"""
    return {f.name: (f.type, marker_source(f.marker), f.sample) for f in drafted.shown}


def fits(drafted: Draft, response: Response) -> None:
    fit, all_ = tried(drafted, response)
    assert fit == all_ > 0


@pytest.fixture(scope="module")
def site() -> Site:
    return Site()


def shop_page(site: Site, path: str) -> Response:
    answer = site.answer("/" + path)
    assert answer.status == 200
    return Response(SHOP + path, 200, {"content-type": answer.content_type}, answer.body)


# The demo shop ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["", "catalogue/page-3.html", "catalogue/category/books/travel_2/index.html"]
)
def test_a_list_of_the_shop(site: Site, path: str) -> None:
    if path.endswith("index.html"):
        path = next(p for p in site.paths() if "/books/" in p and p.endswith("index.html"))[1:]
    response = shop_page(site, path)
    drafted = draft(response)
    assert drafted.kind == "list"
    assert drafted.cards == "article.product_pod"
    assert drafted.links == "article.product_pod h3 a"
    assert drafted.next == "li.next a"
    assert len(response.css(drafted.cards)) >= 20
    found = fields(drafted)
    assert found["title"][1] == 'Css("h3 a::attr(title)")'  # the text is cut in lists
    assert found["price"][:2] == ("Amount", 'Css(".price_color")')
    assert found["url"][1] == 'Css("h3 a::attr(href)", absolute=True)'
    assert found["image"][1].endswith('::attr(src)", absolute=True)')
    assert found["rating"][1] == 'Css(".star-rating::attr(class)", re=r"star-rating\\s+(\\S+)")'
    assert found["availability"][:2] == ("str", 'Css(".availability")')
    assert found["url"][2] == drafted.targets[0]
    fits(drafted, response)


def test_a_book_of_the_shop(site: Site) -> None:
    book = site.books[0]
    response = shop_page(site, f"catalogue/{book.slug}/index.html")
    drafted = draft(response)
    assert drafted.kind == "detail"
    found = fields(drafted)
    assert found["title"] == ("str", 'Css("h1")', book.title)
    assert found["category"][2] == book.category
    assert found["price"][0] == "Amount | None"
    assert found["upc"] == ("str | None", "Css(\"th:lexbor-contains('UPC') + td\")", book.upc)
    assert found["number_of_reviews"][0] == "int | None"
    assert found["description"][1] == 'Css("#product_description + p")'
    assert found["image"][1] == 'Css("#product_gallery img::attr(src)", absolute=True)'
    assert "headings" not in found
    fits(drafted, response)


def test_list_and_book_together(site: Site) -> None:
    listed = draft(shop_page(site, ""))
    book = shop_page(site, listed.targets[0].removeprefix(SHOP))
    drafted = with_detail(listed, book)
    text = source(drafted)
    assert 'for link in response.links("article.product_pod h3 a"):' in text
    assert "yield response.follow(link, self.parse_item)" in text
    assert 'for link in response.links("li.next a"):' in text
    assert "yield response.extract(ShopItem)" in text
    assert '"max_depth": 1000' in text
    for other in site.books[1:200]:  # what one book showed holds for others
        if not other.walled:
            fits(drafted, shop_page(site, f"catalogue/{other.slug}/index.html"))


def test_a_page_that_says_less_than_its_card_is_not_followed(site: Site) -> None:
    listed = draft(shop_page(site, ""))
    assert with_detail(listed, body("<p>Sorry.</p>")) is listed
    assert with_detail(listed, Response("https://x.test/", 200, {}, b"\x89PNG\r\n\x1a\n")) is listed


# Lists in other styles --------------------------------------------------------------------------


def many(template: str, count: int = 8) -> str:
    return "".join(template.replace("{i}", str(i)) for i in range(1, count + 1))


def test_quotes_have_no_pages_of_their_own() -> None:
    card = """<div class="quote"><span class="text">“Quote number {i} is wise.”</span>
        <span>by <small class="author">Author {i}</small> <a href="/author/1">(about)</a></span>
        <div class="tags">Tags: <a class="tag" href="/tag/a{i}">a{i}</a>
        <a class="tag" href="/tag/b{i}">b{i}</a></div></div>"""
    more = '<ul class="pager"><li class="next"><a href="/page/2/">Next <span>→</span></a></li></ul>'
    response = body(f'<div class="col-md-8">{many(card)}{more}</div>')
    drafted = draft(response)
    assert (drafted.kind, drafted.cards, drafted.next) == ("list", "div.quote", "li.next a")
    assert drafted.links == ""
    assert drafted.targets == ()
    assert fields(drafted) == {
        "author": ("str", 'Css(".author")', "Author 1"),
        "tags": ("list[str]", 'Css(".tag")', "a1, b1"),
        "text": ("str", 'Css(".text")', "“Quote number 1 is wise.”"),
    }
    fits(drafted, response)


def test_hashed_classes_are_not_used() -> None:
    card = """<div class="css-9ab8c7 e1abc23"><a class="css-77aa88" href="/p/{i}-thing">
        <img class="css-i1i1i1" src="/img/{i}.jpg"><h2 class="sc-bdVaJa">Thing number {i}</h2></a>
        <div class="css-d4e5f6">$ {i}9.99</div></div>"""
    more = '<a href="?page=2" aria-label="Next page" class="css-zz99zz">›</a>'
    response = body(f'<main class="css-1x2y3z">{many(card)}{more}</main>')
    drafted = draft(response)
    text = source(drafted)
    assert "css-" not in text
    assert "sc-" not in text
    found = fields(drafted)
    assert found["title"][2] == "Thing number 1"
    assert found["price"] == ("Amount", 'Css("div > div")', "$ 19.99")
    assert found["image"][2] == "https://site.test/img/1.jpg"
    assert drafted.next == "a[aria-label^=Next]"
    assert len(response.css(drafted.cards)) == 8
    fits(drafted, response)


def test_css_modules_keep_the_authors_names() -> None:
    card = """<li class="Card_root__a1B2c"><div class="Card_title__x3Fa9">Name {i}</div>
        <div class="Card_city__q8Zz1">Town {i}</div><a href="/d/{i}">more</a></li>"""
    drafted = draft(body(f"<ul>{many(card)}</ul>"))
    found = fields(drafted)
    assert found["title"][1] == 'Css("[class*=Card_title__]")'
    assert found["city"][1] == 'Css("[class*=Card_city__]")'


def test_news() -> None:
    card = """<article class="story post-{i}45"><h3 class="story-title">
        <a href="/2024/story-{i}">Something happened in place {i}</a></h3>
        <p class="excerpt">It was said that something happened, and will again: {i}.</p>
        <span class="byline">By <a href="/w/1">Writer {i}</a></span>
        <time datetime="2024-01-0{i}T10:00:00Z">{i} January</time></article>"""
    links = many('<li><a href="/s{i}">Section {i} of the news</a></li>', 30)
    response = body(
        f"<header><nav><ul>{links}</ul></nav></header><main>{many(card)}</main>"
        f"<footer><ul>{links}</ul></footer>"
    )
    drafted = draft(response)
    assert drafted.cards == "article.story"
    assert drafted.links == "article.story .story-title a"
    found = fields(drafted)
    assert found["date"][1] == 'Css("time::attr(datetime)")'
    assert found["description"][1] == 'Css(".excerpt")'
    assert found["author"][2] == "By Writer 1"
    fits(drafted, response)


def test_a_table_names_its_columns() -> None:
    rows = many(
        '<tr><td><a href="/wiki/C{i}">Country {i}</a></td><td>{i},000,000</td><td>{i}00</td>'
        "<td>City {i}</td></tr>"
    )
    head = "<tr><th>Country</th><th>Population</th><th>Area (km²)</th><th>Capital city</th></tr>"
    response = body(f'<table class="wikitable"><thead>{head}</thead><tbody>{rows}</tbody></table>')
    drafted = draft(response)
    assert drafted.cards == ".wikitable > tbody > tr"
    found = fields(drafted)
    assert found["title"][2] == "Country 1"
    assert found["population"][1:] == ('Css("td:nth-child(2)")', "1,000,000")
    assert found["area_km_2"][2] == "100"
    assert found["capital_city"][2] == "City 1"
    fits(drafted, response)


def test_a_card_that_is_a_link_itself() -> None:
    card = """<a class="result-card" href="/hotel/{i}"><div class="name">Hotel {i}</div>
        <div class="price">from <b>€{i}0</b></div><div class="stars" data-rating="{i}"></div></a>"""
    response = body(f'<div class="results">{many(card)}</div>')
    drafted = draft(response)
    assert drafted.cards == drafted.links == "a.result-card"
    found = fields(drafted)
    assert found["url"][1] == 'Css("::attr(href)", absolute=True)'
    assert found["title"][2] == "Hotel 1"
    assert found["price"][2] == "from €10"
    assert drafted.targets[0] == "https://site.test/hotel/1"
    fits(drafted, response)


def test_what_not_every_card_has_may_be_missing() -> None:
    card = '<li class="item"><h3><a href="/{i}">Entry number {i}</a></h3>{more}</li>'
    cards = "".join(
        card.replace("{i}", str(i)).replace(
            "{more}", f'<p class="price">€ {i}.50</p>' if i % 2 else ""
        )
        for i in range(1, 9)
    )
    response = body(f"<ul>{cards}</ul>")
    found = fields(draft(response))
    assert found["price"] == ("Amount | None", 'Css(".price")', "€ 1.50")
    assert found["title"][0] == "str"
    fits(draft(response), response)


def test_prices_that_are_no_amounts_stay_text() -> None:
    card = '<li class="item"><a href="/{i}">Entry number {i}</a><b class="price">{p}</b></li>'
    cards = "".join(
        card.replace("{i}", str(i)).replace("{p}", "free" if i == 3 else f"€ {i}")
        for i in range(1, 9)
    )
    response = body(f"<ul>{cards}</ul>")
    assert fields(draft(response))["price"][0] == "str"
    fits(draft(response), response)


def test_numbered_pages_are_all_followed() -> None:
    results = many('<dt><a href="/doc/{i}">Result document {i}</a></dt><dd>Snippet {i}</dd>')
    pages = many('<a href="?p={i}">{i}</a> ', 4)
    drafted = draft(body(f'<dl class="results">{results}</dl><div class="pages">{pages}</div>'))
    assert drafted.kind == "list"
    assert drafted.next == ".pages a"


@pytest.mark.parametrize(
    ("html", "css"),
    [
        ('<a rel="next" href="?p=2">2</a>', "a[rel~=next]"),
        ('<a class="next-page" href="?p=2">more of them</a>', "a.next-page"),
        (
            '<div class="pagination"><a href="?p=1">1</a><a href="?p=2">»</a></div>',
            ".pagination a:",
        ),
        ('<a href="?p=2">Next ›</a>', "a:lexbor-contains('Next')"),
        ('<a href="?p=2">Weiter</a>', "a:lexbor-contains('Weiter')"),
        ('<a href="?p=2" title="next page">…</a>', "a[title^=next]"),
        ('<a class="next" href="#">›</a>', ""),
        ('<a class="next" href="https://elsewhere.test/">›</a>', ""),
        ('<a class="next" href="/start">›</a>', ""),
        ("<button class=next>›</button>", ""),
    ],
)
def test_the_next_page(html: str, css: str) -> None:
    cards = many('<li class="item"><a href="/e/{i}">Entry number {i} of them</a></li>')
    response = body(f"<ul>{cards}</ul>{html}")
    drafted = draft(response)
    assert drafted.next.startswith(css)
    assert bool(drafted.next) == bool(css)
    if css:
        assert response.links(drafted.next) == ["https://site.test/start?p=2"]


def test_links_to_other_hosts_are_not_followed() -> None:
    drafted = draft(
        body(many('<li class="s"><a href="https://s{i}.test/">A long story title {i}</a></li>'))
    )
    assert drafted.kind == "list"
    assert drafted.targets == ()
    assert "follow" not in source(drafted)


# Pages about one thing --------------------------------------------------------------------------


PRODUCT = {
    "@context": "https://schema.org",
    "@type": "Product",
    "name": "Anvil",
    "sku": "A-1",
    "brand": {"@type": "Brand", "name": "Acme"},
    "image": ["/a.jpg", "/b.jpg"],
    "offers": [{"@type": "Offer", "price": "119.99", "priceCurrency": "USD"}],
    "aggregateRating": {"ratingValue": 4.4, "reviewCount": 89},
}


def test_json_ld_comes_first() -> None:
    related = many('<div class="card"><a href="/p{i}">Related {i}</a><b>$ {i}.00</b></div>')
    script = f'<script type="application/ld+json">{json.dumps(PRODUCT)}</script>'
    response = body(f"<h1>Anvil</h1><div>{related}</div>", script)
    drafted = draft(response)
    assert drafted.kind == "detail"
    found = fields(drafted)
    assert found["title"] == ("str", 'Json("name", type="Product")', "Anvil")
    assert found["price"][1:] == ('Json("offers[0].price", type="Product")', "119.99")
    assert found["brand"][2] == "Acme"
    assert found["image"][2] == "https://site.test/a.jpg"
    assert found["rating"][2] == "4.4"
    fits(drafted, response)


def test_a_list_of_json_ld_products_is_a_list() -> None:
    nodes = json.dumps([{**PRODUCT, "name": f"Anvil {i}"} for i in range(8)])
    cards = many('<div class="card"><a href="/p{i}">Anvil {i} of steel</a><b>$ {i}.00</b></div>')
    drafted = draft(
        body(f"<h1>Anvils</h1>{cards}", f'<script type="application/ld+json">{nodes}</script>')
    )
    assert drafted.kind == "list"


def test_a_list_of_definitions_gives_a_field_each() -> None:
    facts = {
        "Weight": "3 kg",
        "Colour": "red",
        "Number of parts": "12",
        "class": "x",
        "str": "y",
        "model config": "z",
        "Größe": "XL",
        "重さ": "w",
    }
    terms = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items())
    response = body(f"<h1>Widget A</h1><dl>{terms}</dl>")
    drafted = draft(response)
    assert drafted.kind == "detail"
    found = fields(drafted)
    assert found["weight"][1] == "Css(\"dt:lexbor-contains('Weight') + dd\")"
    assert found["number_of_parts"][0] == "int | None"
    assert {"item_class", "item_str", "item_model_config", "grosse"} & set(found) >= {
        "item_class",
        "item_str",
    }
    fits(drafted, response)
    compile_and_define(source(drafted))


def test_an_article() -> None:
    meta = (
        '<meta property="og:image" content="/bee.jpg">'
        '<meta property="article:published_time" content="2024-02-03">'
    )
    prose = many(
        '<p>Bees are insects that fly and make <a href="/w{i}">honey</a>. Paragraph number {i} has'
        " a good deal of text, so that it is long enough to be read as prose by everyone.</p>"
    )
    crumbs = '<nav class="breadcrumb"><a href="/">Home</a> / <a href="/animals">Animals</a></nav>'
    response = body(
        f'{crumbs}<article><h1>Bees</h1><span class="author">Ann</span>{prose}</article>', meta
    )
    drafted = draft(response)
    assert drafted.kind == "detail"
    found = fields(drafted)
    assert found["title"] == ("str", 'Css("h1")', "Bees")
    assert found["author"][2] == "Ann"
    assert found["published"][2] == "2024-02-03"
    assert found["image"][2] == "https://site.test/bee.jpg"
    assert found["breadcrumbs"][2] == "Home, Animals"
    assert found["text"][1] == 'Css("article")'
    fits(drafted, response)


def test_documentation(python_docs: Path) -> None:
    def of(path: str) -> Response:
        return page((python_docs / path).read_bytes(), f"https://docs.test/{path}")

    tutorial = draft(of("tutorial/index.html"))
    assert tutorial.kind == "list"
    assert tutorial.links.startswith("li.toctree-l1")
    assert tutorial.next == ""  # the first chapter is no list
    chapter = of(tutorial.targets[0].removeprefix("https://docs.test/"))
    drafted = with_detail(tutorial, chapter)
    found = fields(drafted)
    assert found["title"][2].endswith("Whetting Your Appetite")  # without its ¶
    assert found["text"][1] == 'Css("[role=main]")'
    for path in ("tutorial/classes.html", "tutorial/errors.html", "tutorial/appendix.html"):
        fits(drafted, of(path))
    functions = draft(of("library/functions.html"))
    assert functions.cards.startswith("dl.")
    assert fields(functions)["title"][1:] == ('Css(".sig-name")', "abs")
    assert fields(functions)["description"][2].startswith("Return the absolute value")
    fits(functions, of("library/functions.html"))


# Anything else ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "response",
    [
        page(""),
        page("<p>Hello."),
        body("<h1>Only a title</h1>"),
        page("\x00\x01\x02"),
        page(b"\xff\xfe\x00"),
        Response(
            "https://site.test/a.png", 200, {"content-type": "image/png"}, b"\x89PNG\r\n\x1a\n"
        ),
        Response("https://site.test/a", 200, {"content-type": "application/json"}, b"{broken"),
        Response("https://site.test/a", 200, {"content-type": "application/json"}, b"[1, 2]"),
        Response("https://site.test/a", 200, {"content-type": "application/json"}, b"[]"),
        page("<div>" * 5_000),
        Response(
            "https://site.test/x", 200, {"content-type": "text/xml"}, b"<?xml version='1.0'?><a/>"
        ),
    ],
    ids=str,
)
def test_what_shows_nothing_is_generic(response: Response) -> None:
    drafted = draft(response)
    assert drafted == Draft()
    text = source(drafted)
    assert 'Css("h1", "title")' in text
    compile_and_define(text)


def test_an_api() -> None:
    records = [
        {"id": 1, "name": "a", "price": 1.5, "owner": {"login": "x"}, "tags": ["q"], "x y": 1},
        {"id": 2, "name": "b", "price": 2.5, "ok": True, "class": "k", 'a"; DROP': "z"},
    ]
    data = json.dumps({"count": 2, "data": {"results": records}}).encode()
    response = Response("https://site.test/api", 200, {"content-type": "application/json"}, data)
    drafted = draft(response)
    assert (drafted.kind, drafted.cards) == ("json", "data.results[]")
    assert fields(drafted) == {
        "id": ("int", 'Json("id")', "1"),
        "name": ("str", 'Json("name")', "a"),
        "price": ("float", 'Json("price")', "1.5"),
        "owner_login": ("str | None", 'Json("owner.login")', "x"),
        "ok": ("bool | None", 'Json("ok")', "True"),
        "item_class": ("str | None", 'Json("class")', "k"),
    }
    fits(drafted, response)
    assert 'response.extract_all(ShopItem, json="data.results[]")' in source(drafted)


RSS = """<?xml version="1.0"?><rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/"><channel>
<title>F</title><item><title>One &amp; two</title><link>https://site.test/1</link>
<dc:creator>Ann</dc:creator><enclosure url="/a.mp3" type="audio"/></item>
<item><title>\'\'\'"; import os #</title><guid>x</guid></item></channel></rss>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>F</title><entry><title>One</title>
<link href="https://site.test/1"/><author><name>Ann</name></author></entry></feed>"""


@pytest.mark.parametrize(
    ("xml", "tag", "link"), [(RSS, "item", 'row["link"]'), (ATOM, "entry", 'row["link@href"]')]
)
def test_a_feed(xml: str, tag: str, link: str) -> None:
    response = Response(
        "https://site.test/feed", 200, {"content-type": "application/xml"}, xml.encode()
    )
    drafted = draft(response)
    assert (drafted.kind, drafted.cards) == ("feed", tag)
    found = fields(drafted)
    assert found["title"][2].startswith("One")
    assert found["link"][1:] == (link, "https://site.test/1")
    text = source(drafted)
    compile_and_define(text)
    assert "class Shop(FeedSpider):" in text
    assert "import os" not in ast.unparse(ast.parse(text))


def test_a_feed_with_entities_is_not_read() -> None:
    bomb = b'<!DOCTYPE r [<!ENTITY a "x">]><rss><item><title>&a;</title></item></rss>'
    response = Response("https://site.test/f", 200, {"content-type": "text/xml"}, bomb)
    assert draft(response) == Draft()


@pytest.mark.long
def test_a_large_page_takes_linear_work() -> None:
    """Element by element, and not more than the bound: 5 MB are drafted as 1 MB are."""
    card = '<li class="item"><h3><a href="/e/{i}">Entry {i}</a></h3><p class="price">€ {i}</p></li>'
    small, large = (body(f"<ul>{many(card, count)}</ul>") for count in (200, 60_000))
    assert len(large.body) > 5_000_000
    assert fields(draft(large)).keys() == fields(draft(small)).keys()
    assert draft(large).cards == "li.item"


# Names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["price", "product-title", "productTitle", "product_pod", "toctree-l1", "text"],
)
def test_names_that_say_something(name: str) -> None:
    assert semantic(name)


@pytest.mark.parametrize(
    "name",
    [
        "css-1x2y3z", "sc-bdVaJa", "kYzQpX", "jss123", "Card_title__x3Fa9", "post-4567", "cg-6",
        "active", "col-md-8", "mt-4", "md:flex", "w-1/2", "a.b", 'a"b', "a b", "", "-x", "é", "1a",
        "x" * 60, "svelte-1abc23", "_3kfgh", "row", "xkcdqz",
    ],
)  # fmt: skip
def test_names_that_do_not(name: str) -> None:
    assert not semantic(name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Number of reviews", "number_of_reviews"),
        ("Price (excl. tax)", "price_excl_tax"),
        ("UPC", "upc"),
        ("productTitle", "product_title"),
        ("class", "item_class"),
        ("None", "none"),
        ("str", "item_str"),
        ("copy", "item_copy"),
        ("model fields", "item_model_fields"),
        ("a very long name that goes on and on", "a_very_long_name_that"),
        ("重さ", ""),
        ("__import__('os')", "import_os"),
        ("1st", ""),
        ("\n", ""),
    ],
)
def test_identifiers(text: str, name: str) -> None:
    assert identifier(text) == name


@given(st.text(max_size=60))
def test_identifiers_are_identifiers(text: str) -> None:
    name = identifier(text)
    assert name == "" or (name.isidentifier() and name.isascii() and len(name) <= 30)
    ast.parse(f"class A:\n    {name or 'x'}: str")


# Source that hostile pages cannot break ---------------------------------------------------------


def compile_and_define(text: str) -> ast.Module:
    tree = ast.parse(text)
    assert max(map(len, text.splitlines())) <= 100
    return tree


def shape(text: str) -> list[str]:
    """The kinds of statements and the calls of a module: what it does, whatever its strings say."""
    tree = ast.parse(text)
    calls = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    known = {
        "Css", "Json", "Url", "response.links", "response.follow", "response.extract",
        "response.extract_all",
    }  # fmt: skip
    assert calls <= known, calls - known
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Lambda | ast.Global | ast.Delete)]
    return [type(node).__name__ for node in tree.body]


EVIL = [
    '"""', "'''", '"; import os; os.system("x") #', "\\", "\n", "\r\nimport os\n", "\u2028import",
    "\x00", "\x1b[31m", "# noqa", "# type: ignore", "# fmt: off", "# ruff: noqa", "{0}", "%s",
    "\u202e", "')", '")', "])", "é", "価格", "£51.77", "class", "str", "__class__", "😀", "\ud800",
    "a" * 300,
]  # fmt: skip
evil = st.lists(st.sampled_from(EVIL) | st.text(max_size=20), min_size=1, max_size=3).map("".join)


@st.composite
def cards(draw: st.DrawFn) -> str:
    cls, inner, text, tag = (draw(evil) for _ in range(4))
    html_tag = draw(st.sampled_from(["p", "span", "td", "dd", "time", "h2", "x-y"]))
    card = (
        f'<li class="{cls} item" id="{text}"><a href="/{inner}{{i}}" title="{text}">{tag} {{i}}</a>'
        f'<{html_tag} class="{inner}" itemprop="{cls}" data-test="{tag}">{text} {{i}}</{html_tag}>'
        f'<img src="{inner}"><b class="price {cls}">€ {{i}}</b></li>'
    )
    head = f'<h1 class="{cls}" id="{inner}">{text}</h1><dl><dt>{text}</dt><dd>{cls}</dd>'
    facts = f"<dt>{cls}</dt><dd>{tag}</dd></dl><table><tr><th>{inner}<td>{text}<tr><th>{tag}<td>1"
    crumbs = (
        f'</table><ul class="breadcrumb {cls}"><li><a href=/>{tag}</a><li><a href=/x>y</a></ul>'
    )
    after = f'<a class="next {cls}" aria-label="Next {text}" href="?{inner}">{tag}</a>'
    amount = draw(st.sampled_from([0, 6]))
    return f"{head}{facts}{crumbs}<ul>{many(card, amount)}</ul>{after}"


@settings(max_examples=150)
@given(cards())
def test_no_page_can_put_code_into_its_draft(html: str) -> None:
    response = page(html.encode("utf-8", "replace"))
    drafted = draft(response)
    drafted = with_detail(drafted, response) if drafted.targets else drafted
    text = source(drafted)
    compile_and_define(text)
    kinds = shape(text)
    assert kinds[0] == "Expr"
    assert kinds[-2:] == ["ClassDef", "ClassDef"]
    assert set(kinds[1:-2]) == {"ImportFrom"}
    for css in (drafted.cards, drafted.next, drafted.links):
        if css:
            compile_css(css)
    for field in drafted.shown:
        field.marker.build()
    if drafted.shown:
        fits(drafted, response)


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_no_text_breaks_drafting(text: str) -> None:
    compile_and_define(source(draft(page(text.encode("utf-8", "replace")))))


@given(evil, st.integers(20, 100))
def test_samples_stay_on_their_line(sample: str, width: int) -> None:
    shown = quoted(sample, width)
    assert len(shown) <= width
    assert shown.isprintable()
    assert len(f"# {shown}".splitlines()) == 1
    assert "noqa" not in shown
    assert "type:" not in shown


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | evil,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(evil, inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_no_api_can_put_code_into_its_draft(value: object) -> None:
    data = json.dumps(value).encode()
    response = Response("https://site.test/api", 200, {"content-type": "application/json"}, data)
    drafted = draft(response)
    shape(source(drafted))
    if drafted.shown:
        fits(drafted, response)


def samples() -> list[Draft]:
    """Drafts of every kind, with lines of every length."""
    fields = [
        Field("url", Marker("Url"), sample="https://site.test/"),
        *(
            Field(
                f"f{n}",
                Marker("Css", (f".{'x' * n}",), re=r"\d+" if n % 3 else None, absolute=n % 2 == 0),
                kind,
                "sample " * (n % 7),
            )
            for n, kind in enumerate(["str", "Amount | None", "int", "list[str]"] * 15, 1)
        ),
    ]
    return [
        Draft(),
        Draft("list", tuple(fields), "li.item", "li.next a"),
        Draft("list", tuple(fields[:3]), "li.item", links="li.item a", detail=tuple(fields)),
        Draft("detail", tuple(fields), next="a.next"),
        Draft("feed", (Field("a", Marker("Row", ("a@href",)), "str | None", "s " * 90),), "item"),
        Draft("json", (Field("a", Marker("Json", ("a",), type="Product")),), "data[]"),
    ]


def test_drafts_are_formatted_and_pass_the_linter(tmp_path: Path, site: Site) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists() and shutil.which("ruff") is None:
        pytest.skip("ruff is not installed")
    listed = draft(shop_page(site, ""))
    drafts = [
        *samples(),
        listed,
        with_detail(listed, shop_page(site, listed.targets[0][len(SHOP) :])),
    ]
    for number, drafted in enumerate(drafts):
        url = "https://site.test/" + "a" * (number * 40)
        (tmp_path / f"draft{number}.py").write_text(source(drafted, url), "utf-8")
    for command in (["format", "--check", "--diff"], ["check", "--no-cache"]):
        ran = subprocess.run(
            [ruff, *command, "--config", ROOT / "pyproject.toml", "--ignore=INP001", tmp_path]
            if command[0] == "check"
            else [ruff, *command, "--no-cache", "--config", ROOT / "pyproject.toml", tmp_path],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_plain_is_what_css_and_python_take_as_it_stands() -> None:
    assert plain("product_pod")
    assert not plain("a'b")
    assert compile_css(".product_pod")
