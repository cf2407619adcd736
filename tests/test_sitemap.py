"""Sitemaps: every format, every kind of damage, nothing that harms."""

from __future__ import annotations

import gzip
import socket
import tracemalloc
import zlib
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.errors import ExtractionError
from scraper.sitemap import MAX_URLS, Entry, Sitemap, lastmod, parse, sitemaps_of

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
URLSET = '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'


def urlset(*locs: str) -> str:
    inside = "\n".join(f"<url><loc>{loc}</loc></url>" for loc in locs)
    return f"{HEAD}{URLSET}{inside}</urlset>"


def read(body: str | bytes, **more: str) -> tuple[list[str], list[str]]:
    """The URLs and the warnings."""
    sitemap = parse(body.encode() if isinstance(body, str) else body, **more)  # type: ignore[arg-type]
    return [entry.loc for entry in sitemap], sitemap.warnings


def whole(path: Path) -> tuple[list[Entry], Sitemap]:
    sitemap = parse(path.read_bytes(), url=f"http://sitemaps.test/{path.name}")
    return list(sitemap), sitemap


# -- the files that nobody here wrote -------------------------------------------------------------

CATALOGUE = [
    "http://www.example.com/",
    "http://www.example.com/catalog?item=12&desc=vacation_hawaii",
    "http://www.example.com/catalog?item=73&desc=vacation_new_zealand",
    "http://www.example.com/catalog?item=74&desc=vacation_newfoundland",
    "http://www.example.com/catalog?item=83&desc=vacation_usa",
]
LINKED = [f"http://www.example.com/{p}/" for p in ("english", "deutsch", "schweiz-deutsch")]
VIDEO = "http://www.example.com/videos/some_video_landing_page"
NEWS = "https://shinpaideshou.wordpress.com/2017/04"

EXPECTED: dict[str, list[str]] = {
    "atom.xml": ["http://example.org/2003/12/13/atom03"],
    "do-not-visit.txt": ["http://www.example.com/do-not-visit-here"],
    "feed.rss": [
        "https://www.example.com/blog/post/1",
        "https://www.example.com/guid.html",
        "https://www.example.com/foo?q=a&l=en",
        "https://www.example.com/foo?q=a&l=fr",
    ],
    "pagemaps-sitemap.xml": ["http://www.example.com/foo", "http://www.example.com/bar"],
    "shinpaideshou-news-sitemap.xml": [
        f"{NEWS}/25/job-opening-reischauer-policy-research-fellow/",
        f"{NEWS}/24/call-for-papers-nation-gender-and-history-asian-cinemas-in-perspective-2/",
        f"{NEWS}/24/job-opening-lecturer-in-japanese-studies-university-of-leeds/",
    ],
    "sitemap-images.xml": ["http://www.example.com/images/some_image_landing_page.html"],
    "sitemap-links.xml": LINKED,
    "sitemap-mobile.xml": [
        "http://www.example.com/mobile-friendly-1/",
        "http://www.example.com/mobile-friendly-2/",
        "http://www.example.com/no-mobile/",
    ],
    "sitemap-news.xml": [
        "http://www.example.org/business/article55.html",
        "http://www.example.org/empty_news_name.html",
    ],
    "sitemap-videos-tvshow.xml": ["https://example.org/my-tv-show/23/13/"],
    "sitemap-videos.xml": [f"{VIDEO}.html", f"{VIDEO}-2.html", f"{VIDEO}-3.html"],
    "sitemap-with-bom.txt": [f"http://www.domain.com/page{n}.html" for n in (1, 2)],
    "sitemap.badns.xml": ["http://www.example.com/1", "http://www.example.com/2"],
    "sitemap.index.xml": [
        f"https://example.com/sitemap.jss?portalCode={n}&lang=en"
        for n in (
            10260, 2, 10080, 10140, 10340, 10400, 10430, 10440,
            10450, 10460, 10470, 10480, 10490, 10550, 10570,
        )
    ],
    "sitemap.ns.xml": ["http://www.example.com/1", "http://www.example.com/2"],
    "sitemap.txt": [f"http://www.domain.com/page{n}.html" for n in (1, 2)],
    "sitemap.txt.gz": CATALOGUE,
    "xmlRss_pubDate.xml": [f"http://www.example.com/article_{n}" for n in range(1, 8)],
    "xmlSitemap.gz": CATALOGUE,
}  # fmt: skip


