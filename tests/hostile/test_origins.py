"""Whole crawls: credentials stay with their origin, and a guarded crawl reaches no private host."""

from __future__ import annotations

import json
import socket
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping

import pytest

from tests.crawl.conftest import project
from tests.crawl.harness import Project, json_lines
from tests.servers.web import Answer, Seen, Web, html, redirect, text

__all__ = ["project"]

HERE, THERE = "127.0.0.1", "127.1.0.2"
SENT = {
    "authorization": "Bearer own", "cookie": "id=own", "x-own": "own", "x-auth-token": "own",
}  # fmt: skip

CREDENTIALS = """
from scraper import Output, Request, Response, Spider

class Site(Spider):
    name = "site"
    here: str
    there: str
    allowed_domains = ["127.0.0.1", "127.1.0.2"]

    def marked(self, path: str, callback: str = "parse") -> Request:
        headers = {"Authorization": "Bearer own", "X-Own": "own", "X-Auth-Token": "own"}
        headers["X-Any"] = "1"
        return Request(
            self.here + path, callback, headers=headers, secret=["x-own"], cookies={"id": "own"}
        )

    async def setup(self):
        await self.fetch(self.marked("/same?inline"))
        await self.fetch(self.marked("/hop?inline"))

    async def start(self):
        yield self.marked("/same")
        yield self.marked("/hop")
        yield self.marked("/port")
        yield Request(self.here.replace("//", "//ann:pw@") + "/userinfo", self.more)
        yield Request(self.here.replace("//", "//ann:pw@") + "/hop?userinfo")

    async def more(self, response: Response) -> Output:
        yield response.follow("/followed")
        yield {"url": response.url}

    async def parse(self, response: Response) -> Output:
        yield {"url": response.url}
"""

SITEMAPS = """
from scraper import Output, Response, SitemapSpider

class Maps(SitemapSpider):
    name = "maps"
    allowed_domains = ["127.0.0.1", "127.1.0.2"]

    async def setup(self):
        self.sitemap_urls = [self.here + "/sitemap.xml"]

    here: str

    async def parse(self, response: Response) -> Output:
        yield {"url": response.url}
"""

INDEX = "<sitemapindex><sitemap><loc>{}/other.xml</loc></sitemap></sitemapindex>"
URLS = "<urlset><url><loc>{}/page</loc></url></urlset>"


@pytest.fixture
def webs() -> Iterator[tuple[Web, Web]]:
    """Two servers on two addresses; the first one redirects to the second and to itself."""

    def there(seen: Seen) -> Answer:
        if seen.path == "/other.xml":
            return text(URLS.format(second.base(THERE)))
        return text("") if seen.path == "/robots.txt" else html("<h1>there</h1>")

    def here(seen: Seen) -> Answer:
        path, _, query = seen.path.partition("?")
        if path == "/sitemap.xml":
            return text(INDEX.format(second.base(THERE)))
        targets = {"/same": "/landed", "/hop": f"{second.base(THERE)}/landed", "/port": second.url}
        if path in targets:
            return redirect(f"{targets[path]}?{query}" if query else targets[path])
        return text("") if path == "/robots.txt" else html("<h1>here</h1>")

    with Web(there, (HERE, THERE)) as second, Web(here, (HERE,)) as first:
        yield first, second


def shown(seen: Seen) -> dict[str, str]:
    return {name: seen.headers[name] for name in SENT if name in seen.headers}


