from __future__ import annotations

import gzip
from decimal import Decimal
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.errors import ExtractionError, ItemInvalid, UsageError
from scraper.http import Headers, Request, Response
from scraper.items import Css, Invalid, Item
from scraper.links import Memo

URL = "http://h/shop/list.html"
BODY = b"""<!DOCTYPE html><meta charset=utf-8>
<article class=p><h3><a href="1.html">One</a></h3><b>1.50</b></article>
<article class=p><h3><a href="2.html#x">Tw\xc3\xb6</a></h3><b>?</b></article>
<li class=next><a href="?page=2">next</a></li>"""


class Shop:
    """Stands for a spider: callbacks are stored by name."""

    def parse(self, response: Response) -> None: ...
    def parse_book(self, response: Response) -> None: ...


SHOP = Shop()


class Book(Item):
    title: Annotated[str, Css("h3")]
    price: Annotated[Decimal, Css("b")]


def page(body: bytes = BODY, content_type: str = "text/html", **options: Any) -> Response:
    request = Request(URL, SHOP.parse, **options.pop("request", {}))
    return Response(URL, 200, {"Content-Type": content_type}, body, request, **options)


# Reading


def test_text_and_encoding() -> None:
    assert page().encoding == "utf-8"
    assert "Twö" in page().text
    latin = page("é".encode("latin-1"), "text/html; charset=ISO-8859-1")
    assert (latin.encoding, latin.text, latin.css("body").text) == ("windows-1252", "é", "é")
    sjis = page("<p>日本</p>".encode("shift_jis"), "text/html; charset=x-sjis")
    assert sjis.css("p::text").get() == "日本"
    utf16 = page("\ufeff<p>ö</p>".encode("utf-16-le"))
    assert utf16.css("p").text == "ö"
    marked = page(b"\xef\xbb\xbf<title>x</title>")
    assert (marked.text, marked.css("title").text, marked.document.text) == (
        "<title>x</title>",
        "x",
        "x",
    )


@given(
    st.binary(max_size=100), st.sampled_from(["", "text/html; charset=utf-16", "x; charset=hex"])
)
def test_any_body_has_an_encodable_text(body: bytes, content_type: str) -> None:
    assert isinstance(page(body, content_type).text.encode(), bytes)


def test_json() -> None:
    assert page(b'{"a": [1]}', "application/json").json() == {"a": [1]}
    assert page(b'\xef\xbb\xbf["\xc3\xa9"]', "application/json").json() == ["é"]
    for broken in (b"<p>", b"", b"[" * 100_000, b"\xff"):
        with pytest.raises(ExtractionError, match="is not JSON") as caught:
            page(broken, "application/json").json()
        assert caught.value.reason == "not_json"


def test_what_is_not_html_says_so() -> None:
    response = page(b'{"a": 1}', "application/json")
    assert not response.is_html
    for read in (lambda: response.css("a"), response.links, lambda: response.extract(Book)):
        with pytest.raises(ExtractionError) as caught:
            read()
        assert caught.value.reason == "not_html"
    assert response.urljoin("x") == "http://h/shop/x"
    assert page(gzip.compress(b"<p>")).is_html is False
    assert page().is_html


def test_an_empty_body_is_an_empty_page() -> None:
    response = page(b"", "application/json")
    assert response.links() == []
    assert response.css("a").get() is None
    assert response.text == ""


def test_nothing_is_done_until_asked() -> None:
    response = page()
    assert not {"text", "encoding", "document"} & vars(response).keys()
    response.css("a")
    assert "text" not in vars(response), "UTF-8 is parsed without decoding"


def test_costly_pages_are_refused_unless_checked() -> None:
    costly = page(b"<div>" * 2_200)
    with pytest.raises(ExtractionError) as caught:
        costly.links()
    assert caught.value.reason == "parse_limit"
    assert costly.follow("x").url == "http://h/shop/x"
    costly.checked = True
    assert costly.links() == []


