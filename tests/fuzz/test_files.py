"""Files that sites publish for machines: robots.txt, sitemaps, feeds."""

from __future__ import annotations

import codecs
import gzip
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper import urls
from scraper.errors import ExtractionError
from scraper.feeds import FeedFormat, Row, read
from scraper.robots import Robots
from scraper.sitemap import Entry, parse
from tests.fuzz.material import attempt, examples, from_data, lines, mutated

SITE = "https://shop.example"
PATHS = ("/", "/a/b.html?x=1&y", "/private/%7Ejoe", "/caf%C3%A9", "/" + "a*$" * 50)

# robots.txt -------------------------------------------------------------------------------------

ROBOTS = (
    b"User-agent: *\nDisallow: /private\nAllow: /private/$\nCrawl-delay: 2\nSitemap: /s.xml\n",
    b"\xef\xbb\xbfUser-agent: a\r\nUser-agent: scraper/1.0\r\nDisallow: /*?x=*&y$\r\n\r\n",
    *from_data("robots/**/*"),
)
RECORDS = [
    "User-agent: *", "User-agent: scraper", "user agent scraper", "Disallow: /", "Disallow:",
    "Allow: /a",
    "Disallow: /%", "Allow: /%zz", "Disallow: *", "Disallow: /*****$$", "Disallow: https://[x",
    "Allow: $",
    "Crawl-delay: 1e5", "Crawl-delay: nan", "Crawl-delay: -1", "Crawl-delay: 1_0",
    "Crawl-delay: \u0663",
    "\ufeff", "Sitemap: //[", "Sitemap: ftp://x", "<html>", "Request-rate: 1/", "Visit-time: x",
    "#", "\0",
    "\x85", "\u2028", "\r", ":", "::", " ", "\t", "*" * 300, "/a*b$" * 30,
]  # fmt: skip
ROBOTS_BODIES = (
    mutated(ROBOTS, [record.encode("utf-8", "replace") + b"\n" for record in RECORDS])
    | lines(RECORDS)
    | st.binary(max_size=200)
)


def said(body: bytes) -> tuple[object, ...]:
    robots = Robots.parse(body, "scraper", url=f"{SITE}/robots.txt")
    allowed = [robots.allowed(SITE + path) for path in PATHS]
    return (robots.crawl_delay, robots.sitemaps, allowed)


@examples(60)
@given(ROBOTS_BODIES)
def test_robots_txt(body: bytes) -> None:
    robots = Robots.parse(body, "scraper", url=f"{SITE}/robots.txt")
    assert all(robots.allowed(SITE + path) in {True, False} for path in PATHS)
    assert robots.allowed(f"{SITE}/robots.txt")
    assert robots.crawl_delay is None or 0 <= robots.crawl_delay <= 300
    assert all(urls.parse(sitemap) == sitemap for sitemap in robots.sitemaps)
    assert len(set(robots.sitemaps)) == len(robots.sitemaps)
    for note in robots.notes:
        note.encode()
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return
    if "\0" not in text and not text.startswith("\ufeff"):
        assert said(codecs.BOM_UTF8 + body) == said(body)
        assert said(text.encode("utf-16")) == said(body)


# Sitemaps ---------------------------------------------------------------------------------------

SITEMAPS = (
    b"""<?xml version="1.0" encoding="UTF-8"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
<url><loc>https://shop.example/a?b&amp;c</loc><lastmod>2026-01-31T12:00:00+01:00</lastmod>
<changefreq>Daily</changefreq><priority>0.8</priority><xhtml:link rel="alternate" hreflang="de"
href="/de"/></url><url><loc><![CDATA[/rel]]></loc></url></urlset>""",
    b"<sitemapindex><sitemap><loc>/1.xml</loc></sitemap></sitemapindex>",
    b"https://shop.example/1\nhttps://shop.example/2\n",
    gzip.compress(b"https://shop.example/1\n" * 20),
    *from_data("sitemaps/*"),
)
XML_WORDS = [
    b"<", b">", b"</", b"/>", b"<url>", b"</url>", b"<loc>", b"</loc>", b"<urlset>", b"</urlset>",
    b"&", b"&amp;",
    b"&#0;", b"&#xD800;", b"&x;", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<?", b"?>",
    b"<!DOCTYPE x [", b"]>",
    b"<!ENTITY a 'b'>", b"<!ENTITY % p SYSTEM 'file:///etc/passwd'>%p;", b"\0", b"\xff",
    b"\xfe\xff", b"\xef\xbb\xbf",
    b"xmlns:a='b'", b"<a:b", b"encoding='utf-16'", b"encoding='x'", b"version='9'",
    b"\xed\xa0\x80", b"\r", b"\x0b",
    b"<lastmod>9999-12-31T23:59:60.9999999999+99:99</lastmod>", b"<lastmod>0000</lastmod>",
    b"<priority>nan</priority>",
    b"<loc>javascript:0</loc>", b"<loc>http://[</loc>", b"\x1f\x8b\x08", b"<html>", b"9" * 300,
    b"<item>", b"</item>",
]  # fmt: skip
REFUSED = {"xml_entity", "parse_limit", "body_too_large"}


