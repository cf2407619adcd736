"""What publishing a Parquet file takes: no more for many rows than for few."""

from __future__ import annotations

from tests.memory import peak_of

PROGRAM = """
import asyncio, sys, tempfile
from tests.memory import peak
from pathlib import Path
from scraper.pipelines.parquet import Parquet
from scraper.testing.sinks import crawl_info

async def crawl(root, count):
    sink = Parquet("x.parquet", fields=["n", "text"], row_group=5_000)  # of types that values make
    await sink.open(crawl_info(root))
    await sink.rewind(None)
    for first in range(0, count, 1_000):
        await sink.write([
            b'["i,s",%d,"%s"]\\n' % (n, str(n).encode() * 50) for n in range(first, first + 1_000)
        ])
    await sink.publish()
    await sink.aclose()

with tempfile.TemporaryDirectory() as directory:
    asyncio.run(crawl(Path(directory), int(sys.argv[1])))
print(peak())
"""


def test_memory_does_not_grow_with_the_rows() -> None:
    few, many = peak_of(PROGRAM, 80_000), peak_of(PROGRAM, 320_000)  # of 300 bytes: 72 MB more
    assert many - few < 20, (few, many)
