from __future__ import annotations

import json
import os
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scraper import urls
from scraper.resolving import Known, Resolver, Table, directory

DATA = os.environ.get("SCRAPER_TEST_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="SCRAPER_TEST_DATA is not set")


def standard_cases() -> list[dict[str, Any]]:
    cases = json.loads(Path(DATA or "", "url", "urltestdata.json").read_bytes())
    return [case for case in cases if isinstance(case, dict)]


@needs_data
@pytest.mark.case(66, "the WHATWG URL test data", "446 of 446 as the standard has them")
def test_parse_is_the_standard() -> None:
    wrong = [
        (case["input"], case["base"], found)
        for case in standard_cases()
        if (found := urls.parse(case["input"], case["base"])) != case.get("href")
    ]
    assert wrong == []


@needs_data
def test_the_resolver_is_the_standard() -> None:
    tried = 0
    for case in standard_cases():
        base = urls.parse(case["base"] or "")
        if base is None:
            continue
        tried += 1
        href = case.get("href")
        expected = None if href is None else href.partition("#")[0]
        assert Resolver(base).resolve(case["input"]) == expected, case
    assert tried > 300


@pytest.mark.parametrize("hostile", ["\ud800", "http://h/\ud800", "a\0b", "", "http://", "\udfff@"])
def test_parse_never_raises(hostile: str) -> None:
    for base in (None, "http://h/", hostile):
        found = urls.parse(hostile, base)
        assert found is None or found.encode()


def test_a_lone_surrogate_is_a_replacement_character() -> None:
    assert urls.parse("http://h/\ud800") == "http://h/%EF%BF%BD"
    assert urls.scalar("a\ud83d\ude00b\ud800") == "a😀b�"


# Credentials and logs


def basic(pair: bytes) -> str:
    return "Basic " + b64encode(pair).decode()


@pytest.mark.parametrize(
    ("url", "clean", "credentials"),
    [
        ("http://h/", "http://h/", None),
        ("http://h/@x", "http://h/@x", None),
        ("http://u:p@h/", "http://h/", basic(b"u:p")),
        ("https://u%40:p%3A%C3%A9@h:80/x@y?a@b", "https://h:80/x@y?a@b", basic("u@:p:é".encode())),
        ("http://u@h/", "http://h/", basic(b"u:")),
        ("http://@h/", "http://h/", None),
        ("http://u:p/w@h/", "http://h/", None),  # invalid: the port is no number
        ("http://u:p@h:99999/", "http://h:99999/", None),
        ("mailto:a@b", "mailto:a@b", None),
    ],
)
def test_credentials(url: str, clean: str, credentials: str | None) -> None:
    assert urls.without_credentials(url) == (clean, credentials)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://u:s3cret@h/x?q=1", "http://***@h/x?q=1"),
        ("redis://:s3cret@h:6379/0", "redis://***@h:6379/0"),
        ("u:s3cret@proxy:8080", "***@proxy:8080"),
        ("http://u:s3/cret@h/", "http://***@h/"),
        ("http://h/?api_key=s3cret&q=1", "http://h/?api_key=***&q=1"),
        ("/x?q=1&Access-Token=s3cret;a=b", "/x?q=1&Access-Token=***;a=b"),
        ("http://h/?to%6ben=s3cret", "http://h/?to%6ben=***"),
        ("http://h/#id_token=s3cret", "http://h/#id_token=***"),
        ("http://h/@me?q=a@b", "http://h/@me?q=a@b"),
        ("http://h/?signature=s3cret&password=s3cret", "http://h/?signature=***&password=***"),
    ],
)
def test_redaction(url: str, shown: str) -> None:
    assert urls.redact(url) == shown
    assert "s3" not in shown


# Identity


