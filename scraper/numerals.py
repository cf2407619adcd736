"""Numbers as people write them: `1,234.5`, `1.234,5`, `1 234,5`, `1'234.50`, `1,23,456`, `1.2k`.

What a separator means is decided by the number alone. One that occurs twice groups thousands; of
two kinds the last is the decimal mark; spaces, apostrophes and `٬` always group, `٫` never does. A
single dot or comma with exactly three digits behind it can be either, and the caller says which.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Literal, NamedTuple

__all__ = ["LONGEST", "Mark", "Numeral", "numerals", "plain"]

LONGEST = 2_000
"""Characters of a text in which a number is looked for."""

Mark = Literal[".", ","]

_SPACES = dict.fromkeys("\u00a0\u2002\u2003\u2007\u2008\u2009\u200a\u202f\u3000\t\n\r\f\v", " ")
_SIGNS = {
    **dict.fromkeys("’ʼ′＇`´", "'"),
    **dict.fromkeys("\u2212\uff0d\ufe63", "-"),
    "\uff0c": ",",
    "\uff0e": ".",
}
_PLAIN = str.maketrans({**_SPACES, **_SIGNS})

_TOKEN = re.compile(r"(?:(?<![\w.,])[.,])?\d+(?:[.,'٬٫]\d+| \d{3}(?!\d))*")
_SEPARATOR = re.compile(r"[.,'٬٫ ]")
_NEGATIVE = re.compile(r"[\s(\[:$€£¥₹]-(?:[^\w\s.,-]\s?)?\Z")
_NEGATIVE_START = re.compile(r"\s*-\s?(?:[^\w\s.,-]\s?)?\Z")
_EXPONENT = re.compile(r"[eE]([+-]?\d{1,3})(?![\w.,])")
_MULTIPLIER = re.compile(r"(k|K|M|B|bn)(?![^\W_])")
_FACTORS = {"k": 3, "K": 3, "M": 6, "B": 9, "bn": 9}
_FRACTIONS = "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞⁄"


class Numeral(NamedTuple):
    """One number in a text: its value, and where it stands."""

    value: Decimal
    start: int
    end: int


def plain(text: str) -> str:
    """*text*, up to a length, with ASCII for all kinds of spaces, apostrophes and minus signs."""
    return text[:LONGEST].translate(_PLAIN)


def numerals(text: str, *, mark: Mark | None = None, unclear: str = "") -> Iterator[Numeral]:
    """The numbers in a `plain` *text*, in order; what is no number one can be sure of is left out.

    *mark*: the decimal mark, where it is known. *unclear*: the marks that are taken for decimal
    when three digits follow and nothing else tells; the others group thousands.
    """
    for match in _TOKEN.finditer(text):
        end = match.end()
        factor = _MULTIPLIER.match(text, end)
        exponent = _EXPONENT.match(text, end)
        if text[end : end + 1] and text[end] in _FRACTIONS:
            continue
        value = _value(match[0], mark, ".," if factor or exponent else unclear)
        if value is None:
            continue
        if factor or exponent:
            power = _FACTORS[factor[1]] if factor else int(exponent[1]) if exponent else 0
            value = Decimal(format(value.scaleb(power), "f"))
            end = (factor or exponent or match).end()
        yield Numeral(-value if _negative(text, match.start()) else value, match.start(), end)


def _negative(text: str, start: int) -> bool:
    """Whether a minus sign, and no dash between words or numbers, stands before *start*."""
    before = text[max(0, start - 5) : start]
    if "-" not in before:
        return False
    if _NEGATIVE.search(before):
        return True
    return start <= 5 and _NEGATIVE_START.fullmatch(before) is not None


def _value(token: str, mark: Mark | None, unclear: str) -> Decimal | None:
    separators = _SEPARATOR.findall(token)
    if not separators:
        return Decimal(token)
    parts = _SEPARATOR.split(token)
    if _last_is_decimal(parts, separators, mark, unclear):
        *parts, fraction = parts
        *separators, _ = separators
    else:
        fraction = ""
    if separators and not _grouped(parts, separators):
        return None
    return Decimal("".join(parts) + (f".{fraction}" if fraction else ""))


def _last_is_decimal(
    parts: list[str], separators: list[str], mark: Mark | None, unclear: str
) -> bool:
    last = separators[-1]
    if last in "' ٬":
        return False
    if mark is not None:
        return last in (mark, "٫")
    if last == "٫":
        return True
    if len(separators) > 1:
        return last not in separators[:-1]
    before, after = parts
    if len(after) != 3 or len(before) not in (1, 2, 3) or before.startswith("0"):
        return True
    return last in unclear


def _grouped(parts: list[str], separators: list[str]) -> bool:
    """Whether *parts* are groups of thousands, or of lakhs and crores."""
    first, *inner, last = parts
    if len(set(separators)) > 1 or not first or first.startswith("0") or len(last) != 3:
        return False
    if len(first) <= 3 and all(len(part) == 3 for part in inner):
        return True
    lakhs = len(first) <= 2 and all(len(part) == 2 for part in inner)
    return separators[0] == "," and bool(inner) and lakhs
