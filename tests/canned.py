"""A downloader without a network."""

from __future__ import annotations

from scraper.http import Request, Response

__all__ = ["Canned"]


class Canned:
    """Answers every request with three links of the same host."""

    def __init__(self) -> None:
        self.sent = 0

    async def fetch(self, request: Request, *, fresh: bool = False) -> Response:
        self.sent += 1
        links = "".join(f'<a href="/{n}">{n}</a>' for n in range(3))
        return Response(request.url, 200, {"Content-Type": "text/html"}, links.encode(), request)

    def cookies(self) -> bytes | None:
        return None

    def load_cookies(self, stored: bytes) -> None:
        raise AssertionError("there are none")

    async def aclose(self) -> None:
        return
