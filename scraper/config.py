"""Every setting there is: one section per table of config.toml, one described field per key.

The values are immutable and say what they mean in their unit: durations are seconds (float),
sizes are bytes (an int, or a string such as ``"16 MB"``), 0 as a limit means "none". A key that
is not here is refused, never dropped. `scraper.layers` puts the layers together and says where
each value came from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ByteSize, ConfigDict, Field

from scraper._version import __version__

__all__ = [
    "REDIS",
    "SECTIONS",
    "Config",
    "Crawl",
    "Frontier",
    "HostRule",
    "Http",
    "ItemRule",
    "Log",
    "PipelineTable",
    "Politeness",
    "Project",
    "Quality",
    "Retry",
    "SpiderOverrides",
]

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")  # module:name
FOREIGN = re.compile(r"(?!(?:sqlite|memory):)[a-z][a-z0-9+.-]*://\S*")  # RFC 3986, section 3.1


def _header_value(value: str) -> str:
    """RFC 9110, section 5.5: no control character but the tab."""
    if any((ord(c) < 32 and c != "\t") or ord(c) == 127 for c in value):
        raise ValueError("a header value holds no line break or control character")
    return value


def _header_name(name: str) -> str:
    if not TOKEN.fullmatch(name):
        raise ValueError("not a header name (RFC 9110, section 5.6.2)")
    return name


def _reference(value: str) -> str:
    if not REFERENCE.fullmatch(value):
        raise ValueError('write it as "module:name"')
    return value


def _proxy(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("write it as http://[user:password@]host:port")
    return value


def _host_pattern(pattern: str) -> str:
    if not pattern or "/" in pattern or any(c.isspace() for c in pattern):
        raise ValueError('write the host alone, as "example.com" or "*.example.com"')
    if not pattern.isascii() or pattern != pattern.lower():
        raise ValueError("write the host as it is on the wire: small letters, xn--… for others")
    return pattern


def _frontier_url(url: str) -> str:
    """The shape alone: whether a plugin has that scheme is asked when a frontier is built."""
    if url in {"sqlite", "memory"}:
        return url
    scheme = url.partition(":")[0]
    if scheme in REDIS:
        return _redis_url(url, scheme)
    if FOREIGN.fullmatch(url):
        return url
    raise ValueError(
        'use "sqlite" (durable), "memory" (gone when the process ends), "redis://host:port/0"'
        " (shared by many workers), or a plugin's scheme://…"
    )


REDIS = ("redis", "rediss", "unix")
REDIS_QUERY = re.compile(r"db=[0-9]+|ssl_(?:ca_certs|certfile|keyfile|check_hostname)=[^=]+")


def _redis_url(url: str, scheme: str) -> str:
    """What the client would pass over, or misread, is a mistake here."""
    try:
        parts = urlsplit(url)
        fits = parts.port != 0 and (
            bool(parts.path.strip("/"))
            if scheme == "unix"
            else bool(parts.hostname) and re.fullmatch(r"/?[0-9]*", parts.path) is not None
        )
    except ValueError:
        fits = False
    query = parts.query.split("&") if fits and parts.query else []
    if not fits or not all(map(REDIS_QUERY.fullmatch, query)):
        raise ValueError(
            "write it as redis://[user:password@]host:port/0, rediss://… (TLS) or unix:///path?db=0"
        )
    return url


def _no_flag(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError('write bytes as a whole number or as "16 MB"')
    return value


def _date(value: object) -> datetime:
    """A date with or without its time, UTC unless it says otherwise."""
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        elif isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    except ValueError:
        pass
    if not isinstance(value, datetime):
        raise ValueError("must be a date, such as 2024-06-01 or 2024-06-01T12:00:00Z")
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0)]
Positive = Annotated[int, Field(strict=True, ge=1)]
Seconds = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Timeout = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Size = Annotated[ByteSize, BeforeValidator(_no_flag), Field(gt=0)]
Text = Annotated[str, Field(strict=True, min_length=1)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]


class Section(BaseModel):
    """What all sections share: immutable, and a key that is not declared is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Project(Section):
    """The project itself."""

    spiders: Text = Field("spiders", description="directory of the spiders, beside config.toml")


