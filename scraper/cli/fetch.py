"""scrape fetch URL: one page as a crawl would get it, and what there is to know about it."""

from __future__ import annotations

import base64
import codecs
import json
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import typer

from scraper import encoding as encodings
from scraper.api import run_coroutine
from scraper.cli.output import (
    DebugOption,
    JsonOption,
    QuietOption,
    SetOption,
    clean,
    data,
    note,
)
from scraper.cli.pages import (
    ArgumentsOption,
    SpiderOption,
    on_terminal,
    page_url,
    print_json,
    reworded,
    safe_text,
    speak,
    write_bytes,
)
from scraper.cli.run import spider_arguments
from scraper.errors import UsageError
from scraper.guard import BINARY
from scraper.http import Request, Response
from scraper.mistakes import clip
from scraper.workbench import Hop, Workbench, open_workbench

__all__ = ["fetch"]

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2


def fetch(
    url: Annotated[str, typer.Argument(metavar="URL", help="What to fetch.")],
    method: Annotated[
        str | None,
        typer.Option("--method", "-X", metavar="METHOD", help="GET, unless -d is given."),
    ] = None,
    headers: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="NAME:VALUE", help="Send this header, too."),
    ] = None,
    form: Annotated[
        list[str] | None,
        typer.Option("--data", "-d", metavar="DATA", help="POST this; @FILE sends a file."),
    ] = None,
    json_body: Annotated[
        str | None, typer.Option("--json-body", metavar="JSON", help="POST this as JSON.")
    ] = None,
    show_body: Annotated[bool, typer.Option("--body", help="Print the body.")] = False,
    show_headers: Annotated[bool, typer.Option("--headers", help="Print the headers.")] = False,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the body there; - is stdout."),
    ] = None,
    fail: Annotated[
        bool, typer.Option("--fail", "-f", help="End with 1 for a status of 400 or above.")
    ] = False,
    spider: SpiderOption = None,
    arguments: ArgumentsOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> int:
    """Fetch one page as a crawl would: robots.txt, pace, cookies, limits, redirects.

    Shows status, redirects, headers, encoding, sizes and times on stderr. The body goes to
    stdout, byte for byte, with --body or where that is not a terminal. Nothing is kept.
    Ends with 0 whatever the status, with 1 where no answer came.
    """
    request = build_request(url, method, headers or [], form, json_body)
    bench = open_workbench(spider, overrides=settings or [], args=spider_arguments(arguments or []))
    speak(bench.config, quiet=quiet, debug=debug)
    page = run_coroutine(_fetch(bench, request))
    if as_json:
        print_json(page.as_dict(body=show_body))
    elif not quiet:
        for line in page.lines(headers=not show_headers):
            note(line)
    if output not in (None, "-"):
        _save(page.response.body, str(output), quiet=quiet)
    elif not as_json:
        if show_headers:
            _print_headers(page.response)
        asked = show_body or output == "-"
        if asked or not (show_headers or on_terminal()):
            _print_body(page.response)
        elif not show_headers and not quiet:
            note("--body shows the body, -o FILE saves it.")
    return 1 if fail and page.response.status >= 400 else 0


# The request --------------------------------------------------------------------------------


def build_request(
    url: str,
    method: str | None,
    headers: Sequence[str],
    form: Sequence[str] | None,
    json_body: str | None,
) -> Request:
    """The request that the options describe. Raises `UsageError`."""
    if form and json_body is not None:
        raise UsageError("-d and --json-body: a request has one body")
    given: dict[str, str] = {}
    for header in headers:
        name, colon, value = (part.strip() for part in header.partition(":"))
        if not colon or not TOKEN.fullmatch(name) or clean(value) != value:
            raise UsageError(f"-H {header}: write it as -H 'Name: value'")
        given[name] = f"{given[name]}, {value}" if name in given else value
    body: bytes | None = None
    if form:
        body = b"&".join(_body_part(part) for part in form)
        given = {"Content-Type": "application/x-www-form-urlencoded", **given}
    elif json_body is not None:
        body = _json_body(json_body)
        given = {"Content-Type": "application/json", **given}
    if method is not None and not TOKEN.fullmatch(method):
        raise UsageError(f"-X {method}: not a method")
    verb = method or ("GET" if body is None else "POST")
    return Request(page_url(url), method=verb, headers=given, body=body)


def _body_part(part: str) -> bytes:
    if not part.startswith("@"):
        return part.encode("utf-8", "surrogateescape")
    if part == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(part[1:]).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"-d {part}: {error.strerror or error}") from None


def _json_body(text: str) -> bytes:
    body = _body_part(text)
    try:
        json.loads(body)
    except ValueError as error:
        raise UsageError(f"--json-body: not JSON: {error}") from None
    return body


