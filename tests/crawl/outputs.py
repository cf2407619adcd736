"""Every built-in output as a crawl writes it, and how somebody else reads it.

The readers are not ours: json, csv, gzip, sqlite3, pyarrow … They give each record as JSON would
have it, so that one oracle judges all outputs.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

__all__ = ["OUTPUTS", "SPIDER", "Output", "expected"]

SPIDER = """
from decimal import Decimal
from typing import Annotated

from scraper import Css, Item, Output, Request, Response, Spider


class Page(Item):
    n: Annotated[int, Css("title")]
    title: Annotated[str, Css("h1")]
    links: Annotated[list[str], Css("li a::attr(href)")]
    price: Decimal | None = None
    even: bool = False


class Links(Item):
    n: int
    count: int


class Pages(Spider):
    name = "pages"
    base: str
    both: bool = False

    async def start(self):
        yield Request(self.base + "/p/0")

    async def parse(self, response: Response) -> Output:
        for link in response.links():
            yield response.follow(link)
        page = response.extract(Page)
        page.price = Decimal(page.n) / 100 if page.n % 3 else None
        page.even = page.n % 2 == 0
        yield page
        if self.both:
            yield Links(n=page.n, count=len(page.links))
"""

Rows = list[dict[str, Any]]


def expected(n: int, links: list[int]) -> dict[str, Any]:
    """The record of page *n*, as JSON has it."""
    price = f"{n // 100}.{n % 100:02}".rstrip("0").rstrip(".") or "0"
    return {
        "n": n,
        "title": f"Page {n}",
        "links": [f"/p/{m}" for m in links],
        "price": price if n % 3 else None,
        "even": n % 2 == 0,
    }


def read_lines(data: bytes) -> Rows:
    assert not data or data.endswith(b"\n"), "torn last line"
    return [json.loads(line) for line in data.splitlines()]


def jsonl(root: Path) -> Rows:
    return read_lines((root / "out.jsonl").read_bytes())


def jsonl_gz(root: Path) -> Rows:
    with gzip.open(root / "out.jsonl.gz") as file:
        return read_lines(file.read())


def jsonl_zst(root: Path) -> Rows:
    with (root / "out.jsonl.zst").open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return read_lines(reader.read())


def parts(root: Path) -> Rows:
    files = sorted(root.glob("out-*.jsonl"))
    counts = [len(read_lines(file.read_bytes())) for file in files]
    assert counts[:-1] == [100] * (len(files) - 1)
    assert [file.name for file in files] == [f"out-{n + 1:04}.jsonl" for n in range(len(files))]
    return read_lines(b"".join(file.read_bytes() for file in files))


def by_item(root: Path) -> Rows:
    links = read_lines((root / "out/Links.jsonl").read_bytes())
    pages = read_lines((root / "out/Page.jsonl").read_bytes())
    counts = {row["n"]: row["count"] for row in links}
    assert len(counts) == len(links) == len(pages)
    assert all(counts[page["n"]] == len(page["links"]) for page in pages)
    return pages


def json_array(root: Path) -> Rows:
    rows = json.loads((root / "out.json").read_bytes())
    assert isinstance(rows, list)
    return rows


def csv_rows(text: str) -> Rows:
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    assert text.count("n,title,") == 1, "the header, once"
    return [
        {
            "n": int(row["n"]),
            "title": row["title"],
            "links": json.loads(row["links"]),
            "price": row["price"] or None,
            "even": json.loads(row["even"]),
        }
        for row in rows
    ]


def csv_file(root: Path) -> Rows:
    return csv_rows((root / "out.csv").read_text())


def csv_gz(root: Path) -> Rows:
    with gzip.open(root / "out.csv.gz", "rt", newline="") as file:
        return csv_rows(file.read())


def parquet_rows(path: Path) -> Rows:
    from pyarrow import parquet

    # Without Arrow's threads: they may outlive the interpreter (apache/arrow#50482).
    with parquet.ParquetFile(path, pre_buffer=False) as file:
        found: Rows = file.read(use_threads=False).to_pylist()
    return found


def parquet(root: Path) -> Rows:
    return parquet_rows(root / "out.parquet")


def parquet_parts(root: Path) -> Rows:
    files = sorted((root / "out").iterdir())
    found = [parquet_rows(file) for file in files]
    assert [len(rows) for rows in found[:-1]] == [100] * (len(files) - 1)
    assert [file.name for file in files] == [f"{n + 1:04}.parquet" for n in range(len(files))]
    return [row for rows in found for row in rows]


def sqlite_file(root: Path) -> Rows:
    with contextlib.closing(sqlite3.connect(root / "out.sqlite")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (marks,) = database.execute("SELECT records FROM _scrape_runs").fetchall()
        found = database.execute("SELECT n, title, links, price, even FROM page").fetchall()
    assert marks == (len(found),)
    return [
        {"n": n, "title": title, "links": json.loads(links), "price": price, "even": bool(even)}
        for n, title, links, price, even in found
    ]


def four(root: Path) -> Rows:
    """All four hold the same records, each by its own reader; the order is that of the commits."""
    first, *others = (read(root) for read in (jsonl_gz, csv_file, sqlite_file, parquet))
    for rows in others:
        assert rows == first
    return first


OUTPUTS: dict[str, Output]


@dataclass(frozen=True, slots=True)
class Output:
    """`tables`: the [[pipelines]] of config.toml. `read`: the records under a project's root.

    `both`: the spider yields items of two types.
    """

    tables: str
    read: Callable[[Path], Rows]
    both: bool = False


OUTPUTS = {
    "jsonl": Output('use = "jsonl"\npath = "out.jsonl"', jsonl),
    "jsonl.gz": Output('use = "jsonl"\npath = "out.jsonl.gz"', jsonl_gz),
    "jsonl.zst": Output('use = "jsonl"\npath = "out.jsonl.zst"', jsonl_zst),
    "json": Output('use = "json"\npath = "out.json"', json_array),
    "csv": Output('use = "csv"\npath = "out.csv"', csv_file),
    "csv.gz": Output('use = "csv"\npath = "out.csv.gz"', csv_gz),
    "parts": Output('use = "jsonl"\npath = "out.jsonl"\nrecords_per_file = 100', parts),
    "parquet": Output('use = "parquet"\npath = "out.parquet"', parquet),
    "parquet, parts": Output(
        'use = "parquet"\npath = "out/{part}.parquet"\nrecords_per_file = 100', parquet_parts
    ),
    "sqlite": Output('use = "sqlite"\npath = "out.sqlite"', sqlite_file),
    "sqlite, by key": Output('use = "sqlite"\npath = "out.sqlite"\nkey = ["n"]', sqlite_file),
    "four": Output(
        'use = "jsonl"\npath = "out.jsonl.gz"\n\nuse = "csv"\npath = "out.csv"\n\n'
        'use = "sqlite"\npath = "out.sqlite"\n\nuse = "parquet"\npath = "out.parquet"',
        four,
    ),
    "items": Output('use = "jsonl"\npath = "out/{item}.jsonl"', by_item, both=True),
}