def entries(body: bytes) -> tuple[list[Entry], list[str], str]:
    sitemap = parse(body, url=f"{SITE}/sitemap.xml", max_urls=30, max_size=1_000_000)
    found: list[Entry] = []
    try:
        found.extend(sitemap)
    except ExtractionError as error:
        return found, sitemap.warnings, error.reason
    return found, sitemap.warnings, ""


@examples(80)
@given(mutated(SITEMAPS, XML_WORDS) | st.binary(max_size=120))
def test_sitemaps(body: bytes) -> None:
    found, warnings, reason = entries(body)
    assert reason in REFUSED | {""}
    assert len(found) <= 30
    for entry in found:
        assert entry.loc
        assert urls.parse(entry.loc) in {entry.loc, None}
        entry.loc.encode()
        assert entry.lastmod is None or entry.lastmod.utcoffset() is not None
        assert entry.priority is None or 0 <= entry.priority <= 1
        assert all(urls.parse(href) in {href, None} for href in entry.alternates.values())
        assert entry.kind in {"url", "sitemap"}
        entry.modified_since(entry.lastmod or parse_now())
    for warning in warnings:
        warning.encode()
    again = gzip.compress(body)
    if not body.startswith(b"\x1f\x8b"):
        assert entries(again)[0] == found
        assert entries(again)[2] == reason


def parse_now() -> datetime:
    return datetime.now(UTC)


# Feeds ------------------------------------------------------------------------------------------

FEEDS = (
    b'name;price;"de;ep"\n"a ""b""";1,5;x\nshort\n;;;;\n',
    b'{"a": 1}\n{"a": [1, null]}\n\nnot json\n{"a": 1e999}\n"\\ud800"\n',
    b'{"data": {"items": [{"a": 1}, {"a": "\\u00e9"}, 7]}, "more": [[[]]]}',
    b"<feed><item id='1'><name>n</name><g:price xmlns:g='x'>2</g:price></item><item/></feed>",
    gzip.compress(b"a,b\n1,2\n"),
    *from_data("sitemaps/*.rss"),
    *from_data("sitemaps/*.xml"),
)
FEED_WORDS = [
    *XML_WORDS, b'"', b'""', b";", b",", b"\t", b"|", b"\n", b"\r\n", b"{", b"}", b"[", b"]" * 9,
    b"[" * 400, b"NaN",
    b"-Infinity", b"1e999", b"\\ud800", b"\\", b'{"a":', b"null", b"9" * 5000, b"'",
]  # fmt: skip
FORMATS: list[FeedFormat | None] = [None, "csv", "json", "jsonl", "xml"]


@pytest.mark.parametrize("kind", FORMATS)
@examples(30)
@given(
    body=mutated(FEEDS, FEED_WORDS) | st.binary(max_size=120),
    itertag=st.sampled_from([None, "item", "data.items", "g:price", "*", "", "a..b"]),
    ending=st.sampled_from(["", ".csv", ".json.gz", ".xml", ".jsonl"]),
)
def test_feeds(kind: FeedFormat | None, body: bytes, itertag: str | None, ending: str) -> None:
    feed = read(body, format=kind, url=f"{SITE}/f{ending}", itertag=itertag, max_size=1_000_000)
    rows: list[Row] = []
    refused = attempt(ExtractionError, lambda: rows.extend(feed))
    assert refused is None or refused.reason in REFUSED | {"not_json"}
    for row in rows:
        assert row.place
        row.error.encode()
        json.dumps(row.value)
