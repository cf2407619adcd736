"""A response whose body went to a file: what a download gives."""

from __future__ import annotations

from pathlib import Path

from scraper.http import Headers, Request, Response

__all__ = ["SavedResponse"]


class SavedResponse(Response):
    """The answer to a request with `into`. Its `body` is empty: it lies in `file`, `size` bytes.

    Only the body of a 2xx answer is kept so; any other comes as a `Response`, in memory.
    `elapsed`: seconds to the answer's header, because that is what tells how the server fares.
    """

    def __init__(
        self,
        url: str,
        status: int,
        headers: Headers,
        request: Request,
        *,
        file: Path,
        size: int,
        elapsed: float,
    ) -> None:
        super().__init__(url, status, headers, b"", request, elapsed=elapsed)
        self.file = file
        self.size = size
