"""Price text into amounts: "£51.77", "1.299,00 €", "CHF 5.–", "JPY 1,200"."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from scraper import Page, Pipeline

__all__ = ["NormalisePrices", "Price", "read_price"]

log = logging.getLogger(__name__)

Separator = Literal["auto", ".", ","]

# Longest first, as "US$" contains "$". What means several currencies ("kr") is not guessed.
SYMBOLS = {
    "US$": "USD", "CA$": "CAD", "AU$": "AUD", "NZ$": "NZD", "HK$": "HKD", "C$": "CAD",
    "A$": "AUD", "R$": "BRL", "zł": "PLN", "Kč": "CZK", "£": "GBP", "€": "EUR", "$": "USD",
    "¥": "JPY", "₹": "INR", "₩": "KRW", "₽": "RUB", "₺": "TRY", "₴": "UAH", "₪": "ILS",
    "₫": "VND", "฿": "THB",
}  # fmt: skip
CODES = frozenset((
    "AED", "ARS", "AUD", "BGN", "BRL", "CAD", "CHF", "CLP", "CNY", "COP", "CZK", "DKK", "EGP",
    "EUR", "GBP", "HKD", "HUF", "IDR", "ILS", "INR", "ISK", "JPY", "KRW", "MAD", "MXN", "MYR",
    "NGN", "NOK", "NZD", "PEN", "PHP", "PKR", "PLN", "RON", "RSD", "RUB", "SAR", "SEK", "SGD",
    "THB", "TRY", "TWD", "UAH", "USD", "VND", "ZAR",
))  # fmt: skip

NUMBER = r"[0-9](?:[0-9.,'’ ]*[0-9])?"
CURRENCY = "(?:{}|(?<![A-Za-z])(?:{})(?![A-Za-z]))".format(
    "|".join(map(re.escape, SYMBOLS)), "|".join(sorted(CODES))
)
LONGEST = 200  # characters of a text that are looked at: a price is short, and a search is not
BEFORE = re.compile(rf"(?P<currency>{CURRENCY}) ?(?P<number>{NUMBER})")
AFTER = re.compile(rf"(?P<number>{NUMBER})(?:[.,][-–—])? ?(?P<currency>{CURRENCY})")
ALONE = re.compile(rf"(?P<currency>)(?P<number>{NUMBER})")
GROUPED = re.compile(
    r"[0-9]{1,3}(?:([.,'])[0-9]{3})(?:\1[0-9]{3})*|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}"
)
"""Thousands, 1,299,000; or lakhs and crores, 1,12,99,000."""


class Price(NamedTuple):
    """An amount and its ISO 4217 code; the code is "" when the text names no currency."""

    amount: Decimal
    currency: str


def read_price(text: str, separator: Separator = "auto") -> Price | None:
    """The first price in *text*; None when there is none, or none that can be read safely.

    A number beside its currency comes before any other number ("3 for £5" is 5 pounds).
    `separator` is what stands before the cents. "auto" takes the last of two kinds of separator;
    a single one before exactly three digits groups thousands ("1,299" and "1.299" are 1299),
    unless a lone zero precedes it. A negative number is not a price.
    """
    plain = " ".join(text[:LONGEST].split())  # all kinds of space, the narrow ones too
    beside = [match for pattern in (BEFORE, AFTER) if (match := pattern.search(plain))]
    found = min(beside, key=re.Match.start, default=None) or ALONE.search(plain)
    if found is None or _negative(plain, found):
        return None
    amount = _amount(found["number"].replace("’", "'").replace(" ", "'"), separator)
    currency = SYMBOLS.get(found["currency"], found["currency"])
    return None if amount is None else Price(amount, currency)


def _negative(text: str, found: re.Match[str]) -> bool:
    return text[: found.start()].rstrip().endswith(("-", "−"))


def _amount(number: str, separator: Separator) -> Decimal | None:
    point = _point(number) if separator == "auto" else separator
    whole, _, cents = number.partition(point) if point else (number, "", "")
    if cents and not cents.isdigit():
        return None
    if not whole.isdigit() and not GROUPED.fullmatch(whole):
        return None
    units = "".join(filter(str.isdigit, whole))
    return Decimal(f"{units}.{cents}" if cents else units)


def _point(number: str) -> str:
    """The separator before the cents, "" when there are no cents."""
    marks = [mark for mark in number if mark in ".,"]
    if not marks or (len(marks) > 1 and len(set(marks)) == 1):
        return ""
    whole, _, cents = number.rpartition(marks[-1])
    if len(marks) == 1 and len(cents) == 3 and whole != "0" and "'" not in whole:
        return ""
    return marks[-1]


class NormalisePrices(Pipeline):
    """Reads a field's price text and fills the fields for its amount and currency.

    `source`, `amount`, `currency`: names of the item's fields; an empty `currency` stores none.
    `separator`: what stands before the cents, where the site is known to be consistent.
    `default_currency`: the code when the text names none. Text without a readable price leaves
    both fields as they were; `pipelines.quality:Complete` is the stage that insists. Items
    without the source field pass unchanged.
    """

    def __init__(
        self,
        source: str = "price_text",
        amount: str = "price",
        currency: str = "currency",
        separator: Separator = "auto",
        default_currency: str = "",
    ) -> None:
        if default_currency and default_currency not in CODES:
            raise ValueError(
                f"default_currency = {default_currency!r} is not a known ISO 4217 code"
            )
        self._source = source
        self._amount = amount
        self._currency = currency
        self._separator: Separator = separator
        self._default = default_currency
        self._read = 0
        self._unread = 0

    async def process(self, item: Any, page: Page) -> Any:
        text = _get(item, self._source)
        if not isinstance(text, str):
            return item
        price = read_price(text, self._separator)
        if price is None:
            self._unread += 1
            return item
        self._read += 1
        values: dict[str, Any] = {self._amount: price.amount}
        if self._currency:
            values[self._currency] = price.currency or self._default
        return _with(item, values)

    async def aclose(self) -> None:
        if self._unread:
            log.warning(
                "%d of %d prices could not be read", self._unread, self._unread + self._read
            )


def _get(item: Any, name: str) -> Any:
    return item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)


def _with(item: Any, values: Mapping[str, Any]) -> Any:
    """A copy of *item* with *values*. A model gets only fields that it declares."""
    if isinstance(item, Mapping):
        return {**item, **values}
    if not isinstance(item, BaseModel):
        raise TypeError(f"prices can be stored in models and dicts, not in {type(item).__name__}")
    model = type(item)
    if unknown := values.keys() - model.model_fields.keys():
        raise ValueError(
            f"{model.__name__} has no field {', '.join(sorted(unknown))}: declare it, or name "
            "another one in the stage's amount and currency"
        )
    return item.model_copy(update=dict(values))
