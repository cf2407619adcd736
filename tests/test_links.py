from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper import urls
from scraper.errors import UsageError
from scraper.linkfilters import glob
from scraper.links import LinkQuery, Memo, Shelf
from scraper.pagemeta import base_url
from scraper.resolving import Resolver
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
    return LinkQuery(css, **options).find(page, Resolver(URL))


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


@given(
    st.lists(
        st.sampled_from([
            *(
                "<base href=/a>",
                "<base target=x>",
                "<base href>",
                "<BASE HREF=/b />",
                "<p>",
                "</p>",
            ),
            *("<template>", "</template>", "<svg>", "</svg>", "<math>", "<table>", "</table>"),
            *("<base xlink:href=q href=r>", "<base x:href=c>", "<svg:base href=d>", "<select>"),
            *("<frameset>", "<noscript>", "</noscript>", "<title>", "</title>", "</head>"),
        ]),
        max_size=7,
    )
)
def test_the_base_is_the_first_that_css_finds(parts: list[str]) -> None:
    page = Document.of("".join(parts))
    expected = page.css("base[href]::attr(href)").get("")
    assert base_url(page, URL) == urls.parse(expected, URL)


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
        assert LinkQuery().find(page, Resolver(URL, memo.known(URL))) == list(expected)


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
        resolver = Resolver(url, memo.known(url))
        slow = dict.fromkeys(
            (urls.parse(href, url) or "").partition("#")[0]
            for href in page.css("a::attr(href)").getall()
            if href and not href.startswith("#")
        )
        assert LinkQuery().find(page, resolver) == [link for link in slow if urls.is_web(link)]


def test_the_memo_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shelf, "TABLES", 8)
    monkeypatch.setattr(Memo, "HREFS", 40)
    memo = Memo()
    for n in range(Shelf.TABLES + 5):
        memo.known(f"http://h/{n}/page").hrefs["x"] = None
    assert "x" not in memo.known("http://h/0/other").hrefs
    latest = memo.known("http://h/12/third")
    assert latest.hrefs == {"x": None}
    latest.pages.update((str(n), None) for n in range(Memo.HREFS - 10))
    assert memo.known("http://h/12/") is latest, "the others have room beside it"
    assert memo.known("http://h/11/").hrefs == {"x": None}
    latest.pages.update((str(n), None) for n in range(Memo.HREFS - 1))
    assert memo.known("http://h/12/").size == Memo.HREFS, "the others are forgotten for it"
    assert memo.known("http://h/11/").hrefs == {}
    latest.pages["one more"] = None
    assert memo.known("http://h/12/").pages == {}


