"""What a crawl leaves for others to see and to reach: sockets, files, terminals, imports."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scraper.download.cookies import Jars
from scraper.errors import DamagedState
from scraper.frontier import tables
from scraper.frontier.core import Row
from scraper.http import Request
from tests.crawl.conftest import project
from tests.crawl.harness import Project, json_lines
from tests.servers.web import Reply, Seen, Web, html, redirect, router, text

__all__ = ["project"]

# Listening sockets ------------------------------------------------------------------------------

SITE = """
from scraper import Output, Request, Response, Spider

class Site(Spider):
    name = "site"
    base: str

    async def start(self):
        yield Request(self.base + "/")

    async def parse(self, response: Response) -> Output:
"""
PAGE = f"""{SITE}
        for link in response.links():
            yield response.follow(link)
        yield {{"title": response.css("h1::text").get()}}
"""


def listening(pid: int) -> list[str]:
    """The sockets of a process that take connections or datagrams from anybody."""
    own = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            own.add(str(fd.readlink()).removeprefix("socket:[").removesuffix("]"))
        except FileNotFoundError:
            continue
    found = []
    for protocol, open_state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        table = Path(f"/proc/{pid}/net/{protocol}")
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            field = line.split()
            if field[3] == open_state and field[9] in own:
                found.append(f"{protocol} {field[1]}")
    unix = Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]
    flags = {line.split()[6]: int(line.split()[3], 16) for line in unix}
    return found + [f"unix {inode}" for inode in own & flags.keys() if flags[inode] & 0x10000]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.case(
    97, "a crawl at work, its sockets looked at from outside", "it listens on none of them"
)
def test_a_crawl_listens_nowhere(project: Project) -> None:
    project.spider(PAGE)
    found: list[list[str]] = []

    def site(seen: Seen) -> Reply:
        found.append(listening(running.process.pid))
        return html("<h1>x</h1><a href=/a>a</a>")

    with Web(lambda seen: text("", 404) if seen.path == "/robots.txt" else site(seen)) as web:
        running = project.start("run", "site", "-a", f"base={web.url}")
        running.wait().expect(0)
    assert found == [[], []]


def test_a_listener_would_be_seen() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)), socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        if sys.platform == "linux":
            assert {line.partition(" ")[0] for line in listening(os.getpid())} >= {"tcp", "udp"}


# The terminal -----------------------------------------------------------------------------------

EVIL = "\x1b[31mred\x1b]0;owned\x07\x9b2J\u202egnp\u2066\u200f\r\n12:00:00 ERROR   forged"
LOUD = """
from typing import Annotated
from scraper import Css, Item, Output, Request, Response, Spider

class Entry(Item):
    title: Annotated[str, Css("h1")]
    price: Annotated[float, Css("h1")]

class Site(Spider):
    name = "site"
    base: str

    async def start(self):
        for path in ("/invalid", "/raise", "/log", "/gone", "/hop"):
            yield Request(self.base + path + "?%1b%9b%e2%80%ae%0d%0a")

    async def parse(self, response: Response) -> Output:
        title = response.css("h1::text").get()
        if "invalid" in response.url:
            yield response.extract(Entry)
        if "raise" in response.url:
            raise RuntimeError(title)
        self.log.warning("title %s, header %s", title, response.headers.get("X-Evil"))
        yield {"title": title}
"""
OBEYED = "\x1b\x07\x9b\r\u202e\u2066\u200f"


def looking(project: Project, web: Web) -> list[tuple[str, ...]]:
    """Commands that show what came of the job, or what a page is like."""
    (job,) = (project.root / ".scrape/site").iterdir()
    page, base = f"{web.url}/raise", f"base={web.url}"
    shown = [
        (command, "site", "--job", job.name, *form)
        for command in ("failures", "rejects", "quality")
        for form in ((), ("--json",))
    ]
    return [
        *shown,
        ("status",),
        ("status", "--json"),
        ("fetch", f"{page}?\x1b[31m", "-o", "body"),
        ("fetch", page, "--json", "--body"),
        ("parse", "--spider", "site", "-a", base, page),
    ]


@pytest.mark.case(
    98,
    "ANSI and C1 sequences, CR LF with a forged log line, and marks that turn the direction of"
    " writing in titles, headers, reason phrases, URLs and redirects",
    "escaped in log, summary and every command, also as JSON; further lines of a message are"
    " indented; the items have the text as it was",
)
@pytest.mark.parametrize("way", [(), ("--debug",), ("-s", "log.json=true")], ids=str)
def test_nothing_told_is_obeyed(project: Project, way: tuple[str, ...]) -> None:
    project.spider(LOUD)
    project.config('[log]\nfile = "site.log"\n[crawl]\nmax_failure_rate = 1.0')
    evil = EVIL.replace("\r\n", "&#13;&#10;")
    page = html(f"<h1>{evil}</h1>", 200, ("X-Evil", "a\x1b[31m\x9b2J"))
    routes = {
        "/gone": html("", 410),
        "/hop": redirect("javascript:\x1b[31m"),
        "/robots.txt": text("", 404),
    }
    with Web(router(routes, lambda seen: page)) as web:
        done = project.scrape(
            "run", "site", "-a", f"base={web.url}", "--json", "-o", "out.jsonl", *way
        )
        assert done.code == 0, done.err
        said = [done]
        if not way:
            said += [project.scrape(*command) for command in looking(project, web)]
    for finished in said:
        assert not set(finished.out + finished.err) & set(OBEYED), finished
        lines = (finished.out + finished.err).splitlines()
        assert not [line for line in lines if line.startswith("12:00:00 ERROR")], finished
    told = project.path("site.log").read_text()
    assert not set(told) & set(OBEYED)
    assert "forged" in told
    assert not [line for line in told.splitlines() if line.startswith("12:00:00 ERROR")]
    items = json_lines(project.path("out.jsonl"))
    assert items
    assert all(item["title"].startswith("\x1b[31mred\x1b]0;owned\x07") for item in items)


# Code -------------------------------------------------------------------------------------------

IMPORTS = """
import builtins
import sys