@pytest.mark.parametrize("name", [*EXPECTED, "hebdenbridgetimes-articles-sitemap.xml"])
def test_the_files_of_others(test_data: Path, name: str) -> None:
    path = test_data / "sitemaps" / name
    entries, sitemap = whole(path)
    assert sitemap.warnings == []
    locs = [entry.loc for entry in entries]
    if name in EXPECTED:
        assert locs == EXPECTED[name]
    else:
        text = path.read_text()
        assert len(locs) == text.count("<url>") == 74
        assert not [loc for loc in locs if "webimage" in loc or "brightcove" in loc]
        assert {entry.changefreq for entry in entries} == {"daily"}
        assert all(entry.lastmod for entry in entries)
    kind = "sitemap" if name == "sitemap.index.xml" else "url"
    assert {entry.kind for entry in entries} == {kind}


def test_every_file_of_others_is_expected(test_data: Path) -> None:
    names = {path.name for path in (test_data / "sitemaps").iterdir()}
    assert names == {*EXPECTED, "hebdenbridgetimes-articles-sitemap.xml"}


def test_their_dates_and_languages(test_data: Path) -> None:
    entries, _ = whole(test_data / "sitemaps" / "xmlRss_pubDate.xml")
    paris = timezone(timedelta(hours=1))
    days = [datetime(2017, 1, 5, 13, 34, 50 + n, tzinfo=paris) for n in (1, 2, 3, 4)]
    days.append(datetime(2017, 1, 5, 13, 34, 55, tzinfo=UTC))  # no zone is said
    assert [entry.lastmod for entry in entries] == [*days, None, None]
    linked, _ = whole(test_data / "sitemaps" / "sitemap-links.xml")
    languages = {"en": LINKED[0], "de": LINKED[1], "de-ch": LINKED[2]}
    assert [entry.alternates for entry in linked] == [languages] * 3
    listed, _ = whole(test_data / "sitemaps" / "xmlSitemap.gz")
    assert [entry.priority for entry in listed] == [0.8, None, None, 0.3, None]
    assert listed[0].lastmod == datetime(2005, 1, 1, tzinfo=UTC)
    assert listed[0].precision == 86_400
    assert [entry.changefreq for entry in listed] == ["monthly", "weekly", "weekly", None, None]


# -- dates ----------------------------------------------------------------------------------------

TOKYO = timezone(timedelta(hours=9))


@pytest.mark.parametrize(
    ("text", "moment", "precision"),
    [
        ("2005", datetime(2005, 1, 1, tzinfo=UTC), 366 * 86_400),
        ("2005-02", datetime(2005, 2, 1, tzinfo=UTC), 31 * 86_400),
        (" 2005-02-03\n", datetime(2005, 2, 3, tzinfo=UTC), 86_400),
        ("2005-02-03T04:05Z", datetime(2005, 2, 3, 4, 5, tzinfo=UTC), 60),
        ("2005-02-03T04:05:06+09:00", datetime(2005, 2, 3, 4, 5, 6, tzinfo=TOKYO), 0),
        ("2005-02-03t04:05:06.7890123z", datetime(2005, 2, 3, 4, 5, 6, 789012, tzinfo=UTC), 0),
        ("2005-02-03 04:05:06 +0900", datetime(2005, 2, 3, 4, 5, 6, tzinfo=TOKYO), 0),
        ("2005-02-03T04:05:06", datetime(2005, 2, 3, 4, 5, 6, tzinfo=UTC), 0),
        ("2005-02-03T04:05:60Z", datetime(2005, 2, 3, 4, 5, 59, tzinfo=UTC), 0),
        ("Thu, 03 Feb 2005 04:05:06 GMT", datetime(2005, 2, 3, 4, 5, 6, tzinfo=UTC), 0),
        ("2005-13-01", None, 0),
        ("2005-02-30", None, 0),
        ("2005-02-03T04:05+99:00", None, 0),
        ("yesterday", None, 0),
        ("", None, 0),
        ("9" * 5000, None, 0),
    ],
)
def test_lastmod(text: str, moment: datetime | None, precision: int) -> None:
    assert lastmod(text) == (moment, precision)


