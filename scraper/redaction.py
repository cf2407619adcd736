"""What may be told: text without the secrets in it, known by their looks, their names, or by value.

By its looks goes what stands before the `@` of an address, what follows `Bearer`, and the value of
whatever is called a token, a password, a cookie: as a parameter, a header, a JSON member, a
setting. By value goes what the configuration, or the request at hand, is known to hold.

Linear in the text, whatever it is: every repetition is bounded, or takes what it has passed.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable
from contextvars import ContextVar, Token
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus, unquote

__all__ = [
    "BY_LOOKS",
    "MASK",
    "Redactor",
    "held",
    "holding",
    "is_credential",
    "is_plainly_secret",
    "is_secret_name",
    "protect",
    "redacted",
    "redacted_json",
]

MASK = "***"
LEAST = 6
"""Characters of a known value, at least: a shorter one would take the words out of the text."""

# Names ------------------------------------------------------------------------------------------

_PLAIN = re.compile(
    r"token|secret|passw|passphrase|pwd|credential|signature|jwt|authorization|bearer"
    r"|(?:api|access|private|auth|app|sign(?:ing)?|licen[cs]e|account|shared|master|client|consumer"
    r"|subscription|encryption|storage)[-_.]?key"
    r"|sess(?:ion)?[-_.]?(?:id|key)",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"(?:page|next|prev(?:ious)?|continuation|cursor|sync)[-_.]?token|tokeni[sz]", re.IGNORECASE
)
_WORDS = re.compile(r"[A-Z]{2,}(?![a-z])|[A-Z]?[a-z]+")
_AMBIGUOUS = frozenset({
    *("apikey", "auth", "cookie", "cookies", "hmac", "key", "oauth", "otp", "pass"),
    *("sess", "session", "sid", "sig"),
})
_CREDENTIAL_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie"})
_CREDENTIAL_MEMBERS = _CREDENTIAL_HEADERS | {"cookies"}


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Whether a value of this name may be a secret: of a parameter, a header, a field."""
    name = _decoded(name)
    if is_plainly_secret(name):
        return True
    return any(word.lower() in _AMBIGUOUS for word in _WORDS.findall(name))


@lru_cache(maxsize=1024)
def is_plainly_secret(name: str) -> bool:
    """Whether a value of this name can hardly be anything else; `key` and `sid` often are."""
    return _PLAIN.search(_HARMLESS.sub("", _decoded(name))) is not None


def is_credential(header: str) -> bool:
    """Whether the header field of this name says who asks, or sounds as if it did."""
    return header.lower() in _CREDENTIAL_HEADERS or is_secret_name(header)


def _decoded(name: str) -> str:
    """*name* without escapes: `pass%77ord`, and what was escaped on the way through other URLs."""
    for _ in range(4):
        if "%" not in name:
            break
        name = unquote(name)
    return name


# Looks ------------------------------------------------------------------------------------------

_USERINFO = re.compile(
    r"(?<=:[/\\][/\\])(?:"
    r"[^/?#\s\"'<>\\]{1,2048}@"  # as far as the last @ before the path
    # A password may hold a slash where nobody parses the URL; a port is none.
    r"|[^/?#\s\"'<>:@\[]{0,256}:(?!\d{1,5}(?:[/?#\s\"'<>,;)]|$))[^\s\"'<>]{0,2048}@"
    r")"
)
_P = r"%(?:25){0,3}"  # a percent sign, perhaps escaped again
_ESCAPED_USERINFO = re.compile(
    rf"(({_P})3A\2(?:2F)\2(?:2F))(?:(?!\2(?:2F|3F|23))[^\s\"'&<>]){{1,2048}}(\2(?:40))",
    re.IGNORECASE,
)

