"""SitemapSpider: whole crawls against a server, and what a class may say."""

from __future__ import annotations

import gzip
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

import pytest

from scraper import CrawlResult, Output, Request, Response, SitemapSpider, crawl
from scraper.errors import SpiderError
from scraper.sitemap import Entry
from tests.memory import peak_of
from tests.servers.web import Answer, Reply, Seen, Web, html, text

FAST = {"politeness": {"delay": 0, "adaptive": False, "per_host": 64}, "retry.base": 0.01}


def xml(body: str) -> Reply:
    return Reply(body.encode(), type="application/xml")


def urlset(*locs: str, more: str = "") -> Reply:
    entries = "".join(f"<url><loc>{loc}</loc>{more}</url>" for loc in locs)
    return xml(f"<?xml version='1.0'?><urlset>{entries}</urlset>")


def index(*locs: str) -> Reply:
    inside = "".join(f"<sitemap><loc>{loc}</loc></sitemap>" for loc in locs)
    return xml(f"<?xml version='1.0'?><sitemapindex>{inside}</sitemapindex>")


class Site:
    """Paths and what they answer; whatever is not there is a page when it ends in .html.

    `{base}` in a body is the server's address.
    """

    def __init__(self, pages: dict[str, Answer | str]) -> None:
        self.pages = pages

    def __call__(self, seen: Seen) -> Answer:
        answer = self.pages.get(seen.path)
        if answer is None:
            return html("<h1>a page</h1>") if seen.path.endswith(".html") else text("none", 404)
        if isinstance(answer, str):
            answer = text(answer)
        if isinstance(answer, Reply) and b"{" in answer.body:
            address = f"http://{seen.headers['host']}".encode()
            port = address.rpartition(b":")[2]
            body = answer.body.replace(b"{base}", address).replace(b"{port}", port)
            return Reply(body, answer.status, answer.headers, answer.type)
        return answer


class Collecting(SitemapSpider):
    """Notes which callback got which path, and with what."""

    name = "collecting"
    sitemap_urls: ClassVar[Sequence[str]] = ["http://a.test/sitemap.xml"]
    got: ClassVar[list[tuple[str, str]]]
    dates: ClassVar[dict[str, Any]]

    def __init_subclass__(cls) -> None:
        cls.got, cls.dates = [], {}

    def note(self, callback: str, response: Response) -> None:
        path = "/" + response.url.split("/", 3)[3]
        self.got.append((callback, path))
        self.dates[path] = response.meta.get("lastmod")

    async def parse(self, response: Response) -> Output:
        self.note("parse", response)
        yield {"url": response.url}

    async def parse_product(self, response: Response) -> Output:
        self.note("parse_product", response)
        yield {"url": response.url}


async def run(spider: type[SitemapSpider], **arguments: Any) -> CrawlResult:
    return await crawl(spider, settings=FAST, args=arguments)


def paths(spider: type[Collecting]) -> list[str]:
    return sorted(path for _, path in spider.got)


@pytest.fixture
def served() -> Iterator[Any]:
    webs: list[Web] = []

    def serve(pages: dict[str, Answer | str], *addresses: str) -> tuple[str, Web]:
        web = Web(Site(pages), addresses or ("127.0.0.1",))
        web.__enter__()
        webs.append(web)
        return f"http://127.0.0.1:{web.port}", web

    yield serve
    for web in webs:
        web.__exit__()


# -- crawls ---------------------------------------------------------------------------------------


async def test_rules_send_urls_to_callbacks(served: Any) -> None:
    base, web = served({
        "/sitemap.xml": urlset(
            "{base}/product/1.html", "{base}/c/12.html", "{base}/about.html", "{base}/c/x.html"
        )
    })

    class Shop(Collecting):
        sitemap_urls: ClassVar = [f"{base}/sitemap.xml"]
        sitemap_rules: ClassVar = [
            ("/product/", "parse_product"),
            (re.compile(r"/C/\d+", re.IGNORECASE), Collecting.parse),
        ]

    result = await run(Shop)
    assert sorted(Shop.got) == [("parse", "/c/12.html"), ("parse_product", "/product/1.html")]
    assert result.items == 2
    assert "/about.html" not in [seen.path for seen in web.log]


