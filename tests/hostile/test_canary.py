"""Secrets show nowhere: a word of its own in each place that holds one, and failures of all kinds.

Two crawls and a dozen commands that go wrong; then every file and every stream is searched for the
words, as they are and in the spellings that HTTP gives them.
"""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.crawl.conftest import project
from tests.crawl.harness import Finished, Project
from tests.servers.web import RESET, SILENT, Reply, Seen, Web, html, redirect, router, text

__all__ = ["project"]

PLACES = (
    "userinfo", "query", "fragment", "proxy", "config_proxy", "marked_header", "authorization",
    "cookie", "set_cookie", "form_password", "json_secret", "dsn", "config_header", "env_header",
    "option_header", "argument", "meta", "location",
)  # fmt: skip
WORD = {place: f"zq{n:02}/K+canary{n:02}{place[:3]}" for n, place in enumerate(PLACES)}
"""With characters that are escaped in URLs, so that both spellings are looked for."""
URLWORD = {place: quote(word, safe="") for place, word in WORD.items()}

SPIDER = """
import asyncio, os, sys
from typing import Annotated
from scraper import Css, Item, Output, Request, Response, Spider
from pydantic import field_validator

WORD = %(word)r
URLWORD = %(urlword)r
TAIL = "?token=" + URLWORD["query"] + "&page=1#access_token=" + URLWORD["fragment"]

class Entry(Item):
    title: Annotated[str, Css("h1")]
    price: Annotated[float, Css(".price")]

class Checked(Item):
    title: Annotated[str, Css("h1")]

    @field_validator("title")
    @classmethod
    def wrong(cls, value: str) -> str:
        raise ValueError("at http://u:" + URLWORD["userinfo"] + "@h/" + TAIL)

class Staged(Item):
    title: str

class Site(Spider):
    name = "site"
    base: str
    dead: str
    stops: bool = False
    api_password: str = ""
    allowed_domains = ["127.0.0.1", "127.1.0.2"]

    def _request(self, path, callback="parse", **more):
        base = self.base.replace("http://", "http://user:" + URLWORD["userinfo"] + "@")
        url = path if "://" in path else base + path + TAIL
        more.setdefault("headers", {"X-Marked": WORD["marked_header"]})
        return Request(
            url, callback, secret=["X-Marked"], cookies={"sid": WORD["cookie"]},
            meta={"api_key": WORD["meta"]}, errback="failed", **more
        )

    async def start(self):
        for path in os.environ["PATHS"].split():
            method = "POST" if path.startswith(("/raise-form", "/form")) else None
            if method:
                yield self._request(path, form={"user": "ann", "password": WORD["form_password"]})
            elif path.startswith("/raise-json"):
                yield self._request(path, json={"client_secret": WORD["json_secret"]})
            elif path.startswith("/bearer"):
                auth = {"Authorization": "Bearer " + WORD["authorization"]}
                yield self._request(path, headers=auth)
            else:
                yield self._request(path)
        yield self._request("/slow", timeout=0.4)
        yield self._request(self.dead + "/refused" + TAIL)
        yield self._request(self.base.replace("http:", "https:") + "/tls" + TAIL)
        yield self._request("http://" + "a" * 70 + ".test/dns" + TAIL)
        yield self._request("http://u:" + URLWORD["userinfo"] + "@[bad/x" + TAIL)
        yield self._request("ftp://u:" + URLWORD["userinfo"] + "@h/x" + TAIL)
        yield self._request(self.base.replace("127.0.0.1", "127.1.0.2") + "/denied" + TAIL)
        through = "http://user:" + URLWORD["proxy"] + "@"
        yield self._request("/by-proxy", proxy=through + self.base[7:])
        yield self._request("/by-dead-proxy", proxy=through + self.dead[7:])
        yield self._request("/by-none", proxy="socks5://u:" + WORD["proxy"] + "@h:1")

    async def parse(self, response: Response) -> Output:
        request = response.request
        what = response.url.partition("?")[0].rpartition("/")[2]
        if what == "raise-url":
            raise RuntimeError(f"bad page {response.url} by {request!r}, also {request.dump()}")
        if what == "raise-headers":
            raise RuntimeError(f"{dict(request.headers)} {response.headers} {request.cookies}")
        if what == "raise-bare":
            marked, sid = request.headers["X-Marked"], request.cookies["sid"]
            got = response.headers["Set-Cookie"].partition(";")[0].partition("=")[2]
            raise RuntimeError(" ".join((marked, sid, got, request.meta["api_key"])))
        if what == "raise-form" or what == "raise-json":
            raise RuntimeError(f"{request.body} {request.body.decode()}")
        if what == "raise-config":
            raise RuntimeError(" ".join(WORD[w] for w in os.environ["CONFIGURED"].split()))
        if what == "exit":
            sys.exit("with " + response.url)
        if what == "inline":
            await self.fetch(self.base + "/reset" + TAIL)
        if what == "invalid":
            yield response.extract(Entry)
        if what == "checked":
            yield response.extract(Checked)
        if what == "staged":
            yield Staged(title=response.url)
        if what == "retried":
            from scraper.errors import Retry
            raise Retry("again " + response.url)
        if what == "stop":
            self.log.warning("stopping at %%s", response.url)
        self.log.info("seen %%s with %%s", response.url, dict(request.headers))
        yield {"title": response.css("h1::text").get()}

    async def failed(self, failure):
        self.log.warning("failed: %%s %%s %%s", failure.reason, failure.request.url, failure.detail)
        raise RuntimeError("errback of " + failure.request.url)
        yield {}

    async def closed(self, reason):
        raise RuntimeError("closed with " + WORD["config_header"] + "?token=" + WORD["query"])
"""

