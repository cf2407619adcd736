"""robots.txt (RFC 9309): what one origin allows, and the rules by which that is found out.

`verdict` turns the end of a fetch into what it means; `Robots` holds the rules for our product
token; `Origin` remembers them (at most a day), and the tries when there are none. Rules are
matched by protego, which is given clean text: one group, ours, in the canonical spelling.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from protego import Protego

from scraper import urls
from scraper.errors import FetchError, Throttled
from scraper.errors import reason as reason_row
from scraper.recalled import Recalled
from scraper.robotstext import MAX_BYTES, MAX_PATTERNS, crawl_delay, first_name, read

__all__ = [
    "MAX_BYTES",
    "MAX_HOPS",
    "MAX_PATTERNS",
    "Follow",
    "Origin",
    "Robots",
    "Unavailable",
    "product_token",
    "robots_url",
    "unavailable",
    "verdict",
]

MAX_HOPS = 10
"""Redirects followed, across hosts (section 2.3.1.2: at least five)."""

MAX_AGE = 24 * 3600.0
"""Seconds that an answer is good for (section 2.4)."""

MAX_STORED = 64 * 1024
"""Bytes of what one origin's robots.txt says that workers pass to each other, at most."""

VERSION = 1
"""Of the form in which they do."""

MAX_TRIES = 5
"""Failures in a row after which an origin is given up."""


def robots_url(host_key: str) -> str:
    """Where an origin's robots.txt lies. *host_key*: `urls.host_key`."""
    return f"{host_key}/robots.txt"


def product_token(user_agent: str) -> str:
    """The name by which robots.txt addresses the sender of *user_agent* (section 2.2.1).

    The first product's name, in lower case; of ``Mozilla/5.0 (compatible; Name/1.0 …)``, Name.
    """
    first = first_name(user_agent)
    if first == "mozilla":
        inner = re.search(r"\(compatible;\s*([^;)\s]+)", user_agent, re.IGNORECASE)
        return first_name(inner[1]) if inner else first
    return first


# The rules --------------------------------------------------------------------------------------


class Robots:
    """What a robots.txt says to us.

    `crawl_delay`: seconds, sane, or None. `sitemaps`: hrefs where they parse. `notes`: what was
    ignored or capped, for the log. `text`: the rules, in the form in which they are stored.
    """

    __slots__ = ("_rules", "crawl_delay", "notes", "sitemaps", "text")

    def __init__(self, text: str = "", crawl_delay: float | None = None) -> None:
        """*text*: our rules in the canonical spelling, a line each."""
        self.text = text
        self._rules = Protego.parse(f"User-agent: *\n{text}") if text else None
        self.crawl_delay = crawl_delay
        self.sitemaps: list[str] = []
        self.notes: list[str] = []

    @classmethod
    def allow_all(cls, note: str = "") -> Robots:
        """No rules: what a missing file means (section 2.3.1.3)."""
        robots = cls()
        if note:
            robots.notes.append(note)
        return robots

    @classmethod
    def parse(
        cls, body: bytes, token: str, *, url: str = "", max_crawl_delay: float = 300.0
    ) -> Robots:
        """The rules in *body* for the product *token*. Never raises.

        *url*: where the file came from, for sitemaps that are relative. *max_crawl_delay*: seconds.
        """
        group, sitemaps = read(body, token.lower())
        notes: list[str] = []
        robots = cls("\n".join(group.rules), crawl_delay(group.delays, max_crawl_delay, notes))
        if len(body) > MAX_BYTES:
            robots.notes.append(f"only the first {MAX_BYTES // 1024} KiB of robots.txt were read")
        if group.patterns > MAX_PATTERNS:
            robots.notes.append(
                f"more than {MAX_PATTERNS} rules with wildcards: of the others, Allow is ignored"
                " and Disallow cut at its first wildcard"
            )
        robots.notes += notes
        found = (urls.parse(sitemap, url or None) for sitemap in sitemaps)
        robots.sitemaps = list(dict.fromkeys(href for href in found if href))
        return robots

    def allowed(self, url: str) -> bool:
        """Whether *url* may be fetched: the longest matching rule decides (section 2.2.2)."""
        return self._rules is None or bool(self._rules.can_fetch(url, "*"))