async def test_an_index_of_everything(served: Any) -> None:
    base, web = served({
        "/index.xml": index(
            "{base}/index.xml", "{base}/plain.xml", "{base}/zip.xml.gz", "{base}/list.txt",
            "{base}/feed.rss", "{base}/gone.xml", "{base}/private.xml",
        ),
        "/plain.xml": urlset("{base}/1.html"),
        "/zip.xml.gz": Reply(b"", type="application/x-gzip"),
        "/list.txt": "{base}/3.html\n{base}/1.html\n",
        "/feed.rss": xml("<rss><channel><item><link>{base}/4.html</link></item></channel></rss>"),
        "/private.xml": urlset("{base}/no.html"),
    })  # fmt: skip
    body = f"<urlset><url><loc>{base}/2.html</loc></url></urlset>"
    web.site.pages["/zip.xml.gz"] = Reply(gzip.compress(body.encode()), type="application/x-gzip")

    class Everything(Collecting):
        sitemap_urls: ClassVar = [f"{base}/index.xml"]
        sitemap_follow: ClassVar = [r"/(index|plain|list|gone|feed)\.", re.compile("zip")]

    result = await run(Everything)
    assert paths(Everything) == ["/1.html", "/2.html", "/3.html", "/4.html"]
    asked = [seen.path for seen in web.log]
    assert asked.count("/index.xml") == 1  # it names itself
    assert "/private.xml" not in asked
    assert result.reasons["http_404"] == 1
    assert result.ended == "finished"