@pytest.mark.parametrize(
    ("href", "same"),
    [
        ("http://h/a#b", "http://h/a"),
        ("http://h/?b=1&a=2", "http://h/?a=2&b=1"),
        ("http://h/?a=2&a=1", "http://h/?a=2&a=1"),
        ("http://h/?", "http://h/"),
        ("http://h/?a&&b=", "http://h/?a&b="),
        ("http://h/%7euser/%2fx", "http://h/~user/%2Fx"),
        ("http://h/%%341", "http://h/%%341"),
    ],
)
def test_canonical(href: str, same: str) -> None:
    assert urls.canonical(href) == same


@pytest.mark.case(68, "`/a%2Fb` and `/a/b`", "two pages")
def test_canonical_keeps_apart_what_may_differ() -> None:
    for one, other in [
        ("http://h/a%2Fb", "http://h/a/b"),
        ("http://h/?a=1&a=2", "http://h/?a=2&a=1"),
        ("http://h/?a=+", "http://h/?a=%20"),
        ("http://h/a", "http://h/a/"),
        ("http://h/?a", "http://h/?a="),
    ]:
        assert urls.canonical(one) != urls.canonical(other)


def test_dropped_parameters() -> None:
    href = "http://h/?utm_source=x&id=1&utm%5Fmedium=y&sid=2"
    assert urls.canonical(href, ("utm_*", "sid")) == "http://h/?id=1"
    assert urls.canonical("http://h/?sid=2", {"sid"}) == "http://h/"
    assert urls.canonical("http://h/a;sid=2/b;v=1;sid?x", ("sid",)) == "http://h/a/b;v=1?x"
    assert urls.canonical("http://h/a;sid=2/b", ()) == "http://h/a;sid=2/b"
    assert urls.canonical("http://h/a/..;sid=2/b", ("sid",)) == "http://h/b"


tails = st.text(st.sampled_from("ab./%20fF2eE41&=?;+#~é \\@:'\"<>|[]"), max_size=30)


@pytest.mark.case(68, "any path and query, in its normal form", "the normal form is idempotent")
@given(tails)
@example("%%341")
@example("a/..;b=1/%2e;b")
@example("?%&41=1&%")
@example("?%26=1&a%3d=2")
def test_canonical_is_a_fixed_point(tail: str) -> None:
    href = urls.parse("http://host/" + tail)
    assert href is not None
    once = urls.canonical(href, ("b*",))
    assert urls.canonical(once, ("b*",)) == once
    assert urls.parse(once) == once


def test_fingerprint() -> None:
    one = urls.fingerprint("GET", "http://h/")
    assert 0 <= one < 2**64
    assert one == urls.fingerprint("GET", "http://h/")
    others = {
        urls.fingerprint("POST", "http://h/"),
        urls.fingerprint("GET", "http://h/x"),
        urls.fingerprint("GET", "http://h/", b"x"),
        urls.fingerprint("GET", "\ud800"),
    }
    assert len(others | {one}) == 5


# Hosts


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("HTTP://EXAMPLE.com:80/x", "http://example.com"),
        ("https://example.com:8443?x", "https://example.com:8443"),
        ("http://example.com./", "http://example.com"),
        ("http://example.com.:81/", "http://example.com:81"),
        ("http://u:p@h/", "http://h"),
        ("http://[::1]:81/", "http://[::1]:81"),
        ("http://0x7f.1/", "http://127.0.0.1"),
        pytest.param(
            "http://bücher.de/",
            "http://xn--bcher-kva.de",
            marks=pytest.mark.case(68, "`http://bücher.de/` (IDN)", "host `xn--bcher-kva.de`"),
        ),
        ("http://h/a@b:c", "http://h"),
    ],
)
def test_host_key(url: str, key: str) -> None:
    assert urls.host_key(urls.parse(url) or "") == key


