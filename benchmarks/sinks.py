"""What each sink costs an item, and what it weighs.

    python -m benchmarks.sinks cost   [--items N] [--rounds N] [--only NAME]…
    python -m benchmarks.sinks memory [--items N] [--per-page N] [--only NAME]…

`cost`: microseconds of CPU an item, from the callback's item to the committed record: through the
chain, staged, written in groups of 100 pages, flushed to the disk; beside the same rows written
with the bare library in one go, nothing staged and nothing flushed before the end. Both take turns.
`memory`: a whole crawl of a durable job, with N items to a page: resident memory in megabytes as
it goes. Each sink in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gzip
import importlib.util
import json
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.shop import serving
from scraper import Item, Output, Request, Response, Spider, run
from scraper.build import BUILTINS, build_stages
from scraper.config import Config
from scraper.frontier.memory import MemoryFrontier
from scraper.outputs import Outputs
from scraper.pipelines.chain import Chain
from scraper.pipelines.page import StagedPage
from scraper.protocols import CrawlInfo, Observer
from scraper.work import Batch, Committed, Recovery

GROUP = 100  # pages of one item each


class Book(Item):
    url: str
    title: str
    price: Decimal
    stock: int
    rating: float
    available: bool
    tags: list[str]


def books(count: int, first: int = 0) -> Iterator[Book]:
    """Items as a shop gives them, about 200 bytes as JSON."""
    for n in range(first, first + count):
        yield Book.model_construct(
            url=f"https://shop.example.com/catalogue/some-category/book-{n}.html",
            title=f"The Restless Market of Vellmark, volume {n}",
            price=Decimal(n % 9000) / 100,
            stock=n % 40,
            rating=n % 50 / 10,
            available=n % 7 != 0,
            tags=["fiction", "travel", f"shelf {n % 100}"],
        )


# -- the bare libraries -----------------------------------------------------------------------


def bare_jsonl(path: Path, items: Iterable[Book]) -> None:
    with path.open("wb") as file:
        for item in items:
            file.write(item.__pydantic_serializer__.to_json(item) + b"\n")


def bare_gzip(path: Path, items: Iterable[Book]) -> None:
    with gzip.open(path, "wb", compresslevel=6) as file:
        for item in items:
            file.write(item.__pydantic_serializer__.to_json(item) + b"\n")


def bare_csv(path: Path, items: Iterable[Book]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Book.model_fields)
        for item in items:
            row = item.model_dump(mode="json")
            row["tags"] = json.dumps(row["tags"])
            writer.writerow(row.values())


def bare_sqlite(path: Path, items: Iterable[Book]) -> None:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE book (url, title, price, stock, rating, available, tags)")
    rows = ((i.url, i.title, str(i.price), i.stock, i.rating, i.available, json.dumps(i.tags))
            for i in items)  # fmt: skip
    database.executemany("INSERT INTO book VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    database.commit()
    database.close()


def bare_parquet(path: Path, items: Iterable[Book]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.Table.from_pylist([
        {**item.model_dump(), "price": str(item.price)} for item in items
    ])
    parquet.write_table(table, path, compression="zstd")


@dataclass(frozen=True, slots=True)
class Contender:
    """`bare` writes the same rows with the library alone. `needs`: a module."""

    table: dict[str, Any]
    bare: Callable[[Path, Iterable[Book]], None] | None = None
    needs: str = ""

    @property
    def here(self) -> bool:
        known = self.table["use"] in BUILTINS
        return known and (not self.needs or importlib.util.find_spec(self.needs) is not None)


SINKS = {
    "jsonl": Contender({"use": "jsonl", "path": "out.jsonl"}, bare_jsonl),
    "jsonl, provenance": Contender(
        {"use": "jsonl", "path": "out.jsonl", "provenance": True}, bare_jsonl
    ),
    "jsonl.gz": Contender({"use": "jsonl", "path": "out.jsonl.gz"}, bare_gzip),
    "jsonl.zst": Contender({"use": "jsonl", "path": "out.jsonl.zst"}),
    "jsonl, by type, in parts": Contender(
        {"use": "jsonl", "path": "{item}.jsonl", "records_per_file": 10_000}, bare_jsonl
    ),
    "json": Contender({"use": "json", "path": "out.json"}, bare_jsonl),
    "csv": Contender({"use": "csv", "path": "out.csv"}, bare_csv),
    "sqlite": Contender({"use": "sqlite", "path": "out.sqlite"}, bare_sqlite),
    "sqlite, by key": Contender({"use": "sqlite", "path": "out.sqlite", "key": ["url"]}),
    "parquet": Contender({"use": "parquet", "path": "out.parquet"}, bare_parquet, "pyarrow"),
}


# -- cost -------------------------------------------------------------------------------------


async def through_the_chain(root: Path, table: dict[str, Any], items: Iterable[Book]) -> None:
    """What the engine, the scheduler and the end of the crawl do with items."""
    config = Config.model_validate({"pipelines": [table]})
    chain = Chain(build_stages(config, root=root))
    await chain.open(CrawlInfo("books", {}, "20260102T030405Z", root))
    frontier = MemoryFrontier()
    outputs = Outputs(frontier, Recovery(), None)
    for sink in chain.sinks:
        await sink.rewind(None)
    request = Request("https://shop.example.com/catalogue/page-1.html")
    response = Response(request.url, 200, body=b"<p>" * 500, request=request)
    pages: list[StagedPage] = []
    for item in items:
        page = StagedPage(request, response, spider="books")
        await chain.run(item, page)
        pages.append(page)
        if len(pages) == GROUP:
            await outputs.commit(Batch(), pages)
            pages.clear()
    await outputs.commit(Batch(), pages)
    for sink in chain.sinks:
        await sink.publish()
    await chain.aclose()


def spent(work: Callable[[], object]) -> float:
    """Seconds of CPU, of all threads."""
    before = time.process_time()
    work()
    return time.process_time() - before


def cost(names: list[str], items: int, rounds: int) -> None:
    made = list(books(items))
    print(f"{'':26}{'ours, µs':>10}{'bare, µs':>10}{'ratio':>8}   an item, of {items:,}")
    for name in names:
        contender = SINKS[name]
        ours, bare = [], []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as directory:
                root = Path(directory)
                crawl = through_the_chain(root, contender.table, made)
                ours.append(spent(partial(asyncio.run, crawl)))
                if contender.bare is not None:
                    bare.append(spent(partial(contender.bare, root / "bare", made)))
        one = statistics.median(ours) / items * 1e6
        row = f"{name:26}{one:>10.1f}"
        if bare:
            other = statistics.median(bare) / items * 1e6
            row += f"{other:>10.1f}{one / other:>8.2f}"
        print(row, flush=True)


# -- memory -----------------------------------------------------------------------------------


class Many(Spider):
    """So many pages, so many items on each."""

    name = "many"
    base: str
    count: int
    per_page: int
    settings = {
        "politeness": {"hosts": {"127.*": {"delay": 0, "per_host": 64, "adaptive": False}}},
        "crawl": {"max_depth": 0},
    }

    async def start(self):  # type: ignore[no-untyped-def]
        for n in range(self.count):
            yield Request(f"{self.base}/{n}.html")

    async def parse(self, response: Response) -> Output:
        n = int(response.url.rpartition("/")[2].removesuffix(".html"))
        for book in books(self.per_page, n * self.per_page):
            yield book


class Weighing(Observer):
    """Resident memory, in MB, each time another tenth of the items is committed."""

    def __init__(self, items: int) -> None:
        self.step = items // 10
        self.seen = 0
        self.found: list[int] = []

    def on_commit(self, batch: Batch, committed: Committed) -> None:
        self.seen += batch.counts["items"]
        while len(self.found) < self.seen // self.step:
            resident = int(Path("/proc/self/statm").read_text().split()[1])
            self.found.append(resident * resource.getpagesize() // 1_000_000)


def weigh(name: str, base: str, items: int, per_page: int) -> None:
    weighing = Weighing(items)
    result = run(
        Many,
        base=base,
        count=items // per_page,
        per_page=per_page,
        job="memory",
        settings={"pipelines": [SINKS[name].table]},
        observers=[weighing],
    )
    assert result.items == items, result
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    shown = " ".join(f"{megabytes:4}" for megabytes in weighing.found)
    pace = items / result.duration_s
    print(f"{name:26}{shown}   peak {peak:4}   {pace:>8,.0f} items/s", flush=True)


def memory(names: list[str], items: int, per_page: int) -> None:
    print(f"{'':26}resident MB after each tenth of {items:,} items, {per_page:,} a page")
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        site = work / "site"
        site.mkdir()
        for n in range(items // per_page):
            (site / f"{n}.html").write_text(f"<h1>{n}</h1>")
        with serving(work, site, None) as (base, _, _):
            for name in names:
                with tempfile.TemporaryDirectory() as place:
                    subprocess.run(
                        [sys.executable, "-m", "benchmarks.sinks", "weigh", "--only", name,
                         "--items", str(items), "--per-page", str(per_page), "--base", base],
                        check=True, cwd=place, env=os.environ | {"PYTHONPATH": str(Path.cwd())},
                    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["cost", "memory", "weigh"])
    parser.add_argument("--items", type=int, default=0)
    parser.add_argument("--per-page", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=list(SINKS), default=[])
    parser.add_argument("--base", help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = given.only or [name for name, contender in SINKS.items() if contender.here]
    if given.what == "weigh":
        weigh(names[0], given.base, given.items, given.per_page)
    elif given.what == "memory":
        memory(names, given.items or 1_000_000, given.per_page)
    else:
        cost(names, given.items or 50_000, given.rounds)


if __name__ == "__main__":
    main()
