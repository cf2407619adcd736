"""Whole crawls behind a login: forms with tokens, sessions side by side, kills in between."""

from __future__ import annotations

import signal
from collections import Counter
from functools import partial
from urllib.parse import parse_qsl

import pytest

from tests.crawl.harness import Project, json_lines
from tests.servers.web import Answer, Reply, Seen, Web, html, redirect

PAGES = 40
WORDS = {"ann": "s&cret", "bob": "pässword"}


class Members:
    """A site as frameworks make them: a token in the form and in a cookie, a session after login.

    A wrong password is answered with status 200 and the form again, as most sites do.
    """

    def __init__(self) -> None:
        self.logins: Counter[str] = Counter()
        self.tokens = 0

    def __call__(self, seen: Seen) -> Answer:
        path = seen.path.partition("?")[0]
        user = seen.cookies.get("sid", "").partition("-")[0]
        if path == "/login":
            return self.log_in(seen) if seen.method == "POST" else self.form("")
        if path == "/":
            return html(f"<h1>Home of {user or 'nobody'}</h1><a href=/page/0>pages</a>")
        if path.startswith("/page/"):
            if not user:
                return redirect("/login")
            n = int(path.rpartition("/")[2])
            more = f'<a href="/page/{n + 1}">next</a>' if n + 1 < PAGES else ""
            return html(f"<h1>{n}</h1><b>{user}</b>{more}")
        return html("none", 404)

    def form(self, said: str) -> Reply:
        self.tokens += 1
        token = f"t{self.tokens}"
        return html(
            f"""<form action=/search><input name=q></form><p class=error>{said}</p>
            <table><form id=login method=post action=/login><tr><td>
            <input type=hidden name=csrf value={token}><input name=user></td>
            <td><input type=password name=word><input type=checkbox name=keep value=yes>
            <button name=act value=login>Log in</button></td></tr></form></table>""",
            200,
            ("Set-Cookie", f"csrf={token}; Path=/"),
        )

    def log_in(self, seen: Seen) -> Reply:
        sent = dict(parse_qsl(seen.body.decode(), keep_blank_values=True))
        if sent.get("csrf") != seen.cookies.get("csrf") or sent.get("act") != "login":
            return html("<h1>Forbidden</h1>", 403)
        if seen.headers.get("origin") != f"http://{seen.host}":
            return html("<h1>Forbidden: origin</h1>", 403)
        user = sent["user"]
        if WORDS.get(user) != sent["word"]:
            return self.form("wrong user or password")
        self.logins[user] += 1
        return redirect("/", ("Set-Cookie", f"sid={user}-{seen.number}; Path=/; HttpOnly"))


IN_SETUP = """
from scraper import Output, Response, Spider

class Shop(Spider):
    name = "shop"
    base: str
    word: str = "s&cret"

    async def setup(self) -> None:
        page = await self.fetch(self.base + "/login")
        answer = await self.fetch(page.form("#login").submit({"user": "ann", "word": self.word}))
        if answer.css("form#login"):
            raise RuntimeError("login failed: " + answer.css(".error::text").get(""))

    @property
    def start_urls(self):
        return [self.base + "/page/0"]

    async def parse(self, response: Response) -> Output:
        for link in response.links():
            yield response.follow(link)
        yield {"n": int(response.css("h1").text), "user": response.css("b").text}
"""

FIRST_REQUEST = """
from scraper import Output, Request, Response, Spider

class Shop(Spider):
    name = "shop"
    base: str
    word: str = "s&cret"

    async def start(self):
        yield Request(self.base + "/login", self.log_in)

    async def log_in(self, response: Response) -> Output:
        form = response.form("#login")
        yield form.submit({"user": "ann", "word": self.word, "keep": True}, self.inside)

    async def inside(self, response: Response) -> Output:
        if response.css("form#login"):
            raise RuntimeError("login failed: " + response.css(".error").text)
        yield response.follow("/page/0", self.parse)

    async def parse(self, response: Response) -> Output:
        for link in response.links():
            yield response.follow(link)
        yield {"n": int(response.css("h1").text), "user": response.css("b").text}
"""

TWO_SESSIONS = """
from scraper import Output, Request, Response, Spider

WORDS = {"ann": "s&cret", "bob": "p\\xe4ssword"}

class Shop(Spider):
    name = "shop"
    base: str

    async def start(self):
        for user in WORDS:
            yield Request(self.base + "/login", self.log_in, session=user, unique=False)

    async def log_in(self, response: Response) -> Output:
        user = response.request.session
        form = response.form("#login")
        # both are redirected to the same page: unique=False lets both have it
        yield form.submit({"user": user, "word": WORDS[user]}, self.inside, unique=False)

    async def inside(self, response: Response) -> Output:
        assert response.css("h1").text == f"Home of {response.request.session}"
        yield response.follow("/page/0?as=" + response.request.session, self.parse)

    async def parse(self, response: Response) -> Output:
        as_user = response.url.partition("?")[2]
        for link in response.links():
            yield response.follow(f"{link}?{as_user}")
        yield {
            "n": int(response.css("h1").text),
            "user": response.css("b").text,
            "session": response.request.session,
        }
"""


