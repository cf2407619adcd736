"""`scrape failures --retry`: what failed is added, once, whatever is killed and whenever."""

from __future__ import annotations

import json
import random
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from scraper.frontier.inspect import Summary, inspect, read_failures
from scraper.testing.points import POINTS, VARIABLE
from tests.crawl.harness import GRAPH_SPIDER, Finished, Project, json_lines, tree
from tests.crawl.outputs import OUTPUTS, SPIDER, Output, expected
from tests.servers.graph import Graph
from tests.servers.web import Answer, Reply, Seen, Web, redirect, text

GRAPH = Graph(240)
SLOW = 'politeness.hosts."127.*".delay=1'
ONCE = ("-s", "retry.attempts=1")


class Ailing:
    """A graph of which 3 pages in 10 answer 500, until they are mended."""

    def __init__(self, graph: Graph = GRAPH) -> None:
        self.graph = graph
        self.broken = {n for n in range(7, graph.pages) if n % 10 in (3, 6, 9)}

    def __call__(self, seen: Seen) -> Answer:
        number = seen.path.rpartition("/")[2]
        if number.isdigit() and int(number) in self.broken:
            return text("out of order", 500)
        return self.graph(seen)


def ledger(project: Project, spider: str = "pages") -> Path:
    (found,) = project.path(".scrape").glob(f"{spider}/*/ledger.sqlite")
    return found


def summary(project: Project, spider: str = "pages") -> Summary:
    return inspect(ledger(project, spider))


def files(project: Project) -> dict[str, int]:
    """What there is, but for the files that SQLite puts beside a ledger that it reads; a lock
    holds the number of the last process, which may be shorter."""
    found = {n: s for n, s in tree(project.root).items() if not n.endswith(("-wal", "-shm"))}
    return {n: 0 if n.endswith("/lock") else size for n, size in found.items()}


def leftovers(project: Project) -> list[str]:
    return [n for n in tree(project.root) if n.endswith((".lock", ".partial", ".copy", ".base"))]


# -- every output ----------------------------------------------------------------------------


def prepare(project: Project, output: Output) -> None:
    project.spider(SPIDER)
    project.config("".join(f"\n[[pipelines]]\n{table}\n" for table in output.tables.split("\n\n")))


def crawl(project: Project, web: Web, output: Output) -> Finished:
    both = str(output.both).lower()
    base = f"base={web.url}"
    return project.scrape("run", "pages", "-a", base, "-a", f"both={both}", "--json", *ONCE)


def judge(project: Project, output: Output, graph: Graph = GRAPH) -> None:
    rows = output.read(project.root)
    assert Counter(row["n"] for row in rows) == dict.fromkeys(range(graph.pages), 1)
    for row in rows:
        assert row == expected(row["n"], list(graph.links(row["n"])))
    assert leftovers(project) == []


@pytest.mark.parametrize("name", OUTPUTS)
def test_what_failed_is_added(project: Project, name: str) -> None:
    output, site = OUTPUTS[name], Ailing()
    prepare(project, output)
    with Web(site) as web:
        first = crawl(project, web, output).expect(0)
        failed = {urls["url"] for urls in read_failures(ledger(project))}
        assert len(failed) == first.json["failed"] > 40
        assert len(output.read(project.root)) == first.json["pages"]

        site.broken = {n for n in site.broken if n % 10 != 3}
        project.scrape("failures", "pages", "--retry", *ONCE).expect(0)  # some fail again
        site.broken.clear()
        seen = len(web.log)
        again = {failed["url"] for failed in read_failures(ledger(project))}
        done = project.scrape("failures", "pages", "--retry", "--json", *ONCE).expect(0)

        counts = (1 + output.both) * GRAPH.pages
        told = {key: done.json[key] for key in ("pages", "items", "failed", "resumed", "finished")}
        assert told == {
            "pages": GRAPH.pages,
            "items": counts,
            "failed": 0,
            "resumed": True,
            "finished": True,
        }
        fetched = Counter(web.url + one.path for one in web.log[seen:])
        assert all(fetched[url] == 1 for url in again)
        assert len(fetched) <= GRAPH.pages - first.json["pages"] + 1  # and robots.txt
    judge(project, output)

    before = files(project)
    nothing = project.scrape("failures", "pages", "--retry").expect(0)
    assert "there is nothing to retry" in nothing.err
    assert files(project) == before


