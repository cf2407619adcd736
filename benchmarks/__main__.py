"""`python -m benchmarks`: see `benchmarks.crawl`."""

from __future__ import annotations

from benchmarks.crawl import main

if __name__ == "__main__":
    main()
