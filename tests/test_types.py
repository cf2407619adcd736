"""Conversion types: tables of what pages say, and that what was read stays what it is."""

# ruff: noqa: DTZ001 - pages rarely name a time zone

from __future__ import annotations

import datetime as dt
import sys
from decimal import Decimal
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError

from scraper import Css, Item, Json
from scraper.errors import UsageError
from scraper.items import Invalid, encode, extract
from scraper.numerals import numerals, plain
from scraper.select import Document
from scraper.types import (
    Amount,
    Date,
    DateFormat,
    DateHints,
    DateTime,
    DecimalMark,
    Flag,
    Integer,
    Link,
    Number,
    Price,
    Quantity,
    Text,
    Words,
)


class Page:
    base_url = "https://shop.example/a/"


ERROR = object()


def read(kind: Any, value: Any, context: Any = Page) -> Any:
    """*value* as it is read on a page; ERROR for what is refused."""
    try:
        return TypeAdapter(kind).validate_python(value, context=context)
    except ValidationError:
        return ERROR


# Money

PRICES: list[tuple[str, str | None, str | None]] = [
    ("£51.77", "51.77", "£"),
    ("1.234,56 €", "1234.56", "€"),
    ("1 299,00 Kč", "1299.00", "Kč"),
    ("1\u00a0299,00\u00a0Kč", "1299.00", "Kč"),
    ("1\u202f299,00 €", "1299.00", "€"),
    ("CHF 1'299.–", "1299", "CHF"),
    ("CHF 1’299.50", "1299.50", "CHF"),
    ("$1,234,567.89", "1234567.89", "$"),
    ("₹1,23,456.00", "123456.00", "₹"),
    ("₹10,00,000", "1000000", "₹"),
    ("1.234 €", "1234", "€"),
    ("1,234", "1234", None),
    ("12,34", "12.34", None),
    ("0.125 €", "0.125", "€"),
    ("1234.567 USD", "1234.567", "USD"),
    ("35€99", "35.99", "€"),
    ("99 €", "99", "€"),
    ("€99", "99", "€"),
    ("-5,00 €", "-5.00", "€"),
    ("−£5.00", "-5.00", "£"),
    ("£-5.00", "-5.00", "£"),
    ("- £5", "-5", "£"),
    ("10–20 €", "10", "€"),
    ("$10 - $20", "10", "$"),
    ("2 for £5", "5", "£"),
    ("3 x 9,99 €", "9.99", "€"),
    ("iPhone 13 - $799", "799", "$"),
    ("Save 20%: $8", "8", "$"),
    ("Was £50.00 now £30.00", "50.00", "£"),
    ("US$ 12.50", "12.50", "US$"),
    ("A$5", "5", "A$"),
    ("12.50 USD (€11.20)", "12.50", "USD"),
    ("EUR50", "50", "EUR"),
    ("Rs.500", "500", "Rs"),
    ("1.299,- €", "1299", "€"),
    ("99,-", "99", None),
    ("149:-", "149", None),
    ("1.000.000 Ft", "1000000", "Ft"),
    ("12 990 Ft", "12990", "Ft"),
    ("149 kr", "149", "kr"),
    ("kr 149,90", "149.90", "kr"),
    ("12,50 zł/kg", "12.50", "zł"),
    ("zł 12,50", "12.50", "zł"),
    ("ab 12,99 €*", "12.99", "€"),
    ("€1.2M", "1200000", "€"),
    ("$350k", "350000", "$"),
    ("١٢٣", "123", None),
    ("R$ 1.234,56", "1234.56", "R$"),
    ("¥12,800", "12800", "¥"),
    ("1 234,56 ₽", "1234.56", "₽"),
    ("2 999 руб.", "2999", "руб."),
    ("15 грн", "15", "грн"),
    ("$ .75", "0.75", "$"),
    ("from 5 €", "5", "€"),
    ("USD 1234", "1234", "USD"),
    ("Price: 12", "12", None),
    ("5 each", "5", None),
    ("Level 5.00", "5.00", None),
    ("£1,000.00 GBP", "1000.00", "GBP"),
    ("€ 9,99 / 100 g", "9.99", "€"),
    ("10.50 €/kg", "10.50", "€"),
    ("AED 1,200.00", "1200.00", "AED"),
    ("Free", None, None),
    ("", None, None),
    ("50% off", None, None),
    ("1.2.3", None, None),
    ("1½ €", None, None),
    ("$12 99", None, None),
    ("12 99 $", None, None),
    ("Pack of 3 12.99", None, None),
    ("call us", None, None),
]


