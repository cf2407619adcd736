"""Content codings: every byte that compressors make comes back, every bomb stays small."""

from __future__ import annotations

import gzip
import os
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from scraper.download.coding import decoding, drain, named
from scraper.errors import FetchError
from tests.download.raw import raw_deflate

DATA = os.environ.get("SCRAPER_TEST_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="SCRAPER_TEST_DATA is not set")
LIMIT = 1 << 20


def streamed_zstd(data: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    return compressor.compress(data) + compressor.flush()


CODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw": ("deflate", raw_deflate),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", zstandard.compress),
    "zstd streamed": ("zstd", streamed_zstd),
}
coder = pytest.mark.parametrize("name", CODERS)


def decode(data: bytes, *codings: str, limit: int = LIMIT, piece: int = 1 << 20) -> bytes:
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
    return b"".join(decoding(pieces, codings, limit=limit))


def refusal(data: bytes, *codings: str, limit: int = LIMIT) -> str:
    with pytest.raises(FetchError) as caught:
        decode(data, *codings, limit=limit)
    return caught.value.reason


@coder
@given(data=st.binary(max_size=2000), piece=st.integers(1, 300))
def test_what_went_in_comes_out_however_it_is_cut(name: str, data: bytes, piece: int) -> None:
    coding, encode = CODERS[name]
    assert decode(encode(data), coding, piece=piece) == data


@coder
@given(data=st.binary(min_size=1, max_size=300), share=st.floats(0, 1, exclude_max=True))
def test_a_stream_cut_short_is_never_a_page(name: str, data: bytes, share: float) -> None:
    coding, encode = CODERS[name]
    wire = encode(data)
    assert refusal(wire[: int(len(wire) * share)], coding) == "decode"


@given(st.binary(max_size=400), st.sampled_from(["gzip", "deflate", "br", "zstd"]))
def test_garbage_raises_nothing_but_fetch_errors(data: bytes, coding: str) -> None:
    with suppress(FetchError):
        assert isinstance(decode(data, coding), bytes)


@given(st.binary(max_size=500), st.lists(st.sampled_from(sorted(CODERS)), max_size=5))
def test_layers_come_off_in_order(data: bytes, names: list[str]) -> None:
    wire = data
    for name in names:
        wire = CODERS[name][1](wire)
    assert decode(wire, *(CODERS[name][0] for name in names)) == data


