"""Cases 1 to 30 in one crawl: every host of the table at once, beside one that does all right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.crawl.harness import Finished, Project, json_lines
from tests.hostile.wild import Host, Wild, body
from tests.hostile.wire import BOMBS, CASES, CONTROL, PAGE, Case, authority, light

PAGES = 60
"""Of the control host."""

SPIDER = """
import json
from scraper import Output, Request, Response, Spider

class Cases(Spider):
    name = "cases"

    async def start(self):
        with open("requests.json") as file:
            for fields in json.load(file):
                yield Request(**fields)

    async def parse(self, response: Response) -> Output:
        for link in response.links():
            yield response.follow(link)
        yield {"url": response.request.url, "text": response.text[:100]}
"""

CONFIG = """
[politeness.hosts."*.test"]
robots = false
delay = 0

[crawl]
concurrency = 128
max_failure_rate = 1.0

[http]
timeout = 60

[retry]
base = 0.01
max_delay = 0.05
"""


def address_of(case: Case) -> str:
    return f"127.2.1.{CASES.index(case) + 1}"


def fields_of(case: Case, wild: Wild) -> dict[str, object]:
    """The one request of *case*."""
    address = address_of(case)
    host = f"{address}:{wild.port}"
    name = f"case{CASES.index(case)}.test"
    if case.url in ("{proxy}", "{tunnel}"):
        scheme = "https" if case.url == "{tunnel}" else "http"
        return {"url": f"{scheme}://{name}/", "proxy": f"http://{host}"}
    url = case.url.format(host=host) or wild.url(address, "/case")
    return {"url": url} if case.timeout is None else {"url": url, "timeout": case.timeout}


@dataclass(frozen=True, slots=True)
class Crawled:
    """What the crawl left behind."""

    done: Finished
    hosts: dict[str, Host]
    ends: dict[str, str]
    texts: dict[str, str]
    urls: dict[Case, str]


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawled]:
    place = tmp_path_factory.mktemp("wire")
    hosts = {address_of(case): case.host(address_of(case)) for case in CASES}
    for coding in BOMBS:
        light(coding)
    links = "".join(f'<a href="/p/{n}">x</a>' for n in range(PAGES)).encode()

    async def good(host: Host, head: bytes, reader: object, writer: object) -> bool:
        writer.write(body(PAGE + links))  # type: ignore[attr-defined]
        return True

    with Wild({CONTROL: Host(good), **hosts}) as wild:
        project = Project(place / "project", place)
        project.config(CONFIG)
        project.spider(SPIDER)
        authority().cert_pem.write_to_path(str(place / "ca.pem"))
        project.environ["SSL_CERT_FILE"] = str(place / "ca.pem")
        wanted = {case: fields_of(case, wild) for case in CASES}
        starts = [{"url": wild.url(CONTROL, "/p/0")}, *wanted.values()]
        project.path("requests.json").write_text(json.dumps(starts))
        done = project.scrape("run", "cases", "-o", "out.jsonl", "--json")
        failures = project.scrape("failures", "cases", "--json").expect(0)
        project.close()
        yield Crawled(
            done,
            {CONTROL: wild.hosts[CONTROL], **hosts},
            {entry["url"]: entry["reason"] for entry in map(json.loads, failures.out.splitlines())},
            {record["url"]: record["text"] for record in json_lines(project.path("out.jsonl"))},
            {case: str(fields["url"]) for case, fields in wanted.items()},
        )


def test_the_crawl_and_its_good_host(crawled: Crawled) -> None:
    """It ends as finished; every page of the good host is there, each fetched once."""
    assert crawled.done.expect(0).json["finished"] is True
    good = [url for url in crawled.texts if f"//{CONTROL}:" in url]
    assert len(good) == PAGES
    assert len(crawled.hosts[CONTROL].heads) == PAGES
    failed = [case for case in CASES if case.ends != "item"]
    assert crawled.done.json["failed"] == len(failed)
    assert crawled.done.json["items"] == PAGES + len(CASES) - len(failed)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=f"{case.number}-{case.input}".replace(" ", "-"),
            marks=pytest.mark.case(case.number, case.input, case.outcome),
        )
        for case in CASES
    ],
)
def test_ends_as_promised(crawled: Crawled, case: Case) -> None:
    url = crawled.urls[case]
    host = crawled.hosts[address_of(case)]
    if case.ends == "item":
        assert url in crawled.texts, crawled.ends.get(url)
        assert url not in crawled.ends
        assert "\x1f" not in crawled.texts[url]  # a callback never sees compressed bytes
    else:
        assert crawled.ends.get(url) == case.ends
        assert url not in crawled.texts
    assert case.tries is None or len(host.heads) == case.tries
