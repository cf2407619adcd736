"""scrape shell: scripts in this process, sessions on a terminal of their own."""

from __future__ import annotations

import importlib.util
import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scraper import Response
from scraper.cli.desk import has_browser, saved_page
from tests.cli.conftest import CommandLine
from tests.servers.web import SILENT, Web, html, redirect, router, text

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def web() -> Iterator[Web]:
    site = router({
        "/robots.txt": text("User-agent: *\nDisallow: /no\n"),
        "/": html("<h1>Hello</h1><a href=next>n</a>"),
        "/next": html("<h1>Next</h1>"),
        "/hop": redirect("/next"),
        "/echo": lambda seen: text(f"{seen.method} {seen.body.decode()}"),
        "/slow": SILENT,
    })
    with Web(site) as web:
        yield web


@pytest.fixture
def fast(scrape: CommandLine) -> CommandLine:
    scrape.write("config.toml", "[politeness]\ndelay = 0\n")
    (scrape.root / "spiders").mkdir()
    return scrape


# -c -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "out"),
    [
        ("response.status", "200\n"),
        ("css('h1::text').get()", "Hello\n"),
        ("css('h1::text').getall()", "['Hello']\n"),
        ("css('h2').get()", ""),
        ("xpath('//h1/text()').get()", "Hello\n"),
        ("fetch('next').url.rpartition('/')[2]; css('h1::text').get()", "next\nNext\n"),
        ("fetch(response.follow('next')); response.request is request", None),
        ("fetch('/echo', form={'a': 1}).text", "POST a=1\n"),
        ("(await spider.fetch(response.urljoin('hop'))).url[-4:]", "next\n"),
        ("for n in range(2): print(n)", "0\n1\n"),
        ("x = 1\nif x:\n    print('two lines')", "two lines\n"),
        ("Annotated and Decimal('1.50')", "Decimal('1.50')\n"),
    ],
)
def test_code(fast: CommandLine, web: Web, code: str, out: str | None) -> None:
    said = fast("shell", f"{web.url}/", "-c", code)
    assert said.code == 0, said.err
    if out is not None:
        assert said.out == out
    assert said.err == ""


def test_items_made_at_the_spot(fast: CommandLine, web: Web) -> None:
    code = "class Page(Item):\n    title: Annotated[str, Css('h1')]\n\nprint(extract(Page))"
    said = fast("shell", f"{web.url}/", "-c", code)
    assert (said.out, said.err, said.code) == ("title='Hello'\n", "", 0)


@pytest.mark.parametrize(
    ("code", "last"),
    [
        ("1/0", "ZeroDivisionError: division by zero"),
        ("x =", "SyntaxError: invalid syntax"),
        ("f(", "scrape: -c: the code ends in the middle of a statement"),
        ("css('h1')", 'fetch("https://…") gets one.'),
        ("css('a:::b')", ""),
        ("fetch('nonsense')", "scrape: nonsense is not an http or https URL"),
        ("fetch('./missing.html')", "scrape: missing.html: No such file or directory"),
        ("fetch(Request('http://a.example/'), meta={})", "options are for a URL"),
    ],
)
def test_code_that_fails(fast: CommandLine, code: str, last: str) -> None:
    said = fast("shell", "-c", code)
    assert said.code == 1
    assert said.out == ""
    assert last in said.err.splitlines()[-1]
    assert "scraper/cli" not in said.err


def test_an_exit_code_of_ones_own(fast: CommandLine) -> None:
    assert fast("shell", "-c", "raise SystemExit(7)").code == 7


def test_what_robots_txt_forbids_is_one_line_and_its_hint(fast: CommandLine, web: Web) -> None:
    said = fast("shell", "-c", f"fetch('{web.url}/no')")
    assert said.code == 1
    assert said.err.splitlines() == [
        f"scrape: {web.url}/no: robots.txt forbids it (robots_denied)",
        "        If you may fetch it all the same: -s politeness.robots=false",
    ]
    assert fast("shell", f"{web.url}/no", "-c", "1").code == 1
    assert not web.seen("/no")
    code = "response.status"
    assert fast("shell", f"{web.url}/no", "-s", "politeness.robots=false", "-c", code).out


def test_a_failed_fetch_leaves_the_page_at_hand(fast: CommandLine, web: Web) -> None:
    code = (
        "try:\n    fetch('/no')\nexcept FetchError as e:\n    print(e.reason)\nprint(response.url)"
    )
    said = fast("shell", f"{web.url}/", "-c", code)
    assert said.out == f"robots_denied\n{web.url}/\n"


# A script on standard input -----------------------------------------------------------------


