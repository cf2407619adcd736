"""Which values of a configuration and of requests are secrets, and which origins may get them."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from scraper.config import Config
from scraper.credentials import OfPage, Owners, apart, of_arguments, of_config, of_request
from scraper.errors import ConfigError
from scraper.http import Request, Response


def test_of_a_configuration() -> None:
    config = Config.model_validate({
        "http": {
            "proxy": "http://user:p%2Fw@proxy:3128",
            "headers": {"Authorization": "Bearer abc123", "Accept-Language": "de"},
        },
        "frontier": {"url": "kv://:redispw@h/0"},
        "pipelines": [
            {"use": "x:Y", "dsn": "mysql://u:sqlpw@h/db", "storage": {"secret": "s3cret", "n": 1}},
            {"use": "sqlite", "path": "a.sqlite", "key": "upc"},
        ],
    })
    found = of_config(config)
    assert {"abc123", "p/w", "p%2Fw", "redispw", "sqlpw", "s3cret"} <= found
    assert not {"de", "upc", "a.sqlite"} & found


def test_of_requests_and_answers() -> None:
    request = Request(
        "https://ann:urlpw@h/?token=querytoken&page=1",
        headers={"X-Own": "marked", "X-Plain": "plain", "X-Auth-Token": "sounding"},
        secret=["x-own"],
        cookies={"sid": "cookievalue"},
        proxy="http://u:proxypw@h:1",
        form={"user": "ann", "password": "formpw"},
        meta={"api_key": "metakey", "page": "meta"},
    )
    found = of_request(request)
    assert {"urlpw", "querytoken", "marked", "sounding", "cookievalue", "proxypw"} <= found
    assert {"formpw", "metakey"} <= found
    assert not {"plain", "ann", "meta", "1"} & found
    response = Response("https://h/", 200, [("Set-Cookie", "a=setvalue; Path=/")], b"", request)
    page = OfPage(request)
    assert page() == found
    page.answer = response.headers
    assert page() == found | {"setvalue"}
    assert "jsonpw" in of_request(Request("https://h/", json={"a": [{"password": "jsonpw"}]}))


def test_of_arguments() -> None:
    given = {"key": SecretStr("hidden"), "password": "plain", "base": "http://u:pw@h", "n": 3}
    assert {"hidden", "plain", "pw"} <= of_arguments(given)


@pytest.mark.parametrize(
    ("named", "domains", "starts", "origin", "expected"),
    [
        ((), (), ("https://a.example/x",), "https://a.example", True),
        ((), (), ("https://a.example/x",), "http://a.example", False),
        ((), (), ("https://a.example/x",), "https://a.example:8443", False),
        ((), (), ("https://a.example/x",), "https://sub.a.example", False),
        ((), (), ("http://a.example/x",), "http://a.example", True),
        ((), ("a.example",), (), "https://sub.a.example", True),
        ((), ("a.example",), (), "http://sub.a.example", False),
        ((), ("a.example:8443",), (), "https://a.example:8443", True),
        ((), ("a.example",), (), "https://a.example.evil.example", False),
        (("b.example",), ("a.example",), ("https://a.example/",), "https://a.example", False),
        (("b.example",), ("a.example",), ("https://a.example/",), "https://b.example", True),
        (("http://127.0.0.1:8000",), (), (), "http://127.0.0.1:8000", True),
        (("[::1]",), (), (), "https://[::1]:8443", True),
        ((), (), (), "https://a.example", False),
    ],
)
def test_owners(
    named: tuple[str, ...],
    domains: tuple[str, ...],
    starts: tuple[str, ...],
    origin: str,
    expected: bool,
) -> None:
    assert Owners(named, domains, starts)(origin) is expected


@pytest.mark.parametrize("entry", ["a b", "ftp://h", "http://", "h/path"])
def test_what_names_no_owner(entry: str) -> None:
    with pytest.raises(ConfigError, match="trusted_hosts"):
        Owners([entry])


def test_headers_apart() -> None:
    given = {"Accept-Language": "de", "authorization": "x", "Cookie": "a=1", "X-Api-Key": "k"}
    plain, credentials = apart(given)
    assert plain == {"Accept-Language": "de"}
    assert plain | credentials == given
