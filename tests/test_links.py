from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper import urls
from scraper.errors import UsageError
from scraper.links import LinkQuery, Memo, base_url
from scraper.select import Document

URL = "http://h/shop/list.html?page=1"
PAGE = Document.of("""
<map><area href="map"></map>
<a href="#top">top</a><a href="">here</a><a>no</a><a href>empty</a>
<nav><a href="/a">1</a><a href="/a#x">again</a><a href="../b">2</a></nav>
<a href="javascript:alert(1)">js</a><a href="mailto:a@b">mail</a><a href="data:,x">data</a>
<a href=" c.html ">3</a><a href="c.html">3</a><a href="//other/x">4</a><a href="http://h:99999/">!</a>
<a href="?page=2">next</a><img src="i.png"><link href="s.css"><a href="d#f">5</a>
""")


def found(css: str | None = None, *, page: Document = PAGE, **options: Any) -> list[str]:
    return LinkQuery(css, **options).find(page, urls.Resolver(URL))


ALL = [
    "http://h/shop/map",
    "http://h/a",
    "http://h/b",
    "http://h/shop/c.html",
    "http://other/x",
    "http://h/shop/list.html?page=2",
    "http://h/shop/d",
]


def test_links_of_a_page() -> None:
    assert found() == ALL


@pytest.mark.parametrize(
    ("css", "links"),
    [
        ("nav a", ["http://h/a", "http://h/b"]),
        ("nav", ["http://h/a", "http://h/b"]),
        ("map", ["http://h/shop/map"]),
        ("img, link", ["http://h/shop/i.png", "http://h/shop/s.css"]),
        ("img::attr(src)", ["http://h/shop/i.png"]),
        ("nav a::attr(href)", ["http://h/a", "http://h/b"]),
        ("h1", []),
        ("body", ALL),
    ],
)
def test_chosen_links(css: str, links: list[str]) -> None:
    assert found(css) == links


def test_filters() -> None:
    assert found(allow=r"\.html$") == ["http://h/shop/c.html"]
    assert found(allow=["/a$", re.compile("^http://other/")]) == ["http://h/a", "http://other/x"]
    assert found(deny=("shop", "other")) == ["http://h/a", "http://h/b"]
    assert found("nav", allow="h/", deny="b$") == ["http://h/a"]
    assert found(allow=[]) == []
    with pytest.raises(UsageError):
        found(allow="(")


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("/dir/", "http://h/dir/"),
        ("https://cdn/x", "https://cdn/x"),
        ("javascript:alert(1)", URL),
        ("data:,x", URL),
        ("http://[", URL),
        ("", URL),
    ],
)
def test_base(base: str, expected: str) -> None:
    assert (
        base_url(Document.of(f'<base target=x><base href="{base}"><base href=/no/>'), URL)
        == expected
    )


def test_no_base() -> None:
    assert base_url(Document(b""), URL) == URL
    assert base_url(Document.of("<base>"), URL) == URL


hrefs = st.lists(st.text(st.sampled_from('ab/.#?% "&<:\\é'), max_size=6), max_size=10)


@given(hrefs)
def test_links_are_what_resolving_each_gives(given_hrefs: list[str]) -> None:
    page = Document.of(
        "".join(
            f'<a href="{h.replace("&", "&amp;").replace(chr(34), "&quot;")}">' for h in given_hrefs
        )
    )
    expected = dict.fromkeys(
        url.partition("#")[0]
        for href in given_hrefs
        if href and href[0] != "#" and (url := urls.parse(href, URL)) and urls.is_web(url)
    )
    memo = Memo()
    for _ in range(2):
        assert LinkQuery().find(page, urls.Resolver(URL, memo.known(URL))) == list(expected)


@pytest.mark.skipif(
    not Path("/usr/share/doc/python3.11/html/library").is_dir(), reason="needs Debian's python3-doc"
)
def test_a_real_site_with_one_memo() -> None:
    memo = Memo()
    pages = sorted(Path("/usr/share/doc/python3.11/html/library").glob("a*.html"))
    assert len(pages) > 5
    for file in pages:
        url = f"http://docs/library/{file.name}"
        page = Document(file.read_bytes())
        resolver = urls.Resolver(url, memo.known(url))
        slow = dict.fromkeys(
            (urls.parse(href, url) or "").partition("#")[0]
            for href in page.css("a::attr(href)").getall()
            if href and not href.startswith("#")
        )
        assert LinkQuery().find(page, resolver) == [link for link in slow if urls.is_web(link)]


def test_the_memo_is_bounded() -> None:
    memo = Memo()
    for n in range(Memo.DIRECTORIES + 5):
        memo.known(f"http://h/{n}/page").hrefs["x"] = None
    assert "x" not in memo.known("http://h/0/other").hrefs
    table = memo.known(f"http://h/{Memo.DIRECTORIES}/third").hrefs
    assert table == {"x": None}
    table.update((str(n), None) for n in range(Memo.HREFS + 1))
    assert memo.known(f"http://h/{Memo.DIRECTORIES}/").hrefs == {}
    requests = memo.requests("parse", None)
    requests.update((str(n), n) for n in range(Memo.REQUESTS))
    assert memo.requests("parse", "other") == {}
    assert memo.requests("parse", None) == {}
