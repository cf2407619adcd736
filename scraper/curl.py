"""curl command lines, as browsers copy them: read into what `Request` takes.

A pasted command never reads a file and never runs anything: what would is refused by name.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from scraper import urls
from scraper.errors import UsageError
from scraper.multipart import File, encode_multipart
from scraper.shellwords import words_of

if TYPE_CHECKING:
    from scraper.options import RequestOptions

__all__ = ["parse_curl"]

# Options ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Curl:
    """What the options seen so far ask for."""

    urls: list[str] = field(default_factory=list)
    method: str | None = None
    head: bool = False
    query: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    cookies: dict[str, str] = field(default_factory=dict)
    data: list[str] = field(default_factory=list)
    json: list[str] = field(default_factory=list)
    parts: list[tuple[str, str | File]] = field(default_factory=list)
    keywords: dict[str, Any] = field(default_factory=dict)


Handler = Callable[[Curl, str], None]

_SHORT = {
    "A": "user-agent", "b": "cookie", "c": "cookie-jar", "d": "data", "e": "referer",
    "f": "fail", "F": "form", "g": "globoff", "G": "get", "H": "header", "i": "include",
    "I": "head", "j": "junk-session-cookies", "k": "insecure", "L": "location",
    "m": "max-time", "n": "netrc", "N": "no-buffer", "o": "output", "O": "remote-name",
    "p": "proxytunnel", "q": "disable", "r": "range", "R": "remote-time", "s": "silent",
    "S": "show-error", "u": "user", "v": "verbose", "w": "write-out", "x": "proxy",
    "X": "request", "y": "speed-time", "Y": "speed-limit", "z": "time-cond", "Z": "parallel",
    "0": "http1.0", "1": "tlsv1", "2": "sslv2", "3": "sslv3", "4": "ipv4", "6": "ipv6",
    "#": "progress-bar",
}  # fmt: skip
_FLAGS = frozenset({
    "anyauth", "basic", "compressed", "compressed-ssh", "disable", "fail", "fail-early",
    "fail-with-body", "false-start", "globoff", "http0.9", "http1.0", "http1.1", "http2",
    "http2-prior-knowledge", "http3", "http3-only", "include", "insecure", "ipv4", "ipv6",
    "junk-session-cookies", "location", "location-trusted", "no-buffer", "no-keepalive",
    "no-progress-meter", "parallel", "path-as-is", "post301", "post302", "post303", "progress-bar",
    "proxytunnel", "raw", "remote-name", "remote-time", "show-error", "silent", "ssl", "ssl-reqd",
    "sslv2", "sslv3", "tcp-fastopen", "tcp-nodelay", "tlsv1", "tlsv1.0", "tlsv1.1", "tlsv1.2",
    "tlsv1.3", "tr-encoding", "verbose",
})  # fmt: skip
_IGNORED = frozenset({
    "cacert", "capath", "ciphers", "connect-timeout", "cookie-jar", "dump-header",
    "expect100-timeout", "keepalive-time", "limit-rate", "max-filesize", "max-redirs", "output",
    "rate", "retry", "retry-delay", "retry-max-time", "speed-limit", "speed-time", "stderr",
    "tls-max", "tls13-ciphers", "trace", "trace-ascii", "write-out",
})  # fmt: skip
_WORDS = MappingProxyType({"data-ascii": "data"})


def parse_curl(command: str, *, ignore: bool = False) -> tuple[str, RequestOptions]:
    """The URL and the keywords of `Request` that *command* stands for.

    *ignore*: pass over options that are not known. Raises `UsageError`.
    """
    words = words_of(command)
    if not words or words[0].rpartition("/")[2].removesuffix(".exe") != "curl":
        raise UsageError(
            f"not a curl command: {command.strip()[:60]!r}",
            hint="In the browser's network tab: Copy, Copy as cURL (bash).",
        )
    curl = Curl()
    rest = iter(words[1:])
    for word in rest:
        if word == "--":
            curl.urls += rest
        elif word.startswith("--"):
            _long(curl, word[2:], rest, ignore=ignore)
        elif word.startswith("-") and word != "-":
            _short(curl, word[1:], rest, ignore=ignore)
        else:
            curl.urls.append(word)
    return _request(curl)


def _long(curl: Curl, name: str, rest: Iterator[str], *, ignore: bool) -> None:
    name = _WORDS.get(name, name)
    switch, handler = _SWITCHES.get(name), _TAKING.get(name)
    if switch is not None:
        switch(curl, "")
    elif handler is not None:
        handler(curl, _argument(f"--{name}", rest))
    elif name in _IGNORED:
        _argument(f"--{name}", rest)
    elif name not in _FLAGS and name.removeprefix("no-") not in _FLAGS and not ignore:
        raise _unknown(f"--{name}")


def _short(curl: Curl, letters: str, rest: Iterator[str], *, ignore: bool) -> None:
    """`-sSL`, `-XPOST`, `-H name:value`: letters until one that takes all that follows."""
    for at, letter in enumerate(letters):
        name = _SHORT.get(letter)
        if name is None:
            if ignore:
                return
            raise _unknown(f"-{letter}")
        takes = name in _TAKING or name in _IGNORED
        glued = letters[at + 1 :]
        if takes and glued:
            _long(curl, name, iter([glued]), ignore=ignore)
            return
        try:
            _long(curl, name, rest, ignore=ignore)
        except UsageError as error:
            raise UsageError(
                error.message.replace(f"--{name}", f"-{letter}"), hint=error.hint
            ) from None


def _argument(option: str, rest: Iterator[str]) -> str:
    value = next(rest, None)
    if value is None:
        raise UsageError(f"curl: {option} wants a value, and the command ends there")
    return value


def _unknown(option: str) -> UsageError:
    return UsageError(
        f"curl's option {option} is not understood here",
        hint="Take it out, or say Request.from_curl(…, ignore=True).",
    )


def _no_file(option: str, value: str) -> UsageError:
    return UsageError(
        f"curl: {option} {value[:60]!r} reads a file, which a pasted command may not do here",
        hint="Pass its content: Request.from_curl(…, body=path.read_bytes()), or files={…}.",
    )


def _header(curl: Curl, value: str) -> None:
    if value.startswith("@"):
        raise _no_file("-H", value)
    name, colon, content = value.partition(":")
    name, content = name.strip(), content.strip()
    if not colon:
        if not name.endswith(";"):
            return  # curl ignores what is no header
        name = name[:-1].strip()
    elif not content:
        curl.removed.add(name.lower())
        return
    if name.lower() == "cookie":
        _cookie(curl, content if "=" in content else f"{content}=")
    elif name and not name.startswith(":"):
        _set(curl, name, content)


def _set(curl: Curl, name: str, value: str) -> None:
    for known in [known for known in curl.headers if known.lower() == name.lower()]:
        del curl.headers[known]
    curl.headers[name] = value


def _cookie(curl: Curl, value: str) -> None:
    if "=" not in value:
        raise _no_file("-b", value)
    for pair in value.split(";"):
        name, equals, content = pair.strip().partition("=")
        if equals and name:
            curl.cookies[name.strip()] = content.strip()


def _data(curl: Curl, value: str) -> None:
    if value.startswith("@"):
        raise _no_file("--data", value)
    curl.data.append(value)


def _data_raw(curl: Curl, value: str) -> None:
    curl.data.append(value)


def _data_urlencode(curl: Curl, value: str) -> None:
    match = re.match(r"[^=@]*", value)
    name = match[0] if match else ""
    mark, content = value[len(name) : len(name) + 1], value[len(name) + 1 :]
    if mark == "@":
        raise _no_file("--data-urlencode", value)
    if not mark:
        name, content = "", name
    encoded = quote_plus(content, safe="").replace("+", "%20")
    curl.data.append(f"{name}={encoded}" if name else encoded)


def _json(curl: Curl, value: str) -> None:
    if value.startswith("@"):
        raise _no_file("--json", value)
    curl.json.append(value)


_TYPE = re.compile(r";\s*(type|filename)=(\"[^\"]*\"|[^;]*)")


def _form(curl: Curl, value: str) -> None:
    name, equals, content = value.partition("=")
    if not equals:
        raise UsageError(f"curl: -F {value[:60]!r} has no =", hint="-F name=content")
    if content.startswith(("@", "<")):
        raise _no_file("-F", value)
    said = {key: text.strip('"') for key, text in _TYPE.findall(content)}
    content = _TYPE.sub("", content)
    if len(content) > 1 and content[0] == content[-1] == '"':
        content = re.sub(r'\\(["\\])', r"\1", content[1:-1])
    if said:
        file = File(said.get("filename", ""), content.encode(), said.get("type", "text/plain"))
        curl.parts.append((name, file))
    else:
        curl.parts.append((name, content))


def _form_string(curl: Curl, value: str) -> None:
    name, _, content = value.partition("=")
    curl.parts.append((name, content))


def _user(curl: Curl, value: str) -> None:
    token = b64encode(urls.scalar(value if ":" in value else f"{value}:").encode()).decode()
    _set(curl, "Authorization", f"Basic {token}")


def _referer(curl: Curl, value: str) -> None:
    if address := value.removesuffix(";auto"):
        _set(curl, "Referer", address)


def _max_time(curl: Curl, value: str) -> None:
    try:
        curl.keywords["timeout"] = float(value)
    except ValueError:
        raise UsageError(f"curl: --max-time {value!r} is no number of seconds") from None


def _proxy(curl: Curl, value: str) -> None:
    if value:
        curl.keywords["proxy"] = value if "://" in value else f"http://{value}"


def _method(curl: Curl, value: str) -> None:
    curl.method = value.upper()


def _url(curl: Curl, value: str) -> None:
    curl.urls.append(value)


def _head(curl: Curl, _: str) -> None:
    curl.head = True


def _get(curl: Curl, _: str) -> None:
    curl.query = True


_SWITCHES: Mapping[str, Handler] = MappingProxyType({"get": _get, "head": _head})
_TAKING: Mapping[str, Handler] = MappingProxyType({
    "cookie": _cookie,
    "data": _data,
    "data-binary": _data,
    "data-raw": _data_raw,
    "data-urlencode": _data_urlencode,
    "form": _form,
    "form-string": _form_string,
    "header": _header,
    "json": _json,
    "max-time": _max_time,
    "oauth2-bearer": lambda curl, value: _set(curl, "Authorization", f"Bearer {value}"),
    "proxy": _proxy,
    "range": lambda curl, value: _set(curl, "Range", f"bytes={value}"),
    "referer": _referer,
    "request": _method,
    "url": _url,
    "user": _user,
    "user-agent": lambda curl, value: _set(curl, "User-Agent", value),
})

# The request ------------------------------------------------------------------------------------

_OURS = frozenset({  # what the downloader says itself, and what would ask for half an answer
    "accept-encoding", "connection", "content-length", "host", "if-modified-since", "if-none-match",
    "proxy-connection", "te", "transfer-encoding",
})  # fmt: skip
_SECRET = re.compile(r"auth|key|token|secret|session|csrf|xsrf|signature", re.IGNORECASE)


def _request(curl: Curl) -> tuple[str, RequestOptions]:
    if len(curl.urls) != 1:
        raise UsageError(
            f"the curl command has {len(curl.urls) or 'no'} URLs: {', '.join(curl.urls)[:200]}"
            if curl.urls
            else "the curl command has no URL",
            hint="One request has one URL; quote it if it holds & or spaces.",
        )
    url = curl.urls[0] if "://" in curl.urls[0] else f"http://{curl.urls[0]}"
    body = _body(curl)
    if curl.query and curl.data:
        head, _, fragment = url.partition("#")
        joined = f"{head}{'&' if '?' in head else '?'}{'&'.join(curl.data)}"
        url, body = f"{joined}#{fragment}" if fragment else joined, None
    method = curl.method or ("HEAD" if curl.head else "GET" if body is None else "POST")
    headers = {
        name: value
        for name, value in curl.headers.items()
        if name.lower() not in _OURS and name.lower() not in curl.removed
    }
    options: RequestOptions = {"method": method, **curl.keywords}  # type: ignore[typeddict-item]
    if headers:
        options["headers"] = headers
        options["secret"] = [name for name in headers if _SECRET.search(name)]
    if curl.cookies:
        options["cookies"] = curl.cookies
    if body is not None:
        options["body"] = body
    return url, options


def _body(curl: Curl) -> bytes | None:
    """The body, and in *curl* its content type unless the command names one."""
    kinds = bool(curl.data) + bool(curl.json) + bool(curl.parts)
    if kinds > 1:
        raise UsageError("curl: only one of -d, --json and -F makes a body")
    names = {name.lower() for name in curl.headers}
    body: bytes | None = None
    content_type = ""
    if curl.parts:
        body, content_type = encode_multipart(curl.parts)
        _set(curl, "Content-Type", content_type)
        return body
    if curl.json:
        body, content_type = urls.scalar("".join(curl.json)).encode(), "application/json"
        if "accept" not in names:
            _set(curl, "Accept", content_type)
    elif curl.data:
        body = urls.scalar("&".join(curl.data)).encode()
        content_type = "application/x-www-form-urlencoded"
    if body is not None and "content-type" not in names and not curl.query:
        _set(curl, "Content-Type", content_type)
    return body