@given(st.text(max_size=60))
def test_lastmod_never_raises(text: str) -> None:
    moment, precision = lastmod(text)
    assert precision >= 0
    assert moment is None or moment.tzinfo is not None


def test_a_coarse_date_may_mean_its_last_moment() -> None:
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    day, precision = lastmod("2026-01-31")
    assert Entry("x", day, precision=precision).modified_since(noon)
    month, precision = lastmod("2026-01")
    assert Entry("x", month, precision=precision).modified_since(noon)
    before, precision = lastmod("2026-01-30")
    assert not Entry("x", before, precision=precision).modified_since(noon)
    exact, precision = lastmod("2026-01-31T11:59:59Z")
    assert not Entry("x", exact, precision=precision).modified_since(noon)
    assert Entry("x").modified_since(noon)
    last, precision = lastmod("9999")
    assert Entry("x", last, precision=precision).modified_since(noon)


# -- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        urlset("http://a/1", "http://a/2"),
        urlset("http://a/1", "http://a/2").replace(HEAD, ""),
        urlset("http://a/1", "http://a/2").replace(URLSET, "<urlset>"),
        f"\n\n  \t{urlset('http://a/1', 'http://a/2')}\n\n",
        f"\ufeff{urlset('http://a/1', 'http://a/2')}",
        f"\ufeff \n\ufeff{urlset('http://a/1', 'http://a/2')}",
        f"Notice: undefined index {urlset('http://a/1', 'http://a/2')}",
        urlset("http://a/1", "http://a/2").replace('"1.0"', '"1.1"'),
        urlset("http://a/1", "http://a/2").replace("UTF-8", "no-such-thing"),
        urlset("http://a/1", "http://a/2").replace("UTF-8", "UTF-16"),
        urlset("\n http://a/1\n", "\t\thttp://a/2  "),
        urlset("<![CDATA[http://a/1]]>", "http://a/<![CDATA[2]]>"),
        urlset("http://a/1", "http://a/2").replace("<url>", "<URL>").replace("</url>", "</URL>"),
        (
            f"{HEAD}<s:urlset><s:url><s:loc>http://a/1</s:loc></s:url>"
            "<s:url><s:loc>http://a/2</s:loc></s:url></s:urlset>"
        ),
        (
            f"{HEAD}<urlset><url><x:loc>http://a/1</x:loc></url>"
            "<url><i:loc>http://no</i:loc><loc>http://a/2</loc></url></urlset>"
        ),
        urlset("</loc><loc>http://a/1", "http://a/2</loc><loc>http://a/3"),
        (f"{HEAD}<urlset><url>http://a/1</url><url>\n http://a/<loc/>2 <lastmod/></url></urlset>"),
        f"{HEAD}<!DOCTYPE urlset>{urlset('http://a/1', 'http://a/2').removeprefix(HEAD)}",
        (
            f'{HEAD}<!DOCTYPE urlset SYSTEM "http://127.0.0.1:1/x.dtd">'
            f"{urlset('http://a/1', 'http://a/2').removeprefix(HEAD)}"
        ),
        (
            f"{HEAD}<?xml-stylesheet href='x.xsl'?><!-- a & b -->"
            f"{urlset('http://a/1', 'http://a/2').removeprefix(HEAD)}"
        ),
        "http://a/1\nhttp://a/2",
        "http://a/1\r\nhttp://a/2\r\n",
        "\ufeffhttp://a/1\r\r  http://a/2  \r",
        "# all of them\n\nhttp://a/1\n\nhttp://a/2\n",
    ],
)
def test_two_urls_in_every_dress(body: str) -> None:
    assert read(body) == (["http://a/1", "http://a/2"], [])