def test_extract() -> None:
    response = page()
    assert response.extract(Book) == Book(title="One", price=Decimal("1.50"))
    books = response.extract_all(Book, "article.p")
    assert books[0].title == "One"
    assert isinstance(books[1], Invalid)
    assert books[1].error.url == URL
    with pytest.raises(ItemInvalid, match="price"):
        _ = books[1].price
    assert response.extract(Book, "article.p") == books[0]
    assert isinstance(response.extract(Book, "section"), Invalid)


# Links


def test_links() -> None:
    assert page().links() == [f"{URL[:14]}1.html", f"{URL[:14]}2.html", f"{URL}?page=2"]
    assert page().links("article", deny="2") == ["http://h/shop/1.html"]
    based = page(b'<base href="/other/"><a href=x>')
    assert based.links() == ["http://h/other/x"]
    assert based.urljoin("y#z") == "http://h/other/y#z"
    assert based.follow("y").url == "http://h/other/y"


@pytest.mark.parametrize("memo", [None, Memo()])
def test_follow(memo: Memo | None) -> None:
    response = page(memo=memo)
    for _ in range(2):
        assert response.follow("1.html").url == "http://h/shop/1.html"
        assert response.follow("1.html").callback == "parse"
        assert response.follow("/x#y", SHOP.parse_book) == Request("http://h/x", "parse_book")
        assert response.follow("http://h/z#f", "parse_book") == Request("http://h/z", "parse_book")
        assert response.follow("http://h/z") == Request("http://h/z", "parse")
        assert response.follow(response.css("li.next a")).url == f"{URL}?page=2"
        assert response.follow(response.css("a")[1]).url == "http://h/shop/2.html"
        assert response.follow(response.css("a::attr(href)")[0]).url == "http://h/shop/1.html"
        assert response.follow("x", priority=3, kwargs={"a": 1}).priority == 3


def test_follow_never_fails_on_a_url() -> None:
    for wrong in ("http://h:99999/", "http://[", "\ud800", "javascript:alert(1)", "", "//"):
        request = page(memo=Memo()).follow(wrong)
        assert isinstance(request, Request)
        assert isinstance(request.fingerprint, int)
    assert page().follow("http://h:99999/").url == "http://h:99999/"


def test_follow_what_is_no_link() -> None:
    given: list[tuple[Any, str]] = [
        (page().css("h3")[0], "neither href nor src"),
        (page().css("h9"), r"follow\(\[\]\): the selector matched nothing"),
        (page().css("h9").get(), r"follow\(None\): the selector matched nothing"),
        (page().links(), "one link, not"),
        (7, "no link"),
    ]
    for wrong, told in given:
        with pytest.raises(UsageError, match=told):
            page().follow(wrong)
    with pytest.raises(IndexError, match="none of these links"):
        page().links("h9 a")[0]
    assert page().links()[0] == page().links()[:1][0] == f"{URL[:14]}1.html"
    with pytest.raises(UsageError, match="callback"):
        page().follow("x", lambda response: None)


def test_follow_takes_credentials_out() -> None:
    for response in (page(), page(memo=Memo())):
        request = response.follow("http://u:p@h/x")
        assert request.url == "http://h/x"
        assert request.headers["Authorization"] == "Basic dTpw"


def test_the_session_is_carried_on() -> None:
    memo = Memo()
    here = page(request={"session": "s"}, memo=memo)
    assert here.follow("http://h/x").session == "s"
    assert here.follow("http://h/x", priority=1).session == "s"
    assert here.follow("http://h/x", session="t").session == "t"
    assert page(memo=memo).follow("http://h/x").session is None


def test_a_memo_gives_the_same_request_again() -> None:
    memo = Memo()
    link = page().links()[0]
    first = page(memo=memo).follow(link, SHOP.parse_book)
    assert page(memo=memo).follow(link, SHOP.parse_book) is first
    assert page(memo=memo).follow(link) is not first
    assert page(memo=memo).follow(link, priority=1) is not first