@pytest.mark.parametrize(
    "name",
    [
        "jsonl",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("jsonl.gz", "parts", "parquet", "parquet, parts")
        ),
    ],
)
def test_killed_at_each_point(project: Project, name: str) -> None:
    """A retry that is killed goes on with either command, and nothing comes twice."""
    output, site = OUTPUTS[name], Ailing()
    prepare(project, output)
    points = [
        *("reopen:1", "reopen:3"),  # before it has begun, and at the first output
        *("reopen:1", "reopen:2", "reopen:3"),  # going on: at each of the two, and after them
        *(f"{point}:1" for point in POINTS if point != "publish"),
        *("publish:1", "publish:2", "publish:3"),
    ]
    with Web(site) as web:
        first = crawl(project, web, output).expect(0)
        site.broken.clear()
        base = ("-a", f"base={web.url}", "-a", f"both={str(output.both).lower()}")
        for turn, point in enumerate(points):
            command = ("failures", "pages", "--retry") if turn % 2 else ("run", "pages", *base)
            if turn < 2:  # until it has begun, there is nothing to go on with
                command = ("failures", "pages", "--retry")
            ended = project.start(*command, env={VARIABLE: point}).wait()
            assert ended.code == -signal.SIGKILL, f"{point} never came: {ended.err[-2000:]}"
        assert len(output.read(project.root)) in (first.json["pages"], GRAPH.pages)
        before = len(web.log)
        done = project.scrape("failures", "pages", "--retry", "--json").expect(0)
        assert done.json["finished"] is True
        assert done.json["items"] == GRAPH.pages
        assert len(web.log) == before
    judge(project, output)


def test_killed_while_it_begins(project: Project) -> None:
    """Before the ledger says so nothing has changed; after it the plain command goes on."""
    site = Ailing()
    prepare(project, OUTPUTS["jsonl"])
    with Web(site) as web:
        crawl(project, web, OUTPUTS["jsonl"]).expect(0)
        failed = summary(project).failures
        site.broken.clear()
        retry = ("failures", "pages", "--retry")
        project.start(*retry, env={VARIABLE: "reopen:1"}).wait()
        assert (summary(project).phase, summary(project).failures) == ("finished", failed)
        project.start(*retry, env={VARIABLE: "reopen:2"}).wait()
        assert (summary(project).phase, summary(project).failures) == ("reopening", 0)
        assert summary(project).pending == failed
        listed = project.scrape("status", "--json").expect(0)
        assert json.loads(listed.out)[0]["state"] == "unfinished"
        done = crawl(project, web, OUTPUTS["jsonl"]).expect(0)
        assert done.json["resumed"] is True
    judge(project, OUTPUTS["jsonl"])


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["jsonl", "jsonl.gz", "parts"])
def test_long_random_kills(project: Project, name: str, seed: int) -> None:
    """Retried in three turns, each killed at drawn instants of time and progress."""
    output, dice, graph = OUTPUTS[name], random.Random(seed), Graph(3000)
    site = Ailing(graph)
    prepare(project, output)
    kills = 0
    with Web(site) as web:
        crawl(project, web, output).expect(0)
        base = ("run", "pages", "-a", f"base={web.url}", "-a", "both=false", *ONCE)
        for digit in (3, 6, 9):
            site.broken = {n for n in site.broken if n % 10 != digit}
            command: tuple[str, ...] = ("failures", "pages", "--retry", *ONCE)
            while True:
                run = project.start(*command)
                if dice.random() < 0.7:
                    web.after(dice.randint(1, 200), run.kill, dice.random() * 0.02)
                else:
                    threading.Timer(dice.uniform(0.3, 1.5), run.kill).start()
                ended = run.wait()
                web.forget_alarms()
                if ended.code != -signal.SIGKILL:
                    ended.expect(0)
                    break
                kills += 1
                command = base if summary(project).phase == "running" else command
                if kills > 40:
                    project.scrape(*command).expect(0)
                    break
        project.scrape("failures", "pages", "--retry").expect(0)
    assert kills > 3
    judge(project, output, graph)


# -- whatever state the job is in ------------------------------------------------------------