@pytest.mark.parametrize(
    "codec", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1251", "shift_jis"]
)
def test_encodings(codec: str) -> None:
    label = {"utf-8-sig": "utf-8", "cp1251": "windows-1251"}.get(codec, codec)
    body = urlset("http://a/1").replace("UTF-8", label).encode(codec)
    assert read(body) == (["http://a/1"], [])


def test_the_header_decides_over_the_declaration() -> None:
    body = urlset("http://a/é").replace("UTF-8", "utf-8").encode("latin-1")
    assert read(body, content_type="text/xml; charset=latin1") == (["http://a/%C3%A9"], [])


def test_invalid_bytes_cost_only_themselves() -> None:
    body = urlset("http://a/1", "http://a/X", "http://a/3").encode().replace(b"X", b"\xff\xfe")
    locs, warnings = read(body)
    assert locs[::2] == ["http://a/1", "http://a/3"]
    assert len(locs) == 3
    assert warnings == []


def test_control_characters_and_impossible_references_do_not_end_it() -> None:
    body = urlset("http://a/1", "http://a/\0\x0b2&#0;&#xD800;&#xFFFFFFFF;", "http://a/3")
    locs, warnings = read(body)
    assert [locs[0], locs[2]] == ["http://a/1", "http://a/3"]
    assert warnings == []


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("http://a/?a=1&b=2", "http://a/?a=1&b=2"),
        ("http://a/?a=1&amp;b=2", "http://a/?a=1&b=2"),
        ("http://a/?a=1&#38;b=2&#x26;c", "http://a/?a=1&b=2&c"),
        ("http://a/?a=1&copy=2", "http://a/?a=1&copy=2"),
        ("http://a/?q=&eacute;", "http://a/?q=%C3%A9"),
        ("http://a/?q=&nosuch;", "http://a/?q=&nosuch;"),
        ("http://a/?q=&", "http://a/?q=&"),
        ("http://a/?<![CDATA[a=1&b=2&amp;]]>", "http://a/?a=1&b=2&amp;"),
        ("<!-- & &amp; -->http://a/?a&b", "http://a/?a&b"),
        ("relative?a=1", "http://s.test/dir/relative?a=1"),
        ("//other.test/x", "http://other.test/x"),
    ],
)
def test_ampersands_as_people_write_them(written: str, meant: str) -> None:
    assert read(urlset(written), url="http://s.test/dir/sitemap.xml") == ([meant], [])


@pytest.mark.parametrize("shift", range(0, 40, 3))
def test_nothing_depends_on_where_a_piece_ends(shift: int) -> None:
    filler = f"<!-- {'x' * (65_536 - 40 + shift)} -->"
    inside = "<![CDATA[a&b]]&]]>&amp;&c=&eacute;<!-- & -->"
    body = urlset("http://a/1").replace("<url>", f"{filler}<url>").replace("/1", f"/?{inside}")
    assert read(body) == (["http://a/?a&b]]&&&c=%C3%A9"], [])
    packed = f"{HEAD}<urlset>{'é' * shift}<!--{'é' * 40_000}-->{urlset('http://b/')[96:]}"
    assert read(packed)[0] == ["http://b/"]


def test_extensions_are_not_pages() -> None:
    body = f"""{HEAD}<urlset><url>
      <image:image><image:loc>http://a/i.png</image:loc><loc>http://a/no</loc></image:image>
      <video:video><video:player_loc>http://a/v</video:player_loc></video:video>
      <loc>http://a/1</loc>
      <url><loc>http://a/inner</loc></url>
    </url></urlset>"""
    assert read(body) == (["http://a/1"], [])


