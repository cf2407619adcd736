"""Everything that can go wrong, and whose move it is.

::

    ScraperError                 what, where, and the way out; carries the exit code
    ├── UsageError          2    the user's move: fix the command, the file, the class
    │   ├── ConfigError            a key, a type or a value in a configuration layer
    │   ├── SpiderError            a spider that cannot be loaded, built or resumed
    │   └── JobError               a job that is locked, or that was made otherwise
    ├── CrawlFailed         1    the crawl ran and must not be called complete
    ├── DamagedState        3    the ledger or an output file is not what was committed
    ├── OutOfResource       4    the disk is full: free space and run again
    │   └── GivenUp                this worker was taken for dead: run it again, it joins anew
    ├── FetchError               one exchange failed; `reason` is a code of `REASONS`
    │   └── Throttled              the host is quiet until `at`; uncaught, the page waits
    └── ExtractionError          a page could not be read the way that was asked
        └── ItemInvalid            values did not fit the model: goes to the rejected file

    Drop, Retry                  signals, not failures: outside the tree on purpose
"""

from __future__ import annotations

from dataclasses import dataclass
from reprlib import Repr
from typing import Any, Literal

__all__ = [
    "REASONS",
    "UNSENT",
    "ConfigError",
    "CrawlFailed",
    "DamagedState",
    "Drop",
    "ExtractionError",
    "FetchError",
    "GivenUp",
    "ItemInvalid",
    "JobError",
    "OutOfResource",
    "Reason",
    "Retry",
    "ScraperError",
    "SpiderError",
    "Throttled",
    "UsageError",
    "reason",
]


class ScraperError(Exception):
    """Base of every error that this framework raises on purpose.

    `message` says what happened and where; `hint`, when there is one, says the way out.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(ScraperError):
    """The command, the configuration or the user's code must change before anything can run."""

    exit_code = 2


class ConfigError(UsageError):
    """A key, type or value in a configuration layer is wrong. Nothing was created."""


class SpiderError(UsageError):
    """A spider cannot be found, imported, built from its arguments, or resumed."""


class JobError(UsageError):
    """The job is running elsewhere, or was created with other arguments or outputs."""


class CrawlFailed(ScraperError):
    """The crawl could not be carried to its end by its own code (`setup`, `start`)."""


class DamagedState(ScraperError):
    """Stored state is not what was committed. It is never restarted silently."""

    exit_code = 3


class OutOfResource(ScraperError):
    """The machine ran out of something, mostly disk. What was committed is safe."""

    exit_code = 4


class GivenUp(OutOfResource):
    """This worker showed no sign of life for too long, and what it held was given to others.

    Nothing that it had not committed by then counts, so nothing comes twice.
    """


class FetchError(ScraperError):
    """An exchange ended without a usable response.

    `reason` is one of `REASONS`; `detail` is for people and is already redacted. `sent`: whether a
    byte of the request may have reached the server (None: as the reason suggests); a connection
    that never stood sets it to False. `temporary`: overrides `Reason.retried`, as for a name
    server that is out of order, which is `dns` too. `sends`: how often the request went out.
    """

    def __init__(
        self,
        reason: str,
        url: str = "",
        detail: str = "",
        *,
        sent: bool | None = None,
        temporary: bool | None = None,
        sends: int = 1,
    ) -> None:
        super().__init__(f"{reason}: {detail or url}" if (detail or url) else reason)
        self.reason = reason
        self.url = url
        self.detail = detail
        self.sent = reason not in UNSENT if sent is None else sent
        self.temporary = temporary
        self.sends = sends


UNSENT = frozenset({
    "connect_refused",
    "dns",
    "private_address",
    "proxy_auth",
    "proxy_connect",
    "throttled",
    "tls_expired",
    "tls_hostname",
    "tls_protocol",
    "tls_untrusted",
})
"""Reasons that mean that no connection to the server stood, so that it saw nothing."""


