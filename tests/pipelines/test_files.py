"""The files sink: what it asks for, what it gives the item, and what lies there afterwards."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, HttpUrl

from scraper import Item
from scraper.components import build_component
from scraper.errors import (
    ConfigError,
    DamagedState,
    FetchError,
    ItemInvalid,
    JobError,
    ScraperError,
    Throttled,
    UsageError,
)
from scraper.http import Request, Response
from scraper.pipelines import filefetch
from scraper.pipelines.files import File, Files
from scraper.protocols import RedoSink, Reopens
from tests.pipelines.filelab import SHOP, Lab, Shelf, picture, sha


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def place(body: bytes, folder: str = "images", ending: str = "png") -> str:
    return f"{folder}/{sha(body)[:2]}/{sha(body)}.{ending}"


class Book(Item):
    image: str | None = None
    manuals: list[str] = []
    files: list[File] = []


# ── what comes of an item ────────────────────────────────────────────────────────────────


async def test_the_item_says_where_its_file_lies(lab: Lab) -> None:
    body = picture(1)
    lab.put("a.png", body)
    (item,) = await lab.run({"title": "Fox", "image": "/a.png"})
    path = f"data/files/{place(body)}"
    assert item == {
        "title": "Fox",
        "image": "/a.png",
        "files": [
            {
                "url": SHOP + "a.png",
                "path": path,
                "checksum": sha(body),
                "size": len(body),
                "type": "image/png",
                "error": None,
            }
        ],
    }
    assert (lab.root / path).read_bytes() == body
    assert lab.files() == {place(body): body}
    assert not (lab.root / "data/files/.incoming").exists()


async def test_it_is_a_sink_that_applies_groups(lab: Lab) -> None:
    sink = Files(["image"])
    assert isinstance(sink, RedoSink)
    assert isinstance(sink, Reopens)
    assert sink.recovery == "redo"
    assert sink.keeps_items is False
    before = sink.key
    await sink.open(lab.crawl())
    assert (before, sink.key) == ("data/files", str(lab.root / "data/files"))
    await sink.aclose()


async def test_several_fields_lists_and_nested_ones(lab: Lab) -> None:
    for name in ("a", "b", "c", "d"):
        lab.put(f"{name}.png", picture(ord(name)))
    item = {
        "image": SHOP + "a.png#top",
        "gallery": [None, "b.png", "/a.png", ""],
        "parts": [{"photo": "c.png"}, {"photo": None}, {"other": 1}],
        "maker": {"logo": {"url": "d.png"}},
        "none": None,
    }
    fields = ["image", "gallery", "parts.photo", "maker.logo.url", "none", "missing.too"]
    (done,) = await lab.run(item, fields=fields)
    assert [file["url"] for file in done["files"]] == [SHOP + f"{n}.png" for n in "abcd"]
    assert lab.fetched == dict.fromkeys(("a.png", "b.png", "c.png", "d.png"), 1)
    assert len(lab.files()) == 4


async def test_urls_resolve_against_the_page_and_its_base(lab: Lab) -> None:
    lab.put("shelf/img/a.png", picture(1))
    lab.put("base/b.png", picture(2))
    async with lab.process() as process:
        await process.item({"image": "img/a.png"}, process.page(SHOP + "shelf/1.html"))
        page = process.page()
        page.response = Response(
            SHOP + "x", 200, {"Content-Type": "text/html"}, b"<html><base href=/base/><p>"
        )
        await process.item({"image": "b.png"}, page)
        page = process.page()
        page.response = None  # of an errback
        await process.item({"image": "shelf/img/a.png"}, page)
    assert lab.fetched == {"shelf/img/a.png": 1, "base/b.png": 1}


async def test_models_and_dataclasses_get_theirs(lab: Lab) -> None:
    url = lab.put("a.png", picture(1))

    class Open(BaseModel):
        model_config = ConfigDict(extra="allow", frozen=True)
        image: HttpUrl

    class Loose(Item):
        image: str
        files: list[dict[str, Any]] | None = None

    @dataclass(frozen=True)
    class Data:
        image: str
        files: list[dict[str, Any]] = field(default_factory=list)

    items = [Book(image=url), Open(image=HttpUrl(url)), Loose(image=url), Data(url), Book()]
    book, extra, loose, data, bare = await lab.run(*items)
    (file,) = book.files
    assert isinstance(file, File)
    assert (file.size, file.error) == (len(picture(1)), None)
    assert items[0] == Book(image=url), "the item itself is left alone"
    assert "files" not in items[0].model_fields_set
    assert extra.model_dump(mode="json")["files"] == [file.model_dump()]
    assert loose.files == data.files == [file.model_dump()]
    assert bare.files == []


async def test_another_field_or_none_may_take_them(lab: Lab) -> None:
    class Own(Item):
        image: str
        covers: list[File] = []

    url = lab.put("a.png", picture(1))
    (own,) = await lab.run(Own(image=url), into="covers")
    assert own.covers[0].url == url
    item = Own(image=url)
    assert await lab.run(item, into="") == [item]


async def test_a_model_without_the_fields_is_a_mistake_of_the_configuration(lab: Lab) -> None:
    class Bare(Item):
        image: str

    url = lab.put("a.png", picture(1))
    async with lab.process() as process:
        with pytest.raises(ConfigError, match="Bare has no field 'files'") as caught:
            await process.item(Bare(image=url))
        assert "list[File]" in caught.value.hint
    async with lab.process(fields=["imgae"]) as process:
        with pytest.raises(ConfigError, match="none of the fields imgae; did you mean image"):
            await process.item(Book(image=url))
        assert await process.item({"image": url}) == {"image": url, "files": []}


async def test_results_that_do_not_fit_reject_the_item(lab: Lab) -> None:
    class Wrong(Item):
        image: str
        files: list[str] = []

    url = lab.put("a.png", picture(1))
    async with lab.process() as process:
        with pytest.raises(ItemInvalid) as caught:
            await process.item(Wrong(image=url))
    assert [error["field"] for error in caught.value.errors] == ["files.0"]


async def test_a_field_that_holds_no_url_fails_its_item(lab: Lab) -> None:
    async with lab.process() as process:
        with pytest.raises(ScraperError, match="image holds int"):
            await process.item({"image": 7})


async def test_fields_that_never_come_are_told(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.put("a.png", picture(1))
    await lab.run({"image": "/a.png", "maker": {}}, fields=["image", "maker.logo", "manual"])
    assert "no item had the field maker.logo, manual" in caplog.text


# ── what is asked for ────────────────────────────────────────────────────────────────────


async def test_the_request_is_one_of_the_pages_session(lab: Lab) -> None:
    lab.put("a.png", picture(1))
    async with lab.process(types=["image/*", "application/pdf"], timeout=9) as process:
        page = process.page(session="ann", proxy="http://proxy.example:1")
        await process.item({"image": "http://u:p@shop.example/a.png"}, page)
    (request,) = lab.asked
    assert (request.session, request.proxy) == ("ann", "http://proxy.example:1")
    assert request.timeout == 9
    assert request.headers["Accept"] == "image/*, application/pdf, */*;q=0.1"
    assert request.headers["Authorization"] == "Basic dTpw"


async def test_sessions_share_no_files(lab: Lab) -> None:
    lab.put("bill.pdf", b"%PDF-1.7 ann", "application/pdf")
    async with lab.process() as process:
        ann = await process.item({"image": "bill.pdf"}, process.page(session="ann"))
        lab.put("bill.pdf", b"%PDF-1.7 bob", "application/pdf")
        bob = await process.item({"image": "bill.pdf"}, process.page(session="bob"))
    assert ann["files"][0]["checksum"] != bob["files"][0]["checksum"]


async def test_a_url_is_asked_for_once_at_a_time_and_once_in_all(lab: Lab) -> None:
    lab.put("logo.png", picture(1))
    door, waiting = asyncio.Event(), 0

    async def slow(request: Request, into: Path, most: int) -> Response:
        nonlocal waiting
        waiting += 1
        await door.wait()
        return await lab.download(request, into, most)

    async with lab.process(replace(lab.crawl(), download=slow)) as process:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(process.item({"image": "logo.png"})) for _ in range(50)]
            while not waiting:
                await asyncio.sleep(0.001)
            door.set()
        assert len({str(task.result()) for task in tasks}) == 1
        await process.item({"image": "/logo.png"})
        await process.commit()
        await process.item({"image": "logo.png"})
        await process.commit()
        await process.sink.publish()
        told = process.sink.describe()
    assert waiting == 1
    assert told["records"] == 52
    assert (told["downloaded"], told["kept"]) == (1, 51)


async def test_what_is_in_its_place_is_not_moved_again(lab: Lab) -> None:
    lab.put("logo.png", picture(1))
    async with lab.process() as process:
        await process.item({"image": "logo.png"})
        await process.commit()
        for _ in range(2):
            await process.item({"image": "logo.png"})
        await process.commit()
        (_, records) = lab.redo[0]
        assert records == [b'{"kept":%d}' % len(picture(1))] * 2


async def test_who_waits_for_another_goes_on_when_that_one_is_gone(lab: Lab) -> None:
    lab.put("a.png", picture(1))
    begun, hang = asyncio.Event(), asyncio.Event()

    async def stuck(request: Request, into: Path, most: int) -> Response:
        if not begun.is_set():
            begun.set()
            await hang.wait()
        return await lab.download(request, into, most)

    async with lab.process(replace(lab.crawl(), download=stuck)) as process:
        first = asyncio.create_task(process.item({"image": "a.png"}))
        await begun.wait()
        second = asyncio.create_task(process.item({"image": "a.png"}))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second)["files"][0]["error"] is None
        assert first.cancelled()


async def test_files_of_one_item_come_together_within_bounds(lab: Lab) -> None:
    running = most = 0
    door = asyncio.Event()

    async def counted(request: Request, into: Path, limit: int) -> Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 4:
            door.set()
        await door.wait()
        running -= 1
        return await lab.download(request, into, limit)

    names = [lab.put(f"{n}.png", picture(n)) for n in range(10)]
    async with lab.process(replace(lab.crawl(), download=counted)) as process:
        item = await process.item({"image": names})
    assert [file["url"] for file in item["files"]] == names
    assert most == 4


async def test_what_is_remembered_is_bounded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filefetch, "REMEMBERED", 3)
    names = [lab.put(f"{n}.png", picture(n)) for n in range(4)]
    async with lab.process() as process:
        for name in [*names, names[3], names[1], names[0]]:
            await process.item({"image": name})
    assert lab.fetched == {"0.png": 2, "1.png": 1, "2.png": 1, "3.png": 1}


# ── the same again: later runs ───────────────────────────────────────────────────────────


async def test_a_later_run_does_not_ask_for_what_is_there(lab: Lab) -> None:
    lab.put("a.png", picture(1))
    first = await lab.run({"image": "a.png"})
    lab.position, lab.redo = None, []
    again = await lab.run({"image": "a.png"}, crawl=lab.crawl(started="20260103T000000Z"))
    assert first == again
    assert lab.fetched == {"a.png": 1}


@pytest.mark.parametrize("change", ["gone", "cut"])
async def test_a_file_that_is_not_there_any_more_is_fetched_again(lab: Lab, change: str) -> None:
    body = picture(1)
    lab.put("a.png", body)
    await lab.run({"image": "a.png"})
    path = lab.root / "data/files" / place(body)
    path.unlink()
    if change == "cut":
        path.write_bytes(body[:5])
    await lab.run({"image": "a.png"})
    assert path.read_bytes() == body
    assert lab.fetched == {"a.png": 2}


def age(lab: Lab, days: float) -> None:
    """Make what the index says older."""
    with sqlite3.connect(lab.root / "data/files/.index.sqlite") as index:
        index.execute("UPDATE urls SET fetched = fetched - ?", (days * 86_400,))
    index.close()


def fetched_at(lab: Lab) -> float:
    index = sqlite3.connect(lab.root / "data/files/.index.sqlite")
    (found,) = index.execute("SELECT fetched FROM urls").fetchone()
    index.close()
    return float(found)


async def test_what_has_expired_is_asked_for_with_its_validators(lab: Lab) -> None:
    dated = "Mon, 05 Jan 2026 10:00:00 GMT"
    lab.put("a.png", picture(1), ETag='"v1"', Last_Modified=dated)
    (first,) = await lab.run({"image": "a.png"}, expires=2)
    age(lab, 1)
    await lab.run({"image": "a.png"}, expires=2)
    assert lab.fetched == {"a.png": 1}
    age(lab, 2)
    before = fetched_at(lab)
    (again,) = await lab.run({"image": "a.png"}, expires=2)
    assert again == first
    assert lab.asked[1].headers["If-None-Match"] == '"v1"'
    assert lab.asked[1].headers["If-Modified-Since"] == dated
    assert fetched_at(lab) > before, "and is fresh again"
    age(lab, 3)
    lab.put("a.png", picture(2), ETag='"v2"')
    (changed,) = await lab.run({"image": "a.png"}, expires=2)
    assert changed["files"][0]["checksum"] == sha(picture(2))
    assert lab.files().keys() == {place(picture(1)), place(picture(2))}
    await lab.run({"image": "a.png"}, expires=2)
    assert lab.fetched == {"a.png": 3}


async def test_without_expiry_it_is_never_asked_for(lab: Lab) -> None:
    lab.put("a.png", picture(1))
    await lab.run({"image": "a.png"})
    age(lab, 10_000)
    await lab.run({"image": "a.png"})
    assert lab.fetched == {"a.png": 1}


@pytest.mark.parametrize(("reason", "stays"), [("timeout", True), ("http_410", False)])
async def test_what_cannot_be_asked_for_just_now_stays(lab: Lab, reason: str, stays: bool) -> None:
    url = lab.put("a.png", picture(1))
    await lab.run({"image": "a.png"})
    age(lab, 9)
    lab.web[url].error = FetchError(reason)
    (item,) = await lab.run({"image": "a.png"}, expires=1)
    assert item["files"][0]["error"] == (None if stays else reason)
    assert (item["files"][0]["checksum"] == sha(picture(1))) is stays


# ── what does not come ───────────────────────────────────────────────────────────────────


async def test_a_file_that_does_not_come_is_noted_and_counted(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.put("page.png", b"<!doctype html><p>Not found", "image/png")
    lab.put("empty.png", b"")
    lab.put("big.png", picture(1, 2000))
    names = ["none.png", "page.png", "empty.png", "big.png", "data:image/png;base64," + "A" * 999]
    async with lab.process(types=["image/*"], max_size=1000) as process:
        with caplog.at_level(logging.INFO):
            item = await process.item({"image": names})
            await process.item({"image": "none.png"})
            await process.commit()
            await process.sink.publish()
        told = process.sink.describe()
    errors = [file["error"] for file in item["files"]]
    assert errors == ["http_404", "file_type", "file_empty", "body_too_large", "url_invalid"]
    assert item["files"][0] == {
        "url": SHOP + "none.png",
        "path": None,
        "checksum": None,
        "size": None,
        "type": None,
        "error": "http_404",
    }
    assert len(item["files"][4]["url"]) < 250
    assert lab.fetched["none.png"] == 1, "a permanent failure is remembered"
    assert told["lost"] == {
        "body_too_large": 1,
        "file_empty": 1,
        "file_type": 1,
        "http_404": 2,
        "url_invalid": 1,
    }
    assert (told["records"], told["downloaded"], told["bytes"]) == (0, 0, 0)
    assert "file: file_type: http://shop.example/page.png (text/html)" in caplog.text
    assert "files: 6 did not come: body_too_large 1" in caplog.text
    assert lab.files() == {}


async def test_a_failure_that_may_pass_is_tried_for_the_next_item(lab: Lab) -> None:
    url = lab.put("a.png", picture(1))
    lab.web[url].error = FetchError("timeout")
    async with lab.process() as process:
        item = await process.item({"image": url})
        assert item["files"][0]["error"] == "timeout"
        lab.web[url].error = None
        item = await process.item({"image": url})
        assert item["files"][0]["error"] is None


async def test_a_required_file_that_does_not_come_fails_its_item(lab: Lab) -> None:
    url = lab.put("a.png", picture(1))
    async with lab.process(required=True) as process:
        page = process.page()
        with pytest.raises(ScraperError, match=f"http_404: the file {SHOP}none.png"):
            await process.sink.process({"image": [url, "none.png"]}, page)
        assert page.staged == 0
        assert (await process.item({"image": None}))["files"] == []
        await process.commit()
        await process.sink.publish()
    assert lab.files() == {}


async def test_a_host_that_asks_for_quiet_puts_the_page_back(lab: Lab) -> None:
    quiet = Throttled(2e9, SHOP)
    names = [lab.put(f"{n}.png", picture(n)) for n in range(3)]
    lab.web[names[1]].error = quiet
    async with lab.process() as process:
        for image in (names, names[1]):
            with pytest.raises(Throttled) as caught:
                await process.item({"image": image})
            assert caught.value.at == 2e9
        lab.web[names[1]].error = None
        item = await process.item({"image": names})
    assert [file["error"] for file in item["files"]] == [None] * 3


async def test_a_304_that_nobody_asked_for_is_no_file(lab: Lab) -> None:
    lab.web[SHOP + "a.png"] = Shelf(status=304, memory=True)
    (item,) = await lab.run({"image": "a.png"})
    assert item["files"][0]["error"] == "http_304"


async def test_what_a_middleware_answers_is_a_file_too(lab: Lab) -> None:
    lab.web[SHOP + "a.png"] = Shelf(picture(1), memory=True)
    lab.web[SHOP + "b.png"] = Shelf(picture(2, 5000), memory=True)
    (item,) = await lab.run({"image": ["a.png", "b.png"]}, max_size=1000)
    assert [file["error"] for file in item["files"]] == [None, "body_too_large"]
    assert lab.files() == {place(picture(1)): picture(1)}


async def test_a_download_that_is_cancelled_leaves_nothing_behind_it(lab: Lab) -> None:
    begun = asyncio.Event()

    async def stuck(request: Request, into: Path, most: int) -> Response:
        into.write_bytes(b"half")
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with lab.process(replace(lab.crawl(), download=stuck)) as process:
        task = asyncio.create_task(process.item({"image": "a.png"}))
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])
        await process.sink.publish()
    assert lab.files() == {}
    assert lab.left() == []


# ── where it goes ────────────────────────────────────────────────────────────────────────


async def test_one_content_is_one_file(lab: Lab) -> None:
    body = picture(1)
    lab.put("a.png", body)
    lab.put("b.jpg", body, "image/jpeg")
    lab.put("c", body, "application/octet-stream")
    async with lab.process() as process:
        one = await process.item({"image": "a.png"})
        two = await process.item({"image": ["b.jpg", "c"]})
        await process.commit()
        await process.sink.publish()
    paths = {file["path"] for item in (one, two) for file in item["files"]}
    assert paths == {f"data/files/{place(body)}"}
    assert lab.files() == {place(body): body}
    assert lab.left() == []


async def test_one_content_keeps_its_place_over_runs(lab: Lab) -> None:
    body = b"just text"
    lab.put("a.csv", body, "text/csv")
    lab.put("b.txt", body, "text/plain")
    await lab.run({"image": "a.csv"})
    (item,) = await lab.run({"image": "b.txt"})
    assert item["files"][0]["path"] == f"data/files/{place(body, 'documents', 'csv')}"
    assert len(lab.files()) == 1


async def test_a_directory_for_each_type_of_item(lab: Lab) -> None:
    class Toy(Item):
        image: str
        files: list[File] = []

    url = lab.put("a.png", picture(1))
    book, toy = await lab.run(Book(image=url), Toy(image=url), directory="data/{item}/{spider}")
    assert book.files[0].path == f"data/Book/books/{place(picture(1))}"
    assert toy.files[0].path == f"data/Toy/books/{place(picture(1))}"
    assert set(lab.files("data")) == {
        f"Book/books/{place(picture(1))}",
        f"Toy/books/{place(picture(1))}",
    }


async def test_a_directory_elsewhere_has_absolute_paths(lab: Lab, tmp_path: Path) -> None:
    lab.root = tmp_path / "project"
    lab.put("a.png", picture(1))
    directory = str(tmp_path / "shelf" / "{started}")
    with pytest.raises(UsageError, match="shelf does not exist"):
        await lab.run({"image": "a.png"}, directory=directory)
    (tmp_path / "shelf").mkdir()
    (item,) = await lab.run({"image": "a.png"}, directory=directory)
    path = Path(item["files"][0]["path"])
    assert path == tmp_path / "shelf/20260102T030405Z" / place(picture(1))
    assert path.is_file()


async def test_names_may_be_kept(lab: Lab) -> None:
    lab.put("get?id=1", b"%PDF-1.7", Content_Disposition='attachment; filename="Manual EN.pdf"')
    lab.put("b/Manual.PDF", b"%PDF-1.4")
    await lab.run({"image": ["get?id=1", "b/Manual.PDF"]}, keep_names=True)
    assert set(lab.files()) == {
        f"documents/{sha(body)[:2]}/{name}-{sha(body)[:32]}.pdf"
        for name, body in (("Manual_EN", b"%PDF-1.7"), ("Manual", b"%PDF-1.4"))
    }


HOSTILE = [
    "../../../../x",
    "/etc/passwd",
    "..\\..\\x",
    "a\0b",
    "\n\r\x1b[31m",
    "x" * 300,
    "ü" * 300,
    "CON",
    "con.txt",
    "NUL.tar.gz",
    ".htaccess",
    ".",
    "..",
    "",
    "~/x",
    "a/../../b",
    "%2e%2e%2f%2e%2e%2fx",
    "\ud800",
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("how", ["header", "url"])
async def test_no_name_leads_out_of_the_directory(
    lab: Lab, tmp_path: Path, name: str, how: str
) -> None:
    lab.root = tmp_path / "project"
    url = SHOP + "get"
    headers = {}
    if how == "header":
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    else:
        url = Request(SHOP + "a/" + name).url
    lab.web[url] = Shelf(picture(1), headers=headers)
    async with lab.process(keep_names=True) as process:
        item = await process.item({"image": url})
        await process.commit()
        await process.sink.publish()
    assert item["files"][0]["error"] is None
    (path,) = lab.files()
    folder, prefix, kept = path.split("/")
    assert (folder, prefix) == ("images", sha(picture(1))[:2])
    assert not kept.startswith(".")
    assert len(kept.encode()) < 255
    assert kept.partition(".")[0].lower() not in {"con", "nul"}
    assert list(tmp_path.iterdir()) == [lab.root]
    assert sorted(p.name for p in lab.root.iterdir()) == [".scrape", "data"]


@pytest.mark.case(
    79, "a symbolic link where a directory of files is to be", "refused; nothing is written there"
)
@pytest.mark.parametrize("link", ["images", "images/ab", ".incoming"])
async def test_links_are_not_followed(lab: Lab, tmp_path: Path, link: str) -> None:
    lab.root = tmp_path / "project"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    body = next(b for b in map(picture, range(5000)) if sha(b).startswith("ab"))
    lab.put("a.png", body)
    path = lab.root / "data/files" / link
    path.parent.mkdir(parents=True)
    path.symlink_to(elsewhere)
    with pytest.raises(UsageError, match="symbolic link"):
        await lab.run({"image": "a.png"})
    assert list(elsewhere.iterdir()) == []


@pytest.mark.case(
    79, "a symbolic link where a file is to be", "replaced; what it leads to is not touched"
)
async def test_a_link_in_a_files_place_is_replaced(lab: Lab, tmp_path: Path) -> None:
    lab.root = tmp_path / "project"
    secret = tmp_path / "secret"
    secret.write_bytes(b"keep me")
    lab.put("a.png", picture(1))
    path = lab.root / "data/files" / place(picture(1))
    path.parent.mkdir(parents=True)
    path.symlink_to(secret)
    await lab.run({"image": "a.png"})
    assert not path.is_symlink()
    assert (path.read_bytes(), secret.read_bytes()) == (picture(1), b"keep me")


async def test_the_directory_itself_may_be_a_link(lab: Lab, tmp_path: Path) -> None:
    lab.root = tmp_path / "project"
    (tmp_path / "big").mkdir()
    (lab.root / "data").mkdir(parents=True)
    (lab.root / "data/files").symlink_to(tmp_path / "big")
    lab.put("a.png", picture(1))
    await lab.run({"image": "a.png"})
    assert (tmp_path / "big" / place(picture(1))).is_file()


# ── options ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "Files needs fields"),
        ({"fields": []}, "name the fields that hold URLs"),
        ({"fields": ["a..b"]}, "name the fields that hold URLs"),
        ({"fields": ["a"], "types": ["png"]}, "'png' is no type"),
        ({"fields": ["a"], "max_size": 0}, "max_size = 0"),
        ({"fields": ["a"], "max_size": "fifty"}, "max_size"),
        ({"fields": ["a"], "expires": -1}, "expires = -1"),
        ({"fields": ["a"], "timeout": 0}, "timeout = 0"),
        ({"fields": ["a"], "mode": "append"}, "unknown key mode"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_component(Files, options, "[[pipelines]] files")


def test_options_as_a_table_has_them() -> None:
    table = {"fields": ["image"], "max_size": "2 MB", "types": ["image/*"], "expires": 30}
    sink = build_component(Files, table, "[[pipelines]] files")
    assert sink._terms.max_size == 2_000_000
    assert sink._terms.expires == 30 * 86_400


async def test_a_place_that_cannot_be_written_is_told_before_anything(lab: Lab) -> None:
    (lab.root / "data").write_bytes(b"a file")
    with pytest.raises(UsageError, match="a part of the path is a file"):
        await lab.run()
    (lab.root / "data").unlink()
    (lab.root / "data/files").mkdir(parents=True)
    (lab.root / "data/files/.index.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(DamagedState, match=r"\.index\.sqlite is no index of files"):
        await lab.run()


async def test_an_index_of_something_else_is_left_alone(lab: Lab) -> None:
    path = lab.root / "data/files/.index.sqlite"
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine (a)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(DamagedState, match="made by something else"):
        await lab.run()
    assert path.read_bytes() == before


async def test_without_a_way_to_download_nothing_comes(lab: Lab) -> None:
    async with lab.process(replace(lab.crawl(), download=None)) as process:
        with pytest.raises(ConfigError, match="no way to download"):
            await process.item({"image": "a.png"})


# ── processes that come and go ───────────────────────────────────────────────────────────


async def test_opening_changes_nothing(lab: Lab) -> None:
    lab.put("a.png", picture(1))
    async with lab.process() as process:
        await process.item({"image": "a.png"})
        await process.commit()
        await process.item({"image": lab.put("b.png", picture(2))})
    before = {path: path.read_bytes() for path in lab.root.rglob("*") if path.is_file()}
    sink = Files(["image"])
    await sink.open(lab.crawl())
    await sink.aclose()
    assert before == {path: path.read_bytes() for path in lab.root.rglob("*") if path.is_file()}
    assert len(lab.left()) == 1


async def test_what_was_not_committed_is_removed(lab: Lab) -> None:
    names = [lab.put(f"{n}.png", picture(n)) for n in range(3)]
    async with lab.process() as process:
        await process.item({"image": names[0]})
        await process.commit()
        await process.item({"image": names[1]})
        assert len(lab.left()) == 1
    async with lab.process() as process:
        assert lab.left() == []
        assert lab.files() == {place(picture(0)): picture(0)}
        await process.item({"image": names[2]})
        await process.commit()
        await process.item({"image": names[1]})  # its page is never committed
        await process.sink.publish()
    assert lab.left() == []
    assert set(lab.files()) == {place(picture(0)), place(picture(2))}


async def test_what_was_committed_is_moved_after_a_crash(lab: Lab) -> None:
    names = [lab.put(f"{n}.png", picture(n)) for n in range(3)]
    async with lab.process() as process:
        await process.item({"image": names[:2]})
        await process.commit(apply=False)
        lab.web[names[2]].body = b"half"
        await process.item({"image": names[2]})
    assert lab.files() == {}
    assert len(lab.left()) == 3
    async with lab.process() as process:
        assert set(lab.files()) == {place(picture(0)), place(picture(1))}
        assert lab.left() == []
        assert process.sink.describe()["downloaded"] == 2
        await process.sink.publish()
        await process.sink.publish()
    assert lab.fetched == {"0.png": 1, "1.png": 1, "2.png": 1}


@pytest.mark.parametrize("moved", [1, 2])
async def test_a_move_that_was_cut_short_is_rolled_forward(lab: Lab, moved: int) -> None:
    names = [lab.put(f"{n}.png", picture(n)) for n in range(2)]
    async with lab.process() as process:
        await process.item({"image": names})
        await process.commit(apply=False)
    incoming = {path.read_bytes(): path for path in lab.root.rglob(".incoming/*/*")}
    for number in range(moved):
        there = lab.root / "data/files" / place(picture(number))
        there.parent.mkdir(parents=True)
        incoming[picture(number)].rename(there)
    async with lab.process() as process:
        assert len(lab.files()) == 2
        assert process.sink.describe()["downloaded"] == 2


async def test_a_group_is_counted_once_however_often_it_is_applied(lab: Lab) -> None:
    url = lab.put("a.png", picture(1))
    async with lab.process() as process:
        await process.item({"image": [url, "none.png"]})
        await process.commit()
    for _ in range(3):
        async with lab.process() as process:
            await process.sink.apply(*lab.redo[0])
            told = process.sink.describe()
    assert (told["records"], told["lost"]) == (1, {"http_404": 1})


async def test_a_page_that_shares_a_download_with_one_that_died(lab: Lab) -> None:
    lab.put("a.png", picture(1))
    async with lab.process() as process:
        await process.sink.process({"image": "a.png"}, process.page())  # and its page dies
        await process.item({"image": "a.png"})
        await process.commit()
        await process.sink.publish()
    assert lab.files() == {place(picture(1)): picture(1)}
    assert lab.fetched == {"a.png": 1}


@pytest.mark.parametrize("lost", ["file", "index"])
async def test_less_than_was_committed_is_refused(lab: Lab, lost: str) -> None:
    lab.put("a.png", picture(1))
    async with lab.process() as process:
        await process.item({"image": "a.png"})
        await process.commit(apply=lost == "index")
    if lost == "file":
        next(lab.root.rglob(".incoming/*/*")).unlink()
        with pytest.raises(DamagedState, match="was committed and is gone") as caught:
            await lab.run()
    else:
        (lab.root / "data/files/.index.sqlite").unlink()
        lab.redo = []
        with pytest.raises(DamagedState, match="does not have all that was committed") as caught:
            await lab.run()
    assert caught.value.hint


async def test_a_ledger_that_is_older_than_the_index_is_refused(lab: Lab) -> None:
    async with lab.process() as process:
        for number in range(3):
            await process.item({"image": lab.put(f"{number}.png", picture(number))})
            await process.commit()
    lab.position = {"group": 2, "records": 2}
    with pytest.raises(DamagedState, match=r"is ahead of the ledger \(group 3, not 2\)"):
        await lab.run()


async def test_a_run_that_failed_leaves_what_was_delivered(lab: Lab) -> None:
    names = [lab.put(f"{n}.png", picture(n)) for n in range(2)]
    async with lab.process() as process:
        await process.item({"image": names[0]})
        await process.commit()
        await process.item({"image": names[1]})
        await process.sink.set_aside()
        await process.sink.set_aside()
    assert set(lab.files()) == {place(picture(0))}
    assert lab.left() == []


async def test_a_run_that_is_given_up_keeps_what_had_come_in(lab: Lab) -> None:
    names = [lab.put(f"{n}.png", picture(n)) for n in range(2)]
    async with lab.process() as process:
        await process.item({"image": names[0]})
        await process.commit(apply=False)
    sink = Files(["image"])
    await sink.open(lab.crawl())
    await sink.set_aside()  # as --fresh does
    await sink.aclose()
    assert len(lab.left()) == 1
    lab.position, lab.redo, lab.processes = None, [], 0
    await lab.run({"image": names[1]}, crawl=lab.crawl(started="20260103T000000Z"))
    assert set(lab.files()) == {place(picture(1))}
    (kept,) = (lab.root / "data/files/.incoming").glob("*.aside/*")
    assert kept.read_bytes() == picture(0)


async def test_a_run_of_the_same_second_begins_anew(lab: Lab) -> None:
    lab.put("a.png", picture(1))
    async with lab.process() as process:
        await process.item({"image": "a.png"})
        await process.commit()
    lab.position, lab.redo, lab.group = None, [], 0
    async with lab.process() as process:
        assert process.sink.describe()["records"] == 0
        await process.item({"image": lab.put("b.png", picture(2))})
        await process.commit()
        assert process.sink.describe()["records"] == 1
    assert len(lab.files()) == 2


async def test_it_goes_on_after_it_was_published(lab: Lab) -> None:
    names = [lab.put(f"{n}.png", picture(n)) for n in range(2)]
    await lab.run({"image": names[0]})
    sink = Files(["image"])
    await sink.open(lab.crawl())
    lab.position = await sink.reopen(lab.position, {})
    assert await sink.reopen(None, {}) is None
    await sink.aclose()
    async with lab.process() as process:
        assert process.sink.describe()["records"] == 1
        await process.item({"image": names[1]})
        await process.commit()
        await process.sink.publish()
    assert len(lab.files()) == 2


async def test_two_crawls_share_a_directory_and_one_run_does_not(lab: Lab) -> None:
    names = [lab.put(f"{n}.png", picture(n)) for n in range(2)]
    async with lab.process() as one:
        with pytest.raises(JobError):
            await lab.run(crawl=lab.crawl())
        other = Lab(lab.root, lab.web)
        await one.item({"image": names[0]})
        await other.run({"image": names}, crawl=other.crawl(job="other"))
        await one.commit()
        await one.sink.publish()
        assert len(lab.files()) == 2
    assert lab.left() == []


async def test_what_a_run_without_a_job_left_is_removed_by_the_next(lab: Lab) -> None:
    lab.put("a.png", picture(1))
    async with lab.process(lab.crawl(job=None)) as first:
        await first.item({"image": "a.png"})
        async with lab.process(lab.crawl(job=None)) as second:
            assert len(lab.left()) == 1, "whose process lives is left alone"
            await second.sink.publish()
    assert len(lab.left()) == 1
    await lab.run(crawl=lab.crawl(job=None))
    assert not (lab.root / "data/files/.incoming").exists()
    index = sqlite3.connect(lab.root / "data/files/.index.sqlite")
    assert index.execute("SELECT count(*) FROM runs WHERE applied > 0").fetchone() == (0,)
    index.close()


async def test_earlier_runs_of_a_job_are_forgotten(lab: Lab) -> None:
    for day in range(3):
        lab.position, lab.redo = None, []
        lab.put("a.png", picture(day))
        await lab.run({"image": "a.png"}, crawl=lab.crawl(started=f"2026010{day}T000000Z"))
    index = sqlite3.connect(lab.root / "data/files/.index.sqlite")
    assert index.execute("SELECT run FROM runs").fetchall() == [("books/job/20260102T000000Z",)]
    index.close()


async def test_state_is_nobody_elses_to_read(lab: Lab) -> None:
    lab.put("a.png", picture(1))
    await lab.run({"image": "a.png"})
    assert (lab.root / "data/files/.index.sqlite").stat().st_mode & 0o77 == 0