async def test_an_index_is_followed_three_levels(
    served: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pages = {f"/{n}.xml": index(f"{{base}}/{n + 1}.xml", f"{{base}}/u{n}.xml") for n in range(6)}
    pages |= {f"/u{n}.xml": urlset(f"{{base}}/{n}.html") for n in range(6)}
    base, web = served(pages)

    class Deep(Collecting):
        sitemap_urls: ClassVar = [f"{base}/0.xml"]

    with caplog.at_level(logging.WARNING, "scraper"):
        await run(Deep)
    assert paths(Deep) == ["/0.html", "/1.html", "/2.html"]
    assert "/4.xml" not in [seen.path for seen in web.log]
    assert len([r for r in caplog.records if "levels deep" in r.getMessage()]) == 1


@pytest.mark.parametrize("start", ["start_urls", "sitemap_urls"])
async def test_robots_txt_names_the_sitemaps(served: Any, start: str) -> None:
    base, web = served({
        "/robots.txt": "User-agent: *\nDisallow: /no\nSitemap: {base}/a.xml\nSitemap: /b.xml\n",
        "/a.xml": urlset("{base}/1.html", "{base}/no/1.html"),
        "/b.xml": urlset("{base}/2.html"),
    })

    class Robots(Collecting):
        start_urls: ClassVar = [f"{base}/start.html"] if start == "start_urls" else []
        sitemap_urls: ClassVar = [f"{base}/robots.txt"] if start == "sitemap_urls" else []

    result = await run(Robots)
    found = ["/1.html", "/2.html"]
    assert paths(Robots) == (found if start == "sitemap_urls" else [*found, "/start.html"])
    assert result.reasons["robots_denied"] == 1
    assert "/sitemap.xml" not in [seen.path for seen in web.log]


@pytest.mark.parametrize("robots", ["User-agent: *\nDisallow: /x", text("no", 404), "<html>"])
async def test_without_a_word_from_robots_txt_the_usual_place(
    served: Any, robots: Answer | str
) -> None:
    base, _ = served({"/robots.txt": robots, "/sitemap.xml": urlset("{base}/1.html")})

    class Usual(Collecting):
        sitemap_urls: ClassVar = ()
        start_urls: ClassVar = [f"{base}/"]

    await run(Usual)
    assert "/1.html" in paths(Usual)


async def test_sitemaps_on_another_host_are_read_and_urls_must_be_in_scope(served: Any) -> None:
    base, web = served(
        {
            "/robots.txt": "Sitemap: http://127.0.0.2:{port}/maps.xml\n",
            "/maps.xml": xml(
                "<urlset><url><loc>http://127.0.0.1:{port}/1.html</loc></url>"
                "<url><loc>http://127.0.0.3:{port}/2.html</loc></url></urlset>"
            ),
        },
        "127.0.0.1",
        "127.0.0.2",
        "127.0.0.3",
    )

    class Named(Collecting):
        sitemap_urls: ClassVar = [f"{base}/robots.txt"]

    result = await run(Named)
    assert paths(Named) == ["/1.html"]
    assert result.reasons["out_of_scope"] == 1
    assert "127.0.0.3" not in {seen.host.partition(":")[0] for seen in web.log}

    class Allowed(Collecting):
        sitemap_urls: ClassVar = [f"{base}/robots.txt"]
        allowed_domains: ClassVar = ["127.0.0.1"]

    await run(Allowed)
    assert paths(Allowed) == ["/1.html"]


async def test_an_index_on_another_host_is_read_within_allowed_domains(served: Any) -> None:
    base, web = served(
        {
            "/robots.txt": "Sitemap: http://127.0.0.2:{port}/index.xml\n"
            "Sitemap: http://127.0.0.2:{port}/gone.xml\n",
            "/index.xml": index("{base}/a.xml", "{base}/b.xml", "{base}/not.xml"),
            "/a.xml": xml("<urlset><url><loc>http://127.0.0.1:{port}/1.html</loc></url></urlset>"),
            "/b.xml": xml("<urlset><url><loc>http://127.0.0.1:{port}/2.html</loc></url></urlset>"),
        },
        "127.0.0.1",
        "127.0.0.2",
    )

    class Elsewhere(Collecting):
        sitemap_urls: ClassVar = [f"{base}/robots.txt"]
        sitemap_follow: ClassVar = ["/[ab].xml"]
        allowed_domains: ClassVar = ["127.0.0.1"]

    result = await run(Elsewhere)
    assert paths(Elsewhere) == ["/1.html", "/2.html"]
    assert result.reasons == {"http_404": 1}
    assert "/not.xml" not in [seen.path for seen in web.log]


async def test_modified_since_and_the_date_in_meta(served: Any) -> None:
    def dated(path: str, when: str) -> str:
        return f"<url><loc>{{base}}{path}</loc><lastmod>{when}</lastmod></url>"

    old = "<sitemap><loc>{base}/old.xml</loc><lastmod>2020</lastmod></sitemap>"
    new = "<sitemap><loc>{base}/new.xml</loc><lastmod>2026-05-06</lastmod></sitemap>"
    base, web = served({
        "/index.xml": xml(f"<sitemapindex>{old}{new}</sitemapindex>"),
        "/old.xml": urlset("{base}/never.html"),
        "/new.xml": xml(
            "<urlset>"
            + dated("/a.html", "2026-05-01")
            + dated("/b.html", "2026-04-30T23:59:59Z")
            + dated("/c.html", "2026-05-01T01:00:00+02:00")
            + dated("/d.html", "2026-05-01T03:00:00+02:00")
            + "<url><loc>{base}/e.html</loc></url></urlset>"
        ),
    })

    class Recent(Collecting):
        sitemap_urls: ClassVar = [f"{base}/index.xml"]

    await run(Recent, modified_since="2026-05-01")
    assert paths(Recent) == ["/a.html", "/d.html", "/e.html"]
    assert Recent.dates == {
        "/a.html": "2026-05-01T00:00:00+00:00",
        "/d.html": "2026-05-01T03:00:00+02:00",
        "/e.html": None,
    }
    assert "/old.xml" not in [seen.path for seen in web.log]


async def test_alternate_languages(served: Any) -> None:
    def link(language: str) -> str:
        href = f"{{base}}/{language}.html"
        return f'<xhtml:link rel="alternate" hreflang="{language}" href="{href}"/>'

    links = "".join(map(link, ("en", "de", "fr")))
    pages = {"/s.xml": urlset("{base}/en.html", "{base}/de.html", more=links)}
    base, _ = served(pages)

    class One(Collecting):
        sitemap_urls: ClassVar = [f"{base}/s.xml"]

    class All(One):
        sitemap_alternate_links = True

    await run(One)
    await run(All)
    assert paths(One) == ["/de.html", "/en.html"]
    assert paths(All) == ["/de.html", "/en.html", "/fr.html"]


async def test_a_filter_chooses_and_changes(served: Any) -> None:
    base, _ = served({"/s.xml": urlset(*(f"{{base}}/{n}.html" for n in range(6)))})

    class Filtered(Collecting):
        sitemap_urls: ClassVar = [f"{base}/s.xml"]

        def sitemap_filter(self, entries: Iterable[Entry]) -> Iterator[Entry]:
            for entry in entries:
                if int(entry.loc[-6]) % 2:
                    yield entry._replace(loc=entry.loc.replace(".html", "-odd.html"))

    await run(Filtered)
    assert paths(Filtered) == ["/1-odd.html", "/3-odd.html", "/5-odd.html"]


async def test_what_fails_is_said_and_the_rest_goes_on(
    served: Any, caplog: pytest.LogCaptureFixture
) -> None:
    base, _ = served({
        "/bomb.xml": xml('<!DOCTYPE x [<!ENTITY a "b">]><urlset><url><loc>{base}/no.html</loc>'),
        "/cut.xml": xml("<urlset><url><loc>{base}/1.html</loc></url><url><loc>{base}/2"),
        "/page.xml": html("<p>not found, kindly"),
        "/good.xml": urlset("{base}/3.html", "{base}/4.html"),
    })

    class Mixed(Collecting):
        sitemap_urls: ClassVar = [
            f"{base}/{name}.xml" for name in ("bomb", "cut", "page", "gone", "good")
        ]

    with caplog.at_level(logging.INFO, "scraper"):
        result = await run(Mixed)
    told = [record.getMessage() for record in caplog.records]
    assert paths(Mixed) == ["/1.html", "/3.html", "/4.html"]
    assert result.reasons["xml_entity"] == result.reasons["http_404"] == 1
    for said in (
        "sitemap not read (xml_entity): .*bomb.xml",
        "sitemap not read (http_404): .*gone.xml",
        "sitemap .*cut.xml: damaged or cut short",
        "sitemap .*page.xml: it is an HTML page",
        "sitemap .*good.xml: 2 entries, 2 requests",
    ):
        pattern = said.replace("(", r"\(").replace(")", r"\)")
        assert [line for line in told if re.search(pattern, line)], said


async def test_when_every_sitemap_fails_the_crawl_has_failed(served: Any) -> None:
    base, _ = served({})

    class Nothing(Collecting):
        start_urls: ClassVar = []
        sitemap_urls: ClassVar = [f"{base}/a.xml", f"{base}/b.xml"]

    result = await run(Nothing)
    assert result.ended == "failed"


async def test_every_url_of_a_full_sitemap_is_taken(served: Any) -> None:
    """More than `crawl.max_links_per_page` allows by default; none of them is fetched."""
    base, _ = served({
        "/robots.txt": "User-agent: *\nDisallow: /p/",
        "/s.txt": "".join(f"{{base}}/p/{n}.html\n" for n in range(12_000)),
    })

    class Full(Collecting):
        sitemap_urls: ClassVar = [f"{base}/s.txt"]

    result = await run(Full)
    assert result.links == 12_000
    assert result.reasons["robots_denied"] == 12_000


async def test_a_sitemap_can_be_large(served: Any) -> None:
    """20 MB unpacked and 20 MB on the wire: more than pages may have, less than the protocol's."""
    body = b"<urlset><url><loc>{base}/1.html</loc></url>" + b" " * 33_000_000 + b"</urlset>"
    base, _ = served({"/s.xml": Reply(body, type="text/xml")})

    class Large(Collecting):
        sitemap_urls: ClassVar = [f"{base}/s.xml"]

    await run(Large)
    assert paths(Large) == ["/1.html"]


# -- what a class may say -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "cutoff"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00+01:00", datetime(2026, 1, 31, 11, tzinfo=UTC)),
        (date(2026, 1, 31), datetime(2026, 1, 31, tzinfo=UTC)),
        (datetime(2026, 1, 31, 5), datetime(2026, 1, 31, 5, tzinfo=UTC)),  # noqa: DTZ001
        (None, None),
    ],
)
def test_modified_since_is_an_argument_and_an_attribute(given: Any, cutoff: Any) -> None:
    class Dated(Collecting):
        modified_since = given

    assert Dated()._cutoff == cutoff
    assert Collecting(modified_since=given)._cutoff == cutoff