class Throttled(FetchError):
    """The host asked for quiet until `at` (wall clock, seconds since the epoch)."""

    def __init__(self, at: float, url: str = "", detail: str = "") -> None:
        super().__init__("throttled", url, detail)
        self.at = at


class ExtractionError(ScraperError):
    """A page could not be read the way that was asked (`reason`: `not_html`, `parse_limit` …)."""

    def __init__(self, reason: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class ItemInvalid(ExtractionError):
    """Extracted values do not fit their model.

    `errors` holds one dict per field: `field`, `message`, `selectors`, `value`; `raw` what matched.
    """

    def __init__(self, model: str, url: str, errors: list[dict[str, Any]], raw: dict[str, Any]):
        where = f"{model} at {url}" if url else model
        super().__init__("item_invalid", f"{where}: {'; '.join(map(_shown, errors))}")
        self.model = model
        self.url = url
        self.errors = errors
        self.raw = raw


def _shown(error: dict[str, Any]) -> str:
    """One field's error in a few words: what was tried, and what was found."""
    tried = ", ".join(map(repr, error.get("selectors") or ()))
    text = str(error["message"])
    if error.get("value") is not None:
        brief = Repr()
        brief.maxstring = brief.maxother = 80
        text += f", got {brief.repr(error['value'])}"
        text += f" by {tried}" if tried else ""
    elif tried and error["field"]:
        text += f" {tried}"
    return f"{error['field']}: {text}" if error["field"] else text


class Drop(Exception):
    """Raised by a pipeline stage: this item goes no further. Counted by `reason`."""

    def __init__(self, reason: str = "dropped") -> None:
        super().__init__(reason)
        self.reason = reason


class Retry(Exception):
    """Raised in a callback: fetch this page again (an attempt is charged).

    `delay` is in seconds; None means the usual full-jitter back-off.
    """

    def __init__(self, reason: str = "retry", delay: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.delay = delay


Kind = Literal["failure", "skip", "item"]


@dataclass(frozen=True, slots=True)
class Reason:
    """One row of the table of reason codes.

    `kind`: a *failure* counts against the crawl's failure rate; a *skip* was decided, not
    suffered; an *item* concerns one item and not its page. `retried`: within the attempts.
    """

    code: str
    kind: Kind
    retried: bool
    meaning: str
    way_out: str = ""


def _table(*rows: Reason) -> dict[str, Reason]:
    return {row.code: row for row in rows}


REASONS: dict[str, Reason] = _table(
    Reason("timeout", "failure", True, "no complete answer in time", "raise http.timeout"),
    Reason("too_slow", "failure", True, "the body came slower than http.min_rate", "lower it"),
    Reason("connect_refused", "failure", True, "nothing listens at that address"),
    Reason("conn_reset", "failure", True, "the server dropped the connection"),
    Reason("dns", "failure", False, "the host name does not resolve", "check its spelling"),
    Reason("tls_expired", "failure", False, "the certificate is out of date"),
    Reason(
        "tls_untrusted",
        "failure",
        False,
        "the certificate's issuer is not trusted",
        'for a host you trust: politeness.hosts."HOST".verify_tls = false',
    ),
    Reason("tls_hostname", "failure", False, "the certificate is for another host"),
    Reason("tls_protocol", "failure", False, "no common TLS version or cipher"),
    Reason("proxy_auth", "failure", False, "the proxy wants credentials", "set http.proxy"),
    Reason("proxy_connect", "failure", True, "the proxy could not reach the host"),
    Reason("protocol", "failure", False, "the answer is not HTTP as the RFCs define it"),
    Reason("incomplete", "failure", True, "the body ended before its announced length"),
    Reason("decode", "failure", False, "the compressed body is damaged or its coding unknown"),
    Reason("headers_too_large", "failure", False, "more header than http.max_headers allows"),
    Reason("body_too_large", "failure", False, "more body than http.max_body allows"),
    Reason("redirect_limit", "failure", False, "more redirects than http.max_redirects"),
    Reason("redirect_scheme", "failure", False, "redirected to something that is not http(s)"),
    Reason("redirect_duplicate", "skip", False, "redirected to a page that is fetched anyway"),
    Reason("robots_denied", "skip", False, "robots.txt forbids it"),
    Reason(
        "robots_unavailable",
        "failure",
        False,
        "robots.txt kept failing, and failure is not permission",
        'try again later, or politeness.hosts."HOST".robots = false if it is your site',
    ),
    Reason("throttled", "failure", False, "the host kept asking for quiet", "slow down: delay"),
    Reason("out_of_scope", "skip", False, "the link leads outside crawl.scope"),
    Reason("depth", "skip", False, "deeper than crawl.max_depth", "raise it; 0: no limit"),
    Reason(
        "url_invalid",
        "failure",
        False,
        "not an http(s) URL that WHATWG parsing accepts",
        "response.follow resolves relative ones",
    ),
    Reason("url_too_long", "skip", False, "longer than crawl.max_url_length"),
    Reason(
        "trap",
        "skip",
        False,
        "an endless site: the path repeats, is too deep, or a budget of pages is used up",
        "if it is not: crawl.max_path_segments, max_segment_repeats, max_pages_per_template …",
    ),
    Reason("private_address", "failure", False, "a private address", "http.allow_private = true"),
    Reason("not_html", "failure", False, "a selector was asked of something else than HTML"),
    Reason("not_json", "failure", False, "json() was asked of something else than JSON"),
    Reason("parse_limit", "failure", False, "too costly to parse within limits"),
    Reason("xml_entity", "failure", False, "the XML declares entities"),
    Reason(
        "callback_error",
        "failure",
        False,
        "the spider's callback raised",
        "the log says where; --debug shows the traceback",
    ),
    Reason(
        "too_many_items",
        "failure",
        False,
        "more items on one page than crawl.max_items_per_page",
        "raise it, or look for a loop that never ends",
    ),
    Reason(
        "too_many_links",
        "skip",
        False,
        "more requests from one page than crawl.max_links_per_page; the rest was not taken",
        "raise it",
    ),
    Reason(
        "request_too_large",
        "failure",
        False,
        "a request of more than 1 MB, which a shared crawl does not store",
        "less in meta, kwargs and body",
    ),
    Reason(
        "output_too_large",
        "failure",
        False,
        "a page with more than 32 MB of items, which a shared crawl does not store",
        "fewer of them, or smaller ones",
    ),
    Reason("stage_error", "item", False, "a pipeline stage raised"),
    Reason("item_invalid", "item", False, "the values do not fit the model"),
    Reason("schema", "item", False, "the item does not fit the file's columns"),
    Reason("item_too_large", "item", False, "more than crawl.max_item_size"),
    Reason("file_type", "item", False, "the file is of none of the types of the files sink"),
    Reason("file_empty", "item", False, "the file has no content"),
    Reason(
        "interrupted",
        "failure",
        False,
        "a crash came while it was being sent, and it may not be sent twice",
        "Request(repeatable=True), if it may",
    ),
    Reason("crashed", "failure", False, "took the process down each time it ran alone"),
    Reason("cancelled", "failure", True, "stopped while it was running"),
)


def reason(code: str) -> Reason:
    """The row for *code*; `http_<status>` and reasons given by user code are made up here."""
    row = REASONS.get(code)
    if row is not None:
        return row
    if code.startswith("http_"):
        status = code[5:]
        retried = status in {"408", "425", "429", "500", "502", "503", "504", "520", "521", "522"}
        way = f"accept=({status},) hands such pages to the callback"
        return Reason(code, "failure", retried, f"the server answered {status}", way)
    return Reason(code, "failure", True, "given by the spider")