class Crawl(Section):
    """How much, how far, and when to call it a failure."""

    concurrency: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(
        32, description="worker tasks: pages in the making at the same time"
    )
    max_pages: Count = Field(0, description="stop after so many pages; 0: no limit")
    max_items: Count = Field(0, description="stop after exactly so many items; 0: no limit")
    max_depth: Count = Field(20, description="links from a start request; 0: no limit")
    max_duration: Seconds = Field(0.0, description="stop after so many seconds; 0: no limit")
    max_errors: Count = Field(
        0, description="fail after so many failed pages and stages; 0: no limit"
    )
    max_failure_rate: Share = Field(
        0.5, description="share of failed pages above which the crawl fails and publishes nothing"
    )
    scope: Literal["host", "domain", "any"] = Field(
        "host", description="where links may lead when the spider names no allowed_domains"
    )
    max_items_per_page: Positive = Field(10_000, description="items that one page may yield")
    max_item_size: Size = Field(
        ByteSize(1_000_000), description="size of one item, encoded; larger ones are rejected"
    )
    max_links_per_page: Positive = Field(10_000, description="requests that one page may yield")
    max_url_length: Positive = Field(8192, description="longer URLs end as url_too_long")
    max_path_segments: Positive = Field(30, description="deeper paths end as trap")
    max_segment_repeats: Positive = Field(
        3, description="the same path segment more often than this ends as trap"
    )
    max_pages_per_host: Count = Field(
        0, description="pages asked of one host, at most; more end as trap; 0: no limit"
    )
    max_pages_per_template: Count = Field(
        0,
        description="pages whose URLs differ in numbers, ids and values alone, at most; more end as"
        " trap; 0: no limit",
    )
    trap_warning: Count = Field(
        10_000, description="pages of one template from which on it is told; 0: never"
    )
    drop_params: list[str] = Field(
        [], description="query parameters that make no other page, by name or pattern (utm_*)"
    )
    group_pages: Positive = Field(100, description="pages that are committed together, at most")
    group_interval: Timeout = Field(0.25, description="seconds between commits, at most")
    probe: Literal["auto", "always", "never"] = Field(
        "auto",
        description="pages that a process with limits parses first; auto: the doubtful ones",
    )
    fetch_wait: Seconds = Field(
        60.0, description="seconds that self.fetch waits for its host's turn before Throttled"
    )
    drain_timeout: Seconds = Field(
        30.0, description="seconds that pages in the making get to end when the crawl is stopped"
    )


class HostRule(Section):
    """What differs for the hosts that match a pattern; a key that is absent changes nothing."""

    robots: Flag | None = Field(None, description="obey robots.txt")
    per_host: Positive | None = Field(None, description="requests in flight to the host, at most")
    delay: Seconds | None = Field(None, description="seconds between request starts, at least")
    adaptive: Flag | None = Field(None, description="follow the host's speed")
    slots: Positive | None = Field(None, description="workers that may share the host, at most")
    verify_tls: Flag | None = Field(None, description="check the host's certificate")


class Politeness(Section):
    """How each host is treated."""

    robots: Flag = Field(True, description="obey robots.txt (RFC 9309)")
    nofollow: Flag = Field(
        False, description="leave out links marked rel=nofollow, or of pages that ask robots to"
    )
    per_host: Positive = Field(8, description="requests in flight to one host, at most")
    delay: Seconds = Field(0.2, description="seconds between request starts to one host, at least")
    adaptive: Flag = Field(
        True, description="start with one request, speed up while the host answers well, back off"
    )
    slots: Positive = Field(
        1, description="workers of a shared crawl that may share one host; each has its part of it"
    )
    max_crawl_delay: Seconds = Field(
        300.0, description="seconds of Crawl-delay that are honoured, at most"
    )
    max_retry_after: Seconds = Field(
        3600.0, description="seconds of Retry-After that are honoured, at most"
    )
    max_pauses: Positive = Field(
        10, description="pauses asked for by a host without a success between, until it is given up"
    )
    hosts: dict[Annotated[str, AfterValidator(_host_pattern)], HostRule] = Field(
        {}, description='rules by host pattern: [politeness.hosts."*.example.com"]'
    )


class Http(Section):
    """The exchange with a server and its limits."""

    user_agent: Annotated[Text, AfterValidator(_header_value)] = Field(
        f"scraper-framework/{__version__} (no contact given; operator: set http.user_agent)",
        description="who you are, with a contact; its first word is matched in robots.txt",
    )
    timeout: Timeout = Field(30.0, description="seconds for the whole exchange")
    connect_timeout: Timeout = Field(5.0, description="seconds until the connection stands")
    min_rate: Count = Field(1024, description="bytes a second, at least; 0: no floor")
    max_wire: Size = Field(ByteSize(16_000_000), description="size of a body as it travels")
    max_body: Size = Field(ByteSize(32_000_000), description="size of a body once decompressed")
    max_codings: Count = Field(5, description="layers of compression, at most")
    max_header_line: Size = Field(ByteSize(64_000), description="size of one header line")
    max_header_fields: Positive = Field(512, description="header fields, at most")
    max_headers: Size = Field(ByteSize(300_000), description="size of all header lines")
    max_redirects: Count = Field(10, description="redirects in one chain, at most")
    proxy: Annotated[
        Annotated[str, AfterValidator(_proxy)] | None, BeforeValidator(_empty_is_none)
    ] = Field(None, description="http://[user:password@]host:port", repr=False)
    verify_tls: Flag = Field(True, description="check certificates; better lifted by host rule")
    headers: dict[
        Annotated[str, AfterValidator(_header_name)], Annotated[str, AfterValidator(_header_value)]
    ] = Field(
        {}, description="sent with every request; credentials: to `trusted_hosts`", repr=False
    )
    trusted_hosts: list[Text] = Field(
        [],
        description="who gets the credentials among the headers; none: allowed_domains, start_urls",
    )
    cookies: Flag = Field(True, description="keep cookies, for sessions and within the job")
    allow_private: Flag = Field(
        True, description="let URLs lead to private addresses; false for crawls of foreign seeds"
    )
    middleware: list[Annotated[str, AfterValidator(_reference)]] = Field(
        [], description='functions around each fetch, outermost first: "module:function"'
    )