@pytest.mark.parametrize(
    ("given", "span"),
    [("7d", timedelta(7)), ("36H", timedelta(hours=36)), ("2 w", timedelta(14))],
)
def test_modified_since_may_be_a_span(given: str, span: timedelta) -> None:
    before = datetime.now(UTC)
    for spider in (Collecting(modified_since=given), Collecting(modified_since=span)):
        assert spider._cutoff is not None
        assert before - span <= spider._cutoff <= datetime.now(UTC) - span


@pytest.mark.parametrize("given", ["soon", "2026-13-01", "7y", 7, [1]])
def test_modified_since_must_mean_something(given: Any) -> None:
    class Wrong(Collecting):
        modified_since = given

    made: list[Callable[[], SitemapSpider]] = [Wrong, lambda: Collecting(modified_since=given)]
    for make in made:
        with pytest.raises(SpiderError, match="modified_since"):
            make()


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"sitemap_rules": [("/x/", "parse_x")]}, "'parse_x' is no method"),
        ({"sitemap_rules": [("/x/", None)]}, "None is no method"),
        ({"sitemap_rules": ["/x/"]}, "'/x/' is not a pair"),
        ({"sitemap_rules": [("(", "parse")]}, "not a valid regular expression"),
        ({"sitemap_follow": ["["]}, "sitemap_follow: not a valid regular expression"),
        ({"sitemap_follow": [7]}, "sitemap_follow: 7 is not a regular expression"),
        ({"sitemap_urls": "http://a/sitemap.xml"}, "sitemap_urls is a list"),
        ({"sitemap_follow": "/books/"}, "sitemap_follow is a list"),
    ],
)
def test_mistakes_in_the_class_are_named(attributes: dict[str, Any], message: str) -> None:
    spider = type("Wrong", (Collecting,), attributes)
    with pytest.raises(SpiderError, match=re.escape(message)):
        spider()