def asked(path: str, web: Web) -> bool:
    return bool(web.seen(path))


def command(web: Web, *more: str) -> tuple[str, ...]:
    return (
        "run", "shop", "-a", f"base={web.url}", "-o", "out.jsonl", "--json",
        "-s", "crawl.max_depth=0", *more,
    )  # fmt: skip


@pytest.mark.parametrize("spider", [IN_SETUP, FIRST_REQUEST], ids=["setup", "request"])
def test_pages_behind_a_login(project: Project, spider: str) -> None:
    project.spider(spider)
    site = Members()
    with Web(site) as web:
        done = project.scrape(*command(web)).expect(0)
        assert done.json["items"] == PAGES
        assert done.json["reasons"] == {}
        assert json_lines(project.path("out.jsonl")) == [
            {"n": n, "user": "ann"} for n in range(PAGES)
        ]
        assert site.logins == {"ann": 1}
        post = next(seen for seen in web.seen("/login") if seen.method == "POST")
        keep = b"&keep=yes" if spider is FIRST_REQUEST else b""
        assert post.body == b"csrf=t1&user=ann&word=s%26cret" + keep + b"&act=login"


def test_a_wrong_password_in_setup_ends_the_crawl(project: Project) -> None:
    project.spider(IN_SETUP)
    with Web(Members()) as web:
        failed = project.scrape(*command(web, "-a", "word=wr&ng")).expect(1)
        assert "login failed: wrong user or password" in failed.err
        assert not project.path("out.jsonl").exists()
        assert web.counts() == {"/robots.txt": 1, "/login": 2}


def test_a_wrong_password_is_seen_by_the_form_that_comes_back(project: Project) -> None:
    project.spider(FIRST_REQUEST)
    with Web(Members()) as web:
        done = project.scrape(*command(web, "-a", "word=wr&ng")).expect(0)
        assert "login failed: wrong user or password" in done.err
        assert "wr%26ng" not in done.err, "what was sent is not shown"
        assert done.json["reasons"] == {"callback_error": 1}
        assert done.json["items"] == 0


def test_a_field_that_the_form_does_not_have_stops_the_login(project: Project) -> None:
    project.spider(FIRST_REQUEST.replace('"user": "ann"', '"usr": "ann"'))
    with Web(Members()) as web:
        failed = project.scrape(*command(web))
        assert failed.code == 1
        assert "has no field 'usr'" in failed.err
        assert "Did you mean user?" in failed.err
        assert web.counts() == {"/robots.txt": 1, "/login": 1}


@pytest.mark.case(
    42,
    "two logins of one site in two sessions, at the same time",
    "each page is fetched as its own user; an item for each page and user",
)
def test_two_sessions_are_two_users_at_the_same_time(project: Project) -> None:
    project.spider(TWO_SESSIONS)
    site = Members()
    with Web(site) as web:
        done = project.scrape(*command(web)).expect(0)
        assert done.json["items"] == 2 * PAGES
        records = json_lines(project.path("out.jsonl"))
        assert all(record["user"] == record["session"] for record in records)
        assert Counter(r["user"] for r in records) == {"ann": PAGES, "bob": PAGES}
        users = [s.cookies["sid"].partition("-")[0] for s in web.log if s.path.startswith("/page/")]
        assert users != sorted(users), "they took turns"


def test_sessions_survive_a_kill(project: Project) -> None:
    project.spider(TWO_SESSIONS)
    site = Members()
    with Web(site) as web:
        for n in (8, 20, 31):
            crawl = project.start(*command(web))
            web.when(partial(asked, f"/page/{n}?as=bob"), crawl.kill)
            assert crawl.wait().code == -signal.SIGKILL
        done = project.scrape(*command(web)).expect(0)
        assert done.json["items"] == 2 * PAGES
        assert done.json["reasons"] == {}
        records = json_lines(project.path("out.jsonl"))
        expected = Counter((n, user, user) for n in range(PAGES) for user in WORDS)
        assert Counter((r["n"], r["user"], r["session"]) for r in records) == expected
        assert site.logins == {"ann": 1, "bob": 1}


UPLOAD = """
from scraper import Output, Request, Response, Spider

class Shop(Spider):
    name = "shop"
    base: str

    async def start(self):
        yield Request(self.base + "/", files={"photo": "photo.png"}, form={"of": "h\\xe9"})

    async def parse(self, response: Response) -> Output:
        yield {"sent": response.text}
"""


def test_a_file_arrives(project: Project) -> None:
    project.spider(UPLOAD)
    project.path("photo.png").write_bytes(bytes(range(256)))
    with Web(lambda seen: html("thanks")) as web:
        project.scrape(*command(web)).expect(0)
        post = next(seen for seen in web.log if seen.method == "POST")
        boundary = post.headers["content-type"].partition("boundary=")[2]
        field = 'Content-Disposition: form-data; name="'
        assert post.body == b"".join((
            f'--{boundary}\r\n{field}of"\r\n\r\nhé\r\n'.encode(),
            f'--{boundary}\r\n{field}photo"; filename="photo.png"\r\n'.encode(),
            b"Content-Type: image/png\r\n\r\n",
            bytes(range(256)),
            f"\r\n--{boundary}--\r\n".encode(),
        ))