@pytest.mark.case(
    33,
    "a request with `Authorization`, cookies, a header marked secret and one that sounds like it, "
    "redirected within its origin, to another host and to another port; by the frontier and by"
    " `self.fetch`",
    "one item each; within the origin all of them are sent, to the others none",
)
@pytest.mark.case(
    43,
    "`http://user:password@host/`, a link on that page, and a redirect to another host",
    "`Authorization` goes with that request alone; ledger, items and log have the URL without it",
)
def test_credentials_stay_with_their_origin(project: Project, webs: tuple[Web, Web]) -> None:
    first, second = webs
    project.spider(CREDENTIALS)
    project.config('[[pipelines]]\nuse = "jsonl"\npath = "out.jsonl"\nprovenance = true')
    arguments = ("-a", f"here={first.url}", "-a", f"there={second.base(THERE)}")
    done = project.scrape("run", "site", *arguments).expect(0)
    for path in ("/same", "/landed", "/same?inline", "/landed?inline", "/hop", "/port"):
        (seen,) = first.seen(path)
        assert shown(seen) == SENT, path
        assert "x-any" in seen.headers
    pages = [seen for seen in second.log if seen.path != "/robots.txt"]
    expected = ["/", "/landed", "/landed?inline", "/landed?userinfo"]
    assert sorted(seen.path for seen in pages) == expected
    assert all(shown(seen) == {} for seen in second.log)
    assert Counter("x-any" in seen.headers for seen in pages) == {True: 3, False: 1}

    basic = {"authorization": f"Basic {b64encode(b'ann:pw').decode()}"}
    assert shown(first.seen("/userinfo")[0]) == shown(first.seen("/hop?userinfo")[0]) == basic
    assert shown(first.seen("/followed")[0]) == {}
    assert shown(first.seen("/robots.txt")[0]) == {}
    told = done.err + project.path("out.jsonl").read_text()
    assert "ann" not in told
    assert len(json_lines(project.path("out.jsonl"))) == 6


@pytest.mark.case(
    33,
    "`Authorization` in `[http.headers]`, and a sitemap that lists another host's sitemap",
    "it goes to the hosts of `http.trusted_hosts` (else `allowed_domains` and `start_urls`), with"
    " robots.txt and sitemaps too, and to no other; a warning names who gets none",
)
def test_the_configurations_credentials_go_to_trusted_hosts(
    project: Project, webs: tuple[Web, Web]
) -> None:
    first, second = webs
    project.spider(SITEMAPS)
    project.config(f"""
        [http]
        trusted_hosts = ["{first.url}"]
        [http.headers]
        Authorization = "Bearer own"
        X-Any = "1"
    """)
    done = project.scrape("run", "maps", "-a", f"here={first.url}", "-o", "out.jsonl").expect(0)
    assert {seen.path for seen in first.log} == {"/robots.txt", "/sitemap.xml"}
    assert {seen.path for seen in second.log} == {"/robots.txt", "/other.xml", "/page"}
    assert all(shown(seen) == {"authorization": "Bearer own"} for seen in first.log)
    assert all(shown(seen) == {} for seen in second.log)
    assert all("x-any" in seen.headers for seen in (*first.log, *second.log))
    assert f"{second.base(THERE)} gets no Authorization" in done.err


# The guard against private addresses ------------------------------------------------------------

PRIVATE = (
    "127.0.0.1", "0x7f.1", "2130706433", "017700000001", "127.1", "0", "localhost", "LOCALHOST.",
    "[::ffff:7f00:1]", "[::1]", "[::]", "[::7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
    "169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "0.0.0.0",
    "224.0.0.1", "255.255.255.255", "[fe80::1]", "[fd00:ec2::254]", "[ff02::1]", "%31%32%37.0.0.1",
)  # fmt: skip

GUARDED = """
from scraper import FetchError, Item, Output, Request, Response, Spider

class Picture(Item):
    image_url: str

class Guarded(Spider):
    name = "guarded"
    port: int
    hosts: str
    allowed_domains: list[str] = []

    def on(self, path: str, callback: str = "parse") -> Request:
        return Request("http://site.test" + path, callback)

    async def start(self):
        for host in self.hosts.split():
            yield Request(f"http://{host}:{self.port}/private")
        yield self.on("/ok")
        yield self.on("/hop/127.0.0.1")
        yield self.on("/hop/0x7f.1")
        yield self.on("/inline", "inline")
        yield self.on("/file", "file")
        yield Request("http://robots.test/page")

    async def parse(self, response: Response) -> Output:
        yield {"url": response.url}

    async def inline(self, response: Response) -> Output:
        for url in (f"http://127.0.0.1:{self.port}/inline", "http://site.test/hop/127.0.0.1"):
            try:
                await self.fetch(url)
            except FetchError as error:
                yield {"url": response.url, "inline": error.reason}

    async def file(self, response: Response) -> Output:
        yield Picture(image_url=f"http://127.0.0.1:{self.port}/image.png")
"""