@given(st.text(max_size=40))
def test_host_key_never_raises(anything: str) -> None:
    assert isinstance(urls.host_key(anything), str)


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("www.example.co.uk", "example.co.uk"),
        ("example.com.", "example.com"),
        ("a.b.github.io", "b.github.io"),
        ("github.io", "github.io"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "[::1]"),
    ],
)
def test_registered_domain(host: str, domain: str) -> None:
    assert urls.registered_domain(host) == domain


# Resolving

BASES = [
    "http://h/",
    "http://h/a/b/c.html?q=1#f",
    "http://h/a//b/",
    "https://u:p@h:81/x/y",
    "http://h/?a/b",
    "http://h/%2e./a;b/c",
    "http://[::1]/a/b",
    "file:///etc/x",
    "mailto:a@b",
]
hrefs = st.lists(
    st.sampled_from([
        *("a", "b.html", "x%20y", "%2e", "%2E%2e", ".", "..", "/", "//", "../", "./", "?", "q=1"),
        *(
            "&",
            "#",
            "#f",
            " ",
            "\t",
            "\n",
            "\\",
            ":",
            "@",
            "é",
            "<",
            "'",
            "|",
            "http:",
            "https://h",
        ),
        *("http://h", "http://h/", "https://u:p@h:81/", "javascript:", "...", "a.b", ";p", "\x1f"),
        *("{", "^", "`", "%", "\ud800", "\x85", "\u3000", "[", "\x7f", "~", "*", "$", "+", ","),
    ]),
    max_size=7,
).map("".join)


@given(st.sampled_from(BASES), hrefs | st.text(max_size=12))
@example("http://h/", "foo #bar")
@example("http://h/a/b/c", "../../../..//x")
@example("http://h/a/b/c", "../#")
def test_the_resolver_agrees_with_ada(base: str, href: str) -> None:
    base = urls.parse(base) or ""
    expected = urls.parse(href, base)
    if expected is not None:
        expected = expected.partition("#")[0]
    resolver = Resolver(base)
    assert resolver.resolve(href) == expected
    assert resolver.resolve(href) == expected, "remembered otherwise"


@given(st.sampled_from(BASES), st.lists(hrefs, max_size=8))
def test_web_links_agree_with_resolving_one_by_one(base: str, given: list[str]) -> None:
    base = urls.parse(base) or ""
    expected: dict[str, None] = {}
    for href in given:
        url = urls.parse(href, base)
        if url and urls.is_web(url) and href and not href.startswith("#"):
            expected[url.partition("#")[0]] = None
    resolver = Resolver(base)
    assert resolver.web_links(given) == list(expected)
    for url in expected:  # `follow` takes these as they are
        assert url in resolver.given
        assert Resolver(base).resolve(url) == url


@given(st.sampled_from(["a", "b?x", "b", ""]), hrefs)
def test_pages_of_one_directory_may_share_what_is_known(page: str, href: str) -> None:
    known = Known("http://h/d/")
    Resolver("http://h/d/first?y", known).resolve(href)
    base = f"http://h/d/{page}"
    assert Resolver(base, known).resolve(href) == Resolver(base).resolve(href)


@given(st.sampled_from(["http://h/", "http://h/e/f?x", "http://h/d/g"]), hrefs)
def test_pages_of_one_site_may_share_what_is_known(base: str, href: str) -> None:
    site = Table()
    Resolver("http://h/d/first?y", Known("http://h/d/", site)).resolve(href)
    known = Known(directory(base), site)
    for _ in range(2):
        assert Resolver(base, known).resolve(href) == Resolver(base).resolve(href)


# Forms


def test_pairs_are_encoded_as_the_standard_serialises_them() -> None:
    pairs: list[tuple[str | bytes, str | bytes]] = [("a b", "*-._~é&="), (b"\xff", "")]
    assert urls.urlencoded(pairs) == "a+b=*-._%7E%C3%A9%26%3D&%FF="
    assert urls.urlencoded([("a", "€中")], "windows-1252") == "a=%80%26%2320013%3B"
    assert urls.urlencoded([]) == ""
