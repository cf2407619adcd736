"""scrape fetch, against real servers."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.servers.web import SILENT, Reply, Seen, Web, html, redirect, router, text

PNG = b"\x89PNG\r\n\x1a\n\x00\x00"
MARKUP = "<!doctype html><meta charset=koi8-r><p>да</p>".encode("koi8-r")


def echo(seen: Seen) -> Reply:
    told = {"method": seen.method, "headers": dict(seen.headers), "body": seen.body.decode()}
    return Reply(json.dumps(told).encode(), type="application/json")


@pytest.fixture
def web() -> Iterator[Web]:
    site = router({
        "/robots.txt": text("User-agent: *\nDisallow: /no\n"),
        "/": html("<h1>hello"),
        "/echo": echo,
        "/hop": redirect("/middle", status=301),
        "/middle": redirect("/"),
        "/koi8": Reply(MARKUP, type="text/html"),
        "/png": Reply(PNG, type="image/png"),
        "/gzip": Reply(gzip.compress(b"x" * 10_000), headers=[("Content-Encoding", "gzip")]),
        "/evil": Reply(b"<p>\x1b]0;owned\x07\x9b2J", 200, [("X-Evil", "a\x9bb")]),
        "/gone": text("gone", 410),
        "/empty": Reply(b"", 204),
    })
    with Web(site) as web:
        yield web


@pytest.fixture
def fast(scrape: CommandLine) -> CommandLine:
    scrape.write("config.toml", "[politeness]\ndelay = 0\n")
    return scrape


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scraper.cli.fetch.on_terminal", lambda: True)


def test_the_body_into_a_pipe_and_the_rest_beside_it(fast: CommandLine, web: Web) -> None:
    said = fast("fetch", f"{web.url}/hop")
    assert said.code == 0
    assert said.out == "<!doctype html><title>t</title><h1>hello"
    lines = said.err.splitlines()
    assert lines[0] == f"200 OK  {web.url}/"
    assert lines[1].split() == ["redirected", "301", "from", f"{web.url}/hop"]
    assert lines[2].split() == ["302", "from", f"{web.url}/middle"]
    assert "encoding    utf-8 (Content-Type header)" in said.err
    assert "size        40 bytes\n" in said.err
    assert "robots.txt" in next(line for line in lines if line.startswith("  time"))
    assert "headers     Content-Type: text/html; charset=utf-8" in said.err
    assert max(map(len, lines)) <= 80


def test_a_page_on_a_terminal_is_described_only(
    fast: CommandLine, web: Web, terminal: None
) -> None:
    said = fast("fetch", f"{web.url}/")
    assert said.out == ""
    assert said.err.endswith("--body shows the body, -o FILE saves it.\n")
    assert fast("fetch", f"{web.url}/", "--body").out.endswith("<h1>hello\n")
    assert fast("fetch", f"{web.url}/", "-o", "-").out.endswith("<h1>hello\n")
    said = fast("fetch", f"{web.url}/", "-q")
    assert (said.out, said.err) == ("", "")


def test_what_a_terminal_would_obey_is_escaped(fast: CommandLine, web: Web, terminal: None) -> None:
    said = fast("fetch", f"{web.url}/evil", "--body", "--headers")
    assert "\\x1b]0;owned\\x07" in said.out
    assert "X-Evil: a\\x9bb" in said.out
    for stream in (said.out, said.err):
        assert not set(stream) & {"\x1b", "\x07", "\x9b"}
    said = fast("fetch", f"{web.url}/evil", "--body")
    assert "X-Evil: a\\x9bb" in said.err


def test_a_binary_body_stays_off_the_terminal(fast: CommandLine, web: Web, terminal: None) -> None:
    said = fast("fetch", f"{web.url}/png", "--body")
    assert said.code == 2
    assert said.out == ""
    assert "the body is binary (image/png, 10 bytes)" in said.err
    assert "-o FILE saves it" in said.err
    assert fast("fetch", f"{web.url}/png", "-o", "a.png").code == 0
    assert (fast.root / "a.png").read_bytes() == PNG


def test_headers_alone(fast: CommandLine, web: Web) -> None:
    said = fast("fetch", f"{web.url}/gone", "--headers", "-q")
    assert said.out.splitlines()[0] == "410 Gone"
    assert "Content-Length: 4" in said.out.splitlines()
    assert "gone" not in said.out
    both = fast("fetch", f"{web.url}/gone", "--headers", "--body", "-q")
    assert both.out == said.out + "gone"


def test_where_the_encoding_comes_from(fast: CommandLine, web: Web) -> None:
    assert (
        "encoding    koi8-r (declared in the page)"
        in fast("fetch", f"{web.url}/koi8", "-o", "x.html").err
    )


def test_size_on_the_wire(fast: CommandLine, web: Web) -> None:
    said = fast("fetch", f"{web.url}/gzip", "-o", "x.txt")
    assert "10,000 bytes, " in said.err
    assert "on the wire (gzip)" in said.err
    assert "Wrote x.txt: 10,000 bytes." in said.err
    assert said.out == ""
    assert (fast.root / "x.txt").read_bytes() == b"x" * 10_000


def test_json(fast: CommandLine, web: Web) -> None:
    said = fast("fetch", f"{web.url}/hop", "--json")
    assert said.err == ""
    told = json.loads(said.out)
    assert told["url"] == f"{web.url}/"
    assert told["status"] == 200
    assert told["history"] == [
        {"url": f"{web.url}/hop", "status": 301},
        {"url": f"{web.url}/middle", "status": 302},
    ]
    assert ["Content-Type", "text/html; charset=utf-8"] in told["headers"]
    assert (told["encoding"], told["encoding_from"]) == ("utf-8", "Content-Type header")
    assert told["size"] == told["size_on_wire"] == 40
    assert told["total_s"] >= told["elapsed_s"] > 0
    assert "body" not in told
    assert json.loads(fast("fetch", f"{web.url}/", "--json", "--body").out)["body"][-5:] == "hello"
    png = json.loads(fast("fetch", f"{web.url}/png", "--json", "--body").out)
    assert png["body_base64"] == "iVBORw0KGgoAAA=="


def test_json_holds_nothing_that_a_terminal_would_obey(fast: CommandLine, web: Web) -> None:
    said = fast("fetch", f"{web.url}/evil", "--json", "--body")
    assert all(c.isprintable() or c == "\n" for c in said.out)
    told = json.loads(said.out)
    assert ["X-Evil", "a\x9bb"] in told["headers"]
    assert told["body"].startswith("<p>\x1b]0;owned\x07")


def test_exit_codes(fast: CommandLine, web: Web) -> None:
    assert fast("fetch", f"{web.url}/gone").code == 0
    assert fast("fetch", f"{web.url}/gone", "--fail").code == 1
    assert fast("fetch", f"{web.url}/empty", "-f").code == 0
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    said = fast("fetch", f"http://127.0.0.1:{port}/")
    assert said.code == 1
    assert "nothing listens at that address (connect_refused" in said.err
    assert said.err.count("\n") == 1


def test_what_robots_txt_forbids(fast: CommandLine, web: Web) -> None:
    said = fast("fetch", f"{web.url}/no")
    assert said.code == 1
    assert f"{web.url}/no: robots.txt forbids it (robots_denied)" in said.err
    assert "-s politeness.robots=false" in said.err
    assert not web.seen("/no")
    assert fast("fetch", f"{web.url}/no", "-s", "politeness.robots=false").code == 0
    assert web.seen("/no")


def test_the_request_as_told(fast: CommandLine, web: Web) -> None:
    def sent(*options: str) -> dict[str, object]:
        said = fast("fetch", f"{web.url}/echo", "-q", *options)
        assert said.code == 0, said.err
        told: dict[str, object] = json.loads(said.out)
        return told

    told = sent("-H", "X-A: 1", "-H", "x-b:2", "-X", "put")
    assert told["method"] == "PUT"
    headers = told["headers"]
    assert isinstance(headers, dict)
    assert (headers["x-a"], headers["x-b"]) == ("1", "2")
    told = sent("-d", "a=1", "-d", "b=2")
    assert (told["method"], told["body"]) == ("POST", "a=1&b=2")
    headers = told["headers"]
    assert isinstance(headers, dict)
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    told = sent("--json-body", '{"a": 1}', "-X", "PATCH")
    assert (told["method"], told["body"]) == ("PATCH", '{"a": 1}')
    headers = told["headers"]
    assert isinstance(headers, dict)
    assert headers["content-type"] == "application/json"
    fast.write("body.txt", "from a file")
    told = sent("-d", "@body.txt", "-H", "Content-Type: text/plain")
    assert told["body"] == "from a file"
    headers = told["headers"]
    assert isinstance(headers, dict)
    assert headers["content-type"] == "text/plain"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["example.com"], "Did you mean https://example.com/?"),
        (["localhost:8000/a"], "Did you mean http://localhost:8000/a?"),
        (["nonsense"], "nonsense is not an http or https URL"),
        (["ftp://a.example/"], "is not an http or https URL"),
        (["http://a.example/", "-H", "no colon"], "-H 'Name: value'"),
        (["http://a.example/", "-H", "A: b\r\nC: d"], "-H 'Name: value'"),
        (["http://a.example/", "-X", "G T"], "not a method"),
        (["http://a.example/", "-d", "@missing"], "-d @missing: No such file"),
        (["http://a.example/", "--json-body", "{"], "--json-body: not JSON"),
        (["http://a.example/", "--json-body", "{}", "-d", "a"], "one body"),
        (["http://a.example/", "-s", "http.timout=1"], "did you mean http.timeout?"),
        (["http://a.example/", "--spider", "books"], "is in no project"),
        (["http://a.example/", "-a", "x"], "-a name=value"),
        (["http://a.example/", "-a", "x=1"], "arguments for no spider: x"),
        ([], "Missing argument 'URL'"),
        (["http://a.example/", "--headrs"], "No such option"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_anything_is_sent(
    scrape: CommandLine, args: list[str], said: str
) -> None:
    result = scrape("fetch", *args)
    assert result.code == 2
    assert said in result.err


def test_with_a_spider(fast: CommandLine, web: Web) -> None:
    fast.write(
        "spiders/site.py",
        """
        from scraper import Request, Spider

        async def stamp(request, call_next):
            if request.url.endswith("/bad"):
                raise LookupError("no stamp")
            return await call_next(request.replace(headers={"X-Stamp": "yes"}))

        class Site(Spider):
            name = "site"
            settings = {"http": {"user_agent": "mine/1"}}
            middleware = (stamp,)
            home: str

            async def setup(self):
                await self.fetch(Request(self.home + "/login", accept="*"))
        """,
    )
    given = ["--spider", "site", "-a", f"home={web.url}", "-q"]
    told = json.loads(fast("fetch", f"{web.url}/echo", *given).out)
    assert told["headers"]["x-stamp"] == "yes"
    assert told["headers"]["user-agent"] == "mine/1"
    assert web.seen("/login")
    said = fast("fetch", f"{web.url}/bad", *given)
    assert said.code == 1
    assert f"{web.url}/bad: LookupError: no stamp" in said.err
    assert "site.py:5)" in said.err
    said = fast("fetch", f"{web.url}/", "--spider", "site")
    assert said.code == 2
    assert "needs the argument home" in said.err


def test_nothing_is_left_behind(fast: CommandLine, web: Web) -> None:
    fast.write("config.toml", '[politeness]\ndelay = 0\n[log]\nfile = "crawl.log"\n')
    before = set(fast.root.rglob("*"))
    assert fast("fetch", f"{web.url}/").code == 0
    assert fast("fetch", f"{web.url}/no").code == 1
    assert set(fast.root.rglob("*")) == before


def process(*args: str, cwd: Path, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", "from scraper.cli import main; main()", *args]
    return subprocess.Popen(line, cwd=cwd, text=True, stdout=stdout, stderr=subprocess.PIPE)


def test_an_interrupt_ends_with_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    with Web(router({"/": SILENT})) as web:
        running = process("fetch", f"{web.url}/", cwd=tmp_path)
        web.wait(lambda web: bool(web.seen("/")))
        running.send_signal(signal.SIGINT)
        out, err = running.communicate()
    assert running.returncode == 130
    assert (out, err) == ("", "")


def test_nobody_reads_the_body(tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    reader, writer = os.pipe()
    os.close(reader)
    running = process("fetch", f"{web.url}/", "-q", cwd=tmp_path, stdout=writer)
    os.close(writer)
    _, err = running.communicate()
    assert running.returncode == 141
    assert err == ""
