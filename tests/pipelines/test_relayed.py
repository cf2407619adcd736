"""Every built-in sink in a crawl that workers share: one stages, another writes."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import pytest

from scraper.errors import ConfigError, DamagedState, GivenUp, JobError, UsageError
from scraper.http import Request
from scraper.items import Item
from scraper.pipelines.chain import Chain
from scraper.pipelines.csv import Csv
from scraper.pipelines.dedupe import Dedupe
from scraper.pipelines.json_array import JsonArray
from scraper.pipelines.jsonl import Jsonl
from scraper.pipelines.page import StagedPage, group_records
from scraper.pipelines.parquet import Parquet
from scraper.pipelines.rejected import RejectedItems
from scraper.pipelines.relay import places, require_places
from scraper.pipelines.sqlite import Sqlite
from scraper.pipelines.stdout import Stdout
from scraper.pipelines.stream import QueueSink
from scraper.protocols import RewindSink, Sink
from scraper.testing.relayed import Row, SharedCrawl, SharedSinkContract
from scraper.testing.sinks import crawl_info
from tests.pipelines import parquets
from tests.pipelines.test_files_contract import TestFiles as FilesContract

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are killed here, and no power is cut."""
    monkeypatch.setattr("os.fsync", lambda fd: None)


def pairs(rows: Iterable[dict[str, Any]]) -> list[Row]:
    return [(int(row["number"]), int(row["version"])) for row in rows]


def lines(path: Path) -> list[Row]:
    if not path.exists():
        return []
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return pairs(map(json.loads, text.splitlines()))


def cells(path: Path) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(path.read_text(), newline=""))) if path.exists() else []


# ── files that grow ──────────────────────────────────────────────────────────────────────


class TestJsonl(SharedSinkContract):
    def make(self, root: Path) -> Sink:
        return Jsonl("out.jsonl")

    def delivered(self, root: Path) -> list[Row]:
        return lines(root / "out.jsonl")


class TestGrowing(TestJsonl):
    def make(self, root: Path) -> Sink:
        return Jsonl("out.jsonl", mode="append")


class TestCompressed(SharedSinkContract):
    def make(self, root: Path) -> Sink:
        return Jsonl("out.jsonl.gz")

    def delivered(self, root: Path) -> list[Row]:
        return lines(root / "out.jsonl.gz")


class TestParts(SharedSinkContract):
    def make(self, root: Path) -> Sink:
        return Jsonl("out-{part}.jsonl", records_per_file=2)

    def delivered(self, root: Path) -> list[Row]:
        found = [lines(path) for path in sorted(root.glob("out-*.jsonl"))]
        assert all(len(part) <= 2 for part in found)
        return [row for part in found for row in part]


class TestStored(SharedSinkContract):
    """Delivered to a store at the end; the leader's files lie in the job's outbox until then."""

    def make(self, root: Path) -> Sink:
        return Jsonl(f"file://{root}/far/out.jsonl")

    def delivered(self, root: Path) -> list[Row]:
        left = [path for path in (root / ".scrape").rglob("outbox/*/*") if path.is_file()]
        assert not left
        return lines(root / "far/out.jsonl")


class Even(Item):
    number: int
    version: int


class Odd(Item):
    number: int
    version: int


class TestByItem(SharedSinkContract):
    ordered = False

    def make(self, root: Path) -> Sink:
        return Jsonl("{item}.jsonl")

    def item(self, number: int, version: int = 0) -> Any:
        return (Odd if number % 2 else Even)(number=number, version=version)

    def delivered(self, root: Path) -> list[Row]:
        even, odd = lines(root / "Even.jsonl"), lines(root / "Odd.jsonl")
        assert all(number % 2 for number, _ in odd)
        return even + odd


class TestJsonArray(SharedSinkContract):
    def make(self, root: Path) -> Sink:
        return JsonArray("out.json")

    def delivered(self, root: Path) -> list[Row]:
        return pairs(json.loads((root / "out.json").read_text()))


