"""scrape bench: real crawls of real shops, once; and what it says when something is amiss."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from scraper.cli import bench
from scraper.cli.bench import CRAWLS, SHOP, Measured
from scraper.demo import DemoShop
from scraper.demo.crawls import CRAWLS as MADE
from scraper.errors import CrawlFailed
from tests.cli.conftest import CommandLine


def test_both_bring_home_the_whole_shop(
    scrape: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what is set for other crawls is none of its business, nor is the project here
    monkeypatch.setenv("SCRAPE_CRAWL__MAX_PAGES", "3")
    scrape.write("config.toml", "[crawl]\nmax_pages = 3\n")
    said = scrape("bench", "--pages", "1", "--rounds", "1", "--json", "-q")
    assert (said.code, said.err) == (0, "")
    told = json.loads(said.out)
    assert set(told["crawls"]) == {"ours", "bare"}
    for crawl in told["crawls"].values():
        assert crawl["pages"] == SHOP
        [cpu], [wall] = crawl["cpu_s"], crawl["wall_s"]
        assert cpu > 0
        assert wall > 0
        assert crawl["pages_per_cpu_second"] == pytest.approx(SHOP / cpu, rel=0.01)
    assert told["of_bare"] > 0
    assert told["versions"]["aiohttp"]
    assert [path.name for path in scrape.root.iterdir()] == ["config.toml"]


def test_the_shops_pages_are_what_a_whole_crawl_of_it_sees() -> None:
    """Books, lists and categories; the front page is the first list once more, and is not below."""
    assert len(list(DemoShop().site.paths())) - 1 == SHOP
    assert set(CRAWLS) == set(MADE)


def test_the_table_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    bench._show(
        {
            "ours": Measured(99_999, [10.0, 14.2], [20.5, 21.5]),
            "bare": Measured(99_999, [5.0, 5.0], [10.0, 10.0]),
        },
        quiet=True,
    )
    out, err = capsys.readouterr()
    assert err == ""
    heads, ours, bare, *machine = out.splitlines()
    assert heads.split() == [
        "pages",
        "CPU,",
        "s",
        "pages/CPU-s",
        "of",
        "bare",
        "wall,",
        "s",
        "rounds",
    ]
    assert ours.split()[-6:] == ["99,999", "12.10", "8,264", "0.41", "21.00", "7,042–10,000"]
    assert bare.split()[-6:] == ["99,999", "5.00", "20,000", "1.00", "10.00", "20,000–20,000"]
    assert f"{os.cpu_count()} cores" in machine[0]
    assert "selectolax" in machine[1]
    assert max(map(len, out.splitlines())) <= 80


def test_crawls_that_differ_are_not_compared() -> None:
    bench._same([{("a", 1)}, {("a", 1)}])
    with pytest.raises(CrawlFailed, match="1 only from scraper, 2 only from the bare loop"):
        bench._same([{("a", 1)}, {("a", 2), ("b", 1)}])


def test_a_crawl_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "pages.jsonl").mkdir()
    with pytest.raises(CrawlFailed, match=r"^bare loop: IsADirectoryError: .*pages\.jsonl"):
        bench._crawl("bare", ["http://127.0.0.1:9/"], tmp_path, Measured())


def test_a_shop_that_does_not_open(scrape: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    said = scrape("bench")
    assert (said.code, said.out) == (1, "")
    assert said.err == "scrape: the shop did not open: its process ended without a word\n"


def test_numbers_out_of_range(scrape: CommandLine) -> None:
    for option in ("--pages", "--rounds"):
        said = scrape("bench", option, "0")
        assert said.code == 2
        assert option in said.err