from scraper import Output, Request, Response, Spider

class Site(Spider):
    name = "site"
    base: str

    async def start(self):
        sys.addaudithook(self.audited)
        yield Request(self.base + "/")

    def audited(self, event, arguments):
        if event == "import" and "evil" in str(arguments[0]) or event.startswith("os.system"):
            sys.stderr.write(f"AUDITED {event} {arguments}\\n")

    async def parse(self, response: Response) -> Output:
        yield {"title": response.css("h1::text").get(), "json": response.json()["x"]}
"""
NAMES = ("os.system", "evil:Evil", "__import__('evil')", "evil.Evil", "!!python/object:evil.Evil")


@pytest.mark.case(
    99,
    "header values, a page's text, its encoding, media type and file name that name `os.system` or"
    " a module of the project",
    "text like any other: nothing of it is imported or run",
)
@pytest.mark.parametrize("name", NAMES)
def test_what_the_web_names_is_not_imported(project: Project, name: str) -> None:
    project.spider(IMPORTS)
    project.path("evil.py").write_text("import sys\nsys.stderr.write('IMPORTED\\n')\n")
    fields = [
        (field, name)
        for field in ("X-Class", "Server", "Set-Cookie", "X-Robots-Tag", "Link", "Retry-After")
    ]
    page = Reply(
        json.dumps({"x": name, "py/object": name, "__class__": name}).encode(),
        200,
        [*fields, ("Content-Disposition", f'attachment; filename="{name}"')],
        f'text/html; charset="{name}"',
    )
    with Web(
        router({"/robots.txt": text(f"User-agent: {name}\nAllow: /")}, lambda seen: page)
    ) as web:
        done = project.scrape("run", "site", "-a", f"base={web.url}", "-o", "out.jsonl").expect(0)
    assert "IMPORTED" not in done.err
    assert "AUDITED" not in done.err
    assert json_lines(project.path("out.jsonl")) == [{"title": None, "json": name}]


# Quoting ----------------------------------------------------------------------------------------

HOSTILE_KEYS = (
    'a"; DROP TABLE items; --',
    "b'; DROP TABLE items; --",
    "c` --",
    "d] --",
    "e\\",
    ":f",
)
KEYS = f"""{SITE}
        yield {{key: number for number, key in enumerate(response.json()["keys"])}}
        yield {{key: key for key in response.json()["keys"]}}
