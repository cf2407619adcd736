"""Redaction: secrets by their looks, their names and by value; everything else as it was."""

from __future__ import annotations

import json
from base64 import b64encode
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper import urls
from scraper.redaction import (
    BY_LOOKS,
    MASK,
    Redactor,
    held,
    holding,
    is_plainly_secret,
    is_secret_name,
    protect,
    redacted,
    redacted_json,
)

SECRETS = st.text(
    alphabet="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~", min_size=8
).map(lambda text: f"zq{text}9")
NAMES = st.sampled_from([
    "token", "access_token", "accessToken", "X-Amz-Signature", "AWSAccessKeyId", "api_key",
    "apikey", "client_secret", "password", "passwd", "PWD", "user[password]", "PHPSESSID",
    "jsessionid", "session_id", "oauth_signature", "pass%77ord", "%2574oken", "x-csrf-token",
    "refresh_token",
])  # fmt: skip
AMBIGUOUS = st.sampled_from(["key", "sig", "auth", "session", "sid", "hmac", "otp", "api.key"])
HEADERS = st.sampled_from([
    "Authorization", "authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-Api-Key",
    "X-Auth-Token", "x-session", "X-Secret",
])  # fmt: skip
AROUND = st.sampled_from([
    "{}", "GET {} failed", "<{}>", "('{}',)", "at {}, then", '{{"url": "{}"}}', "RuntimeError: {}",
    "a\n{}\nb",
])  # fmt: skip


@given(NAMES | AMBIGUOUS, SECRETS, AROUND, st.sampled_from("?&;#"))
def test_parameters_of_urls(name: str, secret: str, around: str, mark: str) -> None:
    url = f"https://host.example/a/b?x=1{mark}{name}={secret}&page=2"
    for text in (around.format(url), around.format(f"/next?to={quote(url, safe='')}")):
        told = redacted(text)
        assert secret not in told
        assert "host.example" in told
        assert "page" in told
        assert redacted(told) == told
    assert secret not in urls.redact(url)
    assert secret not in urls.redact(f"https://h/?to={quote(quote(url, safe=''), safe='')}")


@given(SECRETS, SECRETS, AROUND, st.sampled_from(["https", "postgresql+psycopg", "redis", "s3"]))
def test_userinfo_of_any_address(user: str, password: str, around: str, scheme: str) -> None:
    for userinfo in (f"{user}:{password}", f":{password}", f"u:{password}/x@{user}", password):
        address = f"{scheme}://{userinfo}@host.example:5432/db"
        valid = f"{scheme}://{quote(userinfo, safe=':')}@host.example:5432/db"
        for text in (around.format(address), around.format(quote(valid, safe=""))):
            told = redacted(text)
            assert password not in told
            assert "host.example" in told
            assert redacted(told) == told


@given(HEADERS, SECRETS)
def test_headers_in_every_rendering(name: str, secret: str) -> None:
    value = f"Some {secret}"
    for text in (
        f"{name}: {value}",
        f"> {name}: {value}\r\n> Host: kept",
        f"{name}={secret}",
        str({name: value, "Host": "kept"}),
        str([(name, value), ("Host", "kept")]),
        str([(name.encode(), value.encode())]),
        json.dumps({name: [value], "Host": "kept"}),
        json.dumps(json.dumps({name: value, "Host": "kept"})),
    ):
        told = redacted(text)
        assert secret not in told
        assert ("kept" in told) == ("kept" in text)
        assert redacted(told) == told


@given(NAMES.filter(lambda name: not set(name) & set("%[")), SECRETS, st.integers(0, 3))
def test_members_fields_and_settings(name: str, secret: str, deep: int) -> None:
    text = json.dumps({"a": 1, name: secret, "b": "kept"})
    for _ in range(deep):
        text = json.dumps({"body": text})
    told = redacted(text)
    assert secret not in told
    assert "kept" in told
    for form in (f"{name}={secret}&a=kept", f"a=kept;{name}={secret}", f'{name} = "{secret}" kept'):
        assert secret not in redacted(form)
        assert "kept" in redacted(form)