STANDS_FOR_THE_WEB = """
from scraper import Request, Response

async def web(request, call_next):
    '''Answers for hosts of the public web, which these tests have none of.'''
    host, _, path = request.url.partition("://")[2].partition("/")
    if host not in ("site.test", "robots.test"):
        return await call_next(request)
    if host == "robots.test" or path.startswith("hop/"):
        to = path.partition("/")[2] if path.startswith("hop/") else "127.0.0.1"
        return Response(request.url, 302, {"Location": f"http://{to}:%(port)d/hop"}, b"", request)
    if path == "robots.txt":
        return Response(request.url, 404, {}, b"", request)
    return Response(request.url, 200, {"Content-Type": "text/html"}, b"<h1>x</h1>", request)
"""


@pytest.fixture
def listener() -> Iterator[tuple[int, list[str]]]:
    """A port on every address of the machine, and a list of who connected."""
    connected: list[str] = []
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    sock = socket.create_server(("", 0), family=family, dualstack_ipv6=both)

    def accept() -> None:
        while True:
            try:
                made, address = sock.accept()
            except OSError:
                return
            connected.append(str(address))
            made.close()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield sock.getsockname()[1], connected
    sock.shutdown(socket.SHUT_RDWR)
    sock.close()
    thread.join()


def by_url(project: Project) -> Mapping[str, str]:
    (job,) = (project.root / ".scrape/guarded").iterdir()
    lines = project.scrape("failures", "guarded", "--job", job.name, "--json").out.splitlines()
    return {entry["url"]: entry["reason"] for entry in map(json.loads, lines)}


@pytest.mark.case(
    69,
    "`http.allow_private = false`, and seeds that are private, however they are written: decimal,"
    " hexadecimal, octal, IPv4 in IPv6 (mapped, NAT64, 6to4), loopback, link-local, cloud metadata,"
    " 10/8, 172.16/12, 192.168/16, 100.64/10, multicast, `localhost`",
    "each ends `private_address` at its first attempt, and no connection is made; the control host"
    " has its items",
)
@pytest.mark.case(
    69,
    "redirects, robots.txt, `self.fetch` and a file's URL that lead from a public host to a private"
    " address",
    "`private_address` (of a page whose robots.txt leads there, too; no file comes), and no"
    " connection is made",
)
def test_a_guarded_crawl_reaches_no_private_host(
    project: Project, listener: tuple[int, list[str]]
) -> None:
    port, connected = listener
    project.spider(GUARDED)
    (project.root / "pipelines").mkdir()
    (project.root / "pipelines/public.py").write_text(STANDS_FOR_THE_WEB % {"port": port})
    project.config("""
        [politeness]
        delay = 0
        [http]
        allow_private = false
        middleware = ["pipelines.public:web"]
        [crawl]
        max_failure_rate = 1.0
        [[pipelines]]
        use = "files"
        fields = ["image_url"]
        directory = "files"
        into = ""
        [[pipelines]]
        use = "jsonl"
        path = "out.jsonl"
    """)
    done = project.scrape(
        "run", "guarded", "--json", "-a", f"port={port}", "-a", f"hosts={' '.join(PRIVATE)}"
    )
    assert done.code == 0, done.err[-2000:]
    assert connected == []
    reasons = by_url(project)
    private = {url for url, reason in reasons.items() if url.endswith("/private")}
    assert len(private) >= 18
    assert {reasons[url] for url in private} == {"private_address"}
    assert reasons[f"http://127.0.0.1:{port}/hop"] == "private_address"
    assert reasons["http://robots.test/page"] == "private_address"
    assert done.json["outputs"][0]["lost"] == {"private_address": 1}
    items = json_lines(project.path("out.jsonl"))
    inline = {"url": "http://site.test/inline", "inline": "private_address"}
    assert items.count(inline) == 2
    assert {"url": "http://site.test/ok"} in items
    assert done.json["items"] == len(items) == 4