"""


@pytest.mark.case(
    100,
    'item keys from a page such as `a"; DROP TABLE items; --`, in `sqlite` and `sql`',
    "columns of that name; every row is there",
)
@pytest.mark.parametrize("use", ["sqlite", "sql"])
def test_keys_of_items_are_quoted(project: Project, use: str) -> None:
    project.spider(KEYS)
    place = "path = 'x.sqlite'" if use == "sqlite" else "url = 'sqlite:///x.sqlite'"
    project.config(f"""
        [[pipelines]]
        use = "{use}"
        {place}
        table = "items"
    """)
    page = Reply(json.dumps({"keys": HOSTILE_KEYS}).encode(), type="application/json")
    with Web(router({"/robots.txt": text("", 404)}, lambda seen: page)) as web:
        project.scrape("run", "site", "-a", f"base={web.url}").expect(0)
    connection = sqlite3.connect(project.path("x.sqlite"))
    connection.row_factory = sqlite3.Row
    rows = [dict(row) for row in connection.execute("SELECT * FROM items ORDER BY rowid")]
    connection.close()
    assert [{key: str(row[key]) for key in HOSTILE_KEYS} for row in rows] == [
        {key: str(number) for number, key in enumerate(HOSTILE_KEYS)},
        {key: key for key in HOSTILE_KEYS},
    ]


# Files ------------------------------------------------------------------------------------------


def modes(root: Path) -> Iterator[tuple[str, str]]:
    for path in (root, *root.rglob("*")):
        kind = "directory" if path.is_dir() else "file"
        yield str(path), f"{kind} {stat.S_IMODE(path.lstat().st_mode):o}"


@pytest.mark.case(
    101,
    "a job's state under a umask of 0, after a run that was stopped, one that finished, one set"
    " aside, and in a `.scrape` that was open to others",
    "directories 0700, files 0600; outputs have 0644 less the umask",
)
def test_state_is_for_its_owner_whatever_the_umask(project: Project) -> None:
    project.spider(PAGE)
    project.path(".scrape").mkdir(mode=0o755)
    routes = {"/robots.txt": text("", 404), "/": html("<h1>x</h1>")}
    with Web(router(routes)) as web:
        command = ("run", "site", "-a", f"base={web.url}", "-o", "out.jsonl")

        def open_to_all() -> None:
            os.umask(0)

        web.when(lambda web: bool(web.seen("/")), lambda: project.started[0].kill())
        project.start(*command, preexec=open_to_all).wait()
        web.forget_alarms()
        project.scrape(*command, "--fresh", preexec=open_to_all).expect(0)
        project.scrape(*command, preexec=open_to_all).expect(0)
    found = dict(modes(project.path(".scrape")))
    names = {Path(name).name for name in found}
    assert {"ledger.sqlite", "lock", "history.jsonl", "previous"} <= names
    assert set(found.values()) == {"directory 700", "file 600"}, found
    assert stat.S_IMODE(project.path("out.jsonl").stat().st_mode) == 0o644


@pytest.mark.case(
    101,
    "`.scrape`, a spider's directory or a job's that is a symbolic link; a lock that is one",
    "exit 2, naming the link; nothing is written behind it",
)
@pytest.mark.parametrize("place", [".scrape", ".scrape/site", ".scrape/site/mine"])
def test_state_is_not_kept_behind_links(project: Project, tmp_path: Path, place: str) -> None:
    project.spider(PAGE)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    project.path(place).parent.mkdir(parents=True, exist_ok=True)
    project.path(place).symlink_to(elsewhere)
    done = project.scrape("run", "site", "-a", "base=http://127.0.0.1:9", "--job", "mine").expect(2)
    assert f"{place} is a symbolic link" in done.err
    assert list(elsewhere.iterdir()) == []


# Stored state -----------------------------------------------------------------------------------

PICKLE = b"cos\nsystem\n(S'touch owned'\ntR."
DEEP = b"[" * 200_000
FOREIGN = {
    "a pickle": PICKLE,
    "JSON nested 200,000 deep": b'{"url":"http://h/","meta":' + DEEP,
    "a URL that is a list": b'{"url":["http://h/"]}',
    "an option that there is not": b'{"url":"http://h/","__class__":"os.system"}',
    "headers that are a list": b'{"url":"http://h/","headers":[["a","b"]]}',
    "no JSON": b"\xff\xfe",
    "another kind of JSON": b'"http://h/"',
}


@pytest.mark.case(
    96,
    "a row of the SQLite ledger, its checksum right, with a pickle, JSON nested 200,000 deep, a"
    " foreign type or an option that there is not",
    "exit 3, the ledger is named as damaged; all state is JSON, and no module imports pickle",
)
def test_foreign_rows_of_the_ledger_are_refused(project: Project) -> None:
    project.spider(PAGE)
    with Web(lambda seen: text("", 404) if seen.path == "/robots.txt" else html("x")) as web:
        command = ("run", "site", "-a", f"base={web.url}", "--job", "mine")
        web.when(lambda web: bool(web.seen("/")), lambda: project.started[0].kill())
        project.start(*command).wait()
        ledger = project.path(".scrape/site/mine/ledger.sqlite")
        for payload in list(FOREIGN.values())[:4]:  # the others: test_what_is_no_stored_request
            connection = sqlite3.connect(ledger)
            (row,) = connection.execute(
                f"SELECT {', '.join(tables.COLUMNS['requests'])} FROM requests"
            ).fetchall()
            changed = Row._make(row)._replace(payload=payload, crashes=0)
            connection.execute(
                "UPDATE requests SET payload = ?, crashes = 0, crc = ?",
                (payload, tables.request_checksum(changed)),
            )
            connection.commit()
            connection.close()
            done = project.scrape(*command).expect(3)
            assert "a request in the ledger cannot be read" in done.err
    assert not project.path("owned").exists()


@pytest.mark.case(
    96,
    "stored cookies that are a pickle, nested 200,000 deep, of another format or another type",
    "refused by name (`DamagedState`, exit 3)",
)
@pytest.mark.parametrize(
    "stored",
    [
        PICKLE,
        DEEP,
        b'{"format":1,"jars":[[null,[["a","b","h",true,"/",false,1' + b"0" * 400 + b"]]]]}",
        b'{"format":1,"jars":[[null,[{"__class__":"os.system"}]]]}',
        b'{"format":2,"jars":[]}',
    ],
    ids=["pickle", "deep", "number", "type", "format"],
)
def test_foreign_cookies_are_refused(stored: bytes) -> None:
    with pytest.raises(DamagedState, match="stored cookies"):
        Jars().load(stored)


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_stored_request(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"stored request|decode|JSON|Expecting|codec"):
        Request.load(data)
