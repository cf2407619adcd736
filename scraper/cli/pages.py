"""What the commands for single pages share: fetch, shell and parse."""

from __future__ import annotations

import json
import logging
import mimetypes
import re
import sys
import traceback
from copy import copy
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import typer

from scraper import logs, urls
from scraper.blame import user_frames
from scraper.cli.output import data, harmless_json
from scraper.config import Config
from scraper.credentials import of_config
from scraper.errors import FetchError, ScraperError, UsageError
from scraper.errors import reason as reason_of
from scraper.http import Response
from scraper.redaction import redacted

__all__ = [
    "ArgumentsOption",
    "SpiderOption",
    "json_object",
    "local_page",
    "on_terminal",
    "page_url",
    "print_json",
    "reworded",
    "safe_text",
    "speak",
    "user_traceback",
]

LOCAL = re.compile(r"localhost\b|127\.|\[::1\]")  # seldom with TLS

SpiderOption = Annotated[
    str | None,
    typer.Option(
        metavar="SPIDER", help="With its settings, middleware and setup(): a name, or FILE.py."
    ),
]
ArgumentsOption = Annotated[
    list[str] | None,
    typer.Option("--argument", "-a", metavar="NAME=VALUE", help="An argument of the spider."),
]


def page_url(text: str) -> str:
    """*text* in WHATWG form. Raises `UsageError` with a guess at what was meant."""
    href = urls.parse(text)
    if href is not None and urls.is_web(href):
        return href
    guess = urls.parse(f"https://{text}") if "://" not in text else None
    if guess is not None and LOCAL.match(text):
        guess = urls.parse(f"http://{text}")
    way = f"Did you mean {guess}?" if guess and ("." in text or ":" in text) else ""
    shown = urls.redact(text) if text.strip() else repr(text)
    raise UsageError(f"{shown} is not an http or https URL", hint=way)


def local_page(text: str, url: str | None = None) -> Response | None:
    """The saved page that *text* names, by path or as a file: URL; None for a web address.

    *url*: where it came from, for links to be relative to. Raises `UsageError`.
    """
    path = _path(text)
    if path is None:
        return None
    try:
        body = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    kind = mimetypes.guess_type(path.name)[0]
    headers = {"Content-Type": kind} if kind else {}
    return Response(url or path.resolve().as_uri(), 200, headers, body)


def _path(text: str) -> Path | None:
    if text[:5].lower() == "file:":
        return Path(unquote(urlsplit(text).path))
    if text.startswith(("./", "../", "/", "~/")):
        return Path(text).expanduser()
    if "://" in text or not Path(text).is_file():
        return None
    return Path(text)


def json_object(text: str | None, option: str) -> dict[str, Any]:
    """The JSON object that an option holds. Raises `UsageError`."""
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{option}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{option}: give an object, as '{{\"page\": 2}}'")
    return value


def speak(config: Config, *, quiet: bool, debug: bool) -> None:
    """Set up the log: to stderr alone, and of the crawl itself only errors."""
    only = config.log.model_copy(update={"file": None})
    logs.configure(only, Path(), quiet=quiet, debug=debug, secrets=of_config(config))
    if not debug:
        logging.getLogger("scraper.crawl").setLevel("ERROR")


def print_json(value: Any) -> None:
    """JSON on stdout, with nothing in it that a terminal would obey."""
    data(harmless_json(value, indent=2))


def reworded(error: Exception, url: str) -> ScraperError:
    """*error* of a fetch of *url*, in a sentence and with the way out."""
    if not isinstance(error, FetchError):
        if isinstance(error, ScraperError):
            return error
        said = " ".join(str(error).split())
        return ScraperError(
            f"{urls.redact(url)}: {type(error).__name__}: {said}{_place(error)}",
            hint="Raised by a middleware; --debug shows the traceback.",
        )
    row = reason_of(error.reason)
    detail = "" if error.detail in ("", url, row.meaning) else f": {error.detail}"
    where = urls.redact(error.url or url)
    hint = f"Way out: {row.way_out}" if row.way_out else ""
    if error.reason == "robots_denied":
        hint = "If you may fetch it all the same: -s politeness.robots=false"
    elif error.reason == "robots_unavailable":
        hint = "Try again later. If it is your site: -s politeness.robots=false"
    told = copy(error)  # of its own kind: who catches it reads its reason
    told.message = f"{where}: {row.meaning} ({error.reason}{detail})"
    told.hint = hint
    return told


def _place(error: BaseException) -> str:
    own = user_frames(error)
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""


def user_traceback(error: BaseException) -> str:
    """*error* as Python shows it, without the framework's frames and the libraries'."""
    frames = user_frames(error)
    lines = ["Traceback (most recent call last):\n"] if frames else []
    lines += traceback.format_list(frames)
    said = "".join(traceback.format_exception_only(error)).rstrip("\n")
    lines.append(said.replace("\n", "\n    "))  # a message's own lines are not to pass for others
    return safe_text(redacted("".join(lines))).rstrip("\n")


def safe_text(text: str) -> str:
    """*text* with everything escaped that a terminal would obey, but line ends and tabs."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def on_terminal() -> bool:
    """Whether stdout is one."""
    return sys.stdout.isatty()


def write_bytes(body: bytes) -> None:
    """*body* as it is, on stdout."""
    sys.stdout.flush()
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()