class TestCsv(SharedSinkContract):
    """Dicts, of which each worker sees others first: their fields stand in either order."""

    def make(self, root: Path) -> Sink:
        return Csv("out.csv", provenance=["_url"])

    def item(self, number: int, version: int = 0) -> Any:
        if number % 2:
            return {"version": version, "number": number}
        return {"number": number, "version": version}

    def delivered(self, root: Path) -> list[Row]:
        found = cells(root / "out.csv")
        assert all(row["_url"].startswith("https://example.com/") for row in found)
        return pairs(found)


class TestGrowingCsv(TestCsv):
    def make(self, root: Path) -> Sink:
        return Csv("out.csv", mode="append", provenance=["_url"], bom=False)


class TestCsvOfModels(SharedSinkContract):
    item = TestByItem.item
    ordered = False

    def make(self, root: Path) -> Sink:
        return Csv("{item}.csv", delimiter=";", quote="all")

    def delivered(self, root: Path) -> list[Row]:
        found = []
        for path in sorted(root.glob("*.csv")):
            with path.open(newline="") as file:
                found += pairs(csv.DictReader(file, delimiter=";"))
        return found


class TestParquet(SharedSinkContract):
    item = TestCsv.item

    def make(self, root: Path) -> Sink:
        return Parquet("out.parquet")

    def delivered(self, root: Path) -> list[Row]:
        return pairs(parquets.rows(root / "out.parquet"))


class TestParquetInParts(SharedSinkContract):
    def make(self, root: Path) -> Sink:
        return Parquet("out-{part}.parquet", records_per_file=2, fields=["number", "version"])

    def delivered(self, root: Path) -> list[Row]:
        found = [parquets.rows(path) for path in sorted(root.glob("out-*.parquet"))]
        return pairs(row for part in found for row in part)


# ── targets that apply groups by themselves ──────────────────────────────────────────────


def table(root: Path, query: str) -> list[Any]:
    path = root / "out.sqlite"
    if not path.exists():
        return []
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return []
    finally:
        connection.close()


class TestSqlite(SharedSinkContract):
    item = TestCsv.item

    def make(self, root: Path) -> Sink:
        return Sqlite("out.sqlite", patience=0)

    def delivered(self, root: Path) -> list[Row]:
        return table(root, "SELECT number, version FROM items ORDER BY rowid")


class TestKeyed(TestSqlite):
    ordered = False

    def make(self, root: Path) -> Sink:
        return Sqlite("out.sqlite", key=["number"], patience=0)

    def expected(self, rows: Iterable[Row]) -> list[Row]:
        return sorted(dict(rows).items())


class TestFiles(SharedSinkContract):
    ordered = False
    item = FilesContract.item

    def make(self, root: Path) -> Sink:
        return FilesContract().make(root)

    def delivered(self, root: Path) -> list[Row]:
        assert not (root / "data/files/.incoming").exists(), "nothing is left over"
        return FilesContract().delivered(root)

    def expected(self, rows: Iterable[Row]) -> list[Row]:
        return sorted(set(rows))  # one content is one file


# ── columns: decided where it is written ─────────────────────────────────────────────────


@dataclass
class Shop:
    """Where the rows of one of the sinks with columns end up."""

    sink: Callable[[Path], Sink]
    rows: Callable[[Path], list[dict[str, Any]]]
    rejects: str = "data/books.rejected.jsonl"

    def chain(self, root: Path, **options: Any) -> Callable[[], Chain]:
        return lambda: Chain([self.sink(root)], rejected=RejectedItems(), **options)

    def rejected(self, root: Path) -> list[dict[str, Any]]:
        path = root / self.rejects
        return list(map(json.loads, path.read_text().splitlines())) if path.exists() else []


def sqlite_rows(root: Path) -> list[dict[str, Any]]:
    connection = sqlite3.connect(root / "out.sqlite")
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute("SELECT * FROM things ORDER BY rowid")]
    finally:
        connection.close()