@coder
@pytest.mark.parametrize("size", [100_000, 1 << 16, (1 << 16) + 1])
def test_sizes_around_a_step(name: str, size: int) -> None:
    coding, encode = CODERS[name]
    data = os.urandom(size // 2) + bytes(size - size // 2)
    assert decode(encode(data), coding) == data


@coder
def test_the_limit_is_exact(name: str) -> None:
    coding, encode = CODERS[name]
    assert len(decode(encode(bytes(1000)), coding, limit=1000)) == 1000
    assert refusal(encode(bytes(1001)), coding, limit=1000) == "body_too_large"


class TestBombs:
    @coder
    def test_memory_stays_within_twice_the_limit(self, name: str) -> None:
        coding, encode = CODERS[name]
        wire = (
            encode(bytes(64 << 20))
            if coding != "br"
            else brotli.compress(bytes(64 << 20), quality=1)
        )
        into, limit = BytesIO(), 16 << 20
        tracemalloc.start()
        try:
            with pytest.raises(FetchError) as caught:
                drain(iter(decoding([wire], [coding], limit=limit)), into, 64 << 20)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert caught.value.reason == "body_too_large"
        assert into.tell() <= limit
        assert peak <= 2 * limit

    def test_one_within_another_is_bounded_layer_by_layer(self) -> None:
        # The outer layer swells to 64 MB of empty members, of which nothing remains.
        wire = gzip.compress(gzip.compress(b"") * (64 << 15))
        assert refusal(wire, "gzip", "gzip") == "body_too_large"

    @needs_data
    @pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
    def test_known_ones(self, name: str) -> None:
        wire = (Path(DATA or "") / "compressed" / f"bomb-{name}.bin").read_bytes()
        assert refusal(wire, name, limit=1 << 20) == "body_too_large"
        assert len(decode(wire, name, limit=12 << 20)) == 11_511_612


class TestGzip:
    def test_members_are_joined(self) -> None:
        assert decode(gzip.compress(b"one ") + gzip.compress(b"two"), "gzip") == b"one two"

    def test_many_empty_members_are_cheap(self) -> None:
        # Cheap is counted, not timed: what is left over after a member is copied, and 50,000
        # times the rest of a megabyte would be 25 GB.
        wire = gzip.compress(b"") * 50_000 + gzip.compress(b"end")
        assert decode(wire, "gzip") == b"end"

    @pytest.mark.parametrize("rest", [b"\0" * 500, b"garbage", b"\n"])
    def test_what_follows_the_last_member_is_ignored(self, rest: bytes) -> None:
        assert decode(gzip.compress(b"page") + rest, "gzip") == b"page"

    def test_a_wrong_checksum(self) -> None:
        wire = bytearray(gzip.compress(b"page"))
        wire[-5] ^= 1
        assert refusal(bytes(wire), "gzip") == "decode"

    def test_a_body_that_only_says_so(self) -> None:
        assert refusal(b"<html>plain</html>", "gzip") == "decode"

    @needs_data
    @pytest.mark.parametrize(
        "name", ["truncated-crc-error.gz", "truncated-crc-error-short.gz", "unexpected-eof.gz"]
    )
    def test_known_truncations(self, name: str) -> None:
        assert refusal((Path(DATA or "") / "compressed" / name).read_bytes(), "gzip") == "decode"


class TestZstd:
    def test_frames_are_joined_and_skippable_ones_skipped(self) -> None:
        skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"
        wire = zstandard.compress(b"one ") + skippable + zstandard.compress(b"two") + skippable
        assert decode(wire, "zstd") == b"one two"

    def test_a_window_beyond_the_standard_is_refused(self) -> None:
        parameters = zstandard.ZstdCompressionParameters(window_log=24)
        compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        assert refusal(compressor.compress(b"x") + compressor.flush(), "zstd") == "decode"

    def test_a_wrong_checksum(self) -> None:
        wire = bytearray(streamed_zstd(b"page"))
        wire[-1] ^= 1
        assert refusal(bytes(wire), "zstd") == "decode"


@needs_data
@pytest.mark.parametrize(
    ("name", "codings"),
    [
        ("html-br", "br"),
        ("html-gzip", "gzip"),
        ("html-gzip-deflate", "gzip, deflate"),
        ("html-gzip-deflate-gzip", "gzip, deflate, x-gzip"),
        ("html-rawdeflate", "deflate"),
        ("html-zlibdeflate", "deflate"),
        ("html-zstd-static-content-size", "zstd"),
        ("html-zstd-static-no-content-size", "zstd"),
        ("html-zstd-streaming-no-content-size", "zstd"),
    ],
)
def test_real_pages_in_every_coding(name: str, codings: str) -> None:
    wire = (Path(DATA or "") / "compressed" / f"{name}.bin").read_bytes()
    page = decode(wire, *named([codings]))
    assert page.startswith(b"<!DOCTYPE")
    assert page.rstrip().endswith(b"</html>")


@pytest.mark.parametrize("coding", ["compress", "sdch", "utf-8", "gzip;q=1", "x" * 99])
def test_an_unknown_coding(coding: str) -> None:
    assert refusal(b"body", coding) == "decode"


def test_too_many_layers() -> None:
    assert refusal(b"", *["gzip"] * 6) == "decode"


def test_names() -> None:
    assert named(["GZip , identity,, br", "ZSTD"]) == ["gzip", "br", "zstd"]
    assert named([""]) == []


def test_draining_stops_where_told_and_goes_on() -> None:
    def steps() -> Iterator[bytes]:
        yield from [b"ab"] * 5

    pieces, into = steps(), BytesIO()
    assert drain(pieces, into, 4) is False
    assert into.getvalue() == b"abab"
    assert drain(pieces, into, 100) is True
    assert into.getvalue() == b"ab" * 5
