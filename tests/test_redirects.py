"""Redirects: what is asked for next, what is left behind, where it ends."""

from __future__ import annotations

from typing import Any

import pytest

from scraper.errors import FetchError
from scraper.http import Headers, Request, Response
from scraper.redirects import redirect

START = "https://example.com/a/b?c#d"


def answer(request: Request, location: str | None, status: int = 302) -> Response:
    fields = [] if location is None else [("Location", location)]
    return Response(request.url, status, Headers(fields), b"", request)


def followed(location: str, status: int = 302, url: str = START, **options: Any) -> Request:
    request = Request(url, **options)
    found = redirect(request, answer(request, location, status))
    assert found is not None
    return found


def refusal(location: str, **options: Any) -> str:
    with pytest.raises(FetchError) as caught:
        followed(location, **options)
    assert "canary" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/x", "https://example.com/x"),
        ("x", "https://example.com/a/x"),
        ("?x", "https://example.com/a/b?x"),
        ("//other.example/x", "https://other.example/x"),
        ("http://other.example", "http://other.example/"),
        ("\\x\\y", "https://example.com/x/y"),
        ("/x\ty", "https://example.com/xy"),
        ("  /x  ", "https://example.com/x"),
        ("/x y", "https://example.com/x%20y"),
        ("/%zz", "https://example.com/%zz"),
        ("/a%2Fb", "https://example.com/a%2Fb"),
        ("/caf\xc3\xa9", "https://example.com/caf%C3%A9"),  # UTF-8, as header bytes reach us
        ("/caf\xe9", "https://example.com/caf%E9"),  # latin-1
        ("/\u20ac", "https://example.com/%E2%82%AC"),  # made by hand: no header byte is that
        ("http://b\xc3\xbccher.example/", "http://xn--bcher-kva.example/"),
        ("/x#fragment", "https://example.com/x#fragment"),
    ],
)
def test_locations_are_resolved_as_browsers_do(location: str, url: str) -> None:
    assert followed(location).url == url


@pytest.mark.parametrize("location", [None, "", "   "])
def test_without_a_location_it_is_final(location: str | None) -> None:
    request = Request(START)
    assert redirect(request, answer(request, location)) is None


@pytest.mark.parametrize("status", [200, 300, 304, 305, 404])
def test_other_statuses_do_not_redirect(status: int) -> None:
    request = Request(START)
    assert redirect(request, answer(request, "/x", status)) is None


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "data:text/html,canary",
        "javascript:canary",
        "ftp://h/canary",
        "mailto:a@b",
    ],
)
def test_schemes(location: str) -> None:
    assert refusal(location) == "redirect_scheme"


@pytest.mark.parametrize("location", ["http://", "http://a b/canary", "http://h:99999/", "//\xff/"])
def test_no_url(location: str) -> None:
    assert refusal(location) == "url_invalid"


class TestMethods:
    @pytest.mark.parametrize(
        ("status", "method", "expected"),
        [
            (301, "POST", "GET"),
            (302, "POST", "GET"),
            (303, "POST", "GET"),
            (303, "PUT", "GET"),
            (301, "PUT", "PUT"),
            (307, "POST", "POST"),
            (308, "POST", "POST"),
            (301, "HEAD", "HEAD"),
            (303, "HEAD", "HEAD"),
            (302, "GET", "GET"),
        ],
    )
    def test_what_becomes_of_them(self, status: int, method: str, expected: str) -> None:
        found = followed("/x", status, method=method)
        assert found.method == expected

    def test_a_get_has_no_body_nor_its_headers(self) -> None:
        headers = {"content-type": "text/x", "Content-Encoding": "br", "X-Own": "1"}
        found = followed("/x", 303, method="POST", body=b"data", headers=headers)
        assert (found.body, dict(found.headers), found.repeatable) == (b"", {"X-Own": "1"}, True)

    def test_the_others_keep_theirs(self) -> None:
        found = followed("/x", 307, json={"a": 1})
        assert found.body == b'{"a":1}'
        assert found.headers["Content-Type"] == "application/json"
        assert found.repeatable is False


class TestCredentials:
    HEADERS = {"authorization": "canary", "Cookie": "canary", "X-Key": "canary", "X-Own": "1"}

    @pytest.mark.case(
        33,
        "a redirect to another host, a subdomain, another port, and from https to http",
        "`Authorization`, `Cookie`, `Proxy-Authorization`, the request's cookies and the headers"
        " marked secret, or sounding so, are left behind",
    )
    @pytest.mark.parametrize(
        "location",
        [
            "https://other.example/",
            "http://example.com/",
            "https://example.com:8443/",
            "//sub.example.com/",
        ],
    )
    def test_stay_with_their_origin(self, location: str) -> None:
        found = followed(location, headers=self.HEADERS, cookies={"a": "canary"}, secret=["x-key"])
        assert dict(found.headers) == {"X-Own": "1"}
        assert dict(found.cookies) == {}
        assert b"canary" not in found.dump()

    @pytest.mark.parametrize(
        "location", ["/x", "https://example.com:443/x", "https://EXAMPLE.com/x"]
    )
    def test_go_along_within_it(self, location: str) -> None:
        found = followed(location, headers=self.HEADERS, cookies={"a": "1"}, secret=["x-key"])
        assert dict(found.headers) == self.HEADERS
        assert dict(found.cookies) == {"a": "1"}

    def test_those_in_the_location_are_for_it_alone(self) -> None:
        found = followed("https://user:pass@other.example/x", headers={"Authorization": "old"})
        assert found.url == "https://other.example/x"
        assert dict(found.headers) == {"Authorization": "Basic dXNlcjpwYXNz"}
        again = redirect(found, answer(found, "https://third.example/"))
        assert again is not None
        assert dict(again.headers) == {}


class TestChains:
    def test_everything_else_is_inherited(self) -> None:
        options: dict[str, Any] = {
            "callback": "parse_it",
            "errback": "failed",
            "priority": 3,
            "unique": False,
            "accept": {404},
            "session": "s",
            "proxy": "http://p:1",
            "meta": {"m": 1},
            "kwargs": {"k": 2},
            "timeout": 9.0,
            "secret": ["x-key"],
        }
        request = Request(START, **options)
        found = redirect(request, answer(request, "https://other.example/"))
        assert found is not None
        assert found.callback == "parse_it"
        for name in options.keys() - {"callback"}:
            assert getattr(found, name) == getattr(request, name)
        assert Request.load(found.dump()) == found

    def test_the_trail_grows(self) -> None:
        first = Request("http://h/1")
        second = followed("/2", url="http://h/1")
        third = redirect(second, answer(second, "/3"))
        assert third is not None
        assert third.history == ("http://h/1", "http://h/2")
        assert third.trail == (
            ("http://h/1", first.fingerprint),
            ("http://h/2", second.fingerprint),
        )

    def test_it_may_come_back_to_its_start(self) -> None:
        wall = followed("/wall", url="http://h/a")
        back = redirect(wall, answer(wall, "/a"))
        assert back is not None
        assert back.url == "http://h/a"

    @pytest.mark.parametrize("limit", [0, 1, 10])
    def test_the_limit(self, limit: int) -> None:
        request = Request("http://h/loop")
        for _ in range(limit):
            found = redirect(request, answer(request, "/loop"), max_redirects=limit)
            assert found is not None
            request = found
        with pytest.raises(FetchError) as caught:
            redirect(request, answer(request, "/loop"), max_redirects=limit)
        assert caught.value.reason == "redirect_limit"
