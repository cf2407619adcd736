"""Redirects as whole crawls: missing targets, odd bytes, methods, and the target's own rules."""

from __future__ import annotations

import pytest

from tests.crawl.harness import Finished, Project, addresses, json_lines
from tests.servers.web import Answer, Reply, Seen, Web, html, redirect, text

SPIDER = """
from scraper import Output, Request, Response, Spider

class Site(Spider):
    name = "site"
    base: str
    accept = ACCEPT

    async def start(self):
        START

    async def parse(self, response: Response) -> Output:
        yield response.follow_all(LINKS)
        yield {"url": response.url, "status": response.status, "method": response.request.method}
"""


def crawl(
    project: Project, web: Web, start: str, *, accept: str = "()", links: str = "[]"
) -> Finished:
    """Run a spider whose `start` is *start*, and which follows *links*, to its end."""
    source = SPIDER.replace("START", start).replace("ACCEPT", accept).replace("LINKS", links)
    project.spider(source)
    return project.scrape("run", "site", "-a", f"base={web.url}", "-o", "out.jsonl", "--json")


@pytest.mark.case(
    34,
    "a redirect to what the target's robots.txt forbids",
    "`robots_denied`; the target is never asked for it",
)
@pytest.mark.case(
    34,
    "a link that redirects to a host out of scope",
    "`out_of_scope`; that host is never asked for anything",
)
def test_the_targets_own_rules_apply(project: Project) -> None:
    here, forbidding, foreign = addresses(3)

    def site(seen: Seen) -> Answer:
        host = seen.host.split(":")[0]
        if seen.path == "/robots.txt":
            denies = host == forbidding
            return text("User-agent: *\nDisallow: /no\n" if denies else "", 200 if denies else 404)
        if host == here and seen.path == "/a":
            return redirect(f"{web.base(forbidding)}/no")
        if host == here and seen.path == "/ok":
            return html('<a href="/b">b</a>')
        if host == here and seen.path == "/b":
            return redirect(f"{web.base(foreign)}/b")
        return html("here")

    start = 'yield Request(self.base + "/a"); yield Request(self.base + "/ok")'
    with Web(site, (here, forbidding, foreign)) as web:
        done = crawl(project, web, start, links="css='a'")
        assert done.expect(0).json["reasons"] == {"robots_denied": 1, "out_of_scope": 1}
        assert [s.path for s in web.seen(host=forbidding)] == ["/robots.txt"]
        assert web.seen(host=foreign) == []
        assert [r["url"] for r in json_lines(project.path("out.jsonl"))] == [web.url + "/ok"]


@pytest.mark.parametrize(
    "location", [pytest.param(None, id="missing"), pytest.param("", id="empty")]
)
@pytest.mark.case(
    35,
    "301 or 302 without Location, or with an empty one",
    "the final response: `http_301` or `http_302`, or a page for a spider that accepts them",
)
def test_a_redirect_to_nowhere_is_the_final_response(
    project: Project, location: str | None
) -> None:
    fields = [] if location is None else [("Location", location)]

    def site(seen: Seen) -> Answer:
        status = {"/a": 301, "/b": 302}.get(seen.path)
        return Reply(b"moved", status, fields) if status else text("", 404)

    start = 'yield Request(self.base + "/a"); yield Request(self.base + "/b")'
    with Web(site) as web:
        done = crawl(project, web, start).expect(1)  # no page succeeded
        assert done.json["reasons"] == {"http_301": 1, "http_302": 1}
        done = crawl(project, web, start, accept="(301, 302)").expect(0)
        found = {(r["url"], r["status"]) for r in json_lines(project.path("out.jsonl"))}
        assert found == {(web.url + "/a", 301), (web.url + "/b", 302)}


LOCATIONS = {
    "/utf8": ("UTF-8", "/caf\xc3\xa9", "/caf%C3%A9"),
    "/latin1": ("latin-1", "/caf\xe9", "/caf%E9"),
    "/tab": ("a tab", "/a\tb", "/ab"),
    "/backslash": ("a backslash", "/a\\b", "/a/b"),
    "/percent": ("%zz", "/a%zzb", "/a%zzb"),
    "/slash": ("%2F", "/a%2Fc", "/a%2Fc"),
    "/space": ("a space", "/a d", "/a%20d"),
    "/dots": ("dot segments", "/x/../y/./z", "/y/z"),
}


@pytest.mark.case(
    36,
    "UTF-8, latin-1, tab, backslash, space, dots, `%zz`, `%2F` in Location",
    "an item; the bytes on the wire are those of the WHATWG URL standard",
)
def test_the_bytes_that_a_location_makes(project: Project) -> None:
    def site(seen: Seen) -> Answer:
        if seen.path in LOCATIONS:
            return redirect(LOCATIONS[seen.path][1])
        return text("", 404) if seen.path == "/robots.txt" else html("here")

    start = f"for path in {sorted(LOCATIONS)!r}: yield Request(self.base + path)"
    with Web(site) as web:
        crawl(project, web, start).expect(0)
        asked = {s.path for s in web.log} - LOCATIONS.keys() - {"/robots.txt"}
        assert asked == {wanted for _, _, wanted in LOCATIONS.values()}
        assert len(json_lines(project.path("out.jsonl"))) == len(LOCATIONS)


@pytest.mark.case(
    37,
    "POST that is answered 301, 302 or 303",
    "an item; the target is asked by GET, without body and Content-Type",
)
@pytest.mark.case(37, "POST that is answered 307 or 308", "an item; method and body are kept")
def test_methods_over_redirects(project: Project) -> None:
    def site(seen: Seen) -> Answer:
        status = seen.path[1:]
        return redirect(f"/to{status}", status=int(status)) if status.isdigit() else html("here")

    start = (
        "for status in (301, 302, 303, 307, 308): "
        'yield Request(f"{self.base}/{status}", method="POST", form={"a": "b"}, repeatable=True)'
    )
    with Web(site) as web:
        crawl(project, web, start).expect(0)
        for status in (301, 302, 303):
            (seen,) = web.seen(f"/to{status}")
            assert (seen.method, seen.body) == ("GET", b"")
            assert not {"content-type", "content-length"} & seen.headers.keys()
        for status in (307, 308):
            (seen,) = web.seen(f"/to{status}")
            assert (seen.method, seen.body) == ("POST", b"a=b")
            assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
        assert len(json_lines(project.path("out.jsonl"))) == 5
