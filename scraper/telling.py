"""How errors of users' code are told: in one line, without secrets, at full volume once a place."""

from __future__ import annotations

import logging
import traceback

from scraper import urls
from scraper.blame import user_frames
from scraper.errors import ItemInvalid, ScraperError
from scraper.http import Request
from scraper.redaction import redacted

__all__ = ["Reporter", "brief"]

log = logging.getLogger("scraper.crawl")

PLACES = 1000
"""Places in the code that are known to have failed before."""


class Reporter:
    """Tells of errors once per place; the rest can be counted in the summary."""

    def __init__(self) -> None:
        self._reported: set[tuple[str, int | None]] = set()

    def tell(self, error: BaseException, where: str, request: Request) -> str:
        """Log *error*, which was raised in *where* for a page, and return what is said of it."""
        line = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
        place = (where, line.lineno if line else None)
        level = logging.DEBUG if place in self._reported else logging.ERROR
        if len(self._reported) < PLACES:
            self._reported.add(place)
        said = brief(error)
        log.log(level, "%s failed at %s: %s", where, urls.redact(request.url), said)
        log.debug("traceback", exc_info=error)
        return said


def brief(error: BaseException) -> str:
    """An exception in one line, redacted, with the line of the user's code that raised it."""
    if isinstance(error, ItemInvalid):
        return redacted(error.message)  # it happened on the page, not in a line of code
    own = user_frames(error)
    where = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    said = [error.message, error.hint] if isinstance(error, ScraperError) else [str(error)]
    text = "; ".join(" ".join(part.split()) for part in said if part)
    text = redacted(text)
    return f"{type(error).__name__}: {text}{where}" if text else f"{type(error).__name__}{where}"
