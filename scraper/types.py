"""Conversion types: what pages say, as the values that are meant.

::

    from scraper.types import Date, Flag, Price, Quantity

    class Product(Item):
        price: Annotated[Price, Css(".price")]            # "1.234,56 €"
        weight: Annotated[Quantity | None, Css(".weight")]   # "1.5 kg"
        listed: Annotated[Date, Css("time::attr(datetime)", "time")]
        in_stock: Annotated[Flag, Css(".availability")]   # "Only 3 left in stock"

To a type checker `Amount` is a `Decimal`, `Number` a float, `Integer` an int, `Date` and
`DateTime` those of `datetime`, `Flag` a bool, `Text` and `Link` are strings. All take converted
values as well as text, and read back what they wrote as JSON. What cannot be read is a validation
error, never None. Where text has two readings, the rule that decides stands with the type (of a
range its start, of `1.234` what `Amount` or `Number` says, of `01/02/2023` the month first), and
`DecimalMark`, `DateFormat`, `DateHints` and `Words` on the field say otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from scraper import urls
from scraper.dates import Date, DateFormat, DateHints, DateTime
from scraper.measures import DecimalMark, Integer, Number, Quantity
from scraper.prices import Amount, Price
from scraper.words import Flag, Text, Words

__all__ = [
    "Amount",
    "Date",
    "DateFormat",
    "DateHints",
    "DateTime",
    "DecimalMark",
    "Flag",
    "Integer",
    "Link",
    "Number",
    "Price",
    "Quantity",
    "Text",
    "Words",
]


def _link(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str):
        return value
    context = info.context
    base = context.get("base_url") if isinstance(context, Mapping) else None
    if base is None and context is not None:
        base = getattr(context, "base_url", None)
    href = urls.parse(value.strip(), base or None)
    if href is None or not urls.is_web(href):
        raise PydanticCustomError(
            "no_link", "no http(s) URL" if base else "no absolute http(s) URL"
        )
    return href


Link = Annotated[str, BeforeValidator(_link)]
"""An absolute http(s) URL in WHATWG form, resolved against the page's base. Outside a page it must
be absolute already, or be validated with `context={"base_url": …}`."""
