"""Which path answers what: a pure function of the path. Cookies and time are the server's business.

::

    /  /index.html                              the first list page
    /catalogue/page-N.html                      list pages of 20 books
    /catalogue/category/books/NAME_K/…          a category: index.html, page-2.html …
    /catalogue/TITLE_N/index.html               a book
    /media/cache/N.png                          its cover
    /old/N                                      where a few books used to live: redirects
    /welcome?next=PATH                          sets the cookie that the rare books ask for
    /staff/…                                    forbidden by robots.txt, though it would answer
    /sitemap.xml                                an index of the next two; robots.txt names it
    /sitemap-lists.xml  /sitemap-books.xml.gz   list pages; books, with their dates
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from urllib.parse import parse_qs, quote

from scraper.demo.content import CATEGORIES, LATIN_1, Book, catalogue
from scraper.demo.pages import book_page, cover, list_page, message_page

__all__ = ["COOKIE", "OUTAGE", "Answer", "Site", "added"]

PER_PAGE = 20
COOKIE = "welcomed"
OUTAGE = "/catalogue/page-7.html"
"""The page that is away at first, and says for how long (`Retry-After`)."""
ZIPPED = "/catalogue/page-5.html"
"""The page that is sent compressed to whoever accepts gzip."""
MOVED_EVERY = 97
"""Every so many books, the general list still links to the old address."""
MOVED_STATUSES = (301, 302, 307, 308, 303)
WITHDRAWN = {3: 2_001, 11: 2_002, 23: 2_003}
"""List page → number of a book on it that is gone: its link ends in a 404."""

XML = "application/xml"

ROBOTS = """\
# A shop to practise on. The staff room is private; everything else is open.
User-agent: *
Disallow: /staff/
Allow: /
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path answers, whoever asks. `zipped`: the body in gzip, where the site has one."""

    status: int
    body: bytes
    content_type: str = "text/html; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    zipped: bytes | None = None


class Site:
    """The whole shop as a function of the path. A complete crawl brings home `books`, each once.

    *origin*: what sitemaps put before the paths, `http://127.0.0.1:8378`.
    """

    def __init__(self, origin: str = "") -> None:
        self.origin = origin
        self.books = catalogue()
        self._listed = [book for book in self.books if not book.walled]
        self._by_slug = {book.slug: book for book in self.books}
        self._by_name = {category.name: category for category in CATEGORIES}
        self._shelves: dict[str, list[Book]] = {category.slug: [] for category in CATEGORIES}
        for book in self.books:
            self._shelves[self._by_name[book.category].slug].append(book)

    def answer(self, target: str) -> Answer:
        """The answer to a path with an optional query; a 404 for what the shop does not have."""
        path, _, query = target.partition("?")
        match path.split("/")[1:]:
            case [""] | ["index.html"]:
                return self._listing(1, "")
            case [("robots.txt" | "sitemap.xml" | "sitemap-lists.xml" | "sitemap-books.xml.gz")]:
                return self._for_crawlers(path)
            case ["welcome"]:
                return _welcome(query)
            case ["old", number]:
                return self._old(number)
            case ["staff", _]:
                return _page("Staff only", "robots.txt asked you to stay out of here.")
            case ["media", "cache", name]:
                return self._cover(name)
            case ["catalogue", "category", "books_1", "index.html"]:
                return _redirect(301, "/catalogue/page-1.html")
            case ["catalogue", "category", "books", shelf, page] if shelf in self._shelves:
                return self._category(shelf, page)
            case ["catalogue", slug] if slug in self._by_slug:
                return _redirect(301, f"{slug}/index.html")
            case ["catalogue", slug, "index.html"] if slug in self._by_slug:
                return self._book(self._by_slug[slug])
            case ["catalogue", page]:
                answer = self._listing(_page_number(page), "../")
                return _zipped(answer) if path == ZIPPED else answer
        return NOT_FOUND

    def walled(self, path: str) -> bool:
        """Whether *path* sends those without the cookie to ``/welcome`` first."""
        match path.split("/")[1:]:
            case ["catalogue", "category", "books", shelf, _]:
                books = self._shelves.get(shelf, [])
                return bool(books) and books[0].walled
            case ["catalogue", slug, "index.html"] if slug in self._by_slug:
                return self._by_slug[slug].walled
        return False

    def wall(self, target: str) -> Answer:
        """The redirect that those without the cookie get."""
        return _redirect(302, f"/welcome?next={quote(target, safe='/')}")

    def paths(self) -> Iterator[str]:
        """Every page of books there is: lists, categories, details, in that order."""
        yield "/"
        for page in range(1, _pages(self._listed) + 1):
            yield f"/catalogue/page-{page}.html"
        for shelf, books in self._shelves.items():
            yield f"/catalogue/category/books/{shelf}/index.html"
            for page in range(2, _pages(books) + 1):
                yield f"/catalogue/category/books/{shelf}/page-{page}.html"
        for book in self.books:
            yield f"/catalogue/{book.slug}/index.html"

    def _for_crawlers(self, path: str) -> Answer:
        """robots.txt and the sitemaps."""
        books = [(f"/catalogue/{book.slug}/index.html", added(book)) for book in self.books]
        if path == "/robots.txt":
            text = f"{ROBOTS}\nSitemap: {self.origin}/sitemap.xml\n"
            return Answer(200, text.encode(), "text/plain; charset=utf-8")
        if path == "/sitemap-lists.xml":
            lists = dict.fromkeys(self.paths(), "")
            for book, _ in books:
                del lists[book]
            return Answer(200, self._entries("urlset", "url", lists.items()), XML)
        if path == "/sitemap-books.xml.gz":
            body = gzip.compress(self._entries("urlset", "url", books), mtime=0)
            return Answer(200, body, "application/gzip")
        places = [("/sitemap-lists.xml", ""), ("/sitemap-books.xml.gz", "")]
        return Answer(200, self._entries("sitemapindex", "sitemap", places), XML)

    def _entries(self, root: str, tag: str, places: Iterable[tuple[str, str]]) -> bytes:
        inside = "".join(
            f"<{tag}><loc>{self.origin}{path}</loc>"
            f"{when and f'<lastmod>{when}</lastmod>'}</{tag}>\n"
            for path, when in places
        )
        xmlns = "http://www.sitemaps.org/schemas/sitemap/0.9"
        head = '<?xml version="1.0" encoding="UTF-8"?>\n'
        return f'{head}<{root} xmlns="{xmlns}">\n{inside}</{root}>\n'.encode()

    def _listing(self, page: int, up: str) -> Answer:
        pages = _pages(self._listed)
        if not 1 <= page <= pages:
            return NOT_FOUND
        here = "catalogue/" if up == "" else ""
        entries = [(book, self._listed_href(book, here)) for book in _slice(self._listed, page)]
        if page in WITHDRAWN:
            gone = replace(entries[0][0], number=WITHDRAWN[page])
            entries.append((gone, f"{here}{gone.slug}/index.html"))
        return _html(
            list_page(
                "All products",
                entries,
                page=page,
                pages=pages,
                total=len(self._listed),
                up=up,
                next_href=f"{here}page-{page + 1}.html" if page < pages else None,
            )
        )

    @staticmethod
    def _listed_href(book: Book, here: str) -> str:
        return f"/old/{book.number}" if _moved(book) else f"{here}{book.slug}/index.html"

    def _category(self, shelf: str, name: str) -> Answer:
        books = self._shelves[shelf]
        category = self._by_name[books[0].category]
        page, pages = 1 if name == "index.html" else _page_number(name), _pages(books)
        if not 1 <= page <= pages:
            return NOT_FOUND
        return _html(
            list_page(
                category.name,
                [(b, f"../../../{b.slug}/index.html") for b in _slice(books, page)],
                page=page,
                pages=pages,
                total=len(books),
                up="../../../../",
                next_href=f"page-{page + 1}.html" if page < pages else None,
                current=category,
            )
        )

    def _book(self, book: Book) -> Answer:
        latin = book.category == LATIN_1
        text = book_page(
            book, self._by_name[book.category], "../../", encoding=None if latin else "utf-8"
        )
        if not latin:
            return _html(text)
        body = text.encode("iso-8859-1", "xmlcharrefreplace")
        return Answer(200, body, "text/html; charset=ISO-8859-1")

    def _old(self, number: str) -> Answer:
        book = self._number(number)
        if book is None or not _moved(book):
            return NOT_FOUND
        # Every status that redirects, and both shapes of Location, absolute path and relative.
        nth = book.number // MOVED_EVERY
        to = f"catalogue/{book.slug}/index.html"
        return _redirect(MOVED_STATUSES[nth % 5], f"/{to}" if nth % 2 else f"../{to}")

    def _cover(self, name: str) -> Answer:
        number, dot, ending = name.partition(".")
        known = self._number(number) is not None or _decimal(number) in WITHDRAWN.values()
        if not known or (dot + ending) != ".png":
            return NOT_FOUND
        return Answer(200, cover(_decimal(number)), "image/png")

    def _number(self, text: str) -> Book | None:
        number = _decimal(text)
        return self.books[number - 1] if 1 <= number <= len(self.books) else None


def added(book: Book) -> str:
    """The day on which a book came into the shop, one in three days: for the sitemap."""
    return str(date(2018, 1, 1) + timedelta(days=3 * book.number))


def _moved(book: Book) -> bool:
    return book.number % MOVED_EVERY == 0


def _welcome(query: str) -> Answer:
    to = parse_qs(query).get("next", ["/"])[0]
    # Only to this site: what begins with two slashes would name another host.
    if not to.startswith("/") or to.startswith("//") or not to.isprintable() or not to.isascii():
        return Answer(400, message_page("Bad request", "next must be a path.").encode())
    cookie = ("Set-Cookie", f"{COOKIE}=yes; Path=/; HttpOnly; SameSite=Lax")
    answer = _redirect(302, to)
    return replace(answer, headers=(*answer.headers, cookie))


def _redirect(status: int, location: str) -> Answer:
    body = message_page("Moved", f"This page is at {location} now.").encode()
    return Answer(status, body, headers=(("Location", location),))


def _page(title: str, text: str) -> Answer:
    return _html(message_page(title, text))


def _html(text: str) -> Answer:
    return Answer(200, text.encode())


def _zipped(answer: Answer) -> Answer:
    # mtime 0: the same bytes every time.
    return replace(answer, zipped=gzip.compress(answer.body, mtime=0))


def _page_number(name: str) -> int:
    """``page-12.html`` → 12; 0 for anything else."""
    if not (name.startswith("page-") and name.endswith(".html")):
        return 0
    return _decimal(name[len("page-") : -len(".html")])


def _decimal(text: str) -> int:
    # One spelling for each page: no sign, no leading zero, no digits of other scripts.
    plain = text.isascii() and text.isdigit() and not text.startswith("0") and len(text) < 8
    return int(text) if plain else 0


def _pages(books: Sequence[Book]) -> int:
    return max(1, -(-len(books) // PER_PAGE))


def _slice(books: Sequence[Book], page: int) -> Sequence[Book]:
    return books[(page - 1) * PER_PAGE : page * PER_PAGE]


NOT_FOUND = Answer(404, message_page("Not found", "The shop has no such page.").encode())
"""What every unknown path answers."""
