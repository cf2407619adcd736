"""`scrape rejects --retry`: once the spider is mended, what was missing is added, and no more."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from scraper.frontier.inspect import inspect, read_rejects
from scraper.testing.points import POINTS, VARIABLE
from tests.crawl.harness import Project, json_lines, tree
from tests.servers.web import Answer, Reply, Seen, Web, redirect, text

PAGES, ROWS = 60, 7

SHOP = """
from decimal import Decimal
from typing import Annotated

from scraper import Css, Item, Output, Request, Response, Spider


class Row(Item):
    name: Annotated[str, Css("b")]
    price: Annotated[Decimal, Css({prices})]


class Shop(Spider):
    name = "shop"
    base: str

    async def start(self):
        for n in range({pages}):
            yield Request(f"{{self.base}}/list/{{n}}")

    async def parse(self, response: Response) -> Output:
        for row in response.extract_all(Row, "li"):
            yield row{more}
"""

WRONG, HALF, RIGHT = '"i"', '"i", "u"', '"i", "u", "s"'


def shop(prices: str, *, pages: int = PAGES, more: str = "") -> str:
    return SHOP.format(prices=prices, pages=pages, more=more)


class Lists:
    """Pages of rows; on every third page some prices stand in `<u>` and some in `<s>`."""

    def __init__(self) -> None:
        self.new: dict[int, list[str]] = {}  # rows that came on top of a page since
        self.gone: set[str] = set()

    def rows(self, page: int) -> list[tuple[str, str]]:
        rows = []
        for row in range(ROWS):
            tag = "i"
            if page % 3 == 0:
                tag = {0: "u", 3: "s"}.get((page + row) % 5, "i")
            rows.append((f"{page}.{row}", tag))
        return rows

    def __call__(self, seen: Seen) -> Answer:
        _, kind, number = (*seen.path.split("/"), "", "")[:3]
        if kind != "list":
            return text("", 404)
        rows = [(name, "i") for name in self.new.get(int(number), [])]
        rows += [row for row in self.rows(int(number)) if row[0] not in self.gone]
        lines = (f"<li><b>{name}</b> <{tag}>{price(name)}</{tag}></li>" for name, tag in rows)
        return Reply(f"<!doctype html><ul>{''.join(lines)}</ul>".encode())


def price(name: str) -> str:
    page, _, row = name.partition(".")
    return f"{page}.{row:0>2}"


def names(*tags: str) -> set[str]:
    return {name for n in range(PAGES) for name, tag in Lists().rows(n) if tag in tags}


EVERYTHING = names("i", "u", "s")


def delivered(project: Project, file: str = "out.jsonl") -> Counter[str]:
    return Counter(str(record["name"]) for record in json_lines(project.path(file)))


def once(found: set[str]) -> dict[str, int]:
    return dict.fromkeys(found, 1)


def run(project: Project, web: Web, *more: str) -> Any:
    return project.scrape(
        "run", "shop", "-a", f"base={web.url}", "-o", "out.jsonl", "--json", *more
    )


def retry(project: Project, *more: str) -> Any:
    return project.scrape("rejects", "shop", "--retry", "--json", *more).expect(0).json


def ledger(project: Project) -> Path:
    (found,) = project.path(".scrape").glob("shop/*/ledger.sqlite")
    return found


def test_what_was_missing_is_added(project: Project) -> None:
    project.spider(shop(WRONG))
    with Web(Lists()) as web:
        first = run(project, web).expect(0)
        missing = names("u", "s")
        assert first.json["rejected"] == len(missing) > 30
        assert delivered(project) == once(names("i"))
        lines = json_lines(project.path("out.rejected.jsonl"))
        assert len(lines) == len(missing)
        pages = {line["page"] for line in lines}
        assert len(pages) == len(list(read_rejects(ledger(project)))) == PAGES // 3

        project.spider(shop(HALF))
        half = retry(project)
        assert half["rejected"] == len(names("s"))
        watched = half["quality"]["items"]["Row"]
        assert watched["rejected"] == watched["fields"]["price"]["rejected"] == len(names("s"))
        assert watched["count"] == half["items"]
        assert half["pages"] == PAGES
        assert half["items"] == len(names("i", "u"))
        assert half["quality"]["items"]["Row"]["rejected"] == len(names("s"))
        assert half["quality"]["compared"] == 0, "a run is no earlier run of its own"
        assert delivered(project) == once(names("i", "u"))
        lines = json_lines(project.path("out.rejected.jsonl"))
        assert Counter(line["values"]["name"] for line in lines) == once(names("s"))
        assert not pages & {line["page"] for line in lines}
        assert inspect(ledger(project)).state["retracted"] == b""

        project.spider(shop(RIGHT))
        before = len(web.log)
        done = retry(project)
        assert (done["rejected"], done["items"], done["pages"]) == (0, len(EVERYTHING), PAGES)
        row = done["quality"]["items"]["Row"]
        assert (row["count"], row["rejected"], row["reasons"]) == (len(EVERYTHING), 0, {})
        assert (row["fields"]["price"]["rejected"], row["fields"]["price"]["because"]) == (0, {})
        assert done["reasons"] == {}
        watched = done["quality"]["items"]["Row"]
        assert (watched["rejected"], watched["reasons"]) == (0, {})
        assert watched["fields"]["price"]["because"] == {}
        fetched = Counter(seen.path for seen in web.log[before:] if seen.path != "/robots.txt")
        assert set(fetched.values()) == {1}
        assert len(fetched) < PAGES // 3 + 1
    assert delivered(project) == once(EVERYTHING)
    assert not project.path("out.rejected.jsonl").exists()
    records = {
        str(record["name"]): record["price"] for record in json_lines(project.path("out.jsonl"))
    }
    assert records == {name: price(name) for name in EVERYTHING}
    assert "there is nothing to retry" in project.scrape("rejects", "shop", "--retry").expect(0).err


def test_killed_at_each_point(project: Project) -> None:
    project.spider(shop(WRONG))
    points = [
        *("reopen:1", "reopen:3", "reopen:1", "reopen:2", "reopen:3"),
        *(f"{point}:1" for point in POINTS if point != "publish"),
        *("publish:1", "publish:2", "publish:3"),
    ]
    with Web(Lists()) as web:
        run(project, web).expect(0)
        project.spider(shop(HALF))
        base = ("-a", f"base={web.url}", "-o", "out.jsonl")
        for turn, point in enumerate(points):
            command = ("rejects", "shop", "--retry") if turn % 2 else ("run", "shop", *base)
            if turn < 2:
                command = ("rejects", "shop", "--retry")
            ended = project.start(*command, env={VARIABLE: point}).wait()
            assert ended.code == -signal.SIGKILL, f"{point} never came: {ended.err[-2000:]}"
        project.scrape("run", "shop", *base).expect(0)  # it was being published
        assert delivered(project) == once(names("i", "u"))
        lines = json_lines(project.path("out.rejected.jsonl"))
        assert Counter(line["values"]["name"] for line in lines) == once(names("s"))
        listed = project.scrape("rejects", "shop", "--json").expect(0).out.splitlines()
        assert len(listed) == len(lines)
        project.spider(shop(RIGHT))
        retry(project)
    assert delivered(project) == once(EVERYTHING)
    assert not project.path("out.rejected.jsonl").exists()
    left = [n for n in tree(project.root) if n.endswith((".lock", ".partial", ".copy"))]
    assert left == []


def test_an_unfinished_job(project: Project) -> None:
    project.spider(shop(WRONG))
    with Web(Lists()) as web:
        crawl = project.start(
            "run", "shop", "-a", f"base={web.url}", "-o", "out.jsonl", *ONE_BY_ONE
        )
        web.after(30, lambda: crawl.signal(signal.SIGTERM))
        crawl.wait().expect(143)
        web.forget_alarms()
        rejected = len(json_lines(project.path("out.rejected.jsonl.partial")))
        listed = project.scrape("rejects", "shop", "--json").expect(0).out.splitlines()
        assert len(listed) == rejected > 0
        project.spider(shop(RIGHT))
        done = retry(project)
        assert (done["rejected"], done["pages"]) == (0, PAGES)
    assert delivered(project) == once(EVERYTHING)
    assert not project.path("out.rejected.jsonl").exists()


ONE_BY_ONE = ("-s", "crawl.concurrency=1", "-s", "crawl.group_interval=0.01")


def test_a_run_of_which_nothing_fitted(project: Project) -> None:
    """It failed, and kept its output aside; mended, it is published after all."""
    project.spider(shop('"q"'))
    out = project.path("out.jsonl")
    out.write_bytes(b'{"name": "of an earlier run"}\n')
    with Web(Lists()) as web:
        first = run(project, web).expect(1)
        assert first.json["items"] == 0
        said = project.scrape("rejects", "shop").expect(0).err
        assert str(project.path("out.rejected.jsonl.failed")) in said
        assert out.read_bytes() == b'{"name": "of an earlier run"}\n'
        project.spider(shop(HALF))
        for point in ("reopen:3", "reopen:2", "write:1", "publish:2"):
            killed = project.start("rejects", "shop", "--retry", env={VARIABLE: point}).wait()
            assert killed.code == -signal.SIGKILL
        done = retry(project)
        assert done["finished"] is True
        assert len(json_lines(project.path("out.rejected.jsonl"))) == len(names("s"))
        project.spider(shop(RIGHT))
        retry(project)
    assert delivered(project) == once(EVERYTHING)
    assert not project.path("out.rejected.jsonl").exists()


@pytest.mark.parametrize("some_gone", [False, True])
def test_the_page_has_changed_since(project: Project, some_gone: bool) -> None:
    """What is known stays out, wherever it stands now; what is new is added.

    Unless it stands where something else did that is gone: it might be that one, changed.
    """
    site = Lists()
    project.spider(shop(WRONG))
    with Web(site) as web:
        run(project, web).expect(0)
        again = {page["url"].rpartition("/")[2] for page in read_rejects(ledger(project))}
        site.new = {n: [f"9{n}.{k}" for k in range(3)] for n in range(0, PAGES, 3)}
        if some_gone:
            rows = ((n, k) for n in range(PAGES) for k in range(ROWS) if (n + k) % 5 == 1)
            site.gone = {f"{n}.{k}" for n, k in rows}
        project.spider(shop(RIGHT))
        retry(project)
    new, found = {f"9{n}.{k}" for n in again for k in range(3)}, delivered(project)
    assert set(found.values()) == {1}
    assert found.keys() - new == EVERYTHING
    assert len(new - found.keys()) == (8 if some_gone else 0)


def test_the_mended_callback_reads_all_of_it_otherwise(project: Project) -> None:
    """Then items count by their places."""
    project.spider(shop(WRONG))
    with Web(Lists()) as web:
        run(project, web).expect(0)
        project.spider(
            shop(RIGHT).replace(
                "yield row", 'yield row.model_copy(update={"name": row.name + "!"})'
            )
        )
        retry(project)
    found = delivered(project)
    assert Counter(name.rstrip("!") for name in found.elements()) == once(EVERYTHING)
    assert {name for name in found if name.endswith("!")} == {f"{n}!" for n in names("u", "s")}


def test_by_reason_and_field(project: Project) -> None:
    project.spider(shop(WRONG))
    project.config('[[pipelines]]\nuse = "pipelines.picky:Picky"\n')
    project.path("pipelines").mkdir()
    stage = project.path("pipelines/picky.py")
    stage.write_text(PICKY.format(bad="1."))
    with Web(Lists()) as web:
        run(project, web).expect(0)
        failed = {f"1.{n}" for n in range(ROWS)}
        said = project.scrape("rejects", "shop").expect(0)
        assert len(said.out.splitlines()) == len(names("u", "s") | failed)
        told = said.err.splitlines()
        assert told[0].endswith(f"{len(names('u', 's') | failed):,} items rejected")
        assert f"{len(names('u', 's')):>7,}  item_invalid" in told[1]
        assert f"{len(names('u', 's')):>7,}  Row.price: nothing on the page matches" in told[2]
        assert "7  stage_error" in told[3]
        assert "7  Picky: ValueError: not this" in told[4]
        assert str(project.path("out.rejected.jsonl")) in told[-1]
        by_field = project.scrape("rejects", "shop", "--field", "price", "--json").expect(0)
        rows = [json.loads(line) for line in by_field.out.splitlines()]
        assert len(rows) == len(names("u", "s"))
        assert rows[0].keys() == {"at", "url", "depth", "reason", "item", "stage", "errors"}
        assert {error["field"] for row in rows for error in row["errors"]} == {"price"}

        stage.write_text(PICKY.format(bad="nothing"))
        project.spider(shop(RIGHT))
        before = len(web.log)
        retry(project, "--reason", "stage_error")
        paths = [seen.path for seen in web.log[before:]]
        assert sorted(paths) == ["/list/1", "/robots.txt"]
        assert delivered(project) == once(names("i"))
        retry(project, "--field", "price")
    assert delivered(project) == once(EVERYTHING)


PICKY = """
class Picky:
    async def process(self, item, page):
        item.price += 0  # stages may change an item: it is known as it was yielded
        if item.name.startswith("{bad}"):
            raise ValueError("not this")
        item.name = item.name + ""
        return item
