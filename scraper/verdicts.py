"""Verdicts, for people: which ends of a page are worth a line in the log."""

from __future__ import annotations

import logging

from scraper import urls
from scraper.errors import reason as reason_of
from scraper.work import Dead, Lease

__all__ = ["tell_dead"]

log = logging.getLogger("scraper.crawl")

TOLD_PER_REASON = 3
"""Failed pages that are told one by one; `scrape failures` lists them all."""


def tell_dead(lease: Lease, verdict: Dead, before: int) -> None:
    """A page failed, as so many *before* it did for the same reason."""
    if reason_of(verdict.reason).kind != "failure" or verdict.reason == "callback_error":
        return  # what was decided against is no failure; a callback's error was told where it rose
    level = logging.INFO if before < TOLD_PER_REASON else logging.DEBUG
    detail = f" ({verdict.detail})" if verdict.detail else ""
    log.log(level, "%s: %s%s", verdict.reason, urls.redact(lease.request.url), detail)
