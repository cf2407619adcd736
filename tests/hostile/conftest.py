"""Fixtures of the hostile web: whole crawls, as in tests/crawl."""

from __future__ import annotations

from tests.crawl.conftest import project

__all__ = ["project"]