"""


def test_requests_that_are_not_unique_are_not_made_again(project: Project) -> None:
    more = """
        number = response.url.rpartition("/")[2]
        yield response.follow(f"/detail/{number}", self.detail, unique=False)

    async def detail(self, response: Response) -> Output:
        yield {"name": response.url.rpartition(":")[2].partition("/")[2]}
"""
    project.spider(shop(WRONG, more=more))
    lists = Lists()

    def site(seen: Seen) -> Answer:
        return Reply(b"<p>") if seen.path.startswith("/detail") else lists(seen)

    with Web(site) as web:
        run(project, web).expect(0)
        project.spider(shop(RIGHT, more=more))
        retry(project)
        assert all(n == 1 for p, n in web.counts().items() if p.startswith("/detail"))
    assert delivered(project) == once(EVERYTHING | {f"detail/{n}" for n in range(PAGES)})


def test_a_wall_before_the_page(project: Project) -> None:
    """A redirect away and back does not make a retried page a new one."""
    lists, walled, cookie = Lists(), set(), "one"

    def site(seen: Seen) -> Answer:
        if seen.path.startswith("/welcome"):
            return redirect(
                seen.path.replace("/welcome", ""), ("Set-Cookie", f"{cookie}=yes; Path=/")
            )
        if seen.path.startswith("/list/") and cookie not in seen.cookies:
            walled.add(seen.path)
            return redirect("/welcome" + seen.path)
        return lists(seen)

    project.spider(shop(WRONG))
    with Web(site) as web:
        run(project, web).expect(0)
        assert delivered(project) == once(names("i"))
        project.spider(shop(RIGHT))
        cookie = "two"  # the session is over
        walled.clear()
        retry(project, "-s", "crawl.concurrency=1")
        assert walled
    assert delivered(project) == once(EVERYTHING)


def test_a_retried_page_that_fails_keeps_what_it_knows(project: Project) -> None:
    lists, ill = Lists(), False

    def site(seen: Seen) -> Answer:
        return text("ill", 500) if ill and seen.path != "/robots.txt" else lists(seen)

    project.spider(shop(WRONG))
    with Web(site) as web:
        run(project, web).expect(0)
        ill = True
        once_only = ("-s", "retry.attempts=1")
        failed = retry(project, *once_only)
        assert failed["rejected"] == 0
        assert failed["failed"] > 10
        assert not project.path("out.rejected.jsonl").exists()
        ill = False
        project.spider(shop(RIGHT))
        done = project.scrape("failures", "shop", "--retry", "--json", *once_only).expect(0)
        assert done.json["items"] == len(EVERYTHING)
    assert delivered(project) == once(EVERYTHING)


def test_a_growing_file_of_rejected_items(project: Project) -> None:
    project.spider(shop(WRONG))
    project.config('[[pipelines]]\nuse = "jsonl"\npath = "out.jsonl"\nmode = "append"\n')
    rejected = project.path("out.rejected.jsonl")
    rejected.write_bytes(b'{"page": "of another crawl"}\nno JSON\n')
    with Web(Lists()) as web:
        project.scrape("run", "shop", "-a", f"base={web.url}").expect(0)
        assert len(rejected.read_bytes().splitlines()) == 2 + len(names("u", "s"))
        project.spider(shop(HALF))
        retry(project)
        assert len(rejected.read_bytes().splitlines()) == 2 + len(names("s"))
        project.spider(shop(RIGHT))
        project.start("rejects", "shop", "--retry", env={VARIABLE: "publish:2"}).wait()
        project.scrape("run", "shop", "-a", f"base={web.url}").expect(0)
    assert rejected.read_bytes() == b'{"page": "of another crawl"}\nno JSON\n'
    assert delivered(project) == once(EVERYTHING)


def test_without_a_file(project: Project) -> None:
    """What goes to standard output leaves a list of what was rejected all the same."""
    project.spider(shop(WRONG))
    with Web(Lists()) as web:
        project.scrape("run", "shop", "-a", f"base={web.url}", "-o", "-").expect(0)
        listed = project.scrape("rejects", "shop", "--json", "--field", "price").expect(0)
        assert len(listed.out.splitlines()) == len(names("u", "s"))
        done = project.scrape("rejects", "shop", "--retry").expect(2)
        assert "nothing can be added to standard output" in done.err