def text(row: dict[str, Any]) -> dict[str, Any]:
    """A row as CSV has it."""
    return {name: "" if value is None else str(value) for name, value in row.items()}


SHOPS = [
    Shop(lambda root: Csv("out.csv"), lambda root: cells(root / "out.csv")),
    Shop(
        lambda root: Parquet("out.parquet"),
        lambda root: list(map(text, parquets.rows(root / "out.parquet"))),
    ),
    Shop(
        lambda root: Sqlite("out.sqlite", "things", patience=0),
        lambda root: list(map(text, sqlite_rows(root))),
    ),
]
each_shop = pytest.mark.parametrize("shop", SHOPS, ids=["csv", "parquet", "sqlite"])


class Book(Item):
    title: str
    price: float | None = None


class Author(Item):
    title: str
    born: int


@each_shop
async def test_the_first_that_is_written_decides_the_columns(shop: Shop, tmp_path: Path) -> None:
    crawl = SharedCrawl(tmp_path, shop.chain(tmp_path, observed=True))
    await crawl.stage(0, {"a": 'x;"y",\n', "b": 1})
    await crawl.stage(1, {"a": "other", "c": 2})  # the first that this worker sees
    await crawl.stage(1, {"b": 2, "a": "turned"}, {"a": "less"})
    await crawl.deliver("dies late")
    await crawl.stage(2, {"a": "late", "c": 3}, {"b": 4})
    await crawl.publish()
    assert shop.rows(tmp_path) == [
        {"a": 'x;"y",\n', "b": "1"},
        {"a": "turned", "b": "2"},
        {"a": "less", "b": ""},
        {"a": "", "b": "4"},
    ]
    assert crawl.counts == {"items": 4, "rejected": 2, "reason:schema": 2}
    found = shop.rejected(tmp_path)
    assert [row["reason"] for row in found] == ["schema", "schema"]
    assert [row["errors"][0]["field"] for row in found] == ["c", "c"]
    assert "no column 'c' (it has a, b)" in found[0]["errors"][0]["message"]
    assert [row["values"]["a"] for row in found] == ["other", "late"]
    assert found[0]["url"] == "https://example.com/2"


@each_shop
async def test_one_model_has_the_output(shop: Shop, tmp_path: Path) -> None:
    crawl = SharedCrawl(tmp_path, shop.chain(tmp_path))
    await crawl.stage(0, Book(title="one", price=1.5))
    await crawl.stage(1, Author(title="two", born=2))
    await crawl.deliver("dies after")
    await crawl.stage(1, Author(title="three", born=3))
    await crawl.stage(1, Book(title="four"))
    await crawl.publish()
    assert shop.rows(tmp_path) == [
        {"title": "one", "price": "1.5"},
        {"title": "four", "price": ""},
    ]
    assert crawl.counts == {"items": 2, "rejected": 2, "reason:schema": 2}
    found = shop.rejected(tmp_path)
    assert [row["item"] for row in found] == ["Author", "Author"]
    assert [text(row["values"]) for row in found] == [
        {"title": "two", "born": "2"},
        {"title": "three", "born": "3"},
    ]
    assert "columns of Book, and a Author came" in found[0]["errors"][0]["message"]


@each_shop
async def test_a_leader_that_committed_nothing_decided_nothing(shop: Shop, tmp_path: Path) -> None:
    crawl = SharedCrawl(tmp_path, shop.chain(tmp_path))
    await crawl.stage(0, {"a": 1, "b": 2})
    await crawl.deliver("dies before")
    crawl.entries.clear()  # its page was fetched again, and has others by now
    await crawl.stage(1, {"c": 3})
    await crawl.publish()
    assert shop.rows(tmp_path) == [{"c": "3"}]
    assert crawl.counts == {"items": 1}


