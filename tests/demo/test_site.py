"""The shop as a function of the path: complete, stable, and marked up as promised."""

from __future__ import annotations

import hashlib
from collections import Counter
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.demo.content import CATEGORIES, LATIN_1, WALLED, catalogue, slug
from scraper.demo.site import COOKIE, OUTAGE, ROBOTS, ZIPPED, Site, added
from scraper.sitemap import parse, sitemaps_of

ORIGIN = "http://shop.test"


@pytest.fixture(scope="module")
def site() -> Site:
    return Site()


class Links(HTMLParser):
    """Every href and src, resolved against the page: an independent reading of the markup."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.found.append(urljoin(self.base, value))


def links(path: str, body: bytes) -> list[str]:
    reader = Links(ORIGIN + path)
    reader.feed(body.decode("latin-1"))
    return [urlsplit(url).path for url in reader.found]


def test_there_are_more_than_a_thousand_different_books() -> None:
    books = catalogue()
    assert len(books) == 1_024
    assert len({book.upc for book in books}) == len({book.slug for book in books}) == 1_024
    assert [book.number for book in books] == list(range(1, 1_025))
    counts = Counter(book.category for book in books)
    assert set(counts) == {category.name for category in CATEGORIES}
    assert counts[WALLED] == 24
    assert counts[LATIN_1] > 1


def test_the_content_is_the_same_on_every_machine() -> None:
    # Whoever changes the shop on purpose changes this digest, and all figures taken from it.
    told = "\n".join(repr(book) for book in catalogue())
    assert hashlib.sha256(told.encode()).hexdigest() == DIGEST


def test_every_link_leads_somewhere_except_the_withdrawn_books(site: Site) -> None:
    reached: Counter[int] = Counter()
    dead = set()
    for target in {t for path in site.paths() for t in links(path, site.answer(path).body)}:
        status = site.answer(target).status
        reached[status] += 1
        if status == 404:
            dead.add(target)
    assert len(dead) == 3
    assert all(number in " ".join(dead) for number in ("2001", "2002", "2003"))
    assert set(reached) == {200, 301, 302, 303, 307, 308, 404}


def test_walking_from_the_front_page_finds_every_page_of_books(site: Site) -> None:
    seen, todo = {"/"}, ["/"]
    while todo:
        path = todo.pop()
        answer = site.answer(path)
        location = dict(answer.headers).get("Location")
        found = [urljoin(path, location)] if location else links(path, answer.body)
        for target in found:
            if target not in seen:
                seen.add(target)
                todo.append(target)
    assert set(site.paths()) <= seen


def test_rare_books_stand_in_no_general_list(site: Site) -> None:
    rare = {f"/catalogue/{book.slug}/index.html" for book in site.books if book.walled}
    general = {t for n in range(1, 51) for t in links_of(site, f"/catalogue/page-{n}.html")}
    assert len(rare) == 24
    assert not rare & general
    assert all(site.walled(path) for path in rare)
    assert {path for path in general if site.walled(path)} == {RARE}


def links_of(site: Site, path: str) -> list[str]:
    return links(path, site.answer(path).body)


def test_a_book_page_has_the_markup_of_the_original(site: Site) -> None:
    book = site.books[0]
    text = site.answer(f"/catalogue/{book.slug}/index.html").body.decode()
    assert "<th>UPC</th><td>" + book.upc in text
    assert 'class="price_color">£' in text
    assert f"({book.stock} available)" in text
    assert '<p class="star-rating ' in text
    assert 'id="product_description"' in text
    assert 'class="item active"' in text


def test_latin_1_pages_say_so_only_in_the_header(site: Site) -> None:
    book = next(b for b in site.books if b.category == LATIN_1)
    answer = site.answer(f"/catalogue/{book.slug}/index.html")
    assert answer.content_type == "text/html; charset=ISO-8859-1"
    assert b"<meta" not in answer.body
    with pytest.raises(UnicodeDecodeError):
        answer.body.decode("utf-8")
    assert f"£{book.price // 100}" in answer.body.decode("iso-8859-1")


def test_old_addresses_redirect_to_the_books(site: Site) -> None:
    statuses = set()
    for number in range(97, 1_001, 97):
        answer = site.answer(f"/old/{number}")
        statuses.add(answer.status)
        target = urljoin(f"/old/{number}", dict(answer.headers)["Location"])
        assert target == f"/catalogue/{site.books[number - 1].slug}/index.html"
    assert statuses == {301, 302, 303, 307, 308}


def test_the_wall_sends_back_to_where_one_came_from(site: Site) -> None:
    away = site.wall("/catalogue/x/index.html?a=1&b=2")
    back = site.answer(dict(away.headers)["Location"])
    assert back.status == 302
    assert dict(back.headers)["Location"] == "/catalogue/x/index.html?a=1&b=2"
    assert dict(back.headers)["Set-Cookie"].startswith(f"{COOKIE}=")


@pytest.mark.parametrize(
    "to", ["//evil.test/", "http://evil.test/", "/a%0d%0aX: 1", "/%C3%A9", "x"]
)
def test_the_wall_leads_nowhere_else(site: Site, to: str) -> None:
    assert site.answer(f"/welcome?next={to}").status == 400


@pytest.mark.parametrize(
    "path",
    [
        "",
        "*",
        "/nothing",
        "/catalogue/",
        "/catalogue/page-0.html",
        "/catalogue/page-01.html",
        "/catalogue/page-51.html",
        "/catalogue/page--1.html",
        "/catalogue/page-٣.html",
        "/catalogue/category/books/travel_2/page-9.html",
        "/catalogue/category/books/no-such_9/index.html",
        "/media/cache/0.png",
        "/media/cache/1.gif",
        "/media/cache/9999999999999999999999.png",
        "/old/1",
        "/old/97/",
        "/../../etc/passwd",
    ],
)
def test_what_is_not_there_is_not_found(site: Site, path: str) -> None:
    assert site.answer(path).status == 404


@given(st.text(max_size=60))
def test_any_path_has_an_answer(text: str) -> None:
    answer = SITE.answer("/" + text)
    assert answer.status in (200, 301, 302, 303, 307, 308, 400, 404)
    assert all(value.isprintable() and value.isascii() for _, value in answer.headers)


def test_special_pages_are_pages_of_the_shop(site: Site) -> None:
    assert {OUTAGE, ZIPPED} <= set(site.paths())
    assert site.answer(ZIPPED).zipped is not None
    assert "Disallow: /staff/" in ROBOTS
    assert site.answer("/staff/picks.html").status == 200
    assert site.answer("/media/cache/7.png").body.startswith(b"\x89PNG")


def test_the_sitemaps_list_every_page_of_books() -> None:
    site = Site(ORIGIN)
    (index,) = sitemaps_of(site.answer("/robots.txt").body)
    assert index == f"{ORIGIN}/sitemap.xml"
    found = []
    for entry in parse(site.answer("/sitemap.xml").body):
        assert entry.kind == "sitemap"
        found += list(parse(site.answer(entry.loc.removeprefix(ORIGIN)).body))
    paths = [entry.loc.removeprefix(ORIGIN) for entry in found]
    assert sorted(paths) == sorted(site.paths())
    assert sorted(str(e.lastmod.date()) for e in found if e.lastmod) == sorted(
        added(book) for book in site.books
    )


def test_slugs_are_plain() -> None:
    assert slug("L'Été à Zürich & Sons (#3)") == "lete-a-zurich-sons-3"


SITE = Site()
RARE = "/catalogue/category/books/rare-books_52/index.html"
DIGEST = "92b9bf15db473d8528e90066ca1b4467ff852a17ead1f44cb92329cf6f62a508"