@pytest.mark.parametrize(("text", "amount", "currency"), PRICES)
def test_prices(text: str, amount: str | None, currency: str | None) -> None:
    if amount is None:
        assert read(Amount, text) is ERROR
        assert read(Price, text) is ERROR
    else:
        assert str(read(Amount, text)) == amount
        assert read(Price, text) == Price(Decimal(amount), currency)


def test_outside_a_page_a_plain_number_is_what_json_wrote() -> None:
    assert read(Amount, "1.234") == Decimal(1234)
    assert read(Amount, "1.234", None) == Decimal("1.234")
    assert read(Price, "1.234", None) == Price(Decimal("1.234"))
    assert read(Amount, "1.234 €", None) == Decimal(1234)
    assert read(Amount, 5) == Decimal(5)
    assert read(Price, 1.5) == Price(Decimal("1.5"))
    assert read(Price, True) is ERROR


def test_the_decimal_mark_may_be_said() -> None:
    assert read(Annotated[Amount, DecimalMark(".")], "1.234 €") == Decimal("1.234")
    assert read(Annotated[Price, DecimalMark(",")], "1,234 €") == Price(Decimal("1.234"), "€")
    assert read(Annotated[Number, DecimalMark(",")], "1.234") == 1234
    assert read(Annotated[Number, DecimalMark(",")], "1,234") == 1.234
    assert read(Annotated[Quantity, DecimalMark(",")], "1.500 g") == Quantity(1500, "g")
    assert read(Annotated[Number, DecimalMark(",")], 1.5) == 1.5
    with pytest.raises(UsageError):
        DecimalMark(";")  # type: ignore[arg-type]


def test_offers_of_json_ld_are_prices() -> None:
    offer = {"@type": "Offer", "price": "1.234", "priceCurrency": "EUR"}
    assert read(Price, offer) == Price(Decimal("1.234"), "EUR")
    assert read(Price, {"price": 3}) == Price(Decimal(3))
    assert read(Price, {"price": "3,50 €"}) == Price(Decimal("3.50"), "€")
    assert read(Price, {"price": None}) is ERROR


def test_currency_codes_where_they_are_certain() -> None:
    codes = {"€": "EUR", "USD": "USD", "Kč": "CZK", "$": None, "kr": None, None: None}
    assert {c: Price(Decimal(1), c).code for c in codes} == codes
    assert str(Price(Decimal("1.50"), "€")) == "1.50 €"
    assert str(Price(Decimal("1.50"))) == "1.50"


def test_bounds_apply_to_amounts() -> None:
    positive = Annotated[Amount, Field(gt=0)]
    assert read(positive, "5 €") == 5
    assert read(positive, "-5 €") is ERROR


# Numbers