STAGE = """
class Breaks:
    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    async def process(self, item, page):
        if type(item).__name__ == "Staged":
            password = self.dsn.partition("://")[2].partition("@")[0].partition(":")[2]
            raise RuntimeError(f"cannot connect to {self.dsn} (password={password})")
        return item
"""

CONFIG = f"""
[politeness]
robots = false

[politeness.hosts."127.1.0.2"]
robots = true

[http]
max_redirects = 3
timeout = 2

[http.headers]
X-Api-Key = "{WORD["config_header"]}"

[retry]
attempts = 1
base = 0.001

[log]
file = "site.log"

[crawl]
max_failure_rate = 1.0

[[pipelines]]
use = "pipelines.breaks:Breaks"
dsn = "postgresql://user:{URLWORD["dsn"]}@h/db"

[[pipelines]]
use = "jsonl"
path = "out.jsonl"
provenance = true
"""

PATHS = (
    "/reset /404 /403 /500 /503 /garbage /gzip /unknown-coding /to-js /to-loop /to-nowhere /off"
    " /raise-url /raise-headers /raise-bare /raise-form /raise-json /raise-config /exit /inline"
    " /invalid /checked /staged /retried /bearer /image /ok"
)
EXPECTED = {
    "conn_reset", "timeout", "connect_refused", "dns", "protocol", "decode",
    "http_404", "http_403", "http_500", "http_503", "redirect_scheme", "redirect_limit",
    "url_invalid", "robots_denied", "proxy_auth", "proxy_connect", "callback_error",
    "item_invalid", "stage_error", "not_html",
}  # fmt: skip


def site(seen: Seen) -> Reply:
    page = html("<h1>T</h1>", 200, ("Set-Cookie", f"got={WORD['set_cookie']}; Path=/"))
    if seen.path.startswith("http://"):
        return text("who are you?", 407)
    if seen.path == "/robots.txt" and seen.host.startswith("127.1.0.2"):
        return text("User-agent: *\nDisallow: /")
    return page


