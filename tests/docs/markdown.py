"""The pages of the documentation, taken apart: code blocks, links, headings, generated parts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = tuple(
    path.relative_to(ROOT).as_posix()
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *sorted((ROOT / "docs").glob("*.md")),
    )
)

FROM_SCRAPY = "docs/from-scrapy.md"
"""Its blocks are run by a test of their own: `test_from_scrapy`."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
GENERATED = re.compile(
    r"(?P<open><!-- generated: (?P<name>\w+) -->\n)(?P<body>.*?)(?P<close><!-- end -->)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text, the file that its first line names, where it is."""

    page: str
    line: int
    language: str
    text: str

    @property
    def file(self) -> str:
        """`# spiders/books.py` in the first line means that file of a project; else ""."""
        named = re.match(r"# ([\w/]+\.(?:py|toml))\n", self.text)
        return named[1] if named else ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def blocks(language: str, page: str | None = None) -> list[Block]:
    """Every block in *language*, of one page or of all."""
    return [
        Block(name, text_of(name)[: match.start()].count("\n") + 1, match[1], match[2])
        for name in ([page] if page else PAGES)
        for match in FENCE.finditer(text_of(name))
        if match[1] == language
    ]


def prose(page: str) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", text_of(page))


def spans(page: str) -> list[str]:
    """What stands in `backticks` in the prose."""
    return SPAN.findall(prose(page))


def words(page: str) -> set[str]:
    """The identifiers in backticks, dotted ones whole and in parts."""
    found: set[str] = set()
    for span in spans(page):
        for name in re.findall(r"[\w.]+", span):
            found.update((name.strip("."), *name.split(".")))
    return found


def links(page: str) -> list[str]:
    return LINK.findall(prose(page))


def anchors(page: str) -> set[str]:
    """The anchors that a page's headings get."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in HEADING.findall(prose(page))
    }


def command_lines(page: str) -> Iterator[str]:
    """Every command line that the page shows: after `$ `, indented, and in backticks."""
    for block in blocks("console", page):
        for line in block.text.splitlines():
            if line.startswith("$ "):
                yield line[2:]
    for line in prose(page).splitlines():
        if re.match(r"    (?:scrape|make) ", line):
            yield re.split(r"\s{2,}|\s#", line.strip())[0]
    for span in spans(page):
        if re.match(r"(?:scrape|make) \S", span):
            yield span
