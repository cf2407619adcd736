"""How a robots.txt is read: its lines, however spelt, and the group that speaks to us.

Pure text work, for `robots`. What comes out is one group in the canonical spelling, bounded in its
rules with wildcards, and the sitemaps.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

__all__ = ["MAX_BYTES", "MAX_PATTERNS", "Group", "crawl_delay", "first_name", "read"]

MAX_BYTES = 500 * 1024
"""How much of a file is read (RFC 9309, section 2.5: at least 500 KiB)."""

MAX_SITEMAPS = 1000

MAX_PATTERNS = 2000
"""Rules with wildcards that are matched as such: each costs a search through every URL."""

_FIELDS = {
    "user-agent": "agent",
    "disallow": "deny",
    "allow": "allow",
    "crawl-delay": "delay",
    "sitemap": "sitemap",
    "request-rate": "other",
    "visit-time": "other",
}
# Common misspellings are understood, as other readers of these files do.
_MISSPELT = re.compile(
    r"""(?:
        (?P<agent>(?:users?|useg|ser)[\s_-]?ag(?:en|ne)ts?)
      | (?P<deny>d[eia]+s+[al]+[oa]w)
      | (?P<allow>all?ow)
      | (?P<delay>crawl[\s_-]?delay)
      | (?P<sitemap>site[\s_-]?maps?)
      | (?P<other>request[\s_-]?rate|visit[\s_-]?time)
    )(?:\s*:|\s)""",
    re.IGNORECASE | re.VERBOSE,
)
_STARS = re.compile(r"\*{2,}")
_INVALID_BYTE = re.compile("[\udc80-\udcff]")
_LINE_END = re.compile(r"\r\n|\r|\n")
_MARKUP = re.compile(r"\s*<")
_AGENT_LINE = re.compile(r"^[ \t]*user-?agent[ \t]*:", re.IGNORECASE | re.MULTILINE)
# White space to Python (and ends of lines, to protego) that RFC 9309 does not know.
_CONTROL = re.compile("[\0\x0b\x0c\x1c-\x1f\ufeff]+")
_FALSE_END = re.compile("[\x85\u2028\u2029]")


def _decode(body: bytes) -> str:
    """The text of a file: by its byte order mark, else UTF-16 by its looks, else UTF-8.

    Bytes that are not UTF-8 become percent-escapes, which is how they look in a URL.
    """
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return body.decode("utf-16", "replace")
    head = body[:64]
    if len(head) > 8 and head.count(0) * 3 >= len(head):
        return body.decode(
            "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be", "replace"
        )
    text = body.decode("utf-8", "surrogateescape")
    return _INVALID_BYTE.sub(lambda m: f"%{ord(m[0]) - 0xDC00:02X}", text)


def _clean(body: bytes) -> str:
    text = _CONTROL.sub(" ", _decode(body[:MAX_BYTES]))
    return _FALSE_END.sub(lambda m: quote(m[0]), text)


def _lines(body: bytes) -> Iterator[tuple[str, str]]:
    """The lines that mean something, as (kind, value); kinds: those of `_FIELDS`, and blank."""
    text = _clean(body)
    if _MARKUP.match(text) and not _AGENT_LINE.search(text):
        return  # a page that answers every path, this one too
    lines = _LINE_END.split(text)
    if len(body) > MAX_BYTES:
        lines.pop()  # cut in its middle, "/private" would say "/"
    for line in lines:
        if not line or line.isspace():
            yield "blank", ""
            continue
        line = line.partition("#")[0].strip()
        name, _, value = line.partition(":")
        kind = _FIELDS.get(name.rstrip().lower())
        if kind is None:
            misspelt = _MISSPELT.match(line)
            if misspelt is None or misspelt.lastgroup is None:
                continue
            kind, value = misspelt.lastgroup, line[misspelt.end() :]
        yield kind, value.strip()


def first_name(value: str) -> str:
    """The first product's name in a User-agent line or field, in lower case."""
    return re.split(r"[/\s]", value.strip(), maxsplit=1)[0].lower()


@dataclass(slots=True, eq=False)
class Group:
    """The records for one product token, merged (section 2.2.1)."""

    rules: list[str] = field(default_factory=list)
    delays: list[str] = field(default_factory=list)
    patterns: int = 0
    named: bool = False


def read(body: bytes, token: str) -> tuple[Group, list[str]]:
    """The group that *token* must obey, and the sitemaps.

    A group is a run of User-agent lines and what follows it. Only rules end the run (section
    2.2.4: other records must not), or else a blank line after another record: authors who write
    "User-agent: *", a Crawl-delay and a blank line do not mean the bots below to share it.
    """
    ours, anyone, nobody = Group(), Group(), Group()
    sitemaps: list[str] = []
    current: list[Group] = []
    naming = record = False
    for kind, value in _lines(body):
        if kind == "agent":
            if not naming:
                current, naming, record = [], True, False
            name = first_name(value)
            group = anyone if name == "*" else ours if name.rstrip("*") == token else nobody
            group.named = True
            if group is not nobody and group not in current:
                current.append(group)
        elif kind == "blank":
            naming = naming and not record
        elif kind == "sitemap":
            if value and len(sitemaps) < MAX_SITEMAPS:
                sitemaps.append(value)
        else:
            record = True
            naming = naming and kind not in ("allow", "deny")
            for group in current:
                _obey(group, kind, value)
    return (ours if ours.named else anyone), sitemaps


def _obey(group: Group, kind: str, value: str) -> None:
    if not value:
        return  # "Disallow:" with nothing after it forbids nothing
    if kind == "delay":
        group.delays.append(value)
    elif kind in ("allow", "deny"):
        verb = "Allow" if kind == "allow" else "Disallow"
        value = _STARS.sub("*", value)
        if "*" in value or "$" in value:
            group.patterns += 1
            if group.patterns > MAX_PATTERNS:
                if kind == "allow":
                    return
                value = re.split(r"[*$]", value, maxsplit=1)[0] or "/"
        group.rules.append(f"{verb}: {value}")


def crawl_delay(values: list[str], longest: float, notes: list[str]) -> float | None:
    """The longest delay asked for, in seconds; what is no duration is left out, and noted."""
    asked = [_seconds(value) for value in values]
    found = [seconds for seconds in asked if seconds is not None]
    if len(found) < len(asked):
        odd = values[asked.index(None)]
        notes.append(f"Crawl-delay {odd[:40]!r} is not a duration: ignored")
    if not found:
        return None
    if max(found) > longest:
        notes.append(
            f"Crawl-delay of {max(found):g} s is honoured up to politeness.max_crawl_delay"
            f" = {longest:g} s"
        )
    return min(max(found), longest)


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
