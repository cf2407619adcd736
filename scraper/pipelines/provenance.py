"""Where a record came from: columns that a sink adds when it is asked to.

::

    [[pipelines]]
    use = "jsonl"
    provenance = true                      # all of them, or some: ["_url", "_fetched_at"]
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

from scraper.http import Request, Response
from scraper.urls import publishable

__all__ = ["PROVENANCE", "Provenance", "chosen", "provenance"]

Name = Literal[
    "_url", "_final_url", "_fetched_at", "_status", "_body_sha256", "_spider", "_spider_version"
]
Provenance = bool | list[Name]
"""What a sink's option `provenance` may be: all of the columns, none, or these."""

PROVENANCE: Mapping[str, type] = MappingProxyType({
    "_url": str,
    "_final_url": str,
    "_fetched_at": datetime,
    "_status": int,
    "_body_sha256": str,
    "_spider": str,
    "_spider_version": str,
})
"""The columns and their types. `_url`: as it was asked for, before redirects; `_final_url`: where
the page was, both without secrets (`urls.publishable`); `_fetched_at`: UTC; `_body_sha256`: of the
body without content codings, hexadecimal.
"""


def chosen(option: Provenance) -> tuple[str, ...]:
    """The columns that *option* asks for, in the order of `PROVENANCE`."""
    if isinstance(option, bool):
        return tuple(PROVENANCE) if option else ()
    return tuple(name for name in PROVENANCE if name in option)


def provenance(
    request: Request, response: Response | None, *, fetched_at: float, spider: str, version: str
) -> dict[str, Any]:
    """All columns of one page. *fetched_at*: seconds since the epoch.

    A page that never came (an `errback` yields items, too) has no status and no body.
    """
    return {
        "_url": publishable(request.history[0] if request.history else request.url),
        "_final_url": publishable(response.url if response is not None else request.url),
        "_fetched_at": datetime.fromtimestamp(fetched_at, UTC),
        "_status": response.status if response is not None else None,
        "_body_sha256": hashlib.sha256(response.body).hexdigest() if response is not None else None,
        "_spider": spider,
        "_spider_version": version,
    }
