"""`-o -`: real pipes, at the file descriptor."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from scraper.pipelines.stdout import Stdout
from scraper.protocols import Sink

BODY = """
import asyncio, os, sys
from scraper.errors import ScraperError
from scraper.pipelines.stdout import Stdout
from scraper.testing.sinks import crawl_info
from pathlib import Path

async def main():
    sink = Stdout()
    if sys.argv[2] != "1":
        print("first")  # still in Python's buffer when the sink takes the descriptor
    await sink.open(crawl_info(Path(sys.argv[1])))
    await sink.rewind(None)
    for n in range(int(sys.argv[2])):
        await sink.write([b'{"n":%d}\\n' % n, b"x" * int(sys.argv[3]) + b"\\n"])
    await sink.publish()
    await sink.aclose()
    print(sink.describe()["records"], file=sys.stderr)

try:
    asyncio.run(main())
except BrokenPipeError:
    sys.exit(9)
except ScraperError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def start(tmp_path: Path, groups: int, size: int, stdout: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BODY), str(tmp_path), str(groups), str(size)],
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


def test_is_a_sink() -> None:
    sink: Sink = Stdout()
    assert isinstance(sink, Sink)


def test_lines_in_order(tmp_path: Path) -> None:
    process = start(tmp_path, 3, 2, subprocess.PIPE)
    out, err = process.communicate()
    assert out.split() == [b"first", *(b'{"n":0} xx {"n":1} xx {"n":2} xx').split()]
    assert err == b"6\n"


def test_reader_that_goes_away_ends_quietly(tmp_path: Path) -> None:
    process = start(tmp_path, 2000, 5000, subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), err) == (9, b""), "no residue is flushed at exit"


def test_pipe_that_does_not_block(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = start(tmp_path, 5, 300_000, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        out = pipe.read()
    _, err = process.communicate()
    assert err == b"10\n"
    assert len(out) == len(b"first\n") + 5 * (300_001 + len(b'{"n":0}\n'))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_device(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        process = start(tmp_path, 1, 10, full.fileno())
        _, err = process.communicate()
    assert process.returncode == 4
    assert b"cannot write /dev/stdout: the disk is full" in err
