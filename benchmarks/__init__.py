"""Side-by-side runs: the same site, the same items, pages per CPU-second of the crawler."""
