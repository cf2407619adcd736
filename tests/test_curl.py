"""curl commands: quoting, options, and what must not happen."""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.errors import UsageError
from scraper.request import Request
from scraper.shellwords import words_of

URLENCODED = "application/x-www-form-urlencoded"


def curl(arguments: str, **overrides: Any) -> Request:
    return Request.from_curl(f"curl {arguments}", **overrides)


# What browsers copy

CHROME = r"""curl 'https://shop.example/api/items?page=2&q=%27' \
  -H 'accept: application/json, text/plain, */*' \
  -H 'accept-language: en-US,en;q=0.9' \
  -H 'authorization: Bearer abc.def' \
  -H 'content-type: application/json' \
  -b 'sid=1234; theme=dark=1' \
  -H 'if-none-match: W/"1"' \
  -H 'origin: https://shop.example' \
  -H 'sec-ch-ua: "Chromium";v="130"' \
  -H 'user-agent: Mozilla/5.0 (X11; Linux x86_64)' \
  --data-raw $'{"name":"it\'s","note":"a\\nb\u0021","e":"\xe9"}' \
  --compressed"""

CHROME_WINDOWS = (
    'curl ^"https://shop.example/api?a=1^&b=^%^41^" ^\r\n'
    '  -H ^"accept: */*^" ^\r\n'
    '  -H ^"sec-ch-ua: ^\\^"Chromium^\\^";v=^\\^"130^\\^"^" ^\r\n'
    '  --data-raw ^"^{^\\^"a^\\^":^\\^"x^\\^\\y^\\^"^}^\n\nsecond^"'
)

FIREFOX = (
    "curl 'https://shop.example/login' --compressed -X POST -H 'User-Agent: Mozilla/5.0' "
    "-H 'Accept-Encoding: gzip, deflate, br, zstd' -H 'Content-Type: "
    "application/x-www-form-urlencoded' -H 'Cookie: a=b; c=d' -H 'Connection: keep-alive' "
    "-H 'Content-Length: 9' -H 'Host: shop.example' --data-raw 'user=ann&word=%21'"
)


def test_chrome() -> None:
    request = Request.from_curl(CHROME)
    assert request.url == "https://shop.example/api/items?page=2&q=%27"
    assert request.method == "POST"
    assert request.headers == {
        "accept": "application/json, text/plain, */*",
        "accept-language": "en-US,en;q=0.9",
        "authorization": "Bearer abc.def",
        "content-type": "application/json",
        "origin": "https://shop.example",
        "sec-ch-ua": '"Chromium";v="130"',
        "user-agent": "Mozilla/5.0 (X11; Linux x86_64)",
    }
    assert request.cookies == {"sid": "1234", "theme": "dark=1"}
    assert request.body == '{"name":"it\'s","note":"a\\nb!","e":"é"}'.encode()
    assert request.secret == {"authorization"}
    assert not request.repeatable
    assert Request.load(request.dump()) == request


def test_chrome_on_windows() -> None:
    request = Request.from_curl(CHROME_WINDOWS)
    assert request.url == "https://shop.example/api?a=1&b=%41"
    assert request.headers["sec-ch-ua"] == '"Chromium";v="130"'
    assert request.body == b'{"a":"x\\y"}\nsecond'


def test_plain_quotes_on_windows() -> None:
    request = Request.from_curl('curl "https://h/a?b=1&c=2" ^\n -H "A: 100%" ^\n --compressed')
    assert request.url == "https://h/a?b=1&c=2"
    assert request.headers == {"A": "100%"}
    request = Request.from_curl('curl.exe "https://h/" -H "A: \\"b\\""')
    assert request.headers == {"A": '"b"'}


def test_firefox() -> None:
    request = Request.from_curl(FIREFOX)
    assert request.method == "POST"
    assert request.headers == {"User-Agent": "Mozilla/5.0", "Content-Type": URLENCODED}
    assert request.cookies == {"a": "b", "c": "d"}
    assert request.body == b"user=ann&word=%21"


def test_a_multipart_body_that_was_copied_raw() -> None:
    request = curl(
        r"""https://h/ -H 'content-type: multipart/form-data; boundary=--B' \
        --data-raw $'----B\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n----B--\r\n'"""
    )
    assert request.body.startswith(b"----B\r\nContent-Disposition")
    assert request.headers["content-type"].endswith("boundary=--B")