@each_shop
async def test_of_doubles_the_first_that_is_written_stays(shop: Shop, tmp_path: Path) -> None:
    def chain() -> Chain:
        return Chain([Dedupe(key=["a"]), shop.sink(tmp_path)], rejected=RejectedItems())

    crawl = SharedCrawl(tmp_path, chain)
    await crawl.stage(0, {"a": 1, "b": "first"})
    await crawl.stage(1, {"a": 1, "b": "second"}, {"a": 2, "b": "third"})
    await crawl.deliver("dies before")
    await crawl.stage(2, {"a": 3, "x": "rejected: its key stays free"})
    await crawl.deliver("dies late")
    await crawl.stage(0, {"a": 2, "b": "fourth"}, {"a": 3, "b": "fifth"})
    await crawl.publish()
    assert [row["b"] for row in shop.rows(tmp_path)] == ["first", "third", "fifth"]
    assert crawl.counts["dropped:duplicate"] == 2
    assert crawl.counts["reason:schema"] == 1


async def test_long_cells_are_laid_out_anew(tmp_path: Path) -> None:
    """Beyond what the reader of Python's csv takes."""
    crawl = SharedCrawl(tmp_path, lambda: Chain([Csv("out.csv")]))
    long = 'a"b,' * 50_000
    await crawl.stage(0, {"a": "", "b": "1"})
    await crawl.stage(1, {"b": long, "a": "="})
    await crawl.publish()
    text = (tmp_path / "out.csv").read_text()
    assert text.splitlines()[2] == f'\'=,"{long.replace(chr(34), chr(34) * 2)}"'


async def test_columns_that_have_another_type_elsewhere(tmp_path: Path) -> None:
    """Two workers with two versions of a model: what one file cannot hold is not made to fit."""
    crawl = SharedCrawl(tmp_path, SHOPS[1].chain(tmp_path))
    older, newer = Book, type("Book", (Item,), {"__annotations__": {"title": str, "price": str}})
    await crawl.stage(0, older(title="one", price=1.0))
    await crawl.stage(1, newer(title="two", price="dear"))
    await crawl.publish()
    assert parquets.rows(tmp_path / "out.parquet") == [{"title": "one", "price": 1.0}]
    (rejected,) = SHOPS[1].rejected(tmp_path)
    assert rejected["errors"][0]["field"] == "price"
    assert rejected["values"] == {"title": "two", "price": "dear"}


async def test_what_a_growing_csv_has_already_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("x,y\n1,2\n")
    crawl = SharedCrawl(tmp_path, lambda: Chain([Csv("out.csv", mode="append")]))
    await crawl.stage(0, {"a": 1})
    with pytest.raises(ConfigError, match="has the columns x, y"):
        await crawl.deliver()
    await crawl.aclose()
    assert (tmp_path / "out.csv").read_text() == "x,y\n1,2\n"


MANY: list[list[Any]] = [
    [{"title": "a", "price": 1.5}, {"title": "=b", "price": None}],
    [],
    [{"title": 'c "d"', "price": 1e300}, {"title": "é\n", "price": True}],
]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Jsonl("out", provenance=["_url", "_status"]),
        lambda: JsonArray("out"),
        lambda: Csv("out", provenance=["_url", "_spider"]),
        lambda: Csv("out", fields=["price"], bom=True),
    ],
)
async def test_files_are_what_one_process_writes(make: Callable[[], Any], tmp_path: Path) -> None:
    crawl = SharedCrawl(tmp_path / "shared", lambda: Chain([make()]))
    for number, items in enumerate(MANY):
        await crawl.stage(number, *items)
        await crawl.deliver("dies late" if number else "commits")
    await crawl.publish()
    alone, info = Chain([make()]), crawl_info(tmp_path / "alone")
    await alone.open(info)
    sink = cast("RewindSink", alone.sinks[0])
    await sink.rewind(None)
    for number, items in enumerate(MANY, 1):
        page = StagedPage(Request(f"https://example.com/{number}"), number=number)
        for item in items:
            await alone.run(item, page)
        await sink.write(group_records([page]).get(sink, []))
    await sink.publish()
    await alone.aclose()
    assert (tmp_path / "shared/out").read_bytes() == (tmp_path / "alone/out").read_bytes()


