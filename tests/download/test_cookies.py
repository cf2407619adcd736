"""Cookie jars, by RFC 6265 and rfc6265bis, without a socket."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.download.cookies import (
    MAX_AGE,
    MAX_PER_DOMAIN,
    MAX_PER_JAR,
    Cookie,
    Jar,
    Jars,
    Place,
    parse,
    parse_date,
)

NOW = 1_800_000_000.0
SITE = "https://www.example.com/shop/item?x=/y"


def sent(to: str, *fields: str, source: str = SITE, now: float = NOW) -> str:
    """The `Cookie` field for a request to *to*, after *fields* came from *source*."""
    jar = Jar()
    jar.store(fields, Place.of(source), NOW)
    return "; ".join(f"{name}={value}" for name, value in jar.pairs(Place.of(to), now))


@pytest.mark.parametrize(
    ("href", "place"),
    [
        (SITE, Place("www.example.com", "/shop/item", True)),
        ("http://h", Place("h", "/", False)),
        ("http://h:8080/?q=/", Place("h", "/", False)),
        ("http://h./a#b?c", Place("h", "/a", False)),
        ("http://[::1]/a", Place("[::1]", "/a", False)),
        ("http://[::1]:80/a", Place("[::1]", "/a", False)),
    ],
)
def test_places(href: str, place: Place) -> None:
    assert Place.of(href) == place


class TestDomains:
    @pytest.mark.parametrize(
        ("field", "to", "expected"),
        [
            ("a=1", "https://www.example.com/shop/", "a=1"),
            ("a=1", "https://sub.www.example.com/shop/", ""),
            ("a=1", "https://example.com/shop/", ""),
            ("a=1; Domain=example.com", "https://example.com/shop/", "a=1"),
            ("a=1; Domain=.EXAMPLE.com", "https://other.example.com/shop/", "a=1"),
            ("a=1; Domain=example.com", "https://badexample.com/shop/", ""),
            ("a=1; Domain=", "https://www.example.com/shop/", "a=1"),
            ("a=1; Domain=com", "https://www.example.com/shop/", ""),
            ("a=1; Domain=other.com", "https://other.com/shop/", ""),
            ("a=1; Domain=sub.www.example.com", "https://sub.www.example.com/shop/", ""),
        ],
    )
    def test_who_gets_it(self, field: str, to: str, expected: str) -> None:
        assert sent(to, field) == expected

    @pytest.mark.case(
        39,
        "`Domain=` a public suffix (`com`, `co.uk`, `github.io`), from below it and from itself",
        "from below: dropped; from the suffix itself: a cookie of that host alone",
    )
    @pytest.mark.parametrize("suffix", ["com", "co.uk", "github.io", "ck", "localhost"])
    def test_a_public_suffix_has_no_cookies(self, suffix: str) -> None:
        source = f"https://site.{suffix}/"
        assert sent(source, f"a=1; Domain={suffix}", source=source) == ""
        itself = f"https://{suffix}/"
        field = f"a=1; Domain={suffix}"
        assert sent(itself, field, source=itself) == "a=1"  # as a host of its own, and no other
        assert sent(source, field, source=itself) == ""

    def test_addresses_have_no_parents(self) -> None:
        source = "http://127.0.0.1/"
        assert sent("http://127.0.0.1:8080/", "a=1", source=source) == "a=1"
        assert sent(source, "a=1; Domain=127.0.0.1", source=source) == "a=1"
        assert sent(source, "a=1; Domain=0.0.1", source=source) == ""


class TestPaths:
    @pytest.mark.parametrize(
        ("field", "to", "expected"),
        [
            ("a=1", "/shop", "a=1"),
            ("a=1", "/shop/x/y", "a=1"),
            ("a=1", "/shopping", ""),
            ("a=1", "/", ""),
            ("a=1; Path=/", "/anything", "a=1"),
            ("a=1; Path=relative", "/shop", "a=1"),
            ("a=1; Path=/b/", "/b", ""),
            ("a=1; Path=/b/", "/b/c", "a=1"),
        ],
    )
    def test_where_it_goes(self, field: str, to: str, expected: str) -> None:
        assert sent(f"https://www.example.com{to}", field) == expected

    def test_the_longest_first_then_the_oldest(self) -> None:
        fields = ["a=1; Path=/", "b=2; Path=/shop", "c=3; Path=/"]
        assert sent(SITE, *fields) == "b=2; a=1; c=3"


class TestSecure:
    def test_goes_over_tls_only(self) -> None:
        assert sent("http://www.example.com/shop/", "a=1; Secure") == ""
        assert sent(SITE, "a=1; Secure") == "a=1"

    def test_comes_over_tls_only(self) -> None:
        plain = "http://www.example.com/shop/"
        assert sent(SITE, "a=1; Secure", source=plain) == ""

    def test_is_not_overwritten_from_without(self) -> None:
        jar = Jar()
        jar.store(["a=1; Secure; Path=/"], Place.of(SITE), NOW)
        assert not jar.store(["a=2; Path=/"], Place.of("http://www.example.com/"), NOW)
        assert jar.pairs(Place.of(SITE), NOW) == [("a", "1")]

    @pytest.mark.parametrize(
        ("field", "kept"),
        [
            ("__Secure-a=1; Secure", True),
            ("__Secure-a=1", False),
            ("__Host-a=1; Secure; Path=/", True),
            ("__Host-a=1; Secure", False),
            ("__Host-a=1; Secure; Path=/; Domain=example.com", False),
        ],
    )
    def test_prefixes_hold_what_they_promise(self, field: str, kept: bool) -> None:
        assert (parse(field, Place.of(SITE), NOW) is not None) is kept


class TestExpiry:
    @pytest.mark.parametrize(
        ("attributes", "expires"),
        [
            ("", None),
            ("; Max-Age=60", NOW + 60),
            ("; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", NOW + 60),
            ("; Max-Age=0", 0.0),
            ("; Max-Age=-1", 0.0),
            ("; Max-Age=-" + "9" * 1000, 0.0),
            ("; Max-Age=" + "9" * 1000, NOW + MAX_AGE),
            ("; Max-Age=soon", None),
            ("; Expires=Wed, 21 Oct 2099 07:28:00 GMT", NOW + MAX_AGE),
            ("; Expires=nonsense", None),
        ],
    )
    def test_dates(self, attributes: str, expires: float | None) -> None:
        cookie = parse(f"a=1{attributes}", Place.of(SITE), NOW)
        assert cookie is not None
        assert cookie.expires == expires

    def test_what_expired_is_not_sent(self) -> None:
        assert sent(SITE, "a=1; Max-Age=60", now=NOW + 59) == "a=1"
        assert sent(SITE, "a=1; Max-Age=60", now=NOW + 60) == ""

    def test_a_date_in_the_past_deletes(self) -> None:
        assert sent(SITE, "a=1; Path=/", "b=2", "a=; Path=/; Max-Age=0") == "b=2"

    @pytest.mark.parametrize(
        ("text", "date"),
        [
            ("Sun, 06 Nov 1994 08:49:37 GMT", (1994, 11, 6, 8, 49, 37)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", (1994, 11, 6, 8, 49, 37)),
            ("Sun Nov  6 08:49:37 1994", (1994, 11, 6, 8, 49, 37)),
            ("06 nov 2030 8:9:7", (2030, 11, 6, 8, 9, 7)),
            ("Thu, 01-Jan-69 00:00:01", (2069, 1, 1, 0, 0, 1)),
        ],
    )
    def test_known_forms(self, text: str, date: tuple[int, int, int, int, int, int]) -> None:
        assert parse_date(text) == datetime(*date, tzinfo=UTC).timestamp()

    @pytest.mark.parametrize(
        "text",
        ["", "tomorrow", "31 Feb 2030 00:00:00", "1 Jan 1500 00:00:00", "1 Jan 2030 25:00:00"],
    )
    def test_no_dates(self, text: str) -> None:
        assert parse_date(text) is None

    @given(st.text())
    def test_nothing_is_raised(self, text: str) -> None:
        assert parse_date(text) is None or isinstance(parse_date(text), float)


class TestMalformed:
    @pytest.mark.case(
        41,
        "`Set-Cookie` without a name or `=`, with control bytes, longer than 4,096 bytes",
        "ignored; the page is delivered",
    )
    @pytest.mark.parametrize(
        "field", ["", ";", "novalue", "=value", " = ", "a=1\x00b", "a=\x07", "a=" + "x" * 5000]
    )
    def test_is_ignored(self, field: str) -> None:
        assert parse(field, Place.of(SITE), NOW) is None

    @pytest.mark.parametrize(
        ("field", "pair"),
        [
            ("a=", ("a", "")),
            ("a=b=c", ("a", "b=c")),
            ('a="q u"', ("a", '"q u"')),
            ("  a  =  b  ;;; ; =; Unknown=1", ("a", "b")),
        ],
    )
    def test_is_read_as_browsers_do(self, field: str, pair: tuple[str, str]) -> None:
        cookie = parse(field, Place.of(SITE), NOW)
        assert cookie is not None
        assert (cookie.name, cookie.value) == pair

    @given(st.lists(st.text(alphabet=st.characters(max_codepoint=255)), max_size=5))
    def test_nothing_is_raised(self, fields: list[str]) -> None:
        jar = Jar()
        jar.store(fields, Place.of(SITE), NOW)
        assert len(jar) == len(list(jar)) <= len(fields)


class TestLimits:
    @pytest.mark.case(
        40,
        "5,000 `Set-Cookie` fields of one host",
        "the 50 newest are kept (RFC 6265, section 6.1)",
    )
    def test_five_thousand_of_one_host(self) -> None:
        jar = Jar()
        jar.store([f"c{n}={n}" for n in range(5000)], Place.of(SITE), NOW)
        assert len(jar) == MAX_PER_DOMAIN
        assert jar.pairs(Place.of(SITE), NOW)[-1] == ("c4999", "4999")

    @pytest.mark.case(40, "8,000 cookies of 200 hosts", "the newest 3,000 of a jar are kept")
    def test_of_many_hosts(self) -> None:
        jar = Jar()
        for host in range(200):
            for n in range(40):
                jar.store([f"c{n}={n}"], Place.of(f"https://h{host}.example/"), NOW)
        assert len(jar) == len(list(jar)) == MAX_PER_JAR
        assert jar.pairs(Place.of("https://h199.example/"), NOW)


class TestJars:
    @pytest.mark.case(
        42, "a cookie set in one session, requests of others", "no other session sends it"
    )
    def test_share_nothing(self) -> None:
        jars = Jars()
        jars.store("one", SITE, ["a=1"], NOW)
        assert jars.pairs("one", SITE, NOW) == [("a", "1")]
        assert jars.pairs("two", SITE, NOW) == []
        assert jars.pairs(None, SITE, NOW) == []

    def test_are_stored_when_something_changed(self) -> None:
        jars = Jars()
        assert jars.dump(NOW) is None
        jars.store(None, SITE, ["a=1"], NOW)
        assert jars.dump(NOW)
        jars.store(None, SITE, ["a=1"], NOW)
        assert jars.dump(NOW) is None
        jars.store(None, SITE, ["a=2"], NOW)
        assert jars.dump(NOW)
        jars.store(None, SITE, ["a=; Max-Age=0"], NOW)
        assert jars.dump(NOW)

    def test_come_back_without_what_expired(self) -> None:
        jars, again = Jars(), Jars()
        jars.store(None, SITE, ["session=1", "short=2; Max-Age=5", "long=3; Max-Age=500"], NOW)
        jars.store("login", SITE, ["id=4; Secure; Domain=example.com; Path=/"], NOW)
        stored = jars.dump(NOW + 10)
        assert stored is not None
        again.load(stored)
        assert again.pairs(None, SITE, NOW) == [("session", "1"), ("long", "3")]
        assert again.pairs("login", SITE, NOW) == jars.pairs("login", SITE, NOW) != []

    def test_refreshing_keeps_the_order(self) -> None:
        jar = Jar([Cookie("a", "1", "h"), Cookie("b", "2", "h")])
        jar.store(["a=3; Path=/"], Place.of("http://h/"), NOW)
        assert jar.pairs(Place.of("http://h/"), NOW) == [("a", "3"), ("b", "2")]
