"""Path templates, and what an operating system's error means."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from scraper.errors import ConfigError, OutOfResource, UsageError
from scraper.pipelines.paths import output_error, rejected_path, require_directory, resolve
from scraper.protocols import CrawlInfo
from scraper.testing.sinks import crawl_info

ROOT = Path("/srv/project")
CRAWL = CrawlInfo("books", {}, "20260102T030405Z", ROOT)


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("data/{spider}.jsonl", "/srv/project/data/books.jsonl"),
        ("{started}/{spider}.jsonl", "/srv/project/20260102T030405Z/books.jsonl"),
        ("data/../{spider}", "/srv/project/books"),
        ("./x", "/srv/project/x"),
        ("{{{spider}}}", "/srv/project/{books}"),
        ("{{spider}}", "/srv/project/{spider}"),
        ("/var/out/../x.jsonl", "/var/x.jsonl"),
        ("a b/ä.jsonl", "/srv/project/a b/ä.jsonl"),
    ],
)
def test_resolve(template: str, path: str) -> None:
    assert resolve(template, CRAWL) == Path(path)


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert resolve("~/x.jsonl", CRAWL) == Path("/home/me/x.jsonl")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{spidr}.jsonl", r"\{spidr\}"),
        ("{}", r"\{\}"),
        ("{0}", r"\{0\}"),
        ("{spider.__class__}", "spider.__class__"),
        ("{spider[0]}", "spider"),
        ("{spider!r}", "no format or conversion"),
        ("{spider:>9}", "no format or conversion"),
        ("{spider", "expected '}'"),
        ("}", "Single '}'"),
        ("../x.jsonl", "leaves the project"),
        ("data/../../x", "leaves the project"),
        ("../project-evil/x", "leaves the project"),
        ("", "names no file"),
        ("data/", "names no file"),
        ("data/..", "names no file"),
        ("a\0b", "names no file"),
    ],
)
def test_what_is_no_path(template: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        resolve(template, CRAWL)


@pytest.mark.case(
    79, "`../../etc/x`, `a/b`, `..` in place of `{item}` or `{spider}` in a path", "refused, exit 2"
)
@pytest.mark.parametrize("value", ["../../etc/x", "a/b", "..", "."])
def test_values_cannot_lead_elsewhere(value: str) -> None:
    with pytest.raises(ConfigError, match="no file name"):
        resolve("data/{spider}", CrawlInfo(value, {}, "s", ROOT))
    with pytest.raises(ConfigError, match="no file name"):
        resolve("data/{item}", CRAWL, {"item": value})


def test_more_placeholders() -> None:
    assert resolve("{item}.csv", CRAWL, {"item": "Book"}) == ROOT / "Book.csv"


@pytest.mark.parametrize(
    ("output", "path"),
    [
        ("data/books.jsonl", "data/books.rejected.jsonl"),
        ("data/{spider}.csv", "data/{spider}.rejected.jsonl"),
        ("data/{item}.csv", "data/{spider}.rejected.jsonl"),
        ("/o/b.jsonl.gz", "/o/b.rejected.jsonl"),
        ("v1.2/out", "v1.2/out.rejected.jsonl"),
        ("data/{spider}-{part}.csv.zst", "data/{spider}.rejected.jsonl"),
        ("data/{item}-{part}.csv", "data/{spider}.rejected.jsonl"),
        ("data/{item}/{part}.csv", "data/{spider}/{spider}.rejected.jsonl"),
        ("{part}/x.csv", "{spider}/x.rejected.jsonl"),
        ("{{item}}-{{part}}.csv", "{{item}}-{{part}}.rejected.jsonl"),
        ("s3://bucket/x.jsonl.gz", "data/{spider}.rejected.jsonl"),
    ],
)
def test_rejected_path(output: str, path: str) -> None:
    assert rejected_path(output) == path


def test_rejected_items_of_a_table_that_several_spiders_write() -> None:
    assert rejected_path("data/{spider}.db", shared=True) == "data/{spider}.rejected.jsonl"
    assert rejected_path("/o/shop.db", shared=True) == "/o/shop.{spider}.rejected.jsonl"


def test_no_room_is_the_machines_matter() -> None:
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE):
        error = output_error(OSError(code, "x"), Path("/o/f"))
        assert isinstance(error, OutOfResource)
        assert error.exit_code == 4
        assert "/o/f" in str(error)
        assert "run the same command again" in error.hint


def test_the_rest_is_the_users() -> None:
    for code in (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.ELOOP):
        error = output_error(OSError(code, "x"), Path("/o/f"))
        assert isinstance(error, UsageError)
        assert "/o/f" in str(error)
    assert "odd thing" in str(output_error(OSError(9999, "odd thing"), Path("/o/f")))


def test_missing_directories_outside_the_project_are_not_made(tmp_path: Path) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    crawl = crawl_info(project)
    for inside in ("x.csv", "new/x.csv", "a/{item}/b/x.csv"):
        require_directory(resolve(inside, crawl, {"item": "{item}"}), crawl)
    outside = str(elsewhere / "{item}" / "x.csv")
    with pytest.raises(UsageError, match="elsewhere does not exist"):
        require_directory(resolve(outside, crawl, {"item": "{item}"}), crawl)
    elsewhere.mkdir()
    require_directory(resolve(outside, crawl, {"item": "{item}"}), crawl)
    assert list(elsewhere.iterdir()) == []
