"""Whole crawls that download: in the directory lies what the delivered items point to.

Pages are on one host; files on two others, out of the crawl's scope, some behind redirects.
"""

from __future__ import annotations

import hashlib
import random
import resource
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from scraper.testing.points import POINTS, VARIABLE
from tests.crawl.harness import CONCURRENCY, GROUP, Crawl, Project, addresses, json_lines
from tests.memory import peak_of
from tests.servers.graph import Graph
from tests.servers.web import SILENT, Answer, Reply, Seen, Web, html, redirect, text

HOSTS = MAIN, CDN, OTHER = addresses(3)

SPIDER = """
from scraper import Output, Request, Response, Spider

class Pages(Spider):
    name = "pages"
    settings = {"crawl": {"max_depth": 0}}  # slow pages are not found in the order of depth
    base: str

    async def start(self):
        yield Request(self.base + "/p/0")

    async def parse(self, response: Response) -> Output:
        n = int(response.url.rpartition("/")[2])
        for link in response.links():
            yield response.follow(link)
        yield {"n": n, "images": response.css("img::attr(src)").getall()}
"""

TABLES = """
[[pipelines]]
use = "files"
fields = ["images"]
types = ["image/*"]
{options}

[[pipelines]]
use = "jsonl"
path = "out.jsonl"
"""


def picture(number: int) -> bytes:
    """Some hundred bytes to tens of kilobytes; every seventh is the same as number 0."""
    number *= number % 7 != 0
    return b"\x89PNG\r\n\x1a\n" + random.Random(number).randbytes(300 + number % 40 * 997)


