"""The way to the web: aiohttp behind a door that only this package's types pass.

Mutable state lives in `AiohttpDownloader` alone: its sessions, its cookie jars, its totals.
"""

from __future__ import annotations

from scraper.download.client import AiohttpDownloader

__all__ = ["AiohttpDownloader"]
