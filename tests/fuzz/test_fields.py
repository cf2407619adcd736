"""Header fields and attributes: cookies, targets, codings, charsets, pauses, lists of images."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from io import BytesIO

import brotli
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from scraper import encoding, urls
from scraper.download import coding
from scraper.download.cookies import MAX_PER_DOMAIN, Jars, Place, parse, parse_date
from scraper.errors import DamagedState, FetchError
from scraper.http import Headers, Request, Response
from scraper.politeness import parse_retry_after
from scraper.redirects import redirect
from tests.fuzz.material import attempt, cut, examples, from_data, mutated

NOW = 1.8e9


def text(words: Sequence[str], most: int = 8) -> st.SearchStrategy[str]:
    """Header text as it reaches us: latin-1, no line ends; of *words* and nearly anything."""
    letters = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=6)
    return st.lists(st.sampled_from(words) | letters, max_size=most).map("".join)


# Set-Cookie -------------------------------------------------------------------------------------

COOKIES = text([
    "a", "=", ";", "; ", "b=c", "__Host-x=1", "__Secure-x=1", "Domain=", ".example",
    "shop.example",
    "example", "com", "Path=", "/a", "Max-Age=", "-1", "9" * 30, "Expires=",
    "Wed, 21 Oct 2026 07:28:00 GMT",
    "Thu, 01-Jan-1970 00:00:00 GMT", "99:99:99", "Secure", "HttpOnly", "SameSite=None", " ", "\t",
    '"', ",",
    "\x7f", "x" * 5000,
])  # fmt: skip
PLACES = st.sampled_from([
    "https://shop.example/a/b", "http://www.shop.example/", "http://127.0.0.1:8000/x",
    "https://[::1]/",
    "http://com/", "https://example.co.uk/", "http://localhost/", "https://xn--bcher-kva.example/",
])  # fmt: skip


@examples(60)
@given(st.lists(COOKIES, max_size=60), PLACES, PLACES)
def test_cookies(fields: list[str], where: str, to: str) -> None:
    jars = Jars()
    jars.store(None, where, fields, NOW)
    host = Place.of(to).host
    for name, value in jars.pairs(None, to, NOW):
        assert not set(name + value) & set("\r\n\0;")
        assert name == name.strip() != ""
    if host != Place.of(where).host and not host.endswith("shop.example"):
        assert jars.pairs(None, to, NOW) == []  # nobody sets cookies for somebody else
    assert len(jars.pairs(None, where, NOW)) <= 2 * MAX_PER_DOMAIN
    stored = jars.dump(NOW)
    if stored is not None:
        again = Jars()
        again.load(stored)
        assert again.pairs(None, to, NOW) == jars.pairs(None, to, NOW)
        assert again.dump(NOW) is None


@examples(60)
@given(COOKIES, PLACES)
def test_one_cookie(field: str, where: str) -> None:
    place = Place.of(where)
    cookie = parse(field, place, NOW)
    if cookie is not None:
        assert place.host == cookie.domain or place.host.endswith("." + cookie.domain)
        assert cookie.path.startswith("/")
        assert cookie.expires is None or cookie.expires <= NOW + 400 * 86400
        assert place.secure or not cookie.secure
    date = parse_date(field)
    assert date is None or math.isfinite(date)


@examples(30)
@given(
    mutated(
        [b'{"format":1,"jars":[[null,[["a","b","x.example",true,"/",false,null]]],["s",[]]]}'],
        [b"[", b"]", b"{", b"}", b"null", b'"', b"1e999", b"\xff", b"[" * 2000, b"9" * 5000, b","],
    )
)
def test_stored_cookies(stored: bytes) -> None:
    jars = Jars()
    try:
        jars.load(stored)
    except DamagedState:
        return
    jars.pairs(None, "https://x.example/", NOW)
    jars.store(None, "https://x.example/", ["n=1"], NOW)
    assert jars.dump(NOW) is not None


# Location ---------------------------------------------------------------------------------------

LOCATIONS = text([
    "/", "//", "\\", "http:", "https://", "HTTP://", "file:///etc/passwd", "data:,x",
    "javascript:0",
    "ftp://a/", "about:blank", "shop.example", "user:pass@", "@", ":", ":99999", "[::1]", "[",
    "%zz", "%2F", "%00",
    "?", "#", "..", "/../", ".", " ", "\t", "\xc3\xbc", "\xe2\x80\xae", "\xff", "0x7f.1", "xn--",
    "a" * 9000,
])  # fmt: skip


@examples(80)
@given(LOCATIONS, st.sampled_from([200, 300, 301, 302, 303, 307, 308, 399]), st.booleans())
def test_locations(location: str, status: int, post: bool) -> None:
    request = Request(
        "https://shop.example/a/b?c",
        method="POST" if post else "GET",
        body=b"x" if post else b"",
        headers={"Authorization": "canary", "Cookie": "canary", "X-Key": "canary"},
        secret=["X-Key"],
        cookies={"c": "canary"},
    )
    answer = Response(request.url, status, Headers([("Location", location)]), b"", request)
    target = attempt(FetchError, lambda: redirect(request, answer))
    if isinstance(target, FetchError):
        assert target.reason in {"redirect_scheme", "url_invalid"}
        assert "pass@" not in str(target)
        return
    if target is None:
        assert status not in {301, 302, 303, 307, 308} or not location.strip()
        return
    assert urls.is_web(target.url)
    assert urls.parse(target.url) == target.url
    assert target.url.isascii()
    assert "@" not in urls.host_key(target.url)
    if urls.host_key(target.url) != urls.host_key(request.url):
        assert "canary" not in f"{dict(target.headers)}{dict(target.cookies)}"
    assert Request.load(target.dump()) == target


# Content-Encoding -------------------------------------------------------------------------------

PAGE = b"<p>caf\xc3\xa9</p>" * 40
LIMIT = 50_000
CODED: dict[str, tuple[bytes, ...]] = {
    "gzip": (gzip.compress(PAGE), gzip.compress(PAGE) * 3, gzip.compress(b"\0" * 200_000)),
    "deflate": (zlib.compress(PAGE), zlib.compress(PAGE)[2:-4], zlib.compress(b"\0" * 200_000)),
    "br": (brotli.compress(PAGE), brotli.compress(b"\0" * 200_000)),
    "zstd": (zstandard.compress(PAGE), zstandard.compress(PAGE) * 3),
}
CODED = {name: (*found, *from_data("compressed/*")) for name, found in CODED.items()}
CODED_WORDS = [
    b"\0",
    b"\xff",
    b"\x1f\x8b\x08\0",
    b"x\x9c",
    b"(\xb5/\xfd",
    b"\x50*M\x18\x03\0\0\0abc",
    b"\x03",
]
STREAMS = st.sampled_from(sorted(CODED)).flatmap(
    lambda name: st.tuples(st.just(name), mutated(CODED[name], CODED_WORDS))
)


def decoded(wire: Sequence[bytes], codings: Sequence[str]) -> tuple[bytes, str]:
    """What comes out before it ends, and the reason why it does."""
    out = BytesIO()
    try:
        coding.drain(iter(coding.decoding(wire, codings, limit=LIMIT)), out, 1 << 30)
    except FetchError as error:
        return out.getvalue(), error.reason
    return out.getvalue(), ""


@examples(80)
@given(
    STREAMS.flatmap(lambda pair: st.tuples(st.just(pair[0]), st.just(pair[1]), cut(pair[1]))),
    st.lists(st.sampled_from([*CODED, "x-gzip", "br", "compress", ""]), max_size=6),
)
def test_codings(stream: tuple[str, bytes, list[bytes]], more: list[str]) -> None:
    name, whole, pieces = stream
    body, reason = decoded([whole], [name])
    assert reason in {"", "decode", "body_too_large"}
    assert len(body) <= LIMIT
    again, same = decoded(pieces, [name])
    # Wherever the network cuts it. What is both too large and damaged may be told as either.
    assert bool(same) == bool(reason)
    assert reason != "" or again == body
    _, reason = decoded(pieces, [name, *more])
    assert reason in {"", "decode", "body_too_large"}


@examples(30)
@given(text(["gzip", "br", ",", " ", "identity", "x-gzip", "deflate", "*", ";q=0", "GZIP"]))
def test_names_of_codings(field: str) -> None:
    assert decoded([b"x"], coding.named([field]))[1] in {"", "decode", "body_too_large"}


# Content-Type, Retry-After ----------------------------------------------------------------------

TYPES = text([
    "text/html", ";", "charset=", "utf-8", "UTF-7", "hex", "idna", "rot13", "unicode_escape",
    "zlib", '"', "'", " ",
    "utf-16le", "replacement", "x-user-defined", "=", "\t", "application/json", "shift_jis",
    "iso-2022-jp",
])  # fmt: skip
TEXTS = [
    *from_data("encoding/*.dat"),
    b"<meta charset='koi8-r'>",
    b"\xff\xfea\0",
    b"<?xml encoding='x'?>",
]
TEXT_WORDS = [
    b"<meta ", b"charset=", b"'", b'"', b">", b"<!--", b"-->", b"http-equiv=content-type ",
    b"content='x;charset=",
    b"utf-7", b"hex", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\0", b"\x1b$B", b"\x81", b"/",
    b"<?xml encoding='",
]  # fmt: skip


@examples(80)
@given(mutated(TEXTS, TEXT_WORDS) | st.binary(max_size=100), TYPES)
def test_charsets(body: bytes, content_type: str) -> None:
    name = encoding.detect(body, content_type)
    assert encoding.lookup(name) == name
    response = Response("http://a.example/", 200, [("Content-Type", content_type)], body)
    assert response.encoding == name
    assert response.text.encode().decode() == response.text
    encoding.encode(response.text, name)


@examples(40)
@given(
    text([
        "1",
        "-",
        "9" * 400,
        "nan",
        "inf",
        "1e9",
        " ",
        "GMT",
        "Wed, 21 Oct 2026 07:28:00",
        "+",
        ".5",
    ])
)
def test_pauses(field: str) -> None:
    seconds = parse_retry_after(field, NOW)
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


# URLs -------------------------------------------------------------------------------------------

ADDRESSES = st.lists(
    st.sampled_from([
        "http://", "https:", "//", "a.example", ":", "80", "@", "/", "\\", "?", "#", "%", "%2f",
        "%zz", "..", "[::1]", "0x7f.1", "ß", "\u3002", "\ud800", "xn--", " ", "\t", "\0", "&",
        "=", "a",
    ])
    | st.text(max_size=4),
    max_size=12,
).map("".join)  # fmt: skip


@examples(80)
@given(ADDRESSES)
def test_addresses(address: str) -> None:
    href = urls.parse(address, "https://shop.example/a/b?c#d")
    if href is None:
        return
    assert urls.parse(href) == href
    assert href.isascii()
    if not urls.is_web(href):
        return
    canonical = urls.canonical(href, ("utm_*", "a"))
    assert urls.canonical(canonical, ("utm_*", "a")) == canonical
    assert urls.parse(canonical) == canonical
    assert urls.host_key(canonical) == urls.host_key(href)
    bare, credentials = urls.without_credentials(href)
    assert urls.without_credentials(bare) == (bare, None)
    assert credentials is None or credentials.startswith("Basic ")
    assert urls.redact(urls.redact(href)) == urls.redact(href)
    urls.registered_domain(Place.of(href).host)


@examples(60)
@given(
    text([
        ",",
        " ",
        "a.jpg",
        "b.jpg 2x",
        "1w",
        "//e.example/x",
        "data:,x",
        "(",
        ")",
        "%zz",
        "#",
        "\t",
    ])
)
def test_lists_of_images_and_refreshes(value: str) -> None:
    quoted = value.replace('"', "&quot;").encode("utf-8")
    body = b'<img srcset="%s"><meta http-equiv=refresh content="%s"><a href="%s">' % ((quoted,) * 3)
    page = Response(
        "https://shop.example/", 200, [("Content-Type", "text/html;charset=utf-8")], body
    )
    for href in page.links(attrs=("srcset", "content", "href")):
        assert urls.parse(href) == href
        assert urls.is_web(href)
