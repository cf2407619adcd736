"""A command line taken apart as a shell would, without ever asking one.

Knows the quoting of POSIX shells, `$'…'` of bash, and what browsers write for `cmd` of Windows.
Nothing is expanded: what a shell would replace is refused.
"""

from __future__ import annotations

import re

from scraper.errors import UsageError
from scraper.urls import scalar

__all__ = ["words_of"]

_PIECE = re.compile(
    r"""(?P<space>\s+)
      | \\(?P<joined>\r?\n)
      | \\(?P<escaped>.)
      | '(?P<single>[^']*+)'
      | \$'(?P<ansi>(?:[^'\\]|\\.)*+)'
      | \$?"(?P<double>(?:[^"\\]|\\.)*+)"
      | (?P<open>\$?["'].{0,20})
      | (?P<expanded>\$(?:[A-Za-z_]\w*|\{[^}]*\}?|\()|`)
      | (?P<plain>[^\s\\'"$`]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_WINDOWS_PIECE = re.compile(
    r"""(?P<space>\s+)
      | "(?P<double>(?:[^"\\]|\\.)*+)"
      | (?P<open>".{0,20})
      | (?P<plain>[^\s"]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_END = re.compile(r"(?:;|&&?)(?=\s|\Z)|[0-9]?[<>]|\|")
_IN_DOUBLE = re.compile(r"\\(\n|[\"\\$`])|(\$(?:[A-Za-z_]\w*|\{[^}]*\}?|\()|`)")
_IN_ANSI = re.compile(
    r"(?P<bytes>(?:\\x[0-9a-fA-F]{1,2}|\\[0-7]{1,3})+)"
    r"|\\u([0-9a-fA-F]{1,4})|\\U([0-9a-fA-F]{1,8})|\\(.)",
    re.DOTALL,
)
_BYTE = re.compile(r"\\(?:x([0-9a-fA-F]+)|([0-7]+))")
_LETTERS = "abeEfnrtv"
_MEANINGS = "\a\b\x1b\x1b\f\n\r\t\v"


def words_of(command: str) -> list[str]:
    """The words of a command line, up to where a pipe, a redirection or the next command starts.

    Raises `UsageError` for an open quotation and for what the shell would replace (`$NAME`).
    """
    command = command.strip()
    windows = re.search(r"\^[\"\r\n]", command) is not None
    if windows:
        command = _without_carets(command)
    words: list[str] = []
    pieces: list[str] | None = None  # of the word that is being read
    for match in (_WINDOWS_PIECE if windows else _PIECE).finditer(command):
        kind, text = match.lastgroup, match[match.lastgroup or 0]
        if kind == "space":
            if pieces is not None:
                words.append("".join(pieces))
            pieces = None
        elif kind != "joined":
            if kind == "plain" and not windows:
                if pieces is None and _END.match(text):
                    break
                if text[-1] == ";" and command[match.end() : match.end() + 1].strip() == "":
                    pieces = [*(pieces or ()), text[:-1]]
                    break
            pieces = [*(pieces or ()), _read(kind, text, windows=windows)]
    if pieces is not None:
        words.append("".join(pieces))
    return words


def _read(kind: str | None, text: str, *, windows: bool) -> str:
    """What a piece stands for."""
    if kind == "open":
        raise UsageError(
            f"the command ends inside the quotation that begins with {text!r}",
            hint="Copy all of it, and paste it into a raw string: r'''curl …'''.",
        )
    if kind == "expanded":
        raise _expanded(text)
    if kind == "ansi":
        return scalar(_IN_ANSI.sub(_character, text))  # halves of one character come as two
    if kind == "double":
        return re.sub(r"\\([\"\\])", r"\1", text) if windows else _IN_DOUBLE.sub(_unescaped, text)
    return text


def _without_carets(command: str) -> str:
    """cmd's escapes undone: `^` at the end of a line joins lines; before an empty one, it is it."""
    command = command.replace("\r\n", "\n")
    if '^"' not in command:
        return command.replace("^\n", " ")
    return re.sub(r"\^(\n\n|.)", _after_caret, command, flags=re.DOTALL)


def _after_caret(match: re.Match[str]) -> str:
    return {"\n\n": "\n", "\n": " "}.get(match[1], match[1])


def _unescaped(match: re.Match[str]) -> str:
    if match[2] is not None:
        raise _expanded(match[2])
    return "" if match[1] == "\n" else match[1]


def _expanded(text: str) -> UsageError:
    return UsageError(
        f"the command has {text!r}, which a shell would replace",
        hint="Write its value there, or put it into single quotes if it is meant as it is.",
    )


def _character(match: re.Match[str]) -> str:
    raw, four, eight, plain = match.groups()
    if raw is not None:
        data = bytes(int(x, 16) if x else int(o, 8) & 0xFF for x, o in _BYTE.findall(raw))
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data.decode("latin-1")
    if (code := four or eight) is not None:
        return chr(min(int(code, 16), 0x10FFFF))
    at = _LETTERS.find(plain)
    if at >= 0:
        return _MEANINGS[at]
    return plain if plain in "\\'\"?" else f"\\{plain}"
