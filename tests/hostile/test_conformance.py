"""The test data that nobody here wrote, whole: each file as its source documents.

What single files say stands in the tests of their readers; here all of them are counted, so that
none is left out. ``python -m pytest tests/hostile/test_conformance.py -rP`` prints the tally.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from protego import Protego

from scraper import encoding, urls
from scraper.errors import FetchError
from scraper.robots import Robots
from tests import test_encoding, test_robots, test_sitemap, test_urls
from tests.download.raw import answering, downloader, outcome, reply, serving
from tests.memory import peak_of

pytestmark = pytest.mark.usefixtures("test_data")

SITE = "https://example.com"


def tell(tally: str) -> None:
    sys.stdout.write(f"{tally}\n")


@pytest.mark.case(
    66, "the WHATWG URL data: 624 URLs, 267 that are none", "891 of 891 as the standard has them"
)
def test_urls_of_the_standard() -> None:
    cases = test_urls.standard_cases()
    right = [case for case in cases if urls.parse(case["input"], case["base"]) == case.get("href")]
    tell(f"WHATWG URLs: {len(right)} of {len(cases)}")
    assert (len(right), len(cases)) == (891, 891)


@pytest.mark.case(56, "html5lib's encoding data, 82 cases", "82 of 82 as they document it")
def test_encodings_of_the_standard() -> None:
    cases = test_encoding.cases()
    right = [c for c in cases if encoding.detect(c[1], default="windows-1252") == c[2]]
    tell(f"encodings: {len(right)} of {len(cases)}")
    assert (len(right), len(cases)) == (82, 82)


# robots.txt -------------------------------------------------------------------------------------


@pytest.mark.case(
    48,
    "24 robots.txt files of crawler-commons: typing errors, byte order marks, merged groups …",
    "each as its name and comments document, by 60 questions; none is left out",
)
def test_every_robots_txt_has_its_expectations(test_data: Path) -> None:
    files = {path.name for path in (test_data / "robots").iterdir() if path.is_file()}
    asked = {name for name, *_ in test_robots.FILES if "/" not in name}
    tell(f"robots.txt files: {len(files & asked)} of {len(files)}")
    assert files == asked
    assert len(files) == 24
    questions = [row for row in test_robots.FILES if "/" not in row[0]]
    assert len(questions) == 60


AGENTS = ("scraper", "googlebot", "bingbot", "slurp", "ia_archiver")
_PATH = re.compile(r"\s*(?:dis)?allow\s*:\s*(/[^\s#]*)", re.IGNORECASE)


def paths_of(text: str) -> list[str]:
    """Paths that its rules speak of, and some that none does."""
    said = (match[1] for line in text.splitlines() if (match := _PATH.match(line)))
    made = [path.replace("*", "x").replace("$", "") for path in said]
    return [*dict.fromkeys(["/", "/search?q=a", "/admin/x", *made])][:300]


@pytest.mark.case(
    48,
    "195 robots.txt files of real sites, over 30,000 questions by five agents",
    "answered as protego, whose data they are, answers them; but for `User_agent:`, a typing error"
    " that is understood here",
)
def test_robots_txt_of_real_sites(test_data: Path) -> None:
    files = sorted((test_data / "robots" / "real").iterdir())
    others: set[tuple[str, str]] = set()
    questions = 0
    for file in files:
        text = file.read_bytes().decode("utf-8-sig", "replace")
        theirs = Protego.parse(text)
        for agent in AGENTS:
            ours = Robots.parse(file.read_bytes(), agent, url=f"{SITE}/robots.txt")
            for path in paths_of(text):
                questions += 1
                if ours.allowed(SITE + path) != theirs.can_fetch(SITE + path, agent):
                    others.add((file.name, agent))
    tell(f"real robots.txt files: {len(files)}, {questions:,} questions, other answers: {others}")
    assert len(files) == 195
    assert questions > 30_000
    assert others == {("www.eurekalert.org", "ia_archiver")}
    assert b"User_agent: ia_archiver" in (test_data / "robots/real/www.eurekalert.org").read_bytes()


@pytest.mark.case(
    55,
    "20 sitemaps of crawler-commons: XML, text, gzip, RSS, Atom, extensions, odd name spaces",
    "each gives exactly the URLs that its source documents, without a warning",
)
def test_every_sitemap_is_read(test_data: Path) -> None:
    files = sorted((test_data / "sitemaps").iterdir())
    right = 0
    for file in files:
        entries, sitemap = test_sitemap.whole(file)
        locs = [entry.loc for entry in entries]
        expected = test_sitemap.EXPECTED.get(file.name)
        right += not sitemap.warnings and (locs == expected if expected else len(locs) == 74)
    tell(f"sitemaps: {right} of {len(files)}")
    assert (right, len(files)) == (20, 20)


# Compressed bodies, through the client ----------------------------------------------------------

CODINGS = {
    "bomb-br": "br",
    "bomb-deflate": "deflate",
    "bomb-gzip": "gzip",
    "bomb-zstd": "zstd",
    "html-br": "br",
    "html-gzip": "gzip",
    "html-gzip-deflate": "gzip, deflate",
    "html-gzip-deflate-gzip": "gzip, deflate, gzip",
    "html-rawdeflate": "deflate",
    "html-zlibdeflate": "deflate",
    "html-zstd-static-content-size": "zstd",
    "html-zstd-static-no-content-size": "zstd",
    "html-zstd-streaming-no-content-size": "zstd",
    "truncated-crc-error": "gzip",
    "truncated-crc-error-short": "gzip",
    "unexpected-eof": "gzip",
}


def compressed(test_data: Path) -> Iterator[tuple[str, str, bytes]]:
    for file in sorted((test_data / "compressed").iterdir()):
        if file.suffix != ".txt":
            yield file.stem, CODINGS[file.stem], file.read_bytes()


@pytest.mark.case(
    24,
    "Scrapy's four bombs of 11.5 MB (gzip, deflate, br, zstd), at a cap of 1 MB",
    "`body_too_large`, four of four",
)
@pytest.mark.case(
    25, "Scrapy's three gzip files that are cut short", "`decode`, three of three; no item"
)
@pytest.mark.case(
    29,
    "one page in nine codings, stacked ones among them",
    "nine times the same page",
)
async def test_compressed_bodies(test_data: Path) -> None:
    pages: list[bytes] = []
    reasons: dict[str, list[str]] = {"bomb": [], "truncated": [], "unexpected": []}
    for name, coding, body in compressed(test_data):
        wire = reply(body, ("Content-Encoding", coding), ("Content-Type", "text/html"))
        async with (
            serving(answering(wire)) as port,
            downloader({"max_body": 1_000_000}) as web,
        ):
            found = await outcome(web, f"http://127.0.0.1:{port}/")
        if isinstance(found, FetchError):
            reasons[name.partition("-")[0]].append(found.reason)
        else:
            pages.append(found.body.replace(b"`deflate'", b"`gzip'"))  # it says how it came
    tell(f"compressed bodies: {len(pages)} pages, {reasons}")
    assert len(pages) == 9
    assert len(set(pages)) == 1
    assert pages[0].lstrip().startswith(b"<!DOCTYPE")
    assert reasons == {
        "bomb": ["body_too_large"] * 4,
        "truncated": ["decode"] * 2,
        "unexpected": ["decode"],
    }


MEMORY = """
    import asyncio, os, re, sys
    from pathlib import Path
    from tests.download.raw import answering, downloader, outcome, reply, serving

    cap = int(sys.argv[1])
    data = Path(os.environ["SCRAPER_TEST_DATA"], "compressed")

    def peak():
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

    async def fetch(name, coding):
        wire = reply((data / name).read_bytes(), ("Content-Encoding", coding))
        async with serving(answering(wire)) as port, downloader({"max_body": cap}) as web:
            return await outcome(web, f"http://127.0.0.1:{port}/")

    async def main():
        for coding, name in (("br", "br"), ("gzip", "gzip"), ("zstd", "zstd-static-content-size")):
            assert (await fetch(f"html-{name}.bin", coding)).status == 200
        before = peak()
        for coding in ("br", "deflate", "gzip", "zstd"):
            assert (await fetch(f"bomb-{coding}.bin", coding)).reason == "body_too_large"
        print((peak() - before) // 1024)

    asyncio.run(main())
"""


@pytest.mark.case(
    24,
    "Scrapy's four bombs of 11.5 MB, at a cap of 8 MB, one at a time",
    "the client's memory rises by the cap, and by less than 20 MB for the decoders' windows",
)
def test_bombs_stay_near_the_cap() -> None:
    rise = peak_of(MEMORY, 8_000_000)
    tell(f"bombs of 11.5 MB under a cap of 8 MB: {rise} MB more")
    assert rise < 8 + 20
