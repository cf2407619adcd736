"""Scope: where a crawl may go. All gates that a link must pass stand in one function, `gate`.

It is asked about every link found, a hundred a page, so the usual link costs one slice, one
dictionary lookup and a few comparisons; what an origin (scheme, host, port) means is remembered.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from scraper import urls
from scraper.errors import ConfigError
from scraper.work import are_texts, stored

if TYPE_CHECKING:
    from typing import Self

    from scraper.config import Crawl

__all__ = ["Scope", "gate"]

Mode = Literal["host", "domain", "any"]

REMEMBERED = 4096
"""Origins whose standing is kept at hand."""

CHUNK = 1000
"""Hosts in one stored blob: a commit rewrites the last one, not the whole list."""

KEY = "scope."
"""Prefix of the names of the stored blobs."""


def gate(url: str, depth: int, scope: Scope, limits: Crawl, *, start: bool = False) -> str | None:
    """The reason code that stops a request for *url*, or None when it may pass.

    *url*: an href (`urls.parse`), or what did not parse. *depth*: links from a start request.
    *start*: it is a start request or the target of its redirect, which is in scope by definition.
    In this order: ``url_too_long``, ``url_invalid`` (not http or https, or no URL at all),
    ``out_of_scope``, ``depth``, ``trap``. `max_depth` 0 means no limit.
    """
    if len(url) > limits.max_url_length:
        return "url_too_long"
    end = url.find("/", 8)
    inside = scope.known.get(url[:end]) if end > 0 else None
    if inside is None:
        inside = scope.look_up(url)
        if inside is None:
            return "url_invalid"
    if not inside and not start:
        return "out_of_scope"
    if depth > limits.max_depth > 0:
        return "depth"
    # The slashes are an upper bound for the segments: most paths need no closer look.
    if url.count("/", end) > limits.max_segment_repeats and _is_trap(url, end, limits):
        return "trap"
    return None


def _is_trap(url: str, path: int, limits: Crawl) -> bool:
    """One path segment too often, or too many of them."""
    segments = url[path + 1 :].partition("#")[0].partition("?")[0].split("/")
    if len(segments) > limits.max_path_segments:
        return True
    if len(segments) - len(set(segments)) < limits.max_segment_repeats:
        return False
    return max(Counter(segments).values()) > limits.max_segment_repeats


class Scope:
    """Where links may lead.

    With *allowed_domains* (entries such as ``example.com``, ``example.com:8080``, ``127.0.0.1``):
    to these and their subdomains; without a port, or with a default one, on any. Otherwise by
    *mode*: ``host``: the hosts (and ports, not schemes) of the start requests; ``domain``: their
    registered domains, whole, on any port; ``any``: everywhere. In each mode, a host in scope that
    redirects a start request takes its target's host into the scope.
    """

    __slots__ = ("_allowed", "_hosts", "_mode", "_saved", "_sites", "known")

    def __init__(self, mode: Mode = "host", allowed_domains: Iterable[str] = ()) -> None:
        self._mode = mode
        self._allowed = frozenset(_allowed_entry(entry) for entry in allowed_domains)
        self._hosts: dict[str, None] = {}  # an ordered set of host[:port]
        self._sites: set[str] = set()  # their registered domains, in mode "domain"
        self._saved = 0
        self.known: dict[str, bool] = {}  # origin → in scope; see `gate`

    # Growing

    def start(self, url: str) -> None:
        """A start request's URL defines the scope, unless allowed_domains does."""
        if not self._allowed and self._mode != "any":
            self._add(url)

    def redirected(self, source: str, target: str) -> None:
        """A start request was redirected from *source* to *target*."""
        if self.admits(source):
            self._add(target)

    def _add(self, url: str) -> None:
        origin = _origin(url)
        if origin is None or self.admits(url):
            return
        self._join(_netloc(origin))
        self.known.clear()

    def _join(self, host: str) -> None:
        self._hosts[host] = None
        if self._mode == "domain" and not self._allowed:
            self._sites.add(urls.registered_domain(_without_port(host)))

    # Asking

    def admits(self, url: str) -> bool:
        """Whether a link to *url* stays in scope. What is not an http(s) URL does not."""
        return self.look_up(url) is True

    @property
    def defined(self) -> bool:
        """Whether anything says yet where the crawl may go; before the first start, nothing may."""
        return bool(self._allowed or self._hosts or self._mode == "any")

    def look_up(self, url: str) -> bool | None:
        """Whether *url* is in scope; None when it is not an http(s) URL. Remembers its origin."""
        origin = _origin(url)
        if origin is None:
            return None
        inside = self.known.get(origin)
        if inside is None:
            inside = self._decide(_netloc(origin))
            if len(self.known) >= REMEMBERED:
                self.known.clear()
            self.known[origin] = inside
        return inside

    def _decide(self, netloc: str) -> bool:
        if netloc in self._hosts:
            return True
        host = _without_port(netloc)
        if self._allowed:
            return urls.within(host, netloc[len(host) :], self._allowed)
        if self._mode == "domain":
            return urls.registered_domain(host) in self._sites
        return self._mode == "any"

    # Keeping

    def dump(self) -> dict[str, bytes]:
        """What changed since the last call, as named JSON blobs for `Batch.state`; often {}."""
        if len(self._hosts) == self._saved:
            return {}
        hosts = list(self._hosts)
        first = self._saved - self._saved % CHUNK
        self._saved = len(hosts)
        return {
            f"{KEY}{at // CHUNK}": json.dumps(hosts[at : at + CHUNK]).encode()
            for at in range(first, len(hosts), CHUNK)
        }

    @classmethod
    def load(
        cls,
        state: Mapping[str, bytes],
        mode: Mode = "host",
        allowed_domains: Iterable[str] = (),
    ) -> Self:
        """The scope with what `dump` stored in *state*. Raises `DamagedState` for anything else."""
        scope = cls(mode, allowed_domains)
        scope.join(state)
        return scope

    def join(self, state: Mapping[str, bytes]) -> bool:
        """Take in what *state* holds besides; whether that is more. It is stored already.

        Raises `DamagedState`. What was added here and is not stored yet will be, all the same.
        """
        unsaved = list(self._hosts)[self._saved :]
        before = len(self._hosts)
        names = (name for name in state if name.startswith(KEY))
        for name in sorted(names, key=lambda name: (len(name), name)):
            wrong = f"the stored scope of the crawl is damaged: {name} is not a list of hosts"
            for host in stored(state, name, are_texts, wrong):
                self._join(host)
        for host in unsaved:  # they go behind what is stored
            self._hosts[host] = self._hosts.pop(host)
        self._saved = len(self._hosts) - len(unsaved)
        if len(self._hosts) == before:
            return False
        self.known.clear()
        return True

    def __len__(self) -> int:
        return len(self._hosts)

    def __repr__(self) -> str:
        if self._allowed:
            return f"<Scope {', '.join(sorted(self._allowed))} + {len(self._hosts)} hosts>"
        return f"<Scope {self._mode}: {len(self._hosts)} hosts>"


def _origin(url: str) -> str | None:
    """`scheme://host[:port]` of an http(s) URL; None for anything else."""
    href = urls.parse(url)
    if href is None or not urls.is_web(href):
        return None
    return urls.host_key(href)


def _netloc(origin: str) -> str:
    """Host and port: default ports are not written, so http and https are one."""
    return origin.partition("://")[2]


def _without_port(netloc: str) -> str:
    host, colon, port = netloc.rpartition(":")
    return host if colon and not port.endswith("]") else netloc


def _allowed_entry(entry: str) -> str:
    """An entry of allowed_domains in the spelling of hrefs. Raises `ConfigError` for a non-host."""
    host = urls.domain_name(entry)
    if host is None:
        raise ConfigError(
            f"allowed_domains: {entry!r} is not a host",
            hint='Write "example.com", "example.com:8080" or "127.0.0.1", without a scheme.',
        )
    return host