# What begins a value: the name is group "name", the value follows. A name begins where no name is
# going on, so that each character is looked at once.
_NAME = r"(?<![\w.~$%\[\]\-])(?P<name>[\w.~$%\[\]\-]{1,200})"
_MARKED = re.compile(r"(?<=[?&;#])(?P<name>[^=&;#?\s\"'<>]{1,200})=")
_ASSIGNED = re.compile(rf"{_NAME}[ ]{{0,2}}=[ ]{{0,2}}(?!=)")
_ESCAPED = re.compile(
    rf"{_P}(?:3F|26|3B|23)(?P<name>(?:(?!{_P}(?:3D|26|3F|3B|23))[\w.~%\-]){{1,200}}){_P}3D",
    re.IGNORECASE,
)
_MEMBER = re.compile(
    r"(?P<quote>\\{0,7}[\"'])(?P<name>[\w.$\-]{1,200})(?P=quote)\s{0,4}[:=,]\s{0,4}"
)
_FIELD = re.compile(
    r"(?<![\w\"'.-])(?P<name>(?:proxy-)?authorization|(?:set-)?cookie2?"
    r"|[a-z][a-z0-9]{0,40}(?:-[a-z0-9]{1,40}){1,8})[ \t]{0,4}:[ \t]{0,4}",
    re.IGNORECASE,
)
_SAID = re.compile(  # "password: hunter2", but not "password: must not be empty"
    r"(?<![\w-])(?P<name>[\w.]{0,40}(?:passw(?:or)?d|pwd|passphrase|secret|api_?key))"
    r"[ ]{0,2}:[ ]{1,2}"
    r"(?=\S{4,}[\s,;)\]}]*(?:$|[,;)\]}]))",
    re.IGNORECASE | re.MULTILINE,
)

_VALUE = re.compile(r"b?\"[^\"]*\"?|b?'[^']*'?|[^\s&;#\"'<>]*")
_ESCAPED_VALUE = re.compile(rf"(?:(?!{_P}26)[^\s&;#\"'<>])*", re.IGNORECASE)
_LINE = re.compile(r"[^\r\n]*")
_WORD = re.compile(r"[^\s,;)\]}]*")
_LIST = re.compile(r"\[[^\]]*\]?|\([^)]*\)?|\{[^}]*\}?")
_SCALAR = re.compile(r"[^\s,}\])]*")
_BEARER = re.compile(r"\b(Bearer\s{1,4})[^\s\"',;<>]+", re.IGNORECASE)
_BASIC = re.compile(r"\b(Basic\s{1,4})([A-Za-z0-9+/_-]{4,4096}={0,2})", re.IGNORECASE)
_JWT = re.compile(r"\beyJ[\w-]{8,8192}\.[\w-]{4,8192}\.[\w-]{0,8192}")

Value = Callable[[str, "re.Match[str]"], int]
"""Where the value ends that begins behind a match."""


def _by_looks(text: str) -> str:
    if "@" in text:
        text = _USERINFO.sub(f"{MASK}@", text)
    if "%" in text:
        text = _ESCAPED_USERINFO.sub(rf"\1{MASK}\3", text)
        text = _masked(text, _ESCAPED, is_secret_name, _until(_ESCAPED_VALUE))
    if '"' in text or "'" in text:
        text = _masked(text, _MEMBER, _is_secret_member, _member_value)
    if "=" in text:
        text = _masked(text, _MARKED, is_secret_name, _until(_VALUE))
        text = _masked(text, _ASSIGNED, _is_secret_member, _until(_VALUE))
    if ":" in text:
        text = _masked(text, _FIELD, _is_secret_field, _until(_LINE))
        text = _masked(text, _SAID, is_plainly_secret, _until(_WORD))
    text = _BEARER.sub(rf"\1{MASK}", text)
    text = _BASIC.sub(_basic, text)
    return _JWT.sub(MASK, text) if "eyJ" in text else text


def _masked(text: str, start: re.Pattern[str], secret: Callable[[str], bool], value: Value) -> str:
    """*text* with a mask for every value that *start* leads to and whose name is *secret*."""
    parts: list[str] = []
    done = 0
    for match in start.finditer(text):
        if match.start() < done or not secret(match["name"]):
            continue
        end = value(text, match)
        if end > match.end():
            quote = match.groupdict().get("quote")
            parts += (text[done : match.end()], f"{quote}{MASK}{quote}" if quote else MASK)
            done = end
    return "".join((*parts, text[done:])) if parts else text


def _until(pattern: re.Pattern[str]) -> Value:
    def end(text: str, match: re.Match[str]) -> int:
        found = pattern.match(text, match.end())
        return match.end() if found is None else found.end()

    return end


def _member_value(text: str, match: re.Match[str]) -> int:
    """The end of a JSON or Python value: a string, a list, or a word."""
    at, quote = match.end(), match["quote"]
    if text[at : at + 1] == "b":
        at += 1
    mark = quote[:-1]  # the backslashes of what was quoted again
    if text.startswith((f'{mark}"', f"{mark}'"), at):
        closing = text[at : at + len(quote)]
        end = at + len(closing)
        while True:
            end = text.find(closing, end)
            if end < 0:
                return len(text)
            if text[end - 1] != "\\":
                return end + len(closing)
            end += 1
    pattern = _LIST if text[at : at + 1] in ("[", "(", "{") else _SCALAR
    found = pattern.match(text, at)
    return match.end() if found is None else found.end()