def test_what_sites_are_known_by_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a crawl of many sites, too, whose directories are all remembered."""
    monkeypatch.setattr(Memo, "HREFS", 40)
    memo = Memo()
    held = []
    for n in range(100):
        held.append(memo.known(f"http://{n}/a/").site)
        held[-1].pages.update((f"/{x}", None) for x in range(5))
    assert sum(len(site.hrefs) + len(site.pages) for site in held) <= Memo.HREFS + 5
    assert memo.known("http://99/b/").site is held[-1]
    assert memo.known("http://0/a/").site.pages == {}


def test_the_memo_of_requests_is_bounded() -> None:
    memo = Memo()
    requests = memo.requests("parse", None)
    requests.update((str(n), n) for n in range(Memo.REQUESTS))
    assert memo.requests("parse", "other") == {}
    assert memo.requests("parse", None) == {}


# Options

FILES = Document.of("""
<nav><a href=1.pdf>one</a><a href=2.html>two  <b>2</b></a><a href=3.JPG?x=1>three</a></nav>
<a href=4.tar.gz class=get>four</a><a href=/get?file=5.zip>five</a><a href=6%2Epdf>six</a>
<a href="7.pdf;jsessionid=1">seven</a><a href=8.pdf%20>eight</a><a href=/a.pdf/9>nine</a>
<a href=http://example.zip>ten</a><a href=/Node.JS>eleven</a><a href=12>2</a>
<div data-url=x.png href=y.pdf><img src=z.png></div>
""")
PAGES = ["2.html", "/get?file=5.zip", "/a.pdf/9", "http://example.zip/", "12"]


def files(css: str | None = None, **options: Any) -> list[str]:
    return [
        link.removeprefix("http://h/shop/").removeprefix("http://h")
        for link in found(css, page=FILES, **options)
    ]


@pytest.mark.parametrize(
    ("css", "options", "links"),
    [
        (None, {}, PAGES),
        ("body", {}, PAGES),
        ("nav", {}, ["2.html"]),
        ("nav a", {}, ["1.pdf", "2.html", "3.JPG?x=1"]),
        (".get", {}, ["4.tar.gz"]),
        (".get, nav", {}, ["2.html", "4.tar.gz"]),
        ("nav, nav a:last-child", {}, ["2.html", "3.JPG?x=1"]),
        ("nav a::attr(href)", {}, ["1.pdf", "2.html", "3.JPG?x=1"]),
        ("img", {}, ["z.png"]),
        (None, {"xpath": "//nav"}, ["2.html"]),
        (None, {"xpath": "//nav/a[1]"}, ["1.pdf"]),
        (None, {"xpath": "//nav/a/@href"}, ["1.pdf", "2.html", "3.JPG?x=1"]),
        ("nav", {"extensions": ()}, ["1.pdf", "2.html", "3.JPG?x=1"]),
        ("nav", {"extensions": "html"}, ["1.pdf", "3.JPG?x=1"]),
        ("nav a", {"extensions": [".HTML", "*.jpg"]}, ["1.pdf"]),
        (".get", {"extensions": ["tar.gz"]}, []),
        (".get", {"extensions": ["gz"]}, []),
        (".get", {"extensions": ["ar.gz"]}, ["4.tar.gz"]),
        (None, {"attrs": "data-url"}, ["x.png"]),
        (None, {"attrs": ("src", "data-url")}, ["x.png", "z.png"]),
        ("nav, div", {"attrs": ("href", "src", "data-url")}, ["2.html", "y.pdf", "x.png"]),
        ("div", {"attrs": "src"}, ["z.png"]),
        (None, {"attrs": "src", "extensions": "png"}, []),
        (None, {"text": "^2$"}, ["12"]),
        (None, {"text": ["two 2", "nine"]}, ["2.html", "/a.pdf/9"]),
        ("nav", {"text": "one"}, []),
        ("nav a", {"text": "one"}, ["1.pdf"]),
        ("nav a::attr(href)", {"text": "one"}, ["1.pdf"]),
        ("nav a, .get::attr(href)", {"text": "o"}, ["1.pdf", "2.html", "4.tar.gz"]),
        (None, {"xpath": "//a", "text": "four"}, ["4.tar.gz"]),
        (None, {"allow": "*.html"}, ["2.html"]),
        (None, {"allow": glob("/get[?]*")}, ["/get?file=5.zip"]),
        (None, {"allow": glob("/shop/*"), "deny": "/12"}, ["2.html"]),
        (None, {"allow": glob("http://h/shop/??")}, ["12"]),
        (None, {"deny": ["*/shop/*", re.compile("zip$")]}, ["/a.pdf/9", "http://example.zip/"]),
        (None, {"domains": "example.zip"}, ["http://example.zip/"]),
        (None, {"deny_domains": ["zip", "h:80"]}, []),
        (None, {"domains": []}, []),
    ],
)
def test_options(css: str | None, options: dict[str, Any], links: list[str]) -> None:
    assert files(css, **options) == links


@pytest.mark.parametrize(
    ("link", "domain", "inside"),
    [
        ("http://www.example.com/", "example.com", True),
        ("http://example.com/", "*.example.com", True),
        ("http://notexample.com/", "example.com", False),
        ("http://example.com.evil/", "example.com", False),
        ("http://u:p@example.com/", "example.com", True),
        ("http://example.com@evil/", "example.com", False),
        ("http://example.com:8080/", "example.com", True),
        ("http://example.com:8080/", "example.com:8080", True),
        ("http://example.com:80/", "example.com:8080", False),
        ("http://www.bücher.example/", "Bücher.EXAMPLE", True),
        ("http://xn--bcher-kva.example./", "bücher.example", True),
        ("http://[::1]:80/", "[::1]", True),
        ("http://0x7f.1/", "127.0.0.1", True),
    ],
)  # fmt: skip
def test_domains(link: str, domain: str, inside: bool) -> None:
    page = Document.of(f'<a href="{link}">')
    assert bool(found(page=page, domains=domain)) is inside
    assert bool(found(page=page, deny_domains=[domain])) is not inside


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"allow": "("}, "regular expression"),
        ({"deny": ["a", "["]}, "regular expression"),
        ({"allow": "https://site/books/*"}, "glob('https://site/books/*')"),
        ({"text": "*x"}, "regular expression"),
        ({"domains": "http://x/"}, "domains: 'http://x/' is not a host"),
        ({"deny_domains": [""]}, "deny_domains"),
        ({"extensions": [""]}, "extensions"),
        ({"extensions": "a/b"}, "extensions"),
        ({"attrs": "a b"}, "attrs"),
        ({"css": "a", "xpath": "//a"}, "not by both"),
        ({"css": "a["}, "CSS"),
        ({"xpath": "//a["}, "XPath"),
        ({"xpath": "//a/@href", "text": "x"}, "finds strings"),
    ],
)
def test_what_cannot_be_meant(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        found(page=FILES, **options)
    assert told in str(caught.value)


def test_globs_that_can_never_match_are_refused() -> None:
    with pytest.raises(UsageError, match=r"glob\('\*books/\*'\)"):
        glob("books/*")


def test_a_link_counts_by_the_best_of_its_mentions() -> None:
    page = Document.of("<a href=x rel=nofollow><img></a><a href=x>more</a><a href=y.pdf></a>")
    query = LinkQuery("a, body", text="more")
    assert query.find(page, Resolver(URL), follow=False) == ["http://h/shop/x"]
    assert LinkQuery().find(page, Resolver(URL), follow=False) == ["http://h/shop/x"]


def test_a_memo_knows_files_from_pages_in_every_directory() -> None:
    memo = Memo()
    for name in ("http://h/a/1", "http://h/b/1", "http://h/a/2?q", "http://h/a/2?r"):
        for _ in range(2):
            resolver = Resolver(name, memo.known(name))
            folder = name[: name.rindex("/") + 1]
            page = Document.of('<a href=x><a href=x.zip><a href="?p"><a href=http:><a href="#">')
            expected = [f"{folder}x", f"{name.partition('?')[0]}?p", name]
            assert LinkQuery().find(page, resolver) == expected
            assert resolver.resolve("x.zip") == f"{folder}x.zip"


@given(hrefs)
def test_every_way_of_finding_all_links_finds_the_same(given_hrefs: list[str]) -> None:
    page = Document.of(
        "".join(
            f'<a href="{h.replace("&", "&amp;").replace(chr(34), "&quot;")}">' for h in given_hrefs
        )
    )
    resolver = Resolver(URL)
    every = LinkQuery().find(page, resolver)
    for query in (
        LinkQuery("body"),
        LinkQuery("a"),
        LinkQuery("a::attr(href)"),
        LinkQuery(attrs="href"),
        LinkQuery(text=""),
        LinkQuery(xpath="//a/@href"),
        LinkQuery(extensions=()),
    ):
        assert query.find(page, resolver) == every
        assert query.find(page, resolver, follow=False) == every


@given(st.lists(st.sampled_from(["<div>", "</div>", "<b>", "</b>", "<a href=%d>", "</a>"])))
def test_containers_inside_each_other_are_swept_once(parts: list[str]) -> None:
    html = "".join(part % n if "%" in part else part for n, part in enumerate(parts))
    page = Document.of(html)
    expected = list(
        dict.fromkeys(f"http://h/shop/{href}" for href in page.css("div a::attr(href)").getall())
    )
    for query in (LinkQuery("div"), LinkQuery("div", text=""), LinkQuery(xpath="//div")):
        assert query.find(page, Resolver(URL)) == expected