def test_a_memo_does_not_mix_up_relative_urls() -> None:
    memo = Memo()
    other = Response("http://h/other/", body=BODY, memo=memo)
    assert page(memo=memo).follow("x").url == "http://h/shop/x"
    assert other.follow("x").url == "http://h/other/x"
    assert page(memo=memo).links() != other.links()


def test_follow_all() -> None:
    response = page(memo=Memo())
    every = response.follow_all()
    assert [request.url for request in every] == response.links()
    books = response.follow_all(css="article", callback=SHOP.parse_book, deny="2")
    assert books == [Request("http://h/shop/1.html", "parse_book")]
    assert response.follow_all(["a", "b"], "parse_book", priority=2)[1].priority == 2
    assert response.follow_all(response.css("h3 a"))[1].url == "http://h/shop/2.html"
    assert response.follow_all(text="^Twö$", priority=1)[0] == Request(
        "http://h/shop/2.html", "parse", priority=1
    )
    with pytest.raises(UsageError, match="one URL"):
        response.follow_all("http://h/")
    with pytest.raises(UsageError, match="not both"):
        response.follow_all(["http://h/"], allow="h")


@pytest.mark.case(
    52,
    "rel=nofollow, `<meta name=robots>`, X-Robots-Tag (of one bot, with a date, none)",
    "obeyed where `links(nofollow=True)` or politeness.nofollow asks for it",
)
def test_nofollow_by_option_and_by_setting() -> None:
    body = b'<a href=a rel="noopener NoFollow">1</a><a href=b>2</a><a href=c rel=ugc>3</a>'
    every, rest = ["http://h/shop/a", "http://h/shop/b", "http://h/shop/c"], ["http://h/shop/b"]
    obeying = page(body, memo=Memo(nofollow=True))
    assert page(body).links() == obeying.links(nofollow=False) == every
    assert page(body).links(nofollow=True) == obeying.links() == obeying.links("a") == rest
    assert obeying.links("a::attr(href)") == rest
    meta = page(b'<meta name=robots content="noindex, NoFollow">' + body)
    assert (meta.links(nofollow=True), meta.links()) == ([], every)
    for value, left in (
        ("noindex, nofollow", []),
        ("none", []),
        ("unavailable_after: 25 Jun 2030 15:00:00 PST, nofollow", []),
        ("otherbot: nofollow", rest),
        ("otherbot: noindex, nofollow", rest),
        ("all", rest),
    ):
        headers = [("Content-Type", "text/html"), ("X-Robots-Tag", value)]
        assert Response(URL, 200, headers, body).links(nofollow=True) == left, value


@pytest.mark.parametrize(
    ("head", "link", "expected"),
    [
        ('<link rel=canonical href="/a#x">', "", "http://h/a"),
        ('<base href="/b/"><link rel="x CANONICAL" href=a>', "", "http://h/b/a"),
        ('<link rel=canonical href="javascript:1"><link rel=canonical href=a>', "", "http://h/shop/a"),
        ("<link rel=canonical href>", "", None),
        ("<link rel=canonicals href=a><link rel=canonical>", "", None),
        ("<base href=/b/>", '<../c?a,b>; rel="canonical"', "http://h/c?a,b"),
        ("<link rel=canonical href=http://[>", "</x>; rel=canonical", "http://h/x"),
        ("<link rel=canonical href=/a>", "</x>; rel=canonical", "http://h/a"),
        ("", '</n>; rel=next; title="</no>; rel=canonical", </x>; REL="shortlink Canonical"', "http://h/x"),
        ("", '</x>; rel=canonical; anchor="#y"', None),
        ("", "</x; rel=canonical", None),
        ("", "<mailto:a@b>; rel=canonical", None),
        ("", "", None),
    ],
)  # fmt: skip
def test_canonical(head: str, link: str, expected: str | None) -> None:
    headers = [("Content-Type", "text/html"), *([("Link", link)] if link else [])]
    assert Response(URL, 200, headers, head.encode()).canonical == expected