# Options


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("h/x", Request("http://h/x")),
        ("--url http://h/", Request("http://h/")),
        ("-- http://h/", Request("http://h/")),
        ("http://u:p@h/", Request("http://h/", headers={"Authorization": "Basic dTpw"})),
        ("-sSLk --compressed -g http://h/ -o out -m5", Request("http://h/", timeout=5)),
        ("-XDELETE http://h/", Request("http://h/", method="DELETE")),
        ("-X put -d a http://h/", Request("http://h/", method="PUT", body=b"a",
                                          headers={"Content-Type": URLENCODED})),
        ("-I http://h/", Request("http://h/", method="HEAD")),
        ("-A me -e http://r/;auto http://h/",
         Request("http://h/", headers={"User-Agent": "me", "Referer": "http://r/"})),
        ("-x p:1 http://h/", Request("http://h/", proxy="http://p:1")),
        ("--proxy socks5://p:1 http://h/", Request("http://h/", proxy="socks5://p:1")),
        ("-r 0-99 http://h/", Request("http://h/", headers={"Range": "bytes=0-99"})),
        ("-H 'A: 1' -H 'a: 2' -H 'B;' -H 'C:' -H D http://h/",
         Request("http://h/", headers={"a": "2", "B": ""})),
        ("-H 'A: b: c' http://h/", Request("http://h/", headers={"A": "b: c"})),
        ("-H ':authority: h' -H 'Cookie: a=b' -b c=d http://h/",
         Request("http://h/", cookies={"a": "b", "c": "d"})),
        ("-d a=1 --data-raw @b -d '' http://h/",
         Request("http://h/", method="POST", body=b"a=1&@b&",
                 headers={"Content-Type": URLENCODED})),
        ("--data-urlencode 'a=b c&é' --data-urlencode '=x y' --data-urlencode z http://h/",
         Request("http://h/", method="POST", body=b"a=b%20c%26%C3%A9&x%20y&z",
                 headers={"Content-Type": URLENCODED})),
        ("-G -d a=1 -d b=2 'http://h/?c=3#f'", Request("http://h/?c=3&a=1&b=2#f")),
        ("-G --data-urlencode 'q=a b' http://h/", Request("http://h/?q=a%20b")),
        ("""--json '{"a":' --json 1} http://h/""",
         Request("http://h/", json={"a": 1},
                 headers={"Accept": "application/json", "Content-Type": "application/json"})),
        ("-d x -H 'Content-Type: text/x' http://h/",
         Request("http://h/", method="POST", body=b"x", headers={"Content-Type": "text/x"})),
        ("-d x -H 'Content-Type:' http://h/", Request("http://h/", method="POST", body=b"x")),
    ],
)  # fmt: skip
def test_options(arguments: str, expected: Request) -> None:
    assert curl(arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "header", "value"),
    [
        ("-u ann:word", "Authorization", "Basic YW5uOndvcmQ="),
        ("-u ann", "Authorization", "Basic YW5uOg=="),
        ("--oauth2-bearer t", "Authorization", "Bearer t"),
        ("-H 'X-Api-Key: k'", "X-Api-Key", "k"),
        ("-H 'x-csrf-token: t'", "x-csrf-token", "t"),
    ],
)
def test_credentials_stay_at_their_origin(arguments: str, header: str, value: str) -> None:
    request = curl(f"{arguments} http://h/")
    assert request.headers == {header: value}
    assert request.secret == {header.lower()}


def test_form_parts() -> None:
    request = curl(
        """-F a=1 -F 'b=x;type=text/html' -F 'c="q;\\"t"' --form-string 'd=@y;type=z' http://h/"""
    )
    assert request.method == "POST"
    assert request.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert b'name="a"\r\n\r\n1\r\n' in request.body
    assert b'name="c"\r\n\r\nq;"t\r\n' in request.body
    assert b'name="d"\r\n\r\n@y;type=z\r\n' in request.body
    assert b"Content-Type: text/html\r\n\r\nx\r\n" in request.body


def test_overrides() -> None:
    request = Request.from_curl(FIREFOX, "parse_item", json={"a": 1}, priority=2, unique=False)
    assert (request.callback, request.priority, request.unique) == ("parse_item", 2, False)
    assert request.body == b'{"a":1}'
    assert request.headers["Content-Type"] == "application/json"
    assert Request.from_curl(FIREFOX, headers={"A": "b"}).headers == {"A": "b"}
    assert Request.from_curl(FIREFOX, method="PUT").method == "PUT"
    assert Request.from_curl("curl http://h/ -X POST", form={"a": 1}).body == b"a=1"