def test_nowhere_to_start_is_said() -> None:
    class Nowhere(SitemapSpider):
        name = "nowhere"

    class Own(Collecting):
        sitemap_urls = ()

        async def start(self) -> AsyncIterator[Request]:
            yield Request("http://a/")

    with pytest.raises(SpiderError, match="nowhere to start"):
        Nowhere()
    assert Own().sitemap_urls == ()


# -- memory ---------------------------------------------------------------------------------------

MEMORY = """
    import asyncio, sys
    from tests.memory import peak
    from scraper import SitemapSpider, crawl
    from tests.servers.web import Reply, Web, text

    n = int(sys.argv[1])

    class Big(SitemapSpider):
        name = "big"
        async def parse(self, response):
            pass

    def site(seen):
        if seen.path == "/robots.txt":
            return text("User-agent: *\\nDisallow: /p/")
        return Reply(body)

    with Web(site) as web:
        base = f"http://127.0.0.1:{web.port}"
        entry = f"<url><loc>{base}/p/a-product-with-a-name/{{}}.html</loc>"
        entry += "<lastmod>2026-01-01T00:00:{:02}Z</lastmod></url>"
        inside = "".join(entry.format(i, i % 60) for i in range(n))
        body = f"<urlset>{inside}</urlset>".encode()
        Big.sitemap_urls = [f"{base}/s.xml"]
        settings = {"politeness.delay": 0, "politeness.adaptive": False}
        result = asyncio.run(crawl(Big, settings=settings, config=None))
        assert result.links == n, result
    print(peak())
"""


def peak(n: int) -> int:
    """MB that a crawl of a sitemap of *n* URLs takes at most, server and all."""
    return peak_of(MEMORY, n)


@pytest.mark.long
def test_fifty_thousand_urls_are_no_memory_bump() -> None:
    few, many = peak(500), peak(50_000)
    assert many - few < 150