@pytest.mark.parametrize(
    ("text", "number", "integer"),
    [
        ("1,234 reviews", 1234.0, 1234),
        ("4.5 out of 5", 4.5, ERROR),
        ("12 345", 12345.0, 12345),
        ("٣٤", 34.0, 34),
        ("1.2k", 1200.0, 1200),
        ("3M views", 3e6, 3000000),
        ("2bn", 2e9, 2000000000),
        ("A4", 4.0, 4),
        ("A4 paper, 500 sheets", 500.0, 500),
        ("−3 °C", -3.0, -3),
        ("10-20", 10.0, 10),
        ("1.234", 1.234, 1234),
        ("1.234.567", 1234567.0, 1234567),
        ("0,125", 0.125, ERROR),
        ("50%", 50.0, 50),
        ("(1,234)", 1234.0, 1234),
        ("1e5", 1e5, 100000),
        ("6.02e23", 6.02e23, 602 * 10**21),
        (" 7 ", 7.0, 7),
        (7, 7.0, 7),
        ("v1.2.3", ERROR, ERROR),
        ("12.03.2024", ERROR, ERROR),
        ("192.168.1.1", ERROR, ERROR),
        ("5'10\"", ERROR, ERROR),
        ("1,23,4", ERROR, ERROR),
        ("½", ERROR, ERROR),
        ("none", ERROR, ERROR),
        ("", ERROR, ERROR),
        ("nan", ERROR, ERROR),
        ("9" * 400, ERROR, int("9" * 400)),
    ],
)
def test_numbers(text: Any, number: Any, integer: Any) -> None:
    assert read(Number, text) == number
    assert read(Integer, text) == integer


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.5 kg", Quantity(1.5, "kg")),
        ("16 GB RAM", Quantity(16, "GB")),
        ("16 M", Quantity(16, "M")),
        ("5k", Quantity(5, "k")),
        ("180 × 60 cm", Quantity(180, "cm")),
        ("20x30x40 mm", Quantity(20, "mm")),
        ("2 x 500 ml", ERROR),
        ("20 °C", Quantity(20, "°C")),
        ('5"', Quantity(5, '"')),
        ("30%", Quantity(30, "%")),
        ("5 m²", Quantity(5, "m²")),
        ("100 km/h", Quantity(100, "km/h")),
        ("5 μm", Quantity(5, "μm")),
        ("10", Quantity(10)),
        (3, Quantity(3)),
        ("heavy", ERROR),
    ],
)
def test_quantities(text: Any, value: Any) -> None:
    assert read(Quantity, text) == value
    if value is not ERROR:
        assert read(Quantity, str(value)) == value


GROUPS = st.sampled_from([
    (",", "."),
    (".", ","),
    (" ", ","),
    ("'", "."),
    ("\u00a0", ","),
    ("", "."),
])


@given(st.decimals(0, 10**12, places=2), GROUPS)
def test_what_was_formatted_is_read_back(value: Decimal, marks: tuple[str, str]) -> None:
    grouping, decimal = marks
    text = f"{value:,.2f}".translate({ord(","): grouping, ord("."): decimal})
    assert read(Amount, f"{text} €") == value
    assert read(Number, text) == float(value)


@given(st.integers(0, 10**15), st.sampled_from([",", ".", " ", "'", "٬"]))
def test_whole_numbers_are_read_back(value: int, grouping: str) -> None:
    assert read(Integer, f"{value:,}".replace(",", grouping)) == value


@given(st.text("0123456789.,' -e€k½\u00a0٬x", max_size=60) | st.text(max_size=60))
def test_any_text_is_a_number_or_an_error(text: str) -> None:
    for kind in (Number, Integer, Amount, Price, Quantity):
        assert read(kind, text) is not None
    for numeral in numerals(plain(text)):
        assert numeral.value.is_finite()
        assert numeral.start < numeral.end <= len(text)


def test_work_on_long_texts_is_bounded() -> None:
    assert read(Number, "1 " + "-1 " * 500_000) == 1
    assert read(Amount, "x" * 5_000 + "1 €") is ERROR


# Yes and no


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("In stock (22 available)", True),
        ("In Stock.", True),
        ("yes", True),
        ("TRUE", True),
        ("✓", True),
        ("1", True),
        ("https://schema.org/InStock", True),
        ("http://schema.org/OutOfStock", False),
        ("OutOfStock", False),
        ("Sold out", False),
        ("Sold\u00a0out!", False),
        ("No", False),
        ("✗", False),
        ("Out of stock", False),
        ("Currently unavailable.", False),
        ("Not currently available", False),
        ("not in stock", False),
        (True, True),
        (0, False),
        ("Only 3 left", ERROR),
        ("No. 5", ERROR),
        ("true colours", ERROR),
        ("not yet in stock", ERROR),
        ("isn't available", ERROR),
        ("available, but sold out online", ERROR),
        ("", ERROR),
        ("https://schema.org/PreOrder", ERROR),
    ],
)
def test_flags(text: Any, value: Any) -> None:
    assert read(Flag, text) is value