# What is refused


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("wget http://h/", "not a curl command"),
        ("", "not a curl command"),
        ("Invoke-WebRequest -Uri http://h/", r"Copy as cURL \(bash\)"),
        ("curl", "no URL"),
        ("curl http://a/ http://b/", "has 2 URLs: http://a/, http://b/"),
        ("curl --frobnicate http://h/", "option --frobnicate is not understood"),
        ("curl -sWx http://h/", "option -W is not understood"),
        ("curl --digest http://h/", "option --digest"),
        ("curl -T f http://h/", "option -T"),
        ("curl -K f http://h/", "option -K"),
        ("curl http://h/ -X", "-X wants a value"),
        ("curl http://h/ --data", "--data wants a value"),
        ("curl http://h/ -m soon", "no number of seconds"),
        ("curl http://h/ -d @f", "reads a file"),
        ("curl http://h/ --data-binary @f", "reads a file"),
        ("curl http://h/ --data-urlencode @f", "reads a file"),
        ("curl http://h/ --data-urlencode a@f", "reads a file"),
        ("curl http://h/ --json @f", "reads a file"),
        ("curl http://h/ -F a=@f", "reads a file"),
        ("curl http://h/ -F 'a=<f'", "reads a file"),
        ("curl http://h/ -F a", "has no ="),
        ("curl http://h/ -b jar.txt", "reads a file"),
        ("curl http://h/ -H @f", "reads a file"),
        ("curl http://h/ -d a -F b=c", "only one of"),
        ("curl http://h/ -H 'a: b", "ends inside the quotation"),
        ('curl http://h/ -H "a: b', "ends inside the quotation"),
        (r"curl http://h/ -d $'it\'s", "ends inside the quotation"),
        ('curl ^"http://h/', "ends inside the quotation"),
        ('curl http://h/ -H "Authorization: Bearer $TOKEN"', r"'\$TOKEN', which a shell"),
        ("curl http://h/${x}", "which a shell"),
        ("curl http://h/$(id)", "which a shell"),
        ("curl `id`", "which a shell"),
    ],
)
def test_what_is_refused(command: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Request.from_curl(command)


def test_unknown_options_may_be_passed_over() -> None:
    request = Request.from_curl("curl --frobnicate -W --digest http://h/ -d a", ignore=True)
    assert request.url == "http://h/"
    assert request.body == b"a"


def test_what_a_shell_would_replace_may_be_meant() -> None:
    assert curl("'http://h/$x' -d 'a=$b`c`'").body == b"a=$b`c`"
    assert curl(r'http://h/ -d "a=\$b"').body == b"a=$b"
    assert curl("http://h/ -d 'a'$ -d cost$5").body == b"a$&cost$5"


# Words


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("a  b\tc\nd", ["a", "b", "c", "d"]),
        ("a'b c'\"d e\"f", ["ab cd ef"]),
        ("'' \"\" x", ["", "", "x"]),
        (r"a\ b \' \" \\", ["a b", "'", '"', "\\"]),
        ('"a\\"b\\\\c\\d\\\ne"', ['a"b\\c\\de']),
        (r"$'a\tb\x41\u00e9\U0001F600\101\'\q\\'", ["a\tbAé😀A'\\q\\"]),
        ('$"a"', ["a"]),
        ("a \\\n  b", ["a", "b"]),
        ("a \\\r\n  b", ["a", "b"]),
        ("a\\\nb", ["ab"]),
        ("a | b", ["a"]),
        ("a |jq .", ["a"]),
        ("a && b", ["a"]),
        ("a; b", ["a"]),
        ("a;", ["a"]),
        ("a;b c", ["a;b", "c"]),
        (r"$'\ud83d\ude00 \xc3\xa9\303\251 \xe9\0'", ["😀 éé é\0"]),
        ("a > out", ["a"]),
        ("a 2>/dev/null", ["a"]),
        ("a 2>&1", ["a"]),
        ("a?x=1&y=2", ["a?x=1&y=2"]),
        ("'| b'", ["| b"]),
        ("", []),
    ],
)
def test_words(command: str, expected: list[str]) -> None:
    assert words_of(command) == expected


@given(
    st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=4)
)
def test_quoted_words_come_back(words: list[str]) -> None:
    command = shlex.join(["curl", *words])
    if '^"' not in command and "^\n" not in command and "^\r" not in command:
        assert words_of(command) == ["curl", *words]


@given(st.text() | st.lists(st.sampled_from(CHROME.split() + FIREFOX.split())).map(" ".join))
def test_anything_is_read_or_refused(command: str) -> None:
    with suppress(UsageError):
        request = Request.from_curl(f"curl {command}", ignore=True)
        assert Request.load(request.dump()) == request