def test_an_unfinished_job(project: Project) -> None:
    site = Ailing()
    prepare(project, OUTPUTS["jsonl"])
    with Web(site) as web:
        run = project.start("run", "pages", "-a", f"base={web.url}", *ONCE)
        web.after(120, lambda: run.signal(signal.SIGTERM))
        run.wait().expect(143)
        web.forget_alarms()
        failed = {failed["url"] for failed in read_failures(ledger(project))}
        assert failed
        site.broken.clear()
        done = project.scrape("failures", "pages", "--retry", "--json").expect(0)
        assert "retrying" in done.err
        assert (done.json["failed"], done.json["pages"]) == (0, GRAPH.pages)
    judge(project, OUTPUTS["jsonl"])


def test_a_failed_job_is_published_after_all(project: Project) -> None:
    site = Ailing()
    prepare(project, OUTPUTS["jsonl"])
    project.path("out.jsonl").write_bytes(b'{"of": "an earlier crawl"}\n')
    strict = ("-s", "crawl.max_failure_rate=0.1", *ONCE)
    with Web(site) as web:
        base = f"base={web.url}"
        first = project.scrape("run", "pages", "-a", base, "--json", *strict).expect(1)
        assert first.json["ended"] == "failed"
        assert len(json_lines(project.path("out.jsonl.failed"))) == first.json["items"]
        assert len(json_lines(project.path("out.jsonl"))) == 1

        second = project.scrape("failures", "pages", "--retry", "--json", *strict).expect(1)
        assert second.json["ended"] == "failed"
        assert len(json_lines(project.path("out.jsonl.failed-2"))) == first.json["items"]
        assert len(json_lines(project.path("out.jsonl"))) == 1

        site.broken.clear()
        for point in ("reopen:3", "reopen:3", "write:1", "publish:1", "publish:2"):
            killed = project.start("failures", "pages", "--retry", env={VARIABLE: point}).wait()
            assert killed.code == -signal.SIGKILL
        done = project.scrape("failures", "pages", "--retry", "--json").expect(0)
        assert done.json["finished"] is True
    judge(project, OUTPUTS["jsonl"])


def test_a_crawl_that_stopped_at_its_errors_goes_on(project: Project) -> None:
    site = Ailing()
    prepare(project, OUTPUTS["jsonl"])
    with Web(site) as web:
        few = ("-s", "crawl.max_errors=5", *ONCE)
        first = project.scrape("run", "pages", "-a", f"base={web.url}", *few, "--json").expect(1)
        assert first.json["pending"] > 0
        site.broken.clear()
        project.scrape("failures", "pages", "--retry", *few).expect(0)
    judge(project, OUTPUTS["jsonl"])


def test_a_file_that_grows(project: Project) -> None:
    """Mode append: what others wrote stays, before and after."""
    site = Ailing()
    prepare(project, OUTPUTS["jsonl"])
    project.config('[[pipelines]]\nuse = "jsonl"\npath = "out.jsonl"\nmode = "append"\n')
    out = project.path("out.jsonl")
    out.write_bytes(b'{"n": "before"}\n')
    with Web(site) as web:
        base = ("-a", f"base={web.url}")
        strict = ("-s", "crawl.max_failure_rate=0.1", *ONCE)
        project.scrape("run", "pages", *base, *strict).expect(1)
        assert [r["n"] for r in json_lines(out)] == ["before"]
        with out.open("ab") as file:
            file.write(b'{"n": "between"}\n')
        site.broken = {n for n in site.broken if n % 10 == 3}
        project.scrape("failures", "pages", "--retry").expect(0)
        with out.open("ab") as file:
            file.write(b'{"n": "after"}\n')
        site.broken.clear()
        for point in ("reopen:4", "reopen:2", "reopen:3", "write:1"):
            killed = project.start("failures", "pages", "--retry", env={VARIABLE: point}).wait()
            assert killed.code == -signal.SIGKILL
        project.scrape("failures", "pages", "--retry").expect(0)
    numbers = Counter(record["n"] for record in json_lines(out))
    assert numbers == dict.fromkeys([*range(GRAPH.pages), "before", "between", "after"], 1)
    assert leftovers(project) == []