def test_flags_in_other_words() -> None:
    german = Annotated[bool, Words(yes=["auf Lager", "ja"], no="ausverkauft")]
    assert read(german, "Noch 3 auf  Lager!") is True
    assert read(german, "leider AUSVERKAUFT") is False
    assert read(german, "jawohl") is ERROR
    assert read(german, "nicht auf Lager") is ERROR
    assert read(german, "yes") is ERROR
    assert read(Annotated[bool, Words("ja", "ne")], "ne") is False
    for yes, no in (("", "no"), ("x", ()), ("same", "SAME")):
        with pytest.raises(UsageError):
            Words(yes, no)


# Text and links


def test_text_is_what_one_sees() -> None:
    messy = " a\u00a0\u200b b\u00adc\x00 \u202etest\u202c\ufeff e\u0301\n\ud800 "
    assert read(Text, messy) == "a bc test é \ufffd"
    assert read(Text, "می\u200cخواهم 👩\u200d💻") == "می\u200cخواهم 👩\u200d💻"
    assert read(Annotated[Text, Field(min_length=1)], "\u200b ") is ERROR


@given(st.text())
def test_clean_text_stays_as_it_is(text: str) -> None:
    cleaned = read(Text, text)
    assert read(Text, cleaned) == cleaned


@pytest.mark.parametrize(
    ("text", "context", "value"),
    [
        ("../x y?q#f", Page, "https://shop.example/x%20y?q#f"),
        ("//other.example", Page, "https://other.example/"),
        ("HTTP://A.example/b ", None, "http://a.example/b"),
        ("x", {"base_url": "http://b.example/c/d"}, "http://b.example/c/x"),
        ("x", None, ERROR),
        ("x", {}, ERROR),
        ("mailto:a@b", Page, ERROR),
        ("javascript:x()", Page, ERROR),
        ("http://[", Page, ERROR),
        (3, Page, ERROR),
    ],
)
def test_links(text: Any, context: Any, value: Any) -> None:
    assert read(Link, text, context) == value


# Dates