def test_an_rss_channels_logo_is_no_entry() -> None:
    body = """<rss><channel><link>http://a/</link><image><url>http://a/logo.png</url></image>
      <item><title>x</title><link>http://a/1</link><atom:link rel="self" href="http://a/self"/>
      <enclosure url="http://a/e.mp3"/><pubDate>Thu, 03 Feb 2005 04:05:06 GMT</pubDate></item>
      <item><guid>http://a/2</guid></item><item><guid isPermaLink="false">77</guid></item>
      <item><title>nothing</title></item></channel></rss>"""
    locs, warnings = read(body)
    assert locs == ["http://a/1", "http://a/2"]
    assert warnings == ["2 entries without a URL were left out"]


def test_rss_1_and_atom() -> None:
    rdf = """<rdf:RDF xmlns:rdf="r"><item rdf:about="http://a/1"><link>http://a/1</link>
      <dc:date>2005-02-03T04:05:06Z</dc:date></item></rdf:RDF>"""
    (entry,) = parse(rdf.encode())
    assert entry[:2] == ("http://a/1", datetime(2005, 2, 3, 4, 5, 6, tzinfo=UTC))
    atom = """<a:feed xmlns:a="http://www.w3.org/2005/Atom"><a:link href="http://a/"/><a:entry>
      <a:link rel="edit" href="http://a/edit"/><a:link href="/1"/>
      <a:published>2005-02-03</a:published></a:entry></a:feed>"""
    (entry,) = parse(atom.encode(), url="http://a/feed")
    assert entry[:2] == ("http://a/1", datetime(2005, 2, 3, tzinfo=UTC))


def test_alternates_are_languages_only() -> None:
    body = f"""{HEAD}<urlset><url><loc>http://a/en</loc>
      <xhtml:link rel="alternate" hreflang="de" href="/de"/>
      <xhtml:link rel="ALTERNATE nofollow" hreflang="x-default" href="http://a/"/>
      <xhtml:link rel="alternate" media="only screen" href="http://m/"/>
      <xhtml:link rel="stylesheet" hreflang="fr" href="http://a/fr"/>
      <xhtml:link rel="alternate" hreflang="it"/>
      </url></urlset>"""
    (entry,) = parse(body.encode(), url="http://a/sitemap.xml")
    assert dict(entry.alternates) == {"de": "http://a/de", "x-default": "http://a/"}


@pytest.mark.parametrize(
    ("text", "priority"), [("0.8", 0.8), ("0,5", 0.5), ("1", 1.0), ("7", None), ("nan", None)]
)
def test_priority(text: str, priority: float | None) -> None:
    body = urlset("http://a/").replace("</url>", f"<priority>{text}</priority></url>")
    (entry,) = parse(body.encode())
    assert entry.priority == priority


# -- damage ---------------------------------------------------------------------------------------


@pytest.mark.case(55, "a file cut at any place", "exactly the entries that were whole, one warning")
def test_a_truncated_file_gives_what_was_whole() -> None:
    body = urlset(*(f"http://a/{n}" for n in range(100)))
    for cut in range(300, len(body) - 12, 97):
        locs, warnings = read(body[:cut])
        assert locs == [f"http://a/{n}" for n in range(body[:cut].count("</url>"))]
        assert len(warnings) == 1
        assert "cut short" in warnings[0]


def test_damage_costs_the_entry_it_is_in() -> None:
    broken = urlset("http://a/1", "http://a/2<br>", "http://a/3", "http://a/<4", "http://a/5")
    locs, warnings = read(broken)
    assert locs == ["http://a/1", "http://a/3", "http://a/5"]
    assert warnings == ["damaged or cut short (line 3: mismatched tag): read as far as it can be"]


def test_damage_without_end_ends() -> None:
    body = URLSET + "<url><loc>http://a/</url>" * 5000 + "</urlset>"
    locs, warnings = read(body)
    assert locs == []
    assert "more than 100 places" in warnings[0]


