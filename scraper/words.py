"""What pages say in words: yes and no, and text without what nobody sees."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any
from unicodedata import normalize

from pydantic import BeforeValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from scraper import urls
from scraper.errors import UsageError

__all__ = ["Flag", "Text", "Words"]

# Text -------------------------------------------------------------------------------------------

_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]"
)


def _cleaned(text: str) -> str:
    return " ".join(_INVISIBLE.sub("", normalize("NFC", text)).split())


def _text(value: Any) -> Any:
    return urls.scalar(_cleaned(value)) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_text)]
"""Text without what nobody sees: white space collapsed (no-break spaces included), zero-width
spaces, soft hyphens, direction marks and control characters removed, Unicode in normal form C.
Joiners stay: they are part of words in some scripts, and of emoji."""


# Yes and no -------------------------------------------------------------------------------------

_YES = (
    *("yes", "y", "true", "on", "1", "✓", "✔", "☑", "✅", "in stock", "instock", "available"),
    *("instoreonly", "onlineonly", "limitedavailability"),
)
_NO = (
    *("no", "n", "false", "off", "0", "✗", "✘", "✕", "☒", "❌", "out of stock", "outofstock"),
    *("sold out", "soldout", "not available", "unavailable", "not in stock", "discontinued"),
    *("currently unavailable", "no longer available", "not currently available"),
)
_SCHEMA_ORG = re.compile(r"\Ahttps?://schema\.org/", re.IGNORECASE)
_NEGATED = re.compile(r"\b(?:not|no|never|nicht|kein|non|pas|ne|не|nie)\b|n't\b")
_EXACT = 5  # characters: what is not longer must be all there is


@dataclass(frozen=True, slots=True, init=False)
class Words:
    """A page's own words for yes and no: `Annotated[bool, Css("p"), Words("auf Lager", "weg")]`.

    *yes*, *no*: a word or phrase, or several; `Flag` is this with English ones. Case and white
    space do not matter. A text that is one of them decides, or else one that holds phrases of one
    kind only; words of up to five characters must be all there is. Anything else is an error.
    """

    yes: frozenset[str]
    no: frozenset[str]

    def __init__(self, yes: str | Iterable[str], no: str | Iterable[str]) -> None:
        object.__setattr__(self, "yes", _folded(yes))
        object.__setattr__(self, "no", _folded(no))
        if not self.yes or not self.no or self.yes & self.no:
            raise UsageError("Words() takes words for yes and other words for no")

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def _read(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        text = _fold(_SCHEMA_ORG.sub("", value.strip()))
        for word in (text, text.strip(".!?:;,() ")):
            if word in self.yes or word in self.no:
                return word in self.yes
        found = {match[0] in self.yes for match in self._phrases().finditer(text)}
        if len(found) == 1 and not (found == {True} and _NEGATED.search(text)):
            return found.pop()
        raise PydanticCustomError("unclear_flag", "neither yes nor no in words that are known")

    def _phrases(self) -> re.Pattern[str]:
        return _phrases(self.yes | self.no)


@lru_cache(maxsize=256)
def _phrases(words: frozenset[str]) -> re.Pattern[str]:
    phrases = sorted((word for word in words if len(word) > _EXACT), key=len, reverse=True)
    if not phrases:
        return re.compile(r"(?!)")
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, phrases))})(?!\w)")


def _folded(words: str | Iterable[str]) -> frozenset[str]:
    given = (words,) if isinstance(words, str) else words
    return frozenset(folded for word in given if (folded := _fold(word)))


def _fold(text: str) -> str:
    return " ".join(_cleaned(text).casefold().split())


Flag = Annotated[bool, Words(_YES, _NO)]
"""Yes or no as pages say it: "In stock (22 available)", "Sold out", "yes", "✓", "true",
"https://schema.org/InStock". Words that are not known, or that contradict each other, are an error;
`Words` makes a flag of other words."""
