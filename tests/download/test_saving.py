"""Bodies that go to a file: under the request's own limit, whole, and when wanted."""

from __future__ import annotations

import asyncio
import gzip
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scraper.errors import OutOfResource
from scraper.http import Request, Response
from scraper.saved import SavedResponse
from tests.download.raw import answering, downloader, head, outcome, reason, reply, serving

MOST = 1_000_000


def wish(port: int, path: Path, most: int = MOST, **options: object) -> Request:
    return Request(f"http://127.0.0.1:{port}/", **options).replace(into=(str(path), most))  # type: ignore[arg-type]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond *size* bytes: as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 1, 65_536, 900_001])
async def test_the_body_lies_in_the_file(tmp_path: Path, size: int) -> None:
    body = bytes(n % 251 for n in range(size))
    path = tmp_path / "file"
    async with serving(answering(reply(body, ("X-Own", "1")))) as port, downloader() as web:
        response = await web.fetch(wish(port, path))
        assert isinstance(response, SavedResponse)
        assert (response.file, response.size, response.body) == (path, size, b"")
        assert (response.status, response.headers["x-own"]) == (200, "1")
        assert path.read_bytes() == body
        assert web.bytes_received == size


async def test_it_may_be_larger_than_any_page(tmp_path: Path) -> None:
    body = b"x" * 300_000
    options = {"max_wire": 1000, "max_body": 1000}
    async with serving(answering(reply(body))) as port, downloader(options) as web:
        response = await web.fetch(wish(port, tmp_path / "file"))
        assert isinstance(response, SavedResponse)
        assert response.size == 300_000
        assert await reason(web, f"http://127.0.0.1:{port}/") == "body_too_large"


async def test_what_is_announced_too_large_is_not_even_begun(tmp_path: Path) -> None:
    path = tmp_path / "file"
    async with serving(answering(reply(b"x" * 2000))) as port, downloader() as web:
        assert await reason(web, wish(port, path, 1999)) == "body_too_large"
    assert not path.exists()


async def test_what_turns_out_too_large_is_left_off(tmp_path: Path) -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            sent += 65_536
            await writer.drain()

    async with serving(endless) as port, downloader() as web:
        assert await reason(web, wish(port, tmp_path / "file", 100_000)) == "body_too_large"
    assert (tmp_path / "file").stat().st_size <= 100_000
    assert sent < 64 << 20, "the client hung up"


async def test_codings_are_undone(tmp_path: Path) -> None:
    body = bytes(n * n % 256 for n in range(200_000))
    coded = gzip.compress(gzip.compress(body))
    answer = reply(coded, ("Content-Encoding", "gzip, gzip"))
    async with serving(answering(answer)) as port, downloader() as web:
        response = await web.fetch(wish(port, tmp_path / "file"))
        assert isinstance(response, SavedResponse)
        assert response.size == len(body)
        assert web.bytes_received == len(coded)
    assert (tmp_path / "file").read_bytes() == body
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (gzip.compress(bytes(5 * MOST)), "body_too_large"),
        (gzip.compress(bytes(500_000))[:-9], "decode"),
        (b"not compressed at all", "decode"),
    ],
    ids=["bomb", "cut", "plain"],
)
async def test_bad_codings_leave_nothing_half_done(tmp_path: Path, body: bytes, code: str) -> None:
    answer = reply(body, ("Content-Encoding", "gzip"))
    async with serving(answering(answer)) as port, downloader() as web:
        assert await reason(web, wish(port, tmp_path / "file")) == code
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


async def test_a_body_that_is_cut_short_is_no_file(tmp_path: Path) -> None:
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"
    async with serving(answering(short)) as port, downloader() as web:
        assert await reason(web, wish(port, tmp_path / "file")) == "incomplete"


async def test_a_body_that_drips_is_given_up(tmp_path: Path) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.005)

    async with serving(drip) as port, downloader(rate_window=0.05) as web:
        assert await reason(web, wish(port, tmp_path / "file")) == "too_slow"


@pytest.mark.parametrize("status", [301, 304, 404, 500])
async def test_other_answers_come_in_memory(tmp_path: Path, status: int) -> None:
    body = b"" if status == 304 else b"why not"
    async with serving(answering(reply(body, status=status))) as port, downloader() as web:
        response = await web.fetch(wish(port, tmp_path / "file"))
        assert type(response) is Response
        assert (response.status, response.body) == (status, body)
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_was_there_is_replaced_and_a_link_not_followed(tmp_path: Path) -> None:
    old, secret, link = tmp_path / "old", tmp_path / "secret", tmp_path / "link"
    old.write_bytes(b"a longer text than the new one")
    secret.write_bytes(b"keep me")
    link.symlink_to(secret)
    async with serving(answering(reply(b"new"))) as port, downloader() as web:
        await web.fetch(wish(port, old))
        with pytest.raises(OutOfResource, match="link"):
            await web.fetch(wish(port, link))
    assert (old.read_bytes(), secret.read_bytes()) == (b"new", b"keep me")


async def test_a_full_disk_is_not_taken_for_a_broken_connection(tmp_path: Path) -> None:
    async with serving(answering(reply(b"x" * 500_000))) as port, downloader() as web:
        with largest_file(200_000), pytest.raises(OutOfResource) as caught:
            await web.fetch(wish(port, tmp_path / "file"))
    assert str(tmp_path / "file") in str(caught.value)
    assert caught.value.hint


async def test_a_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    async with serving(answering(reply(b"x"))) as port, downloader() as web:
        with pytest.raises(OutOfResource, match="No such file"):
            await web.fetch(wish(port, tmp_path / "gone" / "file"))


async def test_a_connection_serves_on_after_a_file(tmp_path: Path) -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await head(reader):
            writer.write(reply(b"x" * 100_000))

    async with serving(handler) as port, downloader() as web:
        for number in range(3):
            await web.fetch(wish(port, tmp_path / f"{number}"))
        found = await outcome(web, f"http://127.0.0.1:{port}/")
        assert isinstance(found, Response)
    assert connections == 1
