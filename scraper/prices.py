"""Prices: an amount in any locale, and its currency."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BeforeValidator, GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from scraper.measures import mark_of, value_schema
from scraper.numerals import Numeral, numerals, plain

__all__ = ["Amount", "Price"]

_MACHINE = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_DIGITS = re.compile(r"[\d.,']*\d")
_EURO_MARK = re.compile(r"(?<=\d)€(?=\d\d(?!\d))")
_DIGIT_AFTER = re.compile(r"\s+\d")
_DIGIT_BEFORE = re.compile(r"\d\s+\Z")
_RANGE = re.compile(r"\s*[-–—~]\s*")
_BEFORE = re.compile(r"([^\s\d(),;:/|+-]+)[\s.-]?\s?\Z")
_AFTER = re.compile(r"\s?([^\s\d(),;:/|+-]+)")


def _on_page(info: ValidationInfo) -> bool:
    """Whether it is a page's text that is validated, and not what was written as JSON."""
    return info.context is not None and hasattr(info.context, "base_url")


def _amount(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str):
        return value
    if not _on_page(info) and _MACHINE.fullmatch(value):
        return Decimal(value)
    return _priced(value)[0]


def _priced(value: str) -> tuple[Decimal, str | None]:
    """The amount and the currency of a price's text."""
    text = plain(value).strip()
    if text.count("€") == 1:
        text = _EURO_MARK.sub(".", text)
    found = [
        numeral
        for numeral in numerals(text, mark=mark_of(value))
        if not text[numeral.end :].lstrip().startswith("%")
    ]
    if not found:
        raise PydanticCustomError("no_price", "no price in it that is clear")
    chosen = found[0] if len(found) == 1 else _beside_a_currency(text, found)
    if _DIGIT_AFTER.match(text, chosen.end) or _DIGIT_BEFORE.search(text[: chosen.start][-5:]):
        raise PydanticCustomError("unclear_price", "two numbers side by side: re= says which")
    beside = _currency_beside(text, chosen)
    return chosen.value, beside or _currency(_DIGITS.sub(" ", value)[:200])


def _beside_a_currency(text: str, found: Sequence[Numeral]) -> Numeral:
    """The first number with a currency, or the start of its range; without any, the first."""
    for place, numeral in enumerate(found):
        if _currency_beside(text, numeral) is None:
            continue
        if place and _RANGE.fullmatch(text, found[place - 1].end, numeral.start):
            return found[place - 1]
        return numeral
    return found[0]


def _currency_beside(text: str, numeral: Numeral) -> str | None:
    after = _AFTER.match(text, numeral.end)
    before = _BEFORE.search(text[: numeral.start][-20:])
    for match in (after, before):
        if match is not None and (currency := _currency(match[1][:20])):
            return currency
    return None


@lru_cache(maxsize=2048)
def _currency(text: str) -> str | None:
    """The currency's sign or code in *text*, where it is a word by itself."""
    from price_parser import Price as Parsed

    symbol = Parsed.fromstring(None, text).currency
    if symbol is None:
        return None
    start = r"(?<![^\W\d_])" if symbol[0].isalpha() else ""
    end = r"(?![^\W\d_])" if symbol[-1].isalpha() else ""
    return symbol if re.search(f"{start}{re.escape(symbol)}{end}", text) else None


Amount = Annotated[Decimal, BeforeValidator(_amount)]
"""The amount of a price, in any locale: "£51.77", "1.234,56 €", "1 299,00 Kč", "CHF 1'299.–".

A single mark before exactly three digits groups thousands ("1.234 €" is 1234), as prices have two
decimals or none; `DecimalMark` says otherwise. Of several numbers the first beside a currency
counts, of a range its start; percentages do not count. A text without a number ("Free") is an
error. JSON has it as a string, and outside a page a plain "1.234" is read as JSON wrote it.
"""

_CODES: Mapping[str, str] = {
    "€": "EUR", "£": "GBP", "₹": "INR", "₽": "RUB", "руб": "RUB", "руб.": "RUB", "р.": "RUB",
    "₴": "UAH", "грн": "UAH", "грн.": "UAH", "₺": "TRY", "₪": "ILS", "₩": "KRW", "₫": "VND",
    "฿": "THB", "₱": "PHP", "₦": "NGN", "₾": "GEL", "₸": "KZT", "zł": "PLN", "Zł": "PLN",
    "Kč": "CZK", "лв": "BGN", "лв.": "BGN", "Ft": "HUF", "US$": "USD", "CA$": "CAD",
    "C$": "CAD", "A$": "AUD", "AU$": "AUD", "NZ$": "NZD", "HK$": "HKD", "S$": "SGD",
    "R$": "BRL", "MX$": "MXN", "NT$": "TWD", "CN¥": "CNY", "euro": "EUR", "eur": "EUR",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Price:
    """An amount and its currency, from a price's text: see `Amount` for how it is read.

    `currency` is the sign or code that the page has ("£", "EUR", "Kč"), None without one; `code`
    its ISO 4217 code where that is certain: "$" and "kr" are many. Takes an offer of JSON-LD too
    (`price`, `priceCurrency`). JSON: `{"amount": "51.77", "currency": "£"}`.
    """

    amount: Decimal
    currency: str | None = None

    @property
    def code(self) -> str | None:
        """The currency by ISO 4217, where it is certain."""
        currency = self.currency or ""
        is_code = len(currency) == 3 and currency.isascii() and currency.isupper()
        return currency if is_code else _CODES.get(currency)

    def __str__(self) -> str:
        return f"{self.amount} {self.currency or ''}".rstrip()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_before_validator_function(
            _price,
            value_schema(
                cls,
                amount=core_schema.decimal_schema(),
                currency=core_schema.with_default_schema(
                    core_schema.nullable_schema(core_schema.str_schema()), default=None
                ),
            ),
        )


def _price(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return {"amount": value}
    if isinstance(value, str):
        if not _on_page(info) and _MACHINE.fullmatch(value):
            return {"amount": value}
        amount, currency = _priced(value)
        return {"amount": amount, "currency": currency}
    if isinstance(value, Mapping) and "price" in value and "amount" not in value:
        return _offered(value)
    return value


def _offered(offer: Mapping[str, Any]) -> dict[str, Any]:
    """Of an offer (https://schema.org/Offer), whose price has a dot, if any mark."""
    price, currency = offer["price"], offer.get("priceCurrency")
    if isinstance(price, str) and not _MACHINE.fullmatch(price.strip()):
        amount, beside = _priced(price)
        return {"amount": amount, "currency": currency or beside}
    return {"amount": price, "currency": currency}