UTC = dt.UTC


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-02-29", dt.datetime(2024, 2, 29)),
        ("20240229", dt.datetime(2024, 2, 29)),
        ("2024-02-29T10:00:00Z", dt.datetime(2024, 2, 29, 10, tzinfo=UTC)),
        (" 2024-02-29\n10:00 ", dt.datetime(2024, 2, 29, 10)),
        ("Thu, 29 Feb 2024 10:00:00 GMT", dt.datetime(2024, 2, 29, 10, tzinfo=UTC)),
        ("29 Feb 2024 10:00 +0000", dt.datetime(2024, 2, 29, 10, tzinfo=UTC)),
        ("1700000000", dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("1700000000000", dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (dt.datetime(2024, 2, 29, 1), dt.datetime(2024, 2, 29, 1)),
        ("12", ERROR),
        ("12345678", ERROR),
        ("", ERROR),
        ("x" * 1000, ERROR),
    ],
)  # fmt: skip
def test_dates_by_the_standards_need_nothing(
    text: Any, moment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dateparser", None)
    assert read(DateTime, text) == moment
    assert read(Date, text) == (moment if moment is ERROR else moment.date())


def test_a_missing_dateparser_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dateparser", None)
    with pytest.raises(ValidationError, match=r"pip install 'scraper-framework\[dates\]'"):
        TypeAdapter(Date).validate_python("3 March 2024")


def test_dates_in_words() -> None:
    pytest.importorskip("dateparser")
    assert read(Date, "3 March 2024") == dt.date(2024, 3, 3)
    assert read(Date, "13.02.2024") == dt.date(2024, 2, 13)
    assert read(DateTime, "3. März 2024, 14:30 Uhr") == dt.datetime(2024, 3, 3, 14, 30)
    for vague in ("March 2024", "2024", "May", "12:30", "nonsense"):
        assert read(Date, vague) is ERROR


def test_hints_make_dates_certain() -> None:
    pytest.importorskip("dateparser")
    base = dt.datetime(2020, 1, 10)
    hint = DateHints(languages=["de"], base=base)
    assert read(Annotated[Date, hint], "vor 3 Tagen") == dt.date(2020, 1, 7)
    assert read(Annotated[DateTime, hint], "12. Mai") == dt.datetime(2020, 5, 12)
    assert read(Annotated[Date, DateHints(order="DMY")], "03/04/2024") == dt.date(2024, 4, 3)
    assert read(Annotated[Date, DateHints(order="MDY")], "03/04/2024") == dt.date(2024, 3, 4)
    assert read(Annotated[Date, hint], "2024-01-02") == dt.date(2024, 1, 2)
    assert read(Annotated[Date, hint] | None, "vor 3 Tagen") == dt.date(2020, 1, 7)
    with pytest.raises(UsageError, match="xx"):
        read(Annotated[Date, DateHints(languages=["xx"])], "gestern")


def test_a_format_says_what_is_meant() -> None:
    form = DateFormat("%d.%m.%Y", "%d.%m.%y %H:%M")
    assert read(Annotated[Date, form], "03.04.2024 ") == dt.date(2024, 4, 3)
    assert read(Annotated[DateTime, form], "03.04.24 10:30") == dt.datetime(2024, 4, 3, 10, 30)
    assert read(Annotated[dt.date, form], "03.04.2024") == dt.date(2024, 4, 3)
    assert read(Annotated[Date, form], "2024-04-03") == dt.date(2024, 4, 3)
    for wrong in ((), ("dd.mm",)):
        with pytest.raises(UsageError):
            DateFormat(*wrong)
    assert repr(form) == "DateFormat('%d.%m.%Y', '%d.%m.%y %H:%M')"


# On a page, and back


class Product(Item):
    price: Annotated[Price, Css(".price")]
    amount: Annotated[Amount, Css(".amount")]
    offer: Annotated[Price | None, Json("offers", type="Product")]
    rating: Annotated[Number, Css(".rating")]
    count: Annotated[Integer, Css(".rating", re=r"\((.*)\)")]
    weight: Annotated[Quantity, Css(".weight")]
    added: Annotated[Date, Css("time::attr(datetime)")]
    at: Annotated[DateTime, Css("time::attr(datetime)")]
    stock: Annotated[Flag, Css(".stock")]
    name: Annotated[Text, Css("h1")]
    link: Annotated[Link, Css("a::attr(href)")]
    prices: Annotated[list[Price], Css(".prices li")]


PAGE = Document.of("""<h1>La\u00admp</h1><p class=price>1.234,50 €<p class=amount>1.234
<p class=rating>4,5 (1,234)<p class=weight>1.5 kg<time datetime=2024-02-29T10:00:00Z></time>
<p class=stock>In stock</p><a href=../x>x</a><ul class=prices><li>$1<li>$2</ul>
<script type="application/ld+json">{"@type": "Product", "offers": [{"price": 9.5}]}</script>""")


def test_on_a_page() -> None:
    product = extract(Product, PAGE, "https://h.example/a/b")
    assert not isinstance(product, Invalid), product
    assert product == Product(
        price=Price(Decimal("1234.50"), "€"),
        amount=Decimal(1234),
        offer=Price(Decimal("9.5")),
        rating=4.5,
        count=1234,
        weight=Quantity(1.5, "kg"),
        added=dt.date(2024, 2, 29),
        at=dt.datetime(2024, 2, 29, 10, tzinfo=UTC),
        stock=True,
        name="Lamp",
        link="https://h.example/x",
        prices=[Price(Decimal(1), "$"), Price(Decimal(2), "$")],
    )
    assert Product.model_validate_json(encode(product)) == product
    assert Product.model_validate(product.model_dump()) == product
    assert encode(product).startswith(
        b'{"price":{"amount":"1234.50","currency":"\xe2\x82\xac"},"amount":"1234"'
    )


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9
    ),
    st.sampled_from([None, "€", "USD"]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.dates(),
    st.datetimes(timezones=st.sampled_from([None, UTC])),
)
def test_values_survive_json(
    amount: Decimal, currency: str | None, number: float, day: dt.date, moment: dt.datetime
) -> None:
    for kind, value in (
        (Amount, amount),
        (Price, Price(amount, currency)),
        (Number, number),
        (Quantity, Quantity(number, "kg")),
        (Date, day),
        (DateTime, moment),
    ):
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        assert adapter.validate_json(adapter.dump_json(value)) == value
        assert adapter.validate_python(value) == value
        assert adapter.validate_python(adapter.dump_python(value)) == value