def test_what_is_no_page_may_have_a_canonical_address() -> None:
    headers = [("Content-Type", "application/pdf"), ("Link", "</book>; rel=canonical")]
    assert Response(URL, 200, headers, b"%PDF-1.7").canonical == "http://h/book"


def test_values_at_hand() -> None:
    request = Request(URL, meta={"a": 1})
    response = Response(URL, 404, [("X", "1"), ("x", "2")], b"", request, elapsed=0.5)
    assert (response.status, response.elapsed, response.meta, response.history) == (
        404,
        0.5,
        {"a": 1},
        (),
    )
    assert response.headers.getall("X") == ["1", "2"]
    assert repr(response) == f"<Response 404 {URL}>"
    assert Response(URL).request.url == URL


# Requests and headers


def test_headers() -> None:
    headers = Headers([("Set-Cookie", "a"), ("X", "1"), ("set-cookie", "b")])
    assert headers["SET-COOKIE"] == "a, b"
    assert headers.getall("set-cookie") == ["a", "b"]
    assert headers.getall("none") == []
    assert "x" in headers
    assert len(headers) == 2
    assert headers.items_raw()[2] == ("set-cookie", "b")


NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=3)
VALUES = st.text(st.characters(codec="latin-1"), max_size=5)


@given(st.lists(st.tuples(NAMES, VALUES)), NAMES)
def test_headers_from_the_wire_are_those_of_their_text(
    fields: list[tuple[str, str]], asked: str
) -> None:
    told = Headers(fields)
    headers = Headers.of_wire(tuple((n.encode(), v.encode("latin-1")) for n, v in fields))
    assert headers.get(asked, 7) == told.get(asked, 7)
    assert headers.getall(asked) == told.getall(asked)
    assert headers.getall(asked) == [v for n, v in fields if n.lower() == asked.lower()]
    assert list(headers) == list(dict.fromkeys(name.lower() for name, _ in fields))
    assert all(headers[name] == ", ".join(headers.getall(name)) for name in headers)
    assert headers == told
    assert headers.items_raw() == told.items_raw() == tuple(fields)


def test_requests_are_normalised() -> None:
    request = Request("HTTP://U:P@H:80/a/../%62?q#f", SHOP.parse)
    assert request.url == "http://h/%62?q#f"
    assert request.headers["Authorization"].startswith("Basic ")
    assert request.callback == "parse"
    assert request.fingerprint == Request("http://h/b?q").fingerprint
    assert Request("http://h/", json={"a": "é"}).method == "POST"
    assert Request("http://h/", form={"a": [1, 2]}).body == b"a=1&a=2"
    with pytest.raises(UsageError, match="one of body, json and form"):
        Request("http://h/", json=1, body=b"")
    with pytest.raises(UsageError, match="stored by method name"):
        Request("http://h/", lambda r: None)


def test_requests_survive_storage() -> None:
    requests = [
        Request("http://h/"),
        Request("http://h/", "parse", method="PUT", body=b"\xff\x00", headers={"A": "b"}),
        Request("http://h/", json={"a": "\ud800"}, accept={404, 500}, secret={"X"}, timeout=3.5),
        Request(
            "http://h/", accept="*", unique=False, session="s", meta={"a": [1]}, kwargs={"b": 2}
        ),
        Request("\ud800"),
    ]
    for request in requests:
        again = Request.load(request.dump())
        assert again == request
        assert again.fingerprint == request.fingerprint
        assert again.dump() == request.dump()
    with pytest.raises(UsageError, match="JSON values"):
        Request("http://h/", meta={"a": object()}).dump()
    for junk in (b"[]", b"{}", b'{"url": "x", "evil": 1}', b"\x80\x04."):
        with pytest.raises(ValueError):
            Request.load(junk)