@given(st.text(min_size=6, max_size=40), st.text(max_size=30), st.text(max_size=30))
def test_known_values_vanish_in_every_spelling(value: str, before: str, after: str) -> None:
    redactor = Redactor([value])
    plain = value.encode("utf-8", "replace")
    for spelt in (
        value,
        quote(plain, safe=""),
        quote_plus(plain),
        json.dumps(value)[1:-1],
        repr(value)[1:-1],
    ):
        told = redactor(f"{before}{spelt}{after}")
        if value not in before + MASK + after:
            assert spelt not in told or spelt in f"{before}{MASK}{after}"


@given(st.text() | st.text(alphabet="?&;#=%:/@\"'\\ tokenkeyCookie:b{}[]()\n3A2F25"))
def test_it_takes_any_text_and_is_done_at_once(text: str) -> None:
    told = BY_LOOKS(text)
    assert BY_LOOKS(BY_LOOKS(told)) == BY_LOOKS(told)
    assert isinstance(urls.redact(text), str)


@pytest.mark.parametrize(
    "text",
    [
        "http_404: https://host/a?page=2#top in parse",
        "KeyError: 'price' (spiders/books.py:12)",
        "https://medium.example/@user and https://host:8080/@user/x",
        "argument password: Field required",
        'config.toml:3: key = "upc": the items have no upc',
        "Basic authentication is wanted",
        "author=austen keyword=x monkey=1 design=2 pageToken=abc",
        "unexpected token: line 3",
        "12 pages, 3 items: a@b.example",
        "https://host/?author=austen&keyword=scraping&signed=no&assign=1",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize("times", [200_000])
@pytest.mark.parametrize(
    "piece", ["://a:b", "token", "?a", '"token":"', "%3A%2F%2F", "a=", '\\"', "x-a", "Cookie:("]
)
def test_the_work_is_linear_in_the_text(piece: str, times: int) -> None:
    """Ended at all is the assertion: what is quadratic takes hours of a megabyte."""
    assert BY_LOOKS(piece * times) is not None


def test_basic_credentials_are_told_from_prose() -> None:
    pair = b64encode(b"ann:hunter22").decode()
    assert redacted(f"sent Basic {pair}") == f"sent Basic {MASK}"
    assert redacted("Basic knowledge of HTTP") == "Basic knowledge of HTTP"
    assert redacted("Bearer abc.def") == f"Bearer {MASK}"


def test_names() -> None:
    for name in ("sid", "key", "X-Key", "sessionKey"):
        assert is_secret_name(name)
    for name in ("keyword", "author", "monkey", "design", "config", "passage", "nextPageToken"):
        assert not is_secret_name(name)
    assert is_plainly_secret("page_token_secret")
    assert not is_plainly_secret("key")


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://h/a?sid=123&key=genre", "https://h/a?sid=123&key=genre"),
        ("https://h/a?sid=0123456789abcdef", "https://h/a?sid=***"),
        ("https://h/a?token=1#password=2", "https://h/a?token=***#password=***"),
        ("https://u:p@h/a?q=1", "https://***@h/a?q=1"),
        ("https://h/a", "https://h/a"),
    ],
)
def test_what_outputs_say_of_pages(url: str, kept: str) -> None:
    assert urls.publishable(url) == kept


def test_protected_and_held_values() -> None:
    protect(["protected-value"])
    with holding(lambda: ["held-value"]):
        assert held() == {"held-value"}
        assert redacted("protected-value, held-value") == "***, ***"
    assert redacted("protected-value, held-value") == "***, held-value"
    assert redacted_json({"token": "x", "n": 1, "a": ["protected-value"]}) == {
        "token": "***",
        "n": 1,
        "a": ["***"],
    }