# ── who may write ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "make",
    [
        lambda: Jsonl("out.jsonl"),
        lambda: Csv("out.csv", mode="append"),
        lambda: FilesContract().make(Path()),
    ],
)
async def test_one_leads_at_a_time(make: Callable[[], Any], tmp_path: Path) -> None:
    """A leader that was given up and is not dead, such as a process that was stopped."""
    crawl = replace(crawl_info(tmp_path), shared=True)
    zombie, heir = make(), make()
    for sink in (zombie, heir):
        await sink.open(crawl)
    await zombie.rewind(None)
    with pytest.raises(JobError):
        await heir.rewind(None)
    await zombie.aclose()
    await heir.aclose()
    heir = make()
    await heir.open(crawl)
    await heir.rewind(None)
    await heir.aclose()


async def test_the_unfinished_output_of_another_job_is_refused_by_every_worker(
    tmp_path: Path,
) -> None:
    other = Jsonl("out.jsonl")
    await other.open(crawl_info(tmp_path, job="other"))
    await other.rewind(None)
    await other.write([b"{}\n"])
    await other.aclose()
    sink = Jsonl("out.jsonl")
    with pytest.raises(JobError, match="other"):
        await sink.open(replace(crawl_info(tmp_path), shared=True))
    assert (tmp_path / "out.jsonl.partial").read_bytes() == b"{}\n"


async def test_a_growing_file_that_is_not_what_its_name_says(tmp_path: Path) -> None:
    """Every worker looks, before anything is fetched."""
    (tmp_path / "out.jsonl.gz").write_text("{}\n")
    with pytest.raises(UsageError, match="gz"):
        await Jsonl("out.jsonl.gz", "append").open(replace(crawl_info(tmp_path), shared=True))


@pytest.mark.parametrize("mode", ["replace", "append"])
async def test_what_no_leader_has_committed_is_cut_and_not_kept(
    mode: Literal["replace", "append"], tmp_path: Path
) -> None:
    """They are of one run, though each of them is the first process that this machine knows of."""
    crawl = SharedCrawl(tmp_path, lambda: Chain([Jsonl("out/{item}.jsonl", mode)]))
    await crawl.stage(0, Even(number=2, version=0))
    for _ in range(2):
        await crawl.deliver("dies before")
    await crawl.publish()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["Even.jsonl"]
    assert lines(tmp_path / "out/Even.jsonl") == [(2, 0)]


async def test_what_belongs_to_one_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers share") as caught:
        await QueueSink().open(replace(crawl_info(tmp_path), shared=True))
    assert "memory" in caught.value.hint


