"""Host rules: which of the configuration's politeness applies to one host.

See `policy_for` for how the patterns of `[politeness.hosts."PATTERN"]` match and which wins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scraper.config import HostRule, Politeness

__all__ = ["HostPolicy", "policy_for"]


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """The rules for one host: the section's values with the host's own rules over them.

    Times in seconds. `verify_tls`: None means what `http.verify_tls` says. `slots`: these are the
    rules for one of so many slots (see `scraper.slots`), with its part of `per_host` and `delay`;
    what the host asks for itself is multiplied by it, too.
    """

    delay: float = 0.2
    per_host: int = 8
    adaptive: bool = True
    robots: bool = True
    max_crawl_delay: float = 300.0
    max_retry_after: float = 3600.0
    max_pauses: int = 10
    verify_tls: bool | None = None
    slots: int = 1


def policy_for(host_key: str, politeness: Politeness, *, shared: bool = False) -> HostPolicy:
    """The policy for *host_key* (`urls.host_key`); in a *shared* crawl, for each of its slots.

    A pattern of `politeness.hosts` is ``host`` or ``host:port``, spelt as on the wire (small
    letters, punycode). A host without ``*`` matches itself alone; ``*`` stands for any run of
    characters, so ``*.example.com`` is every subdomain and not the domain itself. ``127.*`` is a
    network: digits, dots and stars match IPv4 addresses only, never the name ``127.example.com``.
    Without a port any matches; a scheme's default port may be written.

    Every matching rule counts, field by field: a host without ``*`` beats a pattern; then more
    literal characters beat fewer; then a port beats none; then the later rule beats the earlier.
    """
    values: dict[str, Any] = {
        "delay": politeness.delay,
        "per_host": politeness.per_host,
        "adaptive": politeness.adaptive,
        "robots": politeness.robots,
        "max_crawl_delay": politeness.max_crawl_delay,
        "max_retry_after": politeness.max_retry_after,
        "max_pauses": politeness.max_pauses,
    }
    slots = politeness.slots
    for rule in _matching_rules(host_key, politeness.hosts):
        for name in ("robots", "per_host", "delay", "adaptive", "verify_tls"):
            value = getattr(rule, name)
            if value is not None:
                values[name] = value
        slots = slots if rule.slots is None else rule.slots
    if shared:  # each slot asks for one thing at a time, at least: not more of them than may be
        values["slots"] = slots = min(slots, values["per_host"])
        values["per_host"] //= slots
        values["delay"] *= slots
    return HostPolicy(**values)


def _matching_rules(host_key: str, rules: Mapping[str, HostRule]) -> list[HostRule]:
    """The rules that match, the most specific last."""
    if not rules:
        return []
    scheme, _, netloc = host_key.partition("://")
    host, port = _split(netloc)
    port = port or {"http": "80", "https": "443"}.get(scheme, "")
    found: list[tuple[tuple[bool, int, bool], HostRule]] = []
    for pattern, rule in rules.items():
        its_host, its_port = _split(pattern)
        its_host = its_host.removesuffix(".")
        if its_port in ("", port) and _matches(host, its_host):
            stars = its_host.count("*")
            found.append(((not stars, len(its_host) - stars, bool(its_port)), rule))
    found.sort(key=lambda pair: pair[0])  # stable: of equals the later one comes last
    return [rule for _, rule in found]


def _matches(host: str, pattern: str) -> bool:
    if _NETWORK.fullmatch(pattern) and not _ADDRESS.fullmatch(host):
        return False
    return fnmatchcase(host, pattern.replace("[", "[[]").replace("?", "[?]"))


_NETWORK = re.compile(r"[0-9.*]*[0-9][0-9.*]*")
_ADDRESS = re.compile(r"[0-9.]+")


def _split(netloc: str) -> tuple[str, str]:
    """Host and port; "" for none."""
    host, colon, port = netloc.rpartition(":")
    return (host, port) if colon and port.isdigit() else (netloc, "")