# What came ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fetched:
    """A response, and the exchanges that it took. `total`: seconds, all told."""

    response: Response
    hops: Sequence[Hop]
    total: float

    @property
    def redirects(self) -> list[Hop]:
        """What led here, oldest first."""
        return [hop for hop in self.hops if not hop.robots][:-1]

    @property
    def wire(self) -> int:
        """Bytes of the body as it travelled."""
        return self.hops[-1].wire if self.hops else len(self.response.body)

    @property
    def robots(self) -> float:
        """Seconds that robots.txt took."""
        return sum(hop.elapsed for hop in self.hops if hop.robots)

    @property
    def waited(self) -> float:
        """Seconds of politeness, and of everything else that was no exchange."""
        return max(self.total - sum(hop.elapsed for hop in self.hops), 0.0)

    def as_dict(self, *, body: bool) -> dict[str, Any]:
        """What there is to know, as JSON values. *body*: the body, too, as text or as base64."""
        response = self.response
        told: dict[str, Any] = {
            "url": response.url,
            "status": response.status,
            "history": [{"url": hop.url, "status": hop.status} for hop in self.redirects],
            "headers": [list(field) for field in response.headers.items_raw()],
            "encoding": response.encoding,
            "encoding_from": encoding_source(response),
            "size": len(response.body),
            "size_on_wire": self.wire,
            "elapsed_s": round(response.elapsed, 6),
            "waited_s": round(self.waited, 6),
            "robots_s": round(self.robots, 6),
            "total_s": round(self.total, 6),
        }
        if body and is_binary(response):
            told["body_base64"] = base64.b64encode(response.body).decode()
        elif body:
            told["body"] = response.text
        return told

    def lines(self, *, headers: bool) -> Iterator[str]:
        """The same for people; lines fit the terminal."""
        response = self.response
        width = shutil.get_terminal_size((80, 24)).columns
        yield f"{status_line(response.status)}  {response.url}"
        label = "redirected"
        for hop in self.redirects:
            yield _row(label, f"{hop.status} from {hop.url}")
            label = ""
        if not is_binary(response):
            yield _row("encoding", f"{response.encoding} ({encoding_source(response)})")
        yield _row("size", self._size())
        yield _row("time", self._time())
        label = "headers"
        for name, value in response.headers.items_raw() if headers else ():
            yield clip(_row(label, f"{name}: {clean(value)}"), width)
            label = ""

    def _size(self) -> str:
        size = f"{len(self.response.body):,} bytes"
        if self.wire != len(self.response.body):
            coding = self.response.headers.get("Content-Encoding", "")
            size += f", {self.wire:,} on the wire" + (f" ({coding})" if coding else "")
        return size

    def _time(self) -> str:
        parts = [f"page {self.response.elapsed:.3f} s"]
        if self.redirects:
            parts.append(f"redirects {sum(hop.elapsed for hop in self.redirects):.3f}")
        if self.robots:
            parts.append(f"robots.txt {self.robots:.3f}")
        parts.append(f"waiting {self.waited:.3f}")
        return ", ".join(parts)


async def _fetch(bench: Workbench, request: Request) -> Fetched:
    async with bench:
        began = time.monotonic()
        try:
            response = await bench.fetch(request)
        except Exception as error:
            raise reworded(error, request.url) from error
        return Fetched(response, tuple(bench.hops), time.monotonic() - began)


def status_line(status: int) -> str:
    """The status and its phrase, where it has one (RFC 9110, section 15)."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def encoding_source(response: Response) -> str:
    """Who says which encoding it is."""
    body, kind = response.body, response.headers.get("content-type", "")
    if body.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE)):
        return "byte order mark"
    if encodings.declared(kind):
        return "Content-Type header"
    said = encodings.detect(body, kind, default="")
    return "declared in the page" if said else "guessed: nobody says"


def is_binary(response: Response) -> bool:
    """Whether the body is neither markup nor any other text (MIME Sniffing Standard)."""
    body = response.body
    marked = body.startswith((codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE))
    return not (marked or response.is_html) and BINARY.search(body[:1024]) is not None


# Showing it ---------------------------------------------------------------------------------


def _row(label: str, text: str) -> str:
    return f"  {label:<11} {text}"


def _print_headers(response: Response) -> None:
    data(status_line(response.status))
    for name, value in response.headers.items_raw():
        data(f"{clean(name)}: {clean(value)}")
    data("")


def _print_body(response: Response) -> None:
    """The body: its bytes into a pipe; on a terminal its text, harmless."""
    if not on_terminal():
        write_bytes(response.body)
        return
    if is_binary(response):
        kind = response.headers.get("content-type", "unknown type")
        raise UsageError(
            f"the body is binary ({kind}, {len(response.body):,} bytes), and this is a terminal",
            hint="-o FILE saves it.",
        )
    text = safe_text(response.text.replace("\r\n", "\n"))
    data(text.removesuffix("\n"))


def _save(body: bytes, name: str, *, quiet: bool) -> None:
    path = Path(name).expanduser()
    try:
        path.write_bytes(body)
    except OSError as error:
        raise UsageError(f"-o {name}: {error.strerror or error}") from None
    if not quiet:
        note(f"Wrote {path}: {len(body):,} bytes.")