class Retry(Section):
    """What happens to a page that failed for a reason that may pass."""

    attempts: Positive = Field(3, description="tries in all")
    base: Timeout = Field(1.0, description="seconds of back-off at first; doubled each time")
    max_delay: Timeout = Field(60.0, description="seconds of back-off, at most")


class Frontier(Section):
    """Where the ledger of a crawl is kept."""

    url: Annotated[str, AfterValidator(_frontier_url)] = Field(
        "sqlite",
        description="sqlite (durable), memory (forgets), redis://host:port/0 (many workers), or a"
        " plugin's",
        repr=False,
    )
    lease: Annotated[float, Field(ge=3, le=3600)] = Field(
        30.0, description="seconds without a sign of life after which a worker is taken for dead"
    )
    patience: Seconds = Field(
        300.0, description="seconds to wait for a Redis that is away before giving up (exit 4)"
    )


class ItemRule(Section):
    """Fixed thresholds for one item type, the model's name; they need no earlier run."""

    min_count: Count = Field(0, description="items, at least; 0: no threshold")
    fill: dict[Text, Share] = Field(
        {}, description="share of the items in which a field is filled, at least: { price = 0.9 }"
    )


class Quality(Section):
    """Whether what a run delivers is watched, and compared with the job's earlier runs."""

    action: Literal["warn", "fail", "off"] = Field(
        "warn",
        description="when a run falls behind: tell it; exit 1 and publish nothing; do not watch",
    )
    runs: Positive = Field(10, description="earlier runs that are looked at, the latest first")
    since: Annotated[
        Annotated[datetime, BeforeValidator(_date)] | None, BeforeValidator(_empty_is_none)
    ] = Field(None, description="runs that were started before this date (UTC) are not looked at")
    fill_drop: Share = Field(
        0.1, description="share of its usual fill rate that a field may lose without a word"
    )
    count_drop: Share = Field(
        0.3, description="share of their usual number that the items may lose without a word"
    )
    items: dict[Text, ItemRule] = Field(
        {}, description="fixed thresholds by item type: [quality.items.Book]"
    )


class Log(Section):
    """What is told while it runs; always on stderr or in a file."""

    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
    ] = Field("INFO", description="the least level that is told")
    file: Annotated[Path | None, BeforeValidator(_empty_is_none)] = Field(
        None, description="write the log there, too; relative to config.toml"
    )
    as_json: Flag = Field(False, alias="json", description="one JSON object per line")
    stall: Seconds = Field(
        1.0, description="seconds that a callback may hold up everything else unmentioned; 0: any"
    )


class PipelineTable(BaseModel):
    """One stage of the chain: `use`, and its constructor's arguments as the other keys."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    use: Text = Field(description="module:Class, or the short name of a built-in or a plugin")
    items: list[Text] = Field([], description="item types that pass through it; empty: all")

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's arguments, as they stand in the table."""
        return dict(self.model_extra or {})


class SpiderOverrides(Section):
    """What may differ for one spider: [spiders.NAME], and `settings` of its class.

    Sections may be partial: what they leave out (see `model_fields_set`) keeps its value.
    """

    crawl: Crawl = Crawl()
    politeness: Politeness = Politeness()
    http: Http = Http()
    retry: Retry = Retry()
    frontier: Frontier = Frontier()
    quality: Quality = Quality()
    log: Log = Log()
    pipelines: list[PipelineTable] = Field(
        [], description="the chain, in this order; for a spider it replaces the whole chain"
    )


class Config(SpiderOverrides):
    """The whole configuration. `Config()` is the defaults."""

    project: Project = Project()
    spiders: dict[str, SpiderOverrides] = Field({}, description="overrides by spider", repr=False)


SECTIONS: Mapping[str, type[Section]] = {
    "project": Project,
    "crawl": Crawl,
    "politeness": Politeness,
    "http": Http,
    "retry": Retry,
    "frontier": Frontier,
    "quality": Quality,
    "log": Log,
}
"""The tables with fixed keys, by name."""