@pytest.mark.parametrize(
    ("body", "warning"),
    [
        ("", "it is empty"),
        (" \n\ufeff ", "it is empty"),
        ("<!DOCTYPE html><html><head><title>404</title><meta charset=utf-8>", "HTML page"),
        ("<html><body><url><loc>http://a/</loc></url></body></html>", "HTML page"),
        ("<opml><body/></opml>", "root element is <opml>"),
        ("hello\nworld\n", "2 lines that are no http(s) URLs"),
        ("ftp://a/x\njavascript:alert(1)\n", "2 lines that are no http(s) URLs"),
        (urlset(""), "1 entries without a URL"),
        (urlset("x" * 9000), "1 entries without a URL"),
    ],
)
def test_what_is_no_sitemap_says_so(body: str, warning: str) -> None:
    locs, warnings = read(body)
    assert locs == []
    assert len(warnings) == 1
    assert warning in warnings[0]


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for data in (body, URLSET.encode() + body, b"\x1f\x8b" + body):
        reason = ""
        try:
            entries = list(parse(data, max_urls=50))
        except ExtractionError as error:
            entries, reason = [], error.reason
        assert len(entries) <= 50
        assert reason in {"", "xml_entity", "parse_limit", "body_too_large"}


MARKUP = (
    "<url> </url> <loc> </loc> http://a/ & <!-- --> <![CDATA[ ]]> <? <! &amp; \0 <urlset> </urlset>"
)


@given(st.lists(st.sampled_from([*MARKUP.split(" "), "é", " "])))
def test_any_markup_is_read(parts: list[str]) -> None:
    body = URLSET + "".join(parts)
    assert all(entry.loc.startswith("http://a/") or entry.loc for entry in parse(body.encode()))


# -- hostile --------------------------------------------------------------------------------------

LAUGHS = "".join(
    f'<!ENTITY lol{n} "{f"&lol{n - 1};" * 10}">' if n else '<!ENTITY lol0 "lol">' for n in range(10)
)