class Shop:
    """A graph whose pages show pictures: page n shows n // 2, so that each is on two pages; some
    show another that is redirected to a third host, and some one that is not there."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def pictures(self, n: int, port: str) -> list[str]:
        shown = [f"http://{CDN}:{port}/f/{n // 2}"]
        if n % 5 == 0:
            shown.append(f"http://{CDN}:{port}/to/{n + 10_000}")
        if n % 11 == 0:
            shown.append(f"http://{OTHER}:{port}/f/none")
        return shown

    def __call__(self, seen: Seen) -> Answer:
        head, _, tail = seen.path.rpartition("/")
        port = seen.host.partition(":")[2]
        if head == "/p":
            images = "".join(f'<img src="{url}">' for url in self.pictures(int(tail), port))
            links = "".join(f'<a href="/p/{m}">{m}</a>' for m in self.graph.links(int(tail)))
            return html(images + links)
        if head == "/to":
            return redirect(f"http://{OTHER}:{port}/f/{tail}")
        if head == "/f" and tail.isdigit():
            return Reply(picture(int(tail)), type="image/png")
        if seen.path == "/robots.txt":
            return text("User-agent: *\nAllow: /\n")
        return text("no such thing", 404)


def prepare(project: Project, options: str = "", more: str = "") -> None:
    project.spider(SPIDER)
    project.config(more + TABLES.format(options=options))


def start(
    project: Project,
    web: Web,
    *more: str,
    kill: str = "",
    preexec: Callable[[], None] | None = None,
) -> Crawl:
    """*kill*: the named point at which the process ends itself, and the passage."""
    return project.start(
        *("run", "pages", "-a", f"base={web.url}", "--json", *more),
        env={VARIABLE: kill},
        preexec=preexec,
    )


def stored(project: Project) -> dict[str, bytes]:
    """The files of the directory, by their paths as items have them."""
    base = project.path("data/files")
    return {
        path.relative_to(project.root).as_posix(): path.read_bytes()
        for path in base.rglob("*")
        if path.is_file() and path.name != ".index.sqlite"
    }


def judge(project: Project, web: Web, graph: Graph, *, kills: int) -> None:
    """Every item once, every file that it names there and whole, no other file, few fetched again.

    A kill may cost the files of the pages that were in the making or not committed: those in
    slow stages, those that workers had, and a group.
    """
    rows = json_lines(project.path("out.jsonl"))
    assert Counter(row["n"] for row in rows) == dict.fromkeys(range(graph.pages), 1)
    files = stored(project)
    named: set[str] = set()
    for row in rows:
        assert [file["url"] for file in row["files"]] == row["images"]
        for file in row["files"]:
            number = file["url"].rpartition("/")[2]
            if number == "none":
                assert (file["error"], file["path"]) == ("http_404", None)
                continue
            content = files[file["path"]]
            assert content == picture(int(number))
            assert file["checksum"] == hashlib.sha256(content).hexdigest()
            assert (file["size"], file["type"], file["error"]) == (len(content), "image/png", None)
            named.add(file["path"])
    assert files.keys() == named
    assert len(set(files.values())) == len(files), "one content, one file"
    pictures = {p: c for p, c in web.counts().items() if p.startswith("/f/") and p != "/f/none"}
    asked = Counter(pictures)
    again = asked.total() - len(asked)
    bound = kills * 2 * (5 * CONCURRENCY + GROUP)
    assert again <= bound, f"{again} files fetched again by {kills} kills; the bound is {bound}"


def complete(project: Project, web: Web, graph: Graph, *, kills: int) -> dict[str, Any]:
    done = start(project, web).wait().expect(0)
    assert done.json["items"] == graph.pages
    judge(project, web, graph, kills=kills)
    output = next(o for o in done.json["outputs"] if o["kind"] == "files")
    assert isinstance(output, dict)
    return output


def counted(graph: Graph) -> tuple[int, int]:
    """How many files items point to, and how many pointers lead nowhere."""
    pages = range(graph.pages)
    return sum(1 + (n % 5 == 0) for n in pages), sum(n % 11 == 0 for n in pages)


def test_a_crawl_and_its_files(project: Project) -> None:
    graph = Graph(60)
    prepare(project)
    with Web(Shop(graph), HOSTS) as web:
        told = complete(project, web, graph, kills=0)
        assert web.counts()["/f/none"] == 1
        pointers, missing = counted(graph)
        assert (told["records"], told["lost"]) == (pointers, {"http_404": missing})
        assert told["downloaded"] + told["kept"] == pointers
        assert told["path"] == str(project.path("data/files"))
        said = (project.scratch / f"{project.runs}.err").read_text()
        assert f"data/files ({pointers} files); did not come: http_404 {missing}" in said
        before = len(web.log)
        complete(project, web, graph, kills=0)
        later = [seen.path for seen in web.log[before:] if seen.path.startswith(("/f", "/to"))]
        assert later == ["/f/none"], "a later run fetches no file that is there"


def test_killed_at_each_point(project: Project) -> None:
    graph = Graph(450)
    prepare(project)
    with Web(Shop(graph), HOSTS) as web:
        for passage, point in enumerate(POINTS, 1):
            passage = passage if point != "publish" else 1
            ended = start(project, web, kill=f"{point}:{passage}").wait()
            assert ended.code == -signal.SIGKILL, f"{point} never came: {ended.err[-2000:]}"
        told = complete(project, web, graph, kills=len(POINTS))
        pointers, missing = counted(graph)
        assert (told["records"], told["lost"]) == (pointers, {"http_404": missing})


def random_kills(project: Project, web: Web, *, seed: int, kills: int, most: int) -> None:
    dice = random.Random(seed)
    for _ in range(kills):
        run = start(project, web)
        web.after(dice.randint(1, most), run.kill, dice.random() * 0.05)
        assert run.wait().code == -signal.SIGKILL
        web.forget_alarms()


def test_killed_at_random_instants(project: Project) -> None:
    graph = Graph(500)
    prepare(project)
    with Web(Shop(graph), HOSTS) as web:
        random_kills(project, web, seed=3, kills=3, most=120)
        complete(project, web, graph, kills=3)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_long_random_kills(project: Project, seed: int) -> None:
    graph = Graph(2000)
    prepare(project, "keep_names = true" if seed % 2 else "")
    with Web(Shop(graph), HOSTS) as web:
        random_kills(project, web, seed=seed, kills=10, most=400)
        complete(project, web, graph, kills=10)


@pytest.mark.long
@pytest.mark.parametrize("point", POINTS[:-1])
def test_long_named_points(project: Project, point: str) -> None:
    graph = Graph(1500)
    prepare(project)
    with Web(Shop(graph), HOSTS) as web:
        for passage in (1, 2, 4):
            ended = start(project, web, kill=f"{point}:{passage}").wait()
            assert ended.code == -signal.SIGKILL, f"{point} never came: {ended.err[-2000:]}"
        complete(project, web, graph, kills=3)


def test_a_gentle_stop_fetches_nothing_twice(project: Project) -> None:
    graph = Graph(300)
    prepare(project)
    with Web(Shop(graph), HOSTS) as web:
        run = start(project, web)
        web.after(100, lambda: run.signal(signal.SIGTERM))
        run.wait().expect(143)
        complete(project, web, graph, kills=0)


@pytest.mark.long
def test_what_failed_is_retried_with_its_files(project: Project) -> None:
    """Also killed on the way, at each point and again."""
    graph = Graph(200)
    shop, ailing = Shop(graph), True

    def site(seen: Seen) -> Answer:
        number = seen.path.rpartition("/")[2]
        if ailing and seen.path.startswith("/p/") and int(number) % 10 in (3, 6) and number != "3":
            return text("out of order", 500)
        return shop(seen)

    prepare(project, more="[retry]\nattempts = 1\n")
    points = ["reopen:1", "reopen:4", *(f"{point}:1" for point in POINTS), "publish:3"]
    with Web(site, HOSTS) as web:
        first = start(project, web).wait().expect(0)
        assert 0 < first.json["items"] < graph.pages
        ailing = False
        for point in points:
            ended = project.start("failures", "pages", "--retry", env={VARIABLE: point}).wait()
            assert ended.code == -signal.SIGKILL, f"{point} never came: {ended.err[-2000:]}"
        done = project.scrape("failures", "pages", "--retry", "--json").expect(0)
        assert (done.json["items"], done.json["failed"]) == (graph.pages, 0)
        judge(project, web, graph, kills=len(points))
    told = next(o for o in done.json["outputs"] if o["kind"] == "files")
    pointers, missing = counted(graph)
    assert (told["records"], told["lost"]) == (pointers, {"http_404": missing})


# ── manners and limits ───────────────────────────────────────────────────────────────────


def one_page(*images: str) -> Reply:
    return html("".join(f'<img src="{url}">' for url in images))


def only_item(project: Project) -> list[dict[str, Any]]:
    (row,) = json_lines(project.path("out.jsonl"))
    files: list[dict[str, Any]] = row["files"]
    return files


def test_the_file_hosts_robots_txt_and_pace_hold(project: Project) -> None:
    def site(seen: Seen) -> Answer:
        address, port = seen.host.split(":")
        if seen.path == "/robots.txt":
            rules = {CDN: "User-agent: *\nDisallow: /secret\n", OTHER: "Disallow:"}
            return text(rules.get(address, ""))
        if seen.path == "/p/0":
            paths = [f"http://{CDN}:{port}/open/{n}" for n in range(4)]
            return one_page(*paths, f"http://{CDN}:{port}/secret/1", f"http://{OTHER}:{port}/hop")
        if seen.path == "/hop":
            return redirect(f"http://{CDN}:{port}/secret/2")
        return Reply(picture(len(seen.path)), type="image/png")

    prepare(project, more='[politeness.hosts."127.1.0.3"]\ndelay = 0.2\n')
    with Web(site, HOSTS) as web:
        start(project, web).wait().expect(0)
        asked = [seen.path for seen in web.seen(host=CDN)]
        assert asked[0] == "/robots.txt"
        assert sorted(asked[1:]) == [f"/open/{n}" for n in range(4)]
        begun = [seen.at for seen in web.seen(host=CDN)]
        assert begun[-1] - begun[0] > 4 * 0.2 - 0.15
        errors = [file["error"] for file in only_item(project)]
        assert errors == [None] * 4 + ["robots_denied"] * 2


def test_files_may_be_larger_than_pages_and_no_larger_than_they_may(project: Project) -> None:
    sizes = {"small": 1000, "large": 300_000, "huge": 2_000_000}

    def site(seen: Seen) -> Answer:
        if seen.path == "/p/0":
            return one_page(*(f"/{name}" for name in sizes))
        size = sizes.get(seen.path[1:])
        return text("", 404) if size is None else Reply(picture(0)[:8] + bytes(size))

    prepare(project, 'max_size = "1 MB"', "[http]\nmax_body = 20_000\nmax_wire = 20_000\n")
    with Web(site, HOSTS) as web:
        start(project, web).wait().expect(0)
        assert web.counts()["/huge"] == 1
    assert [f["size"] for f in only_item(project)] == [1008, 300_008, None]
    assert [f["error"] for f in only_item(project)] == [None, None, "body_too_large"]


def test_what_may_pass_is_tried_again_and_a_required_file_rejects(project: Project) -> None:
    tries: Counter[str] = Counter()

    def site(seen: Seen) -> Answer:
        tries[seen.path] += 1
        if seen.path == "/p/0":
            return html('<img src="/flaky"><a href="/p/1">1</a>')
        if seen.path == "/p/1":
            return one_page("/dead")
        if seen.path == "/robots.txt":
            return text("", 404)
        if seen.path == "/flaky" and tries["/flaky"] == 3:
            return Reply(picture(1), type="image/png")
        return text("broken", 500)

    prepare(project, "required = true", "[retry]\nbase = 0.01\n")
    with Web(site, HOSTS) as web:
        done = start(project, web).wait().expect(0)
        assert (web.counts()["/flaky"], web.counts()["/dead"]) == (3, 3)
    assert [file["error"] for file in only_item(project)] == [None]
    assert done.json["reasons"] == {"stage_error": 1}
    (rejected,) = json_lines(project.path("out.rejected.jsonl"))
    assert (rejected["stage"], rejected["reason"]) == ("Files", "stage_error")
    assert f"http_500: the file {web.url}/dead" in rejected["errors"][0]["message"]


def test_a_file_host_that_asks_for_quiet_puts_the_page_back(project: Project) -> None:
    asked: Counter[str] = Counter()

    def site(seen: Seen) -> Answer:
        asked[seen.path] += 1
        port = seen.host.partition(":")[2]
        if seen.path == "/p/0":
            return one_page(f"http://{CDN}:{port}/f/1")
        if seen.path == "/f/1" and asked["/f/1"] == 1:
            return text("slow down", 429, ("Retry-After", "1"))
        return Reply(picture(1), type="image/png") if seen.path == "/f/1" else text("", 404)

    prepare(project, more="[crawl]\nfetch_wait = 0\n")
    with Web(site, HOSTS) as web:
        done = start(project, web).wait().expect(0)
        assert (asked["/p/0"], asked["/f/1"]) == (2, 2)
        first, second = web.seen("/f/1")
        assert second.at - first.at > 1 - 0.15
    assert done.json["retries"] == 1
    assert [file["error"] for file in only_item(project)] == [None]


def test_a_silent_file_host_does_not_take_its_time_for_every_file(project: Project) -> None:
    def site(seen: Seen) -> Answer:
        head, _, tail = seen.path.rpartition("/")
        port = seen.host.partition(":")[2]
        if seen.path == "/p/0":
            return html("".join(f'<a href="/p/{n}">{n}</a>' for n in range(1, 41)))
        if head == "/p":
            host = CDN if int(tail) % 2 else OTHER
            return one_page(f"http://{host}:{port}/f/{tail}")
        if head == "/f":
            silent = seen.host.startswith(CDN)
            return SILENT if silent else Reply(picture(int(tail)), type="image/png")
        return text("", 404)

    more = "[http]\ntimeout = 1\n[retry]\nattempts = 2\nbase = 0.01\n"
    more += '[politeness.hosts."127.1.0.3"]\nper_host = 2\ndelay = 0\n'
    prepare(project, "timeout = 100", more)
    with Web(site, HOSTS) as web:
        done = start(project, web).wait().expect(0)
        asked = [seen for seen in web.seen(host=CDN) if seen.path != "/robots.txt"]
    assert done.json["items"] == 41
    rows = json_lines(project.path("out.jsonl"))
    ends = Counter(file["error"] for row in rows for file in row["files"])
    assert ends == {"timeout": 20, None: 20}
    assert len(asked) < 15, "those who wait for it give up together"


def test_an_output_of_the_command_line_keeps_the_files(project: Project) -> None:
    graph = Graph(3)
    prepare(project)
    with Web(Shop(graph), HOSTS) as web:
        start(project, web, "-o", "other.jsonl").wait().expect(0)
    assert not project.path("out.jsonl").exists()
    rows = json_lines(project.path("other.jsonl"))
    assert {f["path"] for row in rows for f in row["files"] if f["path"]} == stored(project).keys()


def test_files_alone_are_no_output_of_the_items(project: Project) -> None:
    project.spider(SPIDER)
    project.config('[[pipelines]]\nuse = "files"\nfields = ["images"]\n')
    with Web(Shop(Graph(3)), HOSTS) as web:
        start(project, web).wait().expect(0)
    assert len(json_lines(project.path("data/pages.jsonl"))) == 3


def test_a_failed_crawl_keeps_its_files_and_fresh_sets_nothing_of_them_aside(
    project: Project,
) -> None:
    graph = Graph(200)
    prepare(project)
    with Web(Shop(graph), HOSTS) as web:
        killed = start(project, web, kill="commit-after:6").wait()
        assert killed.code == -signal.SIGKILL
        done = start(project, web, "--fresh").wait().expect(0)
        assert done.json["items"] == 200
        files = stored(project)
        named = {
            file["path"]
            for row in json_lines(project.path("out.jsonl"))
            for file in row["files"]
            if file["path"]
        }
        aside = {path for path in files if "/.incoming/" in path}
        assert files.keys() - aside == named
        assert all(".aside/" in path for path in aside)


PEAK = """
    import sys
    from tests.memory import peak
    from scraper import Request, Spider, run

    class Large(Spider):
        name = "large"

        async def start(self):
            for n in range(int(sys.argv[1])):
                yield Request(f"{url}/p/{{n}}")

        async def parse(self, response):
            yield {{"image": response.css("img::attr(src)").get()}}

    files = {{"use": "files", "fields": ["image"], "directory": {directory!r} + sys.argv[1]}}
    host = {{"127.*": {{"delay": 0, "per_host": 64, "adaptive": False}}}}
    settings = {{"politeness": {{"hosts": host}}, "pipelines": [files]}}
    result = run(Large, settings=settings, output={directory!r} + "/out.jsonl")
    assert result.outputs[0]["records"] == int(sys.argv[1]), result
    print(peak())
