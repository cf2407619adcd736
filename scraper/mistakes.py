"""One line for what is wrong with a setting: where, which key, what value, and the way out."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from scraper.urls import redact

__all__ = [
    "Key",
    "Problem",
    "annotation_at",
    "clip",
    "dotted",
    "explain",
    "masked",
    "nearest",
    "reworded",
    "shown",
]

Key = tuple[str | int, ...]

BARE = re.compile(r"[A-Za-z0-9_-]+")
SECRET = re.compile(
    r"pass(word|wd|phrase)?$|pwd|secret|token|credential|api[_-]?key|private[_-]?key|access[_-]?key"
    r"|auth$|authorization|cookies?$|dsn|signature",
    re.IGNORECASE,
)
HARMLESS_HEADERS = frozenset({
    "accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "connection",
    "content-type", "dnt", "from", "pragma", "te", "upgrade-insecure-requests", "user-agent", "via",
})  # fmt: skip
USERINFO = re.compile(r"(?<=://)[^/@\s\"']+(?=@)")
WORDS = {
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "path_type": "must be a path",
    "string_too_short": "must not be empty",
    "byte_size": 'must be a size: whole bytes, or such as "16 MB"',
    "byte_size_unit": 'must be a size: whole bytes, or such as "16 MB"',
}
LIMITS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
# What a terminal obeys or breaks a line at, and what UTF-8 cannot hold, besides JSON's own escapes.
_UNSHOWN = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
MASK = "***"
LONGEST = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """`place`: file and line, variable or option. `what` is wrong there; `way` out, if any."""

    place: str
    what: str
    way: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.what}" + (f"; {self.way}" if self.way else "")


def dotted(key: Key) -> str:
    """A key as TOML writes it: steps that are not bare are quoted."""
    return ".".join(
        step if BARE.fullmatch(step) else json.dumps(step, ensure_ascii=False)
        for step in map(str, key)
    )


def masked(value: Any, key: Key = ()) -> Any:
    """*value*, which stands at *key*, in JSON types and without its secrets.

    A name that sounds like a secret hides its whole value, as does any header that is not known
    to be harmless; URLs lose their passwords.
    """
    if isinstance(value, Mapping):
        return {str(name): masked(below, (*key, str(name))) for name, below in value.items()}
    if value is None or value == "" or isinstance(value, bool):
        return value
    if _is_secret(key):
        return MASK
    if isinstance(value, list | tuple | set | frozenset):
        return [masked(entry, key) for entry in value]
    if isinstance(value, int | float | date | time):
        return value
    return USERINFO.sub(MASK, redact(str(value)))


def _is_secret(key: Key) -> bool:
    names = [str(step) for step in key]
    if not names:
        return False
    if "headers" in names:
        return names[-1].lower() not in HARMLESS_HEADERS
    return SECRET.search(names[-1]) is not None


def shown(value: Any, key: Key | str = (), *, longest: int = LONGEST) -> str:
    """A value for people: as TOML writes it, cut at *longest* characters, secrets masked."""
    return clip(_toml(masked(value, (key,) if isinstance(key, str) else key)), longest)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"{dotted((name,))} = {_toml(below)}" for name, below in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if value is None:
        return "none"
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float):
        return repr(value)
    return _UNSHOWN.sub(
        lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False)
    )


def clip(text: str, longest: int = LONGEST) -> str:
    """*text* cut at *longest* characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def nearest(name: str, names: Iterable[str], *, all_of: str = "", cutoff: float = 0.6) -> str:
    """``did you mean X?``; else, with *all_of* (what they are), the list of them; else nothing."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    if close:
        return f"did you mean {close[0]}?"
    return f"{all_of}: {', '.join(names)}" if all_of and names else ""


def explain(place: str, key: Key, error: ErrorDetails, model: type[BaseModel]) -> Problem:
    """A validation error of *model* at *key* as a `Problem`."""
    value = error["input"]
    if error["type"] == "extra_forbidden":
        where = dotted(key)
        if isinstance(value, Mapping) and len(key) == 1:
            return Problem(place, f"unknown table [{where}]", _right_key(key, model))
        # A table under a wrong name may be one that holds secrets.
        text = "{ … }" if isinstance(value, Mapping) and value else shown(value, key)
        return Problem(place, f"unknown key {where} = {text}", _right_key(key, model))
    if error["type"] == "missing":
        return Problem(place, f"{dotted(key)} is missing")
    return Problem(place, f"{dotted(key)} = {shown(value, key)}: {reworded(error)}")


def reworded(error: ErrorDetails) -> str:
    """What a value must be, in few words and without the validator's vocabulary."""
    ctx = error.get("ctx", {})
    kind = error["type"]
    if kind in WORDS:
        return WORDS[kind]
    if kind == "literal_error":
        return _choices(str(error["input"]), re.findall(r"'([^']*)'", ctx.get("expected", "")))
    for limit, words in LIMITS.items():
        if limit in ctx and kind.startswith(("greater_than", "less_than")):
            return f"must be {words} {ctx[limit]:g}"
    return error["msg"].removeprefix("Value error, ")


def _choices(value: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(value, choices, n=1)
    guess = f'; did you mean "{close[0]}"?' if close else ""
    return "must be one of " + ", ".join(f'"{choice}"' for choice in choices) + guess


# The names that are right -------------------------------------------------------------------


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model under the names that users write."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def annotation_at(model: type[BaseModel], key: Key) -> Any:
    """The annotation of the setting *key*, None if there is none."""
    annotation: Any = model
    for step in key:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            info = fields_of(annotation).get(str(step))
            annotation = info.annotation if info else None
        elif get_origin(annotation) in {dict, list}:
            annotation = get_args(annotation)[-1]
        else:
            return None
    return annotation


def _all_keys(model: type[BaseModel], under: Key = ()) -> Iterable[Key]:
    for name, info in fields_of(model).items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _all_keys(inner, (*under, name))
        else:
            yield (*under, name)


def _right_key(key: Key, model: type[BaseModel]) -> str:
    """The nearest right key: of that name in another table, or like it in this one, or in any."""
    above, name = key[:-1], str(key[-1])
    table = annotation_at(model, above)
    here = (
        list(fields_of(table)) if isinstance(table, type) and issubclass(table, BaseModel) else []
    )
    every = {str(k[-1]): k for k in reversed(list(_all_keys(model)))}
    if name in every:
        return f"did you mean {dotted((*_spider_prefix(key), *every[name]))}?"
    if close := difflib.get_close_matches(name, here, n=1, cutoff=0.7):
        right = dotted((*above, close[0]))
        return f"did you mean {right}?" if above else f"did you mean [{right}]?"
    if close := difflib.get_close_matches(name, every, n=1, cutoff=0.8):
        return f"did you mean {dotted((*_spider_prefix(key), *every[close[0]]))}?"
    return f"there are {', '.join(here)}" if here else ""


def _spider_prefix(key: Key) -> Key:
    return key[:2] if key[0] == "spiders" else ()