@lru_cache(maxsize=1024)
def _is_secret_member(name: str) -> bool:
    return (
        is_plainly_secret(name)
        or name.lower() in _CREDENTIAL_MEMBERS
        or ("-" in name and is_secret_name(name))
    )


@lru_cache(maxsize=1024)
def _is_secret_field(name: str) -> bool:
    """Of a name with nothing around it, as in prose: `X-Auth: …`, but not `pre-auth: …`."""
    extension = name[:2].lower() == "x-"
    return (
        name.lower() in _CREDENTIAL_HEADERS
        or is_plainly_secret(name)
        or (extension and is_secret_name(name))
    )


def _basic(match: re.Match[str]) -> str:
    """`Basic` and a word may be prose; a word that decodes to `user:password` is not."""
    try:
        pair = b64decode(match[2] + "=" * (-len(match[2]) % 4), altchars=None)
    except (Base64Error, ValueError):
        return match[0]
    return f"{match[1]}{MASK}" if b":" in pair else match[0]


# Values -----------------------------------------------------------------------------------------


class Redactor:
    """Takes secrets out of text: by their looks, and these *known* values in any spelling."""

    __slots__ = ("_pattern", "known")

    def __init__(self, known: Iterable[str] = ()) -> None:
        self.known = frozenset(known)
        self._pattern = _pattern(self.known)

    def __call__(self, text: str, more: frozenset[str] = frozenset()) -> str:
        """*text* without secrets. *more*: values that are known here and now. Idempotent."""
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
        if more and (pattern := _pattern(more)) is not None:
            text = pattern.sub(MASK, text)
        return _by_looks(text)

    def __repr__(self) -> str:
        return f"<Redactor: {len(self.known)} known>"


@lru_cache(maxsize=64)
def _pattern(known: frozenset[str]) -> re.Pattern[str] | None:
    long = [value for value in known if len(value) >= LEAST]
    spellings = {spelt for value in long for spelt in _spellings(value) if len(spelt) >= LEAST}
    if not spellings:
        return None
    return re.compile("|".join(map(re.escape, sorted(spellings, key=len, reverse=True))))


def _spellings(value: str) -> set[str]:
    """How *value* may show: as it is, escaped for a URL, for JSON, as Python writes it."""
    plain = value.encode("utf-8", "replace")
    return {
        value,
        unquote(value),
        quote(plain, safe=""),
        quote(plain),
        quote_plus(plain),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
    }


BY_LOOKS = Redactor()
"""Knows no values: what it makes of a text is always the same."""

_current: ContextVar[Redactor] = ContextVar("redactor", default=BY_LOOKS)


_at_hand: ContextVar[Callable[[], Iterable[str]]] = ContextVar("at_hand", default=tuple)


def protect(known: Iterable[str]) -> Redactor:
    """From here on, in this context, *known* values are secrets, too."""
    redactor = Redactor({*_current.get().known, *known})
    _current.set(redactor)
    return redactor


class holding:  # noqa: N801 - a `with` block's word; every page has one, so it is no generator
    """Meanwhile, in this context, what *secrets* gives is secret; asked when something is told."""

    __slots__ = ("_secrets", "_token")

    _token: Token[Callable[[], Iterable[str]]]

    def __init__(self, secrets: Callable[[], Iterable[str]]) -> None:
        self._secrets = secrets

    def __enter__(self) -> None:
        self._token = _at_hand.set(self._secrets)

    def __exit__(self, *_: object) -> None:
        _at_hand.reset(self._token)


def held() -> frozenset[str]:
    """The secrets of what this context is at work on: a page's request, and its answer."""
    return frozenset(_at_hand.get()())


def redacted(text: str) -> str:
    """*text* without secrets: what looks like one, what is protected or held here."""
    return _current.get()(text, held())


def redacted_json(value: Any, redact: Callable[[str], str] = redacted) -> Any:
    """A JSON value, its texts redacted; a member of a plainly secret name has none of its own."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {
            redact(str(name)): MASK
            if isinstance(below, str) and below and is_plainly_secret(str(name))
            else redacted_json(below, redact)
            for name, below in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted_json(below, redact) for below in value]
    return value