@pytest.mark.parametrize(
    "declaration",
    [
        LAUGHS,
        '<!ENTITY x SYSTEM "file:///etc/passwd">',
        '<!ENTITY x SYSTEM "http://127.0.0.1:1/x">',
        '<!ENTITY % p SYSTEM "http://127.0.0.1:1/x.dtd"> %p;',
        "<!ENTITY % p \"<!ENTITY x SYSTEM 'file:///etc/passwd'>\"> %p;",
        '<!NOTATION n SYSTEM "n"><!ENTITY x SYSTEM "file:///etc/passwd" NDATA n>',
        '<!ATTLIST url a CDATA "' + "x" * 1000 + '">',
    ],
)
@pytest.mark.case(
    53,
    "seven kinds of declarations within a doctype",
    "`xml_entity`; neither open() nor connect() is called",
)
def test_entities_are_refused_and_nothing_is_opened(
    declaration: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    monkeypatch.setattr("builtins.open", lambda *a, **k: opened.append(a))
    monkeypatch.setattr("os.open", lambda *a, **k: opened.append(a))
    monkeypatch.setattr(socket.socket, "connect", lambda *a: opened.append(a))
    body = (
        f"{HEAD}<!DOCTYPE urlset [{declaration}]>{URLSET}<url><loc>&x;&lol9;</loc></url></urlset>"
    )
    with pytest.raises(ExtractionError) as caught:
        list(parse(body.encode()))
    assert caught.value.reason == "xml_entity"
    assert opened == []


def test_entries_before_a_late_declaration_are_not_trusted_either() -> None:
    body = f'{urlset("http://a/")}<!DOCTYPE x [<!ENTITY a "b">]>'
    locs, warnings = read(body)  # after the root there is no declaration: only junk
    assert locs == ["http://a/"]
    assert len(warnings) == 1


@pytest.mark.case(
    54, "gzip bombs of 100 MB, some of white space alone", "`body_too_large`, in under 8 MB"
)
@pytest.mark.parametrize("start", [b"<urlset>", b"", b"\xef\xbb\xbf", b"http://a/"])
def test_a_bomb_is_refused_without_being_unpacked(start: bytes) -> None:
    packed = gzip.compress(start + b" " * 100_000_000)
    assert len(packed) < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(ExtractionError) as caught:
            list(parse(packed))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.reason == "body_too_large"
    assert peak < 8_000_000


@pytest.mark.case(
    54, "gzip within gzip, six times", "three layers are undone, then `body_too_large`"
)
def test_bombs_in_bombs(test_data: Path) -> None:
    nested = gzip.compress(gzip.compress(urlset("http://a/").encode()))
    assert read(nested) == (["http://a/"], [])
    for _ in range(4):
        nested = gzip.compress(nested)
    with pytest.raises(ExtractionError) as caught:
        list(parse(nested))
    assert caught.value.reason == "body_too_large"
    bomb = (test_data / "compressed" / "bomb-gzip.bin").read_bytes()
    with pytest.raises(ExtractionError, match="once unpacked"):
        list(parse(bomb, max_size=1_000_000))


def test_gzip_members_padding_and_damage() -> None:
    one, two = gzip.compress(b"http://a/1\n"), gzip.compress(b"http://a/2\n")
    assert read(one + two) == (["http://a/1", "http://a/2"], [])
    assert read(one + b"\0" * 100)[0] == ["http://a/1"]
    body = urlset(*(f"http://a/{n}?{zlib.crc32(b'%d' % n)}" for n in range(3000))).encode()
    packed = gzip.compress(body)
    locs, warnings = read(packed[: len(packed) // 2])
    assert 1000 < len(locs) < 2000
    assert warnings[0] == "the gzip data is cut short: read up to there"
    spoilt = packed[:20_000] + b"\xff" * 100 + packed[20_100:]
    locs, warnings = read(spoilt)
    assert 100 < len(locs) < 3000
    assert warnings


@pytest.mark.parametrize(
    "body",
    [
        "<a>" * 400_000,
        f"{URLSET}<url>{'<a>' * 400_000}",
        f"{URLSET}<url a='{'x' * 9_000_000}'>",
        f"{URLSET}<{'x' * 9_000_000}",
    ],
)
def test_what_costs_too_much_is_not_read(body: str) -> None:
    with pytest.raises(ExtractionError) as caught:
        list(parse(body.encode()))
    assert caught.value.reason == "parse_limit"


@pytest.mark.case(54, "50,007 URLs in one file", "50,000 are taken; the other 7 counted, and said")
def test_the_limit_is_counted() -> None:
    body = urlset(*(f"http://a/{n}" for n in range(MAX_URLS + 7)))
    sitemap = parse(body.encode())
    assert sum(1 for _ in sitemap) == MAX_URLS == sitemap.count
    assert sitemap.over == 7
    assert sitemap.warnings == [
        "50,007 entries: a sitemap has at most 50,000, the last 7 were left out"
    ]


def test_fifty_thousand_urls_build_no_tree() -> None:
    path = "catalogue/a-rather-long-name-of-a-product"
    body = urlset(*(f"http://a.example/{path}/{n}.html" for n in range(MAX_URLS))).encode()
    assert len(body) > 4_000_000
    tracemalloc.start()
    try:
        assert sum(1 for _ in parse(body)) == MAX_URLS
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000  # a tree takes a hundred times that


# -- robots.txt -----------------------------------------------------------------------------------


def test_the_sitemaps_of_a_robots_txt() -> None:
    robots = """\
User-agent: *
Disallow: /x
Sitemap: http://a.test/one.xml
sitemap:http://b.test/two.xml.gz
SITEMAP : /three.xml   # where else
Sitemap: http://a.test/one.xml
Sitemap: ftp://a.test/four.xml
Sitemap:
"""
    found = ["http://a.test/one.xml", "http://b.test/two.xml.gz", "http://a.test/three.xml"]
    assert sitemaps_of(robots, "http://a.test/robots.txt") == found
    assert sitemaps_of(robots.encode("utf-16"), "http://a.test/robots.txt") == found
    assert sitemaps_of("<html>Sitemap: http://a.test/x</html>") == []
    assert sitemaps_of("") == []
