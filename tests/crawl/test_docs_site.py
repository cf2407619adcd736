"""A real documentation site behind a real nginx: every page once, every object counted.

The oracle reads the files on disk with the standard library's parser and shares no code with the
framework.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest

from tests.crawl.harness import Project
from tests.servers.nginx import Nginx

REPOSITORY = Path(__file__).resolve().parents[2]
HEADING = re.compile("h[1-6]")


class Reader(HTMLParser):
    """What one file holds: links, headings in the main part, signatures."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.headings: Counter[str] = Counter()
        self.signatures: list[str | None] = []
        self.kinds: Counter[str] = Counter()
        self._lists: list[str] = []
        self._main = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        classes = (given.get("class") or "").split()
        if tag == "a" and given.get("href") is not None:
            self.links.append(given["href"] or "")
        if tag == "div" and (self._main or given.get("role") == "main"):
            self._main += 1
        if self._main and HEADING.fullmatch(tag):
            self.headings[tag] += 1
        if tag == "dl":
            self._lists.append(given.get("class") or "")
        if tag == "dt" and "sig" in classes:
            self.signatures.append(given.get("id"))
            self.kinds[self._lists[-1]] += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "div" and self._main:
            self._main -= 1
        if tag == "dl":
            self._lists.pop()


@dataclass
class OnDisk:
    """The site as its files tell it, walked along its links from one page."""

    pages: dict[str, Reader] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)


def walk(root: Path, origin: str, start: str) -> OnDisk:
    found = OnDisk()
    seen, todo = {start}, [start]
    while todo:
        url = todo.pop()
        path = root / unquote(urlsplit(url).path).lstrip("/")
        if not path.is_file():
            found.missing.add(url)
            continue
        reader = found.pages[url] = Reader()
        reader.feed(path.read_text("utf-8"))
        for link in reader.links:
            target = urldefrag(urljoin(url, link)).url
            if target.startswith(origin) and target.endswith(".html") and target not in seen:
                seen.add(target)
                todo.append(target)
    return found


@pytest.fixture
def docs(project: Project) -> Project:
    """This repository's own docs spider, in a project of the test."""
    project.spider((REPOSITORY / "spiders" / "docs.py").read_text("utf-8"), "docs.py")
    return project


def test_the_python_documentation(docs: Project, docs_server: Nginx, python_docs: Path) -> None:
    start = docs_server.url + "index.html"
    crawl = docs.start("run", "docs", "-a", f"site={start}", "--json")
    disk = walk(python_docs, docs_server.url, start)  # meanwhile
    assert len(disk.pages) > 300, "that is not Python's documentation"
    result = crawl.wait().expect(0).json
    lines = docs.path("data/docs.jsonl").read_text("utf-8").splitlines()
    items = [json.loads(line) for line in lines]
    pages = [item for item in items if "headings" in item]
    objects = [item for item in items if "signature" in item]
    assert len(pages) + len(objects) == len(items) == result["items"]

    # Each page once: by the output, and by what the server was asked.
    assert sorted(page["url"] for page in pages) == sorted(disk.pages)
    asked = Counter(hit.path for hit in docs_server.log() if hit.path != "/robots.txt")
    wanted = {urlsplit(url).path for url in {*disk.pages, *disk.missing}}
    assert asked == Counter(wanted)
    assert result["pages"] == len(disk.pages)
    assert result["failed"] == len(disk.missing)

    # Each heading and each signature, page by page.
    for page in pages:
        levels = Counter(f"h{heading['level']}" for heading in page["headings"])
        assert levels == disk.pages[page["url"]].headings, page["url"]
        assert page["title"]
    ids = {url: Counter[str | None]() for url in disk.pages}
    for found in objects:
        ids[found["page"]][found["id"]] += 1
    assert ids == {url: Counter(reader.signatures) for url, reader in disk.pages.items()}
    kinds = Counter[str]()
    for reader in disk.pages.values():
        kinds.update(reader.kinds)
    told = Counter(f"{found['domain']} {found['kind']}".strip() for found in objects)
    assert told == kinds


def test_what_a_page_says(docs: Project, docs_server: Nginx) -> None:
    site = docs_server.url + "library/bisect.html"
    docs.scrape("run", "docs", "-a", f"site={site}", "-s", "crawl.max_pages=1", "--json").expect(0)
    items = [json.loads(line) for line in docs.path("data/docs.jsonl").read_text().splitlines()]
    page, *objects = items
    assert page["title"].startswith("bisect — Array bisection algorithm")
    assert page["headings"][0] == {
        "level": 1,
        "text": "bisect — Array bisection algorithm",
        "id": "module-bisect",
    }
    named = {found["id"]: found for found in objects}
    assert named["bisect.bisect_left"] == {
        "page": site,
        "id": "bisect.bisect_left",
        "domain": "py",
        "kind": "function",
        "name": "bisect_left",
        "signature": "bisect.bisect_left(a, x, lo=0, hi=len(a), *, key=None)",
    }