# What an answer means ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Follow:
    """The file lies elsewhere, perhaps on another host: an href."""

    location: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No answer that says anything: nothing may be fetched until there is one (section 2.3.1.4).

    `reason`: the code. `retry_after`: seconds the server asks for, if it does. `reached`: whether a
    connection stood. `hopeless`: another try would end alike.
    """

    reason: str
    retry_after: float | None = None
    reached: bool = True
    hopeless: bool = False


def verdict(
    answer: int | FetchError,
    body: bytes = b"",
    *,
    token: str,
    url: str = "",
    location: str | None = None,
    hops: int = 0,
    retry_after: float | None = None,
    max_crawl_delay: float = 300.0,
) -> Robots | Unavailable | Follow:
    """What the end of a robots.txt fetch means (RFC 9309, section 2.3.1).

    *answer*: the status, or why there was none. *url*: what was asked; *location*: the Location
    field; *hops*: redirects followed so far; *retry_after*: `politeness.parse_retry_after`.

    2xx: the rules. 3xx: followed, `MAX_HOPS` times; a longer chain, or one that leads nowhere on
    the web, is as good as a missing file, which is what the RFC permits and other crawlers do. 4xx:
    no file, no rules. 429, 5xx, anything unknown, and no answer at all: unavailable, for failure is
    never permission.
    """
    if isinstance(answer, FetchError):
        return unavailable(answer)
    if 200 <= answer < 300:
        return Robots.parse(body, token, url=url, max_crawl_delay=max_crawl_delay)
    if 300 <= answer < 400:
        return _redirected(location, url, hops)
    if 400 <= answer < 500 and answer != 429:
        return Robots.allow_all()
    return Unavailable(f"http_{answer}", retry_after)


def unavailable(error: FetchError) -> Unavailable:
    """No answer at all, and why."""
    passing = reason_row(error.reason).retried if error.temporary is None else error.temporary
    passing = passing or isinstance(error, Throttled)  # our own patience ended
    return Unavailable(error.reason, None, error.sent, not error.sent and not passing)


def _redirected(location: str | None, url: str, hops: int) -> Robots | Follow:
    if hops >= MAX_HOPS:
        return Robots.allow_all(
            f"robots.txt redirects more than {MAX_HOPS} times: taken as missing"
        )
    href = urls.parse(location, url or None) if location else None
    if href is None or not urls.is_web(href):
        return Robots.allow_all("robots.txt redirects to nowhere on the web: taken as missing")
    return Follow(urls.without_fragment(href))


# Remembering ------------------------------------------------------------------------------------


class Origin:
    """What is known of one origin's robots.txt. Times are seconds of one monotonic clock.

    Unknown → `fetching` → known for a day → unknown …; or not available: again after 5, 10, 20, 40
    times the first back-off (1, 2, 4, 8 when no connection stood; or as Retry-After says), and
    after `MAX_TRIES` given up. Rules that were known once stay in force when they cannot be had
    anew (section 2.4). *obeyed*: False allows everything and never asks.
    """

    __slots__ = (
        "_known_until",
        "_news",
        "_retry_at",
        "_stored",
        "_tries",
        "_unreached",
        "fetching",
        "obeyed",
        "refusal",
        "robots",
    )

    def __init__(self, obeyed: bool = True) -> None:
        self.obeyed = obeyed
        self.fetching = False
        self.robots: Robots | None = None
        self.refusal: str | None = None
        self._known_until = -math.inf
        self._retry_at = -math.inf
        self._tries = 0
        self._unreached = 0
        self._news = False  # something was learnt that `save` has not given yet
        self._stored: bytes | None = None  # what other workers know of it, when last seen

    def needs_fetch(self, now: float) -> bool:
        """Whether robots.txt must be had before anything else may be."""
        return self.obeyed and now >= self._known_until

    def wait(self, now: float) -> float:
        """Seconds until robots.txt may be asked for again; 0 when nothing is in the way."""
        return max(self._retry_at - now, 0.0) if self.needs_fetch(now) else 0.0

    def allowed(self, url: str) -> bool:
        """Whether the rules allow *url*. Without rules nothing is allowed, if they are obeyed."""
        if not self.obeyed:
            return True
        return self.robots is not None and self.robots.allowed(url)

    def settle(
        self,
        now: float,
        outcome: Robots | Unavailable,
        *,
        jitter: float = 0.0,
        max_retry_after: float = 3600.0,
        base: float = 1.0,
        max_delay: float = 60.0,
    ) -> None:
        """A fetch ended. *jitter*: a random number in [0, 1). *base*, *max_delay*: of back-off."""
        self.fetching = False
        self._news = True
        if isinstance(outcome, Robots):
            self.robots = outcome
            self._known_until = now + MAX_AGE
            self._tries = self._unreached = 0
            return
        self._tries += 1
        self._unreached += not outcome.reached
        asked = min(outcome.retry_after or 0.0, max_retry_after)
        back_off = (5.0 if outcome.reached else 1.0) * base * 2 ** min(self._tries - 1, MAX_TRIES)
        rest = asked if asked > 0 else min(back_off, max_delay) * (1.0 + jitter / 4)
        if self.robots is not None:  # what is known stays in force; ask again then
            self._known_until = now + max(rest, MAX_AGE / 24)
        elif outcome.hopeless:
            self.refusal = outcome.reason
        elif self._tries >= MAX_TRIES:
            never = self._unreached == self._tries
            self.refusal = outcome.reason if never else "robots_unavailable"
        else:
            self._retry_at = now + rest

    def abandoned(self) -> None:
        """The fetch was broken off by us: it says nothing."""
        self.fetching = False

    # What the workers of a shared crawl tell each other

    def save(self, agent: str, now_mono: float, now_wall: float) -> bytes | None:
        """What was learnt since the last call: JSON, its dates in wall time; None for nothing.

        None, too, for rules that are longer than `MAX_STORED`: each worker asks for those itself.
        *agent*: the product token that they are for.
        """
        if not self._news:
            return None
        self._news = False
        ahead = now_wall - now_mono
        record: dict[str, Any] = {"version": VERSION, "agent": agent}
        if self.robots is not None:
            record["until"] = round(self._known_until + ahead, 3)
            record["rules"] = self.robots.text
            if self.robots.crawl_delay is not None:
                record["crawl_delay"] = self.robots.crawl_delay
        if self._tries:
            record |= {"tries": self._tries, "unreached": self._unreached}
        if self._retry_at > now_mono:
            record["retry"] = round(self._retry_at + ahead, 3)
        if self.refusal is not None:
            record["refusal"] = self.refusal
        saved = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
        stored = saved.encode("utf-8", "backslashreplace")
        self._stored = stored if len(stored) <= MAX_STORED else None
        return self._stored

    def restore(self, saved: bytes | None, agent: str, now_mono: float, now_wall: float) -> None:
        """Know what another worker has learnt: what `save` gave there, None if nothing was.

        It takes the place of what is known here, unless that is news to the others. No date is
        further away than a day, whatever the clocks of their machines say. Raises `DamagedState`
        for anything that `save` does not write.
        """
        if saved is None or self._news or saved == self._stored:
            return
        record = Recalled(saved, "what is stored of a robots.txt", MAX_STORED)
        if record.number("version", 0) != VERSION:
            raise record.damaged("another version of this program has written it")
        if record.text("agent") != agent:
            return  # the rules are for another name than we have now
        self._stored = saved

        def date(name: str) -> float:
            return now_mono + min(record.number(name, 0.0) - now_wall, MAX_AGE)

        self.robots, self._known_until = None, -math.inf
        if "rules" in record:
            text = record.lines("rules", ("Allow: ", "Disallow: "))
            delay = record.number("crawl_delay", 0.0) if "crawl_delay" in record else None
            self.robots, self._known_until = Robots(text, delay), date("until")
        self._tries = int(record.number("tries", 0))
        self._unreached = int(record.number("unreached", 0))
        self._retry_at = date("retry") if "retry" in record else -math.inf
        self.refusal = record.text("refusal")

    def __repr__(self) -> str:
        if not self.obeyed:
            return "<Origin: robots.txt not obeyed>"
        state = self.refusal or ("known" if self.robots is not None else f"{self._tries} tries")
        return f"<Origin: {state}>"