def test_only_those_asked_for(project: Project) -> None:
    site = Ailing()
    project.spider(GRAPH_SPIDER)

    def ill(seen: Seen) -> Answer:
        if seen.path.endswith("3"):
            return text("gone", 404)
        return site(seen)

    with Web(ill) as web:
        project.scrape("run", "pages", "-a", f"base={web.url}", "-o", "out.jsonl", *ONCE).expect(0)
        listed = project.scrape("failures", "pages", "--reason", "http_404", "--json").expect(0)
        gone = [json.loads(line) for line in listed.out.splitlines()]
        assert gone
        assert {failed["reason"] for failed in gone} == {"http_404"}
        other = project.scrape("failures", "pages", "--retry", "--reason", "timeout").expect(0)
        assert "there is nothing to retry" in other.err
        before = len(web.log)
        done = project.scrape("failures", "pages", "--retry", "--reason", "http_404", "--json")
        assert done.expect(0).json["reasons"]["http_404"] == len(gone)
        fetched = [seen.path for seen in web.log[before:] if seen.path != "/robots.txt"]
        assert sorted(web.url + path for path in fetched) == sorted(f["url"] for f in gone)


# -- what keeps a retry from beginning -------------------------------------------------------


def refused(project: Project, *words: str, args: tuple[str, ...] = ()) -> None:
    """A retry ends with exit 2 and these words, and nothing has changed."""
    before, said = files(project), summary(project)
    done = project.scrape("failures", "pages", "--retry", *args).expect(2)
    for word in words:
        assert word in done.err
    assert files(project) == before
    now = summary(project)
    assert (now.phase, now.failures, now.pending) == (said.phase, said.failures, said.pending)


def test_an_output_that_is_not_what_was_published(project: Project) -> None:
    site = Ailing()
    prepare(project, OUTPUTS["jsonl"])
    out = project.path("out.jsonl")
    with Web(site) as web:
        crawl(project, web, OUTPUTS["jsonl"]).expect(0)
        site.broken.clear()
        whole = out.read_bytes()
        moved = out.with_name("moved.jsonl")
        out.rename(moved)
        refused(project, f"{out} is gone", "Put the output back")
        out.write_bytes(whole[:-10])
        refused(project, f"{out} holds {len(whole) - 10:,} bytes, and {len(whole):,}")
        out.write_bytes(whole[:-10] + whole[-10:].upper())
        refused(project, f"{out} is not what this crawl delivered")
        out.write_bytes(whole + b'{"n": 1000}\n')
        refused(project, f"{out} is not what this crawl delivered")
        out.unlink()
        moved.rename(out)
        project.scrape("failures", "pages", "--retry").expect(0)
    judge(project, OUTPUTS["jsonl"])


def test_what_cannot_be_added_to(project: Project) -> None:
    site = Ailing()
    project.spider(GRAPH_SPIDER)
    with Web(site) as web:
        project.scrape("run", "pages", "-a", f"base={web.url}", "-o", "-", *ONCE).expect(0)
        refused(project, "nothing can be added to standard output")


def test_limits(project: Project) -> None:
    site = Ailing()
    project.spider(GRAPH_SPIDER)
    with Web(site) as web:
        base = ("-a", f"base={web.url}", "-o", "out.jsonl", *ONCE)
        project.scrape("run", "pages", *base, "--limit", "50").expect(0)
        refused(project, "was cut at crawl.max_items")
        project.scrape("run", "pages", *base, "-s", "crawl.max_pages=60").expect(0)
        refused(project, "at its limit", "crawl.max_pages = 60", args=("-s", "crawl.max_pages=60"))
        site.broken.clear()
        project.scrape("failures", "pages", "--retry").expect(0)  # no limit: all of it goes on
        assert len(json_lines(project.path("out.jsonl"))) == GRAPH.pages


def test_other_outputs_than_the_jobs(project: Project) -> None:
    site = Ailing()
    prepare(project, OUTPUTS["jsonl"])
    with Web(site) as web:
        crawl(project, web, OUTPUTS["jsonl"]).expect(0)
        prepare(project, OUTPUTS["jsonl.gz"])
        refused(project, "this job was created with outputs", "out.jsonl.gz")


def test_a_job_that_runs(project: Project) -> None:
    site = Ailing()
    prepare(project, OUTPUTS["jsonl"])
    with Web(site) as web:
        begun = threading.Event()
        web.after(5, begun.set)
        run = project.start("run", "pages", "-a", f"base={web.url}", "-s", SLOW, *ONCE)
        assert begun.wait(60)
        done = project.scrape("failures", "pages", "--retry").expect(2)
        assert "is running already" in done.err
        run.twice(signal.SIGINT)
        run.wait().expect(130)