"""


def test_large_files_do_not_pass_through_memory(project: Project) -> None:
    size = 8 << 20

    def site(seen: Seen) -> Answer:
        head, _, tail = seen.path.rpartition("/")
        if head == "/p":
            return one_page(f"/f/{tail}")
        if head == "/f":
            return Reply(picture(int(tail))[:64] + bytes(size), type="image/png")
        return text("", 404)

    with Web(site) as web:
        project.path("files").mkdir()
        program = PEAK.format(url=web.url, directory=str(project.path("files")))
        few, many = peak_of(program, 1), peak_of(program, 24)
    assert many - few < 48, f"{few} MB for one file, {many} MB for 24 of 8 MB each"


# ── a full disk ──────────────────────────────────────────────────────────────────────────


def largest_file_is_a_megabyte() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))


def test_a_full_disk_stops_and_loses_nothing(project: Project) -> None:
    def site(seen: Seen) -> Answer:
        if seen.path == "/p/0":
            return html('<img src="/small"><a href="/p/1">1</a>')
        if seen.path == "/p/1":
            return one_page("/large")
        if seen.path in ("/small", "/large"):
            return Reply(picture(0)[:8] + bytes(3_000_000 if seen.path == "/large" else 1000))
        return text("", 404)

    prepare(project)
    with Web(site, HOSTS) as web:
        ended = start(project, web, preexec=largest_file_is_a_megabyte).wait().expect(4)
        assert "cannot write" in ended.err
        assert ".incoming" in ended.err
        done = start(project, web).wait().expect(0)
        assert done.json["resumed"] is True
    rows = json_lines(project.path("out.jsonl"))
    assert [[f["size"] for f in row["files"]] for row in rows] == [[1008], [3_000_008]]
    assert {f["path"] for row in rows for f in row["files"]} == stored(project).keys()
