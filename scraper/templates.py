"""URL templates: what the URLs that one program of a site makes have in common."""

from __future__ import annotations

import re

__all__ = ["parameter_in_common", "template"]

LONGEST = 200
"""Characters of a path, and of the names in a query, that make the template."""

SHORTEST = 8
"""Characters of an id, at least; what is shorter has numbers."""


_TOKEN = re.compile(
    r"(?:%[0-9A-Fa-f]{2})+"  # an escape's digits are no number
    r"|;(?P<name>[^/;=]*)=[^/;]*"
    r"|[A-Za-z_\-]*+[0-9][A-Za-z0-9_\-]*"
)
_DIGITS = re.compile(r"\d+")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_HEX = re.compile(rf"(?=\d*[A-Fa-f])[0-9A-Fa-f]{{{SHORTEST},}}")
_TURN = re.compile(r"(?<=[a-z])[A-Z0-9]|(?<=[A-Z])[0-9]|(?<=[0-9])[A-Za-z]")


def template(url: str) -> str:
    """The form that a site's program gave *url*, an http(s) href.

    In the path, numbers are `{n}`, and hexadecimal, random and universally unique ids `{id}`; of
    parameters, in the query and behind a `;`, only the names remain, sorted:
    ``http://site/cal/{n}/{n}?sid=&view=``.
    """
    head, _, query = url.partition("#")[0].partition("?")
    start = head.find("/", head.find("://") + 3)
    if start < 0:
        start = len(head)
    path = _TOKEN.sub(_general, head[start : start + LONGEST])
    if not query:
        return head[:start] + path
    names = {part.partition("=")[0] for part in query.split("&") if part}
    if _DIGITS.search("&".join(names)):
        names = {_TOKEN.sub(_general, name) for name in names}
    return f"{head[:start]}{path}?{'=&'.join(sorted(names))[:LONGEST]}="


def _general(match: re.Match[str]) -> str:
    token = match[0]
    if token.isdecimal():
        return "{n}"
    if token[0] == "%":
        return token
    if token[0] == ";":
        return f";{match['name']}="
    if len(token) < SHORTEST:
        return _DIGITS.sub("{n}", token)
    if _UUID.fullmatch(token):
        return "{id}"
    if len(token) >= 10 and len(_TURN.findall(token)) * 3 >= len(token):
        return "{id}"  # kinds of characters take turns as in no word
    parts = re.split(r"([_\-])", token) if "-" in token or "_" in token else [token]
    return "".join("{id}" if _HEX.fullmatch(p) else _DIGITS.sub("{n}", p) for p in parts)


_SESSION = re.compile(
    r"(?:.*[_\-.]|php|j|asp\w*)?(?:sid|sess(?:ion)?(?:[_\-]?id)?|zenid)", re.IGNORECASE
)
_SESSION_VALUE = re.compile(r"(?=\D*\d)(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_\-]{8,}|\d{12,}")
_PARAMETER = re.compile(r"[;?&]([^=&;/?#]+)=([^&;/?#]*)")


def parameter_in_common(sample: list[str]) -> str | None:
    """The parameter that alone tells most of these URLs apart, if it looks like a session's.

    By its name, or by values that no person would count with. None when there is none: a page
    number is another page.
    """
    values: dict[str, set[str]] = {}
    for url in sample:
        for name, value in _PARAMETER.findall(url):
            values.setdefault(name, set()).add(value)
    for name, found in sorted(values.items(), key=lambda pair: -len(pair[1])):
        random = sum(1 for value in found if _SESSION_VALUE.fullmatch(value))
        if not (_SESSION.fullmatch(name) or random * 2 > len(found)):
            continue
        without = re.compile(rf"([;?&]){re.escape(name)}=[^&;/?#]*")
        rest = {without.sub(r"\1", url) for url in sample}
        if len(rest) * 2 <= len(set(sample)):
            return name
    return None