def test_a_script(fast: CommandLine, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"r = fetch('{web.url}/')\nr.status\n\ndef f():\n    return 2\nprint(f())\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(script))
    said = fast("shell")
    assert (said.out, said.err, said.code) == ("2\n", "", 0)
    monkeypatch.setattr(sys, "stdin", io.StringIO("print(1)\nboom\nprint(2)\n"))
    said = fast("shell")
    assert said.code == 1
    assert said.out == "1\n"
    assert said.err.splitlines() == [
        "Traceback (most recent call last):",
        '  File "<stdin>", line 2, in <module>',
        "NameError: name 'boom' is not defined",
    ]


# What lies ready ----------------------------------------------------------------------------


def test_the_projects_classes(fast: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    fast.write("things.py", "from scraper import Item\nclass Thing(Item):\n    n: int = 0\n")
    fast.write(
        "spiders/site.py",
        "from scraper import Item, Request, Spider\nfrom things import Thing\n"
        "class Page(Item):\n    t: str = ''\n\n"
        "class _Private(Item):\n    pass\n\n"
        "class Site(Spider):\n    name = 'site'\n    page: int = 1\n",
    )
    fast.write("spiders/broken.py", "import missing_module\n")
    said = fast("shell", "-c", "print(Page(), Thing(), Site.name, type(spider).__name__)")
    assert said.out == "t='' n=0 site Visitor\n"
    assert "not loaded: spiders/broken.py:1: ModuleNotFoundError" in said.err
    said = fast("shell", "-q", "-c", "_Private")
    assert "NameError" in said.err
    (fast.root / "spiders/broken.py").unlink()
    said = fast("shell", "--spider", "site", "-a", "page=4", "-c", "spider.page")
    assert (said.out, said.err) == ("4\n", "")
    assert fast("shell", "--spider", "site", "-a", "page=x", "-c", "1").code == 2


def test_outside_a_project_a_file_with_a_spider(scrape: CommandLine) -> None:
    scrape.write(
        "one.py",
        "from scraper import Item, Spider\nclass Thing(Item):\n    n: int = 0\n\n"
        "class One(Spider):\n    name = 'one'\n    start_urls = []\n",
    )
    said = scrape("shell", "--spider", "one.py", "-c", "spider, Thing()")
    assert said.out == "(<One>, Thing(n=0))\n"


def test_a_saved_page(scrape: CommandLine, web: Web) -> None:
    path = scrape.write("page.html", "<meta charset=koi8-r><h1>x</h1><a href=a>a</a>")
    path.write_bytes("<meta charset=koi8-r><h1>да</h1><a href=a>a</a>".encode("koi8-r"))
    said = scrape("shell", "page.html", "-c", "css('h1::text').get()")
    assert (said.out, said.err) == ("да\n", "")
    said = scrape("shell", path.as_uri(), "-c", "response.url")
    assert said.out == f"{path.as_uri()}\n"
    line = ["shell", "./page.html", "--url", f"{web.url}/dir/", "-c"]
    assert scrape(*line, "response.links()").out == f"['{web.url}/dir/a']\n"
    assert web.log == []
    assert scrape("shell", "no.html", "-c", "1").code == 2
    said = scrape("shell", "-c", "fetch('page.html').status")
    assert said.out == "200\n"


def test_usage(scrape: CommandLine) -> None:
    said = scrape("shell", "example.com", "-c", "1")
    assert said.code == 2
    assert "Did you mean https://example.com/?" in said.err
    assert scrape("shell", "--spider", "x", "-c", "1").code == 2
    assert "No such option" in scrape("shell", "--kode").err


# Viewing ------------------------------------------------------------------------------------


def test_view_prints_the_path_where_there_is_no_browser(
    fast: CommandLine, web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert not has_browser()
    said = fast("shell", f"{web.url}/", "-c", "view()")
    found = re.search(r"(\S+\.html)$", said.err.strip())
    assert found is not None
    page = Path(found[1]).read_text("utf-8-sig")
    base = f'<base href="{web.url}/">'
    assert page == f"<!doctype html>{base}<title>t</title><h1>Hello</h1><a href=next>n</a>"


def test_view_opens_a_browser(
    fast: CommandLine, web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened: list[str] = []

    def opens(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setenv("BROWSER", "any")
    monkeypatch.setattr("webbrowser.open", opens)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert "Opened /" in fast("shell", f"{web.url}/", "-c", "view(response)").err
    assert len(opened) == 1
    assert opened[0].startswith("file:///")


@pytest.mark.parametrize(
    ("kind", "body", "suffix", "kept"),
    [
        ("text/html", "<html><head lang=x><p>", ".html", '<head lang=x><base href="http://a/">'),
        ("", "<p>bare", ".html", '<base href="http://a/"><p>bare'),
        ("text/html", "<head><base href='/x/'>", ".html", "<head><base href='/x/'>"),
        ("application/json", "{}", ".json", "{}"),
        ("text/plain", "MZ", ".txt", "MZ"),
        ("application/x-desktop", "[Desktop Entry]", ".bin", "[Desktop Entry]"),
        ("application/x-sh", "#!/bin/sh", ".bin", "#!/bin/sh"),
    ],
)
def test_what_is_given_to_the_browser(kind: str, body: str, suffix: str, kept: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    ending, content = saved_page(Response("http://a/", 200, headers, body.encode()))
    assert ending == suffix
    assert kept in content.decode("utf-8-sig")


def test_the_pages_encoding_does_not_matter_to_the_browser() -> None:
    body = "<meta charset=koi8-r><title>да</title>".encode("koi8-r")
    _, content = saved_page(Response('http://a/"><script>', 200, {}, body))
    page = content.decode("utf-8-sig")
    assert "да" in page
    assert "<script>" not in page


# Sessions -----------------------------------------------------------------------------------


class Session:
    """`scrape shell` on a terminal of 80 columns."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.seen = ""

    def wait(self, text: str, timeout: float = 60.0) -> str:
        """What was shown up to *text*; fails when it does not come."""
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], deadline - time.monotonic())
            assert ready, f"{text!r} did not come: {self.seen!r}"
            try:
                self.seen += os.read(self.master, 65536).decode("utf-8", "replace")
            except OSError:
                raise AssertionError(f"it ended before {text!r}: {self.seen!r}") from None
        before, _, self.seen = self.seen.partition(text)
        return before

    def send(self, text: str) -> None:
        os.write(self.master, text.encode())


@contextmanager
def session(*args: str, cwd: Path) -> Iterator[tuple[Session, subprocess.Popen[bytes]]]:
    master, slave = pty.openpty()
    line = [sys.executable, "-c", "from scraper.cli import main; main()", "shell", *args]
    environ = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "TERM": "xterm",
        "IPYTHONDIR": str(cwd.parent / "ipython"),
    }
    running = subprocess.Popen(
        line, cwd=cwd, stdin=slave, stdout=slave, stderr=slave, env=environ, start_new_session=True
    )
    os.close(slave)
    try:
        yield Session(master), running
    finally:
        running.kill()
        running.wait()
        os.close(master)


def test_pythons_own_console(fast: CommandLine, web: Web) -> None:
    with session(f"{web.url}/", "--plain", cwd=fast.root) as (shell, running):
        banner = shell.wait(">>> ")
        assert f"response    <Response 200 {web.url}/>" in banner
        assert max(len(line.rstrip()) for line in banner.splitlines()) < 80
        shell.send("css('h1::text').get()\n")
        shell.wait("'Hello'")
        shell.send("fetch('/no')\n")
        shell.wait("robots.txt forbids it (robots_denied)")
        shell.wait(">>> ")
        shell.send("[x async for x in aiter_of(1)]\n")
        shell.wait("NameError: name 'aiter_of' is not defined")
        shell.wait(">>> ")
        shell.send("fetch('/slow')\n")
        web.wait(lambda web: bool(web.seen("/slow")))
        os.kill(running.pid, 2)
        shell.wait("KeyboardInterrupt")
        shell.wait(">>> ")
        shell.send("fetch('next')\n")
        shell.wait(f"<Response 200 {web.url}/next>")
        shell.wait(">>> ")
        shell.send("\x04")
        assert running.wait(60) == 0


def test_a_first_page_that_does_not_come_is_told_and_the_session_opens(
    fast: CommandLine, web: Web
) -> None:
    with session(f"{web.url}/no", "--plain", cwd=fast.root) as (shell, running):
        told = shell.wait(">>> ")
        assert "robots.txt forbids it" in told
        assert "response    none yet" in told
        shell.send("exit()\n")
        assert running.wait(60) == 0


@pytest.mark.skipif(importlib.util.find_spec("IPython") is None, reason="IPython is not installed")
def test_ipython(fast: CommandLine, web: Web) -> None:
    with session(f"{web.url}/", cwd=fast.root) as (shell, running):
        shell.wait("scrape shell: Ctrl-D ends it")
        shell.wait("In [")
        shell.send("fetch('/no')\r")
        shell.wait("robots.txt forbids it (robots_denied)")
        shell.wait("In [")
        shell.send("(await spider.fetch(response.urljoin('/hop'))).url.upper()\r")
        shell.wait("/NEXT'")
        shell.wait("In [")
        shell.send("fetch('/slow')\r")
        web.wait(lambda web: bool(web.seen("/slow")))
        os.kill(running.pid, 2)
        shell.wait("KeyboardInterrupt")
        shell.wait("In [")
        shell.send("\x04")
        assert running.wait(60) == 0
