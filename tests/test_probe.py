"""The probe and the threads: processes and pages, without a crawl."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from scraper import parsing
from scraper.errors import ExtractionError
from scraper.guard import suspicion
from scraper.http import Response
from scraper.parsing import LARGE, Parsing, Worker
from scraper.probe import Probe

HTML = {"Content-Type": "text/html; charset=utf-8"}
HARMLESS = b"<div>" * 3_000 + b"<a href=/x>x</a>"
"""It looks costly, and is not."""
COSTLY = b"<p>" + b"".join(b"<b a%d>" % n for n in range(3_000)) + b"<p>x" * 10_000
"""Gigabytes: the probe's memory ends it at once."""
ROW = b"<tr><td><a href='/x'>name</a><td>some text &amp; more<td>12.50\n"
ROWS = b"<!doctype html><table>" + ROW * (LARGE // len(ROW) + 1)


def page(body: bytes, content_type: str = "text/html; charset=utf-8") -> Response:
    return Response("http://h/shop/?token=abc", 200, {"Content-Type": content_type}, body)


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def ended(pid: int) -> bool:
    """Whether a process is gone, and waited for: a zombie would still be there."""
    return not Path(f"/proc/{pid}").exists()


def test_what_passes_and_what_does_not() -> None:
    before = descriptors()
    probe = Probe()
    assert probe.objection(HARMLESS) == ""
    first = probe.pid or 0
    assert probe.objection(b"") == ""
    assert probe.objection(ROWS) == ""
    assert probe.pid == first, "it is kept"
    assert "MB" in probe.objection(COSTLY)
    assert ended(first)
    assert probe.objection(HARMLESS) == ""
    second = probe.pid or 0
    assert second != first
    probe.stop()
    probe.end()
    probe.end()
    assert ended(second)
    assert descriptors() == before
    assert probe.objection(HARMLESS) == "the crawl is over"
    assert probe.pid is None


@pytest.mark.case(
    62, "the probe's process is killed between two pages", "a new one parses the page: an item"
)
def test_a_victim_is_replaced() -> None:
    """Whatever killed it, the page has no part in it."""
    probe = Probe()
    assert probe.objection(HARMLESS) == ""
    assert probe.pid is not None
    victim = probe.pid
    os.kill(victim, signal.SIGKILL)
    assert probe.objection(HARMLESS) == ""
    assert ended(victim)
    probe.end()


def test_a_process_that_stands_still_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, it neither answers nor dies; the page ends as one that is too costly."""
    monkeypatch.setattr("scraper.probe.PATIENCE", 0.1)
    real = Probe._passes

    def passes(self: Probe, process: subprocess.Popen[bytes], markup: bytes) -> bool:
        process.send_signal(signal.SIGSTOP)
        return real(self, process, markup)

    monkeypatch.setattr(Probe, "_passes", passes)
    probe = Probe()
    assert probe.objection(ROWS * 20) == "the probe died of it, twice (SIGKILL)"
    assert probe.pid is None


def test_without_an_interpreter(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No process, so nothing doubtful is parsed; that is told once."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    probe = Probe()
    assert probe.objection(HARMLESS) == "no probe can be started"
    assert probe.objection(HARMLESS) == "no probe can be started"
    assert len(caplog.records) == 1
    probe.end()


# Pages


def prepared(body: bytes, mode: str = "auto", content_type: str = HTML["Content-Type"]) -> Response:
    response = page(body, content_type)

    async def prepare() -> None:
        made = Parsing(mode)  # type: ignore[arg-type]
        try:
            await made.prepare(response)
        finally:
            await made.aclose()

    asyncio.run(prepare())
    return response


def parsed(response: Response) -> bool:
    """Whether the tree is there before anybody asked."""
    return "document" in vars(response)


@pytest.mark.parametrize("mode", ["auto", "never"])
def test_small_pages_are_left_alone(mode: str) -> None:
    response = prepared(b"<p>x", mode)
    assert not parsed(response)
    assert not response.checked
    assert response.css("p").get() == "<p>x</p>"


@pytest.mark.parametrize("content_type", ["application/json", "application/xml", "image/jpeg"])
@pytest.mark.parametrize("mode", ["auto", "always"])
def test_what_is_no_html_is_left_alone(content_type: str, mode: str) -> None:
    body = b"<?xml version='1.0'?><a>" if "xml" in content_type else b"{}"
    assert not parsed(prepared(body + b" " * LARGE, mode, content_type))


def test_large_pages_come_parsed() -> None:
    response = prepared(ROWS)
    assert parsed(response)
    assert len(response.css("a")) == LARGE // len(ROW) + 1


def test_pages_between_are_looked_at_once() -> None:
    """Not parsed before somebody asks, and then without asking the guard again."""
    response = prepared(ROWS[: LARGE // 2])
    assert not parsed(response)
    assert response.checked


@pytest.mark.parametrize("mode", ["auto", "always"])
def test_what_passes_the_probe_comes_parsed(mode: str) -> None:
    assert suspicion(HARMLESS) is not None
    response = prepared(HARMLESS, mode)
    assert parsed(response)
    assert response.links() == ["http://h/x"]


def test_always_means_small_pages_too() -> None:
    assert parsed(prepared(b"<p>x", "always"))


@pytest.mark.parametrize("mode", ["auto", "always", "never"])
def test_what_does_not_pass_is_never_parsed(mode: str) -> None:
    response = prepared(COSTLY, mode)
    assert not parsed(response)
    assert response.text.startswith("<p><b a0>")
    assert response.urljoin("y") == "http://h/shop/y"
    for _ in range(2):
        with pytest.raises(ExtractionError) as caught:
            response.css("p")
        assert caught.value.reason == "parse_limit"
        assert "token" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "utf-8-sig"])
@pytest.mark.parametrize(("body", "fine"), [(ROWS, True), (COSTLY, False)], ids=["rows", "costly"])
def test_it_is_the_decoded_page_that_counts(encoding: str, body: bytes, fine: bool) -> None:
    charset = "" if encoding != "latin-1" else "; charset=latin-1"
    response = prepared(body.decode().encode(encoding), content_type=f"text/html{charset}")
    assert parsed(response) is fine
    assert bool(response.refused) is not fine


def test_healthy_pages_do_not_wait_for_the_doubtful(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the probe has a page, others are parsed; those that need it, too, wait in line."""
    go, asked = threading.Event(), []

    def slow(self: Probe, markup: bytes) -> str:
        asked.append(markup)
        go.wait()
        return ""

    monkeypatch.setattr(Probe, "objection", slow)

    async def crawl() -> None:
        made = Parsing()
        doubtful = [page(HARMLESS), page(HARMLESS)]
        waiting = [asyncio.create_task(made.prepare(response)) for response in doubtful]
        healthy = page(ROWS)
        await made.prepare(healthy)
        assert parsed(healthy)
        assert not any(task.done() for task in waiting)
        assert len(asked) <= 1
        go.set()
        await asyncio.gather(*waiting)
        assert all(map(parsed, doubtful))
        await made.aclose()

    asyncio.run(crawl())


def test_a_page_that_deceives_the_counts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread that hangs in it is left behind; from then on nothing is believed."""
    hang = threading.Event()
    real = parsing._document

    def document(markup: bytes) -> object:
        if b"deceiver" in markup:
            hang.wait()
        return real(markup)

    monkeypatch.setattr(parsing, "_document", document)
    monkeypatch.setattr(parsing, "PATIENCE", 0.05)

    async def crawl() -> None:
        made = Parsing()
        deceiver, next_, small = page(ROWS + b"deceiver"), page(ROWS), page(b"<p>x")
        await made.prepare(deceiver)
        assert deceiver.refused
        monkeypatch.setattr(parsing, "PATIENCE", 60)
        await made.prepare(next_)
        assert parsed(next_)
        assert made.concerns(small), "as with always"
        await made.aclose()

    asyncio.run(crawl())
    hang.set()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "abc" not in caplog.text


def test_the_end_of_a_crawl_in_the_middle_of_a_page() -> None:
    """The page is over at once, the process gone, no descriptor left."""
    before = descriptors()

    async def crawl() -> tuple[int | None, Response]:
        made = Parsing()
        response = page(b"<div>" * 100_000)
        task = asyncio.create_task(made.prepare(response))
        while made.probe.pid is None:
            await asyncio.sleep(0.001)
        pid = made.probe.pid
        task.cancel()
        await asyncio.wait([task])
        await made.aclose()
        await made.aclose()
        return pid, response

    pid, _ = asyncio.run(crawl())
    assert pid is not None
    assert ended(pid)
    assert descriptors() == before


def test_a_worker_hands_on_what_is_raised() -> None:
    def fail() -> None:
        raise KeyError("x")

    async def main() -> None:
        worker = Worker("test")
        with pytest.raises(KeyError):
            await worker.do(fail)
        assert await worker.do(int, "7") == 7
        await worker.aclose()
        await worker.aclose()

    asyncio.run(main())