def routes() -> dict[str, object]:
    word = URLWORD["location"]
    return {
        "/robots.txt": site,
        "/reset": RESET,
        "/slow": SILENT,
        "/stop": SILENT,
        **{f"/{status}": text("no", status) for status in (404, 403, 500, 503)},
        "/garbage": Reply(b"", 200, (("Transfer-Encoding", "chunked"), ("Content-Length", "x"))),
        "/gzip": Reply(b"\x1f\x8bnot", 200, (("Content-Encoding", "gzip"),)),
        "/unknown-coding": Reply(b"x", 200, (("Content-Encoding", "shrink"),)),
        "/to-js": redirect(f"javascript:x?token={word}"),
        "/to-loop": redirect(f"/to-loop?token={word}"),
        "/to-nowhere": redirect(f"http://u:{word}@[bad/?token={word}"),
        "/off": redirect(f"http://u:{word}@127.9.9.9:9/?token={word}"),
        "/image": Reply(b"\x89PNG\r\n\x1a\n", type="image/png"),
    }


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(router(routes(), site), ("127.0.0.1", "127.1.0.2")) as server:  # type: ignore[arg-type]
        yield server


@pytest.fixture
def dead() -> Iterator[str]:
    """The address of a port that is taken, and at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def spellings() -> dict[str, str]:
    found = {}
    for place, word in WORD.items():
        pair = b64encode(f"user:{word}".encode()).decode()
        for spelling in (word, quote(word, safe=""), quote(word), json.dumps(word)[1:-1], pair):
            found[spelling] = place
    return found


def leaks(name: str, content: str) -> list[str]:
    return [
        f"{place} in {name}: …{content[max(at - 160, 0) : at + 60]!r}…"
        for spelling, place in spellings().items()
        if (at := content.find(spelling)) >= 0
    ]


def artefacts(root: Path, *said: Finished) -> Iterator[tuple[str, str]]:
    """Everything that a crawl leaves, but the ledgers, which only their owner may read."""
    for number, finished in enumerate(said):
        yield f"stdout {number}", finished.out
        yield f"stderr {number}", finished.err
    ours = {"config.toml", "site.py", "breaks.py", "typo"}
    for path in sorted(root.rglob("*")):
        yield "names", path.name
        if not path.is_file() or path.name in ours or "__pycache__" in path.parts:
            continue
        if path.name.startswith("ledger.sqlite"):
            assert path.stat().st_mode & 0o777 == 0o600, path
            continue
        yield str(path.relative_to(root)), path.read_bytes().decode("utf-8", "replace")


def ledger_text(root: Path) -> str:
    """All that the ledgers hold, as text."""
    found = []
    for path in root.rglob("ledger.sqlite"):
        connection = sqlite3.connect(path)
        found += list(connection.iterdump())
        tables = ("requests", "failures", "rejects", "kept")
        for table in tables:
            found += [str(row) for row in connection.execute(f"SELECT * FROM {table}")]
        connection.close()
    return "\n".join(found)


COMMANDS = (
    ("failures", "site"),
    ("failures", "site", "--json"),
    ("rejects", "site"),
    ("rejects", "site", "--json"),
    ("status",),
    ("status", "--json"),
    ("config", "site"),
    ("config", "site", "--json"),
    ("list",),
    ("list", "--json"),
    ("check",),
    ("quality", "site", "--json"),
)


def wrong_commands(base: str, dead: str) -> list[tuple[str, ...]]:
    """Command lines that fail, each with secrets of its own."""
    tail = f"/x?token={URLWORD['query']}"
    url = f"{dead.replace('//', '//user:' + URLWORD['userinfo'] + '@')}{tail}"
    proxy = f"http.proxy=http://user:{URLWORD['config_proxy']}@{dead[7:]}"
    dsn = f"postgresql://user:{URLWORD['dsn']}@{dead[7:]}/db"
    return [
        ("fetch", url),
        ("fetch", f"ftp://user:{URLWORD['userinfo']}@h{tail}"),
        ("fetch", "-s", proxy, f"{base}/ok"),
        ("fetch", "-H", f"Authorization Bearer {WORD['authorization']}", base),
        ("parse", "--spider", "site", url),
        ("shell", "-c", f"fetch({url!r})", "-q"),
        ("new", "another", url),
        ("run", "site", "-a", f"base={base}/?token={URLWORD['query']}", "-a", "deed=x"),
        ("run", "site", "-a", f"api_password={WORD['argument']}", "-a", "stops=maybe"),
        ("run", "site", "-s", f"http.hedders.X-Api-Key={WORD['option_header']}"),
        ("run", "site", "-s", f"http.proxy=socks://user:{WORD['config_proxy']}@h"),
        ("run", "site", "-s", f"pipelines=[{{use='sql', url='{dsn}', tabel='x'}}]"),
        ("run", "site", "-a", f"base={base}", "-a", f"dead={dead}", "-s",
         f"pipelines=[{{use='sql', url='{dsn}'}}]"),
    ]  # fmt: skip


@pytest.mark.case(
    95,
    "a word of its own in URLs (userinfo, query, fragment, Location), proxies, headers, cookies,"
    " forms, JSON, `meta`, arguments, settings, the environment, a DSN; over 20 kinds of failure",
    "in no stream, log, report, output, rejected file, history or error of any command, also with"
    " `--debug` and as JSON; in the 0600 ledger only what the requests need, and of the"
    " configuration nothing",
)
@pytest.mark.parametrize("way", ["lines", pytest.param("json", marks=pytest.mark.long)])
def test_no_artefact_shows_a_secret(project: Project, web: Web, dead: str, way: str) -> None:
    project.spider(SPIDER % {"word": WORD, "urlword": URLWORD})
    (project.root / "pipelines").mkdir()
    (project.root / "pipelines/breaks.py").write_text(STAGE)
    project.config(CONFIG)
    project.environ |= {
        "PATHS": PATHS,
        "CONFIGURED": "config_header env_header option_header dsn argument",
        "SCRAPE_HTTP__HEADERS": f'{{ X-Env-Token = "{WORD["env_header"]}" }}',
    }
    arguments = [
        "run", "site", "-a", f"base={web.url}", "-a", f"dead={dead}",
        "-a", f"api_password={WORD['argument']}",
        "-s", f'http.headers.X-Option-Secret="{WORD["option_header"]}"',
    ]  # fmt: skip
    if way == "json":
        arguments += ["--debug", "-s", "log.json=true"]

    done = project.scrape(*arguments, "--json")
    assert done.code == 0, done.err[-3000:]
    said = [done]
    reasons = Counter(done.json["reasons"])
    assert not EXPECTED - reasons.keys(), (sorted(EXPECTED - reasons.keys()), dict(reasons))
    assert any(reason.startswith("again http://127.0.0.1") for reason in reasons)
    assert reasons.total() >= 20

    running = project.start(*arguments, "--job", "stopped", env={"PATHS": "/stop /ok"})
    web.wait(lambda w: any(s.path.startswith("/stop") for s in w.seen()))
    running.twice(signal.SIGINT)
    said.append(running.wait())
    assert said[-1].code == 130

    job = project.root / ".scrape/site"
    name = next(path.name for path in job.iterdir() if path.name != "stopped")
    for asked in COMMANDS if way == "lines" else ():
        own = ("--job", name) if asked[0] in ("failures", "rejects", "quality") else ()
        said.append(project.scrape(*asked, *own))
        assert said[-1].code in (0, 1), (asked, said[-1].err)
    for command in wrong_commands(web.url, dead) if way == "json" else ():
        said.append(project.scrape(*command, "--debug"))  # tracebacks, and then what is told
        assert said[-1].code in (1, 2, 4), (command, said[-1].err)

    found = [
        leak for name, content in artefacts(project.root, *said) for leak in leaks(name, content)
    ]
    assert not found, "\n".join([f"{len(found)} leaks", *found[:40]])
    held = ledger_text(project.root)
    assert URLWORD["query"] in held, "the requests' own URLs are needed for a resume"
    for place in ("config_header", "env_header", "option_header", "dsn", "config_proxy"):
        assert WORD[place] not in held, f"{place} is stored by value"