# -- requests of other kinds -----------------------------------------------------------------

KINDS = """
from scraper import Output, Request, Response, Spider

class Kinds(Spider):
    name = "kinds"
    base: str
    token: str = ""

    async def start(self):
        yield Request(self.base + "/away/1")
        yield Request(self.base + "/post/2", form={"n": 2})
        yield Request(self.base + "/errback/3", errback=self.failed)
        yield Request(self.base + "/links/4", errback=self.failed)

    async def parse(self, response: Response) -> Output:
        yield {"page": response.url.rpartition(":")[2].partition("/")[2]}

    async def failed(self, failure) -> Output:
        yield {"failed": failure.request.url.rpartition("/")[2]}
        if "links" in failure.request.url:
            yield Request(self.base + "/page/5", unique=False)
"""


class Kinds:
    def __init__(self) -> None:
        self.ill = True

    def __call__(self, seen: Seen) -> Answer:
        if seen.path.startswith("/away"):
            return text("ill", 500) if self.ill else redirect(f"http://127.0.0.2:{self.port}/here")
        if self.ill and not seen.path.startswith(("/page", "/robots")):
            return text("ill", 500)
        return Reply(b"<p>well</p>")

    port = 0


def delivered(project: Project) -> list[str]:
    return sorted(str(next(iter(r.values()))) for r in json_lines(project.path("out.jsonl")))


def test_redirects_posts_and_errbacks(project: Project) -> None:
    site = Kinds()
    project.spider(KINDS)
    rate = ("-s", "crawl.max_failure_rate=1", *ONCE)
    with Web(site, addresses=("127.0.0.1", "127.0.0.2")) as web:
        site.port = web.port
        done = project.scrape("run", "kinds", "-a", f"base={web.url}", "-o", "out.jsonl", *rate)
        done.expect(0)
        assert delivered(project) == ["3", "4", "page/5"]
        # what the errbacks yielded is there already, and so is the page that one of them asked for
        again = project.scrape("failures", "kinds", "--retry", "--json", *rate).expect(0)
        assert "left out: 1 that may not be sent twice" in again.err
        assert delivered(project) == ["3", "4", "page/5"]
        assert web.counts()["/page/5"] == 1
        assert again.json["drops"] == {"delivered_before": 2}
        site.ill = False
        # a start request's redirect still widens the scope; the callbacks' items are new
        done = project.scrape("failures", "kinds", "--retry", "--json", *rate).expect(0)
        assert delivered(project) == ["3", "4", "errback/3", "here", "links/4", "page/5"]
        assert done.json["reasons"] == {"http_500": 1}
        assert web.counts()["/post/2"] == 1
        named = project.scrape("failures", "kinds", "--retry", "--reason", "http_500", "--json")
        assert named.expect(0).json["failed"] == 0
        assert web.counts()["/post/2"] == 2
        assert "post/2" in delivered(project)


def test_the_spider_may_be_a_file(project: Project) -> None:
    site = Ailing()
    project.path("config.toml").unlink()
    project.spider(GRAPH_SPIDER)
    with Web(site) as web:
        lenient = ("-s", 'politeness.hosts."127.*".delay=0', *ONCE)
        run = ("run", "spiders/site.py", "-a", f"base={web.url}", "-o", "out.jsonl")
        project.scrape(*run, *lenient).expect(0)
        site.broken.clear()
        project.scrape("failures", "spiders/site.py", "--retry", *lenient).expect(0)
        assert len(json_lines(project.path("out.jsonl"))) == GRAPH.pages


def test_a_secret_argument_is_asked_for(project: Project) -> None:
    project.spider(
        GRAPH_SPIDER.replace("    base: str\n", "    base: str\n    key: SecretStr\n").replace(
            "from scraper", "from pydantic import SecretStr\nfrom scraper", 1
        )
    )
    site = Ailing()
    with Web(site) as web:
        run = ("run", "pages", "-a", f"base={web.url}", "-a", "key=canary", "-o", "out.jsonl")
        project.scrape(*run, *ONCE).expect(0)
        refused(project, "does not keep the secret argument key", "-a key=VALUE")
        site.broken.clear()
        done = project.scrape("failures", "pages", "--retry", "-a", "key=canary").expect(0)
        assert "canary" not in done.err
        assert len(json_lines(project.path("out.jsonl"))) == GRAPH.pages
