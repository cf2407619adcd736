"""Requests: what the constructor takes, copies, storage."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.errors import UsageError
from scraper.options import DEFAULTS, Changes, Options, RequestOptions
from scraper.request import Request

URL = "http://h/x"
URLENCODED = "application/x-www-form-urlencoded"


class Shop:
    def parse(self, response: object) -> None: ...
    def other(self, response: object) -> None: ...


SHOP = Shop()


# Bodies


def test_json() -> None:
    request = Request(URL, json={"a": "é\ud800", "b": [1, None, True]})
    assert request.method == "POST"
    assert request.headers == {"Content-Type": "application/json"}
    assert request.body == '{"a":"é�","b":[1,null,true]}'.encode()
    assert not request.repeatable
    assert Request(URL, json=[], method="PUT").method == "PUT"
    mine = Request(URL, json=0, headers={"content-type": "application/vnd.api+json"})
    assert mine.headers == {"content-type": "application/vnd.api+json"}
    assert mine.body == b"0"


def test_form() -> None:
    request = Request(
        URL, form={"a": "é ~*", "b": [1, 2.5], "c": None, "d": [], "e": b"\xff", "f": True}
    )
    assert request.method == "POST"
    assert request.headers == {"Content-Type": URLENCODED}
    assert request.body == b"a=%C3%A9+%7E*&b=1&b=2.5&e=%FF&f=True"
    assert Request(URL, form=[("b", 1), ("a", 2), ("b", 3)]).body == b"b=1&a=2&b=3"
    assert Request(URL, form={"a": {"z", "b", "c"}}).body == b"a=b&a=c&a=z"
    assert Request(URL, form={}).method == "POST"
    assert Request(URL, form={"a": "1"}, method="GET").method == "GET"


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"content")
    request = Request(URL, form={"user": "ann"}, files={"f": path})
    content_type = request.headers["Content-Type"]
    boundary = content_type.removeprefix("multipart/form-data; boundary=").encode()
    assert request.method == "POST"
    assert request.body.startswith(
        b"--" + boundary + b'\r\nContent-Disposition: form-data; name="user"\r\n\r\nann\r\n'
    )
    assert b'name="f"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\ncontent' in request.body
    path.write_bytes(b"changed")
    assert b"content" in request.body, "the file was read when the request was made"
    assert Request.load(request.dump()) == request


def test_the_same_upload_has_the_same_fingerprint() -> None:
    made = [Request(URL, files={"f": ("a", b"1")}) for _ in range(2)]
    assert made[0].fingerprint == made[1].fingerprint
    assert made[0].fingerprint != Request(URL, files={"f": ("a", b"2")}).fingerprint


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"json": 1, "body": b""}, "one of body, json and form"),
        ({"json": 1, "form": {}}, "one of body, json and form"),
        ({"json": 1, "files": {}}, "one of body, json and form"),
        ({"body": "", "form": {}}, "one of body, json and form"),
        ({"body": {"a": 1}}, "a body is bytes or text, not dict"),
        ({"form": "a=1"}, "fields by name"),
        ({"files": {"f": "/nowhere"}}, "cannot read"),
    ],
)
def test_bodies_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Request(URL, **options)
    with pytest.raises(UsageError, match=said):
        Request(URL).replace(**options)


def test_text_is_sent_as_utf_8() -> None:
    request = Request(URL, body="é\ud800", method="put")
    assert (request.body, request.method) == ("é�".encode(), "PUT")
    assert Request(URL, body=bytearray(b"a")).body == b"a"  # type: ignore[arg-type]


# The signature


def test_every_keyword_has_its_type() -> None:
    parameters = inspect.signature(Request.__init__).parameters
    keywords = {n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert keywords == RequestOptions.__annotations__.keys()
    assert Changes.__annotations__.keys() == keywords | {"callback", "trail", "into"}
    stored = (keywords - {"json", "form", "files"}) | {"trail", "into"}
    assert set(Options._fields) == stored


def test_what_was_not_given_is_the_default() -> None:
    assert Request(URL).options == DEFAULTS
    assert Request.of(URL, None).options is DEFAULTS
    for name, value in zip(Options._fields, DEFAULTS, strict=True):
        assert getattr(Request(URL), name) == value
    with pytest.raises(AttributeError):
        Request(URL).method = "POST"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        _ = Request(URL).dont_filter  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="dont_filter"):
        Request(URL, dont_filter=True)  # type: ignore[call-arg]


def test_values_cannot_be_changed_from_outside() -> None:
    headers, meta = {"A": "b"}, {"n": 1}
    request = Request(URL, headers=headers, meta=meta)
    headers["A"], meta["n"] = "c", 2
    assert (request.headers, request.meta) == ({"A": "b"}, {"n": 1})
    with pytest.raises(TypeError):
        request.meta["n"] = 3  # type: ignore[index]


# Copies


def test_replace_takes_what_the_constructor_takes() -> None:
    request = Request(URL, SHOP.parse, headers={"A": "b"}, meta={"n": 1}, session="s", priority=3)
    copy = request.replace(
        "HTTP://other/%7e", callback=SHOP.other, errback=SHOP.parse, meta={"n": 2}, accept=[404],
        secret=["X-Key"], headers={"C": "d"}, cookies={"e": "f"}, kwargs={"g": 1}, unique=False,
    )  # fmt: skip
    assert copy == Request(
        "http://other/%7e", "other", errback="parse", meta={"n": 2}, accept={404},
        secret={"x-key"}, headers={"C": "d"}, cookies={"e": "f"}, kwargs={"g": 1}, unique=False,
        session="s", priority=3,
    )  # fmt: skip
    assert request.replace() == request
    assert request.replace(callback=None, session=None, meta=None) == Request(
        URL, headers={"A": "b"}, priority=3
    )
    assert request.replace(accept="*").accept == {"*"}
    with pytest.raises(TypeError):
        copy.meta["n"] = 3  # type: ignore[index]
    with pytest.raises(TypeError, match="dont_filter"):
        request.replace(dont_filter=True)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="stored by method name"):
        request.replace(callback=lambda response: None)


def test_a_replaced_body_brings_its_type_and_method() -> None:
    get = Request(URL, headers={"Content-Type": "text/odd", "A": "b"})
    post = get.replace(json={"n": 1})
    assert post == Request(
        URL, json={"n": 1}, headers={"A": "b", "Content-Type": "application/json"}
    )
    assert post.replace(form={"n": 1}).headers["Content-Type"] == URLENCODED
    assert post.replace(json=2, method="PUT").method == "PUT"
    assert Request(URL, json=1, method="PUT").replace(json=2).method == "PUT"
    assert post.replace(body=b"{}").headers == post.headers
    assert post.replace(body=None).body == b""
    assert post.replace(json=None) == post
    assert get.replace(json=1, headers={"X": "y"}).headers == {
        "X": "y",
        "Content-Type": "application/json",
    }


def test_a_replaced_method_is_repeatable_by_its_own_default() -> None:
    get = Request(URL)
    assert not get.replace(method="post").repeatable
    assert get.replace(method="HEAD").repeatable
    assert not get.replace(json=1).repeatable
    assert get.replace(method="POST", repeatable=True).repeatable
    assert Request(URL, json=1).replace(method="GET").repeatable
    assert Request(URL, json=1, repeatable=True).replace(method="PUT").repeatable
    assert not get.replace(repeatable=False).repeatable
    assert get.replace(repeatable=False).replace(repeatable=None).repeatable
    assert get.replace(method=None).method == "GET"


def test_a_replaced_url() -> None:
    request = Request(URL, headers={"A": "b"}).replace(trail=((URL, 1),))
    assert request.history == (URL,)
    assert request.replace(unique=False).history == (URL,)
    assert request.replace("http://h/y").history == ()
    secret = request.replace("http://u:p@h/y")
    assert secret.url == "http://h/y"
    assert secret.headers == {"A": "b", "Authorization": "Basic dTpw"}
    assert request.replace("http://[").url == "http://["


def test_where_a_file_goes_is_kept_with_it() -> None:
    request = Request(URL).replace(into=("/tmp/x", 10))
    assert Request.load(request.dump()).into == ("/tmp/x", 10)
    assert request.replace("http://h/y", trail=()).into == ("/tmp/x", 10)


def test_a_copy_has_its_own_fingerprint() -> None:
    request = Request(URL)
    assert request.fingerprint != request.replace("http://h/y").fingerprint
    assert request.fingerprint == request.replace(meta={"a": 1}).fingerprint


# Storage

TEXT = st.text(max_size=8)
VALUES = st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT, max_size=2)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "method": st.sampled_from(["GET", "POST", "PUT"]),
            "headers": st.dictionaries(TEXT, TEXT, max_size=2),
            "cookies": st.dictionaries(TEXT, TEXT, max_size=2),
            "body": st.binary(max_size=20) | TEXT,
            "priority": st.integers(-9, 9),
            "unique": st.booleans(),
            "accept": st.just("*") | st.sets(st.integers(100, 599), max_size=3),
            "repeatable": st.none() | st.booleans(),
            "session": st.none() | TEXT,
            "meta": st.dictionaries(TEXT, VALUES, max_size=2),
            "kwargs": st.dictionaries(TEXT, VALUES, max_size=2),
            "timeout": st.none() | st.floats(0.1, 100),
            "secret": st.sets(TEXT, max_size=2),
        },
    )
)
def test_every_request_survives_storage(options: dict[str, Any]) -> None:
    request = Request(URL, "parse", **options)
    again = Request.load(request.dump())
    assert again == request
    assert again.fingerprint == request.fingerprint
    assert again.replace() == Request(URL).replace(callback="parse", **options)


@given(st.text(), st.none() | st.text())
def test_a_plain_request_is_stored_as_any_other(url: str, callback: str | None) -> None:
    """The short way of `dump` writes what the long one does."""
    plain = Request.of(url, callback)
    long = Request.of(url, callback, Options(*DEFAULTS))
    assert long.options is not DEFAULTS
    assert (plain.plain, long.plain) == (True, False)
    assert plain.dump() == long.dump()
    assert Request.load(plain.dump()) == plain


def test_annotations_can_be_read() -> None:
    assert get_type_hints(Options)["priority"] is int