async def test_standard_output_is_the_leaders(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Workers of one command have the same one."""
    crawl = SharedCrawl(tmp_path, lambda: Chain([Stdout()]))
    await crawl.stage(0, {"n": 1}, {"n": 2})
    await crawl.stage(1, {"n": 3})
    await crawl.deliver("dies late")
    await crawl.stage(1, {"n": 4})
    await crawl.publish()
    assert capfdbinary.readouterr().out == b"".join(b'{"n":%d}\n' % n for n in range(1, 5))


# ── tables ───────────────────────────────────────────────────────────────────────────────


async def _records(sink: Sqlite, *items: Any) -> Sequence[bytes]:
    page = StagedPage(Request("https://example.com/"))
    for item in items:
        page.begin()
        await sink.process(item, page)
    records: Sequence[bytes] = group_records([page])[sink]
    return records


async def test_a_table_ahead_of_the_ledger_is_refused(tmp_path: Path) -> None:
    """Redis may forget what it had confirmed, even that there was anything."""
    crawl = replace(crawl_info(tmp_path), shared=True)
    sink = Sqlite("out.sqlite", patience=0)
    await sink.open(crawl)
    await sink.rewind(None)
    await sink.apply(1, await _records(sink, {"a": 1}))
    for position in (None, {"group": 0, "records": 0}):
        with pytest.raises(DamagedState, match="1 records of this run, and the ledger knows of 0"):
            await sink.rewind(position)
    await sink.aclose()
    assert table(tmp_path, "SELECT a FROM items") == [(1,)]


@pytest.mark.parametrize("late", [1, 2])
async def test_a_zombie_that_applies_what_its_heir_has_applied(tmp_path: Path, late: int) -> None:
    crawl = replace(crawl_info(tmp_path), shared=True)
    zombie, heir = Sqlite("out.sqlite", patience=0), Sqlite("out.sqlite", patience=0)
    await zombie.open(crawl)
    await zombie.rewind(None)
    group = await _records(zombie, {"a": 1})
    await heir.open(crawl)
    await heir.rewind({"group": 1, "records": 1})
    await heir.apply(1, group)
    if late == 1:
        await zombie.apply(1, group)  # the very same: nothing is to be done
    else:
        await heir.apply(2, await _records(heir, {"a": 2}))
        with pytest.raises(GivenUp, match="another worker writes"):
            await zombie.apply(1, group)
    await zombie.aclose()
    await heir.aclose()
    assert table(tmp_path, "SELECT a FROM items") == [(n,) for n in range(1, late + 1)]


# ── files ────────────────────────────────────────────────────────────────────────────────


async def test_downloads_of_dead_workers_are_delivered_or_removed(tmp_path: Path) -> None:
    crawl = SharedCrawl(tmp_path, lambda: Chain([FilesContract().make(tmp_path)]))
    await crawl.stage(0, {"file": "https://example.com/1.0"})
    await crawl.lose(0)
    await crawl.stage(1, {"file": "https://example.com/2.0"})
    crawl.entries.pop()  # its worker died before it was committed
    await crawl.lose(1)
    await crawl.deliver("dies before")
    await crawl.stage(2, {"file": "https://example.com/1.0"}, {"file": "https://example.com/3.0"})
    await crawl.deliver()
    incoming = [*(tmp_path / "data/files/.incoming").glob("*/*-*")]
    assert [path.read_text() for path in incoming] == ["2.0"]
    await crawl.publish()
    assert sorted(FilesContract().delivered(tmp_path)) == [(1, 0), (3, 0)]
    assert not (tmp_path / "data/files/.incoming").exists()


async def test_files_of_workers_that_do_not_share_the_directory(tmp_path: Path) -> None:
    """Each has a directory of that name, on a machine of its own."""
    found = []
    for machine in ("one", "one", "other"):
        sink = FilesContract().make(tmp_path / machine)
        await sink.open(replace(crawl_info(tmp_path / machine), shared=True))
        (place,) = (await places([sink, Jsonl()])).values()
        found.append({"data/files": place})
        await sink.aclose()
    assert found[0] == found[1]
    require_places(found[0], found[1])
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    sink = FilesContract().make(tmp_path / "copy")
    await sink.open(replace(crawl_info(tmp_path / "copy"), shared=True))
    assert await sink.place() != found[0]["data/files"], "an image of the machine, say"
    await sink.aclose()
    with pytest.raises(UsageError, match="another directory") as caught:
        require_places(found[0], found[2])
    assert "share that directory" in caught.value.hint


async def test_files_of_two_workers_have_one_content_once(tmp_path: Path) -> None:
    crawl = SharedCrawl(tmp_path, lambda: Chain([FilesContract().make(tmp_path)]))
    for worker in range(3):
        await crawl.stage(worker, {"file": "https://example.com/1.0"})
    await crawl.deliver("dies after")
    await crawl.publish()
    assert FilesContract().delivered(tmp_path) == [(1, 0)]
